//! Aligned columns of text.

use std::fmt::Write as _;

use cli::{Style, escape};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows of cells under headings. Cells are escaped; widths are counted in characters.
#[derive(Debug)]
pub(super) struct Columns {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    pub(super) fn new(heads: &[(&'static str, Align)]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| escape(cell).to_string()).collect());
    }

    pub(super) fn render(&self, style: Style) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or_default().max(self.heads[column].0.len())
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let line = |cells: &[String]| {
            let mut text = String::new();
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.heads) {
                let _ = match align {
                    Align::Left => write!(text, "{cell:<width$}  "),
                    Align::Right => write!(text, "{cell:>width$}  "),
                };
            }
            text.trim_end().to_owned()
        };
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| (*head).to_owned()).collect();
        let mut text = format!("{}\n", style.bold(line(&heads)));
        for row in &self.rows {
            text.push_str(&line(row));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_nothing_escapes_them() {
        let mut columns = Columns::new(&[("LOAD", Align::Right), ("KEY", Align::Left)]);
        columns.row(["7".into(), "a\nb".into()]);
        columns.row(["12345".into(), "Peña".into()]);
        assert_eq!(columns.render(Style::PLAIN), " LOAD  KEY\n    7  a\\nb\n12345  Peña\n");
    }
}
