/*!
The shell around the decisions of this room: one loop that takes signals, deaths, notices and lines, feeds them to
the state machines, and does what those say.

Once the first process runs nothing here may fail: whatever goes wrong is said, and the loop goes on.
*/
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use super::event_loop::{until_earliest, wait};
use super::logpump::Pump;
use super::notify::{Notice, NotifyError, NotifySocket};
use super::policy::Reason;
use super::reaper::{adopt_orphans, harvest_children};
use super::report::{ExitReason, ExitReport, exit_code};
use super::say::{Level, Logger, Say};
use super::service::{Effect, Event};
use super::shutdown::{Action, Shutdown, Surroundings, Target};
use super::signals::{Duty, SHORT_GRACE, Urgency, duty};
use super::spec::{ConfigError, Diagnose, Readiness, ReloadHook, RunMode, Sink, SupervisorConfig};
use super::state::{Phase, STATE_SCHEMA, SupervisorState};
use super::streams::Streams;
use super::unit::Unit;
use super::{sweep, words};
use crate::sys::signal::{self, SignalPipe};
use crate::sys::wait::{Death, signal_name};

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

/// Longest time at the end for a reader to take our last lines.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// PID 1 of a container with services.
pub struct Supervisor {
    units: Vec<Unit>,
    mode: RunMode,
    daemon: Option<usize>,
    stop_timeout: Duration,
    diagnose: Option<Diagnose>,
    reload_hook: Option<ReloadHook>,
    signals: SignalPipe,
    notify: Option<NotifySocket>,
    streams: Streams,
    epoch: Instant,
    state: StateFile,
    shutdown: Option<(Shutdown, ExitReason)>,
    killed: Vec<String>,
    orphans: u64,
    more_dead: bool,
}

struct StateFile {
    path: Option<std::path::PathBuf>,
    current: SupervisorState,
    written: Option<SupervisorState>,
    failed: bool,
    started: Instant,
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
            let (unit, problem) = Unit::new(spec).map_err(|errno| StartError::Pipe { service, errno })?;
            if let Some(problem) = problem {
                streams.warn(&problem);
            }
            units.push(unit);
        }
        let daemon = config.daemon.and_then(|name| units.iter().position(|unit| unit.spec.name == name));
        let current = SupervisorState {
            schema: STATE_SCHEMA.to_owned(),
            pid: Pid::this().as_raw(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stopping: false,
            prepare_ms: config.prepare_ms,
            ready_ms: None,
            listen: config.listen,
            services: Vec::new(),
        };
        Ok(Self {
            units,
            mode: config.mode,
            daemon,
            stop_timeout: config.stop_timeout,
            diagnose: config.diagnose,
            reload_hook: config.reload_hook,
            signals,
            notify,
            streams,
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
        })
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
            self.start_what_waits();
            if self.go_on_stopping() {
                break;
            }
            self.move_lines();
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
        let Some(index) = self.units.iter().position(|unit| unit.machine.pid() == Some(death.pid)) else {
            self.orphans = self.orphans.saturating_add(1);
            return;
        };
        let Some(unit) = self.units.get_mut(index) else { return };
        let problem = unit.pump.as_mut().and_then(Pump::drain);
        if let (Some(diagnose), false) = (&self.diagnose, death.exit.is_success()) {
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
            let of =
                |unit: &Unit| unit.spec.readiness == Readiness::Notify && unit.machine.pid() == Some(notification.pid);
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

    fn handle(&mut self, index: usize, event: Event) {
        let now = self.now();
        let Some(unit) = self.units.get_mut(index) else { return };
        for effect in unit.machine.handle(now, event) {
            self.apply(index, event, effect);
        }
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
                if let Some((shutdown, _)) = &mut self.shutdown {
                    shutdown.prepared(index);
                }
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
            let millis = self.state.started.elapsed().as_secs_f64() * 1000.0;
            if self.daemon == Some(index) && self.state.current.ready_ms.is_none() {
                self.state.current.ready_ms = Some(millis);
            }
            let again = if unit.machine.restarts() > 0 { " again" } else { "" };
            self.streams.info(&format!("{name} is ready{again} ({millis:.0} ms after the start)"));
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
        if is_command || waited_for || self.mode == RunMode::Daemon {
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
        self.begin_stop(ExitReason::GaveUp { service, reason, last, diagnosis });
    }

    fn asked_to_stop(&mut self, number: i32) {
        let (name, now) = (signal_name(number), self.now());
        let Some((shutdown, _)) = &mut self.shutdown else {
            self.streams.info(&format!("{name}: stopping"));
            self.begin_stop(ExitReason::Requested(number));
            return;
        };
        match shutdown.hurry(now) {
            Urgency::Orderly => {}
            Urgency::Short => {
                self.streams.info(&format!("{name} again: at most {} s more", SHORT_GRACE.as_secs()));
            }
            Urgency::Now => self.streams.info(&format!("{name} again: killing what is left")),
        }
    }

    fn begin_stop(&mut self, reason: ExitReason) {
        if self.shutdown.is_some() {
            return;
        }
        let targets = self.units.iter().enumerate().map(|(service, unit)| {
            let plan = &unit.spec.stop;
            let prepares = plan.prepare.is_some() || plan.reload_signal.is_some();
            Target { service, limit: plan.limit, prepare: prepares.then_some(plan.reload_timeout) }
        });
        let shutdown = Shutdown::new(self.now(), self.stop_timeout, targets.collect());
        self.shutdown = Some((shutdown, reason));
        self.state.current.stopping = true;
        for index in 0..self.units.len() {
            self.handle(index, Event::Drain);
        }
        self.units.iter_mut().filter_map(|unit| unit.pump.as_mut()).for_each(Pump::set_lossy);
    }

    /// Whether the stop is over.
    fn go_on_stopping(&mut self) -> bool {
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
            Action::SweepKill => sweep::send(libc::SIGKILL),
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
        let sent = reload.map(|(pid, signal)| signal::send(pid, signal as i32));
        // A reload that was sent ends with the service's own notice.
        if sent != Some(Ok(()))
            && let Some((shutdown, _)) = &mut self.shutdown
        {
            shutdown.prepared(index);
        }
    }

    fn reload(&mut self, number: i32) {
        if let Some(Err(problem)) = self.reload_hook.as_mut().map(|hook| hook()) {
            self.streams.error(&format!("cannot reload: {problem}; the services keep their configuration"));
            return;
        }
        self.pass_to(self.daemon.or_else(|| self.main()), number);
    }

    fn forward(&mut self, number: i32) {
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

    fn move_lines(&mut self) {
        let mut problems = Vec::new();
        let mut pumps: Vec<(Sink, &mut Pump)> = Vec::with_capacity(self.units.len());
        for unit in &mut self.units {
            let sink = unit.sink();
            if let Some(pump) = &mut unit.pump {
                problems.extend(pump.read());
                pumps.push((sink, pump));
            }
        }
        for problem in problems {
            self.streams.warn(&problem);
        }
        self.streams.turn(&mut pumps);
    }

    fn write_state(&mut self) {
        self.state.current.services = self.units.iter().map(Unit::state).collect();
        if let Some(problem) = self.state.write() {
            self.streams.warn(&problem);
        }
    }

    fn wait(&mut self) {
        let now = self.now();
        let mut moments: Vec<Duration> = self.units.iter().filter_map(|unit| unit.machine.timer()).collect();
        moments.extend(self.shutdown.as_ref().and_then(|(shutdown, _)| shutdown.timer(now)));
        moments.extend(self.more_dead.then_some(now));
        let waited = self.poll(until_earliest(now, moments));
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
        let writable: Vec<_> = self.streams.awaited().collect();
        wait(&readable, &writable, time)
    }

    /// Gives the last lines a moment to be read, and sums up.
    fn finish(mut self) -> ExitReport {
        let reason = self.shutdown.take().map_or(ExitReason::Requested(0), |(_, reason)| reason);
        let command = match &self.mode {
            RunMode::Daemon => None,
            RunMode::Command(name) => self
                .units
                .iter()
                .find(|unit| unit.spec.name == *name)
                .and_then(|unit| Some((unit.machine.last_exit()?, unit.spec.stop.signal))),
        };
        let code = exit_code(&reason, !self.killed.is_empty(), command);
        for unit in &mut self.units {
            if let Some(pump) = &mut unit.pump {
                // A problem with its log file is of no use to anyone any more.
                let _ = pump.drain();
            }
        }
        self.write_state();
        let end = Instant::now() + LAST_WORDS;
        self.move_lines();
        while self.streams.awaited().next().is_some() && Instant::now() < end {
            let writable: Vec<_> = self.streams.awaited().collect();
            if wait(&[], &writable, Some(end.saturating_duration_since(Instant::now()))).is_err() {
                break;
            }
            self.move_lines();
        }
        ExitReport { reason, code, killed: self.killed, orphans: self.orphans }
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

impl StateFile {
    /// Writes the state if it changed. Gives the first failure after a success.
    fn write(&mut self) -> Option<String> {
        let path = self.path.as_ref()?;
        if self.written.as_ref() == Some(&self.current) {
            return None;
        }
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let outcome = folder.and_then(|()| self.current.write(path));
        // What could not be written is not tried again before the next change.
        self.written = Some(self.current.clone());
        let failed = std::mem::replace(&mut self.failed, outcome.is_err());
        let error = outcome.err().filter(|_| !failed)?;
        Some(format!("cannot write {}: {error}; `dindctl health` will not see the truth", path.display()))
    }
}
