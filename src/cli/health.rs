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
use crate::engine::ping::{Address, ping};
use crate::init::state::{Phase, STATE_PATH, SupervisorState};

/// Between two looks while waiting; a look costs well under a millisecond.
const INTERVAL: Duration = Duration::from_millis(20);

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
pub fn run(arguments: &HealthArgs, voice: Voice) -> u8 {
    let deadline = Instant::now() + arguments.wait;
    let health = loop {
        let health = look(Path::new(STATE_PATH), arguments.timeout);
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

fn look(state_path: &Path, timeout: Duration) -> Health {
    let state = match SupervisorState::read(state_path) {
        Ok(state) => Some(state),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return unhealthy(None, format!("cannot read {}: {error}", state_path.display())),
    };
    if let Some(reason) = state.as_ref().and_then(not_ready) {
        return unhealthy(state, reason);
    }
    let address = state.as_ref().and_then(|state| address(&state.listen)).unwrap_or_else(default_address);
    match ping(&address, timeout) {
        Ok(taken) => {
            let ping_ms = taken.as_secs_f64() * 1e3;
            let reason = format!("{address} answered in {ping_ms:.1} ms");
            Health { schema: "dindctl.health/v1", healthy: true, reason, ping_ms: Some(ping_ms), supervisor: state }
        }
        Err(error) => unhealthy(state, error.to_string()),
    }
}

fn unhealthy(supervisor: Option<SupervisorState>, reason: String) -> Health {
    Health { schema: "dindctl.health/v1", healthy: false, reason, ping_ms: None, supervisor }
}

/// Why asking the daemon makes no sense yet, or no longer. Its sockets are open all the time, so a question would
/// wait in the backlog.
fn not_ready(state: &SupervisorState) -> Option<String> {
    if state.stopping {
        return Some("the container is stopping".into());
    }
    state.services.iter().filter(|service| service.name != "command").find_map(|service| {
        let after = service.last_exit.as_ref().map(|exit| format!(" after {exit}")).unwrap_or_default();
        match service.phase {
            Phase::Ready | Phase::Reloading => None,
            Phase::Waiting => Some(format!("{} is not started yet", service.name)),
            Phase::Starting => Some(format!("{} is starting{after}", service.name)),
            Phase::Backoff => Some(format!("{} waits for its restart{after}", service.name)),
            Phase::Stopping => Some(format!("{} is stopping", service.name)),
            Phase::Stopped => Some(format!("{} has ended{after}", service.name)),
            Phase::Failed => Some(format!("{} was given up{after}", service.name)),
        }
    })
}

/// The first unix socket, else the first TCP one.
fn address(listen: &[String]) -> Option<Address> {
    let unix = listen.iter().find(|text| text.starts_with("unix://"));
    unix.or(listen.first()).and_then(|text| Address::parse(text))
}

fn default_address() -> Address {
    let host = std::env::var("DOCKER_HOST").ok();
    host.as_deref().and_then(Address::parse).unwrap_or_else(|| Address::Unix("/var/run/docker.sock".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::state::{STATE_SCHEMA, ServiceState};

    fn state(phase: Phase) -> SupervisorState {
        SupervisorState {
            schema: STATE_SCHEMA.into(),
            pid: 1,
            version: "0".into(),
            stopping: false,
            prepare_ms: 1.0,
            ready_ms: None,
            listen: vec!["tcp://0.0.0.0:2375".into(), "unix:///run/docker.sock".into()],
            services: vec![ServiceState {
                name: "dockerd".into(),
                phase,
                pid: None,
                restarts: 1,
                last_exit: Some("signal 9 (SIGKILL)".into()),
            }],
        }
    }

    #[test]
    fn only_a_ready_daemon_is_asked() {
        assert_eq!(not_ready(&state(Phase::Ready)), None);
        assert_eq!(not_ready(&state(Phase::Reloading)), None);
        assert_eq!(
            not_ready(&state(Phase::Backoff)).unwrap(),
            "dockerd waits for its restart after signal 9 (SIGKILL)"
        );
        assert_eq!(
            not_ready(&SupervisorState { stopping: true, ..state(Phase::Ready) }).unwrap(),
            "the container is stopping"
        );
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
        let health = look(&path, Duration::from_millis(10));
        assert!(!health.healthy && health.reason.contains("state.json"), "{}", health.reason);
    }
}
