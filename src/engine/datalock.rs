/*!
Is somebody else working on the same data?

Two daemons on one data root destroy it, and a pid file cannot tell when they live in different containers that
share a volume. dockerd and containerd keep their state in bbolt databases, which they hold by `flock(2)` as long as
they run; the kernel keeps that lock with the file, whoever looks. So we try each lock without waiting, and give it
back at once.
*/
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Databases below dockerd's data root (engines 20.10 to 29).
const DOCKERD: [&str; 3] = ["network/files/local-kv.db", "volumes/metadata.db", "buildkit/containerdmeta.db"];

/// The database below containerd's root.
const CONTAINERD: &str = "io.containerd.metadata.v1.bolt/meta.db";

/// Another daemon holds a database.
#[derive(Debug, thiserror::Error)]
pub enum DataLockError {
    /// The lock is taken.
    #[error("another daemon works on the same data: it holds {}", .database.display())]
    Held {
        /// The locked database.
        database: PathBuf,
    },
    /// The lock could not be tried.
    #[error("cannot tell whether another daemon works on the same data: {}: {source}", .database.display())]
    Unknown {
        /// The database.
        database: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataLockError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Held { .. } => "give each daemon a volume of its own for /var/lib/docker and /var/lib/containerd, or stop the other one".into(),
            Self::Unknown { .. } => "make the data root readable and writable for root".into(),
        }
    }
}

/// Fails when a running daemon holds a database below one of the two roots.
pub fn check(data_root: &Path, containerd_root: &Path) -> Result<(), DataLockError> {
    for name in DOCKERD {
        check_database(&data_root.join(name))?;
    }
    check_database(&containerd_root.join(CONTAINERD))
}

fn check_database(database: &Path) -> Result<(), DataLockError> {
    let unknown = |source| DataLockError::Unknown { database: database.to_owned(), source };
    let file = match File::open(database) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unknown(error)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        // Dropping it gives the lock back.
        Ok(_ours) => Ok(()),
        Err((_, Errno::EWOULDBLOCK)) => Err(DataLockError::Held { database: database.to_owned() }),
        Err((_, errno)) => Err(unknown(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_database_is_found_and_a_free_one_is_left_free() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("volumes/metadata.db");
        std::fs::create_dir(folder.path().join("volumes")).unwrap();
        std::fs::write(&database, "x").unwrap();
        let nowhere = folder.path().join("none");
        check(folder.path(), &nowhere).unwrap();
        let held = Flock::lock(File::open(&database).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        assert!(matches!(check(folder.path(), &nowhere), Err(DataLockError::Held { .. })));
        drop(held);
        check(folder.path(), &nowhere).unwrap();
    }
}
