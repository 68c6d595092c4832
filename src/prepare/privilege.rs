/*!
The capability pre-flight: without it a container that was started without `--privileged` fails much later, in words
like "mount: permission denied (are you root?)" (issue 149 of docker-library/docker).
*/
use caps::Capability;

use super::facts::Facts;
use super::plan::Step;
use super::wants::Wants;

/// Without these no container can be started at all.
const VITAL: [Capability; 2] = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN];

/// One step.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let missing = facts.capabilities.missing();
    let limits = facts.capabilities.has(Capability::CAP_SYS_RESOURCE);
    let found = match (missing.is_empty(), limits) {
        (true, true) => "all that the engine needs".to_string(),
        // Engines from 23 on ask only for what is there; older ones fail on it in nested privileged containers.
        (true, false) => {
            "all that the engine needs; CAP_SYS_RESOURCE is missing, so hard limits cannot be raised".into()
        }
        (false, _) => format!("missing: {}", names(&missing)),
    };
    let step =
        Step::nothing("privilege", "capabilities", found, "the engine mounts, makes devices and sets networks up");
    if missing.is_empty() {
        return vec![step];
    }
    let step = step.hint("start this container with --privileged (compose: privileged: true)");
    let message = format!("this container lacks {}, which the engine needs to start containers", names(&missing));
    let vital = missing.iter().any(|capability| VITAL.contains(capability));
    vec![if vital && wants.daemon { step.fails(message) } else { step.warns(message) }]
}

fn names(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_as_a_sentence() {
        use Capability::{CAP_MKNOD, CAP_NET_ADMIN, CAP_SYS_ADMIN};
        assert_eq!(names(&[]), "");
        assert_eq!(names(&[CAP_MKNOD]), "CAP_MKNOD");
        assert_eq!(names(&[CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_MKNOD]), "CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_MKNOD");
    }
}
