//! Removing what killed or crashed callers left behind.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::{ContainerSummary, Network};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::delivery::{self, AGENT_LABEL};
use super::error::{ExecError, status_code};
use super::lease::{self, Owner};
use super::network;

/// A holder of another version's agent stays this long, so that two versions in use do not remove each other's all
/// the time. Seconds.
const HOLDER_AGE: i64 = 24 * 3600;

/// Something that was, or would be, removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// `container`, `agent` or `network`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Run it belonged to, where it did.
    pub run: Option<String>,
    /// `created`, `running`, `exited`, …
    pub state: String,
    /// Why.
    pub reason: &'static str,
}

/// What came of a collection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Collected {
    /// What was, or would be, removed.
    pub removed: Vec<Removed>,
    /// What could not be removed, one line each.
    pub errors: Vec<String>,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Removes everything that provably belongs to nobody. One failure does not stop the rest.
pub async fn collect(docker: &Docker, dry_run: bool) -> Result<Collected, ExecError> {
    let runs = list(docker, lease::RUN).await?;
    let holders = list(docker, AGENT_LABEL).await?;
    let proc = Path::new("/proc");
    // Without an identity of our own only expired leases can be judged.
    let here = Owner::ourselves(proc).ok();
    let own = delivery::identity(Path::new("/proc/self/exe")).ok();
    let mut collected = Collected::default();
    for (container, removed) in doomed_runs(&runs, here.as_ref(), now(), |pid| lease::start_time(proc, pid)) {
        keep_record(&mut collected, removed, if dry_run { Ok(()) } else { remove(docker, container).await });
    }
    let time = i64::try_from(now()).unwrap_or(i64::MAX);
    for (identity, removed) in doomed_holders(&holders, &runs, own.as_deref(), time) {
        keep_record(&mut collected, removed, if dry_run { Ok(()) } else { remove_agent(docker, identity).await });
    }
    for (id, removed) in doomed_networks(&network::list(docker).await?, now()) {
        match if dry_run { Ok(true) } else { remove_network(docker, id).await } {
            // The daemon refuses while a container is connected to it.
            Ok(false) => {}
            outcome => keep_record(&mut collected, removed, outcome.map(drop)),
        }
    }
    Ok(collected)
}

fn doomed_networks(networks: &[Network], now: u64) -> Vec<(&str, Removed)> {
    let age = |network: &Network| {
        let created = OffsetDateTime::parse(network.created.as_deref()?, &Rfc3339).ok()?.unix_timestamp();
        i64::try_from(now).ok()?.checked_sub(created)
    };
    let judged = networks.iter().filter(|network| age(network).is_some_and(|age| age > HOLDER_AGE));
    let removed = |network: &Network| Removed {
        kind: "network",
        name: network.name.clone().unwrap_or_default(),
        run: None,
        state: "unused".to_owned(),
        reason: "no container is connected to it",
    };
    judged.filter_map(|network| Some((network.id.as_deref()?, removed(network)))).collect()
}

/// Whether it went; `false` when it is in use.
async fn remove_network(docker: &Docker, id: &str) -> Result<bool, ExecError> {
    match docker.remove_network(id).await {
        Err(error) if matches!(status_code(&error), Some(403 | 409)) => Ok(false),
        outcome => tolerate(outcome, format!("remove network {id}")).map(|()| true),
    }
}

fn keep_record(collected: &mut Collected, removed: Removed, outcome: Result<(), ExecError>) {
    match outcome {
        Ok(()) => collected.removed.push(removed),
        Err(error) => collected.errors.push(error.problem().message),
    }
}

async fn list(docker: &Docker, label: &str) -> Result<Vec<ContainerSummary>, ExecError> {
    let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    docker.list_containers(Some(options)).await.map_err(ExecError::api("list containers"))
}

fn labels(container: &ContainerSummary) -> BTreeMap<String, String> {
    container.labels.clone().unwrap_or_default().into_iter().collect()
}

fn name(container: &ContainerSummary) -> String {
    let names = container.names.clone().unwrap_or_default();
    let first = names.first().or(container.id.as_ref()).cloned().unwrap_or_default();
    first.trim_start_matches('/').to_owned()
}

fn doomed_runs<'a>(
    containers: &'a [ContainerSummary],
    here: Option<&Owner>,
    now: u64,
    started: impl Fn(u32) -> Option<u64>,
) -> Vec<(&'a str, Removed)> {
    let judged = containers.iter().filter_map(|container| {
        let labels = labels(container);
        let reason = lease::judge(&labels, here, now, &started)?;
        let removed = Removed {
            kind: "container",
            name: name(container),
            run: labels.get(lease::RUN).cloned(),
            state: container.state.map(|state| state.to_string()).unwrap_or_default(),
            reason: reason.words(),
        };
        Some((container.id.as_deref()?, removed))
    });
    judged.collect()
}

fn doomed_holders<'a>(
    holders: &'a [ContainerSummary],
    runs: &[ContainerSummary],
    own: Option<&str>,
    now: i64,
) -> Vec<(&'a str, Removed)> {
    let used: Vec<String> =
        runs.iter().flat_map(|run| run.mounts.clone().unwrap_or_default()).filter_map(|mount| mount.name).collect();
    let judged = holders.iter().filter_map(|holder| {
        let identity = holder.labels.as_ref()?.get(AGENT_LABEL)?.as_str();
        let volume = delivery::holder_name(identity);
        let old = holder.created.is_some_and(|created| now - created > HOLDER_AGE);
        // A forged label must not lead to anything else.
        let ours = name(holder) == volume && identity.chars().all(|c| c.is_ascii_hexdigit());
        let removed = Removed {
            kind: "agent",
            name: volume.clone(),
            run: None,
            state: holder.state.map(|state| state.to_string()).unwrap_or_default(),
            reason: "it holds the agent of another version, and no container uses it",
        };
        (ours && old && Some(identity) != own && !used.contains(&volume)).then_some((identity, removed))
    });
    judged.collect()
}

/// Kills and removes a container with its anonymous volumes. Somebody else having done so, or doing it, is fine.
pub async fn remove(docker: &Docker, container: &str) -> Result<(), ExecError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    tolerate(docker.remove_container(container, Some(options)).await, format!("remove container {container}"))
}

async fn remove_agent(docker: &Docker, identity: &str) -> Result<(), ExecError> {
    let holder = delivery::holder_name(identity);
    remove(docker, &holder).await?;
    let options = RemoveVolumeOptionsBuilder::new().build();
    tolerate(docker.remove_volume(&holder, Some(options)).await, format!("remove volume {holder}"))?;
    let image = delivery::image_name(identity);
    let options = RemoveImageOptionsBuilder::new().build();
    tolerate(docker.remove_image(&image, Some(options), None).await.map(drop), format!("remove image {image}"))
}

fn tolerate(outcome: Result<(), bollard::errors::Error>, doing: String) -> Result<(), ExecError> {
    match outcome {
        Err(error) if !matches!(status_code(&error), Some(404 | 409)) => Err(ExecError::api(doing)(error)),
        _ => Ok(()),
    }
}

/// Removes the container of one run. Its creation may still be under way, so an empty answer is asked for again.
pub async fn remove_run(docker: &Docker, run: &str, created: bool) -> Result<(), ExecError> {
    let label = format!("{}={run}", lease::RUN);
    let tries = if created { 2 } else { 20 };
    for _ in 0..tries {
        let found = list(docker, &label).await?;
        for container in &found {
            remove(docker, container.id.as_deref().unwrap_or_default()).await?;
        }
        if !found.is_empty() || created {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerSummaryStateEnum, MountPoint};

    fn here() -> Owner {
        Owner { boot: "b".into(), namespace: 1, pid: 1, started: 1 }
    }

    fn container(id: &str, labels: HashMap<String, String>) -> ContainerSummary {
        ContainerSummary {
            id: Some(id.into()),
            names: Some(vec![format!("/{id}")]),
            labels: Some(labels),
            state: Some(ContainerSummaryStateEnum::CREATED),
            created: Some(0),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn only_the_dead_and_the_expired_go() {
        let dead = Owner { pid: 5, started: 50, ..here() };
        let alive = Owner { pid: 6, started: 60, ..here() };
        let containers = [
            container("dead", lease::labels("r1", Some(&dead), 200)),
            container("alive", lease::labels("r2", Some(&alive), 200)),
            container("expired", lease::labels("r3", Some(&alive), 99)),
            container("foreign", HashMap::new()),
        ];
        let doomed = doomed_runs(&containers, Some(&here()), 100, |pid| (pid == 6).then_some(60));
        let names: Vec<&str> = doomed.iter().map(|(id, _)| *id).collect();
        assert_eq!(names, ["dead", "expired"]);
        assert_eq!((doomed[0].1.state.as_str(), doomed[0].1.run.as_deref()), ("created", Some("r1")));
    }

    #[test]
    fn an_agent_goes_when_it_is_old_and_nobodys() {
        let holder = |identity: &str| {
            let labels = HashMap::from([(AGENT_LABEL.to_owned(), identity.to_owned())]);
            container(&delivery::holder_name(identity), labels)
        };
        let holders = [holder("aa"), holder("bb"), holder("cc")];
        let mount = MountPoint { name: Some(delivery::holder_name("bb")), ..MountPoint::default() };
        let user = ContainerSummary { mounts: Some(vec![mount]), ..ContainerSummary::default() };
        let doomed = |now| -> Vec<String> {
            let all = doomed_holders(&holders, std::slice::from_ref(&user), Some("cc"), now);
            all.into_iter().map(|(identity, _)| identity.to_owned()).collect()
        };
        assert_eq!(doomed(HOLDER_AGE + 1), ["aa"]);
        assert!(doomed(HOLDER_AGE).is_empty());
    }

    #[test]
    fn a_network_goes_when_it_is_old() {
        let network = |id: &str, created: &str| Network {
            id: Some(id.into()),
            created: Some(created.into()),
            ..Network::default()
        };
        let networks = [network("old", "1970-01-01T00:00:00.5Z"), network("odd", "yesterday")];
        let doomed =
            |now| -> Vec<String> { doomed_networks(&networks, now).into_iter().map(|(id, _)| id.to_owned()).collect() };
        assert_eq!(doomed(24 * 3600 + 1), ["old"]);
        assert!(doomed(24 * 3600).is_empty());
    }

    #[test]
    fn a_label_of_somebody_else_leads_nowhere() {
        let forged = container("precious", HashMap::from([(AGENT_LABEL.to_owned(), "precious".to_owned())]));
        assert!(doomed_holders(&[forged], &[], None, i64::MAX).is_empty());
    }
}
