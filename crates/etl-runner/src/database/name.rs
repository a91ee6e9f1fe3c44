//! Names of tables and columns, and how they get into SQL text. Values never do: they are always bound.

use std::fmt;

use serde::{Serialize, Serializer};

/// PostgreSQL cuts longer names without an error, which would let two names mean one column.
const MAX_NAME_BYTES: usize = 63;

/// Why a name cannot be one in the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("{name:?} holds a NUL character")]
    Nul { name: String },
    #[error("{name:?} is {bytes} bytes long, PostgreSQL keeps {MAX_NAME_BYTES}")]
    TooLong { name: String, bytes: usize },
    #[error("{name:?} is not `table` or `schema.table`")]
    NotATable { name: String },
    #[error("{name:?} stands for the ledger's own tables")]
    Reserved { name: String },
    #[error("{name:?} begins with sqlite_, as only SQLite's own tables do; name the table otherwise")]
    OfSqlite { name: String },
}

/// A name in double quotes, those inside doubled: the rule of both PostgreSQL and SQLite.
pub fn quote(name: &str) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.contains('\0') {
        return Err(NameError::Nul { name: name.replace('\0', "\u{FFFD}") });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { name: name.to_owned(), bytes: name.len() });
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A text as an SQL literal, for the few statements that take no bound values.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table, with or without the schema it stands in. What it holds can be quoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    schema: Option<String>,
    name: String,
}

impl TableName {
    /// Reads `table` or `schema.table`, as a pipeline file writes it: without quotes, every character but the dot
    /// stands for itself.
    pub fn parse(target: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = target.split('.').collect();
        match parts.as_slice() {
            [name] => Self::new(None, name),
            [schema, name] => Self::new(Some(schema), name),
            _ => Err(NameError::NotATable { name: target.to_owned() }),
        }
    }

    pub(super) fn new(schema: Option<&str>, name: &str) -> Result<Self, NameError> {
        quote(name)?;
        if let Some(schema) = schema {
            quote(schema)?;
        }
        if schema == Some("aqueduct") || (schema.is_none() && name.starts_with("aqueduct_")) {
            return Err(NameError::Reserved { name: name.to_owned() });
        }
        Ok(Self { schema: schema.map(str::to_owned), name: name.to_owned() })
    }

    /// The same table with its schema filled in.
    pub(super) fn in_schema(&self, schema: &str) -> Self {
        Self { schema: Some(schema.to_owned()), name: self.name.clone() }
    }

    /// What SQLite calls it. There are no schemas there: `public` and `main` fall away, another one becomes a prefix.
    pub(super) fn flattened(&self) -> Self {
        let name = match self.schema.as_deref() {
            None | Some("public" | "main") => self.name.clone(),
            Some(schema) => format!("{schema}_{}", self.name),
        };
        Self { schema: None, name }
    }

    /// The same, if SQLite takes the name for a table.
    pub(super) fn in_sqlite(&self) -> Result<Self, NameError> {
        let table = self.flattened();
        match table.name.get(..7) {
            Some(start) if start.eq_ignore_ascii_case("sqlite_") => Err(NameError::OfSqlite { name: table.name }),
            _ => Ok(table),
        }
    }

    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name as it stands in SQL text.
    pub fn quoted(&self) -> String {
        let name = self.name.replace('"', "\"\"");
        match &self.schema {
            Some(schema) => format!("\"{}\".\"{name}\"", schema.replace('"', "\"\"")),
            None => format!("\"{name}\""),
        }
    }

    /// A name for one of the table's own objects (`customer_pkey`), cut so that it stays a name.
    pub(super) fn derived(&self, suffix: &str) -> String {
        let mut keep = self.name.len().min(MAX_NAME_BYTES - 1 - suffix.len());
        while !self.name.is_char_boundary(keep) {
            keep -= 1;
        }
        format!("{}_{suffix}", &self.name[..keep])
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Serialize for TableName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_nothing_else_is_touched() {
        assert_eq!(quote("plain").unwrap(), "\"plain\"");
        assert_eq!(quote("id\"; DROP TABLE t; --").unwrap(), "\"id\"\"; DROP TABLE t; --\"");
        assert_eq!(quote("a'b\\`]").unwrap(), "\"a'b\\`]\"");
        assert_eq!(quote("").unwrap_err(), NameError::Empty);
        assert!(matches!(quote("a\0b").unwrap_err(), NameError::Nul { .. }));
        assert!(matches!(quote(&"é".repeat(32)).unwrap_err(), NameError::TooLong { bytes: 64, .. }));
    }

    #[test]
    fn a_table_is_named_with_or_without_its_schema() {
        let table = TableName::parse("sales.or\"der").unwrap();
        assert_eq!((table.schema(), table.name()), (Some("sales"), "or\"der"));
        assert_eq!(table.quoted(), "\"sales\".\"or\"\"der\"");
        assert_eq!(table.to_string(), "sales.or\"der");
        assert_eq!(TableName::parse("t").unwrap().schema(), None);
        for bad in ["", ".", "a.", ".b", "a.b.c", "a\0"] {
            assert!(TableName::parse(bad).is_err(), "{bad:?}");
        }
        for ours in ["aqueduct.load", "aqueduct_load"] {
            assert!(matches!(TableName::parse(ours).unwrap_err(), NameError::Reserved { .. }));
        }
    }

    #[test]
    fn sqlite_keeps_a_schema_as_a_prefix() {
        let flat = |name| TableName::parse(name).unwrap().flattened().to_string();
        assert_eq!(flat("public.customer"), "customer");
        assert_eq!(flat("customer"), "customer");
        assert_eq!(flat("sales.customer"), "sales_customer");
    }

    #[test]
    fn derived_names_stay_within_the_limit() {
        assert_eq!(TableName::parse("s.customer").unwrap().derived("pkey"), "customer_pkey");
        let long = TableName::parse(&"é".repeat(31)).unwrap().derived("load_pkey");
        assert!(long.len() <= MAX_NAME_BYTES && long.ends_with("_load_pkey"));
    }
}
