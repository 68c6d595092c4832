/*!
The hidden `dindctl hooks FOLDER CMD…`: runs the hooks below a folder, then becomes the command. It stands between PID 1 and the
command, as the command's user, so that a hook that hangs or dies holds up nobody else.
*/
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use nix::errno::Errno;

use super::super::Environment;
use super::super::failure::Failure;
use super::super::say::{Level, Voice};
use crate::home::hooks;
use crate::prepare::Patience;
use crate::prepare::patience::LIMIT;
use crate::sys::inheritance::Inheritance;
use crate::sys::spawn::{LookUpError, Spawn, exec, look_up};

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
            let mut status = Command::new(&hook).status();
            // Without #! it is one for a shell.
            if status.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::ENOEXEC as i32)) {
                status = Command::new("/bin/sh").arg(&hook).status();
            }
            match status {
                Ok(status) if status.success() => {}
                Ok(status) => voice.say(Level::Warn, &format!("the hook {} ended with {status}", hook.display())),
                Err(error) => voice.say(Level::Warn, &format!("the hook {} cannot be run: {error}", hook.display())),
            }
        }
    }
    let name = arguments.command.first().map(OsString::as_os_str).unwrap_or_default();
    let program = match look_up(name, environment.get("PATH")) {
        Ok(program) => program,
        Err(error) => return not_startable(error).report(voice),
    };
    let start = Spawn { program, argv: arguments.command, env: environment.pairs().to_vec(), ..Spawn::default() };
    Failure::from(exec(&start.with_signals_of(&Inheritance::of_process()))).report(voice)
}

fn not_startable(error: LookUpError) -> Failure {
    let hint = "install it in the image, or give its path; the hooks cannot change the PATH of the command";
    Failure { hint: Some(hint.into()), ..Failure::from(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_there_is_127_and_has_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = HooksArgs { folder: folder.path().into(), command: vec!["no-such-program".into()] };
        assert_eq!(run(arguments, &Environment::of_process(), Voice::default()), 127);
        let failure = not_startable(look_up("no-such-program".as_ref(), None).unwrap_err());
        assert_eq!((failure.code, failure.message.as_str()), (127, "cannot start no-such-program: not found in PATH"));
        assert!(failure.hint.is_some_and(|hint| hint.contains("install it")));
    }
}
