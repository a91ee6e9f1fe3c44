//! Rows of a segment that PostgreSQL refuses, told apart from the others.
//!
//! A segment is copied under a savepoint, as fast as any. When the server refuses one of its rows, which it seldom names,
//! all of them go into a temporary table and from there into the table: rows whose key is taken are left out by the
//! statement itself, whatever else is refused is found by halving. So the work grows with the refused rows and the
//! logarithm of the segment, and rows come in in the order of the object.

use transform::ColumnType;
use transform::pipeline::Conflict;

use super::super::ddl::{LOAD_ID, RECORD, type_name};
use super::super::error::{DatabaseError, Doing};
use super::super::name::quote;
use super::super::{Dialect, LiveTable, MERGED_INTO, Refusal, RefusalKind, TableName};
use super::load::{CopyFormat, PostgresLoad};
use super::{Session, built, get, statement};

/// Gone with the transaction.
pub(super) const STAGING: &str = "pg_temp.aqueduct_staging";

pub(super) const SAVEPOINT: &str = "savepoint aqueduct";
pub(super) const KEEP: &str = "release savepoint aqueduct";
pub(super) const TAKE_BACK: &str = "rollback to savepoint aqueduct; release savepoint aqueduct";

/// Rows to be brought in or refused one by one.
#[derive(Debug)]
pub struct CopyRows {
    /// As [`super::CopyEncoder`] or [`super::CopyTextEncoder`] gave them, in the order of the object.
    pub buffers: Vec<Vec<u8>>,
    pub count: u64,
}

/// How rows are told apart; the same for all segments of a load.
#[derive(Debug)]
pub struct PostgresWay {
    columns: Vec<String>,
    pub(super) format: CopyFormat,
    taken: Taken,
    /// Where `_record` stands among the columns, from 1, if the table gives it back.
    record: Option<usize>,
    /// Makes the table of staged rows.
    pub(super) staging: String,
    /// Copies into it.
    pub(super) stage: String,
    /// Copies into the table itself.
    copy: String,
    /// Moves a range of staged rows; needs `casts`.
    into: String,
    /// The table and its partitions, as errors name them.
    relations: Vec<String>,
    /// The type that a staged text becomes, by the column's place.
    casts: Vec<(usize, String)>,
}

/// What becomes of a row whose key is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The server refuses it, and all rows that come with it.
    Refused,
    /// It is left out by the statement itself.
    LeftOut,
    /// The row that has the key becomes this one, by the clause `on conflict`.
    Updates(String),
}

/// What became of the temporary table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Staging {
    made: bool,
    has_index: bool,
    /// The last segment had rows that were refused: the next one is likely to have some, too.
    expected: bool,
}

impl PostgresWay {
    /// For rows of these column types, which are the table's but where it takes texts.
    fn new(
        table: &LiveTable,
        columns: &[String],
        types: &[ColumnType],
        format: CopyFormat,
        taken: Taken,
    ) -> Result<Self, DatabaseError> {
        let names = columns.iter().map(|name| quote(name)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let options = format.options();
        // Lineage columns follow the fields; rows to be merged have them whether the table does or not.
        let width = if matches!(taken, Taken::Updates(_)) { types.len() + 2 } else { columns.len() };
        let types = types.iter().copied().chain(std::iter::repeat(ColumnType::Int8)).take(width);
        let staged: Vec<String> = (1..=width).map(|place| format!("c{place}")).collect();
        let declared =
            staged.iter().zip(types).map(|(name, column)| format!("{name} {}", type_name(column, Dialect::Postgres)));
        let declared = declared.collect::<Vec<_>>().join(", ");
        Ok(Self {
            format,
            record: match &taken {
                Taken::Updates(_) => Some(width),
                Taken::Refused | Taken::LeftOut => {
                    columns.iter().position(|name| name == RECORD).map(|place| place + 1)
                }
            },
            taken,
            staging: format!(
                "create temporary table aqueduct_staging (n bigint generated always as identity, {declared}) on commit drop"
            ),
            stage: format!("copy {STAGING} ({}) from stdin with ({options})", staged.join(", ")),
            copy: format!("copy {} ({names}) from stdin with ({options})", table.name.quoted()),
            into: format!(
                "insert into {} as {MERGED_INTO} ({names}) overriding system value select ",
                table.name.quoted()
            ),
            relations: Vec::new(),
            casts: Vec::new(),
            columns: columns.to_vec(),
        })
    }

    /// A staged value as the table takes it; columns count from 1.
    fn value(&self, place: usize) -> String {
        match self.casts.iter().find(|(cast, _)| *cast == place) {
            Some((_, cast)) => format!("c{place}::{cast}"),
            None => format!("c{place}"),
        }
    }

    /// The statement that moves the rows $1 to $2. `leaves_out`: those whose key is taken stay behind without an error.
    fn insert(&self, leaves_out: bool) -> String {
        let values = (1..=self.columns.len()).map(|place| self.value(place)).collect::<Vec<_>>().join(", ");
        let otherwise = match &self.taken {
            // Read as they lie, which is in the order of `n`: nothing was put in since the duplicates went. Sorting a
            // million rows would cost more than all else here.
            Taken::Updates(clause) => clause,
            Taken::LeftOut if leaves_out => " order by n on conflict do nothing",
            Taken::Refused | Taken::LeftOut => " order by n",
        };
        format!("{}{values} from {STAGING} where n between $1 and $2{otherwise}", self.into)
    }

    fn leaves_out(&self) -> bool {
        self.taken == Taken::LeftOut
    }
}

/// `ON CONFLICT DO UPDATE command cannot affect row a second time`.
const CARDINALITY: &str = "21000";

/// Rows of a range too large to be halved.
const LARGE_RANGE: i64 = 64 * 1024;

/// The parts of a range one of whose rows was refused. A large one is cut finer at once, into no more parts than
/// PostgreSQL looks up quickly as savepoints of a transaction.
fn parts(first: i64, last: i64) -> Vec<(i64, i64)> {
    let rows = last - first + 1;
    let parts = if rows > LARGE_RANGE { (rows / (LARGE_RANGE / 4)).min(48) } else { 2 };
    let size = (rows + parts - 1) / parts;
    (0..parts)
        .map(|part| (first + part * size, (first + (part + 1) * size - 1).min(last)))
        .filter(|(first, last)| first <= last)
        .collect()
}

/// What a range of staged rows came to.
enum Moved {
    /// So many rows went in; those named did not, for want of a free key.
    In { rows: u64, left_out: Vec<i64> },
    /// Some row of the range, for this reason or for want of a free key.
    Refused(Option<Box<Refusal>>),
}

impl PostgresLoad {
    /// Prepares the transaction: each row is judged at once, also by what the table's owner has deferred to the end.
    pub(in super::super) async fn begin_exact(
        &mut self,
        table: &LiveTable,
        columns: &[String],
        types: &[ColumnType],
        format: CopyFormat,
        conflict: Conflict,
    ) -> Result<PostgresWay, DatabaseError> {
        // A trigger before the insert runs for a row that is then left out, too, and what it wrote elsewhere would stay.
        let name = self.table.clone();
        let session = self.session()?;
        let leaves_out = conflict == Conflict::Reject
            && !session.has_deferrable_key(table).await?
            && session.row_triggers(&name).await?.is_empty();
        let taken = if leaves_out { Taken::LeftOut } else { Taken::Refused };
        let mut way = self.prepare(table, columns, types, format, taken).await?;
        if way.record.is_some() && !self.session()?.may_see_records(table).await? {
            way.record = None;
        }
        Ok(way)
    }

    /// What both need that go through a temporary table.
    pub(super) async fn prepare(
        &mut self,
        table: &LiveTable,
        columns: &[String],
        types: &[ColumnType],
        format: CopyFormat,
        taken: Taken,
    ) -> Result<PostgresWay, DatabaseError> {
        let name = self.table.clone();
        // A key that was to follow the rows has to be there to judge them.
        self.make_key().await?;
        let session = self.session()?;
        if session.has_insert_rules(table).await? {
            return Err(DatabaseError::RulesOnInsert { table: name.to_string() });
        }
        // Those of other tables that refer to this one stay as they are: earlier rows may have given way already.
        let deferrable = session.deferrable_constraints(table).await?;
        if !deferrable.is_empty() {
            let immediate = format!("set constraints {} immediate", deferrable.join(", "));
            session.simple(immediate, Doing::Copy { table: &name, columns }).await?;
        }
        let mut way = PostgresWay::new(table, columns, types, format, taken)?;
        way.relations = session.relations(table).await?;
        if format == CopyFormat::Text {
            way.casts = session.text_columns(table, columns).await?;
        }
        Ok(way)
    }

    /// Brings in what the table takes, and gives the refusal of each other row: `row` is its place, from 1. Stops looking
    /// for more than `most` of them.
    pub(in super::super) async fn take_exactly(
        &mut self,
        way: &PostgresWay,
        rows: &CopyRows,
        most: u64,
    ) -> Result<Vec<Refusal>, DatabaseError> {
        if rows.count == 0 {
            return Ok(Vec::new());
        }
        if !self.staging.expected {
            let name = self.table.clone();
            let doing = Doing::Copy { table: &name, columns: &way.columns };
            let session = self.session()?;
            session.simple(SAVEPOINT.into(), doing).await?;
            match session.copy_all(&way.copy, way.format, &rows.buffers, doing).await {
                Ok(taken) => {
                    session.simple(KEEP.into(), doing).await?;
                    self.rows += taken;
                    return Ok(Vec::new());
                }
                Err(DatabaseError::Refused(_)) => session.simple(TAKE_BACK.into(), doing).await?,
                Err(error) => return Err(error),
            }
        }
        self.stage(way, rows).await?;
        let mut ranges = vec![(1, i64::try_from(rows.count).unwrap_or(i64::MAX))];
        let refused = self.move_staged(way, &mut ranges, most).await?;
        self.staging.expected = !refused.is_empty();
        Ok(refused)
    }

    async fn stage(&mut self, way: &PostgresWay, rows: &CopyRows) -> Result<(), DatabaseError> {
        let name = self.table.clone();
        let doing = Doing::Stage(&name);
        let made = std::mem::replace(&mut self.staging.made, true);
        let session = self.session()?;
        match made {
            false => session.simple(way.staging.clone(), doing).await?,
            true => session.simple(format!("truncate {STAGING} restart identity"), doing).await?,
        }
        let staged = session.copy_all(&way.stage, way.format, &rows.buffers, doing).await?;
        if staged != rows.count {
            let reason = format!("{} rows sent, {staged} staged", rows.count);
            return Err(DatabaseError::Balance { reason });
        }
        Ok(())
    }

    /// Moves ranges of staged rows, the last one first, and gives the refusal of each row that did not go in. With more
    /// than `most` of them it stops; what is left in `ranges` is still to do.
    pub(super) async fn move_staged(
        &mut self,
        way: &PostgresWay,
        ranges: &mut Vec<(i64, i64)>,
        most: u64,
    ) -> Result<Vec<Refusal>, DatabaseError> {
        let name = self.table.clone();
        let doing = Doing::Copy { table: &name, columns: &way.columns };
        let mut refused: Vec<Refusal> = Vec::new();
        while refused.len() as u64 <= most
            && let Some((first, last)) = ranges.pop()
        {
            match self.move_range(way, first, last, doing).await? {
                Moved::In { rows, left_out } => {
                    self.rows += rows;
                    for row in left_out {
                        if refused.len() as u64 > most {
                            break;
                        }
                        refused.extend(self.refusal_of(way, row, doing).await?);
                    }
                }
                Moved::Refused(Some(refusal)) if first == last => {
                    refused.push(self.placed(way, *refusal, first, doing).await?);
                }
                Moved::Refused(None) if first == last => refused.extend(self.refusal_of(way, first, doing).await?),
                Moved::Refused(_) => {
                    if !std::mem::replace(&mut self.staging.has_index, true) {
                        let index = format!("create index on {STAGING} (n)");
                        self.session()?.simple(index, Doing::Stage(&name)).await?;
                    }
                    // The first part comes first: of two records with the same key it is the earlier one that stays.
                    ranges.extend(parts(first, last).into_iter().rev());
                }
            }
        }
        refused.sort_by_key(|refusal| refusal.row);
        Ok(refused)
    }

    async fn move_range(
        &mut self,
        way: &PostgresWay,
        first: i64,
        last: i64,
        doing: Doing<'_>,
    ) -> Result<Moved, DatabaseError> {
        let insert = way.insert(way.leaves_out());
        let size = (last - first + 1).unsigned_abs();
        let session = self.session()?;
        session.simple(SAVEPOINT.into(), doing).await?;
        let moved = match way.record.filter(|_| way.leaves_out()) {
            // Which rows went in is told by their records; no row has two, and `_load_id` is ours.
            Some(record) => {
                let sql = format!(
                    "with taken as ({insert} returning \"{RECORD}\" as record) select n from {STAGING} s \
                     where n between $1 and $2 and not exists (select from taken where taken.record = s.c{record}) \
                     order by n"
                );
                let rows = session.rows(built(sql).bind(first).bind(last), doing).await;
                rows.and_then(|rows| {
                    let left_out = rows.iter().map(|row| get(row, "n")).collect::<Result<Vec<i64>, _>>()?;
                    Ok(Moved::In { rows: size - left_out.len() as u64, left_out })
                })
            }
            None => match session.run(built(insert).bind(first).bind(last), doing).await {
                Ok(rows) if rows < size && way.leaves_out() => Ok(Moved::Refused(None)),
                Ok(rows) => Ok(Moved::In { rows, left_out: Vec::new() }),
                Err(error) => Err(error),
            },
        };
        let moved = match moved {
            // Of several rows two are the same to the table, which would take the one for the other without a word where
            // they come in one by one. With lineage it does not, and the rows do not add up in the end.
            Err(DatabaseError::Refused(refusal))
                if refusal.code == CARDINALITY
                    && first < last
                    && matches!(way.taken, Taken::Updates(_))
                    && !way.columns.iter().any(|column| column == LOAD_ID) =>
            {
                return Err(DatabaseError::SameRow { table: refusal.table });
            }
            Err(DatabaseError::Refused(refusal)) => Moved::Refused(Some(refusal)),
            moved => moved?,
        };
        let end = if matches!(moved, Moved::In { .. }) { KEEP } else { TAKE_BACK };
        session.simple(end.into(), doing).await?;
        Ok(moved)
    }

    /// Why a row alone is refused: only now does the server name the key. It may go in, when what held the key is gone by
    /// now; a row that a trigger drops without a word is missed when the load is counted.
    async fn refusal_of(
        &mut self,
        way: &PostgresWay,
        row: i64,
        doing: Doing<'_>,
    ) -> Result<Option<Refusal>, DatabaseError> {
        let insert = way.insert(false);
        let session = self.session()?;
        session.simple(SAVEPOINT.into(), doing).await?;
        match session.run(built(insert).bind(row).bind(row), doing).await {
            Ok(taken) => {
                session.simple(KEEP.into(), doing).await?;
                self.rows += taken;
                Ok(None)
            }
            Err(DatabaseError::Refused(refusal)) => {
                session.simple(TAKE_BACK.into(), doing).await?;
                Ok(Some(self.placed(way, *refusal, row, doing).await?))
            }
            Err(error) => Err(error),
        }
    }

    /// Completes a refusal by the row's place and what the server left unsaid.
    async fn placed(
        &mut self,
        way: &PostgresWay,
        mut refusal: Refusal,
        row: i64,
        doing: Doing<'_>,
    ) -> Result<Refusal, DatabaseError> {
        let name = self.table.clone();
        let session = self.session()?;
        session.complete(&mut refusal, &name).await?;
        refusal.row = Some(row.unsigned_abs());
        if let (Taken::Updates(_), Some(record)) = (&way.taken, way.record) {
            let record = format!("select c{record} as record from {STAGING} where n = $1");
            let record: i64 = get(&session.row(built(record).bind(row), doing).await?, "record")?;
            refusal.records = Some((record.unsigned_abs(), record.unsigned_abs()));
        }
        if !way.relations.contains(&refusal.table) {
            // Of a table that a trigger writes into.
            refusal.kind = RefusalKind::Trigger;
        }
        if refusal.kind == RefusalKind::Value && refusal.columns.is_empty() {
            for (place, cast) in &way.casts {
                session.simple(SAVEPOINT.into(), doing).await?;
                let read = format!("select c{place}::{cast} is null from {STAGING} where n = $1");
                match session.run(built(read).bind(row), doing).await {
                    Err(DatabaseError::Refused(_)) => refusal.columns = vec![way.columns[place - 1].clone()],
                    read => drop(read?),
                }
                session.simple(TAKE_BACK.into(), doing).await?;
                if !refusal.columns.is_empty() {
                    break;
                }
            }
        }
        Ok(refusal)
    }
}

impl Session {
    /// All rows of a segment by one COPY.
    async fn copy_all(
        &mut self,
        sql: &str,
        format: CopyFormat,
        buffers: &[Vec<u8>],
        doing: Doing<'_>,
    ) -> Result<u64, DatabaseError> {
        let copied = async {
            let mut copy = self.connection.copy_in_raw(sql).await?;
            copy.send(format.header()).await?;
            for buffer in buffers {
                copy.send(buffer.as_slice()).await?;
            }
            copy.send(format.trailer()).await?;
            copy.finish().await
        };
        let copied = copied.await;
        copied.map_err(|error| self.error(error, doing))
    }

    /// Rules rewrite the staged insert, and COPY knows none.
    async fn has_insert_rules(&mut self, table: &LiveTable) -> Result<bool, DatabaseError> {
        // '3' is INSERT.
        let query = statement(
            "select exists (select from pg_catalog.pg_rewrite r where r.ev_class = $1::oid and r.ev_type = '3') as found",
        );
        let oid = table.oid.map(i64::from);
        get(&self.row(query.bind(oid), Doing::Describe(&table.name)).await?, "found")
    }

    /// Quoted, for `set constraints`.
    async fn deferrable_constraints(&mut self, table: &LiveTable) -> Result<Vec<String>, DatabaseError> {
        let query = statement(
            "select distinct quote_ident(n.nspname) || '.' || quote_ident(c.conname) as name \
             from pg_catalog.pg_constraint c join pg_catalog.pg_namespace n on n.oid = c.connamespace \
             where c.condeferrable and (c.conrelid = $1::oid \
                or c.conrelid in (select relid from pg_catalog.pg_partition_tree($1::oid))) order by 1",
        );
        self.names(query.bind(table.oid.map(i64::from)), &table.name).await
    }

    async fn relations(&mut self, table: &LiveTable) -> Result<Vec<String>, DatabaseError> {
        let query = statement(
            "select n.nspname || '.' || c.relname as name \
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where c.oid = $1::oid or c.oid in (select relid from pg_catalog.pg_partition_tree($1::oid))",
        );
        self.names(query.bind(table.oid.map(i64::from)), &table.name).await
    }

    async fn names(
        &mut self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
        table: &TableName,
    ) -> Result<Vec<String>, DatabaseError> {
        self.rows(query, Doing::Describe(table)).await?.iter().map(|row| get(row, "name")).collect()
    }

    /// Whether a key of the table, or of a part of it, may be judged late: `on conflict` works with none of them then.
    async fn has_deferrable_key(&mut self, table: &LiveTable) -> Result<bool, DatabaseError> {
        let query = statement(
            "select exists (select from pg_catalog.pg_index i where not i.indimmediate and (i.indrelid = $1::oid \
                or i.indrelid in (select relid from pg_catalog.pg_partition_tree($1::oid)))) as found",
        );
        let oid = table.oid.map(i64::from);
        get(&self.row(query.bind(oid), Doing::Describe(&table.name)).await?, "found")
    }

    /// `returning` needs the right to select, which a load has no other use for.
    async fn may_see_records(&mut self, table: &LiveTable) -> Result<bool, DatabaseError> {
        let query = statement("select has_column_privilege($1::oid, $2, 'select') as found");
        let query = query.bind(table.oid.map(i64::from)).bind(RECORD);
        get(&self.row(query, Doing::Describe(&table.name)).await?, "found")
    }

    /// The columns that take texts, with the type a text is to be read as.
    async fn text_columns(
        &mut self,
        table: &LiveTable,
        columns: &[String],
    ) -> Result<Vec<(usize, String)>, DatabaseError> {
        let query = statement(
            "select a.attname::text as name, pg_catalog.format_type(a.atttypid, a.atttypmod) as declared \
             from pg_catalog.pg_attribute a where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped",
        );
        let oid = table.oid.map(i64::from);
        let mut casts = Vec::new();
        for row in self.rows(query.bind(oid), Doing::Describe(&table.name)).await? {
            let name: String = get(&row, "name")?;
            let place = columns.iter().position(|column| *column == name);
            if let Some(place) = place.filter(|_| table.takes_texts(&name)) {
                casts.push((place + 1, get(&row, "declared")?));
            }
        }
        Ok(casts)
    }
}
