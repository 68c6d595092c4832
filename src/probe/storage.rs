/*!
A folder as a place to keep things: is it there, may we write, how much is free, what lies below it.
*/
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::unistd::{AccessFlags, faccessat};

use super::Roots;
use super::mountinfo::{Mount, at, holding};

/// What was found about a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The folder.
    pub path: PathBuf,
    /// Whether it is there, and is a folder.
    pub exists: bool,
    /// Why it, or the nearest folder above it that exists, cannot be written; `None` when it can.
    pub unwritable: Option<Errno>,
    /// Whether something is mounted exactly here.
    pub mount_point: bool,
    /// Type of the file system that holds it; empty when unknown.
    pub fstype: String,
    /// Free bytes for root, and free inodes; `None` for a file system that does not count them.
    pub free: Option<Free>,
}

/// Free space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Bytes.
    pub bytes: u64,
    /// Inodes; `None` where they are made as needed (btrfs says 0 of 0).
    pub inodes: Option<u64>,
}

/// Looks at `path`.
pub fn look(roots: &Roots, mounts: &[Mount], path: &Path) -> Storage {
    // The part that does not exist yet would be created in the nearest folder that does.
    let there = |part: &Path| Some((part == path, std::fs::metadata(roots.resolve(part)).ok()?.is_dir()));
    let (nearest, (whole, folder)) =
        path.ancestors().find_map(|part| Some((part, there(part)?))).unwrap_or((Path::new("/"), (false, true)));
    let exists = whole && folder;
    let nearest = roots.resolve(nearest);
    // A link such as /var/run has to be followed before the mount table can be asked.
    let followed = std::fs::canonicalize(&nearest).unwrap_or_else(|_| nearest.clone());
    let logical = match followed.strip_prefix(&roots.root) {
        Ok(inside) => Path::new("/").join(inside),
        Err(_) => path.to_path_buf(),
    };
    Storage {
        path: path.into(),
        exists,
        unwritable: if folder { may_create(&nearest).err() } else { Some(Errno::ENOTDIR) },
        mount_point: exists && at(mounts, &logical).is_some(),
        fstype: holding(mounts, &logical).map(|mount| mount.fstype.clone()).unwrap_or_default(),
        free: free(&nearest),
    }
}

/// Whether the effective user may create entries in the folder; a read-only file system counts as well.
pub fn writable(folder: &Path) -> Result<(), Errno> {
    if folder.exists() && !folder.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    may_create(folder)
}

fn may_create(folder: &Path) -> Result<(), Errno> {
    faccessat(AT_FDCWD, folder, AccessFlags::W_OK | AccessFlags::X_OK, nix::fcntl::AtFlags::AT_EACCESS)
}

fn free(folder: &Path) -> Option<Free> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    if found.blocks() == 0 {
        return None;
    }
    let bytes = found.blocks_free().saturating_mul(found.fragment_size());
    let inodes = (found.files() > 0).then(|| found.files_free());
    Some(Free { bytes, inodes })
}

/// Whether the folder, or the nearest one above it that is there, lies on an overlay file system.
pub fn on_overlay(folder: &Path) -> bool {
    let nearest = folder.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/"));
    nix::sys::statfs::statfs(nearest)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC)
}

/// Whether another process holds a `flock(2)` on the file. The lock is tried and given back at once; a file that is
/// not there, or may not be opened, counts as free.
pub fn locked(file: &Path) -> bool {
    let Ok(file) = std::fs::File::open(file) else { return false };
    match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockSharedNonblock) {
        Ok(_released_on_drop) => false,
        Err((_, errno)) => errno == Errno::EWOULDBLOCK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::mountinfo::parse;

    #[test]
    fn a_folder_to_be_made_is_judged_by_the_nearest_one_above() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("var/lib")).unwrap();
        let mounts =
            parse(b"1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /var/lib rw - ext4 d rw\n", Path::new("m")).unwrap();
        let roots = Roots::below(folder.path());
        let found = look(&roots, &mounts, Path::new("/var/lib/docker/x"));
        assert!(!found.exists && !found.mount_point);
        assert_eq!((found.fstype.as_str(), found.unwritable), ("ext4", None));
        assert!(found.free.unwrap().bytes > 0);
        assert!(look(&roots, &mounts, Path::new("/var/lib")).mount_point);
        assert_eq!(look(&roots, &mounts, Path::new("/opt")).fstype, "overlay");
    }

    #[test]
    fn a_link_is_followed_before_the_mount_table_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("run")).unwrap();
        std::fs::create_dir_all(root.join("var")).unwrap();
        std::os::unix::fs::symlink("../run", root.join("var/run")).unwrap();
        let mounts = parse(b"1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /run rw - tmpfs d rw\n", Path::new("m")).unwrap();
        let found = look(&Roots::below(&root), &mounts, Path::new("/var/run"));
        assert_eq!((found.fstype.as_str(), found.mount_point), ("tmpfs", true));
    }

    #[test]
    fn a_file_in_the_way_is_not_a_writable_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tmp"), "").unwrap();
        let found = look(&Roots::below(folder.path()), &[], Path::new("/tmp"));
        assert_eq!((found.exists, found.unwritable), (false, Some(Errno::ENOTDIR)));
    }

    #[test]
    fn a_lock_of_another_opener_is_seen_and_not_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!locked(file.path()));
        let other = std::fs::File::open(file.path()).unwrap();
        let held = nix::fcntl::Flock::lock(other, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
        assert!(locked(file.path()));
        drop(held);
        assert!(!locked(file.path()));
        assert!(!locked(Path::new("/nonexistent")));
    }

    #[test]
    fn a_file_system_without_blocks_counts_no_space() {
        let found = look(&Roots::system(), &[], Path::new("/proc"));
        assert_eq!(found.free, None);
    }
}
