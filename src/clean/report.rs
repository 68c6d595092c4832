//! What is, or would be, removed, and what came of it.

use serde::Serialize;

/// The format of a report.
pub const SCHEMA: &str = "dindctl.clean/v1";

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What `dindctl gc` removes.
    Leftover,
    /// A container that does not run.
    Container,
    /// A network.
    Network,
    /// An image.
    Image,
    /// A volume with its data.
    Volume,
    /// An entry of the build cache.
    BuildCache,
    /// What containerd runs and dockerd knows nothing of.
    Task,
    /// An empty control group of a container that is no more.
    Cgroup,
}

impl Kind {
    /// All of them, in the order in which they go.
    pub const ALL: [Self; 8] = [
        Self::Task,
        Self::Leftover,
        Self::Container,
        Self::Network,
        Self::Image,
        Self::Volume,
        Self::BuildCache,
        Self::Cgroup,
    ];

    /// For one and for several.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Leftover => ("leftover of dindctl", "leftovers of dindctl"),
            Self::Container => ("container", "containers"),
            Self::Network => ("network", "networks"),
            Self::Image => ("image", "images"),
            Self::Volume => ("volume", "volumes"),
            Self::BuildCache => ("build cache entry", "build cache entries"),
            Self::Task => ("task of containerd", "tasks of containerd"),
            Self::Cgroup => ("control group", "control groups"),
        }
    }
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Of which kind.
    pub kind: Kind,
    /// Its name for people.
    pub name: String,
    /// Its identifier, where it has one.
    pub id: Option<String>,
    /// Bytes that it takes alone, where they are known.
    pub bytes: Option<u64>,
    /// Why it may go.
    pub reason: String,
    /// By which names it is removed, where that is not the identifier.
    #[serde(skip)]
    pub references: Vec<String>,
}

/// What could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Of which kind.
    pub kind: Kind,
    /// Its name.
    pub name: Option<String>,
    /// What the daemon says.
    pub reason: String,
}

/// Bytes by kind. Of images they are measured as what all layers take before and after, as images share them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Layers of containers.
    pub containers: u64,
    /// Layers of images.
    pub images: u64,
    /// Content of volumes.
    pub volumes: u64,
    /// Build cache.
    pub build_cache: u64,
    /// All together.
    pub total: u64,
}

impl Bytes {
    /// What the things take alone.
    pub fn of(items: &[Item]) -> Self {
        let sum = |kind: Kind| {
            let bytes = items.iter().filter(|item| item.kind == kind).filter_map(|item| item.bytes);
            bytes.fold(0_u64, u64::saturating_add)
        };
        Self {
            containers: sum(Kind::Container),
            images: sum(Kind::Image),
            volumes: sum(Kind::Volume),
            build_cache: sum(Kind::BuildCache),
            total: 0,
        }
        .summed()
    }

    /// With the right total.
    #[must_use]
    pub const fn summed(self) -> Self {
        let total = self.containers.saturating_add(self.images).saturating_add(self.volumes);
        Self { total: total.saturating_add(self.build_cache), ..self }
    }
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Whether nothing was touched.
    pub dry_run: bool,
    /// What was, or would be, removed.
    pub removed: Vec<Item>,
    /// What could not be removed.
    pub failed: Vec<Failed>,
    /// Bytes that are, or at least would be, free again.
    pub reclaimed_bytes: Bytes,
}

impl Report {
    /// An empty one.
    pub fn new(dry_run: bool) -> Self {
        let reclaimed_bytes = Bytes::default();
        Self { schema: SCHEMA, dry_run, removed: Vec::new(), failed: Vec::new(), reclaimed_bytes }
    }
}

/// `2 containers (12.0 MiB), 1 network`: counts and bytes.
pub fn summary(items: &[Item]) -> String {
    let part = |kind: &Kind| {
        let of: Vec<&Item> = items.iter().filter(|item| item.kind == *kind).collect();
        let (one, several) = kind.words();
        let count = match of.len() {
            0 => return None,
            1 => format!("1 {one}"),
            many => format!("{many} {several}"),
        };
        let bytes = of.iter().filter_map(|item| item.bytes).fold(0_u64, u64::saturating_add);
        Some(if bytes == 0 { count } else { format!("{count} ({})", size(bytes)) })
    };
    Kind::ALL.iter().filter_map(part).collect::<Vec<_>>().join(", ")
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: Kind, bytes: Option<u64>) -> Item {
        Item { kind, name: "x".into(), id: None, bytes, reason: String::new(), references: Vec::new() }
    }

    #[test]
    fn counts_and_bytes_are_summed_up() {
        let items = [
            item(Kind::Image, Some(3 << 20)),
            item(Kind::Container, Some(1 << 20)),
            item(Kind::Image, Some(1 << 20)),
            item(Kind::Network, None),
            item(Kind::BuildCache, Some(2048)),
        ];
        assert_eq!(
            summary(&items),
            "1 container (1.0 MiB), 1 network, 2 images (4.0 MiB), 1 build cache entry (2.0 KiB)"
        );
        let bytes = Bytes::of(&items);
        assert_eq!((bytes.images, bytes.containers, bytes.total), (4 << 20, 1 << 20, (5 << 20) + 2048));
        assert_eq!(summary(&[]), "");
    }

    #[test]
    fn programs_read_stable_words() {
        let text = serde_json::to_value(item(Kind::BuildCache, Some(1))).unwrap();
        let want = serde_json::json!({"kind": "build-cache", "name": "x", "id": null, "bytes": 1, "reason": ""});
        assert_eq!(text, want);
    }
}
