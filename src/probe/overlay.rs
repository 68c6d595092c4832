/*!
Whether images can be kept in layers below a folder, found out by doing it: an overlay is made of folders there, and all of
it goes away again.

The engine asks for the same (`SupportsOverlay` and `SupportsDType` of moby's graph drivers, `Supported` of containerd's
overlayfs snapshotter), but tells nobody who does not read its log.
*/
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::mkdtemp;

use super::{Roots, read};
use crate::sys::beside;
use crate::sys::file::errno;
use crate::sys::overlay::{Layers, Way, with};

/// Why there can be no overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The folder for the trial could not be made.
    Folder(Errno),
    /// The file system does not say of the entries of a folder what they are (`d_type`; XFS that was made with `ftype=0`).
    Types,
    /// It cannot be mounted.
    Mount(Errno),
    /// It can be mounted, and not be written.
    ReadOnly,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(errno) => write!(f, "no folder for a trial can be made: {errno}"),
            Self::Types => f.write_str("folders do not tell files from folders (no d_type)"),
            Self::Mount(errno) => write!(f, "overlay cannot be mounted: {errno}"),
            Self::ReadOnly => f.write_str("overlay can be mounted and not be written"),
        }
    }
}

/// Whether this process is in a user namespace other than the first.
pub fn in_user_namespace(roots: &Roots) -> bool {
    let map = read(&roots.own.join("uid_map")).unwrap_or_default();
    let whole = ["0", "0", "4294967295"];
    !map.trim().is_empty() && !map.split_whitespace().eq(whole)
}

/// Tries it below `folder`, which must be there. Takes half a millisecond; its own folder there is gone when
/// [`beside::settle`] returns.
pub fn look(folder: &Path, user_namespace: bool) -> Result<(), Problem> {
    let place = mkdtemp(&folder.join(".dindctl-trial-XXXXXX")).map_err(Problem::Folder)?;
    let tried = match attempt(&place, user_namespace, Way::Detached) {
        // An old kernel, or a filter of system calls that is older than this one.
        Err(Problem::Mount(Errno::ENOSYS | Errno::EPERM)) => {
            attempt(&place, user_namespace, Way::Namespace { at: "at" })
        }
        other => other,
    };
    // A busy journal makes this take longer than all of the trial.
    beside::run(move || match std::fs::remove_dir_all(&place) {
        // Somebody was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| format!("cannot remove {}: {error}", place.display())),
    });
    tried
}

/// Like [`look`], in a folder that is new and somebody else's to remove.
pub fn attempt(place: &Path, user_namespace: bool, way: Way) -> Result<(), Problem> {
    let at = match way {
        Way::Namespace { at } => Some(at),
        Way::Detached => None,
    };
    for name in ["l", "u"].into_iter().chain(at) {
        make(&place.join(name)).map_err(Problem::Folder)?;
    }
    if !tells_types(place).map_err(Problem::Folder)? {
        return Err(Problem::Types);
    }
    // Without `volatile` (5.10) the kernel writes all that the file system has to write when the overlay goes, and in a user
    // namespace attributes have names of their own (`userxattr`, 5.11).
    let plain: [&[&str]; 2] = [&["volatile"], &[]];
    let users: [&[&str]; 2] = [&["userxattr", "volatile"], &["userxattr"]];
    let mut tried = Err(Problem::Mount(Errno::EINVAL));
    for (number, flags) in users.into_iter().filter(|_| user_namespace).chain(plain).enumerate() {
        // A work folder is good for one attempt.
        let work = format!("w{number}");
        make(&place.join(&work)).map_err(Problem::Folder)?;
        let layers = Layers { lower: &["l"], upper: "u", work: &work, flags };
        tried = with(place, &layers, way, writable).map_err(Problem::Mount);
        match tried {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(Problem::ReadOnly),
            // An option that is not known, or something that no option mends.
            Err(Problem::Mount(Errno::EINVAL | Errno::EPERM)) => {}
            Err(_) => break,
        }
    }
    tried.map(drop)
}

/// One that is there is of an earlier attempt.
fn make(folder: &Path) -> Result<(), Errno> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(errno(&error)),
        _ => Ok(()),
    }
}

fn tells_types(place: &Path) -> Result<bool, Errno> {
    let mut folder = Dir::open(place, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in folder.iter() {
        if entry?.file_type().is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The kernel tries for itself, at the mount, what layers need of the file system (`ovl_make_workdir` in fs/overlayfs/super.c), and
/// where it cannot make its work folder it mounts read-only.
fn writable(root: BorrowedFd<'_>) -> bool {
    fstatvfs(root).is_ok_and(|found| !found.flags().contains(FsFlags::ST_RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_user_namespace_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        std::fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        assert!(!in_user_namespace(&roots), "an old kernel has none");
        for (map, inside) in [
            ("         0          0 4294967295\n", false),
            ("         0     100000      65536\n", true),
            ("         0       1000          1\n         1     100000      65536\n", true),
        ] {
            std::fs::write(folder.path().join("proc/self/uid_map"), map).unwrap();
            assert_eq!(in_user_namespace(&roots), inside, "{map}");
        }
    }

    #[test]
    fn what_cannot_be_tried_is_told() {
        assert_eq!(look(Path::new("/nonexistent"), false), Err(Problem::Folder(Errno::ENOENT)));
        assert!(matches!(look(Path::new("/proc"), false), Err(Problem::Folder(_))));
    }

    #[test]
    fn every_usual_file_system_tells_types() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            make(&folder.path().join("x")).unwrap();
        }
        assert_eq!(tells_types(folder.path()), Ok(true));
    }

    #[test]
    fn nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        // Whatever comes of it here.
        let _ = look(folder.path(), false);
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        // Another test may be waiting for the removal of this one.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while left() > 0 && std::time::Instant::now() < end {
            assert_eq!(beside::settle(), Vec::<String>::new());
        }
        assert_eq!(left(), 0);
    }
}
