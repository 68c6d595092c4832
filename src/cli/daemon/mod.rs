/*!
Preparing, binding and supervising: what `entrypoint` and `up` have in common.

PID 1 does all of it in one thread: it looks, applies the plan, binds the sockets, and only then starts containerd and
dockerd, which find everything in its place.
*/
mod addresses;
mod files;
mod leavings;
mod missed;
mod oom;
mod preload;
mod renewal;
mod rootless;
mod services;
mod settings;
mod supervise;
mod trust;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use self::addresses::Tcp;
pub use self::oom::{RUNC, run_step};
use self::rootless::Place;
use self::supervise::Parts;
pub use self::supervise::{Alone, Beside, Companion, catch_signals, run, run_alone, supervise};
use serde_json::Value;

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
use crate::init::spec::Upkeep;
use crate::init::state::SupervisorState;
use crate::prepare::firewall;
use crate::prepare::sockets::Bound;
use crate::prepare::tidy;
use crate::prepare::tls::TlsWishes;
use crate::prepare::{Applied, Plan, Told, Wants};
use crate::probe::Roots;
use crate::sys::beside;

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

/// What is known of a daemon before anything is done.
struct Known {
    arguments: DaemonArguments,
    file: DaemonJson,
    settings: Vec<Setting>,
    wants: Wants,
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
    // An explicit command is given none of them.
    let given = if matches!(daemon, Daemon::Ours(_)) { settings.as_slice() } else { &[] };
    let all = file.told(&arguments).chain(given.iter().map(|set| (set.key.to_owned(), set.value.clone())));
    let own_containerd = arguments.containerd.is_none() && !file.sets("containerd");
    let mut wants = Wants { told: Told::new(all), rootless, own_containerd, ..wants };
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
    let Known { arguments, file, settings, mut wants } = know(launch, &daemon, place)?;
    // One that somebody started before us is used.
    wants.own_containerd &= !containerd::answers(Path::new(containerd::SOCKET));
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
        Daemon::Explicit(line) => {
            let missing =
                |setting: &&Setting| !wants.told.sets(setting.key) && !applied.daemon_options.contains_key(setting.key);
            for Setting { key, value, place } in settings.iter().filter(missing) {
                let message = format!(
                    "an explicit dockerd command gets nothing added, not even {key}={value}, which {place} asks for"
                );
                launch.voice.say(Level::Warn, &message);
            }
            explicit(launch, line, &file, &applied)?
        }
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
    let inside = Place::of(launch) == Place::Namespace && launch.environment.get(rootless::OUTSIDE).is_some();
    let addresses = addresses::addresses(addresses::Wishes {
        setting: launch.config.get("daemon.listen"),
        docker_host: launch.environment.text("DOCKER_HOST"),
        tls_port: has_tls_port(launch),
        flags: &arguments.hosts,
        // The process outside has told us theirs as they are in here.
        file: if inside { &[] } else { &merged.hosts },
    });
    let group = arguments.group.clone().or_else(|| file.text("group").map(str::to_owned));
    let bound = services::bind(launch, &addresses, group.as_deref(), tcp)?;
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
            let extras = containerd_extras(launch, arguments, file, settings);
            started.push(services::containerd(launch, containerd_root, socket, &extras)?);
        }
        Some(socket)
    };
    let line = dockerd::command_line(arguments, file, &merged_path, containerd_flag, certificates.as_ref());
    let ours = !started.is_empty();
    started.push(services::dockerd(launch, line, &bound, ours, &merged, &merged_path)?);
    let reload = files::reload_hook(arguments.clone(), decided, data_root.clone(), merged_path);
    let kept = (!merged.live_restore).then_some("live-restore is off, and a restart would end nested containers");
    let mut upkeep: Vec<Upkeep> = tls.clone().map(|wishes| renewal::upkeep(launch, wishes, kept)).into_iter().collect();
    upkeep.extend(preload::upkeep(launch, &listen));
    upkeep.extend(leavings::upkeep(launch, &listen));
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

/// What of containerd's somebody asked dockerd for.
fn containerd_extras(
    launch: &Launch<'_>,
    arguments: &DaemonArguments,
    file: &DaemonJson,
    settings: &[Setting],
) -> containerd::Extras {
    let told: BTreeMap<String, Value> = file.told(arguments).collect();
    let set = settings.iter().find(|set| set.key == "storage-driver").map(|set| &set.value);
    let driver = set.or(told.get("storage-driver")).and_then(Value::as_str);
    // dockerd lets the variable win.
    let driver = launch.environment.text("DOCKER_DRIVER").filter(|name| !name.is_empty()).or(driver);
    let cri = told.get("cri-containerd").is_some_and(|value| !matches!(value, Value::Bool(false)));
    containerd::Extras { snapshotter: driver.map(str::to_owned), cri }
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
    let told = tls::Told::new(arguments, file);
    let found = if told.is_whole() || !has_ports(launch, arguments, file) {
        None
    } else {
        tls::find(launch.environment.get("DOCKER_TLS_CERTDIR").map(Path::new))?
    };
    // Where certificates were found dockerd is told to use them.
    let tcp = match (told.on || found.is_some(), told.verifies) {
        (false, _) => Tcp::Plain,
        (true, false) => Tcp::Unverified,
        (true, true) => Tcp::Tls,
    };
    Ok((found, tcp))
}

/// What is wanted of certificates: nothing where no TCP port will use them, or the user names his own.
fn tls_wishes(
    launch: &Launch<'_>,
    arguments: &DaemonArguments,
    file: &DaemonJson,
) -> Result<Option<TlsWishes>, Failure> {
    let wishes = certificates::wishes(&launch.environment, launch.config)?;
    Ok(wishes.filter(|_| has_ports(launch, arguments, file) && !tls::Told::new(arguments, file).is_whole()))
}

fn has_tls_port(launch: &Launch<'_>) -> bool {
    launch.environment.get("DOCKER_TLS_CERTDIR").is_some_and(|folder| !folder.is_empty())
}

/// Whether the API is to have any port besides unix sockets.
fn has_ports(launch: &Launch<'_>, arguments: &DaemonArguments, file: &DaemonJson) -> bool {
    file.sets("hosts")
        || addresses::have_ports(addresses::Wishes {
            setting: launch.config.get("daemon.listen"),
            docker_host: None,
            tls_port: false,
            flags: &arguments.hosts,
            file: &[],
        })
}

/// An explicit `dockerd …`: no argument is added, and sockets are dockerd's own.
fn explicit(launch: &Launch<'_>, line: Vec<OsString>, file: &DaemonJson, applied: &Applied) -> Result<Parts, Failure> {
    for (key, value) in &applied.daemon_options {
        let message =
            format!("an explicit dockerd command gets nothing added, not even {key}={value}, which it needs here");
        launch.voice.say(Level::Warn, &message);
    }
    let arguments = DaemonArguments::parse(line.iter().skip(1).cloned());
    let hosts = arguments.hosts.into_iter().chain(file.hosts()?);
    let mut listen: Vec<String> = hosts.map(|host| addresses::as_dockerd_reads(&host)).collect();
    if listen.is_empty() {
        listen.push(addresses::DEFAULT_SOCKET.to_owned());
    }
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
