//! What every binary shares with the person at the terminal: exit codes, escaping, colour, error screens, progress,
//! the JSON envelope, completions, logging.
//!
//! Used by binaries only: a library returns values and errors, and leaves it to its binary how they are shown. Knows
//! nothing of objects, CSV or databases, and listens to signals only where it is asked to: what an interruption means is
//! the binary's to say.
//!
//! # Streams
//! Results go to stdout, everything else to stderr, so that `ingest check … --json | jq` sees one document and the
//! person still sees the messages. A reader that closes the pipe early ends the output quietly.

mod arguments;
mod color;
mod completions;
mod escape;
mod exit;
mod flags;
pub mod human;
mod json;
mod log;
mod print;
mod progress;
mod screen;
mod signals;

pub use arguments::parse;
pub use clap_complete::Shell;
pub use color::{Color, Style};
pub use completions::print_completions;
pub use escape::{Escaped, escape, escape_bytes, escape_path, shell_word};
pub use exit::Exit;
pub use flags::{Flags, Terminal};
pub use json::{SCHEMA, document, print_json};
pub use log::init_logging;
pub use print::{is_closed_pipe, print, print_message};
pub use progress::Progress;
pub use screen::Screen;
pub use signals::Signals;
