//! Blocks through a plan.

use std::borrow::Cow;
use std::ops::Range;

use crate::csv::{Block, Decoded, Decoder, LastRecord, count_line_ends};
use crate::plan::Plan;
use crate::reject::{Fault, Reason};
use crate::row::{Row, RowRef};
use crate::types::Buffers;

/// Receives kept rows. Sync and generic: the one hot trait.
pub trait RowSink {
    fn row(&mut self, row: RowRef<'_>);
}

/// Drops rows: checks and benchmarks.
#[derive(Debug, Default)]
pub struct Discard;

impl RowSink for Discard {
    fn row(&mut self, _row: RowRef<'_>) {}
}

/// A record set aside, with all that is needed to work on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The first data record is 1.
    pub record: u64,
    /// Physical line of its first byte, the first line of the object is 1.
    pub line: u64,
    /// Offset of its first byte in the decompressed object, before character decoding.
    pub offset: u64,
    /// The exact bytes, without the line end; at most `limits.record` of them (counted as UTF-8 where the source is
    /// UTF-16).
    pub raw: Vec<u8>,
    pub fault: Fault,
}

/// Where a record stands, and its bytes, as in [`RejectedRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    pub record: u64,
    pub line: u64,
    pub offset: u64,
    pub raw: Vec<u8>,
}

/// What became of one block: `read == loaded + rejects.len()`.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records found.
    pub read: u64,
    /// Rows handed to the sink.
    pub loaded: u64,
    /// Blank and comment lines, outside records.
    pub skipped: u64,
    /// In file order.
    pub rejects: Vec<RejectedRecord>,
}

/// Applies a plan to blocks; one per thread.
#[derive(Debug)]
pub struct Worker {
    plan: Plan,
    decoder: Decoder,
    row: Row,
    buffers: Buffers,
}

impl Worker {
    pub fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.clone(),
            decoder: Decoder::new(plan.grammar),
            row: Row::default(),
            buffers: Buffers::default(),
        }
    }

    /// Hands each kept row to `sink`, in file order.
    pub fn apply(&mut self, block: &Block, sink: &mut impl RowSink) -> Tally {
        if block.last == LastRecord::Truncated {
            return self.truncated(block);
        }
        let (text, bad) = self.text(block);
        self.decode(block, &text, &bad, sink)
    }

    /// A block's text, and the ranges of it that stand for bytes that are no text.
    fn text<'a>(&self, block: &'a Block) -> (Cow<'a, str>, Vec<Range<usize>>) {
        // Validated once per block, then sliced; only a block that fails is looked at record by record.
        if let Some(text) = block.encoding.decode(&block.bytes) {
            return (text, Vec::new());
        }
        let grammar = &self.plan.grammar;
        let taken = [Some(grammar.delimiter), grammar.quote, grammar.escape, grammar.comment];
        let mask = if taken.contains(&Some(0x1A)) { 0x1C } else { 0x1A };
        let (text, bad) = block.encoding.decode_masked(&block.bytes, mask);
        (Cow::Owned(text), bad)
    }

    /// `bad` are the ranges of `text` that stand for bytes that are no text.
    fn decode(&mut self, block: &Block, text: &str, bad: &[Range<usize>], sink: &mut impl RowSink) -> Tally {
        let mut tally = Tally::default();
        let mut place = Place { text: 0, cut: 0, line: block.line, offset: block.offset };
        let mut bad = bad.iter().peekable();
        // PostgreSQL's text holds no NUL; one look at the block spares one at each value.
        let nul_free = memchr::memchr(0, text.as_bytes()).is_none();
        self.decoder.reset();
        loop {
            let (start, end, mut fault) = match self.decoder.next(text) {
                Decoded::Record { start, end, fault } => (start, end, fault),
                Decoded::Skipped => {
                    tally.skipped += 1;
                    continue;
                }
                Decoded::End => break,
            };
            let record = block.record + tally.read;
            tally.read += 1;
            if block.last == LastRecord::OverLimit && self.decoder.at() == text.len() {
                fault = Some(Reason::RecordTooLong);
            }
            while bad.peek().is_some_and(|bad| bad.end <= start) {
                bad.next();
            }
            if bad.peek().is_some_and(|bad| bad.start < end) {
                fault = Some(Reason::InvalidEncoding);
            }
            let outcome = match fault {
                Some(reason) => Err(Fault { field: None, reason }),
                None => self.plan.apply(text, nul_free, &self.decoder, &mut self.row, &mut self.buffers),
            };
            match outcome {
                Ok(()) => {
                    tally.loaded += 1;
                    self.row.pad();
                    sink.row(RowRef::new(&self.row, text, record, end - start));
                }
                Err(fault) => {
                    let raw = place.raw(block, text, start, end);
                    tally.rejects.push(RejectedRecord { record, line: place.line, offset: place.offset, raw, fault });
                }
            }
        }
        tally
    }

    /// Finds records by their numbers, which must rise: those that pass the plan and that somebody else refuses.
    pub fn find(&mut self, block: &Block, numbers: &[u64]) -> Vec<FoundRecord> {
        let mut found = Vec::with_capacity(numbers.len());
        let mut wanted = numbers.iter().copied().peekable();
        let (text, _) = self.text(block);
        let mut place = Place { text: 0, cut: 0, line: block.line, offset: block.offset };
        let mut record = block.record;
        self.decoder.reset();
        while wanted.peek().is_some() {
            let (start, end) = match self.decoder.next(&text) {
                Decoded::Record { start, end, .. } => (start, end),
                Decoded::Skipped => continue,
                Decoded::End => break,
            };
            if wanted.next_if_eq(&record).is_some() {
                let raw = place.raw(block, &text, start, end);
                found.push(FoundRecord { record, line: place.line, offset: place.offset, raw });
            }
            record += 1;
        }
        found
    }

    /// One line over the limit, of which the first bytes were kept.
    fn truncated(&self, block: &Block) -> Tally {
        let mut raw = block.bytes.as_slice();
        while let [rest @ .., b'\n' | b'\r'] = raw {
            raw = rest;
        }
        let raw = block.encoding.without_half(&raw[..raw.len().min(self.plan.limit)]);
        let rejected = RejectedRecord {
            record: block.record,
            line: block.line,
            offset: block.offset,
            raw: block.encoding.to_raw(raw),
            fault: Fault { field: None, reason: Reason::RecordTooLong },
        };
        Tally { read: 1, loaded: 0, skipped: 0, rejects: vec![rejected] }
    }
}

/// How far rejects were located in a block; only moves forward, so that a block full of rejects stays linear.
struct Place {
    text: usize,
    cut: usize,
    line: u64,
    offset: u64,
}

impl Place {
    /// Moves to a record and gives its bytes.
    fn raw(&mut self, block: &Block, text: &str, start: usize, end: usize) -> Vec<u8> {
        self.advance(block, text, start);
        let raw = &block.bytes[self.cut..self.cut + block.encoding.cut_len(&text[start..end])];
        block.encoding.to_raw(raw)
    }

    fn advance(&mut self, block: &Block, text: &str, to: usize) {
        let cut = self.cut + block.encoding.cut_len(&text[self.text..to]);
        let passed = &block.bytes[self.cut..cut];
        self.line += count_line_ends(passed);
        self.offset += block.encoding.raw_len(passed);
        self.text = to;
        self.cut = cut;
    }
}

#[cfg(test)]
mod tests;
