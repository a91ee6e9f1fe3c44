//! Years: four digits, 0001 to 9999.

use super::digits::two;
use super::number::{self, Decimal};
use crate::reject::Reason;
use crate::row::Cell;
use crate::types::ColumnType;

#[inline]
pub(super) fn convert(text: &str, column: ColumnType, scratch: &mut Vec<u8>) -> Result<Cell, Reason> {
    let bytes: &[u8; 4] = text.as_bytes().try_into().map_err(|_| Reason::NotYear)?;
    let (century, year) = (two(bytes, 0), two(bytes, 2));
    if (century | year) > 127 || century + year == 0 {
        return Err(Reason::NotYear);
    }
    let year = i64::from(century * 100 + year);
    match column {
        ColumnType::Numeric(_) => number::decimal_cell(Decimal { unscaled: year, scale: 0 }, column, scratch),
        _ => Ok(Cell::Int(year)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{outcome, shown};
    use super::*;
    use crate::pipeline::Kind;

    #[test]
    fn a_year_has_four_digits() {
        assert_eq!(outcome(&Kind::Year, ColumnType::Int4, "2024"), Ok(Cell::Int(2024)));
        assert_eq!(outcome(&Kind::Year, ColumnType::Int2, "0001"), Ok(Cell::Int(1)));
        assert_eq!(shown(&Kind::Year, ColumnType::Numeric(Some((6, 1))), "1999"), Ok("1999.0".into()));
        for text in ["0000", "10000", "24", "-044", "+024", " 2024", "20２4", "", "2024 ", "1e3 ", "20.4"] {
            assert_eq!(outcome(&Kind::Year, ColumnType::Int4, text), Err(Reason::NotYear), "{text:?}");
        }
    }
}
