//! `setup`: the ledger and its roles, made or printed.

use cli::{Exit, Screen};
use etl_runner::database::{self, Database, DatabaseUrl};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::signals::block_on;
use crate::config::Setup;

#[derive(Serialize)]
struct Printed {
    sql: String,
}

#[derive(Serialize)]
struct Made<'a> {
    database: String,
    app_role: Option<&'a str>,
    read_role: Option<&'a str>,
}

pub(super) fn setup(args: &Setup, context: &Context) -> Result<Exit, Failure> {
    let roles = database::Setup { app_role: args.app_role.clone(), read_role: args.read_role.clone() };
    if args.print {
        let sql = database::setup_sql(&roles).map_err(|error| Failure::database(&error.into()))?;
        context.print(&sql, &Printed { sql: sql.clone() })?;
        return Ok(Exit::Done);
    }
    let config = context.resolve(&args.database)?;
    if matches!(config.url(), DatabaseUrl::Sqlite(_)) && roles != database::Setup::default() {
        return Err(Failure::usage(
            "SQLite has no roles",
            "leave --app-role and --read-role out, or name a PostgreSQL database",
        ));
    }
    let address = block_on(async {
        let mut database = Database::connect(&config).await?;
        database.setup(&roles).await?;
        let address = database.to_string();
        database.close().await;
        Ok(address)
    })?
    .map_err(|error| Failure::database(&error))?;

    let mut text = format!("the ledger is ready in {}\n", cli::escape(&address));
    if let Some(role) = &args.app_role {
        text.push_str(&format!("role {}: its members may load\n", cli::escape(role)));
    }
    if let Some(role) = &args.read_role {
        text.push_str(&format!("role {}: its members may look\n", cli::escape(role)));
    }
    context.print(
        &text,
        &Made { database: address, app_role: args.app_role.as_deref(), read_role: args.read_role.as_deref() },
    )?;
    if let Some(role) = &args.app_role
        && !context.terminal.quiet
    {
        let role = database::quote(role).map_err(|error| Failure::database(&error.into()))?;
        Screen::note(format!("rights on the target tables are their owner's to give, such as: grant select, insert, delete on TABLE to {role}"))
            .help(format!("make a login a member with: grant {role} to LOGIN"))
            .show(context.terminal.err);
    }
    Ok(Exit::Done)
}
