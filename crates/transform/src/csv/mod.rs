//! Our one CSV grammar: [`Cutter`] finds where records end, [`Decoder`] finds their fields.
//!
//! RFC 4180 with what real files need, stated once for both:
//!
//! - A record ends at LF, CRLF or CR outside quotes, or at the end of the object. A line without a byte is blank: it is
//!   skipped, like a line that starts with the dialect's comment character.
//! - A quote opens a quoted field only as the first character of a field (after spaces when `skipInitialSpace`);
//!   elsewhere it is text. Inside, a doubled quote (or an escaped character) stands for itself.
//! - After the closing quote comes a delimiter, a line end or the end of the object. Anything else is a fault of the
//!   record, whose rest is read as unquoted text.
//! - **Runaway quotes.** A quoted field that does not close within `limits.record` or before the end of the object, or
//!   that closes in front of text on another line than its record starts on, was most likely opened by a stray quote. The record is then its first
//!   line alone, a reject, and reading resumes on the next line: one stray quote costs one line, not the file.
//! - A record longer than `limits.record` is a reject of its first line in the same way.
//! - A first line `sep=;` names the delimiter to spreadsheets. [`Opened`] takes it for that and skips it.

mod cut;
mod decode;
mod header;
mod open;
mod sniff;

pub use cut::{Block, Cutter, LastRecord, Position};
pub use decode::{Decoded, Decoder};
pub use header::{HeaderError, read_header};
pub use open::{Format, OpenError, Opened};
use sniff::{hinted_delimiter, sniff_delimiter};

use crate::pipeline::Dialect;

/// A dialect with its delimiter known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grammar {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) double_quote: bool,
    pub(crate) escape: Option<u8>,
    pub(crate) skip_initial_space: bool,
    pub(crate) comment: Option<u8>,
}

impl Grammar {
    /// `delimiter` stands in where the dialect names none.
    pub fn new(dialect: &Dialect, delimiter: u8) -> Self {
        Self {
            delimiter: dialect.delimiter.unwrap_or(delimiter),
            quote: dialect.quote,
            double_quote: dialect.double_quote,
            escape: dialect.escape,
            skip_initial_space: dialect.skip_initial_space,
            comment: dialect.comment,
        }
    }

    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Whether a quote at `at` opens a quoted field of the record that starts at `start`.
    #[inline]
    pub(crate) fn opens_field(&self, bytes: &[u8], start: usize, at: usize) -> bool {
        let before = &bytes[start..at];
        let before = if self.skip_initial_space {
            let spaces = before.iter().rev().take_while(|&&byte| byte == b' ' && byte != self.delimiter).count();
            &before[..before.len() - spaces]
        } else {
            before
        };
        before.last().is_none_or(|&byte| byte == self.delimiter)
    }
}

/// The end of the physical line that starts at or runs through `from`: its content's end and the next line's start.
/// `None` when the line does not end in `bytes`; a CR as the last byte counts as an end only when `complete`.
pub(crate) fn line_end(bytes: &[u8], from: usize, complete: bool) -> Option<(usize, usize)> {
    let at = from + memchr::memchr2(b'\n', b'\r', &bytes[from..])?;
    if bytes[at] == b'\n' {
        return Some((at, at + 1));
    }
    match bytes.get(at + 1) {
        Some(b'\n') => Some((at, at + 2)),
        Some(_) => Some((at, at + 1)),
        None if complete => Some((at, at + 1)),
        None => None,
    }
}

/// Physical lines that end in `bytes`, as an editor counts them.
pub(crate) fn count_line_ends(bytes: &[u8]) -> u64 {
    let feeds = memchr::memchr_iter(b'\n', bytes).count();
    let returns = memchr::memchr_iter(b'\r', bytes).filter(|&at| bytes.get(at + 1) != Some(&b'\n')).count();
    (feeds + returns) as u64
}

#[cfg(test)]
mod tests;
