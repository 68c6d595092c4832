/*!
What PID 1 tells the rest of the container about itself: a small JSON file, rewritten by atomic rename at every
change, so that `dindctl health` needs neither a socket nor a wake-up of PID 1.
*/
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Where PID 1 keeps its state, below the root of the container.
pub const STATE_PATH: &str = "/run/dindctl/state.json";

/// Schema name of [`SupervisorState`]; changes when a field changes its meaning.
pub const STATE_SCHEMA: &str = "dindctl.state/v1";

/// Where a supervised program stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not started yet: it waits for something before it.
    Waiting,
    /// The process runs and has not said that it is ready.
    Starting,
    /// The process said that it is ready.
    Ready,
    /// The process announced a reload of its configuration.
    Reloading,
    /// It died and is started again when its delay is over.
    Backoff,
    /// It was asked to end.
    Stopping,
    /// It ended and stays ended.
    Stopped,
    /// It died too often; the container ends because of it.
    Failed,
}

/// One supervised program as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// `containerd`, `dockerd` or `command`.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Its process, while there is one.
    pub pid: Option<i32>,
    /// Starts after the first one.
    pub restarts: u32,
    /// How the last process ended, in words (`exit code 1`, `signal 9 (SIGKILL)`).
    pub last_exit: Option<String>,
    /// When the phase began, milliseconds after the start of PID 1.
    pub since_ms: u64,
    /// The last processes, oldest first.
    pub lives: Vec<LifeState>,
}

/// One process of a service, or an attempt to start one. Times are milliseconds after the start of PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeState {
    /// Its number; `None`: it could not be started.
    pub pid: Option<i32>,
    /// Its start.
    pub started_ms: u64,
    /// Its first readiness; `None`: it has not been ready.
    pub ready_ms: Option<u64>,
    /// Its end; `None`: it runs.
    pub ended_ms: Option<u64>,
    /// How it ended, in words.
    pub exit: Option<String>,
}

/// All that PID 1 tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupervisorState {
    /// [`STATE_SCHEMA`].
    pub schema: String,
    /// Process id of the supervisor in its own pid namespace.
    pub pid: i32,
    /// Version of the binary that supervises.
    pub version: String,
    /// Whether the container is on its way down.
    pub stopping: bool,
    /// Start of PID 1, seconds since 1970 by the clock of that moment.
    pub started: f64,
    /// Duration of the preparation (all steps), milliseconds.
    pub prepare_ms: f64,
    /// From the start of PID 1 to the first readiness of the daemon, milliseconds.
    pub ready_ms: Option<f64>,
    /// API sockets that were bound, as `unix:///run/docker.sock` or `tcp://0.0.0.0:2375`.
    pub listen: Vec<String>,
    /// Why the container goes on without a daemon; `None`: it has one, or was meant to have none.
    #[serde(default)]
    pub problem: Option<String>,
    /// The supervised programs in the order of their start.
    pub services: Vec<ServiceState>,
}

/// Schema name of [`Status`]; changes when a field changes its meaning.
pub const STATUS_SCHEMA: &str = "dindctl.status/v1";

/// What PID 1 answers to `status`: its state, and what changes without an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_SCHEMA`].
    pub schema: String,
    /// Time since the start of PID 1, milliseconds, by a clock that nobody sets.
    pub uptime_ms: u64,
    /// Orphans that were reaped.
    pub orphans: u64,
    /// Bytes of services that were dropped on the way down, because nobody read them.
    pub lost_log_bytes: u64,
    /// What the state file holds as well.
    pub supervisor: SupervisorState,
}

impl SupervisorState {
    /// Reads the file that [`SupervisorState::write`] wrote.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read(path)?;
        serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Removes what an earlier supervisor left at `path`, which a restarted container still has: until the new one writes its own,
    /// it would be taken for the present. One that still lives, beside this process (`own`), keeps its file. Says whether one was removed.
    pub fn forget_predecessor(path: &Path, own: i32) -> io::Result<bool> {
        let state = match Self::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            // A file that nobody can read tells nothing.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            other => Some(other?),
        };
        let lives = |pid: i32| pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH);
        if state.is_some_and(|state| state.pid != own && lives(state.pid)) {
            return Ok(false);
        }
        std::fs::remove_file(path).map(|()| true)
    }

    /// Replaces the file at `path` in one step, so that a reader sees the old or the new state and nothing between.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let fresh: PathBuf = path.with_extension("json.new");
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_other_keeps_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let own = i32::try_from(std::process::id()).unwrap();
        let mut state = SupervisorState {
            schema: STATE_SCHEMA.into(),
            pid: 1,
            version: "0".into(),
            stopping: true,
            started: 1.0,
            prepare_ms: 1.0,
            ready_ms: None,
            listen: Vec::new(),
            problem: None,
            services: Vec::new(),
        };
        assert!(!SupervisorState::forget_predecessor(&path, own).unwrap(), "there is none");
        state.write(&path).unwrap();
        assert!(!SupervisorState::forget_predecessor(&path, own).unwrap(), "process 1 lives");
        // A restarted container gives the same number again.
        assert!(SupervisorState::forget_predecessor(&path, 1).unwrap() && !path.exists());
        // Larger than any process number there can be.
        state.pid = 1 << 30;
        state.write(&path).unwrap();
        assert!(SupervisorState::forget_predecessor(&path, own).unwrap() && !path.exists());
        std::fs::write(&path, "{").unwrap();
        assert!(SupervisorState::forget_predecessor(&path, own).unwrap() && !path.exists());
    }
}
