//! The schedule of the engine ring's chaos, held to the restart policy for every seed.

#[path = "../engine/chaos/schedule.rs"]
mod schedule;

use std::time::Duration;

use dindctl::init::policy::{Decision, History, Life, Restart, RestartPolicy};

use self::schedule::{Action, Blow, HASTY_RUN, RIPE, Random, Schedule, Victim};

const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn a_seed_is_a_schedule() {
    let of = |seed| Schedule::new(seed).take(50).collect::<Vec<Action>>();
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
    // The first number of the published test vector for seed 0.
    assert_eq!(Random(0).next(), 0xe220_a839_7b1d_cdaf);
}

#[test]
fn everything_happens_to_everybody_but_the_command_which_only_freezes() {
    let mut seen = std::collections::BTreeSet::new();
    for action in Schedule::new(1).take(2000) {
        let victim = match action.victim {
            Victim::Shim(_) => "Shim".to_owned(),
            Victim::Nested(_) => "Nested".to_owned(),
            other => format!("{other:?}"),
        };
        let blow =
            if matches!(action.blow, Blow::Freeze(_)) { "Freeze".to_owned() } else { format!("{:?}", action.blow) };
        seen.insert(format!("{victim} {blow} {}", action.hasty));
    }
    let daemons_and_nested = ["Containerd", "Dockerd", "Both", "Shim", "Nested"].into_iter().flat_map(|victim| {
        ["Kill", "Term", "Freeze"]
            .into_iter()
            .flat_map(move |blow| [true, false].into_iter().map(move |hasty| format!("{victim} {blow} {hasty}")))
    });
    let command = [true, false].into_iter().map(|hasty| format!("Command Freeze {hasty}"));
    assert_eq!(seen, daemons_and_nested.chain(command).collect());
}

/// A hasty blow falls before readiness, every other one after as short a time of it as the test allows.
#[test]
fn no_seed_is_faster_than_the_restart_policy_forgives() {
    for seed in SEEDS {
        let policy = RestartPolicy::new(Restart::Always);
        let (mut history, mut now, mut hasty_run) = (History::default(), Duration::ZERO, 0);
        for action in Schedule::new(seed).take(500) {
            now += action.pause;
            if !action.ends_a_daemon() {
                continue;
            }
            hasty_run = if action.hasty { hasty_run + 1 } else { 0 };
            assert!(hasty_run <= HASTY_RUN, "seed {seed}");
            // As if it were always the same daemon.
            let life = Life { ready_for: (!action.hasty).then_some(RIPE), success: false, permanent: false };
            let decision = policy.decide(&mut history, now, life);
            assert!(matches!(decision, Decision::Restart { .. }), "seed {seed}: {decision:?} at {now:?}");
        }
    }
}
