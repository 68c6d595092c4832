/*!
Settings of the kernel that make containers fail in ways that do not name them.
*/
use std::collections::BTreeMap;

use super::check::{Check, Verdict};

/// What to read, below `/proc/sys`.
pub const NAMES: [&str; 5] = [
    "net/ipv4/ip_forward",
    "net/bridge/bridge-nf-call-iptables",
    "kernel/keys/root_maxkeys",
    "user/max_user_namespaces",
    "fs/inotify/max_user_instances",
];

/// Keys for root: each container takes one, and the kernel's old default of 200 ends the 200th (moby's check-config.sh asks for
/// 10000).
const KEYS: u64 = 10_000;
/// Instances for each user; a nested daemon and editors in its containers share those of root.
const INSTANCES: u64 = 128;

/// The checks. `raises_keys` says that `entrypoint` would raise the quota of keys. A setting that is not there is one of a feature that is not there, or not in this namespace.
pub fn checks(values: &BTreeMap<String, u64>, rootless: bool, raises_keys: bool) -> Vec<Check> {
    let [forward, bridge, keys, namespaces, instances] = NAMES;
    let value = |name: &str| values.get(name).copied();
    let shown = |name: &str| value(name).map_or_else(|| "is not there".to_owned(), |value| format!("is {value}"));
    let dotted = |name: &str| name.replace('/', ".");
    let check = |id: &str, name: &str, reason: &str, bad: Option<Verdict>, hint: &str| {
        let check = Check::ok(id, format!("{} {}", dotted(name), shown(name)), reason);
        match bad {
            Some(verdict) => check.is(verdict).hint(hint),
            None => check,
        }
    };
    let warn = |bad: bool| bad.then_some(Verdict::Warn);
    let below = |name: &str, least: u64| warn(value(name).is_some_and(|value| value < least));
    vec![
        // dockerd turns it on by itself where it may.
        check("sysctl.ip_forward", forward, "nested containers reach the outside through this machine", None, ""),
        check(
            "sysctl.bridge",
            bridge,
            "the packet filter separates containers of one bridge only with it",
            warn(value(bridge) == Some(0)),
            "on the host: sysctl -w net.bridge.bridge-nf-call-iptables=1",
        ),
        check(
            "sysctl.keys",
            keys,
            "each container takes a keyring of root's; without one it fails with \"disk quota exceeded\"",
            below(keys, KEYS).filter(|_| !raises_keys),
            "on the host: sysctl -w kernel.keys.root_maxkeys=1000000 kernel.keys.root_maxbytes=25000000",
        ),
        check(
            "sysctl.namespaces",
            namespaces,
            "rootless daemons and userns-remap make user namespaces",
            (value(namespaces) == Some(0)).then_some(if rootless { Verdict::Fail } else { Verdict::Warn }),
            "on the host: sysctl -w user.max_user_namespaces=28633",
        ),
        check(
            "sysctl.inotify",
            instances,
            "programs that watch files fail with \"too many open files\" when root's instances are used up",
            below(instances, INSTANCES),
            "on the host: sysctl -w fs.inotify.max_user_instances=1024",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn verdict(id: &str, name: &str, value: u64, rootless: bool) -> Verdict {
        let values = [(name.to_owned(), value)].into();
        checks(&values, rootless, false).into_iter().find(|check| check.id == id).unwrap().verdict
    }

    #[rstest]
    #[case("sysctl.keys", NAMES[2], 200, Verdict::Warn)]
    #[case("sysctl.keys", NAMES[2], 1_000_000, Verdict::Ok)]
    #[case("sysctl.bridge", NAMES[1], 0, Verdict::Warn)]
    #[case("sysctl.bridge", NAMES[1], 1, Verdict::Ok)]
    #[case("sysctl.inotify", NAMES[4], 64, Verdict::Warn)]
    #[case("sysctl.ip_forward", NAMES[0], 0, Verdict::Ok)]
    fn values_are_judged(#[case] id: &str, #[case] name: &str, #[case] value: u64, #[case] want: Verdict) {
        assert_eq!(verdict(id, name, value, false), want);
    }

    #[test]
    fn user_namespaces_are_vital_for_users() {
        assert_eq!(verdict("sysctl.namespaces", NAMES[3], 0, true), Verdict::Fail);
        assert_eq!(verdict("sysctl.namespaces", NAMES[3], 0, false), Verdict::Warn);
    }

    #[test]
    fn what_is_not_there_is_no_fault() {
        let few = [(NAMES[2].to_owned(), 200)].into();
        assert!(checks(&few, false, true).iter().all(|check| check.verdict == Verdict::Ok), "entrypoint raises it");
        assert!(checks(&BTreeMap::new(), false, false).iter().all(|check| check.verdict == Verdict::Ok));
    }
}
