/*!
The dialect of tini 0.19, which docker calls `docker-init`: its options, variables, messages and exit codes.

Three things are not taken over, because there it only goes wrong: options are not looked for behind the program's
name (`tini sh -c x` needs no `--`); a signal that the kernel does not let through (`EPERM`) does not end the init; a
caller that ignores `SIGCHLD` does not make it wait for ever.
*/
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::getopt::{Known, Options};
use super::{Environment, Line, Parsed, Refusal};
use crate::init::plain::{BACKGROUND, Event, FAULTS, Parting, PlainOptions, Teller};
use crate::sys::spawn::Step;
use crate::sys::wait::Exit;
use crate::sys::words::{error_text, signal_text};

/// What `--version` says: dockerd reads the words before the number (moby, `parseInitVersion`).
pub const VERSION: &str = concat!("tini version 0.19.0 - dindctl ", env!("CARGO_PKG_VERSION"));

/// Becomes a subreaper when it is set, to whatever.
const SUBREAPER: &str = "TINI_SUBREAPER";
/// Signals go to the group when it is set, to whatever.
const GROUP: &str = "TINI_KILL_PROCESS_GROUP";
/// The verbosity, in the place of 1 and all `-v`.
const VERBOSITY: &str = "TINI_VERBOSITY";

const fn known(letter: u8, value: bool) -> Known {
    Known { letter, long: None, value }
}

const OPTIONS: [Known; 8] = [
    known(b'p', true),
    known(b'h', false),
    known(b'v', false),
    known(b'w', false),
    known(b'g', false),
    known(b'l', false),
    known(b'e', true),
    known(b's', false),
];

/// The signals that `-p` knows, by these names only.
const NAMES: [(&str, i32); 28] = [
    ("SIGHUP", libc::SIGHUP),
    ("SIGINT", libc::SIGINT),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGILL", libc::SIGILL),
    ("SIGTRAP", libc::SIGTRAP),
    ("SIGABRT", libc::SIGABRT),
    ("SIGBUS", libc::SIGBUS),
    ("SIGFPE", libc::SIGFPE),
    ("SIGKILL", libc::SIGKILL),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGSEGV", libc::SIGSEGV),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGPIPE", libc::SIGPIPE),
    ("SIGALRM", libc::SIGALRM),
    ("SIGTERM", libc::SIGTERM),
    ("SIGCHLD", libc::SIGCHLD),
    ("SIGCONT", libc::SIGCONT),
    ("SIGSTOP", libc::SIGSTOP),
    ("SIGTSTP", libc::SIGTSTP),
    ("SIGTTIN", libc::SIGTTIN),
    ("SIGTTOU", libc::SIGTTOU),
    ("SIGURG", libc::SIGURG),
    ("SIGXCPU", libc::SIGXCPU),
    ("SIGXFSZ", libc::SIGXFSZ),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGPROF", libc::SIGPROF),
    ("SIGWINCH", libc::SIGWINCH),
    ("SIGSYS", libc::SIGSYS),
];

/// How much is said, and whether collected orphans are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    /// 0 fatal errors, 1 warnings, 2 information, 3 debugging, 4 traces.
    pub verbosity: u32,
    /// `-w`.
    pub warn_on_reap: bool,
}

/// Reads the words behind the name, and the environment.
pub fn parse(name: &OsStr, words: &[OsString], environment: &Environment) -> Result<Parsed<Voice>, Refusal> {
    if let [only] = words
        && only == "--version"
    {
        return Err(Refusal::said(VERSION));
    }
    let mut voice = Voice { verbosity: 1, warn_on_reap: false };
    let mut told = defaults();
    let mut options = Options::new(&OPTIONS, words);
    for option in options.by_ref() {
        let misfit = |misfit| Refusal::usage(1, format!("{}: {misfit}\n{}", name.to_string_lossy(), usage(name)));
        let (letter, value) = option.map_err(misfit)?;
        let value = value.unwrap_or_default();
        let invalid = |letter: char| {
            let text = format!("Not a valid option for -{letter}: {}", value.to_string_lossy());
            Refusal::usage(1, rank(0, &text))
        };
        match letter {
            b'h' => return Err(Refusal::said(&usage(name))),
            b'l' => return Err(Refusal::said(super::LICENCE)),
            b's' => told.subreaper = true,
            b'v' => voice.verbosity = voice.verbosity.saturating_add(1),
            b'w' => voice.warn_on_reap = true,
            b'g' => told.group = true,
            b'p' => told.parent_death = Some(signal(&value).ok_or_else(|| invalid('p'))?),
            _ => told.remap.push(code(value.as_bytes()).ok_or_else(|| invalid('e'))?),
        }
    }
    told.command = options.command().to_vec();
    if told.command.is_empty() {
        return Err(Refusal::usage(1, usage(name)));
    }
    told.subreaper |= environment.get(SUBREAPER).is_some();
    told.group |= environment.get(GROUP).is_some();
    if let Some(value) = environment.get(VERBOSITY) {
        // A negative number is a very large one there.
        voice.verbosity = leading_number(value.as_bytes()).cast_unsigned();
    }
    Ok(Parsed { options: told, voice })
}

/// tini's behaviour without any option.
fn defaults() -> PlainOptions {
    PlainOptions {
        command: Vec::new(),
        parting: Parting::Foreground,
        untouched: FAULTS.into_iter().chain(BACKGROUND).collect(),
        ignored: BACKGROUND.to_vec(),
        group: false,
        rewrite: Vec::new(),
        suspend: false,
        leave_terminal: false,
        subreaper: false,
        parent_death: None,
        remap: Vec::new(),
        farewell: false,
        leave_folder: false,
        leave_descriptors: false,
        hand_on_sockets: false,
        clean_signals: false,
        reap_often: true,
        own_failure: 1,
        exec_failure: |errno| match errno {
            Errno::ENOENT => 127,
            Errno::EACCES => 126,
            _ => 1,
        },
    }
}

fn signal(value: &OsStr) -> Option<i32> {
    NAMES.iter().find(|(name, _)| value == *name).map(|(_, number)| *number)
}

/// An exit code as `strtol(3)` reads it; nothing at all is 0.
fn code(text: &[u8]) -> Option<u8> {
    let rest = text.trim_ascii_start();
    let digits = rest.strip_prefix(b"+").or_else(|| rest.strip_prefix(b"-")).unwrap_or(rest);
    if text.is_empty() {
        return Some(0);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i64 = std::str::from_utf8(rest).ok()?.parse().ok()?;
    u8::try_from(number).ok()
}

/// What `atoi(3)` makes of a text.
fn leading_number(text: &[u8]) -> i32 {
    let text = text.trim_ascii_start();
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    let number = digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0_i64, |number, digit| {
        number.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(i64::from(i32::MAX))
    });
    i32::try_from(number).unwrap_or(i32::MAX) * sign
}

fn usage(name: &OsStr) -> String {
    let own = Path::new(name).file_name().unwrap_or(name).to_string_lossy();
    format!(
        "{own} ({VERSION})
Usage: {own} [OPTIONS] [--] PROGRAM [ARGS] | --version

Runs one program, passes signals to it, and collects what its children leave behind.

Command line options, up to the first word that is none:

  --version: print the version; only as the sole argument.
  -h: print this help.
  -s: become a subreaper, for use as something else than PID 1.
  -p SIGNAL: get SIGNAL when the parent dies, such as \"-p SIGKILL\".
  -v: say more; may be repeated up to 3 times.
  -w: warn about every orphan that is collected.
  -g: send signals to the program's process group.
  -e EXIT_CODE: report EXIT_CODE (0 to 255) as 0; may be repeated.
  -l: print the licence.

Environment variables:

  {SUBREAPER}: as -s.
  {VERBOSITY}: level of what is said (default: 1).
  {GROUP}: as -g.
"
    )
}

/// A line of this rank: 0 fatal, 1 warning, 2 information, 3 debugging, 4 trace.
fn rank(rank: u32, text: &str) -> String {
    let label = match rank {
        0 => "FATAL",
        1 => "WARN ",
        2 => "INFO ",
        3 => "DEBUG",
        _ => "TRACE",
    };
    format!("[{label} tini ({})] {text}\n", std::process::id())
}

impl Voice {
    /// The rank and the words for an event; `None`: tini has none.
    fn words(self, event: &Event<'_>) -> Option<(u32, String)> {
        Some(match *event {
            Event::Subreaper => (4, "Registered as child subreaper".into()),
            Event::NoReaper => (1, NO_REAPER.into()),
            Event::Spawned { pid, program } => {
                (2, format!("Spawned child process '{}' with pid '{pid}'", program.to_string_lossy()))
            }
            Event::NoTerminal(Errno::ENOTTY) => (3, "tcsetpgrp failed: no tty (ok to proceed)".into()),
            Event::NoTerminal(Errno::ENXIO) => (3, "tcsetpgrp failed: no such device (ok to proceed)".into()),
            Event::NoTerminal(errno) => (1, format!("tcsetpgrp failed: {}", error_text(errno))),
            Event::NotStarted { step: Step::Exec, errno, program } => {
                (0, format!("exec {} failed: {}", program.to_string_lossy(), error_text(errno)))
            }
            Event::NotStarted { step: Step::Session, errno, .. } => {
                (0, format!("setpgid failed: {}", error_text(errno)))
            }
            Event::NotStarted { errno, .. } => {
                (0, format!("Restoring child signal mask failed: '{}'", error_text(errno)))
            }
            Event::Received(libc::SIGCHLD) => (3, "Received SIGCHLD".into()),
            Event::Received(number) => (3, format!("Passing signal: '{}'", signal_text(number))),
            Event::NotForwarded { errno: Errno::ESRCH, .. } => (1, "Child was dead when forwarding signal".into()),
            Event::NotForwarded { errno, .. } => {
                (1, format!("Unexpected error when forwarding signal: '{}'", error_text(errno)))
            }
            Event::Died { exit: Exit::Code(code), main: true, .. } => {
                (2, format!("Main child exited normally (with status '{code}')"))
            }
            Event::Died { exit: Exit::Signal(number), main: true, .. } => {
                (2, format!("Main child exited with signal (with signal '{}')", signal_text(number)))
            }
            Event::Died { pid, .. } if self.warn_on_reap => (1, format!("Reaped zombie process with pid={pid}")),
            Event::NoneDead { childless: false } => (4, "No child to reap".into()),
            Event::NoneDead { childless: true } => (4, "No child to wait".into()),
            Event::Ended(_) => (4, "Exiting: child has exited".into()),
            Event::Failed { what, errno } => (0, format!("{what}: '{}'", error_text(errno))),
            _ => return None,
        })
    }

    /// The lines for an event. Warnings and worse go to standard error, the rest to standard output, as there.
    fn lines(self, event: &Event<'_>) -> Vec<Line> {
        let reaped = match event {
            Event::Died { pid, .. } => Some((3, format!("Reaped child with pid: '{pid}'"))),
            _ => None,
        };
        let said = reaped.into_iter().chain(self.words(event)).filter(|(level, _)| *level <= self.verbosity);
        said.map(
            |(level, text)| if level <= 1 { Line::Error(rank(level, &text)) } else { Line::Output(rank(level, &text)) },
        )
        .collect()
    }
}

const NO_REAPER: &str = "Tini is not running as PID 1 and isn't registered as a child subreaper.
Zombie processes will not be re-parented to Tini, so zombie reaping won't work.
To fix the problem, use the -s option or set the environment variable TINI_SUBREAPER to register Tini as a child \
subreaper, or run Tini as PID 1.";

impl Teller for Voice {
    fn tell(&mut self, event: &Event<'_>) {
        self.lines(event).iter().for_each(Line::write);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn with(words: &[&str], variables: &[(&str, &str)]) -> Result<Parsed<Voice>, Refusal> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let pairs = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        parse(OsStr::new("/sbin/docker-init"), &words, &Environment::from_pairs(pairs))
    }

    #[test]
    fn options_and_variables_say_the_same() {
        let typed = with(&["-sgvw", "-e143", "-e", "1", "-p", "SIGTERM", "--", "sh", "-c", "x"], &[]).unwrap();
        let told = typed.options;
        assert!(told.subreaper && told.group);
        assert_eq!((told.remap, told.parent_death), (vec![143, 1], Some(libc::SIGTERM)));
        assert_eq!(told.command, ["sh", "-c", "x"]);
        assert_eq!(typed.voice, Voice { verbosity: 2, warn_on_reap: true });
        let set = with(&["-vvv", "sh"], &[("TINI_SUBREAPER", ""), ("TINI_KILL_PROCESS_GROUP", "0")]).unwrap();
        assert!(set.options.subreaper && set.options.group, "set is set, to whatever");
    }

    #[rstest]
    #[case("3", 3)]
    #[case(" 2x", 2)]
    #[case("", 0)]
    #[case("no", 0)]
    #[case("-1", u32::MAX)]
    #[case("99999999999999999999", 0x7fff_ffff)]
    fn the_variable_replaces_the_verbosity(#[case] value: &str, #[case] verbosity: u32) {
        assert_eq!(with(&["-vv", "x"], &[("TINI_VERBOSITY", value)]).unwrap().voice.verbosity, verbosity);
    }

    #[rstest]
    #[case("0", Some(0))]
    #[case("255", Some(255))]
    #[case("+7", Some(7))]
    #[case(" 7", Some(7))]
    #[case("", Some(0))]
    #[case("-0", Some(0))]
    #[case("256", None)]
    #[case("-1", None)]
    #[case("7x", None)]
    #[case("0x7", None)]
    #[case("99999999999999999999", None)]
    #[case("+", None)]
    fn codes_are_read_as_strtol_does(#[case] text: &str, #[case] expected: Option<u8>) {
        assert_eq!(code(text.as_bytes()), expected);
    }

    #[rstest]
    #[case(&["-p", "TERM", "x"], "Not a valid option for -p: TERM")]
    #[case(&["-p", "15", "x"], "Not a valid option for -p: 15")]
    #[case(&["-e", "300", "x"], "Not a valid option for -e: 300")]
    #[case(&["-x"], "/sbin/docker-init: invalid option -- 'x'")]
    #[case(&["--version", "x"], "/sbin/docker-init: invalid option -- '-'")]
    #[case(&["-e"], "option requires an argument -- 'e'")]
    #[case(&[], "docker-init (tini version ")]
    #[case(&["-g", "--"], "Usage: docker-init ")]
    fn bad_words_are_refused_with_code_one(#[case] words: &[&str], #[case] text: &str) {
        let Refusal { code, line: Line::Error(said) } = with(words, &[]).unwrap_err() else { panic!("on stdout") };
        assert_eq!(code, 1);
        assert!(said.contains(text), "{said}");
    }

    #[test]
    fn help_version_and_licence_go_to_standard_output() {
        for (words, text) in [(["--version"], "tini version 0.19.0"), (["-h"], "-e EXIT_CODE"), (["-l"], "MIT")] {
            let Refusal { code, line: Line::Output(said) } = with(&words, &[]).unwrap_err() else {
                panic!("{words:?}")
            };
            assert_eq!(code, 0);
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn the_warning_about_orphans_has_its_level() {
        let lines = |verbosity| Voice { verbosity, warn_on_reap: false }.lines(&Event::NoReaper);
        assert_eq!(lines(0), []);
        let [Line::Error(said)] = &lines(1)[..] else { panic!("not one line") };
        assert!(said.starts_with("[WARN  tini (") && said.contains("zombie reaping won't work"), "{said}");
    }

    #[test]
    fn collected_orphans_are_told_with_w_only() {
        let event = Event::Died { pid: 77, exit: Exit::Code(0), main: false };
        assert_eq!(Voice { verbosity: 1, warn_on_reap: false }.lines(&event), []);
        let lines = Voice { verbosity: 1, warn_on_reap: true }.lines(&event);
        let [Line::Error(said)] = &lines[..] else { panic!("{lines:?}") };
        assert!(said.ends_with("Reaped zombie process with pid=77\n"), "{said}");
    }
}
