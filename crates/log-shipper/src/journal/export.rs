//! Bytes of the journal's export format (<https://systemd.io/JOURNAL_EXPORT_FORMATS>) → entries. Pure, and incremental: bytes
//! come in pieces of any size.
//!
//! A field is `NAME=value` and a line end, or, if its value is no plain text, `NAME`, a line end, the value's length (64
//! bits, little endian), the value and a line end. An empty line ends an entry. Whatever comes, memory is bounded: a value is
//! kept as far as its bytes have come and the limits allow, never by the length that is promised. Bytes that are none of this
//! are damage: the entry they stand in is given up, and reading goes on behind the next empty line.

use super::{Entry, Mark};

/// journald takes names of at most 64 bytes; a line that is longer and has no `=` is something else.
const MAX_NAME: usize = 256;
/// systemd reads no field that is longer (its `DATA_SIZE_MAX`). A length beyond it is damage, or nothing would be read ever
/// again.
const MAX_LENGTH: u64 = 768 << 20;
/// A cursor has some 130 bytes, a time 16.
const MAX_ADDRESS: usize = 1_024;
/// What a field costs besides its bytes.
const OVERHEAD: usize = 48;

/// What is kept of an entry at most, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of `MESSAGE`.
    pub message: usize,
    /// Of any other field.
    pub field: usize,
    /// Of all fields together, with their names.
    pub entry: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 4 << 20, field: 64 << 10, entry: 8 << 20 }
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum State {
    Name,
    Text,
    /// So many bytes of the length are there.
    Length([u8; 8], usize),
    /// So many bytes of the value are to come.
    Binary(u64),
    /// The line end behind such a value.
    LineEnd,
    /// Damage: to the next empty line. Whether a line begins here.
    Lost(bool),
}

/// Makes entries of bytes.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    state: State,
    name: Vec<u8>,
    value: Vec<u8>,
    /// Bytes that may still come to the value.
    room: usize,
    /// Some did not.
    is_over: bool,
    draft: Draft,
    damaged: u64,
    cut: u64,
}

/// An entry that is not complete.
#[derive(Debug, Default)]
struct Draft {
    /// A field was there, kept or not.
    is_begun: bool,
    cursor: Option<String>,
    realtime_us: Option<u64>,
    fields: Vec<(String, Vec<u8>)>,
    size: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Parser {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Name,
            name: Vec::new(),
            value: Vec::new(),
            room: 0,
            is_over: false,
            draft: Draft::default(),
            damaged: 0,
            cut: 0,
        }
    }

    /// Entries, or bytes between entries, that were given up.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Fields of which not all was kept.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Forgets what is half read; what was counted stays.
    pub fn reset(&mut self) {
        *self = Self { damaged: self.damaged, cut: self.cut, ..Self::new(self.limits) };
    }

    /// Takes bytes up to the end of the next entry, or all; gives how many it took.
    pub fn push(&mut self, bytes: &[u8]) -> (usize, Option<Entry>) {
        let mut at = 0;
        while at < bytes.len() {
            let (taken, is_end) = self.step(&bytes[at..]);
            at += taken;
            if is_end && let Some(entry) = self.finish_entry() {
                return (at, Some(entry));
            }
        }
        (at, None)
    }

    /// Takes some of the bytes; gives how many, and whether an entry ends there.
    fn step(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self.state {
            State::Name => self.name(bytes),
            State::Text => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                self.keep(&bytes[..end.unwrap_or(bytes.len())]);
                if end.is_some() {
                    self.finish_field();
                }
                (end.map_or(bytes.len(), |end| end + 1), false)
            }
            State::Length(mut length, have) => {
                let taken = bytes.len().min(8 - have);
                length[have..have + taken].copy_from_slice(&bytes[..taken]);
                self.state = State::Length(length, have + taken);
                if have + taken == 8 {
                    self.length(length);
                }
                (taken, false)
            }
            State::Binary(left) => {
                let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.keep(&bytes[..taken]);
                let left = left - taken as u64;
                self.state = if left == 0 { State::LineEnd } else { State::Binary(left) };
                (taken, false)
            }
            State::LineEnd if bytes[0] == b'\n' => {
                self.finish_field();
                (1, false)
            }
            State::LineEnd => {
                self.give_up(false);
                (0, false)
            }
            State::Lost(is_line_start) => (self.search(bytes, is_line_start), false),
        }
    }

    /// A field's name, or the empty line that ends an entry.
    fn name(&mut self, bytes: &[u8]) -> (usize, bool) {
        let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        let end = bytes.iter().position(|byte| !is_name(byte));
        let name = &bytes[..end.unwrap_or(bytes.len())];
        if self.name.len() + name.len() > MAX_NAME {
            self.give_up(false);
            return (0, false);
        }
        self.name.extend_from_slice(name);
        let Some(end) = end else { return (name.len(), false) };
        match bytes[end] {
            b'\n' if self.name.is_empty() => return (end + 1, true),
            b'\n' => self.state = State::Length([0; 8], 0),
            b'=' if !self.name.is_empty() => self.begin_value(State::Text),
            _ => {
                self.give_up(false);
                return (end, false);
            }
        }
        (end + 1, false)
    }

    fn length(&mut self, length: [u8; 8]) {
        match u64::from_le_bytes(length) {
            0 => self.begin_value(State::LineEnd),
            bytes @ 1..=MAX_LENGTH => self.begin_value(State::Binary(bytes)),
            // A line of capitals was no name, and the empty line may be among what was no length. No entry fits into eight
            // bytes, so nothing can come of them but further damage.
            _ => {
                self.give_up(true);
                let (_, none) = self.push(&length);
                debug_assert!(none.is_none());
            }
        }
    }

    fn begin_value(&mut self, state: State) {
        let kept = self.limits.entry.saturating_sub(self.draft.size + self.name.len() + OVERHEAD);
        self.room = match self.name.as_slice() {
            b"__CURSOR" | b"__REALTIME_TIMESTAMP" => MAX_ADDRESS,
            name if name.starts_with(b"__") => 0,
            b"MESSAGE" => self.limits.message.min(kept),
            _ => self.limits.field.min(kept),
        };
        self.state = state;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.room);
        self.value.extend_from_slice(&bytes[..kept]);
        self.room -= kept;
        self.is_over |= kept < bytes.len();
    }

    fn finish_field(&mut self) {
        let value = std::mem::take(&mut self.value);
        let is_over = std::mem::take(&mut self.is_over);
        // Letters, digits and `_`: nothing is replaced.
        let name = String::from_utf8_lossy(&self.name).into_owned();
        let size = name.len() + value.len() + OVERHEAD;
        self.name.clear();
        self.state = State::Name;
        self.draft.is_begun = true;
        let text = || std::str::from_utf8(&value).ok().filter(|_| !is_over);
        match name.as_str() {
            "__CURSOR" => self.draft.cursor = text().map(str::to_owned),
            "__REALTIME_TIMESTAMP" => self.draft.realtime_us = text().and_then(|time| time.parse().ok()),
            passed_over if passed_over.starts_with("__") => {}
            _ => {
                self.cut += u64::from(is_over);
                // With nothing of its value and no room for its name it is not kept at all.
                if self.draft.size + size <= self.limits.entry {
                    self.draft.size += size;
                    self.draft.fields.push((name, value));
                } else if !is_over {
                    self.cut += 1;
                }
            }
        }
    }

    fn finish_entry(&mut self) -> Option<Entry> {
        let draft = std::mem::take(&mut self.draft);
        if !draft.is_begun {
            return None;
        }
        let (Some(cursor), Some(realtime_us)) = (draft.cursor, draft.realtime_us) else {
            // Without its place it could not be passed over later.
            self.damaged += 1;
            return None;
        };
        let boot = draft.fields.iter().find(|(name, _)| name == "_BOOT_ID");
        let boot = boot.map(|(_, id)| String::from_utf8_lossy(id).into_owned()).unwrap_or_default();
        Some(Entry::new(Mark { cursor, boot, realtime_us }, draft.fields))
    }

    fn give_up(&mut self, is_line_start: bool) {
        self.damaged += 1;
        self.reset();
        self.state = State::Lost(is_line_start);
    }

    /// Looks for the empty line; gives how many bytes were passed over.
    fn search(&mut self, bytes: &[u8], mut is_line_start: bool) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            let is_line_end = *byte == b'\n';
            if is_line_start && is_line_end {
                self.state = State::Name;
                return at + 1;
            }
            is_line_start = is_line_end;
        }
        self.state = State::Lost(is_line_start);
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Field = (String, Vec<u8>);

    fn text(name: &str, value: &str) -> Field {
        (name.to_owned(), value.as_bytes().to_vec())
    }

    /// As journalctl writes it: what has no line end as text, the rest with its length.
    fn write(fields: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            out.extend_from_slice(name.as_bytes());
            if value.iter().all(|byte| (32..127).contains(byte)) {
                out.push(b'=');
            } else {
                out.push(b'\n');
                out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            }
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        out.push(b'\n');
        out
    }

    fn whole(number: u64, fields: &[Field]) -> Vec<Field> {
        let mut all = vec![
            text("__CURSOR", &format!("s=a;i={number}")),
            text("__REALTIME_TIMESTAMP", &number.to_string()),
            text("__MONOTONIC_TIMESTAMP", "77"),
        ];
        all.extend_from_slice(fields);
        all
    }

    fn read(parser: &mut Parser, bytes: &[u8], piece: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut at = 0;
            while at < piece.len() {
                let (taken, entry) = parser.push(&piece[at..]);
                at += taken;
                entries.extend(entry);
            }
        }
        entries
    }

    fn marks(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.mark.realtime_us).collect()
    }

    #[test]
    fn fields_that_are_text_and_fields_that_are_not_are_read() {
        let fields =
            [text("_BOOT_ID", "b"), text("MESSAGE", "two\nlines"), text("A", ""), text("A", "x=y"), text("B", "\n")];
        let entries = read(&mut Parser::default(), &write(&whole(5, &fields)), 1_000);
        assert_eq!(entries[0].mark, Mark { cursor: "s=a;i=5".into(), boot: "b".into(), realtime_us: 5 });
        assert_eq!(entries[0].fields, fields);
    }

    #[test]
    fn an_entry_without_a_place_is_damage_and_the_next_is_not() {
        let mut bytes = write(&[text("MESSAGE", "a")]);
        bytes.extend(write(&[text("__CURSOR", "c"), text("__REALTIME_TIMESTAMP", "soon")]));
        bytes.extend_from_slice(b"\n\n");
        bytes.extend(write(&whole(1, &[])));
        let mut parser = Parser::default();
        assert_eq!(marks(&read(&mut parser, &bytes, 3)), [1]);
        assert_eq!((parser.damaged(), parser.cut()), (2, 0));
    }

    #[test]
    fn a_length_that_is_a_lie_takes_no_memory_and_costs_one_entry() {
        for length in [u64::MAX, MAX_LENGTH + 1, u64::from_le_bytes(*b"ABCD=\nXY")] {
            let mut bytes =
                [b"__CURSOR=c\nMESSAGE\n".as_slice(), &length.to_le_bytes(), b"rest\nMESSAGE=a\n\n"].concat();
            bytes.extend(write(&whole(1, &[])));
            for piece in [1, 7, 1_000] {
                let mut parser = Parser::default();
                assert_eq!(marks(&read(&mut parser, &bytes, piece)), [1], "{length:x}");
                assert_eq!((parser.damaged(), parser.value.capacity()), (1, 0));
            }
        }
        // One that could be true is waited for, and no more is kept than is allowed.
        let mut parser = Parser::new(Limits { message: 10, field: 10, entry: 1_000 });
        let promised = [b"MESSAGE\n".as_slice(), &MAX_LENGTH.to_le_bytes(), &[b'x'; 100_000]].concat();
        read(&mut parser, &promised, 4_096);
        assert!(matches!(parser.state, State::Binary(_)) && parser.value.capacity() < 100);
    }

    #[test]
    fn a_value_is_cut_where_its_limit_is_and_that_is_counted() {
        let mut parser = Parser::new(Limits { message: 8, field: 4, entry: 200 });
        let fields =
            [text("MESSAGE", "0123456789"), text("A", "01234"), text("A", "0123"), text("B", &"b\n".repeat(50))];
        let entries = read(&mut parser, &write(&whole(1, &fields)), 5);
        let kept = [text("MESSAGE", "01234567"), text("A", "0123"), text("A", "0123")];
        assert_eq!((entries[0].fields.as_slice(), parser.cut()), (kept.as_slice(), 3), "there is no room for B");
    }

    #[test]
    fn many_empty_fields_do_not_fill_the_memory() {
        let mut parser = Parser::default();
        let bytes = write(&whole(1, &vec![text("A", ""); 400_000]));
        let entries = read(&mut parser, &bytes, 65_536);
        assert_eq!(entries[0].fields.len() as u64 + parser.cut(), 400_000);
        assert!(entries[0].fields.len() * OVERHEAD <= Limits::default().entry);
    }

    fn fields() -> impl Strategy<Value = Vec<Field>> {
        let value = prop_oneof!["[ -~]{0,12}".prop_map(String::into_bytes), vec(any::<u8>(), 0..12)];
        vec(("(MESSAGE|_BOOT_ID|__SEQNUM|[A-Z_][A-Z0-9_]{0,5})", value), 0..6)
    }

    proptest! {
        /// However the bytes are cut, the entries are those that were written.
        #[test]
        fn what_is_written_is_read(entries in vec(fields(), 0..5), piece in 1_usize..40) {
            let bytes: Vec<u8> = (0..).zip(&entries).flat_map(|(number, fields)| write(&whole(number, fields))).collect();
            let mut parser = Parser::default();
            let found = read(&mut parser, &bytes, piece);
            prop_assert_eq!(marks(&found), (0..entries.len() as u64).collect::<Vec<_>>());
            for (found, mut wanted) in found.into_iter().zip(entries) {
                wanted.retain(|(name, _)| !name.starts_with("__"));
                prop_assert_eq!(found.fields, wanted);
            }
            prop_assert_eq!((parser.damaged(), parser.cut()), (0, 0));
        }

        /// Whatever comes, it is read the same in pieces and at once, and memory stays within the limits.
        #[test]
        fn any_bytes_are_read_alike_in_pieces_and_at_once(
            parts in vec(prop_oneof![
                Just(b"\n".to_vec()), Just(b"MESSAGE".to_vec()), Just(b"=".to_vec()), Just(b"\0\0\0\0\0\0\0".to_vec()),
                Just(write(&whole(3, &[]))), Just(b"__CURSOR=".to_vec()), vec(any::<u8>(), 0..10),
            ], 0..40),
            piece in 1_usize..9,
        ) {
            let bytes = parts.concat();
            let limits = Limits { message: 20, field: 10, entry: 200 };
            let (mut pieces, mut at_once) = (Parser::new(limits), Parser::new(limits));
            let (left, right) = (read(&mut pieces, &bytes, piece), read(&mut at_once, &bytes, usize::MAX));
            prop_assert_eq!(&left, &right);
            prop_assert_eq!((pieces.damaged(), pieces.cut()), (at_once.damaged(), at_once.cut()));
            for entry in left {
                prop_assert!(entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= 200);
            }
        }

        /// Lines of anything but the format cost no more than what stands before the next empty line.
        #[test]
        fn damage_ends_with_the_next_empty_line(lines in vec("[ -~]{1,20}", 1..6), piece in 1_usize..40) {
            prop_assume!(lines.iter().any(|line| !line.contains('=')));
            let mut bytes = write(&whole(1, &[]));
            bytes.extend_from_slice(lines.join("\n").as_bytes());
            bytes.extend_from_slice(b"\n\n");
            bytes.extend(write(&whole(2, &[])));
            let mut parser = Parser::default();
            prop_assert_eq!(marks(&read(&mut parser, &bytes, piece)), [1, 2]);
            prop_assert_eq!(parser.damaged(), 1);
        }
    }
}
