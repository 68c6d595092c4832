/*!
Where the control group of the whole container is, for each controller. With a cgroup namespace of its own that is what is mounted;
with the machine's it is the group of process 1.
*/
use std::path::{Path, PathBuf};

use crate::probe::cgroup::{self, CgroupSetup, LEAF, below_mount, is_machines};
use crate::probe::cgroup_path::{self, Membership};
use crate::probe::mountinfo::{self, Mount};
use crate::probe::{ProbeError, Roots};

/// Group of a service manager's own process below the group that it manages.
const MANAGER: &str = "init.scope";

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its folder, resolved.
    pub folder: PathBuf,
    /// What is mounted: nothing can be seen above it.
    pub top: PathBuf,
    /// Whether it is the root of the machine.
    pub machine: bool,
}

impl Place {
    fn new(roots: &Roots, mount: &Mount, first: Option<&Path>) -> Option<Self> {
        let top = roots.resolve(&mount.point);
        if !is_machines(&top) {
            return Some(Self { folder: top.clone(), top, machine: false });
        }
        let inside = below_mount(first?, &mount.root)?;
        let last = inside.file_name().and_then(|name| name.to_str());
        let inside = if matches!(last, Some(LEAF | MANAGER)) { inside.parent().unwrap_or(&inside) } else { &inside };
        let folder = top.join(inside);
        Some(Self { machine: is_machines(&folder), folder, top })
    }
}

/// The places of all controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Version 1, by controller.
    hierarchies: Vec<(Vec<String>, Place)>,
    /// Version 2.
    pub unified: Option<Place>,
}

impl Places {
    /// Looks for them.
    pub fn find(roots: &Roots) -> Result<Self, ProbeError> {
        let setup = cgroup::look(roots, &mountinfo::own(roots)?)?;
        // Hidden from ordinary users by some (hidepid): our own groups are the best that is left.
        let first = cgroup_path::init(roots).or_else(|_| cgroup_path::own(roots))?;
        Ok(Self::of(roots, &setup, &first))
    }

    fn of(roots: &Roots, setup: &CgroupSetup, first: &[Membership]) -> Self {
        let group = |controllers: &[String]| {
            let line = first.iter().find(|line| line.controllers.iter().any(|name| controllers.contains(name)));
            line.map(|line| line.path.as_path())
        };
        let hierarchies = setup
            .hierarchies
            .iter()
            .filter_map(|it| Some((it.controllers.clone(), Place::new(roots, &it.mount, group(&it.controllers))?)));
        let unified = setup.unified.as_ref();
        Self {
            hierarchies: hierarchies.collect(),
            unified: unified.and_then(|it| Place::new(roots, &it.mount, cgroup_path::unified(first))),
        }
    }

    /// That of a controller of version 1.
    pub fn v1(&self, controller: &str) -> Option<&Place> {
        let has = |names: &[String]| names.iter().any(|name| name == controller);
        self.hierarchies.iter().find(|(names, _)| has(names)).map(|(_, place)| place)
    }

    /// Whether these are the groups of the machine and of no container.
    pub fn machine(&self) -> bool {
        let main = self.v1("memory").or_else(|| self.v1("cpuacct")).or(self.unified.as_ref());
        main.is_some_and(|place| place.machine)
    }
}
