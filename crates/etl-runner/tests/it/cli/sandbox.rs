//! A directory in which the binary runs as a person runs it, and the transcript of what it said.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use regex::Regex;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row};
use testkit::TestDatabase;

/// Files in the sandbox's store are one day apart, from 1 January 2026 on: the order in which they are loaded.
const FIRST_DAY: u64 = 1_767_225_600;

/// Where the sandbox's database is.
pub(super) enum Where {
    /// `.aqueduct/warehouse.db`, what a person gets who says nothing.
    Default,
    Postgres(TestDatabase),
}

pub(super) struct Sandbox {
    folder: tempfile::TempDir,
    pub(super) database: Where,
    env: Vec<(String, String)>,
    masks: Vec<(String, String)>,
    transcript: String,
    files: u64,
    /// Run by this user, when the test is run by root, whom no file refuses.
    unprivileged: bool,
}

/// What one run of the binary said.
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Sandbox {
    /// With the repository's pipelines and an empty store.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Self {
            folder,
            database: Where::Default,
            env: Vec::new(),
            masks: Vec::new(),
            transcript: String::new(),
            files: 0,
            unprivileged: false,
        };
        for name in ["customers", "passengers", "runways"] {
            let text = fs::read(repository().join(format!("pipelines/{name}.toml"))).unwrap();
            sandbox.write(&format!("pipelines/{name}.toml"), &text);
        }
        fs::create_dir_all(sandbox.path(".aqueduct/store")).unwrap();
        sandbox
    }

    /// On PostgreSQL.
    pub(super) fn on(database: TestDatabase) -> Self {
        let mut sandbox = Self::new();
        sandbox.set("DATABASE_URL", database.url());
        sandbox.mask(database.name(), "[DATABASE]");
        sandbox.database = Where::Postgres(database);
        sandbox
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Shows `shown` instead of `text` in the transcript.
    pub(super) fn mask(&mut self, text: &str, shown: &str) {
        self.masks.push((text.to_owned(), shown.to_owned()));
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Puts an object into the store, a day younger than the last.
    pub(super) fn put(&mut self, key: &str, bytes: &[u8]) {
        let name = format!(".aqueduct/store/{key}");
        self.write(&name, bytes);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST_DAY + 86_400 * self.files);
        File::options().write(true).open(self.path(&name)).unwrap().set_modified(modified).unwrap();
        self.files += 1;
    }

    /// Puts a file of seed-data/ into the store.
    pub(super) fn seed(&mut self, key: &str) {
        self.put(key, &seed(key));
    }

    /// A pipeline for small files of two columns, into the table `item`. `more` comes after `[target]`.
    pub(super) fn item_pipeline(&self, more: &str) {
        let text = format!(
            "version = 1\nname = \"items\"\n[source]\npath = \"items/*.csv\"\n[dialect]\ndelimiter = \",\"\n\
             [schema]\nprimaryKey = [\"id\"]\nfields = [\n  {{ name = \"id\", type = \"integer\" }},\n  \
             {{ name = \"price\", type = \"number\", precision = [8, 2] }},\n]\n[target]\ntable = \"item\"\n{more}"
        );
        self.write("items.toml", text.as_bytes());
    }

    /// From here on as a user whom file permissions bind.
    pub(super) fn unprivileged(&mut self) {
        use std::os::unix::fs::PermissionsExt;
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        open(self.folder.path());
        let copy = self.path("etl-runner");
        fs::copy(env!("CARGO_BIN_EXE_etl-runner"), &copy).unwrap();
        open(&copy);
        self.unprivileged = true;
    }

    /// Whether a directory and the files in it may be written, by those whom file permissions bind.
    pub(super) fn set_writable(&self, directory: &str, writable: bool) {
        use std::os::unix::fs::PermissionsExt;
        let directory = self.path(directory);
        let (of_directory, of_file) = if writable { (0o755, 0o644) } else { (0o555, 0o444) };
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&directory, of_directory);
        for found in fs::read_dir(&directory).unwrap().map(Result::unwrap).filter(|found| found.path().is_file()) {
            set(&found.path(), of_file);
        }
    }

    /// Writes a line into the transcript.
    pub(super) fn note(&mut self, text: &str) {
        let _ = writeln!(self.transcript, "# {text}\n");
    }

    /// Runs `etl-runner` with arguments split at blanks.
    pub(super) fn run(&mut self, arguments: &str) -> Answer {
        self.run_words(&arguments.split_whitespace().collect::<Vec<_>>(), arguments)
    }

    /// Runs `etl-runner` with words that may hold blanks, shown as `shown`.
    pub(super) fn run_words(&mut self, words: &[&str], shown: &str) -> Answer {
        let program = if self.unprivileged { self.path("etl-runner") } else { env!("CARGO_BIN_EXE_etl-runner").into() };
        let mut command = Command::new(program);
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        // Nothing of the person's own settings reaches in.
        command.env_clear().env("HOME", self.folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let is_root = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0;
        if self.unprivileged && is_root {
            std::os::unix::process::CommandExt::uid(&mut command, 65_534);
        }
        let output = command.output().unwrap();
        let answer = Answer {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        let _ = write!(self.transcript, "$ etl-runner {shown}\n{}", answer.stdout);
        if !answer.stderr.is_empty() {
            let _ = write!(self.transcript, "--- stderr\n{}", answer.stderr);
        }
        let _ = write!(self.transcript, "--- exit {}\n\n", answer.code);
        answer
    }

    /// Runs what ends well.
    pub(super) fn ok(&mut self, arguments: &str) -> Answer {
        let answer = self.run(arguments);
        assert_eq!(answer.code, 0, "{}", self.transcript);
        answer
    }

    /// Runs what is refused: with this code, and with everything in the database as it was.
    pub(super) fn refused(&mut self, arguments: &str, code: i32) -> Answer {
        let before = self.state();
        let answer = self.run(arguments);
        assert_eq!(answer.code, code, "{}", self.transcript);
        assert_eq!(self.state(), before, "something was left half done: {}", self.transcript);
        assert!(answer.stderr.starts_with("error: "), "{}", self.transcript);
        answer
    }

    /// Each table with its number of rows, each load with its state, and how many rejects are kept. Empty: no database.
    pub(super) fn state(&self) -> Vec<String> {
        match &self.database {
            Where::Default => {
                if !self.path(".aqueduct/warehouse.db").exists() {
                    return Vec::new();
                }
                let tables = "select name from sqlite_schema where type = 'table' \
                              and name not like 'aqueduct%' and name not like 'sqlite%' order by 1";
                let mut state = Vec::new();
                for table in self.sqlite(tables) {
                    let rows = self.sqlite(&format!("select count(*) from \"{table}\"")).concat();
                    state.push(format!("{table}: {rows} rows"));
                }
                if self.sqlite("select name from sqlite_schema where name = 'aqueduct_load'").is_empty() {
                    return state;
                }
                state.extend(self.sqlite("select 'load ' || id || ': ' || state from aqueduct_load order by id"));
                let rejects = self.sqlite("select count(*) from aqueduct_reject").concat();
                state.push(format!("{rejects} rejects"));
                state
            }
            Where::Postgres(database) => {
                let tables = "select format('%I.%I', schemaname, relname) from pg_stat_user_tables \
                              where schemaname <> 'aqueduct' order by 1";
                let mut state = Vec::new();
                for table in database.psql(tables).lines() {
                    let rows = database.psql(&format!("select count(*) from {table}"));
                    state.push(format!("{table}: {rows} rows"));
                }
                if database.psql("select to_regclass('aqueduct.load') is null") == "t" {
                    return state;
                }
                let loads = database.psql("select 'load ' || id || ': ' || state from aqueduct.load order by id");
                state.extend(loads.lines().map(str::to_owned));
                state.push(format!("{} rejects", database.psql("select count(*) from aqueduct.reject")));
                state
            }
        }
    }

    /// The first column of each row the default database answers with.
    pub(super) fn sqlite(&self, sql: &str) -> Vec<String> {
        let file = self.path(".aqueduct/warehouse.db");
        // What may not be written may have no file beside it, either.
        let fixed = fs::metadata(&file).is_ok_and(|meta| meta.permissions().readonly());
        let options = SqliteConnectOptions::new().filename(file).read_only(fixed).immutable(fixed);
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        block_on(async {
            let mut connection = options.connect().await.unwrap();
            let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
            let text = |row: sqlx::sqlite::SqliteRow| match row.try_get::<Option<String>, _>(0) {
                Ok(text) => text.unwrap_or_default(),
                Err(_) => row.get::<i64, _>(0).to_string(),
            };
            let texts = rows.into_iter().map(text).collect();
            sqlx::Connection::close(connection).await.unwrap();
            texts
        })
    }

    /// Compares the transcript with `tests/golden/NAME.txt`; UPDATE_GOLDEN=1 writes it.
    pub(super) fn golden(self, name: &str) {
        let found = self.masked();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(path, found).unwrap();
            return;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "{} differs; UPDATE_GOLDEN=1 writes it anew\n{}",
            path.display(),
            first_difference(&expected, &found)
        );
    }

    /// The transcript without what is another one each time.
    fn masked(&self) -> String {
        let mut text = self.transcript.replace(&self.folder.path().display().to_string(), "[DIR]");
        for (secret, shown) in &self.masks {
            text = text.replace(secret, shown);
        }
        for (pattern, shown) in [
            (r"f:\d+:\d+:\d+", "[VERSION]"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "[UUID]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "[TIME]"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[TIME]"),
            (r"· (\d+ ms|[0-9.]+ s)( · [0-9.]+ [A-Za-z]+/s)?", "· [PACE]"),
            (r#""seconds":[0-9.e-]+"#, r#""seconds":[SECONDS]"#),
            (r#""pipeline_hash":"[0-9a-f]{64}""#, r#""pipeline_hash":"[HASH]""#),
            (r#""table_oid":\d+"#, r#""table_oid":[OID]"#),
            (r#"("Timestamp"|"DurationMs"):\d+"#, "$1:[NUMBER]"),
            (r"\([0-9a-f]{12}\)", "([HASH])"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
        ] {
            text = Regex::new(pattern).unwrap().replace_all(&text, shown).into_owned();
        }
        text.replace(env!("CARGO_PKG_VERSION"), "[PACKAGE-VERSION]")
    }
}

fn first_difference(expected: &str, found: &str) -> String {
    let mut expected = expected.lines();
    for (index, line) in found.lines().enumerate() {
        match expected.next() {
            Some(same) if same == line => {}
            other => return format!("line {}\n  expected {:?}\n  found    {line:?}\n\n{found}", index + 1, other),
        }
    }
    format!("lines are missing at its end\n\n{found}")
}

pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(super) fn seed(key: &str) -> Vec<u8> {
    fs::read(repository().join("seed-data").join(key)).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
