/*!
What the operator wants of the preparation. `Default` is what the official image does, minus what its users object to.
*/
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value;

use super::tls::TlsWishes;
use crate::probe::firewall::Choice;

/// When a tmpfs is mounted on `/tmp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TmpWish {
    /// Only where `/tmp` cannot be written.
    #[default]
    Auto,
    /// Whenever nothing is mounted there, as the official image does; it hides files of the image and costs memory.
    Always,
    /// Not at all.
    Never,
}

impl TmpWish {
    /// The names that the command line and the configuration use.
    pub const NAMES: [&'static str; 3] = ["auto", "always", "never"];
}

impl std::str::FromStr for TmpWish {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("unknown value {name:?}: one of {} is expected", Self::NAMES.join(", "))),
        }
    }
}

/// What is done where the container has no cgroup namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupNamespace {
    /// A namespace is made: nothing below can get outside of the own group.
    #[default]
    Own,
    /// The namespace stays, and dockerd is told the own group as `cgroup-parent`.
    Keep,
}

impl CgroupNamespace {
    /// The names that the command line and the configuration use.
    pub const NAMES: [&'static str; 2] = ["own", "keep"];
}

impl std::str::FromStr for CgroupNamespace {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "own" => Ok(Self::Own),
            "keep" => Ok(Self::Keep),
            _ => Err(format!("unknown value {name:?}: one of {} is expected", Self::NAMES.join(", "))),
        }
    }
}

/// Whether nested containers get an `AppArmor` profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApparmorWish {
    /// None, as in the official image.
    #[default]
    Off,
    /// Where a profile can be loaded.
    Auto,
    /// Always: the preparation fails where none can be loaded.
    On,
}

impl ApparmorWish {
    /// The names that the command line and the configuration use.
    pub const NAMES: [&'static str; 3] = ["off", "auto", "on"];
}

impl std::str::FromStr for ApparmorWish {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            _ => Err(format!("unknown value {name:?}: one of {} is expected", Self::NAMES.join(", "))),
        }
    }
}

/// What the operator already told dockerd, by flag or in daemon.json. A decision of the preparation gives way to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told(BTreeMap<String, Value>);

impl Told {
    /// From keys of daemon.json and their values.
    pub fn new(values: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self(values.into_iter().collect())
    }

    /// Whether dockerd is told something about `key`.
    pub fn sets(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// What it is told: the value of the file, or a flag's as text (a list for flags that may be repeated); `null` for
    /// a flag whose value is not known.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }
}

/// The wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    /// Whether dockerd and containerd are started afterwards. Without it nothing is checked or removed on their
    /// behalf: no pid files, no folders; a missing privilege is a warning.
    pub daemon: bool,
    /// When to mount a tmpfs on `/tmp`.
    pub tmp: TmpWish,
    /// What to do about the machine's cgroup namespace.
    pub cgroup_namespace: CgroupNamespace,
    /// Whether nested containers get an `AppArmor` profile.
    pub apparmor: ApparmorWish,
    /// The daemon's data folder (`--data-root`).
    pub data_root: PathBuf,
    /// The data folder of our containerd (`--root`).
    pub containerd_root: PathBuf,
    /// Whether containerd is ours, and not one that runs already: then nothing is asked of its folder.
    pub own_containerd: bool,
    /// Where dindctl keeps its state and its private sockets.
    pub run_dir: PathBuf,
    /// Processes that a running dindctl supervises, when the question comes from beside it (`plan`, `doctor` in a
    /// running container): a daemon among them is ours, and so are its pid file and its locks.
    pub supervised: Vec<i32>,
    /// Where pid files of an earlier daemon may lie.
    pub pid_dirs: Vec<PathBuf>,
    /// Open files the daemons should be able to have (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Free bytes below which a data folder counts as full.
    pub free_bytes: u64,
    /// Whether we are root only of a user namespace: cgroups and the kernel's own file systems are not ours.
    pub rootless: bool,
    /// Certificates of the API; `None` where they are not ours to look after.
    pub tls: Option<TlsWishes>,
    /// How to choose the packet filter; `None` where no daemon of ours needs one.
    pub firewall: Option<FirewallWishes>,
    /// What nested networks are to be like; `None` where no daemon of ours makes any.
    pub network: Option<NetworkWishes>,
    /// What the layers of images may be kept with; `None` where no daemon of ours keeps any.
    pub layers: Option<LayerWishes>,
    /// What dockerd is told already.
    pub told: Told,
}

/// What is asked for nested networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkWishes {
    /// Largest packet, bytes; `None` for what the way out allows.
    pub mtu: Option<u32>,
    /// `PATH` of the daemon.
    pub path: OsString,
}

/// What the choice of the storage driver depends on, besides what dockerd is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerWishes {
    /// `DOCKER_DRIVER`, which dockerd reads itself.
    pub driver: Option<String>,
    /// `PATH` of the daemon.
    pub path: OsString,
}

/// What the choice of the packet filter depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallWishes {
    /// The operator's own choice.
    pub choice: Choice,
    /// `PATH` of the daemon.
    pub path: OsString,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            daemon: true,
            tmp: TmpWish::Auto,
            cgroup_namespace: CgroupNamespace::Own,
            apparmor: ApparmorWish::Off,
            data_root: "/var/lib/docker".into(),
            containerd_root: "/var/lib/containerd".into(),
            own_containerd: true,
            run_dir: "/run/dindctl".into(),
            supervised: Vec::new(),
            pid_dirs: vec!["/run".into(), "/var/run".into()],
            open_files: 1_048_576,
            free_bytes: 64 << 20,
            rootless: false,
            tls: None,
            firewall: None,
            network: None,
            layers: None,
            told: Told::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_for_tmp_is_read_from_its_name_only() {
        for (name, wish) in TmpWish::NAMES.iter().zip([TmpWish::Auto, TmpWish::Always, TmpWish::Never]) {
            assert_eq!(name.parse(), Ok(wish));
        }
        let error = "yes".parse::<TmpWish>().unwrap_err();
        assert_eq!(error, r#"unknown value "yes": one of auto, always, never is expected"#);
    }
}
