//! Dates with times: ISO 8601 or by a format, with an offset, in a named zone, or without either.

use super::format::{Format, Subject};
use super::zone::Zone;
use super::{date, time};
use crate::reject::Reason;
use crate::types::ColumnType;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 0001-01-01 00:00 and the first microsecond after the year 9999: what can be written with four digits of the year.
const FIRST: i64 = -62_135_596_800_000_000;
const END: i64 = 253_402_300_800_000_000;

#[derive(Clone, Debug)]
pub(super) struct Datetime {
    column: ColumnType,
    format: Option<Format>,
    zone: Option<Zone>,
    has_zone: bool,
    /// The column keeps less than six digits of the second.
    is_coarse: bool,
}

impl Datetime {
    pub(super) fn compile(format: Option<&str>, timezone: Option<&str>, column: ColumnType) -> Result<Self, String> {
        Ok(Self {
            column,
            format: format.map(|format| Format::compile(format, Subject::Datetime)).transpose()?,
            zone: timezone.map(Zone::compile).transpose()?,
            has_zone: matches!(column, ColumnType::Timestamptz(_)),
            is_coarse: matches!(column, ColumnType::Timestamp(p) | ColumnType::Timestamptz(p) if p < 6),
        })
    }

    /// The same for ISO 8601 texts.
    pub(super) fn iso(&self) -> Self {
        Self { format: None, ..self.clone() }
    }

    /// Microseconds since 1970-01-01 00:00, in UTC when the column has a time zone.
    #[inline]
    pub(super) fn convert(&self, text: &str) -> Result<i64, Reason> {
        let (local, offset) = match &self.format {
            None => iso(text.as_bytes())?,
            Some(format) => {
                let parsed = format.parse(text)?;
                (i64::from(parsed.days) * MICROS_PER_DAY + parsed.micros, parsed.offset)
            }
        };
        if self.is_coarse {
            time::check_precision(local, self.column)?;
        }
        let offset = match (self.has_zone, offset) {
            (false, None) => return Ok(local),
            (false, Some(_)) => return Err(Reason::UnexpectedOffset),
            (true, Some(offset)) => offset,
            (true, None) => {
                let zone = self.zone.as_ref().ok_or(Reason::MissingOffset)?;
                zone.offset_at(local.div_euclid(1_000_000))?
            }
        };
        let micros = local - i64::from(offset) * 1_000_000;
        if !(FIRST..END).contains(&micros) {
            return Err(Reason::OutOfRange(self.column));
        }
        Ok(micros)
    }
}

/// `YYYY-MM-DD[T ]HH:MM[:SS[.f]][offset]`: local microseconds since 1970-01-01 00:00, and the offset's seconds.
#[inline]
fn iso(text: &[u8]) -> Result<(i64, Option<i32>), Reason> {
    let Some((head, rest)) = text.split_first_chunk::<10>() else { return Err(Reason::NotDatetime) };
    let [b'T' | b' ', clock @ ..] = rest else { return Err(Reason::NotDatetime) };
    let (year, month, day) = date::fields(head).ok_or(Reason::NotDatetime)?;
    let (micros, rest) = time::clock(clock, Reason::NotDatetime)?;
    let days = date::checked_days(year, month, day)?;
    let local = i64::from(days) * MICROS_PER_DAY + micros;
    if rest.is_empty() {
        return Ok((local, None));
    }
    match time::offset(rest).ok_or(Reason::NotDatetime)?? {
        (offset, []) => Ok((local, Some(offset))),
        _ => Err(Reason::NotDatetime),
    }
}
