/*!
What has been loaded already: a file on the data root, so that it goes with the images it tells of.

An archive is known by what is in it. That the very same file lies there (device, number, size and time of its last change) is enough not to
read it again.
*/
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Its name on the data root.
pub const FILE: &str = "dindctl-preload.json";
/// The format of it.
const SCHEMA: &str = "dindctl.preloaded/v1";
/// Archives that are remembered, the latest.
const MOST: usize = 1000;
/// Largest file that is read, bytes.
const LARGEST: u64 = 16 << 20;

/// A file on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Place {
    /// Of an archive, or of the index of a folder.
    pub fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.len(),
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
        }
    }
}

/// An archive that has been loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// SHA-256 of its content.
    pub sha256: String,
    /// Storage driver of the daemon that has it: another one has images of its own.
    #[serde(default)]
    pub driver: String,
    /// Where it was seen last.
    pub place: Place,
    /// The name it had, for people.
    pub name: String,
    /// Its images, for people.
    pub images: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: String,
    archives: Vec<Entry>,
}

/// The memory; without a place of its own it lasts as long as this process.
#[derive(Debug, Default)]
pub struct Known {
    path: Option<PathBuf>,
    driver: String,
    archives: Vec<Entry>,
}

impl Known {
    /// Reads what there is; what another storage `driver` was given does not count. The second says what is wrong with it; then nothing is
    /// known, and images that the daemon has are found anyway.
    pub fn read(data_root: Option<&Path>, driver: String) -> (Self, Option<String>) {
        let Some(path) = data_root.map(|root| root.join(FILE)) else {
            return (Self { driver, ..Self::default() }, None);
        };
        let read = read(&path);
        let known = |archives| Self { path: Some(path.clone()), driver, archives };
        match read {
            Ok(archives) => (known(archives), None),
            Err(why) => (known(Vec::new()), Some(format!("{} is not used: {why}", path.display()))),
        }
    }

    /// Whether this very file was loaded.
    pub fn has_place(&self, place: Place) -> bool {
        self.own().any(|entry| entry.place == place)
    }

    /// Whether an archive with this content was loaded.
    pub fn has_content(&self, sha256: &str) -> bool {
        self.own().any(|entry| entry.sha256 == sha256)
    }

    fn own(&self) -> impl Iterator<Item = &Entry> {
        self.archives.iter().filter(|entry| entry.driver == self.driver)
    }

    /// The storage driver of the daemon.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Remembers it, on the disk as well.
    pub fn add(&mut self, entry: Entry) -> io::Result<()> {
        // Somebody else may have loaded something meanwhile. What cannot be read any more is written anew.
        if let Some(Ok(archives)) = self.path.as_deref().map(read) {
            self.archives = archives;
        }
        let same = |known: &Entry| known.sha256 == entry.sha256 || known.place == entry.place;
        self.archives.retain(|known| known.driver != entry.driver || !same(known));
        self.archives.push(entry);
        let surplus = self.archives.len().saturating_sub(MOST);
        self.archives.drain(..surplus);
        match &self.path {
            Some(path) => write(path, &self.archives),
            None => Ok(()),
        }
    }

    /// Where it is kept.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let text = match fs::metadata(path) {
        Ok(file) if file.len() > LARGEST => return Err(format!("it has more than {LARGEST} bytes")),
        Ok(_) => fs::read(path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let document: Document = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if document.schema == SCHEMA { Ok(document.archives) } else { Err(format!("its schema is {:?}", document.schema)) }
}

/// The old file or the new one, whatever happens meanwhile.
fn write(path: &Path, archives: &[Entry]) -> io::Result<()> {
    let document = Document { schema: SCHEMA.to_owned(), archives: archives.to_vec() };
    let folder = path.parent().ok_or(io::ErrorKind::NotADirectory)?;
    let mut file = tempfile::Builder::new().prefix(".dindctl-preload").tempfile_in(folder)?;
    file.write_all(serde_json::to_string(&document)?.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_at(root: &Path) -> (Known, Option<String>) {
        Known::read(Some(root), "vfs".into())
    }

    fn entry(sha256: &str, inode: u64) -> Entry {
        let place = Place { device: 1, inode, size: 3, seconds: 4, nanoseconds: 5 };
        Entry { sha256: sha256.into(), driver: "vfs".into(), place, name: "a.tar".into(), images: vec!["a:1".into()] }
    }

    #[test]
    fn what_was_loaded_is_known_again() {
        let root = tempfile::tempdir().unwrap();
        let (mut known, why) = read_at(root.path());
        assert!(why.is_none() && !known.has_content("x"));
        known.add(entry("x", 1)).unwrap();
        known.add(entry("y", 2)).unwrap();
        // Copied to another place, and another archive in the place of one that is known.
        known.add(entry("x", 3)).unwrap();
        known.add(entry("z", 2)).unwrap();
        let (known, why) = read_at(root.path());
        assert_eq!(why, None);
        assert!(known.has_content("x") && known.has_content("z") && !known.has_content("y"));
        assert!(known.has_place(entry("", 3).place) && !known.has_place(entry("", 1).place));
        let mode = fs::metadata(root.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_another_driver_was_given_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let other = || Known::read(Some(root.path()), "overlay2".into()).0;
        read_at(root.path()).0.add(entry("x", 1)).unwrap();
        assert!(!other().has_content("x") && !other().has_place(entry("x", 1).place));
        other().add(Entry { driver: other().driver().to_owned(), ..entry("x", 1) }).unwrap();
        assert!(other().has_content("x") && read_at(root.path()).0.has_content("x"));
    }

    #[test]
    fn a_damaged_memory_is_told_and_written_anew() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", r#"{"schema":"other/v9","archives":[]}"#] {
            fs::write(root.path().join(FILE), text).unwrap();
            let (mut known, why) = read_at(root.path());
            assert!(why.is_some_and(|why| why.contains(FILE)), "{text}");
            known.add(entry("x", 1)).unwrap();
            assert!(read_at(root.path()).0.has_content("x"));
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut known = Known::read(None, "vfs".into()).0;
        for number in 0..MOST as u64 + 5 {
            known.add(entry(&number.to_string(), number)).unwrap();
        }
        assert_eq!(known.archives.len(), MOST);
        assert!(!known.has_content("4") && known.has_content("5"));
    }
}
