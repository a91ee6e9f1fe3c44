//! Files that others wrote, through the front door: header, values and rejects against the truth that comes with them or
//! against the csv crate where that reads right.
//!
//! `CORPUS_DIR` may name a folder with larger corpora; a relative path starts at the project.
#![expect(clippy::disallowed_methods, reason = "reads the corpora of the project")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use transform::csv::{HeaderError, OpenError, Opened};
use transform::pipeline::{Clean, Field, Kind};
use transform::{Cell, ColumnType, Pipeline, Plan, PlanError, Reason, RowRef, RowSink, Worker};

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora")
}

fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn duckdb(name: &str) -> Vec<u8> {
    bytes_of(&corpora().join("duckdb").join(format!("{name}.csv")))
}

/// A pipeline of one text field named `f`, with no value missing and these lines in its dialect.
fn pipeline(dialect: &str) -> Pipeline {
    let text = format!(
        "version = 1\nname = \"p\"\n[source]\npath = \"p.csv\"\n[dialect]\n{dialect}\n[schema]\nmissingValues = []\n\
         fields = [{{ name = \"f\" }}]\n"
    );
    Pipeline::parse(&text).unwrap_or_else(|problems| panic!("{}", problems.render("p.toml", &text)))
}

#[derive(Debug, Default)]
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Record, line, raw bytes and reason.
    rejects: Vec<(u64, u64, Vec<u8>, Reason)>,
    skipped: u64,
}

impl RowSink for Table {
    fn row(&mut self, row: RowRef<'_>) {
        let text = |cell: &Cell| match cell {
            Cell::Text(span) => row.text(*span).to_owned(),
            other => panic!("{other:?} of a text field"),
        };
        self.rows.push(row.cells.iter().map(text).collect());
    }
}

/// Reads an object with a text field for each label of its header, or `width` of them where the dialect has none.
fn try_read(object: &[u8], dialect: &str, width: usize) -> Result<Table, PlanError> {
    read_as(object, &pipeline(dialect), width)
}

fn read_as(object: &[u8], pipeline: &Pipeline, width: usize) -> Result<Table, PlanError> {
    let mut pipeline = pipeline.clone();
    let mut opened = Opened::new(object, &pipeline).unwrap_or_else(|error| panic!("{error}"));
    let header = opened.header().map(<[String]>::to_vec);
    let model = pipeline.schema.fields[0].clone();
    pipeline.schema.fields = (0..header.as_ref().map_or(width, Vec::len))
        .map(|index| Field {
            name: format!("f{index}"),
            from: header.as_ref().map(|header| header[index].clone()),
            ..model.clone()
        })
        .collect();
    let columns: Vec<ColumnType> = pipeline.schema.fields.iter().map(Field::column_type).collect();
    let (plan, _) = Plan::compile(&pipeline, opened.grammar(), header.as_deref(), &columns)?;
    let mut worker = Worker::new(&plan);
    let mut table = Table { header: header.unwrap_or_default(), ..Table::default() };
    let mut read = 0;
    while let Some(block) = opened.next_block().expect("bytes in memory can be read") {
        let tally = worker.apply(&block, &mut table);
        read += tally.read;
        table.skipped += tally.skipped;
        for reject in tally.rejects {
            let start = reject.offset as usize;
            assert_eq!(object[start..start + reject.raw.len()], reject.raw);
            table.rejects.push((reject.record, reject.line, reject.raw, reject.fault.reason));
        }
    }
    assert_eq!(read as usize, table.rows.len() + table.rejects.len(), "no record vanishes");
    Ok(table)
}

fn read(object: &[u8], dialect: &str, width: usize) -> Table {
    try_read(object, dialect, width).unwrap_or_else(|error| panic!("{error}"))
}

/// The records as the csv crate reads them.
fn read_by_csv_crate(object: &[u8], builder: &mut csv::ReaderBuilder) -> Vec<Vec<String>> {
    let mut reader = builder.has_headers(false).flexible(true).from_reader(object);
    reader.records().map(|record| record.expect("the csv crate reads it").iter().map(str::to_owned).collect()).collect()
}

#[test]
fn each_file_of_csv_spectrum_is_its_json() {
    let folder = corpora().join("csv-spectrum/csvs");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 11);
    for path in names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let truth = bytes_of(&corpora().join("csv-spectrum/json").join(format!("{name}.json")));
        let Value::Array(truth) = serde_json::from_slice(&truth).unwrap() else { panic!("{name}: no array") };
        let table = read(&bytes_of(&path), "delimiter = \",\"", 0);
        assert_eq!(table.rejects, [], "{name}");
        let rows: Vec<Value> = table
            .rows
            .iter()
            .map(|row| {
                let cells = table.header.iter().zip(row);
                Value::Object(cells.map(|(label, cell)| (label.clone(), Value::from(cell.as_str()))).collect())
            })
            .collect();
        assert_eq!(rows, truth, "{name}");
        assert!(table.rows.iter().all(|row| row.len() == table.header.len()), "{name}");
        // The same without being told the delimiter.
        let guessed = read(&bytes_of(&path), "", 0);
        assert_eq!((guessed.header, guessed.rows), (table.header, table.rows), "{name}");
    }
}

/// Files without a header, on which we and the csv crate agree cell by cell.
#[test]
fn line_ends_quotes_and_delimiters_are_read_as_the_csv_crate_reads_them() {
    let pipe = "delimiter = \"|\"";
    for (name, dialect, width, records) in [
        ("multi_column_string_r", pipe, 4, 9),
        ("multi_column_string_mix_r_n", pipe, 4, 9),
        ("mixed_line_endings", "delimiter = \",\"", 3, 3),
        ("14177", "delimiter = \",\"", 2, 6),
        ("quoted_newline", "delimiter = \",\"", 2, 2),
        ("new_line_string_rn_exc", pipe, 4, 3),
        ("pipe_delim_quote", pipe, 3, 3),
        ("semicolon_escape", "delimiter = \";\"", 3, 3),
        ("tab_single_quote", "delimiter = \"\\t\"\nquoteChar = \"'\"", 3, 3),
        ("backslash_escape", "delimiter = \"|\"\ndoubleQuote = false\nescapeChar = '\\'", 3, 3),
        (
            "single_quote_backslash",
            "delimiter = \"|\"\nquoteChar = \"'\"\ndoubleQuote = false\nescapeChar = '\\'",
            3,
            3,
        ),
        ("5438", "delimiter = \"|\"", 1, 2),
        ("nfc", "delimiter = \",\"", 1, 2),
    ] {
        let object = duckdb(name);
        let grammar = pipeline(dialect).dialect;
        let mut reader = csv::ReaderBuilder::new();
        reader.delimiter(grammar.delimiter.unwrap()).quote(grammar.quote.unwrap());
        reader.double_quote(grammar.double_quote).escape(grammar.escape);
        let table = read(&object, &format!("{dialect}\nheader = false"), width);
        assert_eq!(table.rows, read_by_csv_crate(&object, &mut reader), "{name}");
        assert_eq!((table.rejects.len(), table.rows.len()), (0, records), "{name}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_header() {
    let table = read(&duckdb("utf8bom"), "", 0);
    assert_eq!(table.header, ["id", "name"]);
    assert_eq!(table.rows, [["1", "Mark"], ["2", "Hannes"]]);
}

#[test]
fn a_file_without_a_byte_is_said_to_be_empty() {
    let object = duckdb("empty");
    let opened = Opened::new(object.as_slice(), &pipeline(""));
    assert!(matches!(opened, Err(OpenError::Empty)));
}

#[test]
fn a_quote_that_never_closes_costs_its_line_alone() {
    let table = read(&duckdb("unterminated"), "delimiter = \",\"\nheader = false", 1);
    assert_eq!(table.rejects, [(1, 1, b"\"hello".to_vec(), Reason::UnclosedQuote)]);
    assert_eq!(table.rows, [[" world"]]);
    assert_eq!(table.skipped, 1, "the blank line between them");
}

#[test]
fn a_label_that_comes_twice_is_an_error_of_the_header() {
    for (name, label, first, second) in
        [("duplicate_header_columns", "a", 1, 2), ("duplicate_header_collision", "a", 1, 3), ("empty_header", "", 1, 2)]
    {
        let expected = PlanError::DuplicateLabel { label: Some(label.into()), first, second };
        assert_eq!(try_read(&duckdb(name), "delimiter = \",\"", 0).unwrap_err(), expected, "{name}");
    }
    let table = read(&duckdb("missing_header_col"), "delimiter = \",\"", 0);
    assert_eq!(table.header, ["a", "", "c"]);
    assert_eq!(table.rows, [["123", "TEST1", "text1"], ["345", "TEST1", "text2"]]);
}

#[test]
fn a_header_further_down_is_shown_by_what_is_rejected() {
    let table = read(&duckdb("multiple_skip_row"), "delimiter = \",\"", 0);
    assert_eq!(table.header, ["some notes..."]);
    let reasons: Vec<Reason> = table.rejects.iter().map(|(.., reason)| *reason).collect();
    let more = |found| Reason::MoreFields { expected: 1, found };
    assert_eq!(reasons, [more(2), more(3), more(3)]);
}

#[test]
fn records_of_another_width_are_rejected_where_they_stand() {
    let rejects = |name: &str| {
        let table = read(&duckdb(name), "delimiter = \",\"", 0);
        let all = read_by_csv_crate(&duckdb(name), &mut csv::ReaderBuilder::new());
        let (right, wrong): (Vec<_>, Vec<_>) = all.into_iter().skip(1).partition(|row| row.len() == table.header.len());
        assert_eq!(table.rows, right, "{name}");
        assert_eq!(table.rejects.len(), wrong.len(), "{name}");
        table.rejects
    };
    let (fewer, more) = (Reason::FewerFields { expected: 2, found: 1 }, Reason::MoreFields { expected: 2, found: 3 });
    assert_eq!(rejects("error_too_little"), [(6, 7, b"7".to_vec(), fewer)]);
    assert_eq!(rejects("error_too_many"), [(5, 6, b"7,7,3".to_vec(), more)]);
    let (fewer, more) = (Reason::FewerFields { expected: 4, found: 3 }, Reason::MoreFields { expected: 4, found: 5 });
    assert_eq!(rejects("small_mix"), [(2, 3, b"1,2,3,4,5".to_vec(), more), (3, 4, b"1,2,3".to_vec(), fewer)]);
}

#[test]
fn bytes_that_are_not_utf8_cost_their_record_alone() {
    let pipe = read(&duckdb("invalid_utf"), "delimiter = \"|\"\nheader = false", 3);
    assert_eq!(pipe.rejects, [(1, 1, b"042|42|\xE2\x82\x28".to_vec(), Reason::InvalidEncoding)]);
    let comma = "delimiter = \",\"\nheader = false";
    for (name, raw) in [
        ("invalid_utf_complex", b"valid,invalid_\xFF\xFF_part,valid".as_slice()),
        ("invalid_utf_quoted_nl", b"valid,\"invalid\n_\xFF\xFF_\npart\",valid".as_slice()),
    ] {
        let object = duckdb(name);
        let table = read(&object, comma, 3);
        assert_eq!(table.rejects, [(11, 11, raw.to_vec(), Reason::InvalidEncoding)], "{name}");
        let mut records =
            csv::ReaderBuilder::new().has_headers(false).from_reader(object.as_slice()).into_byte_records();
        assert_eq!(records.by_ref().count(), table.rows.len() + 1, "{name}");
    }
    // Single-byte encodings know every one of them.
    let latin = pipeline(comma);
    let latin = Pipeline { source: transform::pipeline::Source { encoding: cp1252(), ..latin.source }, ..latin };
    let table = read_as(&duckdb("invalid_utf_complex"), &latin, 3).unwrap();
    assert_eq!((table.rejects.len(), table.rows[10][1].as_str()), (0, "invalid_ÿÿ_part"));
}

fn cp1252() -> transform::Encoding {
    transform::Encoding::for_label("windows-1252").expect("a known label")
}

#[test]
fn a_header_that_is_not_utf8_is_an_error_of_the_header() {
    let object = duckdb("invalid_utf_header");
    let opened = Opened::new(object.as_slice(), &pipeline("delimiter = \",\""));
    let Err(OpenError::Header(error)) = opened else { panic!("{opened:?}") };
    assert_eq!(error, HeaderError::Encoding { line: 1, encoding: "UTF-8" });
}

#[test]
fn blanks_before_a_value_are_kept_unless_the_dialect_says_otherwise() {
    let names = |dialect: &str| -> Vec<String> {
        read(&duckdb("leading_space_numerics"), dialect, 3).rows.iter().map(|row| row[0].clone()).collect()
    };
    assert_eq!(names("delimiter = \",\"\nheader = false"), ["123", "345", " 567"]);
    assert_eq!(names("delimiter = \",\"\nheader = false\nskipInitialSpace = true"), ["123", "345", "567"]);
}

#[test]
fn composed_and_decomposed_text_differ_until_they_are_cleaned() {
    let mut pipeline = pipeline("delimiter = \",\"\nheader = false");
    let plain = read_as(&duckdb("nfc"), &pipeline, 1).unwrap().rows;
    assert_ne!(plain[0], plain[1]);
    pipeline.schema.fields[0].clean = vec![Clean::Nfc];
    let cleaned = read_as(&duckdb("nfc"), &pipeline, 1).unwrap().rows;
    assert_eq!((&cleaned[0], &cleaned[0]), (&plain[0], &cleaned[1]));
}

#[test]
fn a_time_with_an_offset_does_not_lose_it() {
    let mut pipeline = pipeline("delimiter = \",\"");
    pipeline.schema.fields[0].kind = Kind::Datetime { format: None, timezone: None };
    let table = read_as(&duckdb("timestampoffset"), &pipeline, 0).unwrap();
    let reasons: Vec<Reason> = table.rejects.iter().map(|(.., reason)| *reason).collect();
    assert_eq!((table.rows.len(), reasons), (0, vec![Reason::UnexpectedOffset; 4]));
}

/// Real files: the one that stands in the project, and those of `CORPUS_DIR` as far as they are at hand.
#[test]
fn real_files_lose_nothing() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = vec![project.join("seed-data/runways/runways.csv")];
    if let Some(corpora) = std::env::var_os("CORPUS_DIR") {
        let real = project.join(corpora).join("real");
        let listed = std::fs::read_dir(&real).unwrap_or_else(|error| panic!("CORPUS_DIR: {}: {error}", real.display()));
        paths.extend(listed.map(|entry| entry.unwrap().path()));
        assert!(paths.len() > 1, "{} holds no file", real.display());
    }
    for path in paths {
        let object = bytes_of(&path);
        let table = read(&object, "", 0);
        let mut theirs = read_by_csv_crate(&object, &mut csv::ReaderBuilder::new());
        assert_eq!(table.header, theirs.remove(0), "{}", path.display());
        assert_eq!(table.rejects, [], "{}", path.display());
        assert_eq!(table.rows.len(), theirs.len(), "{}", path.display());
        for (record, (ours, theirs)) in table.rows.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "{}: record {}", path.display(), record + 1);
        }
    }
}
