//! Directories of Windows: a directory is opened without letting others rename or delete it, and so are those above it.
//! What is done below its path is done in it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use winapi_util::file::information;

use super::{Fault, Kind, Look};

// Of winnt.h and winbase.h.
const FILE_LIST_DIRECTORY: u32 = 0x1;
const FILE_READ_ATTRIBUTES: u32 = 0x80;
const FILE_SHARE_READ: u32 = 0x1;
const FILE_SHARE_WRITE: u32 = 0x2;
const FILE_SHARE_DELETE: u32 = 0x4;
/// The link itself and not what it leads to.
const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
/// Without it no directory is opened.
const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
/// Files count 100 ns from 1601.
const FROM_1601_TO_1970: i128 = 116_444_736_000_000_000;

#[derive(Debug)]
pub(in crate::directory) struct Folder {
    path: PathBuf,
    /// From the store's directory down to this one, each kept where it is.
    held: Vec<Arc<File>>,
}

/// A copy takes the rights of the directory it is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode;

pub(crate) fn mode_of(_: Option<&Metadata>) -> Mode {
    Mode
}

impl Folder {
    /// The directory at a path, whose links are followed: a person wrote it.
    pub(in crate::directory) fn open(path: &Path) -> io::Result<Self> {
        let handle = hold(path, FILE_FLAG_BACKUP_SEMANTICS)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_owned(), held: vec![Arc::new(handle)] })
    }

    /// Another handle of the same directory.
    pub(in crate::directory) fn again(&self) -> io::Result<Self> {
        Ok(Self { path: self.path.clone(), held: self.held.clone() })
    }

    pub(in crate::directory) fn enter(&self, name: &str) -> Result<Self, Fault> {
        let path = self.path.join(name);
        let handle = hold(&path, FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)?;
        if kind_of(handle.metadata()?.file_type()) != Kind::Directory {
            return Err(Fault::Barred);
        }
        let mut held = self.held.clone();
        held.push(Arc::new(handle));
        Ok(Self { path, held })
    }

    /// Makes a directory; one that is there already is as good.
    pub(in crate::directory) fn make(&self, name: &str) -> io::Result<()> {
        match std::fs::create_dir(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    pub(in crate::directory) fn look(&self, name: &str) -> Result<Look, Fault> {
        let file = OpenOptions::new()
            .access_mode(FILE_READ_ATTRIBUTES)
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
            .open(self.path.join(name))?;
        Ok(Self::look_at(&file)?)
    }

    /// What an open file is.
    pub(in crate::directory) fn look_at(file: &File) -> io::Result<Look> {
        let kind = kind_of(file.metadata()?.file_type());
        let found = information(file)?;
        let modified = i128::from(found.last_write_time().unwrap_or_default());
        Ok(Look {
            kind,
            size: found.file_size(),
            modified_ns: (modified - FROM_1601_TO_1970) * 100,
            inode: found.file_index(),
        })
    }

    /// A link may have been put in the file's place since somebody looked; then this is another file than was seen.
    pub(in crate::directory) fn open_file(&self, name: &str) -> Result<File, Fault> {
        // Opened itself, a file that is kept in a cloud would have no content.
        match self.look(name)?.kind {
            Kind::Link => Err(Fault::Barred),
            _ => Ok(File::open(self.path.join(name))?),
        }
    }

    /// A new file.
    pub(in crate::directory) fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))
    }

    pub(in crate::directory) fn set_mode(_: &File, _: Mode) -> io::Result<()> {
        Ok(())
    }

    /// A second name for a file; one that is taken is an error.
    pub(in crate::directory) fn link(&self, name: &str, new: &str) -> io::Result<()> {
        std::fs::hard_link(self.path.join(name), self.path.join(new))
    }

    /// Another name for a file, in place of whatever file has it.
    pub(in crate::directory) fn rename(&self, name: &str, new: &str) -> io::Result<()> {
        let new = self.path.join(new);
        // Windows says that access is denied.
        if new.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        crate::rename(&self.path.join(name), &new)
    }

    pub(in crate::directory) fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    /// Names are in the file system's journal already.
    pub(in crate::directory) fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Hands each name to `visit`, in no order. One that is not Unicode is handed on as bytes that are no UTF-8.
    pub(in crate::directory) fn each_name(&self, mut visit: impl FnMut(&[u8], Kind)) -> io::Result<()> {
        for found in std::fs::read_dir(&self.path)? {
            let found = found?;
            let kind = found.file_type().map_or(Kind::Other, kind_of);
            visit(found.file_name().as_encoded_bytes(), kind);
        }
        Ok(())
    }
}

/// A directory that stays where it is until the handle is dropped.
fn hold(path: &Path, flags: u32) -> io::Result<File> {
    OpenOptions::new()
        .access_mode(FILE_LIST_DIRECTORY | FILE_READ_ATTRIBUTES)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
        .custom_flags(flags)
        .open(path)
}

fn kind_of(kind: std::fs::FileType) -> Kind {
    // A junction is a link for the standard library as well.
    match () {
        () if kind.is_symlink() => Kind::Link,
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_file() => Kind::File,
        () => Kind::Other,
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename => Self::Missing,
            io::ErrorKind::NotADirectory => Self::Barred,
            _ => Self::Io(error),
        }
    }
}
