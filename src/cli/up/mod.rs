/*!
`dindctl up`: the daemon and a command side by side. The container lives as long as the command.
*/
mod account;
pub mod hooks;
mod secrets;
mod shape;

use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use clap::{Args, ValueEnum};
use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use self::shape::{DaemonChoice, Shape, choose};

use super::Environment;
use super::daemon::{Alone, Beside, COMMAND, Companion, Daemon, Launch, catch_signals, run_alone, supervise};
use super::failure::Failure;
use super::say::Level;
use crate::init::policy::{Restart, RestartPolicy};
use crate::init::spec::ServiceSpec;
use crate::sys::inheritance::Inheritance;
use crate::sys::spawn::{LookUpError, Session, Spawn, look_up};

/// What was typed.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Run the command as this user (name or number); it may use the daemon's socket
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,
    /// Start the command at once instead of when the daemon is ready
    #[arg(long)]
    no_wait: bool,
    /// When the command is started again: always, on-failure (not after exit code 0) or never
    #[arg(long, value_name = "WHEN", default_value = "never")]
    restart: Restart,
    /// What becomes of the running command when a daemon has failed for good
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = DaemonFailure::Continue)]
    on_daemon_failure: DaemonFailure,
    /// Whether there is a daemon here: own, or auto by `DIND_ENABLED` and `DOCKER_HOST`
    #[arg(long, value_enum, value_name = "WHOSE", default_value_t = DaemonChoice::Own)]
    daemon: DaemonChoice,
    /// Make the user's account and home ready first (`PUID`, `PGID`, `DOCKER_USER`, `PASSWORD_FILE`), and run the hooks of `ENTRYPOINTD`
    #[arg(long, requires = "user")]
    home: bool,
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What becomes of a running command without its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DaemonFailure {
    /// It goes on, and the container with it.
    Continue,
    /// It is stopped, and the container ends with exit code 120.
    Stop,
}

/// Runs the command.
pub fn run_up(arguments: UpArgs, launch: Launch<'_>) -> u8 {
    let voice = launch.voice;
    up(arguments, launch).unwrap_or_else(|failure| failure.report(voice))
}

fn up(arguments: UpArgs, mut launch: Launch<'_>) -> Result<u8, Failure> {
    let UpArgs { mut user, no_wait, restart, on_daemon_failure, daemon, home, command } = arguments;
    let (root, voice) = (geteuid().is_root(), launch.voice);
    // Before we catch any, for the command; and before anything takes time.
    let found = Inheritance::of_process();
    let signals = catch_signals()?;
    let shape = match daemon {
        DaemonChoice::Own => Shape::Own,
        DaemonChoice::Auto => choose(&launch.environment, root, |path| {
            std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
        })?,
    };
    let mut for_command = Vec::new();
    let mut hooks = None;
    if home {
        for_command = secrets::take(&mut launch.environment, Path::new("/"))?;
        hooks = launch.environment.text("ENTRYPOINTD").map(str::to_owned);
        if root {
            user = user.map(|name| account::make_ready(&name, &launch.environment, voice)).transpose()?;
        } else {
            for told in account::told_of_outsider(geteuid().as_raw(), getegid().as_raw(), &launch.environment) {
                voice.say(Level::Warn, &told);
            }
            user = None;
        }
    }
    let group = launch.config.get("daemon.socket_group").to_owned();
    let wanted = Wanted { command, user, hooks, group, for_command };
    let waits = shape == Shape::Own && !no_wait;
    let build = |environment: &Environment| {
        let mut service = service(&wanted, environment)?;
        service.spawn = service.spawn.with_signals_of(&found);
        service.restart = RestartPolicy::new(restart);
        Ok(Beside { service, waits, outlives_daemon: on_daemon_failure == DaemonFailure::Continue })
    };
    // A command or a user that is not there is told before anything is prepared. With --home the account is ready by now, as its name may
    // be the one that is looked for.
    build(&launch.environment)?;
    let companion = Companion { build: &build, needs_no_daemon: daemon == DaemonChoice::Auto };
    match shape {
        Shape::Own => supervise(launch, Daemon::Ours(Vec::new()), Some(companion), signals),
        Shape::Client(host) => run_alone(&launch, &build, Alone::Client(host), signals),
        Shape::None(why) => run_alone(&launch, &build, Alone::Without(why.to_owned(), None), signals),
    }
}

/// What the command is to be.
struct Wanted {
    command: Vec<OsString>,
    user: Option<String>,
    hooks: Option<String>,
    group: String,
    for_command: Vec<(OsString, OsString)>,
}

fn service(wanted: &Wanted, environment: &Environment) -> Result<ServiceSpec, Failure> {
    let mut environment = environment.clone();
    let named = wanted.user.as_deref();
    let identity = named.map(|user| account::identity(user, &wanted.group, &mut environment)).transpose()?;
    let name = wanted.command.first().map(OsString::as_os_str).unwrap_or_default();
    let mut argv = wanted.command.clone();
    let program = if let Some(folder) = &wanted.hooks {
        // They may install the command; who runs them looks it up when they are done.
        argv.splice(0..0, ["dindctl".into(), "hooks".into(), folder.into(), "--".into()]);
        "/proc/self/exe".into()
    } else {
        match look_up(name, environment.get("PATH")) {
            // Root of a container is nobody on some file systems of the network.
            Err(LookUpError::Unusable { program, errno: Errno::EACCES }) if identity.is_some() => program.into(),
            looked => looked?,
        }
    };
    for (name, value) in &wanted.for_command {
        environment.set(&name.to_string_lossy(), value.clone());
    }
    let env = environment.into_pairs();
    let spawn = Spawn { program, argv, env, session: Session::Foreground, identity, ..Spawn::default() };
    Ok(ServiceSpec::command(COMMAND, spawn))
}
