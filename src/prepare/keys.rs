/*!
Keys of root. runc makes a session keyring for each container, all of them are root's, and with the quota of old kernels and
some distributions the 200th container of the machine fails with "disk quota exceeded" (issue 332 of nestybox/sysbox).
*/
use caps::Capability;

use super::facts::Facts;
use super::plan::{Action, Step};
use super::wants::Wants;

/// Keys, and bytes in them: less is few. moby's check-config.sh asks for 10000 keys; a session keyring takes some 20 bytes.
const FEW: [u64; 2] = [10_000, 250_000];
/// The kernel's own defaults since 3.17.
const USUAL: [u64; 2] = [1_000_000, 25_000_000];

/// A step for each quota that is low.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    // The quota is that of the machine's own root, and nobody else may change it.
    let may =
        wants.daemon && !wants.rootless && !facts.user_namespace && facts.capabilities.has(Capability::CAP_SYS_ADMIN);
    if !may {
        return Vec::new();
    }
    let quotas =
        [("limit.keys", "root_maxkeys", facts.root_keys), ("limit.keys.bytes", "root_maxbytes", facts.root_key_bytes)];
    let step = |((id, name, value), (few, usual)): ((&str, &str, Option<u64>), (u64, u64))| {
        let value = value.filter(|value| *value < few)?;
        let found = format!("kernel.keys.{name} is {value}");
        let step = Step::nothing(id, "keyrings of containers", found, "each container takes a keyring of root's");
        let write = Action::Write { path: format!("/proc/sys/kernel/keys/{name}").into(), value: usual.to_string() };
        Some(step.does(write).hint(format!("on the host: sysctl -w kernel.keys.{name}={usual}")))
    };
    quotas.into_iter().zip(FEW.into_iter().zip(USUAL)).filter_map(step).collect()
}
