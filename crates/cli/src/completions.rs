//! Shell completions.

use std::io;

use clap_complete::Shell;
use serde::Serialize;

use crate::exit::Exit;
use crate::json::print_json;
use crate::print::print;

#[derive(Serialize)]
struct Document<'a> {
    exit: u8,
    shell: String,
    script: &'a str,
}

/// Writes the completion script of `command` to stdout, or as a document of the command called `document`.
pub fn print_completions(shell: Shell, mut command: clap::Command, document: Option<&str>) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    // Into memory first: the generator panics when its writer fails.
    clap_complete::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script);
    match document {
        Some(name) => {
            print_json(name, &Document { exit: Exit::Done.code(), shell: shell.to_string(), script: &script })
        }
        None => print(script),
    }
}
