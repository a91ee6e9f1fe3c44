//! Days: the proleptic Gregorian calendar, years 0001 to 9999, and ISO 8601 dates.

use super::digits::two;
use crate::reject::Reason;

/// Days from 1970-01-01; the date must be in the calendar.
#[inline]
pub(super) fn days_of(year: u32, month: u32, day: u32) -> i32 {
    // Years start in March here, so that a leap day is a year's last day, and at year 0, so that nothing is negative.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.wrapping_sub(1), month + 9) };
    // Only January and February of the year 0 would be below zero, and years start at 1.
    let century = year / 100;
    let days = year * 365 + year / 4 - century + century / 4 + (153 * month + 2) / 5 + day;
    days as i32 - 719_469
}

/// Year, month and day of a day from 0001-01-01 to 9999-12-31.
pub(super) fn civil_of(days: i32) -> (i32, u32, u32) {
    let days = i64::from(days) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    ((year_of_era + era * 400 + next) as i32, month as u32, day as u32)
}

#[inline]
pub(super) fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970-01-01 of a date in the calendar.
#[inline]
pub(super) fn checked_days(year: u32, month: u32, day: u32) -> Result<i32, Reason> {
    const DAYS: [u8; 16] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0, 0, 0];
    if !(1..=9999).contains(&year) || month > 12 || day == 0 {
        return Err(Reason::NoSuchDate);
    }
    let in_month = u32::from(DAYS[month as usize & 15]) + u32::from(month == 2 && is_leap(year));
    if day > in_month {
        return Err(Reason::NoSuchDate);
    }
    Ok(days_of(year, month, day))
}

/// `YYYY-MM-DD`, nothing else.
#[inline]
pub(super) fn iso(text: &[u8]) -> Result<i32, Reason> {
    let text: &[u8; 10] = text.try_into().map_err(|_| Reason::NotDate)?;
    let (year, month, day) = fields(text).ok_or(Reason::NotDate)?;
    checked_days(year, month, day)
}

/// Year, month and day of `YYYY-MM-DD`, not checked against the calendar.
#[inline]
pub(super) fn fields(text: &[u8; 10]) -> Option<(u32, u32, u32)> {
    let (century, year, month, day) = (two(text, 0), two(text, 2), two(text, 5), two(text, 8));
    // Each is at most 99 when its bytes are digits and all ones when they are not.
    if (century | year | month | day) > 127 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    Some((century * 100 + year, month, day))
}
