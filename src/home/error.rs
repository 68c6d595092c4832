//! What can go wrong with an account or a home.

use std::path::PathBuf;

use nix::errno::Errno;

use super::account::WishError;
use crate::probe::ProbeError;

/// Why a user could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// What was asked for is not possible.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// The accounts cannot be read.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A file of the accounts cannot be changed.
    #[error("cannot {doing} {path}: {errno}", path = .path.display())]
    File {
        /// What was to be done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
}

impl HomeError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Wish(error) => error.hint(),
            Self::Probe(_) => "the image needs /etc/passwd and /etc/group".into(),
            Self::File { .. } => {
                "the container needs a writable /etc for that: leave --read-only, PUID, PGID or DOCKER_USER out".into()
            }
        }
    }
}
