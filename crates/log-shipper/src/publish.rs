//! Metrics of the host and of the shipper itself → CloudWatch, by PutMetricData. A task of its own, so that a service that
//! hangs holds up no log; what cannot be sent waits, and the oldest of it is given up in the end and counted.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cloudwatch::{CallError, CloudWatch, Datum};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Metrics;
use crate::host;
use crate::metrics::{HostMetrics, Metric, Unit, dimension};
use crate::name::Template;
use crate::status::{Counts, Status};

/// Metrics of one request (API reference of PutMetricData).
const MOST_OF_REQUEST: usize = 1_000;
/// Metrics that wait to be sent: a few hours of a usual host.
const MOST_WAITING: usize = 10_000;
/// How long a stop waits for the last ones.
const STOP: Duration = Duration::from_secs(3);

/// Tries whether metrics would be taken, with one that is so old that the service refuses it.
pub async fn put_nothing(service: &CloudWatch, namespace: &str) -> Result<(), CallError> {
    let time = SystemTime::now() - Duration::from_secs(21 * 24 * 3_600);
    let datum = Datum { name: "log_shipper_check", unit: "None", value: 0.0, time, dimensions: Vec::new() };
    match service.put_metrics(namespace, &[datum]).await {
        Err(CallError::Refused(_)) => Ok(()),
        answer => answer,
    }
}

/// Sends metrics.
#[derive(Debug)]
pub struct Publisher {
    interval: Duration,
    to_measure: mpsc::Sender<Status>,
    task: JoinHandle<()>,
    dropped: Arc<AtomicU64>,
}

impl Publisher {
    /// Starts the task on the runtime this is called in.
    pub fn start(config: &Metrics, state: &Path, service: CloudWatch) -> Self {
        let (to_measure, measured) = mpsc::channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = Task {
            namespace: config.namespace.clone(),
            dimensions: Vec::new(),
            host: HostMetrics::new(config.wanted.clone()),
            own: config.own,
            lag_per_file: config.lag_per_file,
            service,
            before: Counts::default(),
            waiting: VecDeque::new(),
            failures: 0,
            unread: BTreeSet::new(),
            dropped: Arc::clone(&dropped),
        };
        Self {
            interval: config.interval,
            to_measure,
            task: tokio::spawn(task.run(config.dimensions.clone(), state.to_owned(), measured)),
            dropped,
        }
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Measures and sends. While the one before is still being sent nothing happens.
    pub fn measure(&self, status: &Status) {
        let _ = self.to_measure.try_send(status.clone());
    }

    /// Sends what there is to be said last.
    pub async fn stop(self, status: &Status) {
        let Self { to_measure, task, .. } = self;
        let last = async {
            let _ = to_measure.send(status.clone()).await;
            drop(to_measure);
            let _ = task.await;
        };
        let _ = tokio::time::timeout(STOP, last).await;
    }

    /// Metrics that were given up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Task {
    namespace: String,
    dimensions: Vec<(String, String)>,
    host: HostMetrics,
    own: bool,
    lag_per_file: bool,
    service: CloudWatch,
    before: Counts,
    waiting: VecDeque<Datum>,
    failures: u32,
    /// What could not be read, told once.
    unread: BTreeSet<String>,
    dropped: Arc<AtomicU64>,
}

impl Task {
    /// Where a dimension asks for the instance's id, nothing is measured until it is known: logs do not wait for that.
    async fn run(mut self, dimensions: Vec<(String, Template)>, state: PathBuf, mut measured: mpsc::Receiver<Status>) {
        let asks = dimensions.iter().any(|(_, value)| value.asks_for("instance_id"));
        let host = tokio::select! {
            host = host::known(&state, asks) => host,
            // What was measured meanwhile is old when the host is known.
            () = async { while measured.recv().await.is_some() {} } => return,
        };
        let value = |template: &Template| dimension(&template.of_source(&host, "").on(""));
        self.dimensions = dimensions.iter().map(|(name, template)| (name.clone(), value(template))).collect();
        while let Some(status) = measured.recv().await {
            self = self.measure(status).await;
            self.send().await;
        }
    }

    /// Reads the host's metrics, on another thread: a disk may take its time.
    async fn measure(mut self, status: Status) -> Self {
        let mut host = self.host;
        let read = tokio::task::spawn_blocking(move || {
            let read = host.read();
            (host, read)
        });
        let Ok((host, (mut metrics, errors))) = read.await else { std::future::pending().await };
        self.host = host;
        for error in errors {
            if self.unread.insert(error.to_string()) {
                tracing::warn!(%error, "a metric of the host cannot be read");
            }
        }
        if self.own {
            metrics.extend(own(&status, &self.before, self.lag_per_file));
            self.before = status.counts;
        }
        let now = SystemTime::now();
        let data: Vec<Datum> = metrics.into_iter().map(|metric| self.datum(metric, now)).collect();
        self.waiting.extend(data);
        let surplus = self.waiting.len().saturating_sub(MOST_WAITING);
        self.waiting.drain(..surplus);
        self.dropped.fetch_add(surplus as u64, Ordering::Relaxed);
        self
    }

    fn datum(&self, metric: Metric, time: SystemTime) -> Datum {
        let of_metric = metric.dimensions.into_iter().map(|(name, value)| (name.to_owned(), value));
        // A dimension without a value is refused, and its request with it.
        let dimensions = self.dimensions.iter().cloned().chain(of_metric).filter(|(_, value)| !value.trim().is_empty());
        let dimensions = dimensions.collect();
        Datum { name: metric.name, unit: metric.unit.as_str(), value: metric.value, time, dimensions }
    }

    /// Sends what waits; what is not accepted waits for the next time.
    async fn send(&mut self) {
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(MOST_OF_REQUEST);
            let data = &self.waiting.make_contiguous()[..count];
            match self.service.put_metrics(&self.namespace, data).await {
                Ok(()) => self.failures = 0,
                // One that it does not take would keep all others waiting for ever.
                Err(CallError::Refused(error)) => {
                    tracing::warn!(error, metrics = count, "metrics are refused and given up");
                    self.dropped.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    self.failures += 1;
                    if self.failures == 1 || self.failures.is_multiple_of(10) {
                        tracing::warn!(%error, waiting = self.waiting.len(), "metrics cannot be sent; they wait");
                    }
                    return;
                }
            }
            self.waiting.drain(..count);
        }
    }
}

/// The shipper's own metrics. What is counted is sent as far as there is something to count: a metric that has no value costs
/// nothing.
fn own(status: &Status, before: &Counts, lag_per_file: bool) -> Vec<Metric> {
    let metric = |name, unit, value| Metric { name, unit, value, dimensions: Vec::new() };
    let mut metrics = vec![
        metric("log_shipper_lag_bytes", Unit::Bytes, status.lag_bytes as f64),
        metric("log_shipper_lag_seconds", Unit::Seconds, status.lag_seconds),
        metric("log_shipper_oldest_unaccepted_seconds", Unit::Seconds, status.oldest_unaccepted_seconds),
        metric("log_shipper_events_accepted", Unit::Count, (status.counts.accepted - before.accepted) as f64),
    ];
    let counts = &status.counts;
    let counted = [
        ("log_shipper_events_dead_letters", counts.dead_letters, before.dead_letters),
        ("log_shipper_events_filtered", counts.filtered, before.filtered),
        ("log_shipper_events_without_time", counts.without_time, before.without_time),
        ("log_shipper_events_not_utf8", counts.not_utf8, before.not_utf8),
        ("log_shipper_retries_throttled", counts.retries_throttled, before.retries_throttled),
        ("log_shipper_retries_denied", counts.retries_denied, before.retries_denied),
        ("log_shipper_retries_unavailable", counts.retries_unavailable, before.retries_unavailable),
        ("log_shipper_bytes_lost", counts.bytes_lost, before.bytes_lost),
        ("log_shipper_journal_gaps", counts.journal_gaps, before.journal_gaps),
        ("log_shipper_saves_failed", counts.saves_failed, before.saves_failed),
        ("log_shipper_metrics_dropped", counts.metrics_dropped, before.metrics_dropped),
        ("log_shipper_files_unreadable", status.files_unreadable, 0),
        ("log_shipper_streams_troubled", status.streams_troubled, 0),
    ];
    let counted = counted.into_iter().map(|(name, now, before)| (name, now.saturating_sub(before)));
    metrics.extend(counted.filter(|(_, count)| *count > 0).map(|(name, count)| {
        let unit = if name == "log_shipper_bytes_lost" { Unit::Bytes } else { Unit::Count };
        metric(name, unit, count as f64)
    }));
    for ((cause, now), (_, before)) in counts.causes().into_iter().zip(before.causes()) {
        let value = now.saturating_sub(before) as f64;
        if value > 0.0 {
            let dimensions = vec![("cause", cause.to_owned())];
            metrics.push(Metric { name: "log_shipper_events_dead_letters", unit: Unit::Count, value, dimensions });
        }
    }
    for file in status.lagging.iter().filter(|_| lag_per_file) {
        let dimensions = vec![("path", dimension(&file.path))];
        metrics.push(Metric {
            name: "log_shipper_file_lag_bytes",
            unit: Unit::Bytes,
            value: file.lag_bytes as f64,
            dimensions: dimensions.clone(),
        });
        metrics.push(Metric {
            name: "log_shipper_file_lag_seconds",
            unit: Unit::Seconds,
            value: file.lag_seconds,
            dimensions,
        });
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::Cause;

    #[test]
    fn dead_letters_are_told_as_a_whole_and_by_cause_and_only_what_is_new() {
        let mut status = Status::default();
        status.counts.set_aside(&Cause::TooOld, 2);
        let before = status.counts;
        status.counts.set_aside(&Cause::TooOld, 3);
        status.counts.set_aside(&Cause::Refused("InvalidParameterException".into()), 1);
        let metrics = own(&status, &before, false);
        let told = metrics.iter().filter(|metric| metric.name == "log_shipper_events_dead_letters");
        let told: Vec<(Vec<&str>, f64)> = told
            .map(|metric| (metric.dimensions.iter().map(|(_, cause)| cause.as_str()).collect(), metric.value))
            .collect();
        assert_eq!(told, [(vec![], 4.0), (vec!["too old"], 3.0), (vec!["refused"], 1.0)]);
        assert!(!own(&status, &status.counts, false).iter().any(|metric| metric.name.contains("dead_letters")));
    }
}
