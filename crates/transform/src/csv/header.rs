//! The record that names the columns.

use super::{Block, Decoded, Decoder, Grammar, LastRecord};
use crate::reject::Reason;

/// Why an object's first record is no header.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    #[error("line {line}: the header holds bytes that are not {encoding}")]
    Encoding { line: u64, encoding: &'static str },
    #[error("line {line}: a quote in the header does not close, or text follows a closing quote")]
    Quote { line: u64 },
    #[error("line {line}: the header is longer than limits.record")]
    TooLong { line: u64 },
    #[error("line {line}: the header has {found} columns, limits.columns is {limit}")]
    TooManyColumns { line: u64, found: usize, limit: usize },
}

/// The labels in `block`, `None` when it holds blank and comment lines only; and how many of those come first.
pub fn read_header(block: &Block, grammar: Grammar, columns: usize) -> Result<(Option<Vec<String>>, u64), HeaderError> {
    let line = block.line;
    if block.last != LastRecord::Whole {
        return Err(HeaderError::TooLong { line });
    }
    let Some(text) = block.encoding.decode(&block.bytes) else {
        return Err(HeaderError::Encoding { line, encoding: block.encoding.name() });
    };
    let mut decoder = Decoder::new(grammar);
    let mut skipped = 0;
    loop {
        match decoder.next(&text) {
            Decoded::End => return Ok((None, skipped)),
            Decoded::Skipped => skipped += 1,
            Decoded::Record { start, fault, .. } => {
                let line = line + super::count_line_ends(&text.as_bytes()[..start]);
                if let Some(reason) = fault {
                    debug_assert!(matches!(reason, Reason::UnclosedQuote | Reason::TextAfterQuote));
                    return Err(HeaderError::Quote { line });
                }
                if decoder.len() > columns {
                    return Err(HeaderError::TooManyColumns { line, found: decoder.len(), limit: columns });
                }
                let labels = (0..decoder.len()).map(|i| decoder.field(&text, i).to_owned()).collect();
                return Ok((Some(labels), skipped));
            }
        }
    }
}
