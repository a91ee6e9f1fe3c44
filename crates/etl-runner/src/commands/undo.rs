//! `undo`: takes one load back.

use cli::{Exit, Screen, escape, human};
use etl_runner::database::{Database, DatabaseError};
use etl_runner::ledger::LoadRow;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::signals::block_on;
use crate::config::Undo;

#[derive(Serialize)]
struct Document<'a> {
    load: &'a LoadRow,
    deleted: u64,
}

pub(super) fn undo(args: &Undo, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let undone = block_on(async {
        let mut database: Database = context.open_ledger(config).await?;
        let undone = database.undo(args.load).await;
        database.close().await;
        undone.map_err(|error| failure(&error))
    })??;
    let load = &undone.load;
    let text = format!(
        "load {} undone: {} deleted from {}\n",
        load.id,
        human::counted(undone.deleted, "row", "rows"),
        escape(&load.table.to_string())
    );
    let printed = context.print(&text, &Document { load, deleted: undone.deleted });
    printed.map_err(|failure| failure.help(format!("load {} is undone all the same", load.id)))?;
    if undone.deleted != load.counts.loaded {
        let loaded = human::counted(load.counts.loaded, "row was loaded", "rows were loaded");
        let message = format!("{loaded}; what was not deleted now was gone before");
        Screen::warning(message).show(context.terminal.err);
    }
    if !context.terminal.quiet {
        let again = format!("run PIPELINE --reload --object {}", cli::shell_word(&load.object.key));
        let mut screen = Screen::note("a plain run leaves the object alone now").help(format!(
            "to load it again, PIPELINE being the file of {}: {}",
            load.pipeline,
            context.next(&again)
        ));
        // The ledger does not say whether a directory is a store.
        if load.object.uri.starts_with("file:") {
            screen =
                screen.help("a file that was loaded straight from disk: its path in place of --object and the key");
        }
        screen.show(context.terminal.err);
    }
    Ok(Exit::Done)
}

fn failure(error: &DatabaseError) -> Failure {
    let mut failure = Failure::database(error);
    if let DatabaseError::NotUndoable { id, .. } = error {
        failure.screens = failure
            .screens
            .into_iter()
            .map(|screen| screen.help(format!("`etl-runner show {id}` says more")))
            .collect();
    }
    failure
}
