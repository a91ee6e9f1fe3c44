//! An object's bytes through the transform, in parallel and in file order. Knows nothing of databases.
//!
//! One blocking thread reads and cuts; each block is decoded and transformed on the blocking pool; batches come out in
//! the order of the file. Every queue is bounded, so a slow database slows the read.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use transform::csv::{Block, Cutter, Grammar, HeaderError, read_header, sniff_delimiter};
use transform::{Encoding, Pipeline, Plan, RowSink, Tally, Worker};

/// Bytes of one read from the source.
const CHUNK: usize = 256 * 1024;
/// Bytes looked at for the kind of file and its delimiter.
const SAMPLE: usize = 64 * 1024;

/// Why an object could not be read as CSV.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("it is empty")]
    Empty,
    #[error("it is not a CSV file: {0}")]
    NotCsv(&'static str),
    #[error("it starts with a {found} byte order mark, the pipeline says encoding = {expected:?}")]
    Encoding { found: &'static str, expected: &'static str },
    #[error("it holds blank and comment lines only, no header")]
    NoHeader,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("read it")]
    Read(#[source] io::Error),
}

/// Why a batch did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    #[error("read the object")]
    Read(#[source] io::Error),
    /// A bug of ours; the load fails rather than skip what the worker held.
    #[error("a worker stopped unexpectedly on the block at byte {offset}")]
    Worker { offset: u64, source: JoinError },
    #[error("the reader stopped unexpectedly")]
    Reader(#[source] JoinError),
}

/// An object of which the header was read.
#[derive(Debug)]
pub struct Opened<R> {
    source: R,
    cutter: Cutter,
    ended: bool,
    /// Bytes read from the source.
    read: Arc<AtomicU64>,
    grammar: Grammar,
    header: Option<Vec<String>>,
    sniffed: bool,
}

impl<R> Opened<R> {
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The labels, when the dialect has a header.
    pub fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }

    /// Whether the delimiter was guessed.
    pub fn sniffed(&self) -> bool {
        self.sniffed
    }

    /// Gives the source back unread.
    pub fn into_source(self) -> R {
        self.source
    }
}

/// Reads as far as the header. Blocking.
pub fn open<R: Read>(mut source: R, pipeline: &Pipeline) -> Result<Opened<R>, OpenError> {
    let mut sample = Vec::with_capacity(SAMPLE);
    let mut chunk = vec![0; CHUNK];
    let mut ended = false;
    while sample.len() < SAMPLE && !ended {
        let read = read_some(&mut source, &mut chunk).map_err(OpenError::Read)?;
        sample.extend_from_slice(&chunk[..read]);
        ended = read == 0;
    }
    if sample.is_empty() {
        return Err(OpenError::Empty);
    }
    if let Some(kind) = objects::refuse_binary(&sample) {
        return Err(OpenError::NotCsv(kind));
    }
    let encoding = pipeline.source.encoding;
    if let Some((found, _)) = Encoding::of_bom(&sample)
        && found != encoding
    {
        return Err(OpenError::Encoding { found: found.name(), expected: encoding.name() });
    }

    let (delimiter, sniffed) = match pipeline.dialect.delimiter {
        Some(delimiter) => (delimiter, false),
        None => {
            let text = encoding.decode_sample(&sample);
            (sniff_delimiter(&pipeline.dialect, &text).unwrap_or(b','), true)
        }
    };
    let grammar = Grammar::new(&pipeline.dialect, delimiter);
    let with_header = pipeline.dialect.header;
    let mut cutter = Cutter::new(grammar, encoding, pipeline.limits.record, with_header);
    cutter.push(&sample);
    if ended {
        cutter.finish();
    }
    let read = Arc::new(AtomicU64::new(sample.len() as u64));
    let mut opened = Opened { source, cutter, ended, read, grammar, header: None, sniffed };
    if !with_header {
        return Ok(opened);
    }
    loop {
        while let Some(block) = opened.cutter.next() {
            if let Some(header) = read_header(&block, grammar, pipeline.limits.columns)? {
                opened.header = Some(header);
                return Ok(opened);
            }
        }
        if opened.ended {
            return Err(OpenError::NoHeader);
        }
        opened.fill(&mut chunk).map_err(OpenError::Read)?;
    }
}

impl<R: Read> Opened<R> {
    fn fill(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        match read_some(&mut self.source, chunk)? {
            0 => {
                self.ended = true;
                self.cutter.finish();
            }
            read => {
                self.read.fetch_add(read as u64, Ordering::Relaxed);
                self.cutter.push(&chunk[..read]);
            }
        }
        Ok(())
    }

    /// The next block; `None` at the end of the object. Blocking.
    fn next_block(&mut self, chunk: &mut [u8]) -> io::Result<Option<Block>> {
        loop {
            if let Some(block) = self.cutter.next() {
                return Ok(Some(block));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill(chunk)?;
        }
    }
}

fn read_some(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// What became of one block.
#[derive(Debug)]
pub struct Batch<S> {
    pub rows: S,
    pub tally: Tally,
}

struct Pending<S> {
    offset: u64,
    work: JoinHandle<Batch<S>>,
}

/// A transform in progress.
#[derive(Debug)]
pub struct Batches<R, S> {
    pending: mpsc::Receiver<Pending<S>>,
    read: Arc<AtomicU64>,
    reader: JoinHandle<io::Result<R>>,
}

impl<S> std::fmt::Debug for Pending<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Starts to transform; `make_sink` gives each block's sink.
///
/// # Panics
/// Outside a tokio runtime.
pub fn transform<R, S>(
    mut opened: Opened<R>,
    plan: &Plan,
    workers: usize,
    make_sink: impl Fn() -> S + Send + Sync + 'static,
) -> Batches<R, S>
where
    R: Read + Send + 'static,
    S: RowSink + Send + 'static,
{
    // One block in each worker's hands and one waiting; a further one is being cut.
    let (send, pending) = mpsc::channel(workers + 1);
    let shared = Arc::new(Shared {
        workers: Mutex::new((0..workers).map(|_| Worker::new(plan)).collect()),
        buffers: Mutex::new(Vec::new()),
        plan: plan.clone(),
        make_sink,
    });
    let read = Arc::clone(&opened.read);
    let runtime = tokio::runtime::Handle::current();
    let reader = tokio::task::spawn_blocking(move || {
        let mut chunk = vec![0; CHUNK];
        while let Some(block) = opened.next_block(&mut chunk)? {
            let shared_by_worker = Arc::clone(&shared);
            let offset = block.offset();
            let work = runtime.spawn_blocking(move || shared_by_worker.work(block));
            if send.blocking_send(Pending { offset, work }).is_err() {
                // The load stopped; nobody waits for more.
                break;
            }
            for buffer in lock(&shared.buffers).drain(..) {
                opened.cutter.recycle(buffer);
            }
        }
        Ok(opened.source)
    });
    Batches { pending, read, reader }
}

struct Shared<F> {
    workers: Mutex<Vec<Worker>>,
    buffers: Mutex<Vec<Vec<u8>>>,
    plan: Plan,
    make_sink: F,
}

impl<F> Shared<F> {
    fn work<S: RowSink>(&self, block: Block) -> Batch<S>
    where
        F: Fn() -> S,
    {
        let idle = lock(&self.workers).pop();
        let mut worker = idle.unwrap_or_else(|| Worker::new(&self.plan));
        let mut rows = (self.make_sink)();
        let tally = worker.apply(&block, &mut rows);
        lock(&self.workers).push(worker);
        lock(&self.buffers).push(block.into_buffer());
        Batch { rows, tally }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is guarded is a list of spare parts; a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R, S> Batches<R, S> {
    /// The next block's batch, in file order; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Batch<S>>, StreamError> {
        match self.pending.recv().await {
            None => Ok(None),
            Some(Pending { offset, work }) => {
                work.await.map(Some).map_err(|source| StreamError::Worker { offset, source })
            }
        }
    }

    /// Bytes read so far, after decompression.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// After the last batch: the source, read to its end.
    pub async fn finish(self) -> Result<R, StreamError> {
        drop(self.pending);
        self.reader.await.map_err(StreamError::Reader)?.map_err(StreamError::Read)
    }
}
