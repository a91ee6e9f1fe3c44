//! `ddl`: the SQL that makes a pipeline's table.

use cli::Exit;
use etl_runner::database::{self, DatabaseUrl, Dialect};
use serde::Serialize;

use super::failure::Failure;
use super::{Context, pipelines};
use crate::config::Ddl;

#[derive(Serialize)]
struct Printed<'a> {
    pipeline: &'a str,
    dialect: &'static str,
    sql: &'a str,
}

pub(super) fn ddl(args: &Ddl, context: &Context) -> Result<Exit, Failure> {
    let file = pipelines::read(&args.pipeline)?;
    let dialect = match (args.sqlite, args.postgres) {
        (true, _) => Dialect::Sqlite,
        (_, true) => Dialect::Postgres,
        // The one a run would use.
        (false, false) => match context.resolve(&args.database)?.url() {
            DatabaseUrl::Sqlite(_) => Dialect::Sqlite,
            DatabaseUrl::Postgres(_) => Dialect::Postgres,
        },
    };
    let sql = database::ddl(&file.pipeline, dialect).map_err(|error| Failure::name(&error, &file.path))?;
    let dialect = match dialect {
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgres",
    };
    context.print(&sql, &Printed { pipeline: &file.pipeline.name, dialect, sql: &sql })?;
    Ok(Exit::Done)
}
