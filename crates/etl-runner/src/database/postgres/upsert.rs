//! Rows that replace those with the same key.
//!
//! All rows of an object go into a temporary table first; of those with the same key the last one stays, and what stays is
//! merged into the table by one statement. Rows it refuses are told apart from there on by halving.

use super::super::ddl::{LOAD_ID, RECORD};
use super::super::error::{DatabaseError, Doing};
use super::super::{Dialect, LiveTable, Refusal, merge_clause};
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
        let clause = merge_clause(columns, key, Dialect::Postgres)?;
        let way = self.prepare(table, columns, types, format, Taken::Updates(clause)).await?;
        let session = self.session()?;
        // However many rows there are, one statement takes them.
        let staging = format!("set local statement_timeout = '24h'; {}", way.staging);
        session.simple(staging, Doing::Stage(&table.name)).await?;
        let compared = session.compared(table, key).await?;
        let places: Vec<usize> =
            key.iter().filter_map(|name| Some(columns.iter().position(|column| column == name)? + 1)).collect();
        let keys = key.iter().zip(&places).map(|(name, place)| {
            let Some(as_type) = compared.iter().find(|compared| compared.column == *name) else {
                return format!("c{place}");
            };
            let cast = as_type.cast.as_ref().map(|cast| format!("::{cast}")).unwrap_or_default();
            let collation = as_type.collation.as_ref().map(|name| format!(" collate {name}")).unwrap_or_default();
            format!("c{place}{cast}{collation}")
        });
        Ok(PostgresMerge {
            key: keys.collect::<Vec<_>>().join(", "),
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
    /// How the table compares the columns of its key, where a staged value is compared in another way. Enums are compared
    /// by their labels, domains as what they are made of, so that a value that is none spoils nothing here.
    async fn compared(&mut self, table: &LiveTable, key: &[String]) -> Result<Vec<Compared>, DatabaseError> {
        let query = statement(
            "with recursive base (attnum, type) as ( \
                select a.attnum, a.atttypid from pg_catalog.pg_attribute a where a.attrelid = $1::oid and a.attnum > 0 \
                union all \
                select b.attnum, t.typbasetype from base b join pg_catalog.pg_type t on t.oid = b.type where t.typtype = 'd' \
             ) \
             select a.attname::text as name, \
                case when t.typtype = 'b' and t.typcategory = 'S' and tn.nspname <> 'pg_catalog' \
                    then pg_catalog.format_type(t.oid, -1) end as cast_to, \
                (select quote_ident(cn.nspname) || '.' || quote_ident(c.collname) from pg_catalog.pg_collation c \
                    join pg_catalog.pg_namespace cn on cn.oid = c.collnamespace \
                    where c.oid = i.indcollation[k.place - 1] and c.collname <> 'default') as collation \
             from pg_catalog.pg_index i \
             cross join unnest(i.indkey::smallint[]) with ordinality k (attnum, place) \
             join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
             join base b on b.attnum = a.attnum \
             join pg_catalog.pg_type t on t.oid = b.type and t.typtype <> 'd' \
             join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace \
             where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indimmediate \
                and i.indpred is null and i.indexprs is null and k.place <= i.indnkeyatts \
                and (select array_agg(ka.attname::text order by ka.attname::text collate \"C\") \
                    from unnest(i.indkey::smallint[]) with ordinality kk (attnum, place) \
                    join pg_catalog.pg_attribute ka on ka.attrelid = i.indrelid and ka.attnum = kk.attnum \
                    where kk.place <= i.indnkeyatts) = (select array_agg(name order by name collate \"C\") from unnest($2::text[]) name) \
             order by i.indisprimary desc, i.indexrelid, k.place",
        );
        let query = query.bind(table.oid.map(i64::from)).bind(key);
        let rows = self.rows(query, Doing::Describe(&table.name)).await?;
        let compared = |row| {
            Ok(Compared { column: get(row, "name")?, cast: get(row, "cast_to")?, collation: get(row, "collation")? })
        };
        rows.iter().map(compared).collect()
    }
}

/// How a column of the key is compared.
#[derive(Debug)]
struct Compared {
    column: String,
    /// The type a staged text is read as.
    cast: Option<String>,
    collation: Option<String>,
}
