//! What every store promises. Each test runs over a directory and over S3.

use std::io::{Cursor, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use objects::{Compression, ContentHash, Decompressed, Glob, Limits, StoreError, Upload};

use crate::world::{Kind, World, content, read_all};

/// Both kinds under one name each, so that a failure says which.
macro_rules! promise {
    ($name:ident, $world:ident, $body:block) => {
        mod $name {
            use super::*;

            async fn check($world: World) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_a_directory() {
                check(World::new(Kind::Directory).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_s3() {
                check(World::new(Kind::S3).await).await;
            }
        }
    };
}

promise!(a_listing_holds_what_the_glob_means_in_key_order, world, {
    for key in [
        "customers/2.csv",
        "customers/10.csv.gz",
        "customers/a/deep.csv",
        "customers-old/x.csv",
        "customers/notes.txt",
        "orders/1.csv",
        "customers.csv",
        "Customers/case.csv",
    ] {
        world.put(key, b"id\n").await;
    }
    assert_eq!(world.keys("customers/*.csv*").await, ["customers/10.csv.gz", "customers/2.csv"]);
    assert_eq!(world.keys("{customers,orders}/*.csv").await, ["customers/2.csv", "orders/1.csv"]);
    assert_eq!(
        world.keys("**").await,
        [
            "Customers/case.csv",
            "customers-old/x.csv",
            "customers.csv",
            "customers/10.csv.gz",
            "customers/2.csv",
            "customers/a/deep.csv",
            "customers/notes.txt",
            "orders/1.csv",
        ]
    );
    assert_eq!(world.keys("customers/2.csv").await, ["customers/2.csv"]);
    assert_eq!(world.keys("customers/2").await, [""; 0]);
    assert_eq!(world.keys("nothing/*.csv").await, [""; 0]);
});

promise!(a_listing_has_pages_and_loses_nothing_between_them, world, {
    let keys: Vec<String> = (0..1203).map(|number| format!("many/{:02}/{number:05}.csv", number % 7)).collect();
    for chunk in keys.chunks(16) {
        let puts = chunk.iter().map(|key| {
            let store = world.store.clone();
            let key = key.clone();
            tokio::spawn(async move { store.put(&key, Upload::stream("test", Cursor::new(b"id\n"))).await.unwrap() })
        });
        for put in puts.collect::<Vec<_>>() {
            put.await.unwrap();
        }
    }
    let mut expected = keys.clone();
    expected.sort();
    assert_eq!(world.keys("many/**/*.csv").await, expected);
    expected.retain(|key| key.starts_with("many/03/"));
    assert_eq!(world.keys("many/03/*").await, expected);
});

promise!(names_with_glob_characters_can_be_meant_literally, world, {
    for key in ["[table].csv", "t.csv", "a*.csv", "ab.csv", "{a,b}.csv"] {
        world.put(key, b"id\n").await;
    }
    for key in ["[table].csv", "a*.csv", "{a,b}.csv"] {
        let found = world.list(&Glob::literal(key)).await;
        assert_eq!(found.iter().map(|meta| meta.key.as_str()).collect::<Vec<_>>(), [key]);
    }
    assert_eq!(world.keys("[table].csv").await, ["t.csv"]);
});

promise!(names_in_any_script_and_with_odd_characters_come_back_as_they_were, world, {
    let odd = [
        "é/Peña.csv",
        "日本/表.csv",
        "a b+c.csv",
        "100%.csv",
        "%2e%2e/x.csv",
        "a&b<c>\"d'.csv",
        "emoji 🚰.csv",
        "#1?.csv",
        "-rf.csv",
        "$(touch pwned).csv",
        "x'; DROP TABLE y; --.csv",
        "tab\tin name.csv",
        "UPPER.csv",
        "upper.csv",
        "trailing dot.",
        "trailing space ",
        "u\u{202E}turn.csv",
        "e\u{301}.csv",
    ];
    for key in odd {
        let stored = world.put(key, key.as_bytes()).await;
        let meta = world.store.head(key).await.unwrap();
        assert_eq!(meta.version, stored.version, "{key:?}");
        assert_eq!(world.read(&meta).await.unwrap().0, key.as_bytes(), "{key:?}");
    }
    let mut expected = odd.map(str::to_owned).to_vec();
    if world.kind == Kind::Directory {
        // S3 takes a line break in a key; the emulator's router does not.
        world.put("line\nbreak.csv", b"id\n").await;
        expected.push("line\nbreak.csv".into());
    }
    expected.sort();
    assert_eq!(world.keys("**").await, expected);
    let long = format!("{}/{}.csv", "d".repeat(200), "f".repeat(200));
    world.put(&long, b"id\n").await;
    assert_eq!(world.keys("d*/*").await, [long]);
});

promise!(addresses_are_full_and_distinct, world, {
    let uri = world.store.uri_of("a/b c.csv");
    match world.kind {
        Kind::S3 => assert_eq!(uri, format!("s3://{}/team/a/a/b c.csv", world.bucket)),
        Kind::Directory => {
            let root = world.path().canonicalize().unwrap();
            assert_eq!(uri, format!("file://{}/a/b%20c.csv", root.display()));
        }
    }
    assert_ne!(world.store.uri_of("a%20b"), world.store.uri_of("a b"));
});

promise!(the_nearest_keys_help_when_nothing_matches, world, {
    for key in ["customers/2024.csv", "customers/2025.csv", "orders/1.csv", "readme.txt"] {
        world.put(key, b"id\n").await;
    }
    let nearest = |prefix: &'static str| {
        let store = world.store.clone();
        async move { store.nearest_keys(prefix, 2).await.unwrap() }
    };
    assert_eq!(nearest("customers/202").await, ["customers/2024.csv", "customers/2025.csv"]);
    assert_eq!(nearest("customer/").await, ["customers/2024.csv", "customers/2025.csv"]);
    assert_eq!(nearest("orders/2").await, ["orders/1.csv"]);
    assert_eq!(nearest("x/y/z").await.len(), 2);
});

promise!(an_empty_store_lists_nothing_and_has_no_nearest_keys, world, {
    assert_eq!(world.keys("**").await, [""; 0]);
    assert_eq!(world.store.nearest_keys("a/b", 5).await.unwrap(), [""; 0]);
});

promise!(an_object_reads_back_with_its_size_and_hash, world, {
    for length in [0, 1, 100_000, 9 << 20] {
        let bytes = content(length);
        let stored = world.put("x.csv", &bytes).await;
        assert_eq!((stored.size, stored.sha256), (length as u64, ContentHash::of(&bytes)));
        let meta = world.store.head("x.csv").await.unwrap();
        assert_eq!((meta.size, &meta.version, &meta.etag), (length as u64, &stored.version, &stored.etag));
        if world.kind == Kind::S3 {
            assert_eq!(meta.sha256, Some(stored.sha256));
        }
        let reader = world.store.reader(&meta).await.unwrap();
        let progress = reader.progress();
        let (read, summary) = read_all(reader).await.unwrap();
        assert!(read == bytes);
        assert_eq!((summary.bytes, summary.sha256), (length as u64, stored.sha256));
        assert_eq!(progress.bytes(), length as u64);
    }
});

promise!(a_listed_object_can_be_read_without_another_look, world, {
    let stored = world.put("a/x.csv", b"id\n1\n").await;
    let listed = world.list(&"a/*".parse().unwrap()).await.remove(0);
    assert_eq!((listed.size, &listed.version), (5, &stored.version));
    assert!(listed.last_modified.elapsed().unwrap_or_default().as_secs() < 600);
    assert_eq!(world.read(&listed).await.unwrap().0, b"id\n1\n");
});

promise!(forty_mebibytes_go_in_as_parts_and_come_back_the_same, world, {
    let bytes = content((40 << 20) + 123);
    let source = tempfile::NamedTempFile::new().unwrap();
    source.as_file().write_all(&bytes).unwrap();
    let seen = AtomicU64::new(0);
    let count = |new| {
        seen.fetch_add(new, Ordering::Relaxed);
    };
    let stored = world.store.put("big.csv", Upload::file(source.path()).progress(&count)).await.unwrap();
    assert_eq!((stored.size, seen.load(Ordering::Relaxed)), (bytes.len() as u64, bytes.len() as u64));
    let meta = world.store.head("big.csv").await.unwrap();
    assert_eq!(meta.version, stored.version);
    let (read, summary) = world.read(&meta).await.unwrap();
    assert!(read == bytes);
    assert_eq!(summary.sha256, ContentHash::of(&bytes));
    if world.kind == Kind::S3 {
        assert_eq!(meta.sha256, Some(summary.sha256), "a file is hashed before it is sent");
        assert!(stored.etag.unwrap().contains('-'), "went in as parts");
        assert_eq!(testkit::Aws::shared().open_uploads(&world.bucket), 0);
    }
    let streamed = world.put("streamed.csv", &bytes[..17 << 20]).await;
    let meta = world.store.head("streamed.csv").await.unwrap();
    assert_eq!(meta.version, streamed.version);
    assert!(world.read(&meta).await.unwrap().0 == bytes[..17 << 20]);
});

promise!(a_conditional_create_never_replaces, world, {
    for length in [10, 20 << 20] {
        let key = format!("{length}.csv");
        let create = |byte: u8| {
            let (store, key) = (world.store.clone(), key.clone());
            async move {
                let bytes = Cursor::new(vec![byte; length]);
                store.put(&key, Upload::stream("test", bytes).only_if_absent()).await
            }
        };
        create(b'a').await.unwrap();
        assert!(matches!(create(b'b').await, Err(StoreError::AlreadyExists { .. })));
        let meta = world.store.head(&key).await.unwrap();
        assert!(world.read(&meta).await.unwrap().0 == vec![b'a'; length]);
        world.put(&key, b"plain put replaces").await;
        assert_eq!(world.store.head(&key).await.unwrap().size, 18);
    }
    assert_eq!(world.keys("**").await.len(), 2, "nothing is left of the refused ones");
});

promise!(bytes_other_than_announced_are_not_stored, world, {
    for length in [10, 20 << 20] {
        let upload = Upload::stream("standard input", Cursor::new(content(length))).sha256(ContentHash::of(b"other"));
        let error = world.store.put("x.csv", upload).await.unwrap_err();
        assert!(matches!(error, StoreError::SourceChanged { .. }), "{error}");
        assert!(error.to_string().contains("standard input"));
    }
    assert_eq!(world.keys("**").await, [""; 0]);
    if world.kind == Kind::S3 {
        assert_eq!(testkit::Aws::shared().open_uploads(&world.bucket), 0);
    }
});

promise!(a_source_that_fails_half_way_leaves_nothing, world, {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("tape torn"));
            }
            let length = buffer.len().min(self.0);
            self.0 -= length;
            Ok(length)
        }
    }
    for length in [10, 30 << 20] {
        let error = world.store.put("x.csv", Upload::stream("tape", Failing(length))).await.unwrap_err();
        assert!(matches!(error, StoreError::Source { .. }), "{error}");
        assert_eq!(error.to_string(), "read tape");
    }
    assert_eq!(world.keys("**").await, [""; 0]);
    match world.kind {
        Kind::S3 => assert_eq!(testkit::Aws::shared().open_uploads(&world.bucket), 0),
        Kind::Directory => assert_eq!(std::fs::read_dir(world.path()).unwrap().count(), 0),
    }
});

promise!(a_version_that_was_replaced_or_deleted_is_not_read, world, {
    world.put("x.csv", b"id\n1\n").await;
    let old = world.store.head("x.csv").await.unwrap();
    world.put("x.csv", b"id\n2\n").await;
    let error = world.read(&old).await.unwrap_err();
    assert!(matches!(error, StoreError::ObjectChanged { .. }), "{error}");
    assert!(error.is_retryable() && !error.is_permission());
    let new = world.store.head("x.csv").await.unwrap();
    assert_ne!(new.version, old.version);
    world.delete("x.csv");
    assert!(matches!(world.read(&new).await, Err(StoreError::ObjectChanged { .. })));
    assert!(matches!(world.store.head("x.csv").await, Err(StoreError::NotFound { .. })));
});

promise!(an_object_that_changes_while_it_is_read_is_never_mixed, world, {
    let first = content(40 << 20);
    world.put("x.csv", &first).await;
    let meta = world.store.head("x.csv").await.unwrap();
    let mut reader = world.store.reader(&meta).await.unwrap();
    let mut start = vec![0; 100_000];
    let (mut reader, start) = tokio::task::spawn_blocking(move || {
        reader.read_exact(&mut start).unwrap();
        (reader, start)
    })
    .await
    .unwrap();
    assert!(start == first[..100_000]);
    match world.kind {
        Kind::S3 => {
            world.put("x.csv", &vec![b'y'; 40 << 20]).await;
        }
        // Replacing a file leaves the opened one as it was; writing into it does not.
        Kind::Directory => {
            let mut file = std::fs::OpenOptions::new().write(true).open(world.path().join("x.csv")).unwrap();
            file.write_all(b"yyyy").unwrap();
        }
    }
    let (read, error) = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        let error = reader.read_to_end(&mut rest).unwrap_err();
        (rest, StoreError::from_read(error, "test"))
    })
    .await
    .unwrap();
    assert!(matches!(error, StoreError::ObjectChanged { .. }), "{error}");
    assert!(read == first[100_000..100_000 + read.len()], "what came was of the pinned version");
});

promise!(a_compressed_object_is_read_through_to_the_hash_of_its_stored_bytes, world, {
    let rows: Vec<u8> = (0..400_000).flat_map(|row| format!("{row},name {row}\n").into_bytes()).collect();
    let stored = zstd::encode_all(rows.as_slice(), 1).unwrap();
    world.put("rows.csv", &stored).await;
    let meta = world.store.head("rows.csv").await.unwrap();
    let reader = world.store.reader(&meta).await.unwrap();
    let (read, summary) = tokio::task::spawn_blocking(move || {
        let mut stream = Decompressed::new(reader, Limits::default()).unwrap();
        assert_eq!(stream.compression(), Compression::Zstd);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        (read, stream.finish().unwrap())
    })
    .await
    .unwrap();
    assert!(read == rows);
    assert_eq!((summary.bytes, summary.sha256), (stored.len() as u64, ContentHash::of(&stored)));
});

promise!(finish_reads_what_a_reader_left, world, {
    let bytes = content(300_000);
    world.put("x.csv", &bytes).await;
    let reader = world.store.reader(&world.store.head("x.csv").await.unwrap()).await.unwrap();
    let summary = tokio::task::spawn_blocking(move || reader.finish().unwrap()).await.unwrap();
    assert_eq!((summary.bytes, summary.sha256), (300_000, ContentHash::of(&bytes)));
});

promise!(two_uploads_of_one_key_leave_one_whole_object, world, {
    let puts: Vec<_> = (0..8_u8)
        .map(|number| {
            let store = world.store.clone();
            tokio::spawn(async move {
                let bytes = Cursor::new(vec![b'a' + number; 100_000]);
                store.put("x.csv", Upload::stream("test", bytes)).await.unwrap()
            })
        })
        .collect();
    for put in puts {
        put.await.unwrap();
    }
    let (bytes, _) = world.read(&world.store.head("x.csv").await.unwrap()).await.unwrap();
    assert_eq!(bytes.len(), 100_000);
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
});
