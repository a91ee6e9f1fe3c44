//! What a person sees, command by command: the real binary, its output and exit code against golden files.

mod sandbox;
mod tables;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use testkit::{Aws, PASSWORD_GROUP, Postgres};

use sandbox::{Sandbox, Where, repository, seed};

const CLEAN: &str = "customers/customers-clean.csv";
const DIRTY: &str = "customers/customers-dirty.csv";

// ---- the way it is meant

#[test]
fn the_first_run_loads_everything_and_the_second_nothing() {
    let mut sandbox = Sandbox::new();
    for key in [CLEAN, DIRTY, "passengers/passengers.csv", "runways/runways.csv"] {
        sandbox.seed(key);
    }
    let all = "pipelines/customers.toml pipelines/passengers.toml pipelines/runways.toml";
    sandbox.ok(&format!("check {all}"));
    assert_eq!(sandbox.state(), Vec::<String>::new(), "a check makes nothing");
    sandbox.ok(&format!("run {all}"));
    let loaded = sandbox.state();
    assert_eq!(
        loaded,
        [
            "customers: 59 rows",
            "passengers: 20 rows",
            "runways: 197 rows",
            "load 1: loaded",
            "load 2: loaded",
            "load 3: loaded",
            "load 4: loaded",
            "6 rejects"
        ]
    );
    sandbox.ok(&format!("run {all}"));
    assert_eq!(sandbox.state(), loaded);
    sandbox.ok(&format!("check {all}"));
    sandbox.ok("loads");
    sandbox.ok("loads --table customers --state loaded --limit 1");
    sandbox.ok("loads --pipeline nobody");
    sandbox.ok("show 2");
    sandbox.ok("verify");
    assert_eq!(sandbox.state(), loaded, "looking changes nothing");
    sandbox.golden("first-run");
}

#[test]
fn rejects_are_listed_and_written_out_with_their_records() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    sandbox.seed(DIRTY);
    sandbox.ok("run pipelines/customers.toml");
    sandbox.ok("rejects list");
    sandbox.ok("rejects list 1");
    sandbox.ok("rejects list 2 --limit 2");
    sandbox.ok("rejects export 2");
    sandbox.ok("rejects export --format jsonl");
    sandbox.ok("rejects export 2 -o out.csv");
    sandbox.refused("rejects export 2 --format jsonl --spreadsheet-safe", 2);
    sandbox.refused("rejects export 2 -o no-such-directory/out.csv", 1);
    assert!(!sandbox.path("no-such-directory").exists());

    // The exact bytes: each record of the export is a record of the file.
    let source = String::from_utf8(seed(DIRTY)).unwrap();
    let mut export = csv::Reader::from_path(sandbox.path("out.csv")).unwrap();
    let raws: Vec<String> = export.records().map(|record| record.unwrap()[8].to_owned()).collect();
    assert_eq!(raws.len(), 6);
    for raw in raws {
        assert!(source.contains(&format!("\n{}\n", raw.trim_end_matches(['\r', '\n']))), "{raw}");
    }
    let left: Vec<_> = fs::read_dir(sandbox.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
    sandbox.golden("rejects");
}

#[test]
fn an_export_keeps_bytes_that_are_no_text_and_disarms_formulas_when_asked() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n=1+1,\xff\xfe\n=cmd|'/c calc'!A1,x\n");
    sandbox.ok("run items.toml");
    sandbox.ok("rejects export");
    sandbox.ok("rejects export --spreadsheet-safe");
    sandbox.golden("export");
}

#[test]
fn a_dry_run_reads_everything_and_writes_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(DIRTY);
    sandbox.ok("run pipelines/customers.toml --dry-run");
    assert!(!sandbox.path(".aqueduct/warehouse.db").exists());
    sandbox.seed(CLEAN);
    sandbox.ok("run pipelines/customers.toml --limit 1");
    let before = sandbox.state();
    sandbox.ok("run pipelines/customers.toml --dry-run");
    assert_eq!(sandbox.state(), before);
    sandbox.golden("dry-run");
}

#[test]
fn a_local_file_needs_no_store() {
    let mut sandbox = Sandbox::new();
    fs::remove_dir_all(sandbox.path(".aqueduct")).unwrap();
    sandbox.write("exports/today.csv", &seed(DIRTY));
    sandbox.ok("run pipelines/customers.toml exports/today.csv");
    sandbox.ok("run pipelines/customers.toml exports/today.csv");
    sandbox.ok("verify");
    sandbox.refused("run pipelines/customers.toml exports/yesterday.csv", 1);
    sandbox.write("exports/tomorrow.csv", &seed(CLEAN));
    sandbox.note("a file that is missing does not keep the others from being loaded");
    let three = "exports/today.csv exports/yesterday.csv exports/tomorrow.csv";
    assert_eq!(sandbox.run(&format!("run pipelines/customers.toml {three}")).code, 5);
    assert_eq!(sandbox.state()[0], "customers: 59 rows");
    sandbox.refused("run pipelines/customers.toml exports", 2);
    sandbox.refused("run pipelines/customers.toml pipelines/passengers.toml exports/today.csv", 2);
    sandbox.refused("run pipelines/customers.toml exports/today.csv --limit 1", 2);
    sandbox.golden("local-file");
}

#[test]
fn what_was_undone_stays_undone_until_it_is_asked_for() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    sandbox.seed(DIRTY);
    sandbox.ok("run pipelines/customers.toml");
    sandbox.ok("undo 2");
    assert_eq!(sandbox.state()[0], "customers: 40 rows");
    sandbox.ok("run pipelines/customers.toml");
    assert_eq!(sandbox.state()[0], "customers: 40 rows");
    sandbox.refused("undo 2", 1);
    sandbox.refused("undo 99", 1);
    sandbox.ok("run pipelines/customers.toml --reload --object customers/customers-dirty.csv");
    assert_eq!(sandbox.state()[0], "customers: 59 rows");
    sandbox.ok("loads");
    sandbox.ok("verify");
    sandbox.golden("undo-reload");
}

#[test]
fn a_changed_pipeline_is_said_and_reload_takes_it_up() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n2,-3\n");
    sandbox.ok("run items.toml");
    let text = fs::read_to_string(sandbox.path("items.toml")).unwrap();
    let changed = text.replace("precision = [8, 2]", "precision = [8, 2], constraints = { minimum = 0 }");
    sandbox.write("items.toml", changed.as_bytes());
    sandbox.note("the pipeline now wants prices of at least 0");
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.state(), ["item: 2 rows", "load 1: loaded", "0 rejects"]);
    sandbox.ok("run items.toml --reload");
    assert_eq!(sandbox.state(), ["item: 1 rows", "load 1: replaced", "load 2: loaded", "1 rejects"]);
    sandbox.ok("show 1");
    sandbox.golden("changed-pipeline");
}

#[test]
fn changed_bytes_replace_the_rows_they_made() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    sandbox.ok("run items.toml");
    sandbox.put("items/a.csv", b"id,price\n1,2.75\n2,4\n");
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.sqlite("select price from item order by id"), ["2.75", "4.00"]);
    sandbox.put("items/a.csv", b"id,price\n1,2.75\n2,4\n");
    sandbox.note("the same bytes, written again");
    sandbox.ok("run items.toml");
    sandbox.golden("changed-bytes");
}

#[test]
fn some_objects_may_fail_and_the_others_load() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("[errors]\nlimit = { rows = 1 }\n");
    sandbox.put("items/1.csv", b"id,price\n1,2.50\n2,x\n");
    sandbox.put("items/2.csv", b"id,price\n3,x\n4,y\n5,z\n");
    sandbox.put("items/3.csv", b"id,price\n6,7\n");
    let answer = sandbox.run("run items.toml");
    assert_eq!(answer.code, 5);
    assert_eq!(sandbox.state(), ["item: 2 rows", "load 1: loaded", "load 2: failed", "load 3: loaded", "3 rejects"]);
    sandbox.note("the same file fails the same way: it is left alone, and not forgotten");
    assert_eq!(sandbox.run("run items.toml").code, 3);
    sandbox.ok("show 2");
    sandbox.ok("loads");
    sandbox.ok("rejects list 2");
    sandbox.ok("verify");
    sandbox.ok("verify 2");
    sandbox.item_pipeline("[errors]\nlimit = { rows = 3 }\n");
    sandbox.note("under a higher limit it is tried again");
    sandbox.ok("run items.toml");
    sandbox.golden("some-failed");
}

#[test]
fn one_object_that_fails_gives_its_own_code() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("[errors]\nlimit = { rows = 0 }\n");
    sandbox.put("items/1.csv", b"id,price\n1,2.50\n2,x\n");
    assert_eq!(sandbox.run("run items.toml").code, 3);
    assert_eq!(sandbox.state(), ["load 1: failed", "1 rejects"]);
    assert_eq!(sandbox.run("run items.toml --reload --dry-run").code, 3);
    assert_eq!(sandbox.state(), ["load 1: failed", "1 rejects"]);
    sandbox.golden("over-the-limit");
}

// ---- verify

#[test]
fn verify_finds_what_is_not_as_the_ledger_says() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    sandbox.seed(DIRTY);
    sandbox.ok("run pipelines/customers.toml");
    sandbox.note("somebody deletes two rows and a reject, adds a row, and brings back a row of a load there never was");
    sandbox.sqlite("delete from customers where id in (101, 102)");
    sandbox.sqlite("delete from aqueduct_reject where record = 3");
    sandbox.sqlite("insert into customers (id, firstname, lastname) values (9001, 'a', 'b')");
    sandbox.sqlite("insert into customers (id, firstname, lastname, _load_id) values (9002, 'a', 'b', 77)");
    sandbox.note("and writes other bytes into the clean file, with its size and time as they were");
    let path = sandbox.path(".aqueduct/store/customers/customers-clean.csv");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(sandbox.run("verify").code, 6);
    assert_eq!(sandbox.run("verify 1 --no-objects").code, 0);
    assert_eq!(sandbox.run("verify 2").code, 6);
    assert_eq!(sandbox.run("verify --json").code, 6);
    sandbox.note("the files are gone: said, and no difference");
    fs::remove_dir_all(sandbox.path(".aqueduct/store/customers")).unwrap();
    sandbox.ok("verify 1");
    sandbox.golden("verify");
}

#[test]
fn a_table_that_is_gone_is_an_error_and_reload_brings_it_back() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    sandbox.ok("run items.toml");
    sandbox.sqlite("drop table item");
    sandbox.note("somebody drops the table");
    sandbox.refused("run items.toml", 1);
    sandbox.refused("check items.toml", 1);
    assert_eq!(sandbox.run("verify").code, 6);
    sandbox.refused("undo 1", 1);
    sandbox.ok("run items.toml --reload");
    assert_eq!(sandbox.state(), ["item: 1 rows", "load 1: replaced", "load 2: loaded", "0 rejects"]);
    let sql = sandbox.ok("ddl items.toml").stdout;
    sandbox.sqlite("drop table item");
    sandbox.sqlite(&sql);
    sandbox.put("items/b.csv", b"id,price\n2,2.50\n");
    sandbox.note("somebody drops the table and makes it again, empty");
    sandbox.refused("run items.toml", 1);
    sandbox.refused("run items.toml --object items/b.csv", 1);
    assert_eq!(sandbox.run("run items.toml --dry-run").code, 1);
    assert_eq!(sandbox.run("verify").code, 6);
    sandbox.ok("run items.toml --reload");
    assert_eq!(sandbox.state()[0], "item: 2 rows");
    sandbox.note("a table that is empty on purpose: the loads are taken back");
    sandbox.sqlite("delete from item");
    sandbox.ok("undo 3");
    sandbox.ok("undo 4");
    sandbox.ok("run items.toml");
    sandbox.golden("table-gone");
}

// ---- what is wrong before anything is opened

#[test]
fn mistakes_in_pipeline_files_are_shown_with_line_and_caret() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    let text = fs::read_to_string(repository().join("pipelines/customers.toml")).unwrap();
    sandbox.write("pipelines/typo.toml", text.replace("primaryKey", "primarykey").as_bytes());
    sandbox.write("pipelines/regex.toml", text.replace("[0-9]{4,}", "[0-9{4,").as_bytes());
    sandbox.write("pipelines/glob.toml", text.replace("customers/*.csv*", "customers/[a.csv").as_bytes());
    sandbox.write("pipelines/table.toml", text.replace("table = \"customers\"", "table = \"a.b.c\"").as_bytes());
    sandbox.write("pipelines/latin.toml", b"name = \"caf\xe9\"");
    fs::create_dir(sandbox.path("pipelines/folder.toml")).unwrap();
    sandbox.refused("run pipelines/typo.toml", 2);
    sandbox.refused("run pipelines/regex.toml", 2);
    sandbox.refused("run pipelines/glob.toml", 2);
    sandbox.refused("run pipelines/table.toml", 2);
    sandbox.refused("run pipelines/latin.toml", 2);
    sandbox.refused("run pipelines/folder.toml", 2);
    sandbox.refused("run pipelines", 2);
    sandbox.refused("run customers.csv", 2);
    sandbox.refused("run pipelines/custmers.toml", 2);
    sandbox.refused("run nowhere/customers.toml", 2);
    sandbox.note("one mistake is enough for none of them to run, and all are shown");
    sandbox.refused("run pipelines/customers.toml pipelines/typo.toml pipelines/custmers.toml", 2);
    sandbox.refused("ddl pipelines/typo.toml", 2);
    sandbox.refused("run pipelines/typo.toml --json", 2);
    assert!(!sandbox.path(".aqueduct/warehouse.db").exists());
    sandbox.golden("wrong-pipelines");
}

#[test]
fn wrong_settings_are_refused_before_anything_is_opened() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    let run = "run pipelines/customers.toml";
    sandbox.refused(&format!("{run} --database postgres://ada:hunter2@db.example/shop"), 2);
    sandbox.refused(&format!("{run} --database mysql://db.example/shop"), 2);
    sandbox.refused(&format!("{run} --store gs://bucket"), 2);
    sandbox.refused(&format!("{run} --since yesterday"), 2);
    sandbox.refused(&format!("{run} --object a.csv --limit 2"), 2);
    sandbox.refused("loads --state lodaed", 2);
    sandbox.refused("loads --state lodaed --json", 2);
    sandbox.set("PGHOST", "db.example");
    sandbox.note("PGHOST alone does not make it PostgreSQL");
    assert_eq!(sandbox.run("loads").code, 1);
    sandbox.set("DATABASE_SECRET", "prod/db");
    sandbox.set("DATABASE_URL", "sqlite:a.db");
    let answer = sandbox.refused(run, 2);
    assert!(!answer.stderr.contains("hunter2"));
    sandbox.golden("wrong-settings");
}

// ---- stores

#[test]
fn a_store_that_is_missing_or_has_nothing_fitting_is_said() {
    let mut sandbox = Sandbox::new();
    sandbox.refused("run pipelines/customers.toml --store nowhere", 1);
    assert_eq!(sandbox.run("run pipelines/customers.toml").code, 1);
    assert_eq!(sandbox.state(), ["0 rejects"]);
    sandbox.put("customer/2026.csv", b"id\n1\n");
    sandbox.put("customers-2026.csv", b"id\n1\n");
    sandbox.refused("run pipelines/customers.toml", 1);
    sandbox.refused("run pipelines/customers.toml --object customers/2026.csv", 1);
    sandbox.refused("check pipelines/customers.toml --store nowhere", 1);
    sandbox.note("names that fit and are no objects are said, all of them counted");
    for number in 0..7 {
        sandbox.write(&format!("links/customers/{number}\\.csv"), b"id\n1\n");
    }
    sandbox.refused("run pipelines/customers.toml --store links", 1);
    sandbox.refused("check pipelines/customers.toml --store links", 1);
    sandbox.golden("wrong-stores");
}

#[test]
fn s3_without_credentials_bucket_or_objects_is_said() {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    let mut sandbox = Sandbox::new();
    sandbox.mask(&bucket, "[BUCKET]");
    let run = format!("run pipelines/customers.toml --store s3://{bucket}");
    sandbox.refused(&run, 2);
    sandbox.set("AWS_REGION", "eu-west-1");
    sandbox.set("AWS_ENDPOINT_URL", aws.endpoint());
    sandbox.refused(&run, 4);
    for (name, value) in aws.env() {
        sandbox.set(name, &value);
    }
    for missing in ["run pipelines/customers.toml --store s3://no-such-bucket-here", &run] {
        assert_eq!(sandbox.run(missing).code, 1);
    }
    assert_eq!(sandbox.state(), ["0 rejects"]);
    aws.put_object(&bucket, "customer/2026.csv", b"id\n");
    sandbox.refused(&run, 1);
    sandbox.golden("wrong-s3");
}

#[test]
fn from_s3_into_postgres_is_the_same_work() {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    let mut sandbox = Sandbox::on(Postgres::database());
    for (name, value) in aws.env() {
        sandbox.set(name, &value);
    }
    sandbox.set("AQUEDUCT_STORE", &format!("s3://{bucket}/in"));
    sandbox.mask(&bucket, "[BUCKET]");
    aws.put_object(&bucket, &format!("in/{DIRTY}"), &seed(DIRTY));
    sandbox.ok("check pipelines/customers.toml");
    assert_eq!(sandbox.state(), Vec::<String>::new(), "a check makes nothing");
    sandbox.ok("run pipelines/customers.toml --dry-run");
    assert_eq!(sandbox.state(), Vec::<String>::new(), "a dry run makes nothing");
    sandbox.ok("run pipelines/customers.toml");
    assert_eq!(sandbox.state(), ["public.customers: 19 rows", "load 1: loaded", "6 rejects"]);
    sandbox.ok("run pipelines/customers.toml");
    sandbox.ok("check pipelines/customers.toml");
    sandbox.ok("loads --table customers");
    sandbox.ok("verify");
    sandbox.ok("rejects list");
    sandbox.ok("undo 1");
    sandbox.ok("run pipelines/customers.toml");
    sandbox.ok("run pipelines/customers.toml --reload");
    sandbox.ok("ddl pipelines/customers.toml");
    assert_eq!(sandbox.state(), ["public.customers: 19 rows", "load 1: undone", "load 2: loaded", "12 rejects"]);
    sandbox.golden("s3-to-postgres");
}

// ---- objects

#[test]
fn objects_that_are_no_csv_are_refused_by_name() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    let objects: [(&str, &[u8]); 10] = [
        ("empty", b""),
        ("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
        ("parquet", b"PAR1\x15\x04\x15\x10"),
        ("xlsx", b"PK\x03\x04\x14\x00\x06\x00"),
        ("html", b"<!DOCTYPE html><html><body>Log in</body></html>"),
        ("truncated", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
        ("other-columns", b"number,amount\n1,2\n"),
        ("twice", b"id,price,price\n1,2,3\n"),
        ("blank", b"\n\n\n"),
        ("other-delimiter", b"sep=;\nid;price\n1;2\n"),
    ];
    for (name, bytes) in objects {
        sandbox.put(&format!("items/{name}.csv"), bytes);
        let code = sandbox.run(&format!("run items.toml --object items/{name}.csv")).code;
        assert!(matches!(code, 1 | 3), "{name}: {code}");
    }
    let state = sandbox.state();
    assert!(state.iter().all(|line| line.ends_with(": failed") || line == "0 rejects"), "{state:?}");
    assert_eq!(state.len(), objects.len() + 1);
    sandbox.golden("no-csv");
}

#[test]
fn a_first_line_for_spreadsheets_is_no_record() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"sep=,\r\nid,price\r\n1,2.50\r\n2,x\r\n");
    sandbox.ok("run items.toml");
    sandbox.golden("sep-line");
}

#[test]
fn a_header_alone_is_no_records_but_does_not_empty_a_table() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/1.csv", b"id,price\n");
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.state(), ["item: 0 rows", "load 1: loaded", "0 rejects"]);
    sandbox.put("items/2.csv", b"id,price\n1,2.50\n");
    sandbox.item_pipeline("mode = \"replace\"\n");
    sandbox.ok("run items.toml");
    sandbox.put("items/3.csv", b"id,price\n");
    let answer = sandbox.run("run items.toml");
    assert_eq!(answer.code, 3);
    assert_eq!(sandbox.state()[0], "item: 1 rows", "the rows of the newest good object stay");
    sandbox.golden("header-only");
}

#[test]
fn names_that_hold_escapes_and_patterns_are_only_names() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a\x1b[2J\nerror: b.csv", b"id,price\n1,2.50\n2,x\n");
    sandbox.put("items/[table].csv", b"id,price\n3,1\n");
    sandbox.put("items/t.csv", b"id,price\n4,1\n");
    sandbox.ok("run items.toml --object items/[table].csv");
    assert_eq!(sandbox.sqlite("select id from item"), ["3"]);
    let answer = sandbox.ok("run items.toml");
    assert!(!answer.stdout.contains('\x1b'));
    let listed = sandbox.ok("rejects list");
    assert!(!listed.stdout.contains('\x1b'));
    sandbox.golden("odd-names");
}

#[test]
fn hostile_names_of_tables_and_columns_are_only_names() {
    let name = "Sales 2026.Ada's \\ Größe; drop table keep; --";
    let pipeline = |table: &str| {
        format!(
            "version = 1\nname = \"hostile\"\n[source]\npath = \"items/*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
             primaryKey = ['id\"; drop table keep; --']\nfields = [\n  {{ name = 'id\"; drop table keep; --', from = \"id\", \
             type = \"integer\" }},\n  {{ name = \"Unit Price\", from = \"price\", type = \"number\" }},\n]\n\
             [target]\ntable = {table:?}\n"
        )
    };
    let go_through = |sandbox: &mut Sandbox| {
        sandbox.write("quotes.toml", pipeline("public.\"Odd Name\"").as_bytes());
        sandbox.write("hostile.toml", pipeline(name).as_bytes());
        sandbox.put("items/a.csv", b"id,price\n1,2.50\n2,x\n");
        assert_eq!(sandbox.run("run quotes.toml").code, 2);
        sandbox.ok("ddl hostile.toml");
        sandbox.ok("run hostile.toml");
        sandbox.ok("run hostile.toml");
        sandbox.ok("check hostile.toml");
        sandbox.ok("loads");
        let listed = sandbox.run_words(&["loads", "--table", name, "--quiet"], "loads --table NAME --quiet");
        assert!(listed.stdout.contains("items/a.csv"), "{}", listed.stdout);
        sandbox.ok("show 1");
        sandbox.ok("rejects list");
        sandbox.ok("verify");
        sandbox.put("items/b.csv", b"id,price\n1,7\n");
        sandbox.ok("run hostile.toml");
        sandbox.ok("undo 1");
        sandbox.ok("run hostile.toml --reload --object items/a.csv");
    };

    let mut sandbox = Sandbox::on(Postgres::database());
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql("create schema \"Sales 2026\"; create table keep (id int)");
    go_through(&mut sandbox);
    let state = sandbox.state();
    assert!(state.contains(&"public.keep: 0 rows".to_owned()), "{state:?}");
    sandbox.golden("hostile-postgres");

    let mut sandbox = Sandbox::new();
    sandbox.write(".aqueduct/warehouse.db", b"");
    sandbox.sqlite("create table keep (id int)");
    go_through(&mut sandbox);
    let state = sandbox.state();
    assert!(state.contains(&"keep: 0 rows".to_owned()), "{state:?}");
    sandbox.golden("hostile-sqlite");
}

// ---- databases

#[test]
fn an_sqlite_file_that_cannot_be_used_is_said() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    sandbox
        .write("notes.db", b"these are notes, and more of them than SQLite's header is long: no database at all.....");
    fs::create_dir(sandbox.path("folder.db")).unwrap();
    sandbox.refused("run pipelines/customers.toml --database sqlite:no/such/place.db", 1);
    sandbox.refused("run pipelines/customers.toml --database sqlite:notes.db", 1);
    sandbox.refused("run pipelines/customers.toml --database sqlite:folder.db", 1);
    sandbox.refused("loads", 1);
    sandbox.refused("verify --database sqlite:other.db", 1);
    assert!(!sandbox.path("no").exists() && !sandbox.path("other.db").exists());
    assert!(fs::read(sandbox.path("notes.db")).unwrap().starts_with(b"these are notes"));
    sandbox.unprivileged();
    sandbox.note("in a directory in which no file may be made");
    fs::create_dir(sandbox.path("closed")).unwrap();
    fs::set_permissions(sandbox.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    sandbox.refused("run pipelines/customers.toml --database sqlite:closed/new.db", 4);
    sandbox.refused("check pipelines/customers.toml --database sqlite:closed/new.db", 4);
    sandbox.golden("wrong-sqlite");
}

#[test]
fn a_database_that_may_only_be_read_is_left_as_it_is() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    sandbox.ok("run pipelines/customers.toml");
    sandbox.seed(DIRTY);
    sandbox.unprivileged();
    sandbox.set_writable(".aqueduct", false);
    sandbox.ok("loads --pipeline customers");
    sandbox.refused("run pipelines/customers.toml", 4);
    sandbox.refused("undo 1", 4);
    sandbox.refused("check pipelines/customers.toml", 4);
    sandbox.ok("run pipelines/customers.toml --dry-run");
    sandbox.set_writable(".aqueduct", true); // or it could not be removed
    sandbox.golden("read-only-sqlite");

    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.seed(CLEAN);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&format!("alter database \"{}\" set default_transaction_read_only = on", database.name()));
    sandbox.refused("run pipelines/customers.toml", 4);
    let answer = sandbox.refused("check pipelines/customers.toml", 4);
    assert!(answer.stderr.contains("default_transaction_read_only = off"), "{}", answer.stderr);
    sandbox.ok("run pipelines/customers.toml --dry-run");
    sandbox.golden("read-only-postgres");
}

#[test]
fn a_check_says_what_a_run_would_be_refused() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    let text = fs::read_to_string(sandbox.path("items.toml")).unwrap();
    sandbox.write("elsewhere.toml", text.replace("\"item\"", "\"elsewhere.item\"").as_bytes());
    sandbox.refused("check elsewhere.toml", 1);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    let role = format!("{}_loader", database.name());
    database.psql(&format!("create role {role} login"));
    let url = database.url().replacen("://postgres@", &format!("://{role}@"), 1);
    assert_ne!(url, database.url());
    sandbox.set("DATABASE_URL", &url);
    sandbox.mask(&role, "[ROLE]");
    sandbox.refused("check items.toml", 4);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql("create table item (id bigint primary key, price numeric(8,2), _load_id bigint, _record bigint)");
    sandbox.refused("check items.toml", 4);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&format!("drop table item; drop role {role}"));
    sandbox.golden("check-rights");
}

#[test]
fn cells_of_a_file_without_a_header_stay_out_of_messages() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/1.csv", b"17,secret\n18,secret\n");
    sandbox.put("items/2.csv", b"17,17\n");
    sandbox.put("items/3.csv", b"ID,price\n1,2\n");
    sandbox.put("items/4.csv", format!("id,,{}\n1,2,3\n", "x".repeat(500)).as_bytes());
    for key in 1..=4 {
        let answer = sandbox.run(&format!("run items.toml --object items/{key}.csv"));
        assert_eq!(answer.code, 3);
        assert!(!answer.stderr.contains("secret") && !answer.stderr.contains("17"), "{}", answer.stderr);
    }
    sandbox.golden("no-header");
}

#[test]
fn of_a_thousand_columns_nobody_asked_for_the_first_are_named() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    let labels: String = (1..=1_000).map(|column| format!(",extra {column}")).collect();
    let long = "y".repeat(500);
    sandbox.put("items/1.csv", format!("id,price,{long}{labels}\n1,2.50,{}\n", ",".repeat(1_000)).as_bytes());
    let answer = sandbox.ok("run items.toml");
    assert!(answer.stdout.len() < 1_000, "{}", answer.stdout);
    sandbox.ok("show 1");
    sandbox.item_pipeline("[drift]\nmissing_columns = \"null\"\n");
    sandbox.put("items/2.csv", b"171717,secret\n181818,secret\n");
    let text = fs::read_to_string(sandbox.path("items.toml")).unwrap();
    sandbox.write("loose.toml", text.replace("primaryKey = [\"id\"]\n", "").as_bytes());
    sandbox.note("a file without a header: what stands in its place may be cells");
    sandbox.sqlite("drop table item");
    for (command, code) in [("run loose.toml --object items/2.csv --reload", 3), ("show 2", 0)] {
        let answer = sandbox.run(command);
        assert_eq!(answer.code, code, "{}", answer.stderr);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(!said.contains("secret") && !said.contains("1717"), "{said}");
    }
    sandbox.golden("many-columns");
}

#[test]
fn rows_without_lineage_are_verified_by_their_sum() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("lineage = false\n");
    sandbox.put("items/1.csv", b"id,price\n1,2.50\n2,3\n");
    sandbox.put("items/2.csv", b"id,price\n3,2.50\n");
    sandbox.ok("run items.toml");
    sandbox.ok("verify --no-objects");
    sandbox.sqlite("delete from item where id = 2");
    sandbox.note("somebody deletes a row");
    assert_eq!(sandbox.run("verify --no-objects").code, 6);
    sandbox.golden("verify-sum");
}

#[test]
fn without_lineage_the_advice_is_what_works() {
    let mut sandbox = Sandbox::new();
    let limit = "[errors]\nlimit = { rows = 0 }\n";
    sandbox.item_pipeline(&format!("lineage = false\n{limit}"));
    sandbox.put("items/1.csv", b"id,price\n1,2.50\n2,3\n");
    sandbox.put("items/2.csv", b"id,price\n3,x\n");
    assert_eq!(sandbox.run("run items.toml").code, 5);
    assert_eq!(sandbox.run("run items.toml").code, 3);
    sandbox.refused("run items.toml --reload", 1);
    sandbox.put("items/2.csv", b"id,price\n3,4\n");
    sandbox.put("items/1.csv", b"id,price\n1,2.75\n2,3\n");
    sandbox.note("one file is repaired, the other has new bytes");
    assert_eq!(sandbox.run("run items.toml").code, 5);
    let text = fs::read_to_string(sandbox.path("items.toml")).unwrap();
    let ignoring = text.replace("path = \"items/*.csv\"", "path = \"items/*.csv\"\non_change = \"ignore\"");
    let ignoring = ignoring.replace("precision = [8, 2]", "precision = [7, 2]");
    sandbox.write("items.toml", ignoring.as_bytes());
    sandbox.ok("run items.toml");
    sandbox.note("the advice is followed");
    sandbox.sqlite("delete from item");
    sandbox.item_pipeline(limit);
    let answer = sandbox.run("run items.toml --reload");
    assert_eq!(answer.code, 1);
    for statement in answer.stderr.lines().map(str::trim).filter(|line| line.starts_with("alter ")) {
        sandbox.sqlite(statement);
    }
    sandbox.ok("run items.toml --reload");
    assert_eq!(sandbox.sqlite("select price from item order by id"), ["2.75", "3.00", "4.00"]);
    sandbox.ok("verify");
    sandbox.item_pipeline("lineage = false\n");
    sandbox.sqlite("drop table item");
    sandbox.note("the table is gone, and the pipeline has no lineage any more");
    sandbox.refused("run items.toml", 1);
    sandbox.golden("no-lineage");
}

#[test]
fn a_table_of_another_shape_is_said_with_the_statements_to_paste() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql("create table item (id text primary key, \"PRICE\" numeric(8,2), tax numeric not null)");
    sandbox.refused("check items.toml", 1);
    let answer = sandbox.run("run items.toml");
    assert_eq!(answer.code, 1);
    assert_eq!(sandbox.state(), ["public.item: 0 rows", "0 rejects"]);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    let statements: Vec<&str> =
        answer.stderr.lines().map(str::trim).filter(|line| line.starts_with("alter ")).collect();
    assert_eq!(statements.len(), 5, "{}", answer.stderr);
    database.psql(&statements.join("\n"));
    sandbox.note("pasted into psql, the statements are all it takes");
    sandbox.ok("check items.toml");
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.state(), ["public.item: 1 rows", "load 1: loaded", "0 rejects"]);
    sandbox.golden("other-shape-postgres");

    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    sandbox.put("items/b.csv", b"id,price\n2,2.50\n");
    sandbox.write(".aqueduct/warehouse.db", b"");
    sandbox.sqlite("create table item (id integer primary key) strict");
    let answer = sandbox.run("run items.toml");
    assert_eq!(answer.code, 1);
    assert_eq!(sandbox.state(), ["item: 0 rows", "0 rejects"]);
    for statement in answer.stderr.lines().map(str::trim).filter(|line| line.starts_with("alter ")) {
        sandbox.sqlite(statement);
    }
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.state()[0], "item: 2 rows");
    sandbox.golden("other-shape-sqlite");
}

#[test]
fn a_refused_row_is_named_by_its_record() {
    // Every third record is a reject, so rows and records do not count alike; some thousand come before the bad one.
    let mut lines = String::from("id,price\n");
    for record in 1..=20_000 {
        let id = if record == 19_999 { 4 } else { record };
        let price = if record % 3 == 0 { "x" } else { "1" };
        lines.push_str(&format!("{id},{price}\n"));
    }
    let key =
        "create table item (id bigint constraint item_key unique, price numeric(8,2), _load_id bigint, _record bigint)";
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.item_pipeline("conflict = \"fail\"\n[errors]\nlimit = { rows = 100000 }\n");
    sandbox.put("items/a.csv", lines.as_bytes());
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(key);
    assert_eq!(sandbox.run("run items.toml").code, 1);
    sandbox.note("what is no key is set aside");
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql("drop table item; create table item (id bigint primary key constraint small check (id <> 10000), price numeric(8,2), _load_id bigint, _record bigint)");
    sandbox.put(
        "items/a.csv",
        (1..=20_000).fold(String::from("id,price\n"), |rows, id| rows + &format!("{id},1\n")).as_bytes(),
    );
    sandbox.ok("run items.toml");
    sandbox.golden("refused-postgres");

    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("conflict = \"fail\"\n[errors]\nlimit = { rows = 100000 }\n");
    sandbox.put("items/a.csv", lines.as_bytes());
    assert_eq!(sandbox.run("run items.toml").code, 1);
    sandbox.golden("refused-sqlite");
}

#[test]
fn a_missing_table_the_pipeline_does_not_make_is_said() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("create = false\n");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    assert_eq!(sandbox.run("run items.toml").code, 1);
    sandbox.refused("check items.toml", 1);
    let sql = sandbox.ok("ddl items.toml").stdout;
    sandbox.sqlite(&sql);
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.state()[0], "item: 1 rows");
    sandbox.golden("no-table");
}

#[test]
fn a_server_that_is_not_there_or_does_not_let_us_in_is_said() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.seed(CLEAN);
    let run = "run pipelines/customers.toml";
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    let good = database.url().to_owned();
    let role = format!("reader_{}", database.name());
    database.psql(&format!("create role {role} login password 'right' in role {PASSWORD_GROUP}"));
    let wrong = database.url_as(&role, Some("wrong"));
    sandbox.mask(&role, "[ROLE]");
    sandbox.set("DATABASE_URL", "postgres://ada@127.0.0.1:1/shop");
    sandbox.refused(run, 75);
    sandbox.refused("check pipelines/customers.toml", 75);
    sandbox.refused("loads", 75);
    sandbox.set("DATABASE_URL", &wrong);
    let answer = sandbox.refused(run, 4);
    assert!(!answer.stderr.contains("wrong"));
    let elsewhere = good.rsplit_once('/').map(|(server, _)| format!("{server}/no_such_database")).unwrap();
    sandbox.set("DATABASE_URL", &elsewhere);
    sandbox.refused(run, 1);
    sandbox.set("DATABASE_URL", &good);
    sandbox.refused("loads", 1);
    sandbox.golden("wrong-servers");
}

#[test]
fn who_may_not_create_is_told_who_can_and_setup_is_what_helps() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.seed(CLEAN);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    let admin = database.url().to_owned();
    let (app, login) = (format!("app_{}", database.name()), format!("login_{}", database.name()));
    database.psql(&format!("create role {login} login"));
    let mine = database.url_as(&login, None);
    sandbox.mask(&app, "[APP]");
    sandbox.mask(&login, "[LOGIN]");
    let run = "run pipelines/customers.toml";
    sandbox.set("DATABASE_URL", &mine);
    sandbox.refused(run, 4);
    sandbox.refused("setup", 4);
    sandbox.set("DATABASE_URL", &admin);
    sandbox.note("as an administrator");
    sandbox.ok(&format!("setup --app-role {app}"));
    sandbox.ok(&format!("setup --app-role {app}"));
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&format!("grant {app} to {login}"));
    sandbox.set("DATABASE_URL", &mine);
    sandbox.note("as the login again, now a member of the role");
    sandbox.refused(run, 4);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&format!("grant create on schema public to {login}"));
    sandbox.note("may create tables in public now");
    sandbox.ok(run);
    assert_eq!(sandbox.state(), ["public.customers: 40 rows", "load 2: loaded", "0 rejects"]);
    sandbox.golden("setup");
}

#[test]
fn who_may_only_look_sees_rejects_and_not_their_bytes() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.seed(DIRTY);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    let (read, login) = (format!("read_{}", database.name()), format!("login_{}", database.name()));
    database.psql(&format!("create role {login} login"));
    let looking = database.url_as(&login, None);
    sandbox.ok("run pipelines/customers.toml");
    sandbox.ok(&format!("setup --read-role {read}"));
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&format!("grant {read} to {login}"));
    let admin = database.url().to_owned();
    sandbox.set("DATABASE_URL", &looking);
    sandbox.note("a member of the role that may look");
    sandbox.ok("loads");
    sandbox.ok("show 1");
    sandbox.ok("rejects list");
    sandbox.refused("rejects export -o rejects.csv", 4);
    assert!(!sandbox.path("rejects.csv").exists());
    let answer = sandbox.refused("rejects export", 4);
    assert_eq!(answer.stdout, "");
    let grant = answer.stderr.split_once("can run: ").unwrap().1.lines().next().unwrap().to_owned();
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&grant);
    sandbox.note("with the grant");
    sandbox.ok("rejects export -o rejects.csv");
    sandbox.set("DATABASE_URL", &admin);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&format!("drop owned by {login}, {read}; drop role {login}, {read}"));
    sandbox.golden("looking");
}

#[test]
fn a_newer_ledger_is_refused() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    sandbox.ok("setup");
    sandbox.sqlite(
        "insert into aqueduct_migration (version, description, success, checksum, execution_time) \
         values (99, 'later', true, x'00', 0)",
    );
    sandbox.refused("run pipelines/customers.toml", 1);
    sandbox.refused("loads", 1);
    sandbox.sqlite("delete from aqueduct_migration where version = 99");
    sandbox.sqlite("update aqueduct_migration set checksum = x'00'");
    sandbox.note("the ledger's own record says that other statements made it");
    sandbox.refused("run pipelines/customers.toml", 1);
    sandbox.refused("loads", 1);
    sandbox.refused("setup", 1);
    sandbox.golden("newer-ledger");
}

// ---- texts and documents

#[test]
fn sql_is_printed_without_any_connection() {
    let mut sandbox = Sandbox::new();
    sandbox.set("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    sandbox.ok("ddl pipelines/customers.toml");
    sandbox.ok("ddl pipelines/customers.toml --sqlite");
    sandbox.ok("ddl pipelines/passengers.toml --postgres --json");
    let sql = sandbox.ok("setup --print --app-role --read-role").stdout;
    sandbox.golden("sql");

    // What is printed is what an administrator can run, twice.
    let database = Postgres::database();
    let names = |sql: &str| {
        sql.replace("aqueduct_app", &format!("app_{}", database.name()))
            .replace("aqueduct_read", &format!("read_{}", database.name()))
    };
    database.psql(&names(&sql));
    database.psql(&names(&sql));
    let mut sandbox = Sandbox::on(database);
    sandbox.seed(CLEAN);
    sandbox.ok("run pipelines/customers.toml");
}

#[test]
fn every_document_is_one_line_of_json_with_its_schema() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(CLEAN);
    sandbox.seed(DIRTY);
    for (arguments, code) in [
        ("check pipelines/customers.toml --json", 0),
        ("run pipelines/customers.toml --json", 0),
        ("run pipelines/customers.toml --json", 0),
        ("loads --json", 0),
        ("show 2 --json", 0),
        ("rejects list --json", 0),
        ("rejects export 2 -o out.csv --json", 0),
        ("rejects export 2 --json", 2),
        ("rejects replay pipelines/customers.toml out.csv --json", 3),
        ("rejects replay pipelines/customers.toml --load 1 --json", 0),
        ("rejects purge --older-than 7d --json", 0),
        ("verify --json", 0),
        ("undo 2 --json", 0),
        ("undo 2 --json", 1),
        ("run pipelines/passengers.toml --json", 1),
        ("setup --json", 0),
        ("ddl pipelines/customers.toml --json", 0),
    ] {
        let answer = sandbox.run(arguments);
        assert_eq!(answer.code, code, "{arguments}: {}", answer.stderr);
        let document: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(answer.stdout.lines().count(), 1);
        assert_eq!(document["schema"], "etl.run/1");
        let command = document["command"].as_str().unwrap();
        assert!(command.starts_with("etl-runner "), "{command}");
    }
    sandbox.golden("json");
}

#[test]
fn a_finished_load_is_one_line_of_metrics_where_logs_are_json() {
    let mut sandbox = Sandbox::new();
    sandbox.seed(DIRTY);
    sandbox.set("AQUEDUCT_LOG_FORMAT", "json");
    let answer = sandbox.ok("run pipelines/customers.toml");
    let line: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Aqueduct");
    assert_eq!((&line["RecordsRead"], &line["Loaded"], &line["Rejected"]), (&25.into(), &19.into(), &6.into()));
    let answer = sandbox.ok("run pipelines/customers.toml");
    assert_eq!(answer.stderr, "", "what was loaded before is no load");
    sandbox.golden("metrics");
}

#[test]
fn one_file_that_may_not_be_read_does_not_stop_the_others() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.item_pipeline("");
    for (name, id) in [("a", 1), ("b", 2), ("c", 3)] {
        sandbox.put(&format!("items/{name}.csv"), format!("id,price\n{id},1.50\n").as_bytes());
    }
    let closed = sandbox.path(".aqueduct/store/items/b.csv");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    sandbox.unprivileged();
    let answer = sandbox.run("run items.toml");
    assert_eq!(answer.code, 5, "{}", answer.stderr);
    assert!(answer.stderr.contains("items/b.csv was not loaded"), "{}", answer.stderr);
    let state = sandbox.state();
    assert!(state[0] == "public.item: 2 rows" && state.iter().filter(|line| line.ends_with(": loaded")).count() == 2);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).unwrap();
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.state()[0], "public.item: 3 rows");
}

#[test]
fn a_directory_that_may_not_be_entered_is_told_and_the_others_are_loaded() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.item_pipeline("");
    let text = String::from_utf8(fs::read(sandbox.path("items.toml")).unwrap()).unwrap();
    sandbox.write("items.toml", text.replace("items/*.csv", "items/**/*.csv").as_bytes());
    for (name, id) in [("a/1", 1), ("b/2", 2), ("c/3", 3)] {
        sandbox.put(&format!("items/{name}.csv"), format!("id,price\n{id},1.50\n").as_bytes());
    }
    let closed = sandbox.path(".aqueduct/store/items/b");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    sandbox.unprivileged();
    for run in ["run items.toml", "run items.toml"] {
        let answer = sandbox.run(run);
        assert_eq!(answer.code, 5, "what is below it may be new: {}", answer.stderr);
        assert!(answer.stderr.contains("items/b: directory is not readable"), "{}", answer.stderr);
        assert_eq!(sandbox.state()[0], "public.item: 2 rows");
    }
    // Where nothing else is, nobody knows that there is nothing.
    let answer = sandbox.run("run items.toml --object items/b/2.csv");
    assert_ne!(answer.code, 0);
    for name in ["a", "c"] {
        fs::remove_dir_all(sandbox.path(&format!(".aqueduct/store/items/{name}"))).unwrap();
    }
    let answer = sandbox.run("run items.toml");
    assert!(answer.code == 5 && !answer.stderr.contains("bring a file there"), "{}", answer.stderr);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.ok("run items.toml");
    assert_eq!(sandbox.state()[0], "public.item: 3 rows");
}

#[test]
fn help_says_what_there_is() {
    let mut sandbox = Sandbox::new();
    for command in [
        "",
        "run",
        "check",
        "setup",
        "ddl",
        "loads",
        "show",
        "rejects list",
        "rejects export",
        "rejects replay",
        "rejects purge",
        "verify",
        "undo",
    ] {
        sandbox.ok(&format!("{command} --help"));
    }
    sandbox.ok("--version");
    let script = Sandbox::new().ok("completions bash").stdout;
    assert!(script.contains("complete -F ") && script.contains("etl-runner"), "{script}");
    let document = Sandbox::new().ok("completions bash --json").stdout;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["script"], script);
    sandbox.golden("help");
}

#[test]
fn a_result_that_cannot_be_written_says_what_was_committed() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    for (arguments, stands) in [
        (["run", "items.toml"], "1 object was loaded all the same: `etl-runner loads` lists them"),
        (["run", "items.toml"], "nothing was loaded by this run"),
        (["undo", "1"], "load 1 is undone all the same"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_etl-runner"))
            .args(arguments)
            .current_dir(sandbox.path("."))
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(stands), "{stderr}");
    }
    assert_eq!(sandbox.state(), ["item: 0 rows", "load 1: undone", "0 rejects"]);
}

#[test]
fn a_hint_names_the_pipeline_and_the_flags_that_were_given() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("[errors]\nlimit = { rows = 0 }\n");
    sandbox.write("store/items/a.csv", b"id,price\n1,x\n");
    let flags = "--store store --database sqlite:here.db";
    let answer = sandbox.run(&format!("run items.toml {flags}"));
    assert_eq!(answer.code, 3);
    assert!(answer.stderr.contains("`etl-runner rejects list 1 --database sqlite:here.db`"), "{}", answer.stderr);
    let answer = sandbox.run(&format!("run items.toml {flags} --json"));
    assert_eq!(answer.code, 3, "{}", answer.stderr);
    let text = fs::read_to_string(sandbox.path("items.toml")).unwrap();
    sandbox.write("items.toml", text.replace("rows = 0", "rows = 1").as_bytes());
    sandbox.ok(&format!("run items.toml {flags}"));
    let text = text
        .replace("rows = 0", "rows = 1")
        .replace("path = \"items/*.csv\"", "path = \"items/*.csv\"\non_change = \"fail\"");
    sandbox.write("items.toml", text.as_bytes());
    sandbox.write("store/items/a.csv", b"id,price\n1,1.00\n2,2.00\n");
    let answer = sandbox.run(&format!("run items.toml {flags}"));
    let again = "run items.toml --object items/a.csv --reload --store store --database sqlite:here.db";
    assert!(answer.stderr.contains(&format!("`etl-runner {again}` takes the new bytes")), "{}", answer.stderr);
    sandbox.ok(again);
}

#[test]
fn a_role_that_needs_quotes_gets_them_in_what_is_to_be_pasted() {
    let mut sandbox = Sandbox::on(Postgres::database());
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    let role = format!("App \"{}\"", database.name());
    let answer = sandbox.run_words(&["setup", "--app-role", &role], "setup");
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    assert!(answer.stderr.contains(&format!("grant {quoted} to LOGIN")), "{}", answer.stderr);
    let Where::Postgres(database) = &sandbox.database else { unreachable!("made on PostgreSQL") };
    database.psql(&format!("drop owned by {quoted}; drop role {quoted}"));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("[errors]\nlimit = { rows = 100000 }\n");
    let bad: String = (0..20_000).map(|id| format!("{id},x\n")).collect();
    sandbox.put("items/a.csv", format!("id,price\n{bad}").as_bytes());
    sandbox.ok("run items.toml");
    let mut child = Command::new(env!("CARGO_BIN_EXE_etl-runner"))
        .args(["rejects", "export"])
        .current_dir(sandbox.path("."))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(first.starts_with(b"load,key"));
}
