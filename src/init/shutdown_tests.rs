use std::cell::Cell;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(35);

/// Two services, 0 (containerd) and 1 (dockerd), and something else.
struct World {
    alive: [Cell<bool>; 2],
    others: Cell<bool>,
}

impl World {
    fn full() -> Self {
        Self { alive: [Cell::new(true), Cell::new(true)], others: Cell::new(false) }
    }
}

impl Surroundings for World {
    fn is_alive(&self, service: usize) -> bool {
        self.alive[service].get()
    }
    fn is_ready(&self, service: usize) -> bool {
        self.alive[service].get()
    }
    fn others(&self) -> bool {
        self.others.get() || self.alive.iter().any(Cell::get)
    }
}

fn target(service: usize) -> Target {
    Target { service, limit: None, prepare: None }
}

fn stop() -> Shutdown {
    Shutdown::new(Duration::ZERO, TIMEOUT, vec![target(0), target(1)])
}

#[test]
fn the_last_started_ends_first_and_the_next_is_not_asked_before_it_has() {
    let (mut stop, world) = (stop(), World::full());
    assert_eq!(stop.advance(Duration::ZERO, &world), [Action::Terminate(1)]);
    assert_eq!(stop.advance(20 * SECOND, &world), []);
    world.alive[1].set(false);
    assert_eq!(stop.advance(20 * SECOND, &world), [Action::Terminate(0)]);
    world.alive[0].set(false);
    assert_eq!(stop.advance(21 * SECOND, &world), []);
    assert!(stop.is_done());
}

/// One that began by itself took the first request for a second one.
#[test]
fn a_stop_that_nobody_asked_for_is_not_hurried_by_the_first_request() {
    let (mut stop, world) = (stop().unasked(), World::full());
    stop.advance(Duration::ZERO, &world);
    let urgencies = [(); 3].map(|()| stop.hurry(SECOND));
    assert_eq!(urgencies, [Urgency::Orderly, Urgency::Short, Urgency::Now]);
    let mut stop = self::stop().unasked();
    stop.advance(Duration::ZERO, &world);
    stop.hurry(SECOND);
    assert_eq!(stop.timer(SECOND), Some(TIMEOUT));
}

#[test]
fn the_deadline_kills_all_that_is_left_at_once() {
    let (mut stop, world) = (stop(), World::full());
    stop.advance(Duration::ZERO, &world);
    assert_eq!(stop.timer(SECOND), Some(TIMEOUT));
    assert_eq!(stop.advance(TIMEOUT, &world), [Action::Kill(1), Action::Kill(0)]);
    world.alive.iter().for_each(|alive| alive.set(false));
    assert_eq!(stop.advance(TIMEOUT, &world), []);
    assert!(stop.is_done());
}

#[test]
fn a_service_over_its_own_limit_is_killed_alone() {
    let limited = Target { limit: Some(10 * SECOND), ..target(1) };
    let (mut stop, world) = (Shutdown::new(Duration::ZERO, TIMEOUT, vec![target(0), limited]), World::full());
    stop.advance(Duration::ZERO, &world);
    assert_eq!(stop.timer(Duration::ZERO), Some(10 * SECOND));
    assert_eq!(stop.advance(10 * SECOND, &world), [Action::Kill(1)]);
    world.alive[1].set(false);
    assert_eq!(stop.advance(10 * SECOND, &world), [Action::Terminate(0)]);
}

#[test]
fn a_reload_comes_first_and_is_waited_for_only_so_long() {
    let prepared = Target { prepare: Some(2 * SECOND), ..target(1) };
    let fresh = || Shutdown::new(Duration::ZERO, TIMEOUT, vec![prepared]);
    let (mut stop, world) = (fresh(), World::full());
    assert_eq!(stop.advance(Duration::ZERO, &world), [Action::Prepare(1)]);
    assert_eq!(stop.advance(SECOND, &world), []);
    stop.prepared(0);
    assert_eq!(stop.advance(SECOND, &world), [], "another service's reload is not its own");
    stop.prepared(1);
    assert_eq!(stop.advance(SECOND, &world), [Action::Terminate(1)]);

    let mut slow = fresh();
    slow.advance(Duration::ZERO, &world);
    assert_eq!(slow.advance(2 * SECOND, &world), [Action::Terminate(1)]);
}

#[test]
fn asking_again_shortens_the_grace_and_a_third_time_ends_it() {
    let (mut stop, world) = (stop(), World::full());
    stop.advance(Duration::ZERO, &world);
    assert_eq!(stop.hurry(SECOND), Urgency::Short);
    assert_eq!(stop.timer(SECOND), Some(SECOND + SHORT_GRACE));
    assert_eq!(stop.advance(2 * SECOND, &world), []);
    assert_eq!(stop.hurry(2 * SECOND), Urgency::Now);
    assert_eq!(stop.advance(2 * SECOND, &world), [Action::Kill(1), Action::Kill(0)]);
}

#[test]
fn the_rest_is_swept_with_a_short_grace() {
    let (mut stop, world) = (stop(), World::full());
    world.alive.iter().for_each(|alive| alive.set(false));
    world.others.set(true);
    assert_eq!(stop.advance(SECOND, &world), [Action::SweepTerminate]);
    assert_eq!(stop.advance(2 * SECOND, &world), []);
    assert_eq!(stop.advance(SECOND + SWEEP_GRACE, &world), [Action::SweepKill]);
    world.others.set(false);
    assert_eq!(stop.advance(SECOND + SWEEP_GRACE, &world), []);
    assert!(stop.is_done());
}

#[test]
fn what_cannot_be_killed_does_not_keep_us() {
    let (mut stop, world) = (stop(), World::full());
    assert_eq!(stop.advance(TIMEOUT, &world), [Action::Kill(1), Action::Kill(0)]);
    assert_eq!(stop.advance(TIMEOUT + KILL_WAIT, &world), [Action::SweepKill]);
    stop.advance(TIMEOUT + 2 * KILL_WAIT, &world);
    assert!(stop.is_done());
}

proptest! {
    /// Whatever dies when, and however often one asks: it ends, in time, asking each service at most once.
    #[test]
    fn every_stop_ends_in_time(
        deaths in (0_u64..60_000, 0_u64..60_000, 0_u64..60_000),
        hurries in prop::collection::vec(0_u64..40_000, 0..4),
        limit in prop::option::of(0_u64..20_000), prepare in prop::option::of(0_u64..5_000),
    ) {
        let last = Target { service: 1, limit: limit.map(Duration::from_millis), prepare: prepare.map(Duration::from_millis) };
        let mut stop = Shutdown::new(Duration::ZERO, TIMEOUT, vec![target(0), last]);
        let world = World::full();
        world.others.set(true);
        let (mut now, mut asked) = (Duration::ZERO, [0, 0]);
        let mut hurries: Vec<Duration> = hurries.into_iter().map(Duration::from_millis).collect();
        for _ in 0..10_000 {
            for (alive, death) in world.alive.iter().chain([&world.others]).zip([deaths.0, deaths.1, deaths.2]) {
                if now >= Duration::from_millis(death) {
                    alive.set(false);
                }
            }
            let due = hurries.iter().filter(|moment| **moment <= now).count();
            hurries.retain(|moment| *moment > now);
            for _ in 0..due {
                stop.hurry(now);
            }
            loop {
                let actions = stop.advance(now, &world);
                for action in &actions {
                    if let Action::Terminate(service) = action {
                        asked[*service] += 1;
                    }
                }
                if actions.is_empty() {
                    break;
                }
            }
            let Some(next) = stop.timer(now) else { break };
            // Something happens at the latest when the sequence asked to be woken, often earlier.
            now = next.min(now + Duration::from_millis(500)).max(now + Duration::from_millis(1));
        }
        prop_assert!(stop.is_done());
        prop_assert!(now <= TIMEOUT + 3 * KILL_WAIT, "{:?}", now);
        prop_assert!(asked.iter().all(|count| *count <= 1), "{:?}", asked);
    }
}
