//! Rows and rejects of dirty text, against a model: the slow and obvious reader of the module docs of `csv`, and the
//! rules of two types.

use proptest::prelude::*;

use super::{FoundRecord, RejectedRecord, RowSink, Worker};
use crate::csv::Opened;
use crate::pipeline::{Field, Pipeline};
use crate::plan::Plan;
use crate::reject::Reason;
use crate::row::{Cell, RowRef};
use crate::types::ColumnType;

const PIPELINE: &str = r#"version = 1
name = "model"
[source]
path = "*.csv"
[dialect]
delimiter = ","
[schema]
fields = [{ name = "id", type = "integer" }, { name = "name", constraints = { required = true } }]
"#;

/// What a record becomes.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Row(Option<i64>, String),
    /// The field at fault, the reason, and where the record stands.
    Reject {
        field: Option<u16>,
        reason: Reason,
        line: u64,
        offset: u64,
        raw: Vec<u8>,
    },
}

/// The model: one character after the other, one record after the other.
fn model(input: &[u8], limit: usize) -> Vec<Fate> {
    let mut fates = Vec::new();
    let (mut at, mut is_header) = (0, true);
    while at < input.len() {
        if matches!(input[at], b'\n' | b'\r') {
            at = after_line_end(input, at);
            continue;
        }
        let (fields, reason, end) = read_record(input, at, limit);
        if is_header {
            assert_eq!(fields, [b"id", b"name".as_slice()], "tests start with the header");
            is_header = false;
        } else {
            let raw = &input[at..end];
            fates.push(match judge(raw, &fields, reason) {
                Ok((id, name)) => Fate::Row(id, name),
                Err((field, reason)) => {
                    let raw = raw[..raw.len().min(limit)].to_vec();
                    Fate::Reject { field, reason, line: line_of(input, at), offset: at as u64, raw }
                }
            });
        }
        at = if end < input.len() { after_line_end(input, end) } else { end };
    }
    fates
}

fn after_line_end(input: &[u8], at: usize) -> usize {
    if input[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 }
}

fn line_of(input: &[u8], offset: usize) -> u64 {
    let text: Vec<char> = input[..offset].iter().map(|&byte| byte as char).collect();
    let text: String = text.into_iter().collect();
    1 + text.replace("\r\n", "\n").replace('\r', "\n").matches('\n').count() as u64
}

/// The fields of the record at `start`, what is wrong with it as a whole, and where its content ends.
fn read_record(input: &[u8], start: usize, limit: usize) -> (Vec<Vec<u8>>, Option<Reason>, usize) {
    let is_end = |at: usize| at >= input.len() || matches!(input[at], b'\n' | b'\r');
    let line_end = (start..=input.len()).find(|&at| is_end(at)).unwrap();
    // Given up: the first line alone. Over the limit or not is decided where the reader noticed.
    let give_up = |at: usize| {
        let reason = if at - start > limit { Reason::RecordTooLong } else { Reason::UnclosedQuote };
        (Vec::new(), Some(reason), line_end)
    };
    let mut fields = Vec::new();
    let mut reason = None;
    let mut at = start;
    loop {
        let mut field = Vec::new();
        if input.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match (input.get(at), input.get(at + 1)) {
                    (None, _) => return give_up(input.len()),
                    (Some(b'"'), Some(b'"')) => {
                        field.push(b'"');
                        at += 2;
                    }
                    (Some(b'"'), _) => break,
                    (Some(&byte), _) => {
                        field.push(byte);
                        at += 1;
                    }
                }
            }
            let close = at;
            at += 1;
            if !is_end(at) && input[at] != b',' {
                if line_end < close {
                    return give_up(close);
                }
                reason = Some(Reason::TextAfterQuote);
            }
        }
        while !is_end(at) && input[at] != b',' {
            field.push(input[at]);
            at += 1;
        }
        fields.push(field);
        if is_end(at) {
            break;
        }
        at += 1;
    }
    if at - start > limit { (Vec::new(), Some(Reason::RecordTooLong), line_end) } else { (fields, reason, at) }
}

fn judge(
    raw: &[u8],
    fields: &[Vec<u8>],
    reason: Option<Reason>,
) -> Result<(Option<i64>, String), (Option<u16>, Reason)> {
    // A line that was cut off is not looked into.
    if std::str::from_utf8(raw).is_err() && !(reason == Some(Reason::RecordTooLong) && raw.len() > LIMIT) {
        return Err((None, Reason::InvalidEncoding));
    }
    if let Some(reason) = reason {
        return Err((None, reason));
    }
    let (expected, found) = (2, fields.len() as u32);
    if found < expected {
        return Err((None, Reason::FewerFields { expected, found }));
    }
    if found > expected {
        return Err((None, Reason::MoreFields { expected, found }));
    }
    let text = |index: usize| String::from_utf8(fields[index].clone()).unwrap();
    let id = match text(0) {
        id if id.is_empty() => None,
        id => Some(integer(&id).map_err(|reason| (Some(0), reason))?),
    };
    match text(1) {
        name if name.is_empty() => Err((Some(1), Reason::Required)),
        name if name.contains('\0') => Err((Some(1), Reason::Nul)),
        name => Ok((id, name)),
    }
}

/// An integer in the only form it is written in.
fn integer(text: &str) -> Result<i64, Reason> {
    let is_digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if text.strip_prefix('+').is_some_and(is_digits) {
        return Err(Reason::LeadingPlus);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !is_digits(digits) {
        let is_blank = |c: Option<char>| c.is_some_and(|c| c.is_whitespace());
        let outer = is_blank(text.chars().next()) || is_blank(text.chars().last());
        return Err(if outer { Reason::OuterBlank } else { Reason::NotInteger });
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(Reason::LeadingZero);
    }
    text.parse().map_err(|_| Reason::OutOfRange(ColumnType::Int8))
}

/// Small, so that random text goes over it; less than a pipeline file may ask for.
const LIMIT: usize = 60;

#[derive(Default)]
struct Rows(Vec<(u64, Fate)>);

impl RowSink for Rows {
    fn row(&mut self, row: RowRef<'_>) {
        let (&[id, Cell::Text(name)], record) = (row.cells.first_chunk().expect("two cells"), row.record) else {
            panic!("an integer and a text: {:?}", row.cells);
        };
        let id = match id {
            Cell::Null => None,
            Cell::Int(id) => Some(id),
            other => panic!("{other:?} is no integer"),
        };
        self.0.push((record, Fate::Row(id, row.text(name).to_owned())));
    }
}

/// What the worker makes of it, and how often it says so.
fn apply(input: &[u8]) -> (u64, u64, Vec<(u64, Fate)>) {
    let mut pipeline = Pipeline::parse(PIPELINE).expect("the pipeline is right");
    pipeline.limits.record = LIMIT;
    let columns: Vec<ColumnType> = pipeline.schema.fields.iter().map(Field::column_type).collect();
    let mut opened = Opened::new(input, &pipeline).expect("the header is there");
    let (plan, _) = Plan::compile(&pipeline, opened.grammar(), opened.header(), &columns).expect("it fits the header");
    let mut worker = Worker::new(&plan);
    let mut sink = Rows::default();
    let (mut read, mut loaded, mut rejects) = (0, 0, Vec::new());
    while let Some(block) = opened.next_block().expect("bytes in memory can be read") {
        let tally = worker.apply(&block, &mut sink);
        let is_row = |number: &u64| tally.rejects.iter().all(|reject| reject.record != *number);
        let rows: Vec<u64> = (block.position().record..).take(tally.read as usize).filter(is_row).collect();
        assert_found(input, &rows, &worker.find(&block, &rows));
        read += tally.read;
        loaded += tally.loaded;
        rejects.extend(tally.rejects);
    }
    let mut fates = sink.0;
    fates.extend(rejects.into_iter().map(|RejectedRecord { record, line, offset, raw, fault }| {
        (record, Fate::Reject { field: fault.field, reason: fault.reason, line, offset, raw })
    }));
    fates.sort_by_key(|(record, _)| *record);
    (read, loaded, fates)
}

/// Records that passed are found again where they stand: whole, one behind the other.
fn assert_found(input: &[u8], numbers: &[u64], found: &[FoundRecord]) {
    assert_eq!(found.iter().map(|found| found.record).collect::<Vec<_>>(), numbers);
    for FoundRecord { line, offset, raw, .. } in found {
        let (before, rest) = input.split_at(*offset as usize);
        assert!(before.ends_with(b"\n") || before.ends_with(b"\r"));
        let (_, reason, end) = read_record(input, before.len(), LIMIT);
        assert_eq!((raw.as_slice(), reason), (&rest[..end - before.len()], None));
        assert_eq!(*line, line_of(input, before.len()));
    }
}

fn dirty_record() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![
        4 => any::<i64>().prop_map(|id| id.to_string()),
        6 => (0..2000_i64).prop_map(|id| id.to_string()),
        1 => "[+-]?[0-9 ]{1,20}",
        1 => Just(String::new()),
        1 => "[a-z0-9.]{1,4}",
    ];
    let name = prop_oneof![
        6 => "[a-zé€ ]{1,8}",
        3 => "[a-z\"]{1,6}",
        2 => "[a-z,\n\r]{1,8}".prop_map(|name| format!("\"{name}\"")),
        1 => "\"[a-z,\n\r]{0,8}(\"\")?[a-z]{0,3}\"[a-z\n]{0,2}",
        1 => Just(String::new()),
        1 => "\"?[a-z\0]{30,70}\"?",
    ];
    let end = prop_oneof![6 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r"), 1 => Just("\n\n"), 1 => Just(",x\n")];
    (id, name, end, 0..40_u8).prop_map(|(id, name, end, accident)| {
        let mut record = format!("{id},{name}{end}").into_bytes();
        match accident {
            0 => drop(record.pop()),
            1 => record.insert(0, b'"'),
            2 => record.insert(record.len() / 2, b'"'),
            3 => record.insert(record.len() / 2, 0xFF),
            4 => drop(record.remove(record.len() / 2)),
            5 => record.insert(record.len() / 2, b'\n'),
            _ => {}
        }
        record
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// `read == loaded + rejects`, and record by record it is what the model says.
    #[test]
    fn dirty_text_becomes_the_rows_and_rejects_of_the_model(records in prop::collection::vec(dirty_record(), 0..30)) {
        let input = [b"id,name\n".to_vec(), records.concat()].concat();
        let expected: Vec<(u64, Fate)> = (1..).zip(model(&input, LIMIT)).collect();
        let (read, loaded, fates) = apply(&input);
        let rejected = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Reject { .. })).count() as u64;
        prop_assert_eq!(read, loaded + rejected);
        prop_assert_eq!(fates.len() as u64, read);
        for (ours, theirs) in fates.iter().zip(&expected) {
            prop_assert_eq!(ours, theirs, "in {:?}", String::from_utf8_lossy(&input));
        }
        prop_assert_eq!(fates.len(), expected.len(), "in {:?}", String::from_utf8_lossy(&input));
    }
}

/// A character of UTF-16 that the limit falls into is left out of the raw bytes rather than made up.
#[test]
fn a_line_over_the_limit_keeps_whole_characters_of_utf16() {
    let mut pipeline = Pipeline::parse(PIPELINE).expect("the pipeline is right");
    pipeline.source.encoding = crate::Encoding::Utf16Le;
    pipeline.limits.record = 10;
    let object: Vec<u8> = "id,name\n1,€€€€\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let columns: Vec<ColumnType> = pipeline.schema.fields.iter().map(Field::column_type).collect();
    let mut opened = Opened::new(object.as_slice(), &pipeline).expect("the header is there");
    let (plan, _) = Plan::compile(&pipeline, opened.grammar(), opened.header(), &columns).expect("it fits the header");
    let block = opened.next_block().expect("bytes in memory can be read").expect("there is a record");
    let tally = Worker::new(&plan).apply(&block, &mut crate::Discard);
    let raw: Vec<u8> = "1,€€".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!((tally.read, tally.rejects[0].offset, &tally.rejects[0].raw), (1, 16, &raw));
}
