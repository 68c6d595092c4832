use proptest::prelude::*;

use super::*;
use crate::init::policy::Restart;

const SECOND: Duration = Duration::from_secs(1);
const FAILED: Event = Event::Exited { exit: Exit::Code(1), permanent: false };
const RENEW: Event = Event::RenewRequested { signal: Signal::SIGTERM };
const STOP: Event = Event::StopRequested { signal: Signal::SIGTERM };

fn daemon() -> Service {
    Service::new(RestartPolicy::new(Restart::Always), Readiness::Notify)
}

/// A daemon that became ready at time 0.
fn running() -> Service {
    let mut service = daemon();
    assert_eq!(service.handle(Duration::ZERO, Event::Begin), [Effect::Start]);
    assert_eq!(service.handle(Duration::ZERO, Event::Spawned { pid: 7 }), []);
    assert_eq!(service.handle(Duration::ZERO, Event::NotifyReady), [Effect::BecameReady]);
    service
}

#[test]
fn a_ready_daemon_that_is_killed_starts_again_without_delay() {
    let mut service = running();
    let killed = Event::Exited { exit: Exit::Signal(9), permanent: false };
    assert_eq!(service.handle(5 * SECOND, killed), [Effect::ScheduleRestart { after: Duration::ZERO }]);
    assert_eq!(service.timer(), Some(5 * SECOND));
    assert_eq!(service.handle(5 * SECOND, Event::TimerFired), [Effect::Start]);
    service.handle(5 * SECOND, Event::Spawned { pid: 8 });
    assert_eq!((service.restarts(), service.pid(), service.phase()), (1, Some(8), Phase::Starting));
}

#[test]
fn an_early_timer_starts_nothing() {
    let mut service = running();
    service.handle(Duration::ZERO, FAILED);
    assert_eq!(service.handle(Duration::ZERO, Event::TimerFired), [Effect::Ignored]);
    assert_eq!(service.phase(), Phase::Backoff);
}

#[test]
fn stopping_sends_the_signal_once_and_wakes_a_stopped_process() {
    let mut service = running();
    let expected = [Effect::Signal(Signal::SIGTERM), Effect::Signal(Signal::SIGCONT)];
    assert_eq!(service.handle(SECOND, STOP), expected);
    assert_eq!(service.handle(SECOND, STOP), [Effect::Ignored]);
    assert_eq!(service.handle(SECOND, FAILED), [Effect::Ended]);
    assert_eq!(service.phase(), Phase::Stopped);
}

#[test]
fn a_daemon_that_stops_without_being_asked_is_started_again() {
    let mut service = running();
    assert_eq!(service.handle(5 * SECOND, Event::NotifyStopping), []);
    assert_eq!(service.phase(), Phase::Stopping);
    let exited = Event::Exited { exit: Exit::Code(0), permanent: false };
    assert_eq!(service.handle(6 * SECOND, exited), [Effect::ScheduleRestart { after: Duration::ZERO }]);
}

#[test]
fn a_renewed_service_is_started_again_whatever_its_policy() {
    for restart in [Restart::Always, Restart::OnFailure, Restart::Never] {
        let mut service = Service::new(RestartPolicy::new(restart), Readiness::Started);
        service.handle(Duration::ZERO, Event::Begin);
        service.handle(Duration::ZERO, Event::Spawned { pid: 7 });
        let expected = [Effect::Signal(Signal::SIGTERM), Effect::Signal(Signal::SIGCONT)];
        assert_eq!(service.handle(SECOND, RENEW), expected);
        assert_eq!(service.handle(SECOND, RENEW), [Effect::Ignored], "once is enough");
        let exited = Event::Exited { exit: Exit::Code(0), permanent: false };
        assert_eq!(service.handle(SECOND, exited), [Effect::ScheduleRestart { after: Duration::ZERO }]);
    }
}

#[test]
fn a_stop_overtakes_a_renewal() {
    let mut service = running();
    service.handle(SECOND, RENEW);
    assert_eq!(service.handle(SECOND, STOP), [Effect::Signal(Signal::SIGCONT)], "it has the signal already");
    assert_eq!(service.handle(SECOND, FAILED), [Effect::Ended]);
    let mut service = running();
    service.handle(SECOND, RENEW);
    service.handle(SECOND, Event::Drain);
    assert_eq!(service.handle(SECOND, FAILED), [Effect::Ended]);
}

#[test]
fn a_reload_ends_with_ready() {
    let mut service = running();
    service.handle(SECOND, Event::NotifyReloading);
    assert_eq!(service.phase(), Phase::Reloading);
    assert_eq!(service.handle(SECOND, Event::NotifyReady), [Effect::Reloaded]);
}

#[test]
fn the_two_words_of_a_reload_may_come_in_either_order() {
    let mut service = running();
    assert_eq!(service.handle(SECOND, Event::NotifyReady), []);
    assert_eq!(service.handle(SECOND, Event::NotifyReloading), [Effect::Reloaded]);
    assert_eq!(service.phase(), Phase::Ready);
    service.handle(2 * SECOND, Event::NotifyReady);
    assert_eq!(service.handle(4 * SECOND, Event::NotifyReloading), [], "too late to belong together");
    assert_eq!(service.phase(), Phase::Reloading);
}

#[test]
fn a_service_that_waits_for_its_next_start_ends_at_once_on_a_stop() {
    let mut service = running();
    service.handle(Duration::ZERO, FAILED);
    assert_eq!(service.handle(Duration::ZERO, Event::Drain), [Effect::Ended]);
    assert_eq!((service.timer(), service.phase()), (None, Phase::Stopped));
    assert_eq!(daemon().handle(Duration::ZERO, STOP), [Effect::Ended]);
}

#[test]
fn while_draining_a_death_is_an_end() {
    let mut service = running();
    assert_eq!(service.handle(SECOND, Event::Drain), []);
    assert_eq!(service.handle(2 * SECOND, FAILED), [Effect::Ended]);
}

#[test]
fn a_program_that_is_not_there_is_given_up_at_once() {
    let mut service = daemon();
    service.handle(Duration::ZERO, Event::Begin);
    let effects = service.handle(Duration::ZERO, Event::SpawnFailed { permanent: true });
    assert_eq!(effects, [Effect::GiveUp(Reason::Permanent)]);
    assert_eq!(service.phase(), Phase::Failed);
}

#[test]
fn a_command_is_ready_when_it_runs_and_ends_when_it_ends() {
    let mut service = Service::new(RestartPolicy::new(Restart::Never), Readiness::Started);
    service.handle(Duration::ZERO, Event::Begin);
    assert_eq!(service.handle(Duration::ZERO, Event::Spawned { pid: 7 }), [Effect::BecameReady]);
    assert_eq!(service.handle(SECOND, FAILED), [Effect::Ended]);
    assert_eq!(service.last_exit(), Some(Exit::Code(1)));
}

fn any_event() -> impl Strategy<Value = Event> {
    let exit = prop_oneof![any::<u8>().prop_map(Exit::Code), (1..65).prop_map(Exit::Signal)];
    prop_oneof![
        Just(Event::Begin),
        (2..1000).prop_map(|pid| Event::Spawned { pid }),
        any::<bool>().prop_map(|permanent| Event::SpawnFailed { permanent }),
        Just(Event::NotifyReady),
        Just(Event::NotifyReloading),
        Just(Event::NotifyStopping),
        (exit, any::<bool>()).prop_map(|(exit, permanent)| Event::Exited { exit, permanent }),
        Just(Event::TimerFired),
        Just(Event::Drain),
        Just(STOP),
        Just(RENEW),
        Just(Event::KillRequested),
    ]
}

fn any_service() -> impl Strategy<Value = Service> {
    let restart = prop_oneof![Just(Restart::Always), Just(Restart::OnFailure), Just(Restart::Never)];
    let readiness = prop_oneof![Just(Readiness::Notify), Just(Readiness::Started)];
    (restart, readiness).prop_map(|(restart, readiness)| Service::new(RestartPolicy::new(restart), readiness))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever comes in whatever order: the invariants that the supervisor relies on hold after every event.
    #[test]
    fn no_sequence_of_events_breaks_an_invariant(
        service in any_service(),
        events in proptest::collection::vec((0_u64..3000, any_event()), 0..60),
    ) {
        let (mut service, mut now) = (service, Duration::ZERO);
        let (mut terms_in_this_life, mut final_phase, mut drained) = (0, None, false);
        for (step, event) in events {
            now += Duration::from_millis(step);
            let before = service.clone();
            let effects = service.handle(now, event);
            let phase = service.phase();

            if effects.contains(&Effect::Ignored) {
                prop_assert_eq!(effects.len(), 1);
                prop_assert_eq!(before.phase(), phase, "an ignored event changed the state");
                prop_assert_eq!(before.pid(), service.pid());
            }
            // Running states have a process, resting ones have none; one is being started between the two.
            match phase {
                Phase::Ready | Phase::Reloading | Phase::Stopping => prop_assert!(service.pid().is_some()),
                Phase::Waiting | Phase::Backoff | Phase::Stopped | Phase::Failed => prop_assert!(service.pid().is_none()),
                Phase::Starting => {}
            }
            prop_assert_eq!(phase == Phase::Backoff, service.timer().is_some(), "a timer is armed in backoff only");
            if effects.contains(&Effect::Start) {
                prop_assert!(before.pid().is_none(), "a second process was started");
                prop_assert!(!drained, "something was started on the way down");
            }
            if before.pid() != service.pid() {
                terms_in_this_life = 0;
            }
            terms_in_this_life += effects.iter().filter(|e| **e == Effect::Signal(Signal::SIGTERM)).count();
            prop_assert!(terms_in_this_life <= 1, "the stop signal was repeated");
            if effects.iter().any(|e| matches!(e, Effect::Signal(_))) {
                prop_assert!(service.pid().is_some(), "a signal without a process");
            }
            if let Some(end) = final_phase {
                prop_assert_eq!(phase, end, "a final state was left");
                prop_assert_eq!(&effects[..], if effects.is_empty() { &[][..] } else { &[Effect::Ignored][..] });
            }
            if matches!(phase, Phase::Stopped | Phase::Failed) {
                final_phase = Some(phase);
            }
            drained |= matches!(event, Event::Drain | STOP | Event::KillRequested);
        }
    }
}
