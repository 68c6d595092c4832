/*!
Waiting for the next thing to happen. Without a timer the wait has no end: an idle PID 1 is never woken.
*/
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of `readable` has input, one of `writable` has room, or the time is over. Every source is asked
/// without blocking afterwards, so which of them it was does not matter.
pub fn wait(readable: &[BorrowedFd<'_>], writable: &[BorrowedFd<'_>], time: Option<Duration>) -> Result<(), Errno> {
    let mut polled: Vec<PollFd<'_>> = readable.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    polled.extend(writable.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLOUT)));
    match poll(&mut polled, timeout(time)) {
        // A signal came: its pipe tells which.
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Rounded up to milliseconds: rounded down, a timer would wake us just before its moment, again and again.
fn timeout(time: Option<Duration>) -> PollTimeout {
    match time {
        None => PollTimeout::NONE,
        Some(time) => {
            let millis = time.as_nanos().div_ceil(1_000_000);
            PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
        }
    }
}

/// Time from `now` to the earliest of `moments`.
pub fn until_earliest(now: Duration, moments: impl IntoIterator<Item = Duration>) -> Option<Duration> {
    moments.into_iter().min().map(|moment| moment.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_no_timer_means_no_end() {
        assert_eq!(timeout(None), PollTimeout::NONE);
        assert_eq!(timeout(Some(Duration::ZERO)), PollTimeout::ZERO);
        assert_eq!(timeout(Some(Duration::from_micros(1001))), PollTimeout::from(2_u8));
        assert_eq!(timeout(Some(Duration::from_secs(86_400))), PollTimeout::from(u16::MAX));
    }

    #[test]
    fn the_earliest_moment_counts_and_a_past_one_is_now() {
        let second = Duration::from_secs;
        assert_eq!(until_earliest(second(5), []), None);
        assert_eq!(until_earliest(second(5), [second(9), second(7)]), Some(second(2)));
        assert_eq!(until_earliest(second(5), [second(3)]), Some(Duration::ZERO));
    }
}
