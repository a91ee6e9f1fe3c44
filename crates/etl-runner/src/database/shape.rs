//! What a table looks like, what a pipeline needs of it, and the statements that bring the two together.

use std::fmt;

use transform::pipeline::{Field, Kind, Mode};
use transform::{ColumnType, Pipeline};

use super::Dialect;
use super::ddl::{self, LOAD_ID, RECORD};
use super::name::{NameError, TableName, quote};

/// The type of a live column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveType {
    /// One we encode in binary. A domain counts as the type it is made of.
    Known(ColumnType),
    /// One whose input keeps each text or refuses it, as the database names it: an enum, citext, an array of texts. It
    /// gets the texts themselves.
    Texts(String),
    /// Another one, as the database names it; on SQLite every type.
    Other(String),
}

/// The types of PostgreSQL's columns that rows are loaded into, for messages.
const LOADABLE: &str = "boolean, smallint, integer, bigint, real, double precision, numeric with a scale from 0 up, text, \
    varchar, char(n), date, time, timestamp, timestamptz, json, jsonb, uuid, bytea, enums, citext, arrays of text, \
    varchar, citext or an enum, and domains over these";

impl fmt::Display for LiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(column) => column.fmt(f),
            Self::Texts(name) | Self::Other(name) => f.write_str(name),
        }
    }
}

/// A column of a table that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveColumn {
    pub name: String,
    pub column_type: LiveType,
    pub nullable: bool,
    pub has_default: bool,
    pub identity: bool,
    /// An identity column that cannot be updated: `generated always`.
    pub always: bool,
    /// Computed by the database; nothing can be written into it.
    pub generated: bool,
    /// Order in the table, from 1; gaps stand for dropped columns.
    pub position: u32,
}

/// What kind of relation bears the table's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    Table,
    Partitioned,
    Foreign,
    View,
    MaterializedView,
    /// None at all, and in the way of one: a sequence, a type, an index.
    Other(&'static str),
}

/// A key of a table that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveKey {
    pub columns: Vec<String>,
    /// It may be judged at the end of a transaction.
    pub deferrable: bool,
}

/// A table that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTable {
    pub name: TableName,
    /// PostgreSQL's; SQLite has none.
    pub oid: Option<u32>,
    pub kind: TableKind,
    pub columns: Vec<LiveColumn>,
    pub primary_key: Vec<String>,
    /// The primary one, unique constraints, unique indexes over all rows.
    pub keys: Vec<LiveKey>,
    /// On SQLite, which has no oids: the load that made the table, where one did. Loads before it went into another.
    pub made_by: Option<i64>,
    /// Row-level security applies to us, which COPY refuses.
    pub row_security: bool,
}

/// How a pipeline's rows are written into one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEncoding {
    /// The column type of each schema field, in schema order: what [`transform::Plan::compile`] takes.
    pub columns: Vec<ColumnType>,
    /// A column takes texts themselves, so the whole load goes as text.
    pub text: bool,
}

impl LiveTable {
    pub fn column(&self, name: &str) -> Option<&LiveColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether a column is given the texts themselves.
    pub(super) fn takes_texts(&self, name: &str) -> bool {
        matches!(self.column(name), Some(LiveColumn { column_type: LiveType::Texts(_), .. }))
    }

    /// As it will be when the load that makes it is over.
    pub(crate) fn with_key(&self, pipeline: &Pipeline) -> Self {
        let key = pipeline.schema.primary_key.clone();
        let keys = vec![LiveKey { columns: key.clone(), deferrable: false }];
        Self { primary_key: key, keys, ..self.clone() }
    }

    /// How rows are encoded for this table. The live types decide; SQLite's have less to say than the fields.
    pub fn encoding(&self, pipeline: &Pipeline) -> TableEncoding {
        let live = |field: &Field| self.column(&field.name).map(|column| &column.column_type);
        let fields = &pipeline.schema.fields;
        TableEncoding {
            columns: fields
                .iter()
                .map(|field| match live(field) {
                    Some(LiveType::Known(column)) => *column,
                    Some(LiveType::Texts(_)) => ColumnType::Text,
                    Some(LiveType::Other(_)) | None => field.column_type(),
                })
                .collect(),
            text: fields.iter().any(|field| matches!(live(field), Some(LiveType::Texts(_)))),
        }
    }
}

/// The columns a load of this pipeline writes, in the order of the plan's cells, lineage last.
pub fn written_columns(pipeline: &Pipeline) -> Vec<String> {
    let lineage: &[&str] = if pipeline.target.lineage { &[LOAD_ID, RECORD] } else { &[] };
    let fields = pipeline.schema.fields.iter().map(|field| field.name.clone());
    fields.chain(lineage.iter().map(|&name| name.to_owned())).collect()
}

/// One way a table does not fit a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeProblem {
    /// What is wrong, naming the column.
    pub what: String,
    /// The statement to paste, where one statement puts it right.
    pub fix: Option<String>,
}

impl fmt::Display for ShapeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.fix {
            Some(fix) => write!(f, "\n      {fix}"),
            None => Ok(()),
        }
    }
}

/// What stands between a pipeline and a table, empty when they fit. `dialect` is the table's.
pub fn compare(pipeline: &Pipeline, table: &LiveTable, dialect: Dialect) -> Result<Vec<ShapeProblem>, NameError> {
    let mut problems = Vec::new();
    if matches!(table.kind, TableKind::View | TableKind::MaterializedView) {
        let what = format!("{} is a view; rows go into a table", table.name);
        return Ok(vec![ShapeProblem { what, fix: None }]);
    }
    if let TableKind::Other(kind) = table.kind {
        let what =
            format!("{} is {kind}; rows go into a table: name another one under [target], or rename it", table.name);
        return Ok(vec![ShapeProblem { what, fix: None }]);
    }
    if table.row_security {
        problems.push(ShapeProblem {
            what: format!("{} has row-level security, which COPY does not work with", table.name),
            fix: Some("use a role that owns the table or has bypassrls".into()),
        });
    }
    let alter = format!("alter table {}", table.name.quoted());
    for field in &pipeline.schema.fields {
        let column = quote(&field.name)?;
        match table.column(&field.name) {
            None => problems.push(missing(field, table, dialect, &alter)?),
            Some(live) if live.generated => problems.push(ShapeProblem {
                what: format!("column {:?} is computed by the database, a field is written into it", field.name),
                fix: match dialect {
                    Dialect::Postgres => Some(format!("{alter} alter column {column} drop expression;")),
                    Dialect::Sqlite => None,
                },
            }),
            Some(live)
                if live.always
                    && pipeline.target.mode == Mode::Upsert
                    && !pipeline.schema.primary_key.contains(&field.name) =>
            {
                problems.push(ShapeProblem {
                    what: format!("column {:?} is generated always as identity, and cannot be updated", field.name),
                    fix: Some(format!("{alter} alter column {column} set generated by default;")),
                });
            }
            Some(live) if !fits(&live.column_type, field, dialect) => {
                problems.push(wrong_type(field, live, dialect, &alter)?);
            }
            Some(_) => {}
        }
    }
    let written = written_columns(pipeline);
    for live in &table.columns {
        let may_be_left_out = live.nullable || live.has_default || live.identity || live.generated;
        if !may_be_left_out && !written.contains(&live.name) {
            problems.push(ShapeProblem {
                what: format!("column {:?} is not in the pipeline, must not be null and has no default", live.name),
                fix: match dialect {
                    Dialect::Postgres => Some(format!("{alter} alter column {} drop not null;", quote(&live.name)?)),
                    Dialect::Sqlite => None,
                },
            });
        }
    }
    problems.extend(missing_key(pipeline, table, dialect, &alter)?);
    if pipeline.target.lineage {
        problems.extend(missing_lineage(table, dialect, &alter));
    }
    Ok(problems)
}

fn missing(field: &Field, table: &LiveTable, dialect: Dialect, alter: &str) -> Result<ShapeProblem, NameError> {
    let (column, column_type) = (quote(&field.name)?, ddl::type_name(field.column_type(), dialect));
    let twin = table.columns.iter().find(|live| live.name.eq_ignore_ascii_case(&field.name));
    let (what, fix) = match twin {
        Some(twin) => (
            format!("there is no column {:?}, only {:?}; names are compared exactly", field.name, twin.name),
            format!("{alter} rename column {} to {column};", quote(&twin.name)?),
        ),
        None => {
            let fix = format!("{alter} add column {column} {column_type};");
            (format!("there is no column {:?}", field.name), fix)
        }
    };
    Ok(ShapeProblem { what, fix: Some(fix) })
}

fn wrong_type(field: &Field, live: &LiveColumn, dialect: Dialect, alter: &str) -> Result<ShapeProblem, NameError> {
    let column = quote(&field.name)?;
    let wanted = ddl::type_name(field.column_type(), dialect);
    let kind = field.kind.as_str();
    let what = match (&live.column_type, dialect) {
        (LiveType::Other(name), Dialect::Postgres) => format!(
            "column {:?} is {name}, whose input may alter a value without a word; make it {wanted} and convert in a view. \
             Loaded are columns of {LOADABLE}",
            field.name
        ),
        (live, _) => format!("column {:?} is {live}, the field is {kind} and needs {wanted}", field.name),
    };
    Ok(ShapeProblem {
        what,
        fix: match dialect {
            Dialect::Postgres => {
                // The cast goes through text, which every type has; that of money is no number.
                let through = match &live.column_type {
                    LiveType::Other(name) if name.ends_with("money") => "numeric",
                    _ => "text",
                };
                Some(format!("{alter} alter column {column} type {wanted} using {column}::{through}::{wanted};"))
            }
            Dialect::Sqlite => None,
        },
    })
}

/// The table may have more keys than the pipeline.
fn missing_key(
    pipeline: &Pipeline,
    table: &LiveTable,
    dialect: Dialect,
    alter: &str,
) -> Result<Option<ShapeProblem>, NameError> {
    let key = &pipeline.schema.primary_key;
    let upsert = pipeline.target.mode == Mode::Upsert;
    // A key of fewer columns keeps more out, but `on conflict` has to name all of them.
    let within = |live: &&LiveKey| !live.columns.is_empty() && live.columns.iter().all(|name| key.contains(name));
    let fits = |live: &&LiveKey| within(live) && (!upsert || key.iter().all(|name| live.columns.contains(name)));
    let fitting: Vec<&LiveKey> = table.keys.iter().filter(fits).collect();
    // Elsewhere deferred keys are as good: they are judged before the commit. Here one spoils all others.
    let is_late = upsert && fitting.iter().any(|live| live.deferrable);
    if key.is_empty() || (!fitting.is_empty() && !is_late) {
        return Ok(None);
    }
    let columns = key.iter().map(|name| quote(name)).collect::<Result<Vec<_>, _>>()?.join(", ");
    if is_late {
        let what = format!(
            "the table's key on ({columns}) may be deferred, which mode = \"upsert\" does not work with; make it anew, not deferrable"
        );
        return Ok(Some(ShapeProblem { what, fix: None }));
    }
    let what = if upsert {
        format!(
            "primaryKey is ({columns}) and the table has no key of just these columns, by which mode = \"upsert\" could tell that a row is there"
        )
    } else {
        format!(
            "primaryKey is ({columns}) and no key of the table is, so a record could load twice; add it or leave primaryKey out"
        )
    };
    let fix = match dialect {
        _ if table.kind == TableKind::Foreign => {
            // Nothing here can keep one for it.
            return Ok(Some(ShapeProblem { what, fix: None }));
        }
        Dialect::Postgres if table.primary_key.is_empty() => format!("{alter} add primary key ({columns});"),
        Dialect::Postgres => format!("{alter} add unique ({columns});"),
        Dialect::Sqlite => {
            let name = quote(&table.name.derived("key"))?;
            format!("create unique index {name} on {} ({columns});", table.name.quoted())
        }
    };
    Ok(Some(ShapeProblem { what, fix: Some(fix) }))
}

fn missing_lineage(table: &LiveTable, dialect: Dialect, alter: &str) -> Vec<ShapeProblem> {
    let bigint = ddl::type_name(ColumnType::Int8, dialect);
    let mut problems = Vec::new();
    for name in [LOAD_ID, RECORD] {
        let fits = |live: &LiveColumn| match &live.column_type {
            LiveType::Known(column) => *column == ColumnType::Int8,
            LiveType::Texts(_) => false,
            LiveType::Other(declared) => {
                dialect == Dialect::Sqlite && matches!(Storage::of(declared), Storage::Integer | Storage::Any)
            }
        };
        match table.column(name) {
            Some(live) if fits(live) && !live.generated => {}
            Some(live) => problems.push(ShapeProblem {
                what: format!(
                    "column {name:?} is {}, lineage needs {bigint}; or set `lineage = false`",
                    live.column_type
                ),
                fix: None,
            }),
            None => problems.push(ShapeProblem {
                what: format!("there is no column {name:?} for lineage; add it or set `lineage = false`"),
                fix: Some(format!("{alter} add column \"{name}\" {bigint};")),
            }),
        }
    }
    problems
}

fn fits(live: &LiveType, field: &Field, dialect: Dialect) -> bool {
    match (live, dialect) {
        (LiveType::Known(column), _) => column.fits(&field.kind),
        (LiveType::Texts(_), _) => ColumnType::Text.fits(&field.kind),
        // Its input may round, cut or fill up, and nobody would know.
        (LiveType::Other(_), Dialect::Postgres) => false,
        (LiveType::Other(declared), Dialect::Sqlite) => Storage::of(declared).takes(field),
    }
}

/// What SQLite makes of a declared type: https://www.sqlite.org/datatype3.html#determination_of_column_affinity
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Integer,
    Real,
    Text,
    /// Turns texts that look like numbers into numbers.
    Numeric,
    /// Keeps what it is given.
    Any,
}

impl Storage {
    fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || declared.is_empty() || declared == "ANY" {
            Self::Any
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Whether what we write stays what we wrote.
    fn takes(self, field: &Field) -> bool {
        let written = Self::of(ddl::type_name(field.column_type(), Dialect::Sqlite).as_str());
        match self {
            Self::Any => true,
            Self::Numeric => {
                let temporal = matches!(field.kind, Kind::Date { .. } | Kind::Datetime { .. } | Kind::Time { .. });
                temporal || written == Self::Integer
            }
            Self::Integer | Self::Real | Self::Text => self == written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_of_sqlite_have_the_affinity_sqlite_gives_them() {
        for (declared, storage) in [
            ("INTEGER", Storage::Integer),
            ("bigint", Storage::Integer),
            ("varchar(40)", Storage::Text),
            ("TEXT", Storage::Text),
            ("BLOB", Storage::Any),
            ("", Storage::Any),
            ("double precision", Storage::Real),
            ("numeric(12,2)", Storage::Numeric),
            ("DATE", Storage::Numeric),
        ] {
            assert_eq!(Storage::of(declared), storage, "{declared}");
        }
    }
}
