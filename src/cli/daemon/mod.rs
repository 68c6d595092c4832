/*!
Preparing, binding and supervising: what `entrypoint` and `up` have in common.

PID 1 does all of it in one thread: it looks, applies the plan, binds the sockets, and only then starts containerd and
dockerd, which find everything in its place.
*/
mod addresses;
mod files;
mod missed;
mod oom;
mod renewal;
mod rootless;
mod services;
mod settings;
mod trust;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use self::addresses::Tcp;
use self::rootless::Place;
use super::config::Config;
use super::failure::Failure;
use super::places::RUN_DIR;
use super::say::{Level, Voice};
use super::{Environment, certificates, places, preparation};
use crate::engine::arguments::DaemonArguments;
use crate::engine::daemon_json::{DaemonJson, Decided, is_swarm_member};
use crate::engine::settings::{Setting, contradiction};
use crate::engine::tls::ServerCertificates;
use crate::engine::{containerd, dockerd, tls};
use crate::init::signals;
use crate::init::spec::{Milestone, Notice, RunMode, ServiceSpec, StopCode, SupervisorConfig, Upkeep};
use crate::init::state::SupervisorState;
use crate::init::supervisor::Supervisor;
use crate::prepare::firewall;
use crate::prepare::sockets::Bound;
use crate::prepare::tidy;
use crate::prepare::tls::TlsWishes;
use crate::prepare::{Applied, Plan, Told, Wants};
use crate::probe::Roots;
use crate::sys::beside;
use crate::sys::signal::SignalPipe;

/// Name of the user's command among the services.
pub const COMMAND: &str = "command";

/// What is the same for every command that supervises.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The environment; what is started gets it with `container` added.
    pub environment: Environment,
    /// The settings.
    pub config: &'a Config,
    /// How to speak.
    pub voice: Voice,
    /// When the process started.
    pub started: Instant,
}

/// Which daemon runs.
#[derive(Debug)]
pub enum Daemon {
    /// dockerd with our defaults and these arguments, on sockets that we bind.
    Ours(Vec<OsString>),
    /// Exactly this command line; dockerd binds its own sockets.
    Explicit(Vec<OsString>),
}

/// The user's command.
pub struct Beside {
    /// How it is started.
    pub service: ServiceSpec,
    /// Whether it is started only when the daemon is ready.
    pub waits: bool,
    /// Whether it runs all the same where a daemon cannot even be prepared.
    pub needs_no_daemon: bool,
    /// Whether it goes on when a daemon is given up.
    pub outlives_daemon: bool,
}

/// Makes the user's command, given the environment that the preparation left.
pub type BuildCommand<'a> = dyn Fn(&Environment) -> Result<Beside, Failure> + 'a;

/// Why a command runs without a daemon of ours.
#[derive(Debug)]
pub enum Alone {
    /// It uses the daemon at this address.
    Client(String),
    /// There is none, for this reason, and this is what to do about it.
    Without(String, Option<String>),
}

/// Runs the command alone until the container ends, and gives its exit code.
pub fn run_alone(launch: &Launch<'_>, command: &BuildCommand<'_>, alone: Alone) -> Result<u8, Failure> {
    let signals = catch_signals()?;
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
fn catch_signals() -> Result<SignalPipe, Failure> {
    signals::catch_supervised()
        .map_err(|error| Failure::new(error.to_string(), "this is a bug in dindctl; please report it"))
}

/// Runs daemon and command until the container ends, and gives its exit code.
pub fn run(launch: Launch<'_>, daemon: Daemon, command: Option<&BuildCommand<'_>>) -> u8 {
    let voice = launch.voice;
    match supervise(launch, daemon, command) {
        Ok(code) => code,
        Err(failure) => failure.report(voice),
    }
}

/// What the daemon's side of the container consists of.
struct Parts {
    services: Vec<ServiceSpec>,
    listen: Vec<String>,
    reload: Option<Box<dyn FnMut() -> Result<(), String>>>,
    /// Kept open for as long as dockerd may have to be started again.
    sockets: Bound,
    /// What comes up while it runs.
    upkeep: Vec<Upkeep>,
    /// What the preparation took, milliseconds.
    prepare_ms: f64,
    /// Folder for the supervisor's state.
    run_dir: PathBuf,
    /// Why there is no daemon although one was wanted.
    problem: Option<Notice>,
    /// What was mounted before the daemons started, and the folders that they mount below.
    untidy: Option<(tidy::Before, Vec<PathBuf>)>,
}

fn supervise(mut launch: Launch<'_>, daemon: Daemon, command: Option<&BuildCommand<'_>>) -> Result<u8, Failure> {
    let signals = catch_signals()?;
    let place = Place::of(&launch);
    forget_predecessor(&launch, place);
    let parts = match place {
        Place::User => rootless::outside(&mut launch, daemon),
        Place::Root | Place::Namespace => with_root(&mut launch, daemon, place),
    };
    let parts = match (parts, command) {
        (Err(failure), Some(command)) if command(&launch.environment)?.needs_no_daemon => {
            failure.report(launch.voice);
            let notice = Notice { message: failure.message, hint: failure.hint };
            Parts::none(&launch, place, Some(notice))
        }
        (parts, _) => parts?,
    };
    supervise_parts(&launch, parts, command, signals)
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
    let report = Supervisor::new(supervisor, signals, launch.voice.0)
        .map_err(|error| Failure::new(error.to_string(), "this is a bug in dindctl; please report it"))?
        .run();
    drop(parts.sockets);
    leave_tidy(parts.untidy, launch.voice);
    Ok(report.code)
}

/// Takes away what killed daemons left mounted. Where others run beside us, they may use it.
fn leave_tidy(untidy: Option<(tidy::Before, Vec<PathBuf>)>, voice: Voice) {
    if let Some((before, folders)) = untidy.filter(|_| nix::unistd::getpid().as_raw() == 1) {
        for problem in tidy::tidy(&Roots::system(), &before, &folders) {
            voice.say(Level::Warn, &problem);
        }
    }
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

/// What is known of a daemon before anything is done.
struct Known {
    arguments: DaemonArguments,
    file: DaemonJson,
    settings: Vec<Setting>,
    wants: Wants,
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

/// Reads arguments, file and settings of a daemon where we are root, of the container or of a namespace of its own.
fn know(launch: &Launch<'_>, daemon: &Daemon, place: Place) -> Result<Known, Failure> {
    let arguments = match daemon {
        Daemon::Ours(arguments) => DaemonArguments::parse(arguments.iter().cloned()),
        Daemon::Explicit(line) => DaemonArguments::parse(line.iter().skip(1).cloned()),
    };
    let file = DaemonJson::read(Path::new("/"), &arguments)?;
    let settings = settings::of(launch.config);
    contradiction(&file, &arguments, &settings)?;
    let told = arguments.data_root.is_some() || file.sets("data-root");
    let rootless = place == Place::Namespace;
    let usual = if rootless && !told { places::user_data_root(&launch.environment) } else { None };
    let data_root = usual.unwrap_or_else(|| dockerd::data_root(&arguments, &file));
    // In a namespace only the user's own folders can be written.
    let containerd_root = if rootless { data_root.join(containerd::MANAGED) } else { containerd::root(&data_root) };
    let wants = preparation::wants(launch.config, true, data_root, containerd_root)?;
    let all = file.told(&arguments).chain(settings.iter().map(|set| (set.key.to_owned(), set.value.clone())));
    let mut wants = Wants { told: Told::new(all), rootless, ..wants };
    if rootless {
        // dockerd's pid file outlives the namespace, and its number means somebody else in the next one.
        wants.pid_dirs.push(places::runtime_dir(&launch.environment));
    }
    // In a namespace of its own it would not see the addresses that clients use; the process outside has seen to it.
    if let (Daemon::Ours(_), Place::Root) = (daemon, place) {
        wants.tls = tls_wishes(launch, &arguments, &file)?;
    }
    wants.firewall = Some(preparation::firewall_wishes(&launch.environment));
    wants.layers = Some(preparation::layer_wishes(&launch.environment));
    wants.network = Some(preparation::network_wishes(launch.config, &launch.environment));
    Ok(Known { arguments, file, settings, wants })
}

/// The plan that would be carried out for this daemon.
pub fn foresee(launch: &Launch<'_>, daemon: Daemon) -> Result<Plan, Failure> {
    let place = Place::of(launch);
    if place == Place::User {
        return Ok(rootless::foresee(launch, daemon)?.plan);
    }
    let wants = know(launch, &daemon, place)?.wants;
    // In a running container the daemons are ours, and no others.
    let state = SupervisorState::read(&places::state_path(&launch.environment)).ok();
    let supervised = state.into_iter().flat_map(|state| state.services).filter_map(|service| service.pid).collect();
    preparation::decide(&Wants { supervised, ..wants }, &launch.environment)
}

/// The daemon's side where we are root.
fn with_root(launch: &mut Launch<'_>, daemon: Daemon, place: Place) -> Result<Parts, Failure> {
    let Known { arguments, file, settings, wants } = know(launch, &daemon, place)?;
    let trusted = trust::bundle(launch)?;
    let before = Instant::now();
    let applied = preparation::apply(&wants, &mut launch.environment, launch.voice)?;
    let prepare_ms = before.elapsed().as_secs_f64() * 1e3;
    beside::begin();
    if let Some(trusted) = trusted {
        trust::install(launch, &trusted)?;
    }
    if firewall::makes_rules(&wants.told) {
        services::tell_iptables(launch);
    }
    let parts = match daemon {
        Daemon::Ours(_) => {
            let Wants { data_root, containerd_root, tls, .. } = wants;
            ours(launch, &Ours { arguments, file, settings, data_root, containerd_root, tls, applied })?
        }
        Daemon::Explicit(line) => explicit(launch, line, &applied)?,
    };
    Ok(Parts { prepare_ms, ..parts })
}

/// What is known when a daemon of ours is put together.
struct Ours {
    arguments: DaemonArguments,
    file: DaemonJson,
    settings: Vec<Setting>,
    data_root: PathBuf,
    containerd_root: PathBuf,
    tls: Option<TlsWishes>,
    applied: Applied,
}

/// dockerd with our defaults: sockets, merged configuration and containerd are ours.
fn ours(launch: &Launch<'_>, known: &Ours) -> Result<Parts, Failure> {
    let Ours { arguments, file, settings, data_root, containerd_root, tls, applied } = known;
    let live_restore = match launch.config.get("daemon.live_restore") {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    let mut options = applied.daemon_options.clone();
    options.extend(settings.iter().map(|setting| (setting.key.to_owned(), setting.value.clone())));
    let decided = Decided { live_restore, swarm: is_swarm_member(data_root), options };
    let merged = file.merge(arguments, &decided)?;
    let (certificates, tcp) = api_security(launch, arguments, file)?;
    let addresses = addresses::addresses(addresses::Wishes {
        setting: launch.config.get("daemon.listen"),
        docker_host: launch.environment.text("DOCKER_HOST"),
        tcp,
        flags: &arguments.hosts,
        file: &merged.hosts,
    });
    let group = arguments.group.clone().or_else(|| file.text("group").map(str::to_owned));
    let bound = services::bind(launch, &addresses, group.as_deref(), tcp == Tcp::Tls)?;
    let listen: Vec<String> = bound.listeners.iter().map(|listener| listener.address.to_string()).collect();

    let merged_path = PathBuf::from(RUN_DIR).join("daemon.json");
    files::replace(&merged_path, &merged.text())?;
    let mut started = Vec::new();
    let external = arguments.containerd.clone().or_else(|| file.text("containerd").map(str::to_owned));
    let socket = Path::new(containerd::SOCKET);
    let containerd_flag = if external.is_some() {
        None
    } else {
        if containerd::answers(socket) {
            launch.voice.say(Level::Info, &format!("using the containerd that answers at {}", socket.display()));
        } else {
            started.push(services::containerd(launch, containerd_root, socket)?);
        }
        Some(socket)
    };
    let line = dockerd::command_line(arguments, file, &merged_path, containerd_flag, certificates.as_ref());
    let ours = !started.is_empty();
    started.push(services::dockerd(launch, line, &bound, ours, &merged, &merged_path)?);
    let reload = files::reload_hook(arguments.clone(), decided, data_root.clone(), merged_path);
    let kept = (!merged.live_restore).then_some("live-restore is off, and a restart would end nested containers");
    let mut upkeep: Vec<Upkeep> = tls.clone().map(|wishes| renewal::upkeep(launch, wishes, kept)).into_iter().collect();
    if ours {
        upkeep.extend(missed::upkeep(launch, &listen, kept.is_none()));
    }
    Ok(Parts {
        services: started,
        listen,
        reload: Some(reload),
        sockets: bound,
        upkeep,
        prepare_ms: 0.0,
        run_dir: RUN_DIR.into(),
        problem: None,
        untidy: Some((tidy::before(&Roots::system())?, daemons_folders(arguments, file, data_root))),
    })
}

/// Where the daemons mount things: dockerd's data and state, and containerd's.
fn daemons_folders(arguments: &DaemonArguments, file: &DaemonJson, data_root: &Path) -> Vec<PathBuf> {
    let told = file.told(arguments).find(|(key, _)| key == "exec-root");
    let state =
        told.and_then(|(_, value)| value.as_str().map(PathBuf::from)).unwrap_or_else(|| "/var/run/docker".into());
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    [data_root, &state, Path::new(containerd::STATE)].map(real).into()
}

/// What protects the API's TCP ports, and the certificates that dockerd is not told of by the user.
fn api_security(
    launch: &Launch<'_>,
    arguments: &DaemonArguments,
    file: &DaemonJson,
) -> Result<(Option<ServerCertificates>, Tcp), Failure> {
    if has_own_certificates(arguments, file) {
        return Ok((None, Tcp::Tls));
    }
    if !has_ports(launch, arguments, file) {
        return Ok((None, Tcp::Plain));
    }
    let found = tls::find(launch.environment.get("DOCKER_TLS_CERTDIR").map(Path::new))?;
    let tcp = if found.is_some() { Tcp::Tls } else { Tcp::Plain };
    Ok((found, tcp))
}

/// What is wanted of certificates: nothing where no TCP port will use them, or the user names his own.
fn tls_wishes(
    launch: &Launch<'_>,
    arguments: &DaemonArguments,
    file: &DaemonJson,
) -> Result<Option<TlsWishes>, Failure> {
    let wishes = certificates::wishes(&launch.environment, launch.config)?;
    Ok(wishes.filter(|_| has_ports(launch, arguments, file) && !has_own_certificates(arguments, file)))
}

/// Whether the API is to have any port besides unix sockets.
fn has_ports(launch: &Launch<'_>, arguments: &DaemonArguments, file: &DaemonJson) -> bool {
    let tcp = |address: &str| !address.trim().is_empty() && !address.trim().starts_with(['/', 'u']);
    let setting = launch.config.get("daemon.listen");
    setting.trim().is_empty()
        || setting.split(',').any(tcp)
        || arguments.hosts.iter().any(|host| tcp(host))
        || file.sets("hosts")
}

fn has_own_certificates(arguments: &DaemonArguments, file: &DaemonJson) -> bool {
    ["tlscert", "tlskey"].iter().all(|name| arguments.flags.contains(*name) || file.sets(name))
}

/// An explicit `dockerd …`: no argument is added, and sockets are dockerd's own.
fn explicit(launch: &Launch<'_>, line: Vec<OsString>, applied: &Applied) -> Result<Parts, Failure> {
    for (key, value) in &applied.daemon_options {
        let message =
            format!("an explicit dockerd command gets nothing added, not even {key}={value}, which it needs here");
        launch.voice.say(Level::Warn, &message);
    }
    let arguments = DaemonArguments::parse(line.iter().skip(1).cloned());
    let listen = if arguments.hosts.is_empty() { vec![addresses::DEFAULT_SOCKET.to_owned()] } else { arguments.hosts };
    let service = services::explicit_dockerd(launch, line)?;
    Ok(Parts {
        services: vec![service],
        listen,
        reload: None,
        sockets: Bound::default(),
        upkeep: Vec::new(),
        prepare_ms: 0.0,
        run_dir: RUN_DIR.into(),
        problem: None,
        untidy: None,
    })
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
