//! `etl-runner`: carries objects of the store through their pipelines into a database.
//!
//! Reads flags, starts logging, turns the outcome into an exit code (the table is in `--help`). What it decides about
//! data it decides in the library, where tests can reach it; here is what a person types and sees.

mod commands;
mod config;

use std::process::ExitCode;

// musl's own allocator is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config: config::Config = cli::parse("etl-runner"); // exits 2 by itself, before anything is opened
    config.flags.init_logging();
    commands::execute(&config).into()
}
