//! CSV files whose content is known before they are written.
//!
//! A writer of its own, with none of our code in it: what it wrote is the truth a reader is judged by.

use std::path::Path;

/// When a field is put in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoting {
    /// Where the field could not be read back otherwise.
    Needed,
    /// Each field.
    All,
    /// Where needed and, by the seed, here and there where it is not.
    Mixed(u64),
}

/// Records and the way they are written down.
#[derive(Clone, Debug)]
pub struct CsvBuilder {
    header: Vec<String>,
    records: Vec<Vec<String>>,
    delimiter: char,
    quote: char,
    quoting: Quoting,
    line_ends: Vec<String>,
    final_line_end: bool,
    byte_order_mark: bool,
}

impl CsvBuilder {
    /// A file with this header and no records: comma, quotes where needed, LF, a line end after the last record.
    pub fn new<I: IntoIterator<Item: Into<String>>>(header: I) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            records: Vec::new(),
            delimiter: ',',
            quote: '"',
            quoting: Quoting::Needed,
            line_ends: vec!["\n".into()],
            final_line_end: true,
            byte_order_mark: false,
        }
    }

    /// A file of random text, the same for the same seed: delimiters, quotes, line ends and characters of up to four
    /// bytes inside of fields, empty fields, long fields.
    pub fn random(seed: u64, records: usize, columns: usize) -> Self {
        let mut random = Random::new(seed);
        let mut builder = Self::new((1..=columns).map(|column| format!("column_{column}")));
        for _ in 0..records {
            builder.records.push((0..columns).map(|_| random_text(&mut random)).collect());
        }
        builder
    }

    /// Adds a record of any number of fields.
    #[must_use]
    pub fn record<I: IntoIterator<Item: Into<String>>>(mut self, fields: I) -> Self {
        self.records.push(fields.into_iter().map(Into::into).collect());
        self
    }

    /// Adds records.
    #[must_use]
    pub fn records(mut self, records: impl IntoIterator<Item = Vec<String>>) -> Self {
        self.records.extend(records);
        self
    }

    #[must_use]
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.delimiter = delimiter;
        self
    }

    #[must_use]
    pub fn quote(mut self, quote: char) -> Self {
        self.quote = quote;
        self
    }

    #[must_use]
    pub fn quoting(mut self, quoting: Quoting) -> Self {
        self.quoting = quoting;
        self
    }

    #[must_use]
    pub fn line_end(self, line_end: &str) -> Self {
        self.line_ends([line_end])
    }

    /// Line ends used in turn.
    #[must_use]
    pub fn line_ends<'a>(mut self, line_ends: impl IntoIterator<Item = &'a str>) -> Self {
        self.line_ends = line_ends.into_iter().map(str::to_owned).collect();
        assert!(!self.line_ends.is_empty(), "a line end");
        self
    }

    /// The last record ends with the file instead of a line end.
    #[must_use]
    pub fn without_final_line_end(mut self) -> Self {
        self.final_line_end = false;
        self
    }

    #[must_use]
    pub fn with_byte_order_mark(mut self) -> Self {
        self.byte_order_mark = true;
        self
    }

    /// The names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// What a reader has to find, field by field, without the header.
    pub fn truth(&self) -> &[Vec<String>] {
        &self.records
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut random = match self.quoting {
            Quoting::Mixed(seed) => Some(Random::new(seed)),
            Quoting::Needed | Quoting::All => None,
        };
        let mut text = String::new();
        if self.byte_order_mark {
            text.push('\u{feff}');
        }
        let lines = 1 + self.records.len();
        for (line, fields) in std::iter::once(&self.header).chain(&self.records).enumerate() {
            for (position, field) in fields.iter().enumerate() {
                if position > 0 {
                    text.push(self.delimiter);
                }
                let by_chance = random.as_mut().is_some_and(|random| random.below(3) == 0);
                // One empty field alone would be a blank line, which is no record.
                let lone = field.is_empty() && fields.len() == 1;
                if self.quoting == Quoting::All || by_chance || lone || self.needs_quotes(field) {
                    text.push(self.quote);
                    text.push_str(&field.replace(self.quote, &format!("{0}{0}", self.quote)));
                    text.push(self.quote);
                } else {
                    text.push_str(field);
                }
            }
            if line + 1 < lines || self.final_line_end {
                text.push_str(&self.line_ends[line % self.line_ends.len()]);
            }
        }
        text.into_bytes()
    }

    /// Writes the file to `path`.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.build()).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }

    fn needs_quotes(&self, field: &str) -> bool {
        field.contains([self.delimiter, self.quote, '\r', '\n']) || field.starts_with('\u{feff}')
    }
}

fn random_text(random: &mut Random) -> String {
    const PIECES: [&str; 24] = [
        "a", "Z", "0", "9", " ", "  ", ",", ";", "\t", "|", "\"", "\"\"", "'", "\\", "\n", "\r\n", "\r", "é", "ñ",
        "東京", "😀", "e\u{301}", "NULL", "-",
    ];
    match random.below(8) {
        0 => String::new(),
        1 => random.below(1_000_000).to_string(),
        2 => "x".repeat(random.below(300) as usize),
        _ => (0..random.below(8)).map(|_| PIECES[random.below(PIECES.len() as u64) as usize]).collect(),
    }
}

/// A small generator of numbers, the same on every machine for the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // The state must not be zero, and neighbouring seeds must not start alike.
        Self((seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "a limit above zero");
        (self.number() >> 11) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(builder: &CsvBuilder) -> Vec<Vec<String>> {
        let bytes = builder.build();
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .delimiter(builder.delimiter as u8)
            .quote(builder.quote as u8)
            .from_reader(bytes.as_slice());
        reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn an_independent_reader_finds_the_truth() {
        for seed in 0..60 {
            for (quoting, line_end, delimiter) in
                [(Quoting::Needed, "\n", ','), (Quoting::All, "\r\n", ';'), (Quoting::Mixed(seed), "\r", '\t')]
            {
                let columns = 1 + seed as usize % 7;
                let mut builder = CsvBuilder::random(seed, 40, columns).quoting(quoting).delimiter(delimiter);
                builder = builder.line_end(line_end);
                if seed % 2 == 0 {
                    builder = builder.without_final_line_end();
                }
                assert_eq!(read_back(&builder), builder.truth(), "seed {seed}, {quoting:?}");
            }
        }
    }

    #[test]
    fn a_file_is_written_as_asked() {
        let builder = CsvBuilder::new(["a", "b"]).record(["1", "x;y"]).record(["2", "it's"]);
        let builder = builder.delimiter(';').quote('\'').line_ends(["\r\n", "\n"]).with_byte_order_mark();
        let expected = "\u{feff}a;b\r\n1;'x;y'\n2;'it''s'";
        assert_eq!(String::from_utf8(builder.without_final_line_end().build()).unwrap(), expected);
    }

    #[test]
    fn the_same_seed_gives_the_same_file_and_another_seed_another() {
        let file = |seed| CsvBuilder::random(seed, 20, 3).build();
        assert_eq!(file(7), file(7));
        assert_ne!(file(7), file(8));
    }
}
