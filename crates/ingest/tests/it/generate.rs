//! Sample data: the same everywhere, whole, in constant memory.

use std::path::Path;

use crate::room::{Room, code, text};
use crate::while_running::Running;

/// A little over what the program itself takes; far under any file it writes.
const MEMORY_KIB: u64 = 16 * 1024;

#[test]
fn the_same_rows_and_seed_give_the_same_file() {
    let room = Room::new();
    for name in ["a.csv", "b.csv"] {
        let output =
            room.ingest(&["generate", "customers", "--rows", "5000", "--seed", "9", "--dirty", "0.01", "--out", name]);
        assert_eq!(code(&output), 0);
    }
    let (a, b) = (std::fs::read(room.path("a.csv")).unwrap(), std::fs::read(room.path("b.csv")).unwrap());
    assert_eq!(a, b);
    let output = room.ingest(&["generate", "customers", "--rows", "5000", "--seed", "9", "--dirty", "0.01"]);
    assert_eq!(output.stdout, a, "stdout and a file get the same bytes");
}

#[test]
fn another_reader_finds_the_rows_and_the_dirt_the_summary_names() {
    let room = Room::new();
    let output = room.ingest(&["generate", "customers", "--rows", "20000", "--seed", "4", "--dirty", "0.02", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(text(&output.stderr)).unwrap();
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(output.stdout.as_slice());
    let columns = reader.headers().unwrap().len();
    let (mut rows, mut short, mut long) = (0_u64, 0_u64, 0_u64);
    for record in reader.records() {
        let record = record.unwrap();
        rows += 1;
        short += u64::from(record.len() == columns - 1);
        long += u64::from(record[3].chars().count() > 40);
    }
    assert_eq!(columns, 12);
    assert_eq!(rows, 20_000);
    assert_eq!(summary["rows"], 20_000);
    assert_eq!(summary["bytes"], output.stdout.len());
    assert_eq!(summary["dirty"]["missing_field"], short);
    assert_eq!(summary["dirty"]["too_long"], long);
    assert!(short > 0 && long > 0);
}

#[test]
fn a_million_rows_take_no_more_memory_than_a_thousand() {
    let room = Room::new();
    let rows = 1_000_000;
    let mut running =
        Running::start(room.command(&["generate", "customers", "--rows", &rows.to_string(), "--seed", "1"]));
    let (bytes, peak) = running.read_stdout_watching_memory();
    assert_eq!(running.wait(), 0);
    assert!(bytes > 120 * rows, "{bytes} bytes");
    assert!(peak < MEMORY_KIB, "{peak} KiB");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let room = Room::new();
    let mut running = Running::start(room.command(&["generate", "customers", "--rows", "1000000", "--seed", "1"]));
    running.close_stdout();
    assert_eq!(running.wait(), 0);
    assert_eq!(running.stderr(), "");
}

/// What the demo and the guide rest on.
#[test]
fn our_own_pipeline_takes_clean_rows_and_rejects_exactly_the_dirty_ones() {
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/customers.toml");
    let pipeline = pipeline.to_str().unwrap();
    let room = Room::new();
    for (dirty, name) in [("0", "clean.csv"), ("0.01", "dirty.csv")] {
        let generate = ["generate", "customers", "--rows", "20000", "--seed", "6", "--dirty", dirty, "--out", name];
        let output = room.ingest(&[&generate[..], &["--json"]].concat());
        let summary: serde_json::Value = serde_json::from_str(text(&output.stdout)).unwrap();
        let output = room.ingest(&["check", name, "--pipeline", pipeline, "--json"]);
        let document: serde_json::Value = serde_json::from_str(text(&output.stdout)).unwrap();
        let report = &document["files"][0];
        assert_eq!(code(&output), 0, "{name}: {document}");
        assert_eq!(report["records"], 20_000);
        assert_eq!(report["rejected"], summary["dirty_rows"], "{name}");
        assert_eq!(report["bytes"], summary["bytes"]);
    }
}
