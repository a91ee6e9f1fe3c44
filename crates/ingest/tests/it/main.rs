//! The built binary, as a person meets it.

mod generate;
mod golden;
mod room;
mod store;
mod while_running;
