/*!
Our own standard output or error, written without ever waiting for its reader.

A reader that stalls (`docker attach` in a suspended terminal, a full log pipe) must not stop PID 1 from reaping. The
stream is opened anew through `/proc/self/fd`, because setting `O_NONBLOCK` on the inherited description would set it
for every process that shares it. Where that is not possible (a socket, a file of another user), sockets are written
with `MSG_DONTWAIT`, and the rest only after `poll(2)` reported room, in pieces that a pipe takes whole.
*/
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::MsgFlags;
use nix::sys::stat::{Mode, SFlag};

use super::lines::take_front;

/// A pipe that `poll(2)` reports as writable takes so many bytes (`PIPE_BUF`) without blocking.
pub const PIECE: usize = 4096;

/// Own lines that are kept for a stalled reader, bytes.
const OWN_ROOM: usize = 64 * 1024;

/// Pieces written in one turn, so that one busy service cannot keep the loop.
const PIECES_PER_TURN: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The descriptor is ours alone and does not block.
    NonBlocking,
    /// A socket: `MSG_DONTWAIT`.
    Socket,
    /// Shared: ask `poll(2)` before each piece.
    Polled,
}

/// One of our output streams.
#[derive(Debug)]
pub struct Outlet {
    stream: Option<(OwnedFd, Way)>,
    /// The piece on its way, and how much of it is written.
    piece: Vec<u8>,
    written: usize,
    /// Whether the last turn ended although the reader would have taken more.
    unfinished: bool,
    own: VecDeque<u8>,
    dropped: u64,
}

impl Outlet {
    /// Opens the stream behind `fd`. A closed one makes an outlet that swallows everything.
    pub fn open(fd: BorrowedFd<'_>) -> Self {
        Self {
            stream: open_stream(fd).ok(),
            piece: Vec::with_capacity(PIECE),
            written: 0,
            unfinished: false,
            own: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Whether nobody can read what is written any more.
    pub fn is_dead(&self) -> bool {
        self.stream.is_none()
    }

    /// Adds one of our own lines; it goes before those of services. Dropped, and counted, when the reader has
    /// stalled for so long that there is no room.
    pub fn say(&mut self, line: &str) {
        if self.is_dead() {
            return;
        }
        if self.own.len() + line.len() > OWN_ROOM {
            self.dropped = self.dropped.saturating_add(1);
        } else {
            self.own.extend(line.as_bytes());
        }
    }

    /// Own lines that were dropped, since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether something waits for the reader.
    pub fn is_pending(&self) -> bool {
        self.unfinished || self.written < self.piece.len() || !self.own.is_empty()
    }

    /// Descriptor to poll for room, while something waits.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        let (stream, _) = self.stream.as_ref().filter(|_| self.is_pending())?;
        Some(stream.as_fd())
    }

    /// Writes what the reader takes now: own lines, then the whole lines that `refill` puts into the piece. Nothing gets into the
    /// middle of a piece.
    pub fn turn(&mut self, mut refill: impl FnMut(&mut Vec<u8>)) {
        self.unfinished = false;
        for _ in 0..PIECES_PER_TURN {
            if self.written >= self.piece.len() {
                self.piece.clear();
                self.written = 0;
                self.take_own();
                if self.piece.is_empty() {
                    refill(&mut self.piece);
                }
            }
            let Some(rest) = self.piece.get(self.written..).filter(|rest| !rest.is_empty()) else { return };
            let Some((stream, way)) = &self.stream else {
                self.piece.clear();
                self.own.clear();
                continue;
            };
            match write_piece(stream, *way, rest) {
                Ok(count) => self.written += count,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // A full disk may have room later; this piece is lost.
                Err(Errno::ENOSPC | Errno::EDQUOT) => self.piece.clear(),
                Err(_) => self.stream = None,
            }
        }
        self.unfinished = true;
    }

    fn take_own(&mut self) {
        // Whole lines, as many as fit, so that a service's line never lands inside one of ours.
        let window = self.own.iter().take(PIECE);
        let end = window.enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1).next_back();
        let length = end.unwrap_or_else(|| self.own.len().min(PIECE));
        self.piece.extend(take_front(&mut self.own, length));
    }
}

fn open_stream(fd: BorrowedFd<'_>) -> Result<(OwnedFd, Way), Errno> {
    let kind = SFlag::from_bits_truncate(nix::sys::stat::fstat(fd)?.st_mode) & SFlag::S_IFMT;
    let copy = || fd.try_clone_to_owned().map_err(|error| error.raw_os_error().map_or(Errno::EBADF, Errno::from_raw));
    if kind == SFlag::S_IFSOCK {
        return Ok((copy()?, Way::Socket));
    }
    if kind == SFlag::S_IFIFO || kind == SFlag::S_IFCHR {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        if let Ok(stream) = nix::fcntl::open(path.as_str(), flags, Mode::empty()) {
            return Ok((stream, Way::NonBlocking));
        }
    }
    // A regular file has to keep its offset, and never blocks for a reader.
    Ok((copy()?, Way::Polled))
}

fn write_piece(stream: &OwnedFd, way: Way, bytes: &[u8]) -> Result<usize, Errno> {
    match way {
        Way::NonBlocking => nix::unistd::write(stream, bytes),
        Way::Socket => {
            nix::sys::socket::send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
        }
        Way::Polled => {
            let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
            if nix::poll::poll(&mut polled, PollTimeout::ZERO)? == 0 {
                return Err(Errno::EAGAIN);
            }
            // More than this could block.
            nix::unistd::write(stream, bytes.get(..PIECE).unwrap_or(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Fills each piece with a line of its number, endlessly.
    fn endless() -> impl FnMut(&mut Vec<u8>) {
        |piece| piece.extend([b'x'; 99].into_iter().chain([b'\n']))
    }

    #[test]
    fn a_stalled_pipe_takes_what_fits_and_never_blocks_us() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut outlet = Outlet::open(write.as_fd());
        for _ in 0..200 {
            outlet.turn(endless());
        }
        assert!(outlet.is_pending(), "the pipe is full and the rest waits");
        assert!(outlet.awaited().is_some());
        // The inherited descriptor of everyone else still blocks.
        let flags = nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
        drop(read);
        outlet.turn(endless());
        assert!(outlet.is_dead());
        outlet.turn(|_| {});
        assert!(!outlet.is_pending());
    }

    #[test]
    fn a_stalled_socket_never_blocks_us_either() {
        let (_reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut outlet = Outlet::open(writer.as_fd());
        for _ in 0..200 {
            outlet.turn(endless());
        }
        assert!(outlet.is_pending());
    }

    #[test]
    fn own_lines_go_first_and_are_bounded() {
        let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut outlet = Outlet::open(writer.as_fd());
        for _ in 0..OWN_ROOM {
            outlet.say("ours\n");
        }
        assert!(outlet.take_dropped() > 0);
        let mut service = vec![b"theirs\n".to_vec()];
        outlet.turn(|piece| piece.extend(service.pop().unwrap_or_default()));
        drop((outlet, writer));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("ours\n") && text.ends_with("\ntheirs\n"));
        assert_eq!(text.lines().filter(|line| *line == "ours").count(), OWN_ROOM / 5);
    }

    #[test]
    fn a_turn_that_ends_early_asks_for_another() {
        let file = tempfile::tempfile().unwrap();
        let mut outlet = Outlet::open(file.as_fd());
        outlet.turn(endless());
        assert!(outlet.awaited().is_some(), "more waits than one turn writes");
        outlet.turn(|_| {});
        assert!(outlet.awaited().is_none());
    }

    #[test]
    fn a_file_keeps_its_offset() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"before\n").unwrap();
        let mut outlet = Outlet::open(file.as_fd());
        outlet.say("after\n");
        outlet.turn(|_| {});
        std::io::Seek::rewind(&mut file).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before\nafter\n");
    }
}
