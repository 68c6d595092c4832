//! Ending tasks that dockerd knows nothing of ([`super::tasks`]): seen at two looks, judged anew with the process in hand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerStateStatusEnum as Status;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::groups::PAUSE;
use super::tasks::{self, Standing, Task};
use crate::exec::daemon::Daemon;
use crate::exec::error::{ExecError, status_code};
use crate::probe::Roots;
use crate::sys::pidfd;

/// How long the daemon may take to tell about a container. One that it is starting is locked until it has started, so it is in use.
const LOCKED: Duration = Duration::from_secs(10);

/// How long containerd may take to notice that a shim is gone, and to delete what it ran.
const TIDY: Duration = Duration::from_secs(30);

/// A task that nobody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forsaken {
    /// The task.
    pub task: Task,
    /// What the daemon says of its container.
    pub standing: Standing,
}

impl Forsaken {
    /// The container's identifier as people know it.
    pub fn name(&self) -> &str {
        self.task.id.get(..12).unwrap_or(&self.task.id)
    }

    /// Why it goes.
    pub fn reason(&self) -> &'static str {
        match self.standing {
            Standing::Unknown => "containerd ran it, and dockerd does not know its container any more",
            Standing::Idle | Standing::InUse => "containerd ran it, and dockerd does not know that its container runs",
        }
    }
}

/// Why a task is still there.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum EndError {
    #[error(transparent)]
    Ask(#[from] ExecError),
    #[error("cannot take hold of its shim, process {0}: {1} (that needs Linux 5.3)")]
    Hold(i32, Errno),
    #[error("cannot end its shim, process {0}: {1}")]
    Signal(i32, Errno),
    #[error("its shim was ended, and containerd has not deleted {} within {}", .0.display(), humantime::format_duration(TIDY))]
    Untidy(PathBuf),
}

/// Tasks that are nobody's at both of two looks, [`PAUSE`] apart; at once where there are none. The daemon has to be the one of this
/// container.
pub async fn look(daemon: &Daemon, roots: &Roots) -> Result<Vec<Forsaken>, ExecError> {
    let first = nobodys(&daemon.docker, roots, tasks::running(roots)).await?;
    if first.is_empty() {
        return Ok(first);
    }
    tokio::time::sleep(PAUSE).await;
    let again = tasks::running(roots).into_iter().filter(|task| first.iter().any(|known| known.task == *task));
    nobodys(&daemon.docker, roots, again.collect()).await
}

async fn nobodys(docker: &Docker, roots: &Roots, tasks: Vec<Task>) -> Result<Vec<Forsaken>, ExecError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let busy = busy(docker).await?;
    let mut suspects = Vec::new();
    for task in tasks.into_iter().filter(|task| !busy.contains(&task.id)) {
        let standing = standing(docker, &task.id).await?;
        if standing != Standing::InUse {
            suspects.push(Forsaken { task, standing });
        }
    }
    if !suspects.is_empty() {
        let data_root = data_root(docker).await?;
        suspects.retain(|it| tasks::is_nobodys(roots, &it.task, it.standing, Path::new(&data_root)));
    }
    Ok(suspects)
}

/// Containers that the daemon's list has as running, which spares asking for each of them.
async fn busy(docker: &Docker) -> Result<BTreeSet<String>, ExecError> {
    let running = docker.list_containers(Some(ListContainersOptionsBuilder::new().build())).await;
    let running = running.map_err(ExecError::api("list containers"))?;
    Ok(running.into_iter().filter_map(|container| container.id).collect())
}

/// Its data root; empty where it tells none.
async fn data_root(docker: &Docker) -> Result<String, ExecError> {
    let info = docker.info().await.map_err(ExecError::api("ask for its settings"))?;
    Ok(info.docker_root_dir.unwrap_or_default())
}

async fn standing(docker: &Docker, id: &str) -> Result<Standing, ExecError> {
    let asked = docker.inspect_container(id, None::<InspectContainerOptions>);
    let Ok(answer) = tokio::time::timeout(LOCKED, asked).await else { return Ok(Standing::InUse) };
    match answer {
        Ok(found) => Ok(match found.state.and_then(|state| state.status) {
            Some(Status::CREATED | Status::EXITED | Status::DEAD) => Standing::Idle,
            _ => Standing::InUse,
        }),
        Err(error) if status_code(&error) == Some(404) => Ok(Standing::Unknown),
        // What the daemon itself is at odds with is not for us to judge.
        Err(error) if status_code(&error).is_some() => Ok(Standing::InUse),
        Err(source) => Err(ExecError::Api { doing: format!("inspect container {id}"), source }),
    }
}

/// Ends a task. Only its shim is killed: containerd, which sees its connection close, has all that ran below it killed and deletes
/// state, control groups and bundle, as after any shim that died. Whether it went; `false` where somebody wants it by now, or it has
/// gone already.
pub async fn end(docker: &Docker, roots: &Roots, task: &Task) -> Result<bool, EndError> {
    let shim = match pidfd::open(task.shim) {
        Ok(shim) => shim,
        Err(Errno::ESRCH) => return Ok(false),
        Err(errno) => return Err(EndError::Hold(task.shim, errno)),
    };
    let same: Vec<Task> = tasks::running(roots).into_iter().filter(|now| now == task).collect();
    if nobodys(docker, roots, same).await?.is_empty() {
        return Ok(false);
    }
    match pidfd::send(&shim, Signal::SIGKILL) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Ok(false),
        Err(errno) => return Err(EndError::Signal(task.shim, errno)),
    }
    let until = Instant::now() + TIDY;
    let bundle = roots.resolve(&task.bundle);
    while bundle.exists() {
        if Instant::now() > until {
            return Err(EndError::Untidy(task.bundle.clone()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(true)
}
