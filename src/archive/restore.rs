/*!
A restore from beginning to end: read the archive and judge it, look whether it fits, unpack it aside, judge it once more,
exchange.
*/
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;

use super::backup::lock;
use super::error::ArchiveError;
use super::order::Place;
use super::read::{self, Limit, Nowhere, Sink, Verified};
use super::seal::{SEAL, Seal};
use super::space;
use super::stop::{Stop, Stoppable, unwrapped};
use super::swap::{self, Recovered, Staging, Steps};
use super::unpack::{Losses, Rights, Unpack};
use super::walk::Progress;
use crate::probe::mountinfo::Mount;

/// An archive without a seal is only read to say where it breaks off; by then it may have unpacked to so many times its length.
const BROKEN_RATIO: u64 = 4096;

/// Where the archive is.
#[derive(Debug)]
pub enum Origin {
    /// A file by name.
    File(PathBuf),
    /// A stream, read once from the beginning to the end.
    Stream(OwnedFd),
}

impl Origin {
    /// For messages.
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stream(_) => "the archive on standard input".to_owned(),
        }
    }
}

/// How a restore is done.
#[derive(Debug)]
pub struct Wish<'a> {
    /// What is there may be replaced.
    pub replace: bool,
    /// Mounts of our own namespace.
    pub mounts: &'a [Mount],
    /// Whose rights there are.
    pub rights: Rights,
    /// Who may end it.
    pub stop: &'a Stop,
}

/// What came of a restore.
#[derive(Debug)]
pub struct Restored {
    /// The archive.
    pub verified: Verified,
    /// What could not be kept.
    pub losses: Losses,
    /// What had to be ended before.
    pub recovered: Vec<Recovered>,
    /// Names at the top of the old tree that were replaced.
    pub replaced: usize,
    /// What of the old tree could not be removed, and why.
    pub left: Option<String>,
}

/// Passes on what is read and tells how far it is.
struct Told<'a, 'p> {
    sink: &'a mut dyn Sink,
    progress: Progress<'p>,
    path: Vec<u8>,
    count: (u64, u64),
}

impl Sink for Told<'_, '_> {
    fn entry(&mut self, entry: &super::entry::Entry, place: Place) -> Result<(), ArchiveError> {
        self.path.clone_from(&entry.path);
        self.count.0 += 1;
        (self.progress)(&self.path, self.count);
        self.sink.entry(entry, place)
    }

    fn content(&mut self, piece: &[u8]) -> Result<(), ArchiveError> {
        self.count.1 += piece.len() as u64;
        (self.progress)(&self.path, self.count);
        self.sink.content(piece)
    }

    fn complete(&mut self) -> Result<(), ArchiveError> {
        self.sink.complete()
    }
}

/// Only judges an archive. Nothing is written anywhere.
pub fn verify(origin: &Origin, stop: &Stop, progress: Progress<'_>) -> Result<Verified, ArchiveError> {
    let name = origin.shown();
    let mut told = Told { sink: &mut Nowhere, progress, path: Vec::new(), count: (0, 0) };
    match origin {
        Origin::File(path) => {
            let file = File::open(path).map_err(ArchiveError::io("open", &name))?;
            let stat = file.metadata().map_err(ArchiveError::io("look at", &name))?;
            let limit = if stat.is_file() { bound(&file, &name)? } else { Limit::default() };
            read::read(Stoppable::new(file, stop.clone(), None), &name, &limit, &mut told, stop)
        }
        Origin::Stream(stream) => {
            let stream = File::from(stream.try_clone().map_err(ArchiveError::io("open", &name))?);
            read::read(Stoppable::new(stream, stop.clone(), None), &name, &Limit::default(), &mut told, stop)
        }
    }
}

/// What the seal at the end says about the length of the stream.
fn bound(file: &File, name: &str) -> Result<Limit, ArchiveError> {
    let length = file.metadata().map_err(ArchiveError::io("look at", name))?.len();
    let mut end = [0; SEAL];
    let seal = match length.checked_sub(SEAL as u64) {
        Some(at) => {
            file.read_exact_at(&mut end, at).map(|()| Seal::decode(&end)).map_err(ArchiveError::io("read", name))?
        }
        None => None,
    };
    let stream = seal.map_or(length.saturating_mul(BROKEN_RATIO), |seal| seal.stream_bytes);
    Ok(Limit { stream: Some(stream), disk: None })
}

/// The folder that is to be restored.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    shown: String,
    held: OwnedFd,
    _lock: Option<Flock<OwnedFd>>,
}

impl Target {
    /// Opens and locks it.
    pub fn open(folder: &Path) -> Result<Self, ArchiveError> {
        let shown = folder.display().to_string();
        let path = folder.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                ArchiveError::refused(format!("there is no folder {shown}"), "create it, or name another one with --to")
            }
            _ => ArchiveError::io("find", &shown)(error),
        })?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let held = open(&path, flags, Mode::empty()).map_err(ArchiveError::call("open the folder", &shown))?;
        let lock = lock(&held, FlockArg::LockExclusiveNonblock, &shown)?;
        Ok(Self { path, shown, held, _lock: lock })
    }

    /// Its real path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends what a killed restore left.
    pub fn recover(&self, rights: Rights) -> Result<Vec<Recovered>, ArchiveError> {
        swap::recover(&self.held, &self.shown, rights)
    }

    /// Refuses what must not be replaced: names that are there, and other file systems, which cannot be moved aside.
    pub fn check(&self, replace: bool, mounts: &[Mount]) -> Result<usize, ArchiveError> {
        let there = swap::content(self.held.as_fd()).map_err(ArchiveError::call("list", &self.shown))?;
        if let (Some(name), false) = (there.first(), replace) {
            let what = format!("{} is not empty: {} is there", self.shown, name.display());
            return Err(ArchiveError::refused(what, "--replace replaces what is there, all or nothing"));
        }
        let below = |mount: &&Mount| mount.point != self.path && mount.point.starts_with(&self.path);
        if let Some(mount) = mounts.iter().find(below) {
            let what = format!("{} is mounted inside {}", mount.point.display(), self.shown);
            return Err(ArchiveError::refused(what, "unmount it first; a tree with a mount in it cannot be replaced"));
        }
        Ok(there.len())
    }

    /// The archive as a file that can be read twice. A stream is kept in a file without a name.
    fn archive(&self, origin: &Origin, stop: &Stop) -> Result<File, ArchiveError> {
        let name = origin.shown();
        let stream = match origin {
            Origin::File(path) => {
                let file = File::open(path).map_err(ArchiveError::io("open", &name))?;
                let stat = file.metadata().map_err(ArchiveError::io("look at", &name))?;
                if stat.is_dir() {
                    return Err(ArchiveError::call("read", &name)(Errno::EISDIR));
                }
                let inside = path.canonicalize().is_ok_and(|path| path.starts_with(&self.path));
                if stat.is_file() && inside {
                    let what = format!("{name} lies in the folder that would be replaced");
                    return Err(ArchiveError::refused(what, "move it elsewhere, or feed it through standard input"));
                }
                if stat.is_file() {
                    return Ok(file);
                }
                OwnedFd::from(file)
            }
            Origin::Stream(stream) => stream.try_clone().map_err(ArchiveError::io("open", &name))?,
        };
        let aside = tempfile::tempfile_in(&self.path).or_else(|_| tempfile::tempfile());
        let mut aside = aside.map_err(ArchiveError::io("keep the archive in", &self.shown))?;
        let mut stream = Stoppable::new(File::from(stream), stop.clone(), None);
        let mut piece = vec![0; 256 * 1024];
        loop {
            match stream.read(&mut piece).map_err(unwrapped("read", &name))? {
                0 => return Ok(aside),
                count => aside
                    .write_all(piece.get(..count).unwrap_or_default())
                    .map_err(ArchiveError::io("keep the archive in", &self.shown))?,
            }
        }
    }

    /// Restores the archive here. `steps` is asked before each step of the exchange.
    pub fn restore(
        &self,
        origin: &Origin,
        wish: &Wish<'_>,
        progress: Progress<'_>,
        steps: Steps<'_>,
    ) -> Result<Restored, ArchiveError> {
        let &Wish { replace, mounts, rights, stop } = wish;
        self.check(replace, mounts)?;
        let name = origin.shown();
        let archive = self.archive(origin, stop)?;
        let mut limit = bound(&archive, &name)?;
        let room = space::free(&self.held, &self.shown)?;
        limit.disk = room.bytes.map(|free| (free, self.shown.clone()));
        let verified = pass(&archive, &name, &limit, &mut Nowhere, stop, progress)?;
        let recovered = self.recover(rights)?;
        let replaced = self.check(replace, mounts)?;
        space::check(verified.need, space::free(&self.held, &self.shown)?, &self.shown)?;

        let staging = Staging::create(&self.held, &self.shown, rights)?;
        let unpacked = unpack(&staging, &archive, &name, &limit, &verified, wish, progress);
        let losses = match unpacked.and_then(|losses| steps("begin").map(|()| losses)) {
            Ok(losses) => losses,
            Err(first) => return Err(staging.undone(first)),
        };
        staging.swap(steps)?;
        let left = staging.end().err().map(|error| format!("{error} ({})", staging.place()));
        Ok(Restored { verified, losses, recovered, replaced, left })
    }
}

fn pass(
    archive: &File,
    name: &str,
    limit: &Limit,
    sink: &mut dyn Sink,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Verified, ArchiveError> {
    let mut from = archive;
    from.seek(SeekFrom::Start(0)).map_err(ArchiveError::io("read", name))?;
    read::read(from, name, limit, &mut Told { sink, progress, path: Vec::new(), count: (0, 0) }, stop)
}

fn unpack(
    staging: &Staging,
    archive: &File,
    name: &str,
    limit: &Limit,
    verified: &Verified,
    wish: &Wish<'_>,
    progress: Progress<'_>,
) -> Result<Losses, ArchiveError> {
    let mut unpack = Unpack::below(&staging.new_tree()?, wish.rights)?;
    // The space was looked at; what fills up meanwhile says so by itself.
    let limit = Limit { disk: None, ..limit.clone() };
    let again = pass(archive, name, &limit, &mut unpack, wish.stop, progress)?;
    if again.sha256 != verified.sha256 {
        let what = format!("{name} is another one than a moment ago");
        return Err(ArchiveError::refused(what, "nothing was changed; wait until it is written"));
    }
    let (root, mut losses) = unpack.finish()?;
    if let Some(root) = root {
        staging.set_root(&root, &mut losses)?;
    }
    Ok(losses)
}
