/*!
Our own dialect: `dindctl init`. The options are tini's, in words of dindctl; the manners are the best of all three.
Anywhere but as PID 1 it becomes a subreaper, it lets go of its working directory and of every descriptor that only the
command needs, and sockets that were handed to it (`LISTEN_PID`) are the command's.
*/
use std::ffi::OsString;

use clap::{Args, FromArgMatches};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::super::config::Config;
use super::super::say::{Level, Voice};
use super::super::{Environment, FAILED, usage};
use crate::init::plain::{BACKGROUND, Event, FAULTS, Parting, PlainOptions, Teller, run_plain};
use crate::sys::spawn::Step;
use crate::sys::wait::signal_name;
use crate::sys::words::error_text;

/// What was typed.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Send signals to the command's whole process group
    #[arg(short = 'g')]
    group: bool,
    /// Accepted for tini's sake: anywhere but as PID 1, dindctl becomes a subreaper by itself
    #[arg(short = 's')]
    subreaper: bool,
    /// Tell of every orphan that is reaped
    #[arg(short = 'w')]
    warn: bool,
    /// Say more: -v of the command, -vv of signals and all who die as well
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    verbose: u8,
    /// Signal to get when the parent dies, such as SIGTERM
    #[arg(short = 'p', value_name = "SIGNAL")]
    parent_death: Option<Signal>,
    /// Exit code of the command that is reported as 0; may be repeated
    #[arg(short = 'e', value_name = "CODE")]
    remap: Vec<u8>,
    /// Pass one signal on as another one, or not at all (0): names or numbers; may be repeated
    #[arg(short = 'r', value_name = "SIGNAL:SIGNAL", value_parser = rule)]
    rewrite: Vec<(i32, i32)>,
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `dindctl init …` as it was typed: neither the configuration file nor dindctl's other commands are looked at.
pub fn run_typed(argv: &[OsString], environment: &Environment) -> u8 {
    let voice = match Config::from_parts(None, environment.pairs()) {
        Ok(config) => Voice::new(&config),
        Err(error) => {
            Voice::default().fail(&error, error.hint().as_deref());
            return FAILED;
        }
    };
    let command = InitArgs::augment_args(clap::Command::new("init"))
        .bin_name("dindctl init")
        .about("Only PID 1 duty: start the command, pass signals on, reap (drop-in for docker-init)");
    let parsed =
        command.try_get_matches_from(argv.iter().skip(1)).and_then(|matches| InitArgs::from_arg_matches(&matches));
    match parsed {
        Ok(arguments) => run(arguments, voice),
        Err(error) => usage(&error, argv, FAILED, voice),
    }
}

/// Runs the command.
pub fn run(arguments: InitArgs, voice: Voice) -> u8 {
    let mut teller = OwnVoice { voice, verbosity: arguments.verbose, warn_on_reap: arguments.warn };
    run_plain(&options(arguments), &mut teller)
}

fn options(arguments: InitArgs) -> PlainOptions {
    PlainOptions {
        command: arguments.command,
        parting: Parting::Foreground,
        untouched: FAULTS.into_iter().chain(BACKGROUND).collect(),
        ignored: BACKGROUND.to_vec(),
        group: arguments.group,
        rewrite: arguments.rewrite,
        suspend: false,
        leave_terminal: false,
        subreaper: Pid::this().as_raw() != 1,
        parent_death: arguments.parent_death.map(|signal| signal as i32),
        remap: arguments.remap,
        farewell: false,
        leave_folder: true,
        leave_descriptors: true,
        hand_on_sockets: true,
        clean_signals: false,
        reap_often: false,
        own_failure: FAILED,
        exec_failure: |errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => 127,
            _ => 126,
        },
    }
}

/// A rule of `-r`.
fn rule(text: &str) -> Result<(i32, i32), String> {
    let (from, to) = text.split_once(':').ok_or("two signals with a colon between them are expected, as TERM:INT")?;
    let to = if to == "0" { 0 } else { signal(to)? };
    Ok((signal(from)?, to))
}

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
fn signal(text: &str) -> Result<i32, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let real_time = name
        .strip_prefix("RTMIN+")
        .and_then(|offset| offset.parse::<i32>().ok())
        .map(|offset| libc::SIGRTMIN().saturating_add(offset));
    let number = name.parse().ok().or(real_time).filter(|number| (1..=libc::SIGRTMAX()).contains(number));
    let named = || format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32);
    number
        .or_else(named)
        .ok_or_else(|| format!("`{text}` is no signal; a name (TERM, RTMIN+3) or a number is expected"))
}

/// How dindctl tells it.
struct OwnVoice {
    voice: Voice,
    verbosity: u8,
    warn_on_reap: bool,
}

impl OwnVoice {
    fn words(&self, event: &Event<'_>) -> Option<(Level, String)> {
        let verbose = |least: u8, text: String| (self.verbosity >= least).then_some((Level::Info, text));
        match *event {
            Event::Spawned { pid, program } => verbose(1, format!("started {} as process {pid}", program.display())),
            Event::NotStarted { step: Step::Exec, errno, program } => {
                Some((Level::Error, format!("cannot run {}: {}", program.display(), error_text(errno))))
            }
            Event::NotStarted { step, errno, program } => {
                Some((Level::Error, format!("cannot run {}: failed to {}: {errno}", program.display(), step.words())))
            }
            Event::NoFolder(errno) => Some((Level::Warn, format!("cannot leave the working directory: {errno}"))),
            Event::Forwarded(number) => verbose(2, format!("passed {} on", signal_name(number))),
            Event::NotForwarded { number, errno } => {
                Some((Level::Warn, format!("cannot pass {} on: {errno}", signal_name(number))))
            }
            Event::Died { exit, main: true, .. } => verbose(1, format!("the command ended with {exit}")),
            Event::Died { pid, exit, .. } if self.warn_on_reap => {
                Some((Level::Warn, format!("reaped zombie process with pid={pid} ({exit})")))
            }
            Event::Died { pid, exit, .. } => verbose(2, format!("reaped process {pid} ({exit})")),
            Event::Failed { what, errno } => Some((Level::Error, format!("{what}: {errno}"))),
            _ => None,
        }
    }
}

impl Teller for OwnVoice {
    fn tell(&mut self, event: &Event<'_>) {
        if let Some((level, text)) = self.words(event) {
            self.voice.say(level, &text);
        }
        if matches!(event, Event::NotStarted { step: Step::Exec, errno: Errno::ENOENT, .. }) {
            self.voice.say(Level::Hint, "is it installed in this image, and is its folder in PATH?");
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("TERM:INT", Ok((15, 2)))]
    #[case("SIGTERM:0", Ok((15, 0)))]
    #[case("15:SIGUSR1", Ok((15, 10)))]
    #[case("RTMIN+3:QUIT", Ok((libc::SIGRTMIN() + 3, 3)))]
    #[case("0:15", Err("`0` is no signal"))]
    #[case("TERM", Err("two signals with a colon"))]
    #[case("TERM:NO", Err("`NO` is no signal"))]
    #[case("65:1", Err("`65` is no signal"))]
    #[case("RTMIN+2147483647:1", Err("is no signal"))]
    fn rules_name_signals(#[case] text: &str, #[case] expected: Result<(i32, i32), &str>) {
        match (rule(text), expected) {
            (Ok(rule), Ok(expected)) => assert_eq!(rule, expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_commands_own_options_are_left_to_it() {
        let command = InitArgs::augment_args(clap::Command::new("init"));
        let matches = command.try_get_matches_from(["init", "-ge", "143", "sh", "-c", "-g", "--", "-x"]).unwrap();
        let told = options(InitArgs::from_arg_matches(&matches).unwrap());
        assert_eq!((told.group, told.remap), (true, vec![143]));
        assert_eq!(told.command, ["sh", "-c", "-g", "--", "-x"]);
    }

    #[test]
    fn orphans_are_ours_anywhere_but_as_pid_one() {
        let command = InitArgs::augment_args(clap::Command::new("init"));
        let matches = command.try_get_matches_from(["init", "true"]).unwrap();
        assert!(options(InitArgs::from_arg_matches(&matches).unwrap()).subreaper);
    }
}
