//! What is wrong with a pipeline file, and how it is shown. Text in, text out; never a path it opens, never colour.

use std::fmt::{self, Write as _};
use std::ops::Range;

/// Problems shown in full; a file with more has one cause, and a screen has an end.
const SHOWN: usize = 20;

/// Characters of a source line shown around the caret.
const WINDOW: usize = 160;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    /// Bytes of the text; always within it and on character borders.
    pub span: Range<usize>,
    /// The first line is 1.
    pub line: usize,
    /// In characters, the first is 1.
    pub column: usize,
    /// What to try.
    pub hint: Option<String>,
}

/// Everything wrong with one pipeline file, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Each problem as `file:line:column: message`, the line it stands on, a caret, and the hint. Ends in a line end.
    ///
    /// `text` is the text that was parsed. Control characters in it are not repeated: this goes to a terminal.
    pub fn render(&self, file_name: &str, text: &str) -> String {
        let mut out = String::new();
        for (index, problem) in self.0.iter().take(SHOWN).enumerate() {
            if index > 0 {
                out.push('\n');
            }
            problem.render(file_name, text, &mut out);
        }
        if self.0.len() > SHOWN {
            let _ = writeln!(out, "\n{file_name}: {} more problems", self.0.len() - SHOWN);
        }
        out
    }
}

/// Without the text: one line each, for logs.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}line {} column {}: {}", problem.line, problem.column, problem.message)?;
        }
        if self.0.len() > SHOWN {
            write!(f, "; {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Problem {
    fn render(&self, file_name: &str, text: &str, out: &mut String) {
        let _ = writeln!(out, "{file_name}:{}:{}: {}", self.line, self.column, self.message);
        let start = floor_border(text, self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');

        let caret_at = text[line_start..start].chars().count();
        let marked = text[start..floor_border(text, self.span.end).max(start)].split('\n').next().unwrap_or_default();
        let caret_len = marked.trim_end_matches('\r').chars().count().max(1);

        // A line of a megabyte is cut to a window around the caret.
        let is_long = line.chars().nth(WINDOW).is_some();
        let from = if is_long && caret_at > WINDOW / 2 { caret_at - WINDOW / 4 } else { 0 };
        let mut shown = String::new();
        let mut under = String::new();
        if from > 0 {
            shown.push('…');
            under.push(' ');
        }
        let mut rest = line.chars().skip(from);
        for (index, char) in rest.by_ref().take(WINDOW).enumerate() {
            shown.push(printable(char));
            if from + index < caret_at {
                // A tab stays a tab, so that the caret stands below its character whatever the terminal's tab width.
                under.push(if char == '\t' { '\t' } else { ' ' });
            }
        }
        if rest.next().is_some() {
            shown.push('…');
        }
        under.extend(std::iter::repeat_n('^', caret_len.min(from + WINDOW - caret_at.min(from + WINDOW - 1))));

        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let _ = writeln!(out, "{margin} |");
        let _ = writeln!(out, "{}", format!("{number} | {shown}").trim_end());
        let _ = writeln!(out, "{margin} | {under}");
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "help: {hint}");
        }
    }
}

/// What a terminal may be given: no escapes, nothing that turns the direction of text.
fn printable(char: char) -> char {
    match char {
        '\t' => '\t',
        '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' => '\u{FFFD}',
        _ if char.is_control() => '\u{FFFD}',
        _ => char,
    }
}

fn floor_border(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// Gathers problems while a text is read.
#[derive(Debug)]
pub(crate) struct Collector<'a> {
    text: &'a str,
    found: Vec<Problem>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, found: Vec::new() }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn push(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.add(span, message.into(), None);
    }

    pub(crate) fn push_hint(&mut self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.add(span, message.into(), Some(hint.into()));
    }

    pub(crate) fn add(&mut self, span: Range<usize>, message: String, hint: Option<String>) {
        let start = floor_border(self.text, span.start);
        let end = floor_border(self.text, span.end).max(start);
        self.found.push(Problem { message, span: start..end, line: 0, column: 0, hint });
    }

    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All that was found, in the order of the text.
    pub(crate) fn finish(self) -> Problems {
        let Self { text, mut found } = self;
        found.sort_by_key(|problem| (problem.span.start, problem.span.end));
        found.dedup();
        // In one pass, as a file of thousands of problems must not be walked thousands of times.
        let (mut at, mut line, mut column) = (0, 1, 1);
        for problem in &mut found {
            let mut between = &text[at..problem.span.start];
            if let Some(newline) = between.rfind('\n') {
                line += between.matches('\n').count();
                column = 1;
                between = &between[newline + 1..];
            }
            column += between.chars().count();
            at = problem.span.start;
            problem.line = line;
            problem.column = column;
        }
        Problems(found)
    }
}
