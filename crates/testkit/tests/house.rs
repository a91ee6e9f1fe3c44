//! The arrows of the house: which crate may use which. The design's floor plan, checked on `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// One crate of the workspace and what it may depend on in what it ships.
struct Room {
    name: &'static str,
    /// Crates of ours.
    may_use: &'static [&'static str],
    /// Other crates it keeps away from; a name ending in `-` is the start of names.
    never: &'static [&'static str],
}

const NETWORK: [&str; 6] = ["aws-", "hyper", "hyper-", "reqwest", "sqlx", "tokio"];

const ROOMS: [Room; 8] = [
    // Pure: what runs on a laptop and in a Spark executor is the same code with the same answers.
    Room {
        name: "transform",
        may_use: &[],
        never: &["aws-", "hyper", "hyper-", "reqwest", "sqlx", "sqlx-", "tokio", "tokio-", "tracing", "tracing-"],
    },
    Room { name: "objects", may_use: &[], never: &["csv", "csv-core", "sqlx", "sqlx-"] },
    // Of tokio it has the signals (decision 0017).
    Room { name: "cli", may_use: &[], never: &["aws-", "hyper", "hyper-", "reqwest", "sqlx"] },
    Room { name: "ingest", may_use: &["cli", "objects", "transform"], never: &["sqlx", "sqlx-"] },
    Room { name: "etl-runner", may_use: &["cli", "objects", "transform"], never: &[] },
    Room { name: "log-shipper", may_use: &["cli", "cloudwatch"], never: &["csv", "csv-core", "sqlx", "sqlx-"] },
    Room { name: "cloudwatch", may_use: &[], never: &["csv", "csv-core", "sqlx", "sqlx-"] },
    Room { name: "testkit", may_use: &[], never: &NETWORK },
];

#[test]
fn every_arrow_points_the_way_the_design_says() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| text(package, "name")).collect();
    let rooms: BTreeMap<&str, &Room> = ROOMS.iter().map(|room| (room.name, room)).collect();
    assert_eq!(ours, rooms.keys().copied().collect(), "a crate came or went: say here what it may use");

    let mut wrong = Vec::new();
    for package in &packages {
        let name = text(package, "name");
        let room = rooms[name];
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = text(dependency, "name");
            let is_test_only = dependency["kind"].as_str() == Some("dev");
            if ours.contains(used) {
                let allowed = room.may_use.contains(&used) || (used == "testkit" && is_test_only);
                if !allowed {
                    wrong.push(format!("{name} uses {used}"));
                }
            } else if !is_test_only && room.never.iter().any(|never| matches(never, used)) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that must not be: {}", wrong.join(", "));
}

/// Not even for its tests: they would have to be async.
#[test]
fn transform_has_no_test_dependency_on_a_runtime_or_a_database() {
    let packages = packages();
    let transform = packages.iter().find(|package| text(package, "name") == "transform").unwrap();
    let used = transform["dependencies"].as_array().unwrap().iter().map(|dependency| text(dependency, "name"));
    let wrong: Vec<&str> = used.filter(|used| NETWORK.iter().any(|never| matches(never, used))).collect();
    assert!(wrong.is_empty(), "transform uses {}", wrong.join(", "));
}

fn matches(pattern: &str, name: &str) -> bool {
    if pattern.ends_with('-') { name.starts_with(pattern) } else { name == pattern }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("cargo metadata has no {key}"))
}

fn packages() -> Vec<Value> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .unwrap_or_else(|error| panic!("run cargo metadata: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}"));
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        _ => panic!("cargo metadata lists packages"),
    }
}
