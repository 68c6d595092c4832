//! The way down: requests to stop, the steps of the ordered stop, and the report at the end.

use std::time::Duration;

use nix::libc;

use super::Supervisor;
use crate::init::event_loop::wait;
use crate::init::logpump::Pump;
use crate::init::report::{ExitReason, ExitReport, exit_code};
use crate::init::say::Logger;
use crate::init::service::Event;
use crate::init::shutdown::{Action, Shutdown, Surroundings, Target};
use crate::init::signals::{SHORT_GRACE, Urgency};
use crate::init::spec::RunMode;
use crate::init::sweep;
use crate::init::unit::Unit;
use crate::sys::signal;
use crate::sys::wait::signal_name;

/// Longest time at the end for a reader to take our last lines.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A request to stop whose time has not come.
pub struct Delayed {
    /// When it comes.
    pub until: Duration,
    number: i32,
}

impl Supervisor {
    pub(super) fn asked_to_stop(&mut self, number: i32) {
        let (name, now) = (signal_name(number), self.now());
        if self.shutdown.is_none() {
            if self.delayed.is_none() && !self.stop_delay.is_zero() {
                let delay = humantime::format_duration(self.stop_delay);
                self.streams.info(&format!("{name}: stopping in {delay}; another one stops at once"));
                self.delayed = Some(Delayed { until: now.saturating_add(self.stop_delay), number });
                return;
            }
            let again = self.delayed.is_some();
            if !again {
                self.streams.info(&format!("{name}: stopping"));
            }
            self.begin_stop(ExitReason::Requested(number));
            if !again {
                return;
            }
        }
        let Some((shutdown, _)) = &mut self.shutdown else { return };
        match shutdown.hurry(now) {
            Urgency::Orderly => self.streams.info(&format!("{name}: stopping already")),
            Urgency::Short => {
                self.streams.info(&format!("{name} again: at most {} s more", SHORT_GRACE.as_secs()));
            }
            Urgency::Now => self.streams.info(&format!("{name} again: killing what is left")),
        }
    }

    /// Begins the stop that was asked for a while ago.
    pub(super) fn stop_when_due(&mut self) {
        if let Some(Delayed { until, number }) = self.delayed
            && until <= self.now()
        {
            self.streams.info("stopping");
            self.begin_stop(ExitReason::Requested(number));
        }
    }

    pub(super) fn begin_stop(&mut self, reason: ExitReason) {
        if self.shutdown.is_some() {
            return;
        }
        self.delayed = None;
        let targets = self.units.iter().enumerate().map(|(service, unit)| {
            let plan = &unit.spec.stop;
            let prepares = plan.prepare.is_some() || plan.reload_signal.is_some();
            Target { service, limit: plan.limit, prepare: prepares.then_some(plan.reload_timeout) }
        });
        let shutdown = Shutdown::new(self.now(), self.stop_timeout, targets.collect());
        let asked = matches!(reason, ExitReason::Requested(_));
        let shutdown = if asked { shutdown } else { shutdown.unasked() };
        self.shutdown = Some((shutdown, reason));
        self.state.current.stopping = true;
        self.tell_upstream("STOPPING=1");
        for index in 0..self.units.len() {
            self.handle(index, Event::Drain);
        }
        // What stands still (SIGSTOP) is woken when its own turn comes as well, but others need it before: dockerd waits 15 s for a
        // containerd or a shim that does not answer, and then its containers end without their signal.
        sweep::send(libc::SIGCONT);
        self.units.iter_mut().filter_map(|unit| unit.pump.as_mut()).for_each(Pump::set_lossy);
    }

    /// Whether the stop is over.
    pub(super) fn go_on_stopping(&mut self) -> bool {
        while self.shutdown.is_some() {
            // What died since counts: the sweep asks who is left, and not every death reaches us as a signal.
            self.reap();
            let now = self.now();
            let around = Around(&self.units);
            let Some((shutdown, _)) = &mut self.shutdown else { break };
            let actions = shutdown.advance(now, &around);
            if actions.is_empty() {
                return shutdown.is_done();
            }
            for action in actions {
                self.act(action);
            }
        }
        false
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare(index) => self.prepare_stop(index),
            Action::Terminate(index) => {
                if let Some(signal) = self.units.get(index).map(|unit| unit.spec.stop.signal) {
                    self.handle(index, Event::StopRequested { signal });
                }
            }
            Action::Kill(index) => {
                if let Some(unit) = self.units.get(index) {
                    let name = unit.spec.name.clone();
                    self.streams.warn(&format!("{name} did not end in time and is killed"));
                    self.killed.push(name);
                    self.handle(index, Event::KillRequested);
                }
            }
            Action::SweepTerminate => sweep::send(libc::SIGTERM),
            Action::SweepKill => {
                let strays = sweep::described(&sweep::everyone());
                if !strays.is_empty() {
                    self.streams.warn(&format!("killing what did not end when it was asked: {strays}"));
                }
                sweep::send(libc::SIGKILL);
            }
        }
    }

    fn prepare_stop(&mut self, index: usize) {
        let Some(unit) = self.units.get_mut(index) else { return };
        let prepared = unit.spec.stop.prepare.as_mut().map_or(Ok(()), |prepare| prepare());
        let reload = match prepared {
            Ok(()) => unit.spec.stop.reload_signal.and_then(|signal| Some((unit.machine.pid()?, signal))),
            Err(problem) => {
                let name = &unit.spec.name;
                self.streams.warn(&format!("cannot prepare the stop of {name}: {problem}; stopping it as it is"));
                None
            }
        };
        if let (Some(pump), Some(line)) = (&mut unit.pump, &unit.spec.stop.reload_line) {
            pump.watch_for(line);
        }
        let sent = reload.map(|(pid, signal)| signal::send(pid, signal as i32));
        // A reload that was sent ends with the service's own word.
        if sent != Some(Ok(())) {
            self.prepared_to_stop(index);
        }
    }

    pub(super) fn prepared_to_stop(&mut self, index: usize) {
        if let Some((shutdown, _)) = &mut self.shutdown {
            shutdown.prepared(index);
        }
    }

    /// Gives the last lines a moment to be read, and sums up.
    pub(super) fn finish(mut self) -> ExitReport {
        let reason = self.shutdown.take().map_or(ExitReason::Requested(0), |(_, reason)| reason);
        let command = match &self.mode {
            RunMode::Daemon => None,
            RunMode::Command(name) if matches!(&reason, ExitReason::GaveUp { service, .. } if service != name) => None,
            RunMode::Command(name) => self
                .units
                .iter()
                .find(|unit| unit.spec.name == *name)
                .and_then(|unit| Some((unit.machine.last_exit()?, unit.spec.stop.signal))),
        };
        let code = exit_code(&reason, !self.killed.is_empty(), command, self.stop_code);
        let survivors = sweep::described(&sweep::everyone());
        if !survivors.is_empty() {
            self.streams.warn(&format!("killed, and still there: {survivors}; the kernel holds them until it is done"));
        }
        for unit in &mut self.units {
            if let Some(pump) = &mut unit.pump {
                // A problem with its log file is of no use to anyone any more.
                let _ = pump.drain();
                if pump.lost() > 0 {
                    let (lost, name) = (pump.lost(), &unit.spec.name);
                    self.streams.warn(&format!("{lost} bytes of {name} were dropped, because nobody read them"));
                }
            }
        }
        self.write_state();
        for told in self.epilogue.take().into_iter().flat_map(|epilogue| epilogue()) {
            self.streams.warn(&told);
        }
        let end = self.now().saturating_add(LAST_WORDS);
        self.read_lines();
        self.hand_lines_on();
        while self.streams.awaited().next().is_some() && self.now() < end {
            let writable: Vec<_> = self.streams.awaited().collect();
            if wait(&[], &writable, Some(end.saturating_sub(self.now()))).is_err() {
                break;
            }
            self.read_lines();
            self.hand_lines_on();
        }
        ExitReport { reason, code, killed: self.killed, orphans: self.orphans }
    }
}

struct Around<'a>(&'a [Unit]);

impl Surroundings for Around<'_> {
    fn is_alive(&self, service: usize) -> bool {
        self.0.get(service).is_some_and(|unit| unit.machine.pid().is_some())
    }

    fn is_ready(&self, service: usize) -> bool {
        self.0.get(service).is_some_and(|unit| unit.machine.is_ready_now())
    }

    fn others(&self) -> bool {
        sweep::others()
    }
}
