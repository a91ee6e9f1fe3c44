//! What a person types and sees: one module per command, and what they share.
//!
//! Phase 1 of each command needs no network: flags, environment and pipeline files are read and checked. Only then is
//! there a runtime ([`signals::block_on`]) and a connection.

mod check;
mod columns;
mod ddl;
mod failure;
mod load_text;
mod loads;
mod metrics;
mod pipelines;
mod rejects;
mod replay;
mod run;
mod setup;
mod show;
mod signals;
mod undo;
mod verify;

use std::path::Path;

use clap::CommandFactory;
use cli::{Exit, Screen, Terminal};
use etl_runner::database::{Database, DatabaseConfig, DatabaseUrl};
use serde::Serialize;

use crate::config::{Command, Config, DatabaseFlag, Rejects, StoreFlag};
use failure::Failure;

/// Set for PostgreSQL and nothing else.
const POSTGRES_VARIABLES: [&str; 5] = ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGUSER"];

/// Does what the command line says. Whatever happened, the person has been told when this returns.
pub(crate) fn execute(config: &Config) -> Exit {
    let terminal = config.flags.terminal();
    let name = config.command.name();
    let context = Context {
        terminal,
        name,
        database_flag: config.command.database().and_then(|flag| flag.database.clone()),
        store_flag: config.command.store().and_then(StoreFlag::given),
    };
    let ended = match &config.command {
        Command::Run(args) => run::run(args, &context),
        Command::Check(args) => check::check(args, &context),
        Command::Setup(args) => setup::setup(args, &context),
        Command::Ddl(args) => ddl::ddl(args, &context),
        Command::Loads(args) => loads::loads(args, &context),
        Command::Show(args) => show::show(args, &context),
        Command::Rejects(Rejects::List(args)) => rejects::list(args, &context),
        Command::Rejects(Rejects::Export(args)) => rejects::export(args, &context),
        Command::Rejects(Rejects::Replay(args)) => replay::replay(args, &context),
        Command::Rejects(Rejects::Purge(args)) => rejects::purge(args, &context),
        Command::Verify(args) => verify::verify(args, &context),
        Command::Undo(args) => undo::undo(args, &context),
        Command::Completions { shell } => {
            cli::print_completions(*shell, Config::command(), terminal.json.then_some(name))
                .map_err(|error| Failure::output(&error))
                .map(|()| Exit::Done)
        }
    };
    ended.unwrap_or_else(|failure| failure.completed(&context).show(terminal, name))
}

/// A document says what the process ends with.
#[derive(Serialize)]
struct Ending<'a, T> {
    exit: u8,
    #[serde(flatten)]
    body: &'a T,
}

/// What every command has at hand.
#[derive(Debug)]
struct Context {
    terminal: Terminal,
    name: &'static str,
    database_flag: Option<String>,
    store_flag: Option<String>,
}

/// Between backquotes in a text, a command of ours.
const COMMAND: &str = "`etl-runner ";

/// What the words in capitals stand for in the hints of the library.
#[derive(Clone, Debug)]
struct Hint<'a> {
    pipeline: &'a Path,
    /// What names the object after the pipeline: a file, or `--object KEY`.
    object: String,
    load: Option<i64>,
}

impl Context {
    /// Writes the result for people, or the document.
    fn print(&self, text: &str, document: &impl Serialize) -> Result<(), Failure> {
        self.print_ending(Exit::Done, text, document)
    }

    /// The same for a result that has another code than 0.
    fn print_ending(&self, exit: Exit, text: &str, document: &impl Serialize) -> Result<(), Failure> {
        let written = if self.terminal.json {
            cli::print_json(self.name, &Ending { exit: exit.code(), body: document })
        } else {
            cli::print(text)
        };
        written.map_err(|error| Failure::output(&error))
    }

    /// Where the database is. Who has PostgreSQL's variables set may believe that to be it.
    fn resolve(&self, flag: &DatabaseFlag) -> Result<DatabaseConfig, Failure> {
        let config = flag.resolve()?;
        let variable =
            POSTGRES_VARIABLES.into_iter().find(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
        if let Some(variable) = variable
            && matches!(config.url(), DatabaseUrl::Sqlite(_))
            && flag.database.is_none()
            && std::env::var_os("DATABASE_URL").is_none_or(|url| url.is_empty())
            && !self.terminal.quiet
        {
            Screen::note(format!("{variable} is set, but no DATABASE_URL: the database in use is {}", config.url()))
                .help("DATABASE_URL=postgres:// is PostgreSQL as the PG* variables say")
                .show(self.terminal.err);
        }
        Ok(config)
    }

    /// A command to type next, on the same database and the same store.
    fn next(&self, arguments: &str) -> String {
        let mut command = format!("etl-runner {arguments}");
        if let Some(url) = &self.store_flag
            && (arguments.starts_with("run ") || arguments.starts_with("check "))
        {
            command.push_str(&format!(" --store {}", cli::shell_word(url)));
        }
        // What is set up is set up by somebody else.
        if let Some(url) = &self.database_flag
            && !arguments.starts_with("setup")
        {
            command.push_str(&format!(" --database {}", cli::shell_word(url)));
        }
        command
    }

    /// A text with its commands as they can be typed.
    fn complete(&self, text: &str) -> String {
        each_command(text, |arguments| self.next(arguments))
    }

    /// A hint of the library with its commands as they can be typed. `None` when it speaks of a load that is not there.
    fn hint(&self, text: &str, hint: &Hint<'_>) -> Option<String> {
        let mut is_whole = true;
        let text = each_command(text, |arguments| {
            let word = |word: &str| match (word, hint.load) {
                ("PIPELINE", _) => cli::shell_word(&hint.pipeline.display().to_string()),
                ("OBJECT", _) => hint.object.clone(),
                ("LOAD", Some(load)) => load.to_string(),
                ("LOAD", None) => {
                    is_whole = false;
                    String::new()
                }
                (word, _) => word.to_owned(),
            };
            self.next(&arguments.split(' ').map(word).collect::<Vec<_>>().join(" "))
        });
        is_whole.then_some(text)
    }

    /// Connects to a database that is there and has a ledger, for commands that make none.
    async fn open_ledger(&self, config: DatabaseConfig) -> Result<Database, Failure> {
        let address = config.url().to_string();
        let opened = Database::connect(&config.existing()).await;
        let mut database = opened.map_err(|error| Failure::nothing_there(&address, &error))?;
        match database.has_ledger().await {
            Ok(true) => Ok(database),
            Ok(false) => Err(Failure::no_ledger(&address)),
            Err(error) => Err(Failure::database(&error)),
        }
    }
}

/// The text with its commands replaced by what `next` makes of their arguments.
fn each_command(text: &str, mut next: impl FnMut(&str) -> String) -> String {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some((before, command)) = rest.split_once(COMMAND)
        && let Some((arguments, after)) = command.split_once('`')
    {
        whole.push_str(&format!("{before}`{}`", next(arguments)));
        rest = after;
    }
    whole + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_can_be_pasted_into_a_shell() {
        let mut context = Context { terminal: Terminal::default(), name: "x", database_flag: None, store_flag: None };
        assert_eq!(context.next("show 2"), "etl-runner show 2");
        context.database_flag = Some("sqlite:./a/b.db".into());
        assert_eq!(context.next("show 2"), "etl-runner show 2 --database sqlite:./a/b.db");
        context.database_flag = Some("sqlite:it's here;.db".into());
        assert_eq!(context.next("show 2"), r"etl-runner show 2 --database 'sqlite:it'\''s here;.db'");
    }

    #[test]
    fn a_hint_is_a_whole_command() {
        let (database_flag, store_flag) = (Some("sqlite:a.db".into()), Some("s3://b".into()));
        let context = Context { terminal: Terminal::default(), name: "x", database_flag, store_flag };
        let mut hint = Hint { pipeline: Path::new("my pipes/p.toml"), object: "--object k".into(), load: None };
        let text = "`etl-runner run PIPELINE OBJECT --reload` loads it; `LOAD` and `etl-runner loads` stay";
        assert_eq!(
            context.hint(text, &hint).unwrap(),
            "`etl-runner run 'my pipes/p.toml' --object k --reload --store s3://b --database sqlite:a.db` loads it; \
             `LOAD` and `etl-runner loads --database sqlite:a.db` stay"
        );
        let text = "`etl-runner rejects list LOAD` shows them";
        assert_eq!(context.hint(text, &hint), None);
        hint.load = Some(3);
        assert_eq!(context.hint(text, &hint).unwrap(), "`etl-runner rejects list 3 --database sqlite:a.db` shows them");
        assert_eq!(context.complete("an `etl-runner with no end"), "an `etl-runner with no end");
    }
}
