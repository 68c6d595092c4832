/*!
What happens to the plain PID 1, for each dialect to word in its own way.
*/
use std::ffi::OsStr;

use nix::errno::Errno;

use crate::sys::spawn::Step;
use crate::sys::wait::Exit;

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// We are a subreaper now.
    Subreaper,
    /// We are neither PID 1 nor a subreaper: orphans go elsewhere.
    NoReaper,
    /// We have no controlling terminal any more, and were the leader of its session or not.
    TerminalLeft {
        /// Whether the kernel sends us signals because of it.
        leader: bool,
    },
    /// There was no terminal to give up.
    TerminalKept(Errno),
    /// The child is there.
    Spawned {
        /// Its process id.
        pid: i32,
        /// What it was told to run.
        program: &'a OsStr,
    },
    /// The working directory could not be left.
    NoFolder(Errno),
    /// Told in the child: it has no terminal.
    NoTerminal(Errno),
    /// Told in the child: it has its own session.
    Parted,
    /// Told in the child: the program does not start.
    NotStarted {
        /// What failed.
        step: Step,
        /// Why.
        errno: Errno,
        /// The program.
        program: &'a OsStr,
    },
    /// A signal came.
    Received(i32),
    /// It comes from giving up the terminal, and is dropped.
    HandOff(i32),
    /// It is passed on as another one.
    Rewritten {
        /// What came.
        from: i32,
        /// What goes; 0 is nothing.
        to: i32,
    },
    /// It was passed on.
    Forwarded(i32),
    /// It is not passed on, because the user wants it so.
    Dropped,
    /// It could not be passed on.
    NotForwarded {
        /// What was to go.
        number: i32,
        /// Why it did not; `ESRCH`: the child, or all of its group, is dead.
        errno: Errno,
    },
    /// We stop ourselves.
    Suspending,
    /// A process was collected.
    Died {
        /// Its process id.
        pid: i32,
        /// How it ended.
        exit: Exit,
        /// Whether it was the command itself.
        main: bool,
    },
    /// Nobody is dead any more.
    NoneDead {
        /// Nor is anybody alive.
        childless: bool,
    },
    /// The command has ended, and now we do.
    Ended(Exit),
    /// A call of our own failed.
    Failed {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        errno: Errno,
    },
}

/// Words what happens. It must neither fail nor wait for anybody but the reader of our own streams.
pub trait Teller {
    /// Says it, or does not.
    fn tell(&mut self, event: &Event<'_>);
}
