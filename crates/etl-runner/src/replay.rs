//! Records that were set aside, mended, into the table they were meant for.
//!
//! A row gets the number of the load its record was read by and the number it had there, so it looks as if it had been
//! right from the beginning, and goes when that load goes. Rejects that came in are none any more, which is why doing it
//! again changes nothing. Some at a time, each in a transaction of its own.

use std::collections::BTreeMap;

use serde::Serialize;
use transform::csv::{Block, Format, Position};
use transform::pipeline::Mode;
use transform::{Code, Discard, Encoding, FoundRecord, Pipeline, Plan, Worker};

use crate::database::{BeginReplay, Database, DatabaseError, LiveTable, TableName, compare, written_columns};
use crate::error::LoadError;
use crate::exact::{reject_of, rows_of};
use crate::ledger::{LoadRow, LoadState, RejectLine};
use crate::load::{SHOWN_REJECTS, Sinks, store_reject};

/// A record to be brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    pub load: i64,
    pub record: u64,
    pub content: Content,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    /// In the encoding of its object.
    Bytes(Vec<u8>),
}

/// What became of the records of one load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    pub load: i64,
    pub key: String,
    pub table: String,
    /// Rows of the table now.
    pub replayed: u64,
    /// Rejects still.
    pub refused: u64,
    /// The first of them, for what they are refused now.
    pub first_refused: Vec<RejectLine>,
    /// The ledger has no such reject, or no longer.
    pub unknown: u64,
}

impl Replayed {
    /// More records of the same load.
    pub fn add(&mut self, more: Self) {
        self.replayed += more.replayed;
        self.refused += more.refused;
        self.unknown += more.unknown;
        self.first_refused.extend(more.first_refused);
        self.first_refused.truncate(SHOWN_REJECTS);
    }
}

/// Why the rejects of a load cannot come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    #[error("it is {0}")]
    State(LoadState),
    #[error("it went into {theirs}, and the pipeline is for {ours}")]
    OtherTable { ours: String, theirs: String },
    #[error("it was loaded by the pipeline {theirs}, and this one is {ours}")]
    OtherPipeline { ours: String, theirs: String },
    #[error("the pipeline asks for the column {label:?} now, and did not when the object was read")]
    OtherColumn { label: String },
    #[error("with mode = \"upsert\" an earlier record would take the place of a later one")]
    Upsert,
    #[error("the table it went into is missing, or was made anew since")]
    TableGone,
    #[error("it was loaded by a version that did not keep how its records are read")]
    NoFormat,
}

/// Why a replay stopped; what was reported before is in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    #[error(transparent)]
    Load(LoadError),
    #[error("the rejects of load {load} cannot be replayed: {obstacle}")]
    Impossible { load: i64, key: String, obstacle: Obstacle },
}

impl<E: Into<LoadError>> From<E> for ReplayError {
    fn from(error: E) -> Self {
        Self::Load(error.into())
    }
}

/// Brings records in, load by load.
#[derive(Debug)]
pub struct Replay<'a> {
    pipeline: &'a Pipeline,
    /// Resolved.
    table: &'a TableName,
    current: Option<Current>,
}

/// The load at hand, and how its records become rows.
#[derive(Debug)]
struct Current {
    row: LoadRow,
    live: LiveTable,
    format: Format,
    plan: Plan,
    worker: Worker,
}

impl<'a> Replay<'a> {
    pub fn new(pipeline: &'a Pipeline, table: &'a TableName) -> Self {
        Self { pipeline, table, current: None }
    }

    /// Brings records of one load in, in one transaction. Of two for the same reject the first one counts; for the other
    /// there is none any more.
    pub async fn bring_in(
        &mut self,
        database: &mut Database,
        load: i64,
        records: &[Mended],
    ) -> Result<Replayed, ReplayError> {
        let Current { row, live, format, plan, worker } = match self.current.take() {
            Some(current) if current.row.id == load => self.current.insert(current),
            _ => {
                let current = self.look_at(database, load).await?;
                self.current.insert(current)
            }
        };
        let mut report =
            Replayed { load, key: row.object.key.clone(), table: row.table.to_string(), ..Replayed::default() };
        let pipeline = self.pipeline;
        let mut transaction = match database.begin_replay(row).await? {
            BeginReplay::Started(transaction) => *transaction,
            BeginReplay::Busy => return Err(LoadError::Busy.into()),
        };
        let mut contents: BTreeMap<u64, &Content> = BTreeMap::new();
        for mended in records {
            contents.entry(mended.record).or_insert(&mended.content);
        }
        let numbers: Vec<u64> = contents.keys().copied().collect();
        let rejects = transaction.rejects_among(&numbers).await?;
        report.unknown = (records.len() - rejects.len()) as u64;

        let encoding = live.encoding(pipeline);
        let columns = written_columns(pipeline);
        let way = transaction.begin_exact(live, &columns, &encoding, pipeline.target.conflict).await?;
        let mut rows = Sinks::new(&transaction, pipeline.target.lineage, encoding).make();
        let mut taken = Vec::with_capacity(rejects.len());
        let mut refused = Vec::new();
        for reject in rejects {
            let Some(content) = contents.get(&reject.record) else { continue };
            match one_record(content, &reject, pipeline, *format) {
                Err(message) => refused.push(RejectLine { message: message.into(), ..reject }),
                Ok(block) => {
                    let tally = worker.apply(&block, &mut Discard);
                    match tally.rejects.into_iter().next() {
                        _ if tally.read != 1 => refused.push(RejectLine { message: NOT_ONE.into(), ..reject }),
                        Some(again) => refused.push(RejectLine::from(&store_reject(plan, again))),
                        None => {
                            worker.apply(&block, &mut rows);
                            taken.push(reject);
                        }
                    }
                }
            }
        }
        let rows = rows_of(vec![rows], taken.len() as u64, &transaction);
        let keys = [pipeline.schema.primary_key.as_slice(), live.primary_key.as_slice()];
        for refusal in transaction.take_exactly(&way, &rows, u64::MAX).await?.iter().rev() {
            let place = refusal.row.and_then(|row| usize::try_from(row).ok()?.checked_sub(1));
            let Some(place) = place.filter(|&place| place < taken.len()) else { continue };
            let RejectLine { record, line, offset, .. } = taken.remove(place);
            let found = FoundRecord { record, line, offset, raw: Vec::new() };
            refused.push(RejectLine::from(&reject_of(refusal, found, pipeline, keys).1));
        }
        let records: Vec<u64> = taken.iter().map(|reject| reject.record).collect();
        match records.is_empty() {
            true => transaction.roll_back(database).await,
            false => transaction.finish_replay(database, &records).await?,
        }
        report.replayed = records.len() as u64;
        report.refused = refused.len() as u64;
        refused.sort_by_key(|reject| reject.record);
        refused.truncate(SHOWN_REJECTS);
        report.first_refused = refused;
        Ok(report)
    }

    async fn look_at(&self, database: &mut Database, load: i64) -> Result<Current, ReplayError> {
        let row = database.load(load).await?;
        let live = database.describe(self.table).await?;
        let impossible = |obstacle| ReplayError::Impossible { load, key: row.object.key.clone(), obstacle };
        if row.state != LoadState::Loaded {
            return Err(impossible(Obstacle::State(row.state)));
        }
        if row.table != *self.table {
            let (ours, theirs) = (self.table.to_string(), row.table.to_string());
            return Err(impossible(Obstacle::OtherTable { ours, theirs }));
        }
        if row.pipeline != self.pipeline.name {
            let (ours, theirs) = (self.pipeline.name.clone(), row.pipeline.clone());
            return Err(impossible(Obstacle::OtherPipeline { ours, theirs }));
        }
        if row.is_upsert() || self.pipeline.target.mode == Mode::Upsert {
            return Err(impossible(Obstacle::Upsert));
        }
        let is_the_same = |live: &LiveTable| {
            (row.table_oid.is_none() || row.table_oid == live.oid)
                && live.made_by.is_none_or(|made_by| made_by <= row.id)
        };
        let Some(live) = live.filter(is_the_same) else { return Err(impossible(Obstacle::TableGone)) };
        let problems = compare(self.pipeline, &live, database.dialect()).map_err(DatabaseError::from)?;
        if !problems.is_empty() {
            return Err(LoadError::Shape { table: live.name.to_string(), problems }.into());
        }
        let stored = row.format();
        let format = stored.as_ref().and_then(|stored| {
            let delimiter = u8::try_from(stored.delimiter).ok()?;
            // The object knows its byte order; of all others the pipeline may have named a wrong one, and been mended.
            let encoding = match (stored.encoding()?, self.pipeline.source.encoding) {
                (Encoding::Utf8 | Encoding::SingleByte(_), mended @ (Encoding::Utf8 | Encoding::SingleByte(_))) => {
                    mended
                }
                (stored, _) => stored,
            };
            Some(Format::new(self.pipeline, delimiter, encoding))
        });
        let (Some(stored), Some(format)) = (stored, format) else { return Err(impossible(Obstacle::NoFormat)) };
        let columns = live.encoding(self.pipeline).columns;
        if let Some(label) = stored.header.as_ref().and_then(|header| header.unknown(self.pipeline)) {
            return Err(impossible(Obstacle::OtherColumn { label }));
        }
        let header = stored.header.map(|header| header.labels());
        let (plan, _) = Plan::compile(self.pipeline, format.grammar(), header.as_deref(), &columns)?;
        let worker = Worker::new(&plan);
        Ok(Current { row, live, format, plan, worker })
    }
}

const NOT_ONE: &str = "what is to take its place is not exactly one record";

/// What is to take a reject's place, or why nothing can.
fn one_record(
    content: &Content,
    reject: &RejectLine,
    pipeline: &Pipeline,
    format: Format,
) -> Result<Block, &'static str> {
    if reject.code == Code::RecordLimit.as_str() {
        return Err("longer than limits.record, so only its beginning was kept");
    }
    let position = Position { offset: reject.offset, line: reject.line, record: reject.record };
    let block = match content {
        Content::Text(text) => {
            let format = Format::new(pipeline, format.grammar().delimiter(), Encoding::Utf8);
            format.block_of(text.as_bytes(), position)
        }
        Content::Bytes(bytes) => format.block_of(bytes, position),
    };
    block.ok_or(NOT_ONE)
}
