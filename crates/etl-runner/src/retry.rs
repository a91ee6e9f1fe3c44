//! When to try again, and how long to wait before: one policy for a whole run.
//!
//! What may pass by itself is for the errors to say ([`MayPass`]); here it is only time. Waits grow from
//! try to try up to a limit, and each is a random part of that ("full jitter"), so that runners which failed together do
//! not come back together: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// Never at once, whatever the dice say.
const LEAST: Duration = Duration::from_millis(20);

/// How long a run bears what may pass by itself.
#[derive(Debug)]
pub struct Patience {
    lasts: Duration,
    /// The first failure in a row, and how many there were.
    failing: Option<(Instant, u32)>,
}

impl Patience {
    /// From the first failure on; zero is none at all.
    pub fn new(lasts: Duration) -> Self {
        Self { lasts, failing: None }
    }

    /// Something went well: what fails next is the first failure again.
    pub fn renew(&mut self) {
        self.failing = None;
    }

    /// After a failure at `now`: how long to wait, or `None` when it is time to give up. `dice` is any number.
    fn next(&mut self, now: Instant, dice: u64) -> Option<Duration> {
        let (since, tries) = *self.failing.get_or_insert((now, 0));
        self.failing = Some((since, tries.saturating_add(1)));
        let left = self.lasts.checked_sub(now.saturating_duration_since(since))?;
        let most = FIRST.saturating_mul(1 << tries.min(16)).min(LONGEST);
        let wait = most.mul_f64(dice as f64 / u64::MAX as f64).max(LEAST);
        // One more try at the very end rather than none.
        (!left.is_zero()).then_some(wait.min(left))
    }

    /// After a failure: how long to wait, or `None` when it is time to give up.
    pub fn wait(&mut self) -> Option<Duration> {
        self.next(Instant::now(), std::collections::hash_map::RandomState::new().build_hasher().finish())
    }
}

/// An error that may be one of those that pass by themselves.
pub trait MayPass: std::error::Error + 'static {
    /// Whether it is worth waiting for.
    fn may_pass(&self) -> bool;
}

/// Tries until it works, it fails for good, or patience ends. `waits` is told of each failure that is waited for.
pub async fn patiently<T, E: MayPass>(
    patience: &mut Patience,
    waits: impl Fn(&E, Duration),
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        let error = match attempt().await {
            Err(error) if error.may_pass() => error,
            ended => {
                patience.renew();
                return ended;
            }
        };
        let Some(wait) = patience.wait() else { return Err(error) };
        waits(&error, wait);
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_end_with_patience() {
        let begin = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(100));
        let mut now = begin;
        let mut waits = Vec::new();
        while let Some(wait) = patience.next(now, u64::MAX) {
            now += wait;
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 8_250]);
        assert_eq!(now - begin, Duration::from_secs(100));
        patience.renew();
        assert_eq!(patience.next(now, 0), Some(LEAST), "never at once");
        assert_eq!(patience.next(now, u64::MAX / 2).map(|wait| wait.as_millis()), Some(250), "half of half a second");
    }

    #[test]
    fn without_patience_nothing_is_tried_again() {
        assert_eq!(Patience::new(Duration::ZERO).wait(), None);
    }
}
