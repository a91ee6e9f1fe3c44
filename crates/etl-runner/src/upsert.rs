//! Rows in the place of those with the same key.
//!
//! The order of the steps: all rows into a temporary table, of each key the last one kept, the rest merged. Only then does
//! the table judge them, so a row it refuses is looked up in the object once more for its bytes.

use std::io::Read;
use std::time::Instant;

use transform::csv::{Block, Format, Opened, Position};
use transform::{Discard, FoundRecord, Plan, Worker};

use crate::database::{DatabaseError, LiveTable, LoadTransaction, Refusal};
use crate::error::LoadError;
use crate::exact::{check_conflicts, reject_of};
use crate::load::{Advance, Destination, HELD_REJECTS, Progress, Source, Stopped, Task, open_at, pour as pour_rows};
use crate::parallel::KEEP_ALIVE;
use crate::stream::{self, Batches, Spent};

/// All records from where `opened` stands to its end. Gives the source back.
pub(crate) async fn pour<R: Read + Send + 'static>(
    transaction: &mut LoadTransaction,
    opened: Opened<R>,
    task: &Task<'_>,
    plan: &Plan,
    table: &LiveTable,
    progress: &mut Progress,
    advance: Advance<'_>,
) -> Result<R, LoadError> {
    let pipeline = task.target.pipeline;
    let encoding = table.encoding(pipeline);
    let merge = transaction.begin_upsert(table, pipeline, &encoding).await?;
    let mut records = Records::new(task, plan, opened.format(), opened.position());
    let into = Destination::staging(encoding, &merge);
    let source = pour_rows(transaction, opened, task, plan, into, task.workers, progress, advance)
        .await
        .map_err(|Stopped { error, .. }| error)?;

    let staged = progress.counts.loaded;
    progress.counts.duplicates = transaction.drop_duplicates(&merge).await?;
    progress.counts.loaded -= progress.counts.duplicates;
    let mut ranges = vec![(1, i64::try_from(staged).unwrap_or(i64::MAX))];
    while staged > 0 && !ranges.is_empty() {
        let left = pipeline.errors.limit_rows.map_or(u64::MAX, |limit| limit.saturating_sub(progress.counts.rejected));
        let mut refusals = transaction.merge(&merge, &mut ranges, left.min(HELD_REJECTS as u64)).await?;
        check_conflicts(pipeline, &mut refusals)?;
        let mut rejects = Vec::with_capacity(refusals.len());
        for (refusal, found) in refusals.iter().zip(records.find(&refusals, transaction).await?) {
            let keys = [pipeline.schema.primary_key.as_slice(), table.primary_key.as_slice()];
            let (code, reject) = reject_of(refusal, found, pipeline, keys);
            progress.counts.loaded -= 1;
            progress.count_reject(task, code, &reject)?;
            rejects.push(reject);
        }
        if !rejects.is_empty() {
            transaction.write_rejects(&rejects).await?;
        }
    }
    Ok(source)
}

/// Finds records in the object again, in its order.
struct Records<'a> {
    task: &'a Task<'a>,
    plan: &'a Plan,
    worker: Worker,
    format: Format,
    start: Position,
    blocks: Option<Batches<Source, Discard>>,
    /// The block looked at, and the record behind it.
    block: Option<(Block, u64)>,
}

impl<'a> Records<'a> {
    fn new(task: &'a Task<'a>, plan: &'a Plan, format: Format, start: Position) -> Self {
        Self { task, plan, worker: Worker::new(plan), format, start, blocks: None, block: None }
    }

    /// The records of refused rows, in the same order. None of them comes before one that was found earlier.
    async fn find(
        &mut self,
        refusals: &[Refusal],
        transaction: &mut LoadTransaction,
    ) -> Result<Vec<FoundRecord>, LoadError> {
        let numbers: Vec<u64> =
            refusals.iter().map(|refusal| refusal.records.map_or(0, |(record, _)| record)).collect();
        let mut found = Vec::with_capacity(numbers.len());
        let mut rest = numbers.as_slice();
        while let Some(&next) = rest.first() {
            let Some((block, end)) = &self.block else {
                self.block = Some(self.next_block(next, transaction).await?);
                continue;
            };
            let (here, later) = rest.split_at(rest.partition_point(|record| record < end));
            found.extend(self.worker.find(block, here));
            rest = later;
            if !rest.is_empty()
                && let (Some((block, _)), Some(blocks)) = (self.block.take(), &self.blocks)
            {
                blocks.recycle(block);
            }
        }
        match found.len() == refusals.len() {
            true => Ok(found),
            false => Err(missing(refusals.len(), found.len())),
        }
    }

    /// The next block that reaches as far as this record.
    async fn next_block(&mut self, record: u64, transaction: &mut LoadTransaction) -> Result<(Block, u64), LoadError> {
        let mut spoke = Instant::now();
        let blocks = match &mut self.blocks {
            Some(blocks) => blocks,
            None => {
                let opened = open_at(self.task, self.format, self.start).await?;
                let workers = self.task.workers;
                self.blocks.insert(stream::transform(opened, self.plan, workers, Spent::Kept, || Discard))
            }
        };
        while let Some(batch) = blocks.next().await? {
            let end = batch.start.record + batch.tally.read;
            if spoke.elapsed() > KEEP_ALIVE {
                transaction.keep_alive().await?;
                spoke = Instant::now();
            }
            match batch.block {
                Some(block) if end > record => return Ok((block, end)),
                Some(block) => blocks.recycle(block),
                None => {}
            }
        }
        Err(missing(1, 0))
    }
}

fn missing(refused: usize, found: usize) -> LoadError {
    let reason = format!("{refused} rows refused, {found} of their records found");
    DatabaseError::Balance { reason }.into()
}
