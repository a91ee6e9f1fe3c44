//! What the table refuses is set aside, record by record, and everything else is loaded.
//!
//! The oracle is the database itself: the same records inserted one by one, in the order of the file, each in a statement
//! of its own. Those it takes are the rows a load must leave, all others are its rejects.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sqlx::{Connection, Row, SqliteConnection};
use testkit::{Postgres, Random, TestDatabase};

use crate::text;

/// As a pipeline's fields and as columns of PostgreSQL; `mood` is an enum, for which a load goes by text COPY.
pub(crate) const FIELDS: &str = r#"
  { name = "id", type = "integer" },
  { name = "code", type = "string" },
  { name = "amount", type = "number", precision = [12, 2] },
  { name = "parent", type = "integer" },
  { name = "quantity", type = "integer", sqlType = "integer" },
  { name = "slot", type = "integer", sqlType = "integer" },
  { name = "note", type = "string" },
"#;

pub(crate) const TABLE: &str = "
create domain positive as integer constraint quantity_positive check (value > 0);
create type mood as enum ('sad', 'ok');
create table parent (id bigint primary key);
insert into parent select generate_series(1, 50);
create table event (
    seq bigint generated always as identity,
    id bigint not null,
    code text constraint event_code unique,
    amount numeric(12, 2) constraint not_thirteen check (amount <> 13),
    parent bigint constraint event_parent references parent deferrable initially deferred,
    quantity positive,
    slot integer,
    note text not null,
    mood mood,
    twice bigint generated always as (id * 2) stored,
    _load_id bigint,
    _record bigint,
    constraint event_pkey primary key (id),
    constraint event_slot exclude (slot with =)
);
create function refuse() returns trigger language plpgsql as $$ begin
    if new.note = 'forbidden' then raise exception 'not %', new.note using errcode = 'AQ001'; end if;
    return new;
end $$;
create trigger refuse before insert on event for each row execute function refuse();
insert into event (id, code, slot, note) select n, 'old' || n, -n, 'there before' from generate_series(1, 20) n;
";

pub(crate) fn pipeline(fields: &str, lineage: bool, more: &str) -> String {
    format!(
        "version = 1\nname = \"events\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
         primaryKey = [\"id\"]\nfields = [{fields}]\n[target]\ntable = \"event\"\nlineage = {lineage}\n{more}\n\
         [errors]\nlimit = {{ rows = 1000000 }}\n"
    )
}

/// A record as its values; `None` is an empty cell.
pub(crate) type Record = Vec<Option<String>>;

/// One in `odds` breaks a rule of the table, some break several.
pub(crate) fn records(random: &mut Random, count: u64, odds: u64, mood: bool) -> Vec<Record> {
    (0..count)
        .map(|n| {
            let mut breaks = |times: u64| random.below(odds * times) == 0;
            let id = if breaks(1) { 1 + n / 2 } else { 1_000 + n };
            let code = if breaks(1) { format!("old{}", n % 30) } else { format!("code{n}") };
            let amount = if breaks(2) { "13".to_owned() } else { format!("{n}.50") };
            let parent = if breaks(2) { 51 + n } else { 1 + n % 50 };
            let quantity = if breaks(2) { 0 } else { 1 + n };
            let slot = if breaks(2) { n / 3 } else { 100_000 + n };
            let note = if breaks(3) { None } else { Some(if breaks(3) { "forbidden" } else { "a note" }) };
            let feeling = if breaks(3) { "bored" } else { "ok" };
            let mut record: Record = vec![Some(id.to_string()), Some(code), Some(amount), Some(parent.to_string())];
            record.extend([Some(quantity.to_string()), Some(slot.to_string()), note.map(str::to_owned)]);
            record.extend(mood.then(|| Some(feeling.to_owned())));
            record
        })
        .collect()
}

pub(crate) fn csv(records: &[Record], mood: bool) -> String {
    let mut text = String::from("id,code,amount,parent,quantity,slot,note");
    text.push_str(if mood { ",mood\n" } else { "\n" });
    for record in records {
        let cells: Vec<&str> = record.iter().map(|cell| cell.as_deref().unwrap_or_default()).collect();
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

pub(crate) struct Folder {
    pub(crate) folder: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new(pipeline: &str, csv: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.toml"), pipeline).unwrap();
        std::fs::write(folder.path().join("events.csv"), csv).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn run(&self, url: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.current_dir(self.folder.path()).env("DATABASE_URL", url);
        command.args(["run", "events.toml", "events.csv"]).args(arguments).output().unwrap()
    }
}

/// A record's cells as SQL.
pub(crate) fn literals(record: &Record) -> String {
    let cells = record.iter().map(|cell| cell.as_ref().map_or("null".into(), |cell| format!("'{cell}'")));
    cells.collect::<Vec<_>>().join(", ")
}

/// The records PostgreSQL takes when each is inserted alone.
fn taken_one_by_one(oracle: &TestDatabase, records: &[Record], mood: bool) {
    let mut script = String::new();
    for (number, record) in (1..).zip(records) {
        let mood = if mood { ", mood" } else { "" };
        script.push_str(&format!(
            "insert into event (id, code, amount, parent, quantity, slot, note{mood}, _load_id, _record) \
             values ({}, 1, {number});\n",
            literals(record)
        ));
    }
    oracle.psql(&format!("\\set ON_ERROR_STOP off\n{script}"));
}

pub(crate) const ROWS: &str = "select id, code, amount, parent, quantity, slot, note, mood, twice, _record from event \
                    order by id";

#[test]
fn a_load_leaves_what_inserting_record_by_record_leaves() {
    for (seed, mood) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut random = Random::new(seed);
        let odds = [400, 60, 8, 3][seed as usize - 1];
        let records = records(&mut random, 6_000, odds, mood);
        let (loaded, oracle) = (Postgres::database(), Postgres::database());
        for database in [&loaded, &oracle] {
            database.psql(TABLE);
            if seed == 3 {
                let late = "add constraint event_pkey primary key (id) deferrable initially deferred";
                database.psql(&format!("alter table event drop constraint event_pkey, {late}"));
            }
        }
        taken_one_by_one(&oracle, &records, mood);

        let fields = if mood { format!("{FIELDS} {{ name = \"mood\", type = \"string\" }},") } else { FIELDS.into() };
        let folder = Folder::new(&pipeline(&fields, true, ""), &csv(&records, mood));
        let output = folder.run(loaded.url(), &[]);
        assert_eq!(output.status.code(), Some(0), "seed {seed}: {}", text(&output));
        assert_same(&loaded.psql(ROWS), &oracle.psql(ROWS));

        let rejected = "select string_agg(record::text, ' ' order by record) from aqueduct.reject";
        let taken: BTreeSet<u64> = numbers(&oracle.psql("select string_agg(_record::text, ' ') from event"));
        let missing: BTreeSet<u64> = (1..=6_000).filter(|number| !taken.contains(number)).collect();
        assert!(missing.len() > 10, "seed {seed}: {} refused records prove little", missing.len());
        assert_eq!(numbers(&loaded.psql(rejected)), missing, "seed {seed}");
        assert_rejects_are_the_records(&loaded, &records);
        let balance = "select records_read = 6000 and loaded = 6000 - rejected and rejected = \
                       (select count(*) from aqueduct.reject) from aqueduct.load where state = 'loaded'";
        assert_eq!(loaded.psql(balance), "t", "seed {seed}");
        assert_eq!(loaded.psql("select count(*) from pg_class where relname like 'aqueduct_staging%'"), "0");
    }
}

/// Shows the first line that differs, of thousands.
pub(crate) fn assert_same(loaded: &str, oracle: &str) {
    let first = loaded.lines().zip(oracle.lines()).find(|(loaded, oracle)| loaded != oracle);
    assert_eq!(first, None, "loaded, and by the oracle");
    assert_eq!(loaded.lines().count(), oracle.lines().count());
}

/// Bytes, line and offset of each reject are those of its record, and no message holds a value.
pub(crate) fn assert_rejects_are_the_records(database: &TestDatabase, records: &[Record]) {
    let mood = records[0].len() == 8;
    let text = csv(records, mood);
    let query = "select record, line, byte_offset, encode(raw, 'escape'), message from aqueduct.reject order by record";
    for line in database.psql(query).lines() {
        let cells: Vec<&str> = line.splitn(5, '|').collect();
        let number: usize = cells[0].parse().unwrap();
        assert_eq!(cells[1], (number + 1).to_string(), "its line");
        let offset: usize = cells[2].parse().unwrap();
        assert_eq!(text[offset..].lines().next(), Some(cells[3]), "its bytes");
        assert!(text.as_bytes()[offset - 1] == b'\n' && !cells[4].contains("forbidden"), "{line}");
    }
}

pub(crate) fn numbers(text: &str) -> BTreeSet<u64> {
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn without_lineage_the_same_rows_are_left() {
    let mut random = Random::new(7);
    let records = records(&mut random, 1_500, 10, false);
    let (loaded, oracle) = (Postgres::database(), Postgres::database());
    for database in [&loaded, &oracle] {
        database.psql(TABLE);
    }
    taken_one_by_one(&oracle, &records, false);
    let folder = Folder::new(&pipeline(FIELDS, false, ""), &csv(&records, false));
    let output = folder.run(loaded.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let rows = "select id, code, amount, parent, quantity, slot, note from event order by id";
    assert_same(&loaded.psql(rows), &oracle.psql(rows));
}

#[test]
fn a_role_that_may_only_insert_sets_the_same_records_aside() {
    let database = Postgres::database();
    let role = format!("{}_poor", database.name());
    database.psql("create table event (id bigint primary key, _load_id bigint, _record bigint)");
    let fields = "{ name = \"id\", type = \"integer\" }";
    let folder = Folder::new(&pipeline(fields, true, ""), "id\n1\n2\n1\n3\n2\n");
    let setup = Command::new(env!("CARGO_BIN_EXE_etl-runner"))
        .args(["setup", "--app-role", &role])
        .env("DATABASE_URL", database.url())
        .output()
        .unwrap();
    assert!(setup.status.success(), "{}", text(&setup));
    database.psql(&format!("alter role \"{role}\" login password 'p'; grant insert on event to \"{role}\""));
    let output = folder.run(&database.url_as(&role, Some("p")), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select string_agg(record::text, ' ' order by record) from aqueduct.reject"), "3 5");
    assert_eq!(database.psql("select string_agg(id::text, ' ' order by id) from event"), "1 2 3");
    database.psql(&format!("drop owned by \"{role}\"; drop role \"{role}\""));
}

#[test]
fn codes_and_messages_name_the_rule() {
    let database = Postgres::database();
    database.psql(TABLE);
    let rows = "100,a,1,1,1,1,x,ok\n100,b,1,1,1,2,x,ok\n101,a,1,1,1,3,x,ok\n102,c,13,1,1,4,x,ok\n103,d,1,99,1,5,x,ok\n\
                104,e,1,1,0,6,x,ok\n105,f,1,1,1,1,x,ok\n106,g,1,1,1,7,,ok\n107,h,1,1,1,8,forbidden,ok\n108,i,1,1,1,9,x,bad\n";
    let fields = format!("{FIELDS} {{ name = \"mood\", type = \"string\" }},");
    let folder =
        Folder::new(&pipeline(&fields, true, ""), &format!("id,code,amount,parent,quantity,slot,note,mood\n{rows}"));
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let rejects =
        database.psql("select record, code, coalesce(field, '-'), message from aqueduct.reject order by record");
    let expected = [
        "2|primary-key|id|the table has the key already: key \"event_pkey\" on \"id\"",
        "3|unique-error|code|the table has the key already: key \"event_code\" on \"code\"",
        "4|constraint-error|amount|refused by the table's check \"not_thirteen\" on \"amount\"",
        "5|foreign-key|parent|no row is there to refer to: foreign key \"event_parent\" on \"parent\"",
        "6|constraint-error|-|refused by the table's check \"quantity_positive\"",
        "7|constraint-error|slot|refused by the table's exclusion constraint \"event_slot\" on \"slot\"",
        "8|constraint-error|note|the column \"note\" of the table must not be null",
        "9|constraint-error|-|refused by a trigger of the table (AQ001)",
        "10|type-error|mood|the column \"mood\" of the table cannot hold the value (22P02)",
    ];
    assert_eq!(rejects.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_row_for_which_there_is_no_partition_is_a_reject() {
    let database = Postgres::database();
    database.psql(
        "create table event (id bigint, note text, _load_id bigint, _record bigint, primary key (id)) \
         partition by range (id); create table event_1 partition of event for values from (1) to (100)",
    );
    let fields = "{ name = \"id\", type = \"integer\" }, { name = \"note\", type = \"string\" }";
    let folder = Folder::new(&pipeline(fields, true, ""), "id,note\n1,a\n100,b\n1,c\n2,d\n");
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select id, _record from event order by id"), "1|1\n2|4");
    let rejects = database.psql("select record, code, message from aqueduct.reject order by record");
    assert_eq!(
        rejects,
        "2|constraint-error|no part of the table takes the row (23514)\n\
         3|primary-key|the table has the key already: key \"event_1_pkey\" on \"id\""
    );
}

#[test]
fn a_table_that_the_load_makes_keeps_the_first_of_each_key() {
    let database = Postgres::database();
    let fields = "{ name = \"id\", type = \"integer\" }, { name = \"note\", type = \"string\" }";
    let mut rows = String::from("id,note\n");
    for n in 0..50_000 {
        rows.push_str(&format!("{},note {n}\n", n % 49_990));
    }
    let folder = Folder::new(&pipeline(fields, true, ""), &rows);
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select count(*), count(*) filter (where _record = id + 1) from event"), "49990|49990");
    let constraint = "select contype from pg_constraint where conrelid = 'event'::regclass and contype = 'p'";
    assert_eq!(database.psql(constraint), "p");
    assert_eq!(database.psql("select count(*) from aqueduct.reject where code = 'primary-key'"), "10");
}

#[test]
fn conflict_fail_lets_the_load_fail_for_keys_alone() {
    let database = Postgres::database();
    database.psql(TABLE);
    let rows = "id,code,amount,parent,quantity,slot,note\n100,a,13,1,1,1,x\n101,b,1,1,1,2,x\n";
    let folder = Folder::new(&pipeline(FIELDS, true, "conflict = \"fail\""), rows);
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "a check is no key: {}", text(&output));
    assert_eq!(database.psql("select loaded, rejected from aqueduct.load"), "1|1");

    std::fs::write(folder.path("events.csv"), format!("{rows}102,a,13,1,1,3,x\n5,c,1,1,1,4,x\n")).unwrap();
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("because of a key, constraint \"event_pkey\", column \"id\", record 4 (23505)"));
    assert!(text(&output).contains("conflict = \"reject\""), "{}", text(&output));
    assert_eq!(database.psql("select count(*) from event where _load_id is not null"), "1");
}

#[test]
fn more_refusals_than_the_limit_fail_the_load() {
    let database = Postgres::database();
    database.psql(TABLE);
    let mut random = Random::new(9);
    let rows = csv(&records(&mut random, 3_000, 4, false), false);
    let limited = pipeline(FIELDS, true, "").replace("rows = 1000000", "rows = 100");
    let folder = Folder::new(&limited, &rows);
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert_eq!(database.psql("select count(*) from event where _load_id is not null"), "0");
    let kept = database.psql("select state, (select count(*) from aqueduct.reject) from aqueduct.load");
    assert_eq!(kept, "failed|100");
}

#[test]
fn splits_that_meet_a_refusal_end_as_one_load_with_rejects() {
    let database = Postgres::database();
    let fields = "{ name = \"id\", type = \"integer\" }, { name = \"note\", type = \"string\" }";
    let mut rows = String::from("id,note\n");
    let filler = "x".repeat(80);
    for n in 0..200_000 {
        rows.push_str(&format!("{},{filler}\n", if n % 40_000 == 39_999 { 7 } else { n }));
    }
    let folder = Folder::new(&pipeline(fields, true, ""), &rows);
    let output = folder.run(database.url(), &["--parallel", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select count(*) from event"), "199995");
    assert_eq!(
        database.psql(
            "select string_agg(record::text, ' ' order by record) from aqueduct.reject where load_id = \
                              (select id from aqueduct.load where state = 'loaded')"
        ),
        "40000 80000 120000 160000 200000"
    );
}

/// Rows of a file database, one line each.
pub(crate) async fn sqlite_lines(path: &Path, sql: &'static str) -> Vec<String> {
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_leaves_what_inserting_record_by_record_leaves() {
    const TABLE: &str = "
        create table parent (id integer primary key);
        insert into parent values (1), (2), (3);
        create table event (
            id integer not null primary key, code text unique, parent integer references parent,
            amount integer constraint not_thirteen check (amount <> 13), note text not null,
            _load_id integer, _record integer
        ) strict;
        create trigger refuse before insert on event when new.note = 'forbidden'
            begin select raise(abort, 'no'); end;
        insert into event values (1, 'old', 1, 1, 'there before', null, null);";
    let mut random = Random::new(11);
    let mut rows = String::from("id,code,parent,amount,note\n");
    let folder = tempfile::tempdir().unwrap();
    let (loaded, oracle) = (folder.path().join("loaded.db"), folder.path().join("oracle.db"));
    for path in [&loaded, &oracle] {
        let url = format!("sqlite:{}?mode=rwc", path.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(TABLE).execute(&mut connection).await.unwrap();
    }
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", oracle.display())).await.unwrap();
    let mut taken = 0;
    for n in 1..=3_000_i64 {
        let mut breaks = || random.below(30) == 0;
        let id = if breaks() { 1 + n / 2 } else { 10_000 + n };
        let code = if breaks() { "old".to_owned() } else { format!("code{n}") };
        let parent = if breaks() { 9 } else { 1 + n % 3 };
        let amount = if breaks() { 13 } else { n * 100 };
        let note = if breaks() { None } else { Some(if breaks() { "forbidden" } else { "a note" }) };
        rows.push_str(&format!("{id},{code},{parent},{amount},{}\n", note.unwrap_or_default()));
        let insert = sqlx::query("insert into event values (?, ?, ?, ?, ?, 1, ?)").bind(id).bind(code).bind(parent);
        taken += u64::from(insert.bind(amount).bind(note).bind(n).execute(&mut connection).await.is_ok());
    }
    drop(connection);
    let fields = "{ name = \"id\", type = \"integer\" }, { name = \"code\", type = \"string\" }, \
                  { name = \"parent\", type = \"integer\" }, { name = \"amount\", type = \"integer\" }, \
                  { name = \"note\", type = \"string\" }";
    let files = Folder::new(&pipeline(fields, true, ""), &rows);
    let output = files.run(&format!("sqlite:{}", loaded.display()), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let all = "select id || '|' || code || '|' || parent || '|' || amount || '|' || note || '|' || ifnull(_record, '') \
               from event order by id";
    assert_eq!(sqlite_lines(&loaded, all).await, sqlite_lines(&oracle, all).await);
    let counts = "select records_read || ' ' || loaded || ' ' || rejected || ' ' || (select count(*) from aqueduct_reject) \
                  from aqueduct_load";
    let rejected = 3_000 - taken;
    assert!(rejected > 100);
    assert_eq!(sqlite_lines(&loaded, counts).await, [format!("3000 {taken} {rejected} {rejected}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_ends_the_transaction_ends_the_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("warehouse.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", path.display())).await.unwrap();
    let table = "create table event (id integer primary key, note text, _load_id integer, _record integer) strict; \
                 create trigger refuse before insert on event when new.note = 'forbidden' \
                 begin select raise(rollback, 'no'); end;";
    sqlx::raw_sql(table).execute(&mut connection).await.unwrap();
    let fields = "{ name = \"id\", type = \"integer\" }, { name = \"note\", type = \"string\" }";
    let files = Folder::new(&pipeline(fields, true, ""), "id,note\n1,a\n2,forbidden\n3,c\n");
    let output = files.run(&format!("sqlite:{}", path.display()), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(sqlite_lines(&path, "select note from event").await, [""; 0]);
}

#[test]
fn a_table_with_rows_of_another_ledger_is_not_mixed_up_with_them() {
    let database = Postgres::database();
    let fields = "{ name = \"id\", type = \"integer\" }";
    let folder = Folder::new(&pipeline(fields, true, ""), "id\n1\n2\n");
    assert!(folder.run(database.url(), &[]).status.success());
    database.psql("drop schema aqueduct cascade");
    // A failed load brings no rows, so what it leaves in the new ledger vouches for none.
    std::fs::write(folder.path("events.csv"), "no such label\n3\n").unwrap();
    assert_eq!(folder.run(database.url(), &[]).status.code(), Some(3));
    database.psql("update event set _load_id = _load_id + 7");
    std::fs::write(folder.path("events.csv"), "id\n3\n").unwrap();
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    let (_, fix) = said.split_once("can run: ").unwrap();
    database.psql(fix.lines().next().unwrap());
    let output = folder.run(database.url(), &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(database.psql("select count(distinct _load_id), count(*) from event"), "2|3");
}

#[test]
fn a_refusal_late_in_a_large_object_costs_no_record_before_it() {
    // Segments of 32 MiB: the third one meets the refused rows, in several places, between rejects of the pipeline's own.
    let filler = "x".repeat(400);
    let mut rows = String::from("id,note\n");
    for n in 0..220_000_u64 {
        let id = match n {
            170_000 => "7".to_owned(),
            170_001 | 205_000 => "no number".to_owned(),
            200_000..=200_002 => "100".to_owned(),
            _ => n.to_string(),
        };
        rows.push_str(&format!("{id},{filler}\n"));
    }
    for (extension, bytes) in [("csv", rows.clone().into_bytes()), ("csv.gz", gzip(rows.as_bytes()))] {
        let database = Postgres::database();
        database.psql("create table event (id bigint primary key, note text, _load_id bigint, _record bigint)");
        let fields = "{ name = \"id\", type = \"integer\" }, { name = \"note\", type = \"string\" }";
        let folder = Folder::new(&pipeline(fields, true, ""), "");
        std::fs::write(folder.path("events.csv"), &bytes).unwrap();
        let output = folder.run(database.url(), &["-v"]);
        assert_eq!(output.status.code(), Some(0), "{extension}: {}", text(&output));
        let expected = "select 219994, 0, '170001 170002 200001 200002 200003 205001'";
        let found = "select count(*), count(*) filter (where _record <> id + 1), \
                     (select string_agg(record::text, ' ' order by record) from aqueduct.reject) from event";
        assert_eq!(database.psql(found), database.psql(expected), "{extension}");
        let whole = format!(
            "select bytes = {} and loaded = 219994 and loaded + rejected = 220000 from aqueduct.load",
            rows.len()
        );
        assert_eq!(database.psql(&whole), "t", "{extension}");
        assert_eq!(database.psql("select max(id) from aqueduct.load"), "1", "it went on in the same transaction");
        let mut verify = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        verify.current_dir(folder.folder.path()).env("DATABASE_URL", database.url());
        let verified = verify.arg("verify").output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "its hash is that of all bytes: {}", text(&verified));
    }
}

#[test]
fn what_was_deferred_in_an_earlier_segment_lets_the_load_begin_anew() {
    let filler = "x".repeat(400);
    let mut rows = String::from("id,parent,note\n");
    for n in 0..120_000_u64 {
        // A foreign key that is judged at the end, in the first segment, and a check in the second one.
        let (id, parent) = (if n == 110_000 { 7_000_000 } else { n }, if n == 5 { 99 } else { 1 });
        rows.push_str(&format!("{id},{parent},{filler}\n"));
    }
    let database = Postgres::database();
    database.psql(
        "create table parent (id bigint primary key); insert into parent values (1); \
         create table event (id bigint primary key check (id < 1000000), \
             parent bigint references parent deferrable initially deferred, note text, _load_id bigint, _record bigint)",
    );
    let fields = "{ name = \"id\", type = \"integer\" }, { name = \"parent\", type = \"integer\" }, \
                  { name = \"note\", type = \"string\" }";
    let folder = Folder::new(&pipeline(fields, true, ""), &rows);
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let found = "select (select count(*) from event), string_agg(record || ' ' || code, ', ' order by record) \
                 from aqueduct.reject";
    assert_eq!(database.psql(found), "119998|6 foreign-key, 110001 constraint-error");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) const ID_AND_NOTE: &str = "{ name = \"id\", type = \"integer\" }, { name = \"note\", type = \"string\" }";

/// Loads `rows` (`id,note`) after `sql` made the table `event`.
fn load_into(sql: &str, rows: &str, more: &str) -> (TestDatabase, Output) {
    let database = Postgres::database();
    database.psql(sql);
    let folder = Folder::new(&pipeline(ID_AND_NOTE, true, more), &format!("id,note\n{rows}"));
    let output = folder.run(database.url(), &[]);
    (database, output)
}

pub(crate) const EVENT: &str =
    "create table event (id bigint primary key, note text, _load_id bigint, _record bigint);";

pub(crate) const REJECTS: &str = "select string_agg(record || ' ' || code, ', ' order by record) from aqueduct.reject";

#[test]
fn a_trigger_leaves_no_trace_of_a_refused_row() {
    let audit = "create table audit (id bigint, record bigint); \
        create function note_it() returns trigger language plpgsql as $$ begin \
            insert into audit values (new.id, new._record); new._record := new._record + 1000; return new; end $$; \
        create trigger note_it before insert on event for each row execute function note_it();";
    let (database, output) = load_into(&format!("{EVENT}{audit}"), "1,a\n2,b\n1,c\n3,d\n2,e\n", "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select string_agg(id::text, ' ' order by id) from event"), "1 2 3");
    assert_eq!(database.psql("select string_agg(id::text, ' ' order by id) from audit"), "1 2 3");
    assert_eq!(database.psql(REJECTS), "3 primary-key, 5 primary-key");
}

#[test]
fn a_key_of_a_table_that_a_trigger_fills_is_no_key_of_this_one() {
    let audit = "create table audit (id bigint primary key); insert into audit values (2); \
        create function note_it() returns trigger language plpgsql as $$ begin \
            insert into audit values (new.id); return new; end $$; \
        create trigger note_it after insert on event for each row execute function note_it();";
    let (database, output) = load_into(&format!("{EVENT}{audit}"), "1,a\n2,b\n3,c\n", "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select string_agg(id::text, ' ' order by id) from event"), "1 3");
    assert_eq!(database.psql(REJECTS), "2 constraint-error");
}

#[test]
fn a_deferred_trigger_with_a_code_of_its_own_is_a_reject() {
    let late = "create function refuse() returns trigger language plpgsql as $$ begin \
            if new.note = 'no' then raise exception 'no' using errcode = 'AQ002'; end if; return null; end $$; \
        create constraint trigger refuse after insert on event deferrable initially deferred \
            for each row execute function refuse();";
    let (database, output) = load_into(&format!("{EVENT}{late}"), "1,a\n2,no\n3,c\n", "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql(REJECTS), "2 constraint-error");
}

#[test]
fn a_value_too_long_for_an_index_is_a_reject() {
    let mut random = Random::new(3);
    // Random, so that compression does not make it fit.
    let long: String = (0..12_000).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
    let index = "create index on event (note);";
    let (database, output) = load_into(&format!("{EVENT}{index}"), &format!("1,a\n2,{long}\n3,c\n"), "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql(REJECTS), "2 type-error");
}

#[test]
fn a_replaced_table_may_be_referred_to_by_deferred_keys() {
    let child = "insert into event values (1, 'before'); \
        create table child (id bigint references event deferrable initially deferred); insert into child values (1);";
    let (database, output) = load_into(&format!("{EVENT}{child}"), "1,a\n2,b\n2,c\n", "mode = \"replace\"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select string_agg(id || note, ' ' order by id) from event"), "1a 2b");
    assert_eq!(database.psql(REJECTS), "3 primary-key");
}

#[test]
fn rows_of_a_table_with_rules_are_not_told_apart() {
    let rule = "create table other (id bigint); \
        create rule also as on insert to event do also insert into other values (new.id);";
    let (database, output) = load_into(&format!("{EVENT}{rule}"), "1,a\n1,b\n", "");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("has rules for INSERT"), "{}", text(&output));
    assert_eq!(database.psql("select (select count(*) from event), (select count(*) from other)"), "0|0");
}

#[test]
fn rejects_of_both_kinds_are_counted_in_the_order_of_the_object() {
    let fields = ID_AND_NOTE;
    let database = Postgres::database();
    database.psql(EVENT);
    let limited = pipeline(fields, true, "").replace("rows = 1000000", "rows = 2");
    let folder = Folder::new(&limited, "id,note\n1,a\n1,b\nx,c\n1,d\ny,e\n");
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("the last one counted is record 4 on line 5"), "{}", text(&output));
    assert_eq!(database.psql(REJECTS), "2 primary-key, 3 type-error, 4 primary-key");
}
