//! Regular expressions in a pipeline file: what is wrong with one, and where in it.

use std::ops::Range;

use regex::Regex;

use super::problem::Collector;
use super::section::At;

/// Compiles `expression`, or reports why not.
pub(super) fn check(problems: &mut Collector<'_>, expression: &At<String>) -> Option<Regex> {
    // The syntax crate tells the place; the regex crate alone tells it in prose, and judges the size.
    if let Err(error) = regex_syntax::parse(&expression.value) {
        let (message, place) = match &error {
            regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span()),
            regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span()),
            other => {
                problems.push(expression.span.clone(), format!("not a regular expression: {other}"));
                return None;
            }
        };
        let span = within(problems.text(), expression, place.start.offset..place.end.offset);
        let look_around = message.contains("look-around") || message.contains("backreferences");
        let hint = look_around.then(|| "patterns match in linear time; look-around and backreferences cannot".into());
        problems.add(span, format!("not a regular expression: {message}"), hint);
        return None;
    }
    compile(problems, &expression.value, expression)
}

/// As [`check`], for a pattern that must match the whole value.
pub(super) fn check_whole(problems: &mut Collector<'_>, expression: &At<String>) {
    if check(problems, expression).is_some() {
        compile(problems, &format!("^(?:{})$", expression.value), expression);
    }
}

fn compile(problems: &mut Collector<'_>, pattern: &str, expression: &At<String>) -> Option<Regex> {
    Regex::new(pattern)
        .map_err(|error| {
            let message = match error {
                regex::Error::CompiledTooBig(limit) => {
                    format!("this regular expression compiles to more than {limit} bytes")
                }
                other => format!("not a regular expression: {other}"),
            };
            problems.push(expression.span.clone(), message);
        })
        .ok()
}

/// Reports groups the replacement names and the pattern does not have: they would silently become nothing.
pub(super) fn check_replacement(problems: &mut Collector<'_>, regex: &Regex, with: &At<String>) {
    let text = &with.value;
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
        let after = &text[dollar + 1..];
        if after.starts_with('$') {
            at = dollar + 2;
            continue;
        }
        let (name, len) = match after.strip_prefix('{') {
            Some(inner) => match inner.find('}') {
                Some(end) => (&inner[..end], end + 2),
                None => ("", 0),
            },
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        at = dollar + 1 + len;
        if name.is_empty() {
            continue; // a plain dollar sign, as the regex crate reads it
        }
        let known = match name.parse::<usize>() {
            Ok(index) => index < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|known| known == name),
        };
        if !known {
            let span = within(problems.text(), with, dollar..at);
            let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
            let hint = if digits > 0 && digits < name.len() {
                format!(
                    "write ${{{}}}{} for group {} and text after it",
                    &name[..digits],
                    &name[digits..],
                    &name[..digits]
                )
            } else {
                "write $$ for a dollar sign".into()
            };
            problems.push_hint(span, format!("the regular expression has no group {name:?}"), hint);
        }
    }
}

/// The place of a part of a text value; the whole value when escapes make the file's text differ.
fn within(file: &str, value: &At<String>, part: Range<usize>) -> Range<usize> {
    let raw = file.get(value.span.clone()).unwrap_or_default();
    match raw.find(&*value.value) {
        Some(at) if !value.value.is_empty() => {
            let start = value.span.start + at;
            start + part.start..start + part.end
        }
        _ => value.span.clone(),
    }
}
