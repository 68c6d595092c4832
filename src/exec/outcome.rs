/*!
How a run ended, in the one vocabulary that every part of dindctl uses.

[`Report`] is what the agent saw inside the sandbox; [`RunResult`](super::result::RunResult) is what the caller gets (`-o json`).
*/
use serde::{Deserialize, Serialize};

/// Schema name of [`RunResult`](super::result::RunResult).
pub const RESULT_SCHEMA: &str = "dindctl.exec/v1";

/// Cause of the end of a run. Exit codes alone cannot carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The program ended with code 0.
    Ok,
    /// The program ended with another code.
    Nonzero,
    /// A signal that was not ours ended the program.
    Signaled,
    /// The wall-clock deadline passed.
    Timeout,
    /// The CPU time given to all processes of the run was used up.
    CpuTimeout,
    /// The kernel's OOM killer ended the program.
    Oom,
    /// The program wrote more than allowed and was ended for it.
    OutputLimit,
    /// The program failed with its writable file systems full.
    DiskLimit,
    /// The caller cancelled (Ctrl-C, disconnect).
    Killed,
    /// The image could not be built.
    BuildFailed,
    /// Requirements could not be installed.
    InstallFailed,
    /// The image could not be pulled.
    PullFailed,
    /// The request was refused before anything ran.
    Rejected,
    /// dindctl or the daemon failed.
    Internal,
}

/// What the agent measured over the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Wall-clock time of the program, milliseconds.
    pub wall_ms: u64,
    /// User and system CPU time of all its processes, milliseconds.
    pub cpu_ms: u64,
    /// Highest memory use of the sandbox's control group, bytes (0 when the kernel does not tell).
    pub memory_peak_bytes: u64,
    /// Highest number of processes and threads (0 when the kernel does not tell).
    pub pids_peak: u64,
}

/// Bytes that were dropped from the middle of each stream to keep head and tail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// Bytes missing from stdout.
    pub stdout: u64,
    /// Bytes missing from stderr.
    pub stderr: u64,
}

/// An error as data, for a program that reads the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable word for programs, such as `image_not_found`.
    pub code: String,
    /// One line: what, where, why.
    pub message: String,
    /// One line: what to do.
    pub hint: Option<String>,
    /// Whether the same call may go through later.
    pub retryable: bool,
}

/// The agent's report about a finished job; travels in band as the last frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Cause of the end.
    pub status: Status,
    /// Exit code of the program; `None` when a signal ended it or nothing ran.
    pub returncode: Option<i32>,
    /// Signal that ended the program.
    pub signal: Option<i32>,
    /// Whether the kernel's OOM killer struck anywhere in the sandbox, even where the program survived it.
    pub oom_killed: bool,
    /// Bytes dropped by the output cap.
    pub truncated: Truncated,
    /// Resources used.
    pub usage: Usage,
    /// Set when the program could not be started at all.
    pub problem: Option<Problem>,
}
