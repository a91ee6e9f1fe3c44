//! A disk that is full: the load fails and leaves nothing, and goes through once there is room.

use std::process::{Command, Output};

use testkit::{Postgres, PostgresOptions};

use crate::exact::{EVENT, Folder, ID_AND_NOTE, pipeline, sqlite_lines};
use crate::text;

fn rows(count: u64) -> String {
    let filler = "x".repeat(200);
    let rows: String = (0..count).map(|id| format!("{id},{filler}\n")).collect();
    format!("id,note\n{rows}")
}

#[test]
fn a_server_without_room_takes_nothing_and_everything_later() {
    let server = Postgres::private(PostgresOptions::default());
    for mode in ["append", "upsert"] {
        let database = server.create_database();
        database.psql(EVENT);
        let folder = Folder::new(&pipeline(ID_AND_NOTE, true, &format!("mode = \"{mode}\"")), &rows(100_000));
        // In the middle of a page: the server then says that the disk is full, and not something else.
        server.limit_files(Some(17 * 1024 * 1024 + 4096));
        let output = folder.run(database.url(), &[]);
        assert_eq!(output.status.code(), Some(1), "{mode}: {}", text(&output));
        // From 16 on the server makes room in larger pieces, and has no code of its own for this limit.
        let said = text(&output);
        assert!(said.contains("disk is full (SQLSTATE 53100)") || said.contains("(SQLSTATE XX000)"), "{mode}: {said}");
        // Recorded, and tried again: the disk is not the object's fault.
        let left =
            "select (select count(*) from event), string_agg(state || ' ' || permanent, ', ') from aqueduct.load";
        assert_eq!(database.psql(left), "0|failed false", "{mode}");
        server.limit_files(None);
        let output = folder.run(database.url(), &[]);
        assert_eq!(output.status.code(), Some(0), "{mode}: {}", text(&output));
        assert_eq!(database.psql("select count(*), sum(length(note)) from event"), "100000|20000000", "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_database_without_room_takes_nothing_and_everything_later() {
    for mode in ["append", "upsert"] {
        let folder =
            Folder::new(&pipeline(ID_AND_NOTE, true, &format!("mode = \"{mode}\"")), "id,note\n-1,there before\n");
        let run = |limit: &str| -> Output {
            // Without the trap the kernel would end the process: that is the test with kill -9.
            let line = format!("trap '' XFSZ; exec prlimit --fsize={limit} \"$0\" run events.toml events.csv");
            let mut command = Command::new("sh");
            command.current_dir(folder.folder.path()).env("DATABASE_URL", "sqlite:warehouse.db");
            command.args(["-c", &line, env!("CARGO_BIN_EXE_etl-runner")]).output().unwrap()
        };
        assert!(run("unlimited").status.success());
        std::fs::write(folder.path("events.csv"), rows(20_000)).unwrap();
        let output = run("2000000");
        assert!(matches!(output.status.code(), Some(1 | 75)), "{mode}: {}", text(&output));
        let path = folder.path("warehouse.db");
        assert_eq!(sqlite_lines(&path, "select note from event").await, ["there before"], "{mode}");
        let output = run("unlimited");
        assert_eq!(output.status.code(), Some(0), "{mode}: {}", text(&output));
        let count = "select count(*) || ' ' || sum(length(note)) from event where note <> 'there before'";
        assert_eq!(sqlite_lines(&path, count).await, ["20000 4000000"], "{mode}");
    }
}
