//! Promises about the KEYS table that only this room can see; what a person sees is in tests/pipeline.rs.

use super::Pipeline;
use super::keys::{Default, KEYS, Key, Value};

/// The smallest file, with lines put into its tables and keys into its one field.
fn file(of: &str, key: Option<(&Key, &str)>) -> String {
    let mut tables = [("", String::new()), ("source", String::new()), ("schema", String::new())];
    let (mut field, mut extra) = (format!("name = \"f\", type = \"{of}\""), String::new());
    if let Some((key, value)) = key {
        let line = format!("{} = {value}", key.name());
        match key.parent() {
            "schema.fields[]" => field = format!("name = \"f\", type = \"{of}\", {line}"),
            "schema.fields[].constraints" => field += &format!(", constraints = {{ {line} }}"),
            "errors.limit" => extra = format!("[errors]\nlimit = {{ {line} }}\n"),
            parent => match tables.iter_mut().find(|(name, _)| *name == parent) {
                Some((_, lines)) => *lines = format!("{line}\n"),
                None => extra = format!("[{parent}]\n{line}\n"),
            },
        }
    }
    let [(_, root), (_, source), (_, schema)] = tables;
    format!(
        "version = 1\nname = \"p\"\n{root}[source]\npath = \"p.csv\"\n{source}[schema]\nfields = [{{ {field} }}]\n{schema}{extra}"
    )
}

fn read(text: &str) -> String {
    match Pipeline::parse(text) {
        Ok(pipeline) => format!("{pipeline:?}"),
        Err(problems) => panic!("{}", problems.render("p.toml", text)),
    }
}

fn kind_of(key: &Key) -> &'static str {
    key.of.first().copied().unwrap_or("string")
}

#[test]
fn a_default_written_out_changes_nothing() {
    let mut seen = 0;
    for key in KEYS {
        let Default::Toml(default) = key.default else { continue };
        if matches!(key.value, Value::Table) && default == "{}" || key.path == "schema.fields[].type" {
            continue;
        }
        let kind = kind_of(key);
        assert_eq!(read(&file(kind, Some((key, default)))), read(&file(kind, None)), "{}", key.path);
        seen += 1;
    }
    assert!(seen > 20, "only {seen} defaults were looked at");
}

/// A key that is accepted and then forgotten would be the worst of them.
#[test]
fn no_key_is_read_and_forgotten() {
    for key in KEYS {
        let required = matches!(key.default, Default::Required);
        let in_a_step = key.parent() == "schema.fields[].clean[]";
        if key.later || matches!(key.value, Value::Table) || required || in_a_step || key.path == "schema.fields[].type"
        {
            continue;
        }
        let value = match key.path {
            "source.encoding" => "\"windows-1252\"",
            "source.on_change" => "\"ignore\"",
            "dialect.delimiter" => "\";\"",
            "dialect.quoteChar" => "\"'\"",
            "dialect.escapeChar" => "'\\'",
            "dialect.commentChar" => "\"#\"",
            "dialect.doubleQuote" | "dialect.header" | "target.create" | "target.lineage" => "false",
            "dialect.skipInitialSpace" | "schema.fields[].constraints.required" => "true",
            "schema.fields[].bareNumber" => "false",
            "schema.missingValues" => "[\"-\"]",
            "schema.primaryKey" => "[\"f\"]",
            "schema.fields[].from" => "\"F\"",
            "schema.fields[].format" => "\"email\"",
            "schema.fields[].timezone" => "\"Europe/Paris\"",
            "schema.fields[].groupChar" | "schema.fields[].decimalChar" => "\",\"",
            "schema.fields[].precision" => "[12, 2]",
            "schema.fields[].trueValues" => "[\"yes\"]",
            "schema.fields[].falseValues" => "[\"no\"]",
            "schema.fields[].sqlType" => "\"varchar(7)\"",
            "schema.fields[].default" => "\"x\"",
            "schema.fields[].clean" => "[\"trim\"]",
            "schema.fields[].constraints.pattern" => "'[a-z]+'",
            "schema.fields[].constraints.enum" => "[\"a\", \"b\"]",
            "drift.new_columns" => "\"fail\"",
            "drift.missing_columns" => "\"null\"",
            "target.table" => "\"public.t\"",
            "target.mode" => "\"replace\"",
            "target.conflict" => "\"fail\"",
            "errors.limit.percent" => "2.5",
            "limits.record" => "\"64 KiB\"",
            _ => "7",
        };
        let kind = kind_of(key);
        assert_ne!(read(&file(kind, Some((key, value)))), read(&file(kind, None)), "{}", key.path);
    }
}

#[test]
fn every_key_has_one_entry_below_a_table_that_is_one() {
    for (index, key) in KEYS.iter().enumerate() {
        assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{} twice", key.path);
        assert!(key.doc.ends_with('.'), "{} is described by a sentence", key.path);
        let parent = key.parent().trim_end_matches("[]");
        let table = KEYS.iter().find(|other| other.path == parent);
        let holds = |value| matches!(value, Value::Table | Value::Tables | Value::Steps(_));
        assert!(parent.is_empty() || table.is_some_and(|table| holds(table.value)), "{}", key.path);
    }
}
