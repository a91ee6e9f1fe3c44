//! `log-shipper`: ships a host's logs and metrics to CloudWatch.
//!
//! Reads flags, starts logging, turns the outcome into an exit code (the table is in `--help`). The work is in the library,
//! where tests can reach it; here is what a person types and sees.

mod commands;
mod memory;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use cli::{Exit, Flags};

// musl's own allocator is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXITS: &str = "\
Exit codes:
    0  done; after a signal: stopped, and what was not accepted is kept for the next start or set aside
    1  failed
    2  wrong usage, or a mistake in the configuration
    4  check: credentials missing or wrong, or no permission
   75  another log-shipper uses the same state";

/// Ships a host's logs and metrics to CloudWatch
#[derive(Debug, Parser)]
#[command(name = "log-shipper", version)]
#[command(after_long_help = EXITS)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ship until SIGTERM or SIGINT; then send what was read, and keep the rest for the next start
    Run {
        /// The configuration, in TOML
        config: PathBuf,
    },
    /// Find mistakes in a configuration, show what goes where, and try each right once
    Check {
        /// The configuration, in TOML
        config: PathBuf,
        /// Look at the file and at this host only; call no service
        #[arg(long)]
        offline: bool,
    },
    /// Show what a log-shipper has done, what waits, and what is in its way
    Status {
        /// The configuration it runs with, in TOML
        config: PathBuf,
    },
    /// Turn a configuration of the CloudWatch agent into one of log-shipper, and say what has no equal
    ImportCwagent {
        /// The agent's configuration, in JSON; `-` is the standard input
        file: PathBuf,
    },
    /// Print the completions of a shell
    Completions {
        #[arg(value_enum)]
        shell: cli::Shell,
    },
}

fn main() -> ExitCode {
    let arguments: Arguments = cli::parse("log-shipper"); // exits 2 by itself, before anything is opened
    arguments.flags.init_logging();
    let terminal = arguments.flags.terminal();
    let done = match &arguments.command {
        Command::Run { config } => commands::run(config),
        Command::Check { config, offline } => commands::check(config, *offline, terminal),
        Command::Status { config } => commands::status(config, terminal),
        Command::ImportCwagent { file } => commands::import_cwagent(file, terminal),
        Command::Completions { shell } => commands::completions(*shell, Arguments::command(), terminal),
    };
    match done {
        Ok(()) => Exit::Done.into(),
        Err((exit, screens)) => {
            screens.iter().for_each(|screen| screen.show(terminal.err));
            exit.into()
        }
    }
}
