//! Which objects of a pipeline are to be loaded, and one load after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use objects::{Glob, Lister, ObjectMeta, Skipped, Store, StoreError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use transform::Pipeline;
use transform::pipeline::{Mode, OnChange};
use uuid::Uuid;

use crate::database::{Database, DatabaseError, Dialect, LoadFilter, NameError, TableName};
use crate::error::{LoadError, chain};
use crate::ledger::{Counts, LoadRow, LoadState, ObjectVersion, Replaces, Standing, Timestamp, standing};
use crate::load::{Target, Task, load};
use crate::report::{LoadReport, Outcome, SkipReason};
use crate::retry::{MayPass, Patience, patiently};

/// Objects that were loaded before are counted; so many of them are named.
const NAMED_ALREADY_LOADED: usize = 20;

/// Live loads looked at to find out whether their table is still the one they went into.
const LOOKED_AT: u32 = 1_000;

/// Objects beyond the limit that are kept in mind: as many may come to no load before others are out of sight.
const SPARE: usize = 2_000;

/// Names of a listing that are no objects; so many of them are named.
const SHOWN_PASSED_OVER: usize = 5;

/// What a person asked of a run.
#[derive(Clone, Debug)]
pub struct Options {
    pub run_id: Uuid,
    /// Load again what is loaded, was undone or failed.
    pub reload: bool,
    /// Leave out objects last modified before.
    pub since: Option<SystemTime>,
    /// Everything but the database.
    pub dry_run: bool,
    /// Load at most so many objects; what is left alone takes no place of another.
    pub limit: Option<usize>,
    /// Threads that transform.
    pub workers: usize,
    /// Connections that load splits of one object at a time; 1 is a load in one transaction.
    pub connections: usize,
    /// Bytes of a split.
    pub split_bytes: u64,
    /// How long to try again after what may pass by itself, from the first failure in a row on.
    pub retry_for: Duration,
    /// True while a commit is under way: whoever stops the run waits for its answer, which takes moments.
    pub committing: Arc<AtomicBool>,
    /// True while a load runs in splits: those that are in stay when it is interrupted.
    pub in_splits: Arc<AtomicBool>,
}

/// What a run tells while it is under way.
#[derive(Debug)]
pub enum Event<'a> {
    /// A load begins; bytes as stored.
    Begins {
        key: &'a str,
        size: u64,
    },
    /// Bytes after decompression, records.
    Advanced {
        bytes: u64,
        records: u64,
    },
    /// Something failed that may pass by itself; it is tried again after `wait`.
    Waits {
        error: &'a str,
        wait: Duration,
    },
    Ended(&'a LoadReport),
}

/// Told of events, possibly from another thread than the last.
pub type Observer<'a> = &'a (dyn Fn(Event<'_>) + Send + Sync);

/// What a run of one pipeline did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunReport {
    pub pipeline: String,
    pub table: String,
    /// Objects that match the pipeline's glob.
    pub matched: u64,
    /// Of those, in the table before this run.
    pub already_loaded: u64,
    /// Of those, left out by `--since` or `--limit`, or because mode `replace` takes the newest alone.
    pub left_out: u64,
    /// Names below the prefix that are no objects: symbolic links, unreadable files.
    pub unreadable: u64,
    /// How many of those names are directories that could not be listed, so that objects may be missing.
    pub unlisted: u64,
    /// The first of those names, each with the reason.
    pub passed_over: Vec<String>,
    /// In the order they were tried. Of the objects loaded before, the first ones are named.
    pub loads: Vec<LoadReport>,
    /// The run stopped before all objects were tried, because the next ones would fail the same way.
    pub stopped_early: bool,
}

impl RunReport {
    /// Objects whose load failed.
    pub fn failed(&self) -> usize {
        self.loads.iter().filter(|load| matches!(load.outcome, Outcome::Failed { .. })).count()
    }
}

/// Why a run could not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Name(#[from] NameError),
    /// With the nearest keys there are.
    #[error("no object matches {} in {}", .0.glob, .0.store)]
    NothingMatches(Box<NoMatch>),
    #[error("rows of {table} cannot be told apart without lineage, so nothing of it can be loaded again")]
    NoReload { table: String },
    #[error("{table} cannot be loaded on several connections: {obstacle}")]
    NoParallel { table: String, obstacle: &'static str },
}

impl MayPass for RunError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Database(error) => error.may_pass(),
            Self::Name(_) | Self::NothingMatches(_) | Self::NoReload { .. } | Self::NoParallel { .. } => false,
        }
    }
}

/// What was looked for in vain, and what was found there.
#[derive(Clone, Debug, Default)]
pub struct NoMatch {
    pub glob: String,
    pub store: String,
    /// What the pattern starts with.
    pub prefix: String,
    /// The nearest keys there are.
    pub nearest: Vec<String>,
    /// Names that are no objects.
    pub unreadable: u64,
    /// How many of them are directories that could not be listed.
    pub unlisted: u64,
    /// The first of them, each with the reason.
    pub passed_over: Vec<String>,
}

impl NoMatch {
    /// After a listing that gave no object.
    pub async fn of(
        glob: &Glob,
        store: &Store,
        unreadable: u64,
        unlisted: u64,
        passed_over: Vec<String>,
    ) -> Result<Self, StoreError> {
        let prefix = glob.prefix().to_owned();
        let nearest = store.nearest_keys(&prefix, 5).await?;
        Ok(Self { glob: glob.to_string(), store: store.uri_of(""), prefix, nearest, unreadable, unlisted, passed_over })
    }
}

/// The hash of a pipeline's meaning. The reject limit is part of it: a load that failed by it is tried again once it is
/// raised.
pub fn pipeline_hash(pipeline: &Pipeline) -> String {
    let meaning = format!("{}\nerrors {:?}", pipeline.fingerprint(), pipeline.errors);
    let digest = Sha256::digest(meaning.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first names a listing passed over, with the reason.
pub fn passed_over(lister: &Lister) -> Vec<String> {
    let shown = |skipped: &Skipped| format!("{}: {}", skipped.name, skipped.reason);
    let mut names: Vec<String> = lister.skipped().iter().map(shown).collect();
    // A directory hands out its names in an order of its own.
    names.sort();
    names.truncate(SHOWN_PASSED_OVER);
    names
}

/// What the ledger keeps of an object of a store.
pub fn object_version(store: &Store, object: &ObjectMeta) -> ObjectVersion {
    ObjectVersion {
        uri: store.uri_of(&object.key),
        key: object.key.clone(),
        version: object.version.to_string(),
        etag: object.etag.clone(),
        size: Some(object.size),
        last_modified: Some(Timestamp::from(object.last_modified)),
    }
}

/// Loads what is new below `glob`.
pub async fn run(
    database: &mut Database,
    store: &Store,
    pipeline: &Pipeline,
    glob: &Glob,
    options: &Options,
    observer: Observer<'_>,
) -> Result<RunReport, RunError> {
    let named = TableName::parse(&pipeline.target.table)?;
    let mut patience = Patience::new(options.retry_for);
    let (has_ledger, table) = patiently(&mut patience, waits(observer), async || {
        // A dry run makes no ledger either.
        let has_ledger = if options.dry_run {
            database.has_ledger().await?
        } else {
            database.ensure_ledger().await?;
            true
        };
        Ok::<_, DatabaseError>((has_ledger, database.resolve(&named).await?))
    })
    .await?;
    let hash = pipeline_hash(pipeline);
    let target = Target { pipeline, pipeline_hash: &hash, table: &table };
    if options.reload && !target.can_reload() {
        return Err(RunError::NoReload { table: table.to_string() });
    }
    if options.connections > 1
        && let Some(obstacle) = parallel_obstacle(pipeline, database.dialect())
    {
        return Err(RunError::NoParallel { table: table.to_string(), obstacle });
    }
    let mut run = Run {
        target,
        database,
        has_ledger,
        store,
        options,
        observer,
        patience,
        tries: 0,
        report: RunReport { pipeline: pipeline.name.clone(), table: table.to_string(), ..RunReport::default() },
    };
    let chosen = run.choose(glob).await?;
    if run.report.matched == 0 {
        let RunReport { unreadable, unlisted, passed_over, .. } = run.report;
        let nothing = NoMatch::of(glob, store, unreadable, unlisted, passed_over).await?;
        return Err(RunError::NothingMatches(Box::new(nothing)));
    }
    run.load_all(chosen).await?;
    Ok(run.report)
}

/// Why rows cannot come in split by split.
fn parallel_obstacle(pipeline: &Pipeline, dialect: Dialect) -> Option<&'static str> {
    if dialect == Dialect::Sqlite {
        Some("SQLite has one writer at a time")
    } else if pipeline.target.mode == Mode::Replace {
        Some("mode = \"replace\" changes the whole table at once")
    } else if pipeline.target.mode == Mode::Upsert {
        Some("mode = \"upsert\" lets the last record of a key count, and no part of an object knows which one that is")
    } else if !pipeline.target.lineage {
        Some("without lineage the rows of a load that stops half-way could not be taken back")
    } else {
        None
    }
}

struct Run<'a> {
    target: Target<'a>,
    database: &'a mut Database,
    has_ledger: bool,
    store: &'a Store,
    options: &'a Options,
    observer: Observer<'a>,
    patience: Patience,
    /// How often a load was begun.
    tries: u64,
    report: RunReport,
}

/// Tells of each wait.
fn waits<E: MayPass>(observer: Observer<'_>) -> impl Fn(&E, Duration) {
    move |error, wait| observer(Event::Waits { error: &chain(error), wait })
}

impl Run<'_> {
    /// The objects worth a closer look, oldest first, each with what the ledger has of it. A page of the listing costs one
    /// query, and objects that are loaded cost no memory.
    async fn choose(&mut self, glob: &Glob) -> Result<Vec<Chosen>, RunError> {
        let mut chosen = Vec::new();
        let mut lister = self.store.list(glob);
        while let Some(page) = lister.next_page().await? {
            self.report.matched += page.len() as u64;
            let uris: Vec<String> = page.iter().map(|object| self.store.uri_of(&object.key)).collect();
            let history = self.look_up(&uris).await?;
            // After the ledger: a load another runner has just committed made its table before.
            let table = if history.is_empty() { None } else { Some(self.look_at_table().await?) };
            for object in page {
                if self.options.since.is_some_and(|since| object.last_modified < since) {
                    self.report.left_out += 1;
                    continue;
                }
                let version = object_version(self.store, &object);
                let prospect = match standing(&history, &version, self.target.pipeline_hash) {
                    Standing::Loaded { load, pipeline_changed } if !self.options.reload => {
                        let gone = table.and_then(|table| table.gone_since(load));
                        self.already_loaded(&object, load, pipeline_changed, gone);
                        continue;
                    }
                    _ if self.options.reload => Prospect::Load,
                    Standing::Failed(_) | Standing::Undone(_) | Standing::Older { .. } => Prospect::LeftAlone,
                    Standing::Changed { .. } => match self.target.pipeline.source.on_change {
                        OnChange::Ignore | OnChange::Fail => Prospect::LeftAlone,
                        OnChange::Replace | OnChange::Upsert => Prospect::Unsure,
                    },
                    Standing::Loaded { .. } | Standing::New | Standing::Replaced(_) | Standing::Unfinished(_) => {
                        Prospect::Load
                    }
                };
                let history = history.iter().filter(|row| row.object.uri == version.uri).cloned().collect();
                chosen.push(Chosen { history, listed: object, prospect });
            }
            self.leave_out(&mut chosen);
        }
        chosen.sort_by(by_age);
        if self.target.pipeline.target.mode == Mode::Replace {
            self.keep_newest(&mut chosen);
        }
        self.report.unreadable = lister.skipped_count();
        self.report.unlisted = lister.unlisted_count();
        self.report.passed_over = passed_over(&lister);
        Ok(chosen)
    }

    /// Drops the youngest of what would be loaded where far more is there than was asked for, so that few objects are in
    /// memory. Some are kept beyond that, because one or the other will come to no load after all.
    fn leave_out(&mut self, chosen: &mut Vec<Chosen>) {
        let most = match (self.target.pipeline.target.mode, self.options.limit) {
            (Mode::Append, Some(limit)) => limit + SPARE,
            // Which ones are too old for a load, only a closer look tells.
            (Mode::Upsert, _) | (Mode::Append, None) => return,
            (Mode::Replace, _) if chosen.len() > SPARE => return self.keep_newest(chosen),
            (Mode::Replace, _) => return,
        };
        let is_load = |object: &Chosen| object.prospect == Prospect::Load;
        if chosen.iter().filter(|object| is_load(object)).count() <= most + SPARE {
            return;
        }
        chosen.sort_by(by_age);
        let (before, mut loads) = (chosen.len(), 0);
        chosen.retain(|object| {
            loads += usize::from(is_load(object));
            !is_load(object) || loads <= most
        });
        self.report.left_out += (before - chosen.len()) as u64;
    }

    /// Of a whole table only the newest object counts.
    fn keep_newest(&mut self, chosen: &mut Vec<Chosen>) {
        chosen.sort_by(by_age);
        let surplus = chosen.len().saturating_sub(1);
        self.report.left_out += surplus as u64;
        chosen.drain(..surplus);
    }

    fn already_loaded(
        &mut self,
        object: &ObjectMeta,
        load: &LoadRow,
        pipeline_changed: bool,
        gone: Option<&'static str>,
    ) {
        if let Some(what) = gone {
            self.end(self.judged(object, Outcome::failed(&self.table_error(load.id, what), None)));
            return;
        }
        self.report.already_loaded += 1;
        if self.report.already_loaded <= NAMED_ALREADY_LOADED as u64 {
            self.end(self.judged(object, Outcome::AlreadyLoaded { load: load.id, pipeline_changed }));
        }
    }

    async fn look_up(&mut self, objects: &[String]) -> Result<Vec<LoadRow>, RunError> {
        if !self.has_ledger {
            return Ok(Vec::new());
        }
        let Self { database, target, patience, observer, .. } = self;
        let look_up = async || database.look_up(target.table, objects).await;
        Ok(patiently(patience, waits(*observer), look_up).await?)
    }

    async fn load_all(&mut self, chosen: Vec<Chosen>) -> Result<(), RunError> {
        let count = chosen.len();
        let gone = if count > 0 && !self.options.reload { self.table_gone().await? } else { None };
        let mut loads = 0;
        for (index, object) in chosen.into_iter().enumerate() {
            let is_full = self.options.limit.is_some_and(|limit| loads >= limit);
            if is_full && object.prospect != Prospect::LeftAlone {
                self.report.left_out += 1;
                continue;
            }
            let tries = self.tries;
            let report = match gone {
                Some((load, what)) => {
                    Some(self.judged(&object.listed, Outcome::failed(&self.table_error(load, what), None)))
                }
                None => self.load_patiently(object, !is_full).await?,
            };
            let Some(report) = report else {
                self.report.left_out += 1;
                continue;
            };
            // What ails the network, the credentials or the database ails the next object too.
            let hopeless = report.outcome.ends_run(self.target.pipeline.target.mode);
            self.end(report);
            loads += usize::from(self.tries > tries);
            if hopeless && index + 1 < count {
                self.report.stopped_early = true;
                break;
            }
        }
        Ok(())
    }

    /// A live load whose rows are not in the table any more, because the table went or was made anew: loading other
    /// objects into it would pass for the whole.
    async fn table_gone(&mut self) -> Result<Option<(i64, &'static str)>, RunError> {
        match self.has_ledger {
            true => {
                let Self { database, target, patience, observer, .. } = self;
                let gone = async || gone_table(database, target.table).await;
                Ok(patiently(patience, waits(*observer), gone).await?)
            }
            false => Ok(None),
        }
    }

    fn table_error(&self, load: i64, what: &'static str) -> LoadError {
        LoadError::TableGone { load, table: self.target.table.to_string(), what, can_reload: self.target.can_reload() }
    }

    async fn look_at_table(&mut self) -> Result<TableNow, RunError> {
        let Self { database, target, patience, observer, has_ledger, .. } = self;
        let look = async || TableNow::of(database, target.table, *has_ledger).await;
        Ok(patiently(patience, waits(*observer), look).await?)
    }

    /// As often as it fails for what may pass by itself, and patience lasts. Each try asks the ledger anew: the last one may
    /// have been committed after all.
    /// `None`: it would have come to a load, and may not.
    async fn load_patiently(&mut self, mut chosen: Chosen, may_load: bool) -> Result<Option<LoadReport>, RunError> {
        loop {
            let ended = self.load_one(chosen.clone(), may_load).await;
            let error = match &ended {
                Ok(Some(LoadReport { outcome: Outcome::Failed { may_pass: true, error, .. }, .. })) => error.clone(),
                Err(error) if error.may_pass() => chain(error),
                Ok(_) | Err(_) => {
                    self.patience.renew();
                    return ended;
                }
            };
            let Some(wait) = self.patience.wait() else { return ended };
            let observer = self.observer;
            observer(Event::Waits { error: &format!("{}: {error}", chosen.listed.key), wait });
            tokio::time::sleep(wait).await;
            if !self.has_ledger {
                continue;
            }
            match self.database.look_up(self.target.table, &[self.store.uri_of(&chosen.listed.key)]).await {
                Ok(history) => chosen.history = history,
                // The next try meets it, too.
                Err(error) if error.may_pass() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the ledger said when the object was listed is good enough to decide by: the load's transaction looks again,
    /// under a lock, whether another runner was faster.
    async fn load_one(&mut self, chosen: Chosen, may_load: bool) -> Result<Option<LoadReport>, RunError> {
        let Chosen { listed, history, .. } = chosen;
        // A listing of S3 knows no version ids; this look does, and pins what is read.
        let object = match self.store.head(&listed.key).await {
            Ok(object) => object,
            Err(error) => return Ok(Some(self.judged(&listed, Outcome::failed(&error.into(), None)))),
        };
        let version = object_version(self.store, &object);
        let (replaces, unfinished) = match self.decide(&object, &version, &history).await? {
            Decision::Load(replaces) => (replaces, None),
            Decision::GoOn(unfinished) => (Replaces::Nothing, Some(*unfinished)),
            Decision::Not(outcome) => return Ok(Some(self.judged(&object, outcome))),
        };
        if !may_load {
            return Ok(None);
        }
        let observer = self.observer;
        observer(Event::Begins { key: &object.key, size: object.size });
        let advance = |bytes, records| observer(Event::Advanced { bytes, records });
        let task = Task {
            target: &self.target,
            store: self.store,
            object: &object,
            version,
            replaces,
            run_id: self.options.run_id,
            dry_run: self.options.dry_run,
            workers: self.options.workers,
            committing: &self.options.committing,
            connections: self.options.connections,
            split_bytes: self.options.split_bytes,
            unfinished,
            in_splits: &self.options.in_splits,
        };
        self.tries += 1;
        let report = load(self.database, &task, &advance).await;
        self.options.in_splits.store(false, Ordering::SeqCst);
        Ok(Some(report))
    }

    async fn decide(
        &mut self,
        object: &ObjectMeta,
        version: &ObjectVersion,
        history: &[LoadRow],
    ) -> Result<Decision, RunError> {
        let pipeline = self.target.pipeline;
        let reload = self.options.reload;
        let whole_table = pipeline.target.mode == Mode::Replace;
        let not = |outcome| Ok(Decision::Not(outcome));
        let nothing = Ok(Replaces::Nothing);
        let replaces = match standing(history, version, self.target.pipeline_hash) {
            Standing::Loaded { load, .. } if reload => self.replace(load),
            Standing::Loaded { load, pipeline_changed } => {
                return not(Outcome::AlreadyLoaded { load: load.id, pipeline_changed });
            }
            Standing::Changed { loaded } if !reload && self.same_bytes(object, loaded).await => {
                return not(Outcome::SameBytes { load: loaded.id });
            }
            Standing::Changed { loaded } => match pipeline.source.on_change {
                _ if reload || whole_table => self.replace(loaded),
                OnChange::Replace | OnChange::Upsert => self.replace(loaded),
                OnChange::Ignore => {
                    return not(Outcome::Skipped { reason: SkipReason::Changed, load: loaded.id });
                }
                OnChange::Fail => {
                    let error = LoadError::Changed { load: loaded.id, can_reload: self.target.can_reload() };
                    return not(Outcome::failed(&error, None));
                }
            },
            Standing::Older { loaded } if reload => self.replace(loaded),
            Standing::Older { loaded } => {
                let seen = |row: &LoadRow| row.state == LoadState::Superseded && row.object.version == version.version;
                if !history.iter().any(seen) && !self.options.dry_run {
                    let at = Timestamp::from(SystemTime::now());
                    let new = self.target.new_load(self.options.run_id, version, at);
                    self.database.record_superseded(&new).await?;
                }
                return not(Outcome::Skipped { reason: SkipReason::Superseded, load: loaded.id });
            }
            Standing::Undone(row) if !reload => {
                return not(Outcome::Skipped { reason: SkipReason::Undone, load: row.id });
            }
            Standing::Failed(row) if !reload => {
                return not(Outcome::Skipped { reason: SkipReason::Failed, load: row.id });
            }
            Standing::Unfinished(_) if self.options.dry_run => nothing,
            Standing::Unfinished(row) => {
                let same = row.object.version == version.version && row.pipeline_hash == self.target.pipeline_hash;
                if same && !reload && !whole_table {
                    return Ok(Decision::GoOn(Box::new(row.clone())));
                }
                let why = match same {
                    true => "given up for a reload",
                    false => "given up half-way: the object or the pipeline changed",
                };
                if !self.database.give_up(row, why).await? {
                    return not(Outcome::failed(&LoadError::Busy, None));
                }
                nothing
            }
            Standing::New | Standing::Replaced(_) | Standing::Undone(_) | Standing::Failed(_) => nothing,
        };
        let replaces = match replaces {
            Ok(replaces) => replaces,
            Err(error) => return not(Outcome::failed(&error, None)),
        };
        if pipeline.target.mode == Mode::Upsert && self.has_ledger && !reload {
            return match self.newer_upsert(version).await? {
                Some(load) => not(Outcome::failed(&LoadError::OlderUpsert { load }, None)),
                None => Ok(Decision::Load(replaces)),
            };
        }
        if !whole_table || !self.has_ledger {
            return Ok(Decision::Load(replaces));
        }
        // The newest object may be gone from the store by now; an older one does not take its place unasked.
        let live = LoadFilter {
            table: Some(self.target.table.clone()),
            states: vec![LoadState::Loaded],
            ..LoadFilter::default()
        };
        let newer = self.database.loads(&live, 1).await?.into_iter().next();
        match newer {
            Some(newer) if !reload && newer.object.last_modified > version.last_modified => {
                let same = newer.object.uri == version.uri;
                let reason = if same { SkipReason::Superseded } else { SkipReason::NewerObject };
                not(Outcome::Skipped { reason, load: newer.id })
            }
            _ => Ok(Decision::Load(Replaces::Table)),
        }
    }

    /// How an earlier load of an object gives way to one in this mode.
    fn replace(&self, loaded: &LoadRow) -> Result<Replaces, LoadError> {
        let target = &self.target.pipeline.target;
        match target.mode {
            // Its rows may have come from other objects.
            Mode::Append if loaded.is_upsert() => Err(LoadError::WasUpsert { load: loaded.id }),
            Mode::Upsert if loaded.is_upsert() || !target.lineage => Ok(Replaces::Upsert(loaded.id)),
            Mode::Append | Mode::Upsert | Mode::Replace => Ok(Replaces::Loads(vec![loaded.id])),
        }
    }

    /// A load of the table by an object that is newer than this one: its values are the later ones.
    async fn newer_upsert(&mut self, version: &ObjectVersion) -> Result<Option<i64>, RunError> {
        let Some(newer) = self.database.newer_upsert(self.target.table, version).await? else { return Ok(None) };
        // Another runner may have loaded both since the objects were listed, this one first.
        let now = self.database.look_up(self.target.table, std::slice::from_ref(&version.uri)).await?;
        let is_loaded = matches!(standing(&now, version, self.target.pipeline_hash), Standing::Loaded { .. });
        Ok((!is_loaded).then_some(newer))
    }

    /// Whether a new version holds the bytes that are loaded: what the store keeps with it says so or, for a file, a
    /// look at all of it.
    async fn same_bytes(&self, object: &ObjectMeta, loaded: &LoadRow) -> bool {
        let Some(known) = &loaded.content_sha256 else { return false };
        if let Some(stored) = object.sha256 {
            return stored.to_string() == *known;
        }
        if loaded.object.size != Some(object.size) || !matches!(self.store, Store::Directory(_)) {
            return false;
        }
        let Ok(mut reader) = self.store.reader(object).await else { return false };
        let hashed = tokio::task::spawn_blocking(move || {
            std::io::copy(&mut reader, &mut std::io::sink()).ok()?;
            reader.finish().ok()
        });
        matches!(hashed.await, Ok(Some(summary)) if summary.sha256.to_string() == *known)
    }

    /// The report of an object that was not read.
    fn judged(&self, object: &ObjectMeta, outcome: Outcome) -> LoadReport {
        LoadReport {
            pipeline: self.target.pipeline.name.clone(),
            table: self.target.table.to_string(),
            object: self.store.uri_of(&object.key),
            key: object.key.clone(),
            version: object.version.to_string(),
            outcome,
            can_reload: self.target.can_reload(),
            counts: Counts::default(),
            bytes: 0,
            seconds: 0.0,
            reject_totals: Vec::new(),
            first_rejects: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn end(&mut self, report: LoadReport) {
        (self.observer)(Event::Ended(&report));
        self.report.loads.push(report);
    }
}

/// A load of the ledger whose table is not the one that is there now, and what became of it.
async fn gone_table(database: &mut Database, table: &TableName) -> Result<Option<(i64, &'static str)>, DatabaseError> {
    let live = LoadFilter { table: Some(table.clone()), states: vec![LoadState::Loaded], ..LoadFilter::default() };
    // The ledger before the table: a load another runner has just committed made its table before.
    let loads = database.loads(&live, LOOKED_AT).await?;
    let now = TableNow::of(database, table, true).await?;
    Ok(loads.iter().find_map(|load| Some((load.id, now.gone_since(load)?))))
}

/// Why no run would load into this table, although nobody is at fault: the ledger has loads whose rows are gone. Takes a
/// resolved name.
pub async fn lost_table(
    database: &mut Database,
    pipeline: &Pipeline,
    table: &TableName,
) -> Result<Option<LoadError>, DatabaseError> {
    if !database.has_ledger().await? {
        return Ok(None);
    }
    let target = Target { pipeline, pipeline_hash: "", table };
    let error =
        |(load, what)| LoadError::TableGone { load, table: table.to_string(), what, can_reload: target.can_reload() };
    Ok(gone_table(database, table).await?.map(error))
}

/// The target as it is now, beside what the ledger says of it.
#[derive(Clone, Copy, Debug)]
struct TableNow {
    exists: bool,
    oid: Option<u32>,
    made_by: Option<i64>,
    has_lost_rows: bool,
}

impl TableNow {
    async fn of(database: &mut Database, table: &TableName, has_ledger: bool) -> Result<Self, DatabaseError> {
        let live = database.describe(table).await?;
        let has_lost_rows = match &live {
            Some(table) if has_ledger => database.has_lost_rows(table).await?,
            Some(_) | None => false,
        };
        let (oid, made_by) = live.as_ref().map_or((None, None), |table| (table.oid, table.made_by));
        Ok(Self { exists: live.is_some(), oid, made_by, has_lost_rows })
    }

    /// What became of the table a load's rows went into, when it is not the one that is there now.
    fn gone_since(self, load: &LoadRow) -> Option<&'static str> {
        if !self.exists {
            Some("is missing")
        } else if load.table_oid.is_some() && load.table_oid != self.oid
            || self.made_by.is_some_and(|made_by| load.id < made_by)
        {
            Some("was made anew")
        } else if self.has_lost_rows && load.counts.loaded > 0 {
            Some("was made anew or emptied")
        } else {
            None
        }
    }
}

/// An object worth a closer look.
#[derive(Clone)]
struct Chosen {
    listed: ObjectMeta,
    /// The ledger's rows of it.
    history: Vec<LoadRow>,
    prospect: Prospect,
}

/// What the listing and the ledger tell of an object before a closer look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prospect {
    Load,
    /// It changed, and may hold the same bytes all the same.
    Unsure,
    /// It comes to no load, and takes nobody's place.
    LeftAlone,
}

fn by_age(one: &Chosen, other: &Chosen) -> std::cmp::Ordering {
    (one.listed.last_modified, &one.listed.key).cmp(&(other.listed.last_modified, &other.listed.key))
}

enum Decision {
    Load(Replaces),
    /// With the splits that are missing.
    GoOn(Box<LoadRow>),
    Not(Outcome),
}
