//! Against the real journalctl, with journals made by systemd-journal-remote, and against scripts that fail as it may.

use super::*;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::time::{sleep, timeout};

const REMOTE: &str = "/lib/systemd/systemd-journal-remote";
const START_US: u64 = 1_700_000_000_000_000;

/// An entry as journald would write it, a millisecond after the one before.
fn text(number: u64, more: &str) -> String {
    let boot = if number < 100 { "1" } else { "2" }.repeat(32);
    format!(
        "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={boot}\n_MACHINE_ID={}\nMESSAGE={number}\n\
         SYSLOG_IDENTIFIER=app\n_PID=42\n{more}\n",
        START_US + number * 1_000,
        1_000_000 + number * 1_000,
        "a".repeat(32)
    )
}

/// As journalctl would give it.
fn with_cursor(number: u64) -> String {
    format!("__CURSOR=s=f;i={number:x}\n{}", text(number, ""))
}

struct Room {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Room {
    fn new() -> Self {
        let installed = Command::new("journalctl").arg("--version").output().is_ok() && Path::new(REMOTE).exists();
        assert!(installed, "journalctl and {REMOTE} are needed: apt-get install systemd systemd-journal-remote");
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("journal");
        fs::create_dir(&directory).unwrap();
        let settings = Settings {
            units: Vec::new(),
            matches: Vec::new(),
            directory: Some(directory),
            from_end: false,
            journalctl: "journalctl".into(),
        };
        Self { folder, settings }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("journal").join(name).with_extension("journal")
    }

    /// A journal file with these entries.
    fn write(&self, name: &str, numbers: Range<u64>, more: &str) {
        let export = self.folder.path().join(name);
        fs::write(&export, numbers.map(|number| text(number, more)).collect::<String>()).unwrap();
        let made = Command::new(REMOTE).arg("-o").arg(self.file(name)).arg(export).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Instead of journalctl. Written by another process: one that is started meanwhile by this one could hold it open.
    fn fake(&mut self, script: &str) {
        self.settings.journalctl = self.folder.path().join("fake");
        fs::write(
            self.folder.path().join("script"),
            format!("#!/bin/sh\ncd {}\n{script}", self.folder.path().display()),
        )
        .unwrap();
        let copy = "cp \"$0/script\" \"$0/made\" && chmod 755 \"$0/made\" && mv \"$0/made\" \"$0/fake\"";
        let made = Command::new("sh").args(["-c", copy]).arg(self.folder.path()).status().unwrap();
        assert!(made.success());
    }

    /// For a script to `cat`.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn journal(&self, from: Option<&Mark>) -> Journal {
        Journal::new(self.settings.clone(), from.cloned())
    }
}

async fn next(journal: &mut Journal) -> Entry {
    let waited = timeout(Duration::from_secs(30), journal.ready()).await;
    waited.unwrap_or_else(|_| panic!("nothing came: {:?}", journal.stats()));
    journal.take().unwrap()
}

async fn some(journal: &mut Journal, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    while entries.len() < count {
        entries.push(next(journal).await);
    }
    entries
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.message().parse().unwrap()).collect()
}

async fn assert_silent(journal: &mut Journal) {
    assert!(timeout(Duration::from_secs(1), journal.ready()).await.is_err(), "{:?}", journal.peek());
}

fn kill(journal: &Journal) {
    let id = journal.child.as_ref().and_then(|child| child.process.id()).unwrap();
    assert!(Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap().success());
}

/// A process that ended and was not waited for yet counts as ended.
fn is_running(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

fn settled(gaps: u64) -> Stats {
    Stats { gaps, ..Stats::default() }
}

// ---- text

#[test]
fn an_entry_is_told_short_alone_or_whole() {
    let fields = [("MESSAGE", "a\nb"), ("_COMM", "sh"), ("_PID", "7"), ("N", "1"), ("N", "2"), ("N", "3")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    let mark = Mark { cursor: "c".into(), boot: "b".into(), realtime_us: 1_234_567 };
    let mut entry = Entry::new(mark, fields.into());
    assert_eq!((entry.short().as_str(), entry.message().as_ref(), entry.timestamp_ms), ("sh[7]: a\nb", "a\nb", 1_234));
    assert_eq!(entry.json(), r#"{"MESSAGE":"a\nb","N":["1","2","3"],"_COMM":"sh","_PID":"7"}"#);
    entry.fields = vec![("SYSLOG_IDENTIFIER".into(), b"app".into()), ("MESSAGE".into(), b"\xFFx".into())];
    assert_eq!((entry.short(), entry.json().contains("\u{FFFD}x")), ("app: \u{FFFD}x".into(), true));
    entry.fields.clear();
    assert_eq!((entry.short().as_str(), entry.json().as_str()), ("unknown: ", "{}"));
}

#[test]
fn an_entry_is_known_again_by_its_number_or_else_by_all_the_rest() {
    let mark = |cursor: &str| Mark { cursor: cursor.into(), boot: String::new(), realtime_us: 0 };
    let one = mark("s=a;i=1;b=b;m=1;t=1;x=1");
    assert!(one.is_same(&mark("s=a;i=1;b=b;m=1;t=1;x=2")) && one.is_same(&mark("s=b;i=9;b=b;m=1;t=1;x=1")));
    for other in ["s=a;i=2;b=b;m=1;t=1;x=1", "s=b;i=1;b=b;m=1;t=1;x=2", "s=b;i=1;b=c;m=1;t=1;x=1", "", "s=b"] {
        assert!(!one.is_same(&mark(other)) && !mark("").is_same(&mark("")), "{other}");
    }
}

// ---- journalctl itself

#[tokio::test]
async fn all_entries_come_those_of_earlier_boots_too() {
    let room = Room::new();
    room.write("a", 97..103, "");
    let mut journal = room.journal(None);
    let entries = some(&mut journal, 6).await;
    assert_eq!(numbers(&entries), (97..103).collect::<Vec<_>>());
    assert_eq!((entries[0].timestamp_ms, entries[0].short().as_str()), (1_700_000_000_097, "app[42]: 97"));
    assert_eq!(
        (entries[2].mark.boot.as_str(), entries[3].mark.boot.as_str()),
        ("1".repeat(32).as_str(), "2".repeat(32).as_str())
    );
    assert_silent(&mut journal).await;
    assert_eq!(journal.stats(), settled(0));
}

#[tokio::test]
async fn from_a_mark_exactly_what_is_behind_it_comes() {
    let room = Room::new();
    room.write("a", 97..100, "");
    room.write("b", 100..103, "");
    let entries = some(&mut room.journal(None), 6).await;
    for (at, entry) in entries.iter().enumerate() {
        let mut journal = room.journal(Some(&entry.mark));
        assert_eq!(numbers(&some(&mut journal, 5 - at).await), (98 + at as u64..103).collect::<Vec<_>>());
        if at > 3 {
            assert_silent(&mut journal).await;
        }
        assert_eq!(journal.stats(), settled(0));
    }
    let mut journal = room.journal(Some(&entries[3].mark));
    next(&mut journal).await;
    journal.rewind(Some(entries[0].mark.clone()));
    assert_eq!(journal.peek(), None);
    assert_eq!(numbers(&some(&mut journal, 5).await), (98..103).collect::<Vec<_>>());
    journal.rewind(None);
    assert_eq!(numbers(&some(&mut journal, 2).await), [101, 102]);
}

#[tokio::test]
async fn what_is_written_later_comes_later() {
    let room = Room::new();
    let mut journal = room.journal(None);
    assert_silent(&mut journal).await;
    room.write("a", 0..3, "");
    let last = some(&mut journal, 3).await.remove(2).mark;
    // Behind the last entry there is nothing yet, which is no gap.
    let mut restarted = room.journal(Some(&last));
    assert_silent(&mut restarted).await;
    room.write("b", 3..6, "");
    for journal in [&mut journal, &mut restarted] {
        assert_eq!(numbers(&some(journal, 3).await), [3, 4, 5]);
        assert_eq!(journal.stats(), settled(0));
    }
}

#[tokio::test]
async fn what_was_deleted_is_a_gap_and_what_is_there_is_not_lost() {
    let room = Room::new();
    room.write("a", 0..3, "");
    room.write("b", 3..6, "");
    let mark = some(&mut room.journal(None), 2).await.remove(1).mark;
    fs::remove_file(room.file("a")).unwrap();
    let mut journal = room.journal(Some(&mark));
    assert_eq!((numbers(&some(&mut journal, 3).await), journal.stats()), (vec![3, 4, 5], settled(1)));
    // Told once: the place is behind the gap.
    kill(&journal);
    room.write("c", 6..7, "");
    assert_eq!(
        (numbers(&some(&mut journal, 1).await), journal.stats()),
        (vec![6], Stats { restarts: 1, ..settled(1) })
    );
    // All is gone, and what comes is later.
    ["b", "c"].iter().for_each(|name| fs::remove_file(room.file(name)).unwrap());
    let mut journal = room.journal(Some(&mark));
    assert_silent(&mut journal).await;
    room.write("d", 200..201, "");
    assert_eq!((numbers(&some(&mut journal, 1).await), journal.stats()), (vec![200], settled(1)));
}

#[tokio::test]
async fn a_cursor_that_is_refused_is_looked_for_by_its_time() {
    let room = Room::new();
    room.write("a", 97..103, "");
    let entries = some(&mut room.journal(None), 6).await;
    let broken = |mark: &Mark| Mark { cursor: "nonsense".into(), ..mark.clone() };
    let mut journal = room.journal(Some(&broken(&entries[1].mark)));
    assert_eq!(numbers(&some(&mut journal, 4).await), [99, 100, 101, 102]);
    assert_eq!(journal.stats(), Stats { refused: 1, ..settled(0) });
    let earlier = Mark { realtime_us: START_US, ..broken(&entries[1].mark) };
    let mut journal = room.journal(Some(&earlier));
    assert_eq!(numbers(&some(&mut journal, 6).await), (97..103).collect::<Vec<_>>());
    assert_eq!(journal.stats(), Stats { refused: 1, ..settled(1) });
}

#[tokio::test]
async fn entries_of_one_moment_in_two_files_are_no_gap() {
    let room = Room::new();
    room.write("a", 0..3, "F=a\n");
    room.write("b", 0..3, "F=b\n");
    for (at, entry) in some(&mut room.journal(None), 6).await.iter().enumerate() {
        let mut journal = room.journal(Some(&entry.mark));
        let mut came = Vec::new();
        while timeout(Duration::from_millis(500), journal.ready()).await.is_ok() {
            came.extend(journal.take());
        }
        assert_eq!(journal.stats(), settled(0), "behind {entry:?}");
        assert!((5 - at..=6 - at).contains(&came.len()), "at most the other one of the moment is doubled: {came:?}");
    }
}

#[tokio::test]
async fn a_child_that_is_killed_loses_and_doubles_nothing() {
    let room = Room::new();
    room.write("a", 0..3_000, &format!("F={}\n", "x".repeat(600)));
    let mut journal = room.journal(None);
    let (mut entries, started) = (Vec::new(), Instant::now());
    while entries.len() < 3_000 {
        assert!(started.elapsed() < Duration::from_secs(60), "{} of 3000 came", entries.len());
        // Waits that are given up lose nothing, either.
        if timeout(Duration::from_micros(200), journal.ready()).await.is_ok() {
            entries.extend(journal.take());
            if entries.len() % 1_000 == 10 {
                kill(&journal);
            }
        }
    }
    assert_eq!(numbers(&entries), (0..3_000).collect::<Vec<_>>());
    assert_eq!(journal.stats(), Stats { restarts: 3, ..settled(0) });
}

#[tokio::test]
async fn what_is_deleted_while_the_child_waits_is_a_gap_though_journalctl_does_not_say_so() {
    let room = Room::new();
    room.write("a", 0..3_000, &format!("F={}\n", "x".repeat(600)));
    let mut journal = room.journal(None);
    next(&mut journal).await;
    fs::remove_file(room.file("a")).unwrap();
    room.write("b", 3_000..3_003, "");
    let mut entries = Vec::new();
    while entries.last().is_none_or(|entry: &Entry| entry.message() != "3002") {
        entries.push(next(&mut journal).await);
    }
    assert!(entries.len() < 3_002, "were all read, there would be no gap to find");
    let read = Instant::now();
    while journal.stats() != settled(1) {
        assert!(read.elapsed() < Duration::from_secs(30), "{:?}", journal.stats());
        assert_silent(&mut journal).await;
    }
    // What is deleted when it was read is no gap.
    let mut journal = room.journal(None);
    some(&mut journal, 3).await;
    assert_silent(&mut journal).await;
    assert_silent(&mut journal).await;
    fs::remove_file(room.file("b")).unwrap();
    room.write("c", 4_000..4_001, "");
    assert_eq!((numbers(&some(&mut journal, 1).await), journal.stats()), (vec![4_000], settled(0)));
}

#[tokio::test]
async fn only_what_is_asked_for_comes() {
    let mut room = Room::new();
    room.write("a", 0..2, "_SYSTEMD_UNIT=a.service\nKIND=x\n");
    room.write("b", 2..4, "_SYSTEMD_UNIT=b.service\nKIND=x\n");
    room.write("c", 4..6, "_SYSTEMD_UNIT=b.service\nKIND=y\n");
    room.settings.units = vec!["b".into(), "c.service".into()];
    assert_eq!(numbers(&some(&mut room.journal(None), 4).await), [2, 3, 4, 5]);
    room.settings.matches = vec!["KIND=y".into()];
    assert_eq!(numbers(&some(&mut room.journal(None), 2).await), [4, 5]);
}

#[tokio::test]
async fn from_the_end_means_from_now_on_even_for_a_child_that_is_started_again() {
    let mut room = Room::new();
    room.settings.from_end = true;
    room.write("old", 0..3, "");
    let mut journal = room.journal(None);
    assert_silent(&mut journal).await;
    kill(&journal);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64;
    let number = (now - START_US) / 1_000;
    room.write("new", number..number + 2, "");
    assert_eq!(numbers(&some(&mut journal, 2).await), [number, number + 1]);
    journal.rewind(None);
    assert_eq!(numbers(&some(&mut journal, 1).await), [number]);
    assert_eq!(numbers(&some(&mut room.journal(journal.origin()), 1).await), [number], "as if it had been saved");
    assert_eq!((journal.stats().gaps, journal.stats().restarts), (0, 1));
}

// ---- scripts that fail

#[tokio::test]
async fn a_journalctl_that_is_not_there_is_waited_for() {
    let mut room = Room::new();
    room.settings.journalctl = room.folder.path().join("fake");
    let mut journal = room.journal(None);
    assert_silent(&mut journal).await;
    assert!((2..=4).contains(&journal.stats().restarts), "{:?}", journal.stats());
    room.put("entry", with_cursor(1));
    room.fake("cat entry; exec sleep 100");
    assert_eq!(numbers(&some(&mut journal, 1).await), [1]);
}

#[tokio::test]
async fn a_child_that_ends_at_once_is_started_ever_more_rarely_until_it_gives_something() {
    let mut room = Room::new();
    room.put("entry", with_cursor(1));
    room.fake("echo started >> starts; echo cannot >&2; [ -e works ] && cat entry; exit 3");
    let mut journal = room.journal(None);
    assert_silent(&mut journal).await;
    assert!((2..=4).contains(&journal.failures), "{:?}", journal.stats());
    room.put("works", "");
    assert_eq!(numbers(&some(&mut journal, 1).await), [1]);
    assert_eq!(journal.failures, 0);
    let starts = fs::read_to_string(room.folder.path().join("starts")).unwrap();
    assert_eq!(starts.lines().count() as u64, journal.stats().restarts + 1);
}

#[tokio::test]
async fn garbage_is_passed_over_and_counted() {
    let mut room = Room::new();
    room.put("output", format!("Segmentation fault\nMESSAGE=x\n\n{}nonsense\n\n{}", with_cursor(1), with_cursor(2)));
    room.fake("cat output; exec sleep 100");
    let mut journal = room.journal(None);
    assert_eq!(numbers(&some(&mut journal, 2).await), [1, 2]);
    assert_eq!(journal.stats(), Stats { damaged: 2, ..settled(0) });
}

#[tokio::test]
async fn a_child_that_hangs_keeps_nobody_waiting_and_ends_with_us() {
    let mut room = Room::new();
    room.fake("echo $$ > id; exec sleep 100");
    let mut journal = room.journal(None);
    assert_silent(&mut journal).await;
    let id = |room: &Room| fs::read_to_string(room.folder.path().join("id")).unwrap().trim().parse::<u32>().unwrap();
    let first = id(&room);
    assert!(is_running(first));
    journal.rewind(None);
    assert_silent(&mut journal).await;
    let second = id(&room);
    drop(journal);
    sleep(Duration::from_millis(200)).await;
    assert!(first != second && !is_running(first) && !is_running(second));
}

#[tokio::test]
async fn half_an_entry_comes_whole_from_the_next_child() {
    let mut room = Room::new();
    let second = with_cursor(2);
    room.put("first", with_cursor(1) + &second[..second.len() / 2]);
    room.put("again", with_cursor(1) + &second);
    // The first leaves a process behind that holds its output open.
    room.fake(
        "echo \"$*\" >> arguments; [ -e ran ] && { cat again; exec sleep 100; }; touch ran; cat first; sleep 5 &",
    );
    let mut journal = room.journal(None);
    assert_eq!(numbers(&some(&mut journal, 2).await), [1, 2]);
    assert_eq!(journal.stats(), Stats { restarts: 1, ..settled(0) });
    let arguments = fs::read_to_string(room.folder.path().join("arguments")).unwrap();
    assert!(arguments.contains(" --cursor=s=f;i=1 "), "{arguments}");
}

#[tokio::test]
async fn a_child_waits_while_nobody_takes_what_it_gives() {
    let mut room = Room::new();
    room.put("entry", format!("F={}\n{}", "x".repeat(1_000), with_cursor(1)));
    room.fake("while :; do cat entry && echo >> count; done");
    let mut journal = room.journal(None);
    next(&mut journal).await;
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(500)).await;
        let count = fs::read_to_string(room.folder.path().join("count")).unwrap().len();
        if count == before {
            break;
        }
        before = count;
    }
    assert!((40..200).contains(&before), "a pipe has room for some 50, and a chunk, not {before}");
}

#[tokio::test]
async fn a_child_ends_when_we_are_killed() {
    const STAND_IN: &str = "LOG_SHIPPER_TEST_JOURNAL";
    let mut room = Room::new();
    if let Some(directory) = std::env::var_os(STAND_IN) {
        // The one that is killed: this test in a process of its own.
        room.settings.directory = Some(directory.into());
        let mut journal = room.journal(None);
        next(&mut journal).await;
        println!("child {}", journal.child.as_ref().and_then(|child| child.process.id()).unwrap());
        assert!(timeout(Duration::from_secs(60), journal.ready()).await.is_err());
        return;
    }
    room.write("a", 0..1, "");
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("{module}::a_child_ends_when_we_are_killed")]);
    command.env(STAND_IN, room.settings.directory.as_ref().unwrap()).env("TMPDIR", room.folder.path());
    command.stdout(Stdio::piped());
    let mut us = command.spawn().unwrap();
    let lines = BufReader::new(us.stdout.take().unwrap()).lines().map_while(Result::ok);
    let id = lines.filter_map(|line| line.split_once("child ")?.1.parse().ok()).next().unwrap();
    assert!(is_running(id));
    us.kill().unwrap();
    us.wait().unwrap();
    let killed = Instant::now();
    while is_running(id) {
        assert!(killed.elapsed() < Duration::from_secs(10), "journalctl is still there");
        sleep(Duration::from_millis(20)).await;
    }
}
