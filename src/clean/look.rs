//! What may go, asked of the daemon and of this container's control groups.

use std::collections::BTreeSet;
use std::path::Path;

use bollard::query_parameters::ListContainersOptionsBuilder;

use super::forsaken::{self, Forsaken};
use super::groups::{self, Group};
use super::inventory;
use super::plan::{Wishes, plan};
use super::report::{Item, Kind};
use crate::exec::chain::chain;
use crate::exec::daemon::Daemon;
use crate::exec::error::ExecError;
use crate::exec::{delivery, gc, locality};
use crate::probe::{ProbeError, Roots};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What may go.
    pub items: Vec<Item>,
    /// What containerd runs and dockerd knows nothing of, one for each item of that kind.
    pub forsaken: Vec<Forsaken>,
    /// All layers of all images, bytes.
    pub layers: u64,
    /// What could not be looked at, one line each.
    pub notes: Vec<String>,
}

/// Looks, and removes nothing.
pub async fn look(daemon: &Daemon, wishes: &Wishes, roots: &Roots) -> Result<Found, ExecError> {
    let doomed = gc::collect(&daemon.docker, true).await?.removed;
    let inventory = inventory::take(&daemon.docker, wishes.volumes).await?;
    let agent = delivery::identity(Path::new("/proc/self/exe")).ok().map(|identity| delivery::image_name(&identity));
    let mut found = Found {
        items: plan(&inventory, wishes, &doomed, agent.as_deref()),
        layers: inventory.layers,
        ..Found::default()
    };
    if locality::shares_container(daemon.peer, &roots.proc) {
        let (forsaken, deserted) = tokio::join!(forsaken::look(daemon, roots), deserted(daemon, roots));
        found.forsaken = forsaken?;
        found.items.extend(found.forsaken.iter().map(task));
        match deserted? {
            Ok(groups) => found.items.extend(groups.into_iter().map(item)),
            Err(error) => found.notes.push(format!("no control groups are looked for: {}", chain(&error))),
        }
    }
    Ok(found)
}

/// Empty control groups that are nobody's at both of two looks, [`groups::PAUSE`] apart; at once where there are none. The daemon is
/// asked after each look, and has to be the one of this container.
pub async fn deserted(daemon: &Daemon, roots: &Roots) -> Result<Result<Vec<Group>, ProbeError>, ExecError> {
    let mut found = match groups::empty(roots) {
        Ok(empty) if !empty.is_empty() => groups::nobodys(empty, &known(daemon).await?),
        nothing => return Ok(nothing),
    };
    if found.is_empty() {
        return Ok(Ok(found));
    }
    tokio::time::sleep(groups::PAUSE).await;
    let again = match groups::empty(roots) {
        Ok(empty) => groups::nobodys(empty, &known(daemon).await?),
        Err(error) => return Ok(Err(error)),
    };
    found.retain(|group| again.contains(group));
    Ok(Ok(found))
}

async fn known(daemon: &Daemon) -> Result<BTreeSet<String>, ExecError> {
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let all = daemon.docker.list_containers(Some(options)).await.map_err(ExecError::api("list containers"))?;
    Ok(all.into_iter().filter_map(|container| container.id).collect())
}

fn task(forsaken: &Forsaken) -> Item {
    Item {
        kind: Kind::Task,
        name: forsaken.name().to_owned(),
        id: Some(forsaken.task.id.clone()),
        bytes: None,
        reason: forsaken.reason().to_owned(),
        references: Vec::new(),
    }
}

fn item(group: Group) -> Item {
    Item {
        kind: Kind::Cgroup,
        name: group.path.display().to_string(),
        id: Some(group.id),
        bytes: None,
        reason: "it is empty, and its container is no more".to_owned(),
        references: Vec::new(),
    }
}
