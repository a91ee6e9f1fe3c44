//! A stream read on a thread of its own, a little ahead of whoever reads from it.

use std::fmt;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::{Decompressed, ObjectReader, ReadSummary, StoreError};

const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait to be read; one more is being filled and one being read, which comes to 1 MiB.
const WAITING: usize = 2;

/// A `Read` whose bytes are made by another thread, so that decompression and hashing go on beside the work on what
/// they gave. The same bytes and errors come out, in the same order; after an error nothing follows.
///
/// Dropped half-way, it does not wait: the thread ends by itself once the read it is in returns, and drops the stream.
pub struct ReadAhead<R> {
    way: Way<R>,
}

enum Way<R> {
    Direct(R),
    Ahead(Ahead<R>),
}

struct Ahead<R> {
    /// `None` once nobody wants more.
    chunks: Option<Receiver<io::Result<Vec<u8>>>>,
    /// Chunks that were read, to be filled again.
    spare: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    taken: usize,
    ended: bool,
    thread: JoinHandle<R>,
}

impl<R: Read + Send + 'static> ReadAhead<R> {
    /// Starts the thread; fails where the system gives none.
    pub fn new(inner: R) -> io::Result<Self> {
        let (full, chunks) = sync_channel(WAITING);
        let (spare, empty) = channel();
        let thread = std::thread::Builder::new().name("read ahead".into()).spawn(move || fill(inner, &full, &empty))?;
        let ahead = Ahead { chunks: Some(chunks), spare, chunk: Vec::new(), taken: 0, ended: false, thread };
        Ok(Self { way: Way::Ahead(ahead) })
    }
}

impl<R: Read> ReadAhead<R> {
    /// Without a thread, for what is too short to be worth one.
    pub fn direct(inner: R) -> Self {
        Self { way: Way::Direct(inner) }
    }

    /// The stream below; it was read further than its bytes came out here. Waits for the read that is under way.
    pub fn into_inner(self) -> Result<R, StoreError> {
        match self.way {
            Way::Direct(inner) => Ok(inner),
            Way::Ahead(mut ahead) => {
                ahead.chunks = None;
                ahead.thread.join().map_err(|_| StoreError::Interrupted { action: "read" })
            }
        }
    }
}

impl ReadAhead<Decompressed<ObjectReader>> {
    /// Bytes and hash of the object as stored; see [`ObjectReader::finish`].
    pub fn finish(self) -> Result<ReadSummary, StoreError> {
        self.into_inner()?.finish()
    }
}

/// Until the end, an error, or nobody wants more.
fn fill<R: Read>(mut inner: R, full: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) -> R {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK_BYTES]);
        chunk.resize(CHUNK_BYTES, 0);
        let mut length = 0;
        let end = loop {
            match inner.read(&mut chunk[length..]) {
                Ok(0) => break Some(None),
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(Some(error)),
            }
            if length == CHUNK_BYTES {
                break None;
            }
        };
        chunk.truncate(length);
        // What came before an error is good.
        if length > 0 && full.send(Ok(chunk)).is_err() {
            return inner;
        }
        match end {
            None => {}
            Some(None) => {
                let _ = full.send(Ok(Vec::new())); // nobody reads any more
                return inner;
            }
            Some(Some(error)) => {
                let _ = full.send(Err(error));
                return inner;
            }
        }
    }
}

impl<R> Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            if self.ended {
                return Ok(0);
            }
            let used = std::mem::take(&mut self.chunk);
            self.taken = 0;
            if !used.is_empty() {
                let _ = self.spare.send(used); // the thread is done
            }
            let next = self.chunks.as_ref().and_then(|chunks| chunks.recv().ok());
            // Gone without a word of an end: it panicked, and the bytes so far are not the whole.
            self.chunk = next.unwrap_or_else(|| Err(StoreError::Interrupted { action: "read" }.into()))?;
            self.ended = self.chunk.is_empty();
        }
        let rest = &self.chunk[self.taken..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        Ok(length)
    }
}

impl<R: Read> Read for ReadAhead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.way {
            Way::Direct(inner) => inner.read(buffer),
            Way::Ahead(_) if buffer.is_empty() => Ok(0),
            Way::Ahead(ahead) => ahead.read(buffer),
        }
    }
}

impl<R> fmt::Debug for ReadAhead<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = matches!(self.way, Way::Ahead(_));
        f.debug_struct("ReadAhead").field("ahead", &ahead).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    /// Gives its bytes in pieces of odd length, then ends or fails.
    struct Pieces {
        bytes: Vec<u8>,
        at: usize,
        fails: bool,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.at == self.bytes.len() && self.fails {
                return Err(StoreError::ObjectChanged { uri: "s3://b/k".into() }.into());
            }
            let length = (self.bytes.len() - self.at).min(buffer.len()).min(70_001);
            buffer[..length].copy_from_slice(&self.bytes[self.at..self.at + length]);
            self.at += length;
            Ok(length)
        }
    }

    fn pieces(length: usize, fails: bool) -> Pieces {
        Pieces { bytes: (0..length).map(|at| (at % 251) as u8).collect(), at: 0, fails }
    }

    #[test]
    fn the_same_bytes_come_out_and_the_stream_comes_back() {
        for length in [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 17] {
            for ahead in [true, false] {
                let source = pieces(length, false);
                let expected = source.bytes.clone();
                let mut reader = if ahead { ReadAhead::new(source).unwrap() } else { ReadAhead::direct(source) };
                let mut read = Vec::new();
                reader.read_to_end(&mut read).unwrap();
                assert!(read == expected, "{length}");
                assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "an end stays an end");
                assert_eq!(reader.into_inner().unwrap().at, length);
            }
        }
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it_and_as_it_was() {
        let mut reader = ReadAhead::new(pieces(2 * CHUNK_BYTES + 5, true)).unwrap();
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        assert_eq!(read.len(), 2 * CHUNK_BYTES + 5);
        assert!(matches!(StoreError::from_read(error, "test"), StoreError::ObjectChanged { .. }));
        assert!(reader.read(&mut [0; 8]).is_err(), "nothing follows an error");
    }

    #[test]
    fn the_stream_comes_back_though_it_was_not_read_to_its_end() {
        let mut reader = ReadAhead::new(pieces(100 * CHUNK_BYTES, false)).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        let inner = reader.into_inner().unwrap();
        assert!(inner.at < 10 * CHUNK_BYTES, "it stops when nobody wants more");
    }

    /// Tells when it is dropped.
    struct Endless(#[expect(dead_code, reason = "its end is what is waited for")] Sender<()>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
    }

    #[test]
    fn dropped_half_way_the_thread_ends() {
        let (alive, ended) = channel();
        let mut reader = ReadAhead::new(Endless(alive)).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        drop(reader);
        assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Err(RecvTimeoutError::Disconnected));
    }

    struct Panics;

    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("on purpose")
        }
    }

    #[test]
    fn a_panic_is_an_error_and_no_end() {
        let mut reader = ReadAhead::new(Panics).unwrap();
        assert!(reader.read(&mut [0; 8]).is_err());
        assert!(matches!(reader.into_inner(), Err(StoreError::Interrupted { .. })));
    }
}
