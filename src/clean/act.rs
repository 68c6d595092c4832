//! Removing what the plan names. One failure does not stop the rest, and what somebody else has removed, or taken into use, is no failure.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    InspectContainerOptions, InspectNetworkOptions, ListContainersOptionsBuilder, PruneBuildOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};

use super::look::Found;
use super::plan::Wishes;
use super::report::{Bytes, Failed, Item, Kind, Report};
use super::{forsaken, groups, inventory};
use crate::exec::chain::{chain, one_line};
use crate::exec::error::{ExecError, status_code};
use crate::exec::gc;
use crate::probe::Roots;

/// A removal may have to wait for the disk, and a build cache is removed in one go.
const PATIENCE: Duration = Duration::from_secs(900);

/// So long somebody else may take to remove a container.
const OTHERS: Duration = Duration::from_secs(30);

/// What became of one thing.
enum Fate {
    Gone,
    /// Somebody was faster, or needs it now.
    Left,
    Failed(String),
}

impl Fate {
    /// Of what goes unless somebody wants it.
    fn of<E: std::error::Error>(went: Result<bool, E>) -> Self {
        match went {
            Ok(true) => Self::Gone,
            Ok(false) => Self::Left,
            Err(error) => Self::Failed(chain(&error)),
        }
    }
}

/// Removes the things one after the other. `report` has what was done even where this is not waited for to the end; `tell` hears what
/// is next.
pub async fn act(
    docker: &Docker,
    roots: &Roots,
    found: &Found,
    wishes: &Wishes,
    report: &mut Report,
    tell: &dyn Fn(&Item),
) -> Result<(), ExecError> {
    let docker = docker.clone().with_timeout(PATIENCE);
    let items = found.items.as_slice();
    // Before the containers, as theirs would go on running.
    for (item, forsaken) in items.iter().filter(|item| item.kind == Kind::Task).zip(&found.forsaken) {
        tell(item);
        note(report, item, Fate::of(forsaken::end(&docker, roots, &forsaken.task).await));
    }
    if let Some(first) = items.iter().find(|item| item.kind == Kind::Leftover) {
        tell(first);
        leftovers(&docker, report).await?;
    }
    let one_by_one = [Kind::Container, Kind::Network, Kind::Image, Kind::Volume];
    for item in one_by_one.iter().flat_map(|kind| items.iter().filter(move |item| item.kind == *kind)) {
        tell(item);
        let fate = match item.kind {
            Kind::Container => container(&docker, item).await,
            Kind::Network => network(&docker, item).await,
            Kind::Image => image(&docker, item).await,
            _ => volume(&docker, item).await,
        };
        note(report, item, fate);
    }
    if let Some(first) = items.iter().find(|item| item.kind == Kind::BuildCache) {
        tell(first);
        build_cache(&docker, items, wishes, report).await;
    }
    for item in items.iter().filter(|item| item.kind == Kind::Cgroup) {
        tell(item);
        note(report, item, Fate::of(groups::remove(Path::new(&item.name))));
    }
    measure(&docker, found.layers, report).await
}

fn note(report: &mut Report, item: &Item, fate: Fate) {
    match fate {
        Fate::Gone => report.removed.push(item.clone()),
        Fate::Left => {}
        Fate::Failed(reason) => {
            report.failed.push(Failed { kind: item.kind, name: Some(item.name.clone()), reason: one_line(&reason) });
        }
    }
    let build_cache = report.reclaimed_bytes.build_cache;
    report.reclaimed_bytes = Bytes { build_cache, ..Bytes::of(&report.removed) }.summed();
}

/// As `dindctl gc` does it, which judges anew.
async fn leftovers(docker: &Docker, report: &mut Report) -> Result<(), ExecError> {
    let collected = gc::collect(docker, false).await?;
    report.removed.extend(collected.removed.iter().map(|removed| Item {
        kind: Kind::Leftover,
        name: format!("{} {}", removed.kind, removed.name),
        id: None,
        bytes: None,
        reason: removed.reason.to_owned(),
        references: Vec::new(),
    }));
    report.failed.extend(collected.errors.into_iter().map(|reason| Failed {
        kind: Kind::Leftover,
        name: None,
        reason,
    }));
    Ok(())
}

/// Neither with force, as it may run by now, nor with its volumes, which are data. Somebody else who is at it is waited for.
async fn container(docker: &Docker, item: &Item) -> Fate {
    let id = item.id.as_deref().unwrap_or(&item.name);
    let until = Instant::now() + OTHERS;
    loop {
        let error = match docker.remove_container(id, Some(RemoveContainerOptionsBuilder::new().build())).await {
            Ok(()) => return Fate::Gone,
            Err(error) if status_code(&error) == Some(404) => return Fate::Left,
            Err(error) => error,
        };
        if status_code(&error) != Some(409) {
            return Fate::Failed(said(&error));
        }
        match docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(found) => {
                let state = found.state.and_then(|state| state.status).map(|status| status.to_string());
                if matches!(state.as_deref(), Some("running" | "paused" | "restarting")) {
                    return Fate::Left;
                }
            }
            Err(error) if status_code(&error) == Some(404) => return Fate::Left,
            Err(_) => {}
        }
        if Instant::now() > until {
            return Fate::Failed(said(&error));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn network(docker: &Docker, item: &Item) -> Fate {
    let id = item.id.as_deref().unwrap_or(&item.name);
    let error = match docker.remove_network(id).await {
        Ok(()) => return Fate::Gone,
        Err(error) if status_code(&error) == Some(404) => return Fate::Left,
        Err(error) => error,
    };
    if matches!(status_code(&error), Some(403 | 409)) {
        match docker.inspect_network(id, None::<InspectNetworkOptions>).await {
            Ok(found) => {
                if found.containers.is_some_and(|containers| !containers.is_empty()) {
                    return Fate::Left;
                }
            }
            Err(error) if status_code(&error) == Some(404) => return Fate::Left,
            Err(_) => {}
        }
    }
    Fate::Failed(said(&error))
}

/// By each of its names, as the daemon refuses to remove one that has several by its identifier.
async fn image(docker: &Docker, item: &Item) -> Fate {
    let id = item.id.clone().unwrap_or_default();
    let names = if item.references.is_empty() { std::slice::from_ref(&id) } else { item.references.as_slice() };
    let mut fate = Fate::Left;
    for name in names {
        match docker.remove_image(name, Some(RemoveImageOptionsBuilder::new().build()), None).await {
            Ok(done) => {
                fate = Fate::Gone;
                if done.iter().any(|it| it.deleted.is_some()) {
                    break;
                }
            }
            Err(error) if status_code(&error) == Some(404) => {}
            Err(error) if status_code(&error) == Some(409) && is_used(docker, "ancestor", &id).await => {
                return Fate::Left;
            }
            Err(error) => return Fate::Failed(said(&error)),
        }
    }
    fate
}

async fn volume(docker: &Docker, item: &Item) -> Fate {
    match docker.remove_volume(&item.name, Some(RemoveVolumeOptionsBuilder::new().build())).await {
        Ok(()) => Fate::Gone,
        Err(error) if status_code(&error) == Some(404) => Fate::Left,
        Err(error) if status_code(&error) == Some(409) && is_used(docker, "volume", &item.name).await => Fate::Left,
        Err(error) => Fate::Failed(said(&error)),
    }
}

/// Whether a container has come to use it.
async fn is_used(docker: &Docker, filter: &str, value: &str) -> bool {
    let filters = HashMap::from([(filter.to_owned(), vec![value.to_owned()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    docker.list_containers(Some(options)).await.is_ok_and(|users| !users.is_empty())
}

/// The daemon chooses, by the same rule.
async fn build_cache(docker: &Docker, items: &[Item], wishes: &Wishes, report: &mut Report) {
    let mut options = PruneBuildOptionsBuilder::new().all(wishes.all);
    if let Some(age) = wishes.older_than {
        options = options.filters(&HashMap::from([("until", vec![format!("{}s", age.as_secs())])]));
    }
    match docker.prune_build(Some(options.build())).await {
        Ok(done) => {
            let bytes = done.space_reclaimed.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
            for id in done.caches_deleted.unwrap_or_default() {
                let planned = items.iter().find(|item| item.kind == Kind::BuildCache && item.name == id);
                report.removed.push(Item {
                    kind: Kind::BuildCache,
                    name: id.clone(),
                    id: Some(id),
                    bytes: planned.and_then(|item| item.bytes),
                    reason: "no build uses it".to_owned(),
                    references: Vec::new(),
                });
            }
            report.reclaimed_bytes = Bytes { build_cache: bytes, ..report.reclaimed_bytes }.summed();
        }
        Err(error) => report.failed.push(Failed { kind: Kind::BuildCache, name: None, reason: said(&error) }),
    }
}

/// Images share layers, so only all of them before and after tell what is free. Somebody who loads an image meanwhile hides some of it:
/// what the removed ones had for themselves is free in any case.
async fn measure(docker: &Docker, before: u64, report: &mut Report) -> Result<(), ExecError> {
    let kinds = [Kind::Image, Kind::Leftover];
    if report.removed.iter().any(|item| kinds.contains(&item.kind)) {
        let after = inventory::layers(docker).await?;
        let images = before.saturating_sub(after).max(Bytes::of(&report.removed).images);
        report.reclaimed_bytes = Bytes { images, ..report.reclaimed_bytes }.summed();
    }
    Ok(())
}

fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => one_line(message),
        other => chain(other),
    }
}
