//! Hunger: no processes, no memory, no space.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::hand::{Hand, pid_of};
use super::told;
use crate::docker::{Container, docker, docker_within};
use crate::load::answers;

const IMAGE: &str = "debian:trixie-slim";

/// Everybody forks for ever, nobody listens to `SIGTERM`. A shell's bomb dies out where forks fail; this one does not.
const BOMB: &str = "$SIG{TERM} = 'IGNORE'; while (1) { fork // select(undef, undef, undef, 0.02) }";

/// Process of PID 1 outside, while it runs.
fn first_process(container: &Container) -> String {
    docker(&["inspect", "--format", "{{.State.Running}} {{.State.Pid}}", &container.name]).ok()
}

fn keep(dind: &Container) {
    dind.exec(&["docker", "run", "-d", "--network=none", "--name=kept", IMAGE, "sleep", "3600"]).ok();
}

fn kept(dind: &Container) -> String {
    dind.exec(&["docker", "inspect", "-f", "{{.State.Running}} {{.State.Pid}}", "kept"]).ok()
}

#[track_caller]
fn eventually(limit: Duration, what: &str, dind: &Container, reached: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !reached() {
        assert!(Instant::now() < end, "waited {limit:?} for {what}\n{}", told(dind));
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn kill(dind: &Container, service: &str) {
    let hand = Hand::new(dind, Vec::new());
    let state = hand.state();
    let pid = pid_of(&state, service).unwrap_or_else(|| panic!("no {service}: {state:?}"));
    assert!(hand.signal("KILL", &[pid]));
}

pub fn a_fork_bomb_as_command_ends_with_the_container() -> Result<(), Failed> {
    let options = ["--privileged", "--env=DOCKER_TLS_CERTDIR=", "--pids-limit=300", "--cpus=1", "--entrypoint=dindctl"];
    let dind = Container::start("bomb", &options, &["up", "--", "perl", "-e", BOMB]);
    let tasks = || docker(&["stats", "--no-stream", "--format", "{{.PIDs}}", &dind.name]).ok().parse::<u32>();
    eventually(Duration::from_secs(120), "300 processes", &dind, || tasks().is_ok_and(|tasks| tasks >= 290));
    let before = first_process(&dind);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(first_process(&dind), before, "{}", told(&dind));
    let asked = Instant::now();
    let stopped = docker_within(Duration::from_secs(120), &["stop", "--time", "100", &dind.name]);
    let took = asked.elapsed();
    println!("chaos bomb: stopped in {took:?}");
    assert!(stopped.is_some_and(|said| said.code == 0) && took < Duration::from_secs(45), "{took:?}\n{}", told(&dind));
    // The command did not end when it was asked to.
    assert_eq!(dind.wait(Duration::from_secs(5)), 137, "{}", told(&dind));
    assert!(dind.logs().contains("command did not end in time and is killed"), "{}", told(&dind));
    Ok(())
}

pub fn hunger_for_memory_never_ends_pid_one() -> Result<(), Failed> {
    let dind = Container::dind("memory", &["--memory=400m", "--memory-swap=400m"]);
    dind.load(IMAGE);
    keep(&dind);
    let (before, kept_before) = (first_process(&dind), kept(&dind));
    for hog in ["docker run --rm --network=none debian:trixie-slim tail /dev/zero", "tail /dev/zero"] {
        let said = docker_within(Duration::from_secs(120), &["exec", &dind.name, "sh", "-c", hog]);
        let said = said.unwrap_or_else(|| panic!("{hog} hangs\n{}", told(&dind)));
        // The daemon may be the one that the kernel chose; then its client knows no code.
        assert_ne!(said.code, 0, "{hog}");
        dind.wait_healthy(Duration::from_secs(90));
    }
    assert_eq!(kept(&dind), kept_before, "{}", told(&dind));
    // Many small ones: the largest are the daemons and the shims, and these may be killed at every start meanwhile.
    let many = "i=0; while [ $i -lt 45 ]; do perl -e '$x = \"a\" x 8e6; sleep 2' & i=$((i+1)); done; wait";
    dind.sh(many);
    std::thread::sleep(Duration::from_millis(300));
    dind.wait_healthy(Duration::from_secs(90));
    println!("chaos memory: dockerd ended {} times", dind.logs().matches("dockerd ended: ").count());
    assert_eq!(first_process(&dind), before, "{}", told(&dind));
    // With its shim a container is gone as well, and that is known.
    let codes = dind.exec(&["docker", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "kept"]).ok();
    assert!(["running 0", "exited 137", "exited 255"].contains(&codes.as_str()), "{codes}\n{}", told(&dind));
    Ok(())
}

pub fn a_full_disk_stops_neither_daemons_nor_containers() -> Result<(), Failed> {
    let volumes = ["--tmpfs=/var/lib/docker:size=300m", "--tmpfs=/var/lib/containerd:size=100m"];
    let dind = Container::dind("room", &volumes);
    dind.load(IMAGE);
    keep(&dind);
    let kept_before = kept(&dind);
    for folder in ["docker", "containerd"] {
        let fill = format!("cd /var/lib/{folder}; dd if=/dev/zero of=fill bs=64k; dd if=/dev/zero of=rest bs=1; :");
        dind.sh(&fill).ok();
    }
    let address = format!("{}:2375", dind.address());
    assert!(answers(&address), "{}", told(&dind));
    let run = ["exec", &dind.name, "docker", "run", "--rm", "--network=none", IMAGE, "true"];
    let said = docker_within(Duration::from_secs(90), &run).unwrap_or_else(|| panic!("hangs\n{}", told(&dind)));
    assert!(said.code != 0 && said.err.contains("no space left on device"), "{said:?}");

    for service in ["containerd", "dockerd"] {
        kill(&dind, service);
        std::thread::sleep(Duration::from_secs(2));
        dind.wait_healthy(Duration::from_secs(90));
        assert_eq!(kept(&dind), kept_before, "{}", told(&dind));
    }
    // The words about the disk were a client's; nobody who was killed died of it.
    assert!(!dind.logs().contains("(the disk is full)"), "{}", told(&dind));
    dind.sh("rm /var/lib/*/fill /var/lib/*/rest").ok();
    let run = docker_within(Duration::from_secs(90), &run);
    assert!(run.as_ref().is_some_and(|said| said.code == 0), "{run:?}\n{}", told(&dind));
    Ok(())
}

/// Reloads that make dockerd write.
const RELOADS: usize = 20;

pub fn a_full_log_volume_is_told_and_stops_nothing() -> Result<(), Failed> {
    // Each reload begins a new file; so many are kept that none goes and makes room.
    let options =
        ["--env=DINDCTL_DAEMON_LOG=/logs/daemon.log", "--env=DINDCTL_DAEMON_LOG_COUNT=255", "--tmpfs=/logs:size=2m"];
    let dind = Container::dind("log", &options);
    let log = || dind.sh("cat /logs/daemon.log*").out;
    let told_times = || dind.logs().matches("cannot write to the log file /logs/daemon.log").count();
    // Each reload is told in a short line and a long one.
    let some_lines = || {
        for _ in 0..RELOADS {
            dind.sh("kill -HUP 1").ok();
            std::thread::sleep(Duration::from_millis(100));
        }
        dind.wait_healthy(Duration::from_secs(60));
    };
    assert!(log().contains("API listen on"), "{}", log());
    for round in 1..=2 {
        let before_round = told_times();
        dind.sh("dd if=/dev/zero of=/logs/fill bs=4k; :").ok();
        some_lines();
        // At the first line that finds no room after one that did; a short one may fit between two long ones.
        let times = told_times() - before_round;
        assert!((1..RELOADS).contains(&times), "round {round}: {times} times\n{}", told(&dind));
        dind.sh("rm /logs/fill").ok();
        let before = log().len();
        some_lines();
        assert!(log().len() > before, "nothing more is written");
    }
    let torn: Vec<String> = log().lines().filter(|line| !is_whole(line)).map(str::to_owned).collect();
    assert!(torn.is_empty(), "{torn:#?}");
    Ok(())
}

/// Whether a line is one line of a daemon, from its beginning on.
fn is_whole(line: &str) -> bool {
    line.starts_with("time=") && line.matches("time=\"20").count() == 1
}
