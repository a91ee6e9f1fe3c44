//! Finds where records end, and nothing else: the one sequential pass over an object's bytes.

use super::{Grammar, count_line_ends, line_end};
use crate::encoding::{Encoding, FromUtf16};
use crate::window::{Mark, WINDOW, mask};

/// A place between two records of an object, where reading can begin without what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Offset of the next byte in the decompressed object, before character decoding.
    pub offset: u64,
    /// Physical line of that byte; the first line of the object is 1.
    pub line: u64,
    /// Number of the next data record; the first of the object is 1.
    pub record: u64,
}

/// Bytes of whole records, decoded together by one worker.
#[derive(Debug)]
pub struct Block {
    pub(crate) bytes: Vec<u8>,
    /// Offset of the first byte in the decompressed object, before character decoding.
    pub(crate) offset: u64,
    /// Physical line of the first byte; the first line of the object is 1.
    pub(crate) line: u64,
    /// Number of the first data record in the block; the first of the object is 1.
    pub(crate) record: u64,
    pub(crate) last: LastRecord,
    pub(crate) encoding: Encoding,
}

impl Block {
    /// Offset of the first byte in the decompressed object.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where it begins.
    pub fn position(&self) -> Position {
        Position { offset: self.offset, line: self.line, record: self.record }
    }

    /// The records' bytes; UTF-16 arrives here as UTF-8.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether its last record was given up because more of it than the limit follows: bytes behind the block had a say
    /// in what it holds.
    pub fn looked_ahead(&self) -> bool {
        self.last == LastRecord::OverLimit
    }

    /// Gives the buffer back for [`Cutter::recycle`].
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// How a block's last record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRecord {
    Whole,
    /// The record went over the limit; the block ends with its first line.
    OverLimit,
    /// One physical line over the limit, alone in its block: only its first bytes were kept. A comment over the limit is
    /// alone as well, and whole: it is cut to its first character.
    Truncated,
}

/// Where the scan of the current record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// At the first byte of a record.
    Start,
    Unquoted,
    Quoted,
    /// In a comment, or in the rest of a record that was given up: up to the line's end.
    Line,
    /// In a line over the limit whose rest is dropped.
    Drop,
}

/// Ends blocks on record boundaries. Bytes may arrive in any pieces; the blocks' records are always the same.
#[derive(Debug)]
pub struct Cutter {
    grammar: Grammar,
    encoding: Encoding,
    utf16: Option<FromUtf16>,
    limit: usize,
    /// Bytes after which a block is ended at the next record's end.
    block: usize,
    /// Bytes not yet handed out. `[..start]` is consumed.
    buffer: Vec<u8>,
    start: usize,
    /// First byte of the record being scanned.
    record_start: usize,
    /// Next byte to look at.
    at: usize,
    mode: Mode,
    /// Everything before the first byte is known: the byte order mark was looked for.
    begun: bool,
    /// The first line is none of the file's: a hint for spreadsheets.
    skips_line: bool,
    finished: bool,
    header_pending: bool,
    offset: u64,
    line: u64,
    record: u64,
    /// Data records since `start`.
    records: u64,
    /// Records and skipped lines since `start`.
    lines: u64,
    /// Bytes cut away from a line over the limit.
    dropped: u64,
    spare: Vec<Vec<u8>>,
    /// Records to go through one by one before [`Self::leap`] is tried again.
    no_leap: u32,
}

/// Large enough to amortise the hand-over to a worker, small enough to stay in a core's cache.
const BLOCK: usize = 64 * 1024;
/// Records and skipped lines after which a block is ended too: a row takes more memory than a record of a few bytes.
const BLOCK_LINES: u64 = 8 * 1024;
/// Records gone through one by one where a leap was in vain: a file is written the same way all over.
const NO_LEAP: u32 = if cfg!(test) { 1 } else { 16 };

/// What [`Cutter::leap`] finds in a window: one bit for each byte.
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// Line feeds that end a record or blank line.
    ends: u64,
    /// Carriage returns, each in front of a line feed.
    returns: u64,
    /// All ones when the byte behind the window stands in quotes.
    quoted: u64,
}

enum Step {
    /// A record or skipped line ended; `at` is the start of the next.
    Ended,
    /// The block has to end here, with the current record.
    EndBlock(LastRecord),
    NeedMore,
}

impl Cutter {
    /// `limit` is the largest record in bytes. With `header`, the first block ends with the first record.
    pub fn new(grammar: Grammar, encoding: Encoding, limit: usize, header: bool) -> Self {
        Self {
            grammar,
            encoding,
            utf16: encoding.is_utf16().then(|| FromUtf16::new(encoding)),
            limit,
            block: BLOCK,
            buffer: Vec::new(),
            start: 0,
            record_start: 0,
            at: 0,
            mode: Mode::Start,
            begun: false,
            skips_line: false,
            finished: false,
            header_pending: header,
            offset: 0,
            line: 1,
            record: 1,
            records: 0,
            lines: 0,
            dropped: 0,
            spare: Vec::new(),
            no_leap: 0,
        }
    }

    /// Begins between two records of an object. `encoding` is the one its beginning was found to have.
    pub(crate) fn at(grammar: Grammar, encoding: Encoding, limit: usize, position: Position) -> Self {
        let Position { offset, line, record } = position;
        Self { begun: true, offset, line, record, ..Self::new(grammar, encoding, limit, false) }
    }

    /// Where the next block begins.
    pub fn position(&self) -> Position {
        Position { offset: self.offset, line: self.line, record: self.record }
    }

    /// Leaves out the first line, whatever it holds. Positions count it.
    pub fn without_first_line(mut self) -> Self {
        self.skips_line = true;
        self
    }

    /// Ends blocks after fewer bytes, so that tests see many of them.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn with_block(mut self, block: usize) -> Self {
        self.block = block;
        self
    }

    /// Never passes over many records at once.
    #[cfg(test)]
    pub(crate) fn step_by_step(mut self) -> Self {
        self.no_leap = u32::MAX;
        self
    }

    /// Appends bytes of the decompressed object.
    pub fn push(&mut self, chunk: &[u8]) {
        debug_assert!(!self.finished, "push after finish");
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.record_start -= self.start;
            self.at -= self.start;
            self.start = 0;
        }
        match &mut self.utf16 {
            Some(utf16) => utf16.push(chunk, &mut self.buffer),
            None => self.buffer.extend_from_slice(chunk),
        }
        self.begin(false);
    }

    /// No more bytes follow.
    pub fn finish(&mut self) {
        if let Some(utf16) = &mut self.utf16 {
            utf16.finish(&mut self.buffer);
        }
        self.finished = true;
        self.begin(true);
    }

    /// Gives a block's buffer back.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        // A record may be 16 MiB; such a buffer is let go rather than kept.
        if buffer.capacity() <= 2 * BLOCK && self.spare.len() < 16 {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Physical lines ended so far plus one: where a fault of the whole object is shown.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Strips the byte order mark, and the first line where it is to be, once enough bytes are in to know. In UTF-16 the
    /// mark has become U+FEFF in UTF-8.
    fn begin(&mut self, complete: bool) {
        const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
        if self.begun || (self.buffer.len() < MARK.len() && !complete && MARK.starts_with(&self.buffer)) {
            return;
        }
        let mut start = if self.buffer.starts_with(&MARK) { MARK.len() } else { 0 };
        if self.skips_line {
            start = match line_end(&self.buffer, start, complete) {
                Some((_, next)) => next,
                None if complete => self.buffer.len(),
                None => return,
            };
        }
        self.begun = true;
        self.start = start;
        self.record_start = start;
        self.at = start;
        self.offset = self.encoding.raw_len(&self.buffer[..start]);
        self.line += count_line_ends(&self.buffer[..start]);
    }

    /// The next block that is complete, if the bytes pushed so far hold one.
    #[expect(clippy::should_implement_trait, reason = "an iterator that ends is done; this one goes on after a push")]
    pub fn next(&mut self) -> Option<Block> {
        if !self.begun {
            return None;
        }
        loop {
            if self.mode == Mode::Start {
                self.leap();
            }
            let counted = self.records;
            match self.step() {
                Step::Ended => {
                    let header = self.header_pending && self.records > counted;
                    self.lines += 1;
                    if header || self.at - self.start >= self.block || self.lines >= BLOCK_LINES {
                        return Some(self.emit(LastRecord::Whole));
                    }
                }
                Step::EndBlock(last) => return Some(self.emit(last)),
                Step::NeedMore if self.finished && self.at > self.start => return Some(self.emit(LastRecord::Whole)),
                Step::NeedMore => return None,
            }
        }
    }

    /// Passes over whole records and blank lines, as far as each is what [`Self::step`] would find without a second look:
    /// its quotes all where RFC 4180 has them, its line ends LF or CRLF. What is not so, and the record that ends the
    /// block, is left to `step`, from its first byte on.
    fn leap(&mut self) {
        if self.no_leap > 0 {
            self.no_leap = if self.no_leap == u32::MAX { u32::MAX } else { self.no_leap - 1 };
            return;
        }
        // A record that ends before the block is full is then within the limit.
        if self.header_pending || self.grammar.comment.is_some() || self.limit < self.block {
            return;
        }
        let quote = self.grammar.quote.map_or(Mark::RETURN, Mark::of);
        let from = self.at;
        let block_end = self.start.saturating_add(self.block).min(self.buffer.len());
        let (mut at, mut lines, mut records) = (from, self.lines, self.records);
        let (mut window, mut quoted) = (from, 0);
        // Whether a line starts with the window's first byte.
        let mut starts_line = 1;
        // Whether the byte in front of it does, and is a CR.
        let mut starts_with_return = 0;
        // One byte more than the window, since some bytes mean something by what follows.
        while window + WINDOW < block_end && lines + (WINDOW as u64) < BLOCK_LINES {
            let Some((bytes, &[next, ..])) = self.buffer[window..].split_first_chunk::<WINDOW>() else { break };
            let mut found = Lines { ends: mask(bytes, [Mark::FEED]), returns: 0, quoted: 0 };
            if mask(bytes, [Mark::RETURN, quote]) | quoted != 0 {
                let before = if window == from { b'\n' } else { self.buffer[window - 1] };
                match lines_of(self.grammar, before, bytes, next, quoted) {
                    Some(closer) => found = closer,
                    None => break,
                }
            }
            let Lines { ends, returns, .. } = found;
            quoted = found.quoted;
            let starts = ends << 1 | starts_line;
            starts_line = ends >> 63;
            // A blank line ends with its first byte, or with the second when the first is a CR.
            let blank = ends & (starts | (starts & returns) << 1 | starts_with_return);
            starts_with_return = (starts & returns) >> 63;
            lines += u64::from(ends.count_ones());
            records += u64::from(ends.count_ones());
            if blank != 0 {
                records -= u64::from(blank.count_ones());
            }
            at = if ends == 0 { at } else { window + WINDOW - ends.leading_zeros() as usize };
            window += WINDOW;
        }
        (self.at, self.lines, self.records) = (at, lines, records);
        if at == from {
            self.no_leap = NO_LEAP;
        }
    }

    /// Advances to the end of the current record or skipped line.
    fn step(&mut self) -> Step {
        loop {
            match self.mode {
                Mode::Start => {
                    let Some(&first) = self.buffer.get(self.at) else { return Step::NeedMore };
                    self.record_start = self.at;
                    if first == b'\n' {
                        self.at += 1;
                        return Step::Ended;
                    }
                    if first == b'\r' {
                        match self.buffer.get(self.at + 1) {
                            Some(b'\n') => self.at += 2,
                            None if !self.finished => return Step::NeedMore,
                            _ => self.at += 1,
                        }
                        return Step::Ended;
                    }
                    self.mode = if self.grammar.comment == Some(first) { Mode::Line } else { Mode::Unquoted };
                }
                Mode::Unquoted => {
                    let rest = &self.buffer[self.at..];
                    let found = match self.grammar.quote {
                        Some(quote) => memchr::memchr3(quote, b'\n', b'\r', rest),
                        None => memchr::memchr2(b'\n', b'\r', rest),
                    };
                    let Some(found) = found else {
                        self.at = self.buffer.len();
                        if self.finished {
                            return self.end_record(self.at, self.at);
                        }
                        if self.at - self.record_start > self.limit {
                            return self.over_limit();
                        }
                        return Step::NeedMore;
                    };
                    let at = self.at + found;
                    match self.buffer[at] {
                        b'\n' => return self.end_record(at, at + 1),
                        b'\r' => match self.buffer.get(at + 1) {
                            Some(b'\n') => return self.end_record(at, at + 2),
                            None if !self.finished => {
                                self.at = at;
                                return Step::NeedMore;
                            }
                            _ => return self.end_record(at, at + 1),
                        },
                        _ if self.grammar.opens_field(&self.buffer, self.record_start, at) => {
                            self.at = at + 1;
                            self.mode = Mode::Quoted;
                        }
                        _ => self.at = at + 1,
                    }
                }
                Mode::Quoted => {
                    if let Some(step) = self.quoted() {
                        return step;
                    }
                }
                Mode::Line => {
                    let Some((content, next)) = line_end(&self.buffer, self.at, self.finished) else {
                        // A CR that may be half of a CRLF is looked at again.
                        let cr = self.buffer.last() == Some(&b'\r');
                        self.at = self.buffer.len() - usize::from(cr && !self.finished);
                        if self.finished {
                            return self.end_line(self.at, self.at);
                        }
                        if self.at - self.record_start > self.limit {
                            return self.over_limit();
                        }
                        return Step::NeedMore;
                    };
                    return self.end_line(content, next);
                }
                Mode::Drop => {
                    let kept = self.record_start + self.kept();
                    match line_end(&self.buffer, self.at, self.finished) {
                        Some((content, next)) => {
                            self.drop_bytes(kept, content);
                            let end = next - (content - kept);
                            self.at = end;
                        }
                        None => {
                            let cr = self.buffer.last() == Some(&b'\r') && !self.finished;
                            let end = self.buffer.len() - usize::from(cr);
                            self.drop_bytes(kept, end);
                            self.at = kept;
                            if !self.finished {
                                return Step::NeedMore;
                            }
                        }
                    }
                    self.mode = Mode::Start;
                    if self.in_comment() {
                        // What is left of it is skipped like any other. The block ends, since offsets behind it jump.
                        return Step::EndBlock(LastRecord::Whole);
                    }
                    self.records += 1;
                    return Step::EndBlock(LastRecord::Truncated);
                }
            }
        }
    }

    /// Whether the record that is being dropped is the header: what follows it is of no use.
    pub(crate) fn drops_header(&self) -> bool {
        self.header_pending && self.mode == Mode::Drop && !self.in_comment()
    }

    fn in_comment(&self) -> bool {
        self.grammar.comment.is_some() && self.buffer.get(self.record_start).copied() == self.grammar.comment
    }

    /// Bytes kept of a line over the limit. Of a comment its first character, which makes it one.
    fn kept(&self) -> usize {
        if self.in_comment() { 1 } else { self.limit }
    }

    fn drop_bytes(&mut self, from: usize, to: usize) {
        self.dropped += self.encoding.raw_len(&self.buffer[from..to]);
        self.buffer.drain(from..to);
    }

    /// Inside a quoted field. `None`: the field was left and the record goes on.
    fn quoted(&mut self) -> Option<Step> {
        let quote = self.grammar.quote?;
        loop {
            let rest = &self.buffer[self.at..];
            let found = match self.grammar.escape {
                Some(escape) => memchr::memchr2(quote, escape, rest),
                None => memchr::memchr(quote, rest),
            };
            let Some(found) = found else {
                self.at = self.buffer.len();
                return if self.at - self.record_start > self.limit {
                    Some(self.over_limit())
                } else if self.finished {
                    Some(self.runaway(LastRecord::Whole))
                } else {
                    Some(Step::NeedMore)
                };
            };
            let at = self.at + found;
            let next = self.buffer.get(at + 1).copied();
            if next.is_none() && !self.finished {
                self.at = at;
                return Some(if at - self.record_start > self.limit { self.over_limit() } else { Step::NeedMore });
            }
            if self.grammar.escape == Some(self.buffer[at]) {
                self.at = (at + 2).min(self.buffer.len());
                continue;
            }
            if self.grammar.double_quote && next == Some(quote) {
                self.at = at + 2;
                continue;
            }
            self.at = at + 1;
            self.mode = Mode::Unquoted;
            let closes_well = next.is_none_or(|byte| byte == self.grammar.delimiter || byte == b'\n' || byte == b'\r');
            if !closes_well && memchr::memchr2(b'\n', b'\r', &self.buffer[self.record_start..at]).is_some() {
                if at - self.record_start > self.limit {
                    return Some(self.over_limit());
                }
                return Some(self.runaway(LastRecord::Whole));
            }
            return None;
        }
    }

    /// The record ended: its content before `content`, the next starts at `next`.
    fn end_record(&mut self, content: usize, next: usize) -> Step {
        if content - self.record_start > self.limit {
            return self.over_limit();
        }
        self.at = next;
        self.mode = Mode::Start;
        self.records += 1;
        Step::Ended
    }

    /// A comment's line ended.
    fn end_line(&mut self, content: usize, next: usize) -> Step {
        if content - self.record_start > self.limit {
            return self.over_limit();
        }
        self.at = next;
        self.mode = Mode::Start;
        Step::Ended
    }

    /// Gives the record up but for its first line.
    fn runaway(&mut self, last: LastRecord) -> Step {
        let Some((content, next)) = line_end(&self.buffer, self.record_start, self.finished) else {
            // The object's last line: nothing follows to resume at.
            self.at = self.buffer.len();
            self.mode = Mode::Start;
            self.records += 1;
            return Step::EndBlock(last);
        };
        debug_assert!(content - self.record_start <= self.limit);
        self.at = next;
        self.mode = Mode::Start;
        self.records += 1;
        Step::EndBlock(last)
    }

    /// The record is longer than the limit: its first line is set aside, whatever its length.
    fn over_limit(&mut self) -> Step {
        let first = line_end(&self.buffer, self.record_start, self.finished);
        if first.is_some_and(|(content, _)| content - self.record_start <= self.limit) {
            return self.runaway(LastRecord::OverLimit);
        }
        if let [rest @ .., b'\r'] = &self.buffer[self.record_start..]
            && rest.len() == self.limit
            && !self.finished
        {
            // A line of exactly the limit, unless no LF follows: the next byte tells.
            return Step::NeedMore;
        }
        // The line is kept alone in its block, so what stands before it goes first.
        self.at = self.record_start + self.kept();
        self.mode = Mode::Drop;
        if self.record_start > self.start {
            return Step::EndBlock(LastRecord::Whole);
        }
        self.step()
    }

    fn emit(&mut self, last: LastRecord) -> Block {
        // A line over the limit waits behind the records before it.
        let end = if self.mode == Mode::Drop { self.record_start } else { self.at };
        let mut bytes = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK + BLOCK / 8));
        bytes.extend_from_slice(&self.buffer[self.start..end]);
        let block =
            Block { offset: self.offset, line: self.line, record: self.record, last, encoding: self.encoding, bytes };
        self.start = end;
        self.record_start = self.record_start.max(end);
        self.offset += self.encoding.raw_len(&block.bytes) + std::mem::take(&mut self.dropped);
        self.line += count_line_ends(&block.bytes);
        if self.header_pending && self.records > 0 {
            self.header_pending = false;
        } else {
            self.record += self.records;
        }
        self.records = 0;
        self.lines = 0;
        block
    }
}

/// A closer look at a window with quotes or carriage returns, between the bytes `before` and `next`. `None` when it holds
/// what only [`Cutter::step`] can judge. `quoted`: all ones when its first byte stands in quotes.
fn lines_of(grammar: Grammar, before: u8, window: &[u8; WINDOW], next: u8, quoted: u64) -> Option<Lines> {
    // The bits in front of those that are set, and those behind; what stands outside of the window counts as well.
    let in_front_of = |bits: u64, last: bool| bits >> 1 | u64::from(last) << 63;
    let behind = |bits: u64, first: bool| bits << 1 | u64::from(first);
    let feeds = mask(window, [Mark::FEED]);
    let returns = mask(window, [Mark::RETURN]);
    if returns & !in_front_of(feeds, next == b'\n') != 0 {
        return None;
    }
    let quotes = grammar.quote.map_or(0, |quote| mask(window, [Mark::of(quote)]));
    if quotes == 0 {
        return Some(Lines { ends: feeds & !quoted, returns, quoted });
    }
    if !grammar.double_quote || grammar.escape.is_some() {
        return None;
    }
    // Inside are the bytes with an odd number of quotes up to them.
    let inside = [1, 2, 4, 8, 16, 32].iter().fold(quotes, |odd, shift| odd ^ odd << shift) ^ quoted;
    // A doubled quote closes and opens again.
    let is_border = |byte: u8| byte == grammar.delimiter || byte == b'\n' || Some(byte) == grammar.quote;
    let borders = mask(window, [Mark::of(grammar.delimiter)]) | feeds | quotes;
    let may_open = behind(borders, is_border(before));
    let may_close = in_front_of(borders | returns, is_border(next) || next == b'\r');
    if quotes & inside & !may_open != 0 || quotes & !inside & !may_close != 0 {
        return None;
    }
    Some(Lines { ends: feeds & !inside, returns, quoted: if inside >> 63 == 1 { u64::MAX } else { 0 } })
}
