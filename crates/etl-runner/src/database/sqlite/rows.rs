//! Rows as SQLite stores them.

use std::sync::Arc;

use transform::types::write_canonical;
use transform::{Cell, ColumnType, RowRef, RowSink};

/// One value to bind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(Arc<str>),
    Blob(Vec<u8>),
}

/// The kept rows of a block, as the values their columns will hold: whole numbers and booleans as integers, floats as
/// reals, bytes as blobs, everything else as its canonical text, which is the text PostgreSQL would print.
#[derive(Debug)]
pub struct SqliteRows {
    columns: Vec<ColumnType>,
    load: Option<i64>,
    values: Vec<Value>,
    rows: usize,
    text: String,
}

impl SqliteRows {
    /// `columns` as in [`super::super::TableEncoding`]; `load` is the load's id when the table has lineage.
    pub fn new(columns: &[ColumnType], load: Option<i64>) -> Self {
        Self { columns: columns.to_vec(), load, values: Vec::new(), rows: 0, text: String::new() }
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes the values out, row by row.
    pub(super) fn take(&mut self) -> Vec<Value> {
        self.rows = 0;
        std::mem::take(&mut self.values)
    }

    fn value(&mut self, cell: Cell, column: ColumnType, row: &RowRef<'_>) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Bool(value) => Value::Integer(i64::from(value)),
            Cell::Int(value) if matches!(column, ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8) => {
                Value::Integer(value)
            }
            Cell::Float(value) => Value::Real(value),
            Cell::Text(span) => Value::Text(row.text(span).into()),
            Cell::Bytes(span) => Value::Blob(row.bytes(span).to_vec()),
            Cell::Int(_)
            | Cell::Decimal { .. }
            | Cell::Number(_)
            | Cell::Days(_)
            | Cell::Micros(_)
            | Cell::Json(_)
            | Cell::Uuid(_) => {
                self.text.clear();
                write_canonical(cell, column, row, &mut self.text);
                Value::Text(self.text.as_str().into())
            }
        }
    }
}

impl RowSink for SqliteRows {
    fn row(&mut self, row: RowRef<'_>) {
        for (at, cell) in row.cells.iter().enumerate() {
            let value = self.value(*cell, self.columns[at], &row);
            self.values.push(value);
        }
        if let Some(load) = self.load {
            self.values.push(Value::Integer(load));
            self.values.push(Value::Integer(i64::try_from(row.record).unwrap_or(i64::MAX)));
        }
        self.rows += 1;
    }
}
