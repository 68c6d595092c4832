//! Work that goes on while the daemons are hit: nested containers that end by themselves with a code that was chosen
//! beforehand, and runs of `dindctl exec`. Both note what they were told, and whether they were told anything at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::hand::Struck;
use super::schedule::{Blow, Random, Victim};
use crate::docker::{Said, docker, docker_within};

/// Longest time for an answer of any kind: the daemon may be frozen, be killed and come up again meanwhile.
pub const ANSWER: Duration = Duration::from_secs(120);

/// What the program of a job answers to `SIGTERM`.
const TERM_CODE: i32 = 3;

/// A nested container of its own making.
#[derive(Debug)]
pub struct Job {
    name: String,
    code: i32,
    /// When it has ended at the earliest and at the latest, if it was started.
    time: (Instant, Instant),
    /// What `docker run` said; `None`: nothing for [`ANSWER`].
    said: Option<Said>,
}

/// A run of `dindctl exec`.
#[derive(Debug)]
pub struct Run {
    said: Option<Said>,
}

/// A thread that works until it is told to stop.
pub struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<T>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(mut work: impl FnMut(u64) -> T + Send + 'static, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            let mut done = Vec::new();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                done.push(work(number));
                sleep(pause);
            }
            done
        });
        Self { stop, thread }
    }

    pub fn end(self) -> Vec<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("worker")
    }
}

/// Starts nested containers, one after the other.
pub fn jobs(dind: &str, seed: u64) -> Worker<Job> {
    let (dind, mut random) = (dind.to_owned(), Random(seed));
    let work = move |number| {
        let (tenths, code) = (5 + random.below(50), 10 + i32::try_from(random.below(90)).unwrap_or_default());
        let network = if random.below(2) == 0 { "none" } else { "bridge" };
        let (name, network) = (format!("job-{number}"), format!("--network={network}"));
        // A sleep in the foreground would hold the trap back until it ends.
        let (seconds, tenth) = (tenths / 10, tenths % 10);
        let script = format!("trap 'exit {TERM_CODE}' TERM; sleep {seconds}.{tenth} & wait $!; exit {code}");
        let run = ["exec", &dind, "docker", "run", "--detach", &network, "--name", &name, "debian:trixie-slim"];
        let (asked, lasts) = (Instant::now(), Duration::from_millis(100 * tenths));
        let said = docker_within(ANSWER, &[&run[..], &["sh", "-c", &script]].concat());
        Job { name, code, time: (asked + lasts, Instant::now() + lasts), said }
    };
    Worker::start(work, Duration::from_millis(300))
}

/// Runs code in sandboxes, one after the other.
pub fn runs(dind: &str) -> Worker<Run> {
    let dind = dind.to_owned();
    let work = move |_| {
        let line =
            ["exec", &dind, "dindctl", "exec", "-o", "json", "--timeout", "20s", "sh", "-c", "sleep 0.5; exit 5"];
        Run { said: docker_within(ANSWER, &line) }
    };
    Worker::start(work, Duration::from_millis(500))
}

/// How a nested container stands; `None`: the daemon knows none of that name.
fn standing(dind: &str, name: &str) -> Option<(String, i32, String)> {
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.Id}}";
    let inspect = ["exec", dind, "docker", "container", "inspect", "--format", format, name];
    let said = docker_within(ANSWER, &inspect).unwrap_or_else(|| panic!("inspect of {name} hangs"));
    if said.code != 0 {
        assert!(said.err.to_lowercase().contains("no such container"), "{name}: {}", said.err);
        return None;
    }
    let words: Vec<&str> = said.out.split_whitespace().collect();
    let [status, code, id] = words[..] else { panic!("{name}: {}", said.out) };
    Some((status.to_owned(), code.parse().expect("exit code"), id.to_owned()))
}

/// The exit codes that blows can give a nested container; empty: only its own.
fn codes_of_blows(id: &str, struck: &[Struck]) -> Vec<i32> {
    let hits = struck.iter().filter(|hit| hit.nested.as_deref() == Some(id));
    hits.flat_map(|hit| match (hit.action.victim, hit.action.blow) {
        (_, Blow::Freeze(_)) => vec![],
        (Victim::Nested(_), Blow::Kill) => vec![137],
        (Victim::Nested(_), Blow::Term) => vec![TERM_CODE],
        // The engine ends what has lost its shim. 255: by its own books, when it cannot tell how.
        _ => vec![137, UNKNOWN],
    })
    .collect()
}

/// What the engine writes for a container of whose end it knows no more than that.
const UNKNOWN: i32 = 255;

/// How long the engine may be busy on a loaded machine: with a container after its end, and with coming back after a blow.
const AFTERMATH: Duration = Duration::from_secs(10);

impl Job {
    /// Whether a daemon died, or was not back yet, while it ended. dockerd has containerd forget an ended container before it has written the code
    /// to its disk, and containerd cleans away what ended without it: a death in between loses the code, and no restart brings it
    /// back.
    fn may_be_lost(&self, struck: &[Struck]) -> bool {
        let (from, to) = self.time;
        struck
            .iter()
            .any(|hit| hit.action.ends_a_daemon() && hit.from <= to + AFTERMATH && from <= hit.until + AFTERMATH)
    }

    /// Waits for its end and gives what is wrong with it, if anything.
    pub fn account(&self, dind: &str, struck: &[Struck]) -> Option<String> {
        let Some(said) = &self.said else { return Some(format!("docker run of {} hung", self.name)) };
        let end = Instant::now() + Duration::from_secs(60);
        let (status, code, id) = loop {
            match standing(dind, &self.name) {
                // Refused, and nothing left of it.
                None if said.code != 0 => return None,
                None => return Some(format!("{} was started and is gone", self.name)),
                Some(found) if found.0 == "running" && Instant::now() < end => sleep(Duration::from_millis(200)),
                Some(found) => break found,
            }
        };
        let expected = [vec![self.code], codes_of_blows(&id, struck)].concat();
        let fine = match (said.code, status.as_str()) {
            (0, "exited") => expected.contains(&code) || ([137, UNKNOWN].contains(&code) && self.may_be_lost(struck)),
            // The client was told that it failed. It may have been started before that, or never.
            (1.., "created") => true,
            (1.., "exited") => expected.contains(&code) || [127, 128, 137, UNKNOWN].contains(&code),
            _ => false,
        };
        (!fine).then(|| {
            let hits: Vec<&Struck> = struck.iter().filter(|hit| hit.nested.as_deref() == Some(&id)).collect();
            format!("{} is {status} with {code}, not {expected:?}; {said:?}; hit by {hits:?}", self.name)
        })
    }

    /// Whether the client was told that it runs.
    pub fn was_started(&self) -> bool {
        self.said.as_ref().is_some_and(|said| said.code == 0)
    }

    /// Whether its own code is not the one that is known.
    pub fn was_lost(&self, dind: &str) -> bool {
        self.was_started() && standing(dind, &self.name).is_some_and(|(_, code, _)| code != self.code)
    }

    /// What `docker wait` says about it now is what `docker inspect` says.
    pub fn assert_wait_agrees(&self, dind: &str) {
        let waited = docker(&["exec", dind, "docker", "wait", &self.name]).ok();
        let standing = standing(dind, &self.name).map(|(_, code, _)| code.to_string());
        assert_eq!(Some(waited), standing, "{}", self.name);
    }
}

impl Run {
    /// What is wrong with it, if anything: it must be a typed result, or an error of ours with 125.
    pub fn account(&self) -> Option<String> {
        let Some(said) = &self.said else { return Some("dindctl exec hung".into()) };
        let typed = serde_json::from_str::<serde_json::Value>(&said.out).ok();
        let status = typed.as_ref().and_then(|result| result["status"].as_str()).unwrap_or_default();
        let fine = match (said.code, status) {
            (125, "") => said.err.contains("dindctl: error: "),
            // With "killed" or "signaled" its agent, the container's first process, was hit.
            (5, "nonzero") | (125, "internal") | (128.., "killed" | "signaled") => true,
            _ => false,
        };
        (!fine).then(|| format!("dindctl exec: {status:?}, {said:?}"))
    }

    /// Whether it gave the program's own result.
    pub fn went_well(&self) -> bool {
        self.said.as_ref().is_some_and(|said| said.code == 5)
    }
}
