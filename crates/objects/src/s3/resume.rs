//! Which parts of a file are in the store already, from an upload that was killed.
//!
//! The store itself remembers: an upload nobody completed can be listed, and so can its parts with their checksums. What
//! it does not tell is the metadata the upload was begun with, and that holds the SHA-256 of the whole. So each upload of
//! ours says what it is for in one more part, the *mark*, which has the highest number there is and is left out when the
//! upload is completed. Only an upload with the mark of these very bytes is continued.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use aws_sdk_s3::operation::list_parts::ListPartsOutput;
use aws_sdk_s3::types::{CompletedPart, Part};
use md5::{Digest as _, Md5};

use super::write::{FileParts, checksum};
use super::{S3Store, bare_etag, size_of};
use crate::upload::{KnownFile, Terms};
use crate::{Cause, Fingerprint, StoreError};

/// Shorter files are sent anew sooner than asked about.
pub(super) const WORTH_RESUMING: u64 = 32 << 20;
/// S3 takes no higher part number; no part of a file has it.
pub(super) const MARK_NUMBER: i32 = 10_000;
/// Uploads of one key looked into. More are somebody's broken loop, and each costs a request.
const MAX_LOOKED_INTO: usize = 8;

/// What an upload is for, as the bytes of its mark.
pub(super) fn mark(print: &Fingerprint, part_bytes: u64, content_type: &str) -> Vec<u8> {
    let (sha256, bytes) = (print.sha256(), print.bytes());
    let text = format!("aqueduct upload 1\nsha256 {sha256}\nbytes {bytes}\npart {part_bytes}\ntype {content_type}\n");
    text.into_bytes()
}

/// What there was before an upload.
#[derive(Debug)]
pub(super) enum Earlier {
    /// The store does not say: a mark would be of no use either.
    Unknown,
    Nothing,
    /// An upload of these bytes, with the parts of it that are whole.
    Upload {
        id: String,
        finished: HashMap<i32, CompletedPart>,
    },
}

impl S3Store {
    /// Best effort: whatever goes wrong, the file is sent anew.
    pub(super) async fn earlier(
        &self,
        key: &str,
        file: &Arc<KnownFile>,
        parts: &FileParts,
        terms: &Terms<'_>,
    ) -> Earlier {
        match self.find_earlier(key, file, parts, terms).await {
            Ok(found) => found,
            Err(cause) => {
                tracing::debug!(key, %cause, "cannot tell whether an upload was begun before; it starts anew");
                Earlier::Unknown
            }
        }
    }

    async fn find_earlier(
        &self,
        key: &str,
        file: &Arc<KnownFile>,
        parts: &FileParts,
        terms: &Terms<'_>,
    ) -> Result<Earlier, Cause> {
        let full_key = self.full_key(key);
        let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&full_key);
        // The key sorts before all others that start with it.
        let answer = request.send().await.map_err(|error| Cause::of(&error))?;
        let ours = answer.uploads().iter().filter(|upload| upload.key() == Some(&full_key));
        let mark = mark(&file.print, parts.part_bytes, terms.content_type);
        let mut best = Earlier::Nothing;
        let mut most = 0;
        for id in ours.filter_map(|upload| upload.upload_id()).take(MAX_LOOKED_INTO) {
            let listed = self.list_all_parts(&full_key, id).await?;
            let is_ours = listed.iter().any(|part| part.part_number() == Some(MARK_NUMBER) && holds(part, &mark));
            if !is_ours || listed.len() <= most {
                continue;
            }
            most = listed.len();
            let finished = finished_parts(file, parts, listed).await?;
            best = Earlier::Upload { id: id.to_owned(), finished };
        }
        Ok(best)
    }

    async fn list_all_parts(&self, full_key: &str, id: &str) -> Result<Vec<Part>, Cause> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let request = self.client.list_parts().bucket(&self.bucket).key(full_key).upload_id(id);
            let answer = request.set_part_number_marker(after.take()).send().await;
            let ListPartsOutput { parts, is_truncated, next_part_number_marker, .. } =
                answer.map_err(|error| Cause::of(&error))?;
            let parts = parts.unwrap_or_default();
            if parts.is_empty() {
                return Ok(all);
            }
            all.extend(parts);
            match next_part_number_marker {
                Some(next) if is_truncated == Some(true) => after = Some(next),
                _ => return Ok(all),
            }
        }
    }
}

/// The listed parts that are what the file holds in their place. Where the store lists no checksum, its tag has to be the
/// MD5 of the bytes, which are read for it.
async fn finished_parts(
    file: &Arc<KnownFile>,
    parts: &FileParts,
    listed: Vec<Part>,
) -> Result<HashMap<i32, CompletedPart>, Cause> {
    let (file, parts) = (Arc::clone(file), parts.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut finished = HashMap::new();
        let mut buffer = Vec::new();
        for part in listed {
            let Some((number, range)) = part.part_number().and_then(|number| Some((number, parts.range(number)?)))
            else {
                continue;
            };
            let crc32 = file.print.crc32(&range);
            let same = size_of(part.size()) == range.end - range.start
                && match part.checksum_crc32() {
                    Some(listed) => listed == checksum(crc32),
                    None => {
                        buffer.resize(usize::try_from(range.end - range.start).unwrap_or(usize::MAX), 0);
                        file.read(&range, &mut buffer)?;
                        part.e_tag().map(bare_etag) == Some(md5(&buffer))
                    }
                };
            if same {
                let done = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag().map(str::to_owned));
                finished.insert(number, done.checksum_crc32(checksum(crc32)).build());
            }
        }
        Ok(finished)
    });
    match work.await {
        Ok(finished) => finished.map_err(|error: StoreError| Cause::of(&error)),
        Err(error) => Err(Cause::of(&error)),
    }
}

/// Whether a listed part is these bytes, by all that is listed of it.
fn holds(part: &Part, bytes: &[u8]) -> bool {
    let tag = part.e_tag().map(bare_etag).unwrap_or_default();
    size_of(part.size()) == bytes.len() as u64
        && match part.checksum_crc32() {
            Some(listed) => listed == checksum(crc32fast::hash(bytes)),
            None => tag == md5(bytes),
        }
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_by_its_checksum_else_by_its_tag() {
        let part = |size, tag: &str, crc32: Option<u32>| {
            Part::builder().size(size).e_tag(format!("\"{tag}\"")).set_checksum_crc32(crc32.map(checksum)).build()
        };
        let tag = "900150983cd24fb0d6963f7d28e17f72";
        assert!(holds(&part(3, tag, None), b"abc"));
        assert!(holds(&part(3, "encrypted", Some(crc32fast::hash(b"abc"))), b"abc"));
        assert!(!holds(&part(3, tag, Some(1)), b"abc"));
        assert!(!holds(&part(3, "encrypted", None), b"abc"));
        assert!(!holds(&part(4, tag, None), b"abc"));
    }

    #[test]
    fn a_mark_is_of_the_bytes_their_division_and_their_type() {
        let print = |bytes: &[u8]| {
            let mut fingerprinter = crate::Fingerprinter::default();
            fingerprinter.update(bytes);
            fingerprinter.finish()
        };
        let one = mark(&print(b"abc"), 6, "text/csv");
        assert_eq!(one, mark(&print(b"abc"), 6, "text/csv"));
        assert_ne!(one, mark(&print(b"abd"), 6, "text/csv"));
        assert_ne!(one, mark(&print(b"abc"), 8, "text/csv"));
        assert_ne!(one, mark(&print(b"abc"), 6, "application/gzip"));
    }
}
