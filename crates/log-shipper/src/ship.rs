//! The loop: sources are read, batches sent, positions saved. One thread does it all.
//!
//! A position moves when the service has what is before it, or when that stands in the file of dead letters.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use cloudwatch::{CallError, Rejected};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::dead_letter::{Cause, DeadLetters};
use crate::name::Host;
use crate::pace::Pace;
use crate::publish::Publisher;
use crate::sink::Sink;
use crate::status::Status;
use crate::stream::Flight;
use crate::watch::Watch;
use crate::work::Work;

/// Requests under way, of all streams.
const MOST_UNDER_WAY: usize = 32;
/// How often directories are looked at although they tell of themselves, and how often if they do not.
const LOOK_AROUND: Duration = Duration::from_secs(30);
const LOOK_AROUND_BLIND: Duration = Duration::from_secs(1);
/// Hints of something new are collected so long.
const COLLECT: Duration = Duration::from_millis(100);
/// Positions are saved at once, but never for more than a fifth of the time, waits for the disk left out.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(500);
/// Where they cannot be saved it is tried so often.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// How often what was done is written down.
const REPORT: Duration = Duration::from_secs(5);
/// Where [`Status`] is written, below the directory of positions.
pub const STATUS_FILE: &str = "status.json";

/// How a request ended.
enum Ended {
    Done,
    Again(CallError),
}

/// Ships until `stop` is there, and then as long as the configuration says. `give_memory_back` is called now and then while
/// nothing happens.
#[expect(clippy::too_many_arguments, reason = "each is a part of the world that a binary brings")]
pub async fn ship(
    config: &Config,
    host: &Host,
    checkpoint: Checkpoint,
    restored: crate::checkpoint::Positions,
    sink: Sink,
    publisher: Option<Publisher>,
    give_memory_back: fn(),
    stop: impl Future<Output = ()>,
) -> Status {
    let now = Instant::now();
    let mut shipper = Shipper {
        config,
        work: Work::new(config, host, restored),
        sink,
        gzip: config.delivery.gzip,
        dead_letters: DeadLetters::new(&config.state),
        checkpoint: Some(checkpoint),
        saves: true,
        save_after: now,
        look_after: now,
        report_after: now,
        measure_after: now,
        publisher,
        give_memory_back,
        started: Timestamp::now(),
        pace: Pace::default(),
        recent: Recent::default(),
    };
    shipper.run(stop).await
}

type Answer = Pin<Box<dyn Future<Output = (Flight, Ended, u64)>>>;
/// True once no answer is waited for any more.
type GivenUp = tokio::sync::watch::Receiver<bool>;
type Saving = JoinHandle<(Checkpoint, Result<Duration, CheckpointError>)>;

struct Shipper<'a> {
    config: &'a Config,
    work: Work,
    sink: Sink,
    gzip: bool,
    dead_letters: DeadLetters,
    /// `None` while it is written.
    checkpoint: Option<Checkpoint>,
    /// Positions could be saved the last time.
    saves: bool,
    save_after: Instant,
    look_after: Instant,
    report_after: Instant,
    measure_after: Instant,
    publisher: Option<Publisher>,
    /// What is free goes from the allocator to the kernel.
    give_memory_back: fn(),
    started: Timestamp,
    pace: Pace,
    recent: Recent,
}

/// Requests of the second before.
#[derive(Debug, Default)]
struct Recent(std::collections::VecDeque<Instant>);

impl Recent {
    fn sent(&mut self, now: Instant) {
        self.0.push_back(now);
        while self.0.front().is_some_and(|sent| *sent + Duration::from_secs(1) < now) {
            self.0.pop_front();
        }
    }

    fn per_second(&self) -> f64 {
        self.0.len() as f64
    }
}

impl Shipper<'_> {
    async fn run(&mut self, stop: impl Future<Output = ()>) -> Status {
        let mut stop = std::pin::pin!(stop);
        let mut stopped: Option<Instant> = None;
        let mut watch = Watch::open();
        let mut answers: FuturesUnordered<Answer> = FuturesUnordered::new();
        let (gives_up, given_up) = tokio::sync::watch::channel(false);
        let mut saving: Option<Saving> = None;
        loop {
            let now = Instant::now();
            let works = match stopped {
                None => {
                    self.look_around(&mut watch, now);
                    self.work.fill(now)
                }
                Some(_) => self.work.fill_last(now),
            };
            self.work.seal_due(now, stopped.is_some());
            self.send(now, &mut answers, &given_up);
            if saving.is_none() {
                saving = self.save(now, stopped.is_some());
            }
            self.report(now);
            let is_done = answers.is_empty() && self.work.is_idle() && !works;
            match stopped {
                Some(at) if is_done || now >= at + self.config.delivery.stop => break,
                None if is_done && self.work.is_at_end() => break,
                _ => {}
            }
            let wake = self.wake(now, stopped, saving.is_some());
            tokio::select! {
                biased;
                () = &mut stop, if stopped.is_none() => {
                    info!("stopping: what was read is sent, and nothing more is read");
                    let now = Instant::now();
                    self.work.stop(now);
                    stopped = Some(now);
                }
                Some((flight, ended, requests)) = answers.next(), if !answers.is_empty() => {
                    self.landed(flight, ended, requests);
                }
                saved = wait(&mut saving), if saving.is_some() => {
                    saving = None;
                    self.was_saved(saved);
                }
                changes = watch.changes(), if stopped.is_none() => {
                    let now = Instant::now();
                    self.work.note(&changes, now);
                    if changes.look_around {
                        self.look_after = self.look_after.min(now + COLLECT);
                    }
                }
                () = self.work.ready(), if stopped.is_none() => {}
                () = rest(wake, works) => {}
            }
        }
        // What is under way may have arrived, and nobody knows: it is sent again after the next start, or set aside where that
        // cannot be.
        let _ = gives_up.send(true);
        while let Some((flight, ended, requests)) = answers.next().await {
            self.landed(flight, ended, requests);
        }
        self.set_aside();
        if saving.is_some() {
            let saved = wait(&mut saving).await;
            self.was_saved(saved);
        }
        let positions = self.work.positions();
        if let Some(checkpoint) = &mut self.checkpoint
            && let Err(error) = checkpoint.write(positions)
        {
            error!(error = %chain(&error), "positions were not saved: what was sent last is sent again");
        }
        let status = self.status(Instant::now());
        if let Some(publisher) = self.publisher.take() {
            publisher.stop(&status).await;
        }
        write_status(&self.config.state, &status);
        status
    }

    /// When there is something to do without anything happening.
    fn wake(&self, now: Instant, stopped: Option<Instant>, is_saving: bool) -> Instant {
        let mut wake = self.report_after;
        if stopped.is_none() {
            wake = wake.min(self.look_after);
        }
        wake = wake.min(self.work.wake(now).unwrap_or(wake));
        if self.publisher.is_some() {
            wake = wake.min(self.measure_after);
        }
        if let Some(next) = self.pace.next().filter(|next| *next > now) {
            wake = wake.min(next);
        }
        if self.work.is_changed() && !is_saving {
            wake = wake.min(self.save_after);
        }
        if let Some(stopped) = stopped {
            wake = wake.min(stopped + self.config.delivery.stop);
        }
        wake.max(now + Duration::from_millis(1))
    }

    fn look_around(&mut self, watch: &mut Watch, now: Instant) {
        if now < self.look_after {
            return;
        }
        let is_told = watch.is_complete();
        let directories = self.work.look_around(now, is_told);
        // What happened in a new directory before it was watched, nobody told.
        if watch.set(&directories) {
            self.work.look_around(now, is_told);
        }
        if self.work.tidy() {
            (self.give_memory_back)();
        }
        self.look_after = now + if watch.is_complete() { LOOK_AROUND } else { LOOK_AROUND_BLIND };
    }

    // ---- sending

    fn send(&mut self, now: Instant, answers: &mut FuturesUnordered<Answer>, given_up: &GivenUp) {
        while answers.len() < MOST_UNDER_WAY && self.pace.next().is_none_or(|next| next <= now) {
            let Some(flight) = self.work.next_flight(now, self.config.delivery.parallel, self.saves) else { break };
            self.pace.sent(now);
            self.recent.sent(now);
            answers.push(Box::pin(deliver(self.sink.clone(), flight, self.gzip, given_up.clone())));
        }
    }

    fn landed(&mut self, flight: Flight, mut ended: Ended, requests: u64) {
        let now = Instant::now();
        self.work.counts.requests += requests;
        if matches!(ended, Ended::Done) && !flight.rejected.is_empty() {
            let cause = flight.rejected[0].1.to_string();
            match self.dead_letters.write(&flight) {
                Ok(()) => warn!(
                    group = flight.group, stream = flight.name, events = flight.rejected.len(), cause,
                    file = %self.dead_letters.path().display(),
                    "events that the service does not want were written to a file"
                ),
                Err(error) => {
                    ended = Ended::Again(CallError::Unavailable(format!("the file of dead letters: {error}")));
                }
            }
        }
        match ended {
            Ended::Done => {
                self.pace.accepted();
                self.work.accepted(flight);
            }
            Ended::Again(error) => self.again(flight, &error, now),
        }
    }

    fn again(&mut self, flight: Flight, error: &CallError, now: Instant) {
        let is_throttled = matches!(error, CallError::Throttled(_));
        match error {
            CallError::Throttled(_) => self.work.counts.retries_throttled += 1,
            CallError::Denied(_) => self.work.counts.retries_denied += 1,
            _ => self.work.counts.retries_unavailable += 1,
        }
        if is_throttled {
            self.pace.throttled(now, self.recent.per_second());
        }
        let (stream, group, name) = (flight.stream, flight.group.clone(), flight.name.clone());
        let wait = self.work.failed(flight, error.to_string(), is_throttled, now);
        let failures = self.work.failures(stream);
        if failures == 1 || failures.is_multiple_of(10) {
            warn!(group, stream = name, %error, failures, wait_ms = wait.as_millis() as u64, "a batch waits for another try");
        }
    }

    /// What was not sent and cannot be read again goes to the file of dead letters.
    fn set_aside(&mut self) {
        for flight in self.work.unrepeatable() {
            match self.dead_letters.write_left(&flight) {
                Ok(()) => {
                    warn!(
                        group = flight.group, stream = flight.name, events = flight.sealed.events().len(),
                        file = %self.dead_letters.path().display(),
                        "events that were not sent in time, and that nobody can read again, were written to a file"
                    );
                    self.work.set_aside(&flight);
                }
                Err(error) => {
                    error!(
                        group = flight.group, stream = flight.name, events = flight.sealed.events().len(), %error,
                        "events that were not sent in time are lost: the file of dead letters cannot be written"
                    );
                    self.work.lost(&flight);
                }
            }
        }
    }

    // ---- positions

    fn save(&mut self, now: Instant, at_once: bool) -> Option<Saving> {
        if !self.work.is_changed() || (now < self.save_after && !at_once) {
            return None;
        }
        let mut checkpoint = self.checkpoint.take()?;
        let positions = self.work.positions();
        Some(tokio::task::spawn_blocking(move || {
            let written = checkpoint.write(positions);
            (checkpoint, written)
        }))
    }

    fn was_saved(&mut self, saved: Option<(Checkpoint, Result<Duration, CheckpointError>)>) {
        let Some((checkpoint, written)) = saved else { return };
        self.checkpoint = Some(checkpoint);
        self.work.was_saved(written.is_ok());
        let now = Instant::now();
        match written {
            Ok(took) => self.save_after = now + (took * REST).min(LONGEST_REST),
            Err(error) => {
                self.work.counts.saves_failed += 1;
                self.save_after = now + SAVE_AGAIN;
                if self.saves {
                    error!(error = %chain(&error), "positions cannot be saved: shipping goes on, and what is sent now would be sent again after a restart");
                }
                self.saves = false;
                return;
            }
        }
        if !self.saves {
            info!("positions are saved again");
            self.saves = true;
        }
    }

    // ---- what is told

    fn status(&self, now: Instant) -> Status {
        let mut status = self.work.status(now);
        status.version = env!("CARGO_PKG_VERSION").to_owned();
        status.pid = std::process::id();
        status.started = to_seconds(self.started);
        status.written = to_seconds(Timestamp::now());
        status.counts.metrics_dropped = self.publisher.as_ref().map_or(0, Publisher::dropped);
        status
    }

    fn report(&mut self, now: Instant) {
        let measures = self.publisher.is_some() && now >= self.measure_after;
        if now < self.report_after && !measures {
            return;
        }
        let status = self.status(now);
        if now >= self.report_after {
            self.report_after = now + REPORT;
            write_status(&self.config.state, &status);
        }
        if let Some(publisher) = self.publisher.as_ref().filter(|_| measures) {
            self.measure_after = now + publisher.interval();
            publisher.measure(&status);
        }
    }
}

fn to_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Not durable: it is no more than news.
fn write_status(state: &Path, status: &Status) {
    let (path, new) = (state.join(STATUS_FILE), state.join("status.new"));
    if let Ok(text) = serde_json::to_vec_pretty(status) {
        // A reader sees the one before or this one, and no half of it.
        let _ = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
    }
}

/// Until a time; where there is more to do, only until others had their turn.
async fn rest(wake: Instant, works: bool) {
    if works {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep_until(wake.into()).await;
    }
}

async fn wait(saving: &mut Option<Saving>) -> Option<(Checkpoint, Result<Duration, CheckpointError>)> {
    match saving {
        Some(saving) => saving.await.ok(),
        None => None,
    }
}

/// Sends what is left of a batch, in halves where the service refuses it: one event it does not want costs itself alone.
async fn deliver(sink: Sink, mut flight: Flight, gzip: bool, mut given_up: GivenUp) -> (Flight, Ended, u64) {
    let mut requests = 0;
    let ended = tokio::select! {
        biased;
        ended = deliver_left(&sink, &mut flight, gzip, &mut requests) => ended,
        _ = given_up.wait_for(|given_up| *given_up) => Ended::Again(CallError::Unavailable("not waited for any longer".into())),
    };
    (flight, ended, requests)
}

/// What is being sent stays in `left` until its answer is there.
async fn deliver_left(sink: &Sink, flight: &mut Flight, gzip: bool, requests: &mut u64) -> Ended {
    let (mut is_made, mut is_wanted, mut is_doubted) = (false, false, false);
    let mut gzip = gzip && sink.takes_gzip();
    while let Some(events) = flight.left.last().cloned() {
        *requests += 1;
        let refused = match sink.put(flight.sealed.body(events.clone()), gzip).await {
            Ok(rejected) => {
                if is_doubted {
                    sink.without_gzip();
                }
                flight.left.pop();
                note_rejected(flight, &events, rejected);
                is_wanted = true;
                is_doubted = false;
                continue;
            }
            Err(CallError::Missing) if !is_made => {
                is_made = true;
                if let Err(error) = sink.create(&flight.group, &flight.name).await {
                    return Ended::Again(error);
                }
                continue;
            }
            Err(CallError::Refused(refused)) => refused,
            Err(error) => return Ended::Again(error),
        };
        if gzip {
            // It may be the compression that it does not know.
            (gzip, is_doubted) = (false, true);
            continue;
        }
        is_doubted = false;
        flight.left.pop();
        if events.len() > 1 {
            let middle = events.start + events.len() / 2;
            flight.left.extend([middle..events.end, events.start..middle]);
            continue;
        }
        if !is_wanted {
            // Perhaps it is not the event: nothing that goes to this stream is wanted.
            *requests += 1;
            let tried = match sink.put_nothing(&flight.group, &flight.name).await {
                // What is refused is refused before anybody looks whether there is such a stream.
                Err(CallError::Missing) => sink.create(&flight.group, &flight.name).await,
                tried => tried,
            };
            if let Err(error) = tried {
                flight.left.push(events);
                return Ended::Again(error);
            }
            is_wanted = true;
        }
        flight.rejected.push((events.start, Cause::Refused(refused)));
    }
    if let Some(days) = flight.retention_days {
        let (sink, group) = (sink.clone(), flight.group.clone());
        // What is accepted does not wait for it.
        tokio::spawn(async move { sink.retain_once(&group, days).await });
    }
    Ended::Done
}

fn note_rejected(flight: &mut Flight, events: &std::ops::Range<usize>, rejected: Rejected) {
    let Rejected { too_old_end, expired_end, too_new_start } = rejected;
    let too_old_end = too_old_end.min(events.len());
    let expired_end = expired_end.clamp(too_old_end, events.len());
    let too_new_start = too_new_start.unwrap_or(events.len()).clamp(expired_end, events.len());
    let all = [
        (0..too_old_end, Cause::TooOld),
        (too_old_end..expired_end, Cause::Expired),
        (too_new_start..events.len(), Cause::TooNew),
    ];
    for (indices, cause) in all {
        flight.rejected.extend(indices.map(|index| (events.start + index, cause.clone())));
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
