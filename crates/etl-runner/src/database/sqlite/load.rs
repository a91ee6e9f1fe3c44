//! The transaction of one load on SQLite.

use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe};
use tracing::debug;
use transform::Pipeline;

use super::super::ddl::{LOAD_ID, RECORD, table_ddl};
use super::super::error::{DatabaseError, Doing};
use super::super::name::{TableName, quote};
use super::super::{
    Begin, Dialect, LiveTable, LoadTransaction, MERGED_INTO, Refusal, RefusalKind, Replaced, check_counts, merge_clause,
};
use super::ledger::Ending;
use super::rows::{Cursor, Value};
use super::{Session, Sqlite, SqliteRows, built, get, statement};
use crate::ledger::{LoadState, NewLoad, Replaces, StoredReject, Totals};

/// SQLite's limit on values bound to one statement.
const MAX_BINDS: usize = 32_766;
/// Where more rows in a statement stop paying off, measured with twelve columns.
const ROWS_PER_STATEMENT: usize = 200;
/// Bytes of texts and blobs in a statement: they are in memory twice while SQLite takes them, and of long rows few are
/// enough.
const BYTES_PER_STATEMENT: usize = 1024 * 1024;

/// One load on SQLite.
#[derive(Debug)]
pub struct SqliteLoad {
    session: Option<Session>,
    id: i64,
    table: TableName,
    columns: Vec<String>,
    /// The statement for a full batch and its number of rows.
    batch: Option<(Arc<str>, usize)>,
    pending: Pending,
    replaced: Replaced,
    rows: u64,
    rejects: u64,
    /// What is inserted goes into the table of staged rows.
    staging: bool,
}

/// How staged rows get into the table.
#[derive(Debug)]
pub struct SqliteMerge {
    columns: Vec<String>,
    /// Of the staged rows; the last one is the record.
    staged_columns: Vec<String>,
    /// The key as the table compares it, of staged rows.
    key: String,
    /// Moves a range of staged rows.
    into: String,
}

/// Gone with the transaction.
const STAGING: &str = "temp.aqueduct_staging";
/// Rows merged by one statement.
const ROWS_PER_MERGE: i64 = 16 * 1024;

/// Rows that do not fill a statement yet, as SQLite is to get them.
#[derive(Debug, Default)]
struct Pending {
    arguments: SqliteArguments,
    rows: usize,
    /// Of texts and blobs.
    bytes: usize,
    /// Records of the first and the last row.
    records: Option<(u64, u64)>,
}

impl Pending {
    /// The next rows, until a statement is full.
    fn fill(&mut self, cursor: &mut Cursor<'_>, rows: usize) -> Result<(), DatabaseError> {
        while self.rows < rows && self.bytes < BYTES_PER_STATEMENT && self.take(cursor)? {}
        Ok(())
    }

    /// Takes one more row; false when there is none.
    fn take(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, DatabaseError> {
        if let Some(record) = cursor.record() {
            self.records = Some((self.records.map_or(record, |(first, _)| first), record));
        }
        let (arguments, bytes) = (&mut self.arguments, &mut self.bytes);
        let taken = cursor.next_row(|value| match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(value) => arguments.add(value),
            Value::Real(value) => arguments.add(value),
            Value::Text(value) => {
                *bytes += value.len();
                arguments.add(Arc::<str>::from(value))
            }
            Value::Blob(value) => {
                *bytes += value.len();
                arguments.add(value.to_vec())
            }
        });
        let taken =
            taken.map_err(|_| DatabaseError::Driver { doing: "insert rows".into(), kind: "encoding a value" })?;
        self.rows += usize::from(taken);
        Ok(taken)
    }
}

impl Sqlite {
    pub(in super::super) async fn begin_load(&mut self, new: &NewLoad) -> Result<Begin, DatabaseError> {
        let mut session = match self.write(Doing::WriteLedger).await {
            Err(DatabaseError::Busy { .. }) => return Ok(Begin::Busy),
            begun => begun?,
        };
        let live = session.live_load(&new.table, &new.object.uri).await?;
        let gives_way = |id| match &new.replaces {
            Replaces::Nothing => false,
            Replaces::Loads(ids) => ids.contains(&id),
            Replaces::Upsert(upsert) => *upsert == id,
            Replaces::Table => true,
        };
        if let Some(live) = live.filter(|live| !gives_way(live.id)) {
            self.roll_back(session).await;
            return Ok(Begin::AlreadyLoaded(Box::new(live)));
        }
        let replaced = session.mark_replaced(new).await?;
        if new.replaces.loads().is_some_and(|ids| replaced.ids.len() != ids.len()) {
            // One of them was undone or replaced since the ledger was asked.
            self.roll_back(session).await;
            return Ok(Begin::Busy);
        }
        let made_by = session.describe(&new.table).await?.and_then(|table| table.made_by);
        let id = session.insert_load(new, LoadState::Loading).await?;
        // Where the ledger was lost and the table was not, its maker's number is not given out again.
        let id = match made_by {
            Some(made_by) if made_by >= id => session.renumber_load(id, made_by + 1).await?,
            _ => id,
        };
        let load = SqliteLoad { replaced, ..SqliteLoad::new(session, id, &new.table) };
        Ok(Begin::Started(Box::new(LoadTransaction::Sqlite(load))))
    }
}

impl SqliteLoad {
    /// In a transaction that is open; replaces nothing.
    pub(super) fn new(session: Session, id: i64, table: &TableName) -> Self {
        Self {
            session: Some(session),
            id,
            table: table.clone(),
            columns: Vec::new(),
            batch: None,
            pending: Pending::default(),
            replaced: Replaced::default(),
            rows: 0,
            rejects: 0,
            staging: false,
        }
    }

    pub(in super::super) fn id(&self) -> i64 {
        self.id
    }

    /// Taken by the table so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn take_session(&mut self) -> Option<Session> {
        self.session.take()
    }

    pub(super) fn session(&mut self) -> Result<&mut Session, DatabaseError> {
        let over = || DatabaseError::Driver { doing: "go on with a load".into(), kind: "its transaction is over" };
        self.session.as_mut().ok_or_else(over)
    }

    pub(in super::super) async fn create_table(&mut self, pipeline: &Pipeline) -> Result<LiveTable, DatabaseError> {
        let table = self.table.clone();
        let ddl = table_ddl(pipeline, &table, Dialect::Sqlite, Some(self.id))?;
        let session = self.session()?;
        session.simple(ddl.create, Doing::Create(&table)).await?;
        for sql in ddl.finish {
            session.simple(sql, Doing::Create(&table)).await?;
        }
        let live = session.describe(&table).await?;
        live.ok_or_else(|| DatabaseError::NoSuchTable { table: table.to_string() })
    }

    pub(in super::super) async fn delete_previous(&mut self) -> Result<u64, DatabaseError> {
        let table = self.table.clone();
        let Replaced { ids, loaded } = self.replaced.clone();
        let session = self.session()?;
        let mut deleted = 0;
        for load in &ids {
            let delete = built(format!("delete from {} where \"{LOAD_ID}\" = ?1", table.quoted())).bind(load);
            deleted += session.run(delete, Doing::Delete(&table)).await?;
        }
        match ids.first() {
            Some(&load) if deleted == 0 && loaded > 0 && session.has_rows_without_load(&table).await? => {
                Err(DatabaseError::RowsWithoutLoad { load, table: table.to_string() })
            }
            Some(_) | None => Ok(deleted),
        }
    }

    pub(in super::super) async fn delete_all_rows(&mut self) -> Result<u64, DatabaseError> {
        let table = self.table.clone();
        self.session()?.run(built(format!("delete from {}", table.quoted())), Doing::Delete(&table)).await
    }

    pub(in super::super) async fn write_rejects(&mut self, rejects: &[StoredReject]) -> Result<(), DatabaseError> {
        let id = self.id;
        self.session()?.write_rejects(id, rejects).await?;
        self.rejects += rejects.len() as u64;
        Ok(())
    }

    fn insert_sql(&self, rows: usize) -> Result<String, DatabaseError> {
        let columns = self.columns.iter().map(|name| quote(name)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let values = vec![row.as_str(); rows].join(", ");
        let table = if self.staging { STAGING.to_owned() } else { self.table.quoted() };
        Ok(format!("insert into {table} ({columns}) values {values}"))
    }

    /// Prepares the statement for these columns; gives how many rows it takes.
    async fn write_into(&mut self, columns: &[String]) -> Result<usize, DatabaseError> {
        if self.columns != columns {
            self.flush().await?;
            self.columns = columns.to_vec();
            let rows = (MAX_BINDS / columns.len().max(1)).clamp(1, ROWS_PER_STATEMENT);
            self.batch = Some((self.insert_sql(rows)?.into(), rows));
        }
        Ok(self.batch.as_ref().map_or(1, |(_, rows)| *rows))
    }

    /// Takes the rows of a block, whose values stand for `columns` in their order. Rows that do not fill a statement
    /// wait for the next block or for the end.
    pub async fn insert(&mut self, columns: &[String], rows: SqliteRows) -> Result<(), DatabaseError> {
        let rows_per_statement = self.write_into(columns).await?;
        let mut cursor = rows.cursor();
        while self.pending.take(&mut cursor)? {
            if self.pending.rows == rows_per_statement || self.pending.bytes >= BYTES_PER_STATEMENT {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Brings in what the table takes of a block's rows, and gives the refusal of each other row: `row` is its place, from
    /// 1. Stops looking for more than `most` of them.
    pub(in super::super) async fn take_exactly(
        &mut self,
        columns: &[String],
        rows: &SqliteRows,
        most: u64,
    ) -> Result<Vec<Refusal>, DatabaseError> {
        let rows_per_statement = self.write_into(columns).await?;
        let mut refused = Vec::new();
        let mut cursor = rows.cursor();
        loop {
            let place = cursor.row();
            let mut again = cursor.clone();
            let mut some = Pending::default();
            some.fill(&mut cursor, rows_per_statement)?;
            let count = some.rows;
            if count == 0 || refused.len() as u64 > most {
                return Ok(refused);
            }
            if self.try_to_write(some).await?.is_none() {
                continue;
            }
            // One of them is at fault: each alone.
            for row in place..place + count {
                let mut one = Pending::default();
                one.fill(&mut again, 1)?;
                if let Some(mut refusal) = self.try_to_write(one).await? {
                    refusal.row = Some(row as u64 + 1);
                    refused.push(*refusal);
                }
            }
        }
    }

    /// Writes rows by one statement, or says why the table refuses them: none of them is in then. A trigger or a key
    /// declared `on conflict rollback` ends the whole transaction, and so the load.
    async fn try_to_write(&mut self, rows: Pending) -> Result<Option<Box<Refusal>>, DatabaseError> {
        let sql = match &self.batch {
            Some((sql, full)) if rows.rows == *full => Arc::clone(sql),
            _ => self.insert_sql(rows.rows)?.into(),
        };
        let columns = self.columns.clone();
        self.try_to_run(sqlx::query_with(AssertSqlSafe(sql), rows.arguments).persistent(false), &columns).await
    }

    async fn try_to_run(
        &mut self,
        query: Query<'_, sqlx::Sqlite, SqliteArguments>,
        columns: &[String],
    ) -> Result<Option<Box<Refusal>>, DatabaseError> {
        let table = self.table.clone();
        let doing = Doing::Copy { table: &table, columns };
        let session = self.session()?;
        session.simple("savepoint aqueduct".into(), doing).await?;
        let (refusal, end) = match session.run(query, doing).await {
            Ok(written) => {
                self.rows += written;
                (None, "release savepoint aqueduct")
            }
            Err(DatabaseError::Refused(refusal)) => {
                (Some(refusal), "rollback to savepoint aqueduct; release savepoint aqueduct")
            }
            Err(error) => return Err(error),
        };
        match (self.session()?.simple(end.into(), doing).await, refusal) {
            (Ok(()), None) => Ok(None),
            (Ok(()), Some(mut refusal)) => {
                self.name_key(&mut refusal).await;
                Ok(Some(refusal))
            }
            // There is no savepoint any more.
            (Err(_), Some(refusal)) => {
                self.session = None;
                Err(DatabaseError::Refused(refusal))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Writes the rows that wait.
    async fn flush(&mut self) -> Result<(), DatabaseError> {
        let Pending { arguments, rows, records, .. } = std::mem::take(&mut self.pending);
        let written = match &self.batch {
            _ if rows == 0 => Ok(()),
            Some((sql, full)) if rows == *full => {
                let sql = AssertSqlSafe(Arc::clone(sql));
                self.execute(sql, arguments, true).await
            }
            // Of long rows, or the last ones: SQLite reads such a text anew in a fraction of the time the rows take.
            _ => {
                let sql = self.insert_sql(rows)?;
                self.execute(AssertSqlSafe(sql), arguments, false).await
            }
        };
        written.map_err(|mut error| {
            // SQLite does not say which row of a statement it was.
            if let DatabaseError::Refused(refusal) = &mut error {
                refusal.records = records;
            }
            error
        })
    }

    async fn execute(
        &mut self,
        sql: impl sqlx::SqlSafeStr,
        arguments: SqliteArguments,
        again: bool,
    ) -> Result<(), DatabaseError> {
        let (table, columns) = (self.table.clone(), self.columns.clone());
        let doing = Doing::Copy { table: &table, columns: &columns };
        let query = sqlx::query_with(sql, arguments).persistent(again);
        let written = match self.session()?.run(query, doing).await {
            Err(DatabaseError::Refused(mut refusal)) => {
                self.name_key(&mut refusal).await;
                self.session = None;
                return Err(DatabaseError::Refused(refusal));
            }
            written => written?,
        };
        if !self.staging {
            self.rows += written;
        }
        Ok(())
    }

    /// Prepares the transaction; `columns` are those of the table, the first of them `fields`.
    pub(in super::super) async fn begin_upsert(
        &mut self,
        columns: &[String],
        fields: usize,
        key: &[String],
    ) -> Result<SqliteMerge, DatabaseError> {
        let table = self.table.clone();
        let clause = merge_clause(columns, key, Dialect::Sqlite)?;
        let staged_columns: Vec<String> =
            (1..=fields + [LOAD_ID, RECORD].len()).map(|place| format!("c{place}")).collect();
        let staged = staged_columns.join(", ");
        let session = self.session()?;
        // Columns without a type keep what they are given.
        session.simple(format!("create temporary table aqueduct_staging ({staged})"), Doing::Stage(&table)).await?;
        let mut compared = Vec::new();
        for name in key {
            let Some(place) = columns.iter().position(|column| column == name) else { continue };
            let collation = session.collation(&table, key, name).await?;
            compared.push(format!("c{} collate {}", place + 1, quote(&collation)?));
        }
        let names = columns.iter().map(|name| quote(name)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let values = staged_columns[..columns.len()].join(", ");
        self.staging = true;
        Ok(SqliteMerge {
            columns: columns.to_vec(),
            staged_columns,
            key: compared.join(", "),
            into: format!(
                "insert into {} as {MERGED_INTO} ({names}) select {values} from {STAGING} \
                 where rowid between ?1 and ?2{clause}",
                table.quoted()
            ),
        })
    }

    /// Stages the rows of a block.
    pub(crate) async fn stage(&mut self, merge: &SqliteMerge, rows: SqliteRows) -> Result<(), DatabaseError> {
        self.insert(&merge.staged_columns, rows).await
    }

    pub(in super::super) async fn drop_duplicates(&mut self, merge: &SqliteMerge) -> Result<u64, DatabaseError> {
        self.flush().await?;
        self.staging = false;
        let table = self.table.clone();
        let delete = format!(
            "delete from {STAGING} where rowid not in (select max(rowid) from {STAGING} group by {})",
            merge.key
        );
        self.session()?.run(built(delete), Doing::Stage(&table)).await
    }

    /// See [`LoadTransaction::merge`].
    pub(in super::super) async fn merge(
        &mut self,
        merge: &SqliteMerge,
        ranges: &mut Vec<(i64, i64)>,
        most: u64,
    ) -> Result<Vec<Refusal>, DatabaseError> {
        let mut refused: Vec<Refusal> = Vec::new();
        while refused.len() as u64 <= most
            && let Some((first, last)) = ranges.pop()
        {
            if last - first >= ROWS_PER_MERGE {
                ranges.push((first + ROWS_PER_MERGE, last));
                ranges.push((first, first + ROWS_PER_MERGE - 1));
                continue;
            }
            let insert = built(merge.into.clone()).bind(first).bind(last);
            let Some(mut refusal) = self.try_to_run(insert, &merge.columns).await? else { continue };
            if first < last {
                let middle = first + (last - first) / 2;
                ranges.extend([(middle + 1, last), (first, middle)]);
                continue;
            }
            let record = merge.staged_columns.last().map_or("rowid", String::as_str);
            let table = self.table.clone();
            let query = built(format!("select {record} as record from {STAGING} where rowid = ?1")).bind(first);
            let record = get::<i64>(&self.session()?.row(query, Doing::Stage(&table)).await?, "record")?.unsigned_abs();
            refusal.row = Some(first.unsigned_abs());
            refusal.records = Some((record, record));
            refused.push(*refusal);
        }
        Ok(refused)
    }

    /// SQLite names a key's columns and not its constraint; the one of the table's own key has the name we give it.
    async fn name_key(&mut self, refusal: &mut Refusal) {
        let table = self.table.clone();
        let Ok(session) = self.session() else { return };
        if let (RefusalKind::Unique, Ok(Some(live))) = (refusal.kind, session.describe(&table).await)
            && !live.primary_key.is_empty()
            && live.primary_key.iter().all(|column| refusal.columns.contains(column))
            && refusal.columns.len() == live.primary_key.len()
        {
            refusal.constraint = Some("primary key".into());
            refusal.columns = live.primary_key;
        }
    }

    /// Fewer rows than were sent are a trigger's doing, if there is one.
    pub(super) async fn name_triggers(&mut self, error: DatabaseError, sent: u64) -> DatabaseError {
        let (table, taken) = (self.table.clone(), self.rows);
        let Ok(session) = self.session() else { return error };
        match session.triggers(&table).await {
            Ok(triggers) if taken < sent && !triggers.is_empty() => {
                DatabaseError::RowsDropped { table: table.to_string(), sent, taken, triggers }
            }
            Ok(_) | Err(_) => error,
        }
    }

    pub(in super::super) async fn finish(
        mut self,
        database: &mut Sqlite,
        totals: &Totals,
    ) -> Result<(), DatabaseError> {
        self.flush().await?;
        self.session()?.simple(format!("drop table if exists {STAGING}"), Doing::WriteLedger).await?;
        if let Err(error) = check_counts(totals, self.rows, self.rejects) {
            return Err(self.name_triggers(error, totals.counts.loaded).await);
        }
        let (id, replaced) = (self.id, std::mem::take(&mut self.replaced.ids));
        let session = self.session()?;
        let ending = Ending { state: LoadState::Loaded, error: None, permanent: false };
        session.finish_load(id, totals, &ending).await?;
        for replaced in replaced {
            let by = statement("update aqueduct_load set replaced_by = ?1 where id = ?2").bind(id).bind(replaced);
            session.run(by, Doing::WriteLedger).await?;
        }
        match self.session.take() {
            Some(session) => database.done(session).await,
            None => Ok(()),
        }
    }

    pub(in super::super) async fn abort(mut self) {
        if let Some(session) = self.session.take()
            && sqlx::Connection::close_hard(session.connection).await.is_err()
        {
            debug!("the connection was closed already");
        }
    }
}
