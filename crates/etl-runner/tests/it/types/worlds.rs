//! Texts sent to every place that has a say in their value: our converter, PostgreSQL's tables through both formats of
//! COPY, PostgreSQL's own cast, and SQLite through a whole run.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use etl_runner::database::{CopyEncoder, CopyTextEncoder};
use sqlx::{Connection, Row, SqliteConnection};
use testkit::TestDatabase;
use transform::csv::{Cutter, Grammar};
use transform::types::write_canonical;
use transform::{ColumnType, Pipeline, Plan, RowRef, RowSink, Worker};

/// Brings a text into PostgreSQL's notation; `None` when it is not in the field's own.
type Notation<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// A field, and how PostgreSQL is asked about a text of it.
pub(super) struct Case<'a> {
    field: &'a str,
    question: String,
    notation: Notation<'a>,
}

impl<'a> Case<'a> {
    /// A field by its keys besides its name. The server is asked for the text's cast to the column's type.
    pub(super) fn of(field: &'a str) -> Self {
        Self { field, question: "t::COLUMN".into(), notation: Box::new(|text| Some(text.to_owned())) }
    }

    /// Another question: SQL over the text `t`, in which `COLUMN` is the column's type. NULL says that the value would
    /// not be the one written, which is as good as a refusal.
    pub(super) fn asking(self, question: &str) -> Self {
        Self { question: question.into(), ..self }
    }

    /// The text's cast to the column's type, when that is the same value as its cast to a wider one.
    pub(super) fn unaltered(self, wide: &str) -> Self {
        self.asking(&format!("case when t::{wide} = t::COLUMN then t::COLUMN end"))
    }

    /// Brings a text into PostgreSQL's notation before the server is asked; `None` for what the field's own notation
    /// does not know.
    pub(super) fn written(self, notation: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self { notation: Box::new(notation), ..self }
    }

    /// Takes the texts through all worlds and compares: a text is a value with us exactly when it is one in the field's
    /// notation, with the server, and by the rules that we add, `stricter` naming what those refuse of the texts as the
    /// server is asked about them. A value is the same everywhere, and a reject has the same reason.
    pub(super) fn check(
        &self,
        database: &TestDatabase,
        texts: &[String],
        stricter: impl Fn(&str) -> bool,
    ) -> Vec<Verdict> {
        let (column, verdicts) = self.judge(database, texts);
        let mut taken = 0;
        for verdict in &verdicts {
            let about = |what: &str| format!("{column}, {:?}: {what}: {verdict:#?}", verdict.text);
            match (&verdict.asked, &verdict.server) {
                (Some(asked), Ok(value)) if !stricter(asked) => {
                    taken += 1;
                    assert_eq!(verdict.ours.as_ref(), Ok(value), "{}", about("no rule refuses this"));
                    assert_eq!(verdict.stored, [value.as_str(); 2], "{}", about("PostgreSQL holds another value"));
                    assert_eq!(verdict.sqlite, Ok(Held::of(value, column)), "{}", about("SQLite holds another value"));
                }
                _ => {
                    let Err(reason) = &verdict.ours else { panic!("{}", about("the server or a rule refuses this")) };
                    assert_eq!(verdict.sqlite, Err(reason.clone()), "{}", about("SQLite holds another reject"));
                }
            }
        }
        assert!(taken * 20 >= verdicts.len(), "{column}: only {taken} of {} texts are values", verdicts.len());
        verdicts
    }

    fn judge(&self, database: &TestDatabase, texts: &[String]) -> (ColumnType, Vec<Verdict>) {
        let file = format!(
            "version = 1\nname = \"t\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
             missingValues = []\nfields = [{{ name = \"v\", {} }}]\n[limits]\nrecord = \"16 MiB\"\n[errors]\nlimit = {{}}\n",
            self.field
        );
        let pipeline = Pipeline::parse(&file).unwrap_or_else(|problems| panic!("{}", problems.render("t.toml", &file)));
        let column = pipeline.schema.fields[0].column_type();
        let mut csv = "v\n".to_owned();
        for text in texts {
            csv.push_str(&format!("\"{}\"\n", text.replace('"', "\"\"")));
        }
        let mut verdicts: Vec<Verdict> =
            texts.iter().map(|text| Verdict::of(text.clone(), (self.notation)(text))).collect();
        let encoded = ours(&pipeline, column, &csv, &mut verdicts);
        self.postgres(database, column, &encoded, &mut verdicts);
        sqlite(&file, &csv, &mut verdicts);
        (column, verdicts)
    }

    /// What the server's tables hold of our encodings, and what the server makes of the texts itself.
    fn postgres(&self, database: &TestDatabase, column: ColumnType, encoded: &Encoded, verdicts: &mut [Verdict]) {
        let question = self.question.replace("COLUMN", &column.to_string());
        let asked: Vec<String> = verdicts
            .iter()
            .enumerate()
            .filter_map(|(at, verdict)| Some(format!("({}, '{}')", at + 1, hex(verdict.asked.as_ref()?.as_bytes()))))
            .collect();
        let answers = database.try_psql(&format!(
            "set timezone = 'UTC'; set client_min_messages = warning;\n\
             drop table if exists v;\n\
             create table v (v {column}, load bigint, record bigint);\n\
             \\copy v from '{}' with (format binary)\n\
             \\copy v from '{}'\n\
             select 'stored', record, encode(convert_to(v::text, 'UTF8'), 'hex') from v order by load;\n\
             {HAS_KEY_TWICE}\n\
             create or replace function answer(t text) returns text language plpgsql as $$ begin \
               return coalesce('ok|' || encode(convert_to(({question})::text, 'UTF8'), 'hex'), 'no|another value'); \
             exception when others then return 'no|' || sqlstate; end $$;\n\
             select 'server', n, answer(convert_from(decode(h, 'hex'), 'UTF8')) from (values {}) as t (n, h);",
            encoded.binary.path().display(),
            encoded.text.path().display(),
            asked.join(", ")
        ));
        let answers =
            answers.unwrap_or_else(|error| panic!("the server refuses what we encoded for {column}: {error}"));
        for line in answers.lines() {
            let parts: Vec<&str> = line.split('|').collect();
            let verdict = &mut verdicts[parts[1].parse::<usize>().unwrap() - 1];
            match parts[..] {
                ["stored", _, value] => verdict.stored.push(unhex(value)),
                ["server", _, "ok", value] => verdict.server = Ok(unhex(value)),
                ["server", _, "no", why] => verdict.server = Err(why.to_owned()),
                _ => panic!("{line}"),
            }
        }
    }
}

/// Whether an object somewhere in a JSON text has a key more than once: `json` keeps both, `jsonb` drops one.
const HAS_KEY_TWICE: &str = "\
    create or replace function has_key_twice(document json) returns boolean language sql as $$ \
      with recursive part (v) as ( \
        select document union all select inner_part.v from part, lateral ( \
          select value as v from json_each(case json_typeof(part.v) when 'object' then part.v else '{}' end) \
          union all \
          select value from json_array_elements(case json_typeof(part.v) when 'array' then part.v else '[]' end) \
        ) as inner_part) \
      select bool_or((select count(*) > count(distinct key) \
        from json_object_keys(case json_typeof(v) when 'object' then v else '{}' end) as keys (key))) from part $$;";

/// One text, and what each side makes of it.
#[derive(Debug)]
pub(super) struct Verdict {
    text: String,
    /// The text in PostgreSQL's notation.
    asked: Option<String>,
    /// What the server makes of it as text, or why it does not.
    server: Result<String, String>,
    /// Canonical text, or the reject's message.
    pub(super) ours: Result<String, String>,
    /// What PostgreSQL's table holds after our binary COPY and after our text COPY.
    stored: Vec<String>,
    /// What SQLite's table holds after a run, or the message in its ledger.
    sqlite: Result<Held, String>,
}

impl Verdict {
    fn of(text: String, asked: Option<String>) -> Self {
        let nothing = || "nothing was said".to_owned();
        Self { text, asked, server: Err(nothing()), ours: Err(nothing()), stored: Vec::new(), sqlite: Err(nothing()) }
    }
}

/// A value as SQLite holds it.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Held {
    /// What SQLite is to hold for a value that PostgreSQL prints so.
    fn of(printed: &str, column: ColumnType) -> Self {
        match column {
            ColumnType::Bool => Self::Integer(i64::from(printed == "true")),
            ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 => Self::Integer(printed.parse().unwrap()),
            ColumnType::Float4 | ColumnType::Float8 => Self::Real(printed.parse().unwrap()),
            ColumnType::Bytea => Self::Blob(bytes(printed.strip_prefix("\\x").unwrap())),
            _ => Self::Text(printed.to_owned()),
        }
    }
}

/// Files for COPY.
struct Encoded {
    binary: tempfile::NamedTempFile,
    text: tempfile::NamedTempFile,
}

/// A row goes to both encoders, and its canonical text to the verdict.
struct All<'a> {
    column: ColumnType,
    binary: &'a mut CopyEncoder,
    text: &'a mut CopyTextEncoder,
    verdicts: &'a mut [Verdict],
}

impl RowSink for All<'_> {
    fn row(&mut self, row: RowRef<'_>) {
        self.binary.row(row);
        self.text.row(row);
        let mut canonical = String::new();
        write_canonical(row.cells[0], self.column, &row, &mut canonical);
        self.verdicts[at(row.record)].ours = Ok(canonical);
    }
}

fn at(record: u64) -> usize {
    usize::try_from(record).unwrap() - 1
}

/// The way of our own code, up to the bytes that go to PostgreSQL.
fn ours(pipeline: &Pipeline, column: ColumnType, csv: &str, verdicts: &mut [Verdict]) -> Encoded {
    let grammar = Grammar::new(&pipeline.dialect, b',');
    let (plan, _) = Plan::compile(pipeline, grammar, Some(&["v".to_owned()]), &[column]).unwrap();
    let mut cutter = Cutter::new(grammar, pipeline.source.encoding, pipeline.limits.record, true);
    cutter.push(csv.as_bytes());
    cutter.finish();
    cutter.next().unwrap();
    let mut worker = Worker::new(&plan);
    // `_record` tells which text a row came from, `_load_id` which format it took.
    let mut binary = CopyEncoder::new(Arc::from([column]), Some(1), Vec::new());
    let mut text = CopyTextEncoder::new(Arc::from([column]), Some(2), Vec::new());
    let mut judged = 0;
    while let Some(block) = cutter.next() {
        let mut all = All { column, binary: &mut binary, text: &mut text, verdicts: &mut *verdicts };
        let tally = worker.apply(&block, &mut all);
        judged += tally.read;
        for reject in tally.rejects {
            verdicts[at(reject.record)].ours = Err(plan.message(reject.fault));
        }
    }
    assert_eq!(judged, verdicts.len() as u64, "each text is one record");
    let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let binary = [&header[..], &binary.finish(), &(-1i16).to_be_bytes()].concat();
    Encoded { binary: file_of(&binary), text: file_of(&text.finish()) }
}

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

/// A run of the binary into a database of SQLite: what its table and its ledger hold.
fn sqlite(pipeline: &str, csv: &str, verdicts: &mut [Verdict]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("t.toml"), pipeline).unwrap();
    std::fs::write(path("t.csv"), csv).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
    run.arg("run").arg(path("t.toml")).arg(path("t.csv"));
    run.env_remove("DATABASE_SECRET").env_remove("AQUEDUCT_STORE");
    run.env("DATABASE_URL", format!("sqlite:{}", path("t.db").display()));
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(read_sqlite(&path("t.db"), verdicts));
}

async fn read_sqlite(path: &Path, verdicts: &mut [Verdict]) {
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let values = "select _record, typeof(v), v from t";
    for row in sqlx::query(values).fetch_all(&mut connection).await.unwrap() {
        let held = match row.get(1) {
            "integer" => Held::Integer(row.get(2)),
            "real" => Held::Real(row.get(2)),
            "text" => Held::Text(row.get(2)),
            "blob" => Held::Blob(row.get(2)),
            other => panic!("{other}"),
        };
        verdicts[at(row.get::<i64, _>(0) as u64)].sqlite = Ok(held);
    }
    for row in sqlx::query("select record, message from aqueduct_reject").fetch_all(&mut connection).await.unwrap() {
        verdicts[at(row.get::<i64, _>(0) as u64)].sqlite = Err(row.get(1));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn unhex(text: &str) -> String {
    String::from_utf8(bytes(text)).unwrap()
}
