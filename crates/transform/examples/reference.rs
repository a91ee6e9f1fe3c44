//! Writes docs/pipeline.schema.json and the generated part of docs/pipeline.md.
#![expect(clippy::disallowed_methods, reason = "this writes files; the crate it describes does not")]

use std::path::Path;

use transform::pipeline;

fn main() -> std::io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = docs.join("pipeline.md");
    let renewed = pipeline::renew_reference(&std::fs::read_to_string(&page)?)
        .ok_or_else(|| std::io::Error::other("docs/pipeline.md has lost the marks around its generated part"))?;
    std::fs::write(&page, renewed)?;
    std::fs::write(docs.join("pipeline.schema.json"), pipeline::json_schema())
}
