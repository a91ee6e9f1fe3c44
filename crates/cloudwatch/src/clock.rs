//! The time that requests are signed with. The services refuse what is signed more than a few minutes off, so a host whose clock
//! is wrong follows theirs, and its own clock stays as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatchlogs::primitives::{DateTime, DateTimeFormat};
use aws_smithy_async::time::TimeSource;

/// Seconds. The services allow five minutes.
const LEAST: i64 = 60;

/// The host's clock, and how far it is off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    /// Seconds to add.
    off: Arc<AtomicI64>,
}

impl Clock {
    /// Takes over the time of an answer, as its header `date` has it; whether it was another.
    pub(crate) fn learn(&self, date: &str) -> bool {
        let Ok(theirs) = DateTime::from_str(date, DateTimeFormat::HttpDate) else { return false };
        let ours = DateTime::from(SystemTime::now());
        let off = theirs.secs() - ours.secs();
        // With a wrong key they say the same; the answer's way is no error of the clock.
        let is_another = (off - self.off.load(Ordering::Relaxed)).abs() >= LEAST;
        if is_another {
            self.off.store(off, Ordering::Relaxed);
            tracing::warn!(
                seconds = off,
                "this host's clock is not the service's, which refuses what is signed by it; requests are signed by the \
                 service's, and events keep the host's"
            );
        }
        is_another
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let off = self.off.load(Ordering::Relaxed);
        let seconds = Duration::from_secs(off.unsigned_abs());
        let now = SystemTime::now();
        let theirs = if off < 0 { now.checked_sub(seconds) } else { now.checked_add(seconds) };
        theirs.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_time_is_taken_over_and_nonsense_is_not() {
        let clock = Clock::default();
        for date in ["", "yesterday", "Thu, 32 Jan 2026 00:00:00 GMT", "\0"] {
            assert!(!clock.learn(date));
            assert_eq!(clock.off.load(Ordering::Relaxed), 0, "{date:?}");
        }
        for (date, seconds) in [("Fri, 01 Jan 2100 00:00:00 GMT", 4_102_444_800), ("Thu, 01 Jan 1970 00:00:10 GMT", 10)]
        {
            assert!(clock.learn(date) && !clock.learn(date));
            let now = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            assert!((seconds..seconds + 60).contains(&now), "{date}: {now}");
        }
    }
}
