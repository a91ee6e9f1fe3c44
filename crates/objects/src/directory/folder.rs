//! One open directory, and the files in it by their names. A name is one component of a path, and a symbolic link is
//! never followed: what a name leads to cannot change under the hands of whoever holds the directory.
//!
//! Unix opens a name below an open directory. Windows has no such call; there an open directory can be neither renamed
//! nor replaced, so its path stays its own for as long as it is held.

use std::fs::File;
use std::io;

use crate::Version;

#[cfg(unix)]
#[path = "unix.rs"]
mod system;
#[cfg(windows)]
#[path = "windows.rs"]
mod system;

pub(super) use system::Folder;
pub(crate) use system::{Mode, mode_of};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// Windows' junctions are links as well.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// Since 1970; times before that exist on disks.
    pub(super) modified_ns: i128,
    /// Distinct for each file of a file system, whatever it is called.
    pub(super) inode: u64,
}

impl Look {
    pub(super) fn version(&self) -> Version {
        Version::File { size: self.size, modified_ns: self.modified_ns, inode: self.inode }
    }
}

/// Why a name could not be opened.
#[derive(Debug)]
pub(super) enum Fault {
    Missing,
    /// A link, or something other than a directory where one is needed.
    Barred,
    Io(io::Error),
}

impl Fault {
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Missing => io::ErrorKind::NotFound.into(),
            Self::Barred => io::ErrorKind::NotADirectory.into(),
            Self::Io(error) => error,
        }
    }
}

/// The version of an open file.
pub(crate) fn version_of(file: &File) -> io::Result<Version> {
    Ok(Folder::look_at(file)?.version())
}
