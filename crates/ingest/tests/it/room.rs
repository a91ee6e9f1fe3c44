//! A directory of its own for each test, and the binary run in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Customers enough for a test, with a type, a bound and a length to break.
pub(crate) const PIPELINE: &str = r#"version = 1
name = "people"

[source]
path = "people/*.csv*"

[dialect]
delimiter = ","

[schema]
fields = [
  { name = "id", type = "integer", constraints = { required = true, minimum = 1 } },
  { name = "name", type = "string", sqlType = "varchar(20)", clean = ["trim"] },
  { name = "born", type = "date" },
]

[target]
table = "people"

[errors]
limit = { rows = 2 }
"#;

pub(crate) const GOOD: &str = "id,name,born\n1,Ana,1990-01-31\n2,\"Łucja,\nthe second\",\n";
/// Two rejects: within the limit.
pub(crate) const DIRTY: &str = "id,name,born\n1,Ana,1990-02-30\n2,Wei,1991-05-06\nx,Zoë,\n";
/// Three rejects: over the limit.
pub(crate) const ROTTEN: &str = "id,name,born\n1,Ana\n0,Wei,\n,Zoë,\n4,Noah,2001-01-01\n";

pub(crate) struct Room {
    directory: TempDir,
    env: Vec<(String, String)>,
    unprivileged: bool,
}

impl Room {
    /// With `people.toml` in it.
    pub(crate) fn new() -> Self {
        let room =
            Self { directory: tempfile::tempdir().expect("make a directory"), env: Vec::new(), unprivileged: false };
        room.with("people.toml", PIPELINE)
    }

    pub(crate) fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(name, content);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the room")).expect("make a directory");
        fs::write(path, content).expect("write a file");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Names and contents below a directory, in order; empty when there is no such directory.
    pub(crate) fn files_below(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        fn collect(directory: &Path, below: &str, found: &mut Vec<(String, Vec<u8>)>) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = format!("{below}{}", entry.file_name().to_string_lossy());
                if entry.file_type().expect("look at a file").is_dir() {
                    collect(&entry.path(), &format!("{name}/"), found);
                } else {
                    found.push((name, fs::read(entry.path()).expect("read a file")));
                }
            }
        }
        let mut found = Vec::new();
        collect(&self.path(name), "", &mut found);
        found.sort();
        found
    }

    /// From here on as a user whom file permissions bind.
    pub(crate) fn unprivileged(&mut self) {
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("open it");
        open(self.directory.path(), 0o777);
        let copy = self.path("ingest");
        fs::copy(env!("CARGO_BIN_EXE_ingest"), &copy).expect("copy the program");
        open(&copy, 0o755);
        self.unprivileged = true;
    }

    /// Run in this directory, with nothing of the machine's environment that could change what it does.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let program = if self.unprivileged { self.path("ingest") } else { env!("CARGO_BIN_EXE_ingest").into() };
        let mut command = Command::new(program);
        if self.unprivileged && fs::metadata("/proc/self").expect("Linux").uid() == 0 {
            command.uid(65_534);
        }
        command.args(args).current_dir(self.directory.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.directory.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn ingest(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("run ingest")
    }

    pub(crate) fn ingest_with_stdin(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run ingest");
        // Small enough for the pipe, so that nobody waits for anybody. It may have ended without reading.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("run ingest")
    }

    /// The output with what differs from one machine or run to the next replaced.
    pub(crate) fn normalised(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
        let directory = self.directory.path().canonicalize().expect("the room exists");
        let mut text = text.replace(directory.to_str().expect("a plain path"), "<dir>");
        for (name, value) in &self.env {
            if name == "AWS_ENDPOINT_URL" {
                text = text.replace(value, "<endpoint>");
            }
        }
        text.replace(env!("CARGO_PKG_VERSION"), "<version>")
    }
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("it exits by itself")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}
