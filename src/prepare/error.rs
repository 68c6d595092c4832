/*!
How a step can fail, with everything that is needed to mend it.
*/
use std::path::PathBuf;

use nix::errno::Errno;

/// A call to the system that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing} {}: {errno}{}", .path.display(), .reason.as_deref().map(|it| format!(" ({it})")).unwrap_or_default())]
pub struct CallError {
    /// What was tried, including the value: `write "+memory" to`.
    pub doing: String,
    /// On which file.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
    /// What that answer means here, where it is known.
    pub reason: Option<String>,
}

impl CallError {
    pub(crate) fn new(doing: impl Into<String>, path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self { doing: doing.into(), path: path.into(), errno, reason: None }
    }

    pub(crate) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

/// Why the preparation ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The plan itself says that the daemon could not work. Nothing was changed.
    #[error("{cause}")]
    Refused {
        /// Name of the step.
        step: String,
        /// What is wrong.
        cause: String,
        /// What can be done.
        hint: Option<String>,
    },
    /// A required step failed; those before it have been applied.
    #[error("{error}")]
    Step {
        /// Name of the step.
        step: String,
        /// What failed.
        error: Box<CallError>,
        /// What can be done.
        hint: Option<String>,
    },
}

impl PrepareError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } | Self::Step { hint, .. } => hint.clone(),
        }
    }

    /// Name of the step that ended it.
    pub fn step(&self) -> &str {
        match self {
            Self::Refused { step, .. } | Self::Step { step, .. } => step,
        }
    }
}
