/*!
The caller at the other end of the attach stream: its frames come in, ours go out, and none of it ever blocks.
*/
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::PollFlags;
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stdin, dup2_stdout};

use super::outbox::Outbox;
use crate::exec::protocol::{Decoder, Frame, Kind, ProtocolError};
use crate::sys::readiness::Interest;
use crate::sys::spawn::duplicate_above;

/// First number for our own descriptors, clear of those that a program may expect.
const FLOOR: i32 = 64;

/// Bytes taken from the caller at once.
const READ: usize = 64 * 1024;

/// Why there is nobody to talk to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    /// The stream ended.
    #[error("the caller has gone")]
    Left,
    /// It is there but does not read.
    #[error("the caller does not read what it is sent")]
    Stalled,
    /// A stream failed in a way that none should.
    #[error("a stream failed: {0}")]
    Failed(#[from] Errno),
    /// There is nothing to send.
    #[error("the report cannot be written: {0}")]
    Report(#[from] serde_json::Error),
}

/// The stream.
#[derive(Debug)]
pub(super) struct Caller {
    input: OwnedFd,
    output: OwnedFd,
    decoder: Decoder,
    scratch: Vec<u8>,
    /// Frames for the caller.
    pub(super) outbox: Outbox,
}

impl Caller {
    /// Takes over standard input and output, and leaves `/dev/null` in their places, so that nothing printed by
    /// accident gets between the frames and no child inherits them.
    pub(super) fn take_over() -> Result<Self, Errno> {
        let input = duplicate_above(0, FLOOR)?;
        let output = duplicate_above(1, FLOOR)?;
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        for fd in [&input, &output] {
            set_nonblocking(fd)?;
        }
        Ok(Self { input, output, decoder: Decoder::default(), scratch: Vec::new(), outbox: Outbox::default() })
    }

    /// What to wait for. Without `listening` nothing is read, but the caller's leaving still shows where the kernel
    /// tells it.
    pub(super) fn interests(&self, listening: bool) -> [Interest<'_>; 2] {
        let input = if listening { PollFlags::POLLIN } else { PollFlags::empty() };
        let output = if self.outbox.pending() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
        [(Some(self.input.as_fd()), input), (Some(self.output.as_fd()), output)]
    }

    /// Acts on what [`Self::interests`] found: reads, writes, and notices that the caller is gone.
    pub(super) fn attend(&mut self, [input, output]: [PollFlags; 2]) -> Result<(), Gone> {
        if output.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return Err(Gone::Left);
        }
        if input.contains(PollFlags::POLLIN) {
            self.receive()?;
        } else if input.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return Err(Gone::Left);
        }
        self.flush().map(drop)
    }

    fn receive(&mut self) -> Result<(), Gone> {
        self.scratch.resize(READ, 0);
        match nix::unistd::read(&self.input, &mut self.scratch) {
            Ok(0) => Err(Gone::Left),
            Ok(count) => {
                self.decoder.push(self.scratch.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes what has arrived and forgets it; tells when the stream has ended.
    pub(super) fn hear_nothing(&mut self) -> Result<(), Gone> {
        let heard = self.receive();
        self.decoder = Decoder::default();
        heard
    }

    /// The next frame that has arrived whole.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        self.decoder.next_frame()
    }

    /// Queues a frame.
    pub(super) fn send(&mut self, kind: Kind, payload: &[u8]) {
        self.outbox.push(kind, payload);
    }

    /// Writes as much as the caller takes now; returns the number of bytes.
    pub(super) fn flush(&mut self) -> Result<usize, Gone> {
        let output = &self.output;
        match self.outbox.flush(|bytes| nix::unistd::write(output, bytes)) {
            Ok(count) => Ok(count),
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(Gone::Left),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Enlarges the stream's own buffer for a program that writes much. It works without that too.
    pub(super) fn widen(&self) {
        widen(self.output.as_fd());
    }
}

/// Size of an enlarged pipe, bytes. Not more: the kernel counts all pipes of a user, over all sandboxes, and shrinks
/// new ones when the sum passes `/proc/sys/fs/pipe-user-pages-soft` (64 MiB).
const WIDE: i32 = 256 * 1024;

/// Enlarges a pipe; what is no pipe, or may not grow, stays as it is.
pub(super) fn widen(pipe: BorrowedFd<'_>) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(WIDE));
}

/// Makes reads and writes return at once.
pub(super) fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
