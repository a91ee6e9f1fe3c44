//! The half of metrics.

use serde_json::Value;

use super::{Notes, Object, Toml, WILD, quoted, text};
use crate::metrics;

/// Sections of metrics of the host that we know; a metric's name begins with its section's.
const SECTIONS: [&str; 5] = ["cpu", "mem", "swap", "disk", "net"];

pub(super) fn measured(mut metrics: Object, agent: &mut Object, notes: &mut Notes) -> String {
    let everywhere = agent.seconds("metrics_collection_interval", notes).unwrap_or(60);
    let is_nameless = agent.flag("omit_hostname", notes).unwrap_or_default();
    let read = |value: Value| text(value).filter(|name| is_namespace(name));
    let namespace = metrics.get("namespace", "namespace that CloudWatch takes", notes, read);
    let mut host = Measured::default();
    if let Some(mut collected) = metrics.object("metrics_collected", notes) {
        for name in SECTIONS {
            if let Some(section) = collected.object(name, notes) {
                host.section(name, section, everywhere, notes);
            }
        }
        collected.finish(notes);
    }
    let dimensions = match metrics.object("append_dimensions", notes) {
        None if is_nameless => "{}",
        None => "{ host = \"{hostname}\" }",
        Some(mut wanted) => {
            let has_id = wanted.rest.get("InstanceId").is_some_and(|id| *id == "${aws:InstanceId}");
            wanted.ignore("InstanceId", |_| has_id);
            wanted.finish(notes);
            if has_id { "{ InstanceId = \"{instance_id}\" }" } else { "{}" }
        }
    };
    metrics.finish(notes);
    if host.names.is_empty() {
        return String::new();
    }
    // One for all; with a longer one alarms would miss data.
    let interval = host.intervals.iter().map(|(_, seconds)| *seconds).min().unwrap_or(everywhere);
    for (place, _) in host.intervals.iter().filter(|(_, seconds)| *seconds != interval) {
        notes.add(place, format!("all metrics have the shortest interval, which is {interval} s"));
    }
    let mut toml = Toml::table("[metrics]");
    toml.line("namespace", quoted(namespace.as_deref().unwrap_or("CWAgent")));
    toml.line("interval", format!("\"{interval}s\""));
    toml.line("dimensions", dimensions);
    toml.texts("host", &host.names);
    if host.per_cpu {
        toml.line("per_cpu", true);
    }
    toml.texts("disks", &host.disks);
    toml.texts("interfaces", &host.interfaces);
    toml.0
}

/// As PutMetricData has it.
fn is_namespace(name: &str) -> bool {
    let is_safe = |char: char| char.is_ascii_alphanumeric() || ".-_/#:".contains(char);
    (1..=255).contains(&name.len()) && !name.starts_with("AWS/") && name.chars().all(is_safe)
}

/// Metrics of the host.
#[derive(Debug, Default)]
struct Measured {
    names: Vec<&'static str>,
    per_cpu: bool,
    disks: Vec<String>,
    interfaces: Vec<String>,
    /// Seconds, and where they stand.
    intervals: Vec<(String, u64)>,
}

impl Measured {
    fn section(&mut self, name: &str, mut section: Object, everywhere: u64, notes: &mut Notes) {
        let before = self.names.len();
        for (place, item) in section.items("measurement", "metric", notes, Some) {
            self.measurement(name, place, item, notes);
        }
        let interval = section.seconds("metrics_collection_interval", notes).unwrap_or(everywhere);
        if self.names.len() == before {
            notes.add(&section.place, "not carried over: it has no measurement that is known here");
        } else {
            self.intervals.push((section.at("metrics_collection_interval"), interval));
        }
        let all = |texts: &[String]| texts.iter().any(|text| text == "*");
        match name {
            "cpu" => {
                self.per_cpu = all(&section.texts("resources", notes));
                section.ignore("totalcpu", |value| *value == true);
            }
            "disk" | "net" => {
                let mut wanted = section.texts("resources", notes);
                if all(&wanted) {
                    wanted.clear();
                } else if wanted.iter().any(|text| text.contains(WILD)) {
                    notes.add(&section.at("resources"), "not carried over: it has patterns, so all are measured");
                    wanted.clear();
                }
                *if name == "disk" { &mut self.disks } else { &mut self.interfaces } = wanted;
            }
            _ => section.ignore("resources", |_| true),
        }
        section.ignore("drop_device", |value| *value == false);
        section.finish(notes);
    }

    /// A metric, with its section's name before it or without, alone or with more about it.
    fn measurement(&mut self, section: &str, place: String, item: Value, notes: &mut Notes) {
        let name = match item {
            Value::String(name) => Some(name),
            Value::Object(rest) => {
                let mut about = Object { place: place.clone(), rest };
                let name = about.text("name", notes);
                about.finish(notes);
                name
            }
            _ => None,
        };
        let name = name.unwrap_or_default();
        let name = name.trim();
        let name = name.strip_prefix(&format!("{section}_")).unwrap_or(name);
        match metrics::find(&format!("{section}_{name}")) {
            None => notes.add(&place, "not carried over: it is no metric that is known here"),
            Some(name) if self.names.contains(&name) => {}
            Some(name) => self.names.push(name),
        }
    }
}
