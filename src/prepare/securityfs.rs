/*!
securityfs on `/sys/kernel/security`, where engines look for `AppArmor`. Its absence harms nothing.
*/
use std::path::Path;

use super::facts::Facts;
use super::plan::{Action, Step};
use crate::probe::mountinfo::at;

const TARGET: &str = "/sys/kernel/security";

/// One step.
pub fn steps(facts: &Facts) -> Vec<Step> {
    let mounted = at(&facts.mounts, Path::new(TARGET)).is_some();
    let found = match (facts.securityfs_dir, mounted) {
        (_, true) => format!("mounted on {TARGET}"),
        (true, false) => format!("{TARGET} is there and nothing is mounted on it"),
        (false, false) => format!("{TARGET} does not exist: the kernel has no security modules"),
    };
    let step = Step::nothing("securityfs", "securityfs", found, "the engine looks for security modules there");
    if mounted || !facts.securityfs_dir {
        return vec![step];
    }
    let action = Action::Mount {
        source: "securityfs".into(),
        target: TARGET.into(),
        fstype: "securityfs".into(),
        options: ["nosuid", "nodev", "noexec"].map(String::from).into(),
        data: String::new(),
    };
    vec![step.does(action).hint("harmless: only AppArmor and SELinux inspection needs it")]
}
