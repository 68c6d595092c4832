/*!
Which packet filter dockerd works with. Existing rules decide first, as far as their filter works; then what works at
all, `nf_tables` before the older filter, as everything else on today's machines has it.
*/
use std::path::{Path, PathBuf};

use super::plan::{Action, Step};
use super::wants::{Told, Wants};
use crate::probe::firewall::{Choice, Firewall, LEGACY_FOLDER, Problem, Trial};

/// The programs that an older filter's folder has.
const LINKS: [&str; 6] =
    ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];

/// A filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// `nf_tables`, by an `iptables` that speaks to it.
    Nft,
    /// `ip_tables`.
    Legacy,
}

/// Chooses, and says why; `None` when nothing works.
pub fn choose(found: &Firewall) -> (Option<Filter>, &'static str) {
    let works = |trial: Option<Trial>| trial.is_some_and(|trial| trial.v4.is_ok());
    match found.choice {
        Choice::Legacy => (Some(Filter::Legacy), "DOCKER_IPTABLES_LEGACY asks for it"),
        Choice::Nft => (Some(Filter::Nft), "DOCKER_IPTABLES_LEGACY is set and empty"),
        Choice::Any if found.legacy_rules && works(found.legacy) => {
            (Some(Filter::Legacy), "it has rules already, and two filters at once get into each other's way")
        }
        Choice::Any if works(found.nft) => (Some(Filter::Nft), "it can do what dockerd needs"),
        Choice::Any if works(found.legacy) => (Some(Filter::Legacy), "nf_tables cannot do what dockerd needs"),
        Choice::Any => (None, "no filter of this kernel can do what dockerd needs"),
    }
}

/// The steps, where dockerd makes rules by iptables.
pub fn steps(found: &Firewall, wants: &Wants) -> Vec<Step> {
    if found.gvisor {
        return gvisor(&wants.told);
    }
    let (filter, reason) = choose(found);
    let step = Step::nothing("firewall", "packet filter", describe(found), reason);
    if found.programs.iptables.is_none() {
        let cause = "there is no iptables, which dockerd needs for the network of containers";
        let hint = "install iptables in the image, or pass --iptables=false (containers then have no way out, and no published ports)";
        return vec![step.fails(cause).hint(hint)];
    }
    let (trial, step) = match filter {
        None => (None, step.warns(format!("dockerd will hardly start: {}", failures(found))).hint(MODULES).required()),
        Some(Filter::Nft) => (found.nft, step),
        Some(Filter::Legacy) => (found.legacy, legacy(step, found, wants)),
    };
    let mut steps = vec![step];
    if let Some(Trial { v4: Err(problem), .. }) = trial {
        // Asked for, so it is done.
        let chosen = Step::nothing("firewall.chosen", "packet filter by choice", problem.to_string(), reason);
        let message =
            format!("DOCKER_IPTABLES_LEGACY chooses a packet filter that cannot do what dockerd needs: {problem}");
        steps.push(chosen.warns(message).hint("unset DOCKER_IPTABLES_LEGACY"));
    }
    if let Some(Trial { v4: Ok(()), v6: Err(problem) }) = trial {
        steps.extend(without_ip6(problem, &wants.told));
    }
    steps
}

const MODULES: &str = "load the modules on the machine (modprobe nft_compat xt_addrtype xt_MASQUERADE xt_conntrack), or pass \
    --iptables=false; an engine from 29 on can do without iptables: --firewall-backend=nftables";

/// dockerd starts there only when it makes no rules (issues 9917 and 12145 of google/gvisor, and gVisor's own guide to Docker).
fn gvisor(told: &Told) -> Vec<Step> {
    let reason = "dockerd does not start where it cannot make its rules";
    let off = |id: &str, key: &str| {
        let step = Step::nothing(id, "packet filter of gVisor", "the kernel is gVisor's", reason);
        let set = Action::SetDaemonOption { key: key.into(), value: false.into() };
        if told.sets(key) { step } else { step.does(set) }
    };
    let said = Step::nothing(
        "firewall.gvisor",
        "way out of nested containers",
        "the kernel is gVisor's",
        "it should be known",
    );
    let message = "gVisor has no packet filter that dockerd can use, so it makes no rules: nested containers have no way out, and no \
                   published ports, until addresses are translated by hand";
    let hint = "in the sandbox: echo 1 >/proc/sys/net/ipv4/ip_forward; iptables-legacy -t nat -A POSTROUTING -o eth0 -p tcp -j SNAT \
                --to-source ADDRESS, and the same for udp; the sandbox needs --net-raw";
    vec![off("firewall", "iptables"), off("firewall.ip6", "ip6tables"), said.warns(message).hint(hint)]
}

/// Whether dockerd will run iptables.
pub fn makes_rules(told: &Told) -> bool {
    let says = |key: &str, word: &str| match told.value(key) {
        Some(serde_json::Value::Bool(value)) => value.to_string() == word,
        Some(serde_json::Value::String(value)) => value == word,
        _ => false,
    };
    !says("iptables", "false") && !says("firewall-backend", "nftables")
}

fn legacy(step: Step, found: &Firewall, wants: &Wants) -> Step {
    let prepend =
        |folder: &Path| Action::SetEnv { name: "PATH".into(), value: format!("{}:{}", folder.display(), found.path) };
    if found.programs.folder {
        return step.does(prepend(Path::new(LEGACY_FOLDER)));
    }
    match &found.programs.legacy {
        Some(program) => {
            let folder = wants.run_dir.join("iptables-legacy");
            let program = program.parent().unwrap_or(Path::new("/")).to_path_buf();
            let links = LINKS.iter().map(|name| (name.to_string(), program.join(legacy_name(name)))).collect();
            step.does(Action::LinkPrograms { path: found.path.clone(), folder, links })
        }
        None => step
            .warns("the older packet filter is to be used, and the image has no iptables-legacy")
            .hint("install a package with iptables-legacy in the image (Debian: iptables)"),
    }
}

/// `ip6tables-save` is `ip6tables-legacy-save`.
fn legacy_name(name: &str) -> PathBuf {
    let (program, rest) =
        name.split_once('-').map_or((name, String::new()), |(program, rest)| (program, format!("-{rest}")));
    PathBuf::from(format!("{program}-legacy{rest}"))
}

fn without_ip6(problem: Problem, told: &Told) -> Vec<Step> {
    let step = Step::nothing(
        "firewall.ip6",
        "packet filter for IPv6",
        problem.to_string(),
        "dockerd does not start when it cannot make the rules that it wants for IPv6",
    );
    if told.sets("ip6tables") {
        return vec![step];
    }
    let message = format!("IPv6 of nested containers is not filtered and not translated: {problem}");
    let said =
        Step::nothing("firewall.ip6.warning", "IPv6 without packet filter", problem.to_string(), "it should be known");
    vec![
        step.does(Action::SetDaemonOption { key: "ip6tables".into(), value: false.into() }),
        said.warns(message).hint("load the modules on the machine: modprobe ip6table_nat nft_compat"),
    ]
}

fn describe(found: &Firewall) -> String {
    let trial = |name: &str, trial: &Trial| match (trial.v4, trial.v6) {
        (Ok(()), Ok(())) => format!("{name} works for IPv4 and IPv6"),
        (Ok(()), Err(problem)) => format!("{name} works for IPv4, and has for IPv6 {problem}"),
        (Err(problem), _) => format!("{name} has {problem}"),
    };
    let rules = found.legacy_rules.then(|| "ip_tables has rules".to_owned());
    let trials = found.nft.iter().map(|found| trial("nf_tables", found));
    let all: Vec<String> =
        trials.chain(found.legacy.iter().map(|found| trial("ip_tables", found))).chain(rules).collect();
    all.join("; ")
}

fn failures(found: &Firewall) -> String {
    let trials = [("nf_tables", found.nft), ("ip_tables", found.legacy)];
    let failures: Vec<String> = trials
        .into_iter()
        .filter_map(|(name, trial)| trial?.v4.err().map(|problem| format!("{name} has {problem}")))
        .collect();
    failures.join(", ")
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::probe::firewall::Programs;

    const MISSING: Problem = Problem { what: "nat chain", errno: Errno::ENOENT };
    const GOOD: Trial = Trial { v4: Ok(()), v6: Ok(()) };
    const BAD: Trial = Trial { v4: Err(MISSING), v6: Err(MISSING) };
    const FOUR: Trial = Trial { v4: Ok(()), v6: Err(MISSING) };

    fn found(choice: Choice, nft: Option<Trial>, legacy: Option<Trial>, legacy_rules: bool) -> Firewall {
        let programs = Programs { iptables: Some("/usr/sbin/iptables".into()), legacy: None, folder: true };
        Firewall { choice, nft, legacy, legacy_rules, gvisor: false, programs, path: "/usr/sbin:/bin".into() }
    }

    #[rstest]
    #[case::usual(found(Choice::Any, Some(GOOD), None, false), Some(Filter::Nft))]
    #[case::old_rules(found(Choice::Any, Some(GOOD), Some(GOOD), true), Some(Filter::Legacy))]
    #[case::old_rules_of_no_use(found(Choice::Any, Some(GOOD), Some(BAD), true), Some(Filter::Nft))]
    #[case::old_kernel(found(Choice::Any, Some(BAD), Some(GOOD), false), Some(Filter::Legacy))]
    #[case::nothing(found(Choice::Any, Some(BAD), Some(BAD), false), None)]
    #[case::asked_for_legacy(found(Choice::Legacy, None, Some(BAD), false), Some(Filter::Legacy))]
    #[case::asked_for_nft(found(Choice::Nft, Some(BAD), None, false), Some(Filter::Nft))]
    fn the_filter_that_works_is_chosen(#[case] found: Firewall, #[case] want: Option<Filter>) {
        assert_eq!(choose(&found).0, want);
    }

    fn trial() -> impl Strategy<Value = Option<Trial>> {
        prop_oneof![Just(None), Just(Some(GOOD)), Just(Some(BAD)), Just(Some(FOUR))]
    }

    proptest! {
        #[test]
        fn what_does_not_work_is_never_chosen_unasked(nft in trial(), legacy in trial(), rules: bool) {
            let found = found(Choice::Any, nft, legacy, rules);
            let works = |trial: Option<Trial>| trial.is_some_and(|trial| trial.v4.is_ok());
            match choose(&found).0 {
                Some(Filter::Nft) => prop_assert!(works(nft)),
                Some(Filter::Legacy) => prop_assert!(works(legacy)),
                None => prop_assert!(!works(nft) && !works(legacy)),
            }
        }
    }

    fn ids(found: &Firewall, told: Told) -> Vec<String> {
        steps(found, &Wants { told, ..Wants::default() }).into_iter().map(|step| step.id).collect()
    }

    fn action(found: &Firewall) -> Action {
        steps(found, &Wants::default()).remove(0).action
    }

    #[test]
    fn a_filter_that_works_needs_nothing() {
        assert_eq!(action(&found(Choice::Any, Some(GOOD), None, false)), Action::Nothing);
    }

    #[test]
    fn the_older_programs_are_found_first_where_their_filter_is_used() {
        let mut old = found(Choice::Legacy, None, Some(GOOD), false);
        let value = format!("{LEGACY_FOLDER}:/usr/sbin:/bin");
        assert_eq!(action(&old), Action::SetEnv { name: "PATH".into(), value });
        old.programs = Programs { folder: false, legacy: Some("/usr/sbin/iptables-legacy".into()), ..old.programs };
        let Action::LinkPrograms { folder, links, path } = action(&old) else { panic!("{:?}", action(&old)) };
        assert_eq!((folder, path.as_str()), ("/run/dindctl/iptables-legacy".into(), "/usr/sbin:/bin"));
        assert_eq!(links[1], ("iptables-save".into(), "/usr/sbin/iptables-legacy-save".into()));
        old.programs.legacy = None;
        assert!(matches!(action(&old), Action::Warn { .. }));
    }

    #[test]
    fn ip6_is_given_up_only_where_it_cannot_work_and_nobody_said_anything() {
        let four = found(Choice::Any, Some(FOUR), None, false);
        assert_eq!(ids(&four, Told::default()), ["firewall", "firewall.ip6", "firewall.ip6.warning"]);
        let told = Told::new([("ip6tables".to_owned(), true.into())]);
        assert_eq!(ids(&four, told), ["firewall", "firewall.ip6"]);
    }

    #[test]
    fn a_choice_that_cannot_work_is_kept_and_said() {
        assert_eq!(
            ids(&found(Choice::Legacy, None, Some(BAD), false), Told::default()),
            ["firewall", "firewall.chosen"]
        );
        let none = action(&found(Choice::Any, Some(BAD), Some(BAD), false));
        assert!(
            matches!(&none, Action::Warn { message } if message.contains("nat chain: ENOENT")
            || message.contains("no nat chain")),
            "{none:?}"
        );
    }

    #[test]
    fn in_gvisor_dockerd_makes_no_rules_and_that_is_said() {
        let mut sandbox = found(Choice::Any, None, None, false);
        sandbox.gvisor = true;
        sandbox.programs.iptables = None;
        let steps = steps(&sandbox, &Wants::default());
        let set: Vec<String> = steps.iter().map(|step| step.action.describe()).collect();
        assert_eq!(set[..2], ["configure dockerd with iptables=false", "configure dockerd with ip6tables=false"]);
        assert!(matches!(&steps[2].action, Action::Warn { message } if message.contains("no way out")), "{steps:?}");
        assert!(steps[2].hint.as_ref().is_some_and(|hint| hint.contains("SNAT") && hint.contains("ip_forward")));
        let told = Told::new([("iptables".to_owned(), true.into())]);
        assert_eq!(super::steps(&sandbox, &Wants { told, ..Wants::default() })[0].action, Action::Nothing);
    }

    #[test]
    fn without_iptables_nothing_is_begun() {
        let mut bare = found(Choice::Any, Some(GOOD), None, false);
        bare.programs.iptables = None;
        assert!(matches!(action(&bare), Action::Fail { .. }));
    }

    #[rstest]
    #[case("iptables", false.into(), false)]
    #[case("iptables", "false".into(), false)]
    #[case("iptables", true.into(), true)]
    #[case("firewall-backend", "nftables".into(), false)]
    #[case("firewall-backend", "iptables".into(), true)]
    #[case("mtu", 1400.into(), true)]
    fn dockerd_makes_rules_unless_told_otherwise(
        #[case] key: &str,
        #[case] value: serde_json::Value,
        #[case] want: bool,
    ) {
        assert_eq!(makes_rules(&Told::new([(key.to_owned(), value)])), want);
    }
}
