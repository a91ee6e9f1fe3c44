//! What each test begins with, and how what arrived is held against what was written.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::service::Service;

/// A directory with logs, a configuration and a service.
pub(crate) struct Room {
    folder: tempfile::TempDir,
    pub(crate) service: Service,
}

impl Room {
    /// `more` is for `[[files]]`.
    pub(crate) fn new(more: &str) -> Self {
        let room = Self { folder: tempfile::tempdir().unwrap(), service: Service::start() };
        fs::create_dir(room.path("log")).unwrap();
        room.configure(more, "");
        room
    }

    pub(crate) fn configure(&self, more: &str, delivery: &str) {
        let text = format!(
            "version = 1\nstate = \"{}\"\n[[files]]\npath = \"{}\"\ngroup = \"/test/app\"\nstream = \"{{file}}\"\n{more}\n\
             [delivery]\nflush = \"100ms\"\n{delivery}\n",
            self.path("state").display(),
            self.path("log/*.log").display()
        );
        fs::write(self.path("config.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(|command| command)
    }

    pub(crate) fn start_with(&self, change: impl FnOnce(&mut Command) -> &mut Command) -> Running {
        let log = File::options().append(true).create(true).open(self.path("output")).unwrap();
        let mut command = self.command(&["run", "-v"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Running(change(&mut command).spawn().unwrap())
    }

    /// The built binary with these arguments and the configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_log-shipper"));
        command.args(arguments).arg(self.path("config.toml")).stdin(Stdio::null());
        command.env("AWS_ENDPOINT_URL", self.service.url()).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "testing").env("AWS_SECRET_ACCESS_KEY", "testing");
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.service.url());
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command
    }

    /// Runs it to its end: exit code, stdout, stderr.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap_or_default()
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what} was never so: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn messages(&self, name: &str) -> Vec<String> {
        self.service.messages("/test/app", name)
    }

    /// What `status --json` says.
    pub(crate) fn status(&self) -> serde_json::Value {
        let (exit, text, said) = self.run(&["status", "--json"]);
        assert_eq!(exit, 0, "{said}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.service.accepted().broken, [""; 0]);
    }
}

/// A log-shipper that runs.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn stop(mut self) -> i32 {
        self.signal("TERM");
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Running {
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The most memory it ever had, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.unwrap().parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Numbered lines from `first` on.
pub(crate) fn lines(first: u64, count: u64) -> String {
    (first..first + count).map(|n| format!("{n:09} {}\n", "abcdefghij".repeat((n % 20) as usize))).collect()
}

pub(crate) fn numbers(messages: &[String]) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for message in messages {
        let number: u64 = message[..9].parse().unwrap();
        assert_eq!(message.len() as u64, 10 + (number % 20) * 10, "{message}");
        *numbers.entry(number).or_default() += 1;
    }
    numbers
}

/// Each of so many numbers once or more; gives how many came twice.
pub(crate) fn assert_all(numbers: &BTreeMap<u64, u64>, count: u64) -> u64 {
    let missing: Vec<u64> = (0..count).filter(|number| !numbers.contains_key(number)).take(5).collect();
    assert_eq!(missing, [0; 0], "of {count}");
    numbers.values().map(|times| times - 1).sum()
}
