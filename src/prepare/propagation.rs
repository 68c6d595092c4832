/*!
`/` shared recursively, so that what is mounted here shows up in nested containers that ask for it (`rshared`,
`rslave` binds). A runtime starts every container with private mounts.
*/
use std::path::Path;

use super::facts::Facts;
use super::plan::{Action, Step};
use crate::probe::mountinfo::at;

/// One step.
pub fn steps(facts: &Facts) -> Vec<Step> {
    let root = at(&facts.mounts, Path::new("/"));
    let private: Vec<String> = facts
        .mounts
        .iter()
        .filter(|mount| mount.shared.is_none())
        .map(|mount| mount.point.display().to_string())
        .collect();
    let found = match (root.and_then(|mount| mount.shared), private.split_first()) {
        (Some(group), None) => format!("/ is shared (peer group {group}), and so is all below it"),
        (Some(_), Some((first, rest))) => format!("/ is shared; {first} and {} more mounts below are not", rest.len()),
        (None, _) if root.is_none() => "/ is not a mount point".into(),
        (None, _) => "/ is private".into(),
    };
    let step = Step::nothing(
        "propagation",
        "mount propagation",
        found,
        "bind mounts with rshared or rslave propagation need a shared parent",
    );
    if root.is_none() {
        // A plain chroot: mount(2) would answer EINVAL.
        return vec![
            step.warns("/ is not a mount point and cannot be shared: binds with rshared propagation will fail")
                .hint("start dindctl in a container or with pivot_root, not in a chroot"),
        ];
    }
    if private.is_empty() {
        return vec![step];
    }
    vec![step.does(Action::MakeShared { target: "/".into() }).hint("start the container with --privileged")]
}
