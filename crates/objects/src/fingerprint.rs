//! What tells bytes from other bytes: the hash of the whole and checksums of its pieces, both from one reading.

use std::io::{self, Read};
use std::ops::Range;

use crate::ContentHash;
use crate::content::Hasher;

/// Parts of an upload begin and end at a piece's border.
pub(crate) const PIECE_BYTES: u64 = 2 << 20;

/// The SHA-256 of bytes, and the CRC-32 of each 2 MiB of them: with it a file need not be hashed again while it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    bytes: u64,
    sha256: ContentHash,
    pieces: Vec<u32>,
}

impl Fingerprint {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn sha256(&self) -> ContentHash {
        self.sha256
    }

    /// The CRC-32 of a range that starts at a piece's border and ends at one, or at the end.
    pub(crate) fn crc32(&self, range: &Range<u64>) -> u32 {
        debug_assert!(range.start.is_multiple_of(PIECE_BYTES) && range.end <= self.bytes);
        let first = usize::try_from(range.start / PIECE_BYTES).unwrap_or(usize::MAX);
        let mut whole = crc32fast::Hasher::new();
        let mut at = range.start;
        for &piece in self.pieces.iter().skip(first) {
            if at >= range.end {
                break;
            }
            let length = PIECE_BYTES.min(self.bytes - at);
            whole.combine(&crc32fast::Hasher::new_with_initial_len(piece, length));
            at += length;
        }
        whole.finalize()
    }
}

/// A fingerprint under way.
#[derive(Clone, Debug)]
pub struct Fingerprinter {
    hasher: Hasher,
    bytes: u64,
    pieces: Vec<u32>,
    piece: crc32fast::Hasher,
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self { hasher: Hasher::new(), bytes: 0, pieces: Vec::new(), piece: crc32fast::Hasher::new() }
    }
}

impl Fingerprinter {
    /// The bytes that follow.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let left = PIECE_BYTES - self.bytes % PIECE_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            self.piece.update(now);
            self.bytes += now.len() as u64;
            if self.bytes.is_multiple_of(PIECE_BYTES) {
                self.end_piece();
            }
            bytes = later;
        }
    }

    /// Of all bytes so far.
    pub fn finish(mut self) -> Fingerprint {
        if !self.bytes.is_multiple_of(PIECE_BYTES) {
            self.end_piece();
        }
        Fingerprint { bytes: self.bytes, sha256: self.hasher.finish(), pieces: self.pieces }
    }

    fn end_piece(&mut self) {
        self.pieces.push(std::mem::take(&mut self.piece).finalize());
    }
}

/// Takes the fingerprint of what is read through it.
#[derive(Debug)]
pub struct Fingerprinting<R> {
    inner: R,
    fingerprinter: Fingerprinter,
}

impl<R> Fingerprinting<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, fingerprinter: Fingerprinter::default() }
    }

    /// Of what was read so far.
    pub fn finish(self) -> Fingerprint {
        self.fingerprinter.finish()
    }
}

impl<R: Read> Read for Fingerprinting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.fingerprinter.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_checksum_of_its_bytes_however_they_came() {
        let bytes: Vec<u8> = (0..5 * PIECE_BYTES + 4321).map(|at| ((at * at) >> 7) as u8).collect();
        for step in [1_000_003, PIECE_BYTES as usize, bytes.len()] {
            let mut fingerprinter = Fingerprinter::default();
            bytes.chunks(step).for_each(|chunk| fingerprinter.update(chunk));
            let print = fingerprinter.finish();
            assert_eq!((print.bytes(), print.sha256()), (bytes.len() as u64, ContentHash::of(&bytes)));
            for (start, end) in [(0, 1), (0, 3), (1, 4), (3, 5)] {
                let range = start * PIECE_BYTES..end * PIECE_BYTES;
                let expected = crc32fast::hash(&bytes[range.start as usize..range.end as usize]);
                assert_eq!(print.crc32(&range), expected, "{range:?}");
            }
            let tail = 4 * PIECE_BYTES..bytes.len() as u64;
            assert_eq!(print.crc32(&tail), crc32fast::hash(&bytes[tail.start as usize..]));
        }
    }

    #[test]
    fn nothing_has_a_fingerprint_too() {
        let print = Fingerprinter::default().finish();
        assert_eq!((print.bytes(), print.sha256(), print.crc32(&(0..0))), (0, ContentHash::of(b""), 0));
    }
}
