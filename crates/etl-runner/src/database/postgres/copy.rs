//! Rows in the formats of COPY: binary, and text for tables with a column type that only the server can read.
//!
//! The format is PostgreSQL's own send/receive format (documentation of COPY, "Binary Format", and the `*_recv`
//! functions in its source): per row a 16-bit count of columns, per value a 32-bit length (-1 for NULL) and that many
//! bytes, everything big-endian.

use std::sync::Arc;

use transform::types::write_canonical;
use transform::{Cell, ColumnType, RowRef, RowSink, Span};

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
    out: Vec<u8>,
}

impl CopyEncoder {
    /// `columns` are the types of the plan's columns, in its order; `_load_id` and `_record` follow them.
    pub fn new(columns: Arc<[ColumnType]>, load_id: Option<i64>, buffer: Vec<u8>) -> Self {
        let count = columns.len() + if load_id.is_some() { 2 } else { 0 };
        // PostgreSQL allows 1,600 columns; `limits.columns` keeps us below.
        Self { columns, load_id, count: (count as i16).to_be_bytes(), out: buffer }
    }

    /// The encoded rows, without header and trailer.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

impl RowSink for CopyEncoder {
    #[inline]
    fn row(&mut self, row: RowRef<'_>) {
        let out = &mut self.out;
        out.extend_from_slice(&self.count);
        for (cell, column) in row.cells.iter().zip(self.columns.iter()) {
            encode(cell, *column, &row, out);
        }
        if let Some(load_id) = self.load_id {
            fixed(out, load_id.to_be_bytes());
            fixed(out, (row.record as i64).to_be_bytes());
        }
    }
}

/// Rows in COPY's text format: tabs between values, `\N` for NULL, backslash escapes. Used when a live column has a type
/// without a binary encoder, such as an enum or a domain: the server reads the canonical text.
#[derive(Debug)]
pub struct CopyTextEncoder {
    columns: Arc<[ColumnType]>,
    load_id: Option<i64>,
    out: Vec<u8>,
    value: String,
}

impl CopyTextEncoder {
    /// As [`CopyEncoder::new`].
    pub fn new(columns: Arc<[ColumnType]>, load_id: Option<i64>, buffer: Vec<u8>) -> Self {
        Self { columns, load_id, out: buffer, value: String::new() }
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

/// A value of `N` bytes with its length, written at once.
#[inline]
fn fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    out.extend_from_slice(&(N as i32).to_be_bytes());
    out.extend_from_slice(&value);
}

#[inline]
fn encode(cell: &Cell, column: ColumnType, row: &RowRef<'_>, out: &mut Vec<u8>) {
    match *cell {
        Cell::Null => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Cell::Text(span) | Cell::Uuid(span) | Cell::Bytes(span) => bytes(row, span, out),
        Cell::Int(value) => match column {
            ColumnType::Int2 => fixed(out, (value as i16).to_be_bytes()),
            ColumnType::Int4 => fixed(out, (value as i32).to_be_bytes()),
            ColumnType::Numeric(_) => decimal(value, 0, out),
            _ => fixed(out, value.to_be_bytes()),
        },
        Cell::Decimal { unscaled, scale } => decimal(unscaled, scale, out),
        Cell::Days(days) => fixed(out, (days - EPOCH_DAYS).to_be_bytes()),
        Cell::Micros(micros) => match column {
            ColumnType::Time(_) => fixed(out, micros.to_be_bytes()),
            _ => fixed(out, (micros - EPOCH_MICROS).to_be_bytes()),
        },
        Cell::Bool(value) => fixed(out, [u8::from(value)]),
        Cell::Float(value) => match column {
            ColumnType::Float4 => fixed(out, (value as f32).to_be_bytes()),
            _ => fixed(out, value.to_be_bytes()),
        },
        Cell::Number(span) => number(row.bytes(span), out),
        Cell::Json(span) => {
            let text = row.bytes(span);
            if column == ColumnType::Jsonb {
                // jsonb_recv wants the version of the text format in front.
                out.extend_from_slice(&(text.len() as i32 + 1).to_be_bytes());
                out.push(1);
                out.extend_from_slice(text);
            } else {
                bytes(row, span, out);
            }
        }
    }
}

#[inline]
fn bytes(row: &RowRef<'_>, span: Span, out: &mut Vec<u8>) {
    let value = row.bytes(span);
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}

const NUMERIC_NEGATIVE: u16 = 0x4000;

const POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// A `numeric` of at most 18 digits: base-10000 digits around the decimal point.
fn decimal(unscaled: i64, scale: u8, out: &mut Vec<u8>) {
    // 18 digits: at most 5 groups before the point and 5 after it.
    let mut groups = [0u16; 10];
    let magnitude = unscaled.unsigned_abs();
    let power = POWERS[usize::from(scale)];
    let (mut whole, fraction) = if scale == 0 { (magnitude, 0) } else { (magnitude / power, magnitude % power) };
    let mut first = 5;
    while whole > 0 {
        first -= 1;
        groups[first] = (whole % 10_000) as u16;
        whole /= 10_000;
    }
    let fraction_groups = usize::from(scale).div_ceil(4);
    let mut last = 5;
    if fraction > 0 {
        // Padded to whole groups; 20 digits do not fit 64 bits.
        let pad = fraction_groups * 4 - usize::from(scale);
        let mut padded = u128::from(fraction) * u128::from(POWERS[pad]);
        let mut at = 5 + fraction_groups;
        if let Ok(mut small) = u64::try_from(padded) {
            while at > 5 {
                at -= 1;
                groups[at] = (small % 10_000) as u16;
                small /= 10_000;
            }
        } else {
            while at > 5 {
                at -= 1;
                groups[at] = (padded % 10_000) as u16;
                padded /= 10_000;
            }
        }
        last = 5 + fraction_groups;
    }
    put_numeric(&groups[first..last], 5 - first, unscaled < 0, u16::from(scale), out);
}

/// A longer `numeric` from canonical text: optional `-`, digits, optional `.` and digits.
fn number(text: &[u8], out: &mut Vec<u8>) {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let point = memchr_point(digits);
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
    put_numeric(&groups, whole_groups, negative, fraction.len() as u16, out);
}

fn memchr_point(digits: &[u8]) -> usize {
    digits.iter().position(|&byte| byte == b'.').unwrap_or(digits.len())
}

/// `groups` are base-10000 digits, the first `whole` of them before the point.
fn put_numeric(groups: &[u16], whole: usize, negative: bool, scale: u16, out: &mut Vec<u8>) {
    let leading = groups.iter().take_while(|&&group| group == 0).count();
    let trailing = groups[leading..].iter().rev().take_while(|&&group| group == 0).count();
    let groups = &groups[leading..groups.len() - trailing];
    let weight = if groups.is_empty() { 0 } else { whole as i32 - leading as i32 - 1 };
    let sign = if negative && !groups.is_empty() { NUMERIC_NEGATIVE } else { 0 };
    out.extend_from_slice(&(8 + 2 * groups.len() as i32).to_be_bytes());
    out.extend_from_slice(&(groups.len() as i16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
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

    #[test]
    fn decimals_keep_every_digit_and_their_scale() {
        for (unscaled, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (1, 0, "1"),
            (10_000, 0, "10000"),
            (-1250, 2, "-12.50"),
            (1, 18, "0.000000000000000001"),
            (999_999_999_999_999_999, 18, "0.999999999999999999"),
            (999_999_999_999_999_999, 17, "9.99999999999999999"),
            (-123_456_789_012_345_678, 5, "-1234567890123.45678"),
            (100_000_000, 4, "10000.0000"),
        ] {
            let mut out = Vec::new();
            decimal(unscaled, scale, &mut out);
            assert_eq!(read_back(&out), text);
            let mut long = Vec::new();
            number(text.as_bytes(), &mut long);
            assert_eq!(out, long, "{text}: both paths give the same bytes");
        }
    }
}
