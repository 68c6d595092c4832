//! The packet filters tried out for real, each time in a network namespace of its own.

use std::ffi::OsStr;
use std::process::Command;

use dindctl::prepare::firewall::{Filter, choose};
use dindctl::probe::Roots;
use dindctl::probe::firewall::{Choice, Firewall, look};
use libtest_mimic::{Failed, Trial};
use nix::sched::{CloneFlags, unshare};

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

type Case = fn() -> Result<(), Failed>;

const CASES: [(&str, Case); 2] = [
    ("firewall::a_trial_leaves_nothing", a_trial_leaves_nothing),
    ("firewall::rules_that_are_there_decide", rules_that_are_there_decide),
];

/// The tests of this module.
pub fn trials() -> Vec<Trial> {
    let impossible = impossible();
    CASES
        .iter()
        .map(|(name, case)| {
            if let Some(reason) = &impossible {
                println!("SKIP {name}: {reason}");
            }
            // A thread of its own, because it keeps the namespace.
            let run = move || std::thread::spawn(case).join().unwrap_or_else(|_| Err("it panicked, see above".into()));
            Trial::test(*name, run).with_ignored_flag(impossible.is_some())
        })
        .collect()
}

fn impossible() -> Option<String> {
    let tried = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("no network namespace of its own: {errno}"))?;
        let found = find(Choice::Nft);
        match found.nft.map(|trial| trial.v4) {
            Some(Ok(())) => Ok(()),
            Some(Err(problem)) => Err(format!("this kernel has {problem}")),
            None => Err("nothing was tried".to_owned()),
        }
    });
    tried.join().unwrap_or_else(|_| Err("the trial panicked".into())).err()
}

/// What this thread's namespace has.
fn find(choice: Choice) -> Firewall {
    let roots = Roots { own: "/proc/thread-self".into(), ..Roots::system() };
    look(&roots, choice, OsStr::new(PATH))
}

fn a_trial_leaves_nothing() -> Result<(), Failed> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    // Its table has to be new, so a second trial would find what the first one left.
    for _ in 0..3 {
        let found = find(Choice::Any);
        assert_eq!(found.nft.map(|trial| trial.v4), Some(Ok(())), "{found:?}");
        assert_eq!((found.legacy, found.legacy_rules), (None, false), "the older filter was not to be asked");
        assert_eq!(choose(&found).0, Some(Filter::Nft));
    }
    let tables = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    assert_eq!(tables, "", "the older filter was woken up");
    Ok(())
}

fn rules_that_are_there_decide() -> Result<(), Failed> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let found = find(Choice::Legacy);
    if found.legacy.is_none_or(|trial| trial.v4.is_err()) {
        // Without the older filter there is nothing to prefer; what was asked for is kept all the same.
        assert_eq!(choose(&found).0, Some(Filter::Legacy));
        return Ok(());
    }
    assert_eq!(found.nft, None, "what was chosen is tried, and nothing else");
    // Its tables are there now, and empty.
    assert_eq!(choose(&find(Choice::Any)).0, Some(Filter::Nft));
    let Some(tree) = std::env::var_os("DINDCTL_TEST_TREE") else {
        return Err("needs DINDCTL_TEST_TREE with iptables-legacy: run scripts/test namespaces".into());
    };
    let rule = ["/usr/sbin/iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"];
    let added = Command::new("chroot").arg(tree).args(rule).env("XTABLES_LOCKFILE", "/dev/null").output()?;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let found = find(Choice::Any);
    assert!(found.legacy_rules, "{found:?}");
    assert_eq!(choose(&found).0, Some(Filter::Legacy));
    Ok(())
}
