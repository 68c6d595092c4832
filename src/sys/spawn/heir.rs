/*!
A child that finds everything as our own caller left it: environment, descriptors, signals, streams. The program is
looked for, and a script without `#!` is run, as `execvp(3)` does.

Unlike with [`super::spawn`], what goes wrong is told in the child, which then ends with a code: the parent sees a
child that died, and goes on as with any other.
*/
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::Step;
use super::child::write_pid;
use super::memory::{LISTEN_PID, LISTEN_PID_ROOM};
use crate::sys::inheritance::Inheritance;
use crate::sys::signal_set::{SignalSet, block, set_ignored};

unsafe extern "C" {
    /// The environment of this process; Rust only reads and sets it through the C library.
    static environ: *const *const libc::c_char;
}

/// How the child parts from our group and session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// Not at all.
    Together,
    /// A group of its own, in the foreground of the terminal on standard input.
    Foreground,
    /// A session of its own, whose controlling terminal is the one on standard input.
    Session,
}

/// What happens in the child before the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// There is no terminal on standard input that the child could have.
    NoTerminal(Errno),
    /// The child has the session that it was to have.
    Parted,
    /// The program is not there, or something before it failed.
    Failed(Step, Errno),
}

/// The child to be.
#[derive(Debug)]
pub struct Heir<'a> {
    /// The program, with a slash or to be looked for in `PATH`, and its arguments.
    pub argv: &'a [OsString],
    /// Working directory; `None` is ours.
    pub folder: Option<&'a OwnedFd>,
    /// Group and session.
    pub parting: Parting,
    /// Signals and streams.
    pub inheritance: Inheritance,
    /// Whether a `LISTEN_PID` that names us names the child instead (`sd_listen_fds(3)`).
    pub hand_on_sockets: bool,
}

/// Starts the child and returns at once, whether the program can be executed or not.
///
/// `told` runs in the child, before the program; what it gives for [`Birth::Failed`] is the child's exit code. This
/// process must have one thread: with more of them, `told` could wait for a lock that another one held.
pub fn start(heir: &Heir<'_>, told: &mut dyn FnMut(Birth) -> u8) -> Result<Pid, Errno> {
    let argv: Vec<CString> = heir
        .argv
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| Errno::EINVAL)?;
    let mut argv_ptrs: Vec<*const libc::c_char> = argv.iter().map(|word| word.as_ptr()).collect();
    argv_ptrs.push(ptr::null());
    let mut listen_pid = Box::new([0_u8; LISTEN_PID_ROOM]);
    for (room, byte) in listen_pid.iter_mut().zip(LISTEN_PID) {
        *room = *byte;
    }
    let environment = environment(heir.hand_on_sockets.then_some(&*listen_pid));
    // SAFETY: this process has one thread, so the child may do what it likes; it never returns from here.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // SAFETY: no memory is passed.
        write_pid(&mut listen_pid, unsafe { libc::getpid() });
        let (step, errno) = become_program(heir, &argv_ptrs, &environment, told);
        let code = told(Birth::Failed(step, errno));
        // SAFETY: ends the child without running what the parent registered for its own end.
        unsafe { libc::_exit(i32::from(code)) }
    }
    Errno::result(forked).map(Pid::from_raw)
}

/// Our own environment, entry by entry as it is, with the entry for the child in the place of a `LISTEN_PID` of ours.
fn environment(listen_pid: Option<&[u8; LISTEN_PID_ROOM]>) -> Vec<*const libc::c_char> {
    let ours = format!("LISTEN_PID={}", std::process::id());
    let mut entries = Vec::new();
    // SAFETY: `environ` is null or an array of NUL-terminated strings that ends with null; nobody changes it meanwhile.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let named = std::ffi::CStr::from_ptr(*entry).to_bytes() == ours.as_bytes();
            entries.push(match listen_pid {
                Some(room) if named => room.as_ptr().cast(),
                _ => *entry,
            });
            entry = entry.add(1);
        }
    }
    entries.push(ptr::null());
    entries
}

/// The child's side; returns what failed.
fn become_program(
    heir: &Heir<'_>,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    told: &mut dyn FnMut(Birth) -> u8,
) -> (Step, Errno) {
    // SAFETY: calls without memory, but for the last, whose arrays end with null and outlive it.
    unsafe {
        match heir.parting {
            Parting::Together => {}
            Parting::Foreground => {
                if libc::setpgid(0, 0) < 0 {
                    return (Step::Session, Errno::last());
                }
                // SIGTTOU is blocked or ignored here, so this does not stop us.
                if libc::tcsetpgrp(0, libc::getpgrp()) < 0 {
                    told(Birth::NoTerminal(Errno::last()));
                }
            }
            Parting::Session => {
                if libc::setsid() < 0 {
                    return (Step::Session, Errno::last());
                }
                if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    told(Birth::NoTerminal(Errno::last()));
                }
                told(Birth::Parted);
            }
        }
        if let Some(folder) = heir.folder
            && libc::fchdir(folder.as_raw_fd()) < 0
        {
            return (Step::Chdir, Errno::last());
        }
        let Inheritance { ignored, blocked, closed } = heir.inheritance;
        if let Err(errno) = restore(ignored, blocked) {
            return (Step::Signals, errno);
        }
        for (fd, _) in (0..).zip(closed).filter(|(_, closed)| *closed) {
            libc::close(fd);
        }
        match argv.first() {
            Some(program) if !program.is_null() => libc::execvpe(*program, argv.as_ptr(), environment.as_ptr()),
            _ => return (Step::Exec, Errno::ENOENT),
        };
        (Step::Exec, Errno::last())
    }
}

/// Dispositions first: an ignored signal that waits must not be delivered with its default action.
fn restore(ignored: SignalSet, blocked: SignalSet) -> Result<(), Errno> {
    for number in (1..=64).filter(|number| ![libc::SIGKILL, libc::SIGSTOP].contains(number)) {
        set_ignored(number, ignored.contains(number))?;
    }
    block(blocked).map(drop)
}
