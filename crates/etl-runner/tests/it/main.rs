//! What the library and the binary promise, against real servers.

mod crash;
mod database;
