//! Pipeline files as a person writes them: what is read from good ones, what is said about wrong ones.
#![expect(clippy::disallowed_methods, reason = "reads the pipelines and the wrong files of the project")]

use std::path::{Path, PathBuf};

use transform::ColumnType;
use transform::pipeline::{Clean, Mode, OnChange, Pipeline};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(text: &str) -> Pipeline {
    Pipeline::parse(text).unwrap_or_else(|problems| panic!("{}", problems.render("p.toml", text)))
}

fn messages(text: &str) -> Vec<String> {
    Pipeline::parse(text).err().map_or_else(Vec::new, |problems| problems.iter().map(|p| p.message.clone()).collect())
}

/// A whole file around the line of one field and what stands after the schema.
fn with_field(field: &str, rest: &str) -> String {
    format!("version = 1\nname = \"p\"\n[source]\npath = \"p.csv\"\n[schema]\nfields = [{{ {field} }}]\n{rest}")
}

#[test]
fn the_pipelines_of_the_project_are_right() {
    for name in ["customers", "passengers", "runways"] {
        let text = text_of(&project().join("pipelines").join(format!("{name}.toml")));
        let pipeline = parse(&text);
        assert_eq!(pipeline.name, name);
        assert_eq!(pipeline.target.table, name);
    }
}

#[test]
fn customers_has_the_columns_the_guide_shows() {
    let pipeline = parse(&text_of(&project().join("pipelines/customers.toml")));
    let columns: Vec<String> =
        pipeline.schema.fields.iter().map(|field| format!("{} {}", field.name, field.column_type())).collect();
    assert_eq!(
        columns,
        [
            "id bigint",
            "title character varying(16)",
            "firstname character varying(40)",
            "lastname character varying(40)",
            "status character varying(16)",
            "email text",
            "age smallint",
            "balance numeric(14,2)",
            "signup_date date",
            "last_seen timestamp with time zone",
            "country character varying(2)",
            "notes text",
        ]
    );
    assert!(pipeline.schema.fields[0].constraints.required, "a key is required");
    let email = pipeline.schema.fields.iter().find(|field| field.name == "email").unwrap();
    assert_eq!(email.clean, [Clean::Trim, Clean::Lower]);
}

/// Each file in tests/wrong and, beside it, the screen a person gets.
#[test]
fn what_is_wrong_is_shown_where_it_stands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    names.sort();
    assert!(names.len() >= 14, "{} wrong files", names.len());
    for path in names {
        let text = text_of(&path);
        let name = path.file_name().unwrap().to_string_lossy();
        let problems = Pipeline::parse(&text).expect_err(&name);
        let (shown, expected) = (problems.render(&name, &text), text_of(&path.with_extension("txt")));
        assert!(shown == expected, "{name} shows:\n{shown}\nand should show:\n{expected}");
    }
}

#[test]
fn all_problems_of_a_file_are_found_at_once() {
    let text = "version = 1\nnam = 1\n[source]\npath = 2\n[schema]\nfields = [{ name = \"a\", typ = \"x\" }]\n[target]\nmode = 3\n";
    assert_eq!(
        messages(text),
        [
            "the key \"name\" is missing",
            "unknown key \"nam\"",
            "\"path\" takes text, not a whole number",
            "unknown key \"typ\" in this field",
            "\"mode\" takes text, not a whole number",
        ]
    );
}

#[test]
fn keys_of_a_later_version_are_not_called_unknown() {
    let text = with_field(
        "name = \"a\", mask = true",
        "[rows]\nwhere = \"x\"\n[[checks]]\n[[tests]]\n[drift]\nnew_columns = \"rescue\"\n",
    )
    .replace("path = \"p.csv\"", "path = \"p.csv\"\nencoding = \"auto\"");
    assert_eq!(
        messages(&text),
        [
            "encoding \"auto\" is not built yet",
            "\"mask\" is not built yet",
            "\"rows\" is not built yet",
            "\"checks\" is not built yet",
            "\"tests\" is not built yet",
            "new_columns \"rescue\" is not built yet",
        ]
    );
}

#[test]
fn numbers_and_dates_are_kept_as_they_were_written() {
    let bounds = |kind: &str, minimum: &str| {
        let text = with_field(&format!("name = \"a\", type = {kind}, constraints = {{ minimum = {minimum} }}"), "");
        parse(&text).schema.fields[0].constraints.minimum.clone().unwrap()
    };
    assert_eq!(bounds("\"integer\"", "0"), "0");
    assert_eq!(bounds("\"integer\"", "1_000"), "1000");
    assert_eq!(bounds("\"integer\"", "0xFF"), "255");
    assert_eq!(bounds("\"number\"", "1.50"), "1.50");
    assert_eq!(bounds("\"number\"", "\"0.1000000000000000000000001\""), "0.1000000000000000000000001");
    assert_eq!(bounds("\"number\", decimalChar = \",\"", "1.5"), "1.5");
    assert_eq!(bounds("\"date\"", "2020-02-29"), "2020-02-29");
    assert_eq!(bounds("\"date\"", "\"2020-02-29\""), "2020-02-29");
    let default = |field: &str| parse(&with_field(field, "")).schema.fields[0].default.clone().unwrap();
    assert_eq!(default("name = \"a\", type = \"number\", decimalChar = \",\", default = 1.5"), "1,5");
    assert_eq!(
        default("name = \"a\", type = \"boolean\", trueValues = [\"j\"], falseValues = [\"n\"], default = false"),
        "n"
    );
}

#[test]
fn what_happens_to_new_bytes_depends_on_what_can_be_taken_back() {
    let on_change = |target: &str| parse(&with_field("name = \"a\"", target)).source.on_change;
    assert_eq!(on_change(""), OnChange::Replace);
    assert_eq!(on_change("[target]\nlineage = false\n"), OnChange::Fail);
    assert_eq!(on_change("[target]\nmode = \"replace\"\n"), OnChange::Replace);
    let keyed =
        |target: &str| with_field("name = \"a\"", target).replace("[schema]\n", "[schema]\nprimaryKey = [\"a\"]\n");
    assert_eq!(parse(&keyed("[target]\nmode = \"upsert\"\n")).source.on_change, OnChange::Upsert);
    let written = |text: String, on_change: &str| {
        messages(&text.replace("csv\"", &format!("csv\"\non_change = \"{on_change}\"")))
    };
    for (target, on_change, reason) in [
        ("lineage = false", "replace", "needs lineage"),
        ("mode = \"upsert\"", "replace", "what the earlier rows replaced is gone"),
        ("mode = \"append\"", "upsert", "the rows would come in twice"),
    ] {
        let messages = written(keyed(&format!("[target]\n{target}\n")), on_change);
        assert!(messages.len() == 1 && messages[0].contains(reason), "{messages:?}");
    }
    let without_key = messages(&with_field("name = \"a\"", "[target]\nmode = \"upsert\"\n"));
    assert!(without_key[0].contains("needs a primaryKey"), "{without_key:?}");
}

#[test]
fn a_limit_left_out_of_a_written_table_does_not_apply() {
    let limits = |text: &str| {
        let errors = parse(&with_field("name = \"a\"", text)).errors;
        (errors.limit_rows, errors.limit_percent)
    };
    assert_eq!(limits(""), (Some(1000), Some(5.0)));
    assert_eq!(limits("[errors]\n"), (Some(1000), Some(5.0)));
    assert_eq!(limits("[errors]\nlimit = { rows = 3 }\n"), (Some(3), None));
    assert_eq!(limits("[errors.limit]\npercent = 1\n"), (None, Some(1.0)));
    assert_eq!(limits("[errors]\nlimit = {}\n"), (None, None));
}

#[test]
fn the_fingerprint_stands_for_what_a_load_does() {
    let base = with_field("name = \"a\", type = \"integer\"", "");
    let of = |text: &str| parse(text).fingerprint();
    let written_otherwise = "# the same\nname = 'other'\nversion = 1\r\nsource.path = \"elsewhere.csv\"\n\n\
        [errors]\nlimit = { rows = 1 }\n[schema]\nmissingValues = ['']\nfields = [\n  { \"type\" = 'integer', name = 'a' },\n]\n\
        [target]\ntable = \"p\"\nmode = 'append'\n";
    assert_eq!(of(&base), of(written_otherwise));
    for change in [
        base.replace("\"a\"", "\"b\""),
        base.replace("integer", "number"),
        base.replace("\"a\"", "\"a\", clean = [\"trim\"]"),
        base.replace("\"a\"", "\"a\", constraints = { maximum = 3 }"),
        base.replace("csv\"", "csv\"\nencoding = \"latin1\""),
        format!("{base}[dialect]\ndelimiter = \";\"\n"),
        format!("{base}[target]\ntable = \"q\"\n"),
        format!("{base}[target]\nmode = \"replace\"\n"),
        format!("{base}[limits]\nrecord = 4096\n"),
        format!("{base}[drift]\nnew_columns = \"fail\"\n"),
    ] {
        assert_ne!(of(&base), of(&change), "{change}");
    }
}

/// Hashes of it stand in ledgers: it may only change when what a load does changes.
#[test]
fn the_fingerprint_stays_what_it_was() {
    let text = with_field(
        "name = \"a\", from = \"A\", type = \"number\", precision = [5, 2], constraints = { minimum = 0 }",
        "",
    );
    let lines: Vec<String> = parse(&text).fingerprint().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "aqueduct pipeline 1",
            "encoding \"UTF-8\"",
            "delimiter null",
            "quote \"\\\"\"",
            "double_quote true",
            "escape null",
            "skip_initial_space false",
            "header true",
            "comment null",
            "new_columns \"ignore\"",
            "missing_columns \"fail\"",
            "table \"p\"",
            "mode \"append\"",
            "create true",
            "lineage true",
            "record_limit 1048576",
            "column_limit 1600",
            "missing_values [\"\"]",
            "primary_key []",
            "field [\"a\",\"A\",\"number\",\"numeric(5,2)\"]",
            " kind [\".\",null,true,[5,2]]",
            " clean []",
            " default null",
            " required false",
            " length [null,null]",
            " range [\"0\",null,null,null]",
            " pattern null",
            " enum null",
        ]
    );
}

#[test]
fn a_table_is_named_by_the_pipeline_unless_it_says_otherwise() {
    assert_eq!(parse(&with_field("name = \"a\"", "")).target.table, "p");
    let target =
        parse(&with_field("name = \"a\"", "[target]\ntable = \"Sales.Order Lines\"\nmode = \"replace\"\n")).target;
    assert_eq!((&*target.table, target.mode), ("Sales.Order Lines", Mode::Replace));
}

#[test]
fn sizes_are_written_in_units_or_bytes() {
    let record =
        |value: &str| parse(&with_field("name = \"a\"", &format!("[limits]\nrecord = {value}\n"))).limits.record;
    assert_eq!(record("\"64 KiB\""), 65_536);
    assert_eq!(record("\"16MiB\""), 16 << 20);
    assert_eq!(record("1024"), 1024);
    for wrong in ["1023", "\"17 MiB\"", "\"1 MB\"", "\"1\\u00a0MiB\u{0661}\"", "-1", "\"99999999999999999999 KiB\""] {
        let text = with_field("name = \"a\"", &format!("[limits]\nrecord = {wrong}\n"));
        assert_eq!(messages(&text).len(), 1, "{wrong}");
    }
}

#[test]
fn a_file_that_is_none_is_refused_at_once() {
    let text = "a = 1\n".repeat(300_000);
    assert_eq!(messages(&text), ["a pipeline file is at most 1048576 bytes long"]);
    let nested = format!("a = {}", "[".repeat(200_000));
    assert!(!messages(&nested).is_empty());
}

#[test]
fn a_screen_ends_and_a_line_is_cut_around_the_caret() {
    let text = format!("x = \"{}\"\n", "é".repeat(5_000)) + &"y.z = 1\n".repeat(2);
    let shown = Pipeline::parse(&text).unwrap_err().render("p.toml", &text);
    assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
    let many: String = (0..100).map(|n| format!("key_{n} = 1\n")).collect();
    let shown = Pipeline::parse(&many).unwrap_err().render("p.toml", &many);
    assert!(shown.ends_with("p.toml: 84 more problems\n"), "{shown}");
}

#[test]
fn nothing_of_the_file_reaches_the_terminal_as_an_escape() {
    let text = "version = 1\n\"\\u001B[31m\" = \"\u{202E}\"\nx\u{1B}[0m = 1\n";
    let shown = Pipeline::parse(text).unwrap_err().render("p.toml", text);
    assert!(!shown.contains('\u{1B}') && !shown.contains('\u{202E}'), "{shown:?}");
}

#[test]
fn column_types_follow_from_the_field() {
    let column = |field: &str| parse(&with_field(field, "")).schema.fields[0].column_type();
    assert_eq!(column("name = \"a\", type = \"datetime\""), ColumnType::Timestamp(6));
    assert_eq!(column("name = \"a\", type = \"datetime\", timezone = \"UTC\""), ColumnType::Timestamptz(6));
    assert_eq!(column("name = \"a\", type = \"datetime\", sqlType = \"timestamptz(3)\""), ColumnType::Timestamptz(3));
    assert_eq!(column("name = \"a\", type = \"number\", precision = [9, 3]"), ColumnType::Numeric(Some((9, 3))));
    assert_eq!(column("name = \"a\", format = \"uuid\""), ColumnType::Uuid);
    assert_eq!(column("name = \"a\", type = \"year\""), ColumnType::Int4);
}

#[test]
fn text_without_quotes_is_said_to_need_them() {
    for word in ["integer", "string", "number", "date", "infinite", "nano", "truth", "my_type"] {
        let text = with_field(&format!("name = \"a\", type = {word}"), "");
        let problems = Pipeline::parse(&text).unwrap_err();
        let problem = problems.iter().next().unwrap();
        assert_eq!(problem.message, format!("{word} is no value of TOML"), "{problems}");
        assert_eq!(problem.hint, Some(format!("text needs quotes: \"{word}\"")));
        assert_eq!(&text[problem.span.clone()], word);
    }
}

#[test]
fn a_path_that_no_key_could_match_is_refused() {
    let with_path = |path: &str| with_field("name = \"a\"", "").replace("\"p.csv\"", &format!("\"{path}\""));
    for path in ["./p.csv", "a/./p.csv", "a//p.csv", "a/", "/p.csv"] {
        assert_eq!(messages(&with_path(path)).len(), 1, "{path}");
    }
    for path in ["a/*.csv", "{a,b}/p.csv", ".../p.csv", ".a/p.csv"] {
        assert_eq!(messages(&with_path(path)), [""; 0], "{path}");
    }
}
