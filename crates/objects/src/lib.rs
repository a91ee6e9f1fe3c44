//! Where objects live: an S3 prefix or a directory, behind one [`Store`].
//!
//! Lists objects by [`Glob`], pins one version of one object and reads exactly that ([`ObjectReader`]), takes gzip, zstd
//! and bzip2 off a stream by its content ([`Decompressed`]), and stores new objects whole or not at all ([`Upload`]),
//! going on with an upload that was killed.
//!
//! # Guarantees
//! - Pinned: a reader yields the bytes of the version it was opened for, or [`StoreError::ObjectChanged`].
//! - Whole: a stream that was cut short, corrupted or followed by something else ends in an error, never in a short file.
//! - Bounded: at most [`READ_AHEAD`] bytes of an object wait in memory, whatever its size; decompression stops at its
//!   [`Limits`]; all files on their way into one S3 store hold 24 MiB together.
//! - Contained: a key never leads out of a directory store, and no symbolic link is followed on the way.
//! - Both kinds of store keep the same promises; `tests/` runs the same tests over both.
//!
//! # Never
//! What the bytes mean (no CSV), and where they go (no SQL). No AWS type appears in the interface.

mod binary;
mod compression;
mod content;
mod directory;
mod error;
mod fingerprint;
mod glob;
mod list;
mod meta;
mod positioned;
mod read_ahead;
mod reader;
mod rename;
mod s3;
mod store;
mod upload;
mod url;

pub use binary::refuse_binary;
pub use compression::{Compression, Decompressed, Limits};
pub use content::ContentHash;
pub use directory::{DirectoryStore, is_unfinished};
pub use error::{Cause, DecompressError, StoreError};
pub use fingerprint::{Fingerprint, Fingerprinter, Fingerprinting};
pub use glob::{Glob, GlobError};
pub use list::{Lister, SkipReason, Skipped};
pub use meta::{ObjectMeta, Version};
pub use positioned::read_at;
pub use read_ahead::ReadAhead;
pub use reader::{ObjectReader, PartReader, READ_AHEAD, ReadProgress, ReadSummary};
pub use rename::rename;
pub use s3::{S3Settings, S3Store};
pub use store::Store;
pub use upload::{Upload, Uploaded};
pub use url::{StoreUrl, StoreUrlError};
