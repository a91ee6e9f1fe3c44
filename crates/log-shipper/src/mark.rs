//! A position in a file, and the bytes that tell whether it is still a position of the same file: a hash of the first ones,
//! and the last ones before it. An inode that is used again has other bytes; a file that was emptied and written anew has, too.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::batch::Position;

/// Bytes from the beginning of a file that are part of its identity.
const HEAD: usize = 1_024;
/// Bytes before a position that are compared.
pub const BEFORE: usize = 64;

/// A position with what it is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub position: Position,
    /// Hash of the first bytes, up to the position.
    head: u64,
    /// The last bytes before the position, right-aligned.
    before: [u8; BEFORE],
}

/// What is kept of a mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// Hash of the first bytes, up to the position.
    pub head: u64,
    /// Hash of the bytes before the position.
    pub before: u64,
}

/// FNV-1a of 64 bits (RFC 9923). It need not stand against anybody: who can write the file can write what he likes.
const BASIS: u64 = 0xCBF2_9CE4_8422_2325;

fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

impl Default for Mark {
    /// The beginning of a file.
    fn default() -> Self {
        Self { position: Position::default(), head: BASIS, before: [0; BEFORE] }
    }
}

impl Mark {
    /// The mark of a file at an offset; `None` when the file is shorter.
    pub fn of(file: &File, offset: u64) -> io::Result<Option<Self>> {
        let mut mark = Self { position: Position { offset, parts: 0 }, ..Self::default() };
        let length = usize::try_from(offset).map_or(HEAD, |offset| offset.min(HEAD));
        let mut first = [0; HEAD];
        let kept = mark.kept();
        let read = file
            .read_exact_at(&mut first[..length], 0)
            .and_then(|()| file.read_exact_at(&mut mark.before[BEFORE - kept..], offset - kept as u64));
        match read {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        mark.head = hash(BASIS, &first[..length]);
        Ok(Some(mark))
    }

    fn kept(&self) -> usize {
        usize::try_from(self.position.offset).map_or(BEFORE, |offset| offset.min(BEFORE))
    }

    /// The last bytes before the position.
    pub fn before(&self) -> &[u8] {
        &self.before[BEFORE - self.kept()..]
    }

    /// Moves over bytes that were read behind the position; `parts` of a line go on behind them.
    pub fn advance(&mut self, bytes: &[u8], parts: u32) {
        let offset = usize::try_from(self.position.offset).unwrap_or(HEAD);
        let first = HEAD.saturating_sub(offset).min(bytes.len());
        self.head = hash(self.head, &bytes[..first]);
        let new = bytes.len().min(BEFORE);
        self.before.copy_within(new.., 0);
        self.before[BEFORE - new..].copy_from_slice(&bytes[bytes.len() - new..]);
        self.position = Position { offset: self.position.offset + bytes.len() as u64, parts };
    }

    /// Whether a file has these last bytes where they were.
    pub fn is_in(&self, file: &File) -> io::Result<bool> {
        let mut bytes = [0; BEFORE];
        let kept = self.kept();
        match file.read_exact_at(&mut bytes[..kept], self.position.offset - kept as u64) {
            Ok(()) => Ok(bytes[..kept] == *self.before()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn print(&self) -> Print {
        Print { head: self.head, before: hash(BASIS, self.before()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A mark that is moved piece by piece is the one the file itself gives.
        #[test]
        fn a_mark_does_not_depend_on_how_a_file_was_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..3_000),
            steps in proptest::collection::vec(1_usize..900, 1..20),
        ) {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let (mut mark, mut at) = (Mark::default(), 0);
            for step in steps.iter().cycle() {
                prop_assert_eq!(Mark::of(&file, at as u64).unwrap(), Some(mark));
                if at == bytes.len() {
                    break;
                }
                let end = bytes.len().min(at + step);
                mark.advance(&bytes[at..end], 0);
                at = end;
            }
            prop_assert_eq!(Mark::of(&file, bytes.len() as u64 + 1).unwrap(), None);
        }

        #[test]
        fn another_byte_before_a_position_is_noticed(
            bytes in proptest::collection::vec(any::<u8>(), 1..200),
            at in any::<prop::sample::Index>(),
        ) {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let mark = Mark::of(&file, bytes.len() as u64).unwrap().unwrap();
            let at = at.index(bytes.len());
            file.write_all_at(&[!bytes[at]], at as u64).unwrap();
            let other = Mark::of(&file, bytes.len() as u64).unwrap().unwrap();
            prop_assert_ne!(mark.print(), other.print());
        }
    }
}
