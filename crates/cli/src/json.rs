//! The `--json` output: one document on stdout, with a version tag.

use std::io;

use serde::Serialize;

use crate::print::print;

/// Changes when a reader of the old documents would be misled. New keys may come without a change.
pub const SCHEMA: &str = "etl.run/1";

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: &'static str,
    command: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

/// One line: `{"schema":"etl.run/1","command":…}` followed by the keys of `body`, which must be a struct or a map.
pub fn document<T: Serialize>(command: &str, body: &T) -> serde_json::Result<String> {
    serde_json::to_string(&Envelope { schema: SCHEMA, command, body })
}

/// Writes the document to stdout.
pub fn print_json<T: Serialize>(command: &str, body: &T) -> io::Result<()> {
    let text = document(command, body).map_err(io::Error::other)?;
    print(format_args!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_its_schema_and_its_command() {
        #[derive(Serialize)]
        struct Body {
            rows: u64,
        }
        let text = document("ingest check", &Body { rows: 3 }).unwrap();
        assert_eq!(text, r#"{"schema":"etl.run/1","command":"ingest check","rows":3}"#);
    }
}
