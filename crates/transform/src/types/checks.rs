//! Constraints on single values: lengths, bounds, pattern, enum. `required` is judged where missing values are.

use std::cmp::Ordering;

use regex::Regex;

use super::number::{self, Number};
use super::{Converted, Converter, json};
use crate::pipeline::{Constraints, Field, Kind};
use crate::reject::Reason;
use crate::row::{Cell, RowRef};
use crate::span::Span;
use crate::types::ColumnType;

/// The constraints of one field.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    checks: Vec<Check>,
}

/// Judges how a cell compares to its bound.
type Allows = fn(Ordering) -> bool;

#[derive(Clone, Debug)]
enum Check {
    MinLength(u64),
    MaxLength(u64),
    Bound {
        value: Value,
        allows: fn(Ordering) -> bool,
        reason: Reason,
    },
    /// Anchored at both ends.
    Pattern(Regex),
    /// Sorted.
    OneOfTexts(Box<[Box<str>]>),
    /// Sorted.
    OneOfValues(Box<[Value]>),
}

/// A converted value with the bytes its cell refers to.
#[derive(Clone, Debug)]
struct Value {
    cell: Cell,
    bytes: Vec<u8>,
}

impl Checks {
    /// Compiles a field's constraints; the error says which one makes no sense.
    pub fn compile(field: &Field, converter: &Converter) -> Result<Self, String> {
        // Named one by one, so that a new constraint cannot be forgotten here.
        let Constraints {
            required: _,
            min_length,
            max_length,
            minimum,
            maximum,
            exclusive_minimum,
            exclusive_maximum,
            pattern,
            one_of,
        } = &field.constraints;
        let mut checks = Vec::new();
        if min_length.is_some() || max_length.is_some() {
            if !matches!(field.kind, Kind::String { .. } | Kind::Object | Kind::Array) {
                return Err(format!("minLength and maxLength are not for type {:?}", field.kind.as_str()));
            }
            if let (Some(min), Some(max)) = (min_length, max_length)
                && min > max
            {
                return Err(format!("minLength {min} is more than maxLength {max}"));
            }
            checks.extend(min_length.map(Check::MinLength));
            checks.extend(max_length.map(Check::MaxLength));
        }
        let bounds: [(_, _, Allows, _); 4] = [
            ("minimum", minimum, Ordering::is_ge, Reason::Minimum),
            ("maximum", maximum, Ordering::is_le, Reason::Maximum),
            ("exclusiveMinimum", exclusive_minimum, Ordering::is_gt, Reason::ExclusiveMinimum),
            ("exclusiveMaximum", exclusive_maximum, Ordering::is_lt, Reason::ExclusiveMaximum),
        ];
        for (name, text, allows, reason) in bounds {
            if let Some(text) = text {
                let value = bound(field, converter, text).map_err(|error| format!("{name} {text:?}: {error}"))?;
                checks.push(Check::Bound { value, allows, reason });
            }
        }
        if let Some(pattern) = pattern {
            checks.push(Check::Pattern(whole_match(pattern)?));
        }
        if let Some(values) = one_of {
            checks.push(one_of_check(field, converter, values)?);
        }
        Ok(Self { checks })
    }

    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// Judges one value: its cell, its cleaned text, and the scratch the cell's span may point into.
    #[inline]
    pub fn check(&self, cell: Cell, text: &str, scratch: &[u8]) -> Result<(), Reason> {
        for check in &self.checks {
            check.judge(cell, text, scratch)?;
        }
        Ok(())
    }
}

impl Check {
    fn judge(&self, cell: Cell, text: &str, scratch: &[u8]) -> Result<(), Reason> {
        match self {
            Self::MinLength(min) if length(cell, text, scratch) < *min => Err(Reason::MinLength),
            Self::MaxLength(max) if exceeds(cell, text, scratch, *max) => Err(Reason::MaxLength),
            Self::MinLength(_) | Self::MaxLength(_) => Ok(()),
            Self::Bound { value, allows, reason } => {
                if allows(value.compare(cell, scratch)) {
                    Ok(())
                } else {
                    Err(*reason)
                }
            }
            Self::Pattern(pattern) if pattern.is_match(text) => Ok(()),
            Self::Pattern(_) => Err(Reason::Pattern),
            Self::OneOfTexts(texts) if texts.binary_search_by(|known| (**known).cmp(text)).is_ok() => Ok(()),
            Self::OneOfValues(values)
                if values.binary_search_by(|known| known.compare(cell, scratch).reverse()).is_ok() =>
            {
                Ok(())
            }
            Self::OneOfTexts(_) | Self::OneOfValues(_) => Err(Reason::NotInEnum),
        }
    }
}

/// Characters of a text, items of an object or array.
fn length(cell: Cell, text: &str, scratch: &[u8]) -> u64 {
    match cell {
        Cell::Json(span) => json::count_items(bytes_of(span, scratch)),
        _ => text.chars().count() as u64,
    }
}

fn exceeds(cell: Cell, text: &str, scratch: &[u8], max: u64) -> bool {
    // Neither characters nor items outnumber bytes.
    text.len() as u64 > max && length(cell, text, scratch) > max
}

/// Bytes of a span in scratch, where everything stands that a converter writes.
fn bytes_of(span: Span, scratch: &[u8]) -> &[u8] {
    RowRef::of_cells(&[], "", scratch).bytes(span)
}

impl Value {
    /// How a cell compares to this value. Cells of one field have one kind, but for short and long numbers.
    fn compare(&self, cell: Cell, scratch: &[u8]) -> Ordering {
        match (cell, self.cell) {
            (Cell::Bool(a), Cell::Bool(b)) => a.cmp(&b),
            (Cell::Int(a), Cell::Int(b)) => a.cmp(&b),
            (Cell::Days(a), Cell::Days(b)) => a.cmp(&b),
            (Cell::Micros(a), Cell::Micros(b)) => a.cmp(&b),
            (Cell::Float(a), Cell::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Cell::Json(a), Cell::Json(b)) => bytes_of(a, scratch).cmp(bytes_of(b, &self.bytes)),
            (cell, value) => compare_numbers(cell, scratch, value, &self.bytes),
        }
    }
}

/// Compares exactly, whatever the scales and lengths.
fn compare_numbers(a: Cell, a_bytes: &[u8], b: Cell, b_bytes: &[u8]) -> Ordering {
    let short = |cell| match cell {
        Cell::Int(value) => Some((value, 0)),
        Cell::Decimal { unscaled, scale } => Some((unscaled, scale)),
        _ => None,
    };
    if let (Some((a, a_scale)), Some((b, b_scale))) = (short(a), short(b)) {
        if a_scale == b_scale {
            return a.cmp(&b);
        }
        // 19 digits with 18 zeros more still fit.
        let at = |value: i64, scale: u8| i128::from(value) * 10_i128.pow(u32::from(a_scale.max(b_scale) - scale));
        return at(a, a_scale).cmp(&at(b, b_scale));
    }
    let (mut a_buffer, mut b_buffer) = ([0; 24], [0; 24]);
    let a = Plain::of(number_text(a, a_bytes, &mut a_buffer));
    a.compare(&Plain::of(number_text(b, b_bytes, &mut b_buffer)))
}

/// The canonical digits of a numeric cell; a short one is written into `buffer`.
fn number_text<'a>(cell: Cell, bytes: &'a [u8], buffer: &'a mut [u8; 24]) -> &'a [u8] {
    let (unscaled, scale) = match cell {
        Cell::Number(span) => return bytes_of(span, bytes),
        Cell::Int(value) => (value, 0),
        Cell::Decimal { unscaled, scale } => (unscaled, usize::from(scale)),
        _ => (0, 0),
    };
    let mut digits = [0; 20];
    let digits = number::write_unsigned(unscaled.unsigned_abs(), &mut digits);
    let mut at = buffer.len();
    let mut push = |byte| {
        at -= 1;
        buffer[at] = byte;
    };
    for place in 0..digits.len().max(scale + 1) {
        if place == scale && scale > 0 {
            push(b'.');
        }
        push(if place < digits.len() { digits[digits.len() - 1 - place] } else { b'0' });
    }
    if unscaled < 0 {
        push(b'-');
    }
    &buffer[at..]
}

/// A number in canonical text, taken apart.
struct Plain<'a> {
    negative: bool,
    whole: &'a [u8],
    /// Without zeros at the end.
    fraction: &'a [u8],
}

impl<'a> Plain<'a> {
    fn of(text: &'a [u8]) -> Self {
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let (whole, fraction) = match memchr::memchr(b'.', digits) {
            Some(at) => (&digits[..at], &digits[at + 1..]),
            None => (digits, &[][..]),
        };
        let kept = fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |at| at + 1);
        Self { negative, whole, fraction: &fraction[..kept] }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let size = self.whole.len().cmp(&other.whole.len());
        let size = size.then_with(|| self.whole.cmp(other.whole)).then_with(|| self.fraction.cmp(other.fraction));
        match (self.negative, other.negative) {
            (false, false) => size,
            (true, true) => size.reverse(),
            // Canonical text has no negative zero.
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

/// A value of the pipeline file by a converter.
fn value_of(converter: &Converter, text: &str) -> Result<Value, Reason> {
    let mut bytes = Vec::new();
    match converter.convert(text, &mut bytes)? {
        Converted::Cell(cell) => Ok(Value { cell, bytes }),
        Converted::Text => Ok(Value { cell: Cell::Null, bytes }),
    }
}

/// Bounds of numbers are written plainly, whatever the file's notation; dates and times in the field's format or ISO.
fn bound(field: &Field, converter: &Converter, text: &str) -> Result<Value, String> {
    let explain = |reason: Reason| reason.message(Some(field));
    let column = converter.column();
    match field.kind {
        Kind::Integer { .. } | Kind::Number { .. } | Kind::Year => {
            let plain = Kind::Number { decimal: '.', group: None, bare: true, precision: None };
            let is_float = matches!(column, ColumnType::Float4 | ColumnType::Float8);
            let column = if is_float { column } else { ColumnType::Numeric(None) };
            let mut bytes = Vec::new();
            let cell = Number::compile(&plain, column)?.convert(text, &mut bytes).map_err(explain)?;
            Ok(Value { cell, bytes })
        }
        Kind::Date { .. } | Kind::Datetime { .. } | Kind::Time { .. } => {
            let own = value_of(converter, text);
            own.or_else(|reason| value_of(&converter.iso(), text).map_err(|_| explain(reason)))
        }
        Kind::String { .. } | Kind::Boolean { .. } | Kind::Object | Kind::Array => {
            Err(format!("bounds are not for type {:?}", field.kind.as_str()))
        }
    }
}

fn one_of_check(field: &Field, converter: &Converter, texts: &[String]) -> Result<Check, String> {
    if texts.is_empty() {
        return Err("enum has no value".into());
    }
    let convert = |text: &String| {
        value_of(converter, text).map_err(|reason| format!("enum {text:?}: {}", reason.message(Some(field))))
    };
    let mut values = texts.iter().map(convert).collect::<Result<Vec<_>, _>>()?;
    if matches!(field.kind, Kind::String { .. }) {
        let mut texts: Vec<Box<str>> = texts.iter().map(|text| text.as_str().into()).collect();
        texts.sort_unstable();
        return Ok(Check::OneOfTexts(texts.into()));
    }
    values.sort_unstable_by(|a, b| b.compare(a.cell, &a.bytes));
    Ok(Check::OneOfValues(values.into()))
}

/// The pattern anchored at both ends.
fn whole_match(pattern: &str) -> Result<Regex, String> {
    let explain = |error: regex::Error| format!("pattern {pattern:?}: {error}");
    // On its own first: `a)(b` must not become valid by the parentheses around it.
    Regex::new(pattern).map_err(explain)?;
    // With (?x) a comment at its end would swallow our parenthesis; the line end is a blank there.
    Regex::new(&format!(r"\A(?:{pattern})\z"))
        .or_else(|_| Regex::new(&format!("\\A(?:{pattern}\n)\\z")))
        .map_err(explain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{field, integer, number, string};
    use super::*;
    use crate::pipeline::StringFormat;

    /// Converts and checks one text as a plan does.
    fn check(field: &Field, column: ColumnType, text: &str) -> Result<(), Reason> {
        let converter = Converter::compile(field, column).unwrap();
        let checks = Checks::compile(field, &converter).unwrap();
        let mut scratch = b"before".to_vec();
        let cell = match converter.convert(text, &mut scratch).unwrap() {
            Converted::Cell(cell) => cell,
            Converted::Text => Cell::Text(Span::block(0, text.len())),
        };
        checks.check(cell, text, &scratch)
    }

    fn with(kind: Kind, constraints: Constraints) -> Field {
        Field { constraints, ..field(&kind) }
    }

    fn bounds(minimum: Option<&str>, maximum: Option<&str>) -> Constraints {
        Constraints { minimum: minimum.map(Into::into), maximum: maximum.map(Into::into), ..Constraints::default() }
    }

    fn exclusive(minimum: Option<&str>, maximum: Option<&str>) -> Constraints {
        Constraints {
            exclusive_minimum: minimum.map(Into::into),
            exclusive_maximum: maximum.map(Into::into),
            ..Constraints::default()
        }
    }

    fn refused(field: &Field, column: ColumnType) -> bool {
        Checks::compile(field, &Converter::compile(field, column).unwrap()).is_err()
    }

    #[test]
    fn bounds_include_their_end_and_exclusive_ones_do_not() {
        let field = with(integer(true, None), bounds(Some("0"), Some("150")));
        for (text, expected) in
            [("0", Ok(())), ("150", Ok(())), ("-1", Err(Reason::Minimum)), ("151", Err(Reason::Maximum))]
        {
            assert_eq!(check(&field, ColumnType::Int2, text), expected, "{text}");
        }
        let field = with(integer(true, None), exclusive(Some("0"), Some("1.5")));
        for (text, expected) in
            [("0", Err(Reason::ExclusiveMinimum)), ("1", Ok(())), ("2", Err(Reason::ExclusiveMaximum))]
        {
            assert_eq!(check(&field, ColumnType::Int8, text), expected, "{text}");
        }
        // A bound beyond the column's range still bounds.
        let field = with(integer(true, None), bounds(Some("-99999999999999999999"), Some("1e30")));
        assert_eq!(check(&field, ColumnType::Int2, "5"), Ok(()));
    }

    #[test]
    fn decimals_are_compared_exactly_whatever_their_scale_or_length() {
        let field = with(number(), bounds(Some("0.10"), Some("12345678901234567890.5")));
        for (text, expected) in [
            ("0.1", Ok(())),
            ("0.1000", Ok(())),
            ("0.09999999999999999999999999", Err(Reason::Minimum)),
            ("-5", Err(Reason::Minimum)),
            ("12345678901234567890.50", Ok(())),
            ("12345678901234567890.5000000000000001", Err(Reason::Maximum)),
            ("12345678901234567891", Err(Reason::Maximum)),
            ("9e30", Err(Reason::Maximum)),
            ("-9e30", Err(Reason::Minimum)),
        ] {
            assert_eq!(check(&field, ColumnType::Numeric(None), text), expected, "{text}");
        }
        // Bounds are written plainly, whatever the file's own notation.
        let german = Kind::Number { decimal: ',', group: Some('.'), bare: true, precision: None };
        let field = with(german, bounds(Some("1.5"), None));
        assert_eq!(check(&field, ColumnType::Numeric(Some((12, 2))), "1,50"), Ok(()));
        assert_eq!(check(&field, ColumnType::Numeric(Some((12, 2))), "1,49"), Err(Reason::Minimum));
        let field = with(number(), exclusive(None, Some("0.1")));
        assert_eq!(check(&field, ColumnType::Float8, "0.1"), Err(Reason::ExclusiveMaximum));
        assert_eq!(check(&field, ColumnType::Float8, "0.09"), Ok(()));
    }

    #[test]
    fn dates_and_times_are_compared_by_value() {
        let field =
            with(Kind::Date { format: Some("%d/%m/%Y".into()) }, bounds(Some("01/02/2024"), Some("2024-12-31")));
        for (text, expected) in
            [("31/01/2024", Err(Reason::Minimum)), ("1/2/2024", Ok(())), ("01/01/2025", Err(Reason::Maximum))]
        {
            assert_eq!(check(&field, ColumnType::Date, text), expected, "{text}");
        }
        let paris = Kind::Datetime { format: None, timezone: Some("Europe/Paris".into()) };
        let field = with(paris, bounds(Some("2024-07-01T12:00:00"), None));
        assert_eq!(check(&field, ColumnType::Timestamptz(6), "2024-07-01T10:00:00Z"), Ok(()));
        assert_eq!(check(&field, ColumnType::Timestamptz(6), "2024-07-01T09:59:59Z"), Err(Reason::Minimum));
        let field = with(Kind::Time { format: None }, bounds(None, Some("12:00")));
        assert_eq!(check(&field, ColumnType::Time(6), "12:00:00.000001"), Err(Reason::Maximum));
        let field = with(Kind::Year, bounds(Some("1900"), None));
        assert_eq!(check(&field, ColumnType::Int4, "1899"), Err(Reason::Minimum));
    }

    #[test]
    fn lengths_count_characters_or_items() {
        let length =
            |kind, min, max| with(kind, Constraints { min_length: min, max_length: max, ..Constraints::default() });
        let field = length(string(StringFormat::Default), Some(2), Some(3));
        for (text, expected) in
            [("é", Err(Reason::MinLength)), ("éé", Ok(())), ("ééé", Ok(())), ("éééé", Err(Reason::MaxLength))]
        {
            assert_eq!(check(&field, ColumnType::Text, text), expected, "{text}");
        }
        let field = length(Kind::Array, Some(1), Some(2));
        for (text, expected) in
            [("[ ]", Err(Reason::MinLength)), ("[[1,2,3]]", Ok(())), ("[1,2,3]", Err(Reason::MaxLength))]
        {
            assert_eq!(check(&field, ColumnType::Jsonb, text), expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_value() {
        let pattern = |pattern: &str| {
            with(string(StringFormat::Default), Constraints { pattern: Some(pattern.into()), ..Constraints::default() })
        };
        for (expression, text, matches) in [
            ("a|ab", "ab", true),
            ("[a-z]+", "abc1", false),
            ("[a-z]+", "abc\n", false),
            ("a.c", "abc", true),
            ("", "", true),
            ("", "a", false),
            ("(?x) a b # and no more", "ab", true),
            ("(?i)abc", "ABC", true),
        ] {
            let expected = if matches { Ok(()) } else { Err(Reason::Pattern) };
            assert_eq!(check(&pattern(expression), ColumnType::Text, text), expected, "{expression} {text:?}");
        }
        for expression in ["(", "a)(b", "(?=a)", r"(a)\1"] {
            assert!(refused(&pattern(expression), ColumnType::Text), "{expression}");
        }
    }

    #[test]
    fn an_enum_compares_texts_of_strings_and_values_of_the_rest() {
        let one_of = |kind, values: &[&str]| {
            let values = Some(values.iter().map(|value| (*value).into()).collect());
            with(kind, Constraints { one_of: values, ..Constraints::default() })
        };
        let field = one_of(string(StringFormat::Default), &["b", "a", "é"]);
        for (text, expected) in
            [("a", Ok(())), ("é", Ok(())), ("A", Err(Reason::NotInEnum)), ("", Err(Reason::NotInEnum))]
        {
            assert_eq!(check(&field, ColumnType::Text, text), expected, "{text}");
        }
        let field = one_of(number(), &["1.50", "-3", "12345678901234567890", "0"]);
        for (text, expected) in [
            ("1.5", Ok(())),
            ("-3.000", Ok(())),
            ("12345678901234567890.0", Ok(())),
            ("1.51", Err(Reason::NotInEnum)),
            ("3", Err(Reason::NotInEnum)),
        ] {
            assert_eq!(check(&field, ColumnType::Numeric(None), text), expected, "{text}");
        }
        let field = one_of(Kind::Array, &["[1,2]", "[]"]);
        assert_eq!(check(&field, ColumnType::Jsonb, "[ 1, 2 ]"), Ok(()));
        assert_eq!(check(&field, ColumnType::Jsonb, "[2, 1]"), Err(Reason::NotInEnum));
        let field = one_of(Kind::Date { format: Some("%d/%m/%Y".into()) }, &["01/02/2024"]);
        assert_eq!(check(&field, ColumnType::Date, "1/2/2024"), Ok(()));
    }

    #[test]
    fn constraints_that_make_no_sense_are_refused() {
        let lengths = Constraints { min_length: Some(1), ..Constraints::default() };
        assert!(refused(&with(integer(true, None), lengths), ColumnType::Int8));
        let crossed = Constraints { min_length: Some(3), max_length: Some(2), ..Constraints::default() };
        assert!(refused(&with(string(StringFormat::Default), crossed), ColumnType::Text));
        assert!(refused(&with(string(StringFormat::Default), bounds(Some("a"), None)), ColumnType::Text));
        assert!(refused(&with(integer(true, None), bounds(Some("five"), None)), ColumnType::Int8));
        assert!(refused(&with(Kind::Date { format: None }, bounds(Some("2024-02-30"), None)), ColumnType::Date));
        let empty = Constraints { one_of: Some(Vec::new()), ..Constraints::default() };
        assert!(refused(&with(string(StringFormat::Default), empty), ColumnType::Text));
        let wrong = Constraints { one_of: Some(vec!["x".into()]), ..Constraints::default() };
        assert!(refused(&with(integer(true, None), wrong), ColumnType::Int8));
    }

    proptest! {
        #[test]
        fn numbers_are_ordered_as_their_values(a in any::<i64>(), a_scale in 0_u32..19, b in any::<i64>(), b_scale in 0_u32..19) {
            let written = |value: i64, scale: u32| {
                let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale as usize + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
                let whole = whole.trim_start_matches('0');
                format!("{}{}.{fraction}", if value < 0 { "-" } else { "" }, if whole.is_empty() { "0" } else { whole })
            };
            let (a_text, b_text) = (written(a, a_scale), written(b, b_scale));
            let value = |value: i64, scale: u32| i128::from(value) * 10_i128.pow(18 - scale);
            let field = with(number(), bounds(Some(&b_text), None));
            let expected = if value(a, a_scale) >= value(b, b_scale) { Ok(()) } else { Err(Reason::Minimum) };
            prop_assert_eq!(check(&field, ColumnType::Numeric(None), &a_text), expected, "{} {}", a_text, b_text);
            let field = with(number(), Constraints { one_of: Some(vec![b_text]), ..Constraints::default() });
            let expected = if value(a, a_scale) == value(b, b_scale) { Ok(()) } else { Err(Reason::NotInEnum) };
            prop_assert_eq!(check(&field, ColumnType::Numeric(None), &a_text), expected);
        }
    }
}
