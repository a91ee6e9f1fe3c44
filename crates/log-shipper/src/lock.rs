//! One shipper for one directory of positions: two would send everything twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

/// Held as long as the process lives; the kernel gives it back after a kill as well.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another log-shipper ({holder}) uses {}", state.display())]
    Held { holder: String, state: PathBuf },
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl Lock {
    /// Takes the directory, which is made if it is missing.
    pub fn take(state: &Path) -> Result<Self, LockError> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { action, path, source }
        };
        // What is logged may be private, and so may be what is kept of it.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(fail("make directory", state))?;
        let path = state.join("lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(fail("open", &path))?;
        let mut tries = 0;
        let locked = loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // `status` has it for a moment, to see whether it is held.
                Err(rustix::io::Errno::WOULDBLOCK) if tries < 5 => tries += 1,
                locked => break locked,
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let holder = if pid.trim().is_empty() { "unknown".into() } else { format!("pid {}", pid.trim()) };
                return Err(LockError::Held { holder, state: state.to_owned() });
            }
            Err(error) => return Err(fail("lock", &path)(error.into())),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(fail("write", &path))?;
        Ok(Self { _file: file })
    }

    /// Whether some process holds it.
    pub fn is_held(state: &Path) -> bool {
        File::open(state.join("lock")).is_ok_and(|file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cannot_have_it_and_the_second_is_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let held = Lock::take(&state).unwrap();
        let error = Lock::take(&state).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(Lock::is_held(&state));
        drop(held);
        assert!(!Lock::is_held(&state));
        Lock::take(&state).unwrap();
    }
}
