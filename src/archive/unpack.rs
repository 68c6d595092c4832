/*!
Making a tree out of entries, below a folder that nobody else looks into.

The reader has judged names and order; here every name is made in a folder that is held open, so that nothing could lead
out even if it had not.
*/
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use serde::Serialize;

use super::cursor::Cursor;
use super::entry::{Entry, Kind, Time, shown};
use super::error::ArchiveError;
use super::node;
use super::order::{Place, split};
use super::read::{Sink, UNIT, is_zero};
use crate::sys::file::errno;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// What could not be kept, as numbers of entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    /// Owner or group, and with it set-user-id and set-group-id.
    pub owners: u64,
    /// Device nodes, which are not there at all.
    pub devices: u64,
    /// Extended attributes.
    pub xattrs: u64,
}

impl Losses {
    /// Whether everything could be kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whose rights there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// What is not permitted is left out and counted, instead of ending the restore.
    pub lenient: bool,
}

impl Rights {
    /// Root of the machine's own user namespace can do everything, so a refusal means something; anybody else cannot.
    pub fn ours() -> Self {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
        Self { lenient: !(nix::unistd::geteuid().is_root() && whole) }
    }
}

/// Makes the tree.
#[derive(Debug)]
pub struct Unpack {
    cursor: Cursor,
    /// Path of the folder where the cursor is.
    here: Vec<u8>,
    /// The folder itself and each below it down to here; their attributes come last, when nothing is made in them any more.
    open: Vec<Entry>,
    file: Option<(File, Entry, u64)>,
    rights: Rights,
    losses: Losses,
    root: OwnedFd,
}

impl Unpack {
    /// Below this empty folder.
    pub fn below(root: &OwnedFd, rights: Rights) -> Result<Self, ArchiveError> {
        let clone = || root.try_clone().map_err(ArchiveError::io("open", "the new tree"));
        Ok(Self {
            cursor: Cursor::new(clone()?),
            here: Vec::new(),
            open: Vec::new(),
            file: None,
            rights,
            losses: Losses::default(),
            root: clone()?,
        })
    }

    /// Ends the tree. Gives what is to become of the folder itself, whose attributes are not set here.
    pub fn finish(mut self) -> Result<(Option<Entry>, Losses), ArchiveError> {
        while self.open.len() > 1 {
            self.leave()?;
        }
        Ok((self.open.pop(), self.losses))
    }

    fn leave(&mut self) -> Result<(), ArchiveError> {
        let Some(entry) = self.open.pop() else { return Ok(()) };
        let call = |doing| ArchiveError::call(doing, entry.shown());
        if let Some((_, held)) = self.cursor.leave().map_err(call("leave"))? {
            let readable = node::readable(&held).map_err(call("open"))?;
            set(readable.as_fd(), &entry, self.rights, &mut self.losses)?;
        }
        self.here = split(&entry.path).0.to_vec();
        Ok(())
    }

    fn make(&mut self, entry: &Entry, name: &OsStr) -> Result<(), ArchiveError> {
        let call = |doing| ArchiveError::call(doing, entry.shown());
        let here = self.cursor.here();
        match &entry.kind {
            Kind::Folder => {
                mkdirat(here, name, Mode::S_IRWXU).map_err(call("create folder"))?;
                let held = node::folder(here, name).map_err(call("open"))?;
                self.cursor.enter(name, held).map_err(call("enter"))?;
                self.here.clone_from(&entry.path);
                self.open.push(entry.clone());
                return Ok(());
            }
            Kind::File { .. } => {
                let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = openat(here, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(call("create"))?;
                self.file = Some((File::from(file), entry.clone(), 0));
                return Ok(());
            }
            Kind::HardLink { target } => {
                return self.link(target, name).map_err(call("link"));
            }
            Kind::Symlink { target } => {
                symlinkat(OsStr::from_bytes(target), here, name).map_err(call("create link"))?;
            }
            Kind::Fifo => mknodat(here, name, SFlag::S_IFIFO, Mode::S_IRUSR, 0).map_err(call("create pipe"))?,
            Kind::Char { major, minor } | Kind::Block { major, minor } => {
                let block = matches!(entry.kind, Kind::Block { .. });
                let kind = if block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
                match mknodat(here, name, kind, Mode::S_IRUSR, makedev((*major).into(), (*minor).into())) {
                    Err(Errno::EPERM) if self.rights.lenient => {
                        self.losses.devices += 1;
                        return Ok(());
                    }
                    other => other.map_err(call("create device"))?,
                }
            }
        }
        set_at(here, name, entry, self.rights, &mut self.losses)
    }

    fn link(&self, target: &[u8], name: &OsStr) -> Result<(), Errno> {
        let (folder, old) = split(target);
        let old = OsStr::from_bytes(old);
        let here = self.cursor.here();
        let linked = if folder == self.here {
            linkat(here, old, here, name, AtFlags::empty())
        } else {
            let mut held = self.root.try_clone().map_err(|error| errno(&error))?;
            for part in folder.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
                held = node::folder(&held, OsStr::from_bytes(part))?;
            }
            linkat(&held, old, here, name, AtFlags::empty())
        };
        match linked {
            // A device that could not be made has no other name either.
            Err(Errno::ENOENT) if self.rights.lenient && self.losses.devices > 0 => Ok(()),
            other => other,
        }
    }
}

impl Sink for Unpack {
    fn entry(&mut self, entry: &Entry, place: Place) -> Result<(), ArchiveError> {
        if entry.path.is_empty() {
            self.open.push(entry.clone());
            return Ok(());
        }
        let (folder, name) = split(&entry.path);
        while self.here != folder && self.open.len() > 1 {
            self.leave()?;
        }
        if self.here != folder {
            return Err(ArchiveError::call("find the folder of", entry.shown())(Errno::ENOENT));
        }
        let name = OsStr::from_bytes(name);
        if place == Place::Again {
            unlinkat(self.cursor.here(), name, UnlinkatFlags::NoRemoveDir)
                .map_err(ArchiveError::call("replace", entry.shown()))?;
        }
        self.make(entry, name)
    }

    fn content(&mut self, piece: &[u8]) -> Result<(), ArchiveError> {
        let Some((file, entry, at)) = &mut self.file else { return Ok(()) };
        let failed = |path: &[u8]| ArchiveError::io("write", shown(path));
        let mut begin = 0;
        // Runs of units with something in them are written, zeros stay holes.
        let units: Vec<&[u8]> = piece.chunks(UNIT).collect();
        for run in units.chunk_by(|one, other| is_zero(one) == is_zero(other)) {
            let length: usize = run.iter().map(|unit| unit.len()).sum();
            let bytes = piece.get(begin..begin + length).unwrap_or_default();
            if !is_zero(bytes) {
                file.write_all_at(bytes, *at + begin as u64).map_err(failed(&entry.path))?;
            }
            begin += length;
        }
        *at += piece.len() as u64;
        Ok(())
    }

    fn complete(&mut self) -> Result<(), ArchiveError> {
        let Some((file, entry, at)) = self.file.take() else { return Ok(()) };
        file.set_len(at).map_err(ArchiveError::io("write", entry.shown()))?;
        set(file.as_fd(), &entry, self.rights, &mut self.losses)
    }
}

/// Gives an open file or folder its attributes. In this order: a change of owner takes away set-user-id and capabilities.
fn set(open: BorrowedFd<'_>, entry: &Entry, rights: Rights, losses: &mut Losses) -> Result<(), ArchiveError> {
    let call = |doing| ArchiveError::call(doing, entry.shown());
    let owned = fchown(open, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    let mode = owner(owned, entry, rights, losses).map_err(call("set the owner of"))?;
    attributes(open, entry, rights, losses)?;
    fchmod(open, Mode::from_bits_truncate(mode)).map_err(call("set the mode of"))?;
    futimens(open, &TimeSpec::UTIME_OMIT, &timespec(entry.mtime)).map_err(call("set the time of"))
}

/// The same for what cannot be opened.
fn set_at(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    entry: &Entry,
    rights: Rights,
    losses: &mut Losses,
) -> Result<(), ArchiveError> {
    let call = |doing| ArchiveError::call(doing, entry.shown());
    let ids = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    let owned = fchownat(folder, name, ids.0, ids.1, AtFlags::AT_SYMLINK_NOFOLLOW);
    let mode = owner(owned, entry, rights, losses).map_err(call("set the owner of"))?;
    let held = node::hold(folder, name).map_err(call("look at"))?;
    attributes(held.as_fd(), entry, rights, losses)?;
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(folder, name, mode, FchmodatFlags::FollowSymlink).map_err(call("set the mode of"))?;
    }
    let time = timespec(entry.mtime);
    utimensat(folder, name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)
        .map_err(call("set the time of"))
}

/// The mode that goes with the owner: a program must not run as somebody else than it was meant for.
fn owner(outcome: Result<(), Errno>, entry: &Entry, rights: Rights, losses: &mut Losses) -> Result<u32, Errno> {
    match outcome {
        Ok(()) => Ok(entry.mode),
        Err(Errno::EPERM | Errno::EINVAL) if rights.lenient => {
            losses.owners += 1;
            Ok(entry.mode & !SET_ID)
        }
        Err(errno) => Err(errno),
    }
}

fn attributes(held: BorrowedFd<'_>, entry: &Entry, rights: Rights, losses: &mut Losses) -> Result<(), ArchiveError> {
    let mut lost = false;
    for (name, value) in &entry.xattrs {
        match xattr::set_deref(node::proc_path(held), OsStr::from_bytes(name), value).map_err(|error| errno(&error)) {
            Ok(()) => {}
            // The file system has none of this kind.
            Err(Errno::EOPNOTSUPP) => lost = true,
            Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL) if rights.lenient => lost = true,
            Err(errno) => {
                let what = format!("{} of {}", shown(name), entry.shown());
                return Err(ArchiveError::call("set the attribute", what)(errno));
            }
        }
    }
    losses.xattrs += u64::from(lost);
    Ok(())
}

/// Gives a folder that has attributes already exactly those of the entry.
pub fn assume(folder: BorrowedFd<'_>, entry: &Entry, rights: Rights, losses: &mut Losses) -> Result<(), ArchiveError> {
    let call = |doing| ArchiveError::call(doing, entry.shown());
    for name in node::xattrs(folder).map_err(call("read the attributes of"))?.into_keys() {
        if !entry.xattrs.contains_key(&name) {
            xattr::remove_deref(node::proc_path(folder), OsStr::from_bytes(&name))
                .map_err(|error| call("remove an attribute of")(errno(&error)))?;
        }
    }
    set(folder, entry, rights, losses)
}

/// Sets only the time of the last change.
pub fn touch(folder: BorrowedFd<'_>, time: Time) -> Result<(), Errno> {
    futimens(folder, &TimeSpec::UTIME_OMIT, &timespec(time))
}

fn timespec(time: Time) -> TimeSpec {
    TimeSpec::new(time.sec, time.nsec.into())
}
