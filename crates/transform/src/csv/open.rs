//! A stream of bytes as blocks of records: the sample, the delimiter, the header, then block after block. Blocking, and
//! knows nothing of where the bytes come from.

use std::io::{self, Read};

use super::{Block, Cutter, Grammar, HeaderError, Position, hinted_delimiter, read_header, sniff_delimiter};
use crate::encoding::Encoding;
use crate::pipeline::Pipeline;

/// Bytes of one read from the source.
const CHUNK: usize = 64 * 1024;
/// Bytes looked at for the delimiter.
const SAMPLE: usize = 64 * 1024;

/// Bytes of which the first line is looked at for a hint.
const HINT: usize = 64;

/// Why a stream cannot be read as the pipeline's CSV.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("it is empty")]
    Empty,
    #[error("it starts with a {found} byte order mark, and the pipeline says encoding = {expected:?}")]
    Encoding { found: &'static str, expected: &'static str },
    #[error("it looks like {found} without a byte order mark, and the pipeline says encoding = {expected:?}")]
    Unmarked { found: &'static str, expected: &'static str },
    #[error("its first line says sep={found}, and the pipeline says delimiter = {:?}", expected.to_string())]
    Delimiter { found: char, expected: char },
    #[error("it has no header: it holds blank and comment lines only")]
    NoHeader,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// How an object's bytes are records, as its beginning told: the grammar with the delimiter, the encoding with the byte
/// order, the largest record in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    grammar: Grammar,
    encoding: Encoding,
    limit: usize,
}

impl Format {
    /// That of an object which was opened before: what its beginning told is known, the rest is the pipeline's.
    pub fn new(pipeline: &Pipeline, delimiter: u8, encoding: Encoding) -> Self {
        let grammar = Grammar { delimiter, ..Grammar::new(&pipeline.dialect, delimiter) };
        Self { grammar, encoding, limit: pipeline.limits.record }
    }

    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// A record by itself, as a block; `position` is where it stands in its object. `None` where the bytes are none.
    /// Whether they are one and no more, a worker says.
    pub fn block_of(&self, raw: &[u8], position: Position) -> Option<Block> {
        let mut cutter = Cutter::at(self.grammar, self.encoding, self.limit, position);
        cutter.push(raw);
        cutter.finish();
        let block = cutter.next()?;
        match cutter.next() {
            None => Some(block),
            Some(_) => None,
        }
    }

    /// The largest record in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// A stream of which the header was read.
#[derive(Debug)]
pub struct Opened<R> {
    source: R,
    cutter: Cutter,
    chunk: Vec<u8>,
    ended: bool,
    bytes: u64,
    grammar: Grammar,
    encoding: Encoding,
    limit: usize,
    header: Option<Vec<String>>,
    is_sniffed: bool,
    hint: Option<u8>,
    skipped: u64,
}

impl<R: Read> Opened<R> {
    /// Reads as far as the header.
    pub fn new(source: R, pipeline: &Pipeline) -> Result<Self, OpenError> {
        let mut source = source;
        let mut chunk = vec![0; CHUNK];
        let mut sample = Vec::with_capacity(SAMPLE + CHUNK);
        let mut ended = false;
        while sample.len() < SAMPLE && !ended {
            let read = read_some(&mut source, &mut chunk).map_err(OpenError::Read)?;
            sample.extend_from_slice(&chunk[..read]);
            ended = read == 0;
        }
        if sample.is_empty() {
            return Err(OpenError::Empty);
        }
        let mut encoding = pipeline.source.encoding;
        match Encoding::of_bom(&sample) {
            Some((found, _)) if found != encoding => {
                // "utf-16" says nothing of the byte order; the mark does, as WHATWG has it.
                if !(found.is_utf16() && encoding.is_utf16()) {
                    return Err(OpenError::Encoding { found: found.name(), expected: encoding.name() });
                }
                encoding = found;
            }
            Some(_) => {}
            None => {
                if let Some(found) = encoding.other_by_zeros(&sample) {
                    return Err(OpenError::Unmarked { found, expected: encoding.name() });
                }
            }
        }
        let hint = hinted_delimiter(&pipeline.dialect, &encoding.decode_sample(&sample[..sample.len().min(HINT)]));
        let (delimiter, is_sniffed) = match (pipeline.dialect.delimiter, hint) {
            (Some(delimiter), Some(hint)) if delimiter != hint => {
                return Err(OpenError::Delimiter { found: char::from(hint), expected: char::from(delimiter) });
            }
            (Some(delimiter), _) | (None, Some(delimiter)) => (delimiter, false),
            (None, None) => {
                // The same bytes however many came at once: a guess must not depend on how a source hands them out.
                let text = encoding.decode_sample(&sample[..sample.len().min(SAMPLE)]);
                (sniff_delimiter(&pipeline.dialect, &text).unwrap_or(b','), true)
            }
        };
        let grammar = Grammar::new(&pipeline.dialect, delimiter);
        let with_header = pipeline.dialect.header;
        let mut cutter = Cutter::new(grammar, encoding, pipeline.limits.record, with_header);
        if hint.is_some() {
            cutter = cutter.without_first_line();
        }
        cutter.push(&sample);
        if ended {
            cutter.finish();
        }
        let bytes = sample.len() as u64;
        let skipped = u64::from(hint.is_some());
        let mut opened = Self {
            source,
            cutter,
            chunk,
            ended,
            bytes,
            grammar,
            encoding,
            limit: pipeline.limits.record,
            header: None,
            is_sniffed,
            hint,
            skipped,
        };
        while with_header && opened.header.is_none() {
            let Some(block) = opened.next_block().map_err(OpenError::Read)? else {
                let line = opened.cutter.line();
                let too_long = opened.cutter.drops_header();
                return Err(if too_long { HeaderError::TooLong { line }.into() } else { OpenError::NoHeader });
            };
            let (header, skipped) = read_header(&block, grammar, pipeline.limits.columns)?;
            opened.header = header;
            opened.skipped += skipped;
        }
        Ok(opened)
    }

    /// Begins at a place another pass over the object came by. `source` gives the bytes from there on; what the object's
    /// beginning told is in `format`.
    pub fn at(source: R, format: Format, position: Position) -> Self {
        let Format { grammar, encoding, limit } = format;
        Self {
            source,
            cutter: Cutter::at(grammar, encoding, limit, position),
            chunk: vec![0; CHUNK],
            ended: false,
            bytes: 0,
            grammar,
            encoding,
            limit,
            header: None,
            is_sniffed: false,
            hint: None,
            skipped: 0,
        }
    }

    /// The next block of whole records; `None` at the end.
    pub fn next_block(&mut self) -> io::Result<Option<Block>> {
        loop {
            if let Some(block) = self.cutter.next() {
                return Ok(Some(block));
            }
            if self.ended {
                return Ok(None);
            }
            if self.cutter.drops_header() {
                return Ok(None);
            }
            let read = read_some(&mut self.source, &mut self.chunk)?;
            if read == 0 {
                self.ended = true;
                self.cutter.finish();
            } else {
                self.bytes += read as u64;
                self.cutter.push(&self.chunk[..read]);
            }
        }
    }
}

impl<R> Opened<R> {
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// What it takes to go on reading in the middle.
    pub fn format(&self) -> Format {
        Format { grammar: self.grammar, encoding: self.encoding, limit: self.limit }
    }

    /// Where the next block begins.
    pub fn position(&self) -> Position {
        self.cutter.position()
    }

    /// The labels, when the dialect has a header.
    pub fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }

    /// Blank and comment lines before the header, and a first line that names the delimiter.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The delimiter, when the pipeline names none and it was guessed.
    pub fn sniffed(&self) -> Option<char> {
        self.is_sniffed.then(|| char::from(self.grammar.delimiter()))
    }

    /// The delimiter, when a first line like `sep=;` names it.
    pub fn hinted(&self) -> Option<char> {
        self.hint.map(char::from)
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives a block's buffer back.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.cutter.recycle(buffer);
    }

    /// The source, read as far as it was.
    pub fn into_source(self) -> R {
        self.source
    }
}

fn read_some(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
