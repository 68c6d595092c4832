/*!
`/proc/PID/cgroup`: which group the process is in, for each hierarchy (cgroups(7)).
*/
use std::path::{Path, PathBuf};

use super::{ProbeError, Roots, read};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Number of the hierarchy; 0 is the unified one.
    pub hierarchy: u32,
    /// v1 controllers of the hierarchy, or `name=…`; empty for the unified one.
    pub controllers: Vec<String>,
    /// The group, relative to the root of the reader's cgroup namespace; begins with `/..` when it lies outside.
    pub path: PathBuf,
}

/// The groups of the own process.
pub fn own(roots: &Roots) -> Result<Vec<Membership>, ProbeError> {
    let path = roots.own.join("cgroup");
    parse(&read(&path)?, &path)
}

/// The groups of process 1 of the own pid namespace.
pub fn init(roots: &Roots) -> Result<Vec<Membership>, ProbeError> {
    let path = roots.proc.join("1/cgroup");
    parse(&read(&path)?, &path)
}

/// Parses the content of `path`.
pub fn parse(text: &str, path: &Path) -> Result<Vec<Membership>, ProbeError> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let fail = |what| ProbeError::Parse { path: path.into(), what, line: line.into() };
            let mut fields = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next())
            else {
                return Err(fail("two colons are expected"));
            };
            let hierarchy = hierarchy.parse().map_err(|_| fail("a number is expected first"))?;
            if !group.starts_with('/') {
                return Err(fail("an absolute path is expected last"));
            }
            // The kernel marks a group that was removed under its process this way.
            let group = group.strip_suffix(" (deleted)").unwrap_or(group);
            let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
            Ok(Membership { hierarchy, controllers, path: group.into() })
        })
        .collect()
}

/// The group in the unified hierarchy, if the kernel has one.
pub fn unified(memberships: &[Membership]) -> Option<&Path> {
    memberships.iter().find(|line| line.hierarchy == 0).map(|line| line.path.as_path())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(text: &str) -> Vec<Membership> {
        parse(text, Path::new("cgroup")).unwrap()
    }

    #[test]
    fn all_three_kinds_of_line() {
        let found = paths("9:name=systemd:/\n1:cpu,cpuacct:/docker/a:b\n0::/../x\n");
        assert_eq!(found[0].controllers, ["name=systemd"]);
        assert_eq!(found[1].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[1].path, Path::new("/docker/a:b"));
        assert_eq!(unified(&found), Some(Path::new("/../x")));
    }

    #[test]
    fn without_a_unified_hierarchy_there_is_no_unified_group() {
        assert_eq!(unified(&paths("1:cpu:/\n")), None);
    }

    #[test]
    fn a_removed_group_keeps_its_name() {
        assert_eq!(unified(&paths("0::/a (deleted)\n")), Some(Path::new("/a")));
    }

    #[test]
    fn nonsense_is_named() {
        let error = parse("x::/\n", Path::new("/proc/self/cgroup")).unwrap_err().to_string();
        assert_eq!(error, r#"cannot understand /proc/self/cgroup: a number is expected first in "x::/""#);
        assert!(parse("0:/", Path::new("c")).is_err());
        assert!(parse("0::x", Path::new("c")).is_err());
    }

    proptest! {
        #[test]
        fn what_the_kernel_prints_is_read_back(
            lines in prop::collection::vec((any::<u32>(), prop::collection::vec("[a-z_=]{1,8}", 0..3), "/[a-z0-9:/.-]{0,20}"), 0..10)
        ) {
            let text: Vec<String> = lines.iter().map(|(tree, names, path)| format!("{tree}:{}:{path}\n", names.join(","))).collect();
            let text = text.concat();
            let expected: Vec<Membership> = lines
                .into_iter()
                .map(|(hierarchy, controllers, path)| Membership { hierarchy, controllers, path: path.into() })
                .collect();
            prop_assert_eq!(parse(&text, Path::new("c")).unwrap(), expected);
        }

        #[test]
        fn no_input_makes_the_parser_panic(text in any::<String>()) {
            let _ = parse(&text, Path::new("c"));
        }
    }
}
