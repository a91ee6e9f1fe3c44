//! Exact decimals: `[+-]?digits?[.digits?]([eE][+-]?digits)?` in the file's own notation.

use std::ops::Range;

use super::digits::{POWERS, all_digits, few};
use super::float::{self, Shortest};
use crate::pipeline::Kind;
use crate::reject::Reason;
use crate::row::Cell;
use crate::span::Span;
use crate::types::ColumnType;

/// PostgreSQL's limits for `numeric` without precision.
const MAX_INTEGER_DIGITS: i64 = 131_072;
const MAX_SCALE: i64 = 16_383;
/// From here on PostgreSQL refuses an exponent, whatever the digits before it.
const MAX_EXPONENT: i64 = (i32::MAX / 2) as i64;
/// Nine bytes such as `1e131071,` can stand for 128 KiB. What a record may grow to by that is bounded, since memory is.
const MAX_EXPANSION: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(super) struct Number {
    column: ColumnType,
    /// The decimal character when it is ASCII, for the fast path.
    point: u8,
    /// The same for the group character; 0 when there is none.
    group: u8,
    is_exact: bool,
    /// For [`Self::quick`].
    fixed: Option<Fixed>,
    notation: Notation,
}

/// A column with one to eight digits behind the point.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    scale: u8,
    /// Ten to the scale.
    power: i64,
    /// The least unscaled value with more digits than the column has.
    limit: i64,
}

impl Fixed {
    fn of(column: ColumnType) -> Option<Self> {
        let ColumnType::Numeric(Some((precision, scale @ 1..=8))) = column else { return None };
        // What is read has sixteen digits at most.
        let limit = POWERS[usize::from(precision.min(18))];
        Some(Self { scale: scale as u8, power: POWERS[usize::from(scale)], limit })
    }
}

impl Number {
    pub(super) fn compile(kind: &Kind, column: ColumnType) -> Result<Self, String> {
        let (decimal, group, bare) = match kind {
            Kind::Number { decimal, group, bare, .. } => (*decimal, *group, *bare),
            _ => ('.', None, true),
        };
        Ok(Self {
            column,
            // Where it is not ASCII, a byte no text holds sends everything down the slow path.
            point: u8::try_from(decimal).ok().filter(u8::is_ascii).unwrap_or(0xFF),
            group: group.and_then(|group| u8::try_from(group).ok()).filter(u8::is_ascii).unwrap_or(0),
            is_exact: matches!(column, ColumnType::Numeric(_)),
            fixed: Fixed::of(column),
            notation: Notation::compile(Some(decimal), group, bare)?,
        })
    }

    /// See [`super::Converter::quick`]: up to eight digits before the point and the column's own number of them behind it.
    #[inline]
    pub(super) fn quick(&self, bytes: &[u8], range: Range<usize>, cell: &mut Cell) -> bool {
        let Some((unscaled, scale)) = self.unscaled(bytes, range) else { return false };
        *cell = Cell::Decimal { unscaled, scale };
        true
    }

    #[inline]
    fn unscaled(&self, bytes: &[u8], range: Range<usize>) -> Option<(i64, u8)> {
        let Fixed { scale, power, limit } = self.fixed?;
        let (digits, is_negative) = unsigned(bytes, range);
        let point = digits.end.checked_sub(usize::from(scale) + 1).filter(|&at| at > digits.start)?;
        if bytes[point] != self.point || (bytes[digits.start] == b'0' && point > digits.start + 1) {
            return None;
        }
        let whole = i64::from(few(bytes, digits.start..point)?);
        let fraction = i64::from(few(bytes, point + 1..digits.end)?);
        let unscaled = whole * power + fraction;
        if unscaled >= limit {
            return None;
        }
        Some((if is_negative { -unscaled } else { unscaled }, scale))
    }

    #[inline]
    pub(super) fn convert(&self, text: &str, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        if self.is_exact
            && let Some(decimal) = short(text.as_bytes(), self.point)
        {
            return decimal_cell(decimal, self.column, scratch);
        }
        if self.is_exact
            && self.group != 0
            && let Some(decimal) = short_grouped(text.as_bytes(), self.point, self.group)
        {
            return decimal_cell(decimal, self.column, scratch);
        }
        self.convert_slow(text, scratch)
    }

    #[inline(never)]
    fn convert_slow(&self, text: &str, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        self.notation.with_plain(text, |plain| match short(plain, b'.') {
            Some(decimal) if self.is_exact => decimal_cell(decimal, self.column, scratch),
            _ => scan(plain)?.cell(self.column, scratch),
        })?
    }
}

/// A number's range without its minus sign, and whether it has one.
#[inline]
pub(super) fn unsigned(bytes: &[u8], range: Range<usize>) -> (Range<usize>, bool) {
    let is_negative = bytes.get(range.start) == Some(&b'-');
    (range.start + usize::from(is_negative)..range.end, is_negative)
}

/// A decimal of at most eighteen digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) unscaled: i64,
    pub(super) scale: u8,
}

/// A number without exponent of at most eighteen digits; `None` for everything else.
#[inline]
fn short(bytes: &[u8], point: u8) -> Option<Decimal> {
    let (negative, body) = match bytes {
        [b'-', body @ ..] => (true, body),
        [b'+', body @ ..] => (false, body),
        body => (false, body),
    };
    if body.len() > 19 {
        return None;
    }
    if let [b'0', b'0'..=b'9', ..] = body {
        return None;
    }
    let mut value: u64 = 0;
    let mut point_at = usize::MAX;
    for (i, &byte) in body.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == point && point_at == usize::MAX {
            point_at = i;
        } else {
            return None;
        }
    }
    let (digits, scale) =
        if point_at == usize::MAX { (body.len(), 0) } else { (body.len() - 1, body.len() - 1 - point_at) };
    if digits == 0 || digits > 18 {
        return None;
    }
    let value = value as i64;
    Some(Decimal { unscaled: if negative { -value } else { value }, scale: scale as u8 })
}

/// The same with well-formed groups; `None` for everything else, well formed or not.
#[inline]
fn short_grouped(bytes: &[u8], point: u8, group: u8) -> Option<Decimal> {
    // 18 digits with a group character after every second one at most, a sign and a point.
    if bytes.len() > 28 {
        return None;
    }
    let mut plain = [0; 28];
    let mut len = 0;
    // Digits since the start or the last group character, and whether there was one.
    let (mut run, mut grouped, mut in_whole) = (0, false, true);
    for (at, &byte) in bytes.iter().enumerate() {
        if byte == group {
            let well_formed = in_whole && if grouped { run == 2 || run == 3 } else { (1..=3).contains(&run) };
            if !well_formed {
                return None;
            }
            (run, grouped) = (0, true);
            continue;
        }
        if byte.is_ascii_digit() {
            run += 1;
        } else if byte == point {
            if grouped && in_whole && run != 3 {
                return None;
            }
            in_whole = false;
        } else if at > 0 {
            return None;
        }
        plain[len] = byte;
        len += 1;
    }
    if grouped && in_whole && run != 3 {
        return None;
    }
    short(&plain[..len], point)
}

/// Brings a decimal to the column's scale.
#[inline]
pub(super) fn decimal_cell(decimal: Decimal, column: ColumnType, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
    let Decimal { unscaled, scale } = decimal;
    let ColumnType::Numeric(Some((precision, target))) = column else {
        return Ok(Cell::Decimal { unscaled, scale });
    };
    let unscaled = if u16::from(scale) == target {
        unscaled
    } else if u16::from(scale) > target {
        let divisor = POWERS[usize::from(u16::from(scale) - target)];
        if unscaled % divisor != 0 {
            return Err(Reason::WouldRound(column));
        }
        unscaled / divisor
    } else {
        let widened = POWERS
            .get(usize::from(target - u16::from(scale)))
            .and_then(|factor| unscaled.checked_mul(*factor))
            .filter(|widened| widened.unsigned_abs() < POWERS[18].unsigned_abs());
        match widened {
            Some(widened) if target <= 18 => widened,
            _ => return long_decimal(decimal, column, scratch),
        }
    };
    if precision < 18 && unscaled.unsigned_abs() >= POWERS[usize::from(precision)].unsigned_abs() {
        return Err(Reason::OutOfRange(column));
    }
    Ok(Cell::Decimal { unscaled, scale: target as u8 })
}

/// A short decimal that is long at the column's scale.
#[cold]
fn long_decimal(decimal: Decimal, column: ColumnType, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
    let mut buffer = [0; 20];
    let digits = write_unsigned(decimal.unscaled.unsigned_abs(), &mut buffer);
    let negative = decimal.unscaled < 0;
    Digits { plain: digits, negative, whole: digits, fraction: &[], exponent: -i64::from(decimal.scale) }
        .cell(column, scratch)
}

/// The decimal digits of `value`, at the end of `buffer`.
pub(super) fn write_unsigned(mut value: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &buffer[at..];
        }
    }
}

/// A scanned number of any length: `±whole.fraction × 10^exponent`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits<'a> {
    /// As scanned, for the standard library's float parser.
    plain: &'a [u8],
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Takes a plain number apart.
pub(super) fn scan(plain: &[u8]) -> Result<Digits<'_>, Reason> {
    let (negative, body) = match plain {
        [b'-', body @ ..] => (true, body),
        [b'+', body @ ..] => (false, body),
        body => (false, body),
    };
    let run = |bytes: &[u8]| bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let (whole, rest) = body.split_at(run(body));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(run(rest)),
        rest => (&[][..], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(why_not(plain, body));
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => scan_exponent(rest).ok_or(Reason::NotNumber)?,
        _ => return Err(why_not(plain, body)),
    };
    if whole.len() > 1 && whole[0] == b'0' {
        return Err(Reason::LeadingZero);
    }
    Ok(Digits { plain, negative, whole, fraction, exponent })
}

/// The exponent, clamped far beyond what any column holds.
fn scan_exponent(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !all_digits(digits) {
        return None;
    }
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits = &digits[zeros..];
    let value = match digits.len() {
        0 => 0,
        1..=15 => super::digits::up_to_eighteen(digits)?,
        _ => POWERS[15],
    };
    Some(if negative { -value } else { value })
}

#[cold]
fn why_not(plain: &[u8], body: &[u8]) -> Reason {
    let not_finite = ["nan", "inf", "infinity"].iter().any(|word| body.eq_ignore_ascii_case(word.as_bytes()));
    if not_finite {
        Reason::NotFinite
    } else if has_outer_blank(plain) {
        Reason::OuterBlank
    } else {
        Reason::NotNumber
    }
}

/// Whether the text starts or ends with a blank of any kind.
pub(super) fn has_outer_blank(text: &[u8]) -> bool {
    std::str::from_utf8(text)
        .is_ok_and(|text| text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace))
}

impl<'a> Digits<'a> {
    /// The digit at a place of `whole` and `fraction` joined.
    fn digit(&self, at: usize) -> u8 {
        if at < self.whole.len() { self.whole[at] } else { self.fraction[at - self.whole.len()] }
    }

    fn len(&self) -> usize {
        self.whole.len() + self.fraction.len()
    }

    /// Places of the first and last digit that is not zero; `None` for zero.
    fn significant(&self) -> Option<(usize, usize)> {
        let not_zero = |byte: &u8| *byte != b'0';
        let first = self
            .whole
            .iter()
            .position(not_zero)
            .or_else(|| self.fraction.iter().position(not_zero).map(|at| at + self.whole.len()))?;
        let last = self.fraction.iter().rposition(not_zero).map(|at| at + self.whole.len());
        let last = last.or_else(|| self.whole.iter().rposition(not_zero))?;
        Some((first, last))
    }

    /// The place the decimal point stands before.
    fn point(&self) -> i64 {
        self.whole.len() as i64 + self.exponent
    }

    /// Digits after the point as PostgreSQL counts them for `text::numeric`.
    fn scale(&self) -> i64 {
        (self.fraction.len() as i64 - self.exponent).max(0)
    }

    pub(super) fn cell(&self, column: ColumnType, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        if self.exponent.abs() >= MAX_EXPONENT {
            return Err(Reason::OutOfRange(column));
        }
        match column {
            ColumnType::Float4 | ColumnType::Float8 => self.float(column),
            ColumnType::Numeric(Some((precision, scale))) => {
                let (precision, scale) = (i64::from(precision), i64::from(scale));
                // The server reads the text before it looks at the column.
                if self.scale() > MAX_SCALE {
                    return Err(Reason::OutOfRange(column));
                }
                if let Some((first, last)) = self.significant() {
                    if self.point() - first as i64 > precision - scale {
                        return Err(Reason::OutOfRange(column));
                    }
                    if last as i64 >= self.point() + scale {
                        return Err(Reason::WouldRound(column));
                    }
                }
                self.exact(scale, scratch)
            }
            _ => {
                self.check_limits().map_err(|()| Reason::OutOfRange(column))?;
                self.exact(self.scale(), scratch)
            }
        }
    }

    /// PostgreSQL's limits for `numeric` without precision.
    fn check_limits(&self) -> Result<(), ()> {
        let whole = self.significant().map_or(0, |(first, _)| self.point() - first as i64);
        if whole > MAX_INTEGER_DIGITS || self.scale() > MAX_SCALE { Err(()) } else { Ok(()) }
    }

    fn exact(&self, scale: i64, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        let whole = self.significant().map_or(0, |(first, _)| self.point() - first as i64);
        if scale <= 18 && whole + scale <= 18 {
            let mut unscaled: i64 = 0;
            for place in self.point() - whole..self.point() + scale {
                unscaled = unscaled * 10 + i64::from(self.digit_or_zero(place) - b'0');
            }
            let unscaled = if self.negative { -unscaled } else { unscaled };
            return Ok(Cell::Decimal { unscaled, scale: scale as u8 });
        }
        let start = scratch.len();
        self.write(scale, scratch)?;
        Ok(Cell::Number(Span::scratch(start, scratch.len() - start)))
    }

    fn digit_or_zero(&self, place: i64) -> u8 {
        match usize::try_from(place) {
            Ok(at) if at < self.len() => self.digit(at),
            _ => b'0',
        }
    }

    /// Appends what PostgreSQL prints for `text::numeric`.
    pub(super) fn write_numeric(&self, out: &mut Vec<u8>) -> Result<(), Reason> {
        if self.exponent.abs() >= MAX_EXPONENT {
            return Err(Reason::NumberOutOfRange);
        }
        self.check_limits().map_err(|()| Reason::NumberOutOfRange)?;
        self.write(self.scale(), out)
    }

    /// Appends the number with exactly `scale` digits after the point, none of which is cut off.
    fn write(&self, scale: i64, out: &mut Vec<u8>) -> Result<(), Reason> {
        let significant = self.significant();
        let point = self.point();
        let first = significant.map_or(point, |(first, _)| first as i64);
        let whole = (point - first).max(0);
        let len = (whole.max(1) + scale) as usize + 2;
        if len > self.len() + 64 && out.len() + len > MAX_EXPANSION {
            return Err(Reason::ExpandedTooLong);
        }
        if self.negative && significant.is_some() {
            out.push(b'-');
        }
        if whole == 0 {
            out.push(b'0');
        } else {
            self.write_places(first, point, out);
        }
        if scale > 0 {
            out.push(b'.');
            self.write_places(point, point + scale, out);
        }
        Ok(())
    }

    /// Appends the digits at these places; zeros stand where nothing is written.
    fn write_places(&self, from: i64, to: i64, out: &mut Vec<u8>) {
        let len = self.len() as i64;
        let zeros_before = (to.min(0) - from).max(0);
        let (start, end) = (from.clamp(0, len), to.clamp(0, len));
        let zeros_after = (to - from.max(len)).max(0);
        out.resize(out.len() + zeros_before as usize, b'0');
        let (start, end, whole) = (start as usize, end.max(start) as usize, self.whole.len());
        out.extend_from_slice(&self.whole[start.min(whole)..end.min(whole)]);
        out.extend_from_slice(&self.fraction[start.max(whole) - whole..end.max(whole) - whole]);
        out.resize(out.len() + zeros_after as usize, b'0');
    }

    /// A binary float, when its shortest decimal is the number written.
    fn float(&self, column: ColumnType) -> Result<Cell, Reason> {
        let is_single = column == ColumnType::Float4;
        let text = std::str::from_utf8(self.plain).map_err(|_| Reason::NotNumber)?;
        let value = if is_single { text.parse().map(|value: f32| f64::from(value)) } else { text.parse() };
        let value: f64 = value.map_err(|_| Reason::NotNumber)?;
        let Some((first, last)) = self.significant() else {
            return Ok(Cell::Float(value));
        };
        if value == 0.0 || !value.is_finite() {
            return Err(Reason::OutOfRange(column));
        }
        if last - first >= 17 {
            return Err(Reason::WouldRound(column));
        }
        let digits = (first..=last).fold(0_u64, |value, at| value * 10 + u64::from(self.digit(at) - b'0'));
        // A float that is not zero or infinite bounds the exponent.
        let exponent = i32::try_from(self.point() - last as i64 - 1).map_err(|_| Reason::OutOfRange(column))?;
        if float::is_shortest(Shortest { digits, exponent }, value.abs(), is_single) {
            Ok(Cell::Float(value))
        } else {
            Err(Reason::WouldRound(column))
        }
    }
}

/// How the file writes its numbers, and the way back to the plain form.
#[derive(Clone, Debug)]
pub(super) struct Notation {
    /// `None` for integers.
    decimal: Option<char>,
    group: Option<char>,
    bare: bool,
}

impl Notation {
    pub(super) fn compile(decimal: Option<char>, group: Option<char>, bare: bool) -> Result<Self, String> {
        let taken = |c: char| c.is_ascii_alphanumeric() || c.is_numeric() || c == '-' || c == '+' || c.is_control();
        if decimal.is_some_and(taken) {
            return Err("decimalChar is a character numbers are made of".into());
        }
        if group.is_some_and(taken) {
            return Err("groupChar is a character numbers are made of".into());
        }
        if group.is_some() && group == decimal {
            return Err("groupChar and decimalChar are the same character".into());
        }
        Ok(Self { decimal, group, bare })
    }

    fn no_match(&self) -> Reason {
        if self.decimal.is_some() { Reason::NotNumber } else { Reason::NotInteger }
    }

    /// Calls `read` with the number in plain notation: no groups, a full stop before the fraction, nothing around.
    #[inline]
    pub(super) fn with_plain<R>(&self, text: &str, read: impl FnOnce(&[u8]) -> R) -> Result<R, Reason> {
        let core = if self.bare { text } else { self.core(text)? };
        let has_groups = self.group.is_some_and(|group| core.contains(group));
        if !has_groups && self.decimal.is_none_or(|decimal| decimal == '.') {
            return Ok(read(core.as_bytes()));
        }
        if has_groups {
            self.check_groups(core)?;
        }
        let mut short = [0; 64];
        let mut long = Vec::new();
        let buffer = if core.len() <= short.len() {
            &mut short[..]
        } else {
            long.resize(core.len(), 0);
            &mut long[..]
        };
        let mut len = 0;
        for (at, c) in core.char_indices() {
            if Some(c) == self.group {
                continue;
            }
            if Some(c) == self.decimal {
                buffer[len] = b'.';
                len += 1;
            } else if c == '.' && self.decimal.is_some() {
                return Err(self.no_match());
            } else {
                let bytes = &core.as_bytes()[at..at + c.len_utf8()];
                buffer[len..len + bytes.len()].copy_from_slice(bytes);
                len += bytes.len();
            }
        }
        Ok(read(&buffer[..len]))
    }

    /// Groups stand in the whole part alone: one to three digits, then two or three each, three at the end.
    fn check_groups(&self, core: &str) -> Result<(), Reason> {
        let Some(group) = self.group else { return Ok(()) };
        let body = core.strip_prefix(['-', '+']).unwrap_or(core);
        let end = body.find(|c: char| Some(c) == self.decimal || c == 'e' || c == 'E').unwrap_or(body.len());
        let (whole, rest) = body.split_at(end);
        let mut parts = whole.split(group);
        let first = parts.next().map_or(0, str::len);
        let last = parts.next_back().map_or(0, str::len);
        if rest.contains(group)
            || !(1..=3).contains(&first)
            || last != 3
            || !parts.all(|part| matches!(part.len(), 2 | 3))
        {
            return Err(Reason::DigitGroups);
        }
        Ok(())
    }

    /// The number inside other text. Text that could change what the number means is a reject: a parenthesis (negative
    /// in accounts), a minus that is not the number's own, digits of other scripts, a separator cut off its digits.
    fn core<'a>(&self, text: &'a str) -> Result<&'a str, Reason> {
        let starts =
            |c: char| c.is_ascii_digit() || c == '-' || self.decimal.is_some_and(|decimal| c == '+' || c == decimal);
        let start = text.find(starts).ok_or(self.no_match())?;
        let (before, rest) = text.split_at(start);
        let end = rest.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
        let (core, after) = rest.split_at(end);
        if core.is_empty() {
            return Err(self.no_match());
        }
        for c in before.chars().chain(after.chars()) {
            if c == '(' || c == ')' {
                return Err(Reason::Accounting);
            }
            if c.is_numeric() || is_minus(c) {
                return Err(self.no_match());
            }
        }
        let separator = |c: char| matches!(c, '.' | ',' | '+') || Some(c) == self.decimal;
        if before.ends_with(separator) || (!before.is_empty() && self.decimal.is_some_and(|c| core.starts_with(c))) {
            return Err(self.no_match());
        }
        Ok(core)
    }
}

/// Hyphens, dashes and minus signs that people write before a negative number, or after it.
fn is_minus(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{2010}'
            ..='\u{2015}'
                | '\u{2052}'
                | '\u{207b}'
                | '\u{208b}'
                | '\u{2212}'
                | '\u{2796}'
                | '\u{fe58}'
                | '\u{fe63}'
                | '\u{ff0d}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{number, outcome, shown};
    use super::*;

    const ANY: ColumnType = ColumnType::Numeric(None);

    fn exact(p: u16, s: u16) -> ColumnType {
        ColumnType::Numeric(Some((p, s)))
    }

    fn written(decimal: char, group: Option<char>, bare: bool) -> Kind {
        Kind::Number { decimal, group, bare, precision: None }
    }

    #[test]
    fn numeric_without_precision_keeps_the_scale_as_written() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("1.50", "1.50"),
            (".5", "0.5"),
            ("5.", "5"),
            ("+5", "5"),
            ("-.5", "-0.5"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("1.5e-3", "0.0015"),
            ("1.50e1", "15.0"),
            ("1.5e3", "1500"),
            ("0e5", "0"),
            ("0.0e5", "0"),
            ("0e-5", "0.00000"),
            ("0.1e1", "1"),
            ("0.001e5", "100"),
            ("1e-20", "0.00000000000000000001"),
            ("123456789012345678", "123456789012345678"),
            ("1234567890123456789", "1234567890123456789"),
            ("-12345678901234567890.5", "-12345678901234567890.5"),
            ("0.0000000000000000001", "0.0000000000000000001"),
            ("1e0000000000000000000000002", "100"),
        ] {
            assert_eq!(shown(&number(), ANY, text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_a_reject() {
        for (text, reason) in [
            ("", Reason::NotNumber),
            (".", Reason::NotNumber),
            ("-", Reason::NotNumber),
            ("e5", Reason::NotNumber),
            ("1e", Reason::NotNumber),
            ("1e+", Reason::NotNumber),
            ("1e1.5", Reason::NotNumber),
            ("1.2.3", Reason::NotNumber),
            ("1.234,56", Reason::NotNumber),
            ("1,234", Reason::NotNumber),
            ("1'234.56", Reason::NotNumber),
            ("(1234)", Reason::NotNumber),
            ("12%", Reason::NotNumber),
            ("$1", Reason::NotNumber),
            ("1_000", Reason::NotNumber),
            ("0x10", Reason::NotNumber),
            ("٣", Reason::NotNumber),
            ("１", Reason::NotNumber),
            ("½", Reason::NotNumber),
            ("--1", Reason::NotNumber),
            ("1-", Reason::NotNumber),
            ("1\0", Reason::NotNumber),
            (" 1", Reason::OuterBlank),
            ("1\u{202f}", Reason::OuterBlank),
            ("007", Reason::LeadingZero),
            ("00.5", Reason::LeadingZero),
            ("-01", Reason::LeadingZero),
            ("NaN", Reason::NotFinite),
            ("nan", Reason::NotFinite),
            ("-inf", Reason::NotFinite),
            ("Infinity", Reason::NotFinite),
        ] {
            for column in [ANY, exact(12, 2), ColumnType::Float8, ColumnType::Float4] {
                assert_eq!(outcome(&number(), column, text), Err(reason), "{text:?} {column}");
            }
        }
    }

    #[test]
    fn a_column_with_scale_holds_a_value_exactly_or_not_at_all() {
        let round = |p, s| Err(Reason::WouldRound(exact(p, s)));
        let range = |p, s| Err(Reason::OutOfRange(exact(p, s)));
        for (p, s, text, expected) in [
            (12, 2, "1.5", Ok("1.50")),
            (12, 2, "1.500000", Ok("1.50")),
            (12, 2, "1e3", Ok("1000.00")),
            (12, 2, "1.005", round(12, 2)),
            (12, 2, "1e-3", round(12, 2)),
            (12, 2, "9999999999.99", Ok("9999999999.99")),
            (12, 2, "10000000000", range(12, 2)),
            (12, 2, "-10000000000.00", range(12, 2)),
            (12, 2, "1e10", range(12, 2)),
            (12, 2, "1e400", range(12, 2)),
            (12, 2, "0e-16383", Ok("0.00")),
            (12, 2, "0e-16384", range(12, 2)),
            (12, 2, "0e1000000", Ok("0.00")),
            (3, 0, "999", Ok("999")),
            (3, 0, "1000", range(3, 0)),
            (3, 0, "1.0", Ok("1")),
            (2, 5, "0.00099", Ok("0.00099")),
            (2, 5, "0.001", range(2, 5)),
            (2, 5, "0", Ok("0.00000")),
            (30, 20, "1.5", Ok("1.50000000000000000000")),
            (30, 20, "12345678901", range(30, 20)),
            (30, 20, "-1234567890.12345678901234567890", Ok("-1234567890.12345678901234567890")),
            (38, 10, "123456789012345678", Ok("123456789012345678.0000000000")),
            (18, 0, "999999999999999999", Ok("999999999999999999")),
            (19, 0, "9999999999999999999", Ok("9999999999999999999")),
            (18, 18, "0.999999999999999999", Ok("0.999999999999999999")),
            (18, 18, "1", range(18, 18)),
        ] {
            assert_eq!(
                shown(&number(), exact(p, s), text).as_deref(),
                expected.as_ref().map(|text| *text),
                "{p},{s} {text}"
            );
        }
    }

    #[test]
    fn postgresqls_limits_are_ours() {
        let shown = |text: &str| shown(&number(), ANY, text);
        assert_eq!(shown("1e131071").map(|text| text.len()), Ok(131_072));
        assert_eq!(shown("1e131072"), Err(Reason::OutOfRange(ANY)));
        assert_eq!(shown(&"9".repeat(131_072)).map(|text| text.len()), Ok(131_072));
        assert_eq!(shown(&"9".repeat(131_073)), Err(Reason::OutOfRange(ANY)));
        assert_eq!(shown("1e-16383").map(|text| text.len()), Ok(16_385));
        assert_eq!(shown("1e-16384"), Err(Reason::OutOfRange(ANY)));
        assert_eq!(shown("1e99999999999999999999"), Err(Reason::OutOfRange(ANY)));
        assert_eq!(shown("1e-99999999999999999999"), Err(Reason::OutOfRange(ANY)));
        assert_eq!(shown("0e99999999999999999999"), Err(Reason::OutOfRange(ANY)));
    }

    #[test]
    fn each_notation_is_read_as_declared_and_no_other() {
        for (kind, text, expected) in [
            (written(',', Some('.'), true), "1.234,56", Ok("1234.56")),
            (written(',', Some('.'), true), "1.234", Ok("1234")),
            (written(',', Some('.'), true), "1.23", Err(Reason::DigitGroups)),
            (written(',', Some('.'), true), "1,234.56", Err(Reason::DigitGroups)),
            (written(',', None, true), "1.5", Err(Reason::NotNumber)),
            (written(',', None, true), "1,5", Ok("1.5")),
            (written('.', Some(','), true), "1,234.56", Ok("1234.56")),
            (written('.', Some(','), true), "-12,34,567.8", Ok("-1234567.8")),
            (written('.', Some(','), true), "1.234,56", Err(Reason::DigitGroups)),
            (written('.', Some(','), true), "1,2e3", Err(Reason::DigitGroups)),
            (written('.', Some(','), true), "1,234e1", Ok("12340")),
            (written(',', Some('\u{a0}'), true), "1\u{a0}234,56", Ok("1234.56")),
            (written(',', Some('\u{202f}'), true), "1\u{202f}234\u{202f}567", Ok("1234567")),
            (written(',', Some(' '), true), " 1 234", Err(Reason::DigitGroups)),
            (written('\u{66b}', Some('\u{66c}'), true), "1\u{66c}234\u{66b}5", Ok("1234.5")),
            (written('.', Some('\''), true), "1'234'567.89", Ok("1234567.89")),
            (written('.', None, false), "$1.50", Ok("1.50")),
            (written('.', None, false), "95%", Ok("95")),
            (written('.', None, false), "EUR -1.5 net", Ok("-1.5")),
            (written(',', Some('.'), false), "1.234,56 €", Ok("1234.56")),
            (written('.', None, false), "(1.50)", Err(Reason::Accounting)),
            (written('.', None, false), "$.5", Err(Reason::NotNumber)),
            (written('.', None, false), ".5", Ok("0.5")),
            (written('.', None, false), "1.5-", Err(Reason::NotNumber)),
            (written('.', None, false), "−1.5", Err(Reason::NotNumber)),
            (written('.', None, false), "1½", Err(Reason::NotNumber)),
            (written('.', None, false), "none", Err(Reason::NotNumber)),
        ] {
            assert_eq!(shown(&kind, ANY, text).as_deref(), expected.as_ref().map(|text| *text), "{kind:?} {text}");
        }
    }

    #[test]
    fn notations_nobody_could_read_are_refused() {
        for (decimal, group) in
            [('.', Some('.')), ('5', None), ('e', None), ('-', None), (',', Some('+')), ('.', Some('1')), ('\n', None)]
        {
            assert!(Notation::compile(Some(decimal), group, true).is_err(), "{decimal:?} {group:?}");
        }
    }

    #[test]
    fn floats_are_taken_only_when_they_print_as_written() {
        let double = |text: &str| shown(&number(), ColumnType::Float8, text);
        let single = |text: &str| shown(&number(), ColumnType::Float4, text);
        for (text, expected) in [
            ("0.1", "0.1"),
            ("-0", "-0"),
            ("1e20", "1e+20"),
            ("100000000000000", "100000000000000"),
            ("1000000000000000", "1e+15"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"),
            ("1.50", "1.5"),
            ("123456.789", "123456.789"),
            ("1234567890123456", "1.234567890123456e+15"),
        ] {
            assert_eq!(double(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("0.1", "0.1"),
            ("999999", "999999"),
            ("1000000", "1e+06"),
            ("16777216", "1.6777216e+07"),
            // The float is 489637.625: of two decimals equally near PostgreSQL prints the even one.
            ("489637.62", "489637.62"),
        ] {
            assert_eq!(single(text).as_deref(), Ok(expected), "{text}");
        }
        let (four, eight) = (ColumnType::Float4, ColumnType::Float8);
        for (text, reason) in [
            ("1e400", Reason::OutOfRange(eight)),
            ("-1e400", Reason::OutOfRange(eight)),
            ("1e-400", Reason::OutOfRange(eight)),
            ("9007199254740993", Reason::WouldRound(eight)),
            ("0.1000000000000000055511151231257827", Reason::WouldRound(eight)),
            ("0.12345678901234567890123456789012345678901", Reason::WouldRound(eight)),
            ("3e-324", Reason::WouldRound(eight)),
            // Exactly between two floats: PostgreSQL prints 9.999999999999999e+22.
            ("1e23", Reason::WouldRound(eight)),
        ] {
            assert_eq!(double(text), Err(reason), "{text}");
        }
        for (text, reason) in [
            ("1e39", Reason::OutOfRange(four)),
            ("1e-46", Reason::OutOfRange(four)),
            ("16777217", Reason::WouldRound(four)),
            ("0.123456789", Reason::WouldRound(four)),
        ] {
            assert_eq!(single(text), Err(reason), "{text}");
        }
    }

    /// A number by its digits, the model all writing and reading is compared with.
    fn model(negative: bool, digits: &str, scale: usize) -> String {
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let sign = if negative && digits.bytes().any(|digit| digit != b'0') { "-" } else { "" };
        if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    proptest! {
        #[test]
        fn numbers_of_any_length_come_back(negative: bool, digits in "[0-9]{1,40}", scale in 0_usize..30) {
            let text = model(negative, &digits, scale);
            prop_assert_eq!(shown(&number(), ANY, &text), Ok(text.clone()));
            // With all digits the column needs, nothing changes either.
            let column = exact(100, scale as u16);
            prop_assert_eq!(shown(&number(), column, &text), Ok(text));
        }

        #[test]
        fn the_fast_path_for_groups_agrees_with_the_general_one(text in "-?[0-9]{1,4}([,.][0-9]{2,4}){0,4}(e1)?") {
            let notation = Notation::compile(Some('.'), Some(','), true).unwrap();
            if let Some(fast) = short_grouped(text.as_bytes(), b'.', b',') {
                prop_assert_eq!(notation.with_plain(&text, |plain| short(plain, b'.')), Ok(Some(fast)), "{}", text);
            }
        }

        #[test]
        fn an_exponent_moves_the_point(negative: bool, digits in "[1-9][0-9]{0,24}", scale in 0_usize..24, exponent in -30_i32..30) {
            let plain = model(negative, &digits, scale);
            let scale_after = (scale as i32 - exponent).max(0) as usize;
            let shifted = format!("{digits}{}", "0".repeat((exponent - scale as i32).max(0) as usize));
            let expected = model(negative, &shifted, scale_after);
            prop_assert_eq!(shown(&number(), ANY, &format!("{plain}e{exponent}")), Ok(expected));
        }

        #[test]
        fn a_column_takes_exactly_what_it_can_hold(unscaled in any::<i64>(), scale in 0_u32..22, p in 1_u16..25, s in 0_u16..25) {
            let text = model(unscaled < 0, &unscaled.unsigned_abs().to_string(), scale as usize);
            let value = i128::from(unscaled);
            // Brought to the column's scale, as long as that is exact.
            let at_scale = if u32::from(s) >= scale {
                value.checked_mul(10_i128.pow(u32::from(s) - scale))
            } else {
                let unit = 10_i128.pow(scale - u32::from(s));
                (value % unit == 0).then_some(value / unit)
            };
            let holds = at_scale.is_some_and(|value| value.abs() < 10_i128.pow(u32::from(p)));
            let found = shown(&number(), exact(p, s), &text);
            prop_assert_eq!(found.is_ok(), holds, "{} into numeric({},{}): {:?}", text, p, s, found);
            if let (Ok(found), Some(value)) = (found, at_scale) {
                prop_assert_eq!(found, model(value < 0, &value.unsigned_abs().to_string(), usize::from(s)));
            }
        }

        #[test]
        fn every_double_is_taken_as_printed(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let mut text = String::new();
            float::write(value, false, &mut text);
            prop_assert_eq!(outcome(&number(), ColumnType::Float8, &text), Ok(Cell::Float(value)));
            prop_assert_eq!(shown(&number(), ColumnType::Float8, &text), Ok(text));
        }

        #[test]
        fn every_single_is_taken_as_printed(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let mut text = String::new();
            float::write(f64::from(value), true, &mut text);
            prop_assert_eq!(outcome(&number(), ColumnType::Float4, &text), Ok(Cell::Float(f64::from(value))));
            prop_assert_eq!(shown(&number(), ColumnType::Float4, &text), Ok(text));
        }

        #[test]
        fn a_double_means_what_was_written(text in "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,8})?(e-?[0-9]{1,2})?") {
            // Up to seventeen digits here. Fifteen always survive a double, but for exact ties, which need an exponent.
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            let found = outcome(&number(), ColumnType::Float8, &text);
            if digits <= 15 && !text.contains('e') {
                prop_assert_eq!(found, Ok(Cell::Float(text.parse().unwrap())));
            } else if let Ok(cell) = found {
                prop_assert_eq!(cell, Cell::Float(text.parse().unwrap()));
            }
        }
    }
}
