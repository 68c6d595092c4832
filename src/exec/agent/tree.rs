/*!
Creating files below a directory without ever leaving it.

Every component of a path is opened by itself and no symbolic link is followed, so a name can neither climb out nor
be led out, on any kernel (`openat2` does the same in one call, but is missing in some sandboxes). Meant for the time
before the program runs; nothing races with it then.
*/
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

/// A directory that everything is created in.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
}

/// A path that is refused before the kernel is asked, or what the kernel said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TreeError {
    /// Absolute, empty, or with `..` in it.
    #[error("the name leads out of the directory")]
    Unsafe,
    /// A system call failed; ELOOP and ENOTDIR also mean that a link stands where a directory should be.
    #[error("{}", .0.desc())]
    Call(#[from] Errno),
}

const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Tree {
    /// Opens the directory. Links on the way to it are followed: it is named by the job, not by a file's author.
    pub(super) fn open(root: &Path) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: open(root, flags, Mode::empty())? })
    }

    /// The directory that holds the last component of `path`, and that component. Missing directories are created
    /// with mode 0755.
    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), TreeError> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => names.push(name),
                Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(TreeError::Unsafe),
            }
        }
        let (last, folders) = names.split_last().ok_or(TreeError::Unsafe)?;
        let mut folder = self.root.try_clone().map_err(|_| Errno::EMFILE)?;
        for name in folders {
            folder = enter(&folder, name)?;
        }
        Ok((folder, last))
    }

    /// Creates a directory, or leaves one that is there.
    pub(super) fn create_folder(&self, path: &Path) -> Result<(), TreeError> {
        let (parent, name) = self.parent(path)?;
        enter(&parent, name)?;
        Ok(())
    }

    /// Creates an empty file for writing. One that is there is an error (EEXIST).
    pub(super) fn create_file(&self, path: &Path) -> Result<OwnedFd, TreeError> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(parent, name, flags, Mode::from_bits_truncate(0o644))?)
    }

    /// Creates a symbolic link. Where it points to does not matter: nothing here follows it.
    pub(super) fn create_symlink(&self, path: &Path, target: &OsStr) -> Result<(), TreeError> {
        let (parent, name) = self.parent(path)?;
        Ok(symlinkat(target, parent, name)?)
    }

    /// Gives a file of this tree a second name.
    pub(super) fn create_hard_link(&self, path: &Path, target: &Path) -> Result<(), TreeError> {
        let (from, from_name) = self.parent(target)?;
        let (to, to_name) = self.parent(path)?;
        Ok(linkat(from, from_name, to, to_name, AtFlags::empty())?)
    }

    /// Removes a name that is no directory; its absence is no error.
    pub(super) fn remove(&self, path: &Path) -> Result<(), TreeError> {
        let (parent, name) = self.parent(path)?;
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn enter(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match openat(&parent, name, FOLDER, Mode::empty()) {
        Err(Errno::ENOENT) => {
            mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
            openat(&parent, name, FOLDER, Mode::empty())
        }
        other => other,
    }
}

/// Writes everything, however small the pieces the kernel takes.
pub(super) fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_appear_below_the_root_with_their_folders() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let file = tree.create_file(Path::new("./a/b/file")).unwrap();
        write_all(&file, b"text").unwrap();
        assert_eq!(fs::read(root.path().join("a/b/file")).unwrap(), b"text");
        assert_eq!(tree.create_file(Path::new("a/b/file")).unwrap_err(), TreeError::Call(Errno::EEXIST));
        tree.remove(Path::new("a/b/file")).unwrap();
        tree.remove(Path::new("a/b/file")).unwrap();
        tree.create_folder(Path::new("a/b")).unwrap();
        assert!(fs::read_dir(root.path().join("a/b")).unwrap().next().is_none());
    }

    #[test]
    fn no_name_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        tree.create_symlink(Path::new("out"), outside.path().as_os_str()).unwrap();
        tree.create_symlink(Path::new("dangling"), outside.path().join("new").as_os_str()).unwrap();
        for name in ["/etc/x", "../x", "a/../../x", "", ".", "..", "out/x", "dangling", "dangling/x"] {
            let path = Path::new(name);
            assert!(tree.create_file(path).is_err(), "{name}");
        }
        assert!(tree.create_hard_link(Path::new("x"), Path::new("out/secret")).is_err());
        assert!(tree.create_hard_link(Path::new("x"), Path::new("../secret")).is_err());
        assert!(tree.create_folder(Path::new("out/folder")).is_err());
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    }
}
