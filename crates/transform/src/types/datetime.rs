//! Dates with times: ISO 8601 or by a format, with an offset, in a named zone, or without either.

use super::digits::Form;
use super::format::{Format, Subject};
use super::zone::Zone;
use super::{date, time};
use crate::reject::Reason;
use crate::types::ColumnType;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 0001-01-01 00:00 and the first microsecond after the year 9999: what can be written with four digits of the year.
const FIRST: i64 = -62_135_596_800_000_000;
const END: i64 = 253_402_300_800_000_000;

/// The format that is ISO 8601 with seconds and an offset.
const ISO: &str = "%Y-%m-%dT%H:%M:%S%z";

#[derive(Clone, Debug)]
pub(super) struct Datetime {
    column: ColumnType,
    format: Option<Format>,
    zone: Option<Zone>,
    has_zone: bool,
    /// The format is ISO 8601 with seconds and an offset, which is read without the general way.
    is_iso: bool,
    /// The column keeps less than six digits of the second.
    is_coarse: bool,
    /// Whether what [`plain`] reads may stand.
    reads_plain: bool,
}

impl Datetime {
    pub(super) fn compile(format: Option<&str>, timezone: Option<&str>, column: ColumnType) -> Result<Self, String> {
        let is_iso = format == Some(ISO);
        let has_zone = matches!(column, ColumnType::Timestamptz(_));
        Ok(Self {
            column,
            format: format.map(|format| Format::compile(format, Subject::Datetime)).transpose()?,
            zone: timezone.map(Zone::compile).transpose()?,
            is_iso,
            has_zone,
            // It has no fraction, so a coarse column keeps all of it.
            reads_plain: has_zone && (format.is_none() || is_iso),
            is_coarse: matches!(column, ColumnType::Timestamp(p) | ColumnType::Timestamptz(p) if p < 6),
        })
    }

    /// The same for ISO 8601 texts.
    pub(super) fn iso(&self) -> Self {
        Self { format: None, reads_plain: self.has_zone, ..self.clone() }
    }

    /// See [`super::Converter::quick`]: ISO 8601.
    #[inline]
    pub(super) fn quick(&self, text: &[u8]) -> Option<i64> {
        if self.reads_plain
            && let Some(micros) = plain(text)
        {
            return Some(micros);
        }
        self.quick_iso(text)
    }

    #[inline(never)]
    fn quick_iso(&self, text: &[u8]) -> Option<i64> {
        if self.is_coarse || !self.reads_iso(text) {
            return None;
        }
        let (local, offset) = iso(text).ok()?;
        match (self.has_zone, offset) {
            (false, None) => Some(local),
            (false, Some(_)) => None,
            (true, Some(offset)) => in_utc(local, offset),
            (true, None) => in_utc(local, self.zone.as_ref()?.offset_at(local.div_euclid(1_000_000)).ok()?),
        }
    }

    /// Whether the text may be read as ISO 8601: with the format that says so, only what it takes as well, which is whole
    /// seconds, then `Z` or `±HH:MM`.
    #[inline]
    fn reads_iso(&self, text: &[u8]) -> bool {
        self.format.is_none()
            || (self.is_iso
                && matches!(
                    (text.len(), text.get(10), text.get(19)),
                    (20, Some(b'T'), Some(b'Z')) | (25, Some(b'T'), Some(b'+' | b'-'))
                ))
    }

    /// Microseconds since 1970-01-01 00:00, in UTC when the column has a time zone.
    pub(super) fn convert(&self, text: &str) -> Result<i64, Reason> {
        let (local, offset) = match &self.format {
            Some(format) if !self.reads_iso(text.as_bytes()) => {
                let parsed = format.parse(text)?;
                (i64::from(parsed.days) * MICROS_PER_DAY + parsed.micros, parsed.offset)
            }
            _ => iso(text.as_bytes())?,
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
        in_utc(local, offset).ok_or(Reason::OutOfRange(self.column))
    }
}

#[inline]
fn in_utc(local: i64, offset: i32) -> Option<i64> {
    let micros = local - i64::from(offset) * 1_000_000;
    (FIRST..END).contains(&micros).then_some(micros)
}

/// `YYYY-MM-DDTHH:MM:SS` with `Z` or `±HH:MM`, the form most systems write, in eight bytes at once: microseconds since
/// 1970-01-01 00:00 UTC. `None` for every other text, and for a time that is none.
#[inline]
fn plain(text: &[u8]) -> Option<i64> {
    const DATE: Form = Form::of(b"0000-00-");
    const DAY: Form = Form::of(b"00T00:00");
    const OFFSET: Form = Form::of(b"00+00:00");
    let (date, rest) = text.split_first_chunk::<8>()?;
    let (day, rest) = rest.split_first_chunk::<8>()?;
    // Seconds and offset; `Z` is one of nothing.
    let mut end = match *rest {
        [b':', a, b, b'Z'] => [a, b, b'+', b'0', b'0', b':', b'0', b'0'],
        [b':', ref end @ ..] => *end.as_array()?,
        _ => return None,
    };
    // Signs come as they like, so nothing branches on them.
    let is_west = end[2] == b'-';
    end[2] ^= u8::from(is_west) * (b'+' ^ b'-');
    let (date, day, end) = (DATE.pairs(*date)?, DAY.pairs(*day)?, OFFSET.pairs(end)?);
    let [hour, minute, second, hours, minutes] = [day[3], day[6], end[0], end[3], end[6]].map(i32::from);
    if hour > 23 || minute > 59 || second > 59 || hours > 15 || minutes > 59 {
        return None;
    }
    let days = date::known_days(u32::from(date[0]) * 100 + u32::from(date[2]), date[5].into(), day[0].into())?;
    let east = (hours * 3600 + minutes * 60) * (1 - 2 * i32::from(is_west));
    let seconds = i64::from(days) * 86_400 + i64::from(hour * 3600 + minute * 60 + second - east);
    let micros = seconds * 1_000_000;
    (FIRST..END).contains(&micros).then_some(micros)
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

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, civil};
    use proptest::prelude::*;

    use super::super::tests::{outcome, shown};
    use super::*;
    use crate::pipeline::Kind;
    use crate::row::Cell;

    const PLAIN: ColumnType = ColumnType::Timestamp(6);
    const ZONED: ColumnType = ColumnType::Timestamptz(6);

    fn kind(format: Option<&str>, timezone: Option<&str>) -> Kind {
        Kind::Datetime { format: format.map(Into::into), timezone: timezone.map(Into::into) }
    }

    #[test]
    fn a_time_without_zone_stays_as_it_is() {
        for (text, expected) in [
            ("2024-01-02T03:04:05", "2024-01-02 03:04:05"),
            ("2024-01-02 03:04", "2024-01-02 03:04:00"),
            ("2024-01-02 03:04:05.500", "2024-01-02 03:04:05.5"),
            ("0001-01-01 00:00", "0001-01-01 00:00:00"),
            ("9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
            ("1969-12-31T23:59:59.999999", "1969-12-31 23:59:59.999999"),
        ] {
            assert_eq!(shown(&kind(None, None), PLAIN, text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_offset_or_a_zone_brings_a_time_to_utc() {
        for (zone, text, expected) in [
            (None, "2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00"),
            (None, "2024-01-02 03:04:05+14:00", "2024-01-01 13:04:05+00"),
            (None, "2024-01-02 03:04:05-12:00", "2024-01-02 15:04:05+00"),
            (None, "2024-01-02 03:04:05.25+0530", "2024-01-01 21:34:05.25+00"),
            (None, "2024-01-02 03:04+02", "2024-01-02 01:04:00+00"),
            (None, "2024-01-02 03:04:05-00:00:01", "2024-01-02 03:04:06+00"),
            (None, "2024-01-02 03:04:05+15:59:59", "2024-01-01 11:04:06+00"),
            (Some("Europe/Paris"), "2024-07-01T12:00:00", "2024-07-01 10:00:00+00"),
            (Some("Europe/Paris"), "2024-01-01T12:00:00", "2024-01-01 11:00:00+00"),
            (Some("Europe/Paris"), "2024-01-01T12:00:00Z", "2024-01-01 12:00:00+00"),
            (Some("Europe/Paris"), "1890-01-01 12:00:00", "1890-01-01 11:50:39+00"),
            (Some("Europe/Paris"), "2150-07-01 12:00:00", "2150-07-01 10:00:00+00"),
            (Some("Europe/Kyiv"), "2024-07-01 12:00", "2024-07-01 09:00:00+00"),
            (Some("Europe/Paris"), "9999-12-31 23:59:59", "9999-12-31 22:59:59+00"),
            (Some("Asia/Tokyo"), "9999-12-31 23:59:59", "9999-12-31 14:59:59+00"),
        ] {
            assert_eq!(shown(&kind(None, zone), ZONED, text).as_deref(), Ok(expected), "{zone:?} {text}");
        }
    }

    #[test]
    fn an_hour_that_was_not_or_was_twice_is_a_reject() {
        let paris = kind(None, Some("Europe/Paris"));
        for (text, expected) in [
            ("2024-03-31 01:59:59.999999", Ok("2024-03-31 00:59:59.999999+00")),
            ("2024-03-31 02:00", Err(Reason::InGap)),
            ("2024-03-31 02:30", Err(Reason::InGap)),
            ("2024-03-31 02:59:59.999999", Err(Reason::InGap)),
            ("2024-03-31 03:00", Ok("2024-03-31 01:00:00+00")),
            ("2024-10-27 01:59:59", Ok("2024-10-26 23:59:59+00")),
            ("2024-10-27 02:00", Err(Reason::InOverlap)),
            ("2024-10-27 02:59:59.999999", Err(Reason::InOverlap)),
            ("2024-10-27 03:00", Ok("2024-10-27 02:00:00+00")),
            // An offset says which of the two it was.
            ("2024-10-27 02:30+02:00", Ok("2024-10-27 00:30:00+00")),
            ("2024-10-27 02:30+01:00", Ok("2024-10-27 01:30:00+00")),
        ] {
            assert_eq!(shown(&paris, ZONED, text).as_deref(), expected.as_ref().map(|text| *text), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_or_not_this_columns_is_a_reject() {
        for (column, text, reason) in [
            (PLAIN, "2024-01-02 03:04:05Z", Reason::UnexpectedOffset),
            (PLAIN, "2024-01-02 03:04:05+02:00", Reason::UnexpectedOffset),
            (ZONED, "2024-01-02 03:04:05", Reason::MissingOffset),
            (ZONED, "2024-01-02 03:04:05+16:00", Reason::OffsetOutOfRange),
            (ZONED, "2024-01-02 03:04:05+25:00", Reason::OffsetOutOfRange),
            (ZONED, "2024-01-02 03:04:05+02:60", Reason::NoSuchTime),
            (ZONED, "2024-01-02 03:04:05 EST", Reason::NotDatetime),
            (ZONED, "2024-01-02 03:04:05CST", Reason::NotDatetime),
            (ZONED, "2024-01-02 03:04:05+2", Reason::NotDatetime),
            (ZONED, "2024-01-02 03:04:05z", Reason::NotDatetime),
            (ZONED, "2024-01-02 03:04:05 Europe/Paris", Reason::NotDatetime),
            (ZONED, "2024-01-02 03:04:05Zx", Reason::NotDatetime),
            (ZONED, "0001-01-01 00:00+01:00", Reason::OutOfRange(ZONED)),
            (ZONED, "9999-12-31 23:59-01:00", Reason::OutOfRange(ZONED)),
            (PLAIN, "2016-12-31T23:59:60", Reason::LeapSecond),
            (ZONED, "2016-12-31T23:59:60Z", Reason::LeapSecond),
            (PLAIN, "2024-01-02T24:00:00", Reason::EndOfDay),
            (PLAIN, "2024-01-02T25:00:00", Reason::NoSuchTime),
            (PLAIN, "2024-02-30T12:00:00", Reason::NoSuchDate),
            (PLAIN, "0000-00-00 00:00:00", Reason::NoSuchDate),
            (PLAIN, "2024-01-02 03:04:05.1234567", Reason::SubMicrosecond),
            (PLAIN, "2024-01-02", Reason::NotDatetime),
            (PLAIN, "2024-01-02T", Reason::NotDatetime),
            (PLAIN, "2024-01-02T03", Reason::NotDatetime),
            (PLAIN, "2024-01-02  03:04", Reason::NotDatetime),
            (PLAIN, "2024-01-02t03:04", Reason::NotDatetime),
            (PLAIN, "1704164645", Reason::NotDatetime),
            (PLAIN, "43101.5", Reason::NotDatetime),
            (PLAIN, "infinity", Reason::NotDatetime),
            (PLAIN, "", Reason::NotDatetime),
            (PLAIN, "10000-01-01 00:00", Reason::NotDatetime),
            (ColumnType::Timestamp(3), "2024-01-02 03:04:05.1234", Reason::WouldRound(ColumnType::Timestamp(3))),
        ] {
            assert_eq!(outcome(&kind(None, None), column, text), Err(reason), "{column} {text}");
        }
    }

    #[test]
    fn formats_may_carry_the_offset() {
        let kind = kind(Some("%d.%m.%Y %H:%M:%S %z"), None);
        for (text, expected) in [
            ("31.12.2023 23:00:00 -0200", Ok("2024-01-01 01:00:00+00")),
            ("31.12.2023 23:00:00 Z", Ok("2023-12-31 23:00:00+00")),
            ("31.12.2023 23:00:00 ", Err(Reason::NotDatetime)),
            ("31.12.2023 23:00:00 CET", Err(Reason::NotDatetime)),
        ] {
            assert_eq!(shown(&kind, ZONED, text).as_deref(), expected.as_ref().map(|text| *text), "{text}");
        }
    }

    proptest! {
        /// The short way through a well-known format gives what the general one gives.
        #[test]
        fn the_iso_format_is_read_like_any_other(
            text in "[0-9]{4}-[0-2][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](Z|[+-][01][0-9]:[0-6][0-9]|\\.5Z)?x?",
        ) {
            let short = Datetime::compile(Some("%Y-%m-%dT%H:%M:%S%z"), None, ZONED).unwrap();
            let general = Datetime { is_iso: false, ..short.clone() };
            // Of several faults in one text, either may be named.
            prop_assert_eq!(short.convert(&text).ok(), general.convert(&text).ok());
        }

        #[test]
        fn times_with_an_offset_agree_with_jiff(
            micros in -62_135_500_000_000_000_i64..253_402_200_000_000_000,
            offset in -57_599_i32..=57_599,
        ) {
            let local = Timestamp::from_microsecond(micros + i64::from(offset) * 1_000_000).unwrap();
            let civil: civil::DateTime = jiff::tz::TimeZone::UTC.to_datetime(local);
            let away = offset.unsigned_abs();
            let sign = if offset < 0 { '-' } else { '+' };
            let text = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}{sign}{:02}:{:02}:{:02}",
                civil.year(), civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second(),
                civil.subsec_nanosecond() / 1000, away / 3600, away / 60 % 60, away % 60,
            );
            prop_assert_eq!(outcome(&kind(None, None), ZONED, &text), Ok(Cell::Micros(micros)));
            let printed = shown(&kind(None, None), ZONED, &text).unwrap();
            let read: Timestamp = printed.replace("+00", "Z").parse().unwrap();
            prop_assert_eq!(read.as_microsecond(), micros);
        }

        #[test]
        fn local_times_agree_with_jiff(
            name in prop::sample::select(vec!["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo"]),
            local in -62_135_000_000_i64..253_402_000_000,
        ) {
            let zone = jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap();
            let civil = jiff::tz::TimeZone::UTC.to_datetime(Timestamp::from_second(local).unwrap());
            let text = format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
                civil.year(), civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second(),
            );
            let expected = zone.to_ambiguous_timestamp(civil).unambiguous().ok().map(|time| Cell::Micros(time.as_microsecond()));
            prop_assert_eq!(outcome(&kind(None, Some(name)), ZONED, &text).ok(), expected);
        }
    }
}
