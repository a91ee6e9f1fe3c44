//! Flags and environment. The doc comments are the help text.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{Exit, Shell};
use etl_runner::database::{ConfigError, DatabaseConfig, Given, SecretText};
use etl_runner::ledger::{LoadState, Timestamp};
use objects::StoreUrl;

/// Where objects are when nobody says otherwise: a laptop needs no account.
const DEFAULT_STORE: &str = "./.aqueduct/store";
/// More threads than this only wait for the database.
const MOST_WORKERS: usize = 64;

const EXAMPLES: &str = "\
Examples:
  etl-runner run pipelines/*.toml
  etl-runner run pipelines/customers.toml export.csv
  etl-runner check pipelines/customers.toml
  etl-runner loads --table customers
  etl-runner rejects export 2 -o rejects.csv
  etl-runner verify

Where things are: the store is --store or AQUEDUCT_STORE, by default ./.aqueduct/store. The database is --database or \
DATABASE_URL (with PG* and ~/.pgpass), by default sqlite:./.aqueduct/warehouse.db; DATABASE_SECRET names a secret in \
AWS Secrets Manager that holds user and password. AQUEDUCT_LOG_FORMAT=json makes log lines JSON, and each finished \
load one line of CloudWatch metrics.

";

const EXITS: [Exit; 10] = Exit::ALL;

/// Loads CSV files into PostgreSQL or SQLite: checked, cleaned, once, with every refused record explained.
#[derive(Debug, Parser)]
#[command(name = "etl-runner", version, after_help = format!("{EXAMPLES}{}", Exit::help(&EXITS)))]
pub(crate) struct Config {
    #[command(flatten)]
    pub(crate) flags: cli::Flags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Check(Check),
    Setup(Setup),
    Ddl(Ddl),
    Loads(Loads),
    Show(Show),
    /// Look at the records that were set aside
    #[command(subcommand)]
    Rejects(Rejects),
    Verify(Verify),
    Undo(Undo),
    /// Print the completion script of a shell
    #[command(after_help = "\
Example:
  etl-runner completions bash > /etc/bash_completion.d/etl-runner")]
    Completions {
        shell: Shell,
    },
}

impl Command {
    /// What names the database, where a command has one.
    pub(crate) fn database(&self) -> Option<&DatabaseFlag> {
        match self {
            Self::Run(args) => Some(&args.database),
            Self::Check(args) => Some(&args.database),
            Self::Setup(args) => Some(&args.database),
            Self::Ddl(args) => Some(&args.database),
            Self::Loads(args) => Some(&args.database),
            Self::Show(args) => Some(&args.database),
            Self::Rejects(Rejects::List(args)) => Some(&args.database),
            Self::Rejects(Rejects::Export(args)) => Some(&args.database),
            Self::Rejects(Rejects::Replay(args)) => Some(&args.database),
            Self::Rejects(Rejects::Purge(args)) => Some(&args.database),
            Self::Verify(args) => Some(&args.database),
            Self::Undo(args) => Some(&args.database),
            Self::Completions { .. } => None,
        }
    }

    /// What names the store, where a command has one.
    pub(crate) fn store(&self) -> Option<&StoreFlag> {
        match self {
            Self::Run(args) => Some(&args.store),
            Self::Check(args) => Some(&args.store),
            _ => None,
        }
    }

    /// For the JSON document.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "etl-runner run",
            Self::Check(_) => "etl-runner check",
            Self::Setup(_) => "etl-runner setup",
            Self::Ddl(_) => "etl-runner ddl",
            Self::Loads(_) => "etl-runner loads",
            Self::Show(_) => "etl-runner show",
            Self::Rejects(Rejects::List(_)) => "etl-runner rejects list",
            Self::Rejects(Rejects::Export(_)) => "etl-runner rejects export",
            Self::Rejects(Rejects::Replay(_)) => "etl-runner rejects replay",
            Self::Rejects(Rejects::Purge(_)) => "etl-runner rejects purge",
            Self::Verify(_) => "etl-runner verify",
            Self::Undo(_) => "etl-runner undo",
            Self::Completions { .. } => "etl-runner completions",
        }
    }
}

/// Load what is new in the store, or one local file
///
/// Every object that matches a pipeline's source.path and is not in its table yet is loaded, oldest first. An object is
/// loaded whole or not at all, and never twice: running the same command again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner run pipelines/*.toml                               everything that is new
  etl-runner run pipelines/customers.toml export.csv            a local file, without a store
  etl-runner run pipelines/customers.toml --object customers/2026-01-31.csv
  etl-runner run pipelines/customers.toml --dry-run             all checks, no rows
  etl-runner run pipelines/customers.toml --reload --object customers/2026-01-31.csv
  etl-runner run pipelines/customers.toml --since 7d --limit 10
  etl-runner run pipelines/customers.toml --parallel 4          large files on four connections
  etl-runner run pipelines/*.toml --retry-for 10m               through a restart or failover of the database

Exit codes: one object that fails gives its own code (3 for its data); several objects of which some failed give 5, \
or 75 when all failures may pass by themselves; an object left alone because it failed before gives 3; what would fail every object (no connection, no permission, a table of another shape) ends the run with its code.")]
pub(crate) struct Run {
    /// Pipeline files (they end in .toml), and the local files to load through a single one
    #[arg(required = true, value_name = "PIPELINE|FILE")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Load this object only; the key is taken as it is, not as a pattern
    #[arg(long, value_name = "KEY", conflicts_with_all = ["since", "limit"])]
    pub(crate) object: Option<String>,
    /// Leave out objects last modified before: 90m, 12h, 7d, 2w, or a day such as 2026-01-31 (UTC)
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Load again what is loaded, was undone or failed; its old rows go in the same transaction
    #[arg(long)]
    pub(crate) reload: bool,
    /// Read, check and transform everything, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Load at most so many objects of each pipeline
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Threads that transform [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<usize>,
    /// Load splits of a large object on N connections at once; PostgreSQL, mode append with lineage
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) parallel: Option<u8>,
    /// Try again for so long after what may pass by itself, such as a lost connection: 30s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s", hide_default_value = true)]
    pub(crate) retry_for: Duration,
    #[command(flatten)]
    pub(crate) store: StoreFlag,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Say whether a run would work: file, store, database, table
///
/// Looks at everything and changes nothing. Lists all that is wrong, with the statements that put a table right.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner check pipelines/*.toml
  etl-runner check pipelines/customers.toml --store s3://my-bucket --json

Exit codes: 0 a run can start; 2 a mistake in a pipeline file; 4 credentials or permission; 1 anything else that \
stays; 75 only what may pass by itself.")]
pub(crate) struct Check {
    /// Pipeline files
    #[arg(required = true, value_name = "PIPELINE")]
    pub(crate) pipelines: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreFlag,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Make the ledger, and the roles that may use it
///
/// A run makes the ledger by itself where it may. This is for databases where it may not: run it once with an
/// administrator's credentials, or give the SQL to one. Doing it again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner setup
  etl-runner setup --app-role aqueduct_app --read-role aqueduct_read
  etl-runner setup --print --app-role > setup.sql")]
pub(crate) struct Setup {
    /// Print the SQL for PostgreSQL instead of running it; connects to nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// A role that may load: its members write the ledger
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "aqueduct_app")]
    pub(crate) app_role: Option<String>,
    /// A role that may look: its members read the ledger, but no raw bytes of rejects
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "aqueduct_read")]
    pub(crate) read_role: Option<String>,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Print the SQL that makes a pipeline's table
///
/// It is what a run executes when the table is missing and create = true.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner ddl pipelines/customers.toml --postgres
  etl-runner ddl pipelines/customers.toml --sqlite | sqlite3 warehouse.db")]
pub(crate) struct Ddl {
    /// The pipeline file
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
    /// For SQLite
    #[arg(long, conflicts_with = "postgres")]
    pub(crate) sqlite: bool,
    /// For PostgreSQL
    #[arg(long)]
    pub(crate) postgres: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// List loads, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner loads
  etl-runner loads --table customers --state failed
  etl-runner loads --limit 1000 --json | jq '.loads[].counts'")]
pub(crate) struct Loads {
    /// Of the pipeline with this name
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
    /// Into this table
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// In this state: loading, loaded, replaced, superseded, undone, failed; may be given several times
    #[arg(long, value_name = "STATE", value_parser = load_state)]
    pub(crate) state: Vec<LoadState>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Show all that is known of a load
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner show 2
  etl-runner show 2 --json | jq .load.note")]
pub(crate) struct Show {
    /// Its number, as `etl-runner loads` lists it
    #[arg(value_name = "LOAD")]
    pub(crate) load: i64,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rejects {
    List(RejectsList),
    Export(RejectsExport),
    Replay(RejectsReplay),
    Purge(RejectsPurge),
}

/// List rejects with file, line, field and reason
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner rejects list
  etl-runner rejects list 2 --limit 1000")]
pub(crate) struct RejectsList {
    /// The load; without it, all loads whose rows are in a table
    #[arg(value_name = "LOAD")]
    pub(crate) load: Option<i64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Write rejects with their exact records as CSV or JSON lines
///
/// The column raw holds the record: as text where its bytes are some in the object's encoding (encoding says utf-8), else
/// as base64. Mend it there, and give the file to rejects replay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner rejects export 2 > rejects.csv
  etl-runner rejects export 2 --format jsonl | jq .raw
  etl-runner rejects export -o rejects.csv --spreadsheet-safe")]
pub(crate) struct RejectsExport {
    /// The load; without it, all loads whose rows are in a table
    #[arg(value_name = "LOAD")]
    pub(crate) load: Option<i64>,
    /// How to write them
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ExportFormat,
    /// Where to write them; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// Put ' before texts that a spreadsheet would run as a formula; a replay takes it off again (encoding says utf-8-safe)
    #[arg(long)]
    pub(crate) spreadsheet_safe: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Bring rejects into their table, mended or under a mended pipeline
///
/// Without a file: the records as they were, which come in when the pipeline or the table was changed. With a file as
/// rejects export writes it: what its column raw holds now. Rows get the number of their load and of their record, as if
/// they had been right from the beginning; what came in is no reject any more, so doing it again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner rejects export 2 -o rejects.csv        and mend the column raw
  etl-runner rejects replay pipelines/customers.toml rejects.csv
  etl-runner rejects replay pipelines/customers.toml --load 2       after a change of the pipeline

Exit code 3 when some are still refused; the others are in.")]
pub(crate) struct RejectsReplay {
    /// The pipeline file that loaded them
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
    /// Mended records, as CSV or JSON lines; - is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Only those of this load
    #[arg(long, value_name = "LOAD")]
    pub(crate) load: Option<i64>,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Delete old rejects with their records from the ledger
///
/// What a load counted stays, and verify knows how many are gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner rejects purge --older-than 90d
  etl-runner rejects purge --older-than 2026-01-31 --dry-run")]
pub(crate) struct RejectsPurge {
    /// Those of loads that ended before: 12h, 90d, 2w ago, or a day such as 2026-01-31 (UTC)
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub(crate) older_than: Since,
    /// Only count them
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    #[default]
    Csv,
    Jsonl,
}

/// Count everything again and compare it with the ledger
///
/// Rows by the load they came with, rejects, the balance of each load; and the object's bytes, as long as the store
/// still has that version.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner verify
  etl-runner verify 2
  etl-runner verify --no-objects        without reading objects again

Exit code 6 when something differs.")]
pub(crate) struct Verify {
    /// The load; without it, all loads whose rows are in a table
    #[arg(value_name = "LOAD")]
    pub(crate) load: Option<i64>,
    /// Do not read the objects again
    #[arg(long)]
    pub(crate) no_objects: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

/// Take one load back: its rows are deleted, and a plain run leaves its object alone
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  etl-runner undo 2
  etl-runner run pipelines/customers.toml --reload --object customers/2026-01-31.csv      to bring it back")]
pub(crate) struct Undo {
    /// Its number, as `etl-runner loads` lists it
    #[arg(value_name = "LOAD")]
    pub(crate) load: i64,
    #[command(flatten)]
    pub(crate) database: DatabaseFlag,
}

#[derive(Debug, Args)]
pub(crate) struct StoreFlag {
    /// Where objects are: s3://bucket[/prefix] or a directory
    #[arg(long, env = "AQUEDUCT_STORE", value_name = "URL", default_value = DEFAULT_STORE)]
    pub(crate) store: StoreUrl,
}

#[derive(Debug, Args)]
pub(crate) struct DatabaseFlag {
    /// postgres://user@host/database or sqlite:PATH; a URL with a password goes into DATABASE_URL
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}

impl StoreFlag {
    /// The store, unless the same command without the flag has it, too.
    pub(crate) fn given(&self) -> Option<String> {
        let otherwise = std::env::var("AQUEDUCT_STORE").unwrap_or_else(|_| DEFAULT_STORE.to_owned());
        let is_other =
            otherwise.parse::<StoreUrl>().ok().is_none_or(|other| other.to_string() != self.store.to_string());
        is_other.then(|| self.store.to_string())
    }
}

impl DatabaseFlag {
    /// Flag beats environment beats default. The environment is read here and not by clap, which would show it.
    pub(crate) fn resolve(&self) -> Result<DatabaseConfig, ConfigError> {
        let url = std::env::var("DATABASE_URL").ok().map(SecretText::new);
        let secret = std::env::var("DATABASE_SECRET").ok();
        DatabaseConfig::new(Given { flag: self.database.as_deref(), url: url.as_ref(), secret: secret.as_deref() })
    }
}

/// A moment, or one that lies so long back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    pub(crate) fn before(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::At(Timestamp(micros)) => {
                SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
            }
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    let wrong = || "write 90m, 12h, 7d, 2w, or a day such as 2026-01-31".to_owned();
    if text.len() == 10 && text.contains('-') {
        let day = Timestamp::parse(&format!("{text}T00:00:00.000000Z")).ok_or_else(wrong)?;
        // 31 February reads as a day in March, and prints as one.
        return if day.to_string().starts_with(text) { Ok(Since::At(day)) } else { Err("there is no such day".into()) };
    }
    time(text).map(Since::Ago).ok_or_else(wrong)
}

fn duration(text: &str) -> Result<Duration, String> {
    time(text).ok_or_else(|| "write 30s, 10m or 2h".into())
}

/// A number and a unit.
fn time(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers) if (1..=MOST_WORKERS).contains(&workers) => Ok(workers),
        _ => Err(format!("write a number from 1 to {MOST_WORKERS}")),
    }
}

fn load_state(text: &str) -> Result<LoadState, String> {
    LoadState::parse(text).ok_or_else(|| {
        let known = LoadState::ALL.into_iter();
        format!("states are {}", known.map(LoadState::as_str).collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_and_help_fit_together() {
        Config::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn visit(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.has_subcommands() || help.contains("etl-runner "), "{}", command.get_name());
            command.get_subcommands().for_each(visit);
        }
        visit(&Config::command());
    }

    #[test]
    fn a_time_to_try_again_is_a_number_and_a_unit() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "10", "m", "-1s", "1.5h", "10 m", "99999999999999999999w", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn since_takes_a_while_or_a_day() {
        let hours = |hours: u64| Ok(Since::Ago(Duration::from_secs(hours * 3_600)));
        assert_eq!(since("12h"), hours(12));
        assert_eq!(since("7d"), hours(7 * 24));
        assert_eq!(since("2w"), hours(14 * 24));
        assert_eq!(since("1970-01-02"), Ok(Since::At(Timestamp(86_400_000_000))));
        for wrong in ["", "7", "d", "-1d", "7 d", "7y", "2026-02-31", "99999999999999999999d", "2026-1-1", "7é"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_state_of_the_ledger_can_be_asked_for() {
        for state in LoadState::ALL {
            assert_eq!(load_state(state.as_str()), Ok(state));
        }
        assert!(load_state("running").unwrap_err().contains("loading, loaded"));
    }

    #[test]
    fn contradicting_flags_are_wrong_usage() {
        let parse = |line: &str| Config::try_parse_from(line.split_whitespace()).is_ok();
        assert!(parse("etl-runner run a.toml --object k"));
        assert!(!parse("etl-runner run a.toml --object k --limit 3"));
        assert!(!parse("etl-runner run"));
        assert!(!parse("etl-runner ddl a.toml --sqlite --postgres"));
        assert!(!parse("etl-runner run a.toml --workers 0"));
        assert!(parse("etl-runner setup --print --app-role"));
    }
}
