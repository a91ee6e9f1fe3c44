//! The configuration file. Takes text, gives what it means or where it is wrong; opens nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use crate::journal;
use crate::lines::Joining;
use crate::metrics::{self, Wanted};
use crate::name::Template;
use crate::stream::Rules;
use crate::time::TimeRule;

/// Days that PutRetentionPolicy takes (its API reference).
pub const RETENTION_DAYS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// What is shipped, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where positions are kept.
    pub state: PathBuf,
    pub files: Vec<Files>,
    pub journals: Vec<JournalSource>,
    pub stdin: Option<StdinSource>,
    pub delivery: Delivery,
    pub metrics: Option<Metrics>,
}

/// Files that are shipped alike.
#[derive(Clone, Debug)]
pub struct Files {
    pub paths: Vec<glob::Pattern>,
    pub exclude: Vec<glob::Pattern>,
    pub group: Template,
    pub stream: Template,
    pub retention_days: Option<u32>,
    pub rules: Rules,
    /// Files that are there when the shipper starts for the first time begin at their end.
    pub from_end: bool,
}

/// Entries of the systemd journal.
#[derive(Clone, Debug)]
pub struct JournalSource {
    pub group: Template,
    pub stream: Template,
    pub retention_days: Option<u32>,
    pub rules: Rules,
    pub format: JournalFormat,
    pub settings: journal::Settings,
}

/// What an entry of the journal becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalFormat {
    /// `identifier[pid]: message`.
    Short,
    Message,
    /// An object with all fields.
    Json,
}

impl JournalSource {
    /// What its position is kept under.
    pub fn key(&self) -> String {
        let directory = self.settings.directory.as_ref().map(|path| path.display().to_string());
        let all = [&self.settings.units[..], &self.settings.matches[..], directory.as_slice()].concat();
        if all.is_empty() { "all".into() } else { all.join(" ") }
    }
}

/// Lines of the standard input.
#[derive(Clone, Debug)]
pub struct StdinSource {
    pub group: Template,
    pub stream: Template,
    pub retention_days: Option<u32>,
    pub rules: Rules,
}

/// Metrics of the host and of the shipper itself.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub namespace: String,
    pub interval: Duration,
    /// Name and value, which may ask for the instance id and the host's name.
    pub dimensions: Vec<(String, Template)>,
    pub wanted: Wanted,
    /// The shipper's own.
    pub own: bool,
    /// The lag of each file, too.
    pub lag_per_file: bool,
}

/// How events get to the service.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// A batch waits so long for more.
    pub flush: Duration,
    pub gzip: bool,
    /// Requests of one stream at a time.
    pub parallel: usize,
    /// How long a stop waits for answers.
    pub stop: Duration,
}

/// A mistake, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Mistake {
    pub message: String,
    /// Bytes of the text.
    pub span: Option<Range<usize>>,
    pub help: Option<String>,
}

impl Mistake {
    fn of_toml(error: &toml::de::Error) -> Self {
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        // "unknown field `droop`, expected one of `path`, `drop`"
        let mut words = message.split('`').skip(1).step_by(2);
        let help = match words.next() {
            Some(word) if message.starts_with("unknown field") => nearest(word, words),
            _ => None,
        };
        Self { message, span: error.span(), help }
    }

    /// Line and column, from 1, the column in characters.
    pub fn place(&self, text: &str) -> Option<(usize, usize)> {
        let before = text.get(..self.span.as_ref()?.start)?;
        let line = before.rsplit('\n').next().unwrap_or_default();
        Some((before.matches('\n').count() + 1, line.chars().count() + 1))
    }
}

// ---- as it is written

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: Spanned<u32>,
    state: Option<Spanned<PathBuf>>,
    #[serde(default)]
    files: Vec<RawFiles>,
    #[serde(default)]
    journal: Vec<RawJournal>,
    stdin: Option<RawStdin>,
    #[serde(default)]
    delivery: RawDelivery,
    metrics: Option<RawMetrics>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFiles {
    path: Spanned<OneOrMore>,
    exclude: Option<Spanned<OneOrMore>>,
    group: Spanned<String>,
    stream: Spanned<String>,
    retention_days: Option<Spanned<u32>>,
    join: Option<Spanned<RawJoin>>,
    timestamp: Option<RawTime>,
    keep: Option<Spanned<String>>,
    drop: Option<Spanned<String>>,
    from: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJournal {
    group: Spanned<String>,
    stream: Spanned<String>,
    retention_days: Option<Spanned<u32>>,
    #[serde(default)]
    units: Vec<Spanned<String>>,
    #[serde(default)]
    matches: Vec<Spanned<String>>,
    directory: Option<PathBuf>,
    format: Option<Spanned<String>>,
    keep: Option<Spanned<String>>,
    drop: Option<Spanned<String>>,
    from: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStdin {
    group: Spanned<String>,
    stream: Spanned<String>,
    retention_days: Option<Spanned<u32>>,
    join: Option<Spanned<RawJoin>>,
    timestamp: Option<RawTime>,
    keep: Option<Spanned<String>>,
    drop: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJoin {
    start: Option<Spanned<String>>,
    #[serde(rename = "continue")]
    goes_on: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTime {
    format: Spanned<String>,
    zone: Option<Spanned<String>>,
    pattern: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDelivery {
    flush: Option<Spanned<String>>,
    gzip: Option<bool>,
    parallel: Option<Spanned<usize>>,
    stop: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    namespace: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
    dimensions: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    host: Option<Vec<Spanned<String>>>,
    per_cpu: Option<bool>,
    disks: Option<Vec<PathBuf>>,
    interfaces: Option<Vec<String>>,
    own: Option<bool>,
    lag_per_file: Option<bool>,
}

/// What is measured where nothing is said: what CloudWatch itself cannot know of a host.
const HOST_METRICS: [&str; 4] = ["mem_used_percent", "swap_used_percent", "disk_used_percent", "disk_inodes_free"];

impl Config {
    /// Reads a file's text; gives all mistakes there are in it, as far as they can be told apart.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let raw: Raw = toml::from_str(text).map_err(|error| vec![Mistake::of_toml(&error)])?;
        let mut mistakes = Mistakes::default();
        if *raw.version.get_ref() != 1 {
            mistakes.add(&raw.version, "this log-shipper knows version 1 only", None);
        }
        if raw.files.is_empty() && raw.journal.is_empty() && raw.stdin.is_none() && raw.metrics.is_none() {
            let message = "nothing is to be shipped: there is no [[files]], [[journal]], [stdin] or [metrics]".into();
            mistakes.0.push(Mistake { message, span: None, help: None });
        }
        let files = raw.files.iter().filter_map(|files| mistakes.files(files)).collect();
        let journals: Vec<JournalSource> = raw.journal.iter().filter_map(|raw| mistakes.journal(raw)).collect();
        for (index, journal) in journals.iter().enumerate() {
            if journals[..index].iter().any(|other| other.key() == journal.key()) {
                let message = "two [[journal]] read the same entries: their positions could not be told apart";
                mistakes.0.push(Mistake { message: message.into(), span: None, help: None });
            }
        }
        let stdin = raw.stdin.as_ref().and_then(|stdin| mistakes.stdin(stdin));
        let metrics = raw.metrics.as_ref().map(|metrics| mistakes.metrics(metrics));
        let delivery = Delivery {
            flush: mistakes.duration(raw.delivery.flush.as_ref(), Duration::from_secs(1)),
            gzip: raw.delivery.gzip.unwrap_or(true),
            parallel: raw.delivery.parallel.as_ref().map_or(1, |parallel| {
                if !(1..=8).contains(parallel.get_ref()) {
                    mistakes.add(parallel, "parallel is from 1 to 8", None);
                }
                *parallel.get_ref()
            }),
            stop: mistakes.duration(raw.delivery.stop.as_ref(), Duration::from_secs(10)),
        };
        let state = match raw.state {
            None => PathBuf::from("/var/lib/log-shipper"),
            Some(state) => {
                if !state.get_ref().is_absolute() {
                    mistakes.add(&state, "state is no absolute path", Some(ABSOLUTE));
                }
                state.into_inner()
            }
        };
        let config = Self { state, files, journals, stdin, delivery, metrics };
        if mistakes.0.is_empty() { Ok(config) } else { Err(mistakes.0) }
    }

    /// Whether the name of a group or a stream has the instance's id in it.
    pub fn names_ask_for_id(&self) -> bool {
        let files = self.files.iter().flat_map(|files| [&files.group, &files.stream]);
        let journals = self.journals.iter().flat_map(|journal| [&journal.group, &journal.stream]);
        let stdin = self.stdin.iter().flat_map(|stdin| [&stdin.group, &stdin.stream]);
        files.chain(journals).chain(stdin).any(|template| template.asks_for("instance_id"))
    }

    /// Whether a dimension has it.
    pub fn metrics_ask_for_id(&self) -> bool {
        let dimensions = self.metrics.iter().flat_map(|metrics| &metrics.dimensions);
        dimensions.into_iter().any(|(_, value)| value.asks_for("instance_id"))
    }
}

const ABSOLUTE: &str = "begin with a slash: a service has no directory of its own to begin in";

#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add<T>(&mut self, at: &Spanned<T>, message: impl Into<String>, help: Option<&str>) {
        self.0.push(Mistake { message: message.into(), span: Some(at.span()), help: help.map(str::to_owned) });
    }

    fn checked<T, E: std::fmt::Display>(
        &mut self,
        text: &Spanned<String>,
        what: &str,
        check: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        check(text.get_ref())
            .map_err(|error| {
                let error = error.to_string();
                let error = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.add(text, format!("{what}: {error}"), None);
            })
            .ok()
    }

    fn pattern(&mut self, text: Option<&Spanned<String>>, what: &str) -> Option<Regex> {
        self.checked(text?, what, Regex::new)
    }

    fn duration(&mut self, text: Option<&Spanned<String>>, otherwise: Duration) -> Duration {
        let Some(text) = text else { return otherwise };
        let read = |written: &str| -> Result<Duration, String> {
            let unit = written.trim_start_matches(|char: char| char.is_ascii_digit());
            let number: u64 = written[..written.len() - unit.len()].parse().map_err(|_| "such as 500ms, 5s or 2m")?;
            let milliseconds = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                _ => return Err("such as 500ms, 5s or 2m".into()),
            };
            let time = Duration::from_millis(number.saturating_mul(milliseconds));
            if time > Duration::from_secs(3_600) { Err("at most an hour".into()) } else { Ok(time) }
        };
        self.checked(text, "a time is needed", read).unwrap_or(otherwise)
    }

    fn globs(&mut self, text: Option<&Spanned<OneOrMore>>) -> Vec<glob::Pattern> {
        let Some(text) = text else { return Vec::new() };
        let all = match text.get_ref() {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(all) => all.as_slice(),
        };
        let mut patterns = Vec::new();
        for one in all {
            match glob::Pattern::new(one) {
                Ok(_) if !one.starts_with('/') => self.add(text, format!("{one} is no absolute path"), Some(ABSOLUTE)),
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.add(text, format!("{one} is no pattern: {}", error.msg), None),
            }
        }
        patterns
    }

    fn files(&mut self, raw: &RawFiles) -> Option<Files> {
        let paths = self.globs(Some(&raw.path));
        let exclude = self.globs(raw.exclude.as_ref());
        let group = self.group(&raw.group);
        let stream = self.checked(&raw.stream, "stream", Template::parse);
        let retention_days = self.retention(raw.retention_days.as_ref());
        let mut rules = self.joining(raw.join.as_ref());
        rules.time = self.time(raw.timestamp.as_ref());
        (rules.keep, rules.drop) = (self.pattern(raw.keep.as_ref(), "keep"), self.pattern(raw.drop.as_ref(), "drop"));
        let from_end = self.begins_at_end(raw.from.as_ref());
        Some(Files { paths, exclude, group: group?, stream: stream?, retention_days, rules, from_end })
    }

    fn journal(&mut self, raw: &RawJournal) -> Option<JournalSource> {
        let group = self.nameless(&raw.group, "group").and_then(|_| self.group(&raw.group));
        let stream = self.nameless(&raw.stream, "stream");
        let retention_days = self.retention(raw.retention_days.as_ref());
        let (keep, drop) = (self.pattern(raw.keep.as_ref(), "keep"), self.pattern(raw.drop.as_ref(), "drop"));
        for unit in raw.units.iter().filter(|unit| unit.get_ref().is_empty() || unit.get_ref().starts_with('-')) {
            self.add(unit, "this is no unit's name", None);
        }
        for wanted in &raw.matches {
            let is_field = |name: &str| {
                !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
            };
            if !wanted.get_ref().split_once('=').is_some_and(|(name, _)| is_field(name)) {
                self.add(wanted, "a match is FIELD=value, such as _TRANSPORT=kernel", None);
            }
        }
        let format = raw.format.as_ref().map_or(JournalFormat::Short, |format| match format.get_ref().as_str() {
            "short" => JournalFormat::Short,
            "message" => JournalFormat::Message,
            "json" => JournalFormat::Json,
            _ => {
                self.add(format, "format is \"short\", \"message\" or \"json\"", None);
                JournalFormat::Short
            }
        });
        let settings = journal::Settings {
            units: raw.units.iter().map(|unit| unit.get_ref().clone()).collect(),
            matches: raw.matches.iter().map(|wanted| wanted.get_ref().clone()).collect(),
            directory: raw.directory.clone(),
            from_end: self.begins_at_end(raw.from.as_ref()),
            journalctl: "journalctl".into(),
        };
        let rules = Rules { keep, drop, ..Rules::default() };
        Some(JournalSource { group: group?, stream: stream?, retention_days, rules, format, settings })
    }

    fn stdin(&mut self, raw: &RawStdin) -> Option<StdinSource> {
        let group = self.nameless(&raw.group, "group").and_then(|_| self.group(&raw.group));
        let stream = self.nameless(&raw.stream, "stream");
        let retention_days = self.retention(raw.retention_days.as_ref());
        let mut rules = self.joining(raw.join.as_ref());
        rules.time = self.time(raw.timestamp.as_ref());
        (rules.keep, rules.drop) = (self.pattern(raw.keep.as_ref(), "keep"), self.pattern(raw.drop.as_ref(), "drop"));
        Some(StdinSource { group: group?, stream: stream?, retention_days, rules })
    }

    fn metrics(&mut self, raw: &RawMetrics) -> Metrics {
        let namespace = raw.namespace.as_ref().map_or("CWAgent", |namespace| {
            let text = namespace.get_ref();
            // As PutMetricData has it.
            let is_safe = |char: char| char.is_ascii_alphanumeric() || ".-_/#:".contains(char);
            if text.is_empty() || text.len() > 255 || text.starts_with("AWS/") || !text.chars().all(is_safe) {
                let message =
                    "a namespace is up to 255 of A-Z, a-z, 0-9, '.', '-', '_', '/', '#', ':', and not one of AWS/";
                self.add(namespace, message, None);
            }
            text
        });
        let interval = self.duration(raw.interval.as_ref(), Duration::from_secs(60));
        if let Some(text) = raw.interval.as_ref().filter(|_| interval < Duration::from_secs(1)) {
            self.add(text, "metrics are sent once a second at most", None);
        }
        let mut names = Vec::new();
        match &raw.host {
            None => names.extend(HOST_METRICS.iter().filter_map(|name| metrics::find(name))),
            Some(wanted) => {
                for name in wanted {
                    match metrics::find(name.get_ref()) {
                        Some(name) => names.push(name),
                        None => {
                            let help = nearest(name.get_ref(), metrics::names());
                            self.add(name, format!("there is no metric {}", name.get_ref()), help.as_deref());
                        }
                    }
                }
            }
        }
        let default = || vec![("InstanceId".to_owned(), Template::parse("{instance_id}").ok())];
        let given = raw.dimensions.as_ref().map_or_else(default, |given| {
            if given.get_ref().len() > 20 {
                self.add(given, "20 dimensions at most: a disk's have their place, too", None);
            }
            let values = given.get_ref().iter();
            values.map(|(name, value)| (name.clone(), self.nameless(value, "dimension"))).collect()
        });
        Metrics {
            namespace: namespace.to_owned(),
            interval,
            dimensions: given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            wanted: Wanted {
                names,
                per_cpu: raw.per_cpu.unwrap_or_default(),
                disks: raw.disks.clone(),
                interfaces: raw.interfaces.clone(),
            },
            own: raw.own.unwrap_or(true),
            lag_per_file: raw.lag_per_file.unwrap_or_default(),
        }
    }

    fn group(&mut self, text: &Spanned<String>) -> Option<Template> {
        let template = self.checked(text, "group", Template::parse)?;
        if template.asks_for("date") {
            self.add(text, "group: a group's name has no date in it; a stream's may have one", None);
        }
        Some(template)
    }

    /// A name of something that comes from no file.
    fn nameless(&mut self, text: &Spanned<String>, what: &str) -> Option<Template> {
        let template = self.checked(text, what, Template::parse)?;
        if template.asks_for("file") {
            self.add(text, format!("{what}: there is no file that {{file}} could be"), None);
        }
        Some(template)
    }

    fn retention(&mut self, days: Option<&Spanned<u32>>) -> Option<u32> {
        let days = days?;
        if !RETENTION_DAYS.contains(days.get_ref()) {
            let nearest = RETENTION_DAYS.iter().find(|possible| *possible > days.get_ref());
            let help = nearest.map(|days| format!("the next the service knows is {days}"));
            self.add(days, format!("no log group can keep events for {} days", days.get_ref()), help.as_deref());
        }
        Some(*days.get_ref())
    }

    fn joining(&mut self, join: Option<&Spanned<RawJoin>>) -> Rules {
        let mut rules = Rules { join_timeout: Duration::from_secs(5), ..Rules::default() };
        let Some(join) = join else { return rules };
        let RawJoin { start, goes_on, timeout } = join.get_ref();
        rules.join_timeout = self.duration(timeout.as_ref(), rules.join_timeout);
        let joining = match (start, goes_on) {
            (Some(start), None) => self.checked(start, "start", regex::bytes::Regex::new).map(Joining::Start),
            (None, Some(goes_on)) => self.checked(goes_on, "continue", regex::bytes::Regex::new).map(Joining::Continue),
            _ => {
                self.add(join, "join wants either start or continue", None);
                None
            }
        };
        rules.joining = joining.unwrap_or_default();
        rules
    }

    fn time(&mut self, raw: Option<&RawTime>) -> Option<TimeRule> {
        let raw = raw?;
        let zone = raw.zone.as_ref().and_then(|zone| {
            self.checked(
                zone,
                "zone",
                |name| if name == "local" { TimeZone::try_system() } else { TimeZone::get(name) },
            )
        });
        let pattern = self.pattern(raw.pattern.as_ref(), "pattern");
        let format = self.checked(&raw.format, "format", TimeRule::check);
        format?;
        Some(TimeRule { format: raw.format.get_ref().clone(), zone: zone.unwrap_or(TimeZone::UTC), pattern })
    }

    fn begins_at_end(&mut self, from: Option<&Spanned<String>>) -> bool {
        match from.map(|from| (from, from.get_ref().as_str())) {
            None | Some((_, "start")) => false,
            Some((_, "end")) => true,
            Some((from, _)) => {
                self.add(from, "from is \"start\" or \"end\"", None);
                false
            }
        }
    }
}

/// What somebody may have meant.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = known.map(|known| (strsim::osa_distance(word, known), known));
    let (distance, known) = near.min()?;
    (distance <= word.len() / 3 + 1).then(|| format!("did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = 1
state = "/tmp/state"

[[files]]
path = ["/var/log/app/*.log", "/srv/*/x.log"]
exclude = "/var/log/app/debug.log"
group = "/acme/app"
stream = "{instance_id}/{file}"
retention_days = 30
join = { start = '^\d', timeout = "2s" }
timestamp = { format = "%Y-%m-%d %H:%M:%S", zone = "Europe/Berlin" }
drop = "healthcheck"

[[journal]]
group = "/acme/host"
stream = "{hostname}"
units = ["ssh.service"]
matches = ["_TRANSPORT=kernel"]
format = "json"

[stdin]
group = "/acme/app"
stream = "stdin-{date}"

[delivery]
flush = "500ms"

[metrics]
namespace = "Acme/Host"
interval = "30s"
dimensions = { InstanceId = "{instance_id}", host = "{hostname}" }
host = ["cpu_usage_idle", "mem_used_percent"]
disks = ["/"]
"#;

    #[test]
    fn a_file_means_what_it_says() {
        let config = Config::parse(GOOD).unwrap();
        let files = &config.files[0];
        assert_eq!((files.paths.len(), files.exclude.len(), files.retention_days), (2, 1, Some(30)));
        let rules = &files.rules;
        assert!(matches!(rules.joining, Joining::Start(_)) && rules.join_timeout == Duration::from_secs(2));
        assert!(config.delivery.flush == Duration::from_millis(500) && config.delivery.gzip);
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (from, to, message, place) in [
            ("version = 1", "version = 2", "knows version 1 only", (2, 11)),
            ("retention_days = 30", "retention_days = 31", "for 31 days", (10, 18)),
            ("{instance_id}/", "{instance}/", "stream: {instance} is none of", (9, 10)),
            ("start = '^\\d'", "start = '('", "start: ", (11, 18)),
            ("timeout = \"2s\"", "timeout = \"2\"", "such as 500ms", (11, 35)),
            ("Europe/Berlin", "Europe/Nowhere", "zone: ", (12, 52)),
            ("\"/srv/*/x.log\"", "\"srv/x.log\"", "srv/x.log is no absolute path", (6, 8)),
            ("drop = ", "droop = ", "unknown field `droop`", (13, 1)),
            ("flush = \"500ms\"", "flush = 500", "invalid type", (27, 9)),
            ("_TRANSPORT=", "transport=", "a match is FIELD=value", (19, 12)),
            ("\"ssh.service\"", "\"--all\"", "no unit's name", (18, 10)),
            ("format = \"json\"", "format = \"xml\"", "format is", (20, 10)),
            ("stdin-{date}", "{file}", "no file that {file} could be", (24, 10)),
            (
                "group = \"/acme/app\"\nstream = \"{inst",
                "group = \"/{date}\"\nstream = \"{inst",
                "has no date in it",
                (8, 9),
            ),
            ("\"Acme/Host\"", "\"AWS/Host\"", "a namespace is", (30, 13)),
            ("cpu_usage_idle", "cpu_idle", "no metric cpu_idle", (33, 9)),
            ("interval = \"30s\"", "interval = \"30ms\"", "once a second", (31, 12)),
            ("state = \"/tmp", "state = \"tmp", "no absolute path", (3, 9)),
            ("%Y-%m-%d %H", "%Y-%m-%d %!", "format: ", (12, 24)),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let mistakes = Config::parse(&text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].message.contains(message), "{mistakes:?}");
            assert_eq!(mistakes[0].place(&text), Some(place), "{to}");
        }
        assert_eq!(Config::parse("version = 1").unwrap_err()[0].place(""), None);
        let help = |from: &str, to: &str| Config::parse(&GOOD.replace(from, to)).unwrap_err()[0].help.clone().unwrap();
        assert_eq!(help("drop =", "droop ="), "did you mean drop?");
        assert_eq!(help("mem_used_percent", "mem_used_percnt"), "did you mean mem_used_percent?");
    }
}
