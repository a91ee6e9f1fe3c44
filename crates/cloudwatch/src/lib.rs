//! The calls that log-shipper makes, through the SDK, each with an answer that says what to do about it.
//!
//! A crate of its own, because the SDK is many times larger than what ships: here it is built small, there for speed. So that
//! nothing of it is built anew where it is used, each call is a boxed future.

mod clock;
mod error;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig, imds};
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::types::{InputLogEvent, RejectedLogEventsInfo};
use bytes::Bytes;

use crate::clock::Clock;
pub use crate::error::CallError;
use crate::error::{explain, is_about_credentials, is_about_time};

/// A call on its way.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request that takes longer has no answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// Credentials that are refused are looked for again, but not more often than this.
const RENEW: Duration = Duration::from_secs(5);

/// Events of an accepted request that were not: indices into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Those before are older than 14 days.
    pub too_old_end: usize,
    /// Those before are older than the group keeps events.
    pub expired_end: usize,
    /// Those from here on are more than two hours ahead.
    pub too_new_start: Option<usize>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    pub name: &'static str,
    /// As the API spells it.
    pub unit: &'static str,
    pub value: f64,
    pub time: SystemTime,
    /// Names and values, none of them empty.
    pub dimensions: Vec<(String, String)>,
}

/// Both services of an account and a region.
#[derive(Clone)]
pub struct CloudWatch(Arc<Shared>);

struct Shared {
    clock: Clock,
    clients: Mutex<Clients>,
}

struct Clients {
    settings: SdkConfig,
    logs: aws_sdk_cloudwatchlogs::Client,
    /// Made when it is asked for first: many hosts send no metrics.
    metrics: Option<aws_sdk_cloudwatch::Client>,
    since: Instant,
}

impl fmt::Debug for CloudWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CloudWatch").finish_non_exhaustive()
    }
}

impl CloudWatch {
    /// The services that the SDK's own settings of region, credentials and endpoint lead to.
    pub fn open() -> Call<'static, Self> {
        Box::pin(async {
            let clock = Clock::default();
            let clients = Clients::new(settings(&clock).await);
            Self(Arc::new(Shared { clock, clients: Mutex::new(clients) }))
        })
    }

    /// PutLogEvents: sends a request whose body stands, compressed or not.
    pub fn put_events(&self, body: Bytes, gzip: bool) -> Call<'_, Result<Rejected, CallError>> {
        Box::pin(async move {
            // The SDK wants an event; the body takes its place before anything is signed.
            let event = InputLogEvent::builder().timestamp(0).message("-").build();
            let event = event.map_err(|error| CallError::Refused(error.to_string()))?;
            let request = self.logs().put_log_events().log_group_name("-").log_stream_name("-").log_events(event);
            let answer = request
                .customize()
                .mutate_request(move |request| {
                    let headers = request.headers_mut();
                    headers.insert("content-length", body.len().to_string());
                    if gzip {
                        headers.insert("content-encoding", "gzip");
                    }
                    *request.body_mut() = body.clone().into();
                })
                .send()
                .await;
            match answer {
                Ok(answer) => Ok(answer.rejected_log_events_info().map(rejected).unwrap_or_default()),
                Err(error) => Err(self.learn(&error).await),
            }
        })
    }

    /// Makes a group; well, too, if it is there.
    pub fn create_group<'a>(&'a self, group: &'a str) -> Call<'a, Result<(), CallError>> {
        Box::pin(async move { self.made(self.logs().create_log_group().log_group_name(group).send().await).await })
    }

    /// Makes a stream; well, too, if it is there.
    pub fn create_stream<'a>(&'a self, group: &'a str, stream: &'a str) -> Call<'a, Result<(), CallError>> {
        Box::pin(async move {
            let request = self.logs().create_log_stream().log_group_name(group).log_stream_name(stream);
            self.made(request.send().await).await
        })
    }

    /// Says how long a group keeps events.
    pub fn retain<'a>(&'a self, group: &'a str, days: u32) -> Call<'a, Result<(), CallError>> {
        Box::pin(async move {
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            let request = self.logs().put_retention_policy().log_group_name(group).retention_in_days(days);
            self.made(request.send().await).await
        })
    }

    /// PutMetricData, of up to 1,000 values.
    pub fn put_metrics<'a>(&'a self, namespace: &'a str, data: &'a [Datum]) -> Call<'a, Result<(), CallError>> {
        Box::pin(async move {
            let data = data.iter().map(datum).collect();
            let request = self.metrics().put_metric_data().namespace(namespace).set_metric_data(Some(data));
            self.made(request.send().await).await
        })
    }

    fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        self.clients().logs.clone()
    }

    fn metrics(&self) -> aws_sdk_cloudwatch::Client {
        let mut clients = self.clients();
        let Clients { settings, metrics, .. } = &mut *clients;
        metrics.get_or_insert_with(|| aws_sdk_cloudwatch::Client::new(settings)).clone()
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn made<T, E>(&self, answer: Result<T, SdkError<E, HttpResponse>>) -> Result<(), CallError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ResourceAlreadyExistsException") => Ok(()),
            Err(error) => Err(self.learn(&error).await),
        }
    }

    /// What an error says, and what is to be done so that the next try need not end like this one.
    async fn learn<E>(&self, error: &SdkError<E, HttpResponse>) -> CallError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let explained = explain(error);
        let date = error.raw_response().and_then(|response| response.headers().get("date"));
        let is_the_clock = is_about_time(error) && date.is_some_and(|date| self.0.clock.learn(date));
        // No request was made, for want of credentials or of a region; or a wrong key has signed it.
        let is_unsigned = matches!(explained, CallError::Denied(_)) && error.raw_response().is_none();
        let is_renewed = is_unsigned || is_about_credentials(error) || (is_about_time(error) && !is_the_clock);
        if is_renewed && self.may_renew() {
            // The SDK keeps credentials until they expire, or for ever where they have no end, even if others stand in
            // their place by now; and a region it looks for but once.
            let clients = Clients::new(settings(&self.0.clock).await);
            *self.clients() = clients;
        }
        explained
    }

    /// Of many calls that are refused at once, one renews.
    fn may_renew(&self) -> bool {
        let mut clients = self.clients();
        let is_due = clients.since.elapsed() >= RENEW;
        if is_due {
            clients.since = Instant::now();
        }
        is_due
    }
}

impl Clients {
    fn new(settings: SdkConfig) -> Self {
        let logs = aws_sdk_cloudwatchlogs::Client::new(&settings);
        Self { settings, logs, metrics: None, since: Instant::now() }
    }
}

async fn settings(clock: &Clock) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_timeout(ANSWER_TIMEOUT)
        .read_timeout(ANSWER_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        // Who calls has waits of its own.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .time_source(clock.clone())
        .load()
        .await
}

/// What the EC2 metadata service, version 2, says the instance's id is.
pub fn instance_id() -> Call<'static, Result<String, String>> {
    Box::pin(async {
        let client = imds::Client::builder()
            .connect_timeout(METADATA_TIMEOUT)
            .read_timeout(METADATA_TIMEOUT)
            .max_attempts(2)
            .build();
        let id = client.get("/latest/meta-data/instance-id").await.map_err(|error| error.to_string())?;
        Ok(String::from(id).trim().to_owned())
    })
}

fn rejected(info: &RejectedLogEventsInfo) -> Rejected {
    let index = |index: Option<i32>| index.and_then(|index| usize::try_from(index).ok());
    Rejected {
        too_old_end: index(info.too_old_log_event_end_index()).unwrap_or_default(),
        expired_end: index(info.expired_log_event_end_index()).unwrap_or_default(),
        too_new_start: index(info.too_new_log_event_start_index()),
    }
}

fn datum(datum: &Datum) -> MetricDatum {
    let dimensions = datum.dimensions.iter().map(|(name, value)| Dimension::builder().name(name).value(value).build());
    MetricDatum::builder()
        .metric_name(datum.name)
        .unit(StandardUnit::from(datum.unit))
        .value(datum.value)
        .timestamp(datum.time.into())
        .set_dimensions(Some(dimensions.collect()))
        .build()
}
