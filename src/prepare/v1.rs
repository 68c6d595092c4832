/*!
cgroup v1: the hierarchies are used as they are mounted. An engine started without `--privileged` mounts them
read-only, and then every nested container fails with "mkdir …/cpuset/docker: read-only file system".

Hierarchies that are missing altogether are not mounted here yet; their steps belong into this file.
*/
use std::path::Path;

use super::facts::Facts;
use super::plan::{Action, FreshMount, Step};
use crate::probe::cgroup::{CGROUP_ROOT, Hierarchy, Layout};
use crate::probe::mountinfo::Mount;

/// One step when all is well, else one for each read-only hierarchy.
pub fn steps(facts: &Facts) -> Vec<Step> {
    if facts.cgroup.layout == Layout::None {
        let step =
            Step::nothing("cgroup", "cgroups", format!("nothing is mounted on {CGROUP_ROOT}"), "limits need them");
        return vec![
            step.warns("no cgroup file system is mounted: the engine cannot start containers").hint(
                "start the container with an engine that mounts cgroups, or with -v /sys/fs/cgroup:/sys/fs/cgroup",
            ),
        ];
    }
    let hierarchies = &facts.cgroup.hierarchies;
    if hierarchies.is_empty() {
        return Vec::new();
    }
    let read_only: Vec<&Hierarchy> = hierarchies.iter().filter(|it| it.mount.read_only()).collect();
    if read_only.is_empty() {
        let names: Vec<String> = hierarchies.iter().map(|it| it.controllers.join(",")).collect();
        let found = format!("{} hierarchies: {}", names.len(), names.join(" "));
        return vec![Step::nothing("cgroup.v1", "cgroup v1", found, "version 1 is used as it is mounted")];
    }
    read_only.into_iter().map(writable).collect()
}

fn writable(hierarchy: &Hierarchy) -> Step {
    let name = hierarchy.controllers.join(",");
    let step = Step::nothing(
        format!("cgroup.v1.{name}"),
        "cgroup v1",
        format!("{} is mounted read-only", hierarchy.mount.point.display()),
        "nested containers get groups of their own in every hierarchy",
    );
    remount(step, &hierarchy.mount, name)
}

/// Takes the read-only flag off the mount. All mounts of a hierarchy share one file system, whatever the namespace
/// (`cgroup_do_get_tree` in kernel/cgroup/cgroup.c), so where that itself is read-only the whole machine's is, and it
/// is not ours to change.
pub(super) fn remount(step: Step, mount: &Mount, data: String) -> Step {
    let step = step.hint("start the container with --privileged");
    if mount.read_only_super() {
        return step
            .warns(format!(
                "{} is read-only on the whole machine: nested containers cannot get groups of their own",
                mount.point.display()
            ))
            .hint("remount it read-write on the host");
    }
    let whole = mount.root == Path::new("/");
    // A new mount would show the whole hierarchy where only a part of it was mounted.
    let fresh = whole.then(|| FreshMount { source: mount.source.clone(), fstype: mount.fstype.clone(), data });
    step.does(Action::RemountReadWrite { target: mount.point.clone(), options: mount.options.clone(), fresh })
}
