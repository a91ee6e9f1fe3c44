//! Results as a person or a script reads them.

use std::fmt::Write as _;
use std::path::Path;

use cli::{Style, escape, escape_path, human};
use ingest::check::CheckReport;
use ingest::generate::Summary;
use ingest::local::Skipped;
use ingest::upload::{Action, Outcome};
use serde::Serialize;

use crate::failure::Failure;

/// Skipped files named one by one.
const SHOWN_SKIPPED: usize = 10;

/// What became of one file of an upload.
#[derive(Debug, Serialize)]
pub(crate) struct UploadEntry {
    pub(crate) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<String>,
    /// `uploaded`, `replaced`, `unchanged`, `failed`; in a dry run `would_upload`, `would_replace`.
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Bytes that were there from an upload that was cut short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) continued_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<CheckReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<cli::Screen>,
    pub(crate) exit: u8,
}

/// The document of `upload --json`.
#[derive(Debug, Serialize)]
pub(crate) struct UploadDocument<'a> {
    pub(crate) store: String,
    pub(crate) dry_run: bool,
    pub(crate) files: &'a [UploadEntry],
    pub(crate) skipped: Vec<SkippedEntry>,
    pub(crate) exit: u8,
}

/// The document of `check --json`.
#[derive(Debug, Serialize)]
pub(crate) struct CheckDocument<'a> {
    pub(crate) pipeline: String,
    pub(crate) files: &'a [CheckEntry],
    pub(crate) skipped: Vec<SkippedEntry>,
    pub(crate) exit: u8,
}

/// What became of one file of a check.
#[derive(Debug, Serialize)]
pub(crate) struct CheckEntry {
    pub(crate) file: String,
    #[serde(flatten)]
    pub(crate) report: Option<CheckReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<cli::Screen>,
    pub(crate) exit: u8,
}

#[derive(Debug, Serialize)]
pub(crate) struct SkippedEntry {
    file: String,
    reason: &'static str,
}

impl UploadEntry {
    pub(crate) fn new(file: String) -> Self {
        Self {
            file,
            object: None,
            outcome: "failed",
            bytes: None,
            sha256: None,
            version: None,
            continued_bytes: None,
            check: None,
            error: None,
            exit: 0,
        }
    }

    pub(crate) fn with_check(self, check: Option<CheckReport>) -> Self {
        Self { check, ..self }
    }

    pub(crate) fn done(self, object: String, outcome: &Outcome, dry_run: bool) -> Self {
        Self {
            object: Some(object),
            outcome: match (outcome.action, dry_run) {
                (Action::Uploaded, false) => "uploaded",
                (Action::Uploaded, true) => "would_upload",
                (Action::Replaced, false) => "replaced",
                (Action::Replaced, true) => "would_replace",
                (Action::Unchanged, _) => "unchanged",
            },
            bytes: Some(outcome.bytes),
            sha256: Some(outcome.sha256.to_string()),
            version: outcome.version.as_ref().map(ToString::to_string),
            continued_bytes: Some(outcome.continued).filter(|bytes| *bytes > 0),
            check: outcome.check.clone(),
            ..self
        }
    }

    pub(crate) fn failed(self, failure: Failure) -> Self {
        Self { exit: failure.exit.code(), error: Some(failure.screen), ..self }
    }
}

impl SkippedEntry {
    pub(crate) fn of(skipped: &[Skipped]) -> Vec<Self> {
        let entry =
            |skipped: &Skipped| Self { file: skipped.path.display().to_string(), reason: skipped.reason.describe() };
        skipped.iter().map(entry).collect()
    }
}

/// `uploaded a.csv → store/a.csv (1.2 KiB, 10 records, 1 rejected)`, and the rejects below.
pub(crate) fn upload_text(file: &str, target: &str, outcome: &Outcome, dry_run: bool, style: Style) -> String {
    let verb = match (outcome.action, dry_run) {
        (Action::Uploaded, false) => "uploaded",
        (Action::Uploaded, true) => "would upload",
        (Action::Replaced, false) => "replaced",
        (Action::Replaced, true) => "would replace",
        (Action::Unchanged, _) => "unchanged",
    };
    let mut text = String::new();
    let mut facts = human::bytes(outcome.bytes);
    if let Some(check) = &outcome.check {
        let _ = write!(facts, ", {}", human::counted(check.records, "record", "records"));
        if check.rejected > 0 {
            let _ = write!(facts, ", {} rejected", human::count(check.rejected));
        }
    }
    let verb = match outcome.action {
        Action::Unchanged => style.dim(verb).to_string(),
        Action::Uploaded | Action::Replaced => style.green(verb).to_string(),
    };
    let _ = writeln!(text, "{verb} {} → {} ({facts})", escape(file), escape(target));
    // What is there already was reported when it came.
    if let (Some(check), Action::Uploaded | Action::Replaced) = (&outcome.check, outcome.action) {
        text.push_str(&rejects_text(file, check, style));
    }
    text
}

/// `3 files: 1 uploaded, 2 unchanged`.
pub(crate) fn summary_text(entries: &[UploadEntry]) -> String {
    let words = [
        ("uploaded", "uploaded"),
        ("replaced", "replaced"),
        ("would_upload", "to upload"),
        ("would_replace", "to replace"),
        ("unchanged", "unchanged"),
        ("failed", "failed"),
    ];
    let counts = words.map(|(outcome, word)| (entries.iter().filter(|entry| entry.outcome == outcome).count(), word));
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    format!("{} files: {}\n", entries.len(), counts.collect::<Vec<_>>().join(", "))
}

/// `a.csv: 10 records, 9 good, 1 rejected`, and the rejects below.
pub(crate) fn check_text(file: &str, report: &CheckReport, style: Style) -> String {
    let mut text = format!(
        "{}: {}, {} good, {} rejected\n",
        style.bold(escape(file)),
        human::counted(report.records, "record", "records"),
        human::count(report.good),
        human::count(report.rejected),
    );
    text.push_str(&rejects_text(file, report, style));
    text
}

/// Totals by code and field, then the first rejects as an editor can jump to them.
pub(crate) fn rejects_text(file: &str, report: &CheckReport, style: Style) -> String {
    let mut text = String::new();
    let count_width = report.reject_totals.iter().map(|total| human::count(total.count).len()).max().unwrap_or(0);
    let code_width = report.reject_totals.iter().map(|total| total.code.len()).max().unwrap_or(0);
    for total in &report.reject_totals {
        let count = human::count(total.count);
        let field = total.field.as_deref().unwrap_or("whole record");
        let _ = writeln!(text, "  {count:>count_width$}  {:code_width$}  {}", total.code, escape(field));
    }
    for reject in &report.first_rejects {
        let _ = write!(text, "{}:{}: ", escape(file), reject.line);
        if let Some(field) = &reject.field {
            let _ = write!(text, "{}: ", escape(field));
        }
        let _ = writeln!(text, "{} {}", escape(&reject.message), style.dim(format_args!("[{}]", reject.code)));
    }
    let rest = report.rejected - report.first_rejects.len() as u64;
    if rest > 0 && !report.first_rejects.is_empty() {
        let _ = writeln!(text, "… and {} more; --limit shows more of them", human::count(rest));
    }
    text
}

/// What a person should know though nothing is wrong.
pub(crate) fn notes(file: &str, report: &CheckReport) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(delimiter) = report.guessed_delimiter {
        notes.push(format!("{file}: the pipeline names no delimiter, guessed {delimiter:?}"));
    }
    if !report.ignored_columns.is_empty() {
        notes.push(format!("{file}: columns the pipeline does not name: {}", report.ignored_columns));
    }
    if !report.missing_columns.is_empty() {
        notes.push(format!("{file}: columns the file does not have: {}", report.missing_columns));
    }
    if report.records == 0 {
        notes.push(format!("{file}: a header and no records"));
    }
    notes
}

/// The document of `generate --json`.
#[derive(Debug, Serialize)]
pub(crate) struct GenerateDocument<'a> {
    pub(crate) exit: u8,
    #[serde(flatten)]
    pub(crate) summary: &'a Summary,
}

/// `1,000 rows (139.3 KiB), 117 of them dirty, written to c.csv`.
pub(crate) fn generate_text(summary: &Summary, file: Option<&Path>) -> String {
    let mut text = format!("{} ({})", human::counted(summary.rows, "row", "rows"), human::bytes(summary.bytes));
    if summary.dirty_rows > 0 {
        let _ = write!(text, ", {} of them dirty,", human::count(summary.dirty_rows));
    }
    text.push_str(" written");
    if let Some(file) = file {
        let _ = write!(text, " to {}", escape_path(file));
    }
    text.push('\n');
    text
}

/// One line for each file left aside, as long as there are few.
pub(crate) fn skipped_lines<'a>(skipped: impl Iterator<Item = &'a Skipped> + Clone) -> Vec<String> {
    let line = |skipped: &Skipped| format!("skipped {}: {}", skipped.path.display(), skipped.reason.describe());
    let mut lines: Vec<_> = skipped.clone().take(SHOWN_SKIPPED).map(line).collect();
    let more = skipped.count() - lines.len();
    if more > 0 {
        lines.push(format!("skipped {} more", human::count(more as u64)));
    }
    lines
}
