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

/// The work and when somebody looks at it next.
pub struct Due {
    work: Upkeep,
    /// `None`: when its occasion comes.
    next: Option<Duration>,
    process: Option<i32>,
}

impl Due {
    /// Asks for the first time at `now`.
    pub fn new(work: Upkeep, now: Duration) -> Self {
        let mut due = Self { work, next: None, process: None };
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
            Occasion::Return(_) => self.next.filter(|_| self.process.is_some()),
        };
    }

    /// Whether its process is to be started, now that the moment has come.
    fn begins(&mut self, now: Duration) -> bool {
        match &mut self.work.occasion {
            Occasion::Due(due) => match due() {
                Some(later) => {
                    self.next = Some(now.saturating_add(later));
                    false
                }
                None => true,
            },
            Occasion::Return(_) => {
                self.next = None;
                true
            }
        }
    }

    /// Sets the next moment after a failure, and gives the words for it.
    fn failed(&mut self, now: Duration) -> &'static str {
        match self.work.occasion {
            Occasion::Due(_) => {
                self.next = Some(now.saturating_add(AGAIN));
                "; tried again in an hour"
            }
            Occasion::Return(_) => "",
        }
    }
}

impl Supervisor {
    pub(super) fn keep_up(&mut self) {
        let now = self.now();
        if self.shutdown.is_some() {
            return;
        }
        for due in &mut self.upkeep {
            if due.timer().is_none_or(|moment| moment > now) || !due.begins(now) {
                continue;
            }
            match spawn(&due.work.spawn) {
                Ok(pid) => due.process = Some(pid.as_raw()),
                Err(error) => {
                    let later = due.failed(now);
                    self.streams.warn(&format!("{error}{later}"));
                }
            }
        }
    }

    /// A service is back that nobody had asked to go.
    pub(super) fn returned(&mut self, service: &str) {
        let now = self.now();
        for due in &mut self.upkeep {
            if matches!(&due.work.occasion, Occasion::Return(names) if names.iter().any(|name| name == service)) {
                due.next = Some(now);
            }
        }
    }

    /// Whether the process that died was one that did such work.
    pub(super) fn upkeep_died(&mut self, pid: i32, exit: Exit) -> bool {
        let now = self.now();
        let Some(due) = self.upkeep.iter_mut().find(|due| due.process == Some(pid)) else { return false };
        let name = due.work.name;
        let verdict = (due.work.judge)(exit);
        // What is still due after a success would be due for ever.
        due.look_again(now, AGAIN);
        due.process = None;
        match verdict {
            Verdict::Done => {}
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
