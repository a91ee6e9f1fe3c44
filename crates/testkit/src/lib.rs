//! Real servers for tests, and the ways they fail.
//!
//! A test that needs a database or S3 talks to a real one over a real socket: [`Postgres`] and [`Aws`] start one server
//! for each test process and give each test a database or a bucket of its own. [`Proxy`] stands between a client and a
//! server and breaks the connection where a test says; [`Pooler`] hands each transaction to another session. [`CsvBuilder`] writes files whose content is known.
//!
//! # Guarantees
//! - Nothing stays running: the kernel ends the servers with the test process, however that process ends.
//! - A server that is not installed fails the test with the command that installs it; a test never passes by skipping.
//! - Everything listens on 127.0.0.1 only, on a port nobody else has.
//!
//! Depends on no crate of ours, so any of them may use it; only as a dev-dependency.
//!
//! # Environment
//! - `TEST_DATABASE_URL`: an administrator's URL of a running PostgreSQL, used instead of starting one.
//! - `TEST_AWS_ENDPOINT`: an endpoint of a running emulator, used instead of starting one.
//! - `PG_BIN`: directory of the server's binaries; `MOTO_SERVER`: path of `moto_server`.

mod aws;
mod csv;
mod pooler;
mod postgres;
mod process;
mod proxy;

pub use aws::Aws;
pub use csv::{CsvBuilder, Quoting, Random};
pub use pooler::Pooler;
pub use postgres::{PASSWORD_GROUP, Postgres, PostgresOptions, TestDatabase};
pub use proxy::{Direction, Proxy};
