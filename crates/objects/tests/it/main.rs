//! The promises of a store, over both kinds of it, and what only one kind can break.

mod directory;
mod failures;
mod promises;
mod s3;
mod world;
