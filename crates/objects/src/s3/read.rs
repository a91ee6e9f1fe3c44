//! Reading one pinned version as ranges, a few of them ahead of the reader.
//!
//! Each range has a bounded queue large enough for all its bytes, so a slow reader never holds a connection open: once a
//! range is asked for, it comes in at the network's pace and the connection is free again.
//!
//! The pieces a range waits in come back from the reader and are filled again. Made anew they would be got on one thread
//! and given back on another, and an allocator keeps several times of what we hold.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::{S3Store, bare_etag};
use crate::directory::random;
use crate::reader::Source;
use crate::{Cause, ObjectMeta, ObjectReader, PartReader, StoreError, Version};

/// Bytes of one request.
pub(crate) const RANGE_BYTES: u64 = 4 << 20;
/// Requests whose bytes may be in memory at once, those being read from included: 8 MiB of the runner's 64.
pub(crate) const RANGES_IN_FLIGHT: usize = 2;
const CHUNK_BYTES: usize = 256 << 10;
/// Tries without a single byte coming in. With a stall timeout of 20 seconds each, a read gives up after 100 seconds and
/// the waits in between.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const ACTION: &str = "s3:GetObject";

/// The bytes of an object, coming in on tasks of the runtime it was opened on.
#[derive(Debug)]
pub(crate) struct RangedRead {
    ranges: mpsc::Receiver<QueuedRange>,
    current: Option<QueuedRange>,
    chunk: Vec<u8>,
    taken: usize,
    /// Bytes still to come.
    left: u64,
    spare: Spare,
    work: AbortHandle,
}

/// Pieces that were read, to be filled again by whatever read of the store comes next. Never more than are in flight, for
/// a piece is made only when none is here.
#[derive(Clone, Debug, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES))
    }

    fn put(&self, mut chunk: Vec<u8>) {
        if chunk.capacity() > 0 {
            chunk.clear();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        }
    }
}

#[derive(Debug)]
struct QueuedRange {
    chunks: mpsc::Receiver<Result<Vec<u8>, StoreError>>,
    left: u64,
    /// Given back when the range is read: that is what bounds the memory.
    _permit: OwnedSemaphorePermit,
}

impl S3Store {
    pub(crate) async fn reader(&self, meta: &ObjectMeta) -> Result<ObjectReader, StoreError> {
        let reader = self.ranged(meta, 0..meta.size, RANGES_IN_FLIGHT).await?;
        Ok(ObjectReader::new(Source::S3(reader), self.uri_of(&meta.key), meta.clone()))
    }

    /// Several parts are read at once, so each has one request in flight.
    pub(crate) async fn part(&self, meta: &ObjectMeta, range: Range<u64>) -> Result<PartReader, StoreError> {
        let reader = self.ranged(meta, range.clone(), 1).await?;
        Ok(PartReader::new(Source::S3(reader), self.uri_of(&meta.key), meta.clone(), range))
    }

    async fn ranged(&self, meta: &ObjectMeta, range: Range<u64>, in_flight: usize) -> Result<RangedRead, StoreError> {
        let spare = self.spare.clone();
        let fetch =
            Fetch { store: self.clone(), meta: meta.clone(), uri: self.uri_of(&meta.key), spare: spare.clone() };
        // The first answer comes before the reader, so that a missing right or a changed object is reported at once.
        let first = fetch.open_first(range.clone()).await?;
        let (queue, ranges) = mpsc::channel(1);
        let left = range.end - range.start;
        let work = tokio::spawn(read_ahead(Arc::new(fetch), range, in_flight, first, queue)).abort_handle();
        Ok(RangedRead { ranges, current: None, chunk: Vec::new(), taken: 0, left, spare, work })
    }
}

impl RangedRead {
    /// Waits for the network; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        while self.taken == self.chunk.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.spare.put(std::mem::take(&mut self.chunk));
            self.taken = 0;
            self.chunk = self.next_chunk()?;
        }
        let rest = &self.chunk[self.taken..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        Ok(length)
    }

    fn next_chunk(&mut self) -> Result<Vec<u8>, StoreError> {
        loop {
            let Some(range) = &mut self.current else {
                // A closed queue before the last byte: the runtime went away under us.
                self.current = Some(self.ranges.blocking_recv().ok_or(StoreError::Interrupted { action: "read" })?);
                continue;
            };
            if range.left == 0 {
                self.current = None;
                continue;
            }
            let chunk = range.chunks.blocking_recv().ok_or(StoreError::Interrupted { action: "read" })??;
            range.left = range.left.saturating_sub(chunk.len() as u64);
            self.left = self.left.saturating_sub(chunk.len() as u64);
            return Ok(chunk);
        }
    }
}

impl Drop for RangedRead {
    fn drop(&mut self) {
        self.spare.put(std::mem::take(&mut self.chunk));
        self.work.abort();
    }
}

/// Starts one range after the other, as the reader frees the permits of those it has read.
async fn read_ahead(
    fetch: Arc<Fetch>,
    range: Range<u64>,
    in_flight: usize,
    first: ByteStream,
    queue: mpsc::Sender<QueuedRange>,
) {
    let permits = Arc::new(Semaphore::new(in_flight));
    let mut tasks = JoinSet::new(); // ends its tasks with itself
    let mut first = Some(first);
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + RANGE_BYTES);
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (sender, chunks) = mpsc::channel((RANGE_BYTES / CHUNK_BYTES as u64) as usize + 1);
        let (fetch, opened) = (Arc::clone(&fetch), first.take());
        tasks.spawn(async move { fetch.deliver(start..end, opened, sender).await });
        if queue.send(QueuedRange { chunks, left: end - start, _permit: permit }).await.is_err() {
            return; // nobody reads any more
        }
        while tasks.try_join_next().is_some() {}
        start = end;
    }
    while tasks.join_next().await.is_some() {}
}

#[derive(Debug)]
struct Fetch {
    store: S3Store,
    meta: ObjectMeta,
    uri: String,
    spare: Spare,
}

enum Stop {
    Failed(StoreError),
    /// The reader is gone.
    Unwanted,
}

impl Fetch {
    /// The body of the first range, with the tries every range has.
    async fn open_first(&self, whole: Range<u64>) -> Result<ByteStream, StoreError> {
        let range = whole.start..whole.end.min(whole.start + RANGE_BYTES);
        let mut tries = 0;
        loop {
            match self.open(range.clone()).await {
                Ok(body) => return Ok(body),
                Err(error) => {
                    tries += 1;
                    self.wait_or_give_up(error, tries).await?;
                }
            }
        }
    }

    /// All bytes of a range, or one error, into the queue.
    async fn deliver(
        &self,
        range: Range<u64>,
        mut opened: Option<ByteStream>,
        queue: mpsc::Sender<Result<Vec<u8>, StoreError>>,
    ) {
        let mut at = range.start;
        let mut tries = 0;
        while at < range.end {
            let before = at;
            let stop = match opened.take() {
                Some(body) => self.pass_on(body, &mut at, range.end, &queue).await,
                None => match self.open(at..range.end).await {
                    Ok(body) => self.pass_on(body, &mut at, range.end, &queue).await,
                    Err(error) => Err(Stop::Failed(error)),
                },
            };
            let error = match stop {
                Ok(()) => continue,
                Err(Stop::Unwanted) => return,
                Err(Stop::Failed(error)) => error,
            };
            tries = if at > before { 1 } else { tries + 1 };
            tracing::debug!(object = self.uri, at, tries, %error, "range broke off");
            if let Err(error) = self.wait_or_give_up(error, tries).await {
                let _ = queue.send(Err(error)).await; // nobody reads: nobody asks why
                return;
            }
        }
    }

    async fn wait_or_give_up(&self, error: StoreError, tries: u32) -> Result<(), StoreError> {
        let worth_it = matches!(
            error,
            StoreError::Timeout { .. } | StoreError::Unreachable { .. } | StoreError::Unavailable { .. }
        );
        if !worth_it || tries >= TRIES {
            return Err(error);
        }
        // Full jitter: clients that failed together must not come back together.
        let longest = LONGEST_WAIT.min(FIRST_WAIT * 2_u32.saturating_pow(tries));
        let wait = Duration::from_micros(random() % (longest.as_micros() as u64).max(1));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Asks for a range of the pinned version and checks that the answer is about it.
    async fn open(&self, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let (store, meta) = (&self.store, &self.meta);
        let mut request = store.client.get_object().bucket(&store.bucket).key(store.full_key(&meta.key));
        request = match &meta.version {
            Version::Id(id) => request.version_id(id),
            Version::Etag { etag, .. } => request.if_match(format!("\"{etag}\"")),
            Version::File { .. } => return Err(self.changed()),
        };
        // An object asked for as a whole comes with the checksum it was stored with, and the SDK compares.
        let whole = range == (0..meta.size);
        if !whole {
            request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
        }
        // The SDK tries again by itself, which is good against a server that answers; one that does not is ours to give up.
        let answer = match tokio::time::timeout(store.stall_timeout, request.send()).await {
            Ok(answer) => answer.map_err(|error| self.refused(error))?,
            Err(_) => return Err(self.stalled()),
        };
        self.check(&answer, &range, whole)?;
        Ok(answer.body)
    }

    fn check(&self, answer: &GetObjectOutput, range: &Range<u64>, whole: bool) -> Result<(), StoreError> {
        let same_etag = match (answer.e_tag(), &self.meta.etag) {
            (Some(found), Some(pinned)) => bare_etag(found) == *pinned,
            _ => true,
        };
        let expected = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), self.meta.size);
        let in_place = whole || answer.content_range() == Some(&expected);
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        if !same_etag || (whole && length.is_some_and(|length| length != self.meta.size)) {
            return Err(self.changed());
        }
        if !in_place || length.is_some_and(|length| length != range.end - range.start) {
            return Err(self.service("the answer is not about the bytes that were asked for"));
        }
        Ok(())
    }

    /// Moves `at` past every byte that reached the queue.
    async fn pass_on(
        &self,
        mut body: ByteStream,
        at: &mut u64,
        end: u64,
        queue: &mpsc::Sender<Result<Vec<u8>, StoreError>>,
    ) -> Result<(), Stop> {
        let mut chunk = self.spare.take();
        loop {
            let next = tokio::time::timeout(self.store.stall_timeout, body.next()).await;
            let stop = match next {
                Ok(Some(Ok(bytes))) => {
                    let mut bytes = &bytes[..];
                    if *at + (chunk.len() + bytes.len()) as u64 > end {
                        return Err(Stop::Failed(self.service("more bytes came than were asked for")));
                    }
                    while !bytes.is_empty() {
                        let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - chunk.len()));
                        chunk.extend_from_slice(now);
                        bytes = later;
                        if chunk.len() == CHUNK_BYTES {
                            send(queue, std::mem::replace(&mut chunk, self.spare.take()), at).await?;
                        }
                    }
                    continue;
                }
                Ok(None) if *at + chunk.len() as u64 == end => None,
                Ok(None) => Some(self.broken("the answer ended too early".into())),
                Ok(Some(Err(error))) => {
                    let cause = Cause::of(&error);
                    // Everything came, but it is not what was stored: asking again changes nothing.
                    if cause.to_string().contains("checksum") {
                        return Err(Stop::Failed(self.service(&cause.to_string())));
                    }
                    Some(self.broken(cause))
                }
                Err(_) => Some(self.stalled()),
            };
            // What came before it broke is good: the next try starts behind it.
            if chunk.is_empty() {
                self.spare.put(chunk);
            } else {
                send(queue, chunk, at).await?;
            }
            return stop.map_or(Ok(()), |error| Err(Stop::Failed(error)));
        }
    }

    /// Whatever says that this version is not what the key holds any more.
    fn refused<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let out_of_range = matches!(&error, SdkError::ServiceError(context) if context.raw().status().as_u16() == 416);
        match self.store.error(ACTION, Some(&self.meta.key), error) {
            StoreError::NotFound { .. } => self.changed(),
            _ if out_of_range => self.changed(),
            other => other,
        }
    }

    fn changed(&self) -> StoreError {
        StoreError::ObjectChanged { uri: self.uri.clone() }
    }

    fn stalled(&self) -> StoreError {
        StoreError::Timeout { action: ACTION, endpoint: self.store.endpoint.clone() }
    }

    fn broken(&self, source: Cause) -> StoreError {
        StoreError::Unavailable { action: ACTION, resource: self.store.resource(Some(&self.meta.key)), source }
    }

    fn service(&self, message: &str) -> StoreError {
        let resource = self.store.resource(Some(&self.meta.key));
        StoreError::Service { action: ACTION, resource, code: "wrong answer".into(), source: message.into() }
    }
}

async fn send(queue: &mpsc::Sender<Result<Vec<u8>, StoreError>>, chunk: Vec<u8>, at: &mut u64) -> Result<(), Stop> {
    let length = chunk.len() as u64;
    queue.send(Ok(chunk)).await.map_err(|_| Stop::Unwanted)?;
    *at += length;
    Ok(())
}
