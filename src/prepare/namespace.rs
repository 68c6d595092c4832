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

It has to come before the processes of a version 2 group move to its leaf: the root of a new namespace is the group in
which the process is at that moment.
*/
use std::path::{Path, PathBuf};

use super::plan::{Action, Step};
use super::v1;
use super::wants::CgroupNamespace;
use crate::probe::cgroup::{CgroupSetup, Group, Hierarchy, Layout, Place, Unified};
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
    let own = deepest(setup).display().to_string();
    let enter = Step::nothing(
        NEW_CGROUP_NAMESPACE,
        "cgroup namespace",
        format!("it is not private: the own group is {own}"),
        REASON,
    )
    .does(Action::NewCgroupNamespace)
    .required()
    .hint("start the container with --cgroupns=private");
    let mut steps = vec![enter];
    for hierarchy in setup.hierarchies.iter().filter(|it| it.inside().is_some_and(is_deeper)) {
        steps.push(replace(&hierarchy.mount, v1::mount_data(&hierarchy.controllers)));
    }
    if let Some(unified) = setup.unified.as_ref().filter(|it| it.inside().is_some_and(is_deeper)) {
        steps.push(replace(&unified.mount, String::new()));
    }
    (steps, afterwards(setup))
}

/// Whether a daemon could put its containers outside of the own group, or would not find them there.
fn shows_more(setup: &CgroupSetup) -> bool {
    match (&setup.unified, setup.layout) {
        (Some(unified), Layout::Unified) => {
            // In the leaf it is too late; dockerd is told a parent then.
            let movable = unified.group.as_ref().is_some_and(|group| !group.evacuated);
            movable && unified.own.as_deref().is_some_and(below_root)
        }
        _ => {
            // The engine of a version 1 container mounts its own group alone, in either namespace. The path below that
            // mount is what a nested runtime goes by, so that there nothing can leave.
            setup.hierarchies.iter().any(|it| it.inside().is_some_and(is_deeper))
                || setup.unmounted.iter().any(|line| below_root(&line.path))
        }
    }
}

/// A group that is neither the root of the namespace nor outside of it.
fn below_root(group: &Path) -> bool {
    group != Path::new("/") && !group.starts_with("/..")
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
        format!("{} shows the groups of the whole machine", target.display()),
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
    let mount = |mount: &Mount, fresh: bool| {
        let options = if fresh { writable(&mount.options) } else { mount.options.clone() };
        Mount { root: root(), options, ..mount.clone() }
    };
    let hierarchies = setup.hierarchies.iter().map(|known| match known.inside() {
        None => known.clone(),
        Some(inside) => Hierarchy { mount: mount(&known.mount, is_deeper(inside)), own: Some(root()), ..known.clone() },
    });
    let unified = setup.unified.as_ref().map(|known| match known.inside() {
        None => known.clone(),
        Some(inside) => {
            let mount = mount(&known.mount, is_deeper(inside));
            let group = known.group.clone().map(|group| Group { path: mount.point.clone(), name: root(), ..group });
            Unified { mount, own: Some(root()), place: Place::NamespaceRoot, group }
        }
    });
    let mut unmounted = setup.unmounted.clone();
    for line in &mut unmounted {
        line.path = root();
    }
    CgroupSetup { hierarchies: hierarchies.collect(), unified, unmounted, ..setup.clone() }
}
