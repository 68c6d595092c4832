/*!
Where the control groups of a container lie, as far as this process sees them.
*/
use std::path::{Path, PathBuf};

use super::counters::Folders;
use crate::probe::mountinfo::{self, Mount};
use crate::probe::{Roots, cgroup_path};

/// The groups of a process of the container, `None` where they are not those of the container `id` or not to be seen.
pub fn find(roots: &Roots, pid: i64, id: &str) -> Option<Folders> {
    let path = roots.proc.join(pid.to_string()).join("cgroup");
    let groups = cgroup_path::parse(&std::fs::read_to_string(&path).ok()?, &path).ok()?;
    let mounts = mountinfo::own(roots).ok()?;
    let mut folders = Folders::default();
    for group in groups {
        // The number may be that of another process in another pid namespace.
        if !group.path.to_string_lossy().contains(id) {
            continue;
        }
        let names: Vec<String> = if group.controllers.is_empty() { vec![String::new()] } else { group.controllers };
        for name in names {
            let found = mounts.iter().rev().filter(|mount| holds(mount, &name));
            let mut places = found.filter_map(|mount| inside(mount, &group.path)).map(|place| roots.resolve(&place));
            if let Some(folder) = places.find(|folder| folder.join("cgroup.procs").exists()) {
                folders.by_controller.insert(name, folder);
            }
        }
    }
    // A unified hierarchy beside others (hybrid) has none of the controllers.
    if folders.by_controller.keys().any(|name| ["cpu", "memory", "pids"].contains(&name.as_str())) {
        folders.by_controller.remove("");
    }
    (!folders.by_controller.is_empty()).then_some(folders)
}

fn holds(mount: &Mount, controller: &str) -> bool {
    match controller {
        "" => mount.fstype == "cgroup2",
        name => mount.fstype == "cgroup" && mount.super_options.iter().any(|option| option == name),
    }
}

/// A group's folder below a mount. The mount shows the part of the hierarchy below its root.
fn inside(mount: &Mount, group: &Path) -> Option<PathBuf> {
    Some(mount.point.join(group.strip_prefix(&mount.root).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(groups: &str, mounts: &str, folders: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["proc/self", "proc/77"].iter().chain(folders) {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for folder in folders {
            std::fs::write(root.path().join(folder).join("cgroup.procs"), "").unwrap();
        }
        std::fs::write(root.path().join("proc/77/cgroup"), groups).unwrap();
        std::fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
        root
    }

    fn folders(root: &tempfile::TempDir) -> Vec<(String, String)> {
        let found =
            find(&Roots::below(root.path()), 77, "4ed5").map(|folders| folders.by_controller).unwrap_or_default();
        let short = |path: PathBuf| path.strip_prefix(root.path()).unwrap().display().to_string();
        let mut found: Vec<(String, String)> = found.into_iter().map(|(name, path)| (name, short(path))).collect();
        found.sort();
        found
    }

    const V2: &str = "50 40 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_unified_hierarchy() {
        let root = place("0::/docker/4ed5\n", V2, &["sys/fs/cgroup/docker/4ed5"]);
        assert_eq!(folders(&root), [(String::new(), "sys/fs/cgroup/docker/4ed5".to_owned())]);
    }

    #[test]
    fn a_process_of_another_container_is_left_alone() {
        let root = place("0::/docker/5fe6\n", V2, &["sys/fs/cgroup/docker/5fe6"]);
        assert!(folders(&root).is_empty());
    }

    #[test]
    fn hierarchies_of_version_1_below_the_root_of_their_mount() {
        let mounts = "51 40 0:31 /outer /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      52 40 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      53 40 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "1:cpu,cpuacct:/outer/4ed5\n2:memory:/outer/4ed5\n0::/4ed5\n";
        let there = ["sys/fs/cgroup/cpu/4ed5", "sys/fs/cgroup/memory/outer/4ed5", "sys/fs/cgroup/unified/4ed5"];
        let root = place(groups, mounts, &there);
        let want = [("cpu", there[0]), ("cpuacct", there[0]), ("memory", there[1])];
        assert_eq!(folders(&root), want.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_not_seen() {
        let root = place("0::/../4ed5\n", V2, &[]);
        assert!(folders(&root).is_empty());
    }
}
