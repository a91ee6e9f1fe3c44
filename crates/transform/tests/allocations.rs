//! From a block to its rows nothing is allocated, however many records it has.

#![allow(unsafe_code, reason = "an allocator that counts is the only way to see what is allocated")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use transform::csv::{Block, Cutter, Grammar, read_header};
use transform::{Encoding, Pipeline, Plan, RowRef, RowSink, Worker};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator; counts what this thread asks of it.
struct Counting;

// SAFETY: every call is the system allocator's own; the counter has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is the system allocator's, by `alloc` and `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PIPELINE: &str = r#"
version = 1
name = "allocations"
[source]
path = "*.csv"
[dialect]
delimiter = ","
[schema]
fields = [
  { name = "id", type = "integer", constraints = { minimum = 1 } },
  { name = "name", type = "string", sqlType = "varchar(20)" },
  { name = "email", type = "string", clean = ["trim", "lower"] },
  { name = "country", type = "string", clean = ["trim", "upper", { map = { "UK" = "GB" } }] },
  { name = "balance", type = "number", precision = [14, 2] },
  { name = "rate", type = "number", precision = [40, 20] },
  { name = "signup_date", type = "date" },
  { name = "born", type = "date", format = "%d/%m/%Y" },
  { name = "last_seen", type = "datetime", format = "%Y-%m-%dT%H:%M:%S%z" },
  { name = "key", type = "string", format = "uuid" },
  { name = "tags", type = "array" },
  { name = "notes", type = "string", clean = [{ regex = '[0-9]{4,}', with = "****" }, { regex = 'a|b', with = "x" }] },
]
[target]
table = "t"
mode = "append"
"#;

/// Records of every way a value may go: plain, quoted, with doubled quotes, over many lines, cleaned, missing.
fn records(count: usize) -> String {
    let header = "id,name,email,country,balance,rate,signup_date,born,last_seen,key,tags,notes\n";
    let record = |id: usize| {
        let (name, notes) = match id % 4 {
            0 => ("Ana", "card ending 123456 was replaced"),
            1 => ("\"Said \"\"no\"\"\"", "\"two\nlines, account 99999\""),
            2 => ("花子", ""),
            _ => ("José", "no further remarks and none of them is short enough for one look at it: 12345 and more"),
        };
        format!(
            "{id},{name}, Ana.Pe{id}@Example.COM ,uk,-12.50,1234567890123456789.5,2024-02-29,1/2/2024,\
             2024-02-29T12:00:00+01:00,6f1ed002-ab59-4c0f-8b6e-7a1d3c3f9a10,\"[1, 2.50]\",{notes}\n"
        )
    };
    header.to_owned() + &(1..=count).map(record).collect::<String>()
}

/// The header's block, then the others.
fn blocks(grammar: Grammar, input: &str) -> Vec<Block> {
    let mut cutter = Cutter::new(grammar, Encoding::Utf8, 1 << 20, true);
    cutter.push(input.as_bytes());
    cutter.finish();
    std::iter::from_fn(|| cutter.next()).collect()
}

/// Counts cells, so that rows are looked at.
struct Cells(usize);

impl RowSink for Cells {
    fn row(&mut self, row: RowRef<'_>) {
        self.0 += row.cells.len();
    }
}

#[test]
fn no_record_allocates() {
    let pipeline = Pipeline::parse(PIPELINE).unwrap();
    let grammar = Grammar::new(&pipeline.dialect, b',');
    let columns: Vec<_> = pipeline.schema.fields.iter().map(|field| field.column_type()).collect();
    let blocks = blocks(grammar, &records(1000));
    let header = read_header(&blocks[0], grammar, 100).unwrap().0.unwrap();
    let (plan, _) = Plan::compile(&pipeline, grammar, Some(&header), &columns).unwrap();
    let mut worker = Worker::new(&plan);
    let mut cells = Cells(0);
    // Once to bring buffers and regex caches to their size.
    for round in 0..2 {
        let before = ALLOCATIONS.get();
        let mut loaded = 0;
        for block in &blocks[1..] {
            let tally = worker.apply(block, &mut cells);
            assert!(tally.rejects.is_empty(), "{:?}", tally.rejects);
            loaded += tally.loaded;
        }
        assert_eq!(loaded, 1000);
        if round == 1 {
            assert_eq!(ALLOCATIONS.get() - before, 0);
        }
    }
    assert_eq!(cells.0, 2 * 12 * 1000);
}
