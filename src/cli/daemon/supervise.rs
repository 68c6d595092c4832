/*!
From what is to run to the end of the container: the daemon's side and the command are put together and handed to the
supervisor. A command that needs no daemon runs where there is none.
*/
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use super::super::Environment;
use super::super::failure::Failure;
use super::super::places::{self, RUN_DIR};
use super::super::say::Level;
use super::rootless::{self, Place};
use super::{COMMAND, Daemon, Launch, services, with_root};
use crate::init::signals;
use crate::init::spec::{Milestone, Notice, RunMode, ServiceSpec, StopCode, SupervisorConfig, Upkeep};
use crate::init::state::SupervisorState;
use crate::init::supervisor::Supervisor;
use crate::prepare::sockets::Bound;
use crate::prepare::tidy;
use crate::probe::Roots;
use crate::sys::descriptors;
use crate::sys::signal::SignalPipe;

/// What the daemon's side of the container consists of.
pub struct Parts {
    /// The daemons, in the order of their start.
    pub services: Vec<ServiceSpec>,
    /// Addresses of the API.
    pub listen: Vec<String>,
    /// Makes the daemon's configuration anew.
    pub reload: Option<Box<dyn FnMut() -> Result<(), String>>>,
    /// Kept open for as long as dockerd may have to be started again.
    pub sockets: Bound,
    /// What comes up while it runs.
    pub upkeep: Vec<Upkeep>,
    /// What the preparation took, milliseconds.
    pub prepare_ms: f64,
    /// Folder for the supervisor's state.
    pub run_dir: PathBuf,
    /// Why there is no daemon although one was wanted.
    pub problem: Option<Notice>,
    /// What was mounted before the daemons started, and the folders that they mount below.
    pub untidy: Option<(tidy::Before, Vec<PathBuf>)>,
}

impl Parts {
    /// Those of a container without a daemon.
    fn none(launch: &Launch<'_>, place: Place, problem: Option<Notice>) -> Self {
        let run_dir = match place {
            Place::User => places::user_run_dir(&launch.environment),
            Place::Root | Place::Namespace => RUN_DIR.into(),
        };
        // The preparation, which makes it, may have refused everything.
        if let Err(error) = fs::create_dir_all(&run_dir) {
            launch.voice.say(Level::Warn, &format!("cannot make {}: {error}", run_dir.display()));
        }
        Self {
            services: Vec::new(),
            listen: Vec::new(),
            reload: None,
            sockets: Bound::default(),
            upkeep: Vec::new(),
            prepare_ms: 0.0,
            run_dir,
            problem,
            untidy: None,
        }
    }
}

/// The user's command.
pub struct Beside {
    /// How it is started.
    pub service: ServiceSpec,
    /// Whether it is started only when the daemon is ready.
    pub waits: bool,
    /// Whether it goes on when a daemon is given up.
    pub outlives_daemon: bool,
}

/// Makes the user's command, given the environment that the preparation left.
pub type BuildCommand<'a> = dyn Fn(&Environment) -> Result<Beside, Failure> + 'a;

/// A command to come, and what it needs.
#[derive(Clone, Copy)]
pub struct Companion<'a> {
    /// Makes it.
    pub build: &'a BuildCommand<'a>,
    /// Whether it runs all the same where a daemon cannot even be prepared.
    pub needs_no_daemon: bool,
}

/// Why a command runs without a daemon of ours.
#[derive(Debug)]
pub enum Alone {
    /// It uses the daemon at this address.
    Client(String),
    /// There is none, for this reason, and this is what to do about it.
    Without(String, Option<String>),
}

/// Runs the command alone until the container ends, and gives its exit code.
pub fn run_alone(
    launch: &Launch<'_>,
    command: &BuildCommand<'_>,
    alone: Alone,
    signals: SignalPipe,
) -> Result<u8, Failure> {
    let place = Place::of(launch);
    forget_predecessor(launch, place);
    let problem = match alone {
        Alone::Client(host) => {
            launch.voice.say(Level::Info, &format!("no daemon here: the command uses the one at {host}"));
            None
        }
        Alone::Without(message, hint) => Some(Notice { message, hint }),
    };
    supervise_parts(launch, Parts::none(launch, place, problem), Some(command), signals)
}

/// Before anything takes time: the kernel drops a signal that PID 1 has no handler for.
pub fn catch_signals() -> Result<SignalPipe, Failure> {
    signals::catch_supervised()
        .map_err(|error| Failure::new(error.to_string(), "this is a bug in dindctl; please report it"))
}

/// Runs a daemon until the container ends, and gives its exit code.
pub fn run(launch: Launch<'_>, daemon: Daemon) -> u8 {
    let voice = launch.voice;
    match catch_signals().and_then(|signals| supervise(launch, daemon, None, signals)) {
        Ok(code) => code,
        Err(failure) => failure.report(voice),
    }
}

/// Runs daemon and command until the container ends, and gives its exit code.
pub fn supervise(
    mut launch: Launch<'_>,
    daemon: Daemon,
    command: Option<Companion<'_>>,
    signals: SignalPipe,
) -> Result<u8, Failure> {
    // Beside threads, which the preparation has, the table would take 10 ms to grow when the sockets are bound. Nothing else needs it.
    if let Err(errno) = descriptors::make_room(std::io::stderr()) {
        launch.voice.say(Level::Debug, &format!("no room for {} descriptors: {errno}", descriptors::ROOM));
    }
    let place = Place::of(&launch);
    forget_predecessor(&launch, place);
    let parts = match place {
        Place::User => rootless::outside(&mut launch, daemon),
        Place::Root | Place::Namespace => with_root(&mut launch, daemon, place),
    };
    let parts = match parts {
        Err(failure) if command.is_some_and(|command| command.needs_no_daemon) => {
            failure.report(launch.voice);
            let notice = Notice { message: failure.message, hint: failure.hint };
            Parts::none(&launch, place, Some(notice))
        }
        parts => parts?,
    };
    supervise_parts(&launch, parts, command.map(|command| command.build), signals)
}

fn supervise_parts(
    launch: &Launch<'_>,
    parts: Parts,
    command: Option<&BuildCommand<'_>>,
    signals: SignalPipe,
) -> Result<u8, Failure> {
    let mut services = parts.services;
    let (mut mode, mut outlives_daemon, has_daemon) = (RunMode::Daemon, true, !services.is_empty());
    if let Some(command) = command {
        let mut environment = launch.environment.clone();
        point_to_socket(&mut environment, &parts.listen);
        let beside = command(&environment)?;
        outlives_daemon = beside.outlives_daemon;
        let waits = beside.waits && has_daemon;
        services.push(if waits { beside.service.after(services::DOCKERD, Milestone::Ready) } else { beside.service });
        mode = RunMode::Command(COMMAND.into());
    }
    let mut supervisor = SupervisorConfig::new(mode, services);
    supervisor.command_outlives_daemon = outlives_daemon;
    supervisor.daemon = has_daemon.then(|| services::DOCKERD.into());
    supervisor.problem = parts.problem;
    supervisor.banner_path = Some(parts.run_dir.join("banner"));
    supervisor.started = launch.started;
    supervisor.upkeep = parts.upkeep;
    supervisor.prepare_ms = parts.prepare_ms;
    supervisor.listen = parts.listen;
    supervisor.state_path = Some(parts.run_dir.join("state.json"));
    supervisor.control_path = Some(parts.run_dir.join("control.sock"));
    supervisor.runtime_dir = parts.run_dir;
    supervisor.upstream = launch.environment.get("NOTIFY_SOCKET").map(OsStr::to_owned);
    supervisor.reload_hook = parts.reload;
    supervisor.diagnose = Some(Box::new(services::diagnose));
    if let Some(timeout) = launch.config.duration("daemon.stop_timeout") {
        supervisor.stop_timeout = timeout;
    }
    supervisor.stop_delay = launch.config.duration("daemon.stop_delay").unwrap_or_default();
    if launch.config.get("daemon.stop_code") == "signal" {
        supervisor.stop_code = StopCode::Signal;
    }
    let whole = supervisor.stop_timeout.saturating_add(supervisor.stop_delay);
    if let Some(warning) = services::outer_limit_warning(launch, whole) {
        launch.voice.say(Level::Warn, &warning);
    }
    let (sockets, untidy) = (parts.sockets, parts.untidy);
    supervisor.epilogue = Some(Box::new(move || {
        drop(sockets);
        leave_tidy(untidy)
    }));
    let report = Supervisor::new(supervisor, signals, launch.voice.0)
        .map_err(|error| Failure::new(error.to_string(), "this is a bug in dindctl; please report it"))?
        .run();
    Ok(report.code)
}

/// Takes away what killed daemons left mounted, and gives what stays. Where others run beside us, they may use it.
fn leave_tidy(untidy: Option<(tidy::Before, Vec<PathBuf>)>) -> Vec<String> {
    let alone = untidy.filter(|_| nix::unistd::getpid().as_raw() == 1);
    alone.map_or_else(Vec::new, |(before, folders)| tidy::tidy(&Roots::system(), &before, &folders))
}

/// Until this supervisor tells its own state, there is none.
fn forget_predecessor(launch: &Launch<'_>, place: Place) {
    // The process outside of a namespace has done it for the one inside, and would not be known there.
    if place == Place::Namespace {
        return;
    }
    let path = places::state_path(&launch.environment);
    let own = nix::unistd::getpid().as_raw();
    if let Err(error) = SupervisorState::forget_predecessor(&path, own) {
        launch.voice.say(Level::Warn, &format!("cannot remove {}: {error}", path.display()));
    }
}

/// Tells the command where the daemon is when it is not where clients look by themselves.
fn point_to_socket(environment: &mut Environment, listen: &[String]) {
    let first = listen.iter().find(|address| address.starts_with("unix://"));
    if let (None, Some(address)) = (environment.text("DOCKER_HOST"), first)
        && !fs::exists("/var/run/docker.sock").unwrap_or(false)
    {
        environment.set("DOCKER_HOST", address.as_str());
    }
}
