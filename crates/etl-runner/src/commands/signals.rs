//! The runtime, and what an interruption means: the work is dropped, and with it every connection and everything
//! uncommitted.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cli::{Exit, Signals};

use super::failure::Failure;

/// How soon the end of a commit is noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Why work did not come to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// [`Exit::Interrupted`] or [`Exit::Terminated`].
    By(Exit),
    NoRuntime(io::Error),
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::By(exit) => Self::interrupted(exit),
            Stopped::NoRuntime(error) => Self::runtime(&error),
        }
    }
}

/// Runs `work` to its end, or until the process is told to stop. A second signal ends the process at once.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Stopped> {
    block_on_unless(&AtomicBool::new(false), work)
}

/// The same, but work is not dropped while `committing`: dropped before the answer, nobody could say whether the commit
/// was made.
pub(super) fn block_on_unless<T>(committing: &AtomicBool, work: impl Future<Output = T>) -> Result<T, Stopped> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Stopped::NoRuntime)?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(Stopped::NoRuntime)?;
        let mut work = pin!(work);
        tokio::select! {
            biased;
            exit = signals.next() => {
                // Now, because what follows is dropping the work.
                tokio::spawn(async move { std::process::exit(signals.next().await.code().into()) });
                while committing.load(Ordering::SeqCst) {
                    tokio::select! {
                        result = &mut work => return Ok(result),
                        () = tokio::time::sleep(LOOK_AGAIN) => {}
                    }
                }
                Err(Stopped::By(exit))
            }
            result = &mut work => Ok(result),
        }
    });
    // A thread may hang in a read that nobody waits for any more.
    runtime.shutdown_background();
    ended
}
