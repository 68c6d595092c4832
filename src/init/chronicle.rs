/*!
What a service has been through: since when it stands where it stands, and its last processes.
*/
use std::collections::VecDeque;
use std::time::Duration;

use super::service::Event;
use super::state::{LifeState, Phase};
use crate::sys::wait::Exit;

/// Processes that are remembered.
const KEPT: usize = 10;

/// One process, or an attempt to start one. Times are since any fixed moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Life {
    /// `None`: it could not be started.
    pid: Option<i32>,
    started: Duration,
    ready: Option<Duration>,
    ended: Option<Duration>,
    exit: Option<Exit>,
}

/// The past of one service.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    since: Duration,
    phase: Option<Phase>,
    lives: VecDeque<Life>,
}

impl Chronicle {
    /// Notes an event at `now` that fitted the service's state, and the phase that it led to.
    pub fn note(&mut self, now: Duration, event: Event, phase: Phase) {
        if self.phase.replace(phase) != Some(phase) {
            self.since = now;
        }
        match event {
            Event::Spawned { pid } => {
                self.begin(Life { pid: Some(pid), started: now, ready: None, ended: None, exit: None });
            }
            Event::SpawnFailed { .. } => {
                self.begin(Life { pid: None, started: now, ready: None, ended: Some(now), exit: None });
            }
            Event::Exited { exit, .. } => {
                if let Some(life) = self.lives.back_mut() {
                    (life.ended, life.exit) = (Some(now), Some(exit));
                }
            }
            _ => {}
        }
        if let (Phase::Ready, Some(life)) = (phase, self.lives.back_mut()) {
            life.ready = life.ready.or(Some(now));
        }
    }

    fn begin(&mut self, life: Life) {
        if self.lives.len() == KEPT {
            self.lives.pop_front();
        }
        self.lives.push_back(life);
    }

    /// When the present phase began; `offset` is added to each time, here and below.
    pub fn since_ms(&self, offset: Duration) -> u64 {
        millis(self.since, offset)
    }

    /// The last processes, oldest first.
    pub fn lives(&self, offset: Duration) -> Vec<LifeState> {
        let told = |life: &Life| LifeState {
            pid: life.pid,
            started_ms: millis(life.started, offset),
            ready_ms: life.ready.map(|moment| millis(moment, offset)),
            ended_ms: life.ended.map(|moment| millis(moment, offset)),
            exit: life.exit.map(|exit| exit.to_string()),
        };
        self.lives.iter().map(told).collect()
    }
}

fn millis(moment: Duration, offset: Duration) -> u64 {
    u64::try_from(moment.saturating_add(offset).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_life_has_its_times_and_its_end() {
        let mut past = Chronicle::default();
        past.note(at(1), Event::Begin, Phase::Starting);
        past.note(at(2), Event::Spawned { pid: 7 }, Phase::Starting);
        assert_eq!(past.since_ms(at(100)), 101);
        past.note(at(5), Event::NotifyReady, Phase::Ready);
        past.note(at(6), Event::NotifyReady, Phase::Ready);
        assert_eq!(past.since_ms(ZERO), 5);
        past.note(at(9), Event::Exited { exit: Exit::Signal(9), permanent: false }, Phase::Backoff);
        let life = past.lives(at(100)).remove(0);
        assert_eq!((life.started_ms, life.ready_ms, life.ended_ms), (102, Some(105), Some(109)));
        assert_eq!((life.pid, life.exit.as_deref()), (Some(7), Some("signal 9 (SIGKILL)")));
    }

    #[test]
    fn a_start_that_failed_is_a_life_without_a_process() {
        let mut past = Chronicle::default();
        past.note(at(3), Event::SpawnFailed { permanent: true }, Phase::Failed);
        let lives = past.lives(ZERO);
        assert_eq!((lives[0].pid, lives[0].ended_ms, lives[0].ready_ms), (None, Some(3), None));
    }

    #[test]
    fn only_the_last_lives_are_kept() {
        let mut past = Chronicle::default();
        for pid in 0..100 {
            past.note(at(1), Event::Spawned { pid }, Phase::Ready);
        }
        let lives = past.lives(ZERO);
        assert_eq!((lives.len(), lives[0].pid, lives[KEPT - 1].pid), (KEPT, Some(90), Some(99)));
    }
}
