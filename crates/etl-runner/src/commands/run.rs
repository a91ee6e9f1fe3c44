//! `run`: pipelines in, load reports out.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cli::{Exit, Progress, Screen, human};
use etl_runner::database::{Database, DatabaseConfig, DatabaseError, DatabaseUrl};
use etl_runner::ledger::Timestamp;
use etl_runner::parallel::SPLIT_BYTES;
use etl_runner::report::{LoadReport, Outcome, SkipReason};
use etl_runner::retry::{Patience, patiently};
use etl_runner::run::{Event, Options, RunError, RunReport};
use objects::{Compression, Glob, Store};
use serde::Serialize;
use uuid::Uuid;

use super::failure::{Failure, load_failed};
use super::load_text::{Sums, load_text};
use super::pipelines::{PipelineFile, is_pipeline, read_all};
use super::signals::{Stopped, block_on_unless};
use super::{Context, Hint, metrics};
use crate::config::Run;

/// What is loaded through one pipeline.
#[derive(Debug)]
struct Task {
    file: PipelineFile,
    from: From,
}

#[derive(Debug)]
enum From {
    /// What matches in the store of the flags.
    Store(Glob),
    /// Local files: the directory each is in, and its key there.
    Files(Vec<(Store, String)>),
}

/// How one pipeline ended.
#[derive(Debug)]
struct Ended {
    file: PathBuf,
    outcome: Result<RunReport, Failure>,
}

#[derive(Serialize)]
struct Document<'a> {
    run_id: Uuid,
    dry_run: bool,
    exit: u8,
    pipelines: Vec<PipelineDocument<'a>>,
    errors: Vec<&'a Screen>,
}

#[derive(Serialize)]
struct PipelineDocument<'a> {
    file: String,
    #[serde(flatten)]
    report: &'a RunReport,
}

pub(super) fn run(args: &Run, context: &Context) -> Result<Exit, Failure> {
    // Phase 1: nothing is opened but local files.
    let Planned { tasks, labels, missing } = plan(args)?;
    let config = database_config(args, context)?;
    let options = Options {
        run_id: Uuid::now_v7(),
        reload: args.reload,
        since: args.since.map(|since| since.before(SystemTime::now())),
        dry_run: args.dry_run,
        limit: args.limit.and_then(|limit| usize::try_from(limit).ok()),
        workers: args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        connections: args.parallel.map_or(1, usize::from),
        split_bytes: SPLIT_BYTES,
        retry_for: args.retry_for,
        committing: Arc::default(),
        in_splits: Arc::default(),
    };

    // Phase 2.
    let watch = Watch::new(context, options.run_id, labels);
    missing.iter().for_each(|ended| ended.outcome.as_ref().err().into_iter().for_each(|failure| watch.show(failure)));
    let ended: Vec<Ended> = match block_on_unless(&options.committing, run_all(&tasks, args, &config, &options, &watch))
    {
        Ok(ended) => missing.into_iter().chain(ended?).collect(),
        Err(Stopped::By(exit)) => return Err(watch.interrupted(exit, options.in_splits.load(Ordering::SeqCst))),
        Err(stopped) => return Err(stopped.into()),
    };
    let exit = exit_of(&ended);
    if context.terminal.json {
        let document = Document {
            run_id: options.run_id,
            dry_run: options.dry_run,
            exit: exit.code(),
            pipelines: reports(&ended)
                .map(|(file, report)| PipelineDocument { file: file.display().to_string(), report })
                .collect(),
            errors: ended.iter().filter_map(|ended| ended.outcome.as_ref().err()).flat_map(|f| &f.screens).collect(),
        };
        cli::print_json(context.name, &document).map_err(|error| watch.unwritten(&error))?;
    } else {
        watch.finish(&ended)?;
    }
    Ok(exit)
}

/// A dry run writes nothing: a database that may only be read is enough, and one that is not there yet is looked at as an
/// empty one.
fn database_config(args: &Run, context: &Context) -> Result<DatabaseConfig, Failure> {
    let config = context.resolve(&args.database)?;
    Ok(match config.url() {
        _ if !args.dry_run => config,
        DatabaseUrl::Sqlite(path) if !path.exists() => DatabaseConfig::sqlite(Path::new(":memory:")),
        DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_) => config.existing(),
    })
}

/// What there is to do.
struct Planned {
    tasks: Vec<Task>,
    /// URI of a local file → its path as it was typed.
    labels: HashMap<String, String>,
    /// Local files that cannot be opened, beside others that can.
    missing: Vec<Ended>,
}

/// Tells pipelines from files, and looks at both.
fn plan(args: &Run) -> Result<Planned, Failure> {
    let (pipelines, files): (Vec<&PathBuf>, Vec<&PathBuf>) = args.inputs.iter().partition(|path| is_pipeline(path));
    let mut labels = HashMap::new();
    let mut pipelines = if pipelines.is_empty() { Vec::new() } else { read_all(pipelines)? };
    if pipelines.is_empty() {
        let help = match files.iter().find(|path| path.is_dir()) {
            Some(directory) => format!("give its files: {}", directory.join("*.toml").display()),
            None => "a pipeline file ends in .toml: etl-runner run pipelines/customers.toml export.csv".into(),
        };
        return Err(Failure::usage("no pipeline file among the arguments", help));
    }
    let single = (!files.is_empty() || args.object.is_some()).then(|| {
        let what = if files.is_empty() { "--object" } else { "a local file" };
        let help = "give one pipeline, and the others in runs of their own";
        match pipelines.pop() {
            Some(file) if pipelines.is_empty() => Ok(file),
            _ => Err(Failure::usage(format!("{what} goes with exactly one pipeline"), help)),
        }
    });
    let Some(single) = single else {
        let task = |file: PipelineFile| Task { from: From::Store(file.glob.clone()), file };
        return Ok(Planned { tasks: pipelines.into_iter().map(task).collect(), labels, missing: Vec::new() });
    };
    let file = single?;
    if files.is_empty() {
        let glob = Glob::literal(args.object.clone().unwrap_or_default());
        return Ok(Planned { tasks: vec![Task { file, from: From::Store(glob) }], labels, missing: Vec::new() });
    }
    if args.object.is_some() || args.since.is_some() || args.limit.is_some() {
        let help = "they choose among the objects of the store; leave them out, or leave the file out";
        return Err(Failure::usage("--object, --since and --limit do not go with a local file", help));
    }
    let (mut opened, mut failures) = (Vec::new(), Vec::new());
    for path in files {
        match Store::of_file(path) {
            Ok((store, key)) => {
                labels.insert(store.uri_of(&key), path.display().to_string());
                opened.push((store, key));
            }
            Err(error) => failures.push(Failure::store(&error)),
        }
    }
    if opened.is_empty()
        && let Some(failure) = Failure::all(std::mem::take(&mut failures))
    {
        return Err(failure);
    }
    let missing =
        failures.into_iter().map(|failure| Ended { file: file.path.clone(), outcome: Err(failure) }).collect();
    Ok(Planned { tasks: vec![Task { file, from: From::Files(opened) }], labels, missing })
}

async fn run_all(
    tasks: &[Task],
    args: &Run,
    config: &DatabaseConfig,
    options: &Options,
    watch: &Watch<'_>,
) -> Result<Vec<Ended>, Failure> {
    let wants_store = tasks.iter().any(|task| matches!(task.from, From::Store(_)));
    let store = match wants_store {
        true => Some(Store::open(&args.store.store).await.map_err(|error| Failure::store(&error))?),
        false => None,
    };
    let mut patience = Patience::new(options.retry_for);
    let waits = |error: &DatabaseError, wait| watch.waits(&etl_runner::chain(error), wait);
    let connected = patiently(&mut patience, waits, async || Database::connect(config).await).await;
    let mut database = connected.map_err(|error| Failure::database(&error))?;
    let mut ended = Vec::new();
    for task in tasks {
        let outcome = run_task(task, store.as_ref(), &mut database, options, watch).await;
        let outcome = match outcome {
            Ok(mut report) => {
                report.loads.iter_mut().for_each(|load| watch.complete(load, &task.file.path));
                Ok(report)
            }
            Err(error) => Err(Failure::run(&error, &task.file.path).completed(watch.context)),
        };
        // What is down for one pipeline is down for the next.
        let hopeless = match &outcome {
            Ok(report) => report.stopped_early && last_exit(report) == Exit::Temporary,
            Err(failure) => failure.exit == Exit::Temporary,
        };
        if let Err(failure) = &outcome {
            watch.show(failure);
        }
        ended.push(Ended { file: task.file.path.clone(), outcome });
        if hopeless {
            break;
        }
    }
    database.close().await;
    Ok(ended)
}

async fn run_task(
    task: &Task,
    store: Option<&Store>,
    database: &mut Database,
    options: &Options,
    watch: &Watch<'_>,
) -> Result<RunReport, RunError> {
    let observer = |event: Event<'_>| watch.on(event, &task.file.path);
    let pipeline = &task.file.pipeline;
    let mut whole = RunReport::default();
    match (&task.from, store) {
        (From::Store(glob), Some(store)) => {
            whole = etl_runner::run::run(database, store, pipeline, glob, options, &observer).await?;
        }
        (From::Store(_), None) => {}
        (From::Files(files), _) => {
            for (store, key) in files {
                let glob = Glob::literal(key.as_str());
                let report = etl_runner::run::run(database, store, pipeline, &glob, options, &observer).await?;
                let hopeless = report.loads.iter().any(|load| load.outcome.ends_run(pipeline.target.mode));
                append(&mut whole, report);
                if hopeless {
                    whole.stopped_early = files.last().is_some_and(|(_, last)| last != key);
                    break;
                }
            }
        }
    }
    Ok(whole)
}

fn append(whole: &mut RunReport, part: RunReport) {
    let RunReport {
        pipeline,
        table,
        matched,
        already_loaded,
        left_out,
        unreadable,
        unlisted,
        passed_over,
        loads,
        stopped_early,
    } = part;
    whole.pipeline = pipeline;
    whole.table = table;
    whole.matched += matched;
    whole.already_loaded += already_loaded;
    whole.left_out += left_out;
    whole.unreadable += unreadable;
    whole.unlisted += unlisted;
    whole.passed_over.extend(passed_over);
    whole.loads.extend(loads);
    whole.stopped_early |= stopped_early;
}

fn reports(ended: &[Ended]) -> impl Iterator<Item = (&Path, &RunReport)> {
    ended.iter().filter_map(|ended| Some((ended.file.as_path(), ended.outcome.as_ref().ok()?)))
}

fn last_exit(report: &RunReport) -> Exit {
    report.loads.last().map_or(Exit::Done, |load| load.outcome.exit())
}

/// One code for all: what ended the run before its time; what failed, when all failed alike; that some failed,
/// otherwise. What was loaded before this run is no part of it; what failed before and still waits for somebody is.
fn exit_of(ended: &[Ended]) -> Exit {
    let mut done = 0;
    let mut failed_before = false;
    let mut failures = Vec::new();
    for ended in ended {
        match &ended.outcome {
            Err(failure) if failure.exit == Exit::Temporary => return Exit::Temporary,
            Err(failure) => failures.push(failure.exit),
            Ok(report) if report.stopped_early => return last_exit(report),
            Ok(report) => {
                if report.unlisted > 0 {
                    failures.push(Exit::SomeFailed);
                }
                for load in &report.loads {
                    match load.outcome {
                        Outcome::Failed { exit, .. } => failures.push(exit),
                        Outcome::Loaded { .. } | Outcome::WouldLoad => done += 1,
                        Outcome::Skipped { reason: SkipReason::Failed, .. } => failed_before = true,
                        Outcome::AlreadyLoaded { .. } | Outcome::SameBytes { .. } | Outcome::Skipped { .. } => {}
                    }
                }
            }
        }
    }
    match failures.as_slice() {
        [] if failed_before => Exit::DataGate,
        [] => Exit::Done,
        all if !failed_before && all.iter().all(|exit| *exit == Exit::Temporary) => Exit::Temporary,
        [first, rest @ ..] if done == 0 && rest.iter().all(|exit| exit == first) => *first,
        _ => Exit::SomeFailed,
    }
}

/// Shows a run while it happens: progress, each load's block once it is over, the log line.
struct Watch<'a> {
    context: &'a Context,
    run_id: Uuid,
    /// URI of a local file → its path as it was typed.
    labels: HashMap<String, String>,
    log_json: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<Bar>,
    /// Key of the object whose load is under way.
    current: Option<String>,
    loaded: u64,
    unwritten: Option<io::Error>,
}

struct Bar {
    progress: Progress,
    bytes: u64,
}

impl<'a> Watch<'a> {
    fn new(context: &'a Context, run_id: Uuid, labels: HashMap<String, String>) -> Self {
        let log_json = std::env::var_os("AQUEDUCT_LOG_FORMAT").is_some_and(|format| format == "json");
        Self { context, run_id, labels, log_json, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self, event: Event<'_>, pipeline: &Path) {
        match event {
            Event::Begins { key, size } => {
                // Of a compressed object nobody knows how many bytes will be read.
                let total = (Compression::of_name(key) == Compression::Plain).then_some(size);
                let progress = Progress::bytes(self.context.terminal, key, total);
                let mut state = self.state();
                state.bar = Some(Bar { progress, bytes: 0 });
                state.current = Some(key.to_owned());
            }
            Event::Advanced { bytes, records } => {
                if let Some(bar) = &mut self.state().bar {
                    bar.progress.add_bytes(bytes.saturating_sub(bar.bytes));
                    bar.progress.set_rows(records);
                    bar.bytes = bytes;
                }
            }
            Event::Waits { error, wait } => self.waits(error, wait),
            Event::Ended(report) => self.ended(report, pipeline),
        }
    }

    fn waits(&self, error: &str, wait: Duration) {
        if let Some(bar) = self.state().bar.take() {
            bar.progress.finish();
        }
        let message = format!("{error}; trying again in {:.1} s", wait.as_secs_f64());
        Screen::warning(message).show(self.context.terminal.err);
    }

    fn hint<'p>(&self, report: &LoadReport, pipeline: &'p Path) -> Hint<'p> {
        let object = match self.labels.get(&report.object) {
            Some(path) => cli::shell_word(path),
            None => format!("--object {}", cli::shell_word(&report.key)),
        };
        let load = if let Outcome::Failed { load, .. } = report.outcome { load } else { None };
        Hint { pipeline, object, load }
    }

    /// In the document hints read as on a terminal.
    fn complete(&self, report: &mut LoadReport, pipeline: &Path) {
        let hint = self.hint(report, pipeline);
        if let Outcome::Failed { help, .. } = &mut report.outcome {
            *help = help.iter().filter_map(|help| self.context.hint(help, &hint)).collect();
        }
    }

    fn ended(&self, report: &LoadReport, pipeline: &Path) {
        let mut state = self.state();
        if let Some(bar) = state.bar.take() {
            bar.progress.finish();
        }
        state.current = None;
        state.loaded += u64::from(matches!(report.outcome, Outcome::Loaded { .. }));
        self.log(report);
        let label = self.labels.get(&report.object).unwrap_or(&report.key);
        if let Some(screen) = load_failed(report, label, self.context, &self.hint(report, pipeline)) {
            screen.show(self.context.terminal.err);
        }
        if !self.context.terminal.json {
            let text = load_text(report, label, self.context.terminal.out, |arguments| self.context.next(arguments));
            if let Err(error) = cli::print(text) {
                state.unwritten.get_or_insert(error);
            }
        }
    }

    fn log(&self, report: &LoadReport) {
        if self.log_json {
            let now = Timestamp::from(SystemTime::now()).0 / 1000;
            if let Some(line) = metrics::line(report, self.run_id, now) {
                cli::print_message(format_args!("{line}\n"));
            }
            return;
        }
        if let Outcome::Loaded { load } = report.outcome {
            let counts = report.counts;
            tracing::info!(
                load,
                key = %report.key,
                table = %report.table,
                read = counts.read,
                loaded = counts.loaded,
                rejected = counts.rejected,
                "load finished"
            );
        }
    }

    /// The result could not be written; what was committed stands all the same.
    fn unwritten(&self, error: &io::Error) -> Failure {
        match self.state().loaded {
            0 => Failure::output(error).help("nothing was loaded by this run"),
            loaded => {
                let objects = human::counted(loaded, "object was", "objects were");
                Failure::output(error).help(format!("{objects} loaded all the same: `etl-runner loads` lists them"))
            }
        }
    }

    fn show(&self, failure: &Failure) {
        failure.show_screens(self.context.terminal);
    }

    /// After the last load: what the blocks did not say.
    fn finish(&self, ended: &[Ended]) -> Result<(), Failure> {
        let unwritten = self.state().unwritten.take();
        if let Some(error) = unwritten {
            return Err(self.unwritten(&error));
        }
        let mut sums = Sums::default();
        for (_, report) in reports(ended) {
            report.loads.iter().for_each(|load| sums.add(load));
            sums.already_loaded += report.already_loaded;
            sums.left_out += report.left_out;
            sums.not_tried |= report.stopped_early;
            let named =
                report.loads.iter().filter(|load| matches!(load.outcome, Outcome::AlreadyLoaded { .. })).count();
            let more = report.already_loaded.saturating_sub(named as u64);
            if more > 0 {
                let more = human::count(more);
                cli::print(format_args!("… and {more} more already loaded\n"))
                    .map_err(|error| self.unwritten(&error))?;
            }
            if report.unreadable > 0 {
                let names = human::counted(report.unreadable, "name", "names");
                let mut shown: Vec<String> =
                    report.passed_over.iter().map(|name| format!("  {}", cli::escape(name))).collect();
                let more = report.unreadable.saturating_sub(shown.len() as u64);
                if more > 0 {
                    shown.push(format!("  … and {} more", human::count(more)));
                }
                Screen::warning(format!("{names} in the store are no objects and were passed over"))
                    .details(shown.join("\n"))
                    .help("symbolic links are not followed; hidden files and those still being written are left out")
                    .show(self.context.terminal.err);
            }
        }
        match sums.line() {
            Some(line) => cli::print(line).map_err(|error| self.unwritten(&error)),
            None => Ok(()),
        }
    }

    fn interrupted(&self, exit: Exit, in_splits: bool) -> Failure {
        let mut state = self.state();
        if let Some(bar) = state.bar.take() {
            bar.progress.finish();
        }
        let screen = match &state.current {
            Some(key) if in_splits => {
                Screen::error(format!("interrupted while loading {key}; its splits that are in stay"))
            }
            Some(key) => {
                Screen::error(format!("interrupted while loading {key}; the database takes back what it had of it"))
            }
            None => Screen::error("interrupted"),
        };
        let screen = match state.loaded {
            0 if in_splits => screen.cause("the load is unfinished: `etl-runner loads` lists it as loading"),
            0 => screen.cause("nothing was loaded"),
            loaded => screen
                .cause(format!("{} loaded before; they stay", human::counted(loaded, "object was", "objects were"))),
        };
        Failure::new(exit, screen.help("the same command goes on where this one stopped; nothing is loaded twice"))
    }
}

#[cfg(test)]
mod tests {
    use cli::Screen;
    use etl_runner::ledger::Counts;

    use super::*;

    fn load(outcome: Outcome) -> LoadReport {
        LoadReport {
            pipeline: "p".into(),
            table: "t".into(),
            object: "file:///k".into(),
            key: "k".into(),
            version: "v".into(),
            outcome,
            can_reload: true,
            counts: Counts::default(),
            bytes: 0,
            seconds: 0.0,
            reject_totals: Vec::new(),
            first_rejects: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn failed(exit: Exit) -> Outcome {
        Outcome::Failed {
            error: "e".into(),
            help: Vec::new(),
            exit,
            concerns_all: false,
            may_pass: false,
            comes_first: false,
            load: None,
        }
    }

    fn ended(outcomes: Vec<Outcome>, stopped_early: bool) -> Ended {
        let loads = outcomes.into_iter().map(load).collect();
        Ended { file: "p.toml".into(), outcome: Ok(RunReport { loads, stopped_early, ..RunReport::default() }) }
    }

    fn not_begun(exit: Exit) -> Ended {
        Ended { file: "p.toml".into(), outcome: Err(Failure::new(exit, Screen::error("e"))) }
    }

    #[test]
    fn one_object_gives_its_own_code() {
        assert_eq!(exit_of(&[ended(vec![failed(Exit::DataGate)], false)]), Exit::DataGate);
        let before = Outcome::AlreadyLoaded { load: 1, pipeline_changed: false };
        assert_eq!(exit_of(&[ended(vec![before.clone(), failed(Exit::DataGate)], false)]), Exit::DataGate);
        assert_eq!(exit_of(&[ended(vec![before], false)]), Exit::Done);
    }

    #[test]
    fn several_objects_of_which_some_failed_have_a_code_of_their_own() {
        let some = ended(vec![Outcome::Loaded { load: 1 }, failed(Exit::DataGate)], false);
        assert_eq!(exit_of(&[some]), Exit::SomeFailed);
        assert_eq!(exit_of(&[ended(vec![failed(Exit::Failed), failed(Exit::DataGate)], false)]), Exit::SomeFailed);
        let loaded = ended(vec![Outcome::Loaded { load: 1 }], false);
        assert_eq!(exit_of(&[loaded, not_begun(Exit::Failed)]), Exit::SomeFailed);
    }

    #[test]
    fn what_failed_before_is_not_forgotten() {
        let before = Outcome::Skipped { reason: SkipReason::Failed, load: 1 };
        let loaded = Outcome::Loaded { load: 2 };
        assert_eq!(exit_of(&[ended(vec![before.clone()], false)]), Exit::DataGate);
        assert_eq!(exit_of(&[ended(vec![before, loaded], false)]), Exit::DataGate);
        let undone = Outcome::Skipped { reason: SkipReason::Undone, load: 1 };
        assert_eq!(exit_of(&[ended(vec![undone], false)]), Exit::Done);
    }

    #[test]
    fn objects_that_were_all_busy_can_be_tried_again() {
        let busy = || failed(Exit::Temporary);
        assert_eq!(exit_of(&[ended(vec![busy(), busy()], false)]), Exit::Temporary);
        assert_eq!(exit_of(&[ended(vec![Outcome::Loaded { load: 1 }, busy()], false)]), Exit::Temporary);
        assert_eq!(exit_of(&[ended(vec![busy(), failed(Exit::DataGate)], false)]), Exit::SomeFailed);
    }

    #[test]
    fn what_ended_the_run_gives_its_code() {
        let stopped = ended(vec![Outcome::Loaded { load: 1 }, failed(Exit::Temporary)], true);
        assert_eq!(exit_of(&[stopped]), Exit::Temporary);
        let loaded = ended(vec![Outcome::Loaded { load: 1 }], false);
        assert_eq!(exit_of(&[loaded, not_begun(Exit::Temporary)]), Exit::Temporary);
        assert_eq!(exit_of(&[not_begun(Exit::Failed), not_begun(Exit::Failed)]), Exit::Failed);
    }
}
