//! `rejects`: the records that were set aside, to be looked at and to be written out.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cli::{Exit, Screen, escape, human};
use etl_runner::database::{Database, DatabaseError, LoadFilter};
use etl_runner::ledger::{LoadRow, LoadState, RejectLine, StoredReject, Timestamp};
use serde::Serialize;
use tempfile::NamedTempFile;
use transform::Encoding;

use super::Context;
use super::failure::Failure;
use super::load_text::reject_line;
use super::signals::block_on;
use crate::config::{ExportFormat, RejectsExport, RejectsList, RejectsPurge};

/// Loads asked for at a time.
const LOADS_PER_PAGE: u32 = 500;
/// Rejects of the first page, and of any page; the records' bytes count in an export only.
const FIRST_PAGE: u32 = 64;
const LARGEST_PAGE: u32 = 4096;
/// A page's raw bytes are to stay about here: a record may have a mebibyte.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The rejects of a load, page by page, in bounded memory.
#[derive(Debug)]
pub(super) struct Pages {
    load: i64,
    after: u64,
    size: u32,
}

impl Pages {
    pub(super) fn of(load: i64) -> Self {
        Self { load, after: 0, size: FIRST_PAGE }
    }

    /// The next page, without the records' bytes: a list is for looking.
    pub(super) async fn next_lines(
        &mut self,
        database: &mut Database,
    ) -> Result<Option<Vec<RejectLine>>, DatabaseError> {
        let page = database.reject_lines(self.load, self.after, LARGEST_PAGE).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.record;
        Ok(Some(page))
    }

    /// The next page with them.
    pub(super) async fn next(&mut self, database: &mut Database) -> Result<Option<Vec<StoredReject>>, DatabaseError> {
        let page = database.rejects(self.load, self.after, self.size).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.record;
        let bytes: usize = page.iter().map(|reject| reject.raw.len()).sum();
        self.size = if bytes > PAGE_BYTES { (self.size / 2).max(1) } else { (self.size * 2).min(LARGEST_PAGE) };
        Ok(Some(page))
    }
}

/// The load that was named, or all whose rows are in a table, oldest first; only those with rejects.
pub(super) async fn chosen(database: &mut Database, load: Option<i64>) -> Result<Vec<LoadRow>, DatabaseError> {
    if let Some(id) = load {
        return Ok(vec![database.load(id).await?]);
    }
    let mut filter = LoadFilter { states: vec![LoadState::Loaded], ..LoadFilter::default() };
    let mut loads = Vec::new();
    loop {
        let page = database.loads(&filter, LOADS_PER_PAGE).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        loads.extend(page.into_iter().filter(|load| load.counts.rejected > 0));
    }
    loads.reverse();
    Ok(loads)
}

// ---- list

#[derive(Serialize)]
struct ListDocument {
    loads: Vec<ListedLoad>,
}

#[derive(Serialize)]
struct ListedLoad {
    load: i64,
    state: LoadState,
    key: String,
    table: String,
    rejected: u64,
    rejects: Vec<RejectLine>,
}

pub(super) fn list(args: &RejectsList, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let loads = block_on(async {
        let mut database = context.open_ledger(config).await?;
        let listed = list_up_to(&mut database, args.load, args.limit).await;
        database.close().await;
        listed.map_err(|error| Failure::database(&error))
    })??;
    let text = list_text(&loads, args, context);
    context.print(&text, &ListDocument { loads })?;
    Ok(Exit::Done)
}

async fn list_up_to(database: &mut Database, load: Option<i64>, limit: u64) -> Result<Vec<ListedLoad>, DatabaseError> {
    let mut left = limit;
    let mut listed = Vec::new();
    for load in chosen(database, load).await? {
        let mut rejects = Vec::new();
        let mut pages = Pages::of(load.id);
        while left > 0
            && let Some(page) = pages.next_lines(database).await?
        {
            let before = rejects.len();
            rejects.extend(page.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)));
            left -= (rejects.len() - before) as u64;
        }
        let rejected = load.counts.rejected.saturating_sub(load.purged());
        listed.push(ListedLoad {
            load: load.id,
            state: load.state,
            key: load.object.key,
            table: load.table.to_string(),
            rejected,
            rejects,
        });
    }
    Ok(listed)
}

fn list_text(loads: &[ListedLoad], args: &RejectsList, context: &Context) -> String {
    let style = context.terminal.out;
    if loads.iter().all(|load| load.rejected == 0) {
        return "no rejects\n".into();
    }
    let mut text = String::new();
    let mut unlisted = 0;
    for load in loads {
        let state = match load.state {
            LoadState::Loaded => String::new(),
            state => format!(" ({state})"),
        };
        let head = format!(
            "load {}{state}: {} → {}, {}",
            load.load,
            escape(&load.key),
            escape(&load.table),
            human::counted(load.rejected, "reject", "rejects")
        );
        text.push_str(&format!("{}\n", style.bold(head)));
        for reject in &load.rejects {
            let line = reject_line(&load.key, reject.line, reject.field.as_deref(), &reject.message, &reject.code);
            text.push_str(&format!("  {line}\n"));
        }
        let listed = load.rejects.len() as u64;
        if load.state == LoadState::Failed && listed < load.rejected && listed < args.limit {
            text.push_str("  of a load that failed only the first are kept\n");
        } else {
            unlisted += load.rejected.saturating_sub(listed);
        }
    }
    if unlisted > 0 {
        text.push_str(&format!("… and {} more: raise --limit\n", human::count(unlisted)));
    }
    let which = args.load.map(|load| format!(" {load}")).unwrap_or_default();
    let export = context.next(&format!("rejects export{which} -o rejects.csv"));
    text.push_str(&format!("with their records: {}\n", escape(&export)));
    text
}

// ---- export

const COLUMNS: [&str; 10] = ["load", "key", "line", "record", "offset", "field", "code", "message", "raw", "encoding"];

/// The encoding of a text behind an apostrophe, which a replay takes off again.
pub(super) const SAFE: &str = "utf-8-safe";

/// One line of an export; the names are those of [`COLUMNS`].
#[derive(Serialize)]
struct Exported<'a> {
    load: i64,
    key: &'a str,
    line: u64,
    record: u64,
    offset: u64,
    field: Option<&'a str>,
    code: &'a str,
    message: &'a str,
    raw: String,
    /// How `raw` stands for the record's bytes: `utf-8` for their text, `base64` for themselves.
    encoding: &'static str,
}

impl<'a> Exported<'a> {
    /// `encoding` is the object's.
    fn new(load: &'a LoadRow, reject: &'a StoredReject, encoding: Encoding) -> Self {
        let (raw, encoding) = match encoding.text_of(&reject.raw) {
            Some(text) if is_plain(&text) => (text.into_owned(), "utf-8"),
            Some(_) | None => (STANDARD.encode(&reject.raw), "base64"),
        };
        Self {
            load: load.id,
            key: &load.object.key,
            line: reject.line,
            record: reject.record,
            offset: reject.offset,
            field: reject.field.as_deref(),
            code: &reject.code,
            message: &reject.message,
            raw,
            encoding,
        }
    }

    fn csv_cells(&self, spreadsheet_safe: bool) -> [String; 10] {
        let cell = |text: &str| if spreadsheet_safe { without_formula(text) } else { text.to_owned() };
        let raw = cell(&self.raw);
        // Base64 has no apostrophes of its own.
        let encoding = if raw == self.raw || self.encoding == "base64" { self.encoding } else { SAFE };
        [
            self.load.to_string(),
            cell(self.key),
            self.line.to_string(),
            self.record.to_string(),
            self.offset.to_string(),
            cell(self.field.unwrap_or_default()),
            self.code.to_owned(),
            cell(self.message),
            raw,
            encoding.to_owned(),
        ]
    }
}

/// Without control characters but tab and line ends.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' || matches!(byte, b'\t' | b'\r' | b'\n'))
}

/// Spreadsheets run a text that begins like this. An apostrophe makes it text, and changes it.
fn without_formula(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => format!("'{text}"),
        _ => text.to_owned(),
    }
}

#[derive(Serialize)]
struct ExportDocument {
    file: String,
    rejects: u64,
}

pub(super) fn export(args: &RejectsExport, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    if args.spreadsheet_safe && args.format == ExportFormat::Jsonl {
        return Err(Failure::usage("--spreadsheet-safe is for CSV", "leave it out, or write --format csv"));
    }
    let to_stdout = args.output.as_os_str() == "-";
    if to_stdout && context.terminal.json {
        let help = "write --format jsonl for JSON lines, or -o FILE beside --json";
        return Err(Failure::usage("--json and an export both want standard output", help));
    }
    let count = block_on(async {
        let mut database = context.open_ledger(config).await?;
        let written = export_to(&mut database, args, to_stdout).await;
        database.close().await;
        written
    })??;
    if !to_stdout {
        let file = args.output.display().to_string();
        let text = format!("{} written to {}\n", human::counted(count, "reject", "rejects"), escape(&file));
        context.print(&text, &ExportDocument { file, rejects: count })?;
    } else if count == 0 && !context.terminal.quiet {
        Screen::note("no rejects").show(context.terminal.err);
    }
    Ok(Exit::Done)
}

async fn export_to(database: &mut Database, args: &RejectsExport, to_stdout: bool) -> Result<u64, Failure> {
    let of_database = |error: DatabaseError| Failure::database(&error);
    let loads = chosen(database, args.load).await.map_err(of_database)?;
    if to_stdout {
        let out = io::stdout().lock();
        return match write_all(database, &loads, args, out).await {
            Ok(count) => Ok(count),
            Err(Unwritten::Database(error)) => Err(of_database(error)),
            // The reader has seen enough.
            Err(Unwritten::Output(error)) if cli::is_closed_pipe(&error) => Ok(1),
            Err(Unwritten::Output(error)) => Err(Failure::output(&error)),
        };
    }
    let unfinished = Unfinished::create(&args.output).map_err(|error| Failure::file("write", &args.output, &error))?;
    let count = match write_all(database, &loads, args, BufWriter::new(unfinished.file.as_file())).await {
        Ok(count) => count,
        Err(Unwritten::Database(error)) => return Err(of_database(error)),
        Err(Unwritten::Output(error)) => return Err(Failure::file("write", &args.output, &error)),
    };
    unfinished.complete().map_err(|error| Failure::file("write", &args.output, &error))?;
    Ok(count)
}

enum Unwritten {
    Database(DatabaseError),
    Output(io::Error),
}

async fn write_all(
    database: &mut Database,
    loads: &[LoadRow],
    args: &RejectsExport,
    mut out: impl Write,
) -> Result<u64, Unwritten> {
    let mut count = 0;
    let mut header = match args.format {
        ExportFormat::Csv => csv_line(&COLUMNS).map_err(Unwritten::Output)?,
        ExportFormat::Jsonl => Vec::new(),
    };
    for load in loads {
        let encoding = load.format().and_then(|format| format.encoding()).unwrap_or(Encoding::Utf8);
        let mut pages = Pages::of(load.id);
        while let Some(page) = pages.next(database).await.map_err(Unwritten::Database)? {
            // Not before the database has answered: a reader of rejects may have no right to their bytes.
            out.write_all(&std::mem::take(&mut header)).map_err(Unwritten::Output)?;
            for reject in &page {
                let exported = Exported::new(load, reject, encoding);
                let line = match args.format {
                    ExportFormat::Csv => csv_line(&exported.csv_cells(args.spreadsheet_safe)),
                    ExportFormat::Jsonl => json_line(&exported),
                };
                line.and_then(|line| out.write_all(&line)).map_err(Unwritten::Output)?;
                count += 1;
            }
        }
    }
    out.write_all(&header).and_then(|()| out.flush()).map_err(Unwritten::Output)?;
    Ok(count)
}

fn csv_line<T: AsRef<[u8]>>(cells: &[T]) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    writer.into_inner().map_err(|error| error.into_error())
}

fn json_line(exported: &Exported<'_>) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(exported)?;
    line.push(b'\n');
    Ok(line)
}

// ---- purge

#[derive(Serialize)]
struct PurgeDocument {
    dry_run: bool,
    rejects: u64,
    loads: u64,
}

pub(super) fn purge(args: &RejectsPurge, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let before = Timestamp::from(args.older_than.before(SystemTime::now()));
    let (rejects, loads) = block_on(async {
        let mut database = context.open_ledger(config).await?;
        let purged = match args.dry_run {
            true => database.count_purgeable(before).await,
            false => database.purge_rejects(before).await,
        };
        database.close().await;
        purged.map_err(|error| Failure::database(&error))
    })??;
    let verb = if args.dry_run { "would be purged" } else { "purged" };
    let text = format!(
        "{} of {} {verb}\n",
        human::counted(rejects, "reject", "rejects"),
        human::counted(loads, "load", "loads")
    );
    context.print(&text, &PurgeDocument { dry_run: args.dry_run, rejects, loads })?;
    Ok(Exit::Done)
}

/// A file under a name nobody can guess, in the place of the target only when it is complete; removed otherwise.
struct Unfinished {
    file: NamedTempFile,
    target: PathBuf,
}

impl Unfinished {
    fn create(target: &Path) -> io::Result<Self> {
        let no_file = || io::Error::other("it is a device, pipe or socket; `--output -` writes to standard output");
        if cfg!(windows) && target.file_name().is_some_and(|name| name.eq_ignore_ascii_case("nul")) {
            return Err(no_file());
        }
        // A link stays what it is: the file it leads to is written.
        let target = match target.canonicalize() {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !target.is_symlink() => target.to_owned(),
            Err(error) => return Err(error),
        };
        match fs::metadata(&target) {
            Ok(meta) if meta.is_dir() => return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")),
            // It would be a plain file afterwards.
            Ok(meta) if !meta.is_file() => return Err(no_file()),
            _ => {}
        }
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::metadata(directory)?;
        // Rejects are people's data: the file is its maker's alone to read, and on Windows takes the directory's rights.
        let file = tempfile::Builder::new().prefix(".rejects-").suffix(".part").tempfile_in(directory);
        // Its own message would name a file nobody knows.
        let file = file.map_err(|error| io::Error::from(error.kind()))?;
        Ok(Self { file, target })
    }

    fn complete(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        let path = self.file.into_temp_path();
        objects::rename(&path, &self.target)?;
        // Nothing is left under the name that would be removed.
        _ = path.keep();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_text_only_behind_the_switch() {
        for formula in ["=HYPERLINK(\"http://x\",\"y\")", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "＝1"] {
            assert_eq!(without_formula(formula), format!("'{formula}"));
        }
        assert_eq!(without_formula("Ada"), "Ada");
        assert_eq!(without_formula(""), "");
    }

    #[test]
    fn bytes_that_only_look_like_text_are_no_text() {
        assert!(is_plain("Peña,\t\"two\r\nlines\"\n"));
        assert!(!is_plain("1\u{0},\u{0}"));
        assert!(!is_plain("\u{1b}[2J"));
    }

    #[test]
    fn cells_of_an_export_survive_a_csv_reader() {
        let cells = ["a,b", "line\r\nend", "\"quoted\"", "", "=1+1", "Peña\u{0}"];
        let line = csv_line(&cells).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_slice());
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!(record.iter().collect::<Vec<_>>(), cells);
    }
}
