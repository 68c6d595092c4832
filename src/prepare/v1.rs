/*!
cgroup v1: the hierarchies are used as they are mounted. An engine started without `--privileged` mounts them
read-only, and then every nested container fails with "mkdir …/cpuset/docker: read-only file system".
*/
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::plan::{Action, FreshMount, Step};
use super::wants::Told;
use crate::probe::cgroup::{CGROUP_ROOT, CgroupSetup, Hierarchy, Layout};
use crate::probe::mountinfo::Mount;

const REASON: &str = "nested containers must stay inside the limits of this one";

/// One step when all is well, else one for each read-only hierarchy; and the parent of nested containers.
pub fn steps(setup: &CgroupSetup, told: &Told) -> Vec<Step> {
    if setup.layout == Layout::None && setup.unmounted.is_empty() {
        let step =
            Step::nothing("cgroup", "cgroups", format!("nothing is mounted on {CGROUP_ROOT}"), "limits need them");
        return vec![
            step.warns("no cgroup file system is mounted: the engine cannot start containers").hint(
                "start the container with an engine that mounts cgroups, or with -v /sys/fs/cgroup:/sys/fs/cgroup",
            ),
        ];
    }
    let hierarchies = &setup.hierarchies;
    if hierarchies.is_empty() {
        return Vec::new();
    }
    let read_only: Vec<&Hierarchy> = hierarchies.iter().filter(|it| it.mount.read_only()).collect();
    let mut steps: Vec<Step> = read_only.into_iter().map(writable).collect();
    if steps.is_empty() {
        let found = format!("{} hierarchies: {}{}", hierarchies.len(), names(hierarchies), unused(setup));
        steps.push(Step::nothing("cgroup.v1", "cgroup v1", found, "version 1 is used as it is mounted"));
    }
    if setup.layout != Layout::Unified {
        steps.extend(parent(setup, told));
    }
    steps
}

fn names(hierarchies: &[Hierarchy]) -> String {
    let names: Vec<String> = hierarchies.iter().map(|it| it.controllers.join(",")).collect();
    names.join(" ")
}

/// Controllers that the machine uses in no version 1 hierarchy. They are left to it: a hierarchy made here would be
/// one for the whole machine.
fn unused(setup: &CgroupSetup) -> String {
    let unused: Vec<&str> =
        setup.controllers.iter().filter(|it| it.enabled && it.hierarchy == 0).map(|it| it.name.as_str()).collect();
    if unused.is_empty() { String::new() } else { format!("; in none: {}", unused.join(" ")) }
}

/// The options that ask for this hierarchy and no other; the kernel wants all of its controllers.
pub(super) fn mount_data(controllers: &[String]) -> String {
    let named = controllers.iter().all(|name| name.starts_with("name="));
    let none = if named { "none," } else { "" };
    format!("{none}{}", controllers.join(","))
}

/// What keeps nested containers inside where the mounts show more than the own group and stay so. dockerd takes one
/// parent for all hierarchies.
fn parent(setup: &CgroupSetup, told: &Told) -> Option<Step> {
    let hierarchies = &setup.hierarchies;
    let hint = "start the container with --cgroupns=private, and without -v /sys/fs/cgroup";
    if hierarchies.iter().any(|it| it.own.is_some() && it.inside().is_none()) {
        return Some(
            Step::nothing(
                "cgroup.v1.parent",
                "cgroup v1 parent of nested containers",
                "the mounts do not hold the own group",
                REASON,
            )
            .warns("nested containers will leave the limits of this one")
            .hint(hint),
        );
    }
    let mut groups: Vec<PathBuf> =
        hierarchies.iter().filter_map(Hierarchy::inside).filter(|it| !it.as_os_str().is_empty()).collect();
    groups.sort();
    groups.dedup();
    let first = Path::new("/").join(groups.first()?);
    let step = Step::nothing(
        "cgroup.v1.parent",
        "cgroup v1 parent of nested containers",
        format!("the mounts show the whole machine, in which the own group is {}", first.display()),
        REASON,
    );
    if groups.len() > 1 {
        return Some(
            step.warns(
                "the own group has another name in each hierarchy: nested containers will leave some of its limits",
            )
            .hint("start the container with --cgroupns=private, and without -v /sys/fs/cgroup"),
        );
    }
    Some(tell_parent(step, &first, setup, told))
}

/// Makes `group` the parent of what dockerd starts, unless it was told another, or leaves that to systemd: with another parent than a slice
/// of that it does not start then (`verifyDaemonSettings` in moby's `daemon/daemon_unix.go`).
pub(super) fn tell_parent(step: Step, group: &Path, setup: &CgroupSetup, told: &Told) -> Step {
    let key = "cgroup-parent";
    let step = step.hint("start the container with --cgroupns=private");
    if let Some(parent) = told.value(key) {
        return Step { found: format!("{}; dockerd is told {key}={parent}", step.found), ..step };
    }
    if asks_systemd(setup, told) {
        return Step { found: format!("{}; dockerd has its groups made by systemd", step.found), hint: None, ..step };
    }
    step.does(Action::SetDaemonOption { key: key.into(), value: group.to_string_lossy().into() })
}

/// As moby's `UsingSystemd`: the driver that dockerd is told, else systemd's where version 2 is used and systemd is there.
fn asks_systemd(setup: &CgroupSetup, told: &Told) -> bool {
    let options = told.value("exec-opts").and_then(Value::as_array);
    let mut drivers = options.into_iter().flatten().filter_map(Value::as_str);
    match drivers.find_map(|option| option.strip_prefix("native.cgroupdriver=")) {
        Some(driver) => driver == "systemd",
        None => setup.layout == Layout::Unified && setup.systemd,
    }
}

fn writable(hierarchy: &Hierarchy) -> Step {
    let name = hierarchy.controllers.join(",");
    let step = Step::nothing(
        format!("cgroup.v1.{name}"),
        "cgroup v1",
        format!("{} is mounted read-only", hierarchy.mount.point.display()),
        "nested containers get groups of their own in every hierarchy",
    );
    remount(step, &hierarchy.mount, mount_data(&hierarchy.controllers))
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
