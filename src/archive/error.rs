//! Why a backup or a restore ends.

use nix::errno::Errno;

use crate::exec::error::ExecError;

/// Everything that can go wrong. Paths are as [`super::entry::shown`] gives them.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A system call failed.
    #[error("cannot {doing} {path}: {}", words(*.errno))]
    Call {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The archive is something else.
    #[error("{name} is no archive of dindctl: {why}")]
    Foreign {
        /// The archive.
        name: String,
        /// What tells.
        why: String,
    },
    /// The end is missing.
    #[error("{name} is truncated: it ends after {bytes} bytes, {place}")]
    Truncated {
        /// The archive.
        name: String,
        /// Bytes that are there.
        bytes: u64,
        /// Behind which entry.
        place: String,
    },
    /// It is not what was written.
    #[error("{name} is damaged {place}: {why}")]
    Damaged {
        /// The archive.
        name: String,
        /// Where: entry and byte of the unpacked stream.
        place: String,
        /// What is wrong there.
        why: String,
    },
    /// It would fill the file system.
    #[error("{folder} has {free} bytes free, and {needed} are needed")]
    NoSpace {
        /// The target.
        folder: String,
        /// Bytes free.
        free: u64,
        /// Bytes needed; at least, when the archive was not read to its end.
        needed: u64,
    },
    /// The same for inodes.
    #[error("{folder} has {free} inodes free, and {needed} are needed")]
    NoInodes {
        /// The target.
        folder: String,
        /// Inodes free.
        free: u64,
        /// Inodes needed.
        needed: u64,
    },
    /// Asked for something that cannot be.
    #[error("{what}")]
    Refused {
        /// What and why.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Containers could not be paused.
    #[error(transparent)]
    Daemon(#[from] ExecError),
    /// They could not be unpaused, which nobody else will do.
    #[error("{} stays paused: {why}", .containers.join(", "))]
    StillPaused {
        /// Names.
        containers: Vec<String>,
        /// What the daemon said.
        why: String,
    },
    /// A signal asked for the end.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    /// Undoing failed as well.
    #[error("{first}; and putting the old tree back failed: {second}")]
    NotRolledBack {
        /// Why it was to be undone.
        first: Box<ArchiveError>,
        /// Why that failed.
        second: Box<ArchiveError>,
        /// Where everything is now.
        place: String,
    },
}

fn words(errno: Errno) -> String {
    format!("{errno:?}: {}", errno.desc())
}

impl ArchiveError {
    /// Wraps what the kernel said.
    pub fn call(doing: &'static str, path: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let path = path.into();
        move |errno| Self::Call { doing, path, errno }
    }

    /// The same for the standard library's errors.
    pub fn io(doing: &'static str, path: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Call { doing, path, errno: crate::sys::file::errno(&error) }
    }

    /// A request that cannot be.
    pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }

    /// Whether the archive itself is to blame: the answer to "is this a good archive" is no.
    pub const fn is_verdict(&self) -> bool {
        matches!(self, Self::Foreign { .. } | Self::Truncated { .. } | Self::Damaged { .. })
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Call { errno: Errno::EACCES | Errno::EPERM, .. } => {
                "run it as root of the container (docker exec -u 0 …), or --exclude what need not be kept"
            }
            Self::Call { errno: Errno::ENOSPC | Errno::EDQUOT, .. } => "make room, or choose another place",
            Self::Call { errno: Errno::EPIPE, .. } => "whoever was to take the archive went away",
            Self::Call { errno: Errno::EROFS, .. } => "that file system is mounted read-only",
            Self::Call { errno: Errno::EXDEV, .. } => {
                "the image's own file system (overlay) cannot move folders of its layers: mount a volume there"
            }
            Self::Foreign { .. } => "dindctl restore takes what dindctl backup wrote, and nothing else",
            Self::Truncated { .. } => "copy it again from where it was written, or take an older backup",
            Self::Damaged { .. } => "nothing was changed; copy it again, or take an older backup",
            Self::NoSpace { .. } | Self::NoInodes { .. } => {
                "old and new tree need room at the same time; make room, or restore into another folder (--to)"
            }
            Self::Refused { hint, .. } => hint,
            Self::Daemon(error) => return error.hint(),
            Self::StillPaused { containers, .. } => return Some(format!("docker unpause {}", containers.join(" "))),
            Self::NotRolledBack { place, .. } => {
                return Some(format!(
                    "nothing is lost: it is all in {place}; mend the cause, then dindctl restore --recover"
                ));
            }
            Self::Call { .. } | Self::Interrupted(_) => return None,
        };
        Some(text.to_owned())
    }
}
