//! The objects a glob means, page by page.

use crate::directory::Walk;
use crate::s3::Listing;
use crate::{ObjectMeta, StoreError};

/// Skipped names kept to show; more are only counted.
const MAX_SKIPPED_SHOWN: usize = 100;

/// A listing under way. Pages come in key order and hold at least one and at most 1,000 objects each.
#[derive(Debug)]
pub struct Lister {
    pages: Pages,
    skips: Skips,
}

#[derive(Debug)]
pub(crate) enum Pages {
    S3(Box<Listing>),
    /// `None` once a page failed.
    Directory(Option<Box<Walk>>),
}

/// A name that would have matched but is nothing we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The key it would have; invalid UTF-8 is shown as U+FFFD.
    pub name: String,
    pub reason: SkipReason,
}

/// Why a name was left out of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    #[error("symbolic link, not followed")]
    SymbolicLink,
    #[error("not a regular file")]
    NotAFile,
    #[error("name starts with a dot")]
    Hidden,
    #[error("still being written, by its name")]
    Unfinished,
    #[error("name is not UTF-8")]
    NotUtf8,
    #[error("name holds a backslash")]
    Backslash,
    #[error("name that Windows gives another meaning")]
    Reserved,
    #[error("directory is not readable")]
    Unreadable,
    #[error("directories are nested too deep")]
    TooDeep,
}

/// What a listing passed over.
#[derive(Debug, Default)]
pub(crate) struct Skips {
    shown: Vec<Skipped>,
    count: u64,
    unlisted: u64,
}

impl SkipReason {
    /// Whether nobody can tell how many objects the name stands for.
    fn hides_objects(self) -> bool {
        match self {
            Self::Unreadable | Self::TooDeep => true,
            Self::SymbolicLink
            | Self::NotAFile
            | Self::Hidden
            | Self::Unfinished
            | Self::NotUtf8
            | Self::Backslash
            | Self::Reserved => false,
        }
    }
}

impl Skips {
    pub(crate) fn add(&mut self, name: impl Into<String>, reason: SkipReason) {
        self.count += 1;
        self.unlisted += u64::from(reason.hides_objects());
        if self.shown.len() < MAX_SKIPPED_SHOWN {
            self.shown.push(Skipped { name: name.into(), reason });
        }
    }
}

impl Lister {
    pub(crate) fn new(pages: Pages) -> Self {
        Self { pages, skips: Skips::default() }
    }

    /// The next objects in key order; `None` at the end.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ObjectMeta>>, StoreError> {
        match &mut self.pages {
            Pages::S3(listing) => listing.next_page().await,
            Pages::Directory(walk) => {
                let Some(mut moved) = walk.take() else {
                    return Ok(None);
                };
                let mut skips = std::mem::take(&mut self.skips);
                let work = tokio::task::spawn_blocking(move || {
                    let page = moved.next_page(&mut skips);
                    (moved, skips, page)
                });
                let (moved, skips, page) = work.await.map_err(|_| StoreError::Interrupted { action: "list" })?;
                self.skips = skips;
                let page = page?;
                *walk = Some(moved);
                Ok((!page.is_empty()).then_some(page))
            }
        }
    }

    /// What was passed over so far: the first hundred names. Only a directory has any.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skips.shown
    }

    /// How many names were passed over so far.
    pub fn skipped_count(&self) -> u64 {
        self.skips.count
    }

    /// How many of those are directories that could not be listed, so that objects may be missing.
    pub fn unlisted_count(&self) -> u64 {
        self.skips.unlisted
    }
}
