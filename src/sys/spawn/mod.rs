/*!
Starting a child process with everything that PID 1 and the sandbox agent must settle before `execve`.

`std::process::Command` cannot be used by them: it hands a blocked signal mask on, it cannot write the child's own
pid into `LISTEN_PID`, and it reaps by itself, which a process that reaps everything must not allow. Here the child
runs only async-signal-safe calls on memory prepared before `fork`, so it is sound in a threaded test runner too.
*/
#![allow(unsafe_code)]

mod child;
mod error;
pub mod heir;
mod memory;
mod search;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::inheritance::Inheritance;
use super::signal_set::SignalSet;

use self::child::{child, run_steps};
use self::memory::{open_null, prepare};

pub use self::error::{SpawnError, Step};
pub use self::search::{DEFAULT_PATH, LookUpError, find_program, look_up};
/// Where one of the three standard streams of a child leads.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The same as ours.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// This descriptor.
    Fd(OwnedFd),
}

/// Which session and process group the child lives in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The caller's.
    #[default]
    Keep,
    /// A process group of its own.
    Group,
    /// A process group of its own that is put in the foreground of the terminal on standard input, if there is one.
    Foreground,
    /// A session of its own.
    New,
    /// A session of its own whose controlling terminal is the child's standard input.
    NewWithTerminal,
}

/// User and groups of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// A resource limit of a child (`setrlimit(2)`): resource, soft and hard value.
pub type ResourceLimit = (nix::sys::resource::Resource, u64, u64);

/// A program to start. `Default` plus `program` and `argv` starts it as a plain child.
#[derive(Debug, Default)]
pub struct Spawn {
    /// Path of the executable; not searched in `PATH` (see [`find_program`]).
    pub program: PathBuf,
    /// All arguments, the name the program is called by first.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; `None` keeps the caller's.
    pub cwd: Option<PathBuf>,
    /// Standard input, output and error.
    pub stdio: [Stdio; 3],
    /// Sockets handed over by the activation protocol of `sd_listen_fds(3)`: they become descriptors 3, 4, … and
    /// `LISTEN_FDS` and `LISTEN_PID` are added to the environment. Borrowed: the caller keeps them for a restart.
    pub listen_fds: Vec<RawFd>,
    /// Session and process group.
    pub session: Session,
    /// Signal the kernel sends to the child when the caller's thread dies.
    pub parent_death: Option<nix::sys::signal::Signal>,
    /// Drop to this user before the start.
    pub identity: Option<Identity>,
    /// Empty all capability sets, the bounding set included.
    pub drop_capabilities: bool,
    /// Set `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// Value for `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// Signals that the child finds ignored; all others have their default action.
    pub ignored: SignalSet,
    /// Signals that the child finds blocked.
    pub blocked: SignalSet,
}

impl Spawn {
    /// With signals as this process was started with them: for a program that somebody else had us start. Ask `found` of
    /// [`Inheritance::of_process`] before any of ours is caught.
    #[must_use]
    pub fn with_signals_of(self, found: &Inheritance) -> Self {
        Self { ignored: found.ignored, blocked: found.blocked, ..self }
    }
}

/// Starts the program and returns once `execve` succeeded or failed.
///
/// Signal dispositions of the child are the default and nothing is blocked, unless `spawn` says otherwise. Every descriptor that
/// is not named in it is closed. The child must be reaped by the caller.
pub fn spawn(spawn: &Spawn) -> Result<Pid, SpawnError> {
    let program = spawn.program.display().to_string();
    let fail = |step, errno| SpawnError::Call { program: program.clone(), step, errno };
    let null = if spawn.stdio.iter().any(|stream| matches!(stream, Stdio::Null)) {
        Some(open_null().map_err(|errno| fail(Step::Stdio, errno))?)
    } else {
        None
    };
    let mut prepared = prepare(spawn, null.as_ref())?;
    let (report_read, report_write) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| fail(Step::Pipe, errno))?;

    // Signals stay blocked over the fork so that no handler of ours runs in the child before it is reset.
    let mut all = nix::sys::signal::SigSet::all();
    let mut before = nix::sys::signal::SigSet::empty();
    nix::sys::signal::pthread_sigmask(nix::sys::signal::SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before))
        .map_err(|errno| fail(Step::Fork, errno))?;
    // SAFETY: the child calls only async-signal-safe functions (see `child`) and never returns.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        child(spawn, &mut prepared, report_write.as_raw_fd());
    }
    let fork_errno = Errno::last();
    all = before;
    let restored = nix::sys::signal::pthread_sigmask(nix::sys::signal::SigmaskHow::SIG_SETMASK, Some(&all), None);
    if forked < 0 {
        return Err(fail(Step::Fork, fork_errno));
    }
    drop(report_write);
    let mut report = [0_u8; 5];
    let got = read_all(report_read.as_raw_fd(), &mut report);
    if let (true, Some((step, errno))) = (got == report.len(), report.split_first()) {
        let errno = errno.try_into().map_or(Errno::UnknownErrno, |raw| Errno::from_raw(i32::from_ne_bytes(raw)));
        let step = Step::ALL.get(usize::from(*step)).copied().unwrap_or(Step::Exec);
        // The child has already called _exit; nobody else knows its pid.
        let _ = nix::sys::wait::waitpid(Pid::from_raw(forked), None);
        return Err(fail(step, errno));
    }
    restored.map_err(|errno| fail(Step::Fork, errno))?;
    Ok(Pid::from_raw(forked))
}

/// Replaces this process by the program; returns only when that failed. What is no program and does not begin with `#!` is a script for
/// `/bin/sh`, as it is for a shell and for execvp(3).
pub fn exec(spawn: &Spawn) -> SpawnError {
    match exec_as_it_is(spawn) {
        SpawnError::Call { step: Step::Exec, errno: Errno::ENOEXEC, .. } => {
            let words = spawn.argv.iter().skip(1).cloned();
            let argv = ["sh".into(), spawn.program.clone().into()].into_iter().chain(words).collect();
            let (env, ignored, blocked) = (spawn.env.clone(), spawn.ignored, spawn.blocked);
            // All that comes before the program is done.
            exec_as_it_is(&Spawn { program: "/bin/sh".into(), argv, env, ignored, blocked, ..Spawn::default() })
        }
        error => error,
    }
}

fn exec_as_it_is(spawn: &Spawn) -> SpawnError {
    let program = spawn.program.display().to_string();
    let null = if spawn.stdio.iter().any(|stream| matches!(stream, Stdio::Null)) { open_null().ok() } else { None };
    match prepare(spawn, null.as_ref()) {
        Err(error) => error,
        Ok(mut prepared) => {
            let (step, errno) = run_steps(spawn, &mut prepared, -1);
            SpawnError::Call { program, step, errno }
        }
    }
}
fn read_all(fd: RawFd, buffer: &mut [u8]) -> usize {
    let mut got = 0;
    while let Some(room) = buffer.get_mut(got..).filter(|room| !room.is_empty()) {
        // SAFETY: `room` is a live slice of exactly that length.
        let count = unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) };
        match usize::try_from(count) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    got
}
/// Duplicates a descriptor to a number of at least `floor`, close-on-exec, so that it stays clear of the places that
/// [`Spawn::listen_fds`] fills.
pub fn duplicate_above(fd: RawFd, floor: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC returns a new descriptor that nobody else owns, or -1.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, floor) };
    Errno::result(copy)?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
