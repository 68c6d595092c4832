/*!
Whether nested containers get an `AppArmor` profile of their own.

dockerd and containerd load theirs where the kernel has `AppArmor`, unless `container` is in the environment. In a nested daemon the
load fails for want of the policy's files or of the parser, and every container with it (issue 36952 of moby).
*/
use super::check::{Check, Verdict};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apparmor {
    /// Whether the kernel enforces it.
    pub enabled: bool,
    /// Whether profiles can be handed to the kernel from here.
    pub loadable: bool,
    /// Whether the program that compiles them is there.
    pub parser: bool,
}

/// One check.
pub fn checks(found: &Apparmor) -> Vec<Check> {
    let check = |finding: &str| Check::ok("apparmor", finding, "a profile confines nested containers");
    vec![match found {
        Apparmor { enabled: false, .. } => check("the kernel has no AppArmor, or it is off"),
        Apparmor { loadable: true, parser: true, .. } => check(
            "profiles could be loaded from here; DINDCTL_APPARMOR=auto tries one, and gives nested containers theirs",
        ),
        Apparmor { loadable: true, .. } => {
            check("profiles could be loaded from here, and apparmor_parser is not installed")
                .is(Verdict::Warn)
                .hint("install apparmor in the image")
        }
        Apparmor { .. } => check(
            "profiles cannot be loaded from here; the daemons are told so (container=docker), and nested containers have none of \
             their own",
        ),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_parser_can_be_mended_here() {
        let verdict = |enabled, loadable, parser| checks(&Apparmor { enabled, loadable, parser })[0].verdict;
        assert_eq!(verdict(false, true, true), Verdict::Ok);
        assert_eq!(verdict(true, true, true), Verdict::Ok);
        assert_eq!(verdict(true, false, true), Verdict::Ok);
        assert_eq!(verdict(true, true, false), Verdict::Warn);
    }
}
