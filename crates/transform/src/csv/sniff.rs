//! The delimiter a file names itself, or the guess for a dialect that names none.

use super::Grammar;
use crate::pipeline::Dialect;

/// What a guess may be, the likeliest first.
const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Records a guess looks at.
const RECORDS: usize = 100;

/// The delimiter that a first line `sep=;` names: a hint for spreadsheets, and none of the file's records. `text` is
/// the beginning of the file behind its byte order mark.
pub(super) fn hinted_delimiter(dialect: &Dialect, text: &str) -> Option<u8> {
    let line = text.split(['\r', '\n']).next()?;
    let line = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line);
    let [name @ .., delimiter] = line.as_bytes() else { return None };
    let taken = [dialect.quote, dialect.escape, dialect.comment].contains(&Some(*delimiter));
    let may_be = *delimiter == b'\t' || delimiter.is_ascii_punctuation();
    (name.eq_ignore_ascii_case(b"sep=") && may_be && !taken).then_some(*delimiter)
}

/// The delimiter that gives the most records of one same width above 1 in `sample`; `None` when no candidate splits
/// anything (a file of one column).
pub(super) fn sniff_delimiter(dialect: &Dialect, sample: &str) -> Option<u8> {
    let mut best: Option<(usize, usize, u8)> = None;
    for candidate in CANDIDATES {
        if dialect.quote == Some(candidate) || dialect.escape == Some(candidate) || dialect.comment == Some(candidate) {
            continue;
        }
        let mut decoder = super::Decoder::new(Grammar::new(dialect, candidate));
        let mut widths = Vec::new();
        while widths.len() < RECORDS {
            match decoder.next(sample) {
                super::Decoded::Record { .. } => widths.push(decoder.len()),
                super::Decoded::Skipped => {}
                super::Decoded::End => break,
            }
        }
        // The sample may end inside a record.
        if widths.len() > 1 {
            widths.pop();
        }
        let Some(&header) = widths.first() else { continue };
        if header < 2 {
            continue;
        }
        let same = widths.iter().filter(|&&width| width == header).count() * 1000 / widths.len();
        // Strictly better: of equals the likelier candidate stays.
        if best.is_none_or(|(score, columns, _)| (same, header) > (score, columns)) {
            best = Some((same, header, candidate));
        }
    }
    best.map(|(_, _, candidate)| candidate)
}
