//! `dindctl exec`: arguments as typed.

use clap::Args;

/// Runs code in a throw-away container: no network, no privileges, read-only files, bounded in every way.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // Each is one flag.
#[command(after_help = "\
Exit code: the program's own; 124 timeout; 125 dindctl, usage or daemon error; 126 not executable; 127 not found;
137 out of memory or SIGKILL; 128+n signal. -o json tells the cause exactly.")]
pub struct ExecArgs {
    /// Language of the program: python, node, sh, bash, or one of the configuration
    pub language: Option<String>,
    /// File with the program, or - for standard input
    pub file: Option<String>,
    /// Arguments of the program; with --image, the command
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
    /// Text of the program
    #[arg(short, long)]
    pub code: Option<String>,
    /// Run a command of this image instead of a language
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// Set a variable; a bare NAME passes yours on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<std::path::PathBuf>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User of the program [default: the image's unless root, the owner of a writable workspace, else 65534]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Forward standard input
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Label of the container
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Version of the language, as the image's tag has it
    #[arg(long, visible_alias = "python", visible_alias = "node", value_name = "VERSION")]
    pub language_version: Option<String>,
    /// Memory and swap together [default: 512m]
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Processors [default: 1]
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Processes and threads [default: 128]
    #[arg(long, value_name = "N")]
    pub pids_limit: Option<String>,
    /// Size of /tmp and every other writable place [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub tmpfs_size: Option<String>,
    /// Resource limit, as for docker run [default: core=0]
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Whether the image's files are read-only [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub read_only: Option<String>,
    /// none, bridge, or a network of your own [default: none]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Wall-clock limit [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Limit on the CPU time of all processes together
    #[arg(long, value_name = "TIME")]
    pub cpu_time: Option<String>,
    /// Time between SIGTERM and SIGKILL at a limit [default: 0]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
    /// Cap for each of stdout and stderr [default: 1MiB with -o json, else none]
    #[arg(long, value_name = "SIZE")]
    pub max_output: Option<String>,
    /// At the cap: truncate (keep head and tail) or kill [default: truncate]
    #[arg(long, value_name = "WHAT")]
    pub on_output_limit: Option<String>,
    /// OCI runtime, such as runc or runsc
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// When to pull the image: missing, always, never [default: missing]
    #[arg(long, value_name = "WHEN")]
    pub pull: Option<String>,
    /// Directory that the program sees at the same path: ro, rw, or a copy that is thrown away [default: ro]
    #[arg(long, value_name = "DIR[:ro|rw|copy]")]
    pub workspace: Option<String>,
    /// With -o json: one line of JSON for every event, the result last
    #[arg(long)]
    pub stream: bool,
    /// Print the equivalent docker run and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// text or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: String,
}
