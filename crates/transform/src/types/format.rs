//! strftime formats for dates and times, compiled to a list of directives.
//!
//! A format says where everything stands: nothing is guessed. Numbers may drop their leading zero, as in `3/7/2024` for
//! `%d/%m/%Y`, except where another number follows or precedes at once (`%Y%m%d`).

use super::date::{checked_days, is_leap};
use super::time;
use crate::reject::Reason;

/// What a format is to describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Date,
    Datetime,
    Time,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Time => "time",
        }
    }

    fn mismatch(self) -> Reason {
        match self {
            Self::Date => Reason::NotDate,
            Self::Datetime => Reason::NotDatetime,
            Self::Time => Reason::NotTime,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Format {
    subject: Subject,
    items: Box<[Item]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(Box<[u8]>),
    Number {
        into: Slot,
        min: u8,
        max: u8,
    },
    /// `%e`: a day with a blank for its leading zero.
    PaddedDay,
    MonthName {
        full: bool,
    },
    Fraction,
    Half,
    Offset,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Year,
    ShortYear,
    Month,
    Day,
    DayOfYear,
    Hour,
    Hour12,
    Minute,
    Second,
}

const SLOTS: usize = 9;
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A value taken apart by a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Days since 1970-01-01; 0 for a time.
    pub(super) days: i32,
    /// Microseconds since midnight; 0 for a date.
    pub(super) micros: i64,
    /// Seconds east of UTC.
    pub(super) offset: Option<i32>,
}

impl Format {
    /// Whether the format has a `%z`.
    pub(super) fn mentions_offset(format: &str) -> bool {
        directives(format).any(|(_, directive)| directive == Some('z'))
    }

    pub(super) fn compile(format: &str, subject: Subject) -> Result<Self, String> {
        let mut seen = Vec::new();
        let mut items: Vec<Item> = Vec::new();
        for (literal, directive) in directives(format) {
            let item = match directive {
                None if literal == '%' && format.ends_with('%') && !format.ends_with("%%") => {
                    return Err(format!("the format {format:?} ends in a single %"));
                }
                None | Some('%') => {
                    let mut utf8 = [0; 4];
                    let bytes = literal.encode_utf8(&mut utf8).as_bytes();
                    match items.last_mut() {
                        Some(Item::Literal(text)) => *text = [&**text, bytes].concat().into(),
                        _ => items.push(Item::Literal(bytes.into())),
                    }
                    continue;
                }
                Some(directive) => {
                    if seen.contains(&directive) {
                        return Err(format!("the format {format:?} has %{directive} twice"));
                    }
                    seen.push(directive);
                    item_of(directive).ok_or_else(|| {
                        format!(
                            "the format {format:?} has the unknown directive %{directive}; known are \
                             %Y %y %m %b %B %d %e %j %H %I %p %M %S %f %z %%"
                        )
                    })?
                }
            };
            items.push(item);
        }
        check_combination(format, subject, &seen)?;
        fix_widths(format, &mut items)?;
        Ok(Self { subject, items: items.into() })
    }

    #[inline]
    pub(super) fn parse(&self, text: &str) -> Result<Parsed, Reason> {
        let no = self.subject.mismatch();
        let mut rest = text.as_bytes();
        let mut numbers = [u32::MAX; SLOTS];
        let mut micros = 0;
        let mut is_afternoon = false;
        let mut offset = None;
        for item in &self.items {
            rest = match item {
                Item::Literal(literal) => match **literal {
                    [byte] if rest.first() == Some(&byte) => &rest[1..],
                    [_] => return Err(no),
                    _ => rest.strip_prefix(&**literal).ok_or(no)?,
                },
                Item::Number { into, min, max } => {
                    let (value, after) = number(rest, *min, *max).ok_or(no)?;
                    numbers[*into as usize] = value;
                    after
                }
                Item::PaddedDay => {
                    let min = if rest.first() == Some(&b' ') { 1 } else { 0 };
                    let (value, after) = number(&rest[min..], 1, 2 - min as u8).ok_or(no)?;
                    numbers[Slot::Day as usize] = value;
                    after
                }
                Item::MonthName { full } => {
                    let (month, after) = month_name(rest, *full).ok_or(no)?;
                    numbers[Slot::Month as usize] = month;
                    after
                }
                Item::Fraction => {
                    let (value, after) = time::fraction(rest).ok_or(no)??;
                    micros = value;
                    after
                }
                Item::Half => {
                    let (half, after) = rest.split_first_chunk::<2>().ok_or(no)?;
                    is_afternoon = match &half.map(|byte| byte.to_ascii_lowercase()) {
                        b"am" => false,
                        b"pm" => true,
                        _ => return Err(no),
                    };
                    after
                }
                Item::Offset => {
                    let (seconds, after) = time::offset(rest).ok_or(no)??;
                    offset = Some(seconds);
                    after
                }
            };
        }
        if !rest.is_empty() {
            return Err(no);
        }
        let days = if self.subject == Subject::Time { 0 } else { days(&numbers)? };
        let micros = if self.subject == Subject::Date { 0 } else { clock(&numbers, is_afternoon, micros)? };
        Ok(Parsed { days, micros, offset })
    }
}

/// The characters and directives of a format; a literal comes with `None`, `%%` as the literal `%`.
fn directives(format: &str) -> impl Iterator<Item = (char, Option<char>)> {
    let mut chars = format.chars();
    std::iter::from_fn(move || match chars.next()? {
        '%' => Some(('%', chars.next())),
        literal => Some((literal, None)),
    })
}

fn item_of(directive: char) -> Option<Item> {
    let number = |into, max| Some(Item::Number { into, min: 1, max });
    match directive {
        'Y' => Some(Item::Number { into: Slot::Year, min: 4, max: 4 }),
        'y' => Some(Item::Number { into: Slot::ShortYear, min: 2, max: 2 }),
        'm' => number(Slot::Month, 2),
        'd' => number(Slot::Day, 2),
        'e' => Some(Item::PaddedDay),
        'j' => number(Slot::DayOfYear, 3),
        'H' => number(Slot::Hour, 2),
        'I' => number(Slot::Hour12, 2),
        'M' => number(Slot::Minute, 2),
        'S' => number(Slot::Second, 2),
        'b' => Some(Item::MonthName { full: false }),
        'B' => Some(Item::MonthName { full: true }),
        'f' => Some(Item::Fraction),
        'p' => Some(Item::Half),
        'z' => Some(Item::Offset),
        _ => None,
    }
}

/// A format must say everything its subject is made of, once, and nothing else.
fn check_combination(format: &str, subject: Subject, seen: &[char]) -> Result<(), String> {
    let count = |directives: &str| seen.iter().filter(|directive| directives.contains(**directive)).count();
    let wrong = |what: &str| Err(format!("the format {format:?} of a {} {what}", subject.as_str()));
    if subject == Subject::Time && count("YymbBdejz") > 0 {
        return wrong("has a part of a date or an offset");
    }
    if subject == Subject::Date && count("HIpMSfz") > 0 {
        return wrong("has a part of a time");
    }
    if subject != Subject::Time {
        match (count("Yy"), count("mbB"), count("de"), count("j")) {
            (1, 1, 1, 0) | (1, 0, 0, 1) => {}
            (1, _, _, _) => return wrong("needs either one month and one day or %j alone"),
            (2, _, _, _) => return wrong("has both %Y and %y"),
            _ => return wrong("has no year (%Y or %y); a date is never guessed"),
        }
    }
    if subject != Subject::Date {
        match (count("H"), count("I"), count("p")) {
            (1, 0, 0) | (0, 1, 1) => {}
            (0, 0, _) => return wrong("has no hour (%H, or %I with %p)"),
            _ => return wrong("needs either %H alone or %I with %p"),
        }
        if (count("M") == 0 && count("S") > 0) || (count("S") == 0 && count("f") > 0) {
            return wrong("leaves out a part between the hour and the smallest one");
        }
    }
    Ok(())
}

/// Numbers that touch have all their digits, or nobody could tell where one ends.
fn fix_widths(format: &str, items: &mut [Item]) -> Result<(), String> {
    let numeric: Vec<bool> =
        items.iter().map(|item| matches!(item, Item::Number { .. } | Item::Fraction | Item::PaddedDay)).collect();
    for (at, item) in items.iter_mut().enumerate() {
        let before = at > 0 && numeric[at - 1];
        let after = numeric.get(at + 1) == Some(&true);
        match item {
            Item::Number { min, max, .. } if before || after => *min = *max,
            Item::Fraction if after => {
                return Err(format!("the format {format:?} needs something between %f and the next number"));
            }
            Item::PaddedDay if before || after => {
                return Err(format!("the format {format:?} needs something between %e and its neighbour"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A number of `min` to `max` digits, at most four.
#[inline]
fn number(text: &[u8], min: u8, max: u8) -> Option<(u32, &[u8])> {
    let mut value = 0;
    let mut len = 0;
    while len < usize::from(max)
        && let Some(digit) = text.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9)
    {
        value = value * 10 + u32::from(digit);
        len += 1;
    }
    if len < usize::from(min) { None } else { Some((value, &text[len..])) }
}

fn month_name(text: &[u8], full: bool) -> Option<(u32, &[u8])> {
    MONTHS.iter().enumerate().find_map(|(at, name)| {
        let name = if full { name.as_bytes() } else { &name.as_bytes()[..3] };
        let (head, rest) = text.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(name).then_some((at as u32 + 1, rest))
    })
}

#[inline]
fn days(numbers: &[u32; SLOTS]) -> Result<i32, Reason> {
    let year = match (numbers[Slot::Year as usize], numbers[Slot::ShortYear as usize]) {
        // As POSIX and Python have it: 69 to 99 are of the last century.
        (u32::MAX, short @ 69..) => 1900 + short,
        (u32::MAX, short) => 2000 + short,
        (year, _) => year,
    };
    match numbers[Slot::DayOfYear as usize] {
        u32::MAX => checked_days(year, numbers[Slot::Month as usize], numbers[Slot::Day as usize]),
        day if day == 0 || day > 365 + u32::from(is_leap(year)) => Err(Reason::NoSuchDate),
        day => Ok(checked_days(year, 1, 1)? + day as i32 - 1),
    }
}

#[inline]
fn clock(numbers: &[u32; SLOTS], is_afternoon: bool, micros: u32) -> Result<i64, Reason> {
    let hour = match (numbers[Slot::Hour as usize], numbers[Slot::Hour12 as usize]) {
        (u32::MAX, hour @ 1..=12) => hour % 12 + if is_afternoon { 12 } else { 0 },
        (u32::MAX, _) => return Err(Reason::NoSuchTime),
        (hour, _) => hour,
    };
    let or_zero = |slot: Slot| if numbers[slot as usize] == u32::MAX { 0 } else { numbers[slot as usize] };
    time::micros_of(hour, or_zero(Slot::Minute), or_zero(Slot::Second), micros)
}

#[cfg(test)]
mod tests {
    use jiff::civil;
    use proptest::prelude::*;

    use super::*;

    fn date(format: &str, text: &str) -> Result<(i32, u32, u32), Reason> {
        let parsed = Format::compile(format, Subject::Date).unwrap().parse(text)?;
        Ok(super::super::date::civil_of(parsed.days))
    }

    fn time_of(format: &str, text: &str) -> Result<i64, Reason> {
        Ok(Format::compile(format, Subject::Time).unwrap().parse(text)?.micros)
    }

    #[test]
    fn each_directive_reads_its_part() {
        for (format, text, expected) in [
            ("%d/%m/%Y", "03/07/2024", (2024, 7, 3)),
            ("%d/%m/%Y", "3/7/2024", (2024, 7, 3)),
            ("%m/%d/%Y", "03/07/2024", (2024, 3, 7)),
            ("%Y%m%d", "20240703", (2024, 7, 3)),
            ("%d-%b-%y", "03-Jul-24", (2024, 7, 3)),
            ("%d-%b-%y", "03-JUL-69", (1969, 7, 3)),
            ("%d-%b-%y", "03-jul-68", (2068, 7, 3)),
            ("%e %B %Y", " 3 september 2024", (2024, 9, 3)),
            ("%e %B %Y", "13 May 2024", (2024, 5, 13)),
            ("%e %B %Y", "3 May 2024", (2024, 5, 3)),
            ("%Y-%j", "2024-366", (2024, 12, 31)),
            ("%Y%j", "2024060", (2024, 2, 29)),
            ("%d%%%m%%%Y", "3%7%2024", (2024, 7, 3)),
            ("le %d été %m %Y", "le 3 été 7 2024", (2024, 7, 3)),
        ] {
            assert_eq!(date(format, text), Ok(expected), "{format} {text}");
        }
        for (format, text, expected) in [
            ("%H:%M", "07:05", Ok(25_500_000_000)),
            ("%H:%M", "7:5", Ok(25_500_000_000)),
            ("%H%M%S", "070509", Ok(25_509_000_000)),
            ("%I:%M %p", "12:00 AM", Ok(0)),
            ("%I:%M %p", "12:00 pm", Ok(43_200_000_000)),
            ("%I:%M %p", "01:30 PM", Ok(48_600_000_000)),
            ("%I:%M %p", "13:00 PM", Err(Reason::NoSuchTime)),
            ("%I:%M %p", "00:00 AM", Err(Reason::NoSuchTime)),
            ("%I:%M %p", "01:30 XM", Err(Reason::NotTime)),
            ("%H:%M:%S.%f", "00:00:00.5", Ok(500_000)),
            ("%H:%M:%S.%f", "00:00:00.0000001", Err(Reason::SubMicrosecond)),
            ("%H:%M:%S", "23:59:60", Err(Reason::LeapSecond)),
            ("%H:%M", "24:00", Err(Reason::EndOfDay)),
        ] {
            assert_eq!(time_of(format, text), expected, "{format} {text}");
        }
    }

    #[test]
    fn what_does_not_have_the_form_is_a_reject_and_never_guessed() {
        for (format, text) in [
            ("%d/%m/%Y", "03-07-2024"),
            ("%d/%m/%Y", "03/07/24"),
            ("%d/%m/%Y", "003/07/2024"),
            ("%d/%m/%Y", "03/07/2024 "),
            ("%d/%m/%Y", " 3/07/2024"),
            ("%d/%m/%Y", "03/07/20245"),
            ("%d/%m/%Y", "/07/2024"),
            ("%d/%m/%Y", "-3/07/2024"),
            ("%d/%m/%Y", "٠٣/07/2024"),
            ("%d/%m/%Y", ""),
            ("%Y%m%d", "2024703"),
            ("%Y%m%d", "202407031"),
            ("%d %b %Y", "3 July 2024"),
            ("%d %B %Y", "3 Jul 2024"),
            ("%d %b %Y", "3 Juin 2024"),
        ] {
            assert_eq!(date(format, text), Err(Reason::NotDate), "{format} {text:?}");
        }
        for (format, text) in [
            ("%d/%m/%Y", "31/02/2024"),
            ("%d/%m/%Y", "13/13/2024"),
            ("%d/%m/%Y", "01/01/0000"),
            ("%Y-%j", "2023-366"),
            ("%Y-%j", "2024-000"),
        ] {
            assert_eq!(date(format, text), Err(Reason::NoSuchDate), "{format} {text}");
        }
    }

    #[test]
    fn formats_that_leave_something_open_are_refused() {
        for (format, subject) in [
            ("%d/%m", Subject::Date),
            ("any", Subject::Date),
            ("", Subject::Date),
            ("%Y-%m", Subject::Date),
            ("%Y-%m-%d %H", Subject::Date),
            ("%Y-%m-%d %j", Subject::Date),
            ("%Y %y-%m-%d", Subject::Date),
            ("%Y-%m-%m", Subject::Date),
            ("%Y-%m-%d-%e", Subject::Date),
            ("%Y-%b-%m-%d", Subject::Date),
            ("%Y-%m-%d %", Subject::Date),
            ("%F", Subject::Date),
            ("%Y-%m-%U", Subject::Date),
            ("%e%m%Y", Subject::Date),
            ("%I:%M", Subject::Time),
            ("%H:%M %p", Subject::Time),
            ("%M:%S", Subject::Time),
            ("%H:%S", Subject::Time),
            ("%H:%M.%f", Subject::Time),
            ("%H:%M %z", Subject::Time),
            ("%f%H", Subject::Time),
            ("%Y-%m-%d", Subject::Datetime),
            ("%H:%M", Subject::Datetime),
        ] {
            assert!(Format::compile(format, subject).is_err(), "{format} {subject:?}");
        }
    }

    #[test]
    fn only_a_real_directive_mentions_an_offset() {
        assert!(Format::mentions_offset("%H %z"));
        assert!(!Format::mentions_offset("%H %%z"));
        assert!(!Format::mentions_offset("z %"));
    }

    proptest! {
        #[test]
        fn formatted_dates_come_back(
            days in -719_162_i32..=2_932_896,
            format in prop::sample::select(vec!["%d/%m/%Y", "%Y%m%d", "%Y-%j", "%b %d, %Y", "%d %B %Y", "%e.%m.%Y"]),
        ) {
            let (year, month, day) = super::super::date::civil_of(days);
            let text = civil::date(year as i16, month as i8, day as i8).strftime(format).to_string();
            prop_assert_eq!(date(format, &text), Ok((year, month, day)), "{}", text);
        }

        #[test]
        fn no_format_and_no_text_make_it_panic(format in "([%][YymdeHIMSfbBjpz%aQ]|[ :/é]){0,8}", text in any::<String>()) {
            for subject in [Subject::Date, Subject::Datetime, Subject::Time] {
                if let Ok(format) = Format::compile(&format, subject) {
                    prop_assert!(format.parse(&text).is_err() || !text.is_empty());
                }
            }
        }
    }
}
