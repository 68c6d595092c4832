/*!
The output cap of one stream: the head is passed on at once, the newest bytes of the rest are kept, and what lies
between is counted.

Both ends of an output matter (the first error and the last words), and a program that writes without end must cost
no memory. Pure: nothing here reads or writes.
*/
use crate::exec::protocol::OnOutputLimit;

/// Most bytes kept for the tail, so that a generous cap does not become memory of the agent; the head gets the rest.
const TAIL_MAX: u64 = 4 * 1024 * 1024;

/// Counts and keeps for one stream.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Bytes that may still be passed on at once; `None` without a cap.
    head_left: Option<u64>,
    tail: Ring,
    /// Bytes that came after the head.
    beyond: u64,
}

impl Keeper {
    /// A keeper for a stream with this cap, bytes.
    pub(super) fn new(cap: Option<u64>, on_limit: OnOutputLimit) -> Self {
        let tail = match (cap, on_limit) {
            (Some(cap), OnOutputLimit::Truncate) => (cap / 2).min(TAIL_MAX),
            // A program that is ended for its output has no last words of its own.
            (Some(_), OnOutputLimit::Kill) | (None, _) => 0,
        };
        let head_left = cap.map(|cap| cap - tail);
        Self { head_left, tail: Ring::new(usize::try_from(tail).unwrap_or(usize::MAX)), beyond: 0 }
    }

    /// How many of at most `most` bytes may be passed on now; 0 when the head is complete.
    pub(super) fn head_room(&self, most: usize) -> usize {
        self.head_left.map_or(most, |left| usize::try_from(left).unwrap_or(most).min(most))
    }

    /// Notes that bytes were passed on; never more than [`Self::head_room`] allowed.
    pub(super) fn passed_on(&mut self, count: usize) {
        if let Some(left) = &mut self.head_left {
            *left = left.saturating_sub(count as u64);
        }
    }

    /// Takes bytes that come after the head.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.beyond += bytes.len() as u64;
        self.tail.push(bytes);
    }

    /// Bytes that are lost between head and tail.
    pub(super) fn dropped(&self) -> u64 {
        self.beyond - self.tail.len() as u64
    }

    /// Hands out the tail, oldest bytes first, and forgets it.
    pub(super) fn take_tail(&mut self) -> Vec<u8> {
        self.tail.take()
    }
}

/// The newest `capacity` bytes of what was pushed. Memory grows only as bytes arrive.
#[derive(Debug)]
struct Ring {
    bytes: Vec<u8>,
    capacity: usize,
    /// Where the oldest byte is, once the ring is full.
    oldest: usize,
}

impl Ring {
    fn new(capacity: usize) -> Self {
        Self { bytes: Vec::new(), capacity, oldest: 0 }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8]) {
        let newest = bytes.len().saturating_sub(self.capacity);
        let mut bytes = bytes.get(newest..).unwrap_or_default();
        let room = self.capacity - self.bytes.len();
        if let Some((fresh, rest)) = bytes.split_at_checked(room.min(bytes.len())) {
            self.bytes.extend_from_slice(fresh);
            bytes = rest;
        }
        // Overwrites the oldest: at most two pieces, before and after the wrap.
        while !bytes.is_empty() {
            let Some(old) = self.bytes.get_mut(self.oldest..).filter(|old| !old.is_empty()) else {
                return;
            };
            let count = old.len().min(bytes.len());
            for (place, byte) in old.chunks_mut(count).take(1).zip(bytes.chunks(count)) {
                place.copy_from_slice(byte);
            }
            bytes = bytes.get(count..).unwrap_or_default();
            self.oldest = (self.oldest + count) % self.capacity;
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.rotate_left(self.oldest);
        self.oldest = 0;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds a keeper as the pump does; returns head, dropped and tail.
    fn run(cap: Option<u64>, on_limit: OnOutputLimit, pieces: &[Vec<u8>]) -> (Vec<u8>, u64, Vec<u8>) {
        let mut keeper = Keeper::new(cap, on_limit);
        let mut head = Vec::new();
        for piece in pieces {
            let (now, later) = piece.split_at(keeper.head_room(piece.len()));
            keeper.passed_on(now.len());
            head.extend_from_slice(now);
            keeper.keep(later);
        }
        let dropped = keeper.dropped();
        (head, dropped, keeper.take_tail())
    }

    proptest! {
        #[test]
        fn head_gap_and_tail_are_the_output(
            cap in 0_u64..200,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 0..20),
        ) {
            let all = pieces.concat();
            let (head, dropped, tail) = run(Some(cap), OnOutputLimit::Truncate, &pieces);
            prop_assert_eq!(head.len() + tail.len(), all.len().min(usize::try_from(cap).unwrap()));
            prop_assert_eq!(head.len() as u64 + dropped + tail.len() as u64, all.len() as u64);
            prop_assert!(all.starts_with(&head) && all.ends_with(&tail));
            prop_assert!(head.len() >= tail.len());
        }

        #[test]
        fn a_stream_that_is_ended_for_its_length_keeps_its_whole_beginning(
            cap in 0_u64..200,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 0..20),
        ) {
            let all = pieces.concat();
            let (head, dropped, tail) = run(Some(cap), OnOutputLimit::Kill, &pieces);
            prop_assert_eq!(&head[..], &all[..all.len().min(usize::try_from(cap).unwrap())]);
            prop_assert_eq!(dropped > 0, all.len() as u64 > cap);
            prop_assert!(tail.is_empty());
        }
    }

    #[test]
    fn without_a_cap_everything_is_passed_on() {
        let (head, dropped, tail) = run(None, OnOutputLimit::Kill, &[vec![1; 100], vec![2; 100]]);
        assert_eq!((head.len(), dropped, tail.len()), (200, 0, 0));
    }

    #[test]
    fn a_generous_cap_is_not_memory_before_it_is_used_nor_all_of_it_after() {
        let mut keeper = Keeper::new(Some(1 << 40), OnOutputLimit::Truncate);
        assert_eq!(keeper.tail.bytes.capacity(), 0);
        keeper.keep(&vec![0; 9 << 20]);
        assert_eq!(keeper.tail.len() as u64, TAIL_MAX);
    }
}
