//! What is there to be shipped, without the service and without waiting: sources, the streams they fill, and the memory all of
//! it may take. [`ship`](crate::ship) drives it, and so does a test that plays the service.
//!
//! No branch moves a position over an event that was neither accepted nor written to the file of dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::checkpoint::{JournalEntry, Positions};
use crate::config::Config;
use crate::dead_letter::Cause;
use crate::feed::{JournalFeed, StdinFeed};
use crate::name::Host;
use crate::status::{Counts, Status, StreamStatus};
use crate::stream::{Filling, Flight, Origin, Stream};
use crate::tail::{Destination, Streams, Tails};
use crate::watch::Changes;

/// Bytes of all batches in memory, those under way included. What is above is read again later.
const MEMORY: usize = 8 << 20;
/// How long reading goes on before anything else is looked at.
const TURN: Duration = Duration::from_millis(20);
/// How often streams that are refused take memory from each other.
const GIVE_UP: Duration = Duration::from_millis(500);
/// Files and streams that a status names.
const MOST_NAMED: usize = 100;

/// Sources and streams.
#[derive(Debug)]
pub struct Work {
    flush: Duration,
    tails: Tails,
    journals: Vec<JournalFeed>,
    stdin: Option<StdinFeed>,
    streams: Streams,
    /// Whose turn it is.
    next_stream: usize,
    under_way_bytes: usize,
    /// Bytes of memory of all streams.
    held: usize,
    /// Streams with batches to be sent, and such with one that is being filled.
    waiting: BTreeSet<usize>,
    filling: BTreeSet<usize>,
    /// When a stream gave its batches up for another that is refused, too.
    gave_up: Option<Instant>,
    /// Batches that were sent.
    sent: u64,
    /// Of each batch under way the time of its oldest event, in milliseconds since 1970.
    under_way: BTreeMap<u64, i64>,
    pub counts: Counts,
}

impl Work {
    pub fn new(config: &Config, host: &Host, restored: Positions) -> Self {
        let mut streams = Streams::default();
        let mut of = |group: &crate::name::Template, stream: &crate::name::Template, retention_days| {
            let group = crate::name::safe_group(&group.of_source(host, "").on(""));
            streams.of(Destination { group, template: stream.of_source(host, ""), retention_days })
        };
        let journals = config.journals.iter().map(|journal| {
            let stream = of(&journal.group, &journal.stream, journal.retention_days);
            let key = journal.key();
            let saved = restored.journals.iter().find(|entry| entry.journal == key);
            JournalFeed::new(journal.clone(), stream, key, saved.map(|entry| entry.mark.clone()))
        });
        let journals = journals.collect();
        let stdin = config
            .stdin
            .as_ref()
            .map(|stdin| StdinFeed::new(stdin.rules.clone(), of(&stdin.group, &stdin.stream, stdin.retention_days)));
        Self {
            flush: config.delivery.flush,
            tails: Tails::new(config.files.clone(), host.clone(), restored.files, restored.patterns),
            journals,
            stdin,
            streams,
            next_stream: 0,
            under_way_bytes: 0,
            held: 0,
            waiting: BTreeSet::new(),
            filling: BTreeSet::new(),
            gave_up: None,
            sent: 0,
            under_way: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    // ---- what happens

    pub fn note(&mut self, changes: &Changes, now: Instant) {
        self.tails.note(changes, &mut self.streams, now, &mut self.counts);
    }

    /// Gives the directories to be watched.
    /// `is_told`: whatever was renamed since the last look was told.
    pub fn look_around(&mut self, now: Instant, is_told: bool) -> BTreeSet<PathBuf> {
        self.tails.look_around(&mut self.streams, now, is_told)
    }

    /// Gives memory back if nothing happened since it was asked last; true if so.
    pub fn tidy(&mut self) -> bool {
        self.streams.batches.tidy()
    }

    /// Waits until a journal or the standard input has more.
    pub async fn ready(&mut self) {
        let stdin = async {
            match &mut self.stdin {
                Some(stdin) => stdin.ready().await,
                None => std::future::pending().await,
            }
        };
        let journals = async {
            if self.journals.is_empty() {
                return std::future::pending().await;
            }
            let ready = self.journals.iter_mut().map(|feed| Box::pin(feed.ready()));
            futures_util::future::select_all(ready).await;
        };
        tokio::select! {
            () = stdin => {}
            () = journals => {}
        }
    }

    /// Nothing more will come: there are no files and no journals, and the standard input is at its end.
    pub fn is_at_end(&self) -> bool {
        let stdin_ended = self.stdin.as_ref().is_some_and(StdinFeed::is_done);
        self.tails.is_without_files() && self.journals.is_empty() && stdin_ended
    }

    // ---- reading

    /// Reads for each stream that takes more, in turn; true when there is more to do at once.
    pub fn fill(&mut self, now: Instant) -> bool {
        self.tails.poll(now);
        let begun = Instant::now();
        let mut wanting: BTreeSet<usize> = self.tails.dirty_streams().collect();
        wanting.extend(self.journals.iter().filter(|feed| feed.has_more()).map(|feed| feed.stream));
        wanting.extend(self.stdin.iter().filter(|feed| feed.has_more(now)).map(|feed| feed.stream));
        let first = self.next_stream;
        let in_turn: Vec<usize> = wanting.range(first..).chain(wanting.range(..first)).copied().collect();
        let mut goes_on = false;
        for index in in_turn {
            if !self.streams.list[index].takes_more(now) {
                continue;
            }
            if !self.make_room(index, now) {
                if self.streams.list[index].is_failing() {
                    // It waits for room; others may have some made for them.
                    continue;
                }
                break;
            }
            goes_on |= self.fill_stream(index, now, begun);
            if begun.elapsed() > TURN {
                self.next_stream = index + 1;
                return true;
            }
        }
        goes_on
    }

    /// Reads for one stream until its batch is sealed, nothing more is there, or the turn is over; true when there is more.
    fn fill_stream(&mut self, index: usize, now: Instant, begun: Instant) -> bool {
        let read_at = epoch_ms();
        let mut goes_on = true;
        // One read of each of its sources, and once more.
        while goes_on && self.streams.list[index].waiting.is_empty() && begun.elapsed() <= TURN {
            goes_on = false;
            for _ in 0..self.tails.dirty_count(index) {
                let last = self.streams.list[index].last_read;
                let Some(id) = self.tails.dirty_behind(index, last) else { break };
                self.streams.list[index].last_read = id;
                goes_on |= self.tails.read(id, &mut self.streams, now, read_at, &mut self.counts);
                if !self.streams.list[index].waiting.is_empty() {
                    break;
                }
            }
            for (number, feed) in self.journals.iter_mut().enumerate().filter(|(_, feed)| feed.stream == index) {
                if self.streams.list[index].waiting.is_empty() {
                    goes_on |= feed.read(number, &mut self.streams, now, read_at, &mut self.counts);
                    self.tails.is_changed |= feed.has_moved();
                }
            }
            if let Some(feed) = self.stdin.as_mut().filter(|feed| feed.stream == index)
                && self.streams.list[index].waiting.is_empty()
                && feed.has_more(now)
            {
                goes_on |= feed.read(&mut self.streams, now, read_at, &mut self.counts);
            }
        }
        self.recount(index);
        goes_on
    }

    /// Everything stops: what could not be read again later is found.
    pub fn stop(&mut self, now: Instant) {
        self.look_around(now, true);
        self.tails.stop();
    }

    /// When everything stops: what could not be read again later is taken, as long as it fits.
    pub fn fill_last(&mut self, now: Instant) -> bool {
        let read_at = epoch_ms();
        let mut goes_on = false;
        for id in self.tails.deleted() {
            if self.held <= MEMORY {
                let stream = self.tails.stream_of(id);
                goes_on |= self.tails.read(id, &mut self.streams, now, read_at, &mut self.counts);
                stream.into_iter().for_each(|stream| self.recount(stream));
            }
        }
        if let Some(feed) = &mut self.stdin {
            feed.ends();
            let stream = feed.stream;
            goes_on |= feed.has_more(now) && feed.read(&mut self.streams, now, read_at, &mut self.counts);
            self.recount(stream);
        }
        goes_on
    }

    /// A stream's part of all memory is counted anew.
    fn recount(&mut self, index: usize) {
        let stream = &mut self.streams.list[index];
        let size = stream.size();
        self.held = self.held + size - std::mem::replace(&mut stream.counted, size);
        match stream.waiting.is_empty() {
            true => _ = self.waiting.remove(&index),
            false => _ = self.waiting.insert(index),
        }
        match &stream.filling {
            None => _ = self.filling.remove(&index),
            Some(_) => _ = self.filling.insert(index),
        }
    }

    /// Room for one more batch: where streams that are refused hold it all, one gives its batches up and reads them again
    /// when its turn comes. For one that is refused itself that is done now and then, so that they do not take it from each
    /// other all the time.
    fn make_room(&mut self, for_stream: usize, now: Instant) -> bool {
        while self.held + self.under_way_bytes > MEMORY {
            if self.streams.list[for_stream].is_failing() {
                if self.gave_up.is_some_and(|gave_up| now < gave_up + GIVE_UP) {
                    return false;
                }
                self.gave_up = Some(now);
            }
            let stdin = self.stdin.as_ref().map(|feed| feed.stream);
            let gives_up = |index: &usize| {
                let stream = &self.streams.list[*index];
                *index != for_stream
                    && Some(*index) != stdin
                    && stream.is_failing()
                    && stream.under_way.is_empty()
                    && stream.unsaved.is_empty()
                    && stream.waiting.iter().all(Flight::is_whole)
                    && self.tails.can_rewind(*index)
            };
            let holding = self.waiting.union(&self.filling).copied().filter(gives_up);
            let Some(index) = holding.max_by_key(|index| self.streams.list[*index].not_before()) else { return false };
            let stream = &mut self.streams.list[index];
            let events = |flight: &Flight| flight.sealed.events().len();
            let filling = stream.filling.as_ref().map_or(0, |filling| filling.batch.events().len());
            // They are counted when they are read the next time.
            self.counts.read -= (stream.waiting.iter().map(events).sum::<usize>() + filling) as u64;
            stream.waiting.clear();
            stream.filling = None;
            self.tails.rewind(index);
            self.journals.iter_mut().filter(|feed| feed.stream == index).for_each(JournalFeed::rewind);
            self.recount(index);
        }
        true
    }

    // ---- sending

    /// Batches that have waited long enough for more are to be sent.
    pub fn seal_due(&mut self, now: Instant, all: bool) {
        let is_due = |index: &usize| {
            let stream = &self.streams.list[*index];
            let is_due = |filling: &Filling| all || now >= filling.since + self.flush;
            stream.waiting.is_empty() && stream.filling.as_ref().is_some_and(is_due)
        };
        let due: Vec<usize> = self.filling.iter().copied().filter(is_due).collect();
        for index in due {
            self.streams.list[index].seal(index);
            self.recount(index);
        }
    }

    /// The next batch to be sent: the oldest of all streams that may send, those that are not refused first. Each fourth time
    /// it is the oldest of all, so that no stream waits for ever.
    pub fn next_flight(&mut self, now: Instant, parallel: usize, saves: bool) -> Option<Flight> {
        let may_send = |index: &usize| self.streams.list[*index].may_send(now, parallel, saves);
        let is_fourth = self.sent.is_multiple_of(4);
        let place = |index: &usize| {
            let stream = &self.streams.list[*index];
            (!is_fourth && stream.is_failing(), stream.waiting[0].id)
        };
        let index = self.waiting.iter().copied().filter(may_send).min_by_key(place)?;
        self.sent += 1;
        let stream = &mut self.streams.list[index];
        let flight = stream.waiting.pop_front()?;
        stream.under_way.insert(flight.id);
        self.recount(index);
        self.under_way_bytes += flight.sealed.size();
        self.under_way.insert(flight.id, flight.sealed.events()[0].timestamp);
        Some(flight)
    }

    /// A batch is accepted, but for events that stand in the file of dead letters.
    pub fn accepted(&mut self, flight: Flight) {
        self.counts.accepted += (flight.sealed.events().len() - flight.rejected.len()) as u64;
        self.count_rejected(&flight);
        self.counts.bytes_accepted += flight.sealed.message_bytes();
        self.landed(&flight);
        let stream = &mut self.streams.list[flight.stream];
        stream.succeeded();
        if flight.origins.iter().any(|origin| *origin != Origin::Stdin) {
            stream.unsaved.insert(flight.id);
            // Whatever becomes of its sources, the stream waits for a save.
            self.tails.is_changed = true;
        }
        self.let_go(&flight);
        self.streams.batches.done(flight);
    }

    fn count_rejected(&mut self, flight: &Flight) {
        for (_, cause) in &flight.rejected {
            self.counts.set_aside(cause, 1);
        }
    }

    /// What is in a batch is done with.
    fn let_go(&mut self, flight: &Flight) {
        for origin in &flight.origins {
            match origin {
                Origin::File(id) => self.tails.accept(*id, flight.id),
                Origin::Journal(number) => self.tails.is_changed |= self.journals[*number].accept(flight.id),
                Origin::Stdin => {}
            }
        }
    }

    /// A batch has to be sent again; gives the wait.
    pub fn failed(&mut self, flight: Flight, trouble: String, is_throttled: bool, now: Instant) -> Duration {
        self.landed(&flight);
        let stream = &mut self.streams.list[flight.stream];
        stream.trouble = Some(trouble);
        let index = flight.stream;
        stream.put_back(flight);
        let wait = stream.failed(now, is_throttled, random());
        self.recount(index);
        wait
    }

    fn landed(&mut self, flight: &Flight) {
        self.under_way_bytes -= flight.sealed.size();
        self.under_way.remove(&flight.id);
        self.streams.list[flight.stream].under_way.remove(&flight.id);
    }

    /// How often the stream of this batch failed in a row.
    pub fn failures(&self, stream: usize) -> u32 {
        self.streams.list[stream].failures()
    }

    /// At the end: batches that nobody could read again later. They are taken out.
    pub fn unrepeatable(&mut self) -> Vec<Flight> {
        self.counts.bytes_lost += self.tails.bytes_left_behind();
        let mut taken = Vec::new();
        for (index, stream) in self.streams.list.iter_mut().enumerate() {
            stream.seal(index);
            let (gone, kept): (Vec<Flight>, Vec<Flight>) = stream.waiting.drain(..).partition(|flight| {
                flight.origins.iter().any(|origin| match origin {
                    Origin::File(id) => self.tails.is_deleted(*id),
                    Origin::Journal(_) => false,
                    Origin::Stdin => true,
                })
            });
            stream.waiting.extend(kept);
            taken.extend(gone);
        }
        taken
    }

    /// A batch that could neither be sent nor set aside.
    pub fn lost(&mut self, flight: &Flight) {
        self.counts.lost += flight.sealed.events().len() as u64;
    }

    /// A batch whose events all stand in the file of dead letters.
    pub fn set_aside(&mut self, flight: &Flight) {
        let left: usize = flight.left.iter().map(ExactSizeIterator::len).sum();
        self.counts.accepted += (flight.sealed.events().len() - flight.rejected.len() - left) as u64;
        self.counts.set_aside(&Cause::Unsent, left as u64);
        self.count_rejected(flight);
        self.let_go(flight);
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.filling.is_empty()
    }

    /// When there is something to do without anything happening.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let streams = self.waiting.union(&self.filling).map(|index| &self.streams.list[*index]);
        let of_streams = streams.flat_map(|stream| {
            let full = stream.filling.as_ref().filter(|_| stream.waiting.is_empty());
            let flush = full.map(|filling| filling.since + self.flush);
            [flush, stream.not_before().filter(|time| *time > now)].into_iter().flatten()
        });
        let takes_more = |feed: &&StdinFeed| self.streams.list[feed.stream].takes_more(now);
        let of_stdin = self.stdin.as_ref().filter(takes_more).and_then(StdinFeed::wake);
        of_streams.chain(self.tails.wake(now)).chain(of_stdin).min()
    }

    // ---- positions

    pub fn is_changed(&self) -> bool {
        self.tails.is_changed
    }

    /// All positions; what was accepted until now is being saved.
    pub fn positions(&mut self) -> Positions {
        self.tails.is_changed = false;
        self.streams.list.iter_mut().for_each(Stream::being_saved);
        let journals = self
            .journals
            .iter()
            .filter_map(|feed| Some(JournalEntry { journal: feed.key.clone(), mark: feed.accepted_mark()?.clone() }));
        Positions { patterns: self.tails.patterns(), files: self.tails.entries(), journals: journals.collect() }
    }

    pub fn was_saved(&mut self, is_saved: bool) {
        if is_saved {
            // Those behind a batch that is not accepted yet are saved with it: its acceptance is a change.
            self.streams.list.iter_mut().for_each(|stream| stream.being_saved = 0);
        } else {
            self.tails.is_changed = true;
        }
    }

    /// What is to be told; whoever asks adds who he is.
    pub fn status(&self, now: Instant) -> Status {
        let mut lagging = self.tails.lagging(&self.streams, now);
        let lag_bytes = lagging.iter().map(|file| file.lag_bytes).sum();
        let lag_seconds = lagging.iter().map(|file| file.lag_seconds).fold(0.0, f64::max);
        let files_lagging = lagging.len() as u64;
        lagging.truncate(MOST_NAMED);
        let age = |at: Option<i64>| at.map_or(0.0, |at| (epoch_ms() - at).max(0) as f64 / 1_000.0);
        let oldest = self.streams.list.iter().flat_map(|stream| {
            let waiting = stream.waiting.iter().filter_map(|flight| Some(flight.sealed.events().first()?.timestamp));
            waiting.chain(stream.filling.iter().filter_map(|filling| filling.batch.oldest()))
        });
        let troubled = self.streams.list.iter().filter_map(|stream| {
            Some(StreamStatus {
                group: stream.group.clone(),
                stream: stream.template.as_str().to_owned(),
                failures: stream.failures(),
                trouble: stream.trouble.clone()?,
            })
        });
        let mut counts = self.counts;
        for stats in self.journals.iter().map(JournalFeed::stats) {
            counts.journal_gaps += stats.gaps;
            counts.journal_damaged += stats.damaged;
            counts.journal_cut += stats.cut;
        }
        Status {
            counts,
            files: self.tails.count() as u64,
            files_lagging,
            files_unreadable: self.tails.unreadable_count() as u64,
            streams: self.streams.list.len() as u64,
            streams_troubled: self.streams.list.iter().filter(|stream| stream.trouble.is_some()).count() as u64,
            lag_bytes,
            lag_seconds,
            oldest_unaccepted_seconds: age(oldest.chain(self.under_way.values().copied()).min()),
            lagging,
            troubled: troubled.take(MOST_NAMED).collect(),
            unreadable: self.tails.unreadable(MOST_NAMED),
            ..Status::default()
        }
    }
}

/// Milliseconds since 1970.
pub fn epoch_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// From 0 up to 1; the standard library seeds its hasher from the system.
pub fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
