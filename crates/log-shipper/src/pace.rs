//! How long to wait, and how fast to go. Pure: whoever asks brings the time.

use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The wait before the next try after so many failures in a row: doubled each time up to 30 s, and a random part of that
/// ("full jitter"), so that many hosts do not come back all at once. `random` is from 0 up to 1.
pub fn back_off(failures: u32, random: f64) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(12)).min(LONGEST_WAIT);
    // Never so little that it is no wait at all.
    longest.mul_f64(0.1 + 0.9 * random)
}

/// The requests a second this host allows itself: all it can until the account is throttled, then less than it had, then
/// slowly more (additive increase, multiplicative decrease, with the factor of TCP's CUBIC, RFC 9438).
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    per_second: Option<f64>,
    next: Option<Instant>,
    /// When the pace was last slowed: the answers of one burst count once.
    slowed: Option<Instant>,
}

const LESS: f64 = 0.7;
/// The account's quota is of thousands a second: what throttles a host at this pace is not this host.
const SLOWEST: f64 = 2.0;
/// From here on there is no pace.
const FASTEST: f64 = 500.0;

impl Pace {
    /// When the next request may go.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    pub fn sent(&mut self, now: Instant) {
        if let Some(per_second) = self.per_second {
            self.next = Some(self.next.map_or(now, |next| next.max(now)) + Duration::from_secs_f64(1.0 / per_second));
        }
    }

    pub fn accepted(&mut self) {
        // One request a second more for each second's worth of answers.
        self.per_second = self.per_second.map(|pace| pace + 1.0 / pace.max(1.0)).filter(|pace| *pace < FASTEST);
        if self.per_second.is_none() {
            self.next = None;
        }
    }

    /// `recent` requests went in the second before.
    pub fn throttled(&mut self, now: Instant, recent: f64) {
        if self.slowed.is_some_and(|slowed| now < slowed + Duration::from_secs(1)) {
            return;
        }
        self.slowed = Some(now);
        let had = self.per_second.unwrap_or(recent);
        self.per_second = Some((had * LESS).max(SLOWEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        assert_eq!(back_off(1, 1.0), FIRST_WAIT);
        assert_eq!(back_off(2, 1.0), 2 * FIRST_WAIT);
        assert_eq!(back_off(60, 1.0), LONGEST_WAIT);
        assert!(back_off(60, 0.0) >= Duration::from_secs(3));
    }

    #[test]
    fn a_throttled_host_slows_down_once_for_a_burst_and_finds_back() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.sent(start);
        assert_eq!(pace.next(), None);
        pace.throttled(start, 40.0);
        pace.throttled(start + Duration::from_millis(10), 40.0);
        pace.sent(start);
        let wait = pace.next().unwrap() - start;
        assert!((0.0357..0.0358).contains(&wait.as_secs_f64()), "28 a second: {wait:?}");
        // The rate grows by about one a second: a hundred answers at 28 a second are three and a half seconds.
        (0..100).for_each(|_| pace.accepted());
        assert!((31.0..32.0).contains(&pace.per_second.unwrap()), "{pace:?}");
        (0..100).for_each(|n| pace.throttled(start + Duration::from_secs(2 + n), 0.0));
        assert_eq!(pace.per_second, Some(SLOWEST));
        (0..1_000_000).for_each(|_| pace.accepted());
        assert_eq!((pace.per_second, pace.next()), (None, None));
    }
}
