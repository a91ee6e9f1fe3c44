//! Tables that were there before, and what became of those that loads made.

use testkit::Postgres;

use super::sandbox::{Sandbox, Where};

/// One field `v` of this kind, into the table `item`.
fn one_field(sandbox: &Sandbox, field: &str) {
    let text = format!(
        "version = 1\nname = \"items\"\n[source]\npath = \"items/*.csv\"\n[dialect]\ndelimiter = \";\"\n[schema]\n\
         fields = [{{ name = \"v\", {field} }}]\n[target]\ntable = \"item\"\n"
    );
    sandbox.write("items.toml", text.as_bytes());
}

/// The pipeline of items without a key.
fn without_key(sandbox: &Sandbox, more: &str) {
    sandbox.item_pipeline(more);
    let text = std::fs::read_to_string(sandbox.path("items.toml")).unwrap();
    sandbox.write("items.toml", text.replace("primaryKey = [\"id\"]\n", "").as_bytes());
}

fn statements(stderr: &str) -> Vec<String> {
    let begins = |line: &&str| line.starts_with("alter ") || line.starts_with("create ");
    stderr.lines().map(str::trim).filter(begins).map(str::to_owned).collect()
}

fn sql(sandbox: &Sandbox, sql: &str) -> String {
    match &sandbox.database {
        Where::Postgres(database) => database.psql(sql),
        Where::Default => sandbox.sqlite(sql).join("\n"),
    }
}

fn on_both() -> [(&'static str, Sandbox); 2] {
    let file = Sandbox::new();
    file.write(".aqueduct/warehouse.db", b"");
    [("postgres", Sandbox::on(Postgres::database())), ("sqlite", file)]
}

#[test]
fn what_a_domain_would_alter_is_a_reject_as_in_a_column_of_its_type() {
    for (kind, domain, altered, kept) in [
        ("type = \"number\"", "numeric(5,1)", "1.25", "1.5"),
        ("type = \"number\"", "real", "16777217", "1.5"),
        ("type = \"datetime\"", "timestamp(0)", "2020-01-01T00:00:00.5", "2020-01-01 00:00:00"),
        ("type = \"datetime\"", "timestamptz", "2020-01-01T00:00:00", "2020-01-01 00:00:00+00"),
        ("type = \"time\"", "time(0)", "00:00:00.5", "00:00:01"),
        ("type = \"string\"", "varchar(3)", "abc  ", "abc"),
        ("type = \"integer\"", "smallint", "32768", "32767"),
    ] {
        let mut sandbox = Sandbox::on(Postgres::database());
        sql(
            &sandbox,
            &format!(
                "create domain d as {domain}; create domain e as d; \
            create table item (v e, _load_id bigint, _record bigint)"
            ),
        );
        one_field(&sandbox, kind);
        sandbox.put("items/a.csv", format!("v\n{altered}\n{kept}\n").as_bytes());
        sandbox.ok("check items.toml");
        sandbox.ok("run items.toml");
        let seen = sql(&sandbox, "set timezone = 'UTC'; select v from item; select line from aqueduct.reject");
        assert_eq!(seen, format!("{kept}\n2"), "{domain}");
    }

    let mut sandbox = Sandbox::on(Postgres::database());
    sql(&sandbox, "create domain d as int check (value > 0); create table item (v d, _load_id bigint, _record bigint)");
    one_field(&sandbox, "type = \"integer\"");
    sandbox.put("items/a.csv", b"v\n1\n-1\n");
    sandbox.ok("run items.toml");
    let seen = sql(&sandbox, "select v from item; select line, code, message from aqueduct.reject");
    assert_eq!(seen, "1\n3|constraint-error|refused by the table's check \"d_check\"");
}

#[test]
fn texts_are_kept_by_enums_citext_and_arrays_of_them() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sql(
        &sandbox,
        "create extension citext; create type mood as enum ('good', ' b\\a,d '); create domain moody as mood; \
         create table item (v citext, m moody, l text[], e mood[], _load_id bigint, _record bigint)",
    );
    let text = "version = 1\nname = \"items\"\n[source]\npath = \"items/*.csv\"\n[dialect]\ndelimiter = \";\"\n[schema]\n\
        fields = [{ name = \"v\", type = \"string\" }, { name = \"m\", type = \"string\", sqlType = \"varchar(2)\" }, \
        { name = \"l\", type = \"string\" }, { name = \"e\", type = \"string\" }]\n[target]\ntable = \"item\"\n";
    sandbox.write("items.toml", text.as_bytes());
    sandbox.put("items/a.csv", b"v;m;l;e\n a\\nB ; b\\a,d ;{ 007, x ,NULL};{good}\nx;good;{};\n");
    sandbox.ok("check items.toml");
    sandbox.ok("run items.toml");
    // An array is what its notation says: blanks around elements are none of them.
    let seen = sql(&sandbox, "select v, m, l, e from item order by _record");
    assert_eq!(seen, " a\\nB | b\\a,d |{007,x,NULL}|{good}\nx|good|{}|");
    sandbox.put("items/b.csv", b"v;m;l;e\nx;bad;{};{}\n");
    sandbox.ok("run items.toml");
    assert_eq!(sql(&sandbox, "select record, field, code from aqueduct.reject"), "1|m|type-error");
}

#[test]
fn a_column_that_would_alter_values_is_refused_before_the_first_row() {
    for (kind, column) in [
        ("type = \"number\"", "money"),
        ("type = \"string\"", "\"char\""),
        ("type = \"string\"", "name"),
        ("type = \"string\"", "interval"),
        ("type = \"integer\"", "oid"),
        ("type = \"time\"", "timetz"),
        ("type = \"number\"", "numeric(5,-2)"),
        ("type = \"string\"", "int[]"),
    ] {
        let mut sandbox = Sandbox::on(Postgres::database());
        sql(
            &sandbox,
            &format!(
                "create table item (v {column}, _load_id bigint, _record bigint); \
            insert into item values (null), {}",
                if column == "money" { "(1.25)" } else { "(null)" }
            ),
        );
        one_field(&sandbox, kind);
        sandbox.put("items/a.csv", b"v\n");
        let said = sandbox.refused("check items.toml", 1).stderr;
        assert!(said.contains("column \"v\" is ") && said.contains("Loaded are columns of boolean,"), "{said}");
        assert_eq!(sandbox.run("run items.toml").code, 1);
        sql(&sandbox, &statements(&said).concat());
        sandbox.ok("check items.toml");
    }
    let mut sandbox = Sandbox::on(Postgres::database());
    sql(&sandbox, "create domain cents as money; create table item (v cents, _load_id bigint, _record bigint)");
    one_field(&sandbox, "type = \"number\"");
    sandbox.put("items/a.csv", b"v\n1.239\n");
    sandbox.refused("check items.toml", 1);
    assert_eq!(sandbox.run("run items.toml").code, 1);
    sandbox.golden("altering-types");
}

#[test]
fn a_table_without_the_key_of_the_pipeline_is_refused() {
    for (name, mut sandbox) in on_both() {
        sandbox.item_pipeline("");
        sandbox.put("items/a.csv", b"id,price\n1,2.50\n1,3.50\n");
        sql(&sandbox, "create table item (id bigint, price numeric(8,2), _load_id bigint, _record bigint)");
        if name == "sqlite" {
            sql(&sandbox, "drop table item");
            sql(&sandbox, "create table item (id integer, price text, _load_id integer, _record integer)");
        }
        let said = sandbox.refused("check items.toml", 1).stderr;
        assert_eq!(sandbox.run("run items.toml").code, 1);
        assert_eq!(sql(&sandbox, "select count(*) from item"), "0");
        sql(&sandbox, &statements(&said).concat());
        sandbox.note("pasted, the statement is all it takes, and the same record loads once");
        sandbox.ok("check items.toml");
        sandbox.ok("run items.toml");
        assert_eq!(sql(&sandbox, "select price from item"), "2.50");
        sandbox.golden(&format!("no-key-{name}"));
    }
}

#[test]
fn a_key_that_another_load_has_taken_is_tried_again() {
    for (_, mut sandbox) in on_both() {
        sandbox.item_pipeline("conflict = \"fail\"\n");
        sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
        sandbox.put("items/b.csv", b"id,price\n1,3.50\n");
        assert_eq!(sandbox.run("run items.toml").code, 5);
        sandbox.ok("undo 1");
        sandbox.ok("run items.toml");
        assert_eq!(sql(&sandbox, "select price from item"), "3.50");
    }
}

#[test]
fn rows_loaded_before_the_table_had_lineage_are_not_loaded_again_beside_themselves() {
    for (name, mut sandbox) in on_both() {
        without_key(&sandbox, "lineage = false\n");
        sandbox.put("items/a.csv", b"id,price\n1,2.50\n2,3.50\n");
        sandbox.ok("run items.toml");
        without_key(&sandbox, "");
        let alters = sandbox.run("check items.toml").stderr;
        for statement in statements(&alters) {
            sql(&sandbox, &statement);
        }
        sandbox.note("the table has lineage now, and the rows that are there have none");
        assert_eq!(sandbox.run("run items.toml --reload").code, 1);
        sandbox.refused("undo 1", 1);
        sandbox.put("items/a.csv", b"id,price\n1,2.50\n2,3.50\n3,4.50\n");
        assert_eq!(sandbox.run("run items.toml").code, 1);
        assert_eq!(sql(&sandbox, "select count(*) from item"), "2");
        sandbox.note("the advice is followed");
        sql(&sandbox, "update item set _load_id = 1");
        sandbox.ok("run items.toml");
        assert_eq!(sql(&sandbox, "select count(*) from item"), "3");
        // Rows deleted by hand, all or some, stand in nobody's way.
        sql(&sandbox, "delete from item where id < 3");
        sandbox.ok("run items.toml --reload");
        assert_eq!(sql(&sandbox, "select count(*) from item"), "3");
        sql(&sandbox, "delete from item");
        sandbox.ok("run items.toml --reload");
        assert_eq!(sql(&sandbox, "select count(*) from item"), "3");
        sandbox.golden(&format!("late-lineage-{name}"));
    }
}

#[test]
fn a_table_made_anew_and_refilled_in_part_is_noticed_on_sqlite() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    for (at, name) in ["a", "b", "c"].iter().enumerate() {
        sandbox.put(&format!("items/{name}.csv"), format!("id,price\n{at},2.50\n").as_bytes());
    }
    sandbox.ok("run items.toml");
    sandbox.sqlite("alter table item add column more text");
    sandbox.sqlite("alter table item drop column more");
    sandbox.sqlite("vacuum");
    sandbox.note("altered and rewritten it is the same table; dropped it is not");
    sandbox.ok("run items.toml");
    sandbox.sqlite("drop table item");
    sandbox.ok("run items.toml --reload --object items/c.csv");
    sandbox.refused("run items.toml", 1);
    sandbox.put("items/d.csv", b"id,price\n4,2.50\n");
    sandbox.refused("run items.toml --object items/d.csv", 1);
    sandbox.ok("run items.toml --reload");
    assert_eq!(sandbox.state()[0], "item: 4 rows");
    sandbox.ok("run items.toml");
    sandbox.golden("refilled");
}

#[test]
fn a_table_older_than_its_ledger_is_not_taken_for_a_new_one() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    sandbox.ok("run items.toml");
    sandbox.sqlite("drop table item");
    sandbox.ok("run items.toml --reload");
    for table in ["reject", "load", "migration"] {
        sandbox.sqlite(&format!("drop table aqueduct_{table}"));
    }
    sandbox.put("items/b.csv", b"id,price\n2,2.50\n");
    sandbox.ok("run items.toml --object items/b.csv");
    let again = sandbox.ok("run items.toml --object items/b.csv").stdout;
    assert!(again.contains("already loaded"), "{again}");
}

#[test]
fn what_has_the_name_of_the_table_and_is_none_is_said() {
    for (made, dropped) in [
        ("create sequence item", "drop sequence item"),
        ("create type item as (a int)", "drop type item"),
        ("create domain item as int", "drop domain item"),
        ("create table other (a int); create index item on other (a)", "drop index item"),
    ] {
        let mut sandbox = Sandbox::on(Postgres::database());
        sandbox.item_pipeline("");
        sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
        sql(&sandbox, made);
        let said = sandbox.refused("check items.toml", 1).stderr;
        assert!(said.contains("rows go into a table"), "{said}");
        assert_eq!(sandbox.run("run items.toml").code, 1);
        sql(&sandbox, dropped);
        // The type of arrays of `tem` gives way by itself.
        sql(&sandbox, "create table tem (a int)");
        sandbox.ok("run items.toml");
        if made.contains("sequence") {
            sql(&sandbox, "drop table item; create sequence item");
            assert_eq!(sandbox.run("run items.toml").code, 1);
            assert_eq!(sandbox.run("verify").code, 6);
            sandbox.golden("no-table-of-that-name");
        }
    }
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    sandbox.write(".aqueduct/warehouse.db", b"");
    sandbox.sqlite("create table other (a int)");
    sandbox.sqlite("create index item on other (a)");
    sandbox.refused("check items.toml", 1);
    assert!(sandbox.run("run items.toml").stderr.contains("item is an index"));
}

#[test]
fn a_name_that_sqlite_keeps_for_itself_is_said() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    let text = std::fs::read_to_string(sandbox.path("items.toml")).unwrap();
    sandbox.write("items.toml", text.replace("\"item\"", "\"SQLite_x\"").as_bytes());
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    for command in ["run", "check", "ddl"] {
        let said = sandbox.run(&format!("{command} items.toml"));
        assert_eq!(
            (said.code, said.stderr.contains("only SQLite's own tables do")),
            (2, true),
            "{command}: {}",
            said.stderr
        );
    }
}

#[test]
fn a_trigger_that_drops_rows_is_named() {
    let mut sandbox = Sandbox::on(Postgres::database());
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n2,2.50\n");
    sql(
        &sandbox,
        "create table item (id bigint primary key, price numeric(8,2), _load_id bigint, _record bigint); \
         create function f() returns trigger language plpgsql as 'begin return null; end'; \
         create trigger guard before insert on item for each row execute function f(); \
         create trigger later after insert on item for each row execute function f()",
    );
    let said = sandbox.run("run items.toml");
    assert!(said.stderr.contains("took 0 of 2 rows, and a trigger drops the others: \"guard\";"), "{}", said.stderr);
    assert_eq!(said.code, 1);

    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    sandbox.ok("run items.toml");
    sandbox.sqlite("create trigger guard before insert on item when new.id = 2 begin select raise(ignore); end");
    sandbox.put("items/b.csv", b"id,price\n2,2.50\n3,2.50\n");
    let said = sandbox.run("run items.toml");
    assert!(said.stderr.contains("took 1 of 2 rows, and a trigger drops the others: \"guard\";"), "{}", said.stderr);
}
