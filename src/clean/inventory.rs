//! What the daemon has, as plain data.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptions};
use futures_util::StreamExt;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::exec::error::ExecError;
use crate::exec::variables::LABEL_PREFIX;

/// The daemon looks at every file of every volume and stopped container to tell their sizes.
const PATIENCE: Duration = Duration::from_secs(900);

/// Networks that the daemon itself has made.
const BUILT_IN: [&str; 5] = ["bridge", "host", "none", "ingress", "docker_gwbridge"];

/// Everything that may be in somebody's way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The time there, seconds since 1970.
    pub now: i64,
    /// Containers in every state.
    pub containers: Vec<Container>,
    /// Images that are no mere steps on the way to others.
    pub images: Vec<Image>,
    /// Networks that somebody has made.
    pub networks: Vec<Network>,
    /// Volumes, where they were asked for.
    pub volumes: Vec<Volume>,
    /// Entries of the build cache.
    pub cache: Vec<Cache>,
    /// All layers of all images, bytes.
    pub layers: u64,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// `created`, `running`, `exited`, …
    pub state: String,
    /// Identifier of its image.
    pub image: String,
    /// Seconds since 1970.
    pub created: i64,
    /// What it has written into its own layer, bytes.
    pub bytes: Option<u64>,
    /// Whether it has a label of ours.
    pub ours: bool,
    /// Names and identifiers of its networks.
    pub networks: BTreeSet<String>,
    /// Names of its volumes.
    pub volumes: BTreeSet<String>,
}

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Identifier.
    pub id: String,
    /// Identifier of the image it was built on, where it was built here.
    pub parent: String,
    /// `name:tag`.
    pub tags: Vec<String>,
    /// `name@digest`.
    pub digests: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// Bytes that no other image shares.
    pub bytes: u64,
    /// Whether it has a label of ours.
    pub ours: bool,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// Seconds since 1970.
    pub created: Option<i64>,
    /// Whether it is the daemon's own, of a swarm, or has a label of ours.
    pub kept: bool,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Seconds since 1970.
    pub created: Option<i64>,
    /// Bytes in it.
    pub bytes: Option<u64>,
    /// Containers that use it, where the daemon counts them.
    pub users: Option<usize>,
    /// Whether it has a label of ours.
    pub ours: bool,
}

/// An entry of the build cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    /// Identifier.
    pub id: String,
    /// Bytes.
    pub bytes: u64,
    /// Seconds since 1970.
    pub used: Option<i64>,
    /// Whether it goes with an ordinary prune: nobody uses it, and it belongs to no image.
    pub free: bool,
    /// Whether it goes with `--all`.
    pub unused: bool,
}

/// Asks the daemon. Sizes of volumes take it long, so they are asked for only where volumes may go.
pub async fn take(docker: &Docker, volumes: bool) -> Result<Inventory, ExecError> {
    let info = docker.info().await.map_err(ExecError::api("tell what it is"))?;
    let now =
        info.system_time.as_deref().and_then(seconds).unwrap_or_else(|| OffsetDateTime::now_utc().unix_timestamp());
    let usage = usage(docker, volumes).await?;
    let networks = docker.list_networks(None::<ListNetworksOptions>).await;
    // Last, so that whoever took something into use before is among them.
    let containers = containers(docker).await?;
    let mut inventory = usage.inventory();
    inventory.now = now;
    inventory.networks = networks.map_err(ExecError::api("list networks"))?.into_iter().map(network).collect();
    inventory.containers = containers;
    Ok(inventory)
}

/// Bytes of all layers of all images.
pub async fn layers(docker: &Docker) -> Result<u64, ExecError> {
    Ok(ask(docker, &["image"]).await?.inventory().layers)
}

async fn containers(docker: &Docker) -> Result<Vec<Container>, ExecError> {
    let list = async |options| docker.list_containers(Some(options)).await.map_err(ExecError::api("list containers"));
    // Only of those that may go: to measure one that runs takes as long.
    let stopped = HashMap::from([("status".to_owned(), ["created", "exited", "dead"].map(str::to_owned).to_vec())]);
    let measured = list(ListContainersOptionsBuilder::new().all(true).size(true).filters(&stopped).build()).await?;
    let sizes: HashMap<String, i64> =
        measured.into_iter().filter_map(|one| Some((one.id?, one.size_rw.unwrap_or(0)))).collect();
    let all = list(ListContainersOptionsBuilder::new().all(true).build()).await?;
    Ok(all.into_iter().map(|one| container(one, &sizes)).collect())
}

fn container(found: ContainerSummary, sizes: &HashMap<String, i64>) -> Container {
    let id = found.id.unwrap_or_default();
    let names = found.names.unwrap_or_default();
    let endpoints = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let networks = endpoints.into_iter().flat_map(|(name, endpoint)| [Some(name), endpoint.network_id]);
    Container {
        name: names.first().map_or_else(|| id.clone(), |name| name.trim_start_matches('/').to_owned()),
        state: found.state.map(|state| state.to_string()).unwrap_or_default(),
        image: found.image_id.unwrap_or_default(),
        created: found.created.unwrap_or_default(),
        bytes: sizes.get(&id).and_then(|bytes| u64::try_from(*bytes).ok()),
        ours: is_ours(found.labels.unwrap_or_default().keys()),
        networks: networks.flatten().filter(|name| !name.is_empty()).collect(),
        volumes: found.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.name).collect(),
        id,
    }
}

fn network(found: bollard::models::Network) -> Network {
    let name = found.name.unwrap_or_default();
    let local = found.scope.as_deref().is_none_or(|scope| scope == "local");
    let special = found.ingress == Some(true) || found.config_only == Some(true) || BUILT_IN.contains(&name.as_str());
    Network {
        id: found.id.unwrap_or_default(),
        created: found.created.as_deref().and_then(seconds),
        kept: special || !local || is_ours(found.labels.unwrap_or_default().keys()),
        name,
    }
}

fn is_ours<'a>(labels: impl IntoIterator<Item = &'a String>) -> bool {
    labels.into_iter().any(|label| label.starts_with(LABEL_PREFIX))
}

fn seconds(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp).filter(|seconds| *seconds > 0)
}

/// `GET /system/df` in the form it has up to API 1.51.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Usage {
    layers_size: Option<i64>,
    images: Option<Vec<UsedImage>>,
    volumes: Option<Vec<UsedVolume>>,
    build_cache: Option<Vec<UsedCache>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UsedImage {
    id: String,
    parent_id: Option<String>,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    created: Option<i64>,
    size: Option<i64>,
    shared_size: Option<i64>,
    labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UsedVolume {
    name: String,
    created_at: Option<String>,
    labels: Option<HashMap<String, String>>,
    usage_data: Option<VolumeUse>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeUse {
    size: Option<i64>,
    ref_count: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UsedCache {
    #[serde(rename = "ID")]
    id: String,
    r#type: Option<String>,
    in_use: bool,
    shared: bool,
    size: Option<i64>,
    created_at: Option<String>,
    last_used_at: Option<String>,
}

impl Usage {
    /// From the daemon's answer.
    pub fn parse(answer: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(answer)
    }

    /// What of it is needed here. `-1` and less mean that it is not known.
    pub fn inventory(self) -> Inventory {
        let size = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let known = |names: Option<Vec<String>>| -> Vec<String> {
            names.unwrap_or_default().into_iter().filter(|name| !name.contains("<none>")).collect()
        };
        let image = |found: UsedImage| Image {
            id: found.id,
            parent: found.parent_id.unwrap_or_default(),
            tags: known(found.repo_tags),
            digests: known(found.repo_digests),
            created: found.created.unwrap_or_default(),
            bytes: size(found.size).unwrap_or(0).saturating_sub(size(found.shared_size).unwrap_or(0)),
            ours: is_ours(found.labels.unwrap_or_default().keys()),
        };
        let volume = |found: UsedVolume| {
            let used = found.usage_data.unwrap_or_default();
            Volume {
                name: found.name,
                created: found.created_at.as_deref().and_then(seconds),
                bytes: size(used.size),
                users: used.ref_count.and_then(|count| usize::try_from(count).ok()),
                ours: is_ours(found.labels.unwrap_or_default().keys()),
            }
        };
        let cache = |found: UsedCache| {
            let internal = matches!(found.r#type.as_deref(), Some("internal" | "frontend"));
            Cache {
                id: found.id,
                bytes: size(found.size).unwrap_or(0),
                used: found.last_used_at.or(found.created_at).as_deref().and_then(seconds),
                free: !found.in_use && !found.shared && !internal,
                unused: !found.in_use,
            }
        };
        Inventory {
            images: self.images.unwrap_or_default().into_iter().map(image).collect(),
            volumes: self.volumes.unwrap_or_default().into_iter().map(volume).collect(),
            cache: self.build_cache.unwrap_or_default().into_iter().map(cache).collect(),
            layers: size(self.layers_size).unwrap_or(0),
            ..Inventory::default()
        }
    }
}

async fn usage(docker: &Docker, volumes: bool) -> Result<Usage, ExecError> {
    let kinds = ["image", "build-cache", "volume"];
    let mut usage = ask(docker, if volumes { &kinds } else { kinds.split_at(2).0 }).await?;
    if !volumes {
        // A daemon before 23 tells all of it.
        usage.volumes = None;
    }
    Ok(usage)
}

/// The client library knows the answer of API 1.52 only, so its plain way to a body is led to the right place.
async fn ask(docker: &Docker, kinds: &[&str]) -> Result<Usage, ExecError> {
    const PLACE: &str = "/images/usage/get";
    let doing = "tell what its disk is used for";
    let spoken = docker.client_version();
    let minor = spoken.minor_version.min(51);
    let words: Vec<String> = kinds.iter().map(|kind| format!("type={kind}")).collect();
    let (place, version) = (format!("/system/df?{}", words.join("&")), format!("/v{}.{minor}/", spoken.major_version));
    let ours = format!("/v{}.{}/", spoken.major_version, spoken.minor_version);
    let led = docker.clone().with_timeout(PATIENCE).with_request_modifier(move |mut request| {
        let there = request.uri().to_string().replace(&ours, &version).replace(PLACE, &place);
        // What is no address any more stays as it is, and the daemon says that there is no such image.
        if let Ok(there) = there.parse() {
            *request.uri_mut() = there;
        }
        request
    });
    let mut answer = Vec::new();
    let mut body = led.export_image("usage");
    while let Some(piece) = body.next().await {
        answer.extend_from_slice(&piece.map_err(ExecError::api(doing))?);
    }
    Usage::parse(&answer).map_err(|error| ExecError::local("read the daemon's use of its disk")(error.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_read_with_what_it_leaves_out() {
        let answer = br#"{"LayersSize":1000,"Images":[
            {"Id":"sha256:a","ParentId":"","RepoTags":["x:1"],"RepoDigests":null,"Created":5,"Size":100,"SharedSize":40,"Labels":null},
            {"Id":"sha256:b","ParentId":"sha256:a","RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"],"Size":7,"SharedSize":-1,
             "Labels":{"io.dindctl.env":"1"}}],
            "Containers":null,"Volumes":[{"Name":"v","CreatedAt":"1970-01-01T00:00:09Z","UsageData":{"RefCount":1,"Size":-1}}],
            "BuildCache":[{"ID":"c","Type":"regular","InUse":false,"Shared":true,"Size":3,"LastUsedAt":null,"CreatedAt":"1970-01-01T00:00:08Z"},
                          {"ID":"d","Type":"internal","InUse":false,"Shared":false,"Size":4}]}"#;
        let found = Usage::parse(answer).unwrap().inventory();
        assert_eq!(found.layers, 1000);
        assert_eq!((found.images[0].bytes, found.images[0].tags.len(), found.images[0].ours), (60, 1, false));
        let second = &found.images[1];
        assert_eq!((second.bytes, second.tags.len(), second.digests.len(), second.ours), (7, 0, 0, true));
        let volume = Volume { name: "v".into(), created: Some(9), bytes: None, users: Some(1), ours: false };
        assert_eq!(found.volumes, [volume]);
        assert_eq!((found.cache[0].used, found.cache[0].free, found.cache[0].unused), (Some(8), false, true));
        assert_eq!((found.cache[1].bytes, found.cache[1].free, found.cache[1].unused), (4, false, true));
        assert_eq!(Usage::parse(b"{}").unwrap().inventory(), Inventory::default());
        assert!(Usage::parse(b"[").is_err());
    }

    #[test]
    fn networks_of_the_daemon_and_of_a_swarm_stay() {
        let kept = |name: &str, scope: &str| {
            let found = bollard::models::Network {
                name: Some(name.into()),
                scope: Some(scope.into()),
                ..bollard::models::Network::default()
            };
            network(found).kept
        };
        assert!(kept("bridge", "local") && kept("mine", "swarm") && kept("docker_gwbridge", "local"));
        assert!(!kept("mine", "local"));
        let labels = HashMap::from([("io.dindctl.network".to_owned(), "egress".to_owned())]);
        assert!(network(bollard::models::Network { labels: Some(labels), ..bollard::models::Network::default() }).kept);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer: Vec<u8>) {
            let _ = Usage::parse(&answer).map(Usage::inventory);
        }

        #[test]
        fn sizes_never_go_below_nothing(size: i64, shared: i64) {
            let answer = format!(r#"{{"Images":[{{"Id":"a","Size":{size},"SharedSize":{shared}}}],"LayersSize":{size}}}"#);
            let found = Usage::parse(answer.as_bytes()).unwrap().inventory();
            prop_assert!(found.images[0].bytes <= size.max(0).unsigned_abs());
        }
    }
}
