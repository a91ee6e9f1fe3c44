//! A load is whole or not there at all, whatever ends it.
//!
//! The binary runs as people run it; the judge is PostgreSQL itself, asked by psql.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testkit::{Direction, Postgres, PostgresOptions, Proxy, Random, TestDatabase};

use crate::text;

const PIPELINE: &str = r#"
version = 1
name = "events"
[source]
path = "*.csv"
[dialect]
delimiter = ","
[schema]
primaryKey = ["id"]
fields = [
  { name = "id", type = "integer" },
  { name = "amount", type = "number", precision = [12, 2] },
  { name = "note", type = "string" },
]
[target]
table = "public.event"
[errors]
limit = { rows = 100000, percent = 50.0 }
"#;

struct Case {
    folder: tempfile::TempDir,
    database: TestDatabase,
    records: u64,
    rejects: u64,
}

impl Case {
    /// `records` records, one in a hundred with a bad amount.
    fn new(records: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut csv = String::from("id,amount,note\n");
        let mut rejects = 0;
        for id in 1..=records {
            let bad = id % 100 == 0;
            rejects += u64::from(bad);
            let amount = if bad { "12O.50".into() } else { format!("{}.{:02}", id * 7, id % 100) };
            csv.push_str(&format!("{id},{amount},\"some text, that is quoted {id}\"\n"));
        }
        std::fs::write(folder.path().join("events.csv"), csv).unwrap();
        std::fs::write(folder.path().join("events.toml"), PIPELINE).unwrap();
        Self { folder, database: Postgres::database(), records, rejects }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, url: &str) -> Command {
        self.command_for(url, "events.csv")
    }

    fn command_for(&self, url: &str, object: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.arg("run").arg(self.path("events.toml")).arg(self.path(object));
        command.env("DATABASE_URL", url).env_remove("DATABASE_SECRET").current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self) -> Output {
        self.command(self.database.url()).output().unwrap()
    }

    /// Waits until the server has noticed that the last client is gone.
    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let others = "select count(*) from pg_stat_activity where application_name = 'aqueduct' \
                      and datname = current_database()";
        while self.database.psql(others) != "0" {
            assert!(Instant::now() < deadline, "the server still has a session of a dead client");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn table_exists(&self) -> bool {
        self.database.psql("select to_regclass('public.event') is not null") == "t"
    }

    fn count(&self, sql: &str) -> u64 {
        self.database.psql(sql).parse().unwrap()
    }

    /// Nothing of a load, or all of it; nothing left behind.
    fn assert_all_or_nothing(&self) -> bool {
        self.settle();
        let ledger = self.database.psql("select to_regclass('aqueduct.load') is not null") == "t";
        let live = if ledger { self.count("select count(*) from aqueduct.load where state = 'loaded'") } else { 0 };
        let rows = if self.table_exists() { self.count("select count(*) from public.event") } else { 0 };
        let rejects = if ledger {
            let of_live =
                "select count(*) from aqueduct.reject join aqueduct.load on id = load_id where state = 'loaded'";
            self.count(of_live)
        } else {
            0
        };
        match live {
            0 => assert_eq!((rows, rejects), (0, 0), "no live load, so neither rows nor rejects"),
            1 => {
                assert_eq!((rows, rejects), (self.records - self.rejects, self.rejects));
                let balance = "select count(*) from aqueduct.load where state = 'loaded' \
                               and records_read = loaded + rejected + filtered + duplicates";
                assert_eq!(self.count(balance), 1);
                let told_apart = "select count(distinct _record) from public.event";
                assert_eq!(self.count(told_apart), rows, "each record is one row");
            }
            more => panic!("{more} live loads of one object"),
        }
        assert_eq!(self.database.psql("select count(*) from pg_prepared_xacts"), "0");
        if ledger {
            assert_eq!(self.count("select count(*) from aqueduct.load where state = 'loading'"), 0);
        }
        live == 1
    }
}

#[test]
fn killed_at_any_time_a_load_is_all_there_or_not_at_all() {
    let case = Case::new(60_000);
    let mut random = Random::new(20_261_120);
    // How long an undisturbed load takes here, so that kills fall all over it.
    let started = Instant::now();
    assert!(case.run().status.success());
    let whole = started.elapsed();
    assert!(case.assert_all_or_nothing());

    let mut unfinished = 0;
    for round in 0..25 {
        case.database.psql("drop table if exists public.event; drop schema if exists aqueduct cascade");
        let mut child = case.command(case.database.url()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(random.below(1000) as f64 / 1000.0));
        child.kill().unwrap();
        child.wait().unwrap();
        if !case.assert_all_or_nothing() {
            unfinished += 1;
        }
        // The next run brings the table to where one undisturbed run would have.
        let again = case.run();
        assert!(again.status.success(), "round {round}: {}", text(&again));
        assert!(case.assert_all_or_nothing(), "round {round}");
    }
    assert!(unfinished > 0, "no kill came before the commit: the test proves nothing");
}

#[test]
fn two_runners_racing_load_once() {
    let case = Case::new(20_000);
    for round in 0..8 {
        case.database.psql("drop table if exists public.event; drop schema if exists aqueduct cascade");
        let children: Vec<_> = (0..2).map(|_| case.command(case.database.url()).spawn().unwrap()).collect();
        let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let mut codes: Vec<_> = outputs.iter().map(|output| output.status.code().unwrap()).collect();
        codes.sort_unstable();
        let said = || outputs.iter().map(text).collect::<String>();
        assert!(codes == [0, 0] || codes == [0, 75], "round {round}: {codes:?}\n{}", said());
        assert!(case.assert_all_or_nothing(), "round {round}\n{}", said());
    }
}

#[test]
fn two_runners_that_both_have_to_make_the_table_load_both_objects() {
    let case = Case::new(5_000);
    let lines: String = (10_001..=15_000).map(|id| format!("{id},1,\"text\"\n")).collect();
    std::fs::write(case.path("others.csv"), format!("id,amount,note\n{lines}")).unwrap();
    let rows = [case.records - case.rejects, 5_000];
    let objects = ["events.csv", "others.csv"];
    for round in 0..8 {
        case.database.psql("drop table if exists public.event; drop schema if exists aqueduct cascade");
        let children = objects.map(|object| case.command_for(case.database.url(), object).spawn().unwrap());
        let outputs = children.map(|child| child.wait_with_output().unwrap());
        let said = || outputs.iter().map(text).collect::<String>();
        let codes = outputs.each_ref().map(|output| output.status.code().unwrap());
        assert!(codes.contains(&0) && codes.iter().all(|code| [0, 75].contains(code)), "{codes:?}\n{}", said());
        case.settle();
        let loaded: u64 = codes.iter().zip(rows).map(|(code, rows)| if *code == 0 { rows } else { 0 }).sum();
        assert_eq!(case.count("select count(*) from public.event"), loaded, "round {round}: {codes:?}\n{}", said());
        for object in objects {
            let again = case.command_for(case.database.url(), object).output().unwrap();
            assert!(again.status.success(), "round {round}: {}", text(&again));
        }
        let told_apart = "select count(distinct (_load_id, _record)) from public.event";
        assert_eq!(case.count(told_apart), rows.iter().sum::<u64>(), "round {round}");
        assert_eq!(case.database.psql("select string_agg(state, ' ') from aqueduct.load"), "loaded loaded");
    }
}

#[test]
fn a_connection_cut_at_any_byte_leaves_nothing_and_can_be_run_again() {
    let case = Case::new(20_000);
    let address = case.database.url().split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let proxy = Proxy::to(address.parse().unwrap());
    let url = proxy.url(case.database.url());
    // One undisturbed load tells how many bytes go each way.
    assert!(case.command(&url).output().unwrap().status.success());
    let sent = proxy.bytes(Direction::ToServer);
    let answered = proxy.bytes(Direction::ToClient);
    let mut random = Random::new(7);
    for round in 0..24 {
        case.database.psql("drop table if exists public.event; drop schema if exists aqueduct cascade");
        let (direction, total) =
            if round % 2 == 0 { (Direction::ToServer, sent) } else { (Direction::ToClient, answered) };
        proxy.pass();
        proxy.cut_after(direction, random.below(total));
        let cut = case.command(&url).output().unwrap();
        let code = cut.status.code().unwrap();
        assert!(matches!(code, 0 | 75), "round {round}: {}", text(&cut));
        let loaded = case.assert_all_or_nothing();
        assert!(code != 0 || loaded, "round {round}: the run said it loaded\n{}", text(&cut));
        let again = case.run();
        assert!(again.status.success(), "round {round}: {}", text(&again));
        assert!(case.assert_all_or_nothing(), "round {round}");
    }
    assert!(proxy.cuts() > 12);
}

#[test]
fn with_patience_a_run_gets_through_cuts_and_a_restart_of_the_server() {
    let mut server = Postgres::private(PostgresOptions::default());
    let database = server.create_database();
    let case = Case { database, ..Case::new(60_000) };
    let proxy = Proxy::to(server.address());
    let url = proxy.url(case.database.url());
    let mut random = Random::new(21);
    for round in 0..8 {
        case.database.psql("drop table if exists public.event; drop schema if exists aqueduct cascade");
        proxy.pass();
        if round % 2 == 0 {
            proxy.cut_after(Direction::ToServer, random.below(3_000_000));
        } else {
            // Answers are short: many of these fall before the load, between its statements, and around its commit.
            proxy.cut_after(Direction::ToClient, random.below(4_000));
        }
        let cuts = proxy.cuts();
        let child = case.command(&url).args(["--retry-for", "120s"]).spawn().unwrap();
        if round >= 6 {
            let deadline = Instant::now() + Duration::from_secs(30);
            while proxy.cuts() == cuts && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            server.kill_immediate();
            std::thread::sleep(Duration::from_millis(500));
            server.start();
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "round {round}: {}", text(&output));
        assert!(proxy.cuts() == cuts || text(&output).contains("trying again in"), "{}", text(&output));
        assert!(case.assert_all_or_nothing(), "round {round}: {}", text(&output));
    }
    assert!(proxy.cuts() >= 6, "{} cuts prove little", proxy.cuts());
}

#[test]
fn patience_ends_and_the_code_stays() {
    let case = Case::new(1);
    let began = Instant::now();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://postgres:p@{nobody}/none");
    let output = case.command(&url).args(["--retry-for", "1s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", text(&output));
    assert!(text(&output).matches("trying again in").count() >= 2, "{}", text(&output));
    assert!(began.elapsed() >= Duration::from_secs(1));

    // Somebody is there and hangs up, as a server that is stopping does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://postgres:p@{}/none", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let output = case.command(&url).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", text(&output));
}

#[test]
fn stopped_by_a_signal_it_says_so_and_leaves_nothing() {
    let case = Case::new(150_000);
    let address = case.database.url().split('@').nth(1).unwrap().split('/').next().unwrap();
    let proxy = Proxy::to(address.parse().unwrap());
    // A load of this size is over before anybody can look.
    proxy.delay(Duration::from_millis(20));
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        wait_while(&case, "1", "the load before has not ended");
        let child = case.command(&proxy.url(case.database.url())).spawn().unwrap();
        wait_while(&case, "0", "no COPY began");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(!case.assert_all_or_nothing());
    }
    assert!(case.run().status.success());
    assert!(case.assert_all_or_nothing());
}

fn wait_while(case: &Case, copies: &str, problem: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let copying = "select count(*) from pg_stat_activity where query like 'copy %' and state = 'active' \
                   and datname = current_database() and pid <> pg_backend_pid()";
    while case.database.psql(copying) == copies {
        assert!(Instant::now() < deadline, "{problem}");
    }
}

/// What a table holds, and in which order it was written does not matter.
fn dump(database: &TestDatabase) -> String {
    database.psql("select id, amount, note, _record from public.event order by id")
}

#[test]
fn what_survives_a_crash_is_what_an_undisturbed_run_gives() {
    let case = Case::new(5_000);
    assert!(case.run().status.success());
    let undisturbed = dump(&case.database);
    case.database.psql("drop table public.event; drop schema aqueduct cascade");
    let mut child = case.command(case.database.url()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    child.kill().unwrap();
    child.wait().unwrap();
    case.settle();
    assert!(case.run().status.success());
    assert_eq!(dump(&case.database), undisturbed);
}

#[test]
fn a_second_run_changes_nothing() {
    let case = Case::new(1_000);
    assert!(case.run().status.success());
    let before = (dump(&case.database), case.database.psql("select * from aqueduct.load"));
    let again = case.run();
    assert!(again.status.success());
    assert!(text(&again).contains("already loaded"), "{}", text(&again));
    assert_eq!((dump(&case.database), case.database.psql("select * from aqueduct.load")), before);
}
