//! What a run tells: one report per object, as data. How it looks on a terminal is the bin's matter.

use cli::Exit;
use serde::Serialize;
use transform::pipeline::Mode;

use crate::error::{LoadError, WITHOUT_LINEAGE};
use crate::ledger::{Counts, RejectLine};
use crate::retry::MayPass;

/// What became of one object.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    pub pipeline: String,
    /// As `schema.table`, unquoted.
    pub table: String,
    /// Full URI of the object.
    pub object: String,
    /// Below the store's prefix, as people name it.
    pub key: String,
    pub version: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Whether `--reload` is there for objects of this pipeline. Without lineage it is not.
    #[serde(skip)]
    pub can_reload: bool,
    pub counts: Counts,
    /// Bytes read, after decompression.
    pub bytes: u64,
    pub seconds: f64,
    /// Rejects by code and field, the most frequent first.
    pub reject_totals: Vec<RejectTotal>,
    /// The first rejects, in file order.
    pub first_rejects: Vec<RejectLine>,
    /// What a person should know though nothing is wrong: a guessed delimiter, ignored columns, a table that was made.
    pub notes: Vec<String>,
}

/// How it ended.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Committed.
    Loaded { load: i64 },
    /// Everything but committed: `--dry-run`.
    WouldLoad,
    /// This version is in the table already; nothing was done.
    AlreadyLoaded {
        load: i64,
        /// The pipeline is another since: the rows are as the old one made them until `--reload`.
        pipeline_changed: bool,
    },
    /// The same bytes under a new version; nothing was done.
    SameBytes { load: i64 },
    /// Left alone, for the reason given.
    Skipped { reason: SkipReason, load: i64 },
    /// Nothing of it is in the table.
    Failed {
        /// The error and its causes.
        error: String,
        help: Vec<String>,
        #[serde(serialize_with = "exit_code")]
        exit: Exit,
        /// What is wrong is not this object's: the next one would fail the same way.
        concerns_all: bool,
        /// Waiting may help.
        #[serde(skip)]
        may_pass: bool,
        /// A later run tries it again: until then no newer object may be upserted.
        #[serde(skip)]
        comes_first: bool,
        /// The row it left in the ledger.
        load: Option<i64>,
    },
}

fn exit_code<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.code())
}

impl Outcome {
    pub(crate) fn failed(error: &LoadError, load: Option<i64>) -> Self {
        Self::Failed {
            error: error.chain(),
            help: error.help(),
            exit: error.exit(),
            concerns_all: error.concerns_all(),
            may_pass: error.may_pass(),
            comes_first: error.comes_first(),
            load,
        }
    }

    /// Whether the next object is not to be tried after this one, in this mode.
    pub fn ends_run(&self, mode: Mode) -> bool {
        match self {
            Self::Failed { concerns_all: true, .. } => true,
            Self::Failed { comes_first: true, .. } => mode == Mode::Upsert,
            _ => false,
        }
    }

    /// The exit code a run of this object alone ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Failed { exit, .. } => *exit,
            Self::Loaded { .. }
            | Self::WouldLoad
            | Self::AlreadyLoaded { .. }
            | Self::SameBytes { .. }
            | Self::Skipped { .. } => Exit::Done,
        }
    }
}

/// Why a plain `run` leaves an object alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// It was taken back by `undo`.
    Undone,
    /// It failed for a cause that stays, under this very pipeline.
    Failed,
    /// A newer version is loaded.
    Superseded,
    /// Mode `replace`: a newer object fills the table.
    NewerObject,
    /// Its bytes changed and the pipeline says `on_change = "ignore"`.
    Changed,
}

impl SkipReason {
    /// What happened, and what to do.
    fn explain(self, can_reload: bool) -> String {
        const IGNORED: &str = "its bytes changed and the pipeline says on_change = \"ignore\"";
        match (self, can_reload) {
            (Self::Undone, true) => "it was undone; `--reload` loads it again".into(),
            (Self::Undone, false) => {
                "it was undone; with lineage = true under [target], `--reload` loads it again".into()
            }
            (Self::Failed, true) => {
                "it failed before under this same pipeline; change one of the two, or use `--reload`".into()
            }
            (Self::Failed, false) => "it failed before under this same pipeline; change one of the two".into(),
            (Self::Superseded, _) => "a newer version of it is loaded".into(),
            (Self::NewerObject, _) => "a newer object fills the table; `--reload` puts this one in its place".into(),
            (Self::Changed, true) => format!("{IGNORED}; `--reload` loads them"),
            (Self::Changed, false) => format!("{IGNORED}; to load them, {WITHOUT_LINEAGE}"),
        }
    }
}

impl LoadReport {
    /// Why the object was left alone, or is not as the pipeline would load it now, and what to do.
    pub fn explain(&self) -> Option<String> {
        match &self.outcome {
            Outcome::AlreadyLoaded { pipeline_changed: true, .. } => {
                let what = "the pipeline has changed since";
                Some(match self.can_reload {
                    true => format!("{what}; `--reload` loads it by the new one"),
                    false => format!("{what}; to load it by the new one, {WITHOUT_LINEAGE}"),
                })
            }
            Outcome::Skipped { reason, .. } => Some(reason.explain(self.can_reload)),
            Outcome::Loaded { .. }
            | Outcome::WouldLoad
            | Outcome::AlreadyLoaded { .. }
            | Outcome::SameBytes { .. }
            | Outcome::Failed { .. } => None,
        }
    }
}

/// How often one code stood against one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectTotal {
    pub code: &'static str,
    pub field: Option<String>,
    pub count: u64,
}
