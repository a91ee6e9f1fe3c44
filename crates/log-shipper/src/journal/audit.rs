//! Whether what was read lately is still in the journal.
//!
//! journald deletes its oldest files, and journalctl goes over from one that is gone to the next that is there and says
//! nothing. While we are behind, as after hours in which the service took nothing, that can be a file that was not read. So
//! an entry that was read is looked for again some time later: if it is gone, what came behind it may be gone unread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::child::{Child, Heard, Seek};
use super::export::Parser;
use super::{Mark, Settings};

/// An entry that is so old when it is read says that we are behind. Also, how often is looked meanwhile.
const BEHIND: Duration = Duration::from_secs(10);
/// An entry that is there comes at once.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts gaps.
#[derive(Debug, Default)]
pub(super) struct Audit {
    gaps: Arc<AtomicU64>,
    /// While we are behind: an entry that was read, and when.
    behind: Option<(Mark, Instant)>,
    /// Those that look for one. They end with the journal.
    looking: JoinSet<()>,
}

impl Audit {
    pub(super) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// A gap that was found where reading began.
    pub(super) fn gap(&mut self, mark: &Mark, first: &Mark) {
        self.behind = None;
        tell(&self.gaps, mark, Some(first));
    }

    /// What was read will be read again, and looked for then.
    pub(super) fn forget(&mut self) {
        self.behind = None;
        self.looking.abort_all();
    }

    /// An entry was read.
    pub(super) fn read(&mut self, settings: &Settings, mark: &Mark) {
        let is_old =
            Mark::at(SystemTime::now()).realtime_us.saturating_sub(mark.realtime_us) > BEHIND.as_micros() as u64;
        match &self.behind {
            Some((_, since)) if !is_old || since.elapsed() >= BEHIND => self.look(settings),
            _ => {}
        }
        if is_old && self.behind.is_none() {
            self.behind = Some((mark.clone(), Instant::now()));
        }
    }

    /// Looks, in the background, whether the entry is still there. From here on we are not behind, as far as is known.
    pub(super) fn look(&mut self, settings: &Settings) {
        while self.looking.try_join_next().is_some() {}
        // An entry can be taken where no runtime is; the next look finds the same.
        let Ok(runtime) = Handle::try_current() else { return };
        let Some((mark, _)) = self.behind.take() else { return };
        let (settings, gaps) = (settings.clone(), Arc::clone(&self.gaps));
        let look = async move {
            match timeout(LONGEST, first(&settings, &mark)).await {
                Ok(Found::Same | Found::Unknown) => {}
                Ok(Found::Other(first)) => tell(&gaps, &mark, Some(&first)),
                Err(_) => tell(&gaps, &mark, None),
            }
        };
        self.looking.spawn_on(look, &runtime);
    }
}

enum Found {
    Same,
    Other(Mark),
    Unknown,
}

/// The first entry from this mark on.
async fn first(settings: &Settings, mark: &Mark) -> Found {
    let Ok(mut child) = Child::start(settings, Seek::Cursor(&mark.cursor)) else { return Found::Unknown };
    let (mut parser, mut chunk) = (Parser::default(), vec![0; 4_096]);
    while let Heard::Bytes(bytes) = child.hear(&mut chunk).await {
        let mut at = 0;
        while at < bytes {
            let (taken, entry) = parser.push(&chunk[at..bytes]);
            at += taken;
            match entry {
                Some(entry) if entry.mark.is_same(mark) => return Found::Same,
                // Entries of one moment in several files have no certain order.
                Some(entry) if entry.mark.realtime_us != mark.realtime_us => return Found::Other(entry.mark),
                _ => {}
            }
        }
    }
    Found::Unknown
}

fn tell(gaps: &AtomicU64, mark: &Mark, first: Option<&Mark>) {
    gaps.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(
        from_us = mark.realtime_us,
        to_us = first.map(|first| first.realtime_us),
        seconds = first.map(|first| first.realtime_us.saturating_sub(mark.realtime_us) / 1_000_000),
        "the journal has a gap: an entry that was read is not there any more, and what came between it and the next may have \
         been deleted unread"
    );
}
