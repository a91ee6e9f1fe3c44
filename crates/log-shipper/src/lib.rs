//! A host's logs and metrics → CloudWatch: each event at least once, and hardly any twice.
//!
//! The pure half knows no clock, file or network: [`lines`] takes events off bytes, [`time`] reads their times, [`batch`] fills
//! requests to the service's limits, [`name`] makes names, [`pace`] says how long to wait, [`config`] and [`cwagent`] read
//! configurations. Then come the sources: [`tail`] (files, each a [`source`] with its [`mark`]), [`journal`], [`feed`]; the
//! [`stream`]s they fill; [`work`], which is all of it without the service. The shell is [`watch`] (hints about files),
//! [`checkpoint`] (positions that outlive the process), [`sink`] and [`publish`] (the service), [`host`] (who this is) and
//! [`ship`], the loop.
//!
//! A position moves only over what the service has accepted or what stands in the file of dead letters.

pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod cwagent;
pub mod dead_letter;
pub mod feed;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod host;
pub mod journal;
pub mod lines;
pub mod lock;
pub mod mark;
pub mod metrics;
pub mod name;
pub mod pace;
pub mod permissions;
pub mod publish;
pub mod ship;
pub mod sink;
pub mod source;
pub mod status;
pub mod stream;
pub mod tail;
pub mod time;
pub mod watch;
pub mod work;
