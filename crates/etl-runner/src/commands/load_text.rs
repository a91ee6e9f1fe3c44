//! A load as a person reads it.

use std::fmt::Write as _;
use std::time::Duration;

use cli::{Style, escape, human};
use etl_runner::report::{LoadReport, Outcome, RejectTotal};

/// Kinds of rejects named on one line.
const SHOWN_KINDS: usize = 6;

/// The block, or line, of an object that did not fail; nothing for one that did. `label` is the object's name as the
/// person knows it, `next` makes a command to type next.
pub(super) fn load_text(report: &LoadReport, label: &str, style: Style, next: impl Fn(&str) -> String) -> String {
    let label_shown = escape(label);
    match &report.outcome {
        Outcome::Loaded { load } => {
            let mut text = block(report, label, "loaded", style);
            let _ = write!(text, "  load {load} · {}", pace(report));
            if report.counts.rejected > 0 {
                let _ = write!(text, " · all rejects: {}", escape(&next(&format!("rejects list {load}"))));
            }
            text.push('\n');
            text
        }
        Outcome::WouldLoad => {
            let mut text = block(report, label, "would load", style);
            let _ = writeln!(text, "  dry run · {} · nothing was written", pace(report));
            text
        }
        Outcome::AlreadyLoaded { load, pipeline_changed: false } => {
            format!("{label_shown}: {} (load {load})\n", style.dim("already loaded"))
        }
        Outcome::AlreadyLoaded { load, pipeline_changed: true } => format!(
            "{label_shown}: {} (load {load}), but {}\n",
            style.yellow("already loaded"),
            report.explain().unwrap_or_default()
        ),
        Outcome::SameBytes { load } => {
            format!("{label_shown}: {} (load {load} has the same bytes)\n", style.dim("already loaded"))
        }
        Outcome::Skipped { load, .. } => {
            let why = report.explain().unwrap_or_default();
            format!("{label_shown}: {} (load {load}): {why}\n", style.yellow("left alone"))
        }
        Outcome::Failed { .. } => String::new(),
    }
}

fn block(report: &LoadReport, label: &str, verb: &str, style: Style) -> String {
    let counts = &report.counts;
    let mut text = format!("{} → {}\n", style.bold(escape(label)), escape(&report.table));
    let mut line = |name: &str, number: u64, rest: &str| {
        let _ = writeln!(text, "  {name:<11}{:>9}{rest}", human::count(number));
    };
    let skipped = match counts.skipped {
        0 => String::new(),
        lines => format!(", {} skipped", human::counted(lines, "blank or comment line", "blank or comment lines")),
    };
    line(verb, counts.loaded, &format!(" of {}{skipped}", human::counted(counts.read, "record", "records")));
    if counts.filtered > 0 {
        line("filtered", counts.filtered, "");
    }
    if counts.duplicates > 0 {
        line("duplicates", counts.duplicates, "");
    }
    if counts.rejected > 0 {
        // With every reject below, their sums say nothing new.
        let all_shown = report.first_rejects.len() as u64 >= counts.rejected;
        let kinds = if all_shown { String::new() } else { format!(": {}", kinds(&report.reject_totals)) };
        line("rejected", counts.rejected, &kinds);
    }
    for reject in reject_lines(report, label) {
        text.push_str(&reject);
        text.push('\n');
    }
    if counts.read == 0 {
        text.push_str("  note: there is no record below the header\n");
    }
    for note in &report.notes {
        let _ = writeln!(text, "  note: {}", escape(note));
    }
    text
}

/// `type-error balance 1 · constraint-error age 1`
fn kinds(totals: &[RejectTotal]) -> String {
    let name = |total: &RejectTotal| match &total.field {
        Some(field) => format!("{} {} {}", total.code, escape(field), human::count(total.count)),
        None => format!("{} {}", total.code, human::count(total.count)),
    };
    let mut text = totals.iter().take(SHOWN_KINDS).map(name).collect::<Vec<_>>().join(" · ");
    if totals.len() > SHOWN_KINDS {
        let _ = write!(text, " · {} more kinds", totals.len() - SHOWN_KINDS);
    }
    text
}

/// `label:line: field: message [code]`, which editors and terminals take for a place in a file.
pub(super) fn reject_lines(report: &LoadReport, label: &str) -> Vec<String> {
    let mut lines: Vec<String> = report
        .first_rejects
        .iter()
        .map(|reject| {
            let place = reject_line(label, reject.line, reject.field.as_deref(), &reject.message, &reject.code);
            format!("    {place}")
        })
        .collect();
    let more = report.counts.rejected.saturating_sub(report.first_rejects.len() as u64);
    if more > 0 {
        lines.push(format!("    … and {} more", human::count(more)));
    }
    lines
}

/// One reject, without the value.
pub(super) fn reject_line(label: &str, line: u64, field: Option<&str>, message: &str, code: &str) -> String {
    let label = escape(label);
    match field {
        Some(field) => format!("{label}:{line}: {}: {} [{}]", escape(field), escape(message), escape(code)),
        None => format!("{label}:{line}: {} [{}]", escape(message), escape(code)),
    }
}

/// `30 ms · 3.1 MiB/s`
fn pace(report: &LoadReport) -> String {
    let seconds = report.seconds.max(0.0);
    let duration = match Duration::try_from_secs_f64(seconds) {
        Ok(short) if seconds < 0.1 => format!("{} ms", short.as_millis()),
        Ok(short) if seconds < 1.0 => format!("{:.2} s", short.as_secs_f64()),
        Ok(duration) => human::duration(duration),
        Err(_) => format!("{seconds:.0} s"),
    };
    // A file read in no time has no rate.
    if seconds < 0.001 {
        return duration;
    }
    format!("{duration} · {}/s", human::bytes((report.bytes as f64 / seconds) as u64))
}

/// What became of all objects of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) loaded: u64,
    pub(super) would_load: u64,
    pub(super) already_loaded: u64,
    pub(super) left_alone: u64,
    pub(super) failed: u64,
    pub(super) left_out: u64,
    pub(super) not_tried: bool,
    pub(super) records: u64,
    pub(super) rows: u64,
    pub(super) rejects: u64,
}

impl Sums {
    pub(super) fn add(&mut self, load: &LoadReport) {
        match load.outcome {
            Outcome::Loaded { .. } => self.loaded += 1,
            Outcome::WouldLoad => self.would_load += 1,
            // The run's own count has those that are not named, too.
            Outcome::AlreadyLoaded { .. } => return,
            Outcome::SameBytes { .. } => return self.already_loaded += 1,
            Outcome::Skipped { .. } => return self.left_alone += 1,
            Outcome::Failed { .. } => return self.failed += 1,
        }
        self.records += load.counts.read;
        self.rows += load.counts.loaded;
        self.rejects += load.counts.rejected;
    }

    /// Objects that were looked at one by one.
    fn objects(&self) -> u64 {
        self.loaded + self.would_load + self.already_loaded + self.left_alone + self.failed
    }

    /// `3 objects: 2 loaded, 1 already loaded · 45 records: 39 loaded, 6 rejected`; nothing when one block said it all.
    pub(super) fn line(&self) -> Option<String> {
        if self.objects() < 2 && self.left_out == 0 && !self.not_tried {
            return None;
        }
        let mut parts = Vec::new();
        for (number, what) in [
            (self.loaded, "loaded"),
            (self.would_load, "would be loaded"),
            (self.already_loaded, "already loaded"),
            (self.left_alone, "left alone"),
            (self.failed, "failed"),
            (self.left_out, "left out"),
        ] {
            if number > 0 {
                parts.push(format!("{} {what}", human::count(number)));
            }
        }
        let objects = human::counted(self.objects() + self.left_out, "object", "objects");
        let mut text = format!("{objects}: {}", parts.join(", "));
        if self.loaded + self.would_load > 0 {
            let _ = write!(
                text,
                " · {}: {} loaded, {} rejected",
                human::counted(self.records, "record", "records"),
                human::count(self.rows),
                human::count(self.rejects)
            );
        }
        if self.not_tried {
            text.push_str(" · stopped early: the next ones would fail the same way");
        }
        text.push('\n');
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_stands_first_and_nothing_in_a_name_escapes() {
        assert_eq!(
            reject_line("a.csv", 12, Some("balance"), "not a number", "type-error"),
            "a.csv:12: balance: not a number [type-error]"
        );
        assert_eq!(reject_line("a\x1b.csv", 1, None, "m", "c"), "a\\x1b.csv:1: m [c]");
    }

    #[test]
    fn one_object_needs_no_sum_and_several_do() {
        assert_eq!(Sums { loaded: 1, ..Sums::default() }.line(), None);
        let sums = Sums { loaded: 2, already_loaded: 1, records: 45, rows: 39, rejects: 6, ..Sums::default() };
        assert_eq!(sums.line().unwrap(), "3 objects: 2 loaded, 1 already loaded · 45 records: 39 loaded, 6 rejected\n");
        let left = Sums { left_out: 4, ..Sums::default() };
        assert_eq!(left.line().unwrap(), "4 objects: 4 left out\n");
    }
}
