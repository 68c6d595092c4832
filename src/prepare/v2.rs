/*!
cgroup v2: nested containers get limits only if the own group hands its controllers on, and a group that does so may
hold no processes itself (`Documentation/admin-guide/cgroup-v2.rst`, "No Internal Process Constraint"). So all of them
move into a leaf, `init`, first.

The group meant is the own one, wherever it is. Where the cgroup namespace is the host's that is some
`/docker/<id>`, and nothing is ever created in the root group of the host.
*/
use super::plan::{Action, Step, processes};
use super::v1;
use super::wants::Told;
use crate::probe::cgroup::{CgroupSetup, Group, LEAF, Layout, Place, Unified};

/// What a container can be limited by; a missing one is worth a word.
const EXPECTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Name of the step that stands for those that can only be decided once the steps before it are done.
pub const DECIDED_LATER: &str = "cgroup.v2.later";

const REASON: &str = "limits of nested containers work only with controllers that this group hands on";

/// The steps, none where version 2 is not mounted.
pub fn steps(setup: &CgroupSetup, told: &Told) -> Vec<Step> {
    let Some(unified) = &setup.unified else { return Vec::new() };
    if setup.layout == Layout::Hybrid {
        let found = format!("mounted on {} beside version 1", unified.mount.point.display());
        return vec![Step::nothing(
            "cgroup.v2",
            "cgroup v2",
            found,
            "the engine uses version 1 wherever it is mounted",
        )];
    }
    let mut steps = Vec::new();
    steps.extend(writable(unified));
    let Some(group) = &unified.group else {
        steps.push(if unified.place == Place::NamespaceRoot { later(unified) } else { hidden(unified) });
        return steps;
    };
    if let Some(step) = threaded(group) {
        steps.push(step);
        return steps;
    }
    let missing: Vec<String> = group.available.iter().filter(|name| !group.enabled.contains(name)).cloned().collect();
    steps.extend(evacuate(unified, group, !missing.is_empty()));
    steps.push(delegate(unified, group, missing));
    steps.extend(absent(group));
    steps.extend(parent(setup, unified, group, told));
    steps
}

fn writable(unified: &Unified) -> Option<Step> {
    unified.mount.read_only().then(|| {
        let step = Step::nothing(
            "cgroup.v2.writable",
            "cgroup v2 mount",
            format!("{} is mounted read-only", unified.mount.point.display()),
            "nested containers get groups of their own",
        );
        v1::remount(step, &unified.mount, String::new())
    })
}

/// Nothing can be read of the group before it is mounted: a second plan follows this one.
fn later(unified: &Unified) -> Step {
    let found = format!("the own group is not below {} yet", unified.mount.point.display());
    Step::nothing(DECIDED_LATER, "cgroup v2 group", found, REASON)
}

fn hidden(unified: &Unified) -> Step {
    let own = unified.own.as_ref().map_or("unknown".into(), |path| path.display().to_string());
    Step::nothing(
        "cgroup.v2.group",
        "cgroup v2 group",
        format!("the own group ({own}) cannot be reached through {}", unified.mount.point.display()),
        REASON,
    )
    .warns("the own cgroup is not visible here: controllers cannot be handed on, and limits of nested containers may be refused")
    .hint(if unified.mount.root.starts_with("/..") {
        "do not mount the host's /sys/fs/cgroup into the container: the engine mounts the right one"
    } else {
        "start the container with --cgroupns=private"
    })
}

fn threaded(group: &Group) -> Option<Step> {
    let kind = group.kind.as_deref().filter(|_| group.threaded())?;
    let step = Step::nothing(
        "cgroup.v2.threaded",
        "cgroup v2 group type",
        format!("cgroup.type of {} is \"{kind}\"", group.path.display()),
        "only a group of type \"domain\" can hand memory and io on; a process cannot change that from inside",
    );
    Some(
        step.warns(format!(
            "the own cgroup is \"{kind}\": nested containers with limits will fail to enter theirs (EOPNOTSUPP)"
        ))
        .hint("another program made this group threaded: start the container in a group of its own"),
    )
}

fn evacuate(unified: &Unified, group: &Group, needed: bool) -> Option<Step> {
    if unified.place == Place::MachineRoot {
        // The root of the machine is exempt from the rule, and its kernel threads could not be moved.
        return None;
    }
    let to = group.path.join(LEAF);
    let strangers = if group.foreign > 0 {
        format!(", {} of another pid namespace, which cannot be moved from here", group.foreign)
    } else {
        String::new()
    };
    let found = match group.unreadable {
        Some(errno) => format!("the processes of {} cannot be listed: {errno}", group.path.display()),
        None => format!("{} in {}{strangers}", processes(group.processes + group.foreign), group.path.display()),
    };
    let step = Step::nothing(
        "cgroup.v2.evacuate",
        "cgroup v2 processes",
        found,
        "a group that hands controllers on may hold no processes itself",
    );
    Some(if needed || group.processes > 0 {
        step.does(Action::Evacuate { from: group.path.clone(), to })
            .hint("start the container with --privileged and --cgroupns=private")
    } else {
        step
    })
}

fn delegate(unified: &Unified, group: &Group, missing: Vec<String>) -> Step {
    let enabled = if group.enabled.is_empty() { "none".into() } else { group.enabled.join(" ") };
    let available = if group.available.is_empty() { "none".into() } else { group.available.join(" ") };
    let step = Step::nothing(
        "cgroup.v2.delegate",
        "cgroup v2 controllers",
        format!("{} has {available}; handed on: {enabled}", group.path.display()),
        REASON,
    );
    if missing.is_empty() {
        return step;
    }
    let leaf = (unified.place != Place::MachineRoot).then(|| group.path.join(LEAF));
    let hint = if group.foreign > 0 {
        "end the processes that entered this container's cgroup from outside of its pid namespace (docker exec into \
         a container with --pid=host, a debugger, a shared pod group)"
    } else {
        "start the container with --privileged and --cgroupns=private"
    };
    step.does(Action::Delegate { group: group.path.clone(), leaf, controllers: missing }).hint(hint)
}

/// Controllers that already the parent keeps to itself.
fn absent(group: &Group) -> Option<Step> {
    let absent: Vec<&str> =
        EXPECTED.into_iter().filter(|name| !group.available.iter().any(|available| available == name)).collect();
    (!absent.is_empty()).then(|| {
        Step::nothing(
            "cgroup.v2.absent",
            "cgroup v2 controllers of the host",
            format!("not offered to {}: {}", group.path.display(), absent.join(" ")),
            REASON,
        )
        .warns(format!("limits on {} will not hold in nested containers", absent.join(", ")))
        .hint("the host has to enable them in cgroup.subtree_control of the groups above (rootless engines: systemd Delegate=)")
    })
}

/// What keeps nested containers inside where the namespace is not private and stays so.
fn parent(setup: &CgroupSetup, unified: &Unified, group: &Group, told: &Told) -> Option<Step> {
    (unified.place == Place::Below).then(|| {
        let step = Step::nothing(
            "cgroup.v2.parent",
            "cgroup v2 parent of nested containers",
            format!("the cgroup namespace is not private: the own group is {}", group.name.display()),
            "nested containers must stay inside the limits of this one",
        );
        v1::tell_parent(step, &group.name, setup, told)
    })
}
