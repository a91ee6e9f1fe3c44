//! One entry of `schema.fields`: its type with what belongs to it, its cleaning steps, its constraints.

use toml::Spanned;
use toml::de::DeValue;

use super::problem::Collector;
use super::section::{At, Section};
use super::{Clean, Constraints, Field, Kind, StringFormat, compile, keys, pattern, zone};
use crate::types::ColumnType;

/// PostgreSQL cuts longer names; two columns could then become one.
pub(super) const NAME_BYTES: usize = 63;

/// Columns PostgreSQL keeps for itself in every table.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// What a misspelt `sqlType` most likely meant.
const SQL_TYPES: [&str; 19] = [
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "real",
    "double precision",
    "boolean",
    "text",
    "varchar",
    "char",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "json",
    "jsonb",
    "uuid",
    "bytea",
    "decimal",
];

/// The field of one section; `None` when it is too wrong to go on with. What is wrong was reported.
pub(super) fn field(problems: &mut Collector<'_>, section: &Section<'_>) -> Option<Field> {
    let before = problems.count();
    let constraints = section.section("constraints");
    let kind = kind(problems, section);
    if let Some(kind) = &kind {
        misplaced_keys(problems, section, kind);
        misplaced_keys(problems, &constraints, kind);
    }
    let clean = clean(problems, section);
    let name = section.text("name");
    if let Some(name) = &name {
        check_name(problems, name, "field name");
    }
    let from = section.text("from");
    let (name, kind) = (name?, kind?);
    let sql_type = sql_type(problems, section, &kind);
    let field = Field {
        name: name.value,
        from: from.map(|from| from.value),
        sql_type,
        constraints: self::constraints(problems, &constraints, &kind),
        clean,
        default: section.written("default").map(|value| scalar(problems, value, &kind)),
        kind,
    };
    if problems.count() == before {
        compile::check(problems, section, &field);
    }
    Some(field)
}

/// A name PostgreSQL and SQLite hold as it is.
pub(super) fn check_name(problems: &mut Collector<'_>, name: &At<String>, what: &str) {
    let At { value, span } = name;
    if value.is_empty() {
        problems.push(span.clone(), format!("the {what} is empty"));
    } else if value.len() > NAME_BYTES {
        let message = format!("the {what} is {} bytes long, PostgreSQL holds {NAME_BYTES}", value.len());
        problems.push(span.clone(), message);
    } else if value.contains(char::is_control) {
        problems.push(span.clone(), format!("the {what} holds a control character"));
    } else if SYSTEM_COLUMNS.contains(&&**value) && what == "field name" {
        let message = format!("{value:?} is a system column of every PostgreSQL table");
        problems.push_hint(span.clone(), message, "choose another name and put the label of the file in `from`");
    }
}

/// Keys that are known but mean nothing for this type: most likely the type is wrong.
fn misplaced_keys(problems: &mut Collector<'_>, section: &Section<'_>, kind: &Kind) {
    for (name, span) in section.names() {
        let Some(key) = keys::key_in(section.path(), name) else { continue };
        if !key.of.is_empty() && !key.of.contains(&kind.as_str()) {
            let message = format!("{name:?} does not apply to type {:?}", kind.as_str());
            problems.push_hint(span, message, format!("it is for {}", key.of.join(", ")));
        }
    }
}

fn kind(problems: &mut Collector<'_>, section: &Section<'_>) -> Option<Kind> {
    let written = section.text("type")?.value;
    Some(match &*written {
        "string" => Kind::String { format: string_format(problems, section) },
        "integer" => Kind::Integer { bare: section.boolean("bareNumber"), group: group(problems, section, None) },
        "number" => {
            let decimal = decimal(problems, section);
            Kind::Number {
                decimal,
                group: group(problems, section, Some(decimal)),
                bare: section.boolean("bareNumber"),
                precision: precision(problems, section),
            }
        }
        "boolean" => boolean(problems, section),
        "date" => Kind::Date { format: time_format(problems, section) },
        "datetime" => Kind::Datetime { format: time_format(problems, section), timezone: timezone(problems, section) },
        "time" => Kind::Time { format: time_format(problems, section) },
        "year" => Kind::Year,
        "object" => Kind::Object,
        "array" => Kind::Array,
        _ => return None,
    })
}

fn string_format(problems: &mut Collector<'_>, section: &Section<'_>) -> StringFormat {
    let Some(At { value, span }) = section.text("format") else { return StringFormat::Default };
    match &*value {
        "default" => StringFormat::Default,
        "email" => StringFormat::Email,
        "uri" => StringFormat::Uri,
        "uuid" => StringFormat::Uuid,
        "binary" => StringFormat::Binary,
        _ => {
            let known = ["default", "email", "uri", "uuid", "binary"];
            let hint = match keys::nearest(&value, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("one of {}", known.join(", ")),
            };
            problems.push_hint(span, format!("unknown format {value:?} for type \"string\""), hint);
            StringFormat::Default
        }
    }
}

/// `None` for ISO 8601. Whether the directives make sense is found when the field is compiled.
fn time_format(problems: &mut Collector<'_>, section: &Section<'_>) -> Option<String> {
    let At { value, span } = section.text("format")?;
    match &*value {
        "default" => None,
        "any" => {
            let hint = "write the directives of the file's notation, such as \"%d/%m/%Y\"";
            problems.push_hint(span, "format \"any\" would guess which number is the day", hint);
            None
        }
        _ if !value.contains('%') => {
            let hint = "\"default\" for ISO 8601, or directives such as \"%d/%m/%Y\"";
            problems.push_hint(span, format!("format {value:?} has no directive"), hint);
            None
        }
        _ => Some(value),
    }
}

fn timezone(problems: &mut Collector<'_>, section: &Section<'_>) -> Option<String> {
    let At { value, span } = section.text("timezone")?;
    if zone::is_known(&value) {
        return Some(value);
    }
    let hint = match zone::nearest(&value) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "an IANA name such as \"Europe/Paris\" or \"UTC\"".into(),
    };
    problems.push_hint(span, format!("unknown time zone {value:?}"), hint);
    None
}

fn decimal(problems: &mut Collector<'_>, section: &Section<'_>) -> char {
    match section.character("decimalChar") {
        Some(decimal) if !is_part_of_number(decimal) => decimal,
        _ => {
            let span = section.span_of("decimalChar");
            problems.push(span, "\"decimalChar\" is one character that is no digit and no sign");
            '.'
        }
    }
}

fn group(problems: &mut Collector<'_>, section: &Section<'_>, decimal: Option<char>) -> Option<char> {
    let group = section.character("groupChar")?;
    let span = section.span_of("groupChar");
    if is_part_of_number(group) {
        problems.push(span, "\"groupChar\" is a character that is no digit and no sign");
        return None;
    }
    if decimal == Some(group) {
        problems.push(span, format!("\"groupChar\" and \"decimalChar\" are both {group:?}"));
        return None;
    }
    Some(group)
}

fn is_part_of_number(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '-')
}

fn precision(problems: &mut Collector<'_>, section: &Section<'_>) -> Option<(u16, u16)> {
    let At { value, span } = section.value("precision")?;
    let numbers: Vec<u64> =
        value.as_array()?.iter().map(|number| super::check::integer(number.get_ref()).unwrap_or(u64::MAX)).collect();
    match (u16::try_from(*numbers.first()?), u16::try_from(*numbers.get(1)?)) {
        (Ok(digits @ 1..=1000), Ok(decimals)) if decimals <= digits => Some((digits, decimals)),
        _ => {
            problems.push(
                span,
                "\"precision\" is [digits, decimals], with 1 to 1000 digits and no more decimals than digits",
            );
            None
        }
    }
}

fn sql_type(problems: &mut Collector<'_>, section: &Section<'_>, kind: &Kind) -> Option<ColumnType> {
    let At { value, span } = section.text("sqlType")?;
    let column = match ColumnType::parse(&value) {
        Ok(column) => column,
        Err(error) => {
            let written = value.split('(').next().unwrap_or_default().trim();
            let hint = keys::nearest(written, SQL_TYPES)
                .filter(|near| *near != written)
                .map(|near| format!("did you mean {near:?}?"));
            problems.add(span, error.to_string(), hint);
            return None;
        }
    };
    if !column.fits(kind) {
        let message = format!("a column of type {column} cannot hold a field of type {:?}", kind.as_str());
        problems.push_hint(span, message, format!("without sqlType the column is {}", kind.column_type()));
        return None;
    }
    if let (ColumnType::Numeric(asked), Kind::Number { precision: Some(precision), .. }) = (column, kind)
        && asked != Some(*precision)
    {
        problems.push(span, "\"sqlType\" and \"precision\" differ: one of them is enough");
    }
    Some(column)
}

fn boolean(problems: &mut Collector<'_>, section: &Section<'_>) -> Kind {
    let (truths, lies) = (section.texts("trueValues"), section.texts("falseValues"));
    for (key, values) in [("trueValues", &truths), ("falseValues", &lies)] {
        if values.is_empty() {
            problems.push(section.span_of(key), format!("{key:?} is empty"));
        }
    }
    for lie in &lies {
        if truths.iter().any(|truth| truth.value == lie.value) {
            // Point at the list that was written; the other one may be the default.
            let key = if section.is_written("falseValues") { "falseValues" } else { "trueValues" };
            let span = if key == "falseValues" { lie.span.clone() } else { section.span_of(key) };
            let message = format!("{:?} is both a true and a false value", lie.value);
            problems.push_hint(span, message, "\"trueValues\" and \"falseValues\" have defaults: write both");
        }
    }
    let plain = |values: Vec<At<String>>| values.into_iter().map(|at| at.value).collect();
    Kind::Boolean { true_values: plain(truths), false_values: plain(lies) }
}

fn clean(problems: &mut Collector<'_>, section: &Section<'_>) -> Vec<Clean> {
    let mut steps = Vec::new();
    for item in section.list("clean").into_iter().flatten() {
        let step = match item.get_ref() {
            DeValue::String(name) => match &**name {
                "trim" => Some(Clean::Trim),
                "lower" => Some(Clean::Lower),
                "upper" => Some(Clean::Upper),
                "collapse_spaces" => Some(Clean::CollapseSpaces),
                "nfc" => Some(Clean::Nfc),
                _ => None,
            },
            DeValue::Table(table) => clean_step(problems, &Section::step(table, item.span())),
            _ => None,
        };
        steps.extend(step);
    }
    steps
}

fn clean_step(problems: &mut Collector<'_>, section: &Section<'_>) -> Option<Clean> {
    let kinds: Vec<&str> = ["replace", "regex", "map"].into_iter().filter(|kind| section.is_written(kind)).collect();
    let &[kind] = &kinds[..] else {
        let hint = "for example { replace = \"foo\", with = \"bar\" }";
        problems.push_hint(section.span.clone(), "a step has exactly one of \"replace\", \"regex\" and \"map\"", hint);
        return None;
    };
    let with = section.text("with");
    match (kind, section.is_written("with")) {
        ("map", true) => problems.push(section.span_of("with"), "\"with\" does not go with \"map\""),
        ("replace" | "regex", false) => {
            let hint = "with = \"\" takes the text out";
            problems.push_hint(section.span.clone(), format!("{kind:?} needs \"with\""), hint);
        }
        _ => {}
    }
    match kind {
        "replace" => {
            let find = section.text("replace")?;
            if find.value.is_empty() {
                problems.push(find.span, "\"replace\" is empty");
            }
            Some(Clean::Replace { find: find.value, with: with?.value })
        }
        "regex" => {
            let expression = section.text("regex")?;
            let compiled = pattern::check(problems, &expression);
            let with = with?;
            if let Some(compiled) = compiled {
                pattern::check_replacement(problems, &compiled, &with);
            }
            Some(Clean::Regex { pattern: expression.value, with: with.value })
        }
        _ => {
            let map = section.value("map")?.value;
            let pairs = map.as_table()?.iter().filter_map(|(from, to)| {
                Some((from.get_ref().clone().into_owned(), to.get_ref().as_str()?.to_owned()))
            });
            Some(Clean::Map(pairs.collect()))
        }
    }
}

fn constraints(problems: &mut Collector<'_>, section: &Section<'_>, kind: &Kind) -> Constraints {
    // Bounds of numbers are in plain notation, whatever the field's.
    let plain = Kind::Number { decimal: '.', group: None, bare: true, precision: None };
    let bound = |key| section.written(key).map(|value| scalar(problems, value, &plain));
    let constraints = Constraints {
        required: section.boolean("required"),
        min_length: section.integer("minLength"),
        max_length: section.integer("maxLength"),
        minimum: bound("minimum"),
        maximum: bound("maximum"),
        exclusive_minimum: bound("exclusiveMinimum"),
        exclusive_maximum: bound("exclusiveMaximum"),
        pattern: section.text("pattern").map(|pattern| pattern.value),
        one_of: section.list("enum").map(|items| items.iter().map(|item| scalar(problems, item, kind)).collect()),
    };
    if let Some(expression) = section.text("pattern") {
        pattern::check_whole(problems, &expression);
    }
    if let (Some(least), Some(most)) = (constraints.min_length, constraints.max_length)
        && least > most
    {
        problems.push(section.span_of("minLength"), format!("minLength {least} is above maxLength {most}"));
    }
    if constraints.one_of.as_ref().is_some_and(Vec::is_empty) {
        problems.push(section.span_of("enum"), "\"enum\" allows no value");
    }
    constraints
}

/// A value as text in the field's own notation. Numbers and dates stay exactly as they were written: as a binary
/// number 0.1 would not be 0.1.
fn scalar(problems: &Collector<'_>, value: &Spanned<DeValue<'_>>, kind: &Kind) -> String {
    match (value.get_ref(), kind) {
        (DeValue::String(text), _) => text.clone().into_owned(),
        (DeValue::Integer(number), _) if number.radix() != 10 => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string(), |n| n.to_string())
        }
        (DeValue::Integer(number), _) => number.as_str().trim_start_matches('+').to_owned(),
        // TOML writes a decimal point; the field may not.
        (DeValue::Float(number), Kind::Number { decimal, .. }) => {
            number.as_str().trim_start_matches('+').replace('.', decimal.encode_utf8(&mut [0; 4]))
        }
        (DeValue::Float(number), _) => number.as_str().to_owned(),
        (DeValue::Boolean(truth), Kind::Boolean { true_values, false_values }) => {
            let values = if *truth { true_values } else { false_values };
            values.first().cloned().unwrap_or_else(|| truth.to_string())
        }
        (DeValue::Boolean(truth), _) => truth.to_string(),
        (DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_), _) => {
            problems.text().get(value.span()).unwrap_or_default().to_owned()
        }
    }
}
