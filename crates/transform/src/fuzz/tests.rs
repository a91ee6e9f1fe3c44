//! The checks of the fuzzer over the project's own files, whole and damaged: the same few thousand inputs each time.
#![expect(clippy::disallowed_methods, reason = "reads the corpora and the pipelines of the project")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{CHOICES, cut_and_decode, pipeline, records};
use crate::pipeline::Pipeline;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files below `folder`, in an order that is the same everywhere.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn read(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// Every CSV file that stands in the project.
fn tables() -> Vec<Vec<u8>> {
    let mut paths = files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora"));
    paths.extend(files_below(&project().join("seed-data")));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    assert!(paths.len() > 40, "{} files", paths.len());
    read(&paths)
}

/// Every pipeline file that stands in the project, right and wrong.
fn pipelines() -> Vec<Vec<u8>> {
    let mut paths = files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong"));
    paths.extend(files_below(&project().join("pipelines")));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(paths.len() > 15, "{} files", paths.len());
    let mut seeds = read(&paths);
    seeds.push(SEED.as_bytes().to_vec());
    seeds
}

/// A sequence of numbers that is the same on each run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll(256) as u8).collect()
    }

    /// One to six edits, each of which a careless hand or a broken transfer could have made.
    fn damage(&mut self, bytes: &mut Vec<u8>, tokens: &[&[u8]]) {
        for _ in 0..=self.roll(6) {
            let at = self.roll(bytes.len() + 1);
            let until = (at + self.roll(40)).min(bytes.len());
            match self.roll(8) {
                0 => drop(bytes.drain(at..until)),
                1 => bytes.truncate(bytes.len() - self.roll(bytes.len() / 4 + 1)),
                2 => {
                    let piece = bytes[at..until].to_vec();
                    let to = self.roll(bytes.len() + 1);
                    bytes.splice(to..to, piece);
                }
                3 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                4 => {
                    let run = ["x", "é", "€", "\"", "\n"][self.roll(5)].repeat(self.roll(1500));
                    bytes.splice(at..at, run.into_bytes());
                }
                _ => {
                    let token = tokens[self.roll(tokens.len())];
                    bytes.splice(at..at, token.iter().copied());
                }
            }
        }
    }
}

const CSV_TOKENS: [&[u8]; 30] = [
    b"\"",
    b"\"",
    b"\"\"",
    b",",
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b",\"",
    b"\",",
    b"\"\n",
    b"\n\"",
    b"'",
    b"\\",
    b"#",
    b"\n#",
    b" ",
    b"\0",
    b"\x1A",
    b"\xFF",
    b"\xED\xA0\x80",
    b"\xEF\xBB\xBF",
    b"\xFF\xFE",
    "é".as_bytes(),
    "\u{1F600}".as_bytes(),
    "\u{2028}".as_bytes(),
    b"NULL",
    b"-12",
    b"2024-03-31 02:30:00",
];

const TOML_TOKENS: [&[u8]; 16] = [
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b"'''",
    b"=",
    b"\n",
    b"\r",
    b"true",
    b"9999999999999999999999",
    b"1e400",
    b"(",
    b"\xFF",
    "\u{FEFF}".as_bytes(),
    b"\\u{",
];

/// Bytes of a seed that are damaged: what is odd about a file stands near its start, and a longer one costs more than it
/// finds.
const SEED_BYTES: usize = 3000;

fn bear(check: fn(&[u8]), seeds: Vec<Vec<u8>>, tokens: &[&[u8]], choices: usize, rounds: usize) {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for seed in seeds {
        for round in 0..rounds {
            let mut input = seed[..seed.len().min(SEED_BYTES)].to_vec();
            if round > 0 {
                dice.damage(&mut input, tokens);
            }
            let chosen = if round == 0 { vec![0; choices] } else { dice.bytes(choices) };
            check(&[chosen, input].concat());
        }
    }
}

#[test]
fn damaged_tables_are_cut_and_decoded_alike() {
    bear(cut_and_decode, tables(), &CSV_TOKENS, CHOICES, 80);
}

#[test]
fn no_record_of_a_damaged_table_vanishes() {
    bear(records, tables(), &CSV_TOKENS, CHOICES, 60);
}

#[test]
fn damaged_pipelines_are_read_or_explained() {
    bear(pipeline, pipelines(), &TOML_TOKENS, 0, 60);
}

/// Bytes that mean nothing have to be borne as well.
#[test]
fn noise_is_borne() {
    let mut dice = Dice(42);
    for len in (0..400).chain([5000]) {
        let noise = dice.bytes(CHOICES + len);
        cut_and_decode(&noise);
        records(&noise);
        pipeline(&noise);
    }
}

/// DuckDB's plain files, as far as they are at hand, each read in several ways.
#[test]
fn no_record_of_a_foreign_corpus_vanishes() {
    let Some(corpora) = std::env::var_os("CORPUS_DIR") else { return };
    let mut paths = files_below(&project().join(corpora).join("duckdb"));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv" || extension == "tsv"));
    assert!(paths.len() > 100, "{} files", paths.len());
    let mut dice = Dice(7);
    for table in read(&paths) {
        for round in 0..6 {
            // As they are first.
            let mut chosen = if round == 0 { vec![0; CHOICES] } else { dice.bytes(CHOICES) };
            if table.len() > 20_000 {
                // A few bytes at a time would take long.
                chosen[3] |= 0x80;
            }
            let input = [chosen.as_slice(), &table].concat();
            cut_and_decode(&input);
            records(&input);
        }
    }
}

/// Everything a file can say, to be damaged.
const SEED: &str = r##"version = 1
name = "all"
[source]
path = "a/*.csv*"
encoding = "windows-1252"
on_change = "ignore"
[dialect]
delimiter = ";"
quoteChar = "'"
doubleQuote = false
escapeChar = '\'
skipInitialSpace = true
header = true
commentChar = "#"
[schema]
missingValues = ["", "é"]
primaryKey = ["a", "b"]
fields = [
  { name = "a", from = "A", type = "integer", bareNumber = false, groupChar = ".", sqlType = "int", default = 5, constraints = { required = true, minimum = 0, maximum = 1_000 } },
  { name = "b", type = "number", decimalChar = ",", precision = [12, 2], constraints = { exclusiveMinimum = 0.5, enum = [1.5, "2,5"] } },
  { name = "c", format = "email", clean = ["trim", { replace = "x", with = "y" }, { regex = '(?P<n>\d+)', with = "${n}$$" }, { map = { a = "b" } }], constraints = { minLength = 1, maxLength = 9, pattern = '[a-z]+' } },
  { name = "d", type = "boolean", trueValues = ["j"], falseValues = ["n"] },
  { name = "e", type = "date", format = "%d/%m/%Y", constraints = { minimum = "01/02/2003" } },
  { name = "f", type = "datetime", timezone = "Europe/Paris", constraints = { maximum = 2030-01-01T00:00:00Z } },
  { name = "g", type = "object" },
]
[drift]
new_columns = "fail"
missing_columns = "null"
[target]
table = "s.t"
create = false
[errors]
limit = { rows = 5, percent = 0.5 }
[limits]
record = "64 KiB"
columns = 99
"##;

#[test]
fn the_seed_of_the_property_test_is_right() {
    if let Err(problems) = Pipeline::parse(SEED) {
        panic!("{}", problems.render("seed.toml", SEED));
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Delete(usize, usize),
    Insert(usize, String),
    Move(usize, usize, usize),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let token = prop_oneof![
        any::<char>().prop_map(String::from),
        "[\\[\\]{}\"'=.,#\\\\\r\n\t ]{1,3}",
        prop::sample::select(vec![
            "true",
            "-1",
            "9999999999999999999999",
            "1e400",
            "nan",
            "\"\"",
            "[]",
            "{}",
            "'''",
            "(",
            "$1",
            "\u{FEFF}",
            "%",
            "0x"
        ])
        .prop_map(String::from),
    ];
    prop_oneof![
        (any::<usize>(), 1..20_usize).prop_map(|(at, len)| Edit::Delete(at, len)),
        (any::<usize>(), token).prop_map(|(at, text)| Edit::Insert(at, text)),
        (any::<usize>(), 1..60_usize, any::<usize>()).prop_map(|(from, len, to)| Edit::Move(from, len, to)),
    ]
}

fn damaged(edits: &[Edit]) -> Vec<u8> {
    let mut bytes = SEED.as_bytes().to_vec();
    for edit in edits {
        let within = |at: usize| at % (bytes.len() + 1);
        match edit {
            Edit::Delete(at, len) => {
                let at = within(*at);
                bytes.drain(at..(at + len).min(bytes.len()));
            }
            Edit::Insert(at, text) => {
                let at = within(*at);
                bytes.splice(at..at, text.bytes());
            }
            Edit::Move(from, len, to) => {
                let (from, to) = (within(*from), within(*to));
                let piece = bytes[from..(from + len).min(bytes.len())].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

proptest! {
    #[test]
    fn a_damaged_file_is_read_or_explained(edits in prop::collection::vec(any_edit(), 0..6)) {
        pipeline(&damaged(&edits));
    }

    #[test]
    fn any_bytes_are_read_or_explained(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        pipeline(&bytes);
    }
}

/// A first line of exactly the limit, its CR the last byte that arrived: whether the line is over the limit was decided
/// before it was known where it ends.
#[test]
fn a_line_of_exactly_the_limit_is_the_same_when_a_piece_ends_inside_its_line_end() {
    let chosen = [0, 0, 1, 4, 255, 0, 0, 0];
    cut_and_decode(&[chosen.as_slice(), b"\"xxx\r\nyyyyy"].concat());
}
