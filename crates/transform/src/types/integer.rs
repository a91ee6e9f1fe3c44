//! Integers: `-?(0|[1-9][0-9]*)`, optionally with groups or with text around.

use std::ops::Range;

use super::digits::{few, up_to_eighteen};
use super::number::{self, Decimal, Notation};
use crate::pipeline::Kind;
use crate::reject::Reason;
use crate::row::Cell;
use crate::types::ColumnType;

#[derive(Clone, Debug)]
pub(super) struct Integer {
    column: ColumnType,
    /// What the column holds; not used for `numeric`.
    min: i64,
    max: i64,
    is_numeric: bool,
    notation: Notation,
}

impl Integer {
    pub(super) fn compile(kind: &Kind, column: ColumnType) -> Result<Self, String> {
        let (bare, group) = match kind {
            Kind::Integer { bare, group } => (*bare, *group),
            _ => (true, None),
        };
        let (min, max, is_numeric) = match column {
            ColumnType::Int2 => (i64::from(i16::MIN), i64::from(i16::MAX), false),
            ColumnType::Int4 => (i64::from(i32::MIN), i64::from(i32::MAX), false),
            ColumnType::Int8 => (i64::MIN, i64::MAX, false),
            _ => (i64::MIN, i64::MAX, true),
        };
        Ok(Self { column, min, max, is_numeric, notation: Notation::compile(None, group, bare)? })
    }

    /// See [`super::Converter::quick`]: up to eight digits.
    #[inline]
    pub(super) fn quick(&self, bytes: &[u8], range: Range<usize>, cell: &mut Cell) -> bool {
        if self.is_numeric {
            return false;
        }
        let (digits, is_negative) = number::unsigned(bytes, range);
        let Some(value) = few(bytes, digits.clone()).map(i64::from) else { return false };
        let value = if is_negative { -value } else { value };
        let is_plain = digits.len() == 1 || bytes[digits.start] != b'0';
        let fits = is_plain && (self.min..=self.max).contains(&value);
        if fits {
            *cell = Cell::Int(value);
        }
        fits
    }

    #[inline]
    pub(super) fn convert(&self, text: &str, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        match short(text.as_bytes()) {
            Some(value) => self.cell(value, scratch),
            None => self.convert_slow(text, scratch),
        }
    }

    #[inline]
    fn cell(&self, value: i64, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        if self.is_numeric {
            return number::decimal_cell(Decimal { unscaled: value, scale: 0 }, self.column, scratch);
        }
        if value < self.min || value > self.max {
            return Err(Reason::OutOfRange(self.column));
        }
        Ok(Cell::Int(value))
    }

    #[cold]
    fn convert_slow(&self, text: &str, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        self.notation.with_plain(text, |plain| match short(plain) {
            Some(value) => self.cell(value, scratch),
            None => self.long(plain, scratch),
        })?
    }

    /// More than eighteen digits, or no integer.
    fn long(&self, plain: &[u8], scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        let digits = plain.strip_prefix(b"-").unwrap_or(plain);
        if digits.is_empty() || !super::digits::all_digits(digits) {
            return Err(why_not(plain));
        }
        if digits[0] == b'0' && digits.len() > 1 {
            return Err(Reason::LeadingZero);
        }
        if self.is_numeric {
            return number::scan(plain)?.cell(self.column, scratch);
        }
        // Nineteen digits are all an i64 can have.
        let value =
            if digits.len() == 19 { std::str::from_utf8(plain).ok().and_then(|text| text.parse().ok()) } else { None };
        self.cell(value.ok_or(Reason::OutOfRange(self.column))?, scratch)
    }
}

/// An integer of at most eighteen digits in its only form; `None` for everything else.
#[inline]
fn short(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'-', digits @ ..] => Some(-canonical(digits)?),
        digits => canonical(digits),
    }
}

#[inline]
fn canonical(digits: &[u8]) -> Option<i64> {
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    up_to_eighteen(digits)
}

fn why_not(plain: &[u8]) -> Reason {
    match plain {
        [b'+', rest @ ..] if !rest.is_empty() && super::digits::all_digits(rest) => Reason::LeadingPlus,
        _ if number::has_outer_blank(plain) => Reason::OuterBlank,
        _ => Reason::NotInteger,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{integer, outcome, shown};
    use super::*;

    const INT8: ColumnType = ColumnType::Int8;

    #[test]
    fn an_integer_has_one_form() {
        for (text, value) in [("0", 0), ("-0", 0), ("5", 5), ("-5", -5), ("1234567890", 1_234_567_890)] {
            assert_eq!(outcome(&integer(true, None), INT8, text), Ok(Cell::Int(value)), "{text}");
        }
        for (text, reason) in [
            ("", Reason::NotInteger),
            ("-", Reason::NotInteger),
            ("--5", Reason::NotInteger),
            ("+5", Reason::LeadingPlus),
            ("+", Reason::NotInteger),
            ("007", Reason::LeadingZero),
            ("00", Reason::LeadingZero),
            ("-07", Reason::LeadingZero),
            (" 5 ", Reason::OuterBlank),
            ("5\u{a0}", Reason::OuterBlank),
            ("1_000", Reason::NotInteger),
            ("1,000", Reason::NotInteger),
            ("1.0", Reason::NotInteger),
            ("1e3", Reason::NotInteger),
            ("0x10", Reason::NotInteger),
            ("٣", Reason::NotInteger),
            ("１", Reason::NotInteger),
            ("½", Reason::NotInteger),
            ("−5", Reason::NotInteger),
            ("5-", Reason::NotInteger),
            ("5\0", Reason::NotInteger),
            ("true", Reason::NotInteger),
        ] {
            assert_eq!(outcome(&integer(true, None), INT8, text), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn each_column_type_has_its_range_and_no_length_overflows() {
        for (column, min, max) in [
            (ColumnType::Int2, i128::from(i16::MIN), i128::from(i16::MAX)),
            (ColumnType::Int4, i128::from(i32::MIN), i128::from(i32::MAX)),
            (ColumnType::Int8, i128::from(i64::MIN), i128::from(i64::MAX)),
        ] {
            for value in [min - 1, min, min + 1, max - 1, max, max + 1, max * 10, max * 1000, i128::MAX] {
                let expected = if (min..=max).contains(&value) {
                    Ok(Cell::Int(value as i64))
                } else {
                    Err(Reason::OutOfRange(column))
                };
                assert_eq!(outcome(&integer(true, None), column, &value.to_string()), expected, "{value} {column}");
            }
        }
        let million = "9".repeat(1_000_000);
        assert_eq!(outcome(&integer(true, None), INT8, &million), Err(Reason::OutOfRange(INT8)));
        let numeric = ColumnType::Numeric(None);
        assert_eq!(outcome(&integer(true, None), numeric, &million), Err(Reason::OutOfRange(numeric)));
    }

    #[test]
    fn numeric_columns_hold_long_integers() {
        let shown = |column, text: &str| shown(&integer(true, None), column, text);
        assert_eq!(
            shown(ColumnType::Numeric(None), "123456789012345678901234567890"),
            Ok("123456789012345678901234567890".into())
        );
        assert_eq!(shown(ColumnType::Numeric(Some((5, 2))), "-123"), Ok("-123.00".into()));
        assert_eq!(
            shown(ColumnType::Numeric(Some((5, 2))), "1234"),
            Err(Reason::OutOfRange(ColumnType::Numeric(Some((5, 2)))))
        );
        assert_eq!(shown(ColumnType::Numeric(None), "-0"), Ok("0".into()));
        assert_eq!(shown(ColumnType::Numeric(None), "1.5"), Err(Reason::NotInteger));
    }

    #[test]
    fn groups_must_stand_where_groups_stand() {
        let kind = integer(true, Some(','));
        for (text, value) in [("1,234", 1234), ("-1,234,567", -1_234_567), ("12,34,567", 1_234_567), ("1234", 1234)] {
            assert_eq!(outcome(&kind, INT8, text), Ok(Cell::Int(value)), "{text}");
        }
        for text in ["1,23", "1,2345", ",123", "1,,234", "1234,567", "123,", "1,234,56", "1,2,345", "-,123", ","] {
            assert_eq!(outcome(&kind, INT8, text), Err(Reason::DigitGroups), "{text}");
        }
        assert_eq!(outcome(&kind, INT8, "0,123"), Err(Reason::LeadingZero));
        assert_eq!(outcome(&integer(true, Some('\u{202f}')), INT8, "1\u{202f}234"), Ok(Cell::Int(1234)));
        assert_eq!(outcome(&integer(true, Some('\'')), INT8, "1'234"), Ok(Cell::Int(1234)));
    }

    #[test]
    fn text_around_a_number_goes_only_when_asked_and_never_with_a_meaning() {
        let kind = integer(false, None);
        for (text, value) in
            [("$5", 5), ("5 EUR", 5), ("EUR -5", -5), ("95%", 95), ("  7 ", 7), ("-5kg", -5), ("№ 8", 8)]
        {
            assert_eq!(outcome(&kind, INT8, text), Ok(Cell::Int(value)), "{text}");
        }
        assert_eq!(outcome(&kind, INT8, "(5)"), Err(Reason::Accounting));
        assert_eq!(outcome(&kind, INT8, "$(1234)"), Err(Reason::Accounting));
        for text in
            ["5-", "−5", "5٣", "½5", "$.5", "No.5", "1 2", "-$5", "5 CR 6", "EUR", "", "$ 0x10", "–5", "+-5", "5²"]
        {
            assert!(outcome(&kind, INT8, text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_i128_is_itself_or_out_of_range(value in prop_oneof![any::<i128>(), (-100_000_i128..100_000), any::<i64>().prop_map(i128::from)]) {
            for column in [ColumnType::Int2, ColumnType::Int4, INT8] {
                let expected = match column {
                    ColumnType::Int2 => i16::try_from(value).map(i64::from).ok(),
                    ColumnType::Int4 => i32::try_from(value).map(i64::from).ok(),
                    _ => i64::try_from(value).ok(),
                };
                let found = outcome(&integer(true, None), column, &value.to_string());
                prop_assert_eq!(found, expected.map(Cell::Int).ok_or(Reason::OutOfRange(column)));
            }
        }

        #[test]
        fn grouping_changes_nothing(value in any::<i64>()) {
            let digits = value.unsigned_abs().to_string();
            let mut grouped = String::new();
            for (i, digit) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i) % 3 == 0 {
                    grouped.push('.');
                }
                grouped.push(digit);
            }
            let text = if value < 0 { format!("-{grouped}") } else { grouped };
            prop_assert_eq!(outcome(&integer(true, Some('.')), INT8, &text), Ok(Cell::Int(value)));
        }
    }
}
