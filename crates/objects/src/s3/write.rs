//! Storing one object: one request when it is small, parts in parallel when it is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::leftover::Leftovers;
use super::{S3Store, SHA256_METADATA, UPLOAD_METADATA, bare_etag, timeouts, version_of};
use crate::directory::random;
use crate::upload::{Source, Terms};
use crate::{ContentHash, StoreError, Upload, Uploaded};

/// Below this one request does it.
const SINGLE_BYTES: usize = 12 << 20;
/// Parts are held in memory until they are stored: three on their way and one being read come to 24 MiB. S3 takes no
/// part below 5 MiB but the last.
const PART_BYTES: u64 = 6 << 20;
const PARTS_IN_FLIGHT: usize = 3;
/// S3 takes no more.
const MAX_PARTS: u64 = 10_000;
/// Without a known size, parts double this often, which covers the 5 TiB S3 allows well before part 10,000.
const PARTS_OF_A_SIZE: u32 = 1000;
/// A part may take this long on a slow line.
const PART_TIMEOUT: Duration = Duration::from_secs(300);

impl S3Store {
    pub(crate) async fn put(&self, key: &str, upload: Upload<'_>) -> Result<Uploaded, StoreError> {
        let (source, terms) = upload.open()?;
        let sizes = PartSizes { known: source.size };
        let (mut source, mut head) = next(source, sizes.of(1)).await?;
        if head.len() < SINGLE_BYTES {
            let rest;
            (source, rest) = next(source, SINGLE_BYTES - head.len()).await?;
            if head.len() + rest.len() < SINGLE_BYTES {
                head.extend_from_slice(&rest);
                return self.put_single(key, &terms, source, head).await;
            }
            return self.put_parts(key, &terms, source, vec![head, rest], sizes).await;
        }
        self.put_parts(key, &terms, source, vec![head], sizes).await
    }

    async fn put_single(
        &self,
        key: &str,
        terms: &Terms<'_>,
        source: Source,
        bytes: Vec<u8>,
    ) -> Result<Uploaded, StoreError> {
        let (size, sha256) = source.finish(terms.sha256)?;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .content_type(terms.content_type)
            .metadata(SHA256_METADATA, sha256.to_string())
            .checksum_crc32(crc32(&bytes))
            .set_if_none_match(terms.only_if_absent.then(|| "*".to_owned()))
            .body(bytes.into());
        let slow = aws_sdk_s3::config::Config::builder().timeout_config(timeouts(PART_TIMEOUT));
        let stored = match request.customize().config_override(slow).send().await {
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

    async fn put_parts(
        &self,
        key: &str,
        terms: &Terms<'_>,
        source: Source,
        first: Vec<Vec<u8>>,
        sizes: PartSizes,
    ) -> Result<Uploaded, StoreError> {
        let (source, hash) = match terms.sha256 {
            Some(hash) => (source, Some(hash)),
            None => {
                let mut source = source;
                blocking(move || source.hash_ahead().map(|hash| (source, hash))).await?
            }
        };
        let token = format!("{:016x}", random());
        let mut metadata = HashMap::from([(UPLOAD_METADATA.to_owned(), token.clone())]);
        metadata.extend(hash.map(|hash| (SHA256_METADATA.to_owned(), hash.to_string())));
        let mut guard = self.begin_parts(key, terms.content_type, metadata).await?;
        let id = guard.id.clone();
        let result = self.send_parts(key, terms, source, first, sizes, &id, &token, hash).await;
        match &result {
            Ok(_) => guard.done(),
            Err(_) => guard.abort().await,
        }
        result
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

    #[expect(clippy::too_many_arguments, reason = "one upload's whole state, used in one place")]
    async fn send_parts(
        &self,
        key: &str,
        terms: &Terms<'_>,
        mut source: Source,
        first: Vec<Vec<u8>>,
        sizes: PartSizes,
        id: &str,
        token: &str,
        expected: Option<ContentHash>,
    ) -> Result<Uploaded, StoreError> {
        let mut parts = Vec::new();
        let mut tasks = JoinSet::new(); // ends its tasks with itself
        let mut first = first.into_iter();
        for number in 1.. {
            let bytes = match first.next() {
                Some(bytes) => bytes,
                None => {
                    let bytes;
                    (source, bytes) = next(source, sizes.of(number)).await?;
                    bytes
                }
            };
            if bytes.is_empty() {
                break;
            }
            while tasks.len() >= PARTS_IN_FLIGHT {
                collect(&mut tasks, &mut parts, terms).await?;
            }
            let (store, key, id) = (self.clone(), key.to_owned(), id.to_owned());
            tasks.spawn(async move { store.send_part(&key, &id, number, bytes).await });
        }
        while !tasks.is_empty() {
            collect(&mut tasks, &mut parts, terms).await?;
        }
        let (size, sha256) = source.finish(expected)?;
        parts.sort_by_key(|part: &CompletedPart| part.part_number());
        let complete = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .upload_id(id)
            .set_if_none_match(terms.only_if_absent.then(|| "*".to_owned()))
            .multipart_upload(complete)
            .customize()
            // S3 joins the parts before it answers, which may take minutes.
            .config_override(aws_sdk_s3::config::Config::builder().timeout_config(timeouts(PART_TIMEOUT)))
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(uploaded(key, size, answer.version_id(), answer.e_tag().map(bare_etag), sha256)),
            Err(error) => {
                let error = self.error("s3:PutObject", Some(key), error);
                self.judge(key, terms, size, sha256, Some(token), error).await
            }
        }
    }

    async fn send_part(
        &self,
        key: &str,
        id: &str,
        number: u32,
        bytes: Vec<u8>,
    ) -> Result<(CompletedPart, u64), StoreError> {
        let (length, crc32) = (bytes.len() as u64, crc32(&bytes));
        let number = i32::try_from(number).unwrap_or(i32::MAX); // past the limit S3 says so itself
        let answer = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.full_key(key))
            .upload_id(id)
            .part_number(number)
            .checksum_crc32(&crc32)
            .body(ByteStream::from(bytes))
            .customize()
            .config_override(aws_sdk_s3::config::Config::builder().timeout_config(timeouts(PART_TIMEOUT)))
            .send()
            .await
            .map_err(|error| self.error("s3:PutObject", Some(key), error))?;
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
                Ok(Uploaded { key: key.to_owned(), size, version: found.version, etag: found.etag, sha256 })
            }
            _ if taken => Err(StoreError::AlreadyExists { uri: self.uri_of(key) }),
            _ => Err(error),
        }
    }
}

fn uploaded(key: &str, size: u64, id: Option<&str>, etag: Option<String>, sha256: ContentHash) -> Uploaded {
    let version = version_of(id, etag.as_deref(), size, Some(sha256));
    Uploaded { key: key.to_owned(), size, version, etag, sha256 }
}

async fn collect(
    tasks: &mut JoinSet<Result<(CompletedPart, u64), StoreError>>,
    parts: &mut Vec<CompletedPart>,
    terms: &Terms<'_>,
) -> Result<(), StoreError> {
    let Some(joined) = tasks.join_next().await else { return Ok(()) };
    let (part, length) = joined.map_err(|_| StoreError::Interrupted { action: "upload" })??;
    parts.push(part);
    terms.report(length);
    Ok(())
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

fn crc32(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(crc32fast::hash(bytes).to_be_bytes())
}

/// How large each part is, so that 10,000 are always enough.
#[derive(Clone, Copy, Debug)]
struct PartSizes {
    known: Option<u64>,
}

impl PartSizes {
    /// Of part `number`, counted from 1.
    fn of(self, number: u32) -> usize {
        let bytes = match self.known {
            Some(size) => PART_BYTES.max(size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20)),
            None => PART_BYTES << ((number - 1) / PARTS_OF_A_SIZE).min(9),
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
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
    fn ten_thousand_parts_are_enough_for_five_tebibytes() {
        const LARGEST: u64 = 5 << 40;
        let known = PartSizes { known: Some(LARGEST) };
        assert!(known.of(1) as u64 * MAX_PARTS >= LARGEST);
        let unknown = PartSizes { known: None };
        let total: u64 = (1..=10_000).map(|number| unknown.of(number) as u64).sum();
        assert!(total >= LARGEST);
        assert_eq!(PartSizes { known: Some(20 << 20) }.of(1) as u64, PART_BYTES);
    }

    #[test]
    fn a_checksum_is_spelled_as_s3_spells_it() {
        assert_eq!(crc32(b"123456789"), "y/Q5Jg==");
    }
}
