//! The ledger's own tables: which versions there are, how they are made, and the SQL an administrator can read first.
//!
//! sqlx's migrator keeps its record in a table of ours, so nothing lands in `public`.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use super::Dialect;
use super::error::DatabaseError;
use super::name::{NameError, literal, quote};

/// Version, name and SQL of a step.
type Step = (i64, &'static str, &'static str);

/// Oldest first. A step that was released is never edited. SQLite has one writer, so it has no splits.
const POSTGRES: [Step; 2] = [
    (1, "ledger", include_str!("../../migrations/postgres/0001_ledger.sql")),
    (2, "split", include_str!("../../migrations/postgres/0002_split.sql")),
];
const SQLITE: [Step; 1] = [(1, "ledger", include_str!("../../migrations/sqlite/0001_ledger.sql"))];

/// The version this program works with.
pub(super) const fn version(dialect: Dialect) -> i64 {
    match dialect {
        Dialect::Postgres => POSTGRES[POSTGRES.len() - 1].0,
        Dialect::Sqlite => SQLITE[SQLITE.len() - 1].0,
    }
}

/// Serialises everyone who makes the ledger in one database. The number means nothing, it only has to be ours.
pub(super) const MIGRATION_LOCK: i64 = 0x6171_7565_6475_6374;

/// The migrator for a dialect. It takes no locks of its own: those would belong to the session, and a pooler may give
/// the next statement to another one. Callers hold a transaction around it.
pub(super) fn migrator(dialect: Dialect) -> Migrator {
    let mut migrator = Migrator::with_migrations(steps(dialect).iter().map(migration).collect());
    migrator.dangerous_set_table_name(match dialect {
        Dialect::Postgres => "aqueduct.migration",
        Dialect::Sqlite => "aqueduct_migration",
    });
    if dialect == Dialect::Postgres {
        migrator.create_schema("aqueduct");
    }
    migrator.set_locking(false);
    migrator
}

/// The newest of the recorded steps, oldest first with their checksums; `None` when there is none. Refuses a ledger that
/// is newer than this program, and one that other statements made.
pub(super) fn newest(
    dialect: Dialect,
    server: &str,
    recorded: &[(i64, Vec<u8>)],
) -> Result<Option<i64>, DatabaseError> {
    let newest = recorded.last().map(|(version, _)| *version);
    let known = version(dialect);
    if let Some(found) = newest.filter(|&found| found > known) {
        return Err(DatabaseError::LedgerNewer { server: server.to_owned(), found, known });
    }
    let steps: Vec<Migration> = steps(dialect).iter().map(migration).collect();
    for (version, checksum) in recorded {
        if steps.iter().any(|step| step.version == *version && *step.checksum != **checksum) {
            return Err(DatabaseError::LedgerAltered { server: server.to_owned(), version: *version });
        }
    }
    Ok(newest)
}

fn steps(dialect: Dialect) -> &'static [Step] {
    match dialect {
        Dialect::Postgres => &POSTGRES,
        Dialect::Sqlite => &SQLITE,
    }
}

fn migration(&(version, name, sql): &Step) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// What an administrator sets up beyond the ledger's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// A role that may load: members write the ledger. Rights on the target tables are the owner's to give.
    pub app_role: Option<String>,
    /// A role that may look: members read the ledger, but not the raw bytes of rejects.
    pub read_role: Option<String>,
}

/// The names offered when roles are asked for without names.
impl Setup {
    pub fn with_default_roles() -> Self {
        Self { app_role: Some("aqueduct_app".into()), read_role: Some("aqueduct_read".into()) }
    }

    /// The statements that make the roles and grant the rights.
    pub(super) fn grants(&self) -> Result<Vec<String>, NameError> {
        let mut statements = Vec::new();
        let roles = [
            (
                &self.app_role,
                [
                    "select on aqueduct.migration",
                    "select, insert, update on aqueduct.load",
                    "select, insert, delete on aqueduct.reject",
                    "select, insert, update, delete on aqueduct.split",
                ],
            ),
            (
                &self.read_role,
                [
                    "select on aqueduct.migration",
                    "select on aqueduct.load",
                    "select on aqueduct.split",
                    "select (load_id, record, line, byte_offset, field, code, message) on aqueduct.reject",
                ],
            ),
        ];
        for (role, rights) in roles {
            let Some(role) = role else { continue };
            let quoted = quote(role)?;
            // `create role` has no `if not exists`; the name is a literal in one place and quoted in the other.
            statements.push(format!(
                "do {} ",
                literal(&format!(
                    "begin if not exists (select from pg_catalog.pg_roles where rolname = {}) then \
                     create role {quoted} nologin; end if; end",
                    literal(role)
                ))
            ));
            statements.push(format!("grant usage on schema aqueduct to {quoted}"));
            statements.extend(rights.map(|right| format!("grant {right} to {quoted}")));
        }
        Ok(statements.into_iter().map(|statement| statement.trim_end().to_owned()).collect())
    }
}

/// All of `setup` as one SQL text for PostgreSQL that may be run again. It leaves the same ledger, with the same record
/// of versions, as running `setup` does.
pub fn setup_sql(setup: &Setup) -> Result<String, NameError> {
    let mut sql = String::from(
        "begin;\n\ncreate schema if not exists aqueduct;\n\n\
         -- One row per version of the ledger's tables.\n\
         create table if not exists aqueduct.migration (\n    \
         version bigint primary key,\n    \
         description text not null,\n    \
         installed_on timestamptz not null default now(),\n    \
         success boolean not null,\n    \
         checksum bytea not null,\n    \
         execution_time bigint not null\n);\n\n",
    );
    for step in POSTGRES {
        let checksum: String = migration(&step).checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        sql.push_str(step.2);
        sql.push_str(&format!(
            "\ninsert into aqueduct.migration (version, description, success, checksum, execution_time)\n    \
             values ({}, {}, true, '\\x{checksum}', 0)\n    on conflict do nothing;\n\n",
            step.0,
            literal(step.1)
        ));
    }
    for statement in setup.grants()? {
        sql.push_str(&statement);
        sql.push_str(";\n");
    }
    sql.push_str("\ncommit;\n");
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_from_one() {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            let versions: Vec<i64> = steps(dialect).iter().map(|step| step.0).collect();
            assert_eq!(versions, (1..=version(dialect)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn hostile_role_names_stay_names() {
        let setup = Setup { app_role: Some("a\"; drop schema aqueduct; --'".into()), read_role: None };
        let statements = setup.grants().unwrap();
        assert_eq!(statements[1], "grant usage on schema aqueduct to \"a\"\"; drop schema aqueduct; --'\"");
        assert!(statements[0].contains("create role \"a\"\"; drop schema aqueduct; --''\" nologin"));
        assert!(statements[0].contains("rolname = ''a\"; drop schema aqueduct; --''''''"));
    }
}
