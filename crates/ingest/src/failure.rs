//! What a person is told when something is wrong, and with which code the process ends.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use cli::{Exit, Screen, Style, Terminal, human};
use ingest::check::{CheckError, CheckReport, OverLimit};
use ingest::key::KeyError;
use ingest::local::{LocalError, Skipped};
use ingest::upload::UploadError;
use objects::StoreError;
use serde::Serialize;
use transform::PlanError;
use transform::csv::OpenError;
use transform::pipeline::Problems;

use crate::report;

/// An exit code with its screen.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) screen: Screen,
}

/// The document of a command that has no result.
#[derive(Serialize)]
struct FailureDocument<'a> {
    exit: u8,
    errors: [&'a Screen; 1],
}

impl Failure {
    fn new(exit: Exit, screen: Screen) -> Self {
        Self { exit, screen }
    }

    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Usage, Screen::error(message).help(help))
    }

    /// Shows it, and gives the code.
    pub(crate) fn show(&self, terminal: Terminal, command: &str) -> Exit {
        self.screen.show(terminal.err);
        if terminal.json {
            // With nowhere to write the document there is nothing more to say than the screen.
            let _ = cli::print_json(command, &FailureDocument { exit: self.exit.code(), errors: [&self.screen] });
        }
        self.exit
    }

    pub(crate) fn interrupted(exit: Exit) -> Self {
        Self::new(exit, Screen::error("interrupted").help("files reported as uploaded are stored; no other is"))
    }

    pub(crate) fn runtime(source: io::Error) -> Self {
        Self::new(Exit::Failed, Screen::error("start the runtime").cause(source.to_string()))
    }

    /// Results could not be written.
    pub(crate) fn output(source: &io::Error) -> Self {
        Self::new(Exit::Failed, Screen::error("write the result").cause(source.to_string()))
    }

    /// The same after so many files were stored, which cannot be taken back.
    pub(crate) fn output_after(source: &io::Error, stored: usize) -> Self {
        let Self { exit, screen } = Self::output(source);
        let files = human::counted(stored as u64, "file was", "files were");
        let help = format!("{files} stored before; the same command leaves what is there and stores the others");
        Self::new(exit, if stored > 0 { screen.help(help) } else { screen })
    }

    pub(crate) fn generate(path: &Path, source: &io::Error) -> Self {
        let exit = exit_of_io(source);
        let message = format!("write {}", path.display());
        Self::new(exit, Screen::error(message).cause(source.to_string()).help("give another file with --out"))
    }

    pub(crate) fn no_pipeline_file(path: &Path, source: &io::Error) -> Self {
        let screen = Screen::error(format!("read the pipeline file {}", path.display())).cause(source.to_string());
        Self::new(Exit::Usage, screen.help("give the path of a pipeline file with --pipeline"))
    }

    pub(crate) fn pipeline(path: &Path, text: &str, problems: &Problems) -> Self {
        let name = path.display().to_string();
        let count = human::counted(problems.iter().count() as u64, "problem", "problems");
        let screen = Screen::error(format!("{count} in the pipeline file {name}"));
        Self::new(Exit::Usage, screen.details(problems.render(&name, text)))
    }

    /// What only the check of this file can tell: it is not as it was when it was opened.
    pub(crate) fn changed(name: &str) -> Self {
        let screen = Screen::error(format!("{name} cannot be checked")).cause("it changed while it was being read");
        Self::new(Exit::Temporary, screen.help("wait until it is complete, and try again"))
    }

    pub(crate) fn key(error: &KeyError) -> Self {
        key_failure(Screen::of(error), error)
    }

    pub(crate) fn store(error: &StoreError) -> Self {
        store_failure(Screen::of(error), error)
    }

    pub(crate) fn local(error: &LocalError) -> Self {
        local_failure(Screen::of(error), error)
    }

    pub(crate) fn upload(name: &str, error: &UploadError, pipeline: Option<&Path>) -> Self {
        let screen = not_done(format!("{name} was not uploaded"), error);
        match error {
            UploadError::Local(error) => local_failure(screen, error),
            UploadError::Key(error) => key_failure(screen, error),
            UploadError::SameKey { .. } => {
                Self::new(Exit::Usage, screen.help("upload them one by one, with different --prefix or --key"))
            }
            UploadError::Content(error) => content_failure(screen, error, pipeline),
            UploadError::Rejects { report } => {
                let screen = Screen::error(format!("{name} was not uploaded"));
                let screen = screen.details(report::rejects_text(name, report, Style::PLAIN));
                over_limit(screen, report, pipeline.unwrap_or(Path::new("the pipeline file")))
            }
            UploadError::Changed { .. } => {
                Self::new(Exit::Temporary, screen.help("wait until it is complete, and try again"))
            }
            UploadError::Store(error) => store_failure(screen, error),
            UploadError::Spool { source, .. } => {
                let help = "TMPDIR says where temporary files go; it needs room for the whole input";
                Self::new(exit_of_io(source), screen.help(help))
            }
            UploadError::Worker(_) => {
                Self::new(Exit::Failed, screen.help("this is a mistake of ours: please report it"))
            }
            _ => Self::new(Exit::Failed, screen),
        }
    }

    pub(crate) fn check(name: &str, error: &CheckError, pipeline: &Path) -> Self {
        content_failure(not_done(format!("{name} cannot be checked"), error), error, Some(pipeline))
    }

    /// More rejects than the pipeline bears. The counts and rejects were shown already.
    pub(crate) fn rejects(name: &str, report: &CheckReport, pipeline: &Path) -> Self {
        over_limit(Screen::error(format!("{name} is over the reject limit")), report, pipeline)
    }
}

/// `what`, because of the error and its causes.
fn not_done(what: String, error: &(dyn Error + 'static)) -> Screen {
    Screen::error(what).caused_by_chain(Some(error))
}

fn over_limit(screen: Screen, report: &CheckReport, pipeline: &Path) -> Failure {
    let limit = match report.over_limit {
        Some(OverLimit::Rows(rows)) => human::count(rows),
        Some(OverLimit::Percent(percent)) => format!("{percent} %"),
        None => "another".into(),
    };
    let (rejected, records) = (human::count(report.rejected), human::count(report.records));
    let screen = screen
        .cause(format!("{rejected} of {records} records rejected, the limit is {limit}"))
        .help(format!("correct the file, or raise [errors] limit in {}", pipeline.display()));
    Failure::new(Exit::DataGate, screen)
}

fn local_failure(screen: Screen, error: &LocalError) -> Failure {
    let there = |screen: Screen, nearby: &[String]| match nearby {
        [] => screen.help("check the path; patterns need quotes, or the shell takes them apart"),
        names => screen.help(format!("files there: {}", names.join(", "))),
    };
    match error {
        LocalError::Missing { nearby, .. } => Failure::new(Exit::Failed, there(screen, nearby)),
        LocalError::NoMatch { nearby, directory, skipped, .. } => {
            let exists = if directory.exists() { "" } else { ", which does not exist" };
            let screen = screen.cause(format!("looked in {}{exists}", directory.display()));
            Failure::new(Exit::Failed, there(left_aside(screen, skipped), nearby))
        }
        LocalError::Directory { path } => {
            let help = format!("give its files: '{}/*.csv'", path.display());
            Failure::new(Exit::Usage, screen.help(help))
        }
        LocalError::NotAFile { .. } => {
            Failure::new(Exit::Usage, screen.help("to read from a pipe: … | ingest upload - --key NAME"))
        }
        LocalError::NameNotText { .. } => Failure::new(Exit::Failed, screen.help("rename the file")),
        LocalError::NoCsv { skipped, .. } => {
            let help = "files named *.csv, *.csv.gz, *.csv.zst and *.csv.bz2 are taken; name others one by one";
            let others = skipped.iter().filter(|skipped| !skipped.is_csv()).count();
            let screen = match others {
                0 if !skipped.is_empty() => screen,
                others => {
                    let others = human::counted(others as u64, "other file is", "other files are");
                    screen.cause(format!("{others} there"))
                }
            };
            Failure::new(Exit::Failed, left_aside(screen, skipped).help(help))
        }
        LocalError::Pattern { .. } => Failure::new(Exit::Usage, screen),
        LocalError::TooDeep { .. } => Failure::new(
            Exit::Failed,
            screen.help("a loop of mounts? name the directory itself if its files are wanted"),
        ),
        LocalError::Io { source, .. } => Failure::new(exit_of_io(source), screen),
        _ => Failure::new(Exit::Failed, screen),
    }
}

/// With the files that look like what was asked for and were not taken.
fn left_aside(screen: Screen, skipped: &[Skipped]) -> Screen {
    let csv = skipped.iter().filter(|skipped| skipped.is_csv());
    report::skipped_lines(csv).into_iter().fold(screen, Screen::cause)
}

fn key_failure(screen: Screen, error: &KeyError) -> Failure {
    let screen = match error {
        KeyError::NoMatch { .. } => screen
            .help("no run of this pipeline would find it: rename the file, or change --prefix, --key or source.path"),
        KeyError::Illegal { .. } | KeyError::TooLong { .. } => screen.help("give another --prefix, --key or file name"),
        _ => screen,
    };
    Failure::new(Exit::Usage, screen)
}

fn content_failure(screen: Screen, error: &CheckError, pipeline: Option<&Path>) -> Failure {
    let pipeline = pipeline.map_or_else(|| PathBuf::from("the pipeline file"), Path::to_path_buf);
    let pipeline = pipeline.display();
    let screen = match error {
        CheckError::Open(OpenError::Empty) => screen.help("the export that made it has failed, or is not done yet"),
        CheckError::Open(OpenError::NoHeader) => {
            screen.help(format!("is the file complete? Without a header: header = false in [dialect] of {pipeline}"))
        }
        CheckError::Open(OpenError::Encoding { found, .. }) => {
            screen.help(format!("set encoding = \"{}\" in [source] of {pipeline}", found.to_ascii_lowercase()))
        }
        CheckError::Open(OpenError::Unmarked { found: "UTF-32", .. }) => {
            screen.help("convert it to UTF-8 first, for example with iconv")
        }
        CheckError::Open(OpenError::Unmarked { found, .. }) => {
            screen.help(format!("set encoding = \"{}\" in [source] of {pipeline}", found.to_ascii_lowercase()))
        }
        CheckError::Open(OpenError::Delimiter { found, .. }) => screen
            .help(format!("set delimiter = {:?} in [dialect] of {pipeline}, or leave the key out", found.to_string())),
        CheckError::Open(OpenError::Header(_)) => {
            screen.help(format!("check the first lines of the file, and [dialect] in {pipeline}"))
        }
        CheckError::Plan(error @ PlanError::MissingLabels { .. }) => error
            .help()
            .into_iter()
            .fold(screen, Screen::help)
            .help(format!("correct the file or the fields in {pipeline}; `from` names another label"))
            .help("a column that may be missing: missing_columns = \"null\" in [drift]"),
        CheckError::Plan(PlanError::DuplicateLabel { .. }) => screen.help("rename one of them in the file"),
        CheckError::Plan(PlanError::NewLabels { .. }) => {
            screen.help(format!("add them to the fields in {pipeline}, or set new_columns = \"ignore\" in [drift]"))
        }
        CheckError::Plan(_) => return Failure::new(Exit::Usage, screen.help(format!("correct {pipeline}"))),
        CheckError::Read(error) => return store_failure(screen, error),
        _ => screen,
    };
    // The data is at fault, as with too many rejects; `etl-runner run` ends with the same code.
    Failure::new(Exit::DataGate, screen)
}

fn store_failure(screen: Screen, error: &StoreError) -> Failure {
    let exit = match error {
        _ if error.is_permission() => Exit::Denied,
        _ if error.is_retryable() => Exit::Temporary,
        StoreError::NoRegion | StoreError::Endpoint { .. } => Exit::Usage,
        _ => Exit::Failed,
    };
    let screen = match error {
        // It says what to do; the cause is a list of every place the SDK looked in.
        StoreError::NoCredentials { .. } => Screen::error(error.to_string()),
        StoreError::NotADirectory { .. } => screen.help("--store takes s3://bucket[/prefix] or a directory"),
        _ => screen,
    };
    Failure::new(exit, screen)
}

fn exit_of_io(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::Denied,
        _ => Exit::Failed,
    }
}
