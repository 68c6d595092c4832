/*!
Receiving signals through a pipe, and sending them.

The handler notes the signal in one word of bits and writes its number to the pipe unless it is noted already. So
the pipe never holds more than one byte for each signal and cannot overflow, nothing is lost, different signals
keep the order of their arrival, and only repeats of one that is still unread fall together, as the kernel's own do.
*/
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Pid;
use signal_hook::SigId;

use super::strangers;

/// Why signals could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// No pipe could be made.
    #[error("cannot create the signal pipe: {0}")]
    Pipe(Errno),
    /// The handler of one signal was refused.
    #[error("cannot install a handler for signal {number}: {error}")]
    Handler {
        /// Number of the signal.
        number: i32,
        /// Why.
        error: std::io::Error,
    },
    /// A disposition or the mask was refused.
    #[error("cannot set the disposition of signal {number}: {errno}")]
    Disposition {
        /// Number of the signal; 0 stands for the mask.
        number: i32,
        /// Why.
        errno: Errno,
    },
}

/// The receiving end of the signals of this process. Dropping it makes them have no effect.
#[derive(Debug)]
pub struct SignalPipe {
    read: OwnedFd,
    unread: Arc<AtomicU64>,
    ids: Vec<SigId>,
}

impl SignalPipe {
    /// Catches `signals` from now on and blocks none. Numbers that may not be caught (`SIGKILL`, faults) are errors.
    pub fn install(signals: &[i32]) -> Result<Self, SignalError> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(SignalError::Pipe)?;
        let write = Arc::new(write);
        let unread = Arc::new(AtomicU64::new(0));
        let mut pipe = Self { read, unread: Arc::clone(&unread), ids: Vec::with_capacity(signals.len()) };
        let own_pid = std::process::id();
        for &number in signals {
            if !(1..=64).contains(&number) || signal_hook::consts::FORBIDDEN.contains(&number) {
                let error = std::io::Error::from(Errno::EINVAL);
                return Err(SignalError::Handler { number, error });
            }
            let (unread, write) = (Arc::clone(&unread), Arc::clone(&write));
            let action = move |info: &libc::siginfo_t| {
                // SAFETY: a SIGPIPE comes from kill(2) or from our own write(2); both fill the sender in.
                if number == libc::SIGPIPE && u32::try_from(unsafe { info.si_pid() }) == Ok(own_pid) {
                    // Raised by a write of ours to a pipe nobody reads: the write reports that itself.
                    return;
                }
                note(&unread, &write, number);
            };
            // SAFETY: the action uses only atomics and write(2), both async-signal-safe.
            let id = unsafe { signal_hook_registry::register_sigaction(number, action) }
                .map_err(|error| SignalError::Handler { number, error })?;
            pipe.ids.push(id);
        }
        nix::sys::signal::SigSet::empty()
            .thread_set_mask()
            .map_err(|errno| SignalError::Disposition { number: 0, errno })?;
        Ok(pipe)
    }

    /// The signals that arrived since the last call, each once, oldest first. Never waits.
    pub fn drain(&mut self) -> Vec<i32> {
        let mut bytes = [0_u8; 64];
        let mut arrived = Vec::new();
        loop {
            match nix::unistd::read(&self.read, &mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    for number in bytes.iter().take(count).map(|byte| i32::from(*byte)) {
                        // Forgotten before it is handled: one that arrives meanwhile is told again.
                        self.unread.fetch_and(!bit(number), Ordering::SeqCst);
                        arrived.push(number);
                    }
                }
                Err(Errno::EINTR) => {}
                // EAGAIN is the end; the pipe's other end lives in the handlers, so nothing else can come.
                Err(_) => break,
            }
        }
        arrived
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        for id in std::mem::take(&mut self.ids) {
            signal_hook::low_level::unregister(id);
        }
    }
}

const fn bit(number: i32) -> u64 {
    1_u64.rotate_left(number.cast_unsigned().wrapping_sub(1))
}

/// The signal handler's body.
fn note(unread: &AtomicU64, write: &OwnedFd, number: i32) {
    if unread.fetch_or(bit(number), Ordering::SeqCst) & bit(number) != 0 {
        return;
    }
    let byte = u8::try_from(number).unwrap_or(0);
    // SAFETY: one byte of a live local; the descriptor lives as long as the handler. It cannot be full (see above).
    // errno is put back by the registry's own handler around this.
    unsafe { libc::write(write.as_raw_fd(), (&raw const byte).cast(), 1) };
}

/// Ignores a signal in this process. Children started by [`super::spawn`] have the default again.
pub fn ignore(number: i32) -> Result<(), SignalError> {
    // SAFETY: SIG_IGN installs no code.
    let before = unsafe { libc::signal(number, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(SignalError::Disposition { number, errno: Errno::last() });
    }
    Ok(())
}

/// Sends a signal, real-time ones included, to one process. Refuses what `kill(2)` takes for a group or for everyone. Root without
/// `CAP_KILL` reaches other users' processes all the same, here and below.
pub fn send(pid: i32, number: i32) -> Result<(), Errno> {
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    match raw_kill(pid, number) {
        Err(Errno::EPERM) => strangers::send(pid, number),
        sent => sent,
    }
}

/// Sends a signal to every process of a group. `ESRCH` when the group is empty.
pub fn send_to_group(group: i32, number: i32) -> Result<(), Errno> {
    if group <= 1 {
        return Err(Errno::EINVAL);
    }
    match raw_kill(-group, number) {
        Err(Errno::EPERM) => strangers::send_to_group(group, number),
        sent => sent,
    }
}

/// Sends a signal to every process of this pid namespace but ourselves. Number 0 only asks whether there is any
/// (`ESRCH`: none).
///
/// Refused with `EPERM` unless we are PID 1: anywhere else it would reach all processes of the machine.
pub fn send_to_everyone(number: i32) -> Result<(), Errno> {
    if Pid::this().as_raw() != 1 {
        return Err(Errno::EPERM);
    }
    raw_kill(-1, number)?;
    if number != 0 {
        strangers::send_to_the_rest(number);
    }
    Ok(())
}

fn raw_kill(target: i32, number: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::kill(target, number) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each test uses signals of its own: handlers belong to the whole process and tests run side by side.

    #[test]
    fn signals_come_in_the_order_of_arrival_and_repeats_fall_together() {
        let (first, second) = (libc::SIGRTMIN() + 5, libc::SIGRTMIN() + 3);
        let mut pipe = SignalPipe::install(&[first, second]).unwrap();
        for number in [first, second, first, second] {
            raise(number);
        }
        assert_eq!(pipe.drain(), [first, second]);
        assert!(pipe.drain().is_empty());
        raise(second);
        assert_eq!(pipe.drain(), [second], "told again after it was read");
    }

    /// Delivered before it returns, because it names this thread.
    fn raise(number: i32) {
        // SAFETY: no memory is passed.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), number) }, 0);
    }

    #[test]
    fn ten_thousand_unread_signals_lose_nothing() {
        let (flood, last) = (libc::SIGRTMIN() + 7, libc::SIGRTMIN() + 8);
        let mut pipe = SignalPipe::install(&[flood, last]).unwrap();
        for _ in 0..10_000 {
            raise(flood);
        }
        raise(last);
        assert_eq!(pipe.drain(), [flood, last]);
    }

    #[test]
    fn what_cannot_be_caught_is_an_error() {
        for number in [libc::SIGKILL, libc::SIGSEGV, 0, 65, -1] {
            assert!(SignalPipe::install(&[number]).is_err(), "{number}");
        }
    }

    #[test]
    fn only_pid_one_may_signal_everyone() {
        assert_ne!(std::process::id(), 1);
        assert_eq!(send_to_everyone(0), Err(Errno::EPERM));
    }

    #[test]
    fn a_group_or_everyone_cannot_be_hit_by_a_wrong_pid() {
        for pid in [0, -1, -5] {
            assert_eq!(send(pid, 0), Err(Errno::EINVAL));
        }
        for group in [1, 0, -1] {
            assert_eq!(send_to_group(group, 0), Err(Errno::EINVAL));
        }
    }
}
