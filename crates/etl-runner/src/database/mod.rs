//! Rows into PostgreSQL and SQLite, and the ledger's SQL.
//!
//! A [`Database`] is one address and at most one open connection. [`Database::begin_load`] moves the connection into a
//! [`LoadTransaction`]; [`LoadTransaction::finish`] commits rows, rejects and the ledger's row together and gives the
//! connection back. Whatever fails discards the connection, and with it everything uncommitted.
//!
//! # Guarantees
//! - Every statement stands in a transaction and leaves nothing behind in the session, so poolers are fine.
//! - Names are quoted, values are bound; neither cell values nor secrets come out in an error.
//!
//! Never: S3, CSV, or a decision about which objects to load.

mod ddl;
mod error;
mod ledger_schema;
mod name;
mod postgres;
mod secret;
mod shape;
mod sqlite;
mod url;

use std::collections::BTreeMap;
use std::fmt;

use transform::Pipeline;
use transform::pipeline::{Conflict, Mode};

pub use ddl::ddl;
pub use error::{DatabaseError, Refusal, RefusalKind};
pub use ledger_schema::{Setup, setup_sql};
pub use name::{NameError, TableName, quote};
pub use postgres::{
    BeginSplit, CopyEncoder, CopyFormat, CopyRows, CopyTextEncoder, Postgres, PostgresLoad, PostgresMerge, PostgresWay,
    SplitRow,
};
pub use secret::SecretError;
pub use shape::{
    LiveColumn, LiveKey, LiveTable, LiveType, ShapeProblem, TableEncoding, TableKind, compare, written_columns,
};
pub use sqlite::{Sqlite, SqliteLoad, SqliteMerge, SqliteRows, can_be_made};
pub use url::{ConfigError, DatabaseConfig, DatabaseUrl, Given, PostgresUrl, SecretText};

use crate::ledger::{LoadRow, LoadState, NewLoad, ObjectVersion, RejectLine, StoredReject, Timestamp, Totals};

/// A failed load keeps this many rejects, and so many bytes of them: enough to see what is wrong, small enough that a
/// hopeless file cannot fill the ledger.
pub(crate) const FAILURE_REJECTS: usize = 100;
pub(crate) const FAILURE_REJECT_BYTES: usize = 1024 * 1024;

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

/// An address and the connection to it. Matched once per load.
#[derive(Debug)]
pub enum Database {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

/// What became of the wish to begin a load.
#[derive(Debug)]
pub enum Begin {
    Started(Box<LoadTransaction>),
    /// Another process is loading this object, or replacing the table.
    Busy,
    /// Another process has loaded it since the ledger was asked.
    AlreadyLoaded(Box<LoadRow>),
}

/// What became of the wish to bring rejects of a load in.
#[derive(Debug)]
pub enum BeginReplay {
    /// In this transaction, which takes no other rows.
    Started(Box<LoadTransaction>),
    /// Another process has the object in hand, or has changed what became of the load.
    Busy,
}

/// The transaction of one load. Dropping it is rolling back.
#[derive(Debug)]
pub enum LoadTransaction {
    Postgres(PostgresLoad),
    Sqlite(SqliteLoad),
}

/// How rows are told apart one by one; the same for all segments of a load.
#[derive(Debug)]
pub enum ExactWay {
    Postgres(Box<PostgresWay>),
    Sqlite { columns: Vec<String> },
}

/// The rows of a segment, in the order of the object.
#[derive(Debug)]
pub enum ExactRows {
    Copy(CopyRows),
    /// Block by block.
    Sqlite(Vec<SqliteRows>),
}

/// How staged rows are merged into the table; see [`LoadTransaction::begin_upsert`].
#[derive(Debug)]
pub enum Merge {
    Postgres(Box<PostgresMerge>),
    Sqlite(SqliteMerge),
}

/// Which loads to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct LoadFilter {
    pub pipeline: Option<String>,
    pub table: Option<TableName>,
    /// Object URI or key.
    pub object: Option<String>,
    /// Empty: every state.
    pub states: Vec<LoadState>,
    /// Only loads with a smaller id: the next page.
    pub before: Option<i64>,
}

/// The rows of a table, counted by the load they came with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    pub by_load: BTreeMap<i64, u64>,
    /// Rows no load wrote, or of a table without lineage.
    pub without_load: u64,
}

/// Something a load would fail for want of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub what: String,
    /// What an administrator can run.
    pub fix: String,
    /// A right, rather than a thing.
    pub is_permission: bool,
}

/// What an undo took back.
#[derive(Clone, Debug)]
pub struct Undone {
    /// The load as it stands now.
    pub load: LoadRow,
    /// Rows deleted; fewer than were loaded when somebody deleted some before.
    pub deleted: u64,
}

/// The loads that give way to another one.
#[derive(Clone, Debug, Default)]
struct Replaced {
    ids: Vec<i64>,
    /// Rows they brought.
    loaded: u64,
}

impl Replaced {
    fn of(rows: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut all = Self::default();
        for (id, loaded) in rows {
            all.ids.push(id);
            all.loaded = all.loaded.saturating_add(loaded.unsigned_abs());
        }
        all
    }
}

/// Runs the same call on either side.
macro_rules! either {
    ($database:expr, $inner:ident => $call:expr) => {
        match $database {
            Self::Postgres($inner) => $call,
            Self::Sqlite($inner) => $call,
        }
    };
}

impl Database {
    /// Opens the first connection, so that a wrong address or password is known before anything is read.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, DatabaseError> {
        match &config.url {
            DatabaseUrl::Postgres(url) => Ok(Self::Postgres(Postgres::connect(url, config.secret.clone()).await?)),
            DatabaseUrl::Sqlite(path) => Ok(Self::Sqlite(Sqlite::connect(path, config.create_file).await?)),
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Finds the ledger, makes it where we may, or says who can.
    pub async fn ensure_ledger(&mut self) -> Result<(), DatabaseError> {
        either!(self, inner => inner.ensure_ledger().await)
    }

    /// Whether the ledger is there; makes none. A newer one than this program knows is an error.
    pub async fn has_ledger(&mut self) -> Result<bool, DatabaseError> {
        Ok(either!(self, inner => inner.ledger_version().await)?.is_some())
    }

    /// Makes the ledger and, on PostgreSQL, the roles asked for. Doing it again changes nothing.
    pub async fn setup(&mut self, setup: &Setup) -> Result<(), DatabaseError> {
        match self {
            Self::Postgres(inner) => inner.setup(setup).await,
            Self::Sqlite(inner) => inner.ensure_ledger().await,
        }
    }

    /// The table a pipeline's target means here: with its schema on PostgreSQL, flattened on SQLite. The ledger knows
    /// tables by this name.
    pub async fn resolve(&mut self, table: &TableName) -> Result<TableName, DatabaseError> {
        match self {
            Self::Postgres(inner) => inner.resolve(table).await,
            Self::Sqlite(_) => Ok(table.in_sqlite()?),
        }
    }

    /// What the table looks like; `None` when there is none. Takes a resolved name.
    pub async fn describe(&mut self, table: &TableName) -> Result<Option<LiveTable>, DatabaseError> {
        either!(self, inner => inner.describe(table).await)
    }

    /// What the role we are lacks for loading into this table in this mode, or on SQLite for writing the file. Takes a
    /// resolved name.
    pub async fn rights(&mut self, table: &TableName, mode: Mode) -> Result<Vec<Lack>, DatabaseError> {
        match self {
            Self::Postgres(inner) => inner.rights(table, mode).await,
            Self::Sqlite(inner) => Ok(inner.rights()),
        }
    }

    /// The ledger's rows of these objects in this table: the live load and the newest row of each version.
    pub async fn look_up(&mut self, table: &TableName, objects: &[String]) -> Result<Vec<LoadRow>, DatabaseError> {
        either!(self, inner => inner.look_up(table, objects).await)
    }

    /// The load of the newest object that is upserted into the table, if it is newer than this one and another one.
    pub async fn newer_upsert(
        &mut self,
        table: &TableName,
        object: &ObjectVersion,
    ) -> Result<Option<i64>, DatabaseError> {
        either!(self, inner => inner.newer_upsert(table, object).await)
    }

    /// Begins a load: its ledger row stands, uncommitted, and what it replaces is marked.
    pub async fn begin_load(&mut self, new: &NewLoad) -> Result<Begin, DatabaseError> {
        either!(self, inner => inner.begin_load(new).await)
    }

    /// Commits a `failed` row alone, with the first of the rejects; gives its id. `error` is shown to people, so it
    /// must hold no cell values.
    pub async fn record_failure(
        &mut self,
        new: &NewLoad,
        totals: &Totals,
        rejects: &[StoredReject],
        error: &str,
        permanent: bool,
    ) -> Result<i64, DatabaseError> {
        let rejects = within_failure_limits(rejects);
        either!(self, inner => inner.record_failure(new, totals, rejects, error, permanent).await)
    }

    /// Commits a `superseded` row: this version came after a newer one. Gives its id.
    pub async fn record_superseded(&mut self, new: &NewLoad) -> Result<i64, DatabaseError> {
        either!(self, inner => inner.record_superseded(new).await)
    }

    /// Loads, newest first, at most `limit`.
    pub async fn loads(&mut self, filter: &LoadFilter, limit: u32) -> Result<Vec<LoadRow>, DatabaseError> {
        either!(self, inner => inner.loads(filter, limit).await)
    }

    /// One load.
    pub async fn load(&mut self, id: i64) -> Result<LoadRow, DatabaseError> {
        let found = either!(self, inner => inner.load(id).await)?;
        found.ok_or(DatabaseError::NoSuchLoad { id })
    }

    /// Rejects of a load after a record number, in the object's order, at most `limit`: a page of a stream. A role that
    /// may only look has no right to the records' bytes, so they are not asked for.
    pub async fn reject_lines(&mut self, load: i64, after: u64, limit: u32) -> Result<Vec<RejectLine>, DatabaseError> {
        either!(self, inner => inner.reject_lines(load, after, limit).await)
    }

    /// The same with the records' bytes.
    pub async fn rejects(&mut self, load: i64, after: u64, limit: u32) -> Result<Vec<StoredReject>, DatabaseError> {
        either!(self, inner => inner.rejects(load, after, limit).await)
    }

    /// How many rejects the ledger holds of a load.
    pub async fn count_rejects(&mut self, load: i64) -> Result<u64, DatabaseError> {
        either!(self, inner => inner.count_rejects(load).await)
    }

    /// Counts the rows of a table, by load when it has lineage.
    pub async fn count_rows(&mut self, table: &LiveTable) -> Result<RowCounts, DatabaseError> {
        let lineage = table.column(ddl::LOAD_ID).is_some();
        either!(self, inner => inner.count_rows(&table.name, lineage).await)
    }

    /// Whether loads that stand brought rows into the table and not one of them is left. Of a table that no load made,
    /// SQLite has nothing that tells it from the one before, so the lineage of its rows has to; PostgreSQL has the oid.
    pub async fn has_lost_rows(&mut self, table: &LiveTable) -> Result<bool, DatabaseError> {
        match self {
            Self::Sqlite(inner) if table.column(ddl::LOAD_ID).is_some() => inner.has_lost_rows(&table.name).await,
            Self::Sqlite(_) | Self::Postgres(_) => Ok(false),
        }
    }

    /// Deletes the rows of a load by their lineage and marks it undone, in one transaction.
    pub async fn undo(&mut self, id: i64) -> Result<Undone, DatabaseError> {
        let load = self.load(id).await?;
        let table = self.describe(&load.table).await?;
        let reason = undo_obstacle(&load, table.as_ref());
        if let Some(reason) = reason {
            return Err(DatabaseError::NotUndoable { id, state: load.state, reason });
        }
        either!(self, inner => inner.undo(&load).await)
    }

    /// Begins to bring rejects of a load in: its rows get the load's number.
    pub async fn begin_replay(&mut self, load: &LoadRow) -> Result<BeginReplay, DatabaseError> {
        either!(self, inner => inner.begin_replay(load).await)
    }

    /// Deletes the rejects of loads that ended before a moment, and marks the loads; gives how many rejects of how many
    /// loads.
    pub async fn purge_rejects(&mut self, before: Timestamp) -> Result<(u64, u64), DatabaseError> {
        either!(self, inner => inner.purge_rejects(before).await)
    }

    /// What [`Self::purge_rejects`] would do.
    pub async fn count_purgeable(&mut self, before: Timestamp) -> Result<(u64, u64), DatabaseError> {
        either!(self, inner => inner.count_purgeable(before).await)
    }

    /// Takes back a load on several connections that stopped half-way, so that its object can be loaded anew; `reason` is
    /// kept with it. `false` when another process has it in hand.
    pub async fn give_up(&mut self, load: &LoadRow, reason: &str) -> Result<bool, DatabaseError> {
        match self {
            Self::Postgres(inner) => Ok(inner.give_up(load, LoadState::Failed, Some(reason)).await?.is_some()),
            Self::Sqlite(_) => Ok(true),
        }
    }

    /// Closes the connection in good order. Dropping the value does it the short way.
    pub async fn close(self) {
        either!(self, inner => inner.close().await);
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        either!(self, inner => inner.fmt(f))
    }
}

impl LoadTransaction {
    /// The load's id: what `_load_id` holds.
    pub fn id(&self) -> i64 {
        either!(self, inner => inner.id())
    }

    /// Creates the pipeline's table in this transaction; its key follows the rows.
    pub async fn create_table(&mut self, pipeline: &Pipeline) -> Result<LiveTable, DatabaseError> {
        either!(self, inner => inner.create_table(pipeline).await)
    }

    /// Deletes the rows of the loads this one replaces, by their lineage; gives how many.
    pub async fn delete_previous(&mut self) -> Result<u64, DatabaseError> {
        either!(self, inner => inner.delete_previous().await)
    }

    /// Deletes all rows of the table: mode `replace`.
    pub async fn delete_all_rows(&mut self) -> Result<u64, DatabaseError> {
        either!(self, inner => inner.delete_all_rows().await)
    }

    /// Prepares for [`Self::take_exactly`], before the first row. `encoding` is that of the rows for `columns`.
    pub async fn begin_exact(
        &mut self,
        table: &LiveTable,
        columns: &[String],
        encoding: &TableEncoding,
        conflict: Conflict,
    ) -> Result<ExactWay, DatabaseError> {
        match self {
            Self::Postgres(load) => {
                let format = if encoding.text { CopyFormat::Text } else { CopyFormat::Binary };
                let way = load.begin_exact(table, columns, &encoding.columns, format, conflict).await?;
                Ok(ExactWay::Postgres(Box::new(way)))
            }
            Self::Sqlite(_) => Ok(ExactWay::Sqlite { columns: columns.to_vec() }),
        }
    }

    /// Brings in what the table takes of these rows, and gives the refusal of each other row: `row` is its place among
    /// them, from 1. Stops looking for more than `most` of them.
    pub async fn take_exactly(
        &mut self,
        way: &ExactWay,
        rows: &ExactRows,
        most: u64,
    ) -> Result<Vec<Refusal>, DatabaseError> {
        match (self, way, rows) {
            (Self::Postgres(load), ExactWay::Postgres(way), ExactRows::Copy(rows)) => {
                load.take_exactly(way, rows, most).await
            }
            (Self::Sqlite(load), ExactWay::Sqlite { columns }, ExactRows::Sqlite(blocks)) => {
                let mut refused = Vec::new();
                let mut before = 0;
                for rows in blocks {
                    let most = most.saturating_sub(refused.len() as u64);
                    for mut refusal in load.take_exactly(columns, rows, most).await? {
                        refusal.row = refusal.row.map(|row| before + row);
                        refused.push(refusal);
                    }
                    before += rows.len() as u64;
                }
                Ok(refused)
            }
            _ => Err(other_database()),
        }
    }

    /// Prepares for rows that replace those with the same key: they are staged first, all with lineage, and merged once
    /// the last one is there. `encoding` is that of the fields.
    pub async fn begin_upsert(
        &mut self,
        table: &LiveTable,
        pipeline: &Pipeline,
        encoding: &TableEncoding,
    ) -> Result<Merge, DatabaseError> {
        let (columns, key) = (written_columns(pipeline), &pipeline.schema.primary_key);
        match self {
            Self::Postgres(load) => {
                let format = if encoding.text { CopyFormat::Text } else { CopyFormat::Binary };
                let merge = load.begin_upsert(table, &columns, &encoding.columns, format, key).await?;
                Ok(Merge::Postgres(Box::new(merge)))
            }
            Self::Sqlite(load) => Ok(Merge::Sqlite(load.begin_upsert(&columns, encoding.columns.len(), key).await?)),
        }
    }

    /// Says something, so that the server does not take us for dead.
    pub async fn keep_alive(&mut self) -> Result<(), DatabaseError> {
        match self {
            Self::Postgres(load) => load.keep_alive().await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Takes out all staged rows but the last of each key; gives how many they were.
    pub async fn drop_duplicates(&mut self, merge: &Merge) -> Result<u64, DatabaseError> {
        match (self, merge) {
            (Self::Postgres(load), Merge::Postgres(merge)) => load.drop_duplicates(merge).await,
            (Self::Sqlite(load), Merge::Sqlite(merge)) => load.drop_duplicates(merge).await,
            _ => Err(other_database()),
        }
    }

    /// Merges ranges of staged rows, which count from 1, the last range first, and gives the refusal of each row that the
    /// table did not take, with its record. With more than `most` of them it stops; what is left in `ranges` is still to
    /// do.
    pub async fn merge(
        &mut self,
        merge: &Merge,
        ranges: &mut Vec<(i64, i64)>,
        most: u64,
    ) -> Result<Vec<Refusal>, DatabaseError> {
        match (self, merge) {
            (Self::Postgres(load), Merge::Postgres(merge)) => load.merge(merge, ranges, most).await,
            (Self::Sqlite(load), Merge::Sqlite(merge)) => load.merge(merge, ranges, most).await,
            _ => Err(other_database()),
        }
    }

    /// Whether the transaction still stands, after a refusal: the segment it happened in was taken back alone.
    pub fn goes_on(&self) -> bool {
        match self {
            Self::Postgres(load) => load.goes_on(),
            Self::Sqlite(_) => false,
        }
    }

    /// Writes rejects. On PostgreSQL between two segments.
    pub async fn write_rejects(&mut self, rejects: &[StoredReject]) -> Result<(), DatabaseError> {
        either!(self, inner => inner.write_rejects(rejects).await)
    }

    /// Those of these records that are rejects of the load, in their order.
    pub async fn rejects_among(&mut self, records: &[u64]) -> Result<Vec<RejectLine>, DatabaseError> {
        either!(self, inner => inner.rejects_among(records).await)
    }

    /// After [`Database::begin_replay`]: takes out the rejects whose rows are in now, moves the load's counts and commits.
    pub async fn finish_replay(self, database: &mut Database, records: &[u64]) -> Result<(), DatabaseError> {
        match (self, database) {
            (Self::Postgres(load), Database::Postgres(database)) => load.finish_replay(database, records).await,
            (Self::Sqlite(load), Database::Sqlite(database)) => load.finish_replay(database, records).await,
            (Self::Postgres(_), Database::Sqlite(_)) | (Self::Sqlite(_), Database::Postgres(_)) => {
                Err(other_database())
            }
        }
    }

    /// Checks the counts, completes the ledger's row and commits. `Ok` means committed, also when the server's answer
    /// was lost on the way. On success the connection goes back to `database`, which must be the one that began.
    pub async fn finish(self, database: &mut Database, totals: &Totals) -> Result<(), DatabaseError> {
        match (self, database) {
            (Self::Postgres(load), Database::Postgres(database)) => load.finish(database, totals).await,
            (Self::Sqlite(load), Database::Sqlite(database)) => load.finish(database, totals).await,
            (Self::Postgres(_), Database::Sqlite(_)) | (Self::Sqlite(_), Database::Postgres(_)) => {
                Err(DatabaseError::Driver { doing: "commit".into(), kind: "another database began this load" })
            }
        }
    }

    /// Rolls back in good order, where the connection is there to do so: its locks are free then.
    pub async fn roll_back(self, database: &mut Database) {
        match (self, database) {
            (Self::Postgres(load), Database::Postgres(database)) => load.roll_back(database).await,
            (load, _) => load.abort().await,
        }
    }

    /// Rolls back and discards the connection.
    pub async fn abort(self) {
        either!(self, inner => inner.abort().await);
    }
}

fn other_database() -> DatabaseError {
    DatabaseError::Driver { doing: "write rows".into(), kind: "they are for another database" }
}

/// The table rows are merged into, in the statement that does it.
const MERGED_INTO: &str = "aqueduct_target";

/// What follows the staged rows so that one whose key is taken becomes the row that has it. A row that this very load
/// brought is left as it is: then two keys that were told apart are one to the table, and the rows do not add up.
fn merge_clause(columns: &[String], key: &[String], dialect: Dialect) -> Result<String, NameError> {
    let list = |names: &mut dyn Iterator<Item = &String>| -> Result<Vec<String>, NameError> {
        names.map(|name| quote(name)).collect()
    };
    let key_columns = list(&mut key.iter())?;
    let mut others = list(&mut columns.iter().filter(|column| !key.contains(column)))?;
    if others.is_empty() {
        // There has to be something to set, so that the row counts.
        others.clone_from(&key_columns);
    }
    let set: Vec<String> = others.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let differs = match dialect {
        Dialect::Postgres => "is distinct from",
        Dialect::Sqlite => "is not",
    };
    let guard = match columns.iter().any(|column| column == ddl::LOAD_ID) {
        true => format!(" where {MERGED_INTO}.\"{0}\" {differs} excluded.\"{0}\"", ddl::LOAD_ID),
        false => String::new(),
    };
    Ok(format!(" on conflict ({}) do update set {}{guard}", key_columns.join(", "), set.join(", ")))
}

/// The checks before every commit: the balance, and that what the load counted is what was written.
fn check_counts(totals: &Totals, rows: u64, rejects: u64) -> Result<(), DatabaseError> {
    let counts = &totals.counts;
    let problem = if !counts.balance_holds() {
        Some(format!(
            "{} records read, but {} loaded, {} rejected, {} filtered and {} duplicates",
            counts.read, counts.loaded, counts.rejected, counts.filtered, counts.duplicates
        ))
    } else if rows != counts.loaded {
        Some(format!("{} rows counted as loaded, {rows} taken by the database", counts.loaded))
    } else if rejects != counts.rejected {
        Some(format!("{} records counted as rejected, {rejects} written", counts.rejected))
    } else {
        None
    };
    problem.map_or(Ok(()), |reason| Err(DatabaseError::Balance { reason }))
}

fn within_failure_limits(rejects: &[StoredReject]) -> &[StoredReject] {
    let mut bytes = 0;
    let fits = |reject: &&StoredReject| {
        bytes += reject.raw.len() + reject.message.len();
        bytes <= FAILURE_REJECT_BYTES
    };
    let count = rejects.iter().take(FAILURE_REJECTS).take_while(fits).count();
    &rejects[..count]
}

fn undo_obstacle(load: &LoadRow, table: Option<&LiveTable>) -> Option<String> {
    match load.state {
        LoadState::Loaded if load.is_upsert() => {
            return Some("it is an upsert: what its rows took the place of is gone".into());
        }
        LoadState::Loaded => {}
        // Half of it is in; whatever is of it goes.
        LoadState::Loading => return None,
        other => return Some(format!("it is {other}")),
    }
    let Some(table) = table else {
        return Some(format!("the table {} is gone", load.table));
    };
    if load.table_oid.is_some() && load.table_oid != table.oid {
        return Some(format!("the table {} was made anew since", load.table));
    }
    if table.column(ddl::LOAD_ID).is_none() {
        return Some(format!("the table {} has no column {:?} that tells its rows apart", load.table, ddl::LOAD_ID));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Counts, Timestamp};

    fn reject(raw: usize) -> StoredReject {
        StoredReject {
            record: 1,
            line: 1,
            offset: 0,
            field: None,
            code: "type-error".into(),
            message: String::new(),
            raw: vec![b'x'; raw],
        }
    }

    #[test]
    fn a_failure_keeps_a_hundred_rejects_and_a_mebibyte_of_them() {
        assert_eq!(within_failure_limits(&vec![reject(1); 500]).len(), 100);
        assert_eq!(within_failure_limits(&vec![reject(400 * 1024); 5]).len(), 2);
        assert_eq!(within_failure_limits(&[]).len(), 0);
    }

    #[test]
    fn counts_that_contradict_each_other_are_not_committed() {
        let totals = |counts| Totals {
            counts,
            bytes: 0,
            content_sha256: None,
            finished_at: Timestamp(0),
            note: serde_json::Value::Null,
        };
        let good = Counts { read: 3, loaded: 2, rejected: 1, ..Counts::default() };
        assert!(check_counts(&totals(good), 2, 1).is_ok());
        for (counts, rows, rejects) in [(good, 1, 1), (good, 2, 0), (Counts { read: 4, ..good }, 2, 1)] {
            let error = check_counts(&totals(counts), rows, rejects).unwrap_err();
            assert!(matches!(error, DatabaseError::Balance { .. }));
        }
    }
}
