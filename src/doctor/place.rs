/*!
The kind of place, where that alone decides something.
*/
use super::check::{Check, Verdict};
use super::sight::Sight;
use crate::probe::host::Kind;

/// One check.
pub fn checks(sight: &Sight) -> Vec<Check> {
    let host = &sight.host;
    let layers: Vec<String> = host.layers.iter().map(|layer| layer.evidence.clone()).collect();
    let known = if layers.is_empty() { String::new() } else { format!(" ({})", layers.join("; ")) };
    let finding = format!("{}, kernel {}{known}", host.name(), host.kernel);
    let check = Check::ok("host", finding, "some places have rules of their own");
    vec![if host.is(Kind::Wsl1) {
        check.is(Verdict::Fail).hint("convert the distribution: wsl --set-version NAME 2")
    } else if host.is(Kind::Gvisor) {
        check.is(Verdict::Warn).hint(
            "gVisor has no complete packet filter: start the sandbox with --net-raw, and the daemon with --iptables=false \
             --ip6tables=false; addresses have to be translated by hand",
        )
    } else {
        check
    }]
}
