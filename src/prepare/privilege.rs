/*!
The capability pre-flight: without it a container that was started without `--privileged` fails much later, in words
like "mount: permission denied (are you root?)" (issue 149 of docker-library/docker).
*/
use std::path::Path;

use caps::Capability;

use super::facts::Facts;
use super::plan::Step;
use super::wants::Wants;
use crate::probe::cgroup::CGROUP_ROOT;
use crate::probe::confinement::Confinement;
use crate::probe::mountinfo::{Mount, at};

/// Without these no container can be started at all.
const VITAL: [Capability; 2] = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN];

/// One step.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let missing = facts.capabilities.missing();
    let limits = facts.capabilities.has(Capability::CAP_SYS_RESOURCE);
    let kept_back = kept_back(&facts.confinement);
    let found = match (missing.is_empty(), limits) {
        (true, true) => "all that the engine needs".to_string(),
        // Engines from 23 on ask only for what is there; older ones fail on it in nested privileged containers.
        (true, false) => {
            "all that the engine needs; CAP_SYS_RESOURCE is missing, so hard limits cannot be raised".into()
        }
        (false, _) => format!("missing: {}", names(&missing)),
    };
    let found = std::iter::once(found).chain(kept_back.iter().cloned()).collect::<Vec<_>>().join("; ");
    let step =
        Step::nothing("privilege", "capabilities", found, "the engine mounts, makes devices and sets networks up");
    if missing.is_empty() && kept_back.is_empty() {
        return vec![step];
    }
    let step = step.hint(format!(
        "start this container with --privileged (compose: privileged: true), or with the least that will do: {}",
        least(&missing, &facts.confinement).join(" ")
    ));
    if missing.is_empty() {
        let message = format!("{}: no nested container will start", kept_back.join("; "));
        return vec![step.warns(message)];
    }
    let mut besides = kept_back;
    besides.extend(read_only(facts));
    let besides = if besides.is_empty() { String::new() } else { format!("; besides, {}", besides.join("; ")) };
    let message =
        format!("this container lacks {}, which the engine needs to start containers{besides}", names(&missing));
    let vital = missing.iter().any(|capability| VITAL.contains(capability));
    vec![if vital && wants.daemon { step.fails(message) } else { step.warns(message) }]
}

/// What keeps nested containers from starting although the capabilities are there.
fn kept_back(found: &Confinement) -> Vec<String> {
    let keyctl = found.keyctl.map(|errno| format!("seccomp forbids keyctl ({errno:?}), which runc needs"));
    let profile = found.default_profile().map(|name| format!("the AppArmor profile {name} forbids mounts"));
    let kind = found.ordinary_type().then(|| "the SELinux type container_t forbids mounts".to_owned());
    keyctl.into_iter().chain(profile).chain(kind).collect()
}

/// Mounts that dindctl makes writable itself where it may.
fn read_only(facts: &Facts) -> Option<String> {
    let settings = at(&facts.mounts, Path::new("/proc/sys")).is_some_and(Mount::read_only).then_some("/proc/sys");
    let group = |mount: &Mount| mount.fstype.starts_with("cgroup") && mount.read_only();
    let groups = facts.mounts.iter().any(group).then_some(CGROUP_ROOT);
    let paths: Vec<&str> = settings.into_iter().chain(groups).collect();
    let are = if paths.len() == 1 { "is" } else { "are" };
    (!paths.is_empty()).then(|| format!("{} {are} read-only, which CAP_SYS_ADMIN would mend", list(&paths)))
}

/// Options of `docker run`. Which of them are needed was found by trying, one left out after the other, with engine 26.1 on
/// cgroup v1; read-only mounts are no reason for any, as they are made writable by the steps that need them.
fn least(missing: &[Capability], found: &Confinement) -> Vec<String> {
    let capability = |name: &Capability| format!("--cap-add {}", name.to_string().trim_start_matches("CAP_"));
    let security = [
        (found.keyctl.is_some(), "seccomp=unconfined"),
        (found.default_profile().is_some(), "apparmor=unconfined"),
        (found.ordinary_type(), "label=disable"),
    ];
    let security = security.into_iter().filter(|(needed, _)| *needed).map(|(_, name)| format!("--security-opt {name}"));
    missing.iter().map(capability).chain(security).collect()
}

fn names(capabilities: &[Capability]) -> String {
    list(&capabilities.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// `a, b and c`.
fn list<T: AsRef<str>>(parts: &[T]) -> String {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts.split_last() {
        Some((last, [])) => (*last).to_owned(),
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

    #[test]
    fn the_least_options_are_those_for_what_is_missing() {
        use Capability::{CAP_NET_ADMIN, CAP_SYS_ADMIN};
        let docker = Confinement {
            keyctl: Some(nix::errno::Errno::EPERM),
            apparmor: Some("docker-default".into()),
            selinux: None,
        };
        assert_eq!(
            least(&[CAP_SYS_ADMIN, CAP_NET_ADMIN], &docker).join(" "),
            "--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
        );
        let fedora = Confinement { selinux: Some("container_t".into()), ..Confinement::default() };
        assert_eq!(least(&[], &fedora), ["--security-opt label=disable"]);
        assert_eq!(kept_back(&docker).len(), 2);
        assert!(kept_back(&Confinement::default()).is_empty());
    }
}
