//! Server processes that end with the test process, and the directories they work in.
//!
//! The kernel sends a server its death signal when the *thread* that spawned it ends. Test threads come and go, so one
//! thread that lives as long as the process spawns all servers.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};

type Request = (Command, Sender<io::Result<Child>>);

static SPAWNER: LazyLock<Sender<Request>> = LazyLock::new(|| {
    let (sender, requests) = channel::<Request>();
    std::thread::Builder::new()
        .name("testkit-spawner".into())
        .spawn(move || {
            for (mut command, answer) in requests {
                // The asker waits for the answer, so it is there to take it.
                let _ = answer.send(command.spawn());
            }
        })
        .expect("start the thread that spawns servers");
    sender
});

/// A user to run a server as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Looks `name` up in the text of `/etc/passwd`.
    pub(crate) fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next().filter(|field| *field == name)?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { name: found.to_owned(), uid, gid })
        })
    }
}

/// The effective user id of this process.
pub(crate) fn own_uid() -> u32 {
    fs::metadata("/proc/self").expect("read /proc/self: the test servers need Linux").uid()
}

/// `program`, run as `user` when one is given. `setpriv` replaces itself with the program: the process id stays.
pub(crate) fn command_as(user: Option<&User>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = setpriv(Some(user));
    command.arg("--").arg(program);
    command
}

fn setpriv(user: Option<&User>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    }
    command
}

/// Starts a server that gets `signal` when this process ends, in whatever way it ends.
pub(crate) fn spawn_server(
    user: Option<&User>,
    signal: &str,
    program: &Path,
    prepare: impl FnOnce(&mut Command),
) -> Child {
    let mut command = setpriv(user);
    command.arg("--pdeathsig").arg(signal).arg("--").arg(program);
    prepare(&mut command);
    let (sender, answer) = channel();
    SPAWNER.send((command, sender)).expect("the thread that spawns servers lives as long as the process");
    match answer.recv().expect("the thread that spawns servers answers each request") {
        Ok(child) => child,
        Err(error) => panic!("start setpriv: {error}; install it with: apt-get install util-linux"),
    }
}

/// Sends a signal. The shell's own `kill` is used because a slim system has no other.
pub(crate) fn send_signal(pid: u32, signal: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -s {signal} {pid}")).status().expect("run sh");
    assert!(status.success(), "send {signal} to process {pid}");
}

/// Runs a command to its end and gives its standard output; panics with its standard error when it fails.
pub(crate) fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
    assert_success(command, output.status, &output.stderr);
    output.stdout
}

pub(crate) fn assert_success(command: &Command, status: ExitStatus, stderr: &[u8]) {
    assert!(status.success(), "{command:?} ended with {status}\n{}", String::from_utf8_lossy(stderr));
}

/// Where all test processes of this user keep their servers' files: below the temporary directory, because a server
/// that runs as another user has to reach it, which it cannot below a private home.
pub(crate) fn base_directory() -> PathBuf {
    let base = std::env::temp_dir().join(format!("aqueduct-testkit-{}", own_uid()));
    match fs::create_dir(&base) {
        Ok(()) => {
            fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).expect("open the test directory for reading")
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => panic!("create {}: {error}", base.display()),
    }
    let found = fs::symlink_metadata(&base).expect("look at the test directory");
    // The name can be guessed: another user of this machine may have put something there.
    assert!(found.is_dir() && found.uid() == own_uid(), "{} is not a directory of this user", base.display());
    base
}

/// Holds the lock that lets one test process at a time change the base directory.
pub(crate) fn lock_base(base: &Path) -> File {
    let lock = File::create(base.join("lock")).expect("create the lock file");
    lock.lock().expect("lock the test directory");
    lock
}

/// A directory of this process. Its lock is held as long as the process lives, which tells the next one what is stale.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    _alive: File,
}

impl RunDirectory {
    /// Makes a new directory below `base` and removes those whose process is gone. The caller holds the base's lock.
    pub(crate) fn create(base: &Path, _lock: &File) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        sweep(base);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("run-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("create a directory for a server");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("let the server's user in");
        let alive = File::create(path.join("alive")).expect("create the file that says this process lives");
        alive.lock().expect("lock the file that says this process lives");
        Self { path, _alive: alive }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path); // what cannot be removed now is swept by the next process
    }
}

fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let is_run = entry.file_name().to_str().is_some_and(|name| name.starts_with("run-"));
        if !is_run {
            continue;
        }
        let stale = match File::open(entry.path().join("alive")) {
            Ok(alive) => !matches!(alive.try_lock(), Err(TryLockError::WouldBlock)),
            Err(_) => true,
        };
        if stale {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:8::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        let found = User::find(passwd, "postgres").unwrap();
        assert_eq!((found.uid, found.gid), (101, 104));
        assert_eq!(User::find(passwd, "nobody"), None);
    }

    #[test]
    fn directories_of_dead_processes_are_swept_and_living_ones_stay() {
        let base = base_directory().join(format!("sweep-{}", std::process::id()));
        fs::create_dir_all(base.join("run-1-1")).unwrap();
        let lock = lock_base(&base);
        let first = RunDirectory::create(&base, &lock);
        let second = RunDirectory::create(&base, &lock);
        assert!(!base.join("run-1-1").exists());
        assert!(first.path().exists() && second.path().exists());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        drop(second);
        fs::remove_dir_all(&base).unwrap();
    }
}
