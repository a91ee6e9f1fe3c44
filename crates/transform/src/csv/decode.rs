//! Finds the fields of the records in a block's text.

use wide::u8x16;

use super::{Grammar, line_end};
use crate::reject::Reason;
use crate::span::{Side, Span};

/// What stands at a position of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A record at `start..end`, line end excluded; its fields are in the decoder.
    Record { start: usize, end: usize, fault: Option<Reason> },
    /// A blank or comment line.
    Skipped,
    /// The end of the block.
    End,
}

/// Where unquoted fields end: delimiters and line ends, found 64 bytes at a time. Fields are short, so a search for each
/// would cost more than the bytes it looks at.
#[derive(Debug)]
struct Ends {
    delimiter: u8x16,
    feed: u8x16,
    carriage: u8x16,
    /// First byte of the window.
    window: usize,
    /// One bit for each byte of the window that ends a field.
    mask: u64,
}

const WINDOW: usize = 64;
const NO_WINDOW: usize = usize::MAX;

impl Ends {
    fn new(delimiter: u8) -> Self {
        Self {
            delimiter: u8x16::splat(delimiter),
            feed: u8x16::splat(b'\n'),
            carriage: u8x16::splat(b'\r'),
            window: NO_WINDOW,
            mask: 0,
        }
    }

    #[inline]
    fn look_at(&mut self, bytes: &[u8], window: usize) {
        self.window = window;
        self.mask = match bytes.get(window..).and_then(|rest| rest.first_chunk()) {
            Some(whole) => self.ends_in(whole),
            None => self.ends_in_last(bytes.get(window..).unwrap_or_default()),
        };
    }

    /// The last window of a block is not whole.
    #[cold]
    fn ends_in_last(&self, rest: &[u8]) -> u64 {
        let mut padded = [0; WINDOW];
        padded[..rest.len()].copy_from_slice(rest);
        // A delimiter of NUL would be found in the padding, too.
        self.ends_in(&padded) & ((1 << rest.len()) - 1)
    }

    #[inline]
    fn ends_in(&self, window: &[u8; WINDOW]) -> u64 {
        let mut mask = 0;
        for (index, chunk) in window.as_chunks::<16>().0.iter().enumerate() {
            let chunk = u8x16::new(*chunk);
            let ends = chunk.simd_eq(self.delimiter) | chunk.simd_eq(self.feed) | chunk.simd_eq(self.carriage);
            mask |= u64::from(ends.to_bitmask()) << (16 * index);
        }
        mask
    }
}

/// Splits a block's text into records and fields. Keeps the current record's fields; nothing is allocated per record.
#[derive(Debug)]
pub struct Decoder {
    grammar: Grammar,
    at: usize,
    ends: Ends,
    /// Of the current record: in the block or, where quotes were doubled or characters escaped, in `unescaped`.
    fields: Vec<Span>,
    /// Fields beyond [`MOST_FIELDS`].
    beyond: usize,
    unescaped: String,
}

/// Fields of a record that are kept, more than a header may have; the others are counted. A record of a mebibyte may have
/// a million of them.
const MOST_FIELDS: usize = 2048;

impl Decoder {
    pub fn new(grammar: Grammar) -> Self {
        Self {
            grammar,
            at: 0,
            ends: Ends::new(grammar.delimiter),
            fields: Vec::new(),
            beyond: 0,
            unescaped: String::new(),
        }
    }

    /// Starts over at the first byte of a block.
    pub fn reset(&mut self) {
        self.at = 0;
        self.ends.window = NO_WINDOW;
    }

    /// Offset of the next record.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Fields of the current record.
    #[inline]
    pub fn len(&self) -> usize {
        self.fields.len() + self.beyond
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Field `index` of the current record of `text`.
    ///
    /// # Panics
    /// When the record has no such field, or none that was kept, or `text` is not the text it was decoded from.
    #[inline]
    pub fn field<'a>(&'a self, text: &'a str, index: usize) -> &'a str {
        let span = self.fields[index];
        match span.side() {
            Side::Block => &text[span.range()],
            Side::Scratch => &self.unescaped[span.range()],
        }
    }

    /// Where the fields of the current record stand: in the block, or in [`Self::unescaped`].
    #[inline]
    pub(crate) fn spans(&self) -> &[Span] {
        &self.fields
    }

    /// What the current record's fields hold that does not stand in the block as it is.
    #[inline]
    pub(crate) fn unescaped(&self) -> &str {
        &self.unescaped
    }

    /// Decodes the next record of `text`, which holds whole records.
    #[inline]
    pub fn next(&mut self, text: &str) -> Decoded {
        let bytes = text.as_bytes();
        let start = self.at;
        let Some(&first) = bytes.get(start) else { return Decoded::End };
        if first == b'\n' || first == b'\r' || self.grammar.comment == Some(first) {
            self.at = line_end(bytes, start, true).map_or(bytes.len(), |(_, next)| next);
            return Decoded::Skipped;
        }
        self.fields.clear();
        self.beyond = 0;
        self.unescaped.clear();
        let Grammar { delimiter, quote, skip_initial_space, .. } = self.grammar;
        let mut fault = None;
        let mut at = start;
        loop {
            if skip_initial_space {
                while bytes.get(at) == Some(&b' ') && delimiter != b' ' {
                    at += 1;
                }
            }
            if quote.is_some() && bytes.get(at).copied() == quote {
                match self.quoted(text, start, at) {
                    Some((next, well)) => {
                        at = next;
                        if !well {
                            fault = Some(Reason::TextAfterQuote);
                        }
                    }
                    None => return self.runaway(bytes, start),
                }
            } else {
                at = self.unquoted(bytes, at);
            }
            // `at` is at a delimiter, at a line end or at the end of the block.
            match bytes.get(at) {
                Some(&byte) if byte == delimiter => at += 1,
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => {
                    self.at = at + 2;
                    break;
                }
                Some(_) => {
                    self.at = at + 1;
                    break;
                }
                None => {
                    self.at = at;
                    break;
                }
            }
        }
        Decoded::Record { start, end: at, fault }
    }

    #[inline]
    fn push(&mut self, span: Span) {
        if self.fields.len() < MOST_FIELDS {
            self.fields.push(span);
        } else {
            self.beyond += 1;
        }
    }

    /// Unquoted fields from `start` on, as many as follow each other. Where the last one ended.
    #[inline]
    fn unquoted(&mut self, bytes: &[u8], start: usize) -> usize {
        let Grammar { delimiter, quote, skip_initial_space, .. } = self.grammar;
        let mut start = start;
        let window = start & !(WINDOW - 1);
        if window != self.ends.window {
            self.ends.look_at(bytes, window);
        }
        let mut mask = self.ends.mask & (u64::MAX << (start % WINDOW));
        loop {
            while mask != 0 {
                let end = self.ends.window + mask.trailing_zeros() as usize;
                self.push(Span::block(start, end - start));
                let opens = match bytes.get(end + 1) {
                    Some(&next) => Some(next) == quote,
                    None => true,
                };
                if bytes[end] != delimiter || opens || skip_initial_space {
                    return end;
                }
                start = end + 1;
                mask &= mask - 1;
            }
            let window = self.ends.window + WINDOW;
            if window >= bytes.len() {
                self.push(Span::block(start, bytes.len() - start));
                return bytes.len();
            }
            self.ends.look_at(bytes, window);
            mask = self.ends.mask;
        }
    }

    /// A quoted field whose quote stands at `open`. Where it ended and whether a delimiter or line end followed the
    /// closing quote; `None` for a runaway quote.
    fn quoted(&mut self, text: &str, record_start: usize, open: usize) -> Option<(usize, bool)> {
        let bytes = text.as_bytes();
        let Grammar { delimiter, quote, double_quote, escape, .. } = self.grammar;
        let quote = quote?;
        let mut piece = open + 1;
        let mut at = piece;
        let unescaped_start = self.unescaped.len();
        let mut unescaped = false;
        let close = loop {
            let found = match escape {
                Some(escape) => memchr::memchr2(quote, escape, bytes.get(at..)?),
                None => memchr::memchr(quote, bytes.get(at..)?),
            };
            let here = at + found?;
            let next = bytes.get(here + 1).copied();
            if escape == Some(bytes[here]) {
                // The escaped character stands for itself, however many bytes it has: it stays in the next piece.
                next?;
                self.unescaped.push_str(&text[piece..here]);
                unescaped = true;
                piece = here + 1;
                at = here + 2;
            } else if double_quote && next == Some(quote) {
                self.unescaped.push_str(&text[piece..here]);
                unescaped = true;
                piece = here + 1;
                at = here + 2;
            } else {
                break here;
            }
        };
        let after = close + 1;
        let well = bytes.get(after).is_none_or(|&byte| byte == delimiter || byte == b'\n' || byte == b'\r');
        let end = if well {
            after
        } else {
            if memchr::memchr2(b'\n', b'\r', &bytes[record_start..close]).is_some() {
                return None;
            }
            memchr::memchr3(delimiter, b'\n', b'\r', &bytes[after..]).map_or(bytes.len(), |found| after + found)
        };
        if unescaped || !well {
            self.unescaped.push_str(&text[piece..close]);
            self.unescaped.push_str(&text[after..end]);
            self.push(Span::scratch(unescaped_start, self.unescaped.len() - unescaped_start));
        } else {
            self.push(Span::block(piece, close - piece));
        }
        Some((end, well))
    }

    fn runaway(&mut self, bytes: &[u8], start: usize) -> Decoded {
        let (end, next) = line_end(bytes, start, true).unwrap_or((bytes.len(), bytes.len()));
        self.fields.clear();
        self.beyond = 0;
        self.at = next;
        Decoded::Record { start, end, fault: Some(Reason::UnclosedQuote) }
    }
}
