//! `dindctl stats` inside the image, next to its daemon, beside it and without it; and the hidden `missed` beside another daemon.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Container, fresh_name};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("stats::half_a_cpu_and_known_memory_are_shown_as_such", half_a_cpu_and_known_memory_are_shown_as_such),
    ("stats::containers_come_and_go_and_so_does_the_daemon", containers_come_and_go_and_so_does_the_daemon),
    ("stats::a_daemon_that_is_not_ours_has_no_outer_row", a_daemon_that_is_not_ours_has_no_outer_row),
    ("stats::it_ends_when_it_is_told_or_nobody_reads", it_ends_when_it_is_told_or_nobody_reads),
    ("stats::missed_cannot_tell_beside_a_daemon_elsewhere", missed_cannot_tell_beside_a_daemon_elsewhere),
];

const IMAGE: &str = "debian:trixie-slim";
const MIB: f64 = 1_048_576.0;

fn dind(what: &str) -> Container {
    let dind = Container::dind(&format!("stats-{what}"), &["--memory", "2g", "--pids-limit", "4000"]);
    dind.load(IMAGE);
    dind
}

fn once(dind: &Container, arguments: &[&str]) -> Value {
    let said = dind.exec(&[&["dindctl", "stats", "--no-stream", "-o", "json"], arguments].concat()).ok();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn nested<'a>(sample: &'a Value, name: &str) -> Option<&'a Value> {
    sample["containers"].as_array()?.iter().find(|row| row["name"] == name)
}

/// A stream of samples.
struct Stream {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Stream {
    fn start(dind: &Container) -> Self {
        let line = ["exec", &dind.name, "dindctl", "stats", "-o", "json", "--interval", "500ms"];
        let mut command = Command::new("docker");
        let command = command.args(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("docker CLI");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("a sample").expect("text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The first one for which it holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let sample = self.next();
            if holds(&sample) {
                return sample;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "waited for {what}: {sample}");
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a nested container so far, seconds, from the kernel's own counter.
fn used(dind: &Container, id: &str) -> f64 {
    let script = format!(
        "cd /sys/fs/cgroup; if [ -e cgroup.controllers ]; then sed -n 's/^usage_usec //p' docker/{id}/cpu.stat; \
         else echo $(($(cat cpuacct/docker/{id}/cpuacct.usage) / 1000)); fi"
    );
    let microseconds: f64 = dind.sh(&script).ok().parse().expect("a counter");
    microseconds / 1e6
}

fn half_a_cpu_and_known_memory_are_shown_as_such() -> Result<(), Failed> {
    let dind = dind("load");
    let id = dind
        .sh(&format!("docker run -d --network=none --name burn --cpus 0.5 {IMAGE} sh -c 'while :; do :; done'"))
        .ok();
    let hold = "docker run -d --network=none --name hold --memory 96m -v /usr/local/bin/dindctl:/dindctl:ro \
                debian:trixie-slim /dindctl load memory 50331648";
    dind.sh(hold).ok();
    let mut stream = Stream::start(&dind);
    let full = stream.until("48 MiB held", |sample| {
        nested(sample, "hold").is_some_and(|row| row["memory_bytes"].as_f64() >= Some(48.0 * MIB))
    });
    let row = nested(&full, "hold").ok_or("no row")?;
    assert!(row["memory_bytes"].as_f64() < Some(60.0 * MIB), "{row}");
    assert_eq!(row["memory_limit_bytes"].as_f64(), Some(96.0 * MIB), "{row}");
    assert!(row["memory"].as_f64().is_some_and(|share| (0.5..0.63).contains(&share)), "{row}");

    // On a machine with other work the container gets less than its limit: what the kernel counted is what has to be shown.
    let (begun, before) = (Instant::now(), used(&dind, &id));
    let samples: Vec<Value> = (0..16).map(|_| stream.next()).collect();
    let truth = (used(&dind, &id) - before) / begun.elapsed().as_secs_f64();
    let rates: Vec<f64> = samples.iter().filter_map(|sample| nested(sample, "burn")?["cpu"].as_f64()).collect();
    assert_eq!(rates.len(), samples.len(), "every sample has it");
    let mean = rates.iter().sum::<f64>() / f64::from(u32::try_from(rates.len())?);
    assert!((mean - truth).abs() < 0.12 && mean < 0.58, "shown {mean}, counted {truth}: {rates:?}");

    for sample in &samples {
        let outer = &sample["outer"];
        let sum = |key: &str| -> f64 {
            sample["containers"].as_array().expect("rows").iter().filter_map(|row| row[key].as_f64()).sum()
        };
        assert_eq!(outer["memory_limit_bytes"].as_f64(), Some(2048.0 * MIB), "{outer}");
        assert!(outer["memory_bytes"].as_f64() >= Some(sum("memory_bytes")), "{sample}");
        assert!(outer["pids"].as_f64() >= Some(sum("pids")), "{sample}");
        assert_eq!(outer["pids_limit"].as_u64(), Some(4000), "{outer}");
        assert!(outer["net_rx_bytes"].is_number() && outer["net_tx_bytes"].is_number(), "{outer}");
    }
    let outer: Vec<f64> = samples.iter().filter_map(|sample| sample["outer"]["cpu"].as_f64()).collect();
    assert!(
        outer.len() == samples.len() && outer.iter().sum::<f64>() >= rates.iter().sum::<f64>() * 0.9,
        "{outer:?} {rates:?}"
    );

    // The first sample is right already, and people read it.
    let first = once(&dind, &["burn"]);
    assert!(nested(&first, "burn").is_some_and(|row| row["cpu"].as_f64() > Some(0.0)), "{first}");
    assert!(nested(&first, "hold").is_none(), "only what was asked for: {first}");
    let text = dind.exec(&["dindctl", "stats", "--no-stream"]).ok();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names[0] == "name" && names[1] == "(this" && names.contains(&"burn") && names.contains(&"hold"), "{text}");
    Ok(())
}

fn containers_come_and_go_and_so_does_the_daemon() -> Result<(), Failed> {
    let dind = dind("come");
    let nosuch = dind.exec(&["dindctl", "stats", "nosuch"]);
    assert_eq!(nosuch.code, 125, "{nosuch:?}");
    assert!(nosuch.err.contains("no such container: nosuch") && nosuch.err.contains("hint: "), "{}", nosuch.err);
    let mut stream = Stream::start(&dind);
    assert_eq!(stream.next()["containers"], Value::Array(Vec::new()));
    dind.sh(&format!("docker run -d --name guest {IMAGE} sleep 600")).ok();
    let there = stream.until("the guest", |sample| nested(sample, "guest").is_some_and(|row| row["cpu"].is_number()));
    assert!(nested(&there, "guest").is_some_and(|row| row["net_rx_bytes"].is_number()), "{there}");
    dind.sh("docker rm -f guest").ok();
    stream.until("its end", |sample| nested(sample, "guest").is_none());
    // Frozen, so that it is not started anew at once.
    let pid = dind.sh("pidof dockerd").ok();
    dind.sh(&format!("kill -STOP {pid}")).ok();
    let away = stream.until("the daemon's absence", |sample| sample["daemon"]["reachable"] == false);
    assert!(away["outer"]["memory_bytes"].is_number() && away["daemon"]["problem"].is_string(), "{away}");
    dind.sh(&format!("kill -CONT {pid}")).ok();
    stream.until("its return", |sample| sample["daemon"]["reachable"] == true);
    let none = dind.sh("DOCKER_HOST=unix:///nowhere dindctl stats --no-stream").ok();
    assert!(none.contains("(this container: ") && none.contains("no nested containers: no Docker daemon at"), "{none}");
    Ok(())
}

fn a_daemon_that_is_not_ours_has_no_outer_row() -> Result<(), Failed> {
    let dind = dind("far");
    dind.sh(&format!("docker run -d --network=none --name guest {IMAGE} sleep 600")).ok();
    let address = format!("tcp://{}:2375", dind.address());
    let said = dind.sh(&format!("DOCKER_HOST={address} dindctl stats --no-stream -o json")).ok();
    let far: Value = serde_json::from_str(&said)?;
    assert!(far["outer"].is_null() && far["outer_absent"].as_str().is_some_and(|why| why.contains("network")), "{far}");
    assert!(nested(&far, "guest").is_some(), "{far}");
    let beside = "docker run --rm --network=none -v /var/run/docker.sock:/var/run/docker.sock \
                  -v /usr/local/bin/dindctl:/dindctl:ro debian:trixie-slim /dindctl stats --no-stream -o json";
    let beside: Value = serde_json::from_str(&dind.sh(beside).ok())?;
    assert!(beside["outer"].is_null() && nested(&beside, "guest").is_some(), "{beside}");
    assert!(beside["outer_absent"].as_str().is_some_and(|why| why.contains("pid namespace")), "{beside}");
    Ok(())
}

fn it_ends_when_it_is_told_or_nobody_reads() -> Result<(), Failed> {
    let dind = dind("ends");
    let script = "dindctl stats > /tmp/out & pid=$!; while [ ! -s /tmp/out ]; do sleep 0.1; done; kill -INT $pid; wait $pid; echo $?";
    // A shell without job control has its background commands ignore SIGINT; this one is told what we mean.
    let bash = dind.exec(&["bash", "-mc", script]);
    assert_eq!(bash.out.trim(), "0", "{bash:?}");
    let piped = dind.exec(&["bash", "-c", "dindctl stats --interval 200ms | head -1; echo ${PIPESTATUS[0]}"]);
    assert!(piped.out.starts_with("name ") && piped.out.trim().ends_with("\n0"), "{piped:?}");
    // On a terminal the next sample takes the place of the last.
    let drawn = dind.sh("timeout -s INT 5 script -qec 'dindctl stats --interval 300ms' /dev/null");
    assert!(drawn.out.contains("\u{1b}[2A\u{1b}[J") || drawn.out.contains("\u{1b}[3A\u{1b}[J"), "{drawn:?}");
    Ok(())
}

fn missed_cannot_tell_beside_a_daemon_elsewhere() -> Result<(), Failed> {
    let dind = dind("missed");
    let guest = fresh_name("guest");
    dind.sh(&format!("docker run -d --network=none --name {guest} {IMAGE} sleep 600")).ok();
    let own = dind.exec(&["dindctl", "missed"]);
    assert_eq!((own.code, own.err.as_str()), (0, ""), "{own:?}");
    let beside = "docker run --rm --network=none -v /var/run/docker.sock:/var/run/docker.sock \
                  -v /usr/local/bin/dindctl:/dindctl:ro debian:trixie-slim /dindctl missed";
    let beside = dind.sh(beside);
    assert_eq!(beside.code, 125, "{beside:?}");
    assert!(
        beside.err.contains("cannot tell") && beside.err.contains("hint: ") && !beside.err.contains("ended"),
        "{beside:?}"
    );
    Ok(())
}
