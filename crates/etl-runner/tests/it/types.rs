//! Our reading of a text is PostgreSQL's: what `text::type` gives, and nothing that it refuses or alters.
//!
//! For each type, texts of every kind go everywhere at once: through our converter and both formats of COPY into a table
//! and back, through the server's own cast, and through a run into SQLite. What is a value must be the same value in each
//! place, and it is one exactly when the server takes it unaltered and none of the stricter rules refuses it. Those rules
//! are listed in `transform::types`; here each is written a second time, for the texts of its type.

mod worlds;

use proptest::prelude::*;
use proptest::strategy::{BoxedStrategy, ValueTree};
use proptest::string::string_regex;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use regex::{Captures, Regex};
use testkit::Postgres;

use self::worlds::Case;

/// Texts of a strategy, the same ones on every run.
fn sample(strategy: impl Strategy<Value = String>, count: usize) -> Vec<String> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut texts: Vec<String> = (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    // PostgreSQL's text holds no NUL, so it cannot be asked about one.
    texts.retain(|text| !text.contains('\0'));
    texts
}

/// One of these texts.
fn one_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> BoxedStrategy<String> {
    prop::sample::select(texts.into_iter().map(str::to_owned).collect::<Vec<_>>()).boxed()
}

fn matching(pattern: &str) -> BoxedStrategy<String> {
    string_regex(pattern).unwrap().boxed()
}

/// Whether the whole text matches.
fn whole(pattern: &str) -> impl Fn(&str) -> bool + use<> {
    let pattern = Regex::new(&format!("^(?:{pattern})$")).unwrap();
    move |text| pattern.is_match(text)
}

/// Rewrites a text that matches as a whole.
fn rewritten<F: Fn(&Captures<'_>) -> String>(pattern: &str, rewrite: F) -> impl Fn(&str) -> Option<String> + use<F> {
    let pattern = Regex::new(&format!("^(?:{pattern})$")).unwrap();
    move |text| pattern.captures(text).map(|parts| rewrite(&parts))
}

fn nothing(_: &str) -> bool {
    false
}

/// Stricter: no plus sign, no leading zeros, no blanks around, no other notations.
fn odd_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || (digits != "0" && digits.starts_with('0'))
}

#[test]
fn integers_are_the_servers_integers() {
    let database = Postgres::database();
    let texts = sample(
        prop_oneof![
            6 => any::<i64>().prop_map(|n| n.to_string()),
            4 => any::<i32>().prop_map(|n| n.to_string()),
            4 => any::<i16>().prop_map(|n| n.to_string()),
            2 => "[-+ ]?0{0,2}[0-9]{1,20}[ _x.]?",
            1 => ".{0,6}",
            1 => one_of([
                "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483648", "-2147483649",
                "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
                "-0", "+5", "007", " 5 ", "1_000", "0x10", "٣", "1e3", "", "-", "1,000", "1.0",
            ]),
        ],
        1500,
    );
    for sql_type in ["smallint", "integer", "bigint"] {
        let field = format!("type = \"integer\", sqlType = \"{sql_type}\"");
        Case::of(&field).check(&database, &texts, odd_integer);
    }
    for sql_type in ["numeric", "numeric(12,2)", "numeric(25,0)", "numeric(30,20)"] {
        let field = format!("type = \"integer\", sqlType = \"{sql_type}\"");
        Case::of(&field).unaltered("numeric").check(&database, &texts, odd_integer);
    }
}

#[test]
fn years_are_the_servers_integers_of_four_digits() {
    let database = Postgres::database();
    let texts = sample(
        prop_oneof![
            8 => "[0-9]{4}",
            2 => "[-+ ]?[0-9]{1,6}[ .]?",
            1 => one_of(["0000", "0001", "9999", "10000", "24", "-2024", "٢٠٢٤", "2e3", "1e03", ""]),
        ],
        400,
    );
    let four_digits = whole("[0-9]{4}");
    let stricter = |text: &str| !four_digits(text) || text == "0000";
    for sql_type in ["integer", "smallint", "bigint", "numeric", "numeric(6,1)"] {
        let field = format!("type = \"year\", sqlType = \"{sql_type}\"");
        Case::of(&field).check(&database, &texts, stricter);
    }
}

/// Stricter: no blanks, no leading zeros, no NaN or infinity, no other notations.
fn odd_number(text: &str) -> bool {
    let body = text.trim_start_matches(['-', '+']);
    let zeros = body.len() > 1 && body.starts_with('0') && body.as_bytes()[1].is_ascii_digit();
    zeros || body.chars().any(|c| !c.is_ascii_digit() && !matches!(c, '.' | 'e' | 'E' | '+' | '-'))
}

#[test]
fn numbers_are_the_servers_numerics() {
    let database = Postgres::database();
    let texts = sample(
        prop_oneof![
            6 => "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{0,6})?",
            3 => "[-+]?[0-9]{0,25}\\.?[0-9]{0,25}",
            2 => "[-+]?[1-9][0-9]{0,8}(\\.[0-9]{0,8})?[eE][-+]?[0-9]{1,2}",
            1 => ".{0,6}",
            1 => one_of([
                "NaN", "Infinity", "-inf", "1e400", "1e-400", "0.0", "-0.00", ".5", "5.", ".", "1e", " 1", "1_0",
                "12O.50", "1.2.3", "--5", "", "0x1f", "99999999.995", "1.10", "0e5", "00.5", "007",
            ]),
        ],
        1500,
    );
    Case::of("type = \"number\"").check(&database, &texts, odd_number);
    // Nothing is rounded: a value the server would alter is a reject.
    for (precision, scale) in [(14, 2), (30, 10), (5, 0)] {
        let field = format!("type = \"number\", precision = [{precision}, {scale}]");
        Case::of(&field).unaltered("numeric").check(&database, &texts, odd_number);
    }
    let texts = sample("-?0?\\.000[0-9]{1,4}", 300);
    Case::of("type = \"number\", sqlType = \"numeric(2,5)\"").unaltered("numeric").check(&database, &texts, odd_number);
}

#[test]
fn numbers_in_the_files_own_notation_are_the_servers_numerics() {
    let database = Postgres::database();
    let number = "[-+]?([0-9]{1,3}([.,' ][0-9]{1,4}){0,3}|[0-9]{1,9})([.,][0-9]{0,4})?([eE][-+]?[0-9])?";
    let odd =
        one_of(["", ",", ".", "1,", ",5", "1.234.567,89", "1'234'567.89", "12.34.567,8", "1..234", "1,5 ", "1,5€"]);
    let texts = sample(prop_oneof![8 => number, 1 => odd], 1500);
    for (decimal, group) in [(',', Some('.')), ('.', Some(',')), ('.', Some('\'')), (',', Some(' ')), (',', None)] {
        // One to three digits, then groups of two or three, three at the end; groups only before the decimals.
        let escaped = group.map(|group| regex::escape(&group.to_string()));
        let grouped = escaped.map(|group| format!("|[0-9]{{1,3}}(?:{group}[0-9]{{2,3}})*{group}[0-9]{{3}}"));
        let pattern = format!(
            "([-+]?)([0-9]*{})(?:({})([0-9]*))?([eE][-+]?[0-9]+)?",
            grouped.unwrap_or_default(),
            regex::escape(&decimal.to_string())
        );
        let plain = rewritten(&pattern, |parts| {
            let part = |at| parts.get(at).map_or("", |part| part.as_str());
            let whole: String = part(2).chars().filter(char::is_ascii_digit).collect();
            format!("{}{whole}{}{}{}", part(1), if part(3).is_empty() { "" } else { "." }, part(4), part(5))
        });
        let group = group.map(|group| format!(", groupChar = \"{group}\"")).unwrap_or_default();
        let keys = format!("type = \"number\", decimalChar = \"{decimal}\"{group}");
        Case::of(&keys).written(&plain).check(&database, &texts, odd_number);
        let keys = format!("{keys}, precision = [9, 2]");
        Case::of(&keys).written(&plain).unaltered("numeric").check(&database, &texts, odd_number);
    }

    let texts = sample("[-+]?[0-9]{0,4}(,[0-9]{1,4}){0,3}[. ]?", 800);
    let grouped = rewritten("[-+]?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3})", |parts| parts[0].replace(',', ""));
    Case::of("type = \"integer\", groupChar = \",\"").written(grouped).check(&database, &texts, odd_integer);
}

#[test]
fn numbers_are_taken_out_of_the_text_around_them() {
    let database = Postgres::database();
    let around = "(EUR |\\$|ca\\. | |\\(|− |- |Rs\\.|x1 )?-?[0-9]{1,6}(\\.[0-9]{1,3})?(%| €|\\)| pcs| ½|-| 2|\\.)?";
    let texts = sample(matching(around), 1000);
    // A parenthesis, another minus sign, another number or a separator could change what the number means.
    let number = "(?:EUR |\\$| )?(-?[0-9]+(?:\\.[0-9]+)?)(?:%| €| pcs|\\.)?";
    let keys = "type = \"number\", bareNumber = false";
    Case::of(keys).written(rewritten(number, |parts| parts[1].to_owned())).check(&database, &texts, odd_number);
    let integer = "(?:EUR |\\$|ca\\. | )?(-?[0-9]+)(?:%| €| pcs|\\.)?";
    let keys = "type = \"integer\", bareNumber = false";
    Case::of(keys).written(rewritten(integer, |parts| parts[1].to_owned())).check(&database, &texts, odd_integer);
}

#[test]
fn floats_are_the_servers_floats() {
    let database = Postgres::database();
    let texts = sample(
        prop_oneof![
            4 => any::<f64>().prop_map(|x| format!("{x}")),
            4 => any::<f32>().prop_map(|x| format!("{x}")),
            4 => any::<f64>().prop_map(|x| format!("{x:e}")),
            4 => any::<f32>().prop_map(|x| format!("{x:e}")),
            4 => "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,6})?",
            1 => "-?[1-9][0-9]{0,20}(\\.[0-9]{1,20})?",
            1 => "[-+ ]?0{0,2}[0-9]{0,3}\\.?[0-9]{0,2}([eE][-+]?[0-9]{0,2})?",
            1 => one_of(["1e400", "1e-400", "NaN", "inf", "0.1", "1e22", "1e15", "-0", "1e-5", "1e23", "5e-324", "1e-45",
                "123456789012345678", "0.0001", "0.00001", "16777216", "16777217", "3.4028235e38", "3.4028236e38"]),
        ],
        1500,
    );
    // Nothing is rounded: what the column would print back as another number is a reject.
    let unaltered = "case when t::numeric = t::COLUMN::text::numeric then t::COLUMN end";
    for sql_type in ["double precision", "real"] {
        let field = format!("type = \"number\", sqlType = \"{sql_type}\"");
        Case::of(&field).asking(unaltered).check(&database, &texts, odd_number);
    }
}

#[test]
fn dates_are_the_servers_dates() {
    let database = Postgres::database();
    let texts = sample(
        prop_oneof![
            8 => "(0{3}[1-9]|[0-9]{3}[1-9]|[1-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
            2 => "[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}",
            1 => ".{0,8}",
            1 => one_of(["2023-02-29", "2024-02-29", "1900-02-29", "2000-02-29", "0000-00-00",
                "31/12/2022", "yesterday", "epoch", "infinity", "1582-10-10", "10000-01-01", "20240102", "2024-1-2",
                "2024-01-02 ", "Jan 2 2024", "43101", "0001-01-01", "9999-12-31"]),
        ],
        1500,
    );
    // Stricter: ISO 8601 with four, two and two digits, nothing else.
    let iso = whole("[0-9]{4}-[0-9]{2}-[0-9]{2}");
    Case::of("type = \"date\"").check(&database, &texts, |text| !iso(text));
}

const CLOCK: &str = "([01][0-9]|2[0-4]):[0-6][0-9](:[0-6][0-9](\\.[0-9]{1,7})?)?";
const DAY: &str = "(1[0-9]{3}|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
const OFFSET: &str = "(Z|[+-](0[0-9]|1[0-6])([0-6][0-9]|:[0-6][0-9](:[0-6][0-9])?)?)";

/// Stricter: the shape must be ISO 8601, no second 60, no 24:00, no digit beyond a microsecond.
fn odd_time(date: &str, offset: &str) -> impl Fn(&str) -> bool + use<> {
    let iso = whole(&format!("{date}[0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}(\\.[0-9]+)?)?{offset}"));
    let leap_or_finer = Regex::new(":[0-9]{2}:60|\\.[0-9]{6}[0-9]*[1-9]").unwrap();
    let end_of_day = Regex::new("(^|[T ])24:").unwrap();
    move |text| !iso(text) || leap_or_finer.is_match(text) || end_of_day.is_match(text)
}

const ISO_DAY: &str = "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]";
const ISO_OFFSET: &str = "(Z|[+-][0-9]{2}([0-9]{2}|:[0-9]{2}(:[0-9]{2})?)?)";

#[test]
fn times_are_the_servers_times() {
    let database = Postgres::database();
    let list = |shape: String| {
        let odd = one_of([
            "24:00",
            "23:59:60",
            "23:59:59.9999999",
            "04:05 PM",
            "allballs",
            "12",
            "1:2:3",
            "040506",
            "now",
            "infinity",
            "2024-01-02T03:04:05 EST",
            "2024-01-02 03:04:05 Europe/Paris",
            "2024-01-02 03:04:05+2",
            "2024-01-02 03:04:05z",
            "2024-01-02 03:04:05 BC",
            "2024-01-02",
            "0001-01-01 00:00:00",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31 23:59:59.999999",
            "9999-12-31 23:59:59-00:01",
            "0000-01-01 00:00:00",
            "10000-01-01 00:00:00",
            "",
        ]);
        sample(prop_oneof![8 => matching(&shape), 1 => odd, 1 => ".{0,8}"], 1500)
    };
    let clocks = list(CLOCK.to_owned());
    Case::of("type = \"time\"").check(&database, &clocks, odd_time("", ""));
    for sql_type in ["time(3)", "time(0)"] {
        let field = format!("type = \"time\", sqlType = \"{sql_type}\"");
        Case::of(&field).unaltered("time").check(&database, &clocks, odd_time("", ""));
    }

    // A column without zone would drop an offset: stricter.
    let local = list(format!("{DAY}[T ]{CLOCK}{OFFSET}{{0}}|{DAY}[T ]{CLOCK}{OFFSET}?"));
    Case::of("type = \"datetime\"").check(&database, &local, odd_time(ISO_DAY, ""));
    for sql_type in ["timestamp(3)", "timestamp(0)"] {
        let field = format!("type = \"datetime\", sqlType = \"{sql_type}\"");
        Case::of(&field).unaltered("timestamp").check(&database, &local, odd_time(ISO_DAY, ""));
    }

    // Stricter: years 0001 to 9999, also once brought to UTC.
    let question = "case when t::timestamptz = t::COLUMN and extract(year from t::timestamptz at time zone 'UTC') \
                    between 1 and 9999 then t::COLUMN end";
    let zoned = list(format!("{DAY}[T ]{CLOCK}{OFFSET}?"));
    for sql_type in ["timestamptz", "timestamptz(2)", "timestamptz(0)"] {
        let field = format!("type = \"datetime\", sqlType = \"{sql_type}\", timezone = \"UTC\"");
        Case::of(&field).asking(question).check(&database, &zoned, odd_time(ISO_DAY, &format!("{ISO_OFFSET}?")));
        // Without an offset the server takes its session's zone; we refuse to guess.
        let field = format!("type = \"datetime\", sqlType = \"{sql_type}\"");
        Case::of(&field).asking(question).check(&database, &zoned, odd_time(ISO_DAY, ISO_OFFSET));
    }
}

/// The instant of a local time, where there is exactly one: of those that the zone's offsets a day before and a day
/// after would make of it, the ones that the server shows as this local time.
const THE_ONE_INSTANT: &str = "\
    case when t ~ ':.*[Z+-]' then t::timestamptz else ( \
      select case when count(*) = 1 and extract(year from min(u) at time zone 'UTC') between 1 and 9999 then min(u) end \
      from ( \
        select distinct l at time zone 'UTC' - ((near at time zone 'ZONE') - (near at time zone 'UTC')) as u \
        from (select t::timestamp as l) as a, lateral ( \
          values ((l - interval '26 hours') at time zone 'UTC'), ((l + interval '26 hours') at time zone 'UTC') \
        ) as b (near) \
      ) as c, (select t::timestamp as l) as d where u at time zone 'ZONE' = l) end";

/// Days between whose midnights the zone's clocks change.
const DAYS_OF_CHANGE: &str = "\
    with day (l) as (select generate_series(timestamp '1880-01-01', '2150-01-01', '1 day')), \
      away (l, o) as (select l, l - ((l at time zone 'ZONE') at time zone 'UTC') from day), \
      step (l, o, next) as (select l, o, lead(o) over (order by l) from away) \
    select to_char(l, 'YYYY-MM-DD') from step where o <> next";

#[test]
fn local_times_are_the_servers_times_in_the_zone() {
    let database = Postgres::database();
    for zone in ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"] {
        let changes = database.psql(&DAYS_OF_CHANGE.replace("ZONE", zone));
        let changes = one_of(changes.lines());
        let night = "0[0-4]:([0-5][0-9]|00|30)(:[0-5][0-9](\\.[0-9]{1,6})?)?";
        let texts = sample(
            prop_oneof![
                8 => (changes.clone(), matching(night)).prop_map(|(day, clock)| format!("{day} {clock}")),
                2 => (changes, matching(CLOCK)).prop_map(|(day, clock)| format!("{day}T{clock}")),
                2 => matching(&format!("{DAY}[T ]{CLOCK}{OFFSET}?")),
                1 => matching(&format!("{DAY}[T ]{CLOCK}{OFFSET}")),
                1 => one_of(["0001-01-01 00:00:00", "0001-01-01 16:00:00", "9999-12-31 23:59:59", "9999-12-31 08:00:00"]),
            ],
            1000,
        );
        let field = format!("type = \"datetime\", timezone = \"{zone}\"");
        let question = THE_ONE_INSTANT.replace("ZONE", zone);
        let stricter = odd_time(ISO_DAY, &format!("{ISO_OFFSET}?"));
        let verdicts = Case::of(&field).asking(&question).check(&database, &texts, stricter);
        let refused = |why: &str| {
            let told =
                verdicts.iter().filter(|verdict| verdict.ours.as_ref().is_err_and(|message| message.contains(why)));
            told.count()
        };
        assert!(refused("put forward") > 10, "{zone}: few texts are in a gap");
        assert!(refused("put back") > 10, "{zone}: few texts are in an overlap");
    }
}

#[test]
fn dates_and_times_in_a_format_are_the_servers() {
    let database = Postgres::database();
    let day = "(0?[0-9]|[12][0-9]|3[0-2])";
    let month = "(0?[0-9]|1[0-3])";

    let texts = sample(
        prop_oneof![
            6 => matching(&format!("{day}/{month}/[0-9]{{4}}")),
            1 => matching(&format!("{day}[/.]?{month}/[0-9]{{1,5}} ?")),
        ],
        800,
    );
    let iso =
        rewritten("([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})", |parts| format!("{}-{}-{}", &parts[3], &parts[2], &parts[1]));
    Case::of("type = \"date\", format = \"%d/%m/%Y\"").written(iso).check(&database, &texts, nothing);

    let texts = sample(matching(&format!("[12][0-9]{{3}}{month}{day}")), 800);
    let digits = rewritten("[0-9]{8}", |parts| parts[0].to_owned());
    Case::of("type = \"date\", format = \"%Y%m%d\"").written(digits).check(&database, &texts, nothing);

    // Two digits of the year are those of 1969 to 2068.
    let texts = sample(matching(&format!("{day}-([Jj]an|FEB|Mar|Mai|may|Sep|Sept|Dez|Dec)-[0-9]{{1,3}}")), 800);
    let century = rewritten("([0-9]{1,2})-([A-Za-z]{3})-([0-9]{2})", |parts| {
        format!("{}-{}-{}{}", &parts[1], &parts[2], if &parts[3] >= "69" { "19" } else { "20" }, &parts[3])
    });
    Case::of("type = \"date\", format = \"%d-%b-%y\"").written(century).check(&database, &texts, nothing);

    let texts = sample("[0-9]{3,4}-([0-3]?[0-9]{2}|36[5-7])", 800);
    let day_of_year = rewritten("[0-9]{4}-[0-9]{1,3}", |parts| parts[0].to_owned());
    let question = "(select case when to_char(d, 'YYYY') = left(t, 4) then d end \
                     from (select make_date(left(t, 4)::int, 1, 1) + substr(t, 6)::int - 1 as d) as x)";
    Case::of("type = \"date\", format = \"%Y-%j\"")
        .written(day_of_year)
        .asking(question)
        .check(&database, &texts, nothing);

    let texts = sample("(0?[0-9]|1[0-3]):[0-6]?[0-9] ([AaPp][Mm]|XM|)", 800);
    let half_days = rewritten("[0-9]{1,2}:[0-9]{1,2} [AaPp][Mm]", |parts| parts[0].to_owned());
    // Stricter: the hours of half a day are 1 to 12.
    let no_hour = |text: &str| text.trim_start_matches('0').starts_with(':');
    Case::of("type = \"time\", format = \"%I:%M %p\"").written(half_days).check(&database, &texts, no_hour);

    let clock = "([01]?[0-9]|2[0-4]):[0-6]?[0-9]:[0-6]?[0-9]";
    let texts = sample(matching(&format!("{day}\\.{month}\\.[12][0-9]{{3}} {clock} {OFFSET}?")), 1500);
    let iso = rewritten(&format!("([0-9]+)\\.([0-9]+)\\.([0-9]{{4}}) ([0-9:]+) {ISO_OFFSET}"), |parts| {
        format!("{}-{}-{} {}{}", &parts[3], &parts[2], &parts[1], &parts[4], &parts[5])
    });
    let leap_or_end = Regex::new(":[0-9]+:60| 24:").unwrap();
    let field = "type = \"datetime\", format = \"%d.%m.%Y %H:%M:%S %z\"";
    Case::of(field).written(iso).check(&database, &texts, |text| leap_or_end.is_match(text));
}

/// JSON values of all kinds, and some that are none.
fn json() -> BoxedStrategy<String> {
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
        let key = one_of(["a", "b", "bb", "ab", "", "é", "aaa", "key with blanks", "\\u0061", "\\u00e9", "\\n"]);
        let pair = (key, inner.clone()).prop_map(|(key, value)| format!("\"{key}\" : {value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            proptest::collection::vec(pair, 0..4).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    });
    value.boxed()
}

#[test]
fn json_is_the_servers_jsonb() {
    let database = Postgres::database();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut texts = sample(
        prop_oneof![
            6 => json().prop_map(|value| format!("{{\"v\":{value}}}")),
            6 => json().prop_map(|value| format!("[{value}]")),
            2 => json(),
            1 => one_of(["", " ", "{", "[1,]", "{\"a\":1,}", "[1] x", "\u{feff}[]", " [ ] ", "\t{\r\n}", "[1e131071]", "[1e131072]",
                "[1e-16383]", "[1e-16384]", "[-0]", "[-0.0]", "[NaN]", "[True]", "[\"\t\"]", "[\"\u{7f}\"]", "[.5]", "[+1]"]),
        ],
        2500,
    );
    texts.extend([127, 128, 129, 500].map(nested));
    texts.extend([127, 128].map(|depth| format!("{{\"v\":{}}}", nested(depth))));
    texts.push(format!("[{}1]", "1e131071, ".repeat(32)));
    // Stricter: an object or an array as the field says, no key twice, at most 128 levels, at most 4 MiB by exponents.
    let too_deep =
        |text: &str| text.starts_with(&"[".repeat(129)) || text.starts_with(&format!("{{\"v\":{}", "[".repeat(128)));
    let stricter = |text: &str| too_deep(text) || text.matches("1e131071").count() >= 32;
    for (kind, column) in [("object", "jsonb"), ("object", "json"), ("array", "jsonb"), ("array", "json")] {
        let field = format!("type = \"{kind}\", sqlType = \"{column}\"");
        let question =
            format!("case when json_typeof(t::json) = '{kind}' and not has_key_twice(t::json) then t::jsonb end");
        Case::of(&field).asking(&question).check(&database, &texts, stricter);
    }
}

#[test]
fn words_are_the_servers_booleans() {
    let database = Postgres::database();
    let texts = sample("(true|false|True|False|TRUE|tRUE|FALSE|t|f|yes|no|1|0|on|off|T| true|)", 200);
    let known = whole("true|True|TRUE|1|false|False|FALSE|0");
    Case::of("type = \"boolean\"").check(&database, &texts, |text| !known(text));
    let texts = sample("(ja|nein|Ja|NEIN| ja|j|n|true|1|)", 200);
    let field = "type = \"boolean\", trueValues = [\"ja\", \"j\"], falseValues = [\"nein\", \"\"]";
    let words = |text: &str| match text {
        "ja" | "j" => Some("true".to_owned()),
        "nein" | "" => Some("false".to_owned()),
        _ => None,
    };
    Case::of(field).written(words).check(&database, &texts, nothing);
}

#[test]
fn identifiers_are_the_servers_uuids() {
    let database = Postgres::database();
    let texts = sample(
        prop_oneof![
            6 => "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
            2 => "[0-9a-fA-F]{32}",
            1 => "\\{?[0-9a-f]{8}-?[0-9a-g]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\\}?",
            1 => " ?[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}",
        ],
        600,
    );
    let regular = whole("[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}");
    Case::of("type = \"string\", format = \"uuid\"").check(&database, &texts, |text| !regular(text));
    // A text column keeps the text.
    let field = "type = \"string\", format = \"uuid\", sqlType = \"text\"";
    Case::of(field).asking("case when t::uuid is not null then t end").check(&database, &texts, |text| !regular(text));
}

#[test]
fn base64_is_the_servers_bytes() {
    let database = Postgres::database();
    let texts = sample(
        prop_oneof![
            6 => "([A-Za-z0-9+/]{4}){0,40}([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?",
            2 => "([A-Za-z0-9+/]{4}){0,3}[A-Za-z0-9+/]{0,3}={0,3}",
            1 => "[A-Za-z0-9+/]{3}[A-Za-z0-9+/_ \n\t-][A-Za-z0-9+/]{4}\n?",
            1 => one_of(["", "=", "====", "AA==AA==", "AA ==", " AA==", "\\x00", "AA=A", "AAA=", "é===", "AB=="]),
        ],
        1500,
    );
    // Stricter: exactly the text that these bytes have in base64, so no blanks, and nothing in bits that mean nothing.
    let unaltered = "replace(encode(decode(t, 'base64'), 'base64'), chr(10), '') = t";
    let question = format!("case when {unaltered} then decode(t, 'base64') end");
    Case::of("type = \"string\", format = \"binary\"").asking(&question).check(&database, &texts, nothing);
    let field = "type = \"string\", format = \"binary\", sqlType = \"text\"";
    Case::of(field).asking(&format!("case when {unaltered} then t end")).check(&database, &texts, nothing);
}

#[test]
fn texts_arrive_byte_for_byte() {
    let database = Postgres::database();
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
        "",
        " ",
        "ab      ",
        "ab       ",
        "abcdefgh",
        "abcdefgh ",
        "éééééééé",
        "ééééééééé",
        "e\u{301}",
        "a\tb\n",
        "ab\t",
        "ab\u{a0}",
    ];
    let texts = sample(
        prop_oneof![3 => "\\PC{0,30}", 2 => "[ -~\n\r\t]{0,30}", 2 => "[a-cé]{0,8} {0,4}", 1 => ".{0,12}", 2 => one_of(formulas)],
        1500,
    );
    Case::of("type = \"string\"").check(&database, &texts, nothing);
    Case::of("type = \"string\", sqlType = \"varchar\"").check(&database, &texts, nothing);
    // A text that is longer is never cut, not even its blanks.
    Case::of("type = \"string\", sqlType = \"varchar(8)\"").unaltered("text").check(&database, &texts, nothing);
    // The server pads and compares without the padding; stricter: blanks beyond the length are not cut either.
    let question = "case when rtrim(t, ' ') = t::COLUMN::text then t::COLUMN end";
    for (sql_type, length) in [("char(8)", 8), ("char", 1)] {
        let field = format!("type = \"string\", sqlType = \"{sql_type}\"");
        Case::of(&field).asking(question).check(&database, &texts, |text| text.chars().count() > length);
    }
}

#[test]
fn texts_with_a_format_arrive_byte_for_byte() {
    let database = Postgres::database();
    let part = "[a-z0-9!#$%&'*+/=?^_`{|}~é-]{1,5}";
    let domain = "([a-z0-9-]{1,4}\\.){0,2}[a-zé-]{1,4}";
    let texts = sample(
        prop_oneof![
            6 => matching(&format!("{part}(\\.{part}){{0,2}}@{domain}")),
            2 => matching(&format!("[.< \"]?{part}\\.?\\.?({part})?@{{0,2}}{domain}[. >]?")),
            1 => one_of(["", "@", "a@b", "@b.co", "a@", "a@b@c.co", "a\u{a0}b@c.co", "a@b\u{2003}.co", "a@[1.2.3.4]", "a\n@b.co"]),
            1 => matching("a{60,70}@b.co"),
        ],
        1000,
    );
    let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-[^\\x00-\\x7f\\s\\p{Cc}]]+";
    let label = "[A-Za-z0-9[^\\x00-\\x7f\\s\\p{Cc}]]([A-Za-z0-9\\-[^\\x00-\\x7f\\s\\p{Cc}]]*[A-Za-z0-9[^\\x00-\\x7f\\s\\p{Cc}]])?";
    let address = whole(&format!("{atom}(\\.{atom})*@{label}(\\.{label})+"));
    let local_fits = |text: &str| text.find('@').is_some_and(|at| at <= 64);
    let field = "type = \"string\", format = \"email\"";
    Case::of(field).check(&database, &texts, |text| !address(text) || !local_fits(text));

    let texts = sample(
        prop_oneof![
            6 => "[a-zA-Z][a-zA-Z0-9+.-]{0,6}:(//)?[!-~é]{0,20}",
            2 => "[a-zé1 ]{0,3}:?[!-~ \u{a0}\n]{0,6}",
            1 => one_of(["", ":", "http:", "//x", "1a:b", "http://x y", "http://x\n", "é:x", "http://x\u{a0}y", "a:\u{85}"]),
        ],
        1000,
    );
    let uri = whole("[A-Za-z][A-Za-z0-9+.\\-]*:[^\\s\\p{Cc}]+");
    Case::of("type = \"string\", format = \"uri\"").check(&database, &texts, |text| !uri(text));
    let field = "type = \"string\", format = \"uri\", sqlType = \"varchar(12)\"";
    Case::of(field).unaltered("text").check(&database, &texts, |text| !uri(text));
}
