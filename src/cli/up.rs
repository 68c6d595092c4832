/*!
`dindctl up`: the daemon and a command side by side. The container lives as long as the command.
*/
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;

use clap::{Args, ValueEnum};

use super::Environment;
use super::daemon::{Beside, COMMAND, Daemon, Launch, run};
use super::failure::Failure;
use crate::engine::socket;
use crate::init::policy::{Restart, RestartPolicy};
use crate::init::spec::{Milestone, ServiceSpec};
use crate::probe::{Roots, users};
use crate::sys::inheritance::Inheritance;
use crate::sys::spawn::{Identity, Session, Spawn, find_program};

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
    let UpArgs { user, no_wait, restart, on_daemon_failure, command } = arguments;
    let group = launch.config.get("daemon.socket_group").to_owned();
    // Before we catch any.
    let found = Inheritance::of_process();
    let build = |environment: &Environment| {
        let mut service = service(&command, user.as_deref(), &group, no_wait, environment)?;
        service.spawn = service.spawn.with_signals_of(&found);
        service.restart = RestartPolicy::new(restart);
        Ok(Beside { service, outlives_daemon: on_daemon_failure == DaemonFailure::Continue })
    };
    run(launch, Daemon::Ours(Vec::new()), Some(&build))
}

fn service(
    command: &[OsString],
    user: Option<&str>,
    socket_group: &str,
    no_wait: bool,
    environment: &Environment,
) -> Result<ServiceSpec, Failure> {
    let mut environment = environment.clone();
    let identity = user.map(|user| identity(user, socket_group, &mut environment)).transpose()?;
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let program = find_program(name, environment.get("PATH")).ok_or_else(|| Failure {
        message: format!("cannot start {}: not found in PATH", name.to_string_lossy()),
        hint: None,
        code: 127,
    })?;
    let spawn = Spawn {
        program,
        argv: command.to_vec(),
        env: environment.into_pairs(),
        session: Session::Foreground,
        identity,
        ..Spawn::default()
    };
    let service = ServiceSpec::command(COMMAND, spawn);
    Ok(if no_wait { service } else { service.after("dockerd", Milestone::Ready) })
}

/// User and groups of the command; `HOME`, `USER`, `LOGNAME` and `SHELL` follow, as with `su -p` they would not, and so does
/// `XDG_RUNTIME_DIR`: the one of root is closed to others (basedir specification).
fn identity(name: &str, socket_group: &str, environment: &mut Environment) -> Result<Identity, Failure> {
    let roots = Roots::system();
    let known = users::users(&roots)?;
    let all_groups = users::groups(&roots)?;
    let user = users::find_user(&known, name).ok_or_else(|| {
        Failure::new(
            format!("there is no user {name:?} in /etc/passwd"),
            "create the user in the image, or leave --user out",
        )
    })?;
    let mut groups = users::supplementary(&all_groups, user);
    if let Some(gid) = users::find_gid(&all_groups, socket_group)
        && !groups.contains(&gid)
    {
        groups.push(gid);
    }
    environment.set("HOME", user.home.as_str());
    environment.set("USER", user.name.as_str());
    environment.set("LOGNAME", user.name.as_str());
    if !user.shell.is_empty() {
        environment.set("SHELL", user.shell.as_str());
    }
    let runtime = socket::runtime_dir(None, user.uid);
    if std::fs::metadata(&runtime).is_ok_and(|found| found.is_dir() && found.uid() == user.uid) {
        environment.set("XDG_RUNTIME_DIR", runtime.as_os_str());
    } else if user.uid != 0 {
        environment.remove("XDG_RUNTIME_DIR");
    }
    Ok(Identity { uid: user.uid, gid: user.gid, groups })
}
