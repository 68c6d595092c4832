/*!
Reasons why a job does not start, in the words of a report.
*/
use nix::errno::Errno;

use crate::exec::outcome::{Problem, Status};

/// A job that is not run, or not run on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .problem.code, .problem.message)]
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) returncode: Option<i32>,
    pub(super) problem: Problem,
}

impl Refusal {
    /// The job asks for something that cannot be done here.
    pub(super) fn rejected(code: &str, message: String, hint: Option<&str>) -> Self {
        Self { status: Status::Rejected, returncode: None, problem: problem(code, message, hint) }
    }

    /// A program that cannot be started has the exit code that shells and docker give it.
    pub(super) fn not_started(returncode: i32, code: &str, message: String, hint: Option<&str>) -> Self {
        Self { status: Status::Nonzero, returncode: Some(returncode), problem: problem(code, message, hint) }
    }

    /// We failed, not the job.
    pub(super) fn internal(code: &str, message: String) -> Self {
        Self { status: Status::Internal, returncode: None, problem: problem(code, message, None) }
    }

    /// The caller ended it before it began.
    pub(super) fn cancelled() -> Self {
        let problem = problem("cancelled", "the caller cancelled before the program was started".to_owned(), None);
        Self { status: Status::Killed, returncode: None, problem }
    }

    /// A file operation failed.
    pub(super) fn file(code: &str, doing: &str, path: &str, errno: Errno) -> Self {
        let hint = match errno {
            Errno::ENOSPC | Errno::EDQUOT => Some("the file system is full: ask for a larger tmpfs"),
            Errno::EROFS => Some("the place is read-only: choose one on a tmpfs"),
            Errno::EACCES | Errno::EPERM => Some("the job's user may not do that there"),
            _ => None,
        };
        Self::rejected(code, format!("cannot {doing} {path:?}: {}", errno.desc()), hint)
    }
}

/// A problem that the same call would meet again.
pub(super) fn problem(code: &str, message: String, hint: Option<&str>) -> Problem {
    Problem { code: code.to_owned(), message, hint: hint.map(str::to_owned), retryable: false }
}
