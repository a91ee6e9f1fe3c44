//! Hostile and broken inputs, from the file to the table: what is right is loaded, what is wrong is a reject or fails the
//! load, and nothing is lost or altered without a word.

mod files;
mod shapes;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use testkit::{Postgres, Random, TestDatabase};

use crate::exact::sqlite_lines;
use crate::text;

/// A folder and a database of a test's own.
struct Place {
    folder: tempfile::TempDir,
    database: TestDatabase,
}

impl Place {
    fn new(pipeline: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), database: Postgres::database() };
        place.write("p.toml", pipeline);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, url: &str, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.current_dir(self.folder.path()).env("DATABASE_URL", url).args(line.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that must end with this code; gives what it said.
    fn run(&self, line: &str, code: i32) -> String {
        let output = self.command(self.database.url(), line).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output));
        text(&output)
    }

    fn rows(&self) -> Vec<String> {
        self.database.psql("select row(a, b)::text from t order by _record").lines().map(str::to_owned).collect()
    }

    fn rejects(&self) -> Vec<String> {
        let sql = "select line || ' ' || code from aqueduct.reject order by load_id, record";
        self.database.psql(sql).lines().map(str::to_owned).collect()
    }
}

/// Two fields of text, `a` and `b`.
fn texts(dialect: &str, more: &str) -> String {
    format!(
        "version = 1\nname = \"t\"\n[source]\npath = \"*.csv*\"\n{more}\n[dialect]\n{dialect}\n[schema]\n\
         fields = [{{ name = \"a\" }}, {{ name = \"b\" }}]\n[errors]\nlimit = {{ rows = 100000 }}\n"
    )
}

const COMMA: &str = "delimiter = \",\"";

#[test]
fn each_broken_record_is_one_reject_and_its_neighbours_are_rows() {
    // What stands between two good records; the rows it gives; the rejects, by line.
    /// What it is, its bytes, its rows, its rejects.
    type Case = (&'static str, &'static [u8], &'static [&'static str], &'static [&'static str]);
    let cases: &[Case] = &[
        ("a header again", b"a,b\n", &["(a,b)"], &[]),
        ("a footer", b"total: 2\n", &[], &["3 missing-cell"]),
        ("delimiters alone", b",\n", &["(,)"], &[]),
        ("a delimiter too many", b"x,y,\n", &[], &["3 extra-cell"]),
        ("a byte order mark in the middle", b"\xef\xbb\xbfx,y\n", &["(\u{feff}x,y)"], &[]),
        ("separators of Unicode", "x\u{2028}\u{2029},\u{85}y\n".as_bytes(), &["(x\u{2028}\u{2029},\u{85}y)"], &[]),
        ("other controls", b"x\x0b,y\x0c\n", &["(\"x\u{b}\",\"y\u{c}\")"], &[]),
        ("a carriage return in quotes", b"\"x\ry\",z\n", &["(\"x\ry\",z)"], &[]),
        ("an overlong slash", b"x\xc0\xaf,y\n", &[], &["3 encoding-error"]),
        ("a surrogate", b"x\xed\xa0\x80,y\n", &[], &["3 encoding-error"]),
        ("beyond Unicode", b"x\xf4\x90\x80\x80,y\n", &[], &["3 encoding-error"]),
        ("a character cut off", b"x\xc3,y\n", &[], &["3 encoding-error"]),
        ("a replacement character that is one", "x\u{fffd},y\n".as_bytes(), &["(x\u{fffd},y)"], &[]),
        ("text after a quote", b"\"x\"y,z\n", &[], &["3 quote-error"]),
        ("words for nothing", b"NULL,N/A\n", &["(NULL,N/A)"], &[]),
        ("what ends a COPY", b"\\.,\\N\n", &["(\"\\\\.\",\"\\\\N\")"], &[]),
        ("a NUL", b"x\0,y\n", &[], &["3 type-error"]),
    ];
    for (what, bytes, rows, rejects) in cases {
        let place = Place::new(&texts(COMMA, ""));
        place.write("t.csv", [b"a,b\nfirst,1\n", *bytes, b"last,2\n"].concat());
        place.run("run p.toml t.csv", 0);
        let expected: Vec<&str> = [&["(first,1)"], *rows, &["(last,2)"]].concat();
        assert_eq!(place.rows().join("\n"), expected.join("\n"), "{what}");
        assert_eq!(place.rejects(), *rejects, "{what}");
    }
}

#[test]
fn a_character_at_the_end_of_the_file_or_of_a_read_is_not_cut_in_two() {
    let place = Place::new(&texts(COMMA, ""));
    let mut bytes = b"a,b\n".to_vec();
    // Reads are of 64 KiB: a good character stands across the border of one, a broken one at the end.
    while bytes.len() < 65_534 - 4 {
        bytes.extend_from_slice(b"x,yyyyyyyy\n");
    }
    bytes.extend_from_slice(b"x,");
    while bytes.len() < 65_535 {
        bytes.push(b'z');
    }
    bytes.extend_from_slice("é\nlast,\u{fffd}\n".as_bytes());
    bytes.extend_from_slice(b"x,\xc3");
    place.write("t.csv", &bytes);
    place.run("run p.toml t.csv", 0);
    let last = "select string_agg(right(b, 1), '' order by _record) from \
                (select * from t order by _record desc limit 2) two";
    assert_eq!(place.database.psql(last), "é\u{fffd}");
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
    assert_eq!(place.rejects(), [format!("{lines} encoding-error")]);
}

#[test]
fn encodings_are_read_as_named_or_refused() {
    let place = Place::new(&texts(COMMA, "encoding = \"windows-1252\""));
    place.write("t.csv", b"a,b\n\x80,\x93x\x94\n");
    place.run("run p.toml t.csv", 0);
    assert_eq!(place.rows(), ["(€,“x”)"]);

    // 0xAA is nothing in Greek.
    let place = Place::new(&texts(COMMA, "encoding = \"windows-1253\""));
    place.write("t.csv", b"a,b\n\xe1,1\n\xaa,2\n\xe2,3\n");
    place.run("run p.toml t.csv", 0);
    assert_eq!(
        (place.rows(), place.rejects()),
        (vec!["(α,1)".into(), "(β,3)".into()], vec!["3 encoding-error".to_owned()])
    );

    for (encoding, bytes, found) in [
        ("utf-8", &b"\xff\xfea\0,\0b\0\n\0"[..], "UTF-16LE byte order mark"),
        ("windows-1252", &b"\xef\xbb\xbfa,b\n1,2\n"[..], "UTF-8 byte order mark"),
    ] {
        let place = Place::new(&texts(COMMA, &format!("encoding = \"{encoding}\"")));
        place.write("t.csv", bytes);
        let said = place.run("run p.toml t.csv", 3);
        assert!(said.contains(found), "{encoding}: {said}");
    }
    for encoding in ["gbk", "gb18030", "euc-jp", "iso-2022-jp", "utf-7", "hz-gb-2312", "big5", "shift_jis", "nonsense"]
    {
        let place = Place::new(&texts(COMMA, &format!("encoding = \"{encoding}\"")));
        let said = place.run("run p.toml t.csv", 2);
        assert!(said.contains(encoding), "{encoding}: {said}");
    }
}

#[test]
fn words_are_missing_only_where_the_pipeline_says_so() {
    let rows = "a,b\n\"\",x\n,x\nNA,x\nN/A,x\nNone,x\n-,x\n null ,x\n";
    let nulls = "select string_agg(_record::text, ' ' order by _record) from t where a is null";
    for (missing, expected) in
        [("", "1 2"), ("missingValues = [\"NA\", \"-\"]", "3 6"), ("missingValues = [\"\", \"NA\"]", "1 2 3")]
    {
        let pipeline = texts(COMMA, "").replace("[schema]\n", &format!("[schema]\n{missing}\n"));
        let place = Place::new(&pipeline);
        place.write("t.csv", rows);
        place.run("run p.toml t.csv", 0);
        assert_eq!(place.database.psql(nulls), expected, "{missing}");
        assert_eq!(place.database.psql("select count(*) from t"), "7", "{missing}");
    }
    let cleaned =
        texts(COMMA, "").replace("{ name = \"a\" }", "{ name = \"a\", clean = [\"trim\"], default = \"none\" }");
    let place = Place::new(&cleaned);
    place.write("t.csv", "a,b\n  ,x\ny,x\n");
    place.run("run p.toml t.csv", 0);
    assert_eq!(place.rows(), ["(none,x)", "(y,x)"]);
}

#[test]
fn delimiters_of_any_ascii_character_and_of_no_other() {
    for (written, delimiter) in [("\\u0001", "\u{1}"), ("\\u001f", "\u{1f}"), (" ", " "), ("|", "|"), ("\\t", "\t")] {
        let place = Place::new(&texts(&format!("delimiter = \"{written}\""), ""));
        place.write("t.csv", format!("a{delimiter}b\nx{delimiter}y\n\"x{delimiter}\"{delimiter}z\n"));
        place.run("run p.toml t.csv", 0);
        assert_eq!(place.database.psql("select string_agg(b, ' ' order by _record) from t"), "y z", "{written}");
    }
    for wrong in ["||", "é", "\\n"] {
        Place::new(&texts(&format!("delimiter = \"{wrong}\""), "")).run("run p.toml t.csv", 2);
    }
    // The rest of a file of another shape is rejects, not shifted values.
    let place = Place::new(&texts(COMMA, ""));
    let (some, others) = ("x,y\n".repeat(200), "x;y\n".repeat(200));
    place.write("t.csv", format!("a,b\n{some}{others}"));
    place.run("run p.toml t.csv", 0);
    assert_eq!(place.database.psql("select count(*) from t"), "200");
    assert_eq!(
        place.database.psql("select count(*), min(line) from aqueduct.reject where code = 'missing-cell'"),
        "200|202"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nul_in_the_header_spoils_nothing() {
    let place = Place::new(&texts(COMMA, ""));
    place.write("t.csv", "a,x\0y,b\n1,2,3\n");
    place.run("run p.toml t.csv", 0);
    assert_eq!(place.rows(), ["(1,3)"]);
    let note = "select note ->> 'ignored_columns' from aqueduct.load";
    assert_eq!(place.database.psql(note), "[\"x\u{fffd}y\"]");
    let output = place.command("sqlite:t.db", "run p.toml t.csv").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(sqlite_lines(&place.path("t.db"), "select a || b from t").await, ["13"]);
    // A field's own label with one more byte is another label.
    place.write("u.csv", "a\0,b\n1,2\n");
    place.run("run p.toml u.csv", 3);
}

#[test]
fn a_header_of_a_million_columns_is_refused_at_once() {
    let place = Place::new(&texts(COMMA, ""));
    place.write("t.csv", format!("a,b{}\n1,2\n", ",".repeat(1_000_000)));
    let said = place.run("run p.toml t.csv", 3);
    assert!(said.contains("columns"), "{said}");
    assert!(said.len() < 2_000, "{} bytes are said", said.len());
    // In a record it is a record with too many cells, which costs itself alone.
    place.write("u.csv", format!("a,b\n1,2\n3,4{}\n5,6\n", ",".repeat(1_000_000)));
    place.run("run p.toml u.csv", 0);
    assert_eq!(place.rows(), ["(1,2)", "(5,6)"]);
    assert_eq!(place.rejects(), ["3 extra-cell"]);
}

#[test]
fn a_percent_limit_is_judged_at_the_end_and_from_a_thousand_records_on() {
    let pipeline = "version = 1\nname = \"t\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
                    fields = [{ name = \"a\", type = \"integer\" }, { name = \"b\" }]\n[errors]\nlimit = { percent = 1.0 }\n";
    for (records, bad, code) in [(1_000, 11, 3), (1_000, 10, 0), (999, 900, 0)] {
        let place = Place::new(pipeline);
        let rows: String =
            (0..records).map(|n| if n < bad { "x,y\n".to_owned() } else { format!("{n},y\n") }).collect();
        place.write("t.csv", format!("a,b\n{rows}"));
        place.run("run p.toml t.csv", code);
        let state = if code == 0 { "loaded" } else { "failed" };
        assert_eq!(place.database.psql("select state from aqueduct.load"), state, "{bad} of {records}");
    }
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_object_that_breaks_at_its_end_leaves_nothing() {
    let mut random = Random::new(5);
    let mut csv = String::from("a,b\n");
    while csv.len() < 40 << 20 {
        csv.push_str(&format!("{},{:016x}{:016x}{}\n", csv.len(), random.number(), random.number(), "z".repeat(60)));
    }
    let records = csv.lines().count() - 1;
    let whole = gzip(csv.as_bytes(), 1);
    let mut flipped = whole.clone();
    let at = whole.len() - 6;
    flipped[at] ^= 1;
    // After 32 MiB of rows, of which a first segment is in.
    for (what, bytes) in [("cut off", &whole[..whole.len() - 9]), ("a wrong checksum", &flipped)] {
        let place = Place::new(&texts(COMMA, ""));
        place.write("t.csv.gz", bytes);
        let said = place.run("run p.toml t.csv.gz", 1);
        assert!(said.contains("gzip"), "{what}: {said}");
        let left = "select (select count(*) from t), (select string_agg(state, ' ') from aqueduct.load)";
        let made = place.database.psql("select to_regclass('t') is not null");
        assert!(made == "f" || place.database.psql(left) == "0|failed", "{what}");
        std::thread::sleep(Duration::from_millis(20));
        place.write("t.csv.gz", &whole);
        place.run("run p.toml t.csv.gz", 0);
        assert_eq!(place.database.psql("select count(*) from t"), records.to_string(), "{what}");
    }
    let place = Place::new(&texts(COMMA, ""));
    place.write("t.csv.gz", gzip(&[b"a,b\n1,2\n".to_vec(), vec![b'\n'; 300 << 20]].concat(), 9));
    let said = place.run("run p.toml t.csv.gz", 1);
    assert!(said.contains("ratio") || said.contains("times"), "{said}");
    // The name is only a name.
    let place = Place::new(&texts(COMMA, ""));
    place.write("plain.csv.gz", "a,b\n1,2\n");
    assert!(place.run("run p.toml plain.csv.gz", 0).contains("the name says gzip, the content is plain"));
    place.write("packed.csv", gzip(b"a,b\n3,4\n", 6));
    assert!(place.run("run p.toml packed.csv", 0).contains("the content is gzip"));
    assert_eq!(place.database.psql("select string_agg(a, ' ' order by a) from t"), "1 3");
}

#[test]
fn the_same_rows_come_of_any_number_of_threads_and_any_order_of_objects() {
    let mut dumps = Vec::new();
    for (workers, order) in [(1, [0, 1, 2]), (2, [2, 0, 1]), (16, [1, 2, 0])] {
        let pipeline = texts(COMMA, "").replace("{ name = \"a\" }", "{ name = \"a\", type = \"integer\" }");
        let place = Place::new(&pipeline);
        for object in order {
            // A value of another type late in the second object.
            let row =
                |n: u64| if n == 59_000 && object == 1 { "abc,x\n".to_owned() } else { format!("{n},of {object}\n") };
            let rows: String = (0..60_000).map(row).collect();
            place.write(&format!("{object}.csv"), format!("a,b\n{rows}"));
            place.run(&format!("run p.toml {object}.csv --workers {workers}"), 0);
        }
        let rows = "select md5(string_agg(a || b || _record, '|' order by b, _record)), count(*) from t";
        let rejects = "select object_key, record, line, code from aqueduct.reject join aqueduct.load on id = load_id";
        dumps.push((place.database.psql(rows), place.database.psql(rejects)));
    }
    assert!(dumps[0].0.ends_with("|179999") && dumps[0].1 == "1.csv|59001|59002|type-error", "{dumps:?}");
    assert!(dumps.iter().all(|dump| *dump == dumps[0]), "{dumps:?}");
}

#[test]
fn equal_rows_and_equal_objects_are_kept_and_a_shorter_object_takes_its_rows_back() {
    let place = Place::new(&texts(COMMA, ""));
    let rows = "a,b\n1,x\n1,x\n2,y\n";
    place.write("one.csv", rows);
    place.write("two.csv", rows);
    place.run("run p.toml one.csv two.csv", 0);
    assert_eq!(place.database.psql("select count(*), count(distinct _load_id) from t"), "6|2");
    std::thread::sleep(Duration::from_millis(20));
    place.write("one.csv", "a,b\n1,x\n");
    place.run("run p.toml one.csv two.csv", 0);
    assert_eq!(place.database.psql("select count(*), count(distinct _load_id) from t"), "4|2");
    // A file that grows between two runs: what was half a row is the whole one.
    place.write("grows.csv", "a,b\n1,x\n2,hal");
    place.run("run p.toml grows.csv", 0);
    std::thread::sleep(Duration::from_millis(20));
    place.write("grows.csv", "a,b\n1,x\n2,half\n3,z\n");
    place.run("run p.toml grows.csv", 0);
    let rows = "select string_agg(b, ' ' order by _record) from t where _load_id = (select max(id) from aqueduct.load)";
    assert_eq!(place.database.psql(rows), "x half z");
}

#[test]
fn what_is_no_header_of_the_pipeline_is_refused_even_where_columns_may_be_missing() {
    let pipeline = texts(COMMA, "") + "[drift]\nmissing_columns = \"null\"\n";
    for (what, content) in [
        ("an error in JSON", "{\"error\": \"no such export\", \"code\": 404}\n"),
        ("an error in XML", "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>\n"),
        ("records without a header", "1,2\n3,4\n"),
    ] {
        let place = Place::new(&pipeline);
        place.write("t.csv", content);
        let said = place.run("run p.toml t.csv", 3);
        assert!(!said.contains("404") && !said.contains("AccessDenied"), "{what}: {said}");
    }
    // One of two columns is there.
    let place = Place::new(&pipeline);
    place.write("t.csv", "b\n2\n");
    place.run("run p.toml t.csv", 0);
    assert_eq!(place.rows(), ["(,2)"]);
}

/// The most memory a process had resident, in KiB, looked at as long as it runs.
fn peak_memory(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line
            .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
            .map_or(peak, |now: u64| peak.max(now));
        std::thread::sleep(Duration::from_millis(2));
    }
    peak
}

#[test]
fn no_record_however_long_takes_more_memory_than_promised() {
    const PROMISED_KIB: u64 = 64 * 1024;
    let good = "good,1\n".repeat(1_000);
    let line = "x".repeat(100 << 20);
    for (what, content, rejects) in [
        ("a line", format!("a,b\n{good}{line}\n{good}"), 1),
        ("a quote that never closes", format!("a,b\n\"open,1\n{}", good.repeat(15_000)), 1),
        ("quotes", format!("a,b\n{good}{}\n{good}", "\"".repeat(50 << 20)), 1),
        ("blank lines", format!("a,b\n{good}{}{good}", "\n".repeat(50 << 20)), 0),
    ] {
        let place = Place::new(&texts(COMMA, ""));
        place.write("t.csv", &content);
        let mut child = place.command(place.database.url(), "run p.toml t.csv").spawn().unwrap();
        let peak = peak_memory(&mut child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{what}: {}", text(&output));
        assert!((1_000..PROMISED_KIB).contains(&peak), "{what}: {peak} KiB");
        assert_eq!(place.rejects().len(), rejects, "{what}");
        let loaded = content.matches("good,1\n").count();
        assert_eq!(place.database.psql("select count(*) from t"), loaded.to_string(), "{what}");
    }
}

#[test]
fn a_file_that_is_written_to_meanwhile_is_loaded_when_it_rests() {
    let place = Place::new(&texts(COMMA, ""));
    let rows: String = (0..400_000).map(|n| format!("{n},{}\n", "x".repeat(50))).collect();
    place.write("t.csv", format!("a,b\n{rows}"));
    let child = place.command(place.database.url(), "run p.toml t.csv").spawn().unwrap();
    let mut file = std::fs::File::options().append(true).open(place.path("t.csv")).unwrap();
    for n in 0..20 {
        writeln!(file, "{},late", 400_000 + n).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 75)), "{}", text(&output));
    drop(file);
    // The server may still hold what the load that was given up had.
    place.run("run p.toml t.csv --retry-for 60s", 0);
    assert_eq!(place.database.psql("select count(*), count(distinct a) from t"), "400020|400020");
}

// ---- a file database

/// A pipeline of `a` as the key, in a mode.
fn keyed(mode: &str) -> String {
    texts(COMMA, "").replace("[schema]\n", "[schema]\nprimaryKey = [\"a\"]\n")
        + &format!("[target]\nmode = \"{mode}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_database_is_whole_after_a_kill_at_any_time() {
    for mode in ["append", "upsert"] {
        let place = Place::new(&keyed(mode));
        let rows: String = (0..60_000).map(|n| format!("{n},{}\n", "x".repeat(40))).collect();
        place.write("t.csv", format!("a,b\n{rows}"));
        let began = std::time::Instant::now();
        assert!(place.command("sqlite:whole.db", "run p.toml t.csv").output().unwrap().status.success());
        let whole = began.elapsed();
        let (mut random, mut unfinished) = (Random::new(3), 0);
        for round in 0..13 {
            let (name, url) = (format!("{round}.db"), format!("sqlite:{round}.db"));
            let mut child: Child = place.command(&url, "run p.toml t.csv").spawn().unwrap();
            std::thread::sleep(whole.mul_f64(random.below(1_000) as f64 / 1_000.0));
            let signal = if round % 3 == 0 { "TERM" } else { "KILL" };
            let kill = format!("kill -s {signal} {}", child.id());
            _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
            let ended: Output = {
                _ = child.wait();
                child.wait_with_output().unwrap()
            };
            unfinished += u32::from(!ended.status.success());
            let again = place.command(&url, "run p.toml t.csv").output().unwrap();
            assert!(again.status.success(), "{mode} round {round}: {}", text(&again));
            let counts = "select count(*) || ' ' || count(distinct a) || ' ' || \
                          (select count(*) from aqueduct_load where state = 'loaded') from t";
            assert_eq!(sqlite_lines(&place.path(&name), counts).await, ["60000 60000 1"], "{mode} round {round}");
            let verified = place.command(&url, "verify").output().unwrap();
            assert!(verified.status.success(), "{mode} round {round}: {}", text(&verified));
        }
        assert!(unfinished > 3, "{unfinished} of 13 were stopped: that proves little");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_runs_at_once_load_a_file_database_once() {
    let place = Place::new(&keyed("append"));
    let rows: String = (0..20_000).map(|n| format!("{n},x\n")).collect();
    place.write("t.csv", format!("a,b\n{rows}"));
    let runs: Vec<Child> = (0..10).map(|_| place.command("sqlite:t.db", "run p.toml t.csv").spawn().unwrap()).collect();
    for child in runs {
        let output = child.wait_with_output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 75)), "{}", text(&output));
    }
    let again = place.command("sqlite:t.db", "run p.toml t.csv").output().unwrap();
    assert!(again.status.success(), "{}", text(&again));
    let counts = "select count(*) || ' ' || count(distinct _load_id) from t";
    assert_eq!(sqlite_lines(&place.path("t.db"), counts).await, ["20000 1"]);
}
