/*!
What the last words of a daemon mean: known causes of death, named, with what to do about them.

The patterns are the messages of dockerd 20.10 to 29, containerd 1.6 to 2.x and the kernel's own words in them.
*/

/// A recognised cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What is wrong, in one clause.
    pub cause: &'static str,
    /// What to do.
    pub hint: &'static str,
    /// Whether starting it again cannot help.
    pub permanent: bool,
}

/// One row: all words must stand in the same line.
struct Pattern {
    words: &'static [&'static str],
    diagnosis: Diagnosis,
}

const fn permanent(words: &'static [&'static str], cause: &'static str, hint: &'static str) -> Pattern {
    Pattern { words, diagnosis: Diagnosis { cause, hint, permanent: true } }
}

const fn passing(words: &'static [&'static str], cause: &'static str, hint: &'static str) -> Pattern {
    Pattern { words, diagnosis: Diagnosis { cause, hint, permanent: false } }
}

/// In the order of trust: the first match in the newest line that matches at all is the answer.
const PATTERNS: &[Pattern] = &[
    passing(
        &["no space left on device"],
        "the disk is full",
        "free space on the volume of /var/lib/docker (`docker system df`, `docker system prune`) or give it a larger one",
    ),
    passing(
        &["disk quota exceeded"],
        "the disk quota is used up",
        "free space on the volume of /var/lib/docker or raise its quota",
    ),
    permanent(
        &["unknown flag"],
        "dockerd does not know an argument",
        "correct the arguments; `dockerd --help` lists them",
    ),
    permanent(
        &["unknown shorthand flag"],
        "dockerd does not know an argument",
        "correct the arguments; `dockerd --help` lists them",
    ),
    permanent(
        &["invalid argument", "for \"--"],
        "dockerd refuses the value of an argument",
        "correct the arguments; `dockerd --help` lists them",
    ),
    permanent(
        &["specified both as a flag and in the configuration file"],
        "an option stands on the command line and in daemon.json",
        "keep it in one of the two places",
    ),
    permanent(
        &["unable to configure the Docker daemon with file"],
        "daemon.json is refused",
        "correct the file; `dockerd --validate --config-file FILE` checks it",
    ),
    permanent(
        &["process with PID", "is still running"],
        "another dockerd runs already",
        "stop the other one, or give this one a data root, exec root and pid file of its own",
    ),
    permanent(
        &["prior storage driver"],
        "the data root was written with another storage driver",
        "set that driver in daemon.json (\"storage-driver\") or use a fresh volume",
    ),
    permanent(
        &["several valid graphdrivers"],
        "the data root has data of several storage drivers, between which dockerd does not choose",
        "name one by DINDCTL_STORAGE_DRIVER, and remove the folders of the others",
    ),
    permanent(
        &["error initializing graphdriver", "driver not supported"],
        "the storage driver does not work on this file system, or is unknown to this engine",
        "mount a volume (ext4 or xfs) at /var/lib/docker, as overlay on overlay is not possible, or leave the driver out, or name vfs by DINDCTL_STORAGE_DRIVER",
    ),
    permanent(
        &["error initializing graphdriver"],
        "the storage driver does not work on this file system",
        "mount a volume (ext4 or xfs) at /var/lib/docker; overlay on overlay is not possible",
    ),
    permanent(
        &["Devices cgroup isn't mounted"],
        "the cgroup v1 devices hierarchy is missing",
        "run the container with --privileged and without mounting over /sys/fs/cgroup",
    ),
    permanent(
        &["iptables", "Permission denied"],
        "the firewall cannot be changed",
        "run the container with --privileged (CAP_NET_ADMIN is missing)",
    ),
    permanent(
        &["iptables", "you must be root"],
        "the firewall cannot be changed",
        "run the container with --privileged (CAP_NET_ADMIN is missing)",
    ),
    permanent(
        &["failed to create NAT chain"],
        "iptables does not work with this kernel",
        "choose the other back end with DOCKER_IPTABLES_LEGACY=1, or load its kernel modules on the host",
    ),
    permanent(
        &["iptables not found"],
        "iptables is not installed",
        "install the iptables package in the image, or pass --iptables=false",
    ),
    permanent(
        &["address already in use"],
        "an address is taken",
        "stop what listens there, or choose another with DINDCTL_LISTEN",
    ),
    passing(
        &["timeout waiting for containerd to start"],
        "containerd did not start in time",
        "look at its lines above; a slow or full disk is the usual reason",
    ),
    permanent(&["operation not permitted"], "a privilege is missing", "run the container with --privileged"),
    permanent(
        &["read-only file system"],
        "a file system is read-only",
        "mount it writable; --privileged makes /sys/fs/cgroup so",
    ),
];

/// Finds the cause in the last lines of a program, newest first.
pub fn diagnose<S: AsRef<str>>(lines: &[S]) -> Option<Diagnosis> {
    // Warnings tell of things that the daemon survives.
    let told = |line: &&S| !line.as_ref().contains("level=warning") && !line.as_ref().contains("level=info");
    lines.iter().rev().filter(told).find_map(|line| {
        let line = line.as_ref();
        PATTERNS
            .iter()
            .find(|pattern| pattern.words.iter().all(|word| line.contains(word)))
            .map(|pattern| pattern.diagnosis.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_last_words_are_recognised() {
        let cases = [
            ("failed to start daemon: mkdir /var/lib/docker/tmp: no space left on device", "the disk is full", false),
            (
                "failed to start daemon: error initializing graphdriver: driver not supported",
                "the storage driver does not work on this file system, or is unknown to this engine",
                true,
            ),
            (
                "failed to start daemon: error initializing graphdriver: /var/lib/docker contains several valid graphdrivers: overlay2, btrfs; cleanup or explicitly choose storage driver (-s <DRIVER>)",
                "the data root has data of several storage drivers, between which dockerd does not choose",
                true,
            ),
            (
                "failed to start daemon, ensure docker is not running or delete /var/run/docker.pid: process with PID 71 is still running",
                "another dockerd runs already",
                true,
            ),
            (
                "unable to configure the Docker daemon with file /etc/docker/daemon.json: the following directives are specified both as a flag and in the configuration file: hosts",
                "an option stands on the command line and in daemon.json",
                true,
            ),
            (
                "failed to start daemon: Error initializing network controller: error obtaining controller instance: failed to register \"bridge\" driver: failed to create NAT chain DOCKER: iptables failed",
                "iptables does not work with this kernel",
                true,
            ),
        ];
        for (line, cause, permanent) in cases {
            let found = diagnose(&["level=info msg=\"Starting up\"", line]).unwrap();
            assert_eq!((found.cause, found.permanent), (cause, permanent), "{line}");
        }
    }

    #[test]
    fn unknown_words_and_warnings_name_no_cause() {
        assert_eq!(diagnose(&["something new"]), None);
        assert_eq!(diagnose(&["level=warning msg=\"x: operation not permitted\""]), None);
    }
}
