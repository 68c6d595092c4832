/*!
One service as the supervisor holds it: what it is told, where it stands, its pipe; and starting its process.
*/
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::logpump::Pump;
use super::notify::NotifySocket;
use super::say::Format;
use super::service::Service;
use super::spec::{Diagnosis, Milestone, Output, Readiness, ServiceSpec, Sink};
use super::state::ServiceState;
use crate::sys::family::{descendants, processes};
use crate::sys::spawn::{SpawnError, Stdio, Step, spawn};

/// Name of the variable that tells a service where to send its notices.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A start that failed.
#[derive(Debug, Clone)]
pub struct StartFailure {
    /// The code that shells use for it.
    pub code: u8,
    /// Whether trying again cannot help.
    pub permanent: bool,
    /// What failed, with path and errno.
    pub message: String,
}

/// One service.
pub struct Unit {
    /// What it is told.
    pub spec: ServiceSpec,
    /// Where it stands.
    pub machine: Service,
    /// Its output, unless it has our own streams.
    pub pump: Option<Pump>,
    /// Why the last start failed.
    pub failure: Option<StartFailure>,
    /// What the last death looked like.
    pub diagnosis: Option<Diagnosis>,
}

impl Unit {
    /// A service that has not been started, with its pipe. `format` is that of its lines, `seed` spreads its restarts. The second
    /// value is a problem with its log file.
    pub fn new(spec: ServiceSpec, format: Format, seed: u64) -> Result<(Self, Option<String>), Errno> {
        let (pump, problem) = match &spec.output {
            Output::Inherit => (None, None),
            Output::Pump { file, .. } => {
                let wrap = (format == Format::Json).then(|| spec.name.clone());
                let (pump, problem) = Pump::new(file.clone(), wrap)?;
                (Some(pump), problem)
            }
        };
        let machine = Service::new(spec.restart.clone(), spec.readiness).spread(seed);
        Ok((Self { spec, machine, pump, failure: None, diagnosis: None }, problem))
    }

    /// The stream its output goes to.
    pub fn sink(&self) -> Sink {
        match self.spec.output {
            Output::Pump { sink, .. } => sink,
            Output::Inherit => Sink::Stderr,
        }
    }

    /// Whether notices of process `pid` are its own.
    pub fn is_spoken_for_by(&self, pid: i32) -> bool {
        let Some(own) = self.machine.pid() else { return false };
        own == pid || (self.spec.notices_from_below && descendants(&processes(Path::new("/proc")), own).contains(&pid))
    }

    /// Whether it has come so far.
    pub fn reached(&self, milestone: Milestone) -> bool {
        match milestone {
            Milestone::Started => self.machine.was_started(),
            Milestone::Ready => self.machine.was_ready(),
        }
    }

    /// Starts its process and gives the process id.
    pub fn start(&mut self, notify: Option<&NotifySocket>) -> Result<i32, StartFailure> {
        self.failure = None;
        self.diagnosis = None;
        if let Some(pump) = &mut self.pump {
            pump.begin();
            for stream in self.spec.spawn.stdio.iter_mut().skip(1) {
                *stream = Stdio::Fd(pump.child_end().map_err(|error| StartFailure {
                    code: 125,
                    permanent: false,
                    message: format!("cannot duplicate the log pipe of {}: {error}", self.spec.name),
                })?);
            }
        }
        let env = &mut self.spec.spawn.env;
        // It must not leak: runc speaks that protocol as well.
        env.retain(|(name, _)| name != OsStr::new(NOTIFY_SOCKET));
        if let (Readiness::Notify, Some(socket)) = (self.spec.readiness, notify) {
            env.push((NOTIFY_SOCKET.into(), socket.address().clone()));
        }
        let started = spawn(&self.spec.spawn);
        if self.pump.is_some() {
            // The duplicates were for the child only.
            self.spec.spawn.stdio.iter_mut().skip(1).for_each(|stream| *stream = Stdio::Null);
        }
        match started {
            Ok(pid) => Ok(pid.as_raw()),
            Err(error) => {
                let failure = StartFailure {
                    code: error.exit_code(),
                    permanent: is_permanent(&error),
                    message: error.to_string(),
                };
                self.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// Its last lines, oldest first.
    pub fn last_lines(&self) -> Vec<String> {
        self.pump.as_ref().map(Pump::last_lines).unwrap_or_default()
    }

    /// How its last process ended, or why it could not be started, in words.
    pub fn how_it_ended(&self) -> String {
        match (&self.failure, self.machine.last_exit()) {
            (Some(failure), _) => failure.message.clone(),
            (None, Some(exit)) => exit.to_string(),
            (None, None) => "no process".to_owned(),
        }
    }

    /// What `health` sees of it. `offset` is from the start of PID 1 to the moment that the machine's times count from.
    pub fn state(&self, offset: Duration) -> ServiceState {
        let failure = || self.failure.as_ref().map(|failure| failure.message.clone());
        ServiceState {
            name: self.spec.name.clone(),
            phase: self.machine.phase(),
            pid: self.machine.pid(),
            restarts: self.machine.restarts(),
            last_exit: failure().or_else(|| self.machine.last_exit().map(|exit| exit.to_string())),
            since_ms: self.machine.chronicle().since_ms(offset),
            lives: self.machine.chronicle().lives(offset),
        }
    }
}

/// Whether a start that failed so will fail again. What the kernel lacks for a moment comes back; a program that is
/// not there does not.
fn is_permanent(error: &SpawnError) -> bool {
    match error {
        SpawnError::Nul { .. } => true,
        SpawnError::Call { step: Step::Exec, errno, .. } => !matches!(
            errno,
            Errno::EAGAIN | Errno::ENOMEM | Errno::ETXTBSY | Errno::EMFILE | Errno::ENFILE | Errno::EIO | Errno::EINTR
        ),
        SpawnError::Call { .. } => false,
    }
}
