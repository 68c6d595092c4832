/*!
One output stream of the program on its way to the caller.
*/
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::read;

use super::caller::widen;
use super::keeper::Keeper;
use super::outbox::{BULK, Outbox};
use crate::exec::protocol::{Kind, OnOutputLimit};

/// Bytes read at once beyond the head, where nothing is passed on.
const SCRATCH: usize = 64 * 1024;

/// Reads in one go before the other descriptors get their turn.
const ROUNDS: usize = 8;

/// A program that has written this much gets larger pipes.
const MUCH: u64 = 256 * 1024;

/// The stream over all stages of a job.
#[derive(Debug)]
pub(super) struct Channel {
    kind: Kind,
    gap: Kind,
    keeper: Keeper,
    seen: u64,
}

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// There may be more at once.
    More,
    /// Nothing for now.
    Empty,
    /// The caller must read first.
    Blocked,
    /// No writer is left.
    Closed,
}

impl Channel {
    pub(super) fn stdout(cap: Option<u64>, on_limit: OnOutputLimit) -> Self {
        Self { kind: Kind::Stdout, gap: Kind::StdoutGap, keeper: Keeper::new(cap, on_limit), seen: 0 }
    }

    pub(super) fn stderr(cap: Option<u64>, on_limit: OnOutputLimit) -> Self {
        Self { kind: Kind::Stderr, gap: Kind::StderrGap, keeper: Keeper::new(cap, on_limit), seen: 0 }
    }

    /// Whether reading would get anywhere now.
    pub(super) fn wants_input(&self, outbox: &Outbox) -> bool {
        self.keeper.head_room(BULK) == 0 || outbox.has_room()
    }

    /// Bytes lost by the cap so far.
    pub(super) fn dropped(&self) -> u64 {
        self.keeper.dropped()
    }

    /// Bytes read so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Moves what is there from `source` to `outbox`, or behind the head into the keeper. `scratch` is any buffer.
    pub(super) fn pump(
        &mut self,
        source: impl AsFd,
        outbox: &mut Outbox,
        scratch: &mut Vec<u8>,
    ) -> Result<Flow, Errno> {
        for _ in 0..ROUNDS {
            let room = self.keeper.head_room(BULK);
            let got = if room > 0 {
                if !outbox.has_room() {
                    return Ok(Flow::Blocked);
                }
                outbox
                    .fill(self.kind, room, |place| read(&source, place))
                    .inspect(|count| self.keeper.passed_on(*count))
            } else {
                scratch.resize(SCRATCH, 0);
                read(&source, scratch).inspect(|count| self.keeper.keep(scratch.get(..*count).unwrap_or_default()))
            };
            match got {
                // EIO is the way a terminal says that its other end is closed.
                Ok(0) | Err(Errno::EIO) => return Ok(Flow::Closed),
                Ok(count) => self.note(count, source.as_fd()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Flow::Empty),
                Err(errno) => return Err(errno),
            }
        }
        Ok(Flow::More)
    }

    fn note(&mut self, count: usize, source: BorrowedFd<'_>) {
        let before = self.seen;
        self.seen += count as u64;
        if before < MUCH && self.seen >= MUCH {
            widen(source);
        }
    }

    /// Whether so much has passed that the stream to the caller deserves a larger buffer too.
    pub(super) fn is_busy(&self) -> bool {
        self.seen >= MUCH
    }

    /// What remains to be sent at the end: the number of dropped bytes, then the tail in frames.
    pub(super) fn finish(&mut self) -> Remainder {
        let dropped = self.keeper.dropped();
        Remainder {
            gap: (dropped > 0).then_some((self.gap, dropped)),
            kind: self.kind,
            tail: self.keeper.take_tail(),
            sent: 0,
        }
    }
}

/// The end of a stream, sent piece by piece.
#[derive(Debug)]
pub(super) struct Remainder {
    gap: Option<(Kind, u64)>,
    kind: Kind,
    tail: Vec<u8>,
    sent: usize,
}

impl Remainder {
    /// Queues as much as there is room for; `true` when nothing is left.
    pub(super) fn send(&mut self, outbox: &mut Outbox) -> bool {
        if let Some((kind, dropped)) = self.gap.take() {
            outbox.push(kind, &dropped.to_be_bytes());
        }
        while outbox.has_room() {
            let rest = self.tail.get(self.sent..).unwrap_or_default();
            let Some(piece) = rest.chunks(BULK).next() else {
                self.tail = Vec::new();
                return true;
            };
            outbox.push(self.kind, piece);
            self.sent += piece.len();
        }
        false
    }
}
