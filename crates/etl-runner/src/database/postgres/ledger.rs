//! The ledger's statements.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::super::ddl::LOAD_ID;
use super::super::error::{DatabaseError, Doing};
use super::super::name::TableName;
use super::super::{LoadFilter, RowCounts, Undone};
use super::{Postgres, Session, built, get, statement};
use crate::ledger::{Counts, LoadRow, LoadState, NewLoad, ObjectVersion, RejectLine, StoredReject, Timestamp, Totals};

/// A statement carries at most this much of rejects.
const REJECTS_PER_STATEMENT: usize = 1_000;
const REJECT_BYTES_PER_STATEMENT: usize = 4 * 1024 * 1024;

/// Times cross the wire as microseconds since 1970, uuid and json as text: no driver feature is needed for them.
const LOAD: &str = "id, run_id::text as run_id, pipeline, pipeline_hash, table_schema, table_name, table_oid, \
    object_uri, object_key, object_version, etag, object_size, \
    (extract(epoch from last_modified) * 1000000)::bigint as last_modified, content_sha256, state, \
    (extract(epoch from started_at) * 1000000)::bigint as started_at, \
    (extract(epoch from finished_at) * 1000000)::bigint as finished_at, \
    records_read, loaded, rejected, filtered, duplicates, skipped, bytes, runner_version, first_error, permanent, \
    replaced_by, note::text as note";

const INSERT_LOAD: &str = "\
    insert into aqueduct.load (run_id, pipeline, pipeline_hash, table_schema, table_name, table_oid, object_uri, \
        object_key, object_version, etag, object_size, last_modified, started_at, runner_version, state) \
    values ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
        timestamptz 'epoch' + $12 * interval '1 microsecond', \
        timestamptz 'epoch' + $13 * interval '1 microsecond', $14, $15) \
    returning id";

const FINISH_LOAD: &str = "\
    update aqueduct.load set state = $2, records_read = $3, loaded = $4, rejected = $5, filtered = $6, \
        duplicates = $7, skipped = $8, bytes = $9, content_sha256 = $10, \
        finished_at = timestamptz 'epoch' + $11 * interval '1 microsecond', note = $12::jsonb, \
        first_error = $13, permanent = $14, table_oid = coalesce($15, table_oid) \
    where id = $1";

const INSERT_REJECTS: &str = "\
    insert into aqueduct.reject (load_id, record, line, byte_offset, field, code, message, raw) \
    select $1, * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bytea[])";

/// How a load ended, beyond its counts.
pub(super) struct Ending<'a> {
    pub(super) state: LoadState,
    pub(super) error: Option<&'a str>,
    pub(super) permanent: bool,
    pub(super) table_oid: Option<u32>,
}

/// Counts fit: no object holds 2^63 records.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn load_row(row: &PgRow) -> Result<LoadRow, DatabaseError> {
    let unknown = |column: &str| DatabaseError::Driver { doing: format!("read the column {column}"), kind: "a value" };
    let count = |column: &str| get::<i64>(row, column).map(i64::unsigned_abs);
    let time = |column: &str| Ok::<_, DatabaseError>(get::<Option<i64>>(row, column)?.map(Timestamp));
    let (schema, name): (String, String) = (get(row, "table_schema")?, get(row, "table_name")?);
    Ok(LoadRow {
        id: get(row, "id")?,
        run_id: Uuid::parse_str(&get::<String>(row, "run_id")?).map_err(|_| unknown("run_id"))?,
        pipeline: get(row, "pipeline")?,
        pipeline_hash: get(row, "pipeline_hash")?,
        table: TableName::new(Some(&schema), &name)?,
        table_oid: get::<Option<i64>>(row, "table_oid")?.and_then(|oid| u32::try_from(oid).ok()),
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
        permanent: get(row, "permanent")?,
        replaced_by: get(row, "replaced_by")?,
        note: serde_json::from_str(&get::<String>(row, "note")?).map_err(|_| unknown("note"))?,
        splits: None,
    })
}

pub(super) fn reject_line(row: &PgRow) -> Result<RejectLine, DatabaseError> {
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

impl Session {
    pub(super) async fn load_rows(
        &mut self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<LoadRow>, DatabaseError> {
        let rows = self.rows(query, Doing::ReadLedger).await?;
        let mut loads = rows.iter().map(load_row).collect::<Result<Vec<_>, _>>()?;
        for load in &mut loads {
            if load.state == LoadState::Loading {
                self.sum_splits(load).await?;
            }
        }
        Ok(loads)
    }

    /// Deletes the rows of a load by their lineage.
    pub(super) async fn delete_load(&mut self, table: &TableName, id: i64) -> Result<u64, DatabaseError> {
        let delete = built(format!("delete from {} where \"{LOAD_ID}\" = $1", table.quoted())).bind(id);
        self.run(delete, Doing::Delete(table)).await
    }

    /// The live load of an object in a table.
    pub(super) async fn live_load(&mut self, table: &TableName, uri: &str) -> Result<Option<LoadRow>, DatabaseError> {
        let sql = format!(
            "select {LOAD} from aqueduct.load \
             where table_schema = $1 and table_name = $2 and object_uri = $3 and state = 'loaded'"
        );
        let query = built(sql).bind(table.schema()).bind(table.name()).bind(uri);
        Ok(self.load_rows(query).await?.into_iter().next())
    }

    pub(super) async fn load_by_id(&mut self, id: i64) -> Result<Option<LoadRow>, DatabaseError> {
        let query = built(format!("select {LOAD} from aqueduct.load where id = $1")).bind(id);
        Ok(self.load_rows(query).await?.into_iter().next())
    }

    pub(super) async fn insert_load(&mut self, new: &NewLoad, state: LoadState) -> Result<i64, DatabaseError> {
        let query = statement(INSERT_LOAD)
            .bind(new.run_id.to_string())
            .bind(&new.pipeline)
            .bind(&new.pipeline_hash)
            .bind(new.table.schema())
            .bind(new.table.name())
            .bind(new.table_oid.map(i64::from))
            .bind(&new.object.uri)
            .bind(&new.object.key)
            .bind(&new.object.version)
            .bind(&new.object.etag)
            .bind(new.object.size.map(signed))
            .bind(new.object.last_modified.map(|time| time.0))
            .bind(new.started_at.0)
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
            .bind(totals.finished_at.0)
            .bind(totals.note.to_string())
            .bind(ending.error)
            .bind(ending.permanent)
            .bind(ending.table_oid.map(i64::from));
        self.run(query, Doing::WriteLedger).await?;
        Ok(())
    }

    pub(super) async fn write_rejects(&mut self, load: i64, rejects: &[StoredReject]) -> Result<(), DatabaseError> {
        let mut rest = rejects;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |reject: &&StoredReject| {
                bytes += reject.raw.len();
                bytes <= REJECT_BYTES_PER_STATEMENT
            };
            let count = rest.iter().take(REJECTS_PER_STATEMENT).take_while(fits).count().max(1);
            let (some, later) = rest.split_at(count);
            rest = later;
            let numbers =
                |of: fn(&StoredReject) -> u64| some.iter().map(|reject| signed(of(reject))).collect::<Vec<_>>();
            let query = statement(INSERT_REJECTS)
                .bind(load)
                .bind(numbers(|reject| reject.record))
                .bind(numbers(|reject| reject.line))
                .bind(numbers(|reject| reject.offset))
                .bind(some.iter().map(|reject| reject.field.as_deref()).collect::<Vec<_>>())
                .bind(some.iter().map(|reject| reject.code.as_str()).collect::<Vec<_>>())
                .bind(some.iter().map(|reject| reject.message.as_str()).collect::<Vec<_>>())
                .bind(some.iter().map(|reject| reject.raw.as_slice()).collect::<Vec<_>>());
            self.run(query, Doing::WriteLedger).await?;
        }
        Ok(())
    }
}

impl Postgres {
    pub(in super::super) async fn look_up(
        &mut self,
        table: &TableName,
        objects: &[String],
    ) -> Result<Vec<LoadRow>, DatabaseError> {
        let sql = format!(
            "select {LOAD} from aqueduct.load l \
             where table_schema = $1 and table_name = $2 and object_uri = any ($3) \
                 and (state in ('loaded', 'loading') or id = ( \
                 select max(n.id) from aqueduct.load n where n.table_schema = l.table_schema \
                 and n.table_name = l.table_name and n.object_uri = l.object_uri \
                 and n.object_version = l.object_version)) \
             order by id"
        );
        let mut session = self.read(Doing::ReadLedger).await?;
        let query = built(sql).bind(table.schema()).bind(table.name()).bind(objects);
        let found = session.load_rows(query).await?;
        self.done(session).await?;
        Ok(found)
    }

    pub(in super::super) async fn newer_upsert(
        &mut self,
        table: &TableName,
        object: &ObjectVersion,
    ) -> Result<Option<i64>, DatabaseError> {
        let query = statement(
            "select id from aqueduct.load where table_schema = $1 and table_name = $2 and state = 'loaded' \
             and note ->> 'mode' = 'upsert' and object_uri <> $3 \
             and last_modified > timestamptz 'epoch' + $4 * interval '1 microsecond' order by last_modified desc limit 1",
        );
        let query = query.bind(table.schema()).bind(table.name()).bind(&object.uri);
        let query = query.bind(object.last_modified.map(|time| time.0));
        let mut session = self.read(Doing::ReadLedger).await?;
        let rows = session.rows(query, Doing::ReadLedger).await?;
        self.done(session).await?;
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
        let ending = Ending { state: LoadState::Failed, error: Some(error), permanent, table_oid: None };
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
            "select {LOAD} from aqueduct.load \
             where ($1::text is null or pipeline = $1) \
             and ($2::text is null or (table_schema = $2 and table_name = $3)) \
             and ($4::text is null or object_uri = $4 or object_key = $4) \
             and (cardinality($5::text[]) = 0 or state = any ($5)) \
             and ($6::bigint is null or id < $6) \
             order by id desc limit $7"
        );
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let query = built(sql)
            .bind(&filter.pipeline)
            .bind(filter.table.as_ref().map(|table| table.schema().unwrap_or("public").to_owned()))
            .bind(filter.table.as_ref().map(|table| table.name().to_owned()))
            .bind(&filter.object)
            .bind(states)
            .bind(filter.before)
            .bind(i64::from(limit));
        let mut session = self.read(Doing::ReadLedger).await?;
        let found = session.load_rows(query).await?;
        self.done(session).await?;
        Ok(found)
    }

    pub(crate) async fn load(&mut self, id: i64) -> Result<Option<LoadRow>, DatabaseError> {
        let mut session = self.read(Doing::ReadLedger).await?;
        let found = session.load_by_id(id).await?;
        self.done(session).await?;
        Ok(found)
    }

    async fn reject_rows(&mut self, load: i64, after: u64, limit: u32, raw: bool) -> Result<Vec<PgRow>, DatabaseError> {
        let (raw, doing) = if raw { (", raw", Doing::ReadRejects) } else { ("", Doing::ReadLedger) };
        let sql = format!(
            "select record, line, byte_offset, field, code, message{raw} from aqueduct.reject \
             where load_id = $1 and record > $2 order by record limit $3"
        );
        let mut session = self.read(doing).await?;
        let query = built(sql).bind(load).bind(signed(after)).bind(i64::from(limit));
        let rows = session.rows(query, doing).await?;
        self.done(session).await?;
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

    pub(crate) async fn rejects(
        &mut self,
        load: i64,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredReject>, DatabaseError> {
        let rows = self.reject_rows(load, after, limit, true).await?;
        rows.iter().map(|row| Ok(reject_line(row)?.with_raw(get(row, "raw")?))).collect()
    }

    pub(in super::super) async fn count_rejects(&mut self, load: i64) -> Result<u64, DatabaseError> {
        let query = statement("select count(*) as count from aqueduct.reject where load_id = $1").bind(load);
        let mut session = self.read(Doing::ReadLedger).await?;
        let row = session.row(query, Doing::ReadLedger).await?;
        self.done(session).await?;
        get::<i64>(&row, "count").map(i64::unsigned_abs)
    }

    pub(in super::super) async fn count_rows(
        &mut self,
        table: &TableName,
        lineage: bool,
    ) -> Result<RowCounts, DatabaseError> {
        let name = table.quoted();
        let sql = if lineage {
            format!("select \"{LOAD_ID}\"::bigint as load, count(*) as count from {name} group by 1")
        } else {
            format!("select null::bigint as load, count(*) as count from {name}")
        };
        let doing = Doing::Count(table);
        let mut session = self.read(doing).await?;
        let rows = session.rows(built(sql), doing).await?;
        self.done(session).await?;
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

    pub(in super::super) async fn undo(&mut self, load: &LoadRow) -> Result<Undone, DatabaseError> {
        if load.state == LoadState::Loading {
            let undone = self.give_up(load, LoadState::Undone, None).await?;
            return undone.ok_or_else(|| DatabaseError::Busy { doing: format!("undo load {}", load.id) });
        }
        let mut session = self.write(Doing::WriteLedger).await?;
        if !session.lock_object(&load.table, &load.object.uri, false).await? {
            self.roll_back(session).await;
            return Err(DatabaseError::Busy { doing: format!("undo load {}", load.id) });
        }
        let mark = statement("update aqueduct.load set state = 'undone' where id = $1 and state = 'loaded'");
        if session.run(mark.bind(load.id), Doing::WriteLedger).await? == 0 {
            self.roll_back(session).await;
            let reason = "another process changed it at this moment".into();
            return Err(DatabaseError::NotUndoable { id: load.id, state: load.state, reason });
        }
        let deleted = session.delete_load(&load.table, load.id).await?;
        if deleted == 0 && load.counts.loaded > 0 && session.has_rows_without_load(&load.table).await? {
            self.roll_back(session).await;
            return Err(DatabaseError::RowsWithoutLoad { load: load.id, table: load.table.to_string() });
        }
        self.done(session).await?;
        Ok(Undone { load: LoadRow { state: LoadState::Undone, ..load.clone() }, deleted })
    }
}
