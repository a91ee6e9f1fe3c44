//! A store of its own for each test: a bucket of the emulator, or a temporary directory.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use objects::{Glob, ObjectMeta, ObjectReader, ReadSummary, S3Settings, Store, StoreError, StoreUrl, Upload, Uploaded};
use tempfile::TempDir;
use testkit::Aws;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Directory,
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) kind: Kind,
    pub(crate) bucket: String,
    directory: TempDir,
}

impl World {
    /// An empty store; in S3 below a prefix of the bucket, so that prefixes take part in every test.
    pub(crate) async fn new(kind: Kind) -> Self {
        let directory = TempDir::new().unwrap();
        match kind {
            Kind::Directory => {
                let store = Store::open(&StoreUrl::directory(directory.path())).await.unwrap();
                Self { store, kind, bucket: String::new(), directory }
            }
            Kind::S3 => {
                let bucket = Aws::shared().bucket();
                let store = open(&format!("s3://{bucket}/team/a"), Aws::shared().endpoint()).await;
                Self { store, kind, bucket, directory }
            }
        }
    }

    /// The store's directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn put(&self, key: &str, content: &[u8]) -> Uploaded {
        let upload = Upload::stream("test", std::io::Cursor::new(content.to_vec()));
        self.store.put(key, upload).await.unwrap_or_else(|error| panic!("put {key:?}: {error:?}"))
    }

    pub(crate) fn delete(&self, key: &str) {
        match self.kind {
            Kind::Directory => std::fs::remove_file(self.path().join(key)).unwrap(),
            Kind::S3 => Aws::shared().delete_object(&self.bucket, &format!("team/a/{key}")),
        }
    }

    pub(crate) async fn keys(&self, glob: &str) -> Vec<String> {
        self.list(&glob.parse().unwrap()).await.into_iter().map(|meta| meta.key).collect()
    }

    pub(crate) async fn list(&self, glob: &Glob) -> Vec<ObjectMeta> {
        let mut lister = self.store.list(glob);
        let mut all = Vec::new();
        while let Some(page) = lister.next_page().await.unwrap() {
            assert!((1..=1000).contains(&page.len()), "a page of {}", page.len());
            all.extend(page);
        }
        all
    }

    pub(crate) async fn read(&self, meta: &ObjectMeta) -> Result<(Vec<u8>, ReadSummary), StoreError> {
        read_all(self.store.reader(meta).await?).await
    }
}

pub(crate) fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        endpoint_url: Some(endpoint.to_owned()),
        region: Some("us-east-1".into()),
        keys: Some(("testing".into(), "testing".into())),
        ..S3Settings::default()
    }
}

pub(crate) async fn open(url: &str, endpoint: &str) -> Store {
    Store::open_with(&url.parse().unwrap(), &settings(endpoint)).await.unwrap()
}

/// Reads as the runner does: on a blocking thread.
pub(crate) async fn read_all(mut reader: ObjectReader) -> Result<(Vec<u8>, ReadSummary), StoreError> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|error| StoreError::from_read(error, "test"))?;
        Ok((bytes, reader.finish()?))
    })
    .await
    .unwrap()
}

/// A service of the test's own: for the head of each request the bytes that are sent back before the connection closes.
pub(crate) fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    match stream.read(&mut chunk) {
                        Ok(length @ 1..) => request.extend_from_slice(&chunk[..length]),
                        _ => return,
                    }
                }
                // A client that has heard enough is gone by now.
                let _ = stream.write_all(&answer(&String::from_utf8_lossy(&request)));
            });
        }
    });
    format!("http://{address}")
}

/// An answer with a body whose length it says, and `headers`, each with its line end.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// Bytes that no two places share, so that a piece out of place shows.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}
