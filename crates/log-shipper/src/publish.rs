//! Metrics of the host and of the shipper itself → CloudWatch, by PutMetricData. A task of its own, so that a service that
//! hangs holds up no log; what cannot be sent waits, and the oldest of it is given up in the end and counted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::ProvideErrorMetadata;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Metrics;
use crate::metrics::{HostMetrics, Metric, Unit, dimension};
use crate::name::Host;
use crate::sink::{SinkError, explain};
use crate::status::{Counts, Status};

/// Metrics of one request (API reference of PutMetricData).
const MOST_OF_REQUEST: usize = 1_000;
/// Metrics that wait to be sent: a few hours of a usual host.
const MOST_WAITING: usize = 10_000;
/// How long a stop waits for the last ones.
const STOP: Duration = Duration::from_secs(3);

/// Tries whether metrics would be taken, with one that is so old that the service refuses it.
pub async fn put_nothing(client: &Client, namespace: &str) -> Result<(), SinkError> {
    let long_ago = DateTime::from(SystemTime::now() - Duration::from_secs(21 * 24 * 3_600));
    let datum = MetricDatum::builder().metric_name("log_shipper_check").value(0.0).timestamp(long_ago).build();
    match client.put_metric_data().namespace(namespace).metric_data(datum).send().await {
        Ok(_) => Ok(()),
        Err(error) if is_refused(&error) => Ok(()),
        Err(error) => Err(explain(&error)),
    }
}

fn is_refused(error: &impl ProvideErrorMetadata) -> bool {
    error.code().is_some_and(|code| code.starts_with("Invalid") && code.contains("Parameter"))
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
    pub fn start(config: &Metrics, host: &Host, client: Client) -> Self {
        let (to_measure, measured) = mpsc::channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = Task {
            namespace: config.namespace.clone(),
            dimensions: config
                .dimensions
                .iter()
                .map(|(name, value)| (name.clone(), dimension(&value.of_source(host, "").on(""))))
                .collect(),
            host: HostMetrics::new(config.wanted.clone()),
            own: config.own,
            lag_per_file: config.lag_per_file,
            client,
            before: Counts::default(),
            waiting: VecDeque::new(),
            failures: 0,
            unread: BTreeSet::new(),
            dropped: Arc::clone(&dropped),
        };
        Self { interval: config.interval, to_measure, task: tokio::spawn(task.run(measured)), dropped }
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
    client: Client,
    before: Counts,
    waiting: VecDeque<MetricDatum>,
    failures: u32,
    /// What could not be read, told once.
    unread: BTreeSet<String>,
    dropped: Arc<AtomicU64>,
}

impl Task {
    async fn run(mut self, mut measured: mpsc::Receiver<Status>) {
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
        let now = DateTime::from(SystemTime::now());
        let data: Vec<MetricDatum> = metrics.iter().map(|metric| self.datum(metric, now)).collect();
        self.waiting.extend(data);
        let surplus = self.waiting.len().saturating_sub(MOST_WAITING);
        self.waiting.drain(..surplus);
        self.dropped.fetch_add(surplus as u64, Ordering::Relaxed);
        self
    }

    fn datum(&self, metric: &Metric, now: DateTime) -> MetricDatum {
        let own = self.dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let of_metric = metric.dimensions.iter().map(|(name, value)| (*name, value.as_str()));
        // A dimension without a value is refused, and its request with it.
        let dimensions = own.chain(of_metric).filter(|(_, value)| !value.trim().is_empty());
        let dimension = |(name, value)| Dimension::builder().name(name).value(value).build();
        MetricDatum::builder()
            .metric_name(metric.name)
            .unit(StandardUnit::from(metric.unit.as_str()))
            .value(metric.value)
            .timestamp(now)
            .set_dimensions(Some(dimensions.map(dimension).collect()))
            .build()
    }

    /// Sends what waits; what is not accepted waits for the next time.
    async fn send(&mut self) {
        while !self.waiting.is_empty() {
            let data: Vec<MetricDatum> = self.waiting.iter().take(MOST_OF_REQUEST).cloned().collect();
            let count = data.len();
            let sent =
                self.client.put_metric_data().namespace(&self.namespace).set_metric_data(Some(data)).send().await;
            match sent {
                Ok(_) => self.failures = 0,
                // One that it does not take would keep all others waiting for ever.
                Err(error) if is_refused(&error) => {
                    tracing::warn!(error = %explain(&error), metrics = count, "metrics are refused and given up");
                    self.dropped.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    self.failures += 1;
                    if self.failures == 1 || self.failures.is_multiple_of(10) {
                        tracing::warn!(error = %explain(&error), waiting = self.waiting.len(), "metrics cannot be sent; they wait");
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
