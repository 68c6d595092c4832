//! What is left out by wish: shell patterns on paths as bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::order;

/// Patterns of names.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Vec<u8>>);

impl Patterns {
    /// `*`, `?`, `[…]`, `{a,b}` within a name, `**` across folders. Without a slash a pattern means that name in every folder; with
    /// one, the path from the top. A slash at either end changes nothing.
    pub fn new(typed: &[OsString]) -> Result<Self, String> {
        let trimmed = |pattern: &OsString| {
            let bytes = pattern.as_bytes();
            // A slash in front still says that the path is meant.
            let anchored = bytes.starts_with(b"/") || order::split(bytes.strip_suffix(b"/").unwrap_or(bytes)).0 != b"";
            let bare = bytes.strip_prefix(b"/").or_else(|| bytes.strip_prefix(b"./")).unwrap_or(bytes);
            let bare = bare.strip_suffix(b"/").unwrap_or(bare);
            if bare.is_empty() {
                return Err(format!("{:?} means no name", pattern.to_string_lossy()));
            }
            Ok(if anchored { bare.to_vec() } else { [b"**/", bare].concat() })
        };
        typed.iter().map(trimmed).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them means this path.
    pub fn mean(&self, path: &[u8]) -> bool {
        self.0.iter().any(|pattern| fast_glob::glob_match(pattern, path))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("node_modules", "node_modules", true)]
    #[case("node_modules/", "a/b/node_modules", true)]
    #[case("node_modules", "a/node_modules_2", false)]
    #[case("*.log", "a/x.log", true)]
    #[case("*.log", "x.log", true)]
    #[case("/x.log", "x.log", true)]
    #[case("/x.log", "a/x.log", false)]
    #[case("./a/x.log", "a/x.log", true)]
    #[case("a/*.log", "a/b/x.log", false)]
    #[case("a/**/x.log", "a/b/c/x.log", true)]
    #[case("{target,dist}", "a/dist", true)]
    #[case("[ab].c", "b.c", true)]
    fn patterns(#[case] pattern: &str, #[case] path: &str, #[case] want: bool) {
        assert_eq!(Patterns::new(&[pattern.into()]).unwrap().mean(path.as_bytes()), want);
    }

    #[test]
    fn names_that_are_no_text_can_be_meant() {
        let patterns = Patterns::new(&["*.tmp".into()]).unwrap();
        assert!(patterns.mean(b"a/\xff\xfe.tmp"));
        assert!(Patterns::new(&["/".into()]).is_err());
        assert!(!Patterns::default().mean(b"a"));
    }
}
