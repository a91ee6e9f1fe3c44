//! Times of day and the offsets that follow them.

use super::digits::{Form, eight, two};
use crate::reject::Reason;
use crate::types::ColumnType;

/// PostgreSQL's widest offset from UTC.
const MAX_OFFSET: i32 = 15 * 3600 + 59 * 60 + 59;

/// Microseconds since midnight, of fields that may be off the clock.
#[inline]
pub(super) fn micros_of(hour: u32, minute: u32, second: u32, micros: u32) -> Result<i64, Reason> {
    if hour > 23 || minute > 59 || second > 59 {
        return Err(off_the_clock(hour, minute, second, micros));
    }
    Ok(i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + i64::from(micros))
}

#[cold]
fn off_the_clock(hour: u32, minute: u32, second: u32, micros: u32) -> Reason {
    match (hour, minute, second) {
        (24, 0, 0) if micros == 0 => Reason::EndOfDay,
        (0..=23, 0..=59, 60) => Reason::LeapSecond,
        _ => Reason::NoSuchTime,
    }
}

/// Reads `HH:MM[:SS[.f]]` from the start of `text`: microseconds since midnight, and what follows.
/// `not` is the reason when the text has another form.
#[inline]
pub(super) fn clock(text: &[u8], not: Reason) -> Result<(i64, &[u8]), Reason> {
    const FORM: Form = Form::of(b"00:00:00");
    let Some((head, rest)) = text.split_first_chunk::<8>() else { return without_seconds(text, not) };
    let Some(pairs) = FORM.pairs(*head) else { return without_seconds(text, not) };
    let (micros, rest) = match rest {
        [b'.', digits @ ..] => fraction(digits).ok_or(not)??,
        rest => (0, rest),
    };
    Ok((micros_of(u32::from(pairs[0]), u32::from(pairs[3]), u32::from(pairs[6]), micros)?, rest))
}

/// `HH:MM`, and no seconds behind it.
fn without_seconds(text: &[u8], not: Reason) -> Result<(i64, &[u8]), Reason> {
    let Some((head, rest)) = text.split_first_chunk::<5>() else { return Err(not) };
    let (hour, minute) = (two(head, 0), two(head, 3));
    if hour > 99 || minute > 99 || head[2] != b':' || rest.starts_with(b":") {
        return Err(not);
    }
    Ok((micros_of(hour, minute, 0, 0)?, rest))
}

/// Microseconds of the digits at the start of `text`, and what follows them. `None` without a digit.
#[inline]
pub(super) fn fraction(text: &[u8]) -> Option<Result<(u32, &[u8]), Reason>> {
    if let Some((&[a, b, c, d, e, f], rest)) = text.split_first_chunk::<6>()
        && !rest.first().is_some_and(u8::is_ascii_digit)
        && let Some(micros) = eight([b'0', b'0', a, b, c, d, e, f])
    {
        return Some(Ok((micros, rest)));
    }
    let mut micros: u32 = 0;
    let mut len = 0;
    while let Some(digit) = text.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9) {
        if len < 6 {
            micros = micros.wrapping_mul(10).wrapping_add(u32::from(digit));
        } else if digit != 0 {
            return Some(Err(Reason::SubMicrosecond));
        }
        len += 1;
    }
    const UNITS: [u32; 7] = [0, 100_000, 10_000, 1_000, 100, 10, 1];
    if len == 0 { None } else { Some(Ok((micros * UNITS[len.min(6)], &text[len..]))) }
}

/// Reads `Z`, `±HH`, `±HHMM`, `±HH:MM` or `±HH:MM:SS` from the start of `text`: seconds east of UTC, and what follows.
/// `None` when there is no offset.
#[inline]
pub(super) fn offset(text: &[u8]) -> Option<Result<(i32, &[u8]), Reason>> {
    let (sign, digits) = match text {
        [b'Z', rest @ ..] => return Some(Ok((0, rest))),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let pair = |bytes: &[u8]| if bytes.len() < 2 { None } else { Some(two(bytes, 0)).filter(|&n| n < 100) };
    let hour = pair(digits)?;
    let rest = &digits[2..];
    let (minute, second, rest) = match rest {
        [b':', after @ ..] => {
            let minute = pair(after)?;
            match &after[2..] {
                [b':', after @ ..] => (minute, pair(after)?, &after[2..]),
                rest => (minute, 0, rest),
            }
        }
        rest => match pair(rest) {
            Some(minute) => (minute, 0, &rest[2..]),
            None => (0, 0, rest),
        },
    };
    if minute > 59 || second > 59 {
        return Some(Err(Reason::NoSuchTime));
    }
    let seconds = (hour * 3600 + minute * 60 + second) as i32;
    if seconds > MAX_OFFSET {
        return Some(Err(Reason::OffsetOutOfRange));
    }
    Some(Ok((sign * seconds, rest)))
}

/// The part of a second the column keeps no digits for must be zero.
#[inline]
pub(super) fn check_precision(micros: i64, column: ColumnType) -> Result<(), Reason> {
    let (ColumnType::Time(p) | ColumnType::Timestamp(p) | ColumnType::Timestamptz(p)) = column else { return Ok(()) };
    if p < 6 && micros % super::digits::POWERS[usize::from(6 - p)] != 0 {
        return Err(Reason::WouldRound(column));
    }
    Ok(())
}

/// `HH:MM[:SS[.f]]`, nothing else: microseconds since midnight.
#[inline]
pub(super) fn iso(text: &[u8]) -> Result<i64, Reason> {
    match clock(text, Reason::NotTime)? {
        (micros, []) => Ok(micros),
        (_, rest) => Err(if offset(rest).is_some() { Reason::UnexpectedOffset } else { Reason::NotTime }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{outcome, shown};
    use super::*;
    use crate::pipeline::Kind;
    use crate::row::Cell;

    fn convert(column: ColumnType, text: &str) -> Result<Cell, Reason> {
        outcome(&Kind::Time { format: None }, column, text)
    }

    #[test]
    fn a_time_has_hours_and_minutes_and_perhaps_seconds() {
        for (text, expected) in [
            ("00:00", "00:00:00"),
            ("23:59", "23:59:00"),
            ("23:59:59", "23:59:59"),
            ("03:04:05.5", "03:04:05.5"),
            ("03:04:05.000001", "03:04:05.000001"),
            ("03:04:05.12345600000", "03:04:05.123456"),
        ] {
            assert_eq!(
                shown(&Kind::Time { format: None }, ColumnType::Time(6), text).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
        for (text, reason) in [
            ("24:00", Reason::EndOfDay),
            ("24:00:00", Reason::EndOfDay),
            ("24:00:01", Reason::NoSuchTime),
            ("25:00", Reason::NoSuchTime),
            ("12:60", Reason::NoSuchTime),
            ("23:59:60", Reason::LeapSecond),
            ("12:00:61", Reason::NoSuchTime),
            ("12:00:00.1234567", Reason::SubMicrosecond),
            ("12:00Z", Reason::UnexpectedOffset),
            ("12:00:00+02", Reason::UnexpectedOffset),
            ("", Reason::NotTime),
            ("12", Reason::NotTime),
            ("1:00", Reason::NotTime),
            ("12:0", Reason::NotTime),
            ("12:00:", Reason::NotTime),
            ("12:00:0", Reason::NotTime),
            ("12:00:00.", Reason::NotTime),
            ("12:00:00,5", Reason::NotTime),
            ("12:00 PM", Reason::NotTime),
            ("12:00:00 ", Reason::NotTime),
            ("-1:00", Reason::NotTime),
            ("１2:00", Reason::NotTime),
        ] {
            assert_eq!(convert(ColumnType::Time(6), text), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_coarser_column_takes_no_finer_time() {
        let column = ColumnType::Time(3);
        assert_eq!(convert(column, "12:00:00.120"), Ok(Cell::Micros(43_200_120_000)));
        assert_eq!(convert(column, "12:00:00.1234"), Err(Reason::WouldRound(column)));
        assert_eq!(convert(ColumnType::Time(0), "12:00:00.5"), Err(Reason::WouldRound(ColumnType::Time(0))));
    }

    proptest! {
        #[test]
        fn each_microsecond_comes_back(micros in 0_i64..86_400_000_000) {
            let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
            let text = format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60);
            prop_assert_eq!(convert(ColumnType::Time(6), &text), Ok(Cell::Micros(micros)));
            let expected = text.trim_end_matches('0').trim_end_matches('.');
            let expected = if fraction == 0 { &text[..8] } else { expected };
            let found = shown(&Kind::Time { format: None }, ColumnType::Time(6), &text);
            prop_assert_eq!(found.as_deref(), Ok(expected));
        }
    }
}
