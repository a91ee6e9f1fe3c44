//! The runtime, and what an interruption means: the work is dropped, and with it every connection and everything
//! uncommitted.

use std::io;

use cli::Exit;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Stopped::NoRuntime)?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            biased;
            exit = signals.next() => {
                // Now, because what follows is dropping the work.
                tokio::spawn(async move { std::process::exit(signals.next().await.code().into()) });
                Err(Stopped::By(exit))
            }
            result = work => Ok(result),
        }
    });
    // A thread may hang in a read that nobody waits for any more.
    runtime.shutdown_background();
    ended
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Stopped> {
        let listen = |kind| signal(kind).map_err(Stopped::NoRuntime);
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}
