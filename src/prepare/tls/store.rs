/*!
Writing the folder: under a lock, each file whole or not at all, readers undisturbed.
*/
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", .path.display())]
pub struct StoreError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        if self.source.kind() == io::ErrorKind::TimedOut {
            "it is a dindctl of this or another container on the same volume: wait for it, or end it"
        } else {
            "free space in the folder of DOCKER_TLS_CERTDIR and make it writable"
        }
    }
}

fn fail(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError { doing, path: path.into(), source }
}

/// The folder, locked against other containers that share the volume, until it is dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    _locks: Vec<Flock<File>>,
}

/// How long somebody else may hold the lock: three RSA keys of 4096 bits take that long on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

impl Store {
    /// Makes the folder if it is missing, and waits for the lock. The folder itself is locked, so that no file is left
    /// in it; and that of the authority, which may be a volume of its own and all that is shared. Whoever holds the lock makes a few files;
    /// a stopped process must not hold others up for ever.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        folder(path)?;
        let begun = Instant::now();
        let authority = path.join("ca");
        let shared = [path, authority.as_path()].into_iter().filter(|folder| folder.is_dir());
        Ok(Self {
            path: path.into(),
            _locks: shared.map(|folder| lock(folder, begun, PATIENCE)).collect::<Result<_, _>>()?,
        })
    }

    /// Replaces the file `name` with exactly this mode.
    pub fn write(&self, name: &str, mode: u32, text: &str) -> Result<(), StoreError> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            folder(parent)?;
        }
        let fresh = path.with_extension("pem.new");
        let written = write(&fresh, mode, text).and_then(|()| std::fs::rename(&fresh, &path));
        if written.is_err() {
            // The error that is told is the first one.
            let _ = std::fs::remove_file(&fresh);
        }
        written.map_err(fail("write", &path))
    }

    /// Sets the mode of a file that is kept.
    pub fn mode(&self, name: &str, mode: u32) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let now = std::fs::metadata(&path).map_err(fail("look at", &path))?.permissions().mode();
        if now & 0o7777 == mode {
            return Ok(());
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).map_err(fail("set the mode of", &path))
    }
}

fn lock(folder: &Path, begun: Instant, patience: Duration) -> Result<Flock<File>, StoreError> {
    let mut file = File::open(folder).map_err(fail("open", folder))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EWOULDBLOCK)) if begun.elapsed() < patience => file = again,
            Err((_, Errno::EWOULDBLOCK)) => {
                let why = format!("another process holds it for {} s", patience.as_secs());
                return Err(fail("lock", folder)(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            Err((_, errno)) => return Err(fail("lock", folder)(errno.into())),
        }
        std::thread::sleep(PAUSE);
    }
}

fn folder(path: &Path) -> Result<(), StoreError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(fail("create the folder", path))
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    // Never readable for others, not even for a moment.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_mode_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("certs")).unwrap();
        store.write("ca/key.pem", 0o600, "a").unwrap();
        store.write("ca/key.pem", 0o644, "b").unwrap();
        let path = folder.path().join("certs/ca/key.pem");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path().join("certs/ca")).unwrap().count(), 1);
    }

    /// Containers that share the authority's volume alone had a lock each.
    #[test]
    fn a_shared_authority_is_locked_as_well() {
        let [one, other] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        std::fs::create_dir(one.path().join("ca")).unwrap();
        std::os::unix::fs::symlink(one.path().join("ca"), other.path().join("ca")).unwrap();
        let held = Store::open(one.path()).unwrap();
        let waits = || lock(&other.path().join("ca"), Instant::now(), Duration::ZERO);
        assert!(waits().unwrap_err().to_string().contains("another process holds it"));
        drop(held);
        waits().unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca"), "in the way").unwrap();
        let store = Store::open(folder.path()).unwrap();
        let error = store.write("ca/key.pem", 0o600, "a").unwrap_err().to_string();
        assert!(error.starts_with("cannot create the folder ") && error.contains("/ca: "), "{error}");
    }
}
