/*!
The dialect of dumb-init 1.2.5: its options, variables, messages and exit codes. Its texts are compared word by word by
scripts and tests around it, so they are an interface like the options.

Its reading beyond the end of a table at every real-time signal is not taken over, nor is a signal to a process that
has been collected already.
*/
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc;

use super::getopt::{Known, Options};
use super::{Environment, Line, Parsed, Refusal};
use crate::init::plain::{Event, Parting, PlainOptions, Teller};
use crate::sys::spawn::Step;
use crate::sys::wait::Exit;
use crate::sys::words::error_text;

const VERSION: &str = "dumb-init v1.2.5";

/// Says more when it is `1`.
const DEBUG: &str = "DUMB_INIT_DEBUG";
/// As `-c` when it is `0`.
const SETSID: &str = "DUMB_INIT_SETSID";

/// The largest signal that can be rewritten.
const LAST: i32 = 31;

const fn known(letter: u8, long: &'static str, value: bool) -> Known {
    Known { letter, long: Some(long), value }
}

const OPTIONS: [Known; 5] = [
    known(b'h', "help", false),
    known(b'c', "single-child", false),
    known(b'r', "rewrite", true),
    known(b'v', "verbose", false),
    known(b'V', "version", false),
];

/// Signals of job control that reach the session as the one that cannot be caught.
const JOB_CONTROL: [i32; 3] = [libc::SIGTSTP, libc::SIGTTOU, libc::SIGTTIN];

/// Whether details are said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// `-v`.
    pub debug: bool,
    /// What the variables changed, said before anything else.
    pub notes: Vec<&'static str>,
}

/// Reads the words behind the name, and the environment.
pub fn parse(name: &OsStr, words: &[OsString], environment: &Environment) -> Result<Parsed<Voice>, Refusal> {
    let name = name.to_string_lossy();
    let (mut debug, mut session, mut rewrite) = (false, true, Vec::new());
    let mut options = Options::new(&OPTIONS, words);
    for option in options.by_ref() {
        let (letter, value) = option.map_err(|misfit| Refusal::usage(1, format!("{name}: {misfit}\n")))?;
        match letter {
            b'h' => return Err(Refusal::usage(0, help(&name))),
            b'V' => return Err(Refusal::usage(0, format!("{VERSION}\n"))),
            b'v' => debug = true,
            b'c' => session = false,
            _ => rewrite
                .push(rule(value.unwrap_or_default().as_bytes()).ok_or_else(|| Refusal::usage(1, BAD_RULE.into()))?),
        }
    }
    let command = options.command().to_vec();
    if command.is_empty() {
        let text = format!("Usage: {name} [option] program [args]\nTry {name} --help for full usage.\n");
        return Err(Refusal::usage(1, text));
    }
    let mut notes = Vec::new();
    if environment.get(DEBUG).is_some_and(|value| value == "1") {
        debug = true;
        notes.push("Running in debug mode.");
    }
    if environment.get(SETSID).is_some_and(|value| value == "0") {
        session = false;
        notes.push("Not running in setsid mode.");
    }
    if session {
        let own = |number: &i32| !rewrite.iter().any(|(from, _)| from == number);
        let stops: Vec<(i32, i32)> =
            JOB_CONTROL.into_iter().filter(own).map(|number| (number, libc::SIGSTOP)).collect();
        rewrite.extend(stops);
    }
    Ok(Parsed { options: told(command, session, rewrite), voice: Voice { debug, notes } })
}

fn told(command: Vec<OsString>, session: bool, rewrite: Vec<(i32, i32)>) -> PlainOptions {
    PlainOptions {
        command,
        parting: if session { Parting::Session } else { Parting::Together },
        untouched: Vec::new(),
        ignored: Vec::new(),
        group: session,
        rewrite,
        suspend: true,
        leave_terminal: session,
        subreaper: false,
        parent_death: None,
        remap: Vec::new(),
        farewell: true,
        leave_folder: true,
        leave_descriptors: false,
        hand_on_sockets: false,
        clean_signals: true,
        reap_often: false,
        own_failure: 1,
        exec_failure: |_| 2,
    }
}

/// `SIGNAL:SIGNAL` as `sscanf(3)` reads two numbers: blanks before each, and whatever behind them.
fn rule(text: &[u8]) -> Option<(i32, i32)> {
    let (from, rest) = number(text)?;
    let (to, _) = number(rest.strip_prefix(b":")?)?;
    ((1..=LAST).contains(&from) && (0..=LAST).contains(&to)).then_some((from, to))
}

/// The number that a text begins with, and what follows it. One that is too large is no signal anyway.
fn number(text: &[u8]) -> Option<(i32, &[u8])> {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(length)?;
    let size = std::str::from_utf8(digits).ok().filter(|digits| !digits.is_empty())?.parse().unwrap_or(i32::MAX);
    Some((if negative { -size } else { size }, rest))
}

const BAD_RULE: &str = "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.
This option can be specified multiple times.
Use --help for full usage.
";

fn help(name: &str) -> String {
    format!(
        "{VERSION}
Usage: {name} [OPTIONS] PROGRAM [ARGS]

Runs one program in a session of its own, passes signals to it and to what it starts, and collects what they leave behind.

  -c, --single-child   no session: signals go to the program alone
  -r, --rewrite S:R    pass signal number S on as R, or not at all for 0; may be repeated
  -v, --verbose        tell on standard error what is done
  -h, --help           print this help
  -V, --version        print the version
"
    )
}

impl Voice {
    /// Whether it is said without `-v` as well, and its words; `None`: dumb-init has none.
    fn words(event: &Event<'_>) -> Option<(bool, String)> {
        let why = |errno: Errno| format!("(errno={} {})", errno as i32, error_text(errno));
        let detail = |text: String| Some((false, text));
        match *event {
            Event::TerminalKept(errno) => detail(format!("Unable to detach from controlling tty {}.", why(errno))),
            Event::TerminalLeft { leader: true } => {
                detail("Detached from controlling tty, ignoring the first SIGHUP and SIGCONT we receive.".to_owned())
            }
            Event::TerminalLeft { leader: false } => {
                detail("Detached from controlling tty, but was not session leader.".to_owned())
            }
            Event::NoTerminal(errno) => detail(format!("Unable to attach to controlling tty {}.", why(errno))),
            Event::Parted => detail("setsid complete.".to_owned()),
            Event::NotStarted { step: Step::Session, errno, .. } => {
                Some((true, format!("Unable to setsid {}. Exiting.", why(errno))))
            }
            Event::NotStarted { errno, program, .. } => {
                Some((true, format!("{}: {}", program.to_string_lossy(), error_text(errno))))
            }
            Event::Spawned { pid, .. } => detail(format!("Child spawned with PID {pid}.")),
            Event::NoFolder(errno) => detail(format!("Unable to chdir(\"/\") {}", why(errno))),
            Event::Received(number) => detail(format!("Received signal {number}.")),
            Event::HandOff(number) => detail(format!("Ignoring tty hand-off signal {number}.")),
            Event::Rewritten { from, to } => detail(format!("Translating signal {from} to {to}.")),
            // It does not look at the answer of kill(2).
            Event::Forwarded(number) | Event::NotForwarded { number, .. } => {
                detail(format!("Forwarded signal {number} to children."))
            }
            Event::Dropped => detail("Not forwarding signal 0 to children (ignored).".to_owned()),
            Event::Suspending => detail("Suspending self due to TTY signal.".to_owned()),
            Event::Died { pid, exit: Exit::Code(code), .. } => {
                detail(format!("A child with PID {pid} exited with exit status {code}."))
            }
            Event::Died { pid, exit: Exit::Signal(number), .. } => {
                detail(format!("A child with PID {pid} was terminated by signal {number}."))
            }
            Event::Ended(exit) => detail(format!("Child exited with status {}. Goodbye.", exit.code())),
            Event::Failed { what, errno } => Some((true, format!("{what} {}.", why(errno)))),
            Event::Subreaper | Event::NoReaper | Event::NoneDead { .. } => None,
        }
    }

    fn line(&self, event: &Event<'_>) -> Option<Line> {
        let (always, text) = Self::words(event)?;
        (always || self.debug).then(|| Line::Error(format!("[dumb-init] {text}\n")))
    }

    /// Says what the variables changed.
    pub fn begin(&self) {
        for note in self.notes.iter().filter(|_| self.debug) {
            Line::Error(format!("[dumb-init] {note}\n")).write();
        }
    }
}

impl Teller for Voice {
    fn tell(&mut self, event: &Event<'_>) {
        if let Some(line) = self.line(event) {
            line.write();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn with(words: &[&str], variables: &[(&str, &str)]) -> Result<Parsed<Voice>, Refusal> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let pairs = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        parse(OsStr::new("dumb-init"), &words, &Environment::from_pairs(pairs))
    }

    #[test]
    fn a_session_of_its_own_is_the_default_and_stops_as_one() {
        let told = with(&["sh"], &[]).unwrap().options;
        assert_eq!((told.parting, told.group, told.leave_terminal), (Parting::Session, true, true));
        let stop = libc::SIGSTOP;
        assert_eq!(told.rewrite, [(libc::SIGTSTP, stop), (libc::SIGTTOU, stop), (libc::SIGTTIN, stop)]);
        let own = with(&["-r", "20:1", "sh"], &[]).unwrap().options.rewrite;
        assert_eq!(own, [(20, 1), (libc::SIGTTOU, stop), (libc::SIGTTIN, stop)], "a rule of the user's stays");
    }

    #[test]
    fn single_child_mode_has_three_names() {
        for (words, variables) in
            [(&["-c", "x"][..], &[][..]), (&["--single-child", "x"], &[]), (&["x"], &[("DUMB_INIT_SETSID", "0")])]
        {
            let told = with(words, variables).unwrap().options;
            assert_eq!((told.parting, told.group, told.leave_terminal), (Parting::Together, false, false));
            assert_eq!(told.rewrite, []);
        }
        assert!(with(&["x"], &[("DUMB_INIT_SETSID", "1")]).unwrap().options.group);
    }

    #[test]
    fn the_variable_for_details_must_be_one() {
        assert!(with(&["x"], &[("DUMB_INIT_DEBUG", "1")]).unwrap().voice.debug);
        assert!(!with(&["x"], &[("DUMB_INIT_DEBUG", "yes")]).unwrap().voice.debug);
        assert!(with(&["-v", "x"], &[]).unwrap().voice.debug);
    }

    #[rstest]
    #[case("15:2", Some((15, 2)))]
    #[case("1:0", Some((1, 0)))]
    #[case(" 31: 31 and more", Some((31, 31)))]
    #[case("+3:+4", Some((3, 4)))]
    #[case("0:1", None)]
    #[case("32:1", None)]
    #[case("1:32", None)]
    #[case("1:-1", None)]
    #[case("15", None)]
    #[case("15::12", None)]
    #[case("15 :12", None)]
    #[case("15:derp", None)]
    #[case("", None)]
    #[case("4294967311:15", None)]
    fn rules_are_read_as_sscanf_does(#[case] text: &str, #[case] expected: Option<(i32, i32)>) {
        assert_eq!(rule(text.as_bytes()), expected);
    }

    #[rstest]
    #[case(&[], 1, "Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n")]
    #[case(&["--yolo", "/bin/true"], 1, "dumb-init: unrecognized option '--yolo'\n")]
    #[case(&["-r", "15:12", "-r", "1:32", "x"], 1, BAD_RULE)]
    #[case(&["-V"], 0, "dumb-init v1.2.5\n")]
    #[case(&["--version"], 0, "dumb-init v1.2.5\n")]
    fn refusals_go_to_standard_error(#[case] words: &[&str], #[case] code: u8, #[case] text: &str) {
        assert_eq!(with(words, &[]).unwrap_err(), Refusal { code, line: Line::Error(text.into()) });
    }

    #[test]
    fn failures_are_said_without_being_asked_for() {
        let quiet = Voice { debug: false, notes: vec![] };
        let missing = Event::NotStarted { step: Step::Exec, errno: Errno::ENOENT, program: OsStr::new("/x") };
        assert_eq!(quiet.line(&missing), Some(Line::Error("[dumb-init] /x: No such file or directory\n".into())));
        assert_eq!(quiet.line(&Event::Received(15)), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_within_bounds_or_none(text in any::<Vec<u8>>()) {
            if let Some((from, to)) = rule(&text) {
                prop_assert!((1..=31).contains(&from) && (0..=31).contains(&to));
            }
        }

        #[test]
        fn a_written_rule_is_read_as_it_was_meant(from in 1..=31, to in 0..=31) {
            prop_assert_eq!(rule(format!("{from}:{to}").as_bytes()), Some((from, to)));
        }
    }
}
