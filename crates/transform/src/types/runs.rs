//! Runs of characters of one class: what most regular expressions of cleaning steps look for.
//!
//! `[0-9]{4,}`, `\s+` or `[^0-9]` ask for nothing that needs an automaton. The greedy, leftmost match of such a pattern
//! is a run of the class's characters as long as it goes, so a table of bytes finds it, and finds that there is none in a
//! fraction of the time.

use std::ops::Range;

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::window::{self, WINDOW};

/// A pattern that is one class of characters, alone or repeated without an upper bound.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    /// One entry for each byte; none of a character beyond ASCII.
    members: [bool; 256],
    /// Whether characters beyond ASCII may belong to the class.
    beyond_ascii: bool,
    /// Characters a run must have.
    min: usize,
    /// A run is one match; else each of its characters is one.
    is_whole: bool,
    /// The members once more, as ranges.
    ranges: Box<[window::Range]>,
}

impl Runs {
    /// `None` for a pattern that asks for anything else.
    pub(super) fn of(pattern: &Regex) -> Option<Self> {
        let hir = regex_syntax::parse(pattern.as_str()).ok()?;
        let (of, min, is_whole) = match hir.kind() {
            HirKind::Repetition(repetition) if repetition.greedy && repetition.max.is_none() && repetition.min > 0 => {
                (&*repetition.sub, repetition.min as usize, true)
            }
            HirKind::Class(_) => (&hir, 1, false),
            _ => return None,
        };
        let mut runs = Self { members: [false; 256], beyond_ascii: false, min, is_whole, ranges: Box::default() };
        runs.admit(of)?;
        runs.ranges = ranges(&runs.members);
        Some(runs)
    }

    fn admit(&mut self, of: &Hir) -> Option<()> {
        match of.kind() {
            HirKind::Literal(literal) => match *literal.0 {
                [byte] if byte.is_ascii() => self.members[usize::from(byte)] = true,
                _ => return None,
            },
            HirKind::Class(Class::Unicode(class)) => {
                for range in class.ranges() {
                    self.beyond_ascii |= !range.end().is_ascii();
                    for c in (range.start()..=range.end()).take_while(char::is_ascii) {
                        self.members[c as usize] = true;
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether this finds what the pattern finds in `text`.
    #[inline]
    pub(super) fn can_judge(&self, text: &str) -> bool {
        !self.beyond_ascii || text.is_ascii()
    }

    /// The matches in the first `len` bytes of a window, in order; `None` when this cannot judge them.
    #[inline]
    pub(super) fn in_window(&self, window: &[u8; WINDOW], len: usize) -> Option<Matches> {
        if self.ranges.len() > MOST_RANGES || self.min > MOST_IN_WINDOW || len == 0 || len > WINDOW {
            return None;
        }
        let there = u64::MAX >> (WINDOW - len);
        if self.beyond_ascii && window::beyond_ascii(window) & there != 0 {
            return None;
        }
        let members = window::in_ranges(window, &self.ranges) & there;
        // Where as many members follow each other as a run must have.
        let starts = (1..self.min).fold(members, |starts, _| starts & starts >> 1);
        Some(Matches { members, starts, is_whole: self.is_whole })
    }

    /// The matches at or after `from`, in order.
    #[inline]
    pub(super) fn find_iter<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            let found = self.find(text.as_bytes(), from)?;
            from = found.end;
            Some(found)
        })
    }

    /// Looks at every `min`-th byte: a run that is long enough cannot pass between two of them.
    #[inline]
    fn find(&self, bytes: &[u8], from: usize) -> Option<Range<usize>> {
        let is_member = |byte: &u8| self.members[usize::from(*byte)];
        let mut probe = from + (self.min - 1);
        loop {
            if !is_member(bytes.get(probe)?) {
                probe += self.min;
                continue;
            }
            if !self.is_whole {
                return Some(probe..probe + 1);
            }
            let before = bytes[from..probe].iter().rev().take_while(|byte| is_member(byte)).count();
            let after = bytes[probe..].iter().take_while(|byte| is_member(byte)).count();
            let run = probe - before..probe + after;
            if run.len() >= self.min {
                return Some(run);
            }
            probe = run.end + self.min;
        }
    }
}

/// Ranges beyond which, and characters of a run beyond which, a window is not worth looking at.
const MOST_RANGES: usize = 4;
const MOST_IN_WINDOW: usize = 16;

/// The members in ASCII, as ranges.
fn ranges(members: &[bool; 256]) -> Box<[window::Range]> {
    let ascii = &members[..128];
    let runs = (0..128_u8).filter(|&first| ascii[usize::from(first)] && (first == 0 || !ascii[usize::from(first) - 1]));
    let range = |first: u8| {
        let len = ascii[usize::from(first)..].iter().take_while(|&&is_member| is_member).count();
        window::Range::of(first, first + (len as u8 - 1))
    };
    runs.map(range).collect()
}

/// Matches in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matches {
    members: u64,
    /// Where matches may start.
    starts: u64,
    is_whole: bool,
}

impl Iterator for Matches {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        if self.starts == 0 {
            return None;
        }
        let start = self.starts.trailing_zeros();
        let len = if self.is_whole { (self.members >> start).trailing_ones() } else { 1 };
        let end = start + len;
        self.starts &= u64::MAX.checked_shl(end).unwrap_or(0);
        Some(start as usize..end as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_class_of_characters_is_looked_for_without_an_automaton() {
        for pattern in
            ["[0-9]{4,}", "[0-9]+", r"\s+", r"\d{2,}", "[^0-9]", "[a-fA-F]", " {2,}", "-+", r"\W+", "(?i)[a-f]+"]
        {
            assert!(Runs::of(&Regex::new(pattern).unwrap()).is_some(), "{pattern}");
        }
        for pattern in
            ["[0-9]*", "[0-9]{2,5}", "[0-9]+?", "[0-9]+x", "^[0-9]+", "colour", "(a)+", "é+", "", "a|bc", r"\b"]
        {
            assert!(Runs::of(&Regex::new(pattern).unwrap()).is_none(), "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn matches_are_those_of_the_regular_expression(
            pattern in prop::sample::select(vec![
                "[0-9]{4,}", "[0-9]+", "[0-9]{2,}", r"\s+", r"\s{2,}", r"\d{3,}", "[^0-9]", "[^0-9]{2,}", " {2,}", r"\w+",
                r"\W", "[a-c0-1]{3,}", "[[:punct:]]+", "(?i)[a-c]+", "[é0]+",
            ]),
            text in "(?s)[0-9a-cA-C \t\n.\u{a0}é٣]{0,24}",
        ) {
            let regex = Regex::new(pattern).unwrap();
            let runs = Runs::of(&regex).unwrap();
            let mut window = [b'0'; WINDOW];
            window[..text.len()].copy_from_slice(text.as_bytes());
            let in_window = runs.in_window(&window, text.len());
            if text.is_ascii() && !text.is_empty() && pattern != r"\W" {
                prop_assert!(in_window.is_some());
            }
            if let Some(found) = in_window {
                let expected: Vec<_> = regex.find_iter(&text).map(|found| found.range()).collect();
                prop_assert_eq!(found.collect::<Vec<_>>(), expected);
            }
            if runs.can_judge(&text) {
                let expected: Vec<_> = regex.find_iter(&text).map(|found| found.range()).collect();
                prop_assert_eq!(runs.find_iter(&text).collect::<Vec<_>>(), expected);
            } else {
                prop_assert!(!text.is_ascii());
            }
        }
    }
}
