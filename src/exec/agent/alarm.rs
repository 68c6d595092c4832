/*!
Signals as something to wait for: a pipe that becomes readable when a child ended or someone stops the container.
*/
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGPIPE, SIGTERM};

use crate::sys::readiness::Interest;

/// The handlers and what they saw.
#[derive(Debug)]
pub(super) struct Alarm {
    pipe: OwnedFd,
    stop: Arc<AtomicBool>,
}

impl Alarm {
    /// Installs the handlers. SIGPIPE gets one too: a write to a closed pipe then fails instead of killing us.
    pub(super) fn install() -> io::Result<Self> {
        let (pipe, wake) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
            signal_hook::low_level::pipe::register(signal, wake.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGCHLD, wake)?;
        signal_hook::flag::register(SIGPIPE, Arc::new(AtomicBool::new(false)))?;
        Ok(Self { pipe, stop })
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Interest<'_> {
        (Some(self.pipe.as_fd()), PollFlags::POLLIN)
    }

    /// Empties the pipe, so that it can wake us again.
    pub(super) fn acknowledge(&self) {
        let mut bytes = [0; 64];
        while nix::unistd::read(&self.pipe, &mut bytes).is_ok_and(|count| count > 0) {}
    }

    /// Whether SIGTERM or SIGINT came: `docker stop`, or Ctrl-C at a terminal that is ours.
    pub(super) fn wants_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
