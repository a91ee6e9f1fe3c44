//! Text to typed cells, one family a file, and the column types they go into.
//!
//! The path of one value: [`Cleaner`] brings its text into shape, [`Converter`] makes a typed cell of it, [`Checks`]
//! judges the cell, [`write_canonical`] prints it as the database would. All four are compiled once from a field of the
//! pipeline file; none knows of CSV, of missing values or of other fields, and none looks at the host: time zones are
//! the bundled ones.
//!
//! # The rule
//! A conversion is lossless or it is a reject. What PostgreSQL refuses or would alter for `text::type` is a reject too.
//!
//! # Where we are stricter than PostgreSQL
//! - Blanks around a value are never skipped (`clean = ["trim"]` does that, in the open).
//! - Integers: no plus sign, no leading zeros, no text around; other notations (`0x10`, `1_000`) do not exist.
//! - Numbers: no leading zeros but one before the point, no NaN, no infinity. A value the column would round, scale or
//!   cut is a reject; zeros beyond the column's scale are not. An exponent that would blow a record up beyond 4 MiB is a
//!   reject.
//! - `real` and `double precision`: only numbers that PostgreSQL prints back with the same value.
//! - Years: four digits, 0001 to 9999.
//! - Booleans: the words of the field, in exactly their case.
//! - Dates and times: ISO 8601 or the field's format, nothing else is tried; no `infinity`, `epoch`, `now`, no zone names
//!   or BC in the value. Years 0001 to 9999, also once brought to UTC. No second 60, no 24:00, no digit beyond what the
//!   column keeps. A local time in a gap or an overlap of its zone is a reject; so is a time without offset and zone for
//!   `timestamptz`, and an offset for a column without zone.
//! - JSON: an object or an array as the field says, no key twice, at most 128 levels. `json` columns hold the canonical
//!   text of `jsonb` and reject what `jsonb` rejects.
//! - `varchar(n)` and `char(n)`: blanks beyond n characters are not cut off.
//! - UUIDs: 32 digits, bare or as 8-4-4-4-12; no braces, no other hyphens.
//! - `bytea` is read from base64, not from `\x…`: the standard alphabet with its padding, no blanks or line ends, nothing
//!   in the bits that mean nothing.
//! - Strings of the formats `email` and `uri`, which PostgreSQL does not know, have the form of one.
//! - Where a field has a notation of its own (`groupChar`, `decimalChar`, `bareNumber`, `format`), it is that one or a
//!   reject: no second notation is tried, hours with `%p` are 1 to 12.

mod boolean;
mod canonical;
mod checks;
mod clean;
mod column;
mod date;
mod datetime;
mod digits;
mod float;
mod format;
mod integer;
mod json;
mod number;
mod runs;
mod string;
mod time;
mod year;
mod zone;

use std::ops::Range;

pub use canonical::write_canonical;
pub use checks::Checks;
pub use clean::{Buffers, Cleaned, Cleaner};
pub use column::{ColumnType, ColumnTypeError};

use self::boolean::Boolean;
use self::datetime::Datetime;
use self::format::{Format, Subject};
use self::integer::Integer;
use self::json::Shape;
use self::number::Number;
use crate::pipeline::{Field, Kind};
use crate::reject::Reason;
use crate::row::Cell;
use crate::span::Span;

/// Makes typed cells of one field's texts.
#[derive(Clone, Debug)]
pub struct Converter {
    column: ColumnType,
    family: Family,
}

#[derive(Clone, Debug)]
enum Family {
    Text(string::Text),
    Integer(Integer),
    Number(Number),
    Boolean(Boolean),
    Year,
    Date(Option<Format>),
    Datetime(Datetime),
    Time(Option<Format>),
    Json(Shape),
}

/// What a text became.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Converted {
    /// A value of its own; spans point into the scratch.
    Cell(Cell),
    /// The text itself is the value.
    Text,
}

impl Converter {
    /// Compiles a field for a column; the error says why the two do not go together.
    pub fn compile(field: &Field, column: ColumnType) -> Result<Self, String> {
        if !column.fits(&field.kind) {
            return Err(misfit(&field.kind, column));
        }
        let format = |format: &Option<String>, subject| {
            format.as_deref().map(|format| Format::compile(format, subject)).transpose()
        };
        let family = match &field.kind {
            Kind::String { format } => Family::Text(string::Text::compile(*format, column)),
            Kind::Integer { .. } => Family::Integer(Integer::compile(&field.kind, column)?),
            Kind::Number { .. } => Family::Number(Number::compile(&field.kind, column)?),
            Kind::Boolean { true_values, false_values } => {
                Family::Boolean(Boolean::compile(true_values, false_values)?)
            }
            Kind::Date { format: text } => Family::Date(format(text, Subject::Date)?),
            Kind::Datetime { format, timezone } => {
                Family::Datetime(Datetime::compile(format.as_deref(), timezone.as_deref(), column)?)
            }
            Kind::Time { format: text } => Family::Time(format(text, Subject::Time)?),
            Kind::Year => Family::Year,
            Kind::Object => Family::Json(Shape::Object),
            Kind::Array => Family::Json(Shape::Array),
        };
        Ok(Self { column, family })
    }

    /// The column values are made for.
    pub fn column(&self) -> ColumnType {
        self.column
    }

    /// Every text without NUL and of fewer bytes is a value as it is; 0 when texts have to be looked at, the empty one too.
    pub(crate) fn verbatim(&self) -> usize {
        match &self.family {
            Family::Text(rule) => rule.verbatim(),
            _ => 0,
        }
    }

    /// Makes the cell of the text at `range` of a block, when it has the plainest form of its type: without scratch.
    /// `false` says nothing: such a text is for [`Self::convert`].
    ///
    /// The cell is written where it stays: handed up as a value it is written in pieces and copied as a whole, which stalls
    /// each time.
    #[inline]
    pub(crate) fn quick(&self, block: &[u8], range: Range<usize>, cell: &mut Cell) -> bool {
        match &self.family {
            Family::Integer(rule) => rule.quick(block, range, cell),
            Family::Number(rule) => rule.quick(block, range, cell),
            Family::Date(None) => match date::quick(&block[range]) {
                Some(days) => {
                    *cell = Cell::Days(days);
                    true
                }
                None => false,
            },
            Family::Datetime(rule) => match rule.quick(&block[range]) {
                Some(micros) => {
                    *cell = Cell::Micros(micros);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// Converts one text. Values that need bytes of their own are appended to `scratch`, which a reject leaves as it was.
    #[inline]
    pub fn convert(&self, text: &str, scratch: &mut Vec<u8>) -> Result<Converted, Reason> {
        self.convert_from(text, false, scratch)
    }

    /// `nul_free`: the text is known to hold no NUL, so strings need not be searched one by one.
    #[inline]
    pub(crate) fn convert_from(&self, text: &str, nul_free: bool, scratch: &mut Vec<u8>) -> Result<Converted, Reason> {
        let cell = match &self.family {
            Family::Text(rule) => return rule.convert(text, nul_free, scratch),
            Family::Integer(rule) => rule.convert(text, scratch)?,
            Family::Number(rule) => rule.convert(text, scratch)?,
            Family::Boolean(rule) => Cell::Bool(rule.convert(text)?),
            Family::Year => year::convert(text, self.column, scratch)?,
            Family::Date(None) => Cell::Days(date::iso(text.as_bytes())?),
            Family::Date(Some(format)) => Cell::Days(format.parse(text)?.days),
            Family::Datetime(rule) => Cell::Micros(rule.convert(text)?),
            Family::Time(format) => {
                let micros = match format {
                    None => time::iso(text.as_bytes())?,
                    Some(format) => format.parse(text)?.micros,
                };
                time::check_precision(micros, self.column)?;
                Cell::Micros(micros)
            }
            Family::Json(shape) => {
                let start = scratch.len();
                json::canonicalise(text, *shape, scratch)?;
                Cell::Json(Span::scratch(start, scratch.len() - start))
            }
        };
        Ok(Converted::Cell(cell))
    }

    /// The same for ISO 8601 texts, whatever the field's format.
    fn iso(&self) -> Self {
        let family = match &self.family {
            Family::Date(_) => Family::Date(None),
            Family::Datetime(rule) => Family::Datetime(rule.iso()),
            Family::Time(_) => Family::Time(None),
            other => other.clone(),
        };
        Self { column: self.column, family }
    }
}

fn misfit(kind: &Kind, column: ColumnType) -> String {
    let name = kind.as_str();
    match (kind, column) {
        (Kind::Datetime { .. }, ColumnType::Timestamp(_)) => {
            format!("type {name:?} with a timezone or %z does not go into {column}: the offset would be lost")
        }
        (Kind::Datetime { .. }, ColumnType::Timestamptz(_)) => {
            format!("type {name:?} needs a timezone or a format with %z to go into {column}")
        }
        _ => format!("type {name:?} does not go into {column}"),
    }
}

#[cfg(test)]
mod tests;
