/*!
`/proc/cgroups`: which version 1 controllers the kernel has (cgroups(7)).
*/
use std::io::ErrorKind;
use std::path::Path;

use super::{ProbeError, Roots, read};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its name, as a mount option of version 1 has it.
    pub name: String,
    /// Number of the version 1 hierarchy it belongs to; 0 when it is in none, or in that of version 2.
    pub hierarchy: u32,
    /// Whether it was not turned off when the machine booted (`cgroup_disable=`).
    pub enabled: bool,
}

/// The controllers of this kernel; none where it was built without version 1.
pub fn kernel(roots: &Roots) -> Result<Vec<Controller>, ProbeError> {
    let path = roots.proc.join("cgroups");
    match read(&path) {
        Ok(text) => parse(&text, &path),
        Err(ProbeError::Read { error, .. }) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Parses the content of `path`. Columns that a later kernel may add are left alone.
pub fn parse(text: &str, path: &Path) -> Result<Vec<Controller>, ProbeError> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let fail = |what| ProbeError::Parse { path: path.into(), what, line: line.into() };
            let mut fields = line.split_whitespace();
            let (Some(name), Some(hierarchy), Some(_groups), Some(enabled)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(fail("four columns are expected"));
            };
            let hierarchy = hierarchy.parse().map_err(|_| fail("the hierarchy has to be a number"))?;
            let enabled = match enabled {
                "0" => false,
                "1" => true,
                _ => return Err(fail("0 or 1 is expected last")),
            };
            Ok(Controller { name: name.into(), hierarchy, enabled })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_heading_is_no_controller() {
        let text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t7\t1\nhugetlb\t0\t1\t0\n";
        let found = parse(text, Path::new("c")).unwrap();
        assert_eq!(found[0], Controller { name: "cpuset".into(), hierarchy: 3, enabled: true });
        assert_eq!(found[1], Controller { name: "hugetlb".into(), hierarchy: 0, enabled: false });
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn nonsense_is_named() {
        let said = |line: &str| parse(line, Path::new("/proc/cgroups")).unwrap_err().to_string();
        assert_eq!(said("cpu 1 2"), r#"cannot understand /proc/cgroups: four columns are expected in "cpu 1 2""#);
        assert!(said("cpu -1 2 1").contains("has to be a number"));
        assert!(said("cpu 1 2 yes").contains("0 or 1"));
    }

    #[test]
    fn a_kernel_without_the_file_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kernel(&Roots::below(folder.path())).unwrap(), []);
    }

    proptest! {
        #[test]
        fn what_the_kernel_prints_is_read_back(
            lines in prop::collection::vec(("[a-z_]{1,12}", any::<u32>(), any::<u32>(), any::<bool>()), 0..20)
        ) {
            let text: Vec<String> = lines.iter().map(|(name, tree, groups, on)| format!("{name}\t{tree}\t{groups}\t{}\n", u8::from(*on))).collect();
            let text = text.concat();
            let expected: Vec<Controller> = lines
                .into_iter()
                .map(|(name, hierarchy, _, enabled)| Controller { name, hierarchy, enabled })
                .collect();
            prop_assert_eq!(parse(&text, Path::new("c")).unwrap(), expected);
        }

        #[test]
        fn no_input_makes_the_parser_panic(text in any::<String>()) {
            let _ = parse(&text, Path::new("c"));
        }
    }
}
