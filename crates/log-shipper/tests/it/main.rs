//! The built binary, against a service over real HTTP, with its faults.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod commands;
mod model;
mod room;
mod rotation;
mod service;
mod shipping;
mod sources;
mod trouble;
