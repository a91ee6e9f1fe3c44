//! From the SDK's errors to ours: one place, so that the same trouble reads the same whichever call met it.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::S3Store;
use crate::{Cause, StoreError};

impl S3Store {
    /// What went wrong with `action` on an object, or on the bucket itself.
    pub(super) fn error<E>(
        &self,
        action: &'static str,
        key: Option<&str>,
        error: SdkError<E, HttpResponse>,
    ) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let source = Cause::of(&error);
        let endpoint = self.endpoint.clone();
        match &error {
            _ if is_about_credentials(&error) => StoreError::NoCredentials { source },
            SdkError::TimeoutError(_) => StoreError::Timeout { action, endpoint },
            SdkError::DispatchFailure(failure) if failure.is_timeout() => StoreError::Timeout { action, endpoint },
            SdkError::DispatchFailure(_) => StoreError::Unreachable { endpoint, source },
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                let region = context.raw().headers().get("x-amz-bucket-region").map(str::to_owned);
                let code = context.err().code().unwrap_or_default();
                let source = match context.err().message() {
                    Some(message) if !message.is_empty() => Cause::from(message),
                    _ => Cause::from(format!("status {status}")),
                };
                self.refusal(action, key, status, code, region, source)
            }
            // An answer that is no S3 answer, or one cut short.
            SdkError::ResponseError(_) => StoreError::Unavailable { action, resource: self.resource(key), source },
            _ => StoreError::Service { action, resource: self.resource(key), code: "request".into(), source },
        }
    }

    fn refusal(
        &self,
        action: &'static str,
        key: Option<&str>,
        status: u16,
        code: &str,
        region: Option<String>,
        source: Cause,
    ) -> StoreError {
        let resource = self.resource(key);
        let uri = || self.uri_of(key.unwrap_or_default());
        match (code, status) {
            ("NoSuchBucket", _) => self.bucket_missing(),
            ("NoSuchKey" | "NoSuchVersion", _) => StoreError::NotFound { uri: uri() },
            (
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "RequestTimeTooSkewed"
                | "InvalidClientTokenId"
                | "UnrecognizedClientException",
                _,
            ) => StoreError::CredentialsRefused { code: code.to_owned(), source },
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301) => {
                StoreError::WrongRegion { bucket: self.bucket.clone(), region: self.region.clone(), expected: region }
            }
            ("InvalidObjectState", _) => StoreError::Archived { uri: uri() },
            ("PreconditionFailed", _) | (_, 412) => StoreError::ObjectChanged { uri: uri() },
            ("AccessDenied" | "AllAccessDisabled", _) | (_, 401 | 403) => {
                StoreError::AccessDenied { action, resource, source }
            }
            (_, 404) if key.is_none() => self.bucket_missing(),
            (_, 404) => StoreError::NotFound { uri: uri() },
            // Some servers speak only part of S3; that does not pass.
            ("NotImplemented", _) | (_, 501) => {
                StoreError::Service { action, resource, code: "NotImplemented".into(), source }
            }
            (
                "SlowDown"
                | "InternalError"
                | "RequestTimeout"
                | "ServiceUnavailable"
                | "Throttling"
                | "ThrottlingException"
                | "RequestLimitExceeded"
                | "OperationAborted"
                | "ConditionalRequestConflict",
                _,
            )
            // 2xx: an answer that says yes and cannot be read.
            | (_, 200..=299 | 408 | 409 | 429 | 500..) => StoreError::Unavailable { action, resource, source },
            _ => {
                let code = if code.is_empty() { format!("status {status}") } else { code.to_owned() };
                StoreError::Service { action, resource, code, source }
            }
        }
    }

    fn bucket_missing(&self) -> StoreError {
        StoreError::BucketMissing { bucket: self.bucket.clone(), endpoint: self.endpoint.clone() }
    }

    /// As an IAM policy names it, ready to paste.
    pub(super) fn resource(&self, key: Option<&str>) -> String {
        match key {
            Some(key) => format!("arn:aws:s3:::{}/{}{key}", self.bucket, self.prefix),
            None => format!("arn:aws:s3:::{}", self.bucket),
        }
    }
}

/// Credentials may be gone in mid-run: a role taken away, a session at its end.
fn is_about_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<CredentialsError>())
}
