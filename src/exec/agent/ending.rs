/*!
The way to the end: from "still allowed to run" over "asked to stop" to "killed". Pure: time comes in, the signal to
send comes out.
*/
use std::time::Duration;

use super::classify::Cause;

/// A signal that every process of the run gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// SIGTERM, and SIGCONT so that a stopped process can act on it.
    Ask,
    /// SIGKILL.
    Kill,
}

/// Time after SIGKILL in which a process must be gone; one that hangs in the kernel may take longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the run stands. Times are measured on one monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    deadline: Duration,
    grace: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Asked { cause: Cause, kill_at: Duration },
    Killed { cause: Cause, at: Duration },
}

impl Ending {
    pub(super) fn new(deadline: Duration, grace: Duration) -> Self {
        Self { deadline, grace, state: State::Running }
    }

    /// Something wants the run to end. The first cause stays; a caller who cancels does not wait for the grace period.
    pub(super) fn end(&mut self, cause: Cause, now: Duration) -> Option<Blow> {
        let patient = matches!(cause, Cause::Deadline | Cause::CpuTime) && !self.grace.is_zero();
        match self.state {
            State::Killed { .. } => None,
            State::Running if patient => {
                self.state = State::Asked { cause, kill_at: now.saturating_add(self.grace) };
                Some(Blow::Ask)
            }
            State::Asked { .. } if patient => None,
            State::Running => Some(self.kill(cause, now)),
            State::Asked { cause, .. } => Some(self.kill(cause, now)),
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Duration) -> Option<Blow> {
        match self.state {
            State::Running if now >= self.deadline => self.end(Cause::Deadline, now),
            State::Asked { cause, kill_at } if now >= kill_at => Some(self.kill(cause, now)),
            _ => None,
        }
    }

    fn kill(&mut self, cause: Cause, now: Duration) -> Blow {
        self.state = State::Killed { cause, at: now };
        Blow::Kill
    }

    /// When [`Self::tick`] or [`Self::hopeless`] will have something new to say.
    pub(super) fn next(&self) -> Duration {
        match self.state {
            State::Running => self.deadline,
            State::Asked { kill_at, .. } => kill_at,
            State::Killed { at, .. } => at.saturating_add(PATIENCE),
        }
    }

    /// Whether the program was killed so long ago that waiting for it makes no sense.
    pub(super) fn hopeless(&self, now: Duration) -> bool {
        matches!(self.state, State::Killed { at, .. } if now >= at.saturating_add(PATIENCE))
    }

    /// Why we ended the run, if we did.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self.state {
            State::Running => None,
            State::Asked { cause, .. } | State::Killed { cause, .. } => Some(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_deadline_asks_then_kills_then_gives_up() {
        let mut ending = Ending::new(ms(100), ms(50));
        assert_eq!((ending.tick(ms(99)), ending.next()), (None, ms(100)));
        assert_eq!((ending.tick(ms(100)), ending.next()), (Some(Blow::Ask), ms(150)));
        assert_eq!(ending.tick(ms(149)), None);
        assert_eq!(ending.tick(ms(151)), Some(Blow::Kill));
        assert_eq!((ending.tick(ms(10_000)), ending.cause()), (None, Some(Cause::Deadline)));
        assert!(!ending.hopeless(ms(5_150)) && ending.hopeless(ms(5_151)));
    }

    #[test]
    fn without_grace_the_first_blow_kills() {
        let mut ending = Ending::new(ms(100), Duration::ZERO);
        assert_eq!(ending.tick(ms(100)), Some(Blow::Kill));
    }

    #[test]
    fn cancelling_never_waits_and_does_not_change_the_first_cause() {
        let mut ending = Ending::new(ms(100), ms(1_000));
        assert_eq!(ending.end(Cause::Cancelled, ms(1)), Some(Blow::Kill));
        assert_eq!(ending.cause(), Some(Cause::Cancelled));

        let mut ending = Ending::new(ms(100), ms(1_000));
        assert_eq!(ending.tick(ms(100)), Some(Blow::Ask));
        assert_eq!(ending.end(Cause::CpuTime, ms(101)), None);
        assert_eq!(ending.end(Cause::Cancelled, ms(102)), Some(Blow::Kill));
        assert_eq!(ending.end(Cause::OutputLimit, ms(103)), None);
        assert_eq!(ending.cause(), Some(Cause::Deadline));
    }

    #[test]
    fn a_limit_beyond_time_itself_is_no_limit() {
        let mut ending = Ending::new(Duration::MAX, Duration::MAX);
        assert_eq!(ending.tick(ms(u64::MAX)), None);
        assert_eq!(ending.end(Cause::CpuTime, ms(5)), Some(Blow::Ask));
        assert_eq!(ending.tick(ms(u64::MAX)), None);
    }
}
