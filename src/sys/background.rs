/*!
Going on in the background: the process splits in two, and the one that was called stays until the other says that it
is on its way.
*/
#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use super::wait::Exit;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The one that was called.
    Front(Front),
    /// The one that goes on, in a session of its own and without standard input.
    Back(Back),
}

/// What the caller's process knows of the other.
#[derive(Debug)]
pub struct Front {
    child: nix::unistd::Pid,
    word: OwnedFd,
}

/// The other one's way to tell that it is on its way.
#[derive(Debug)]
pub struct Back {
    word: OwnedFd,
}

/// Splits the process. To be called while it has one thread: the copy gets that thread alone.
pub fn split() -> Result<Side, Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the caller has no other thread, so no lock is held by one that the copy lacks.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(write);
            Ok(Side::Front(Front { child, word: read }))
        }
        ForkResult::Child => {
            drop(read);
            setsid()?;
            dup2_stdin(null()?)?;
            Ok(Side::Back(Back { word: write }))
        }
    }
}

fn null() -> Result<OwnedFd, Errno> {
    open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}

impl Front {
    /// Waits for the other's word. `None`: it is on its way. Otherwise it ended first, and how.
    pub fn wait(self) -> Result<Option<Exit>, Errno> {
        let mut word = [0_u8; 1];
        loop {
            match nix::unistd::read(self.word.as_fd(), &mut word) {
                Ok(0) => break,
                Ok(_) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let mut status = 0;
        // SAFETY: a child of ours and a place for its status. nix's own call loses deaths by real-time signals.
        Errno::result(unsafe { libc::waitpid(self.child.as_raw(), &raw mut status, 0) })?;
        Exit::from_status(status).ok_or(Errno::ECHILD).map(Some)
    }
}

impl Back {
    /// Lets the caller's process go, and the caller's terminal with it. `EPIPE`: it has gone already.
    pub fn is_on_its_way(self) -> Result<(), Errno> {
        let null = null()?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        nix::unistd::write(self.word.as_fd(), b"1").map(drop)
    }
}
