/*!
Whether a user may write or execute something, judged from what `stat` says.

The agent has no capability that overrides file permissions, and asking the kernel with `access(2)` would answer for
the agent's own user, not for the job's.
*/
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::spawn::Identity;

/// Permission bit for writing, as in the last octal digit of a mode.
pub(super) const WRITE: u32 = 0o2;
/// Permission bit for executing or passing through.
pub(super) const EXECUTE: u32 = 0o1;

/// Whether the classic permission bits of an object allow `bits` to `identity`.
pub(super) fn allows(mode: u32, owner: u32, group: u32, identity: &Identity, bits: u32) -> bool {
    let shift = if owner == identity.uid {
        6
    } else if group == identity.gid || identity.groups.contains(&group) {
        3
    } else {
        0
    };
    (mode >> shift) & bits == bits
}

/// Whether `path` is a directory in which `identity` may create files: by its permissions and by its mount.
pub(super) fn is_writable_folder(path: &Path, identity: &Identity) -> bool {
    let Ok(found) = path.metadata() else { return false };
    let read_only =
        nix::sys::statvfs::statvfs(path).is_ok_and(|fs| fs.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    found.is_dir() && !read_only && allows(found.mode(), found.uid(), found.gid(), identity, WRITE | EXECUTE)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0o700, 5, 9, WRITE, true)]
    #[case(0o077, 5, 9, WRITE, false)] // the owner's bits alone count for the owner
    #[case(0o070, 0, 6, WRITE, true)]
    #[case(0o070, 0, 7, EXECUTE, true)] // supplementary group
    #[case(0o707, 0, 7, EXECUTE, false)]
    #[case(0o755, 0, 0, WRITE, false)]
    #[case(0o755, 0, 0, EXECUTE, true)]
    #[case(0o1777, 0, 0, WRITE | EXECUTE, true)]
    #[case(0o776, 0, 0, WRITE | EXECUTE, false)]
    fn the_first_class_that_fits_decides(
        #[case] mode: u32,
        #[case] owner: u32,
        #[case] group: u32,
        #[case] bits: u32,
        #[case] expected: bool,
    ) {
        let identity = Identity { uid: 5, gid: 6, groups: vec![7] };
        assert_eq!(allows(mode, owner, group, &identity, bits), expected);
    }

    #[test]
    fn a_file_or_nothing_is_no_writable_folder() {
        let root = tempfile::tempdir().unwrap();
        let identity = Identity { uid: nix::unistd::getuid().as_raw(), gid: 0, groups: vec![] };
        assert!(is_writable_folder(root.path(), &identity));
        assert!(!is_writable_folder(&root.path().join("absent"), &identity));
        std::fs::write(root.path().join("file"), "").unwrap();
        assert!(!is_writable_folder(&root.path().join("file"), &identity));
        assert!(!is_writable_folder(Path::new("/proc"), &identity));
    }
}
