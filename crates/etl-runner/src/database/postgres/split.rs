//! A load on several connections: the plan of its splits, and each split's transaction.
//!
//! The load's row is committed first, as `loading`; the rows of its splits follow, planned before they are loaded. One
//! connection holds the object's locks from then on and commits the end. What makes each split load once is the update of
//! its row, in the transaction that brings its rows: a second one finds nothing left to update.

use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use transform::Pipeline;
use transform::csv::Position;

use super::super::error::{DatabaseError, Doing};
use super::super::name::TableName;
use super::super::{Begin, Dialect, LoadTransaction, RefusalKind, Undone, ddl};
use super::ledger::{Ending, reject_line, signed};
use super::load::{CopyFormat, Created, PostgresLoad};
use super::{Postgres, Session, get, statement};
use crate::ledger::{
    Counts, LoadRow, LoadState, MAKES_TABLE, NewLoad, RejectLine, Split, SplitProgress, StoredReject, Totals,
};

/// How long another runner may take to see that the load is ours.
const OTHERS_LOOK: Duration = Duration::from_secs(5);

/// How long the transactions of a load's other connections may take to end, once those are closed.
const OTHERS_END: &str = "set local lock_timeout = '60s'";

/// A split, and what became of its records once it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitRow {
    pub split: Split,
    /// `None`: it is only planned.
    pub counts: Option<Counts>,
}

/// What became of the wish to load a split.
#[derive(Debug)]
pub enum BeginSplit {
    Started(Box<LoadTransaction>),
    /// It is in: another process, or an answer to COMMIT that was lost.
    AlreadyLoaded,
    /// Another process has given the load up.
    GivenUp,
}

impl Postgres {
    /// Begins a load on several connections: its row stands, committed, and so does the table when the pipeline has to
    /// make it. The transaction given holds the locks; its end is the load's end.
    pub async fn begin_splits(&mut self, new: &NewLoad, makes: Option<&Pipeline>) -> Result<Begin, DatabaseError> {
        let mut session = self.write(Doing::WriteLedger).await?;
        if !session.lock_object(&new.table, &new.object.uri, false).await? {
            self.roll_back(session).await;
            return Ok(Begin::Busy);
        }
        if let Some(live) = session.live_load(&new.table, &new.object.uri).await? {
            self.roll_back(session).await;
            return Ok(Begin::AlreadyLoaded(Box::new(live)));
        }
        let id = match session.insert_load(new, LoadState::Loading).await {
            Err(DatabaseError::Refused(refusal)) if refusal.kind == RefusalKind::Unique => return Ok(Begin::Busy),
            inserted => inserted?,
        };
        self.vouch_for(&mut session, &new.table, id).await?;
        if let Some(pipeline) = makes {
            let made = ddl::table_ddl(pipeline, &new.table, Dialect::Postgres, None)?;
            session.simple(made.create, Doing::Create(&new.table)).await?;
            let oid = session.describe(&new.table).await?.and_then(|table| table.oid);
            let note = statement(
                "update aqueduct.load set table_oid = $2, note = jsonb_build_object($3::text, $4::text[]) where id = $1",
            )
            .bind(id)
            .bind(oid.map(i64::from))
            .bind(MAKES_TABLE)
            .bind(&pipeline.schema.primary_key);
            session.run(note, Doing::WriteLedger).await?;
        }
        self.done(session).await?;
        // Another runner that finds the object may have its locks for the moment it takes to see our row.
        let deadline = Instant::now() + OTHERS_LOOK;
        loop {
            match self.hold(id, &new.table, &new.object.uri).await? {
                Begin::Busy if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
                begun => return Ok(begun),
            }
        }
    }

    /// Takes the locks of a load on several connections that was begun, to go on with it or to end it, and keeps them with
    /// the transaction.
    pub async fn hold(&mut self, id: i64, table: &TableName, object_uri: &str) -> Result<Begin, DatabaseError> {
        let mut session = self.write(Doing::WriteLedger).await?;
        let held = session.lock_object(table, object_uri, false).await?;
        let row = if held { session.load_by_id(id).await? } else { None };
        let row = match row {
            Some(row) if row.state == LoadState::Loading => row,
            ended => {
                self.roll_back(session).await;
                let loaded = ended.filter(|row| row.state == LoadState::Loaded);
                return Ok(loaded.map_or(Begin::Busy, |row| Begin::AlreadyLoaded(Box::new(row))));
            }
        };
        let created = row.makes_table().map(|key| Created { key });
        let load =
            PostgresLoad { created, table_oid: row.table_oid, ..PostgresLoad::new(session, id, table, object_uri) };
        Ok(Begin::Started(Box::new(LoadTransaction::Postgres(load))))
    }

    /// Stores more of a load's plan. What is planned already stays as it is.
    pub async fn plan_splits(&mut self, load: i64, splits: &[Split]) -> Result<(), DatabaseError> {
        let numbers = |of: fn(&Split) -> u64| splits.iter().map(|split| signed(of(split))).collect::<Vec<_>>();
        let mut session = self.write(Doing::WriteLedger).await?;
        let insert = statement(
            "insert into aqueduct.split (load_id, split, byte_offset, first_line, first_record, bytes, lines, records) \
             select $1, * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
                 $7::bigint[], $8::bigint[]) on conflict do nothing",
        )
        .bind(load)
        .bind(numbers(|split| u64::from(split.number)))
        .bind(numbers(|split| split.start.offset))
        .bind(numbers(|split| split.start.line))
        .bind(numbers(|split| split.start.record))
        .bind(numbers(|split| split.bytes))
        .bind(numbers(|split| split.lines))
        .bind(numbers(|split| split.records));
        session.run(insert, Doing::WriteLedger).await?;
        self.done(session).await
    }

    /// A load's splits as far as they are planned, in the object's order.
    pub async fn splits(&mut self, load: i64) -> Result<Vec<SplitRow>, DatabaseError> {
        let mut session = self.read(Doing::ReadLedger).await?;
        let splits = session.splits(load).await?;
        self.done(session).await?;
        Ok(splits)
    }

    /// Begins the transaction of one split.
    pub async fn begin_split(
        &mut self,
        load: i64,
        table: &TableName,
        split: &Split,
    ) -> Result<BeginSplit, DatabaseError> {
        let doing = Doing::WriteLedger;
        let mut session = self.write(doing).await?;
        // Shared, so that whoever gives the load up waits until we are done, and we see it afterwards.
        let state = statement("select object_uri from aqueduct.load where id = $1 and state = 'loading' for share");
        let Some(row) = session.rows(state.bind(load), doing).await?.into_iter().next() else {
            self.roll_back(session).await;
            return Ok(BeginSplit::GivenUp);
        };
        let take = statement(
            "update aqueduct.split set state = 'loaded', finished_at = clock_timestamp(), loaded = records \
             where load_id = $1 and split = $2 and state = 'planned'",
        );
        if session.run(take.bind(load).bind(signed(split.number.into())), doing).await? == 0 {
            self.roll_back(session).await;
            return Ok(BeginSplit::AlreadyLoaded);
        }
        let object_uri: String = get(&row, "object_uri")?;
        let split = PostgresLoad::new(session, load, table, &object_uri);
        Ok(BeginSplit::Started(Box::new(LoadTransaction::Postgres(split))))
    }

    /// Checks the counts and commits a split. `Ok` means committed, also when the server's answer was lost on the way.
    pub async fn finish_split(
        &mut self,
        transaction: LoadTransaction,
        split: &Split,
        counts: &Counts,
    ) -> Result<(), DatabaseError> {
        let LoadTransaction::Postgres(mut load) = transaction else { return Ok(()) };
        load.check_split(split, counts).await?;
        let id = load.id;
        let session = load.session()?;
        let update = statement(
            "update aqueduct.split set finished_at = clock_timestamp(), loaded = $3, rejected = $4, skipped = $5 \
             where load_id = $1 and split = $2",
        )
        .bind(id)
        .bind(signed(split.number.into()))
        .bind(signed(counts.loaded))
        .bind(signed(counts.rejected))
        .bind(signed(counts.skipped));
        session.run(update, Doing::WriteLedger).await?;
        let Some(session) = load.session.take() else { return Ok(()) };
        let lost = match self.done(session).await {
            Err(lost @ DatabaseError::ConnectionLost { .. }) => lost,
            answered => return answered.map_err(|error| load.with_deferred_table(error)),
        };
        tracing::warn!(load = id, split = split.number, "the answer to commit was lost, asking the ledger");
        let asked = async {
            loop {
                match self.has_split(id, split.number).await {
                    Err(error) if error.is_temporary() => tokio::time::sleep(Duration::from_millis(250)).await,
                    answered => return answered,
                }
            }
        };
        match tokio::time::timeout(super::load::COMMIT_PATIENCE, asked).await {
            Ok(Ok(true)) => Ok(()),
            // It is planned again, and loaded by the next run.
            Ok(Ok(false) | Err(_)) | Err(_) => Err(lost),
        }
    }

    /// Whether a split is in. Waits for a transaction that is about to bring it.
    async fn has_split(&mut self, load: i64, number: u32) -> Result<bool, DatabaseError> {
        let doing = Doing::ReadLedger;
        let mut session = self.begin("begin; set local lock_timeout = '60s'", doing).await?;
        let query = statement("select state from aqueduct.split where load_id = $1 and split = $2 for update")
            .bind(load)
            .bind(signed(number.into()));
        let rows = session.rows(query, doing).await?;
        let state = rows.first().map(|row| get::<String>(row, "state")).transpose()?;
        self.done(session).await?;
        Ok(state.as_deref() == Some("loaded"))
    }

    /// Gives up a load that stopped half-way: its rows go, and it ends as `failed` or `undone`. `None` when another
    /// process holds it.
    pub async fn give_up(
        &mut self,
        load: &LoadRow,
        state: LoadState,
        reason: Option<&str>,
    ) -> Result<Option<Undone>, DatabaseError> {
        let Begin::Started(transaction) = self.hold(load.id, &load.table, &load.object.uri).await? else {
            return Ok(None);
        };
        let LoadTransaction::Postgres(held) = *transaction else { return Ok(None) };
        // An undone load keeps its balance; of a failed one it is told how far it came.
        let kept = if state == LoadState::Failed { 0 } else { load.counts.loaded };
        let totals = Totals {
            counts: Counts { loaded: kept, ..load.counts },
            bytes: load.bytes,
            content_sha256: None,
            finished_at: std::time::SystemTime::now().into(),
            note: serde_json::Value::Object(serde_json::Map::new()),
        };
        let ending = Ending { state, error: reason, permanent: false, table_oid: None };
        let deleted = held.give_up(self, &totals, &[], &ending).await?;
        Ok(Some(Undone { load: LoadRow { state, splits: None, ..load.clone() }, deleted }))
    }
}

impl Session {
    pub(super) async fn splits(&mut self, load: i64) -> Result<Vec<SplitRow>, DatabaseError> {
        let query = statement(
            "select split, byte_offset, first_line, first_record, bytes, lines, records, state, loaded, rejected, skipped \
             from aqueduct.split where load_id = $1 order by split",
        );
        self.rows(query.bind(load), Doing::ReadLedger).await?.iter().map(split_row).collect()
    }

    /// What the splits that are in brought.
    pub(super) async fn sum_splits(&mut self, load: &mut LoadRow) -> Result<(), DatabaseError> {
        let query = statement(
            "select count(*) as planned, count(*) filter (where state = 'loaded') as loaded_splits, \
                 coalesce(sum(records) filter (where state = 'loaded'), 0)::bigint as records, \
                 coalesce(sum(loaded) filter (where state = 'loaded'), 0)::bigint as loaded, \
                 coalesce(sum(rejected) filter (where state = 'loaded'), 0)::bigint as rejected, \
                 coalesce(sum(skipped) filter (where state = 'loaded'), 0)::bigint as skipped, \
                 coalesce(sum(bytes) filter (where state = 'loaded'), 0)::bigint as bytes \
             from aqueduct.split where load_id = $1",
        );
        let row = self.row(query.bind(load.id), Doing::ReadLedger).await?;
        let number = |column: &str| get::<i64>(&row, column).map(i64::unsigned_abs);
        load.counts = Counts {
            read: number("records")?,
            loaded: number("loaded")?,
            rejected: number("rejected")?,
            skipped: number("skipped")?,
            ..Counts::default()
        };
        load.bytes = number("bytes")?;
        load.splits = Some(SplitProgress { loaded: number("loaded_splits")?, planned: number("planned")? });
        Ok(())
    }
}

impl PostgresLoad {
    /// From here on nobody alters, empties or drops the table until the load is over, as if all its rows came in this
    /// transaction: each split is encoded for the columns as they are now. A COPY of no rows takes the lock and asks for
    /// no more rights than one of many.
    pub async fn lock_table(&mut self, columns: &[String]) -> Result<(), DatabaseError> {
        self.start_copy(columns, CopyFormat::Text).await?;
        self.finish_copy().await?;
        Ok(())
    }

    /// Keeps the connection of a load's end from being taken for a forgotten one.
    pub async fn keep_alive(&mut self) -> Result<(), DatabaseError> {
        self.session()?.simple("select 1".into(), Doing::WriteLedger).await
    }

    /// The object as the plan saw it: the same records, all of them loaded or rejected here.
    async fn check_split(&mut self, split: &Split, counts: &Counts) -> Result<(), DatabaseError> {
        self.finish_copy().await?;
        let Split { number, records, .. } = split;
        let reason = if counts.read != *records {
            format!("split {number} has {records} records in its plan, and {} were read", counts.read)
        } else if counts.loaded.checked_add(counts.rejected) != Some(counts.read) {
            format!(
                "split {number}: {} records read, {} loaded, {} rejected",
                counts.read, counts.loaded, counts.rejected
            )
        } else if self.rows != counts.loaded {
            let error = DatabaseError::Balance {
                reason: format!("{} rows counted as loaded, {} taken by the database", counts.loaded, self.rows),
            };
            return Err(self.name_triggers(error, counts.loaded).await);
        } else if self.rejects != counts.rejected {
            format!("{} records counted as rejected, {} written", counts.rejected, self.rejects)
        } else {
            return Ok(());
        };
        Err(DatabaseError::Balance { reason })
    }

    /// All splits, from `start` to `end` without a gap, and all of them in; takes their rows and rejects for its own.
    pub async fn take_splits(&mut self, start: Position, end: Position) -> Result<Vec<SplitRow>, DatabaseError> {
        let id = self.id;
        let session = self.session()?;
        let splits = session.splits(id).await?;
        let count = statement("select count(*) as count from aqueduct.reject where load_id = $1").bind(id);
        let rejects: i64 = get(&session.row(count, Doing::ReadLedger).await?, "count")?;
        let mut next = start;
        for row in &splits {
            let problem = if row.split.start != next {
                Some("does not begin where the one before it ends")
            } else if row.counts.is_none() {
                Some("is not in")
            } else {
                None
            };
            if let Some(problem) = problem {
                let reason = format!("split {} {problem}", row.split.number);
                return Err(DatabaseError::Balance { reason });
            }
            next = row.split.end();
        }
        if next != end {
            let reason = format!("the splits end at byte {}, the object's records at {}", next.offset, end.offset);
            return Err(DatabaseError::Balance { reason });
        }
        self.rows = splits.iter().filter_map(|row| row.counts).map(|counts| counts.loaded).sum();
        self.rejects = rejects.unsigned_abs();
        Ok(splits)
    }

    /// Rejects of the splits that are in: by code and field with their number, and the first ones.
    pub async fn reject_summary(
        &mut self,
        first: u32,
    ) -> Result<(Vec<(String, Option<String>, u64)>, Vec<RejectLine>), DatabaseError> {
        let (id, doing) = (self.id, Doing::ReadLedger);
        let session = self.session()?;
        let totals = statement(
            "select code, field, count(*) as count from aqueduct.reject where load_id = $1 group by code, field",
        );
        let total = |row: &PgRow| Ok((get(row, "code")?, get(row, "field")?, get::<i64>(row, "count")?.unsigned_abs()));
        let rows = session.rows(totals.bind(id), doing).await?;
        let totals = rows.iter().map(total).collect::<Result<Vec<_>, DatabaseError>>()?;
        let lines = statement(
            "select record, line, byte_offset, field, code, message from aqueduct.reject \
             where load_id = $1 order by record limit $2",
        );
        let rows = session.rows(lines.bind(id).bind(i64::from(first)), doing).await?;
        let lines = rows.iter().map(reject_line).collect::<Result<Vec<_>, _>>()?;
        Ok((totals, lines))
    }

    /// Ends a load whose rows are not to stay: they go, and the ledger says why. A table it made stays, empty and with
    /// its key. Gives the number of rows deleted.
    pub(super) async fn give_up(
        mut self,
        database: &mut Postgres,
        totals: &Totals,
        rejects: &[StoredReject],
        ending: &Ending<'_>,
    ) -> Result<u64, DatabaseError> {
        let (id, table, oid) = (self.id, self.table.clone(), self.table_oid);
        let session = self.session()?;
        session.simple(OTHERS_END.into(), Doing::WriteLedger).await?;
        // First of all: from here on nobody begins a split of it.
        session.finish_load(id, totals, ending).await?;
        let live = session.describe(&table).await?;
        let has_lineage = live.as_ref().is_some_and(|live| live.column(ddl::LOAD_ID).is_some());
        let deleted = if has_lineage { session.delete_load(&table, id).await? } else { 0 };
        // Dropped meanwhile, or another one by now: whose key is no business of this load.
        let is_ours = live.is_some_and(|live| live.oid == oid);
        for sql in ["delete from aqueduct.split where load_id = $1", "delete from aqueduct.reject where load_id = $1"] {
            session.run(statement(sql).bind(id), Doing::WriteLedger).await?;
        }
        session.write_rejects(id, rejects).await?;
        if is_ours {
            self.complete_table().await?;
        }
        let Some(session) = self.session.take() else { return Ok(deleted) };
        database.done(session).await?;
        Ok(deleted)
    }

    /// The same after an error of this very run.
    pub async fn fail(
        self,
        database: &mut Postgres,
        totals: &Totals,
        rejects: &[StoredReject],
        error: &str,
        permanent: bool,
    ) -> Result<(), DatabaseError> {
        let ending = Ending { state: LoadState::Failed, error: Some(error), permanent, table_oid: None };
        self.give_up(database, totals, super::super::within_failure_limits(rejects), &ending).await?;
        Ok(())
    }
}

fn split_row(row: &PgRow) -> Result<SplitRow, DatabaseError> {
    let number = |column: &str| get::<i64>(row, column).map(i64::unsigned_abs);
    let split = Split {
        number: get::<i32>(row, "split")?.unsigned_abs(),
        start: Position {
            offset: number("byte_offset")?,
            line: number("first_line")?,
            record: number("first_record")?,
        },
        bytes: number("bytes")?,
        lines: number("lines")?,
        records: number("records")?,
    };
    let counts = match get::<String>(row, "state")?.as_str() {
        "loaded" => Some(Counts {
            read: split.records,
            loaded: number("loaded")?,
            rejected: number("rejected")?,
            skipped: number("skipped")?,
            ..Counts::default()
        }),
        _ => None,
    };
    Ok(SplitRow { split, counts })
}
