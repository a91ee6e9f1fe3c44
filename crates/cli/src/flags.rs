//! The flags every command has, and what follows from them.

use std::io::IsTerminal;

use crate::color::{Color, Style};
use crate::log::init_logging;
use crate::screen::Screen;

/// How log lines are written: `text` or `json`.
const LOG_FORMAT: &str = "AQUEDUCT_LOG_FORMAT";

/// Flattened into each binary's own flags.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct Flags {
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results, warnings and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Color,
    /// Log what is done to stderr; twice for more. AQUEDUCT_LOG takes a filter such as `objects=debug`
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

impl Flags {
    /// Starts logging as the flags say.
    pub fn init_logging(&self) {
        let verbosity = if self.quiet { -1 } else { i8::try_from(self.verbose).unwrap_or(i8::MAX) };
        let json = match std::env::var_os(LOG_FORMAT) {
            Some(format) if format == "json" => true,
            Some(format) if !format.is_empty() && format != "text" => {
                let style = self.color.style(std::io::stderr().is_terminal());
                Screen::warning(format!("{LOG_FORMAT} is neither text nor json; log lines are text")).show(style);
                false
            }
            Some(_) | None => false,
        };
        init_logging(verbosity, json, self.color);
    }

    /// What the two streams are, looked at once.
    pub fn terminal(&self) -> Terminal {
        let stderr = std::io::stderr().is_terminal();
        Terminal {
            out: self.color.style(std::io::stdout().is_terminal()),
            err: self.color.style(stderr),
            json: self.json,
            quiet: self.quiet,
            progress: stderr && !self.quiet && !self.json,
        }
    }
}

/// How to talk to the person, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// For stdout.
    pub out: Style,
    /// For stderr.
    pub err: Style,
    pub json: bool,
    pub quiet: bool,
    /// Progress bars may be drawn.
    pub progress: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct App {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn flags_fit_into_a_command() {
        App::command().debug_assert();
        let app = App::try_parse_from(["app", "--json", "-vv", "--color", "never"]).unwrap();
        assert!(app.flags.json && app.flags.verbose == 2 && app.flags.color == Color::Never);
    }

    #[test]
    fn quiet_and_verbose_together_are_wrong_usage() {
        assert!(App::try_parse_from(["app", "-q", "-v"]).is_err());
    }

    #[test]
    fn json_means_no_progress_bar() {
        assert!(!Flags { json: true, ..Flags::default() }.terminal().progress);
    }
}
