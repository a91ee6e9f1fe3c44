//! Another name for a file.

use std::io;
use std::path::Path;

/// [`std::fs::rename`]. Windows refuses it while another program has the file in `new`'s place open, as scanners and indexers
/// have for a moment: there it is tried again for a second.
pub fn rename(old: &Path, new: &Path) -> io::Result<()> {
    #[cfg(windows)]
    for _ in 0..PATIENCE {
        match std::fs::rename(old, new) {
            Err(error) if is_in_use(&error) => std::thread::sleep(PAUSE),
            renamed => return renamed,
        }
    }
    std::fs::rename(old, new).map_err(|error| told(error, new))
}

#[cfg(windows)]
const PATIENCE: u32 = 40;
#[cfg(windows)]
const PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

/// ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION of winerror.h.
#[cfg(windows)]
fn is_in_use(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(5 | 32))
}

#[cfg(windows)]
fn told(error: io::Error, new: &Path) -> io::Error {
    match is_in_use(&error) && new.is_file() {
        true => io::Error::other("another program has the file open, or it may only be read"),
        false => error,
    }
}

#[cfg(not(windows))]
fn told(error: io::Error, _: &Path) -> io::Error {
    error
}
