//! The JSON configuration of the Amazon CloudWatch Agent (here: the agent) → a configuration of ours. Takes text, gives text;
//! opens nothing.
//!
//! A key that is read is taken out of its object, and whatever is left at the end gets a note: nothing is dropped silently.
//! Notes name places and never say what stands there: it may be a secret.

mod metrics;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Display;

use regex::Regex;
use serde_json::{Map, Value};

use crate::config::RETENTION_DAYS;
use crate::time::TimeRule;

/// What came of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// A configuration of ours.
    pub toml: String,
    /// A sentence for each thing that was not carried over or is different, beginning with where it is in the JSON.
    pub notes: Vec<String>,
}

/// Why nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("line {line}, column {column}: no JSON: {what}")]
    NoJson { line: usize, column: usize, what: String },
    #[error("no configuration of the CloudWatch agent: the JSON is no object")]
    NoObject,
    #[error("nothing in it can be carried over{}", notes.iter().map(|note| format!("; {note}")).collect::<String>())]
    Nothing { notes: Vec<String> },
}

const HEAD: &str = "# Made of a configuration of the Amazon CloudWatch Agent.\nversion = 1\n";
/// The agent begins an event at `^[\S]`: blank lines go on with the one before, as indented ones do.
const JOINED: &str = r"^(\s|$)";
/// What the agent never reads as a log.
const COMPRESSED: [&str; 6] = ["bz2", "gz", "rar", "tar", "zip", "zst"];
const WILD: [char; 3] = ['*', '?', '['];
const INSTANCE_ID: &str = "{instance_id}";
/// The longest time our configuration takes, in seconds.
const LONGEST: u64 = 3_600;

/// What to know of keys that are not carried over.
const REASONS: [(&[&str], &str); 15] = [
    (
        &["drop_device"],
        "metrics of disks have a dimension `device` more, which alarms and dashboards for them have to name",
    ),
    (&["region"], "the region is that of the environment (AWS_REGION) or of the instance"),
    (&["credentials"], "credentials are those of the environment or of the instance's role"),
    (&["endpoint_override"], "an endpoint is given in the environment (AWS_ENDPOINT_URL)"),
    (&["run_as_user"], "the unit that starts log-shipper says who it runs as"),
    (
        &["aws_sdk_log_level", "debug", "logfile", "quiet"],
        "flags say how much log-shipper tells, and standard error has it",
    ),
    (&["auto_removal"], "no file is ever removed"),
    (&["encoding"], "files are read as UTF-8, and other bytes are replaced"),
    (&["trim_timestamp"], "the time stays in the event"),
    (&["kms_key_id", "log_group_class"], "a missing log group is made as a plain one, so make it beforehand"),
    (&["service.name", "deployment.environment"], "events are not tied to a service"),
    (&["aggregation_dimensions"], "metrics have all their dimensions, so alarms on fewer get no data"),
    (&["rename"], "the metric keeps its own name, so alarms on the other get no data"),
    (&["unit"], "the metric keeps its own unit"),
    (&["ImageId", "InstanceType", "AutoScalingGroupName"], "there is no such dimension, so alarms with it get no data"),
];

/// Makes a configuration of ours of the agent's.
pub fn import(text: &str) -> Result<Imported, ImportError> {
    let json = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default().to_owned();
        ImportError::NoJson { line: error.line(), column: error.column(), what }
    })?;
    let Value::Object(json) = json else { return Err(ImportError::NoObject) };
    let mut notes = Notes::default();
    let mut root = Object { place: String::new(), rest: json };
    let mut agent = root.object("agent", &mut notes).unwrap_or_default();
    let mut toml = String::new();
    if let Some(found) = root.object("logs", &mut notes) {
        toml.push_str(&logs(found, &mut notes));
    }
    if let Some(found) = root.object("metrics", &mut notes) {
        toml.push_str(&metrics::measured(found, &mut agent, &mut notes));
    }
    // Without metrics these have no meaning for the agent either.
    agent.ignore("metrics_collection_interval", |_| true);
    agent.ignore("omit_hostname", |_| true);
    agent.finish(&mut notes);
    root.finish(&mut notes);
    if toml.is_empty() {
        return Err(ImportError::Nothing { notes: notes.0 });
    }
    Ok(Imported { toml: format!("{HEAD}{toml}"), notes: notes.0 })
}

// ---- reading

#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    fn add(&mut self, place: &str, what: impl Display) {
        self.0.push(format!("{place}: {what}"));
    }
}

/// An object of the JSON, with the keys that nobody has taken yet.
#[derive(Debug, Default)]
struct Object {
    place: String,
    rest: Map<String, Value>,
}

impl Object {
    fn at(&self, key: &str) -> String {
        let dot = if self.place.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.place, key.escape_debug())
    }

    fn get<T>(&mut self, key: &str, what: &str, notes: &mut Notes, read: impl Fn(Value) -> Option<T>) -> Option<T> {
        let read = read(self.rest.remove(key)?);
        if read.is_none() {
            notes.add(&self.at(key), format!("not carried over: it is no {what}"));
        }
        read
    }

    /// An empty text is as good as none, for the agent too.
    fn text(&mut self, key: &str, notes: &mut Notes) -> Option<String> {
        self.get(key, "text", notes, text).filter(|text| !text.is_empty())
    }

    /// A name as a template of ours.
    fn name(&mut self, key: &str, notes: &mut Notes) -> Option<String> {
        let name = self.text(key, notes)?;
        Some(template(&name, key == "log_stream_name", &self.at(key), notes))
    }

    fn flag(&mut self, key: &str, notes: &mut Notes) -> Option<bool> {
        self.get(key, "true or false", notes, |value| value.as_bool())
    }

    fn seconds(&mut self, key: &str, notes: &mut Notes) -> Option<u64> {
        let what = format!("whole number of seconds from 1 to {LONGEST}");
        self.get(key, &what, notes, |value| value.as_u64().filter(|seconds| (1..=LONGEST).contains(seconds)))
    }

    fn object(&mut self, key: &str, notes: &mut Notes) -> Option<Self> {
        let place = self.at(key);
        let rest = self.get(key, "object", notes, object)?;
        Some(Self { place, rest })
    }

    /// The items of a list that are what they should be, each with its place.
    fn items<T>(&mut self, key: &str, what: &str, notes: &mut Notes, read: fn(Value) -> Option<T>) -> Vec<(String, T)> {
        let list = self.get(key, "list", notes, |value| if let Value::Array(list) = value { Some(list) } else { None });
        let mut items = Vec::new();
        for (index, value) in list.unwrap_or_default().into_iter().enumerate() {
            let place = format!("{}[{index}]", self.at(key));
            match read(value) {
                Some(item) => items.push((place, item)),
                None => notes.add(&place, format!("not carried over: it is no {what}")),
            }
        }
        items
    }

    fn texts(&mut self, key: &str, notes: &mut Notes) -> Vec<String> {
        self.items(key, "text", notes, text).into_iter().map(|(_, text)| text).collect()
    }

    fn objects(&mut self, key: &str, notes: &mut Notes) -> Vec<Self> {
        let objects = self.items(key, "object", notes, object);
        objects.into_iter().map(|(place, rest)| Self { place, rest }).collect()
    }

    /// Takes a key whose value means what is the case here anyway.
    fn ignore(&mut self, key: &str, is_so: impl Fn(&Value) -> bool) {
        if self.rest.get(key).is_some_and(is_so) {
            self.rest.remove(key);
        }
    }

    fn finish(self, notes: &mut Notes) {
        for key in self.rest.keys() {
            let reason = REASONS.iter().find(|(keys, _)| keys.contains(&key.as_str()));
            let reason = reason.map_or(String::new(), |(_, reason)| format!(": {reason}"));
            notes.add(&self.at(key), format!("not carried over{reason}"));
        }
    }
}

fn text(value: Value) -> Option<String> {
    if let Value::String(text) = value { Some(text) } else { None }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(object) = value { Some(object) } else { None }
}

// ---- writing

/// Lines of TOML.
#[derive(Debug, Default)]
struct Toml(String);

impl Toml {
    fn table(name: &str) -> Self {
        Self(format!("\n{name}\n"))
    }

    fn line(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, text: Option<&String>) {
        if let Some(text) = text {
            self.line(key, quoted(text));
        }
    }

    /// Nothing for no texts.
    fn texts(&mut self, key: &str, texts: &[impl AsRef<str>]) {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text.as_ref())).collect();
        let line = format!("[{}]", texts.join(", "));
        match texts.len() {
            0 => {}
            _ if line.len() < 100 => self.line(key, line),
            _ => self.line(key, format!("[\n    {},\n]", texts.join(",\n    "))),
        }
    }
}

/// A text as TOML has it, a literal one where that saves escapes.
fn quoted(text: &str) -> String {
    let has_control = text.contains(char::is_control);
    if !has_control && !text.contains(['"', '\\']) {
        return format!("\"{text}\"");
    }
    if !has_control && !text.contains('\'') {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            _ if char.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(char))),
            _ => quoted.push(char),
        }
    }
    quoted + "\""
}

// ---- logs

fn logs(mut logs: Object, notes: &mut Notes) -> String {
    let stream = logs.name("log_stream_name", notes).unwrap_or_else(|| INSTANCE_ID.to_owned());
    let (mut toml, mut seen) = (String::new(), BTreeSet::new());
    let mut collected = logs.object("logs_collected", notes).unwrap_or_default();
    if let Some(mut found) = collected.object("files", notes) {
        for entry in found.objects("collect_list", notes) {
            toml.push_str(&files(entry, &stream, &mut seen, notes).unwrap_or_default());
        }
        found.finish(notes);
    }
    if let Some(mut found) = collected.object("journald", notes) {
        let mut seen = BTreeSet::new();
        for entry in found.objects("collect_list", notes) {
            toml.push_str(&journal(entry, &stream, &mut seen, notes).unwrap_or_default());
        }
        found.finish(notes);
    }
    collected.finish(notes);
    let mut delivery = Toml::default();
    if let Some(seconds) = logs.seconds("force_flush_interval", notes) {
        delivery.line("flush", format!("\"{seconds}s\""));
    }
    let few = |value: Value| value.as_u64().filter(|few| (1..=8).contains(few));
    if let Some(parallel) = logs.get("concurrency", "whole number from 1 to 8", notes, few) {
        delivery.line("parallel", parallel);
    }
    logs.finish(notes);
    if !toml.is_empty() && !delivery.0.is_empty() {
        toml.push_str(&format!("\n[delivery]\n{}", delivery.0));
    }
    toml
}

/// A name of the agent's as a template of ours. What ours cannot say becomes a plain word.
fn template(name: &str, has_date: bool, place: &str, notes: &mut Notes) -> String {
    let (mut made, mut rest) = (String::new(), name);
    while let Some((before, behind)) = rest.split_once('{') {
        made.push_str(before);
        rest = behind;
        let (inner, after) = behind.split_once('}').unwrap_or_default();
        match inner {
            "instance_id" => made.push_str(INSTANCE_ID),
            "hostname" | "local_hostname" => {
                made.push_str("{hostname}");
                // The agent's own {hostname} is the one of EC2's metadata, with its domain.
                notes.add(place, format!("{{{inner}}} is {{hostname}}, the name that the host gives itself"));
            }
            "date" if has_date => {
                made.push_str("{date}");
                notes.add(place, "{date} is the day of the event, not the day the agent was started");
            }
            "account_id" | "aws_region" | "date" | "ip_address" => {
                let word = inner.replace('_', "-");
                notes.add(place, format!("there is no {{{inner}}} here: write it in by hand where {word} stands"));
                made.push_str(&word);
            }
            _ => {
                notes.add(place, "a brace that begins no placeholder of the agent's becomes an underscore");
                made.push('_');
                continue;
            }
        }
        rest = after;
    }
    made + rest
}

fn files(mut entry: Object, stream: &str, seen: &mut BTreeSet<String>, notes: &mut Notes) -> Option<String> {
    let place = entry.at("file_path");
    let Some(path) = entry.text("file_path", notes) else {
        notes.add(&entry.place, "not carried over: it has no file_path");
        return None;
    };
    let Some(glob) = path_glob(&path) else {
        notes.add(&entry.place, "not carried over: its file_path is no absolute path that our patterns can say");
        return None;
    };
    if !seen.insert(path.clone()) {
        notes.add(&place, "an entry before has the same path, and a file belongs to the first that names it");
    }
    let are_all = entry.flag("publish_multi_logs", notes).unwrap_or_default();
    if path.contains(WILD) && !are_all {
        notes.add(&place, "all files that match are followed, not only the newest");
    }
    let exclude = exclude(&mut entry, &glob, notes);
    let (group, stream) = names(&mut entry, &path, are_all, stream, notes);
    let (timestamp, pattern) = time(&mut entry, notes);
    let join = join(&mut entry, pattern, notes);
    let (keep, drop) = filters(&mut entry, notes);

    let mut toml = Toml::table("[[files]]");
    toml.line("path", quoted(&glob));
    toml.texts("exclude", &exclude);
    toml.line("group", quoted(&group));
    toml.line("stream", quoted(&stream));
    retention(&mut entry, &mut toml, notes);
    toml.line("join", join);
    if let Some(timestamp) = timestamp {
        toml.line("timestamp", timestamp);
    }
    toml.text("keep", keep.as_ref());
    toml.text("drop", drop.as_ref());
    // Not documented, but read.
    if entry.flag("from_beginning", notes) == Some(false) {
        toml.line("from", "\"end\"");
    }
    for key in ["auto_removal", "trim_timestamp", "pipe"] {
        entry.ignore(key, |value| *value == false);
    }
    let is_any = |value: &Value, of: &[&str]| value.as_str().is_some_and(|value| of.contains(&&*value.to_lowercase()));
    entry.ignore("log_group_class", |class| is_any(class, &["standard"]));
    entry.ignore("encoding", |encoding| is_any(encoding, &["ascii", "utf-8", "utf8", "utf_8"]));
    entry.finish(notes);
    Some(toml.0)
}

fn journal(mut entry: Object, stream: &str, seen: &mut BTreeSet<String>, notes: &mut Notes) -> Option<String> {
    let Some(group) = entry.name("log_group_name", notes) else {
        notes.add(&entry.place, "not carried over: it has no log_group_name");
        return None;
    };
    let has_units = entry.rest.get("units").is_some_and(|units| units.as_array().is_none_or(|units| !units.is_empty()));
    let read = |unit| text(unit).filter(|unit| !unit.is_empty() && !unit.starts_with('-'));
    let units = entry.items("units", "unit's name", notes, read);
    let units: Vec<String> = units.into_iter().map(|(_, unit)| unit).collect();
    if (has_units && units.is_empty()) || !seen.insert(units.join(" ")) {
        notes.add(&entry.place, "not carried over: its units are none, or those of an entry before");
        return None;
    }
    let mut toml = Toml::table("[[journal]]");
    toml.line("group", quoted(&group));
    toml.line("stream", quoted(&entry.name("log_stream_name", notes).unwrap_or_else(|| stream.to_owned())));
    retention(&mut entry, &mut toml, notes);
    toml.texts("units", &units);
    let (keep, drop) = filters(&mut entry, notes);
    toml.text("keep", keep.as_ref());
    toml.text("drop", drop.as_ref());
    toml.line("from", "\"end\"");
    if !entry.rest.contains_key("priority") {
        notes.add(&entry.place, "what is of priority debug is shipped, too, which the agent leaves out");
    }
    entry.finish(notes);
    Some(toml.0)
}

fn retention(entry: &mut Object, toml: &mut Toml, notes: &mut Notes) {
    entry.ignore("retention_in_days", |days| *days == -1 || *days == 0);
    let is_possible = |days: &u64| RETENTION_DAYS.iter().any(|possible| u64::from(*possible) == *days);
    let read = |value: Value| value.as_u64().filter(is_possible);
    if let Some(days) = entry.get("retention_in_days", "number of days that CloudWatch Logs knows", notes, read) {
        toml.line("retention_days", days);
    }
}

/// The agent's path as a pattern of ours, where `**` is a whole part of a path. `None` where that is not possible.
fn path_glob(path: &str) -> Option<String> {
    // Without `**` braces are plain text for the agent, too.
    if !path.starts_with('/') || path.contains('\\') || (path.contains("**") && path.contains('{')) {
        return None;
    }
    let (directory, name) = path.rsplit_once('/')?;
    let name = name.strip_prefix("**").map_or(name.to_owned(), |end| format!("**/*{}", end.trim_start_matches('*')));
    let glob = format!("{directory}/{name}").replace("[^", "[!");
    glob.split('/').all(|part| glob::Pattern::new(part).is_ok()).then_some(glob)
}

/// The blacklist, and compressed files where the path may match such.
fn exclude(entry: &mut Object, path: &str, notes: &mut Notes) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(blacklist) = entry.text("blacklist", notes) {
        match name_glob(&blacklist) {
            Some(glob) => names.push(glob),
            None => notes.add(&entry.at("blacklist"), "not carried over: write it as patterns of paths in `exclude`"),
        }
    }
    if path.ends_with(['*', '?', ']']) {
        names.extend(COMPRESSED.map(|end| format!("*.{end}")));
    }
    let directory = path.rsplit_once('/').unwrap_or_default().0;
    names.iter().map(|name| format!("{directory}/{name}")).collect()
}

/// A regex that is searched for in names of files, as a pattern of whole names. `None` for all but the simplest.
fn name_glob(regex: &str) -> Option<String> {
    let mut glob = String::from(if regex.starts_with('^') { "" } else { "*" });
    let mut chars = regex.strip_prefix('^').unwrap_or(regex).chars().peekable();
    let mut is_open = true;
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                let char = chars.next().filter(char::is_ascii_punctuation)?;
                glob.push_str(&glob::Pattern::escape(&char.to_string()));
            }
            '$' if chars.peek().is_none() => is_open = false,
            // Two stars are something else.
            '.' if chars.next_if_eq(&'*').is_some() => glob.push_str(if glob.ends_with('*') { "" } else { "*" }),
            '.' => glob.push('?'),
            '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' | '/' => return None,
            _ => glob.push(char),
        }
    }
    if is_open && !glob.ends_with('*') {
        glob.push('*');
    }
    Some(glob)
}

/// Group and stream. With `publish_multi_logs` the agent makes the one that is not given out of the file's path.
fn names(entry: &mut Object, path: &str, are_all: bool, stream: &str, notes: &mut Notes) -> (String, String) {
    let (parent, name) = path.rsplit_once('/').unwrap_or_default();
    let safe = |char: char| if char.is_ascii_alphanumeric() || ".-_/#".contains(char) { char } else { '_' };
    let mut directory: String = format!("{parent}/").chars().map(safe).collect();
    if are_all && (parent.contains(WILD) || name.contains("**")) {
        notes.add(&entry.at("publish_multi_logs"), "names have {file}, the name of the file, not its whole path");
        directory.clear();
    }
    let group = entry.name("log_group_name", notes);
    let stream = entry.name("log_stream_name", notes).unwrap_or_else(|| stream.to_owned());
    match group {
        Some(group) if are_all => (group, format!("{stream}_{}{{file}}", directory.replace('/', "_"))),
        Some(group) => (group, stream),
        None if are_all => (format!("{directory}{{file}}"), stream),
        None => {
            let end = name.rfind('.').map_or(path.len(), |dot| path.len() - name.len() + dot);
            (path[..end].chars().map(safe).collect(), stream)
        }
    }
}

/// The value of `timestamp`, and the pattern by which times are found.
fn time(entry: &mut Object, notes: &mut Notes) -> (Option<String>, Option<String>) {
    let place = entry.at("timestamp_format");
    let zone = entry.text("timezone", notes);
    let Some(wanted) = entry.text("timestamp_format", notes) else {
        if zone.is_some() {
            notes.add(&entry.at("timezone"), "not carried over: without timestamp_format it means nothing");
        }
        return (None, None);
    };
    let zone = match zone.as_deref() {
        Some("UTC") => "UTC",
        None | Some("LOCAL" | "Local") => "local",
        Some(_) => {
            notes.add(&entry.at("timezone"), "taken for the host's own zone, as the agent does with all but UTC");
            "local"
        }
    };
    let Some((format, pattern)) = format(&wanted) else {
        notes.add(&place, "not carried over: the agent does not know all its letters; events have the time of reading");
        return (None, None);
    };
    if TimeRule::check(&format).is_err() {
        notes.add(&place, "not carried over: it has no day and hour in it; events have the time of reading");
        return (None, Some(pattern));
    }
    if wanted.contains("%Z") {
        notes.add(&place, format!("%Z is passed over, and the time is taken to be in the zone {zone}"));
    }
    let timestamp = format!("{{ format = {}, zone = \"{zone}\", pattern = {} }}", quoted(&format), quoted(&pattern));
    (Some(timestamp), Some(pattern))
}

/// The format in our letters, and the regex the agent makes of it; its time may stand anywhere in a line.
fn format(wanted: &str) -> Option<(String, String)> {
    let (mut format, mut pattern, mut rest) = (String::new(), String::new(), wanted.chars());
    while let Some(char) = rest.next() {
        if char != '%' {
            format.push(char);
            pattern.push_str(&regex::escape(&char.to_string()));
            continue;
        }
        let letter = rest.next()?;
        let (dash, letter) = if letter == '-' { ("-", rest.next()?) } else { ("", letter) };
        pattern.push_str(match (dash, letter) {
            (_, 'd' | 'm') => r"\s?\d{1,2}",
            ("-", 'H' | 'I' | 'M' | 'S') => r"\d{1,2}",
            ("", 'H' | 'I' | 'M' | 'S' | 'y') => r"\d{2}",
            ("", 'Y') => r"\d{4}",
            ("", 'f') => r"\d{1,9}",
            ("", 'z') => r"[+-]\d{4}",
            ("", 'p') => r"\w{2}",
            ("", 'a' | 'b') => r"\w{3}",
            ("", 'A') => r"\w{6,9}",
            // The agent finds only months of seven letters and zones of three.
            ("", 'B') => r"\w{3,9}",
            ("", 'Z') => r"\w{3,5}",
            _ => return None,
        });
        // %Q passes over the name of a zone; %Z is not for reading.
        format.push_str(&format!("%{dash}{}", if letter == 'Z' { 'Q' } else { letter }));
    }
    let pattern = pattern.strip_prefix(r"\s?").unwrap_or(&pattern);
    Some((format, format!("({pattern})")))
}

fn join(entry: &mut Object, time: Option<String>, notes: &mut Notes) -> String {
    let place = entry.at("multi_line_start_pattern");
    let start = match (entry.text("multi_line_start_pattern", notes).as_deref(), time) {
        (None, _) => None,
        (Some("{timestamp_format}"), Some(time)) => Some(time),
        (Some("{timestamp_format}"), None) => {
            notes.add(&place, "not carried over: there is no timestamp_format; indented lines are joined");
            None
        }
        (Some(pattern), _) => checked(pattern, &place, notes),
    };
    match start {
        Some(start) => format!("{{ start = {} }}", quoted(&start)),
        None => format!("{{ continue = {} }}", quoted(JOINED)),
    }
}

/// A regex that is one here, too.
fn checked(pattern: &str, place: &str, notes: &mut Notes) -> Option<String> {
    if Regex::new(pattern).is_err() {
        notes.add(place, "not carried over: it is no regular expression that is known here");
        return None;
    }
    Some(pattern.to_owned())
}

/// What `keep` and `drop` are.
fn filters(entry: &mut Object, notes: &mut Notes) -> (Option<String>, Option<String>) {
    let place = entry.at("filters");
    let (mut keep, mut drop) = (None, Vec::new());
    for mut filter in entry.objects("filters", notes) {
        let kind = filter.text("type", notes);
        let pattern = filter.text("expression", notes);
        let pattern = pattern.and_then(|pattern| checked(&pattern, &filter.at("expression"), notes));
        match (kind.as_deref(), pattern) {
            (Some("exclude"), Some(pattern)) => drop.push(pattern),
            (Some("include"), Some(pattern)) if keep.is_none() => keep = Some(pattern),
            (_, None) => {}
            (Some("include"), Some(_)) => notes.add(&filter.place, "not carried over: `keep` is one expression"),
            (_, Some(_)) => notes.add(&filter.place, "not carried over: its type is neither include nor exclude"),
        }
        filter.finish(notes);
    }
    let drop = match drop.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        more => checked(&format!("(?:{})", more.join(")|(?:")), &place, notes),
    };
    (keep, drop)
}
