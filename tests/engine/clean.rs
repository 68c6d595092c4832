//! `dindctl clean` inside the image, next to its daemon.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, Said, docker};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("clean::takes_what_nobody_uses_and_says_so_first", takes_what_nobody_uses_and_says_so_first),
    ("clean::volumes_go_only_when_that_is_meant", volumes_go_only_when_that_is_meant),
    ("clean::what_a_live_run_uses_stays", what_a_live_run_uses_stays),
    ("clean::what_cannot_go_is_named_and_the_rest_goes", what_cannot_go_is_named_and_the_rest_goes),
    ("clean::empty_groups_of_nobodys_containers_go", empty_groups_of_nobodys_containers_go),
    ("clean::two_at_once_do_not_disturb_each_other", two_at_once_do_not_disturb_each_other),
];

/// Those that need BuildKit. The image has no buildx; that of the machine that tests builds on the daemon inside.
pub const WITH_BUILDX: &[(&str, Case)] =
    &[("clean::the_build_cache_goes_with_its_bytes", the_build_cache_goes_with_its_bytes)];

/// Why they cannot run here, if so.
pub fn no_buildx() -> Option<String> {
    let found = docker(&["buildx", "version"]);
    (found.code != 0).then(|| "needs the buildx plugin of the docker CLI".to_owned())
}

const IMAGE: &str = "debian:trixie-slim";

/// Things younger than this stay: somebody may be about to use them.
const GRACE: Duration = Duration::from_secs(11);

fn dind(what: &str) -> Container {
    let dind = Container::dind(&format!("clean-{what}"), &[]);
    dind.load(IMAGE);
    dind
}

fn clean(dind: &Container, options: &[&str]) -> (Said, Value) {
    let said = dind.exec(&[&["dindctl", "clean", "-o", "json"], options].concat());
    let report = serde_json::from_str(&said.out).unwrap_or(Value::Null);
    (said, report)
}

/// Names of what is, or would be, removed, of one kind.
fn removed(report: &Value, kind: &str) -> Vec<String> {
    let items = report["removed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = items.iter().filter(|item| item["kind"] == kind);
    of.filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
}

fn list(dind: &Container, what: &[&str]) -> Vec<String> {
    let said = dind.exec(&[&["docker"], what].concat()).ok();
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

const CONTAINERS: &[&str] = &["ps", "--all", "--format", "{{.Names}}"];
const IMAGES: &[&str] = &["images", "--format", "{{.Repository}}:{{.Tag}}"];
const NETWORKS: &[&str] = &["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"];
const VOLUMES: &[&str] = &["volume", "ls", "--format", "{{.Name}}"];

/// A running container with image, network and volume of its own, and the same of nobody.
fn furnish(dind: &Container) {
    let script = format!(
        "set -e
        export DOCKER_BUILDKIT=0
        docker network create net-up; docker network create net-nobody; docker network create net-down
        docker volume create vol-up; docker volume create vol-nobody; docker volume create vol-down
        docker tag {IMAGE} base:1
        printf 'FROM base:1\\nRUN echo up > /up\\n' | docker build -qt up:1 -
        printf 'FROM base:1\\nRUN echo nobody > /nobody\\n' | docker build -qt nobody:1 -
        printf 'FROM base:1\\nRUN head -c 3000000 /dev/urandom > /dangling\\n' | docker build -q -
        docker run -d --name up --network net-up -v vol-up:/v up:1 sleep 600
        docker run --name down --network net-down -v vol-down:/v {IMAGE} sh -c 'head -c 1000000 /dev/zero > /x; echo 1 > /v/x'
        docker create --name created {IMAGE} true"
    );
    dind.sh(&script).ok();
    std::thread::sleep(GRACE);
}

fn takes_what_nobody_uses_and_says_so_first() -> Result<(), Failed> {
    let dind = dind("all");
    furnish(&dind);
    let (said, plan) = clean(&dind, &["--dry-run"]);
    assert_eq!(
        (said.code, &plan["dry_run"], &plan["schema"]),
        (0, &true.into(), &"dindctl.clean/v1".into()),
        "{said:?}"
    );
    let mut containers = removed(&plan, "container");
    containers.sort();
    assert_eq!(containers, ["created", "down"], "{plan}");
    assert_eq!(list(&dind, CONTAINERS), ["created", "down", "up"], "a dry run removes nothing");
    // Nothing here is older than an hour but the image that the whole test stands on.
    let (_, young) = clean(&dind, &["--dry-run", "--older-than", "1h"]);
    assert!(removed(&young, "container").is_empty() && removed(&young, "network").is_empty(), "{young}");

    let text = dind.exec(&["dindctl", "clean"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.err.contains("dindctl: removing 2 containers ("), "first it says what: {}", text.err);
    assert!(text.out.contains("removed container down (") && text.out.contains("\nreclaimed "), "{}", text.out);
    assert_eq!(list(&dind, CONTAINERS), ["up"]);
    assert_eq!(list(&dind, NETWORKS), ["net-up"]);
    assert_eq!(list(&dind, VOLUMES), ["vol-down", "vol-nobody", "vol-up"], "volumes are data");
    assert_eq!(list(&dind, IMAGES), ["base:1", IMAGE, "nobody:1", "up:1"], "only what has no tag goes");

    let (said, report) = clean(&dind, &["--all"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(removed(&report, "image"), ["nobody:1"], "{report}");
    // The running container's image was built on it: it keeps its names.
    assert_eq!(list(&dind, IMAGES), ["base:1", IMAGE, "up:1"], "{report}");
    assert!(report["reclaimed_bytes"]["images"].as_u64() > Some(0), "{report}");
    let (again, report) = clean(&dind, &["--all"]);
    assert_eq!((again.code, report["removed"].as_array().map(Vec::len)), (0, Some(0)), "{report}");
    assert!(dind.sh("docker exec up cat /up").ok() == "up", "what runs goes on");
    Ok(())
}

fn the_build_cache_goes_with_its_bytes() -> Result<(), Failed> {
    let dind = dind("cache");
    let folder = tempfile::tempdir()?;
    let file = format!("FROM {IMAGE}\nRUN head -c 3000000 /dev/urandom > /a\nRUN head -c 2000000 /dev/urandom > /b\n");
    std::fs::write(folder.path().join("Dockerfile"), file)?;
    let host = format!("tcp://{}:2375", dind.address());
    let folder = folder.path().to_str().ok_or("path")?;
    docker(&["--host", &host, "buildx", "build", "--quiet", "--tag", "built:1", folder]).ok();
    let built = list(&dind, IMAGES);
    let (_, plan) = clean(&dind, &["--dry-run", "--all"]);
    assert!(!removed(&plan, "build-cache").is_empty(), "{plan}");
    let (_, young) = clean(&dind, &["--dry-run", "--all", "--older-than", "1h"]);
    assert!(removed(&young, "build-cache").is_empty(), "{young}");
    let (said, report) = clean(&dind, &["--all"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(built, ["built:1", IMAGE]);
    assert!(list(&dind, IMAGES).is_empty(), "{report}");
    assert!(!removed(&report, "build-cache").is_empty(), "{report}");
    // What an image shares with the cache is free once both are gone.
    assert!(report["reclaimed_bytes"]["total"].as_u64() >= Some(5_000_000), "{report}");
    assert!(removed(&clean(&dind, &["--all"]).1, "build-cache").is_empty());
    Ok(())
}

fn volumes_go_only_when_that_is_meant() -> Result<(), Failed> {
    let dind = dind("volumes");
    furnish(&dind);
    let refused = dind.exec(&["dindctl", "clean", "--volumes"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.err.contains("hint: look with --dry-run, then add --yes"), "{}", refused.err);
    assert_eq!(list(&dind, CONTAINERS), ["created", "down", "up"], "refused before anything is done");
    // At a terminal it asks.
    let ask = |answer: &str| {
        let script = format!("printf '{answer}\\n' | script -qec 'dindctl clean --volumes' /dev/null");
        let said = docker(&["exec", "-i", &dind.name, "sh", "-c", &script]);
        (said.code, said.out)
    };
    let (code, said) = ask("n");
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("remove 2 volumes with all data in them? [y/N]") && said.contains("nothing was removed"),
        "{said}"
    );
    assert_eq!(list(&dind, CONTAINERS), ["created", "down", "up"]);
    let (code, said) = ask("y");
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        (list(&dind, CONTAINERS), list(&dind, VOLUMES)),
        (vec!["up".to_owned()], vec!["vol-up".to_owned()]),
        "{said}"
    );
    dind.sh("docker volume create more && docker run --rm -v more:/v debian:trixie-slim sh -c 'head -c 5000000 /dev/zero > /v/x'").ok();
    std::thread::sleep(GRACE);
    let (said, report) = clean(&dind, &["--volumes", "--yes"]);
    assert_eq!((said.code, removed(&report, "volume")), (0, vec!["more".to_owned()]), "{said:?}");
    assert!(report["reclaimed_bytes"]["volumes"].as_u64() >= Some(5_000_000), "{report}");
    Ok(())
}

fn what_a_live_run_uses_stays() -> Result<(), Failed> {
    let dind = dind("live");
    let (sender, answer) = std::sync::mpsc::channel();
    let name = dind.name.clone();
    std::thread::spawn(move || {
        sender.send(docker(&["exec", &name, "dindctl", "exec", "--network=egress", "sh", "-c", "sleep 25; echo whole"]))
    });
    let started = Instant::now();
    while dind.sh("docker ps -q --filter label=io.dindctl.run").out.trim().is_empty() {
        if let Ok(said) = answer.try_recv() {
            return Err(format!("the run ended early: {said:?}").into());
        }
        assert!(started.elapsed() < Duration::from_secs(30), "the run did not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(GRACE);
    let (said, report) = clean(&dind, &["--all", "--volumes", "--yes"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(list(&dind, NETWORKS).contains(&"dindctl-egress".to_owned()), "{report}");
    assert_eq!(list(&dind, IMAGES), [IMAGE], "its image stays: {report}");
    assert_eq!(answer.recv_timeout(Duration::from_secs(60))?.ok(), "whole");
    // One whose caller was killed is a leftover. The run before cleans up after itself first, and would take it along.
    let started = Instant::now();
    while dind.sh("grep -l '^dindctl.gc' /proc/[0-9]*/cmdline 2>/dev/null; docker ps -aq").out.trim() != "" {
        assert!(started.elapsed() < Duration::from_secs(30), "the first run is not cleaned up");
        std::thread::sleep(Duration::from_millis(200));
    }
    dind.sh("dindctl exec sh -c 'sleep 600' & pid=$!; while ! docker ps -q --filter label=io.dindctl.run | grep -q .; do sleep 0.1; done; kill -9 $pid; wait").ok();
    let (said, report) = clean(&dind, &[]);
    assert_eq!((said.code, removed(&report, "leftover").len()), (0, 1), "{said:?}");
    assert!(list(&dind, CONTAINERS).is_empty());
    Ok(())
}

fn what_cannot_go_is_named_and_the_rest_goes() -> Result<(), Failed> {
    let dind = dind("stuck");
    // Something is mounted in a volume that nobody uses.
    let script = format!(
        "set -e
        docker run --name other --network=none {IMAGE} true
        docker volume create stuck; docker volume create free
        held=$(docker volume inspect -f '{{{{.Mountpoint}}}}' stuck)/held
        mkdir $held && mount -t tmpfs held $held && echo $held"
    );
    let held = dind.sh(&script).ok();
    let held = held.lines().last().ok_or("no folder")?;
    std::thread::sleep(GRACE);
    let (said, report) = clean(&dind, &["--volumes", "--yes"]);
    let freed = dind.sh(&format!("umount {held}"));
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(
        (removed(&report, "container"), removed(&report, "volume")),
        (vec!["other".to_owned()], vec!["free".to_owned()])
    );
    let failed = &report["failed"][0];
    assert_eq!((&failed["kind"], &failed["name"]), (&"volume".into(), &"stuck".into()), "{report}");
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("busy")), "{report}");
    assert!(said.err.contains("cannot remove volume stuck: "), "{}", said.err);
    freed.ok();
    assert_eq!(clean(&dind, &["--volumes", "--yes"]).0.code, 0);
    assert!(list(&dind, VOLUMES).is_empty());
    Ok(())
}

fn empty_groups_of_nobodys_containers_go() -> Result<(), Failed> {
    let dind = dind("groups");
    dind.sh(&format!("docker run -d --name up --network=none {IMAGE} sleep 600")).ok();
    let script = "
        set -e
        cd /sys/fs/cgroup
        [ -e cgroup.controllers ] || cd memory
        empty=$(printf 'a%.0s' $(seq 64)); busy=$(printf 'b%.0s' $(seq 64))
        mkdir -p docker/$empty/below docker/$busy docker/somebody
        sleep 600 & echo $! > docker/$busy/cgroup.procs
        pwd";
    let place = dind.sh(script).ok();
    let (said, plan) = clean(&dind, &["--dry-run"]);
    let want = format!("{place}/docker/{}", "a".repeat(64));
    assert_eq!(removed(&plan, "cgroup"), [want.as_str()], "{said:?}");
    let (said, report) = clean(&dind, &[]);
    assert_eq!((said.code, removed(&report, "cgroup")), (0, vec![want]), "{said:?}");
    let left = dind.sh(&format!("ls -d {place}/docker/*/ | wc -l")).ok();
    assert_eq!(left, "3", "a live container's, a busy one and somebody's stay: {report}");
    assert_eq!(dind.sh("docker exec up echo alive").ok(), "alive");
    // A container that has the daemon's socket sees groups of its own below, and they are none of ours.
    let beside = dind.sh(&format!(
        "docker run --rm --privileged --network=none -v /var/run/docker.sock:/var/run/docker.sock \
         -v /usr/local/bin/dindctl:/dindctl:ro {IMAGE} sh -c '
         cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd memory
         mkdir -p docker/$(printf \"c%.0s\" $(seq 64)) && /dindctl clean --dry-run -o json'"
    ));
    let beside: Value = serde_json::from_str(&beside.ok())?;
    assert!(removed(&beside, "cgroup").is_empty(), "{beside}");
    Ok(())
}

fn two_at_once_do_not_disturb_each_other() -> Result<(), Failed> {
    let dind = dind("race");
    let script = format!(
        "for i in $(seq 20); do docker run --name c$i --network=none {IMAGE} true; docker network create n$i; \
         docker volume create v$i; docker tag {IMAGE} t:$i; done >/dev/null"
    );
    dind.sh(&script).ok();
    std::thread::sleep(GRACE);
    let both: Vec<Said> = std::thread::scope(|scope| {
        let one = || scope.spawn(|| clean(&dind, &["--all", "--volumes", "--yes"]).0);
        [one(), one()].into_iter().map(|it| it.join().expect("thread")).collect()
    });
    for said in both {
        assert_eq!(said.code, 0, "what somebody else has removed is no failure: {said:?}");
    }
    assert!(list(&dind, CONTAINERS).is_empty() && list(&dind, VOLUMES).is_empty() && list(&dind, NETWORKS).is_empty());
    assert!(list(&dind, IMAGES).is_empty());
    Ok(())
}
