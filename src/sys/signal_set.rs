/*!
Sets of signals as the kernel has them, all 64 of them: a blocked signal waits in the kernel's own queue until it is
taken, so nothing is lost, real-time signals keep their number and order, and no handler runs.

The C library hides two numbers that its threads use. In a process with one thread they are signals like any other, so
the calls here go to the kernel directly.
*/
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;

/// Bytes of the kernel's set.
const SIZE: usize = size_of::<u64>();

/// A set of signal numbers, 1 to 64.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u64::MAX);
    /// The real-time signals, those the C library keeps for itself included.
    pub const REAL_TIME: Self = Self(!0x7fff_ffff);

    /// This set and `number`; numbers that are no signal change nothing.
    #[must_use]
    pub fn with(self, number: i32) -> Self {
        Self(self.0 | bit(number))
    }

    /// This set without `numbers`.
    #[must_use]
    pub fn without(self, numbers: &[i32]) -> Self {
        numbers.iter().fold(self, |set, number| Self(set.0 & !bit(*number)))
    }

    /// As the kernel has it: bit 0 is signal 1.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `number` is in it.
    pub fn contains(self, number: i32) -> bool {
        self.0 & bit(number) != 0
    }
}

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((1..=64).filter(|number| self.contains(*number))).finish()
    }
}

fn bit(number: i32) -> u64 {
    u32::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1))
        .and_then(|place| 1_u64.checked_shl(place))
        .unwrap_or(0)
}

/// Blocks exactly `set` in this thread; the set that was blocked before. `SIGKILL` and `SIGSTOP` stay unblocked.
pub fn block(set: SignalSet) -> Result<SignalSet, Errno> {
    let mut before = SignalSet::EMPTY;
    // SAFETY: both sets are live words of the size that is given.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&set.0),
            ptr::from_mut(&mut before.0),
            SIZE,
        )
    })?;
    Ok(before)
}

/// The set that this thread blocks.
pub fn blocked() -> Result<SignalSet, Errno> {
    let mut now = SignalSet::EMPTY;
    // SAFETY: without a new set the call only writes one word of the size that is given.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, ptr::null::<u64>(), ptr::from_mut(&mut now.0), SIZE)
    })?;
    Ok(now)
}

/// A signal that was taken from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub number: i32,
    /// Whether this process sent it to itself: a write to a pipe that nobody reads does so (`SIGPIPE`).
    pub own: bool,
}

/// Waits for a signal of `set`, all of which must be blocked, for as long as it takes.
pub fn take(set: SignalSet) -> Result<Taken, Errno> {
    loop {
        match timed(set, None) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The same for a limited time, which may be none at all; `None` when no such signal came.
pub fn take_within(set: SignalSet, limit: Duration) -> Result<Option<Taken>, Errno> {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    };
    match timed(set, Some(limit)) {
        Ok(taken) => Ok(Some(taken)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn timed(set: SignalSet, limit: Option<libc::timespec>) -> Result<Taken, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the set is a live word of the size that is given, `info` has room for what the kernel writes, and the
    // limit is null or live.
    let number =
        unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, ptr::from_ref(&set.0), info.as_mut_ptr(), limit, SIZE) };
    Errno::result(number)?;
    // SAFETY: zeroed above, and every bit pattern is a valid siginfo_t.
    let info = unsafe { info.assume_init() };
    // SAFETY: for a code of kill(2), tgkill(2) or sigqueue(3) the sender's pid is filled in.
    let own = matches!(info.si_code, libc::SI_USER | libc::SI_TKILL | libc::SI_QUEUE)
        && u32::try_from(unsafe { info.si_pid() }) == Ok(std::process::id());
    Ok(Taken { number: info.si_signo, own })
}

/// Whether this process ignores a signal; `false` for numbers that are none.
pub fn is_ignored(number: i32) -> bool {
    let mut action = [0_usize; 4];
    // SAFETY: without a new action the call only writes the kernel's sigaction, which is these four words.
    let answer =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, ptr::null::<usize>(), action.as_mut_ptr(), SIZE) };
    let [handler, ..] = action;
    answer == 0 && handler == libc::SIG_IGN
}

/// Gives a signal its default action in this process, or ignores it. Async-signal-safe.
pub fn set_ignored(number: i32, ignored: bool) -> Result<(), Errno> {
    let action = [if ignored { libc::SIG_IGN } else { libc::SIG_DFL }, 0, 0, 0];
    // SAFETY: the four words are the kernel's sigaction; neither disposition installs code.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_rt_sigaction, number, action.as_ptr(), ptr::null::<usize>(), SIZE)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = SignalSet::EMPTY.with(1).with(64).with(0).with(65).with(-3);
        assert_eq!(format!("{set:?}"), "{1, 64}");
        assert_eq!(set.without(&[1]).without(&[64, 0, 99]), SignalSet::EMPTY);
        assert!(SignalSet::ALL.contains(libc::SIGKILL) && !SignalSet::ALL.contains(65));
        assert!(SignalSet::REAL_TIME.contains(32) && !SignalSet::REAL_TIME.contains(31));
        assert_eq!(SignalSet::ALL.and(set), set);
    }

    /// Signals sent to this thread, taken in the kernel's order, repeats of real-time ones included.
    #[test]
    fn blocked_signals_wait_in_the_queue_and_real_time_ones_are_all_kept() {
        let (first, second) = (libc::SIGRTMIN() + 11, libc::SIGRTMIN() + 12);
        let set = SignalSet::EMPTY.with(first).with(second);
        let before = blocked().unwrap();
        assert_eq!(block(set).unwrap(), before);
        for number in [second, first, first, first] {
            // SAFETY: no memory is passed.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), number) }, 0);
        }
        let taken: Vec<i32> =
            std::iter::from_fn(|| take_within(set, Duration::ZERO).unwrap()).map(|taken| taken.number).collect();
        assert_eq!(taken, [first, first, first, second]);
        assert_eq!(block(before).unwrap(), set);
    }

    #[test]
    fn a_signal_of_our_own_is_told_apart() {
        let set = SignalSet::EMPTY.with(libc::SIGRTMIN() + 13);
        let before = block(set).unwrap();
        // SAFETY: no memory is passed.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGRTMIN() + 13) }, 0);
        assert_eq!(take(set).unwrap(), Taken { number: libc::SIGRTMIN() + 13, own: true });
        block(before).unwrap();
    }

    #[test]
    fn dispositions_are_set_and_read() {
        let number = libc::SIGRTMIN() + 14;
        assert!(!is_ignored(number));
        set_ignored(number, true).unwrap();
        assert!(is_ignored(number));
        set_ignored(number, false).unwrap();
        assert!(!is_ignored(number) && !is_ignored(0) && !is_ignored(65));
        assert_eq!(set_ignored(libc::SIGKILL, true), Err(Errno::EINVAL));
    }
}
