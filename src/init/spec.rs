/*!
What the supervisor is told: the services, how each is started, watched and stopped, and how long the container lives.
*/
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::policy::{Restart, RestartPolicy};
use crate::sys::spawn::{Session, Spawn, Stdio};
use crate::sys::wait::Exit;

/// How long the container lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMode {
    /// Until a stop is asked for, a service is given up, or a service ends that its policy does not restart.
    Daemon,
    /// As long as this service. Its exit code is ours.
    Command(String),
}

/// When a service counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// As soon as its process runs.
    Started,
    /// When it sends `READY=1` (`sd_notify(3)`). Only such a service gets `NOTIFY_SOCKET`.
    Notify,
}

/// How far another service must have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// Its process has been started.
    Started,
    /// It has been ready.
    Ready,
}

/// Another service that must have come so far before the first start. Restarts do not wait: dockerd reconnects to a
/// containerd that comes back, and need not be held or restarted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Name of a service earlier in the list.
    pub service: String,
    /// What it must have reached.
    pub milestone: Milestone,
}

/// One of our own output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A log file that rotates on line boundaries: `PATH`, `PATH.1`, `PATH.2`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Path of the current file.
    pub path: PathBuf,
    /// Size in bytes that a file does not exceed, unless one line alone does.
    pub max_size: u64,
    /// Number of old files that are kept.
    pub keep: u32,
}

/// Where the standard output and error of a service lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Whatever [`Spawn::stdio`] of the service says; by default our own streams, so that a terminal works.
    Inherit,
    /// Through us: forwarded line by line, and the last lines kept for the report of a crash.
    Pump {
        /// Where the lines go.
        sink: Sink,
        /// A copy on disk.
        file: Option<LogFile>,
    },
}

/// Called once before a service is asked to end; an error is logged and the stop goes on.
pub type PrepareStop = Box<dyn FnMut() -> Result<(), String>>;

/// How a service is asked to end.
pub struct StopPlan {
    /// Sent once, followed by `SIGCONT` (a stopped process must run to see it), and never repeated: dockerd exits
    /// hard at the fourth.
    pub signal: Signal,
    /// Longest time this service is given before `SIGKILL`, within the deadline of the whole stop. Keeps a command
    /// that ignores `signal` from using up the time that dockerd needs.
    pub limit: Option<Duration>,
    /// Called first, if the service is ready. The daemon's switches live-restore off in its configuration.
    pub prepare: Option<PrepareStop>,
    /// Sent after `prepare` succeeded; then the end of the reload is awaited, and `signal` is sent after it.
    pub reload_signal: Option<Signal>,
    /// Words of an output line that tell the end of the reload as well as `RELOADING=1` and `READY=1` do: dockerd
    /// 26.1 sends no notice of a reload, newer ones do.
    pub reload_line: Option<String>,
    /// Longest time for that reload.
    pub reload_timeout: Duration,
}

impl Default for StopPlan {
    fn default() -> Self {
        Self {
            signal: Signal::SIGTERM,
            limit: None,
            prepare: None,
            reload_signal: None,
            reload_line: None,
            reload_timeout: Duration::from_secs(2),
        }
    }
}

/// One program to supervise.
pub struct ServiceSpec {
    /// Unique name, as in `health` and in messages.
    pub name: String,
    /// The program. Its `stdio[1]` and `stdio[2]` are replaced when `output` is a pump, `NOTIFY_SOCKET` is set or
    /// removed, and everything else is used as it is, at every start.
    pub spawn: Spawn,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// When it counts as ready.
    pub readiness: Readiness,
    /// Whether its descendants speak for it as well: the daemon below `rootlesskit` is another process than the one
    /// that we started.
    pub notices_from_below: bool,
    /// What its first start waits for.
    pub after: Vec<After>,
    /// Where its output goes.
    pub output: Output,
    /// How it is stopped.
    pub stop: StopPlan,
}

impl ServiceSpec {
    /// A daemon: restarted always, ready when it says so, its output pumped to standard error, no standard input,
    /// and in a session of its own, so that Ctrl-C on the container's terminal is ours to handle.
    pub fn daemon(name: &str, mut spawn: Spawn) -> Self {
        spawn.session = Session::New;
        if let Some(stdin) = spawn.stdio.first_mut() {
            *stdin = Stdio::Null;
        }
        Self {
            name: name.to_owned(),
            spawn,
            restart: RestartPolicy::new(Restart::Always),
            readiness: Readiness::Notify,
            notices_from_below: false,
            after: Vec::new(),
            output: Output::Pump { sink: Sink::Stderr, file: None },
            stop: StopPlan::default(),
        }
    }

    /// The user's command: started once, on our own standard streams and in the foreground of their terminal, and
    /// given at most 10 s to end.
    pub fn command(name: &str, mut spawn: Spawn) -> Self {
        spawn.session = Session::Foreground;
        Self {
            name: name.to_owned(),
            spawn,
            restart: RestartPolicy::new(Restart::Never),
            readiness: Readiness::Started,
            notices_from_below: false,
            after: Vec::new(),
            output: Output::Inherit,
            stop: StopPlan { limit: Some(Duration::from_secs(10)), ..StopPlan::default() },
        }
    }

    /// Waits for another service before the first start.
    #[must_use]
    pub fn after(mut self, service: &str, milestone: Milestone) -> Self {
        self.after.push(After { service: service.to_owned(), milestone });
        self
    }
}

/// What is known about a death from the last words of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The cause in a few words (`no space left on device`).
    pub cause: String,
    /// What to do about it.
    pub hint: String,
    /// Whether another start cannot help: it is given up at its first death before readiness.
    pub permanent: bool,
}

/// Recognises a cause in the last lines of the service with this name.
pub type Diagnose = Box<dyn Fn(&str, &[String]) -> Option<Diagnosis>>;

/// Called when `SIGHUP` arrives, before it is forwarded; an error is logged and nothing is forwarded.
pub type ReloadHook = Box<dyn FnMut() -> Result<(), String>>;

/// When work is to be done.
pub enum Occasion {
    /// By the clock: the time until somebody should look again; `None`: now.
    Due(Box<dyn FnMut() -> Option<Duration>>),
    /// Each time one of these services has come back after a death that nobody asked for.
    Return(Vec<String>),
    /// Each time this service has come back in that way, and a while after a process that services had left to us (a shim of
    /// containerd) was killed, when this one is ready.
    Blow(String),
    /// Once: when this service is ready for the first time.
    First(String),
}

/// Work that comes up while the services run, done by a process of its own: the renewal of certificates, a look at what a
/// daemon has missed.
pub struct Upkeep {
    /// What it is, for messages.
    pub name: &'static str,
    /// When.
    pub occasion: Occasion,
    /// The process that does it.
    pub spawn: Spawn,
    /// Asked how to take its end.
    pub judge: Box<dyn FnMut(Exit) -> Verdict>,
}

/// Called once when everything has ended; gives what has to be told.
pub type Epilogue = Box<dyn FnOnce() -> Vec<String>>;

/// What follows from the end of such a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Done,
    /// Nothing but a warning in these words. Whoever judges must not write it: the loop waits for no reader.
    Told(String),
    /// This service has to be started anew because of it.
    StartAnew(String),
    /// It has failed.
    Failed,
}

/// What people are to know, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// What a stop that was asked for and went well is reported as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StopCode {
    /// 0: it did what it was told.
    #[default]
    Zero,
    /// 128 plus the number of the signal that asked for it, as an ordinary program ends.
    Signal,
}

/// Everything the supervisor is told.
pub struct SupervisorConfig {
    /// The services in the order of their start; they are stopped in reverse order.
    pub services: Vec<ServiceSpec>,
    /// How long the container lives.
    pub mode: RunMode,
    /// Whether a command that runs goes on when a daemon is given up.
    pub command_outlives_daemon: bool,
    /// Service that gets `SIGHUP` (`dockerd`), and whose first readiness is reported as `ready_ms`.
    pub daemon: Option<String>,
    /// Time from the request to stop until everything that is left gets `SIGKILL`.
    pub stop_timeout: Duration,
    /// Time between the first request to stop and the stop itself, in which everything goes on as before: a daemon
    /// beside others (a sidecar) is to outlive them. A further request ends it.
    pub stop_delay: Duration,
    /// Exit code after a request to stop.
    pub stop_code: StopCode,
    /// Folder for the notification socket; made if missing. An abstract socket is used where that fails.
    pub runtime_dir: PathBuf,
    /// Notification socket of whoever supervises us (`NOTIFY_SOCKET`), which is told when the daemon is first ready
    /// and when everything stops.
    pub upstream: Option<OsString>,
    /// Where the state is written for `health`; `None` writes none.
    pub state_path: Option<PathBuf>,
    /// Where the [control socket](super::control) is made; `None` makes none.
    pub control_path: Option<PathBuf>,
    /// Moment PID 1 started; `ready_ms` counts from here.
    pub started: std::time::Instant,
    /// Duration of the preparation in milliseconds, handed on in the state.
    pub prepare_ms: f64,
    /// API sockets that were bound, handed on in the state.
    pub listen: Vec<String>,
    /// Why there is no daemon although one was wanted.
    pub problem: Option<Notice>,
    /// File for those who open a terminal: why there is no daemon. It is there as long as that is so.
    pub banner_path: Option<PathBuf>,
    /// Work that comes up.
    pub upkeep: Vec<Upkeep>,
    /// Recognises causes of death.
    pub diagnose: Option<Diagnose>,
    /// What `SIGHUP` does before it is forwarded.
    pub reload_hook: Option<ReloadHook>,
    /// What is done at the end.
    pub epilogue: Option<Epilogue>,
}

impl SupervisorConfig {
    /// Default time of a stop: dockerd takes up to 15 s for its containers and 15 s more for containerd.
    pub const STOP_TIMEOUT: Duration = Duration::from_secs(35);

    /// These services with every default.
    pub fn new(mode: RunMode, services: Vec<ServiceSpec>) -> Self {
        Self {
            services,
            mode,
            command_outlives_daemon: true,
            daemon: None,
            stop_timeout: Self::STOP_TIMEOUT,
            stop_delay: Duration::ZERO,
            stop_code: StopCode::Zero,
            runtime_dir: PathBuf::from("/run/dindctl"),
            upstream: None,
            state_path: Some(PathBuf::from(super::state::STATE_PATH)),
            control_path: None,
            started: std::time::Instant::now(),
            prepare_ms: 0.0,
            listen: Vec::new(),
            problem: None,
            banner_path: None,
            upkeep: Vec::new(),
            diagnose: None,
            reload_hook: None,
            epilogue: None,
        }
    }
}

/// Why these services cannot be supervised.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Nothing to do.
    #[error("there is no service to supervise")]
    Empty,
    /// Two services share a name.
    #[error("two services are named {0}")]
    Duplicate(String),
    /// A service waits for one that does not come before it.
    #[error("service {service} waits for {other}, which is not an earlier service")]
    Order {
        /// The one that waits.
        service: String,
        /// What it waits for.
        other: String,
    },
    /// The mode or the daemon names no service.
    #[error("{role} names {name}, which is not a service")]
    Unknown {
        /// `the command` or `the daemon`.
        role: &'static str,
        /// The name.
        name: String,
    },
}

impl SupervisorConfig {
    /// Checks names and dependencies. That a service only waits for earlier ones rules cycles out.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.services.is_empty() {
            return Err(ConfigError::Empty);
        }
        let mut earlier: Vec<&str> = Vec::new();
        for service in &self.services {
            if earlier.contains(&service.name.as_str()) {
                return Err(ConfigError::Duplicate(service.name.clone()));
            }
            if let Some(after) = service.after.iter().find(|after| !earlier.contains(&after.service.as_str())) {
                return Err(ConfigError::Order { service: service.name.clone(), other: after.service.clone() });
            }
            earlier.push(&service.name);
        }
        let named = |role, name: &String| {
            if earlier.contains(&name.as_str()) {
                Ok(())
            } else {
                Err(ConfigError::Unknown { role, name: name.clone() })
            }
        };
        if let RunMode::Command(name) = &self.mode {
            named("the command", name)?;
        }
        self.daemon.as_ref().map_or(Ok(()), |name| named("the daemon", name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(services: Vec<ServiceSpec>) -> SupervisorConfig {
        SupervisorConfig::new(RunMode::Daemon, services)
    }

    fn daemon(name: &str) -> ServiceSpec {
        ServiceSpec::daemon(name, Spawn::default())
    }

    #[test]
    fn a_service_may_only_wait_for_an_earlier_one() {
        let good = vec![daemon("containerd"), daemon("dockerd").after("containerd", Milestone::Started)];
        assert_eq!(config(good).check(), Ok(()));
        let order = Err(ConfigError::Order { service: "a".into(), other: "b".into() });
        assert_eq!(config(vec![daemon("a").after("b", Milestone::Ready), daemon("b")]).check(), order);
        let itself = Err(ConfigError::Order { service: "a".into(), other: "a".into() });
        assert_eq!(config(vec![daemon("a").after("a", Milestone::Ready)]).check(), itself);
    }

    #[test]
    fn names_must_be_unique_and_known() {
        assert_eq!(config(vec![]).check(), Err(ConfigError::Empty));
        assert_eq!(config(vec![daemon("a"), daemon("a")]).check(), Err(ConfigError::Duplicate("a".into())));
        let mut unknown = config(vec![daemon("a")]);
        unknown.daemon = Some("dockerd".into());
        assert_eq!(unknown.check(), Err(ConfigError::Unknown { role: "the daemon", name: "dockerd".into() }));
        unknown = SupervisorConfig::new(RunMode::Command("cmd".into()), vec![daemon("a")]);
        assert_eq!(unknown.check(), Err(ConfigError::Unknown { role: "the command", name: "cmd".into() }));
    }
}
