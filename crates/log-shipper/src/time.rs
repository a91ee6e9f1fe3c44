//! The time in a line → milliseconds since 1970. Pure.

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use regex::Regex;

/// Where an event's time stands and how it is written.
#[derive(Clone, Debug)]
pub struct TimeRule {
    /// In the letters of strftime.
    pub format: String,
    /// Of times that do not say their own.
    pub zone: TimeZone,
    /// Its first group, or all of it, is the time; without one the event begins with it.
    pub pattern: Option<Regex>,
}

impl TimeRule {
    /// Whether a format can be read with: its letters are known, and they make a time.
    pub fn check(format: &str) -> Result<(), String> {
        let written = jiff::fmt::strtime::format(format, &Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC));
        let written = written.map_err(|error| error.to_string())?;
        let rule = Self { format: format.into(), zone: TimeZone::UTC, pattern: None };
        rule.read(&written, 0).map(|_| ()).ok_or_else(|| "it has no day and hour in it".into())
    }

    /// The event's time; `None` when there is none as the rule has it. `now` helps where no year is written: the time is the
    /// latest that is not more than a day ahead.
    pub fn read(&self, message: &str, now: i64) -> Option<i64> {
        let text = match &self.pattern {
            None => message,
            Some(pattern) => {
                let found = pattern.captures(message)?;
                found.get(1).or_else(|| found.get(0))?.as_str()
            }
        };
        let (mut read, _) = BrokenDownTime::parse_prefix(&self.format, text).ok()?;
        if let Ok(timestamp) = read.to_timestamp() {
            return Some(timestamp.as_millisecond());
        }
        if read.year().is_some() {
            return self.at(read.to_datetime().ok()?);
        }
        let now = Timestamp::from_millisecond(now).ok()?;
        let year = now.to_zoned(self.zone.clone()).year();
        // The 29th of February may be years ago, and the last hours of a year stand before its end.
        [year + 1, year, year - 1, year - 2, year - 3, year - 4].into_iter().find_map(|year| {
            read.set_year(Some(year)).ok()?;
            let time = self.at(read.to_datetime().ok()?)?;
            (time <= now.checked_add(24.hours()).ok()?.as_millisecond()).then_some(time)
        })
    }

    /// A time that a clock change makes twice is the first of both; one that it leaves out is as far behind the change.
    fn at(&self, time: DateTime) -> Option<i64> {
        Some(self.zone.to_ambiguous_timestamp(time).compatible().ok()?.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(format: &str, zone: &str) -> TimeRule {
        TimeRule { format: format.into(), zone: TimeZone::get(zone).unwrap(), pattern: None }
    }

    fn read(rule: &TimeRule, message: &str, now: &str) -> Option<String> {
        let now = now.parse::<Timestamp>().unwrap().as_millisecond();
        rule.read(message, now).map(|time| Timestamp::from_millisecond(time).unwrap().to_string())
    }

    const NOW: &str = "2026-11-26T12:00:00Z";

    #[test]
    fn a_time_is_read_in_its_zone_or_in_the_rules() {
        let iso = rule("%Y-%m-%dT%H:%M:%S%.f%:z", "UTC");
        assert_eq!(read(&iso, "2026-03-01T10:00:00.25+02:00 x", NOW).unwrap(), "2026-03-01T08:00:00.25Z");
        let local = rule("%Y-%m-%d %H:%M:%S", "Europe/Berlin");
        assert_eq!(read(&local, "2026-07-01 12:00:00 x", NOW).unwrap(), "2026-07-01T10:00:00Z");
        assert_eq!(read(&local, "2026-10-25 02:30:00 twice", NOW).unwrap(), "2026-10-25T00:30:00Z");
        assert_eq!(read(&local, "2026-03-29 02:30:00 never", NOW).unwrap(), "2026-03-29T01:30:00Z");
        assert_eq!(read(&rule("%s", "UTC"), "1700000000 x", NOW).unwrap(), "2023-11-14T22:13:20Z");
        for other in ["", "x", "2026-13-01 12:00:00", "2026-07-01"] {
            assert_eq!(read(&local, other, NOW), None, "{other}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_the_latest_that_can_be() {
        let syslog = rule("%b %d %H:%M:%S", "UTC");
        assert_eq!(read(&syslog, "Nov 26 11:59:59 x", NOW).unwrap(), "2026-11-26T11:59:59Z");
        assert_eq!(read(&syslog, "Dec 31 23:59:59 x", "2027-01-01T00:00:05Z").unwrap(), "2026-12-31T23:59:59Z");
        assert_eq!(read(&syslog, "Jan  1 00:00:01 x", "2026-12-31T23:59:59Z").unwrap(), "2027-01-01T00:00:01Z");
        assert_eq!(read(&syslog, "Feb 29 10:00:00 x", NOW).unwrap(), "2024-02-29T10:00:00Z");
    }

    #[test]
    fn a_pattern_says_where_the_time_stands() {
        let rule =
            TimeRule { pattern: Some(Regex::new(r"\[([^\]]+)\]").unwrap()), ..rule("%d/%b/%Y:%H:%M:%S %z", "UTC") };
        let line = r#"1.2.3.4 - - [10/Oct/2026:13:55:36 -0700] "GET / HTTP/1.0" 200"#;
        assert_eq!(read(&rule, line, NOW).unwrap(), "2026-10-10T20:55:36Z");
    }
}
