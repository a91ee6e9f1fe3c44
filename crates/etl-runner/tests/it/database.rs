//! The ledger, the load transaction and the table's shape, against real servers.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use etl_runner::database::{
    Begin, CopyFormat, Database, DatabaseConfig, DatabaseError, Dialect, Given, LiveTable, LiveType, LoadFilter,
    LoadTransaction, PostgresLoad, RefusalKind, SecretText, Setup, SqliteRows, TableName, compare, ddl, setup_sql,
    written_columns,
};
use etl_runner::ledger::{
    Counts, LoadState, NewLoad, ObjectVersion, RejectLine, Replaces, Standing, StoredReject, Timestamp, Totals,
    standing,
};
use testkit::{Aws, Direction, PASSWORD_GROUP, Postgres, PostgresOptions, Proxy, TestDatabase};
use transform::{Cell, ColumnType, Pipeline, RowRef, RowSink, Span};
use uuid::Uuid;

const CUSTOMERS: &str = r#"
version = 1
name = "customers"
[source]
path = "customers/*.csv"
[schema]
primaryKey = ["id"]
fields = [
  { name = "id", type = "integer" },
  { name = "name", type = "string" },
]
[target]
table = "public.customer"
"#;

fn customers() -> Pipeline {
    pipeline(CUSTOMERS)
}

fn pipeline(text: &str) -> Pipeline {
    Pipeline::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn config(url: &str) -> DatabaseConfig {
    DatabaseConfig::new(Given { url: Some(&SecretText::new(url)), ..Given::default() }).unwrap()
}

/// Connected, with a ledger.
async fn open(url: &str) -> Database {
    let mut database = Database::connect(&config(url)).await.unwrap();
    database.ensure_ledger().await.unwrap();
    database
}

async fn sqlite(path: &Path) -> Database {
    let mut database = Database::connect(&DatabaseConfig::sqlite(path)).await.unwrap();
    database.ensure_ledger().await.unwrap();
    database
}

fn object(key: &str, version: &str) -> ObjectVersion {
    ObjectVersion {
        uri: format!("s3://bucket/{key}"),
        key: key.to_owned(),
        version: version.to_owned(),
        etag: Some(format!("etag-{version}")),
        size: Some(100),
        last_modified: Some(Timestamp(1_700_000_000_123_456)),
    }
}

fn new_load(table: &TableName, key: &str) -> NewLoad {
    NewLoad {
        run_id: Uuid::now_v7(),
        pipeline: "customers".into(),
        pipeline_hash: "hash".into(),
        table: table.clone(),
        table_oid: None,
        object: object(key, "v1"),
        started_at: Timestamp::from(SystemTime::now()),
        runner_version: "0.0.0".into(),
        replaces: Replaces::Nothing,
        alone: false,
    }
}

fn totals(loaded: u64, rejected: u64) -> Totals {
    Totals {
        counts: Counts { read: loaded + rejected, loaded, rejected, ..Counts::default() },
        bytes: 1234,
        content_sha256: Some("ab".repeat(32)),
        finished_at: Timestamp::from(SystemTime::now()),
        note: serde_json::json!({ "ignored": ["x"] }),
    }
}

fn reject(record: u64) -> StoredReject {
    StoredReject {
        record,
        line: record + 1,
        offset: record * 10,
        field: Some("id".into()),
        code: "type-error".into(),
        message: "not an integer".into(),
        raw: b"\x00x,\xffy".to_vec(),
    }
}

async fn begin(database: &mut Database, new: &NewLoad) -> LoadTransaction {
    match database.begin_load(new).await.unwrap() {
        Begin::Started(load) => *load,
        other => panic!("expected a load to start, got {other:?}"),
    }
}

fn postgres(load: &mut LoadTransaction) -> &mut PostgresLoad {
    match load {
        LoadTransaction::Postgres(load) => load,
        LoadTransaction::Sqlite(_) => panic!("not PostgreSQL"),
    }
}

/// A row of COPY's binary format.
fn binary(values: &[&[u8]]) -> Vec<u8> {
    let mut row = (values.len() as i16).to_be_bytes().to_vec();
    for value in values {
        row.extend((value.len() as i32).to_be_bytes());
        row.extend_from_slice(value);
    }
    row
}

/// A customer's row with its lineage.
fn customer(id: i64, name: &str, load: i64) -> Vec<u8> {
    binary(&[&id.to_be_bytes(), name.as_bytes(), &load.to_be_bytes(), &id.to_be_bytes()])
}

async fn copy_customers(load: &mut LoadTransaction, ids: impl IntoIterator<Item = i64>) -> Result<u64, DatabaseError> {
    let id = load.id();
    let rows: Vec<u8> = ids.into_iter().flat_map(|customer_id| customer(customer_id, "Ada", id)).collect();
    let load = postgres(load);
    load.start_copy(&written_columns(&customers()), CopyFormat::Binary).await?;
    for chunk in rows.chunks(64 * 1024) {
        load.send(chunk.to_vec()).await?;
    }
    load.finish_copy().await
}

/// The whole of a load: table made when missing, two segments with a reject between them, commit.
async fn load_customers(database: &mut Database, new: &NewLoad, count: i64) -> Result<i64, DatabaseError> {
    let live = database.describe(&new.table).await?;
    let mut load = match database.begin_load(new).await? {
        Begin::Started(load) => *load,
        other => panic!("expected a load to start, got {other:?}"),
    };
    if live.is_none() {
        load.create_table(&customers()).await?;
    }
    load.delete_previous().await?;
    copy_customers(&mut load, 1..=count / 2).await?;
    load.write_rejects(&[reject(1), reject(2)]).await?;
    copy_customers(&mut load, count / 2 + 1..=count).await?;
    let id = load.id();
    load.finish(database, &totals(count as u64, 2)).await?;
    Ok(id)
}

async fn customer_table(database: &mut Database) -> TableName {
    database.resolve(&TableName::parse("public.customer").unwrap()).await.unwrap()
}

fn sqlite_rows(load: i64, ids: impl IntoIterator<Item = Cell>) -> SqliteRows {
    let mut rows = SqliteRows::new(&[ColumnType::Int8, ColumnType::Text], Some(load));
    for (at, id) in ids.into_iter().enumerate() {
        let cells = [id, Cell::Text(Span::block(0, 3))];
        let mut row = RowRef::of_cells(&cells, "Ada", b"");
        row.record = at as u64 + 1;
        rows.row(row);
    }
    rows
}

async fn load_sqlite_customers(database: &mut Database, new: &NewLoad, count: i64) -> Result<i64, DatabaseError> {
    let live = database.describe(&new.table).await?;
    let mut load = begin(database, new).await;
    if live.is_none() {
        load.create_table(&customers()).await?;
    }
    load.delete_previous().await?;
    let id = load.id();
    let LoadTransaction::Sqlite(inner) = &mut load else { panic!("not SQLite") };
    let columns = written_columns(&customers());
    inner.insert(&columns, sqlite_rows(id, (1..=count / 3).map(Cell::Int))).await?;
    inner.insert(&columns, sqlite_rows(id, (count / 3 + 1..=count).map(Cell::Int))).await?;
    load.write_rejects(&[reject(1), reject(2)]).await?;
    load.finish(database, &totals(count as u64, 2)).await?;
    Ok(id)
}

// The ledger.

#[tokio::test(flavor = "multi_thread")]
async fn eight_runners_on_a_fresh_database_make_one_ledger_and_nothing_in_public() {
    let test = Postgres::database();
    let runners = (0..8).map(|_| {
        let url = test.url().to_owned();
        tokio::spawn(async move { open(&url).await.close().await })
    });
    for runner in runners.collect::<Vec<_>>() {
        runner.await.unwrap();
    }
    assert_eq!(test.psql("select string_agg(version::text, ' ' order by version) from aqueduct.migration"), "1 2");
    assert_eq!(test.psql("select count(*) from pg_class where relnamespace = 'public'::regnamespace"), "0");
    open(test.url()).await.setup(&Setup::default()).await.unwrap();
}

#[tokio::test]
async fn a_role_without_ddl_rights_is_told_who_can_help_and_then_works() {
    let test = Postgres::database();
    let role = format!("plain_{}", test.name());
    test.psql(&format!("create role {role} login"));
    let mut database = Database::connect(&config(&test.url_as(&role, None))).await.unwrap();
    let error = database.ensure_ledger().await.unwrap_err();
    assert!(matches!(error, DatabaseError::LedgerMissing { .. }) && error.is_permission(), "{error:?}");
    assert!(error.to_string().contains("etl-runner setup"), "{error}");

    let (app, read) = (format!("app_{}", test.name()), format!("read_{}", test.name()));
    let setup = Setup { app_role: Some(app.clone()), read_role: Some(read.clone()) };
    let mut admin = Database::connect(&config(test.url())).await.unwrap();
    admin.setup(&setup).await.unwrap();
    admin.setup(&setup).await.unwrap();
    test.psql(&format!("grant {app} to {role}; grant usage, create on schema public to {role}"));

    database.ensure_ledger().await.unwrap();
    let table = customer_table(&mut database).await;
    load_customers(&mut database, &new_load(&table, "a.csv"), 10).await.unwrap();
    assert_eq!(test.psql("select count(*) from customer"), "10");

    // A reader sees what happened and not the raw bytes.
    let reader = format!("reader_{}", test.name());
    test.psql(&format!("create role {reader} login; grant {read} to {reader}"));
    let mut looking = Database::connect(&config(&test.url_as(&reader, None))).await.unwrap();
    looking.ensure_ledger().await.unwrap();
    assert_eq!(looking.loads(&LoadFilter::default(), 10).await.unwrap().len(), 1);
    let id = looking.loads(&LoadFilter::default(), 10).await.unwrap()[0].id;
    assert_eq!(looking.reject_lines(id, 0, 10).await.unwrap(), [RejectLine::from(&reject(1)), (&reject(2)).into()]);
    let error = looking.rejects(id, 0, 10).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Permission { .. }), "{error:?}");
    assert!(error.to_string().contains("raw bytes of rejects"), "{error}");
    for role in [role, app, read, reader] {
        test.psql(&format!("drop owned by {role}; drop role {role}"));
    }
}

#[tokio::test]
async fn the_printed_setup_makes_the_ledger_the_program_makes() {
    let (printed, made) = (Postgres::database(), Postgres::database());
    let sql = setup_sql(&Setup::default()).unwrap();
    printed.psql(&sql);
    printed.psql(&sql);
    open(made.url()).await.close().await;
    open(printed.url()).await.close().await;
    let shape = "select table_name, column_name, data_type, is_nullable, column_default, is_identity \
        from information_schema.columns where table_schema = 'aqueduct' order by 1, ordinal_position; \
        select conname, pg_get_constraintdef(oid) from pg_constraint \
        where connamespace = 'aqueduct'::regnamespace order by 1; \
        select indexdef from pg_indexes where schemaname = 'aqueduct' order by 1; \
        select version, description, success, checksum from aqueduct.migration";
    assert_eq!(printed.psql(shape), made.psql(shape));
}

#[tokio::test]
async fn a_newer_ledger_is_refused() {
    let test = Postgres::database();
    open(test.url()).await.close().await;
    test.psql("insert into aqueduct.migration select 99, 'later', now(), true, '', 0");
    let mut database = Database::connect(&config(test.url())).await.unwrap();
    let error = database.ensure_ledger().await.unwrap_err();
    assert!(matches!(error, DatabaseError::LedgerNewer { found: 99, .. }), "{error:?}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    sql(&path, "insert into aqueduct_migration values (99, 'later', '', true, x'', 0)").await;
    let error = database.ensure_ledger().await.unwrap_err();
    assert!(matches!(error, DatabaseError::LedgerNewer { found: 99, .. }), "{error:?}");
}

#[tokio::test]
async fn a_ledger_made_by_other_statements_is_refused() {
    let altered = |error: &DatabaseError| matches!(error, DatabaseError::LedgerAltered { version: 1, .. });
    let test = Postgres::database();
    open(test.url()).await.close().await;
    test.psql("update aqueduct.migration set checksum = '\\x00'");
    let mut database = Database::connect(&config(test.url())).await.unwrap();
    for error in [
        database.ensure_ledger().await.unwrap_err(),
        database.has_ledger().await.unwrap_err(),
        database.setup(&Setup::default()).await.unwrap_err(),
    ] {
        assert!(altered(&error) && !error.is_temporary(), "{error:?}");
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    sql(&path, "update aqueduct_migration set checksum = x'00'").await;
    let error = database.ensure_ledger().await.unwrap_err();
    assert!(altered(&error) && error.to_string().contains("version 1"), "{error:?}");
}

/// Runs statements on an SQLite file from outside.
async fn sql(path: &Path, sql: &str) {
    use sqlx::{ConnectOptions, Connection, Executor};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.unwrap();
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
    connection.close().await.unwrap();
}

async fn number(path: &Path, sql: &'static str) -> i64 {
    use sqlx::ConnectOptions;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

// A load.

#[tokio::test]
async fn rows_rejects_and_ledger_are_committed_together_and_the_second_time_is_refused() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let new = new_load(&table, "a.csv");
    let id = load_customers(&mut database, &new, 1000).await.unwrap();

    assert_eq!(
        test.psql("select count(*), sum(id), min(_load_id), max(_record) from customer"),
        format!("1000|500500|{id}|1000")
    );
    let key = "select conname from pg_constraint where conrelid = 'customer'::regclass and contype = 'p'";
    assert_eq!(test.psql(key), "customer_pkey");
    assert!(test.psql("select reltuples from pg_class where relname = 'customer'").starts_with("1000"));

    let row = database.load(id).await.unwrap();
    assert_eq!(
        (row.state, row.table.clone(), row.object.clone()),
        (LoadState::Loaded, table.clone(), new.object.clone())
    );
    assert_eq!((row.started_at, row.run_id), (new.started_at, new.run_id));
    assert_eq!(row.counts, totals(1000, 2).counts);
    assert_eq!(row.table_oid.unwrap().to_string(), test.psql("select 'customer'::regclass::oid").trim());
    assert_eq!(row.note, serde_json::json!({ "ignored": ["x"] }));
    assert_eq!(database.rejects(id, 0, 100).await.unwrap(), [reject(1), reject(2)]);
    assert_eq!(database.rejects(id, 1, 100).await.unwrap(), [reject(2)]);
    assert_eq!(database.count_rejects(id).await.unwrap(), 2);

    let history = database.look_up(&table, &[new.object.uri.clone(), "s3://bucket/unknown".into()]).await.unwrap();
    assert!(matches!(standing(&history, &new.object, "hash"), Standing::Loaded { pipeline_changed: false, .. }));
    match database.begin_load(&new).await.unwrap() {
        Begin::AlreadyLoaded(live) => assert_eq!(live.id, id),
        other => panic!("{other:?}"),
    }
    let live = database.describe(&table).await.unwrap().unwrap();
    let counts = database.count_rows(&live).await.unwrap();
    assert_eq!((counts.by_load.get(&id), counts.without_load), (Some(&1000), 0));
}

#[tokio::test]
async fn sqlite_holds_the_same_promises() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made").join("w.db");
    let mut database = sqlite(&path).await;
    let table = customer_table(&mut database).await;
    assert_eq!(table.to_string(), "customer");
    let new = new_load(&table, "a.csv");
    let id = load_sqlite_customers(&mut database, &new, 1001).await.unwrap();

    assert_eq!(
        number(&path, "select sum(id) from customer where typeof(id) = 'integer' and name = 'Ada'").await,
        501_501
    );
    let row = database.load(id).await.unwrap();
    assert_eq!((row.state, &row.table, &row.object), (LoadState::Loaded, &table, &new.object));
    assert_eq!((row.started_at, row.run_id, row.counts), (new.started_at, new.run_id, totals(1001, 2).counts));
    assert_eq!(database.rejects(id, 0, 100).await.unwrap(), [reject(1), reject(2)]);
    assert!(matches!(database.begin_load(&new).await.unwrap(), Begin::AlreadyLoaded(_)));
    let live = database.describe(&table).await.unwrap().unwrap();
    assert_eq!(live.primary_key, ["id"]);
    assert_eq!(database.count_rows(&live).await.unwrap().by_load.get(&id), Some(&1001));

    // A reload takes the old rows' place, an undo takes all of them.
    let mut again = new_load(&table, "a.csv");
    again.replaces = Replaces::Loads(vec![id]);
    let second = load_sqlite_customers(&mut database, &again, 30).await.unwrap();
    assert_eq!(number(&path, "select count(*) from customer").await, 30);
    let first = database.load(id).await.unwrap();
    assert_eq!((first.state, first.replaced_by), (LoadState::Replaced, Some(second)));
    assert_eq!(database.undo(second).await.unwrap().deleted, 30);
    assert_eq!(number(&path, "select count(*) from customer").await, 0);
    assert!(matches!(database.undo(second).await.unwrap_err(), DatabaseError::NotUndoable { .. }));
}

#[tokio::test]
async fn long_rows_into_sqlite_are_written_in_short_statements_and_none_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    let table = customer_table(&mut database).await;
    let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
    load.create_table(&customers()).await.unwrap();
    let id = load.id();
    let LoadTransaction::Sqlite(inner) = &mut load else { panic!("not SQLite") };
    let mut rows = SqliteRows::new(&[ColumnType::Int8, ColumnType::Text], Some(id));
    for at in 1..=25_u64 {
        let name = at.to_string().repeat(if at % 3 == 0 { 700_000 } else { 1 });
        let cells = [Cell::Int(at as i64), Cell::Text(Span::block(0, name.len()))];
        let mut row = RowRef::of_cells(&cells, &name, b"");
        row.record = at;
        rows.row(row);
    }
    inner.insert(&written_columns(&customers()), rows).await.unwrap();
    load.finish(&mut database, &totals(25, 0)).await.unwrap();
    let whole = "select count(*) from customer where replace(name, id, '') = '' \
                 and length(name) = length(id) * iif(id % 3 = 0, 700000, 1)";
    assert_eq!(number(&path, whole).await, 25);
}

#[tokio::test]
async fn what_sqlite_refuses_is_named_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    let table = customer_table(&mut database).await;
    load_sqlite_customers(&mut database, &new_load(&table, "a.csv"), 10).await.unwrap();
    for (cells, kind) in [
        (vec![Cell::Int(11), Cell::Int(5)], RefusalKind::Unique),
        (vec![Cell::Int(12), Cell::Null], RefusalKind::NotNull),
        (vec![Cell::Text(Span::block(0, 3))], RefusalKind::Value),
    ] {
        let mut load = begin(&mut database, &new_load(&table, "b.csv")).await;
        let id = load.id();
        let LoadTransaction::Sqlite(inner) = &mut load else { panic!("not SQLite") };
        let count = cells.len() as u64;
        inner.insert(&written_columns(&customers()), sqlite_rows(id, cells)).await.unwrap();
        let error = load.finish(&mut database, &totals(count, 0)).await.unwrap_err();
        let DatabaseError::Refused(refusal) = &error else { panic!("{error:?}") };
        assert_eq!((refusal.kind, refusal.columns.as_slice()), (kind, &["id".to_owned()][..]), "{error}");
        assert!(!error.to_string().contains("Ada"), "{error}");
        // A key in the table may be gone the next time; the rest is the rows' own fault.
        assert_eq!(error.is_permanent(), kind != RefusalKind::Unique, "{error}");
        assert!(!error.is_temporary());
    }
    assert_eq!(number(&path, "select count(*) from customer").await, 10);
    assert_eq!(number(&path, "select count(*) from aqueduct_load").await, 1);
}

#[tokio::test]
async fn of_two_runners_on_one_object_the_second_is_told_busy_then_already_loaded() {
    let test = Postgres::database();
    let (mut one, mut two) = (open(test.url()).await, open(test.url()).await);
    let table = customer_table(&mut one).await;
    test.psql(&ddl(&customers(), Dialect::Postgres).unwrap());

    let mut first = begin(&mut one, &new_load(&table, "a.csv")).await;
    assert!(matches!(two.begin_load(&new_load(&table, "a.csv")).await.unwrap(), Begin::Busy));
    // Another object of the same table goes on side by side, but not a load that replaces the whole table.
    let mut other = begin(&mut two, &new_load(&table, "b.csv")).await;
    let mut three = open(test.url()).await;
    let whole = NewLoad { replaces: Replaces::Table, alone: true, ..new_load(&table, "c.csv") };
    assert!(matches!(three.begin_load(&whole).await.unwrap(), Begin::Busy));
    copy_customers(&mut first, 1..=5).await.unwrap();
    copy_customers(&mut other, 6..=9).await.unwrap();
    let id = first.id();
    first.finish(&mut one, &totals(5, 0)).await.unwrap();
    other.finish(&mut two, &totals(4, 0)).await.unwrap();
    match two.begin_load(&new_load(&table, "a.csv")).await.unwrap() {
        Begin::AlreadyLoaded(live) => assert_eq!(live.id, id),
        other => panic!("{other:?}"),
    }

    // Now the whole table gives way, in one transaction.
    let mut third = begin(&mut three, &whole).await;
    assert!(matches!(two.begin_load(&new_load(&table, "d.csv")).await.unwrap(), Begin::Busy));
    assert_eq!(third.delete_all_rows().await.unwrap(), 9);
    copy_customers(&mut third, 1..=2).await.unwrap();
    assert_eq!(test.psql("select count(*) from customer"), "9");
    let whole_id = third.id();
    third.finish(&mut three, &totals(2, 0)).await.unwrap();
    assert_eq!(test.psql("select count(*) from customer"), "2");
    let states = test.psql("select state, replaced_by from aqueduct.load order by id");
    assert_eq!(states, format!("replaced|{whole_id}\nreplaced|{whole_id}\nloaded|"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_runners_racing_load_an_object_once() {
    let test = Postgres::database();
    open(test.url()).await.close().await;
    let runners: Vec<_> = (0..10)
        .map(|_| {
            let url = test.url().to_owned();
            tokio::spawn(async move {
                let mut database = open(&url).await;
                let table = customer_table(&mut database).await;
                let new = new_load(&table, "a.csv");
                loop {
                    let live = database.describe(&table).await.unwrap();
                    let mut load = match database.begin_load(&new).await.unwrap() {
                        Begin::Started(load) => *load,
                        Begin::Busy => {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                            continue;
                        }
                        Begin::AlreadyLoaded(_) => return 0,
                    };
                    if live.is_none() {
                        load.create_table(&customers()).await.unwrap();
                    }
                    copy_customers(&mut load, 1..=500).await.unwrap();
                    load.finish(&mut database, &totals(500, 0)).await.unwrap();
                    return 1;
                }
            })
        })
        .collect();
    let mut loads = 0;
    for runner in runners {
        loads += runner.await.unwrap();
    }
    assert_eq!(loads, 1);
    assert_eq!(test.psql("select count(*) from customer; select count(*) from aqueduct.load"), "500\n1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_the_table_at_the_same_moment_is_told_busy_or_makes_it_after_all() {
    let test = Postgres::database();
    for first_stays in [false, true] {
        let (mut one, mut two) = (open(test.url()).await, open(test.url()).await);
        let table = customer_table(&mut one).await;
        let mut first = begin(&mut one, &new_load(&table, "a.csv")).await;
        let mut second = begin(&mut two, &new_load(&table, "b.csv")).await;
        first.create_table(&customers()).await.unwrap();
        copy_customers(&mut first, 1..=5).await.unwrap();
        let second = tokio::spawn(async move {
            second.create_table(&customers()).await?;
            copy_customers(&mut second, 6..=9).await?;
            second.finish(&mut two, &totals(4, 0)).await
        });
        let waiting = "select count(*) from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock'";
        while test.psql(waiting) == "0" && !second.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if first_stays {
            first.finish(&mut one, &totals(5, 0)).await.unwrap();
            let error = second.await.unwrap().unwrap_err();
            assert!(matches!(error, DatabaseError::Busy { .. }) && error.is_temporary(), "{error:?}");
            assert_eq!(test.psql("select count(*) from customer; select count(*) from aqueduct.load"), "5\n1");
        } else {
            first.abort().await;
            second.await.unwrap().unwrap();
            assert_eq!(test.psql("select count(*) from customer; select count(*) from aqueduct.load"), "4\n1");
            test.psql("drop table customer; delete from aqueduct.load");
        }
    }
}

#[tokio::test]
async fn a_second_writer_of_an_sqlite_file_is_told_busy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let (mut one, mut two) = (sqlite(&path).await, sqlite(&path).await);
    let table = customer_table(&mut one).await;
    let first = begin(&mut one, &new_load(&table, "a.csv")).await;
    assert!(matches!(two.begin_load(&new_load(&table, "b.csv")).await.unwrap(), Begin::Busy));
    first.abort().await;
    begin(&mut two, &new_load(&table, "b.csv")).await.abort().await;
    assert!(two.loads(&LoadFilter::default(), 10).await.unwrap().is_empty());
}

const HOSTILE: &str = r#"
version = 1
name = "hostile"
[source]
path = "x.csv"
[schema]
primaryKey = ["id\"; DROP TABLE keep; --"]
fields = [
  { name = "id\"; DROP TABLE keep; --", type = "integer" },
  { name = "a'b\\c`d]e", type = "string" },
]
[target]
table = "t"
"#;

#[tokio::test]
async fn hostile_names_stay_names() {
    let test = Postgres::database();
    test.psql("create table keep (a int)");
    let mut database = open(test.url()).await;
    let mut hostile = pipeline(HOSTILE);
    // A pipeline file may not name such a table; what stands in a database may be named so anyway.
    hostile.target.table = "t\"; drop table keep; --".into();
    let table = database.resolve(&TableName::parse(&hostile.target.table).unwrap()).await.unwrap();
    assert_eq!(table.schema(), Some("public"));
    let new = NewLoad { object: object("k'\"; drop table keep; --.csv", "v1"), ..new_load(&table, "") };
    let mut load = begin(&mut database, &new).await;
    load.create_table(&hostile).await.unwrap();
    let id = load.id();
    postgres(&mut load).start_copy(&written_columns(&hostile), CopyFormat::Binary).await.unwrap();
    postgres(&mut load).send(customer(1, "'); drop table keep; --", id)).await.unwrap();
    load.finish(&mut database, &totals(1, 0)).await.unwrap();
    let live = database.describe(&table).await.unwrap().unwrap();
    assert!(compare(&hostile, &live, Dialect::Postgres).unwrap().is_empty());
    assert_eq!(live.primary_key, ["id\"; DROP TABLE keep; --"]);
    assert_eq!(database.undo(id).await.unwrap().deleted, 1);
    assert_eq!(test.psql("select count(*) from keep"), "0");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    sql(&path, "create table keep (a int)").await;
    let table = database.resolve(&TableName::parse(&hostile.target.table).unwrap()).await.unwrap();
    let mut load = begin(&mut database, &NewLoad { table: table.clone(), ..new }).await;
    load.create_table(&hostile).await.unwrap();
    let id = load.id();
    let LoadTransaction::Sqlite(inner) = &mut load else { panic!("not SQLite") };
    inner.insert(&written_columns(&hostile), sqlite_rows(id, [Cell::Int(1)])).await.unwrap();
    load.finish(&mut database, &totals(1, 0)).await.unwrap();
    let live = database.describe(&table).await.unwrap().unwrap();
    assert!(compare(&hostile, &live, Dialect::Sqlite).unwrap().is_empty());
    assert_eq!(database.undo(id).await.unwrap().deleted, 1);
    assert_eq!(number(&path, "select count(*) from keep").await, 0);
}

#[tokio::test]
async fn counts_that_contradict_the_server_are_not_committed() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
    load.create_table(&customers()).await.unwrap();
    copy_customers(&mut load, 1..=5).await.unwrap();
    let error = load.finish(&mut database, &totals(6, 0)).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Balance { .. }), "{error:?}");
    assert_eq!(test.psql("select count(*) from aqueduct.load; select to_regclass('customer')"), "0\n");
}

#[tokio::test]
async fn a_reload_takes_the_place_of_the_old_rows_at_once() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let first = load_customers(&mut database, &new_load(&table, "a.csv"), 100).await.unwrap();
    test.psql("insert into customer (id, name) values (-1, 'by hand')");
    let again = NewLoad { replaces: Replaces::Loads(vec![first]), ..new_load(&table, "a.csv") };
    let second = load_customers(&mut database, &again, 60).await.unwrap();
    assert_eq!(test.psql("select count(*), count(_load_id) from customer"), "61|60");
    let row = database.load(first).await.unwrap();
    assert_eq!((row.state, row.replaced_by), (LoadState::Replaced, Some(second)));
    // Whoever still wants to replace the first one comes too late.
    assert!(matches!(
        database.begin_load(&again).await.unwrap(),
        Begin::AlreadyLoaded(live) if live.id == second
    ));
}

#[tokio::test]
async fn an_undone_load_is_gone_and_stays_known() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let new = new_load(&table, "a.csv");
    let id = load_customers(&mut database, &new, 100).await.unwrap();
    test.psql("delete from customer where id <= 3");
    let undone = database.undo(id).await.unwrap();
    assert_eq!((undone.deleted, undone.load.state), (97, LoadState::Undone));
    assert_eq!(test.psql("select count(*) from customer"), "0");
    let history = database.look_up(&table, std::slice::from_ref(&new.object.uri)).await.unwrap();
    assert!(matches!(standing(&history, &new.object, "hash"), Standing::Undone(_)));

    let error = database.undo(id).await.unwrap_err();
    assert!(error.to_string().contains("it is undone"), "{error}");
    let table_oid = database.describe(&table).await.unwrap().unwrap().oid;
    let new = NewLoad { table_oid, ..new_load(&table, "b.csv") };
    let id = load_customers(&mut database, &new, 10).await.unwrap();
    test.psql("alter table customer rename to old; create table customer (like old)");
    let error = database.undo(id).await.unwrap_err();
    assert!(error.to_string().contains("made anew"), "{error}");
    assert!(matches!(database.undo(4711).await.unwrap_err(), DatabaseError::NoSuchLoad { id: 4711 }));
}

#[tokio::test]
async fn a_failed_load_keeps_its_report_and_the_first_rejects() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let new = new_load(&table, "a.csv");
    let rejects: Vec<_> = (1..=150).map(reject).collect();
    let stopped = Totals { counts: Counts { read: 900, rejected: 150, ..Counts::default() }, ..totals(0, 0) };
    let id = database.record_failure(&new, &stopped, &rejects, "too many rejects", true).await.unwrap();
    let row = database.load(id).await.unwrap();
    assert_eq!(
        (row.state, row.permanent, row.first_error.as_deref()),
        (LoadState::Failed, true, Some("too many rejects"))
    );
    assert_eq!((row.counts, database.count_rejects(id).await.unwrap()), (stopped.counts, 100));
    let history = database.look_up(&table, std::slice::from_ref(&new.object.uri)).await.unwrap();
    assert!(matches!(standing(&history, &new.object, "hash"), Standing::Failed(_)));
    assert!(matches!(standing(&history, &new.object, "changed"), Standing::New));

    // A good load of the same version is the one that counts from then on.
    let loaded = load_customers(&mut database, &new, 10).await.unwrap();
    let older = database.record_superseded(&NewLoad { object: object("a.csv", "v0"), ..new.clone() }).await.unwrap();
    database.record_failure(&new, &stopped, &[], "reload failed", false).await.unwrap();
    let history = database.look_up(&table, std::slice::from_ref(&new.object.uri)).await.unwrap();
    assert!(matches!(standing(&history, &new.object, "hash"), Standing::Loaded { load, .. } if load.id == loaded));
    let failed = LoadFilter { states: vec![LoadState::Superseded], ..LoadFilter::default() };
    assert_eq!(database.loads(&failed, 10).await.unwrap()[0].id, older);
    let page = LoadFilter { table: Some(table), before: Some(older), ..LoadFilter::default() };
    let ids: Vec<i64> = database.loads(&page, 10).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(ids, [loaded, id]);
}

// Refusals.

fn refused(error: &DatabaseError, kind: RefusalKind, constraint: Option<&str>, columns: &[&str]) {
    let DatabaseError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!((refusal.kind, refusal.constraint.as_deref()), (kind, constraint), "{error}");
    assert_eq!(refusal.columns, columns, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("Ada") && !shown.contains("4711"), "{shown}");
}

#[tokio::test]
async fn a_refusal_names_constraint_and_columns_and_no_value() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    for (definition, kind, constraint, columns) in [
        (
            "id bigint, name text, constraint good_key unique (name, id)",
            RefusalKind::Unique,
            Some("good_key"),
            &["id", "name"][..],
        ),
        ("id bigint, name text, constraint adult check (id < 4711)", RefusalKind::Check, Some("adult"), &["id"]),
        ("id smallint, name text not null", RefusalKind::Value, None, &["id"]),
        ("id bigint, name varchar(2)", RefusalKind::Value, None, &["name"]),
        (
            "id bigint constraint known references other (id), name text",
            RefusalKind::ForeignKey,
            Some("known"),
            &["id"],
        ),
        (
            "id bigint constraint later references other (id) deferrable initially deferred, name text",
            RefusalKind::ForeignKey,
            Some("later"),
            &[],
        ),
    ] {
        test.psql(&format!(
            "drop table if exists customer; drop table if exists other; create table other (id bigint primary key); \
             insert into other values (1), (2); \
             create table customer ({definition}, _load_id bigint, _record bigint)"
        ));
        let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
        let written = match copy_customers(&mut load, [1, 2, 4711, 4711]).await {
            Ok(_) => load.finish(&mut database, &totals(4, 0)).await,
            Err(error) => Err(error),
        };
        let error = written.unwrap_err();
        if kind == RefusalKind::Value {
            // The type is not ours: the bytes of a bigint are none of a smallint, a long text is too long.
            assert!(matches!(&error, DatabaseError::Refused(refusal) if refusal.kind == kind), "{error:?}");
        } else {
            refused(&error, kind, constraint, columns);
        }
        assert_eq!(test.psql("select count(*) from customer; select count(*) from aqueduct.load"), "0\n0");
    }
}

#[tokio::test]
async fn a_key_twice_in_the_file_is_refused_when_the_table_is_new() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
    load.create_table(&customers()).await.unwrap();
    copy_customers(&mut load, [1, 4711, 4711]).await.unwrap();
    let error = load.finish(&mut database, &totals(3, 0)).await.unwrap_err();
    refused(&error, RefusalKind::Unique, Some("customer_pkey"), &["id"]);
    assert_eq!(test.psql("select to_regclass('customer') is null"), "t");
}

#[tokio::test]
async fn text_goes_where_only_the_server_knows_the_type() {
    let test = Postgres::database();
    test.psql(
        "create type mood as enum ('good', 'bad'); \
         create table customer (id bigint primary key, name mood, _load_id bigint, _record bigint)",
    );
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let live = database.describe(&table).await.unwrap().unwrap();
    let encoding = live.encoding(&customers());
    assert!(encoding.text);
    assert_eq!(encoding.columns, [ColumnType::Int8, ColumnType::Text]);
    assert!(compare(&customers(), &live, Dialect::Postgres).unwrap().is_empty());

    for (rows, good) in [("1\tgood\t1\t1\n2\tbad\t1\t2\n", true), ("1\tgood\t1\t1\n2\tAda\t1\t2\n", false)] {
        let mut load = begin(&mut database, &new_load(&table, if good { "a.csv" } else { "b.csv" })).await;
        let inner = postgres(&mut load);
        inner.start_copy(&written_columns(&customers()), CopyFormat::Text).await.unwrap();
        inner.send(rows.as_bytes().to_vec()).await.unwrap();
        match inner.finish_copy().await {
            Ok(count) => {
                assert_eq!((count, good), (2, true));
                load.finish(&mut database, &totals(2, 0)).await.unwrap();
            }
            Err(error) => {
                assert!(!good);
                refused(&error, RefusalKind::Value, None, &["name"]);
                assert!(error.to_string().contains("row 2 of the segment"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_missing_right_is_named_with_the_grant_that_gives_it() {
    let test = Postgres::database();
    open(test.url()).await.close().await;
    let role = format!("poor_{}", test.name());
    test.psql(&ddl(&customers(), Dialect::Postgres).unwrap());
    test.psql(&format!(
        "create role {role} login; grant usage on schema aqueduct to {role}; \
         grant all on all tables in schema aqueduct to {role}"
    ));
    let mut database = open(&test.url_as(&role, None)).await;
    let table = customer_table(&mut database).await;
    let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
    let error = copy_customers(&mut load, 1..=3).await.unwrap_err();
    let DatabaseError::Permission { grant, .. } = &error else { panic!("{error:?}") };
    assert!(error.is_permission());
    test.psql(grant);
    let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
    copy_customers(&mut load, 1..=3).await.unwrap();
    load.finish(&mut database, &totals(3, 0)).await.unwrap();
    test.psql(&format!("drop owned by {role}; drop role {role}"));
}

#[tokio::test]
async fn a_read_only_database_is_called_that() {
    let test = Postgres::database();
    open(test.url()).await.close().await;
    test.psql(&format!("alter database {} set default_transaction_read_only = on", test.name()));
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let error = database.begin_load(&new_load(&table, "a.csv")).await.unwrap_err();
    assert!(matches!(error, DatabaseError::ReadOnly { .. }), "{error:?}");
}

// The way to the server.

#[tokio::test]
async fn wrong_addresses_and_passwords_are_told_apart() {
    let test = Postgres::database();
    let role = format!("locked_{}", test.name());
    test.psql(&format!("create role {role} login password 'right' in role {PASSWORD_GROUP}"));
    let connect = |url: String| async move { Database::connect(&config(&url)).await.map(drop).unwrap_err() };

    let error = connect(test.url_as(&role, Some("hunter2"))).await;
    assert!(matches!(error, DatabaseError::Authentication { .. }) && error.is_permission(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    Database::connect(&config(&test.url_as(&role, Some("right")))).await.unwrap();

    let error = connect(test.url().replace(test.name(), "no_such_database")).await;
    assert!(matches!(error, DatabaseError::NoSuchDatabase { .. }), "{error:?}");
    let error = connect("postgres://a@127.0.0.1:1/b".into()).await;
    assert!(matches!(error, DatabaseError::Unreachable { .. }) && error.is_temporary(), "{error:?}");
    test.psql(&format!("drop role {role}"));

    let directory = tempfile::tempdir().unwrap();
    let sqlite = |path: std::path::PathBuf| async move {
        Database::connect(&DatabaseConfig::sqlite(&path).existing()).await.map(drop).unwrap_err()
    };
    assert!(matches!(sqlite(directory.path().join("missing.db")).await, DatabaseError::CannotOpen { .. }));
    assert!(matches!(sqlite(directory.path().to_owned()).await, DatabaseError::CannotOpen { .. }));
    let text = directory.path().join("text.db");
    std::fs::write(&text, "id,name\n".repeat(1000)).unwrap();
    assert!(matches!(sqlite(text).await, DatabaseError::NotADatabase { .. }));
}

#[tokio::test]
async fn tls_is_verified_against_the_authority_and_the_name() {
    let cluster = Postgres::private(PostgresOptions { ssl: true, ..PostgresOptions::default() });
    let test = cluster.create_database();
    let by_name = test.url().replace("127.0.0.1", "localhost");
    let root = cluster.ca_certificate().display().to_string();
    let connect = |url: String| async move {
        Database::connect(&config(&url)).await?.close().await;
        Ok::<_, DatabaseError>(())
    };
    connect(format!("{by_name}?sslmode=verify-full&sslrootcert={root}")).await.unwrap();
    for wrong in
        [format!("{by_name}?sslmode=verify-full"), format!("{}?sslmode=verify-full&sslrootcert={root}", test.url())]
    {
        let error = connect(wrong).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Tls { .. }), "{error:?}");
    }
    // The bundled roots are read by the TLS library, which then does not know this server's authority.
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/database/postgres/rds-ca.pem");
    let error = connect(format!("{by_name}?sslmode=verify-full&sslrootcert={}", bundle.display())).await.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("UnknownIssuer"), "{cause}");
}

#[test]
fn rds_roots_parse_and_stay_valid_for_a_year() {
    let bundle = include_str!("../../src/database/postgres/rds-ca.pem");
    let certificates: Vec<&str> = bundle
        .split_inclusive("-----END CERTIFICATE-----")
        .filter_map(|part| part.find("-----BEGIN").map(|at| &part[at..]))
        .collect();
    assert!(certificates.len() >= 80, "{}", certificates.len());
    let directory = tempfile::tempdir().unwrap();
    for certificate in certificates {
        let path = directory.path().join("root.pem");
        std::fs::write(&path, certificate).unwrap();
        let checked = Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-checkend", "31536000", "-in"])
            .arg(&path)
            .output()
            .expect("openssl is installed: apt-get install openssl");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success() && said.contains("Amazon RDS"), "{said}");
    }
}

/// AWS settings come from the environment, so the test runs itself again with one of its own.
#[test]
fn a_rotated_secret_is_read_again() {
    const NAME: &str = "database::a_rotated_secret_is_read_again";
    if let Ok(url) = std::env::var("ROTATION_TEST_URL") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(rotate(&url));
        return;
    }
    let aws = Aws::shared();
    let test = Postgres::database();
    let role = format!("rotated_{}", test.name());
    test.psql(&format!("create role {role} login superuser password 'first' in role {PASSWORD_GROUP}"));
    let secret = aws.unique_name("database");
    aws.create_secret(&secret, &format!(r#"{{"username":"{role}","password":"first","engine":"postgres"}}"#));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([NAME, "--exact", "--nocapture"]).envs(aws.env()).env("ROTATION_TEST_URL", test.url());
    let address = aws.address().to_string();
    child.env("ROTATION_TEST_SECRET", &secret).env("ROTATION_TEST_AWS", address).env("ROTATION_TEST_ROLE", &role);
    let ended = child.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    test.psql(&format!("drop owned by {role}; drop role {role}"));
}

async fn rotate(url: &str) {
    let secret = std::env::var("ROTATION_TEST_SECRET").unwrap();
    let role = std::env::var("ROTATION_TEST_ROLE").unwrap();
    let text = SecretText::new(url);
    let given = |secret| DatabaseConfig::new(Given { url: Some(&text), secret: Some(secret), flag: None }).unwrap();
    let mut database = Database::connect(&given(&secret)).await.unwrap();
    assert!(database.to_string().contains(&role), "{database}");
    database.ensure_ledger().await.unwrap();

    psql(
        url,
        &format!(
            "alter role {role} password 'second'; \
        select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"
        ),
    );
    let stale = database.loads(&LoadFilter::default(), 1).await.unwrap_err();
    assert!(matches!(stale, DatabaseError::Authentication { .. }), "{stale:?}");
    put_secret(&secret, &format!(r#"{{"username":"{role}","password":"second"}}"#)).await;
    assert!(database.loads(&LoadFilter::default(), 1).await.unwrap().is_empty());

    let error = Database::connect(&given("no/such/secret")).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Secret(_)) && error.is_permission(), "{error:?}");
}

fn psql(url: &str, sql: &str) {
    let done = Command::new("psql").args([url, "-qAtc", sql]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn put_secret(name: &str, value: &str) {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let client = aws_sdk_secretsmanager::Client::new(&config);
    client.put_secret_value().secret_id(name).secret_string(value).send().await.unwrap();
}

// What goes wrong on the way.

#[tokio::test]
async fn a_lost_answer_to_commit_is_found_out() {
    let test = Postgres::database();
    open(test.url()).await.close().await;
    let proxy = Proxy::to(server_address(&test));
    let mut database = open(&proxy.url(test.url())).await;
    let table = customer_table(&mut database).await;
    let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
    load.create_table(&customers()).await.unwrap();
    copy_customers(&mut load, 1..=50).await.unwrap();
    proxy.lose_answer_to(b"commit\0");
    load.finish(&mut database, &totals(50, 0)).await.unwrap();
    assert!(proxy.cuts() > 0);
    assert_eq!(test.psql("select count(*) from customer; select state from aqueduct.load"), "50\nloaded");

    // A COMMIT that never arrived is a lost connection, and nothing is there.
    let mut load = begin(&mut database, &new_load(&table, "b.csv")).await;
    copy_customers(&mut load, 51..=60).await.unwrap();
    proxy.cut_now();
    let error = load.finish(&mut database, &totals(10, 0)).await.unwrap_err();
    assert!(matches!(error, DatabaseError::ConnectionLost { .. }) && error.is_temporary(), "{error:?}");
    assert_eq!(test.psql("select count(*) from customer; select count(*) from aqueduct.load"), "50\n1");
}

fn server_address(test: &TestDatabase) -> std::net::SocketAddr {
    let rest = test.url().split_once('@').unwrap().1;
    rest.split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_connection_cut_at_any_byte_leaves_all_or_nothing() {
    let test = Postgres::database();
    open(test.url()).await.close().await;
    test.psql(&ddl(&customers(), Dialect::Postgres).unwrap());
    let proxy = Proxy::to(server_address(&test));
    let url = proxy.url(test.url());
    // How many bytes a whole load takes, both ways.
    let mut direct = open(&url).await;
    let table = customer_table(&mut direct).await;
    let before = (proxy.bytes(Direction::ToServer), proxy.bytes(Direction::ToClient));
    load_customers(&mut direct, &new_load(&table, "measure.csv"), 500).await.unwrap();
    let sizes = (proxy.bytes(Direction::ToServer) - before.0, proxy.bytes(Direction::ToClient) - before.1);
    test.psql("truncate customer; delete from aqueduct.load");
    drop(direct);

    for round in 0..24u64 {
        let (direction, size) =
            if round % 2 == 0 { (Direction::ToServer, sizes.0) } else { (Direction::ToClient, sizes.1) };
        let mut database = open(&url).await;
        proxy.cut_after(direction, size * (round / 2) / 12 + round);
        let ended = load_customers(&mut database, &new_load(&table, "a.csv"), 500).await;
        proxy.pass();
        drop(database);
        let seen = test.psql("select count(*) from customer; select count(*) from aqueduct.load");
        match ended {
            Ok(_) => assert_eq!(seen, "500\n1", "round {round}"),
            Err(error) => {
                assert!(error.is_temporary(), "round {round}: {error:?}");
                assert_eq!(seen, "0\n0", "round {round}: {error:?}");
            }
        }
        let mut database = open(&url).await;
        if seen == "0\n0" {
            // The server may still be ending the session that was cut.
            loop {
                match database.begin_load(&new_load(&table, "a.csv")).await.unwrap() {
                    Begin::Busy => tokio::time::sleep(Duration::from_millis(10)).await,
                    Begin::Started(load) => break load.abort().await,
                    Begin::AlreadyLoaded(_) => panic!("round {round}"),
                }
            }
            while test.psql("select count(*) from pg_locks where locktype = 'advisory'") != "0" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            load_customers(&mut database, &new_load(&table, "a.csv"), 500).await.unwrap();
        }
        assert_eq!(test.psql("select count(*), count(distinct id) from customer"), "500|500", "round {round}");
        test.psql("truncate customer; delete from aqueduct.load");
    }
}

#[tokio::test]
async fn the_session_keeps_nothing() {
    let settings = vec![("log_statement".to_owned(), "all".to_owned())];
    let cluster = Postgres::private(PostgresOptions { settings, ..PostgresOptions::default() });
    let test = cluster.create_database();
    let mut database = open(test.url()).await;
    // sqlx's migrator names its statements, so they are deallocated behind it.
    let log = cluster.log();
    assert!(log.rfind("execute sqlx_s") < log.rfind("deallocate"), "a prepared statement was left in a session");
    let made = log.len();
    let table = customer_table(&mut database).await;
    load_customers(&mut database, &new_load(&table, "a.csv"), 10).await.unwrap();
    let mut busy = begin(&mut database, &new_load(&table, "b.csv")).await;
    copy_customers(&mut busy, [1]).await.unwrap_err();
    busy.abort().await;
    let open_load = begin(&mut database, &new_load(&table, "c.csv")).await;
    drop(open_load);
    assert_eq!(database.loads(&LoadFilter::default(), 10).await.unwrap().len(), 1);

    let ours = "from pg_stat_activity where application_name = 'aqueduct'";
    let mut left = String::new();
    for _ in 0..200 {
        left = test.psql(&format!(
            "select state {ours} order by 1; select count(*) from pg_locks where locktype = 'advisory'"
        ));
        if left == "idle\n0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(left, "idle\n0");
    let log = cluster.log().split_off(made);
    assert!(log.contains("execute <unnamed>"), "statements are logged");
    assert!(!log.contains("execute sqlx_s"), "a prepared statement was left in a session");
    let set: Vec<&str> = log.lines().filter(|line| line.contains(" set ") && !line.contains("set local")).collect();
    assert!(set.iter().all(|line| line.contains("update ") || line.contains("insert ")), "{set:?}");
}

// The table's shape.

#[tokio::test]
async fn every_type_is_seen_as_it_is() {
    let test = Postgres::database();
    test.psql(
        "create type mood as enum ('good'); create domain positive as bigint not null default 1 check (value > 0); \
         create schema s; create table s.every ( \
         c01 boolean, c02 smallint, c03 integer, c04 bigint, c05 real, c06 double precision, c07 numeric, \
         c08 numeric(12,2), c09 text, c10 varchar, c11 varchar(40), c12 char(3), c13 date, c14 time, c15 time(0), \
         c16 timestamp, c17 timestamp(3), c18 timestamptz, c19 timestamptz(0), c20 json, c21 jsonb, c22 uuid, \
         c23 bytea, t1 mood, d1 positive, t2 text[], o4 interval, o5 inet, o6 bpchar, o7 timetz, o8 numeric(3,-2), \
         dropped int, n1 int not null, n2 int not null default 7, n3 bigint generated always as identity, \
         n4 int generated always as (n1 * 2) stored, constraint every_pkey primary key (c03, c02)); \
         alter table s.every drop column dropped; create view s.seen as select 1 as a",
    );
    let mut database = open(test.url()).await;
    let table = TableName::parse("s.every").unwrap();
    let every = database.describe(&table).await.unwrap().unwrap();
    let known: Vec<String> = every
        .columns
        .iter()
        .filter(|column| column.name.starts_with('c'))
        .map(|column| match &column.column_type {
            LiveType::Known(column) => column.to_string(),
            LiveType::Texts(name) | LiveType::Other(name) => panic!("{name} is known"),
        })
        .collect();
    let told = "select string_agg(format_type(atttypid, atttypmod), ';' order by attnum) from pg_attribute \
        where attrelid = 's.every'::regclass and attname like 'c__' and attnum > 0";
    assert_eq!(known.join(";"), test.psql(told).trim());
    for column in every.columns.iter().filter(|column| column.name.starts_with('o')) {
        assert!(matches!(column.column_type, LiveType::Other(_)), "{column:?}");
    }
    for column in every.columns.iter().filter(|column| column.name.starts_with('t')) {
        assert!(matches!(column.column_type, LiveType::Texts(_)), "{column:?}");
    }
    assert_eq!(every.primary_key, ["c03", "c02"]);
    let column = |name: &str| every.column(name).unwrap();
    assert!(!column("n1").nullable && !column("n1").has_default);
    assert!(!column("n2").nullable && column("n2").has_default);
    assert!(column("n3").identity && column("n4").generated);
    assert!(!column("d1").nullable && column("d1").has_default);
    assert_eq!(column("d1").column_type, LiveType::Known(ColumnType::Int8));
    assert_eq!((column("c01").position, column("n1").position), (1, 33));
    assert_eq!(database.describe(&TableName::parse("s.nothing").unwrap()).await.unwrap(), None);
    let view = database.describe(&TableName::parse("s.seen").unwrap()).await.unwrap().unwrap();
    assert!(compare(&customers(), &view, Dialect::Postgres).unwrap()[0].what.contains("is a view"));
}

#[tokio::test]
async fn a_domain_is_the_type_below_it_and_texts_go_where_they_are_kept() {
    let test = Postgres::database();
    test.psql(
        "create extension citext; create type mood as enum ('good'); create domain tenths as numeric(5,1); \
         create domain few as tenths not null check (value < 100); create domain moody as mood; \
         create domain list as text[]; create domain cents as money; create domain whole as timestamp(0)",
    );
    let types = [
        ("tenths", "numeric(5,1)"),
        ("few", "numeric(5,1)"),
        ("whole", "timestamp(0) without time zone"),
        ("mood", "texts: mood"),
        ("moody", "texts: moody, a domain over mood"),
        ("citext", "texts: citext"),
        ("citext[]", "texts: citext[]"),
        ("text[]", "texts: text[]"),
        ("varchar[]", "texts: character varying[]"),
        ("mood[]", "texts: mood[]"),
        ("list", "texts: list, a domain over text[]"),
        // Whatever rounds, cuts, fills up or reads a notation of its own.
        ("varchar(3)[]", "other: character varying(3)[]"),
        ("tenths[]", "other: tenths[]"),
        ("int[]", "other: integer[]"),
        ("char(2)[]", "other: character(2)[]"),
        ("cents", "other: cents, a domain over money"),
        ("money", "other: money"),
        ("\"char\"", "other: \"char\""),
        ("name", "other: name"),
        ("oid", "other: oid"),
        ("interval", "other: interval"),
        ("timetz", "other: time with time zone"),
        ("numeric(5,-2)", "other: numeric(5,-2)"),
        ("bpchar", "other: bpchar"),
        ("bit varying", "other: bit varying"),
        ("xml", "other: xml"),
        ("int4range", "other: int4range"),
        ("int2vector", "other: int2vector"),
    ];
    let columns: Vec<String> = types.iter().enumerate().map(|(at, (name, _))| format!("c{at} {name}")).collect();
    test.psql(&format!("create table types ({})", columns.join(", ")));
    let mut database = open(test.url()).await;
    let live = database.describe(&TableName::parse("public.types").unwrap()).await.unwrap().unwrap();
    for (column, (name, expected)) in live.columns.iter().zip(types) {
        let seen = match &column.column_type {
            LiveType::Known(known) => known.to_string(),
            LiveType::Texts(name) => format!("texts: {name}"),
            LiveType::Other(name) => format!("other: {name}"),
        };
        assert_eq!(seen, expected, "{name}");
    }
    assert!(!live.columns[1].nullable && live.columns[0].nullable);
}

#[tokio::test]
async fn only_a_key_on_columns_of_primary_key_will_do() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let lists = CUSTOMERS.replace(r#"["id"]"#, r#"["name", "id"]"#);
    let columns = "id bigint not null, name text not null, _load_id bigint, _record bigint";
    for (made, fits) in [
        ("", false),
        ("alter table customer add primary key (id, name)", true),
        ("alter table customer add unique (name, id)", true),
        ("alter table customer add unique (name, id) deferrable initially deferred", true),
        ("create unique index on customer (id, name) include (_record)", true),
        ("alter table customer add primary key (id); alter table customer add unique (id, name)", true),
        ("alter table customer add primary key (id)", true),
        ("create index on customer (id, name)", false),
        ("create unique index on customer (id, name) where id > 0", false),
        ("create unique index on customer (id, lower(name))", false),
        ("create unique index on customer (id, name, _record)", false),
    ] {
        test.psql(&format!("drop table if exists customer; create table customer ({columns}); {made}"));
        let live = database.describe(&table).await.unwrap().unwrap();
        let problems = compare(&pipeline(&lists), &live, Dialect::Postgres).unwrap();
        assert_eq!(problems.is_empty(), fits, "{made}: {problems:?}");
        // A pipeline without a key asks for none.
        let without = lists.replace(r#"primaryKey = ["name", "id"]"#, "");
        assert_eq!(compare(&pipeline(&without), &live, Dialect::Postgres).unwrap(), [], "{made}");
        if !fits {
            test.psql(problems[0].fix.as_ref().unwrap());
            let live = database.describe(&table).await.unwrap().unwrap();
            assert_eq!(compare(&pipeline(&lists), &live, Dialect::Postgres).unwrap(), [], "{made}");
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    let table = customer_table(&mut database).await;
    let columns = "name text not null, _load_id integer, _record integer";
    for (made, pipeline_text, fits) in [
        (format!("create table customer (id integer not null, {columns})"), CUSTOMERS, false),
        (format!("create table customer (id integer primary key, {columns})"), CUSTOMERS, true),
        (format!("create table customer (id integer not null unique, {columns})"), CUSTOMERS, true),
        (format!("create table customer (id integer not null primary key, {columns}) without rowid"), CUSTOMERS, true),
        (format!("create table customer (id integer primary key, {columns})"), &lists, true),
        (format!("create table customer (id integer primary key, {columns}, unique (name, id))"), &lists, true),
        (
            format!(
                "create table customer (id integer, {columns}); create unique index i on customer (id) where id > 0"
            ),
            CUSTOMERS,
            false,
        ),
        (
            format!("create table customer (id integer, {columns}); create unique index i on customer (abs(id))"),
            CUSTOMERS,
            false,
        ),
    ] {
        sql(&path, &format!("drop table if exists customer; {made}")).await;
        let live = database.describe(&table).await.unwrap().unwrap();
        let problems = compare(&pipeline(pipeline_text), &live, Dialect::Sqlite).unwrap();
        assert_eq!(problems.is_empty(), fits, "{made}: {problems:?}");
        if !fits {
            sql(&path, problems[0].fix.as_ref().unwrap()).await;
            let live = database.describe(&table).await.unwrap().unwrap();
            assert_eq!(compare(&pipeline(pipeline_text), &live, Dialect::Sqlite).unwrap(), [], "{made}");
        }
    }
}

fn fixes(pipeline: &Pipeline, live: &LiveTable, dialect: Dialect) -> Vec<String> {
    compare(pipeline, live, dialect).unwrap().into_iter().filter_map(|problem| problem.fix).collect()
}

#[tokio::test]
async fn the_statements_to_paste_bring_a_table_into_shape() {
    let test = Postgres::database();
    let mut database = open(test.url()).await;
    let table = customer_table(&mut database).await;
    let wide = pipeline(&CUSTOMERS.replace(
        "fields = [",
        r#"fields = [
          { name = "na\"me", type = "boolean" },
          { name = "Mixed", type = "date" },
          { name = "made", type = "integer" },
          { name = "sum", type = "number", precision = [12, 2] },"#,
    ));
    test.psql(
        "create table customer (id text not null, mixed date, extra int not null, fine int not null default 1, \
         made bigint generated always as (1) stored, sum text); \
         insert into customer (id, extra, sum) values ('7', 1, '1.50')",
    );
    let live = database.describe(&table).await.unwrap().unwrap();
    let problems = compare(&wide, &live, Dialect::Postgres).unwrap();
    assert_eq!(problems.len(), 10, "{problems:#?}");
    let shown = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in [
        "primaryKey",
        "\"extra\"",
        "\"na\\\"me\"",
        "only \"mixed\"",
        "\"_load_id\"",
        "\"_record\"",
        "\"made\"",
        "alter table",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    for fix in fixes(&wide, &live, Dialect::Postgres) {
        test.psql(&fix);
    }
    let live = database.describe(&table).await.unwrap().unwrap();
    assert_eq!(compare(&wide, &live, Dialect::Postgres).unwrap(), []);
    assert_eq!(test.psql("select id, sum from customer"), "7|1.50");
}

#[tokio::test]
async fn sqlite_tables_are_compared_by_what_they_keep() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    let table = customer_table(&mut database).await;
    sql(&path, "create table customer (name real, extra int not null)").await;
    let live = database.describe(&table).await.unwrap().unwrap();
    let problems = compare(&customers(), &live, Dialect::Sqlite).unwrap();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 6, "{told:#?}");
    sql(&path, "drop table customer; create table customer (name varchar(40))").await;
    let live = database.describe(&table).await.unwrap().unwrap();
    for fix in fixes(&customers(), &live, Dialect::Sqlite) {
        sql(&path, &fix).await;
    }
    let live = database.describe(&table).await.unwrap().unwrap();
    assert_eq!(compare(&customers(), &live, Dialect::Sqlite).unwrap(), []);
}

#[tokio::test]
async fn the_printed_ddl_is_what_a_load_makes() {
    let pipeline = pipeline(&CUSTOMERS.replace(
        "{ name = \"name\", type = \"string\" },",
        r#"{ name = "name", type = "string", constraints = { required = true } },
           { name = "sum", type = "number", precision = [12, 2] },
           { name = "seen", type = "datetime", timezone = "UTC" },
           { name = "data", type = "object" },"#,
    ));
    let (printed, made) = (Postgres::database(), Postgres::database());
    printed.psql(&ddl(&pipeline, Dialect::Postgres).unwrap());
    let mut database = open(made.url()).await;
    let table = customer_table(&mut database).await;
    let mut load = begin(&mut database, &new_load(&table, "a.csv")).await;
    let live = load.create_table(&pipeline).await.unwrap();
    assert!(!live.encoding(&pipeline).text && live.oid.is_some());
    load.finish(&mut database, &totals(0, 0)).await.unwrap();
    let shape = "select column_name, data_type, is_nullable, numeric_scale from information_schema.columns \
        where table_name = 'customer' order by ordinal_position; \
        select indexdef from pg_indexes where tablename = 'customer' order by 1";
    assert_eq!(printed.psql(shape), made.psql(shape));
    let live = database.describe(&table).await.unwrap().unwrap();
    assert_eq!(compare(&pipeline, &live, Dialect::Postgres).unwrap(), []);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut database = sqlite(&path).await;
    let table = customer_table(&mut database).await;
    sql(&path, &ddl(&pipeline, Dialect::Sqlite).unwrap()).await;
    let live = database.describe(&table).await.unwrap().unwrap();
    assert_eq!(compare(&pipeline, &live, Dialect::Sqlite).unwrap(), []);
}

#[tokio::test]
async fn a_table_without_a_schema_is_where_the_search_path_finds_it() {
    let test = Postgres::database();
    test.psql(&format!(
        "create schema first; create schema second; create table second.there (a int); \
         alter database {} set search_path = first, second",
        test.name()
    ));
    let mut database = open(test.url()).await;
    let mut resolve =
        async |name: &str| database.resolve(&TableName::parse(name).unwrap()).await.map(|table| table.to_string());
    assert_eq!(resolve("there").await.unwrap(), "second.there");
    assert_eq!(resolve("elsewhere").await.unwrap(), "first.elsewhere");
    assert_eq!(resolve("public.t").await.unwrap(), "public.t");
    test.psql(&format!("alter database {} set search_path = nowhere", test.name()));
    let mut database = open(test.url()).await;
    let error = database.resolve(&TableName::parse("there").unwrap()).await.unwrap_err();
    assert!(matches!(error, DatabaseError::NoSchema { .. }), "{error:?}");
}

/// A run of many objects describes their table once; what somebody changes meanwhile is seen all the same.
#[tokio::test]
async fn a_table_that_changes_is_described_anew() {
    let test = Postgres::database();
    let mut known = open(test.url()).await;
    let table = TableName::parse("public.t").unwrap();
    for change in [
        "create table t (id bigint, a int, b text)",
        "alter table t alter a type date using null",
        "alter table t add c int",
        "alter table t alter c set not null",
        "alter table t alter c set default 3",
        "alter table t drop b",
        "create unique index t_a on t (a)",
        "drop index t_a",
        "alter table t add primary key (id)",
        "begin; alter table t rename c to d; alter table t rename a to c; commit",
        "alter table t enable row level security",
        "drop table t; create table t (id bigint)",
        "drop table t",
    ] {
        test.psql(change);
        let fresh = open(test.url()).await.describe(&table).await.unwrap();
        assert_eq!(known.describe(&table).await.unwrap(), fresh, "{change}");
        assert_eq!(known.describe(&table).await.unwrap(), fresh, "{change}, unchanged since");
    }
}
