//! A backup from beginning to end.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;

use super::error::ArchiveError;
use super::manifest::{Header, PathText, SCHEMA, Skipped, Summary};
use super::names::Patterns;
use super::node;
use super::pause::Paused;
use super::stop::{Stop, Stoppable, unwrapped};
use super::walk::{Plan, Progress, walk};
use super::write::{Writer, Written};

/// Pieces in which an archive is written to a file, bytes.
const PIECE: usize = 256 * 1024;

/// Where the archive goes.
#[derive(Debug)]
pub enum Destination {
    /// To this file, which appears when it is complete.
    File(PathBuf),
    /// Through this stream, for which nobody waits longer than told.
    Stream(OwnedFd, Option<std::time::Duration>),
}

/// What is wanted.
#[derive(Debug)]
pub struct Request {
    /// The folder.
    pub folder: PathBuf,
    /// Where to.
    pub to: Destination,
    /// What is left out, compiled and as typed.
    pub exclude: (Patterns, Vec<String>),
    /// An archive with files that did not hold still is better than none.
    pub keep_changed: bool,
    /// What the archive says about when and where: RFC 3339 time, version of dindctl, host.
    pub stamp: (String, String, String),
}

/// What came of it.
#[derive(Debug)]
pub struct Backup {
    /// The folder, real and absolute.
    pub folder: PathBuf,
    /// The archive; `None` when it was not kept because files changed.
    pub archive: Option<Archive>,
    /// Files that changed whenever they were read.
    pub changed: Vec<PathText>,
    /// What was left out.
    pub skipped: Skipped,
    /// Containers that were paused meanwhile.
    pub paused: Vec<String>,
}

/// An archive that is complete.
#[derive(Debug)]
pub struct Archive {
    /// Length, bytes.
    pub bytes: u64,
    /// Digest, hexadecimal.
    pub sha256: String,
    /// What its manifest says.
    pub summary: Summary,
}

/// The folder, opened and locked, so that no restore changes it meanwhile.
#[derive(Debug)]
pub struct Source {
    /// Real and absolute.
    pub path: PathBuf,
    held: OwnedFd,
    _lock: Option<Flock<OwnedFd>>,
}

impl Source {
    /// Opens it.
    pub fn open(folder: &Path) -> Result<Self, ArchiveError> {
        let shown = folder.display().to_string();
        let path = folder.canonicalize().map_err(ArchiveError::io("find", &shown))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let held = open(&path, flags, Mode::empty()).map_err(ArchiveError::call("open the folder", &shown))?;
        let lock = lock(&held, FlockArg::LockSharedNonblock, &shown)?;
        Ok(Self { path, held, _lock: lock })
    }
}

/// Locks a folder against restores (shared) or against backups and restores (exclusive). `None` where the file system has no
/// locks for folders, as NFS.
pub fn lock(folder: &OwnedFd, how: FlockArg, shown: &str) -> Result<Option<Flock<OwnedFd>>, ArchiveError> {
    let own = folder.try_clone().map_err(ArchiveError::io("open", shown))?;
    match Flock::lock(own, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EBADF | Errno::ENOLCK | Errno::EOPNOTSUPP)) => Ok(None),
        Err((_, Errno::EWOULDBLOCK)) => {
            Err(ArchiveError::refused(format!("{shown} is being backed up or restored"), "wait until that has ended"))
        }
        Err((_, errno)) => Err(ArchiveError::call("lock", shown)(errno)),
    }
}

/// Makes a backup. `paused` are held still for as long as the tree is read.
pub fn backup(
    request: Request,
    source: &Source,
    paused: Option<Paused>,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Backup, ArchiveError> {
    let names = paused.as_ref().map(Paused::names).unwrap_or_default();
    let (created, dindctl, host) = request.stamp;
    let header = Header {
        schema: SCHEMA.to_owned(),
        created,
        dindctl,
        folder: PathText::new(source.path.as_os_str().as_bytes()),
        host,
        exclude: request.exclude.1,
        paused: names.clone(),
    };
    let job = Job { source, exclude: &request.exclude.0, keep_changed: request.keep_changed, header: &header, stop };
    let (archive, changed, skipped) = match request.to {
        Destination::Stream(stream, patience) => {
            let stream = Stoppable::new(File::from(stream), stop.clone(), patience);
            let done = job.run(stream, paused, progress)?;
            (done.0.map(|written| archive(written).1), done.1, done.2)
        }
        Destination::File(path) => to_file(&job, &path, paused, progress)?,
    };
    Ok(Backup { folder: source.path.clone(), archive, changed, skipped, paused: names })
}

type Done<W> = (Option<Written<W>>, Vec<PathText>, Skipped);

struct Job<'a> {
    source: &'a Source,
    exclude: &'a Patterns,
    keep_changed: bool,
    header: &'a Header,
    stop: &'a Stop,
}

impl Job<'_> {
    /// Reads the tree and lets the containers go on, whatever came of it.
    fn run<W: Write + AsFd>(
        &self,
        to: W,
        paused: Option<Paused>,
        progress: Progress<'_>,
    ) -> Result<Done<W>, ArchiveError> {
        let folder = self.source.path.display().to_string();
        let stat = node::look(&to).map_err(ArchiveError::call("look at", "the archive"))?;
        let root = self.source.held.try_clone().map_err(ArchiveError::io("open", &folder))?;
        let plan = Plan { root, folder: &folder, exclude: self.exclude, own: Some(node::identity(&stat)) };
        let mut writer = Writer::begin(to, self.header)?;
        let walked = walk(&plan, &mut writer, self.stop, progress);
        let resumed = paused.map_or(Ok(()), Paused::resume);
        // That containers stand still is worse than that a file could not be read.
        resumed?;
        let walked = walked?;
        let written = if walked.changed.is_empty() || self.keep_changed {
            Some(writer.finish(walked.changed.clone(), walked.skipped.clone())?)
        } else {
            None
        };
        self.stop.check()?;
        Ok((written, walked.changed, walked.skipped))
    }
}

fn archive<W>(written: Written<W>) -> (W, Archive) {
    (written.to, Archive { bytes: written.bytes, sha256: written.sha256, summary: written.summary })
}

/// Under another name until it is complete and on the disk.
fn to_file(
    job: &Job<'_>,
    path: &Path,
    paused: Option<Paused>,
    progress: Progress<'_>,
) -> Result<(Option<Archive>, Vec<PathText>, Skipped), ArchiveError> {
    let shown = path.display().to_string();
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name =
        path.file_name().ok_or_else(|| ArchiveError::refused(format!("{shown:?} names no file"), "give a file"))?;
    let real = parent.canonicalize().map_err(ArchiveError::io("find the folder of", &shown))?;
    if real.starts_with(&job.source.path) {
        let what = format!("{shown} lies in the folder that is backed up");
        return Err(ArchiveError::refused(what, "choose another place, or - for standard output"));
    }
    let path = real.join(name);
    if let Ok(there) = std::fs::symlink_metadata(&path)
        && !there.is_file()
    {
        let what = format!("{shown} is there and no regular file");
        return Err(ArchiveError::refused(what, "choose another name; - is standard output"));
    }
    let failed = |doing| ArchiveError::io(doing, &shown);
    let temporary = tempfile::Builder::new()
        .prefix(".dindctl-backup-")
        .suffix(".part")
        .tempfile_in(&real)
        .map_err(failed("create"))?;
    let to = Buffered(BufWriter::with_capacity(PIECE, temporary.reopen().map_err(failed("open"))?));
    let (written, changed, skipped) = job.run(to, paused, progress)?;
    let Some(written) = written else { return Ok((None, changed, skipped)) };
    let (to, archive) = archive(written);
    let file = to.0.into_inner().map_err(|error| unwrapped("write", &shown)(error.into_error()))?;
    file.sync_all().map_err(failed("write"))?;
    job.stop.check()?;
    temporary.persist(&path).map_err(|error| failed("rename the archive to")(error.error))?;
    File::open(&real).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))?;
    Ok((Some(archive), changed, skipped))
}

/// A buffered file that is still known by its descriptor.
struct Buffered(BufWriter<File>);

impl Write for Buffered {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.0.write(piece)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl AsFd for Buffered {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
