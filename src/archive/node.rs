//! One name of a folder, looked at through a descriptor that holds it, so that nobody can put another thing there meanwhile.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};

use super::entry::{Entry, Kind, MODE, Time};
use crate::sys::file::errno;

/// Attributes that belong to the machine and its policy, not to the file: labels and measurements that the kernel makes.
const MACHINES_OWN: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// Holds whatever the name stands for, without opening or following it.
pub fn hold(folder: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(folder, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a folder by name. A link is refused (`ENOTDIR`).
pub fn folder(above: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(above, name, flags, Mode::empty())
}

/// The same folder, for reading its names and setting its attributes.
pub fn readable(folder: impl AsFd) -> Result<OwnedFd, Errno> {
    openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a held regular file for reading, without changing its time of access where that is allowed.
pub fn reopen(held: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = proc_path(held.as_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match open(&path, flags | OFlag::O_NOATIME, Mode::empty()) {
        Err(Errno::EPERM) => open(&path, flags, Mode::empty()),
        other => other,
    }
}

/// The names in a folder, ascending by byte.
pub fn names(folder: impl AsFd) -> Result<Vec<std::ffi::OsString>, Errno> {
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(readable(folder)?)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `/proc/self/fd/N`: what is held, whatever stands at its name now.
pub fn proc_path(held: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

/// Number of the mount that what is held was reached through. Device numbers would not do: overlay has several, and a bind
/// mount the same.
pub fn mount_id(held: BorrowedFd<'_>) -> Result<u64, Errno> {
    let text =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", held.as_raw_fd())).map_err(|error| errno(&error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    line.and_then(|number| number.trim().parse().ok()).ok_or(Errno::ENOSYS)
}

/// Extended attributes of what is held, of a link its own.
pub fn xattrs(held: BorrowedFd<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = proc_path(held);
    let names = match xattr::list_deref(&path) {
        Ok(names) => names,
        Err(error) => {
            return match errno(&error) {
                Errno::EOPNOTSUPP | Errno::ENOSYS => Ok(BTreeMap::new()),
                other => Err(other),
            };
        }
    };
    let mut found = BTreeMap::new();
    for name in names.filter(|name| !MACHINES_OWN.contains(&name.as_bytes())) {
        // One that is gone since the listing is not there.
        if let Some(value) = xattr::get_deref(&path, &name).map_err(|error| errno(&error))? {
            found.insert(name.into_vec(), value);
        }
    }
    Ok(found)
}

/// Device and inode.
pub const fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// What kind of thing it is.
pub const fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Everything about what is held, as an entry at `path`; `None` for a socket.
pub fn entry(path: Vec<u8>, held: BorrowedFd<'_>, stat: &FileStat) -> Result<Option<Entry>, Errno> {
    let device = || (number(major(stat.st_rdev)), number(minor(stat.st_rdev)));
    let kind = match file_type(stat) {
        SFlag::S_IFDIR => Kind::Folder,
        SFlag::S_IFREG => Kind::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
        SFlag::S_IFLNK => Kind::Symlink { target: readlinkat(held, "")?.into_vec() },
        SFlag::S_IFIFO => Kind::Fifo,
        SFlag::S_IFCHR => {
            let (major, minor) = device();
            Kind::Char { major, minor }
        }
        SFlag::S_IFBLK => {
            let (major, minor) = device();
            Kind::Block { major, minor }
        }
        _ => return Ok(None),
    };
    let (mode, uid, gid, mtime) = (stat.st_mode & MODE, stat.st_uid, stat.st_gid, mtime(stat));
    Ok(Some(Entry { path, kind, mode, uid, gid, mtime, xattrs: xattrs(held)? }))
}

// The kernel has 12 and 20 bits for them.
fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// When the content changed last.
pub fn mtime(stat: &FileStat) -> Time {
    Time { sec: stat.st_mtime, nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// Looks at what is held.
pub fn look(held: impl AsFd) -> Result<FileStat, Errno> {
    fstat(held)
}
