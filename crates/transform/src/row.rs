//! A kept record as typed cells.

use crate::span::{Side, Span};

/// One typed value of a row. What it means for a column is said by the column's [`crate::ColumnType`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An exact decimal of at most 18 digits: `unscaled / 10^scale`, scale 0 to 18 and already the column's display
    /// scale where the column has one.
    Decimal {
        unscaled: i64,
        scale: u8,
    },
    /// A longer exact decimal in canonical text: optional `-`, digits, optional `.` and digits.
    Number(Span),
    /// Days since 1970-01-01.
    Days(i32),
    /// Microseconds: since midnight for `time`, since 1970-01-01 00:00 (UTC for `timestamptz`) for timestamps.
    Micros(i64),
    /// UTF-8 text.
    Text(Span),
    /// Canonical JSON text, as PostgreSQL prints `jsonb`.
    Json(Span),
    /// The 16 bytes of a UUID.
    Uuid(Span),
    /// Raw bytes.
    Bytes(Span),
}

/// The cells of one record; one per worker, written anew for each record.
#[derive(Debug, Default)]
pub struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) scratch: Vec<u8>,
}

/// Bytes of [`RowRef::wide`]: what four of the widest instructions that every processor has can copy.
pub const WIDE: usize = 64;

impl Row {
    /// The row is complete: what follows its last value is there to be copied with it.
    #[inline]
    pub(crate) fn pad(&mut self) {
        if !self.scratch.is_empty() {
            self.scratch.extend_from_slice(&[0; WIDE]);
        }
    }
}

/// A row together with the block its spans refer to.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    /// One cell per column of the plan, in the plan's order.
    pub cells: &'a [Cell],
    /// Number of the record in the object, the first data record is 1.
    pub record: u64,
    block: &'a str,
    scratch: &'a [u8],
    size_bound: usize,
}

impl<'a> RowRef<'a> {
    /// `size` is the record's in the block.
    pub(crate) fn new(row: &'a Row, block: &'a str, record: u64, size: usize) -> Self {
        Self { cells: &row.cells, record, block, scratch: &row.scratch, size_bound: size + row.scratch.len() }
    }

    /// For values that exist outside a row, such as a compiled default. No two spans may overlap.
    pub fn of_cells(cells: &'a [Cell], block: &'a str, scratch: &'a [u8]) -> Self {
        Self { cells, record: 0, block, scratch, size_bound: block.len() + scratch.len() }
    }

    /// What the spans of all cells hold together is at most so many bytes: no two of them overlap.
    #[inline]
    pub fn size_bound(&self) -> usize {
        self.size_bound
    }

    #[inline]
    pub fn bytes(&self, span: Span) -> &'a [u8] {
        match span.side() {
            Side::Block => &self.block.as_bytes()[span.range()],
            Side::Scratch => &self.scratch[span.range()],
        }
    }

    /// The bytes from a span's first on, when there are so many: a short value is copied faster with what follows it.
    #[inline]
    pub fn wide(&self, span: Span) -> Option<&'a [u8; WIDE]> {
        let side = match span.side() {
            Side::Block => self.block.as_bytes(),
            Side::Scratch => self.scratch,
        };
        // One look at the end rather than one at the start and one at what is left.
        let start = span.range().start;
        side.get(start..start + WIDE)?.as_array()
    }

    /// The text of a `Text`, `Json` or `Number` span.
    ///
    /// # Panics
    /// When the span holds raw bytes (`Uuid`, `Bytes`) that are not UTF-8.
    pub fn text(&self, span: Span) -> &'a str {
        match span.side() {
            Side::Block => &self.block[span.range()],
            Side::Scratch => match std::str::from_utf8(&self.scratch[span.range()]) {
                Ok(text) => text,
                Err(_) => panic!("a text cell holds bytes that are not UTF-8"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cell_stays_at_sixteen_bytes() {
        assert_eq!(size_of::<super::Cell>(), 16);
    }
}
