//! Why a run could not be done.

use super::chain::{chain, one_line};
use super::daemon::DaemonError;
use super::outcome::{Problem, Status};
use super::rejection::Rejection;

/// Everything that ends a run without a report about the program.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The request cannot be done as it was asked.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// There is no daemon to ask.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The daemon does not have the image and may not, or cannot, get it.
    #[error("image {reference:?}: {why}")]
    Image {
        /// The image.
        reference: String,
        /// What the daemon or the registry said.
        why: String,
        /// Stable word: `image_not_found`, `pull_failed`.
        code: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The daemon refused or failed a request.
    #[error("the daemon cannot {doing}")]
    Api {
        /// What was asked of it.
        doing: String,
        /// What it said.
        #[source]
        source: bollard::errors::Error,
    },
    /// The program could not be started, and the daemon said why.
    #[error("cannot start the program: {why}")]
    Start {
        /// What the daemon said.
        why: String,
        /// 126 not executable, 127 not found.
        exit: u8,
    },
    /// The agent did not do its part.
    #[error("the agent in the sandbox failed: {why}")]
    Agent {
        /// What is known.
        why: String,
    },
    /// The directory that the daemon mounted is not the caller's.
    #[error("--workspace {path:?}: the daemon sees another file system, and has a different directory there, or none")]
    ForeignWorkspace {
        /// The directory.
        path: String,
    },
    /// Something on our own side failed.
    #[error("cannot {doing}")]
    Local {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The caller cancelled before the program ran.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
}

impl ExecError {
    /// Wraps what the daemon said.
    pub fn api(doing: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api { doing, source }
    }

    /// Wraps an error of our own side.
    pub fn local(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Local { doing, source }
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Rejected(rejection) => rejection.hint(),
            Self::Daemon(error) => error.hint(),
            Self::Image { hint, .. } => Some((*hint).to_owned()),
            Self::Api { source, .. } => api_hint(&source.to_string()).map(str::to_owned),
            Self::Agent { .. } => Some("the daemon's log tells more; try again with --read-only=false".to_owned()),
            Self::ForeignWorkspace { .. } => Some(
                "a writable workspace must lie on the daemon's own file system; use :copy, or a shared volume"
                    .to_owned(),
            ),
            Self::Start { .. } => Some("check the command and the image".to_owned()),
            Self::Local { .. } | Self::Interrupted(_) => None,
        }
    }

    /// In the vocabulary of results.
    pub const fn status(&self) -> Status {
        match self {
            Self::Rejected(_) | Self::ForeignWorkspace { .. } => Status::Rejected,
            Self::Image { .. } => Status::PullFailed,
            Self::Start { .. } => Status::Nonzero,
            Self::Interrupted(_) => Status::Killed,
            Self::Daemon(_) | Self::Api { .. } | Self::Agent { .. } | Self::Local { .. } => Status::Internal,
        }
    }

    /// As data.
    pub fn problem(&self) -> Problem {
        let code = match self {
            Self::Rejected(_) => "bad_request",
            Self::Daemon(_) => "daemon_unreachable",
            Self::Image { code, .. } => code,
            Self::Api { .. } => "daemon_error",
            Self::Start { exit: 127, .. } => "not_found",
            Self::Start { .. } => "not_executable",
            Self::Agent { .. } => "agent_failed",
            Self::ForeignWorkspace { .. } => "workspace_mismatch",
            Self::Local { .. } => "local_error",
            Self::Interrupted(_) => "cancelled",
        };
        let retryable = match self {
            Self::Daemon(error) => error.retryable(),
            Self::Image { code, .. } => *code == "pull_failed",
            Self::Api { source, .. } => status_code(source).is_none_or(|code| code >= 500),
            Self::Interrupted(_) => true,
            _ => false,
        };
        Problem { code: code.to_owned(), message: one_line(&chain(self)), hint: self.hint(), retryable }
    }
}

/// The daemon's HTTP status, if it answered at all.
pub const fn status_code(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn api_hint(said: &str) -> Option<&'static str> {
    let hints = [
        ("is already in use by container", "choose another --name, or remove that container"),
        ("unknown or invalid runtime", "docker info lists the runtimes of the daemon"),
        ("CPUs available", "ask for fewer with --cpus"),
        ("no space left on device", "the daemon's disk is full: docker system df, dindctl clean"),
        ("network", "docker network ls lists the networks of the daemon"),
    ];
    hints.iter().find(|(words, _)| said.contains(words)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_words_end_up_in_one_line() {
        let source = bollard::errors::Error::DockerResponseServerError {
            status_code: 409,
            message: "Conflict. The container name \"/x\" is already in use by container \"1\".".into(),
        };
        let problem = ExecError::Api { doing: "create the container".into(), source }.problem();
        assert!(problem.message.starts_with("the daemon cannot create the container: "), "{}", problem.message);
        assert_eq!(problem.hint.as_deref(), Some("choose another --name, or remove that container"));
        assert!(!problem.retryable);
    }
}
