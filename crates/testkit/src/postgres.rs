//! Throwaway PostgreSQL clusters.
//!
//! `initdb` takes over a second, so it runs once per machine, into a template directory that each test process copies.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::process::{self, RunDirectory, User};

/// Roles that are members of this one have to give their password; all others are trusted. For example
/// `create role reader login password 'p' in role password_required`.
pub const PASSWORD_GROUP: &str = "password_required";

/// Changes when a template made by an earlier version of this file is not good enough any more.
const TEMPLATE_VERSION: u32 = 1;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What a private cluster has beyond the shared one.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// TLS on, with a certificate for the name `localhost` (and no address, so that a connection to `127.0.0.1` shows
    /// a wrong name), signed by the authority in [`Postgres::ca_certificate`]. Connections without TLS stay possible.
    pub ssl: bool,
    /// Settings for `postgresql.conf`, by name.
    pub settings: Vec<(String, String)>,
    /// Lines that stand before all others in `pg_hba.conf`.
    pub hba: Vec<String>,
}

/// A cluster that lives no longer than the test process.
pub struct Postgres {
    bin: PathBuf,
    user: Option<User>,
    directory: RunDirectory,
    address: SocketAddr,
    /// The server ran at this address, which clients may hold.
    address_is_known: bool,
    server: Option<Child>,
}

/// A database of one test; dropped with its connections when this value goes.
pub struct TestDatabase {
    name: String,
    url: String,
    admin_url: String,
}

/// Where the process's databases are made.
enum Shared {
    Own(Postgres),
    Outside(String),
}

static SHARED: LazyLock<Shared> = LazyLock::new(|| match outside_url() {
    Some(url) => Shared::Outside(url),
    None => Shared::Own(Postgres::private(PostgresOptions::default())),
});

fn outside_url() -> Option<String> {
    std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())
}

impl Postgres {
    /// A new, empty database in the cluster all tests of this process share.
    pub fn database() -> TestDatabase {
        if outside_url().is_none() {
            find_binaries(); // each test says what is missing; the static would say it to the first one only
        }
        match &*SHARED {
            Shared::Own(cluster) => cluster.create_database(),
            Shared::Outside(url) => TestDatabase::create(url),
        }
    }

    /// A cluster of the test's own, to be stopped, killed and restarted. Ignores `TEST_DATABASE_URL`.
    pub fn private(options: PostgresOptions) -> Self {
        let bin = find_binaries();
        let user = server_user();
        let base = process::base_directory();
        let lock = process::lock_base(&base);
        let template = make_template(&base, &bin, user.as_ref());
        let directory = RunDirectory::create(&base, &lock);
        if let Some(user) = &user {
            std::os::unix::fs::chown(directory.path(), Some(user.uid), Some(user.gid))
                .expect("give the cluster's directory to its user");
        }
        drop(lock);
        let data = directory.path().join("data");
        process::output(process::command_as(user.as_ref(), Path::new("cp")).arg("-a").arg(&template).arg(&data));
        let mut cluster = Self { bin, user, directory, address: free_address(), address_is_known: false, server: None };
        cluster.configure(&options);
        cluster.start();
        cluster
    }

    /// A new, empty database in this cluster.
    pub fn create_database(&self) -> TestDatabase {
        TestDatabase::create(&self.url())
    }

    /// Where the server listens; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator's URL of the database `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    /// The certificate authority to trust, when the cluster was made with `ssl`.
    pub fn ca_certificate(&self) -> PathBuf {
        let path = self.directory.path().join("ca.crt");
        assert!(path.exists(), "this cluster was made without `ssl`");
        path
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Starts a stopped or killed server again, on the same port and with the same data.
    ///
    /// # Panics
    /// When the server runs, or does not start.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        // Another process may take the port between our choice, or our last run, and the server's start.
        for _ in 0..20 {
            match self.try_start() {
                Ok(server) => {
                    self.server = Some(server);
                    self.address_is_known = true;
                    return;
                }
                Err(log) if !log.contains("could not bind") => panic!("PostgreSQL did not start:\n{log}"),
                Err(_) if self.address_is_known => std::thread::sleep(Duration::from_millis(200)),
                Err(_) => self.address = free_address(),
            }
        }
        panic!("PostgreSQL found no free port:\n{}", self.log());
    }

    /// From now on no file of a new session may grow beyond so many bytes, or all may again: what a disk that is full is
    /// to the server.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let server = self.server.as_ref().expect("the server runs").id().to_string();
        let limit = bytes.map_or("unlimited".into(), |bytes| bytes.to_string());
        // The soft limit alone, which may be raised again.
        let mut prlimit = process::command_as(self.user.as_ref(), Path::new("prlimit"));
        process::output(prlimit.args(["--pid", &server, &format!("--fsize={limit}:")]));
    }

    /// Ends sessions, writes everything out, stops.
    pub fn stop(&mut self) {
        self.end("INT");
    }

    /// Stops as a crash does: nothing is written out, no session is told, the next start recovers.
    pub fn kill_immediate(&mut self) {
        self.end("QUIT");
    }

    fn end(&mut self, signal: &str) {
        let mut server = self.server.take().expect("the server runs");
        process::send_signal(server.id(), signal);
        server.wait().expect("wait for the server to end");
    }

    fn try_start(&self) -> Result<Child, String> {
        let before = self.log().len();
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("open the server's log");
        let log_too = log.try_clone().expect("open the server's log twice");
        let data = self.directory.path().join("data");
        let mut server = process::spawn_server(self.user.as_ref(), "QUIT", &self.bin.join("postgres"), |command| {
            remove_libpq_variables(command);
            command.arg("-D").arg(&data).arg("-p").arg(self.address.port().to_string());
            command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null()).stdout(log).stderr(log_too);
        });
        let started = Instant::now();
        loop {
            if self.is_ready(server.id()) {
                return Ok(server);
            }
            let ended = server.try_wait().expect("ask whether the server lives").is_some();
            if ended || started.elapsed() > START_TIMEOUT {
                let _ = server.kill();
                let _ = server.wait();
                return Err(self.log().split_off(before));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Line 8 of `postmaster.pid` is the server's own word that it takes connections; line 1 says whose word it is,
    /// because the file survives a crash.
    fn is_ready(&self, pid: u32) -> bool {
        let path = self.directory.path().join("data").join("postmaster.pid");
        let Ok(text) = fs::read_to_string(path) else { return false };
        let mut lines = text.lines();
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    fn configure(&self, options: &PostgresOptions) {
        let data = self.directory.path().join("data");
        // No test survives a power cut, so nothing is forced to disk. `synchronous_commit` stays on: what a client was
        // told is committed has to outlive `kill_immediate`.
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n\
             full_page_writes = off\nautovacuum = off\n",
            data.display()
        );
        if options.ssl {
            self.make_certificates();
            let directory = self.directory.path().display();
            settings.push_str(&format!(
                "ssl = on\nssl_cert_file = '{directory}/server.crt'\nssl_key_file = '{directory}/server.key'\n"
            ));
        }
        for (name, value) in &options.settings {
            settings.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        let mut conf =
            fs::File::options().append(true).open(data.join("postgresql.conf")).expect("open the cluster's settings");
        conf.write_all(settings.as_bytes()).expect("write the cluster's settings");
        if !options.hba.is_empty() {
            let path = data.join("pg_hba.conf");
            let rest = fs::read_to_string(&path).expect("read pg_hba.conf");
            fs::write(&path, format!("{}\n{rest}", options.hba.join("\n"))).expect("write pg_hba.conf");
        }
    }

    /// An authority and a certificate it signs: a client that checks refuses one that signed itself.
    fn make_certificates(&self) {
        let directory = self.directory.path();
        let openssl = |arguments: &str| {
            let mut command = process::command_as(self.user.as_ref(), Path::new("openssl"));
            command.args(arguments.split_whitespace()).current_dir(directory).env("RANDFILE", directory.join("rnd"));
            process::output(&mut command);
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=testkit-authority"));
        openssl(&format!("req -new {key} -keyout server.key -out server.csr -subj /CN=localhost"));
        let names = directory.join("names.cnf");
        fs::write(&names, "subjectAltName = DNS:localhost\nextendedKeyUsage = serverAuth\n").expect("write names.cnf");
        openssl(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -set_serial 2 -days 2 -extfile names.cnf -out server.crt",
        );
        fs::set_permissions(directory.join("server.key"), fs::Permissions::from_mode(0o600))
            .expect("close the server's key");
        fs::set_permissions(directory.join("ca.crt"), fs::Permissions::from_mode(0o644))
            .expect("open the authority's certificate");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill_immediate();
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("url", &self.url()).field("running", &self.server.is_some()).finish()
    }
}

impl TestDatabase {
    fn create(admin_url: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run_psql(admin_url, &format!("create database {name} template template0"))
            .unwrap_or_else(|error| panic!("create a database for the test: {error}"));
        Self { url: with_database(admin_url, &name), admin_url: admin_url.to_owned(), name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The administrator's URL of this database, without a password in the test's own cluster.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL for another role, which a test makes with [`TestDatabase::psql`]. Name and password are URL-safe text.
    pub fn url_as(&self, role: &str, password: Option<&str>) -> String {
        let (scheme, rest) = self.url.split_once("://").expect("a URL has a scheme");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        format!("{scheme}://{role}{password}@{}", &rest[start..])
    }

    /// Runs SQL with `psql`, statement by statement, and gives its output: one line per row, `|` between columns,
    /// nothing for NULL.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn psql(&self, sql: &str) -> String {
        run_psql(&self.url, sql).unwrap_or_else(|error| panic!("psql failed: {error}"))
    }

    /// Like [`TestDatabase::psql`], with what `psql` says when a statement fails.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        run_psql(&self.url, sql)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A private cluster may be gone by now, and the database with it.
        let _ = run_psql(&self.admin_url, &format!("drop database if exists {} with (force)", self.name));
    }
}

impl fmt::Debug for TestDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatabase").field("name", &self.name).finish_non_exhaustive()
    }
}

fn run_psql(url: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(find_psql());
    remove_libpq_variables(&mut command);
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", "-"]);
    command.env("PGCONNECT_TIMEOUT", "10").env("PGCLIENTENCODING", "UTF8");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut psql = command.spawn().map_err(|error| format!("start psql: {error}"))?;
    let mut stdin = psql.stdin.take().expect("standard input is a pipe");
    let text = sql.to_owned();
    // On a thread of its own: psql answers while it reads.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = psql.wait_with_output().map_err(|error| format!("wait for psql: {error}"))?;
    let _ = writer.join(); // psql stops reading at the first error; its status tells
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned());
    }
    let text = String::from_utf8(output.stdout).map_err(|_| "psql printed bytes that are not UTF-8".to_owned())?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// `url` with its database replaced.
fn with_database(url: &str, database: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_else(|| panic!("TEST_DATABASE_URL is not a URL"));
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (rest, String::new()),
    };
    let authority = path.split('/').next().unwrap_or(path);
    format!("{scheme}://{authority}/{database}{query}")
}

/// A developer's own `PGHOST` or `PGOPTIONS` must not reach into a test.
fn remove_libpq_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("find a free port");
    listener.local_addr().expect("ask for the port")
}

/// The server refuses to run as root; Debian's package brings a user for it.
pub(crate) fn server_user() -> Option<User> {
    if process::own_uid() != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let user = User::find(&passwd, "postgres").or_else(|| User::find(&passwd, "nobody"));
    Some(user.expect("root needs a user to run PostgreSQL as: apt-get install postgresql makes one"))
}

/// The newest server on this machine.
fn find_binaries() -> PathBuf {
    if let Some(bin) = std::env::var_os("PG_BIN") {
        let bin = PathBuf::from(bin);
        assert!(bin.join("initdb").exists(), "PG_BIN is {}, which holds no initdb", bin.display());
        return bin;
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            // A client's package leaves the same directory with less in it.
            (bin.join("initdb").exists() && bin.join("postgres").exists()).then_some((version, bin))
        })
        .max();
    if let Some((_, bin)) = newest {
        return bin;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|directory| directory.join("initdb").exists()).unwrap_or_else(|| {
        panic!(
            "this test needs a PostgreSQL server and found none; install it with: make test-tools \
             (or: apt-get install postgresql), or set TEST_DATABASE_URL to one that runs"
        )
    })
}

fn find_psql() -> PathBuf {
    static PSQL: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|directory| directory.join("psql")).find(|psql| psql.exists());
        // With a server given from outside, the client may be all there is.
        on_path.unwrap_or_else(|| find_binaries().join("psql"))
    });
    PSQL.clone()
}

/// Makes the template unless it is there. The caller holds the base's lock.
fn make_template(base: &Path, bin: &Path, user: Option<&User>) -> PathBuf {
    let version = process::output(Command::new(bin.join("postgres")).arg("--version"));
    let version = String::from_utf8_lossy(&version); // for example "postgres (PostgreSQL) 15.18 (Debian …)"
    let version = version.split_whitespace().nth(2).unwrap_or("unknown");
    let owner = user.map_or("self", |user| user.name.as_str());
    let template = base.join(format!("template-{version}-{owner}-{TEMPLATE_VERSION}"));
    if template.join("ready").exists() {
        return template.join("data");
    }
    let _ = fs::remove_dir_all(&template); // a half made one of a process that was killed
    fs::create_dir(&template).expect("create the template's directory");
    fs::set_permissions(&template, fs::Permissions::from_mode(0o755)).expect("let the server's user in");
    if let Some(user) = user {
        std::os::unix::fs::chown(&template, Some(user.uid), Some(user.gid)).expect("give the template to its user");
    }
    let data = template.join("data");
    let mut initdb = process::command_as(user, &bin.join("initdb"));
    remove_libpq_variables(&mut initdb);
    initdb.args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "postgres", "-D"]).arg(&data);
    process::output(initdb.env("LC_ALL", "C").current_dir("/"));
    fs::write(
        data.join("pg_hba.conf"),
        format!("host all +{PASSWORD_GROUP} 127.0.0.1/32 scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n"),
    )
    .expect("write pg_hba.conf");
    create_password_group(bin, &data, user);
    fs::write(template.join("ready"), "").expect("mark the template as made");
    data
}

fn create_password_group(bin: &Path, data: &Path, user: Option<&User>) {
    let mut command = process::command_as(user, &bin.join("postgres"));
    remove_libpq_variables(&mut command);
    command.args(["--single", "-c", "fsync=off", "-D"]).arg(data).arg("postgres").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = command.spawn().expect("start PostgreSQL in single-user mode");
    let mut stdin = server.stdin.take().expect("standard input is a pipe");
    writeln!(stdin, "create role {PASSWORD_GROUP}").expect("write to PostgreSQL in single-user mode");
    drop(stdin);
    let output = server.wait_with_output().expect("wait for PostgreSQL in single-user mode");
    process::assert_success(&command, output.status, &output.stderr);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_replaces_the_path_of_a_url_and_nothing_else() {
        for (url, expected) in [
            ("postgres://u:p@h:1/a?sslmode=disable", "postgres://u:p@h:1/x?sslmode=disable"),
            ("postgres://h", "postgres://h/x"),
            ("postgres://h/?application_name=a/b", "postgres://h/x?application_name=a/b"),
        ] {
            assert_eq!(with_database(url, "x"), expected);
        }
    }
}
