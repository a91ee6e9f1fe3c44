//! Rejects that are mended come in as if they had been right from the beginning.
//!
//! The oracle: the object with the same records mended, loaded into another database.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use testkit::{Postgres, TestDatabase};

use crate::exact::sqlite_lines;
use crate::text;

const FIELDS: &str = "{ name = \"id\", type = \"integer\" }, { name = \"name\", type = \"string\" }, \
                      { name = \"born\", type = \"date\" }, { name = \"note\", type = \"string\" }";

const ROWS: &str = "select id, name, born, note, _record from person order by id";

fn pipeline(more: &str) -> String {
    format!(
        "version = 1\nname = \"people\"\n[source]\npath = \"*.csv\"\n{more}\n[schema]\nprimaryKey = [\"id\"]\n\
         fields = [{FIELDS}]\n[target]\ntable = \"person\"\n[errors]\nlimit = {{ rows = 1000000 }}\n"
    )
}

/// A folder with a pipeline, objects and a database.
struct Room {
    folder: tempfile::TempDir,
    database: TestDatabase,
}

impl Room {
    fn new(pipeline: &str) -> Self {
        let room = Self { folder: tempfile::tempdir().unwrap(), database: Postgres::database() };
        std::fs::write(room.path("people.toml"), pipeline).unwrap();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.current_dir(self.folder.path()).env("DATABASE_URL", self.database.url());
        command.args(line.split_whitespace());
        command
    }

    /// Runs a command that must end with this code; gives what it said.
    fn run(&self, line: &str, code: i32) -> String {
        let output = self.command(line).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output));
        text(&output)
    }

    /// Exports the rejects as CSV, lets `mend` change the cells `record` and `raw` of each, and writes them back.
    fn mend(&self, mend: impl Fn(&str, &str) -> Option<String>) {
        self.run("rejects export -o rejects.csv", 0);
        let mut reader = csv::Reader::from_path(self.path("rejects.csv")).unwrap();
        let header = reader.headers().unwrap().clone();
        let place = |name: &str| header.iter().position(|label| label == name).unwrap();
        let mut writer = csv::Writer::from_path(self.path("mended.csv")).unwrap();
        writer.write_record(&header).unwrap();
        for record in reader.records() {
            let mut cells: Vec<String> = record.unwrap().iter().map(str::to_owned).collect();
            let Some(raw) = mend(&cells[place("record")], &cells[place("raw")]) else { continue };
            cells[place("raw")] = raw;
            writer.write_record(&cells).unwrap();
        }
        writer.flush().unwrap();
    }

    /// The number of the first load that stands.
    fn load(&self) -> String {
        self.database.psql("select min(id) from aqueduct.load where state = 'loaded'")
    }

    fn rejects(&self) -> String {
        self.database.psql("select string_agg(record::text, ' ' order by record) from aqueduct.reject")
    }

    fn counts(&self) -> String {
        self.database.psql(
            "select string_agg(records_read || ' ' || loaded || ' ' || rejected, ', ' order by id) from aqueduct.load",
        )
    }
}

const WRONG: &str = "id,name,born,note\n1,Ada,1815-12-10,first\n2,Bob,yesterday,x\n1,Cleo,1990-01-01,twice\n\
                     four,Dora,1991-01-01,\"two\nlines\"\n5,Eve,1992-01-01,last\n";
const RIGHT: &str = "id,name,born,note\n1,Ada,1815-12-10,first\n2,Bob,1989-01-01,x\n3,Cleo,1990-01-01,twice\n\
                     4,Dora,1991-01-01,\"two\nlines\"\n5,Eve,1992-01-01,last\n";

fn mended(_: &str, raw: &str) -> Option<String> {
    Some(raw.replace("yesterday", "1989-01-01").replace("1,Cleo", "3,Cleo").replace("four", "4"))
}

#[test]
fn mended_rejects_leave_what_a_mended_object_would_have_left() {
    let (room, oracle) = (Room::new(&pipeline("")), Room::new(&pipeline("")));
    oracle.write("people.csv", RIGHT);
    oracle.run("run people.toml people.csv", 0);
    room.write("people.csv", WRONG);
    room.run("run people.toml people.csv", 0);
    assert_eq!((room.rejects(), room.counts()), ("2 3 4".into(), "5 2 3".into()));

    let load = room.load();
    room.mend(mended);
    let said = room.run("rejects replay people.toml mended.csv", 0);
    assert!(said.contains(&format!("load {load}: people.csv → public.person: 3 records replayed")), "{said}");
    assert_eq!(room.database.psql(ROWS), oracle.database.psql(ROWS));
    assert_eq!((room.rejects(), room.counts()), (String::new(), "5 5 0".into()));
    room.run("verify", 0);
    assert!(room.run(&format!("show {load}"), 0).contains("replayed       3"));

    // Doing it again changes nothing.
    let said = room.run("rejects replay people.toml mended.csv", 0);
    assert!(said.contains("0 records replayed, 3 not among its rejects, or no longer"), "{said}");
    assert_eq!(room.counts(), "5 5 0");
    assert!(room.run("rejects replay people.toml", 0).contains("no rejects"));

    // They go with their load.
    assert!(room.run(&format!("undo {load}"), 0).contains("5 rows deleted"));
    let said = room.run("rejects replay people.toml mended.csv", 1);
    assert!(said.contains("cannot be replayed: it is undone"), "{said}");
    assert_eq!(room.database.psql("select count(*) from person"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_replays_the_same() {
    let room = Room::new(&pipeline(""));
    let sqlite = |line: &str, code: i32| {
        let output = room.command(line).env("DATABASE_URL", "sqlite:people.db").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output));
        text(&output)
    };
    room.write("people.csv", WRONG);
    sqlite("run people.toml people.csv", 0);
    sqlite("rejects export --format jsonl -o rejects.jsonl", 0);
    let exported = std::fs::read_to_string(room.path("rejects.jsonl")).unwrap();
    // One of the three stays wrong.
    let changed = mended("", &exported).unwrap().replace("1989-01-01", "the day before");
    room.write("mended.jsonl", format!("{changed}\n"));
    let said = sqlite("rejects replay people.toml mended.jsonl", 3);
    assert!(said.contains("2 records replayed, 1 still refused") && said.contains("people.csv:3"), "{said}");
    assert!(!said.contains("the day before"), "a value is shown: {said}");
    sqlite("verify", 0);
    room.write("mended.jsonl", mended("", &exported).unwrap());
    let said = sqlite("rejects replay people.toml mended.jsonl", 0);
    assert!(said.contains("1 record replayed, 2 not among its rejects"), "{said}");
    sqlite("verify", 0);
    let (path, all) = (room.path("people.db"), "select id || name || born || note || _record from person order by id");
    assert_eq!(
        sqlite_lines(&path, all).await,
        [
            "1Ada1815-12-10first1",
            "2Bob1989-01-01x2",
            "3Cleo1990-01-01twice3",
            "4Dora1991-01-01two\nlines4",
            "5Eve1992-01-01last5"
        ]
    );
}

#[test]
fn objects_of_any_encoding_and_dialect_are_mended_as_text() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let latin = |text: &str| text.chars().map(|c| u8::try_from(c as u32).unwrap()).collect::<Vec<u8>>();
    let object = "id;name;born;note\n1;Zoë;yesterday;Ã©\n2;Bøb;1990-01-01;x\n3;Cléo;1990-01-01\n";
    for (encoding, bytes) in [
        ("utf-8", object.as_bytes().to_vec()),
        ("windows-1252", latin(object)),
        ("utf-16le", [vec![0xFF, 0xFE], utf16(object)].concat()),
    ] {
        // The delimiter is guessed.
        let room = Room::new(&pipeline(&format!("encoding = \"{encoding}\"")));
        room.write("people.csv", bytes);
        room.run("run people.toml people.csv", 0);
        assert_eq!(room.rejects(), "1 3", "{encoding}");
        room.mend(|record, raw| {
            assert!(raw.contains(if record == "1" { "Zoë" } else { "Cléo" }), "{encoding}: {raw}");
            Some(if record == "1" { raw.replace("yesterday", "1989-01-01") } else { format!("{raw};“ŝ”") })
        });
        room.run("rejects replay people.toml mended.csv", 0);
        let rows = room.database.psql(ROWS);
        assert_eq!(rows, "1|Zoë|1989-01-01|Ã©|1\n2|Bøb|1990-01-01|x|2\n3|Cléo|1990-01-01|“ŝ”|3", "{encoding}");
        room.run("verify", 0);
    }
}

#[test]
fn without_a_file_the_records_come_in_as_they_were_under_a_mended_pipeline() {
    let room = Room::new(&pipeline(""));
    room.write("people.csv", "id,name,born,note\n1,Ada,31.12.1815,a\n2,Bob,1990-01-01,b\n3,Cleo,1/2/1990,c\n");
    room.run("run people.toml people.csv", 0);
    assert!(room.run("rejects replay people.toml", 3).contains("0 records replayed, 2 still refused"));
    assert_eq!((room.rejects(), room.counts()), ("1 3".into(), "3 1 2".into()));
    let lenient = pipeline("").replace("type = \"date\"", "type = \"date\", format = \"%d.%m.%Y\"");
    room.write("people.toml", &lenient);
    let said = room.run("rejects replay people.toml --load 1", 3);
    assert!(said.contains("1 record replayed, 1 still refused"), "{said}");
    assert_eq!(room.database.psql(ROWS), "1|Ada|1815-12-31|a|1\n2|Bob|1990-01-01|b|2");
    room.run("verify", 0);
}

#[test]
fn what_the_table_refuses_stays_a_reject() {
    let room = Room::new(&pipeline(""));
    room.database.psql(
        "create table person (id bigint primary key, name text check (name <> 'Nobody'), born date, note text, \
         _load_id bigint, _record bigint)",
    );
    room.write("people.csv", "id,name,born,note\n1,Ada,x,a\n2,Bob,1990-01-01,b\n3,Cleo,x,c\n4,Dora,x,d\n");
    room.run("run people.toml people.csv", 0);
    room.mend(|record, raw| {
        let raw = raw.replace(",x,", ",1990-01-01,");
        Some(if record == "1" { raw.replace("1,Ada", "2,Ada") } else { raw.replace("Cleo", "Nobody") })
    });
    let said = room.run("rejects replay people.toml mended.csv", 3);
    assert!(said.contains("1 record replayed, 2 still refused"), "{said}");
    assert!(said.contains("people.csv:2: id: the table has the key already"), "{said}");
    assert!(said.contains("people.csv:4: name: refused by the table's check"), "{said}");
    assert_eq!((room.rejects(), room.counts()), ("1 3".into(), "4 2 2".into()));
    // The ledger says why they were refused at first, with the bytes of the object.
    let kept = "select string_agg(code || ' ' || encode(raw, 'escape'), ', ' order by record) from aqueduct.reject";
    assert_eq!(room.database.psql(kept), "type-error 1,Ada,x,a, type-error 3,Cleo,x,c");
    room.run("verify", 0);
}

#[test]
fn one_record_takes_the_place_of_one() {
    let room = Room::new(&pipeline(""));
    room.write("people.csv", "id,name,born,note\n1,Ada,x,a\n2,Bob,x,b\n3,Cleo,x,c\n4,Dora,x,d\n");
    room.run("run people.toml people.csv", 0);
    room.mend(|record, _| {
        Some(match record {
            "1" => "1,Ada,1990-01-01,a\n9,Extra,1990-01-01,z".into(),
            "2" => String::new(),
            "3" => "3,Cleo,1990-01-01,\"a\nnote\"\r\n".into(),
            _ => "4,Dora,1990-01-01,\"never closed".into(),
        })
    });
    let said = room.run("rejects replay people.toml mended.csv", 3);
    assert!(said.contains("1 record replayed, 3 still refused"), "{said}");
    assert_eq!(said.matches("not exactly one record").count(), 2, "{said}");
    assert_eq!(room.database.psql(ROWS), "3|Cleo|1990-01-01|a\nnote|3");
    assert_eq!(room.rejects(), "1 2 4");
}

#[test]
fn the_beginning_of_a_record_over_the_limit_does_not_pass_for_it() {
    let limited = format!("{}[limits]\nrecord = \"1 KiB\"\n", pipeline(""));
    let room = Room::new(&limited);
    room.write(
        "people.csv",
        format!("id,name,born,note\n1,Ada,1990-01-01,{}\n2,Bob,1990-01-01,b\n", "x".repeat(5_000)),
    );
    room.run("run people.toml people.csv", 0);
    room.write("people.toml", pipeline(""));
    let said = room.run("rejects replay people.toml", 3);
    assert!(said.contains("only its beginning was kept"), "{said}");
    assert_eq!(room.rejects(), "1");
}

#[test]
fn a_spreadsheet_in_between_changes_nothing() {
    let room = Room::new(&pipeline("").replace("primaryKey = [\"id\"]", "primaryKey = [\"name\"]").replace(
        "{ name = \"id\", type = \"integer\" }, { name = \"name\", type = \"string\" }",
        "{ name = \"name\", type = \"string\" }, { name = \"id\", type = \"integer\" }",
    ));
    room.write("people.csv", "name,id,born,note\n=1+1,1,x,a\n-2,2,x,b\n'q,3,x,c\n@,4,1990-01-01,d\n");
    room.run("run people.toml people.csv", 0);
    room.run("rejects export --spreadsheet-safe -o safe.csv", 0);
    let safe = std::fs::read_to_string(room.path("safe.csv")).unwrap();
    assert!(safe.contains("\"'=1+1,1,x,a\",utf-8-safe"), "{safe}");
    // As it comes back: a byte order mark, semicolons, lines that end in CRLF.
    let mut reader = csv::Reader::from_reader(safe.as_bytes());
    let mut writer =
        csv::WriterBuilder::new().delimiter(b';').terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(reader.headers().unwrap()).unwrap();
    for record in reader.records() {
        writer.write_record(record.unwrap().iter().map(|cell| cell.replace(",x,", ",1990-01-01,"))).unwrap();
    }
    room.write("mended.csv", [b"\xef\xbb\xbf".to_vec(), writer.into_inner().unwrap()].concat());
    room.run("rejects replay people.toml mended.csv", 0);
    let names = room.database.psql("select string_agg(name, ' ' order by id) from person");
    assert_eq!(names, "=1+1 -2 'q @");
}

#[test]
fn a_file_that_is_none_is_wrong_usage_and_shows_no_value() {
    let room = Room::new(&pipeline(""));
    room.write("people.csv", WRONG);
    room.run("run people.toml people.csv", 0);
    for (name, content, said) in [
        ("a.csv", "load,record\n1,2\n", "a.csv has no column \"raw\""),
        ("b.csv", "load,record,raw\n1,2\n", "b.csv:2: it has more or fewer cells than the header"),
        ("c.csv", "load,record,raw\n1,2,a\nsecret,2,a\n", "c.csv:3: the column \"load\" is no number"),
        ("d.csv", "load,record,raw,encoding\n1,2,secret,base64\n", "d.csv:2: its encoding is base64, and raw is none"),
        ("e.csv", "load,record,raw,encoding\n1,2,a,secret\n", "e.csv:2: its encoding is neither utf-8 nor base64"),
        ("f.jsonl", "{\"load\": 1, \"record\": \"secret\", \"raw\": \"a\"}\n", "f.jsonl:1: it is no JSON with"),
    ] {
        room.write(name, content);
        let answer = room.run(&format!("rejects replay people.toml {name}"), 2);
        assert!(answer.contains(said) && !answer.contains("secret"), "{name}: {answer}");
    }
    let said = room.run("rejects replay people.toml nowhere.csv", 1);
    assert!(said.contains("read nowhere.csv"), "{said}");
    room.write("g.csv", "load,record,raw\n77,2,a\n");
    assert!(room.run("rejects replay people.toml g.csv", 1).contains("no load 77"));
    assert_eq!(room.counts(), "5 2 3");
}

#[test]
fn rejects_of_another_table_or_mode_stay() {
    let room = Room::new(&pipeline(""));
    room.write("people.csv", WRONG);
    room.run("run people.toml people.csv", 0);
    room.mend(mended);
    room.write("other.toml", pipeline("").replace("\"person\"", "\"someone\""));
    let said = room.run("rejects replay other.toml mended.csv", 2);
    assert!(said.contains("it went into public.person, and the pipeline is for public.someone"), "{said}");
    room.write("upsert.toml", pipeline("").replace("[errors]", "mode = \"upsert\"\n[errors]"));
    let said = room.run("rejects replay upsert.toml mended.csv", 1);
    assert!(said.contains("an earlier record would take the place of a later one"), "{said}");
    room.write("namesake.toml", pipeline("").replace("name = \"people\"", "name = \"persons\""));
    let said = room.run("rejects replay namesake.toml mended.csv", 2);
    assert!(said.contains("it was loaded by the pipeline people, and this one is persons"), "{said}");
    assert!(room.run("rejects replay namesake.toml", 0).contains("no rejects"));
    assert_eq!(room.rejects(), "2 3 4");
    // Through a pipe.
    let mut child =
        room.command("rejects replay people.toml -").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let bytes = std::fs::read(room.path("mended.csv")).unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output: Output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(room.rejects(), "");
}

#[test]
fn two_replays_at_once_bring_each_record_in_once() {
    let room = Room::new(&pipeline(""));
    let mut rows = String::from("id,name,born,note\n");
    (0..20_000).for_each(|id| rows.push_str(&format!("{id},n,{},x\n", if id % 2 == 0 { "x" } else { "1990-01-01" })));
    room.write("people.csv", rows);
    room.run("run people.toml people.csv --parallel 2", 0);
    room.mend(|_, raw| Some(raw.replace(",x,", ",1990-01-01,")));
    let racing: Vec<_> = (0..3)
        .map(|_| room.command("rejects replay people.toml mended.csv --quiet").stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in racing {
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 75)), "{code:?}");
    }
    room.run("rejects replay people.toml mended.csv", 0);
    assert_eq!((room.rejects(), room.counts()), (String::new(), "20000 20000 0".into()));
    let rows = "select count(*), count(distinct id), count(*) filter (where _record <> id + 1) from person";
    assert_eq!(room.database.psql(rows), "20000|20000|0");
    room.run("verify", 0);
}

#[test]
fn old_rejects_are_purged_and_verify_knows() {
    let room = Room::new(&pipeline(""));
    room.write("people.csv", WRONG);
    room.run("run people.toml people.csv", 0);
    room.write("more.csv", WRONG.replace("\n1,", "\n10,").replace("\n5,", "\n50,"));
    room.run("run people.toml more.csv", 0);
    room.database.psql("update aqueduct.load set finished_at = finished_at - interval '40 days' where id = 2");
    let said = room.run("rejects purge --older-than 30d --dry-run", 0);
    assert!(said.contains("3 rejects of 1 load would be purged"), "{said}");
    let said = room.run("rejects purge --older-than 30d", 0);
    assert!(said.contains("3 rejects of 1 load purged"), "{said}");
    assert!(room.run("rejects purge --older-than 30d", 0).contains("0 rejects of 0 loads purged"));
    assert_eq!(room.counts(), "5 2 3, 5 2 3");
    assert!(room.run("rejects list 2", 0).contains("no rejects"));
    assert_eq!(room.database.psql("select string_agg(distinct load_id::text, ' ') from aqueduct.reject"), "4");
    room.run("verify", 0);
    assert!(room.run("show 2", 0).contains("purged         3"));

    let sqlite = |line: &str, code: i32| {
        let output = room.command(line).env("DATABASE_URL", "sqlite:people.db").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output));
        text(&output)
    };
    sqlite("run people.toml people.csv", 0);
    assert!(sqlite("rejects purge --older-than 1h", 0).contains("0 rejects of 0 loads purged"));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert!(sqlite("rejects purge --older-than 1s", 0).contains("3 rejects of 1 load purged"));
    sqlite("verify", 0);
}

#[test]
fn the_ledger_keeps_no_label_that_may_be_a_cell() {
    let room = Room::new(&format!("{}[drift]\nmissing_columns = \"null\"\n", pipeline("")));
    room.write("people.csv", "id,secret,born,note\nx,Ada,1815-12-10,a\n2,Bob,1990-01-01,b\n");
    room.run("run people.toml people.csv", 0);
    let kept = room.database.psql("select note -> 'csv' from aqueduct.load");
    assert!(kept.contains("\"born\": 2") && !kept.contains("secret"), "{kept}");
    // The places of the labels are enough.
    room.mend(|_, raw| Some(raw.replace("x,", "1,")));
    room.run("rejects replay people.toml mended.csv", 0);
    assert_eq!(room.database.psql(ROWS), "1||1815-12-10|a|1\n2||1990-01-01|b|2");
}
