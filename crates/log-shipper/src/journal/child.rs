//! journalctl as a process: how it is called, what it writes, why it ended.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::time::Instant;

use super::Settings;

/// After it ended, or closed its output, so long is waited for the rest: a pipe may be held open by others.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Of a line of its complaints.
const MAX_LINE: usize = 1_024;

/// Where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seek<'a> {
    Start,
    /// At this very entry.
    Cursor(&'a str),
    /// At the first entry that is not older, in microseconds since 1970.
    Time(u64),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Heard {
    /// So many bytes.
    Bytes(usize),
    End {
        reason: String,
        refuses_cursor: bool,
    },
}

/// A running journalctl, which is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) process: tokio::process::Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    status: Option<String>,
    complaints: Complaints,
    /// When no more is waited for.
    over: Option<Instant>,
}

impl Child {
    pub(super) fn start(settings: &Settings, seek: Seek<'_>) -> io::Result<Self> {
        let machine = std::fs::read_to_string("/etc/machine-id").ok();
        let mut command = Command::new(&settings.journalctl);
        command.args(arguments(settings, seek, machine.as_deref())).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C is for us: the child goes when we have nothing more to ask.
        command.process_group(0);
        let mut process = command.spawn()?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        Ok(Self { process, stdout, stderr, status: None, complaints: Complaints::default(), over: None })
    }

    /// Waits for bytes, or for the end. Nothing is lost if the wait is given up.
    pub(super) async fn hear(&mut self, buffer: &mut [u8]) -> Heard {
        loop {
            let mut words = [0; 1_024];
            tokio::select! {
                biased;
                read = read(&mut self.stdout, buffer), if self.stdout.is_some() => match read {
                    0 => self.stdout = None,
                    bytes => return Heard::Bytes(bytes),
                },
                read = read(&mut self.stderr, &mut words), if self.stderr.is_some() => match read {
                    0 => self.stderr = None,
                    bytes => self.complaints.hear(&words[..bytes]),
                },
                status = self.process.wait(), if self.status.is_none() => {
                    self.status = Some(status.map_or_else(|error| error.to_string(), |status| status.to_string()));
                }
                () = tokio::time::sleep_until(self.over.unwrap_or_else(Instant::now)), if self.over.is_some() => {
                    return self.end();
                }
            }
            if self.status.is_some() && self.stdout.is_none() && self.stderr.is_none() {
                return self.end();
            }
            if self.over.is_none() && (self.status.is_some() || self.stdout.is_none()) {
                self.over = Some(Instant::now() + LAST_WORDS);
            }
        }
    }

    fn end(&mut self) -> Heard {
        let status = self.status.take().unwrap_or_else(|| "its output is closed".to_owned());
        self.complaints.end_line();
        let last = &self.complaints.last;
        let reason = if last.is_empty() { status } else { format!("{status}: {last}") };
        Heard::End { reason, refuses_cursor: self.complaints.are_about_cursor }
    }
}

/// Without a pipe, and where it cannot be read: its end.
async fn read(pipe: &mut Option<impl AsyncReadExt + Unpin>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

fn arguments(settings: &Settings, seek: Seek<'_>, machine: Option<&str>) -> Vec<OsString> {
    // Since systemd 251 --follow alone means this boot alone, and what was written before a reboot would be lost. What says
    // otherwise depends on the version: 254 to 256 heed only --merge, 251 to 253 need --boot=all too, behind --follow.
    let mut arguments: Vec<OsString> =
        ["--output=export", "--follow", "--no-tail", "--merge", "--boot=all"].map(OsString::from).into();
    match seek {
        Seek::Start => {}
        Seek::Cursor(cursor) => arguments.push(format!("--cursor={cursor}").into()),
        Seek::Time(time) => {
            arguments.push(format!("--since=@{}.{:06}", time / 1_000_000, time % 1_000_000).into());
        }
    }
    if let Some(directory) = &settings.directory {
        let mut argument = OsString::from("--directory=");
        argument.push(directory);
        arguments.push(argument);
    }
    arguments.extend(settings.units.iter().map(|unit| format!("--unit={unit}").into()));
    arguments.push("--".into());
    // --merge takes the journals of other hosts in, too, if some are received here.
    let machine = machine.map(str::trim).filter(|id| id.len() == 32 && settings.directory.is_none());
    arguments.extend(machine.map(|id| format!("_MACHINE_ID={id}").into()));
    arguments.extend(settings.matches.iter().map(OsString::from));
    arguments
}

/// What was written to standard error.
#[derive(Debug, Default)]
struct Complaints {
    line: Vec<u8>,
    last: String,
    /// As in "Failed to seek to cursor: Invalid argument".
    are_about_cursor: bool,
}

impl Complaints {
    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        if !line.is_empty() {
            tracing::debug!(line, "journalctl says");
            self.are_about_cursor |= line.contains("cursor");
            self.last = line;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_gives_is_no_option_but_what_it_is_for() {
        let settings = Settings {
            units: vec!["--flush".into(), "b.service".into()],
            matches: vec!["_UID=0".into(), "--rotate".into()],
            directory: Some("-x".into()),
            from_end: false,
            journalctl: "journalctl".into(),
        };
        let machine = format!("{}\n", "0123456789abcdef".repeat(2));
        let all = arguments(&settings, Seek::Time(1_700_000_000_000_042), Some(&machine));
        let always = ["--output=export", "--follow", "--no-tail", "--merge", "--boot=all"];
        assert_eq!(all[..5], always);
        let given = ["--since=@1700000000.000042", "--directory=-x", "--unit=--flush", "--unit=b.service"];
        assert_eq!(all[5..9], given);
        assert_eq!(all[9..], ["--", "_UID=0", "--rotate"]);
        let own = Settings { units: Vec::new(), matches: vec!["_UID=0".into()], directory: None, ..settings };
        let all = arguments(&own, Seek::Cursor("s=1"), Some(&machine));
        assert_eq!(all[5..], ["--cursor=s=1", "--", "_MACHINE_ID=0123456789abcdef0123456789abcdef", "_UID=0"]);
        assert_eq!(arguments(&own, Seek::Start, Some("uninitialized\n"))[5..], ["--", "_UID=0"]);
    }

    #[test]
    fn the_last_line_of_the_complaints_is_kept_however_it_comes() {
        let mut complaints = Complaints::default();
        complaints.hear(b"one\nFailed to seek to cur");
        complaints.hear(b"sor: Invalid argument\n\nla");
        complaints.hear(&[b's'; 5_000]);
        complaints.end_line();
        assert!(
            complaints.are_about_cursor && complaints.last.starts_with("lass") && complaints.last.len() == MAX_LINE
        );
    }
}
