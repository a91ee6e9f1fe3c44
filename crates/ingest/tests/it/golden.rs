//! Commands with their exit code, stdout and stderr, compared with the files in `tests/golden`.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes the files anew; the difference is then read in review.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;

use testkit::Aws;

use crate::room::{DIRTY, GOOD, PIPELINE, ROTTEN, Room, code};

/// The commands of one golden file.
struct Script {
    room: Room,
    text: String,
}

impl Script {
    fn new(room: Room) -> Self {
        Self { room, text: String::new() }
    }

    fn run(mut self, args: &[&str]) -> Self {
        let output = self.room.ingest(args);
        self.record(args, "", &output);
        self
    }

    fn pipe(mut self, input: &str, args: &[&str]) -> Self {
        let output = self.room.ingest_with_stdin(args, input.as_bytes());
        self.record(args, " < input", &output);
        self
    }

    /// Something a person does between two commands.
    fn and(self, act: impl FnOnce(&Room)) -> Self {
        act(&self.room);
        self
    }

    fn record(&mut self, args: &[&str], from: &str, output: &Output) {
        let quoted =
            args.iter().map(|arg| if arg.contains([' ', '*', '\x1b']) { format!("{arg:?}") } else { (*arg).into() });
        let command = self.room.normalised(quoted.collect::<Vec<String>>().join(" ").as_bytes());
        let _ = writeln!(self.text, "$ ingest {command}{from}\n[exit {}]", code(output));
        for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let shown = self.room.normalised(bytes);
            if !shown.is_empty() {
                let _ = writeln!(self.text, "[{stream}]\n{}", shown.trim_end_matches('\n'));
            }
        }
        self.text.push('\n');
    }

    fn is(self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &self.text).expect("write the golden file");
            return;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            expected == self.text,
            "{name} differs from its golden file (UPDATE_GOLDEN=1 writes it anew); now it is:\n{}",
            self.text
        );
    }
}

fn people() -> Room {
    Room::new().with("good.csv", GOOD).with("dirty.csv", DIRTY).with("rotten.csv", ROTTEN)
}

#[test]
fn help_shows_examples_and_exit_codes() {
    Script::new(Room::new())
        .run(&["--version"])
        .run(&["--help"])
        .run(&["upload", "--help"])
        .run(&["check", "--help"])
        .run(&["generate", "customers", "--help"])
        .is("help");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_opened() {
    Script::new(people())
        .run(&[])
        .run(&["uplaod", "good.csv"])
        .run(&["upload"])
        .run(&["check", "good.csv"])
        .run(&["upload", "good.csv", "--store", "gs://bucket"])
        .run(&["upload", "good.csv", "--store", "s3:bucket"])
        .run(&["upload", "good.csv", "--gzip", "--zstd"])
        .run(&["generate", "customers", "--rows", "10", "--seed", "1", "--dirty", "2"])
        .is("wrong_usage");
}

#[test]
fn a_check_shows_counts_and_the_first_rejects() {
    Script::new(people())
        .run(&["check", "good.csv", "--pipeline", "people.toml"])
        .run(&["check", "dirty.csv", "--pipeline", "people.toml"])
        .run(&["check", "rotten.csv", "--pipeline", "people.toml", "--limit", "1"])
        .run(&["check", "*.csv", "--pipeline", "people.toml", "--limit", "0", "--quiet"])
        .pipe(DIRTY, &["check", "-", "--pipeline", "people.toml"])
        .is("check");
}

#[test]
fn a_check_gives_one_json_document() {
    Script::new(people())
        .run(&["check", "dirty.csv", "--pipeline", "people.toml", "--json"])
        .run(&["check", "rotten.csv", "missing.csv", "--pipeline", "people.toml", "--json"])
        .run(&["check", "good.csv", "--pipeline", "missing.toml", "--json"])
        .is("check_json");
}

#[test]
fn a_file_that_is_no_such_csv_gets_one_screen() {
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbLI";
    let room = Room::new()
        .with("dir/a.csv", GOOD)
        .with("empty.csv", "")
        .with("report.csv", "%PDF-1.7\n%\u{e2}\n")
        .with("book.csv", b"PK\x03\x04\x14\x00\x06\x00")
        .with("page.csv", "<!DOCTYPE html>\n<html><body>Please log in</body></html>\n")
        .with("blank.csv", "\n\n\n")
        .with("header.csv", "id,name,born\n")
        .with("no-born.csv", "id,name,joined\n1,Ana,1990-01-31\n")
        .with("twice.csv", "id,name,born,name\n1,Ana,,\n")
        .with("more.csv", "id,name,born,shoe size\n1,Ana,,38\n")
        .with("quote.csv", "id,\"name,born\n1,Ana,\n")
        .with("utf16.csv", b"\xff\xfei\0d\0\n\0")
        .with("cut.csv.gz", gzip);
    let mut script = Script::new(room);
    for file in [
        "missing.csv",
        "dir",
        "/dev/null",
        "empty.csv",
        "report.csv",
        "book.csv",
        "page.csv",
        "blank.csv",
        "header.csv",
        "no-born.csv",
        "twice.csv",
        "more.csv",
        "quote.csv",
        "utf16.csv",
        "cut.csv.gz",
    ] {
        script = script.run(&["check", file, "--pipeline", "people.toml"]);
    }
    for file in ["empty.csv", "report.csv", "cut.csv.gz"] {
        script = script.run(&["upload", file, "--store", "store"]);
    }
    assert_eq!(script.room.files_below("store"), []);
    script.is("wrong_files");
}

#[test]
fn a_mistake_in_the_pipeline_file_is_shown_where_it_is() {
    let unknown_key = PIPELINE.replace("limit = { rows", "limt = { rows").replace("\"integer\"", "\"intger\"");
    let glob = PIPELINE.replace("people/*.csv*", "people/[a.csv");
    let dots = PIPELINE.replace("people/*.csv*", "./people/*.csv");
    let bare = PIPELINE.replace("\"integer\"", "integer");
    let room = people().with("glob.toml", glob).with("dots.toml", dots).with("bare.toml", bare);
    Script::new(room.with("unknown.toml", unknown_key).with("bytes.toml", b"name = \"\xff\"\n"))
        .run(&["check", "good.csv", "--pipeline", "glob.toml"])
        .run(&["check", "good.csv", "--pipeline", "dots.toml"])
        .run(&["check", "good.csv", "--pipeline", "bare.toml"])
        .run(&["check", "good.csv", "--pipeline", "unknown.toml"])
        .run(&["upload", "good.csv", "--pipeline", "unknown.toml", "--store", "store"])
        .run(&["check", "good.csv", "--pipeline", "bytes.toml"])
        .run(&["check", "good.csv", "--pipeline", "people.tml"])
        .run(&["check", "good.csv", "--pipeline", "good.csv"])
        .is("wrong_pipeline");
}

#[test]
fn an_upload_lands_where_the_pipeline_looks_and_is_not_sent_twice() {
    let script = Script::new(people())
        .run(&["upload", "good.csv", "--pipeline", "people.toml", "--store", "store", "--dry-run"])
        .run(&["upload", "good.csv", "--pipeline", "people.toml", "--store", "store"])
        .run(&["upload", "good.csv", "--pipeline", "people.toml", "--store", "store"])
        .run(&["upload", "good.csv", "--pipeline", "people.toml", "--store", "store", "--force"])
        .and(|room| room.write("good.csv", "id,name,born\n9,Olena,\n"))
        .run(&["upload", "good.csv", "--pipeline", "people.toml", "--store", "store", "--dry-run"])
        .run(&["upload", "good.csv", "--pipeline", "people.toml", "--store", "store"])
        .run(&["upload", "dirty.csv", "--pipeline", "people.toml", "--store", "store"]);
    let names: Vec<_> = script.room.files_below("store").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["people/dirty.csv", "people/good.csv"]);
    script.is("upload");
}

#[test]
fn a_file_over_the_limit_is_not_uploaded_and_the_others_are() {
    let script = Script::new(people())
        .run(&["upload", "rotten.csv", "--pipeline", "people.toml", "--store", "store"])
        .and(|room| assert_eq!(room.files_below("store"), []))
        .run(&["upload", "rotten.csv", "good.csv", "missing.csv", "--pipeline", "people.toml", "--store", "store"])
        .run(&["upload", "good.csv", "rotten.csv", "--pipeline", "people.toml", "--store", "store", "--json"]);
    let names: Vec<_> = script.room.files_below("store").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["people/good.csv"]);
    script.is("upload_gate");
}

#[test]
fn a_key_no_run_would_find_is_refused() {
    let script = Script::new(people().with("good.txt", GOOD).with("sub/good.csv", GOOD))
        .run(&["upload", "good.txt", "--pipeline", "people.toml", "--store", "store"])
        .run(&["upload", "good.csv", "--pipeline", "people.toml", "--prefix", "persons", "--store", "store"])
        .run(&["upload", "good.csv", "--prefix", "../outside", "--store", "store"])
        .run(&["upload", "good.csv", "sub/good.csv", "--store", "store", "--dry-run"])
        .run(&["upload", "good.csv", "dirty.csv", "--key", "one.csv", "--store", "store"]);
    assert_eq!(script.room.files_below("store"), []);
    script.is("upload_key");
}

#[test]
fn what_matches_nothing_says_what_was_looked_for() {
    let room = people().with("docs/readme.md", "# no data\n").with("back\\slash/x.txt", "");
    fs::create_dir(room.path("links")).unwrap();
    std::os::unix::fs::symlink(room.path("good.csv"), room.path("links/good.csv")).unwrap();
    Script::new(room)
        .run(&["upload", "exports/*.csv", "--store", "store"])
        .run(&["upload", "god*.csv", "--store", "store"])
        .run(&["upload", "god.csv", "--store", "store"])
        .run(&["upload", "docs", "--store", "store"])
        .run(&["upload", "links", "--store", "store"])
        .run(&["upload", "links/*.csv", "--store", "store"])
        .run(&["upload", "links/other*.csv", "--store", "store"])
        .run(&["upload", "[good.csv", "--store", "store"])
        .is("no_match");
}

#[test]
fn a_directory_uploads_its_csv_files_and_says_what_it_left_aside() {
    let room = Room::new()
        .with("in/a.csv", GOOD)
        .with("in/deep/b.csv", DIRTY)
        .with("in/c.csv.part", GOOD)
        .with("in/.hidden.csv", GOOD)
        .with("in/readme.txt", "no data\n")
        .with("in/\x1b[2J\u{202e}.csv", GOOD);
    std::os::unix::fs::symlink("/etc/passwd", room.path("in/link.csv")).unwrap();
    let script = Script::new(room)
        .run(&["upload", "in", "--prefix", "raw", "--store", "store"])
        .run(&["upload", "in", "--prefix", "raw", "--store", "store", "--quiet"]);
    let names: Vec<_> = script.room.files_below("store").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["raw/a.csv", "raw/deep/b.csv"]);
    script.is("upload_directory");
}

#[test]
fn standard_input_needs_a_name() {
    let script = Script::new(people())
        .pipe(GOOD, &["upload", "-", "--store", "store"])
        .pipe(GOOD, &["upload", "-", "--key", "today.csv", "--pipeline", "people.toml", "--store", "store"])
        .pipe(GOOD, &["upload", "-", "--key", "today.csv", "--pipeline", "people.toml", "--store", "store"])
        .pipe("", &["upload", "-", "--key", "today.csv", "--store", "store"]);
    assert_eq!(script.room.files_below("store"), [("people/today.csv".to_owned(), GOOD.as_bytes().to_vec())]);
    script.is("upload_stdin");
}

#[test]
fn a_store_that_cannot_be_used_gets_one_screen() {
    Script::new(people())
        .run(&["upload", "good.csv", "--store", "people.toml"])
        .run(&["upload", "good.csv", "dirty.csv", "--store", "s3://some-bucket"])
        .is("wrong_store");
}

#[test]
fn missing_credentials_get_one_screen() {
    let room = people().env("AWS_REGION", "eu-central-1").env("AWS_CONFIG_FILE", "/dev/null");
    Script::new(room.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"))
        .run(&["upload", "good.csv", "dirty.csv", "--store", "s3://some-bucket"])
        .run(&["upload", "good.csv", "--store", "s3://some-bucket", "--json"])
        .is("missing_credentials");
}

#[test]
fn a_missing_bucket_gets_one_screen() {
    let mut room = people();
    for (name, value) in Aws::shared().env() {
        room = room.env(name, &value);
    }
    Script::new(room)
        .run(&["upload", "good.csv", "--store", "s3://no-such-bucket-here"])
        .run(&["upload", "good.csv", "dirty.csv", "--store", "s3://no-such-bucket-here", "--json"])
        .is("missing_bucket");
}

#[test]
fn generate_says_what_it_wrote() {
    Script::new(Room::new())
        .run(&["generate", "customers", "--rows", "3", "--seed", "1"])
        .run(&["generate", "customers", "--rows", "1000", "--seed", "1", "--dirty", "0.1", "--out", "c.csv"])
        .run(&["generate", "customers", "--rows", "1", "--seed", "1", "--out", "c.csv", "--json"])
        .run(&["generate", "customers", "--rows", "1", "--seed", "1", "--out", "no/such/c.csv"])
        .is("generate");
}
