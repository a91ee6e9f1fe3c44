//! A load on several connections gives what one connection gives, whatever happens on the way.
//!
//! The judge is PostgreSQL itself: rows, rejects and the ledger of a load in splits beside those of a load in one
//! transaction.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use etl_runner::database::{
    Begin, Database, DatabaseConfig, Given, LoadTransaction, SecretText, TableName, written_columns,
};
use etl_runner::ledger::{Replaces, Split};
use etl_runner::load::{Target, Task};
use etl_runner::parallel::{SplitLoad, SplitOutcome, plan_splits};
use etl_runner::report::Outcome;
use etl_runner::run::{Options, RunReport, object_version, pipeline_hash, run};
use objects::{Glob, Store};
use testkit::{Aws, Direction, Postgres, Proxy, Random, TestDatabase};
use transform::csv::Opened;
use transform::{Pipeline, Plan};
use uuid::Uuid;

use crate::text;

const PIPELINE: &str = r##"
version = 1
name = "events"
[source]
path = "*.csv"
[dialect]
delimiter = ","
commentChar = "#"
[schema]
primaryKey = ["id"]
fields = [
  { name = "id", type = "integer" },
  { name = "amount", type = "number", precision = [12, 2] },
  { name = "note", type = "string", clean = ["trim"] },
]
[target]
table = "public.event"
[errors]
limit = { rows = 1000000 }
[limits]
record = "2 KiB"
"##;

/// Small splits: a block of the cutter is 64 KiB.
const SMALL: u64 = 64 * 1024;

fn pipeline() -> Pipeline {
    Pipeline::parse(PIPELINE).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Records of every kind, with what makes their ends hard to see.
fn hostile(random: &mut Random, bytes: usize) -> String {
    let mut text = String::from("id,amount,note\n");
    let mut id = 0;
    while text.len() < bytes {
        id += 1;
        match random.below(100) {
            0 => text.push_str(&format!("{id},1,\"a stray quote\n")),
            1..4 => text.push_str(&format!("{id},2.50,\" two\nlines\"\r\n")),
            4 => text.push_str(&format!("{id},3,\"closes\nbadly\" x\n")),
            5 => text.push_str(&format!("{id},4,\"{}\"\n", "line\n".repeat(random.below(800) as usize))),
            6 => text.push_str("# a comment, with a \"\n\r\n"),
            7..10 => text.push_str(&format!("{id},12O,not a number\n")),
            10 => text.push_str(&format!("{id},1\n")),
            _ => text.push_str(&format!("{id},{}.{:02},plain text of {id}\n", id * 3, id % 100)),
        }
    }
    text
}

fn config(url: &str) -> DatabaseConfig {
    DatabaseConfig::new(Given { url: Some(&SecretText::new(url)), ..Given::default() }).unwrap()
}

fn options(connections: usize) -> Options {
    Options {
        run_id: Uuid::now_v7(),
        reload: false,
        since: None,
        dry_run: false,
        limit: None,
        workers: 2,
        connections,
        split_bytes: SMALL,
        retry_for: Duration::ZERO,
        committing: Arc::default(),
        in_splits: Arc::default(),
    }
}

async fn run_with(url: &str, store: &Store, connections: usize) -> RunReport {
    let mut database = Database::connect(&config(url)).await.unwrap();
    let glob = Glob::literal("events.csv");
    let report = run(&mut database, store, &pipeline(), &glob, &options(connections), &|_| ()).await.unwrap();
    database.close().await;
    report
}

/// Rows, rejects and balance; nothing of a load's number or time.
fn outcome(database: &TestDatabase) -> [String; 3] {
    [
        database.psql("select id, amount, note, _record from public.event order by _record"),
        database.psql(
            "select record, line, byte_offset, field, code, message, encode(raw, 'hex') from aqueduct.reject order by record",
        ),
        database.psql(
            "select state, records_read, loaded, rejected, skipped, bytes, content_sha256, table_oid = 'public.event'::regclass::oid \
             from aqueduct.load where state = 'loaded'",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_in_any_order_repeated_and_at_once_give_the_table_of_one_load() {
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.csv"), hostile(&mut random, 900_000)).unwrap();
        let (store, key) = Store::of_file(&folder.path().join("events.csv")).unwrap();
        let (one, several, shuffled) = (Postgres::database(), Postgres::database(), Postgres::database());

        run_with(one.url(), &store, 1).await;
        let whole = outcome(&one);
        assert!(whole[0].lines().count() > 5_000 && whole[1].lines().count() > 100, "the file proves little");

        let report = run_with(several.url(), &store, 3).await;
        assert!(matches!(report.loads[0].outcome, Outcome::Loaded { .. }), "{report:?}");
        assert_eq!(outcome(&several), whole, "seed {seed}: on three connections");
        assert!(several.psql("select count(*) from aqueduct.split").parse::<u64>().unwrap() > 8);
        let one_report = run_with(one.url(), &store, 1).await;
        assert_eq!(one_report.already_loaded, 1);

        load_shuffled(&shuffled, &store, &key, &mut random).await;
        let report = run_with(shuffled.url(), &store, 1).await;
        assert!(matches!(report.loads[0].outcome, Outcome::Loaded { .. }), "{report:?}");
        assert_eq!(outcome(&shuffled), whole, "seed {seed}: in any order, repeated");
        assert!(has_key(&shuffled));
    }
}

/// Every split of the object, some of them several times and some at once on two connections; the load is not ended.
async fn load_shuffled(database: &TestDatabase, store: &Store, key: &str, random: &mut Random) {
    let pipeline = pipeline();
    let (hash, table) = (pipeline_hash(&pipeline), TableName::parse("public.event").unwrap());
    let target = Target { pipeline: &pipeline, pipeline_hash: &hash, table: &table };
    let object = store.head(key).await.unwrap();
    let committing = AtomicBool::new(false);
    let in_splits = AtomicBool::new(false);
    let task = Task {
        target: &target,
        store,
        object: &object,
        version: object_version(store, &object),
        replaces: Replaces::Nothing,
        run_id: Uuid::now_v7(),
        dry_run: false,
        workers: 1,
        committing: &committing,
        connections: 2,
        split_bytes: SMALL,
        unfinished: None,
        in_splits: &in_splits,
    };
    let new = etl_runner::ledger::NewLoad {
        run_id: task.run_id,
        pipeline: pipeline.name.clone(),
        pipeline_hash: hash.clone(),
        table: table.clone(),
        table_oid: None,
        object: task.version.clone(),
        started_at: std::time::SystemTime::now().into(),
        runner_version: "0".into(),
        replaces: Replaces::Nothing,
        alone: false,
    };
    let mut connected = Database::connect(&config(database.url())).await.unwrap();
    connected.ensure_ledger().await.unwrap();
    let Database::Postgres(postgres) = &mut connected else { panic!("not PostgreSQL") };
    let Begin::Started(held) = postgres.begin_splits(&new, Some(&pipeline)).await.unwrap() else { panic!("busy") };
    let LoadTransaction::Postgres(mut held) = *held else { panic!("not PostgreSQL") };
    let load = database.psql("select id from aqueduct.load").parse().unwrap();
    held.lock_table(&written_columns(&pipeline)).await.unwrap();
    for change in ["alter table event alter note type varchar(9)", "truncate event", "drop table event"] {
        let refused = database.try_psql(&format!("set lock_timeout = '100ms'; {change}")).unwrap_err();
        assert!(refused.contains("lock timeout"), "{refused}");
    }

    let mut reader = store.reader(&object).await.unwrap();
    let bytes = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        bytes
    });
    let bytes = bytes.await.unwrap();
    let opened = Opened::new(bytes.as_slice(), &pipeline).unwrap();
    let columns: Vec<_> = pipeline.schema.fields.iter().map(|field| field.column_type()).collect();
    let (plan, _) = Plan::compile(&pipeline, opened.grammar(), opened.header(), &columns).unwrap();
    let format = opened.format();
    let mut splits: Vec<Split> = Vec::new();
    plan_splits(opened, 0, SMALL, |split| {
        splits.push(split);
        Ok(())
    })
    .unwrap();
    let mut other = Database::connect(&config(database.url())).await.unwrap();
    let Database::Postgres(other) = &mut other else { panic!("not PostgreSQL") };
    other.plan_splits(load, &splits).await.unwrap();
    // Twice is once.
    other.plan_splits(load, &splits[..3]).await.unwrap();

    let live = Database::connect(&config(database.url())).await.unwrap().describe(&table).await.unwrap().unwrap();
    let with = SplitLoad {
        task: &task,
        load,
        plan: &plan,
        format,
        encoding: live.encoding(&pipeline),
        workers: 1,
        rejected: Arc::new(AtomicU64::new(0)),
    };
    let mut order: Vec<Split> = splits.iter().chain(&splits[..splits.len() / 2]).copied().collect();
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    let (mut first, mut second) = (postgres.another(), postgres.another());
    let mut loaded = 0;
    for split in &order {
        let outcomes = if random.below(3) == 0 {
            let both =
                tokio::join!(with.load(&mut first, split, &|_, _| ()), with.load(&mut second, split, &|_, _| ()));
            vec![both.0.unwrap(), both.1.unwrap()]
        } else {
            vec![with.load(&mut first, split, &|_, _| ()).await.unwrap()]
        };
        loaded += outcomes.iter().filter(|outcome| **outcome == SplitOutcome::Loaded).count();
    }
    assert_eq!(loaded, splits.len(), "each split is loaded once");
    drop(held);
}

/// A file of several splits of the size the binary uses, and the binary.
struct Case {
    folder: tempfile::TempDir,
    database: TestDatabase,
    records: u64,
    rejects: u64,
}

impl Case {
    /// `splits` splits of 8 MiB, or a little more; one record in a thousand has a bad amount.
    fn new(splits: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut csv, mut records, mut rejects) = (String::from("id,amount,note\n"), 0, 0);
        let padding = "some text that makes the record long enough. ".repeat(4);
        while (csv.len() as u64) < splits * 8 * 1024 * 1024 {
            records += 1;
            let bad = records % 1000 == 0;
            rejects += u64::from(bad);
            let amount = if bad { "12O.50".into() } else { format!("{records}.25") };
            csv.push_str(&format!("{records},{amount},\"{padding}{records}\"\n"));
        }
        std::fs::write(folder.path().join("events.csv"), csv).unwrap();
        std::fs::write(folder.path().join("events.toml"), PIPELINE).unwrap();
        Self { folder, database: Postgres::database(), records, rejects }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, url: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.arg("run").args(flags).arg(self.path("events.toml")).arg(self.path("events.csv"));
        command.env("DATABASE_URL", url).env_remove("DATABASE_SECRET").current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, flags: &[&str]) -> Output {
        self.command(self.database.url(), flags).output().unwrap()
    }

    fn other(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.args(arguments).env("DATABASE_URL", self.database.url()).env_remove("DATABASE_SECRET");
        command.current_dir(self.folder.path()).output().unwrap()
    }

    fn forget(&self) {
        self.database.psql("drop table if exists public.event; drop schema if exists aqueduct cascade");
    }

    fn count(&self, sql: &str) -> u64 {
        self.database.psql(sql).parse().unwrap()
    }

    /// Waits until the server has noticed that the last client is gone.
    fn settle(&self) {
        let others = "select count(*) from pg_stat_activity where application_name = 'aqueduct' \
                      and datname = current_database()";
        self.wait_for(others, "0", "the server still has a session of a dead client");
    }

    fn wait_for(&self, sql: &str, wanted: &str, problem: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.database.try_psql(sql).as_deref() != Ok(wanted) {
            assert!(Instant::now() < deadline, "{problem}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A run on two connections that has brought in at least one split.
    fn until_a_split_is_in(&self) -> Child {
        let child = self.command(self.database.url(), &["--parallel", "2"]).spawn().unwrap();
        let first = "select exists (select from aqueduct.split where state = 'loaded')";
        self.wait_for(first, "t", "no split came in");
        child
    }

    fn has_key(&self) -> bool {
        has_key(&self.database)
    }

    /// Splits that are in; each has all its rows and rejects, each of the others none.
    fn splits_in(&self) -> u64 {
        self.settle();
        if self.database.psql("select to_regclass('aqueduct.split') is not null") == "f" {
            return 0;
        }
        let torn = "select count(*) from aqueduct.split s, lateral ( \
            select (select count(*) from public.event where _record >= first_record and _record < first_record + records) as rows, \
            (select count(*) from aqueduct.reject where record >= first_record and record < first_record + records) as rejects \
            ) found where case state when 'loaded' then rows <> loaded or rejects <> rejected or rows + rejects <> records \
            else rows + rejects > 0 end";
        if self.database.psql("select to_regclass('public.event') is not null") == "t" {
            assert_eq!(self.count(torn), 0, "a split is in or not at all");
        }
        self.count("select count(*) from aqueduct.split where state = 'loaded'")
    }

    fn assert_whole(&self) {
        let counted = "select count(*), count(distinct _record), count(distinct _load_id) from public.event";
        let rows = self.records - self.rejects;
        assert_eq!(self.database.psql(counted), format!("{rows}|{rows}|1"));
        assert_eq!(self.count("select count(*) from aqueduct.reject"), self.rejects);
        let states = "select string_agg(state || ' ' || records_read || ' ' || loaded || ' ' || rejected, ',') from aqueduct.load";
        assert_eq!(self.database.psql(states), format!("loaded {} {rows} {}", self.records, self.rejects));
        assert!(self.has_key(), "the key follows the rows");
        let verified = self.other(&["verify"]);
        assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    }
}

fn has_key(database: &TestDatabase) -> bool {
    database.psql("select contype from pg_constraint where conrelid = 'public.event'::regclass and contype = 'p'")
        == "p"
}

#[test]
fn killed_half_way_it_goes_on_with_the_splits_that_are_missing() {
    let case = Case::new(5);
    let started = Instant::now();
    let whole = case.run(&["--parallel", "2"]);
    let took = started.elapsed();
    assert!(whole.status.success(), "{}", text(&whole));
    case.assert_whole();
    let mut random = Random::new(20_261_126);
    let (mut resumed, mut verified) = (0, 0);
    for round in 0..8 {
        case.forget();
        let mut child = case.command(case.database.url(), &["--parallel", "2"]).spawn().unwrap();
        std::thread::sleep(took.mul_f64(random.below(1000) as f64 / 1000.0));
        child.kill().unwrap();
        child.wait().unwrap();
        let present = case.splits_in();
        let before = if present > 0 {
            case.database.psql("select split, finished_at from aqueduct.split where state = 'loaded' order by split")
        } else {
            String::new()
        };
        let loading = "select to_regclass('aqueduct.load') is not null \
                       and exists (select from aqueduct.load where state = 'loading')";
        let unfinished = present > 0 && case.database.psql(loading) == "t";
        if unfinished {
            // What is half there is said to be so, and is no difference.
            let found = case.other(&["verify"]);
            assert_eq!(found.status.code(), Some(0), "round {round}: {}", text(&found));
            assert!(text(&found).contains("not finished"), "{}", text(&found));
            verified += 1;
        }
        let flags: &[&str] = if round % 2 == 0 { &["--parallel", "3"] } else { &[] };
        let again = case.run(flags);
        assert!(again.status.success(), "round {round}: {}", text(&again));
        if unfinished {
            assert!(text(&again).contains(&format!(": {present} of ")), "round {round}: {}", text(&again));
            resumed += 1;
        }
        case.assert_whole();
        let kept = before.lines().map(|line| line.split('|').next().unwrap()).collect::<Vec<_>>().join(",");
        if !kept.is_empty() {
            let sql = format!("select split, finished_at from aqueduct.split where split in ({kept}) order by split");
            assert_eq!(case.database.psql(&sql), before, "a split that was in is not loaded again");
        }
    }
    assert!(resumed > 1 && verified > 1, "no kill came between the first split and the last: the test proves nothing");
}

#[test]
fn a_connection_cut_at_any_byte_leaves_splits_whole_and_the_next_run_ends_the_load() {
    let case = Case::new(3);
    let address = case.database.url().split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let proxy = Proxy::to(address.parse().unwrap());
    let url = proxy.url(case.database.url());
    assert!(case.command(&url, &["--parallel", "2"]).output().unwrap().status.success());
    let totals = [proxy.bytes(Direction::ToServer), proxy.bytes(Direction::ToClient)];
    let mut random = Random::new(11);
    for round in 0..8 {
        case.forget();
        let side = round % 2;
        proxy.pass();
        proxy.cut_after([Direction::ToServer, Direction::ToClient][side], random.below(totals[side]));
        let cut = case.command(&url, &["--parallel", "2"]).output().unwrap();
        assert!(matches!(cut.status.code(), Some(0 | 75)), "round {round}: {}", text(&cut));
        case.splits_in();
        let again = case.run(&["--parallel", "2"]);
        assert!(again.status.success(), "round {round}: {}", text(&again));
        case.assert_whole();
    }
    assert!(proxy.cuts() > 3);
}

#[test]
fn two_runners_racing_load_once() {
    let case = Case::new(2);
    for round in 0..4 {
        case.forget();
        let flags = [&["--parallel", "2"][..], if round % 2 == 0 { &["--parallel", "3"] } else { &[] }];
        let children = flags.map(|flags| case.command(case.database.url(), flags).spawn().unwrap());
        let outputs = children.map(|child| child.wait_with_output().unwrap());
        let mut codes = outputs.each_ref().map(|output| output.status.code().unwrap());
        codes.sort_unstable();
        let said = || outputs.iter().map(text).collect::<String>();
        assert!(codes == [0, 0] || codes == [0, 75], "round {round}: {codes:?}\n{}", said());
        case.assert_whole();
    }
}

#[test]
fn stopped_by_a_signal_it_says_what_stays() {
    let case = Case::new(10);
    let child = case.until_a_split_is_in();
    assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", text(&output));
    assert!(text(&output).contains("its splits that are in stay"), "{}", text(&output));
    let shown = case.other(&["show", "1"]);
    assert!(text(&shown).contains("splits in"), "{}", text(&shown));
    assert!(text(&case.other(&["loads", "--state", "loading"])).contains("loading"));
    assert!(case.splits_in() > 0);
    assert!(case.run(&["--parallel", "2"]).status.success());
    case.assert_whole();
}

#[test]
fn an_unfinished_load_can_be_undone_or_gives_way_to_new_bytes() {
    let case = Case::new(3);
    for changes in [false, true] {
        case.forget();
        let mut child = case.until_a_split_is_in();
        child.kill().unwrap();
        child.wait().unwrap();
        let present = case.splits_in();
        assert!(present > 0);
        if changes {
            std::fs::write(case.path("events.csv"), "id,amount,note\n1,2,new\n").unwrap();
            let again = case.run(&["--parallel", "2"]);
            assert!(again.status.success(), "{}", text(&again));
            assert_eq!(case.database.psql("select id, amount, note from public.event"), "1|2.00|new");
            assert_eq!(
                case.database.psql("select string_agg(state, ' ' order by id) from aqueduct.load"),
                "failed loaded"
            );
        } else {
            let undone = case.other(&["undo", "1"]);
            assert!(undone.status.success(), "{}", text(&undone));
            assert_eq!(case.count("select count(*) from public.event"), 0);
            assert_eq!(case.database.psql("select state from aqueduct.load"), "undone");
        }
        assert!(case.has_key());
        assert_eq!(case.other(&["verify"]).status.code(), Some(0));
    }
}

#[test]
fn an_unfinished_load_whose_table_is_gone_is_loaded_anew_on_request() {
    let case = Case::new(3);
    for table in ["", "create table public.event (id bigint)"] {
        case.forget();
        let mut child = case.until_a_split_is_in();
        child.kill().unwrap();
        child.wait().unwrap();
        case.settle();
        case.database.psql(&format!("drop table public.event; {table}"));
        let refused = case.run(&["--parallel", "2"]);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        case.database.psql("drop table if exists public.event");
        let again = case.run(&["--parallel", "2", "--reload"]);
        assert!(again.status.success(), "{}", text(&again));
        case.database.psql("delete from aqueduct.load where state = 'failed'");
        case.assert_whole();
    }
}

#[test]
fn killed_before_refused_rows_are_told_apart_the_next_run_does_it() {
    let case = Case::new(3);
    let mut csv = std::fs::read_to_string(case.path("events.csv")).unwrap();
    csv.push_str("1000000007,1,refused by a check\n");
    std::fs::write(case.path("events.csv"), &csv).unwrap();
    case.database.psql(
        "create table public.event (id bigint primary key check (id < 1000000000), amount numeric(12, 2), note text, \
         _load_id bigint, _record bigint)",
    );
    let address = case.database.url().split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let proxy = Proxy::to(address.parse().unwrap());
    let mut child = case.command(&proxy.url(case.database.url()), &["--parallel", "2"]).spawn().unwrap();
    let taken_back = "select exists (select from aqueduct.load where state = 'failed')";
    case.wait_for(taken_back, "t", "no split met the refused row");
    proxy.stall(Direction::ToServer);
    child.kill().unwrap();
    child.wait().unwrap();
    proxy.pass();
    case.settle();
    assert_eq!(case.database.psql("select string_agg(state, ' ') from aqueduct.load"), "failed");
    let again = case.run(&[]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert_eq!(case.count("select count(*) from public.event"), case.records - case.rejects);
    let set_aside = "select count(*) from aqueduct.reject where code = 'constraint-error' and record = ";
    assert_eq!(case.count(&format!("{set_aside}{}", case.records + 1)), 1);
}

#[test]
fn what_fails_for_good_takes_its_rows_back() {
    let case = Case::new(3);
    // A key twice, far apart: another split than the first one's.
    let mut csv = std::fs::read_to_string(case.path("events.csv")).unwrap();
    let good = csv.clone();
    csv.push_str("7,1,again\n");
    std::fs::write(case.path("events.csv"), &csv).unwrap();
    let strict = PIPELINE.replace("table = \"public.event\"", "table = \"public.event\"\nconflict = \"fail\"");
    std::fs::write(case.path("events.toml"), strict).unwrap();
    let refused = case.run(&["--parallel", "2"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("event_pkey"), "{}", text(&refused));
    case.settle();
    assert_eq!(case.count("select count(*) from public.event"), 0);
    assert_eq!(case.database.psql("select state, loaded from aqueduct.load"), "failed|0");
    assert_eq!(case.count("select count(*) from aqueduct.split"), 0);
    assert_eq!(
        case.count("select count(*) from aqueduct.reject"),
        100,
        "a failed load keeps its first hundred rejects"
    );
    assert_eq!(case.other(&["verify"]).status.code(), Some(0));

    // Into the table that is there now, with its key, the clash stops a split.
    std::fs::write(case.path("events.csv"), csv + "8,1,again\n").unwrap();
    let refused = case.run(&["--parallel", "2"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    case.settle();
    assert_eq!(case.count("select count(*) from public.event"), 0);

    let limited = PIPELINE.replace("rows = 1000000", "rows = 60");
    std::fs::write(case.path("events.csv"), &good).unwrap();
    std::fs::write(case.path("events.toml"), limited).unwrap();
    let rejected = case.run(&["--parallel", "2"]);
    assert_eq!(rejected.status.code(), Some(3), "{}", text(&rejected));
    case.settle();
    assert_eq!(case.count("select count(*) from public.event"), 0);

    std::fs::write(case.path("events.toml"), PIPELINE).unwrap();
    assert!(case.run(&["--parallel", "2"]).status.success());
    case.database.psql(
        "delete from aqueduct.reject where load_id in (select id from aqueduct.load where state = 'failed'); \
                        delete from aqueduct.load where state = 'failed'",
    );
    case.assert_whole();
}

#[test]
fn parallel_is_refused_where_splits_could_not_be_taken_back() {
    let case = Case::new(0);
    std::fs::write(case.path("events.csv"), "id,amount,note\n1,2,x\n").unwrap();
    for (pipeline, why) in [
        (PIPELINE.replace("[errors]", "lineage = false\n[errors]"), "lineage"),
        (PIPELINE.replace("[errors]", "mode = \"replace\"\n[errors]"), "mode"),
    ] {
        std::fs::write(case.path("events.toml"), pipeline).unwrap();
        let refused = case.run(&["--parallel", "2"]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
        assert!(text(&refused).contains(why), "{}", text(&refused));
    }
    std::fs::write(case.path("events.toml"), PIPELINE).unwrap();
    let sqlite = format!("sqlite:{}", case.path("w.db").display());
    let refused = case.command(&sqlite, &["--parallel", "2"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    // What is too small to be split is loaded whole.
    assert!(case.run(&["--parallel", "2"]).status.success());
    assert_eq!(case.database.psql("select id, amount, note from public.event"), "1|2.00|x");
}

#[test]
fn an_object_of_a_bucket_is_read_in_parts() {
    let case = Case::new(3);
    let aws = Aws::shared();
    let bucket = aws.bucket();
    aws.put_object(&bucket, "events.csv", &std::fs::read(case.path("events.csv")).unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
    command.args(["run", "--parallel", "2"]).arg(case.path("events.toml")).current_dir(case.folder.path());
    command.envs(aws.env()).env("AQUEDUCT_STORE", format!("s3://{bucket}"));
    command.env("DATABASE_URL", case.database.url()).env_remove("DATABASE_SECRET");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(case.count("select count(*) from aqueduct.split where state = 'loaded'") >= 3);
    let rows = case.records - case.rejects;
    assert_eq!(case.count("select count(distinct _record) from public.event"), rows);
    let stored = case.database.psql("select content_sha256 from aqueduct.load");
    assert_eq!(stored, sha256(&case.path("events.csv")));
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}
