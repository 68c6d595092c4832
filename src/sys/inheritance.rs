/*!
What our caller left us and a child is to find again as if we had not been between: which signals are ignored, which
are blocked, which of the three standard streams are closed.

Rust's own start ignores `SIGPIPE` and opens `/dev/null` in the place of closed streams before `main`. So these two
are noted earlier, by a function that the C library calls before anything of Rust runs.
*/
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};

use super::signal_set::{SignalSet, blocked, is_ignored};

/// What [`note`] saw.
static BEFORE: AtomicU8 = AtomicU8::new(0);
/// It has looked.
const NOTED: u8 = 1;
/// `SIGPIPE` was ignored.
const PIPE_IGNORED: u8 = 2;
/// Standard input was closed; the other two streams have the next two bits.
const CLOSED: u8 = 4;

// SAFETY: the section holds pointers to functions that the C library calls with arguments this one does not look at.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn() = note;

/// Looks before Rust does anything.
extern "C" fn note() {
    let mut seen = NOTED;
    if is_ignored(libc::SIGPIPE) {
        seen |= PIPE_IGNORED;
    }
    for (place, fd) in [0, 1, 2].into_iter().enumerate() {
        // SAFETY: asks for flags by number; no memory is passed.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            seen |= CLOSED << place;
        }
    }
    BEFORE.store(seen, Ordering::Relaxed);
}

/// The state in which a program finds its signals and streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inheritance {
    /// Signals that are ignored; all others have their default action.
    pub ignored: SignalSet,
    /// Signals that are blocked.
    pub blocked: SignalSet,
    /// Whether standard input, output and error are closed.
    pub closed: [bool; 3],
}

impl Inheritance {
    /// What this process was started with. Ask before any disposition or mask is changed.
    pub fn of_process() -> Self {
        let before = BEFORE.load(Ordering::Relaxed);
        let mut ignored = (1..=64).filter(|number| is_ignored(*number)).fold(SignalSet::EMPTY, SignalSet::with);
        if before & NOTED != 0 && before & PIPE_IGNORED == 0 {
            ignored = ignored.without(&[libc::SIGPIPE]);
        }
        let closed = [0, 1, 2].map(|place| before & (CLOSED << place) != 0);
        // Reading the mask of a running thread cannot fail.
        Self { ignored, blocked: blocked().unwrap_or_default(), closed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_was_noted_before_main() {
        assert_ne!(BEFORE.load(Ordering::Relaxed) & NOTED, 0);
        assert!(is_ignored(libc::SIGPIPE), "Rust's start ignores it; if it no longer does, `note` can go");
    }
}
