//! Bytes of a file → events: one line each, or several where lines are joined. Pure, and without memory: whatever was not
//! taken is to be shown again, with more behind it, so the position of an event's end is all that has to be remembered.

use regex::bytes::Regex;

use crate::batch::MAX_MESSAGE;

/// Room for what says in each part of a long line which part it is.
pub const MARK: usize = 32;
/// Lines of one event at most.
const MAX_LINES: usize = 10_000;

/// Which lines belong together.
#[derive(Clone, Debug, Default)]
pub enum Joining {
    /// Each line is an event.
    #[default]
    Never,
    /// A line that matches begins an event; others go on with the one before.
    Start(Regex),
    /// A line that matches goes on with the one before; others begin an event.
    Continue(Regex),
}

impl Joining {
    fn begins(&self, line: &[u8]) -> bool {
        match self {
            Self::Never => true,
            Self::Start(pattern) => pattern.is_match(line),
            Self::Continue(pattern) => !pattern.is_match(line),
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Without the last line end. Empty for a blank line.
    pub bytes: &'a [u8],
    /// Where it ends in what was shown, its line end included.
    pub end: usize,
    /// Of a line that is too long for one event: which part this is, from 1.
    pub part: Option<u32>,
    /// A part that is not the last.
    pub goes_on: bool,
}

/// Takes events off what was read of a file.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    joining: &'a Joining,
    /// Parts of the line at `at` that are taken already.
    parts: u32,
    /// Nothing comes behind these bytes: the rest is an event, too.
    is_whole: bool,
}

impl<'a> Lines<'a> {
    /// `parts`: the parts of the first line that were taken before.
    pub fn new(bytes: &'a [u8], parts: u32, joining: &'a Joining, is_whole: bool) -> Self {
        Self { bytes, at: 0, joining, parts, is_whole }
    }

    /// The end of the line that begins at `from`, and whether a line end is there.
    fn line(&self, from: usize) -> (usize, bool) {
        match memchr::memchr(b'\n', &self.bytes[from..]) {
            Some(length) => (from + length, true),
            None => (self.bytes.len(), false),
        }
    }

    fn take(&mut self, end: usize, ended: bool) -> Found<'a> {
        let mut bytes = &self.bytes[self.at..end];
        if ended {
            bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        }
        let fits = fitting(bytes, self.parts > 0);
        if fits < bytes.len() {
            self.at += fits;
            self.parts += 1;
            return Found { bytes: &bytes[..fits], end: self.at, part: Some(self.parts), goes_on: true };
        }
        self.at = if ended { end + 1 } else { end };
        let part = (self.parts > 0).then_some(self.parts + 1);
        self.parts = 0;
        Found { bytes, end: self.at, part, goes_on: false }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if self.at == self.bytes.len() {
            return None;
        }
        let (mut end, mut ended) = self.line(self.at);
        let is_long = |end: usize| end - self.at > MAX_MESSAGE;
        if !ended && !is_long(end) && !self.is_whole {
            return None;
        }
        if matches!(self.joining, Joining::Never) || is_long(end) {
            return Some(self.take(end, ended));
        }
        // Whether the event ends with this line, the next one says.
        for _ in 1..MAX_LINES {
            if !ended {
                break;
            }
            let next = end + 1;
            if next == self.bytes.len() {
                if self.is_whole {
                    break;
                }
                return None;
            }
            let (next_end, next_ended) = self.line(next);
            if !next_ended && !self.is_whole && next_end - self.at <= MAX_MESSAGE {
                return None;
            }
            let line = &self.bytes[next..next_end];
            if self.joining.begins(line) || next_end - self.at > MAX_MESSAGE {
                break;
            }
            (end, ended) = (next_end, next_ended);
        }
        Some(self.take(end, ended))
    }
}

/// How many of the bytes go into one event, which may be one of several parts: all of them, if they fit.
pub fn fitting(bytes: &[u8], is_part: bool) -> usize {
    let room = if is_part { MAX_MESSAGE - MARK } else { MAX_MESSAGE };
    if bytes.len() <= room / REPLACED || fit(bytes, room) == bytes.len() {
        return bytes.len();
    }
    fit(bytes, MAX_MESSAGE - MARK)
}

/// How many of the bytes, ending with a character, make a text of at most `room` bytes once what is no UTF-8 is replaced.
fn fit(bytes: &[u8], room: usize) -> usize {
    let (mut taken, mut made) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        if made + valid.len() > room {
            return taken + valid.floor_char_boundary(room - made);
        }
        taken += valid.len();
        made += valid.len();
        if !chunk.invalid().is_empty() {
            if made + REPLACED > room {
                return taken;
            }
            taken += chunk.invalid().len();
            made += REPLACED;
        }
    }
    taken
}

/// Bytes of U+FFFD.
const REPLACED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(bytes: &[u8], joining: &Joining, is_whole: bool) -> Vec<String> {
        Lines::new(bytes, 0, joining, is_whole).map(|found| String::from_utf8_lossy(found.bytes).into_owned()).collect()
    }

    #[test]
    fn a_line_is_an_event_once_it_has_its_end() {
        assert_eq!(events(b"one\r\ntwo\n\nthr", &Joining::Never, false), ["one", "two", ""]);
        assert_eq!(events(b"one\nthr", &Joining::Never, true), ["one", "thr"]);
        assert_eq!(events(b"", &Joining::Never, true), [""; 0]);
    }

    #[test]
    fn lines_are_joined_until_the_next_event_begins() {
        let start = Joining::Start(Regex::new(r"^\d").unwrap());
        assert_eq!(events(b"1 a\n b\n c\n2 d\n e\n", &start, false), ["1 a\n b\n c"]);
        assert_eq!(events(b"1 a\n b\n c\n2 d\n e\n", &start, true), ["1 a\n b\n c", "2 d\n e"]);
        assert_eq!(events(b"1 a\n2", &start, false), [""; 0], "a line without an end may become another");
        let goes_on = Joining::Continue(Regex::new(r"^\s").unwrap());
        assert_eq!(events(b"a\n b\nc\n d\ne", &goes_on, false), ["a\n b"]);
        assert_eq!(events(b" a\nb\n", &goes_on, true), [" a", "b"], "nothing comes before the first");
    }

    #[test]
    fn a_line_too_long_for_one_event_is_cut_between_characters_and_numbered() {
        let line = "é".repeat(MAX_MESSAGE) + "\n";
        let parts: Vec<Found<'_>> = Lines::new(line.as_bytes(), 0, &Joining::Never, false).collect();
        assert_eq!(
            parts.iter().map(|part| (part.part, part.goes_on)).collect::<Vec<_>>(),
            [(Some(1), true), (Some(2), true), (Some(3), false)]
        );
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.bytes).copied().collect();
        assert_eq!(whole, line.trim_end().as_bytes());
        assert!(parts.iter().all(|part| std::str::from_utf8(part.bytes).is_ok()));
        assert!(parts.iter().all(|part| part.bytes.len() <= MAX_MESSAGE - MARK));
        // What is not UTF-8 grows.
        let line = vec![0xFF; MAX_MESSAGE];
        let first = Lines::new(&line, 0, &Joining::Never, true).next().unwrap();
        assert!(first.goes_on && first.bytes.len() == (MAX_MESSAGE - MARK) / REPLACED);
    }

    proptest! {
        /// However a file is shown, bit by bit or at once, the same events come of it, and nothing is left out.
        #[test]
        fn events_do_not_depend_on_how_a_file_is_read(
            lines in proptest::collection::vec("( |\t)?[a-z]{0,6}\r?", 0..20),
            steps in proptest::collection::vec(1_usize..9, 1..60),
            join in 0_u8..3,
        ) {
            let bytes = lines.join("\n").into_bytes();
            let joining = match join {
                0 => Joining::Never,
                1 => Joining::Start(Regex::new(r"^[a-m]").unwrap()),
                _ => Joining::Continue(Regex::new(r"^\s").unwrap()),
            };
            let at_once = events(&bytes, &joining, true);
            let (mut shown, mut at, mut found) = (0, 0, Vec::new());
            for step in steps.iter().cycle().take(200) {
                shown = bytes.len().min(shown + step);
                let mut end = 0;
                for event in Lines::new(&bytes[at..shown], 0, &joining, shown == bytes.len()) {
                    found.push(String::from_utf8_lossy(event.bytes).into_owned());
                    end = event.end;
                }
                at += end;
            }
            prop_assert_eq!(at, bytes.len());
            prop_assert_eq!(found, at_once);
        }
    }
}
