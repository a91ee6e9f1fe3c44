//! One store, whichever kind it is.

use std::ops::Range;
use std::path::Path;

use crate::list::Pages;
use crate::url::Location;
use crate::{
    DirectoryStore, Glob, Lister, ObjectMeta, ObjectReader, PartReader, S3Settings, S3Store, StoreError, StoreUrl,
    Upload, Uploaded,
};

/// Keys looked at to find the nearest ones.
const NEAREST_SEARCHED: usize = 1000;

/// Where objects live. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Store {
    S3(S3Store),
    Directory(DirectoryStore),
}

impl Store {
    /// Opens a store to read from. A directory has to exist; a bucket is looked at by the first call, but credentials are
    /// there or the error is.
    pub async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Self::open_with(url, &S3Settings::default()).await
    }

    /// Like [`Store::open`], with some of the AWS SDK's settings replaced.
    pub async fn open_with(url: &StoreUrl, settings: &S3Settings) -> Result<Self, StoreError> {
        match &url.0 {
            Location::S3 { bucket, prefix } => S3Store::open(bucket, prefix, settings).await.map(Self::S3),
            Location::Directory(path) => DirectoryStore::open(path).map(Self::Directory),
        }
    }

    /// Opens a store to write to: a directory is made when it is missing, a bucket never is.
    pub async fn open_or_create(url: &StoreUrl) -> Result<Self, StoreError> {
        if let Location::Directory(path) = &url.0 {
            DirectoryStore::create(path)?;
        }
        Self::open(url).await
    }

    /// The directory a local file is in, and the file's key there: what reads a file without a store. The path a person
    /// types may lead through symbolic links.
    pub fn of_file(path: &Path) -> Result<(Self, String), StoreError> {
        let (store, key) = DirectoryStore::of_file(path)?;
        Ok((Self::Directory(store), key))
    }

    /// The object's full address: `s3://bucket/prefix/key` with the key as it is, or `file:///…` with each byte escaped
    /// that a URL cannot hold. Distinct objects have distinct addresses.
    pub fn uri_of(&self, key: &str) -> String {
        match self {
            Self::S3(store) => store.uri_of(key),
            Self::Directory(store) => store.uri_of(key),
        }
    }

    /// The objects a glob means, in key order, from its literal prefix on.
    pub fn list(&self, glob: &Glob) -> Lister {
        Lister::new(match self {
            Self::S3(store) => Pages::S3(Box::new(store.list(glob))),
            Self::Directory(store) => Pages::Directory(Some(Box::new(store.walk(glob)))),
        })
    }

    /// One object, with all that is known of it.
    pub async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        match self {
            Self::S3(store) => store.head(key).await,
            Self::Directory(store) => store.head(key).await,
        }
    }

    /// Opens exactly this version; when the key holds another one by now: [`StoreError::ObjectChanged`].
    pub async fn reader(&self, meta: &ObjectMeta) -> Result<ObjectReader, StoreError> {
        match self {
            Self::S3(store) => store.reader(meta).await,
            Self::Directory(store) => store.reader(meta).await,
        }
    }

    /// Opens a part of exactly this version, as stored; fails like [`Store::reader`]. `range` lies within the object.
    pub async fn part(&self, meta: &ObjectMeta, range: Range<u64>) -> Result<PartReader, StoreError> {
        match self {
            Self::S3(store) => store.part(meta, range).await,
            Self::Directory(store) => store.part(meta, range).await,
        }
    }

    /// Stores an object whole or not at all.
    pub async fn put(&self, key: &str, upload: Upload<'_>) -> Result<Uploaded, StoreError> {
        match self {
            Self::S3(store) => store.put(key, upload).await,
            Self::Directory(store) => store.put(key, upload).await,
        }
    }

    /// Waits until uploads that were dropped half-way are taken back: before the runtime ends.
    pub async fn settle(&self) {
        match self {
            Self::S3(store) => store.settle().await,
            Self::Directory(_) => {}
        }
    }

    /// Up to `count` keys that a person may have meant by `prefix`: those that start with it or, when none does, those
    /// below its parent, the most alike first.
    pub async fn nearest_keys(&self, prefix: &str, count: usize) -> Result<Vec<String>, StoreError> {
        let mut parent = prefix;
        loop {
            let mut keys = Vec::new();
            let mut lister = self.list(&Glob::below(parent));
            while keys.len() < NEAREST_SEARCHED {
                let Some(page) = lister.next_page().await? else { break };
                keys.extend(page.into_iter().map(|meta| meta.key));
            }
            if !keys.is_empty() || parent.is_empty() {
                // Stable: among equals the key order stays.
                keys.sort_by_key(|key| std::cmp::Reverse(shared_start(key, prefix)));
                keys.truncate(count);
                return Ok(keys);
            }
            parent = match parent.trim_end_matches('/').rfind('/') {
                Some(slash) => &parent[..=slash],
                None => "",
            };
        }
    }
}

fn shared_start(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count()
}
