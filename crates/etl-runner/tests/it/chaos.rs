//! Faults of every kind, at every moment: afterwards nothing is lost, doubled or unexplained.
//!
//! Two ways to choose the moment. [`a_strike_at_any_message_leaves_all_or_nothing`] strikes at each message between a command and the server, one after the
//! other, which is every point at which a load can stop as seen from outside. [`rounds_of_random_faults_lose_and_double_nothing`] does what a year of operation
//! does: random work, random faults, and a model that knows from the generator, not from our code, what has to be there.
//!
//! `CHAOS_ROUNDS` sets the number of rounds, `CHAOS_SEED` the first number of the generator, `CHAOS_STEP` strikes at each
//! n-th message only; `make chaos` is the long version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use testkit::{Aws, Direction, Postgres, PostgresOptions, Proxy, Random, TestDatabase};

use crate::text;

fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

const TABLES: &str = "
create table event (id bigint primary key, amount numeric(12, 2) not null,
    note text constraint not_forbidden check (note <> 'forbidden'), _load_id bigint, _record bigint);
create table price (like event including all);
create table state (like event including all);";

fn pipeline(name: &str, more: &str) -> String {
    format!(
        "version = 1\nname = \"{name}\"\n[source]\npath = \"{name}/*\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
         primaryKey = [\"id\"]\nfields = [\n  {{ name = \"id\", type = \"integer\" }},\n  \
         {{ name = \"amount\", type = \"number\", precision = [12, 2] }},\n  {{ name = \"note\", type = \"string\" }},\n]\n\
         [target]\ntable = \"{name}\"\n{more}\n[errors]\nlimit = {{ rows = 100000 }}\n"
    )
}

/// All that anybody can see of the tables and of the ledger, line by line, without numbers of loads.
const SEEN: &str = r"
select 'row|' || t.name || '|' || coalesce(l.object_key, '?') || '|' || t._record || '|' || t.id || '|' || t.amount || '|'
    || case when length(t.note) > 100 then left(t.note, 20) || length(t.note) else replace(t.note, E'\n', '/') end
from (select 'event' as name, * from event union all select 'price', * from price union all select 'state', * from state) t
left join aqueduct.load l on l.id = t._load_id;
select 'reject|' || l.table_name || '|' || l.object_key || '|' || r.record
from aqueduct.reject r join aqueduct.load l on l.id = r.load_id where l.state = 'loaded';
select 'load|' || table_name || '|' || object_key || '|' || records_read || '|' || loaded || '|' || rejected || '|' || duplicates
from aqueduct.load where state = 'loaded';
select 'left|loading ' || id from aqueduct.load where state = 'loading';
select 'left|prepared ' || gid from pg_prepared_xacts;
select 'left|staging ' || relname from pg_class where relname like 'aqueduct_staging%';
select 'left|session ' || state from pg_stat_activity
where datname = current_database() and application_name = 'aqueduct';";

type Lines = BTreeMap<String, u64>;

fn lines_of(text: &str) -> Lines {
    let mut lines = Lines::new();
    text.lines().filter(|line| !line.is_empty()).for_each(|line| *lines.entry(line.to_owned()).or_default() += 1);
    lines
}

/// What is in the one and not in the other, as often.
fn beyond(one: &Lines, other: &Lines) -> Vec<String> {
    let more = |(line, count): (&String, &u64)| {
        let missing = count.saturating_sub(other.get(line).copied().unwrap_or_default());
        std::iter::repeat_n(line.clone(), usize::try_from(missing).unwrap())
    };
    one.iter().flat_map(more).collect()
}

fn seen(database: &TestDatabase) -> Lines {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let lines = lines_of(&database.psql(SEEN));
        // The server notices with a delay that a client is gone; until then its transaction stands.
        let waits = lines.keys().any(|line| line.starts_with("left|session"));
        if !waits || Instant::now() > deadline {
            return lines;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

// ---- records

#[derive(Clone, Debug)]
struct Record {
    id: u64,
    /// `None`: the cell is no number.
    amount: Option<String>,
    note: String,
}

impl Record {
    fn csv(&self) -> String {
        let note = if self.note.contains('\n') { format!("\"{}\"", self.note) } else { self.note.clone() };
        format!("{},{},{note}", self.id, self.amount.as_deref().unwrap_or("n/a"))
    }

    fn row(&self, table: &str, key: &str, number: u64) -> String {
        let amount = self.amount.as_deref().unwrap_or_default();
        let note = match self.note.get(..20).filter(|_| self.note.len() > 100) {
            Some(start) => format!("{start}{}", self.note.len()),
            None => self.note.replace('\n', "/"),
        };
        format!("row|{table}|{key}|{number}|{}|{amount}|{note}", self.id)
    }

    fn is_good(&self) -> bool {
        self.amount.is_some() && self.note != "forbidden"
    }
}

/// Records of ids from `base` on, with everything in them that can be refused.
fn records(random: &mut Random, base: u64, count: u64) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for n in 0..count {
        let mut happens = |times: u64| random.below(times) == 0;
        let (bad, twice, forbidden, lines) = (happens(40), happens(50), happens(60), happens(20));
        let id = if twice && n > 0 { records[random.below(n) as usize].id } else { base + n };
        let note = match (forbidden, lines) {
            (true, _) => "forbidden".to_owned(),
            (false, true) => format!("note\n{n}"),
            (false, false) => format!("note {n}"),
        };
        let amount = (!bad).then(|| format!("{}.{:02}", random.below(100_000), n % 100));
        records.push(Record { id, amount, note });
    }
    records
}

fn csv(records: &[Record]) -> String {
    let lines: Vec<String> = records.iter().map(Record::csv).collect();
    format!("id,amount,note\n{}\n", lines.join("\n"))
}

/// An object whose rows are added to a table: which of its records are rows.
fn added(table: &str, key: &str, records: &[Record], lines: &mut Lines) {
    let mut ids = BTreeSet::new();
    let mut loaded = 0;
    for (number, record) in (1..).zip(records) {
        let line = if record.is_good() && ids.insert(record.id) {
            loaded += 1;
            record.row(table, key, number)
        } else {
            format!("reject|{table}|{key}|{number}")
        };
        lines.insert(line, 1);
    }
    let read = records.len() as u64;
    lines.insert(format!("load|{table}|{key}|{read}|{loaded}|{}|0", read - loaded), 1);
}

// ---- the model

/// What has to be there.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Objects that are loaded into `event`.
    events: BTreeMap<String, Vec<Record>>,
    undone: BTreeMap<String, Vec<Record>>,
    /// The rows of `price` by id, with the object and the number of the record.
    prices: BTreeMap<u64, (String, u64, Record)>,
    /// The loads of `price`: their ledger lines and rejects.
    price_loads: Lines,
    state: Option<(String, Vec<Record>)>,
}

impl Model {
    fn lines(&self) -> Lines {
        let mut lines = self.price_loads.clone();
        for (key, records) in &self.events {
            added("event", key, records, &mut lines);
        }
        for (key, number, record) in self.prices.values() {
            lines.insert(record.row("price", key, *number), 1);
        }
        if let Some((key, records)) = &self.state {
            added("state", key, records, &mut lines);
        }
        lines
    }

    fn upsert(&mut self, key: &str, records: &[Record]) {
        let valid = |record: &Record| record.amount.is_some();
        let last: BTreeMap<u64, u64> = (1..)
            .zip(records)
            .filter(|(_, record)| valid(record))
            .map(|(number, record)| (record.id, number))
            .collect();
        let (mut rejected, mut loaded) = (0, 0);
        for (number, record) in (1..).zip(records) {
            if valid(record) && last[&record.id] != number {
                continue;
            }
            if record.is_good() {
                loaded += 1;
                self.prices.insert(record.id, (key.to_owned(), number, record.clone()));
            } else {
                rejected += 1;
                self.price_loads.insert(format!("reject|price|{key}|{number}"), 1);
            }
        }
        let read = records.len() as u64;
        let duplicates = read - loaded - rejected;
        self.price_loads.insert(format!("load|price|{key}|{read}|{loaded}|{rejected}|{duplicates}"), 1);
    }
}

// ---- the world

struct Bucket {
    name: String,
    proxy: Proxy,
}

struct World {
    folder: tempfile::TempDir,
    server: Postgres,
    database: TestDatabase,
    proxy: Proxy,
    /// Objects are here, if they are not in a directory.
    bucket: Option<Bucket>,
    random: Random,
    model: Model,
    objects: u64,
    /// Records of an object.
    sizes: &'static [u64],
}

/// Work to be done: a command, and what has to be there when it is done.
struct Work {
    what: &'static str,
    arguments: Vec<String>,
    after: Model,
    /// The object it reads, to be overwritten meanwhile.
    object: Option<String>,
    /// It is done split by split, each a transaction of its own.
    in_splits: bool,
}

impl World {
    fn new(seed: u64, in_bucket: bool, sizes: &'static [u64]) -> Self {
        let server = Postgres::private(PostgresOptions::default());
        let database = server.create_database();
        database.psql(TABLES);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("event.toml", pipeline("event", ""));
        write("price.toml", pipeline("price", "mode = \"upsert\""));
        write("state.toml", pipeline("state", "mode = \"replace\""));
        let bucket =
            in_bucket.then(|| Bucket { name: Aws::shared().bucket(), proxy: Proxy::to(Aws::shared().address()) });
        let proxy = Proxy::to(server.address());
        let mut world = Self {
            folder,
            server,
            database,
            proxy,
            bucket,
            random: Random::new(seed),
            model: Model::default(),
            objects: 0,
            sizes,
        };
        // The ledger is there, and so is something to work with.
        for _ in 0..2 {
            let work = world.load_new();
            assert_eq!(world.command(&work.arguments).output().unwrap().status.code(), Some(0));
            world.model = work.after;
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, key: &str, content: &[u8]) {
        match &self.bucket {
            Some(bucket) => _ = Aws::shared().put_object(&bucket.name, key, content),
            None => {
                let path = self.path("store").join(key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                // At once, as a careful writer does.
                let part = self.path("part");
                std::fs::write(&part, content).unwrap();
                std::fs::rename(part, path).unwrap();
            }
        }
    }

    fn command_to(&self, url: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl-runner"));
        command.current_dir(self.folder.path()).args(arguments).env_remove("DATABASE_SECRET");
        command.env("DATABASE_URL", url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match &self.bucket {
            Some(bucket) => {
                command.envs(Aws::shared().env()).env("AQUEDUCT_STORE", format!("s3://{}", bucket.name));
                command.env("AWS_ENDPOINT_URL", format!("http://{}", bucket.proxy.address()));
            }
            None => _ = command.env("AQUEDUCT_STORE", self.path("store")),
        }
        command
    }

    fn command(&self, arguments: &[String]) -> Command {
        self.command_to(self.database.url(), arguments)
    }

    fn start(&self, work: &Work) -> Child {
        self.command_to(&self.proxy.url(self.database.url()), &work.arguments).spawn().unwrap()
    }

    fn load_of(&self, key: &str) -> String {
        self.database.psql(&format!("select id from aqueduct.load where state = 'loaded' and object_key = '{key}'"))
    }

    fn some_event(&mut self) -> (String, Vec<Record>) {
        let nth = self.random.below(self.model.events.len() as u64) as usize;
        let (key, records) = self.model.events.iter().nth(nth).unwrap();
        (key.clone(), records.clone())
    }

    fn size(&mut self) -> u64 {
        self.sizes[self.random.below(self.sizes.len() as u64) as usize]
    }

    fn work(&mut self) -> Work {
        match self.random.below(13) {
            12 => self.load_in_splits(),
            0..3 => self.load_new(),
            3..5 => self.change(),
            5..7 => self.upsert(),
            7 => self.replace(),
            8..10 if !self.model.events.is_empty() => self.replay(),
            10 if self.model.events.len() > 1 => self.undo(),
            11 if !self.model.undone.is_empty() => self.reload(),
            _ => self.load_new(),
        }
    }

    fn load_new(&mut self) -> Work {
        self.objects += 1;
        let (number, size) = (self.objects, self.size());
        let records = records(&mut self.random, number * 1_000_000, size);
        let gzip = self.random.below(4) == 0;
        let key = format!("event/{number:04}.csv{}", if gzip { ".gz" } else { "" });
        let content = csv(&records).into_bytes();
        self.put(&key, &if gzip { compressed(&content) } else { content });
        let mut after = self.model.clone();
        after.events.insert(key.clone(), records);
        Work { what: "load", arguments: words("run event.toml"), after, object: Some(key), in_splits: false }
    }

    /// An object large enough for two splits, of few records, because all of them are looked at after each round.
    fn load_in_splits(&mut self) -> Work {
        self.objects += 1;
        let base = self.objects * 1_000_000;
        let record = |n: u64| Record {
            id: base + n,
            amount: (n % 40 != 7).then(|| format!("{n}.50")),
            note: format!("a long note of {n:05} {}", "x".repeat(20_000)),
        };
        let records: Vec<Record> = (0..900).map(record).collect();
        let key = format!("event/{:04}.csv", self.objects);
        self.put(&key, csv(&records).as_bytes());
        let mut after = self.model.clone();
        after.events.insert(key, records);
        let arguments = words("run event.toml --parallel 3");
        Work { what: "splits", arguments, after, object: None, in_splits: true }
    }

    fn change(&mut self) -> Work {
        let (key, old) = self.some_event();
        let (base, size) = (old[0].id / 1_000_000 * 1_000_000, self.size());
        let records = records(&mut self.random, base, size);
        let content = csv(&records).into_bytes();
        self.put(&key, &if key.ends_with(".gz") { compressed(&content) } else { content });
        let mut after = self.model.clone();
        after.events.insert(key.clone(), records);
        Work { what: "change", arguments: words("run event.toml"), after, object: None, in_splits: false }
    }

    fn upsert(&mut self) -> Work {
        self.objects += 1;
        let (number, size) = (self.objects, self.size());
        // All objects speak of the same ids.
        let base = self.random.below(4) * 1_000;
        let records = records(&mut self.random, base, size);
        let key = format!("price/{number:04}.csv");
        self.put(&key, csv(&records).as_bytes());
        let mut after = self.model.clone();
        after.upsert(&key, &records);
        Work { what: "upsert", arguments: words("run price.toml"), after, object: None, in_splits: false }
    }

    fn replace(&mut self) -> Work {
        self.objects += 1;
        let (number, size) = (self.objects, self.size());
        let records = records(&mut self.random, 0, size);
        let key = format!("state/{number:04}.csv");
        self.put(&key, csv(&records).as_bytes());
        let mut after = self.model.clone();
        after.state = Some((key, records));
        Work { what: "replace", arguments: words("run state.toml"), after, object: None, in_splits: false }
    }

    /// All rejects of an object mended, each with an id of its own.
    fn replay(&mut self) -> Work {
        let (key, mut records) = self.some_event();
        let base = records[0].id / 1_000_000 * 1_000_000 + 900_000;
        let (mut lines, load) = (String::from("load,record,raw\n"), self.load_of(&key));
        let rejects = self.database.psql(&format!("select record from aqueduct.reject where load_id = {load}"));
        for number in rejects.lines().map(|line| line.parse::<u64>().unwrap()) {
            let record = &mut records[number as usize - 1];
            *record = Record { id: base + number, amount: Some(format!("{number}.00")), note: "mended".into() };
            let _ = writeln!(lines, "{load},{number},\"{}\"", record.csv());
        }
        std::fs::write(self.path("mended.csv"), lines).unwrap();
        let mut after = self.model.clone();
        after.events.insert(key, records);
        Work {
            what: "replay",
            arguments: words("rejects replay event.toml mended.csv"),
            after,
            object: None,
            in_splits: false,
        }
    }

    fn undo(&mut self) -> Work {
        let (key, records) = self.some_event();
        let mut after = self.model.clone();
        after.events.remove(&key);
        after.undone.insert(key.clone(), records);
        Work {
            what: "undo",
            arguments: words(&format!("undo {}", self.load_of(&key))),
            after,
            object: None,
            in_splits: false,
        }
    }

    fn reload(&mut self) -> Work {
        let mut after = self.model.clone();
        let (key, _) = after.undone.pop_first().unwrap();
        let path = self.path("store").join(&key);
        let bytes = match &self.bucket {
            Some(bucket) => Aws::shared().get_object(&bucket.name, &key).unwrap(),
            None => std::fs::read(path).unwrap(),
        };
        let text = if key.ends_with(".gz") { decompressed(&bytes) } else { String::from_utf8(bytes).unwrap() };
        after.events.insert(key.clone(), parsed(&text));
        Work {
            what: "reload",
            arguments: words(&format!("run event.toml --reload --object {key}")),
            after,
            object: None,
            in_splits: false,
        }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn decompressed(bytes: &[u8]) -> String {
    std::io::read_to_string(flate2::read::GzDecoder::new(bytes)).unwrap()
}

/// Reads what [`csv`] wrote, by another reader than ours.
fn parsed(text: &str) -> Vec<Record> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let record = |cells: csv::StringRecord| Record {
        id: cells[0].parse().unwrap(),
        amount: (&cells[1] != "n/a").then(|| cells[1].to_owned()),
        note: cells[2].to_owned(),
    };
    reader.records().map(|cells| record(cells.unwrap())).collect()
}

// ---- faults

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    CutToServer,
    CutToClient,
    LostAnswerToCommit,
    ServerRestarted,
    FrozenWhileOthersGoOn,
    Racing,
    Overwritten,
    ClockOff,
    ClockSteps,
    StoreCut,
    StoreSlow,
    TruncatedObject,
}

impl Fault {
    const OF_ALL: [Self; 10] = [
        Self::Killed,
        Self::Killed,
        Self::CutToServer,
        Self::CutToClient,
        Self::LostAnswerToCommit,
        Self::ServerRestarted,
        Self::FrozenWhileOthersGoOn,
        Self::Racing,
        Self::ClockOff,
        Self::ClockSteps,
    ];
    const OF_BUCKETS: [Self; 2] = [Self::StoreCut, Self::StoreSlow];
}

/// What became of a command that met a fault.
struct Struck {
    outputs: Vec<Output>,
    /// Beside `before` and `after`: what else may be there for now.
    between: Option<Model>,
    /// What has to be there in the end, when the fault changed that.
    after: Option<Model>,
}

impl World {
    /// Some moment of a command.
    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.random.below(140_000))
    }

    fn strike(&mut self, fault: Fault, work: &Work) -> Struck {
        let mut struck = Struck { outputs: Vec::new(), between: None, after: None };
        let ends = |child: Child| child.wait_with_output().unwrap();
        match fault {
            Fault::Killed => {
                let mut child = self.start(work);
                std::thread::sleep(self.moment());
                child.kill().unwrap();
                struck.outputs.push(ends(child));
            }
            Fault::CutToServer | Fault::CutToClient => {
                let reach = if work.in_splits { 18 << 20 } else { 120_000 };
                let (direction, bytes) = match fault {
                    Fault::CutToServer => (Direction::ToServer, self.random.below(reach)),
                    _ => (Direction::ToClient, self.random.below(8_000)),
                };
                self.proxy.cut_after(direction, bytes);
                struck.outputs.push(ends(self.start(work)));
            }
            Fault::LostAnswerToCommit => {
                // The first ones end questions to the catalogue, the one that counts is among the later ones.
                let nth = 1 + self.random.below(8);
                self.proxy.lose_nth_answer_to(b"commit", nth);
                struck.outputs.push(ends(self.start(work)));
            }
            Fault::ServerRestarted => {
                let child = self.start(work);
                std::thread::sleep(self.moment());
                self.server.kill_immediate();
                self.server.start();
                struck.outputs.push(ends(child));
            }
            Fault::FrozenWhileOthersGoOn => {
                let child = self.start(work);
                std::thread::sleep(self.moment());
                let signal = |name: &str| {
                    _ = Command::new("sh").arg("-c").arg(format!("kill -s {name} {} 2>/dev/null", child.id())).status();
                };
                signal("STOP");
                // A network forgets who is silent, and somebody else is sent to do the work.
                if self.random.below(2) == 0 {
                    self.proxy.cut_now();
                }
                struck.outputs.push(self.command(&work.arguments).output().unwrap());
                signal("CONT");
                struck.outputs.push(ends(child));
            }
            Fault::Racing => {
                let children: Vec<Child> = (0..3).map(|_| self.start(work)).collect();
                struck.outputs.extend(children.into_iter().map(ends));
            }
            Fault::ClockOff => {
                let days = self.random.below(60);
                let mut command = Command::new("faketime");
                let offset = if days.is_multiple_of(2) { format!("-{days}d") } else { format!("+{days}d") };
                command.args(["-f", &offset, env!("CARGO_BIN_EXE_etl-runner")]).args(&work.arguments);
                let plain = self.command(&work.arguments);
                command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
                command.current_dir(self.folder.path()).stdin(Stdio::null());
                struck.outputs.push(command.output().unwrap());
            }
            Fault::ClockSteps => {
                let clock = self.path("clock");
                let set = |offset: &str| {
                    let new = self.path("clock.new");
                    std::fs::write(&new, offset).unwrap();
                    std::fs::rename(new, &clock).unwrap();
                };
                set("+3d");
                let mut command = self.command_to(&self.proxy.url(self.database.url()), &work.arguments);
                command.env("LD_PRELOAD", clock_library()).env("FAKETIME_TIMESTAMP_FILE", &clock);
                // A step is of the time of day. What waits and times out by another clock does not see it.
                command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
                let mut child = command.spawn().unwrap();
                let began = Instant::now();
                let mut days: i32 = 3;
                while child.try_wait().unwrap().is_none() {
                    assert!(began.elapsed() < Duration::from_secs(120), "{} does not end", work.what);
                    std::thread::sleep(Duration::from_millis(3));
                    days = if days > 0 { -4 } else { 3 };
                    set(&format!("{days:+}d"));
                }
                let output = ends(child);
                assert!(matches!(output.status.code(), Some(0 | 75)), "{}: {}", work.what, text(&output));
                if output.status.success() && work.what == "load" {
                    // It has seen the steps.
                    let off = "select count(*) > 0 from aqueduct.load \
                               where abs(extract(epoch from finished_at - now())) > 86400";
                    assert_eq!(self.database.psql(off), "t", "{}", text(&output));
                }
                struck.outputs.push(output);
            }
            Fault::Overwritten => {
                let key = work.object.as_deref().unwrap();
                let child = self.start(work);
                std::thread::sleep(self.moment());
                let size = self.size();
                let base = work.after.events[key][0].id;
                let records = records(&mut self.random, base, size);
                let content = csv(&records).into_bytes();
                self.put(key, &if key.ends_with(".gz") { compressed(&content) } else { content });
                let mut after = work.after.clone();
                after.events.insert(key.to_owned(), records);
                // What was read may be the object as it was.
                struck.between = Some(work.after.clone());
                struck.after = Some(after);
                struck.outputs.push(ends(child));
            }
            Fault::TruncatedObject => {
                let key = work.object.as_deref().unwrap();
                let bytes = compressed(csv(&work.after.events[key]).as_bytes());
                let length = 1 + self.random.below(bytes.len() as u64 - 1) as usize;
                self.put(key, &bytes[..length]);
                struck.outputs.push(ends(self.start(work)));
                std::thread::sleep(Duration::from_millis(20));
                self.put(key, &bytes);
            }
            Fault::StoreCut => {
                let bytes = self.random.below(60_000);
                self.bucket.as_ref().unwrap().proxy.cut_after(Direction::ToClient, bytes);
                struck.outputs.push(ends(self.start(work)));
            }
            Fault::StoreSlow => {
                self.bucket.as_ref().unwrap().proxy.delay(Duration::from_millis(30));
                struck.outputs.push(ends(self.start(work)));
            }
        }
        self.proxy.pass();
        if let Some(bucket) = &self.bucket {
            bucket.proxy.pass();
            bucket.proxy.delay(Duration::ZERO);
        }
        struck
    }
}

/// What shows a process another time of day.
fn clock_library() -> String {
    let output = Command::new("faketime").args(["-f", "+0", "sh", "-c", "echo $LD_PRELOAD"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What was counted over all rounds with one fault.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    rounds: u64,
    /// Of those, the command did not get through by itself.
    interrupted: u64,
    lost: u64,
    doubled: u64,
    unexplained: u64,
    left: u64,
}

impl Tally {
    fn wrong(&self) -> u64 {
        self.lost + self.doubled + self.unexplained + self.left
    }

    /// Compares what is there with what has to be; gives the first differences.
    fn judge(&mut self, seen: &Lines, expected: &Lines) -> Vec<String> {
        let (missing, more) = (beyond(expected, seen), beyond(seen, expected));
        let of = |lines: &[String], kind: &str| lines.iter().filter(|line| line.starts_with(kind)).count() as u64;
        self.lost += of(&missing, "row");
        self.doubled += of(&more, "row");
        self.left += of(&more, "left");
        self.unexplained += missing.iter().chain(&more).filter(|line| !line.starts_with("row")).count() as u64;
        self.unexplained -= of(&more, "left");
        let first = |sign: &str, lines: &[String]| -> Vec<String> {
            lines.iter().take(4).map(|line| format!("{sign} {line}")).collect()
        };
        [first("missing", &missing), first("too much", &more)].concat()
    }
}

fn report(title: &str, tallies: &BTreeMap<String, Tally>) -> String {
    let mut text = format!("{title}\n  {:<32} rounds  interrupted  lost  doubled  unexplained  left behind\n", "");
    let mut all = Tally::default();
    for (name, tally) in tallies {
        let Tally { rounds, interrupted, lost, doubled, unexplained, left } = *tally;
        let _ = writeln!(
            text,
            "  {name:<32} {rounds:>6}  {interrupted:>11}  {lost:>4}  {doubled:>7}  {unexplained:>11}  {left:>11}"
        );
        all.rounds += rounds;
        all.interrupted += interrupted;
        all.lost += lost;
        all.doubled += doubled;
        all.unexplained += unexplained;
        all.left += left;
    }
    let Tally { rounds, interrupted, lost, doubled, unexplained, left } = all;
    let _ = writeln!(
        text,
        "  {:<32} {rounds:>6}  {interrupted:>11}  {lost:>4}  {doubled:>7}  {unexplained:>11}  {left:>11}",
        "all"
    );
    text
}

/// Runs a command until it is done, as a scheduler does; `what` has to be done by then.
fn get_through(world: &World, work: &Work, expected: &Lines) -> Lines {
    for _ in 0..8 {
        let output = world.command(&work.arguments).output().unwrap();
        let code = output.status.code();
        let now = seen(&world.database);
        if code == Some(0) || now == *expected {
            return now;
        }
        assert_eq!(code, Some(75), "{}: {}", work.what, text(&output));
        std::thread::sleep(Duration::from_millis(50));
    }
    seen(&world.database)
}

fn rounds(seed: u64, count: u64, in_bucket: bool, tallies: &mut BTreeMap<String, Tally>) {
    let mut world = World::new(seed, in_bucket, &[30, 400, 6_000]);
    for round in 0..count {
        let work = world.work();
        let mut faults = Fault::OF_ALL.to_vec();
        faults.extend(work.object.iter().flat_map(|_| [Fault::Overwritten; 3]));
        // Only of a compressed object anybody can know that its end is missing.
        let is_packed = work.object.as_deref().is_some_and(|key| key.ends_with(".gz"));
        faults.extend(is_packed.then_some([Fault::TruncatedObject; 6]).into_iter().flatten());
        faults.extend(if in_bucket { &Fault::OF_BUCKETS[..] } else { &[] });
        let fault = faults[world.random.below(faults.len() as u64) as usize];
        let before = world.model.lines();
        let Struck { outputs, between, after } = world.strike(fault, &work);
        let said = || outputs.iter().map(text).collect::<String>();
        let tally = tallies.entry(format!("{fault:?}")).or_default();
        tally.rounds += 1;
        tally.interrupted += u64::from(outputs.iter().any(|output| output.status.code() != Some(0)));

        let work = Work { after: after.unwrap_or(work.after.clone()), ..work };
        let expected = work.after.lines();
        let now = seen(&world.database);
        let between = between.map(|model| model.lines());
        if work.in_splits {
            // Some splits may be in, and nothing that is not of the object.
            let mut may_be: Lines =
                before.iter().chain(&expected).map(|(line, count)| (line.clone(), *count)).collect();
            may_be.extend(now.keys().filter(|line| line.starts_with("left|loading")).map(|line| (line.clone(), 1)));
            let foreign = beyond(&now, &may_be);
            let gone = beyond(&before, &now);
            assert!(
                foreign.is_empty() && gone.is_empty(),
                "seed {seed}, round {round}, {fault:?}: {foreign:?} {gone:?}\n{}",
                said()
            );
        } else if now != before && now != expected && between.is_none_or(|between| now != between) {
            // Whatever happened, it is to be as if nothing had happened yet, or as if all had.
            let wrong = tally.judge(&now, &expected);
            panic!("seed {seed}, round {round}, {} {fault:?}: half of it\n{}\n{}", work.what, wrong.join("\n"), said());
        }
        let end = get_through(&world, &work, &expected);
        let wrong = tally.judge(&end, &expected);
        assert!(
            wrong.is_empty(),
            "seed {seed}, round {round}, {} {fault:?}\n{}\n{}",
            work.what,
            wrong.join("\n"),
            said()
        );
        world.model = work.after;
    }
    let verified = world.command(&words("verify")).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "seed {seed}: {}", text(&verified));
}

#[test]
fn rounds_of_random_faults_lose_and_double_nothing() {
    let (count, seed) = (number_of("CHAOS_ROUNDS", 60), number_of("CHAOS_SEED", 1));
    let mut tallies = BTreeMap::new();
    rounds(seed, count / 2, false, &mut tallies);
    rounds(seed + 1, count - count / 2, true, &mut tallies);
    println!("{}", report("random work, random faults", &tallies));
    let all: u64 = tallies.values().map(Tally::wrong).sum();
    assert_eq!(all, 0);
    let interrupted: u64 = tallies.values().map(|tally| tally.interrupted).sum();
    // Of a few rounds chance decides.
    assert!(
        count < 60 || interrupted * 5 > count,
        "{interrupted} of {count} commands were interrupted: that proves little"
    );
}

// ---- every message

/// A database as it is before the command, to be copied for each strike.
fn copy_of(server: &Postgres, base: &TestDatabase, name: &str) {
    let sql = format!("drop database if exists {name} with (force); create database {name} template {}", base.name());
    for statement in sql.split("; ") {
        let output = Command::new("psql").args(["-X", "-q", "-d", &server.url(), "-c", statement]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[derive(Clone, Copy, Debug)]
enum Strike {
    /// The process ends; the server has not got the message.
    KilledBefore,
    /// The process ends; the server has answered the message.
    KilledAfter,
    /// The connection ends, and the process finds out.
    CutBefore,
    CutAfter,
}

#[test]
fn a_strike_at_any_message_leaves_all_or_nothing() {
    let step = number_of("CHAOS_STEP", 29);
    let mut tallies = BTreeMap::new();
    let mut world = World::new(99, false, &[200]);
    world.objects = 50;
    type Prepare = fn(&mut World) -> Work;
    let works: [(&str, Prepare); 7] = [
        ("load", World::load_new),
        ("change", World::change),
        ("upsert", World::upsert),
        ("replace", World::replace),
        ("replay", World::replay),
        ("undo", World::undo),
        ("reload", World::reload),
    ];
    for (name, prepare) in works {
        let before = world.model.lines();
        let work = prepare(&mut world);
        let expected = work.after.lines();
        let scratch = format!("{}_scratch", world.database.name());
        let url = format!("postgres://postgres@{}/{scratch}", world.server.address());
        // Undisturbed, to count the messages; what is left is what the model says.
        copy_of(&world.server, &world.database, &scratch);
        let of = |direction| world.proxy.messages(direction);
        let counted = [of(Direction::ToServer), of(Direction::ToClient)];
        let output = world.command_to(&world.proxy.url(&url), &work.arguments).output().unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output));
        let messages = [of(Direction::ToServer) - counted[0], of(Direction::ToClient) - counted[1]];
        for strike in [Strike::KilledBefore, Strike::KilledAfter, Strike::CutBefore, Strike::CutAfter] {
            let (direction, last) = match strike {
                Strike::KilledBefore | Strike::CutBefore => (Direction::ToServer, messages[0]),
                Strike::KilledAfter | Strike::CutAfter => (Direction::ToClient, messages[1]),
            };
            let tally: &mut Tally = tallies.entry(format!("{name}, {strike:?}")).or_default();
            // Each strike begins at another message, so that together they come by more of them.
            let first = 1 + strike as u64 % step;
            for nth in (first..=last).step_by(usize::try_from(step).unwrap()) {
                copy_of(&world.server, &world.database, &scratch);
                world.proxy.hold(direction, nth);
                let mut child = world.command_to(&world.proxy.url(&url), &work.arguments).spawn().unwrap();
                let deadline = Instant::now() + Duration::from_secs(60);
                while !world.proxy.is_held() && child.try_wait().unwrap().is_none() {
                    assert!(Instant::now() < deadline, "{name}: message {nth} never came");
                    std::thread::sleep(Duration::from_millis(1));
                }
                if matches!(strike, Strike::KilledBefore | Strike::KilledAfter) {
                    _ = child.kill();
                }
                world.proxy.cut_now();
                world.proxy.pass();
                let output = child.wait_with_output().unwrap();
                tally.rounds += 1;
                tally.interrupted += u64::from(output.status.code() != Some(0));
                let database = Scratch { server: &world.server, name: &scratch };
                let now = database.seen();
                let said = || format!("{name} {strike:?} at message {nth} of {last}: {}", text(&output));
                if now != before && now != expected {
                    let wrong = tally.judge(&now, &expected);
                    panic!("half of it: {}\n{}", wrong.join("\n"), said());
                }
                if matches!(strike, Strike::CutBefore | Strike::CutAfter) {
                    let code = output.status.code();
                    assert!(code == Some(0) && now == expected || code == Some(75), "{code:?} {}", said());
                }
                if now != expected {
                    let again = world.command_to(&url, &work.arguments).output().unwrap();
                    assert_eq!(again.status.code(), Some(0), "{}\n{}", said(), text(&again));
                }
                let wrong = tally.judge(&database.seen(), &expected);
                assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), said());
            }
        }
        // On to the next work, from where this one ends.
        let output = world.command(&work.arguments).output().unwrap();
        assert!(output.status.success(), "{name}: {}", text(&output));
        world.model = work.after;
    }
    println!("{}", report(&format!("struck at every {step}. message"), &tallies));
    assert_eq!(tallies.values().map(Tally::wrong).sum::<u64>(), 0);
    for (name, _) in works {
        let of_work = tallies.iter().filter(|(title, _)| title.starts_with(&format!("{name},")));
        let interrupted: u64 = of_work.map(|(_, tally)| tally.interrupted).sum();
        assert!(interrupted > 0, "no strike came in the middle of {name}");
    }
}

/// A database that is made anew for each strike.
struct Scratch<'a> {
    server: &'a Postgres,
    name: &'a str,
}

impl Scratch<'_> {
    fn seen(&self) -> Lines {
        let url = format!("postgres://postgres@{}/{}", self.server.address(), self.name);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = Command::new("psql").args(["-X", "-q", "-At", "-d", &url, "-c", SEEN]).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
            let lines = lines_of(&String::from_utf8(output.stdout).unwrap());
            if !lines.keys().any(|line| line.starts_with("left|session")) || Instant::now() > deadline {
                return lines;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
