/*!
Collecting dead children, and how they ended.

nix's `waitpid` is not used: it answers `EINVAL` for a child that a real-time signal ended, after the kernel has
already forgotten that child, and the death would be lost.
*/
#![allow(unsafe_code)]

use std::fmt;

use nix::errno::Errno;
use nix::sys::signal::Signal;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(u8),
    /// A signal of this number ended it.
    Signal(i32),
}

impl Exit {
    /// Reads a status word of `wait(2)`; `None` when the process was only stopped or continued.
    pub fn from_status(status: i32) -> Option<Self> {
        if libc::WIFEXITED(status) {
            // The kernel hands on eight bits.
            Some(Self::Code(u8::try_from(libc::WEXITSTATUS(status) & 0xff).unwrap_or(u8::MAX)))
        } else if libc::WIFSIGNALED(status) {
            Some(Self::Signal(libc::WTERMSIG(status)))
        } else {
            None
        }
    }

    /// Whether it returned 0.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// Whether it failed by itself, so that its last words may tell why. `SIGKILL` comes from outside (the kernel short of memory, a
    /// person), and whatever it said before was about something that it survived.
    pub const fn is_of_its_own_making(self) -> bool {
        !matches!(self, Self::Code(0) | Self::Signal(libc::SIGKILL))
    }

    /// The exit code that a shell, tini and docker give: its own, or 128 plus the signal's number.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => u8::try_from(number).unwrap_or(127).saturating_add(128),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number} ({})", signal_name(*number)),
        }
    }
}

/// `SIGTERM` and the like; real-time signals by their distance from `SIGRTMIN`.
pub fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) => {
            format!("SIGRTMIN+{}", number - libc::SIGRTMIN())
        }
        Err(_) => "unknown".to_owned(),
    }
}

/// One dead child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Its process id, free for reuse from now on.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
}

/// What one look at the children gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// This child is gone.
    Death(Death),
    /// There are children and none of them is dead.
    NoneDead,
    /// There is no child at all (`ECHILD`).
    NoChild,
}

/// Collects one dead child, whichever it is, without waiting for one.
pub fn reap_one() -> Result<Reaped, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a live local that the call writes one int to.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => return Ok(Reaped::NoneDead),
            1.. => {
                if let Some(exit) = Exit::from_status(status) {
                    return Ok(Reaped::Death(Death { pid, exit }));
                }
            }
            _ => match Errno::last() {
                Errno::EINTR => {}
                Errno::ECHILD => return Ok(Reaped::NoChild),
                errno => return Err(errno),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_shell() {
        assert_eq!(Exit::from_status(3 << 8), Some(Exit::Code(3)));
        assert_eq!(Exit::from_status(9).map(Exit::code), Some(137));
        assert_eq!(Exit::Signal(libc::SIGRTMIN()).code(), 128 + u8::try_from(libc::SIGRTMIN()).unwrap());
        assert_eq!(Exit::from_status(0x137f), None, "a stopped process has not ended");
    }

    #[test]
    fn words_name_the_signal() {
        assert_eq!(Exit::Signal(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(Exit::Signal(libc::SIGRTMIN() + 2).to_string().split(' ').next_back(), Some("(SIGRTMIN+2)"));
        assert_eq!(Exit::Code(1).to_string(), "exit code 1");
    }
}
