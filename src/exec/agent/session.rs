/*!
The agent's one loop: waits for the caller, the program and the clock together, and never for one of them alone.
*/
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::Options;
use super::alarm::Alarm;
use super::caller::{Caller, Gone};
use super::desk::Desk;
use super::household::{Household, reap};
use super::program::Program;
use super::refusal::Refusal;
use crate::exec::protocol::{Job, Kind, Ready};
use crate::sys::readiness::{self, Interest};

/// The agent at work.
pub(super) struct Session<'a> {
    pub(super) options: &'a Options,
    pub(super) caller: Caller,
    pub(super) desk: Desk,
    pub(super) household: Household,
    alarm: Alarm,
    start: Instant,
    /// Where bytes go that nobody will see.
    scratch: Vec<u8>,
}

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}: {source}")]
pub(super) struct SetupError {
    doing: &'static str,
    source: io::Error,
}

/// Why there will be no job.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// Nobody is there to be told.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Nobody wanted anything for too long.
    #[error("no job came within {} s", .0.as_secs())]
    Idle(Duration),
    /// The caller is to be told.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What a turn brought.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Turn {
    /// A child may have ended.
    pub(super) child: bool,
}

impl<'a> Session<'a> {
    /// Makes the process an agent and says so to the caller.
    pub(super) fn begin(options: &'a Options) -> Result<Self, SetupError> {
        fn step<T>(doing: &'static str, result: Result<T, impl Into<io::Error>>) -> Result<T, SetupError> {
            result.map_err(|error| SetupError { doing, source: error.into() })
        }
        // First of all: from here on no process of the sandbox can look into this one.
        step("hide from the sandbox", nix::sys::prctl::set_dumpable(false))?;
        step("set the process name", nix::sys::prctl::set_name(c"dindctl-agent"))?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let caller = step("take over standard input and output", Caller::take_over())?;
        let alarm = step("install the signal handlers", Alarm::install())?;
        let household = step("become the reaper", Household::new(&options.proc_root))?;
        let mut session = Self {
            options,
            caller,
            desk: Desk::default(),
            household,
            alarm,
            start: Instant::now(),
            scratch: Vec::new(),
        };
        let ready = Ready { version: env!("CARGO_PKG_VERSION").to_owned() };
        let ready = step("say hello", serde_json::to_vec(&ready).map_err(io::Error::from))?;
        session.caller.send(Kind::Ready, &ready);
        Ok(session)
    }

    /// Time since the agent began.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether the caller cancelled or someone stops the container.
    pub(super) fn is_cancelled(&self) -> bool {
        self.desk.cancelled || self.alarm.wants_stop()
    }

    /// Waits for the caller to leave, for `patience` at the most.
    pub(super) fn linger(&mut self, patience: Duration) {
        let until = self.now().saturating_add(patience);
        while self.now() < until {
            let [input, _] = self.caller.interests(true);
            let left = until.saturating_sub(self.now());
            // Whatever still comes is for nobody: nothing may follow a report.
            if readiness::wait([input], Some(left)).is_err() || self.caller.hear_nothing().is_err() {
                return;
            }
        }
    }

    /// Waits until something happens, `until` at the latest, and does what can be done about it without a decision:
    /// frames are noted, output is moved, input is handed on.
    pub(super) fn turn(&mut self, program: Option<&mut Program>, until: Duration) -> Result<Turn, Gone> {
        let timeout = until.saturating_sub(self.start.elapsed());
        let [input, output] = self.caller.interests(!self.desk.feeder.is_full());
        let none: [Interest<'_>; 3] = [(None, PollFlags::empty()); 3];
        let [feed, out, err] =
            program.as_deref().map_or(none, |program| program.interests(&self.desk.feeder, &self.caller.outbox));
        let ready = readiness::wait([self.alarm.interest(), input, output, feed, out, err], Some(timeout))?;
        let [alarm, input, output, feed, out, err] = ready;

        if !alarm.is_empty() {
            self.alarm.acknowledge();
        }
        self.caller.attend([input, output])?;
        loop {
            match self.caller.next_frame() {
                Ok(Some(frame)) => self.desk.note(frame),
                Ok(None) => break,
                // The stream cannot be read any more; its end still shows.
                Err(error) => {
                    self.desk.complain(error.to_string());
                    break;
                }
            }
        }
        if let Some(program) = program {
            for signal in self.desk.signals.drain(..) {
                program.signal(signal);
            }
            if let Some((rows, columns)) = self.desk.size.take() {
                program.resize(rows, columns);
            }
            if !feed.is_empty() || program.may_close_input(&self.desk.feeder) {
                program.feed(&mut self.desk.feeder)?;
            }
            program.pump([!out.is_empty(), !err.is_empty()], &mut self.caller.outbox, &mut self.scratch)?;
            if program.is_busy() {
                self.caller.widen();
            }
        }
        if let Some(taken) = self.desk.feeder.announcement() {
            self.caller.send(Kind::StdinTaken, &taken.to_be_bytes());
        }
        self.caller.flush()?;
        Ok(Turn { child: !alarm.is_empty() })
    }

    /// Waits for the job.
    pub(super) fn await_job(&mut self) -> Result<Job, Stop> {
        let until = self.now().saturating_add(self.options.idle);
        loop {
            if let Some(job) = self.desk.job.take() {
                return Ok(job);
            }
            self.check_before_start()?;
            if self.now() >= until {
                return Err(Stop::Idle(self.options.idle));
            }
            if self.turn(None, until)?.child {
                reap(None);
            }
        }
    }

    /// The pieces of the archive as one stream.
    pub(super) fn archive(&mut self) -> Archive<'_, 'a> {
        Archive { session: self, piece: Vec::new(), read: 0, stop: None }
    }

    /// What ends a job before its program runs.
    fn check_before_start(&self) -> Result<(), Stop> {
        if self.is_cancelled() {
            return Err(Refusal::cancelled().into());
        }
        match &self.desk.fault {
            Some(fault) => Err(Refusal::internal("protocol", fault.clone()).into()),
            None => Ok(()),
        }
    }

    /// Descriptor sets and buffers for somebody who reads the program's streams outside of a turn.
    pub(super) fn drain(&mut self, program: &mut Program) -> Result<bool, Gone> {
        Ok(program.drain(&mut self.caller.outbox, &mut self.scratch)?)
    }
}

/// Reads the archive from the caller; between pieces it waits as everything else does.
pub(super) struct Archive<'s, 'a> {
    session: &'s mut Session<'a>,
    piece: Vec<u8>,
    read: usize,
    /// Why there is no more, where that is not the archive's own end.
    pub(super) stop: Option<Stop>,
}

impl Archive<'_, '_> {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Stop> {
        let session = &mut *self.session;
        let until = session.now().saturating_add(session.options.idle);
        loop {
            if let Some(piece) = session.desk.archive.pop_front() {
                return Ok(Some(piece));
            }
            if session.desk.archive_ended {
                return Ok(None);
            }
            session.check_before_start()?;
            if session.now() >= until {
                return Err(Stop::Idle(session.options.idle));
            }
            session.turn(None, until)?;
        }
    }
}

impl io::Read for Archive<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read >= self.piece.len() {
            if self.stop.is_some() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.read = 0;
            self.piece.clear();
            match self.next_piece() {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => return Ok(0),
                Err(stop) => self.stop = Some(stop),
            }
        }
        let rest = self.piece.get(self.read..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (place, byte) in buffer.chunks_mut(count.max(1)).take(1).zip(rest.chunks(count.max(1))) {
            place.copy_from_slice(byte);
        }
        self.read += count;
        Ok(count)
    }
}

/// Borrowed view for [`readiness::wait`].
pub(super) fn watch(fd: Option<&impl AsFd>, flags: PollFlags) -> Interest<'_> {
    (fd.map(AsFd::as_fd), flags)
}
