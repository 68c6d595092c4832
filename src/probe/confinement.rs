/*!
What an engine puts around a container that it starts without `--privileged`, besides fewer capabilities: a filter of system
calls, and the profile of a security module.
*/
use nix::errno::Errno;

use super::{Roots, read};
use crate::sys::keyring;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// What a filter of system calls answers to keyctl(2), which Docker's default one forbids; `None` when it lets it pass.
    pub keyctl: Option<Errno>,
    /// The `AppArmor` profile that is enforced on this process.
    pub apparmor: Option<String>,
    /// The `SELinux` type of this process.
    pub selinux: Option<String>,
}

impl Confinement {
    /// The `AppArmor` profile, where it is one that an engine gives by default; all of these forbid mounts.
    pub fn default_profile(&self) -> Option<&str> {
        let profile = self.apparmor.as_deref()?;
        let known = matches!(profile, "docker-default" | "cri-containerd.apparmor.d")
            || profile.starts_with("containers-default-")
            || profile.starts_with("crio-default");
        known.then_some(profile)
    }

    /// Whether the `SELinux` type is the one of ordinary containers.
    pub fn ordinary_type(&self) -> bool {
        self.selinux.as_deref() == Some("container_t")
    }
}

/// Looks.
pub fn look(roots: &Roots) -> Confinement {
    let label = |name: &str| read(&roots.own.join("attr").join(name)).ok();
    let apparmor = label("apparmor/current").or_else(|| label("current")).and_then(|text| profile(&text));
    let selinux = label("current").and_then(|text| selinux_type(&text));
    // A kernel without keyrings says ENOSYS, and runc does without; others have answers of their own.
    let keyctl = keyring::usable().err().filter(|errno| matches!(errno, Errno::EPERM | Errno::EACCES));
    Confinement { keyctl, apparmor, selinux }
}

/// `docker-default (enforce)`; `unconfined` is none, and one that only complains keeps nothing back.
fn profile(text: &str) -> Option<String> {
    let text = text.trim_end_matches(['\0', '\n']);
    text.strip_suffix(" (enforce)").map(str::to_owned)
}

/// `system_u:system_r:container_t:s0:c1,c2`.
fn selinux_type(text: &str) -> Option<String> {
    let mut fields = text.trim_end_matches(['\0', '\n']).split(':');
    let (_user, role, kind, level) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    (role.ends_with("_r") && level.starts_with('s')).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Confinement {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join("proc/self/attr").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        look(&Roots::below(folder.path()))
    }

    #[rstest]
    #[case::docker("current", "docker-default (enforce)\n", Some("docker-default"))]
    #[case::stacked("apparmor/current", "cri-containerd.apparmor.d (enforce)\n", Some("cri-containerd.apparmor.d"))]
    #[case::podman("current", "containers-default-0.61.0 (enforce)", Some("containers-default-0.61.0"))]
    #[case::own("current", "dind (enforce)\n", None)]
    #[case::complaining("current", "docker-default (complain)\n", None)]
    #[case::free("current", "unconfined\n", None)]
    #[case::selinux("current", "system_u:system_r:container_t:s0:c1,c2\0", None)]
    fn profiles_that_engines_give_are_known(#[case] name: &str, #[case] text: &str, #[case] want: Option<&str>) {
        assert_eq!(found(&[(name, text)]).default_profile(), want);
    }

    #[rstest]
    #[case("system_u:system_r:container_t:s0:c1,c2\0", true)]
    #[case("system_u:system_r:spc_t:s0\0", false)]
    #[case("unconfined\n", false)]
    #[case("a:b:container_t:d\n", false)]
    fn ordinary_containers_are_known_by_their_type(#[case] text: &str, #[case] want: bool) {
        assert_eq!(found(&[("current", text)]).ordinary_type(), want);
    }

    #[test]
    fn without_a_security_module_there_is_none() {
        let none = found(&[]);
        assert_eq!((none.apparmor, none.selinux), (None, None));
    }
}
