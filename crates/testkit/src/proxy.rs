//! A TCP proxy that breaks connections where a test says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// Stands in front of a server on a port of its own and passes bytes on until told otherwise.
///
/// A fault is set at any time, from any thread, and replaces the one before. [`Proxy::cut_after`] and
/// [`Proxy::lose_answer_to`] strike once: later connections pass, so that a client may be seen recovering.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    /// Rings when the state changes, for those that are held back.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    delay: Duration,
    to_server: u64,
    to_client: u64,
    /// Reads, which with a client that waits for answers are its messages.
    reads_to_server: u64,
    reads_to_client: u64,
    connections: u64,
    cuts: u64,
    open: Vec<Link>,
    closed: bool,
}

#[derive(Debug)]
enum Fault {
    None,
    Cut {
        direction: Direction,
        left: u64,
    },
    BlackHole {
        direction: Direction,
    },
    Stall {
        direction: Direction,
    },
    Refuse,
    /// Keeps back what is read at once the `left`th time from now on, and all that follows it on the same way.
    Hold {
        direction: Direction,
        left: u64,
        held: bool,
    },
    /// Waits for `pattern` from a client, then for the first byte the server answers.
    LoseAnswer {
        pattern: Vec<u8>,
        left: u64,
        seen_by: Option<u64>,
    },
}

/// Both ends of one connection, to be cut from outside the threads that serve it.
#[derive(Debug)]
struct Link {
    id: u64,
    client: TcpStream,
    server: TcpStream,
}

impl Link {
    fn cut(&self) {
        let _ = self.server.shutdown(Shutdown::Both); // it may be gone already
        let _ = self.client.shutdown(Shutdown::Both);
    }
}

/// What is done with the bytes just read.
enum Verdict {
    Forward,
    ForwardThenCut(usize),
    Swallow,
    Cut,
}

impl Proxy {
    /// A proxy in front of `server` that passes everything on.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen on a free port");
        let address = listener.local_addr().expect("ask for the port");
        let shared = Arc::new(Shared {
            server,
            state: Mutex::new(State {
                fault: Fault::None,
                delay: Duration::ZERO,
                to_server: 0,
                to_client: 0,
                reads_to_server: 0,
                reads_to_client: 0,
                connections: 0,
                cuts: 0,
                open: Vec::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accepting.accept(&listener));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url` with its host and port replaced by the proxy's; user, password, path and query stay.
    pub fn url(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or_else(|| panic!("a URL without a scheme: {url}"));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
        format!("{scheme}://{}{}{}", &rest[..start], self.address, &rest[end..])
    }

    /// Passes everything on again and lets go of what is held back.
    pub fn pass(&self) {
        self.set(Fault::None);
    }

    /// Forwards exactly `bytes` more bytes in this direction, counted over all connections from now on, then cuts the
    /// connection that carried the last of them. With 0 the next byte cuts.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.set(Fault::Cut { direction, left: bytes });
    }

    /// Cuts all open connections now.
    pub fn cut_now(&self) {
        let mut state = self.shared.lock();
        state.cuts += state.open.len() as u64;
        state.open.drain(..).for_each(|link| link.cut());
    }

    /// Takes bytes and forwards none of them, with the connection left open.
    pub fn black_hole(&self, direction: Direction) {
        self.set(Fault::BlackHole { direction });
    }

    /// Stops reading in this direction, so that the sender is held back; [`Proxy::pass`] continues without a loss.
    pub fn stall(&self, direction: Direction) {
        self.set(Fault::Stall { direction });
    }

    /// Closes new connections at once.
    pub fn refuse(&self) {
        self.set(Fault::Refuse);
    }

    /// Forwards everything up to and with `pattern` from the client, then waits until the server answers, keeps the
    /// answer to itself and cuts: the server has done the work, the client does not know.
    pub fn lose_answer_to(&self, pattern: &[u8]) {
        self.lose_nth_answer_to(pattern, 1);
    }

    /// The same for the `nth` message with `pattern`, counted from 1.
    pub fn lose_nth_answer_to(&self, pattern: &[u8], nth: u64) {
        assert!(!pattern.is_empty() && nth > 0, "a pattern to wait for");
        self.set(Fault::LoseAnswer { pattern: pattern.to_vec(), left: nth, seen_by: None });
    }

    /// Keeps back the `nth` message from now on, counted from 1, and what follows it; [`Proxy::is_held`] tells when. A
    /// message is what comes in one read.
    pub fn hold(&self, direction: Direction, nth: u64) {
        assert!(nth > 0, "messages count from 1");
        self.set(Fault::Hold { direction, left: nth, held: false });
    }

    /// Whether a message is being kept back.
    pub fn is_held(&self) -> bool {
        matches!(self.shared.lock().fault, Fault::Hold { held: true, .. })
    }

    /// Messages in this direction so far, over all connections.
    pub fn messages(&self, direction: Direction) -> u64 {
        let state = self.shared.lock();
        match direction {
            Direction::ToServer => state.reads_to_server,
            Direction::ToClient => state.reads_to_client,
        }
    }

    /// Waits this long before each forward.
    pub fn delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// Bytes forwarded in this direction so far, over all connections.
    pub fn bytes(&self, direction: Direction) -> u64 {
        let state = self.shared.lock();
        match direction {
            Direction::ToServer => state.to_server,
            Direction::ToClient => state.to_client,
        }
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.lock().cuts
    }

    fn set(&self, fault: Fault) {
        self.shared.lock().fault = fault;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.closed = true;
            state.open.drain(..).for_each(|link| link.cut());
        }
        self.shared.changed.notify_all();
        let _ = TcpStream::connect(self.address); // wakes the acceptor, which then sees `closed`
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the proxy panics with the state locked")
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            let refused = {
                let state = self.lock();
                if state.closed {
                    return;
                }
                matches!(state.fault, Fault::Refuse)
            };
            if refused {
                continue;
            }
            // A server that is down looks to the client like one that hangs up.
            let Ok(server) = TcpStream::connect(self.server) else { continue };
            if self.serve(client, server).is_err() {
                continue;
            }
        }
    }

    fn serve(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let link = Link { id: 0, client: client.try_clone()?, server: server.try_clone()? };
        let (client_out, server_out) = (client.try_clone()?, server.try_clone()?);
        let id = {
            let mut state = self.lock();
            state.connections += 1;
            let id = state.connections;
            state.open.push(Link { id, ..link });
            id
        };
        let up = Arc::clone(self);
        std::thread::spawn(move || up.pump(id, Direction::ToServer, client, server_out));
        let down = Arc::clone(self);
        std::thread::spawn(move || down.pump(id, Direction::ToClient, server, client_out));
        Ok(())
    }

    /// Carries one direction of one connection.
    fn pump(&self, id: u64, direction: Direction, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = vec![0; 64 * 1024];
        let mut swallowing = false;
        let mut tail = Vec::new(); // the end of what was forwarded, where a pattern may have begun
        loop {
            let Ok(length @ 1..) = from.read(&mut chunk) else {
                if !swallowing {
                    let _ = to.shutdown(Shutdown::Write); // hand the end on; the other direction may go on
                }
                break;
            };
            if swallowing {
                continue;
            }
            if direction == Direction::ToClient {
                spell_as_s3(&mut chunk[..length]);
            }
            let verdict = self.judge(id, direction, &chunk[..length], &mut tail);
            let (forward, cut) = match verdict {
                Verdict::Forward => (length, false),
                Verdict::ForwardThenCut(bytes) => (bytes, true),
                Verdict::Swallow => {
                    swallowing = true; // for good: bytes let through later would make no sense to the receiver
                    continue;
                }
                Verdict::Cut => (0, true),
            };
            if forward > 0 && to.write_all(&chunk[..forward]).is_err() {
                break;
            }
            let mut state = self.lock();
            match direction {
                Direction::ToServer => state.to_server += forward as u64,
                Direction::ToClient => state.to_client += forward as u64,
            }
            if cut {
                state.cuts += 1;
                if let Some(at) = state.open.iter().position(|link| link.id == id) {
                    state.open.swap_remove(at).cut();
                }
                return;
            }
        }
        if direction == Direction::ToClient || swallowing {
            // The server has said its last: what the client still sends would go nowhere.
            let mut state = self.lock();
            if let Some(at) = state.open.iter().position(|link| link.id == id) {
                state.open.swap_remove(at).cut();
            }
        }
    }

    /// Decides about bytes before they are forwarded, so that a fault strikes at the exact byte.
    fn judge(&self, id: u64, direction: Direction, bytes: &[u8], tail: &mut Vec<u8>) -> Verdict {
        let mut state = self.lock();
        if state.delay > Duration::ZERO {
            let delay = state.delay;
            drop(state);
            std::thread::sleep(delay);
            state = self.lock();
        }
        while !state.closed && matches!(state.fault, Fault::Stall { direction: stalled } if stalled == direction) {
            state = self.changed.wait(state).expect("no thread of the proxy panics with the state locked");
        }
        match direction {
            Direction::ToServer => state.reads_to_server += 1,
            Direction::ToClient => state.reads_to_client += 1,
        }
        if let Fault::Hold { direction: wanted, left, held } = &mut state.fault
            && *wanted == direction
        {
            *left = left.saturating_sub(1);
            *held = *left == 0;
        }
        while !state.closed
            && matches!(state.fault, Fault::Hold { direction: wanted, held: true, .. } if wanted == direction)
        {
            state = self.changed.wait(state).expect("no thread of the proxy panics with the state locked");
        }
        if state.closed {
            return Verdict::Swallow;
        }
        match &mut state.fault {
            Fault::Cut { direction: cut, left } if *cut == direction => {
                let length = bytes.len() as u64;
                if *left > length {
                    *left -= length;
                    return Verdict::Forward;
                }
                let forward = *left as usize;
                // "After N" strikes with the Nth byte itself, so that nobody has to send one more to feel it.
                state.fault = Fault::None;
                if forward == 0 { Verdict::Cut } else { Verdict::ForwardThenCut(forward) }
            }
            Fault::BlackHole { direction: swallowed } if *swallowed == direction => Verdict::Swallow,
            Fault::LoseAnswer { pattern, left, seen_by } => match (direction, *seen_by) {
                (Direction::ToServer, None) => {
                    tail.extend_from_slice(bytes);
                    if tail.windows(pattern.len()).any(|window| window == pattern) {
                        *left -= 1;
                        *seen_by = (*left == 0).then_some(id);
                    }
                    tail.drain(..tail.len().saturating_sub(pattern.len() - 1));
                    Verdict::Forward
                }
                (Direction::ToClient, Some(seen)) if seen == id => {
                    state.fault = Fault::None;
                    Verdict::Cut
                }
                _ => Verdict::Forward,
            },
            _ => Verdict::Forward,
        }
    }
}

/// The emulator (moto 5.2) calls the answer to ListParts by another name than S3 does, and the SDK takes it for no answer
/// at all. Of the same length, so that nothing else has to change: blanks may stand before the end of a tag.
fn spell_as_s3(bytes: &mut [u8]) {
    const WRONG: &[u8] = b"ListPartsResponse";
    const RIGHT: &[u8] = b"ListPartsResult  ";
    let mut from = 0;
    while let Some(at) = bytes[from..].windows(WRONG.len()).position(|window| window == WRONG) {
        from += at;
        if bytes[..from].ends_with(b"<") || bytes[..from].ends_with(b"</") {
            bytes[from..from + WRONG.len()].copy_from_slice(RIGHT);
        }
        from += WRONG.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulators_list_of_parts_gets_the_name_s3_gives_it() {
        let mut bytes = *b"<ListPartsResponse xmlns='x'><Key>ListPartsResponse</Key></ListPartsResponse>";
        spell_as_s3(&mut bytes);
        assert_eq!(&bytes, b"<ListPartsResult   xmlns='x'><Key>ListPartsResponse</Key></ListPartsResult  >");
    }
    use std::time::Instant;

    /// A server that sends `greeting`, then echoes, and tells what it received when the connection ends.
    fn echo(greeting: &'static [u8]) -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let sender = sender.clone();
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    let mut chunk = [0; 4096];
                    let _ = stream.write_all(greeting);
                    while let Ok(length @ 1..) = stream.read(&mut chunk) {
                        all.extend_from_slice(&chunk[..length]);
                        let _ = stream.write_all(&chunk[..length]); // after a cut only reading goes on
                    }
                    let _ = sender.send(all);
                });
            }
        });
        (address, received)
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// What arrives before the connection ends.
    fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut all = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut chunk) {
            all.extend_from_slice(&chunk[..length]);
        }
        all
    }

    #[test]
    fn bytes_pass_both_ways_and_are_counted() {
        let (server, received) = echo(b"");
        let proxy = Proxy::to(server);
        let mut client = connect(&proxy);
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut client), b"");
        assert_eq!((&answer, received.recv().unwrap().as_slice()), (b"hello", b"hello".as_slice()));
        assert_eq!((proxy.bytes(Direction::ToServer), proxy.bytes(Direction::ToClient)), (5, 5));
        assert_eq!((proxy.connections(), proxy.cuts()), (1, 0));
    }

    #[test]
    fn a_cut_lets_exactly_that_many_bytes_through_to_the_server() {
        let (server, received) = echo(b"");
        let proxy = Proxy::to(server);
        for cut in [0, 1, 7, 4095, 4096, 4097, 70_000] {
            proxy.cut_after(Direction::ToServer, cut);
            let mut client = connect(&proxy);
            let reading = client.try_clone().unwrap();
            let reader = std::thread::spawn(move || rest(&mut { reading }));
            let message: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
            let _ = client.write_all(&message); // fails when the cut comes before the end
            let arrived = received.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(arrived, message[..cut as usize]);
            reader.join().unwrap();
        }
        assert_eq!(proxy.cuts(), 7);
    }

    #[test]
    fn a_cut_lets_exactly_that_many_bytes_through_to_the_client() {
        let (server, _received) = echo(b"0123456789");
        let proxy = Proxy::to(server);
        for cut in [0, 1, 9, 10] {
            proxy.cut_after(Direction::ToClient, cut);
            assert_eq!(rest(&mut connect(&proxy)), &b"0123456789"[..cut as usize]);
        }
    }

    #[test]
    fn a_cut_strikes_once_and_the_next_connection_passes() {
        let (server, _received) = echo(b"");
        let proxy = Proxy::to(server);
        proxy.cut_after(Direction::ToServer, 3);
        let mut first = connect(&proxy);
        first.write_all(b"abc").unwrap();
        rest(&mut first);
        let mut second = connect(&proxy);
        second.write_all(b"abcdef").unwrap();
        let mut answer = [0; 6];
        second.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"abcdef");
    }

    #[test]
    fn a_black_hole_keeps_the_connection_open_and_forwards_nothing() {
        let (server, received) = echo(b"");
        let proxy = Proxy::to(server);
        proxy.black_hole(Direction::ToClient);
        let mut client = connect(&proxy);
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        client.write_all(b"anyone there?").unwrap();
        let error = client.read(&mut [0; 10]).unwrap_err();
        assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
        drop(client);
        assert_eq!(received.recv_timeout(Duration::from_secs(10)).unwrap(), b"anyone there?");
        assert_eq!(proxy.bytes(Direction::ToClient), 0);
    }

    #[test]
    fn a_stall_holds_bytes_back_and_loses_none() {
        let (server, _received) = echo(b"");
        let proxy = Proxy::to(server);
        proxy.stall(Direction::ToServer);
        let mut client = connect(&proxy);
        client.write_all(b"later").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(proxy.bytes(Direction::ToServer), 0);
        proxy.pass();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"later");
    }

    #[test]
    fn a_lost_answer_reaches_nobody_although_the_server_gave_it() {
        let (server, received) = echo(b"");
        let proxy = Proxy::to(server);
        proxy.lose_answer_to(b"commit");
        let mut client = connect(&proxy);
        client.write_all(b"begin;").unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        client.write_all(b"com").unwrap();
        client.read_exact(&mut answer[..3]).unwrap();
        client.write_all(b"mit;").unwrap();
        assert_eq!(rest(&mut client), b"");
        assert_eq!(received.recv_timeout(Duration::from_secs(10)).unwrap(), b"begin;commit;");
        assert_eq!(proxy.cuts(), 1);
    }

    #[test]
    fn a_delay_is_felt() {
        let (server, _received) = echo(b"");
        let proxy = Proxy::to(server);
        proxy.delay(Duration::from_millis(60));
        let mut client = connect(&proxy);
        let start = Instant::now();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(120), "once each way");
    }

    #[test]
    fn refused_connections_end_at_once() {
        let (server, _received) = echo(b"hello");
        let proxy = Proxy::to(server);
        proxy.refuse();
        assert_eq!(rest(&mut connect(&proxy)), b"");
    }

    #[test]
    fn cut_now_ends_all_open_connections() {
        let (server, _received) = echo(b"hi");
        let proxy = Proxy::to(server);
        let mut clients = [connect(&proxy), connect(&proxy)];
        for client in &mut clients {
            client.read_exact(&mut [0; 2]).unwrap();
        }
        proxy.cut_now();
        assert_eq!(clients.map(|mut client| rest(&mut client)), [b"", b""]);
        assert_eq!(proxy.cuts(), 2);
    }

    #[test]
    fn a_url_keeps_everything_but_host_and_port() {
        let proxy = Proxy::to("127.0.0.1:9".parse().unwrap());
        let address = proxy.address();
        for (given, head, tail) in [
            ("postgres://u:p%40@db.example:5432/x?sslmode=disable", "postgres://u:p%40@", "/x?sslmode=disable"),
            ("http://127.0.0.1:5000", "http://", ""),
        ] {
            assert_eq!(proxy.url(given), format!("{head}{address}{tail}"));
        }
    }
}
