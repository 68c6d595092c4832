//! Daemons that stand still (`SIGSTOP`): what is told of it, what is kept meanwhile, and that a stop still ends everything.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::hand::{Hand, pid_of};
use super::told;
use crate::docker::{Container, docker, docker_within, fresh_name, image};

const IMAGE: &str = "debian:trixie-slim";

/// Longest time of `dindctl entrypoint` for a stop, by default, and a second for the machine.
const STOP: Duration = Duration::from_secs(36);

fn with_image(name: &str, options: &[&str]) -> Container {
    let dind = Container::dind(name, options);
    dind.load(IMAGE);
    dind
}

fn pids(hand: &Hand<'_>, names: &[&str]) -> Vec<i32> {
    let state = hand.state();
    names.iter().map(|name| pid_of(&state, name).unwrap_or_else(|| panic!("no {name}: {state:?}"))).collect()
}

/// Nothing restarts a daemon that stands still: it may be a debugger's or a snapshot's, and it holds the data. It is told.
pub fn a_frozen_daemon_is_unhealthy_until_it_goes_on() -> Result<(), Failed> {
    let dind = Container::dind("frozen", &[]);
    let hand = Hand::new(&dind, Vec::new());
    let dockerd = pids(&hand, &["dockerd"]);
    assert!(hand.signal("STOP", &dockerd));
    let asked = Instant::now();
    let health = dind.exec(&["dindctl", "health", "--timeout", "1s"]);
    assert_eq!(health.code, 1, "{}{}", health.out, health.err);
    assert!(health.out.contains("unhealthy: ") && asked.elapsed() < Duration::from_secs(20), "{}", health.out);
    assert!(hand.signal("CONT", &dockerd));
    dind.wait_healthy(Duration::from_secs(30));
    assert_eq!(pids(&hand, &["dockerd"]), dockerd, "it was restarted");
    Ok(())
}

/// Whoever is frozen when the stop comes: it ends in time, and nested containers get their signal.
pub fn a_stop_wakes_what_is_frozen() -> Result<(), Failed> {
    for frozen in [&["dockerd"][..], &["containerd"], &["containerd", "dockerd"]] {
        let dind = with_image("stopfrozen", &["--volume", "/shared"]);
        let script = "trap 'echo ended >/shared/word; exit 0' TERM; echo up >/shared/word; while :; do sleep 0.1; done";
        dind.exec(&["docker", "run", "-d", "--network=none", "-v", "/shared:/shared", IMAGE, "sh", "-c", script]).ok();
        let started = Instant::now();
        while dind.sh("cat /shared/word").out.trim() != "up" {
            assert!(started.elapsed() < Duration::from_secs(60), "the nested container did not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        let hand = Hand::new(&dind, Vec::new());
        assert!(hand.signal("STOP", &pids(&hand, frozen)));
        drop(hand);
        let asked = Instant::now();
        docker(&["stop", "--time", "100", &dind.name]).ok();
        let took = asked.elapsed();
        println!("chaos frozen: {frozen:?} stopped in {took:?}");
        assert!(took < STOP, "{frozen:?}: {took:?}\n{}", told(&dind));
        assert_eq!(dind.wait(Duration::from_secs(5)), 0, "{frozen:?}\n{}", dind.logs());
        let peek = Container { name: fresh_name("peek") };
        let (name, image) = (&dind.name, image());
        let cat = ["run", "--name", &peek.name, "--volumes-from", name, "--entrypoint", "cat", &image, "/shared/word"];
        assert_eq!(docker(&cat).ok(), "ended", "{frozen:?}\n{}", dind.logs());
    }
    Ok(())
}

/// Three nested containers that end while these services stand still, which are killed then; and how they are known to have
/// ended.
fn end_meanwhile(dind: &Container, dead: &[&str]) -> Vec<String> {
    let hand = Hand::new(dind, Vec::new());
    let name = |number: i32| format!("{}-{number}", dead.join("-"));
    for number in 0..3 {
        let (name, script) = (name(number), format!("sleep 4; exit {}", 20 + number));
        dind.exec(&["docker", "run", "-d", "--network=none", "--name", &name, IMAGE, "sh", "-c", &script]).ok();
    }
    let frozen = pids(&hand, dead);
    assert!(hand.signal("STOP", &frozen));
    std::thread::sleep(Duration::from_secs(6));
    let left = dind.sh("for p in /proc/[0-9]*; do read n <$p/comm && [ \"$n\" = sleep ] && echo $p; done; :").out;
    assert_eq!(left.trim(), "", "a nested container still sleeps");
    assert!(hand.signal("KILL", &frozen));
    std::thread::sleep(Duration::from_millis(500));
    dind.wait_healthy(Duration::from_secs(90));
    let known = |number| {
        let name = name(number);
        // A client that waits already is cut off where dockerd is started anew.
        let end = Instant::now() + Duration::from_secs(60);
        let waited = loop {
            let waited = docker_within(Duration::from_secs(60), &["exec", &dind.name, "docker", "wait", &name]);
            let waited = waited.unwrap_or_else(|| panic!("docker wait {name} hangs\n{}", told(dind)));
            if waited.code == 0 || Instant::now() > end {
                break waited.ok();
            }
        };
        let state = dind.exec(&["docker", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &name]).ok();
        assert_eq!(state, format!("exited {waited}"), "{}", told(dind));
        waited
    };
    (0..3).map(known).collect()
}

/// Containers that end while dockerd does not see it: their codes are known when it is back.
pub fn codes_of_containers_that_end_meanwhile_are_kept() -> Result<(), Failed> {
    let dind = with_image("meanwhile", &[]);
    assert_eq!(end_meanwhile(&dind, &["dockerd"]), ["20", "21", "22"], "{}", told(&dind));
    // containerd itself cleans away, when it comes back, what has ended without it (1.7, `loadShims`), and the code is lost
    // with that: what is left to ask for is that the end is known.
    for dead in [&["containerd", "dockerd"][..], &["containerd"]] {
        for (code, own) in end_meanwhile(&dind, dead).iter().zip(["20", "21", "22"]) {
            assert!([own, "137", "255"].contains(&code.as_str()), "{dead:?}: {code}\n{}", told(&dind));
        }
    }
    Ok(())
}

/// dockerd is started anew for a container whose end it has missed, and for nothing else: clients would be cut off for no reason.
pub fn dockerd_goes_on_where_it_has_missed_nothing() -> Result<(), Failed> {
    let dind = with_image("unmissed", &[]);
    dind.exec(&["docker", "run", "-d", "--network=none", "--name", "lives", IMAGE, "sleep", "1000"]).ok();
    let hand = Hand::new(&dind, Vec::new());
    let dockerd = pids(&hand, &["dockerd"]);
    let containerd = pids(&hand, &["containerd"]);
    assert!(hand.signal("KILL", &containerd));
    std::thread::sleep(Duration::from_secs(1));
    let looks =
        || dind.sh("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done").out.contains("dindctl missed");
    assert!(looks(), "nobody looks\n{}", told(&dind));
    let end = Instant::now() + Duration::from_secs(30);
    while looks() {
        assert!(Instant::now() < end, "the look does not end\n{}", told(&dind));
        std::thread::sleep(Duration::from_millis(200));
    }
    dind.wait_healthy(Duration::from_secs(30));
    assert_eq!(pids(&hand, &["dockerd"]), dockerd, "it was restarted\n{}", told(&dind));
    let lives = dind.exec(&["docker", "inspect", "-f", "{{.State.Running}}", "lives"]).ok();
    assert_eq!(lives, "true", "{}", told(&dind));
    Ok(())
}
