//! The exact path: an object of which the table refuses some rows.
//!
//! A load takes all rows at once and learns of a refusal only in the middle or at the end. Then it goes on, or begins
//! anew, segment by segment: what the table refuses is set aside like a record that breaks a rule of the pipeline, with its bytes, its line
//! and the constraint's name, and the others are loaded. Blocks are kept until their segment is in, because a refusal
//! names a row and a reject is a record.

use std::collections::BTreeSet;
use std::io::Read;

use transform::csv::Block;
use transform::pipeline::Conflict;
use transform::{Code, FoundRecord, Pipeline, Plan, Worker};

use crate::database::{
    CopyRows, DatabaseError, ExactRows, ExactWay, LiveTable, LoadTransaction, Refusal, RefusalKind, SqliteRows,
    written_columns,
};
use crate::error::LoadError;
use crate::ledger::StoredReject;
use crate::load::{Advance, HELD_REJECTS, Origins, Progress, Rows, Sinks, Task};
use crate::stream::{self, Batch, Spent};

/// Bytes of the blocks of a segment. Its rows, which are in memory beside them, may take twice as many.
const SEGMENT: usize = 2 * 1024 * 1024;
/// Rows of a segment: each may be refused, and a refusal takes more memory than a short row.
const SEGMENT_ROWS: u64 = 16 * 1024;

/// All records from where `opened` stands to its end: the rows that the table takes, and all others as rejects. Gives the
/// source back.
pub(crate) async fn pour<R: Read + Send + 'static>(
    transaction: &mut LoadTransaction,
    opened: transform::csv::Opened<R>,
    task: &Task<'_>,
    plan: &Plan,
    table: &LiveTable,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<R, LoadError> {
    let pipeline = task.target.pipeline;
    let encoding = table.encoding(pipeline);
    let columns = written_columns(pipeline);
    let way = transaction.begin_exact(table, &columns, &encoding, pipeline.target.conflict).await?;
    let sinks = Sinks::new(transaction, pipeline.target.lineage, encoding);
    let spare = sinks.spare.clone();
    let mut segment = Segment::new(pipeline, plan, table, way);
    let bytes_before = progress.bytes;
    let mut batches = stream::transform(opened, plan, task.workers, Spent::Kept, move || sinks.make());
    while let Some(batch) = batches.next().await? {
        progress.bytes = bytes_before + batches.bytes_read();
        segment.add(batch, progress);
        let full = segment.bytes >= SEGMENT || segment.encoded >= 2 * SEGMENT || segment.count >= SEGMENT_ROWS;
        if full || segment.rejects.len() >= HELD_REJECTS {
            spare.put_all(segment.bring_in(transaction, task, progress).await?);
            segment.blocks.drain(..).for_each(|block| batches.recycle(block));
        }
        advance(progress.bytes, progress.counts.read);
    }
    let source = batches.finish().await?;
    segment.bring_in(transaction, task, progress).await?;
    Ok(source)
}

/// Some blocks in a row.
struct Segment<'a> {
    plan: &'a Plan,
    way: ExactWay,
    /// Finds records again.
    worker: Worker,
    /// By which a refused key is told to be the primary one: the pipeline's, and the table's.
    primary_keys: [&'a [String]; 2],
    blocks: Vec<Block>,
    /// Of the blocks.
    bytes: usize,
    rows: Vec<Rows>,
    /// Bytes of the rows.
    encoded: usize,
    count: u64,
    /// The records the rows came from.
    origins: Origins,
    /// Not counted yet: those that the table refuses come between them.
    rejects: Vec<(Code, StoredReject)>,
}

impl<'a> Segment<'a> {
    fn new(pipeline: &'a Pipeline, plan: &'a Plan, table: &'a LiveTable, way: ExactWay) -> Self {
        Self {
            plan,
            way,
            worker: Worker::new(plan),
            primary_keys: [&pipeline.schema.primary_key, &table.primary_key],
            blocks: Vec::new(),
            bytes: 0,
            rows: Vec::new(),
            encoded: 0,
            count: 0,
            origins: Origins::default(),
            rejects: Vec::new(),
        }
    }

    /// Takes a block's rows and rejects.
    fn add(&mut self, batch: Batch<Rows>, progress: &mut Progress) {
        let Batch { start, rows, tally, block } = batch;
        let (first, read) = (start.record, tally.read);
        self.count += tally.loaded;
        self.origins.add(first, read, tally.rejects.iter().map(|reject| reject.record));
        self.rejects.extend(progress.set_aside(self.plan, tally));
        self.encoded += rows.bytes();
        self.rows.push(rows);
        if let Some(block) = block {
            self.bytes += block.len();
            self.blocks.push(block);
        }
    }

    /// Rows into the table; what it refuses, and what was set aside before, into the ledger. The blocks stay, and buffers
    /// come back.
    async fn bring_in(
        &mut self,
        transaction: &mut LoadTransaction,
        task: &Task<'_>,
        progress: &mut Progress,
    ) -> Result<Vec<Vec<u8>>, LoadError> {
        let rows = rows_of(std::mem::take(&mut self.rows), std::mem::take(&mut self.count), transaction);
        let errors = task.target.pipeline.errors;
        let most = errors.limit_rows.map_or(u64::MAX, |limit| limit.saturating_sub(progress.counts.rejected));
        let mut refusals = transaction.take_exactly(&self.way, &rows, most).await?;
        for refusal in &mut refusals {
            let record = refusal.row.and_then(|row| self.origins.record_of(row));
            refusal.records = record.map(|record| (record, record));
        }
        check_conflicts(task.target.pipeline, &mut refusals)?;
        let refused = self.rejects_of(&refusals, task)?;
        progress.counts.loaded -= refused.len() as u64;
        self.rejects.extend(refused);
        self.rejects.sort_by_key(|(_, reject)| reject.record);
        for (code, reject) in &self.rejects {
            progress.count_reject(task, *code, reject)?;
        }
        let rejects: Vec<StoredReject> = self.rejects.drain(..).map(|(_, reject)| reject).collect();
        if !rejects.is_empty() {
            transaction.write_rejects(&rejects).await?;
        }
        (self.bytes, self.encoded) = (0, 0);
        self.origins = Origins::default();
        match rows {
            ExactRows::Copy(rows) => Ok(rows.buffers),
            ExactRows::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// The refused rows as the records they were.
    fn rejects_of(&mut self, refusals: &[Refusal], task: &Task<'_>) -> Result<Vec<(Code, StoredReject)>, LoadError> {
        let mut rejects = Vec::with_capacity(refusals.len());
        let mut rest = refusals;
        for (at, block) in self.blocks.iter().enumerate() {
            let end = self.blocks.get(at + 1).map_or(u64::MAX, |next| next.position().record);
            let record = |refusal: &Refusal| refusal.records.map_or(0, |(record, _)| record);
            let (here, later) = rest.split_at(rest.partition_point(|refusal| record(refusal) < end));
            rest = later;
            let numbers: Vec<u64> = here.iter().map(record).collect();
            for (refusal, found) in here.iter().zip(self.worker.find(block, &numbers)) {
                rejects.push(reject_of(refusal, found, task.target.pipeline, self.primary_keys));
            }
        }
        if rejects.len() != refusals.len() {
            let reason = format!("{} rows refused, {} of their records found", refusals.len(), rejects.len());
            return Err(DatabaseError::Balance { reason }.into());
        }
        Ok(rejects)
    }
}

/// A refused row as the record it was. `primary_keys`: the pipeline's, and the table's.
pub(crate) fn reject_of(
    refusal: &Refusal,
    found: FoundRecord,
    pipeline: &Pipeline,
    primary_keys: [&[String]; 2],
) -> (Code, StoredReject) {
    let code = code_of(refusal, primary_keys);
    let field = match refusal.columns.as_slice() {
        [column] if pipeline.schema.fields.iter().any(|field| field.name == *column) => Some(column.clone()),
        _ => None,
    };
    let reject = StoredReject {
        record: found.record,
        line: found.line,
        offset: found.offset,
        field,
        code: code.as_str().to_owned(),
        message: refusal.message(),
        raw: found.raw,
    };
    (code, reject)
}

fn code_of(refusal: &Refusal, primary_keys: [&[String]; 2]) -> Code {
    match refusal.kind {
        RefusalKind::Unique => {
            let columns: BTreeSet<&String> = refusal.columns.iter().collect();
            let is_primary = |key: &[String]| !key.is_empty() && key.iter().collect::<BTreeSet<_>>() == columns;
            if primary_keys.into_iter().any(is_primary) { Code::PrimaryKey } else { Code::UniqueError }
        }
        RefusalKind::ForeignKey => Code::ForeignKey,
        RefusalKind::Value => Code::TypeError,
        RefusalKind::NotNull | RefusalKind::Check | RefusalKind::Exclusion | RefusalKind::Trigger => {
            Code::ConstraintError
        }
    }
}

/// With `conflict = "fail"` a taken key ends the load.
pub(crate) fn check_conflicts(pipeline: &Pipeline, refusals: &mut Vec<Refusal>) -> Result<(), DatabaseError> {
    match refusals.iter().position(|refusal| refusal.kind == RefusalKind::Unique) {
        Some(at) if pipeline.target.conflict == Conflict::Fail => {
            Err(DatabaseError::Refused(Box::new(refusals.swap_remove(at))))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn rows_of(rows: Vec<Rows>, count: u64, transaction: &LoadTransaction) -> ExactRows {
    let mut buffers = Vec::new();
    let mut blocks: Vec<SqliteRows> = Vec::new();
    for rows in rows {
        match rows {
            Rows::Binary(rows) => buffers.push(rows.finish()),
            Rows::Text(rows) => buffers.push(rows.finish()),
            Rows::Sqlite(rows) => blocks.push(rows),
        }
    }
    match transaction {
        LoadTransaction::Postgres(_) => ExactRows::Copy(CopyRows { buffers, count }),
        LoadTransaction::Sqlite(_) => ExactRows::Sqlite(blocks),
    }
}
