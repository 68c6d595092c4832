/*!
One supervised program as a state machine: an event at a moment gives the new state and a list of effects.

Nothing here starts, signals or waits: the supervisor does what the effects say and reports back what came of it.
An event that does not fit the state changes nothing and is answered by [`Effect::Ignored`], so that a late
notification or a stray timer can be logged and can do no harm.

```text
            Begin           Spawned          NotifyReady         NotifyReloading
 Waiting ─────────▶ Starting ───────▶ Starting ─────────▶ Ready ◀───────────────▶ Reloading
                       ▲                 │                  │                        │
            TimerFired │                 └────── Exited ────┴────────────────────────┘
                    Backoff ◀── restart ───────────┤ policy
                                       Stopped ◀── end ┤
                                       Failed  ◀── give up
```
A request to stop leads from every state to `Stopping` or, without a process, straight to `Stopped`. A renewal leads from `Ready` to
`Stopping`, and by the end of the process to `Backoff` without a delay.
*/
use std::time::Duration;

use nix::sys::signal::Signal;

use super::chronicle::Chronicle;
use super::policy::{Decision, History, Life, Reason, RestartPolicy};
use super::spec::Readiness;
use super::state::Phase;
use crate::sys::wait::Exit;

/// What happened to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All that it waits for is there.
    Begin,
    /// The process asked for by [`Effect::Start`] runs.
    Spawned {
        /// Its process id.
        pid: i32,
    },
    /// The process asked for by [`Effect::Start`] could not be started.
    SpawnFailed {
        /// Whether trying again cannot help (no such program).
        permanent: bool,
    },
    /// `READY=1`.
    NotifyReady,
    /// `RELOADING=1`.
    NotifyReloading,
    /// `STOPPING=1`.
    NotifyStopping,
    /// The process is gone.
    Exited {
        /// How it ended.
        exit: Exit,
        /// Whether its last words tell that trying again cannot help.
        permanent: bool,
    },
    /// The moment of [`Service::timer`] has come.
    TimerFired,
    /// The whole container goes down: do not start it again, and give up waiting to start it.
    Drain,
    /// It is to end.
    StopRequested {
        /// The signal that asks for it.
        signal: Signal,
    },
    /// It is to end in order and to be started again, whatever its policy says of an end.
    RenewRequested {
        /// The signal that asks for the end.
        signal: Signal,
    },
    /// It is to end now.
    KillRequested,
}

/// What is to be done because of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start the process and report [`Event::Spawned`] or [`Event::SpawnFailed`].
    Start,
    /// It is started again after this time; [`Service::timer`] tells the moment.
    ScheduleRestart {
        /// The delay.
        after: Duration,
    },
    /// Send this signal to its process.
    Signal(Signal),
    /// It is ready, for the first time in this life.
    BecameReady,
    /// It is ready again after a reload.
    Reloaded,
    /// It has ended and stays ended.
    Ended,
    /// It is started no more, and the container ends because of it.
    GiveUp(Reason),
    /// The event does not fit the state.
    Ignored,
}

/// A `RELOADING=1` so soon after a needless `READY=1` belongs before it.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// A process that was started and is not known to be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    ready_since: Option<Duration>,
    /// When it said to be ready although it was.
    said_ready_again: Option<Duration>,
    asked_to_stop: bool,
    renewed: bool,
}

/// One supervised program.
#[derive(Debug, Clone)]
pub struct Service {
    policy: RestartPolicy,
    readiness: Readiness,
    phase: Phase,
    process: Option<Process>,
    history: History,
    restart_at: Option<Duration>,
    draining: bool,
    starts: u32,
    was_ready: bool,
    last_exit: Option<Exit>,
    chronicle: Chronicle,
}

impl Service {
    /// A service that has not been started.
    pub fn new(policy: RestartPolicy, readiness: Readiness) -> Self {
        Self {
            policy,
            readiness,
            phase: Phase::Waiting,
            process: None,
            history: History::default(),
            restart_at: None,
            draining: false,
            starts: 0,
            was_ready: false,
            last_exit: None,
            chronicle: Chronicle::default(),
        }
    }

    /// The same with delays before restarts that [differ](History::seeded) from those of others.
    #[must_use]
    pub fn spread(self, seed: u64) -> Self {
        Self { history: History::seeded(seed), ..self }
    }

    /// What it has been through.
    pub const fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    /// Where it stands.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        self.process.map(|process| process.pid)
    }

    /// Moment of the next start, when one is scheduled.
    pub const fn timer(&self) -> Option<Duration> {
        self.restart_at
    }

    /// Starts after the first one.
    pub const fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// Whether a process of it has ever run.
    pub const fn was_started(&self) -> bool {
        self.starts > 0
    }

    /// Whether it has ever been ready.
    pub const fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// How its last process ended.
    pub const fn last_exit(&self) -> Option<Exit> {
        self.last_exit
    }

    /// Whether its present process has been ready.
    pub fn is_ready_now(&self) -> bool {
        self.process.is_some_and(|process| process.ready_since.is_some())
    }

    /// Takes an event at `now`, the time since any fixed moment.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        let effects = self.take(now, event);
        if !effects.contains(&Effect::Ignored) {
            self.chronicle.note(now, event, self.phase);
        }
        effects
    }

    fn take(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Begin => self.begin(),
            Event::Spawned { pid } => self.spawned(now, pid),
            Event::SpawnFailed { permanent } => self.spawn_failed(now, permanent),
            Event::NotifyReady => self.ready(now),
            Event::NotifyReloading => self.reloading(now),
            Event::NotifyStopping => self.stopping_by_itself(),
            Event::Exited { exit, permanent } => self.exited(now, exit, permanent),
            Event::TimerFired => self.timer_fired(now),
            Event::Drain => self.drain(),
            Event::StopRequested { signal } => self.stop(signal),
            Event::RenewRequested { signal } => self.renew(signal),
            Event::KillRequested => self.kill(),
        }
    }

    fn begin(&mut self) -> Vec<Effect> {
        if self.phase != Phase::Waiting {
            return vec![Effect::Ignored];
        }
        self.phase = Phase::Starting;
        vec![Effect::Start]
    }

    fn spawned(&mut self, now: Duration, pid: i32) -> Vec<Effect> {
        if self.phase != Phase::Starting || self.process.is_some() {
            return vec![Effect::Ignored];
        }
        self.starts = self.starts.saturating_add(1);
        self.process =
            Some(Process { pid, ready_since: None, said_ready_again: None, asked_to_stop: false, renewed: false });
        match self.readiness {
            Readiness::Started => self.ready(now),
            Readiness::Notify => Vec::new(),
        }
    }

    fn spawn_failed(&mut self, now: Duration, permanent: bool) -> Vec<Effect> {
        if self.phase != Phase::Starting || self.process.is_some() {
            return vec![Effect::Ignored];
        }
        self.after_life(now, Life { ready_for: None, success: false, permanent })
    }

    fn ready(&mut self, now: Duration) -> Vec<Effect> {
        let Some(process) = &mut self.process else { return vec![Effect::Ignored] };
        match self.phase {
            Phase::Starting => {
                process.ready_since = Some(now);
                self.phase = Phase::Ready;
                self.was_ready = true;
                vec![Effect::BecameReady]
            }
            Phase::Reloading => {
                self.phase = Phase::Ready;
                vec![Effect::Reloaded]
            }
            Phase::Ready => {
                process.said_ready_again = Some(now);
                Vec::new()
            }
            _ => vec![Effect::Ignored],
        }
    }

    fn reloading(&mut self, now: Duration) -> Vec<Effect> {
        let (Some(process), Phase::Ready) = (&mut self.process, self.phase) else { return vec![Effect::Ignored] };
        // dockerd sends both words of a reload from goroutines, and the second may overtake the first.
        if process.said_ready_again.take().is_some_and(|moment| now.saturating_sub(moment) < OVERTAKEN) {
            return vec![Effect::Reloaded];
        }
        self.phase = Phase::Reloading;
        Vec::new()
    }

    fn stopping_by_itself(&mut self) -> Vec<Effect> {
        match self.phase {
            Phase::Starting | Phase::Ready | Phase::Reloading if self.process.is_some() => {
                self.phase = Phase::Stopping;
                Vec::new()
            }
            // It only confirms what we asked for.
            Phase::Stopping => Vec::new(),
            _ => vec![Effect::Ignored],
        }
    }

    fn exited(&mut self, now: Duration, exit: Exit, permanent: bool) -> Vec<Effect> {
        let Some(process) = self.process.take() else { return vec![Effect::Ignored] };
        self.last_exit = Some(exit);
        if process.asked_to_stop {
            return self.end();
        }
        if process.renewed && !self.draining {
            return self.start_after(now, Duration::ZERO);
        }
        let ready_for = process.ready_since.map(|since| now.saturating_sub(since));
        self.after_life(now, Life { ready_for, success: exit.is_success(), permanent })
    }

    /// Decides what follows after a process that we did not ask to end.
    fn after_life(&mut self, now: Duration, life: Life) -> Vec<Effect> {
        if self.draining {
            return self.end();
        }
        match self.policy.decide(&mut self.history, now, life) {
            Decision::End => self.end(),
            Decision::Restart { after } => self.start_after(now, after),
            Decision::GiveUp(reason) => {
                self.phase = Phase::Failed;
                vec![Effect::GiveUp(reason)]
            }
        }
    }

    fn start_after(&mut self, now: Duration, after: Duration) -> Vec<Effect> {
        self.phase = Phase::Backoff;
        self.restart_at = Some(now.saturating_add(after));
        vec![Effect::ScheduleRestart { after }]
    }

    fn end(&mut self) -> Vec<Effect> {
        self.phase = Phase::Stopped;
        self.restart_at = None;
        vec![Effect::Ended]
    }

    fn timer_fired(&mut self, now: Duration) -> Vec<Effect> {
        if self.phase != Phase::Backoff || self.restart_at.is_none_or(|moment| moment > now) {
            return vec![Effect::Ignored];
        }
        self.restart_at = None;
        self.phase = Phase::Starting;
        vec![Effect::Start]
    }

    fn drain(&mut self) -> Vec<Effect> {
        self.draining = true;
        match self.phase {
            Phase::Waiting | Phase::Backoff => self.end(),
            _ => Vec::new(),
        }
    }

    fn stop(&mut self, signal: Signal) -> Vec<Effect> {
        self.draining = true;
        match (&mut self.process, self.phase) {
            (Some(process), _) if process.asked_to_stop => vec![Effect::Ignored],
            (Some(process), _) => {
                process.asked_to_stop = true;
                self.phase = Phase::Stopping;
                // A stopped process sees the signal only once it runs again; one that is renewed has it already.
                let asked = Some(Effect::Signal(signal)).filter(|_| !process.renewed);
                asked.into_iter().chain([Effect::Signal(Signal::SIGCONT)]).collect()
            }
            (None, Phase::Waiting | Phase::Backoff) => self.end(),
            (None, _) => vec![Effect::Ignored],
        }
    }

    fn renew(&mut self, signal: Signal) -> Vec<Effect> {
        match &mut self.process {
            Some(process) if self.phase == Phase::Ready && !self.draining => {
                process.renewed = true;
                self.phase = Phase::Stopping;
                vec![Effect::Signal(signal), Effect::Signal(Signal::SIGCONT)]
            }
            _ => vec![Effect::Ignored],
        }
    }

    fn kill(&mut self) -> Vec<Effect> {
        self.draining = true;
        match &mut self.process {
            Some(process) => {
                process.asked_to_stop = true;
                self.phase = Phase::Stopping;
                vec![Effect::Signal(Signal::SIGKILL)]
            }
            None if matches!(self.phase, Phase::Waiting | Phase::Backoff) => self.end(),
            None => vec![Effect::Ignored],
        }
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
