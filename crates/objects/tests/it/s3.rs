//! What only S3 has: versions, odd keys a file system cannot hold, other people's objects.

use objects::{StoreError, Upload, Version};
use testkit::Aws;

use crate::world::{Kind, World, content, open, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_stays_readable_after_its_key_was_overwritten() {
    let aws = Aws::shared();
    let bucket = aws.unique_name("versioned");
    aws.create_bucket(&bucket, true);
    let store = open(&format!("s3://{bucket}"), aws.endpoint()).await;
    let old_bytes = content(20 << 20);
    let first = store.put("x.csv", Upload::stream("test", std::io::Cursor::new(old_bytes.clone()))).await.unwrap();
    let old = store.head("x.csv").await.unwrap();
    assert!(matches!(old.version, Version::Id(_)));
    assert_eq!(first.version, old.version);
    let reader = store.reader(&old).await.unwrap();
    let second = store.put("x.csv", Upload::stream("test", &b"new"[..])).await.unwrap();
    assert_ne!(second.version, old.version);
    assert!(read_all(reader).await.unwrap().0 == old_bytes, "begun before");
    assert!(read_all(store.reader(&old).await.unwrap()).await.unwrap().0 == old_bytes, "begun after");
    let new = store.head("x.csv").await.unwrap();
    assert_eq!(
        new.version.to_string(),
        format!("v:{}", aws.object_header(&bucket, "x.csv", "x-amz-version-id").unwrap())
    );

    let same = store.put("x.csv", Upload::stream("test", &b"new"[..])).await.unwrap();
    assert_ne!(same.version, new.version);
    assert_eq!((same.etag, same.sha256), (new.etag, new.sha256.unwrap()), "the same bytes are known as such");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_etag_pins_the_bytes_in_a_versioned_bucket_too() {
    let aws = Aws::shared();
    let bucket = aws.unique_name("versioned");
    aws.create_bucket(&bucket, true);
    aws.put_object(&bucket, "x.csv", b"old");
    let store = open(&format!("s3://{bucket}"), aws.endpoint()).await;
    let listed = store.list(&"*".parse().unwrap()).next_page().await.unwrap().unwrap().remove(0);
    assert_eq!(listed.version, Version::Etag { etag: listed.etag.clone().unwrap(), size: 3 });
    assert_eq!(read_all(store.reader(&listed).await.unwrap()).await.unwrap().0, b"old");
    aws.put_object(&bucket, "x.csv", b"new");
    assert!(matches!(store.reader(&listed).await, Err(StoreError::ObjectChanged { .. })));
    let now = store.head("x.csv").await.unwrap();
    aws.delete_object(&bucket, "x.csv");
    assert!(matches!(store.head("x.csv").await, Err(StoreError::NotFound { .. })));
    assert_eq!(read_all(store.reader(&now).await.unwrap()).await.unwrap().0, b"new", "a delete mark hides, no more");
}

/// A store rejects nothing that S3 allows: a key is data, never a path.
#[tokio::test(flavor = "multi_thread")]
async fn keys_no_file_system_could_hold_are_objects_like_any_other() {
    let world = World::new(Kind::S3).await;
    let odd = ["../../etc/passwd.csv", "a/./b.csv", "a\\..\\b.csv", "a", "a/b", "..", "x/../y.csv"];
    for key in odd {
        world.put(key, key.as_bytes()).await;
    }
    for key in odd {
        let meta = world.store.head(key).await.unwrap();
        assert_eq!(world.read(&meta).await.unwrap().0, key.as_bytes(), "{key:?}");
    }
    let mut expected = odd.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(world.keys("**").await, expected);
    let longest = "k".repeat(1024 - "team/a/".len());
    world.put(&longest, b"id\n").await;
    assert_eq!(world.keys("kkk*").await, [longest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_marks_and_neighbours_of_the_prefix_are_not_objects_of_the_store() {
    let world = World::new(Kind::S3).await;
    let aws = Aws::shared();
    for key in ["team/a/", "team/a/folder/", "team/ab.csv", "team/a.csv", "other.csv"] {
        aws.put_object(&world.bucket, key, b"");
    }
    world.put("mine.csv", b"id\n").await;
    assert_eq!(world.keys("**").await, ["mine.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_carries_its_type_and_hash() {
    let world = World::new(Kind::S3).await;
    let aws = Aws::shared();
    for length in [3, 17 << 20] {
        let source = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(source.path(), content(length)).unwrap();
        let stored = world.store.put("x.csv", Upload::file(source.path())).await.unwrap();
        let header = |name| aws.object_header(&world.bucket, "team/a/x.csv", name);
        assert_eq!(header("content-type").as_deref(), Some("text/csv"));
        assert_eq!(header("x-amz-meta-aqueduct-sha256"), Some(stored.sha256.to_string()));
    }
    let upload = Upload::stream("test", &b"\x1F\x8B"[..]).content_type("application/gzip");
    world.store.put("x.csv.gz", upload).await.unwrap();
    let found = aws.object_header(&world.bucket, "team/a/x.csv.gz", "content-type");
    assert_eq!(found.as_deref(), Some("application/gzip"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_other_than_the_uploader_vouched_for_are_noticed() {
    let world = World::new(Kind::S3).await;
    world.put("x.csv", b"id\n1\n").await;
    let mut meta = world.store.head("x.csv").await.unwrap();
    meta.sha256 = Some(objects::ContentHash::of(b"something else"));
    let error = world.read(&meta).await.unwrap_err();
    assert!(matches!(error, StoreError::ContentMismatch { .. }), "{error}");
}
