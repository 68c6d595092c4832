/*!
What each signal means to PID 1.
*/
use std::time::Duration;

use nix::libc;

use crate::sys::signal::{SignalError, SignalPipe, ignore};

/// What the supervisor does about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Collect the dead.
    Reap,
    /// Go down in order; asked for again, see [`Urgency`].
    Stop,
    /// Reload the daemon's configuration and pass the signal to it.
    Reload,
    /// Pass it to the main service.
    Forward,
}

/// Signals that a supervising PID 1 catches.
pub const SUPERVISED: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// The supervisor's duty for one of [`SUPERVISED`]; `None` for any other number.
pub const fn duty(number: i32) -> Option<Duty> {
    match number {
        libc::SIGCHLD => Some(Duty::Reap),
        libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => Some(Duty::Stop),
        libc::SIGHUP => Some(Duty::Reload),
        libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGWINCH => Some(Duty::Forward),
        _ => None,
    }
}

/// How pressing a stop is: each further request raises it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// In order, within the whole deadline.
    Orderly,
    /// In order, within [`SHORT_GRACE`].
    Short,
    /// Everything is killed now.
    Now,
}

/// What is left of the deadline after the second request.
pub const SHORT_GRACE: Duration = Duration::from_secs(5);

impl Urgency {
    /// Urgency after the `count`-th request, counted from 1.
    pub const fn of_request(count: u32) -> Self {
        match count {
            0 | 1 => Self::Orderly,
            2 => Self::Short,
            _ => Self::Now,
        }
    }
}

/// Catches what a supervising PID 1 needs. Call it first of all, before the preparation: until a handler is there,
/// the kernel drops every signal to PID 1, and a stop asked for meanwhile would be forgotten.
pub fn catch_supervised() -> Result<SignalPipe, SignalError> {
    catch(&SUPERVISED)
}

/// Catches `numbers`, and ignores what job control would stop us with: the terminal belongs to the child, and we
/// still write to it.
pub fn catch(numbers: &[i32]) -> Result<SignalPipe, SignalError> {
    for number in [libc::SIGTTIN, libc::SIGTTOU] {
        ignore(number)?;
    }
    SignalPipe::install(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supervised_signal_has_a_duty() {
        assert!(SUPERVISED.iter().all(|number| duty(*number).is_some()));
        assert_eq!(duty(libc::SIGSEGV), None);
        assert_eq!(duty(libc::SIGINT), Some(Duty::Stop));
    }

    #[test]
    fn each_request_is_more_urgent_than_the_one_before() {
        let urgencies: Vec<Urgency> = (1..=4).map(Urgency::of_request).collect();
        assert_eq!(urgencies, [Urgency::Orderly, Urgency::Short, Urgency::Now, Urgency::Now]);
    }
}
