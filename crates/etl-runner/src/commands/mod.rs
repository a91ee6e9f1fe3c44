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
mod run;
mod setup;
mod show;
mod signals;
mod undo;
mod verify;

use clap::CommandFactory;
use cli::{Exit, Screen, Terminal};
use etl_runner::database::{Database, DatabaseConfig, DatabaseUrl};
use serde::Serialize;

use crate::config::{Command, Config, DatabaseFlag, Rejects};
use failure::Failure;

/// Set for PostgreSQL and nothing else.
const POSTGRES_VARIABLES: [&str; 5] = ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGUSER"];

/// Does what the command line says. Whatever happened, the person has been told when this returns.
pub(crate) fn execute(config: &Config) -> Exit {
    let terminal = config.flags.terminal();
    let name = config.command.name();
    let context = |database: &DatabaseFlag| Context { terminal, name, database_flag: database.database.clone() };
    let ended = match &config.command {
        Command::Run(args) => run::run(args, &context(&args.database)),
        Command::Check(args) => check::check(args, &context(&args.database)),
        Command::Setup(args) => setup::setup(args, &context(&args.database)),
        Command::Ddl(args) => ddl::ddl(args, &context(&args.database)),
        Command::Loads(args) => loads::loads(args, &context(&args.database)),
        Command::Show(args) => show::show(args, &context(&args.database)),
        Command::Rejects(Rejects::List(args)) => rejects::list(args, &context(&args.database)),
        Command::Rejects(Rejects::Export(args)) => rejects::export(args, &context(&args.database)),
        Command::Verify(args) => verify::verify(args, &context(&args.database)),
        Command::Undo(args) => undo::undo(args, &context(&args.database)),
        Command::Completions { shell } => cli::print_completions(*shell, Config::command())
            .map_err(|error| Failure::output(&error))
            .map(|()| Exit::Done),
    };
    ended.unwrap_or_else(|failure| failure.show(terminal, name))
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

    /// A command to type next, on the same database.
    fn next(&self, arguments: &str) -> String {
        match &self.database_flag {
            Some(url) => format!("etl-runner {arguments} --database {}", shell_word(url)),
            None => format!("etl-runner {arguments}"),
        }
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

/// A word a shell takes as it is.
fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_can_be_pasted_into_a_shell() {
        let mut context = Context { terminal: Terminal::default(), name: "x", database_flag: None };
        assert_eq!(context.next("show 2"), "etl-runner show 2");
        context.database_flag = Some("sqlite:./a/b.db".into());
        assert_eq!(context.next("show 2"), "etl-runner show 2 --database sqlite:./a/b.db");
        context.database_flag = Some("sqlite:it's here;.db".into());
        assert_eq!(context.next("show 2"), r"etl-runner show 2 --database 'sqlite:it'\''s here;.db'");
    }
}
