/*!
One running program of a job, with the three streams that lead to it.
*/
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getgid, getuid, pipe2};

use super::caller::set_nonblocking;
use super::channel::{Channel, Flow};
use super::environment::{Found, find_program};
use super::feeder::{Feeder, Need};
use super::outbox::Outbox;
use super::prepare::as_user;
use super::refusal::Refusal;
use super::session::watch;
use crate::exec::protocol::Stage;
use crate::sys::readiness::Interest;
use crate::sys::spawn::{Identity, Session as ProcessSession, Spawn, SpawnError, Stdio, Step, spawn};
use crate::sys::terminal;

/// Most bytes taken from a pipe after its writers are dead; no unprivileged pipe holds more.
const LEFT_IN_A_PIPE: u64 = 1024 * 1024;

/// What all programs of a job have in common.
pub(super) struct Setting<'a> {
    pub(super) identity: &'a Identity,
    pub(super) env: &'a BTreeMap<OsString, OsString>,
    pub(super) workdir: &'a Path,
}

/// Where a program's standard streams lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    /// Pipes; standard input is `/dev/null` without `stdin`.
    Pipes {
        /// Whether the caller's standard input goes to this program.
        stdin: bool,
    },
    /// A terminal of this size, rows and columns.
    Terminal(u16, u16),
}

/// The program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: Pid,
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    channels: [Channel; 2],
    is_terminal: bool,
    /// Which output goes first in the next turn, so that a busy one does not starve the other.
    first: usize,
    widened: bool,
}

impl Program {
    /// Starts it. `channels` are stdout and stderr of the whole job; they are taken once it runs.
    pub(super) fn start(
        stage: &Stage,
        setting: &Setting<'_>,
        streams: Streams,
        channels: &mut Option<[Channel; 2]>,
    ) -> Result<Self, Refusal> {
        let (pid, input, outputs) = launch(stage, setting, streams)?;
        let lost = || Refusal::internal("streams", "the streams of the job are in use".to_owned());
        Ok(Self {
            pid,
            input,
            outputs,
            channels: channels.take().ok_or_else(lost)?,
            is_terminal: matches!(streams, Streams::Terminal(..)),
            first: 0,
            widened: false,
        })
    }

    /// Gives the job's streams back for the next stage or the report.
    pub(super) fn into_channels(self) -> [Channel; 2] {
        self.channels
    }

    /// What to wait for: room in standard input, and both outputs.
    pub(super) fn interests(&self, feeder: &Feeder, outbox: &Outbox) -> [Interest<'_>; 3] {
        let input = self.input.as_ref().filter(|_| feeder.need() == Need::Write);
        let [out, err] = &self.outputs;
        let [out_channel, err_channel] = &self.channels;
        let open = |fd: &'_ Option<OwnedFd>, channel: &Channel| fd.is_some() && channel.wants_input(outbox);
        [
            watch(input, PollFlags::POLLOUT),
            watch(out.as_ref().filter(|_| open(out, out_channel)), PollFlags::POLLIN),
            watch(err.as_ref().filter(|_| open(err, err_channel)), PollFlags::POLLIN),
        ]
    }

    /// Whether standard input is at its end but still open.
    pub(super) fn may_close_input(&self, feeder: &Feeder) -> bool {
        self.input.is_some() && feeder.need() == Need::Close
    }

    /// Hands standard input on, and closes it at its end.
    pub(super) fn feed(&mut self, feeder: &mut Feeder) -> Result<(), Errno> {
        if let Some(input) = &self.input {
            feeder.feed(|bytes| nix::unistd::write(input, bytes))?;
            if feeder.need() == Need::Close {
                if self.is_terminal {
                    // A terminal has no half-close; this character is what a person would type (termios(3), VEOF). A
                    // full terminal that does not take it is read by nobody.
                    let _ = nix::unistd::write(input, &[4]);
                }
                self.input = None;
            }
        }
        Ok(())
    }

    /// Moves what the program wrote; `ready` tells which outputs have something.
    pub(super) fn pump(&mut self, ready: [bool; 2], outbox: &mut Outbox, scratch: &mut Vec<u8>) -> Result<(), Errno> {
        let mut places: Vec<_> = self.outputs.iter_mut().zip(&mut self.channels).zip(ready).collect();
        let count = places.len();
        places.rotate_left(self.first % count.max(1));
        for ((source, channel), ready) in places {
            if let Some(fd) = source.as_ref().filter(|_| ready)
                && channel.pump(fd, outbox, scratch)? == Flow::Closed
            {
                *source = None;
            }
        }
        self.first ^= 1;
        Ok(())
    }

    /// Takes what is left in the pipes of a program that is dead with all its relatives; `true` when that is all.
    pub(super) fn drain(&mut self, outbox: &mut Outbox, scratch: &mut Vec<u8>) -> Result<bool, Errno> {
        for (source, channel) in self.outputs.iter_mut().zip(&mut self.channels) {
            let before = channel.seen();
            while let Some(fd) = source.as_ref() {
                match channel.pump(fd, outbox, scratch)? {
                    Flow::Blocked => return Ok(false),
                    Flow::More if channel.seen() - before < LEFT_IN_A_PIPE => {}
                    Flow::More | Flow::Empty | Flow::Closed => *source = None,
                }
            }
        }
        Ok(true)
    }

    /// Whether a stream lost bytes to its cap.
    pub(super) fn is_over_cap(&self) -> bool {
        self.channels.iter().any(|channel| channel.dropped() > 0)
    }

    /// Whether the program has just turned out to write much. Says so once.
    pub(super) fn is_busy(&mut self) -> bool {
        let busy = !self.widened && self.channels.iter().any(Channel::is_busy);
        self.widened |= busy;
        busy
    }

    /// Sends a signal to the program's process group.
    pub(super) fn signal(&self, signal: Signal) {
        // ESRCH: it has just ended, which the loop is about to see.
        let _ = kill(Pid::from_raw(-self.pid.as_raw()), signal);
    }

    /// Tells the program's terminal, if it has one, its new size.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let [master, _] = &self.outputs;
        if let Some(master) = master.as_ref().filter(|_| self.is_terminal) {
            // A terminal that is closed has no size.
            let _ = terminal::resize(master.as_fd(), rows, columns);
        }
    }
}

type Started = (Pid, Option<OwnedFd>, [Option<OwnedFd>; 2]);

fn launch(stage: &Stage, setting: &Setting<'_>, streams: Streams) -> Result<Started, Refusal> {
    let name = stage.argv.first().map(String::as_str).unwrap_or_default();
    let path = setting.env.get(OsStr::new("PATH")).map(OsString::as_os_str);
    // The streams belong to the job's user, who could not open /dev/stdout otherwise.
    let (found, ends) = as_user(setting.identity, || {
        (find_program(name, path, setting.workdir, setting.identity), open_streams(streams))
    })?;
    let program = match found {
        Found::At(file) => file,
        Found::Nowhere => return Err(not_found(stage, name, path)),
        Found::Forbidden(file) => return Err(not_executable(stage, &file.display().to_string(), Errno::EACCES)),
    };
    let failed = |errno: Errno| Refusal::internal("streams", format!("cannot open the streams: {}", errno.desc()));
    let Ends { ours: (input, outputs), theirs } = ends.map_err(failed)?;
    let is_self = getuid().as_raw() == setting.identity.uid && getgid().as_raw() == setting.identity.gid;
    let start = Spawn {
        program,
        argv: stage.argv.iter().map(OsString::from).collect(),
        env: setting.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        cwd: Some(setting.workdir.to_owned()),
        stdio: theirs,
        session: match streams {
            Streams::Pipes { .. } => ProcessSession::New,
            Streams::Terminal(..) => ProcessSession::NewWithTerminal,
        },
        // Without the right to change identities, staying what we are needs none.
        identity: (getuid().is_root() || !is_self).then(|| setting.identity.clone()),
        drop_capabilities: true,
        no_new_privileges: true,
        // When memory runs out the program goes before the agent, who has to tell.
        oom_score_adj: Some(1000),
        ..Spawn::default()
    };
    let pid = spawn(&start).map_err(|error| explain(stage, setting, error))?;
    Ok((pid, input, outputs))
}

struct Ends {
    ours: (Option<OwnedFd>, [Option<OwnedFd>; 2]),
    theirs: [Stdio; 3],
}

fn open_streams(streams: Streams) -> Result<Ends, Errno> {
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|_| Errno::EMFILE);
    match streams {
        Streams::Terminal(rows, columns) => {
            let terminal = terminal::open_terminal(rows, columns)?;
            set_nonblocking(&terminal.master)?;
            let theirs = [copy(&terminal.slave)?, copy(&terminal.slave)?, terminal.slave].map(Stdio::Fd);
            Ok(Ends { ours: (Some(copy(&terminal.master)?), [Some(terminal.master), None]), theirs })
        }
        Streams::Pipes { stdin } => {
            let (out, out_theirs) = pipe2(OFlag::O_CLOEXEC)?;
            let (err, err_theirs) = pipe2(OFlag::O_CLOEXEC)?;
            let (input_theirs, input) = if stdin {
                let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
                set_nonblocking(&ours)?;
                (Stdio::Fd(theirs), Some(ours))
            } else {
                (Stdio::Null, None)
            };
            for fd in [&out, &err] {
                set_nonblocking(fd)?;
            }
            let theirs = [input_theirs, Stdio::Fd(out_theirs), Stdio::Fd(err_theirs)];
            Ok(Ends { ours: (input, [Some(out), Some(err)]), theirs })
        }
    }
}

fn not_found(stage: &Stage, name: &str, path: Option<&OsStr>) -> Refusal {
    let place = if name.contains('/') {
        "there is no such file".to_owned()
    } else {
        format!("not in PATH={}", path.unwrap_or_default().display())
    };
    let message = format!("stage {:?}: program {name:?} not found: {place}", stage.name);
    Refusal::not_started(127, "program_not_found", message, Some("is it part of the image?"))
}

fn not_executable(stage: &Stage, file: &str, errno: Errno) -> Refusal {
    let hint = match errno {
        Errno::ENOEXEC => "it is neither a program for this machine nor a script that begins with #!",
        Errno::E2BIG => "arguments and environment together are too long: pass the data in a file",
        _ => "the job's user must be allowed to execute it",
    };
    let message = format!("stage {:?}: {file:?} cannot be executed: {}", stage.name, errno.desc());
    Refusal::not_started(126, "not_executable", message, Some(hint))
}

fn explain(stage: &Stage, setting: &Setting<'_>, error: SpawnError) -> Refusal {
    match error {
        SpawnError::Call { program, step: Step::Exec, errno: Errno::ENOENT | Errno::ENOTDIR } => {
            let message = format!("stage {:?}: {program:?} is there, but its interpreter or loader is not", stage.name);
            let hint = "look at its first line (#!), or at its architecture and C library";
            Refusal::not_started(127, "program_not_found", message, Some(hint))
        }
        SpawnError::Call { program, step: Step::Exec, errno } => not_executable(stage, &program, errno),
        SpawnError::Call { step: Step::Chdir, errno, .. } => {
            Refusal::file("workdir_unusable", "enter", &setting.workdir.display().to_string(), errno)
        }
        other => Refusal::internal("start", format!("stage {:?}: {other}", stage.name)),
    }
}
