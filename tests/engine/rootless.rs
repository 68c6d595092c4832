//! The daemon of an ordinary user.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::{Container, docker, rootless_image};
use super::load::Load;

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("rootless::a_user_has_a_daemon_of_its_own", a_user_has_a_daemon_of_its_own),
    ("rootless::killed_daemons_refuse_no_connection", killed_daemons_refuse_no_connection),
    ("rootless::a_killed_supervisor_leaves_nothing_and_comes_back", a_killed_supervisor_leaves_nothing),
    ("rootless::a_stop_waits_as_long_as_it_was_told", a_stop_waits_as_long_as_it_was_told),
    ("rootless::a_command_runs_beside_it", a_command_runs_beside_it),
    ("rootless::ports_of_daemon_json_are_reached_from_outside", ports_of_daemon_json),
    ("rootless::what_is_missing_is_named", what_is_missing_is_named),
    ("rootless::limits_that_are_not_kept_are_told", limits_that_are_not_kept_are_told),
];

/// The device is for root only on some hosts, and a test must not change them: in the container it is a node of its own.
const AS_USER: &str = "chmod 0666 /dev/net/tun && exec setpriv --reuid=1000 --regid=1000 --init-groups dindctl \"$@\"";

fn start(what: &str, options: &[&str], arguments: &[&str]) -> Container {
    start_after("true", what, options, arguments)
}

/// After a shell line of root's.
fn start_after(before: &str, what: &str, options: &[&str], arguments: &[&str]) -> Container {
    let fixed =
        ["--privileged", "--user=0", "--env=HOME=/home/rootless", "--env=DOCKER_TLS_CERTDIR=", "--entrypoint=sh"];
    let script = format!("{before} && {AS_USER}");
    let line = [&["-c", &script, "sh"], arguments].concat();
    Container::of(&rootless_image(), what, &[&fixed, options].concat(), &line)
}

fn user(container: &Container, script: &str) -> super::docker::Said {
    docker(&["exec", "--user=1000", "--env=DOCKER_TLS_CERTDIR=", &container.name, "sh", "-c", script])
}

#[track_caller]
fn wait_healthy(container: &Container) {
    let said = user(container, "dindctl health --wait 60s");
    assert_eq!(said.code, 0, "{}{}\n{}", said.out, said.err, container.logs());
}

/// Processes of that name, by the first words of their command lines.
fn processes(container: &Container, words: &str) -> Vec<String> {
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^{words} ' && basename $p; done; true"
    );
    user(container, &script).ok().lines().map(str::to_owned).collect()
}

fn load(container: &Container) {
    container.load_as(&["--user=1000", "--env=DOCKER_HOST=unix:///run/user/1000/docker.sock"], "debian:trixie-slim");
}

fn a_user_has_a_daemon_of_its_own() -> Result<(), Failed> {
    let dind = start("rootless", &[], &["entrypoint"]);
    wait_healthy(&dind);
    load(&dind);
    let map = user(&dind, "docker-entrypoint.sh docker run --rm debian:trixie-slim cat /proc/self/uid_map").ok();
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words[..3], ["0", "1000", "1"], "{map}");
    let run = user(&dind, "dindctl exec sh -c 'echo to stdout; exit 3'");
    assert_eq!((run.code, run.out.as_str()), (3, "to stdout\n"), "{}", run.err);
    assert!(super::load::answers(&format!("{}:2375", dind.address())));
    let logs = dind.logs();
    assert!(logs.contains("of nested containers have no effect"), "{logs}");

    let begun = Instant::now();
    docker(&["stop", "--time=30", &dind.name]).ok();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}\n{}", begun.elapsed(), dind.logs());
    assert_eq!(dind.wait(Duration::from_secs(1)), 0, "{}", dind.logs());
    Ok(())
}

fn killed_daemons_refuse_no_connection() -> Result<(), Failed> {
    let dind = start("rootless-kills", &[], &["entrypoint"]);
    wait_healthy(&dind);
    let load = Load::start(&format!("{}:2375", dind.address()), 20);
    for daemon in ["dockerd", "containerd"] {
        std::thread::sleep(Duration::from_millis(1500));
        let pids = processes(&dind, daemon);
        assert_eq!(pids.len(), 1, "{daemon}: {pids:?}");
        user(&dind, &format!("kill -9 {}", pids[0])).ok();
        std::thread::sleep(Duration::from_millis(1500));
        wait_healthy(&dind);
    }
    let seen = load.stop();
    assert_eq!(seen.refused, 0, "{seen:?}\n{}", dind.logs());
    assert!(seen.answered >= 60, "{seen:?}");
    Ok(())
}

fn a_killed_supervisor_leaves_nothing() -> Result<(), Failed> {
    let dind = start("rootless-supervisor", &[], &["entrypoint"]);
    wait_healthy(&dind);
    // A life that was ready for a second is a good one.
    std::thread::sleep(Duration::from_millis(1500));
    let before = processes(&dind, "dockerd");
    let supervisor = processes(&dind, "/usr/local/bin/dindctl entrypoint");
    assert_eq!((before.len(), supervisor.len()), (1, 1), "{before:?} {supervisor:?}");
    user(&dind, &format!("kill -9 {}", supervisor[0])).ok();
    std::thread::sleep(Duration::from_secs(1));
    wait_healthy(&dind);
    let after = processes(&dind, "dockerd");
    assert_eq!(after.len(), 1, "the old dockerd lives on: {after:?}\n{}", dind.logs());
    assert_ne!(before, after);
    Ok(())
}

/// There are two supervisors, the one of the user and the one inside the namespace; the delay counts once.
fn a_stop_waits_as_long_as_it_was_told() -> Result<(), Failed> {
    let dind = start("rootless-delay", &["--env=DINDCTL_STOP_DELAY=4s"], &["entrypoint"]);
    wait_healthy(&dind);
    let begun = Instant::now();
    docker(&["kill", "--signal=TERM", &dind.name]).ok();
    std::thread::sleep(Duration::from_secs(2));
    let served = user(&dind, "docker-entrypoint.sh docker version --format '{{.Server.Os}}'");
    assert_eq!((served.code, served.out.trim()), (0, "linux"), "{served:?}\n{}", dind.logs());
    assert_eq!(dind.wait(Duration::from_secs(60)), 0, "{}", dind.logs());
    let took = begun.elapsed();
    assert!((4.0..7.5).contains(&took.as_secs_f64()), "{took:?}\n{}", dind.logs());
    Ok(())
}

fn a_command_runs_beside_it() -> Result<(), Failed> {
    let script = "id -u; echo $DOCKER_HOST; docker version --format '{{.Server.Version}}' && exit 7";
    let dind = start("rootless-up", &[], &["up", "--", "sh", "-c", script]);
    assert_eq!(dind.wait(Duration::from_secs(60)), 7, "{}", dind.logs());
    let said = docker(&["logs", &dind.name]).out;
    assert!(said.starts_with("1000\nunix:///run/user/1000/docker.sock\n"), "{said}");
    Ok(())
}

/// A port of the file that was ours as well ended the start, and another one stayed inside of the namespace.
fn ports_of_daemon_json() -> Result<(), Failed> {
    let file = r#"{"hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2375", "tcp://0.0.0.0:2444"]}"#;
    let before = format!("mkdir -p /etc/docker && echo '{file}' >/etc/docker/daemon.json");
    let dind = start_after(&before, "rootless-hosts", &[], &["entrypoint"]);
    wait_healthy(&dind);
    for port in [2375, 2444] {
        assert!(super::load::answers(&format!("{}:{port}", dind.address())), "{port}:\n{}", dind.logs());
    }
    Ok(())
}

fn what_is_missing_is_named() -> Result<(), Failed> {
    let image = rootless_image();
    let refused = |options: &[&str], words: &str| {
        let said = docker(&[&["run", "--rm", "--privileged"], options, &[image.as_str()]].concat());
        assert_eq!(said.code, 125, "{options:?}: {}{}", said.out, said.err);
        let first = said.err.lines().next().unwrap_or_default();
        assert!(first.contains(words), "{options:?}: {}", said.err);
        assert!(said.err.contains("dindctl: hint: "), "{}", said.err);
    };
    refused(&["--security-opt=no-new-privileges"], "no-new-privileges is set");
    refused(&["--user=4711", "--env=HOME=/tmp"], "user 4711 has no entry in /etc/subuid");
    refused(&["--env=XDG_RUNTIME_DIR=/nowhere"], "the runtime folder /nowhere cannot be written");
    refused(&["--env=DOCKERD_ROOTLESS_ROOTLESSKIT_NET=vpnkit"], "vpnkit is not in PATH");
    Ok(())
}

/// On cgroup v1 nothing can be delegated to a user, so that its daemon keeps no limit and says nothing of it.
fn limits_that_are_not_kept_are_told() -> Result<(), Failed> {
    let container = start("rootless", &[], &["entrypoint"]);
    wait_healthy(&container);
    let said = user(&container, "dindctl selftest memory pids");
    if said.out.contains("(none)") {
        assert_eq!((said.code, said.out.matches("it keeps no limit").count()), (1, 2), "{said:?}");
    } else {
        assert_eq!(said.code, 0, "{said:?}");
    }
    Ok(())
}
