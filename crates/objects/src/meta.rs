//! What is known of an object before it is read.

use std::fmt;
use std::time::SystemTime;

use crate::ContentHash;

/// One object of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The name below the store's prefix or directory.
    pub key: String,
    /// Bytes as stored.
    pub size: u64,
    pub last_modified: SystemTime,
    /// Which content of the key. A listing knows no version ids: in a versioned bucket `Store::head` gives a better one
    /// for the same bytes, so compare [`Self::etag`] as well before loading again.
    pub version: Version,
    /// S3's content tag without its quotes. Compare only; it is no hash. A directory has none.
    pub etag: Option<String>,
    /// What the uploader said the bytes are (user metadata `aqueduct-sha256`), from `Store::head` only.
    pub sha256: Option<ContentHash>,
}

/// One immutable content of a key. Shown as a short stable text, which the ledger keeps: `v:<version id>`,
/// `e:<etag>:<size>`, `f:<size>:<mtime in ns>:<inode>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// S3's version id, in a bucket that keeps versions.
    Id(String),
    /// Without versions: the content tag, and the size because a tag is no hash.
    Etag { etag: String, size: u64 },
    /// A file: writing to it changes its size or time, replacing it changes the inode.
    File { size: u64, modified_ns: i128, inode: u64 },
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "v:{id}"),
            Self::Etag { etag, size } => write!(f, "e:{etag}:{size}"),
            Self::File { size, modified_ns, inode } => write!(f, "f:{size}:{modified_ns}:{inode}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_a_stable_text() {
        assert_eq!(Version::Id("3HL4k".into()).to_string(), "v:3HL4k");
        assert_eq!(Version::Etag { etag: "9b2c-3".into(), size: 7 }.to_string(), "e:9b2c-3:7");
        assert_eq!(Version::File { size: 7, modified_ns: -1, inode: 42 }.to_string(), "f:7:-1:42");
    }
}
