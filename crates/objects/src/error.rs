//! Why a store could not do what it was asked, named by what the reader would do next.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Compression;

/// The one readable sentence at the bottom of another library's chain of errors. Keeps their types out of our interface
/// and their twelve wrappers out of our messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause(String);

impl Cause {
    /// The innermost error that says something.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut innermost = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !text.trim().is_empty() {
                innermost = text;
            }
            next = error.source();
        }
        Self(innermost)
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error(
        "no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is \
         attached"
    )]
    NoCredentials { source: Cause },
    #[error(
        "there is no AWS profile {profile:?}, neither in {} nor in {}; correct AWS_PROFILE", config.display(), credentials.display()
    )]
    NoProfile { profile: String, config: PathBuf, credentials: PathBuf },
    /// Without its value, which may hold a password.
    #[error(
        "{variable} is no URL of a service; it is http:// or https:// and a host, without a user, such as \
         http://127.0.0.1:9000"
    )]
    Endpoint { variable: &'static str },
    #[error("AWS refused the credentials ({code}); renew them, and check the clock of this machine")]
    CredentialsRefused { code: String, source: Cause },
    #[error("access denied: {action} on {resource}")]
    AccessDenied { action: &'static str, resource: String, source: Cause },
    #[error("no AWS region; set AWS_REGION, or region in the profile")]
    NoRegion,
    #[error("bucket {bucket} is not in region {region}{}", expected.as_ref().map(|it| format!(" but in {it}; set AWS_REGION={it}")).unwrap_or_default())]
    WrongRegion { bucket: String, region: String, expected: Option<String> },
    #[error("bucket {bucket} does not exist at {endpoint}; check the name, the account and the region")]
    BucketMissing { bucket: String, endpoint: String },
    #[error("directory {} does not exist; upload a file first, or give another store", path.display())]
    DirectoryMissing { path: PathBuf },
    #[error("{} is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("{uri} does not exist")]
    NotFound { uri: String },
    #[error("{uri} exists already")]
    AlreadyExists { uri: String },
    #[error("{uri} is archived; restore it first")]
    Archived { uri: String },
    /// Overwritten, deleted or still growing; joining the halves would make a file nobody wrote.
    #[error("{uri} changed while it was being read")]
    ObjectChanged { uri: String },
    /// The bytes are not the ones the uploader vouched for.
    #[error("{uri} does not have the SHA-256 stored with it; upload it again")]
    ContentMismatch { uri: String },
    #[error("{source_name} changed while it was being uploaded; nothing was stored")]
    SourceChanged { source_name: String },
    #[error("key {key:?} cannot be a file below a directory: {reason}")]
    UnsafeKey { key: String, reason: &'static str },
    #[error("{} is a symbolic link, which a store does not follow; give the path it points to", path.display())]
    SymbolicLink { path: PathBuf },
    #[error("{} is {kind}, not a regular file", path.display())]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("{action} timed out at {endpoint}")]
    Timeout { action: &'static str, endpoint: String },
    #[error("cannot reach {endpoint}")]
    Unreachable { endpoint: String, source: Cause },
    /// The service asked for patience, or an answer broke off.
    #[error("{action} on {resource} failed for now")]
    Unavailable { action: &'static str, resource: String, source: Cause },
    /// Any other refusal of the service.
    #[error("{action} on {resource} failed ({code})")]
    Service { action: &'static str, resource: String, code: String, source: Cause },
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Reading from what is uploaded failed.
    #[error("read {source_name}")]
    Source { source_name: String, source: io::Error },
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The runtime ended under the work.
    #[error("{action} was interrupted")]
    Interrupted { action: &'static str },
}

impl StoreError {
    /// Whether the same call can succeed later with nobody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } | Self::Unavailable { .. } => true,
            Self::ObjectChanged { .. } | Self::SourceChanged { .. } | Self::Interrupted { .. } => true,
            Self::NoCredentials { .. }
            | Self::NoProfile { .. }
            | Self::Endpoint { .. }
            | Self::CredentialsRefused { .. }
            | Self::AccessDenied { .. }
            | Self::NoRegion
            | Self::WrongRegion { .. }
            | Self::BucketMissing { .. }
            | Self::DirectoryMissing { .. }
            | Self::NotADirectory { .. }
            | Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Archived { .. }
            | Self::ContentMismatch { .. }
            | Self::UnsafeKey { .. }
            | Self::SymbolicLink { .. }
            | Self::NotAFile { .. }
            | Self::Service { .. }
            | Self::Io { .. }
            | Self::Source { .. }
            | Self::Decompress(_) => false,
        }
    }

    /// Whether somebody has to grant something, or log in again.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::NoCredentials { .. }
            | Self::NoProfile { .. }
            | Self::CredentialsRefused { .. }
            | Self::AccessDenied { .. } => true,
            Self::NoRegion
            | Self::Endpoint { .. }
            | Self::WrongRegion { .. }
            | Self::BucketMissing { .. }
            | Self::DirectoryMissing { .. }
            | Self::NotADirectory { .. }
            | Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Archived { .. }
            | Self::ObjectChanged { .. }
            | Self::ContentMismatch { .. }
            | Self::SourceChanged { .. }
            | Self::UnsafeKey { .. }
            | Self::SymbolicLink { .. }
            | Self::NotAFile { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::Service { .. }
            | Self::Io { .. }
            | Self::Source { .. }
            | Self::Decompress(_)
            | Self::Interrupted { .. } => false,
        }
    }

    /// What a `Read` of this crate failed with: its own error, or the one of the stream called `name`.
    pub fn from_read(error: io::Error, name: &str) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::Source { source_name: name.to_owned(), source },
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::AccessDenied { action, resource: path.display().to_string(), source: Cause::of(&source) }
            }
            _ => Self::Io { action, path, source },
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        io::Error::other(error)
    }
}

/// Why a compressed stream was not taken to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    #[error("the {kind} stream ends too early; the file was cut short")]
    Truncated { kind: Compression },
    #[error("the {kind} stream is corrupt")]
    Corrupt { kind: Compression, source: io::Error },
    #[error("something else follows the {kind} stream from byte {offset} on")]
    TrailingGarbage { kind: Compression, offset: u64 },
    #[error("the {kind} stream holds more than {limit} bytes, the limit on decompressed size")]
    TooLarge { kind: Compression, limit: u64 },
    #[error("the {kind} stream grows more than {limit} times, the limit on the compression ratio")]
    Ratio { kind: Compression, limit: u64 },
    #[error(
        "the {kind} stream needs a window of more than {limit} bytes, the limit on memory; recompress it at level 19 or \
         below, without --long"
    )]
    Window { kind: Compression, limit: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_back_out_of_a_read_as_it_went_in() {
        let error: io::Error = StoreError::ObjectChanged { uri: "s3://b/k".into() }.into();
        assert!(matches!(StoreError::from_read(error, "x"), StoreError::ObjectChanged { .. }));
        let other = io::Error::new(io::ErrorKind::BrokenPipe, "pipe");
        assert_eq!(StoreError::from_read(other, "standard input").to_string(), "read standard input");
    }

    #[test]
    fn a_cause_is_the_innermost_message() {
        let error = StoreError::Io { action: "read", path: "x".into(), source: io::Error::other("disk on fire") };
        assert_eq!(Cause::of(&error).to_string(), "disk on fire");
    }
}
