//! What any bytes have to bear. Each function takes the bytes a fuzzer made up and panics where a promise is broken; the
//! targets in `fuzz/` call them, and so do ordinary tests over made-up bytes. Never part of a build that ships.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::batch::MAX_MESSAGE;
use crate::config::Config;
use crate::lines::{Joining, Lines};
use crate::time::TimeRule;
use crate::{checkpoint, cwagent};

const FORMATS: [&str; 8] = [
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S,%f",
    "%b %d %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S %z",
    "%s",
    "%A, %B %e, %Y %I:%M:%S %p",
    "%j %H %M",
    "%m %d %H %M",
];

/// No line and no clock make a time that the service could not be told.
pub fn time(bytes: &[u8]) {
    let (chosen, rest) = bytes.split_at(bytes.len().min(9));
    let mut now = [0; 8];
    now[..chosen.len().saturating_sub(1)].copy_from_slice(chosen.get(1..).unwrap_or_default());
    let zone = ["UTC", "Europe/Berlin", "America/St_Johns"][usize::from(chosen.first().copied().unwrap_or(0)) / 8 % 3];
    let rule = TimeRule {
        format: FORMATS[usize::from(chosen.first().copied().unwrap_or(0)) % 8].into(),
        zone: jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC),
        pattern: None,
    };
    let text = String::from_utf8_lossy(rest);
    if let Some(time) = rule.read(&text, i64::from_le_bytes(now)) {
        assert!(jiff::Timestamp::from_millisecond(time).is_ok());
    }
    // A format is anything as well.
    let _ = TimeRule::check(&text);
}

static STARTS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[0-9\[]").ok());
static CONTINUES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\s").ok());

/// Events are the bytes again, in order and without a gap; no event is too long; and how the bytes are shown changes nothing.
pub fn lines(bytes: &[u8]) {
    let (chosen, rest) = bytes.split_at(bytes.len().min(2));
    let choice = |index: usize| usize::from(chosen.get(index).copied().unwrap_or(0));
    let joining = match (choice(0) % 3, &*STARTS, &*CONTINUES) {
        (1, Some(starts), _) => Joining::Start(starts.clone()),
        (2, _, Some(continues)) => Joining::Continue(continues.clone()),
        _ => Joining::Never,
    };
    let at_once: Vec<&[u8]> = Lines::new(rest, 0, &joining, true)
        .inspect(|found| assert!(found.bytes.len() <= MAX_MESSAGE))
        .map(|found| found.bytes)
        .collect();
    let (mut shown, mut at, mut parts, mut in_pieces) = (0, 0, 0, Vec::new());
    while at < rest.len() {
        shown = rest.len().min(shown + choice(1) + 1);
        let mut end = 0;
        for found in Lines::new(&rest[at..shown], parts, &joining, shown == rest.len()) {
            assert!(found.end > end, "each event moves on");
            in_pieces.push(found.bytes);
            end = found.end;
            parts = if found.goes_on { found.part.unwrap_or_default() } else { 0 };
        }
        at += end;
        assert!(end > 0 || shown < rest.len(), "nothing is left behind");
    }
    assert_eq!(in_pieces, at_once);
}

/// A file of positions is read, damaged, or newer.
pub fn checkpoint(bytes: &[u8]) {
    checkpoint::check(bytes);
    // Behind a sum that is right the rest is looked at.
    let head = checkpoint::head(bytes);
    checkpoint::check(&[head.as_bytes(), bytes].concat());
}

/// A configuration is one, or its mistakes have places in it.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for text in [text.to_owned(), format!("version = 1\n[[files]]\n{text}")] {
        if let Err(mistakes) = Config::parse(&text) {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(mistake.span.is_none() || mistake.place(&text).is_some(), "{mistake:?}");
            }
        }
    }
}

/// A configuration of the agent's becomes one of ours, or is told to be none.
pub fn cwagent(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(imported) = cwagent::import(text) {
        assert!(Config::parse(&imported.toml).is_ok(), "{}", imported.toml);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            [time, lines, checkpoint, config, cwagent].iter().for_each(|target| target(&bytes));
        }

        #[test]
        fn what_is_nearly_right_is_borne(
            choice in any::<[u8; 9]>(),
            text in "[0-9: T/+\\-.,\\[\\] \\nJanuryMoFebPM=\"'{}a-z_]{0,120}",
        ) {
            let bytes = [&choice, text.as_bytes()].concat();
            [time, lines].iter().for_each(|target| target(&bytes));
            [checkpoint, config, cwagent].iter().for_each(|target| target(text.as_bytes()));
        }

        #[test]
        fn a_configuration_with_any_value_is_borne(value in "\\PC{0,30}", at in any::<prop::sample::Index>()) {
            let text = include_str!("../../../infra/host/log-shipper.toml");
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let (before, behind) = text.split_at(places[at.index(places.len())]);
            config(format!("{before}{value}{behind}").as_bytes());
        }
    }
}
