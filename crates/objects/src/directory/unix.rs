//! Directories of Unix: each name is opened below a descriptor.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode as Bits, OFlags, Stat};
use rustix::io::Errno;

use super::{Fault, Kind, Look};

#[derive(Debug)]
pub(in crate::directory) struct Folder(OwnedFd);

/// Permission bits of a file.
pub(crate) type Mode = u32;

/// Permission bits for a copy: a file's own without execution, else the owner's alone.
pub(crate) fn mode_of(original: Option<&Metadata>) -> Mode {
    original.map_or(0o600, |meta| meta.permissions().mode() & 0o644 | 0o600)
}

impl Folder {
    /// The directory at a path, whose links are followed: a person wrote it.
    pub(in crate::directory) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Bits::empty())?))
    }

    /// Another handle of the same directory.
    pub(in crate::directory) fn again(&self) -> io::Result<Self> {
        self.enter(".").map_err(Fault::into_io)
    }

    pub(in crate::directory) fn enter(&self, name: &str) -> Result<Self, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(&self.0, name, flags, Bits::empty())?))
    }

    /// Makes a directory; one that is there already is as good.
    pub(in crate::directory) fn make(&self, name: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.0, name, Bits::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::directory) fn look(&self, name: &str) -> Result<Look, Fault> {
        Ok(rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| of_stat(&stat))?)
    }

    /// What an open file is.
    pub(in crate::directory) fn look_at(file: &File) -> io::Result<Look> {
        Ok(of_stat(&rustix::fs::fstat(file)?))
    }

    pub(in crate::directory) fn open_file(&self, name: &str) -> Result<File, Fault> {
        // NONBLOCK: opening a pipe must not wait for somebody to write into it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, Bits::empty())?.into())
    }

    /// A new file that nobody else may read.
    pub(in crate::directory) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, Bits::from_raw_mode(0o600))?.into())
    }

    pub(in crate::directory) fn set_mode(file: &File, mode: Mode) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// A second name for a file; one that is taken is an error.
    pub(in crate::directory) fn link(&self, name: &str, new: &str) -> io::Result<()> {
        Ok(rustix::fs::linkat(&self.0, name, &self.0, new, AtFlags::empty())?)
    }

    /// Another name for a file, in place of whatever file has it.
    pub(in crate::directory) fn rename(&self, name: &str, new: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, name, &self.0, new)?)
    }

    pub(in crate::directory) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Makes new names survive a crash.
    pub(in crate::directory) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// Hands each name to `visit`, in no order, as the bytes it is made of.
    pub(in crate::directory) fn each_name(&self, mut visit: impl FnMut(&[u8], Kind)) -> io::Result<()> {
        let mut listing = Dir::read_from(&self.0)?;
        while let Some(found) = listing.read() {
            let found = found?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut kind = found.file_type();
            if kind == FileType::Unknown {
                // Some file systems do not tell in a listing.
                let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW);
                kind = stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
            }
            visit(name.to_bytes(), kind_of(kind));
        }
        Ok(())
    }
}

fn of_stat(stat: &Stat) -> Look {
    let (seconds, nanoseconds) = (stat.st_mtime as i128, stat.st_mtime_nsec as i128);
    Look {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified_ns: seconds * 1_000_000_000 + nanoseconds,
        inode: stat.st_ino,
    }
}

fn kind_of(kind: FileType) -> Kind {
    match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Missing,
            Errno::LOOP | Errno::NOTDIR => Self::Barred,
            other => Self::Io(other.into()),
        }
    }
}
