//! Where the database is, from the texts a person gave. Reads no environment of its own: sqlx's connect options read
//! `PG*` and `.pgpass`. Nothing here prints a password.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// The file used when neither flag nor environment name a database.
const DEFAULT_PATH: &str = "./.aqueduct/warehouse.db";

/// Roots of Amazon RDS; see README.md beside the file.
const RDS_ROOTS: &[u8] = include_bytes!("postgres/rds-ca.pem");

/// What sqlx reads from a URL. Another parameter is refused, because sqlx would log it with its value.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "application_name",
];

/// A text that never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// Why a database setting is wrong. Never holds the text itself: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("a database URL begins with `postgres://`, `postgresql://` or `sqlite:`")]
    UnknownScheme,
    #[error(
        "the database URL does not parse ({reason}); characters such as `#`, `/`, `?` and `@` in a name or password \
         are written as %23, %2F, %3F and %40"
    )]
    Unreadable { reason: String },
    #[error("the URL given as a flag holds a password, which others on this host can read; set DATABASE_URL instead")]
    PasswordInFlag,
    #[error("the database URL has the parameter {name:?}, which is not known")]
    UnknownParameter { name: String },
    #[error("the database URL is not complete")]
    Incomplete,
    #[error("an SQLite database in memory is gone with the process; name a file")]
    MemoryDatabase,
    #[error("`sqlite:` names no file")]
    NoPath,
    #[error("`sqlite:` takes a path and no parameters")]
    SqliteParameters,
    #[error("DATABASE_SECRET goes with PostgreSQL, the database given is SQLite")]
    SecretNeedsPostgres,
}

/// The settings as they were given; an empty text counts as absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// `--database`
    pub flag: Option<&'a str>,
    /// `DATABASE_URL`; only its `Debug` would show it, so hand it on directly.
    pub url: Option<&'a SecretText>,
    /// `DATABASE_SECRET`: id or ARN of a secret.
    pub secret: Option<&'a str>,
}

/// A database's address.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    Postgres(PostgresUrl),
    Sqlite(PathBuf),
}

/// A checked PostgreSQL URL.
#[derive(Clone)]
pub struct PostgresUrl {
    text: SecretText,
    sslmode_given: bool,
    root_given: bool,
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.options() {
            Ok(options) => f.write_str(&server_name(&options)),
            Err(_) => f.write_str("postgres://****"),
        }
    }
}

impl DatabaseUrl {
    /// Reads a URL from the environment or another place that others cannot read.
    pub fn parse(text: &SecretText) -> Result<Self, ConfigError> {
        let text = text.expose().trim();
        if let Some(rest) = text.strip_prefix("sqlite:") {
            return sqlite(rest).map(Self::Sqlite);
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(ConfigError::UnknownScheme);
        }
        PostgresUrl::parse(text).map(Self::Postgres)
    }

    /// Reads a URL given as a flag: the same, but for passwords, which show up in process listings.
    pub fn parse_flag(text: &str) -> Result<Self, ConfigError> {
        let read = Self::parse(&SecretText::new(text))?;
        if matches!(read, Self::Postgres(_)) {
            let url = Url::parse(text.trim()).map_err(unreadable)?;
            if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
                return Err(ConfigError::PasswordInFlag);
            }
        }
        Ok(read)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(url) => write!(f, "{url:?}"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

fn sqlite(rest: &str) -> Result<PathBuf, ConfigError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    // `sqlite:///C:/a.db`
    let drive = path.strip_prefix('/').filter(|path| path.as_bytes().get(1) == Some(&b':'));
    let path = drive.filter(|_| cfg!(windows)).unwrap_or(path);
    if path.contains(":memory:") || path.contains("mode=memory") {
        Err(ConfigError::MemoryDatabase)
    } else if path.is_empty() {
        Err(ConfigError::NoPath)
    } else if path.contains('?') {
        Err(ConfigError::SqliteParameters)
    } else {
        Ok(PathBuf::from(path))
    }
}

fn unreadable(error: url::ParseError) -> ConfigError {
    ConfigError::Unreadable { reason: error.to_string() }
}

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let url = Url::parse(text).map_err(unreadable)?;
        if url.fragment().is_some() {
            return Err(ConfigError::Unreadable { reason: "it holds a `#`".into() });
        }
        let keys: Vec<String> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
        if let Some(name) = keys.iter().find(|key| !PARAMETERS.contains(&key.as_str()) && !key.starts_with("options["))
        {
            return Err(ConfigError::UnknownParameter { name: name.clone() });
        }
        let has = |names: &[&str]| keys.iter().any(|key| names.contains(&key.as_str()));
        let read = Self {
            text: SecretText::new(text),
            sslmode_given: has(&["sslmode", "ssl-mode"]),
            root_given: has(&["sslrootcert", "ssl-root-cert", "ssl-ca"]) || root_in_environment(),
        };
        read.options()?;
        Ok(read)
    }

    /// Connect options with `PG*` and `.pgpass` filled in, before TLS is settled.
    pub(super) fn options(&self) -> Result<PgConnectOptions, ConfigError> {
        let refused = |_| ConfigError::Unreadable { reason: "a parameter has a value it cannot have".into() };
        let options = PgConnectOptions::from_str(self.text.expose()).map_err(refused)?;
        let name = options.get_application_name().unwrap_or("aqueduct").to_owned();
        Ok(options
            .application_name(&name)
            // Poolers hand the next transaction to another session: nothing may be kept in one.
            .statement_cache_capacity(0)
            // PgBouncer refuses start-up parameters it does not know, this one among them.
            .extra_float_digits(None)
            .disable_statement_logging())
    }

    /// Settles TLS once the host is final. A host that is not this one is verified in full, unless the URL itself
    /// asks for less: an environment variable somebody forgot is no decision.
    pub(super) fn settle_tls(&self, mut options: PgConnectOptions) -> PgConnectOptions {
        let local = is_local(&options);
        if !local && !self.sslmode_given {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        if !local && !self.root_given && is_rds(options.get_host()) {
            options = options.ssl_root_cert_from_pem(RDS_ROOTS.to_vec());
        }
        options
    }
}

impl PostgresUrl {
    /// The mode the URL asks for, where a host elsewhere is then not verified.
    pub(super) fn weak_tls(&self, options: &PgConnectOptions) -> Option<&'static str> {
        if is_local(options) {
            return None;
        }
        match options.get_ssl_mode() {
            PgSslMode::VerifyFull => None,
            PgSslMode::VerifyCa => Some("verify-ca"),
            PgSslMode::Require => Some("require"),
            PgSslMode::Prefer => Some("prefer"),
            PgSslMode::Allow => Some("allow"),
            PgSslMode::Disable => Some("disable"),
        }
    }
}

/// Whether `PGSSLROOTCERT` is set. sqlx has no getter for it, but writes it into the URL it prints.
fn root_in_environment() -> bool {
    let options = PgConnectOptions::new_without_pgpass().host("localhost").username("u").database("d").password("p");
    options.to_url_lossy().query_pairs().any(|(key, _)| key == "sslrootcert")
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_start_matches('[').trim_end_matches(']');
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_rds(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host.ends_with(".rds.amazonaws.com") || host.ends_with(".rds.amazonaws.com.cn")
}

/// `postgres://user@host:port/db`, what people see of a server.
pub(super) fn server_name(options: &PgConnectOptions) -> String {
    let (user, port) = (options.get_username(), options.get_port());
    let database = options.get_database().unwrap_or(user);
    let socket = options.get_socket().map(|path| path.display().to_string());
    match socket.or_else(|| options.get_host().starts_with('/').then(|| options.get_host().to_owned())) {
        Some(directory) => format!("postgres://{user}@/{database}?host={directory}&port={port}"),
        None => format!("postgres://{user}@{}:{port}/{database}", options.get_host()),
    }
}

/// All that is needed to connect, as often as it takes.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    pub(super) url: DatabaseUrl,
    /// Id or ARN in Secrets Manager.
    pub(super) secret: Option<String>,
    pub(super) create_file: bool,
}

impl DatabaseConfig {
    /// Flag beats environment beats the default, an SQLite file below `.aqueduct`. A secret alone means PostgreSQL,
    /// with whatever it leaves out coming from `PG*`.
    pub fn new(given: Given<'_>) -> Result<Self, ConfigError> {
        let flag = given.flag.filter(|text| !text.trim().is_empty());
        let variable = given.url.filter(|text| !text.expose().trim().is_empty());
        let secret = given.secret.map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
        let url = match (flag, variable, &secret) {
            (Some(flag), ..) => DatabaseUrl::parse_flag(flag)?,
            (None, Some(variable), _) => DatabaseUrl::parse(variable)?,
            (None, None, Some(_)) => DatabaseUrl::parse(&SecretText::new("postgres://"))?,
            (None, None, None) => DatabaseUrl::Sqlite(PathBuf::from(DEFAULT_PATH)),
        };
        if secret.is_some() && matches!(url, DatabaseUrl::Sqlite(_)) {
            return Err(ConfigError::SecretNeedsPostgres);
        }
        Ok(Self { url, secret, create_file: true })
    }

    /// For a file.
    pub fn sqlite(path: &Path) -> Self {
        Self { url: DatabaseUrl::Sqlite(path.to_owned()), secret: None, create_file: true }
    }

    /// For commands that only read: a missing SQLite file is an error instead of a new, empty database.
    pub fn existing(mut self) -> Self {
        self.create_file = false;
        self
    }

    /// The address without its password. What a secret adds is not known before connecting.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, ConfigError> {
        DatabaseUrl::parse(&SecretText::new(text))
    }

    fn tls_of(text: &str) -> PgSslMode {
        match parse(text).unwrap() {
            DatabaseUrl::Postgres(url) => url.settle_tls(url.options().unwrap()).get_ssl_mode(),
            DatabaseUrl::Sqlite(_) => panic!("not PostgreSQL"),
        }
    }

    #[test]
    fn a_password_shows_nowhere() {
        let url = parse("postgres://ada:hunter2@db.example:6000/shop?sslmode=require").unwrap();
        let config = DatabaseConfig { url: url.clone(), secret: None, create_file: true };
        for shown in [url.to_string(), format!("{url:?}"), format!("{config:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("postgres://ada@db.example:6000/shop"), "{shown}");
        }
        assert_eq!(format!("{0} {0:?}", SecretText::new("hunter2")), "**** ****");
        for broken in ["postgres://ada:hunter2#x@db/shop", "mysql://ada:hunter2@db/shop", "postgres://a:hunter2@:x/"] {
            let error = parse(broken).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_password_in_a_flag_is_refused() {
        for text in ["postgres://a:b@h/d", "postgres://a@h/d?password=b"] {
            assert_eq!(DatabaseUrl::parse_flag(text).unwrap_err(), ConfigError::PasswordInFlag);
        }
        assert!(DatabaseUrl::parse_flag("postgres://a@h/d").is_ok());
    }

    #[test]
    fn hosts_elsewhere_are_verified_unless_the_url_says_otherwise() {
        let full = |text: &str| matches!(tls_of(text), PgSslMode::VerifyFull);
        assert!(full("postgres://a@db.example/d"));
        assert!(full("postgres://a@10.0.0.1/d"));
        assert!(full("postgres://a@x.eu-west-1.rds.amazonaws.com/d"));
        assert!(full("postgres:///d?host=db.example"));
        for local in ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "%2Frun%2Fpostgresql"] {
            assert!(!full(&format!("postgres://a@{local}/d")), "{local}");
        }
        assert!(matches!(tls_of("postgres://a@db.example/d?sslmode=require"), PgSslMode::Require));
        assert!(matches!(tls_of("postgres://a@db.example/d?sslmode=disable"), PgSslMode::Disable));
    }

    #[test]
    fn sqlite_takes_a_path() {
        let path = |text| match parse(text) {
            Ok(DatabaseUrl::Sqlite(path)) => Ok(path.display().to_string()),
            Ok(DatabaseUrl::Postgres(_)) => panic!("not SQLite"),
            Err(error) => Err(error),
        };
        assert_eq!(path("sqlite:a/b.db").unwrap(), "a/b.db");
        assert_eq!(path("sqlite:///a/b.db").unwrap(), "/a/b.db");
        assert_eq!(path("sqlite::memory:").unwrap_err(), ConfigError::MemoryDatabase);
        assert_eq!(path("sqlite:").unwrap_err(), ConfigError::NoPath);
        assert_eq!(path("sqlite:a.db?mode=ro").unwrap_err(), ConfigError::SqliteParameters);
    }

    #[test]
    fn unknown_parameters_are_named_and_never_logged() {
        let error = parse("postgres://a@h/d?passwrd=b").unwrap_err();
        assert_eq!(error, ConfigError::UnknownParameter { name: "passwrd".into() });
    }

    #[test]
    fn flag_beats_environment_beats_default() {
        let variable = SecretText::new("sqlite:b.db");
        let url = |flag, variable, secret| {
            DatabaseConfig::new(Given { flag, url: variable, secret }).map(|config| config.url().to_string())
        };
        assert_eq!(url(Some("sqlite:a.db"), Some(&variable), None).unwrap(), "sqlite:a.db");
        assert_eq!(url(None, Some(&variable), None).unwrap(), "sqlite:b.db");
        assert_eq!(url(Some(""), None, Some(" ")).unwrap(), "sqlite:./.aqueduct/warehouse.db");
        assert!(url(None, None, Some("prod/db")).unwrap().starts_with("postgres://"));
        assert_eq!(url(None, Some(&variable), Some("prod/db")).unwrap_err(), ConfigError::SecretNeedsPostgres);
    }
}
