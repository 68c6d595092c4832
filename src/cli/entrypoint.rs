/*!
`dindctl entrypoint`: the argument rules of `dockerd-entrypoint.sh`.

No argument or a leading flag means dockerd with our defaults; the word `dockerd` means exactly that command line,
supervised; anything else is what the CLI image would run.

Exit codes: 0 after a requested stop in which everything ended in time, 120 when a daemon was given up (crash loop or a
cause that stays), 125 when preparation, configuration or sockets failed, 126 and 127 when a program cannot be
executed or found, 137 when something had to be killed at the deadline.
*/
use std::ffi::OsString;

use clap::Args;

use super::daemon::{Daemon, Launch, run};
use super::docker_cli;
use super::failure::Failure;
use crate::engine::arguments::DaemonArguments;
use crate::sys::inheritance::Inheritance;
use crate::sys::spawn::{Spawn, exec, look_up};

/// What was typed.
#[derive(Debug, Args)]
// Everything behind the word is the daemon's or the command's, help and version included.
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct EntrypointArgs {
    /// Nothing, flags of dockerd, `dockerd …`, or any other command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<OsString>,
}

impl EntrypointArgs {
    /// These words.
    pub fn new(arguments: Vec<OsString>) -> Self {
        Self { arguments }
    }
}

/// What the arguments mean.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Ours(Vec<OsString>),
    Explicit(Vec<OsString>),
    /// `dockerd --version` and the like: it prints and ends.
    Question(Vec<OsString>),
    Other(Vec<OsString>),
}

fn meaning(arguments: Vec<OsString>) -> Meaning {
    let first = arguments.first().map(|word| word.as_encoded_bytes().to_vec());
    match first.as_deref() {
        Some(b"dockerd") if DaemonArguments::parse(arguments.iter().skip(1).cloned()).only_asks() => {
            Meaning::Question(arguments)
        }
        Some(b"dockerd") => Meaning::Explicit(arguments),
        Some(word) if !word.starts_with(b"-") => Meaning::Other(arguments),
        _ if DaemonArguments::parse(arguments.iter().cloned()).only_asks() => {
            Meaning::Question(std::iter::once("dockerd".into()).chain(arguments).collect())
        }
        _ => Meaning::Ours(arguments),
    }
}

/// The daemon that these arguments ask for, or the first word of what would be run instead.
pub fn daemon(arguments: Vec<OsString>) -> Result<Daemon, OsString> {
    match meaning(arguments) {
        Meaning::Ours(arguments) => Ok(Daemon::Ours(arguments)),
        Meaning::Explicit(line) => Ok(Daemon::Explicit(line)),
        Meaning::Question(words) | Meaning::Other(words) => Err(words.into_iter().next().unwrap_or_default()),
    }
}

/// Runs the command.
pub fn run_entrypoint(arguments: EntrypointArgs, launch: Launch<'_>) -> u8 {
    match meaning(arguments.arguments) {
        Meaning::Ours(arguments) => run(launch, Daemon::Ours(arguments)),
        Meaning::Explicit(line) => run(launch, Daemon::Explicit(line)),
        Meaning::Other(arguments) => docker_cli::run(arguments, &launch.environment, launch.voice),
        Meaning::Question(argv) => {
            let program = match look_up("dockerd".as_ref(), launch.environment.get("PATH")) {
                Ok(program) => program,
                Err(error) => return Failure::from(error).report(launch.voice),
            };
            let env = launch.environment.pairs().to_vec();
            Failure::from(exec(
                &Spawn { program, argv, env, ..Spawn::default() }.with_signals_of(&Inheritance::of_process()),
            ))
            .report(launch.voice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_rules_are_those_of_the_official_script() {
        assert_eq!(meaning(vec![]), Meaning::Ours(vec![]));
        assert_eq!(meaning(words(&["--debug"])), Meaning::Ours(words(&["--debug"])));
        assert_eq!(meaning(words(&["dockerd", "-D"])), Meaning::Explicit(words(&["dockerd", "-D"])));
        assert_eq!(meaning(words(&["/usr/bin/dockerd"])), Meaning::Other(words(&["/usr/bin/dockerd"])));
        assert_eq!(meaning(words(&["sh", "-c", "x"])), Meaning::Other(words(&["sh", "-c", "x"])));
        assert_eq!(meaning(words(&["--version"])), Meaning::Question(words(&["dockerd", "--version"])));
        assert_eq!(meaning(words(&["dockerd", "--validate"])), Meaning::Question(words(&["dockerd", "--validate"])));
    }
}
