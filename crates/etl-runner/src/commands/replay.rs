//! `rejects replay`: records that were set aside, mended, into their table.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cli::{Exit, Screen, escape, human};
use etl_runner::LoadError;
use etl_runner::database::{Database, DatabaseError, TableName};
use etl_runner::replay::{Content, Mended, Obstacle, Replay, ReplayError, Replayed};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::load_text::reject_line;
use super::pipelines::{self, PipelineFile};
use super::rejects::{Pages, SAFE, chosen};
use super::signals::block_on;
use super::{Context, Hint};
use crate::config::RejectsReplay;

/// Records of a transaction, and their bytes.
const RECORDS: usize = 4_096;
const BYTES: usize = 4 * 1024 * 1024;

#[derive(Serialize)]
struct Document<'a> {
    loads: &'a [Replayed],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Screen>,
}

pub(super) fn replay(args: &RejectsReplay, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let file = pipelines::read(&args.pipeline)?;
    let mut mended = args.file.as_deref().map(MendedFile::open).transpose()?;
    let mut loads = Vec::new();
    let ended = block_on(async {
        let mut database = context.open_ledger(config).await?;
        let ended = replay_all(&mut database, &file, mended.as_mut(), args.load, &mut loads, context).await;
        database.close().await;
        ended
    })?;
    if loads.is_empty() {
        ended?;
        context.print("no rejects\n", &Document { loads: &[], error: None })?;
        return Ok(Exit::Done);
    }
    // What came in before a failure is in.
    let failure = ended.err().map(|failure| failure.completed(context));
    let refused: u64 = loads.iter().map(|load| load.refused).sum();
    let exit = match &failure {
        Some(failure) => failure.exit,
        None if refused > 0 => Exit::DataGate,
        None => Exit::Done,
    };
    let error = failure.as_ref().and_then(|failure| failure.screens.first());
    context.print_ending(exit, &text(&loads, refused, context), &Document { loads: &loads, error })?;
    if let Some(failure) = &failure {
        failure.show_screens(context.terminal);
    }
    Ok(exit)
}

async fn replay_all(
    database: &mut Database,
    file: &PipelineFile,
    mended: Option<&mut MendedFile>,
    only: Option<i64>,
    loads: &mut Vec<Replayed>,
    context: &Context,
) -> Result<(), Failure> {
    let of_database = |error: DatabaseError| Failure::database(&error);
    let pipeline = &file.pipeline;
    let named = TableName::parse(&pipeline.target.table).map_err(|error| Failure::name(&error, &file.path))?;
    let table = database.resolve(&named).await.map_err(of_database)?;
    let mut replay = Replay::new(pipeline, &table);
    let Some(mended) = mended else {
        let mut obstacles = Vec::new();
        for load in chosen(database, only).await.map_err(of_database)? {
            if only.is_none() && (load.table != table || load.pipeline != pipeline.name) {
                continue;
            }
            let mut pages = Pages::of(load.id);
            while let Some(page) = pages.next(database).await.map_err(of_database)? {
                let record = |reject: etl_runner::ledger::StoredReject| Mended {
                    load: load.id,
                    record: reject.record,
                    content: Content::Bytes(reject.raw),
                };
                let records: Vec<Mended> = page.into_iter().map(record).collect();
                match replay.bring_in(database, load.id, &records).await {
                    Ok(replayed) => add(loads, replayed),
                    // Of this load none, but perhaps of the next one.
                    Err(error @ ReplayError::Impossible { .. }) => {
                        obstacles.push(failure(error, file, context));
                        break;
                    }
                    Err(error) => return Err(failure(error, file, context)),
                }
            }
        }
        return Failure::all(obstacles).map_or(Ok(()), Err);
    };
    while let Some((load, records)) = mended.next_of_a_load()? {
        if only.is_none_or(|only| only == load) {
            let replayed = replay.bring_in(database, load, &records).await;
            add(loads, replayed.map_err(|error| failure(error, file, context))?);
        }
    }
    Ok(())
}

/// A load comes in in several transactions.
fn add(loads: &mut Vec<Replayed>, more: Replayed) {
    match loads.iter_mut().find(|load| load.load == more.load) {
        Some(load) => load.add(more),
        None => loads.push(more),
    }
}

fn failure(error: ReplayError, file: &PipelineFile, context: &Context) -> Failure {
    match error {
        ReplayError::Load(LoadError::Database(error)) => Failure::database(&error),
        ReplayError::Load(error) => {
            let screen = Screen::of(&error);
            let hint = Hint { pipeline: &file.path, object: String::new(), load: None };
            let help = error.help().into_iter().filter_map(|help| context.hint(&help, &hint));
            Failure::new(error.exit(), help.fold(screen, Screen::help))
        }
        ReplayError::Impossible { load, ref key, ref obstacle } => {
            let reload = format!(
                "`etl-runner run {} --reload --object {}` loads the object anew",
                cli::shell_word(&file.path.display().to_string()),
                cli::shell_word(key)
            );
            let help = match obstacle {
                Obstacle::State(_) => format!("`etl-runner show {load}` says what became of it"),
                Obstacle::OtherTable { .. } | Obstacle::OtherPipeline { .. } => {
                    "name the pipeline it was loaded by".into()
                }
                Obstacle::Upsert => format!("mend the object itself; {reload}"),
                Obstacle::TableGone | Obstacle::NoFormat | Obstacle::OtherColumn { .. } => reload,
                _ => format!("`etl-runner show {load}` says more"),
            };
            let exit = match obstacle {
                Obstacle::OtherTable { .. } | Obstacle::OtherPipeline { .. } => Exit::Usage,
                _ => Exit::Failed,
            };
            Failure::new(exit, Screen::of(&error).help(help))
        }
        _ => Failure::new(Exit::Failed, Screen::of(&error)),
    }
}

fn text(loads: &[Replayed], refused: u64, context: &Context) -> String {
    let style = context.terminal.out;
    let mut text = String::new();
    for load in loads {
        let head = format!("load {}: {} → {}", load.load, escape(&load.key), escape(&load.table));
        let mut facts = vec![human::counted(load.replayed, "record replayed", "records replayed")];
        if load.refused > 0 {
            facts.push(format!("{} still refused", human::count(load.refused)));
        }
        if load.unknown > 0 {
            facts.push(format!("{} not among its rejects, or no longer", human::count(load.unknown)));
        }
        text.push_str(&format!("{}: {}\n", style.bold(head), facts.join(", ")));
        for reject in &load.first_refused {
            let line = reject_line(&load.key, reject.line, reject.field.as_deref(), &reject.message, &reject.code);
            text.push_str(&format!("  {line}\n"));
        }
        let more = load.refused.saturating_sub(load.first_refused.len() as u64);
        if more > 0 {
            text.push_str(&format!("  … and {} more\n", human::count(more)));
        }
    }
    if refused > 0 {
        text.push_str("what is still refused stays in the ledger as it was\n");
    }
    text
}

/// A file as `rejects export` writes it, with some of its records mended.
struct MendedFile {
    name: String,
    lines: Lines,
    /// Read already, and of the next load.
    next: Option<Mended>,
}

enum Lines {
    Csv { reader: Box<csv::Reader<Box<dyn Read>>>, columns: Columns },
    Json { reader: Box<dyn BufRead>, line: u64 },
}

/// Where the columns are that count.
struct Columns {
    load: usize,
    record: usize,
    raw: usize,
    encoding: Option<usize>,
}

#[derive(Deserialize)]
struct JsonLine {
    load: i64,
    record: u64,
    raw: String,
    encoding: Option<String>,
}

impl MendedFile {
    fn open(path: &Path) -> Result<Self, Failure> {
        let is_stdin = path.as_os_str() == "-";
        let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
        let unreadable = |error: io::Error| Failure::file("read", path, &error);
        let source: Box<dyn Read> = match is_stdin {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path).map_err(unreadable)?),
        };
        let mut reader = BufReader::new(source);
        // What spreadsheets put in front of UTF-8.
        if reader.fill_buf().map_err(unreadable)?.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        let begin = reader.fill_buf().map_err(unreadable)?;
        if begin.starts_with(b"{") {
            return Ok(Self { name, lines: Lines::Json { reader: Box::new(reader), line: 0 }, next: None });
        }
        // Some spreadsheets write another delimiter than they were given.
        let first = begin.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let delimiter = [b',', b';', b'\t']
            .into_iter()
            .max_by_key(|delimiter| (first.iter().filter(|byte| *byte == delimiter).count(), *delimiter == b','));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter.unwrap_or(b','))
            .from_reader(Box::new(reader) as Box<dyn Read>);
        let header = reader.headers().map_err(|error| wrong_csv(&name, &error))?;
        let place = |column: &str| header.iter().position(|label| label.trim_matches('"') == column);
        let needed = |column: &str| {
            let screen = Screen::error(format!("{name} has no column {column:?}"));
            let help = "it takes what `etl-runner rejects export` writes, with its header";
            place(column).ok_or_else(|| Failure::new(Exit::Usage, screen.help(help)))
        };
        let columns = Columns {
            load: needed("load")?,
            record: needed("record")?,
            raw: needed("raw")?,
            encoding: place("encoding"),
        };
        Ok(Self { name, lines: Lines::Csv { reader: Box::new(reader), columns }, next: None })
    }

    /// The next records, all of one load.
    fn next_of_a_load(&mut self) -> Result<Option<(i64, Vec<Mended>)>, Failure> {
        let mut records: Vec<Mended> = self.next.take().into_iter().collect();
        let mut bytes = 0;
        while records.len() < RECORDS && bytes < BYTES {
            let Some(mended) = self.read()? else { break };
            if records.first().is_some_and(|first| first.load != mended.load) {
                self.next = Some(mended);
                break;
            }
            bytes += match &mended.content {
                Content::Text(text) => text.len(),
                Content::Bytes(bytes) => bytes.len(),
            };
            records.push(mended);
        }
        Ok(records.first().map(|first| first.load).map(|load| (load, records)))
    }

    fn read(&mut self) -> Result<Option<Mended>, Failure> {
        let name = &self.name;
        match &mut self.lines {
            Lines::Csv { reader, columns } => {
                let mut record = csv::StringRecord::new();
                if !reader.read_record(&mut record).map_err(|error| wrong_csv(name, &error))? {
                    return Ok(None);
                }
                let line = record.position().map_or(0, csv::Position::line);
                let cell = |column: usize| record.get(column).unwrap_or_default();
                let no_number = |column: &str| wrong_line(name, line, &format!("the column {column:?} is no number"));
                let load = cell(columns.load).trim().parse().map_err(|_| no_number("load"))?;
                let number = cell(columns.record).trim().parse().map_err(|_| no_number("record"))?;
                let encoding = columns.encoding.map(cell);
                let content = content(cell(columns.raw), encoding).map_err(|wrong| wrong_line(name, line, wrong))?;
                Ok(Some(Mended { load, record: number, content }))
            }
            Lines::Json { reader, line } => {
                let mut text = String::new();
                while text.trim().is_empty() {
                    text.clear();
                    *line += 1;
                    let read = reader.read_line(&mut text);
                    if read.map_err(|error| Failure::file("read", Path::new(name), &error))? == 0 {
                        return Ok(None);
                    }
                }
                // The parser's own message may show values.
                let wrong = "it is no JSON with the numbers load and record and the text raw";
                let parsed: JsonLine = serde_json::from_str(&text).map_err(|_| wrong_line(name, *line, wrong))?;
                let content =
                    content(&parsed.raw, parsed.encoding.as_deref()).map_err(|wrong| wrong_line(name, *line, wrong))?;
                Ok(Some(Mended { load: parsed.load, record: parsed.record, content }))
            }
        }
    }
}

fn content(raw: &str, encoding: Option<&str>) -> Result<Content, &'static str> {
    match encoding.unwrap_or("utf-8").trim() {
        "utf-8" | "" => Ok(Content::Text(raw.to_owned())),
        SAFE => Ok(Content::Text(raw.strip_prefix('\'').unwrap_or(raw).to_owned())),
        "base64" => {
            let bytes = STANDARD
                .decode(raw.trim().trim_start_matches('\''))
                .map_err(|_| "its encoding is base64, and raw is none")?;
            Ok(Content::Bytes(bytes))
        }
        _ => Err("its encoding is neither utf-8 nor base64"),
    }
}

fn wrong_line(name: &str, line: u64, what: &str) -> Failure {
    Failure::new(Exit::Usage, Screen::error(format!("{name}:{line}: {what}")))
}

/// In our words: the library's may show cells.
fn wrong_csv(name: &str, error: &csv::Error) -> Failure {
    let line = error.position().map_or(0, csv::Position::line);
    let what = match error.kind() {
        csv::ErrorKind::Io(source) => return Failure::file("read", Path::new(name), source),
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8",
        csv::ErrorKind::UnequalLengths { .. } => "it has more or fewer cells than the header",
        _ => "it is no CSV",
    };
    wrong_line(name, line, what)
}
