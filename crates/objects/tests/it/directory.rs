//! What only a directory can do to a reader.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use objects::{Glob, SkipReason, Store, StoreError, StoreUrl, Upload};

use crate::world::{Kind, World, read_all};

async fn skipped(world: &World, glob: &str) -> Vec<(String, SkipReason)> {
    let mut lister = world.store.list(&glob.parse().unwrap());
    while lister.next_page().await.unwrap().is_some() {}
    let mut skipped: Vec<_> = lister.skipped().iter().map(|skip| (skip.name.clone(), skip.reason)).collect();
    assert_eq!(lister.skipped_count(), skipped.len() as u64);
    skipped.sort_by(|one, other| one.0.cmp(&other.0));
    skipped
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_never_followed_and_always_reported() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.csv"), "password\n").unwrap();
    let world = World::new(Kind::Directory).await;
    world.put("data/real.csv", b"id\n").await;
    symlink(outside.path().join("secret.csv"), world.path().join("data/link.csv")).unwrap();
    symlink(outside.path(), world.path().join("linked")).unwrap();
    symlink(world.path(), world.path().join("loop")).unwrap();
    symlink("nowhere", world.path().join("dangling.csv")).unwrap();

    assert_eq!(world.keys("**/*.csv").await, ["data/real.csv"]);
    let expected =
        ["dangling.csv", "data/link.csv", "linked", "loop"].map(|name| (name.into(), SkipReason::SymbolicLink));
    assert_eq!(skipped(&world, "**/*.csv").await, expected);
    assert_eq!(skipped(&world, "data/r*.csv").await, [], "only what could have matched is worth a word");

    for key in ["data/link.csv", "linked/secret.csv", "loop/data/real.csv", "dangling.csv"] {
        let error = world.store.head(key).await.unwrap_err();
        assert!(matches!(error, StoreError::SymbolicLink { .. }), "{key}: {error}");
        let mut meta = world.store.head("data/real.csv").await.unwrap();
        meta.key = key.into();
        assert!(matches!(world.store.reader(&meta).await, Err(StoreError::SymbolicLink { .. })), "{key}");
    }
    let error = world.store.put("linked/new.csv", Upload::stream("test", &b"id\n"[..])).await.unwrap_err();
    assert!(matches!(error, StoreError::SymbolicLink { .. }), "{error}");
    assert!(!outside.path().join("new.csv").exists());
    world.put("data/link.csv", b"replaces the link, not its target\n").await;
    assert_eq!(fs::read_to_string(outside.path().join("secret.csv")).unwrap(), "password\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_never_lead_out_of_the_directory() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("store");
    let store = Store::open_or_create(&StoreUrl::directory(&root)).await.unwrap();
    for key in
        ["../out.csv", "a/../../out.csv", "/abs/out.csv", "a//b.csv", "a/./b.csv", "a\\..\\b.csv", "a/", "", ".."]
    {
        for error in [
            store.put(key, Upload::stream("test", &b"id\n"[..])).await.unwrap_err(),
            store.head(key).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::UnsafeKey { .. }), "{key:?}: {error}");
        }
    }
    let names: Vec<_> = fs::read_dir(above.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["store"]);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_we_do_not_read_are_reported() {
    let world = World::new(Kind::Directory).await;
    world.put("good.csv", b"id\n").await;
    fs::write(world.path().join(".hidden.csv"), "id\n").unwrap();
    fs::write(world.path().join(".aqueduct-upload-0123456789abcdef"), "half").unwrap();
    fs::write(world.path().join("back\\slash.csv"), "id\n").unwrap();
    fs::write(world.path().join(std::ffi::OsStr::from_bytes(b"bad\xFF.csv")), "id\n").unwrap();
    fs::create_dir(world.path().join("folder.csv")).unwrap();
    fs::create_dir(world.path().join(".git")).unwrap();
    fs::write(world.path().join(".git/x.csv"), "id\n").unwrap();
    let pipe = world.path().join("pipe.csv");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _listener = std::os::unix::net::UnixListener::bind(world.path().join("socket.csv")).unwrap();
    assert_eq!(world.keys("**").await, ["good.csv"]);
    assert_eq!(
        skipped(&world, "**/*.csv").await,
        [
            (".hidden.csv".into(), SkipReason::Hidden),
            ("back\\slash.csv".into(), SkipReason::Backslash),
            ("bad\u{FFFD}.csv".into(), SkipReason::NotUtf8),
            ("pipe.csv".into(), SkipReason::NotAFile),
            ("socket.csv".into(), SkipReason::NotAFile),
        ]
    );
    assert_eq!(world.list(&Glob::literal(".hidden.csv")).await.len(), 1, "unless it is named");
    let error = world.store.head("pipe.csv").await.unwrap_err();
    assert!(error.to_string().ends_with("is a device, pipe or socket, not a regular file"), "{error}");
    let mut meta = world.store.head("good.csv").await.unwrap();
    meta.key = "pipe.csv".into();
    assert!(matches!(world.store.reader(&meta).await, Err(StoreError::NotAFile { .. })), "and does not hang");
    assert!(world.store.head("folder.csv").await.unwrap_err().to_string().contains("is a directory"));
    let error = world.store.put("folder.csv", Upload::stream("test", &b"id\n"[..])).await.unwrap_err();
    assert!(error.to_string().contains("is a directory"), "{error}");
    let error = world.store.put("good.csv/below.csv", Upload::stream("test", &b"id\n"[..])).await.unwrap_err();
    assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_still_being_written_by_its_name_waits_until_it_has_its_own() {
    let world = World::new(Kind::Directory).await;
    world.put("a.csv", b"id\n").await;
    let unfinished = ["b.csv.part", "c.csv.TMP", "d.csv.filepart", "e.csv.partial", "f.csv.crdownload"];
    for name in unfinished {
        fs::write(world.path().join(name), "id\n1").unwrap();
    }
    world.put("part.csv", b"id\n").await;
    assert_eq!(world.keys("*.csv*").await, ["a.csv", "part.csv"]);
    assert_eq!(skipped(&world, "*.csv*").await, unfinished.map(|name| (name.into(), SkipReason::Unfinished)));
    fs::rename(world.path().join("b.csv.part"), world.path().join("b.csv")).unwrap();
    assert_eq!(world.keys("*.csv*").await, ["a.csv", "b.csv", "part.csv"]);
    // Somebody who asks for them by name gets them.
    assert_eq!(world.keys("*.csv.filepart").await, ["d.csv.filepart"]);
    assert_eq!(world.list(&Glob::literal("e.csv.partial")).await.len(), 1);
    assert_eq!(world.keys("*.{csv,csv.partial}").await, ["a.csv", "b.csv", "e.csv.partial", "part.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_two_names_is_two_objects() {
    let world = World::new(Kind::Directory).await;
    world.put("a.csv", b"id\n1\n").await;
    fs::hard_link(world.path().join("a.csv"), world.path().join("b.csv")).unwrap();
    let objects = world.list(&"*.csv".parse().unwrap()).await;
    assert_eq!(objects.len(), 2);
    for object in &objects {
        assert_eq!(world.read(object).await.unwrap().0, b"id\n1\n");
    }
    // Writing one anew leaves the other as it was.
    world.put("b.csv", b"id\n2\n").await;
    assert_eq!(fs::read(world.path().join("a.csv")).unwrap(), b"id\n1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_in_the_future_or_before_1970_is_only_a_time() {
    let world = World::new(Kind::Directory).await;
    let in_2100 = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_102_444_800);
    let in_1965 = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(157_766_400);
    for (name, time) in [("future.csv", in_2100), ("past.csv", in_1965)] {
        world.put(name, b"id\n").await;
        fs::File::options().write(true).open(world.path().join(name)).unwrap().set_modified(time).unwrap();
        let object = world.store.head(name).await.unwrap();
        assert_eq!(object.last_modified, time);
        assert_eq!(world.read(&object).await.unwrap().0, b"id\n");
    }
    assert_eq!(world.keys("*.csv").await, ["future.csv", "past.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_entered_to_a_depth_and_what_is_deeper_is_told() {
    let world = World::new(Kind::Directory).await;
    world.put("z.csv", b"id\n").await;
    let deep = |levels: usize| "d/".repeat(levels);
    world.put(&format!("{}x.csv", deep(64)), b"id\n").await;
    world.put(&format!("{}y.csv", deep(65)), b"id\n").await;
    assert_eq!(world.keys("**/*.csv").await, [format!("{}x.csv", deep(64)), "z.csv".into()]);
    assert_eq!(skipped(&world, "**/*.csv").await, [(deep(65).trim_end_matches('/').into(), SkipReason::TooDeep)]);
    let mut lister = world.store.list(&"**/*.csv".parse().unwrap());
    while lister.next_page().await.unwrap().is_some() {}
    assert_eq!(lister.unlisted_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grows_or_shrinks_is_not_a_version() {
    let world = World::new(Kind::Directory).await;
    for change in [&b"id\n1\n2\n3\n"[..], b"id\n"] {
        world.put("x.csv", b"id\n1\n").await;
        let meta = world.store.head("x.csv").await.unwrap();
        let reader = world.store.reader(&meta).await.unwrap();
        fs::write(world.path().join("x.csv"), change).unwrap();
        assert!(matches!(read_all(reader).await, Err(StoreError::ObjectChanged { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_replaced_while_it_is_read_stays_the_one_that_was_opened() {
    let world = World::new(Kind::Directory).await;
    world.put("x.csv", b"id\n1\n").await;
    let meta = world.store.head("x.csv").await.unwrap();
    let reader = world.store.reader(&meta).await.unwrap();
    world.put("x.csv", b"other\n").await;
    assert_eq!(read_all(reader).await.unwrap().0, b"id\n1\n");
}

/// Two files swapped in a loop, as a careless producer or an attacker would; every read is one of them whole, or refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_swapped_all_the_time_never_yields_a_mixture_nor_the_links_target() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), vec![b'!'; 50_000]).unwrap();
    let world = World::new(Kind::Directory).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (path, target, ended) = (world.path().to_owned(), outside.path().to_owned(), stop.clone());
    let swapper = std::thread::spawn(move || {
        let temporary = path.join(".next");
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            for byte in [b'a', b'b'] {
                fs::write(&temporary, vec![byte; 50_000]).unwrap();
                fs::rename(&temporary, path.join("x.csv")).unwrap();
                symlink(&target, &temporary).unwrap();
                fs::rename(&temporary, path.join("x.csv")).unwrap();
            }
        }
    });
    let (mut whole, mut refused) = (0, 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while whole < 50 || refused < 50 {
        assert!(std::time::Instant::now() < deadline, "{whole} whole, {refused} refused");
        let Ok(meta) = world.store.head("x.csv").await else {
            refused += 1;
            continue;
        };
        match world.read(&meta).await {
            Ok((bytes, _)) => {
                assert!(bytes.len() == 50_000 && bytes.iter().all(|byte| *byte == bytes[0] && b"ab".contains(byte)));
                whole += 1;
            }
            Err(error) => {
                assert!(matches!(error, StoreError::ObjectChanged { .. } | StoreError::SymbolicLink { .. }), "{error}");
                refused += 1;
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_on_the_way_swapped_all_the_time_never_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.csv"), "secret").unwrap();
    let world = World::new(Kind::Directory).await;
    world.put("real/x.csv", b"id\n").await;
    symlink(outside.path(), world.path().join("link")).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (path, ended) = (world.path().to_owned(), stop.clone());
    let swapper = std::thread::spawn(move || {
        let rename = |from: &str, to: &str| fs::rename(path.join(from), path.join(to)).unwrap();
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            for name in ["real", "link"] {
                rename(name, "way");
                std::thread::yield_now();
                rename("way", name);
            }
        }
    });
    let (mut whole, mut refused) = (0, 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while whole < 50 || refused < 50 {
        assert!(std::time::Instant::now() < deadline, "{whole} whole, {refused} refused");
        let read = async {
            let meta = world.store.head("way/x.csv").await?;
            world.read(&meta).await
        };
        match read.await {
            Ok((bytes, _)) => {
                assert_eq!(bytes, b"id\n");
                whole += 1;
            }
            Err(StoreError::NotFound { .. } | StoreError::ObjectChanged { .. } | StoreError::SymbolicLink { .. }) => {
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        for object in world.list(&"way/*.csv".parse().unwrap()).await {
            assert_eq!(object.size, 3, "listed through the link");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_as_private_as_its_source() {
    let world = World::new(Kind::Directory).await;
    let source = tempfile::NamedTempFile::new().unwrap();
    for (mode, expected) in [(0o600, 0o600), (0o644, 0o644), (0o777, 0o644), (0o640, 0o640)] {
        fs::set_permissions(source.path(), fs::Permissions::from_mode(mode)).unwrap();
        world.store.put("x.csv", Upload::file(source.path())).await.unwrap();
        assert_eq!(fs::metadata(world.path().join("x.csv")).unwrap().permissions().mode() & 0o777, expected);
    }
    world.put("x.csv", b"from a stream").await;
    assert_eq!(fs::metadata(world.path().join("x.csv")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_store_says_so_and_writing_makes_it() {
    let above = tempfile::tempdir().unwrap();
    let url: StoreUrl = above.path().join("a/b").to_str().unwrap().parse().unwrap();
    let error = Store::open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::DirectoryMissing { .. }), "{error}");
    Store::open_or_create(&url).await.unwrap();
    Store::open(&url).await.unwrap();
    fs::write(above.path().join("file"), "x").unwrap();
    for path in ["file", "file/below"] {
        let url = StoreUrl::directory(above.path().join(path));
        assert!(matches!(Store::open(&url).await, Err(StoreError::NotADirectory { .. })), "{path}");
        assert!(matches!(Store::open_or_create(&url).await, Err(StoreError::NotADirectory { .. })), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_file_can_be_read_without_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("[odd].csv");
    fs::write(&path, "id\n1\n").unwrap();
    symlink(&path, directory.path().join("link.csv")).unwrap();
    for name in ["[odd].csv", "link.csv"] {
        let (store, key) = Store::of_file(&directory.path().join(name)).unwrap();
        assert_eq!(key, "[odd].csv", "a link a person names is followed");
        let meta = store.head(&key).await.unwrap();
        assert_eq!(read_all(store.reader(&meta).await.unwrap()).await.unwrap().0, b"id\n1\n");
    }
    let error = Store::of_file(&directory.path().join("none.csv")).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    assert!(Store::of_file(directory.path()).unwrap_err().to_string().contains("is a directory"));
    assert!(Store::of_file(Path::new("/dev/zero")).unwrap_err().to_string().contains("is a device"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_regular_files_are_uploaded() {
    let world = World::new(Kind::Directory).await;
    let put = |path: &str| {
        let upload = Upload::file(path);
        world.store.put("x.csv", upload)
    };
    assert!(matches!(put("/dev/zero").await, Err(StoreError::NotAFile { .. })));
    assert!(matches!(put("/").await, Err(StoreError::NotAFile { kind: "a directory", .. })));
    assert!(matches!(put("/does/not/exist").await, Err(StoreError::NotFound { .. })));
}
