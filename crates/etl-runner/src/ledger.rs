//! What a load is, how it can end, and its balance.
//!
//! The ledger is the table of finished loads; what stands there is the truth about what is loaded. This module holds
//! its terms and the questions that need no database. Never: SQL; that is in [`crate::database`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, Serializer};
use transform::csv::Position;
use transform::pipeline::Mode;
use transform::{Encoding, Pipeline};
use uuid::Uuid;

use crate::database::TableName;

/// How a load stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadState {
    /// On several connections: some of its splits are in, others are not. Otherwise only seen by the transaction that
    /// writes the rows.
    Loading,
    /// Its rows are in the table.
    Loaded,
    /// Its rows were deleted because a later load took their place.
    Replaced,
    /// Never loaded: a newer version of the same object was already there.
    Superseded,
    /// Its rows were taken back by a person.
    Undone,
    /// Nothing of it is in the table.
    Failed,
}

impl LoadState {
    pub const ALL: [Self; 6] =
        [Self::Loading, Self::Loaded, Self::Replaced, Self::Superseded, Self::Undone, Self::Failed];

    /// The word stored in the ledger and shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Replaced => "replaced",
            Self::Superseded => "superseded",
            Self::Undone => "undone",
            Self::Failed => "failed",
        }
    }

    /// The state of a word; `None` for one this version does not know.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for LoadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A moment in UTC, to the microsecond, as microseconds since 1970-01-01. Prints as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        })
    }
}

impl Timestamp {
    /// Reads what [`Timestamp`] prints; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self(time.as_microsecond())).filter(|read| read.to_string() == text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            // Beyond the year 9999, where no clock of ours gets to.
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One immutable content of an object, as far as the store can tell contents apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectVersion {
    /// `s3://bucket/key` or `file:///…`.
    pub uri: String,
    /// Below the store's prefix, as people name it.
    pub key: String,
    /// The store's version id, else what stands in for one (etag and size; size, mtime and inode).
    pub version: String,
    pub etag: Option<String>,
    pub size: Option<u64>,
    pub last_modified: Option<Timestamp>,
}

impl ObjectVersion {
    /// Whether the store says that both are the same bytes. A listing of S3 knows no version ids, only etags.
    fn is_same_version(&self, other: &Self) -> bool {
        let same_etag = self.etag.is_some() && self.etag == other.etag && self.size == other.size;
        self.version == other.version || same_etag
    }
}

/// Which earlier loads of the table give way to this one. They are marked `replaced` in its transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Replaces {
    #[default]
    Nothing,
    /// These loads: `--reload`, or an object whose content changed.
    Loads(Vec<i64>),
    /// This load, whose rows stay until others take their place, one by one: an upsert of the same object.
    Upsert(i64),
    /// Whatever is loaded in the table: mode `replace`.
    Table,
}

impl Replaces {
    /// The loads that are named.
    pub fn loads(&self) -> Option<&[i64]> {
        match self {
            Self::Loads(ids) => Some(ids),
            Self::Upsert(id) => Some(std::slice::from_ref(id)),
            Self::Nothing | Self::Table => None,
        }
    }
}

/// A load about to begin.
#[derive(Clone, Debug)]
pub struct NewLoad {
    pub run_id: Uuid,
    pub pipeline: String,
    /// Hash of the compiled plan: another hash means the same bytes could give other rows.
    pub pipeline_hash: String,
    /// As [`crate::database::Database::resolve`] gave it.
    pub table: TableName,
    pub table_oid: Option<u32>,
    pub object: ObjectVersion,
    pub started_at: Timestamp,
    pub runner_version: String,
    pub replaces: Replaces,
    /// Beside no other load of the table: this one changes rows of earlier ones.
    pub alone: bool,
}

/// What became of the records of one load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub read: u64,
    pub loaded: u64,
    pub rejected: u64,
    pub filtered: u64,
    pub duplicates: u64,
    /// Blank and comment lines, outside the balance.
    pub skipped: u64,
}

impl Counts {
    /// Whether each record is exactly one of loaded, rejected, filtered, duplicate.
    pub fn balance_holds(&self) -> bool {
        [self.loaded, self.rejected, self.filtered, self.duplicates]
            .into_iter()
            .try_fold(0u64, u64::checked_add)
            .is_some_and(|sum| sum == self.read)
    }
}

/// What is known of a load once its object is read to the end, or reading stopped.
#[derive(Clone, Debug)]
pub struct Totals {
    pub counts: Counts,
    /// Bytes after decompression.
    pub bytes: u64,
    /// SHA-256 of the object's stored bytes in hex, when all of them were read.
    pub content_sha256: Option<String>,
    pub finished_at: Timestamp,
    /// What the header and the dialect had to say: ignored columns, a sniffed delimiter.
    pub note: serde_json::Value,
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadRow {
    pub id: i64,
    pub run_id: Uuid,
    pub pipeline: String,
    pub pipeline_hash: String,
    pub table: TableName,
    pub table_oid: Option<u32>,
    pub object: ObjectVersion,
    pub content_sha256: Option<String>,
    pub state: LoadState,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub counts: Counts,
    pub bytes: u64,
    pub runner_version: String,
    pub first_error: Option<String>,
    /// The same version under the same pipeline would fail again.
    pub permanent: bool,
    pub replaced_by: Option<i64>,
    pub note: serde_json::Value,
    /// Only while it is loading: its counts are those of the splits that are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splits: Option<SplitProgress>,
}

/// A part of an object that is loaded in a transaction of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// From 0, in the order of the object.
    pub number: u32,
    /// Where it begins.
    pub start: Position,
    pub bytes: u64,
    pub lines: u64,
    pub records: u64,
}

impl Split {
    /// From one place to another.
    pub fn between(number: u32, start: Position, end: Position) -> Self {
        Self {
            number,
            start,
            bytes: end.offset - start.offset,
            lines: end.line - start.line,
            records: end.record - start.record,
        }
    }

    /// Where the next one begins.
    pub fn end(&self) -> Position {
        Position {
            offset: self.start.offset + self.bytes,
            line: self.start.line + self.lines,
            record: self.start.record + self.records,
        }
    }
}

/// How far a load on several connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SplitProgress {
    /// Splits whose rows are in the table.
    pub loaded: u64,
    /// Splits known so far: more may follow while the object is being cut.
    pub planned: u64,
}

/// In the note of a load with rejects: what its object's beginning told of how records are read.
pub const CSV: &str = "csv";
/// In a note: so many rejects were replayed since, or purged.
pub const REPLAYED: &str = "replayed";
pub const PURGED: &str = "purged";

/// How the records of an object are read, as its beginning told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFormat {
    pub delimiter: char,
    /// A WHATWG name, with the byte order.
    pub encoding: String,
    /// `None`: there is none, and fields stand in the order of the columns.
    pub header: Option<StoredHeader>,
}

/// A header, as far as a pipeline asks for it: the other labels are somebody else's, and may be cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHeader {
    pub columns: usize,
    /// Where the label of each field stands, from 0.
    pub labels: BTreeMap<String, usize>,
    /// Labels of fields that it has not.
    pub missing: Vec<String>,
}

impl StoredFormat {
    pub fn encoding(&self) -> Option<Encoding> {
        Encoding::for_label(&self.encoding)
    }
}

impl StoredHeader {
    pub fn new(header: &[String], pipeline: &Pipeline) -> Self {
        let place = |label: &str| header.iter().position(|found| found == label);
        let fields = pipeline.schema.fields.iter().filter(|field| !field.label().contains('\0'));
        let labels = fields.filter_map(|field| Some((field.label().to_owned(), place(field.label())?))).collect();
        let missing = pipeline.schema.fields.iter().filter(|field| place(field.label()).is_none());
        Self { columns: header.len(), labels, missing: missing.map(|field| field.label().to_owned()).collect() }
    }

    /// The first label that a pipeline asks for and that nobody looked for when the header was read.
    pub fn unknown(&self, pipeline: &Pipeline) -> Option<String> {
        let is_known = |label: &str| self.labels.contains_key(label) || self.missing.iter().any(|known| known == label);
        pipeline.schema.fields.iter().map(|field| field.label()).find(|label| !is_known(label)).map(str::to_owned)
    }

    /// With names of their own for the labels that nobody asked for.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = (0..self.columns).map(|column| format!("\u{1}{column}")).collect();
        for (label, &column) in &self.labels {
            if let Some(place) = labels.get_mut(column) {
                place.clone_from(label);
            }
        }
        labels
    }
}

/// In the note of an upsert: how its rows got into the table.
pub const MODE: &str = "mode";

/// In the note of a load on several connections: it made the table, and these columns will be the key.
pub const MAKES_TABLE: &str = "makes_table";

impl LoadRow {
    /// How the bytes of its rejects are read, where it has some.
    pub fn format(&self) -> Option<StoredFormat> {
        serde_json::from_value(self.note.get(CSV)?.clone()).ok()
    }

    /// Rejects that were taken out of the ledger for their age.
    pub fn purged(&self) -> u64 {
        self.note.get(PURGED).and_then(serde_json::Value::as_u64).unwrap_or_default()
    }

    /// Whether its rows took the place of those with the same key, and may give way in the same manner.
    pub fn is_upsert(&self) -> bool {
        self.note.get(MODE).and_then(|mode| mode.as_str()) == Some(Mode::Upsert.as_str())
    }

    /// The key to come of the table it goes into, when it runs on several connections and made that table.
    pub fn makes_table(&self) -> Option<Vec<String>> {
        let key = self.note.get(MAKES_TABLE).filter(|_| self.state == LoadState::Loading)?.as_array()?;
        Some(key.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }
}

/// A record set aside, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReject {
    pub record: u64,
    pub line: u64,
    pub offset: u64,
    /// Name of the field at fault; `None` is the record as a whole.
    pub field: Option<String>,
    /// One of [`transform::Code`].
    pub code: String,
    pub message: String,
    pub raw: Vec<u8>,
}

/// One reject, without the record's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectLine {
    pub line: u64,
    pub record: u64,
    pub offset: u64,
    pub field: Option<String>,
    pub code: String,
    pub message: String,
}

impl RejectLine {
    pub(crate) fn with_raw(self, raw: Vec<u8>) -> StoredReject {
        let Self { line, record, offset, field, code, message } = self;
        StoredReject { record, line, offset, field, code, message, raw }
    }
}

impl From<&StoredReject> for RejectLine {
    fn from(reject: &StoredReject) -> Self {
        Self {
            line: reject.line,
            record: reject.record,
            offset: reject.offset,
            field: reject.field.clone(),
            code: reject.code.clone(),
            message: reject.message.clone(),
        }
    }
}

/// How an object version found in the store stands in the ledger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing<'a> {
    /// Never seen, or its last failure may not repeat.
    New,
    /// Some of its splits are in the table; a load on several connections stopped, or is under way.
    Unfinished(&'a LoadRow),
    /// These bytes are in the table.
    Loaded { load: &'a LoadRow, pipeline_changed: bool },
    /// Other, older bytes of this object are in the table.
    Changed { loaded: &'a LoadRow },
    /// Other, newer bytes of this object are in the table.
    Older { loaded: &'a LoadRow },
    /// These bytes were in the table and gave way to a later load.
    Replaced(&'a LoadRow),
    /// A person took them back; a plain run leaves it at that.
    Undone(&'a LoadRow),
    /// They failed for a cause that stays, under this very pipeline.
    Failed(&'a LoadRow),
}

/// Judges an object version by the rows [`crate::database::Database::look_up`] gave for its table.
pub fn standing<'a>(history: &'a [LoadRow], object: &ObjectVersion, pipeline_hash: &str) -> Standing<'a> {
    let rows = || history.iter().filter(|row| row.object.uri == object.uri);
    if let Some(live) = rows().find(|row| row.state == LoadState::Loaded) {
        if object.is_same_version(&live.object) {
            return Standing::Loaded { load: live, pipeline_changed: live.pipeline_hash != pipeline_hash };
        }
        let older =
            matches!((object.last_modified, live.object.last_modified), (Some(this), Some(that)) if this < that);
        return if older { Standing::Older { loaded: live } } else { Standing::Changed { loaded: live } };
    }
    if let Some(unfinished) = rows().find(|row| row.state == LoadState::Loading) {
        return Standing::Unfinished(unfinished);
    }
    let latest = rows().filter(|row| object.is_same_version(&row.object)).max_by_key(|row| row.id);
    match latest {
        None => Standing::New,
        Some(row) => match row.state {
            LoadState::Undone => Standing::Undone(row),
            LoadState::Replaced => Standing::Replaced(row),
            LoadState::Failed if row.permanent && row.pipeline_hash == pipeline_hash => Standing::Failed(row),
            LoadState::Failed | LoadState::Superseded | LoadState::Loading | LoadState::Loaded => Standing::New,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, modified: i64) -> ObjectVersion {
        ObjectVersion {
            uri: "s3://b/k".into(),
            key: "k".into(),
            version: version.into(),
            etag: None,
            size: Some(1),
            last_modified: Some(Timestamp(modified)),
        }
    }

    fn row(id: i64, state: LoadState, object: ObjectVersion) -> LoadRow {
        LoadRow {
            id,
            run_id: Uuid::nil(),
            pipeline: "p".into(),
            pipeline_hash: "h".into(),
            table: TableName::parse("public.t").unwrap(),
            table_oid: None,
            object,
            content_sha256: None,
            state,
            started_at: Timestamp(0),
            finished_at: None,
            counts: Counts::default(),
            bytes: 0,
            runner_version: "0".into(),
            first_error: None,
            permanent: true,
            replaced_by: None,
            note: serde_json::Value::Null,
            splits: None,
        }
    }

    #[test]
    fn a_balance_holds_only_when_every_record_is_accounted_for() {
        let counts = Counts { read: 10, loaded: 6, rejected: 2, filtered: 1, duplicates: 1, skipped: 99 };
        assert!(counts.balance_holds());
        assert!(!Counts { loaded: 5, ..counts }.balance_holds());
        assert!(!Counts { loaded: u64::MAX, ..counts }.balance_holds());
    }

    #[test]
    fn timestamps_print_as_rfc_3339_and_read_back() {
        let leap_day = Timestamp(1_709_210_096_789_012);
        assert_eq!(leap_day.to_string(), "2024-02-29T12:34:56.789012Z");
        for micros in [0, 1, -1, leap_day.0, -62_135_596_800_000_000, 253_402_200_000_999_999] {
            assert_eq!(Timestamp::parse(&Timestamp(micros).to_string()), Some(Timestamp(micros)));
        }
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::parse("2024-02-29 12:34:56"), None);
    }

    #[test]
    fn states_read_back_as_they_are_written() {
        for state in LoadState::ALL {
            assert_eq!(LoadState::parse(state.as_str()), Some(state));
        }
        assert_eq!(LoadState::parse("Loaded"), None);
    }

    #[test]
    fn the_same_bytes_are_loaded_once_however_the_store_names_them() {
        let mut first = object("v1", 1);
        first.etag = Some("e".into());
        let mut copied = object("v2", 2);
        copied.etag = Some("e".into());
        let history = [row(1, LoadState::Loaded, first.clone())];
        let loaded = Standing::Loaded { load: &history[0], pipeline_changed: false };
        assert_eq!(standing(&history, &first, "h"), loaded);
        assert_eq!(standing(&history, &copied, "h"), loaded);
        let changed = Standing::Loaded { load: &history[0], pipeline_changed: true };
        assert_eq!(standing(&history, &first, "other"), changed);
    }

    #[test]
    fn a_newer_version_is_a_change_and_an_older_one_is_not() {
        let history = [row(1, LoadState::Loaded, object("v2", 5))];
        assert_eq!(standing(&history, &object("v3", 6), "h"), Standing::Changed { loaded: &history[0] });
        assert_eq!(standing(&history, &object("v1", 4), "h"), Standing::Older { loaded: &history[0] });
    }

    #[test]
    fn a_load_whose_splits_are_not_all_in_is_unfinished_whatever_the_object_is_now() {
        let history = [row(1, LoadState::Failed, object("v1", 1)), row(2, LoadState::Loading, object("v1", 1))];
        for version in ["v1", "v2"] {
            assert_eq!(standing(&history, &object(version, 3), "h"), Standing::Unfinished(&history[1]));
        }
    }

    #[test]
    fn undone_and_permanently_failed_loads_are_left_alone() {
        let undone = [row(1, LoadState::Undone, object("v1", 1))];
        assert_eq!(standing(&undone, &object("v1", 1), "h"), Standing::Undone(&undone[0]));
        let failed = [row(1, LoadState::Failed, object("v1", 1))];
        assert_eq!(standing(&failed, &object("v1", 1), "h"), Standing::Failed(&failed[0]));
        assert_eq!(standing(&failed, &object("v1", 1), "another pipeline"), Standing::New);
        assert_eq!(standing(&failed, &object("v2", 1), "h"), Standing::New);
        let passing = [LoadRow { permanent: false, ..failed[0].clone() }];
        assert_eq!(standing(&passing, &object("v1", 1), "h"), Standing::New);
    }
}
