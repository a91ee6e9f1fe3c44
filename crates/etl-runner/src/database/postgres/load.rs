//! The transaction of one load: ledger row first, then COPY segments with rejects between them, then commit.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, warn};
use transform::Pipeline;

use super::super::ddl::{LOAD_ID, add_key, analyze, primary_key_name, table_ddl};
use super::super::error::{DatabaseError, Doing};
use super::super::name::{TableName, quote};
use super::super::{Begin, Dialect, LiveTable, LoadTransaction, Refusal, RefusalKind, Replaced, check_counts};
use super::exact::{KEEP, SAVEPOINT, Staging, TAKE_BACK};
use super::ledger::Ending;
use super::{Postgres, Session, built, get, statement};
use crate::ledger::{LoadState, NewLoad, Replaces, StoredReject, Totals};

/// `PGCOPY`, flags, no header extension: https://www.postgresql.org/docs/current/sql-copy.html
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A column count of -1 ends the rows.
const BINARY_TRAILER: &[u8] = b"\xff\xff";

/// How long the server may take to notice that the connection of a lost COMMIT is gone.
pub(super) const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// What the bytes of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Rows in PostgreSQL's binary format, without header and trailer.
    Binary,
    /// Lines in its text format.
    Text,
}

impl CopyFormat {
    /// What stands in front of the rows, and behind them.
    pub(super) fn header(self) -> &'static [u8] {
        match self {
            Self::Binary => BINARY_HEADER,
            Self::Text => b"",
        }
    }

    pub(super) fn trailer(self) -> &'static [u8] {
        match self {
            Self::Binary => BINARY_TRAILER,
            Self::Text => b"",
        }
    }

    pub(super) fn options(self) -> &'static str {
        match self {
            Self::Binary => "format binary",
            Self::Text => "format text, encoding 'UTF8'",
        }
    }
}

/// One load on PostgreSQL.
#[derive(Debug)]
pub struct PostgresLoad {
    /// Absent while a segment runs, and after a failure.
    pub(super) session: Option<Session>,
    pub(super) copy: Option<Copying>,
    pub(super) id: i64,
    pub(super) table: TableName,
    pub(super) object_uri: String,
    pub(super) replaced: Replaced,
    pub(super) rows: u64,
    pub(super) rejects: u64,
    pub(super) created: Option<Created>,
    pub(super) table_oid: Option<u32>,
    pub(super) staging: Staging,
    /// Where the segment under way can be taken back alone.
    pub(super) savepoint: bool,
    /// It was, after a refusal, and the transaction stands.
    pub(super) taken_back: bool,
}

/// A table this load made: its key is to follow the rows.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) key: Vec<String>,
}

/// A COPY in progress. The connection is away in a task of its own, so the next block is prepared while the last one
/// is on its way.
#[derive(Debug)]
pub(super) struct Copying {
    feed: mpsc::Sender<Feed>,
    spent: mpsc::UnboundedReceiver<Vec<u8>>,
    task: JoinHandle<(Session, Result<u64, sqlx::Error>)>,
    columns: Vec<String>,
    trailer: &'static [u8],
    staged: bool,
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
enum Feed {
    Data(Vec<u8>),
    Finish,
}

/// Keys of the advisory locks: what they mean is hashed into the one number PostgreSQL takes.
fn lock_key(parts: &[&str]) -> i64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut key = [0; 8];
    key.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(key)
}

fn object_key(table: &TableName, uri: &str) -> i64 {
    lock_key(&["aqueduct object", table.schema().unwrap_or_default(), table.name(), uri])
}

fn table_key(table: &TableName) -> i64 {
    lock_key(&["aqueduct table", table.schema().unwrap_or_default(), table.name()])
}

impl Session {
    /// Takes the object, and the table: alone where its earlier rows are replaced or updated, else together with loads of
    /// other objects.
    /// The locks end with the transaction. `false` when another process has one of them.
    pub(super) async fn lock_object(
        &mut self,
        table: &TableName,
        uri: &str,
        alone: bool,
    ) -> Result<bool, DatabaseError> {
        let query = if alone {
            "select pg_try_advisory_xact_lock($1) and pg_try_advisory_xact_lock($2) as locked"
        } else {
            "select pg_try_advisory_xact_lock_shared($1) and pg_try_advisory_xact_lock($2) as locked"
        };
        let query = statement(query).bind(table_key(table)).bind(object_key(table, uri));
        get(&self.row(query, Doing::WriteLedger).await?, "locked")
    }
}

impl Postgres {
    pub(in super::super) async fn begin_load(&mut self, new: &NewLoad) -> Result<Begin, DatabaseError> {
        let mut session = self.write(Doing::WriteLedger).await?;
        if !session.lock_object(&new.table, &new.object.uri, new.alone).await? {
            self.roll_back(session).await;
            return Ok(Begin::Busy);
        }
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
        let id = match session.insert_load(new, LoadState::Loading).await {
            Err(DatabaseError::Refused(refusal)) if refusal.kind == RefusalKind::Unique => return Ok(Begin::Busy),
            inserted => inserted?,
        };
        if new.replaces != Replaces::Table {
            self.vouch_for(&mut session, &new.table, id).await?;
        }
        let load = PostgresLoad {
            replaced,
            table_oid: new.table_oid,
            ..PostgresLoad::new(session, id, &new.table, &new.object.uri)
        };
        Ok(Begin::Started(Box::new(LoadTransaction::Postgres(load))))
    }

    /// Makes sure, once, that no row of a table has a number of load `id` or a later one: the ledger that gave it is not
    /// this one then. Who may not look does not find out, and could take no row out either. Only a table of which the ledger knows nothing has to be looked through.
    pub(super) async fn vouch_for(
        &mut self,
        session: &mut Session,
        table: &TableName,
        id: i64,
    ) -> Result<(), DatabaseError> {
        if self.vouched_for.as_ref() == Some(table) {
            return Ok(());
        }
        if let Some(newest) = session.foreign_number(table, id).await? {
            return Err(DatabaseError::ForeignNumbers { table: table.to_string(), newest });
        }
        self.vouched_for = Some(table.clone());
        Ok(())
    }

    /// Whether a load whose COMMIT got no answer was committed. Its locks go when its transaction ends, either way;
    /// after that the ledger tells.
    async fn was_committed(&mut self, load: &PostgresLoad) -> Result<bool, DatabaseError> {
        let doing = Doing::ReadLedger;
        let mut session = self.begin("begin; set local lock_timeout = '60s'", doing).await?;
        let wait = statement("select pg_advisory_xact_lock($1)").bind(object_key(&load.table, &load.object_uri));
        session.run(wait, doing).await?;
        let row = session.load_by_id(load.id).await?;
        self.done(session).await?;
        // Whatever became of it later: a row of this id is only ever seen once it is committed, as `loading` when the load
        // runs on several connections.
        Ok(row.is_some_and(|row| row.state != LoadState::Loading))
    }
}

impl Session {
    async fn mark_replaced(&mut self, new: &NewLoad) -> Result<Replaced, DatabaseError> {
        let query = match &new.replaces {
            Replaces::Nothing => return Ok(Replaced::default()),
            Replaces::Loads(_) | Replaces::Upsert(_) => statement(
                "update aqueduct.load set state = 'replaced' \
                 where table_schema = $1 and table_name = $2 and state = 'loaded' and id = any ($3) \
                 returning id, loaded",
            )
            .bind(new.table.schema())
            .bind(new.table.name())
            .bind(new.replaces.loads()),
            Replaces::Table => statement(
                "update aqueduct.load set state = 'replaced' \
                 where table_schema = $1 and table_name = $2 and state in ('loaded', 'loading') returning id, loaded",
            )
            .bind(new.table.schema())
            .bind(new.table.name()),
        };
        let rows = self.rows(query, Doing::WriteLedger).await?;
        let rows = rows.iter().map(|row| Ok((get(row, "id")?, get(row, "loaded")?)));
        Ok(Replaced::of(rows.collect::<Result<Vec<_>, DatabaseError>>()?))
    }

    async fn foreign_number(&mut self, table: &TableName, id: i64) -> Result<Option<i64>, DatabaseError> {
        let query = statement(
            "select exists (select from pg_catalog.pg_attribute a \
                 join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                 where n.nspname = $1 and c.relname = $2 and a.attname = $3 and not a.attisdropped \
                     and has_column_privilege(c.oid, a.attnum, 'select')) \
             and not exists (select from aqueduct.load where table_schema = $1 and table_name = $2 and id <> $4 \
                 and state not in ('failed', 'superseded')) as unknown",
        );
        let query = query.bind(table.schema()).bind(table.name()).bind(LOAD_ID).bind(id);
        if !get::<bool>(&self.row(query, Doing::ReadLedger).await?, "unknown")? {
            return Ok(None);
        }
        let newest = format!("select max(\"{LOAD_ID}\")::bigint as newest from {}", table.quoted());
        let newest: Option<i64> = get(&self.row(built(newest), Doing::Count(table)).await?, "newest")?;
        Ok(newest.filter(|&newest| newest >= id))
    }

    /// Whether rows are there that no load, or one before the table had lineage, wrote.
    pub(super) async fn has_rows_without_load(&mut self, table: &TableName) -> Result<bool, DatabaseError> {
        let sql = format!("select exists (select from {} where \"{LOAD_ID}\" is null) as found", table.quoted());
        get(&self.row(built(sql), Doing::Count(table)).await?, "found")
    }

    /// Triggers that may drop rows without an error.
    pub(super) async fn row_triggers(&mut self, table: &TableName) -> Result<Vec<String>, DatabaseError> {
        // Bits of a trigger's type: for each row, before, insert.
        let query = statement(
            "select distinct g.tgname::text as name from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             join pg_catalog.pg_trigger g on g.tgrelid = c.oid \
                 or g.tgrelid in (select relid from pg_catalog.pg_partition_tree(c.oid)) \
             where n.nspname = $1 and c.relname = $2 and not g.tgisinternal and g.tgenabled in ('O', 'A') \
                 and g.tgtype & 7 = 7 order by 1",
        );
        let rows = self.rows(query.bind(table.schema()).bind(table.name()), Doing::Describe(table)).await?;
        rows.iter().map(|row| get(row, "name")).collect()
    }
}

impl PostgresLoad {
    /// In a transaction that holds what it needs; replaces nothing, makes no table.
    pub(super) fn new(session: Session, id: i64, table: &TableName, object_uri: &str) -> Self {
        Self {
            session: Some(session),
            copy: None,
            id,
            table: table.clone(),
            object_uri: object_uri.to_owned(),
            replaced: Replaced::default(),
            rows: 0,
            rejects: 0,
            created: None,
            table_oid: None,
            staging: Staging::default(),
            savepoint: false,
            taken_back: false,
        }
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    pub(super) fn session(&mut self) -> Result<&mut Session, DatabaseError> {
        let over = || DatabaseError::Driver { doing: "go on with a load".into(), kind: "its transaction is over" };
        self.session.as_mut().ok_or_else(over)
    }

    pub(in super::super) async fn create_table(&mut self, pipeline: &Pipeline) -> Result<LiveTable, DatabaseError> {
        let table = self.table.clone();
        let ddl = table_ddl(pipeline, &table, Dialect::Postgres, None)?;
        let session = self.session()?;
        session.simple(ddl.create, Doing::Create(&table)).await?;
        let live = session.describe(&table).await?;
        let live = live.ok_or_else(|| DatabaseError::NoSuchTable { table: table.to_string() })?;
        self.table_oid = live.oid;
        self.created = Some(Created { key: pipeline.schema.primary_key.clone() });
        Ok(live)
    }

    pub(in super::super) async fn delete_previous(&mut self) -> Result<u64, DatabaseError> {
        let Replaced { ids, loaded } = self.replaced.clone();
        let Some(&load) = ids.first() else { return Ok(0) };
        let table = self.table.clone();
        let delete = built(format!("delete from {} where \"{LOAD_ID}\" = any ($1)", table.quoted())).bind(ids);
        let session = self.session()?;
        let deleted = session.run(delete, Doing::Delete(&table)).await?;
        if deleted == 0 && loaded > 0 && session.has_rows_without_load(&table).await? {
            return Err(DatabaseError::RowsWithoutLoad { load, table: table.to_string() });
        }
        Ok(deleted)
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

    /// Begins a segment: one COPY statement for these columns, in this order. The server takes it or says why not.
    pub async fn start_copy(&mut self, columns: &[String], format: CopyFormat) -> Result<(), DatabaseError> {
        let quoted = columns.iter().map(|name| quote(name)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let table = self.table.clone();
        let sql = format!("copy {} ({quoted}) from stdin with ({})", table.quoted(), format.options());
        self.open_copy(sql, columns, format, false).await
    }

    /// The same by a statement that is made already; rows that are only staged do not count yet.
    pub(super) async fn open_copy(
        &mut self,
        sql: String,
        columns: &[String],
        format: CopyFormat,
        staged: bool,
    ) -> Result<(), DatabaseError> {
        let table = self.table.clone();
        let (header, trailer) = (format.header(), format.trailer());
        let another = self.rows > 0;
        let session = self.session()?;
        // The first segment is the load's beginning; from the second on, a refusal should not cost what is in.
        if another {
            session.simple(SAVEPOINT.into(), Doing::Copy { table: &table, columns }).await?;
        }
        self.savepoint = another;
        let Some(session) = self.session.take() else { return Ok(()) };
        // One buffer on its way, one waiting: with the block being prepared that is all the memory a segment takes.
        let (feed, fed) = mpsc::channel(1);
        let (done_with, spent) = mpsc::unbounded_channel();
        let (ready, begun) = oneshot::channel();
        let task = tokio::spawn(copy(session, sql, header, ready, fed, done_with));
        self.copy = Some(Copying { feed, spent, task, columns: columns.to_vec(), trailer, staged });
        if begun.await.is_err() {
            self.why_ended().await?;
        }
        Ok(())
    }

    /// Sends bytes of the open segment, whole rows or not; waits while the server is behind. Gives back a buffer to write
    /// over.
    pub async fn send(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, DatabaseError> {
        let Some(copying) = self.copy.as_mut() else {
            return Err(DatabaseError::Driver { doing: "send rows".into(), kind: "no segment has begun" });
        };
        if !bytes.is_empty() && copying.feed.send(Feed::Data(bytes)).await.is_err() {
            self.why_ended().await?;
            return Ok(Vec::new());
        }
        Ok(copying.spent.try_recv().unwrap_or_default())
    }

    /// The error of a segment whose task ended before its time.
    async fn why_ended(&mut self) -> Result<(), DatabaseError> {
        self.finish_copy().await?;
        Err(DatabaseError::Driver { doing: "send rows".into(), kind: "the segment has ended" })
    }

    /// Ends the segment and waits for the server's judgement; gives how many rows it took. After a refusal in the first
    /// segment the transaction is over; a later segment alone is taken back.
    pub async fn finish_copy(&mut self) -> Result<u64, DatabaseError> {
        let Some(mut copying) = self.copy.take() else { return Ok(0) };
        let trailer = copying.trailer;
        // A closed channel means that the task has ended, with an error that is read below.
        if trailer.is_empty() || copying.feed.send(Feed::Data(trailer.to_vec())).await.is_ok() {
            _ = copying.feed.send(Feed::Finish).await;
        }
        let table = self.table.clone();
        let (session, result) = match (&mut copying.task).await {
            Ok(ended) => ended,
            Err(_) => {
                let doing = format!("write rows into {table}");
                return Err(DatabaseError::Driver { doing, kind: "the copying task ended" });
            }
        };
        match result {
            Ok(rows) => {
                let doing = Doing::Copy { table: &table, columns: &copying.columns };
                let session = self.session.insert(session);
                if std::mem::take(&mut self.savepoint) {
                    session.simple(KEEP.into(), doing).await?;
                }
                if !copying.staged {
                    self.rows += rows;
                }
                Ok(rows)
            }
            Err(error) => {
                let doing = Doing::Copy { table: &table, columns: &copying.columns };
                let mut error = session.error(error, doing);
                if let DatabaseError::Refused(refusal) = &mut error {
                    if std::mem::take(&mut self.savepoint) {
                        let session = self.session.insert(session);
                        session.simple(TAKE_BACK.into(), doing).await?;
                        session.complete(refusal, &table).await?;
                        self.taken_back = true;
                    } else {
                        self.explain(session, refusal).await;
                    }
                }
                Err(error)
            }
        }
    }

    pub(in super::super) fn goes_on(&self) -> bool {
        self.taken_back
    }

    /// Names the columns of the constraint that refused, in a transaction of its own since this one is over. What
    /// cannot be found out stays unsaid.
    async fn explain(&self, mut session: Session, refusal: &mut Refusal) {
        let asked = async {
            session.simple("rollback".into(), Doing::Commit).await?;
            session.simple(super::BEGIN_READ.into(), Doing::Describe(&self.table)).await?;
            session.complete(refusal, &self.table).await
        };
        if let Err(error) = asked.await {
            debug!(%error, "the columns of a constraint stay unknown");
        }
    }

    pub(in super::super) async fn finish(
        mut self,
        database: &mut Postgres,
        totals: &Totals,
    ) -> Result<(), DatabaseError> {
        let complete = self.complete(totals).await;
        let Some(session) = self.session.take() else { return complete };
        if let Err(error) = complete {
            // In good order: whoever tries again at once should not find the locks still held.
            database.roll_back(session).await;
            return Err(error);
        }
        let lost = match database.done(session).await {
            Err(lost @ DatabaseError::ConnectionLost { .. }) => lost,
            answered => return answered.map_err(|error| self.with_deferred_table(error)),
        };
        warn!(load = self.id, "the answer to commit was lost, asking the ledger");
        match tokio::time::timeout(COMMIT_PATIENCE, database.was_committed_patiently(&self)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(lost),
            Ok(Err(_)) | Err(_) => Err(DatabaseError::CommitUnknown { id: self.id }),
        }
    }

    /// Everything that comes before the commit.
    async fn complete(&mut self, totals: &Totals) -> Result<(), DatabaseError> {
        self.finish_copy().await?;
        if let Err(error) = check_counts(totals, self.rows, self.rejects) {
            return Err(self.name_triggers(error, totals.counts.loaded).await);
        }
        self.complete_table().await?;
        let (id, table_oid, replaced) = (self.id, self.table_oid, std::mem::take(&mut self.replaced.ids));
        let session = self.session()?;
        let ending = Ending { state: LoadState::Loaded, error: None, permanent: false, table_oid };
        session.finish_load(id, totals, &ending).await?;
        if !replaced.is_empty() {
            let by = statement("update aqueduct.load set replaced_by = $1 where id = any ($2)").bind(id).bind(replaced);
            session.run(by, Doing::WriteLedger).await?;
        }
        Ok(())
    }

    /// Fewer rows than were sent are a trigger's doing, if there is one.
    pub(super) async fn name_triggers(&mut self, error: DatabaseError, sent: u64) -> DatabaseError {
        let (table, taken) = (self.table.clone(), self.rows);
        let Ok(session) = self.session() else { return error };
        match session.row_triggers(&table).await {
            Ok(triggers) if taken < sent && !triggers.is_empty() => {
                DatabaseError::RowsDropped { table: table.to_string(), sent, taken, triggers }
            }
            Ok(_) | Err(_) => error,
        }
    }

    /// A deferred constraint speaks at commit, when no table is being worked on.
    pub(super) fn with_deferred_table(&self, error: DatabaseError) -> DatabaseError {
        match error {
            DatabaseError::Refused(mut refusal) => {
                if refusal.table == "the table" {
                    refusal.table = self.table.to_string();
                }
                DatabaseError::Refused(refusal)
            }
            other => other,
        }
    }

    /// The key and statistics of a table made by this load.
    pub(super) async fn complete_table(&mut self) -> Result<(), DatabaseError> {
        if self.created.is_none() {
            return Ok(());
        }
        self.make_key().await?;
        let table = self.table.clone();
        self.session()?.simple(analyze(&table), Doing::Create(&table)).await
    }

    /// The key of a table made by this load, unless it is there.
    pub(super) async fn make_key(&mut self) -> Result<(), DatabaseError> {
        let Some(Created { key }) = &mut self.created else { return Ok(()) };
        let key = std::mem::take(key);
        let table = self.table.clone();
        let Some(sql) = add_key(&table, &key)? else { return Ok(()) };
        match self.session()?.simple(sql, Doing::Create(&table)).await {
            Err(DatabaseError::Refused(mut refusal)) => {
                if refusal.constraint == Some(primary_key_name(&table)) {
                    refusal.columns = key;
                }
                Err(DatabaseError::Refused(refusal))
            }
            made => made,
        }
    }

    pub(in super::super) async fn roll_back(mut self, database: &mut Postgres) {
        drop(self.copy.take());
        if let Some(session) = self.session.take() {
            database.roll_back(session).await;
        }
    }

    pub(in super::super) async fn abort(mut self) {
        drop(self.copy.take());
        if let Some(session) = self.session.take() {
            close_hard(session.connection).await;
        }
    }
}

impl Postgres {
    /// Asks again while the server cannot be reached: it may be restarting, which is why the answer was lost.
    async fn was_committed_patiently(&mut self, load: &PostgresLoad) -> Result<bool, DatabaseError> {
        loop {
            match self.was_committed(load).await {
                Err(error) if error.is_temporary() => {
                    debug!(%error, "the ledger does not answer yet");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                answered => return answered,
            }
        }
    }
}

async fn close_hard(connection: PgConnection) {
    if sqlx::Connection::close_hard(connection).await.is_err() {
        debug!("the connection was closed already");
    }
}

/// Runs one COPY with what it is fed. Without [`Feed::Finish`] nothing of it counts.
async fn copy(
    mut session: Session,
    sql: String,
    header: &'static [u8],
    ready: oneshot::Sender<()>,
    mut fed: mpsc::Receiver<Feed>,
    done_with: mpsc::UnboundedSender<Vec<u8>>,
) -> (Session, Result<u64, sqlx::Error>) {
    let result = async {
        let mut copy = session.connection.copy_in_raw(&sql).await?;
        // Nobody listening means that the load is being given up.
        _ = ready.send(());
        if !header.is_empty() {
            copy.send(header).await?;
        }
        while let Some(feed) = fed.recv().await {
            match feed {
                Feed::Data(bytes) => {
                    copy.send(bytes.as_slice()).await?;
                    _ = done_with.send(bytes);
                }
                Feed::Finish => return copy.finish().await,
            }
        }
        copy.abort("the load was given up").await?;
        Err(sqlx::Error::WorkerCrashed)
    }
    .await;
    (session, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_tell_tables_and_objects_apart() {
        let table = |name| TableName::parse(name).unwrap();
        let keys = [
            object_key(&table("a.b"), "c"),
            object_key(&table("a.bc"), ""),
            object_key(&table("a.b"), "d"),
            table_key(&table("a.b")),
            table_key(&table("ab.b")),
        ];
        let distinct: std::collections::HashSet<_> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn the_binary_header_has_the_length_the_server_reads() {
        assert_eq!(BINARY_HEADER.len(), 19);
    }
}
