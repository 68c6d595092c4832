//! A run as it was asked for: every value still the text that somebody typed.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of a run. `None` and empty mean: not given. [`super::request::validate`] turns it into a
/// [`super::request::Request`]; the command line and other front ends fill it alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is one flag of the command line.
pub struct Typed {
    /// Name of a language.
    pub language: Option<String>,
    /// Program file, or `-` for standard input.
    pub file: Option<String>,
    /// Program text (`-c`).
    pub code: Option<String>,
    /// Image to run instead of a language's.
    pub image: Option<String>,
    /// Arguments of the program, or the command for `image`.
    pub args: Vec<String>,
    /// `NAME=VALUE`, or `NAME` for the caller's value.
    pub env: Vec<String>,
    /// Files of variables with their content.
    pub env_files: Vec<(PathBuf, String)>,
    /// Working directory.
    pub workdir: Option<String>,
    /// `USER[:GROUP]`.
    pub user: Option<String>,
    /// Forward standard input.
    pub stdin: bool,
    /// Give the program a terminal.
    pub tty: bool,
    /// `NAME=VALUE` labels for the container.
    pub labels: Vec<String>,
    /// Name of the container.
    pub name: Option<String>,
    /// Version of the language.
    pub version: Option<String>,
    /// Memory.
    pub memory: Option<String>,
    /// Processors.
    pub cpus: Option<String>,
    /// Processes and threads.
    pub pids_limit: Option<String>,
    /// Size of each writable tmpfs.
    pub tmpfs_size: Option<String>,
    /// Resource limits.
    pub ulimits: Vec<String>,
    /// `true` or `false`.
    pub read_only: Option<String>,
    /// Network.
    pub network: Option<String>,
    /// Networks that `egress` leaves open.
    pub egress_allow: Vec<String>,
    /// Wall-clock limit.
    pub timeout: Option<String>,
    /// CPU time limit.
    pub cpu_time: Option<String>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Option<String>,
    /// Output cap for each stream.
    pub max_output: Option<String>,
    /// What passing the cap does.
    pub on_output_limit: Option<String>,
    /// OCI runtime.
    pub runtime: Option<String>,
    /// When to pull.
    pub pull: Option<String>,
    /// `DIR[:ro|rw|copy]`.
    pub workspace: Option<String>,
    /// Whether output is collected into one result (JSON) and needs a cap.
    pub collected: bool,
}

/// What a run takes from whoever asks for it.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Environment, for `-e NAME`.
    pub env: BTreeMap<String, String>,
    /// Directory that relative paths start from.
    pub cwd: PathBuf,
    /// Whether standard input is a terminal.
    pub terminal: bool,
}
