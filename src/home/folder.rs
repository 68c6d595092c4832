/*!
Folders that belong to somebody who may put links into them at any time: each is held by its descriptor, and what lies in it is
reached by one name at a time, without following links. So root never leaves a home by way of it.

Root may be refused in there: in a container without `CAP_DAC_OVERRIDE`, or on a share that maps root to nobody. Then the same is
tried as the one whose folder it is.
*/
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use crate::sys::fsuser::FsUser;

/// User and group that things are to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

const LOOK: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Does it as we are, and once more as `owner` where the mode of a file or folder refuses that.
fn also_as<T>(owner: Owner, act: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match act() {
        Err(Errno::EACCES) => {
            // Whoever may not do that has the first answer.
            let _owner = FsUser::assume_ids(owner.uid, owner.gid).map_err(|_| Errno::EACCES)?;
            act()
        }
        done => done,
    }
}

impl Folder {
    /// Opens a folder whose path nobody but root can change, and makes it if it is missing.
    pub fn top(path: &Path, owner: Owner, mode: u32) -> Result<Self, Errno> {
        match also_as(owner, || openat(AT_FDCWD, path, LOOK, Mode::empty())) {
            Ok(fd) => Ok(Self(fd)),
            Err(Errno::ENOENT) => {
                mkdirat(AT_FDCWD, path, Mode::from_bits_truncate(mode))?;
                let folder = Self(openat(AT_FDCWD, path, LOOK, Mode::empty())?);
                folder.give(owner)?;
                Ok(folder)
            }
            Err(errno) => Err(errno),
        }
    }

    /// The folder `name` in it; made, for `owner`, if it is missing.
    pub fn make(&self, name: &OsStr, owner: Owner) -> Result<Self, Errno> {
        let open = || also_as(owner, || openat(&self.0, name, LOOK, Mode::empty()));
        let made = match also_as(owner, || mkdirat(&self.0, name, Mode::from_bits_truncate(0o755))) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            // A read-only file system says so even where the folder is there.
            Err(errno) => return open().map(Self).map_err(|_| errno),
        };
        let folder = Self(open()?);
        if made {
            folder.give(owner)?;
        }
        Ok(folder)
    }

    /// The same for each part of a relative path; every folder on the way is given to `owner`.
    pub fn make_all(&self, path: &Path, owner: Owner) -> Result<Self, Errno> {
        let mut at = Self(self.0.try_clone().map_err(|error| crate::sys::file::errno(&error))?);
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(Errno::EINVAL) };
            at = at.make(name, owner)?;
            at.give(owner)?;
        }
        Ok(at)
    }

    /// Gives the folder itself, and nothing in it, to `owner`.
    pub fn give(&self, owner: Owner) -> Result<(), Errno> {
        let found = fstat(&self.0)?;
        if (found.st_uid, found.st_gid) == (owner.uid, owner.gid) {
            return Ok(());
        }
        fchown(&self.0, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
    }

    /// Gives a file in it to `owner` if it is a file under one name only and belongs to `from`.
    pub fn give_file(&self, name: &OsStr, from: u32, owner: Owner) -> Result<(), Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match also_as(owner, || openat(&self.0, name, flags, Mode::empty())) {
            Err(Errno::ENOENT | Errno::ELOOP) => return Ok(()),
            file => file?,
        };
        let found = fstat(&file)?;
        let plain = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG;
        if !plain
            || found.st_nlink != 1
            || found.st_uid != from
            || (found.st_uid, found.st_gid) == (owner.uid, owner.gid)
        {
            return Ok(());
        }
        fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
    }

    /// Copies a file of the image into it under `name`, for `owner`, unless anything of that name is there.
    pub fn copy_new(&self, name: &OsStr, source: &Path, owner: Owner) -> Result<bool, Errno> {
        let errno = |error: std::io::Error| crate::sys::file::errno(&error);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut from = File::open(source).map_err(errno)?;
        let made = match also_as(owner, || openat(&self.0, name, flags, Mode::from_bits_truncate(0o644))) {
            Err(Errno::EEXIST) => return Ok(false),
            made => made?,
        };
        fchown(&made, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        let mut to = File::from(made);
        match std::io::copy(&mut from, &mut to) {
            Ok(_) => Ok(true),
            Err(error) => {
                // Half a file would stand for good; the error that is told is the first one.
                let remove = || nix::unistd::unlinkat(self.0.as_fd(), name, nix::unistd::UnlinkatFlags::NoRemoveDir);
                let _ = also_as(owner, remove);
                Err(errno(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn own() -> Owner {
        Owner { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() }
    }

    #[test]
    fn folders_are_made_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let top = Folder::top(&home.path().join("coder"), own(), 0o755).unwrap();
        for _ in 0..2 {
            top.make_all(Path::new(".local/share/x"), own()).unwrap();
        }
        assert!(home.path().join("coder/.local/share/x").is_dir());
        assert_eq!(top.make_all(Path::new("../x"), own()).unwrap_err(), Errno::EINVAL);
    }

    #[test]
    fn no_link_is_followed() {
        let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(other.path(), home.path().join(".local")).unwrap();
        symlink(other.path().join("file"), home.path().join(".bashrc")).unwrap();
        std::fs::write(other.path().join("file"), "text").unwrap();
        let top = Folder::top(home.path(), own(), 0o755).unwrap();
        assert!(matches!(top.make_all(Path::new(".local/share"), own()), Err(Errno::ENOTDIR | Errno::ELOOP)));
        assert_eq!(top.give_file(OsStr::new(".bashrc"), own().uid, Owner { uid: 1, gid: 1 }), Ok(()));
        assert_eq!(top.copy_new(OsStr::new(".bashrc"), Path::new("/etc/hostname"), own()), Ok(false));
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(other.path().join("file")).unwrap().uid(), own().uid);
    }

    /// A second name of a file may lie outside of the home.
    #[test]
    fn a_file_under_two_names_is_not_given_away() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("a"), "").unwrap();
        std::fs::hard_link(home.path().join("a"), home.path().join("b")).unwrap();
        let top = Folder::top(home.path(), own(), 0o755).unwrap();
        top.give_file(OsStr::new("a"), own().uid, Owner { uid: 4242, gid: 4242 }).unwrap();
        assert_eq!(std::fs::metadata(home.path().join("a")).unwrap().uid(), own().uid);
    }

    #[test]
    fn what_is_there_is_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("source");
        std::fs::write(&source, "ours").unwrap();
        let top = Folder::top(home.path(), own(), 0o755).unwrap();
        assert_eq!(top.copy_new(OsStr::new("s"), &source, own()), Ok(true));
        std::fs::write(home.path().join("s"), "theirs").unwrap();
        assert_eq!(top.copy_new(OsStr::new("s"), &source, own()), Ok(false));
        assert_eq!(std::fs::read_to_string(home.path().join("s")).unwrap(), "theirs");
    }
}
