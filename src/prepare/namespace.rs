/*!
A cgroup namespace of our own where the container got none (`--cgroupns=host`, most Kubernetes pods).

There the whole machine's tree can be seen, and a daemon puts its containers next to this one instead of into it:
outside of every limit that this container has (moby issue 45378). Two things help: telling dockerd a `cgroup-parent`,
or leaving the namespace for one whose root is the own group, and mounting the tree anew. The second is chosen wherever
it is possible, because it holds for everything and not only for what dockerd decides: `docker run --cgroup-parent`,
compose's `cgroup_parent`, builds, a second engine, a nested container with the namespace of its host. It also keeps the
paths that containerd reads in `/proc/PID/cgroup` in step with what is mounted, on which it relies for metrics and OOM events.

Processes that were there before stay in the old namespace, and so do those that `docker exec` starts, for runc joins
only the namespaces that it made itself. They see the new mounts, which name the same groups, and lose nothing.

A mount that does not hold the own group at all is replaced as well: the machine's, bound into a container that has a
namespace, or the own one after somebody moved this process out of its group.

It has to come before the processes of a version 2 group move to its leaf: the root of a new namespace is the group in
which the process is at that moment.
*/
use std::path::{Path, PathBuf};

use super::plan::{Action, Step};
use super::v1;
use super::wants::CgroupNamespace;
use crate::probe::cgroup::{CgroupSetup, Group, Layout, Place};
use crate::probe::mountinfo::Mount;

/// Name of the step that makes the namespace. Where it fails nothing has been changed by it, and a plan with
/// [`CgroupNamespace::Keep`] is the way out.
pub const NEW_CGROUP_NAMESPACE: &str = "cgroup.namespace";

const REASON: &str = "nested containers must stay inside the limits of this one";

/// The steps, and the set-up that they leave for those that follow.
pub(super) fn steps(setup: &CgroupSetup, wish: CgroupNamespace) -> (Vec<Step>, CgroupSetup) {
    if wish == CgroupNamespace::Keep || !setup.beside_init || !shows_more(setup) {
        return (Vec::new(), setup.clone());
    }
    let mut steps = Vec::new();
    let own = deepest(setup);
    if own != Path::new("/") {
        let found = format!("it is not private: the own group is {}", own.display());
        let step = Step::nothing(NEW_CGROUP_NAMESPACE, "cgroup namespace", found, REASON);
        let hint = "start the container with --cgroupns=private";
        steps.push(step.does(Action::NewCgroupNamespace).required().hint(hint));
    }
    for hierarchy in setup.hierarchies.iter().filter(|it| misplaced(it.own.as_deref(), it.inside())) {
        steps.push(replace(&hierarchy.mount, v1::mount_data(&hierarchy.controllers)));
    }
    if let Some(unified) = setup.unified.as_ref().filter(|it| misplaced(it.own.as_deref(), it.inside())) {
        steps.push(replace(&unified.mount, String::new()));
    }
    (steps, afterwards(setup))
}

/// Whether a daemon could put its containers outside of the own group, or would not find them there.
fn shows_more(setup: &CgroupSetup) -> bool {
    match (&setup.unified, setup.layout) {
        (Some(unified), Layout::Unified) => {
            // In the leaf it is too late; dockerd is told a parent then.
            let late = unified.group.as_ref().is_some_and(|group| group.evacuated);
            let below = unified.own.as_deref().is_some_and(|own| own != Path::new("/"));
            !late && (below || misplaced(unified.own.as_deref(), unified.inside()))
        }
        _ => {
            // The engine of a version 1 container mounts its own group alone, in either namespace. The path below that
            // mount is what a nested runtime goes by, so that there nothing can leave.
            setup.hierarchies.iter().any(|it| misplaced(it.own.as_deref(), it.inside()))
                || setup.unmounted.iter().any(|line| line.path != Path::new("/"))
        }
    }
}

/// Whether the mount shows another folder than the own group: one above it, or (the machine's mount in a namespace of
/// our own, or this process moved out of its namespace) one that does not even hold it.
fn misplaced(own: Option<&Path>, inside: Option<PathBuf>) -> bool {
    own.is_some() && inside.is_none_or(is_deeper)
}

#[allow(clippy::needless_pass_by_value)] // as a predicate for Option<PathBuf>
fn is_deeper(inside: PathBuf) -> bool {
    !inside.as_os_str().is_empty()
}

/// The longest name of the own group: in hierarchies that nobody divides up it is the root.
fn deepest(setup: &CgroupSetup) -> &Path {
    let mounted = setup.hierarchies.iter().filter_map(|it| it.own.as_deref());
    let unmounted = setup.unmounted.iter().map(|line| line.path.as_path());
    let unified = setup.unified.iter().filter_map(|it| it.own.as_deref());
    mounted.chain(unmounted).chain(unified).max_by_key(|path| path.components().count()).unwrap_or(Path::new("/"))
}

fn replace(mount: &Mount, data: String) -> Step {
    let target = mount.point.clone();
    Step::nothing(
        format!("cgroup.namespace:{}", target.display()),
        "cgroup mount",
        format!("{} shows other groups than the own one", target.display()),
        REASON,
    )
    .does(Action::ReplaceMount {
        source: mount.source.clone(),
        target,
        fstype: mount.fstype.clone(),
        options: writable(&mount.options),
        data,
    })
    .required()
    .hint("start the container with --cgroupns=private")
}

fn writable(options: &[String]) -> Vec<String> {
    options.iter().filter(|option| *option != "ro").cloned().collect()
}

/// What will be found once the steps are done: the own group is the root, by name and by mount.
fn afterwards(setup: &CgroupSetup) -> CgroupSetup {
    let root = || PathBuf::from("/");
    let mount = |mount: &Mount, replaced: bool| {
        let options = if replaced { writable(&mount.options) } else { mount.options.clone() };
        Mount { root: root(), options, ..mount.clone() }
    };
    let mut hierarchies = setup.hierarchies.clone();
    for known in hierarchies.iter_mut().filter(|it| it.own.is_some()) {
        known.mount = mount(&known.mount, misplaced(known.own.as_deref(), known.inside()));
        known.own = Some(root());
    }
    let mut unified = setup.unified.clone();
    if let Some(known) = unified.as_mut().filter(|it| it.own.is_some()) {
        known.mount = mount(&known.mount, misplaced(known.own.as_deref(), known.inside()));
        known.own = Some(root());
        known.place = Place::NamespaceRoot;
        let point = &known.mount.point;
        known.group = known.group.take().map(|group| Group { path: point.clone(), name: root(), ..group });
    }
    let mut unmounted = setup.unmounted.clone();
    for line in &mut unmounted {
        line.path = root();
    }
    CgroupSetup { hierarchies, unmounted, unified, ..setup.clone() }
}
