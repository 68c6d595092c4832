/*!
Waiting for descriptors: `poll(2)` over a fixed set, without an allocation for each call.
*/
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;

/// A descriptor and what is awaited of it. `None` is skipped; no flags still report errors and hang-ups.
pub type Interest<'a> = (Option<BorrowedFd<'a>>, PollFlags);

/// Waits until one of the descriptors is ready or `timeout` has passed (`None`: for ever), and returns what is ready
/// at each place. A signal ends the wait early with nothing ready.
pub fn wait<const N: usize>(interests: [Interest<'_>; N], timeout: Option<Duration>) -> Result<[PollFlags; N], Errno> {
    let mut fds = interests.map(|(fd, flags)| libc::pollfd {
        // The kernel passes over negative descriptors.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: flags.bits(),
        revents: 0,
    });
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `fds` is an array of exactly that length, the timeout is null or points to a live value, and the
    // signal mask is left alone.
    let count = unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout, ptr::null()) };
    match Errno::result(count) {
        Ok(_) => Ok(fds.map(|fd| PollFlags::from_bits_truncate(fd.revents))),
        Err(Errno::EINTR) => Ok([PollFlags::empty(); N]),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn readiness_is_told_at_its_place_and_absent_ones_are_passed_over() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let interests = || {
            [
                (None, PollFlags::POLLIN),
                (Some(read.as_fd()), PollFlags::POLLIN),
                (Some(write.as_fd()), PollFlags::POLLOUT),
            ]
        };
        let none = PollFlags::empty();
        assert_eq!(wait(interests(), None).unwrap(), [none, none, PollFlags::POLLOUT]);
        nix::unistd::write(&write, b"x").unwrap();
        assert_eq!(wait(interests(), None).unwrap(), [none, PollFlags::POLLIN, PollFlags::POLLOUT]);
    }

    #[test]
    fn a_hang_up_shows_without_asking_and_a_timeout_ends_the_wait() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let silent = || [(Some(read.as_fd()), PollFlags::empty())];
        assert_eq!(wait(silent(), Some(Duration::from_millis(5))).unwrap(), [PollFlags::empty()]);
        drop(write);
        assert_eq!(wait(silent(), None).unwrap(), [PollFlags::POLLHUP]);
    }
}
