/*!
`/etc/subuid` and `/etc/subgid` (subuid(5)): which further ids a user may map into a user namespace.
*/
use std::path::Path;

use super::{ProbeError, Roots, read};

/// A line of one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Login name, or the user id in digits.
    pub owner: String,
    /// First id.
    pub start: u32,
    /// Number of ids.
    pub count: u32,
}

/// Parses the text; lines that are no entries are passed over, as newuidmap does.
pub fn parse(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?.to_owned();
            let start = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            fields.next().is_none().then_some(Range { owner, start, count })
        })
        .collect()
}

/// Number of ids that the user has in the file `path`; 0 when the file is not there.
pub fn count(roots: &Roots, path: &str, uid: u32, name: Option<&str>) -> Result<u64, ProbeError> {
    let text = match read(&roots.resolve(Path::new(path))) {
        Ok(text) => text,
        Err(ProbeError::Read { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let digits = uid.to_string();
    let own = |range: &Range| Some(range.owner.as_str()) == name || range.owner == digits;
    Ok(parse(&text).iter().filter(|range| own(range)).map(|range| u64::from(range.count)).sum())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_added_up() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(
            folder.path().join("etc/subuid"),
            "# x\nrootless:100000:65536\n1000:200000:10\nother:1:9\nbad:x:1\n",
        )
        .unwrap();
        assert_eq!(count(&roots, "/etc/subuid", 1000, Some("rootless")).unwrap(), 65546);
        assert_eq!(count(&roots, "/etc/subuid", 1000, None).unwrap(), 10);
        assert_eq!(count(&roots, "/etc/subuid", 7, Some("nobody")).unwrap(), 0);
        assert_eq!(count(&roots, "/etc/subgid", 1000, Some("rootless")).unwrap(), 0);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".*") {
            for range in parse(&text) {
                prop_assert!(!range.owner.contains(':'));
            }
        }

        #[test]
        fn what_is_written_is_read(owner in "[a-z0-9_-]{1,12}", start: u32, count: u32) {
            let line = format!("{owner}:{start}:{count}\n");
            prop_assert_eq!(parse(&line), vec![Range { owner, start, count }]);
        }
    }
}
