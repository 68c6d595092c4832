/*!
The hidden `dindctl hooks FOLDER CMD…`: runs the hooks below a folder, then becomes the command. It stands between PID 1 and the
command, as the command's user, so that a hook that hangs or dies holds up nobody else.
*/
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use super::super::Environment;
use super::super::failure::Failure;
use super::super::say::{Level, Voice};
use crate::home::hooks;
use crate::prepare::Patience;
use crate::prepare::patience::LIMIT;
use crate::sys::inheritance::Inheritance;
use crate::sys::spawn::{Spawn, exec, find_program};

/// What PID 1 writes.
#[derive(Debug, Args)]
pub struct HooksArgs {
    /// The folder
    folder: PathBuf,
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Runs them; one that fails is told and ends nothing.
pub fn run(arguments: HooksArgs, environment: &Environment, voice: Voice) -> u8 {
    let found = hooks::find(&arguments.folder).unwrap_or_else(|error| {
        voice.say(Level::Warn, &error);
        Vec::new()
    });
    if !found.is_empty() {
        let patience = Patience::new(LIMIT, move |text| voice.say(Level::Info, text));
        for hook in found {
            patience.at(&format!("the hook {}", hook.display()));
            match Command::new(&hook).status() {
                Ok(status) if status.success() => {}
                Ok(status) => voice.say(Level::Warn, &format!("the hook {} ended with {status}", hook.display())),
                Err(error) => voice.say(Level::Warn, &format!("the hook {} cannot be run: {error}", hook.display())),
            }
        }
    }
    let name = arguments.command.first().map(OsString::as_os_str).unwrap_or_default();
    let Some(program) = find_program(name, environment.get("PATH")) else {
        voice.fail_with(&format!("cannot start {}: not found in PATH", name.to_string_lossy()), None);
        return 127;
    };
    let start = Spawn { program, argv: arguments.command, env: environment.pairs().to_vec(), ..Spawn::default() };
    Failure::from(exec(&start.with_signals_of(&Inheritance::of_process()))).report(voice)
}
