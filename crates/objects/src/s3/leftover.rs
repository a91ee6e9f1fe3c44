//! Uploads that were dropped half-way, as on Ctrl-C, and are taken back in the background.

use std::mem::take;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Work that has to come to its end although nobody waits for its result.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<JoinSet<()>>);

impl Leftovers {
    /// On a runtime that is gone, nothing is left to do it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = Handle::try_current() {
            let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(work, &runtime);
        }
    }

    /// Until nothing is left, with what is added meanwhile.
    pub(super) async fn settle(&self) {
        loop {
            let mut tasks = take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }
}
