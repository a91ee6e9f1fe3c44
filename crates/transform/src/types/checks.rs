//! Constraints on single values: lengths, bounds, pattern, enum. `required` is judged where missing values are.

use std::cmp::Ordering;

use regex::Regex;

use super::number::{self, Number};
use super::{Converted, Converter, json};
use crate::pipeline::{Constraints, Field, Kind};
use crate::reject::Reason;
use crate::row::{Cell, RowRef, Span};
use crate::types::ColumnType;

/// The constraints of one field.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    checks: Vec<Check>,
}

#[derive(Clone, Debug)]
enum Check {
    MinLength(u64),
    MaxLength(u64),
    Bound { value: Value, allows: fn(Ordering) -> bool, reason: Reason },
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
        let bounds: [(_, _, fn(Ordering) -> bool, _); 4] = [
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
                if allows(value.compare(cell, scratch)) { Ok(()) } else { Err(*reason) }
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
    Regex::new(&format!(r"\A(?:{pattern})\z")).or_else(|_| Regex::new(&format!("\\A(?:{pattern}\n)\\z"))).map_err(explain)
}
