//! A pipeline compiled against one header.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::csv::{Decoder, Grammar};
use crate::pipeline::{Field, MissingColumns, NewColumns, Pipeline};
use crate::reject::{Fault, Reason};
use crate::row::{Cell, Row};
use crate::span::{Side, Span};
use crate::types::{Buffers, Checks, Cleaned, Cleaner, ColumnType, Converted, Converter};

/// What stands between a pipeline and an object's header.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    #[error("the header has no column {}", Labels::new(missing))]
    MissingLabels {
        missing: Vec<String>,
        /// All labels; none when no field asks for any of them, because then they may be cells of a file without a header.
        header: Vec<String>,
        /// Missing labels beside those of the header that differ in case or in blanks around them only, or look the same.
        alike: Vec<(String, String)>,
    },
    #[error("the header names {} more than once (columns {first} and {second})", column(label.as_deref()))]
    DuplicateLabel {
        /// `None` when no field asks for any label of the header.
        label: Option<String>,
        first: usize,
        second: usize,
    },
    #[error("the header has {} the pipeline does not name, and drift.new_columns is \"fail\"", new_names(labels))]
    NewLabels {
        /// None when no field asks for any label of the header.
        labels: Vec<String>,
    },
    /// A field and its column do not go together; found before the first record.
    #[error("field {field:?}: {why}")]
    Field { field: String, why: String },
}

impl PlanError {
    /// What the header has instead, as far as it may be shown: a label no field asks for may be a cell.
    pub fn help(&self) -> Vec<String> {
        let Self::MissingLabels { header, alike, .. } = self else { return Vec::new() };
        let mut help: Vec<String> = alike
            .iter()
            .take(SHOWN_LABELS)
            .map(|(wanted, found)| match plain(wanted) == plain(found) {
                true => format!("the header has {}; names are compared exactly", shown(found)),
                false => format!(
                    "the header has {}, which only looks alike: it is {} there, and {} in the pipeline",
                    shown(found),
                    code_points(found),
                    code_points(wanted)
                ),
            })
            .collect();
        if !header.is_empty() {
            help.push(format!("the header has: {}", Labels::new(header)));
        } else {
            help.push(
                "none of the columns is a field of the pipeline; is the first line a header? header = false under \
                 [dialect] says it is not"
                    .into(),
            );
        }
        help
    }
}

/// Labels named of a header, and characters shown of a label: somebody else's file may have any number of either.
const SHOWN_LABELS: usize = 20;
const SHOWN_CHARACTERS: usize = 40;

/// Labels of a header as far as they are shown: the first ones, long ones cut, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    shown: Vec<String>,
    count: usize,
}

impl Labels {
    fn new(labels: &[String]) -> Self {
        Self { shown: labels.iter().take(SHOWN_LABELS).map(|label| cut(label)).collect(), count: labels.len() }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are; [`Labels::shown`] may be fewer.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn shown(&self) -> &[String] {
        &self.shown
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown.iter().map(|label| format!("{label:?}")).collect::<Vec<_>>().join(", ");
        f.write_str(&shown)?;
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn cut(label: &str) -> String {
    // No text of PostgreSQL holds a NUL.
    let label = &label.replace('\0', "\u{FFFD}");
    match label.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &label[..end]),
        None => label.to_owned(),
    }
}

fn shown(label: &str) -> String {
    format!("{:?}", cut(label))
}

fn new_names(labels: &[String]) -> String {
    if labels.is_empty() { "only columns".into() } else { Labels::new(labels).to_string() }
}

fn column(label: Option<&str>) -> String {
    label.map_or_else(|| "a column".into(), |label| format!("column {}", shown(label)))
}

/// What the header had beyond and below the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderReport {
    /// Labels no field asks for.
    pub ignored: Labels,
    /// Fields whose label is missing; their cells are NULL, or the field's default.
    pub missing: Labels,
}

/// A pipeline compiled against one header and the column types of one table. Cloned for each worker, so that each has
/// its own regex caches.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) grammar: Grammar,
    pub(crate) limit: usize,
    /// Fields a record must have.
    width: usize,
    columns: Vec<Column>,
    fields: Arc<[Field]>,
}

/// One field of the schema, compiled.
#[derive(Clone, Debug)]
struct Column {
    /// Position in the record; [`NOWHERE`] when the header lacks it.
    position: usize,
    field: u16,
    required: bool,
    missing: Missing,
    cleaner: Option<Cleaner>,
    default: Option<String>,
    converter: Converter,
    checks: Option<Checks>,
    /// See [`Converter::verbatim`]; 0 where there are checks.
    verbatim: usize,
    /// The same for texts as they stand in the file; 0 where there are cleaning steps.
    plain: usize,
}

/// More than any record has fields.
const NOWHERE: usize = usize::MAX;

/// The texts that mean NULL.
#[derive(Clone, Debug)]
struct Missing {
    values: Arc<[String]>,
    /// A bit for each length of theirs; the last one stands for all from 63 on.
    lengths: u64,
}

impl Missing {
    fn new(values: &[String]) -> Self {
        Self {
            values: values.into(),
            lengths: values.iter().fold(0, |lengths, value| lengths | 1 << value.len().min(63)),
        }
    }

    #[inline]
    fn may_match(&self, len: usize) -> bool {
        self.lengths >> len.min(63) & 1 == 1
    }

    #[inline]
    fn matches(&self, text: &str) -> bool {
        self.may_match(text.len()) && self.values.iter().any(|value| value == text)
    }
}

impl Plan {
    /// `header` is the first record's fields; `None` for a dialect without a header, when fields stand by position.
    /// `columns` holds the column type of each schema field, in schema order.
    pub fn compile(
        pipeline: &Pipeline,
        grammar: Grammar,
        header: Option<&[String]>,
        columns: &[ColumnType],
    ) -> Result<(Self, HeaderReport), PlanError> {
        let fields = &pipeline.schema.fields;
        assert_eq!(fields.len(), columns.len(), "one column type per field");
        let mut report = HeaderReport::default();
        let positions = match header {
            None => (0..fields.len()).map(Some).collect(),
            Some(header) => positions(pipeline, header, &mut report)?,
        };
        let missing = Missing::new(&pipeline.schema.missing_values);
        let compiled =
            fields.iter().zip(columns).zip(positions).enumerate().map(|(index, ((field, column), position))| {
                let fail = |why| PlanError::Field { field: field.name.clone(), why };
                let converter = Converter::compile(field, *column).map_err(fail)?;
                let checks = Checks::compile(field, &converter).map_err(fail)?;
                let cleaner =
                    if field.clean.is_empty() { None } else { Some(Cleaner::compile(&field.clean).map_err(fail)?) };
                let verbatim = if checks.is_empty() { converter.verbatim() } else { 0 };
                Ok(Column {
                    position: position.unwrap_or(NOWHERE),
                    verbatim,
                    plain: if cleaner.is_none() { verbatim } else { 0 },
                    field: u16::try_from(index).map_err(|_| fail("too many fields".into()))?,
                    required: field.constraints.required,
                    missing: missing.clone(),
                    cleaner,
                    default: field.default.clone(),
                    converter,
                    checks: (!checks.is_empty()).then_some(checks),
                })
            });
        let compiled = compiled.collect::<Result<Vec<_>, PlanError>>()?;
        let plan = Self {
            grammar,
            limit: pipeline.limits.record,
            width: header.map_or(fields.len(), <[String]>::len),
            columns: compiled,
            fields: fields.as_slice().into(),
        };
        Ok((plan, report))
    }

    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The message stored with a reject.
    pub fn message(&self, fault: Fault) -> String {
        fault.reason.message(self.field(fault))
    }

    /// The field a fault is about.
    pub fn field(&self, fault: Fault) -> Option<&Field> {
        fault.field.and_then(|index| self.fields.get(usize::from(index)))
    }

    /// Brings the decoder's current record into `row`. `nul_free`: the block holds no NUL.
    #[inline]
    pub(crate) fn apply(
        &self,
        text: &str,
        nul_free: bool,
        decoder: &Decoder,
        row: &mut Row,
        buffers: &mut Buffers,
    ) -> Result<(), Fault> {
        let found = decoder.len();
        if found != self.width {
            let (expected, found) = (self.width as u32, found as u32);
            let reason = if found < expected {
                Reason::FewerFields { expected, found }
            } else {
                Reason::MoreFields { expected, found }
            };
            return Err(Fault { field: None, reason });
        }
        let Row { cells, scratch } = row;
        scratch.clear();
        // The decoder's spans then mean the same in the row.
        if !decoder.unescaped().is_empty() {
            scratch.extend_from_slice(decoder.unescaped().as_bytes());
        }
        if cells.len() != self.columns.len() {
            cells.resize(self.columns.len(), Cell::Null);
        }
        let spans = decoder.spans();
        // Two pointers that move on: an index would be multiplied with the size of a column each time.
        let mut cells = cells.iter_mut();
        for column in &self.columns {
            let Some(cell) = cells.next() else { break };
            if let Some(&span) = spans.get(column.position)
                && !column.missing.may_match(span.len())
            {
                // Most texts go as they are, and all that is looked at is their length.
                if span.len() < column.plain && nul_free {
                    *cell = Cell::Text(span);
                    continue;
                }
                let is_made = match &column.cleaner {
                    Some(cleaner) => nul_free && column.quick_clean(cleaner, text, span, cell, scratch),
                    None => column.quick(text, span, cell),
                };
                if is_made {
                    continue;
                }
            }
            column
                .apply(text, nul_free, decoder, cell, scratch, buffers)
                .map_err(|reason| Fault { field: Some(column.field), reason })?;
        }
        Ok(())
    }
}

/// Cells are written where they stay: handing a cell up as a value costs more than making it.
impl Column {
    /// Makes the cell of a field that is not missing when that takes no second look at it; `false` says nothing, such a
    /// field is for [`Self::apply`].
    #[inline(never)]
    fn quick(&self, block: &str, span: Span, cell: &mut Cell) -> bool {
        // Checks may find fault, so they are for the other way.
        if span.side() != Side::Block || self.checks.is_some() {
            return false;
        }
        self.converter.quick(block.as_bytes(), span.range(), cell)
    }

    /// The same where there are cleaning steps.
    #[inline(never)]
    fn quick_clean(&self, cleaner: &Cleaner, block: &str, span: Span, cell: &mut Cell, scratch: &mut Vec<u8>) -> bool {
        if span.side() != Side::Block || self.verbatim == 0 {
            return false;
        }
        let before = scratch.len();
        let Some(cleaned) = cleaner.quick(block.as_bytes(), span.range(), scratch) else { return false };
        if cleaned.len() >= self.verbatim || self.missing.may_match(cleaned.len()) {
            scratch.truncate(before);
            return false;
        }
        *cell = Cell::Text(cleaned);
        true
    }

    #[inline(never)]
    fn apply(
        &self,
        block: &str,
        nul_free: bool,
        decoder: &Decoder,
        cell: &mut Cell,
        scratch: &mut Vec<u8>,
        buffers: &mut Buffers,
    ) -> Result<(), Reason> {
        if self.position == NOWHERE {
            return self.absent(block, cell, scratch);
        }
        let raw = decoder.field(block, self.position);
        // Compared before and after cleaning: `" "` trimmed is as missing as `""`, and a map may not hide a "NULL".
        if self.missing.matches(raw) {
            return self.absent(block, cell, scratch);
        }
        let span = decoder.spans()[self.position];
        if let (None, Some(checks)) = (&self.cleaner, &self.checks)
            && span.side() == Side::Block
            && self.converter.quick(block.as_bytes(), span.range(), cell)
        {
            return checks.check(*cell, raw, scratch);
        }
        let Some(cleaner) = &self.cleaner else { return self.convert(raw, nul_free, block, cell, scratch) };
        let Cleaned { text, rewritten } = cleaner.apply(raw, buffers)?;
        if self.missing.matches(text) {
            return self.absent(block, cell, scratch);
        }
        if text.len() < self.verbatim && nul_free && !rewritten {
            *cell = Cell::Text(span_of(text, block, scratch));
            return Ok(());
        }
        self.convert(text, nul_free && !rewritten, block, cell, scratch)
    }

    #[inline]
    fn convert(
        &self,
        text: &str,
        nul_free: bool,
        block: &str,
        cell: &mut Cell,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        *cell = match self.converter.convert_from(text, nul_free, scratch)? {
            Converted::Text => Cell::Text(span_of(text, block, scratch)),
            Converted::Cell(cell) => cell,
        };
        match &self.checks {
            Some(checks) => checks.check(*cell, text, scratch),
            None => Ok(()),
        }
    }

    /// No value: the default's, else NULL.
    #[inline]
    fn absent(&self, block: &str, cell: &mut Cell, scratch: &mut Vec<u8>) -> Result<(), Reason> {
        match &self.default {
            Some(default) => self.convert(default, false, block, cell, scratch),
            None if self.required => Err(Reason::Required),
            None => {
                *cell = Cell::Null;
                Ok(())
            }
        }
    }
}

/// Where `text` stands: in the block when it is a piece of it, else copied to scratch.
#[inline]
fn span_of(text: &str, block: &str, scratch: &mut Vec<u8>) -> Span {
    let offset = text.as_ptr().addr().wrapping_sub(block.as_ptr().addr());
    if offset <= block.len() && text.len() <= block.len() - offset {
        return Span::block(offset, text.len());
    }
    let start = scratch.len();
    scratch.extend_from_slice(text.as_bytes());
    Span::scratch(start, text.len())
}

/// For each missing label the one of the header that was meant: it differs in case or in blanks around it only, or looks
/// the same to a person. Of labels that may be cells only such are told as no person can tell apart.
fn alike(missing: &[String], header: &[String], may_be_cells: bool) -> Vec<(String, String)> {
    let missing = &missing[..missing.len().min(SHOWN_LABELS)];
    // Somebody else's labels may be of any length and number; what is much longer is not alike.
    let longest = missing.iter().map(String::len).max().unwrap_or_default() * 4 + 64;
    let (mut by_text, mut by_look) = (HashMap::new(), HashMap::new());
    for label in header.iter().filter(|label| label.len() <= longest) {
        by_text.entry(plain(label)).or_insert(label);
        by_look.entry(look(label)).or_insert(label);
    }
    let find = |wanted: &String| {
        let by_look = || {
            let found = by_look.get(&look(wanted))?;
            // The table has ones for els, too.
            (!may_be_cells || !found.is_ascii() || !wanted.is_ascii()).then_some(found)
        };
        by_text.get(&plain(wanted)).or_else(by_look).map(|found| (wanted.clone(), (*found).clone()))
    };
    missing.iter().filter_map(find).collect()
}

fn plain(label: &str) -> String {
    label.trim().to_lowercase()
}

/// What labels that look the same have in common, by Unicode's table of confusable characters (UTS #39), and without the
/// characters that nobody sees.
fn look(label: &str) -> String {
    let invisible = |char: &char| matches!(char, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}');
    let seen: String = plain(label).chars().filter(|char| !invisible(char)).collect();
    unicode_security::skeleton(&seen).collect()
}

/// With the number of each character in its place that ASCII cannot show.
fn code_points(label: &str) -> String {
    let is_shown = |char: char| char.is_ascii_graphic() || char == ' ';
    let point = |char: char| if is_shown(char) { char.to_string() } else { format!("<U+{:04X}>", u32::from(char)) };
    cut(label).chars().map(point).collect()
}

/// The position of each field's label in the header.
fn positions(
    pipeline: &Pipeline,
    header: &[String],
    report: &mut HeaderReport,
) -> Result<Vec<Option<usize>>, PlanError> {
    let fields = &pipeline.schema.fields;
    let asked: HashSet<&str> = fields.iter().map(Field::label).collect();
    let may_show = header.iter().any(|label| asked.contains(label.as_str()));
    let mut labels = HashMap::with_capacity(header.len());
    for (position, label) in header.iter().enumerate() {
        if let Some(first) = labels.insert(label.as_str(), position) {
            let label = may_show.then(|| label.clone());
            return Err(PlanError::DuplicateLabel { label, first: first + 1, second: position + 1 });
        }
    }
    let mut missing = Vec::new();
    let mut positions = Vec::with_capacity(fields.len());
    for field in fields {
        let position = labels.remove(field.label());
        if position.is_none() {
            missing.push(field.label().to_owned());
        }
        positions.push(position);
    }
    let ignored: Vec<String> = header.iter().filter(|label| labels.contains_key(label.as_str())).cloned().collect();
    // With no label of its own it is no header of this pipeline, but a record, or a page that tells of an error.
    if !may_show || (!missing.is_empty() && pipeline.drift.missing_columns == MissingColumns::Fail) {
        let alike = alike(&missing, header, !may_show);
        return Err(PlanError::MissingLabels {
            missing,
            header: if may_show { header.to_vec() } else { Vec::new() },
            alike,
        });
    }
    if !ignored.is_empty() && pipeline.drift.new_columns == NewColumns::Fail {
        return Err(PlanError::NewLabels { labels: ignored });
    }
    report.ignored = Labels::new(&ignored);
    report.missing = Labels::new(&missing);
    Ok(positions)
}
