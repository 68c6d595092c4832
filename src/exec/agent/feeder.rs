/*!
Standard input on its way to the program.

The queue holds what the program has not read yet. A caller who keeps to [`STDIN_WINDOW`] never fills it, so its other
frames are always seen; from any other caller the agent stops reading until the program has read something.
*/
use std::collections::VecDeque;

use nix::errno::Errno;

use crate::exec::protocol::STDIN_WINDOW;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Feeder {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are written already.
    written: usize,
    waiting: usize,
    taken: u64,
    announced: u64,
    ended: bool,
    refused: bool,
}

/// What the program's standard input needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// To be written to.
    Write,
    /// To be closed.
    Close,
    /// Nothing: more may come.
    Wait,
}

impl Feeder {
    /// Adds bytes from the caller.
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if self.refused || self.ended {
            self.taken += bytes.len() as u64;
        } else if !bytes.is_empty() {
            self.waiting += bytes.len();
            self.chunks.push_back(bytes);
        }
    }

    /// The caller has no more.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The program does not take any: everything that waits and everything that comes is thrown away, and counts as
    /// taken, so that the caller's window does not close for ever.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
        self.taken += self.waiting as u64;
        self.waiting = 0;
        self.written = 0;
        self.chunks.clear();
    }

    /// Whether so much waits that nothing more should be read from the caller.
    pub(super) fn is_full(&self) -> bool {
        // One window and a frame: the caller may have cut its frames across the edge.
        self.waiting >= STDIN_WINDOW + 64 * 1024
    }

    /// What to do with the program's end.
    pub(super) fn need(&self) -> Need {
        if self.waiting > 0 {
            Need::Write
        } else if self.ended || self.refused {
            Need::Close
        } else {
            Need::Wait
        }
    }

    /// Hands bytes to `write` until it takes no more. A program that has closed its end is no error.
    pub(super) fn feed(&mut self, mut write: impl FnMut(&[u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        while let Some(chunk) = self.chunks.front() {
            match write(chunk.get(self.written..).unwrap_or_default()) {
                Ok(count) => {
                    self.written += count;
                    self.waiting -= count;
                    self.taken += count as u64;
                    if self.written >= chunk.len() {
                        self.chunks.pop_front();
                        self.written = 0;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // EIO: the terminal has no other end any more.
                Err(Errno::EPIPE | Errno::EIO) => {
                    self.refuse();
                    break;
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// The number for a `StdinTaken` frame, when it is time for one.
    pub(super) fn announcement(&mut self) -> Option<u64> {
        let due = self.taken - self.announced >= STDIN_WINDOW as u64 / 4;
        due.then(|| {
            self.announced = self.taken;
            self.taken
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_program_reads_what_the_caller_sent(
            steps in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..50), 0_usize..60), 0..30),
        ) {
            let mut feeder = Feeder::default();
            let (mut sent, mut read) = (Vec::new(), Vec::new());
            for (bytes, take) in steps {
                sent.extend_from_slice(&bytes);
                feeder.push(bytes);
                let mut left = take;
                feeder.feed(|bytes| {
                    let count = bytes.len().min(left);
                    left -= count;
                    read.extend_from_slice(&bytes[..count]);
                    if count == 0 { Err(Errno::EAGAIN) } else { Ok(count) }
                }).unwrap();
                prop_assert_eq!(feeder.need(), if sent.len() == read.len() { Need::Wait } else { Need::Write });
            }
            feeder.end();
            feeder.feed(|bytes| { read.extend_from_slice(bytes); Ok(bytes.len()) }).unwrap();
            prop_assert_eq!(sent, read);
            prop_assert_eq!(feeder.need(), Need::Close);
        }
    }

    #[test]
    fn the_window_reopens_as_bytes_are_taken_or_thrown_away() {
        let mut feeder = Feeder::default();
        feeder.push(vec![0; STDIN_WINDOW]);
        assert!(!feeder.is_full() && feeder.announcement().is_none());
        let mut room = STDIN_WINDOW / 4;
        let limited = |bytes: &[u8]| {
            let count = bytes.len().min(room);
            room -= count;
            if count == 0 { Err(Errno::EAGAIN) } else { Ok(count) }
        };
        feeder.feed(limited).unwrap();
        assert_eq!(feeder.announcement(), Some(STDIN_WINDOW as u64 / 4));
        assert_eq!(feeder.announcement(), None);
        feeder.feed(|_| Err(Errno::EPIPE)).unwrap();
        assert_eq!((feeder.need(), feeder.announcement()), (Need::Close, Some(STDIN_WINDOW as u64)));
        feeder.push(vec![0; STDIN_WINDOW]);
        assert_eq!((feeder.need(), feeder.announcement()), (Need::Close, Some(2 * STDIN_WINDOW as u64)));
    }

    #[test]
    fn a_caller_that_ignores_the_window_is_stopped() {
        let mut feeder = Feeder::default();
        while !feeder.is_full() {
            feeder.push(vec![0; 32 * 1024]);
        }
        assert!(feeder.waiting <= STDIN_WINDOW + 96 * 1024);
    }
}
