//! Writing to the two streams without a panic when the reader has gone.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a result to stdout. A reader that closed the pipe (`| head`) has seen what it wanted: that is no error.
/// Any other failure, such as a full disk behind `> file`, is.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if is_closed_pipe(&error) => Ok(()),
        written => written,
    }
}

/// Writes a message to stderr. With nobody to read it, there is nobody to tell either.
pub fn print_message(text: impl Display) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{text}").and_then(|()| err.flush());
}

/// Whether a write failed because the reader has gone.
pub fn is_closed_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
