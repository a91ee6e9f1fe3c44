//! Our reading of a text is PostgreSQL's: what `text::type` gives, and nothing that it refuses or alters.
//!
//! For each type, texts of every kind go both ways at once: through our converter, binary COPY encoder and back out of
//! the table, and through the server's own cast. Where we take a text, the two values must print the same; where the
//! server refuses one, so must we; where only we refuse, one of the stricter rules listed in `transform::types` has to
//! say so. SQLite holds the same canonical text.

use std::sync::Arc;

use etl_runner::database::CopyEncoder;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use testkit::{Postgres, TestDatabase};
use transform::csv::{Cutter, Grammar};
use transform::types::write_canonical;
use transform::{ColumnType, Pipeline, Plan, RowRef, RowSink, Worker};

/// One text, and what each side makes of it.
#[derive(Debug)]
struct Verdict {
    text: String,
    /// Canonical text, or the reject's message.
    ours: Result<String, String>,
    /// What the table holds after our binary COPY.
    stored: Option<String>,
    /// `text::type::text`, or the SQLSTATE.
    server: Result<String, String>,
}

struct Canonical {
    column: ColumnType,
    rows: Vec<(u64, String)>,
}

impl RowSink for Canonical {
    fn row(&mut self, row: RowRef<'_>) {
        let mut text = String::new();
        write_canonical(row.cells[0], self.column, &row, &mut text);
        self.rows.push((row.record, text));
    }
}

struct Both<'a>(&'a mut CopyEncoder, &'a mut Canonical);

impl RowSink for Both<'_> {
    fn row(&mut self, row: RowRef<'_>) {
        self.0.row(row);
        self.1.row(row);
    }
}

fn judge(database: &TestDatabase, field: &str, sql_type: &str, texts: &[String]) -> Vec<Verdict> {
    let file = format!(
        "version = 1\nname = \"t\"\n[source]\npath = \"*.csv\"\n[dialect]\ndelimiter = \",\"\n[schema]\n\
         missingValues = []\nfields = [{{ name = \"v\", {field} }}]\n[limits]\nrecord = \"16 MiB\"\n"
    );
    let pipeline = Pipeline::parse(&file).unwrap_or_else(|problems| panic!("{}", problems.render("t.toml", &file)));
    let column = ColumnType::parse(sql_type).unwrap();
    let grammar = Grammar::new(&pipeline.dialect, b',');
    let (plan, _) = Plan::compile(&pipeline, grammar, Some(&["v".to_owned()]), &[column]).unwrap();
    let mut csv = b"v\n".to_vec();
    for text in texts {
        csv.extend_from_slice(format!("\"{}\"\n", text.replace('"', "\"\"")).as_bytes());
    }
    let mut cutter = Cutter::new(grammar, pipeline.source.encoding, pipeline.limits.record, true);
    cutter.push(&csv);
    cutter.finish();
    cutter.next().unwrap();
    let mut worker = Worker::new(&plan);
    // `_load_id` and `_record` tell which text a row came from.
    let mut copy = CopyEncoder::new(Arc::from([column]), Some(1), Vec::new());
    let mut canonical = Canonical { column, rows: Vec::new() };
    let mut rejects = Vec::new();
    while let Some(block) = cutter.next() {
        rejects.extend(worker.apply(&block, &mut Both(&mut copy, &mut canonical)).rejects);
    }
    assert_eq!(canonical.rows.len() + rejects.len(), texts.len(), "each text is one record");

    database.psql(&format!("drop table if exists v; create table v (v {sql_type}, load bigint, record bigint)"));
    let mut file = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(copy.finish());
    file.extend((-1i16).to_be_bytes());
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let copied = database.try_psql(&format!("\\copy v from '{}' with (format binary)", path.path().display()));
    copied.unwrap_or_else(|error| panic!("the server refuses what we encoded for {sql_type}: {error}"));

    let stored =
        rows(&database.psql("set timezone = 'UTC'; select record, encode(convert_to(v::text, 'UTF8'), 'hex') from v"));
    let list: Vec<String> =
        texts.iter().enumerate().map(|(at, text)| format!("({}, '{}')", at + 1, hex(text.as_bytes()))).collect();
    database.psql(
        "create or replace function cast_to(t text, wanted text) returns text language plpgsql as $$ \
         declare made text; begin \
           execute format('select (%L::%s)::text', t, wanted) into made; return 'ok ' || encode(convert_to(made, 'UTF8'), 'hex'); \
         exception when others then return 'no ' || sqlstate; end $$",
    );
    let asked = format!(
        "set timezone = 'UTC'; select n, cast_to(convert_from(decode(h, 'hex'), 'UTF8'), '{sql_type}') \
         from (values {}) as t (n, h)",
        list.join(", ")
    );
    let server = rows(&database.psql(&asked));

    let mut verdicts: Vec<Verdict> = texts
        .iter()
        .map(|text| Verdict { text: text.clone(), ours: Err(String::new()), stored: None, server: Err(String::new()) })
        .collect();
    let at = |record: u64| usize::try_from(record).unwrap() - 1;
    for (record, text) in canonical.rows {
        verdicts[at(record)].ours = Ok(text);
    }
    for reject in rejects {
        verdicts[at(reject.record)].ours = Err(plan.message(reject.fault));
    }
    for (record, value) in stored {
        verdicts[at(record)].stored = Some(unhex(&value));
    }
    for (record, value) in server {
        verdicts[at(record)].server = match value.split_once(' ') {
            Some(("ok", value)) => Ok(unhex(value)),
            _ => Err(value),
        };
    }
    verdicts
}

fn rows(output: &str) -> Vec<(u64, String)> {
    let line = |line: &str| line.split_once('|').map(|(n, value)| (n.parse().unwrap(), value.to_owned()));
    output.lines().filter_map(line).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> String {
    let bytes =
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

/// Texts of a strategy, the same ones on every run.
fn sample(strategy: impl Strategy<Value = String>, count: usize) -> Vec<String> {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &[7; 32]),
    );
    let mut texts: Vec<String> = (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    // PostgreSQL's text holds no NUL, so it cannot be asked about one.
    texts.retain(|text| !text.contains('\0'));
    texts
}

/// Checks one type. `stricter` says for which texts we may refuse what the server takes; `same` how the server's value
/// compares with ours where both are values of the type.
fn check(field: &str, sql_type: &str, texts: Vec<String>, stricter: impl Fn(&str) -> bool) {
    let database = Postgres::database();
    let verdicts = judge(&database, field, sql_type, &texts);
    let mut taken = 0;
    for verdict in &verdicts {
        match (&verdict.ours, &verdict.server) {
            (Ok(ours), Ok(server)) => {
                taken += 1;
                assert_eq!(ours, server, "{sql_type}: {verdict:?}");
                assert_eq!(verdict.stored.as_ref(), Some(server), "{sql_type}: {verdict:?}");
            }
            (Ok(_), Err(_)) => panic!("{sql_type}: we take what the server refuses: {verdict:?}"),
            (Err(_), Ok(_)) => assert!(stricter(&verdict.text), "{sql_type}: no listed rule refuses this: {verdict:?}"),
            (Err(_), Err(_)) => {}
        }
    }
    assert!(taken * 20 >= verdicts.len(), "{sql_type}: only {taken} of {} texts are values", verdicts.len());
}

fn plain_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'))
}

#[test]
fn integers_are_the_servers_integers() {
    let texts = || {
        sample(
            prop_oneof![
                6 => any::<i64>().prop_map(|n| n.to_string()),
                4 => any::<i32>().prop_map(|n| n.to_string()),
                4 => any::<i16>().prop_map(|n| n.to_string()),
                2 => "[-+ ]?0{0,2}[0-9]{1,20}[ _x.]?",
                1 => ".{0,6}",
                1 => prop::sample::select(vec![
                    "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483648", "-2147483649",
                    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
                    "-0", "+5", "007", " 5 ", "1_000", "0x10", "٣", "1e3", "", "-", "1,000",
                ]).prop_map(str::to_owned),
            ],
            1500,
        )
    };
    for sql_type in ["smallint", "integer", "bigint"] {
        // Stricter: no plus sign, no leading zeros, no blanks around, no other notations.
        let field = format!("type = \"integer\", sqlType = \"{sql_type}\"");
        check(&field, sql_type, texts(), |text| !plain_integer(text));
    }
}

#[test]
fn numbers_are_the_servers_numerics() {
    let texts = || {
        sample(
            prop_oneof![
                6 => "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{0,6})?",
                3 => "[-+]?[0-9]{0,25}\\.?[0-9]{0,25}",
                2 => "[-+]?[1-9][0-9]{0,8}(\\.[0-9]{0,8})?[eE][-+]?[0-9]{1,2}",
                1 => ".{0,6}",
                1 => prop::sample::select(vec![
                    "NaN", "Infinity", "-inf", "1e400", "1e-400", "0.0", "-0.00", ".5", "5.", ".", "1e", " 1", "1_0",
                    "12O.50", "1.2.3", "--5", "", "0x1f", "99999999.995", "1.10", "0e5", "00.5", "007",
                ]).prop_map(str::to_owned),
            ],
            1500,
        )
    };
    // Stricter: no blanks, no leading zeros, no NaN or infinity, no other notations.
    let odd = |text: &str| {
        let body = text.trim_start_matches(['-', '+']);
        let zeros = body.len() > 1 && body.starts_with('0') && body.as_bytes()[1].is_ascii_digit();
        zeros || body.chars().any(|c| !c.is_ascii_digit() && !matches!(c, '.' | 'e' | 'E' | '+' | '-'))
    };
    check("type = \"number\"", "numeric", texts(), odd);
    // Stricter: nothing is rounded.
    let rounds = |text: &str, scale: usize| {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let fraction = mantissa.split_once('.').map_or("", |(_, fraction)| fraction);
        let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(0);
        // Digits that move behind the point count too.
        fraction.trim_end_matches('0').len() as i64 - exponent > scale as i64
            || (exponent < 0 && mantissa.chars().any(|c| ('1'..='9').contains(&c)))
    };
    for (precision, scale) in [(14, 2), (30, 10), (5, 0)] {
        let sql_type = format!("numeric({precision},{scale})");
        let field = format!("type = \"number\", precision = [{precision}, {scale}]");
        check(&field, &sql_type, texts(), |text| odd(text) || rounds(text, scale));
    }
}

#[test]
fn floats_are_the_servers_floats() {
    let texts = || {
        sample(
            prop_oneof![
                4 => any::<f64>().prop_map(|x| format!("{x}")),
                4 => any::<f32>().prop_map(|x| format!("{x}")),
                4 => any::<f64>().prop_map(|x| format!("{x:e}")),
                4 => "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,6})?",
                1 => "-?[1-9][0-9]{0,20}(\\.[0-9]{1,20})?",
                1 => prop::sample::select(vec!["1e400", "1e-400", "NaN", "inf", "0.1", "1e22", "1e15", "-0", "1e-5",
                    "123456789012345678", "0.0001", "0.00001"]).prop_map(str::to_owned),
            ],
            1500,
        )
    };
    // Stricter: what the column would print back as another number. The oracle is the server's own print, compared
    // as exact decimals.
    let database = Postgres::database();
    for (sql_type, single) in [("double precision", false), ("real", true)] {
        let field = format!("type = \"number\", sqlType = \"{sql_type}\"");
        let verdicts = judge(&database, &field, sql_type, &texts());
        let mut taken = 0;
        for verdict in &verdicts {
            match (&verdict.ours, &verdict.server) {
                (Ok(ours), Ok(server)) => {
                    taken += 1;
                    assert_eq!(ours, server, "{verdict:?}");
                    assert_eq!(verdict.stored.as_ref(), Some(server), "{verdict:?}");
                }
                (Ok(_), Err(_)) => panic!("we take what the server refuses: {verdict:?}"),
                (Err(_), Ok(server)) => {
                    let sql = format!("select '{}'::numeric = '{server}'::numeric", verdict.text);
                    let lossless = verdict.text.parse::<f64>().is_ok_and(f64::is_finite)
                        && database.try_psql(&sql).is_ok_and(|same| same == "t");
                    assert!(!lossless, "single: {single}: lossless, yet refused: {verdict:?}");
                }
                (Err(_), Err(_)) => {}
            }
        }
        assert!(taken * 5 >= verdicts.len(), "{sql_type}: {taken}");
    }
}

#[test]
fn dates_are_the_servers_dates() {
    let texts = sample(
        prop_oneof![
            8 => "(0{3}[1-9]|[0-9]{3}[1-9]|[1-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
            2 => "[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}",
            1 => ".{0,8}",
            1 => prop::sample::select(vec!["2023-02-29", "2024-02-29", "1900-02-29", "2000-02-29", "0000-00-00",
                "31/12/2022", "yesterday", "epoch", "infinity", "1582-10-10", "10000-01-01", "20240102", "2024-1-2",
                "2024-01-02 ", "Jan 2 2024", "43101", "0001-01-01", "9999-12-31"]).prop_map(str::to_owned),
        ],
        1500,
    );
    // Stricter: ISO 8601 with four, two and two digits, nothing else.
    let iso = |text: &str| {
        let b = text.as_bytes();
        b.len() == 10
            && b[4] == b'-'
            && b[7] == b'-'
            && text.replace('-', "").bytes().filter(u8::is_ascii_digit).count() == 8
    };
    check("type = \"date\"", "date", texts, |text| !iso(text) || text.starts_with("0000"));
}

#[test]
fn times_are_the_servers_times() {
    let clock = "([01][0-9]|2[0-4]):[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,7})?)?";
    let day = "(1[0-9]{3}|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
    let zone = "(Z|[+-](0[0-9]|1[0-6])(:?[0-6][0-9])?)?";
    let odd = vec![
        "24:00",
        "23:59:60",
        "04:05 PM",
        "allballs",
        "12",
        "1:2:3",
        "040506",
        "now",
        "infinity",
        "2024-01-02T03:04:05 EST",
        "2024-01-02 03:04:05 Europe/Paris",
        "2024-01-02",
        "",
    ];
    // Stricter: the shape must be ISO 8601, no second 60, no 24:00, no finer digits than the column keeps.
    let strict = |shape: &str, digits: usize| {
        let shape = regex::Regex::new(&format!("^{shape}$")).unwrap();
        let fraction = regex::Regex::new(&format!("\\.[0-9]{{{digits}}}[0-9]*[1-9]")).unwrap();
        move |text: &str| {
            !shape.is_match(text) || text.contains(":60") || text.contains("24:") || fraction.is_match(text)
        }
    };
    let list = |shape: String| {
        let odd = prop::sample::select(odd.clone()).prop_map(str::to_owned);
        sample(prop_oneof![8 => proptest::string::string_regex(&shape).unwrap(), 1 => odd, 1 => ".{0,8}"], 1500)
    };
    check("type = \"time\"", "time", list(clock.to_owned()), strict(clock, 6));
    check("type = \"time\", sqlType = \"time(3)\"", "time(3)", list(clock.to_owned()), strict(clock, 3));
    let plain = format!("{day}[T ]{clock}");
    check("type = \"datetime\"", "timestamp", list(plain.clone()), strict(&plain, 6));
    let zoned = format!("{day}[T ]{clock}{zone}");
    // Without an offset the server takes its session's zone; we refuse to guess.
    let no_offset = regex::Regex::new(&format!("^{plain}$")).unwrap();
    let strict_zone = strict(&zoned, 6);
    let field = "type = \"datetime\", timezone = \"UTC\"";
    check(field, "timestamptz", list(zoned.clone()), move |text| strict_zone(text) || no_offset.is_match(text));
}

#[test]
fn json_is_the_servers_jsonb() {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1e2".to_owned()),
        Just("-0.50".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,9})?([eE][-+]?[0-9]{1,2})?",
        "\"[a-zé\\\\\"/\u{1F600}]{0,5}\"",
        Just("\"\\u00e9\\n\\t\\\\\"".to_owned()),
        Just("\"\\ud83d\\ude00\"".to_owned()),
        Just("\"\\ud83d\"".to_owned()),
        Just("\"\\u0000\"".to_owned()),
        Just("01".to_owned()),
        Just("'x'".to_owned()),
    ];
    let value = scalar.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(vec!["a", "b", "bb", "ab", "", "é", "aaa", "key with blanks"]);
        let pair = (key, inner.clone()).prop_map(|(key, value)| format!("\"{key}\" : {value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            proptest::collection::vec(pair, 0..4).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    });
    let texts: Vec<String> = sample(value.prop_map(|value| format!("{{\"v\":{value}}}")), 1500);
    // Stricter: a key twice.
    let twice = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
    check("type = \"object\"", "jsonb", texts, twice);
}

#[test]
fn words_and_identifiers_are_the_servers() {
    let booleans = sample("(true|false|TRUE|t|f|yes|no|1|0|on|off|T| true)", 200);
    let known = ["true", "True", "TRUE", "1", "false", "False", "FALSE", "0"];
    check("type = \"boolean\"", "boolean", booleans, |text| !known.contains(&text));
    let uuids = sample(
        prop_oneof![
            6 => "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
            2 => "[0-9a-fA-F]{32}",
            1 => "\\{?[0-9a-f]{8}-?[0-9a-g]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\\}?",
        ],
        600,
    );
    let regular = regex::Regex::new("^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$").unwrap();
    check("type = \"string\", format = \"uuid\"", "uuid", uuids, move |text| !regular.is_match(text));
}

#[test]
fn texts_arrive_byte_for_byte() {
    let texts = sample(prop_oneof![4 => "\\PC{0,30}", 2 => "[ -~\n\r\t]{0,30}", 1 => ".{0,12}"], 1500);
    check("type = \"string\"", "text", texts.clone(), |_| false);
    // Stricter: a text that is longer is never cut, not even its blanks.
    check("type = \"string\", sqlType = \"varchar(8)\"", "varchar(8)", texts, |text| text.chars().count() > 8);
    let formulas = [
        "=HYPERLINK(\"http://x\",\"y\")",
        "=cmd|'/c calc'!A1",
        "+1+1",
        "-2+3",
        "@SUM(1)",
        "\t=1",
        "\\N",
        "\\.",
        "'); DROP TABLE t; --",
        "$$",
        "NULL",
        "ends with \\",
    ];
    check("type = \"string\"", "text", formulas.map(str::to_owned).to_vec(), |_| false);
}
