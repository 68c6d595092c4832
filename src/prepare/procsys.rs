/*!
`/proc/sys`, which an engine mounts read-only in a container without `--privileged`. dockerd writes settings of its bridges there and
does not start when it cannot; whoever may mount can make it writable again.
*/
use std::path::Path;

use caps::Capability;

use super::facts::Facts;
use super::plan::{Action, Step};
use super::wants::Wants;
use crate::probe::mountinfo::at;

const TARGET: &str = "/proc/sys";

/// One step, where something is to be said.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let Some(mount) = at(&facts.mounts, Path::new(TARGET)).filter(|mount| mount.read_only()) else {
        return Vec::new();
    };
    let step = Step::nothing(
        "proc.sys",
        "settings of the kernel",
        format!("{TARGET} is mounted read-only"),
        "dockerd turns forwarding on and sets its bridges up there",
    )
    .hint("start the container with --security-opt systempaths=unconfined");
    if wants.rootless || !facts.capabilities.has(Capability::CAP_SYS_ADMIN) {
        // Said with everything else that is missing.
        return vec![step];
    }
    vec![step.does(Action::RemountReadWrite { target: TARGET.into(), options: mount.options.clone(), fresh: None })]
}
