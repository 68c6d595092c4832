/*!
The shell around the decisions of this room: one loop that takes signals, deaths, notices and lines, feeds them to
the state machines, and does what those say.

`effects` feeds the machines, `stopping` is the way down, `forwarding` passes signals on, `state_file` and `telling` tell
the world. Once the first process runs nothing here may fail: whatever goes wrong is said, and the loop goes on.
*/
mod effects;
mod forwarding;
mod state_file;
mod stopping;
mod telling;
mod upkeep;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use self::state_file::StateFile;
use self::stopping::Delayed;
use self::upkeep::Due;
use super::control::Control;
use super::event_loop::{until_earliest, wait};
use super::logpump::Pump;
use super::notify::{Notice, NotifyError, NotifySocket};
use super::reaper::{adopt_orphans, harvest_children};
use super::report::{ExitReason, ExitReport};
use super::say::{Logger, Say, unix_time};
use super::service::Event;
use super::shutdown::Shutdown;
use super::signals::{Duty, duty};
use super::spec::{ConfigError, Diagnose, Epilogue, Readiness, ReloadHook, RunMode, StopCode, SupervisorConfig};
use super::state::{Phase, STATE_SCHEMA, SupervisorState};
use super::streams::Streams;
use super::unit::Unit;
use crate::sys::signal::SignalPipe;
use crate::sys::wait::Death;

/// Why the supervisor could not begin. Nothing has been started then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The services do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No socket for notices.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// No pipe for the output of a service.
    #[error("cannot create the log pipe of {service}: {errno}")]
    Pipe {
        /// Its name.
        service: String,
        /// Why.
        errno: Errno,
    },
    /// We are not PID 1 and could not become a subreaper.
    #[error("cannot become a subreaper (PR_SET_CHILD_SUBREAPER): {0}")]
    Subreaper(Errno),
}

/// Before a wait as long as this the pages that something rare needed are given back: before a shorter one they would be needed
/// again too soon.
const LONG: Duration = Duration::from_secs(1);

/// PID 1 of a container with services.
pub struct Supervisor {
    units: Vec<Unit>,
    mode: RunMode,
    command_outlives_daemon: bool,
    daemon: Option<usize>,
    stop_timeout: Duration,
    stop_delay: Duration,
    stop_code: StopCode,
    delayed: Option<Delayed>,
    upkeep: Vec<Due>,
    banner_path: Option<PathBuf>,
    diagnose: Option<Diagnose>,
    reload_hook: Option<ReloadHook>,
    epilogue: Option<Epilogue>,
    signals: SignalPipe,
    notify: Option<NotifySocket>,
    upstream: Option<OsString>,
    streams: Streams,
    epoch: Instant,
    state: StateFile,
    control: Option<Control>,
    shutdown: Option<(Shutdown, ExitReason)>,
    killed: Vec<String>,
    orphans: u64,
    more_dead: bool,
    /// Something rare has happened, and what it touched of the program is still in memory.
    stirred: bool,
}

impl Supervisor {
    /// Sets everything up and starts nothing yet. `signals` come from [`super::signals::catch_supervised`].
    pub fn new(config: SupervisorConfig, signals: SignalPipe, say: Say) -> Result<Self, StartError> {
        config.check()?;
        adopt_orphans().map_err(StartError::Subreaper)?;
        let mut streams = Streams::open(say);
        let notify = bind_notify(&config, &mut streams)?;
        let mut units = Vec::with_capacity(config.services.len());
        for spec in config.services {
            let service = spec.name.clone();
            // Without randomness only the spread is lost.
            let seed = getrandom::u64().unwrap_or_default();
            let (unit, problem) =
                Unit::new(spec, say.format, seed).map_err(|errno| StartError::Pipe { service, errno })?;
            if let Some(problem) = problem {
                streams.warn(&problem);
            }
            units.push(unit);
        }
        let control = config.control_path.as_deref().map(Control::bind).transpose().unwrap_or_else(|error| {
            streams.warn(&format!("{error}; `dindctl status` will not work"));
            None
        });
        let daemon = config.daemon.and_then(|name| units.iter().position(|unit| unit.spec.name == name));
        let current = SupervisorState {
            schema: STATE_SCHEMA.to_owned(),
            pid: Pid::this().as_raw(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stopping: false,
            started: unix_time() - config.started.elapsed().as_secs_f64(),
            prepare_ms: config.prepare_ms,
            ready_ms: None,
            listen: config.listen,
            problem: None,
            services: Vec::new(),
        };
        let mut supervisor = Self {
            units,
            mode: config.mode,
            command_outlives_daemon: config.command_outlives_daemon,
            daemon,
            stop_timeout: config.stop_timeout,
            stop_delay: config.stop_delay,
            stop_code: config.stop_code,
            delayed: None,
            upkeep: config.upkeep.into_iter().map(|work| Due::new(work, Duration::ZERO)).collect(),
            banner_path: config.banner_path,
            diagnose: config.diagnose,
            reload_hook: config.reload_hook,
            epilogue: config.epilogue,
            signals,
            notify,
            upstream: config.upstream,
            streams,
            control,
            epoch: Instant::now(),
            state: StateFile {
                path: config.state_path,
                current,
                written: None,
                failed: false,
                started: config.started,
            },
            shutdown: None,
            killed: Vec::new(),
            orphans: 0,
            // Children that died before we caught SIGCHLD told nobody.
            more_dead: true,
            stirred: false,
        };
        supervisor.set_banner(config.problem.as_ref());
        Ok(supervisor)
    }

    /// Runs the services until the container is to end, stops what is left, and tells how it ended.
    pub fn run(mut self) -> ExitReport {
        loop {
            self.take_signals();
            self.take_notices();
            if self.more_dead {
                self.reap();
            }
            self.fire_timers();
            self.keep_up();
            self.start_what_waits();
            self.read_lines();
            self.serve_control();
            self.stop_when_due();
            if self.go_on_stopping() {
                break;
            }
            self.hand_lines_on();
            self.write_state();
            self.wait();
        }
        self.finish()
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn take_signals(&mut self) {
        for number in self.signals.drain() {
            match duty(number) {
                Some(Duty::Reap) => self.reap(),
                Some(Duty::Stop) => self.asked_to_stop(number),
                Some(Duty::Reload) => self.reload(number),
                Some(Duty::Forward) => self.forward(number),
                None => {}
            }
        }
    }

    /// Collects the dead, and hears what they said before they died: their notices are in the socket already.
    fn reap(&mut self) {
        match harvest_children() {
            Ok(harvest) => {
                self.more_dead = harvest.more;
                if !harvest.deaths.is_empty() {
                    self.take_notices();
                }
                for death in harvest.deaths {
                    self.died(death);
                }
            }
            Err(errno) => {
                self.more_dead = false;
                self.streams.error(&format!("cannot collect dead children: {errno}"));
            }
        }
    }

    fn died(&mut self, death: Death) {
        if self.upkeep_died(death.pid, death.exit) {
            return;
        }
        let Some(index) = self.units.iter().position(|unit| unit.machine.pid() == Some(death.pid)) else {
            self.orphan_died(death.exit);
            return;
        };
        let Some(unit) = self.units.get_mut(index) else { return };
        let problem = unit.pump.as_mut().and_then(Pump::drain);
        if let (Some(diagnose), true) = (&self.diagnose, death.exit.is_of_its_own_making()) {
            unit.diagnosis = diagnose(&unit.spec.name, &unit.last_lines());
        }
        let permanent = unit.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.permanent);
        if let Some(problem) = problem {
            self.streams.warn(&problem);
        }
        self.handle(index, Event::Exited { exit: death.exit, permanent });
    }

    fn take_notices(&mut self) {
        let Some(socket) = &self.notify else { return };
        for notification in socket.receive() {
            let of = |unit: &Unit| unit.spec.readiness == Readiness::Notify && unit.is_spoken_for_by(notification.pid);
            let Some(index) = self.units.iter().position(of) else {
                let pid = notification.pid;
                self.streams.debug(&format!("a notice of process {pid}, which is no service, was ignored"));
                continue;
            };
            let event = match notification.notice {
                Notice::Ready => Event::NotifyReady,
                Notice::Reloading => Event::NotifyReloading,
                Notice::Stopping => Event::NotifyStopping,
            };
            self.handle(index, event);
        }
    }

    fn fire_timers(&mut self) {
        let now = self.now();
        for index in 0..self.units.len() {
            let due = |unit: &Unit| unit.machine.timer().is_some_and(|moment| moment <= now);
            if self.units.get(index).is_some_and(due) {
                self.handle(index, Event::TimerFired);
            }
        }
    }

    fn start_what_waits(&mut self) {
        for index in 0..self.units.len() {
            let Some(unit) = self.units.get(index) else { return };
            if self.shutdown.is_none() && unit.machine.phase() == Phase::Waiting {
                let reached = unit.spec.after.iter().all(|after| {
                    self.units.iter().any(|other| other.spec.name == after.service && other.reached(after.milestone))
                });
                if reached {
                    self.handle(index, Event::Begin);
                }
            }
        }
    }

    fn read_lines(&mut self) {
        let mut problems = Vec::new();
        let mut reloaded = Vec::new();
        for (index, unit) in self.units.iter_mut().enumerate() {
            if let Some(pump) = &mut unit.pump {
                problems.extend(pump.read());
                if pump.saw_watched() {
                    reloaded.push(index);
                }
            }
        }
        for problem in problems {
            self.streams.warn(&problem);
        }
        for index in reloaded {
            self.prepared_to_stop(index);
        }
    }

    fn hand_lines_on(&mut self) {
        let sinks = self.units.iter_mut().filter_map(|unit| {
            let sink = unit.sink();
            unit.pump.as_mut().map(|pump| (sink, pump))
        });
        self.streams.turn(&mut sinks.collect::<Vec<_>>());
    }

    fn write_state(&mut self) {
        self.refresh_state();
        if let Some(problem) = self.state.write() {
            self.streams.warn(&problem);
        }
    }

    fn wait(&mut self) {
        let now = self.now();
        let mut moments: Vec<Duration> = self.units.iter().filter_map(|unit| unit.machine.timer()).collect();
        moments.extend(self.shutdown.as_ref().and_then(|(shutdown, _)| shutdown.timer(now)));
        if self.shutdown.is_none() {
            moments.extend(self.upkeep.iter().filter_map(Due::timer));
        }
        moments.extend(self.control.as_ref().and_then(Control::timer));
        moments.extend(self.delayed.as_ref().map(|delayed| delayed.until));
        moments.extend(self.more_dead.then_some(now));
        let rest = until_earliest(now, moments);
        if self.stirred && rest.is_none_or(|rest| rest >= LONG) {
            self.settle();
        }
        let waited = self.poll(rest);
        if let Err(errno) = waited {
            // EINVAL or ENOMEM: nothing to be done about either, and a loop without a pause would eat a core.
            self.streams.error(&format!("cannot wait for events: {errno}"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn poll(&self, time: Option<Duration>) -> Result<(), Errno> {
        use std::os::fd::AsFd;
        let mut readable = vec![self.signals.as_fd()];
        readable.extend(self.notify.as_ref().map(AsFd::as_fd));
        readable.extend(self.units.iter().filter_map(|unit| unit.pump.as_ref()?.awaited()));
        readable.extend(self.control.iter().flat_map(Control::readable));
        let mut writable: Vec<_> = self.streams.awaited().collect();
        writable.extend(self.control.iter().flat_map(Control::writable));
        wait(&readable, &writable, time)
    }
}

/// The socket for notices, if any service sends them.
fn bind_notify(config: &SupervisorConfig, log: &mut impl Logger) -> Result<Option<NotifySocket>, NotifyError> {
    let mut notifying = config.services.iter().filter(|service| service.readiness == Readiness::Notify).peekable();
    if notifying.peek().is_none() {
        return Ok(None);
    }
    let own = nix::unistd::geteuid().as_raw();
    let for_everyone = notifying.any(|service| service.spawn.identity.as_ref().is_some_and(|user| user.uid != own));
    let socket = NotifySocket::bind(&config.runtime_dir, for_everyone)?;
    if let Some(reason) = &socket.fallback {
        log.debug(&format!("{reason}; using an abstract notification socket"));
    }
    Ok(Some(socket))
}
