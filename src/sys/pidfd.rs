/*!
A process that cannot be mistaken for another one that gets its number later (`pidfd_open(2)`, Linux 5.3).
*/
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;

/// Takes hold of the process that has this number now. `ESRCH`: nobody has; `ENOSYS`: a kernel before 5.3.
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers.
    let number = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let number = i32::try_from(number).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it. It is closed at exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sends a signal. `ESRCH`: the process has ended and was waited for.
pub fn send(process: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    let (descriptor, nothing) = (process.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: an open descriptor, and no information for which the kernel would read memory.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal as libc::c_int, nothing, 0) };
    Errno::result(sent).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_process_that_is_held_gets_the_signal_and_nobody_after_it() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let held = open(i32::try_from(child.id()).unwrap()).unwrap();
        send(&held, Signal::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert_eq!(send(&held, Signal::SIGKILL), Err(Errno::ESRCH));
    }

    #[test]
    fn nobody_is_not_held() {
        assert_eq!(open(i32::MAX).unwrap_err(), Errno::ESRCH);
    }
}
