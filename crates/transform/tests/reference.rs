//! The documents about the pipeline file say what the parser does.
#![expect(clippy::disallowed_methods, reason = "reads the documents of the project")]

use std::path::{Path, PathBuf};

use transform::{Code, pipeline};

const RENEW: &str = "is out of date: cargo run --release -p transform --example reference";

fn docs(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, text)
}

#[test]
fn the_reference_is_what_the_parser_reads() {
    let (path, page) = docs("pipeline.md");
    let renewed = pipeline::renew_reference(&page).expect("the marks around the generated part");
    assert!(page == renewed, "{} {RENEW}", path.display());
}

#[test]
fn the_json_schema_is_what_the_parser_reads() {
    let (path, schema) = docs("pipeline.schema.json");
    assert!(schema == pipeline::json_schema(), "{} {RENEW}", path.display());
}

#[test]
fn the_json_schema_is_json_and_refuses_unknown_keys() {
    let schema: serde_json::Value = serde_json::from_str(&pipeline::json_schema()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["version", "name", "source", "schema"]));
    let field = &schema["properties"]["schema"]["properties"]["fields"]["items"];
    assert_eq!(field["properties"]["constraints"]["additionalProperties"], false);
    assert_eq!(field["properties"]["type"]["default"], "string");
    assert!(schema["properties"].get("rows").is_none(), "what is not built yet is not offered");
}

#[test]
fn every_reject_code_is_in_the_reference() {
    let reference = pipeline::reference();
    for code in Code::ALL {
        assert!(reference.contains(&format!("| `{}` |", code.as_str())), "{}", code.as_str());
    }
}
