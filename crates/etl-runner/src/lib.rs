//! Carries objects of a store through a pipeline's checks and transforms into a database, exactly once.
//!
//! [`run`] finds the objects that are new, [`load`] brings one of them into its table: one transaction holds the
//! ledger's row, the rows and the rejects, so that any crash, retry or second runner leaves the same table.
//!
//! Where the table refuses some rows, `exact` tells them apart from the others.
//!
//! [`parallel`] does the same on several connections, a transaction for each part of the object.
//!
//! The way of a byte: `objects` → [`stream`] (cut, transform, in parallel and in file order) → [`load`] (segments,
//! limits) → [`database`] (COPY or INSERT, ledger). Each stage hands on and never reaches back.

pub mod database;
mod error;
mod exact;
pub mod ledger;
pub mod load;
pub mod parallel;
pub mod replay;
pub mod report;
pub mod retry;
pub mod run;
pub mod stream;
mod upsert;
pub mod verify;

pub use error::{LoadError, chain};
