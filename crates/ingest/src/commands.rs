//! The order of things in each command: phase 1 looks at everything that is at hand, phase 2 works.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::CommandFactory;
use cli::{Exit, Progress, Screen, Signals, Terminal};
use futures_util::{StreamExt, stream};
use ingest::check::{self, CheckError};
use ingest::generate::{self, Summary};
use ingest::key::Keys;
use ingest::local::{self, Found, LocalError, LocalFile, Skipped};
use ingest::upload::{Compress, Input, Options, Outcome, Step, UploadError, Uploader, Watch};
use objects::{Compression, Decompressed, Glob, Limits, ReadAhead, Store, StoreError, StoreUrl};
use transform::Pipeline;

use crate::config::{self, Command, Config, What};
use crate::failure::Failure;
use crate::report::{self, CheckDocument, CheckEntry, SkippedEntry, UploadDocument, UploadEntry};

/// A pipeline file is at most a mebibyte long; the parser says so when there is more.
const PIPELINE_READ: u64 = 2 << 20;
/// Open multipart uploads are taken back within this time after an interruption.
const TAKE_BACK: Duration = Duration::from_secs(5);
/// From here on a compressed file is worth a second thread.
const READ_AHEAD_FROM: u64 = 1 << 20;
/// Files on their way at once. What they hold in memory is bounded elsewhere; this many answers of a store a few hops
/// away may be waited for at the same time.
const FILES_IN_FLIGHT: usize = 16;
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
    let file = fs::File::open(path).map_err(fail)?;
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        // What is wrong with a pipeline file is shown by its lines. Of another file they may be anybody's data.
        return Err(fail(io::Error::other("its name does not end in .toml")));
    }
    file.take(PIPELINE_READ).read_to_end(&mut bytes).map_err(fail)?;
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
        let mut signals = Signals::listen().map_err(Failure::runtime)?;
        let opened = OnceLock::new();
        let bar = Bar::new(terminal, &chosen.inputs);
        let finished = RefCell::new(BTreeMap::new());
        let mut session = Session {
            args,
            terminal,
            inputs: &chosen.inputs,
            bar: &bar,
            finished: &finished,
            store: &opened,
            tally: Tally::default(),
            entries: Vec::new(),
            reported: 0,
            hopeless: false,
        };
        let work = upload_all(&mut session, options, &chosen.missing);
        let exit = tokio::select! {
            done = work => return done.and_then(|()| session.finish(&chosen.skipped)),
            exit = signals.next() => exit,
        };
        bar.finish();
        // The upload is dropped by now; in S3 its parts lie there until somebody says that they are not wanted.
        if let Some(store) = opened.get() {
            tokio::select! {
                _ = tokio::time::timeout(TAKE_BACK, store.settle()) => {}
                _ = signals.next() => {}
            }
        }
        // Done, and not told yet because a file before it was still under way. Where nobody reads it any more, that the
        // work was interrupted is still the news.
        let _ = session.report_stored();
        Err(Failure::interrupted(exit))
    });
    runtime.shutdown_timeout(GOODBYE);
    outcome
}

/// What was asked for, before anything is opened.
#[derive(Default)]
struct Chosen {
    inputs: Vec<Input>,
    /// Arguments that stand for nothing, and directories that could not be listed.
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
                chosen.missing.extend(found.unlisted);
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
    session: &mut Session<'_>,
    options: Options,
    missing: &[(PathBuf, LocalError)],
) -> Result<(), Failure> {
    for (path, error) in missing {
        session.failed(UploadEntry::new(path.display().to_string()), Failure::local(error));
    }
    let inputs = session.inputs;
    if inputs.is_empty() {
        return Ok(());
    }
    let store = open_store(session.args).await?;
    if let Some(store) = &store {
        session.store.get_or_init(|| store.clone());
    }
    let mut uploader = Uploader::new(store, options);
    uploader.look(inputs).await;
    let (uploader, finished, watch) = (&uploader, session.finished, session.bar.watch());
    let twins = same_names(inputs, folds_names(&session.args.store));
    // What is wrong with the store shows with the first file: it goes alone where nothing was heard of the store yet.
    let alone = if uploader.has_looked() { 0 } else { 1 };
    let stopped = Cell::new(false);
    for (positions, at_once) in [(0..alone, 1), (alone..inputs.len(), FILES_IN_FLIGHT)] {
        let jobs = positions.take_while(|_| !stopped.get()).map(async |position| {
            let input = &inputs[position];
            let outcome = match &twins[position] {
                Some(other) => Err(UploadError::SameKey { key: input.name().to_owned(), other: other.clone() }),
                None => uploader.upload(input, &watch).await,
            };
            if outcome.as_ref().is_err_and(UploadError::concerns_the_store) {
                stopped.set(true);
            }
            finished.borrow_mut().insert(position, outcome);
            position
        });
        // In the order of the files, whichever is done first.
        let mut jobs = std::pin::pin!(stream::iter(jobs).buffered(at_once));
        while let Some(position) = jobs.next().await {
            session.report(position)?;
        }
    }
    session.bar.finish();
    let left = inputs.len() - session.reported;
    if left > 0 {
        let left = cli::human::counted(left as u64, "file was", "files were");
        note_all(session.terminal, [format!("{left} not tried: the store would refuse them too")]);
    }
    Ok(())
}

/// For each input, an earlier one with the same name; upper and lower case are one where the store `folds` them.
fn same_names(inputs: &[Input], folds: bool) -> Vec<Option<String>> {
    let mut taken: HashMap<String, String> = HashMap::new();
    let name = |input: &Input| if folds { input.name().to_lowercase() } else { input.name().to_owned() };
    inputs.iter().map(|input| taken.insert(name(input), input.label())).collect()
}

/// Whether `A.csv` and `a.csv` are one object: in directories of Windows and, as they come, of macOS.
fn folds_names(store: &StoreUrl) -> bool {
    cfg!(any(windows, target_os = "macos")) && store.as_directory().is_some()
}

/// What was shown so far, and what is told at the end.
struct Session<'a> {
    args: &'a config::Upload,
    terminal: Terminal,
    inputs: &'a [Input],
    bar: &'a Bar,
    /// Files that are done and were not told yet, by their position.
    finished: &'a RefCell<BTreeMap<usize, Result<Outcome, UploadError>>>,
    store: &'a OnceLock<Store>,
    tally: Tally,
    entries: Vec<UploadEntry>,
    /// Files told.
    reported: usize,
    /// The store failed for one: that it fails for others is no news.
    hopeless: bool,
}

impl Session<'_> {
    /// Tells what became of a file.
    fn report(&mut self, position: usize) -> Result<(), Failure> {
        let Some(outcome) = self.finished.borrow_mut().remove(&position) else { return Ok(()) };
        let (input, bar) = (&self.inputs[position], self.bar);
        let error = match outcome {
            Ok(outcome) => {
                self.reported += 1;
                return bar.aside(|| self.stored(input, &outcome));
            }
            Err(error) => error,
        };
        if error.concerns_the_store() && std::mem::replace(&mut self.hopeless, true) {
            return Ok(());
        }
        self.reported += 1;
        let entry = UploadEntry::new(input.label()).with_check(match &error {
            UploadError::Rejects { report } => Some((**report).clone()),
            _ => None,
        });
        let failure = Failure::upload(&input.label(), &error, self.args.pipeline.as_deref());
        bar.aside(|| self.failed(entry, failure));
        Ok(())
    }

    /// After an interruption: what is stored is stored.
    fn report_stored(&mut self) -> Result<(), Failure> {
        let stored: Vec<_> = {
            let finished = self.finished.borrow();
            finished.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(&position, _)| position).collect()
        };
        stored.into_iter().try_for_each(|position| self.report(position))
    }

    fn failed(&mut self, entry: UploadEntry, failure: Failure) {
        failure.screen.show(self.terminal.err);
        self.tally.failures.push(failure.exit);
        self.entries.push(entry.failed(failure));
    }

    fn stored(&mut self, input: &Input, outcome: &Outcome) -> Result<(), Failure> {
        self.tally.done += 1;
        if let Some(check) = &outcome.check {
            note_all(self.terminal, report::notes(&input.label(), check));
        }
        if let Some(compression) = outcome.compressed_before {
            note_all(self.terminal, [format!("{} is {compression} already and stays as it is", input.label())]);
        }
        if outcome.continued > 0 {
            let (there, all) = (cli::human::bytes(outcome.continued), cli::human::bytes(outcome.bytes));
            let text = format!("{}: {there} of {all} were there from an upload that was cut short", input.label());
            note_all(self.terminal, [text]);
        }
        let target = format!("{}/{}", self.args.store, outcome.key);
        if !self.terminal.json {
            let text = report::upload_text(&input.label(), &target, outcome, self.args.dry_run, self.terminal.out);
            cli::print(text).map_err(|error| self.unwritten(&error))?;
        }
        let object = self.store.get().map_or(target, |store| store.uri_of(&outcome.key));
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

/// The progress of one file: a bar while it is read, and another while it is sent. Of several files one bar says how
/// much of them was read.
struct Bar {
    terminal: Terminal,
    label: String,
    is_one_file: bool,
    current: Arc<Mutex<Option<Progress>>>,
}

impl Bar {
    fn new(terminal: Terminal, inputs: &[Input]) -> Self {
        let (label, overall) = match inputs {
            [one] => (one.label(), None),
            several => {
                let label = cli::human::counted(several.len() as u64, "file", "files");
                let size = |input: &Input| match input {
                    Input::File(file) => fs::metadata(&file.path).map_or(0, |meta| meta.len()),
                    Input::Stdin { .. } => 0,
                };
                let total = terminal.progress.then(|| several.iter().map(size).sum());
                let overall = Progress::bytes(terminal, &label, total);
                (label, Some(overall))
            }
        };
        Self { terminal, label, is_one_file: inputs.len() == 1, current: Arc::new(Mutex::new(overall)) }
    }

    fn watch(&self) -> Watch {
        if !self.terminal.progress {
            return Arc::new(|_| ());
        }
        let (terminal, label, is_one_file) = (self.terminal, self.label.clone(), self.is_one_file);
        let current = Arc::clone(&self.current);
        Arc::new(move |step| {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            match step {
                Step::Checking { total } if is_one_file => {
                    *current = Some(Progress::bytes(terminal, &format!("check {label}"), total));
                }
                Step::Compressing { total } if is_one_file => {
                    *current = Some(Progress::bytes(terminal, &format!("compress {label}"), Some(total)));
                }
                Step::Storing { total } if is_one_file => {
                    *current = Some(Progress::bytes(terminal, &format!("store {label}"), Some(total)));
                }
                Step::Stored(bytes) if is_one_file => {
                    if let Some(bar) = current.as_ref() {
                        bar.add_bytes(bytes);
                    }
                }
                Step::Read(bytes) => {
                    if let Some(bar) = current.as_ref() {
                        bar.add_bytes(bytes);
                    }
                }
                Step::Records(records) if is_one_file => {
                    if let Some(bar) = current.as_ref() {
                        bar.set_rows(records);
                    }
                }
                _ => {}
            }
        })
    }

    /// Writes without leaving half a bar behind.
    fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        if self.is_one_file {
            self.finish();
        }
        let bar = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
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
        let found = files_to_check(argument)
            .unwrap_or_else(|error| Found { unlisted: vec![(argument.clone(), error)], ..Found::default() });
        tell_skipped(terminal, &found.skipped);
        skipped.extend(found.skipped);
        for (path, error) in found.unlisted {
            let failure = Failure::local(&error);
            failure.screen.show(terminal.err);
            tally.failures.push(failure.exit);
            let file = path.display().to_string();
            entries.push(CheckEntry { file, report: None, exit: failure.exit.code(), error: Some(failure.screen) });
        }
        for LocalFile { path, .. } in found.files {
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

fn files_to_check(argument: &Path) -> Result<Found, LocalError> {
    if is_stdin(argument) {
        let stdin = LocalFile { path: argument.to_owned(), name: String::new() };
        return Ok(Found { files: vec![stdin], ..Found::default() });
    }
    if argument.is_dir() {
        return Err(LocalError::Directory { path: argument.to_owned() });
    }
    local::find(argument)
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
    let source: Box<dyn Read + Send> = match &opened {
        Some((file, _)) => match file.try_clone() {
            Ok(file) => Box::new(file),
            Err(source) => {
                let error = LocalError::Io { action: "open", path: path.to_owned(), source };
                return Ok(failed(Failure::local(&error)));
            }
        },
        None => Box::new(io::stdin()),
    };
    let bar = Progress::bytes(terminal, &name, total);
    let source = Watched { inner: source, bar: bar.clone() };
    let outcome = Decompressed::new(source, Limits::default()).map_err(CheckError::Read).and_then(|source| {
        check::refuse_other_files(&source)?;
        // Decompression goes on beside the check, where that is worth a thread.
        let is_long = source.compression() != Compression::Plain && total.is_none_or(|total| total >= READ_AHEAD_FROM);
        let mut source = match is_long {
            true => ReadAhead::new(source).map_err(|error| StoreError::from_read(error, &name))?,
            false => ReadAhead::direct(source),
        };
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

struct Watched {
    inner: Box<dyn Read + Send>,
    bar: Progress,
}

impl Read for Watched {
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
    let is_nul = cfg!(windows) && path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("nul"));
    if is_nul || fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return customers.write(&mut fs::File::options().write(true).open(path)?);
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let written = fs::File::create(&unfinished).and_then(|mut file| {
        let summary = customers.write(&mut file)?;
        file.flush()?;
        objects::rename(&unfinished, path)?;
        Ok(summary)
    });
    if written.is_err() {
        // What is left of it is of no use; the error at hand says more than one about this.
        let _ = fs::remove_file(&unfinished);
    }
    written
}
