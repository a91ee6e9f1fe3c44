//! Broken networks, refusing services, missing things: what a person reads, and what is tried again.

use std::io::{Cursor, Read};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use objects::{Glob, READ_AHEAD, S3Settings, Store, StoreError, Upload};
use testkit::{Aws, Direction, Proxy};

use crate::world::{answer, answering, content, open, read_all, settings};

/// A bucket with one object, seen through a proxy.
async fn through_proxy(bytes: &[u8]) -> (Proxy, Store, String) {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    aws.put_object(&bucket, "x.csv", bytes);
    let proxy = Proxy::to(aws.address());
    let store = open(&format!("s3://{bucket}"), &proxy.url(aws.endpoint())).await;
    (proxy, store, bucket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_mid_body_resumes_and_yields_the_same_bytes() {
    let bytes = content(20 << 20);
    let (proxy, store, _) = through_proxy(&bytes).await;
    let meta = store.head("x.csv").await.unwrap();
    for cut in [0, 100, 5_000, 1_000_003, 8 << 20, 17 << 20] {
        let cuts = proxy.cuts();
        proxy.cut_after(Direction::ToClient, cut);
        let (read, summary) = read_all(store.reader(&meta).await.unwrap()).await.unwrap();
        assert!(read == bytes, "cut after {cut}");
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!(proxy.cuts(), cuts + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_in_which_nothing_moves_is_given_up_after_a_few_tries() {
    let bytes = content(20 << 20);
    let (proxy, _, bucket) = through_proxy(&bytes).await;
    let stall = Duration::from_millis(300);
    let settings = S3Settings { stall_timeout: Some(stall), ..settings(&proxy.url(Aws::shared().endpoint())) };
    let store = Store::open_with(&format!("s3://{bucket}").parse().unwrap(), &settings).await.unwrap();
    let meta = store.head("x.csv").await.unwrap();
    let reader = store.reader(&meta).await.unwrap();
    proxy.stall(Direction::ToClient);
    // Well below one try of the SDK with its own timeouts, which are no part of this.
    let error = tokio::time::timeout(20 * stall, read_all(reader)).await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Timeout { .. }) && error.is_retryable(), "{error:?}");
    let error = tokio::time::timeout(20 * stall, store.reader(&meta)).await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Timeout { .. }), "{error:?}");
    proxy.pass();
    assert!(read_all(store.reader(&meta).await.unwrap()).await.unwrap().0 == bytes);
}

/// Gives so many bytes, and then waits for more until the sender is gone.
struct Unending(u64, Receiver<()>);

impl Read for Unending {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            let _ = self.1.recv();
            return Ok(0);
        }
        let length = buffer.len().min(self.0 as usize);
        self.0 -= length as u64;
        Ok(length)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_is_taken_back() {
    let (proxy, store, bucket) = through_proxy(b"").await;
    for answered in [true, false] {
        let (_more, wait) = channel();
        if !answered {
            // It is begun, and its id does not come before the upload is dropped.
            proxy.stall(Direction::ToClient);
        }
        let begun = async {
            while Aws::shared().open_uploads(&bucket) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if answered {
                // Parts are on their way, too.
                let before = proxy.bytes(Direction::ToServer);
                while proxy.bytes(Direction::ToServer) < before + (1 << 20) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::select! {
            result = store.put("up.csv", Upload::stream("test", Unending(40 << 20, wait))) => panic!("{result:?}"),
            () = begun => {}
        }
        proxy.pass();
        store.settle().await;
        assert_eq!(Aws::shared().open_uploads(&bucket), 0, "answered: {answered}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_during_a_cut_is_noticed_by_the_resumed_read() {
    let (proxy, store, bucket) = through_proxy(&content(20 << 20)).await;
    let meta = store.head("x.csv").await.unwrap();
    proxy.cut_after(Direction::ToClient, 1_000_000);
    Aws::shared().put_object(&bucket, "x.csv", &[b'y'; 20 << 20]);
    let result = match store.reader(&meta).await {
        Ok(reader) => read_all(reader).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(result, Err(StoreError::ObjectChanged { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_nobody_reads_from_stays_within_its_memory() {
    let bytes = content(48 << 20);
    let (proxy, store, _) = through_proxy(&bytes).await;
    let meta = store.head("x.csv").await.unwrap();
    let reader = store.reader(&meta).await.unwrap();
    let mut before = 0;
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let now = proxy.bytes(Direction::ToClient);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before <= READ_AHEAD + 64 * 1024, "{before} bytes came ahead");
    assert!(before > READ_AHEAD / 2, "{before} bytes came ahead");
    assert!(read_all(reader).await.unwrap().0 == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_survives_a_cut_and_stores_every_byte() {
    let (proxy, store, bucket) = through_proxy(b"").await;
    let bytes = content(20 << 20);
    for cut in [3_000, 9_000_000] {
        proxy.cut_after(Direction::ToServer, cut);
        store.put("up.csv", Upload::stream("test", Cursor::new(bytes.clone()))).await.unwrap();
        assert!(Aws::shared().get_object(&bucket, "up.csv").unwrap() == bytes);
    }
    assert_eq!(proxy.cuts(), 2);
    assert_eq!(Aws::shared().open_uploads(&bucket), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_create_whose_answer_was_lost_is_still_a_success() {
    let (proxy, store, bucket) = through_proxy(b"").await;
    for length in [1000, 20 << 20] {
        let key = format!("{length}.csv");
        let source = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(source.path(), content(length)).unwrap();
        proxy.lose_answer_to(b"if-none-match");
        let cuts = proxy.cuts();
        let stored = store.put(&key, Upload::file(source.path()).only_if_absent()).await.unwrap();
        assert_eq!(proxy.cuts(), cuts + 1);
        assert_eq!(stored.size, length as u64);
        assert_eq!(stored.version, store.head(&key).await.unwrap().version);
        assert!(Aws::shared().get_object(&bucket, &key).unwrap() == content(length));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_named_whatever_was_asked() {
    let store = open("s3://no-such-bucket-here", Aws::shared().endpoint()).await;
    let upload = Upload::stream("test", &b"id\n"[..]);
    let big = Upload::stream("test", Cursor::new(vec![0; 17 << 20]));
    for error in [
        store.list(&"*".parse().unwrap()).next_page().await.unwrap_err(),
        store.head("x.csv").await.unwrap_err(),
        store.put("x.csv", upload).await.unwrap_err(),
        store.put("x.csv", big).await.unwrap_err(),
        store.nearest_keys("x", 3).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::BucketMissing { .. }), "{error:?}");
        assert!(error.to_string().contains("no-such-bucket-here") && !error.is_retryable());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_nobody_listens_on_is_named_and_worth_another_try() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = open("s3://bucket", &format!("http://{address}")).await;
    let error = store.head("x.csv").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot reach http://{address}"));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("refused"), "{source}");
    assert!(error.is_retryable() && !error.is_permission());
}

/// Answers every request alike. The emulator refuses nobody, so refusals are spelled out as S3 documents them.
fn refusing(status: &'static str, headers: &'static str, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>{code} it is</Message></Error>");
    answering(move |request| answer(status, headers, if request.starts_with("HEAD") { b"" } else { body.as_bytes() }))
}

async fn list_error(endpoint: &str) -> StoreError {
    let store = open("s3://bucket", endpoint).await;
    store.list(&"a/*".parse().unwrap()).next_page().await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_action_and_resource_as_a_policy_would() {
    let endpoint = refusing("403 Forbidden", "", "AccessDenied");
    let error = list_error(&endpoint).await;
    assert_eq!(error.to_string(), "access denied: s3:ListBucket on arn:aws:s3:::bucket");
    assert!(error.is_permission() && !error.is_retryable());
    let store = open("s3://bucket/in", &endpoint).await;
    let error = store.head("x.csv").await.unwrap_err();
    assert_eq!(error.to_string(), "access denied: s3:GetObject on arn:aws:s3:::bucket/in/x.csv");
    let error = store.put("x.csv", Upload::stream("test", &b"id\n"[..])).await.unwrap_err();
    assert_eq!(error.to_string(), "access denied: s3:PutObject on arn:aws:s3:::bucket/in/x.csv");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_known_refusal_becomes_the_thing_to_do_about_it() {
    let error = list_error(&refusing("400 Bad Request", "", "ExpiredToken")).await;
    assert!(matches!(error, StoreError::CredentialsRefused { .. }) && error.is_permission(), "{error:?}");
    let region = "x-amz-bucket-region: eu-west-1\r\n";
    let error = list_error(&refusing("301 Moved Permanently", region, "PermanentRedirect")).await;
    assert!(error.to_string().ends_with("set AWS_REGION=eu-west-1"), "{error}");
    let error = list_error(&refusing("503 Slow Down", "", "SlowDown")).await;
    assert!(matches!(error, StoreError::Unavailable { .. }) && error.is_retryable(), "{error:?}");
    let error = list_error(&refusing("501 Not Implemented", "", "NotImplemented")).await;
    assert!(matches!(&error, StoreError::Service { code, .. } if code == "NotImplemented"), "{error:?}");
    assert!(!error.is_retryable());
    let error = list_error(&refusing("400 Bad Request", "", "InvalidArgument")).await;
    assert_eq!(error.to_string(), "s3:ListBucket on arn:aws:s3:::bucket failed (InvalidArgument)");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "InvalidArgument it is");
    assert!(!error.is_retryable());
}

/// Set in the process that has its environment to itself.
const ALONE: &str = "AQUEDUCT_TEST_ALONE";

/// Runs a test again with an environment of its own: the SDK reads nothing else.
fn alone(name: &str, environment: &[(&str, &str)]) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([&format!("failures::{name}"), "--exact", "--nocapture"]).env_clear().env(ALONE, "1");
    command.env("HOME", "/nonexistent").env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null").envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_said_at_once() {
    // Takes the connection and never answers, as on a laptop whose network swallows the metadata service's packets.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let metadata = format!("http://{}", silent.local_addr().unwrap());
    let environment = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str()), ("AWS_REGION", "eu-west-1")];
    if !alone("missing_credentials_are_said_at_once", &environment) {
        return;
    }
    let started = Instant::now();
    let error = Store::open(&"s3://bucket".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::NoCredentials { .. }) && error.is_permission(), "{error:?}");
    assert!(error.to_string().contains("AWS_PROFILE"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_nowhere_is_named() {
    let environment = [("AWS_PROFILE", "nosuch"), ("AWS_REGION", "eu-west-1"), ("AWS_EC2_METADATA_DISABLED", "true")];
    if !alone("a_profile_that_is_nowhere_is_named", &environment) {
        return;
    }
    let error = Store::open(&"s3://bucket".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::NoProfile { .. }) && error.is_permission(), "{error:?}");
    assert!(error.to_string().starts_with("there is no AWS profile \"nosuch\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_a_scheme_is_a_mistake_that_does_not_pass() {
    let environment = [("AWS_ENDPOINT_URL", "127.0.0.1:9000"), ("AWS_REGION", "eu-west-1")];
    if !alone("an_endpoint_without_a_scheme_is_a_mistake_that_does_not_pass", &environment) {
        return;
    }
    let error = Store::open(&"s3://bucket".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().starts_with("AWS_ENDPOINT_URL is no URL"), "{error}");
    assert!(!error.is_retryable() && !error.is_permission());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_region_is_said_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let metadata = format!("http://{}", silent.local_addr().unwrap());
    let environment = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str()),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    if !alone("a_missing_region_is_said_at_once", &environment) {
        return;
    }
    let started = Instant::now();
    let error = Store::open(&"s3://bucket".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::NoRegion) && error.to_string().contains("AWS_REGION"), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_own_settings_are_enough() {
    let test = "the_sdks_own_settings_are_enough";
    if std::env::var_os(ALONE).is_none() {
        let endpoint = Aws::shared().endpoint().replace("127.0.0.1", "localhost");
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        alone(test, &[keys[0], keys[1], ("AWS_ENDPOINT_URL", &endpoint)]);
        return;
    }
    let store = Store::open(&"s3://no-such-bucket-here".parse().unwrap()).await.unwrap();
    let error = store.head("x.csv").await.unwrap_err();
    assert!(matches!(error, StoreError::BucketMissing { .. }), "asked the bucket by its path: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_dropped_stops_the_transfer() {
    let (proxy, store, _) = through_proxy(&content(40 << 20)).await;
    let meta = store.head("x.csv").await.unwrap();
    drop(store.reader(&meta).await.unwrap());
    tokio::time::sleep(Duration::from_millis(800)).await;
    let after = proxy.bytes(Direction::ToClient);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(proxy.bytes(Direction::ToClient), after);
    assert!(after < 40 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_given_by_hand_win() {
    let bucket = Aws::shared().bucket();
    Aws::shared().put_object(&bucket, "x.csv", b"id\n");
    let url = format!("s3://{bucket}").parse().unwrap();
    let store = Store::open_with(&url, &settings(Aws::shared().endpoint())).await.unwrap();
    assert!(store.list(&Glob::literal("x.csv")).next_page().await.unwrap().is_some());
}
