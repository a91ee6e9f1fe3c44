//! Why a database said no, in terms a person can act on.
//!
//! Servers put cell values into their messages, details and contexts. None of that passes this module: an error
//! carries the SQLSTATE and the names of server, table, constraint and column, nothing else.

use std::fmt;
use std::io;

use sqlx::postgres::PgDatabaseError;

use super::name::{NameError, TableName};
use super::secret::SecretError;
use super::url::ConfigError;
use crate::ledger::LoadState;
use crate::retry::MayPass;

/// Why a database said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("reach {server}")]
    Unreachable { server: String, source: io::Error },
    /// It is there and takes no connections now: starting, stopping, or full.
    #[error("{server} takes no connections now (SQLSTATE {sqlstate})")]
    NotAccepting { server: String, sqlstate: String },
    #[error("{server} refused user {user:?} or the password (SQLSTATE {sqlstate})")]
    Authentication { server: String, user: String, sqlstate: String },
    #[error(
        "agree on TLS with {server}; a private certificate authority is named with `sslrootcert=<file>` in the URL"
    )]
    Tls { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{server}: there is no such database")]
    NoSuchDatabase { server: String },
    #[error("open {path}")]
    CannotOpen { path: String, source: io::Error },
    #[error("{path} is not an SQLite database, or is damaged (code {code})")]
    NotADatabase { path: String, code: String },
    #[error("no permission to {doing} (SQLSTATE {sqlstate}); an administrator can run: {grant}")]
    Permission { doing: String, sqlstate: String, grant: String },
    #[error("the database is read-only, cannot {doing}")]
    ReadOnly { doing: String },
    /// SQLite writes beside the file too.
    #[error("the database file {path} or its directory is read-only, cannot {doing}")]
    ReadOnlyFile { path: String, doing: String },
    #[error("there is no table {table}")]
    NoSuchTable { table: String },
    /// No schema of the search path exists.
    #[error("the table {table} names no schema and the server's search_path has none for it; write schema.table")]
    NoSchema { table: String },
    #[error("{0}")]
    Refused(Box<Refusal>),
    #[error("there is no ledger in {server} and no permission to make one; run `etl-runner setup` as an administrator")]
    LedgerMissing { server: String },
    #[error("the ledger in {server} has version {found}, this program knows {known}; use a newer etl-runner")]
    LedgerNewer { server: String, found: i64, known: i64 },
    #[error("the ledger in {server} has version {found}, version {known} is needed; run `etl-runner setup`")]
    LedgerOlder { server: String, found: i64, known: i64 },
    /// The checksum that is recorded with a step of the ledger is not the one of our statements.
    #[error(
        "the ledger in {server} was made by other statements than this program has for version {version}; use the \
         etl-runner that made it, or restore the ledger"
    )]
    LedgerAltered { server: String, version: i64 },
    #[error("make the ledger in {server}: {reason}")]
    Migration { server: String, reason: String },
    #[error("there is no load {id}")]
    NoSuchLoad { id: i64 },
    #[error("load {id} cannot be undone: {reason}")]
    NotUndoable { id: i64, state: LoadState, reason: String },
    /// They were loaded before the table had lineage, or somebody deleted them.
    #[error(
        "no row of {table} has the number of load {load} in \"_load_id\", and rows without a number are there, which may \
         be of it: set it to {load} on those of load {load} and to another, such as 0, on others, or delete them; then try \
         again"
    )]
    RowsWithoutLoad { load: i64, table: String },
    /// The ledger was lost, or the table comes from elsewhere. A number given out twice would mix up their rows.
    #[error(
        "rows of {table} have load numbers up to {newest}, which this ledger did not give, and the next ones would be the \
         same; an administrator can run: alter table aqueduct.load alter column id restart with {}",
        newest.saturating_add(1)
    )]
    ForeignNumbers { table: String, newest: i64 },
    /// Another run, or a lock held for long.
    #[error("{doing}: another process holds it")]
    Busy { doing: String },
    #[error("{doing}: the server gave up in favour of others (SQLSTATE {sqlstate})")]
    Interrupted { doing: String, sqlstate: String },
    #[error("{doing}: the connection was lost")]
    ConnectionLost { doing: String, source: Option<io::Error> },
    /// The answer to COMMIT was lost and the server still does not say.
    #[error("load {id}: whether it was committed is not known yet; run again, nothing is loaded twice")]
    CommitUnknown { id: i64 },
    #[error("{doing}: the database's disk is full ({code})")]
    DiskFull { doing: String, code: String },
    /// A check of our own, made before commit.
    #[error("the counts of the load contradict each other: {reason}")]
    Balance { reason: String },
    /// A trigger dropped them without an error.
    #[error(
        "{table} took {taken} of {sent} rows, and a trigger drops the others: {}; let it keep each row, or disable it",
        named(triggers)
    )]
    RowsDropped { table: String, sent: u64, taken: u64, triggers: Vec<String> },
    #[error(
        "{table} has rules for INSERT, which rows that come by way of a temporary table would run, as a COPY does not; make \
         the rules triggers, or in mode append correct the rows it refuses"
    )]
    RulesOnInsert { table: String },
    #[error(
        "two records have keys that differ, and are one row to {table}: does a trigger change the key, or its index \
         compare in another way than its column?"
    )]
    SameRow { table: String },
    #[error("{doing}: {meaning} (SQLSTATE {sqlstate})")]
    Server { doing: String, sqlstate: String, meaning: &'static str },
    #[error("{doing}: SQLite said no (code {code})")]
    Sqlite { doing: String, code: String },
    #[error("{doing}: the database driver failed ({kind})")]
    Driver { doing: String, kind: &'static str },
}

impl MayPass for DatabaseError {
    /// A database that is read-only may be the former primary of a failover, for as long as its name leads to it.
    fn may_pass(&self) -> bool {
        self.is_temporary() || matches!(self, Self::ReadOnly { .. })
    }
}

impl DatabaseError {
    /// Whether the same attempt can succeed later with nobody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Secret(error) => error.is_temporary(),
            Self::Unreachable { .. }
            | Self::NotAccepting { .. }
            | Self::Busy { .. }
            | Self::Interrupted { .. }
            | Self::ConnectionLost { .. }
            | Self::CommitUnknown { .. } => true,
            Self::Config(_)
            | Self::Name(_)
            | Self::Authentication { .. }
            | Self::Tls { .. }
            | Self::NoSuchDatabase { .. }
            | Self::CannotOpen { .. }
            | Self::NotADatabase { .. }
            | Self::Permission { .. }
            | Self::ReadOnly { .. }
            | Self::ReadOnlyFile { .. }
            | Self::NoSuchTable { .. }
            | Self::NoSchema { .. }
            | Self::Refused(_)
            | Self::LedgerMissing { .. }
            | Self::LedgerNewer { .. }
            | Self::LedgerOlder { .. }
            | Self::LedgerAltered { .. }
            | Self::Migration { .. }
            | Self::NoSuchLoad { .. }
            | Self::NotUndoable { .. }
            | Self::DiskFull { .. }
            | Self::Balance { .. }
            | Self::RowsDropped { .. }
            | Self::RowsWithoutLoad { .. }
            | Self::ForeignNumbers { .. }
            | Self::RulesOnInsert { .. }
            | Self::SameRow { .. }
            | Self::Server { .. }
            | Self::Sqlite { .. }
            | Self::Driver { .. } => false,
        }
    }

    /// Whether credentials or rights are what is missing.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Secret(error) => error.is_permission(),
            Self::CannotOpen { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Authentication { .. }
            | Self::Permission { .. }
            | Self::ReadOnly { .. }
            | Self::ReadOnlyFile { .. }
            | Self::LedgerMissing { .. } => true,
            Self::Config(_)
            | Self::Name(_)
            | Self::Unreachable { .. }
            | Self::NotAccepting { .. }
            | Self::Tls { .. }
            | Self::NoSuchDatabase { .. }
            | Self::NotADatabase { .. }
            | Self::NoSuchTable { .. }
            | Self::NoSchema { .. }
            | Self::Refused(_)
            | Self::LedgerNewer { .. }
            | Self::LedgerOlder { .. }
            | Self::LedgerAltered { .. }
            | Self::Migration { .. }
            | Self::NoSuchLoad { .. }
            | Self::NotUndoable { .. }
            | Self::Busy { .. }
            | Self::Interrupted { .. }
            | Self::ConnectionLost { .. }
            | Self::CommitUnknown { .. }
            | Self::DiskFull { .. }
            | Self::Balance { .. }
            | Self::RowsDropped { .. }
            | Self::RowsWithoutLoad { .. }
            | Self::ForeignNumbers { .. }
            | Self::RulesOnInsert { .. }
            | Self::SameRow { .. }
            | Self::Server { .. }
            | Self::Sqlite { .. }
            | Self::Driver { .. } => false,
        }
    }

    /// Whether the same object under the same pipeline would meet it again: the rows themselves are at fault.
    pub fn is_permanent(&self) -> bool {
        match self {
            // These depend on the other rows of the table, which come and go.
            Self::Refused(refusal) => {
                !matches!(refusal.kind, RefusalKind::ForeignKey | RefusalKind::Unique | RefusalKind::Exclusion)
            }
            Self::Config(_)
            | Self::Secret(_)
            | Self::Name(_)
            | Self::Unreachable { .. }
            | Self::NotAccepting { .. }
            | Self::Authentication { .. }
            | Self::Tls { .. }
            | Self::NoSuchDatabase { .. }
            | Self::CannotOpen { .. }
            | Self::NotADatabase { .. }
            | Self::Permission { .. }
            | Self::ReadOnly { .. }
            | Self::ReadOnlyFile { .. }
            | Self::NoSuchTable { .. }
            | Self::NoSchema { .. }
            | Self::LedgerMissing { .. }
            | Self::LedgerNewer { .. }
            | Self::LedgerOlder { .. }
            | Self::LedgerAltered { .. }
            | Self::Migration { .. }
            | Self::NoSuchLoad { .. }
            | Self::NotUndoable { .. }
            | Self::Busy { .. }
            | Self::Interrupted { .. }
            | Self::ConnectionLost { .. }
            | Self::CommitUnknown { .. }
            | Self::DiskFull { .. }
            | Self::Balance { .. }
            | Self::RowsDropped { .. }
            | Self::RowsWithoutLoad { .. }
            | Self::ForeignNumbers { .. }
            | Self::RulesOnInsert { .. }
            | Self::SameRow { .. }
            | Self::Server { .. }
            | Self::Sqlite { .. }
            | Self::Driver { .. } => false,
        }
    }
}

/// The kind of rule a row broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    NotNull,
    Unique,
    Check,
    ForeignKey,
    Exclusion,
    /// The column's type cannot hold the value.
    Value,
    /// A trigger or a rule of the server's own raised it.
    Trigger,
}

impl RefusalKind {
    /// What to try.
    pub fn help(self) -> &'static str {
        match self {
            Self::Unique => {
                "a key stands twice in the file, or in the table already: correct that, or let conflict = \"reject\" under \
                 [target] set such records aside, and run again"
            }
            Self::ForeignKey => "load what the row refers to first, or correct the record, and run again",
            Self::NotNull | Self::Check | Self::Exclusion | Self::Value | Self::Trigger => {
                "correct the record and run again"
            }
        }
    }
}

/// The server refused a row: which rule, and where, by names alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// SQLSTATE; on SQLite the name of the extended result code.
    pub code: String,
    pub table: String,
    pub constraint: Option<String>,
    pub columns: Vec<String>,
    /// Which row of the segment it was, the first is 1, where the server said so.
    pub row: Option<u64>,
    /// The records among which it is, first and last, as far as that is known: of the object, from 1 after the header.
    pub records: Option<(u64, u64)>,
}

impl Refusal {
    /// As a reject says it: the rule, and no more of the record than the names of columns.
    pub fn message(&self) -> String {
        let rule = |what: &str| match (&self.constraint, self.columns.as_slice()) {
            (Some(constraint), []) => format!("{what} {constraint:?}"),
            (Some(constraint), columns) => format!("{what} {constraint:?} on {}", named(columns)),
            (None, []) => what.to_owned(),
            (None, columns) => format!("{what} on {}", named(columns)),
        };
        let column = match self.columns.as_slice() {
            [] => "a column".to_owned(),
            columns => format!("the column {}", named(columns)),
        };
        let code = &self.code;
        match self.kind {
            RefusalKind::NotNull => format!("{column} of the table must not be null"),
            RefusalKind::Unique => format!("the table has the key already: {}", rule("key")),
            RefusalKind::Check if self.constraint.is_none() => format!("no part of the table takes the row ({code})"),
            RefusalKind::Check => format!("refused by the table's {}", rule("check")),
            RefusalKind::ForeignKey => format!("no row is there to refer to: {}", rule("foreign key")),
            RefusalKind::Exclusion => format!("refused by the table's {}", rule("exclusion constraint")),
            RefusalKind::Value => format!("{column} of the table cannot hold the value ({code})"),
            RefusalKind::Trigger => format!("refused by a trigger of the table ({code})"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.kind {
            RefusalKind::NotNull => "a column that must not be null",
            RefusalKind::Unique => "a key",
            RefusalKind::Check => "a check",
            RefusalKind::ForeignKey => "a foreign key",
            RefusalKind::Exclusion => "an exclusion constraint",
            RefusalKind::Value => "a column's type",
            RefusalKind::Trigger => "a trigger",
        };
        write!(f, "{} refused a row because of {rule}", self.table)?;
        if let Some(constraint) = &self.constraint {
            write!(f, ", constraint {constraint:?}")?;
        }
        match self.columns.as_slice() {
            [] => {}
            [column] => write!(f, ", column {column:?}")?,
            columns => write!(f, ", columns {}", named(columns))?,
        }
        match (self.records, self.row) {
            (Some((first, last)), _) if first == last => write!(f, ", record {first}")?,
            (Some((first, last)), _) => write!(f, ", one of the records {first} to {last}")?,
            (None, Some(row)) => write!(f, ", row {row} of the segment")?,
            (None, None) => {}
        }
        write!(f, " ({})", self.code)
    }
}

fn named(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// What was being done, for the message and for the grant that would allow it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing<'a> {
    Connect,
    ReadLedger,
    /// With the records' bytes, which need a right of their own.
    ReadRejects,
    WriteLedger,
    MakeLedger,
    Describe(&'a TableName),
    Create(&'a TableName),
    Copy {
        table: &'a TableName,
        columns: &'a [String],
    },
    /// Into a temporary table.
    Stage(&'a TableName),
    Delete(&'a TableName),
    Count(&'a TableName),
    Commit,
}

impl Doing<'_> {
    fn words(&self) -> String {
        match self {
            Self::Connect => "connect".into(),
            Self::ReadLedger => "read the ledger".into(),
            Self::ReadRejects => "read the raw bytes of rejects".into(),
            Self::WriteLedger => "write the ledger".into(),
            Self::MakeLedger => "make the ledger".into(),
            Self::Describe(table) => format!("look at the table {table}"),
            Self::Create(table) => format!("create the table {table}"),
            Self::Copy { table, .. } => format!("write rows into {table}"),
            Self::Stage(table) => format!("keep rows for {table} in a temporary table"),
            Self::Delete(table) => format!("delete rows from {table}"),
            Self::Count(table) => format!("count the rows of {table}"),
            Self::Commit => "commit".into(),
        }
    }

    fn table(&self) -> Option<&TableName> {
        match self {
            Self::Describe(table)
            | Self::Create(table)
            | Self::Copy { table, .. }
            | Self::Stage(table)
            | Self::Delete(table)
            | Self::Count(table) => Some(table),
            Self::Connect
            | Self::ReadLedger
            | Self::ReadRejects
            | Self::WriteLedger
            | Self::MakeLedger
            | Self::Commit => None,
        }
    }

    fn grant(&self, user: &str) -> String {
        let user = format!("\"{}\"", user.replace('"', "\"\""));
        let schema = |table: &TableName| table.schema().unwrap_or("public").replace('"', "\"\"");
        let on = |rights: &str, table: &TableName| {
            let usage = format!("grant usage on schema \"{}\" to {user};", schema(table));
            format!("{usage} grant {rights} on {} to {user};", table.quoted())
        };
        match self {
            Self::ReadLedger | Self::WriteLedger | Self::MakeLedger => {
                "etl-runner setup (or the SQL that `etl-runner setup --print` shows)".into()
            }
            Self::ReadRejects => format!("grant select on aqueduct.reject to {user};"),
            Self::Connect => format!("grant connect on database … to {user};"),
            Self::Describe(table) | Self::Count(table) => on("select", table),
            Self::Create(table) => format!("grant usage, create on schema \"{}\" to {user};", schema(table)),
            Self::Copy { table, .. } => on("insert", table),
            Self::Stage(_) => format!("grant temporary on database … to {user};"),
            Self::Delete(table) => on("select, delete", table),
            Self::Commit => format!("the rights that the table's triggers and deferred constraints need, to {user}"),
        }
    }
}

/// Whom an error is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whom<'a> {
    pub(super) server: &'a str,
    pub(super) user: &'a str,
}

/// An error of PostgreSQL or of the way to it.
pub(super) fn of_postgres(error: sqlx::Error, whom: Whom<'_>, doing: Doing<'_>) -> DatabaseError {
    let server = whom.server.to_owned();
    match error {
        sqlx::Error::Database(error) => match error.try_downcast::<PgDatabaseError>() {
            Ok(error) => of_sqlstate(&error, whom, doing),
            Err(_) => DatabaseError::Driver { doing: doing.words(), kind: "an error of another database" },
        },
        sqlx::Error::Io(source) => match doing {
            // rustls reports what it does not like about a certificate as invalid data.
            Doing::Connect if source.kind() == io::ErrorKind::InvalidData => {
                DatabaseError::Tls { server, source: Box::new(source) }
            }
            Doing::Connect => DatabaseError::Unreachable { server, source },
            _ => DatabaseError::ConnectionLost { doing: doing.words(), source: Some(source) },
        },
        sqlx::Error::Tls(source) => DatabaseError::Tls { server, source },
        // A server that is stopping, or a proxy in front of none, closes the connection before it answers the first
        // question, which the driver reads as the answer 0; one that cannot start a session answers with an error.
        sqlx::Error::Protocol(said)
            if matches!(doing, Doing::Connect)
                && ["SSLRequest: 0x00", "SSLRequest: 0x45"].iter().any(|answer| said.contains(answer)) =>
        {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection at once");
            DatabaseError::Unreachable { server, source }
        }
        other => of_driver(&other, doing),
    }
}

fn of_driver(error: &sqlx::Error, doing: Doing<'_>) -> DatabaseError {
    let kind = match error {
        sqlx::Error::Configuration(_) => "configuration",
        sqlx::Error::Protocol(_) => "protocol",
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => "decoding an answer",
        sqlx::Error::Encode(_) => "encoding a value",
        sqlx::Error::WorkerCrashed => "worker",
        sqlx::Error::RowNotFound => "no row where one was certain",
        _ => "other",
    };
    DatabaseError::Driver { doing: doing.words(), kind }
}

fn of_sqlstate(error: &PgDatabaseError, whom: Whom<'_>, doing: Doing<'_>) -> DatabaseError {
    let sqlstate = error.code().to_owned();
    let server = whom.server.to_owned();
    let words = doing.words();
    let table = || match (error.schema(), error.table(), doing.table()) {
        (Some(schema), Some(table), _) => format!("{schema}.{table}"),
        (_, _, Some(table)) => table.to_string(),
        _ => "the table".to_owned(),
    };
    let refused = |kind| {
        let context = error.r#where().unwrap_or_default();
        let mut columns: Vec<String> = error.column().map(str::to_owned).into_iter().collect();
        if let (true, Doing::Copy { columns: sent, .. }) = (columns.is_empty(), doing) {
            columns.extend(column_of_copy(context, sent));
        }
        DatabaseError::Refused(Box::new(Refusal {
            kind,
            code: sqlstate.clone(),
            table: table(),
            constraint: error.constraint().map(str::to_owned),
            columns,
            row: row_of_copy(context),
            records: None,
        }))
    };
    // Two runs made the same table, schema or type at the same moment: the second is told by the catalogue's own key.
    let raced = error.schema() == Some("pg_catalog");
    match sqlstate.as_str() {
        "42501" => DatabaseError::Permission { doing: words, sqlstate, grant: doing.grant(whom.user) },
        "28000" | "28P01" => DatabaseError::Authentication { server, user: whom.user.to_owned(), sqlstate },
        "3D000" => DatabaseError::NoSuchDatabase { server },
        "53300" | "57P03" if matches!(doing, Doing::Connect) => DatabaseError::NotAccepting { server, sqlstate },
        "53100" => DatabaseError::DiskFull { doing: words, code: format!("SQLSTATE {sqlstate}") },
        "25006" => DatabaseError::ReadOnly { doing: words },
        "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => DatabaseError::ConnectionLost { doing: words, source: None },
        "55P03" => DatabaseError::Busy { doing: words },
        "57014" | "40001" | "40P01" | "40003" | "53200" | "53300" => {
            DatabaseError::Interrupted { doing: words, sqlstate }
        }
        "42P06" | "42P07" | "42710" | "XX000" if matches!(doing, Doing::MakeLedger | Doing::Create(_)) => {
            DatabaseError::Busy { doing: words }
        }
        "23505" if raced => DatabaseError::Busy { doing: words },
        "42P01" => DatabaseError::NoSuchTable { table: table() },
        "23502" => refused(RefusalKind::NotNull),
        "23503" => refused(RefusalKind::ForeignKey),
        "23505" => refused(RefusalKind::Unique),
        "23514" => refused(RefusalKind::Check),
        "23P01" => refused(RefusalKind::Exclusion),
        "P0001" => refused(RefusalKind::Trigger),
        state => match (&state[..2], doing) {
            ("08", _) => DatabaseError::ConnectionLost { doing: words, source: None },
            // What is deferred speaks at commit.
            ("22", Doing::Copy { .. } | Doing::Commit) => refused(RefusalKind::Value),
            ("23", Doing::Copy { .. } | Doing::Commit) => refused(RefusalKind::Check),
            // A value too long for an index.
            ("54", Doing::Copy { .. }) if state == "54000" => refused(RefusalKind::Value),
            // A function of the table's raised it: these are not the server's own.
            (class, Doing::Copy { .. } | Doing::Commit) if !SERVER_CLASSES.contains(&class) => {
                refused(RefusalKind::Trigger)
            }
            _ => DatabaseError::Server { doing: words, meaning: meaning(state), sqlstate },
        },
    }
}

/// Classes of SQLSTATE by which the server itself says that something other than a row is wrong.
/// https://www.postgresql.org/docs/current/errcodes-appendix.html
const SERVER_CLASSES: [&str; 25] = [
    "08", "09", "0A", "0B", "0L", "0P", "25", "26", "28", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55",
    "57", "58", "72", "F0", "HV", "XX",
];

/// The row a COPY's error context speaks of. The context ends in the row's text, so only its head is read.
fn row_of_copy(context: &str) -> Option<u64> {
    let rest = after_line(context)?;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// A function that failed puts lines of its own in front.
fn after_line(context: &str) -> Option<&str> {
    let copy = context.lines().find(|line| line.starts_with("COPY "))?;
    Some(&copy[copy.find(", line ")? + ", line ".len()..])
}

/// The column a COPY's error context speaks of, if it is one of those sent.
fn column_of_copy(context: &str, sent: &[String]) -> Option<String> {
    let rest = after_line(context)?.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(", column ")?;
    let named = |column: &&String| {
        let after = rest.strip_prefix(column.as_str());
        after.is_some_and(|after| after.is_empty() || after.starts_with(':') || after.starts_with('\n'))
    };
    sent.iter().find(named).cloned()
}

/// The class of an SQLSTATE in words.
fn meaning(sqlstate: &str) -> &'static str {
    match sqlstate {
        "0A000" => "the server does not support this here",
        "42703" => "a column does not exist",
        "42804" => "a column has another type",
        "42883" => "a function or operator does not exist",
        "54000" | "54001" | "54011" => "a limit of the server is exceeded",
        "55000" => "the object is not in a state that allows it",
        "3F000" => "the schema does not exist",
        state => match &state[..2] {
            "0A" => "the server does not support this",
            "22" => "a value is not what the server takes",
            "25" => "the transaction is not in a state that allows it",
            "42" => "the server does not know a name or a form",
            "53" => "the server is out of a resource",
            "54" => "a limit of the server is exceeded",
            "55" => "the object is in use",
            "57" => "an operator stepped in",
            "58" => "the server's own system failed",
            "P0" => "a function raised an error",
            "XX" => "the server has an internal error",
            _ => "the server refused",
        },
    }
}

/// An error of SQLite. `columns` are those of the table concerned.
pub(super) fn of_sqlite(error: sqlx::Error, path: &str, doing: Doing<'_>) -> DatabaseError {
    let words = doing.words();
    let (code, message) = match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
            (code, error.message().to_owned())
        }
        sqlx::Error::Io(source) => return DatabaseError::CannotOpen { path: path.to_owned(), source },
        other => return of_driver(&other, doing),
    };
    // The low byte is the result code, the rest says more; https://www.sqlite.org/rescode.html
    match code & 0xFF {
        5 | 6 => DatabaseError::Busy { doing: words },
        3 | 8 => DatabaseError::ReadOnlyFile { path: path.to_owned(), doing: words },
        10 => DatabaseError::Sqlite { doing: words, code: format!("{code}, reading or writing the file failed") },
        13 => DatabaseError::DiskFull { doing: words, code: "SQLITE_FULL".into() },
        14 => {
            let source = io::Error::other("the file cannot be opened or made");
            DatabaseError::CannotOpen { path: path.to_owned(), source }
        }
        11 | 26 => DatabaseError::NotADatabase { path: path.to_owned(), code: code.to_string() },
        19 => {
            let sent: &[String] = if let Doing::Copy { columns, .. } = doing { columns } else { &[] };
            let table = doing.table().map_or("the table".into(), ToString::to_string);
            DatabaseError::Refused(Box::new(refusal_of_sqlite(code, &message, table, sent)))
        }
        _ => DatabaseError::Sqlite { doing: words, code: code.to_string() },
    }
}

fn refusal_of_sqlite(code: i32, message: &str, table: String, sent: &[String]) -> Refusal {
    let kind = match code {
        275 => RefusalKind::Check,
        787 => RefusalKind::ForeignKey,
        1299 => RefusalKind::NotNull,
        1555 | 2067 | 2579 => RefusalKind::Unique,
        3091 => RefusalKind::Value,
        1811 => RefusalKind::Trigger,
        _ => RefusalKind::Check,
    };
    // `UNIQUE constraint failed: t.a, t.b`, `cannot store TEXT value in INTEGER column t.a`: names alone, but a
    // trigger's own text follows no form, so only the names of columns that were sent are taken from it.
    let names = message.rsplit_once(": ").or_else(|| message.rsplit_once(" column "));
    let names = names.map_or(message, |(_, names)| names);
    // SQLite minds no case in the names of tables.
    let of_table = |name: &str| name.get(..table.len()).is_some_and(|of| of.eq_ignore_ascii_case(&table));
    let stands = |column: &&String| {
        let named = |name: &str| of_table(name) && name[table.len()..].strip_prefix('.') == Some(column);
        named(names) || names.split(", ").any(named)
    };
    let columns: Vec<String> = match kind {
        RefusalKind::NotNull | RefusalKind::Unique | RefusalKind::Value => {
            sent.iter().filter(stands).cloned().collect()
        }
        RefusalKind::Check | RefusalKind::ForeignKey | RefusalKind::Exclusion | RefusalKind::Trigger => Vec::new(),
    };
    // A trigger's insert into another table names that one.
    let is_key_or_null = matches!(kind, RefusalKind::NotNull | RefusalKind::Unique);
    let kind = if is_key_or_null && !of_table(names) && names.contains('.') { RefusalKind::Trigger } else { kind };
    let constraint = match kind {
        RefusalKind::Check => message.strip_prefix("CHECK constraint failed: ").map(str::to_owned),
        _ => None,
    };
    // The names by which SQLite's documentation explains them.
    let rule = match code {
        275 => "CHECK",
        787 => "FOREIGNKEY",
        1299 => "NOTNULL",
        1555 => "PRIMARYKEY",
        1811 => "TRIGGER",
        2067 => "UNIQUE",
        2579 => "ROWID",
        3091 => "DATATYPE",
        _ => "",
    };
    let code = if rule.is_empty() { format!("code {code}") } else { format!("SQLITE_CONSTRAINT_{rule}") };
    Refusal { kind, code, table, constraint, columns, row: None, records: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_context_gives_row_and_column_and_no_value() {
        let sent = ["ts".to_owned(), "a: b".to_owned(), "a".to_owned()];
        let context = "COPY t, line 12, column ts: \"secret\"";
        assert_eq!(row_of_copy(context), Some(12));
        assert_eq!(column_of_copy(context, &sent), Some("ts".into()));
        assert_eq!(column_of_copy("COPY t, line 3, column a: b: \"1\"", &sent), Some("a: b".into()));
        assert_eq!(column_of_copy("COPY t, line 3, column unknown: \"1\"", &sent), None);
        assert_eq!(row_of_copy("COPY t, line 3: \"a, line 9\""), Some(3));
        assert_eq!(row_of_copy("SQL function f"), None);
    }

    #[test]
    fn a_server_that_hangs_up_at_once_may_be_there_later() {
        let whom = Whom { server: "s", user: "u" };
        let error = |said: &str, doing| of_postgres(sqlx::Error::Protocol(said.into()), whom, doing);
        assert!(error("unexpected response from SSLRequest: 0x00 (tls:95)", Doing::Connect).is_temporary());
        assert!(
            !error("unexpected response from SSLRequest: 0x48 (tls:95)", Doing::Connect).is_temporary(),
            "a web server"
        );
        assert!(!error("unexpected response from SSLRequest: 0x00 (tls:95)", Doing::Commit).is_temporary());
    }

    #[test]
    fn sqlite_refusals_name_the_columns() {
        let sent = ["id".to_owned(), "e-mail".to_owned(), "other".to_owned()];
        let of = |code, message| refusal_of_sqlite(code, message, "t".into(), &sent);
        let unique = of(2067, "UNIQUE constraint failed: t.id, t.e-mail");
        assert_eq!((unique.kind, unique.columns), (RefusalKind::Unique, vec!["id".to_owned(), "e-mail".to_owned()]));
        let null = of(1299, "NOT NULL constraint failed: t.other");
        assert_eq!((null.kind, null.columns), (RefusalKind::NotNull, vec!["other".to_owned()]));
        let value = of(3091, "cannot store TEXT value in INTEGER column t.id");
        assert_eq!((value.kind, value.columns), (RefusalKind::Value, vec!["id".to_owned()]));
        let trigger = of(1811, "row of Ada refused, id");
        assert!(trigger.columns.is_empty() && trigger.constraint.is_none());
        let other = of(2067, "UNIQUE constraint failed: audit.id");
        assert_eq!((other.kind, other.columns.len()), (RefusalKind::Trigger, 0), "a table that a trigger writes into");
        assert_eq!(
            of(2067, "UNIQUE constraint failed: T.id").columns,
            ["id"],
            "names of tables are the same in any case"
        );
        assert_eq!(of(275, "CHECK constraint failed: adult").constraint.as_deref(), Some("adult"));
    }

    #[test]
    fn an_error_reads_as_one_line_about_names() {
        let refusal = Refusal {
            kind: RefusalKind::Unique,
            code: "23505".into(),
            table: "public.customer".into(),
            constraint: Some("customer_pkey".into()),
            columns: vec!["id".into()],
            row: Some(7),
            records: None,
        };
        let shown = |records| DatabaseError::Refused(Box::new(Refusal { records, ..refusal.clone() })).to_string();
        let what = "public.customer refused a row because of a key, constraint \"customer_pkey\", column \"id\"";
        assert_eq!(shown(None), format!("{what}, row 7 of the segment (23505)"));
        assert_eq!(shown(Some((9, 9))), format!("{what}, record 9 (23505)"));
        assert_eq!(shown(Some((9, 11))), format!("{what}, one of the records 9 to 11 (23505)"));
    }
}
