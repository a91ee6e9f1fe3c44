//! Rows that replace those with the same key, the last record of a key counting.
//!
//! The oracle: of each key the last record, upserted by the database itself in a statement of its own, in the order of the
//! file. What it refuses are the rejects.

use std::collections::{BTreeSet, HashMap};
use std::process::{Command, Output};

use sqlx::{Connection, SqliteConnection};
use testkit::{Postgres, Random, TestDatabase};

use crate::exact::{
    EVENT, FIELDS, Folder, ID_AND_NOTE, REJECTS, ROWS, Record, TABLE, assert_rejects_are_the_records, assert_same, csv,
    literals, numbers, pipeline, records, sqlite_lines,
};
use crate::text;

const UPSERT: &str = "mode = \"upsert\"";

/// The records that count, with their numbers.
fn last_of_each_key(records: &[Record]) -> Vec<(u64, &Record)> {
    let last: HashMap<&Option<String>, u64> = (1..).zip(records).map(|(number, record)| (&record[0], number)).collect();
    (1..).zip(records).filter(|(number, record)| last[&record[0]] == *number).collect()
}

/// Upserts each record alone; `load` is the number the rows get.
fn upserted_one_by_one(oracle: &TestDatabase, records: &[(u64, &Record)], load: u64, mood: bool) {
    let mut columns: Vec<&str> = vec!["code", "amount", "parent", "quantity", "slot", "note"];
    columns.extend(mood.then_some("mood"));
    columns.extend(["_load_id", "_record"]);
    let set: Vec<String> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let mut script = String::from("\\set ON_ERROR_STOP off\n");
    for (number, record) in records {
        script.push_str(&format!(
            "insert into event (id, {}) values ({}, {load}, {number}) on conflict (id) do update set {};\n",
            columns.join(", "),
            literals(record),
            set.join(", ")
        ));
    }
    oracle.psql(&script);
}

fn etl_runner(folder: &Folder, url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
    command.current_dir(folder.folder.path()).env("DATABASE_URL", url).args(arguments).output().unwrap()
}

#[test]
fn an_upsert_leaves_what_upserting_the_last_record_of_each_key_leaves() {
    for (seed, mood) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut random = Random::new(seed);
        let odds = [400, 60, 8, 3][seed as usize - 1];
        let (loaded, oracle) = (Postgres::database(), Postgres::database());
        for database in [&loaded, &oracle] {
            database.psql(TABLE);
        }
        let fields = if mood { format!("{FIELDS} {{ name = \"mood\", type = \"string\" }},") } else { FIELDS.into() };
        let folder = Folder::new(&pipeline(&fields, true, UPSERT), "");
        // The second object updates rows of the first one.
        for load in [1, 2] {
            let records = records(&mut random, 4_000, odds, mood);
            let counting = last_of_each_key(&records);
            upserted_one_by_one(&oracle, &counting, load, mood);
            let name = format!("events-{load}.csv");
            std::fs::write(folder.path(&name), csv(&records, mood)).unwrap();
            let output = etl_runner(&folder, loaded.url(), &["run", "events.toml", &name]);
            assert_eq!(output.status.code(), Some(0), "seed {seed}: {}", text(&output));
            assert_same(&loaded.psql(ROWS), &oracle.psql(ROWS));

            let of_load = format!("from event where _load_id = {load}");
            let taken = numbers(&oracle.psql(&format!("select string_agg(_record::text, ' ') {of_load}")));
            let refused: BTreeSet<u64> =
                counting.iter().map(|(number, _)| *number).filter(|number| !taken.contains(number)).collect();
            assert!(refused.len() > 10, "seed {seed}: {} refused records prove little", refused.len());
            let rejected = format!("select string_agg(record::text, ' ') from aqueduct.reject where load_id = {load}");
            // A row of this very load may have been pushed out of its place by no other one.
            assert_eq!(numbers(&loaded.psql(&rejected)), refused, "seed {seed}");
            let balance = format!(
                "select records_read = 4000 and duplicates = 4000 - {} and rejected = {} \
                 and loaded = records_read - duplicates - rejected from aqueduct.load where id = {load}",
                counting.len(),
                refused.len()
            );
            assert_eq!(loaded.psql(&balance), "t", "seed {seed}");
            if load == 1 {
                assert_rejects_are_the_records(&loaded, &records);
            }
        }
        let verified = etl_runner(&folder, loaded.url(), &["verify"]);
        assert_eq!(verified.status.code(), Some(0), "seed {seed}: {}", text(&verified));
        let staging = "select count(*) from pg_class where relname like 'aqueduct_staging%'";
        assert_eq!(loaded.psql(staging), "0", "seed {seed}");
    }
}

#[test]
fn without_lineage_the_same_rows_are_left() {
    let mut random = Random::new(7);
    let records = records(&mut random, 1_500, 10, false);
    let (loaded, oracle) = (Postgres::database(), Postgres::database());
    for database in [&loaded, &oracle] {
        database.psql(TABLE);
    }
    let counting = last_of_each_key(&records);
    upserted_one_by_one(&oracle, &counting, 1, false);
    let folder = Folder::new(&pipeline(FIELDS, false, UPSERT), &csv(&records, false));
    let output = folder.run(loaded.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let rows = "select id, code, amount, parent, quantity, slot, note from event order by id";
    assert_same(&loaded.psql(rows), &oracle.psql(rows));
    assert_rejects_are_the_records(&loaded, &records);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_leaves_the_same_rows() {
    const TABLE: &str = "
        create table event (
            id text not null collate nocase, code text unique,
            amount integer constraint not_thirteen check (amount <> 13), note text not null,
            _load_id integer, _record integer, primary key (id)
        ) strict;
        create trigger refuse before insert on event when new.note = 'forbidden'
            begin select raise(abort, 'no'); end;
        insert into event values ('k1', 'old', 1, 'there before', null, null), ('gone', 'stays', 1, 'x', null, null);";
    let mut random = Random::new(11);
    let folder = tempfile::tempdir().unwrap();
    let (loaded, oracle) = (folder.path().join("loaded.db"), folder.path().join("oracle.db"));
    for path in [&loaded, &oracle] {
        let url = format!("sqlite:{}?mode=rwc", path.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(TABLE).execute(&mut connection).await.unwrap();
    }
    let mut rows = String::from("id,code,amount,note\n");
    let mut records = Vec::new();
    for n in 1..=40_000_i64 {
        let mut breaks = || random.below(200) == 0;
        // In both cases, which the key takes for the same.
        let id = if breaks() { format!("K{}", 1 + n / 2) } else { format!("k{n}") };
        let code = if breaks() { "old".to_owned() } else { format!("code{n}") };
        let amount = if breaks() { 13 } else { n * 100 };
        let note = if breaks() { None } else { Some(if breaks() { "forbidden" } else { "a note" }) };
        rows.push_str(&format!("{id},{code},{amount},{}\n", note.unwrap_or_default()));
        records.push((n, id, code, amount, note));
    }
    let last: HashMap<String, i64> = records.iter().map(|(n, id, ..)| (id.to_lowercase(), *n)).collect();
    let counting: Vec<_> = records.iter().filter(|(n, id, ..)| last[&id.to_lowercase()] == *n).collect();
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", oracle.display())).await.unwrap();
    let mut taken = 0;
    // One transaction, in which a statement that fails leaves nothing.
    sqlx::query("begin").execute(&mut connection).await.unwrap();
    for (n, id, code, amount, note) in &counting {
        let upsert = sqlx::query(
            "insert into event values (?, ?, ?, ?, 1, ?) on conflict (id) do update set code = excluded.code, \
             amount = excluded.amount, note = excluded.note, _load_id = excluded._load_id, _record = excluded._record",
        );
        let upsert = upsert.bind(id).bind(code).bind(amount).bind(note).bind(n);
        taken += u64::from(upsert.execute(&mut connection).await.is_ok());
    }
    sqlx::query("commit").execute(&mut connection).await.unwrap();
    drop(connection);
    let fields = "{ name = \"id\", type = \"string\" }, { name = \"code\", type = \"string\" }, \
                  { name = \"amount\", type = \"integer\" }, { name = \"note\", type = \"string\" }";
    let files = Folder::new(&pipeline(fields, true, UPSERT), &rows);
    let output = files.run(&format!("sqlite:{}", loaded.display()), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let all = "select id || '|' || code || '|' || amount || '|' || note || '|' || ifnull(_record, '') \
               from event order by id";
    assert_same(&sqlite_lines(&loaded, all).await.join("\n"), &sqlite_lines(&oracle, all).await.join("\n"));
    let counts = "select records_read || ' ' || loaded || ' ' || rejected || ' ' || duplicates || ' ' || \
                  (select count(*) from aqueduct_reject) from aqueduct_load";
    let (duplicates, rejected) = (40_000 - counting.len() as u64, counting.len() as u64 - taken);
    assert!(duplicates > 100 && rejected > 100);
    let expected = format!("40000 {taken} {rejected} {duplicates} {rejected}");
    assert_eq!(sqlite_lines(&loaded, counts).await, [expected]);
    let verified = etl_runner(&files, &format!("sqlite:{}", loaded.display()), &["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
}

/// A pipeline and an object of `id,note`, run into the table `event`.
struct Notes {
    database: TestDatabase,
    folder: Folder,
}

impl Notes {
    fn new(sql: &str, more: &str) -> Self {
        let database = Postgres::database();
        database.psql(sql);
        Self { database, folder: Folder::new(&pipeline(ID_AND_NOTE, true, more), "") }
    }

    fn load(&self, rows: &str) -> Output {
        std::fs::write(self.folder.path("events.csv"), format!("id,note\n{rows}")).unwrap();
        self.folder.run(self.database.url(), &[])
    }

    fn rows(&self) -> String {
        self.database.psql("select string_agg(id || ' ' || note || ' ' || _load_id, ', ' order by id) from event")
    }

    fn etl_runner(&self, arguments: &[&str]) -> Output {
        etl_runner(&self.folder, self.database.url(), arguments)
    }
}

#[test]
fn new_bytes_of_an_object_are_upserted_too_and_rows_of_lost_records_stay() {
    let notes = Notes::new("", UPSERT);
    let output = notes.load("1,a\n2,b\n3,c\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let output = notes.load("2,B\n4,d\n4,D\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(notes.rows(), "1 a 1, 2 B 2, 3 c 1, 4 D 2");
    let states = "select string_agg(id || ' ' || state || ' ' || coalesce(replaced_by, 0), ', ' order by id) \
                  from aqueduct.load";
    assert_eq!(notes.database.psql(states), "1 replaced 2, 2 loaded 0");
    for arguments in [&["verify"][..], &["verify", "1"], &["verify", "2"]] {
        let output = notes.etl_runner(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    // The same bytes once more: nothing to do, unless somebody insists.
    let output = notes.load("2,B\n4,d\n4,D\n");
    assert!(text(&output).contains("the same bytes"), "{}", text(&output));
    let output = notes.folder.run(notes.database.url(), &["--reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(notes.rows(), "1 a 1, 2 B 3, 3 c 1, 4 D 3");
}

#[test]
fn what_an_upsert_replaced_cannot_be_brought_back() {
    let notes = Notes::new(EVENT, UPSERT);
    assert!(notes.load("1,a\n").status.success());
    let output = notes.etl_runner(&["undo", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("it is an upsert"), "{}", text(&output));
    assert_eq!(notes.rows(), "1 a 1");
}

#[test]
fn verify_knows_which_rows_may_have_given_way() {
    let notes = Notes::new(EVENT, "");
    assert!(notes.load("1,a\n2,b\n3,c\n").status.success());
    let upsert = pipeline(ID_AND_NOTE, true, UPSERT);
    std::fs::write(notes.folder.path("upsert.toml"), &upsert).unwrap();
    std::fs::write(notes.folder.path("more.csv"), "id,note\n3,C\n4,D\n").unwrap();
    let output = notes.etl_runner(&["run", "upsert.toml", "more.csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let output = notes.etl_runner(&["verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("2 rows, 1 gave way to later upserts"), "{}", text(&output));
    let output = notes.etl_runner(&["verify", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // The newest upsert has nobody to give way to.
    notes.database.psql("delete from event where id = 4");
    let output = notes.etl_runner(&["verify"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("1 rows in the table, 2 in the ledger"), "{}", text(&output));
}

const CI: &str = "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";

/// Loads keys that differ in case alone, after `sql` made the table `event`.
fn load_texts(sql: &str) -> (TestDatabase, Output) {
    let database = Postgres::database();
    database.psql(&format!("{CI} {sql}"));
    let fields = ID_AND_NOTE.replace("\"integer\"", "\"string\"");
    let folder = Folder::new(&pipeline(&fields, true, UPSERT), "id,note\na,1\nb,2\nA,3\nb,4\n");
    let output = folder.run(database.url(), &[]);
    (database, output)
}

#[test]
fn a_key_is_the_same_when_the_table_says_so() {
    let lineage = "note text, _load_id bigint, _record bigint";
    for (sql, expected) in [
        (format!("create table event (id text collate ci primary key, {lineage})"), "A3 b4"),
        (
            format!("create domain word as text collate ci; create table event (id word primary key, {lineage})"),
            "A3 b4",
        ),
        (format!("create table event (id text, {lineage}); create unique index on event (id collate ci)"), "A3 b4"),
        (
            format!(
                "create table event (id text collate ci, {lineage}); create unique index on event (id collate \"C\")"
            ),
            "a1 A3 b4",
        ),
        (
            format!("create type mood as enum ('a', 'A', 'b'); create table event (id mood primary key, {lineage})"),
            "a1 A3 b4",
        ),
        (format!("create extension citext; create table event (id citext primary key, {lineage})"), "A3 b4"),
        (
            format!(
                "create extension citext; create domain word as citext; create table event (id word primary key, {lineage})"
            ),
            "A3 b4",
        ),
    ] {
        let (database, output) = load_texts(&sql);
        assert_eq!(output.status.code(), Some(0), "{sql}: {}", text(&output));
        // On a conflict the key stays as it is written, and is the later record's where there was none.
        assert_eq!(
            database.psql("select string_agg(id::text || note, ' ' order by note) from event"),
            expected,
            "{sql}"
        );
        let counts = "select loaded = (select count(*) from event) and loaded + duplicates = 4 from aqueduct.load";
        assert_eq!(database.psql(counts), "t", "{sql}");
    }
}

#[test]
fn a_key_that_the_table_cannot_hold_is_a_reject() {
    let sql = "create type mood as enum ('a', 'b'); \
               create table event (id mood primary key, note text, _load_id bigint, _record bigint)";
    let (database, output) = load_texts(sql);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select string_agg(id::text || note, ' ' order by note) from event"), "a1 b4");
    assert_eq!(database.psql(REJECTS), "3 type-error");
}

#[test]
fn two_keys_that_a_trigger_makes_one_fail_the_load() {
    let trigger = "create table event (id text primary key, note text check (note <> '2'), _load_id bigint, _record bigint); \
        create function fold() returns trigger language plpgsql as $$ begin new.id := lower(new.id); return new; end $$; \
        create trigger fold before insert on event for each row execute function fold();";
    for sql in [trigger.to_owned(), trigger.replace("check (note <> '2')", "")] {
        let (database, output) = load_texts(&sql);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert_eq!(database.psql("select count(*) from event"), "0");
    }
}

#[test]
fn an_upsert_is_not_replaced_as_if_it_were_an_append() {
    let notes = Notes::new(EVENT, "");
    assert!(notes.load("1,a\n3,c\n").status.success());
    std::fs::write(notes.folder.path("upsert.toml"), pipeline(ID_AND_NOTE, true, UPSERT)).unwrap();
    std::fs::write(notes.folder.path("more.csv"), "id,note\n3,C\n4,D\n").unwrap();
    assert!(notes.etl_runner(&["run", "upsert.toml", "more.csv"]).status.success());
    // The row of key 3 came with the other object.
    let output = notes.etl_runner(&["run", "events.toml", "more.csv", "--reload"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("is an upsert: its rows may have come from other objects"), "{}", text(&output));
    assert_eq!(notes.rows(), "1 a 1, 3 C 2, 4 D 2");
    // The other way round: an append is taken out by its lineage, as far as it is still there.
    let output = notes.etl_runner(&["run", "upsert.toml", "events.csv", "--reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(notes.rows(), "1 a 3, 3 c 3, 4 D 2");
    let output = notes.etl_runner(&["verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn an_older_object_does_not_win_over_a_newer_one_unasked() {
    let notes = Notes::new(EVENT, UPSERT);
    for (name, note) in [("old.csv", "old"), ("new.csv", "new")] {
        std::fs::write(notes.folder.path(name), format!("id,note\n1,{note}\n")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(notes.etl_runner(&["run", "events.toml", "new.csv"]).status.success());
    let output = notes.etl_runner(&["run", "events.toml", "old.csv"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("it is older than the object of load 1"), "{}", text(&output));
    assert!(text(&output).contains("etl-runner run events.toml old.csv --reload"), "{}", text(&output));
    assert_eq!(notes.rows(), "1 new 1");
    assert!(notes.etl_runner(&["run", "events.toml", "old.csv", "--reload"]).status.success());
    assert_eq!(notes.rows(), "1 old 2");
}

#[test]
fn a_column_that_cannot_be_updated_is_said_before_the_first_row() {
    let identity = "create table event (id bigint primary key, note bigint generated always as identity, \
                    _load_id bigint, _record bigint)";
    let database = Postgres::database();
    database.psql(identity);
    let fields = ID_AND_NOTE.replace("\"string\"", "\"integer\"");
    let folder = Folder::new(&pipeline(&fields, true, UPSERT), "id,note\n1,1\n1,2\n");
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    let fix = said.lines().map(str::trim).find(|line| line.starts_with("alter table")).unwrap();
    database.psql(fix);
    let output = folder.run(database.url(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select id, note from event"), "1|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_compares_as_the_key_does_and_no_other_index() {
    for (tables, expected) in [
        (
            "create table event (id text collate nocase primary key, note text, _load_id integer, _record integer); \
          create unique index u on event (note, id collate binary);",
            &["A|3", "b|4"][..],
        ),
        (
            "create table event (id text primary key, note text, _load_id integer, _record integer); \
          create unique index u on event (note, id collate nocase);",
            &["A|3", "a|1", "b|4"][..],
        ),
    ] {
        let fields = ID_AND_NOTE.replace("\"integer\"", "\"string\"");
        let folder = Folder::new(&pipeline(&fields, true, UPSERT), "id,note\na,1\nb,2\nA,3\nb,4\n");
        let path = folder.path("warehouse.db");
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", path.display())).await.unwrap();
        sqlx::raw_sql(tables).execute(&mut connection).await.unwrap();
        drop(connection);
        let output = folder.run(&format!("sqlite:{}", path.display()), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(
            sqlite_lines(&path, "select id || '|' || note from event order by id collate binary").await,
            expected
        );
    }
}

#[test]
fn a_table_without_the_key_is_refused_with_the_statement_that_helps() {
    for (key, fix) in [("unique (note)", "add primary key (\"id\")"), ("primary key (id, note)", "add unique (\"id\")")]
    {
        let notes = Notes::new(
            &format!("create table event (id bigint, note text, _load_id bigint, _record bigint, {key})"),
            UPSERT,
        );
        let output = notes.load("1,a\n");
        assert_eq!(output.status.code(), Some(1), "{key}: {}", text(&output));
        let said = text(&output);
        assert!(said.contains("no key of just these columns") && said.contains(fix), "{key}: {said}");
        notes.database.psql(&format!("alter table event {fix}"));
        let output = notes.load("1,a\n1,b\n");
        assert_eq!(output.status.code(), Some(0), "{key}: {}", text(&output));
        assert_eq!(notes.rows(), "1 b 1", "{key}");
    }
    let deferrable = "create table event (id bigint primary key deferrable, note text, _load_id bigint, _record bigint, \
                      unique (id))";
    let output = Notes::new(deferrable, UPSERT).load("1,a\n");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("the table's key on (\"id\") may be deferred"), "{}", text(&output));
}

#[test]
fn a_key_beside_the_primary_one_is_a_conflict() {
    let table = EVENT.replace("note text", "note text unique");
    let notes = Notes::new(&table, UPSERT);
    let output = notes.load("1,a\n2,b\n3,a\nx,c\n2,B\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(notes.rows(), "1 a 1, 2 B 1");
    assert_eq!(notes.database.psql(REJECTS), "3 unique-error, 4 type-error");

    let notes = Notes::new(&table, &format!("{UPSERT}\nconflict = \"fail\""));
    let output = notes.load("1,a\n2,b\n3,a\n2,B\n");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("column \"note\", record 3"), "{}", text(&output));
    assert_eq!(notes.database.psql("select count(*) from event"), "0");
}

#[test]
fn more_refusals_than_the_limit_fail_the_load() {
    let table = EVENT.replace("note text", "note text check (note <> 'no')");
    let notes = Notes::new(&table, UPSERT);
    let limited = pipeline(ID_AND_NOTE, true, UPSERT).replace("rows = 1000000", "rows = 2");
    std::fs::write(notes.folder.path("events.toml"), limited).unwrap();
    let output = notes.load("1,no\n2,b\nx,c\n4,no\n5,no\n");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert_eq!(notes.database.psql("select count(*) from event"), "0");
    assert_eq!(notes.database.psql("select state from aqueduct.load"), "failed");
    let output = notes.load("1,no\n2,b\nx,c\n4,d\n5,e\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(notes.rows(), "2 b 3, 4 d 3, 5 e 3");
}

#[test]
fn an_upsert_of_a_large_object_finds_refused_records_again() {
    let filler = "x".repeat(300);
    let mut rows = String::new();
    for n in 0..150_000_u64 {
        // Each key twice, far apart; some rows that the table refuses, the first and the last among them.
        let id = if n == 149_999 { 999_999 } else { n % 100_000 };
        let note = if n % 30_011 == 50_000 % 30_011 || n == 149_999 { "no" } else { &*filler };
        rows.push_str(&format!("{id},{note}\n"));
    }
    let table = EVENT.replace("note text", "note text check (note <> 'no')");
    let notes = Notes::new(&table, UPSERT);
    let output = notes.load(&rows);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // Of the keys 0 to 49,998 the second record counts, of the others the only one.
    let last = |id: u64| if id < 49_999 { id + 100_000 } else { id };
    let refused: BTreeSet<u64> =
        (0..100_000).map(last).filter(|n| n % 30_011 == 50_000 % 30_011).chain([149_999]).map(|n| n + 1).collect();
    assert!(refused.len() > 2);
    let rejects = notes.database.psql("select string_agg(record::text, ' ') from aqueduct.reject");
    assert_eq!(numbers(&rejects), refused);
    let counts = "select records_read, duplicates, loaded + rejected from aqueduct.load";
    assert_eq!(notes.database.psql(counts), "150000|49999|100001");
    let lines = "select bool_and(line = record + 1 and encode(raw, 'escape') like '%,no%') from aqueduct.reject";
    assert_eq!(notes.database.psql(lines), "t");
}

#[test]
fn upserts_of_one_table_come_one_after_the_other() {
    let notes = Notes::new(EVENT, UPSERT);
    for runner in 0..4 {
        let rows: String =
            (0..20_000).map(|id| format!("{},from {runner}\n", (id * 7_919 + runner) % 20_000)).collect();
        let path = notes.folder.path(&format!("{runner}.csv"));
        std::fs::write(&path, format!("id,note\n{rows}")).unwrap();
        // None is older than another, so that any of them may be the last.
        std::fs::File::open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    let runners: Vec<_> = (0..4)
        .map(|runner| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
            command.current_dir(notes.folder.folder.path()).env("DATABASE_URL", notes.database.url());
            command.args(["run", "events.toml", &format!("{runner}.csv"), "--retry-for", "60s", "--quiet"]);
            command.spawn().unwrap()
        })
        .collect();
    for mut runner in runners {
        assert!(runner.wait().unwrap().success());
    }
    // Each object has all keys, so the rows are those of the last one alone.
    let whole = "select count(*), count(distinct note), count(distinct _load_id) from event";
    assert_eq!(notes.database.psql(whole), "20000|1|1");
    assert_eq!(
        notes.database.psql("select count(*), sum(loaded) from aqueduct.load where state = 'loaded'"),
        "4|80000"
    );
    let verified = notes.etl_runner(&["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
}

#[test]
fn an_upsert_takes_no_splits() {
    let notes = Notes::new(EVENT, UPSERT);
    std::fs::write(notes.folder.path("events.csv"), "id,note\n1,a\n").unwrap();
    let output = notes.folder.run(notes.database.url(), &["--parallel", "2"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("lets the last record of a key count"), "{}", text(&output));
}

#[test]
fn check_names_the_rights_an_upsert_needs() {
    let notes = Notes::new(EVENT, UPSERT);
    assert!(notes.load("1,a\n").status.success());
    let role = format!("{}_poor", notes.database.name());
    let url = notes.database.url_as(&role, Some("p"));
    assert!(notes.etl_runner(&["setup", "--app-role", &role]).status.success());
    let database = notes.database.psql("select current_database()");
    notes.database.psql(&format!(
        "alter role \"{role}\" login password 'p'; grant insert on event to \"{role}\"; \
         revoke temporary on database \"{database}\" from public"
    ));
    let check = etl_runner(&notes.folder, &url, &["check", "events.toml", "--store", "."]);
    assert_eq!(check.status.code(), Some(4), "{}", text(&check));
    let said = text(&check);
    let fixes: Vec<&str> = said.lines().map(str::trim).filter(|line| line.starts_with("grant ")).collect();
    assert_eq!(fixes.len(), 2, "{said}");
    notes.database.psql(&fixes.join(";"));
    let check = etl_runner(&notes.folder, &url, &["check", "events.toml", "--store", "."]);
    assert_eq!(check.status.code(), Some(0), "{}", text(&check));
    std::fs::write(notes.folder.path("events.csv"), "id,note\n1,A\n2,b\n").unwrap();
    let output = notes.folder.run(&url, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(notes.rows(), "1 A 2, 2 b 2");
    notes.database.psql(&format!("drop owned by \"{role}\"; drop role \"{role}\""));
}

#[test]
fn a_changed_object_that_is_older_than_another_does_not_win_either() {
    let notes = Notes::new(EVENT, UPSERT);
    let second = std::time::Duration::from_secs(1);
    let start = std::time::SystemTime::now() - 100 * second;
    let write = |name: &str, note: &str, seconds: u32| {
        let path = notes.folder.path(name);
        std::fs::write(&path, format!("id,note\n1,{note}\n")).unwrap();
        std::fs::File::open(path).unwrap().set_modified(start + seconds * second).unwrap();
        notes.etl_runner(&["run", "events.toml", name])
    };
    assert!(write("a.csv", "first", 1).status.success());
    assert!(write("b.csv", "third", 3).status.success());
    let output = write("a.csv", "second", 2);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert_eq!(notes.rows(), "1 third 2");
    assert!(write("a.csv", "fourth", 4).status.success());
    assert_eq!(notes.rows(), "1 fourth 3");
}

#[test]
fn an_object_that_is_tried_again_is_not_overtaken() {
    let table = "create table event (id bigint primary key, note text, _load_id bigint, _record bigint, \
                 parent bigint references parent);";
    let notes = Notes::new(&format!("create table parent (id bigint primary key); {table}"), UPSERT);
    // A rule makes the first one fail for a reason that is not the object's.
    notes.database.psql("create rule nothing as on insert to event where new.id = 7 do nothing");
    for (name, note) in [("1.csv", "old"), ("2.csv", "new")] {
        std::fs::write(notes.folder.path(name), format!("id,note\n1,{note}\n")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = notes.etl_runner(&["run", "events.toml", "1.csv", "2.csv"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(notes.database.psql("select string_agg(object_key, ' ') from aqueduct.load"), "1.csv");
    notes.database.psql("drop rule nothing on event");
    let output = notes.etl_runner(&["run", "events.toml", "1.csv", "2.csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(notes.database.psql("select note from event"), "new");
}

#[test]
fn a_key_of_several_columns_is_found_whatever_the_order_of_letters_is() {
    let server = Postgres::private(testkit::PostgresOptions::default());
    let psql = |database: &str, sql: &str| {
        let url = format!("postgres://postgres@{}/{database}", server.address());
        let output = Command::new("psql").args(["-X", "-q", "-At", "-d", &url, "-c", sql]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    psql(
        "postgres",
        "create database words template template0 encoding 'UTF8' locale_provider icu icu_locale 'en-US' locale 'C'",
    );
    psql("words", CI);
    psql(
        "words",
        "create table event (\"item_id\" text collate ci, item2 text, \"Note\" text, primary key (item_id, item2))",
    );
    let pipeline = "version = 1\nname = \"events\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
                    primaryKey = [\"item2\", \"item_id\"]\nfields = [{ name = \"item_id\" }, { name = \"item2\" }, \
                    { name = \"Note\" }]\n[target]\ntable = \"event\"\nmode = \"upsert\"\nlineage = false\n";
    let folder = Folder::new(pipeline, "item_id,item2,Note\na,1,x\nA,1,y\na,2,z\n");
    let output = folder.run(&format!("postgres://postgres@{}/words", server.address()), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(psql("words", "select string_agg(\"Note\", ' ' order by \"Note\") from event"), "y z");
    assert_eq!(psql("words", "select loaded || ' ' || duplicates from aqueduct.load"), "2 1");
}
