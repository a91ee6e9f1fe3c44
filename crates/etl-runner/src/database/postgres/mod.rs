//! PostgreSQL: the connection, the ledger's statements, and what the catalogue says about a table.

mod catalog;
mod copy;
mod exact;
mod ledger;
mod load;
#[cfg(unix)]
mod nodelay;
mod rejects;
mod split;
mod upsert;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tracing::{debug, warn};

pub use copy::{CopyEncoder, CopyTextEncoder};
pub use exact::{CopyRows, PostgresWay};
pub use load::{CopyFormat, PostgresLoad};
pub use split::{BeginSplit, SplitRow};
pub use upsert::PostgresMerge;

use super::error::{DatabaseError, Doing, Whom, of_postgres};
use super::ledger_schema::{MIGRATION_LOCK, Setup, migrator, newest, version};
use super::secret::{self, Secret};
use super::url::{PostgresUrl, server_name};
use super::{Dialect, TableName};

/// A server that does not answer at all (a security group, a wrong address) is given up after this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// For questions. `client_min_messages` keeps notices, which may hold cell values, out of the log.
const BEGIN_READ: &str = "begin read only; set local lock_timeout = '10s'; set local statement_timeout = '30min'; \
    set local client_min_messages = 'error'";
/// For changes. A load waits for its source between two segments, so it may be idle, but not for ever: a host that
/// vanished must not hold its locks.
const BEGIN_WRITE: &str = "begin; set local lock_timeout = '10s'; set local statement_timeout = '2h'; \
    set local idle_in_transaction_session_timeout = '15min'; set local client_min_messages = 'error'";

/// sqlx's migrator names its statements and never closes them; behind a pooler the next client would meet the names.
const FORGET_STATEMENTS: &str = "do $$ declare known text; begin \
    for known in select name from pg_catalog.pg_prepared_statements where name like 'sqlx\\_s\\_%' loop \
    execute format('deallocate %I', known); end loop; end $$";

/// The ledger's version this program works with.
const VERSION: i64 = version(Dialect::Postgres);

/// A PostgreSQL server and the one connection to it.
pub struct Postgres {
    url: PostgresUrl,
    secret_id: Option<String>,
    secret: Option<Secret>,
    server: Arc<str>,
    user: Arc<str>,
    idle: Option<PgConnection>,
    /// The table last looked at: a run of many objects looks at the same one.
    described: Option<catalog::Described>,
    /// The table whose rows were last found to have numbers of this ledger.
    vouched_for: Option<TableName>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres({})", self.server)
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)
    }
}

/// A connection in a transaction, with what its errors need to name. Dropping it discards the connection.
pub(super) struct Session {
    connection: PgConnection,
    server: Arc<str>,
    user: Arc<str>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.server)
    }
}

/// A statement that is not kept in the session once it ran.
fn statement(sql: &'static str) -> Query<'static, sqlx::Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// A statement with quoted names in it.
fn built(sql: String) -> Query<'static, sqlx::Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(sql)).persistent(false)
}

impl Session {
    fn error(&self, error: sqlx::Error, doing: Doing<'_>) -> DatabaseError {
        of_postgres(error, Whom { server: &self.server, user: &self.user }, doing)
    }

    async fn run(
        &mut self,
        query: Query<'_, sqlx::Postgres, PgArguments>,
        doing: Doing<'_>,
    ) -> Result<u64, DatabaseError> {
        match query.execute(&mut self.connection).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.error(error, doing)),
        }
    }

    async fn rows(
        &mut self,
        query: Query<'_, sqlx::Postgres, PgArguments>,
        doing: Doing<'_>,
    ) -> Result<Vec<PgRow>, DatabaseError> {
        match query.fetch_all(&mut self.connection).await {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.error(error, doing)),
        }
    }

    /// The first row; a statement that gives none where one is certain is the driver's failure.
    async fn row(
        &mut self,
        query: Query<'_, sqlx::Postgres, PgArguments>,
        doing: Doing<'_>,
    ) -> Result<PgRow, DatabaseError> {
        let first = self.rows(query, doing).await?.into_iter().next();
        first.ok_or_else(|| self.error(sqlx::Error::RowNotFound, doing))
    }

    /// A statement without values, of our own text and quoted names.
    async fn simple(&mut self, sql: String, doing: Doing<'_>) -> Result<(), DatabaseError> {
        match self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(error, doing)),
        }
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.simple("commit".into(), Doing::Commit).await
    }
}

/// Decodes a column; what we asked for always has the type we asked for.
fn get<'r, T>(row: &'r PgRow, column: &str) -> Result<T, DatabaseError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::Row::try_get(row, column)
        .map_err(|_| DatabaseError::Driver { doing: format!("read the column {column}"), kind: "decoding an answer" })
}

impl Postgres {
    pub(super) async fn connect(url: &PostgresUrl, secret_id: Option<String>) -> Result<Self, DatabaseError> {
        let options = url.options()?;
        let mut database = Self {
            url: url.clone(),
            secret_id,
            secret: None,
            server: server_name(&options).into(),
            user: options.get_username().into(),
            idle: None,
            described: None,
            vouched_for: None,
        };
        database.idle = Some(database.establish().await?);
        Ok(database)
    }

    /// The same server for a connection of its own, which is opened at its first use.
    pub fn another(&self) -> Self {
        Self {
            url: self.url.clone(),
            secret_id: self.secret_id.clone(),
            secret: self.secret.clone(),
            server: Arc::clone(&self.server),
            user: Arc::clone(&self.user),
            idle: None,
            described: None,
            vouched_for: None,
        }
    }

    /// Opens a connection. When the server refuses the credentials of a secret, the secret is read once more: it may
    /// have been rotated since.
    async fn establish(&mut self) -> Result<PgConnection, DatabaseError> {
        let Some(id) = self.secret_id.clone() else {
            let options = self.url.options()?;
            return self.open(options).await;
        };
        let known = match self.secret.take() {
            Some(known) => known,
            None => secret::fetch(&id).await?,
        };
        let options = known.apply(self.url.options()?);
        let refused = match self.open(options).await {
            Err(refused @ DatabaseError::Authentication { .. }) => refused,
            opened => {
                self.secret = Some(known);
                return opened;
            }
        };
        let current = secret::fetch(&id).await?;
        if !current.differs_from(&known) {
            return Err(refused);
        }
        debug!("the secret has changed, connecting again");
        let options = current.apply(self.url.options()?);
        self.secret = Some(current);
        self.open(options).await
    }

    async fn open(&mut self, options: PgConnectOptions) -> Result<PgConnection, DatabaseError> {
        let options = self.url.settle_tls(options);
        self.server = server_name(&options).into();
        self.user = options.get_username().into();
        if let Some(mode) = self.url.weak_tls(&options) {
            warn!(server = %self.server, mode, "the server's certificate is not verified, as the URL asks");
        }
        let whom = Whom { server: &self.server, user: &self.user };
        match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => {
                // Windows has no way to find the socket: there a small load waits for the server's acknowledgement.
                #[cfg(unix)]
                nodelay::send_at_once();
                Ok(connection)
            }
            Ok(Err(error)) => Err(of_postgres(error, whom, Doing::Connect)),
            Err(_) => {
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 30 seconds");
                Err(DatabaseError::Unreachable { server: self.server.to_string(), source })
            }
        }
    }

    /// A transaction on the idle connection, or on a new one when there is none or it died meanwhile.
    async fn begin(&mut self, begin: &'static str, doing: Doing<'_>) -> Result<Session, DatabaseError> {
        if let Some(mut connection) = self.idle.take()
            && connection.execute(sqlx::raw_sql(begin)).await.is_ok()
        {
            return Ok(self.session(connection));
        }
        let connection = self.establish().await?;
        let mut session = self.session(connection);
        session.simple(begin.into(), doing).await?;
        Ok(session)
    }

    fn session(&self, connection: PgConnection) -> Session {
        Session { connection, server: Arc::clone(&self.server), user: Arc::clone(&self.user) }
    }

    async fn read(&mut self, doing: Doing<'_>) -> Result<Session, DatabaseError> {
        self.begin(BEGIN_READ, doing).await
    }

    async fn write(&mut self, doing: Doing<'_>) -> Result<Session, DatabaseError> {
        self.begin(BEGIN_WRITE, doing).await
    }

    /// Commits and keeps the connection for the next transaction.
    async fn done(&mut self, mut session: Session) -> Result<(), DatabaseError> {
        session.commit().await?;
        self.idle = Some(session.connection);
        Ok(())
    }

    /// Rolls back and keeps the connection.
    async fn roll_back(&mut self, mut session: Session) {
        if session.simple("rollback".into(), Doing::Commit).await.is_ok() {
            self.idle = Some(session.connection);
        }
    }

    pub(super) async fn close(self) {
        if let Some(connection) = self.idle
            && let Err(error) = connection.close().await
        {
            debug!(kind = std::any::type_name_of_val(&error), "the connection did not close in good order");
        }
    }

    pub(super) async fn ensure_ledger(&mut self) -> Result<(), DatabaseError> {
        if self.ledger_version().await? == Some(VERSION) {
            return Ok(());
        }
        self.migrate().await
    }

    pub(super) async fn setup(&mut self, setup: &Setup) -> Result<(), DatabaseError> {
        self.ensure_ledger().await?;
        let grants = setup.grants()?;
        if grants.is_empty() {
            return Ok(());
        }
        let mut session = self.write(Doing::MakeLedger).await?;
        session.simple(format!("select pg_advisory_xact_lock({MIGRATION_LOCK})"), Doing::MakeLedger).await?;
        for grant in grants {
            session.simple(grant, Doing::MakeLedger).await?;
        }
        self.done(session).await
    }

    /// The newest version applied; `None` when there is no ledger. Refuses a ledger newer than this program.
    pub(super) async fn ledger_version(&mut self) -> Result<Option<i64>, DatabaseError> {
        let doing = Doing::ReadLedger;
        let mut session = self.read(doing).await?;
        // The catalogue is readable for everyone, `to_regclass` is not: it needs rights on the schema.
        let exists = statement(
            "select exists (select from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = 'aqueduct' and c.relname = 'migration') as found",
        );
        let found: bool = get(&session.row(exists, doing).await?, "found")?;
        let steps = if found {
            let query = statement("select version, checksum from aqueduct.migration where success order by version");
            let row = |row: &PgRow| Ok((get::<i64>(row, "version")?, get::<Vec<u8>>(row, "checksum")?));
            session.rows(query, doing).await?.iter().map(row).collect::<Result<Vec<_>, DatabaseError>>()?
        } else {
            Vec::new()
        };
        self.done(session).await?;
        newest(Dialect::Postgres, &self.server, &steps)
    }

    /// Makes or updates the ledger's tables. Two runners on a fresh database take turns by a lock that ends with the
    /// transaction; the second finds the work done.
    async fn migrate(&mut self) -> Result<(), DatabaseError> {
        let doing = Doing::MakeLedger;
        let server = self.server.to_string();
        let mut connection = match self.idle.take() {
            Some(connection) => connection,
            None => self.establish().await?,
        };
        let whom = Whom { server: &self.server, user: &self.user };
        let lock = format!("select pg_advisory_xact_lock({MIGRATION_LOCK})");
        let made = async {
            // A transaction of sqlx's own, so that the migrator's become savepoints in it.
            let mut transaction = connection.begin().await.map_err(sqlx::migrate::MigrateError::from)?;
            transaction.execute("set local lock_timeout = '60s'; set local client_min_messages = 'error'").await?;
            transaction.execute(sqlx::raw_sql(AssertSqlSafe(lock))).await?;
            // `run` asks for an `Acquire` that makes this future not `Send`.
            migrator(Dialect::Postgres).run_direct(None, &mut *transaction, false).await?;
            transaction.execute(FORGET_STATEMENTS).await?;
            transaction.commit().await?;
            Ok::<(), sqlx::migrate::MigrateError>(())
        }
        .await;
        let error = match made {
            Ok(()) => {
                self.idle = Some(connection);
                return Ok(());
            }
            Err(error) => of_migration(error, whom, doing),
        };
        drop(connection);
        // Someone may have made it while we waited, or may be needed to make it.
        match (error, self.ledger_version().await?) {
            (_, Some(VERSION)) => Ok(()),
            (DatabaseError::Permission { .. }, None) => Err(DatabaseError::LedgerMissing { server }),
            (DatabaseError::Permission { .. }, Some(found)) => {
                Err(DatabaseError::LedgerOlder { server, found, known: VERSION })
            }
            (error, _) => Err(error),
        }
    }

    pub(super) async fn resolve(&mut self, table: &TableName) -> Result<TableName, DatabaseError> {
        if table.schema().is_some() {
            return Ok(table.clone());
        }
        let doing = Doing::Describe(table);
        let mut session = self.read(doing).await?;
        let schema = session.schema_of(table).await?;
        self.done(session).await?;
        match schema {
            Some(schema) => Ok(table.in_schema(&schema)),
            None => Err(DatabaseError::NoSchema { table: table.to_string() }),
        }
    }
}

fn of_migration(error: sqlx::migrate::MigrateError, whom: Whom<'_>, doing: Doing<'_>) -> DatabaseError {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => of_postgres(error, whom, doing),
        other => DatabaseError::Migration { server: whom.server.to_owned(), reason: other.to_string() },
    }
}
