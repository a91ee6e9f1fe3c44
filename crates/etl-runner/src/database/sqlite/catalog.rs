//! What SQLite says about a table.

use super::super::TableName;
use super::super::error::{DatabaseError, Doing};
use super::super::shape::{LiveColumn, LiveTable, LiveType, TableKind};
use super::{Session, Sqlite, get, statement};

impl Session {
    pub(super) async fn describe(&mut self, table: &TableName) -> Result<Option<LiveTable>, DatabaseError> {
        let doing = Doing::Describe(table);
        let query = statement(
            "select name, type as kind from sqlite_schema \
             where type in ('table', 'view') and name = ?1 collate nocase limit 1",
        );
        let Some(found) = self.rows(query.bind(table.name()), doing).await?.into_iter().next() else {
            return Ok(None);
        };
        let name: String = get(&found, "name")?;
        let kind = if get::<String>(&found, "kind")? == "view" { TableKind::View } else { TableKind::Table };
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
        Ok(Some(LiveTable {
            name: table.clone(),
            oid: None,
            kind,
            columns,
            primary_key: key.into_iter().map(|(_, name)| name).collect(),
            row_security: false,
        }))
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
