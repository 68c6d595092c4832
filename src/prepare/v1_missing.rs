/*!
cgroup v1: hierarchies that the machine has and this container does not see.

containerd refuses to start containers with "cannot find cgroup mount destination" when a hierarchy that is listed in
`/proc/self/cgroup` is not mounted (often `name=systemd`), and runc does when `devices` is not.

Only what exists already is mounted, with one exception. A new hierarchy is one for the whole machine: it takes its
controller away from version 2, every process there is listed in it, and from then on the host's own
engine may be the one that cannot find a mount destination. `devices` is the exception, because nothing runs without
it and version 2 has no such controller. The kernel allows its creation only in the machine's own cgroup namespace
(`cgroup1_root_to_use` in kernel/cgroup/cgroup-v1.c), so it comes before a namespace of our own.
*/
use std::path::{Path, PathBuf};

use super::plan::{Action, Step};
use super::v1;
use crate::probe::cgroup::{CGROUP_ROOT, CgroupSetup, Layout};
use crate::probe::cgroup_path::Membership;
use crate::probe::mountinfo::{Mount, holding};

const DEVICES: &str = "devices";

/// Makes a place for the missing mounts, and creates what may be created.
pub(super) fn before(setup: &CgroupSetup, mounts: &[Mount]) -> Vec<Step> {
    let devices = uses_v1(setup) && devices_nowhere(setup);
    if !uses_v1(setup) || (setup.unmounted.is_empty() && !devices) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    steps.extend(place(setup, mounts));
    if devices {
        let (found, reason) = ("no hierarchy on this machine holds devices", "runc starts no container without it");
        steps.extend(mount(setup, &[DEVICES.to_owned()], found, reason, true));
    }
    steps
}

/// Mounts the hierarchies that exist.
pub(super) fn after(setup: &CgroupSetup) -> Vec<Step> {
    if !uses_v1(setup) {
        return Vec::new();
    }
    let reason = "the engine expects a mount for each hierarchy in /proc/self/cgroup";
    let mount = |line: &Membership| {
        let needed = line.controllers.iter().any(|name| name == DEVICES);
        mount(setup, &line.controllers, "this machine has the hierarchy, and it is not mounted here", reason, needed)
    };
    setup.unmounted.iter().flat_map(mount).collect()
}

/// Whether the engine will use version 1: it is mounted, or nothing is and the machine has it.
fn uses_v1(setup: &CgroupSetup) -> bool {
    match setup.layout {
        Layout::V1 | Layout::Hybrid => true,
        Layout::None => !setup.unmounted.is_empty(),
        Layout::Unified => false,
    }
}

fn devices_nowhere(setup: &CgroupSetup) -> bool {
    setup.controllers.iter().any(|known| known.name == DEVICES && known.enabled && known.hierarchy == 0)
}

/// The folder that holds the mounts: where the others are.
fn base(setup: &CgroupSetup) -> PathBuf {
    let beside = setup.hierarchies.first().and_then(|known| known.mount.point.parent());
    beside.unwrap_or(Path::new(CGROUP_ROOT)).to_path_buf()
}

/// A file system in which folders for the mounts can be made.
fn place(setup: &CgroupSetup, mounts: &[Mount]) -> Option<Step> {
    let base = base(setup);
    let step = |found: &str| {
        Step::nothing("cgroup.v1.root", "cgroup v1 folder", found, "every hierarchy is mounted on a folder in it")
            .hint("start the container with --privileged")
    };
    if setup.layout == Layout::None {
        let options = ["nosuid", "nodev", "noexec"].map(String::from).into();
        return Some(step(&format!("nothing is mounted on {CGROUP_ROOT}")).does(Action::Mount {
            source: "tmpfs".into(),
            target: CGROUP_ROOT.into(),
            fstype: "tmpfs".into(),
            options,
            data: "mode=755".into(),
        }));
    }
    let holder = holding(mounts, &base).filter(|it| it.fstype == "tmpfs" && it.read_only_mount())?;
    Some(step(&format!("{} is mounted read-only", holder.point.display())).does(Action::RemountReadWrite {
        target: holder.point.clone(),
        options: holder.options.clone(),
        fresh: None,
    }))
}

/// A folder and a mount for each controller: a hierarchy of several is looked for under each of their names
/// (`/sys/fs/cgroup/cpu`), and has to be asked for with all of them.
fn mount(setup: &CgroupSetup, controllers: &[String], found: &str, reason: &str, needed: bool) -> Vec<Step> {
    let base = base(setup);
    let alone = controllers.iter().all(|name| name.starts_with("name="));
    let folders = controllers.iter().filter(|name| alone || !name.starts_with("name="));
    let steps = folders.map(|name| {
        let target = base.join(name.trim_start_matches("name="));
        let step = |id: String| {
            let step = Step::nothing(id, "cgroup v1 hierarchy", format!("{name}: {found}"), reason)
                .hint("mount the hierarchy on the host and start the container with --privileged");
            if needed { step.required() } else { step }
        };
        [
            step(format!("cgroup.v1.{name}.folder")).does(Action::CreateDir { path: target.clone(), mode: 0o755 }),
            step(format!("cgroup.v1.{name}")).does(Action::Mount {
                source: "cgroup".into(),
                target,
                fstype: "cgroup".into(),
                options: ["nosuid", "nodev", "noexec", "relatime"].map(String::from).into(),
                data: v1::mount_data(controllers),
            }),
        ]
    });
    steps.flatten().collect()
}
