//! Brings local CSV files into the store: finds them, checks them with the transform a run would use, and stores them
//! under the key a run will look at.
//!
//! # Guarantees
//! - A file refused by its pipeline, or changed while it was read, is not stored.
//! - The same content is not stored twice under one key.
//! - Memory stays bounded for a file of any size.
//!
//! # Never
//! A database. Whether a key is in a table already is for the run to judge.

pub mod check;
pub mod generate;
pub mod key;
pub mod local;
pub mod upload;
