//! The statements that make a table for a pipeline.

use transform::{ColumnType, Pipeline};

use super::Dialect;
use super::name::{NameError, TableName, quote};

/// Which load a row came with.
pub(super) const LOAD_ID: &str = "_load_id";
/// Which record of its object a row is.
pub(super) const RECORD: &str = "_record";

/// A column type as the dialect spells it. SQLite tables are strict, so only its storage classes are left.
pub(super) fn type_name(column: ColumnType, dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => column.to_string(),
        Dialect::Sqlite => match column {
            ColumnType::Bool | ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 => "integer",
            ColumnType::Float4 | ColumnType::Float8 => "real",
            ColumnType::Bytea => "blob",
            ColumnType::Numeric(_)
            | ColumnType::Text
            | ColumnType::Varchar(_)
            | ColumnType::Char(_)
            | ColumnType::Date
            | ColumnType::Time(_)
            | ColumnType::Timestamp(_)
            | ColumnType::Timestamptz(_)
            | ColumnType::Json
            | ColumnType::Jsonb
            | ColumnType::Uuid => "text",
        }
        .to_owned(),
    }
}

/// The statements that make a table, in the order a load runs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableDdl {
    /// Before the rows.
    pub(super) create: String,
    /// After the rows, in the same transaction: building an index once is cheaper than keeping it up row by row.
    pub(super) finish: Vec<String>,
}

/// In the text SQLite keeps of the statement that made a table: the load it was. It stands as long as the table does,
/// through `alter table` and `vacuum`.
const MADE_BY: &str = "/* made by load ";

/// The load that ran the statement, by its text.
pub(super) fn made_by(create: &str) -> Option<i64> {
    let (_, rest) = create.split_once(MADE_BY)?;
    rest.split_once(' ')?.0.parse().ok()
}

/// `load` is the one that makes the table, where that is to be seen later.
pub(super) fn table_ddl(
    pipeline: &Pipeline,
    table: &TableName,
    dialect: Dialect,
    load: Option<i64>,
) -> Result<TableDdl, NameError> {
    let key = &pipeline.schema.primary_key;
    let mut lines = Vec::new();
    for field in &pipeline.schema.fields {
        let is_key = key.contains(&field.name);
        let mut column_type = type_name(field.column_type(), dialect);
        // A lone key column of the type `integer` would be SQLite's row number, where NULL means "make one up";
        // `int` holds the same values and is a column like any other.
        if dialect == Dialect::Sqlite && is_key && key.len() == 1 && column_type == "integer" {
            column_type = "int".into();
        }
        let not_null = if field.constraints.required || is_key { " not null" } else { "" };
        lines.push(format!("{} {column_type}{not_null}", quote(&field.name)?));
    }
    if pipeline.target.lineage {
        let bigint = type_name(ColumnType::Int8, dialect);
        lines.extend([format!("{} {bigint}", quote(LOAD_ID)?), format!("{} {bigint}", quote(RECORD)?)]);
    }
    let finish = match dialect {
        Dialect::Postgres => add_key(table, key)?.into_iter().chain([analyze(table)]).collect(),
        Dialect::Sqlite => {
            lines.extend(primary_key(table, key)?);
            Vec::new()
        }
    };
    let strict = if dialect == Dialect::Sqlite { " strict" } else { "" };
    let made_by = load.map(|load| format!(" {MADE_BY}{load} */")).unwrap_or_default();
    let create = format!("create table {} ({made_by}\n    {}\n){strict}", table.quoted(), lines.join(",\n    "));
    Ok(TableDdl { create, finish })
}

/// The key of a table that a load made on PostgreSQL.
pub(super) fn add_key(table: &TableName, key: &[String]) -> Result<Option<String>, NameError> {
    Ok(primary_key(table, key)?.map(|key| format!("alter table {} add {key}", table.quoted())))
}

/// The statistics of such a table.
pub(super) fn analyze(table: &TableName) -> String {
    format!("analyze {}", table.quoted())
}

pub(super) fn primary_key_name(table: &TableName) -> String {
    table.derived("pkey")
}

fn primary_key(table: &TableName, key: &[String]) -> Result<Option<String>, NameError> {
    if key.is_empty() {
        return Ok(None);
    }
    let columns = key.iter().map(|name| quote(name)).collect::<Result<Vec<_>, _>>()?.join(", ");
    Ok(Some(format!("constraint {} primary key ({columns})", quote(&primary_key_name(table))?)))
}

/// The SQL text that makes the pipeline's table: what a load runs when `create = true` and the table is missing.
pub fn ddl(pipeline: &Pipeline, dialect: Dialect) -> Result<String, NameError> {
    let table = TableName::parse(&pipeline.target.table)?;
    let table = if dialect == Dialect::Sqlite { table.in_sqlite()? } else { table };
    let made = table_ddl(pipeline, &table, dialect, None)?;
    let statements: Vec<String> =
        std::iter::once(made.create).chain(made.finish).map(|statement| format!("{statement};\n")).collect();
    Ok(statements.concat())
}
