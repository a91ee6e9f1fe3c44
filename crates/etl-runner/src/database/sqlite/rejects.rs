//! Rejects that come into the table after all, or are thrown away for their age.

use super::super::error::{DatabaseError, Doing};
use super::super::{BeginReplay, LoadTransaction};
use super::ledger::{json_list, reject_line, signed};
use super::load::SqliteLoad;
use super::{Sqlite, get, statement};
use crate::ledger::{LoadRow, LoadState, RejectLine, Timestamp};

impl Sqlite {
    pub(in super::super) async fn begin_replay(&mut self, load: &LoadRow) -> Result<BeginReplay, DatabaseError> {
        let mut session = match self.write(Doing::WriteLedger).await {
            Err(DatabaseError::Busy { .. }) => return Ok(BeginReplay::Busy),
            begun => begun?,
        };
        let live = session.live_load(&load.table, &load.object.uri).await?;
        if live.is_none_or(|now| now.id != load.id || now.state != LoadState::Loaded) {
            self.roll_back(session).await;
            return Ok(BeginReplay::Busy);
        }
        let load = SqliteLoad::new(session, load.id, &load.table);
        Ok(BeginReplay::Started(Box::new(LoadTransaction::Sqlite(load))))
    }

    pub(in super::super) async fn purge_rejects(&mut self, before: Timestamp) -> Result<(u64, u64), DatabaseError> {
        let old = "select id from aqueduct_load where finished_at < ?1";
        let mark = format!(
            "update aqueduct_load set note = json_set(note, '$.purged', ifnull(json_extract(note, '$.purged'), 0) + \
                 (select count(*) from aqueduct_reject where load_id = aqueduct_load.id)) \
             where id in ({old}) and exists (select 1 from aqueduct_reject where load_id = aqueduct_load.id)"
        );
        let purge = format!("delete from aqueduct_reject where load_id in ({old})");
        let mut session = self.write(Doing::WriteLedger).await?;
        let before = before.to_string();
        let loads = session.run(super::built(mark).bind(&before), Doing::WriteLedger).await?;
        let rejects = session.run(super::built(purge).bind(&before), Doing::WriteLedger).await?;
        self.done(session).await?;
        Ok((rejects, loads))
    }

    pub(in super::super) async fn count_purgeable(&mut self, before: Timestamp) -> Result<(u64, u64), DatabaseError> {
        let count = statement(
            "select count(*) as rejects, count(distinct load_id) as loads from aqueduct_reject \
             where load_id in (select id from aqueduct_load where finished_at < ?1)",
        );
        let mut session = self.session(Doing::ReadLedger).await?;
        let row = session.row(count.bind(before.to_string()), Doing::ReadLedger).await?;
        self.keep(session);
        Ok((get::<i64>(&row, "rejects")?.unsigned_abs(), get::<i64>(&row, "loads")?.unsigned_abs()))
    }
}

impl SqliteLoad {
    pub(in super::super) async fn rejects_among(&mut self, records: &[u64]) -> Result<Vec<RejectLine>, DatabaseError> {
        let query = statement(
            "select record, line, byte_offset, field, code, message from aqueduct_reject \
             where load_id = ?1 and record in (select value from json_each(?2)) order by record",
        );
        let query = query.bind(self.id()).bind(json_list(records));
        self.session()?.rows(query, Doing::ReadLedger).await?.iter().map(reject_line).collect()
    }

    /// Takes rejects out, whose rows are in, moves the load's counts and commits.
    pub(in super::super) async fn finish_replay(
        mut self,
        database: &mut Sqlite,
        records: &[u64],
    ) -> Result<(), DatabaseError> {
        if self.rows() != records.len() as u64 {
            let reason = format!("{} records replayed, {} rows taken by the database", records.len(), self.rows());
            return Err(self.name_triggers(DatabaseError::Balance { reason }, records.len() as u64).await);
        }
        let id = self.id();
        let session = self.session()?;
        let delete =
            statement("delete from aqueduct_reject where load_id = ?1 and record in (select value from json_each(?2))");
        let deleted = session.run(delete.bind(id).bind(json_list(records)), Doing::WriteLedger).await?;
        let count = statement(
            "update aqueduct_load set loaded = loaded + ?2, rejected = rejected - ?2, \
             note = json_set(note, '$.replayed', ifnull(json_extract(note, '$.replayed'), 0) + ?2) where id = ?1",
        );
        session.run(count.bind(id).bind(signed(deleted)), Doing::WriteLedger).await?;
        if deleted != records.len() as u64 {
            let reason = format!("{} records replayed, {deleted} of them were rejects", records.len());
            return Err(DatabaseError::Balance { reason });
        }
        match self.take_session() {
            Some(session) => database.done(session).await,
            None => Ok(()),
        }
    }
}
