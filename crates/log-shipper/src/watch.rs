//! What happens in directories: files made, renamed, written to. A hint and no more: whoever asks looks at the files
//! themselves, and looks around now and then in any case, because hints can be lost.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// What was noticed since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that were written to.
    pub written: BTreeSet<PathBuf>,
    /// Files that are new or have a new name: the name they had first, and the one they have now.
    pub made: Vec<(PathBuf, PathBuf)>,
    /// Something else is there, or is not there any more: look around.
    pub look_around: bool,
}

/// The kernel's hints about some directories.
#[derive(Debug)]
pub struct Watch {
    /// There may be none to be had: a host has a limit of them.
    inotify: Option<AsyncFd<OwnedFd>>,
    /// By the kernel's number of a directory, its paths: a link may lead to it, too.
    directories: HashMap<i32, BTreeSet<PathBuf>>,
    by_path: HashMap<PathBuf, i32>,
    /// Directories that cannot be watched.
    unwatched: BTreeSet<PathBuf>,
    names: Names,
}

/// What files were called first. Renaming is told in two hints that may be read apart, and a file may be renamed several times
/// before anybody has looked at it.
#[derive(Debug, Default)]
struct Names {
    first: HashMap<PathBuf, PathBuf>,
    /// Files that left a name and have not come to another yet, with how often was looked since.
    moving: HashMap<u32, (PathBuf, u8)>,
}

impl Watch {
    pub fn open() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of descriptors that are not owned; this one is"
        )]
        let register = AsyncFd::new;
        let inotify = inotify.and_then(register).inspect_err(|error| {
            tracing::warn!(%error, "the kernel gives no hints about files: they are looked at once a second");
        });
        Self {
            inotify: inotify.ok(),
            directories: HashMap::new(),
            by_path: HashMap::new(),
            unwatched: BTreeSet::new(),
            names: Names::default(),
        }
    }

    /// Whether hints come of all that is to be watched.
    pub fn is_complete(&self) -> bool {
        self.inotify.is_some() && self.unwatched.is_empty()
    }

    /// Watches these directories and no others; true when one is new, in which something may have happened before.
    pub fn set(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let gone: Vec<PathBuf> = self.by_path.keys().filter(|path| !directories.contains(*path)).cloned().collect();
        for path in gone {
            forget(inotify, &mut self.by_path, &mut self.directories, &path);
        }
        let mut is_new = false;
        let mut unwatched = BTreeSet::new();
        for path in directories {
            if self.by_path.contains_key(path) {
                continue;
            }
            if is_remote(path) {
                unwatched.insert(path.clone());
                continue;
            }
            let what = WatchFlags::CREATE
                | WatchFlags::MODIFY
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            match inotify::add_watch(inotify, path.as_path(), what) {
                Ok(watch) => {
                    self.directories.entry(watch).or_default().insert(path.clone());
                    self.by_path.insert(path.clone(), watch);
                    is_new = true;
                }
                // It will be there one day, which the directory above it tells.
                Err(Errno::NOENT) if path.parent().is_some_and(|above| directories.contains(above)) => {}
                Err(error) => {
                    if !self.unwatched.contains(path) {
                        tracing::info!(path = %path.display(), %error, "a directory cannot be watched: it is looked at once a second");
                    }
                    unwatched.insert(path.clone());
                }
            }
        }
        self.unwatched = unwatched;
        is_new
    }

    /// Waits for the first hint, and takes all that are there.
    pub async fn changes(&mut self) -> Changes {
        loop {
            let Some(inotify) = &self.inotify else { return std::future::pending().await };
            match inotify.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return Changes { look_around: true, ..Changes::default() },
            }
            let changes = self.take();
            if changes != Changes::default() {
                return changes;
            }
        }
    }

    /// The hints that are there.
    fn take(&mut self) -> Changes {
        let mut changes = Changes::default();
        let Some(inotify) = &self.inotify else { return changes };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut gone = Vec::new();
        {
            let mut reader = inotify::Reader::new(inotify, &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => continue,
                    Err(_) => {
                        changes.look_around = true;
                        break;
                    }
                };
                let flags = event.events();
                if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                    tracing::warn!("the kernel had more hints about files than it keeps; all of them are looked at");
                    changes.look_around = true;
                    continue;
                }
                let Some(paths) = self.directories.get(&event.wd()) else { continue };
                if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED) {
                    gone.extend(paths.iter().cloned());
                    changes.look_around = true;
                    continue;
                }
                let Some(name) = event.file_name() else { continue };
                for directory in paths {
                    let path = directory.join(OsStr::from_bytes(name.to_bytes()));
                    self.names.note(&mut changes, flags, path, event.cookie());
                }
            }
        }
        self.names.looked();
        for path in &gone {
            forget(inotify, &mut self.by_path, &mut self.directories, path);
        }
        changes
    }
}

/// Whether others may write to a directory without this kernel's knowledge. The numbers are those of statfs(2).
fn is_remote(path: &Path) -> bool {
    const NFS: u32 = 0x6969;
    const SMB: [u32; 2] = [0xFF53_4D42, 0xFE53_4D42];
    const FUSE: u32 = 0x6573_5546;
    const CEPH: u32 = 0x00C3_6400;
    const V9FS: u32 = 0x0102_1997;
    rustix::fs::statfs(path).is_ok_and(|found| {
        let kind = found.f_type as u32;
        [NFS, FUSE, CEPH, V9FS].contains(&kind) || SMB.contains(&kind)
    })
}

fn forget(
    inotify: &AsyncFd<OwnedFd>,
    by_path: &mut HashMap<PathBuf, i32>,
    directories: &mut HashMap<i32, BTreeSet<PathBuf>>,
    path: &Path,
) {
    if let Some(watch) = by_path.remove(path) {
        let Some(paths) = directories.get_mut(&watch) else { return };
        paths.remove(path);
        if paths.is_empty() {
            directories.remove(&watch);
            // It is gone with its directory, if that is gone.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }
}

impl Names {
    fn note(&mut self, changes: &mut Changes, flags: ReadFlags, path: PathBuf, cookie: u32) {
        if flags.contains(ReadFlags::ISDIR) {
            changes.look_around = true;
        } else if flags.contains(ReadFlags::MODIFY) {
            changes.written.insert(path);
        } else if flags.contains(ReadFlags::CREATE) {
            self.first.remove(&path);
            // Something may have been taken from its place, such as a link that leads elsewhere now.
            changes.made.retain(|(_, now)| *now != path);
            changes.made.push((path.clone(), path));
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            changes.look_around = true;
            let first = self.first.remove(&path).unwrap_or(path);
            self.moving.insert(cookie, (first, 0));
        } else if flags.contains(ReadFlags::MOVED_TO) {
            changes.look_around = true;
            changes.made.retain(|(_, now)| *now != path);
            self.first.remove(&path);
            let first = self.moving.remove(&cookie).map_or_else(|| path.clone(), |(first, _)| first);
            // A file may be made and renamed before anybody looks: what it is called now counts.
            let before = changes.made.iter().rposition(|(made, _)| *made == first);
            if first != path {
                self.first.insert(path.clone(), first.clone());
            }
            if let Some(before) = before.filter(|before| changes.made[*before].1 == first) {
                changes.made.remove(before);
            }
            changes.made.push((first, path));
        } else if flags.contains(ReadFlags::DELETE) {
            changes.look_around = true;
            self.first.remove(&path);
            changes.made.retain(|(_, now)| *now != path);
        }
    }

    /// A file that has not come to another name for some time has gone elsewhere.
    fn looked(&mut self) {
        self.moving.values_mut().for_each(|(_, looks)| *looks += 1);
        self.moving.retain(|_, (_, looks)| *looks < 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(names: &mut Names, hints: &[(ReadFlags, &str, u32)]) -> Vec<(String, String)> {
        let mut changes = Changes::default();
        for (flags, path, cookie) in hints {
            names.note(&mut changes, *flags, PathBuf::from(path), *cookie);
        }
        names.looked();
        let text = |path: &PathBuf| path.display().to_string();
        changes.made.iter().map(|(first, now)| (text(first), text(now))).collect()
    }

    const FROM: ReadFlags = ReadFlags::MOVED_FROM;
    const TO: ReadFlags = ReadFlags::MOVED_TO;
    const MADE: ReadFlags = ReadFlags::CREATE;

    fn made(first: &str, now: &str) -> (String, String) {
        (first.into(), now.into())
    }

    #[test]
    fn a_file_is_known_by_its_first_name_however_often_it_is_renamed() {
        let mut names = Names::default();
        let hints = [(MADE, "a", 0), (FROM, "a", 1), (TO, "a.1", 1), (MADE, "a", 0)];
        assert_eq!(note(&mut names, &hints), [made("a", "a.1"), made("a", "a")]);
        // a.1 becomes a.2 and a becomes a.1, and the hints are read apart.
        assert_eq!(note(&mut names, &[(FROM, "a.1", 2)]), []);
        assert_eq!(note(&mut names, &[(TO, "a.2", 2), (FROM, "a", 3)]), [made("a", "a.2")]);
        assert_eq!(note(&mut names, &[(TO, "a.1", 3), (MADE, "a", 0)]), [made("a", "a.1"), made("a", "a")]);
        assert_eq!(
            note(&mut names, &[(ReadFlags::DELETE, "a.2", 0), (FROM, "a.1", 4), (TO, "a.2", 4)]),
            [made("a", "a.2")]
        );
    }

    #[test]
    fn a_file_that_comes_from_elsewhere_has_the_name_it_comes_to() {
        let mut names = Names::default();
        assert_eq!(note(&mut names, &[(TO, "a", 9)]), [made("a", "a")]);
        assert_eq!(note(&mut names, &[(MADE, "t", 0), (FROM, "t", 1), (TO, "a", 1)]), [made("t", "a")]);
        // One that has left is forgotten.
        note(&mut names, &[(FROM, "a", 2)]);
        (0..9).for_each(|_| _ = note(&mut names, &[]));
        assert!(names.moving.is_empty());
    }
}
