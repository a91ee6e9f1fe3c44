//! Times of day and the offsets that follow them.

use super::digits::two;
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
    let Some((head, rest)) = text.split_first_chunk::<5>() else { return Err(not) };
    let (hour, minute) = (two(head, 0), two(head, 3));
    if (hour | minute) > 127 || head[2] != b':' {
        return Err(not);
    }
    let Some((&[b':', tens, ones], after)) = rest.split_first_chunk::<3>() else {
        // A colon with less than two digits behind it is left to the caller, who finds it out of place.
        return Ok((micros_of(hour, minute, 0, 0)?, rest));
    };
    let second = two(&[tens, ones], 0);
    if second > 127 {
        return Err(not);
    }
    let (micros, after) = match after {
        [b'.', digits @ ..] => fraction(digits).ok_or(not)??,
        after => (0, after),
    };
    Ok((micros_of(hour, minute, second, micros)?, after))
}

/// Microseconds of the digits at the start of `text`, and what follows them. `None` without a digit.
#[inline]
pub(super) fn fraction(text: &[u8]) -> Option<Result<(u32, &[u8]), Reason>> {
    let len = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(len);
    if digits.is_empty() {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + digits.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    if digits.len() > 6 && digits[6..].iter().any(|&digit| digit != b'0') {
        return Some(Err(Reason::SubMicrosecond));
    }
    Some(Ok((micros, rest)))
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
