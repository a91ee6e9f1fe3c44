//! Tables that were there before, and what became of those that loads made.

use super::sandbox::Sandbox;

#[test]
fn a_name_that_sqlite_keeps_for_itself_is_said() {
    let mut sandbox = Sandbox::new();
    sandbox.item_pipeline("");
    let text = std::fs::read_to_string(sandbox.path("items.toml")).unwrap();
    sandbox.write("items.toml", text.replace("\"item\"", "\"SQLite_x\"").as_bytes());
    sandbox.put("items/a.csv", b"id,price\n1,2.50\n");
    for command in ["run", "check", "ddl"] {
        let said = sandbox.run(&format!("{command} items.toml"));
        assert_eq!(
            (said.code, said.stderr.contains("only SQLite's own tables do")),
            (2, true),
            "{command}: {}",
            said.stderr
        );
    }
}
