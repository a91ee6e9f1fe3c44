//! Rejects that come into the table after all, or are thrown away for their age.

use super::super::error::{DatabaseError, Doing};
use super::super::{BeginReplay, LoadTransaction};
use super::ledger::{reject_line, signed};
use super::load::PostgresLoad;
use super::{Postgres, get, statement};
use crate::ledger::{LoadRow, LoadState, RejectLine, Timestamp};

impl Postgres {
    pub(in super::super) async fn begin_replay(&mut self, load: &LoadRow) -> Result<BeginReplay, DatabaseError> {
        let mut session = self.write(Doing::WriteLedger).await?;
        if !session.lock_object(&load.table, &load.object.uri, false).await? {
            self.roll_back(session).await;
            return Ok(BeginReplay::Busy);
        }
        let now = session.load_by_id(load.id).await?;
        if now.is_none_or(|now| now.state != LoadState::Loaded) {
            self.roll_back(session).await;
            return Ok(BeginReplay::Busy);
        }
        let load = PostgresLoad::new(session, load.id, &load.table, &load.object.uri);
        Ok(BeginReplay::Started(Box::new(LoadTransaction::Postgres(load))))
    }

    pub(in super::super) async fn purge_rejects(&mut self, before: Timestamp) -> Result<(u64, u64), DatabaseError> {
        let purge = statement(
            "with gone as (delete from aqueduct.reject r using aqueduct.load l where l.id = r.load_id \
                 and l.finished_at < timestamptz 'epoch' + $1 * interval '1 microsecond' returning r.load_id), \
             counted as (select load_id, count(*) as rejects from gone group by load_id) \
             update aqueduct.load l set note = l.note || jsonb_build_object('purged', \
                 coalesce((l.note ->> 'purged')::bigint, 0) + counted.rejects) \
             from counted where counted.load_id = l.id returning counted.rejects",
        );
        let mut session = self.write(Doing::WriteLedger).await?;
        let rows = session.rows(purge.bind(before.0), Doing::WriteLedger).await?;
        let rejects = rows.iter().map(|row| get::<i64>(row, "rejects")).collect::<Result<Vec<_>, _>>()?;
        self.done(session).await?;
        Ok((rejects.iter().map(|rejects| rejects.unsigned_abs()).sum(), rejects.len() as u64))
    }

    pub(in super::super) async fn count_purgeable(&mut self, before: Timestamp) -> Result<(u64, u64), DatabaseError> {
        let count = statement(
            "select count(*) as rejects, count(distinct r.load_id) as loads \
             from aqueduct.reject r join aqueduct.load l on l.id = r.load_id \
             where l.finished_at < timestamptz 'epoch' + $1 * interval '1 microsecond'",
        );
        let mut session = self.read(Doing::ReadLedger).await?;
        let row = session.row(count.bind(before.0), Doing::ReadLedger).await?;
        self.done(session).await?;
        Ok((get::<i64>(&row, "rejects")?.unsigned_abs(), get::<i64>(&row, "loads")?.unsigned_abs()))
    }
}

impl PostgresLoad {
    pub(in super::super) async fn rejects_among(&mut self, records: &[u64]) -> Result<Vec<RejectLine>, DatabaseError> {
        let records: Vec<i64> = records.iter().copied().map(signed).collect();
        let query = statement(
            "select record, line, byte_offset, field, code, message from aqueduct.reject \
             where load_id = $1 and record = any ($2) order by record",
        );
        let query = query.bind(self.id).bind(records);
        self.session()?.rows(query, Doing::ReadLedger).await?.iter().map(reject_line).collect()
    }

    /// Takes rejects out, whose rows are in, moves the load's counts and commits.
    pub(in super::super) async fn finish_replay(
        mut self,
        database: &mut Postgres,
        records: &[u64],
    ) -> Result<(), DatabaseError> {
        if self.rows != records.len() as u64 {
            let reason = format!("{} records replayed, {} rows taken by the database", records.len(), self.rows);
            return Err(self.name_triggers(DatabaseError::Balance { reason }, records.len() as u64).await);
        }
        let (id, numbers) = (self.id, records.iter().copied().map(signed).collect::<Vec<_>>());
        let session = self.session()?;
        let delete = statement("delete from aqueduct.reject where load_id = $1 and record = any ($2)");
        let deleted = session.run(delete.bind(id).bind(numbers), Doing::WriteLedger).await?;
        let count = statement(
            "update aqueduct.load set loaded = loaded + $2, rejected = rejected - $2, \
             note = note || jsonb_build_object('replayed', coalesce((note ->> 'replayed')::bigint, 0) + $2) where id = $1",
        );
        session.run(count.bind(id).bind(signed(deleted)), Doing::WriteLedger).await?;
        if deleted != records.len() as u64 {
            let reason = format!("{} records replayed, {deleted} of them were rejects", records.len());
            return Err(DatabaseError::Balance { reason });
        }
        match self.session.take() {
            Some(session) => database.done(session).await.map_err(|error| self.with_deferred_table(error)),
            None => Ok(()),
        }
    }
}
