//! The one screen a person gets when something is wrong: what, why, what to try.

use std::error::Error;
use std::fmt::Write as _;

use serde::Serialize;

use crate::color::Style;
use crate::escape::escape;
use crate::print::print_message;

/// What happened, the causes behind it, and what to try. Every text is escaped when it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Screen {
    #[serde(skip)]
    kind: Kind,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    /// Shown as it is, line by line: a snippet with a caret, a statement to paste.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    help: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Warning,
    Note,
}

impl Screen {
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Kind::Error, message.into())
    }

    /// Odd, nothing lost.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Kind::Warning, message.into())
    }

    pub fn note(message: impl Into<String>) -> Self {
        Self::new(Kind::Note, message.into())
    }

    /// An error and its causes.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        Self::error(error.to_string()).caused_by_chain(error.source())
    }

    fn new(kind: Kind, message: String) -> Self {
        Self { kind, message, causes: Vec::new(), details: None, help: Vec::new() }
    }

    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        // A cause is one line; other people's errors may come in several.
        let cause = cause.into().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let said = self.causes.last().unwrap_or(&self.message);
        // Some libraries repeat their source in their own message.
        if !cause.is_empty() && !said.ends_with(&cause) {
            self.causes.push(cause);
        }
        self
    }

    /// `source` and what is behind it.
    #[must_use]
    pub fn caused_by_chain(mut self, source: Option<&(dyn Error + 'static)>) -> Self {
        let mut next = source;
        while let Some(error) = next {
            self = self.cause(error.to_string());
            next = error.source();
        }
        self
    }

    /// Several lines shown as they are, such as a snippet with a caret.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// What to try.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// With other words for what to try.
    #[must_use]
    pub fn map_help(mut self, map: impl Fn(&str) -> String) -> Self {
        self.help.iter_mut().for_each(|help| *help = map(help));
        self
    }

    /// The screen as text, with a line end.
    pub fn render(&self, style: Style) -> String {
        let mut text = String::new();
        let label = match self.kind {
            Kind::Error => style.red("error:").to_string(),
            Kind::Warning => style.yellow("warning:").to_string(),
            Kind::Note => style.bold("note:").to_string(),
        };
        let _ = writeln!(text, "{label} {}", escape(&self.message));
        for cause in &self.causes {
            let _ = writeln!(text, "  {} {}", style.dim("because:"), escape(cause));
        }
        if let Some(details) = &self.details {
            for line in details.trim_end_matches('\n').split('\n') {
                let mut pieces = line.split('\t').map(escape);
                // Tabs stay, or a caret below them would point elsewhere.
                if let Some(first) = pieces.next() {
                    let _ = write!(text, "{first}");
                }
                for piece in pieces {
                    let _ = write!(text, "\t{piece}");
                }
                text.push('\n');
            }
        }
        for help in &self.help {
            let _ = writeln!(text, "{} {}", style.green("help:"), escape(help));
        }
        text
    }

    /// Writes the screen to stderr.
    pub fn show(&self, style: Style) {
        print_message(self.render(style));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("open a.csv")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_screen_says_what_why_and_what_to_try() {
        let screen = Screen::of(&Outer(io::Error::other("no such file"))).help("look again").help("or ask");
        assert_eq!(
            screen.render(Style::PLAIN),
            "error: open a.csv\n  because: no such file\nhelp: look again\nhelp: or ask\n"
        );
    }

    #[test]
    fn a_cause_already_said_is_not_said_twice() {
        let screen = Screen::error("open a.csv: no such file").cause("no such file");
        assert_eq!(screen.render(Style::PLAIN), "error: open a.csv: no such file\n");
    }

    #[test]
    fn a_cause_of_several_lines_becomes_one() {
        let screen = Screen::error("no credentials").cause("looked in:\n  the environment\n  the profile");
        assert_eq!(
            screen.render(Style::PLAIN),
            "error: no credentials\n  because: looked in: the environment the profile\n"
        );
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        let screen = Screen::error("a\x1b[2J\nb").details("x\x1b\n\ty\n").help("c\u{202e}");
        assert_eq!(screen.render(Style::PLAIN), "error: a\\x1b[2J\\nb\nx\\x1b\n\ty\nhelp: c\\u{202e}\n");
    }
}
