//! Hundreds of `docker exec`, into the container and through its daemon, with health checks between them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::inventory::Inventory;
use super::jobs::ANSWER;
use super::watch::Watch;
use crate::docker::{Container, docker_within};

/// Calls of all threads together.
const CALLS: usize = 240;

const THREADS: usize = 12;

/// One of every four goes through the daemon, one asks for health, and one leaves an orphan behind.
fn call(dind: &str, number: usize) -> Vec<&str> {
    let inside: &[&str] = match number % 4 {
        0 => &["docker", "exec", "kept", "true"],
        1 => &["dindctl", "health", "--timeout", "60s"],
        2 => &["sh", "-c", "sleep 0.5 &"],
        _ => &["true"],
    };
    [&["exec", dind], inside].concat()
}

pub fn a_storm_of_execs_leaves_nothing() -> Result<(), Failed> {
    let dind = Container::dind("execs", &[]);
    dind.load("debian:trixie-slim");
    dind.exec(&["docker", "run", "-d", "--network=none", "--name=kept", "debian:trixie-slim", "sleep", "3600"]).ok();
    dind.exec(&["docker", "exec", "kept", "true"]).ok();
    let before = Inventory::of_rest(&dind);
    let watch = Watch::over(&dind);
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads = (0..THREADS).map(|_| {
            scope.spawn(|| {
                let mut wrong = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CALLS {
                        return wrong;
                    }
                    let call = call(&dind.name, number);
                    match docker_within(ANSWER, &call) {
                        Some(said) if said.code == 0 => {}
                        other => wrong.push(format!("{call:?}: {other:?}")),
                    }
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("caller")).collect()
    });
    println!("chaos execs: {CALLS} calls in {:?}", started.elapsed());
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", super::told(&dind));
    watch.saw_none();
    before.assert_same_again(&dind, Duration::from_secs(30), |_| false);
    Ok(())
}
