//! Why a load stopped, what its exit code is, whether it can help to try again, and what to type.

use std::error::Error;

use cli::Exit;
use objects::StoreError;
use tokio::task::JoinError;
use transform::csv::OpenError;
use transform::pipeline::Conflict;
use transform::{Pipeline, PlanError};

use crate::database::{DatabaseError, NameError, RefusalKind, ShapeProblem};
use crate::retry::MayPass;
use crate::stream::StreamError;

/// What to do to load again where nothing tells the rows of a load apart: only all of them can go.
pub(crate) const WITHOUT_LINEAGE: &str = "empty the table, set lineage = true under [target] and use `--reload`";

/// Why a load stopped. Nothing of it is in the table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the object is not what the pipeline expects")]
    Open(#[from] OpenError),
    #[error("the object is {0}")]
    NotCsv(&'static str),
    #[error("the object does not fit the pipeline")]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("there is no table {table} and the pipeline says create = false")]
    NoTable { table: String },
    #[error("the table {table} does not fit the pipeline")]
    Shape { table: String, problems: Vec<ShapeProblem> },
    #[error("more than {limit} rejects; the last one counted is record {record} on line {line}")]
    TooManyRejects { limit: u64, line: u64, record: u64, only_widths: bool },
    #[error("{rejected} of {read} records rejected, the limit is {limit} %")]
    TooManyRejectsPercent { limit: f64, read: u64, rejected: u64, only_widths: bool },
    #[error("no record of the object is kept, and mode = \"replace\" would leave {table} empty")]
    WouldEmpty { table: String, lineage: bool },
    /// The ledger says the rows are there; the table they went into is not.
    #[error("the ledger has load {load}, but the table {table} {what} since")]
    TableGone { load: i64, table: String, what: &'static str, can_reload: bool },
    #[error("the object's bytes changed since load {load}, and the pipeline says on_change = \"fail\"")]
    Changed { load: i64, can_reload: bool },
    #[error("load {load}, which it would take the place of, is an upsert: its rows may have come from other objects")]
    WasUpsert { load: i64 },
    #[error("it is older than the object of load {load}, and would put earlier values in the place of later ones")]
    OlderUpsert { load: i64 },
    /// The table has no key yet: the load that makes it on several connections is not over.
    #[error("load {load} makes the table {table} and is not finished")]
    TableUnfinished { load: i64, key: String, table: String },
    #[error("another process is loading it")]
    Busy,
    /// A load on several connections, taken back under our hands.
    #[error("another process gave the load up")]
    GivenUp,
    /// A bug of ours.
    #[error("a thread stopped unexpectedly")]
    Panicked(#[source] JoinError),
}

impl MayPass for LoadError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Database(error) => error.may_pass(),
            other => other.is_temporary(),
        }
    }
}

impl LoadError {
    /// The exit code of a run that ends with it.
    pub fn exit(&self) -> Exit {
        if self.is_temporary() {
            return Exit::Temporary;
        }
        if self.is_permission() {
            return Exit::Denied;
        }
        match self {
            Self::Open(OpenError::Read(_)) => Exit::Failed,
            Self::Open(_)
            | Self::NotCsv(_)
            | Self::Plan(_)
            | Self::TooManyRejects { .. }
            | Self::TooManyRejectsPercent { .. }
            | Self::WouldEmpty { .. }
            | Self::Changed { .. }
            | Self::WasUpsert { .. }
            | Self::OlderUpsert { .. } => Exit::DataGate,
            Self::Name(_) => Exit::Usage,
            Self::Store(_)
            | Self::Stream(_)
            | Self::Database(_)
            | Self::NoTable { .. }
            | Self::Shape { .. }
            | Self::TableGone { .. }
            | Self::TableUnfinished { .. }
            | Self::Busy
            | Self::GivenUp
            | Self::Panicked(_) => Exit::Failed,
        }
    }

    /// Whether the same load can succeed later with nobody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Open(OpenError::Read(error)) | Self::Stream(StreamError::Read(error)) => {
                store_error(error).is_some_and(StoreError::is_retryable)
            }
            Self::Database(error) => error.is_temporary(),
            Self::Busy | Self::GivenUp | Self::TableUnfinished { .. } => true,
            Self::Open(_)
            | Self::NotCsv(_)
            | Self::Plan(_)
            | Self::Stream(_)
            | Self::Name(_)
            | Self::NoTable { .. }
            | Self::Shape { .. }
            | Self::TooManyRejects { .. }
            | Self::TooManyRejectsPercent { .. }
            | Self::WouldEmpty { .. }
            | Self::TableGone { .. }
            | Self::Changed { .. }
            | Self::WasUpsert { .. }
            | Self::OlderUpsert { .. }
            | Self::Panicked(_) => false,
        }
    }

    /// Whether credentials or rights are what is missing.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Store(error) => error.is_permission(),
            Self::Open(OpenError::Read(error)) | Self::Stream(StreamError::Read(error)) => {
                store_error(error).is_some_and(StoreError::is_permission)
            }
            Self::Database(error) => error.is_permission(),
            Self::Open(_)
            | Self::NotCsv(_)
            | Self::Plan(_)
            | Self::Stream(_)
            | Self::Name(_)
            | Self::NoTable { .. }
            | Self::Shape { .. }
            | Self::TooManyRejects { .. }
            | Self::TooManyRejectsPercent { .. }
            | Self::WouldEmpty { .. }
            | Self::TableGone { .. }
            | Self::TableUnfinished { .. }
            | Self::Changed { .. }
            | Self::WasUpsert { .. }
            | Self::OlderUpsert { .. }
            | Self::Busy
            | Self::GivenUp
            | Self::Panicked(_) => false,
        }
    }

    /// Whether the same bytes under the same pipeline would fail again, so that a plain run need not try.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Open(OpenError::Read(_)) => false,
            Self::Store(StoreError::Decompress(_))
            | Self::Open(_)
            | Self::NotCsv(_)
            | Self::Plan(_)
            | Self::TooManyRejects { .. }
            | Self::TooManyRejectsPercent { .. }
            | Self::WouldEmpty { .. } => true,
            Self::Stream(StreamError::Read(error)) => matches!(store_error(error), Some(StoreError::Decompress(_))),
            Self::Database(error) => error.is_permanent(),
            Self::Store(_)
            | Self::Stream(_)
            | Self::Name(_)
            | Self::NoTable { .. }
            | Self::Shape { .. }
            | Self::TableGone { .. }
            | Self::TableUnfinished { .. }
            | Self::Changed { .. }
            | Self::WasUpsert { .. }
            | Self::OlderUpsert { .. }
            | Self::Busy
            | Self::GivenUp
            | Self::Panicked(_) => false,
        }
    }

    /// Whether a later run tries the object again, so that its values are to come before those of newer objects.
    pub(crate) fn comes_first(&self) -> bool {
        let stays = matches!(
            self,
            Self::OlderUpsert { .. }
                | Self::WasUpsert { .. }
                | Self::Changed { .. }
                | Self::Store(StoreError::NotFound { .. })
        );
        !stays && !self.is_permanent()
    }

    /// Whether the table refused rows that can be told apart from the others, and set aside.
    pub(crate) fn is_of_rows(&self, pipeline: &Pipeline) -> bool {
        match self {
            Self::Database(DatabaseError::Refused(refusal)) => {
                refusal.kind != RefusalKind::Unique || pipeline.target.conflict == Conflict::Reject
            }
            _ => false,
        }
    }

    /// Whether the next object would fail the same way: the network, the credentials, the table.
    pub fn concerns_all(&self) -> bool {
        match self {
            Self::Busy | Self::GivenUp | Self::Store(StoreError::ObjectChanged { .. }) => false,
            // A file's own rights; a bucket gives them to all of its objects.
            Self::Store(StoreError::AccessDenied { action, .. }) if !action.starts_with("s3:") => false,
            Self::Open(OpenError::Read(error)) | Self::Stream(StreamError::Read(error))
                if matches!(store_error(error), Some(StoreError::ObjectChanged { .. })) =>
            {
                false
            }
            Self::Shape { .. }
            | Self::NoTable { .. }
            | Self::TableGone { .. }
            | Self::Database(DatabaseError::ForeignNumbers { .. }) => true,
            _ => self.is_temporary() || self.is_permission(),
        }
    }

    /// What to try, most promising first. In commands between backquotes PIPELINE, OBJECT and LOAD stand for the file, the
    /// arguments that name the object, and the load's number, which only the caller knows.
    pub fn help(&self) -> Vec<String> {
        match self {
            Self::Open(OpenError::Encoding { found, .. }) => {
                vec![format!("write encoding = {:?} under [source] for such objects", found.to_lowercase())]
            }
            Self::Open(OpenError::Unmarked { found, .. }) => vec![unmarked_help(found)],
            Self::Open(OpenError::Delimiter { found, .. }) => {
                vec![format!("write delimiter = {:?} under [dialect], or leave the key out", found.to_string())]
            }
            Self::Plan(error @ PlanError::MissingLabels { .. }) => {
                let mut help = error.help();
                help.push(
                    "name a label with `from`, or allow it to be missing with missing_columns = \"null\" under [drift]"
                        .into(),
                );
                help
            }
            Self::Database(DatabaseError::Refused(refusal)) => vec![refusal.kind.help().into()],
            Self::Plan(PlanError::DuplicateLabel { .. }) => vec!["rename one of the two in the file".into()],
            Self::NoTable { table } => {
                vec![format!(
                    "make {table} with what `etl-runner ddl PIPELINE` prints, or set create = true under [target]"
                )]
            }
            Self::Shape { problems, .. } => problems.iter().map(ToString::to_string).collect(),
            Self::TooManyRejects { only_widths, .. } | Self::TooManyRejectsPercent { only_widths, .. } => {
                let mut help = vec!["`etl-runner rejects list LOAD` shows the first of them".into()];
                if *only_widths {
                    help.push(
                        "each has too few cells or too many: is the delimiter the right one, and is it a file of this \
                         table?"
                            .into(),
                    );
                }
                help.push("repair the file, or raise `limit` under [errors], and run again".into());
                help
            }
            Self::WouldEmpty { lineage: true, .. } => {
                vec!["if it should be empty, undo the load that fills it: `etl-runner loads` lists it".into()]
            }
            Self::WouldEmpty { lineage: false, .. } => vec!["delete the rows by hand if that is what you want".into()],
            Self::TableGone { can_reload: true, .. } => {
                vec!["`etl-runner run PIPELINE --reload` loads all objects again".into()]
            }
            Self::TableGone { can_reload: false, .. } => {
                vec![
                    "set lineage = true under [target], and `etl-runner run PIPELINE --reload` loads all objects again"
                        .into(),
                ]
            }
            Self::Changed { can_reload: true, .. } => {
                vec!["`etl-runner run PIPELINE OBJECT --reload` takes the new bytes".into()]
            }
            Self::Changed { can_reload: false, .. } => vec![format!("to take the new bytes, {WITHOUT_LINEAGE}")],
            Self::WasUpsert { .. } => {
                vec!["leave mode = \"upsert\" in [target], or empty the table and load it anew".into()]
            }
            Self::OlderUpsert { .. } => {
                vec!["`etl-runner run PIPELINE OBJECT --reload` upserts it all the same".into()]
            }
            Self::TableUnfinished { load, key, .. } => vec![
                format!("a run that finds the object {key:?} goes on with it"),
                format!("`etl-runner undo {load}` takes it back"),
            ],
            Self::Busy | Self::GivenUp => vec!["try again when the other run has ended".into()],
            Self::NotCsv(_)
            | Self::Store(_)
            | Self::Open(_)
            | Self::Stream(_)
            | Self::Database(_)
            | Self::Name(_)
            | Self::Plan(_) => Vec::new(),
            Self::Panicked(_) => vec!["this is a bug of etl-runner; nothing was loaded".into()],
        }
    }

    /// The error and its causes on one line, the unit a log search returns.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

/// What to do about text whose encoding shows in its zeros.
fn unmarked_help(found: &str) -> String {
    match found {
        "UTF-32" => "convert it to UTF-8 first, for example with iconv".into(),
        found => format!("write encoding = {:?} under [source] for such objects", found.to_lowercase()),
    }
}

/// The store's own error inside an error of reading.
fn store_error(error: &std::io::Error) -> Option<&StoreError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}
