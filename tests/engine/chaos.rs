//! Chaos: blows, hunger and noise, and at the end everything accounted for.
//!
//! `DINDCTL_CHAOS_SEED` repeats a schedule (it is printed), `DINDCTL_CHAOS_SECONDS` is the time that all cases together
//! take about (default 180): what the cases of fixed length leave of it is the storm's.

#[path = "chaos/execs.rs"]
mod execs;
#[path = "chaos/forgotten.rs"]
mod forgotten;
#[path = "chaos/frozen.rs"]
mod frozen;
#[path = "chaos/hand.rs"]
mod hand;
#[path = "chaos/inventory.rs"]
mod inventory;
#[path = "chaos/jobs.rs"]
mod jobs;
#[path = "chaos/scarcity.rs"]
mod scarcity;
#[path = "chaos/schedule.rs"]
mod schedule;
#[path = "chaos/shell.rs"]
mod shell;
#[path = "chaos/storm.rs"]
mod storm;
#[path = "chaos/tidy.rs"]
mod tidy;
#[path = "chaos/watch.rs"]
mod watch;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::Failed;

use super::docker::Container;

type Case = fn() -> Result<(), Failed>;

/// The cases of this file and those below it.
pub const CASES: &[(&str, Case)] = &[
    ("chaos::random_blows_lose_nothing", storm::random_blows_lose_nothing),
    ("chaos::a_frozen_daemon_is_unhealthy_until_it_goes_on", frozen::a_frozen_daemon_is_unhealthy_until_it_goes_on),
    ("chaos::a_stop_wakes_what_is_frozen", frozen::a_stop_wakes_what_is_frozen),
    ("chaos::codes_of_containers_that_end_meanwhile_are_kept", frozen::codes_of_containers_that_end_meanwhile_are_kept),
    ("chaos::dockerd_goes_on_where_it_has_missed_nothing", frozen::dockerd_goes_on_where_it_has_missed_nothing),
    ("chaos::a_fork_bomb_as_command_ends_with_the_container", scarcity::a_fork_bomb_as_command_ends_with_the_container),
    ("chaos::hunger_for_memory_never_ends_pid_one", scarcity::hunger_for_memory_never_ends_pid_one),
    (
        "chaos::a_full_disk_stops_neither_daemons_nor_containers",
        scarcity::a_full_disk_stops_neither_daemons_nor_containers,
    ),
    ("chaos::a_full_log_volume_is_told_and_stops_nothing", scarcity::a_full_log_volume_is_told_and_stops_nothing),
    ("chaos::a_storm_of_execs_leaves_nothing", execs::a_storm_of_execs_leaves_nothing),
    (
        "chaos::mounts_of_killed_daemons_do_not_stay_on_the_machine",
        tidy::mounts_of_killed_daemons_do_not_stay_on_the_machine,
    ),
    (
        "chaos::empty_groups_of_killed_daemons_go_when_these_are_back",
        tidy::empty_groups_of_killed_daemons_go_when_these_are_back,
    ),
    ("chaos::empty_groups_go_after_a_shim_was_killed", tidy::empty_groups_go_after_a_shim_was_killed),
    (
        "chaos::what_killed_daemons_forgot_is_ended_and_nothing_else",
        forgotten::what_killed_daemons_forgot_is_ended_and_nothing_else,
    ),
    ("chaos::a_start_that_takes_long_is_left_alone", forgotten::a_start_that_takes_long_is_left_alone),
    ("chaos::shims_of_others_stay", forgotten::shims_of_others_stay),
    ("chaos::the_watch_sees_a_zombie", the_watch_sees_a_zombie),
];

/// Time that the other cases take, together.
const FIXED: Duration = Duration::from_secs(100);

/// How long the storm blows.
fn storm_length() -> Duration {
    let all = std::env::var("DINDCTL_CHAOS_SECONDS").map_or(180, |text| text.parse().expect("DINDCTL_CHAOS_SECONDS"));
    Duration::from_secs(all).saturating_sub(FIXED).max(Duration::from_secs(20))
}

/// The seed asked for, else a new one, told in any case.
fn seed(case: &str) -> u64 {
    let fresh = || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos());
    let seed = std::env::var("DINDCTL_CHAOS_SEED").map_or_else(
        |_| fresh(),
        |text| text.parse().unwrap_or_else(|error| panic!("DINDCTL_CHAOS_SEED={text}: {error}")),
    );
    println!("chaos {case}: DINDCTL_CHAOS_SEED={seed}");
    seed
}

/// What PID 1 said, and what the daemons said in earnest: their whole log would hide it.
fn told(dind: &Container) -> String {
    let earnest = |line: &&str| !line.contains("level=info") && !line.contains("shim disconnected");
    dind.logs().lines().filter(earnest).collect::<Vec<_>>().join("\n")
}

/// Before it is believed that there were none.
fn the_watch_sees_a_zombie() -> Result<(), Failed> {
    let dind = Container::dind("watch", &[]);
    let watch = watch::Watch::over(&dind);
    // The first shell's child dies; what the shell has become does not know it.
    dind.sh("sh -c 'sleep 0.2 & exec sleep 3' & wait").ok();
    let (zombies, looks) = watch.end();
    assert_eq!(zombies.len(), 1, "{zombies:?}");
    assert!(zombies[0].contains("sleep") && looks > 5, "{zombies:?}, {looks} looks");
    Ok(())
}
