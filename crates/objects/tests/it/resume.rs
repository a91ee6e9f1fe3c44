//! Uploads that were cut short go on where they stood, and never as a mixture.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use objects::{ContentHash, Store, StoreError, Upload, Uploaded};
use tempfile::NamedTempFile;
use testkit::{Aws, Direction, Proxy};

use crate::world::{content, open};

const PART: u64 = 6 << 20;

fn file_with(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A bucket seen through a proxy, without which the emulator's lists of parts cannot be read.
async fn through_proxy() -> (Proxy, Store, String) {
    let bucket = Aws::shared().bucket();
    let proxy = Proxy::to(Aws::shared().address());
    let store = open(&format!("s3://{bucket}"), &proxy.url(Aws::shared().endpoint())).await;
    (proxy, store, bucket)
}

/// Uploads until a few parts are stored, then takes the line away.
async fn cut_short(proxy: &Proxy, store: &Store, source: &NamedTempFile) {
    let stored = AtomicU64::new(0);
    let count = |bytes| {
        if stored.fetch_add(bytes, Ordering::SeqCst) + bytes >= 3 * PART {
            proxy.refuse();
            proxy.cut_now();
        }
    };
    let error = store.put("big.csv", Upload::file(source.path()).progress(&count)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. } | StoreError::Timeout { .. }), "{error:?}");
    proxy.pass();
}

fn is_whole(bucket: &str, stored: &Uploaded, bytes: &[u8]) {
    let aws = Aws::shared();
    assert!(aws.get_object(bucket, "big.csv").unwrap() == bytes);
    let hash = ContentHash::of(bytes);
    assert_eq!((stored.size, stored.sha256), (bytes.len() as u64, hash));
    assert_eq!(aws.object_header(bucket, "big.csv", "x-amz-meta-aqueduct-sha256"), Some(hash.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_there_are_not_sent_again() {
    let (proxy, store, bucket) = through_proxy().await;
    let bytes = content((60 << 20) + 99);
    let source = file_with(&bytes);
    cut_short(&proxy, &store, &source).await;
    assert_eq!(Aws::shared().open_uploads(&bucket), 1, "it stays for the next");

    let seen = AtomicU64::new(0);
    let count = |bytes| {
        seen.fetch_add(bytes, Ordering::SeqCst);
    };
    let before = proxy.bytes(Direction::ToServer);
    let stored = store.put("big.csv", Upload::file(source.path()).progress(&count)).await.unwrap();
    let sent = proxy.bytes(Direction::ToServer) - before;
    is_whole(&bucket, &stored, &bytes);
    assert!(stored.continued >= 3 * PART && stored.continued.is_multiple_of(PART), "{}", stored.continued);
    assert!(sent < bytes.len() as u64 - stored.continued + 64 * 1024, "{sent} bytes sent");
    assert_eq!(seen.load(Ordering::SeqCst), bytes.len() as u64, "what is there counts as stored");
    assert_eq!(Aws::shared().open_uploads(&bucket), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_other_bytes_is_left_alone() {
    let (proxy, store, bucket) = through_proxy().await;
    let mut bytes = content(50 << 20);
    cut_short(&proxy, &store, &file_with(&bytes)).await;
    // The parts that are stored are those of the new file, too; what comes after them is not.
    *bytes.last_mut().unwrap() ^= 1;
    let source = file_with(&bytes);
    let stored = store.put("big.csv", Upload::file(source.path())).await.unwrap();
    is_whole(&bucket, &stored, &bytes);
    assert_eq!(stored.continued, 0);
    assert_eq!(Aws::shared().open_uploads(&bucket), 1, "it may be another process's");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_another_key_is_left_alone() {
    let (proxy, store, bucket) = through_proxy().await;
    let bytes = content(50 << 20);
    let source = file_with(&bytes);
    cut_short(&proxy, &store, &source).await;
    for key in ["big.csv.old", "big"] {
        assert_eq!(store.put(key, Upload::file(source.path())).await.unwrap().continued, 0, "{key}");
    }
    assert_eq!(Aws::shared().open_uploads(&bucket), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_continue_the_same_upload_both_succeed() {
    let (proxy, store, bucket) = through_proxy().await;
    let bytes = content(60 << 20);
    let source = file_with(&bytes);
    cut_short(&proxy, &store, &source).await;
    let put = || store.put("big.csv", Upload::file(source.path()));
    let (one, other) = tokio::join!(put(), put());
    let (one, other) = (one.unwrap(), other.unwrap());
    is_whole(&bucket, &one, &bytes);
    assert_eq!(one.sha256, other.sha256);
    assert_eq!(Aws::shared().open_uploads(&bucket), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continued_upload_that_is_dropped_is_taken_back() {
    let (proxy, store, bucket) = through_proxy().await;
    let source = file_with(&content(60 << 20));
    cut_short(&proxy, &store, &source).await;
    // The first count is of what is there: from then on no answer comes.
    let stall = |_| proxy.stall(Direction::ToClient);
    let put = store.put("big.csv", Upload::file(source.path()).progress(&stall));
    assert!(tokio::time::timeout(Duration::from_secs(3), put).await.is_err());
    assert_eq!(Aws::shared().open_uploads(&bucket), 1);
    proxy.pass();
    store.settle().await;
    assert_eq!(Aws::shared().open_uploads(&bucket), 0);
}

/// In front of the emulator, which refuses nobody: whoever asks for uploads or their parts may not.
fn without_listing(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut chunk = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = client.read(&mut chunk) {
                    let line = chunk[..length].split(|byte| *byte == b'\n').next().unwrap_or_default();
                    if line.starts_with(b"GET /") && line.windows(7).any(|word| word == b"uploads") {
                        let body = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
                        let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n", body.len());
                        let _ = client.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes());
                        break;
                    }
                    if server.write_all(&chunk[..length]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_list_uploads_starts_anew() {
    let bucket = Aws::shared().bucket();
    let address = without_listing(Aws::shared().address());
    let store = open(&format!("s3://{bucket}"), &format!("http://{address}")).await;
    let bytes = content(40 << 20);
    let source = file_with(&bytes);
    let stored = store.put("big.csv", Upload::file(source.path())).await.unwrap();
    is_whole(&bucket, &stored, &bytes);
    assert_eq!((stored.continued, Aws::shared().open_uploads(&bucket)), (0, 0));
}
