//! `ingest`: checks local CSV files and puts them into the store.
//!
//! Reads flags, starts logging, turns the outcome into an exit code (the table is in `--help`). The work is in the
//! library, where tests can reach it; here is what a person types and sees.

mod commands;
mod config;
mod failure;
mod report;

use std::process::ExitCode;

// musl's own allocator is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config: config::Config = cli::parse("ingest"); // exits 2 by itself, before anything is opened
    config.flags.init_logging();
    let terminal = config.flags.terminal();
    let exit = commands::run(&config, terminal).unwrap_or_else(|failure| failure.show(terminal, config.command.name()));
    exit.into()
}
