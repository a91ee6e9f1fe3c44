//! One object version into one table, all or nothing.
//!
//! The order of the stages, and nothing of how they are done: open the object and compile the plan (nothing is touched
//! yet), begin the load with its ledger row, stream batches into segments with the rejects of each between them, judge
//! the limits, commit. Whatever fails on the way leaves nothing but a `failed` row in the ledger.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use objects::{Compression, Decompressed, Limits, ObjectMeta, ObjectReader, ReadAhead, Store, StoreError};
use tracing::debug;
use transform::csv::{Format, Opened, Position};
use transform::pipeline::{Errors, Mode};
use transform::{
    Code, ColumnType, Discard, Encoding, HeaderReport, Labels, Pipeline, Plan, RejectedRecord, RowRef, RowSink, Tally,
};
use uuid::Uuid;

use crate::database::{
    Begin, CopyEncoder, CopyFormat, CopyTextEncoder, Database, DatabaseError, FAILURE_REJECT_BYTES, FAILURE_REJECTS,
    LiveTable, LoadFilter, LoadTransaction, Merge, SqliteRows, TableEncoding, TableName, compare, written_columns,
};
use crate::error::LoadError;
use crate::ledger::{
    self, Counts, LoadRow, LoadState, NewLoad, ObjectVersion, RejectLine, Replaces, StoredFormat, StoredHeader,
    StoredReject, Timestamp, Totals,
};
use crate::parallel;
use crate::report::{LoadReport, Outcome, RejectTotal};
use crate::stream::{self, Batches, Spent, StreamError};
use crate::{exact, upsert};

/// Rows of one COPY statement, in bytes. PostgreSQL answers a COPY only at its end, so a refusal stops within one
/// segment; larger segments gain nothing measurable.
const SEGMENT: usize = 32 * 1024 * 1024;
/// Segments of a large object. Each has a savepoint, and PostgreSQL looks up fewer than 64 of a transaction quickly:
/// `PGPROC_MAX_CACHED_SUBXIDS` in its proc.h.
const MOST_SEGMENTS: u64 = 48;
/// Rejects shown with a report.
pub(crate) const SHOWN_REJECTS: usize = 10;
/// Rejects and their bytes held back before a segment is ended for their sake.
pub(crate) const HELD_REJECTS: usize = 4_000;
const HELD_REJECT_BYTES: usize = 4 * 1024 * 1024;
/// Unfinished loads of a table looked at for the one that makes it.
const UNFINISHED_LOOKED_AT: u32 = 100;

/// A pipeline and the table it means in one database.
#[derive(Debug)]
pub struct Target<'a> {
    pub pipeline: &'a Pipeline,
    /// Changes when the pipeline would make other rows of the same bytes.
    pub pipeline_hash: &'a str,
    /// Resolved.
    pub table: &'a TableName,
}

/// One object to be loaded.
#[derive(Debug)]
pub struct Task<'a> {
    pub target: &'a Target<'a>,
    pub store: &'a Store,
    pub object: &'a ObjectMeta,
    pub version: ObjectVersion,
    pub replaces: Replaces,
    pub run_id: Uuid,
    /// Everything but the database.
    pub dry_run: bool,
    pub workers: usize,
    pub committing: &'a AtomicBool,
    /// Connections that write rows; more than one where the object can be split.
    pub connections: usize,
    /// Bytes of a split.
    pub split_bytes: u64,
    /// The load to go on with: some of its splits are in.
    pub unfinished: Option<LoadRow>,
    /// Set once the load runs in splits: those that are in stay when it is interrupted.
    pub in_splits: &'a AtomicBool,
}

/// What a load reads from: an object's bytes, decompressed.
pub(crate) type Source = ReadAhead<Decompressed<ObjectReader>>;

/// Told how far a load is: bytes read of the object as stored, records read.
pub type Advance<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Loads one object. Never fails as a function: how it ended is in the report.
pub async fn load(database: &mut Database, task: &Task<'_>, advance: Advance<'_>) -> LoadReport {
    let started = Instant::now();
    let mut progress = Progress::new(Timestamp::from(SystemTime::now()));
    let way = match task.target.pipeline.target.mode {
        Mode::Append | Mode::Replace => Way::Straight,
        Mode::Upsert => Way::Merge,
    };
    let mut ended = attempt(database, task, way, &mut progress, advance).await;
    if let Err(error) = &ended
        && way == Way::Straight
        && error.is_of_rows(task.target.pipeline)
    {
        debug!(error = error.chain(), "the table refuses rows, so the load begins anew to tell them apart");
        progress = Progress::new(progress.started_at);
        if task.in_splits.swap(false, Ordering::SeqCst) {
            progress.notes.push("loaded on one connection: the table refuses some of the rows".into());
        }
        ended = attempt(database, task, Way::Exact, &mut progress, advance).await;
    }
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(error) => {
            // What was read says how far it came; nothing of it was kept.
            progress.counts.loaded = 0;
            let load = match progress.recorded {
                Some(load) => Some(load),
                None => record_failure(database, task, &mut progress, &error).await,
            };
            let mut outcome = Outcome::failed(&error, load);
            if let Outcome::Failed { help, .. } = &mut outcome {
                help.extend(progress.splits_left.take());
            }
            outcome
        }
    };
    progress.report(task, outcome, started.elapsed().as_secs_f64())
}

/// What is known of a load, or of one split of it, so far.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) started_at: Timestamp,
    pub(crate) counts: Counts,
    pub(crate) bytes: u64,
    pub(crate) content_sha256: Option<String>,
    pub(crate) totals_by_rule: HashMap<(&'static str, Option<String>), u64>,
    /// The first rejects as they are shown.
    pub(crate) shown_rejects: Vec<RejectLine>,
    /// The first rejects with their bytes: what a failed load keeps in the ledger.
    pub(crate) kept_rejects: Vec<StoredReject>,
    kept_bytes: usize,
    pub(crate) notes: Vec<String>,
    note: serde_json::Map<String, serde_json::Value>,
    /// What a reject's bytes are read by.
    format: Option<StoredFormat>,
    /// The rejects of all splits together.
    rejected_in_splits: Option<Arc<AtomicU64>>,
    /// The ledger says already that this load failed.
    pub(crate) recorded: Option<i64>,
    /// What becomes of the splits that are in, after a failure.
    pub(crate) splits_left: Option<String>,
}

/// How rows get into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All at once: one that is refused ends the load.
    Straight,
    /// Refused rows are told apart from the others.
    Exact,
    /// In the place of rows with the same key.
    Merge,
}

async fn attempt(
    database: &mut Database,
    task: &Task<'_>,
    way: Way,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<Outcome, LoadError> {
    let pipeline = task.target.pipeline;
    // The object before the table: an object that is no CSV should not have made anything.
    let (opened, compression) = open(task, progress).await?;
    let live = database.describe(task.target.table).await?;
    parallel::check_table(task, live.as_ref())?;
    let encoding = fit(database, task, live.as_ref()).await?;
    let (plan, header) = Plan::compile(pipeline, opened.grammar(), opened.header(), &encoding.columns)?;
    progress.note_header(&opened, &header, pipeline);

    if task.dry_run {
        let batches = stream::transform(opened, &plan, task.workers, Spent::Recycled, || Discard);
        drain(batches, task, &plan, progress, advance).await?;
        return Ok(Outcome::WouldLoad);
    }

    if way == Way::Straight && parallel::wants_splits(task, compression, progress) {
        return parallel::load_in_splits(database, task, opened, live.as_ref(), progress, advance).await;
    }
    let new = NewLoad {
        table_oid: live.as_ref().and_then(|table| table.oid),
        replaces: task.replaces.clone(),
        ..task.target.new_load(task.run_id, &task.version, progress.started_at)
    };
    let mut transaction = match database.begin_load(&new).await? {
        Begin::Started(transaction) => *transaction,
        Begin::Busy => return Err(LoadError::Busy),
        Begin::AlreadyLoaded(row) => {
            let pipeline_changed = row.pipeline_hash != task.target.pipeline_hash;
            return Ok(Outcome::AlreadyLoaded { load: row.id, pipeline_changed });
        }
    };
    let filled = fill(&mut transaction, task, way, live.as_ref(), opened, &plan, progress, advance).await;
    if let Err(error) = filled {
        match error.is_of_rows(pipeline) {
            // What comes next is a load of the same object: it should not find this one's locks.
            true => transaction.roll_back(database).await,
            false => transaction.abort().await,
        }
        return Err(error);
    }
    let load = transaction.id();
    task.committing.store(true, Ordering::SeqCst);
    let finished = transaction.finish(database, &progress.totals()).await;
    task.committing.store(false, Ordering::SeqCst);
    finished?;
    Ok(Outcome::Loaded { load })
}

/// From here on an object is worth a thread that hashes and decompresses it beside the cutting.
const READ_AHEAD_FROM: u64 = 4 << 20;

/// Opens the pinned version and reads as far as the header.
async fn open(task: &Task<'_>, progress: &mut Progress) -> Result<(Opened<Source>, Compression), LoadError> {
    let reader = task.store.reader(task.object).await?;
    let pipeline = task.target.pipeline.clone();
    let size = task.object.size;
    let (opened, compression) = tokio::task::spawn_blocking(move || {
        let source = Decompressed::new(reader, Limits::default())?;
        let compression = source.compression();
        if let Some(kind) = objects::refuse_binary(source.head()) {
            return Err(LoadError::NotCsv(kind));
        }
        let source = match compression != Compression::Plain || size >= READ_AHEAD_FROM {
            true => ReadAhead::new(source).map_err(|error| StoreError::from_read(error, "the object"))?,
            false => ReadAhead::direct(source),
        };
        Ok((Opened::new(source, &pipeline)?, compression))
    })
    .await
    .map_err(LoadError::Panicked)??;
    if compression != Compression::Plain {
        progress.note("compression", compression.to_string());
    }
    if compression != Compression::of_name(&task.object.key) {
        progress
            .notes
            .push(format!("the name says {}, the content is {compression}", Compression::of_name(&task.object.key)));
    }
    Ok((opened, compression))
}

/// Checks the table against the pipeline, and says how its rows are encoded.
async fn fit(database: &mut Database, task: &Task<'_>, live: Option<&LiveTable>) -> Result<TableEncoding, LoadError> {
    let pipeline = task.target.pipeline;
    let Some(table) = live else {
        if !pipeline.target.create {
            return Err(LoadError::NoTable { table: task.target.table.to_string() });
        }
        let columns = pipeline.schema.fields.iter().map(|field| field.column_type()).collect();
        return Ok(TableEncoding { columns, text: false });
    };
    let problems = match &task.unfinished {
        // It made the table, whose key comes with the end of the load.
        Some(load) if load.makes_table().is_some() => compare(pipeline, &table.with_key(pipeline), database.dialect())?,
        Some(_) | None => compare(pipeline, table, database.dialect())?,
    };
    if problems.is_empty() {
        return Ok(table.encoding(pipeline));
    }
    // A table without its key may be one that another load is still making.
    let loading = LoadFilter {
        table: Some(task.target.table.clone()),
        states: vec![LoadState::Loading],
        ..LoadFilter::default()
    };
    let has_ledger = !task.dry_run || database.has_ledger().await?;
    let making = if has_ledger { database.loads(&loading, UNFINISHED_LOOKED_AT).await? } else { Vec::new() };
    match making.into_iter().find(|load| load.makes_table().is_some()) {
        Some(load) => {
            Err(LoadError::TableUnfinished { load: load.id, key: load.object.key, table: table.name.to_string() })
        }
        None => Err(LoadError::Shape { table: table.name.to_string(), problems }),
    }
}

/// Everything between the load's first row and its commit.
#[expect(clippy::too_many_arguments, reason = "what it takes to write rows; a struct would only rename it")]
async fn fill(
    transaction: &mut LoadTransaction,
    task: &Task<'_>,
    way: Way,
    live: Option<&LiveTable>,
    opened: Opened<Source>,
    plan: &Plan,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<(), LoadError> {
    let pipeline = task.target.pipeline;
    let made;
    let table = match live {
        Some(table) => table,
        None => {
            made = transaction.create_table(pipeline).await?;
            progress.notes.push(format!("made the table {}", made.name));
            &made
        }
    };
    let deleted = match task.replaces {
        Replaces::Nothing | Replaces::Upsert(_) => 0,
        Replaces::Loads(_) => transaction.delete_previous().await?,
        Replaces::Table => transaction.delete_all_rows().await?,
    };
    if deleted > 0 {
        let rows = cli::human::counted(deleted, "earlier row", "earlier rows");
        progress.notes.push(format!("{rows} gave way"));
    }
    let source = match way {
        Way::Straight => {
            let (into, format) = (Destination::table(table.encoding(pipeline)), opened.format());
            match pour(transaction, opened, task, plan, into, task.workers, progress, advance).await {
                Ok(source) => source,
                Err(Stopped { error, segment: Some(segment) })
                    if error.is_of_rows(pipeline) && transaction.goes_on() =>
                {
                    debug!(
                        error = error.chain(),
                        "the table refuses rows of a segment, which are told apart from there on"
                    );
                    let SegmentStart { position, progress: before } = *segment;
                    *progress = before;
                    progress.bytes = position.offset;
                    let opened = open_at(task, format, position).await?;
                    exact::pour(transaction, opened, task, plan, table, progress, advance).await?
                }
                Err(Stopped { error, .. }) => return Err(error),
            }
        }
        Way::Exact => exact::pour(transaction, opened, task, plan, table, progress, advance).await?,
        Way::Merge => {
            progress.note(ledger::MODE, Mode::Upsert.as_str());
            upsert::pour(transaction, opened, task, plan, table, progress, advance).await?
        }
    };
    let summary = tokio::task::spawn_blocking(move || source.finish()).await.map_err(LoadError::Panicked)??;
    progress.content_sha256 = Some(summary.sha256.to_string());
    progress.judge_percent(pipeline.errors)?;
    if pipeline.target.mode == Mode::Replace && progress.counts.loaded == 0 {
        let (table, lineage) = (table.name.to_string(), pipeline.target.lineage);
        return Err(LoadError::WouldEmpty { table, lineage });
    }
    Ok(())
}

/// Opens the pinned version once more, at a place an earlier pass came by.
pub(crate) async fn open_at(task: &Task<'_>, format: Format, position: Position) -> Result<Opened<Source>, LoadError> {
    let reader = task.store.reader(task.object).await?;
    tokio::task::spawn_blocking(move || {
        let source = Decompressed::new(reader, Limits::default())?;
        let mut source = ReadAhead::new(source).map_err(|error| StoreError::from_read(error, "the object"))?;
        // What stands before is part of the object's hash.
        io::copy(&mut source.by_ref().take(position.offset), &mut io::sink()).map_err(StreamError::Read)?;
        Ok(Opened::at(source, format, position))
    })
    .await
    .map_err(LoadError::Panicked)?
}

/// Why rows did not get in.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) error: LoadError,
    /// The segment it happened in, unless it is the first.
    segment: Option<Box<SegmentStart>>,
}

impl<E: Into<LoadError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self { error: error.into(), segment: None }
    }
}

/// Where a segment begins, and what was known until then.
#[derive(Debug)]
struct SegmentStart {
    position: Position,
    progress: Progress,
}

/// Where rows are poured into.
#[derive(Debug)]
pub(crate) struct Destination<'a> {
    encoding: TableEncoding,
    /// They are staged first.
    merge: Option<&'a Merge>,
}

impl<'a> Destination<'a> {
    pub(crate) fn table(encoding: TableEncoding) -> Self {
        Self { encoding, merge: None }
    }

    pub(crate) fn staging(encoding: TableEncoding, merge: &'a Merge) -> Self {
        Self { encoding, merge: Some(merge) }
    }
}

/// All records from where `opened` stands to its end: rows and rejects into the transaction. Gives the source back.
#[expect(clippy::too_many_arguments, reason = "what it takes to write rows; a struct would only rename it")]
pub(crate) async fn pour<R: Read + Send + 'static>(
    transaction: &mut LoadTransaction,
    opened: Opened<R>,
    task: &Task<'_>,
    plan: &Plan,
    into: Destination<'_>,
    workers: usize,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<R, Stopped> {
    let lineage = task.target.pipeline.target.lineage || into.merge.is_some();
    let sinks = Sinks::new(transaction, lineage, into.encoding);
    let (kind, spare) = (sinks.kind, sinks.spare.clone());
    let mut batches = stream::transform(opened, plan, workers, Spent::Recycled, move || sinks.make());
    let mut segments = Segments::new(transaction, task, into.merge, kind, spare);
    let mut segment = None;
    while let Some(batch) = batches.next().await? {
        if segments.begins_another() {
            segment = Some(Box::new(SegmentStart { position: batch.start, progress: progress.clone() }));
        }
        progress.bytes = batches.bytes_read();
        let (first, read) = (batch.start.record, batch.tally.read);
        let rejects = progress.take(task, plan, batch.tally)?;
        if let Err(error) = segments.take(batch.rows, rejects, first, read).await {
            return Err(Stopped { error, segment });
        }
        advance(progress.bytes, progress.counts.read);
    }
    let source = batches.finish().await?;
    match segments.finish().await {
        Ok(()) => Ok(source),
        Err(error) => Err(Stopped { error, segment }),
    }
}

/// A dry run: the same reading and the same rules, and nobody to give the rows to.
async fn drain(
    mut batches: Batches<Source, Discard>,
    task: &Task<'_>,
    plan: &Plan,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<(), LoadError> {
    while let Some(batch) = batches.next().await? {
        progress.bytes = batches.bytes_read();
        progress.take(task, plan, batch.tally)?;
        advance(progress.bytes, progress.counts.read);
    }
    let source = batches.finish().await?;
    let summary = tokio::task::spawn_blocking(move || source.finish()).await.map_err(LoadError::Panicked)??;
    progress.content_sha256 = Some(summary.sha256.to_string());
    progress.judge_percent(task.target.pipeline.errors)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Binary,
    Text,
    Sqlite,
}

/// Makes the [`Rows`] of each block.
#[derive(Debug)]
pub(crate) struct Sinks {
    kind: Kind,
    columns: Arc<[ColumnType]>,
    /// For `_load_id`.
    load: Option<i64>,
    /// Buffers the connection has sent come back to the encoders.
    pub(crate) spare: Spare,
}

impl Sinks {
    pub(crate) fn new(transaction: &LoadTransaction, lineage: bool, encoding: TableEncoding) -> Self {
        let kind = match transaction {
            LoadTransaction::Sqlite(_) => Kind::Sqlite,
            LoadTransaction::Postgres(_) if encoding.text => Kind::Text,
            LoadTransaction::Postgres(_) => Kind::Binary,
        };
        let load = lineage.then(|| transaction.id());
        Self { kind, columns: encoding.columns.into(), load, spare: Spare::default() }
    }

    pub(crate) fn make(&self) -> Rows {
        let columns = || Arc::clone(&self.columns);
        match self.kind {
            Kind::Binary => Rows::Binary(CopyEncoder::new(columns(), self.load, self.spare.take())),
            Kind::Text => Rows::Text(CopyTextEncoder::new(columns(), self.load, self.spare.take())),
            Kind::Sqlite => Rows::Sqlite(SqliteRows::new(&self.columns, self.load)),
        }
    }
}

/// The rows of one block in the form the database takes them.
#[derive(Debug)]
pub(crate) enum Rows {
    Binary(CopyEncoder),
    Text(CopyTextEncoder),
    Sqlite(SqliteRows),
}

impl Rows {
    /// Memory of the rows.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Binary(rows) => rows.bytes(),
            Self::Text(rows) => rows.bytes(),
            Self::Sqlite(rows) => rows.bytes(),
        }
    }
}

impl RowSink for Rows {
    #[inline]
    fn row(&mut self, row: RowRef<'_>) {
        match self {
            Self::Binary(rows) => rows.row(row),
            Self::Text(rows) => rows.row(row),
            Self::Sqlite(rows) => rows.row(row),
        }
    }
}

/// Empty buffers between the connection and the encoders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(crate) fn put_all(&self, buffers: Vec<Vec<u8>>) {
        buffers.into_iter().for_each(|buffer| self.put(buffer));
    }

    fn put(&self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// The records the rows of a segment came from, in order: runs of neighbours, which rejects end. There are no more runs
/// than rejects held back, and one.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// The first record of a run, and how many follow each other.
    runs: Vec<(u64, u64)>,
}

impl Origins {
    /// The records of a block: `first` and those after it, but for the rejects.
    pub(crate) fn add(&mut self, first: u64, read: u64, rejects: impl IntoIterator<Item = u64>) {
        let mut next = first;
        for end in rejects.into_iter().chain([first + read]) {
            match self.runs.last_mut() {
                Some((start, length)) if *start + *length == next => *length += end - next,
                _ if end > next => self.runs.push((next, end - next)),
                _ => {}
            }
            next = end + 1;
        }
    }

    /// The record of a row, the first is 1.
    pub(crate) fn record_of(&self, row: u64) -> Option<u64> {
        let mut before = row.checked_sub(1)?;
        for &(first, length) in &self.runs {
            if before < length {
                return Some(first + before);
            }
            before -= length;
        }
        None
    }

    /// A refusal speaks of rows of the segment; a person has the object's records.
    fn name_record(&self, mut error: DatabaseError) -> DatabaseError {
        if let DatabaseError::Refused(refusal) = &mut error {
            let record = refusal.row.and_then(|row| self.record_of(row));
            refusal.records = refusal.records.or(record.map(|record| (record, record)));
        }
        error
    }
}

/// Rows into COPY statements of bounded size, rejects between them.
struct Segments<'a> {
    transaction: &'a mut LoadTransaction,
    columns: Vec<String>,
    /// Rows are staged for it.
    merge: Option<&'a Merge>,
    kind: Kind,
    spare: Spare,
    /// Bytes that fill a segment.
    full: usize,
    /// Segments that are in.
    ended: u64,
    /// Bytes of the COPY statement that is open.
    sent: Option<usize>,
    /// Where the rows of that statement came from.
    origins: Origins,
    rejects: Vec<StoredReject>,
    reject_bytes: usize,
}

impl<'a> Segments<'a> {
    fn new(
        transaction: &'a mut LoadTransaction,
        task: &Task<'_>,
        merge: Option<&'a Merge>,
        kind: Kind,
        spare: Spare,
    ) -> Self {
        let (columns, origins) = (written_columns(task.target.pipeline), Origins::default());
        let full = usize::try_from(task.object.size / MOST_SEGMENTS).unwrap_or(usize::MAX).max(SEGMENT);
        Self {
            transaction,
            columns,
            merge,
            kind,
            spare,
            full,
            ended: 0,
            sent: None,
            origins,
            rejects: Vec::new(),
            reject_bytes: 0,
        }
    }

    /// Whether what comes next is the first of a segment, and not of the first one.
    fn begins_another(&self) -> bool {
        self.ended > 0 && self.sent.is_none() && self.rejects.is_empty()
    }

    /// The rows and rejects of a block of `read` records, the first of them `first`.
    async fn take(&mut self, rows: Rows, rejects: Vec<StoredReject>, first: u64, read: u64) -> Result<(), LoadError> {
        self.origins.add(first, read, rejects.iter().map(|reject| reject.record));
        match rows {
            Rows::Binary(rows) => self.send(rows.finish()).await?,
            Rows::Text(rows) => self.send(rows.finish()).await?,
            Rows::Sqlite(rows) => {
                if let LoadTransaction::Sqlite(load) = &mut *self.transaction {
                    match self.merge {
                        Some(Merge::Sqlite(merge)) => load.stage(merge, rows).await?,
                        Some(Merge::Postgres(_)) | None => load.insert(&self.columns, rows).await?,
                    }
                }
            }
        }
        self.reject_bytes += rejects.iter().map(|reject| reject.raw.len()).sum::<usize>();
        self.rejects.extend(rejects);
        let full = self.sent.is_some_and(|sent| sent >= self.full);
        let held = self.rejects.len() >= HELD_REJECTS || self.reject_bytes >= HELD_REJECT_BYTES;
        if full || held {
            self.end_segment().await?;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), LoadError> {
        let LoadTransaction::Postgres(load) = &mut *self.transaction else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        if self.sent.is_none() {
            let format = if self.kind == Kind::Text { CopyFormat::Text } else { CopyFormat::Binary };
            match self.merge {
                Some(Merge::Postgres(merge)) => load.start_staging(merge).await?,
                Some(Merge::Sqlite(_)) | None => load.start_copy(&self.columns, format).await?,
            }
        }
        self.sent = Some(self.sent.unwrap_or(0) + bytes.len());
        self.spare.put(load.send(bytes).await.map_err(|error| self.origins.name_record(error))?);
        Ok(())
    }

    async fn end_segment(&mut self) -> Result<(), LoadError> {
        if let LoadTransaction::Postgres(load) = &mut *self.transaction
            && self.sent.take().is_some()
        {
            load.finish_copy().await.map_err(|error| self.origins.name_record(error))?;
        }
        self.ended += 1;
        // Of a compressed object nobody knew how many there would be.
        if self.ended.is_multiple_of(MOST_SEGMENTS) {
            self.full = self.full.saturating_mul(2);
        }
        self.origins.runs.clear();
        if !self.rejects.is_empty() {
            self.transaction.write_rejects(&self.rejects).await?;
            self.rejects.clear();
            self.reject_bytes = 0;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), LoadError> {
        self.end_segment().await
    }
}

impl Progress {
    pub(crate) fn new(started_at: Timestamp) -> Self {
        Self {
            started_at,
            counts: Counts::default(),
            bytes: 0,
            content_sha256: None,
            totals_by_rule: HashMap::new(),
            shown_rejects: Vec::new(),
            kept_rejects: Vec::new(),
            kept_bytes: 0,
            notes: Vec::new(),
            note: serde_json::Map::new(),
            format: None,
            rejected_in_splits: None,
            recorded: None,
            splits_left: None,
        }
    }

    /// Of a split. `rejected` counts the rejects of all splits, so that the limit holds for the object.
    pub(crate) fn of_split(rejected: Arc<AtomicU64>) -> Self {
        let now = Timestamp::from(SystemTime::now());
        Self { rejected_in_splits: Some(rejected), ..Self::new(now) }
    }

    pub(crate) fn note(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        self.note.insert(key.to_owned(), value.into());
    }

    fn note_header<R>(&mut self, opened: &Opened<R>, header: &HeaderReport, pipeline: &Pipeline) {
        self.format = Some(StoredFormat {
            delimiter: char::from(opened.grammar().delimiter()),
            encoding: opened.format().encoding().name().to_owned(),
            header: opened.header().map(|header| StoredHeader::new(header, pipeline)),
        });
        self.counts.skipped += opened.skipped();
        if let Some(delimiter) = opened.hinted() {
            let delimiter = delimiter.to_string();
            self.notes.push(format!("skipped the first line, which names the delimiter {delimiter:?} to spreadsheets"));
        }
        if let Some(delimiter) = opened.sniffed() {
            let delimiter = delimiter.to_string();
            let splits =
                if opened.header().is_some_and(|header| header.len() == 1) { ", which splits nothing" } else { "" };
            self.notes
                .push(format!("took {delimiter:?} for the delimiter{splits}; name it under [dialect] to be sure"));
            self.note("delimiter_sniffed", delimiter);
        } else {
            self.note("delimiter", char::from(opened.grammar().delimiter()).to_string());
        }
        if opened.format().encoding() != Encoding::Utf8 {
            self.note("encoding", opened.format().encoding().name());
        }
        self.note_columns("ignored columns", "ignored_column", &header.ignored);
        self.note_columns("missing columns, loaded as NULL", "missing_column", &header.missing);
    }

    /// A header may have any number of columns: the first are named, and their number where there are more.
    fn note_columns(&mut self, what: &str, key: &str, labels: &Labels) {
        if labels.is_empty() {
            return;
        }
        self.notes.push(format!("{what}: {labels}"));
        self.note(&format!("{key}s"), labels.shown());
        if labels.count() > labels.shown().len() {
            self.note(&format!("{key}_count"), labels.count());
        }
    }

    /// Takes a block's counts and rejects; fails at the reject that goes over the limit, in file order.
    fn take(&mut self, task: &Task<'_>, plan: &Plan, tally: Tally) -> Result<Vec<StoredReject>, LoadError> {
        let mut stored = Vec::with_capacity(tally.rejects.len());
        for (code, reject) in self.set_aside(plan, tally) {
            self.count_reject(task, code, &reject)?;
            stored.push(reject);
        }
        Ok(stored)
    }

    /// Takes a block's counts, but for its rejects, which are still to be counted.
    pub(crate) fn set_aside(&mut self, plan: &Plan, tally: Tally) -> Vec<(Code, StoredReject)> {
        self.counts.read += tally.read;
        self.counts.loaded += tally.loaded;
        self.counts.skipped += tally.skipped;
        let stored = |reject: RejectedRecord| (reject.fault.reason.code(), store_reject(plan, reject));
        tally.rejects.into_iter().map(stored).collect()
    }

    /// Counts a reject; fails when it goes over the limit.
    pub(crate) fn count_reject(&mut self, task: &Task<'_>, code: Code, reject: &StoredReject) -> Result<(), LoadError> {
        self.counts.rejected += 1;
        *self.totals_by_rule.entry((code.as_str(), reject.field.clone())).or_default() += 1;
        self.keep(reject);
        let rejected = match &self.rejected_in_splits {
            None => self.counts.rejected,
            Some(all) => all.fetch_add(1, Ordering::Relaxed) + 1,
        };
        match task.target.pipeline.errors.rows_exceeded(rejected) {
            Some(limit) => {
                let only_widths = self.has_only_widths();
                Err(LoadError::TooManyRejects { limit, line: reject.line, record: reject.record, only_widths })
            }
            None => Ok(()),
        }
    }

    /// Copies the first rejects, and no more of their bytes than a failed load may keep.
    fn keep(&mut self, reject: &StoredReject) {
        if self.shown_rejects.len() < SHOWN_REJECTS {
            self.shown_rejects.push(RejectLine::from(reject));
        }
        // The first one too large ends it: what is kept is a beginning without gaps.
        if self.kept_rejects.len() < FAILURE_REJECTS && self.kept_bytes < FAILURE_REJECT_BYTES {
            self.kept_bytes += reject.raw.len();
            if self.kept_bytes <= FAILURE_REJECT_BYTES {
                self.kept_rejects.push(reject.clone());
            }
        }
    }

    /// So far no record had the header's width: it may be another dialect, or another table's file.
    fn has_only_widths(&self) -> bool {
        let widths = [Code::MissingCell.as_str(), Code::ExtraCell.as_str()];
        self.counts.loaded == 0 && self.totals_by_rule.keys().all(|(code, _)| widths.contains(code))
    }

    pub(crate) fn judge_percent(&self, errors: Errors) -> Result<(), LoadError> {
        let Counts { read, rejected, .. } = self.counts;
        match errors.percent_exceeded(read, rejected) {
            Some(limit) => {
                let only_widths = self.has_only_widths();
                Err(LoadError::TooManyRejectsPercent { limit, read, rejected, only_widths })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut note = self.note.clone();
        if let (1.., Some(format)) = (self.counts.rejected, &self.format)
            && let Ok(format) = serde_json::to_value(format)
        {
            note.insert(ledger::CSV.to_owned(), format);
        }
        Totals {
            counts: self.counts,
            bytes: self.bytes,
            content_sha256: self.content_sha256.clone(),
            finished_at: Timestamp::from(SystemTime::now()),
            note: serde_json::Value::Object(note),
        }
    }

    fn report(self, task: &Task<'_>, outcome: Outcome, seconds: f64) -> LoadReport {
        let mut reject_totals: Vec<RejectTotal> =
            self.totals_by_rule.into_iter().map(|((code, field), count)| RejectTotal { code, field, count }).collect();
        reject_totals.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| (a.code, &a.field).cmp(&(b.code, &b.field))));
        LoadReport {
            pipeline: task.target.pipeline.name.clone(),
            table: task.target.table.to_string(),
            object: task.version.uri.clone(),
            key: task.object.key.clone(),
            version: task.version.version.clone(),
            outcome,
            can_reload: task.target.can_reload(),
            counts: self.counts,
            bytes: self.bytes,
            seconds,
            reject_totals,
            first_rejects: self.shown_rejects,
            notes: self.notes,
        }
    }
}

impl Target<'_> {
    /// Whether rows that were loaded can be taken out again: by their lineage, or all of them.
    pub(crate) fn can_reload(&self) -> bool {
        let target = &self.pipeline.target;
        target.lineage || target.mode != Mode::Append
    }

    /// A load of this target that replaces nothing.
    pub(crate) fn new_load(&self, run_id: Uuid, object: &ObjectVersion, started_at: Timestamp) -> NewLoad {
        NewLoad {
            run_id,
            pipeline: self.pipeline.name.clone(),
            pipeline_hash: self.pipeline_hash.to_owned(),
            table: self.table.clone(),
            table_oid: None,
            object: object.clone(),
            started_at,
            runner_version: env!("CARGO_PKG_VERSION").to_owned(),
            replaces: Replaces::Nothing,
            alone: self.pipeline.target.mode != Mode::Append,
        }
    }
}

pub(crate) fn store_reject(plan: &Plan, reject: RejectedRecord) -> StoredReject {
    StoredReject {
        record: reject.record,
        line: reject.line,
        offset: reject.offset,
        field: plan.field(reject.fault).map(|field| field.name.clone()),
        code: reject.fault.reason.code().as_str().to_owned(),
        message: plan.message(reject.fault),
        raw: reject.raw,
    }
}

/// Leaves a `failed` row where that helps: the same hopeless object is then not tried at each run. A failure that
/// passes by itself, or that is not this object's, leaves none.
async fn record_failure(
    database: &mut Database,
    task: &Task<'_>,
    progress: &mut Progress,
    error: &LoadError,
) -> Option<i64> {
    if task.dry_run || error.is_temporary() || error.concerns_all() {
        return None;
    }
    let new = task.target.new_load(task.run_id, &task.version, progress.started_at);
    let text = error.chain();
    let recorded =
        database.record_failure(&new, &progress.totals(), &progress.kept_rejects, &text, error.is_permanent()).await;
    match recorded {
        Ok(id) => Some(id),
        Err(error) => {
            progress.notes.push(format!("the failure could not be recorded in the ledger: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_segment_is_a_record_of_the_object() {
        let mut origins = Origins::default();
        // Segments begin anywhere, blocks may hold rejects alone or nothing.
        origins.add(101, 3, [102]);
        origins.add(104, 2, []);
        origins.add(106, 0, []);
        origins.add(106, 2, [106, 107]);
        origins.add(108, 4, [108, 110]);
        let kept = [101, 103, 104, 105, 109, 111];
        for (row, record) in (1..).zip(kept) {
            assert_eq!(origins.record_of(row), Some(record), "row {row}");
        }
        assert_eq!((origins.record_of(0), origins.record_of(7)), (None, None));
        assert_eq!(origins.runs, [(101, 1), (103, 3), (109, 1), (111, 1)]);
    }
}
