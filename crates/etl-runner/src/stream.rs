//! An object's bytes through the transform, in parallel and in file order. Knows nothing of databases.
//!
//! One blocking thread reads and cuts; each block is decoded and transformed on the blocking pool; batches come out in
//! the order of the file. Every queue is bounded, so a slow database slows the read.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use transform::csv::{Block, Opened, Position};
use transform::{Plan, RowSink, Tally, Worker};

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

/// What became of one block.
#[derive(Debug)]
pub struct Batch<S> {
    /// Where the block begins.
    pub start: Position,
    pub rows: S,
    pub tally: Tally,
    /// The block itself, where it was asked for.
    pub block: Option<Block>,
}

struct Pending<S> {
    offset: u64,
    work: JoinHandle<Batch<S>>,
}

/// A transform in progress.
#[derive(Debug)]
pub struct Batches<R, S> {
    pending: mpsc::Receiver<Pending<S>>,
    buffers: Buffers,
    read: Arc<AtomicU64>,
    reader: JoinHandle<io::Result<R>>,
}

/// Of blocks, to be filled again.
type Buffers = Arc<Mutex<Vec<Vec<u8>>>>;

impl<S> std::fmt::Debug for Pending<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// What happens to a block once it is transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its buffer is used again.
    Recycled,
    /// It comes with its batch.
    Kept,
}

/// Starts to transform; `make_sink` gives each block's sink.
///
/// # Panics
/// Outside a tokio runtime.
pub fn transform<R, S>(
    mut opened: Opened<R>,
    plan: &Plan,
    workers: usize,
    spent: Spent,
    make_sink: impl Fn() -> S + Send + Sync + 'static,
) -> Batches<R, S>
where
    R: Read + Send + 'static,
    S: RowSink + Send + 'static,
{
    // One block in each worker's hands and one waiting; a further one is being cut.
    let (send, pending) = mpsc::channel(workers + 1);
    let buffers = Buffers::default();
    let shared = Arc::new(Shared {
        workers: Mutex::new((0..workers).map(|_| Worker::new(plan)).collect()),
        buffers: Arc::clone(&buffers),
        plan: plan.clone(),
        spent,
        make_sink,
    });
    let read = Arc::new(AtomicU64::new(opened.bytes()));
    let counted = Arc::clone(&read);
    let runtime = tokio::runtime::Handle::current();
    let reader = tokio::task::spawn_blocking(move || {
        while let Some(block) = opened.next_block()? {
            counted.store(opened.bytes(), Ordering::Relaxed);
            let shared_by_worker = Arc::clone(&shared);
            let offset = block.offset();
            let work = runtime.spawn_blocking(move || shared_by_worker.work(block));
            if send.blocking_send(Pending { offset, work }).is_err() {
                // The load stopped; nobody waits for more.
                break;
            }
            for buffer in lock(&shared.buffers).drain(..) {
                opened.recycle(buffer);
            }
        }
        counted.store(opened.bytes(), Ordering::Relaxed);
        Ok(opened.into_source())
    });
    Batches { pending, buffers, read, reader }
}

struct Shared<F> {
    workers: Mutex<Vec<Worker>>,
    buffers: Buffers,
    plan: Plan,
    spent: Spent,
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
        let start = block.position();
        lock(&self.workers).push(worker);
        let block = match self.spent {
            Spent::Kept => Some(block),
            Spent::Recycled => {
                lock(&self.buffers).push(block.into_buffer());
                None
            }
        };
        Batch { start, rows, tally, block }
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

    /// Gives the buffer of a kept block back.
    pub fn recycle(&self, block: Block) {
        lock(&self.buffers).push(block.into_buffer());
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
