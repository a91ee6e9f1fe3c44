//! What a person is told when something is wrong, and with which code the process ends.

use std::io;
use std::path::Path;

use cli::{Exit, Screen, Terminal, human};
use etl_runner::database::{ConfigError, DatabaseError, NameError};
use etl_runner::report::{LoadReport, Outcome};
use etl_runner::run::{NoMatch, RunError};
use objects::StoreError;
use serde::Serialize;

use super::{Context, Hint, load_text};

/// An exit code with what is shown.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) screens: Vec<Screen>,
}

/// The document of a command that has no result.
#[derive(Serialize)]
struct FailureDocument<'a> {
    exit: u8,
    errors: &'a [Screen],
}

impl Failure {
    pub(super) fn new(exit: Exit, screen: Screen) -> Self {
        Self { exit, screens: vec![screen] }
    }

    /// Several at once. The exit code is the one that calls for a person most.
    pub(super) fn all(failures: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut all: Option<Self> = None;
        for failure in failures {
            match &mut all {
                None => all = Some(failure),
                Some(all) => {
                    all.exit = worse(all.exit, failure.exit);
                    all.screens.extend(failure.screens);
                }
            }
        }
        all
    }

    /// With the commands in its hints as they can be typed.
    pub(super) fn completed(self, context: &Context) -> Self {
        let screens = self.screens.into_iter().map(|screen| screen.map_help(|help| context.complete(help)));
        Self { screens: screens.collect(), ..self }
    }

    /// Shows it, and gives the code.
    pub(super) fn show(&self, terminal: Terminal, command: &str) -> Exit {
        self.show_screens(terminal);
        if terminal.json {
            // With nowhere to write the document there is nothing more to say than the screens.
            let document = FailureDocument { exit: self.exit.code(), errors: &self.screens };
            let _ = cli::print_json(command, &document);
        }
        self.exit
    }

    /// On stderr, as messages beside a result.
    pub(super) fn show_screens(&self, terminal: Terminal) {
        self.screens.iter().for_each(|screen| screen.show(terminal.err));
    }

    pub(super) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Usage, Screen::error(message).help(help))
    }

    pub(super) fn interrupted(exit: Exit) -> Self {
        Self::new(exit, Screen::error("interrupted"))
    }

    pub(super) fn runtime(source: &io::Error) -> Self {
        Self::new(Exit::Failed, Screen::error("start the runtime").cause(source.to_string()))
    }

    /// Results could not be written.
    pub(super) fn output(source: &io::Error) -> Self {
        Self::new(Exit::Failed, Screen::error("write the result").cause(source.to_string()))
    }

    /// What stands all the same, for a failure after a commit.
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        let help = help.into();
        let screens = self.screens.into_iter().map(|screen| screen.help(help.clone()));
        Self { screens: screens.collect(), ..self }
    }

    pub(super) fn file(action: &str, path: &Path, source: &io::Error) -> Self {
        let exit = if source.kind() == io::ErrorKind::PermissionDenied { Exit::Denied } else { Exit::Failed };
        Self::new(exit, Screen::error(format!("{action} {}", path.display())).cause(source.to_string()))
    }

    pub(super) fn store(error: &StoreError) -> Self {
        let exit = match error {
            _ if error.is_permission() => Exit::Denied,
            _ if error.is_retryable() => Exit::Temporary,
            StoreError::NoRegion | StoreError::Endpoint { .. } | StoreError::NotAFile { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        let screen = match error {
            // It names each place that was looked at, at length; the message says what to set.
            StoreError::NoCredentials { .. } => Screen::error(error.to_string()),
            _ => Screen::of(error),
        };
        let screen = match error {
            StoreError::DirectoryMissing { .. } | StoreError::BucketMissing { .. } => {
                screen.help("the store is --store or AQUEDUCT_STORE: a directory, or s3://bucket/prefix")
            }
            StoreError::Unreachable { .. } | StoreError::Timeout { .. } => {
                screen.help("is the network up, and are AWS_REGION and AWS_ENDPOINT_URL right?")
            }
            StoreError::NotAFile { kind: "a directory", path } => {
                screen.help(format!("give its files: {}/*.csv", path.display()))
            }
            StoreError::NotAFile { .. } => {
                screen.help("to load from a pipe, store it first: … | ingest upload - --key NAME")
            }
            StoreError::AccessDenied { action, .. } if !action.starts_with("s3:") => screen.help(
                "the user this runs as needs the right to read the files, and to enter each directory above them",
            ),
            StoreError::AccessDenied { .. } => {
                screen.help("a run lists and reads: s3:ListBucket on the bucket, s3:GetObject on its objects")
            }
            _ => screen,
        };
        Self::new(exit, screen)
    }

    pub(super) fn database(error: &DatabaseError) -> Self {
        let exit = match error {
            DatabaseError::Config(_) | DatabaseError::Name(_) => Exit::Usage,
            _ if error.is_temporary() => Exit::Temporary,
            _ if error.is_permission() => Exit::Denied,
            _ => Exit::Failed,
        };
        let screen = Screen::of(error);
        let screen = match error {
            DatabaseError::Unreachable { .. } => {
                screen.help("does the server run, and does DATABASE_URL name its host and port?")
            }
            DatabaseError::NotAccepting { .. } => screen.help("wait until it has started, or has connections free"),
            DatabaseError::Authentication { .. } => {
                screen.help("the password comes from DATABASE_URL, PGPASSWORD, ~/.pgpass or DATABASE_SECRET")
            }
            DatabaseError::NoSuchDatabase { .. } => {
                screen.help("make it with `createdb`, or name another one in DATABASE_URL")
            }
            DatabaseError::CannotOpen { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                screen.help("the directory has to be there; the database is --database or DATABASE_URL")
            }
            DatabaseError::CannotOpen { .. } | DatabaseError::NotADatabase { .. } => {
                screen.help("name another file with --database sqlite:PATH or DATABASE_URL")
            }
            DatabaseError::ReadOnly { .. } => screen.help("is this a standby?"),
            DatabaseError::ReadOnlyFile { .. } => screen.help("loading writes both: who may?"),
            DatabaseError::NoSuchLoad { .. } => screen.help("`etl-runner loads` lists them"),
            _ => screen,
        };
        Self::new(exit, screen)
    }

    /// Commands that look at loads have nothing to look at.
    pub(super) fn nothing_there(address: &str, error: &DatabaseError) -> Self {
        match error {
            DatabaseError::CannotOpen { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let screen = Screen::error(format!("there is no database {address}"));
                Self::new(
                    Exit::Failed,
                    screen.help("the first run of a pipeline makes it; --database or DATABASE_URL name another one"),
                )
            }
            _ => Self::database(error),
        }
    }

    pub(super) fn no_ledger(address: &str) -> Self {
        let screen = Screen::error(format!("there is no ledger in {address}: nothing was loaded into it yet"));
        Self::new(
            Exit::Failed,
            screen.help("the first run of a pipeline makes it; --database or DATABASE_URL name another database"),
        )
    }

    /// A run that could not begin, or go on. `pipeline` is the file.
    pub(super) fn run(error: &RunError, pipeline: &Path) -> Self {
        match error {
            RunError::Store(error) => Self::store(error),
            RunError::Database(error) => Self::database(error),
            RunError::Name(error) => Self::name(error, pipeline),
            RunError::NothingMatches(nothing) => Self::nothing_matches(nothing, pipeline),
            RunError::NoReload { .. } => Self::new(
                Exit::Failed,
                Screen::of(error).help("empty the table and set lineage = true, or set mode = \"replace\""),
            ),
            RunError::NoParallel { .. } => {
                Self::new(Exit::Usage, Screen::of(error).help("leave --parallel out: one connection loads it whole"))
            }
            _ => Self::new(Exit::Failed, Screen::of(error)),
        }
    }

    pub(super) fn nothing_matches(nothing: &NoMatch, pipeline: &Path) -> Self {
        let NoMatch { glob, store, prefix, nearest, unreadable, unlisted, passed_over } = nothing;
        let screen = Screen::error(format!("no object matches {glob} in {store}"));
        let names =
            human::counted(*unreadable, "name fits, is no object and was", "names fit, are no objects and were");
        let mut first: Vec<String> = passed_over.iter().map(|name| format!("    {}", cli::escape(name))).collect();
        let more = unreadable.saturating_sub(first.len() as u64);
        if more > 0 {
            first.push(format!("    … and {} more", human::count(more)));
        }
        let screen = match nearest.as_slice() {
            _ if *unreadable > 0 => screen.cause(format!("{names} passed over")).details(first.join("\n")),
            [] => screen.cause("the store is empty"),
            keys => {
                let screen = match prefix.as_str() {
                    "" => screen,
                    // A key taken as it is has no pattern after its start.
                    prefix if prefix == glob => screen,
                    prefix => screen.cause(format!("no key that starts with {prefix} fits")),
                };
                let keys: Vec<String> = keys.iter().map(|key| format!("    {}", cli::escape(key))).collect();
                screen.details(format!("  the nearest keys there are:\n{}", keys.join("\n")))
            }
        };
        if *unlisted > 0 {
            // Nobody knows that there is nothing.
            return Self::new(Exit::SomeFailed, screen);
        }
        let help = format!("bring a file there: ingest upload FILE.csv --pipeline {}", pipeline.display());
        Self::new(Exit::Failed, screen.help(help))
    }

    pub(super) fn name(error: &NameError, pipeline: &Path) -> Self {
        Self::new(Exit::Usage, Screen::error(format!("{}: target.table", pipeline.display())).cause(error.to_string()))
    }
}

/// A load that failed, with its first rejects as they can be opened in an editor.
pub(super) fn load_failed(report: &LoadReport, label: &str, context: &Context, hint: &Hint<'_>) -> Option<Screen> {
    let Outcome::Failed { error, help, load, .. } = &report.outcome else { return None };
    let mut screen = Screen::error(format!("{label} was not loaded into {}", report.table)).cause(error);
    let mut details = load_text::reject_lines(report, label);
    for help in help {
        match help.split_once('\n') {
            // A table that does not fit: what is wrong, and the statement to paste.
            Some((what, fix)) => details.extend([format!("  {what}"), format!("      {}", fix.trim_start())]),
            // Without a row in the ledger there is no load to look at.
            None => screen = context.hint(help, hint).into_iter().fold(screen, Screen::help),
        }
    }
    if !details.is_empty() {
        screen = screen.details(details.join("\n"));
    }
    Some(match load {
        Some(load) => {
            screen.help(format!("`{}` shows what the ledger keeps of it", context.next(&format!("show {load}"))))
        }
        None => screen,
    })
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let help = "DATABASE_URL or --database, such as postgres://user@host/database or sqlite:warehouse.db";
        Self::new(Exit::Usage, Screen::of(&error).help(help))
    }
}

/// Of two codes the one that calls for a person more: what to type, who may, what to repair; last what passes by itself.
pub(super) fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Temporary => 1,
        Exit::Differences => 2,
        Exit::SomeFailed => 3,
        Exit::DataGate => 4,
        Exit::Failed => 5,
        Exit::Denied => 6,
        Exit::Usage => 7,
        Exit::Interrupted | Exit::Terminated => 8,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_wrong_outranks_what_may_pass() {
        assert_eq!(worse(Exit::Temporary, Exit::Failed), Exit::Failed);
        assert_eq!(worse(Exit::Denied, Exit::Temporary), Exit::Denied);
        assert_eq!(worse(Exit::Done, Exit::Temporary), Exit::Temporary);
        assert_eq!(worse(Exit::Usage, Exit::Denied), Exit::Usage);
    }
}
