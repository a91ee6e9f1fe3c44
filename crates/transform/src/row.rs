//! A kept record as typed cells.

/// Where the bytes of a [`Span`] stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the block the record was decoded from: the value is exactly what the file says.
    Block,
    /// In the row's scratch: the value was unescaped, cleaned or brought into canonical form.
    Scratch,
}

/// A range of bytes in the block or in the row's scratch. Offsets rather than references, so scratch may grow.
///
/// One number (start, side, length), so that a span is written and read at once: two halves written apart and read
/// together would stall each time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span(u64);

const SCRATCH: u64 = 1 << 31;
const LENGTH: u64 = SCRATCH - 1;

impl Span {
    /// A range of the block. Blocks and scratch stay far below 2 GiB: a record is bounded by `limits.record`.
    #[inline]
    pub fn block(start: usize, len: usize) -> Self {
        debug_assert!((start as u64) < SCRATCH && (len as u64) < SCRATCH);
        Self((start as u64) << 32 | len as u64)
    }

    /// A range of the scratch.
    #[inline]
    pub fn scratch(start: usize, len: usize) -> Self {
        Self(Self::block(start, len).0 | SCRATCH)
    }

    #[inline]
    pub fn side(self) -> Side {
        if self.0 & SCRATCH == 0 { Side::Block } else { Side::Scratch }
    }

    #[inline]
    fn range(self) -> std::ops::Range<usize> {
        let start = (self.0 >> 32) as usize;
        start..start + (self.0 & LENGTH) as usize
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.side(), self.range())
    }
}

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

/// The cells of one record; one per worker, cleared for each record.
#[derive(Debug, Default)]
pub struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) scratch: Vec<u8>,
}

impl Row {
    pub(crate) fn clear(&mut self) {
        self.cells.clear();
        self.scratch.clear();
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
}

impl<'a> RowRef<'a> {
    pub fn new(row: &'a Row, block: &'a str, record: u64) -> Self {
        Self { cells: &row.cells, record, block, scratch: &row.scratch }
    }

    /// For values that exist outside a row, such as a compiled default.
    pub fn of_cells(cells: &'a [Cell], block: &'a str, scratch: &'a [u8]) -> Self {
        Self { cells, record: 0, block, scratch }
    }

    #[inline]
    pub fn bytes(&self, span: Span) -> &'a [u8] {
        match span.side() {
            Side::Block => &self.block.as_bytes()[span.range()],
            Side::Scratch => &self.scratch[span.range()],
        }
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
