//! A canonical text of what a pipeline does to an object's bytes.

use std::fmt::Write as _;

use serde_json::json;

use super::{Clean, Conflict, Kind, Pipeline, StringFormat};
use super::{MissingColumns, NewColumns};

/// One line per setting, each value as JSON. Only ever extended by lines that are left out at their default:
/// otherwise every pipeline would count as changed after an upgrade.
pub(super) fn fingerprint(pipeline: &Pipeline) -> String {
    let mut out = String::from("aqueduct pipeline 1\n");
    let mut put = |key: &str, value: serde_json::Value| {
        let _ = writeln!(out, "{key} {value}");
    };
    let character = |byte: Option<u8>| json!(byte.map(|byte| char::from(byte).to_string()));

    put("encoding", json!(pipeline.source.encoding.name()));
    let dialect = &pipeline.dialect;
    put("delimiter", character(dialect.delimiter));
    put("quote", character(dialect.quote));
    put("double_quote", json!(dialect.double_quote));
    put("escape", character(dialect.escape));
    put("skip_initial_space", json!(dialect.skip_initial_space));
    put("header", json!(dialect.header));
    put("comment", character(dialect.comment));
    let drift = &pipeline.drift;
    put("new_columns", json!(if drift.new_columns == NewColumns::Fail { "fail" } else { "ignore" }));
    put("missing_columns", json!(if drift.missing_columns == MissingColumns::Fail { "fail" } else { "null" }));
    put("table", json!(pipeline.target.table));
    put("mode", json!(pipeline.target.mode.as_str()));
    if pipeline.target.conflict == Conflict::Fail {
        put("conflict", json!("fail"));
    }
    put("create", json!(pipeline.target.create));
    put("lineage", json!(pipeline.target.lineage));
    put("record_limit", json!(pipeline.limits.record));
    put("column_limit", json!(pipeline.limits.columns));
    put("missing_values", json!(pipeline.schema.missing_values));
    put("primary_key", json!(pipeline.schema.primary_key));
    for field in &pipeline.schema.fields {
        put("field", json!([field.name, field.label(), field.kind.as_str(), field.column_type().to_string()]));
        put(" kind", kind(&field.kind));
        put(" clean", field.clean.iter().map(step).collect());
        put(" default", json!(field.default));
        let rules = &field.constraints;
        put(" required", json!(rules.required));
        put(" length", json!([rules.min_length, rules.max_length]));
        put(" range", json!([rules.minimum, rules.maximum, rules.exclusive_minimum, rules.exclusive_maximum]));
        put(" pattern", json!(rules.pattern));
        put(" enum", json!(rules.one_of));
    }
    out
}

/// Lists rather than maps: their order never depends on a feature of serde_json.
fn kind(kind: &Kind) -> serde_json::Value {
    match kind {
        Kind::String { format } => json!([match format {
            StringFormat::Default => "default",
            StringFormat::Email => "email",
            StringFormat::Uri => "uri",
            StringFormat::Uuid => "uuid",
            StringFormat::Binary => "binary",
        }]),
        Kind::Integer { bare, group } => json!([bare, group]),
        Kind::Number { decimal, group, bare, precision } => json!([decimal, group, bare, precision]),
        Kind::Boolean { true_values, false_values } => json!([true_values, false_values]),
        Kind::Date { format } | Kind::Time { format } => json!([format]),
        Kind::Datetime { format, timezone } => json!([format, timezone]),
        Kind::Year | Kind::Object | Kind::Array => json!([]),
    }
}

fn step(step: &Clean) -> serde_json::Value {
    match step {
        Clean::Trim => json!("trim"),
        Clean::Lower => json!("lower"),
        Clean::Upper => json!("upper"),
        Clean::CollapseSpaces => json!("collapse_spaces"),
        Clean::Nfc => json!("nfc"),
        Clean::Replace { find, with } => json!(["replace", find, with]),
        Clean::Regex { pattern, with } => json!(["regex", pattern, with]),
        Clean::Map(pairs) => json!(["map", pairs]),
    }
}
