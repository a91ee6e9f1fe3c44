//! One object version into one table on several connections: `--parallel`.
//!
//! One pass over the object cuts it into splits of whole records and stores them as the load's plan; each connection takes
//! the next split of the plan, reads its bytes and brings it in in a transaction of its own. So the rows are seen split by
//! split, and what makes them one load is the ledger: its row stands as `loading` until every split is in, and whoever
//! stops half-way leaves a plan that the next run goes on with.
//!
//! # Guarantees
//! - A split is in once or not at all, whoever tries it how often: its row in the plan changes in the same transaction.
//! - Splits in any order give the rows, rejects and counts of one load by one connection. A split ends where nothing that
//!   follows had a say in its records, so it can be read alone.
//! - A load that fails for good takes its rows back.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use objects::{Compression, ReadSummary, StoreError};
use tokio::sync::{Mutex, mpsc};
use transform::csv::{Format, Opened, Position};
use transform::{Code, Plan};

use crate::database::{
    Begin, BeginSplit, Database, DatabaseError, LiveTable, LoadTransaction, Postgres, PostgresLoad, TableEncoding,
    written_columns,
};
use crate::error::LoadError;
use crate::ledger::{Counts, NewLoad, Replaces, Split, StoredReject};
use crate::load::{Advance, Destination, Progress, SHOWN_REJECTS, Source, Task, pour};
use crate::report::Outcome;

/// Bytes of a split: a transaction is worth its round trips and its flush to disk, and a stop costs no more than this for
/// each connection.
pub const SPLIT_BYTES: u64 = 8 * 1024 * 1024;

/// Splits stored in one statement.
const PLANNED_AT_ONCE: usize = 16;
/// The connection that holds the load's locks is idle meanwhile; it says something before the server takes it for dead.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long the server may take to notice that our connections are closed.
const OTHERS_END: Duration = Duration::from_secs(60);
/// Rejects that a load leaves in the ledger when it fails.
const KEPT_REJECTS: u32 = crate::database::FAILURE_REJECTS as u32;

/// Whether this load is one of splits; says why not where somebody asked for it.
pub(crate) fn wants_splits(task: &Task<'_>, compression: Compression, progress: &mut Progress) -> bool {
    if task.unfinished.is_some() {
        return true;
    }
    if task.connections < 2 {
        return false;
    }
    let obstacle = if compression != Compression::Plain {
        Some(format!("{compression} can only be read from its beginning"))
    } else if task.replaces != Replaces::Nothing {
        Some("earlier rows give way in the same transaction".to_owned())
    } else {
        None
    };
    let in_splits = obstacle.is_none() && task.object.size >= 2 * task.split_bytes;
    progress.notes.extend(obstacle.map(|why| format!("loaded on one connection: {why}")));
    in_splits
}

/// What it takes to load a split of an object, whichever it is.
#[derive(Debug)]
pub struct SplitLoad<'a> {
    pub task: &'a Task<'a>,
    pub load: i64,
    pub plan: &'a Plan,
    pub format: Format,
    pub encoding: TableEncoding,
    /// Threads that transform for one connection.
    pub workers: usize,
    /// Rejects of all splits so far.
    pub rejected: Arc<AtomicU64>,
}

/// What became of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitOutcome {
    Loaded,
    /// By another process, or by an earlier try.
    AlreadyLoaded,
}

/// Why a split is not in, and what was set aside of it until then.
#[derive(Debug)]
pub struct SplitError {
    pub error: LoadError,
    pub counts: Counts,
    pub rejects: Vec<StoredReject>,
}

impl From<LoadError> for SplitError {
    fn from(error: LoadError) -> Self {
        Self { error, counts: Counts::default(), rejects: Vec::new() }
    }
}

impl SplitLoad<'_> {
    /// Brings one split in; doing it again changes nothing.
    pub async fn load(
        &self,
        database: &mut Postgres,
        split: &Split,
        advance: Advance<'_>,
    ) -> Result<SplitOutcome, SplitError> {
        let task = self.task;
        let range = bytes_of(split);
        // Before the transaction: it should not wait for the first answer of the store.
        let source = task.store.part(task.object, range).await.map_err(LoadError::from)?;
        let begun = database.begin_split(self.load, task.target.table, split).await.map_err(LoadError::from)?;
        let mut transaction = match begun {
            BeginSplit::Started(transaction) => *transaction,
            BeginSplit::AlreadyLoaded => return Ok(SplitOutcome::AlreadyLoaded),
            BeginSplit::GivenUp => return Err(LoadError::GivenUp.into()),
        };
        let mut progress = Progress::of_split(Arc::clone(&self.rejected));
        let opened = Opened::at(source, self.format, split.start);
        let into = Destination::table(self.encoding.clone());
        let poured = pour(&mut transaction, opened, task, self.plan, into, self.workers, &mut progress, advance).await;
        let ended = match poured {
            Ok(_) => database.finish_split(transaction, split, &progress.counts).await.map_err(LoadError::from),
            Err(stopped) => {
                transaction.abort().await;
                Err(stopped.error)
            }
        };
        match ended {
            Ok(()) => Ok(SplitOutcome::Loaded),
            Err(error) => Err(SplitError { error, counts: progress.counts, rejects: progress.kept_rejects }),
        }
    }
}

fn bytes_of(split: &Split) -> Range<u64> {
    split.start.offset..split.end().offset
}

/// Cuts an object into splits from where `opened` stands, the first of them number `first`, and hands them to `found`.
/// Blocking. Gives the source and the end of the last split.
pub fn plan_splits<R: Read>(
    mut opened: Opened<R>,
    first: u32,
    split_bytes: u64,
    mut found: impl FnMut(Split) -> io::Result<()>,
) -> io::Result<(R, Position)> {
    // A record that was given up was judged by as many bytes behind it as a record may have, twice in UTF-16.
    let judged_by = 2 * opened.format().limit() as u64 + 16;
    let mut number = first;
    let mut start = opened.position();
    let mut not_before = 0;
    while let Some(block) = opened.next_block()? {
        let end = opened.position();
        if block.looked_ahead() {
            not_before = end.offset + judged_by;
        }
        opened.recycle(block.into_buffer());
        if end.offset - start.offset >= split_bytes && end.offset >= not_before {
            found(Split::between(number, start, end))?;
            number += 1;
            start = end;
        }
    }
    let end = opened.position();
    if end.offset > start.offset {
        found(Split::between(number, start, end))?;
    }
    Ok((opened.into_source(), end))
}

/// Loads an object, or goes on with `task.unfinished`.
pub(crate) async fn load_in_splits(
    database: &mut Database,
    task: &Task<'_>,
    opened: Opened<Source>,
    live: Option<&LiveTable>,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<Outcome, LoadError> {
    let Database::Postgres(postgres) = database else {
        return Err(DatabaseError::Driver { doing: "load in splits".into(), kind: "it is not PostgreSQL" }.into());
    };
    let mut held = match begin(postgres, task, live, progress).await? {
        Begin::Started(transaction) => match *transaction {
            LoadTransaction::Postgres(held) => held,
            LoadTransaction::Sqlite(_) => return Err(LoadError::Busy),
        },
        Begin::Busy => return Err(LoadError::Busy),
        Begin::AlreadyLoaded(row) => {
            let pipeline_changed = row.pipeline_hash != task.target.pipeline_hash;
            return Ok(Outcome::AlreadyLoaded { load: row.id, pipeline_changed });
        }
    };
    task.in_splits.store(true, Ordering::SeqCst);
    let load = held.id();
    let ended = bring_in(postgres, &mut held, task, opened, progress, advance).await;
    let transaction = LoadTransaction::Postgres(held);
    let failed = match ended {
        Ok(()) => {
            task.committing.store(true, Ordering::SeqCst);
            let finished = transaction.finish(database, &progress.totals()).await;
            task.committing.store(false, Ordering::SeqCst);
            match finished {
                Ok(()) => return Ok(Outcome::Loaded { load }),
                Err(error) => SplitError::from(LoadError::from(error)),
            }
        }
        Err(failed) => {
            transaction.abort().await;
            failed
        }
    };
    let Database::Postgres(postgres) = database else { return Err(failed.error) };
    Err(end_badly(postgres, load, task, progress, failed).await)
}

/// Whether the table an unfinished load went into is the one that is there.
pub(crate) fn check_table(task: &Task<'_>, live: Option<&LiveTable>) -> Result<(), LoadError> {
    let Some(unfinished) = &task.unfinished else { return Ok(()) };
    let what = match live {
        None => "is missing",
        Some(table) if table.oid != unfinished.table_oid => "was made anew",
        Some(_) => return Ok(()),
    };
    let table = task.target.table.to_string();
    Err(LoadError::TableGone { load: unfinished.id, table, what, can_reload: task.target.can_reload() })
}

/// The load's row and locks.
async fn begin(
    postgres: &mut Postgres,
    task: &Task<'_>,
    live: Option<&LiveTable>,
    progress: &mut Progress,
) -> Result<Begin, LoadError> {
    let pipeline = task.target.pipeline;
    let Some(unfinished) = &task.unfinished else {
        let new = NewLoad {
            table_oid: live.and_then(|table| table.oid),
            ..task.target.new_load(task.run_id, &task.version, progress.started_at)
        };
        let makes = live.is_none().then_some(pipeline);
        if makes.is_some() {
            progress.notes.push(format!("made the table {}", task.target.table));
        }
        return Ok(postgres.begin_splits(&new, makes).await?);
    };
    Ok(postgres.hold(unfinished.id, task.target.table, &unfinished.object.uri).await?)
}

/// All splits that are not in yet, and the sums of all of them.
async fn bring_in(
    postgres: &mut Postgres,
    held: &mut PostgresLoad,
    task: &Task<'_>,
    opened: Opened<Source>,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<(), SplitError> {
    let pipeline = task.target.pipeline;
    let load = held.id();
    let mut planner = postgres.another();
    held.lock_table(&written_columns(pipeline)).await.map_err(LoadError::from)?;
    let known = planner.splits(load).await.map_err(LoadError::from)?;
    let table = planner.describe(task.target.table).await.map_err(LoadError::from)?;
    let table = table.ok_or_else(|| LoadError::NoTable { table: task.target.table.to_string() })?;
    let encoding = table.encoding(pipeline);
    let plan = Plan::compile(pipeline, opened.grammar(), opened.header(), &encoding.columns);
    let (plan, _) = plan.map_err(LoadError::from)?;
    let (start, format) = (opened.position(), opened.format());
    let rejected_before: u64 = known.iter().filter_map(|row| row.counts).map(|counts| counts.rejected).sum();
    let missing: Vec<Split> = known.iter().filter(|row| row.counts.is_none()).map(|row| row.split).collect();
    if task.unfinished.is_some() {
        let present = known.len() - missing.len();
        progress.notes.push(format!("went on with load {load}: {present} of {} planned splits were in", known.len()));
    }

    let splits = SplitLoad {
        task,
        load,
        plan: &plan,
        format,
        encoding,
        workers: task.workers.div_ceil(task.connections.max(1)),
        rejected: Arc::new(AtomicU64::new(rejected_before)),
    };
    // As far ahead as it takes for no connection to wait, and near enough for the bytes to be in the page cache still.
    let (found, planned) = mpsc::channel(2 * task.connections);
    let (deal, dealt) = mpsc::channel(task.connections);
    let cutting = cut(task, opened, known.last().map(|row| row.split), format, found).await?;
    let dealing = deal_out(&mut planner, load, missing, planned, deal);
    let done = Sums::default();
    let dealt = Mutex::new(dealt);
    let connections =
        (0..task.connections.max(1)).map(|_| connection(postgres.another(), &splits, &dealt, &done, advance));
    let dealing = async { dealing.await.map_err(SplitError::from) };
    tokio::select! {
        ended = async { tokio::try_join!(dealing, try_join_all(connections)) } => drop(ended?),
        lost = keep_alive(held) => return Err(LoadError::from(lost).into()),
    };
    let (summary, end) = cutting.await.map_err(LoadError::Panicked)??;

    let rows = held.take_splits(start, end).await.map_err(LoadError::from)?;
    for counts in rows.iter().filter_map(|row| row.counts) {
        progress.counts.read += counts.read;
        progress.counts.loaded += counts.loaded;
        progress.counts.rejected += counts.rejected;
        progress.counts.skipped += counts.skipped;
    }
    progress.bytes = end.offset;
    progress.content_sha256 = Some(summary.sha256.to_string());
    progress.note("splits", rows.len());
    summarise(held, progress).await?;
    progress.judge_percent(pipeline.errors)?;
    Ok(())
}

/// What the ledger holds of the load's rejects: this run may not have seen them all.
async fn summarise(held: &mut PostgresLoad, progress: &mut Progress) -> Result<(), LoadError> {
    let (totals, first) = held.reject_summary(SHOWN_REJECTS as u32).await?;
    let code = |stored: &str| Code::ALL.into_iter().map(Code::as_str).find(|code| *code == stored);
    progress.totals_by_rule =
        totals.into_iter().filter_map(|(stored, field, count)| Some(((code(&stored)?, field), count))).collect();
    progress.shown_rejects = first;
    Ok(())
}

type Cutting = tokio::task::JoinHandle<Result<(ReadSummary, Position), LoadError>>;

/// Starts the pass that plans, behind `last` where a plan is there already. It reads all of the object in any case, for
/// its hash.
async fn cut(
    task: &Task<'_>,
    opened: Opened<Source>,
    last: Option<Split>,
    format: Format,
    found: mpsc::Sender<Split>,
) -> Result<Cutting, LoadError> {
    let split_bytes = task.split_bytes;
    let hand_on = move |split| match found.blocking_send(split) {
        Ok(()) => Ok(()),
        // The load stopped; nobody waits for more.
        Err(_) => Err(StoreError::Interrupted { action: "read" }.into()),
    };
    let Some(last) = last else {
        return Ok(tokio::task::spawn_blocking(move || {
            let (source, end) = plan_splits(opened, 0, split_bytes, hand_on).map_err(read_error)?;
            Ok((source.finish()?, end))
        }));
    };
    drop(opened);
    let mut reader = task.store.reader(task.object).await?;
    Ok(tokio::task::spawn_blocking(move || {
        let end = last.end();
        io::copy(&mut reader.by_ref().take(end.offset), &mut io::sink()).map_err(read_error)?;
        let rest = Opened::at(reader, format, end);
        let (reader, end) = plan_splits(rest, last.number + 1, split_bytes, hand_on).map_err(read_error)?;
        Ok((reader.finish()?, end))
    }))
}

fn read_error(error: io::Error) -> LoadError {
    crate::stream::StreamError::Read(error).into()
}

/// Stores splits as they are found, and only then gives them to whoever takes the next.
async fn deal_out(
    planner: &mut Postgres,
    load: i64,
    missing: Vec<Split>,
    mut planned: mpsc::Receiver<Split>,
    deal: mpsc::Sender<Split>,
) -> Result<(), LoadError> {
    for split in missing {
        if deal.send(split).await.is_err() {
            return Ok(());
        }
    }
    let mut some = Vec::new();
    while planned.recv_many(&mut some, PLANNED_AT_ONCE).await > 0 {
        planner.plan_splits(load, &some).await?;
        for split in some.drain(..) {
            if deal.send(split).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Bytes and records of all connections.
#[derive(Debug, Default)]
struct Sums {
    bytes: AtomicU64,
    records: AtomicU64,
}

/// One connection: a split after the other, as long as there are any.
async fn connection(
    mut database: Postgres,
    splits: &SplitLoad<'_>,
    dealt: &Mutex<mpsc::Receiver<Split>>,
    done: &Sums,
    advance: Advance<'_>,
) -> Result<(), SplitError> {
    loop {
        let next = dealt.lock().await.recv().await;
        let Some(split) = next else { break };
        let (bytes_seen, records_seen) = (AtomicU64::new(0), AtomicU64::new(0));
        let add = |sum: &AtomicU64, seen: &AtomicU64, now: u64| {
            let new = now.saturating_sub(seen.swap(now, Ordering::Relaxed));
            sum.fetch_add(new, Ordering::Relaxed) + new
        };
        let tell = |bytes, records| {
            advance(add(&done.bytes, &bytes_seen, bytes), add(&done.records, &records_seen, records));
        };
        splits.load(&mut database, &split, &tell).await?;
    }
    Database::Postgres(database).close().await;
    Ok(())
}

/// Ends only when the connection is lost.
async fn keep_alive(held: &mut PostgresLoad) -> DatabaseError {
    loop {
        tokio::time::sleep(KEEP_ALIVE).await;
        if let Err(lost) = held.keep_alive().await {
            return lost;
        }
    }
}

/// What may pass by itself leaves the load as it is, for the next run to go on with. Anything else takes back what is in.
async fn end_badly(
    postgres: &mut Postgres,
    load: i64,
    task: &Task<'_>,
    progress: &mut Progress,
    failed: SplitError,
) -> LoadError {
    let SplitError { error, counts, rejects } = failed;
    if error.is_temporary() || error.concerns_all() {
        progress.splits_left = Some("the splits that are in stay; the next run goes on with the others".into());
        return error;
    }
    let taken_back = async {
        let mut held = hold_again(postgres, load, task).await?;
        // What other splits set aside is committed; what this one did is not.
        let mut other = postgres.another();
        let mut kept = other.rejects(load, 0, KEPT_REJECTS).await?;
        let read = other.load(load).await?.map_or(0, |row| row.counts.read);
        kept.extend(rejects);
        kept.sort_by_key(|reject| reject.record);
        summarise(&mut held, progress).await?;
        progress.counts.read = read + counts.read;
        progress.counts.rejected = progress.totals_by_rule.values().sum::<u64>() + counts.rejected;
        progress.counts.loaded = 0;
        progress.shown_rejects = kept.iter().take(SHOWN_REJECTS).map(Into::into).collect();
        // Where rows were refused, the next attempt tells them apart; should it be cut short, a later run has to try.
        let permanent = error.is_permanent() && !error.is_of_rows(task.target.pipeline);
        held.fail(postgres, &progress.totals(), &kept, &error.chain(), permanent).await?;
        Ok::<(), LoadError>(())
    };
    match taken_back.await {
        Ok(()) => progress.recorded = Some(load),
        Err(trouble) => {
            let what = "the splits that are in could not be taken back; the next run tries again";
            progress.splits_left = Some(format!("{what} ({trouble})"));
        }
    }
    error
}

/// The transaction that held the load's locks is over, or about to be: the server may not have noticed yet.
async fn hold_again(postgres: &mut Postgres, load: i64, task: &Task<'_>) -> Result<PostgresLoad, LoadError> {
    let deadline = tokio::time::Instant::now() + OTHERS_END;
    loop {
        if let Begin::Started(transaction) = postgres.hold(load, task.target.table, &task.version.uri).await?
            && let LoadTransaction::Postgres(held) = *transaction
        {
            return Ok(held);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(LoadError::Busy);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use testkit::Random;
    use transform::Pipeline;

    use super::*;

    fn pipeline(encoding: &str) -> Pipeline {
        let text = format!(
            "version = 1\nname = \"p\"\n[source]\npath = \"*.csv\"\nencoding = \"{encoding}\"\n[dialect]\n\
             delimiter = \",\"\ncommentChar = \"#\"\n[schema]\nfields = [{{ name = \"a\" }}, {{ name = \"b\" }}]\n\
             [limits]\nrecord = \"2 KiB\"\n"
        );
        Pipeline::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// Everything that makes the end of a record hard to see, often enough that splits end near it.
    fn hostile(random: &mut Random, bytes: usize) -> String {
        let mut text = String::from("a,b\n");
        while text.len() < bytes {
            match random.below(60) {
                0 => text.push_str("1,\"a stray quote\n"),
                1 => text.push_str("1,\"two\nlines\"\r\n"),
                2 => text.push_str("1,\"closes\nbadly\" x\n"),
                3 => text.push_str(&format!("1,{}\n", "long ".repeat(random.below(900) as usize))),
                4 => text.push_str(&format!("1,\"{}\"\n", "line\n".repeat(random.below(900) as usize))),
                5 => text.push_str("# a comment, with a \"\n"),
                6 => text.push_str("\r\n\n\r"),
                7 => text.push_str("é,\"日本\"\n"),
                _ => text.push_str(&format!("{},plain text\n", random.below(1_000_000))),
            }
        }
        text
    }

    /// All blocks: where each begins, its bytes, whether it looked ahead.
    fn blocks<R: Read>(opened: &mut Opened<R>) -> Vec<(Position, Vec<u8>, bool)> {
        let mut blocks = Vec::new();
        loop {
            let at = opened.position();
            let Some(block) = opened.next_block().unwrap() else { return blocks };
            let looked_ahead = block.looked_ahead();
            blocks.push((at, block.into_buffer(), looked_ahead));
        }
    }

    #[test]
    fn splits_read_alone_are_the_blocks_of_the_whole() {
        let mut cut = 0;
        for (round, encoding) in ["utf-8", "utf-16le", "windows-1252"].into_iter().cycle().take(24).enumerate() {
            let mut random = Random::new(round as u64);
            let text = hostile(&mut random, 300_000);
            let bytes: Vec<u8> = match encoding {
                "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                _ => text.into_bytes(),
            };
            let pipeline = pipeline(encoding);
            let open = || Opened::new(bytes.as_slice(), &pipeline).unwrap();
            let whole = blocks(&mut open());
            let mut splits = Vec::new();
            let (_, end) = plan_splits(open(), 0, 1, |split| {
                splits.push(split);
                Ok(())
            })
            .unwrap();
            assert_eq!(end.offset, bytes.len() as u64);
            assert_eq!(splits.last().map(Split::end), Some(end));
            let parts = splits.iter().flat_map(|split| {
                let range = bytes_of(split);
                let part = &bytes[range.start as usize..range.end as usize];
                blocks(&mut Opened::at(part, open().format(), split.start))
            });
            assert_eq!(parts.collect::<Vec<_>>(), whole, "round {round}, {encoding}");
            cut += splits.len();
        }
        assert!(cut > 100, "{cut} splits prove little");
    }
}
