//! Time zone names, from the database built into the binary: the host's files play no part.

use std::sync::LazyLock;

use jiff::tz::TimeZoneDatabase;

use super::keys;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

pub(super) fn is_known(name: &str) -> bool {
    name.len() <= 64 && ZONES.get(name).is_ok()
}

/// The known name a person most likely meant.
pub(super) fn nearest(name: &str) -> Option<String> {
    let names: Vec<String> = ZONES.available().map(|name| name.to_string()).collect();
    let city = |full: &str| full.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name));
    // "Paris" is nearer to "Europe/Paris" than its spelling is.
    let by_city = names.iter().find(|full| city(full)).cloned();
    by_city.or_else(|| keys::nearest(name, names.iter().map(String::as_str)).map(str::to_owned))
}
