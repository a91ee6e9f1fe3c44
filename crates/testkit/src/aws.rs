//! The AWS services as an emulator over real HTTP, and the little HTTP a test needs to set the scene.
//!
//! Code under test talks to the emulator with its own SDK; what stands here speaks raw HTTP, so that a mistake in our
//! use of the SDK cannot hide itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::process::{self, RunDirectory};

const REGION: &str = "us-east-1";
/// Importing the emulator takes a second on an idle machine and much longer on a busy one.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// An AWS emulator. All tests of a process share one; they stay apart by names of their own.
#[derive(Debug)]
pub struct Aws {
    endpoint: String,
    /// Both end with the process.
    _server: Option<(Child, RunDirectory)>,
}

/// An answer of the emulator.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

static SHARED: LazyLock<Aws> = LazyLock::new(|| match outside_endpoint() {
    Some(endpoint) => Aws { endpoint, _server: None },
    None => Aws::start(),
});

fn outside_endpoint() -> Option<String> {
    let endpoint = std::env::var("TEST_AWS_ENDPOINT").ok()?;
    Some(endpoint.trim_end_matches('/').to_owned()).filter(|endpoint| !endpoint.is_empty())
}

impl Aws {
    /// The emulator of this process, started at the first call.
    pub fn shared() -> &'static Self {
        if outside_endpoint().is_none() {
            find_moto(); // each test says what is missing; the static would say it to the first one only
        }
        &SHARED
    }

    /// For example `http://127.0.0.1:43210`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where the endpoint listens, for a [`crate::Proxy`] in front of it.
    pub fn address(&self) -> SocketAddr {
        let authority = self.endpoint.strip_prefix("http://").expect("the endpoint is http");
        let mut found = authority.to_socket_addrs().unwrap_or_else(|error| panic!("look up {authority}: {error}"));
        found.next().unwrap_or_else(|| panic!("{authority} has no address"))
    }

    /// What the SDK and our binaries read: endpoint, region, keys that open nothing, and no other source of any of
    /// them.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "testing".into()),
            ("AWS_SECRET_ACCESS_KEY", "testing".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("AWS_CONFIG_FILE", "/dev/null".into()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ]
    }

    /// A name no other test has, starting with `prefix`.
    pub fn unique_name(&self, prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // An emulator given from outside outlives this process, and process ids come back.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        format!("{prefix}-{started:x}-{}-{number}", std::process::id())
    }

    /// A new bucket with a name of its own.
    pub fn bucket(&self) -> String {
        let name = self.unique_name("bucket");
        self.create_bucket(&name, false);
        name
    }

    pub fn create_bucket(&self, name: &str, versioned: bool) {
        self.s3("PUT", &format!("/{name}"), &[], b"").expect_success("create a bucket");
        if versioned {
            let body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
            self.s3("PUT", &format!("/{name}?versioning"), &[], body).expect_success("turn versions on");
        }
    }

    /// Stores an object and gives its version id, when the bucket keeps versions.
    pub fn put_object(&self, bucket: &str, key: &str, body: &[u8]) -> Option<String> {
        self.put_object_with(bucket, key, &[], body)
    }

    /// The same with headers of its own, such as `Content-Encoding`.
    pub fn put_object_with(&self, bucket: &str, key: &str, headers: &[(&str, String)], body: &[u8]) -> Option<String> {
        let answer = self.s3("PUT", &object_path(bucket, key), headers, body);
        answer.expect_success("put an object");
        answer.header("x-amz-version-id").map(str::to_owned)
    }

    /// The newest content of a key, or `None` when there is no such object.
    pub fn get_object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.s3("GET", &object_path(bucket, key), &[], b"");
        if answer.status == 404 {
            return None;
        }
        answer.expect_success("get an object");
        Some(answer.body)
    }

    /// One header of an object, such as `content-type` or `x-amz-meta-sha256`.
    pub fn object_header(&self, bucket: &str, key: &str, name: &str) -> Option<String> {
        let answer = self.s3("HEAD", &object_path(bucket, key), &[], b"");
        answer.expect_success("head an object");
        answer.header(name).map(str::to_owned)
    }

    pub fn delete_object(&self, bucket: &str, key: &str) {
        self.s3("DELETE", &object_path(bucket, key), &[], b"").expect_success("delete an object");
    }

    /// The keys of a bucket, in order; at most 1,000, the emulator's first page.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let answer = self.s3("GET", &format!("/{bucket}?list-type=2"), &[], b"");
        answer.expect_success("list a bucket");
        let text = String::from_utf8_lossy(&answer.body);
        text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()).map(unescape_xml).collect()
    }

    /// Uploads nobody completed or aborted.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        let answer = self.s3("GET", &format!("/{bucket}?uploads"), &[], b"");
        answer.expect_success("list uploads");
        String::from_utf8_lossy(&answer.body).matches("<UploadId>").count()
    }

    /// Parts of the uploads of a key that nobody completed or aborted, those only begun included in neither.
    pub fn open_parts(&self, bucket: &str, key: &str) -> usize {
        let answer = self.s3("GET", &format!("/{bucket}?uploads&prefix={key}"), &[], b"");
        answer.expect_success("list uploads");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let ids = text.split("<UploadId>").skip(1).filter_map(|rest| rest.split("</UploadId>").next());
        let parts = |id: &str| {
            let answer = self.s3("GET", &format!("{}?uploadId={id}", object_path(bucket, key)), &[], b"");
            // Completed or aborted in between.
            if answer.status == 404 { 0 } else { String::from_utf8_lossy(&answer.body).matches("<PartNumber>").count() }
        };
        ids.map(parts).sum()
    }

    /// Stores a secret in Secrets Manager; its name is `name`.
    pub fn create_secret(&self, name: &str, value: &str) {
        self.secret_call("CreateSecret", "Name", name, value);
    }

    /// Gives a secret a new value, as a rotation does.
    pub fn put_secret(&self, name: &str, value: &str) {
        self.secret_call("PutSecretValue", "SecretId", name, value);
    }

    fn secret_call(&self, action: &str, name_key: &str, name: &str, value: &str) {
        let (name, value) = (json_string(name), json_string(value));
        let token = json_string(&self.unique_name("aqueduct-testkit-request-token"));
        let body = format!("{{\"{name_key}\":{name},\"SecretString\":{value},\"ClientRequestToken\":{token}}}");
        let headers = [
            ("X-Amz-Target", format!("secretsmanager.{action}")),
            ("Content-Type", "application/x-amz-json-1.1".into()),
        ];
        self.call("secretsmanager", "POST", "/", &headers, body.as_bytes()).expect_success("store a secret");
    }

    fn s3(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Answer {
        self.call("s3", method, path, headers, body)
    }

    /// One request on a connection of its own.
    fn call(&self, service: &str, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Answer {
        let address = self.address();
        // The emulator checks no signature but reads service and region from where the signature says them.
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=testing/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0\r\n",
            body.len()
        )
        .into_bytes();
        for (name, value) in headers {
            request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        let mut stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to the AWS emulator: {error}"));
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a read timeout");
        stream.write_all(&request).unwrap_or_else(|error| panic!("send to the AWS emulator: {error}"));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("read from the AWS emulator: {error}"));
        Answer::parse(&bytes).unwrap_or_else(|| panic!("the AWS emulator answered something other than HTTP"))
    }

    fn start() -> Self {
        let program = find_moto();
        let base = process::base_directory();
        let lock = process::lock_base(&base);
        let directory = RunDirectory::create(&base, &lock);
        drop(lock);
        let path = directory.path().join("moto.log");
        let log = fs::File::create(&path).expect("create the emulator's log");
        let log_too = log.try_clone().expect("open the emulator's log twice");
        let mut server = process::spawn_server(None, "KILL", &program, |command| {
            command.args(["-H", "127.0.0.1", "-p", "0"]);
            command.stdin(Stdio::null()).stdout(log).stderr(log_too);
        });
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(&path).unwrap_or_default();
            if let Some(endpoint) = endpoint_in(&log) {
                return Self { endpoint, _server: Some((server, directory)) };
            }
            let ended = server.try_wait().expect("ask whether the emulator lives").is_some();
            if ended || started.elapsed() > START_TIMEOUT {
                let _ = server.kill();
                let _ = server.wait();
                panic!("the AWS emulator ({}) did not start:\n{log}", program.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Answer {
    /// A whole answer; the emulator closes the connection after it.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let headers = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = headers.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Self { status, headers, body: bytes[end + 4..].to_vec() };
        if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            answer.body = join_chunks(&answer.body)?;
        }
        Some(answer)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    fn expect_success(&self, action: &str) {
        let body = String::from_utf8_lossy(&self.body);
        assert!((200..300).contains(&self.status), "{action}: status {}: {body}", self.status);
    }
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let length =
            usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// The path of an object, with each byte of the key escaped that a URL cannot hold.
fn object_path(bucket: &str, key: &str) -> String {
    let mut path = format!("/{bucket}/");
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn unescape_xml(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#x27;", "'").replace("&amp;", "&")
}

fn json_string(text: &str) -> String {
    let mut json = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            control if control.is_control() => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => json.push(plain),
        }
    }
    json.push('"');
    json
}

fn endpoint_in(log: &str) -> Option<String> {
    let start = log.find("Running on http://")? + "Running on ".len();
    let end = start + log[start..].find('\n')?; // without the line end the port may be cut short
    Some(log[start..end].trim().to_owned())
}

fn find_moto() -> PathBuf {
    if let Some(program) = std::env::var_os("MOTO_SERVER").filter(|program| !program.is_empty()) {
        let program = PathBuf::from(program);
        assert!(program.exists(), "MOTO_SERVER is {}, which does not exist", program.display());
        return program;
    }
    // Where `make test-tools` puts it, so that a plain `cargo test` finds it too.
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/test-tools/bin/moto_server");
    if installed.exists() {
        return installed;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("moto_server"))
        .find(|program| program.exists())
        .unwrap_or_else(|| {
            panic!(
                "this test needs the AWS emulator and found no moto_server; install it with: make test-tools \
                 (or: pip install 'moto[server]==5.*'), or set TEST_AWS_ENDPOINT to one that runs"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_taken_from_a_whole_line_only() {
        assert_eq!(endpoint_in(" * Running on http://127.0.0.1:45"), None);
        let log = "WARNING: development server.\n * Running on http://127.0.0.1:45671\nPress CTRL+C to quit\n";
        assert_eq!(endpoint_in(log).as_deref(), Some("http://127.0.0.1:45671"));
    }

    #[test]
    fn an_answer_is_read_with_its_chunks_joined() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"x\"\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let answer = Answer::parse(bytes).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"abcde".as_slice()));
        assert_eq!(answer.header("etag"), Some("\"x\""));
    }

    #[test]
    fn a_key_is_escaped_byte_by_byte() {
        assert_eq!(object_path("b", "a b/é+?.csv"), "/b/a%20b/%C3%A9%2B%3F.csv");
    }

    #[test]
    fn json_text_is_escaped() {
        assert_eq!(json_string("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
