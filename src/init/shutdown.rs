/*!
The ordered stop of everything within one deadline, as a sequence that is asked what to do next.

1. The services in reverse order of their start, one after another: prepared (a reload, if the plan has one), asked to
   end once, and killed when the service's own limit is over.
2. At the deadline everything that is left of them is killed at once.
3. The sweep: whatever else runs in the container is asked to end, killed a short grace later, and reaped.

A further request shortens the deadline ([`Urgency`]). Nothing here touches a process; [`Surroundings`] answers what
lives, and the supervisor carries the [`Action`]s out.
*/
use std::time::Duration;

use super::signals::{SHORT_GRACE, Urgency};

/// Longest grace of the sweep between asking and killing.
pub const SWEEP_GRACE: Duration = Duration::from_secs(2);

/// Longest wait for a killed process to be gone. One that hangs in the kernel is left to the end of the container.
pub const KILL_WAIT: Duration = Duration::from_secs(1);

/// How often the sweep looks again: processes that came in from outside (`docker exec`) end without a `SIGCHLD` to us.
const SWEEP_TICK: Duration = Duration::from_millis(20);

/// What the sequence wants to know.
pub trait Surroundings {
    /// Whether this service has a process.
    fn is_alive(&self, service: usize) -> bool;
    /// Whether its process has been ready, and can be trusted with a reload.
    fn is_ready(&self, service: usize) -> bool;
    /// Whether any process is left that the sweep would reach.
    fn others(&self) -> bool;
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run the preparation of this service's stop plan and reload it; [`Shutdown::prepared`] tells when that is over.
    Prepare(usize),
    /// Ask this service to end.
    Terminate(usize),
    /// Kill this service.
    Kill(usize),
    /// Ask all the rest to end.
    SweepTerminate,
    /// Kill all the rest.
    SweepKill,
}

/// One service to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its number.
    pub service: usize,
    /// Its own limit from being asked to being killed.
    pub limit: Option<Duration>,
    /// Longest time for the preparation, if it has one.
    pub prepare: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Next,
    Preparing { target: Target, until: Duration, done: bool },
    Terminating { service: usize, until: Duration },
    Killing { service: usize, until: Duration },
    KillingAll { until: Duration },
    Sweep,
    SweepTerminating { until: Duration },
    SweepKilling { until: Duration },
    Done,
}

/// A stop on its way. Times are since any fixed moment.
#[derive(Debug, Clone)]
pub struct Shutdown {
    targets: Vec<Target>,
    /// Those still to come, the next one last.
    queue: Vec<Target>,
    step: Step,
    deadline: Duration,
    requests: u32,
}

impl Shutdown {
    /// A stop that begins at `now` and kills what is left after `timeout`. `targets` are in the order of their start.
    pub fn new(now: Duration, timeout: Duration, targets: Vec<Target>) -> Self {
        Self { queue: targets.clone(), targets, step: Step::Next, deadline: now.saturating_add(timeout), requests: 1 }
    }

    /// The same where nobody has asked for it: the first request is still to come.
    #[must_use]
    pub fn unasked(self) -> Self {
        Self { requests: 0, ..self }
    }

    /// Takes a further request to stop, and tells how urgent it has become.
    pub fn hurry(&mut self, now: Duration) -> Urgency {
        self.requests = self.requests.saturating_add(1);
        let urgency = Urgency::of_request(self.requests);
        self.deadline = match urgency {
            Urgency::Orderly => self.deadline,
            Urgency::Short => self.deadline.min(now.saturating_add(SHORT_GRACE)),
            Urgency::Now => self.deadline.min(now),
        };
        urgency
    }

    /// The preparation of this service is over, well or not.
    pub fn prepared(&mut self, service: usize) {
        if let Step::Preparing { target, done, .. } = &mut self.step
            && target.service == service
        {
            *done = true;
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// The moment to look again when nothing else happens.
    pub fn timer(&self, now: Duration) -> Option<Duration> {
        let tick = now.saturating_add(SWEEP_TICK);
        match self.step {
            Step::Next | Step::Sweep => Some(now),
            Step::Preparing { until, .. } | Step::Terminating { until, .. } => Some(until.min(self.deadline)),
            Step::Killing { until, .. } | Step::KillingAll { until } => Some(until),
            Step::SweepTerminating { until } => Some(until.min(self.deadline).min(tick)),
            Step::SweepKilling { until } => Some(until.min(tick)),
            Step::Done => None,
        }
    }

    /// What to do now. Carry it out and ask again until the answer is empty.
    pub fn advance(&mut self, now: Duration, around: &impl Surroundings) -> Vec<Action> {
        loop {
            if let Some(actions) = self.deadline_passed(now, around) {
                return actions;
            }
            let before = self.step;
            let action = self.one_step(now, around);
            if action.is_some() {
                return action.into_iter().collect();
            }
            if self.step == before {
                return Vec::new();
            }
        }
    }

    fn deadline_passed(&mut self, now: Duration, around: &impl Surroundings) -> Option<Vec<Action>> {
        let orderly = match self.step {
            Step::Next | Step::Preparing { .. } | Step::Terminating { .. } => true,
            Step::Killing { .. } => !self.queue.is_empty(),
            _ => false,
        };
        if !orderly || now < self.deadline {
            return None;
        }
        self.queue.clear();
        self.step = Step::KillingAll { until: now.saturating_add(KILL_WAIT) };
        let alive = self.targets.iter().rev().map(|target| target.service).filter(|service| around.is_alive(*service));
        Some(alive.map(Action::Kill).collect::<Vec<_>>()).filter(|actions| !actions.is_empty())
    }

    fn one_step(&mut self, now: Duration, around: &impl Surroundings) -> Option<Action> {
        match self.step {
            Step::Next => self.next_service(now, around),
            Step::Preparing { target, .. } if !around.is_alive(target.service) => self.go(Step::Next),
            Step::Preparing { target, until, done } if done || now >= until => Some(self.terminate(now, target)),
            Step::Terminating { service, .. } if !around.is_alive(service) => self.go(Step::Next),
            Step::Terminating { service, until } if now >= until => {
                self.step = Step::Killing { service, until: now.saturating_add(KILL_WAIT) };
                Some(Action::Kill(service))
            }
            Step::Killing { service, until } if !around.is_alive(service) || now >= until => self.go(Step::Next),
            Step::KillingAll { until }
                if now >= until || !self.targets.iter().any(|target| around.is_alive(target.service)) =>
            {
                self.go(Step::Sweep)
            }
            Step::Sweep | Step::SweepTerminating { .. } | Step::SweepKilling { .. } if !around.others() => {
                self.go(Step::Done)
            }
            Step::Sweep if now < self.deadline => {
                self.step = Step::SweepTerminating { until: now.saturating_add(SWEEP_GRACE) };
                Some(Action::SweepTerminate)
            }
            Step::Sweep => Some(self.sweep_kill(now)),
            Step::SweepTerminating { until } if now >= until.min(self.deadline) => Some(self.sweep_kill(now)),
            Step::SweepKilling { until } if now >= until => self.go(Step::Done),
            _ => None,
        }
    }

    fn next_service(&mut self, now: Duration, around: &impl Surroundings) -> Option<Action> {
        while let Some(target) = self.queue.pop() {
            if !around.is_alive(target.service) {
                continue;
            }
            let Some(time) = target.prepare.filter(|_| around.is_ready(target.service)) else {
                return Some(self.terminate(now, target));
            };
            self.step = Step::Preparing { target, until: now.saturating_add(time), done: false };
            return Some(Action::Prepare(target.service));
        }
        self.go(Step::Sweep)
    }

    fn go(&mut self, step: Step) -> Option<Action> {
        self.step = step;
        None
    }

    fn terminate(&mut self, now: Duration, target: Target) -> Action {
        let until = target.limit.map_or(self.deadline, |limit| now.saturating_add(limit));
        self.step = Step::Terminating { service: target.service, until };
        Action::Terminate(target.service)
    }

    fn sweep_kill(&mut self, now: Duration) -> Action {
        self.step = Step::SweepKilling { until: now.saturating_add(KILL_WAIT) };
        Action::SweepKill
    }
}

#[cfg(test)]
#[path = "shutdown_tests.rs"]
mod tests;
