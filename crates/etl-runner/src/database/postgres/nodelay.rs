//! Nagle's algorithm off on the connection, which sqlx leaves on and gives no way to reach.
//!
//! A COPY ends with two small messages in a row, rows and then their end. With the algorithm on, the second waits for the
//! server's acknowledgement of the first, which the server delays by 40 ms: four fifths of the time a small file takes.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::net::sockopt::set_tcp_nodelay;

/// Tells all TCP sockets of this process to send at once. Called when a connection was opened; the other sockets, of the
/// store, want it as well.
#[expect(unsafe_code, reason = "a descriptor found by its number has no owner to borrow from")]
pub(super) fn send_at_once() {
    let Ok(descriptors) = std::fs::read_dir("/dev/fd") else { return };
    let numbers = descriptors.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.collect::<Vec<_>>() {
        // SAFETY: It was open a moment ago. Should another thread close it meanwhile, the one call made with it is answered
        // with an error or sets an option that is right for any socket: nothing is read, written or closed through it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        // An error says that it is no TCP socket.
        _ = set_tcp_nodelay(descriptor, true);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_opened_before_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!socket.nodelay().unwrap());
        send_at_once();
        assert!(socket.nodelay().unwrap());
    }
}
