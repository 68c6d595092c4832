/*!
What an ordinary user needs for a daemon of its own in a user namespace: subordinate ids, namespaces that are allowed,
folders, the programs that set it up.
*/
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use super::mountinfo::{self, Mount};
use super::storage::{self, Storage};
use super::{ProbeError, Roots, engine, read, subids, users};
use crate::sys::spawn::find_program;

/// Whose daemon it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// User id, not 0.
    pub uid: u32,
    /// Folder of the user's sockets and state (`XDG_RUNTIME_DIR`).
    pub runtime_dir: PathBuf,
    /// The daemon's data folder.
    pub data_root: PathBuf,
}

/// Programs that set the namespaces and their network up, where they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs {
    /// Makes the namespaces and connects their network.
    pub rootlesskit: Option<PathBuf>,
    /// Whether both `newuidmap` and `newgidmap` are there.
    pub id_mappers: bool,
    /// Network drivers that are installed.
    pub drivers: Vec<Driver>,
}

/// A network driver of `RootlessKit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// slirp4netns, 0.4 or newer (2019).
    Slirp4netns,
    /// pasta, of passt.
    Pasta,
    /// `VPNKit`.
    Vpnkit,
    /// gvisor-tap-vsock, built into `RootlessKit` 3, with no program of its own.
    GvisorTapVsock,
}

impl Driver {
    /// All of them in the order in which moby's `dockerd-rootless.sh` looks for them.
    pub const ALL: [Self; 4] = [Self::Slirp4netns, Self::Pasta, Self::Vpnkit, Self::GvisorTapVsock];

    /// The name that `rootlesskit --net` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "pasta",
            Self::Vpnkit => "vpnkit",
            Self::GvisorTapVsock => "gvisor-tap-vsock",
        }
    }

    /// The driver of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|driver| driver.name() == name)
    }
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootless {
    /// Whose daemon it is to be.
    pub owner: Owner,
    /// Login name; `None` where `/etc/passwd` has no entry (a random user id, as `OpenShift` gives).
    pub name: Option<String>,
    /// Subordinate user ids.
    pub subuids: u64,
    /// Subordinate group ids.
    pub subgids: u64,
    /// `kernel.unprivileged_userns_clone` of Debian's kernels; `None` where it does not exist.
    pub userns_clone: Option<u64>,
    /// `user.max_user_namespaces`; `None` where it does not exist.
    pub max_user_namespaces: Option<u64>,
    /// `NoNewPrivs` of this process: setuid programs such as newuidmap get no privilege.
    pub no_new_privileges: bool,
    /// [`Owner::runtime_dir`].
    pub runtime_dir: Storage,
    /// [`Owner::data_root`].
    pub data_root: Storage,
    /// Why `/dev/net/tun` cannot be opened; `None` when it can.
    pub tun: Option<Errno>,
    /// Whether a runtime hides parts of procfs. Then no new procfs can be mounted in a user namespace
    /// (`mount_too_revealing` in fs/namespace.c), and there is no pid namespace for the daemon.
    pub proc_masked: bool,
    /// The programs.
    pub programs: Programs,
}

/// Looks. `path` is the value of `PATH`.
pub fn look(roots: &Roots, owner: &Owner, path: Option<&OsStr>) -> Result<Rootless, ProbeError> {
    let mounts = mountinfo::own(roots)?;
    let name = users::users(roots)?.into_iter().find(|user| user.uid == owner.uid).map(|user| user.name);
    let ids = |file| subids::count(roots, file, owner.uid, name.as_deref());
    let installed = |program: &str| find_program(OsStr::new(program), path);
    let tun = roots.resolve(Path::new("/dev/net/tun"));
    let kit = installed("rootlesskit");
    Ok(Rootless {
        subuids: ids("/etc/subuid")?,
        subgids: ids("/etc/subgid")?,
        userns_clone: number(&roots.proc.join("sys/kernel/unprivileged_userns_clone")),
        max_user_namespaces: number(&roots.proc.join("sys/user/max_user_namespaces")),
        no_new_privileges: no_new_privileges(&read(&roots.own.join("status"))?),
        runtime_dir: storage::look(roots, &mounts, &owner.runtime_dir),
        data_root: storage::look(roots, &mounts, &owner.data_root),
        tun: faccessat(AT_FDCWD, &tun, AccessFlags::R_OK | AccessFlags::W_OK, AtFlags::AT_EACCESS).err(),
        proc_masked: mounts.iter().any(hides_procfs),
        programs: Programs {
            rootlesskit: kit.clone(),
            id_mappers: installed("newuidmap").is_some() && installed("newgidmap").is_some(),
            drivers: Driver::ALL
                .into_iter()
                .filter(|driver| match driver {
                    Driver::GvisorTapVsock => kit.as_deref().is_some_and(|kit| engine::names(kit, driver.name())),
                    Driver::Slirp4netns | Driver::Pasta | Driver::Vpnkit => installed(driver.name()).is_some(),
                })
                .collect(),
        },
        owner: owner.clone(),
        name,
    })
}

fn hides_procfs(mount: &Mount) -> bool {
    let inside = mount.point.strip_prefix("/proc").is_ok_and(|rest| !rest.as_os_str().is_empty());
    // binfmt_misc has a place of its own there, which the kernel does not count.
    inside && !mount.point.ends_with("sys/fs/binfmt_misc")
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn no_new_privileges(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1"))
}
