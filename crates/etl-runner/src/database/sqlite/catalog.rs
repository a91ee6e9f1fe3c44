//! What SQLite says about a table.

use std::collections::BTreeMap;

use super::super::error::{DatabaseError, Doing};
use super::super::shape::{LiveColumn, LiveKey, LiveTable, LiveType, TableKind};
use super::super::{TableName, ddl};
use super::{Session, Sqlite, get, statement};

impl Session {
    pub(super) async fn describe(&mut self, table: &TableName) -> Result<Option<LiveTable>, DatabaseError> {
        let doing = Doing::Describe(table);
        let query = statement(
            "select name, type as kind, coalesce(sql, '') as made from sqlite_schema \
             where type in ('table', 'view', 'index') and name = ?1 collate nocase limit 1",
        );
        let Some(found) = self.rows(query.bind(table.name()), doing).await?.into_iter().next() else {
            return Ok(None);
        };
        let name: String = get(&found, "name")?;
        let kind = match get::<String>(&found, "kind")?.as_str() {
            "view" => TableKind::View,
            "index" => TableKind::Other("an index"),
            _ => TableKind::Table,
        };
        let query = statement(
            "select cid, name, type as declared, \"notnull\" as not_null, dflt_value is not null as has_default, pk, \
             hidden from pragma_table_xinfo(?1) order by cid",
        );
        let rows = self.rows(query.bind(&name), doing).await?;
        let mut key = Vec::new();
        let mut columns = Vec::new();
        let parts = rows.iter().map(|row| get::<i64>(row, "pk")).collect::<Result<Vec<_>, _>>()?;
        let lone_key = parts.iter().filter(|&&part| part > 0).count() == 1;
        for (row, part) in rows.iter().zip(parts) {
            let (column, declared): (String, String) = (get(row, "name")?, get(row, "declared")?);
            if part > 0 {
                key.push((part, column.clone()));
            }
            columns.push(LiveColumn {
                // A lone `integer` key is the row number: left out, SQLite makes one up.
                identity: part > 0 && lone_key && declared.eq_ignore_ascii_case("integer"),
                always: false,
                column_type: LiveType::Other(declared),
                nullable: get::<i64>(row, "not_null")? == 0,
                has_default: get::<i64>(row, "has_default")? != 0,
                // 1 is a virtual table's hidden column, 2 and 3 are computed ones.
                generated: get::<i64>(row, "hidden")? != 0,
                position: u32::try_from(get::<i64>(row, "cid")? + 1).unwrap_or_default(),
                name: column,
            });
        }
        key.sort();
        let primary_key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
        let mut keys = self.unique_indexes(&name, doing).await?;
        // A key that is the row number has no index.
        keys.extend((!primary_key.is_empty()).then(|| primary_key.clone()));
        let keys = keys.into_iter().map(|columns| LiveKey { columns, deferrable: false }).collect();
        Ok(Some(LiveTable {
            name: table.clone(),
            oid: None,
            kind,
            columns,
            primary_key,
            keys,
            made_by: ddl::made_by(&get::<String>(&found, "made")?),
            row_security: false,
        }))
    }

    /// The columns of each unique index. A partial one, and one of expressions, let some rows in twice.
    async fn unique_indexes(&mut self, table: &str, doing: Doing<'_>) -> Result<Vec<Vec<String>>, DatabaseError> {
        let query = statement(
            "select list.seq as number, part.name as name from pragma_index_list(?1) as list \
             join pragma_index_xinfo(list.name) as part \
             where list.\"unique\" and not list.partial and part.key order by list.seq, part.seqno",
        );
        let mut indexes: BTreeMap<i64, Option<Vec<String>>> = BTreeMap::new();
        for row in self.rows(query.bind(table), doing).await? {
            let columns = indexes.entry(get(&row, "number")?).or_insert_with(|| Some(Vec::new()));
            match (get::<Option<String>>(&row, "name")?, &mut *columns) {
                (Some(name), Some(columns)) => columns.push(name),
                (None, _) | (_, None) => *columns = None,
            }
        }
        Ok(indexes.into_values().flatten().collect())
    }

    /// How the values of a column are compared by the key of just these columns. A key that is the row number has no index.
    pub(super) async fn collation(
        &mut self,
        table: &TableName,
        key: &[String],
        column: &str,
    ) -> Result<String, DatabaseError> {
        let query = statement(
            "select part.coll as coll from pragma_index_list(?1) as list \
             join pragma_index_xinfo(list.name) as part \
             where list.\"unique\" and not list.partial and part.key and part.name = ?2 \
             and (select json_group_array(name) from (select other.name from pragma_index_xinfo(list.name) as other \
                 where other.key order by other.name)) \
               = (select json_group_array(value) from (select value from json_each(?3) order by value)) limit 1",
        );
        let query = query.bind(table.name()).bind(column).bind(serde_json::json!(key).to_string());
        let rows = self.rows(query, Doing::Describe(table)).await?;
        rows.first().map_or(Ok("BINARY".into()), |row| get(row, "coll"))
    }
}

impl Sqlite {
    pub(in super::super) async fn describe(&mut self, table: &TableName) -> Result<Option<LiveTable>, DatabaseError> {
        let mut session = self.read(Doing::Describe(table)).await?;
        let found = session.describe(table).await?;
        self.done(session).await?;
        Ok(found)
    }
}
