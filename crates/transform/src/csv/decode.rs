//! Finds the fields of the records in a block's text.

use super::{Grammar, line_end};
use crate::reject::Reason;
use crate::span::{Side, Span};
use crate::window::{Mark, WINDOW, mask};

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

/// Where unquoted fields end, found 64 bytes at a time. Fields are short, so a search for each would cost more than the
/// bytes it looks at.
#[derive(Debug)]
struct Ends {
    delimiter: Mark,
    quote: Option<Mark>,
    /// Every field's end is looked at on its own: spaces may follow it.
    one_by_one: bool,
    /// First byte of the window.
    window: usize,
    /// One bit for each byte of the window that ends a field: delimiters and line ends.
    fields: u64,
    /// Those of them that something else follows than an unquoted field of the same record.
    stops: u64,
}

const NO_WINDOW: usize = usize::MAX;

impl Ends {
    fn new(grammar: Grammar) -> Self {
        Self {
            delimiter: Mark::of(grammar.delimiter),
            quote: grammar.quote.map(Mark::of),
            one_by_one: grammar.skip_initial_space,
            window: NO_WINDOW,
            fields: 0,
            stops: 0,
        }
    }

    #[inline]
    fn look_at(&mut self, bytes: &[u8], window: usize) {
        self.window = window;
        match bytes.get(window..).and_then(<[u8]>::split_first_chunk) {
            Some((whole, rest)) => self.find(whole, rest.first().copied(), u64::MAX),
            None => self.look_at_last(bytes.get(window..).unwrap_or_default()),
        }
    }

    /// The last window of a block is not whole.
    #[cold]
    fn look_at_last(&mut self, rest: &[u8]) {
        let mut padded = [0; WINDOW];
        padded[..rest.len()].copy_from_slice(rest);
        // A delimiter of NUL would be found in the padding, too.
        let there = (1 << rest.len()) - 1;
        self.find(&padded, None, there);
        // Nothing follows the last byte.
        self.stops |= self.fields & !(there >> 1);
    }

    /// `next` is the byte behind the window, `there` are the bytes that are the block's.
    #[inline]
    fn find(&mut self, window: &[u8; WINDOW], next: Option<u8>, there: u64) {
        let lines = mask(window, [Mark::FEED, Mark::RETURN]) & there;
        let delimiters = mask(window, [self.delimiter]) & there;
        self.fields = delimiters | lines;
        let quotes = self.quote.map_or(0, |quote| mask(window, [quote]));
        let opens_next = next.is_none_or(|next| self.quote.is_some_and(|quote| quote.is(next)));
        self.stops = lines | delimiters & (quotes >> 1 | u64::from(opens_next) << 63);
        if self.one_by_one {
            self.stops = self.fields;
        }
    }
}

/// Splits a block's text into records and fields. Keeps the current record's fields; nothing is allocated per record.
#[derive(Debug)]
pub struct Decoder {
    grammar: Grammar,
    at: usize,
    ends: Ends,
    /// Of the current record: in the block or, where quotes were doubled or characters escaped, in `unescaped`. Those
    /// from `count` on mean nothing.
    fields: Box<[Span]>,
    /// Fields of the current record; `fields` has the first of them.
    count: usize,
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
            ends: Ends::new(grammar),
            fields: vec![Span::block(0, 0); MOST_FIELDS].into(),
            count: 0,
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
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Field `index` of the current record of `text`.
    ///
    /// # Panics
    /// When the record has no such field, or none that was kept, or `text` is not the text it was decoded from.
    #[inline]
    pub fn field<'a>(&'a self, text: &'a str, index: usize) -> &'a str {
        let span = self.spans()[index];
        match span.side() {
            Side::Block => &text[span.range()],
            Side::Scratch => &self.unescaped[span.range()],
        }
    }

    /// Where the fields of the current record stand: in the block, or in [`Self::unescaped`].
    #[inline]
    pub(crate) fn spans(&self) -> &[Span] {
        &self.fields[..self.count.min(MOST_FIELDS)]
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
        self.count = 0;
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
        if let Some(field) = self.fields.get_mut(self.count) {
            *field = span;
        }
        self.count += 1;
    }

    /// Unquoted fields from `start` on, as many as follow each other. Where the last one ended.
    #[inline]
    fn unquoted(&mut self, bytes: &[u8], mut start: usize) -> usize {
        let window = start & !(WINDOW - 1);
        if window != self.ends.window {
            self.ends.look_at(bytes, window);
        }
        let mut there = u64::MAX << (start % WINDOW);
        loop {
            let stops = self.ends.stops & there;
            // Those before the first stop; all where there is none.
            let before_stop = stops.wrapping_sub(1) & !stops;
            start = self.push_all(self.ends.fields & there & before_stop, start);
            if stops != 0 {
                let end = self.ends.window + stops.trailing_zeros() as usize;
                self.push(Span::block(start, end - start));
                return end;
            }
            let window = self.ends.window + WINDOW;
            if window >= bytes.len() {
                self.push(Span::block(start, bytes.len() - start));
                return bytes.len();
            }
            self.ends.look_at(bytes, window);
            there = u64::MAX;
        }
    }

    /// The fields that end where `ends` says, the first of them from `start` on. Where the next one starts.
    ///
    /// Without a check for overflow: all numbers here are places in the block, and this is the innermost loop of all.
    #[inline]
    fn push_all(&mut self, mut ends: u64, mut start: usize) -> usize {
        let (window, mut count) = (self.ends.window, self.count);
        let fields = &mut *self.fields;
        while ends != 0 {
            // A window starts at a multiple of its length.
            let end = window | ends.trailing_zeros() as usize;
            if let Some(field) = fields.get_mut(count) {
                *field = Span::block(start, end.wrapping_sub(start));
            }
            count = count.wrapping_add(1);
            start = end.wrapping_add(1);
            ends &= ends - 1;
        }
        self.count = count;
        start
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
        self.count = 0;
        self.at = next;
        Decoded::Record { start, end, fault: Some(Reason::UnclosedQuote) }
    }
}
