/*!
Whether images can be kept in layers below a folder, found out by doing it: an overlay is made of folders there, a file is
made in it and a folder of its lower layer removed, and all of it goes away again.

The engine asks for the same (`SupportsOverlay` and `SupportsDType` of moby's graph drivers, `Supported` of containerd's
overlayfs snapshotter), but tells nobody who does not read its log.
*/
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, mkdtemp, unlinkat};

use super::{Roots, read};
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
    /// It can be mounted, and not be worked with.
    Use(Errno),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(errno) => write!(f, "no folder for a trial can be made: {errno}"),
            Self::Types => f.write_str("folders do not tell files from folders (no d_type)"),
            Self::Mount(errno) => write!(f, "overlay cannot be mounted: {errno}"),
            Self::Use(errno) => write!(f, "overlay can be mounted and not be written: {errno}"),
        }
    }
}

/// Whether this process is in a user namespace other than the first.
pub fn in_user_namespace(roots: &Roots) -> bool {
    let map = read(&roots.own.join("uid_map")).unwrap_or_default();
    let whole = ["0", "0", "4294967295"];
    !map.trim().is_empty() && !map.split_whitespace().eq(whole)
}

/// Tries it below `folder`, which must be there. Takes half a millisecond, and leaves nothing.
pub fn look(folder: &Path, user_namespace: bool) -> Result<(), Problem> {
    let place = mkdtemp(&folder.join(".dindctl-trial-XXXXXX")).map_err(Problem::Folder)?;
    let tried = match attempt(&place, user_namespace, Way::Detached) {
        Err(Problem::Mount(Errno::ENOSYS)) => attempt(&place, user_namespace, Way::Namespace { at: "at" }),
        other => other,
    };
    match std::fs::remove_dir_all(&place) {
        Err(error) if tried.is_ok() => Err(Problem::Folder(errno(&error))),
        _ => tried,
    }
}

/// Like [`look`], in a folder that is new and somebody else's to remove.
pub fn attempt(place: &Path, user_namespace: bool, way: Way) -> Result<(), Problem> {
    folders(place).map_err(Problem::Folder)?;
    if !tells_types(place).map_err(Problem::Folder)? {
        return Err(Problem::Types);
    }
    // Without `volatile` (5.10) the kernel writes all that the file system has to write when the overlay goes, and in a user
    // namespace attributes have names of their own (`userxattr`, 5.11). A work folder is good for one attempt.
    let plain: [(&str, &[&str]); 2] = [("w0", &["volatile"]), ("w1", &[])];
    let users: [(&str, &[&str]); 2] = [("w2", &["userxattr", "volatile"]), ("w3", &["userxattr"])];
    let ways = users.into_iter().filter(|_| user_namespace).chain(plain);
    let mut tried = Err(Problem::Mount(Errno::EINVAL));
    for (work, flags) in ways {
        let layers = Layers { lower: &["top", "bottom"], upper: "u", work, flags };
        tried = with(place, &layers, way, works).map_err(Problem::Mount);
        match tried {
            Ok(used) => return used.map_err(Problem::Use),
            // An option that is not known, or something that no option mends.
            Err(Problem::Mount(Errno::EINVAL | Errno::EPERM)) => {}
            Err(_) => break,
        }
    }
    tried.map(drop)
}

/// Those that are there are of an earlier way.
fn folders(place: &Path) -> Result<(), Errno> {
    for name in ["top", "top/gone", "bottom", "u", "w0", "w1", "w2", "w3", "at"] {
        match std::fs::create_dir(place.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(errno(&error)),
            _ => {}
        }
    }
    Ok(())
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

/// What every image layer does: it makes something, and removes what is below.
fn works(root: BorrowedFd<'_>) -> Result<(), Errno> {
    mkdirat(root, "made", Mode::S_IRWXU)?;
    unlinkat(root, "gone", UnlinkatFlags::RemoveDir)
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
        folders(folder.path()).unwrap();
        folders(folder.path()).unwrap();
        assert_eq!(tells_types(folder.path()), Ok(true));
    }

    #[test]
    fn nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        // Whatever comes of it here.
        let _ = look(folder.path(), false);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
