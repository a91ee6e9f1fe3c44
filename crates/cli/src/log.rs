//! Logging: to stderr only, so that stdout carries the result alone.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{self, FormatFields};
use tracing_subscriber::util::SubscriberInitExt;

use crate::color::Color;
use crate::escape::EscapingWriter;
use crate::print::print_message;
use crate::screen::Screen;

/// A filter in the notation of `tracing-subscriber`; it replaces what the flags say.
const FILTER: &str = "AQUEDUCT_LOG";

/// Starts logging: `verbosity` -1 errors, 0 warnings, 1 what is done, 2 debugging, 3 everything. `AQUEDUCT_LOG`
/// replaces it. Short lines on a terminal, with the time elsewhere; JSON lines with `json`.
///
/// The second call in a process changes nothing.
pub fn init_logging(verbosity: i8, json: bool, color: Color) {
    let terminal = io::stderr().is_terminal();
    let style = color.style(terminal);
    let filter = match std::env::var(FILTER) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).unwrap_or_else(|error| {
            let warning = Screen::warning(format!("{FILTER} is no log filter")).cause(error.to_string());
            print_message(warning.help(format!("for example {FILTER}=debug, or {FILTER}=objects=debug")).render(style));
            filter_for(verbosity)
        }),
        _ => filter_for(verbosity),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A failure means that logging was started before, which a test may have done.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish().try_init()
    } else {
        let builder = builder.with_ansi(style != crate::color::Style::PLAIN).fmt_fields(escaped_fields());
        if terminal {
            builder.compact().without_time().with_target(false).finish().try_init()
        } else {
            builder.finish().try_init()
        }
    };
}

/// Libraries below us say little and late; their details need the filter.
fn filter_for(verbosity: i8) -> EnvFilter {
    let level = match verbosity {
        i8::MIN..=-1 => LevelFilter::ERROR,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        3..=i8::MAX => LevelFilter::TRACE,
    };
    let others = level.min(LevelFilter::WARN);
    let ours = ["cli", "etl_runner", "ingest", "log_shipper", "objects"];
    let directives = ours.map(|name| format!("{name}={level}")).join(",");
    // While it looks for credentials and a region, the SDK warns of each place without; our own error says it once.
    let sdk = others.min(LevelFilter::ERROR);
    let others = if verbosity > 1 { format!("{others}") } else { format!("{others},aws_config={sdk}") };
    EnvFilter::new(format!("{others},{directives}"))
}

/// Fields as text in which nothing from a file name or a key can act on the terminal or start a line of its own.
fn escaped_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    format::debug_fn(|writer, field, value| {
        let mut writer = EscapingWriter(writer);
        if field.name() == "message" {
            write!(writer, "{value:?}")
        } else {
            write!(writer, "{}={value:?}", field.name())
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_key_in_a_log_line_cannot_start_another_line() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .fmt_fields(escaped_fields())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("load", object = %"a\nERROR b");
            let _entered = span.enter();
            tracing::info!(key = %"c\x1b[2J\u{202e}", rows = 3, "loaded\r\n{}", "d\n");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            " INFO load{object=a\\nERROR b}: cli::log::tests: loaded\\r\\nd\\n key=c\\x1b[2J\\u{202e} rows=3\n"
        );
    }

    #[test]
    fn each_verbosity_has_a_filter() {
        assert_eq!(filter_for(2).max_level_hint(), Some(LevelFilter::DEBUG));
        assert_eq!(filter_for(0).max_level_hint(), Some(LevelFilter::WARN));
        assert_eq!(filter_for(-1).max_level_hint(), Some(LevelFilter::ERROR));
    }
}
