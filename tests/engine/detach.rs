//! Runs that go on behind their caller.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::docker::{Said, docker};
use super::exec::exec_command;

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("detach::a_run_goes_on_behind_its_caller_and_cleans_up", goes_on),
    ("detach::what_cannot_start_is_told_all_the_same", failures_are_told),
];

fn exec(arguments: &[&str]) -> Said {
    exec_command(arguments).output().expect("dindctl").into()
}

fn state(id: &str) -> String {
    let filter = format!("label=io.dindctl.run={id}");
    docker(&["ps", "--all", "--filter", &filter, "--format", "{{.State}}"]).ok()
}

fn goes_on() -> Result<(), Failed> {
    let started = Instant::now();
    let id = exec(&["--detach", "sh", "-c", "sleep 3"]).ok();
    assert!(started.elapsed() < Duration::from_secs(3), "it waited for the program");
    assert!(id.len() == 12 && id.chars().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    // The agent is faster than the daemon's own records.
    while state(&id) != "running" {
        assert!(started.elapsed() < Duration::from_secs(3), "{}", state(&id));
    }
    let limited = exec(&["--detach", "--timeout", "1s", "-o", "json", "sh", "-c", "sleep 600"]).ok();
    let limited: serde_json::Value = serde_json::from_str(&limited)?;
    let limited = limited["id"].as_str().ok_or("no id")?.to_owned();
    while !state(&id).is_empty() || !state(&limited).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "something is left of {id} or {limited}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn failures_are_told() -> Result<(), Failed> {
    let unknown = exec(&["--detach", "--image", "debian:trixie-slim", "--", "no-such-program"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (127, ""), "{}", unknown.err);
    assert!(unknown.err.contains("no-such-program"), "{}", unknown.err);
    let image = exec(&["--detach", "--pull", "never", "--image", "no/such:image", "--", "true"]);
    assert_eq!((image.code, image.out.as_str()), (125, ""), "{}", image.err);
    let both = exec(&["--detach", "-i", "sh", "-c", "cat"]);
    assert_eq!(both.code, 125, "{}", both.err);
    assert!(both.err.contains("--detach") && both.err.contains("--stdin"), "{}", both.err);
    Ok(())
}
