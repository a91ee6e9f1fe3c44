//! Answers that are not about what was asked for. Whatever a service or something before it sends back, what is read is the
//! object or an error.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use objects::{Store, StoreError};

use crate::world::{answer, answering, open, read_all};

const WHOLE: &[u8] = b"0123456789";
const ETAG: &str = "ETag: \"one\"\r\n";

/// A store whose object `x.csv` is `WHOLE`; `get` has the range that a request asks for, if any, and the number of the
/// request from 0. With it, how many times the object was asked for.
async fn store(get: impl Fn(Option<&str>, usize) -> Vec<u8> + Send + Sync + 'static) -> (Store, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let endpoint = answering(move |request| {
        if request.starts_with("HEAD") {
            // Its length is the one of what a GET would send.
            let length = WHOLE.len();
            return format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n{ETAG}\r\n")
                .into_bytes();
        }
        let range = request.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("range").then_some(value)
        });
        get(range, counter.fetch_add(1, Ordering::SeqCst))
    });
    (open("s3://bucket", &endpoint).await, asked)
}

async fn read(store: &Store) -> Result<Vec<u8>, StoreError> {
    let meta = store.head("x.csv").await.unwrap();
    assert_eq!(meta.size, WHOLE.len() as u64);
    read_all(store.reader(&meta).await?).await.map(|(bytes, _)| bytes)
}

/// What is read of the bytes 2 to 5.
async fn read_part(store: &Store) -> Result<Vec<u8>, StoreError> {
    let meta = store.head("x.csv").await.unwrap();
    let mut part = store.part(&meta, 2..6).await?;
    let read = move || {
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| StoreError::from_read(error, "test"))
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// The bytes `from` up to before `to`, as S3 sends them.
fn part(from: usize, to: usize) -> Vec<u8> {
    let range = format!("{ETAG}Content-Range: bytes {from}-{}/{}\r\n", to - 1, WHOLE.len());
    answer("206 Partial Content", &range, &WHOLE[from..to])
}

/// Says that there are more bytes than come.
fn cut_short(bytes: &[u8], said: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {said}\r\nConnection: close\r\n{ETAG}\r\n");
    [head.as_bytes(), bytes].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_object_than_the_one_that_was_listed_is_not_read() {
    for (what, headers, body) in [
        ("another version", "ETag: \"two\"\r\n", WHOLE),
        ("another length", ETAG, b"0123"),
        ("more of it", ETAG, b"0123456789abc"),
    ] {
        let (store, asked) = store(move |_, _| answer("200 OK", headers, body)).await;
        let error = read(&store).await.unwrap_err();
        assert!(matches!(error, StoreError::ObjectChanged { .. }), "{what}: {error:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{what}: that it changed is no reason to ask again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_were_asked_for_are_an_error() {
    // Nothing says how many come.
    let (store, _) = store(|_, _| {
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{ETAG}\r\n");
        [head.as_bytes(), b"a\r\n0123456789\r\n3\r\nabc\r\n0\r\n\r\n"].concat()
    })
    .await;
    let error = read(&store).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Service { source, .. } if source.to_string().contains("more bytes")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_know_ranges_is_not_read_by_them() {
    for (what, response) in [
        ("the whole", answer("200 OK", ETAG, WHOLE)),
        ("another range", part(3, 7)),
        ("a range of another whole", {
            answer("206 Partial Content", &format!("{ETAG}Content-Range: bytes 2-5/11\r\n"), b"2345")
        }),
        ("no word of the range", answer("206 Partial Content", ETAG, b"2345")),
    ] {
        let (store, _) = store(move |range, _| {
            assert_eq!(range, Some("bytes=2-5"));
            response.clone()
        })
        .await;
        let error = read_part(&store).await.unwrap_err();
        assert!(matches!(error, StoreError::Service { .. }), "{what}: {error:?}");
        assert!(!error.is_retryable(), "{what}");
    }
    let (store, _) = store(|_, _| part(2, 6)).await;
    assert_eq!(read_part(&store).await.unwrap(), b"2345");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_after_a_break_goes_on_where_it_broke_or_fails() {
    let broken_at_six = |second: Vec<u8>| {
        store(move |range, number| match number {
            0 => cut_short(&WHOLE[..6], WHOLE.len()),
            _ => {
                assert_eq!(range, Some("bytes=6-9"));
                second.clone()
            }
        })
    };
    let (good, asked) = broken_at_six(part(6, 10)).await;
    assert_eq!(read(&good).await.unwrap(), WHOLE);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // The beginning once more would be loaded twice.
    let (from_the_start, _) = broken_at_six(answer("200 OK", ETAG, WHOLE)).await;
    assert!(matches!(read(&from_the_start).await, Err(StoreError::Service { .. })));
    let (replaced, _) =
        broken_at_six(answer("206 Partial Content", "ETag: \"two\"\r\nContent-Range: bytes 6-9/10\r\n", b"6789")).await;
    assert!(matches!(read(&replaced).await, Err(StoreError::ObjectChanged { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_asks_for_patience_gets_some() {
    let slow_down = answer("503 Slow Down", "", b"<Error><Code>SlowDown</Code><Message>Reduce it</Message></Error>");
    let always = slow_down.clone();
    let (patient, asked) =
        store(move |_, number| if number < 4 { slow_down.clone() } else { answer("200 OK", ETAG, WHOLE) }).await;
    assert_eq!(read(&patient).await.unwrap(), WHOLE);
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    let (never, _) = store(move |_, _| always.clone()).await;
    let error = read(&never).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }) && error.is_retryable(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_stored_are_an_error() {
    // CRC-32 of other bytes; all of them came, so asking again would change nothing.
    let headers = format!("{ETAG}x-amz-checksum-crc32: AAAAAA==\r\nx-amz-checksum-type: FULL_OBJECT\r\n");
    let (store, asked) = store(move |_, _| answer("200 OK", &headers, WHOLE)).await;
    let error = read(&store).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Service { source, .. } if source.to_string().contains("checksum")),
        "{error:?}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
