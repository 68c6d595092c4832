//! What works without `--privileged`, and what is said where nothing can.

use std::time::Duration;

use libtest_mimic::Failed;

use super::docker::{Container, docker, image};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("privileges::the_least_that_will_do_runs_a_nested_container", the_least_that_will_do_runs_a_nested_container),
    ("privileges::each_option_that_is_left_out_is_asked_for", each_option_that_is_left_out_is_asked_for),
];

const IMAGE: &str = "debian:trixie-slim";

/// What `plan` and `doctor` ask for. With `AppArmor` on the machine its profile is one of them.
const LEAST: [&str; 6] = [
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--volume=/var/lib/docker",
    "--env=DOCKER_TLS_CERTDIR=",
];

fn the_least_that_will_do_runs_a_nested_container() -> Result<(), Failed> {
    let dind = Container::start("least", &LEAST, &[]);
    dind.wait_healthy(Duration::from_secs(60));
    dind.load(IMAGE);
    let limits = ["--memory=64m", "--cpus=0.5", "--pids-limit=32", "--publish=8080:80"];
    let run =
        [&["docker", "run", "--rm"][..], &limits, &[IMAGE, "sh", "-c", "cat /proc/self/cgroup; echo nested"]].concat();
    let said = dind.exec(&run).ok();
    assert!(said.ends_with("nested"), "{said}");
    // It is inside of the container's own group.
    let own = docker(&["inspect", "--format", "{{.Id}}", &dind.name]).ok();
    let group = dind.sh("cat /proc/1/cgroup").ok();
    assert!(said.contains(&own) || group.contains("0::/\n") || group.ends_with("0::/init"), "{said}\n{group}");
    assert_eq!(dind.exec(&["docker", "build", "--quiet", "-"]).code, 1, "an empty build is refused, not hung");
    let plan = dind.exec(&["dindctl", "doctor"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    Ok(())
}

fn doctor(options: &[&str]) -> (i32, String) {
    let run = ["run", "--rm", "--label=dindctl.test=1", "--entrypoint=dindctl"];
    let said = docker(&[&run[..], options, &[&image(), "doctor"]].concat());
    (said.code, said.out)
}

fn each_option_that_is_left_out_is_asked_for() -> Result<(), Failed> {
    let (code, said) = doctor(&[]);
    assert_eq!(code, 1, "{said}");
    let lines = |said: &str| said.lines().filter(|line| line.contains("privilege")).collect::<Vec<_>>().join("\n");
    assert!(said.contains("besides, seccomp forbids keyctl (EPERM)") && said.contains("/proc/sys"), "{}", lines(&said));
    let hint =
        "or with the least that will do: --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined";
    assert!(said.contains(hint), "{said}");
    // With the capabilities alone a daemon would start, and no container would.
    let (code, said) = doctor(&["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--security-opt=apparmor=unconfined"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warn  privilege: seccomp forbids keyctl (EPERM)"), "{said}");
    assert!(said.contains("the least that will do: --security-opt seccomp=unconfined\n"), "{said}");
    Ok(())
}
