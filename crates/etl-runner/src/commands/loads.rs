//! `loads`: the ledger as a table.

use cli::{Exit, human};
use etl_runner::database::{DatabaseError, LoadFilter, TableName};
use etl_runner::ledger::{LoadRow, LoadState, Timestamp};
use serde::Serialize;

use super::Context;
use super::columns::{Align, Columns};
use super::failure::Failure;
use super::signals::block_on;
use crate::config::Loads;

#[derive(Serialize)]
struct Document<'a> {
    loads: &'a [LoadRow],
}

pub(super) fn loads(args: &Loads, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let table =
        args.table.as_deref().map(TableName::parse).transpose().map_err(|error| Failure::database(&error.into()))?;
    let mut rows = block_on(async {
        let mut database = context.open_ledger(config).await?;
        let found: Result<_, DatabaseError> = async {
            let table = match table {
                Some(table) => Some(database.resolve(&table).await?),
                None => None,
            };
            let filter = LoadFilter {
                pipeline: args.pipeline.clone(),
                table,
                states: args.state.clone(),
                ..LoadFilter::default()
            };
            database.loads(&filter, args.limit).await
        }
        .await;
        database.close().await;
        found.map_err(|error| Failure::database(&error))
    })??;

    rows.iter_mut().for_each(nothing_committed);
    let mut columns = Columns::new(&[
        ("LOAD", Align::Right),
        ("STATE", Align::Left),
        ("TABLE", Align::Left),
        ("OBJECT", Align::Left),
        ("READ", Align::Right),
        ("LOADED", Align::Right),
        ("REJECTED", Align::Right),
        ("ENDED (UTC)", Align::Left),
    ]);
    for row in &rows {
        columns.row([
            row.id.to_string(),
            row.state.to_string(),
            row.table.to_string(),
            row.object.key.clone(),
            human::count(row.counts.read),
            human::count(row.counts.loaded),
            human::count(row.counts.rejected),
            row.finished_at.map(short_time).unwrap_or_default(),
        ]);
    }
    let text = if rows.is_empty() { "no load matches\n".to_owned() } else { columns.render(context.terminal.out) };
    context.print(&text, &Document { loads: &rows })?;
    Ok(Exit::Done)
}

/// Of a load that failed, the ledger keeps how far it came; none of those rows is in the table.
pub(super) fn nothing_committed(load: &mut LoadRow) {
    if load.state == LoadState::Failed {
        load.counts.loaded = 0;
    }
}

/// `2026-01-31 12:34:56`
pub(super) fn short_time(time: Timestamp) -> String {
    let text = time.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_time_ends_at_the_second() {
        assert_eq!(short_time(Timestamp(1_709_210_096_789_012)), "2024-02-29 12:34:56");
    }
}
