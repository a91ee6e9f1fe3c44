//! A progress bar where somebody can see it, nothing elsewhere.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::escape::escape;
use crate::flags::Terminal;
use crate::human;

/// Bytes done, how fast, how long still, and rows a second where rows are known. Cheap to clone; clones share the bar.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// `total` is unknown for a pipe. Nothing is drawn with `--quiet`, with `--json`, or where stderr is no terminal.
    pub fn bytes(terminal: Terminal, label: &str, total: Option<u64>) -> Self {
        let bar = if terminal.progress {
            ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8))
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(style(total.is_some()));
        bar.set_prefix(escape(label).to_string());
        if terminal.progress {
            bar.enable_steady_tick(Duration::from_millis(250)); // a thread, which nothing hidden needs
        }
        Self { bar, started: Instant::now() }
    }

    pub fn add_bytes(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Rows so far.
    pub fn set_rows(&self, rows: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        if seconds > 0.2 {
            self.bar.set_message(format!("{} rows/s", human::count((rows as f64 / seconds) as u64)));
        }
    }

    /// What is being done now, when it is no longer bytes.
    pub fn say(&self, message: impl Into<Cow<'static, str>>) {
        self.bar.set_message(message);
    }

    /// Writes messages without leaving half a bar behind.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    /// Takes the bar off the screen. Dropping the last clone does the same.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

const WITH_TOTAL: &str =
    "{prefix} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta} {wide_msg}";
const WITHOUT_TOTAL: &str = "{prefix} {spinner} {binary_bytes} {binary_bytes_per_sec} {wide_msg}";

fn style(total: bool) -> ProgressStyle {
    // The templates are constants of ours; a mistake in one costs the layout, not the run.
    ProgressStyle::with_template(if total { WITH_TOTAL } else { WITHOUT_TOTAL })
        .map(|style| style.progress_chars("=> "))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_nothing_is_drawn() {
        let progress = Progress::bytes(Terminal::default(), "a.csv", Some(10));
        progress.add_bytes(5);
        progress.set_rows(1);
        assert!(progress.bar.is_hidden());
        assert_eq!(progress.suspend(|| 7), 7);
        progress.finish();
    }

    #[test]
    fn the_templates_hold() {
        for template in [WITH_TOTAL, WITHOUT_TOTAL] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
