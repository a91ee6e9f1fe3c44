//! Rows as SQLite stores them.

use transform::types::write_canonical;
use transform::{Cell, ColumnType, RowRef, RowSink};

/// One value to bind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// A value as it waits. Texts and blobs stand one behind the other in a buffer of the block, so their lengths say where.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Null,
    Integer(i64),
    Real(f64),
    Text(usize),
    Blob(usize),
}

/// The kept rows of a block, as the values their columns will hold: whole numbers and booleans as integers, floats as
/// reals of the value PostgreSQL would print, bytes as blobs, everything else as its canonical text, which is the text
/// PostgreSQL would print.
///
/// Several blocks wait at once, so a value takes 16 bytes and no allocation of its own.
#[derive(Debug)]
pub struct SqliteRows {
    columns: Vec<ColumnType>,
    load: Option<i64>,
    values: Vec<Kept>,
    text: String,
    blobs: Vec<u8>,
    /// Record numbers, one for each row.
    records: Vec<u64>,
}

impl SqliteRows {
    /// `columns` as in [`super::super::TableEncoding`]; `load` is the load's id when the table has lineage.
    pub fn new(columns: &[ColumnType], load: Option<i64>) -> Self {
        Self {
            columns: columns.to_vec(),
            load,
            values: Vec::new(),
            text: String::new(),
            blobs: Vec::new(),
            records: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// What the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.values.len() * size_of::<Kept>()
            + self.text.len()
            + self.blobs.len()
            + self.records.len() * size_of::<u64>()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Gives all values, row by row in the order of the columns, lineage last.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { rows: self, row: 0, text: &self.text, blobs: &self.blobs }
    }

    fn keep(&mut self, cell: Cell, column: ColumnType, row: &RowRef<'_>) -> Kept {
        match cell {
            Cell::Null => Kept::Null,
            Cell::Bool(value) => Kept::Integer(i64::from(value)),
            Cell::Int(value) if matches!(column, ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8) => {
                Kept::Integer(value)
            }
            // SQLite's reals are doubles, so the single nearest to 0.1 would be shown as 0.10000000149011612.
            Cell::Float(single) if column == ColumnType::Float4 => {
                let before = self.text.len();
                write_canonical(cell, column, row, &mut self.text);
                let printed = self.text[before..].parse();
                self.text.truncate(before);
                Kept::Real(printed.unwrap_or(single))
            }
            Cell::Float(value) => Kept::Real(value),
            Cell::Text(span) if !matches!(column, ColumnType::Char(_)) => {
                let text = row.text(span);
                self.text.push_str(text);
                Kept::Text(text.len())
            }
            Cell::Bytes(span) => {
                let bytes = row.bytes(span);
                self.blobs.extend_from_slice(bytes);
                Kept::Blob(bytes.len())
            }
            Cell::Text(_)
            | Cell::Int(_)
            | Cell::Decimal { .. }
            | Cell::Number(_)
            | Cell::Days(_)
            | Cell::Micros(_)
            | Cell::Json(_)
            | Cell::Uuid(_) => {
                let before = self.text.len();
                write_canonical(cell, column, row, &mut self.text);
                Kept::Text(self.text.len() - before)
            }
        }
    }
}

impl RowSink for SqliteRows {
    fn row(&mut self, row: RowRef<'_>) {
        for (at, cell) in row.cells.iter().enumerate() {
            let value = self.keep(*cell, self.columns[at], &row);
            self.values.push(value);
        }
        self.records.push(row.record);
    }
}

/// The way through the rows of a block.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rows: &'a SqliteRows,
    row: usize,
    text: &'a str,
    blobs: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Rows given so far.
    pub(super) fn row(&self) -> usize {
        self.row
    }

    /// The next row's record.
    pub(super) fn record(&self) -> Option<u64> {
        self.rows.records.get(self.row).copied()
    }

    /// Hands the next row's values over; false after the last row.
    pub(super) fn next_row<E>(&mut self, mut take: impl FnMut(Value<'a>) -> Result<(), E>) -> Result<bool, E> {
        let rows = self.rows;
        let Some(&record) = rows.records.get(self.row) else { return Ok(false) };
        let width = rows.columns.len();
        for kept in &rows.values[self.row * width..(self.row + 1) * width] {
            take(match *kept {
                Kept::Null => Value::Null,
                Kept::Integer(value) => Value::Integer(value),
                Kept::Real(value) => Value::Real(value),
                Kept::Text(length) => {
                    let (value, rest) = self.text.split_at(length);
                    self.text = rest;
                    Value::Text(value)
                }
                Kept::Blob(length) => {
                    let (value, rest) = self.blobs.split_at(length);
                    self.blobs = rest;
                    Value::Blob(value)
                }
            })?;
        }
        if let Some(load) = rows.load {
            take(Value::Integer(load))?;
            take(Value::Integer(i64::try_from(record).unwrap_or(i64::MAX)))?;
        }
        self.row += 1;
        Ok(true)
    }
}
