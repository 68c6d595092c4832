//! Work that comes due while the services run.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Supervisor;
use crate::init::say::Logger;
use crate::init::spec::Upkeep;
use crate::init::state::Phase;
use crate::sys::signal;
use crate::sys::spawn::spawn;
use crate::sys::wait::Exit;

/// Time until the next attempt after one that failed.
const AGAIN: Duration = Duration::from_secs(3600);

/// The work and when somebody looks at it next.
pub struct Due {
    work: Upkeep,
    next: Duration,
    process: Option<i32>,
}

impl Due {
    /// Asks for the first time at `now`.
    pub fn new(mut work: Upkeep, now: Duration) -> Self {
        let next = now.saturating_add((work.due)().unwrap_or_default());
        Self { work, next, process: None }
    }

    /// When something is to be done, unless its process runs.
    pub fn timer(&self) -> Option<Duration> {
        self.process.is_none().then_some(self.next)
    }
}

impl Supervisor {
    pub(super) fn keep_up(&mut self) {
        let now = self.now();
        let Some(due) = &mut self.upkeep else { return };
        if self.shutdown.is_some() || due.timer().is_none_or(|moment| moment > now) {
            return;
        }
        if let Some(later) = (due.work.due)() {
            due.next = now.saturating_add(later);
            return;
        }
        match spawn(&due.work.spawn) {
            Ok(pid) => due.process = Some(pid.as_raw()),
            Err(error) => {
                due.next = now.saturating_add(AGAIN);
                self.streams.warn(&format!("{error}; tried again in an hour"));
            }
        }
    }

    /// Whether the process that died was the one that did the work.
    pub(super) fn upkeep_died(&mut self, pid: i32, exit: Exit) -> bool {
        let now = self.now();
        let Some(due) = self.upkeep.as_mut().filter(|due| due.process == Some(pid)) else { return false };
        due.process = None;
        let name = due.work.name;
        if !exit.is_success() {
            due.next = now.saturating_add(AGAIN);
            self.streams.warn(&format!("the {name} failed ({exit}); tried again in an hour"));
            return true;
        }
        // What is still due after a success would be due for ever.
        due.next = now.saturating_add((due.work.due)().unwrap_or(AGAIN));
        let service = (due.work.restart)();
        if let (Some(service), None) = (service, &self.shutdown) {
            self.start_anew(&service, name);
        }
        true
    }

    /// Ends the service in order; its restart policy brings it back at once.
    fn start_anew(&mut self, service: &str, why: &str) {
        let unit = self.units.iter().find(|unit| unit.spec.name == service && unit.machine.phase() == Phase::Ready);
        let Some(pid) = unit.and_then(|unit| unit.machine.pid()) else { return };
        self.streams.info(&format!("{service} is started anew because of the {why}"));
        if let Err(errno) = signal::send(pid, Signal::SIGTERM as i32) {
            self.streams.error(&format!("cannot send SIGTERM to {service}: {errno}"));
        }
    }
}
