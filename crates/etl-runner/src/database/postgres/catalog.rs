//! What the catalogue says about a table.

use transform::ColumnType;
use transform::pipeline::Mode;

use super::super::error::{DatabaseError, Doing};
use super::super::shape::{LiveColumn, LiveKey, LiveTable, LiveType, TableKind};
use super::super::{Lack, Refusal, TableName, quote};
use super::{Postgres, Session, get, statement};

// `mark` is made of the versions of all rows that describe a table: any change of it gives another one.
const TABLE: &str = "\
    select c.oid::bigint as oid, c.relkind::text as kind, coalesce(row_security_active(c.oid), false) as row_security, \
        c.xmin::text || c.ctid::text || coalesce((select string_agg(a.xmin::text || a.ctid::text, ',' order by a.attnum) \
            from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0), '') \
        || coalesce((select string_agg(i.xmin::text || i.ctid::text, ',' order by i.indexrelid) \
            from pg_catalog.pg_index i where i.indrelid = c.oid), '') as mark \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where n.nspname = $1 and c.relname = $2 \
    union all \
    select t.oid::bigint, 'type', false, '' \
    from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace \
    where n.nspname = $1 and t.typname = $2 and t.typrelid = 0 and t.typisdefined \
        and not exists (select from pg_catalog.pg_type e where e.typarray = t.oid) \
    order by 2";

// A domain is the type below it, with its own default and its own `not null`, and may be made of another domain. An array
// of texts keeps them as a column of texts does, unless a length is given, at which blanks are cut off.
const COLUMNS: &str = "\
    with recursive base (attnum, type, typmod, not_null, has_default) as ( \
        select a.attnum, a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef \
        from pg_catalog.pg_attribute a where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped \
        union all \
        select b.attnum, t.typbasetype, t.typtypmod, b.not_null or t.typnotnull, \
            b.has_default or t.typdefault is not null \
        from base b join pg_catalog.pg_type t on t.oid = b.type where t.typtype = 'd' \
    ) \
    select a.attname::text as name, a.attnum::int as position, not b.not_null as nullable, b.has_default, \
        a.attidentity <> '' as identity, a.attidentity = 'a' as always, a.attgenerated <> '' as generated, \
        pg_catalog.format_type(a.atttypid, a.atttypmod) as declared, \
        pg_catalog.format_type(b.type, b.typmod) as type_name, \
        (tn.nspname = 'pg_catalog' and t.typtype = 'b') as built_in, \
        coalesce(e.typtype, t.typtype) = 'e' \
            or (coalesce(e.oid, 0) in ('pg_catalog.text'::regtype, 'pg_catalog.varchar'::regtype) and b.typmod = -1) \
            or exists (select from pg_catalog.pg_depend d \
                join pg_catalog.pg_extension x on x.oid = d.refobjid and x.extname = 'citext' \
                where d.classid = 'pg_catalog.pg_type'::regclass and d.objid = coalesce(e.oid, t.oid) \
                    and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e') as keeps_texts \
    from base b \
    join pg_catalog.pg_attribute a on a.attrelid = $1::oid and a.attnum = b.attnum \
    join pg_catalog.pg_type t on t.oid = b.type and t.typtype <> 'd' \
    join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace \
    left join pg_catalog.pg_type e on e.typarray = t.oid \
    order by a.attnum";

// The primary key first. A partial index, and one of expressions, let some rows in twice.
const KEYS: &str = "\
    select i.indisprimary as is_primary, not i.indimmediate as deferrable, array( \
        select a.attname::text from unnest(i.indkey::smallint[]) with ordinality k (attnum, place) \
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
        where k.place <= i.indnkeyatts order by k.place) as columns \
    from pg_catalog.pg_index i \
    where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null \
    order by i.indisprimary desc, i.indexrelid";

// Unique indexes without a constraint are named as constraints in errors, too.
const CONSTRAINT_COLUMNS: &str = "\
    with keys as ( \
        select c.conrelid as relation, c.conkey as key \
        from pg_catalog.pg_constraint c where c.conname = $3 \
        union \
        select i.indrelid, i.indkey::smallint[] \
        from pg_catalog.pg_index i join pg_catalog.pg_class ic on ic.oid = i.indexrelid where ic.relname = $3 \
    ) \
    select distinct a.attname::text as name, a.attnum \
    from keys \
    join pg_catalog.pg_class c on c.oid = keys.relation \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = any (keys.key) \
    where n.nspname || '.' || c.relname in ($1, $2) and a.attnum > 0 \
    order by a.attnum";

// By oid: a name would have to be readable first. Without the thing there is no answer, which is no right.
const RIGHTS: &str = "\
    select current_user::text as role, pg_catalog.current_database()::text as database, \
        n.oid is not null as schema_there, c.oid is not null as table_there, \
        coalesce(has_schema_privilege(n.oid, 'usage'), false) as schema_usage, \
        coalesce(has_schema_privilege(n.oid, 'create'), false) as schema_create, \
        coalesce(has_any_column_privilege(c.oid, 'insert'), false) as table_insert, \
        coalesce(has_table_privilege(c.oid, 'delete'), false) as table_delete, \
        coalesce(has_any_column_privilege(c.oid, 'update') and has_any_column_privilege(c.oid, 'select'), false) \
            as table_update, \
        has_database_privilege(current_database(), 'temporary') as database_temporary, \
        has_database_privilege(current_database(), 'create') as database_create, \
        current_setting('default_transaction_read_only') = 'on' as read_only, \
        pg_is_in_recovery() as standby, \
        l.oid is not null and r.oid is not null as ledger_there, \
        coalesce(has_schema_privilege(a.oid, 'usage') and has_table_privilege(l.oid, 'select') \
            and has_table_privilege(l.oid, 'insert') and has_table_privilege(l.oid, 'update') \
            and has_table_privilege(r.oid, 'insert'), false) as ledger_write \
    from (select) one \
    left join pg_catalog.pg_namespace n on n.nspname = $1 \
    left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = $2 and c.relkind in ('r', 'p', 'f', 'v') \
    left join pg_catalog.pg_namespace a on a.nspname = 'aqueduct' \
    left join pg_catalog.pg_class l on l.relnamespace = a.oid and l.relname = 'load' \
    left join pg_catalog.pg_class r on r.relnamespace = a.oid and r.relname = 'reject'";

/// A table, and what to tell by that it is still the same. The types of its columns are looked up again only with it:
/// a domain whose `not null` changes is noticed by the next run.
#[derive(Clone, Debug)]
pub(super) struct Described {
    live: LiveTable,
    mark: String,
}

impl Session {
    /// Where a name without a schema is looked up, or would be created.
    pub(super) async fn schema_of(&mut self, table: &TableName) -> Result<Option<String>, DatabaseError> {
        let query = statement(
            "select coalesce((select n.nspname::text from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where c.relname = $1 and c.relkind in ('r', 'p', 'f', 'v', 'm') \
             and pg_catalog.pg_table_is_visible(c.oid)), current_schema()::text) as schema",
        );
        get(&self.row(query.bind(table.name()), Doing::Describe(table)).await?, "schema")
    }

    pub(super) async fn describe(&mut self, table: &TableName) -> Result<Option<LiveTable>, DatabaseError> {
        Ok(self.describe_since(table, None).await?.map(|described| described.live))
    }

    /// The same, with fewer questions when the table has not changed since it was last described.
    async fn describe_since(
        &mut self,
        table: &TableName,
        last: Option<Described>,
    ) -> Result<Option<Described>, DatabaseError> {
        let doing = Doing::Describe(table);
        let query = statement(TABLE).bind(table.schema()).bind(table.name());
        let Some(found) = self.rows(query, doing).await?.into_iter().next() else { return Ok(None) };
        let mark: String = get(&found, "mark")?;
        let row_security = get(&found, "row_security")?;
        if let Some(mut last) = last
            && last.mark == mark
            && last.live.name == *table
        {
            last.live.row_security = row_security;
            return Ok(Some(last));
        }
        let oid: i64 = get(&found, "oid")?;
        let kind = match get::<String>(&found, "kind")?.as_str() {
            "p" => TableKind::Partitioned,
            "f" => TableKind::Foreign,
            "v" => TableKind::View,
            "m" => TableKind::MaterializedView,
            "S" => TableKind::Other("a sequence"),
            "c" => TableKind::Other("a composite type"),
            "type" => TableKind::Other("a type"),
            "i" | "I" => TableKind::Other("an index"),
            _ => TableKind::Table,
        };
        let mut columns = Vec::new();
        for row in self.rows(statement(COLUMNS).bind(oid), doing).await? {
            let (declared, base): (String, String) = (get(&row, "declared")?, get(&row, "type_name")?);
            let known = if get(&row, "built_in")? { ColumnType::parse(&base).ok() } else { None };
            let named = || if declared == base { base.clone() } else { format!("{declared}, a domain over {base}") };
            let column_type = match known {
                Some(column) => LiveType::Known(column),
                None if get(&row, "keeps_texts")? => LiveType::Texts(named()),
                None => LiveType::Other(named()),
            };
            columns.push(LiveColumn {
                name: get(&row, "name")?,
                column_type,
                nullable: get(&row, "nullable")?,
                has_default: get(&row, "has_default")?,
                identity: get(&row, "identity")?,
                always: get(&row, "always")?,
                generated: get(&row, "generated")?,
                position: get::<i32>(&row, "position")?.unsigned_abs(),
            });
        }
        let mut primary_key = Vec::new();
        let mut keys = Vec::new();
        for row in self.rows(statement(KEYS).bind(oid), doing).await? {
            let key = LiveKey { columns: get(&row, "columns")?, deferrable: get(&row, "deferrable")? };
            if get(&row, "is_primary")? {
                primary_key = key.columns.clone();
            }
            keys.push(key);
        }
        let name = table.clone();
        let oid = u32::try_from(oid).ok();
        let live = LiveTable { name, oid, kind, columns, primary_key, keys, made_by: None, row_security };
        Ok(Some(Described { live, mark }))
    }

    /// Fills in the columns of the constraint that refused a row. The server names the constraint alone.
    pub(super) async fn complete(&mut self, refusal: &mut Refusal, table: &TableName) -> Result<(), DatabaseError> {
        let Some(constraint) = refusal.constraint.as_deref().filter(|_| refusal.columns.is_empty()) else {
            return Ok(());
        };
        let query = statement(CONSTRAINT_COLUMNS).bind(&refusal.table).bind(table.to_string()).bind(constraint);
        let rows = self.rows(query, Doing::Describe(table)).await?;
        refusal.columns = rows.iter().map(|row| get(row, "name")).collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl Postgres {
    pub(in super::super) async fn rights(&mut self, table: &TableName, mode: Mode) -> Result<Vec<Lack>, DatabaseError> {
        let doing = Doing::Describe(table);
        let mut session = self.read(doing).await?;
        let row = session.row(statement(RIGHTS).bind(table.schema()).bind(table.name()), doing).await?;
        self.done(session).await?;
        let has = |column| get::<bool>(&row, column);
        let schema_name = table.schema().unwrap_or("public");
        let (schema, role) = (quote(schema_name)?, quote(&get::<String>(&row, "role")?)?);
        let name = table.quoted();
        let mut lacks = Vec::new();
        let mut lack = |what: String, fix: String, is_permission| lacks.push(Lack { what, fix, is_permission });
        if has("standby")? {
            lack("the server is a standby".into(), "name the primary server in DATABASE_URL".into(), true);
        } else if has("read_only")? {
            let what = "default_transaction_read_only is on".into();
            lack(what, format!("alter role {role} set default_transaction_read_only = off;"), true);
        }
        if !has("schema_there")? {
            lack(
                format!("there is no schema {schema_name}"),
                format!("create schema {schema} authorization {role}"),
                false,
            );
        } else if !has("schema_usage")? {
            lack(
                format!("no right to use the schema {schema_name}"),
                format!("grant usage on schema {schema} to {role}"),
                true,
            );
        }
        if has("table_there")? {
            if !has("table_insert")? {
                lack(format!("no right to insert into {table}"), format!("grant insert on {name} to {role}"), true);
            }
            if mode == Mode::Replace && !has("table_delete")? {
                lack(format!("no right to delete from {table}"), format!("grant delete on {name} to {role}"), true);
            }
            if mode == Mode::Upsert && !has("table_update")? {
                let what = format!("no right to update {table}, or to select from it");
                lack(what, format!("grant select, update on {name} to {role}"), true);
            }
        } else if has("schema_there")? && !has("schema_create")? {
            let what = format!("no right to make {table} in the schema {schema_name}");
            lack(what, format!("grant usage, create on schema {schema} to {role}"), true);
        }
        let database: String = get(&row, "database")?;
        if mode == Mode::Upsert && !has("database_temporary")? {
            let what = format!("no right to make temporary tables in {database}");
            lack(what, format!("grant temporary on database {} to {role}", quote(&database)?), true);
        }
        if !has("ledger_there")? {
            if !has("database_create")? {
                let fix = "etl-runner setup (or the SQL that `etl-runner setup --print` shows)".to_owned();
                lack(format!("there is no ledger in {database} yet, and no right to make it"), fix, true);
            }
        } else if !has("ledger_write")? {
            let fix = "grant ROLE to LOGIN, with the role of `etl-runner setup --app-role ROLE`".to_owned();
            lack("no right to write the ledger".into(), fix, true);
        }
        Ok(lacks)
    }

    pub(crate) async fn describe(&mut self, table: &TableName) -> Result<Option<LiveTable>, DatabaseError> {
        let mut session = self.read(Doing::Describe(table)).await?;
        self.described = session.describe_since(table, self.described.take()).await?;
        self.done(session).await?;
        Ok(self.described.as_ref().map(|described| described.live.clone()))
    }
}
