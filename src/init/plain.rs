/*!
The duty of PID 1 and nothing else, as tini and dumb-init have it: start one command, pass signals to it, reap
everything, and end with its exit code as soon as it ends.
*/
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::event_loop::wait;
use super::reaper::harvest_children;
use super::say::{Logger, Say, StderrLogger};
use super::signals::{catch, forwardable};
use crate::sys::signal;
use crate::sys::spawn::{Session, Spawn, spawn};
use crate::sys::wait::{Exit, signal_name};

/// What the plain PID 1 is told. The options are those of tini and dumb-init under one roof.
#[allow(clippy::struct_excessive_bools)] // Each is one independent flag of those programs.
#[derive(Debug)]
pub struct PlainOptions {
    /// The command. [`PlainOptions::new`] puts it into the foreground of the terminal, in a group of its own.
    pub spawn: Spawn,
    /// Signals go to the whole process group of the command (`tini -g`); needs a session or group of its own.
    pub group: bool,
    /// Become a subreaper, for use as something else than PID 1 (`tini -s`).
    pub subreaper: bool,
    /// Signal we get ourselves when our parent dies (`tini -p`).
    pub parent_death: Option<Signal>,
    /// Tell of every orphan that is reaped (`tini -w`).
    pub warn_on_reap: bool,
    /// Exit codes of the command that are reported as 0 (`tini -e`).
    pub remap: Vec<u8>,
    /// Signals passed on as another one, or dropped for 0 (`dumb-init -r`).
    pub rewrite: Vec<(i32, i32)>,
    /// Ask the rest of the command's group to end when the command has ended (`dumb-init` without `-c`).
    pub terminate_group: bool,
    /// How our own lines look.
    pub say: Say,
}

impl PlainOptions {
    /// tini's behaviour without any option.
    pub fn new(spawn: Spawn) -> Self {
        Self {
            spawn: Spawn { session: Session::Foreground, ..spawn },
            group: false,
            subreaper: false,
            parent_death: None,
            warn_on_reap: false,
            remap: Vec::new(),
            rewrite: Vec::new(),
            terminate_group: false,
            say: Say::default(),
        }
    }
}

/// Exit code when we cannot do our own part.
const OWN_FAILURE: u8 = 125;

/// Runs the command and gives the exit code for the container: the command's own after `remap`, 128 plus the number
/// of the signal that ended it, 127 not found, 126 not executable, 125 for a failure of our own.
pub fn run_plain(options: &PlainOptions) -> u8 {
    let mut log = StderrLogger(options.say);
    match run(options, &mut log) {
        Ok(code) => code,
        Err((code, message)) => {
            log.error(&message);
            code
        }
    }
}

fn run(options: &PlainOptions, log: &mut impl Logger) -> Result<u8, (u8, String)> {
    let own = |what: &'static str| move |error| (OWN_FAILURE, format!("{what}: {error}"));
    if let Some(signal) = options.parent_death {
        nix::sys::prctl::set_pdeathsig(signal).map_err(own("cannot set the parent death signal"))?;
    }
    if options.subreaper {
        nix::sys::prctl::set_child_subreaper(true).map_err(own("cannot become a subreaper"))?;
    } else if Pid::this().as_raw() != 1 {
        log.warn("not running as PID 1 and not a subreaper: orphans will not be reaped here");
    }
    let mut caught = forwardable();
    caught.push(libc::SIGCHLD);
    let mut signals = catch(&caught).map_err(|error| (OWN_FAILURE, error.to_string()))?;
    let child = spawn(&options.spawn).map_err(|error| (error.exit_code(), error.to_string()))?.as_raw();

    // From here on nothing ends us but the end of the child.
    let mut end = reap(child, options.warn_on_reap, log);
    loop {
        for number in signals.drain() {
            if number == libc::SIGCHLD {
                end = end.or(reap(child, options.warn_on_reap, log));
            } else if end.is_none() {
                forward(child, number, options, log);
            }
        }
        if let Some(exit) = end {
            if options.terminate_group {
                // ESRCH: the group died with the command.
                let _ = signal::send_to_group(child, libc::SIGTERM);
            }
            return Ok(remapped(exit, &options.remap));
        }
        if let Err(errno) = wait(&[signals.as_fd()], &[], None) {
            log.error(&format!("cannot wait for events: {errno}"));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// Collects all who are dead now; the end of the command if it is among them.
fn reap(child: i32, warn: bool, log: &mut impl Logger) -> Option<Exit> {
    let mut end = None;
    loop {
        match harvest_children() {
            Ok(harvest) => {
                for death in harvest.deaths {
                    if death.pid == child {
                        end = Some(death.exit);
                    } else if warn {
                        log.warn(&format!("reaped zombie process with pid={}", death.pid));
                    }
                }
                if !harvest.more {
                    return end;
                }
            }
            Err(errno) => {
                log.error(&format!("cannot collect dead children: {errno}"));
                return end;
            }
        }
    }
}

fn forward(child: i32, number: i32, options: &PlainOptions, log: &mut impl Logger) {
    let number = rewritten(number, &options.rewrite);
    if number == 0 {
        return;
    }
    let sent = if options.group { signal::send_to_group(child, number) } else { signal::send(child, number) };
    if let Err(errno) = sent {
        log.warn(&format!("cannot forward {}: {errno}", signal_name(number)));
    }
}

fn rewritten(number: i32, table: &[(i32, i32)]) -> i32 {
    table.iter().find(|(from, _)| *from == number).map_or(number, |(_, to)| *to)
}

fn remapped(exit: Exit, to_zero: &[u8]) -> u8 {
    if to_zero.contains(&exit.code()) { 0 } else { exit.code() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_codes_become_zero_and_others_stay() {
        assert_eq!(remapped(Exit::Signal(15), &[143]), 0);
        assert_eq!(remapped(Exit::Code(143), &[143]), 0);
        assert_eq!(remapped(Exit::Code(3), &[143]), 3);
    }

    #[test]
    fn a_rewritten_signal_changes_or_goes() {
        let table = [(15, 3), (1, 0)];
        assert_eq!([15, 1, 2].map(|number| rewritten(number, &table)), [3, 0, 2]);
    }
}
