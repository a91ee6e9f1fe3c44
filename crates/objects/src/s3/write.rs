//! Storing one object: one request when it is small, parts in parallel when it is not.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::leftover::Leftovers;
use super::resume::{self, Earlier, MARK_NUMBER};
use super::{S3Store, SHA256_METADATA, UPLOAD_METADATA, bare_etag, version_of};
use crate::directory::random;
use crate::fingerprint::PIECE_BYTES;
use crate::upload::{Content, KnownFile, Source, Terms};
use crate::{ContentHash, StoreError, Upload, Uploaded};

/// Below this one request does it.
pub(super) const SINGLE_BYTES: usize = 12 << 20;
/// Parts are held in memory until they are stored. S3 takes no part below 5 MiB but the last.
pub(super) const PART_BYTES: u64 = 6 << 20;
const PARTS_IN_FLIGHT: usize = 3;
/// S3 takes one more, which is the mark's.
const MAX_PARTS: u64 = MARK_NUMBER as u64 - 1;
/// Without a known size, parts double this often, which covers the 5 TiB S3 allows well before the last part.
const PARTS_OF_A_SIZE: u32 = 1000;
/// A part may take this long on a slow line, and joining the parts of a large object too.
pub(super) const PART_TIMEOUT: Duration = Duration::from_secs(300);

impl S3Store {
    pub(crate) async fn put(&self, key: &str, upload: Upload<'_>) -> Result<Uploaded, StoreError> {
        let terms = upload.terms();
        let closed = upload.into_closed();
        // A file may have to be read for its fingerprint; what is short and at hand is not worth another thread.
        let content = if closed.is_at_hand() { closed.open()? } else { blocking(move || closed.open()).await? };
        match content {
            Content::Bytes(bytes, print) => {
                let crc32 = crc32fast::hash(&bytes);
                self.put_single(key, &terms, bytes.len() as u64, print.sha256(), crc32, bytes.into()).await
            }
            Content::File(file) if file.print.bytes() < SINGLE_BYTES as u64 => {
                let (size, sha256) = (file.print.bytes(), file.print.sha256());
                let file = Arc::new(file);
                let (body, crc32) = self.read_range(&file, 0..size).await?;
                self.put_single(key, &terms, size, sha256, crc32, body).await
            }
            Content::File(file) => self.put_file(key, &terms, Arc::new(file)).await,
            Content::Stream(source) => self.put_stream(key, &terms, source).await,
        }
    }

    /// The bytes of a file's range, as soon as there is room for them.
    async fn read_range(&self, file: &Arc<KnownFile>, range: Range<u64>) -> Result<(ByteStream, u32), StoreError> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut body = self.bodies.take(length).await.ok_or(StoreError::Interrupted { action: "upload" })?;
        let file = Arc::clone(file);
        blocking(move || {
            let crc32 = file.read(&range, body.as_mut())?;
            Ok((body.into(), crc32))
        })
        .await
    }

    async fn put_single(
        &self,
        key: &str,
        terms: &Terms<'_>,
        size: u64,
        sha256: ContentHash,
        crc32: u32,
        body: ByteStream,
    ) -> Result<Uploaded, StoreError> {
        let request = self
            .sender
            .put_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .content_type(terms.content_type)
            .metadata(SHA256_METADATA, sha256.to_string())
            .checksum_crc32(checksum(crc32))
            .set_if_none_match(terms.only_if_absent.then(|| "*".to_owned()))
            .body(body)
            .customize();
        let request = if self.signs_payload { request } else { request.disable_payload_signing() };
        let stored = match request.send().await {
            Ok(answer) => {
                let etag = answer.e_tag().map(bare_etag);
                uploaded(key, size, answer.version_id(), etag, sha256)
            }
            Err(error) => {
                let error = self.error("s3:PutObject", Some(key), error);
                self.judge(key, terms, size, sha256, None, error).await?
            }
        };
        terms.report(size);
        Ok(stored)
    }

    /// In parts, without those that are there already.
    async fn put_file(&self, key: &str, terms: &Terms<'_>, file: Arc<KnownFile>) -> Result<Uploaded, StoreError> {
        let (size, sha256) = (file.print.bytes(), file.print.sha256());
        let parts = FileParts::of(size);
        let mut earlier = match size {
            resume::WORTH_RESUMING.. => self.earlier(key, &file, &parts, terms).await,
            _ => Earlier::Unknown,
        };
        let mut continued = 0;
        loop {
            let marks = !matches!(earlier, Earlier::Unknown);
            let (mut guard, finished, mark) = match earlier {
                Earlier::Upload { id, finished } => (Unfinished::new(self, key, &id), finished, None),
                Earlier::Unknown | Earlier::Nothing => {
                    let metadata = HashMap::from([(SHA256_METADATA.to_owned(), sha256.to_string())]);
                    let guard = self.begin_parts(key, terms.content_type, metadata).await?;
                    let mark = marks.then(|| resume::mark(&file.print, parts.part_bytes, terms.content_type));
                    (guard, HashMap::new(), mark)
                }
            };
            let is_again = !finished.is_empty();
            let there: u64 =
                finished.keys().filter_map(|&number| parts.range(number)).map(|at| at.end - at.start).sum();
            if is_again {
                tracing::info!(key, parts = finished.len(), bytes = there, "an upload that was cut short is continued");
                continued = there;
                terms.report(there);
            }
            let id = guard.id.clone();
            let sending = FileSending { file: Arc::clone(&file), parts: parts.clone(), finished, mark };
            let error = match self.send_file(key, terms, sending, &id).await {
                Ok(stored) => {
                    guard.done();
                    return Ok(Uploaded { continued, ..stored });
                }
                Err(error) => error,
            };
            if (is_lost(&error) || matches!(error, StoreError::Unavailable { .. }))
                && let Ok((found, _)) = self.look(key).await
                && found.size == size
                && found.sha256 == Some(sha256)
            {
                // Somebody else was at the same bytes and completed the upload before us.
                guard.done();
                let (version, etag) = (found.version, found.etag);
                return Ok(Uploaded { key: key.to_owned(), size, version, etag, sha256, continued });
            }
            if marks && is_cut_short(&error) {
                // What was sent is worth keeping: the next upload of these bytes goes on from there.
                guard.done();
                return Err(error);
            }
            guard.abort().await;
            if !(is_lost(&error) && is_again) {
                return Err(error);
            }
            // Somebody aborted the upload we had continued: one of our own, then.
            tracing::debug!(key, %error, "the upload that was continued is gone; it starts anew");
            (earlier, continued) = (Earlier::Unknown, 0);
        }
    }

    async fn send_file(
        &self,
        key: &str,
        terms: &Terms<'_>,
        sending: FileSending,
        id: &str,
    ) -> Result<Uploaded, StoreError> {
        let FileSending { file, parts, mut finished, mark } = sending;
        let mut sent = Sent::default();
        if let Some(mark) = mark {
            let crc32 = crc32fast::hash(&mark);
            let (store, key, id) = (self.clone(), key.to_owned(), id.to_owned());
            sent.marks.spawn(async move {
                // Without it this upload cannot be continued, which is no reason not to make it.
                if let Err(error) = store.send_part(&key, &id, MARK_NUMBER, crc32, 0, mark.into()).await {
                    tracing::debug!(key, %error, "the upload's mark is not stored");
                }
            });
        }
        for number in 1.. {
            let Some(range) = parts.range(number) else { break };
            if let Some(part) = finished.remove(&number) {
                sent.parts.push(part);
                continue;
            }
            let length = range.end - range.start;
            let (body, crc32) = tokio::select! {
                biased;
                read = self.read_range(&file, range) => read?,
                // A part that failed: what is being read is not wanted any more.
                failed = sent.failure(terms) => return Err(failed),
            };
            while sent.tasks.len() >= PARTS_IN_FLIGHT {
                sent.collect(terms).await?;
            }
            let (store, key, id) = (self.clone(), key.to_owned(), id.to_owned());
            sent.tasks.spawn(async move { store.send_part(&key, &id, number, crc32, length, body).await });
        }
        while !sent.tasks.is_empty() {
            sent.collect(terms).await?;
        }
        let (size, sha256) = (file.print.bytes(), file.print.sha256());
        blocking(move || file.require_unchanged()).await?;
        // A mark that is still on its way would come to an upload that is gone.
        while sent.marks.join_next().await.is_some() {}
        self.complete(key, terms, id, sent.parts, (size, sha256), None).await
    }

    async fn put_stream(&self, key: &str, terms: &Terms<'_>, source: Source) -> Result<Uploaded, StoreError> {
        let (source, mut head) = next(source, stream_part_bytes(1)).await?;
        let (source, rest) = next(source, SINGLE_BYTES - head.len()).await?;
        if head.len() + rest.len() < SINGLE_BYTES {
            head.extend_from_slice(&rest);
            let (size, sha256) = source.finish(terms.sha256)?;
            return self.put_single(key, terms, size, sha256, crc32fast::hash(&head), head.into()).await;
        }
        let token = format!("{:016x}", random());
        let mut metadata = HashMap::from([(UPLOAD_METADATA.to_owned(), token.clone())]);
        metadata.extend(terms.sha256.map(|hash| (SHA256_METADATA.to_owned(), hash.to_string())));
        let mut guard = self.begin_parts(key, terms.content_type, metadata).await?;
        let id = guard.id.clone();
        let result = self.send_stream(key, terms, source, vec![head, rest], &id, &token).await;
        match &result {
            Ok(_) => guard.done(),
            Err(_) => guard.abort().await,
        }
        result
    }

    async fn send_stream(
        &self,
        key: &str,
        terms: &Terms<'_>,
        mut source: Source,
        first: Vec<Vec<u8>>,
        id: &str,
        token: &str,
    ) -> Result<Uploaded, StoreError> {
        let mut sent = Sent::default();
        let mut first = first.into_iter();
        for number in 1.. {
            let bytes = match first.next() {
                Some(bytes) => bytes,
                None => {
                    let bytes;
                    (source, bytes) = next(source, stream_part_bytes(number)).await?;
                    bytes
                }
            };
            if bytes.is_empty() {
                break;
            }
            while sent.tasks.len() >= PARTS_IN_FLIGHT {
                sent.collect(terms).await?;
            }
            let (store, key, id) = (self.clone(), key.to_owned(), id.to_owned());
            let (crc32, length) = (crc32fast::hash(&bytes), bytes.len() as u64);
            let number = i32::try_from(number).unwrap_or(i32::MAX); // past the limit S3 says so itself
            sent.tasks.spawn(async move { store.send_part(&key, &id, number, crc32, length, bytes.into()).await });
        }
        while !sent.tasks.is_empty() {
            sent.collect(terms).await?;
        }
        let stored = source.finish(terms.sha256)?;
        self.complete(key, terms, id, sent.parts, stored, Some(token)).await
    }

    /// Work of its own, that ends although nobody waits for it any more: an upload whose id never came could not be
    /// taken back.
    async fn begin_parts(
        &self,
        key: &str,
        content_type: &str,
        metadata: HashMap<String, String>,
    ) -> Result<Unfinished, StoreError> {
        let (answer, begun) = oneshot::channel();
        let (store, key) = (self.clone(), key.to_owned());
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full_key(&key))
            .content_type(content_type)
            .set_metadata(Some(metadata))
            // Parts with checksums belong to an upload that declares the algorithm.
            .checksum_algorithm(ChecksumAlgorithm::Crc32);
        self.leftovers.spawn(async move {
            let begun = match request.send().await {
                Ok(created) => Ok(Unfinished::new(&store, &key, created.upload_id().unwrap_or_default())),
                Err(error) => Err(store.error("s3:PutObject", Some(&key), error)),
            };
            let _ = answer.send(begun); // nobody waits: dropping it takes the upload back
        });
        begun.await.map_err(|_| StoreError::Interrupted { action: "upload" })?
    }

    /// Until uploads that were dropped half-way are taken back.
    pub(crate) async fn settle(&self) {
        self.leftovers.settle().await;
    }

    async fn complete(
        &self,
        key: &str,
        terms: &Terms<'_>,
        id: &str,
        mut parts: Vec<CompletedPart>,
        (size, sha256): (u64, ContentHash),
        token: Option<&str>,
    ) -> Result<Uploaded, StoreError> {
        parts.sort_by_key(CompletedPart::part_number);
        let complete = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let answer = self
            .sender
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .upload_id(id)
            .set_if_none_match(terms.only_if_absent.then(|| "*".to_owned()))
            .multipart_upload(complete)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(uploaded(key, size, answer.version_id(), answer.e_tag().map(bare_etag), sha256)),
            Err(error) => {
                let error = self.error("s3:PutObject", Some(key), error);
                self.judge(key, terms, size, sha256, token, error).await
            }
        }
    }

    async fn send_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        crc32: u32,
        length: u64,
        body: ByteStream,
    ) -> Result<(CompletedPart, u64), StoreError> {
        let crc32 = checksum(crc32);
        let request = self
            .sender
            .upload_part()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .upload_id(id)
            .part_number(number)
            .checksum_crc32(&crc32)
            .body(body)
            .customize();
        let request = if self.signs_payload { request } else { request.disable_payload_signing() };
        let answer = request.send().await.map_err(|error| self.error("s3:PutObject", Some(key), error))?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(answer.e_tag().map(str::to_owned))
            .checksum_crc32(crc32)
            .build();
        Ok((part, length))
    }

    /// A refusal may be the echo of our own success: the answer to the first try got lost, and the second found the key
    /// taken or the upload gone, or no answer came at all. What the key holds decides.
    async fn judge(
        &self,
        key: &str,
        terms: &Terms<'_>,
        size: u64,
        sha256: ContentHash,
        upload: Option<&str>,
        error: StoreError,
    ) -> Result<Uploaded, StoreError> {
        let taken = terms.only_if_absent && matches!(error, StoreError::ObjectChanged { .. });
        let unknown = taken || error.is_retryable() || matches!(error, StoreError::NotFound { .. });
        if !unknown {
            return Err(error);
        }
        match self.look(key).await {
            Ok((found, by))
                if found.size == size
                    && (found.sha256 == Some(sha256) || (by.is_some() && by.as_deref() == upload)) =>
            {
                let (version, etag) = (found.version, found.etag);
                Ok(Uploaded { key: key.to_owned(), size, version, etag, sha256, continued: 0 })
            }
            _ if taken => Err(StoreError::AlreadyExists { uri: self.uri_of(key) }),
            _ => Err(error),
        }
    }
}

/// The upload is gone, or its parts are not the ones we know: another process is at the same bytes.
fn is_lost(error: &StoreError) -> bool {
    match error {
        StoreError::NotFound { .. } => true,
        StoreError::Service { code, .. } => code == "InvalidPart",
        _ => false,
    }
}

/// The line broke, not the upload.
fn is_cut_short(error: &StoreError) -> bool {
    matches!(error, StoreError::Timeout { .. } | StoreError::Unreachable { .. } | StoreError::Unavailable { .. })
}

/// One file on its way in parts.
struct FileSending {
    file: Arc<KnownFile>,
    parts: FileParts,
    finished: HashMap<i32, CompletedPart>,
    mark: Option<Vec<u8>>,
}

/// Parts on their way and parts stored.
#[derive(Default)]
struct Sent {
    parts: Vec<CompletedPart>,
    /// Ends its tasks with itself.
    tasks: JoinSet<Result<(CompletedPart, u64), StoreError>>,
    marks: JoinSet<()>,
}

impl Sent {
    /// Waits for one part.
    async fn collect(&mut self, terms: &Terms<'_>) -> Result<(), StoreError> {
        let Some(joined) = self.tasks.join_next().await else { return Ok(()) };
        let (part, length) = joined.map_err(|_| StoreError::Interrupted { action: "upload" })??;
        self.parts.push(part);
        terms.report(length);
        Ok(())
    }

    /// Takes parts as they come until one fails; for ever when none does.
    async fn failure(&mut self, terms: &Terms<'_>) -> StoreError {
        while !self.tasks.is_empty() {
            if let Err(error) = self.collect(terms).await {
                return error;
            }
        }
        std::future::pending().await
    }
}

fn uploaded(key: &str, size: u64, id: Option<&str>, etag: Option<String>, sha256: ContentHash) -> Uploaded {
    let version = version_of(id, etag.as_deref(), size, Some(sha256));
    Uploaded { key: key.to_owned(), size, version, etag, sha256, continued: 0 }
}

/// Reads on a blocking thread.
async fn next(mut source: Source, length: usize) -> Result<(Source, Vec<u8>), StoreError> {
    blocking(move || {
        let bytes = source.next(length)?;
        Ok((source, bytes))
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Interrupted { action: "upload" })?
}

/// As S3 spells it.
pub(super) fn checksum(crc32: u32) -> String {
    base64::engine::general_purpose::STANDARD.encode(crc32.to_be_bytes())
}

/// How a file is divided, always in the same way, so that an upload can be continued.
#[derive(Clone, Debug)]
pub(super) struct FileParts {
    size: u64,
    pub(super) part_bytes: u64,
}

impl FileParts {
    pub(super) fn of(size: u64) -> Self {
        Self { size, part_bytes: PART_BYTES.max(size.div_ceil(MAX_PARTS).next_multiple_of(PIECE_BYTES)) }
    }

    /// Where part `number` is, counted from 1; `None` past the end.
    pub(super) fn range(&self, number: i32) -> Option<Range<u64>> {
        let before = u64::try_from(number).ok()?.checked_sub(1)?;
        let start = before.checked_mul(self.part_bytes).filter(|start| *start < self.size)?;
        Some(start..self.size.min(start + self.part_bytes))
    }
}

/// How large part `number` of a stream is, whose length nobody knows.
fn stream_part_bytes(number: u32) -> usize {
    usize::try_from(PART_BYTES << ((number - 1) / PARTS_OF_A_SIZE).min(9)).unwrap_or(usize::MAX)
}

/// An upload nobody completed costs money until somebody aborts it.
struct Unfinished {
    client: Client,
    leftovers: Arc<Leftovers>,
    bucket: String,
    full_key: String,
    id: String,
    is_open: bool,
}

impl Unfinished {
    fn new(store: &S3Store, key: &str, id: &str) -> Self {
        Self {
            client: store.client.clone(),
            leftovers: Arc::clone(&store.leftovers),
            bucket: store.bucket.clone(),
            full_key: store.full_key(key),
            id: id.to_owned(),
            is_open: true,
        }
    }

    fn done(&mut self) {
        self.is_open = false;
    }

    async fn abort(&mut self) {
        self.aborting().await;
        self.is_open = false;
    }

    fn aborting(&self) -> impl Future<Output = ()> + Send + 'static {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.full_key).upload_id(&self.id);
        async move {
            // Best effort: the error worth reporting is the one that led here, and a lifecycle rule sweeps the rest.
            if let Err(error) = request.send().await {
                tracing::debug!(error = %crate::Cause::of(&error), "the unfinished upload stays behind");
            }
        }
    }
}

impl Drop for Unfinished {
    /// The upload was dropped half-way, as on Ctrl-C.
    fn drop(&mut self) {
        if self.is_open {
            self.leftovers.spawn(self.aborting());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_parts_enough_for_five_tebibytes() {
        const LARGEST: u64 = 5 << 40;
        let parts = FileParts::of(LARGEST);
        assert_eq!(parts.range(MARK_NUMBER - 1).map_or(LARGEST, |range| range.end), LARGEST);
        assert_eq!(parts.range(MARK_NUMBER), None, "that one is the mark");
        let total: u64 = (1..MARK_NUMBER as u32).map(|number| stream_part_bytes(number) as u64).sum();
        assert!(total >= LARGEST);
    }

    #[test]
    fn parts_follow_each_other_to_the_end() {
        let size = (20 << 20) + 7;
        let parts = FileParts::of(size);
        assert_eq!(parts.part_bytes, PART_BYTES);
        let ranges: Vec<_> = (1..).map_while(|number| parts.range(number)).collect();
        assert_eq!((ranges[0].start, ranges.last().unwrap().end), (0, size));
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((parts.range(0), parts.range(-1)), (None, None));
    }

    #[test]
    fn a_checksum_is_spelled_as_s3_spells_it() {
        assert_eq!(checksum(crc32fast::hash(b"123456789")), "y/Q5Jg==");
    }
}
