//! Rows that replace those with the same key.
//!
//! All rows of an object go into a temporary table first; of those with the same key the last one stays, and what stays is
//! merged into the table by one statement. Rows it refuses are told apart from there on by halving.

use super::super::ddl::{LOAD_ID, RECORD};
use super::super::error::{DatabaseError, Doing};
use super::super::{LiveTable, Refusal, merge_clause};
use super::exact::{PostgresWay, STAGING, Taken};
use super::load::{CopyFormat, PostgresLoad};
use super::{Session, built, get, statement};
use transform::ColumnType;

/// How staged rows get into the table.
#[derive(Debug)]
pub struct PostgresMerge {
    way: PostgresWay,
    /// The key as the table compares it, of staged rows.
    key: String,
    key_columns: String,
    staged_columns: Vec<String>,
}

impl PostgresLoad {
    /// Prepares the transaction; `columns` are those of the table, `types` those of the fields.
    pub(in super::super) async fn begin_upsert(
        &mut self,
        table: &LiveTable,
        columns: &[String],
        types: &[ColumnType],
        format: CopyFormat,
        key: &[String],
    ) -> Result<PostgresMerge, DatabaseError> {
        let clause = merge_clause(columns, key)?;
        let way = self.prepare(table, columns, types, format, Taken::Updates(clause)).await?;
        let session = self.session()?;
        session.simple(way.staging.clone(), Doing::Stage(&table.name)).await?;
        let collations = session.collations(table, key).await?;
        let places: Vec<usize> =
            key.iter().filter_map(|name| Some(columns.iter().position(|column| column == name)? + 1)).collect();
        let compared = key.iter().zip(&places).map(|(name, &place)| {
            let collation = collations.iter().find(|(column, _)| column == name);
            match collation {
                Some((_, collation)) => format!("{} collate {collation}", way.value(place)),
                None => way.value(place),
            }
        });
        Ok(PostgresMerge {
            key: compared.collect::<Vec<_>>().join(", "),
            key_columns: places.iter().map(|place| format!("c{place}")).collect::<Vec<_>>().join(", "),
            staged_columns: (1..=types.len() + [LOAD_ID, RECORD].len()).map(|place| format!("c{place}")).collect(),
            way,
        })
    }

    /// Begins a segment of rows to be staged.
    pub(crate) async fn start_staging(&mut self, merge: &PostgresMerge) -> Result<(), DatabaseError> {
        self.open_copy(merge.way.stage.clone(), &merge.staged_columns, merge.way.format, true).await
    }

    /// Takes out all staged rows but the last of each key; gives how many they were.
    pub(in super::super) async fn drop_duplicates(&mut self, merge: &PostgresMerge) -> Result<u64, DatabaseError> {
        let name = self.table.clone();
        let doing = Doing::Stage(&name);
        let session = self.session()?;
        session.simple(format!("analyze {STAGING} (n, {})", merge.key_columns), doing).await?;
        let delete = format!(
            "delete from {STAGING} s where not exists \
             (select from (select max(n) as n from {STAGING} group by {}) last where last.n = s.n)",
            merge.key
        );
        session.run(built(delete), doing).await
    }

    /// Merges ranges of staged rows, the last one first, and gives the refusal of each row that the table did not take, with
    /// its record. With more than `most` of them it stops; what is left in `ranges` is still to do.
    pub(in super::super) async fn merge(
        &mut self,
        merge: &PostgresMerge,
        ranges: &mut Vec<(i64, i64)>,
        most: u64,
    ) -> Result<Vec<Refusal>, DatabaseError> {
        self.move_staged(&merge.way, ranges, most).await
    }
}

impl Session {
    /// The columns that are compared in another way than their type is.
    async fn collations(
        &mut self,
        table: &LiveTable,
        columns: &[String],
    ) -> Result<Vec<(String, String)>, DatabaseError> {
        let query = statement(
            "select a.attname::text as name, quote_ident(n.nspname) || '.' || quote_ident(c.collname) as collation \
             from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid \
             join pg_catalog.pg_collation c on c.oid = a.attcollation \
             join pg_catalog.pg_namespace n on n.oid = c.collnamespace \
             where a.attrelid = $1::oid and a.attname = any ($2) and a.attcollation <> t.typcollation",
        );
        let query = query.bind(table.oid.map(i64::from)).bind(columns);
        let rows = self.rows(query, Doing::Describe(&table.name)).await?;
        rows.iter().map(|row| Ok((get(row, "name")?, get(row, "collation")?))).collect()
    }
}
