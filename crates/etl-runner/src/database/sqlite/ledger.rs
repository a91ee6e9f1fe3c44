//! The ledger's statements.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::super::ddl::LOAD_ID;
use super::super::error::{DatabaseError, Doing};
use super::super::name::TableName;
use super::super::{LoadFilter, Replaced, RowCounts, Undone};
use super::{Session, Sqlite, built, get, statement};
use crate::ledger::{
    Counts, LoadRow, LoadState, NewLoad, ObjectVersion, RejectLine, Replaces, StoredReject, Timestamp, Totals,
};

/// SQLite's limit on bound values, over the eight of a reject, and far below its limit on the length of a statement.
const REJECTS_PER_STATEMENT: usize = 200;

const LOAD: &str = "id, run_id, pipeline, pipeline_hash, table_name, object_uri, object_key, object_version, etag, \
    object_size, last_modified, content_sha256, state, started_at, finished_at, records_read, loaded, rejected, \
    filtered, duplicates, skipped, bytes, runner_version, first_error, permanent, replaced_by, note";

const INSERT_LOAD: &str = "\
    insert into aqueduct_load (run_id, pipeline, pipeline_hash, table_schema, table_name, object_uri, object_key, \
        object_version, etag, object_size, last_modified, started_at, runner_version, state) \
    values (?1, ?2, ?3, 'main', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
    returning id";

const FINISH_LOAD: &str = "\
    update aqueduct_load set state = ?2, records_read = ?3, loaded = ?4, rejected = ?5, filtered = ?6, \
        duplicates = ?7, skipped = ?8, bytes = ?9, content_sha256 = ?10, finished_at = ?11, note = ?12, \
        first_error = ?13, permanent = ?14 \
    where id = ?1";

/// How a load ended, beyond its counts.
pub(super) struct Ending<'a> {
    pub(super) state: LoadState,
    pub(super) error: Option<&'a str>,
    pub(super) permanent: bool,
}

/// Counts fit: no object holds 2^63 records.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn load_row(row: &SqliteRow) -> Result<LoadRow, DatabaseError> {
    let unknown = |column: &str| DatabaseError::Driver { doing: format!("read the column {column}"), kind: "a value" };
    let count = |column: &str| get::<i64>(row, column).map(i64::unsigned_abs);
    let time = |column: &str| {
        let text: Option<String> = get(row, column)?;
        text.map(|text| Timestamp::parse(&text).ok_or_else(|| unknown(column))).transpose()
    };
    Ok(LoadRow {
        id: get(row, "id")?,
        run_id: Uuid::parse_str(&get::<String>(row, "run_id")?).map_err(|_| unknown("run_id"))?,
        pipeline: get(row, "pipeline")?,
        pipeline_hash: get(row, "pipeline_hash")?,
        table: TableName::new(None, &get::<String>(row, "table_name")?)?,
        table_oid: None,
        object: ObjectVersion {
            uri: get(row, "object_uri")?,
            key: get(row, "object_key")?,
            version: get(row, "object_version")?,
            etag: get(row, "etag")?,
            size: get::<Option<i64>>(row, "object_size")?.map(i64::unsigned_abs),
            last_modified: time("last_modified")?,
        },
        content_sha256: get(row, "content_sha256")?,
        state: LoadState::parse(&get::<String>(row, "state")?).ok_or_else(|| unknown("state"))?,
        started_at: time("started_at")?.ok_or_else(|| unknown("started_at"))?,
        finished_at: time("finished_at")?,
        counts: Counts {
            read: count("records_read")?,
            loaded: count("loaded")?,
            rejected: count("rejected")?,
            filtered: count("filtered")?,
            duplicates: count("duplicates")?,
            skipped: count("skipped")?,
        },
        bytes: count("bytes")?,
        runner_version: get(row, "runner_version")?,
        first_error: get(row, "first_error")?,
        permanent: get::<i64>(row, "permanent")? != 0,
        replaced_by: get(row, "replaced_by")?,
        note: serde_json::from_str(&get::<String>(row, "note")?).map_err(|_| unknown("note"))?,
        splits: None,
    })
}

pub(super) fn reject_line(row: &SqliteRow) -> Result<RejectLine, DatabaseError> {
    let number = |column: &str| get::<i64>(row, column).map(i64::unsigned_abs);
    Ok(RejectLine {
        line: number("line")?,
        record: number("record")?,
        offset: number("byte_offset")?,
        field: get(row, "field")?,
        code: get(row, "code")?,
        message: get(row, "message")?,
    })
}

/// A list as one bound value, for `in (select value from json_each(?))`.
pub(super) fn json_list<T: serde::Serialize>(items: &[T]) -> String {
    serde_json::json!(items).to_string()
}

impl Session {
    async fn load_rows(
        &mut self,
        query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Vec<LoadRow>, DatabaseError> {
        self.rows(query, Doing::ReadLedger).await?.iter().map(load_row).collect()
    }

    /// The live load of an object in a table.
    pub(super) async fn live_load(&mut self, table: &TableName, uri: &str) -> Result<Option<LoadRow>, DatabaseError> {
        let sql =
            format!("select {LOAD} from aqueduct_load where table_name = ?1 and object_uri = ?2 and state = 'loaded'");
        Ok(self.load_rows(built(sql).bind(table.name()).bind(uri)).await?.into_iter().next())
    }

    pub(super) async fn mark_replaced(&mut self, new: &NewLoad) -> Result<Replaced, DatabaseError> {
        let query = match &new.replaces {
            Replaces::Nothing => return Ok(Replaced::default()),
            Replaces::Loads(_) | Replaces::Upsert(_) => statement(
                "update aqueduct_load set state = 'replaced' where table_name = ?1 and state = 'loaded' \
                 and id in (select value from json_each(?2)) returning id, loaded",
            )
            .bind(new.table.name())
            .bind(json_list(new.replaces.loads().unwrap_or_default())),
            Replaces::Table => statement(
                "update aqueduct_load set state = 'replaced' where table_name = ?1 and state = 'loaded' \
                 returning id, loaded",
            )
            .bind(new.table.name()),
        };
        let rows = self.rows(query, Doing::WriteLedger).await?;
        let rows = rows.iter().map(|row| Ok((get(row, "id")?, get(row, "loaded")?)));
        Ok(Replaced::of(rows.collect::<Result<Vec<_>, DatabaseError>>()?))
    }

    /// Whether rows are there that no load, or one before the table had lineage, wrote.
    pub(super) async fn has_rows_without_load(&mut self, table: &TableName) -> Result<bool, DatabaseError> {
        let sql = format!("select exists (select 1 from {} where \"{LOAD_ID}\" is null) as found", table.quoted());
        Ok(get::<i64>(&self.row(built(sql), Doing::Count(table)).await?, "found")? != 0)
    }

    /// Triggers that may drop rows without an error.
    pub(super) async fn triggers(&mut self, table: &TableName) -> Result<Vec<String>, DatabaseError> {
        let query = statement(
            "select name from sqlite_schema where type = 'trigger' and tbl_name = ?1 collate nocase \
             and sql like '%before%insert%' order by name",
        );
        let rows = self.rows(query.bind(table.name()), Doing::Describe(table)).await?;
        rows.iter().map(|row| get(row, "name")).collect()
    }

    /// Gives a load that has just begun another number; those that follow go on from there.
    pub(super) async fn renumber_load(&mut self, id: i64, number: i64) -> Result<i64, DatabaseError> {
        let renumber = statement("update aqueduct_load set id = ?2 where id = ?1").bind(id).bind(number);
        self.run(renumber, Doing::WriteLedger).await?;
        Ok(number)
    }

    pub(super) async fn insert_load(&mut self, new: &NewLoad, state: LoadState) -> Result<i64, DatabaseError> {
        let query = statement(INSERT_LOAD)
            .bind(new.run_id.to_string())
            .bind(&new.pipeline)
            .bind(&new.pipeline_hash)
            .bind(new.table.name())
            .bind(&new.object.uri)
            .bind(&new.object.key)
            .bind(&new.object.version)
            .bind(&new.object.etag)
            .bind(new.object.size.map(signed))
            .bind(new.object.last_modified.map(|time| time.to_string()))
            .bind(new.started_at.to_string())
            .bind(&new.runner_version)
            .bind(state.as_str());
        get(&self.row(query, Doing::WriteLedger).await?, "id")
    }

    pub(super) async fn finish_load(
        &mut self,
        id: i64,
        totals: &Totals,
        ending: &Ending<'_>,
    ) -> Result<(), DatabaseError> {
        let counts = &totals.counts;
        let query = statement(FINISH_LOAD)
            .bind(id)
            .bind(ending.state.as_str())
            .bind(signed(counts.read))
            .bind(signed(counts.loaded))
            .bind(signed(counts.rejected))
            .bind(signed(counts.filtered))
            .bind(signed(counts.duplicates))
            .bind(signed(counts.skipped))
            .bind(signed(totals.bytes))
            .bind(&totals.content_sha256)
            .bind(totals.finished_at.to_string())
            .bind(totals.note.to_string())
            .bind(ending.error)
            .bind(ending.permanent);
        self.run(query, Doing::WriteLedger).await?;
        Ok(())
    }

    pub(super) async fn write_rejects(&mut self, load: i64, rejects: &[StoredReject]) -> Result<(), DatabaseError> {
        for some in rejects.chunks(REJECTS_PER_STATEMENT) {
            let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; some.len()].join(", ");
            let sql = format!(
                "insert into aqueduct_reject (load_id, record, line, byte_offset, field, code, message, raw) \
                 values {values}"
            );
            let mut query = built(sql).persistent(some.len() == REJECTS_PER_STATEMENT);
            for reject in some {
                query = query
                    .bind(load)
                    .bind(signed(reject.record))
                    .bind(signed(reject.line))
                    .bind(signed(reject.offset))
                    .bind(&reject.field)
                    .bind(&reject.code)
                    .bind(&reject.message)
                    .bind(&reject.raw);
            }
            self.run(query, Doing::WriteLedger).await?;
        }
        Ok(())
    }
}

impl Sqlite {
    async fn load_rows(
        &mut self,
        query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<Vec<LoadRow>, DatabaseError> {
        let mut session = self.session(Doing::ReadLedger).await?;
        let found = session.load_rows(query).await?;
        self.keep(session);
        Ok(found)
    }

    pub(in super::super) async fn look_up(
        &mut self,
        table: &TableName,
        objects: &[String],
    ) -> Result<Vec<LoadRow>, DatabaseError> {
        let sql = format!(
            "select {LOAD} from aqueduct_load as l \
             where table_name = ?1 and object_uri in (select value from json_each(?2)) \
             and (state = 'loaded' or id = ( \
                 select max(n.id) from aqueduct_load as n where n.table_schema = l.table_schema \
                 and n.table_name = l.table_name and n.object_uri = l.object_uri \
                 and n.object_version = l.object_version)) \
             order by id"
        );
        self.load_rows(built(sql).bind(table.name()).bind(json_list(objects))).await
    }

    pub(in super::super) async fn newer_upsert(
        &mut self,
        table: &TableName,
        object: &ObjectVersion,
    ) -> Result<Option<i64>, DatabaseError> {
        let query = statement(
            "select id from aqueduct_load where table_name = ?1 and state = 'loaded' \
             and json_extract(note, '$.mode') = 'upsert' and object_uri <> ?2 and last_modified > ?3 \
             order by last_modified desc limit 1",
        );
        let query = query.bind(table.name()).bind(&object.uri);
        let query = query.bind(object.last_modified.map(|time| time.to_string()));
        let mut session = self.session(Doing::ReadLedger).await?;
        let rows = session.rows(query, Doing::ReadLedger).await?;
        self.keep(session);
        rows.first().map(|row| get(row, "id")).transpose()
    }

    pub(in super::super) async fn record_failure(
        &mut self,
        new: &NewLoad,
        totals: &Totals,
        rejects: &[StoredReject],
        error: &str,
        permanent: bool,
    ) -> Result<i64, DatabaseError> {
        let mut session = self.write(Doing::WriteLedger).await?;
        let id = session.insert_load(new, LoadState::Failed).await?;
        let ending = Ending { state: LoadState::Failed, error: Some(error), permanent };
        session.finish_load(id, totals, &ending).await?;
        session.write_rejects(id, rejects).await?;
        self.done(session).await?;
        Ok(id)
    }

    pub(in super::super) async fn record_superseded(&mut self, new: &NewLoad) -> Result<i64, DatabaseError> {
        let mut session = self.write(Doing::WriteLedger).await?;
        let id = session.insert_load(new, LoadState::Superseded).await?;
        self.done(session).await?;
        Ok(id)
    }

    pub(in super::super) async fn loads(
        &mut self,
        filter: &LoadFilter,
        limit: u32,
    ) -> Result<Vec<LoadRow>, DatabaseError> {
        let sql = format!(
            "select {LOAD} from aqueduct_load \
             where (?1 is null or pipeline = ?1) and (?2 is null or table_name = ?2) \
             and (?3 is null or object_uri = ?3 or object_key = ?3) \
             and (?4 = '[]' or state in (select value from json_each(?4))) \
             and (?5 is null or id < ?5) \
             order by id desc limit ?6"
        );
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let query = built(sql)
            .bind(&filter.pipeline)
            .bind(filter.table.as_ref().map(|table| table.flattened().name().to_owned()))
            .bind(&filter.object)
            .bind(json_list(&states))
            .bind(filter.before)
            .bind(i64::from(limit));
        self.load_rows(query).await
    }

    pub(in super::super) async fn load(&mut self, id: i64) -> Result<Option<LoadRow>, DatabaseError> {
        let query = built(format!("select {LOAD} from aqueduct_load where id = ?1")).bind(id);
        Ok(self.load_rows(query).await?.into_iter().next())
    }

    async fn reject_rows(
        &mut self,
        load: i64,
        after: u64,
        limit: u32,
        raw: bool,
    ) -> Result<Vec<SqliteRow>, DatabaseError> {
        let raw = if raw { ", raw" } else { "" };
        let sql = format!(
            "select record, line, byte_offset, field, code, message{raw} from aqueduct_reject \
             where load_id = ?1 and record > ?2 order by record limit ?3"
        );
        let doing = Doing::ReadLedger;
        let mut session = self.session(doing).await?;
        let query = built(sql).bind(load).bind(signed(after)).bind(i64::from(limit));
        let rows = session.rows(query, doing).await?;
        self.keep(session);
        Ok(rows)
    }

    pub(in super::super) async fn reject_lines(
        &mut self,
        load: i64,
        after: u64,
        limit: u32,
    ) -> Result<Vec<RejectLine>, DatabaseError> {
        self.reject_rows(load, after, limit, false).await?.iter().map(reject_line).collect()
    }

    pub(in super::super) async fn rejects(
        &mut self,
        load: i64,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredReject>, DatabaseError> {
        let rows = self.reject_rows(load, after, limit, true).await?;
        rows.iter().map(|row| Ok(reject_line(row)?.with_raw(get(row, "raw")?))).collect()
    }

    pub(in super::super) async fn count_rejects(&mut self, load: i64) -> Result<u64, DatabaseError> {
        let query = statement("select count(*) as count from aqueduct_reject where load_id = ?1").bind(load);
        let mut session = self.session(Doing::ReadLedger).await?;
        let row = session.row(query, Doing::ReadLedger).await?;
        self.keep(session);
        get::<i64>(&row, "count").map(i64::unsigned_abs)
    }

    pub(in super::super) async fn count_rows(
        &mut self,
        table: &TableName,
        lineage: bool,
    ) -> Result<RowCounts, DatabaseError> {
        let name = table.quoted();
        let sql = if lineage {
            format!("select \"{LOAD_ID}\" as load, count(*) as count from {name} group by 1")
        } else {
            format!("select cast(null as integer) as load, count(*) as count from {name}")
        };
        let doing = Doing::Count(table);
        let mut session = self.session(doing).await?;
        let rows = session.rows(built(sql), doing).await?;
        self.keep(session);
        let mut counts = RowCounts { by_load: BTreeMap::new(), without_load: 0 };
        for row in &rows {
            let count = get::<i64>(row, "count")?.unsigned_abs();
            match get::<Option<i64>>(row, "load")? {
                Some(load) => _ = counts.by_load.insert(load, count),
                None => counts.without_load = count,
            }
        }
        Ok(counts)
    }

    /// Rows without a load count as found: they may be those of loads made before the table had lineage.
    pub(in super::super) async fn has_lost_rows(&mut self, table: &TableName) -> Result<bool, DatabaseError> {
        // Rows of an upsert stay when a later one of its object follows.
        let standing = "from aqueduct_load where table_name = ?1 and loaded > 0 and (state = 'loaded' \
             or state = 'replaced' and json_extract(note, '$.mode') = 'upsert')";
        let sql = format!(
            "select exists (select 1 {standing}) and not exists (select 1 from {} \
             where \"{LOAD_ID}\" is null or \"{LOAD_ID}\" in (select id {standing})) as lost",
            table.quoted()
        );
        let doing = Doing::Count(table);
        let mut session = self.session(doing).await?;
        let row = session.row(built(sql).bind(table.name()), doing).await?;
        self.keep(session);
        Ok(get::<i64>(&row, "lost")? != 0)
    }

    pub(in super::super) async fn undo(&mut self, load: &LoadRow) -> Result<Undone, DatabaseError> {
        let mut session = self.write(Doing::WriteLedger).await?;
        let mark = statement("update aqueduct_load set state = 'undone' where id = ?1 and state = 'loaded'");
        if session.run(mark.bind(load.id), Doing::WriteLedger).await? == 0 {
            self.roll_back(session).await;
            let reason = "another process changed it at this moment".into();
            return Err(DatabaseError::NotUndoable { id: load.id, state: load.state, reason });
        }
        let delete = built(format!("delete from {} where \"{LOAD_ID}\" = ?1", load.table.quoted())).bind(load.id);
        let deleted = session.run(delete, Doing::Delete(&load.table)).await?;
        if deleted == 0 && load.counts.loaded > 0 && session.has_rows_without_load(&load.table).await? {
            self.roll_back(session).await;
            return Err(DatabaseError::RowsWithoutLoad { load: load.id, table: load.table.to_string() });
        }
        self.done(session).await?;
        Ok(Undone { load: LoadRow { state: LoadState::Undone, ..load.clone() }, deleted })
    }
}
