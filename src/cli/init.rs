/*!
`dindctl init`: PID 1 duty and nothing else, with the options of tini. It is what runs under the name `docker-init`.
*/
use std::ffi::OsString;

use clap::Args;
use nix::sys::signal::Signal;

use super::Environment;
use super::say::Voice;
use crate::init::plain::{PlainOptions, run_plain};
use crate::sys::spawn::{Spawn, find_program};

/// What `docker-init --version` says: dockerd reads the words before the number (moby, `parseInitVersion`).
pub const TINI_VERSION: &str = concat!("tini version 0.19.0 - dindctl ", env!("CARGO_PKG_VERSION"));

/// What was typed.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Send signals to the command's whole process group
    #[arg(short = 'g')]
    group: bool,
    /// Become a subreaper, for use as something else than PID 1
    #[arg(short = 's')]
    subreaper: bool,
    /// Tell of every orphan that is reaped
    #[arg(short = 'w')]
    warn: bool,
    /// Say more
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    verbose: u8,
    /// Signal to get when the parent dies, such as SIGTERM
    #[arg(short = 'p', value_name = "SIGNAL")]
    parent_death: Option<Signal>,
    /// Exit code of the command that is reported as 0; may be repeated
    #[arg(short = 'e', value_name = "CODE")]
    remap: Vec<u8>,
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(arguments: InitArgs, environment: &Environment, voice: Voice) -> u8 {
    let name = arguments.command.first().cloned().unwrap_or_default();
    let Some(program) = find_program(&name, environment.get("PATH")) else {
        voice.fail_with(&format!("cannot run {}: not found in PATH", name.to_string_lossy()), None);
        return 127;
    };
    let spawn = Spawn { program, argv: arguments.command, env: environment.pairs().to_vec(), ..Spawn::default() };
    run_plain(&PlainOptions {
        group: arguments.group,
        subreaper: arguments.subreaper || environment.get("TINI_SUBREAPER").is_some(),
        parent_death: arguments.parent_death,
        warn_on_reap: arguments.warn || arguments.verbose > 0,
        remap: arguments.remap,
        say: voice.0,
        ..PlainOptions::new(spawn)
    })
}
