/*!
The duty of PID 1 and nothing else, as tini, dumb-init and catatonit have it: start one command, pass signals to it,
reap everything, and end with its exit code as soon as it ends.

What those programs do differently is data in [`PlainOptions`]; what they say about it is for a [`Teller`] to word. All
signals are blocked and taken from the kernel's queue one by one, so nothing wakes us but a signal, none is lost, and
no descriptor of ours exists.
*/
pub mod answer;
pub mod event;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, chdir};

use self::answer::{Answer, Answers};
use super::reaper::harvest_children;
use crate::sys::descriptors::close_from;
use crate::sys::inheritance::Inheritance;
use crate::sys::memory::release_program;
use crate::sys::signal::{send, send_to_group};
use crate::sys::signal_set::{SignalSet, Taken, block, set_ignored, take, take_within};
use crate::sys::spawn::Step;
use crate::sys::spawn::heir::{Birth, Heir, start};
use crate::sys::terminal::leave_terminal;
use crate::sys::wait::Exit;

pub use self::event::{Event, Teller};
pub use crate::sys::spawn::heir::Parting;

/// Signals of faults: sent from outside they act on us as on anybody.
pub const FAULTS: [i32; 7] =
    [libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

/// What job control sends to those in the background who read from the terminal or write to it.
pub const BACKGROUND: [i32; 2] = [libc::SIGTTIN, libc::SIGTTOU];

/// What the plain PID 1 is told. The options are those of the three programs under one roof.
#[allow(clippy::struct_excessive_bools)] // Each is one independent trait of those programs.
#[derive(Debug, Clone)]
pub struct PlainOptions {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Group and session of the command.
    pub parting: Parting,
    /// Signals that are left alone: neither blocked nor passed on. What else comes is passed on.
    pub untouched: Vec<i32>,
    /// Signals that we ignore ourselves; the command has them as we found them.
    pub ignored: Vec<i32>,
    /// Signals go to the whole process group of the command (`tini -g`); needs a session or group of its own.
    pub group: bool,
    /// Signals passed on as another one, or dropped for 0 (`dumb-init -r`). The last entry for a signal counts.
    pub rewrite: Vec<(i32, i32)>,
    /// Stop ourselves as well when a signal of job control was passed on, so that the shell above sees us stopped.
    pub suspend: bool,
    /// Give up our controlling terminal, so that the command's session can have it.
    pub leave_terminal: bool,
    /// Become a subreaper, for use as something else than PID 1 (`tini -s`).
    pub subreaper: bool,
    /// Signal we get ourselves when our parent dies (`tini -p`).
    pub parent_death: Option<i32>,
    /// Exit codes of the command that are reported as 0 (`tini -e`).
    pub remap: Vec<u8>,
    /// Pass SIGTERM on when the command has ended, for the rest of its group.
    pub farewell: bool,
    /// Go to `/` before the command runs in its folder, so that no file system stays busy because of us.
    pub leave_folder: bool,
    /// Close every descriptor but the standard streams once the command runs.
    pub leave_descriptors: bool,
    /// A `LISTEN_PID` that names us names the command instead.
    pub hand_on_sockets: bool,
    /// Give the command default actions for all signals but real-time ones, and none blocked, instead of what we found.
    pub clean_signals: bool,
    /// Look for the dead after every signal, not only after `SIGCHLD`.
    pub reap_often: bool,
    /// Exit code when we cannot do our own part.
    pub own_failure: u8,
    /// Exit code when the program cannot be executed.
    pub exec_failure: fn(Errno) -> u8,
}

/// Runs the command and gives the exit code for the container: the command's own after `remap`, or 128 plus the number
/// of the signal that ended it. Needs a process with one thread.
pub fn run_plain(options: &PlainOptions, teller: &mut dyn Teller) -> u8 {
    match prepared(options, teller) {
        Ok((child, answers, taken)) => serve(child, answers, taken, options, teller),
        Err((what, errno)) => {
            teller.tell(&Event::Failed { what, errno });
            options.own_failure
        }
    }
}

/// No process has this number.
const NOBODY: i32 = 0;

/// What failed, and why.
type Failure = (&'static str, Errno);

/// Everything up to the child's start.
fn prepared(options: &PlainOptions, teller: &mut dyn Teller) -> Result<(i32, Answers, SignalSet), Failure> {
    let found = Inheritance::of_process();
    let taken = SignalSet::ALL.without(&options.untouched);
    block(taken).map_err(|errno| ("cannot block signals", errno))?;
    for number in dispositions_to_mend(options) {
        set_ignored(number, options.ignored.contains(&number))
            .map_err(|errno| ("cannot set the disposition of a signal", errno))?;
    }
    if let Some(number) = options.parent_death {
        set_parent_death(number).map_err(|errno| ("cannot set the parent death signal", errno))?;
    }
    adopt(options, teller)?;
    // Whoever died before the signals were blocked told nobody, and from now on everybody does.
    while reap(NOBODY, teller).more {}
    let answers =
        Answers { rewrite: options.rewrite.clone(), suspend: options.suspend, hand_off: part(options, teller) };
    let inheritance = if options.clean_signals {
        Inheritance { ignored: found.ignored.and(SignalSet::REAL_TIME), blocked: SignalSet::EMPTY, ..found }
    } else {
        found
    };
    let program = options.command.first().map(OsString::as_os_str).unwrap_or_default();
    let folder = if options.leave_folder { left_folder(teller) } else { None };
    let heir = Heir {
        argv: &options.command,
        folder: folder.as_ref(),
        parting: options.parting,
        inheritance,
        hand_on_sockets: options.hand_on_sockets,
    };
    let child = start(&heir, &mut |birth| {
        match birth {
            Birth::NoTerminal(errno) => teller.tell(&Event::NoTerminal(errno)),
            Birth::Parted => teller.tell(&Event::Parted),
            Birth::Failed(step, errno) => teller.tell(&Event::NotStarted { step, errno, program }),
        }
        match birth {
            Birth::Failed(Step::Exec, errno) => (options.exec_failure)(errno),
            _ => options.own_failure,
        }
    })
    .map_err(|errno| ("cannot fork", errno))?
    .as_raw();
    teller.tell(&Event::Spawned { pid: child, program });
    // From here on nothing ends us but the end of the child.
    drop(folder);
    if options.leave_descriptors {
        close_from(3);
    }
    Ok((child, answers, taken))
}

/// Rust's own start handles the two faults that a full stack raises, which would swallow the first one sent from
/// outside; and children of somebody who ignores `SIGCHLD` leave no exit code behind.
fn dispositions_to_mend(options: &PlainOptions) -> impl Iterator<Item = i32> {
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGCHLD].into_iter().chain(options.ignored.iter().copied())
}

fn set_parent_death(number: i32) -> Result<(), Errno> {
    let signal = nix::sys::signal::Signal::try_from(number)?;
    nix::sys::prctl::set_pdeathsig(signal)
}

/// Makes us the one that orphans come to, or says that we are not.
fn adopt(options: &PlainOptions, teller: &mut dyn Teller) -> Result<(), Failure> {
    if options.subreaper {
        nix::sys::prctl::set_child_subreaper(true).map_err(|errno| ("cannot become a subreaper", errno))?;
        teller.tell(&Event::Subreaper);
    } else if Pid::this().as_raw() != 1 && nix::sys::prctl::get_child_subreaper() != Ok(true) {
        teller.tell(&Event::NoReaper);
    }
    Ok(())
}

/// Goes to `/`, so that the command never finds us in its own folder; what the child needs to go back there.
fn left_folder(teller: &mut dyn Teller) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match open(".", flags, Mode::empty()).and_then(|folder| chdir("/").map(|()| folder)) {
        Ok(folder) => Some(folder),
        Err(errno) => {
            teller.tell(&Event::NoFolder(errno));
            None
        }
    }
}

/// Gives up the terminal; the signals that the kernel sends us because of it.
fn part(options: &PlainOptions, teller: &mut dyn Teller) -> SignalSet {
    if !options.leave_terminal {
        return SignalSet::EMPTY;
    }
    if let Err(errno) = leave_terminal() {
        teller.tell(&Event::TerminalKept(errno));
        return SignalSet::EMPTY;
    }
    let leader = nix::unistd::getsid(None) == Ok(Pid::this());
    teller.tell(&Event::TerminalLeft { leader });
    if leader { SignalSet::EMPTY.with(libc::SIGHUP).with(libc::SIGCONT) } else { SignalSet::EMPTY }
}

/// Takes one signal after the other until the child has ended.
fn serve(child: i32, mut answers: Answers, set: SignalSet, options: &PlainOptions, teller: &mut dyn Teller) -> u8 {
    let (mut turn, mut settled) = (Turn::default(), false);
    let exit = loop {
        if let Some(exit) = turn.end {
            break exit;
        }
        let look = match next(set, turn.more, &mut settled) {
            // Raised by a line of ours that nobody reads: not meant for the command.
            Ok(Some(Taken { number: libc::SIGPIPE, own: true })) => false,
            Ok(Some(Taken { number, .. })) => {
                teller.tell(&Event::Received(number));
                let answer = answers.to(number);
                obey(answer, number, child, &answers, options, teller);
                answer == Answer::Reap || options.reap_often
            }
            Ok(None) => true,
            Err(errno) => {
                teller.tell(&Event::Failed { what: "cannot wait for signals", errno });
                std::thread::sleep(Duration::from_millis(100));
                true
            }
        };
        if look {
            turn = reap(child, teller);
            if !turn.more {
                teller.tell(&Event::NoneDead { childless: turn.childless });
            }
        }
    };
    if options.farewell {
        // The command itself is collected, its number free for others: only its group can be addressed any more.
        let rest = if options.group { Receiver::RestOf(child) } else { Receiver::Nobody };
        forward(rest, libc::SIGTERM, &answers, teller);
    }
    teller.tell(&Event::Ended(exit));
    if options.remap.contains(&exit.code()) { 0 } else { exit.code() }
}

/// Quiet time after which the pages that the start needed are given back. Commands that are short do not pay for that.
const SETTLED: Duration = Duration::from_secs(1);

/// The next signal; `None` when there are dead to collect before one comes. The wait has no end once all is quiet.
fn next(set: SignalSet, more: bool, settled: &mut bool) -> Result<Option<Taken>, Errno> {
    if more {
        return take_within(set, Duration::ZERO);
    }
    if !*settled {
        if let Some(taken) = take_within(set, SETTLED)? {
            return Ok(Some(taken));
        }
        *settled = true;
        // Without procfs they stay, which costs some memory and nothing else.
        let _ = release_program(Path::new("/proc"));
    }
    take(set).map(Some)
}

/// What one look at the dead gave.
#[derive(Default)]
struct Turn {
    /// How the child ended, if it was among them.
    end: Option<Exit>,
    /// There may be more of them.
    more: bool,
    /// There is nobody left, dead or alive.
    childless: bool,
}

fn reap(child: i32, teller: &mut dyn Teller) -> Turn {
    let harvest = match harvest_children() {
        Ok(harvest) => harvest,
        Err(errno) => {
            teller.tell(&Event::Failed { what: "cannot collect dead children", errno });
            return Turn::default();
        }
    };
    let mut turn = Turn { end: None, more: harvest.more, childless: harvest.childless };
    for death in harvest.deaths {
        let main = death.pid == child;
        teller.tell(&Event::Died { pid: death.pid, exit: death.exit, main });
        if main {
            turn.end = Some(death.exit);
        }
    }
    turn
}

fn obey(answer: Answer, number: i32, child: i32, answers: &Answers, options: &PlainOptions, teller: &mut dyn Teller) {
    match answer {
        Answer::Reap => {}
        Answer::HandOff => teller.tell(&Event::HandOff(number)),
        Answer::Forward { suspend } => {
            let receiver = if options.group { Receiver::Group(child) } else { Receiver::Child(child) };
            forward(receiver, number, answers, teller);
            if suspend {
                teller.tell(&Event::Suspending);
                // PID 1 of a namespace cannot be stopped from inside; then this does nothing.
                let _ = send(Pid::this().as_raw(), libc::SIGSTOP);
            }
        }
    }
}

/// Who gets a signal.
#[derive(Clone, Copy)]
enum Receiver {
    /// The child.
    Child(i32),
    /// The child's whole group.
    Group(i32),
    /// The group of a child that is collected already: its number may be somebody else's by now.
    RestOf(i32),
    /// Only told.
    Nobody,
}

impl Receiver {
    fn send(self, number: i32) -> Result<(), Errno> {
        match self {
            Self::Child(child) => send(child, number),
            Self::Group(child) => match send_to_group(child, number) {
                // A group that is not there yet is a child just born, about to make it: the signal must not be lost.
                Err(Errno::ESRCH) => send(child, number),
                other => other,
            },
            Self::RestOf(child) => send_to_group(child, number),
            Self::Nobody => Ok(()),
        }
    }
}

fn forward(receiver: Receiver, number: i32, answers: &Answers, teller: &mut dyn Teller) {
    let sent = answers.rewritten(number);
    if sent != number {
        teller.tell(&Event::Rewritten { from: number, to: sent });
    }
    if sent == 0 {
        teller.tell(&Event::Dropped);
        return;
    }
    match receiver.send(sent) {
        Ok(()) => teller.tell(&Event::Forwarded(sent)),
        Err(errno) => teller.tell(&Event::NotForwarded { number: sent, errno }),
    }
}
