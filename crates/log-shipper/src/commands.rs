//! What each command does and shows.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use cli::human::{bytes, count, counted};
use cli::{Exit, Screen, Signals, Terminal};
use cloudwatch::{CallError, CloudWatch};
use log_shipper::checkpoint::{Checkpoint, Positions};
use log_shipper::config::{Config, Mistake};
use log_shipper::host::NoInstanceId;
use log_shipper::lock::{Lock, LockError};
use log_shipper::permissions::Tried;
use log_shipper::publish::Publisher;
use log_shipper::ship::{self, STATUS_FILE};
use log_shipper::sink::Sink;
use log_shipper::status::Status;
use log_shipper::{cwagent, host, permissions, tail};
use serde::Serialize;
use tokio::runtime::Runtime;

/// What is shown, and how the process ends.
pub(crate) type Failure = (Exit, Vec<Screen>);

fn failed(message: impl Into<String>, error: &dyn std::fmt::Display) -> Failure {
    (Exit::Failed, vec![Screen::error(message).cause(error.to_string())])
}

fn shown(written: std::io::Result<()>) -> Result<(), Failure> {
    written.map_err(|error| failed("write the result", &error))
}

fn read(path: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        (Exit::Usage, vec![Screen::error(format!("read {}", path.display())).cause(error.to_string())])
    })?;
    Config::parse(&text)
        .map_err(|mistakes| (Exit::Usage, mistakes.iter().map(|mistake| screen(mistake, path, &text)).collect()))
}

/// Where, what, and what to try.
fn screen(mistake: &Mistake, path: &Path, text: &str) -> Screen {
    let place = mistake.place(text);
    let at = place.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
    let mut screen = Screen::error(format!("{}{at}: {}", path.display(), mistake.message));
    if let Some((line, column)) = place
        && let Some(written) = text.lines().nth(line - 1).filter(|written| written.chars().count() < 160)
    {
        let number = line.to_string();
        let space = " ".repeat(number.len());
        screen = screen.details(format!("{number} | {written}\n{space} | {}^", " ".repeat(column - 1)));
    }
    mistake.help.iter().fold(screen, |screen, help| screen.help(help.clone()))
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    runtime.map_err(|error| failed("no runtime", &error))
}

// ---- run

pub(crate) fn run(path: &Path) -> Result<(), Failure> {
    let config = read(path)?;
    let _lock = Lock::take(&config.state).map_err(|error| match &error {
        LockError::Held { .. } => (Exit::Temporary, vec![Screen::of(&error)]),
        LockError::Io { .. } => (Exit::Failed, vec![Screen::of(&error).help("`state` names another directory")]),
    })?;
    let found = Checkpoint::open(&config.state).map_err(|error| (Exit::Failed, vec![Screen::of(&error)]))?;
    let mut found = found;
    if !found.damaged.is_empty() && found.positions == Positions::default() {
        // All that is known is that it was not the first start: what was shipped by then may be anything.
        let patterns = config.files.iter().flat_map(|files| files.paths.iter().map(|path| path.as_str().to_owned()));
        found.positions.patterns = patterns.collect();
    }
    for path in &found.damaged {
        tracing::error!(path = %path.display(), "a file of positions is damaged; the one before it counts, or files are read from their beginning");
    }
    // Many files at once are many descriptors.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, most);

    let runtime = runtime()?;
    let shipped: std::io::Result<Option<Status>> = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let mut stop = Box::pin(async move { _ = signals.next().await });
        let host = tokio::select! {
            host = host::known(&config.state, config.names_ask_for_id()) => host,
            () = &mut stop => return Ok(None),
        };
        let service = CloudWatch::open().await;
        let publisher =
            config.metrics.as_ref().map(|metrics| Publisher::start(metrics, &config.state, service.clone()));
        let sink = Sink::new(service);
        let status = ship::ship(
            &config,
            &host,
            found.checkpoint,
            found.positions,
            sink,
            publisher,
            crate::memory::give_back,
            stop,
        )
        .await;
        Ok(Some(status))
    });
    // A thread that reads the standard input cannot be woken.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let status = shipped.map_err(|error| failed("signals cannot be waited for", &error))?;
    if let Some(lost) = status.as_ref().map(|status| status.counts.lost).filter(|lost| *lost > 0) {
        let message = format!("{} could be neither sent nor set aside", counted(lost, "event", "events"));
        return Err((
            Exit::Failed,
            vec![Screen::error(message).help("the log says why the file of dead letters cannot be written")],
        ));
    }
    if let Some(status) = status {
        let counts = &status.counts;
        tracing::info!(
            read = counts.read,
            accepted = counts.accepted,
            dead_letters = counts.dead_letters,
            filtered = counts.filtered,
            requests = counts.requests,
            bytes_lost = counts.bytes_lost,
            lag_bytes = status.lag_bytes,
            "stopped"
        );
    }
    Ok(())
}

// ---- check

#[derive(Serialize)]
struct Checked {
    /// Not with `--offline`, which may be on another host.
    state: Option<State>,
    sources: Vec<Found>,
    policy: serde_json::Value,
    rights: Vec<Right>,
}

#[derive(Serialize)]
struct Found {
    source: String,
    group: String,
    stream: String,
    files: usize,
    unreadable: Vec<String>,
}

#[derive(Serialize)]
struct State {
    path: String,
    /// Why nothing can be written there.
    problem: Option<String>,
}

impl State {
    fn of(path: &Path) -> Self {
        let tried = match path.metadata() {
            Ok(_) => {
                let file = path.join(format!("check.{}", std::process::id()));
                std::fs::write(&file, []).and_then(|()| std::fs::remove_file(&file))
            }
            // It is made by the first run.
            Err(_) => {
                let missing = path.ancestors().take_while(|above| !above.exists()).last().unwrap_or(path);
                std::fs::create_dir(missing).and_then(|()| std::fs::remove_dir(missing))
            }
        };
        Self { path: path.display().to_string(), problem: tried.err().map(|error| error.to_string()) }
    }
}

#[derive(Serialize)]
struct Right {
    right: String,
    /// It is refused; otherwise nobody knows.
    is_missing: bool,
    /// Why it is not there.
    problem: Option<String>,
}

pub(crate) fn check(path: &Path, offline: bool, terminal: Terminal) -> Result<(), Failure> {
    let config = read(path)?;
    let mut checked = Checked {
        state: (!offline).then(|| State::of(&config.state)),
        sources: sources(&config),
        policy: permissions::policy(&config),
        rights: Vec::new(),
    };
    let (mut exit, mut unknown_host) = (None, None);
    if checked.sources.iter().any(|found| !found.unreadable.is_empty()) {
        exit = Some((Exit::Failed, "a file cannot be read"));
    }
    if checked.state.as_ref().is_some_and(|state| state.problem.is_some()) {
        exit = Some((Exit::Failed, "positions cannot be kept: `state` names another directory"));
    }
    if !offline {
        let tried = runtime()?.block_on(try_rights(&config));
        if let Err(error) = &tried {
            unknown_host = Some(Screen::of(error).help("on another host use {hostname}; without a network --offline"));
        }
        for tried in tried.unwrap_or_default() {
            match &tried.found {
                Ok(()) => {}
                Err(CallError::Denied(_)) => {
                    exit = Some((Exit::Denied, "a right is missing, or there are no credentials"))
                }
                Err(_) if exit.is_none() => exit = Some((Exit::Failed, "the service does not answer as it should")),
                Err(_) => {}
            }
            let is_missing = matches!(tried.found, Err(CallError::Denied(_)));
            let problem = tried.found.err().map(|error| error.to_string());
            checked.rights.push(Right { right: tried.what, is_missing, problem });
        }
    }
    if terminal.json {
        shown(cli::print_json("log-shipper check", &checked))?;
    } else {
        shown(cli::print(text_of_check(&checked, offline)))?;
    }
    if let Some(screen) = unknown_host {
        return Err((Exit::Failed, vec![screen]));
    }
    exit.map_or(Ok(()), |(exit, message)| Err((exit, vec![Screen::error(message)])))
}

async fn try_rights(config: &Config) -> Result<Vec<Tried>, NoInstanceId> {
    let host = host::find(&config.state, config.names_ask_for_id()).await?;
    let mut tried = permissions::try_all(config, &host, &CloudWatch::open().await).await;
    // Without it metrics wait, and logs do not.
    if config.metrics_ask_for_id()
        && let Err(error) = host::find(&config.state, true).await
    {
        let found = Err(CallError::Unavailable(error.to_string()));
        tried.push(Tried { what: "the instance's id, for a dimension of metrics".into(), found });
    }
    Ok(tried)
}

fn sources(config: &Config) -> Vec<Found> {
    let files = config.files.iter().flat_map(|files| {
        files.paths.iter().map(|pattern| {
            let mut found = Found {
                source: pattern.as_str().into(),
                group: files.group.as_str().into(),
                stream: files.stream.as_str().into(),
                files: 0,
                unreadable: Vec::new(),
            };
            for path in tail::walk(pattern.as_str()) {
                let is_left_out = |path: &Path| files.exclude.iter().any(|out| tail::matches(out, path));
                match path {
                    Ok(path) if path.is_dir() || is_left_out(&path) => {}
                    Ok(path) => {
                        found.files += 1;
                        if let Err(error) = std::fs::File::open(&path) {
                            found.unreadable.push(format!("{}: {error}", path.display()));
                        }
                    }
                    Err(error) => found.unreadable.push(format!("{}: {}", error.path().display(), error.error())),
                }
            }
            found
        })
    });
    let other = |source: String, group: &str, stream: &str| Found {
        source,
        group: group.into(),
        stream: stream.into(),
        files: 0,
        unreadable: Vec::new(),
    };
    let journals = config
        .journals
        .iter()
        .map(|journal| other(format!("journal ({})", journal.key()), journal.group.as_str(), journal.stream.as_str()));
    let stdin = config.stdin.iter().map(|stdin| other("stdin".into(), stdin.group.as_str(), stdin.stream.as_str()));
    files.chain(journals).chain(stdin).collect()
}

fn text_of_check(checked: &Checked, offline: bool) -> String {
    let mut text = String::new();
    for found in &checked.sources {
        let files = match found.source.starts_with('/') {
            true => format!(" ({})", counted(found.files as u64, "file", "files")),
            false => String::new(),
        };
        let _ = writeln!(text, "{}{files} → {} / {}", cli::escape(&found.source), found.group, found.stream);
        for unreadable in &found.unreadable {
            let _ = writeln!(text, "  cannot be read: {}", cli::escape(unreadable));
        }
    }
    if let Some(State { path, problem }) = &checked.state {
        let _ = match problem {
            None => writeln!(text, "ok: {} can be written", cli::escape(path)),
            Some(problem) => {
                writeln!(text, "missing: {} cannot be written: {}", cli::escape(path), cli::escape(problem))
            }
        };
    }
    for right in &checked.rights {
        match &right.problem {
            None => _ = writeln!(text, "ok: {}", right.right),
            Some(problem) if right.is_missing => {
                _ = writeln!(text, "missing: {}: {}", right.right, cli::escape(problem));
            }
            Some(problem) => _ = writeln!(text, "not tried: {}: {}", right.right, cli::escape(problem)),
        }
    }
    if offline {
        text.push_str("no service was asked (--offline)\n");
    }
    text.push_str("the rights it takes:\n");
    text.push_str(&serde_json::to_string_pretty(&checked.policy).unwrap_or_default());
    text.push('\n');
    text
}

// ---- status

#[derive(Serialize)]
struct StatusNow {
    is_running: bool,
    #[serde(flatten)]
    status: Status,
}

pub(crate) fn status(path: &Path, terminal: Terminal) -> Result<(), Failure> {
    let config = read(path)?;
    let path = config.state.join(STATUS_FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let screen = Screen::error(format!("read {}", path.display())).cause(error.to_string());
        (
            Exit::Failed,
            vec![screen.help("has log-shipper been run with this configuration, and may you read its state?")],
        )
    })?;
    let status = serde_json::from_str(&text).map_err(|error| failed(format!("read {}", path.display()), &error))?;
    let now = StatusNow { is_running: Lock::is_held(&config.state), status };
    if terminal.json {
        shown(cli::print_json("log-shipper status", &now))
    } else {
        shown(cli::print(text_of_status(&now)))
    }
}

fn text_of_status(now: &StatusNow) -> String {
    let StatusNow { is_running, status } = now;
    let counts = &status.counts;
    let mut text = String::new();
    let state = if *is_running { format!("running, pid {}", status.pid) } else { "not running".into() };
    let _ =
        writeln!(text, "log-shipper {}: {state}; started {}, as of {}", status.version, status.started, status.written);
    let _ = writeln!(
        text,
        "events: {} read, {} accepted ({} in {}), {} in dead letters, {} filtered",
        count(counts.read),
        count(counts.accepted),
        bytes(counts.bytes_accepted),
        counted(counts.requests, "request", "requests"),
        count(counts.dead_letters),
        count(counts.filtered)
    );
    let followed = counted(status.files, "file", "files");
    let streams = counted(status.streams, "stream", "streams");
    if status.lag_bytes == 0 && status.oldest_unaccepted_seconds == 0.0 {
        let _ = writeln!(text, "waiting: nothing, in {followed} and {streams}");
    } else {
        let _ = writeln!(
            text,
            "waiting: {} in {} of {followed}, {streams}, for {:.1} s at most; the oldest event that was taken is {:.1} s old",
            bytes(status.lag_bytes),
            count(status.files_lagging),
            status.lag_seconds,
            status.oldest_unaccepted_seconds
        );
    }
    let causes = counts.causes().into_iter().filter(|(_, number)| *number > 0);
    let causes: Vec<String> = causes.map(|(cause, number)| format!("{} {cause}", count(number))).collect();
    if !causes.is_empty() {
        let _ = writeln!(text, "dead letters: {}", causes.join(", "));
    }
    let told = [
        ("retries: throttled", counts.retries_throttled),
        ("retries: refused for want of rights", counts.retries_denied),
        ("retries: no usable answer", counts.retries_unavailable),
        ("events without a time of their own", counts.without_time),
        ("events with bytes that are no UTF-8", counts.not_utf8),
        ("parts of events that were too long", counts.parts),
        ("files emptied while they were read", counts.files_emptied),
        ("bytes that nobody could read any more", counts.bytes_lost),
        ("events neither sent nor set aside at the end", counts.lost),
        ("blank lines left out", counts.blank),
        ("gaps in the journal", counts.journal_gaps),
        ("stretches of the journal that could not be read", counts.journal_damaged),
        ("fields of the journal that were cut", counts.journal_cut),
        ("positions not saved", counts.saves_failed),
        ("metrics given up", counts.metrics_dropped),
    ];
    for (what, number) in told.into_iter().filter(|(_, number)| *number > 0) {
        let _ = writeln!(text, "{what}: {}", count(number));
    }
    for file in &status.lagging {
        let _ =
            writeln!(text, "lags: {} by {}, {:.1} s", cli::escape(&file.path), bytes(file.lag_bytes), file.lag_seconds);
    }
    for stream in &status.troubled {
        let _ = writeln!(
            text,
            "trouble: {} / {}: {}; failed {} in a row",
            stream.group,
            stream.stream,
            cli::escape(&stream.trouble),
            counted(u64::from(stream.failures), "time", "times")
        );
    }
    for (path, reason) in &status.unreadable {
        let _ = writeln!(text, "cannot be read: {}: {reason}", cli::escape(path));
    }
    text
}

// ---- the others

#[derive(Serialize)]
struct ImportedDocument {
    toml: String,
    notes: Vec<String>,
}

pub(crate) fn import_cwagent(file: &Path, terminal: Terminal) -> Result<(), Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| {
        (Exit::Usage, vec![Screen::error(format!("read {}", file.display())).cause(error.to_string())])
    })?;
    let imported = cwagent::import(&text)
        .map_err(|error| (Exit::Usage, vec![Screen::error(format!("{}: {error}", file.display()))]))?;
    if terminal.json {
        let cwagent::Imported { toml, notes } = imported;
        return shown(cli::print_json("log-shipper import-cwagent", &ImportedDocument { toml, notes }));
    }
    shown(cli::print(&imported.toml))?;
    for note in &imported.notes {
        Screen::note(note.clone()).show(terminal.err);
    }
    // What has been made is held against what will read it.
    match Config::parse(&imported.toml) {
        Ok(_) => Ok(()),
        Err(mistakes) => {
            let path = Path::new("the configuration above");
            Err((Exit::Failed, mistakes.iter().map(|mistake| screen(mistake, path, &imported.toml)).collect()))
        }
    }
}

pub(crate) fn completions(shell: cli::Shell, command: clap::Command, terminal: Terminal) -> Result<(), Failure> {
    shown(cli::print_completions(shell, command, terminal.json.then_some("log-shipper completions")))
}
