//! Flags and environment. The doc comments are the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use cli::{Exit, Shell};
use objects::StoreUrl;

/// Where objects go when nobody says otherwise: a laptop needs no account.
const DEFAULT_STORE: &str = "./.aqueduct/store";

const EXAMPLES: &str = "\
Examples:
  ingest check export.csv --pipeline pipelines/customers.toml
  ingest upload export.csv --pipeline pipelines/customers.toml
  ingest upload 'exports/*.csv' --store s3://my-bucket --prefix customers --zstd
  unzip -p export.zip | ingest upload - --key today.csv --prefix customers
  ingest generate customers --rows 100000 --seed 1 --dirty 0.001 --out customers.csv

";

const EXITS: [Exit; 9] = [
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::DataGate,
    Exit::Denied,
    Exit::SomeFailed,
    Exit::Temporary,
    Exit::Interrupted,
    Exit::Terminated,
];

/// Checks local CSV files and puts them into the store.
#[derive(Debug, Parser)]
#[command(name = "ingest", version, about, after_help = format!("{EXAMPLES}{}", Exit::help(&EXITS)))]
pub(crate) struct Config {
    #[command(flatten)]
    pub(crate) flags: cli::Flags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Upload(Upload),
    Check(Check),
    Generate(Generate),
    /// Print the completion script of a shell
    Completions {
        shell: Shell,
    },
}

impl Command {
    /// For the JSON document.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Upload(_) => "ingest upload",
            Self::Check(_) => "ingest check",
            Self::Generate(_) => "ingest generate",
            Self::Completions { .. } => "ingest completions",
        }
    }
}

/// Put files into the store, checked by their pipeline first
///
/// A key is the prefix followed by the file's name, or by its path below the directory that was given. With a pipeline
/// and no prefix, the file goes where a run of that pipeline looks. Content that is there already is not sent again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ingest upload export.csv --pipeline pipelines/customers.toml
  ingest upload 'exports/*.csv' --store s3://my-bucket --prefix customers --zstd
  ingest upload exports/ --prefix customers --dry-run
  unzip -p export.zip | ingest upload - --key today.csv --prefix customers

Nothing of a file is stored when its pipeline rejects more records than errors.limit allows (exit 3).
One file's failure does not keep the others back (exit 5).")]
pub(crate) struct Upload {
    /// Files, directories (their CSV files, with those below), quoted patterns, or - for standard input
    #[arg(required = true, value_name = "PATH|GLOB|-")]
    pub(crate) paths: Vec<PathBuf>,
    /// Check each file with this pipeline, and store it where a run of it looks
    #[arg(long, value_name = "FILE")]
    pub(crate) pipeline: Option<PathBuf>,
    /// What keys start with, such as customers/
    #[arg(long)]
    pub(crate) prefix: Option<String>,
    /// Where objects go: s3://bucket[/prefix] or a directory
    #[arg(long, env = "AQUEDUCT_STORE", value_name = "URL", default_value = DEFAULT_STORE)]
    pub(crate) store: StoreUrl,
    /// The name to store a single file under; needed for standard input
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,
    /// Compress with gzip on the way; .gz is added to the key
    #[arg(long, conflicts_with = "zstd")]
    pub(crate) gzip: bool,
    /// Compress with zstd on the way; .zst is added to the key
    #[arg(long)]
    pub(crate) zstd: bool,
    /// Check everything and say what would be stored
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Store content again that is there already
    #[arg(long)]
    pub(crate) force: bool,
    /// Rejects shown for each file
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: usize,
}

/// Run the full transform over files: no upload, no database
///
/// Shows the same record rejects a run gives. Keys (primaryKey) are the database's to judge and are not checked here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ingest check export.csv --pipeline pipelines/customers.toml
  ingest check 'exports/*.csv.gz' --pipeline pipelines/customers.toml --limit 100
  ingest check export.csv --pipeline pipelines/customers.toml --json | jq '.files[0].reject_totals'

Exit 0 with the rejects within errors.limit of the pipeline, exit 3 beyond it or for a file that is no such CSV.")]
pub(crate) struct Check {
    /// Files, quoted patterns, or - for standard input
    #[arg(required = true, value_name = "PATH|GLOB|-")]
    pub(crate) paths: Vec<PathBuf>,
    /// The pipeline to check with
    #[arg(long, value_name = "FILE")]
    pub(crate) pipeline: PathBuf,
    /// Rejects shown for each file
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) limit: usize,
}

/// Write sample data: the same rows and seed give the same bytes everywhere
#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    Customers(Customers),
}

/// Customers of a bank, about 150 bytes a row, one in ten with a quoted note
///
/// The rows pass pipelines/customers.toml, but for the dirty ones: a date no calendar has, a balance that is no number,
/// a missing last field, a last name too long. With --json a summary says how many there are of each.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ingest generate customers --rows 1000 --seed 1 | head
  ingest generate customers --rows 500000 --seed 7 --dirty 0.001 --out customers.csv")]
pub(crate) struct Customers {
    /// How many rows, without the header
    #[arg(long)]
    pub(crate) rows: u64,
    /// Another seed gives other rows
    #[arg(long)]
    pub(crate) seed: u64,
    /// Share of rows with one defect, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub(crate) dirty: f64,
    /// Where to: a file, or - for standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) out: PathBuf,
}

fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a number from 0 to 1, such as 0.001"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_fit_together() {
        Config::command().debug_assert();
    }
}
