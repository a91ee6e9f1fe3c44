//! Bytes of a CSV object in; typed rows or rejects out.
//!
//! Pure and sync: no files, no clock, no environment, no network. The same plan and the same bytes give the same rows
//! and the same rejects on a laptop, on EC2 and in a test.
//!
//! The path of a block: [`csv::Cutter`] ends blocks on record boundaries, [`Worker::apply`] decodes the records of one
//! block, applies the [`Plan`] and hands each kept [`Row`] to a [`RowSink`].
//!
//! # Guarantees
//! - Complete: each record becomes one row or one reject, so `read == loaded + rejected + filtered + duplicates`.
//! - Lossless: a value is stored as written or the record is a reject; nothing becomes NULL silently.
//!
//! # Left to the caller
//! Fetching and decompressing bytes, deciding how many rejects are too many, and writing anything anywhere.

pub mod csv;
pub mod encoding;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod pipeline;
mod plan;
mod reject;
mod row;
mod span;
pub mod types;
mod window;
mod worker;

pub use encoding::Encoding;
pub use pipeline::Pipeline;
pub use plan::{HeaderReport, Labels, Plan, PlanError};
pub use reject::{Code, Fault, Reason};
pub use row::{Cell, Row, RowRef, WIDE};
pub use span::{Side, Span};
pub use types::{Checks, Cleaner, ColumnType, Converted, Converter, write_canonical};
pub use worker::{Discard, FoundRecord, RejectedRecord, RowSink, Tally, Worker};
