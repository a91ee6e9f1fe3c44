//! The address of a store, as a person writes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where objects live: `s3://bucket[/prefix]` or a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreUrl(pub(crate) Location);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Location {
    /// `prefix` is empty or ends in `/`.
    S3 {
        bucket: String,
        prefix: String,
    },
    Directory(PathBuf),
}

/// Why a text is no store. Each message says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    #[error("the store is empty; write s3://bucket[/prefix] or the path of a directory")]
    Empty,
    #[error("unknown kind of store {scheme}://; write s3://bucket[/prefix] or the path of a directory")]
    UnknownScheme { scheme: String },
    #[error("{text} names no bucket; write s3://bucket or s3://bucket/prefix")]
    NoBucket { text: String },
    #[error("{bucket:?} is no bucket name: 3 to 63 of a-z, 0-9, dot and hyphen")]
    BucketName { bucket: String },
    #[error("{text} is no file URL; write file:///absolute/path or the path itself")]
    FileUrl { text: String },
}

impl StoreUrl {
    /// A directory, whatever its name looks like.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self(Location::Directory(path.into()))
    }

    /// The directory, when it is one.
    pub fn as_directory(&self) -> Option<&Path> {
        match &self.0 {
            Location::Directory(path) => Some(path),
            Location::S3 { .. } => None,
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if text.trim().is_empty() {
            return Err(StoreUrlError::Empty);
        }
        // `s3:bucket` is a slip for a bucket far more often than a directory of that name.
        if let Some(rest) = text.strip_prefix("s3:")
            && !rest.starts_with("//")
        {
            return Err(StoreUrlError::NoBucket { text: without_secrets(text) });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::directory(text));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => s3_location(text, rest).map(Self),
            "file" => file_path(rest)
                .map(Self::directory)
                .ok_or_else(|| StoreUrlError::FileUrl { text: without_secrets(text) }),
            // A path such as `./a://b` is a path; a scheme has no slash.
            other if other.contains(['/', '.']) => Ok(Self::directory(text)),
            _ => Err(StoreUrlError::UnknownScheme { scheme: scheme.to_owned() }),
        }
    }
}

fn s3_location(text: &str, rest: &str) -> Result<Location, StoreUrlError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(StoreUrlError::NoBucket { text: without_secrets(text) });
    }
    // Upper case and underscore are not allowed any more, but buckets of that age still exist.
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(legal) {
        let bucket = without_secrets(&format!("s3://{bucket}")).split_off("s3://".len());
        return Err(StoreUrlError::BucketName { bucket });
    }
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix })
}

/// A URL as it may be shown: without user and password, and without a query, which may be a signature.
pub(crate) fn without_secrets(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) =
        plain.split_once("://").map_or(("", plain), |(_, rest)| plain.split_at(plain.len() - rest.len()));
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}{}", &rest[user..])
}

/// `file:///a%20b` is `/a b`. A host is refused, but on Windows, where `file://host/share/a` is `\\host\share\a`.
fn file_path(rest: &str) -> Option<PathBuf> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if path.starts_with('/') {
        return path_of(percent_decode(path.as_bytes())?);
    }
    let names_a_host = !path.is_empty() && !path.contains('@');
    if cfg!(windows) && names_a_host { path_of(percent_decode(format!("//{path}").as_bytes())?) } else { None }
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// `/C:/data` is `C:/data`.
#[cfg(windows)]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    let text = String::from_utf8(bytes).ok()?;
    let drive = text.strip_prefix('/').filter(|rest| matches!(rest.as_bytes(), [b'a'..=b'z' | b'A'..=b'Z', b':', ..]));
    Some(PathBuf::from(drive.unwrap_or(&text)))
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Location::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{}", prefix.trim_end_matches('/')),
            Location::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `file:///…` of an absolute path, with each byte escaped that a URL cannot hold, so that distinct paths stay distinct
/// whatever bytes they are made of.
pub(crate) fn file_uri(path: &Path) -> String {
    let mut uri = String::from("file://");
    let bytes = path.as_os_str().as_encoded_bytes();
    #[cfg(windows)]
    let bytes = &windows_path(bytes, &mut uri);
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// A path as `canonicalize` gives it, as it stands behind `file://`: `\\?\C:\a` as `/C:/a`, `\\?\UNC\host\a` as `host/a`. The drive's
/// colon goes into `uri` at once, because it stays what it is.
#[cfg(windows)]
fn windows_path(path: &[u8], uri: &mut String) -> Vec<u8> {
    let mut rest = path.strip_prefix(br"\\?\").unwrap_or(path);
    if let Some(host) = rest.strip_prefix(br"UNC\").or_else(|| rest.strip_prefix(br"\\")) {
        rest = host;
    } else if let [drive @ (b'a'..=b'z' | b'A'..=b'Z'), b':', below @ ..] = rest {
        uri.extend(['/', char::from(*drive), ':']);
        rest = below;
    }
    rest.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

/// `None` when a `%` is not followed by two hexadecimal digits.
pub(crate) fn percent_decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digit = |at: usize| tail.get(at).and_then(|&digit| char::from(digit).to_digit(16));
            let value = digit(0)? * 16 + digit(1)?;
            decoded.push(u8::try_from(value).ok()?);
            rest = &tail[2..];
        } else {
            decoded.push(byte);
            rest = tail;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, prefix: &str) -> StoreUrl {
        StoreUrl(Location::S3 { bucket: bucket.into(), prefix: prefix.into() })
    }

    #[test]
    fn nothing_secret_of_a_url_is_shown() {
        for (url, shown) in [
            ("http://user:secret@host:9000/a@b", "http://host:9000/a@b"),
            ("https://b.s3.amazonaws.com/x?X-Amz-Signature=secret", "https://b.s3.amazonaws.com/x"),
            ("http://secret@u@host", "http://host"),
            ("s3:bucket", "s3:bucket"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
        for wrong in ["s3://user:secret@bucket/x", "s3:u:secret@x?y=secret", "file://u:secret@host/x"] {
            let error = wrong.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(!error.contains("secret@") && !error.contains("=secret"), "{error}");
        }
    }

    #[test]
    fn a_bucket_with_or_without_prefix_is_a_store() {
        for (text, bucket, prefix, shown) in [
            ("s3://data", "data", "", "s3://data"),
            ("s3://data/", "data", "", "s3://data"),
            ("s3://data/a/b", "data", "a/b/", "s3://data/a/b"),
            ("S3://data/a/b//", "data", "a/b/", "s3://data/a/b"),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url, s3(bucket, prefix));
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn anything_without_a_scheme_is_a_directory() {
        for text in ["./.aqueduct/store", "/data", "data", "../x y", "./odd://name"] {
            assert_eq!(text.parse(), Ok(StoreUrl::directory(text)));
        }
        assert_eq!("file:///a%20b/%C3%A9".parse(), Ok(StoreUrl::directory("/a b/é")));
    }

    #[test]
    fn a_wrong_store_is_refused_with_what_to_write() {
        for (text, expected) in [
            ("", "the store is empty"),
            ("s3://", "names no bucket"),
            ("s3:///key", "names no bucket"),
            ("s3:bucket", "write s3://bucket"),
            ("s3://a", "no bucket name"),
            ("s3://user:secret@bucket", "no bucket name"),
            ("https://bucket.s3.amazonaws.com", "unknown kind of store https://"),
            ("gs://bucket", "unknown kind of store gs://"),
            ("file://host/path", "no file URL"),
            ("file:///%zz", "no file URL"),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_uri_escapes_what_a_url_cannot_hold() {
        assert_eq!(file_uri(Path::new("/a b/Peña#1%.csv")), "file:///a%20b/Pe%C3%B1a%231%25.csv");
    }
}
