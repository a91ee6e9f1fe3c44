//! The written keys against [`KEYS`](super::keys::KEYS): is each known, built, of the right type, one of its choices.
//!
//! What values mean together is judged afterwards, in `read` and `field`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Choice, Default, Key, Value};
use super::problem::Collector;

/// Checks the keys of `table`, whose path in KEYS is `path`, and of all tables below it. `at` is where the table is
/// named, for keys that are missing.
pub(super) fn table(problems: &mut Collector<'_>, path: &str, table: &DeTable<'_>, at: Range<usize>) {
    for (written, value) in table {
        let name = written.get_ref();
        match keys::key_in(path, name) {
            None => unknown_key(problems, path, name, written.span()),
            Some(key) if key.later => {
                let message = format!("{name:?} is not built yet");
                problems.push_hint(written.span(), message, format!("a later version will have it: {}", key.doc));
            }
            Some(key) => check_value(problems, key, value, written.span()),
        }
    }
    for key in keys::keys_in(path) {
        if matches!(key.default, Default::Required) && !table.contains_key(key.name()) {
            problems.add(at.clone(), format!("the key {:?} is missing{}", key.name(), inside(path)), example_of(key));
        }
    }
}

/// ` in [dialect]`, for messages.
fn inside(path: &str) -> String {
    match path {
        "" => String::new(),
        "schema.fields[]" => " in this field".into(),
        "schema.fields[].constraints" => " in these constraints".into(),
        "schema.fields[].clean[]" => " in this step".into(),
        _ => format!(" in [{path}]"),
    }
}

/// The table as a person would name it.
fn place(path: &str) -> String {
    match path {
        "" => "at the top, before the first [table]".into(),
        "schema.fields[]" => "in a field of schema.fields".into(),
        "schema.fields[].constraints" => "in a field's constraints".into(),
        "schema.fields[].clean[]" => "in a step of a field's clean".into(),
        _ => format!("in [{path}]"),
    }
}

fn unknown_key(problems: &mut Collector<'_>, path: &str, name: &str, span: Range<usize>) {
    let built = |key: &&Key| !key.later;
    let here = keys::nearest(name, keys::keys_in(path).filter(built).map(Key::name));
    let hint = here.map(|near| format!("did you mean {near:?}?")).or_else(|| {
        let elsewhere = keys::KEYS.iter().filter(built).find(|key| key.name() == name)?;
        Some(format!("{name:?} belongs {}", place(elsewhere.parent())))
    });
    let hint = hint.unwrap_or_else(|| {
        let names: Vec<&str> = keys::keys_in(path).filter(built).map(Key::name).collect();
        format!("known keys are {}", names.join(", "))
    });
    problems.push_hint(span, format!("unknown key {name:?}{}", inside(path)), hint);
}

fn example_of(key: &Key) -> Option<String> {
    let example = match key.path {
        "version" => "version = 1",
        "name" => "name = \"customers\"",
        "source" => "[source] with path = \"customers/*.csv\"",
        "source.path" => "path = \"customers/*.csv\"",
        "schema" => "[schema] with fields = [{ name = \"id\", type = \"integer\" }]",
        "schema.fields" => "fields = [{ name = \"id\", type = \"integer\" }]",
        "schema.fields[].name" => "{ name = \"id\" }",
        _ => return None,
    };
    Some(format!("for example {example}"))
}

fn check_value(problems: &mut Collector<'_>, key: &Key, value: &Spanned<DeValue<'_>>, key_span: Range<usize>) {
    let span = value.span();
    if !fits(key.value, value.get_ref()) {
        let found = found(value.get_ref());
        let found =
            if matches!(key.value, Value::TextByText) && value.get_ref().is_table() { "this table" } else { found };
        let message = format!("{:?} takes {}, not {found}", key.name(), expected(key.value));
        problems.add(span, message, type_hint(key, value, problems.text()));
        return;
    }
    match (key.value, value.get_ref()) {
        (Value::Table, DeValue::Table(inner)) => table(problems, key.path, inner, key_span),
        (Value::Tables, DeValue::Array(items)) => {
            for item in items {
                if let DeValue::Table(inner) = item.get_ref() {
                    table(problems, &format!("{}[]", key.path), inner, item.span());
                }
            }
        }
        (Value::Steps(choices), DeValue::Array(items)) => {
            for item in items {
                match item.get_ref() {
                    DeValue::String(text) => check_choice(problems, "cleaning step", choices, text, item.span()),
                    DeValue::Table(inner) => table(problems, &format!("{}[]", key.path), inner, item.span()),
                    _ => {}
                }
            }
        }
        (Value::Choice(choices), DeValue::String(text)) => check_choice(problems, key.name(), choices, text, span),
        (Value::Integer { min, max }, number)
            if integer(number).is_none_or(|number| !(min..=max).contains(&number)) =>
        {
            let message = match max {
                _ if min == max => format!("{:?} is {min} in this release", key.name()),
                ..=9999 => format!("{:?} is a whole number from {min} to {max}", key.name()),
                _ => format!("{:?} is a whole number, at least {min}", key.name()),
            };
            problems.push(span, message);
        }
        (Value::Percent, number) if percent(number).is_none() => {
            problems.push(span, format!("{:?} is a number from 0 to 100", key.name()));
        }
        (Value::Bytes { min, max }, size) if bytes(size).is_none_or(|size| !(min..=max).contains(&size)) => {
            let message = format!("{:?} is a size from {} to {}", key.name(), size_text(min), size_text(max));
            problems.push_hint(span, message, "for example \"1 MiB\", \"64 KiB\" or a number of bytes");
        }
        (Value::Character { ascii }, DeValue::String(text)) => {
            let mut characters = text.chars();
            let first = characters.next();
            let one = if ascii { "one ASCII character" } else { "one character" };
            if characters.next().is_some() || (ascii && !text.is_ascii()) {
                problems.push(span, format!("{:?} is {one}", key.name()));
            } else if first.is_some_and(|character| matches!(character, '\r' | '\n')) {
                problems.push(span, format!("{:?} cannot be a line end", key.name()));
            }
        }
        _ => {}
    }
}

fn check_choice(problems: &mut Collector<'_>, what: &str, choices: &[Choice], text: &str, span: Range<usize>) {
    match choices.iter().find(|choice| choice.value == text) {
        Some(choice) if choice.later => {
            let hint = format!("a later version will have it: {}", choice.doc);
            problems.push_hint(span, format!("{what} {text:?} is not built yet"), hint);
        }
        Some(_) => {}
        None => {
            let built = || choices.iter().filter(|choice| !choice.later).map(|choice| choice.value);
            let hint = match keys::nearest(text, built()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("one of {}", built().collect::<Vec<_>>().join(", ")),
            };
            problems.push_hint(span, format!("unknown {what} {text:?}"), hint);
        }
    }
}

/// Whether the TOML type is one the key takes.
pub(super) fn fits(expected: Value, value: &DeValue<'_>) -> bool {
    let text = |value: &DeValue<'_>| value.is_str();
    let scalar = |value: &DeValue<'_>| !value.is_array() && !value.is_table();
    let all = |fits: fn(&DeValue<'_>) -> bool| {
        value.as_array().is_some_and(|items| items.iter().all(|item| fits(item.get_ref())))
    };
    match expected {
        Value::Text | Value::Character { .. } | Value::Choice(_) => text(value),
        Value::Boolean => value.is_bool(),
        Value::Integer { .. } => value.is_integer(),
        Value::Percent => value.is_integer() || value.is_float(),
        Value::Bytes { .. } => value.is_integer() || text(value),
        Value::Scalar => scalar(value),
        Value::Texts => all(|value| value.is_str()),
        Value::Scalars => all(|value| !value.is_array() && !value.is_table()),
        Value::Precision => all(|value| value.is_integer()) && value.as_array().is_some_and(|items| items.len() == 2),
        Value::Steps(_) => all(|value| value.is_str() || value.is_table()),
        Value::TextByText => {
            value.as_table().is_some_and(|table| table.iter().all(|(_, value)| value.get_ref().is_str()))
        }
        Value::Table => value.is_table(),
        Value::Tables => all(|value| value.is_table()),
    }
}

pub(super) fn expected(value: Value) -> &'static str {
    match value {
        Value::Text | Value::Choice(_) => "text",
        Value::Character { .. } => "text of one character",
        Value::Boolean => "true or false",
        Value::Integer { .. } => "a whole number",
        Value::Percent => "a number",
        Value::Bytes { .. } => "a size such as \"1 MiB\"",
        Value::Scalar => "text, a number, a date or a boolean",
        Value::Texts => "a list of texts",
        Value::Scalars => "a list of values",
        Value::Precision => "two whole numbers, [digits, decimals]",
        Value::Steps(_) => "a list of steps",
        Value::TextByText => "a table with text behind each key",
        Value::Table => "a table",
        Value::Tables => "a list of tables",
    }
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(items) if items.is_empty() => "an empty list",
        DeValue::Array(_) => "this list",
        DeValue::Table(_) => "a table",
    }
}

/// How to write what was most likely meant.
fn type_hint(key: &Key, value: &Spanned<DeValue<'_>>, text: &str) -> Option<String> {
    let raw = text.get(value.span()).filter(|raw| raw.len() <= 40 && !raw.contains('\n'))?;
    match (key.value, value.get_ref()) {
        (Value::Boolean, DeValue::String(text)) if matches!(&**text, "true" | "false") => {
            Some(format!("write {text}, without quotes"))
        }
        (Value::Integer { .. } | Value::Percent, DeValue::String(text)) if text.parse::<f64>().is_ok() => {
            Some(format!("write {text}, without quotes"))
        }
        (Value::Text | Value::Choice(_) | Value::Character { .. }, DeValue::Table(_) | DeValue::Array(_)) => None,
        (Value::Text | Value::Choice(_) | Value::Character { .. }, _) => Some(format!("write \"{raw}\", with quotes")),
        (Value::Texts, DeValue::String(_)) | (Value::Scalars, DeValue::String(_) | DeValue::Integer(_)) => {
            Some(format!("write [{raw}]"))
        }
        (Value::Steps(_), DeValue::String(_) | DeValue::Table(_)) | (Value::Tables, DeValue::Table(_)) => {
            Some(format!("write [{raw}]"))
        }
        (Value::Table, DeValue::Integer(_)) if key.path == "errors.limit" => Some(format!("write {{ rows = {raw} }}")),
        _ => None,
    }
}

/// A TOML integer of any radix.
pub(super) fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

pub(super) fn percent(value: &DeValue<'_>) -> Option<f64> {
    let text = match value {
        DeValue::Float(number) => number.as_str(),
        DeValue::Integer(_) => return integer(value).filter(|number| *number <= 100).map(|number| number as f64),
        _ => return None,
    };
    text.parse().ok().filter(|number| (0.0..=100.0).contains(number))
}

/// Bytes of `65536`, `"64 KiB"` or `"1 MiB"`.
pub(super) fn bytes(value: &DeValue<'_>) -> Option<u64> {
    let Some(text) = value.as_str() else { return integer(value) };
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn size_text(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}
