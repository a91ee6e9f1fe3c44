//! The full transform of one file, with nowhere for its rows to go: the same record rejects a run gives.

use std::collections::BTreeMap;
use std::io::Read;

use objects::{Compression, Decompressed, StoreError, refuse_binary};
use serde::{Serialize, Serializer};
use transform::csv::{OpenError, Opened};
use transform::{Discard, Labels, Pipeline, Plan, PlanError, Tally, Worker};

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    pub records: u64,
    /// Records a run would load, as far as records are to be judged alone: keys are the database's matter.
    pub good: u64,
    pub rejected: u64,
    /// Blank and comment lines, outside records.
    pub skipped: u64,
    /// After decompression.
    pub bytes: u64,
    /// Rejects by code and field, the most frequent first.
    pub reject_totals: Vec<RejectTotal>,
    /// The first rejects, in file order.
    pub first_rejects: Vec<RejectLine>,
    /// Columns of the file no field asks for: the first of them.
    #[serde(serialize_with = "shown")]
    pub ignored_columns: Labels,
    /// All of them, counted.
    pub ignored_column_count: usize,
    /// Fields whose column the file lacks, the first of them; their cells are NULL or the field's default.
    #[serde(serialize_with = "shown")]
    pub missing_columns: Labels,
    pub missing_column_count: usize,
    /// The delimiter, when the pipeline names none and it was guessed.
    pub guessed_delimiter: Option<char>,
    /// The limit that was exceeded, if one was.
    pub over_limit: Option<OverLimit>,
}

fn shown<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    labels.shown().serialize(serializer)
}

/// How often one code stood against one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectTotal {
    pub code: &'static str,
    /// `None` is the record as a whole.
    pub field: Option<String>,
    pub count: u64,
}

/// One reject, without the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectLine {
    pub line: u64,
    pub record: u64,
    pub offset: u64,
    pub field: Option<String>,
    pub code: &'static str,
    pub message: String,
}

/// Which part of `errors.limit` was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimit {
    Rows(u64),
    Percent(f64),
}

/// Why a file cannot be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    #[error("this is no CSV file: it is {advice}")]
    Binary { advice: &'static str },
    #[error("the file cannot be taken for the pipeline's CSV")]
    Open(#[source] OpenError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Read(#[from] StoreError),
}

impl From<OpenError> for CheckError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Read(error) => Self::Read(StoreError::from_read(error, "the file")),
            error => Self::Open(error),
        }
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckProgress {
    pub records: u64,
}

/// Checks the whole of `source`, keeping the first `shown` rejects; `progress` is called now and then. What is no CSV at
/// all is for [`refuse_other_files`] to find out before.
///
/// Memory stays bounded whatever the file holds: of further rejects only the counts are kept.
pub fn check<R: Read>(
    source: &mut R,
    pipeline: &Pipeline,
    shown: usize,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport, CheckError> {
    let mut opened = Opened::new(source, pipeline)?;
    let types: Vec<_> = pipeline.schema.fields.iter().map(transform::pipeline::Field::column_type).collect();
    let (plan, header_report) = Plan::compile(pipeline, opened.grammar(), opened.header(), &types)?;

    let mut worker = Worker::new(&plan);
    let mut counts = Counts { skipped: opened.skipped(), ..Counts::default() };
    while let Some(block) = opened.next_block().map_err(OpenError::Read)? {
        let tally = worker.apply(&block, &mut Discard);
        opened.recycle(block.into_buffer());
        counts.add(tally, &plan, shown);
        progress(CheckProgress { records: counts.records });
    }

    let mut reject_totals: Vec<_> =
        counts.totals.into_iter().map(|((code, field), count)| RejectTotal { code, field, count }).collect();
    reject_totals.sort_by_key(|total| std::cmp::Reverse(total.count));
    let errors = pipeline.errors;
    let percent = || errors.percent_exceeded(counts.records, counts.rejected).map(OverLimit::Percent);
    let over_limit = errors.rows_exceeded(counts.rejected).map(OverLimit::Rows).or_else(percent);
    Ok(CheckReport {
        records: counts.records,
        good: counts.good,
        rejected: counts.rejected,
        skipped: counts.skipped,
        bytes: opened.bytes(),
        reject_totals,
        first_rejects: counts.first,
        ignored_column_count: header_report.ignored.count(),
        ignored_columns: header_report.ignored,
        missing_column_count: header_report.missing.count(),
        missing_columns: header_report.missing,
        guessed_delimiter: opened.sniffed(),
        over_limit,
    })
}

/// Says what a file is that is certainly no CSV, or that nothing is in it.
pub fn refuse_other_files<R: Read>(source: &Decompressed<R>) -> Result<Compression, CheckError> {
    if source.head().is_empty() {
        return Err(OpenError::Empty.into());
    }
    match refuse_binary(source.head()) {
        Some(advice) => Err(CheckError::Binary { advice }),
        None => Ok(source.compression()),
    }
}

#[derive(Default)]
struct Counts {
    records: u64,
    good: u64,
    rejected: u64,
    skipped: u64,
    /// At most one entry for each pair of code and field.
    totals: BTreeMap<(&'static str, Option<String>), u64>,
    first: Vec<RejectLine>,
}

impl Counts {
    fn add(&mut self, tally: Tally, plan: &Plan, shown: usize) {
        self.records += tally.read;
        self.good += tally.loaded;
        self.skipped += tally.skipped;
        self.rejected += tally.rejects.len() as u64;
        for reject in tally.rejects {
            let code = reject.fault.reason.code().as_str();
            let field = plan.field(reject.fault).map(|field| field.name.clone());
            if self.first.len() < shown {
                let message = plan.message(reject.fault);
                let (line, record, offset) = (reject.line, reject.record, reject.offset);
                self.first.push(RejectLine { line, record, offset, field: field.clone(), code, message });
            }
            *self.totals.entry((code, field)).or_default() += 1;
        }
    }
}
