//! What is done to whom and when, from a seed alone: a failure is repeated by giving its seed again.
//!
//! The pace knows the restart policy: a hand that kills faster than `init/policy.rs` forgives would only show that the
//! limits work. `tests/pure/chaos.rs` holds every seed to it.

use std::time::Duration;

/// Who is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Containerd,
    Dockerd,
    /// containerd and dockerd with one signal each, at once.
    Both,
    /// The shim of a nested container; the number chooses which, modulo those that there are.
    Shim(usize),
    /// The first process of a nested container.
    Nested(usize),
    /// The command of `dindctl up`.
    Command,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// `SIGKILL`.
    Kill,
    /// `SIGTERM`.
    Term,
    /// `SIGSTOP`, and `SIGCONT` after so long.
    Freeze(Duration),
}

/// One blow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Time since the blow before it.
    pub pause: Duration,
    pub victim: Victim,
    pub blow: Blow,
    /// Falls whether or not the daemons are back from the blow before; the others wait for that.
    pub hasty: bool,
}

impl Action {
    /// Whether a daemon dies of it.
    pub fn ends_a_daemon(&self) -> bool {
        let daemon = matches!(self.victim, Victim::Containerd | Victim::Dockerd | Victim::Both);
        daemon && !matches!(self.blow, Blow::Freeze(_))
    }
}

/// Shortest pause before a blow that a daemon dies of: 24 a minute, where 30 are too many.
pub const DEADLY_PAUSE: Duration = Duration::from_millis(2500);

/// How long daemons have been ready again before a blow that is not hasty: longer than the second that the policy wants.
pub const RIPE: Duration = Duration::from_millis(1500);

/// Hasty blows at daemons in a row, at most: the fifth death before readiness is the last.
pub const HASTY_RUN: u32 = 2;

/// The blows of one seed, without end.
pub struct Schedule {
    random: Random,
    hasty_run: u32,
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        Self { random: Random(seed), hasty_run: 0 }
    }
}

impl Iterator for Schedule {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let random = &mut self.random;
        let which = usize::try_from(random.below(1000)).unwrap_or_default();
        let victim = match random.below(17) {
            0..5 => Victim::Dockerd,
            5..8 => Victim::Containerd,
            8..10 => Victim::Both,
            10..13 => Victim::Shim(which),
            13..16 => Victim::Nested(which),
            _ => Victim::Command,
        };
        let freeze = Blow::Freeze(Duration::from_millis(100 + random.below(3000)));
        let blow = match random.below(9) {
            // The container lives as long as its command.
            _ if victim == Victim::Command => freeze,
            0..4 => Blow::Kill,
            4..6 => Blow::Term,
            _ => freeze,
        };
        let mut action = Action { pause: Duration::from_millis(random.below(2000)), victim, blow, hasty: false };
        action.hasty = random.below(4) == 0 && self.hasty_run < HASTY_RUN;
        if action.ends_a_daemon() {
            action.pause += DEADLY_PAUSE;
            self.hasty_run = if action.hasty { self.hasty_run + 1 } else { 0 };
        }
        Some(action)
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): ten lines that give the same numbers for ever, whatever a crate changes.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
