//! Signals that ask for an orderly end: noted when they come, looked at between two pieces of work.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::SFlag;

use super::error::ArchiveError;
use super::node;

/// Pieces in which pipes are written: the largest that a pipe which has room takes without waiting.
const PIPE_PIECE: usize = 4096;
/// Pause between two looks at the note while a pipe has nothing or takes nothing, milliseconds.
const LOOK: u8 = 100;

/// The note. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Notes the given signals from now on.
    pub fn on(signals: &[i32]) -> io::Result<Self> {
        let stop = Self::default();
        for number in signals {
            let value = usize::try_from(*number).map_err(io::Error::other)?;
            signal_hook::flag::register_usize(*number, Arc::clone(&stop.0), value)?;
        }
        Ok(stop)
    }

    /// Asks for the end, as that signal would.
    pub fn ask(&self, number: usize) {
        self.0.store(number, Ordering::SeqCst);
    }

    /// An error once somebody asked.
    pub fn check(&self) -> Result<(), ArchiveError> {
        match self.0.load(Ordering::SeqCst) {
            0 => Ok(()),
            number => Err(ArchiveError::Interrupted(i32::try_from(number).unwrap_or(0))),
        }
    }

    /// The same as an error of input and output; [`unwrapped`] gets it back.
    fn check_io(&self) -> io::Result<()> {
        self.check().map_err(io::Error::other)
    }
}

/// An error of input and output: ours when one of ours is inside.
pub fn unwrapped(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |error| error.downcast().unwrap_or_else(|error| ArchiveError::io(doing, path)(error))
}

/// A stream that is waited for no longer than until a signal comes, or for as long as `patience`.
#[derive(Debug)]
pub struct Stoppable<T> {
    inner: T,
    stop: Stop,
    patience: Option<Duration>,
    piece: usize,
}

impl<T: AsFd> Stoppable<T> {
    /// Wraps a stream.
    pub fn new(inner: T, stop: Stop, patience: Option<Duration>) -> Self {
        let regular = node::look(&inner).is_ok_and(|stat| node::file_type(&stat) == SFlag::S_IFREG);
        Self { inner, stop, patience, piece: if regular { usize::MAX } else { PIPE_PIECE } }
    }

    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            self.stop.check_io()?;
            let mut streams = [PollFd::new(self.inner.as_fd(), flags)];
            match poll(&mut streams, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
            if self.patience.is_some_and(|patience| begun.elapsed() > patience) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl<T: AsFd + Read> Read for Stoppable<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLIN)?;
        self.inner.read(out)
    }
}

impl<T: AsFd + Write> Write for Stoppable<T> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLOUT)?;
        self.inner.write(piece.get(..self.piece).unwrap_or(piece))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: AsFd> AsFd for Stoppable<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up() {
        let (_reader, writer) = io::pipe().unwrap();
        let stop = Stop::default();
        let mut stream = Stoppable::new(writer, stop.clone(), None);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            stop.ask(15);
        });
        let error = stream.write_all(&vec![0; 1 << 20]).map_err(unwrapped("write", "pipe")).unwrap_err();
        assert!(matches!(error, ArchiveError::Interrupted(15)), "{error}");
    }

    #[test]
    fn patience_ends() {
        let (reader, _writer) = io::pipe().unwrap();
        let mut stream = Stoppable::new(reader, Stop::default(), Some(Duration::from_millis(1)));
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
