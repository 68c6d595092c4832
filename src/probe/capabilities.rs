/*!
The capabilities of this process, from `/proc/PID/status` (proc(5)): readable without a system call, in any root.
*/
use std::collections::BTreeSet;
use std::path::Path;

use caps::Capability;

use super::{ProbeError, Roots, read};

/// What dockerd, containerd and runc need to start a container with a network (capabilities(7)). `docker run` gives the first two
/// with `--privileged` only; the others are those that Docker gives every container, and runc can give nobody what it has
/// not itself ("unable to apply caps").
pub const NEEDED: [Capability; 16] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_MKNOD,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETFCAP,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_AUDIT_WRITE,
];

/// The effective and the bounding set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `CapEff`: what this process may do now.
    pub effective: BTreeSet<String>,
    /// `CapBnd`: what a program started by root can get at most.
    pub bounding: BTreeSet<String>,
}

impl Capabilities {
    /// Whether `capability` is in force.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.contains(&capability.to_string())
    }

    /// Which of [`NEEDED`] are not in force.
    pub fn missing(&self) -> Vec<Capability> {
        NEEDED.into_iter().filter(|capability| !self.has(*capability)).collect()
    }
}

/// The capabilities of the own process.
pub fn own(roots: &Roots) -> Result<Capabilities, ProbeError> {
    let path = roots.own.join("status");
    parse(&read(&path)?, &path)
}

/// Reads the sets from a `status` file (proc(5)); `path` is for errors.
pub fn parse(text: &str, path: &Path) -> Result<Capabilities, ProbeError> {
    let set = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let bits = value.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        bits.map(names).ok_or_else(|| ProbeError::Parse {
            path: path.to_owned(),
            what: "a set of capabilities is missing",
            line: key.into(),
        })
    };
    Ok(Capabilities { effective: set("CapEff:")?, bounding: set("CapBnd:")? })
}

fn names(bits: u64) -> BTreeSet<String> {
    caps::all().into_iter().filter(|capability| bits & capability.bitmask() != 0).map(|it| it.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: &str) -> Result<Capabilities, ProbeError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        std::fs::write(folder.path().join("proc/self/status"), status).unwrap();
        own(&Roots::below(folder.path()))
    }

    #[test]
    fn dockers_default_set_lacks_what_a_daemon_needs() {
        // CapEff of `docker run` without `--privileged`.
        let found = of("Name:\tx\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n").unwrap();
        assert_eq!(found.missing(), [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN]);
        assert!(found.has(Capability::CAP_MKNOD));
    }

    #[test]
    fn a_privileged_container_misses_nothing() {
        let found = of("CapEff:\t000001fffeffffff\nCapBnd:\t000001ffffffffff\n").unwrap();
        assert!(found.missing().is_empty());
        assert!(!found.has(Capability::CAP_SYS_RESOURCE) && found.bounding.contains("CAP_SYS_RESOURCE"));
    }

    #[test]
    fn the_kernels_answer_for_this_process_is_the_same_as_capgets() {
        let told = caps::read(None, caps::CapSet::Effective).unwrap();
        let told: BTreeSet<String> = told.into_iter().map(|capability| capability.to_string()).collect();
        assert_eq!(own(&Roots::system()).unwrap().effective, told);
    }

    #[test]
    fn a_status_without_the_sets_is_an_error() {
        assert!(of("Name:\tx\nCapEff:\tzz\n").unwrap_err().to_string().contains("CapEff:"));
    }
}
