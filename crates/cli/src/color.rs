//! When to colour, and the four styles we use.

use std::fmt;

/// The `--color` flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// The style for a stream that is or is not a terminal.
    pub fn style(self, is_terminal: bool) -> Style {
        let on = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && !no_color() && understands_colour(),
        };
        Style { on }
    }
}

#[cfg(not(windows))]
fn understands_colour() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The console of Windows has to be asked to; terminals that come from elsewhere say what they are.
#[cfg(windows)]
fn understands_colour() -> bool {
    let is_asked = anstyle_query::windows::enable_ansi_colors() == Some(true);
    std::env::var_os("TERM").map_or(is_asked, |term| term != "dumb")
}

/// <https://no-color.org>: any value but an empty one.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Wraps text in colour, or leaves it as it is. The text is not escaped here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    on: bool,
}

impl Style {
    /// No colour: for text that goes into a file.
    pub const PLAIN: Self = Self { on: false };

    pub fn bold<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        self.wrap("1", text)
    }

    pub fn dim<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        self.wrap("2", text)
    }

    pub fn red<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        self.wrap("1;31", text)
    }

    pub fn green<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        self.wrap("32", text)
    }

    pub fn yellow<T: fmt::Display>(self, text: T) -> impl fmt::Display {
        self.wrap("1;33", text)
    }

    fn wrap<T: fmt::Display>(self, code: &'static str, text: T) -> Painted<T> {
        Painted { code: self.on.then_some(code), text }
    }
}

struct Painted<T> {
    code: Option<&'static str>,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            // The width in `{:>8}` goes to the text; the colour around it takes no room.
            Some(code) => {
                write!(f, "\x1b[{code}m")?;
                self.text.fmt(f)?;
                f.write_str("\x1b[0m")
            }
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_stands_around_the_padding() {
        let style = Color::Always.style(false);
        assert_eq!(format!("{:>4}", style.green("ab")), "\x1b[32m  ab\x1b[0m");
        assert_eq!(format!("{:>4}", Style::PLAIN.green("ab")), "  ab");
    }

    #[test]
    fn a_file_gets_no_colour_by_itself() {
        assert_eq!(Color::Auto.style(false), Style::PLAIN);
        assert_eq!(Color::Never.style(true), Style::PLAIN);
    }
}
