//! What the services and the SDK say, named by what is to be done about it.

use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
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

/// Signed at a time that is not the service's; a wrong key has the same code.
const TIME: [&str; 5] = [
    "InvalidSignatureException",
    "RequestExpired",
    "RequestInTheFuture",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];
const CREDENTIALS: [&str; 5] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
];

pub(crate) fn is_about_time<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code().is_some_and(|code| TIME.contains(&code))
}

pub(crate) fn is_about_credentials<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code().is_some_and(|code| CREDENTIALS.contains(&code))
}

pub(crate) fn explain<E>(error: &SdkError<E, HttpResponse>) -> CallError
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
        Some("ThrottlingException" | "Throttling" | "RequestLimitExceeded") => return CallError::Throttled(said()),
        Some("ResourceNotFoundException") => return CallError::Missing,
        // Two at once made it: it is there, or soon will be.
        Some("OperationAbortedException") => return CallError::Unavailable(said()),
        Some("AccessDeniedException" | "AccessDenied" | "OptInRequired") => return CallError::Denied(said()),
        Some(code) if TIME.contains(&code) || CREDENTIALS.contains(&code) => return CallError::Denied(said()),
        Some(
            "InvalidParameterException"
            | "MissingParameter"
            | "SerializationException"
            | "ValidationError"
            | "ValidationException",
        ) => return CallError::Refused(said()),
        // CloudWatch's, such as InvalidParameterValue and InvalidParameterCombination.
        Some(code) if code.starts_with("InvalidParameter") => return CallError::Refused(said()),
        _ => {}
    }
    match (error, status) {
        // No request was made, for want of credentials or of a region.
        (SdkError::ConstructionFailure(_), _) => CallError::Denied(advised(&innermost(error))),
        (SdkError::DispatchFailure(failure), _)
            if failure.is_user() || (failure.is_other() && failure.as_other().is_none()) =>
        {
            CallError::Denied(advised(&innermost(error)))
        }
        (_, Some(403)) => CallError::Denied(said()),
        (_, Some(429)) => CallError::Throttled(said()),
        (_, Some(413)) => CallError::Refused(said()),
        // Whatever it is, the events are not known to be there.
        _ => CallError::Unavailable(said()),
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
