/*!
What the daemons leave in the container when they are killed: mounts below their folders, and empty control groups below the own
one. Most of it goes with the container; what has spread to the machine (a volume mounted with `rshared`) would stay there for good.

Only mounts made since the start are taken away. What the container was given is somebody else's, on the machine as well.
*/
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::probe::cgroup::{self, CgroupSetup};
use crate::probe::mountinfo::{self, Mount};
use crate::probe::{ProbeError, Roots};
use crate::sys::file::errno;
use crate::sys::mount::detach;

/// The mounts that were there before any daemon was.
#[derive(Debug, Clone, Default)]
pub struct Before(BTreeSet<u64>);

/// Reads them.
pub fn before(roots: &Roots) -> Result<Before, ProbeError> {
    Ok(Before(mountinfo::own(roots)?.into_iter().map(|mount| mount.id).collect()))
}

/// Takes away what was mounted below `folders` since, and the empty groups below the own one; nobody may run any more. Gives all
/// that could not be done.
pub fn tidy(roots: &Roots, before: &Before, folders: &[PathBuf]) -> Vec<String> {
    let mounts = match mountinfo::own(roots) {
        Ok(mounts) => mounts,
        Err(error) => return vec![error.to_string()],
    };
    let mut problems: Vec<String> = left(&mounts, before, folders)
        .into_iter()
        .filter_map(|point| match detach(point) {
            // It went with the one that it lay on.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => None,
            Err(errno) => Some(format!("cannot unmount {}: {errno}", point.display())),
        })
        .collect();
    match cgroup::look(roots, &mounts) {
        Ok(setup) => own_groups(&setup)
            .iter()
            .filter(|group| !cgroup::is_machines(group))
            .for_each(|group| problems.extend(remove_below(group))),
        Err(error) => problems.push(error.to_string()),
    }
    problems
}

/// The mounts that are left over, the last one first.
fn left<'a>(mounts: &'a [Mount], before: &Before, folders: &[PathBuf]) -> Vec<&'a Path> {
    let below = |mount: &&Mount| folders.iter().any(|folder| mount.point != *folder && mount.point.starts_with(folder));
    let new = |mount: &&Mount| !before.0.contains(&mount.id);
    mounts.iter().filter(new).filter(below).map(|mount| mount.point.as_path()).rev().collect()
}

/// The own group in each hierarchy that can be written to, as a folder.
pub fn own_groups(setup: &CgroupSetup) -> Vec<PathBuf> {
    let old = setup.hierarchies.iter().filter(|it| !it.mount.read_only());
    let old = old.filter_map(|it| Some(it.mount.point.join(it.inside()?)));
    let new =
        setup.unified.iter().filter(|it| !it.mount.read_only()).filter_map(|it| Some(it.group.as_ref()?.path.clone()));
    old.chain(new).collect()
}

/// Removes the groups below one, the deepest first. One that is in use stays (the leaf that we are in).
fn remove_below(group: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(group) else { return Vec::new() };
    let mut problems = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path();
        problems.extend(remove_below(&path));
        if let Err(error) = std::fs::remove_dir(&path)
            && !matches!(errno(&error), Errno::EBUSY | Errno::ENOENT | Errno::ENOTEMPTY)
        {
            problems.push(format!("cannot remove the control group {}: {error}", path.display()));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_since_and_lies_below_goes() {
        let table = b"1 0 0:1 / / rw - overlay o rw\n\
            2 1 0:2 / /data rw - ext4 d rw\n\
            3 2 0:3 / /data/volumes/given rw - ext4 d rw\n\
            7 2 0:4 / /data/overlay2/x/merged rw - overlay o rw\n\
            8 7 0:5 / /data/overlay2/x/merged/y rw - tmpfs t rw\n\
            9 1 0:6 / /run/docker/netns/z rw - nsfs n rw\n\
            10 1 0:7 / /database rw - tmpfs t rw\n\
            11 1 0:8 / /run/docker rw - tmpfs t rw\n";
        let mounts = mountinfo::parse(table, Path::new("m")).unwrap();
        let before = Before([1, 2, 3].into());
        let folders = ["/data", "/run/docker"].map(PathBuf::from);
        let left: Vec<String> =
            left(&mounts, &before, &folders).iter().map(|point| point.display().to_string()).collect();
        assert_eq!(left, ["/run/docker/netns/z", "/data/overlay2/x/merged/y", "/data/overlay2/x/merged"]);
    }

    #[test]
    fn groups_go_from_the_bottom_and_files_stay() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("docker/0123/init.scope")).unwrap();
        std::fs::create_dir_all(top.path().join("busy")).unwrap();
        std::fs::write(top.path().join("busy/cgroup.procs"), "1").unwrap();
        assert_eq!(remove_below(top.path()), Vec::<String>::new());
        let left: Vec<_> = std::fs::read_dir(top.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["busy"]);
    }
}
