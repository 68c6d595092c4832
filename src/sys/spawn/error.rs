/*!
What can go wrong between asking for a child and its first instruction.
*/
use nix::errno::Errno;

/// Which of the preparations in the child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the calls.
pub enum Step {
    Fork = 0,
    Pipe,
    Stdio,
    ListenFds,
    Session,
    ParentDeath,
    Limits,
    OomScore,
    Chdir,
    Capabilities,
    Identity,
    NoNewPrivileges,
    Signals,
    Exec,
}

impl Step {
    pub(super) const ALL: [Self; 14] = [
        Self::Fork,
        Self::Pipe,
        Self::Stdio,
        Self::ListenFds,
        Self::Session,
        Self::ParentDeath,
        Self::Limits,
        Self::OomScore,
        Self::Chdir,
        Self::Capabilities,
        Self::Identity,
        Self::NoNewPrivileges,
        Self::Signals,
        Self::Exec,
    ];

    /// What was being done, as `failed to …`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Pipe => "create a pipe",
            Self::Stdio => "set up the standard streams",
            Self::ListenFds => "hand over the listening sockets",
            Self::Session => "create the session",
            Self::ParentDeath => "set the parent death signal",
            Self::Limits => "set the resource limits",
            Self::OomScore => "set oom_score_adj",
            Self::Chdir => "enter the working directory",
            Self::Capabilities => "drop the capabilities",
            Self::Identity => "change the user",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::Signals => "restore the signals",
            Self::Exec => "execute the program",
        }
    }
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A string holds a NUL byte and cannot be passed on.
    #[error("cannot start {program}: {what} holds a NUL byte")]
    Nul {
        /// The program.
        program: String,
        /// `an argument`, `the environment`, `the path`.
        what: &'static str,
    },
    /// A call failed, in the child or before it.
    #[error("cannot start {program}: failed to {}: {errno}", .step.words())]
    Call {
        /// The program.
        program: String,
        /// What was being done.
        step: Step,
        /// Why it failed.
        errno: Errno,
    },
}

impl SpawnError {
    /// The kernel's answer; `EINVAL` for words that no program can be given.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Call { errno, .. } => *errno,
            Self::Nul { .. } => Errno::EINVAL,
        }
    }

    /// The exit code that shells and docker use for it: 127 not found, 126 not executable, 125 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Call { step: Step::Exec, errno: Errno::ENOENT | Errno::ENOTDIR, .. } => 127,
            Self::Call { step: Step::Exec, .. } => 126,
            Self::Call { .. } | Self::Nul { .. } => 125,
        }
    }
}
