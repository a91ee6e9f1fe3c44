//! What the servers promise to the tests that use them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{Aws, Direction, PASSWORD_GROUP, Postgres, PostgresOptions, Proxy};

#[test]
fn two_databases_are_independent_and_gone_afterwards() {
    let first = Postgres::database();
    let second = Postgres::database();
    first.psql("create table t (n int); insert into t values (1), (2)");
    assert_eq!(first.psql("select n, null, 'x' from t order by n"), "1||x\n2||x");
    let error = second.try_psql("select * from t").unwrap_err();
    assert!(error.contains("relation \"t\" does not exist"), "{error}");

    let count = format!("select count(*) from pg_database where datname = '{}'", first.name());
    assert_eq!(second.psql(&count), "1");
    drop(first);
    assert_eq!(second.psql(&count), "0");
}

#[test]
fn a_role_of_the_password_group_needs_its_password() {
    let cluster = Postgres::private(PostgresOptions::default());
    let database = cluster.create_database();
    database.psql(&format!("create role reader login password 'right' in role {PASSWORD_GROUP}"));
    let psql = |password| {
        let url = database.url_as("reader", Some(password));
        Command::new("psql").args(["-X", "-A", "-t", "-d", &url, "-c", "select current_user"]).output().unwrap()
    };
    assert_eq!(psql("right").stdout, b"reader\n");
    let refused = String::from_utf8(psql("wrong").stderr).unwrap();
    assert!(refused.contains("password authentication failed"), "{refused}");
}

#[test]
fn a_killed_cluster_comes_back_on_the_same_port_with_what_was_committed() {
    let mut cluster = Postgres::private(PostgresOptions {
        settings: vec![("application_name".into(), "it's set".into())],
        ..PostgresOptions::default()
    });
    let database = cluster.create_database();
    assert_eq!(database.psql("show application_name"), "psql", "psql names itself");
    assert_eq!(database.psql("select boot_val is distinct from reset_val from pg_settings where name = 'fsync'"), "t");
    let address = cluster.address();
    database.psql("create table t (n int); insert into t values (7)");

    cluster.kill_immediate();
    assert!(database.try_psql("select 1").is_err());
    cluster.start();
    assert_eq!(cluster.address(), address);
    assert_eq!(database.psql("select n from t"), "7");
    assert!(cluster.log().contains("not properly shut down"), "{}", cluster.log());

    cluster.stop();
    assert!(database.try_psql("select 1").is_err());
    cluster.start();
    assert_eq!(database.psql("select n from t"), "7");
}

#[test]
fn tls_is_proven_by_the_certificate_for_localhost_only() {
    let cluster = Postgres::private(PostgresOptions {
        ssl: true,
        hba: vec!["hostnossl all refused 127.0.0.1/32 reject".into()],
        ..PostgresOptions::default()
    });
    let authority = cluster.ca_certificate();
    let psql = |host: &str, mode: &str, user: &str| {
        let port = cluster.address().port();
        let authority = authority.display();
        let url = format!("postgres://{user}@{host}:{port}/postgres?sslmode={mode}&sslrootcert={authority}");
        let query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        let output = Command::new("psql").args(["-X", "-A", "-t", "-d", &url, "-c", query]).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(psql("localhost", "verify-full", "postgres"), ("t\n".into(), String::new()));
    assert!(psql("127.0.0.1", "verify-full", "postgres").1.contains("does not match host name"));
    assert_eq!(psql("127.0.0.1", "disable", "postgres"), ("f\n".into(), String::new()));
    assert!(psql("127.0.0.1", "disable", "refused").1.contains("pg_hba.conf rejects"));
}

#[test]
fn a_cut_on_the_way_to_the_database_is_an_error_and_the_next_connection_works() {
    let cluster = Postgres::private(PostgresOptions::default());
    let proxy = Proxy::to(cluster.address());
    let url = proxy.url(&cluster.url());
    let psql = || Command::new("psql").args(["-X", "-A", "-t", "-d", &url, "-c", "select 1"]).output().unwrap();
    assert_eq!(psql().stdout, b"1\n");
    let whole = proxy.bytes(Direction::ToServer);
    proxy.cut_after(Direction::ToServer, whole / 2);
    assert!(!psql().status.success());
    assert_eq!(psql().stdout, b"1\n");
    assert_eq!(proxy.cuts(), 1);
}

#[test]
fn objects_are_stored_read_listed_versioned_and_deleted() {
    let aws = Aws::shared();
    let bucket = aws.unique_name("versions");
    aws.create_bucket(&bucket, true);
    let key = "folder/a b&é+?.csv";
    let first = aws.put_object(&bucket, key, b"id\n1\n").unwrap();
    let second = aws.put_object(&bucket, key, b"id\n2\n").unwrap();
    assert_ne!(first, second);
    assert_eq!(aws.get_object(&bucket, key).as_deref(), Some(b"id\n2\n".as_slice()));
    assert_eq!(aws.object_header(&bucket, key, "content-length").as_deref(), Some("5"));
    assert_eq!(aws.keys(&bucket), [key]);
    assert_eq!(aws.open_uploads(&bucket), 0);
    aws.delete_object(&bucket, key);
    assert_eq!(aws.get_object(&bucket, key), None);
    assert!(aws.keys(&bucket).is_empty());

    let plain = aws.bucket();
    assert_eq!(aws.put_object(&plain, "x.csv", b"\x00\xff\r\n"), None, "this bucket keeps no versions");
    assert_eq!(aws.get_object(&plain, "x.csv").as_deref(), Some(b"\x00\xff\r\n".as_slice()));
}

#[test]
fn secrets_are_stored_and_rotated() {
    let aws = Aws::shared();
    let name = aws.unique_name("secret");
    aws.create_secret(&name, r#"{"username":"u","password":"p\"\\"}"#);
    aws.put_secret(&name, r#"{"username":"u","password":"q"}"#);
}

/// The test runs itself as a child process, kills the child while its servers run, and looks for what is left.
#[test]
fn nothing_is_left_running_when_a_test_process_is_killed() {
    const CHILD: &str = "TESTKIT_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let cluster = Postgres::private(PostgresOptions::default());
        // The first server is spawned on behalf of a thread that ends before the process does.
        let aws = std::thread::spawn(|| Aws::shared().address()).join().unwrap();
        println!("servers {} {aws}", cluster.address());
        std::io::stdout().flush().unwrap();
        std::thread::sleep(Duration::from_secs(600)); // until the parent kills us
        return;
    }
    let name = "nothing_is_left_running_when_a_test_process_is_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env_remove("TEST_AWS_ENDPOINT")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.contains("servers ")).unwrap();
    let words = line.split("servers ").nth(1).unwrap().split_whitespace();
    let servers: Vec<SocketAddr> = words.map(|word| word.parse().unwrap()).collect();
    assert_eq!(servers.len(), 2);
    assert!(servers.iter().all(|address| TcpStream::connect(address).is_ok()), "both servers run");
    let run = format!("run-{}-", child.id());
    assert!(processes_that_mention(&run) > 0);

    child.kill().unwrap();
    child.wait().unwrap();

    let killed = Instant::now();
    while servers.iter().any(|address| TcpStream::connect(address).is_ok()) || processes_that_mention(&run) > 0 {
        assert!(killed.elapsed() < Duration::from_secs(30), "a server outlives its test process");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The next start on this machine takes the dead process's files away.
    let _cluster = Postgres::private(PostgresOptions::default());
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let base = std::env::temp_dir().join(format!("aqueduct-testkit-{uid}"));
    let left = std::fs::read_dir(base).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&run)).count(), 0);
}

fn processes_that_mention(text: &str) -> usize {
    let processes = std::fs::read_dir(Path::new("/proc")).into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}
