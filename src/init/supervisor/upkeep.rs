//! Work that comes up while the services run.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Supervisor;
use crate::init::say::Logger;
use crate::init::service::Event;
use crate::init::spec::{Occasion, Upkeep, Verdict};
use crate::init::state::Phase;
use crate::init::unit::Unit;
use crate::sys::spawn::spawn;
use crate::sys::wait::Exit;

/// Time until the next attempt after one that failed.
const AGAIN: Duration = Duration::from_secs(3600);

/// Time from the end of a killed orphan until somebody looks at what it has left: the daemon has tidied up then, and memory that was
/// missing is there again.
const AFTERMATH: Duration = Duration::from_secs(30);

/// The work and when somebody looks at it next.
pub struct Due {
    work: Upkeep,
    /// `None`: when its occasion comes.
    next: Option<Duration>,
    process: Option<i32>,
    /// Whether its process was started, ever.
    begun: bool,
}

impl Due {
    /// Asks for the first time at `now`.
    pub fn new(work: Upkeep, now: Duration) -> Self {
        let mut due = Self { work, next: None, process: None, begun: false };
        due.look_again(now, Duration::ZERO);
        due
    }

    /// When something is to be done, unless its process runs.
    pub fn timer(&self) -> Option<Duration> {
        self.next.filter(|_| self.process.is_none())
    }

    /// Sets the moment of the next look; `overdue` from now where it is to be done already.
    fn look_again(&mut self, now: Duration, overdue: Duration) {
        self.next = match &mut self.work.occasion {
            Occasion::Due(due) => Some(now.saturating_add(due().unwrap_or(overdue))),
            // It may have come again while the process ran.
            Occasion::Return(_) | Occasion::Blow(_) | Occasion::First(_) => {
                self.next.filter(|_| self.process.is_some())
            }
        };
    }

    /// Whether its process is to be started, now that the moment has come and `ready` are the services that are.
    fn begins(&mut self, ready: impl Fn(&str) -> bool, now: Duration) -> bool {
        match &mut self.work.occasion {
            Occasion::Due(due) => match due() {
                Some(later) => {
                    self.next = Some(now.saturating_add(later));
                    false
                }
                None => true,
            },
            // Nobody is there to be asked, and a return that was asked for brings no look of its own.
            Occasion::Blow(name) if !ready(name) => {
                self.next = Some(now.saturating_add(AFTERMATH));
                false
            }
            Occasion::Return(_) | Occasion::Blow(_) | Occasion::First(_) => {
                self.next = None;
                true
            }
        }
    }

    /// A service is ready; `again`: it was before, and died without being asked to.
    fn ready(&mut self, service: &str, again: bool, now: Duration) {
        let comes = match &self.work.occasion {
            Occasion::Due(_) => false,
            Occasion::Return(names) => again && names.iter().any(|name| name == service),
            Occasion::Blow(name) => again && name == service,
            // It may have died before it was ready for the first time.
            Occasion::First(name) => !self.begun && name == service,
        };
        if comes {
            self.next = Some(now);
        }
    }

    /// An orphan was killed.
    fn orphan_killed(&mut self, now: Duration) {
        if let Occasion::Blow(_) = &self.work.occasion {
            self.next.get_or_insert(now.saturating_add(AFTERMATH));
        }
    }

    /// Sets the next moment after a failure, and gives the words for it.
    fn failed(&mut self, now: Duration) -> &'static str {
        match self.work.occasion {
            Occasion::Due(_) => {
                self.next = Some(now.saturating_add(AGAIN));
                "; tried again in an hour"
            }
            Occasion::Return(_) | Occasion::Blow(_) | Occasion::First(_) => "",
        }
    }
}

impl Supervisor {
    pub(super) fn keep_up(&mut self) {
        let now = self.now();
        if self.shutdown.is_some() {
            return;
        }
        let units = &self.units;
        let ready =
            |name: &str| units.iter().any(|unit| unit.spec.name == name && unit.machine.phase() == Phase::Ready);
        for due in &mut self.upkeep {
            if due.timer().is_none_or(|moment| moment > now) || !due.begins(ready, now) {
                continue;
            }
            due.begun = true;
            match spawn(&due.work.spawn) {
                Ok(pid) => due.process = Some(pid.as_raw()),
                Err(error) => {
                    let later = due.failed(now);
                    self.streams.warn(&format!("{error}{later}"));
                }
            }
        }
    }

    /// A service is ready; `again`: it is back, and nobody had asked it to go.
    pub(super) fn has_come(&mut self, service: &str, again: bool) {
        let now = self.now();
        for due in &mut self.upkeep {
            due.ready(service, again, now);
        }
    }

    /// A process that somebody had left to us is dead.
    pub(super) fn orphan_died(&mut self, exit: Exit) {
        self.orphans = self.orphans.saturating_add(1);
        if exit != Exit::Signal(Signal::SIGKILL as i32) {
            return;
        }
        let now = self.now();
        for due in &mut self.upkeep {
            due.orphan_killed(now);
        }
    }

    /// Whether the process that died was one that did such work.
    pub(super) fn upkeep_died(&mut self, pid: i32, exit: Exit) -> bool {
        let now = self.now();
        let Some(due) = self.upkeep.iter_mut().find(|due| due.process == Some(pid)) else { return false };
        self.stirred = true;
        let name = due.work.name;
        let verdict = (due.work.judge)(exit);
        // What is still due after a success would be due for ever.
        due.look_again(now, AGAIN);
        due.process = None;
        match verdict {
            Verdict::Done => {}
            Verdict::Told(words) => self.streams.warn(&words),
            Verdict::StartAnew(service) => {
                if self.shutdown.is_none() {
                    self.start_anew(&service, name);
                }
            }
            Verdict::Failed => {
                let later = due.failed(now);
                self.streams.warn(&format!("the {name} failed ({exit}){later}"));
            }
        }
        true
    }

    /// Ends the service in order and has it started again.
    fn start_anew(&mut self, service: &str, why: &str) {
        let is = |unit: &Unit| unit.spec.name == service && unit.machine.phase() == Phase::Ready;
        let Some(index) = self.units.iter().position(is) else { return };
        self.streams.info(&format!("{service} is started anew because of the {why}"));
        self.handle(index, Event::RenewRequested { signal: Signal::SIGTERM });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spawn::Spawn;

    fn due(occasion: Occasion) -> Due {
        let work = Upkeep { name: "test", occasion, spawn: Spawn::default(), judge: Box::new(|_| Verdict::Done) };
        Due::new(work, Duration::ZERO)
    }

    const NOW: Duration = Duration::from_secs(5);

    #[test]
    fn what_comes_with_a_return_comes_with_each() {
        let mut due = due(Occasion::Return(vec!["a".into(), "b".into()]));
        for (service, again, want) in
            [("a", false, None), ("c", true, None), ("a", true, Some(NOW)), ("b", true, Some(NOW))]
        {
            due.ready(service, again, NOW);
            assert_eq!(due.timer(), want, "{service} {again}");
            assert_eq!(due.timer().is_some_and(|_| due.begins(|_| true, NOW)), want.is_some());
            due.begun |= want.is_some();
        }
    }

    #[test]
    fn what_comes_first_comes_once() {
        let mut due = due(Occasion::First("a".into()));
        due.ready("b", false, NOW);
        assert_eq!(due.timer(), None);
        // It had died before it was ready.
        due.ready("a", true, NOW);
        assert!(due.timer() == Some(NOW) && due.begins(|_| true, NOW));
        due.begun = true;
        due.ready("a", true, NOW);
        assert_eq!(due.timer(), None);
    }

    #[test]
    fn killed_orphans_are_looked_after_once_for_all_and_later() {
        let mut due = due(Occasion::Blow("a".into()));
        due.orphan_killed(NOW);
        due.orphan_killed(NOW + Duration::from_secs(1));
        assert_eq!(due.timer(), Some(NOW + AFTERMATH));
        // A return is a reason to look at once.
        due.ready("a", true, NOW);
        assert!(due.timer() == Some(NOW) && due.begins(|_| true, NOW));
        due.process = Some(1);
        // One that is killed during the look is not seen by it.
        due.orphan_killed(NOW);
        assert_eq!(due.timer(), None);
        due.look_again(NOW, AGAIN);
        due.process = None;
        assert!(due.timer() == Some(NOW + AFTERMATH) && due.begins(|_| true, NOW + AFTERMATH));
        due.look_again(NOW, AGAIN);
        assert_eq!(due.timer(), None);
        let mut other = self::due(Occasion::Return(vec!["a".into()]));
        other.orphan_killed(NOW);
        assert_eq!(other.timer(), None);
    }

    #[test]
    fn a_look_after_a_blow_waits_for_whom_it_asks() {
        let mut due = due(Occasion::Blow("a".into()));
        due.orphan_killed(NOW);
        assert!(!due.begins(|name| name != "a", NOW + AFTERMATH));
        assert_eq!(due.timer(), Some(NOW + AFTERMATH * 2));
        assert!(due.begins(|name| name == "a", NOW + AFTERMATH * 2) && due.timer().is_none());
        // It is a return itself that is waited for here.
        let mut other = self::due(Occasion::Return(vec!["a".into()]));
        other.ready("a", true, NOW);
        assert!(other.begins(|_| false, NOW));
    }
}
