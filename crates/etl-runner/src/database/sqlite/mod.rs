//! SQLite: one file, one connection, one writer at a time.

mod catalog;
mod ledger;
mod load;
mod rejects;
mod rows;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tracing::debug;

pub use load::{SqliteLoad, SqliteMerge};
pub use rows::SqliteRows;

use super::error::{DatabaseError, Doing, of_sqlite};
use super::ledger_schema::{migrator, newest, version};
use super::{Dialect, Lack};

/// How long a writer waits for another one before it says busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An SQLite file and the one connection to it.
pub struct Sqlite {
    options: SqliteConnectOptions,
    path: Arc<str>,
    idle: Option<SqliteConnection>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sqlite({})", self.path)
    }
}

impl fmt::Display for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path)
    }
}

/// A connection in a transaction. Dropping it closes the connection, which rolls back.
pub(super) struct Session {
    connection: SqliteConnection,
    path: Arc<str>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.path)
    }
}

fn statement(sql: &'static str) -> Query<'static, sqlx::Sqlite, SqliteArguments> {
    sqlx::query(sql)
}

fn built(sql: String) -> Query<'static, sqlx::Sqlite, SqliteArguments> {
    sqlx::query(AssertSqlSafe(sql))
}

/// Decodes a column; what we asked for always has the type we asked for.
fn get<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T, DatabaseError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    sqlx::Row::try_get(row, column)
        .map_err(|_| DatabaseError::Driver { doing: format!("read the column {column}"), kind: "decoding an answer" })
}

impl Session {
    fn error(&self, error: sqlx::Error, doing: Doing<'_>) -> DatabaseError {
        of_sqlite(error, &self.path, doing)
    }

    async fn run(
        &mut self,
        query: Query<'_, sqlx::Sqlite, SqliteArguments>,
        doing: Doing<'_>,
    ) -> Result<u64, DatabaseError> {
        match query.execute(&mut self.connection).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.error(error, doing)),
        }
    }

    async fn rows(
        &mut self,
        query: Query<'_, sqlx::Sqlite, SqliteArguments>,
        doing: Doing<'_>,
    ) -> Result<Vec<SqliteRow>, DatabaseError> {
        match query.fetch_all(&mut self.connection).await {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.error(error, doing)),
        }
    }

    async fn row(
        &mut self,
        query: Query<'_, sqlx::Sqlite, SqliteArguments>,
        doing: Doing<'_>,
    ) -> Result<SqliteRow, DatabaseError> {
        let first = self.rows(query, doing).await?.into_iter().next();
        first.ok_or_else(|| self.error(sqlx::Error::RowNotFound, doing))
    }

    async fn simple(&mut self, sql: String, doing: Doing<'_>) -> Result<(), DatabaseError> {
        match self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(error, doing)),
        }
    }
}

impl Sqlite {
    pub(super) async fn connect(path: &Path, create: bool) -> Result<Self, DatabaseError> {
        let shown: Arc<str> = path.display().to_string().into();
        let new = prepare_file(path, create)
            .map_err(|source| DatabaseError::CannotOpen { path: shown.to_string(), source })?;
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        if new && create {
            // Readers see the old rows while a load writes. A property of the file, so it is set once.
            options = options.journal_mode(SqliteJournalMode::Wal);
        }
        let mut database = Self { options, path: shown, idle: None };
        match database.open().await {
            // SQLite needs two files beside this one even to read it, and may not make them here.
            Err(DatabaseError::ReadOnlyFile { .. } | DatabaseError::CannotOpen { .. }) if !create && !in_use(path) => {
                database.options = database.options.read_only(true).immutable(true);
                database.open().await?;
            }
            opened => opened?,
        }
        Ok(database)
    }

    async fn open(&mut self) -> Result<(), DatabaseError> {
        let mut session = self.session(Doing::Connect).await?;
        // SQLite reads nothing of a file before it has to.
        session.row(statement("select count(*) as count from sqlite_schema"), Doing::Connect).await?;
        let mode: String = get(&session.row(statement("pragma journal_mode"), Doing::Connect).await?, "journal_mode")?;
        if mode == "wal" {
            // With a write-ahead log a commit need not wait for the disk to keep the file whole: closing it does. Should the
            // power fail before, the last loads are gone with their ledger rows, and the next run brings them again.
            self.options = self.options.clone().synchronous(SqliteSynchronous::Normal);
            session.simple("pragma synchronous = normal".into(), Doing::Connect).await?;
        }
        self.idle = Some(session.connection);
        Ok(())
    }

    async fn session(&mut self, doing: Doing<'_>) -> Result<Session, DatabaseError> {
        let connection = match self.idle.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(|error| of_sqlite(error, &self.path, doing))?,
        };
        Ok(Session { connection, path: Arc::clone(&self.path) })
    }

    async fn read(&mut self, doing: Doing<'_>) -> Result<Session, DatabaseError> {
        let mut session = self.session(doing).await?;
        session.simple("begin".into(), doing).await?;
        Ok(session)
    }

    /// Takes the file's one write lock at once: a load that began never finds out later that it may not write.
    async fn write(&mut self, doing: Doing<'_>) -> Result<Session, DatabaseError> {
        let mut session = self.session(doing).await?;
        session.simple("begin immediate".into(), doing).await?;
        Ok(session)
    }

    async fn done(&mut self, mut session: Session) -> Result<(), DatabaseError> {
        session.simple("commit".into(), Doing::Commit).await?;
        self.idle = Some(session.connection);
        Ok(())
    }

    /// After a question of one statement, which is a transaction by itself.
    fn keep(&mut self, session: Session) {
        self.idle = Some(session.connection);
    }

    async fn roll_back(&mut self, mut session: Session) {
        if session.simple("rollback".into(), Doing::Commit).await.is_ok() {
            self.idle = Some(session.connection);
        }
    }

    /// What keeps us from writing: SQLite needs the file, and its directory for what it writes beside it.
    pub(super) fn rights(&self) -> Vec<Lack> {
        let path = self.options.get_filename();
        let lack = |what: &str, path: &Path| {
            let path = path.display();
            Lack {
                what: format!("{what} {path} may only be read"),
                fix: match cfg!(windows) {
                    true => format!("attrib -r {}", cli::shell_word(&path.to_string())),
                    false => format!("chmod u+w {}", cli::shell_word(&path.to_string())),
                },
                is_permission: true,
            }
        };
        let directory = directory_of(path);
        let file = (!may_write(path)).then(|| lack("the database file", path));
        let beside = require_writable(directory).is_err().then(|| lack("the directory", directory));
        file.into_iter().chain(beside).collect()
    }

    pub(super) async fn close(self) {
        if let Some(connection) = self.idle
            && connection.close().await.is_err()
        {
            debug!("the file did not close in good order");
        }
    }

    pub(super) async fn ensure_ledger(&mut self) -> Result<(), DatabaseError> {
        if self.ledger_version().await? == Some(version(Dialect::Sqlite)) {
            return Ok(());
        }
        let doing = Doing::MakeLedger;
        let mut session = self.session(doing).await?;
        let made = async {
            let mut transaction = session.connection.begin_with("begin immediate").await?;
            // `run` asks for an `Acquire` that makes this future not `Send`.
            migrator(Dialect::Sqlite).run_direct(None, &mut *transaction, false).await?;
            transaction.commit().await?;
            Ok::<(), sqlx::migrate::MigrateError>(())
        }
        .await;
        use sqlx::migrate::MigrateError;
        match made {
            Ok(()) => {
                self.idle = Some(session.connection);
                Ok(())
            }
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                Err(session.error(error, doing))
            }
            Err(other) => Err(DatabaseError::Migration { server: self.to_string(), reason: other.to_string() }),
        }
    }

    pub(super) async fn ledger_version(&mut self) -> Result<Option<i64>, DatabaseError> {
        let doing = Doing::ReadLedger;
        let mut session = self.read(doing).await?;
        let exists = statement("select count(*) as count from sqlite_schema where name = 'aqueduct_migration'");
        let exists: i64 = get(&session.row(exists, doing).await?, "count")?;
        let steps = if exists > 0 {
            let query = statement("select version, checksum from aqueduct_migration where success order by version");
            let row = |row: &SqliteRow| Ok((get::<i64>(row, "version")?, get::<Vec<u8>>(row, "checksum")?));
            session.rows(query, doing).await?.iter().map(row).collect::<Result<Vec<_>, DatabaseError>>()?
        } else {
            Vec::new()
        };
        self.done(session).await?;
        newest(Dialect::Sqlite, &self.to_string(), &steps)
    }
}

/// Whether another process may have the file open for writing, or left rows beside it that are not in it yet. Then it is
/// not to be read as a file nobody changes.
fn in_use(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).symlink_metadata().is_ok()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether files can be made in a directory.
fn require_writable(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
    // Who may do what there is known only to whoever tries.
    #[cfg(not(unix))]
    tempfile::tempfile_in(directory)?;
    Ok(())
}

fn may_write(file: &Path) -> bool {
    #[cfg(unix)]
    return rustix::fs::access(file, rustix::fs::Access::WRITE_OK).is_ok();
    #[cfg(not(unix))]
    return std::fs::OpenOptions::new().append(true).open(file).is_ok();
}

/// Whether a run could make the file, and the last directory on the way to it.
pub fn can_be_made(path: &Path) -> Result<(), DatabaseError> {
    let directory = directory_of(path);
    let there = if directory.is_dir() { directory } else { directory_of(directory) };
    require_writable(there).map_err(|source| DatabaseError::CannotOpen { path: path.display().to_string(), source })
}

/// Looks at the path before SQLite does, whose errors do not tell these cases apart. Makes the last directory of the
/// path (`.aqueduct`), not a whole mistyped one. Gives whether the file is to be made.
fn prepare_file(path: &Path, create: bool) -> Result<bool, io::Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")),
        Ok(found) => {
            // As root every file opens; a file that cannot even be read is better reported in words than as code 14.
            std::fs::File::open(path)?;
            Ok(found.len() == 0)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            let directory = directory_of(path);
            // Asked first: of the root of a drive Windows says that access is denied.
            if !directory.is_dir() {
                match std::fs::create_dir(directory) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            require_writable(directory)?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}
