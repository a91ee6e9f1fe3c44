//! The full transform of one file, with nowhere for its rows to go: the same record rejects a run gives.

use std::collections::BTreeMap;
use std::io::{self, Read};

use objects::{Compression, Decompressed, StoreError, refuse_binary};
use serde::Serialize;
use transform::csv::{Block, Cutter, Grammar, HeaderError, read_header, sniff_delimiter};
use transform::{Discard, Encoding, Pipeline, Plan, PlanError, Tally, Worker};

/// Bytes of one read.
const CHUNK: usize = 256 * 1024;
/// Bytes a delimiter is guessed from.
const SAMPLE: usize = 64 * 1024;
/// `errors.limit.percent` is judged from this many records on: one bad record of three is no trend.
const PERCENT_FROM: u64 = 1000;

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
    /// Columns of the file no field asks for.
    pub ignored_columns: Vec<String>,
    /// Fields whose column the file lacks; their cells are NULL or the field's default.
    pub missing_columns: Vec<String>,
    /// The delimiter, when the pipeline names none and it was guessed.
    pub guessed_delimiter: Option<char>,
    /// The limit that was exceeded, if one was.
    pub over_limit: Option<OverLimit>,
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
    #[error("the file is empty")]
    Empty,
    #[error("this is no CSV file: it is {advice}")]
    Binary { advice: &'static str },
    #[error("the file starts with a {found} byte order mark, and the pipeline says encoding = {expected:?}")]
    Encoding { found: &'static str, expected: &'static str },
    #[error("there is no header: the file holds blank and comment lines only")]
    NoHeader,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Read(#[from] StoreError),
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckProgress {
    pub records: u64,
}

/// Checks the whole of `source`, keeping the first `shown` rejects; `progress` is called now and then.
///
/// Memory stays bounded whatever the file holds: of further rejects only the counts are kept.
pub fn check<R: Read>(
    source: &mut Decompressed<R>,
    pipeline: &Pipeline,
    shown: usize,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<CheckReport, CheckError> {
    refuse_other_files(source)?;
    let mut input = Input { source, chunk: vec![0; CHUNK], bytes: 0 };
    let mut opened = open(&mut input, pipeline)?;
    let types: Vec<_> = pipeline.schema.fields.iter().map(transform::pipeline::Field::column_type).collect();
    let (plan, header_report) = Plan::compile(pipeline, opened.grammar, opened.header.as_deref(), &types)?;

    let mut worker = Worker::new(&plan);
    let mut counts = Counts::default();
    while let Some(block) = opened.next_block(&mut input)? {
        let tally = worker.apply(&block, &mut Discard);
        opened.cutter.recycle(block.into_buffer());
        counts.add(tally, &plan, shown);
        progress(CheckProgress { records: counts.records });
    }

    let mut reject_totals: Vec<_> =
        counts.totals.into_iter().map(|((code, field), count)| RejectTotal { code, field, count }).collect();
    reject_totals.sort_by_key(|total| std::cmp::Reverse(total.count));
    Ok(CheckReport {
        records: counts.records,
        good: counts.good,
        rejected: counts.rejected,
        skipped: counts.skipped,
        bytes: input.bytes,
        reject_totals,
        first_rejects: counts.first,
        ignored_columns: header_report.ignored,
        missing_columns: header_report.missing,
        guessed_delimiter: opened.guessed,
        over_limit: over_limit(pipeline, counts.records, counts.rejected),
    })
}

/// Says what a file is that is certainly no CSV, or that nothing is in it.
pub fn refuse_other_files<R: Read>(source: &Decompressed<R>) -> Result<Compression, CheckError> {
    if source.head().is_empty() {
        return Err(CheckError::Empty);
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

fn over_limit(pipeline: &Pipeline, records: u64, rejected: u64) -> Option<OverLimit> {
    if let Some(limit) = pipeline.errors.limit_rows
        && rejected > limit
    {
        return Some(OverLimit::Rows(limit));
    }
    match pipeline.errors.limit_percent {
        Some(limit) if records >= PERCENT_FROM && rejected as f64 * 100.0 > limit * records as f64 => {
            Some(OverLimit::Percent(limit))
        }
        _ => None,
    }
}

struct Input<'a, R: Read> {
    source: &'a mut Decompressed<R>,
    chunk: Vec<u8>,
    bytes: u64,
}

impl<R: Read> Input<'_, R> {
    /// Some more bytes; none at the end.
    fn read(&mut self) -> Result<&[u8], StoreError> {
        loop {
            match self.source.read(&mut self.chunk) {
                Ok(read) => {
                    self.bytes += read as u64;
                    return Ok(&self.chunk[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::from_read(error, "the file")),
            }
        }
    }
}

/// A file of which the header was read.
struct Opened {
    cutter: Cutter,
    grammar: Grammar,
    header: Option<Vec<String>>,
    guessed: Option<char>,
    ended: bool,
}

fn open<R: Read>(input: &mut Input<'_, R>, pipeline: &Pipeline) -> Result<Opened, CheckError> {
    let mut sample = Vec::with_capacity(SAMPLE + CHUNK);
    let mut ended = false;
    while sample.len() < SAMPLE && !ended {
        let bytes = input.read()?;
        ended = bytes.is_empty();
        sample.extend_from_slice(bytes);
    }
    let encoding = pipeline.source.encoding;
    if let Some((found, _)) = Encoding::of_bom(&sample)
        && found != encoding
    {
        return Err(CheckError::Encoding { found: found.name(), expected: encoding.name() });
    }
    let (delimiter, guessed) = match pipeline.dialect.delimiter {
        Some(delimiter) => (delimiter, None),
        None => {
            let text = encoding.decode_sample(&sample);
            let delimiter = sniff_delimiter(&pipeline.dialect, &text).unwrap_or(b',');
            (delimiter, Some(char::from(delimiter)))
        }
    };
    let grammar = Grammar::new(&pipeline.dialect, delimiter);
    let with_header = pipeline.dialect.header;
    let mut cutter = Cutter::new(grammar, encoding, pipeline.limits.record, with_header);
    cutter.push(&sample);
    if ended {
        cutter.finish();
    }
    let mut opened = Opened { cutter, grammar, header: None, guessed, ended };
    while with_header && opened.header.is_none() {
        let block = opened.next_block(input)?.ok_or(CheckError::NoHeader)?;
        opened.header = read_header(&block, grammar, pipeline.limits.columns)?;
    }
    Ok(opened)
}

impl Opened {
    fn next_block<R: Read>(&mut self, input: &mut Input<'_, R>) -> Result<Option<Block>, StoreError> {
        loop {
            if let Some(block) = self.cutter.next() {
                return Ok(Some(block));
            }
            if self.ended {
                return Ok(None);
            }
            let bytes = input.read()?;
            if bytes.is_empty() {
                self.ended = true;
                self.cutter.finish();
            } else {
                self.cutter.push(bytes);
            }
        }
    }
}
