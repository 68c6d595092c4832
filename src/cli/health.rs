/*!
`dindctl health`: 0 healthy, 1 not, and no other exit code.

The supervisor's own state says whether it makes sense to ask; one `/_ping` says whether the daemon really answers.
*/
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;

use super::config::keys::parse_duration;
use super::say::{Level, Voice, result};
use super::{Environment, places};
use crate::engine::ping::{Address, ping};
use crate::init::state::{Phase, SupervisorState};

/// Between two looks while waiting; a look costs well under a millisecond.
const INTERVAL: Duration = Duration::from_millis(20);

/// Limit on the answer of a daemon that has not told readiness.
const UNTOLD: Duration = Duration::from_millis(250);

/// What was typed.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Wait up to this long for the daemon to become healthy
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    wait: Duration,
    /// Limit on the daemon's answer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5s")]
    timeout: Duration,
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = super::OutputFormat::Text)]
    output: super::OutputFormat,
}

impl Default for HealthArgs {
    /// What it is where nothing is typed.
    fn default() -> Self {
        Self { wait: Duration::ZERO, timeout: Duration::from_secs(5), output: super::OutputFormat::Text }
    }
}

/// What was found.
#[derive(Debug, serde::Serialize)]
struct Health {
    schema: &'static str,
    healthy: bool,
    reason: String,
    ping_ms: Option<f64>,
    supervisor: Option<SupervisorState>,
}

/// Runs the command.
pub fn run(arguments: &HealthArgs, environment: &Environment, voice: Voice) -> u8 {
    let state_path = places::state_path(environment);
    let usual = default_address(environment);
    let deadline = Instant::now() + arguments.wait;
    let health = loop {
        let health = look(&state_path, &usual, arguments.timeout);
        let ended = health.supervisor.as_ref().is_some_and(|state| state.stopping);
        if health.healthy || ended || Instant::now() >= deadline {
            break health;
        }
        sleep(INTERVAL);
    };
    match arguments.output {
        super::OutputFormat::Json => result(&serde_json::json!(health).to_string()),
        super::OutputFormat::Text if health.healthy => result(&format!("healthy: {}", health.reason)),
        super::OutputFormat::Text => result(&format!("unhealthy: {}", health.reason)),
    }
    if health.supervisor.is_none() {
        voice.say(Level::Debug, "no dindctl supervises here; judged by /_ping alone");
    }
    u8::from(!health.healthy)
}

fn look(state_path: &Path, usual: &Address, timeout: Duration) -> Health {
    let state = match SupervisorState::read(state_path) {
        Ok(state) => Some(state),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return unhealthy(None, format!("cannot read {}: {error}", state_path.display())),
    };
    let address = state.as_ref().and_then(|state| address(&state.listen)).unwrap_or_else(|| usual.clone());
    let (limit, told) = match state.as_ref().and_then(not_ready) {
        None => (timeout, None),
        // A daemon that serves and cannot say so (a wrapper around dockerd swallows its notice) is healthy all the same.
        Some(NotReady::Starting(reason)) => (timeout.min(UNTOLD), Some(reason)),
        Some(NotReady::No(reason)) => return unhealthy(state, reason),
    };
    match (ping(&address, limit), told) {
        (Ok(taken), _) => {
            let ping_ms = taken.as_secs_f64() * 1e3;
            let reason = format!("{address} answered in {ping_ms:.1} ms");
            Health { schema: "dindctl.health/v1", healthy: true, reason, ping_ms: Some(ping_ms), supervisor: state }
        }
        (Err(_), Some(reason)) => unhealthy(state, reason),
        (Err(error), None) => unhealthy(state, error.to_string()),
    }
}

fn unhealthy(supervisor: Option<SupervisorState>, reason: String) -> Health {
    Health { schema: "dindctl.health/v1", healthy: false, reason, ping_ms: None, supervisor }
}

/// What the supervisor says against asking the daemon. Its sockets are open all the time, so a question that comes too
/// early waits in the backlog.
#[derive(Debug, PartialEq, Eq)]
enum NotReady {
    /// It runs and has not told that it is ready.
    Starting(String),
    /// It cannot answer.
    No(String),
}

fn not_ready(state: &SupervisorState) -> Option<NotReady> {
    if state.stopping {
        return Some(NotReady::No("the container is stopping".into()));
    }
    state.services.iter().filter(|service| service.name != "command").find_map(|service| {
        let after = service.last_exit.as_ref().map(|exit| format!(" after {exit}")).unwrap_or_default();
        let name = &service.name;
        match service.phase {
            Phase::Ready | Phase::Reloading => None,
            Phase::Starting => Some(NotReady::Starting(format!("{name} is starting{after}"))),
            Phase::Waiting => Some(NotReady::No(format!("{name} is not started yet"))),
            Phase::Backoff => Some(NotReady::No(format!("{name} waits for its restart{after}"))),
            Phase::Stopping => Some(NotReady::No(format!("{name} is stopping"))),
            Phase::Stopped => Some(NotReady::No(format!("{name} has ended{after}"))),
            Phase::Failed => Some(NotReady::No(format!("{name} was given up{after}"))),
        }
    })
}

/// The first unix socket, else the first TCP one.
pub(super) fn address(listen: &[String]) -> Option<Address> {
    let unix = listen.iter().find(|text| text.starts_with("unix://"));
    unix.or(listen.first()).and_then(|text| Address::parse(text))
}

/// Where the daemon is when no supervisor tells it.
pub(super) fn default_address(environment: &Environment) -> Address {
    let host = environment.text("DOCKER_HOST").and_then(Address::parse);
    host.unwrap_or_else(|| Address::Unix(places::socket(environment)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::state::{STATE_SCHEMA, ServiceState};

    fn usual() -> Address {
        Address::Unix("/nonexistent/docker.sock".into())
    }

    fn state(phase: Phase) -> SupervisorState {
        SupervisorState {
            schema: STATE_SCHEMA.into(),
            pid: 1,
            version: "0".into(),
            stopping: false,
            started: 1.0,
            prepare_ms: 1.0,
            ready_ms: None,
            listen: vec!["tcp://0.0.0.0:2375".into(), "unix:///run/docker.sock".into()],
            problem: None,
            services: vec![ServiceState {
                name: "dockerd".into(),
                phase,
                pid: None,
                restarts: 1,
                last_exit: Some("signal 9 (SIGKILL)".into()),
                since_ms: 0,
                lives: Vec::new(),
            }],
        }
    }

    #[test]
    fn only_a_ready_daemon_is_asked() {
        assert_eq!(not_ready(&state(Phase::Ready)), None);
        assert_eq!(not_ready(&state(Phase::Reloading)), None);
        let told = |state| match not_ready(&state) {
            Some(NotReady::No(reason) | NotReady::Starting(reason)) => reason,
            None => String::new(),
        };
        assert_eq!(told(state(Phase::Backoff)), "dockerd waits for its restart after signal 9 (SIGKILL)");
        assert_eq!(told(SupervisorState { stopping: true, ..state(Phase::Ready) }), "the container is stopping");
    }

    #[test]
    fn the_unix_socket_is_preferred() {
        assert_eq!(address(&state(Phase::Ready).listen), Some(Address::Unix("/run/docker.sock".into())));
    }

    #[test]
    fn a_state_file_that_cannot_be_read_is_unhealthy_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::fs::write(&path, "{").unwrap();
        let health = look(&path, &usual(), Duration::from_millis(10));
        assert!(!health.healthy && health.reason.contains("state.json"), "{}", health.reason);
    }

    #[test]
    fn a_daemon_that_serves_without_having_told_so_is_healthy() {
        use std::io::{Read, Write};
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let path = folder.path().join("state.json");
        let listen = vec![format!("unix://{}", socket.display())];
        SupervisorState { listen, ..state(Phase::Starting) }.write(&path).unwrap();

        let silent = look(&path, &usual(), Duration::from_millis(20));
        assert!(!silent.healthy && silent.reason.starts_with("dockerd is starting"), "{}", silent.reason);

        let server = std::thread::spawn(move || {
            // The first connection is the one that was given up above.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 64];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nOK");
            }
        });
        let answered = look(&path, &usual(), Duration::from_secs(5));
        server.join().unwrap();
        assert!(answered.healthy, "{}", answered.reason);
    }
}
