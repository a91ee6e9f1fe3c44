//! The one canonical text of a typed value: what PostgreSQL prints for `column::text`.
//!
//! SQLite columns and exports hold this text, so both databases hold the same. Booleans are `true` and `false`, `char(n)`
//! comes without its padding, `timestamptz` in UTC as `…+00`, `real` and `double precision` with PostgreSQL's default
//! `extra_float_digits`.

use super::{date, float};
use crate::row::{Cell, RowRef};
use crate::types::ColumnType;

/// Appends the canonical text of a cell; NULL appends nothing.
pub fn write_canonical(cell: Cell, column: ColumnType, row: &RowRef<'_>, out: &mut String) {
    match cell {
        Cell::Null => {}
        Cell::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Cell::Int(value) => write_int(value, out),
        Cell::Float(value) => float::write(value, column == ColumnType::Float4, out),
        Cell::Decimal { unscaled, scale } => write_decimal(unscaled, scale, out),
        Cell::Days(days) => write_date(days, out),
        Cell::Micros(micros) => {
            let time = micros.rem_euclid(MICROS_PER_DAY);
            if !matches!(column, ColumnType::Time(_)) {
                write_date(micros.div_euclid(MICROS_PER_DAY) as i32, out);
                out.push(' ');
            }
            write_time(time as u64, out);
            if matches!(column, ColumnType::Timestamptz(_)) {
                out.push_str("+00");
            }
        }
        Cell::Text(span) if matches!(column, ColumnType::Char(_)) => out.push_str(row.text(span).trim_end_matches(' ')),
        Cell::Text(span) | Cell::Json(span) | Cell::Number(span) => out.push_str(row.text(span)),
        Cell::Uuid(span) => {
            for (at, &byte) in row.bytes(span).iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    out.push('-');
                }
                write_hex(byte, out);
            }
        }
        Cell::Bytes(span) => {
            out.push_str("\\x");
            row.bytes(span).iter().for_each(|&byte| write_hex(byte, out));
        }
    }
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

fn write_unsigned(value: u64, width: usize, out: &mut String) {
    let mut buffer = [0; 20];
    let digits = super::number::write_unsigned(value, &mut buffer);
    (digits.len()..width).for_each(|_| out.push('0'));
    digits.iter().for_each(|&digit| out.push(char::from(digit)));
}

fn write_int(value: i64, out: &mut String) {
    if value < 0 {
        out.push('-');
    }
    write_unsigned(value.unsigned_abs(), 1, out);
}

fn write_decimal(unscaled: i64, scale: u8, out: &mut String) {
    if unscaled < 0 {
        out.push('-');
    }
    let unit = super::digits::POWERS[usize::from(scale)].unsigned_abs();
    let value = unscaled.unsigned_abs();
    write_unsigned(value / unit, 1, out);
    if scale > 0 {
        out.push('.');
        write_unsigned(value % unit, usize::from(scale), out);
    }
}

fn write_date(days: i32, out: &mut String) {
    let (year, month, day) = date::civil_of(days);
    write_unsigned(u64::from(year.unsigned_abs()), 4, out);
    out.push('-');
    write_unsigned(u64::from(month), 2, out);
    out.push('-');
    write_unsigned(u64::from(day), 2, out);
}

fn write_time(micros: u64, out: &mut String) {
    let (seconds, mut fraction) = (micros / 1_000_000, micros % 1_000_000);
    write_unsigned(seconds / 3600, 2, out);
    out.push(':');
    write_unsigned(seconds / 60 % 60, 2, out);
    out.push(':');
    write_unsigned(seconds % 60, 2, out);
    if fraction > 0 {
        let mut width = 6;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        out.push('.');
        write_unsigned(fraction, width, out);
    }
}

fn write_hex(byte: u8, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Span;

    fn canonical(cell: Cell, column: ColumnType) -> String {
        let row = RowRef::of_cells(&[], "ab  ", b"\x00\x9f");
        let mut out = String::new();
        write_canonical(cell, column, &row, &mut out);
        out
    }

    #[test]
    fn each_cell_prints_as_its_column_would() {
        let text = Cell::Text(Span::block(0, 4));
        for (cell, column, expected) in [
            (Cell::Null, ColumnType::Text, ""),
            (Cell::Bool(true), ColumnType::Bool, "true"),
            (Cell::Bool(false), ColumnType::Bool, "false"),
            (Cell::Int(i64::MIN), ColumnType::Int8, "-9223372036854775808"),
            (Cell::Decimal { unscaled: -5, scale: 2 }, ColumnType::Numeric(None), "-0.05"),
            (Cell::Decimal { unscaled: 1200, scale: 2 }, ColumnType::Numeric(None), "12.00"),
            (Cell::Float(-1e-5), ColumnType::Float8, "-1e-05"),
            (Cell::Float(f64::from(0.1_f32)), ColumnType::Float4, "0.1"),
            (Cell::Days(-719_162), ColumnType::Date, "0001-01-01"),
            (Cell::Micros(-1), ColumnType::Timestamp(6), "1969-12-31 23:59:59.999999"),
            (Cell::Micros(0), ColumnType::Timestamptz(6), "1970-01-01 00:00:00+00"),
            (Cell::Micros(1_500_000), ColumnType::Time(6), "00:00:01.5"),
            (text, ColumnType::Text, "ab  "),
            (text, ColumnType::Varchar(Some(4)), "ab  "),
            (text, ColumnType::Char(4), "ab"),
            (Cell::Bytes(Span::scratch(0, 2)), ColumnType::Bytea, "\\x009f"),
        ] {
            assert_eq!(canonical(cell, column), expected);
        }
    }
}
