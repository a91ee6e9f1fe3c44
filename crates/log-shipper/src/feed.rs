//! Sources that are no files: the systemd journal, which can be read again from a place in it, and the standard input, which
//! cannot.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::io::AsyncReadExt;

use crate::batch::MAX_MESSAGE;
use crate::config::{JournalFormat, JournalSource};
use crate::journal::{Entry, Journal, Mark, Stats};
use crate::lines::{self, Joining, Lines};
use crate::status::Counts;
use crate::stream::{Event, Offered, Origin, Rules};
use crate::tail::Streams;

/// Events that are taken before others have their turn.
const TURN: usize = 2_000;
/// Bytes of the standard input that are read ahead.
const AHEAD: usize = MAX_MESSAGE + 256 * 1024;

/// A journal, and what of it is accepted.
#[derive(Debug)]
pub struct JournalFeed {
    pub key: String,
    pub stream: usize,
    source: JournalSource,
    journal: Journal,
    /// Bytes and parts of the next entry that were taken, where it is too long for one event.
    taken: (usize, u32),
    last: Option<Mark>,
    accepted: Option<Mark>,
    pending: VecDeque<(u64, Option<Mark>, bool)>,
    is_moved: bool,
}

impl JournalFeed {
    pub fn new(source: JournalSource, stream: usize, key: String, from: Option<Mark>) -> Self {
        let journal = Journal::new(source.settings.clone(), from);
        // Where it begins is a place as well, so that "from the end" holds across a restart.
        let from = journal.origin().cloned();
        Self {
            key,
            stream,
            source,
            journal,
            taken: (0, 0),
            last: from.clone(),
            accepted: from,
            pending: VecDeque::new(),
            is_moved: false,
        }
    }

    pub async fn ready(&mut self) {
        if self.has_more() {
            // What is there waits until its stream takes it.
            std::future::pending().await
        }
        self.journal.ready().await;
    }

    pub fn has_more(&self) -> bool {
        self.journal.peek().is_some()
    }

    pub fn accepted_mark(&self) -> Option<&Mark> {
        self.accepted.as_ref()
    }

    pub fn stats(&self) -> Stats {
        self.journal.stats()
    }

    /// Whether the accepted mark moved over entries of which nothing is shipped.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.is_moved)
    }

    /// Takes entries into the stream's batch; true when something was taken.
    pub fn read(
        &mut self,
        number: usize,
        streams: &mut Streams,
        now: Instant,
        read_at: i64,
        counts: &mut Counts,
    ) -> bool {
        let stream = &mut streams.list[self.stream];
        let (mut took, mut offered) = (false, Offered::LeftOut);
        for _ in 0..TURN {
            let Some(entry) = self.journal.peek() else { break };
            let text = text(entry, self.source.format);
            let rest = &text[self.taken.0..];
            let cut = lines::fitting(rest.as_bytes(), self.taken.1 > 0);
            let is_last = cut == rest.len();
            let part = (self.taken.1 > 0 || !is_last).then_some((self.taken.1 + 1, is_last));
            let event = Event { bytes: &rest.as_bytes()[..cut], part, timestamp: Some(entry.timestamp_ms), read_at };
            offered = stream.offer(event, &self.source.rules, now, &mut streams.batches, counts);
            if offered == Offered::Full {
                break;
            }
            took = true;
            if is_last {
                self.taken = (0, 0);
                self.last = self.journal.take().map(|entry| entry.mark);
            } else {
                self.taken = (self.taken.0 + cut, self.taken.1 + 1);
            }
            match &mut stream.filling {
                Some(filling) if offered == Offered::Taken => {
                    filling.origins.insert(Origin::Journal(number));
                    match self.pending.back_mut() {
                        Some(last) if last.0 == filling.id => last.1.clone_from(&self.last),
                        _ => self.pending.push_back((filling.id, self.last.clone(), false)),
                    }
                }
                _ => match self.pending.back_mut() {
                    Some(last) => last.1.clone_from(&self.last),
                    None => {
                        self.accepted.clone_from(&self.last);
                        self.is_moved = true;
                    }
                },
            }
        }
        if offered == Offered::Full || stream.filling.as_ref().is_some_and(|filling| filling.batch.is_full()) {
            stream.seal(self.stream);
        }
        took || offered == Offered::Full
    }

    /// The batch is accepted; true when the position moved.
    pub fn accept(&mut self, batch: u64) -> bool {
        self.pending.iter_mut().filter(|pending| pending.0 == batch).for_each(|pending| pending.2 = true);
        let mut is_moved = false;
        while let Some((_, mark, _)) = self.pending.pop_front_if(|first| first.2) {
            self.accepted = mark;
            is_moved = true;
        }
        is_moved
    }

    pub fn rewind(&mut self) {
        self.pending.clear();
        self.taken = (0, 0);
        self.last.clone_from(&self.accepted);
        self.journal.rewind(self.accepted.clone());
    }
}

fn text(entry: &Entry, format: JournalFormat) -> String {
    match format {
        JournalFormat::Short => entry.short(),
        JournalFormat::Message => entry.message().into_owned(),
        JournalFormat::Json => entry.json(),
    }
}

/// The standard input.
#[derive(Debug)]
pub struct StdinFeed {
    pub stream: usize,
    rules: Rules,
    input: Option<tokio::io::Stdin>,
    buffer: Vec<u8>,
    parts: u32,
    /// There is something that was not looked at yet.
    is_new: bool,
    grew: Instant,
}

impl StdinFeed {
    pub fn new(rules: Rules, stream: usize) -> Self {
        let input = Some(tokio::io::stdin());
        Self { stream, rules, input, buffer: Vec::new(), parts: 0, is_new: false, grew: Instant::now() }
    }

    /// Waits for more, unless enough is there.
    pub async fn ready(&mut self) {
        let Some(input) = self.input.as_mut().filter(|_| self.buffer.len() < AHEAD) else {
            return std::future::pending().await;
        };
        match input.read_buf(&mut self.buffer).await {
            Ok(0) => self.input = None,
            Ok(_) => self.grew = Instant::now(),
            Err(error) => {
                tracing::warn!(%error, "the standard input cannot be read any more");
                self.input = None;
            }
        }
        self.is_new = true;
    }

    /// Nothing more is read.
    pub fn ends(&mut self) {
        if self.input.is_some() {
            // What was read already and not taken is taken.
            let _ = self.ready().now_or_never();
            self.is_new = true;
        }
        self.input = None;
    }

    pub fn is_done(&self) -> bool {
        self.input.is_none() && self.buffer.is_empty()
    }

    fn joins(&self) -> bool {
        !matches!(self.rules.joining, Joining::Never)
    }

    pub fn has_more(&self, now: Instant) -> bool {
        !self.buffer.is_empty() && (self.is_new || self.wake().is_some_and(|wake| wake <= now))
    }

    /// When silence finishes an event.
    pub fn wake(&self) -> Option<Instant> {
        let waits = self.joins() && self.buffer.last() == Some(&b'\n');
        waits.then_some(self.grew + self.rules.join_timeout.max(Duration::from_millis(10)))
    }

    /// Takes events into the stream's batch; true when something was taken.
    pub fn read(&mut self, streams: &mut Streams, now: Instant, read_at: i64, counts: &mut Counts) -> bool {
        let stream = &mut streams.list[self.stream];
        let is_whole = self.input.is_none() || self.wake().is_some_and(|wake| wake <= now);
        let (mut end, mut parts, mut offered) = (0, self.parts, Offered::LeftOut);
        for found in Lines::new(&self.buffer, self.parts, &self.rules.joining, is_whole) {
            let part = found.part.map(|part| (part, !found.goes_on));
            let event = Event { bytes: found.bytes, part, timestamp: None, read_at };
            offered = stream.offer(event, &self.rules, now, &mut streams.batches, counts);
            if offered == Offered::Full {
                break;
            }
            if let Some(filling) = stream.filling.as_mut().filter(|_| offered == Offered::Taken) {
                filling.origins.insert(Origin::Stdin);
            }
            end = found.end;
            parts = if found.goes_on { found.part.unwrap_or_default() } else { 0 };
        }
        self.buffer.drain(..end);
        self.parts = parts;
        let is_full =
            offered == Offered::Full || stream.filling.as_ref().is_some_and(|filling| filling.batch.is_full());
        if is_full {
            stream.seal(self.stream);
        }
        self.is_new = is_full;
        end > 0 || is_full
    }
}
