//! Nested containers that the daemon believes to run, and that do not.

use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};

use super::error::{ExecError, status_code};

/// A container that runs, by the daemon's books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its first process.
    pub pid: i32,
}

/// Those of a daemon.
pub async fn believed(docker: &Docker) -> Result<Vec<Believed>, ExecError> {
    let running = docker.list_containers(None::<ListContainersOptions>).await;
    let running = running.map_err(ExecError::api("list containers"))?;
    let mut believed = Vec::with_capacity(running.len());
    for id in running.into_iter().filter_map(|container| container.id) {
        let found = match docker.inspect_container(&id, None::<InspectContainerOptions>).await {
            Ok(found) => found,
            // One that is gone meanwhile is not believed in any more.
            Err(error) if status_code(&error) == Some(404) => continue,
            Err(source) => return Err(ExecError::Api { doing: format!("inspect container {id}"), source }),
        };
        let pid = found.state.filter(|state| state.running == Some(true)).and_then(|state| state.pid);
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0) {
            let name = found.name.unwrap_or_default().trim_start_matches('/').to_owned();
            believed.push(Believed { id, name, pid });
        }
    }
    Ok(believed)
}

/// Those without a process. `proc` is that of the daemon's pid namespace.
pub fn ended(proc: &Path, believed: Vec<Believed>) -> Vec<Believed> {
    believed.into_iter().filter(|container| !proc.join(container.pid.to_string()).exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_without_a_process_have_ended() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("12")).unwrap();
        let container = |name: &str, pid| Believed { id: "i".repeat(64), name: name.into(), pid };
        let ended = ended(proc.path(), vec![container("runs", 12), container("ended", 13)]);
        assert_eq!(ended, [container("ended", 13)]);
    }
}
