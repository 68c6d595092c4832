/*!
What the kernel was built with, as far as Docker depends on it (the list of moby's `contrib/check-config.sh`).

Its configuration is read where it can be; else a trace that a feature leaves at run time counts.
*/
use std::collections::BTreeMap;

use super::check::{Check, Verdict};

/// One feature.
struct Feature {
    /// Name in the configuration, without `CONFIG_`.
    option: &'static str,
    /// A file or folder that is there when the feature is.
    trace: Option<&'static str>,
    /// What does not work without it.
    without: &'static str,
    /// Whether no container runs without it.
    vital: bool,
}

const fn vital(option: &'static str, trace: Option<&'static str>, without: &'static str) -> Feature {
    Feature { option, trace, without, vital: true }
}

const fn usual(option: &'static str, trace: Option<&'static str>, without: &'static str) -> Feature {
    Feature { option, trace, without, vital: false }
}

const FEATURES: [Feature; 24] = [
    vital("NAMESPACES", Some("/proc/self/ns"), "containers"),
    vital("PID_NS", Some("/proc/self/ns/pid"), "containers"),
    vital("NET_NS", Some("/proc/self/ns/net"), "containers"),
    vital("IPC_NS", Some("/proc/self/ns/ipc"), "containers"),
    vital("UTS_NS", Some("/proc/self/ns/uts"), "containers"),
    vital("CGROUPS", Some("/proc/cgroups"), "containers"),
    vital("POSIX_MQUEUE", Some("/proc/sys/fs/mqueue"), "the /dev/mqueue of each container"),
    vital("VETH", Some("/sys/module/veth"), "bridge networks"),
    vital("BRIDGE", Some("/sys/module/bridge"), "bridge networks"),
    usual("BRIDGE_NETFILTER", Some("/proc/sys/net/bridge"), "isolation between containers of one bridge"),
    usual("USER_NS", Some("/proc/self/ns/user"), "rootless daemons and userns-remap"),
    usual("CGROUP_DEVICE", None, "limits of devices (cgroup v1)"),
    usual("CGROUP_FREEZER", None, "docker pause (cgroup v1)"),
    usual("CGROUP_SCHED", None, "--cpu-shares"),
    usual("CFS_BANDWIDTH", None, "--cpus"),
    usual("CPUSETS", None, "--cpuset-cpus"),
    usual("MEMCG", None, "--memory"),
    usual("CGROUP_PIDS", None, "--pids-limit"),
    usual("BLK_CGROUP", None, "limits of input and output"),
    usual("BLK_DEV_THROTTLING", None, "--device-write-bps and the like"),
    usual("KEYS", Some("/proc/keys"), "a session keyring for each container"),
    usual("SECCOMP_FILTER", Some("/proc/sys/kernel/seccomp/actions_avail"), "the filter of system calls"),
    usual("OVERLAY_FS", Some("/sys/module/overlay"), "the storage driver overlay2"),
    usual("CGROUP_BPF", None, "limits of devices (cgroup v2)"),
];

/// What was read of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Its configuration: `y`, `m` or a value for each option that is set.
    pub config: Option<BTreeMap<String, String>>,
    /// Where that was read.
    pub source: String,
    /// Traces that are there.
    pub traces: Vec<String>,
}

impl Kernel {
    /// Traces to look for.
    pub fn traces() -> impl Iterator<Item = &'static str> {
        FEATURES.iter().filter_map(|feature| feature.trace)
    }

    /// Whether it has a feature; `None` when that cannot be told.
    fn has(&self, feature: &Feature) -> Option<bool> {
        let traced = feature.trace.is_some_and(|trace| self.traces.iter().any(|found| found == trace));
        match &self.config {
            _ if traced => Some(true),
            Some(config) => Some(config.contains_key(&format!("CONFIG_{}", feature.option))),
            None => None,
        }
    }
}

/// Reads a configuration: `CONFIG_X=y`, comments left out.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let set = |line: &str| {
        let (name, value) = line.split_once('=')?;
        name.starts_with("CONFIG_").then(|| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(set).collect()
}

/// One check for all that is there, and one for each feature that is not.
pub fn checks(kernel: &Kernel) -> Vec<Check> {
    let reason = "Docker uses these features of the kernel";
    let named = |want: Option<bool>| FEATURES.iter().filter(move |feature| kernel.has(feature) == want);
    let unknown: Vec<&str> = named(None).map(|feature| feature.option).collect();
    let present = named(Some(true)).count();
    let summary = if unknown.is_empty() {
        Check::ok(
            "kernel.config",
            format!("{present} of {} features are there ({})", FEATURES.len(), kernel.source),
            reason,
        )
    } else {
        let finding = format!("{present} features show; whether it has {} cannot be read here", unknown.join(", "));
        Check::ok("kernel.config", finding, reason)
            .is(Verdict::Skipped)
            .hint("mount the host's /boot/config-$(uname -r), or look at it there")
    };
    let missing = named(Some(false)).map(|feature| {
        let Feature { option, without, vital, .. } = feature;
        let finding = format!("CONFIG_{option} is missing: there will be no {without}");
        let verdict = if *vital { Verdict::Fail } else { Verdict::Warn };
        let id = format!("kernel.config.{}", option.to_lowercase());
        Check::ok(id, finding, reason).is(verdict).hint("use a kernel of a distribution")
    });
    std::iter::once(summary).chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> BTreeMap<String, String> {
        FEATURES.iter().map(|feature| (format!("CONFIG_{}", feature.option), "y".to_owned())).collect()
    }

    fn kernel(config: Option<BTreeMap<String, String>>) -> Kernel {
        Kernel { config, source: "/proc/config.gz".into(), traces: Vec::new() }
    }

    #[test]
    fn a_whole_kernel_is_fine() {
        let checks = checks(&kernel(Some(all())));
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Ok));
    }

    #[test]
    fn what_no_container_runs_without_is_a_failure() {
        let mut config = all();
        config.remove("CONFIG_VETH");
        config.remove("CONFIG_MEMCG");
        let found: Vec<(String, Verdict)> =
            checks(&kernel(Some(config))).into_iter().skip(1).map(|check| (check.id, check.verdict)).collect();
        assert_eq!(
            found,
            [("kernel.config.veth".to_owned(), Verdict::Fail), ("kernel.config.memcg".to_owned(), Verdict::Warn)]
        );
    }

    #[test]
    fn without_a_configuration_traces_count_and_the_rest_is_said_to_be_unknown() {
        let traces = vec!["/proc/self/ns/pid".to_owned()];
        let checks = checks(&Kernel { traces, ..Kernel::default() });
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Skipped));
        assert!(checks[0].finding.starts_with("1 features show") && checks[0].finding.contains("MEMCG"), "{checks:?}");
        assert!(!checks[0].finding.contains("PID_NS"), "{checks:?}");
    }

    #[test]
    fn a_configuration_is_read() {
        let config = parse("# CONFIG_X is not set\nCONFIG_VETH=m\nCONFIG_HZ=250\n\nother=1\n");
        assert_eq!(
            config.into_iter().collect::<Vec<_>>(),
            [("CONFIG_HZ".to_owned(), "250".to_owned()), ("CONFIG_VETH".to_owned(), "m".to_owned())]
        );
    }
}
