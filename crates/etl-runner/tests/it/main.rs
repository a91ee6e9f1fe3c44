//! What the library and the binary promise, against real servers.

#![expect(clippy::unwrap_used, reason = "what fails in a test's own steps stops the test")]

mod chaos;
mod cli;
mod crash;
mod database;
mod disk;
mod exact;
mod hostile;
mod parallel;
mod pooler;
mod replay;
mod sameness;
mod silence;
mod types;
mod upsert;

use std::process::Output;

/// All that a program said.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
