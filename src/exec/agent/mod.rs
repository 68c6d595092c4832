/*!
The agent: PID 1 of the sandbox container.

It takes one job as framed messages on its standard input (see [`crate::exec::protocol`]), runs it as another user
and without any privilege, and tells how it ended on its standard output. It is synchronous and single-threaded: one
poll loop ([`session`](self)) over the caller, the program and the clock, so that neither a caller who does not read
nor a program that does not write, read or die can hold the others up.

The container needs the capabilities SETUID, SETGID and KILL for it, `NET_ADMIN` where its network is to be filtered
(dropped when that is done), and nothing else. SETPCAP, with which the bounding
set could be emptied, is left out on purpose: the program runs with empty sets and `no_new_privs`, under which no
`execve` gives it anything from the bounding set (capabilities(7)), so the agent would only be stronger for it.

What a program of the sandbox cannot do: open the agent's descriptors or memory (other user, not dumpable), inherit
its streams (close-on-exec), signal it (other user; and PID 1 of a namespace cannot be killed from inside), or be
followed through a link (no path is opened once it runs).
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::time::Duration;

use session::{Session, Stop};

mod access;
pub mod accounts;
mod alarm;
mod authorities;
mod caller;
mod channel;
mod classify;
mod cpu;
mod desk;
mod egress;
mod ending;
mod environment;
mod feeder;
mod household;
mod keeper;
mod outbox;
mod prepare;
mod program;
mod refusal;
mod session;
mod tree;
mod unpack;
mod usage;
mod work;

/// The job was reported, whatever became of it.
pub const EXIT_REPORTED: u8 = 0;
/// The caller left, or did not read its report.
pub const EXIT_GONE: u8 = 3;
/// No job came in time.
pub const EXIT_IDLE: u8 = 4;
/// The agent could not begin.
pub const EXIT_SETUP: u8 = 125;

/// How long a caller that has its report may take to leave. When PID 1 ends, the daemon closes the attach stream, and
/// a report that it has not forwarded by then would be lost.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the agent behaves, and where it finds what it reads.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long it waits for a job, and for the next piece of an archive, before it ends itself.
    pub idle: Duration,
    /// Mount point of the control groups.
    pub cgroup_root: PathBuf,
    /// Mount point of the process file system.
    pub proc_root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), cgroup_root: "/sys/fs/cgroup".into(), proc_root: "/proc".into() }
    }
}

/// Runs the agent on standard input and output; returns the process's exit code ([`EXIT_REPORTED`] and its
/// neighbours). When it is PID 1, everything that is left of the sandbox ends with it.
pub fn run(options: &Options) -> u8 {
    let mut session = match Session::begin(options) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("dindctl: agent: {error}");
            return EXIT_SETUP;
        }
    };
    match work::work(&mut session) {
        Ok(()) => {
            session.linger(FAREWELL);
            EXIT_REPORTED
        }
        Err(stop) => {
            work::abandon(&session);
            eprintln!("dindctl: agent: {stop}");
            if matches!(stop, Stop::Idle(_)) { EXIT_IDLE } else { EXIT_GONE }
        }
    }
}
