/*!
containerd and dockerd as services of PID 1.
*/
use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::super::config::Config;
use super::super::config::keys::KEYS;
use super::super::failure::Failure;
use super::super::places::RUN_DIR;
use super::super::say::Level;
use super::addresses::Tcp;
use super::{Launch, files, oom};
use crate::engine::daemon_json::Merged;
use crate::engine::{containerd as engine_containerd, diagnosis};
use crate::init::outer;
use crate::init::policy::{Restart, RestartPolicy};
use crate::init::spec::{Diagnosis, LogFile, Milestone, Output, ServiceSpec, Sink, StopPlan};
use crate::prepare::sockets::{self, Bound, SocketWishes};
use crate::probe::Roots;
use crate::sys::spawn::{Session, Spawn, find_program, look_up, spawn};

/// Name of the daemon among the services.
pub const DOCKERD: &str = "dockerd";
/// Name of containerd among them.
pub const CONTAINERD: &str = "containerd";

/// Longest time the daemon may take to switch live-restore off before it is stopped all the same. It takes 10-20 ms;
/// a daemon with a quiet log and without notices is given this much and no more.
const RELOAD_LIMIT: Duration = Duration::from_millis(500);

/// Binds every address, with owner and mode set before a client can connect.
pub fn bind(launch: &Launch<'_>, addresses: &[String], group: Option<&str>, tcp: Tcp) -> Result<Bound, Failure> {
    let mode = u32::from_str_radix(launch.config.get("daemon.socket_mode"), 8).unwrap_or(0o660);
    let group = group.unwrap_or(launch.config.get("daemon.socket_group"));
    let wishes = SocketWishes { group: group.to_owned(), mode };
    let addresses = sockets::parse(&addresses.join(","))?;
    let bound = sockets::bind(&addresses, &wishes, &Roots::system())?;
    for warning in bound.warnings.iter().chain(&sockets::insecure_warning(&addresses, tcp.openness())) {
        launch.voice.say(Level::Warn, warning);
    }
    Ok(bound)
}

/// Has the chosen iptables print its version, as the official image does and logs are searched for. Nobody waits for it; the
/// supervisor reaps it like every child.
pub fn tell_iptables(launch: &Launch<'_>) {
    let name = OsStr::new("iptables");
    let Some(program) = find_program(name, launch.environment.get("PATH")) else { return };
    let env = launch.environment.clone().into_pairs();
    let line = Spawn { program, argv: vec![name.into(), "--version".into()], env, ..Spawn::default() };
    if let Err(error) = spawn(&line) {
        launch.voice.say(Level::Warn, &error.to_string());
    }
}

/// containerd on our own configuration.
pub fn containerd(
    launch: &Launch<'_>,
    root: &Path,
    socket: &Path,
    extras: &engine_containerd::Extras,
) -> Result<ServiceSpec, Failure> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("cannot remove the stale socket {}: {error}", socket.display());
            return Err(Failure::new(message, "the container needs a writable /run"));
        }
        _ => {}
    }
    let config = PathBuf::from(RUN_DIR).join("containerd.toml");
    let level = if launch.config.get("log.level") == "debug" { "debug" } else { "warn" };
    let text = engine_containerd::config(root, Path::new(engine_containerd::STATE), socket, level, extras);
    files::replace(&config, &text)?;
    let mut service = ServiceSpec::daemon(CONTAINERD, daemon(launch, engine_containerd::command_line(&config))?);
    service.output = output(launch.config);
    service.restart = restart(launch.config);
    Ok(service)
}

/// When a daemon is started again, by the settings; they were checked on their way in.
fn restart(config: &Config) -> RestartPolicy {
    RestartPolicy::new(config.get("daemon.restart").parse().unwrap_or(Restart::Always))
}

/// dockerd on the sockets that we bound.
pub fn dockerd(
    launch: &Launch<'_>,
    line: Vec<OsString>,
    sockets: &Bound,
    our_containerd: bool,
    merged: &Merged,
    merged_path: &Path,
) -> Result<ServiceSpec, Failure> {
    let mut spawn = daemon(launch, line)?;
    spawn.listen_fds = sockets.listeners.iter().map(|listener| listener.fd.as_raw_fd()).collect();
    let mut service = ServiceSpec::daemon(DOCKERD, spawn);
    service.output = output(launch.config);
    service.restart = restart(launch.config);
    if our_containerd {
        // Both start side by side: dockerd waits for a socket that is not there yet in steps of 10 ms (containerd's
        // own dialer). A socket that is there and refuses would cost it a second of back-off, see `containerd`.
        service = service.after(CONTAINERD, Milestone::Started);
    }
    if merged.live_restore && merged.live_restore_in_file {
        service.stop = StopPlan {
            prepare: Some(files::stop_hook(merged_path.to_owned(), merged.text_for_stop())),
            reload_signal: Some(Signal::SIGHUP),
            reload_line: Some("Reloaded configuration".into()),
            reload_timeout: RELOAD_LIMIT,
            ..StopPlan::default()
        };
    }
    Ok(service)
}

/// dockerd exactly as the user wrote it. An end of its own choice (exit code 0) is the end of the container.
pub fn explicit_dockerd(launch: &Launch<'_>, line: Vec<OsString>) -> Result<ServiceSpec, Failure> {
    let mut service = ServiceSpec::daemon(DOCKERD, daemon(launch, line)?);
    service.output = output(launch.config);
    service.restart = RestartPolicy::new(Restart::OnFailure);
    Ok(service)
}

fn daemon(launch: &Launch<'_>, argv: Vec<OsString>) -> Result<Spawn, Failure> {
    let name = argv.first().map(OsString::as_os_str).unwrap_or_default();
    let program = program(name, launch.environment.get("PATH"))?;
    // A session of its own: a Ctrl-C at the terminal is for us, and we stop the daemons in order.
    let mut env = launch.environment.pairs().to_vec();
    let own = Path::new("/proc/self");
    let oom_score_adj = oom::score(own);
    if oom_score_adj.is_some()
        && let Err(error) = oom::spare_no_build(&mut env, own, Path::new(RUN_DIR))
    {
        launch.voice.say(Level::Warn, &format!("builds have the daemon's oom_score_adj: {error}"));
    }
    Ok(Spawn { program, argv, env, session: Session::New, oom_score_adj, ..Spawn::default() })
}

fn program(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    look_up(name, path).map_err(|error| Failure {
        hint: Some("install the Docker engine in the image (Debian: docker.io; see images/dind/Dockerfile)".into()),
        ..Failure::from(error)
    })
}

fn output(config: &Config) -> Output {
    let path = config.get("log.daemon_file");
    let file = (!path.is_empty()).then(|| LogFile {
        path: path.into(),
        max_size: config
            .get("log.daemon_file_size")
            .parse::<bytesize::ByteSize>()
            .map_or(10 << 20, |size| size.as_u64()),
        keep: config.get("log.daemon_file_count").parse().unwrap_or(3),
    });
    Output::Pump { sink: Sink::Stderr, file }
}

/// What the last lines of a service mean.
pub fn diagnose(_service: &str, lines: &[String]) -> Option<Diagnosis> {
    let found = diagnosis::diagnose(lines)?;
    Some(Diagnosis { cause: found.cause.into(), hint: found.hint.into(), permanent: found.permanent })
}

/// The container's own limit on a stop must be longer than ours, or it ends the daemon in the middle.
pub fn outer_limit_warning(launch: &Launch<'_>, ours: Duration) -> Option<String> {
    outer::warning(ours, |name| {
        let setting = KEYS.iter().find(|key| key.env == name).map(|key| launch.config.get(key.name));
        setting.or_else(|| launch.environment.text(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    })
}
