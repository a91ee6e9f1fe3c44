//! What a file, its name or its place can be.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use testkit::Aws;

use super::{COMMA, Place, gzip, texts};
use crate::text;

#[test]
fn a_label_that_only_looks_like_a_fields_is_told_by_its_code_points() {
    let pipeline = texts(COMMA, "").replace("{ name = \"a\" }", "{ name = \"id\" }").replace("\"b\"", "\"café\"");
    for (what, header, told) in [
        ("a Cyrillic letter", "\u{456}d,café", "it is <U+0456>d there, and id in the pipeline"),
        ("a zero-width space", "id\u{200b},café", "it is id<U+200B> there, and id in the pipeline"),
        ("an accent of its own", "id,cafe\u{301}", "it is cafe<U+0301> there, and caf<U+00E9> in the pipeline"),
        ("another case", "ID,café", "the header has \"ID\"; names are compared exactly"),
    ] {
        let place = Place::new(&pipeline);
        place.write("t.csv", format!("{header}\n1,2\n"));
        let said = place.run("run p.toml t.csv", 3);
        assert!(said.contains(told), "{what}: {said}");
    }
    // What may be a record without a header is not shown for a likeness of plain letters.
    let place = Place::new(&texts(COMMA, "").replace("\"a\"", "\"l\"").replace("\"b\"", "\"modern\""));
    place.write("t.csv", "1,modem\n2,other\n");
    let said = place.run("run p.toml t.csv", 3);
    assert!(!said.contains("modem") && said.contains("is the first line a header?"), "{said}");
    // Nor does a label bring lines of its own into the message.
    let place = Place::new(&pipeline);
    place.write("t.csv", "\"\n\tid\u{200b}\n\",café\n1,2\n");
    assert!(place.run("run p.toml t.csv", 3).contains("it is <U+000A><U+0009>id<U+200B><U+000A> there"));
    // Of many and long labels few are told.
    let fields: String = (0..1_500).map(|n| format!("{{ name = \"field{n}\" }}, ")).collect();
    let place = Place::new(&texts(COMMA, "").replace("{ name = \"a\" }, ", &fields));
    let labels: Vec<String> = (0..100).map(|n| format!("{n}{}", "é".repeat(5_000))).collect();
    place.write("t.csv", format!("{}\n1\n", labels.join(",")));
    assert!(place.run("run p.toml t.csv", 3).len() < 10_000);
    // What is not the same is not made the same in the values either.
    let place = Place::new(&texts(COMMA, ""));
    let cells = ["\u{e9}", "e\u{301}", "a\u{202e}b", "a\u{200d}b", &format!("o{}", "\u{308}".repeat(1_000))];
    place.write("t.csv", format!("a,b\n{}", cells.map(|cell| format!("{cell},x\n")).concat()));
    place.run("run p.toml t.csv", 0);
    let kept = place.database.psql("select a from t order by _record");
    assert_eq!(kept.lines().collect::<Vec<_>>(), cells);
}

#[test]
fn a_file_under_the_name_of_an_unfinished_one_is_loaded_once_it_has_its_own() {
    let place = Place::new(&texts(COMMA, ""));
    std::fs::create_dir(place.path("store")).unwrap();
    place.write("store/a.csv", "a,b\n1,x\n");
    place.write("store/b.csv.part", "a,b\n2,hal");
    let said = place.run("run p.toml --store store", 0);
    assert!(said.contains("b.csv.part: still being written, by its name"), "{said}");
    assert_eq!(place.rows(), ["(1,x)"]);
    place.write("store/b.csv.part", "a,b\n2,half\n");
    std::fs::rename(place.path("store/b.csv.part"), place.path("store/b.csv")).unwrap();
    place.run("run p.toml --store store", 0);
    assert_eq!(place.database.psql("select string_agg(b, ' ' order by b) from t"), "half x");
    // A person who names it gets it.
    place.write("c.csv.part", "a,b\n3,y\n");
    place.run("run p.toml c.csv.part", 0);
}

#[test]
fn what_is_no_file_is_never_waited_for() {
    let place = Place::new(&texts(COMMA, ""));
    let fifo = std::process::Command::new("mkfifo").arg(place.path("pipe.csv")).status().unwrap();
    assert!(fifo.success());
    let _listener = UnixListener::bind(place.path("socket.csv")).unwrap();
    std::fs::create_dir(place.path("folder.csv")).unwrap();
    for (name, code) in [("pipe.csv", 2), ("socket.csv", 2), ("folder.csv", 2), ("/dev/zero", 2)] {
        let said = place.run(&format!("run p.toml {name}"), code);
        assert!(said.contains("not a regular file"), "{name}: {said}");
    }
    // A file of no size that has content all the same has no version to hold on to.
    let said = place.run("run p.toml /proc/cpuinfo", 75);
    assert!(said.contains("changed while it was being read"), "{said}");
    assert_eq!(place.database.psql("select count(*) from aqueduct.load where state = 'loaded'"), "0");
    std::os::unix::fs::symlink("loop.csv", place.path("loop.csv")).unwrap();
    place.run("run p.toml loop.csv", 1);
}

#[test]
fn content_that_is_compressed_is_read_whatever_the_object_says_of_it() {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    let place = Place::new(&texts(COMMA, ""));
    // Two members, as `cat` and parallel compressors make them, and an empty one at the end, as bgzip does.
    let packed = [gzip(b"a,b\n1,x\n", 6), gzip(b"2,y\n", 6), gzip(b"", 6)].concat();
    aws.put_object_with(&bucket, "said.csv", &[("Content-Encoding", "gzip".into())], &packed);
    aws.put_object(&bucket, "unsaid.csv", &packed);
    aws.put_object_with(&bucket, "wrong.csv", &[("Content-Encoding", "gzip".into())], b"a,b\n1,x\n2,y\n");
    aws.put_object_with(&bucket, "chunks.csv", &[("Content-Encoding", "aws-chunked".into())], b"a,b\n1,x\n2,y\n");
    let line = format!("run p.toml --store s3://{bucket}");
    let output = place.command(place.database.url(), &line).envs(aws.env()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let by_object = "select object_key, string_agg(a || b, ' ' order by _record), count(distinct _load_id) from t \
                     join aqueduct.load on id = _load_id group by 1 order by 1";
    let expected = ["chunks", "said", "unsaid", "wrong"].map(|name| format!("{name}.csv|1x 2y|1"));
    assert_eq!(place.database.psql(by_object), expected.join("\n"));
}

#[test]
fn a_cell_of_a_megabyte_goes_through_each_type_and_each_step() {
    let fields = "fields = [\n  { name = \"a\", clean = [\"trim\", \"collapse_spaces\", \"nfc\", \"upper\", { regex = \"(X+)+Y\", with = \"z\" }] },\n  \
                  { name = \"b\", type = \"TYPE\" },\n]";
    let letters = "x".repeat(1_000_000);
    for (kind, cell) in [
        ("integer", "9".repeat(1_000_000)),
        ("number", format!("{}e9", "9".repeat(1_000_000))),
        ("number", "1.".repeat(500_000)),
        ("date", "2026-".repeat(200_000)),
        ("datetime", "2026-01-01T".repeat(90_000)),
        ("boolean", "true".repeat(250_000)),
    ] {
        let pipeline =
            texts(COMMA, "").replace("fields = [{ name = \"a\" }, { name = \"b\" }]", &fields.replace("TYPE", kind));
        let place = Place::new(&pipeline);
        place.write("t.csv", format!("a,b\n{letters},\n  {letters}y,\nx,{cell}\n"));
        let said = place.run("run p.toml t.csv", 0);
        assert!(said.len() < 4_000, "{kind}: {} bytes are said", said.len());
        assert_eq!(place.rejects(), ["4 type-error"], "{kind}");
        assert_eq!(place.database.psql("select string_agg(length(a)::text, ' ' order by _record) from t"), "1000000 1");
    }
}

#[test]
fn exported_rejects_are_for_their_owner_only() {
    let place = Place::new(&texts(COMMA, ""));
    place.write("t.csv", "a,b\nsecret\n");
    place.run("run p.toml t.csv", 0);
    place.run("rejects export 1 --output out.csv", 0);
    let mode = std::fs::metadata(place.path("out.csv")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_time_in_the_future_or_long_ago_is_no_reason_to_leave_a_file_out() {
    let place = Place::new(&texts(COMMA, ""));
    std::fs::create_dir(place.path("store")).unwrap();
    for (name, seconds) in [("future", 4_102_444_800), ("past", 0)] {
        let name = format!("store/{name}.csv");
        place.write(&name, "a,b\n1,x\n");
        let file = std::fs::File::options().write(true).open(place.path(&name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
    place.run("run p.toml --store store", 0);
    assert_eq!(place.database.psql("select count(*) from t"), "2");
    place.run("run p.toml --store store", 0);
    assert_eq!(place.database.psql("select count(*) from t"), "2");
}

#[test]
fn of_many_new_objects_the_oldest_are_taken_first_a_few_at_a_time() {
    let place = Place::new(&texts(COMMA, ""));
    std::fs::create_dir(place.path("store")).unwrap();
    // More than a page of a listing, the youngest first by name.
    for n in 0..2_500_u64 {
        let name = format!("store/{n:04}.csv");
        place.write(&name, format!("a,b\n{n},x\n"));
        let file = std::fs::File::options().write(true).open(place.path(&name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - n)).unwrap();
    }
    for (run, expected) in [(1, "2499 2498 2497"), (2, "2496 2495 2494")] {
        let said = place.run("run p.toml --store store --limit 3", 0);
        assert!(said.contains(&format!("{} left out", ["2,497", "2,494"][run - 1])), "{said}");
        let rows =
            "select string_agg(a, ' ' order by _load_id) from (select * from t order by _load_id desc limit 3) x";
        assert_eq!(place.database.psql(rows), expected);
    }
}

#[test]
fn what_is_left_alone_takes_nobodys_place_under_a_limit() {
    let old_first = |place: &Place| {
        std::fs::create_dir(place.path("store")).unwrap();
        for (name, content, age) in [
            ("1.csv", "a,b\nonly one\n", 9),
            ("2.csv", "a,b\n2,x\n", 8),
            ("3.csv", "a,b\n3,x\n", 7),
            ("4.csv", "a,b\n4,x\n", 6),
        ] {
            place.write(&format!("store/{name}"), content);
            let file = std::fs::File::options().write(true).open(place.path(&format!("store/{name}"))).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age * 3_600)).unwrap();
        }
    };
    let rows = "select coalesce(string_agg(a, ' ' order by a), '') from t";
    let place = Place::new(&texts(COMMA, "").replace("rows = 100000", "rows = 0"));
    old_first(&place);
    place.run("run p.toml --store store --limit 1", 3);
    // It stays red, and the others are loaded.
    for expected in ["2", "2 3", "2 3 4"] {
        let said = place.run("run p.toml --store store --limit 1", 3);
        assert_eq!(place.database.psql(rows), expected, "{said}");
    }
    // Touched, it is looked at first each time, and holds the same bytes.
    let touched = std::fs::File::options().write(true).open(place.path("store/2.csv")).unwrap();
    touched.set_modified(std::time::SystemTime::now() + Duration::from_secs(60)).unwrap();
    place.write("store/5.csv", "a,b\n5,x\n");
    let late = std::fs::File::options().write(true).open(place.path("store/5.csv")).unwrap();
    late.set_modified(std::time::SystemTime::now() + Duration::from_secs(120)).unwrap();
    let said = place.run("run p.toml --store store --limit 1", 3);
    assert_eq!(place.database.psql(rows), "2 3 4 5", "{said}");
    let place = Place::new(&super::keyed("upsert"));
    old_first(&place);
    place.run("run p.toml --store store --object 3.csv", 0);
    // The first two are older than what is loaded.
    let said = place.run("run p.toml --store store --limit 1", 5);
    assert_eq!(said.matches("older than the object of load 1").count(), 2, "{said}");
    assert_eq!(place.database.psql(rows), "3 4");
}

#[test]
fn an_export_takes_nobodys_place() {
    let place = Place::new(&texts(COMMA, ""));
    place.write("t.csv", "a,b\nsecret\n");
    place.run("run p.toml t.csv", 0);
    // What is no plain file stays what it is.
    assert!(std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    let said = place.run("rejects export 1 --output pipe", 1);
    assert!(said.contains("it is a device, pipe or socket"), "{said}");
    let is_fifo = |name: &str| std::fs::symlink_metadata(place.path(name)).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&is_fifo("pipe").file_type()));
    // A link leads to the file that is written; one that leads nowhere is not taken for a file.
    place.write("old.csv", "old");
    std::os::unix::fs::symlink("old.csv", place.path("link.csv")).unwrap();
    place.run("rejects export 1 --output link.csv", 0);
    assert!(std::fs::symlink_metadata(place.path("link.csv")).unwrap().is_symlink());
    assert!(std::fs::read_to_string(place.path("old.csv")).unwrap().contains("secret"));
    std::os::unix::fs::symlink("nowhere.csv", place.path("dangling.csv")).unwrap();
    place.run("rejects export 1 --output dangling.csv", 1);
    assert!(!place.path("nowhere.csv").exists());
    // Readable by its owner only, whoever could read what was there; and nothing unfinished is left.
    std::fs::set_permissions(place.path("old.csv"), std::fs::Permissions::from_mode(0o666)).unwrap();
    place.run("rejects export 1 --output old.csv", 0);
    assert_eq!(std::fs::metadata(place.path("old.csv")).unwrap().permissions().mode() & 0o777, 0o600);
    let names = || std::fs::read_dir(&place.folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names().filter(|name| name.to_string_lossy().contains(".part")).count(), 0);
    // A full disk is an error, and the file that was there stays.
    let before = std::fs::read(place.path("old.csv")).unwrap();
    let mut limited = std::process::Command::new("sh");
    let line = format!(
        "trap '' XFSZ; ulimit -f 0; exec {} rejects export 1 --output old.csv",
        env!("CARGO_BIN_EXE_etl-runner")
    );
    limited.args(["-c", &line]).current_dir(&place.folder).env("DATABASE_URL", place.database.url());
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(std::fs::read(place.path("old.csv")).unwrap(), before);
    assert_eq!(names().filter(|name| name.to_string_lossy().contains(".part")).count(), 0);
}

#[test]
fn bytes_under_an_older_time_are_left_alone_until_somebody_asks() {
    let place = Place::new(&texts(COMMA, ""));
    std::fs::create_dir(place.path("store")).unwrap();
    place.write("store/t.csv", "a,b\n1,x\n");
    place.run("run p.toml --store store", 0);
    // As a copy that keeps the time of its original does.
    std::thread::sleep(Duration::from_millis(20));
    place.write("store/t.csv", "a,b\n2,y\n3,z\n");
    let file = std::fs::File::options().write(true).open(place.path("store/t.csv")).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(86_400)).unwrap();
    let said = place.run("run p.toml --store store", 0);
    assert!(said.contains("a newer version of it is loaded"), "{said}");
    assert_eq!(place.rows(), ["(1,x)"]);
    place.run("run p.toml --store store --reload", 0);
    assert_eq!(place.rows(), ["(2,y)", "(3,z)"]);
}

#[test]
fn the_same_file_named_twice_is_loaded_once_and_a_path_too_long_is_an_error() {
    let place = Place::new(&texts(COMMA, ""));
    place.write("t.csv", "a,b\n1,x\n");
    place.run("run p.toml t.csv ./t.csv", 0);
    assert_eq!(place.rows(), ["(1,x)"]);
    let said = place.run(&format!("run p.toml {}t.csv", "d/".repeat(3_000)), 1);
    assert!(said.len() < 15_000 && said.contains("error"), "{said}");
}
