/*!
Frames on their way to the caller.

Bounded for bulk data: whoever pumps asks [`Outbox::has_room`] first, so that a caller who does not read slows the
program down instead of filling memory. Output is read straight into its frame; it is copied nowhere in between.
*/
use nix::errno::Errno;

use crate::exec::protocol::{HEADER, Kind, encode};

/// Payload of a full frame of bulk data: with its header it is the 32 KiB in which the daemon forwards a stream.
pub(super) const BULK: usize = 32 * 1024 - HEADER;

/// Bytes of bulk data that may wait.
const CAPACITY: usize = 4 * 32 * 1024;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn pending(&self) -> usize {
        self.end - self.start
    }

    /// Whether another full frame of bulk data fits.
    pub(super) fn has_room(&self) -> bool {
        self.pending() + HEADER + BULK <= CAPACITY
    }

    /// Adds a whole frame, room or not: for the few that are not bulk data.
    pub(super) fn push(&mut self, kind: Kind, payload: &[u8]) {
        self.buffer.truncate(self.end);
        encode(kind, payload, &mut self.buffer);
        self.end = self.buffer.len();
    }

    /// Adds a frame whose payload, `most` bytes at most, `read` writes in place. Nothing is added when that is empty
    /// or fails.
    pub(super) fn fill(
        &mut self,
        kind: Kind,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let payload = self.end + HEADER;
        let most = most.min(BULK);
        if self.buffer.len() < payload + most {
            self.compact();
            let needed = self.end + HEADER + most;
            if self.buffer.len() < needed {
                self.buffer.resize(needed, 0);
            }
        }
        let payload = self.end + HEADER;
        let room = self.buffer.get_mut(payload..payload + most).unwrap_or_default();
        let count = read(room)?.min(most);
        if count == 0 {
            return Ok(0);
        }
        let length = u32::try_from(count).unwrap_or(0).to_be_bytes();
        let header = self.buffer.get_mut(self.end..payload).unwrap_or_default();
        for (place, byte) in header.iter_mut().zip([kind as u8].into_iter().chain(length)) {
            *place = byte;
        }
        self.end = payload + count;
        Ok(count)
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Hands what waits to `write` until it takes no more; returns how much it took.
    pub(super) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
        let before = self.start;
        while let Some(waiting) = self.buffer.get(self.start..self.end).filter(|waiting| !waiting.is_empty()) {
            match write(waiting) {
                Ok(count) => self.start += count.min(waiting.len()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        let count = self.start - before;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exec::protocol::Decoder;

    proptest! {
        /// Whatever order frames are added in and however little the caller takes, it reads what was put in.
        #[test]
        fn every_frame_arrives_once_and_in_order(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..9_000, 0_usize..20_000), 1..60),
        ) {
            let mut outbox = Outbox::default();
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for (number, (in_place, length, take)) in steps.into_iter().enumerate() {
                let byte = u8::try_from(number).unwrap();
                if in_place {
                    let count = outbox.fill(Kind::Stdout, length + 7, |room| {
                        room[..length].fill(byte);
                        Ok(length)
                    });
                    prop_assert_eq!(count, Ok(length));
                    if length > 0 {
                        expected.push((Kind::Stdout, vec![byte; length]));
                    }
                } else {
                    outbox.push(Kind::Stderr, &vec![byte; length]);
                    expected.push((Kind::Stderr, vec![byte; length]));
                }
                let mut left = take;
                outbox.flush(|bytes| {
                    let count = bytes.len().min(left);
                    left -= count;
                    wire.extend_from_slice(&bytes[..count]);
                    if count == 0 { Err(Errno::EAGAIN) } else { Ok(count) }
                }).unwrap();
            }
            outbox.flush(|bytes| { wire.extend_from_slice(bytes); Ok(bytes.len()) }).unwrap();
            prop_assert_eq!(outbox.pending(), 0);
            let mut decoder = Decoder::default();
            decoder.push(&wire);
            for (kind, payload) in expected {
                let frame = decoder.next_frame().unwrap().unwrap();
                prop_assert_eq!((frame.kind, frame.payload), (kind, payload));
            }
            prop_assert!(decoder.is_empty());
        }
    }

    #[test]
    fn bulk_data_has_a_bound_and_a_failed_read_adds_nothing() {
        let mut outbox = Outbox::default();
        let mut frames = 0;
        while outbox.has_room() {
            assert_eq!(outbox.fill(Kind::Stdout, usize::MAX, |room| Ok(room.len())), Ok(BULK));
            frames += 1;
        }
        assert_eq!((frames, outbox.pending()), (4, CAPACITY));
        assert_eq!(outbox.fill(Kind::Stdout, 1, |_| Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(outbox.fill(Kind::Stdout, 1, |_| Ok(0)), Ok(0));
        assert_eq!(outbox.pending(), CAPACITY);
    }
}
