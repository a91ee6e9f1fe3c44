//! Rows in the formats of COPY: binary, and text for tables with a column type that only the server can read.
//!
//! The format is PostgreSQL's own send/receive format (documentation of COPY, "Binary Format", and the `*_recv`
//! functions in its source): per row a 16-bit count of columns, per value a 32-bit length (-1 for NULL) and that many
//! bytes, everything big-endian.

use std::sync::Arc;

use transform::types::write_canonical;
use transform::{Cell, ColumnType, RowRef, RowSink, Span, WIDE};

/// Days from 1970-01-01, where our dates start, to 2000-01-01, where PostgreSQL's do.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// Encodes the rows of a block; one per worker, its buffer goes to the connection and comes back.
#[derive(Debug)]
pub struct CopyEncoder {
    columns: Arc<[ColumnType]>,
    /// The value of `_load_id`; `None` for a table without lineage columns.
    load_id: Option<i64>,
    count: [u8; 2],
    /// `out[..at]` is written; the rest is room whose bytes mean nothing.
    out: Vec<u8>,
    at: usize,
}

/// Bytes a value takes beyond those it stands on: its length, and what no value's own bytes account for. A `numeric` of
/// 18 digits takes most: 12 bytes ahead of 6 groups of digits.
const VALUE: usize = 24;

impl CopyEncoder {
    /// `columns` are the types of the plan's columns, in its order; `_load_id` and `_record` follow them. What `buffer`
    /// holds is written over.
    pub fn new(columns: Arc<[ColumnType]>, load_id: Option<i64>, buffer: Vec<u8>) -> Self {
        let count = columns.len() + if load_id.is_some() { 2 } else { 0 };
        // PostgreSQL allows 1,600 columns; `limits.columns` keeps us below.
        Self { columns, load_id, count: (count as i16).to_be_bytes(), out: buffer, at: 0 }
    }

    /// Of the encoded rows.
    pub(crate) fn bytes(&self) -> usize {
        self.at
    }

    /// The encoded rows, without header and trailer.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.truncate(self.at);
        self.out
    }

    /// Makes room for `bytes` more.
    #[cold]
    fn grow(&mut self, bytes: usize) {
        // In steps, since each byte is written twice this way.
        self.out.resize(self.at + bytes + 16 * 1024, 0);
    }
}

impl RowSink for CopyEncoder {
    #[inline]
    fn row(&mut self, row: RowRef<'_>) {
        // One look at the room spares one at each value.
        let bound = 2 + (row.cells.len() + 2) * VALUE + row.size_bound() + WIDE;
        if self.out.len() - self.at < bound {
            self.grow(bound);
        }
        let room = &mut self.out[self.at..];
        let all = room.len();
        let mut out = Room(room).put(self.count);
        for (cell, column) in row.cells.iter().zip(self.columns.iter()) {
            // Most columns hold text; what is left for `encode` is then easier to foresee.
            out = match *cell {
                Cell::Text(span) => out.text(&row, span),
                cell => encode(cell, *column, &row, out),
            };
        }
        if let Some(load_id) = self.load_id {
            out = out.value(load_id.to_be_bytes()).value((row.record as i64).to_be_bytes());
        }
        self.at += all - out.0.len();
    }
}

/// What is left of a row's room. It is handed on from value to value rather than lent, so that it stays in registers.
struct Room<'a>(&'a mut [u8]);

impl<'a> Room<'a> {
    #[inline]
    fn put<const N: usize>(self, bytes: [u8; N]) -> Self {
        let Some((to, rest)) = self.0.split_first_chunk_mut() else { out_of_room() };
        *to = bytes;
        Self(rest)
    }

    /// The first `count` of the bytes.
    #[inline]
    fn first<const N: usize>(self, bytes: [u8; N], count: usize) -> Self {
        let Some(to) = self.0.first_chunk_mut() else { out_of_room() };
        *to = bytes;
        Self(&mut self.0[count..])
    }

    /// A value of `N` bytes with its length.
    #[inline]
    fn value<const N: usize>(self, bytes: [u8; N]) -> Self {
        let Some((to, rest)) = self.0.split_at_mut_checked(4 + N) else { out_of_room() };
        to[..4].copy_from_slice(&(N as i32).to_be_bytes());
        to[4..].copy_from_slice(&bytes);
        Self(rest)
    }

    #[inline]
    fn text(self, row: &RowRef<'_>, span: Span) -> Self {
        let len = span.len();
        // Most texts are short: a copy of fixed length, of which only the text counts, spares the call that a copy of any
        // length costs.
        if len <= WIDE
            && let Some(wide) = row.wide(span)
            && let Some(to) = self.0.first_chunk_mut::<{ 4 + WIDE }>()
        {
            to[..4].copy_from_slice(&(len as i32).to_be_bytes());
            to[4..].copy_from_slice(wide);
            return Self(&mut self.0[4 + len..]);
        }
        self.any_text(row.bytes(span))
    }

    #[inline(never)]
    fn any_text(self, text: &[u8]) -> Self {
        self.put((text.len() as i32).to_be_bytes()).bytes(text)
    }

    #[inline]
    fn bytes(self, bytes: &[u8]) -> Self {
        let Some((to, rest)) = self.0.split_at_mut_checked(bytes.len()) else { out_of_room() };
        to.copy_from_slice(bytes);
        Self(rest)
    }
}

#[cold]
fn out_of_room() -> ! {
    panic!("a row is larger than its bound")
}

/// Rows in COPY's text format: tabs between values, `\N` for NULL, backslash escapes. Used when a live column has a type
/// that takes texts themselves, such as an enum: its input keeps each text or refuses it.
#[derive(Debug)]
pub struct CopyTextEncoder {
    columns: Arc<[ColumnType]>,
    load_id: Option<i64>,
    out: Vec<u8>,
    value: String,
}

impl CopyTextEncoder {
    /// As [`CopyEncoder::new`].
    pub fn new(columns: Arc<[ColumnType]>, load_id: Option<i64>, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { columns, load_id, out: buffer, value: String::new() }
    }

    /// Of the encoded lines.
    pub(crate) fn bytes(&self) -> usize {
        self.out.len()
    }

    /// The encoded lines.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

impl RowSink for CopyTextEncoder {
    fn row(&mut self, row: RowRef<'_>) {
        let start = self.out.len();
        for (cell, column) in row.cells.iter().zip(self.columns.iter()) {
            if *cell == Cell::Null {
                self.out.extend_from_slice(b"\\N");
            } else {
                self.value.clear();
                write_canonical(*cell, *column, &row, &mut self.value);
                escape(self.value.as_bytes(), &mut self.out);
            }
            self.out.push(b'\t');
        }
        if let Some(load_id) = self.load_id {
            self.out.extend_from_slice(format!("{load_id}\t{}\t", row.record).as_bytes());
        }
        // The last tab becomes the line's end.
        if self.out.len() > start {
            self.out.pop();
        }
        self.out.push(b'\n');
    }
}

fn escape(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[inline]
fn encode<'a>(cell: Cell, column: ColumnType, row: &RowRef<'_>, out: Room<'a>) -> Room<'a> {
    match cell {
        Cell::Null => out.put((-1i32).to_be_bytes()),
        Cell::Text(span) | Cell::Uuid(span) | Cell::Bytes(span) => out.text(row, span),
        Cell::Int(value) => match column {
            ColumnType::Int2 => out.value((value as i16).to_be_bytes()),
            ColumnType::Int4 => out.value((value as i32).to_be_bytes()),
            ColumnType::Numeric(_) => decimal(value, 0, out),
            _ => out.value(value.to_be_bytes()),
        },
        Cell::Decimal { unscaled, scale } => decimal(unscaled, scale, out),
        Cell::Days(days) => out.value((days - EPOCH_DAYS).to_be_bytes()),
        Cell::Micros(micros) => match column {
            ColumnType::Time(_) => out.value(micros.to_be_bytes()),
            _ => out.value((micros - EPOCH_MICROS).to_be_bytes()),
        },
        Cell::Bool(value) => out.value([u8::from(value)]),
        Cell::Float(value) => match column {
            ColumnType::Float4 => out.value((value as f32).to_be_bytes()),
            _ => out.value(value.to_be_bytes()),
        },
        Cell::Number(span) => number(row.bytes(span), out),
        Cell::Json(span) if column == ColumnType::Jsonb => {
            let text = row.bytes(span);
            // jsonb_recv wants the version of the text format in front.
            out.put((text.len() as i32 + 1).to_be_bytes()).put([1]).bytes(text)
        }
        Cell::Json(span) => out.text(row, span),
    }
}

const NUMERIC_NEGATIVE: u16 = 0x4000;

const POWERS: [u64; 4] = [1, 10, 100, 1000];

/// A `numeric` of at most 18 digits: base-10000 digits around the decimal point.
#[inline]
fn decimal(unscaled: i64, scale: u8, out: Room<'_>) -> Room<'_> {
    const FOUR_GROUPS: u64 = 10_000_000_000_000_000;
    let fraction_groups = scale.div_ceil(4);
    // Zeros that fill the last group behind the point.
    let factor = POWERS[usize::from(fraction_groups * 4 - scale)];
    let magnitude = unscaled.unsigned_abs();
    if magnitude >= FOUR_GROUPS / 1000 {
        return long_decimal(unscaled, scale, out);
    }
    let aligned = magnitude * factor;
    let (high, low) = ((aligned / 100_000_000) as u32, (aligned % 100_000_000) as u32);
    let groups = [high / 10_000, high % 10_000, low / 10_000, low % 10_000];
    let word = groups.iter().fold(0, |word, group| word << 16 | u64::from(*group));
    // Groups of zeros at either end are left out; zero itself has none.
    let leading = word.leading_zeros() / 16;
    let trailing = word.trailing_zeros() / 16;
    let count = 4_u32.saturating_sub(leading + trailing);
    let weight = if word == 0 { 0 } else { 3 - i32::from(fraction_groups) - leading as i32 };
    let sign = if unscaled < 0 { NUMERIC_NEGATIVE } else { 0 };
    let digits = word.checked_shl(16 * leading).unwrap_or(0);
    // Count, weight, sign and scale, all of two bytes, are written as one number.
    let head =
        u64::from(count) << 48 | u64::from(weight as i16 as u16) << 32 | u64::from(sign) << 16 | u64::from(scale);
    out.put((8 + 2 * count).to_be_bytes()).put(head.to_be_bytes()).first(digits.to_be_bytes(), 2 * count as usize)
}

#[cold]
fn long_decimal(unscaled: i64, scale: u8, out: Room<'_>) -> Room<'_> {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    number(format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" }).as_bytes(), out)
}

/// A longer `numeric` from canonical text: optional `-`, digits, optional `.` and digits.
fn number<'a>(text: &[u8], out: Room<'a>) -> Room<'a> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let point = digits.iter().position(|&byte| byte == b'.').unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
    let mut groups = Vec::with_capacity(digits.len() / 4 + 2);
    let value = |group: &[u8]| group.iter().fold(0u16, |value, digit| value * 10 + u16::from(digit - b'0'));
    let head = whole.len() % 4;
    if head > 0 {
        groups.push(value(&whole[..head]));
    }
    groups.extend(whole[head..].chunks(4).map(value));
    let whole_groups = groups.len();
    groups.extend(fraction.chunks(4).map(|group| value(group) * POWERS[4 - group.len()] as u16));
    put_numeric(&groups, whole_groups, negative, fraction.len() as u16, out)
}

/// `groups` are base-10000 digits, the first `whole` of them before the point.
fn put_numeric<'a>(groups: &[u16], whole: usize, negative: bool, scale: u16, out: Room<'a>) -> Room<'a> {
    let leading = groups.iter().take_while(|&&group| group == 0).count();
    let trailing = groups[leading..].iter().rev().take_while(|&&group| group == 0).count();
    let groups = &groups[leading..groups.len() - trailing];
    let weight = if groups.is_empty() { 0 } else { whole as i32 - leading as i32 - 1 };
    let sign = if negative && !groups.is_empty() { NUMERIC_NEGATIVE } else { 0 };
    let out = out
        .put((8 + 2 * groups.len() as i32).to_be_bytes())
        .put((groups.len() as i16).to_be_bytes())
        .put((weight as i16).to_be_bytes())
        .put(sign.to_be_bytes())
        .put(scale.to_be_bytes());
    groups.iter().fold(out, |out, group| out.put(group.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of an encoded numeric as text with its scale: an independent reading of `numeric_recv`'s format.
    fn read_back(encoded: &[u8]) -> String {
        let int = |at: usize| i32::from(i16::from_be_bytes([encoded[at], encoded[at + 1]]));
        assert_eq!(i32::from_be_bytes(encoded[..4].try_into().unwrap()) as usize, encoded.len() - 4);
        let (count, weight, scale) = (int(4) as usize, int(6), int(10));
        let digit = |group: i32| {
            let at = weight - group;
            if at < 0 || at >= count as i32 { 0 } else { int(12 + 2 * at as usize) }
        };
        let mut text = String::new();
        for group in (0..=weight.max(0)).rev() {
            text.push_str(&format!("{:04}", digit(group)));
        }
        let text = text.trim_start_matches('0');
        let mut text = if text.is_empty() { "0".to_owned() } else { text.to_owned() };
        if scale > 0 {
            let fraction: String = (1..=(scale + 3) / 4).map(|group| format!("{:04}", digit(-group))).collect();
            text = format!("{text}.{}", &fraction[..scale as usize]);
        }
        if encoded[8] == 0x40 { format!("-{text}") } else { text }
    }

    fn written(write: impl Fn(Room<'_>) -> Room<'_>) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        let left = write(Room(&mut bytes)).0.len();
        bytes.truncate(100 - left);
        bytes
    }

    #[test]
    fn decimals_keep_every_digit_and_their_scale() {
        for (unscaled, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (1, 0, "1"),
            (10_000, 0, "10000"),
            (-1250, 2, "-12.50"),
            (1, 18, "0.000000000000000001"),
            (9_999_999_999_999, 0, "9999999999999"),
            (10_000_000_000_000, 0, "10000000000000"),
            (-9_999_999_999_999, 13, "-0.9999999999999"),
            (1, 13, "0.0000000000001"),
            (-5, 1, "-0.5"),
            (1_0000_0000, 4, "10000.0000"),
            (999_999_999_999_999_999, 18, "0.999999999999999999"),
            (999_999_999_999_999_999, 17, "9.99999999999999999"),
            (-123_456_789_012_345_678, 5, "-1234567890123.45678"),
            (100_000_000, 4, "10000.0000"),
        ] {
            let short = written(|out| decimal(unscaled, scale, out));
            assert_eq!(read_back(&short), text);
            let long = written(|out| number(text.as_bytes(), out));
            assert_eq!(short, long, "{text}: both paths give the same bytes");
        }
    }
}
