//! Random blows at everything inside, while requests, nested containers and sandboxes go on.

use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::Failed;

use super::hand::{Hand, Struck, pid_of, story};
use super::inventory::Inventory;
use super::jobs::{self, Job, Run};
use super::schedule::{Action, Schedule, Victim};
use super::watch::Watch;
use super::{seed, storm_length, told};
use crate::docker::{Container, docker};
use crate::load::{Load, Seen};

/// The command beside the daemon. Its code is the container's.
const COMMAND: &str = "trap 'exit 9' TERM; while :; do sleep 1 & wait $!; done";

/// A nested container that nobody hits.
const KEPT: &str = "i=0; while :; do i=$((i+1)); echo $i >/beat; sleep 0.2; done";

fn started(name: &str) -> Container {
    let options = ["--privileged", "--env", "DOCKER_TLS_CERTDIR=", "--entrypoint", "dindctl"];
    let dind = Container::start(name, &options, &["up", "--", "sh", "-c", COMMAND]);
    dind.wait_healthy(Duration::from_secs(60));
    dind.load("debian:trixie-slim");
    // What the first nested container of a daemon leaves for all later ones is no leak.
    dind.exec(&["docker", "run", "--rm", "debian:trixie-slim", "true"]).ok();
    dind.exec(&["dindctl", "exec", "sh", "-c", "true"]).ok();
    dind
}

fn keep(dind: &Container, name: &str, network: &str) -> String {
    let run = ["docker", "run", "--detach", network, "--name", name, "debian:trixie-slim", "sh", "-c", KEPT];
    dind.exec(&run).ok()
}

fn life_of(dind: &Container, name: &str) -> String {
    dind.exec(&["docker", "inspect", "--format", "{{.State.Running}} {{.State.Pid}} {{.RestartCount}}", name]).ok()
}

/// Fails unless the program of a nested container goes on counting. A look that comes between its emptying the file and writing
/// to it sees nothing.
fn assert_beats(dind: &Container, name: &str) {
    let beat = || dind.exec(&["docker", "exec", name, "cat", "/beat"]).ok();
    let (mut seen, end) = (Vec::new(), Instant::now() + Duration::from_secs(20));
    while Instant::now() < end {
        seen.extend(Some(beat()).filter(|beat| !beat.is_empty()));
        if seen.first() != seen.last() {
            return;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let processes = dind.exec(&["docker", "top", name]).out;
    panic!("{name} runs no more: {seen:?}\n{processes}\n{}", told(dind));
}

/// Strikes until the time is over.
fn strike(hand: &mut Hand<'_>, seed: u64) {
    let end = Instant::now() + storm_length();
    for action in Schedule::new(seed) {
        if Instant::now() >= end {
            break;
        }
        hand.strike(action);
    }
}

/// A request may break when dockerd dies under it or is started anew, and at no other time.
fn excused(struck: &[Struck], renewals: &[Instant], (from, to): (Instant, Instant)) -> bool {
    let hits_dockerd =
        |action: Action| action.ends_a_daemon() && matches!(action.victim, Victim::Dockerd | Victim::Both);
    struck.iter().any(|hit| hits_dockerd(hit.action) && from <= hit.until && to >= hit.from)
        || renewals.iter().any(|moment| from <= *moment + RENEWAL && to >= *moment)
}

/// Longest time from the word that dockerd is started anew to its end, on a loaded machine.
const RENEWAL: Duration = Duration::from_secs(10);

/// When dockerd was started anew for a container whose end it had missed.
fn renewals(dind: &Container) -> Vec<Instant> {
    let said = docker(&["logs", "--timestamps", &dind.name]);
    let (here, clock) = (Instant::now(), SystemTime::now());
    let moment = |line: &str| {
        let told = line.split_once(' ').filter(|(_, text)| text.contains("dockerd is started anew because of"))?.0;
        let told = humantime::parse_rfc3339(told).unwrap_or_else(|error| panic!("{error}: {line}"));
        here.checked_sub(clock.duration_since(told).unwrap_or_default())
    };
    said.err.lines().chain(said.out.lines()).filter_map(moment).collect()
}

fn judge_requests(seen: &Seen, struck: &[Struck], renewals: &[Instant], logs: &str) {
    assert_eq!(seen.refused, 0, "{seen:?}\n{logs}");
    let unexplained: Vec<_> = seen.breaks.iter().filter(|request| !excused(struck, renewals, **request)).collect();
    assert!(unexplained.is_empty(), "{unexplained:?} broke without a blow at dockerd\n{}\n{logs}", story(struck));
    let least = usize::try_from(storm_length().as_secs() * 10).unwrap_or_default();
    assert!(seen.answered >= least, "{} answered of {least} at least", seen.answered);
}

fn judge_work(dind: &Container, jobs: &[Job], runs: &[Run], struck: &[Struck]) {
    let lost = jobs.iter().filter_map(|job| job.account(&dind.name, struck));
    let wrong: Vec<String> = lost.chain(runs.iter().filter_map(Run::account)).collect();
    assert!(wrong.is_empty(), "{}\n{}\n{}", wrong.join("\n"), story(struck), told(dind));
    let started: Vec<&Job> = jobs.iter().filter(|job| job.was_started()).collect();
    assert!(started.len() >= 3 && runs.iter().any(Run::went_well), "hardly anything worked: {jobs:?}\n{runs:?}");
    let lost = started.iter().filter(|job| job.was_lost(&dind.name)).count();
    println!("chaos storm: {lost} of {} codes changed by blows or lost by a daemon that died over them", started.len());
    started.iter().rev().take(5).for_each(|job| job.assert_wait_agrees(&dind.name));
}

/// Removes every nested container, and has everything be as it was before the first.
///
/// A daemon that is killed while it makes a container forgets what it had made of it, and no later one knows: a network that nobody is
/// in may be left by each. Tasks and empty control groups go when the daemons are back, and those of the last blow at a shim with the next look.
fn assert_nothing_is_left(dind: &Container, before: &Inventory, struck: &[Struck]) {
    dind.exec(&["dindctl", "gc"]).ok();
    let sandboxes = dind.exec(&["docker", "ps", "--all", "--quiet", "--filter", "label=io.dindctl.run"]).ok();
    assert_eq!(sandboxes, "", "dindctl gc left sandboxes");
    dind.sh("docker rm --force $(docker ps --all --quiet)").ok();
    dind.exec(&["dindctl", "leavings"]).ok();
    let residue =
        |line: &str| line.starts_with("mount /run/docker/netns/") || line.starts_with("file /sys/class/net/veth");
    let left = before.assert_same_again(dind, Duration::from_secs(30), residue);
    let of = |kind: &str| left.iter().filter(|line| line.starts_with(kind)).count();
    let (networks, interfaces) = (of("mount "), of("file "));
    println!("chaos storm: left by daemons that were killed: {networks} networks, {interfaces} interfaces");
    let deaths = struck.iter().filter(|hit| hit.action.ends_a_daemon()).count();
    assert!(networks <= deaths && interfaces <= deaths, "{left:#?}");
    let full = "find /sys/fs/cgroup -path '*/docker/*' -name cgroup.procs -exec cat {} +";
    assert_eq!(dind.sh(full).out.trim(), "", "processes in control groups of containers that are gone");
}

pub fn random_blows_lose_nothing() -> Result<(), Failed> {
    let seed = seed("storm");
    let dind = started("storm");
    let before = Inventory::of_rest(&dind);
    let kept = [("kept-none", "--network=none"), ("kept-bridge", "--network=bridge")];
    let ids = kept.map(|(name, network)| keep(&dind, name, network));
    let lives = kept.map(|(name, _)| life_of(&dind, name));

    let watch = Watch::over(&dind);
    let limit = storm_length() + Duration::from_secs(300);
    let load = Load::start_for(&format!("{}:2375", dind.address()), 20, limit);
    let (jobs, runs) = (jobs::jobs(&dind.name, seed), jobs::runs(&dind.name));
    let mut hand = Hand::new(&dind, ids.to_vec());
    strike(&mut hand, seed);
    let (jobs, runs) = (jobs.end(), runs.end());
    let (struck, missed) = (hand.struck.clone(), hand.missed);
    dind.wait_healthy(Duration::from_secs(90));
    let requests = load.stop();
    let of = |all: usize, well: usize| format!("{well} of {all}");
    println!(
        "chaos storm: {} blows ({missed} at nobody), requests {} answered, {} broken, longest {:?}; jobs started {}; runs {}",
        struck.len(),
        requests.answered,
        requests.broken,
        requests.longest,
        of(jobs.len(), jobs.iter().filter(|job| job.was_started()).count()),
        of(runs.len(), runs.iter().filter(|run| run.went_well()).count()),
    );

    // The command was frozen now and then, and is still the one that was started.
    let state = hand.state();
    drop(hand);
    let command = state.services.iter().find(|service| service.name == "command").ok_or("no command")?;
    assert_eq!((command.restarts, pid_of(&state, "command").is_some()), (0, true), "{state:?}");
    let renewals = renewals(&dind);
    println!("chaos storm: dockerd was started anew {} times for ends that it had missed", renewals.len());
    judge_requests(&requests, &struck, &renewals, &told(&dind));
    for ((name, _), life) in kept.iter().zip(&lives) {
        assert_eq!(&life_of(&dind, name), life, "{name}\n{}\n{}", story(&struck), told(&dind));
        assert_beats(&dind, name);
    }
    judge_work(&dind, &jobs, &runs, &struck);
    watch.saw_none();
    assert_nothing_is_left(&dind, &before, &struck);

    assert!(!dind.logs().contains("giving up"), "{}", told(&dind));
    docker(&["stop", "--time", "60", &dind.name]).ok();
    assert_eq!(dind.wait(Duration::from_secs(5)), 9, "the command's own code:\n{}", told(&dind));
    Ok(())
}
