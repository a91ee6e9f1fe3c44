//! An S3 bucket, or a prefix of one, as a store.

mod bodies;
mod errors;
mod leftover;
mod read;
mod resume;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;

use bodies::Bodies;
use leftover::Leftovers;
pub(crate) use read::{RANGE_BYTES, RANGES_IN_FLIGHT, RangedRead};

use crate::url::percent_decode;
use crate::{Cause, ContentHash, Glob, ObjectMeta, StoreError, Version};

/// What the uploader says the bytes are.
const SHA256_METADATA: &str = "aqueduct-sha256";
/// Which upload made an object, so that an upload whose answer got lost can recognise its work.
const UPLOAD_METADATA: &str = "aqueduct-upload";
/// S3 gives no more at once.
const PAGE: i32 = 1000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request to the first byte of the answer; where bytes of an object are read, [`STALL_TIMEOUT`] holds.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A transfer that moves nothing for this long is cut and tried again.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The first try and three more.
const ATTEMPTS: u32 = 4;
/// The metadata service of an EC2 host is a few hops away; where nobody answers within this, there is none.
const IMDS_TIMEOUT: Duration = Duration::from_secs(1);
/// Roles may take several calls; past this something is wrong.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of the AWS SDK to replace. By default none: profile, region, keys, roles and endpoint come from where every
/// AWS tool takes them (`AWS_PROFILE`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …).
#[derive(Clone, Default)]
pub struct S3Settings {
    pub endpoint_url: Option<String>,
    pub region: Option<String>,
    /// Access key id and secret access key.
    pub keys: Option<(String, String)>,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`. Also on with `AQUEDUCT_S3_PATH_STYLE=1`, and
    /// wherever the endpoint is an IP address or localhost, which can have no bucket before them.
    pub path_style: bool,
    /// After how long a read of an object in which nothing moves is cut and tried again, in place of 20 seconds.
    pub stall_timeout: Option<Duration>,
}

impl std::fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint_url", &self.endpoint_url)
            .field("region", &self.region)
            .field("access_key_id", &self.keys.as_ref().map(|(id, _)| id))
            .field("path_style", &self.path_style)
            .finish()
    }
}

/// A bucket, or what lies below a prefix of one.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    /// For requests that carry bytes, or make the store copy some: they may take longer.
    sender: Client,
    /// Whether requests are signed with the hash of their body.
    signs_payload: bool,
    bodies: Bodies,
    spare: read::Spare,
    bucket: String,
    /// Empty, or ending in `/`.
    prefix: String,
    region: String,
    /// For messages.
    endpoint: String,
    stall_timeout: Duration,
    leftovers: Arc<Leftovers>,
}

impl S3Store {
    pub(crate) async fn open(bucket: &str, prefix: &str, settings: &S3Settings) -> Result<Self, StoreError> {
        let imds = imds::Client::builder()
            .connect_timeout(IMDS_TIMEOUT)
            .read_timeout(IMDS_TIMEOUT)
            .operation_timeout(2 * IMDS_TIMEOUT)
            .max_attempts(2)
            .build();
        let (given_endpoint, variable) = match &settings.endpoint_url {
            Some(endpoint) => (Some(endpoint.clone()), "the endpoint"),
            None => endpoint_of_environment().map_or((None, ""), |(name, endpoint)| (Some(endpoint), name)),
        };
        require_url(given_endpoint.as_deref(), variable)?;
        let region = find_region(settings, given_endpoint.is_some(), &imds).await;
        let region = region.ok_or_else(|| missing_profile().unwrap_or(StoreError::NoRegion))?;
        let credentials = match find_credentials(settings, &region, imds).await {
            Err(error @ StoreError::NoCredentials { .. }) => return Err(missing_profile().unwrap_or(error)),
            found => found?,
        };
        let stall_timeout = settings.stall_timeout.unwrap_or(STALL_TIMEOUT);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region.clone())
            .credentials_provider(credentials)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts(READ_TIMEOUT))
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(stall_timeout).build());
        if let Some(endpoint) = &settings.endpoint_url {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        // The profile may name an endpoint too.
        let endpoint = given_endpoint.or_else(|| shared.endpoint_url().map(str::to_owned));
        require_url(endpoint.as_deref(), "endpoint_url of the AWS profile")?;
        let path_style =
            settings.path_style || set("AQUEDUCT_S3_PATH_STYLE") || endpoint.as_deref().is_some_and(has_no_subdomains);
        let config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(path_style);
        let slow = config.clone().timeout_config(timeouts(write::PART_TIMEOUT));
        Ok(Self {
            client: Client::from_conf(config.build()),
            sender: Client::from_conf(slow.build()),
            signs_payload: set("AQUEDUCT_S3_SIGN_PAYLOAD") || !endpoint.as_deref().is_none_or(keeps_bytes_whole),
            bodies: Bodies::default(),
            spare: read::Spare::default(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
            region: region.to_string(),
            stall_timeout,
            leftovers: Arc::default(),
        })
    }

    pub(crate) fn uri_of(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.bucket, self.prefix)
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn list(&self, glob: &Glob) -> Listing {
        Listing { store: self.clone(), glob: glob.clone(), next: Some(None) }
    }

    pub(crate) async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.look(key).await.map(|(meta, _)| meta)
    }

    /// The object, and the upload it says it came from.
    async fn look(&self, key: &str) -> Result<(ObjectMeta, Option<String>), StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.full_key(key));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = self.error("s3:GetObject", Some(key), error);
                // The answer to a HEAD has no body, so a missing bucket looks like a missing object.
                if matches!(error, StoreError::NotFound { .. })
                    && let Err(bucket) = self.client.head_bucket().bucket(&self.bucket).send().await
                    && let bucket @ StoreError::BucketMissing { .. } = self.error("s3:ListBucket", None, bucket)
                {
                    return Err(bucket);
                }
                return Err(error);
            }
        };
        let size = size_of(answer.content_length());
        let etag = answer.e_tag().map(bare_etag);
        let metadata = |name| answer.metadata().and_then(|all| all.get(name));
        let sha256 = metadata(SHA256_METADATA).and_then(|text| text.parse().ok());
        let upload = metadata(UPLOAD_METADATA).cloned();
        let meta = ObjectMeta {
            key: key.to_owned(),
            size,
            last_modified: time_of(answer.last_modified()),
            version: version_of(answer.version_id(), etag.as_deref(), size, sha256),
            etag,
            sha256,
        };
        Ok((meta, upload))
    }
}

/// S3's listing under way.
#[derive(Debug)]
pub(crate) struct Listing {
    store: S3Store,
    glob: Glob,
    /// `None` at the end, else the token to continue with.
    next: Option<Option<String>>,
}

impl Listing {
    pub(crate) async fn next_page(&mut self) -> Result<Option<Vec<ObjectMeta>>, StoreError> {
        while let Some(token) = self.next.take() {
            let store = &self.store;
            let request = store
                .client
                .list_objects_v2()
                .bucket(&store.bucket)
                .prefix(store.full_key(self.glob.prefix()))
                // A literal key sorts before all others that start with it.
                .max_keys(if self.glob.as_literal().is_some() { 1 } else { PAGE })
                // XML cannot hold every character a key can.
                .encoding_type(EncodingType::Url)
                .set_continuation_token(token);
            let answer = request.send().await.map_err(|error| store.error("s3:ListBucket", None, error))?;
            let encoded = answer.encoding_type() == Some(&EncodingType::Url);
            if self.glob.as_literal().is_none() && answer.is_truncated() == Some(true) {
                self.next = answer.next_continuation_token().map(|token| Some(token.to_owned()));
            }
            let page: Vec<_> = answer.contents().iter().filter_map(|object| self.object(object, encoded)).collect();
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// `None` when the key does not match or is only a console's mark for a folder.
    fn object(&self, object: &aws_sdk_s3::types::Object, encoded: bool) -> Option<ObjectMeta> {
        let full = object.key()?;
        let full = if encoded { form_decode(full)? } else { full.to_owned() };
        let key = full.strip_prefix(&self.store.prefix)?.to_owned();
        let size = size_of(object.size());
        if key.is_empty() || (key.ends_with('/') && size == 0) || !self.glob.matches(&key) {
            return None;
        }
        let etag = object.e_tag().map(bare_etag);
        let version = version_of(None, etag.as_deref(), size, None);
        Some(ObjectMeta { key, size, last_modified: time_of(object.last_modified()), version, etag, sha256: None })
    }
}

/// The environment, then the profile, then the host's own; a given endpoint needs no true region.
async fn find_region(settings: &S3Settings, has_endpoint: bool, imds: &imds::Client) -> Option<Region> {
    if let Some(region) = &settings.region {
        return Some(Region::new(region.clone()));
    }
    let configured = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .region()
        .await;
    if configured.is_some() {
        return configured;
    }
    if has_endpoint {
        return Some(Region::from_static("us-east-1"));
    }
    imds::region::ImdsRegionProvider::builder().imds_client(imds.clone()).build().region().await
}

/// Credentials that were there once: asked for now, so that their absence is the first thing a person hears of.
async fn find_credentials(
    settings: &S3Settings,
    region: &Region,
    imds: imds::Client,
) -> Result<SharedCredentialsProvider, StoreError> {
    if let Some((id, secret)) = &settings.keys {
        let keys = Credentials::new(id, secret, None, None, "settings");
        return Ok(SharedCredentialsProvider::new(keys));
    }
    let chain = DefaultCredentialsChain::builder().imds_client(imds).region(region.clone()).build().await;
    let provider = SharedCredentialsProvider::new(chain);
    match tokio::time::timeout(CREDENTIALS_TIMEOUT, provider.provide_credentials()).await {
        Ok(Ok(_)) => Ok(provider),
        Ok(Err(error)) => Err(StoreError::NoCredentials { source: Cause::of(&error) }),
        Err(_) => Err(StoreError::NoCredentials { source: Cause::from("looking for them took too long") }),
    }
}

fn timeouts(read: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(read).build()
}

/// The variable and what it says.
fn endpoint_of_environment() -> Option<(&'static str, String)> {
    let set = |name| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?));
    set("AWS_ENDPOINT_URL_S3").or_else(|| set("AWS_ENDPOINT_URL"))
}

fn set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1" || value == "true")
}

/// Over TLS, and on this machine, nobody stands between who could change a body on its way: a signature over its hash
/// would be a second SHA-256 of every byte for nothing. Its CRC-32 is in the signed headers anyway, and S3 compares.
fn keeps_bytes_whole(endpoint: &str) -> bool {
    let https = endpoint.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"));
    let host = host_of(endpoint);
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    https || loopback || host == "localhost" || host.ends_with(".localhost")
}

/// The SDK takes a host without a scheme for a relative address, and says so only when it sends.
fn require_url(endpoint: Option<&str>, variable: &'static str) -> Result<(), StoreError> {
    let is_out_of_place = |char: char| char.is_whitespace() || char == '@';
    let is_url = |endpoint: &str| {
        let rest = endpoint
            .split_once("://")
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
        // A user and a password would be shown with it; the service has no use for them.
        rest.is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(is_out_of_place))
    };
    if endpoint.is_none_or(is_url) { Ok(()) } else { Err(StoreError::Endpoint { variable }) }
}

/// The error for an `AWS_PROFILE` that no file defines. The SDK passes over it without a word.
fn missing_profile() -> Option<StoreError> {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let profile = set("AWS_PROFILE")?;
    // Where the SDK looks, and nowhere else.
    let home = || {
        let windows = || set("USERPROFILE").filter(|_| cfg!(windows));
        PathBuf::from(set("HOME").or_else(windows).unwrap_or_default())
    };
    let file = |name, default: &str| set(name).map_or_else(|| home().join(default), PathBuf::from);
    let config = file("AWS_CONFIG_FILE", ".aws/config");
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    let defined = [&config, &credentials].into_iter().any(|path| {
        std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| names_profile(line, &profile)))
    });
    (!defined).then_some(StoreError::NoProfile { profile, config, credentials })
}

/// `[profile name]` or `[name]`.
fn names_profile(line: &str, profile: &str) -> bool {
    let section = line.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next());
    section.map(str::trim).is_some_and(|section| {
        section == profile
            || section
                .strip_prefix("profile")
                .is_some_and(|name| name.starts_with(char::is_whitespace) && name.trim() == profile)
    })
}

/// No bucket can stand before an IP address, and few resolvers know `bucket.localhost`.
fn has_no_subdomains(endpoint: &str) -> bool {
    let host = host_of(endpoint);
    host == "localhost" || host.ends_with(".localhost") || host.parse::<std::net::IpAddr>().is_ok()
}

fn host_of(endpoint: &str) -> &str {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

/// Objects stored before versions were turned on have the version id `null`, and so has whatever replaces them while
/// versions are suspended: it identifies nothing.
fn version_of(id: Option<&str>, etag: Option<&str>, size: u64, sha256: Option<ContentHash>) -> Version {
    match (id.filter(|id| !id.is_empty() && *id != "null"), etag) {
        (Some(id), _) => Version::Id(id.to_owned()),
        (None, Some(etag)) => Version::Etag { etag: etag.to_owned(), size },
        // Every S3 has etags; a server without could still vouch for the bytes.
        (None, None) => Version::Etag { etag: sha256.map(|hash| hash.to_string()).unwrap_or_default(), size },
    }
}

fn bare_etag(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

fn size_of(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}

fn time_of(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Keys in a listing are encoded as in a form: a space is a plus.
fn form_decode(text: &str) -> Option<String> {
    String::from_utf8(percent_decode(text.replace('+', " ").as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_goes_into_the_path_where_a_host_can_have_no_subdomain() {
        for endpoint in
            ["http://127.0.0.1:5000", "http://localhost:4566/", "https://[::1]:9000", "http://minio.localhost"]
        {
            assert!(has_no_subdomains(endpoint), "{endpoint}");
        }
        for endpoint in ["https://s3.eu-west-1.amazonaws.com", "http://minio.example:9000", "localhost.example"] {
            assert!(!has_no_subdomains(endpoint), "{endpoint}");
        }
    }

    #[test]
    fn a_body_is_signed_where_somebody_could_stand_between() {
        for endpoint in ["https://s3.eu-west-1.amazonaws.com", "HTTPS://minio.example", "http://127.0.0.1:5000"] {
            assert!(keeps_bytes_whole(endpoint), "{endpoint}");
        }
        for endpoint in ["http://[::1]:9000", "http://localhost:4566/", "http://minio.localhost"] {
            assert!(keeps_bytes_whole(endpoint), "{endpoint}");
        }
        for endpoint in ["http://minio.example:9000", "http://10.0.0.7:9000", "http://localhost.example"] {
            assert!(!keeps_bytes_whole(endpoint), "{endpoint}");
        }
    }

    #[test]
    fn an_object_from_before_versions_is_known_by_its_etag() {
        let etag = Version::Etag { etag: "abc-2".into(), size: 5 };
        assert_eq!(version_of(Some("null"), Some("abc-2"), 5, None), etag);
        assert_eq!(version_of(Some("x1"), Some("abc-2"), 5, None), Version::Id("x1".into()));
        assert_eq!(bare_etag("\"abc-2\""), "abc-2");
    }

    #[test]
    fn an_endpoint_is_a_url() {
        for endpoint in ["http://127.0.0.1:9000", "HTTPS://minio.example/", "http://[::1]:9000"] {
            assert!(require_url(Some(endpoint), "AWS_ENDPOINT_URL").is_ok(), "{endpoint}");
        }
        for endpoint in [
            "127.0.0.1:9000",
            "minio",
            "ftp://minio",
            "http://",
            "http:///x",
            "https://a b",
            "http://user:secret@minio:9000",
        ] {
            let error = require_url(Some(endpoint), "AWS_ENDPOINT_URL").unwrap_err();
            assert!(error.to_string().starts_with("AWS_ENDPOINT_URL is no URL"), "{endpoint}");
        }
        assert!(require_url(None, "").is_ok());
    }

    #[test]
    fn a_profile_is_a_section_of_either_file() {
        for line in ["[work]", "[profile work]", "  [ profile\twork ] # mine"] {
            assert!(names_profile(line, "work"), "{line}");
        }
        for line in ["[profilework]", "[works]", "work = 1", "[sso-session work]", ""] {
            assert!(!names_profile(line, "work"), "{line}");
        }
    }

    #[test]
    fn settings_never_show_a_secret() {
        let settings = S3Settings { keys: Some(("id".into(), "hidden".into())), ..S3Settings::default() };
        assert!(!format!("{settings:?}").contains("hidden"));
    }
}
