//! A directory and S3 get the same objects.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ingest::key::Keys;
use ingest::local::LocalFile;
use ingest::upload::{Action, Input, Options, Step, UploadError, Uploader, Watch};
use objects::{ContentHash, Store, StoreUrl};
use testkit::Aws;

use crate::room::{DIRTY, GOOD, ROTTEN, Room, code, text};

fn aws_room() -> Room {
    let mut room = Room::new();
    for (name, value) in Aws::shared().env() {
        room = room.env(name, &value);
    }
    room
}

fn outcomes(output: &Output) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(text(&output.stdout)).expect("a document");
    let files = document["files"].as_array().expect("files");
    files.iter().map(|file| file["outcome"].as_str().expect("an outcome").to_owned()).collect()
}

#[test]
fn a_directory_that_may_not_be_entered_fails_alone() {
    let mut room = Room::new().with("in/a.csv", GOOD).with("in/closed/b.csv", GOOD).with("in/z/c.csv", GOOD);
    fs::set_permissions(room.path("in/closed"), Permissions::from_mode(0o000)).expect("close it");
    room.unprivileged();
    let output = room.ingest(&["upload", "in", "--store", "store", "--json"]);
    assert_eq!(code(&output), 5, "{}", text(&output.stderr));
    assert_eq!(outcomes(&output), ["failed", "uploaded", "uploaded"]);
    assert!(text(&output.stderr).contains("error: list in/closed"), "{}", text(&output.stderr));
    let output = room.ingest(&["check", "in/**/*.csv", "--pipeline", "people.toml"]);
    assert_eq!(code(&output), 5, "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).matches("2 records").count(), 2, "{}", text(&output.stdout));
    // A pattern that does not lead there has nothing to do with it.
    for pattern in ["in/*.csv", "in/z*/*.csv", room.path("in/*.csv").to_str().expect("a plain path")] {
        let output = room.ingest(&["upload", pattern, "--store", "store"]);
        assert_eq!(code(&output), 0, "{pattern}: {}", text(&output.stderr));
    }
    fs::set_permissions(room.path("in/closed"), Permissions::from_mode(0o755)).expect("open it");
}

#[test]
fn a_directory_and_s3_get_the_same_objects() {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    let large: String = (0..400_000).fold(String::from("id,name,born\n"), |mut text, id| {
        text.push_str(&format!("{},Ana {},1990-01-31\n", id + 1, id % 1000));
        text
    });
    let room = aws_room().with("in/good.csv", GOOD).with("in/dirty.csv", DIRTY).with("in/large.csv", &large);
    let s3 = format!("s3://{bucket}/base");
    for compress in [&[][..], &["--gzip"], &["--zstd"]] {
        for store in ["store", &s3] {
            let mut args = vec!["upload", "in", "--pipeline", "people.toml", "--json", "--store", store];
            args.extend(compress);
            let output = room.ingest(&args);
            assert_eq!(code(&output), 0, "{}", text(&output.stderr));
            assert_eq!(outcomes(&output), ["uploaded"; 3], "{args:?}");
        }
    }
    let files = room.files_below("store");
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "people/dirty.csv",
            "people/dirty.csv.gz",
            "people/dirty.csv.zst",
            "people/good.csv",
            "people/good.csv.gz",
            "people/good.csv.zst",
            "people/large.csv",
            "people/large.csv.gz",
            "people/large.csv.zst",
        ]
    );
    assert_eq!(aws.keys(&bucket), names.iter().map(|name| format!("base/{name}")).collect::<Vec<_>>());
    for (name, content) in &files {
        let key = format!("base/{name}");
        assert!(aws.get_object(&bucket, &key).as_ref() == Some(content), "{name} differs");
        let hash = aws.object_header(&bucket, &key, "x-amz-meta-aqueduct-sha256");
        assert_eq!(hash, Some(ContentHash::of(content).to_string()));
        let content_type = aws.object_header(&bucket, &key, "content-type").unwrap();
        let expected = match name.rsplit('.').next() {
            Some("gz") => "application/gzip",
            Some("zst") => "application/zstd",
            _ => "text/csv",
        };
        assert_eq!(content_type, expected);
    }
    assert_eq!(aws.open_uploads(&bucket), 0);
    // What was compressed on the way is checked and read like the rest.
    let output = room.ingest(&["check", "store/people/*", "--pipeline", "people.toml", "--json"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stdout));
}

#[test]
fn content_that_is_there_already_is_not_sent_again() {
    let aws = Aws::shared();
    let bucket = aws.unique_name("bucket");
    aws.create_bucket(&bucket, true);
    let s3 = format!("s3://{bucket}");
    let room = aws_room().with("a.csv", GOOD);
    for store in ["store", &s3] {
        let upload = |extra: &[&str]| {
            let mut args = vec!["upload", "a.csv", "--prefix", "in", "--json", "--store", store];
            args.extend(extra);
            outcomes(&room.ingest(&args))
        };
        room.write("a.csv", GOOD);
        assert_eq!(upload(&[]), ["uploaded"]);
        assert_eq!(upload(&[]), ["unchanged"]);
        assert_eq!(upload(&["--gzip"]), ["uploaded"], "another key");
        assert_eq!(upload(&["--gzip"]), ["unchanged"], "compressed anew to the same bytes");
        // The same size, so that only the content tells.
        room.write("a.csv", GOOD.replace("Ana", "Eva"));
        assert_eq!(upload(&["--dry-run"]), ["would_replace"]);
        assert_eq!(upload(&[]), ["replaced"]);
        assert_eq!(upload(&["--force"]), ["replaced"]);
    }
    let stored = aws.get_object(&bucket, "in/a.csv").unwrap();
    assert_eq!(text(&stored), GOOD.replace("Ana", "Eva"));
}

#[test]
fn many_files_are_told_in_their_order() {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    let mut room = aws_room();
    // Of different lengths, so that later ones are done before earlier ones.
    for number in 0..60 {
        let rows = if number % 7 == 0 { 40_000 } else { 1 };
        room = room.with(&format!("in/{number:02}.csv"), format!("id\n{}", "1\n".repeat(rows)));
    }
    let s3 = format!("s3://{bucket}");
    let upload = || {
        let output = room.ingest(&["upload", "in", "--prefix", "raw", "--store", &s3]);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let told = upload();
    let mut lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.pop(), Some("60 files: 60 uploaded"));
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("uploaded in/{number:02}.csv → ")), "{line}");
    }
    assert_eq!(aws.keys(&bucket).len(), 60);
    room.write("in/30.csv", "id\n2\n");
    assert!(upload().ends_with("60 files: 1 replaced, 59 unchanged\n"));
}

#[test]
fn a_store_that_fails_for_one_file_is_not_asked_for_each() {
    let mut room = aws_room();
    for number in 0..30 {
        room = room.with(&format!("in/{number:02}.csv"), GOOD);
    }
    let output = room.ingest(&["upload", "in", "--store", "s3://no-such-bucket-here"]);
    assert_eq!(code(&output), 1);
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("error:").count(), 1, "{errors}");
    assert!(errors.starts_with("error: in/00.csv was not uploaded"), "{errors}");
    assert!(errors.ends_with("note: 29 files were not tried: the store would refuse them too\n"), "{errors}");
}

/// Between the listing and the upload somebody stores something under the key.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_meanwhile_is_looked_at_before_it_is_replaced() {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    let room = Room::new();
    let settings = objects::S3Settings {
        endpoint_url: Some(aws.endpoint().into()),
        region: Some("us-east-1".into()),
        keys: Some(("testing".into(), "testing".into())),
        ..objects::S3Settings::default()
    };
    let store = Store::open_with(&format!("s3://{bucket}").parse().unwrap(), &settings).await.unwrap();
    let inputs: Vec<_> = ["a.csv", "b.csv", "c.csv"]
        .map(|name| {
            room.write(name, GOOD);
            Input::File(LocalFile { path: room.path(name), name: name.into() })
        })
        .into();
    let mut uploader = Uploader::new(Some(store.clone()), options());
    uploader.look(&inputs).await;
    assert!(uploader.has_looked());
    aws.put_object(&bucket, "b.csv", b"somebody else's");
    store.put("c.csv", objects::Upload::bytes("test", GOOD.into())).await.unwrap();
    let watch: Watch = Arc::new(|_| ());
    // The same bytes that came meanwhile may be our own, whose answer got lost.
    for (input, expected) in inputs.iter().zip([Action::Uploaded, Action::Replaced, Action::Uploaded]) {
        assert_eq!(uploader.upload(input, &watch).await.unwrap().action, expected, "{input:?}");
    }
    for key in ["a.csv", "b.csv", "c.csv"] {
        assert_eq!(aws.get_object(&bucket, key).unwrap(), GOOD.as_bytes());
    }
}

#[test]
fn a_file_its_pipeline_refuses_never_reaches_s3() {
    let aws = Aws::shared();
    let bucket = aws.bucket();
    let room = aws_room().with("rotten.csv", ROTTEN);
    let output =
        room.ingest(&["upload", "rotten.csv", "--pipeline", "people.toml", "--store", &format!("s3://{bucket}")]);
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    assert!(aws.keys(&bucket).is_empty());
}

#[test]
fn a_compressed_file_stays_as_it_is() {
    let room = Room::new().with("a.csv", GOOD);
    assert_eq!(code(&room.ingest(&["upload", "a.csv", "--store", "one", "--zstd"])), 0);
    let output = room.ingest(&["upload", "one/a.csv.zst", "--store", "two", "--gzip"]);
    assert_eq!(code(&output), 0);
    assert!(text(&output.stderr).contains("is zstd already and stays as it is"), "{}", text(&output.stderr));
    assert_eq!(room.files_below("two"), room.files_below("one"));
}

/// The file grows between the bytes that were checked and the bytes that would be stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_under_the_upload_is_not_stored() {
    for moment in [Moment::WhileChecked, Moment::BeforeStored] {
        let room = Room::new().with("a.csv", GOOD);
        let path = room.path("a.csv");
        let url = StoreUrl::directory(room.path("store"));
        let store = Store::open_or_create(&url).await.unwrap();
        let options = options();
        let input = Input::File(LocalFile { path: path.clone(), name: "a.csv".into() });
        let done = AtomicBool::new(false);
        let watch: Watch = Arc::new(move |step| {
            let now = match moment {
                Moment::WhileChecked => matches!(step, Step::Read(_)),
                Moment::BeforeStored => matches!(step, Step::Storing { .. }),
            };
            if now && !done.swap(true, Ordering::SeqCst) {
                OpenOptions::new().append(true).open(&path).unwrap().write_all(b"3,Late,\n").unwrap();
            }
        });
        let error = ingest::upload::upload(Some(&store), &input, &options, &watch).await.unwrap_err();
        match moment {
            Moment::WhileChecked => assert!(matches!(error, UploadError::Changed { .. }), "{error:?}"),
            Moment::BeforeStored => {
                assert!(matches!(error, UploadError::Store(objects::StoreError::SourceChanged { .. })), "{error:?}")
            }
        }
        assert_eq!(room.files_below("store"), []);
    }
}

fn options() -> Options {
    Options {
        keys: Keys::new(None, None).expect("no prefix is a prefix"),
        pipeline: None,
        compress: None,
        dry_run: false,
        force: false,
        shown_rejects: 0,
    }
}

#[derive(Clone, Copy)]
enum Moment {
    WhileChecked,
    BeforeStored,
}
