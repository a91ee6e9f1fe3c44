//! Counts again what the ledger says, and reads again what the store still has.
//!
//! Never: repairs anything, or shows a value. What cannot be proven is said to be unproven rather than right.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use objects::{Store, StoreError, StoreUrl};
use serde::Serialize;

use crate::database::{Database, DatabaseError, LiveTable, LoadFilter, RowCounts, TableKind, TableName};
use crate::ledger::{Counts, LoadRow, LoadState, SplitProgress};

/// Loads asked for at a time.
const LOADS_PER_PAGE: u32 = 500;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// In the order of their numbers.
    pub loads: Vec<VerifiedLoad>,
    /// Only when all loads were verified.
    pub tables: Vec<VerifiedTable>,
}

impl Verification {
    /// Differences between the ledger and what is there.
    pub fn differences(&self) -> usize {
        let of_loads: usize = self.loads.iter().map(|load| load.differences.len()).sum();
        let of_tables: usize =
            self.tables.iter().map(|table| table.strays.len() + usize::from(table.missing > 0)).sum();
        of_loads + of_tables
    }
}

/// One load.
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedLoad {
    pub load: i64,
    pub state: LoadState,
    pub key: String,
    pub table: String,
    /// Rows counted by their lineage; `None` where nothing tells the rows of a load apart.
    pub rows: Option<u64>,
    /// So many rows fewer than were loaded, in a table where a later upsert may have taken their place.
    pub gave_way: u64,
    /// Rejects counted.
    pub rejects: u64,
    /// Of a load that is not finished: what is compared is what its splits brought that are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splits: Option<SplitProgress>,
    pub object: ObjectFinding,
    pub differences: Vec<Difference>,
}

/// A table as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedTable {
    pub table: String,
    /// Rows that came with no load.
    pub without_load: u64,
    /// Without lineage: so many rows fewer than all loads that stand brought together.
    pub missing: u64,
    pub strays: Vec<Stray>,
}

/// Rows with the number of a load whose rows should not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stray {
    pub load: i64,
    pub rows: u64,
    /// `None`: the ledger knows no such load.
    pub state: Option<LoadState>,
}

/// What the ledger says, and what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "difference", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Difference {
    #[error("the ledger's counts do not add up: {} read, {} loaded, {} rejected, {} filtered, {} duplicates",
        counts.read, counts.loaded, counts.rejected, counts.filtered, counts.duplicates)]
    Balance { counts: Counts },
    #[error("the table is missing")]
    TableMissing,
    #[error("the table was made anew since")]
    TableMadeAnew,
    #[error("{found} rows in the table, {expected} in the ledger")]
    Rows { expected: u64, found: u64 },
    #[error("{found} rejects kept, {expected} expected by the ledger's counts")]
    Rejects { expected: u64, found: u64 },
    #[error("the load is {state}, and {found} of its rows are in the table")]
    RowsLeft { state: LoadState, found: u64 },
    #[error("the object has other bytes than the ones loaded, under the same version")]
    Object { expected: String, found: String },
}

/// What a look at the object gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum ObjectFinding {
    /// Read again: the bytes that were loaded.
    Same,
    /// Read again: other bytes.
    Different,
    /// The store has it no longer.
    Gone,
    /// The store has another version by now.
    OtherVersion,
    /// It could not be looked at.
    Unknown { reason: String },
    /// Nobody asked, or the load is not one that stands.
    NotLookedAt,
}

/// Verifies one load, or all that stand; `seen` is told of each as soon as it is done.
pub async fn verify(
    database: &mut Database,
    load: Option<i64>,
    objects: bool,
    seen: &mut dyn FnMut(&VerifiedLoad),
) -> Result<Verification, DatabaseError> {
    let mut verifier = Verifier {
        database,
        objects: objects.then(Objects::default),
        tables: BTreeMap::new(),
        upserts: BTreeMap::new(),
    };
    let mut verification = Verification::default();
    if let Some(id) = load {
        let row = verifier.database.load(id).await?;
        verifier.find_upserts_since(&row).await?;
        verification.loads.extend(verifier.load(&row, seen).await?);
        return Ok(verification);
    }
    let mut standing = Vec::new();
    let mut states = HashMap::new();
    let mut tables: BTreeMap<String, TableName> = BTreeMap::new();
    let mut filter = LoadFilter::default();
    loop {
        let page = verifier.database.loads(&filter, LOADS_PER_PAGE).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        for row in page {
            tables.insert(row.table.to_string(), row.table.clone());
            states.insert(row.id, row.state);
            verifier.note_upsert(&row);
            if stands(&row) {
                standing.push(row);
            }
        }
    }
    for row in standing.iter().rev() {
        verification.loads.extend(verifier.load(row, seen).await?);
    }
    for (shown, table) in tables {
        let of_table: Vec<&LoadRow> = standing.iter().filter(|row| row.table == table).collect();
        verification.tables.extend(verifier.table(shown, &table, &of_table, &states).await?);
    }
    Ok(verification)
}

struct Verifier<'a> {
    database: &'a mut Database,
    objects: Option<Objects>,
    /// Each table is counted once. `None`: there is no such table.
    tables: BTreeMap<TableName, Option<(LiveTable, RowCounts)>>,
    /// The loads of a table that took rows over from earlier ones, as far as they are known.
    upserts: BTreeMap<TableName, BTreeSet<i64>>,
}

impl Verifier<'_> {
    fn note_upsert(&mut self, row: &LoadRow) {
        if row.is_upsert() && matches!(row.state, LoadState::Loaded | LoadState::Replaced) {
            self.upserts.entry(row.table.clone()).or_default().insert(row.id);
        }
    }

    /// Of the table of a load: as many of the later ones as it takes to know whether there is any.
    async fn find_upserts_since(&mut self, row: &LoadRow) -> Result<(), DatabaseError> {
        self.note_upsert(row);
        let mut filter = LoadFilter { table: Some(row.table.clone()), ..LoadFilter::default() };
        loop {
            let page = self.database.loads(&filter, LOADS_PER_PAGE).await?;
            page.iter().for_each(|later| self.note_upsert(later));
            match page.last() {
                Some(last) if last.id > row.id && !self.gives_way(row) => filter.before = Some(last.id),
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Whether rows of a load may carry the number of a later one by now.
    fn gives_way(&self, row: &LoadRow) -> bool {
        self.upserts.get(&row.table).and_then(|upserts| upserts.last()).is_some_and(|&last| last > row.id)
    }

    async fn counted(&mut self, table: &TableName) -> Result<Option<(LiveTable, RowCounts)>, DatabaseError> {
        if !self.tables.contains_key(table) {
            let counted = match self.database.describe(table).await? {
                Some(live) if !matches!(live.kind, TableKind::Other(_)) => {
                    let counts = self.database.count_rows(&live).await?;
                    Some((live, counts))
                }
                Some(_) | None => None,
            };
            self.tables.insert(table.clone(), counted);
        }
        Ok(self.tables.get(table).cloned().flatten())
    }

    /// `None` when another process took the load back, or replaced it, while we counted.
    async fn load(
        &mut self,
        row: &LoadRow,
        seen: &mut dyn FnMut(&VerifiedLoad),
    ) -> Result<Option<VerifiedLoad>, DatabaseError> {
        let mut differences = Vec::new();
        let stands = stands(row);
        let (mut rows, mut gave_way) = (None, 0);
        match self.counted(&row.table).await? {
            None if stands => differences.push(Difference::TableMissing),
            None => {}
            Some((live, counts)) => {
                let has_lineage = live.column("_load_id").is_some();
                let made_anew = row.table_oid.is_some() && row.table_oid != live.oid;
                rows = has_lineage.then(|| counts.by_load.get(&row.id).copied().unwrap_or_default());
                match rows {
                    _ if stands && made_anew => differences.push(Difference::TableMadeAnew),
                    Some(found) if stands && found < row.counts.loaded && self.gives_way(row) => {
                        gave_way = row.counts.loaded - found;
                    }
                    Some(found) if stands && found != row.counts.loaded => {
                        differences.push(Difference::Rows { expected: row.counts.loaded, found });
                    }
                    // Of an upsert that a later one of its object followed, rows whose records are gone stay.
                    Some(_) if row.is_upsert() && row.state == LoadState::Replaced => {}
                    Some(found) if !stands && found > 0 => {
                        differences.push(Difference::RowsLeft { state: row.state, found });
                    }
                    Some(_) | None => {}
                }
            }
        }
        if row.state != LoadState::Failed && !row.counts.balance_holds() {
            differences.push(Difference::Balance { counts: row.counts });
        }
        let rejects = self.database.count_rejects(row.id).await?;
        let expected = row.counts.rejected.saturating_sub(row.purged());
        if stands && rejects != expected {
            differences.push(Difference::Rejects { expected, found: rejects });
        }
        let object = match &mut self.objects {
            Some(objects) if row.state == LoadState::Loaded => objects.look(row).await,
            Some(_) | None => (ObjectFinding::NotLookedAt, None),
        };
        differences.extend(object.1);
        if !differences.is_empty() {
            let now = self.database.load(row.id).await?;
            let gave_way = self.gives_way(row);
            self.find_upserts_since(row).await?;
            let changed = now.state != row.state || now.counts != row.counts || now.purged() != row.purged();
            if changed || gave_way != self.gives_way(row) {
                return Ok(None);
            }
        }
        let verified = VerifiedLoad {
            load: row.id,
            state: row.state,
            key: row.object.key.clone(),
            table: row.table.to_string(),
            rows,
            gave_way,
            rejects,
            splits: row.splits,
            object: object.0,
            differences,
        };
        seen(&verified);
        Ok(Some(verified))
    }

    /// Rows of loads that should have none. `None` when the table is gone.
    async fn table(
        &mut self,
        shown: String,
        table: &TableName,
        standing: &[&LoadRow],
        states: &HashMap<i64, LoadState>,
    ) -> Result<Option<VerifiedTable>, DatabaseError> {
        let Some((live, counts)) = self.counted(table).await? else { return Ok(None) };
        let none = BTreeSet::new();
        let upserts = self.upserts.get(table).unwrap_or(&none).clone();
        let (without_load, missing) = unattributed(&live, counts.without_load, standing);
        // Without lineage nobody knows how many rows were there before.
        let missing = if upserts.is_empty() { missing } else { 0 };
        let mut strays = Vec::new();
        for (&load, &rows) in &counts.by_load {
            if matches!(states.get(&load), Some(LoadState::Loaded | LoadState::Loading)) || upserts.contains(&load) {
                continue;
            }
            // Perhaps it was loaded while we counted.
            let state = match self.database.load(load).await {
                Ok(row) if stands(&row) => continue,
                Ok(row) => Some(row.state),
                Err(DatabaseError::NoSuchLoad { .. }) => None,
                Err(error) => return Err(error),
            };
            strays.push(Stray { load, rows, state });
        }
        Ok(Some(VerifiedTable { table: shown, without_load, missing, strays }))
    }
}

/// Whether rows of it should be in the table: all of them or, while it is loading, those of the splits that are in.
fn stands(row: &LoadRow) -> bool {
    matches!(row.state, LoadState::Loaded | LoadState::Loading)
}

/// Of rows without the number of a load: how many came with none, and how many are missing. Where no row has a number
/// only the sum can be compared. A view shows what it likes.
fn unattributed(live: &LiveTable, rows: u64, standing: &[&LoadRow]) -> (u64, u64) {
    if matches!(live.kind, TableKind::View | TableKind::MaterializedView) {
        return (0, 0);
    }
    if live.column("_load_id").is_some() {
        return (rows, 0);
    }
    let made_anew = |row: &&LoadRow| row.table_oid.is_some() && row.table_oid != live.oid;
    if standing.is_empty() || standing.iter().any(made_anew) {
        return (0, 0);
    }
    let loaded = standing.iter().map(|row| row.counts.loaded).fold(0, u64::saturating_add);
    (rows.saturating_sub(loaded), loaded.saturating_sub(rows))
}

/// Finds objects by their address, and reads them again.
#[derive(Default)]
struct Objects {
    /// By bucket.
    stores: HashMap<String, Store>,
}

impl Objects {
    async fn look(&mut self, row: &LoadRow) -> (ObjectFinding, Option<Difference>) {
        let unknown = |reason: String| (ObjectFinding::Unknown { reason }, None);
        let Some(expected) = &row.content_sha256 else {
            return unknown("the ledger has no hash of it".into());
        };
        match self.hash(row).await {
            Ok(Read::Hash(found)) if found == *expected => (ObjectFinding::Same, None),
            Ok(Read::Hash(found)) => {
                let difference = Difference::Object { expected: expected.clone(), found };
                (ObjectFinding::Different, Some(difference))
            }
            Ok(Read::OtherVersion) => (ObjectFinding::OtherVersion, None),
            Ok(Read::NoStore) => unknown("its address names no store".into()),
            Err(
                StoreError::NotFound { .. } | StoreError::DirectoryMissing { .. } | StoreError::BucketMissing { .. },
            ) => (ObjectFinding::Gone, None),
            Err(error) => unknown(error.to_string()),
        }
    }

    async fn hash(&mut self, row: &LoadRow) -> Result<Read, StoreError> {
        let Some((store, key)) = self.find(&row.object.uri).await? else { return Ok(Read::NoStore) };
        let object = store.head(&key).await?;
        if object.version.to_string() != row.object.version {
            return Ok(Read::OtherVersion);
        }
        let mut reader = store.reader(&object).await?;
        let name = row.object.key.clone();
        let summary = tokio::task::spawn_blocking(move || {
            std::io::copy(&mut reader, &mut std::io::sink()).map_err(|error| StoreError::from_read(error, &name))?;
            reader.finish()
        })
        .await
        .map_err(|_| StoreError::Interrupted { action: "read" })??;
        Ok(Read::Hash(summary.sha256.to_string()))
    }

    /// The store and key behind an address. A local file is a store's object, or was loaded without one: either way its
    /// address is its path.
    async fn find(&mut self, uri: &str) -> Result<Option<(Store, String)>, StoreError> {
        let found = if let Some(rest) = uri.strip_prefix("s3://") {
            let Some((bucket, key)) = rest.split_once('/') else { return Ok(None) };
            let store = match self.stores.get(bucket) {
                Some(store) => store.clone(),
                None => {
                    let Ok(url) = format!("s3://{bucket}").parse::<StoreUrl>() else { return Ok(None) };
                    let store = Store::open(&url).await?;
                    self.stores.insert(bucket.to_owned(), store.clone());
                    store
                }
            };
            (store, key.to_owned())
        } else {
            let Ok(url) = uri.parse::<StoreUrl>() else { return Ok(None) };
            match url.as_directory() {
                Some(path) if path.is_absolute() => Store::of_file(Path::new(path))?,
                Some(_) | None => return Ok(None),
            }
        };
        // Otherwise a symbolic link leads somewhere else by now.
        Ok((found.0.uri_of(&found.1) == uri).then_some(found))
    }
}

enum Read {
    Hash(String),
    OtherVersion,
    NoStore,
}
