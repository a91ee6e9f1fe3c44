//! The order of things in each command: phase 1 looks at everything that is at hand, phase 2 works.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::CommandFactory;
use cli::{Exit, Progress, Screen, Terminal};
use ingest::check::{self, CheckError};
use ingest::generate::{self, Summary};
use ingest::key::Keys;
use ingest::local::{self, LocalError, Skipped};
use ingest::upload::{self, Compress, Input, Options, Outcome, Step, UploadError, Watch};
use objects::{Decompressed, Glob, Limits, Store, StoreError};
use tokio::signal::unix::{SignalKind, signal};
use transform::Pipeline;

use crate::config::{self, Command, Config, What};
use crate::failure::Failure;
use crate::report::{self, CheckDocument, CheckEntry, SkippedEntry, UploadDocument, UploadEntry};

/// A pipeline file is at most a mebibyte long; the parser says so when there is more.
const PIPELINE_READ: u64 = 2 << 20;
/// Open multipart uploads are taken back within this time after an interruption.
const TAKE_BACK: Duration = Duration::from_secs(5);
/// A thread that reads a file or standard input is waited for no longer.
const GOODBYE: Duration = Duration::from_secs(2);

pub(crate) fn run(config: &Config, terminal: Terminal) -> Result<Exit, Failure> {
    match &config.command {
        Command::Upload(args) => upload(args, terminal),
        Command::Check(args) => check(args, terminal),
        Command::Generate(args) => match &args.what {
            What::Customers(customers) => generate(customers, terminal),
        },
        Command::Completions { shell } => {
            let document = terminal.json.then(|| config.command.name());
            cli::print_completions(*shell, Config::command(), document).map_err(|error| Failure::output(&error))?;
            Ok(Exit::Done)
        }
    }
}

fn read_pipeline(path: &Path) -> Result<Pipeline, Failure> {
    let fail = |error: io::Error| Failure::no_pipeline_file(path, &error);
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(fail)?.take(PIPELINE_READ).read_to_end(&mut bytes).map_err(fail)?;
    let text = String::from_utf8(bytes).map_err(|_| fail(io::Error::other("it is not UTF-8 text")))?;
    let pipeline = Pipeline::parse(&text).map_err(|problems| Failure::pipeline(path, &text, &problems))?;
    match pipeline.source.path.parse::<Glob>() {
        Ok(_) => Ok(pipeline),
        Err(error) => Err(Failure::pipeline(path, &text, &Pipeline::wrong_path(&text, error.to_string()))),
    }
}

/// How the files of one command went.
#[derive(Default)]
struct Tally {
    done: usize,
    failures: Vec<Exit>,
}

impl Tally {
    /// One code for all: what failed, when everything failed alike; that some failed, otherwise.
    fn exit(&self) -> Exit {
        match self.failures.as_slice() {
            [] => Exit::Done,
            [first, rest @ ..] if self.done == 0 && rest.iter().all(|exit| exit == first) => *first,
            _ => Exit::SomeFailed,
        }
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A CSV file that is left aside is told to everybody, other files to those who want to know.
fn tell_skipped(terminal: Terminal, skipped: &[Skipped]) {
    for line in report::skipped_lines(skipped.iter().filter(|skipped| skipped.is_csv())) {
        Screen::warning(line).show(terminal.err);
    }
    note_all(terminal, report::skipped_lines(skipped.iter().filter(|skipped| !skipped.is_csv())));
}

fn note_all(terminal: Terminal, notes: impl IntoIterator<Item = String>) {
    if terminal.quiet {
        return;
    }
    for note in notes {
        Screen::note(note).show(terminal.err);
    }
}

// ---- upload

fn upload(args: &config::Upload, terminal: Terminal) -> Result<Exit, Failure> {
    let pipeline = args.pipeline.as_deref().map(read_pipeline).transpose()?.map(Arc::new);
    let keys = Keys::new(pipeline.as_deref(), args.prefix.as_deref()).map_err(|error| Failure::key(&error))?;
    let options = Options {
        keys,
        pipeline,
        compress: if args.gzip {
            Some(Compress::Gzip)
        } else if args.zstd {
            Some(Compress::Zstd)
        } else {
            None
        },
        dry_run: args.dry_run,
        force: args.force,
        shown_rejects: args.limit,
    };
    let chosen = choose(args)?;
    tell_skipped(terminal, &chosen.skipped);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::runtime)?;
    let outcome = runtime.block_on(async {
        let interrupted = interruption().map_err(Failure::runtime)?;
        let opened = OnceLock::new();
        let exit = tokio::select! {
            outcome = upload_all(args, &options, &chosen, &opened, terminal) => return outcome,
            exit = interrupted => exit,
        };
        // The upload is dropped by now; in S3 its parts lie there until somebody says that they are not wanted.
        if let Some(store) = opened.get() {
            let again = interruption().map_err(Failure::runtime)?;
            tokio::select! {
                _ = tokio::time::timeout(TAKE_BACK, store.settle()) => {}
                _ = again => {}
            }
        }
        Err(Failure::interrupted(exit))
    });
    runtime.shutdown_timeout(GOODBYE);
    outcome
}

/// What was asked for, before anything is opened.
#[derive(Default)]
struct Chosen {
    inputs: Vec<Input>,
    /// Arguments that stand for nothing.
    missing: Vec<(PathBuf, LocalError)>,
    skipped: Vec<Skipped>,
}

fn choose(args: &config::Upload) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::default();
    for path in &args.paths {
        if is_stdin(path) {
            let name = args.key.clone().ok_or_else(|| {
                Failure::usage(
                    "standard input has no name",
                    "say what to store it as: --key NAME, such as --key today.csv",
                )
            })?;
            chosen.inputs.push(Input::Stdin { name });
            continue;
        }
        match local::find(path) {
            Ok(found) => {
                chosen.inputs.extend(found.files.into_iter().map(Input::File));
                chosen.skipped.extend(found.skipped);
            }
            Err(error) => chosen.missing.push((path.clone(), error)),
        }
    }
    if let Some(key) = &args.key {
        match chosen.inputs.as_mut_slice() {
            [Input::File(file)] => file.name.clone_from(key),
            [_] | [] => {}
            _ => {
                return Err(Failure::usage(
                    "--key names one file, and there are several",
                    "use --prefix for several files",
                ));
            }
        }
    }
    Ok(chosen)
}

async fn upload_all(
    args: &config::Upload,
    options: &Options,
    chosen: &Chosen,
    opened: &OnceLock<Store>,
    terminal: Terminal,
) -> Result<Exit, Failure> {
    let mut session = Session { args, terminal, tally: Tally::default(), entries: Vec::new() };
    for (path, error) in &chosen.missing {
        session.failed(UploadEntry::new(path.display().to_string()), Failure::local(error));
    }
    let store = if chosen.inputs.is_empty() { None } else { open_store(args).await? };
    let store = store.map(|store| opened.get_or_init(|| store));
    let mut taken: HashMap<&str, String> = HashMap::new();
    for (position, input) in chosen.inputs.iter().enumerate() {
        let outcome = match taken.insert(input.name(), input.label()) {
            Some(other) => Err(UploadError::SameKey { key: input.name().to_owned(), other }),
            None => {
                let bar = Bar::new(terminal, input.label());
                let outcome = upload::upload(store, input, options, &bar.watch()).await;
                bar.finish();
                outcome
            }
        };
        let error = match outcome {
            Ok(outcome) => {
                session.stored(input, store, &outcome)?;
                continue;
            }
            Err(error) => error,
        };
        let entry = UploadEntry::new(input.label()).with_check(match &error {
            UploadError::Rejects { report } => Some((**report).clone()),
            _ => None,
        });
        session.failed(entry, Failure::upload(&input.label(), &error, args.pipeline.as_deref()));
        let left = chosen.inputs.len() - position - 1;
        if error.concerns_the_store() && left > 0 {
            let left = cli::human::counted(left as u64, "file was", "files were");
            note_all(terminal, [format!("{left} not tried: the store would refuse them too")]);
            break;
        }
    }
    session.finish(&chosen.skipped)
}

/// What was shown so far, and what is told at the end.
struct Session<'a> {
    args: &'a config::Upload,
    terminal: Terminal,
    tally: Tally,
    entries: Vec<UploadEntry>,
}

impl Session<'_> {
    fn failed(&mut self, entry: UploadEntry, failure: Failure) {
        failure.screen.show(self.terminal.err);
        self.tally.failures.push(failure.exit);
        self.entries.push(entry.failed(failure));
    }

    fn stored(&mut self, input: &Input, store: Option<&Store>, outcome: &Outcome) -> Result<(), Failure> {
        self.tally.done += 1;
        if let Some(check) = &outcome.check {
            note_all(self.terminal, report::notes(&input.label(), check));
        }
        if let Some(compression) = outcome.compressed_before {
            note_all(self.terminal, [format!("{} is {compression} already and stays as it is", input.label())]);
        }
        let target = format!("{}/{}", self.args.store, outcome.key);
        if !self.terminal.json {
            let text = report::upload_text(&input.label(), &target, outcome, self.args.dry_run, self.terminal.out);
            cli::print(text).map_err(|error| self.unwritten(&error))?;
        }
        let object = store.map_or(target, |store| store.uri_of(&outcome.key));
        self.entries.push(UploadEntry::new(input.label()).done(object, outcome, self.args.dry_run));
        Ok(())
    }

    fn unwritten(&self, error: &io::Error) -> Failure {
        Failure::output_after(error, if self.args.dry_run { 0 } else { self.tally.done })
    }

    fn finish(self, skipped: &[Skipped]) -> Result<Exit, Failure> {
        let exit = self.tally.exit();
        let written = if self.terminal.json {
            let document = UploadDocument {
                store: self.args.store.to_string(),
                dry_run: self.args.dry_run,
                files: &self.entries,
                skipped: SkippedEntry::of(skipped),
                exit: exit.code(),
            };
            cli::print_json("ingest upload", &document)
        } else if self.entries.len() > 1 {
            cli::print(report::summary_text(&self.entries))
        } else {
            Ok(())
        };
        written.map_err(|error| self.unwritten(&error))?;
        Ok(exit)
    }
}

/// `None` for a dry run into a directory that does not exist yet.
async fn open_store(args: &config::Upload) -> Result<Option<Store>, Failure> {
    let opened = if args.dry_run { Store::open(&args.store).await } else { Store::open_or_create(&args.store).await };
    match opened {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::DirectoryMissing { .. }) if args.dry_run => Ok(None),
        Err(error) => Err(Failure::store(&error)),
    }
}

/// Completes when the process is asked to stop.
fn interruption() -> io::Result<impl Future<Output = Exit>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        }
    })
}

/// The progress of one file: a bar while it is read, and another while it is sent.
struct Bar {
    terminal: Terminal,
    label: String,
    current: Arc<Mutex<Option<Progress>>>,
}

impl Bar {
    fn new(terminal: Terminal, label: String) -> Self {
        Self { terminal, label, current: Arc::new(Mutex::new(None)) }
    }

    fn watch(&self) -> Watch {
        let (terminal, label, current) = (self.terminal, self.label.clone(), Arc::clone(&self.current));
        Arc::new(move |step| {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            match step {
                Step::Checking { total } => {
                    *current = Some(Progress::bytes(terminal, &format!("check {label}"), total));
                }
                Step::Compressing { total } => {
                    *current = Some(Progress::bytes(terminal, &format!("compress {label}"), Some(total)));
                }
                Step::Storing { total } => {
                    *current = Some(Progress::bytes(terminal, &format!("store {label}"), Some(total)));
                }
                Step::Read(bytes) | Step::Stored(bytes) => {
                    if let Some(bar) = current.as_ref() {
                        bar.add_bytes(bytes);
                    }
                }
                Step::Records(records) => {
                    if let Some(bar) = current.as_ref() {
                        bar.set_rows(records);
                    }
                }
            }
        })
    }

    fn finish(&self) {
        if let Some(bar) = self.current.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish();
        }
    }
}

// ---- check

fn check(args: &config::Check, terminal: Terminal) -> Result<Exit, Failure> {
    let pipeline = read_pipeline(&args.pipeline)?;
    let mut tally = Tally::default();
    let mut entries = Vec::new();
    let mut skipped = Vec::new();
    for argument in &args.paths {
        let paths = match files_to_check(argument) {
            Ok((paths, left_aside)) => {
                tell_skipped(terminal, &left_aside);
                skipped.extend(left_aside);
                paths
            }
            Err(error) => {
                let failure = Failure::local(&error);
                failure.screen.show(terminal.err);
                tally.failures.push(failure.exit);
                let file = argument.display().to_string();
                entries.push(CheckEntry { file, report: None, exit: failure.exit.code(), error: Some(failure.screen) });
                continue;
            }
        };
        for path in paths {
            let entry = check_one(&path, &pipeline, args, terminal)?;
            match entry.exit {
                0 => tally.done += 1,
                code => tally.failures.extend(Exit::ALL.into_iter().find(|exit| exit.code() == code)),
            }
            entries.push(entry);
        }
    }
    let exit = match tally.exit() {
        // One file over the limit among others that are not is still the data's fault and nothing else.
        Exit::SomeFailed if tally.failures.iter().all(|exit| *exit == Exit::DataGate) => Exit::DataGate,
        exit => exit,
    };
    if terminal.json {
        let document = CheckDocument {
            pipeline: args.pipeline.display().to_string(),
            files: &entries,
            skipped: SkippedEntry::of(&skipped),
            exit: exit.code(),
        };
        cli::print_json("ingest check", &document).map_err(|error| Failure::output(&error))?;
    }
    Ok(exit)
}

fn files_to_check(argument: &Path) -> Result<(Vec<PathBuf>, Vec<Skipped>), LocalError> {
    if is_stdin(argument) {
        return Ok((vec![argument.to_owned()], Vec::new()));
    }
    if argument.is_dir() {
        return Err(LocalError::Directory { path: argument.to_owned() });
    }
    let found = local::find(argument)?;
    Ok((found.files.into_iter().map(|file| file.path).collect(), found.skipped))
}

fn check_one(
    path: &Path,
    pipeline: &Pipeline,
    args: &config::Check,
    terminal: Terminal,
) -> Result<CheckEntry, Failure> {
    let name = if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
    let failed = |failure: Failure| {
        failure.screen.show(terminal.err);
        CheckEntry { file: name.clone(), report: None, exit: failure.exit.code(), error: Some(failure.screen) }
    };
    let opened = match is_stdin(path) {
        true => None,
        false => match local::open(path) {
            Ok(opened) => Some(opened),
            Err(error) => return Ok(failed(Failure::local(&error))),
        },
    };
    let total = opened.as_ref().map(|(_, meta)| meta.len());
    let source: Box<dyn Read + '_> = match &opened {
        Some((file, _)) => Box::new(file),
        None => Box::new(io::stdin().lock()),
    };
    let bar = Progress::bytes(terminal, &name, total);
    let source = Watched { inner: source, bar: bar.clone() };
    let outcome = Decompressed::new(source, Limits::default()).map_err(CheckError::Read).and_then(|mut source| {
        let mut progress = |progress: check::CheckProgress| bar.set_rows(progress.records);
        check::check(&mut source, pipeline, args.limit, &mut progress)
    });
    bar.finish();
    // What a half-written file is rejected for says nothing of the whole.
    if let Some((file, before)) = &opened
        && file.metadata().is_ok_and(|now| now.len() != before.len() || now.modified().ok() != before.modified().ok())
    {
        return Ok(failed(Failure::changed(&name)));
    }
    let report = match outcome {
        Ok(report) => report,
        Err(error) => return Ok(failed(Failure::check(&name, &error, &args.pipeline))),
    };
    note_all(terminal, report::notes(&name, &report));
    if !terminal.json {
        cli::print(report::check_text(&name, &report, terminal.out)).map_err(|error| Failure::output(&error))?;
    }
    if report.over_limit.is_none() {
        return Ok(CheckEntry { file: name, report: Some(report), error: None, exit: 0 });
    }
    let failure = Failure::rejects(&name, &report, &args.pipeline);
    Ok(CheckEntry { report: Some(report), ..failed(failure) })
}

struct Watched<'a> {
    inner: Box<dyn Read + 'a>,
    bar: Progress,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bar.add_bytes(read as u64);
        Ok(read)
    }
}

// ---- generate

fn generate(args: &config::Customers, terminal: Terminal) -> Result<Exit, Failure> {
    let customers = generate::Customers { rows: args.rows, seed: args.seed, dirty: args.dirty };
    let to_stdout = args.out.as_os_str() == "-";
    let written = if to_stdout { customers.write(&mut io::stdout().lock()) } else { write_file(&customers, &args.out) };
    let summary = match written {
        Ok(summary) => summary,
        // The reader has seen enough.
        Err(error) if to_stdout && cli::is_closed_pipe(&error) => return Ok(Exit::Done),
        Err(error) => return Err(Failure::generate(&args.out, &error)),
    };
    let document = report::GenerateDocument { exit: Exit::Done.code(), summary: &summary };
    let written = match (terminal.json, to_stdout) {
        (true, false) => cli::print_json("ingest generate", &document),
        // Standard output has the rows.
        (true, true) => cli::document("ingest generate", &document)
            .map(|line| cli::print_message(format_args!("{line}\n")))
            .map_err(io::Error::other),
        (false, false) => cli::print(report::generate_text(&summary, Some(&args.out))),
        (false, true) if !terminal.quiet => {
            cli::print_message(report::generate_text(&summary, None));
            Ok(())
        }
        (false, true) => Ok(()),
    };
    written.map_err(|error| Failure::output(&error))?;
    Ok(Exit::Done)
}

/// Under a name that says it is unfinished, until it is complete. A device such as `/dev/null` is written to directly.
fn write_file(customers: &generate::Customers, path: &Path) -> io::Result<Summary> {
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return customers.write(&mut fs::File::options().write(true).open(path)?);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let written = fs::File::create(&unfinished).and_then(|mut file| {
        let summary = customers.write(&mut file)?;
        file.flush()?;
        fs::rename(&unfinished, path)?;
        Ok(summary)
    });
    if written.is_err() {
        // What is left of it is of no use; the error at hand says more than one about this.
        let _ = fs::remove_file(&unfinished);
    }
    written
}
