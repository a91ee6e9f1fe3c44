//! The pipeline file: what a person wrote, checked, with every default filled in.
//!
//! Text in, a [`Pipeline`] or all [`Problems`] of the text out. One table, `KEYS`, says which keys there are, of what type
//! and with what default; parsing, hints, [`json_schema`] and [`reference()`] are made from it. Never: a file, a store, a
//! database; a pipeline file names neither of the last two, so that the same file runs on a laptop and on AWS.

mod check;
mod compile;
mod field;
mod fingerprint;
mod keys;
mod pattern;
mod problem;
mod read;
mod reference;
mod section;
#[cfg(test)]
mod tests;
mod zone;

use std::ops::Range;

use toml::de::DeTable;

use crate::encoding::Encoding;
use crate::types::ColumnType;

use problem::Collector;
pub use problem::{Problem, Problems};
pub use reference::{json_schema, reference, renew_reference};

/// A pipeline file is written by a person; more than this is not one.
const TEXT_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct Pipeline {
    pub name: String,
    pub source: Source,
    pub dialect: Dialect,
    pub schema: Schema,
    pub drift: Drift,
    pub target: Target,
    pub errors: Errors,
    pub limits: Limits,
}

impl Pipeline {
    /// Reads a pipeline file's text, or says all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let mut problems = Collector::new(text);
        if text.len() > TEXT_BYTES {
            problems.push(0..0, format!("a pipeline file is at most {TEXT_BYTES} bytes long"));
            return Err(problems.finish());
        }
        let (root, syntax) = DeTable::parse_recoverable(text);
        for error in &syntax {
            let span = error.span().unwrap_or(0..0);
            match bare_word(text, &span, error.message()) {
                Some(word) => {
                    let quoted = &text[word.clone()];
                    let message = format!("{quoted} is no value of TOML");
                    problems.push_hint(word, message, format!("text needs quotes: \"{quoted}\""));
                }
                None => problems.push(span, syntax_message(error.message())),
            }
        }
        // A tree that was mended by guessing has problems nobody wrote.
        if problems.is_empty() {
            check::table(&mut problems, "", root.get_ref(), 0..0);
            if let Some(pipeline) = read::pipeline(&mut problems, &root)
                && problems.is_empty()
            {
                return Ok(pipeline);
            }
        }
        Err(problems.finish())
    }

    /// What is wrong with `source.path` of a pipeline file's text, in the words of whoever knows patterns.
    pub fn wrong_path(text: &str, message: impl Into<String>) -> Problems {
        let mut problems = Collector::new(text);
        let (root, _) = DeTable::parse_recoverable(text);
        let source = root.get_ref().get("source").and_then(|source| source.get_ref().as_table());
        let span = source.and_then(|source| source.get("path")).map_or(0..0, |path| path.span());
        problems.push(span, message);
        problems.finish()
    }

    /// A canonical text of all that changes what a load does: encoding, dialect, schema, drift, target and limits.
    ///
    /// Name, source path and reject limit are not part of it, nor are comments, order of keys and defaults written out.
    /// The same on every platform, so that its hash can be compared with one made elsewhere.
    pub fn fingerprint(&self) -> String {
        fingerprint::fingerprint(self)
    }
}

/// The word at `span`, when it is text that somebody wrote without quotes: the parser guesses at a number.
fn bare_word(text: &str, span: &Range<usize>, message: &str) -> Option<Range<usize>> {
    let is_part = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-');
    let before = text.get(..span.start)?;
    let start =
        before.rfind(|char| !is_part(char)).map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let rest = &text[start..];
    let word = &rest[..rest.find(|char| !is_part(char)).unwrap_or(rest.len())];
    let value_begins = text[..start].trim_end().ends_with(['=', '[', ',']);
    let is_guess = ["float", "number", "quoted", "inf", "nan", "boolean", "true", "false"]
        .iter()
        .any(|guess| message.contains(guess));
    (is_guess && value_begins && word.starts_with(char::is_alphabetic)).then(|| start..start + word.len())
}

fn syntax_message(message: &str) -> String {
    message.replace('\n', ", ")
}

#[derive(Clone, Debug)]
pub struct Source {
    /// Glob below the store.
    pub path: String,
    pub encoding: Encoding,
    pub on_change: OnChange,
}

/// The same key holds new bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    Replace,
    Upsert,
    Ignore,
    Fail,
}

/// How records and fields are told apart. All characters are ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// `None`: not given, to be sniffed from the first records.
    pub delimiter: Option<u8>,
    pub quote: Option<u8>,
    pub double_quote: bool,
    pub escape: Option<u8>,
    pub skip_initial_space: bool,
    pub header: bool,
    pub comment: Option<u8>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            delimiter: None,
            quote: Some(b'"'),
            double_quote: true,
            escape: None,
            skip_initial_space: false,
            header: true,
            comment: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Schema {
    pub missing_values: Vec<String>,
    /// Names of fields.
    pub primary_key: Vec<String>,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// The header's label, when it differs from the name.
    pub from: Option<String>,
    pub kind: Kind,
    /// The column type the person asked for; else the kind's own.
    pub sql_type: Option<ColumnType>,
    pub constraints: Constraints,
    pub clean: Vec<Clean>,
    /// Text that stands in for a missing value; converted like any other.
    pub default: Option<String>,
}

impl Field {
    /// The label looked for in the header.
    pub fn label(&self) -> &str {
        self.from.as_deref().unwrap_or(&self.name)
    }

    /// The column a table made by us gets.
    pub fn column_type(&self) -> ColumnType {
        self.sql_type.unwrap_or_else(|| self.kind.column_type())
    }
}

/// A field's type with what belongs to it.
#[derive(Clone, Debug)]
pub enum Kind {
    String {
        format: StringFormat,
    },
    Integer {
        bare: bool,
        group: Option<char>,
    },
    Number {
        decimal: char,
        group: Option<char>,
        bare: bool,
        precision: Option<(u16, u16)>,
    },
    Boolean {
        true_values: Vec<String>,
        false_values: Vec<String>,
    },
    /// `format` is `None` for ISO 8601, else strftime directives.
    Date {
        format: Option<String>,
    },
    /// `timezone` is an IANA name for values without an offset.
    Datetime {
        format: Option<String>,
        timezone: Option<String>,
    },
    Time {
        format: Option<String>,
    },
    Year,
    Object,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringFormat {
    Default,
    Email,
    Uri,
    Uuid,
    /// base64
    Binary,
}

impl Kind {
    /// The PostgreSQL type a column of this kind gets when the file names none.
    pub fn column_type(&self) -> ColumnType {
        match self {
            Self::String { format: StringFormat::Uuid } => ColumnType::Uuid,
            Self::String { format: StringFormat::Binary } => ColumnType::Bytea,
            Self::String { .. } => ColumnType::Text,
            Self::Integer { .. } => ColumnType::Int8,
            Self::Number { precision, .. } => ColumnType::Numeric(*precision),
            Self::Boolean { .. } => ColumnType::Bool,
            Self::Date { .. } => ColumnType::Date,
            Self::Datetime { format, timezone } => {
                let zoned = timezone.is_some() || format.as_deref().is_some_and(|f| f.replace("%%", "").contains("%z"));
                if zoned { ColumnType::Timestamptz(6) } else { ColumnType::Timestamp(6) }
            }
            Self::Time { .. } => ColumnType::Time(6),
            Self::Year => ColumnType::Int4,
            Self::Object | Self::Array => ColumnType::Jsonb,
        }
    }

    /// The name in the pipeline file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::String { .. } => "string",
            Self::Integer { .. } => "integer",
            Self::Number { .. } => "number",
            Self::Boolean { .. } => "boolean",
            Self::Date { .. } => "date",
            Self::Datetime { .. } => "datetime",
            Self::Time { .. } => "time",
            Self::Year => "year",
            Self::Object => "object",
            Self::Array => "array",
        }
    }
}

/// Bounds are kept as the text of the file and compiled with the field's own converter, so that a minimum of a date
/// field is a date.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    pub required: bool,
    /// In characters; for object and array, in items.
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub minimum: Option<String>,
    pub maximum: Option<String>,
    pub exclusive_minimum: Option<String>,
    pub exclusive_maximum: Option<String>,
    /// Matches the whole value.
    pub pattern: Option<String>,
    /// The only values allowed, in the field's own notation.
    pub one_of: Option<Vec<String>>,
}

/// One cleaning step. Patterns were checked when the file was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clean {
    Trim,
    Lower,
    Upper,
    CollapseSpaces,
    Nfc,
    Replace {
        find: String,
        with: String,
    },
    Regex {
        pattern: String,
        with: String,
    },
    /// Whole values by other values.
    Map(Vec<(String, String)>),
}

#[derive(Clone, Debug)]
pub struct Drift {
    pub new_columns: NewColumns,
    pub missing_columns: MissingColumns,
}

/// The header has a label no field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewColumns {
    /// Counted and reported.
    Ignore,
    Fail,
}

/// A field's label is not in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingColumns {
    Null,
    Fail,
}

#[derive(Clone, Debug)]
pub struct Target {
    /// As written: `table` or `schema.table`, without quotes.
    pub table: String,
    pub mode: Mode,
    pub conflict: Conflict,
    pub create: bool,
    pub lineage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Append,
    Replace,
    Upsert,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Upsert => "upsert",
        }
    }
}

/// What becomes of a record whose key the table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    Reject,
    Fail,
}

/// How many rejects a load bears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    pub limit_rows: Option<u64>,
    /// Judged at the end, from 1,000 records on.
    pub limit_percent: Option<f64>,
}

/// `errors.limit.percent` is judged from this many records on: one bad record of three is no trend.
const PERCENT_FROM: u64 = 1_000;

impl Errors {
    /// The limit of rows, once `rejected` is over it.
    pub fn rows_exceeded(&self, rejected: u64) -> Option<u64> {
        self.limit_rows.filter(|&limit| rejected > limit)
    }

    /// The limit in percent, when a file of `read` records with `rejected` rejects is over it.
    pub fn percent_exceeded(&self, read: u64, rejected: u64) -> Option<f64> {
        let over = |&limit: &f64| read >= PERCENT_FROM && rejected as f64 * 100.0 > limit * read as f64;
        self.limit_percent.filter(over)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one record.
    pub record: usize,
    pub columns: usize,
}
