//! Behind a transaction pooler, where each transaction may meet another session.

use std::process::{Child, Command, Output, Stdio};

use testkit::{Pooler, Postgres, PostgresOptions};

use crate::text;

const FIELDS: &str = "{ name = \"id\", type = \"integer\" }, { name = \"note\", type = \"string\" }";

fn pipeline(name: &str, mode: &str) -> String {
    format!(
        "version = 1\nname = \"{name}\"\n[source]\npath = \"{name}/*.csv\"\n[schema]\nprimaryKey = [\"id\"]\n\
         fields = [{FIELDS}]\n[target]\nmode = \"{mode}\"\n"
    )
}

#[test]
fn any_number_of_runners_share_few_sessions_and_load_once() {
    let server = Postgres::private(PostgresOptions::default());
    let database = server.create_database();
    let pooler = Pooler::to(server.address(), 3);
    let url = pooler.url(database.url());
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in [("event", "append"), ("price", "upsert")] {
        std::fs::create_dir_all(folder.path().join("store").join(name)).unwrap();
        std::fs::write(folder.path().join(format!("{name}.toml")), pipeline(name, mode)).unwrap();
        for object in 0..6_u64 {
            // Rows that the pipeline and the table refuse: staging tables and savepoints, too.
            let base = if name == "event" { object * 10_000 } else { 0 };
            let row = |n: u64| match n {
                500 => format!("{base},twice\n"),
                700 => "no number,x\n".to_owned(),
                _ => format!("{},of {object}\n", base + n),
            };
            let rows: String = (0..3_000).map(row).collect();
            let path = folder.path().join(format!("store/{name}/{object}.csv"));
            std::fs::write(path, format!("id,note\n{rows}")).unwrap();
        }
    }
    let etl_runner = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.current_dir(folder.path()).env("DATABASE_URL", &url).env("AQUEDUCT_STORE", "store").args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let ends = |child: Child| -> Output { child.wait_with_output().unwrap() };
    // The ledger is made by one of them, too.
    let runners: Vec<Child> = (0..8)
        .map(|runner| {
            let files = if runner % 2 == 0 { ["event.toml", "price.toml"] } else { ["price.toml", "event.toml"] };
            etl_runner(&["run", files[0], files[1], "--retry-for", "90s"]).spawn().unwrap()
        })
        .collect();
    for output in runners.into_iter().map(ends) {
        assert!(matches!(output.status.code(), Some(0 | 5 | 75)), "{}", text(&output));
    }
    let output = etl_runner(&["run", "event.toml", "price.toml", "--retry-for", "90s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let events = "select count(*), count(distinct id), count(distinct _load_id) from event";
    assert_eq!(database.psql(events), "17988|17988|6");
    // Of each object's key 0 the last record counts, and all of it is the last object's.
    assert_eq!(
        database.psql("select count(*), min(note), max(note) from price where note <> 'twice'"),
        "2997|of 5|of 5"
    );
    let live = "select table_name, count(*), sum(records_read), sum(loaded), sum(rejected), sum(duplicates) \
                from aqueduct.load where state = 'loaded' group by table_name order by table_name";
    assert_eq!(database.psql(live), "event|6|18000|17988|12|0\nprice|6|18000|17988|6|6");
    let verified = etl_runner(&["verify"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));

    // What comes later goes the same way.
    let output = etl_runner(&["rejects", "export", "-o", "rejects.csv"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let load = database.psql("select min(id) from aqueduct.load where state = 'loaded' and table_name = 'event'");
    let mended = format!("load,record,raw\n{load},701,\"99999999,mended\"\n");
    std::fs::write(folder.path().join("mended.csv"), mended).unwrap();
    for arguments in [&["rejects", "replay", "event.toml", "mended.csv"][..], &["undo", &load], &["verify"]] {
        let output = etl_runner(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
    }
    // In whichever of its sessions.
    for _ in 0..6 {
        let left = "select count(*) from pg_prepared_statements";
        let output = Command::new("psql").args(["-X", "-At", "-d", &url, "-c", left]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{}", text(&output));
    }
    let idle = "select count(*) from pg_stat_activity where state like 'idle in transaction%'";
    assert_eq!(database.psql(idle), "0");
}

#[test]
fn splits_go_through_a_pooler_that_has_sessions_for_them() {
    let server = Postgres::private(PostgresOptions::default());
    let database = server.create_database();
    let pooler = Pooler::to(server.address(), 6);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("event.toml"), pipeline("event", "append")).unwrap();
    let filler = "x".repeat(100);
    let rows: String = (0..250_000).map(|id| format!("{id},{filler}\n")).collect();
    std::fs::write(folder.path().join("event.csv"), format!("id,note\n{rows}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
    command.current_dir(folder.path()).env("DATABASE_URL", pooler.url(database.url()));
    let output = command.args(["run", "event.toml", "event.csv", "--parallel", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(database.psql("select count(*), count(distinct _record) from event"), "250000|250000");
    assert_eq!(database.psql("select (note ->> 'splits')::int > 2 from aqueduct.load"), "t");
}
