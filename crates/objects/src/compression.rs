//! gzip, zstd and bzip2 taken off a stream, told by its content.
//!
//! A file's name says nothing reliable: `.csv` may be gzip and `.gz` may be plain text. Each format may hold several
//! streams one after the other, and all of them are read: stopping after the first would lose records without a word.

use std::fmt;
use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;

use crate::{DecompressError, ObjectReader, ReadSummary, StoreError};

const INPUT_BUFFER: usize = 64 * 1024;
/// Enough for every signature of `refuse_binary`.
const HEAD: usize = 512;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
}

impl Compression {
    /// What the content says; 16 bytes are enough.
    pub fn of_content(head: &[u8]) -> Self {
        let bzip2 = head.len() >= 4 && head.starts_with(b"BZh") && head[3].is_ascii_digit() && head[3] != b'0' && {
            // The digits of pi open a block, those of its square root end the stream; letters alone could be text.
            let magic = &head[4..head.len().min(10)];
            b"\x31\x41\x59\x26\x53\x59".starts_with(magic) || b"\x17\x72\x45\x38\x50\x90".starts_with(magic)
        };
        // A skippable frame may come first: parallel zstd writes one.
        let zstd = head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD])
            || (head.get(1..4) == Some(&[0x2A, 0x4D, 0x18]) && head[0] & 0xF0 == 0x50);
        match () {
            () if head.starts_with(&[0x1F, 0x8B]) => Self::Gzip,
            () if zstd => Self::Zstd,
            () if bzip2 => Self::Bzip2,
            () => Self::Plain,
        }
    }

    /// What the name says; only good for a note when the content says otherwise.
    pub fn of_name(name: &str) -> Self {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("gz" | "gzip" | "bgz") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            Some("bz2" | "bzip2") => Self::Bzip2,
            _ => Self::Plain,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// What a compressed stream may cost. Plain streams are not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Decompressed bytes.
    pub decompressed_bytes: u64,
    /// Decompressed bytes per compressed byte, judged once more than [`Self::ratio_from`] bytes came out.
    pub ratio: u64,
    /// Bytes before the ratio is judged: a small file may be as repetitive as it likes.
    pub ratio_from: u64,
    /// zstd's window, as a power of two: memory the stream asks us to keep.
    pub window_log: u32,
}

impl Default for Limits {
    /// - 1 TiB decompressed.
    /// - 300 times, from 32 MiB on. CSV of the most repetitive kind comes to about 200; zeros come to 1,000 in gzip and
    ///   to far more elsewhere.
    /// - A window of 8 MiB: what every level up to 19 stays within, what RFC 8878 asks of any decoder, and what fits
    ///   beside a reader's buffers in 64 MiB.
    fn default() -> Self {
        Self { decompressed_bytes: 1 << 40, ratio: 300, ratio_from: 32 << 20, window_log: 23 }
    }
}

/// The content of a stream with its compression, if any, taken off.
///
/// Reads to the end mean the whole file: streams that follow each other are joined, gzip's padding of zeros is
/// tolerated, anything else after the end is an error, and so is an end that comes too early.
pub struct Decompressed<R: Read> {
    state: State<R>,
    kind: Compression,
    limits: Limits,
    /// Decompressed bytes so far.
    out: u64,
    head: Vec<u8>,
    head_taken: usize,
}

enum State<R: Read> {
    Plain(Input<R>),
    Gzip(Box<GzDecoder<Input<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
    Bzip2(Box<BzDecoder<Input<R>>>),
    Ended(Input<R>),
    /// Only while one state turns into the next.
    Moving,
}

impl<R: Read> fmt::Debug for Decompressed<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressed").field("kind", &self.kind).field("out", &self.out).finish_non_exhaustive()
    }
}

impl<R: Read> Decompressed<R> {
    /// Reads the first bytes (blocking) and decides by them.
    pub fn new(reader: R, limits: Limits) -> Result<Self, StoreError> {
        let fail = |error| StoreError::from_read(error, "the stream");
        let mut input = Input::new(reader);
        input.fill_at_least(16).map_err(fail)?;
        let kind = Compression::of_content(input.buffered());
        let state = match kind {
            Compression::Plain => State::Plain(input),
            Compression::Gzip => State::Gzip(Box::new(GzDecoder::new(input))),
            Compression::Bzip2 => State::Bzip2(Box::new(BzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(fail)?;
                decoder.window_log_max(limits.window_log).map_err(fail)?;
                State::Zstd(Box::new(decoder))
            }
        };
        let mut stream = Self { state, kind, limits, out: 0, head: Vec::new(), head_taken: 0 };
        let mut head = vec![0; HEAD];
        let mut length = 0;
        while length < HEAD {
            match stream.read_more(&mut head[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        head.truncate(length);
        stream.head = head;
        Ok(stream)
    }

    /// What the content turned out to be.
    pub fn compression(&self) -> Compression {
        self.kind
    }

    /// The first decompressed bytes, at most 512, for [`crate::refuse_binary`]. They are still to be read.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Gives the stream below back; bytes it buffered are gone.
    pub fn into_inner(self) -> R {
        match self.state {
            State::Plain(input) | State::Ended(input) => input.inner,
            State::Gzip(decoder) => decoder.into_inner().inner,
            State::Zstd(decoder) => decoder.finish().inner,
            State::Bzip2(decoder) => decoder.into_inner().inner,
            State::Moving => unreachable!("a read restores the state before it returns"),
        }
    }

    /// Past the head.
    fn read_more(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let result = match &mut self.state {
                State::Plain(input) => return input.read(buffer),
                State::Ended(_) => return Ok(0),
                State::Gzip(decoder) => decoder.read(buffer),
                State::Zstd(decoder) => decoder.read(buffer),
                State::Bzip2(decoder) => decoder.read(buffer),
                State::Moving => unreachable!("a read restores the state before it returns"),
            };
            match result {
                Ok(0) => self.next_stream()?,
                Ok(read) => {
                    self.out += read as u64;
                    return match self.broken_limit() {
                        None => Ok(read),
                        Some(error) => Err(StoreError::from(error).into()),
                    };
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    fn broken_limit(&self) -> Option<DecompressError> {
        let Limits { decompressed_bytes, ratio, ratio_from, .. } = self.limits;
        if self.out > decompressed_bytes {
            return Some(DecompressError::TooLarge { kind: self.kind, limit: decompressed_bytes });
        }
        let too_dense = self.out > ratio_from && self.out / ratio.max(1) > self.input().consumed;
        too_dense.then_some(DecompressError::Ratio { kind: self.kind, limit: ratio })
    }

    /// One stream ended: another one, padding, or the end.
    fn next_stream(&mut self) -> io::Result<()> {
        let mut input = match std::mem::replace(&mut self.state, State::Moving) {
            State::Gzip(decoder) => decoder.into_inner(),
            State::Bzip2(decoder) => decoder.into_inner(),
            // zstd's decoder goes through all frames itself.
            State::Zstd(decoder) => decoder.finish(),
            State::Plain(input) | State::Ended(input) => input,
            State::Moving => unreachable!("a read restores the state before it returns"),
        };
        let follows = input.follows();
        self.state = match (follows, self.kind) {
            (Ok(Some(0x1F)), Compression::Gzip) => State::Gzip(Box::new(GzDecoder::new(input))),
            (Ok(Some(b'B')), Compression::Bzip2) => State::Bzip2(Box::new(BzDecoder::new(input))),
            (Ok(None), _) => State::Ended(input),
            (Ok(Some(0)), Compression::Gzip) => {
                let offset = input.consumed;
                let only_zeros = input.skip_zeros();
                self.state = State::Ended(input);
                return match only_zeros? {
                    true => Ok(()),
                    false => Err(StoreError::from(DecompressError::TrailingGarbage { kind: self.kind, offset }).into()),
                };
            }
            (Ok(Some(_)), _) => {
                let offset = input.consumed;
                self.state = State::Ended(input);
                return Err(StoreError::from(DecompressError::TrailingGarbage { kind: self.kind, offset }).into());
            }
            (Err(error), _) => {
                self.state = State::Ended(input);
                return Err(error);
            }
        };
        Ok(())
    }

    fn input(&self) -> &Input<R> {
        match &self.state {
            State::Plain(input) | State::Ended(input) => input,
            State::Gzip(decoder) => decoder.get_ref(),
            State::Zstd(decoder) => decoder.get_ref(),
            State::Bzip2(decoder) => decoder.get_ref(),
            State::Moving => unreachable!("a read restores the state before it returns"),
        }
    }

    /// A failure of the stream below is passed on; one of the decoder is named.
    fn explain(&self, error: io::Error) -> io::Error {
        if self.input().failed || error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        let kind = self.kind;
        let error = match error.kind() {
            io::ErrorKind::UnexpectedEof => DecompressError::Truncated { kind },
            // zstd tells its errors apart by their text only.
            _ if error.to_string().contains("too much memory") => {
                DecompressError::Window { kind, limit: 1 << self.limits.window_log }
            }
            _ => DecompressError::Corrupt { kind, source: error },
        };
        StoreError::from(error).into()
    }
}

impl Decompressed<ObjectReader> {
    /// Bytes and hash of the object as stored; see [`ObjectReader::finish`].
    pub fn finish(self) -> Result<ReadSummary, StoreError> {
        self.into_inner().finish()
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head_taken < self.head.len() {
            let rest = &self.head[self.head_taken..];
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            self.head_taken += length;
            return Ok(length);
        }
        self.read_more(buffer)
    }
}

/// A buffered stream that counts what the decoder really took, which is what the ratio and offsets are about.
struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    consumed: u64,
    /// The stream below failed: whatever the decoder makes of it, that is the reason.
    failed: bool,
}

impl<R: Read> Input<R> {
    fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; INPUT_BUFFER].into(), start: 0, end: 0, consumed: 0, failed: false }
    }

    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn fill_at_least(&mut self, length: usize) -> io::Result<()> {
        while self.end < length {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next byte, left in place.
    fn follows(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes zeros to the end; false when something else turns up.
    fn skip_zeros(&mut self) -> io::Result<bool> {
        while self.follows()?.is_some() {
            if self.buffered().iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            let length = self.buffered().len();
            self.consume(length);
        }
        Ok(true)
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            let read = self.inner.read(buffer)?;
            self.consumed += read as u64;
            return Ok(read);
        }
        let length = self.buffered().len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.buffered()[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            let result = self.inner.read(&mut self.buffer);
            self.failed = result.is_err();
            (self.start, self.end) = (0, result?);
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.consumed += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(content: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        // With a checksum, as the command-line tool writes it.
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    type Encode = fn(&[u8]) -> Vec<u8>;
    const ALL: [(Compression, Encode); 3] =
        [(Compression::Gzip, gzip), (Compression::Zstd, zstd), (Compression::Bzip2, bzip2)];

    fn read(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        read_limited(bytes, Limits::default())
    }

    fn read_limited(stream: impl Read, limits: Limits) -> Result<Vec<u8>, StoreError> {
        let mut content = Vec::new();
        let mut decompressed = Decompressed::new(stream, limits)?;
        decompressed.read_to_end(&mut content).map_err(|error| StoreError::from_read(error, "test"))?;
        Ok(content)
    }

    fn error(bytes: &[u8]) -> DecompressError {
        match read(bytes) {
            Err(StoreError::Decompress(error)) => error,
            other => panic!("expected a decompression error, got {:?}", other.map(|content| content.len())),
        }
    }

    /// Yields a byte at a time, so that every border falls between two reads.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(1).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn csv(lines: usize) -> Vec<u8> {
        (0..lines).flat_map(|line| format!("{line},name {},{}\n", line * 7919 % 1000, line % 3).into_bytes()).collect()
    }

    #[test]
    fn content_decides_and_the_name_is_only_compared() {
        for (kind, encode) in ALL {
            let bytes = encode(b"id\n1\n");
            let stream = Decompressed::new(bytes.as_slice(), Limits::default()).unwrap();
            assert_eq!(stream.compression(), kind);
            assert_eq!(stream.head(), b"id\n1\n");
        }
        for plain in [&b""[..], b"id\n1\n", b"BZh9,other\n1,2\n", b"(\xB5", b"P*M"] {
            assert_eq!(Compression::of_content(plain), Compression::Plain);
            assert_eq!(read(plain).unwrap(), plain);
        }
        assert_eq!(Compression::of_name("a/b.CSV.GZ"), Compression::Gzip);
        assert_eq!(Compression::of_name("a.gz/b.csv"), Compression::Plain);
    }

    #[test]
    fn all_members_are_read() {
        let (first, second) = (csv(5000), csv(300));
        for (kind, encode) in ALL {
            let joined = [encode(&first), encode(b""), encode(&second)].concat();
            let expected = [first.as_slice(), &second].concat();
            assert!(read(&joined).unwrap() == expected, "{kind}");
            assert!(read_limited(Trickle(&joined), Limits::default()).unwrap() == expected, "{kind}, byte by byte");
        }
        let skippable = [&[0x52, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 9, 9, 9][..], &zstd(&first)].concat();
        assert!(read(&skippable).unwrap() == first);
    }

    #[test]
    fn an_empty_stream_is_empty_content() {
        for (_, encode) in ALL {
            assert_eq!(read(&encode(b"")).unwrap(), b"");
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_an_error() {
        let content = csv(400);
        for (kind, encode) in ALL {
            let whole = encode(&content);
            for length in (10..whole.len()).step_by(7).chain([whole.len() - 1]) {
                assert!(read(&whole[..length]).is_err(), "{kind} cut after {length} bytes of {}", whole.len());
            }
            assert!(matches!(error(&whole[..whole.len() - 1]), DecompressError::Truncated { .. }), "{kind}");
            let second_cut = [whole.as_slice(), &whole[..whole.len() / 2]].concat();
            assert!(matches!(error(&second_cut), DecompressError::Truncated { .. }), "{kind}, second member");
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        let content = csv(400);
        for (kind, encode) in ALL {
            let mut bytes = encode(&content);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            assert!(read(&bytes).is_err(), "{kind}");
        }
        let mut checksum = gzip(&content);
        let at = checksum.len() - 6;
        checksum[at] ^= 1;
        assert!(matches!(error(&checksum), DecompressError::Corrupt { .. }));
    }

    #[test]
    fn zeros_after_gzip_are_padding_and_anything_else_is_an_error() {
        let content = csv(10);
        let padded = [gzip(&content), vec![0; 100_000]].concat();
        assert_eq!(read(&padded).unwrap(), content);
        for (_, encode) in ALL {
            let whole = encode(&content);
            for garbage in [&b"id\n1\n"[..], b"\0\0x", b"\x1F\x8Bnot gzip at all", b"BZh9 hello, world"] {
                let followed = [whole.as_slice(), garbage].concat();
                assert!(read(&followed).is_err(), "{}", garbage.escape_ascii());
            }
        }
        let followed = [gzip(&content), b"id\n".to_vec()].concat();
        let expected = gzip(&content).len() as u64;
        assert!(matches!(error(&followed), DecompressError::TrailingGarbage { offset, .. } if offset == expected));
    }

    #[test]
    fn a_bomb_is_refused_by_the_limit_it_breaks() {
        let zeros = vec![0; 8 << 20];
        let small = Limits { ratio_from: 1 << 20, ..Limits::default() };
        for (kind, encode) in ALL {
            let bomb = encode(&zeros);
            let refused = read_limited(bomb.as_slice(), small).map(|content| content.len()).unwrap_err();
            assert!(matches!(refused, StoreError::Decompress(DecompressError::Ratio { limit: 300, .. })), "{kind}");
            let limits = Limits { decompressed_bytes: 1 << 20, ..Limits::default() };
            let refused = read_limited(bomb.as_slice(), limits).map(|content| content.len()).unwrap_err();
            assert!(matches!(refused, StoreError::Decompress(DecompressError::TooLarge { .. })), "{kind}");
            assert!(refused.to_string().contains("1048576"), "{refused}");
        }
    }

    #[test]
    fn the_default_ratio_refuses_a_gzip_of_zeros_and_passes_dull_csv() {
        let small = gzip(&vec![0; 31 << 20]);
        assert_eq!(read(&small).unwrap().len(), 31 << 20, "a small file may be as repetitive as it likes");
        let bomb = gzip(&vec![0; 40 << 20]);
        let mut stream = Decompressed::new(bomb.as_slice(), Limits::default()).unwrap();
        let error = io::copy(&mut stream, &mut io::sink()).unwrap_err();
        assert!(matches!(StoreError::from_read(error, "test"), StoreError::Decompress(DecompressError::Ratio { .. })));
        let dull: Vec<u8> = (0..20_000_000 / 40)
            .flat_map(|n: u32| format!("2026-01-01,GB,true,,,0.00,{n:08}\n").into_bytes())
            .collect();
        let compressed = gzip(&dull);
        let limits = Limits { ratio_from: 0, ..Limits::default() };
        assert!(read_limited(compressed.as_slice(), limits).unwrap() == dull);
    }

    #[test]
    fn a_zstd_window_beyond_the_limit_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&csv(1000)).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(matches!(error(&bytes), DecompressError::Window { limit: 8_388_608, .. }));
        let generous = Limits { window_log: 27, ..Limits::default() };
        assert!(read_limited(bytes.as_slice(), generous).unwrap() == csv(1000));
    }

    #[test]
    fn a_failure_below_comes_through_as_itself() {
        struct Broken<'a>(&'a [u8]);
        impl Read for Broken<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    return Err(StoreError::ObjectChanged { uri: "s3://b/k".into() }.into());
                }
                self.0.read(buffer)
            }
        }
        for (_, encode) in ALL {
            let whole = encode(&csv(400));
            let error = read_limited(Broken(&whole[..whole.len() / 2]), Limits::default()).unwrap_err();
            assert!(matches!(error, StoreError::ObjectChanged { .. }), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_end_in_content_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), head in 0..5_usize) {
            let magic: &[u8] = [&b""[..], b"\x1F\x8B\x08\0", b"\x28\xB5\x2F\xFD", b"BZh91AY&SY", b"P*M\x18"][head];
            bytes.splice(0..0, magic.iter().copied());
            let _ = read_limited(bytes.as_slice(), Limits { decompressed_bytes: 1 << 20, ..Limits::default() });
        }

        #[test]
        fn what_was_compressed_comes_back(content in proptest::collection::vec(any::<u8>(), 0..5000), which in 0..3_usize) {
            prop_assert_eq!(read(&(ALL[which].1)(&content)).unwrap(), content);
        }
    }
}
