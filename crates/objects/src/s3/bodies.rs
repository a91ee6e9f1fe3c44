//! Memory for the bytes of requests under way: bounded over all uploads of a store, and used again.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::write::{PART_BYTES, SINGLE_BYTES};

/// Three parts on their way and one being read. With what a process needs anyway this stays below 48 MiB.
const ROOM: usize = 4 * PART_BYTES as usize;
const UNIT: usize = 64 << 10;
/// Shorter buffers are made as they are needed.
const WORTH_KEEPING: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    /// Buffers to be used again. Made anew, each would be mapped and touched page by page, which costs as much as sending
    /// it, and an allocator would hold more of them than we do.
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM / UNIT)), spare: Arc::default() }
    }
}

/// A buffer on its way; dropping it gives its room to the next.
#[derive(Debug)]
pub(super) struct Body {
    buffer: Vec<u8>,
    length: usize,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    _room: OwnedSemaphorePermit,
}

impl Bodies {
    /// Waits until there is room. One body larger than all the room gets all of it.
    pub(super) async fn take(&self, length: usize) -> Option<Body> {
        // Few lengths, so that a buffer fits the next body too.
        let capacity = match length {
            0..=WORTH_KEEPING => length,
            _ if length <= PART_BYTES as usize => PART_BYTES as usize,
            _ => length.max(SINGLE_BYTES),
        };
        let units = u32::try_from(capacity.div_ceil(UNIT).min(ROOM / UNIT)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.ok()?;
        let buffer = match capacity {
            0..=WORTH_KEEPING => vec![0; capacity],
            _ => self.spare_of(capacity).unwrap_or_else(|| vec![0; capacity]),
        };
        Some(Body { buffer, length, spare: Arc::clone(&self.spare), _room: room })
    }

    fn spare_of(&self, capacity: usize) -> Option<Vec<u8>> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = spare.iter().position(|buffer| buffer.len() == capacity) {
            return Some(spare.swap_remove(at));
        }
        // A new one takes the place of those of other lengths: together they would be more than there is room for.
        spare.clear();
        None
    }
}

impl Body {
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.length]
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.buffer.len() > WORTH_KEEPING {
            let buffer = std::mem::take(&mut self.buffer);
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

impl From<Body> for ByteStream {
    /// Shared by every try of a request, never copied.
    fn from(body: Body) -> Self {
        Self::new(SdkBody::from(Bytes::from_owner(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_room_for_so_much_and_what_is_dropped_makes_room() {
        let bodies = Bodies::default();
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(bodies.take(PART_BYTES as usize - 5).await.unwrap());
        }
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), bodies.take(1));
        assert!(waits.await.is_err(), "all of it is taken");
        taken.pop();
        let again = bodies.take(PART_BYTES as usize).await.unwrap();
        assert_eq!(again.as_ref().len() as u64, PART_BYTES);
        drop((taken, again));
        assert_eq!(bodies.spare.lock().unwrap().len(), 4, "kept to be used again");
        let large = bodies.take(SINGLE_BYTES - 1).await.unwrap();
        assert_eq!((large.as_ref().len(), bodies.spare.lock().unwrap().len()), (SINGLE_BYTES - 1, 0));
    }

    #[tokio::test]
    async fn a_part_larger_than_the_room_is_sent_alone() {
        let bodies = Bodies::default();
        drop(bodies.take(2 * ROOM).await.unwrap());
        assert!(bodies.take(0).await.is_some());
    }
}
