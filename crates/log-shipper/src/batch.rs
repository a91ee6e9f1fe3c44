//! Events → the body of a PutLogEvents request, within the service's limits. Pure.
//!
//! Limits are those of the API reference of PutLogEvents (2025): 1,048,576 bytes, being the UTF-8 bytes of all messages and
//! 26 for each event; 10,000 events; in order of time; no more than 24 hours from the first to the last.

use std::ops::Range;

use bytes::Bytes;

/// Messages and overhead of one request.
pub const MAX_BYTES: usize = 1_048_576;
/// What the service counts for each event besides its message.
pub const OVERHEAD: usize = 26;
pub const MAX_EVENTS: usize = 10_000;
/// The longest message: an event alone in its request.
pub const MAX_MESSAGE: usize = MAX_BYTES - OVERHEAD;
/// Bytes of a body that may stay small, and of one that is filled with lines of usual length.
const SMALL: usize = 64 * 1024;
const USUAL: usize = 1_280 * 1024;
/// In milliseconds. A little less than a day, because the service may not count as we do.
const MAX_SPAN: i64 = 24 * 3_600_000 - 1;

/// A position in a source: what comes before it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Bytes.
    pub offset: u64,
    /// Parts that were taken of the line at `offset`, which is too long for one event.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parts: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(parts: &u32) -> bool {
    *parts == 0
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Bytes of the message as the service counts them.
    pub bytes: u32,
    /// Where its JSON is in the body.
    start: u32,
    end: u32,
}

/// Events for one stream that fit into one request.
#[derive(Debug)]
pub struct Batch {
    body: Vec<u8>,
    /// What comes before the first event.
    prefix: usize,
    events: Vec<Event>,
    bytes: usize,
    oldest: i64,
    newest: i64,
    is_sorted: bool,
}

impl Batch {
    pub fn new(group: &str, stream: &str) -> Self {
        Self::in_buffer(group, stream, Vec::new())
    }

    /// A batch in memory that was another's.
    pub fn in_buffer(group: &str, stream: &str, mut body: Vec<u8>) -> Self {
        body.clear();
        body.extend_from_slice(b"{\"logGroupName\":\"");
        escape(group, &mut body);
        body.extend_from_slice(b"\",\"logStreamName\":\"");
        escape(stream, &mut body);
        body.extend_from_slice(b"\",\"logEvents\":[");
        let prefix = body.len();
        Self { body, prefix, events: Vec::new(), bytes: 0, oldest: i64::MAX, newest: i64::MIN, is_sorted: true }
    }

    /// Whether one more event can come in.
    pub fn has_room(&self, timestamp: i64, bytes: usize) -> bool {
        let span = self.newest.max(timestamp).saturating_sub(self.oldest.min(timestamp));
        self.events.is_empty()
            || (self.bytes + bytes + OVERHEAD <= MAX_BYTES && self.events.len() < MAX_EVENTS && span <= MAX_SPAN)
    }

    /// Takes an event for which there [is room](Self::has_room). Its message is not empty.
    pub fn push(&mut self, timestamp: i64, message: &str) {
        debug_assert!(!message.is_empty() && self.has_room(timestamp, message.len()));
        let timestamp = timestamp.max(0);
        let start = self.body.len();
        if start > SMALL && self.body.capacity() < USUAL {
            // At once, and not in steps that are copied each time.
            self.body.reserve_exact(USUAL - start);
        }
        self.body.extend_from_slice(b"{\"timestamp\":");
        self.body.extend_from_slice(itoa::Buffer::new().format(timestamp).as_bytes());
        self.body.extend_from_slice(b",\"message\":\"");
        escape(message, &mut self.body);
        self.body.extend_from_slice(b"\"},");
        self.is_sorted &= timestamp >= self.newest;
        self.oldest = self.oldest.min(timestamp);
        self.newest = self.newest.max(timestamp);
        self.bytes += message.len() + OVERHEAD;
        let place = |at: usize| u32::try_from(at).expect("a body has at most six times the bytes of its messages");
        let bytes = place(message.len());
        self.events.push(Event { timestamp, bytes, start: place(start), end: place(self.body.len() - 1) });
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// As the service counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.body.capacity() + self.events.capacity() * size_of::<Event>()
    }

    /// The time of the oldest event, in milliseconds since 1970.
    pub fn oldest(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.oldest)
    }

    /// No event of usual length would fit any more.
    pub fn is_full(&self) -> bool {
        self.events.len() >= MAX_EVENTS || self.bytes + OVERHEAD + 1 > MAX_BYTES
    }

    /// In order of time; events of the same millisecond stay as they came.
    pub fn sealed(mut self) -> Sealed {
        if !self.is_sorted {
            let mut order = self.events.clone();
            order.sort_by_key(|event| event.timestamp);
            let mut body = Vec::with_capacity(self.body.len());
            body.extend_from_slice(&self.body[..self.prefix]);
            for event in &mut order {
                let start = body.len() as u32;
                body.extend_from_slice(&self.body[event.start as usize..event.end as usize]);
                body.push(b',');
                (event.start, event.end) = (start, body.len() as u32 - 1);
            }
            (self.body, self.events) = (body, order);
        }
        self.body.pop();
        self.body.extend_from_slice(b"]}");
        Sealed { body: self.body.into(), prefix: self.prefix, events: self.events, bytes: self.bytes }
    }
}

/// A batch that is sent, as a whole or, where the service refuses it, in pieces.
#[derive(Clone, Debug)]
pub struct Sealed {
    body: Bytes,
    prefix: usize,
    events: Vec<Event>,
    bytes: usize,
}

impl Sealed {
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn message_bytes(&self) -> u64 {
        (self.bytes - self.events.len() * OVERHEAD) as u64
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.body.len() + self.events.capacity() * size_of::<Event>()
    }

    /// The request's body for some of the events, which are at least one.
    pub fn body(&self, events: Range<usize>) -> Bytes {
        if events == (0..self.events.len()) {
            return self.body.clone();
        }
        let (from, to) = (self.events[events.start].start as usize, self.events[events.end - 1].end as usize);
        let mut body = Vec::with_capacity(self.prefix + to - from + 2);
        body.extend_from_slice(&self.body[..self.prefix]);
        body.extend_from_slice(&self.body[from..to]);
        body.extend_from_slice(b"]}");
        body.into()
    }

    /// Its memory, unless somebody still sends it.
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        let mut body = self.body.try_into_mut().ok()?;
        body.clear();
        Some(body.into())
    }

    /// An event as JSON, with `timestamp` and `message`.
    pub fn json(&self, event: usize) -> &[u8] {
        let Event { start, end, .. } = self.events[event];
        &self.body[start as usize..end as usize]
    }
}

/// For each byte what stands for it in a JSON string: itself (0), `u` for its number, or the letter behind a backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// The inside of a JSON string (RFC 8259, section 7).
fn escape(text: &str, body: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = first_to_escape(rest) {
        let byte = rest[at];
        let escape = ESCAPES[usize::from(byte)];
        body.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        body.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let digits = [b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            body.extend_from_slice(&digits);
        }
    }
    body.extend_from_slice(rest);
}

/// Most of a line is looked at in blocks, without a branch for each byte: the compiler makes vectors of it.
fn first_to_escape(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let is_one = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let blocks = bytes.chunks_exact(BLOCK);
    let is_clean = |block: &&[u8]| !block.iter().fold(false, |found, byte| found | is_one(byte));
    let clean = blocks.take_while(is_clean).count() * BLOCK;
    Some(clean + bytes[clean..].iter().position(is_one)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &[u8]) -> Vec<(i64, String)> {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!((value["logGroupName"].as_str(), value["logStreamName"].as_str()), (Some("g\""), Some("s")));
        let events = value["logEvents"].as_array().unwrap();
        let event = |event: &serde_json::Value| {
            (event["timestamp"].as_i64().unwrap(), event["message"].as_str().unwrap().to_owned())
        };
        events.iter().map(event).collect()
    }

    #[test]
    fn a_batch_is_filled_to_the_last_byte_and_event() {
        let mut batch = Batch::new("g", "s");
        batch.push(1, &"x".repeat(MAX_MESSAGE));
        assert!(batch.is_full() && !batch.has_room(1, 1));
        assert_eq!(batch.bytes(), MAX_BYTES);

        let mut batch = Batch::new("g", "s");
        for _ in 0..MAX_EVENTS {
            assert!(batch.has_room(1, 1));
            batch.push(1, "x");
        }
        assert!(batch.is_full() && !batch.has_room(1, 1));

        let mut batch = Batch::new("g", "s");
        batch.push(0, &"x".repeat(MAX_MESSAGE - 100));
        assert!(batch.has_room(0, 100 - OVERHEAD) && !batch.has_room(0, 101 - OVERHEAD));
        assert!(batch.has_room(MAX_SPAN, 1) && !batch.has_room(MAX_SPAN + 1, 1), "a day");
    }

    proptest! {
        #[test]
        fn a_body_holds_the_events_in_order_of_time_and_so_do_its_pieces(
            events in proptest::collection::vec((0_i64..50, "[\\PC\u{0}-\u{1f}\"\\\\]{1,12}"), 1..40),
            cut in (0_usize..40, 0_usize..40),
        ) {
            let mut batch = Batch::new("g\"", "s");
            for (timestamp, message) in &events {
                batch.push(*timestamp, message);
            }
            let mut expected = events.clone();
            expected.sort_by_key(|(timestamp, _)| *timestamp);
            let sealed = batch.sealed();
            prop_assert_eq!(read(&sealed.body(0..events.len())), expected.clone());
            let from = cut.0 % events.len();
            let to = from + 1 + cut.1 % (events.len() - from);
            prop_assert_eq!(read(&sealed.body(from..to)), &expected[from..to]);
            let one: serde_json::Value = serde_json::from_slice(sealed.json(from)).unwrap();
            prop_assert_eq!(one["message"].as_str(), Some(expected[from].1.as_str()));
        }
    }
}
