//! Removing a tree, however deep, without following a link or touching another file system.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::cursor::Cursor;
use super::node;

/// Removes the name and everything below it. Its absence is no error.
pub fn remove(folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let Some(held) = unlink(folder, name)? else { return Ok(()) };
    let mount = node::mount_id(folder)?;
    let mut folders = vec![names(&held, mount)?.into_iter()];
    let mut cursor = Cursor::new(held);
    while let Some(names_here) = folders.last_mut() {
        if let Some(name) = names_here.next() {
            if let Some(held) = unlink(cursor.here(), &name)? {
                folders.push(names(&held, mount)?.into_iter());
                cursor.enter(&name, held)?;
            }
            continue;
        }
        folders.pop();
        if let Some((name, _)) = cursor.leave()? {
            unlinkat(cursor.here(), name.as_os_str(), UnlinkatFlags::RemoveDir)?;
        }
    }
    unlinkat(folder, name, UnlinkatFlags::RemoveDir)
}

/// Removes what is no folder; a folder is given back.
fn unlink(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(None),
        Err(Errno::EISDIR) => node::folder(folder, name).map(Some),
        Err(errno) => Err(errno),
    }
}

fn names(held: &OwnedFd, mount: u64) -> Result<Vec<std::ffi::OsString>, Errno> {
    if node::mount_id(held.as_fd())? != mount {
        return Err(Errno::EBUSY);
    }
    // An ordinary user may have closed a folder of their own.
    if !nix::unistd::geteuid().is_root() {
        let path = node::proc_path(held.as_fd());
        nix::sys::stat::fchmodat(
            nix::fcntl::AT_FDCWD,
            &path,
            Mode::S_IRWXU,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )?;
    }
    node::names(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_point_to_stays() {
        let around = tempfile::tempdir().unwrap();
        std::fs::write(around.path().join("canary"), "alive").unwrap();
        let deep: std::path::PathBuf = std::iter::once("tree").chain(std::iter::repeat_n("d", 60)).collect();
        std::fs::create_dir_all(around.path().join(&deep)).unwrap();
        std::os::unix::fs::symlink(around.path(), around.path().join("tree/d/out")).unwrap();
        std::fs::write(around.path().join(&deep).join("file"), "x").unwrap();
        let above = std::fs::File::open(around.path()).unwrap();
        remove(above.as_fd(), OsStr::new("tree")).unwrap();
        remove(above.as_fd(), OsStr::new("tree")).unwrap();
        let left: Vec<_> = std::fs::read_dir(around.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["canary"]);
    }
}
