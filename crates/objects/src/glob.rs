//! Which keys of a store are meant.
//!
//! A pattern becomes a regular expression over the key's text, so that matching takes linear time for any pattern and a
//! `?` stands for one character, not for one byte.

use std::fmt;
use std::str::FromStr;

use regex::Regex;

/// An S3 key has at most 1,024 bytes; a pattern of several alternatives may be a little longer.
const MAX_LENGTH: usize = 4096;
const MAX_DEPTH: usize = 16;

/// A pattern over keys: `*` any characters but `/`, `**` any number of whole directories, `?` one character, `[a-z]` and
/// `[!a-z]` one of a set, `{a,b}` alternatives, `\` takes the meaning from the next character.
#[derive(Clone)]
pub struct Glob {
    text: String,
    /// What each matching key starts with; the whole key when the pattern has no wildcard.
    prefix: String,
    /// `None` when the pattern is exactly one key.
    regex: Option<Regex>,
    /// Slashes a matching key may hold at most; `None` with `**`.
    slashes: Option<usize>,
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    #[error("the pattern is empty")]
    Empty,
    #[error("the pattern is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("{bracket} is never closed in {pattern:?}; write \\{bracket} when the name holds it")]
    Unclosed { pattern: String, bracket: char },
    #[error("}} closes nothing in {pattern:?}; write \\}} when the name holds it")]
    Unopened { pattern: String },
    #[error("the range {from}-{to} in {pattern:?} runs backwards")]
    BackwardRange { pattern: String, from: char, to: char },
    #[error("** stands alone between slashes: write **/*.csv rather than **.csv in {pattern:?}")]
    LoneDoubleStar { pattern: String },
    #[error("{pattern:?} ends in a backslash")]
    TrailingBackslash { pattern: String },
    #[error("{pattern:?} is too complex")]
    TooComplex { pattern: String },
}

impl Glob {
    /// Exactly this key, whatever characters it holds.
    pub fn literal(key: impl Into<String>) -> Self {
        let key = key.into();
        Self { slashes: Some(key.matches('/').count()), text: key.clone(), prefix: key, regex: None }
    }

    /// Every key that starts with `prefix`.
    pub fn below(prefix: &str) -> Self {
        let regex = Regex::new(&format!("(?s)\\A{}.*\\z", regex::escape(prefix))).ok();
        Self { text: format!("{prefix}**"), prefix: prefix.to_owned(), regex, slashes: None }
    }

    pub fn matches(&self, key: &str) -> bool {
        match &self.regex {
            Some(regex) => key.starts_with(&self.prefix) && regex.is_match(key),
            None => key == self.prefix,
        }
    }

    /// What each matching key starts with: the listing begins there.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key, when the pattern is exactly one.
    pub fn as_literal(&self) -> Option<&str> {
        self.regex.is_none().then_some(&self.prefix)
    }

    /// Whether a key below this directory (empty, or ending in `/`) can match.
    pub fn may_match_below(&self, directory: &str) -> bool {
        let on_the_way = directory.starts_with(&self.prefix) || self.prefix.starts_with(directory);
        on_the_way && self.slashes.is_none_or(|most| directory.matches('/').count() <= most)
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(GlobError::TooLong);
        }
        let parsed = Parser { text, rest: text, at_segment_start: true, double_star: false }.parse()?;
        let slashes = (!parsed.double_star).then(|| text.matches('/').count());
        let regex = match &parsed.regex {
            Some(regex) => Some(Regex::new(regex).map_err(|_| GlobError::TooComplex { pattern: text.to_owned() })?),
            None => None,
        };
        Ok(Self { text: text.to_owned(), prefix: parsed.prefix, regex, slashes })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.text)
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.regex.is_some() == other.regex.is_some()
    }
}

impl Eq for Glob {}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    at_segment_start: bool,
    double_star: bool,
}

struct Parsed {
    prefix: String,
    regex: Option<String>,
    double_star: bool,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<Parsed, GlobError> {
        let mut prefix = String::new();
        while let Some(char) = self.rest.chars().next() {
            if "*?[{}".contains(char) {
                break;
            }
            let literal = self.literal()?;
            self.at_segment_start = literal == '/';
            prefix.push(literal);
        }
        if self.rest.is_empty() {
            return Ok(Parsed { prefix, regex: None, double_star: false });
        }
        let mut regex = format!("(?s)\\A{}", regex::escape(&prefix));
        self.sequence(&mut regex, 0)?;
        if !self.rest.is_empty() {
            return Err(GlobError::Unopened { pattern: self.text.to_owned() });
        }
        regex.push_str("\\z");
        Ok(Parsed { prefix, regex: Some(regex), double_star: self.double_star })
    }

    /// One character that stands for itself.
    fn literal(&mut self) -> Result<char, GlobError> {
        let mut chars = self.rest.chars();
        let mut char = chars.next().unwrap_or_default();
        if char == '\\' {
            char = chars.next().ok_or_else(|| GlobError::TrailingBackslash { pattern: self.text.to_owned() })?;
        }
        self.rest = chars.as_str();
        Ok(char)
    }

    /// Up to the end, or inside braces up to the `,` or `}` that ends an alternative.
    fn sequence(&mut self, regex: &mut String, depth: usize) -> Result<(), GlobError> {
        while let Some(char) = self.rest.chars().next() {
            match char {
                '}' => return Ok(()),
                ',' if depth > 0 => return Ok(()),
                '*' => self.star(regex)?,
                '?' => {
                    self.rest = &self.rest[1..];
                    self.at_segment_start = false;
                    regex.push_str("[^/]");
                }
                '[' => self.set(regex)?,
                '{' => self.alternatives(regex, depth)?,
                _ => {
                    let literal = self.literal()?;
                    self.at_segment_start = literal == '/';
                    regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
                }
            }
        }
        Ok(())
    }

    fn star(&mut self, regex: &mut String) -> Result<(), GlobError> {
        let after = self.rest.trim_start_matches('*');
        let stars = self.rest.len() - after.len();
        self.rest = after;
        if stars == 1 {
            self.at_segment_start = false;
            regex.push_str("[^/]*");
            return Ok(());
        }
        let alone = stars == 2 && self.at_segment_start && (after.is_empty() || after.starts_with(['/', ',', '}']));
        if !alone {
            return Err(GlobError::LoneDoubleStar { pattern: self.text.to_owned() });
        }
        self.double_star = true;
        if let Some(below) = after.strip_prefix('/') {
            self.rest = below;
            self.at_segment_start = true;
            regex.push_str("(?:.*/)?");
        } else {
            self.at_segment_start = false;
            regex.push_str(".+");
        }
        Ok(())
    }

    fn set(&mut self, regex: &mut String) -> Result<(), GlobError> {
        let unclosed = || GlobError::Unclosed { pattern: self.text.to_owned(), bracket: '[' };
        let mut rest = &self.rest[1..];
        let negated = rest.starts_with(['!', '^']);
        if negated {
            rest = &rest[1..];
        }
        let mut members: Vec<(char, char)> = Vec::new();
        loop {
            let mut chars = rest.chars();
            let from = match chars.next().ok_or_else(unclosed)? {
                ']' if !members.is_empty() => {
                    rest = chars.as_str();
                    break;
                }
                '\\' => chars.next().ok_or_else(unclosed)?,
                char => char,
            };
            rest = chars.as_str();
            // A hyphen before the closing bracket is itself.
            let ranged = rest.strip_prefix('-').filter(|after| !after.starts_with(']'));
            let to = match ranged {
                None => from,
                Some(after) => {
                    let mut chars = after.chars();
                    let to = match chars.next().ok_or_else(unclosed)? {
                        '\\' => chars.next().ok_or_else(unclosed)?,
                        char => char,
                    };
                    rest = chars.as_str();
                    to
                }
            };
            if from > to {
                return Err(GlobError::BackwardRange { pattern: self.text.to_owned(), from, to });
            }
            members.push((from, to));
        }
        self.rest = rest;
        self.at_segment_start = false;
        // Neither a set nor its complement ever stands for `/`.
        regex.push_str(if negated { "[^/" } else { "[[" });
        for (from, to) in members {
            regex.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(from), u32::from(to)));
        }
        regex.push_str(if negated { "]" } else { "]&&[^/]]" });
        Ok(())
    }

    fn alternatives(&mut self, regex: &mut String, depth: usize) -> Result<(), GlobError> {
        if depth == MAX_DEPTH {
            return Err(GlobError::TooComplex { pattern: self.text.to_owned() });
        }
        self.rest = &self.rest[1..];
        let start = self.at_segment_start;
        let mut ends_at_segment_start = false;
        regex.push_str("(?:");
        loop {
            self.at_segment_start = start;
            self.sequence(regex, depth + 1)?;
            ends_at_segment_start |= self.at_segment_start;
            match self.rest.chars().next() {
                Some(',') => regex.push('|'),
                Some(_) => break,
                None => return Err(GlobError::Unclosed { pattern: self.text.to_owned(), bracket: '{' }),
            }
            self.rest = &self.rest[1..];
        }
        self.rest = &self.rest[1..];
        self.at_segment_start = ends_at_segment_start;
        regex.push(')');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> Glob {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn wildcards_mean_what_people_expect() {
        for (pattern, yes, no) in [
            (
                "customers/*.csv*",
                &["customers/a.csv", "customers/.csv.gz"][..],
                &["customers/a/b.csv", "customers/a.tsv"][..],
            ),
            ("**/*.csv", &["a.csv", "x/a.csv", "x/y/a.csv", "x//a.csv"], &["a.csv/b"]),
            ("x/**/a.csv", &["x/a.csv", "x/y/z/a.csv"], &["a.csv", "xy/a.csv"]),
            ("x/**", &["x/a", "x/y/z"], &["x", "x/", "xy"]),
            ("Pe?a.csv", &["Peña.csv", "Pena.csv"], &["Pea.csv", "Pe/a.csv"]),
            ("[0-9][!0-9ñ].csv", &["1a.csv"], &["11.csv", "1ñ.csv", "1/.csv"]),
            ("[]a-].csv", &["].csv", "a.csv", "-.csv"], &["b.csv"]),
            ("x[+-9]y", &["x.y", "x0y"], &["x/y"]),
            ("{a,b/{c,d}}/*.csv", &["a/1.csv", "b/c/1.csv", "b/d/1.csv"], &["b/1.csv", "c/1.csv"]),
            ("{a,}.csv", &["a.csv", ".csv"], &["b.csv"]),
            ("{**/,}x.csv", &["x.csv", "a/b/x.csv"], &["ax.csv"]),
            (r"\[table\].csv", &["[table].csv"], &["t.csv"]),
            ("a+(b)$.csv", &["a+(b)$.csv"], &["aab.csv"]),
            ("*", &["a", "line\nbreak.csv"], &["a/b"]),
        ] {
            let glob = glob(pattern);
            yes.iter().for_each(|key| assert!(glob.matches(key), "{pattern} should match {key}"));
            no.iter().for_each(|key| assert!(!glob.matches(key), "{pattern} should not match {key}"));
        }
    }

    #[test]
    fn the_literal_prefix_ends_before_the_first_wildcard() {
        for (pattern, prefix) in
            [("customers/2024-*.csv", "customers/2024-"), ("**/a", ""), (r"\*a/{b,c}", "*a/"), ("a/b.csv", "a/b.csv")]
        {
            assert_eq!(glob(pattern).prefix(), prefix);
        }
        assert_eq!(glob("a/b.csv").as_literal(), Some("a/b.csv"));
        assert_eq!(glob("a/*.csv").as_literal(), None);
    }

    #[test]
    fn a_name_with_glob_characters_can_be_meant_literally() {
        let literal = Glob::literal("[table].csv");
        assert!(literal.matches("[table].csv"));
        assert!(!literal.matches("t.csv"));
    }

    #[test]
    fn only_directories_that_can_hold_a_match_are_entered() {
        let flat = glob("customers/2024-*.csv");
        assert!(flat.may_match_below(""));
        assert!(flat.may_match_below("customers/"));
        assert!(!flat.may_match_below("customers/2024-01/"));
        assert!(!flat.may_match_below("orders/"));
        assert!(glob("a/**/x").may_match_below("a/b/c/d/"));
    }

    #[test]
    fn a_wrong_pattern_says_what_is_wrong() {
        for (pattern, expected) in [
            ("", "empty"),
            ("a[b", "[ is never closed"),
            ("a{b,c", "{ is never closed"),
            ("a}b", "} closes nothing"),
            ("a**.csv", "stands alone"),
            ("[z-a]", "runs backwards"),
            ("a*\\", "ends in a backslash"),
        ] {
            let error = pattern.parse::<Glob>().unwrap_err().to_string();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_an_error(pattern in "\\PC{0,40}", key in "\\PC{0,20}") {
            if let Ok(glob) = pattern.parse::<Glob>() {
                prop_assert!(!glob.matches(&key) || key.starts_with(glob.prefix()));
            }
        }

        #[test]
        fn an_escaped_key_matches_itself_only(key in "\\PC{1,20}", other in "\\PC{1,20}") {
            let escaped: String = key.chars().flat_map(|char| ['\\', char]).collect();
            let glob = glob(&escaped);
            prop_assert!(glob.matches(&key));
            prop_assert_eq!(glob.matches(&other), other == key);
        }
    }
}
