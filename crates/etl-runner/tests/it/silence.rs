//! No value of a cell comes out: not in results, errors, logs at their loudest, metrics, nor the ledger's messages.
//!
//! Every cell holds a word that stands nowhere else, and breaks every rule there is to break.

use std::process::Command;

use testkit::{Aws, Direction, Postgres, Proxy, Random};

use crate::text;

/// Part of each cell.
const WORD: &str = "xyzzy";

const FIELDS: &str = r#"
  { name = "id", type = "string" },
  { name = "amount", type = "number", sqlType = "text" },
  { name = "day", type = "date", format = "%d.%m.%Y" },
  { name = "mail", type = "string", format = "email" },
  { name = "kind", type = "string", constraints = { enum = ["a", "b"] } },
  { name = "short", type = "string", sqlType = "varchar(6)" },
  { name = "json", type = "object" },
  { name = "mood", type = "string" },
  { name = "note", type = "string", clean = [{ regex = "x+yz", with = "xyz" }] },
"#;

fn pipeline(mode: &str, conflict: &str) -> String {
    let fields = FIELDS.replace(", sqlType = \"text\"", "");
    format!(
        "version = 1\nname = \"secrets\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
         primaryKey = [\"id\"]\nfields = [{fields}]\n[target]\ntable = \"secret\"\nmode = \"{mode}\"\n\
         conflict = \"{conflict}\"\n[errors]\nlimit = {{ rows = 100 }}\n"
    )
}

const TABLE: &str = "
create type mood as enum ('ok');
create table secret (
    id text primary key check (id <> 'xyzzy-check'), amount numeric, day date, mail text, kind text, short varchar(6),
    json jsonb, mood mood, note text not null, _load_id bigint, _record bigint
);
create function tell() returns trigger language plpgsql as $$ begin
    raise notice 'seen %', new.id;
    if new.id = 'xyzzy-raise' then raise exception 'no % here', new.id using detail = new.note, hint = new.id; end if;
    return new;
end $$;
create trigger tell before insert on secret for each row execute function tell();";

/// One good record, and one for each thing that can be wrong with one.
fn records() -> String {
    let good = |id: &str| format!("{id},1.5,01.02.2026,xyzzy@example.com,a,xyzzy,\"{{\"\"xyzzy\"\": 1}}\",ok,xyzzy\n");
    let mut csv = String::from("id,amount,day,mail,kind,short,json,mood,note\n");
    csv.push_str(&good("xyzzy-1"));
    for (from, to) in [
        (",1.5,", ",xyzzy,"),
        ("01.02.2026", "xyzzy"),
        ("xyzzy@example.com", "xyzzy"),
        (",a,", ",xyzzy,"),
        (",xyzzy,\"{", ",xyzzy-too-long,\"{"),
        ("\"{\"\"xyzzy\"\": 1}\"", "{xyzzy"),
        (",ok,", ",xyzzy,"),
        ("\"{\"\"xyzzy\"\": 1}\",ok,xyzzy", "\"{\"\"xyzzy\"\": 1}\",ok"),
        ("ok,xyzzy", "ok,xyzzy,xyzzy"),
        ("ok,xyzzy", "ok,\"xyzzy\"xyzzy"),
        ("ok,xyzzy", "ok,"),
        ("ok,xyzzy", "ok,xyzzy\0"),
    ] {
        csv.push_str(&good("xyzzy-2").replace(from, to));
    }
    for id in ["xyzzy-1", "xyzzy-check", "xyzzy-raise"] {
        csv.push_str(&good(id));
    }
    csv
}

struct Room {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    said: usize,
}

impl Room {
    fn new(environment: &[(&str, String)]) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self { folder: tempfile::tempdir().unwrap(), environment, said: 0 }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Runs a command as loud as it can be, in each of the forms it has.
    fn run(&mut self, line: &str, code: i32) {
        // What is loaded is said by a line of metrics where logs are JSON.
        for (json, logs) in [(false, "json"), (true, "")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
            command.current_dir(self.folder.path()).args(line.split_whitespace()).args(json.then_some("--json"));
            command.envs(self.environment.iter().cloned());
            command.env("AQUEDUCT_LOG", "trace").env("AQUEDUCT_LOG_FORMAT", logs).env("RUST_BACKTRACE", "full");
            let output = command.output().unwrap();
            let said = text(&output);
            let shown = said.find(WORD).map(|at| {
                let start = said[..at].rfind('\n').map_or(0, |line| line + 1);
                &said[start..said.len().min(at + 60)]
            });
            assert_eq!(shown, None, "{line}");
            // The second time the work may be done.
            assert!(json || output.status.code() == Some(code), "{line}: {:?}", output.status);
            self.said += said.len();
        }
    }
}

#[test]
fn no_value_comes_out_on_postgres() {
    let database = Postgres::database();
    database.psql(TABLE);
    let bucket = Aws::shared().bucket();
    let mut environment = vec![("DATABASE_URL", database.url().to_owned())];
    environment.push(("AQUEDUCT_STORE", format!("s3://{bucket}")));
    environment.extend(Aws::shared().env());
    environment.push(("AWS_ENDPOINT_URL", Aws::shared().endpoint().to_owned()));
    let mut room = Room::new(&environment);
    let everything = records();
    Aws::shared().put_object(&bucket, "a.csv", everything.as_bytes());
    room.write("a.toml", pipeline("append", "reject"));
    room.write("fail.toml", pipeline("append", "fail"));
    room.write("upsert.toml", pipeline("upsert", "reject"));
    room.write("local.csv", &everything);
    room.write("good.csv", everything.lines().take(2).map(|line| format!("{line}\n")).collect::<String>());
    room.run("run a.toml", 0);
    let kept = "select count(*), count(*) filter (where message like '%xyzzy%') from aqueduct.reject";
    assert_eq!(database.psql(kept), "15|0");
    room.run("run fail.toml good.csv", 1);
    room.run("run upsert.toml local.csv", 0);
    for line in ["loads", "show 2", "rejects list", "verify", "check a.toml", "rejects export -o out.csv"] {
        room.run(line, 0);
    }
    room.run("rejects replay a.toml out.csv", 1);
    // Files in each other's places.
    for line in
        ["rejects replay out.csv", "rejects replay local.csv a.toml", "check local.csv", "ddl local.csv --postgres"]
    {
        room.run(line, 2);
    }
    room.run("rejects replay a.toml --load 2", 3);
    // A header that is a record.
    room.write("headless.csv", "xyzzy-1,1.5,xyzzy\nxyzzy-2,2.5,xyzzy\n");
    room.run("run a.toml headless.csv", 3);
    room.run("show 2", 0);
    let ledger = "select count(*) from aqueduct.load where load::text like '%xyzzy%'";
    assert_eq!(database.psql(ledger), "0");
    assert!(room.said > 100_000, "{} bytes of output prove little", room.said);
}

#[test]
fn no_value_comes_out_when_things_break() {
    let database = Postgres::database();
    database.psql(TABLE);
    let address = database.url().split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let proxy = Proxy::to(address.parse().unwrap());
    let bucket = Aws::shared().bucket();
    let mut environment = Aws::shared().env();
    environment.retain(|(name, _)| *name != "AWS_SECRET_ACCESS_KEY");
    // The word is the secret key, too, and the password of a URL that is wrong.
    environment.push(("AWS_SECRET_ACCESS_KEY", WORD.repeat(8)));
    environment.push(("DATABASE_URL", proxy.url(database.url())));
    environment.push(("AQUEDUCT_STORE", format!("s3://{bucket}")));
    let mut room = Room::new(&environment);
    room.write("a.toml", pipeline("append", "reject").replace("rows = 100 ", "rows = 10000000 "));
    // Two splits and more, and the last record has the key of the first.
    let mut large = String::from("id,amount,day,mail,kind,short,json,mood,note\n");
    for number in 0.. {
        if large.len() > 17 << 20 {
            break;
        }
        let bad = if number % 1_000 == 999 { "xyzzy" } else { "1.5" };
        large.push_str(&format!(
            "xyzzy-{number},{bad},01.02.2026,xyzzy@example.com,a,xyzzy,{{}},ok,{}\n",
            "xyzzy".repeat(40)
        ));
    }
    Aws::shared().put_object(&bucket, "cut.csv", large.as_bytes());
    let mut random = Random::new(11);
    for connections in [1, 3] {
        for _ in 0..4 {
            database.psql("truncate secret; drop schema if exists aqueduct cascade");
            proxy.pass();
            proxy.cut_after(Direction::ToServer, 200_000 + random.below(8 << 20));
            room.run(&format!("run a.toml --parallel {connections}"), 75);
        }
    }
    proxy.pass();
    large.push_str("xyzzy-1,1.5,01.02.2026,xyzzy@example.com,a,xyzzy,{},ok,xyzzy\n");
    database.psql("truncate secret; drop schema if exists aqueduct cascade");
    Aws::shared().put_object(&bucket, "cut.csv", large.as_bytes());
    room.run("run a.toml --parallel 2 --retry-for 60s", 0);
    assert_eq!(database.psql("select count(*) from aqueduct.reject where code = 'primary-key'"), "1");
    // A store or an endpoint with a password in it, or a signature.
    for (name, value, code) in [
        ("AQUEDUCT_STORE", format!("s3://someone:{WORD}@{bucket}"), 2),
        ("AQUEDUCT_STORE", format!("https://{bucket}.example/?X-Amz-Signature={WORD}"), 2),
        ("AQUEDUCT_STORE", format!("file://someone:{WORD}@host/x"), 2),
        ("AWS_ENDPOINT_URL", format!("http://someone:{WORD}@127.0.0.1:1"), 2),
    ] {
        room.environment.push((name.into(), value));
        room.run("run a.toml", code);
        room.environment.pop();
    }
    // Nothing listens there.
    room.environment.push(("DATABASE_URL".into(), format!("postgres://someone:{WORD}@127.0.0.1:1/nowhere")));
    room.run("run a.toml", 75);
    room.environment.push(("DATABASE_URL".into(), format!("postgres://someone:{WORD}@127.0.0.1:port/nowhere")));
    room.run("run a.toml", 2);
}

#[test]
fn no_value_comes_out_on_sqlite() {
    let mut room = Room::new(&[("DATABASE_URL", "sqlite:warehouse.db".into())]);
    let everything = records();
    room.write(
        "a.toml",
        pipeline("append", "reject").replace("[errors]", "[drift]\nmissing_columns = \"null\"\n[errors]"),
    );
    room.write("upsert.toml", pipeline("upsert", "reject"));
    room.write("a.csv", &everything);
    room.run("run a.toml a.csv", 0);
    room.write("b.csv", &everything);
    room.run("run upsert.toml b.csv", 0);
    for line in ["loads", "show 2", "rejects list", "verify", "rejects export -o out.csv"] {
        room.run(line, 0);
    }
    room.run("rejects replay a.toml --load 1", 3);
    room.write("headless.csv", "xyzzy-1,1.5,xyzzy\nxyzzy-2,2.5,xyzzy\n");
    room.run("run a.toml headless.csv", 3);
    assert!(room.said > 10_000, "{} bytes of output prove little", room.said);
}
