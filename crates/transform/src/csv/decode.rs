//! Finds the fields of the records in a block's text.

use wide::u8x16;

use super::{Grammar, line_end};
use crate::reject::Reason;

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

/// Where a field's text stands.
#[derive(Clone, Copy, Debug)]
struct FieldSpan {
    start: u32,
    end: u32,
    /// In the decoder's own buffer, because it held doubled quotes or escapes.
    unescaped: bool,
}

/// One field of the current record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldText<'a> {
    pub text: &'a str,
    /// Offset in the block when the text stands there unchanged.
    pub offset: Option<usize>,
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

    /// The first end at or after `from`, else the end of `bytes`.
    #[inline]
    fn next(&mut self, bytes: &[u8], from: usize) -> usize {
        let window = from & !(WINDOW - 1);
        if window != self.window {
            self.look_at(bytes, window);
        }
        let mut mask = self.mask & (u64::MAX << (from % WINDOW));
        while mask == 0 {
            let window = self.window + WINDOW;
            if window >= bytes.len() {
                return bytes.len();
            }
            self.look_at(bytes, window);
            mask = self.mask;
        }
        // A delimiter of NUL would also be found in the padding.
        (self.window + mask.trailing_zeros() as usize).min(bytes.len())
    }

    #[inline]
    fn look_at(&mut self, bytes: &[u8], window: usize) {
        self.window = window;
        self.mask = match bytes.get(window..).and_then(|rest| rest.first_chunk()) {
            Some(whole) => self.ends_in(whole),
            None => {
                let mut padded = [0; WINDOW];
                let rest = bytes.get(window..).unwrap_or_default();
                padded[..rest.len()].copy_from_slice(rest);
                self.ends_in(&padded)
            }
        };
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
    fields: Vec<FieldSpan>,
    unescaped: String,
}

impl Decoder {
    pub fn new(grammar: Grammar) -> Self {
        Self { grammar, at: 0, ends: Ends::new(grammar.delimiter), fields: Vec::new(), unescaped: String::new() }
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
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Field `index` of the current record of `text`.
    ///
    /// # Panics
    /// When the record has no such field or `text` is not the text it was decoded from.
    #[inline]
    pub fn field<'a>(&'a self, text: &'a str, index: usize) -> FieldText<'a> {
        let span = self.fields[index];
        let range = span.start as usize..span.end as usize;
        if span.unescaped {
            FieldText { text: &self.unescaped[range], offset: None }
        } else {
            FieldText { text: &text[range.clone()], offset: Some(range.start) }
        }
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
            let field_start = at;
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
                // `at` is at the delimiter, the line end or the end of the block.
            } else {
                at = self.ends.next(bytes, at);
                self.fields.push(FieldSpan { start: field_start as u32, end: at as u32, unescaped: false });
            }
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
            self.fields.push(FieldSpan {
                start: unescaped_start as u32,
                end: self.unescaped.len() as u32,
                unescaped: true,
            });
        } else {
            self.fields.push(FieldSpan { start: piece as u32, end: close as u32, unescaped: false });
        }
        Some((end, well))
    }

    fn runaway(&mut self, bytes: &[u8], start: usize) -> Decoded {
        let (end, next) = line_end(bytes, start, true).unwrap_or((bytes.len(), bytes.len()));
        self.fields.clear();
        self.at = next;
        Decoded::Record { start, end, fault: Some(Reason::UnclosedQuote) }
    }
}
