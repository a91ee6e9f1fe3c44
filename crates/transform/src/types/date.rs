//! Days: the proleptic Gregorian calendar, years 0001 to 9999, and ISO 8601 dates.

use super::digits::{Form, two};
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
    known_days(year, month, day).ok_or(Reason::NoSuchDate)
}

/// The same; `None` for a date that is not in the calendar.
#[inline]
pub(super) fn known_days(year: u32, month: u32, day: u32) -> Option<i32> {
    const DAYS: [u8; 16] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0, 0, 0];
    let in_month = u32::from(*DAYS.get(month as usize)?) + u32::from(month == 2 && is_leap(year));
    let is_known = (1..=9999).contains(&year) && (1..=in_month).contains(&day);
    is_known.then(|| days_of(year, month, day))
}

/// `YYYY-MM-DD`, nothing else.
#[inline]
pub(super) fn iso(text: &[u8]) -> Result<i32, Reason> {
    let text: &[u8; 10] = text.try_into().map_err(|_| Reason::NotDate)?;
    let (year, month, day) = fields(text).ok_or(Reason::NotDate)?;
    checked_days(year, month, day)
}

/// The same without a reason: [`super::Converter::quick`].
#[inline]
pub(super) fn quick(text: &[u8]) -> Option<i32> {
    let (year, month, day) = fields(text.try_into().ok()?)?;
    known_days(year, month, day)
}

/// Year, month and day of `YYYY-MM-DD`, not checked against the calendar.
#[inline]
pub(super) fn fields(text: &[u8; 10]) -> Option<(u32, u32, u32)> {
    const FORM: Form = Form::of(b"0000-00-");
    let (head, day) = text.split_first_chunk::<8>()?;
    let pairs = FORM.pairs(*head)?;
    let day = Some(two(day, 0)).filter(|&day| day < 100)?;
    Some((u32::from(pairs[0]) * 100 + u32::from(pairs[2]), u32::from(pairs[5]), day))
}

#[cfg(test)]
mod tests {
    use jiff::civil;
    use proptest::prelude::*;

    use super::super::tests::{outcome, shown};
    use super::*;
    use crate::pipeline::Kind;
    use crate::row::Cell;
    use crate::types::ColumnType;

    fn convert(text: &str) -> Result<Cell, Reason> {
        outcome(&Kind::Date { format: None }, ColumnType::Date, text)
    }

    #[test]
    fn every_day_of_ten_millennia_agrees_with_jiff() {
        let mut date = civil::date(1, 1, 1);
        for days in -719_162..=2_932_896 {
            let (year, month, day) = (date.year(), date.month(), date.day());
            assert_eq!(days_of(year as u32, month as u32, day as u32), days);
            assert_eq!(civil_of(days), (i32::from(year), month as u32, day as u32));
            if days < 2_932_896 {
                date = date.tomorrow().unwrap();
            }
        }
        assert_eq!(date, civil::date(9999, 12, 31));
    }

    #[test]
    fn dates_outside_the_calendar_are_rejects() {
        for text in [
            "2018-02-29",
            "1900-02-29",
            "2024-02-30",
            "2024-04-31",
            "2024-00-10",
            "2024-13-01",
            "2024-01-00",
            "2024-01-32",
            "0000-00-00",
            "0000-01-01",
        ] {
            assert_eq!(convert(text), Err(Reason::NoSuchDate), "{text}");
        }
        for text in ["2000-02-29", "2024-02-29", "1582-10-10", "0001-01-01", "9999-12-31"] {
            assert!(convert(text).is_ok(), "{text}");
            assert_eq!(shown(&Kind::Date { format: None }, ColumnType::Date, text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn only_the_iso_form_is_a_date() {
        for text in [
            "",
            "2024-1-2",
            "01/02/2018",
            "20240102",
            "2024-01-02 ",
            " 2024-01-02",
            "2024-01-02T00:00",
            "-044-03-15",
            "10000-01-01",
            "43101",
            "2024/01/02",
            "2024-01-0２",
            "24-01-02",
            "2024-W01-1",
            "2024-001",
            "infinity",
            "epoch",
            "today",
            "2024-01-02 BC",
            "Jan 2, 2024",
            "2024‐01‐02",
        ] {
            assert_eq!(convert(text), Err(Reason::NotDate), "{text}");
        }
    }

    proptest! {
        #[test]
        fn four_two_two_digits_are_judged_as_jiff_judges_them(year in 0_i16..=9999, month in 0_i8..20, day in 0_i8..40) {
            let expected = civil::Date::new(year, month, day).ok().filter(|_| year > 0);
            let found = convert(&format!("{year:04}-{month:02}-{day:02}"));
            let days = |date: civil::Date| date.since(civil::date(1970, 1, 1)).unwrap().get_days();
            prop_assert_eq!(found, expected.map(|date| Cell::Days(days(date))).ok_or(Reason::NoSuchDate));
        }
    }
}
