//! Pipeline files, read and checked before anything is opened.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cli::{Exit, Screen, human};
use etl_runner::database::TableName;
use objects::{Glob, GlobError};
use transform::Pipeline;
use transform::pipeline::Problems;

use super::failure::Failure;

/// Longer than any pipeline file; more is not even read.
const MOST_BYTES: u64 = 1 << 20;
/// Other files named when one is missing.
const SHOWN_NEARBY: usize = 5;

/// A pipeline file without mistakes.
#[derive(Debug)]
pub(super) struct PipelineFile {
    pub(super) path: PathBuf,
    pub(super) pipeline: Pipeline,
    /// `source.path`
    pub(super) glob: Glob,
}

/// Reads all of them, or says what is wrong with any of them.
pub(super) fn read_all<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Vec<PipelineFile>, Failure> {
    let (mut files, mut failures) = (Vec::new(), Vec::new());
    for path in paths {
        match read(path) {
            Ok(file) => files.push(file),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures).map_or(Ok(files), Err)
}

pub(super) fn read(path: &Path) -> Result<PipelineFile, Failure> {
    let text = read_text(path)?;
    let name = path.display().to_string();
    let wrong = |problems: &Problems| {
        let count = human::counted(problems.iter().count() as u64, "problem", "problems");
        let screen = Screen::error(format!("{count} in the pipeline file {name}"));
        Failure::new(Exit::Usage, screen.details(problems.render(&name, &text)))
    };
    let pipeline = Pipeline::parse(&text).map_err(|problems| wrong(&problems))?;
    let glob = pipeline.source.path.parse();
    let glob = glob.map_err(|error: GlobError| wrong(&Pipeline::wrong_path(&text, error.to_string())))?;
    TableName::parse(&pipeline.target.table).map_err(|error| Failure::name(&error, path))?;
    Ok(PipelineFile { path: path.to_owned(), pipeline, glob })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let unreadable = |error: &io::Error| {
        let screen = Screen::error(format!("read the pipeline file {name}")).cause(error.to_string());
        Failure::new(Exit::Usage, screen)
    };
    let meta = match path.metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(path)),
        Err(error) => return Err(unreadable(&error)),
    };
    if !meta.is_dir() && !is_pipeline(path) {
        // What is wrong with a pipeline file is shown by its lines. Of another file they may be anybody's data.
        let message = format!("{name} is no pipeline file, whose name ends in .toml");
        return Err(Failure::usage(message, "the pipeline file comes first, a file with data behind it"));
    }
    if meta.is_dir() {
        let message = format!("{name} is a directory, a pipeline is a file");
        return Err(Failure::usage(message, format!("give its files: {}", path.join("*.toml").display())));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::usage(
            format!("the pipeline file {name} is not UTF-8 text"),
            "a pipeline file is TOML, written in UTF-8",
        )
    })
}

fn missing(path: &Path) -> Failure {
    let screen = Screen::error(format!("there is no pipeline file {}", path.display()));
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut nearby: Vec<String> = match directory.read_dir() {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| is_pipeline(path))
            .map(|path| path.display().to_string())
            .collect(),
        Err(_) => {
            let help = format!("there is no directory {} either", directory.display());
            return Failure::new(Exit::Usage, screen.help(help));
        }
    };
    nearby.sort();
    nearby.truncate(SHOWN_NEARBY);
    let help = match nearby.as_slice() {
        [] => format!("there is no .toml file in {}", directory.display()),
        names => format!("pipeline files there: {}", names.join(", ")),
    };
    Failure::new(Exit::Usage, screen.help(help))
}

/// Whether an argument of `run` is meant as a pipeline.
pub(super) fn is_pipeline(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}
