//! A run that can be done: what was typed, checked and completed with defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::language::{self, Language};
use super::network::Network;
use super::parse::{self, Ulimit};
use super::protocol::OnOutputLimit;
use super::rejection::Rejection;
use super::settings::ExecSettings;
use super::typed::{Caller, Typed};
use super::variables;

/// Least memory that the daemon accepts, bytes.
pub const LEAST_MEMORY: u64 = 6 << 20;
/// Output cap where the output is collected in memory, bytes.
pub const COLLECTED_OUTPUT: u64 = 1 << 20;

/// One run of one program in one throw-away container.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // Each answers a question of its own.
pub struct Request {
    /// Identifier of the run.
    pub id: String,
    /// Name of the container, known before it exists.
    pub name: String,
    /// What runs.
    pub program: Program,
    /// Image reference.
    pub image: String,
    /// Variables from the caller.
    pub env: BTreeMap<String, String>,
    /// Working directory, if asked for.
    pub workdir: Option<String>,
    /// User, if asked for.
    pub user: Option<String>,
    /// Whether standard input is forwarded.
    pub stdin: bool,
    /// Whether the program gets a terminal.
    pub tty: bool,
    /// Labels from the caller.
    pub labels: BTreeMap<String, String>,
    /// Everything that bounds the run.
    pub limits: Limits,
    /// What it is connected to.
    pub network: Network,
    /// File of authorities for a program that has a network.
    pub ca_file: Option<PathBuf>,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// OCI runtime, or the daemon's default.
    pub runtime: Option<String>,
    /// When the image is pulled.
    pub pull: Pull,
    /// Directory of the caller that the program sees.
    pub workspace: Option<WorkspaceSpec>,
    /// Session to run in; `None` is a container of its own.
    pub session: Option<String>,
    /// Whether a waiting container may be used.
    pub warm: bool,
    /// Requirements to be installed.
    pub requirements: Vec<String>,
    /// Patterns of files to bring back.
    pub artifacts: Vec<String>,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Program text in a known language.
    Language {
        /// How it is run.
        language: Language,
        /// Where the text comes from.
        source: Source,
        /// Arguments of the program.
        args: Vec<String>,
    },
    /// A command of an image, under the rules of `docker run`.
    Image {
        /// Replaces the image's CMD unless empty.
        command: Vec<String>,
    },
}

/// Where program text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `-c`.
    Text(String),
    /// A file of the caller, absolute.
    File(PathBuf),
    /// The caller's standard input.
    Stdin,
}

/// Everything that bounds a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Memory and swap together, bytes.
    pub memory: u64,
    /// Processors, in units of 10⁻⁹.
    pub nano_cpus: i64,
    /// Processes and threads.
    pub pids: i64,
    /// Size of each writable tmpfs, bytes.
    pub tmpfs: u64,
    /// Resource limits; `core=0` unless given.
    pub ulimits: Vec<Ulimit>,
    /// Wall-clock time.
    pub timeout: Duration,
    /// CPU time of all processes.
    pub cpu_time: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Cap for each output stream, bytes.
    pub max_output: Option<u64>,
    /// What passing the cap does.
    pub on_output_limit: OnOutputLimit,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// When the daemon does not have it.
    Missing,
    /// Before every run.
    Always,
    /// Not at all.
    Never,
}

/// How the program sees the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkspaceMode {
    /// Mounted, read only.
    ReadOnly,
    /// Mounted, writable.
    ReadWrite,
    /// A copy that is thrown away.
    Copy,
}

/// A directory of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceSpec {
    /// Absolute path, as typed otherwise.
    pub path: PathBuf,
    /// How it is seen.
    pub mode: WorkspaceMode,
}

/// Checks `typed` and completes it. Reads nothing but its arguments.
pub fn validate(id: &str, typed: &Typed, settings: &ExecSettings, caller: &Caller) -> Result<Request, Rejection> {
    let (program, image) = program(typed, settings, caller)?;
    if typed.tty && !caller.terminal {
        return Err(Rejection::new("--tty", "", "standard input is not a terminal")
            .with_hint("leave -t out, or run from a terminal"));
    }
    if typed.tty && typed.collected {
        return Err(Rejection::new("--tty", "", "a terminal cannot be part of a JSON result")
            .with_hint("leave -t or -o json out"));
    }
    let read_only = match typed.read_only.as_deref() {
        None => true,
        Some(text) => parse::word("--read-only", text, &[("true", true), ("false", false)])?,
    };
    let pull = typed.pull.as_deref().or(settings.pull.as_deref()).unwrap_or("missing");
    let network = network(typed, settings)?;
    // Whom nobody can be reached from, nobody has to be trusted by.
    let ca_file = settings.ca_file.as_ref().filter(|_| !network.is_none()).map(PathBuf::from);
    Ok(Request {
        id: id.to_owned(),
        name: container_name(id, typed.name.as_deref())?,
        program,
        image,
        env: variables::environment(typed, caller)?,
        workdir: typed.workdir.as_deref().map(workdir).transpose()?,
        user: typed.user.as_deref().map(user).transpose()?,
        stdin: typed.stdin,
        tty: typed.tty,
        labels: variables::labels(&typed.labels)?,
        limits: limits(typed, settings)?,
        network,
        ca_file,
        read_only,
        runtime: typed.runtime.clone().or_else(|| settings.runtime.clone()),
        pull: parse::word(
            "--pull",
            pull,
            &[("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)],
        )?,
        workspace: typed.workspace.as_deref().map(|text| workspace(text, caller)).transpose()?,
        session: None,
        warm: false,
        requirements: Vec::new(),
        artifacts: Vec::new(),
    })
}

fn program(typed: &Typed, settings: &ExecSettings, caller: &Caller) -> Result<(Program, String), Rejection> {
    let Some(name) = typed.language.as_deref() else {
        return image_program(typed);
    };
    if let Some(image) = &typed.image {
        return Err(Rejection::new("--image", image, format!("given together with language {name:?}"))
            .with_hint("write --image REF -- CMD…, or a language without --image"));
    }
    let language = language::find(name, &settings.languages)?;
    let source = match (typed.code.as_ref(), typed.file.as_deref()) {
        (Some(_), Some(file)) => {
            return Err(Rejection::new("FILE", file, "given together with -c")
                .with_hint("give one program: FILE, - or -c CODE; arguments of the program follow --"));
        }
        (Some(code), None) => Source::Text(code.clone()),
        (None, Some("-")) if typed.stdin => {
            return Err(Rejection::new("--stdin", "", "standard input already is the program (-)")
                .with_hint("give the program by -c or as a file to forward standard input"));
        }
        (None, Some("-")) => Source::Stdin,
        (None, Some(file)) => Source::File(caller.cwd.join(file)),
        (None, None) => {
            return Err(Rejection::new("LANGUAGE", name, "there is no program to run")
                .with_hint("give a FILE, - for standard input, or -c CODE"));
        }
    };
    if typed.version.is_some() && !language.image.contains("{version}") {
        let version = typed.version.clone().unwrap_or_default();
        return Err(Rejection::new("--language-version", version, format!("the image of {name} has no version"))
            .with_hint("leave it out, or choose an image with --image"));
    }
    let image = language.image_for(typed.version.as_deref());
    let args = typed.args.clone();
    Ok((Program::Language { language, source, args }, image_reference("--language-version", &image)?))
}

fn image_program(typed: &Typed) -> Result<(Program, String), Rejection> {
    let Some(image) = &typed.image else {
        return Err(Rejection::new("LANGUAGE", "", "nothing to run")
            .with_hint("write dindctl exec python -c 'print(1)', or --image REF -- CMD…"));
    };
    for (option, value) in [("--code", &typed.code), ("--language-version", &typed.version)] {
        if let Some(value) = value {
            return Err(Rejection::new(option, value, "needs a language, and --image has none")
                .with_hint("write the command after --"));
        }
    }
    let command = typed.args.clone();
    Ok((Program::Image { command }, image_reference("--image", image)?))
}

fn image_reference(option: &str, image: &str) -> Result<String, Rejection> {
    // Only what would change the request to the daemon; the daemon itself judges the rest.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if image.is_empty() || image.starts_with(['-', '/', ':']) || !image.chars().all(plain) {
        return Err(
            Rejection::new(option, image, "is not an image reference").with_hint("write NAME[:TAG] or NAME@sha256:…")
        );
    }
    Ok(image.to_owned())
}

fn container_name(id: &str, typed: Option<&str>) -> Result<String, Rejection> {
    let Some(name) = typed else {
        return Ok(format!("dindctl-{id}"));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
        return Err(Rejection::new("--name", name, "is not a container name")
            .with_hint("use letters, digits, _ . and -, at least two"));
    }
    Ok(name.to_owned())
}

/// Checks a working directory. Anything below /proc can be a door out of the container (CVE-2024-21626).
pub fn workdir(path: &str) -> Result<String, Rejection> {
    let refuse =
        |why: &str| Rejection::new("--workdir", path, why).with_hint("give an absolute path inside the container");
    if !path.starts_with('/') {
        return Err(refuse("is not absolute"));
    }
    if Path::new(path).components().any(|part| part.as_os_str() == "..") {
        return Err(refuse("contains .."));
    }
    let clean: PathBuf = Path::new(path).components().collect();
    if clean.starts_with("/proc") {
        return Err(refuse("lies under /proc"));
    }
    Ok(clean.to_string_lossy().into_owned())
}

fn user(text: &str) -> Result<String, Rejection> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-$".contains(c))
    };
    if text.splitn(2, ':').all(plain) {
        return Ok(text.to_owned());
    }
    Err(Rejection::new("--user", text, "is not a user").with_hint("write USER[:GROUP], names or numbers"))
}

/// What is open is part of the configuration, whatever the network; on the command line it belongs to `egress`.
fn network(typed: &Typed, settings: &ExecSettings) -> Result<Network, Rejection> {
    let name = typed.network.as_deref().or(settings.network.as_deref()).unwrap_or("none");
    if let Some(first) = typed.egress_allow.first().filter(|_| name != "egress") {
        return Err(Rejection::new("--egress-allow", first, format!("does nothing with --network {name}"))
            .with_hint("add --network egress, or leave it out"));
    }
    let allow = if typed.egress_allow.is_empty() { &settings.egress_allow } else { &typed.egress_allow };
    Network::read(name, allow)
}

fn workspace(text: &str, caller: &Caller) -> Result<WorkspaceSpec, Rejection> {
    let modes = [("ro", WorkspaceMode::ReadOnly), ("rw", WorkspaceMode::ReadWrite), ("copy", WorkspaceMode::Copy)];
    let known = |mode: &str| modes.iter().find(|(name, _)| *name == mode).map(|(_, mode)| *mode);
    let (path, mode) = match text.rsplit_once(':') {
        Some((path, word)) if known(word).is_some() => (path, known(word).unwrap_or(WorkspaceMode::ReadOnly)),
        Some((_, word)) if !word.contains('/') => {
            return Err(Rejection::new("--workspace", text, format!("{word:?} is not a mode"))
                .with_hint("write DIR, DIR:ro, DIR:rw or DIR:copy"));
        }
        _ => (text, WorkspaceMode::ReadOnly),
    };
    if path.is_empty() {
        return Err(Rejection::new("--workspace", text, "has no directory").with_hint("write DIR[:ro|rw|copy]"));
    }
    Ok(WorkspaceSpec { path: caller.cwd.join(path), mode })
}

fn limits(typed: &Typed, settings: &ExecSettings) -> Result<Limits, Rejection> {
    let pick = |own: &Option<String>, configured: &Option<String>, otherwise: &str| {
        own.clone().or_else(|| configured.clone()).unwrap_or_else(|| otherwise.to_owned())
    };
    let memory_text = pick(&typed.memory, &settings.memory, "512m");
    let memory = parse::size("--memory", &memory_text)?;
    if memory < LEAST_MEMORY {
        return Err(Rejection::new("--memory", memory_text, "is below the daemon's minimum of 6m")
            .with_hint("give at least 6m"));
    }
    let tmpfs_text = pick(&typed.tmpfs_size, &settings.tmpfs_size, "64m");
    let tmpfs = parse::size("--tmpfs-size", &tmpfs_text)?;
    if tmpfs < 64 << 10 {
        return Err(
            Rejection::new("--tmpfs-size", tmpfs_text, "is below 64k").with_hint("give at least 64k, for example 64m")
        );
    }
    let mut ulimits = typed.ulimits.iter().map(|text| parse::ulimit(text)).collect::<Result<Vec<_>, _>>()?;
    if !ulimits.iter().any(|limit| limit.name == "core") {
        ulimits.push(Ulimit { name: "core".to_owned(), soft: 0, hard: 0 });
    }
    let on_output_limit = match typed.on_output_limit.as_deref() {
        None => OnOutputLimit::Truncate,
        Some(text) => parse::word(
            "--on-output-limit",
            text,
            &[("truncate", OnOutputLimit::Truncate), ("kill", OnOutputLimit::Kill)],
        )?,
    };
    let needs_cap = typed.collected || on_output_limit == OnOutputLimit::Kill;
    let max_output = match typed.max_output.as_deref().or(settings.max_output.as_deref()) {
        Some(text) => Some(parse::size("--max-output", text)?),
        None => needs_cap.then_some(COLLECTED_OUTPUT),
    };
    Ok(Limits {
        memory,
        nano_cpus: parse::cpus(&pick(&typed.cpus, &settings.cpus, "1"))?,
        // Below three there is no room for the agent and a program with one child.
        pids: parse::count("--pids-limit", &pick(&typed.pids_limit, &settings.pids_limit, "128"), 3, 4_194_304)?,
        tmpfs,
        ulimits,
        timeout: parse::duration("--timeout", &pick(&typed.timeout, &settings.timeout, "30s"))?,
        cpu_time: typed.cpu_time.as_deref().map(|text| parse::duration("--cpu-time", text)).transpose()?,
        grace: parse::duration_or_zero("--grace", &pick(&typed.grace, &settings.grace, "0"))?,
        max_output,
        on_output_limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn ask(change: impl FnOnce(&mut Typed)) -> Result<Request, Rejection> {
        let mut typed = Typed { language: Some("python".into()), code: Some("1".into()), ..Typed::default() };
        change(&mut typed);
        let caller = Caller { cwd: "/here".into(), ..Caller::default() };
        validate("abc", &typed, &ExecSettings::default(), &caller)
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let request = ask(|_| ()).unwrap();
        assert_eq!(request.name, "dindctl-abc");
        assert_eq!(request.image, "python:3.13-slim");
        assert_eq!(request.network, Network::Named("none".into()));
        assert!(request.read_only && !request.stdin && !request.tty);
        assert_eq!(request.limits.memory, 512 << 20);
        assert_eq!(request.limits.nano_cpus, 1_000_000_000);
        assert_eq!(request.limits.pids, 128);
        assert_eq!(request.limits.tmpfs, 64 << 20);
        assert_eq!(request.limits.timeout, Duration::from_secs(30));
        assert_eq!(request.limits.max_output, None);
        assert_eq!(request.limits.ulimits, [Ulimit { name: "core".into(), soft: 0, hard: 0 }]);
    }

    #[test]
    fn collected_output_has_a_cap() {
        assert_eq!(ask(|t| t.collected = true).unwrap().limits.max_output, Some(COLLECTED_OUTPUT));
        assert_eq!(ask(|t| t.on_output_limit = Some("kill".into())).unwrap().limits.max_output, Some(COLLECTED_OUTPUT));
    }

    #[test]
    fn option_goes_before_configuration() {
        let settings =
            ExecSettings { memory: Some("1g".into()), pids_limit: Some("9".into()), ..ExecSettings::default() };
        let typed = Typed {
            language: Some("sh".into()),
            code: Some(":".into()),
            memory: Some("64m".into()),
            ..Typed::default()
        };
        let request = validate("a", &typed, &settings, &Caller::default()).unwrap();
        assert_eq!((request.limits.memory, request.limits.pids), (64 << 20, 9));
    }

    #[rstest]
    #[case::language(|t: &mut Typed| t.language = Some("pyton".into()), "LANGUAGE")]
    #[case::nothing(|t: &mut Typed| { t.language = None; t.code = None; }, "LANGUAGE")]
    #[case::no_program(|t: &mut Typed| t.code = None, "LANGUAGE")]
    #[case::two_programs(|t: &mut Typed| t.file = Some("a.py".into()), "FILE")]
    #[case::image_and_language(|t: &mut Typed| t.image = Some("alpine".into()), "--image")]
    #[case::code_for_image(|t: &mut Typed| { t.language = None; t.image = Some("a".into()); }, "--code")]
    #[case::image(|t: &mut Typed| { t.language = None; t.code = None; t.image = Some("a b".into()); }, "--image")]
    #[case::version_injects(|t: &mut Typed| t.version = Some("3 x".into()), "--language-version")]
    #[case::version_of_sh(|t: &mut Typed| { t.language = Some("sh".into()); t.version = Some("5".into()); }, "--language-version")]
    #[case::stdin_twice(|t: &mut Typed| { t.code = None; t.file = Some("-".into()); t.stdin = true; }, "--stdin")]
    #[case::memory(|t: &mut Typed| t.memory = Some("12q".into()), "--memory")]
    #[case::little_memory(|t: &mut Typed| t.memory = Some("5m".into()), "--memory")]
    #[case::cpus(|t: &mut Typed| t.cpus = Some("0".into()), "--cpus")]
    #[case::pids(|t: &mut Typed| t.pids_limit = Some("0".into()), "--pids-limit")]
    #[case::tmpfs(|t: &mut Typed| t.tmpfs_size = Some("1k".into()), "--tmpfs-size")]
    #[case::timeout(|t: &mut Typed| t.timeout = Some("0".into()), "--timeout")]
    #[case::cpu_time(|t: &mut Typed| t.cpu_time = Some("x".into()), "--cpu-time")]
    #[case::grace(|t: &mut Typed| t.grace = Some("-1s".into()), "--grace")]
    #[case::max_output(|t: &mut Typed| t.max_output = Some("lots".into()), "--max-output")]
    #[case::on_limit(|t: &mut Typed| t.on_output_limit = Some("drop".into()), "--on-output-limit")]
    #[case::read_only(|t: &mut Typed| t.read_only = Some("yes".into()), "--read-only")]
    #[case::pull(|t: &mut Typed| t.pull = Some("maybe".into()), "--pull")]
    #[case::host(|t: &mut Typed| t.network = Some("host".into()), "--network")]
    #[case::unfiltered(|t: &mut Typed| t.network = Some("dindctl-egress".into()), "--network")]
    #[case::allow_alone(|t: &mut Typed| t.egress_allow = vec!["10.0.0.0/8".into()], "--egress-allow")]
    #[case::allow_word(|t: &mut Typed| { t.network = Some("egress".into()); t.egress_allow = vec!["x".into()] }, "--egress-allow")]
    #[case::joined(|t: &mut Typed| t.network = Some("container:x".into()), "--network")]
    #[case::proc(|t: &mut Typed| t.workdir = Some("/proc/self/fd/8".into()), "--workdir")]
    #[case::dots(|t: &mut Typed| t.workdir = Some("/tmp/../proc/self".into()), "--workdir")]
    #[case::slashes(|t: &mut Typed| t.workdir = Some("//proc/1".into()), "--workdir")]
    #[case::relative(|t: &mut Typed| t.workdir = Some("a".into()), "--workdir")]
    #[case::user(|t: &mut Typed| t.user = Some("a b".into()), "--user")]
    #[case::no_user(|t: &mut Typed| t.user = Some(":5".into()), "--user")]
    #[case::name(|t: &mut Typed| t.name = Some("-x".into()), "--name")]
    #[case::label(|t: &mut Typed| t.labels = vec!["io.dindctl.owner=me".into()], "--label")]
    #[case::env(|t: &mut Typed| t.env = vec!["=1".into()], "--env")]
    #[case::ulimit(|t: &mut Typed| t.ulimits = vec!["x=1".into()], "--ulimit")]
    #[case::workspace_mode(|t: &mut Typed| t.workspace = Some("d:rx".into()), "--workspace")]
    #[case::tty(|t: &mut Typed| t.tty = true, "--tty")]
    fn refused(#[case] change: fn(&mut Typed), #[case] option: &str) {
        let rejection = ask(change).unwrap_err();
        let text = rejection.to_string();
        assert!(text.starts_with(&format!("{option} ")), "{text}");
        assert!(!text.contains('\n') && rejection.hint().is_some(), "{text}");
    }

    #[rstest]
    #[case("d", "/here/d", WorkspaceMode::ReadOnly)]
    #[case("/abs:rw", "/abs", WorkspaceMode::ReadWrite)]
    #[case("a:b/c", "/here/a:b/c", WorkspaceMode::ReadOnly)]
    #[case("d:copy", "/here/d", WorkspaceMode::Copy)]
    fn workspaces(#[case] text: &str, #[case] path: &str, #[case] mode: WorkspaceMode) {
        let spec = ask(|t| t.workspace = Some(text.into())).unwrap().workspace.unwrap();
        assert_eq!((spec.path.to_str().unwrap(), spec.mode), (path, mode));
    }

    #[test]
    fn image_runs_its_own_command() {
        let request = ask(|t| {
            t.language = None;
            t.code = None;
            t.image = Some("alpine:3.22".into());
            t.args = vec!["ls".into()];
        })
        .unwrap();
        assert_eq!(request.program, Program::Image { command: vec!["ls".into()] });
        assert_eq!(request.image, "alpine:3.22");
    }
}
