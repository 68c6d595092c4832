//! Feeding events to a service and doing what its state machine answers.

use std::path::Path;

use nix::errno::Errno;

use super::Supervisor;
use crate::init::notify;
use crate::init::policy::Reason;
use crate::init::report::ExitReason;
use crate::init::say::{Level, Logger};
use crate::init::service::{Effect, Event};
use crate::init::spec::{Notice, Readiness, RunMode};
use crate::init::state::Phase;
use crate::init::unit::Unit;
use crate::init::words;
use crate::sys::memory::release_program;
use crate::sys::signal;

impl Supervisor {
    pub(super) fn handle(&mut self, index: usize, event: Event) {
        let now = self.now();
        let Some(unit) = self.units.get_mut(index) else { return };
        for effect in unit.machine.handle(now, event) {
            self.apply(index, event, effect);
        }
        // Until the daemon answers for the first time, what is given back would be needed again at once.
        self.stirred |= self.state.current.ready_ms.is_some();
    }

    fn apply(&mut self, index: usize, event: Event, effect: Effect) {
        let Some(unit) = self.units.get_mut(index) else { return };
        let name = unit.spec.name.clone();
        match effect {
            Effect::Start => {
                let outcome = match unit.start(self.notify.as_ref()) {
                    Ok(pid) => {
                        self.streams.debug(&format!("{name} started as process {pid}"));
                        Event::Spawned { pid }
                    }
                    Err(failure) => {
                        self.streams.error(&failure.message);
                        Event::SpawnFailed { permanent: failure.permanent }
                    }
                };
                self.handle(index, outcome);
            }
            Effect::ScheduleRestart { after } => {
                let how = unit.how_it_ended();
                let said = words::restart(&name, &how, after, unit.diagnosis.as_ref());
                self.streams.warn(&said);
            }
            Effect::Signal(signal) => {
                let sent = unit.machine.pid().map_or(Err(Errno::ESRCH), |pid| signal::send(pid, signal as i32));
                // ESRCH cannot be: an unreaped child keeps its pid.
                if let Err(errno) = sent {
                    self.streams.error(&format!("cannot send {signal} to {name}: {errno}"));
                }
            }
            Effect::BecameReady => self.became_ready(index, &name),
            Effect::Reloaded => {
                self.streams.info(&format!("{name} has reloaded its configuration"));
                self.prepared_to_stop(index);
            }
            Effect::Ended => self.ended(index, &name),
            Effect::GiveUp(reason) => self.gave_up(index, name, reason),
            Effect::Ignored => {
                let phase = unit.machine.phase();
                self.streams.debug(&format!("{name} is {phase:?}; {event:?} was ignored"));
            }
        }
    }

    fn became_ready(&mut self, index: usize, name: &str) {
        let Some(unit) = self.units.get(index) else { return };
        if unit.spec.readiness == Readiness::Notify {
            let again = if unit.machine.restarts() > 0 { " again" } else { "" };
            let millis = self.state.started.elapsed().as_secs_f64() * 1000.0;
            if self.daemon == Some(index) {
                self.set_banner(None);
            }
            if self.daemon == Some(index) && self.state.current.ready_ms.is_none() {
                self.state.current.ready_ms = Some(millis);
                self.tell_upstream("READY=1");
            }
            self.streams.info(&format!("{name} is ready{again} ({millis:.0} ms after the start)"));
        }
        let again = self.units.get(index).is_some_and(|unit| unit.machine.restarts() > 0);
        self.has_come(name, again);
    }

    /// Nothing is due soon: what only the start, or the end of a service, needed is not to stay in memory.
    pub(super) fn settle(&mut self) {
        self.stirred = false;
        if let Err(error) = release_program(Path::new("/proc")) {
            self.streams.debug(&format!("the start's memory is kept: {error}"));
        }
    }

    pub(super) fn tell_upstream(&mut self, notice: &str) {
        let Some(address) = &self.upstream else { return };
        if let Err(errno) = notify::tell(address, notice) {
            self.streams.warn(&format!("cannot send {notice} to {}: {errno}", address.to_string_lossy()));
        }
    }

    fn ended(&mut self, index: usize, name: &str) {
        let Some(unit) = self.units.get(index) else { return };
        if self.shutdown.is_some() {
            self.streams.debug(&format!("{name} ended: {}", unit.how_it_ended()));
            return;
        }
        let is_command = matches!(&self.mode, RunMode::Command(command) if command == name);
        let waited_for = self.units.iter().any(|other| {
            other.machine.phase() == Phase::Waiting
                && other.spec.after.iter().any(|after| after.service == name && !unit.reached(after.milestone))
        });
        let reason = match (&unit.failure, unit.machine.last_exit()) {
            (Some(failure), _) => ExitReason::NotStarted {
                service: name.to_owned(),
                code: failure.code,
                message: failure.message.clone(),
            },
            (None, Some(exit)) => ExitReason::Ended { service: name.to_owned(), exit },
            (None, None) => return,
        };
        let level = if is_command { Level::Debug } else { Level::Info };
        self.streams.log(level, &format!("{name} ended: {}", unit.how_it_ended()));
        // Without a command every service counts; with one, only those that somebody still waits for.
        if is_command || waited_for || self.mode == RunMode::Daemon || !self.command_outlives_daemon {
            self.begin_stop(reason);
        }
    }

    fn gave_up(&mut self, index: usize, service: String, reason: Reason) {
        let Some(unit) = self.units.get(index) else { return };
        let diagnosis = unit.diagnosis.clone();
        for (level, said) in
            words::given_up(&service, reason, &unit.how_it_ended(), &unit.last_lines(), diagnosis.as_ref())
        {
            self.streams.log(level, &said);
        }
        let last = unit.failure.is_none().then(|| unit.machine.last_exit()).flatten();
        if self.command_runs_without(&service) {
            self.streams.warn(&format!("the container goes on with its command, without {service}"));
            let cause = diagnosis.as_ref().map(|diagnosis| format!(": {}", diagnosis.cause)).unwrap_or_default();
            let message = format!("{service} {reason}{cause}");
            self.set_banner(Some(&Notice { message, hint: diagnosis.map(|diagnosis| diagnosis.hint) }));
            return;
        }
        let is_command = matches!(&self.mode, RunMode::Command(command) if *command == service);
        self.begin_stop(match &unit.failure {
            // It counts as if it were not restarted.
            Some(failure) if is_command => {
                ExitReason::NotStarted { service, code: failure.code, message: failure.message.clone() }
            }
            _ => ExitReason::GaveUp { service, reason, last, diagnosis },
        });
    }

    /// The container lives as long as its command: a daemon that is given up must not take somebody's editor along, unless that is
    /// wanted.
    /// A command that has not been started because it waits for that daemon never will be, and is no reason to stay.
    fn command_runs_without(&self, service: &str) -> bool {
        let RunMode::Command(command) = &self.mode else { return false };
        if !self.command_outlives_daemon {
            return false;
        }
        let runs = |unit: &Unit| unit.spec.name == *command && unit.machine.pid().is_some();
        command != service && self.units.iter().any(runs)
    }
}
