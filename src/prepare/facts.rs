/*!
Everything that the plan is decided on, read once.
*/
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::pidfiles;
use super::tls::TlsFacts;
use super::trials::Trials;
use super::wants::{ApparmorWish, Wants};
use crate::probe::apparmor::{self, Obstacle};
use crate::probe::capabilities::{self, Capabilities};
use crate::probe::certificates;
use crate::probe::cgroup::{self, CgroupSetup};
use crate::probe::confinement::{self, Confinement};
use crate::probe::engine;
use crate::probe::firewall::Firewall;
use crate::probe::layers::Layers;
use crate::probe::limits::{self, Limit};
use crate::probe::machine::{self, Foreign};
use crate::probe::mountinfo::{self, Mount};
use crate::probe::names;
use crate::probe::network::{self, Network};
use crate::probe::process::Identity;
use crate::probe::storage::{self, Storage};
use crate::probe::{ProbeError, Roots, overlay};

/// A pid file of an earlier daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    /// The file.
    pub path: PathBuf,
    /// The number in it.
    pub pid: Option<i32>,
    /// Who runs under that number now.
    pub process: Option<Identity>,
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The own mount namespace.
    pub mounts: Vec<Mount>,
    /// The cgroup file systems and the own group.
    pub cgroup: CgroupSetup,
    /// What this process may do.
    pub capabilities: Capabilities,
    /// What keeps it back besides.
    pub confinement: Confinement,
    /// The kernel, where it is one of another architecture.
    pub foreign: Option<Foreign>,
    /// Whether this is a user namespace other than the machine's first.
    pub user_namespace: bool,
    /// Keys that root may have (`kernel.keys.root_maxkeys`).
    pub root_keys: Option<u64>,
    /// Bytes in them (`kernel.keys.root_maxbytes`).
    pub root_key_bytes: Option<u64>,
    /// Whether `AppArmor` profiles can be loaded; `None` where nobody asked.
    pub apparmor: Option<Result<(), Obstacle>>,
    /// `RLIMIT_NOFILE`.
    pub open_files: Limit,
    /// `fs.nr_open`; `None` when it cannot be read.
    pub open_files_ceiling: Option<u64>,
    /// Value of the environment variable `container`.
    pub container: Option<String>,
    /// `/tmp`.
    pub tmp: Storage,
    /// [`Wants::run_dir`].
    pub run_dir: Storage,
    /// [`Wants::data_root`].
    pub data_root: Storage,
    /// [`Wants::containerd_root`].
    pub containerd_root: Storage,
    /// What can be done with layers in these two, where a daemon of ours keeps any.
    pub layers: Option<Layers>,
    /// Databases of dockerd and containerd in their data folders that a running one has locked.
    pub locked: Vec<PathBuf>,
    /// Pid files below [`Wants::pid_dirs`].
    pub pid_files: Vec<PidFile>,
    /// The certificates of the API, where they are wanted.
    pub tls: Option<TlsFacts>,
    /// The packet filters, where dockerd will make rules.
    pub firewall: Option<Firewall>,
    /// The network around, where nested ones will be made.
    pub network: Option<Network>,
    /// Whether the engine knows [defaults for all networks](super::network::DEFAULTS), where something depends on it.
    pub network_defaults: Option<bool>,
    /// Whether `/sys/kernel/security` is there.
    pub securityfs_dir: bool,
}

/// Databases that a daemon holds a `flock(2)` on while it runs, each below the data root (dockerd) or the root of
/// containerd. They are the only trace of a daemon in another container that uses the same volume.
const DOCKER_DATABASES: [&str; 3] =
    ["volumes/metadata.db", "network/files/local-kv.db", "containerd/daemon/io.containerd.metadata.v1.bolt/meta.db"];
const CONTAINERD_DATABASES: [&str; 1] = ["io.containerd.metadata.v1.bolt/meta.db"];

impl Facts {
    /// Reads them. `container` is the value of that environment variable.
    pub fn gather(roots: &Roots, wants: &Wants, container: Option<String>) -> Result<Self, ProbeError> {
        let trials = Trials::begin(roots, wants, limits::cpus());
        let rest = Self::gather_rest(roots, wants, container);
        // Also where the rest failed: what a trial has made is gone only when it is over.
        let (firewall, layers) = (trials.firewall().cloned(), trials.layers().cloned());
        rest.map(|rest| Self { layers, firewall, ..rest })
    }

    /// All but the packet filters and the layers.
    fn gather_rest(roots: &Roots, wants: &Wants, container: Option<String>) -> Result<Self, ProbeError> {
        let mounts = mountinfo::own(roots)?;
        let cgroup = cgroup::look(roots, &mounts)?;
        let look = |path: &std::path::Path| storage::look(roots, &mounts, path);
        let databases = DOCKER_DATABASES
            .iter()
            .map(|name| wants.data_root.join(name))
            .chain(CONTAINERD_DATABASES.iter().map(|name| wants.containerd_root.join(name)))
            .filter(|path| wants.own_containerd || !path.ends_with(CONTAINERD_DATABASES[0]));
        let locked = if wants.daemon {
            databases.filter(|path| storage::locked(&roots.resolve(path))).collect()
        } else {
            Vec::new()
        };
        let pid_files = if wants.daemon { pidfiles::find(roots, &mounts, &wants.pid_dirs) } else { Vec::new() };
        let network = wants.network.as_ref().map(|_| network::look(roots));
        let asks = network.as_ref().is_some_and(|found| super::network::asks_for_engine(found, wants));
        let network_defaults = wants
            .network
            .as_ref()
            .filter(|_| asks)
            .and_then(|wishes| engine::understands(&wishes.path, super::network::DEFAULTS));
        Ok(Self {
            network,
            network_defaults,
            cgroup,
            capabilities: capabilities::own(roots)?,
            confinement: confinement::look(roots),
            foreign: if wants.daemon { machine::look(roots) } else { None },
            user_namespace: overlay::in_user_namespace(roots),
            root_keys: limits::setting(roots, "kernel/keys/root_maxkeys"),
            root_key_bytes: limits::setting(roots, "kernel/keys/root_maxbytes"),
            apparmor: (wants.apparmor != ApparmorWish::Off).then(|| apparmor::look(roots)),
            open_files: limits::open_files(roots)?,
            open_files_ceiling: limits::open_files_ceiling(roots).ok(),
            container,
            tmp: look("/tmp".as_ref()),
            run_dir: look(&wants.run_dir),
            data_root: look(&wants.data_root),
            containerd_root: look(&wants.containerd_root),
            layers: None,
            locked,
            pid_files,
            tls: wants.tls.as_ref().map(|wishes| TlsFacts {
                folder: certificates::look(&roots.resolve(&wishes.directory)),
                // The networks of a running daemon bring addresses that nobody calls the API by.
                names: if wants.supervised.is_empty() { names::own(roots) } else { BTreeSet::new() },
            }),
            firewall: None,
            securityfs_dir: roots.resolve("/sys/kernel/security".as_ref()).is_dir(),
            mounts,
        })
    }
}
