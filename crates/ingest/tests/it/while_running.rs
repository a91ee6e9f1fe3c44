//! What can be seen while the binary runs: its memory, and how it takes an interruption.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{Aws, Direction, Proxy};

use crate::room::{GOOD, PIPELINE, Room};

/// The promise for a file of any size.
const MEMORY_KIB: u64 = 64 * 1024;

pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().expect("run ingest") }
    }

    /// The most memory it had resident so far, in KiB.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it still runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// Reads all of stdout; memory is looked at while the other end still has something to write.
    pub(crate) fn read_stdout_watching_memory(&mut self) -> (u64, u64) {
        let mut stdout = self.child.stdout.take().expect("a pipe");
        let mut chunk = vec![0; 1 << 20];
        let (mut bytes, mut peak, mut next_look) = (0, 0, 1);
        loop {
            let read = stdout.read(&mut chunk).expect("read from ingest");
            if read == 0 {
                return (bytes, peak);
            }
            bytes += read as u64;
            if bytes >= next_look {
                peak = peak.max(self.peak_memory());
                next_look = bytes + (8 << 20);
            }
        }
    }

    pub(crate) fn close_stdout(&mut self) {
        let mut stdout = self.child.stdout.take().expect("a pipe");
        stdout.read_exact(&mut [0; 100]).expect("read from ingest");
    }

    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("read from ingest");
        text
    }

    /// Its exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("ask whether it runs") {
                return status.code().expect("it exits by itself");
            }
            if started.elapsed() > Duration::from_secs(60) {
                let _ = self.child.kill();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("run kill");
        assert!(status.success());
    }
}

/// Feeds `megabytes` of records and gives the peak memory before the input ends.
fn peak_while_fed(args: &[&str], megabytes: usize) -> u64 {
    let room = Room::new();
    let mut command = room.command(args);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().expect("a pipe");
    let line = "7,\"Peña,\nAna\",1990-01-31\n";
    let chunk = line.repeat((1 << 20) / line.len());
    stdin.write_all(b"id,name,born\n").expect("feed ingest");
    for _ in 0..megabytes {
        stdin.write_all(chunk.as_bytes()).expect("feed ingest");
    }
    let peak = running.peak_memory();
    drop(stdin);
    assert_eq!(running.wait(), 0, "{}", running.stderr());
    peak
}

#[test]
fn a_large_file_is_checked_in_bounded_memory() {
    let peak = peak_while_fed(&["check", "-", "--pipeline", "people.toml"], 100);
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}

#[test]
fn a_large_file_is_uploaded_in_bounded_memory() {
    let peak = peak_while_fed(&["upload", "-", "--key", "a.csv", "--store", "store"], 100);
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}

#[test]
fn an_interruption_stores_nothing_and_has_its_own_code() {
    for (signal, expected) in [("INT", 130), ("TERM", 143)] {
        let room = Room::new().with("people.toml", PIPELINE);
        let mut command = room.command(&["upload", "-", "--key", "a.csv", "--store", "store"]);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let mut stdin = running.child.stdin.take().unwrap();
        // More than a pipe holds: once it is written, the other end reads, and has its handlers in place.
        stdin.write_all(&vec![b'a'; 1 << 20]).unwrap();
        running.signal(signal);
        assert_eq!(running.wait(), expected);
        assert!(running.stderr().starts_with("error: interrupted\n"));
        assert_eq!(room.files_below("store"), []);
        drop(stdin);
    }
}

fn s3_room() -> (Room, String) {
    let aws = Aws::shared();
    let mut room = Room::new();
    for (name, value) in aws.env() {
        room = room.env(name, &value);
    }
    (room, aws.bucket())
}

#[test]
fn an_interrupted_upload_leaves_no_parts_in_s3() {
    let aws = Aws::shared();
    for (signal, expected) in [("INT", 130), ("TERM", 143)] {
        let (room, bucket) = s3_room();
        room.write("a.csv", GOOD);
        // Zeros that take no room on the disk, and far longer to send than to find out that sending began.
        std::fs::File::options().write(true).open(room.path("a.csv")).unwrap().set_len(400 << 20).unwrap();
        let mut running = Running::start(room.command(&["upload", "a.csv", "--store", &format!("s3://{bucket}")]));
        while aws.open_uploads(&bucket) == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        running.signal(signal);
        assert_eq!(running.wait(), expected);
        assert!(running.stderr().starts_with("error: interrupted\n"));
        assert_eq!(aws.open_uploads(&bucket), 0);
        assert_eq!(aws.keys(&bucket), [""; 0]);
    }
}

/// `kill -9` in the middle of a big upload: the next one sends what is missing, and nothing else.
#[test]
fn an_upload_that_was_killed_goes_on_where_it_stood() {
    const PART: u64 = 6 << 20;
    const SIZE: u64 = (100 << 20) + 12_345;
    let aws = Aws::shared();
    let proxy = Proxy::to(aws.address());
    let bucket = aws.bucket();
    let mut room = Room::new();
    for (name, value) in aws.env() {
        let value = if name == "AWS_ENDPOINT_URL" { proxy.url(&value) } else { value };
        room = room.env(name, &value);
    }
    // No two parts are alike.
    let text: Vec<u8> =
        (0..).map(|row: u64| format!("{row},Ana\n")).flat_map(String::into_bytes).take(SIZE as usize).collect();
    room.write("a.csv", &text);
    let store = format!("s3://{bucket}/in");
    let args = ["upload", "a.csv", "--json", "--store", &store];

    proxy.delay(Duration::from_millis(2));
    let mut running = Running::start(room.command(&args));
    while aws.open_parts(&bucket, "in/a.csv") < 5 {
        assert!(running.child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(10));
    }
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    proxy.cut_now();
    proxy.delay(Duration::ZERO);
    assert_eq!((aws.open_uploads(&bucket), aws.keys(&bucket)), (1, Vec::new()));

    let before = proxy.bytes(Direction::ToServer);
    let output = room.ingest(&args);
    let sent = proxy.bytes(Direction::ToServer) - before;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = &document["files"][0];
    let continued = file["continued_bytes"].as_u64().expect("it was continued");
    assert!(continued >= 4 * PART, "{continued}: four parts and the mark at least");
    assert!(sent < SIZE - continued + 64 * 1024, "{sent} bytes sent, {continued} were there");
    assert!(errors.contains("were there from an upload that was cut short"), "{errors}");
    assert!(aws.get_object(&bucket, "in/a.csv").unwrap() == text);
    let hash = objects::ContentHash::of(&text).to_string();
    assert_eq!(file["sha256"], hash.as_str());
    assert_eq!(aws.object_header(&bucket, "in/a.csv", "x-amz-meta-aqueduct-sha256"), Some(hash));
    assert_eq!(aws.open_uploads(&bucket), 0);
}

#[test]
fn an_interruption_tells_which_of_several_files_are_stored() {
    let aws = Aws::shared();
    let (room, bucket) = s3_room();
    for name in ["in/a.csv", "in/b.csv", "in/c.csv"] {
        room.write(name, GOOD);
    }
    // First in order, and not done before the others by far.
    std::fs::File::options().write(true).open(room.path("in/a.csv")).unwrap().set_len(400 << 20).unwrap();
    let mut running = Running::start(room.command(&["upload", "in", "--store", &format!("s3://{bucket}")]));
    while aws.keys(&bucket).len() < 2 || aws.open_uploads(&bucket) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    running.signal("INT");
    assert_eq!(running.wait(), 130);
    let mut told = String::new();
    running.child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    let lines: Vec<_> = told.lines().map(|line| line.split(" → ").next().unwrap()).collect();
    assert_eq!(lines, ["uploaded in/b.csv", "uploaded in/c.csv"]);
    assert_eq!(aws.keys(&bucket), ["b.csv", "c.csv"]);
    assert_eq!(aws.open_uploads(&bucket), 0);
}

#[test]
fn a_large_file_is_checked_and_sent_to_s3_in_bounded_memory() {
    let (room, bucket) = s3_room();
    let line = "7,\"Peña,\nAna\",1990-01-31\n";
    let mut file = std::fs::File::create(room.path("a.csv")).unwrap();
    file.write_all(b"id,name,born\n").unwrap();
    let chunk = line.repeat((1 << 20) / line.len());
    for _ in 0..100 {
        file.write_all(chunk.as_bytes()).unwrap();
    }
    let store = format!("s3://{bucket}");
    let args = ["upload", "a.csv", "--pipeline", "people.toml", "--store", &store];
    let mut running = Running::start(room.command(&args));
    let mut peak = 0;
    while running.child.try_wait().unwrap().is_none() {
        // Of a process that has just ended the kernel counts no memory any more.
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(running.wait(), 0, "{}", running.stderr());
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}

#[test]
fn a_file_that_grows_while_it_is_checked_is_not_judged() {
    let room = Room::new();
    room.write("a.csv", format!("id,name,born\n{}", "7,Ana,1990-01-31\n".repeat(1_000_000)));
    let mut running = Running::start(room.command(&["check", "a.csv", "--pipeline", "people.toml"]));
    let mut file = std::fs::File::options().append(true).open(room.path("a.csv")).unwrap();
    while running.child.try_wait().unwrap().is_none() {
        file.write_all(b"8,Eva,\n").unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(running.wait(), 75);
    assert!(running.stderr().contains("it changed while it was being read"));
}
