//! CloudWatch Logs as a batch sees it: compression where it is taken, groups and streams that are made when they are missing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloudwatch::{CallError, CloudWatch, Rejected};
use flate2::{Compress, Compression, FlushCompress, Status};

const RETAIN_AGAIN: Duration = Duration::from_secs(300);

/// The service.
#[derive(Clone, Debug)]
pub struct Sink {
    service: CloudWatch,
    /// Groups that were told how long to keep events; of those that could not be, the time of the next try.
    retained: Arc<Mutex<HashMap<String, Option<Instant>>>>,
    refuses_gzip: Arc<AtomicBool>,
    compressor: Arc<Mutex<Compressor>>,
}

impl Sink {
    pub fn new(service: CloudWatch) -> Self {
        Self { service, retained: Arc::default(), refuses_gzip: Arc::default(), compressor: Arc::default() }
    }

    /// Sends a request whose body stands; `gzip` compresses it.
    pub async fn put(&self, body: Bytes, gzip: bool) -> Result<Rejected, CallError> {
        let body = if gzip { self.compressor().compress(&body) } else { body };
        self.service.put_events(body, gzip).await
    }

    /// Tries whether events would be taken, with one that is so old that the service leaves it out.
    pub async fn put_nothing(&self, group: &str, stream: &str) -> Result<(), CallError> {
        let mut batch = crate::batch::Batch::new(group, stream);
        batch.push(0, "log-shipper check");
        let sealed = batch.sealed();
        self.put(sealed.body(0..1), false).await.map(|_| ())
    }

    /// Makes the stream, and the group if it is not there.
    pub async fn create(&self, group: &str, stream: &str) -> Result<(), CallError> {
        match self.service.create_stream(group, stream).await {
            Err(CallError::Missing) => {}
            made => return made,
        }
        self.service.create_group(group).await?;
        self.service.create_stream(group, stream).await
    }

    /// Says how long a group keeps events.
    pub async fn retain(&self, group: &str, days: u32) -> Result<(), CallError> {
        self.service.retain(group, days).await
    }

    /// Says so once for each group. Where that fails it is tried again after a while; events do not wait for it.
    pub async fn retain_once(&self, group: &str, days: u32) {
        let now = Instant::now();
        let is_due = |retained: &mut HashMap<String, Option<Instant>>| match retained.get(group) {
            Some(None) => false,
            Some(Some(again)) if now < *again => false,
            _ => {
                retained.insert(group.to_owned(), Some(now + RETAIN_AGAIN));
                true
            }
        };
        if !is_due(&mut self.retained()) {
            return;
        }
        match self.retain(group, days).await {
            Ok(()) => _ = self.retained().insert(group.to_owned(), None),
            Err(error) => {
                tracing::warn!(group, days, %error, "how long the group keeps events could not be set; it is tried again")
            }
        }
    }

    /// Whether it is known not to take compressed requests.
    pub fn takes_gzip(&self) -> bool {
        !self.refuses_gzip.load(Ordering::Relaxed)
    }

    /// A request was refused compressed and accepted as it is.
    pub fn without_gzip(&self) {
        if !self.refuses_gzip.swap(true, Ordering::Relaxed) {
            tracing::warn!("the service takes no compressed requests; they are sent as they are");
        }
    }

    fn compressor(&self) -> MutexGuard<'_, Compressor> {
        self.compressor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retained(&self) -> MutexGuard<'_, HashMap<String, Option<Instant>>> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Level 1: log text shrinks to a tenth or so, and more would cost more than it saves. Its memory serves all requests.
#[derive(Debug)]
struct Compressor {
    deflate: Compress,
    buffer: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { deflate: Compress::new_gzip(Compression::fast(), 15), buffer: Vec::new() }
    }
}

impl Compressor {
    fn compress(&mut self, body: &[u8]) -> Bytes {
        self.deflate.reset();
        self.buffer.clear();
        loop {
            // In no case does it grow by more than a few bytes in each block.
            self.buffer.reserve(64 * 1024);
            let taken = usize::try_from(self.deflate.total_in()).unwrap_or(body.len());
            match self.deflate.compress_vec(&body[taken..], &mut self.buffer, FlushCompress::Finish) {
                Ok(Status::Ok | Status::BufError) => {}
                // Deflating memory does not fail; if it did, the service would refuse what came of it, and get it as it is.
                Ok(Status::StreamEnd) | Err(_) => return Bytes::copy_from_slice(&self.buffer),
            }
        }
    }
}
