//! Every key of a pipeline file, once: its type, its default and one line of what it does.
//!
//! Parsing, the hints after a misspelt key, the JSON Schema and the reference are all made from [`KEYS`].

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// From the root; `[]` follows an array of tables: `schema.fields[].constraints.minimum`.
    pub(crate) path: &'static str,
    pub(crate) value: Value,
    pub(crate) default: Default,
    pub(crate) doc: &'static str,
    /// Field types the key applies to; empty for all.
    pub(crate) of: &'static [&'static str],
    pub(crate) later: bool,
}

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Text,
    /// One character; empty for none.
    Character {
        ascii: bool,
    },
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    /// Integer or decimal.
    Percent,
    /// An integer of bytes, or text such as `"64 KiB"`.
    Bytes {
        min: u64,
        max: u64,
    },
    Choice(&'static [Choice]),
    /// Text, number, boolean or date, kept as it was written.
    Scalar,
    Texts,
    Scalars,
    /// `[precision, scale]`.
    Precision,
    /// Names of cleaning steps, and tables.
    Steps(&'static [Choice]),
    /// Any keys, with text behind each.
    TextByText,
    Table,
    Tables,
}

/// One of the values a key takes.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) value: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) later: bool,
}

/// What stands for a key that is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    Required,
    /// As one would write it in the file. The parser reads this very text.
    Toml(&'static str),
    /// In words, when it depends on something else.
    Words(&'static str),
}

const fn choice(value: &'static str, doc: &'static str) -> Choice {
    Choice { value, doc, later: false }
}

const fn later(value: &'static str, doc: &'static str) -> Choice {
    Choice { value, doc, later: true }
}

const fn key(path: &'static str, value: Value, default: Default, doc: &'static str) -> Key {
    Key { path, value, default, doc, of: &[], later: false }
}

const fn key_of(
    path: &'static str,
    of: &'static [&'static str],
    value: Value,
    default: Default,
    doc: &'static str,
) -> Key {
    Key { path, value, default, doc, of, later: false }
}

const fn later_key(path: &'static str, doc: &'static str) -> Key {
    Key { path, value: Value::Scalar, default: Default::Words("not built yet"), doc, of: &[], later: true }
}

const ASCII: Value = Value::Character { ascii: true };
const CHARACTER: Value = Value::Character { ascii: false };
const NONE: Default = Default::Words("none");
const ANY_COUNT: Value = Value::Integer { min: 0, max: u32::MAX as u64 };
const MEASURED: &[&str] = &["string", "object", "array"];
const ORDERED: &[&str] = &["integer", "number", "date", "datetime", "time", "year"];

pub(crate) const KEYS: &[Key] = &[
    key("version", Value::Integer { min: 1, max: 1 }, Default::Required, "Version of this file format."),
    key(
        "name",
        Value::Text,
        Default::Required,
        "The pipeline's name in reports and in the ledger: a letter, then letters, digits, `_` and `-`, at most 63 in all.",
    ),
    key("source", Value::Table, Default::Required, "Which objects are loaded."),
    key(
        "source.path",
        Value::Text,
        Default::Required,
        "Glob below the store, such as `customers/*.csv*`. Gzip, Zstandard and bzip2 are recognised by their first bytes.",
    ),
    key(
        "source.encoding",
        Value::Text,
        Default::Toml("\"utf-8\""),
        "A WHATWG encoding label: UTF-8, UTF-16 or any single-byte encoding. A byte order mark of another encoding is an error; in UTF-16 it decides the byte order.",
    ),
    key(
        "source.on_change",
        Value::Choice(&[
            choice("replace", "The rows of the earlier load give way to the new ones; for append with lineage."),
            choice(
                "upsert",
                "The new bytes are upserted, too; rows whose records are gone stay. For `mode = \"upsert\"`.",
            ),
            choice("ignore", "The new bytes are not loaded."),
            choice("fail", "The run stops and names the object."),
        ]),
        Default::Words("`\"replace\"`; `\"upsert\"` in that mode; `\"fail\"` where else `target.lineage = false`"),
        "What to do when a key that was loaded holds new bytes. Not for `mode = \"replace\"`, where the newest object always replaces the table.",
    ),
    key(
        "dialect",
        Value::Table,
        Default::Toml("{}"),
        "How records and fields are told apart (Frictionless Table Dialect).",
    ),
    key(
        "dialect.delimiter",
        ASCII,
        Default::Words("found from the first records, and said"),
        "Stands between fields. A first line `sep=;` names it, too.",
    ),
    key("dialect.quoteChar", ASCII, Default::Toml("'\"'"), "Stands around a field; `\"\"` for a file without quotes."),
    key(
        "dialect.doubleQuote",
        Value::Boolean,
        Default::Toml("true"),
        "Two quotes inside a quoted field are one quote.",
    ),
    key("dialect.escapeChar", ASCII, NONE, "Inside quotes, the character after it stands for itself."),
    key("dialect.skipInitialSpace", Value::Boolean, Default::Toml("false"), "Spaces after a delimiter are dropped."),
    key(
        "dialect.header",
        Value::Boolean,
        Default::Toml("true"),
        "The first record names the columns; else fields stand by position.",
    ),
    key("dialect.commentChar", ASCII, NONE, "A line that starts with it is skipped, however long it is."),
    key("schema", Value::Table, Default::Required, "Columns, types and rules (Frictionless Table Schema)."),
    key(
        "schema.missingValues",
        Value::Texts,
        Default::Toml("[\"\"]"),
        "Texts that mean a missing value, compared with the cell's text as it is and once cleaned, quoted or not.",
    ),
    key(
        "schema.primaryKey",
        Value::Texts,
        Default::Toml("[]"),
        "Names of the fields that make the table's key. They become required.",
    ),
    key("schema.fields", Value::Tables, Default::Required, "The columns of the table, in its order."),
    key("schema.fields[].name", Value::Text, Default::Required, "The column's name, at most 63 bytes."),
    key("schema.fields[].from", Value::Text, Default::Words("the field's `name`"), "The label in the file's header."),
    key(
        "schema.fields[].type",
        Value::Choice(&[
            choice("string", "text"),
            choice("integer", "whole number"),
            choice("number", "exact decimal"),
            choice("boolean", "true or false"),
            choice("date", "day of the calendar"),
            choice("datetime", "date and time of day"),
            choice("time", "time of day"),
            choice("year", "year of four digits"),
            choice("object", "JSON object"),
            choice("array", "JSON array"),
        ]),
        Default::Toml("\"string\""),
        "What the field's text is read as.",
    ),
    key_of(
        "schema.fields[].format",
        &["string", "date", "datetime", "time"],
        Value::Text,
        Default::Toml("\"default\""),
        "string: `default`, `email`, `uri`, `uuid` or `binary` (base64); date, datetime, time: `default` (ISO 8601) or strftime directives such as `%d/%m/%Y`.",
    ),
    key_of(
        "schema.fields[].timezone",
        &["datetime"],
        Value::Text,
        NONE,
        "IANA name for values without an offset, such as `Europe/Paris`. The column becomes `timestamptz`.",
    ),
    key_of(
        "schema.fields[].groupChar",
        &["integer", "number"],
        CHARACTER,
        NONE,
        "Stands between groups of digits, such as `,` in `1,000`.",
    ),
    key_of(
        "schema.fields[].decimalChar",
        &["number"],
        CHARACTER,
        Default::Toml("\".\""),
        "Stands before the decimals.",
    ),
    key_of(
        "schema.fields[].bareNumber",
        &["integer", "number"],
        Value::Boolean,
        Default::Toml("true"),
        "`false` takes the number out of text around it, such as `EUR 5` or `95%`.",
    ),
    key_of(
        "schema.fields[].precision",
        &["number"],
        Value::Precision,
        NONE,
        "`[digits, decimals]` of the `numeric` column. A value with more is a reject, never rounded.",
    ),
    key_of(
        "schema.fields[].trueValues",
        &["boolean"],
        Value::Texts,
        Default::Toml("[\"true\", \"True\", \"TRUE\", \"1\"]"),
        "Texts that mean true.",
    ),
    key_of(
        "schema.fields[].falseValues",
        &["boolean"],
        Value::Texts,
        Default::Toml("[\"false\", \"False\", \"FALSE\", \"0\"]"),
        "Texts that mean false.",
    ),
    key(
        "schema.fields[].sqlType",
        Value::Text,
        Default::Words("the type's own column type"),
        "The PostgreSQL type of the column, such as `smallint` or `varchar(40)`. A value it cannot hold unchanged is a reject.",
    ),
    key("schema.fields[].default", Value::Scalar, NONE, "Stands in for a missing value, in the field's own notation."),
    key(
        "schema.fields[].clean",
        Value::Steps(&[
            choice("trim", "Spaces at both ends go."),
            choice("lower", "Lower case."),
            choice("upper", "Upper case."),
            choice("collapse_spaces", "Runs of spaces become one space."),
            choice("nfc", "Unicode normal form C."),
        ]),
        Default::Toml("[]"),
        "Steps applied to the text, in order, before anything else looks at it.",
    ),
    key(
        "schema.fields[].clean[].replace",
        Value::Text,
        NONE,
        "Step: this text, wherever it stands, is replaced by `with`.",
    ),
    key(
        "schema.fields[].clean[].regex",
        Value::Text,
        NONE,
        "Step: each match is replaced by `with`, in which `$1` and `${name}` are groups. Matching takes linear time.",
    ),
    key("schema.fields[].clean[].with", Value::Text, NONE, "What `replace` or `regex` puts in; required beside them."),
    key(
        "schema.fields[].clean[].map",
        Value::TextByText,
        NONE,
        "Step: a whole value that stands here becomes the other one.",
    ),
    later_key("schema.fields[].mask", "Keep a field's values out of rejects and reports."),
    key("schema.fields[].constraints", Value::Table, Default::Toml("{}"), "Rules a value must keep."),
    key(
        "schema.fields[].constraints.required",
        Value::Boolean,
        Default::Toml("false"),
        "A missing value is a reject, and the column is `not null`.",
    ),
    key_of(
        "schema.fields[].constraints.minLength",
        MEASURED,
        ANY_COUNT,
        NONE,
        "Least length in characters; in items for object and array.",
    ),
    key_of(
        "schema.fields[].constraints.maxLength",
        MEASURED,
        ANY_COUNT,
        NONE,
        "Greatest length in characters; in items for object and array.",
    ),
    key_of("schema.fields[].constraints.minimum", ORDERED, Value::Scalar, NONE, "Least value."),
    key_of("schema.fields[].constraints.maximum", ORDERED, Value::Scalar, NONE, "Greatest value."),
    key_of("schema.fields[].constraints.exclusiveMinimum", ORDERED, Value::Scalar, NONE, "Values must be greater."),
    key_of("schema.fields[].constraints.exclusiveMaximum", ORDERED, Value::Scalar, NONE, "Values must be less."),
    key_of(
        "schema.fields[].constraints.pattern",
        &["string"],
        Value::Text,
        NONE,
        "Regular expression that must match the whole value.",
    ),
    key(
        "schema.fields[].constraints.enum",
        Value::Scalars,
        NONE,
        "The only values allowed, in the field's own notation.",
    ),
    later_key("schema.fields[].constraints.unique", "No value twice in the column; until then, `schema.primaryKey`."),
    later_key("rows", "Filter, derive and deduplicate records with SQL expressions."),
    key("drift", Value::Table, Default::Toml("{}"), "What to do when a file's header differs from the fields."),
    key(
        "drift.new_columns",
        Value::Choice(&[
            choice("ignore", "The columns are left out, counted and reported."),
            choice("fail", "The load stops."),
            later("rescue", "The values go into a JSON column."),
        ]),
        Default::Toml("\"ignore\""),
        "The header has labels no field asks for.",
    ),
    key(
        "drift.missing_columns",
        Value::Choice(&[choice("null", "The column's values are missing."), choice("fail", "The load stops.")]),
        Default::Toml("\"fail\""),
        "A field's label is not in the header. A header that has none of them is always refused: it may be a record.",
    ),
    key("target", Value::Table, Default::Toml("{}"), "The table that is loaded."),
    key(
        "target.table",
        Value::Text,
        Default::Words("the pipeline's `name`"),
        "`table` or `schema.table`, without quotes and with the case as written.",
    ),
    key(
        "target.mode",
        Value::Choice(&[
            choice("append", "Each object's rows are added."),
            choice("replace", "The newest object's rows replace the table's, in one transaction."),
            choice("upsert", "Rows replace those with the same key; of records with the same key the last one counts."),
        ]),
        Default::Toml("\"append\""),
        "How rows get into the table.",
    ),
    key(
        "target.create",
        Value::Boolean,
        Default::Toml("true"),
        "Create the table if it is missing; else compare it before loading.",
    ),
    key(
        "target.conflict",
        Value::Choice(&[
            choice("reject", "The record is set aside; of records with the same key the first one stays."),
            choice("fail", "The load fails."),
        ]),
        Default::Toml("\"reject\""),
        "A record's key stands in the table already, or in an earlier record of the object. In `mode = \"upsert\"`: a key other than `primaryKey`.",
    ),
    key(
        "target.lineage",
        Value::Boolean,
        Default::Toml("true"),
        "Columns `_load_id` and `_record` say where each row came from; `undo` and `on_change = \"replace\"` need them.",
    ),
    key("errors", Value::Table, Default::Toml("{}"), "When too many records are bad."),
    key(
        "errors.limit",
        Value::Table,
        Default::Toml("{ rows = 1000, percent = 5.0 }"),
        "More rejects than this and nothing of the object is loaded. A limit left out of a written table does not apply.",
    ),
    key(
        "errors.limit.rows",
        Value::Integer { min: 0, max: i64::MAX as u64 },
        NONE,
        "Rejected records, judged as they come; 0 allows none.",
    ),
    key(
        "errors.limit.percent",
        Value::Percent,
        NONE,
        "Of the records read, judged at the end and from 1,000 records on.",
    ),
    key("limits", Value::Table, Default::Toml("{}"), "Bounds on memory."),
    key(
        "limits.record",
        Value::Bytes { min: 1 << 10, max: 16 << 20 },
        Default::Toml("\"1 MiB\""),
        "Greatest length of one record: bytes, or text with `KiB` or `MiB`. A longer record is a reject.",
    ),
    key(
        "limits.columns",
        Value::Integer { min: 1, max: 1600 },
        Default::Toml("1600"),
        "Most columns a header may have.",
    ),
    later_key("checks", "Questions to the table after a load."),
    later_key("tests", "Example records and what should become of them."),
];

impl Key {
    /// The table the key stands in.
    pub(crate) fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The key as written in its table.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

/// The keys of one table, in the order of [`KEYS`].
pub(crate) fn keys_in(table: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.parent() == table)
}

/// The key `name` of one table.
pub(crate) fn key_in(table: &str, name: &str) -> Option<&'static Key> {
    keys_in(table).find(|key| key.name() == name)
}

/// The candidate a person most likely meant.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any of ours: comparing would only cost time.
    if written.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.replace(['_', '-', ' '], "").to_lowercase();
    let written = plain(written);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let plain = plain(candidate);
            let starts = |long: &str, short: &str| short.len() >= 3 && long.starts_with(short);
            let is_cut = starts(&plain, &written) || starts(&written, &plain);
            let distance = if is_cut { 1 } else { strsim::damerau_levenshtein(&written, &plain) };
            (is_cut || distance <= plain.len().max(written.len()) / 3).then_some((distance, candidate))
        })
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}
