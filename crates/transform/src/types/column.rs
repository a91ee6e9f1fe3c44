//! Column types: their names in SQL and which kinds of field they can hold.

use std::fmt;

use super::format::Format;
use crate::pipeline::{Kind, StringFormat};

/// A PostgreSQL column type we have a binary encoder for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Precision and scale.
    Numeric(Option<(u16, u16)>),
    Text,
    /// Characters.
    Varchar(Option<u32>),
    Char(u32),
    Date,
    /// Digits of the second kept, 0 to 6.
    Time(u8),
    Timestamp(u8),
    Timestamptz(u8),
    Json,
    Jsonb,
    Uuid,
    Bytea,
}

/// Why a text is not a column type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnTypeError {
    #[error("unknown column type {0:?}")]
    Unknown(String),
    #[error("{0:?} takes no number in parentheses")]
    NoArguments(String),
    #[error("the numbers in parentheses of {name:?} must be {legal}")]
    Arguments { name: String, legal: &'static str },
    /// PostgreSQL's `bpchar` without a length pads nothing, so it is no `char(n)`.
    #[error("bpchar without a length is not supported: use text or char(n)")]
    BareBpchar,
}

/// PostgreSQL's limit for the length of `varchar` and `char`.
const MAX_CHARACTERS: u32 = 10_485_760;
/// PostgreSQL's limit for the precision of `numeric`.
const MAX_PRECISION: u32 = 1000;

impl ColumnType {
    /// Reads a type as written in SQL, in any of PostgreSQL's spellings.
    pub fn parse(sql: &str) -> Result<Self, ColumnTypeError> {
        let unknown = || ColumnTypeError::Unknown(sql.to_owned());
        let (base, arguments, suffix) = match sql.split_once('(') {
            None => (sql, None, ""),
            Some((base, rest)) => {
                let (inside, suffix) = rest.split_once(')').ok_or_else(unknown)?;
                let numbers: Result<Vec<u32>, _> = inside.split(',').map(|number| number.trim().parse()).collect();
                (base, Some(numbers.map_err(|_| unknown())?), suffix)
            }
        };
        let words = |text: &str| text.to_ascii_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
        let (base, suffix) = (words(base), words(suffix));
        // Only the time types go on after their parentheses.
        if !suffix.is_empty() && (arguments.is_none() || !matches!(base.as_str(), "time" | "timestamp")) {
            return Err(unknown());
        }
        if base.contains(' ') && base.ends_with("time zone") && arguments.is_some() {
            return Err(unknown());
        }
        let name = format!("{base} {suffix}");
        let name = name.trim_end();
        let wrong = |legal| ColumnTypeError::Arguments { name: name.to_owned(), legal };
        let arguments = arguments.as_deref();
        let plain = |column| match arguments {
            None => Ok(column),
            Some(_) => Err(ColumnTypeError::NoArguments(name.to_owned())),
        };
        let characters = || match arguments {
            None => Ok(None),
            Some(&[n @ 1..=MAX_CHARACTERS]) => Ok(Some(n)),
            Some(_) => Err(wrong("one length, 1 to 10485760")),
        };
        let second_digits = || match arguments {
            None => Ok(6),
            Some(&[p @ 0..=6]) => Ok(p as u8),
            Some(_) => Err(wrong("one precision, 0 to 6")),
        };
        match name {
            "boolean" | "bool" => plain(Self::Bool),
            "smallint" | "int2" => plain(Self::Int2),
            "integer" | "int" | "int4" => plain(Self::Int4),
            "bigint" | "int8" => plain(Self::Int8),
            "real" | "float4" => plain(Self::Float4),
            "double precision" | "float8" => plain(Self::Float8),
            "float" => match arguments {
                None | Some(&[25..=53]) => Ok(Self::Float8),
                Some(&[1..=24]) => Ok(Self::Float4),
                Some(_) => Err(wrong("one precision in bits, 1 to 53")),
            },
            "numeric" | "decimal" | "dec" => match arguments {
                None => Ok(Self::Numeric(None)),
                Some(&[p @ 1..=MAX_PRECISION]) => Ok(Self::Numeric(Some((p as u16, 0)))),
                Some(&[p @ 1..=MAX_PRECISION, s @ 0..=MAX_PRECISION]) => Ok(Self::Numeric(Some((p as u16, s as u16)))),
                Some(_) => Err(wrong("a precision, 1 to 1000, and perhaps a scale, 0 to 1000")),
            },
            "text" => plain(Self::Text),
            "varchar" | "character varying" | "char varying" => characters().map(Self::Varchar),
            "char" | "character" => characters().map(|n| Self::Char(n.unwrap_or(1))),
            "bpchar" => characters()?.map(Self::Char).ok_or(ColumnTypeError::BareBpchar),
            "date" => plain(Self::Date),
            "time" | "time without time zone" => second_digits().map(Self::Time),
            "timestamp" | "timestamp without time zone" => second_digits().map(Self::Timestamp),
            "timestamptz" | "timestamp with time zone" => second_digits().map(Self::Timestamptz),
            "json" => plain(Self::Json),
            "jsonb" => plain(Self::Jsonb),
            "uuid" => plain(Self::Uuid),
            "bytea" => plain(Self::Bytea),
            _ => Err(unknown()),
        }
    }

    /// Whether a field of this kind can go into such a column at all. Single values may still be out of its range.
    pub fn fits(self, kind: &Kind) -> bool {
        let is_text = matches!(self, Self::Text | Self::Varchar(_) | Self::Char(_));
        match kind {
            Kind::String { format: StringFormat::Uuid } => is_text || self == Self::Uuid,
            Kind::String { format: StringFormat::Binary } => is_text || self == Self::Bytea,
            Kind::String { .. } => is_text,
            Kind::Integer { .. } | Kind::Year => {
                matches!(self, Self::Int2 | Self::Int4 | Self::Int8 | Self::Numeric(_))
            }
            Kind::Number { .. } => matches!(self, Self::Numeric(_) | Self::Float4 | Self::Float8),
            Kind::Boolean { .. } => self == Self::Bool,
            Kind::Date { .. } => self == Self::Date,
            Kind::Datetime { format, timezone } => {
                let offset = format.as_deref().is_some_and(Format::mentions_offset);
                match self {
                    Self::Timestamp(_) => timezone.is_none() && !offset,
                    // ISO 8601 values may carry their own offset.
                    Self::Timestamptz(_) => timezone.is_some() || offset || format.is_none(),
                    _ => false,
                }
            }
            Kind::Time { .. } => matches!(self, Self::Time(_)),
            Kind::Object | Kind::Array => matches!(self, Self::Json | Self::Jsonb),
        }
    }
}

/// As PostgreSQL's `format_type` prints it. Precision 6 is the default of the time types and left out.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timed = |f: &mut fmt::Formatter<'_>, name: &str, p: u8, zone: &str| match p {
            6 => write!(f, "{name} {zone} time zone"),
            p => write!(f, "{name}({p}) {zone} time zone"),
        };
        match *self {
            Self::Bool => f.write_str("boolean"),
            Self::Int2 => f.write_str("smallint"),
            Self::Int4 => f.write_str("integer"),
            Self::Int8 => f.write_str("bigint"),
            Self::Float4 => f.write_str("real"),
            Self::Float8 => f.write_str("double precision"),
            Self::Numeric(None) => f.write_str("numeric"),
            Self::Numeric(Some((p, s))) => write!(f, "numeric({p},{s})"),
            Self::Text => f.write_str("text"),
            Self::Varchar(None) => f.write_str("character varying"),
            Self::Varchar(Some(n)) => write!(f, "character varying({n})"),
            Self::Char(n) => write!(f, "character({n})"),
            Self::Date => f.write_str("date"),
            Self::Time(p) => timed(f, "time", p, "without"),
            Self::Timestamp(p) => timed(f, "timestamp", p, "without"),
            Self::Timestamptz(p) => timed(f, "timestamp", p, "with"),
            Self::Json => f.write_str("json"),
            Self::Jsonb => f.write_str("jsonb"),
            Self::Uuid => f.write_str("uuid"),
            Self::Bytea => f.write_str("bytea"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_postgresql_is_read() {
        for (sql, column) in [
            ("smallint", ColumnType::Int2),
            ("int2", ColumnType::Int2),
            ("INTEGER", ColumnType::Int4),
            ("int", ColumnType::Int4),
            ("int4", ColumnType::Int4),
            ("bigint", ColumnType::Int8),
            ("Int8", ColumnType::Int8),
            ("real", ColumnType::Float4),
            ("float4", ColumnType::Float4),
            ("float(24)", ColumnType::Float4),
            ("float(25)", ColumnType::Float8),
            ("float", ColumnType::Float8),
            ("double   precision", ColumnType::Float8),
            ("float8", ColumnType::Float8),
            ("numeric", ColumnType::Numeric(None)),
            ("decimal(5)", ColumnType::Numeric(Some((5, 0)))),
            ("numeric ( 12 , 2 )", ColumnType::Numeric(Some((12, 2)))),
            ("numeric(2,5)", ColumnType::Numeric(Some((2, 5)))),
            ("boolean", ColumnType::Bool),
            ("bool", ColumnType::Bool),
            ("text", ColumnType::Text),
            ("varchar", ColumnType::Varchar(None)),
            (" varchar(40) ", ColumnType::Varchar(Some(40))),
            ("character varying (7)", ColumnType::Varchar(Some(7))),
            ("char", ColumnType::Char(1)),
            ("character(3)", ColumnType::Char(3)),
            ("bpchar(3)", ColumnType::Char(3)),
            ("date", ColumnType::Date),
            ("time", ColumnType::Time(6)),
            ("time(0) without time zone", ColumnType::Time(0)),
            ("timestamp", ColumnType::Timestamp(6)),
            ("timestamp(3)", ColumnType::Timestamp(3)),
            ("timestamp without time zone", ColumnType::Timestamp(6)),
            ("timestamp with time zone", ColumnType::Timestamptz(6)),
            ("timestamp (2) with  time zone", ColumnType::Timestamptz(2)),
            ("timestamptz(1)", ColumnType::Timestamptz(1)),
            ("json", ColumnType::Json),
            ("jsonb", ColumnType::Jsonb),
            ("uuid", ColumnType::Uuid),
            ("bytea", ColumnType::Bytea),
        ] {
            assert_eq!(ColumnType::parse(sql), Ok(column), "{sql}");
            assert_eq!(ColumnType::parse(&column.to_string()), Ok(column), "{sql} printed");
        }
    }

    #[test]
    fn what_is_no_column_type_is_refused() {
        for sql in [
            "",
            "strin",
            "int(4)",
            "int 4",
            "varchar(0)",
            "varchar(10485761)",
            "varchar(1,2)",
            "varchar()",
            "varchar(a)",
            "numeric(0)",
            "numeric(1001)",
            "numeric(5,-2)",
            "numeric(5,2,1)",
            "timestamp(7)",
            "timetz",
            "text)",
            "text(",
            "time with time zone",
            "timestamp with time zone(3)",
            "bpchar",
            "int4; drop table t",
            "varchar(3) x",
            "(3)",
            "text[]",
            "interval",
        ] {
            assert!(ColumnType::parse(sql).is_err(), "{sql}");
        }
    }
}
