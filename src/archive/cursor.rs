/*!
A place in a tree, reached name by name over open folders.

However deep the tree, only the last few folders are held open; one that was closed is found again through `..`, and
only taken when it is the same one as before, so that a folder which somebody moves leads nowhere else.
*/
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::node;

/// Folders that are held open, besides the first.
const HELD: usize = 24;

#[derive(Debug)]
struct Level {
    name: OsString,
    identity: (u64, u64),
    held: Option<OwnedFd>,
}

/// A folder and the way to it.
#[derive(Debug)]
pub struct Cursor {
    root: OwnedFd,
    levels: Vec<Level>,
}

impl Cursor {
    /// At the root of a tree.
    pub const fn new(root: OwnedFd) -> Self {
        Self { root, levels: Vec::new() }
    }

    /// Folders between here and the root.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The folder.
    pub fn here(&self) -> BorrowedFd<'_> {
        // The last level is always held.
        self.levels.last().and_then(|level| level.held.as_ref()).unwrap_or(&self.root).as_fd()
    }

    /// Goes down into a folder of this one that is held already.
    pub fn enter(&mut self, name: &OsStr, held: OwnedFd) -> Result<(), Errno> {
        let identity = node::identity(&node::look(&held)?);
        self.levels.push(Level { name: name.to_owned(), identity, held: Some(held) });
        if let Some(far) = self.levels.len().checked_sub(HELD + 1) {
            self.levels.get_mut(far).and_then(|level| level.held.take());
        }
        Ok(())
    }

    /// Goes up, and gives the name and the folder that was left. `ESTALE`: the folder above cannot be found any more.
    pub fn leave(&mut self) -> Result<Option<(OsString, OwnedFd)>, Errno> {
        let Some(left) = self.levels.pop() else { return Ok(None) };
        let held = left.held.ok_or(Errno::ESTALE)?;
        if self.levels.last().is_some_and(|level| level.held.is_none()) {
            let above = self.above(&held)?;
            if let Some(level) = self.levels.last_mut() {
                level.held = Some(above);
            }
        }
        Ok(Some((left.name, held)))
    }

    fn above(&self, below: &OwnedFd) -> Result<OwnedFd, Errno> {
        let wanted = self.levels.last().ok_or(Errno::ESTALE)?.identity;
        if let Ok(above) = node::folder(below, OsStr::new(".."))
            && node::identity(&node::look(&above)?) == wanted
        {
            return Ok(above);
        }
        // What was left has been moved; the folder above may still be where it was.
        let mut here = self.root.try_clone().map_err(|error| crate::sys::file::errno(&error))?;
        for level in &self.levels {
            here = node::folder(&here, &level.name).map_err(|_| Errno::ESTALE)?;
            if node::identity(&node::look(&here)?) != level.identity {
                return Err(Errno::ESTALE);
            }
        }
        Ok(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::{Mode, mkdirat};

    fn down(cursor: &mut Cursor, name: &str) {
        mkdirat(cursor.here(), name, Mode::from_bits_truncate(0o755)).unwrap();
        let held = node::folder(cursor.here(), OsStr::new(name)).unwrap();
        cursor.enter(OsStr::new(name), held).unwrap();
    }

    fn at(folder: &std::path::Path) -> Cursor {
        Cursor::new(open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap())
    }

    #[test]
    fn a_deep_tree_needs_few_descriptors_and_the_way_back_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut cursor = at(folder.path());
        for _ in 0..3000 {
            down(&mut cursor, "d");
        }
        assert_eq!(cursor.levels.iter().filter(|level| level.held.is_some()).count(), HELD);
        while let Some((name, _)) = cursor.leave().unwrap() {
            nix::unistd::unlinkat(cursor.here(), name.as_os_str(), nix::unistd::UnlinkatFlags::RemoveDir).unwrap();
        }
        assert!(node::names(cursor.here()).unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_was_moved_leads_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, outside) = (folder.path().join("tree"), folder.path().join("outside"));
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        let mut cursor = at(&tree);
        for _ in 0..HELD + 3 {
            down(&mut cursor, "d");
        }
        // The third folder from above is closed by now; what is below it is carried out.
        std::fs::rename(tree.join("d/d/d"), outside.join("d")).unwrap();
        let mut outcome = Ok(None);
        while cursor.depth() > 2 && outcome.is_ok() {
            outcome = cursor.leave();
        }
        assert!(outcome.is_ok(), "the way above is still where it was: {outcome:?}");
        std::fs::rename(tree.join("d"), outside.join("e")).unwrap();
        let here = node::look(cursor.here()).unwrap();
        assert_ne!(here.st_ino, node::look(at(&outside).here()).unwrap().st_ino);
    }
}
