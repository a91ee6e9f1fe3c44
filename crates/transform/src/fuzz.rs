//! What any bytes have to bear. Each function takes the bytes a fuzzer made up and panics where a promise is broken; the
//! targets in `fuzz/` call them, and so do ordinary tests over damaged files. Never part of a build that ships.
//!
//! The first [`CHOICES`] bytes say how the rest is read (encoding, dialect, pieces, blocks, limits), so that a fuzzer
//! varies those as well.

use std::io::{self, Read};
use std::sync::LazyLock;

use crate::csv::{Block, Cutter, Decoded, Decoder, Grammar, LastRecord, OpenError, Opened, read_header};
use crate::encoding::Encoding;
use crate::pipeline::{Dialect, Field, Pipeline};
use crate::plan::{Plan, PlanError};
use crate::reject::Reason;
use crate::row::{Cell, RowRef};
use crate::types::{ColumnType, write_canonical};
use crate::worker::{RejectedRecord, RowSink, Worker};

/// Bytes at the start of an input that choose how the rest is read.
pub const CHOICES: usize = 8;

/// How an input is read.
struct Choices {
    encoding: Encoding,
    /// The input is UTF-8 and brought into the encoding first; otherwise its bytes stand as they are.
    is_transcoded: bool,
    dialect: Dialect,
    piece: usize,
    block: usize,
    limit: usize,
    width: usize,
    first_kind: usize,
}

impl Choices {
    fn of(bytes: &[u8]) -> (Self, &[u8]) {
        let (chosen, rest) = bytes.split_at(CHOICES.min(bytes.len()));
        let choice = |index: usize| usize::from(chosen.get(index).copied().unwrap_or(0));
        let encoding = match choice(0) % 5 {
            0 => Encoding::Utf8,
            1 => Encoding::Utf16Le,
            2 => Encoding::Utf16Be,
            3 => Encoding::SingleByte(encoding_rs::WINDOWS_1252),
            // Unlike the one before, some of its bytes are no characters.
            _ => Encoding::SingleByte(encoding_rs::WINDOWS_1253),
        };
        let flag = |bit: u32| choice(1) >> bit & 1 == 1;
        let dialect = Dialect {
            delimiter: [None, Some(b','), Some(b','), Some(b';'), Some(b'\t'), Some(b'|')][choice(2) % 6],
            quote: [Some(b'"'), Some(b'"'), Some(b'\''), None][choice(2) / 6 % 4],
            double_quote: !flag(0),
            escape: flag(1).then_some(b'\\'),
            skip_initial_space: flag(2),
            header: !flag(3),
            comment: flag(4).then_some(b'#'),
        };
        let choices = Self {
            encoding,
            is_transcoded: choice(0) < 200,
            dialect,
            piece: 1 + choice(3) * choice(3) / 4,
            block: 1 + choice(4),
            limit: 4 + choice(5),
            width: 1 + choice(6) % 24,
            first_kind: choice(7),
        };
        (choices, rest)
    }

    /// The input as an object of the chosen encoding.
    fn object(&self, input: &[u8]) -> Vec<u8> {
        if !self.is_transcoded || !self.encoding.is_utf16() {
            return input.to_vec();
        }
        let units = |unit: u16| match self.encoding {
            Encoding::Utf16Be => unit.to_be_bytes(),
            _ => unit.to_le_bytes(),
        };
        String::from_utf8_lossy(input).encode_utf16().flat_map(units).collect()
    }
}

/// The physical line each offset of an object stands on, counted unit by unit.
struct Lines(Vec<u64>);

impl Lines {
    fn of(object: &[u8], encoding: Encoding) -> Self {
        let width = if encoding.is_utf16() { 2 } else { 1 };
        let unit = |at: usize| match (object.get(at..at + width)?, encoding) {
            (&[low, high], Encoding::Utf16Le) => Some(u16::from_le_bytes([low, high])),
            (&[high, low], _) => Some(u16::from_be_bytes([high, low])),
            (&[byte], _) => Some(u16::from(byte)),
            _ => None,
        };
        let (feed, carriage) = (Some(u16::from(b'\n')), Some(u16::from(b'\r')));
        let mut line = 1;
        let mut lines = vec![line; object.len() + 1];
        for at in (0..object.len()).step_by(width) {
            if unit(at) == feed || (unit(at) == carriage && unit(at + width) != feed) {
                line += 1;
            }
            let until = (at + width).min(object.len());
            lines[until] = line;
            if until > at + 1 {
                lines[at + 1] = lines[at];
            }
        }
        Self(lines)
    }

    fn at(&self, offset: u64) -> u64 {
        self.0[offset as usize]
    }

    /// Where the line after that of `offset` starts, or the end of the object.
    fn next(&self, offset: u64) -> u64 {
        let here = self.at(offset);
        let after = (offset as usize..self.0.len()).find(|&at| self.0[at] > here);
        after.unwrap_or(self.0.len() - 1) as u64
    }

    /// Whether a line starts at `offset`; the first starts behind a byte order mark.
    fn is_start(&self, offset: u64, mark: u64) -> bool {
        offset == mark || (offset > mark && self.at(offset) > self.at(offset - 1))
    }
}

/// Bytes of the byte order mark a cutter of this encoding strips.
fn mark_of(object: &[u8], encoding: Encoding) -> u64 {
    match Encoding::of_bom(object) {
        Some((found, len)) if found == encoding || (found == Encoding::Utf8 && !encoding.is_utf16()) => len as u64,
        _ => 0,
    }
}

/// Pushes an object in pieces and hands out each block as soon as it is whole.
fn cut(mut cutter: Cutter, object: &[u8], piece: usize, mut each: impl FnMut(&Block)) {
    let mut drain = |cutter: &mut Cutter| {
        while let Some(block) = cutter.next() {
            each(&block);
            cutter.recycle(block.into_buffer());
        }
    };
    for chunk in object.chunks(piece) {
        cutter.push(chunk);
        drain(&mut cutter);
    }
    cutter.finish();
    drain(&mut cutter);
}

/// What decode finds at a place of the object.
#[derive(Debug, PartialEq)]
struct Item {
    offset: u64,
    raw: Vec<u8>,
    /// `None` for a skipped line and for a record with a fault.
    fields: Option<Vec<String>>,
    fault: Option<Reason>,
}

/// The items of one block, appended.
fn decode(grammar: Grammar, block: &Block, items: &mut Vec<Item>) {
    if block.last == LastRecord::Truncated {
        let fault = Some(Reason::RecordTooLong);
        items.push(Item { offset: block.offset, raw: block.bytes.clone(), fields: None, fault });
        return;
    }
    // Bytes that are no text are the worker's to judge: here they only have to keep their place.
    let (text, _) = block.encoding.decode_masked(&block.bytes, 0x1A);
    let mut decoder = Decoder::new(grammar);
    let (mut offset, mut from, mut from_cut) = (block.offset, 0, 0);
    loop {
        let (start, end, is_record, mut fault) = match (decoder.at(), decoder.next(&text)) {
            (_, Decoded::End) => break,
            (at, Decoded::Skipped) => (at, at, false, None),
            (_, Decoded::Record { start, end, fault }) => (start, end, true, fault),
        };
        if is_record && block.last == LastRecord::OverLimit && decoder.at() == text.len() {
            fault = Some(Reason::RecordTooLong);
        }
        let cut = from_cut + block.encoding.cut_len(&text[from..start]);
        offset += block.encoding.raw_len(&block.bytes[from_cut..cut]);
        (from, from_cut) = (start, cut);
        let raw = block.encoding.to_raw(&block.bytes[cut..cut + block.encoding.cut_len(&text[start..end])]);
        let read = || (0..decoder.len()).map(|index| decoder.field(&text, index).to_owned()).collect();
        items.push(Item { offset, raw, fields: (is_record && fault.is_none()).then(read), fault });
    }
}

/// Cut and decode agree with each other, however the bytes arrive, and lose none of them.
pub fn cut_and_decode(bytes: &[u8]) {
    let (choices, input) = Choices::of(bytes);
    let Choices { encoding, piece, block, .. } = choices;
    let object = choices.object(input);
    let grammar = Grammar::new(&choices.dialect, b',');
    // A fifth of the inputs meet no limit.
    let limit = if choices.limit > 200 { 1 << 20 } else { choices.limit };
    let cutter = |block| Cutter::new(grammar, encoding, limit, false).with_block(block);
    let lines = Lines::of(&object, encoding);
    let mark = mark_of(&object, encoding);

    let mut whole = Vec::new();
    cut(cutter(usize::MAX), &object, object.len().max(1), |block| decode(grammar, block, &mut whole));

    let mut single = Vec::new();
    cut(cutter(1), &object, object.len().max(1), |block| {
        let before = single.len();
        decode(grammar, block, &mut single);
        assert_eq!(single.len(), before + 1, "a block of one byte holds one record or one skipped line");
    });
    assert_eq!(whole, single, "blocks do not matter");

    let mut pieces = Vec::new();
    let mut offset = mark;
    let mut records = 0;
    cut(cutter(block), &object, piece, |block| {
        assert_eq!(block.offset, offset, "blocks follow each other");
        assert_eq!(block.line, lines.at(offset));
        assert_eq!(block.record, records + 1);
        let before = pieces.len();
        decode(grammar, block, &mut pieces);
        records += pieces[before..].iter().filter(|item| item.fields.is_some() || item.fault.is_some()).count() as u64;
        let raw = encoding.to_raw(&block.bytes);
        // A comment over the limit is cut to its first character.
        let is_cut_comment = match block.bytes.split_first() {
            Some((first, b"" | b"\n" | b"\r" | b"\r\n")) if grammar.comment == Some(*first) => {
                lines.next(offset) > offset + raw.len() as u64
            }
            _ => false,
        };
        if block.last == LastRecord::Truncated || is_cut_comment {
            offset = lines.next(offset);
        } else {
            assert!(object[offset as usize..].starts_with(&raw), "a block holds what the object holds");
            offset += raw.len() as u64;
        }
    });
    assert_eq!(offset, object.len() as u64, "no byte is lost");
    assert_eq!(whole, pieces, "neither pieces nor blocks matter");

    for item in &pieces {
        assert!(lines.is_start(item.offset, mark), "a record starts where a line starts");
        if item.fault != Some(Reason::RecordTooLong) {
            let at = item.offset as usize;
            assert!(object[at..].starts_with(&item.raw), "an item's raw bytes are those of the object");
        }
    }
}

/// Any text is read as a pipeline or explained where it stands.
pub fn pipeline(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let problems = match Pipeline::parse(&text) {
        Ok(pipeline) => {
            let again = Pipeline::parse(&text).map(|again| again.fingerprint());
            assert_eq!(again.ok(), Some(pipeline.fingerprint()));
            assert!(!pipeline.schema.fields.is_empty());
            return;
        }
        Err(problems) => problems,
    };
    assert!(problems.iter().count() > 0);
    let mut last = (1, 1);
    for problem in &problems {
        assert!(text.get(problem.span.clone()).is_some(), "{problem:?} is outside the text");
        let before = &text[..problem.span.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let place = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        assert_eq!((problem.line, problem.column), place);
        assert!(place >= last, "problems come in the order of the text");
        last = place;
    }
    let shown = problems.render("p.toml", &text);
    assert!(shown.contains('^') && shown.ends_with('\n'));
    assert!(!problems.to_string().is_empty());
}

/// Every type, and enough cleaning and rules that each stage has something to do.
const EVERY_TYPE: &str = r##"version = 1
name = "every"
[source]
path = "*.csv"
[schema]
missingValues = ["", "NULL", "-"]
fields = [
  { name = "text" },
  { name = "integer", type = "integer", clean = ["trim"], constraints = { maximum = 1_000_000 } },
  { name = "number", type = "number", precision = [9, 2], groupChar = "," },
  { name = "required", clean = ["trim", "collapse_spaces"], constraints = { required = true, maxLength = 40 } },
  { name = "boolean", type = "boolean", trueValues = ["1", "true", "yes"], falseValues = ["0", "false", "no"] },
  { name = "date", type = "date" },
  { name = "french", type = "date", format = "%d/%m/%Y", default = "01/02/2003" },
  { name = "datetime", type = "datetime", timezone = "Europe/Paris" },
  { name = "local", type = "datetime" },
  { name = "time", type = "time" },
  { name = "year", type = "year" },
  { name = "object", type = "object" },
  { name = "array", type = "array" },
  { name = "email", format = "email", clean = ["trim", "lower"] },
  { name = "uuid", format = "uuid" },
  { name = "binary", format = "binary" },
  { name = "uri", format = "uri" },
  { name = "short", sqlType = "varchar(5)", clean = ["upper", "nfc"] },
  { name = "small", type = "integer", sqlType = "smallint", bareNumber = false },
  { name = "double", type = "number", sqlType = "double precision" },
  { name = "exact", type = "number" },
  { name = "words", clean = [{ regex = '(\w+) (\w+)', with = "$2 $1" }, { replace = "e", with = "é" }, { map = { a = "NULL" } }] },
  { name = "pattern", constraints = { pattern = '[0-9A-Za-z ]+' } },
]
"##;

static EVERY: LazyLock<Pipeline> = LazyLock::new(|| match Pipeline::parse(EVERY_TYPE) {
    Ok(pipeline) => pipeline,
    Err(problems) => panic!("{}", problems.render("every.toml", EVERY_TYPE)),
});

/// What became of an object, in a form that does not depend on blocks.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    read: u64,
    skipped: u64,
    rows: Vec<(u64, Vec<Option<String>>)>,
    rejects: Vec<RejectedRecord>,
}

impl Outcome {
    fn apply(&mut self, worker: &mut Worker, columns: &[ColumnType], block: &Block) {
        let mut sink = Rows { columns, rows: &mut self.rows };
        let before = sink.rows.len();
        let tally = worker.apply(block, &mut sink);
        assert_eq!(tally.read, tally.loaded + tally.rejects.len() as u64, "no record vanishes");
        assert_eq!(self.rows.len() - before, tally.loaded as usize, "a row for each record loaded");
        self.read += tally.read;
        self.skipped += tally.skipped;
        self.rejects.extend(tally.rejects);
    }
}

struct Rows<'a> {
    columns: &'a [ColumnType],
    rows: &'a mut Vec<(u64, Vec<Option<String>>)>,
}

impl RowSink for Rows<'_> {
    fn row(&mut self, row: RowRef<'_>) {
        assert_eq!(row.cells.len(), self.columns.len());
        let cells = row.cells.iter().zip(self.columns).map(|(&cell, &column)| {
            let mut text = String::new();
            write_canonical(cell, column, &row, &mut text);
            (cell != Cell::Null).then_some(text)
        });
        self.rows.push((row.record, cells.collect()));
    }
}

/// Bytes that come a few at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.piece.min(self.rest.len()).min(buffer.len());
        let (now, later) = self.rest.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.rest = later;
        Ok(len)
    }
}

/// The pipeline that is every type in turn, a field for each label, or `width` fields by position.
fn every_type(choices: &Choices, labels: Option<&[String]>) -> Pipeline {
    let mut pipeline = EVERY.clone();
    pipeline.source.encoding = choices.encoding;
    pipeline.dialect = choices.dialect.clone();
    pipeline.dialect.header = labels.is_some();
    // The least a pipeline file may say; a few inputs have more room.
    pipeline.limits.record = if choices.limit > 200 { 1 << 20 } else { 1024 };
    let kinds = EVERY.schema.fields.iter().cycle().skip(choices.first_kind % EVERY.schema.fields.len());
    let field = |(index, field): (usize, &Field)| Field {
        name: format!("f{index}"),
        from: labels.map(|labels| labels[index].clone()),
        ..field.clone()
    };
    pipeline.schema.fields = kinds.take(labels.map_or(choices.width, <[String]>::len)).enumerate().map(field).collect();
    pipeline
}

/// The whole path of any bytes: nothing vanishes, rejects keep their bytes and their place, nothing depends on how the
/// bytes arrive.
pub fn records(bytes: &[u8]) {
    let (mut choices, input) = Choices::of(bytes);
    let object = choices.object(input);
    let mut labels = None;
    if choices.dialect.header {
        match Opened::new(object.as_slice(), &every_type(&choices, Some(&[]))) {
            Ok(opened) => labels = opened.header().map(<[String]>::to_vec),
            Err(OpenError::Read(error)) => panic!("{error}"),
            // It is no CSV with a header in this encoding, which is an answer too.
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
    let mut pipeline = every_type(&choices, labels.as_deref());
    let columns: Vec<ColumnType> = pipeline.schema.fields.iter().map(Field::column_type).collect();
    let mut whole = match Opened::new(object.as_slice(), &pipeline) {
        Ok(opened) => opened,
        Err(error) => return assert!(labels.is_none(), "{error}"),
    };
    let grammar = whole.grammar();
    let plan = match Plan::compile(&pipeline, grammar, whole.header(), &columns) {
        Ok((plan, _)) => plan,
        // Read by position instead.
        Err(PlanError::DuplicateLabel { .. }) => {
            labels = None;
            choices.width = columns.len();
            pipeline = every_type(&choices, None);
            whole = match Opened::new(object.as_slice(), &pipeline) {
                Ok(opened) => opened,
                Err(error) => panic!("{error}"),
            };
            match Plan::compile(&pipeline, grammar, None, &columns) {
                Ok((plan, _)) => plan,
                Err(error) => panic!("{error}"),
            }
        }
        Err(error) => panic!("{error}"),
    };

    let mut worker = Worker::new(&plan);
    let mut outcome = Outcome::default();
    while let Some(block) = whole.next_block().unwrap_or_else(|error| panic!("{error}")) {
        outcome.apply(&mut worker, &columns, &block);
        whole.recycle(block.into_buffer());
    }
    assert_eq!(whole.bytes(), object.len() as u64, "all of it was read");

    let mut pieces = Outcome::default();
    let source = Pieces { rest: &object, piece: choices.piece };
    let mut opened = Opened::new(source, &pipeline).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((opened.grammar(), opened.header()), (grammar, labels.as_deref()), "a guess does not depend on pieces");
    while let Some(block) = opened.next_block().unwrap_or_else(|error| panic!("{error}")) {
        pieces.apply(&mut worker, &columns, &block);
    }
    assert_eq!(outcome, pieces, "pieces do not matter");

    let mut blocks = Outcome::default();
    let mut header_is_read = labels.is_none();
    let limit = pipeline.limits.record;
    let mut cutter = Cutter::new(grammar, choices.encoding, limit, !header_is_read).with_block(choices.block);
    if whole.hinted().is_some() {
        cutter = cutter.without_first_line();
    }
    cut(cutter, &object, choices.piece, |block| {
        if header_is_read {
            blocks.apply(&mut worker, &columns, block);
        } else {
            let header = read_header(block, grammar, pipeline.limits.columns).map(|(header, _)| header);
            header_is_read = header.unwrap_or_else(|error| panic!("{error}")).is_some();
        }
    });
    assert_eq!(outcome, blocks, "blocks do not matter");

    check_places(&object, &choices, &plan, limit, &outcome);
}

fn check_places(object: &[u8], choices: &Choices, plan: &Plan, limit: usize, outcome: &Outcome) {
    let lines = Lines::of(object, choices.encoding);
    let mark = mark_of(object, choices.encoding);
    let rows: Vec<u64> = outcome.rows.iter().map(|(record, _)| *record).collect();
    let rejects: Vec<u64> = outcome.rejects.iter().map(|reject| reject.record).collect();
    assert!(rows.is_sorted_by(|a, b| a < b) && rejects.is_sorted_by(|a, b| a < b), "in file order");
    let mut all = [rows, rejects].concat();
    all.sort_unstable();
    assert!(all.iter().copied().eq(1..=outcome.read), "each record is a row or a reject, once");

    let unit = if choices.encoding.is_utf16() { 2 } else { 1 };
    let mut before = None;
    for reject in &outcome.rejects {
        let start = reject.offset as usize;
        let rest = &object[start..];
        assert!(rest.starts_with(&reject.raw), "raw bytes are those at the offset: {reject:?}");
        assert_eq!(reject.line, lines.at(reject.offset), "{reject:?}");
        assert!(lines.is_start(reject.offset, mark), "{reject:?}");
        assert!(before < Some(reject.offset), "offsets grow");
        assert!(!reject.raw.is_empty() && reject.raw.len() <= limit * unit, "{reject:?}");
        if reject.fault.reason != Reason::RecordTooLong {
            let ends = match &rest[reject.raw.len()..] {
                [] => true,
                [b'\n' | b'\r', ..] if unit == 1 => true,
                [b'\n' | b'\r', 0, ..] | [0, b'\n' | b'\r', ..] => unit == 2,
                _ => false,
            };
            assert!(ends, "all of the record: {reject:?}");
        }
        assert!(!plan.message(reject.fault).is_empty());
        before = Some(reject.offset);
    }
}

#[cfg(test)]
mod tests;
