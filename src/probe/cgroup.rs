/*!
The cgroup set-up: which versions are mounted where, in which group this process is, and what that group may hand on.

Sources: cgroups(7), `cgroup_namespaces(7)`, `Documentation/admin-guide/cgroup-v2.rst` of the kernel.
*/
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::cgroup_path::{self, Membership};
use super::controllers::{self, Controller};
use super::mountinfo::{Mount, at, holding};
use super::{ProbeError, Roots};

/// Where every container has its cgroup file systems.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Name of the group that takes the processes of a group that hands controllers on; the one the official image uses.
pub const LEAF: &str = "init";

/// Which cgroup versions the engine will find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Nothing is mounted.
    None,
    /// Version 1 hierarchies only.
    V1,
    /// Version 1 hierarchies, which the engine uses, beside a version 2 mount.
    Hybrid,
    /// Version 2 on `/sys/fs/cgroup`.
    Unified,
}

/// The cgroup file systems that can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupSetup {
    /// Which versions there are.
    pub layout: Layout,
    /// Version 1 hierarchies.
    pub hierarchies: Vec<Hierarchy>,
    /// Version 1 hierarchies that the machine has and that cannot be reached through any mount here.
    pub unmounted: Vec<Membership>,
    /// The version 1 controllers of the kernel.
    pub controllers: Vec<Controller>,
    /// The version 2 hierarchy.
    pub unified: Option<Unified>,
    /// Whether process 1 is in the same groups. Where it is not, a service manager divides this container up, and what
    /// is mounted is its view as well.
    pub beside_init: bool,
    /// Whether systemd is the machine's service manager (`sd_booted(3)`).
    pub systemd: bool,
}

/// A version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, or `name=…`.
    pub controllers: Vec<String>,
    /// Where it is mounted, and how.
    pub mount: Mount,
    /// The group of this process as `/proc/self/cgroup` names it.
    pub own: Option<PathBuf>,
}

impl Hierarchy {
    /// Whether this is the hierarchy of that line of `/proc/PID/cgroup`.
    fn holds(&self, line: &Membership) -> bool {
        line.hierarchy != 0 && line.controllers.iter().any(|name| self.controllers.contains(name))
    }

    /// The own group below the root of the mount; empty when that is what is mounted, `None` when it lies elsewhere.
    pub fn inside(&self) -> Option<PathBuf> {
        self.own.as_deref().and_then(|own| below_mount(own, &self.mount.root))
    }
}

/// The version 2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unified {
    /// Where it is mounted, and how.
    pub mount: Mount,
    /// The group of this process as `/proc/self/cgroup` names it.
    pub own: Option<PathBuf>,
    /// How the group of this process lies to the mount.
    pub place: Place,
    /// The group to hand controllers on from; `None` when it cannot be seen from here.
    pub group: Option<Group>,
}

impl Unified {
    /// As [`Hierarchy::inside`].
    pub fn inside(&self) -> Option<PathBuf> {
        self.own.as_deref().and_then(|own| below_mount(own, &self.mount.root))
    }
}

/// How the own group lies to the root of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The mount shows the root of the whole machine and this process is in it (a virtual machine's init).
    MachineRoot,
    /// The root of the mount is the own group: the cgroup namespace is private.
    NamespaceRoot,
    /// The own group lies deeper: the cgroup namespace is the host's, or another container's.
    Below,
    /// The own group cannot be reached through the mount.
    Hidden,
}

/// A version 2 group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its folder.
    pub path: PathBuf,
    /// Its path below the mount, as an engine's `--cgroup-parent` wants it: `/` or `/docker/0123…`.
    pub name: PathBuf,
    /// `cgroup.type`; `None` for the root of the machine, which has no such file.
    pub kind: Option<String>,
    /// `cgroup.controllers`: what the parent hands to this group.
    pub available: Vec<String>,
    /// `cgroup.subtree_control`: what this group hands on.
    pub enabled: Vec<String>,
    /// Processes in the group itself that can be named from here, by pid.
    pub processes: usize,
    /// Processes in the group that belong to another pid namespace: they read as 0 and cannot be moved from here.
    pub foreign: usize,
    /// Why `cgroup.procs` could not be read (EOPNOTSUPP in a threaded group).
    pub unreadable: Option<Errno>,
    /// Whether this process is already in the leaf below the group.
    pub evacuated: bool,
}

impl Group {
    /// Whether the group can no longer hand domain controllers such as memory on.
    pub fn threaded(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind != "domain")
    }
}

/// Looks at the cgroup file systems among `mounts`.
pub fn look(roots: &Roots, mounts: &[Mount]) -> Result<CgroupSetup, ProbeError> {
    let memberships = cgroup_path::own(roots)?;
    let hierarchies: Vec<Hierarchy> = mounts
        .iter()
        .filter(|mount| mount.fstype == "cgroup" && visible(mounts, mount))
        .map(|mount| hierarchy(mount, &memberships))
        .collect();
    let candidates: Vec<&Mount> =
        mounts.iter().filter(|mount| mount.fstype == "cgroup2" && visible(mounts, mount)).collect();
    let main = candidates.iter().find(|mount| mount.point == Path::new(CGROUP_ROOT)).copied();
    let layout = match (main, hierarchies.is_empty(), candidates.is_empty()) {
        (Some(_), _, _) | (None, true, false) => Layout::Unified,
        (None, false, false) => Layout::Hybrid,
        (None, false, true) => Layout::V1,
        (None, true, true) => Layout::None,
    };
    let unified =
        main.or(candidates.first().copied()).map(|mount| unified(roots, mount, cgroup_path::unified(&memberships)));
    // Unreadable without procfs' leave (hidepid): then nothing is assumed of process 1.
    let beside_init = cgroup_path::init(roots).is_ok_and(|init| init == memberships);
    let mounted = |line: &Membership| hierarchies.iter().any(|known| known.holds(line));
    let unmounted = memberships.iter().filter(|line| line.hierarchy != 0 && !mounted(line)).cloned().collect();
    let controllers = controllers::kernel(roots)?;
    let systemd =
        std::fs::symlink_metadata(roots.resolve(Path::new("/run/systemd/system"))).is_ok_and(|it| it.is_dir());
    Ok(CgroupSetup { layout, hierarchies, unmounted, controllers, unified, beside_init, systemd })
}

/// Whether no later mount hides this one, on its place or above it.
fn visible(mounts: &[Mount], mount: &Mount) -> bool {
    let on_top = at(mounts, &mount.point).is_some_and(|top| top.id == mount.id);
    let below = mount.point.parent().and_then(|parent| holding(mounts, parent));
    on_top && below.is_none_or(|below| below.id == foot(mounts, mount))
}

/// The mount that holds the place: not the parent of one that lies on others there, which is the next below it. Each step goes to another
/// mount, of which there are so many.
fn foot(mounts: &[Mount], mount: &Mount) -> u64 {
    let below = |id: u64| mounts.iter().find(|other| other.id == id && other.point == mount.point);
    let stack = std::iter::successors(Some(mount.parent), |id| below(*id).map(|other| other.parent));
    stack.take(mounts.len() + 1).last().unwrap_or(mount.parent)
}

fn hierarchy(mount: &Mount, memberships: &[Membership]) -> Hierarchy {
    let controllers: Vec<String> = mount
        .super_options
        .iter()
        .filter(|option| !matches!(option.as_str(), "rw" | "ro" | "xattr" | "noprefix" | "clone_children" | "none"))
        .filter(|option| !option.contains('=') || option.starts_with("name="))
        .filter(|option| !option.starts_with("cpuset_v2_mode") && !option.starts_with("favordynmods"))
        .cloned()
        .collect();
    let found = Hierarchy { controllers, mount: mount.clone(), own: None };
    let own = memberships.iter().find(|line| found.holds(line)).map(|line| line.path.clone());
    Hierarchy { own, ..found }
}

fn unified(roots: &Roots, mount: &Mount, own: Option<&Path>) -> Unified {
    let result = |place, group| Unified { mount: mount.clone(), own: own.map(Path::to_path_buf), place, group };
    let Some(inside) = own.and_then(|own| below_mount(own, &mount.root)) else {
        return result(Place::Hidden, None);
    };
    let folder = if inside.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(&inside) };
    if !roots.resolve(&folder).join("cgroup.procs").exists() {
        return result(Place::Hidden, None);
    }
    if inside.as_os_str().is_empty() {
        let group = read_group(roots, folder, &inside, false);
        let place = if group.kind.is_none() { Place::MachineRoot } else { Place::NamespaceRoot };
        return result(place, Some(group));
    }
    // After an earlier preparation this process is in the leaf, and the group to look at is the one above. Never the
    // machine's root, though: a leaf of that is somebody else's work.
    if let (Some(above), Some(upper)) = (folder.parent(), inside.parent())
        && inside.file_name().is_some_and(|name| name == LEAF)
    {
        let group = read_group(roots, above.to_path_buf(), upper, true);
        if group.kind.is_some() {
            let place = if upper.as_os_str().is_empty() { Place::NamespaceRoot } else { Place::Below };
            return result(place, Some(group));
        }
    }
    result(Place::Below, Some(read_group(roots, folder, &inside, false)))
}

/// Whether the folder is the root of a whole hierarchy, whatever a namespace shows: files that every other group has are missing there
/// (`cgroup.events` of version 2), or are there alone (`release_agent` of version 1). A hierarchy in which the engine made no group for this
/// container shows the machine's own, with the groups of all others.
pub fn is_machines(group: &Path) -> bool {
    group.join("release_agent").exists()
        || !["cgroup.events", "notify_on_release"].iter().any(|name| group.join(name).exists())
}

/// The own group relative to the folder that is mounted, when it lies in it.
pub fn below_mount(own: &Path, mounted: &Path) -> Option<PathBuf> {
    let inside = own.strip_prefix(mounted).ok()?;
    // `/../x` lies outside of the namespace's root although it begins with a slash.
    inside.components().all(|part| matches!(part, Component::Normal(_))).then(|| inside.to_path_buf())
}

fn read_group(roots: &Roots, path: PathBuf, inside: &Path, evacuated: bool) -> Group {
    let folder = roots.resolve(&path);
    let file = |name: &str| std::fs::read_to_string(folder.join(name));
    let words =
        |name: &str| -> Vec<String> { file(name).unwrap_or_default().split_whitespace().map(String::from).collect() };
    let (procs, unreadable) = match file("cgroup.procs") {
        Ok(text) => (text, None),
        Err(error) => (String::new(), Some(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))),
    };
    let foreign = procs.lines().filter(|line| *line == "0").count();
    Group {
        name: Path::new("/").join(inside),
        kind: file("cgroup.type").ok().map(|text| text.trim().to_string()),
        available: words("cgroup.controllers"),
        enabled: words("cgroup.subtree_control"),
        processes: procs.lines().filter(|line| !line.is_empty()).count() - foreign,
        foreign,
        unreadable,
        evacuated,
        path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_the_mounted_folder_is_inside() {
        let inside = |own: &str, mounted: &str| below_mount(Path::new(own), Path::new(mounted));
        assert_eq!(inside("/", "/"), Some("".into()));
        assert_eq!(inside("/docker/a", "/"), Some("docker/a".into()));
        assert_eq!(inside("/docker/a", "/docker/a"), Some("".into()));
        assert_eq!(inside("/docker/ab", "/docker/a"), None);
        assert_eq!(inside("/../other", "/"), None);
        assert_eq!(inside("/", "/.."), None);
    }

    #[test]
    fn the_machines_own_groups_are_known() {
        for (files, want) in [
            (&["cgroup.procs", "cgroup.events"][..], false),
            (&["cgroup.procs", "notify_on_release"], false),
            (&["cgroup.procs", "notify_on_release", "release_agent"], true),
            (&["cgroup.procs", "cgroup.stat"], true),
            (&[], true),
        ] {
            let group = tempfile::tempdir().unwrap();
            for name in files {
                std::fs::write(group.path().join(name), "").unwrap();
            }
            assert_eq!(is_machines(group.path()), want, "{files:?}");
        }
    }

    #[test]
    fn options_of_a_hierarchy_are_not_controllers() {
        let mount = super::super::mountinfo::parse(
            b"1 0 0:1 / /c rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n2 0 0:2 / /d rw - cgroup c rw,cpu,cpuacct\n",
            Path::new("m"),
        )
        .unwrap();
        assert_eq!(hierarchy(&mount[0], &[]).controllers, ["name=systemd"]);
        assert_eq!(hierarchy(&mount[1], &[]).controllers, ["cpu", "cpuacct"]);
    }
}
