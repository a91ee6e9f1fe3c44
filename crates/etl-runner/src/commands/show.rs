//! `show`: all that is known of a load.

use std::collections::HashMap;

use cli::{Exit, escape, human};
use etl_runner::database::{Database, DatabaseError};
use etl_runner::ledger::{CSV, LoadRow, LoadState, MAKES_TABLE, SplitProgress};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::loads::{nothing_committed, short_time};
use super::rejects::Pages;
use super::signals::block_on;
use crate::config::Show;

#[derive(Serialize)]
struct Document<'a> {
    load: &'a LoadRow,
    reject_totals: &'a [Total],
}

/// How often one code stands against one field.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Total {
    code: String,
    field: Option<String>,
    count: u64,
}

pub(super) fn show(args: &Show, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let (load, totals) = block_on(async {
        let mut database = context.open_ledger(config).await?;
        let found = look(&mut database, args.load).await;
        database.close().await;
        found.map_err(|error| Failure::database(&error))
    })??;
    let text = text(&load, &totals, context);
    context.print(&text, &Document { load: &load, reject_totals: &totals })?;
    Ok(Exit::Done)
}

async fn look(database: &mut Database, id: i64) -> Result<(LoadRow, Vec<Total>), DatabaseError> {
    let mut load = database.load(id).await?;
    nothing_committed(&mut load);
    let mut counts: HashMap<(String, Option<String>), u64> = HashMap::new();
    let mut pages = Pages::of(id);
    while let Some(page) = pages.next_lines(database).await? {
        for reject in page {
            *counts.entry((reject.code, reject.field)).or_default() += 1;
        }
    }
    let mut totals: Vec<Total> =
        counts.into_iter().map(|((code, field), count)| Total { code, field, count }).collect();
    totals.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| (&a.code, &a.field).cmp(&(&b.code, &b.field))));
    Ok((load, totals))
}

/// The columns a note names, and how many it leaves out.
fn columns(names: &serde_json::Value, count: Option<&serde_json::Value>) -> String {
    let names: Vec<String> = names.as_array().into_iter().flatten().map(ToString::to_string).collect();
    let count = count.and_then(serde_json::Value::as_u64).unwrap_or_default();
    match count.saturating_sub(names.len() as u64) {
        // They may be cells.
        unnamed if names.is_empty() => human::counted(unnamed, "column", "columns"),
        0 => format!("columns {}", names.join(", ")),
        more => format!("columns {} and {} more", names.join(", "), human::count(more)),
    }
}

fn text(load: &LoadRow, totals: &[Total], context: &Context) -> String {
    let style = context.terminal.out;
    let mut text = format!("{}\n", style.bold(format_args!("load {}", load.id)));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<15}{}\n", escape(&value)));
        }
    };
    let replaced = load.replaced_by.map(|by| format!(" by load {by}")).unwrap_or_default();
    line("state", format!("{}{replaced}", load.state));
    if let Some(SplitProgress { loaded, planned }) = load.splits {
        let next = "another run goes on with it, unless one is at work now";
        line("splits in", format!("{} of {} planned; {next}", human::count(loaded), human::count(planned)));
    }
    line("table", load.table.to_string());
    line("object", load.object.uri.clone());
    line("version", load.object.version.clone());
    line("sha-256", load.content_sha256.clone().unwrap_or_default());
    line("size", load.object.size.map(human::bytes).unwrap_or_default());
    line("pipeline", format!("{} ({})", load.pipeline, load.pipeline_hash.get(..12).unwrap_or(&load.pipeline_hash)));
    line("run", format!("{} by etl-runner {}", load.run_id, load.runner_version));
    line("started", format!("{} UTC", short_time(load.started_at)));
    line("ended", load.finished_at.map(|at| format!("{} UTC", short_time(at))).unwrap_or_default());
    let counts = &load.counts;
    if load.state == LoadState::Failed {
        line("records", format!("{} read before it stopped", human::count(counts.read)));
    } else {
        line("records", human::count(counts.read));
    }
    line("  loaded", human::count(counts.loaded));
    line("  rejected", human::count(counts.rejected));
    for (name, count) in [("  filtered", counts.filtered), ("  duplicates", counts.duplicates)] {
        line(name, if count > 0 { human::count(count) } else { String::new() });
    }
    line("skipped lines", if counts.skipped > 0 { human::count(counts.skipped) } else { String::new() });
    line("bytes", human::bytes(load.bytes));
    if let Some(error) = &load.first_error {
        line("error", error.clone());
        let again = if load.permanent { "not tried again with this pipeline and these bytes" } else { "tried again" };
        line("next run", again.to_owned());
    }
    if let Some(note) = load.note.as_object() {
        for (key, value) in note {
            match (key.as_str(), value.as_str()) {
                ("delimiter_sniffed", Some(delimiter)) => line("delimiter", format!("{delimiter:?} (guessed)")),
                ("ignored_columns", None) => line("ignored", columns(value, note.get("ignored_column_count"))),
                ("missing_columns", None) => line("missing", columns(value, note.get("missing_column_count"))),
                ("ignored_column_count" | "missing_column_count" | MAKES_TABLE | CSV, _) => {}
                (_, Some(text)) => line(&key.replace('_', " "), text.to_owned()),
                (_, None) => line(&key.replace('_', " "), value.to_string()),
            }
        }
    }
    let stored: u64 = totals.iter().map(|total| total.count).sum();
    if stored > 0 {
        let kept = if load.state == LoadState::Failed && stored < counts.rejected { ", the first of them" } else { "" };
        text.push_str(&format!("  rejects kept   {}{kept}\n", human::count(stored)));
        for Total { code, field, count } in totals {
            let field = field.as_deref().unwrap_or("the record as a whole");
            text.push_str(&format!("    {:>9}  {} {}\n", human::count(*count), escape(code), escape(field)));
        }
        text.push_str(&format!("  each of them: {}\n", escape(&context.next(&format!("rejects list {}", load.id)))));
    }
    text
}
