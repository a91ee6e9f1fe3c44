//! CloudWatch Logs as the tests need it: it holds each request against the limits of the API reference, refuses and fails as it
//! is told to, and keeps what it accepted. It shares no line with the code under test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::Random;

/// What goes wrong, as a share of requests from 0 to 100, or altogether.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) throttled: u64,
    pub(crate) unavailable: u64,
    /// The connection ends before the request is looked at.
    pub(crate) reset: u64,
    /// Accepted, and the connection ends without an answer.
    pub(crate) answer_lost: u64,
    /// Accepted, and half of the answer comes.
    pub(crate) answer_cut: u64,
    /// 200, and a page instead of an answer.
    pub(crate) garbage: u64,
    pub(crate) denied: bool,
    pub(crate) outage: bool,
    pub(crate) refuses_gzip: bool,
    /// A request with this text in it is refused.
    pub(crate) poison: Option<String>,
    /// The name of a group that is always refused.
    pub(crate) denied_group: Option<String>,
    /// The name of a group for which every request is said to be wrong.
    pub(crate) wrong_group: Option<String>,
    /// Requests signed with this key are refused: it has expired, or was taken back.
    pub(crate) refused_key: Option<String>,
    /// Seconds that its clock is ahead; what is signed more than five minutes off is refused.
    pub(crate) clock_ahead: i64,
    pub(crate) latency: Duration,
    /// The next requests get no answer, and their connections stay.
    pub(crate) hanging: u64,
    /// Only such as make something.
    pub(crate) hangs_when_making: bool,
    /// Requests a second; more are throttled.
    pub(crate) per_second: Option<u64>,
    /// Requests to make groups and streams are throttled.
    pub(crate) makes_nothing: bool,
    /// Requests are read at three megabytes a second.
    pub(crate) slow_reader: bool,
    /// Events are counted and not looked at: what is measured then is the other side.
    pub(crate) only_counts: bool,
}

/// What was accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted {
    /// (group, stream) → (timestamp, message) in the order they came.
    pub(crate) streams: BTreeMap<(String, String), Vec<(i64, String)>>,
    /// Requests that were accepted.
    pub(crate) requests: u64,
    /// All requests to put events.
    pub(crate) tries: u64,
    pub(crate) retention: BTreeMap<String, i64>,
    /// Requests that no service would take, each with the reason: mistakes of ours.
    pub(crate) broken: Vec<String>,
    pub(crate) gzipped: u64,
    /// Events that were counted only.
    pub(crate) counted: u64,
    /// Requests that were accepted and got no answer.
    pub(crate) unanswered: u64,
    /// Namespace, name, dimensions as `name=value,…`, unit, value.
    pub(crate) metrics: Vec<(String, String, String, String, f64)>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    accepted: Accepted,
    random: Random,
    /// The second that is counted, and its requests.
    second: (u64, u64),
    instance_id: Option<String>,
    /// The access key of the instance's role.
    role: Option<String>,
    tokens: u64,
}

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    scheme: &'static str,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::with(address, None)
    }

    /// Over TLS, with a certificate that is made in the directory as `cert.pem`; whoever comes has to trust it.
    pub(crate) fn secure(folder: &Path) -> Self {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
            .args([
                std::ffi::OsStr::new("-keyout"),
                key.as_os_str(),
                std::ffi::OsStr::new("-out"),
                certificate.as_os_str(),
            ])
            .stderr(std::process::Stdio::null())
            .status();
        assert!(made.expect("openssl is missing: scripts/install-test-tools.sh").success());
        let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::with("127.0.0.1:0".parse().unwrap(), Some(Arc::new(config)))
    }

    fn with(address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            faults: Faults::default(),
            accepted: Accepted::default(),
            random: Random::new(1),
            second: (0, 0),
            instance_id: None,
            role: None,
            tokens: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let scheme = if tls.is_some() { "https" } else { "http" };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else { continue };
                let _ = stream.set_nodelay(true);
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    None => answer_all(stream, &state),
                    Some(tls) => {
                        let Ok(session) = rustls::ServerConnection::new(tls) else { return };
                        answer_all(rustls::StreamOwned::new(session, stream), &state);
                    }
                });
            }
        });
        Self { address, state, scheme }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(crate) fn accepted(&self) -> Accepted {
        self.state().accepted.clone()
    }

    /// Messages of a stream.
    pub(crate) fn messages(&self, group: &str, stream: &str) -> Vec<String> {
        let state = self.state();
        let events = state.accepted.streams.get(&(group.to_owned(), stream.to_owned()));
        events.into_iter().flatten().map(|(_, message)| message.clone()).collect()
    }

    /// What the metadata service says; nothing at all without one.
    pub(crate) fn set_instance_id(&self, id: Option<&str>) {
        self.state().instance_id = id.map(str::to_owned);
    }

    /// The instance has a role whose access key is this one.
    pub(crate) fn set_role(&self, key: &str) {
        self.state().role = Some(key.to_owned());
    }

    /// Somebody deletes all streams.
    pub(crate) fn delete_streams(&self) -> BTreeMap<(String, String), Vec<(i64, String)>> {
        std::mem::take(&mut self.state().accepted.streams)
    }

    pub(crate) fn count(&self) -> usize {
        self.state().accepted.streams.values().map(Vec::len).sum()
    }
}

enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    Cut,
    Nothing,
}

fn answer_all(stream: impl Read + Write, state: &Mutex<State>) {
    let mut connection = BufReader::with_capacity(64 * 1024, stream);
    while serve(&mut connection, state).is_some() {}
}

fn serve(connection: &mut BufReader<impl Read + Write>, state: &Mutex<State>) -> Option<()> {
    let mut first = String::new();
    connection.read_line(&mut first).ok().filter(|length| *length > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let mut body = vec![0; length];
    if lock(state).faults.slow_reader {
        for piece in body.chunks_mut(16 * 1024) {
            connection.read_exact(piece).ok()?;
            std::thread::sleep(Duration::from_millis(5));
        }
    } else {
        connection.read_exact(&mut body).ok()?;
    }
    if first.contains("/latest/") {
        return metadata(connection.get_mut(), &first, &headers, &mut lock(state));
    }
    let gzip = headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
    if first.contains("/operation/PutMetricData") {
        return metrics(connection.get_mut(), &body, gzip, &mut lock(state));
    }
    let action = headers.get("x-amz-target")?.rsplit('.').next()?.to_owned();
    let is_hanging = {
        let mut state = lock(state);
        let is_hanging = state.faults.hanging > 0 && !(state.faults.hangs_when_making && action == "PutLogEvents");
        state.faults.hanging -= u64::from(is_hanging);
        is_hanging
    };
    if is_hanging {
        // Until the other side gives up.
        let _ = connection.read(&mut [0; 1]);
        return None;
    }
    let (reply, latency) = {
        let mut state = lock(state);
        let refused = wrongly_signed(&headers, &state.faults);
        (refused.unwrap_or_else(|| reply(&mut state, &action, &body, gzip)), state.faults.latency)
    };
    std::thread::sleep(latency);
    let stream = connection.get_mut();
    let (status, body) = match reply {
        Reply::Nothing => return None,
        Reply::Json(status, value) => (status, value.to_string()),
        Reply::Text(status, text) => (status, text.to_owned()),
        Reply::Cut => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"rej");
            return None;
        }
    };
    let date = now(&lock(state).faults).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let head = format!(
        "HTTP/1.1 {status} Status\r\nDate: {date}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The service's time.
fn now(faults: &Faults) -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_secs(faults.clock_ahead)
}

fn wrongly_signed(headers: &BTreeMap<String, String>, faults: &Faults) -> Option<Reply> {
    let authorization = headers.get("authorization").map_or("", String::as_str);
    let is_refused = |key: &String| authorization.contains(&format!("Credential={key}/"));
    if faults.refused_key.as_ref().is_some_and(is_refused) {
        return Some(error("ExpiredTokenException"));
    }
    let signed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", headers.get("x-amz-date")?).ok()?;
    let signed = signed.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    let off = signed.duration_since(now(faults)).abs();
    (off > jiff::SignedDuration::from_mins(5)).then(|| error("InvalidSignatureException"))
}

/// The EC2 metadata service, version 2: no answer without a token.
fn metadata(stream: &mut impl Write, first: &str, headers: &BTreeMap<String, String>, state: &mut State) -> Option<()> {
    if state.instance_id.is_none() && state.role.is_none() {
        return None;
    }
    let (status, body) = if first.starts_with("PUT /latest/api/token") {
        state.tokens += 1;
        (200, format!("token-{}", state.tokens))
    } else if headers.get("x-aws-ec2-metadata-token") != Some(&format!("token-{}", state.tokens)) {
        (401, String::new())
    } else {
        let expiration = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(6)).to_string();
        let credentials = |key: &String| {
            json!({
                "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": key, "SecretAccessKey": "testing",
                "Token": "testing", "LastUpdated": "2026-11-27T00:00:00Z", "Expiration": expiration,
            })
            .to_string()
        };
        let path = first.split_ascii_whitespace().nth(1).unwrap_or_default();
        let body = match path.strip_prefix("/latest/meta-data/").unwrap_or_default() {
            "instance-id" => state.instance_id.clone(),
            "iam/security-credentials/" => state.role.as_ref().map(|_| "loader".to_owned()),
            "iam/security-credentials/loader" => state.role.as_ref().map(credentials),
            _ => None,
        };
        body.map_or((404, String::new()), |body| (200, body))
    };
    let head = format!(
        "HTTP/1.1 {status} Status\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()
}

/// PutMetricData, in CBOR.
fn metrics(stream: &mut impl Write, body: &[u8], gzip: bool, state: &mut State) -> Option<()> {
    use ciborium::Value as Cbor;
    fn field<'a>(value: &'a Cbor, name: &str) -> Option<&'a Cbor> {
        value.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
    }
    let text = |value: &Cbor, name: &str| field(value, name).and_then(Cbor::as_text).unwrap_or_default().to_owned();
    if state.faults.outage {
        return None;
    }
    let mut plain = Vec::new();
    if gzip {
        flate2::read::GzDecoder::new(body).read_to_end(&mut plain).ok()?;
    } else {
        plain.extend_from_slice(body);
    }
    let request: Cbor = ciborium::from_reader(&plain[..]).unwrap();
    let namespace = text(&request, "Namespace");
    for datum in field(&request, "MetricData").and_then(Cbor::as_array).into_iter().flatten() {
        let dimensions = field(datum, "Dimensions").and_then(Cbor::as_array).into_iter().flatten();
        let dimensions: Vec<String> =
            dimensions.map(|dimension| format!("{}={}", text(dimension, "Name"), text(dimension, "Value"))).collect();
        let value = field(datum, "Value").and_then(Cbor::as_float).unwrap_or(f64::NAN);
        if !value.is_finite() || dimensions.len() > 30 || dimensions.iter().any(|pair| pair.ends_with('=')) {
            state.accepted.broken.push(format!("metric {datum:?}"));
        }
        state.accepted.metrics.push((
            namespace.clone(),
            text(datum, "MetricName"),
            dimensions.join(","),
            text(datum, "Unit"),
            value,
        ));
    }
    let (status, body): (u16, &[u8]) =
        if state.faults.denied { (403, b"\xa1\x66__type\x75AccessDeniedException") } else { (200, b"\xa0") };
    let head = format!(
        "HTTP/1.1 {status} Status\r\nsmithy-protocol: rpc-v2-cbor\r\nContent-Type: application/cbor\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
}

fn error(code: &str) -> Reply {
    Reply::Json(400, json!({ "__type": code, "message": format!("{code} it is") }))
}

fn reply(state: &mut State, action: &str, body: &[u8], gzip: bool) -> Reply {
    let faults = state.faults.clone();
    if faults.outage {
        return Reply::Nothing;
    }
    let body = match gzip {
        false => body.to_vec(),
        true if faults.refuses_gzip => return error("InvalidParameterException"),
        true => {
            let mut plain = Vec::new();
            if flate2::read::GzDecoder::new(body).read_to_end(&mut plain).is_err() {
                state.accepted.broken.push("gzip".into());
            }
            plain
        }
    };
    if faults.only_counts && action == "PutLogEvents" {
        state.accepted.counted += memchr::memmem::find_iter(&body, b"\"message\":").count() as u64;
        state.accepted.requests += 1;
        return Reply::Json(200, json!({}));
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        state.accepted.broken.push("no JSON".into());
        return error("SerializationException");
    };
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    let (group, stream) = (text("logGroupName"), text("logStreamName"));
    if faults.wrong_group.as_ref() == Some(&group) {
        return error("InvalidParameterException");
    }
    if faults.denied || faults.denied_group.as_ref() == Some(&group) {
        return error("AccessDeniedException");
    }
    let groups = |state: &State| state.accepted.retention.contains_key(&group);
    if faults.makes_nothing && action.starts_with("Create") {
        return error("ThrottlingException");
    }
    match action {
        "CreateLogGroup" if groups(state) => return error("ResourceAlreadyExistsException"),
        "CreateLogGroup" => _ = state.accepted.retention.insert(group, 0),
        "CreateLogStream" if !groups(state) => return error("ResourceNotFoundException"),
        "CreateLogStream" => {
            if stream.is_empty() || stream.contains([':', '*']) {
                state.accepted.broken.push(format!("stream {stream:?}"));
            }
            if state.accepted.streams.contains_key(&(group.clone(), stream.clone())) {
                return error("ResourceAlreadyExistsException");
            }
            state.accepted.streams.insert((group, stream), Vec::new());
        }
        "PutRetentionPolicy" => {
            state.accepted.retention.insert(group, request["retentionInDays"].as_i64().unwrap_or_default());
        }
        "PutLogEvents" => return put(state, &faults, &request, (group, stream), gzip),
        other => {
            state.accepted.broken.push(format!("action {other}"));
            return error("UnknownOperationException");
        }
    }
    Reply::Json(200, json!({}))
}

/// PutLogEvents by its API reference.
fn put(state: &mut State, faults: &Faults, request: &Value, key: (String, String), gzip: bool) -> Reply {
    state.accepted.tries += 1;
    let mut happens = |share: u64| share > 0 && state.random.below(100) < share;
    if happens(faults.reset) {
        return Reply::Nothing;
    }
    if happens(faults.throttled) {
        return error("ThrottlingException");
    }
    let ahead = faults.clock_ahead;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    if let Some(most) = faults.per_second {
        if state.second.0 != now.as_secs() {
            state.second = (now.as_secs(), 0);
        }
        state.second.1 += 1;
        if state.second.1 > most {
            return error("ThrottlingException");
        }
    }
    if happens(faults.unavailable) {
        return Reply::Text(503, "<html>no service</html>");
    }
    let (answer_lost, answer_cut, garbage) =
        (happens(faults.answer_lost), happens(faults.answer_cut), happens(faults.garbage));
    if garbage {
        return Reply::Text(200, "<html>welcome</html>");
    }
    let events: Vec<(i64, String)> = request["logEvents"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| {
            (event["timestamp"].as_i64().unwrap_or(-1), event["message"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let bytes: usize = events.iter().map(|(_, message)| message.len() + 26).sum();
    let now = now.as_millis() as i64 + ahead * 1_000;
    let hour = 3_600_000;
    let retention = state.accepted.retention.get(&key.0).copied().unwrap_or_default();
    let is_valid = |time: i64| time >= now - 14 * 24 * hour && time <= now + 2 * hour;
    let valid: Vec<i64> = events.iter().map(|(time, _)| *time).filter(|time| is_valid(*time)).collect();
    let broken = [
        (events.is_empty() || events.len() > 10_000, "number of events"),
        (bytes > 1_048_576, "bytes"),
        (events.iter().any(|(time, message)| *time < 0 || message.is_empty()), "an event without time or message"),
        (events.windows(2).any(|two| two[0].0 > two[1].0), "order of time"),
        (valid.last().zip(valid.first()).is_some_and(|(last, first)| last - first > 24 * hour), "more than a day"),
    ];
    if let Some((_, what)) = broken.iter().find(|(is_broken, _)| *is_broken) {
        state.accepted.broken.push((*what).to_owned());
        return error("InvalidParameterException");
    }
    if faults.poison.as_ref().is_some_and(|poison| events.iter().any(|(_, message)| message.contains(poison))) {
        return error("InvalidParameterException");
    }
    let Some(stream) = state.accepted.streams.get_mut(&key) else { return error("ResourceNotFoundException") };
    let too_old = events.iter().take_while(|(time, _)| *time < now - 14 * 24 * hour).count();
    let is_expired = |time: i64| retention > 0 && time < now - retention * 24 * hour;
    let expired = events.iter().take_while(|(time, _)| is_expired(*time)).count();
    let too_new = events.iter().rev().take_while(|(time, _)| *time > now + 2 * hour).count();
    let mut info = serde_json::Map::new();
    if too_old > 0 {
        info.insert("tooOldLogEventEndIndex".into(), too_old.into());
    }
    if expired > too_old {
        info.insert("expiredLogEventEndIndex".into(), expired.into());
    }
    let too_old = too_old.max(expired);
    if too_new > 0 {
        info.insert("tooNewLogEventStartIndex".into(), (events.len() - too_new).into());
    }
    let accepted = events.len() - too_old - too_new;
    stream.extend(events.into_iter().skip(too_old).take(accepted));
    state.accepted.requests += 1;
    state.accepted.gzipped += u64::from(gzip);
    state.accepted.unanswered += u64::from(answer_lost || answer_cut);
    if answer_lost {
        return Reply::Nothing;
    }
    if answer_cut {
        return Reply::Cut;
    }
    match info.is_empty() {
        true => Reply::Json(200, json!({})),
        false => Reply::Json(200, json!({ "rejectedLogEventsInfo": info })),
    }
}
