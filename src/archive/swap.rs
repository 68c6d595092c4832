/*!
Exchanging the content of a folder that cannot be renamed itself (a mount point), so that there is always all of the old or
all of the new.

The new tree is made in a hidden folder inside; then the old names are moved into it and the new ones out of it. What is
where says how far it came, so that [`recover`] can end or undo it after a kill as [`Staging::undo`] does at once:

| in the hidden folder | meaning | what recovery does |
|---|---|---|
| no mark | old names are still being moved away | puts those in `old` back |
| `swap` | new names are being put in place | takes those of `names` that are not in `new/` away again, puts those in `old` back |
| `done` | the new tree is whole | removes the old one |
*/
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry::{Entry, MODE};
use super::error::ArchiveError;
use super::node;
use super::remove::remove;
use super::unpack::{Losses, Rights, assume, touch};

/// How hidden folders of a restore begin.
const PREFIX: &str = ".dindctl-restore-";
/// Folder that ext file systems want at their top.
const LOST: &str = "lost+found";

/// Whether a name at the top of a folder is a hidden folder of a restore.
pub fn is_own(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// Called before each step with its name; an error ends and undoes everything.
pub type Steps<'a> = &'a mut dyn FnMut(&'static str) -> Result<(), ArchiveError>;

/// The hidden folder of one restore.
#[derive(Debug)]
pub struct Staging {
    target: OwnedFd,
    folder: String,
    name: OsString,
    hidden: OwnedFd,
    rights: Rights,
}

impl Staging {
    /// Makes one inside `target`, which is `folder` in messages.
    pub fn create(target: &OwnedFd, folder: &str, rights: Rights) -> Result<Self, ArchiveError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| {
            ArchiveError::io("get random bytes for", folder)(std::io::Error::other(error.to_string()))
        })?;
        let name = OsString::from(format!("{PREFIX}{}", super::manifest::hex(&random)));
        let call = |doing| ArchiveError::call(doing, format!("{folder}/{}", name.display()));
        // Making the hidden folder changes the time of the target.
        let before = attributes_of(target).map_err(ArchiveError::call("look at", folder))?;
        mkdirat(target, name.as_os_str(), Mode::S_IRWXU).map_err(call("create"))?;
        let staging = Self::open(target, folder, name.clone(), rights)?;
        let made = staging.make(&before);
        if made.is_err() {
            // The first error is the one to tell.
            let _ = remove(staging.target.as_fd(), &staging.name);
        }
        made.map(|()| staging)
    }

    fn open(target: &OwnedFd, folder: &str, name: OsString, rights: Rights) -> Result<Self, ArchiveError> {
        let call = |doing| ArchiveError::call(doing, format!("{folder}/{}", name.display()));
        let target = target.try_clone().map_err(ArchiveError::io("open", folder))?;
        let held = node::folder(&target, &name).map_err(call("open"))?;
        let hidden = node::readable(&held).map_err(call("open"))?;
        Ok(Self { target, folder: folder.to_owned(), name, hidden, rights })
    }

    fn make(&self, before: &Entry) -> Result<(), ArchiveError> {
        // Access lists that the target hands down would end up on everything in the new tree.
        for list in ["system.posix_acl_default", "system.posix_acl_access"] {
            match xattr::remove_deref(node::proc_path(self.hidden.as_fd()), list)
                .map_err(|error| crate::sys::file::errno(&error))
            {
                Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(self.call("clear the access list of")(errno)),
            }
        }
        for name in ["new", "old", "new.attributes"] {
            mkdirat(&self.hidden, name, Mode::S_IRWXU).map_err(self.call("create a folder in"))?;
        }
        self.keep_attributes(before)
    }

    fn call(&self, doing: &'static str) -> impl FnOnce(Errno) -> ArchiveError + use<> {
        ArchiveError::call(doing, self.place())
    }

    /// Where it is.
    pub fn place(&self) -> String {
        format!("{}/{}", self.folder.trim_end_matches('/'), self.name.display())
    }

    fn inner(&self, name: &str) -> Result<OwnedFd, ArchiveError> {
        let held = node::folder(&self.hidden, OsStr::new(name)).map_err(self.call("open a folder of"))?;
        node::readable(&held).map_err(self.call("open a folder of"))
    }

    /// Where the new tree is to be made.
    pub fn new_tree(&self) -> Result<OwnedFd, ArchiveError> {
        self.inner("new")
    }

    /// Notes what the folder itself is to become.
    pub fn set_root(&self, entry: &Entry, losses: &mut Losses) -> Result<(), ArchiveError> {
        assume(self.inner("new.attributes")?.as_fd(), entry, self.rights, losses)
    }

    /// Puts the new tree in the old one's place. After an error everything is as it was before.
    pub fn swap(&self, steps: Steps<'_>) -> Result<(), ArchiveError> {
        self.forward(steps).map_err(|first| self.undone(first))
    }

    /// Undoes whatever was done, because of this error.
    pub fn undone(&self, first: ArchiveError) -> ArchiveError {
        match self.undo() {
            Ok(()) => first,
            Err(second) => {
                ArchiveError::NotRolledBack { first: Box::new(first), second: Box::new(second), place: self.place() }
            }
        }
    }

    fn forward(&self, steps: Steps<'_>) -> Result<(), ArchiveError> {
        let (new, old) = (self.inner("new")?, self.inner("old")?);
        let fresh = node::names(&new).map_err(self.call("list the new tree in"))?;
        steps("note the new names")?;
        self.write("names", &fresh.join(OsStr::new("\0")).into_vec())?;
        for name in self.content(&fresh)? {
            steps("move an old name away")?;
            self.rename(&self.target, &name, &old)?;
        }
        steps("mark the turn")?;
        self.write("swap", b"")?;
        for name in &fresh {
            steps("put a new name in place")?;
            self.absent(name)?;
            self.rename(&new, name, &self.target)?;
        }
        steps("set the attributes of the folder")?;
        self.copy_attributes("new.attributes")?;
        steps("sync")?;
        nix::unistd::syncfs(self.target.as_fd()).map_err(self.call("sync"))?;
        steps("mark the end")?;
        renameat(&self.hidden, "swap", &self.hidden, "done").map_err(self.call("mark the end in"))?;
        nix::unistd::fsync(&self.hidden).map_err(self.call("sync"))
    }

    /// What belongs to the old tree. What a file system has made for itself stays, unless the new tree has it too.
    fn content(&self, fresh: &[OsString]) -> Result<Vec<OsString>, ArchiveError> {
        let mut names = node::names(&self.target).map_err(ArchiveError::call("list", &self.folder))?;
        names.retain(|name| !is_own(name.as_bytes()) && (name != LOST || fresh.contains(name)));
        Ok(names)
    }

    fn absent(&self, name: &OsStr) -> Result<(), ArchiveError> {
        let path = || format!("{}/{}", self.folder, name.display());
        match node::hold(&self.target, name) {
            Err(Errno::ENOENT) => Ok(()),
            Ok(_) => Err(ArchiveError::call("put in place", path())(Errno::EEXIST)),
            Err(errno) => Err(ArchiveError::call("look at", path())(errno)),
        }
    }

    fn rename(&self, from: &OwnedFd, name: &OsStr, to: &OwnedFd) -> Result<(), ArchiveError> {
        let path = format!("{}/{}", self.folder.trim_end_matches('/'), name.display());
        renameat(from, name, to, name).map_err(ArchiveError::call("move", path))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file =
            openat(&self.hidden, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(self.call("write a note in"))?;
        let mut file = std::fs::File::from(file);
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(ArchiveError::io("write a note in", self.place()))?;
        nix::unistd::fsync(&self.hidden).map_err(self.call("sync"))
    }

    fn has(&self, name: &str) -> Result<bool, ArchiveError> {
        match node::hold(&self.hidden, OsStr::new(name)) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.call("look into")(errno)),
        }
    }

    /// Under another name until it is whole, so that half a note is none.
    fn keep_attributes(&self, entry: &Entry) -> Result<(), ArchiveError> {
        mkdirat(&self.hidden, "old.attributes.new", Mode::S_IRWXU).map_err(self.call("create a folder in"))?;
        let mut losses = Losses::default();
        assume(self.inner("old.attributes.new")?.as_fd(), entry, self.rights, &mut losses)?;
        renameat(&self.hidden, "old.attributes.new", &self.hidden, "old.attributes")
            .map_err(self.call("write a note in"))
    }

    fn copy_attributes(&self, from: &str) -> Result<(), ArchiveError> {
        let entry = attributes_of(&self.inner(from)?).map_err(self.call("read a note in"))?;
        // What was lost was counted when the note was made.
        assume(self.target.as_fd(), &entry, self.rights, &mut Losses::default())
    }

    /// Undoes whatever was done: the target is as before, and the hidden folder gone.
    pub fn undo(&self) -> Result<(), ArchiveError> {
        if self.has("swap")? {
            let new = self.inner("new")?;
            for name in self.noted_names()? {
                // What is still in the new tree was not put in place, and what stands there now is somebody else's.
                if matches!(node::hold(&new, &name), Err(Errno::ENOENT)) && node::hold(&self.target, &name).is_ok() {
                    self.rename(&self.target, &name, &new)?;
                }
            }
            unlinkat(&self.hidden, "swap", UnlinkatFlags::NoRemoveDir).map_err(self.call("remove a note in"))?;
        }
        if self.has("old")? {
            let old = self.inner("old")?;
            for name in node::names(&old).map_err(self.call("list the old tree in"))? {
                self.absent(&name)?;
                self.rename(&old, &name, &self.target)?;
            }
        }
        if self.has("old.attributes")? {
            self.copy_attributes("old.attributes")?;
        }
        self.clear("old.attributes")
    }

    /// After the swap: removes the old tree and the hidden folder.
    pub fn end(&self) -> Result<(), ArchiveError> {
        self.clear("new.attributes")
    }

    /// Removes everything, in an order that means the same to [`recover`] wherever it is cut off.
    fn clear(&self, attributes: &str) -> Result<(), ArchiveError> {
        let time = if self.has(attributes)? {
            Some(attributes_of(&self.inner(attributes)?).map_err(self.call("read a note in"))?.mtime)
        } else {
            None
        };
        let names = node::names(&self.hidden).map_err(self.call("list"))?;
        let (notes, trees): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.as_bytes().ends_with(b".attributes"));
        for name in trees.into_iter().filter(|name| *name != "done").chain(notes) {
            remove(self.hidden.as_fd(), name).map_err(self.call("remove"))?;
        }
        remove(self.target.as_fd(), &self.name).map_err(self.call("remove"))?;
        match time {
            // Removing the hidden folder was a change of the folder.
            Some(time) => touch(self.target.as_fd(), time).map_err(ArchiveError::call("set the time of", &self.folder)),
            None => Ok(()),
        }
    }

    fn noted_names(&self) -> Result<Vec<OsString>, ArchiveError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.hidden, "names", flags, Mode::empty()).map_err(self.call("read a note in"))?;
        let mut text = Vec::new();
        std::fs::File::from(file).read_to_end(&mut text).map_err(ArchiveError::io("read a note in", self.place()))?;
        let plain = |name: &&[u8]| !name.is_empty() && !name.contains(&b'/') && *name != b"." && *name != b"..";
        let names = text.split(|byte| *byte == 0).filter(plain);
        Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
    }
}

/// What became of a restore that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovered {
    /// The old tree is back.
    RolledBack,
    /// The new tree was whole, and stays.
    Finished,
}

fn attributes_of(folder: &OwnedFd) -> Result<Entry, Errno> {
    node::entry(Vec::new(), folder.as_fd(), &node::look(folder)?)?.ok_or(Errno::ENOTDIR)
}

/// Whether it is a folder that only we could have made: anybody may use the name.
pub fn is_ours(held: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = node::look(held)?;
    let owner = nix::unistd::geteuid().as_raw();
    Ok(node::file_type(&stat) == SFlag::S_IFDIR && stat.st_uid == owner && stat.st_mode & MODE == 0o700)
}

/// Ends what a killed restore left in the folder. Nobody else may be at it: the caller holds the lock.
pub fn recover(target: &OwnedFd, folder: &str, rights: Rights) -> Result<Vec<Recovered>, ArchiveError> {
    let names = node::names(target).map_err(ArchiveError::call("list", folder))?;
    let mut recovered = Vec::new();
    for name in names.into_iter().filter(|name| is_own(name.as_bytes())) {
        let look = || is_ours(node::hold(target, &name)?.as_fd());
        if !look().map_err(ArchiveError::call("look into", folder))? {
            continue;
        }
        let staging = Staging::open(target, folder, name, rights)?;
        if staging.has("done")? {
            staging.end()?;
            recovered.push(Recovered::Finished);
        } else {
            staging.undo()?;
            recovered.push(Recovered::RolledBack);
        }
    }
    Ok(recovered)
}

/// Names at the top of a folder that a restore would replace.
pub fn content(target: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let mut names = node::names(target)?;
    names.retain(|name| !is_own(name.as_bytes()) && name != LOST);
    Ok(names)
}

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
