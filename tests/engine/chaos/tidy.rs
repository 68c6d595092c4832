//! What is left of daemons that are killed, at a stop or before.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::hand::Hand;
use super::told;
use crate::docker::{Container, docker, image};

/// A container that needs no image of anybody: our own program, waiting for a daemon that is not there.
const NESTED: &str = "tar -C /usr/local/bin -c dindctl | docker import - tiny && \
    docker run -d --network=none tiny /dindctl health --wait 1h";

/// On a volume mounted with `rshared` the layers of nested containers are mounted on the machine as well. The machine is the
/// container `outer` here.
pub fn mounts_of_killed_daemons_do_not_stay_on_the_machine() -> Result<(), Failed> {
    let outer = Container::dind("tidy", &[]);
    outer.load(&image());
    outer.sh("mkdir /srv/shared && mount -t tmpfs shared /srv/shared && mount --make-shared /srv/shared").ok();
    let run = "docker run -d --name inner --privileged -e DOCKER_TLS_CERTDIR= -v /srv/shared:/srv/shared:rshared";
    outer.sh(&format!("{run} {} --data-root=/srv/shared/docker", image())).ok();
    let inside = |script: &str| outer.exec(&["docker", "exec", "inner", "sh", "-c", script]);
    inside("dindctl health --wait 60s").ok();
    inside(NESTED).ok();
    let seen = || outer.sh("grep ' /srv/shared/docker/' /proc/self/mountinfo").out;
    assert!(seen().contains("/overlay2/"), "nothing has spread: {}\n{}", seen(), told(&outer));
    // The third request kills everything at once.
    for _ in 0..3 {
        outer.sh("docker kill --signal TERM inner").ok();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        outer.exec(&["docker", "wait", "inner"]).ok(),
        "137",
        "{}",
        outer.exec(&["docker", "logs", "inner"]).err
    );
    let logs = outer.exec(&["docker", "logs", "inner"]).err;
    assert!(logs.contains("killing what is left"), "it was not killed:\n{logs}");
    assert_eq!(seen(), "", "left on the machine\n{logs}");
    docker(&["stop", "--time", "60", &outer.name]).ok();
    Ok(())
}

/// A daemon that comes back forgets the group of a container that it was making; what has a process, or another name, is somebody's.
pub fn empty_groups_of_killed_daemons_go_when_these_are_back() -> Result<(), Failed> {
    let dind = Container::dind("leavings", &[]);
    dind.sh(NESTED).ok();
    let script = "
        set -e
        for hierarchy in $(dirname $(find /sys/fs/cgroup -maxdepth 2 -name docker -type d)); do
            cd $hierarchy
            mkdir -p docker/$(printf 'a%.0s' $(seq 64))/below docker/$(printf 'b%.0s' $(seq 64)) docker/somebody
        done
        sleep 1000 & echo $! >docker/$(printf 'b%.0s' $(seq 64))/cgroup.procs
        pwd";
    let groups = || dind.sh("find /sys/fs/cgroup -path '*/docker/*' -type d").ok();
    for (daemon, rounds) in [("dockerd", 1_usize), ("containerd", 2)] {
        let busy = dind.sh(script).ok();
        let end = Instant::now() + Duration::from_secs(60);
        let hand = Hand::new(&dind, Vec::new());
        assert!(hand.signal("KILL", &[super::hand::pid_of(&hand.state(), daemon).ok_or("no pid")?]));
        while groups().contains("aaaa") {
            assert!(Instant::now() < end, "{daemon}: {}\n{}", groups(), told(&dind));
            std::thread::sleep(Duration::from_millis(250));
        }
        assert!(groups().contains(&format!("{busy}/docker/{}", "b".repeat(64))), "{}", groups());
        assert!(groups().contains(&format!("{busy}/docker/somebody")), "{}", groups());
        dind.wait_healthy(Duration::from_secs(30));
        let said = dind.logs().matches("that dockerd does not know any more removed").count();
        assert_eq!(said, rounds, "{}", told(&dind));
    }
    assert_eq!(dind.sh("docker ps --quiet | wc -l").ok(), "1", "{}", told(&dind));
    Ok(())
}

/// A shim that dies alone brings no daemon back; PID 1, whose child it is, has somebody look all the same.
pub fn empty_groups_go_after_a_shim_was_killed() -> Result<(), Failed> {
    let dind = Container::dind("shim", &[]);
    let id = dind.sh(NESTED).ok();
    let id = id.lines().last().ok_or("no container")?;
    let docker_group = "$(find /sys/fs/cgroup -maxdepth 2 -name docker -type d | head -1)";
    dind.sh(&format!("mkdir {docker_group}/{}", "a".repeat(64))).ok();
    let kill = r#"
        for one in /proc/[0-9]*; do
            read -r name <$one/comm && [ "$name" = containerd-shim ] && kill -KILL ${one#/proc/} && echo killed
        done 2>/dev/null
        :"#;
    assert_eq!(dind.sh(kill).ok(), "killed");
    let end = Instant::now() + Duration::from_secs(120);
    let groups = || dind.sh("find /sys/fs/cgroup -path '*/docker/*' -type d").ok();
    while groups().contains("aaaa") {
        assert!(Instant::now() < end, "{}\n{}", groups(), told(&dind));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(groups(), "", "{}", told(&dind));
    assert_eq!(dind.logs().matches("that dockerd does not know any more removed").count(), 1, "{}", told(&dind));
    let ended = dind.exec(&["docker", "inspect", "--format={{.State.Status}}", id]).ok();
    assert_eq!(ended, "exited", "{}", told(&dind));
    Ok(())
}
