//! Signals that are meant for a service.

use super::Supervisor;
use crate::init::say::Logger;
use crate::init::spec::RunMode;
use crate::sys::signal;
use crate::sys::wait::signal_name;

impl Supervisor {
    pub(super) fn reload(&mut self, number: i32) {
        let problems: Vec<String> =
            self.units.iter_mut().filter_map(|unit| unit.pump.as_mut()?.begin_file_anew()).collect();
        for problem in problems {
            self.streams.warn(&problem);
        }
        if let Some(Err(problem)) = self.reload_hook.as_mut().map(|hook| hook()) {
            self.streams.error(&format!("cannot reload: {problem}; the services keep their configuration"));
            return;
        }
        self.pass_to(self.daemon.or_else(|| self.main()), number);
    }

    pub(super) fn forward(&mut self, number: i32) {
        self.pass_to(self.main(), number);
    }

    /// The command, else the daemon, else the service that was started last.
    fn main(&self) -> Option<usize> {
        match &self.mode {
            RunMode::Command(name) => self.units.iter().position(|unit| unit.spec.name == *name),
            RunMode::Daemon => self.daemon.or_else(|| self.units.len().checked_sub(1)),
        }
    }

    /// Passes a signal on to a service that is ready: one that has not installed its handlers yet would die of it.
    fn pass_to(&mut self, index: Option<usize>, number: i32) {
        let Some(unit) = index.and_then(|index| self.units.get(index)) else { return };
        let (name, signal) = (&unit.spec.name, signal_name(number));
        match unit.machine.pid().filter(|_| unit.machine.is_ready_now()) {
            None => self.streams.debug(&format!("{signal} was dropped: {name} is not ready")),
            Some(pid) => {
                if let Err(errno) = signal::send(pid, number) {
                    self.streams.warn(&format!("cannot send {signal} to {name}: {errno}"));
                }
            }
        }
    }
}
