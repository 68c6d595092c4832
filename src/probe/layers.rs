/*!
What the engine could keep the layers of images with: overlay on its data folders, `fuse-overlayfs`, and what an earlier
daemon kept them with.
*/
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::overlay::{self, Problem};
use super::{Roots, engine};
use crate::sys::spawn::find_program;

/// An option that came with engine 29, whose own choice for a new data root is containerd's image store
/// (`determineImageStoreChoice` in moby's `daemon/image_store_choice.go`).
const SINCE_CONTAINERDS_STORE: &str = "firewall-backend";

/// `fuse-overlayfs`, which dockerd takes where the kernel's overlay does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fuse {
    /// It is not installed.
    Missing,
    /// It is installed, and `/dev/fuse` cannot be opened: dockerd would take it all the same, and start no container.
    NoDevice(Errno),
    /// It can work.
    Works,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// Overlay below dockerd's data folder.
    pub data_root: Result<(), Problem>,
    /// Overlay below containerd's.
    pub containerd_root: Result<(), Problem>,
    /// Drivers of dockerd that have data in its folder.
    pub earlier: Vec<&'static str>,
    /// `fuse-overlayfs`; `None` where overlay works.
    pub fuse: Option<Fuse>,
    /// Whether dockerd's driver for ZFS has what it needs, its program and its device; not looked for where overlay works.
    pub zfs: bool,
    /// Whether the engine's own choice is containerd's image store; `None` where it does not matter, or cannot be told.
    pub containerds_store: Option<bool>,
}

/// Drivers that dockerd has or had, each with a folder of its name in the data root.
const DRIVERS: [&str; 8] = ["overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs", "aufs", "devicemapper", "overlay"];
/// Those of them that went: aufs and overlay with engine 24, devicemapper with 25. A later one does not see what they left.
pub const GONE: [&str; 3] = ["aufs", "devicemapper", "overlay"];

/// Looks and tries. `matters` says whether the engine's own choice is to be found out, given what is known so far.
pub fn look(
    roots: &Roots,
    data_root: &Path,
    containerd_root: &Path,
    path: &OsStr,
    matters: impl FnOnce(&Layers) -> bool,
) -> Layers {
    let namespace = overlay::in_user_namespace(roots);
    let (first, second) = (nearest(roots, data_root), nearest(roots, containerd_root));
    let below_data = overlay::look(&first, namespace);
    let below_containerd =
        if same_file_system(&first, &second) { below_data } else { overlay::look(&second, namespace) };
    let fails = below_data.is_err() || below_containerd.is_err();
    let mut found = Layers {
        data_root: below_data,
        containerd_root: below_containerd,
        earlier: earlier(roots, data_root),
        fuse: fails.then(|| fuse(roots, path)),
        zfs: fails
            && find_program(OsStr::new("zfs"), Some(path)).is_some()
            && roots.resolve(Path::new("/dev/zfs")).exists(),
        containerds_store: None,
    };
    if matters(&found) {
        found.containerds_store = engine::understands(path, SINCE_CONTAINERDS_STORE);
    }
    found
}

/// The part of a path that is there.
fn nearest(roots: &Roots, path: &Path) -> PathBuf {
    path.ancestors().map(|part| roots.resolve(part)).find(|part| part.is_dir()).unwrap_or_else(|| roots.root.clone())
}

fn same_file_system(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    device(one).is_some_and(|number| device(other) == Some(number))
}

/// dockerd counts a folder that has anything in it (`scanPriorDrivers` of moby's graph drivers).
fn earlier(roots: &Roots, data_root: &Path) -> Vec<&'static str> {
    let data_root = roots.resolve(data_root);
    // Most of them are never there, least of all at the first start.
    let Ok(entries) = std::fs::read_dir(&data_root) else { return Vec::new() };
    let there: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    let used = |name: &&str| {
        there.iter().any(|entry| entry.as_os_str() == *name)
            && std::fs::read_dir(data_root.join(name)).is_ok_and(|mut entries| entries.next().is_some())
    };
    DRIVERS.into_iter().filter(used).collect()
}

fn fuse(roots: &Roots, path: &OsStr) -> Fuse {
    let program = find_program(OsStr::new("fuse-overlayfs"), Some(path));
    if program.is_none_or(|file| !roots.resolve(&file).exists()) {
        return Fuse::Missing;
    }
    // Whether the devices of the control group allow it shows only when it is opened.
    match open(&roots.resolve(Path::new("/dev/fuse")), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(_) => Fuse::Works,
        Err(errno) => Fuse::NoDevice(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_with_data_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        let data = Path::new("/var/lib/docker");
        assert!(earlier(&roots, data).is_empty());
        for name in ["vfs/dir", "overlay2/l", "btrfs"] {
            std::fs::create_dir_all(roots.resolve(data).join(name)).unwrap();
        }
        assert_eq!(earlier(&roots, data), ["overlay2", "vfs"], "an empty folder does not count");
    }

    #[test]
    fn a_folder_to_be_made_is_tried_in_the_nearest_one() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        std::fs::create_dir_all(folder.path().join("var/lib")).unwrap();
        assert_eq!(nearest(&roots, Path::new("/var/lib/docker/x")), folder.path().join("var/lib"));
        assert!(same_file_system(folder.path(), &folder.path().join("var")));
        assert!(!same_file_system(folder.path(), Path::new("/proc")));
    }

    #[test]
    fn fuse_needs_its_program_and_its_device() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        assert_eq!(fuse(&roots, OsStr::new("/nonexistent")), Fuse::Missing);
    }

    #[test]
    fn the_engine_is_asked_only_where_it_matters() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        let found = look(&roots, Path::new("/a"), Path::new("/b"), OsStr::new("/nonexistent"), |_| false);
        assert_eq!(found.containerds_store, None);
        assert_eq!(found.data_root, found.containerd_root, "one file system is tried once");
        assert_eq!(found.fuse.is_some(), found.data_root.is_err());
    }
}
