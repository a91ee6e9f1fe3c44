//! Cleaning steps: text to text, before missing values are looked for and types are read.

use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem::Finder;
use regex::Regex;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc, is_nfc_quick};
use wide::u8x16;

use super::runs::{Matches, Runs};
use crate::pipeline::Clean;
use crate::reject::Reason;
use crate::span::Span;
use crate::window::{self, WINDOW};

/// The cleaning steps of one field. Each worker has its own clone, and with it its own regex caches.
#[derive(Clone, Debug, Default)]
pub struct Cleaner {
    steps: Vec<Step>,
    quick: Option<Quick>,
}

/// All steps at once, for the texts most fields hold: see [`Cleaner::quick`].
#[derive(Clone, Debug)]
enum Quick {
    /// `trim`, `lower`, `upper`, or the first with one of the others.
    Letters {
        trims: bool,
        /// Those that become small or large.
        change: Option<window::Range>,
    },
    /// One regular expression that looks for runs.
    Runs {
        runs: Box<Runs>,
        /// What stands in place of a run, with room behind it.
        with: Box<[u8; WINDOW]>,
        with_len: usize,
    },
}

/// Room for texts that change; one per worker.
#[derive(Debug, Default)]
pub struct Buffers {
    front: String,
    back: String,
}

/// A cleaned text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned<'a> {
    pub text: &'a str,
    /// Whether the text was written anew; else it is a part of the text that went in.
    pub rewritten: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Trim,
    Lower,
    Upper,
    CollapseSpaces,
    Nfc,
    Replace {
        find: Box<Finder<'static>>,
        with: Box<str>,
    },
    /// `with` is plain text.
    RegexPlain {
        pattern: Regex,
        runs: Option<Box<Runs>>,
        with: Box<str>,
    },
    /// `with` refers to groups.
    RegexGroups {
        pattern: Regex,
        with: Box<str>,
    },
    Map(HashMap<Box<str>, Box<str>>),
}

/// Bytes that one step may add to a text: a replacement in place of each character would make gigabytes of megabytes.
const MOST_ADDED: usize = 4 << 20;

/// What a step made of a text.
enum Change {
    Same,
    /// Only this part of it is left.
    Part(Range<usize>),
    /// The buffer holds the new text.
    Written,
    /// The new text would be longer than the old one by more than [`MOST_ADDED`].
    TooLong,
}

impl Cleaner {
    /// Compiles the steps; the error names the step that cannot work.
    pub fn compile(steps: &[Clean]) -> Result<Self, String> {
        let steps = steps.iter().map(Step::compile).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { quick: Quick::of(&steps), steps })
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Applies the steps in order; what they may add to a text is bounded. Allocates only while the buffers grow to the longest text that changes, and for
    /// regular expressions with groups and letters outside ASCII that change.
    #[inline]
    pub fn apply<'a>(&self, text: &'a str, buffers: &'a mut Buffers) -> Result<Cleaned<'a>, Reason> {
        if self.steps.is_empty() {
            return Ok(Cleaned { text, rewritten: false });
        }
        self.apply_steps(text, buffers)
    }

    /// The cleaned text of `range` of a block, where all steps together take one look at it: a short text that is ASCII as
    /// far as the steps ask, not too near the block's end. `None` says nothing, such a text is for [`Self::apply`]. What is
    /// written is appended to `scratch`, and holds a NUL only when the text does.
    #[inline]
    pub(crate) fn quick(&self, block: &[u8], range: Range<usize>, scratch: &mut Vec<u8>) -> Option<Span> {
        let window = block.get(range.start..range.start + WINDOW)?.as_array()?;
        if range.is_empty() || range.len() > WINDOW {
            return None;
        }
        match self.quick.as_ref()? {
            Quick::Letters { trims, change } => letters(block, window, range, *trims, *change, scratch),
            Quick::Runs { runs, with, with_len } => {
                let matches = runs.in_window(window, range.len())?;
                Some(replace_in(block, range, matches, (with, *with_len), scratch))
            }
        }
    }

    fn apply_steps<'a>(&self, text: &'a str, buffers: &'a mut Buffers) -> Result<Cleaned<'a>, Reason> {
        let mut rewritten = false;
        let mut part = 0..text.len();
        for step in &self.steps {
            let current = if rewritten { &buffers.front[part.clone()] } else { &text[part.clone()] };
            match step.apply(current, &mut buffers.back) {
                Change::Same => {}
                Change::Part(inner) => part = part.start + inner.start..part.start + inner.end,
                Change::TooLong => return Err(Reason::CleanedTooLong),
                Change::Written => {
                    std::mem::swap(&mut buffers.front, &mut buffers.back);
                    rewritten = true;
                    part = 0..buffers.front.len();
                }
            }
        }
        let text = if rewritten { &buffers.front[part] } else { &text[part] };
        Ok(Cleaned { text, rewritten })
    }
}

impl Step {
    fn compile(step: &Clean) -> Result<Self, String> {
        Ok(match step {
            Clean::Trim => Self::Trim,
            Clean::Lower => Self::Lower,
            Clean::Upper => Self::Upper,
            Clean::CollapseSpaces => Self::CollapseSpaces,
            Clean::Nfc => Self::Nfc,
            Clean::Replace { find, .. } if find.is_empty() => return Err("replace needs a text to look for".into()),
            Clean::Replace { find, with } => {
                Self::Replace { find: Box::new(Finder::new(find).into_owned()), with: with.as_str().into() }
            }
            Clean::Regex { pattern, with } => {
                let pattern = Regex::new(pattern).map_err(|error| format!("regex {pattern:?}: {error}"))?;
                if !with.contains('$') {
                    let runs = Runs::of(&pattern).map(Box::new);
                    return Ok(Self::RegexPlain { pattern, runs, with: with.as_str().into() });
                }
                check_references(&pattern, with)?;
                Self::RegexGroups { pattern, with: with.as_str().into() }
            }
            Clean::Map(values) => {
                let mut map = HashMap::with_capacity(values.len());
                for (from, to) in values {
                    if map.insert(from.as_str().into(), to.as_str().into()).is_some() {
                        return Err(format!("map has {from:?} twice"));
                    }
                }
                Self::Map(map)
            }
        })
    }

    /// `out` is cleared by the steps that write.
    #[inline]
    fn apply(&self, text: &str, out: &mut String) -> Change {
        match self {
            Self::Trim => trim(text),
            Self::Lower => lower(text, out),
            Self::Upper => upper(text, out),
            Self::CollapseSpaces => collapse_spaces(text, out),
            Self::Nfc => nfc(text, out),
            Self::Replace { find, with } => {
                let len = find.needle().len();
                splice(text, find.find_iter(text.as_bytes()).map(|at| at..at + len), with, out)
            }
            Self::RegexPlain { pattern, runs, with } => match runs {
                Some(runs) if runs.can_judge(text) => splice(text, runs.find_iter(text), with, out),
                _ => splice(text, pattern.find_iter(text).map(|found| found.range()), with, out),
            },
            Self::RegexGroups { pattern, with } => expand(text, pattern, with, out),
            Self::Map(values) => mapped(text, values, out),
        }
    }
}

impl Quick {
    fn of(steps: &[Step]) -> Option<Self> {
        const CAPITAL: window::Range = window::Range::of(b'A', b'Z');
        const SMALL: window::Range = window::Range::of(b'a', b'z');
        let letters = |trims, change| Some(Self::Letters { trims, change });
        // Trimming comes to the same before and after letters change.
        match steps {
            [Step::Trim] => letters(true, None),
            [Step::Lower] => letters(false, Some(CAPITAL)),
            [Step::Upper] => letters(false, Some(SMALL)),
            [Step::Trim, Step::Lower] | [Step::Lower, Step::Trim] => letters(true, Some(CAPITAL)),
            [Step::Trim, Step::Upper] | [Step::Upper, Step::Trim] => letters(true, Some(SMALL)),
            [Step::RegexPlain { runs: Some(runs), with, .. }] if with.len() <= WINDOW && !with.contains('\0') => {
                let mut padded = [0; WINDOW];
                padded[..with.len()].copy_from_slice(with.as_bytes());
                Some(Self::Runs { runs: runs.clone(), with: Box::new(padded), with_len: with.len() })
            }
            _ => None,
        }
    }
}

/// [`Quick::Letters`] on the text at `range`, which `window` starts with.
#[inline(never)]
fn letters(
    block: &[u8],
    window: &[u8; WINDOW],
    range: Range<usize>,
    trims: bool,
    change: Option<window::Range>,
    scratch: &mut Vec<u8>,
) -> Option<Span> {
    /// What `char::is_whitespace` says of ASCII.
    const BLANKS: [window::Range; 2] = [window::Range::of(b'\t', b'\r'), window::Range::of(b' ', b' ')];
    let there = u64::MAX >> (WINDOW - range.len());
    if window::beyond_ascii(window) & there != 0 {
        return None;
    }
    let mut kept = there;
    if trims && !(window[0].is_ascii_graphic() && window[range.len() - 1].is_ascii_graphic()) {
        let visible = there & !window::in_ranges(window, &BLANKS);
        if visible == 0 {
            return None;
        }
        kept = (u64::MAX << visible.trailing_zeros()) & (u64::MAX >> visible.leading_zeros());
    }
    let (start, len) = (kept.trailing_zeros() as usize, kept.count_ones() as usize);
    let Some(change) = change.filter(|&change| window::in_ranges(window, &[change]) & kept != 0) else {
        return Some(Span::block(range.start + start, len));
    };
    // All of the window stays, and the text is its beginning: what is written as a whole is then read as a whole, and soon.
    let window = block.get(range.start + start..range.start + start + WINDOW)?.as_array()?;
    let at = scratch.len();
    scratch.extend_from_slice(&window::with_case_changed(window, change));
    Some(Span::scratch(at, len))
}

/// The text at `range` of `block` with `with` in place of each match.
#[inline(never)]
fn replace_in(
    block: &[u8],
    range: Range<usize>,
    mut matches: Matches,
    (with, with_len): (&[u8; WINDOW], usize),
    scratch: &mut Vec<u8>,
) -> Span {
    let Some(mut found) = matches.next() else { return Span::block(range.start, range.len()) };
    let at = scratch.len();
    let mut copied = range.start;
    loop {
        put(block, copied..range.start + found.start, scratch);
        put(with, 0..with_len, scratch);
        copied = range.start + found.end;
        match matches.next() {
            Some(next) => found = next,
            None => break,
        }
    }
    put(block, copied..range.end, scratch);
    Span::scratch(at, scratch.len() - at)
}

/// Appends the bytes at `range`, a window at most. A copy of fixed length is faster than one of any length, so where there
/// are as many bytes, more are written than stay.
#[inline]
fn put(bytes: &[u8], range: Range<usize>, scratch: &mut Vec<u8>) {
    let at = scratch.len();
    match bytes.get(range.start..range.start + WINDOW).and_then(<[u8]>::as_array::<WINDOW>) {
        Some(wide) => {
            scratch.extend_from_slice(wide);
            scratch.truncate(at + range.len());
        }
        None => scratch.extend_from_slice(&bytes[range]),
    }
}

#[inline(never)]
fn mapped(text: &str, values: &HashMap<Box<str>, Box<str>>, out: &mut String) -> Change {
    let Some(value) = values.get(text) else { return Change::Same };
    out.clear();
    out.push_str(value);
    Change::Written
}

/// Copies `text` with what `with` says of its groups in place of each match.
#[inline(never)]
fn expand(text: &str, pattern: &Regex, with: &str, out: &mut String) -> Change {
    if !pattern.is_match(text) {
        return Change::Same;
    }
    out.clear();
    let mut copied = 0;
    for groups in pattern.captures_iter(text) {
        let whole = groups.get_match().range();
        out.push_str(&text[copied..whole.start]);
        groups.expand(with, out);
        copied = whole.end;
        if out.len() > text.len() + MOST_ADDED {
            return Change::TooLong;
        }
    }
    out.push_str(&text[copied..]);
    Change::Written
}

/// Copies `text` with `with` in place of each range.
#[inline(never)]
fn splice(text: &str, mut ranges: impl Iterator<Item = Range<usize>>, with: &str, out: &mut String) -> Change {
    let Some(mut range) = ranges.next() else { return Change::Same };
    out.clear();
    let mut copied = 0;
    loop {
        out.push_str(&text[copied..range.start]);
        out.push_str(with);
        copied = range.end;
        if out.len() > text.len() + MOST_ADDED {
            return Change::TooLong;
        }
        match ranges.next() {
            Some(next) => range = next,
            None => break,
        }
    }
    out.push_str(&text[copied..]);
    Change::Written
}

/// A reference to a group that does not exist would silently become nothing.
fn check_references(pattern: &Regex, with: &str) -> Result<(), String> {
    let mut rest = with;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(inside) => match inside.split_once('}') {
                Some((name, after)) => {
                    rest = after;
                    name
                }
                None => return Err(format!("the replacement {with:?} opens ${{ and does not close it")),
            },
            None => {
                let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let (name, after) = rest.split_at(len);
                rest = after;
                name
            }
        };
        let exists = match name.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => pattern.capture_names().flatten().any(|known| known == name),
        };
        if !exists {
            return Err(format!(
                "the replacement {with:?} refers to ${{{name}}}, which the pattern has no group for; write ${{1}} \
                 before a letter or digit, and $$ for a dollar"
            ));
        }
    }
    Ok(())
}

/// Takes Unicode white space off both ends.
#[inline]
fn trim(text: &str) -> Change {
    // Most texts begin and end with a visible ASCII character.
    let visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    if visible(text.as_bytes().first()) && visible(text.as_bytes().last()) {
        return Change::Same;
    }
    let start = text.len() - text.trim_start().len();
    let inner = text.trim();
    if inner.len() == text.len() { Change::Same } else { Change::Part(start..start + inner.len()) }
}

#[inline(never)]
fn lower(text: &str, out: &mut String) -> Change {
    if let Some(change) = ascii(text, out, b'A', str::make_ascii_lowercase) {
        return change;
    }
    let changes = |c: char| {
        let mut lower = c.to_lowercase();
        lower.len() != 1 || lower.next() != Some(c)
    };
    if !text.chars().any(changes) {
        return Change::Same;
    }
    out.clear();
    out.push_str(&text.to_lowercase());
    Change::Written
}

#[inline(never)]
fn upper(text: &str, out: &mut String) -> Change {
    if let Some(change) = ascii(text, out, b'a', str::make_ascii_uppercase) {
        return change;
    }
    let changes = |c: char| {
        let mut upper = c.to_uppercase();
        upper.len() != 1 || upper.next() != Some(c)
    };
    if !text.chars().any(changes) {
        return Change::Same;
    }
    out.clear();
    out.extend(text.chars().flat_map(char::to_uppercase));
    Change::Written
}

/// Makes letters from `first` on, all 26 of them, small or large in a text that is all ASCII; `None` when it is not.
#[inline]
fn ascii(text: &str, out: &mut String, first: u8, make: impl Fn(&mut str)) -> Option<Change> {
    const STEP: usize = 16;
    let (first, rest) = (u8x16::splat(first), u8x16::splat(25));
    let (mut letters, mut beyond) = (u8x16::ZERO, u8x16::ZERO);
    let mut look_at = |step: [u8; STEP]| {
        let step = u8x16::new(step);
        let distance = step - first;
        letters |= distance.min(rest).simd_eq(distance);
        beyond |= step;
    };
    let (steps, odd) = text.as_bytes().as_chunks::<STEP>();
    for step in steps {
        look_at(*step);
    }
    // The bytes at a text's end are looked at once more with some before them, rather than one by one.
    match text.as_bytes().last_chunk() {
        Some(last) => look_at(*last),
        None => {
            let mut last = [0; STEP];
            last[..odd.len()].copy_from_slice(odd);
            look_at(last);
        }
    }
    if beyond.to_bitmask() != 0 {
        return None;
    }
    if letters.to_bitmask() == 0 {
        return Some(Change::Same);
    }
    out.clear();
    out.push_str(text);
    out.push_str("                ");
    make(&mut out[..text.len().next_multiple_of(STEP)]);
    out.truncate(text.len());
    Some(Change::Written)
}

/// Each run of white space becomes one space, at the ends too.
#[inline(never)]
fn collapse_spaces(text: &str, out: &mut String) -> Change {
    let mut after_space = false;
    let untidy = text.chars().any(|c| {
        let is_space = c.is_whitespace();
        let untidy = is_space && (c != ' ' || after_space);
        after_space = is_space;
        untidy
    });
    if !untidy {
        return Change::Same;
    }
    out.clear();
    let mut after_space = false;
    for c in text.chars() {
        let is_space = c.is_whitespace();
        if !is_space {
            out.push(c);
        } else if !after_space {
            out.push(' ');
        }
        after_space = is_space;
    }
    Change::Written
}

#[inline(never)]
fn nfc(text: &str, out: &mut String) -> Change {
    if text.is_ascii() {
        return Change::Same;
    }
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => return Change::Same,
        IsNormalized::Maybe if is_nfc(text) => return Change::Same,
        _ => {}
    }
    out.clear();
    out.extend(text.nfc());
    Change::Written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::Side;

    fn clean(steps: &[Clean], text: &str) -> (String, bool) {
        let cleaner = Cleaner::compile(steps).unwrap();
        let mut buffers = Buffers::default();
        let cleaned = cleaner.apply(text, &mut buffers).unwrap();
        (cleaned.text.to_owned(), cleaned.rewritten)
    }

    fn replace(find: &str, with: &str) -> Clean {
        Clean::Replace { find: find.into(), with: with.into() }
    }

    fn regex(pattern: &str, with: &str) -> Clean {
        Clean::Regex { pattern: pattern.into(), with: with.into() }
    }

    #[test]
    fn each_step_does_its_one_thing() {
        let map = Clean::Map(vec![("m".into(), "male".into()), ("".into(), "unknown".into())]);
        for (steps, text, expected) in [
            (vec![Clean::Trim], " \u{a0}\u{2003}a b\t\n", "a b"),
            (vec![Clean::Trim], "\u{3000}", ""),
            (vec![Clean::Trim], "é ", "é"),
            (vec![Clean::Lower], "ÀB@Example.COM", "àb@example.com"),
            (vec![Clean::Lower], "ΟΔΟΣ", "οδος"),
            (vec![Clean::Lower], "İ", "i\u{307}"),
            (vec![Clean::Upper], "straße ǆ", "STRASSE Ǆ"),
            (vec![Clean::CollapseSpaces], "a  b\t\u{a0}c ", "a b c "),
            (vec![Clean::CollapseSpaces], "\n", " "),
            (vec![Clean::Nfc], "e\u{301}", "é"),
            (vec![replace("foo", "bar")], "foofoo fo foo", "barbar fo bar"),
            (vec![replace("a", "")], "banana", "bnn"),
            (vec![replace("$", "$1")], "5$", "5$1"),
            (vec![regex(r"\bcolour\b", "color")], "colour colours", "color colours"),
            (vec![regex("", "-")], "ab", "-a-b-"),
            (vec![regex("(?P<d>[0-9]+)/([0-9]+)", "${2}x$d$$")], "1/2 3/4", "2x1$ 4x3$"),
            (vec![regex("(a)|b", "<$1>")], "ab", "<a><>"),
            (vec![map.clone()], "m", "male"),
            (vec![map.clone()], "", "unknown"),
            (vec![map], "mm", "mm"),
            (vec![Clean::Trim, Clean::Lower, replace("x", " "), Clean::Trim], " XaX ", "a"),
            (vec![], " a ", " a "),
        ] {
            assert_eq!(clean(&steps, text).0, expected, "{steps:?} {text:?}");
        }
    }

    /// What [`Cleaner::quick`] makes of a text that stands in the middle of a block, and whether it wrote it anew.
    fn quick(steps: &[Clean], text: &str) -> Option<(String, bool)> {
        let block = format!("before,{text}{}", "A 1".repeat(WINDOW));
        let mut scratch = b"unescaped".to_vec();
        let range = 7..7 + text.len();
        let span = Cleaner::compile(steps).unwrap().quick(block.as_bytes(), range, &mut scratch)?;
        let (bytes, is_written) = match span.side() {
            Side::Block => (block.as_bytes(), false),
            Side::Scratch => (scratch.as_slice(), true),
        };
        assert!(scratch.starts_with(b"unescaped") && (!is_written || span.range().end <= scratch.len()));
        Some((String::from_utf8(bytes[span.range()].to_vec()).unwrap(), is_written))
    }

    #[test]
    fn short_texts_are_cleaned_at_once() {
        for (steps, text, expected) in [
            (vec![Clean::Trim, Clean::Lower], "  Ana.Pena1@Example.COM ", Some(("ana.pena1@example.com", true))),
            (vec![Clean::Trim, Clean::Lower], " a@b ", Some(("a@b", false))),
            (vec![Clean::Upper], "es", Some(("ES", true))),
            (vec![regex("[0-9]{4,}", "****")], "card ending 12345 was 99", Some(("card ending **** was 99", true))),
            (vec![regex("[0-9]{4,}", "****")], "大阪 123 branch", Some(("大阪 123 branch", false))),
            (vec![regex("[0-9]{4,}", "****")], "1234", Some(("****", true))),
            (vec![Clean::Lower], "É", None),
            (vec![Clean::Trim], "  ", None),
            (vec![Clean::Trim], "", None),
            (vec![regex("[0-9]", "\0")], "1", None),
            (vec![Clean::CollapseSpaces], "a", None),
        ] {
            let expected = expected.map(|(text, is_written)| (text.to_owned(), is_written));
            assert_eq!(quick(&steps, text), expected, "{steps:?} {text:?}");
        }
        let long = "a".repeat(WINDOW);
        assert_eq!(quick(&[Clean::Upper], &long), Some(("A".repeat(WINDOW), true)));
        assert_eq!(quick(&[Clean::Upper], &(long + "a")), None);
    }

    #[test]
    fn texts_that_stay_are_not_written() {
        for (step, text) in [
            (Clean::Trim, " a "),
            (Clean::Lower, "straße 1"),
            (Clean::Upper, "ÀB 1"),
            (Clean::CollapseSpaces, "a b c "),
            (Clean::Nfc, "é e"),
            (replace("foo", "bar"), "fo fo"),
            (regex("x+", "y"), "abc"),
            (regex("(x)", "$1"), "abc"),
            (Clean::Map(vec![("a".into(), "b".into())]), "c"),
        ] {
            assert!(!clean(std::slice::from_ref(&step), text).1, "{step:?} {text:?}");
        }
    }

    #[test]
    fn what_a_step_may_add_is_bounded() {
        let text = "a".repeat(1 << 20);
        for (with, expected) in [("bbbb", true), ("bbbbbb", false), ("$0$0$0$0$0$0", false)] {
            let cleaner = Cleaner::compile(&[regex("a", with)]).unwrap();
            assert_eq!(cleaner.apply(&text, &mut Buffers::default()).is_ok(), expected, "{with}");
        }
    }

    #[test]
    fn a_step_that_cannot_work_is_refused() {
        for step in [
            replace("", "x"),
            regex("(", "x"),
            regex("(a)", "$2"),
            regex("(a)", "$1a"),
            regex("(a)", "$b"),
            regex("(a)", "${1"),
            regex("a", "$"),
            regex("(?=a)", "x"),
            Clean::Map(vec![("a".into(), "b".into()), ("a".into(), "c".into())]),
        ] {
            assert!(Cleaner::compile(std::slice::from_ref(&step)).is_err(), "{step:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_quick_way_cleans_as_the_steps_do(
            steps in prop::sample::select(vec![
                vec![Clean::Trim], vec![Clean::Lower], vec![Clean::Upper], vec![Clean::Trim, Clean::Lower],
                vec![Clean::Upper, Clean::Trim], vec![regex("[0-9]{4,}", "****")], vec![regex(r"\s+", " ")],
                vec![regex("[^0-9]", "")], vec![regex("[a-zA-Z]{2,}", "letters")], vec![regex(r"\w+", "")],
            ]),
            text in "(?s)[ \t\x0b\x1f]{0,3}[@-Z`-z{0-9 ]{0,60}[é٣ 0-9]{0,2}[ \n\x7f]{0,3}",
        ) {
            if let Some(found) = quick(&steps, &text) {
                prop_assert_eq!(found, clean(&steps, &text));
            } else {
                prop_assert!(!text.is_ascii() || text.trim().is_empty() || text.len() > WINDOW);
            }
        }
    }

    proptest! {
        #[test]
        fn steps_agree_with_the_standard_library(text in "(?s)[ \u{a0}a-cA-C\u{e9}\u{c9}e\u{301}ßΣσİ\t]{0,12}") {
            prop_assert_eq!(clean(&[Clean::Trim], &text).0, text.trim());
            prop_assert_eq!(clean(&[Clean::Lower], &text).0, text.to_lowercase());
            prop_assert_eq!(clean(&[Clean::Upper], &text).0, text.to_uppercase());
            prop_assert_eq!(clean(&[Clean::Nfc], &text).0, text.nfc().collect::<String>());
            prop_assert_eq!(clean(&[replace("a", "bc")], &text).0, text.replace('a', "bc"));
            let plain = Regex::new("a+|b").unwrap();
            prop_assert_eq!(clean(&[regex("a+|b", "x")], &text).0, plain.replace_all(&text, regex::NoExpand("x")));
            let groups = Regex::new("(a+)(b)?").unwrap();
            prop_assert_eq!(clean(&[regex("(a+)(b)?", "$2-$1")], &text).0, groups.replace_all(&text, "$2-$1"));
        }
    }
}
