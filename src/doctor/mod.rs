/*!
What is wrong here, and how to mend it: the plan's own steps judged, and around them what no step can change: the kernel, its
settings, the programs, the devices.

[`sight`] reads, the other files judge plain data.
*/

pub mod apparmor;
pub mod check;
pub mod devices;
pub mod docs;
pub mod kernel;
pub mod place;
pub mod programs;
pub mod release;
pub mod running;
pub mod sight;
pub mod steps;
pub mod sysctl;

use check::Check;
use sight::{Running, Sight};

/// All checks, in the order of the report.
pub fn examine(sight: &Sight) -> Vec<Check> {
    [
        place::checks(sight),
        running::checks(sight),
        steps::checks(&sight.plan, matches!(sight.running, Running::Supervised { .. })),
        kernel::checks(&sight.kernel),
        sysctl::checks(&sight.sysctl, sight.rootless, sight.plan.step("limit.keys").is_some()),
        apparmor::checks(&sight.apparmor),
        devices::checks(&sight.devices, sight.rootless),
        programs::checks(&sight.programs),
    ]
    .into_iter()
    .flatten()
    .collect()
}
