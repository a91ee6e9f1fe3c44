//! Exact decimals: `[+-]?digits?[.digits?]([eE][+-]?digits)?` in the file's own notation.

use super::digits::{POWERS, all_digits};
use super::float;
use crate::pipeline::Kind;
use crate::reject::Reason;
use crate::row::{Cell, Span};
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
    is_exact: bool,
    notation: Notation,
}

impl Number {
    pub(super) fn compile(kind: &Kind, column: ColumnType) -> Result<Self, String> {
        let (decimal, group, bare) = match kind {
            Kind::Number { decimal, group, bare, .. } => (*decimal, *group, *bare),
            _ => ('.', None, true),
        };
        Ok(Self {
            column,
            // Where it is not ASCII, a byte no number holds sends everything down the slow path.
            point: u8::try_from(decimal).ok().filter(u8::is_ascii).unwrap_or(0),
            is_exact: matches!(column, ColumnType::Numeric(_)),
            notation: Notation::compile(Some(decimal), group, bare)?,
        })
    }

    #[inline]
    pub(super) fn convert(&self, text: &str, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
        if self.is_exact
            && let Some(decimal) = short(text.as_bytes(), self.point)
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
    /// Parts that the caller has scanned by its own grammar.
    pub(super) fn of_json(plain: &'a [u8]) -> Result<Self, Reason> {
        scan(plain)
    }

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
        let first = self.whole.iter().position(not_zero).or_else(|| {
            self.fraction.iter().position(not_zero).map(|at| at + self.whole.len())
        })?;
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
            for place in self.point().min(0).max(self.point() - whole)..self.point() + scale {
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
        let digits = last - first + 1;
        if digits > 17 {
            return Err(Reason::WouldRound(column));
        }
        let written = (first..=last).fold(0_u64, |value, at| value * 10 + u64::from(self.digit(at) - b'0'));
        let shortest = float::shortest(value.abs(), is_single);
        let same = shortest.digits == written && i64::from(shortest.exponent) == self.point() - last as i64 - 1;
        if same { Ok(Cell::Float(value)) } else { Err(Reason::WouldRound(column)) }
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
        if rest.contains(group) || !(1..=3).contains(&first) || last != 3 || !parts.all(|part| matches!(part.len(), 2 | 3))
        {
            return Err(Reason::DigitGroups);
        }
        Ok(())
    }

    /// The number inside other text. Text that could change what the number means is a reject: a parenthesis (negative
    /// in accounts), a minus that is not the number's own, digits of other scripts, a separator cut off its digits.
    fn core<'a>(&self, text: &'a str) -> Result<&'a str, Reason> {
        let starts = |c: char| {
            c.is_ascii_digit() || c == '-' || self.decimal.is_some_and(|decimal| c == '+' || c == decimal)
        };
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
        '-' | '\u{2010}'..='\u{2015}' | '\u{2052}' | '\u{207b}' | '\u{208b}' | '\u{2212}' | '\u{2796}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
    )
}
