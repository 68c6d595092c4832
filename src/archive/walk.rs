/*!
Reading a tree into an archive.

Every name is held before it is looked at, no link is followed, and no other file system is entered. A regular file that
changes while it is read is read again; small ones before anything of them is written, large ones as another version of
the same name right after the first, which then does not count.
*/
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag};

use super::cursor::Cursor;
use super::entry::{Entry, Kind, shown};
use super::error::ArchiveError;
use super::manifest::{PathText, Skipped};
use super::names::Patterns;
use super::node;
use super::stop::Stop;
use super::swap;
use super::write::Writer;

/// A file up to this length is read whole before it is written, bytes.
const WHOLE: u64 = 4 << 20;
/// Pauses before a file that changed is read again.
const AGAIN: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(400)];
/// Time stamps of files move in steps of this size: a change within one cannot be seen in them.
const TICK: Duration = Duration::from_millis(20);
/// Piece in which large files are read, bytes.
const PIECE: usize = 256 * 1024;

/// How far it is: path, names so far, bytes so far.
pub type Progress<'a> = &'a mut dyn FnMut(&[u8], (u64, u64));

/// What is to be read.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The folder.
    pub root: OwnedFd,
    /// What it is called, for messages.
    pub folder: &'a str,
    /// What is left out.
    pub exclude: &'a Patterns,
    /// Device and inode of the archive that is being written.
    pub own: Option<(u64, u64)>,
}

/// What came of it, besides the archive.
#[derive(Debug, Default)]
pub struct Walked {
    /// Files that did not hold still.
    pub changed: Vec<PathText>,
    /// What was left out.
    pub skipped: Skipped,
}

/// A file that has more names.
struct Linked {
    path: Vec<u8>,
    /// Another file may get the number of one that is gone: then this differs.
    traits: Traits,
}

struct Walk<'a, 'p, W: Write> {
    writer: &'a mut Writer<W>,
    plan: &'a Plan<'a>,
    stop: &'a Stop,
    progress: Progress<'p>,
    cursor: Cursor,
    path: Vec<u8>,
    mount: u64,
    links: HashMap<(u64, u64), Linked>,
    walked: Walked,
}

/// Reads the tree.
pub fn walk<W: Write>(
    plan: &Plan<'_>,
    writer: &mut Writer<W>,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Walked, ArchiveError> {
    let call = |doing| ArchiveError::call(doing, plan.folder);
    let root = plan.root.try_clone().map_err(ArchiveError::io("open", plan.folder))?;
    let stat = node::look(&root).map_err(call("look at"))?;
    let readable = node::readable(&root).map_err(call("open"))?;
    let entry = node::entry(Vec::new(), readable.as_fd(), &stat).map_err(call("read the attributes of"))?;
    let names = node::names(&root).map_err(call("list"))?;
    let (hidden, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| swap::is_own(name.as_bytes()));
    for name in &hidden {
        let ours = node::hold(&root, name).and_then(|held| swap::is_ours(held.as_fd()));
        if ours.map_err(call("look into"))? {
            let what = format!("{}/{} is left from a restore that was killed", plan.folder, name.display());
            let hint = format!(
                "dindctl restore --recover --to {} ends it: the old tree comes back, or the new one stays",
                plan.folder
            );
            return Err(ArchiveError::refused(what, hint));
        }
    }
    let mut walk = Walk {
        writer,
        plan,
        stop,
        progress,
        mount: node::mount_id(root.as_fd()).map_err(call("find the mount of"))?,
        cursor: Cursor::new(root),
        path: Vec::new(),
        links: HashMap::new(),
        walked: Walked { skipped: Skipped { own: hidden.len() as u64, ..Skipped::default() }, ..Walked::default() },
    };
    if let Some(entry) = entry {
        walk.writer.entry(&entry)?;
    }
    walk.below(names)?;
    Ok(walk.walked)
}

impl<W: Write> Walk<'_, '_, W> {
    fn call(&self, doing: &'static str) -> impl FnOnce(Errno) -> ArchiveError {
        let place = format!("{}/{}", self.plan.folder.trim_end_matches('/'), shown(&self.path));
        ArchiveError::call(doing, place)
    }

    fn below(&mut self, names: Vec<OsString>) -> Result<(), ArchiveError> {
        let mut folders = vec![names.into_iter()];
        while let Some(names) = folders.last_mut() {
            self.stop.check()?;
            let length = self.path.len();
            let Some(name) = names.next() else {
                folders.pop();
                if let Some((name, _)) = self.cursor.leave().map_err(self.call("find the folder above"))? {
                    // The slash in front of it as well, unless it stands at the top.
                    self.path.truncate(length - name.len());
                    self.path.pop_if(|byte| *byte == b'/');
                }
                continue;
            };
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            if let Some(names) = self.name(&name)? {
                folders.push(names.into_iter());
            } else {
                self.path.truncate(length);
            }
        }
        Ok(())
    }

    /// One name; for a folder, the names in it, and the cursor stands there.
    fn name(&mut self, name: &OsString) -> Result<Option<Vec<OsString>>, ArchiveError> {
        (self.progress)(&self.path, self.writer.so_far());
        if self.plan.exclude.mean(&self.path) {
            self.walked.skipped.excluded += 1;
            return Ok(None);
        }
        let Some((held, stat)) = self.hold(name)? else { return Ok(None) };
        if self.plan.own == Some(node::identity(&stat)) {
            self.walked.skipped.own += 1;
            return Ok(None);
        }
        if node::mount_id(held.as_fd()).map_err(self.call("find the mount of"))? != self.mount {
            self.walked.skipped.mounts.push(PathText::new(&self.path));
            return Ok(None);
        }
        if node::file_type(&stat) == SFlag::S_IFREG {
            return self.regular(name, held, stat).map(|()| None);
        }
        let entry = node::entry(self.path.clone(), held.as_fd(), &stat).map_err(self.call("read the attributes of"))?;
        let Some(entry) = entry else {
            self.walked.skipped.sockets += 1;
            return Ok(None);
        };
        if entry.kind == Kind::Folder {
            let names = match node::names(&held) {
                Ok(names) => names,
                Err(Errno::ENOENT) => {
                    self.walked.skipped.vanished += 1;
                    return Ok(None);
                }
                Err(errno) => return Err(self.call("list")(errno)),
            };
            self.writer.entry(&entry)?;
            self.cursor.enter(name, held).map_err(self.call("enter"))?;
            return Ok(Some(names));
        }
        if !self.linked(&entry, &stat)? {
            self.writer.entry(&entry)?;
            self.remember(&stat);
        }
        Ok(None)
    }

    fn hold(&mut self, name: &OsString) -> Result<Option<(OwnedFd, FileStat)>, ArchiveError> {
        let held = match node::hold(self.cursor.here(), name) {
            Ok(held) => held,
            Err(Errno::ENOENT) => {
                self.walked.skipped.vanished += 1;
                return Ok(None);
            }
            Err(errno) => return Err(self.call("look at")(errno)),
        };
        let stat = node::look(&held).map_err(self.call("look at"))?;
        Ok(Some((held, stat)))
    }

    /// Writes a second name of a file that is in the archive.
    fn linked(&mut self, entry: &Entry, stat: &FileStat) -> Result<bool, ArchiveError> {
        let known = self.links.get(&node::identity(stat)).filter(|linked| linked.traits == traits(stat));
        let Some(target) = known.map(|linked| linked.path.clone()) else { return Ok(false) };
        // What it is is said where it came first.
        let kind = Kind::HardLink { target };
        self.writer.entry(&Entry { kind, xattrs: std::collections::BTreeMap::new(), ..entry.clone() })?;
        Ok(true)
    }

    fn remember(&mut self, stat: &FileStat) {
        if stat.st_nlink > 1 {
            self.links.insert(node::identity(stat), Linked { path: self.path.clone(), traits: traits(stat) });
        }
    }

    fn regular(&mut self, name: &OsString, held: OwnedFd, stat: FileStat) -> Result<(), ArchiveError> {
        let mut written = false;
        let mut now = (held, stat);
        let mut pauses = AGAIN.iter();
        loop {
            let (held, mut before) = now;
            let mut hot = false;
            if let Some(wait) = wait_for_tick(&before) {
                std::thread::sleep(wait);
                before = node::look(&held).map_err(self.call("look at"))?;
                // Changed within the last moment once more: whatever comes next would not show in its time stamps.
                hot = wait_for_tick(&before).is_some();
            }
            let last = pauses.len() == 0;
            let still = match node::file_type(&before) == SFlag::S_IFREG {
                // Something else stands there now.
                false if !written => return self.other(name),
                false => false,
                true if hot && !last => false,
                true => self.version(&held, &before, &mut written, last)? && !hot,
            };
            if still {
                return Ok(());
            }
            let Some(pause) = pauses.next() else { break };
            std::thread::sleep(*pause);
            self.stop.check()?;
            let Some(next) = self.hold(name)? else {
                // Gone meanwhile: not in the archive, unless a version of it is, which is then not known to be whole.
                if written {
                    self.walked.skipped.vanished -= 1;
                    break;
                }
                return Ok(());
            };
            now = next;
        }
        self.walked.changed.push(PathText::new(&self.path));
        Ok(())
    }

    /// A name that was a regular file a moment ago, and is something else.
    fn other(&mut self, name: &OsString) -> Result<(), ArchiveError> {
        let Some((held, stat)) = self.hold(name)? else { return Ok(()) };
        let entry = node::entry(self.path.clone(), held.as_fd(), &stat).map_err(self.call("read the attributes of"))?;
        match entry {
            // A folder would have to be walked; it came after the listing, and what comes after that is not kept.
            None | Some(Entry { kind: Kind::Folder | Kind::File { .. }, .. }) => {
                self.walked.changed.push(PathText::new(&self.path));
                Ok(())
            }
            Some(entry) => self.writer.entry(&entry),
        }
    }

    /// Reads the file once. Whether it held still; if it did not, it is only written when that cannot be avoided or is the
    /// last try.
    fn version(
        &mut self,
        held: &OwnedFd,
        before: &FileStat,
        written: &mut bool,
        last: bool,
    ) -> Result<bool, ArchiveError> {
        let entry =
            node::entry(self.path.clone(), held.as_fd(), before).map_err(self.call("read the attributes of"))?;
        let Some(mut entry) = entry else { return Ok(false) };
        if !*written && self.linked(&entry, before)? {
            return Ok(true);
        }
        let size = entry.size();
        let file = node::reopen(held).map_err(self.call("open"))?;
        let mut file = std::fs::File::from(file);
        let still = if size <= WHOLE && !*written {
            let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            // One byte more shows that it grew.
            (&mut file)
                .take(size + 1)
                .read_to_end(&mut content)
                .map_err(|error| self.call("read")(crate::sys::file::errno(&error)))?;
            let still = content.len() as u64 == size && self.same(held, before)?;
            if !still && !last {
                return Ok(false);
            }
            content.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            entry.kind = Kind::File { size: content.len() as u64 };
            self.writer.entry(&entry)?;
            self.writer.content(&content)?;
            still
        } else {
            self.writer.entry(&entry)?;
            let whole = self.stream(&mut file, size)?;
            whole && self.same(held, before)?
        };
        *written = true;
        self.remember(before);
        Ok(still)
    }

    fn stream(&mut self, file: &mut std::fs::File, size: u64) -> Result<bool, ArchiveError> {
        let mut room = vec![0; PIECE];
        let mut left = size;
        while left > 0 {
            self.stop.check()?;
            let count = match file.read(&mut room) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.call("read")(crate::sys::file::errno(&error))),
            };
            if count == 0 {
                self.writer.fill_up()?;
                return Ok(false);
            }
            self.writer.content(room.get(..count).unwrap_or_default())?;
            left = left.saturating_sub(count as u64);
            (self.progress)(&self.path, self.writer.so_far());
        }
        Ok(true)
    }

    fn same(&self, held: &OwnedFd, before: &FileStat) -> Result<bool, ArchiveError> {
        let after = node::look(held).map_err(self.call("look at"))?;
        let content = |stat: &FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        let change = |stat: &FileStat| (stat.st_ctime, stat.st_ctime_nsec);
        // Somebody put another file in its place: that changes the time of the last change, and nothing else.
        Ok(content(&after) == content(before) && (change(&after) == change(before) || after.st_nlink < before.st_nlink))
    }
}

/// The count of links is 32 bits wide on arm64, and 64 on amd64.
type Traits = (libc::nlink_t, i64, i64, i64, u32);

fn traits(stat: &FileStat) -> Traits {
    (stat.st_nlink, stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_mode)
}

/// How long to wait until a change of the file would show in its time stamps.
fn wait_for_tick(stat: &FileStat) -> Option<Duration> {
    let sec = u64::try_from(stat.st_ctime).ok()?;
    let changed = UNIX_EPOCH + Duration::new(sec, u32::try_from(stat.st_ctime_nsec).unwrap_or(0));
    // In the future by a clock that was set back: nothing to wait for.
    let age = SystemTime::now().duration_since(changed).ok()?;
    TICK.checked_sub(age).filter(|wait| !wait.is_zero())
}
