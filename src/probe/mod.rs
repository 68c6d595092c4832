/*!
What surrounds this process: capabilities, cgroup set-up, mounts, users, processes, limits, storage. Reads only.

Every function takes the place it reads from ([`Roots`]), so that tests hand it a folder, and gives plain data, so
that whoever decides on it needs no system at all.
*/
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod apparmor;
pub mod capabilities;
pub mod certificates;
pub mod cgroup;
pub mod cgroup_path;
pub mod confinement;
pub mod controllers;
pub mod engine;
pub mod firewall;
pub mod host;
pub mod layers;
pub mod limits;
pub mod machine;
pub mod mountinfo;
pub mod names;
pub mod network;
pub mod overlay;
pub mod process;
pub mod rootless;
pub mod storage;
pub mod subids;
pub mod users;

use std::io;
use std::path::{Path, PathBuf};

/// Where the facts are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// What `/` stands for. Paths in facts and plans are always written as seen from there.
    pub root: PathBuf,
    /// A mounted procfs.
    pub proc: PathBuf,
    /// The folder of the own process in it.
    pub own: PathBuf,
}

impl Roots {
    /// The system as this process sees it.
    pub fn system() -> Self {
        Self { root: "/".into(), proc: "/proc".into(), own: "/proc/self".into() }
    }

    /// A folder that looks like a root file system, with `proc/self` in it.
    pub fn below(root: &Path) -> Self {
        Self { root: root.into(), proc: root.join("proc"), own: root.join("proc/self") }
    }

    /// Where `path`, an absolute path as the facts write it, really lies.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Something that has to be readable could not be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Reading failed.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The content is not what the kernel documents for this file.
    #[error("cannot understand {path}: {what} in {line:?}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// The line.
        line: String,
    },
}

impl ProbeError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, error } if error.kind() == io::ErrorKind::NotFound && path.starts_with("/proc") => {
                Some("mount procfs on /proc: without it dindctl cannot see where it runs".into())
            }
            Self::Read { .. } | Self::Parse { .. } => None,
        }
    }
}

/// Reads a whole file; bytes that are not UTF-8 (allowed in mount points and command lines) become U+FFFD.
pub(crate) fn read(path: &Path) -> Result<String, ProbeError> {
    match crate::sys::file::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(ProbeError::Read { path: path.into(), error }),
    }
}
