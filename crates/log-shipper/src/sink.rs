//! CloudWatch Logs, through the SDK. What comes back is named by what to do about it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::config::timeout::TimeoutConfig;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::types::{InputLogEvent, RejectedLogEventsInfo};
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

/// A request that takes longer has no answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const RETAIN_AGAIN: Duration = Duration::from_secs(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The service.
#[derive(Clone, Debug)]
pub struct Sink {
    client: Client,
    /// Groups that were told how long to keep events; of those that could not be, the time of the next try.
    retained: Arc<Mutex<HashMap<String, Option<Instant>>>>,
    refuses_gzip: Arc<AtomicBool>,
    compressor: Arc<Mutex<Compressor>>,
}

/// Why a request was not done, by what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Too many requests: slower, and again.
    #[error("throttled ({0})")]
    Throttled(String),
    /// Nobody knows whether it arrived, or the service is not well: again.
    #[error("no usable answer ({0})")]
    Unavailable(String),
    /// Credentials or rights: again, when somebody has done something about it.
    #[error("refused for want of rights ({0})")]
    Denied(String),
    /// The group or the stream is not there.
    #[error("there is no such group or stream")]
    Missing,
    /// The service does not want what is in the request.
    #[error("the service refuses it ({0})")]
    Refused(String),
}

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

/// The SDK's own settings of region, credentials and endpoint, with our time-outs and without its retries.
pub async fn settings() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_timeout(ANSWER_TIMEOUT)
        .read_timeout(ANSWER_TIMEOUT)
        .build();
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        // Each stream waits by a clock of its own.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .load()
        .await
}

impl Sink {
    /// The service that [`settings`] lead to.
    pub fn new(settings: &SdkConfig) -> Self {
        Self {
            client: Client::new(settings),
            retained: Arc::default(),
            refuses_gzip: Arc::default(),
            compressor: Arc::default(),
        }
    }

    /// Sends a request whose body stands; `gzip` compresses it.
    pub async fn put(&self, body: Bytes, gzip: bool) -> Result<Rejected, SinkError> {
        let body = if gzip { self.compressor().compress(&body) } else { body };
        // The SDK wants an event; the body takes its place before anything is signed.
        let event = InputLogEvent::builder().timestamp(0).message("-").build();
        let event = event.map_err(|error| SinkError::Refused(error.to_string()))?;
        let request = self.client.put_log_events().log_group_name("-").log_stream_name("-").log_events(event);
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
            Err(error) => Err(explain(&error)),
        }
    }

    /// Tries whether events would be taken, with one that is so old that the service leaves it out.
    pub async fn put_nothing(&self, group: &str, stream: &str) -> Result<(), SinkError> {
        let mut batch = crate::batch::Batch::new(group, stream);
        batch.push(0, "log-shipper check");
        let sealed = batch.sealed();
        self.put(sealed.body(0..1), false).await.map(|_| ())
    }

    /// Makes the stream, and the group if it is not there.
    pub async fn create(&self, group: &str, stream: &str) -> Result<(), SinkError> {
        let made = self.client.create_log_stream().log_group_name(group).log_stream_name(stream).send().await;
        match made.map_err(|error| (error.code() == Some(EXISTS), explain(&error))) {
            Ok(_) | Err((true, _)) => return Ok(()),
            Err((false, SinkError::Missing)) => {}
            Err((false, error)) => return Err(error),
        }
        let made = self.client.create_log_group().log_group_name(group).send().await;
        if let Err(error) = made
            && error.code() != Some(EXISTS)
        {
            return Err(explain(&error));
        }
        let made = self.client.create_log_stream().log_group_name(group).log_stream_name(stream).send().await;
        match made {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(EXISTS) => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }

    /// Says how long a group keeps events.
    pub async fn retain(&self, group: &str, days: u32) -> Result<(), SinkError> {
        let days = i32::try_from(days).unwrap_or(i32::MAX);
        let set = self.client.put_retention_policy().log_group_name(group).retention_in_days(days).send().await;
        set.map(|_| ()).map_err(|error| explain(&error))
    }

    /// Says so once for each group. Where that fails it is tried again after a while; events do not wait for it.
    pub async fn retain_once(&self, group: &str, days: u32) {
        let now = Instant::now();
        let is_due = |retained: &mut HashMap<String, Option<Instant>>| match retained.get(group) {
            Some(None) => false,
            Some(Some(again)) if now < *again => false,
            _ => {
                retained.insert(group.to_owned(), Some(now + RETAIN_AGAIN));
                true
            }
        };
        if !is_due(&mut self.retained()) {
            return;
        }
        match self.retain(group, days).await {
            Ok(()) => _ = self.retained().insert(group.to_owned(), None),
            Err(error) => {
                tracing::warn!(group, days, %error, "how long the group keeps events could not be set; it is tried again")
            }
        }
    }

    /// Whether it is known not to take compressed requests.
    pub fn takes_gzip(&self) -> bool {
        !self.refuses_gzip.load(Ordering::Relaxed)
    }

    /// A request was refused compressed and accepted as it is.
    pub fn without_gzip(&self) {
        if !self.refuses_gzip.swap(true, Ordering::Relaxed) {
            tracing::warn!("the service takes no compressed requests; they are sent as they are");
        }
    }

    fn compressor(&self) -> MutexGuard<'_, Compressor> {
        self.compressor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retained(&self) -> MutexGuard<'_, HashMap<String, Option<Instant>>> {
        self.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const EXISTS: &str = "ResourceAlreadyExistsException";

fn rejected(info: &RejectedLogEventsInfo) -> Rejected {
    let index = |index: Option<i32>| index.and_then(|index| usize::try_from(index).ok());
    Rejected {
        too_old_end: index(info.too_old_log_event_end_index()).unwrap_or_default(),
        expired_end: index(info.expired_log_event_end_index()).unwrap_or_default(),
        too_new_start: index(info.too_new_log_event_start_index()),
    }
}

/// Level 1: log text shrinks to a tenth or so, and more would cost more than it saves. Its memory serves all requests.
#[derive(Debug)]
struct Compressor {
    deflate: Compress,
    buffer: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { deflate: Compress::new_gzip(Compression::fast(), 15), buffer: Vec::new() }
    }
}

impl Compressor {
    fn compress(&mut self, body: &[u8]) -> Bytes {
        self.deflate.reset();
        self.buffer.clear();
        loop {
            // In no case does it grow by more than a few bytes in each block.
            self.buffer.reserve(64 * 1024);
            let taken = usize::try_from(self.deflate.total_in()).unwrap_or(body.len());
            match self.deflate.compress_vec(&body[taken..], &mut self.buffer, FlushCompress::Finish) {
                Ok(Status::Ok | Status::BufError) => {}
                // Deflating memory does not fail; if it did, the service would refuse what came of it, and get it as it is.
                Ok(Status::StreamEnd) | Err(_) => return Bytes::copy_from_slice(&self.buffer),
            }
        }
    }
}

pub(crate) fn explain<E>(error: &SdkError<E, HttpResponse>) -> SinkError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map(str::to_owned);
    let said = || match (&code, status) {
        (Some(code), _) => code.clone(),
        (None, Some(status)) => format!("HTTP status {status}"),
        (None, None) => innermost(error),
    };
    match code.as_deref() {
        // A quota of groups or streams (LimitExceededException) is none of requests: it concerns one stream alone.
        Some("ThrottlingException" | "Throttling" | "RequestLimitExceeded") => {
            return SinkError::Throttled(said());
        }
        Some("ResourceNotFoundException") => return SinkError::Missing,
        // Two at once made it: it is there, or soon will be.
        Some("OperationAbortedException") => return SinkError::Unavailable(said()),
        Some(
            "AccessDeniedException"
            | "AccessDenied"
            | "ExpiredTokenException"
            | "ExpiredToken"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationTokenException"
            | "OptInRequired",
        ) => return SinkError::Denied(said()),
        Some("InvalidParameterException" | "SerializationException" | "ValidationException") => {
            return SinkError::Refused(said());
        }
        _ => {}
    }
    match (error, status) {
        // No request was made, for want of credentials or of a region.
        (SdkError::ConstructionFailure(_), _) => SinkError::Denied(advised(&innermost(error))),
        (SdkError::DispatchFailure(failure), _)
            if failure.is_user() || (failure.is_other() && failure.as_other().is_none()) =>
        {
            SinkError::Denied(advised(&innermost(error)))
        }
        (_, Some(403)) => SinkError::Denied(said()),
        (_, Some(429)) => SinkError::Throttled(said()),
        (_, Some(413)) => SinkError::Refused(said()),
        // Whatever it is, the events are not known to be there.
        _ => SinkError::Unavailable(said()),
    }
}

/// What the SDK says where it has not even made a request, in words that say what to do.
fn advised(said: &str) -> String {
    // Behind the first line each place is listed that was looked at.
    let said = said.lines().next().unwrap_or_default();
    if said.to_ascii_lowercase().contains("region") {
        "no region: set AWS_REGION".into()
    } else if said.contains("no credentials found") {
        "no credentials: give the instance a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID".into()
    } else if said.contains("IMDS") || said.contains("credential") || said.contains("provider") {
        format!("credentials cannot be had: {said}")
    } else {
        said.to_owned()
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if !text.trim().is_empty() {
            said = text;
        }
        next = error.source();
    }
    said
}
