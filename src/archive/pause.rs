/*!
Holding containers still while a folder is read.

They are frozen by the daemon (`docker pause`), so what they have written is what is read. Whatever happens meanwhile,
they go on: by [`Paused::resume`], or when the value is dropped.
*/
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use tokio::runtime::Runtime;

use super::error::ArchiveError;
use super::stop::Stop;
use crate::exec::chain::chain;
use crate::exec::error::{ExecError, status_code};
use crate::exec::{daemon, endpoint};
use crate::probe::mountinfo::Mount;

/// Tries to let a container go on, and the pause between them.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// A container, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Container {
    id: String,
    name: String,
}

/// Containers that are held still.
#[derive(Debug)]
pub struct Paused {
    runtime: Runtime,
    docker: Docker,
    containers: Vec<Container>,
}

/// Which running containers share something with the folder: it, something below it or something above it. `own` is the
/// container that we run in, which must not stop itself.
fn concerned(containers: &[ContainerSummary], folder: &Path, own: Option<&str>) -> Vec<Container> {
    let shares = |source: &str| {
        let source = Path::new(source);
        // A link of the daemon's host leads to the same place, where we see it.
        let real = source.canonicalize().unwrap_or_else(|_| PathBuf::from(source));
        [source, real.as_path()].iter().any(|path| path.starts_with(folder) || folder.starts_with(path))
    };
    let concerned = containers.iter().filter(|container| {
        let mounts = container.mounts.iter().flatten().filter_map(|mount| mount.source.as_deref());
        container.id.as_deref() != own && mounts.filter(|source| !source.is_empty()).any(shares)
    });
    concerned
        .filter_map(|container| {
            let id = container.id.clone()?;
            let name = container.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
            Some(Container { name: name.unwrap_or_else(|| id.chars().take(12).collect()), id })
        })
        .collect()
}

/// The id of the container that we run in, by the files that an engine mounts from its own folder of that container.
fn own_id(mounts: &[Mount]) -> Option<String> {
    let files = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].map(Path::new);
    let mount = mounts.iter().find(|mount| files.contains(&mount.point.as_path()))?;
    let id = |part: &std::ffi::OsStr| {
        let text = part.to_str()?;
        (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_owned())
    };
    mount.root.iter().find_map(id)
}

impl Paused {
    /// None yet, of the daemon that `env` names. It blocks, and `waits` is told when it takes long: see [`daemon::connect`].
    pub fn none(env: &BTreeMap<String, String>, waits: &dyn Fn(&str)) -> Result<Self, ArchiveError> {
        let endpoint = endpoint::from_env(env).map_err(ExecError::from)?;
        let runtime = daemon::runtime()?;
        let daemon = runtime.block_on(daemon::connect(endpoint, env, waits)).map_err(ExecError::from)?;
        Ok(Self { runtime, docker: daemon.docker, containers: Vec::new() })
    }

    /// Pauses the running containers that have to do with the folder.
    pub fn pause(mut self, folder: &Path, mounts: &[Mount], stop: &Stop) -> Result<Self, ArchiveError> {
        // Only those that run: one that is paused already is somebody else's to let go on.
        let filters = std::collections::HashMap::from([("status", vec!["running"])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let running = self.runtime.block_on(self.docker.list_containers(Some(options)));
        let running = running.map_err(ExecError::api("list containers"))?;
        for container in concerned(&running, folder, own_id(mounts).as_deref()) {
            stop.check()?;
            let outcome = self.runtime.block_on(self.docker.pause_container(&container.id));
            match outcome {
                // Noted whatever the answer is, unless it says that nothing was done.
                Ok(()) => self.containers.push(container),
                Err(error) if matches!(status_code(&error), Some(404 | 409)) => {}
                Err(error) => {
                    let doing = format!("pause {}", container.name);
                    self.containers.push(container);
                    return Err(ExecError::api(doing)(error).into());
                }
            }
        }
        stop.check()?;
        Ok(self)
    }

    /// Names of the containers.
    pub fn names(&self) -> Vec<String> {
        self.containers.iter().map(|container| container.name.clone()).collect()
    }

    /// Lets them go on. What cannot be let go on is named.
    pub fn resume(mut self) -> Result<(), ArchiveError> {
        self.unpause()
    }

    fn unpause(&mut self) -> Result<(), ArchiveError> {
        let mut failed = Vec::new();
        let mut why = String::new();
        for container in std::mem::take(&mut self.containers) {
            for attempt in 1..=TRIES {
                match self.runtime.block_on(self.docker.unpause_container(&container.id)) {
                    Ok(()) => break,
                    // It is gone, or goes on already.
                    Err(error) if matches!(status_code(&error), Some(404 | 409)) => break,
                    Err(error) if says_not_paused(&error) => break,
                    Err(error) if attempt == TRIES => {
                        why = chain(&error);
                        failed.push(container.name.clone());
                    }
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(ArchiveError::StillPaused { containers: failed, why }) }
    }
}

/// The engine answers 500 for that.
fn says_not_paused(error: &bollard::errors::Error) -> bool {
    chain(error).contains("is not paused")
}

impl Drop for Paused {
    fn drop(&mut self) {
        // Only on the way out of another failure, which is the one that is told; what `resume` let go on is not here.
        let _ = self.unpause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::MountPoint;

    fn container(id: &str, sources: &[&str]) -> ContainerSummary {
        let mount = |source: &&str| MountPoint { source: Some((*source).to_owned()), ..MountPoint::default() };
        ContainerSummary {
            id: Some(id.to_owned()),
            names: Some(vec![format!("/{id}")]),
            mounts: Some(sources.iter().map(mount).collect()),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn the_folder_what_is_below_and_what_is_above_concern_it() {
        let all = [
            container("same", &["/srv/w"]),
            container("below", &["/etc/hosts", "/srv/w/a"]),
            container("above", &["/srv"]),
            container("beside", &["/srv/w2", ""]),
            container("none", &[]),
            container("self", &["/srv/w"]),
        ];
        let found = concerned(&all, Path::new("/srv/w"), Some("self"));
        let names: Vec<&str> = found.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["same", "below", "above"]);
    }

    #[test]
    fn the_own_container_is_known_by_what_the_engine_mounts() {
        let id = "ab".repeat(32);
        let mount = |root: &str, point: &str| {
            let line = format!("1 2 8:1 {root} {point} rw - ext4 /dev/x rw\n");
            crate::probe::mountinfo::parse(line.as_bytes(), Path::new("x")).unwrap().remove(0)
        };
        let root = format!("/var/lib/docker/containers/{id}/hosts");
        assert_eq!(own_id(&[mount("/", "/"), mount(&root, "/etc/hosts")]), Some(id.clone()));
        // What the daemon mounts for a container of ours is none of it.
        assert_eq!(own_id(&[mount("/", &format!("/var/lib/docker/containers/{id}/mounts/shm"))]), None);
    }
}
