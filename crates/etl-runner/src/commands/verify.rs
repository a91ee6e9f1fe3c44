//! `verify`: what the ledger says against what is there.

use std::io;

use cli::{Exit, Style, escape, human};
use etl_runner::ledger::{LoadState, SplitProgress};
use etl_runner::verify::{self, Difference, ObjectFinding, Verification, VerifiedLoad};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::signals::block_on;
use crate::config::Verify;

#[derive(Serialize)]
struct Document<'a> {
    differences: usize,
    #[serde(flatten)]
    verification: &'a Verification,
}

pub(super) fn verify(args: &Verify, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let mut written: io::Result<()> = Ok(());
    let mut seen = |load: &VerifiedLoad| {
        if !context.terminal.json && written.is_ok() {
            written = cli::print(load_text(load, context.terminal.out));
        }
    };
    let verification = block_on(async {
        let mut database = context.open_ledger(config).await?;
        let verified = verify::verify(&mut database, args.load, !args.no_objects, &mut seen).await;
        database.close().await;
        verified.map_err(|error| Failure::database(&error))
    })??;
    written.map_err(|error| Failure::output(&error))?;
    let differences = verification.differences();
    let exit = if differences > 0 { Exit::Differences } else { Exit::Done };
    let document = Document { differences, verification: &verification };
    context.print_ending(exit, &closing_text(&verification, context.terminal.out), &document)?;
    Ok(exit)
}

fn load_text(load: &VerifiedLoad, style: Style) -> String {
    let head = format!("load {}: {} → {}", load.load, escape(&load.key), escape(&load.table));
    let stands = matches!(load.state, LoadState::Loaded | LoadState::Loading);
    if !stands && load.differences.is_empty() {
        return format!("{head}: nothing to verify, the load is {}\n", load.state);
    }
    let mut facts = Vec::new();
    match load.rows {
        Some(rows) => facts.push(human::counted(rows, "row", "rows")),
        None if load.differences.contains(&Difference::TableMissing) => {}
        None => facts.push("nothing tells its rows apart".to_owned()),
    }
    if load.gave_way > 0 {
        facts.push(format!("{} gave way to later upserts", human::count(load.gave_way)));
    }
    facts.push(human::counted(load.rejects, "reject", "rejects"));
    match &load.object {
        ObjectFinding::Same => facts.push("same object".into()),
        ObjectFinding::Different => facts.push("another object".into()),
        ObjectFinding::Gone => facts.push("object gone from the store".into()),
        ObjectFinding::OtherVersion => facts.push("another version in the store by now".into()),
        ObjectFinding::Unknown { reason } => facts.push(format!("object not read: {}", escape(reason))),
        ObjectFinding::NotLookedAt => {}
    }
    let verdict = match load.splits {
        _ if !load.differences.is_empty() => style.red("differs").to_string(),
        Some(SplitProgress { loaded, planned }) => {
            style.yellow(format_args!("not finished, {loaded} of {planned} planned splits are in")).to_string()
        }
        None => style.green("as loaded").to_string(),
    };
    let mut text = format!("{head}: {verdict} ({})\n", facts.join(", "));
    for difference in &load.differences {
        text.push_str(&format!("  {}\n", escape(&difference.to_string())));
    }
    text
}

fn closing_text(verification: &Verification, style: Style) -> String {
    let mut text = String::new();
    for table in &verification.tables {
        let name = escape(&table.table);
        for stray in &table.strays {
            let why = match stray.state {
                Some(state) => format!("which is {state}"),
                None => "which the ledger does not know".into(),
            };
            let rows = human::counted(stray.rows, "row has", "rows have");
            text.push_str(&format!(
                "{name}: {} ({rows} the number of load {}, {why})\n",
                style.red("differs"),
                stray.load
            ));
        }
        if table.missing > 0 {
            let rows = human::counted(table.missing, "row fewer than", "rows fewer than");
            text.push_str(&format!("{name}: {} ({rows} its loads brought)\n", style.red("differs")));
        }
        if table.without_load > 0 {
            let rows = human::counted(table.without_load, "row", "rows");
            text.push_str(&format!("{name}: {rows} came with no load\n"));
        }
    }
    if let [load] = verification.loads.as_slice()
        && !matches!(load.state, LoadState::Loaded | LoadState::Loading)
        && verification.differences() == 0
    {
        return text;
    }
    let loads = human::counted(verification.loads.len() as u64, "load", "loads");
    match verification.differences() {
        0 => text.push_str(&format!("{loads} verified, no difference\n")),
        some => {
            let differences = human::counted(some as u64, "difference", "differences");
            text.push_str(&format!("{loads} verified, {}\n", style.red(differences)));
        }
    }
    text
}
