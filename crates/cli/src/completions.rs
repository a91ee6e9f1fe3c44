//! Shell completions.

use std::io;

use clap_complete::Shell;

use crate::print::print;

/// Writes the completion script of `command` to stdout.
pub fn print_completions(shell: Shell, mut command: clap::Command) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    // Into memory first: the generator panics when its writer fails.
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(String::from_utf8_lossy(&script))
}
