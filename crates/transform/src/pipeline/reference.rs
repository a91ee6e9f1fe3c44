//! What people and editors read about the pipeline file, made from the table the parser reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::keys::{self, Choice, Default, KEYS, Key, Value};
use super::{Kind, StringFormat};
use crate::reject::Code;

/// A JSON Schema (draft 2020-12) of the pipeline file, for editors that complete and check TOML. Ends in a line end.
pub fn json_schema() -> String {
    let mut root = table("");
    root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".into(), json!("Aqueduct pipeline"));
    root.insert(
        "description".into(),
        json!("How the objects of one source are checked, cleaned and loaded into one table."),
    );
    let mut text = String::new();
    pretty(&object(root), 0, &mut text);
    text.push('\n');
    text
}

/// The generated part of docs/pipeline.md: keys, column types, reject codes, exit codes.
pub fn reference() -> String {
    let mut out = String::new();
    keys_section(&mut out);
    column_types(&mut out);
    reject_codes(&mut out);
    exit_codes(&mut out);
    out
}

/// Around the generated part of the page; the rest of it is written by hand.
const START: &str = "<!-- Generated from the KEYS table: cargo run --release -p transform --example reference -->";
const END: &str = "<!-- End of the generated part -->";

/// `page` with its generated part renewed; `None` when the marks around that part are missing.
pub fn renew_reference(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{START}\n\n{}\n{END}{after}", reference()))
}

type Members = BTreeMap<String, Json>;

fn object(members: Members) -> Json {
    Json::Object(members.into_iter().collect())
}

/// The schema of the table whose path is `path`.
fn table(path: &str) -> Members {
    let built: Vec<&Key> = keys::keys_in(path).filter(|key| !key.later).collect();
    let properties: Members = built.iter().map(|key| (key.name().to_owned(), object(property(key)))).collect();
    let required: Vec<&str> =
        built.iter().filter(|key| matches!(key.default, Default::Required)).map(|key| key.name()).collect();
    let mut members = Members::new();
    members.insert("type".into(), json!("object"));
    members.insert("additionalProperties".into(), json!(false));
    members.insert("properties".into(), object(properties));
    if !required.is_empty() {
        members.insert("required".into(), json!(required));
    }
    members
}

fn property(key: &Key) -> Members {
    let mut members = match key.value {
        Value::Table => table(key.path),
        Value::Tables => list(object(table(&format!("{}[]", key.path)))),
        Value::Steps(choices) => {
            let step = json!({ "anyOf": [object(choice(choices)), object(table(&format!("{}[]", key.path)))] });
            list(step)
        }
        value => scalar(value),
    };
    members.insert("description".into(), json!(description(key)));
    if let Default::Toml(text) = key.default
        && let Ok(value) = DeValue::parse(text)
        && !value.get_ref().is_table()
    {
        members.insert("default".into(), plain(value.get_ref()));
    }
    members
}

fn scalar(value: Value) -> Members {
    let any = json!({ "type": ["string", "number", "boolean"] });
    let members = match value {
        Value::Choice(choices) => return choice(choices),
        Value::Texts => return list(json!({ "type": "string" })),
        Value::Scalars => return list(any),
        Value::Text => json!({ "type": "string" }),
        Value::Character { .. } => json!({ "type": "string", "maxLength": 1 }),
        Value::Boolean => json!({ "type": "boolean" }),
        Value::Integer { min, max } if min == max => json!({ "const": min }),
        Value::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Value::Percent => json!({ "type": "number", "minimum": 0, "maximum": 100 }),
        Value::Bytes { .. } => json!({ "type": ["integer", "string"] }),
        Value::Scalar => any,
        Value::Precision => {
            json!({ "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 2, "maxItems": 2 })
        }
        Value::TextByText => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Value::Table | Value::Tables | Value::Steps(_) => json!({}),
    };
    match members {
        Json::Object(members) => members.into_iter().collect(),
        _ => Members::new(),
    }
}

fn list(items: Json) -> Members {
    Members::from([("type".into(), json!("array")), ("items".into(), items)])
}

fn choice(choices: &[Choice]) -> Members {
    let values: Vec<&str> = choices.iter().filter(|choice| !choice.later).map(|choice| choice.value).collect();
    Members::from([("enum".into(), json!(values))])
}

fn plain(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(_) => json!(super::check::integer(value)),
        DeValue::Boolean(truth) => json!(truth),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().ok()),
        DeValue::Datetime(_) | DeValue::Table(_) => Json::Null,
    }
}

fn description(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if !key.of.is_empty() {
        let _ = write!(text, " For {}.", key.of.join(", "));
    }
    if let Default::Words(words) = key.default {
        let _ = write!(text, " Default: {words}.");
    }
    text
}

/// JSON with two spaces; members in the order of their names, which does not depend on how serde_json was built.
fn pretty(value: &Json, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth + 1);
    let close = "  ".repeat(depth);
    match value {
        Json::Object(members) if !members.is_empty() => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                let _ = write!(out, "{}\n{indent}{}: ", if index > 0 { "," } else { "" }, json!(name));
                pretty(member, depth + 1, out);
            }
            let _ = write!(out, "\n{close}}}");
        }
        Json::Array(items) if items.iter().any(|item| item.is_object()) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                let _ = write!(out, "{}\n{indent}", if index > 0 { "," } else { "" });
                pretty(item, depth + 1, out);
            }
            let _ = write!(out, "\n{close}]");
        }
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(Json::to_string).collect();
            let _ = write!(out, "[{}]", items.join(", "));
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

fn keys_section(out: &mut String) {
    let sections = [
        ("At the top", "", "Before the first `[table]`."),
        ("`[source]`", "source", ""),
        ("`[dialect]`", "dialect", ""),
        ("`[schema]`", "schema", ""),
        ("A field of `schema.fields`", "schema.fields[]", ""),
        ("`constraints` of a field", "schema.fields[].constraints", ""),
        (
            "Steps of a field's `clean`",
            "schema.fields[].clean[]",
            "A step is one of the names below, or a table with these keys.",
        ),
        ("`[drift]`", "drift", ""),
        ("`[target]`", "target", ""),
        ("`[errors]`", "errors", ""),
        ("`limit` of `[errors]`", "errors.limit", ""),
        ("`[limits]`", "limits", ""),
    ];
    out.push_str("## Keys\n");
    for (title, path, note) in sections {
        let _ = write!(out, "\n### {title}\n\n");
        let about = KEYS.iter().find(|key| key.path == path).map_or("", |key| key.doc);
        for line in [about, note].into_iter().filter(|line| !line.is_empty()) {
            let _ = write!(out, "{line}\n\n");
        }
        out.push_str("| Key | Type | Default | What it does |\n|---|---|---|---|\n");
        for key in keys::keys_in(path).filter(|key| !key.later && !is_top_table(key)) {
            let mut doc = key.doc.to_owned();
            if !key.of.is_empty() {
                let _ = write!(doc, " For {}.", key.of.join(", "));
            }
            let default = default_text(key);
            let _ =
                writeln!(out, "| `{}` | {} | {} | {} |", key.name(), value_type(key.value), cell(&default), cell(&doc));
        }
        choices(out, path);
    }
    out.push_str(
        "\n### Not built yet\n\nThese are known and refused, so that a file never promises what does not happen.\n\n",
    );
    out.push_str("| Key or value | What it will do |\n|---|---|\n");
    for key in KEYS {
        if key.later {
            let _ = writeln!(out, "| `{}` | {} |", key.path, cell(key.doc));
        }
        for choice in choices_of(key).iter().filter(|choice| choice.later) {
            let _ = writeln!(out, "| `{} = \"{}\"` | {} |", key.path, choice.value, cell(choice.doc));
        }
    }
    out.push_str("| `source.encoding = \"auto\"` | The encoding is found from the file's bytes. |\n");
}

/// Shown as a section of its own rather than as a key.
fn is_top_table(key: &Key) -> bool {
    matches!(key.value, Value::Table) && !key.path.contains('.')
}

fn choices_of(key: &Key) -> &'static [Choice] {
    match key.value {
        Value::Choice(choices) | Value::Steps(choices) => choices,
        _ => &[],
    }
}

/// The values of the section's keys that take one of a few.
fn choices(out: &mut String, path: &str) {
    // Names of steps stand with the tables that are steps too.
    let steps = path == "schema.fields[].clean[]";
    let keys = KEYS.iter().filter(|key| match key.value {
        Value::Choice(_) => key.parent() == path,
        Value::Steps(_) => steps,
        _ => false,
    });
    for key in keys {
        let _ = write!(out, "\nValues of `{}`:\n\n", key.name());
        for choice in choices_of(key).iter().filter(|choice| !choice.later) {
            let _ = writeln!(out, "- `{}`: {}", choice.value, choice.doc);
        }
    }
}

fn value_type(value: Value) -> String {
    match value {
        Value::Choice(_) => "one of the values below".into(),
        Value::Integer { min, max } if min == max => format!("`{min}`"),
        Value::Integer { min, max } if max <= 1600 => format!("whole number, {min} to {max}"),
        Value::Percent => "number, 0 to 100".into(),
        Value::Bytes { .. } => "size, 1 KiB to 16 MiB".into(),
        Value::Character { ascii: true } => "one ASCII character".into(),
        other => super::check::expected(other).to_owned(),
    }
}

fn default_text(key: &Key) -> String {
    match key.default {
        Default::Required => "required".into(),
        Default::Toml("{}") => "none".into(),
        Default::Toml(text) => format!("`{text}`"),
        Default::Words(words) => words.to_owned(),
    }
}

/// Text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn column_types(out: &mut String) {
    let plain = StringFormat::Default;
    let decimal = |precision| Kind::Number { decimal: '.', group: None, bare: true, precision };
    let datetime = |timezone: Option<&str>| Kind::Datetime { format: None, timezone: timezone.map(str::to_owned) };
    let rows = [
        ("string", Kind::String { format: plain }, "TEXT"),
        ("string, format `uuid`", Kind::String { format: StringFormat::Uuid }, "TEXT"),
        ("string, format `binary`", Kind::String { format: StringFormat::Binary }, "BLOB"),
        ("integer", Kind::Integer { bare: true, group: None }, "INTEGER"),
        ("number", decimal(None), "TEXT"),
        ("number, precision `[12, 2]`", decimal(Some((12, 2))), "TEXT"),
        ("boolean", Kind::Boolean { true_values: Vec::new(), false_values: Vec::new() }, "INTEGER"),
        ("date", Kind::Date { format: None }, "TEXT"),
        ("datetime", datetime(None), "TEXT"),
        ("datetime with `timezone`, or `%z` in `format`", datetime(Some("UTC")), "TEXT"),
        ("time", Kind::Time { format: None }, "TEXT"),
        ("year", Kind::Year, "INTEGER"),
        ("object", Kind::Object, "TEXT"),
        ("array", Kind::Array, "TEXT"),
    ];
    out.push_str("\n## Types and columns\n\n`sqlType` asks for another column type than these.\n\n");
    out.push_str("| Field | PostgreSQL column | SQLite column |\n|---|---|---|\n");
    for (field, kind, sqlite) in rows {
        let _ = writeln!(out, "| {field} | `{}` | `{sqlite}` |", kind.column_type());
    }
}

fn reject_codes(out: &mut String) {
    out.push_str("\n## Reject codes\n\nStable: a code is never renamed or given another meaning.\n\n");
    out.push_str("| Code | Meaning |\n|---|---|\n");
    for code in Code::ALL {
        let _ = writeln!(out, "| `{}` | {} |", code.as_str(), cell(code.describe()));
    }
}

fn exit_codes(out: &mut String) {
    let codes = [
        ("0", "Done; rejects within the limit included."),
        ("1", "Failed, nothing committed."),
        ("2", "Wrong usage, or something is wrong with the pipeline file."),
        ("3", "Too many rejects, or a check failed: the data was kept out."),
        ("4", "Credentials or permission."),
        ("5", "Several objects, and some failed."),
        ("6", "Differences found (`verify`)."),
        ("75", "Temporary or busy: try again."),
        ("130, 143", "Interrupted, nothing committed."),
    ];
    out.push_str("\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n");
    for (code, meaning) in codes {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
}
