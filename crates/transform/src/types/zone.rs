//! Local time to UTC in a named zone, from the bundled time zone database and never the host's files.
//!
//! The zone's rules are laid out once as a table over local time, since asking the database costs more per value than
//! parsing it. Times outside the table go to the database.

use std::sync::Arc;

use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, civil};

use crate::reject::Reason;

/// A time zone by its IANA name.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    zone: TimeZone,
    table: Arc<Table>,
}

/// Local seconds, as if local time were UTC, that the table covers.
const FROM: i64 = -2_208_988_800; // 1900-01-01
const TO: i64 = 4_102_444_800; // 2100-01-01
/// Local time is cut into pieces of 2^23 seconds, about 97 days: few have more than one change.
const PIECE_BITS: u32 = 23;
/// Offsets differ by at most this much from local time: transitions just outside the table matter inside it.
const MARGIN: i64 = 3 * 86_400;

#[derive(Debug)]
struct Table {
    /// In order of their start; the first starts before the table.
    stretches: Vec<Stretch>,
    /// For each piece of local time the stretch its first second is in.
    pieces: Vec<u32>,
}

/// Local time from `start` on, to the next stretch.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: i64,
    meaning: Meaning,
}

#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// Seconds east of UTC.
    Offset(i32),
    Gap,
    Overlap,
}

impl Zone {
    pub(super) fn compile(name: &str) -> Result<Self, String> {
        let unknown =
            |_| format!("unknown time zone {name:?}; names are those of the IANA database, such as Europe/Paris");
        let zone = TimeZoneDatabase::bundled().get(name).map_err(unknown)?;
        let table = Arc::new(Table::of(&zone));
        Ok(Self { zone, table })
    }

    /// Seconds east of UTC at a local time, given in seconds as if it were UTC.
    #[inline]
    pub(super) fn offset_at(&self, local: i64) -> Result<i32, Reason> {
        match self.table.meaning(local) {
            Some(Meaning::Offset(offset)) => Ok(offset),
            Some(Meaning::Gap) => Err(Reason::InGap),
            Some(Meaning::Overlap) => Err(Reason::InOverlap),
            None => self.ask(local),
        }
    }

    #[cold]
    fn ask(&self, local: i64) -> Result<i32, Reason> {
        let local = civil_of(local).ok_or(Reason::NoSuchDate)?;
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => Ok(offset.seconds()),
            AmbiguousOffset::Gap { .. } => Err(Reason::InGap),
            AmbiguousOffset::Fold { .. } => Err(Reason::InOverlap),
        }
    }
}

/// Not by way of a timestamp: jiff's end on 9999-12-30, and people write the day after it for "never".
fn civil_of(local: i64) -> Option<civil::DateTime> {
    civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::from_secs(local)).ok()
}

impl Table {
    fn of(zone: &TimeZone) -> Self {
        let empty = Self { stretches: Vec::new(), pieces: Vec::new() };
        let Ok(from) = Timestamp::from_second(FROM - MARGIN) else { return empty };
        let mut offset = zone.to_offset(from).seconds();
        let mut stretches = vec![Stretch { start: i64::MIN, meaning: Meaning::Offset(offset) }];
        for transition in zone.following(from) {
            let at = transition.timestamp().as_second();
            if at > TO + MARGIN {
                break;
            }
            let next = transition.offset().seconds();
            let (before, after) = (at + i64::from(offset), at + i64::from(next));
            if before != after {
                let meaning = if before < after { Meaning::Gap } else { Meaning::Overlap };
                stretches.push(Stretch { start: before.min(after), meaning });
                stretches.push(Stretch { start: before.max(after), meaning: Meaning::Offset(next) });
            }
            offset = next;
        }
        // Two changes within hours would need their stretches cut up. No zone has them; if one ever does, ask each time.
        if !stretches.is_sorted_by(|a, b| a.start < b.start) {
            return empty;
        }
        let pieces = (FROM..TO)
            .step_by(1 << PIECE_BITS)
            .map(|start| stretches.partition_point(|stretch| stretch.start <= start) as u32 - 1)
            .collect();
        Self { stretches, pieces }
    }

    #[inline]
    fn meaning(&self, local: i64) -> Option<Meaning> {
        if !(FROM..TO).contains(&local) {
            return None;
        }
        let mut at = *self.pieces.get(((local - FROM) >> PIECE_BITS) as usize)? as usize;
        while let Some(next) = self.stretches.get(at + 1)
            && next.start <= local
        {
            at += 1;
        }
        Some(self.stretches.get(at)?.meaning)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn truth(zone: &TimeZone, local: i64) -> Result<i32, Reason> {
        match zone.to_ambiguous_timestamp(civil_of(local).unwrap()).offset() {
            AmbiguousOffset::Unambiguous { offset } => Ok(offset.seconds()),
            AmbiguousOffset::Gap { .. } => Err(Reason::InGap),
            AmbiguousOffset::Fold { .. } => Err(Reason::InOverlap),
        }
    }

    #[test]
    fn every_zone_agrees_with_the_database_around_each_of_its_changes() {
        let database = TimeZoneDatabase::bundled();
        for name in database.available() {
            let zone = Zone::compile(name.as_str()).unwrap();
            assert!(!zone.table.pieces.is_empty(), "{} has no table", name.as_str());
            for stretch in zone.table.stretches.iter().skip(1) {
                for local in [-86_400, -3601, -1, 0, 1, 1800, 3599, 3600, 86_400].map(|shift| stretch.start + shift) {
                    assert_eq!(zone.offset_at(local), truth(&zone.zone, local), "{} at {local}", name.as_str());
                }
            }
            for local in [FROM - 1, FROM, FROM + 1, TO - 1, TO, TO + 1] {
                assert_eq!(zone.offset_at(local), truth(&zone.zone, local), "{} at {local}", name.as_str());
            }
        }
    }

    #[test]
    fn unknown_zones_are_refused() {
        for name in ["Europe/Pariss", "", "EST5", "+02:00", "../etc/passwd", "local"] {
            assert!(Zone::compile(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_last_day_of_the_last_year_has_an_offset_in_every_zone() {
        for name in TimeZoneDatabase::bundled().available() {
            let zone = Zone::compile(name.as_str()).unwrap();
            let end = 253_402_300_799;
            assert!(zone.offset_at(end).is_ok(), "{}", name.as_str());
            assert_eq!(zone.offset_at(end), zone.offset_at(end - 86_400), "{}", name.as_str());
        }
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_the_database_at_any_time(
            name in prop::sample::select(vec![
                "Europe/Paris", "Europe/Kyiv", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Africa/Casablanca",
                "Africa/Cairo", "Antarctica/Troll", "Australia/Lord_Howe", "Pacific/Apia", "America/Caracas", "UTC", "Asia/Gaza",
            ]),
            local in -62_135_596_800_i64..253_402_300_800,
        ) {
            let zone = Zone::compile(name).unwrap();
            prop_assert_eq!(zone.offset_at(local), truth(&zone.zone, local));
            let near = FROM + local.rem_euclid(TO - FROM);
            prop_assert_eq!(zone.offset_at(near), truth(&zone.zone, near));
        }
    }
}
