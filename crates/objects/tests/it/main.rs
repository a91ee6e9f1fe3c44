//! The promises of a store, over both kinds of it, and what only one kind can break.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod answers;
mod directory;
mod failures;
mod promises;
mod resume;
mod s3;
mod world;
