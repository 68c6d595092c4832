//! `dindctl exec`: arguments as typed, and the run from them to the exit code.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Instant;

use clap::Args;

use super::Environment;
use super::render::{self, Answer, Form};
use super::say::{Level, Voice};
use crate::exec::daemon::{self, Daemon};
use crate::exec::endpoint::{self, Endpoint};
use crate::exec::error::ExecError;
use crate::exec::image::Progress;
use crate::exec::rejection::Rejection;
use crate::exec::request::{self, Request};
use crate::exec::run::{self, Done, Order};
use crate::exec::settings::ExecSettings;
use crate::exec::sink::Sink;
use crate::exec::teardown;
use crate::exec::terminal::Signals;
use crate::exec::typed::{Caller, Typed};
use crate::exec::{authorities, dryrun, exit, program, workspace};
use crate::sys::background::{self, Back, Side};
use crate::sys::wait::Exit;

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
    /// none, egress (the internet, nothing private), bridge, or a network of your own [default: none]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// With --network egress: a private network that stays open
    #[arg(long, value_name = "CIDR")]
    pub egress_allow: Vec<String>,
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
    /// Print the run's id and return as soon as the program has started; its limits hold, its output is dropped
    #[arg(long, conflicts_with_all = ["stdin", "tty", "stream", "dry_run"])]
    pub detach: bool,
    /// Print the equivalent docker run and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// text or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: String,
}

impl ExecArgs {
    fn typed(self, collected: bool) -> Result<Typed, Rejection> {
        let mut env_files = Vec::new();
        for path in self.env_file {
            let refuse = |error: std::io::Error| {
                Rejection::new("--env-file", path.display().to_string(), error.to_string())
                    .with_hint("give a readable file of NAME=VALUE lines")
            };
            let content = std::fs::read_to_string(&path).map_err(refuse)?;
            env_files.push((path, content));
        }
        Ok(Typed {
            language: self.language,
            file: self.file,
            code: self.code,
            image: self.image,
            args: self.args,
            env: self.env,
            env_files,
            workdir: self.workdir,
            user: self.user,
            stdin: self.stdin,
            tty: self.tty,
            labels: self.label,
            name: self.name,
            version: self.language_version,
            memory: self.memory,
            cpus: self.cpus,
            pids_limit: self.pids_limit,
            tmpfs_size: self.tmpfs_size,
            ulimits: self.ulimit,
            read_only: self.read_only,
            network: self.network,
            egress_allow: self.egress_allow,
            timeout: self.timeout,
            cpu_time: self.cpu_time,
            grace: self.grace,
            max_output: self.max_output,
            on_output_limit: self.on_output_limit,
            runtime: self.runtime,
            pull: self.pull,
            workspace: self.workspace,
            collected,
        })
    }
}

/// Runs the code and returns the exit code ([`exit`] lists them).
pub fn run(args: ExecArgs, settings: &ExecSettings, voice: Voice) -> u8 {
    let begun = Instant::now();
    let form = match Form::new(&args.output, args.stream) {
        Ok(form) => form,
        Err(rejection) => return fail(voice, &rejection.into()),
    };
    let (dry_run, detach) = (args.dry_run, args.detach);
    let id = match new_id() {
        Ok(id) => id,
        Err(error) => return fail(voice, &error),
    };
    let answer = Answer { form, voice, id: id.clone() };
    let caller = caller();
    let request = args.typed(form != Form::Text).and_then(|typed| request::validate(&id, &typed, settings, &caller));
    let request = match request {
        Ok(request) => request,
        Err(rejection) => return answer.refused(None, &rejection.into()),
    };
    match order(request.clone(), &caller.env, begun) {
        Err(error) => answer.refused(Some(&request), &error),
        Ok((order, _)) if dry_run => {
            match dryrun::command(&order.request, order.workspace.as_ref(), order.loaded.as_ref()) {
                Ok(line) => {
                    super::say::result(&line);
                    0
                }
                Err(rejection) => answer.refused(Some(&request), &rejection.into()),
            }
        }
        Ok((order, endpoint)) if detach => in_background(order, endpoint, &caller.env, &answer),
        Ok((order, endpoint)) => on_runtime(order, endpoint, &caller.env, &answer, None),
    }
}

/// Lets a copy of this process see to the run, and returns when its program has started or could not be.
fn in_background(order: Order, endpoint: Endpoint, env: &BTreeMap<String, String>, answer: &Answer) -> u8 {
    let failed = |errno: nix::errno::Errno| {
        answer.refused(None, &ExecError::local("go on in the background")(std::io::Error::from(errno)))
    };
    if std::process::id() == 1 {
        let why = "this is PID 1 of its container, which ends with it";
        let rejection = Rejection::new("--detach", "", why).with_hint("start the container with --init");
        return answer.refused(Some(&order.request), &rejection.into());
    }
    let name = order.request.name.clone();
    match background::split() {
        Err(errno) => failed(errno),
        Ok(Side::Back(back)) => on_runtime(order, endpoint, env, answer, Some(back)),
        Ok(Side::Front(front)) => match front.wait() {
            Err(errno) => failed(errno),
            Ok(None | Some(Exit::Code(0))) => {
                let id = &answer.id;
                super::say::result(&if answer.form == Form::Text {
                    id.clone()
                } else {
                    serde_json::json!({ "id": id, "container": name, "detached": true }).to_string()
                });
                0
            }
            // It has said why.
            Ok(Some(exit)) => exit.code(),
        },
    }
}

fn fail(voice: Voice, error: &ExecError) -> u8 {
    voice.fail(error, error.hint().as_deref());
    exit::OWN
}

/// Twelve hexadecimal digits at random.
pub(super) fn new_id() -> Result<String, ExecError> {
    use std::io::Read;
    let mut bytes = [0_u8; 6];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(ExecError::local("read /dev/urandom"))?;
    Ok(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

fn caller() -> Caller {
    Caller {
        env: Environment::of_process().texts(),
        // A directory that was removed leaves relative paths relative, and opening them says why that fails.
        cwd: std::env::current_dir().unwrap_or_default(),
        terminal: std::io::stdin().is_terminal(),
    }
}

/// Reads what the request names.
fn order(request: Request, env: &BTreeMap<String, String>, begun: Instant) -> Result<(Order, Endpoint), ExecError> {
    let endpoint = endpoint::from_env(env)?;
    let socket = if let Endpoint::Unix(path) = &endpoint { Some(path.as_path()) } else { None };
    let sockets = workspace::control_sockets(socket);
    let resolved = request.workspace.as_ref().map(|spec| workspace::resolve(spec, &sockets)).transpose()?;
    let loaded = program::load(&request, resolved.as_ref(), &mut std::io::stdin().lock())?;
    let authorities = request.ca_file.as_deref().map(authorities::read).transpose()?;
    let progress = if std::io::stderr().is_terminal() { Progress::Terminal } else { Progress::Lines };
    Ok((Order { request, workspace: resolved, loaded, authorities, progress, begun }, endpoint))
}

fn on_runtime(
    order: Order,
    endpoint: Endpoint,
    env: &BTreeMap<String, String>,
    answer: &Answer,
    back: Option<Back>,
) -> u8 {
    let request = order.request.clone();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return answer.refused(Some(&request), &ExecError::local("start")(error)),
    };
    let code = runtime.block_on(async {
        // Nothing exists yet, so until here a signal may simply end us.
        let ready = async {
            let daemon = daemon::connect(endpoint, env, &answer.voice.waits()).await?;
            let signals = Signals::listen().map_err(ExecError::local("listen to signals"))?;
            let sink = match back {
                Some(back) => Sink::in_background(back),
                None => Sink::new(answer.form.delivery())?,
            };
            Ok::<_, ExecError>((daemon, signals, sink))
        };
        match ready.await {
            Ok((daemon, signals, sink)) => with_daemon(&daemon, order, &request, signals, sink, answer).await,
            Err(error) => answer.refused(Some(&request), &error),
        }
    });
    // A thread that waits for standard input must not hold us up.
    runtime.shutdown_background();
    code
}

async fn with_daemon(
    daemon: &Daemon,
    order: Order,
    request: &Request,
    mut signals: Signals,
    mut sink: Sink,
    answer: &Answer,
) -> u8 {
    let Done { verdict, timing, remains, notes } = run::run(daemon, order, &mut sink, &mut signals).await;
    // A second signal may end us while we write; the lease then lets a later collection clean up.
    let output = tokio::select! {
        output = sink.finish() => output,
        _ = signals.stop() => <_>::default(),
    };
    for note in &notes {
        answer.voice.say(Level::Warn, note);
    }
    let code = match verdict {
        Ok(verdict) => answer.done(request, verdict, output, timing),
        Err(error) => answer.failed(Some(request), &error, timing),
    };
    if let Some(remains) = remains {
        let cleaned = tokio::select! {
            cleaned = teardown::clean_up(&daemon.docker, &remains) => cleaned,
            _ = signals.stop() => Ok(()),
        };
        if let Err(error) = cleaned {
            // The answer stands; what is left is found by its lease.
            answer.voice.say(Level::Warn, &format!("{}; dindctl gc removes it later", render::line(&error)));
        }
    }
    code
}
