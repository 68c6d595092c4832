//! What may go: decided from an inventory alone.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inventory::{Container, Image, Inventory};
use super::report::{Item, Kind};
use crate::exec::gc::Removed;

/// Somebody who has just made a network, a volume or a container may be about to use it. Seconds.
const GRACE: i64 = 10;

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Images with a tag as well, and all kinds of build cache.
    pub all: bool,
    /// Volumes as well.
    pub volumes: bool,
    /// Only what is older. What `dindctl gc` removes goes at any age.
    pub older_than: Option<Duration>,
}

impl Wishes {
    fn old_enough(&self, now: i64, moment: i64) -> bool {
        let Some(limit) = self.older_than else { return true };
        i64::try_from(limit.as_secs()).is_ok_and(|limit| now.saturating_sub(moment) > limit)
    }

    /// The same for a moment that is not known: then it is not old enough for anybody who asks.
    fn known_old(&self, now: i64, moment: Option<i64>) -> bool {
        moment.map_or(self.older_than.is_none(), |moment| self.old_enough(now, moment))
    }
}

/// Decides. `doomed` is what `dindctl gc` would remove; `agent` is the name of the agent's image of this very dindctl.
pub fn plan(inventory: &Inventory, wishes: &Wishes, doomed: &[Removed], agent: Option<&str>) -> Vec<Item> {
    let now = inventory.now;
    let leftovers = doomed.iter().map(|removed| Item {
        kind: Kind::Leftover,
        name: format!("{} {}", removed.kind, removed.name),
        id: None,
        bytes: None,
        reason: removed.reason.to_owned(),
        references: Vec::new(),
    });
    let goes = |container: &&Container| goes(container, now, wishes);
    let is_doomed = |container: &Container| doomed.iter().any(|removed| removed.name == container.name);
    let stay: Vec<&Container> =
        inventory.containers.iter().filter(|container| !goes(container) && !is_doomed(container)).collect();
    let containers = inventory.containers.iter().filter(goes).map(|container| Item {
        kind: Kind::Container,
        name: container.name.clone(),
        id: Some(container.id.clone()),
        bytes: container.bytes,
        reason: format!("it does not run ({})", container.state),
        references: Vec::new(),
    });
    let used: BTreeSet<&str> = stay.iter().flat_map(|it| &it.networks).map(String::as_str).collect();
    let networks = inventory.networks.iter().filter(|network| {
        let fresh = network.created.is_some_and(|created| now - created < GRACE);
        let unused = !used.contains(network.name.as_str()) && !used.contains(network.id.as_str());
        unused && !network.kept && !fresh && wishes.known_old(now, network.created)
    });
    let networks = networks.map(|network| Item {
        kind: Kind::Network,
        name: network.name.clone(),
        id: Some(network.id.clone()),
        bytes: None,
        reason: "no container is connected to it".to_owned(),
        references: Vec::new(),
    });
    let images = images(inventory, wishes, &stay, agent);
    let volumes = volumes(inventory, wishes, &stay);
    let cache = inventory
        .cache
        .iter()
        .filter(|entry| (if wishes.all { entry.unused } else { entry.free }) && wishes.known_old(now, entry.used));
    let cache = cache.map(|entry| Item {
        kind: Kind::BuildCache,
        name: entry.id.clone(),
        id: Some(entry.id.clone()),
        bytes: Some(entry.bytes),
        reason: "no build uses it".to_owned(),
        references: Vec::new(),
    });
    leftovers.chain(containers).chain(networks).chain(images).chain(volumes).chain(cache).collect()
}

/// Whether a container is stopped for good, and nobody's who is about to start it. Those with a label of ours have a lease.
fn goes(container: &Container, now: i64, wishes: &Wishes) -> bool {
    let stopped = match container.state.as_str() {
        "exited" | "dead" => true,
        "created" => now - container.created >= GRACE,
        _ => false,
    };
    stopped && !container.ours && wishes.old_enough(now, container.created)
}

fn images(inventory: &Inventory, wishes: &Wishes, stay: &[&Container], agent: Option<&str>) -> Vec<Item> {
    let used: BTreeSet<&str> = stay.iter().map(|container| container.image.as_str()).collect();
    let goes = |image: &&Image| {
        let free = image.tags.is_empty() || wishes.all;
        // Somebody may be delivering it, or testing with it.
        let agents = agent.is_some_and(|name| image.tags.iter().any(|tag| tag == name));
        free && !agents
            && !image.ours
            && !used.contains(image.id.as_str())
            && wishes.old_enough(inventory.now, image.created)
    };
    // What another image stands on frees nothing and would only lose its name.
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    for image in inventory.images.iter().filter(|image| !goes(image)) {
        let mut next = Some(image);
        while let Some(image) = next.filter(|image| kept.insert(&image.id)) {
            next = inventory.images.iter().find(|known| !image.parent.is_empty() && known.id == image.parent);
        }
    }
    let going = inventory.images.iter().filter(|image| !kept.contains(image.id.as_str()));
    let item = |image: &Image| {
        let references: Vec<String> = image.tags.iter().chain(&image.digests).cloned().collect();
        Item {
            kind: Kind::Image,
            name: references.first().unwrap_or(&image.id).clone(),
            id: Some(image.id.clone()),
            bytes: Some(image.bytes),
            reason: if image.tags.is_empty() {
                "it has no tag, and no container uses it"
            } else {
                "no container uses it"
            }
            .to_owned(),
            references,
        }
    };
    going.map(item).collect()
}

fn volumes(inventory: &Inventory, wishes: &Wishes, stay: &[&Container]) -> Vec<Item> {
    let used: BTreeSet<&str> = stay.iter().flat_map(|it| &it.volumes).map(String::as_str).collect();
    let known = |name: &str| inventory.containers.iter().filter(|container| container.volumes.contains(name)).count();
    let goes = inventory.volumes.iter().filter(|volume| {
        // Somebody who is not in the list of containers yet.
        let others = volume.users.is_some_and(|users| users > known(&volume.name));
        let fresh = volume.created.is_some_and(|created| inventory.now - created < GRACE);
        wishes.volumes
            && !used.contains(volume.name.as_str())
            && !(others || fresh || volume.ours)
            && wishes.known_old(inventory.now, volume.created)
    });
    let item = |volume: &super::inventory::Volume| Item {
        kind: Kind::Volume,
        name: volume.name.clone(),
        id: None,
        bytes: volume.bytes,
        reason: "no container uses it".to_owned(),
        references: Vec::new(),
    };
    goes.map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::super::inventory::{Cache, Network, Volume};
    use super::*;

    const NOW: i64 = 1_000_000;

    fn container(name: &str, state: &str) -> Container {
        Container {
            id: format!("id-{name}"),
            name: name.into(),
            state: state.into(),
            image: format!("image-{name}"),
            created: NOW - 3600,
            networks: [format!("net-{name}")].into(),
            volumes: [format!("vol-{name}")].into(),
            ..Container::default()
        }
    }

    fn image(id: &str, tags: &[&str]) -> Image {
        Image {
            id: id.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            created: NOW - 7200,
            bytes: 5,
            ..Image::default()
        }
    }

    /// A running, a stopped and a leased container with an image, a network and a volume each, and some of nobody.
    fn inventory() -> Inventory {
        let names = ["up", "down", "leased"];
        let leased = Container { ours: true, ..container("leased", "exited") };
        let network = |name: &str| Network {
            id: format!("id-{name}"),
            name: name.into(),
            created: Some(NOW - 3600),
            kept: false,
        };
        let volume = |name: &str| Volume {
            name: name.into(),
            created: Some(NOW - 3600),
            users: Some(usize::from(name != "vol-nobody")),
            ..Volume::default()
        };
        let cache = |id: &str, free, unused| Cache { id: id.into(), bytes: 1, used: Some(NOW - 60), free, unused };
        Inventory {
            now: NOW,
            containers: vec![container("up", "running"), container("down", "exited"), leased],
            images: names
                .iter()
                .map(|name| image(&format!("image-{name}"), &[name]))
                .chain([image("image-nobody", &[])])
                .collect(),
            networks: names.iter().chain(&["nobody"]).map(|name| network(&format!("net-{name}"))).collect(),
            volumes: names.iter().chain(&["nobody"]).map(|name| volume(&format!("vol-{name}"))).collect(),
            cache: vec![cache("free", true, true), cache("shared", false, true), cache("used", false, false)],
            layers: 0,
        }
    }

    fn names(inventory: &Inventory, wishes: Wishes) -> Vec<String> {
        plan(inventory, &wishes, &[], None).into_iter().map(|item| item.name).collect()
    }

    #[test]
    fn by_default_tagged_images_and_volumes_stay() {
        assert_eq!(names(&inventory(), Wishes::default()), ["down", "net-down", "net-nobody", "image-nobody", "free"]);
    }

    #[test]
    fn all_takes_what_no_container_that_stays_uses() {
        let wishes = Wishes { all: true, volumes: true, ..Wishes::default() };
        let want =
            ["down", "net-down", "net-nobody", "down", "image-nobody", "vol-down", "vol-nobody", "free", "shared"];
        assert_eq!(names(&inventory(), wishes), want);
    }

    #[test]
    fn what_is_young_stays_with_all_it_uses() {
        let older = |seconds| Wishes { all: true, volumes: true, older_than: Some(Duration::from_secs(seconds)) };
        assert_eq!(names(&inventory(), older(3600)), ["image-nobody"]);
        assert_eq!(names(&inventory(), older(7200)), Vec::<String>::new());
        let mut unknown = inventory();
        unknown.networks[3].created = None;
        assert!(!names(&unknown, older(60)).contains(&"net-nobody".to_owned()));
        assert!(names(&unknown, Wishes::default()).contains(&"net-nobody".to_owned()));
    }

    #[test]
    fn what_was_made_just_now_is_somebodys() {
        let mut fresh = inventory();
        fresh.containers[1] = Container { created: NOW - 1, ..container("down", "created") };
        fresh.networks[3].created = Some(NOW - 1);
        fresh.volumes[3].created = Some(NOW - 1);
        let wishes = Wishes { volumes: true, ..Wishes::default() };
        assert_eq!(names(&fresh, wishes), ["image-nobody", "free"]);
        fresh.containers[1].created = NOW - GRACE;
        assert!(names(&fresh, wishes).contains(&"down".to_owned()));
    }

    #[test]
    fn what_gc_removes_no_longer_holds_anything() {
        let doomed = Removed {
            kind: "container",
            name: "leased".into(),
            run: None,
            state: "exited".into(),
            reason: "its owner is dead",
        };
        let wishes = Wishes { all: true, ..Wishes::default() };
        let items = plan(&inventory(), &wishes, &[doomed], None);
        assert_eq!((items[0].kind, items[0].name.as_str()), (Kind::Leftover, "container leased"));
        let of =
            |kind| items.iter().filter(|item| item.kind == kind).map(|item| item.name.as_str()).collect::<Vec<_>>();
        assert_eq!(of(Kind::Container), ["down"]);
        assert_eq!(of(Kind::Image), ["down", "leased", "image-nobody"]);
    }

    #[test]
    fn images_of_ours_and_what_others_stand_on_stay() {
        let mut images = inventory();
        images.images = vec![
            image("base", &["base:1"]),
            Image { parent: "base".into(), ..image("middle", &[]) },
            Image { parent: "middle".into(), ..image("image-up", &["up"]) },
            image("agent", &["dindctl/agent:1"]),
            Image { ours: true, ..image("warm", &[]) },
            image("old-agent", &["dindctl/agent:0"]),
        ];
        let wishes = Wishes { all: true, ..Wishes::default() };
        let items = plan(&images, &wishes, &[], Some("dindctl/agent:1"));
        let going: Vec<&str> =
            items.iter().filter(|item| item.kind == Kind::Image).map(|item| item.name.as_str()).collect();
        assert_eq!(going, ["dindctl/agent:0"]);
    }

    #[test]
    fn an_image_with_several_names_loses_all_of_them() {
        let mut images = inventory();
        images.images =
            vec![image("two", &["a:1", "b:1"]), Image { digests: vec!["c@sha256:1".into()], ..image("digest", &[]) }];
        let items = plan(&images, &Wishes { all: true, ..Wishes::default() }, &[], None);
        let references: Vec<Vec<String>> =
            items.into_iter().filter(|item| item.kind == Kind::Image).map(|item| item.references).collect();
        assert_eq!(references, [vec!["a:1".to_owned(), "b:1".to_owned()], vec!["c@sha256:1".to_owned()]]);
    }

    #[test]
    fn a_volume_of_somebody_we_do_not_see_stays() {
        let mut volumes = inventory();
        volumes.volumes[3].users = Some(1);
        let wishes = Wishes { volumes: true, ..Wishes::default() };
        assert!(!names(&volumes, wishes).contains(&"vol-nobody".to_owned()));
    }
}
