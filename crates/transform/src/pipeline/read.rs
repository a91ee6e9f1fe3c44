//! A checked tree of TOML to a [`Pipeline`]: defaults filled in, and what values mean together judged.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::field::{check_name, field};
use super::keys;
use super::problem::Collector;
use super::section::{At, Section};
use super::{
    Conflict, Dialect, Drift, Errors, Limits, MissingColumns, Mode, NewColumns, OnChange, Pipeline, Schema, Source,
    Target,
};
use crate::encoding::Encoding;

/// PostgreSQL's own limit.
const TABLE_COLUMNS: usize = 1600;

/// Columns `lineage` adds.
const LINEAGE: [&str; 2] = ["_load_id", "_record"];

/// `None` when a part is too wrong to stand for anything; then at least one problem was reported.
pub(super) fn pipeline(problems: &mut Collector<'_>, root: &Spanned<DeTable<'_>>) -> Option<Pipeline> {
    let root = Section::root(root);
    let name = name(problems, &root);
    let target = target(problems, &root.section("target"), name.as_deref());
    let source = source(problems, &root.section("source"), &target);
    let dialect = dialect(problems, &root.section("dialect"));
    let schema = schema(problems, &root.section("schema"), &dialect, &target);
    if let (Mode::Upsert, true, Some(At { span, .. })) =
        (target.mode, schema.primary_key.is_empty(), root.section("target").text("mode"))
    {
        let message = "mode = \"upsert\" needs a primaryKey, by which rows are told to be the same";
        problems.push_hint(span, message, "for example primaryKey = [\"id\"] in [schema]");
    }
    let drift = drift(&root.section("drift"));
    let errors = root.section("errors").section_or_default("limit", |limit| Errors {
        limit_rows: limit.integer("rows"),
        limit_percent: limit.percent("percent"),
    });
    let limits = limits(problems, &root.section("limits"), schema.fields.len());
    Some(Pipeline { name: name?, source: source?, dialect, schema, drift, target, errors, limits })
}

fn name(problems: &mut Collector<'_>, root: &Section<'_>) -> Option<String> {
    let At { value, span } = root.text("name")?;
    let fits = value.starts_with(|first: char| first.is_ascii_alphabetic())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && value.len() <= 63;
    if !fits {
        let message = format!("the pipeline's name {value:?} is not one word");
        problems.push_hint(span, message, "a letter, then letters, digits, _ and -, at most 63 in all");
        return None;
    }
    Some(value)
}

fn source(problems: &mut Collector<'_>, section: &Section<'_>, target: &Target) -> Option<Source> {
    let encoding = encoding(problems, section);
    let on_change = on_change(problems, section, target);
    let path = section.text("path")?;
    check_path(problems, &path);
    Some(Source { path: path.value, encoding, on_change })
}

/// A glob below the store: it cannot leave it.
fn check_path(problems: &mut Collector<'_>, path: &At<String>) {
    let At { value, span } = path;
    let relative = "a path below the store, such as \"customers/*.csv\"; the store is named by --store";
    if value.is_empty() {
        problems.push_hint(span.clone(), "the path is empty", relative);
    } else if value.contains("://") {
        problems.push_hint(span.clone(), "the path names a store", relative);
    } else if value.starts_with('/') {
        problems.push_hint(span.clone(), "the path starts with \"/\"", relative);
    } else if value.split('/').any(|part| part == "..") {
        problems.push_hint(span.clone(), "the path leaves the store through \"..\"", relative);
    } else if value.split('/').any(|part| part == ".") {
        problems.push_hint(span.clone(), "the path has \".\" as a part", "leave it out: paths begin at the store");
    } else if value.split('/').any(str::is_empty) {
        problems.push_hint(span.clone(), "the path has nothing between two slashes, or ends in one", relative);
    } else if value.contains(char::is_control) {
        problems.push(span.clone(), "the path holds a control character");
    } else if value.to_ascii_lowercase().ends_with(".zip") {
        let hint = "unpack it, and compress the CSV with gzip or zstd";
        problems.push_hint(span.clone(), "zip archives are not read", hint);
    }
}

fn encoding(problems: &mut Collector<'_>, section: &Section<'_>) -> Encoding {
    let Some(At { value, span }) = section.text("encoding") else { return Encoding::Utf8 };
    if value == "auto" {
        problems.push_hint(span, "encoding \"auto\" is not built yet", "name the encoding, such as \"windows-1252\"");
        return Encoding::Utf8;
    }
    Encoding::for_label(&value).unwrap_or_else(|| {
        match encoding_rs::Encoding::for_label(value.as_bytes()) {
            Some(known) => {
                let hint =
                    "UTF-8, UTF-16 and the single-byte encodings are read; convert the file, for example with iconv";
                problems.push_hint(span, format!("encoding {} is not read", known.name()), hint);
            }
            None => {
                let common = ["utf-8", "utf-16le", "utf-16be", "windows-1252", "iso-8859-1", "iso-8859-15", "latin1"];
                let hint = match keys::nearest(&value, common) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "a WHATWG label such as \"utf-8\", \"windows-1252\" or \"utf-16le\"".into(),
                };
                problems.push_hint(span, format!("unknown encoding {value:?}"), hint);
            }
        }
        Encoding::Utf8
    })
}

/// What the key means depends on how rows get into the table: only rows that carry their load can give way to others.
fn on_change(problems: &mut Collector<'_>, section: &Section<'_>, target: &Target) -> OnChange {
    let Some(At { value, span }) = section.text("on_change") else {
        return match (target.mode, target.lineage) {
            (Mode::Upsert, _) => OnChange::Upsert,
            (Mode::Replace, _) | (Mode::Append, true) => OnChange::Replace,
            // Neither replaced nor quietly left out: a person has to look.
            (Mode::Append, false) => OnChange::Fail,
        };
    };
    if target.mode == Mode::Replace {
        let message = "\"on_change\" has no meaning with mode = \"replace\"";
        problems.push_hint(span, message, "leave it out: the newest object always replaces the whole table");
        return OnChange::Replace;
    }
    let refused = match (&*value, target.mode) {
        ("replace", Mode::Upsert) => Some((
            "on_change = \"replace\" cannot be done with mode = \"upsert\": what the earlier rows replaced is gone",
            "leave it out to upsert the new bytes, too, or on_change = \"ignore\" or \"fail\"",
        )),
        ("replace", _) if !target.lineage => Some((
            "on_change = \"replace\" needs lineage: without `_load_id` the earlier rows cannot be told apart",
            "set lineage = true in [target], or on_change = \"ignore\" or \"fail\"",
        )),
        ("upsert", Mode::Append) => Some((
            "on_change = \"upsert\" is for mode = \"upsert\": here the rows would come in twice",
            "on_change = \"replace\", \"ignore\" or \"fail\", or mode = \"upsert\" in [target]",
        )),
        _ => None,
    };
    if let Some((message, hint)) = refused {
        problems.push_hint(span, message, hint);
    }
    match &*value {
        "ignore" => OnChange::Ignore,
        "fail" => OnChange::Fail,
        "upsert" => OnChange::Upsert,
        _ => OnChange::Replace,
    }
}

fn dialect(problems: &mut Collector<'_>, section: &Section<'_>) -> Dialect {
    let mut taken: Vec<(&str, u8)> = Vec::new();
    let mut character = |key: &'static str| {
        let byte = section.character(key).and_then(|found| u8::try_from(found).ok()).filter(u8::is_ascii)?;
        if let Some((other, _)) = taken.iter().find(|(_, other)| *other == byte) {
            // One of the two was written, or they would not clash.
            let at = if section.is_written(key) { key } else { other };
            let message = format!("{key:?} and {other:?} are both {:?}", char::from(byte));
            problems.push(section.span_of(at), message);
        }
        taken.push((key, byte));
        Some(byte)
    };
    let delimiter = character("delimiter");
    let quote = character("quoteChar");
    let escape = character("escapeChar");
    let comment = character("commentChar");
    if delimiter.is_none() && section.written("delimiter").is_some_and(|value| value.get_ref().as_str() == Some("")) {
        let hint = "leave the key out to have it found from the first records";
        problems.push_hint(section.span_of("delimiter"), "the delimiter is empty", hint);
    }
    Dialect {
        delimiter,
        quote,
        double_quote: section.boolean("doubleQuote"),
        escape,
        skip_initial_space: section.boolean("skipInitialSpace"),
        header: section.boolean("header"),
        comment,
    }
}

fn schema(problems: &mut Collector<'_>, section: &Section<'_>, dialect: &Dialect, target: &Target) -> Schema {
    let sections = section.sections("fields");
    if section.list("fields").is_some() && sections.is_empty() {
        let hint = "for example fields = [{ name = \"id\", type = \"integer\" }]";
        problems.push_hint(section.span_of("fields"), "\"fields\" is empty", hint);
    }
    let most = if target.lineage { TABLE_COLUMNS - LINEAGE.len() } else { TABLE_COLUMNS };
    if sections.len() > most {
        let message = format!("{} fields, a PostgreSQL table has room for {most}", sections.len());
        problems.push(section.span_of("fields"), message);
    }
    check_names(problems, &sections, dialect, target);
    let mut fields: Vec<_> = sections.iter().filter_map(|section| field(problems, section)).collect();

    let keys = section.texts("primaryKey");
    let mut seen: Vec<&str> = Vec::new();
    let names: Vec<String> = sections.iter().filter_map(|section| Some(section.text("name")?.value)).collect();
    for At { value, span } in &keys {
        if !names.contains(value) {
            let near = keys::nearest(value, names.iter().map(String::as_str));
            let hint = near.map(|near| format!("did you mean {near:?}?"));
            problems.add(span.clone(), format!("no field is named {value:?}"), hint);
        } else if seen.contains(&&**value) {
            problems.push(span.clone(), format!("{value:?} stands twice in the primary key"));
        }
        seen.push(value);
        if let Some(field) = fields.iter_mut().find(|field| field.name == *value) {
            field.constraints.required = true;
        }
    }
    Schema {
        missing_values: section.texts("missingValues").into_iter().map(|at| at.value).collect(),
        primary_key: keys.into_iter().map(|at| at.value).collect(),
        fields,
    }
}

/// Names are columns, which SQLite compares without case; labels are matched as they stand.
fn check_names(problems: &mut Collector<'_>, sections: &[Section<'_>], dialect: &Dialect, target: &Target) {
    let mut names: HashMap<String, (usize, String)> = HashMap::new();
    let mut labels: HashMap<String, usize> = HashMap::new();
    for (index, section) in sections.iter().enumerate() {
        let position = index + 1;
        let (name, from) = (section.text("name"), section.text("from"));
        if let Some(At { value, span }) = &name {
            let folded = value.to_ascii_lowercase();
            if target.lineage && LINEAGE.contains(&&*folded) {
                let message = format!("{value:?} is the name of a lineage column");
                problems.push_hint(span.clone(), message, "choose another name, or set lineage = false in [target]");
            }
            match names.get(&folded) {
                Some((first, other)) => {
                    let hint = (value != other).then(|| "names differ in more than upper and lower case".into());
                    problems.add(span.clone(), format!("field {first} is already named {other:?}"), hint);
                }
                None => {
                    names.insert(folded, (position, value.clone()));
                }
            }
        }
        if let (Some(at), false) = (&from, dialect.header) {
            let hint = "fields stand in the order of the file's columns";
            problems.push_hint(at.span.clone(), "\"from\" needs a header, and dialect.header is false", hint);
            continue;
        }
        let same_name = from.is_none();
        if let Some(At { value, span }) = from.or(name) {
            match labels.get(&value) {
                // Two equal names were reported just now.
                Some(first)
                    if !(same_name
                        && names.get(&value.to_ascii_lowercase()).is_some_and(|(named, _)| named == first)) =>
                {
                    problems.push(span, format!("field {first} already takes the label {value:?}"));
                }
                Some(_) => {}
                None => {
                    labels.insert(value, position);
                }
            }
        }
    }
}

fn drift(section: &Section<'_>) -> Drift {
    let text = |key: &str| section.text(key).map(|at| at.value).unwrap_or_default();
    Drift {
        new_columns: if text("new_columns") == "fail" { NewColumns::Fail } else { NewColumns::Ignore },
        missing_columns: if text("missing_columns") == "null" { MissingColumns::Null } else { MissingColumns::Fail },
    }
}

fn target(problems: &mut Collector<'_>, section: &Section<'_>, name: Option<&str>) -> Target {
    let mode = section.text("mode").map(|at| at.value).unwrap_or_default();
    let conflict = section.text("conflict").map(|at| at.value).unwrap_or_default();
    let table = match section.text("table") {
        Some(table) => {
            check_table(problems, &table);
            table.value
        }
        None => name.unwrap_or_default().to_owned(),
    };
    Target {
        table,
        mode: match &*mode {
            "replace" => Mode::Replace,
            "upsert" => Mode::Upsert,
            _ => Mode::Append,
        },
        conflict: if conflict == "fail" { Conflict::Fail } else { Conflict::Reject },
        create: section.boolean("create"),
        lineage: section.boolean("lineage"),
    }
}

fn check_table(problems: &mut Collector<'_>, table: &At<String>) {
    let At { value, span } = table;
    let parts: Vec<&str> = value.split('.').collect();
    if parts.len() > 2 {
        problems.push_hint(span.clone(), "the table has more than one dot", "`table` or `schema.table`");
        return;
    }
    if value.contains('"') {
        problems.push_hint(span.clone(), "the table holds quotes", "write the name itself: it is quoted where needed");
        return;
    }
    for part in &parts {
        let span: Range<usize> = span.clone();
        let what = if parts.len() == 2 { "part of the table's name" } else { "table's name" };
        check_name(problems, &At { value: (*part).to_owned(), span }, what);
    }
    let lower = value.to_ascii_lowercase();
    if lower.starts_with("aqueduct.") || lower.starts_with("aqueduct_") {
        problems.push_hint(span.clone(), "the table is among those of the ledger", "choose another schema or name");
    }
}

fn limits(problems: &mut Collector<'_>, section: &Section<'_>, fields: usize) -> Limits {
    let columns = section.integer("columns").and_then(|columns| usize::try_from(columns).ok()).unwrap_or(TABLE_COLUMNS);
    if fields > columns {
        problems.push(
            section.span_of("columns"),
            format!("limits.columns is {columns} and the schema has {fields} fields"),
        );
    }
    let record = section.bytes("record").and_then(|record| usize::try_from(record).ok());
    Limits { record: record.unwrap_or(1 << 20), columns }
}
