/*!
A container that runs as an ordinary user: the daemon's side is started once more, by `rootlesskit`, as root of a user
namespace of its own. Out here remain the checks, the certificates (the container's addresses are not to be seen in
there), the ports, the user's command, and the duty of PID 1.
*/
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use super::super::failure::Failure;
use super::super::places;
use super::super::preparation;
use super::super::say::Level;
use super::services::DOCKERD;
use super::{Daemon, Launch, Parts, addresses, api_security, has_tls_port, renewal, tls_wishes};
use crate::engine::arguments::DaemonArguments;
use crate::engine::daemon_json::DaemonJson;
use crate::engine::rootlesskit::{self, RootlessKit, command_line};
use crate::engine::socket;
use crate::init::policy::{Restart, RestartPolicy};
use crate::init::spec::{ServiceSpec, SupervisorConfig};
use crate::prepare::Plan;
use crate::prepare::rootless::{self, RootlessWishes};
use crate::prepare::sockets::{self, Bound, ListenAddress};
use crate::prepare::tls::TlsWishes;
use crate::prepare::tls::{self, TlsFacts};
use crate::probe::rootless::{Owner, Rootless, look};
use crate::probe::{Roots, certificates, names};
use crate::sys::spawn::{Spawn, look_up};

/// Time that the supervisor in the namespace has less than we have, so that it is not killed in its last steps.
const MARGIN: Duration = Duration::from_secs(2);

/// Set for the process inside by the one outside, which has told it all addresses.
pub const OUTSIDE: &str = "_DINDCTL_OUTSIDE";

/// Where this process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Root of the container.
    Root,
    /// An ordinary user of it.
    User,
    /// Root of the user namespace that `rootlesskit` made.
    Namespace,
}

impl Place {
    /// Tells by the user id and by the variable that `rootlesskit` sets for its child; dockerd does the same
    /// (`RunningWithRootlessKit` in moby's pkg/rootless).
    pub fn of(launch: &Launch<'_>) -> Self {
        match (geteuid().is_root(), launch.environment.text("ROOTLESSKIT_STATE_DIR")) {
            (true, Some(_)) => Self::Namespace,
            (true, None) => Self::Root,
            (false, _) => Self::User,
        }
    }
}

/// What the user and the environment ask of a rootless daemon.
pub struct Wishes {
    pub owner: Owner,
    pub rootless: RootlessWishes,
    pub file: DaemonJson,
}

/// Whose daemon it would be, and with which network.
pub fn wishes(launch: &Launch<'_>, arguments: &mut DaemonArguments) -> Result<Wishes, Failure> {
    let environment = &launch.environment;
    let usual = places::user_data_root(environment).ok_or_else(|| {
        Failure::new("HOME is not set, so there is no place for the daemon's data", "set HOME, or pass --data-root")
    })?;
    // dockerd's own place for an ordinary user; the container's file counts where that is not there.
    let own_file = environment
        .text("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| environment.text("HOME").map(|home| Path::new(home).join(".config")))
        .map(|folder| folder.join("docker/daemon.json"));
    if arguments.config_file.is_none() {
        arguments.config_file = own_file.filter(|file| file.exists());
    }
    let file = DaemonJson::read(Path::new("/"), arguments)?;
    let told = arguments.data_root.clone().or_else(|| file.text("data-root").map(PathBuf::from));
    let owner = Owner {
        uid: geteuid().as_raw(),
        runtime_dir: places::runtime_dir(environment),
        data_root: told.unwrap_or(usual),
    };
    let driver = environment.text("DOCKERD_ROOTLESS_ROOTLESSKIT_NET").map(str::to_owned);
    Ok(Wishes { owner, rootless: RootlessWishes { driver }, file })
}

/// Reads what a rootless daemon needs here.
pub fn facts(launch: &Launch<'_>, owner: &Owner) -> Result<Rootless, Failure> {
    Ok(look(&Roots::system(), owner, launch.environment.get("PATH"))?)
}

/// What is known of a rootless daemon before anything is done.
pub struct Foreseen {
    arguments: DaemonArguments,
    explicit: Option<Vec<OsString>>,
    wishes: Wishes,
    facts: Rootless,
    tls: Option<TlsWishes>,
    /// What the part outside of the namespace would do.
    pub plan: Plan,
}

/// Reads arguments and surroundings, and plans.
pub fn foresee(launch: &Launch<'_>, daemon: Daemon) -> Result<Foreseen, Failure> {
    let (mut arguments, explicit) = match daemon {
        Daemon::Ours(arguments) => (DaemonArguments::parse(arguments), None),
        Daemon::Explicit(line) => (DaemonArguments::parse(line.iter().skip(1).cloned()), Some(line)),
    };
    let wishes = wishes(launch, &mut arguments)?;
    let facts = facts(launch, &wishes.owner)?;
    let mut plan = rootless::plan(&facts, &wishes.rootless);
    let tls = if explicit.is_some() { None } else { tls_wishes(launch, &arguments, &wishes.file)? };
    if let Some(wanted) = &tls {
        let folder = certificates::look(&wanted.directory);
        plan.steps.push(tls::step::step(&TlsFacts { folder, names: names::own(&Roots::system()) }, wanted));
    }
    Ok(Foreseen { arguments, explicit, wishes, facts, tls, plan })
}

/// The daemon's side as one service: `rootlesskit` with this very program below it.
pub fn outside(launch: &mut Launch<'_>, daemon: Daemon) -> Result<Parts, Failure> {
    let begun = Instant::now();
    let Foreseen { arguments, explicit, wishes, facts, tls: wanted, plan } = foresee(launch, daemon)?;
    preparation::carry_out(&plan, &mut launch.environment, launch.voice)?;
    launch.environment.set("XDG_RUNTIME_DIR", wishes.owner.runtime_dir.as_os_str());

    let listen = if explicit.is_some() { Vec::new() } else { api(launch, &arguments, &wishes)? };
    let ports: Vec<SocketAddr> = listen.iter().filter_map(tcp).collect();
    let program = program(launch)?;
    let command = [program.into(), "entrypoint".into()].into_iter().chain(match explicit {
        Some(line) => line,
        None => inner_arguments(&arguments, &wishes),
    });
    let kit = kit(launch, &facts, &wishes, ports)?;
    for port in rootlesskit::opened_wider(&kit.driver, &kit.ports) {
        let message = format!("{} opens {port} on every address of this container", kit.driver);
        launch.voice.say(Level::Warn, &message);
    }
    let mut service = service(launch, command_line(&kit, command))?;
    service.spawn.env = inner_environment(launch, &listen, &kit.driver, &wishes.owner.runtime_dir);
    let told: Vec<String> = listen.iter().map(ToString::to_string).collect();
    let usual = format!("unix://{}", socket::of_user(&wishes.owner.runtime_dir).display());
    Ok(Parts {
        services: vec![service],
        listen: if told.is_empty() { vec![usual] } else { told },
        reload: None,
        sockets: Bound::default(),
        upkeep: wanted
            .map(|wanted| renewal::upkeep(launch, wanted, Some("it has to be started anew by hand in rootless mode")))
            .into_iter()
            .collect(),
        prepare_ms: begun.elapsed().as_secs_f64() * 1e3,
        run_dir: places::user_run_dir(&launch.environment),
        problem: None,
        untidy: None,
    })
}

/// The addresses of the API as clients of the container see them.
fn api(launch: &Launch<'_>, arguments: &DaemonArguments, wishes: &Wishes) -> Result<Vec<ListenAddress>, Failure> {
    let (_, tcp) = api_security(launch, arguments, &wishes.file)?;
    let hosts = wishes.file.hosts()?;
    let own_socket = format!("unix://{}", socket::of_user(&wishes.owner.runtime_dir).display());
    let asked = launch.environment.text("DOCKER_HOST").filter(|host| host.starts_with("unix://"));
    let addresses = addresses::addresses(addresses::Wishes {
        setting: launch.config.get("daemon.listen"),
        docker_host: Some(asked.unwrap_or(&own_socket)),
        tls_port: has_tls_port(launch),
        flags: &arguments.hosts,
        file: &hosts,
    });
    let addresses = sockets::parse(&addresses.join(","))?;
    if let Some(warning) = sockets::insecure_warning(&addresses, tcp.openness()) {
        launch.voice.say(Level::Warn, &warning);
    }
    Ok(addresses)
}

fn tcp(address: &ListenAddress) -> Option<SocketAddr> {
    match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    }
}

fn program(launch: &Launch<'_>) -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        launch.voice.say(Level::Debug, "rootlesskit is given the path of this program");
        Failure::new(format!("cannot find the own program: {error}"), "mount procfs on /proc")
    })
}

/// The user's arguments without those that are acted upon out here.
fn inner_arguments(arguments: &DaemonArguments, wishes: &Wishes) -> Vec<OsString> {
    let mut inner: Vec<OsString> = Vec::new();
    if arguments.data_root.is_none() && !wishes.file.sets("data-root") {
        inner.extend(["--data-root".into(), wishes.owner.data_root.clone().into()]);
    }
    if let Some(file) = &arguments.config_file {
        inner.extend(["--config-file".into(), file.into()]);
    }
    inner.extend(arguments.rest.iter().cloned());
    inner
}

/// In the namespace a port has another address than out here.
fn inner_environment(
    launch: &Launch<'_>,
    listen: &[ListenAddress],
    driver: &str,
    runtime_dir: &Path,
) -> Vec<(OsString, OsString)> {
    let mut environment = launch.environment.clone();
    environment.remove("DOCKER_HOST");
    environment.set("XDG_RUNTIME_DIR", runtime_dir.as_os_str());
    let ports: Vec<SocketAddr> = listen.iter().filter_map(tcp).collect();
    let sockets = listen.iter().filter(|address| tcp(address).is_none()).cloned();
    let ports = rootlesskit::inner(driver, &ports).into_iter().map(ListenAddress::Tcp);
    let inner: Vec<String> = sockets.chain(ports).map(|address| address.to_string()).collect();
    environment.set(OUTSIDE, "1");
    if !inner.is_empty() {
        environment.set("DINDCTL_LISTEN", inner.join(","));
    }
    let timeout = launch.config.duration("daemon.stop_timeout").unwrap_or(SupervisorConfig::STOP_TIMEOUT);
    let less = timeout.saturating_sub(MARGIN).max(timeout / 2);
    environment.set("DINDCTL_STOP_TIMEOUT", format!("{}ms", less.as_millis()));
    // Out here it is waited already.
    environment.set("DINDCTL_STOP_DELAY", "0s");
    environment.remove("DINDCTL_OUTER_STOP_TIMEOUT");
    environment.into_pairs()
}

fn kit(launch: &Launch<'_>, facts: &Rootless, wishes: &Wishes, ports: Vec<SocketAddr>) -> Result<RootlessKit, Failure> {
    let name = "DOCKERD_ROOTLESS_ROOTLESSKIT_MTU";
    let mtu = launch.environment.text(name).map(|value| {
        value.parse().map_err(|_| {
            Failure::new(format!("{name}={value:?} is not a number of bytes"), "set it to 1500, for example")
        })
    });
    let flags = launch.environment.text("DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS").unwrap_or_default();
    Ok(RootlessKit {
        state_dir: wishes.owner.runtime_dir.join("dockerd-rootless"),
        // The plan has refused to go on without one.
        driver: rootless::driver(facts, &wishes.rootless).unwrap_or_default(),
        mtu: mtu.transpose()?,
        pid_namespace: !facts.proc_masked,
        ports,
        flags: flags.split_whitespace().map(str::to_owned).collect(),
    })
}

fn service(launch: &Launch<'_>, argv: Vec<OsString>) -> Result<ServiceSpec, Failure> {
    let name = argv.first().cloned().unwrap_or_default();
    let program = look_up(&name, launch.environment.get("PATH"))?;
    let mut service = ServiceSpec::daemon(DOCKERD, Spawn { program, argv, ..Spawn::default() });
    service.notices_from_below = true;
    // What dies in there is restarted in there; an end before the daemon was ready has said why.
    service.restart = RestartPolicy { max_failures: 1, ..RestartPolicy::new(Restart::OnFailure) };
    Ok(service)
}
