//! What shipping costs: CPU, memory and requests, against a service in this process that counts and does nothing else.
//!
//! `make bench-log-shipper`; arguments choose cases: `backlog`, `idle`, `files`. `LOG_SHIPPER` names another binary, such as the
//! one of `make static`. What is measured is the shipper's own process,
//! from `/proc`; the service shares its two processors, so that wall times are worse than they need be.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, run by hand")]

#[path = "../tests/it/service.rs"]
#[expect(dead_code, reason = "what only the tests use of it")]
mod service;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use service::{Faults, Service};

const LINES: u64 = 5_000_000;

/// What a process has used until now.
#[derive(Clone, Copy, Debug)]
struct Used {
    cpu_seconds: f64,
    resident_mib: f64,
    peak_mib: f64,
}

fn used(pid: u32) -> Used {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime in hundredths of a second (proc(5)).
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    Used { cpu_seconds: ticks / 100.0, resident_mib: kib("VmRSS:") / 1024.0, peak_mib: kib("VmHWM:") / 1024.0 }
}

struct Run {
    child: Child,
    service: Service,
}

impl Run {
    fn start(folder: &Path, pattern: &str, gzip: bool, secure: bool) -> Self {
        let _ = fs::remove_dir_all(folder.join("state"));
        let config = format!(
            "version = 1\nstate = \"{0}/state\"\n[[files]]\npath = \"{0}/{pattern}\"\ngroup = \"/bench\"\nstream = \"one\"\n\
             [delivery]\ngzip = {gzip}\n",
            folder.display()
        );
        fs::write(folder.join("config.toml"), config).unwrap();
        let service = if secure { Service::secure(folder) } else { Service::start() };
        service.set(Faults { only_counts: true, ..Faults::default() });
        let binary = std::env::var("LOG_SHIPPER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_log-shipper").into());
        let mut command = Command::new(binary);
        command.arg("run").arg(folder.join("config.toml")).stdin(Stdio::null());
        command.env("AWS_ENDPOINT_URL", service.url()).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "testing").env("AWS_SECRET_ACCESS_KEY", "testing");
        command.env("SSL_CERT_FILE", folder.join("cert.pem"));
        Self { child: command.spawn().unwrap(), service }
    }

    fn until(&self, count: u64) -> Duration {
        let begun = Instant::now();
        while self.service.accepted().counted < count {
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbered lines like those of a web application: 209 bytes on the average, half of them shorter than 200.
fn write_backlog(path: &Path) -> (u64, u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let (mut bytes, mut line) = (0, String::new());
    for n in 0..LINES {
        line.clear();
        let _ = write!(
            line,
            "2026-11-27T{:02}:{:02}:{:02}.{:06}Z INFO  request id={:016x} method=GET path=/api/v1/items/{} status=200 ",
            n / 3_600_000 % 24,
            n / 60_000 % 60,
            n / 1_000 % 60,
            n % 1_000_000,
            n.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            n % 9_973
        );
        let length = 150 + (n.wrapping_mul(2_654_435_761) >> 16) % 118;
        while (line.len() as u64) < length {
            line.push_str("agent=\"Mozilla/5.0\" ");
        }
        line.truncate(length as usize);
        line.push('\n');
        bytes += line.len() as u64;
        file.write_all(line.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    (bytes, bytes - LINES)
}

fn backlog(folder: &Path) {
    let path = folder.join("backlog.log");
    let (bytes, message_bytes) = write_backlog(&path);
    // As PutLogEvents counts: 26 bytes besides each message, 1,048,576 a request.
    let least = (message_bytes + 26 * LINES).div_ceil(1_048_576);
    println!("backlog: {LINES} lines, {bytes} bytes; {least} requests at least");
    println!("| case | wall s | CPU s | CPU s per GB | peak MiB | requests | of the least |");
    println!("|---|---|---|---|---|---|---|");
    for (name, gzip, secure) in
        [("plain", false, false), ("TLS", false, true), ("gzip", true, false), ("gzip, TLS", true, true)]
    {
        for _ in 0..rounds() {
            let run = Run::start(folder, "backlog.log", gzip, secure);
            let wall = run.until(LINES).as_secs_f64();
            let Used { cpu_seconds, peak_mib, .. } = used(run.child.id());
            let requests = run.service.accepted().requests;
            println!(
                "| {name} | {wall:.1} | {cpu_seconds:.2} | {:.2} | {peak_mib:.1} | {requests} | {:.4} |",
                cpu_seconds / (bytes as f64 / 1e9),
                requests as f64 / least as f64
            );
        }
    }
    fs::remove_file(path).unwrap();
}

/// CPU of a while in which nothing happens.
fn rest(run: &Run, seconds: u64) -> (f64, Used) {
    std::thread::sleep(Duration::from_secs(5));
    let before = used(run.child.id());
    std::thread::sleep(Duration::from_secs(seconds));
    let after = used(run.child.id());
    (after.cpu_seconds - before.cpu_seconds, after)
}

fn idle(folder: &Path) {
    fs::write(folder.join("idle.log"), "one line\n").unwrap();
    for secure in [false, true] {
        let run = Run::start(folder, "idle.log", true, secure);
        run.until(1);
        let (cpu, used) = rest(&run, 60);
        let over = if secure { "TLS" } else { "plain" };
        println!(
            "idle, one file, {over}: {:.1} MiB, peak {:.1} MiB, {cpu:.2} s of CPU in 60 s",
            used.resident_mib, used.peak_mib
        );
    }
}

fn files(folder: &Path) {
    const FILES: u64 = 10_000;
    let many = folder.join("many");
    fs::create_dir_all(&many).unwrap();
    for n in 0..FILES {
        fs::write(many.join(format!("{n}.log")), format!("line of {n}\n")).unwrap();
    }
    let run = Run::start(folder, "many/*.log", true, true);
    run.until(FILES);
    let (cpu, first) = rest(&run, 60);
    println!(
        "{FILES} files, the first minute: {:.1} MiB, peak {:.1} MiB, {:.2} % CPU",
        first.resident_mib,
        first.peak_mib,
        cpu / 0.6
    );
    let (cpu, later) = rest(&run, 60);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", run.child.id())).unwrap().count();
    println!("{FILES} files, closed: {:.1} MiB, {:.2} % CPU, {descriptors} descriptors", later.resident_mib, cpu / 0.6);
    for n in (0..FILES).step_by(100) {
        let mut file = File::options().append(true).open(many.join(format!("{n}.log"))).unwrap();
        file.write_all(b"one more\n").unwrap();
    }
    run.until(FILES + FILES / 100);
    fs::remove_dir_all(many).unwrap();
}

fn rounds() -> usize {
    std::env::var("ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let folder = tempfile::tempdir().unwrap();
    if is_wanted("idle") {
        idle(folder.path());
    }
    if is_wanted("files") {
        files(folder.path());
    }
    if is_wanted("backlog") {
        backlog(folder.path());
    }
}
