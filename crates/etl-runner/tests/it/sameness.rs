//! One pipeline file, two worlds: a directory into SQLite and S3 into PostgreSQL give the same rows, the same rejects and
//! the same balance. And what people really have loads with nothing lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sqlx::{Connection, Row, SqliteConnection};
use testkit::{Aws, Postgres, Random, TestDatabase};

use crate::text;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn etl_runner(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
    command.args(arguments).env_remove("DATABASE_SECRET").env_remove("DATABASE_URL").env_remove("AQUEDUCT_STORE");
    command.envs(env.iter().copied()).output().unwrap()
}

/// A table of SQLite as lines of text, NULL as `∅`.
fn sqlite(path: &Path, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap();
        let cell =
            |row: &sqlx::sqlite::SqliteRow, at: usize| row.get::<Option<String>, _>(at).unwrap_or_else(|| "∅".into());
        rows.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect::<Vec<_>>().join("|")).collect()
    })
}

fn postgres(database: &TestDatabase, sql: &str) -> Vec<String> {
    let asked = format!("set timezone = 'UTC'; \\pset null '∅'\n{sql}");
    database.psql(&asked).lines().map(str::to_owned).collect()
}

struct Worlds {
    folder: tempfile::TempDir,
    database: TestDatabase,
    bucket: String,
}

impl Worlds {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("store")).unwrap();
        Self { folder, database: Postgres::database(), bucket: Aws::shared().bucket() }
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.folder.path().join("store").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        Aws::shared().put_object(&self.bucket, key, bytes);
    }

    fn warehouse(&self) -> PathBuf {
        self.folder.path().join("warehouse.db")
    }

    /// Runs the pipeline in both worlds and gives both outputs.
    fn run(&self, pipeline: &Path) -> (Output, Output) {
        let pipeline = pipeline.display().to_string();
        let store = self.folder.path().join("store").display().to_string();
        let warehouse = format!("sqlite:{}", self.warehouse().display());
        let local = etl_runner(&["run", &pipeline], &[("AQUEDUCT_STORE", &store), ("DATABASE_URL", &warehouse)]);
        let bucket = format!("s3://{}", self.bucket);
        let aws = Aws::shared().env();
        let mut env: Vec<(&str, &str)> = aws.iter().map(|(name, value)| (*name, value.as_str())).collect();
        env.extend([("AQUEDUCT_STORE", bucket.as_str()), ("DATABASE_URL", self.database.url())]);
        (local, etl_runner(&["run", &pipeline], &env))
    }

    /// Rows, rejects and balance of both worlds, which must be the same; gives the number of rows and rejects.
    fn compare(&self, table: &str, columns: &[(&str, &str)]) -> (usize, usize) {
        let sqlite_columns: Vec<_> = columns
            .iter()
            .map(|(name, kind)| match *kind {
                "boolean" => format!("case {name} when 1 then 'true' when 0 then 'false' end"),
                "bytea" => format!("case when {name} is not null then '\\x' || lower(hex({name})) end"),
                _ => format!("replace(cast({name} as text), char(10), '⏎')"),
            })
            .collect();
        let postgres_columns: Vec<_> =
            columns.iter().map(|(name, _)| format!("replace({name}::text, chr(10), '⏎')")).collect();
        let order = "order by (select object_key from LOAD where id = _load_id), _record";
        let of = |columns: &[String], load: &str| {
            format!(
                "select {}, cast(_record as text) as n from {table} {}",
                columns.join(", "),
                order.replace("LOAD", load)
            )
        };
        let here = sqlite(&self.warehouse(), &of(&sqlite_columns, "aqueduct_load"));
        let there = postgres(&self.database, &of(&postgres_columns, "aqueduct.load"));
        assert_eq!(here.len(), there.len());
        for (here, there) in here.iter().zip(&there) {
            assert_eq!(here, there);
        }
        let rejects = "select object_key, cast(record as text) as n, cast(line as text), cast(byte_offset as text), field, code, \
                       message, RAW from REJECT join LOAD on id = load_id order by object_key, record";
        let here_rejects = sqlite(
            &self.warehouse(),
            &rejects
                .replace("RAW", "lower(hex(raw))")
                .replace("REJECT", "aqueduct_reject")
                .replace("LOAD", "aqueduct_load"),
        );
        let there_rejects = postgres(
            &self.database,
            &rejects
                .replace("RAW", "encode(raw, 'hex')")
                .replace("REJECT", "aqueduct.reject")
                .replace("LOAD", "aqueduct.load"),
        );
        assert_eq!(here_rejects, there_rejects);
        let balance = "select object_key, state, cast(records_read as text), cast(loaded as text), cast(rejected as text), \
                       cast(filtered as text), cast(duplicates as text), cast(skipped as text), cast(bytes as text), \
                       content_sha256, pipeline_hash from LOAD order by object_key";
        let here_balance = sqlite(&self.warehouse(), &balance.replace("LOAD", "aqueduct_load"));
        assert_eq!(here_balance, postgres(&self.database, &balance.replace("LOAD", "aqueduct.load")));
        (here.len(), here_rejects.len())
    }
}

#[test]
fn the_seed_data_is_the_same_in_both_worlds() {
    let worlds = Worlds::new();
    let seeds = root().join("seed-data");
    for folder in ["customers", "passengers", "runways"] {
        for entry in std::fs::read_dir(seeds.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let key = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            worlds.put(&key, &std::fs::read(&path).unwrap());
        }
        let (local, remote) = worlds.run(&root().join(format!("pipelines/{folder}.toml")));
        assert!(local.status.success(), "{}", text(&local));
        assert!(remote.status.success(), "{}", text(&remote));
    }
    let columns = [
        "id",
        "title",
        "firstname",
        "lastname",
        "status",
        "email",
        "age",
        "balance",
        "signup_date",
        "last_seen",
        "country",
        "notes",
    ]
    .map(|name| (name, "text"));
    let (rows, rejects) = worlds.compare("customers", &columns);
    assert_eq!((rows, rejects), (59, 6));
}

const EVERY_TYPE: &str = r#"
version = 1
name = "every_type"
[source]
path = "every/*.csv*"
[dialect]
delimiter = ","
[schema]
missingValues = ["", "NULL"]
fields = [
  { name = "id", type = "integer" },
  { name = "small", type = "integer", sqlType = "smallint" },
  { name = "amount", type = "number", precision = [12, 2], groupChar = "," },
  { name = "exact", type = "number" },
  { name = "yes", type = "boolean", trueValues = ["y", "1"], falseValues = ["n", "0"] },
  { name = "day", type = "date", format = "%d/%m/%Y" },
  { name = "moment", type = "datetime", timezone = "Europe/Paris" },
  { name = "plain", type = "datetime" },
  { name = "clock", type = "time" },
  { name = "born", type = "year" },
  { name = "doc", type = "object" },
  { name = "list", type = "array" },
  { name = "uid", type = "string", format = "uuid" },
  { name = "raw", type = "string", format = "binary" },
  { name = "word", type = "string", sqlType = "varchar(12)", clean = ["trim", "collapse_spaces"], default = "none" },
]
[errors]
limit = { rows = 100000 }
"#;

/// A cell of each column: mostly a value, sometimes missing, sometimes wrong.
fn cell(column: usize, random: &mut Random, number: u64) -> String {
    if column > 0 && random.below(12) == 0 {
        return ["", "NULL"][random.below(2) as usize].to_owned();
    }
    if random.below(60) == 0 {
        return ["x", "12O", "2024-02-30", "{\"a\":", "é\"quoted\", text", "999999999999999999999", " 1"]
            [random.below(7) as usize]
            .to_owned();
    }
    let n = random.below(1_000_000);
    match column {
        0 => number.to_string(),
        1 => (n % 30_000).to_string(),
        2 => format!("{},{:03}.{:02}", 1 + n % 900, n % 1000, n % 100),
        3 => ["0.10", "1e3", "-12345678901234567890.123456789", "1.50", "-0.00"][n as usize % 5].to_owned(),
        4 => ["y", "n", "1", "0"][n as usize % 4].to_owned(),
        5 => format!("{:02}/{:02}/{}", 1 + n % 28, 1 + n % 12, 1900 + n % 200),
        6 => format!(
            "2024-{:02}-{:02}T{:02}:30:00{}",
            1 + n % 12,
            1 + n % 28,
            n % 24,
            ["", "Z", "+05:30"][n as usize % 3]
        ),
        7 => format!("{}-01-01 00:00:00.{}", 1700 + n % 300, n),
        8 => format!("{:02}:{:02}:{:02}.5", n % 24, n % 60, n / 60 % 60),
        9 => (1000 + n % 1000).to_string(),
        10 => format!("{{\"b\": {n}.50, \"a\": [true, null, \"é\\n\"], \"ccc\": {{}}}}"),
        11 => format!("[{n}, 1e2, \"\\u0041\"]"),
        12 => format!("{n:08X}-0000-4000-8000-00000000{:04x}", n % 65536),
        13 => ["aGVsbG8=", "AP8Q", ""][n as usize % 3].to_owned(),
        _ => {
            ["  two  words ", "one", "日本語", "a\nb", "=1+1", "\\N", "'); drop table x; --"][n as usize % 7].to_owned()
        }
    }
}

fn gzip(folder: &Path, bytes: &[u8]) -> Vec<u8> {
    let path = folder.join("plain");
    std::fs::write(&path, bytes).unwrap();
    Command::new("gzip").arg("--stdout").arg(&path).output().unwrap().stdout
}

#[test]
fn every_type_is_the_same_in_both_worlds_however_the_object_is_compressed() {
    let worlds = Worlds::new();
    let names = [
        "id", "small", "amount", "exact", "yes", "day", "moment", "plain", "clock", "born", "doc", "list", "uid",
        "raw", "word",
    ];
    for (file, line_end) in [("a.csv", "\n"), ("b.csv", "\r\n"), ("c.csv", "\n")] {
        let mut random = Random::new(file.len() as u64 + u64::from(file.as_bytes()[0]));
        let mut csv = names.join(",") + line_end;
        for number in 1..=2_000 {
            let cells = (0..names.len()).map(|column| {
                let cell = cell(column, &mut random, number);
                let quoted = cell.contains(['"', ',', '\n', '\r']) || random.below(5) == 0;
                if quoted { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
            });
            let mut line = cells.collect::<Vec<_>>().join(",");
            if random.below(100) == 0 {
                line.push_str(",more");
            }
            csv.push_str(&line);
            csv.push_str(line_end);
            if random.below(50) == 0 {
                csv.push_str(line_end);
            }
        }
        let mut bytes = csv.into_bytes();
        if file == "b.csv" {
            bytes.splice(0..0, [0xEF, 0xBB, 0xBF]);
            bytes.extend(b"9999,\"a stray quote");
        }
        if file == "c.csv" {
            worlds.put("every/c.csv.gz", &gzip(worlds.folder.path(), &bytes));
            continue;
        }
        worlds.put(&format!("every/{file}"), &bytes);
    }
    let pipeline = worlds.folder.path().join("every.toml");
    std::fs::write(&pipeline, EVERY_TYPE).unwrap();
    let (local, remote) = worlds.run(&pipeline);
    assert!(local.status.success(), "{}", text(&local));
    assert!(remote.status.success(), "{}", text(&remote));
    let kinds = |name: &str| match name {
        "yes" => "boolean",
        "raw" => "bytea",
        _ => "text",
    };
    let (rows, rejects) = worlds.compare("every_type", &names.map(|name| (name, kinds(name))));
    assert_eq!(rows + rejects, 6_001, "each record is a row or a reject");
    assert!(rejects > 300 && rows > 3_000, "{rows} rows, {rejects} rejects");
}

/// However many threads there are, and whatever the size of the limit, the rejects and counts are the same.
#[test]
fn threads_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(5);
    let mut csv = String::from("id,amount\n");
    for id in 1..=60_000 {
        let amount = if random.below(40) == 0 { "x".to_owned() } else { random.below(9_999).to_string() };
        csv.push_str(&format!("{id},{amount}\n"));
    }
    let (file, pipeline) = (folder.path().join("a.csv"), folder.path().join("a.toml"));
    std::fs::write(&file, csv).unwrap();
    std::fs::write(
        &pipeline,
        "version = 1\nname = \"a\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\nfields = [{ name = \
         \"id\", type = \"integer\" }, { name = \"amount\", type = \"integer\" }]\n[errors]\nlimit = { rows = 1000 }\n",
    )
    .unwrap();
    let mut seen = Vec::new();
    for workers in ["1", "2", "7"] {
        let warehouse = folder.path().join(format!("{workers}.db"));
        let url = format!("sqlite:{}", warehouse.display());
        let arguments = ["run", "--workers", workers, pipeline.to_str().unwrap(), file.to_str().unwrap()];
        let output = etl_runner(&arguments, &[("DATABASE_URL", &url)]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        let failed = "select cast(records_read as text), cast(rejected as text), first_error, state from aqueduct_load";
        let rejects = "select cast(record as text), cast(line as text), message from aqueduct_reject order by record";
        seen.push((sqlite(&warehouse, failed), sqlite(&warehouse, rejects)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[0].1.len(), 100, "a failed load keeps its first hundred rejects");
}

/// Real files, as far as they are at hand: nothing lost, counts equal to the csv crate's.
#[test]
fn real_files_load_with_nothing_lost() {
    let mut files: Vec<PathBuf> = vec![root().join("seed-data/runways/runways.csv")];
    if let Some(corpora) = std::env::var_os("CORPUS_DIR") {
        let real = root().join(Path::new(&corpora)).join("real");
        let listed = std::fs::read_dir(&real).unwrap_or_else(|error| panic!("CORPUS_DIR: {}: {error}", real.display()));
        files.extend(
            listed.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "csv")),
        );
    }
    for file in files {
        let worlds = Worlds::new();
        let mut reader = csv::ReaderBuilder::new().from_path(&file).unwrap();
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let fields: Vec<_> = header.iter().map(|name| format!("{{ name = \"{name}\" }}")).collect();
        let pipeline = worlds.folder.path().join("real.toml");
        std::fs::write(
            &pipeline,
            format!(
                "version = 1\nname = \"real\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
                 missingValues = []\nfields = [{}]\n",
                fields.join(", ")
            ),
        )
        .unwrap();
        worlds.put("real.csv", &std::fs::read(&file).unwrap());
        let (local, remote) = worlds.run(&pipeline);
        assert!(local.status.success(), "{}", text(&local));
        assert!(remote.status.success(), "{}", text(&remote));
        let columns: Vec<_> = header.iter().map(|name| format!("\"{name}\"")).collect();
        let columns: Vec<_> = columns.iter().map(|name| (name.as_str(), "text")).collect();
        assert_eq!(worlds.compare("real", &columns), (records.len(), 0));
        let select = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let rows = sqlite(&worlds.warehouse(), &format!("select {select} from real order by _record"));
        for (row, record) in rows.iter().zip(&records) {
            assert_eq!(row.replace('\n', "⏎"), record.iter().collect::<Vec<_>>().join("|").replace('\n', "⏎"));
        }
    }
}
