//! `check`: whether a run would work, without doing any of it.

use std::io;
use std::path::Path;

use cli::{Exit, Screen, Style, escape, human};
use etl_runner::database::{self, Database, DatabaseConfig, DatabaseError, DatabaseUrl, Lack, TableName};
use etl_runner::ledger::{Standing, standing};
use etl_runner::run::{self, NoMatch, object_version, pipeline_hash};
use objects::{Store, StoreError};
use serde::Serialize;

use super::failure::{Failure, worse};
use super::pipelines::{self, PipelineFile};
use super::signals::block_on;
use super::{Context, Hint};
use crate::config::Check;

/// Objects named of those that match.
const SHOWN_OBJECTS: usize = 10;

/// What was found of one pipeline.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreFinding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<TableFinding>,
    /// What would keep a run from working.
    problems: Vec<Screen>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Debug, Serialize)]
struct StoreFinding {
    glob: String,
    matched: u64,
    /// Of those, as far as the ledger could be asked.
    loaded: Option<u64>,
    bytes: u64,
    first: Vec<String>,
    /// Names that would match and are no objects.
    #[serde(skip_serializing_if = "is_zero")]
    unreadable: u64,
    /// The first of them, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passed_over: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum TableFinding {
    Fits {
        table: String,
    },
    /// The first load makes it.
    WillBeMade {
        table: String,
    },
    Wrong {
        table: String,
        problems: Vec<TableProblem>,
    },
    /// It may be right, and may not be loaded.
    NotLoadable {
        table: String,
        problems: Vec<TableProblem>,
    },
}

#[derive(Debug, Serialize)]
struct TableProblem {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    exit: u8,
    store: String,
    database: String,
    pipelines: &'a [Checked],
}

pub(super) fn check(args: &Check, context: &Context) -> Result<Exit, Failure> {
    let config = context.resolve(&args.database)?;
    let files: Vec<_> = args.pipelines.iter().map(|path| (path.as_path(), pipelines::read(path))).collect();
    let checked = block_on(check_all(files, args, &config, context))?;
    let exit = checked.iter().fold(Exit::Done, |exit, checked| worse(exit, checked.exit));
    let (store, database) = (args.store.store.to_string(), config.url().to_string());
    if context.terminal.json {
        checked.iter().flat_map(|checked| &checked.problems).for_each(|screen| screen.show(context.terminal.err));
        let document = Document { exit: exit.code(), store, database, pipelines: &checked };
        cli::print_json(context.name, &document).map_err(|error| Failure::output(&error))?;
        return Ok(exit);
    }
    for checked in &checked {
        // Each pipeline's findings and problems together, though they go to two streams.
        cli::print(text(checked, &store, &database, context.terminal.out)).map_err(|error| Failure::output(&error))?;
        checked.problems.iter().for_each(|screen| screen.show(context.terminal.err));
    }
    Ok(exit)
}

/// What a place gave, or why it gave nothing. A problem of a place is told with the first pipeline only.
enum Place<T> {
    Open(T),
    /// A file that the first run makes.
    NotYet,
    Closed,
}

async fn check_all(
    files: Vec<(&Path, Result<PipelineFile, Failure>)>,
    args: &Check,
    config: &DatabaseConfig,
    context: &Context,
) -> Vec<Checked> {
    let mut problems = Vec::new();
    let store = match Store::open(&args.store.store).await {
        Ok(store) => Place::Open(store),
        Err(error) => {
            problems.push(Failure::store(&error));
            Place::Closed
        }
    };
    let mut database = match Database::connect(&config.clone().existing()).await {
        Ok(database) => Place::Open(database),
        Err(error) if will_be_made(config, &error) => match may_be_made(config) {
            Ok(()) => Place::NotYet,
            Err(error) => {
                problems.push(Failure::database(&error));
                Place::Closed
            }
        },
        Err(error) => {
            problems.push(Failure::database(&error));
            Place::Closed
        }
    };
    let mut all = Vec::new();
    for (path, file) in files {
        let mut checked = Checked {
            file: path.display().to_string(),
            name: None,
            store: None,
            table: None,
            problems: Vec::new(),
            exit: Exit::Done,
        };
        problems.drain(..).for_each(|problem| checked.add(problem));
        match file {
            Ok(file) => checked.look(&file, &store, &mut database).await,
            Err(failure) => checked.add(failure),
        }
        let hint = Hint { pipeline: path, object: String::new(), load: None };
        let whole = |help: &str| context.hint(help, &hint).unwrap_or_else(|| help.to_owned());
        let complete = |screen: Screen| screen.map_help(whole);
        checked.problems = std::mem::take(&mut checked.problems).into_iter().map(complete).collect();
        all.push(checked);
    }
    if let Place::Open(database) = database {
        database.close().await;
    }
    all
}

/// A run makes a missing SQLite file, and the last directory on the way to it.
fn will_be_made(config: &DatabaseConfig, error: &DatabaseError) -> bool {
    let DatabaseError::CannotOpen { source, .. } = error else { return false };
    let DatabaseUrl::Sqlite(path) = config.url() else { return false };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    source.kind() == io::ErrorKind::NotFound && (directory.is_dir() || above.is_dir())
}

fn may_be_made(config: &DatabaseConfig) -> Result<(), DatabaseError> {
    match config.url() {
        DatabaseUrl::Sqlite(path) => database::can_be_made(path),
        DatabaseUrl::Postgres(_) => Ok(()),
    }
}

impl Checked {
    fn add(&mut self, failure: Failure) {
        self.exit = worse(self.exit, failure.exit);
        self.problems.extend(failure.screens);
    }

    async fn look(&mut self, file: &PipelineFile, store: &Place<Store>, database: &mut Place<Database>) {
        self.name = Some(file.pipeline.name.clone());
        let mut table = None;
        match database {
            Place::Open(database) => match self.look_at_table(file, database).await {
                Ok(found) => table = Some(found),
                Err(error) => self.add(Failure::database(&error)),
            },
            Place::NotYet => {
                self.table = Some(TableFinding::WillBeMade { table: file.pipeline.target.table.clone() });
            }
            Place::Closed => {}
        }
        if let Place::Open(store) = store {
            let ledger = match (database, table) {
                (Place::Open(database), Some(table)) => Some((database, table)),
                _ => None,
            };
            if let Err(failure) = self.look_at_store(file, store, ledger).await {
                self.add(failure);
            }
        }
    }

    async fn look_at_table(
        &mut self,
        file: &PipelineFile,
        database: &mut Database,
    ) -> Result<TableName, DatabaseError> {
        let pipeline = &file.pipeline;
        let table = database.resolve(&TableName::parse(&pipeline.target.table)?).await?;
        let shown = table.to_string();
        let lacks = database.rights(&table, pipeline.target.mode).await?;
        if !lacks.is_empty() {
            self.lacks(shown, lacks);
            return Ok(table);
        }
        if let Some(error) = run::lost_table(database, pipeline, &table).await? {
            let screen = Screen::error(format!("nothing can be loaded into {shown}")).cause(error.to_string());
            self.add(Failure::new(error.exit(), error.help().into_iter().fold(screen, Screen::help)));
            return Ok(table);
        }
        let Some(live) = database.describe(&table).await? else {
            if pipeline.target.create {
                self.table = Some(TableFinding::WillBeMade { table: shown });
            } else {
                let screen = Screen::error(format!("there is no table {shown} and the pipeline says create = false"));
                let help = "`etl-runner ddl PIPELINE` prints what makes it";
                self.add(Failure::new(Exit::Failed, screen.help(help)));
            }
            return Ok(table);
        };
        let problems = database::compare(pipeline, &live, database.dialect())?;
        if problems.is_empty() {
            self.table = Some(TableFinding::Fits { table: shown });
            return Ok(table);
        }
        let details: Vec<String> = problems
            .iter()
            .flat_map(|problem| {
                let fix = problem.fix.as_ref().map(|fix| format!("      {fix}"));
                std::iter::once(format!("  {}", problem.what)).chain(fix)
            })
            .collect();
        let screen = Screen::error(format!("the table {shown} does not fit the pipeline")).details(details.join("\n"));
        self.add(Failure::new(Exit::Failed, screen));
        let problems =
            problems.into_iter().map(|problem| TableProblem { what: problem.what, fix: problem.fix }).collect();
        self.table = Some(TableFinding::Wrong { table: shown, problems });
        Ok(table)
    }

    /// What a run would be refused.
    fn lacks(&mut self, table: String, lacks: Vec<Lack>) {
        let exit = if lacks.iter().any(|lack| lack.is_permission) { Exit::Denied } else { Exit::Failed };
        let details: Vec<String> =
            lacks.iter().flat_map(|lack| [format!("  {}", lack.what), format!("      {}", lack.fix)]).collect();
        let screen = Screen::error(format!("nothing can be loaded into {table}")).details(details.join("\n"));
        self.add(Failure::new(exit, screen.help("an administrator can run the statements above")));
        let problems = lacks.into_iter().map(|lack| TableProblem { what: lack.what, fix: Some(lack.fix) }).collect();
        self.table = Some(TableFinding::NotLoadable { table, problems });
    }

    async fn look_at_store(
        &mut self,
        file: &PipelineFile,
        store: &Store,
        ledger: Option<(&mut Database, TableName)>,
    ) -> Result<(), Failure> {
        let of_store = |error: StoreError| Failure::store(&error);
        let mut ledger = match ledger {
            Some((database, table)) => {
                let there = database.has_ledger().await.map_err(|error| Failure::database(&error))?;
                there.then_some((database, table))
            }
            None => None,
        };
        let mut finding = StoreFinding {
            glob: file.glob.to_string(),
            matched: 0,
            loaded: ledger.as_ref().map(|_| 0),
            bytes: 0,
            first: Vec::new(),
            unreadable: 0,
            passed_over: Vec::new(),
        };
        let hash = pipeline_hash(&file.pipeline);
        let mut lister = store.list(&file.glob);
        while let Some(page) = lister.next_page().await.map_err(of_store)? {
            finding.matched += page.len() as u64;
            finding.bytes += page.iter().map(|object| object.size).sum::<u64>();
            let room = SHOWN_OBJECTS.saturating_sub(finding.first.len());
            finding.first.extend(page.iter().take(room).map(|object| object.key.clone()));
            if let Some((database, table)) = &mut ledger {
                let uris: Vec<String> = page.iter().map(|object| store.uri_of(&object.key)).collect();
                let history = database.look_up(table, &uris).await.map_err(|error| Failure::database(&error))?;
                let is_loaded = |object: &objects::ObjectMeta| {
                    matches!(standing(&history, &object_version(store, object), &hash), Standing::Loaded { .. })
                };
                let loaded = page.iter().filter(|object| is_loaded(object)).count() as u64;
                finding.loaded = finding.loaded.map(|before| before + loaded);
            }
        }
        finding.passed_over = run::passed_over(&lister);
        finding.unreadable = lister.skipped_count();
        if finding.matched == 0 {
            let (unlisted, passed_over) = (lister.unlisted_count(), finding.passed_over.clone());
            let nothing = NoMatch::of(&file.glob, store, finding.unreadable, unlisted, passed_over).await;
            self.add(Failure::nothing_matches(&nothing.map_err(of_store)?, &file.path));
        }
        self.store = Some(finding);
        Ok(())
    }
}

fn text(checked: &Checked, store: &str, database: &str, style: Style) -> String {
    let mut text = format!("{}\n", style.bold(escape(&checked.file)));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10}{value}\n"));
    if let Some(name) = &checked.name {
        line("pipeline", format!("{} has no mistakes", escape(name)));
    }
    if let Some(found) = &checked.store {
        let loaded = match found.loaded {
            Some(loaded) if loaded > 0 => format!(", {} of them loaded", human::count(loaded)),
            Some(_) | None => String::new(),
        };
        let objects = human::counted(found.matched, "object matches", "objects match");
        let bytes = human::bytes(found.bytes);
        line("store", format!("{}: {objects} {} ({bytes}){loaded}", escape(store), escape(&found.glob)));
        for key in &found.first {
            line("", escape(key).to_string());
        }
        let more = found.matched.saturating_sub(found.first.len() as u64);
        if more > 0 {
            line("", format!("… and {} more", human::count(more)));
        }
        for name in &found.passed_over {
            line("", format!("passed over: {}", escape(name)));
        }
        let more = found.unreadable.saturating_sub(found.passed_over.len() as u64);
        if more > 0 {
            line("", format!("passed over: {} more", human::count(more)));
        }
    }
    match &checked.table {
        Some(TableFinding::Fits { table }) => line("table", format!("{} fits, in {}", escape(table), escape(database))),
        Some(TableFinding::WillBeMade { table }) => {
            line("table", format!("{} will be made by the first load, in {}", escape(table), escape(database)));
        }
        Some(TableFinding::Wrong { table, .. }) => {
            line("table", format!("{} does not fit, in {}", escape(table), escape(database)));
        }
        Some(TableFinding::NotLoadable { table, .. }) => {
            line("table", format!("{} cannot be loaded into, in {}", escape(table), escape(database)));
        }
        None => {}
    }
    text
}
