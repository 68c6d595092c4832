/*!
The engine's programs, and the ways out of a container that are known of their versions.
*/
use super::check::{Check, Verdict};
use super::release::Release;

/// A hole through which a container, an image or a build reaches the machine, or somebody reaches the API around its rules.
struct Hole {
    /// Its number.
    cve: &'static str,
    /// What it lets happen.
    what: &'static str,
    /// First good releases.
    fixes: &'static [&'static str],
}

/// Advisories of opencontainers/runc.
const RUNC: [Hole; 4] = [
    Hole { cve: "CVE-2019-5736", what: "a container overwrites runc", fixes: &["1.0.0-rc7"] },
    Hole { cve: "CVE-2021-30465", what: "a volume is mounted outside of the container", fixes: &["1.0.0-rc95"] },
    Hole { cve: "CVE-2024-21626", what: "a leaked descriptor leads to the host's files", fixes: &["1.1.12"] },
    Hole {
        cve: "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        what: "masked paths and /dev/console are replaced by links to the host's files",
        fixes: &["1.2.8", "1.3.3", "1.4.0-rc.3"],
    },
];

/// Advisories of containerd/containerd.
const CONTAINERD: [Hole; 2] = [
    Hole {
        cve: "CVE-2020-15257",
        what: "a container on the host's network reaches the shim's socket",
        fixes: &["1.3.9", "1.4.3"],
    },
    Hole {
        cve: "CVE-2024-25621",
        what: "folders of containerd are open to other users of the machine",
        fixes: &["1.7.29", "2.0.7", "2.1.5", "2.2.0"],
    },
];

/// Advisories of moby/moby and of the `BuildKit` in it.
const DOCKERD: [Hole; 4] = [
    Hole {
        cve: "CVE-2024-23651, CVE-2024-23652, CVE-2024-23653",
        what: "a build reads, removes or takes over files of the host",
        fixes: &["24.0.9", "25.0.2"],
    },
    Hole {
        cve: "CVE-2024-41110",
        what: "a request passes by the authorization plugin",
        fixes: &["23.0.15", "24.0.10", "25.0.6", "26.1.5", "27.1.1"],
    },
    Hole {
        cve: "CVE-2026-34040",
        what: "a request with a large body passes by the authorization plugin",
        fixes: &["25.0.16", "29.3.1"],
    },
    Hole {
        cve: "CVE-2026-41567, CVE-2026-41568, CVE-2026-42306",
        what: "docker cp runs a program of the container on the host, or reaches its files",
        fixes: &["25.0.17", "29.5.1"],
    },
];

/// A program as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it says for `--version`.
    pub answer: Answer,
}

/// A program's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is not in `PATH`.
    Missing,
    /// It is there, and has not said all in time, as on a slow or busy machine.
    Silent,
    /// Its words.
    Said(String),
}

/// The programs to ask.
pub const NAMES: [&str; 3] = ["dockerd", "containerd", "runc"];

/// One check for each.
pub fn checks(programs: &[Program]) -> Vec<Check> {
    programs.iter().map(check).collect()
}

fn check(program: &Program) -> Check {
    let Program { name, answer } = program;
    let check = |finding: String| {
        Check::ok(format!("engine.{name}"), finding, "old versions have known ways out of containers")
    };
    let said = match answer {
        Answer::Said(said) => said,
        Answer::Silent => return check(format!("{name} is there, and does not tell its version")).is(Verdict::Skipped),
        Answer::Missing => {
            return Check::ok(format!("engine.{name}"), format!("{name} is not in PATH"), "the daemon consists of it")
                .is(Verdict::Fail)
                .hint("install the engine in the image, or build on images/dind");
        }
    };
    let line = said.lines().next().unwrap_or_default().trim();
    let Some(release) = Release::find(said) else {
        return check(format!("{name} says {line:?}, which has no version")).is(Verdict::Skipped);
    };
    let holes: &[Hole] = match *name {
        "runc" => &RUNC,
        "containerd" => &CONTAINERD,
        _ => &DOCKERD,
    };
    let open: Vec<&Hole> = holes.iter().filter(|hole| !release.has(hole.fixes)).collect();
    if open.is_empty() {
        return check(line.to_owned());
    }
    let list: Vec<String> = open.iter().map(|hole| format!("{} ({})", hole.cve, hole.what)).collect();
    let built = if release.distribution { "; its distribution may have mended that without a new version" } else { "" };
    check(format!("{line} is open to {}{built}", list.join("; "))).is(Verdict::Warn).hint(if release.distribution {
        "look at the distribution's security tracker, or install a newer one"
    } else {
        "install a newer one"
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn judged(name: &'static str, said: &str) -> Check {
        check(&Program { name, answer: Answer::Said(said.to_owned()) })
    }

    #[rstest]
    #[case("runc", "runc version 1.1.11", Verdict::Warn, "CVE-2024-21626")]
    #[case("runc", "runc version 1.2.6", Verdict::Warn, "CVE-2025-31133")]
    #[case("runc", "runc version 1.3.4", Verdict::Ok, "1.3.4")]
    #[case("containerd", "containerd containerd.io 1.7.24 88bf19b", Verdict::Warn, "CVE-2024-25621")]
    #[case("containerd", "containerd containerd.io v2.2.0 1c4457e", Verdict::Ok, "v2.2.0")]
    #[case("dockerd", "Docker version 20.10.24+dfsg1, build 297e128", Verdict::Warn, "CVE-2024-41110")]
    #[case("dockerd", "Docker version 25.0.1, build 29cf629", Verdict::Warn, "CVE-2024-23651")]
    #[case("dockerd", "Docker version 28.5.2, build ecc6942", Verdict::Warn, "CVE-2026-34040")]
    #[case("dockerd", "Docker version 29.3.1, build f78c987", Verdict::Warn, "CVE-2026-41567")]
    #[case("dockerd", "Docker version 25.0.17, build 35c7841", Verdict::Ok, "25.0.17")]
    #[case("dockerd", "Docker version 29.5.1, build dd24a3a", Verdict::Ok, "29.5.1")]
    #[case("dockerd", "Docker version 30.0.0, build 0000000", Verdict::Ok, "30.0.0")]
    #[case("dockerd", "Docker version dev, build unknown", Verdict::Skipped, "no version")]
    fn known_holes_are_named(
        #[case] name: &'static str,
        #[case] said: &str,
        #[case] want: Verdict,
        #[case] word: &str,
    ) {
        let check = judged(name, said);
        assert_eq!(check.verdict, want, "{check:?}");
        assert!(check.finding.contains(word), "{check:?}");
    }

    #[test]
    fn a_distribution_may_have_mended_it() {
        assert!(judged("runc", "runc version 1.1.15+ds1").finding.contains("may have mended"));
        assert!(!judged("runc", "runc version 1.1.15").finding.contains("may have mended"));
    }

    #[test]
    fn without_the_program_there_is_no_daemon() {
        assert_eq!(check(&Program { name: "dockerd", answer: Answer::Missing }).verdict, Verdict::Fail);
    }

    #[test]
    fn a_program_that_is_slow_is_not_taken_for_one_that_is_missing() {
        let check = check(&Program { name: "dockerd", answer: Answer::Silent });
        assert_eq!((check.verdict, check.hint), (Verdict::Skipped, None));
        assert!(check.finding.contains("is there"), "{}", check.finding);
    }
}
