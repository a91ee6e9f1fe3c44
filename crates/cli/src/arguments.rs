//! The command line, and what a script is told when it is wrong.

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde::Serialize;

use crate::exit::Exit;
use crate::json::print_json;
use crate::screen::Screen;

/// The document of a command line that means nothing.
#[derive(Serialize)]
struct Document {
    exit: u8,
    errors: [Screen; 1],
}

/// Reads the command line, or ends the process as clap does: 0 after help, 2 after a mistake. With `--json` among the
/// arguments a mistake is also a document on stdout. `command` is the program's name.
pub fn parse<T: Parser>(command: &str) -> T {
    let mut error = match T::try_parse() {
        Ok(config) => return config,
        Err(error) => error,
    };
    hide_url(&mut error);
    let is_mistake = error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_mistake && wants_json(std::env::args_os().skip(1)) {
        let document = Document { exit: Exit::Usage.code(), errors: [screen(&error.render().to_string())] };
        // With nowhere to write the document there is nothing more to say than clap's own message.
        let _ = print_json(command, &document);
    }
    error.exit()
}

/// A URL that is wrong may hold a password, or a signature.
fn hide_url(error: &mut clap::Error) {
    let shown = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.split_once("://").map(|(scheme, _)| format!("{scheme}://…")),
        _ => None,
    };
    if let Some(shown) = shown {
        error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    }
}

fn wants_json(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> bool {
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Clap's message: what is wrong comes first, up to a blank line; usage and hints follow.
fn screen(text: &str) -> Screen {
    let what = text.split("\n\n").next().unwrap_or_default();
    let what = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    Screen::error(what.strip_prefix("error: ").unwrap_or(&what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Style;

    #[test]
    fn a_document_is_wanted_by_the_flag_and_not_by_a_file_of_that_name() {
        let wants = |line: &str| wants_json(line.split(' ').map(Into::into));
        assert!(wants("run --nonsense --json"));
        assert!(!wants("run --nonsense"));
        assert!(!wants("run -- --json"));
    }

    #[test]
    fn what_is_wrong_stands_without_usage_and_hints() {
        let text = "error: the following required arguments were not provided:\n  <FILE>\n\nUsage: x <FILE>\n";
        assert_eq!(
            screen(text).render(Style::PLAIN),
            "error: the following required arguments were not provided: <FILE>\n"
        );
    }
}
