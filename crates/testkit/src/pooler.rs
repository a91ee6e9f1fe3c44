//! A transaction pooler in front of a server: each transaction may run on another session than the one before.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::postgres::{free_address, server_user};
use crate::process::{self, RunDirectory};

/// PgBouncer with `pool_mode = transaction`; stops when it is dropped.
#[derive(Debug)]
pub struct Pooler {
    address: SocketAddr,
    server: Child,
    _directory: RunDirectory,
}

impl Pooler {
    /// In front of `server`, with so many sessions there for each database and user.
    pub fn to(server: SocketAddr, sessions: u32) -> Self {
        let user = server_user();
        let base = process::base_directory();
        let lock = process::lock_base(&base);
        let directory = RunDirectory::create(&base, &lock);
        drop(lock);
        let address = free_address();
        let config = directory.path().join("pgbouncer.ini");
        let users = directory.path().join("users.txt");
        fs::write(&users, "\"postgres\" \"\"\n").expect("write the pooler's users");
        let text = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {sessions}\n\
             max_client_conn = 100\n",
            server.ip(),
            server.port(),
            address.port(),
            users.display()
        );
        fs::write(&config, text).expect("write the pooler's settings");
        let server = process::spawn_server(user.as_ref(), "KILL", &find_pgbouncer(), |command| {
            command.arg("--quiet").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        });
        let pooler = Self { address, server, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the pooler does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        pooler
    }

    /// `url` by way of the pooler.
    pub fn url(&self, url: &str) -> String {
        let start = url.find('@').map_or(0, |at| at + 1);
        let end = url[start..].find('/').map_or(url.len(), |slash| start + slash);
        format!("{}{}{}", &url[..start], self.address, &url[end..])
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.server.kill(); // its clients are gone, or are to be
        let _ = self.server.wait();
    }
}

fn find_pgbouncer() -> PathBuf {
    let found = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].map(Path::new);
    let found = found.into_iter().find(|path| path.exists());
    found.map(Path::to_owned).unwrap_or_else(|| panic!("this test needs PgBouncer; install it with: make test-tools"))
}
