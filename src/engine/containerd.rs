/*!
containerd as our own child: where its data is and the configuration it gets.
*/
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::probe::storage::on_overlay;

/// The socket that dockerd and `ctr` look for by default.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Folder of its state.
pub const STATE: &str = "/run/containerd";

/// Where containerd keeps data when no earlier daemon left any elsewhere.
pub const DEFAULT_ROOT: &str = "/var/lib/containerd";

/// Where dockerd keeps the data of a containerd that it starts itself, below its data root.
pub const MANAGED: &str = "containerd/daemon";

/// Where the data is. A volume that was filled by the official image holds it below dockerd's data root, and engine 29
/// keeps the images themselves there, so what is found there is used and never left behind. A new one lies there too where
/// containerd's usual place is part of the image (on overlay, which takes no other overlay and ends with the container) and
/// the data root is a volume, as in the official image.
pub fn root(data_root: &Path) -> PathBuf {
    root_of(data_root, Path::new(DEFAULT_ROOT), on_overlay)
}

fn root_of(data_root: &Path, usual: &Path, on_overlay: impl Fn(&Path) -> bool) -> PathBuf {
    let managed = data_root.join(MANAGED);
    let used = |root: &Path| root.join("io.containerd.metadata.v1.bolt/meta.db").exists();
    if used(&managed) || (!used(usual) && on_overlay(usual) && !on_overlay(data_root)) {
        return managed;
    }
    usual.into()
}

/// Whether a containerd already answers at `socket`; dockerd would use it, and so do we.
pub fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// What somebody wants of containerd that it is not started with otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Snapshotter or storage driver that was asked for.
    pub snapshotter: Option<String>,
    /// The Kubernetes interface (`--cri-containerd`).
    pub cri: bool,
}

/// The configuration file. Left out are, unless they are asked for, the Kubernetes interface, which nothing here speaks, and snapshotters
/// that cannot work in a container and only cost start-up time (or stop it: devcontainers/features#1642).
pub fn config(root: &Path, state: &Path, socket: &Path, level: &str, extras: &Extras) -> String {
    const DISABLED: [&str; 8] = [
        "io.containerd.grpc.v1.cri",
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
        "io.containerd.snapshotter.v1.aufs",
        "io.containerd.snapshotter.v1.btrfs",
        "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.snapshotter.v1.erofs",
        "io.containerd.snapshotter.v1.zfs",
    ];
    let mut config = toml::Table::new();
    let text = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned());
    config.insert("version".into(), toml::Value::Integer(2));
    config.insert("root".into(), text(root));
    config.insert("state".into(), text(state));
    config.insert(
        "disabled_plugins".into(),
        DISABLED
            .iter()
            .filter(|name| !extras.want(name))
            .map(|name| toml::Value::String((*name).into()))
            .collect::<Vec<_>>()
            .into(),
    );
    // Its default, /opt/containerd, belongs to the image, and nothing can be made there in a user namespace.
    let opt = toml::Table::from_iter([("path".to_owned(), text(&root.join("opt")))]);
    let plugins = toml::Table::from_iter([("io.containerd.internal.v1.opt".to_owned(), opt.into())]);
    config.insert("plugins".into(), plugins.into());
    config.insert("grpc".into(), toml::Table::from_iter([("address".to_owned(), text(socket))]).into());
    config.insert(
        "debug".into(),
        toml::Table::from_iter([("level".to_owned(), toml::Value::String(level.into()))]).into(),
    );
    config.to_string()
}

impl Extras {
    fn want(&self, plugin: &str) -> bool {
        match plugin.rsplit_once(".snapshotter.v1.") {
            Some((_, name)) => self.snapshotter.as_deref() == Some(name),
            None => self.cri,
        }
    }
}

/// The arguments, the name of the program first.
pub fn command_line(config: &Path) -> Vec<OsString> {
    vec!["containerd".into(), "--config".into(), config.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_a_containerd_that_dockerd_started_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(root(folder.path()), Path::new(DEFAULT_ROOT));
        let bolt = folder.path().join("containerd/daemon/io.containerd.metadata.v1.bolt");
        std::fs::create_dir_all(&bolt).unwrap();
        std::fs::write(bolt.join("meta.db"), "x").unwrap();
        assert_eq!(root(folder.path()), folder.path().join("containerd/daemon"));
    }

    #[test]
    fn a_new_root_is_not_made_on_overlay_where_there_is_a_volume() {
        let folder = tempfile::tempdir().unwrap();
        let usual = folder.path().join("usual");
        let chosen = |overlay: &[&str]| {
            let root = root_of(Path::new("/volume"), &usual, |path| overlay.iter().any(|name| path.ends_with(name)));
            if root == usual { "usual" } else { "volume" }
        };
        assert_eq!(chosen(&["usual"]), "volume");
        assert_eq!(chosen(&[]), "usual");
        assert_eq!(chosen(&["usual", "volume"]), "usual", "nothing would be gained");
        let bolt = usual.join("io.containerd.metadata.v1.bolt");
        std::fs::create_dir_all(&bolt).unwrap();
        std::fs::write(bolt.join("meta.db"), "x").unwrap();
        assert_eq!(chosen(&["usual"]), "usual", "what is there is not left behind");
    }

    #[test]
    fn the_configuration_is_toml_that_names_our_places() {
        let places = [Path::new("/r"), Path::new("/s"), Path::new("/a \"b\".sock")];
        let text = config(places[0], places[1], places[2], "warn", &Extras::default());
        let extras = Extras { snapshotter: Some("btrfs".into()), cri: true };
        let wanted = config(places[0], places[1], places[2], "warn", &extras);
        assert!(text.contains("v1.btrfs") && text.contains("grpc.v1.cri") && text.contains("cri.v1.runtime"));
        assert!(!wanted.contains("btrfs") && !wanted.contains("cri") && wanted.contains("erofs"), "{wanted}");
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["grpc"]["address"].as_str(), Some("/a \"b\".sock"));
        assert_eq!(parsed["root"].as_str(), Some("/r"));
        // Its start ends the daemon's where mkfs.erofs is too old (issue 1642 of devcontainers/features).
        let disabled = parsed["disabled_plugins"].as_array().unwrap();
        assert!(disabled.iter().any(|name| name.as_str() == Some("io.containerd.snapshotter.v1.erofs")), "{text}");
    }
}
