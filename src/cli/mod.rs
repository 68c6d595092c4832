/*!
One file for each command: arguments as typed become a validated request; the result is printed. Nothing else.

Exit codes of the commands that are no daemon: 0 done, 1 the answer is no (`health`, `doctor`), 125 usage or
configuration error, 126 and 127 as shells have them. `exec` and `entrypoint` document their own.
*/
pub mod agent;
pub mod archive;
pub mod backup;
pub mod certificates;
pub mod clean;
pub mod config;
pub mod config_show;
pub mod daemon;
pub mod docker_cli;
pub mod doctor;
pub mod entrypoint;
pub mod environment;
pub mod exec;
pub mod failure;
pub mod gc;
pub mod health;
pub mod init;
pub mod leavings;
pub mod missed;
pub mod modprobe;
pub mod places;
mod plain;
pub mod preload;
pub mod preparation;
pub mod redact;
pub mod render;
pub mod restore;
pub mod say;
pub mod selftest;
pub mod stats;
pub mod status;
pub mod up;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use environment::Environment;

use self::config::Config;
use self::daemon::Launch;
use self::failure::Failure;
use self::say::{Level, Voice};

/// Version and commit, as `--version` says them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("DINDCTL_COMMIT"), ")");

/// Exit code of a usage, configuration or daemon error.
pub const FAILED: u8 = 125;

/// Form of a result on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// PID 1 of Docker-in-Docker containers, and a safe, fast runner of untrusted code.
#[derive(Debug, Parser)]
#[command(name = "dindctl", version = VERSION, max_term_width = 100)]
struct Cli {
    /// Form of dindctl's own lines on stderr: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Least important lines shown: error, warn, info or debug
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Time for an orderly stop of everything before SIGKILL [default: 35s]
    #[arg(long, value_name = "DURATION")]
    stop_timeout: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// Flags of ours that take a value and may stand before the command.
const LEADING: [&str; 3] = ["--log-format", "--log-level", "--stop-timeout"];

/// Commands whose words all belong to another program, even those that look like flags of ours: dockerd has a
/// `--log-level` too.
const FOREIGN: [&str; 3] = ["entrypoint", "docker-entrypoint", "modprobe"];

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare the container and keep a Docker daemon alive in it (drop-in for dockerd-entrypoint.sh)
    Entrypoint(entrypoint::EntrypointArgs),
    /// Keep a daemon alive beside a command; the container lives as long as the command
    Up(up::UpArgs),
    /// Prepare the container, then become the command (drop-in for dind)
    Prepare(preparation::PrepareArgs),
    /// Show what the preparation would do here, and why
    Plan(preparation::PlanArgs),
    /// Tell what is wrong here, and how to mend it
    Doctor(doctor::DoctorArgs),
    /// Only PID 1 duty: start the command, pass signals on, reap (drop-in for docker-init)
    Init(init::InitArgs),
    /// Run what the official CLI image's entrypoint would run
    #[command(name = "docker-entrypoint", hide = true)]
    DockerEntrypoint {
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Have the kernel load modules without a module file at hand (drop-in for modprobe)
    #[command(hide = true)]
    Modprobe {
        /// What modprobe would be given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Exit 0 when the daemon is healthy, 1 when it is not
    Health(health::HealthArgs),
    /// Tell how the supervised programs are, and what they have been through
    Status(status::StatusArgs),
    /// Run code in a throw-away container
    #[command(visible_alias = "run")]
    Exec(Box<exec::ExecArgs>),
    /// Remove what killed or crashed runs left behind
    Gc(gc::GcArgs),
    /// Remove what is in nobody's use: stopped containers, images, networks, build cache, volumes
    Clean(clean::CleanArgs),
    /// Show what this container and the containers in it use
    Stats(stats::StatsArgs),
    /// Start containers with limits, and measure what they really get
    Selftest(selftest::SelftestArgs),
    /// Load archives of images into the daemon, each once
    Preload(preload::PreloadArgs),
    /// Write a folder into one archive that knows whether it is whole
    Backup(backup::BackupArgs),
    /// Put such an archive back: all of it or nothing
    Restore(restore::RestoreArgs),
    /// Make or renew the certificates of the API below `DOCKER_TLS_CERTDIR`
    Certificates(certificates::CertificatesArgs),
    /// Run the hooks of a folder, then become a command
    #[command(hide = true)]
    Hooks(up::hooks::HooksArgs),
    /// Tell whether the daemon believes in containers that have ended
    #[command(hide = true)]
    Missed,
    /// Remove the empty control groups of containers that the daemon has forgotten
    #[command(hide = true)]
    Leavings,
    /// Take secrets out of what goes to somebody else (`scripts/diagnostics`)
    #[command(hide = true)]
    Redact(redact::RedactArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config_show::ConfigCommand),
}

/// Runs the program with the given `argv` and returns its exit code.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let code = dispatch(argv, &Environment::of_process());
    for failure in crate::sys::beside::settle() {
        Voice::default().say(Level::Warn, &failure);
    }
    ExitCode::from(code)
}

fn dispatch(argv: Vec<OsString>, environment: &Environment) -> u8 {
    let started = Instant::now();
    // A load is alone in its container.
    if let [_, command, words @ ..] = argv.as_slice()
        && command == crate::selftest::load::COMMAND
    {
        return crate::selftest::load::main(words);
    }
    // The agent lives inside an image of somebody else: no configuration, no name of the program that means something.
    if let [_, command, words @ ..] = argv.as_slice()
        && command == crate::exec::container::AGENT_COMMAND
    {
        return agent::main(words);
    }
    // An init may stand in an image of somebody else as well.
    if let [name, words @ ..] = argv.as_slice()
        && let Some(dialect) = init::Dialect::of_name(name)
    {
        return dialect.run(name, words, environment);
    }
    if let [name, words @ ..] = argv.as_slice()
        && Path::new(name).file_name().is_some_and(|name| name == daemon::RUNC)
    {
        return daemon::run_step(words, environment);
    }
    let argv = translate(argv);
    match argv.get(1..).unwrap_or_default() {
        [command, only] if command == "init" && only == "--version" => {
            say::result(init::TINI_VERSION);
            return 0;
        }
        [command, ..] if command == "init" => return init::run_typed(&argv, environment),
        _ => {}
    }
    let plain = plain::command(&argv);
    let argv = protect(argv);
    // Docker's health check knows 0 and 1 only.
    let failed = if argv.get(1).is_some_and(|word| word == "health") { 1 } else { FAILED };
    let typed = match plain {
        Some(command) => Ok(Cli { log_format: None, log_level: None, stop_timeout: None, command }),
        None => Cli::try_parse_from(&argv),
    };
    // Whoever asks for help may have to be told how to mend the settings.
    if let Err(asked) = &typed
        && matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
    {
        return usage(asked, &argv, failed, Voice::default());
    }
    // What takes secrets out has no settings: it has to work where those are what is wrong.
    let settings = if argv.get(1).is_some_and(|word| word == "redact") {
        Config::from_parts(None, &[])
    } else {
        Config::load(environment.pairs())
    };
    let mut config = match settings {
        Ok(config) => config,
        Err(error) => {
            Voice::default().fail(&error, error.hint().as_deref());
            return failed;
        }
    };
    let cli = match typed {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &argv, failed, Voice::new(&config)),
    };
    let flags = [
        ("log.format", "--log-format", &cli.log_format),
        ("log.level", "--log-level", &cli.log_level),
        ("daemon.stop_timeout", "--stop-timeout", &cli.stop_timeout),
    ];
    for (name, flag, value) in flags {
        if let Err(error) = config.flag(name, flag, value.as_deref()) {
            Voice::new(&config).fail(&error, error.hint().as_deref());
            return failed;
        }
    }
    let voice = Voice::new(&config);
    for warning in &config.warnings {
        voice.say(Level::Warn, warning);
    }
    run(cli.command, environment, &config, voice, started)
}

fn run(command: Command, environment: &Environment, config: &Config, voice: Voice, started: Instant) -> u8 {
    let launch = || Launch { environment: environment.clone(), config, voice, started };
    match command {
        Command::Entrypoint(arguments) => entrypoint::run_entrypoint(arguments, launch()),
        Command::Up(arguments) => up::run_up(arguments, launch()),
        Command::Prepare(arguments) => preparation::run_prepare(arguments, environment, config, voice),
        Command::Init(arguments) => init::run(arguments, voice),
        Command::Plan(arguments) => preparation::run_plan(arguments, &launch()),
        Command::Doctor(arguments) => doctor::run(arguments, &launch()),
        Command::DockerEntrypoint { arguments } => docker_cli::run(arguments, environment, voice),
        Command::Status(arguments) => status::run(&arguments, environment, voice),
        Command::Modprobe { arguments } => modprobe::run(arguments, environment, voice),
        Command::Health(arguments) => health::run(&arguments, environment, voice),
        Command::Exec(arguments) => match config.exec_settings() {
            Ok(settings) => exec::run(*arguments, &settings, voice),
            Err(error) => Failure::from(error).report(voice),
        },
        Command::Gc(arguments) => gc::run(&arguments, voice),
        Command::Clean(arguments) => clean::run(&arguments, environment, voice),
        Command::Stats(arguments) => stats::run(arguments, environment, voice),
        Command::Selftest(arguments) => selftest::run(&arguments, voice),
        Command::Preload(arguments) => preload::run(&arguments, environment, config, voice),
        Command::Backup(arguments) => backup::run(&arguments, environment, voice),
        Command::Restore(arguments) => restore::run(&arguments, environment, voice),
        Command::Hooks(arguments) => up::hooks::run(arguments, environment, voice),
        Command::Missed => missed::run(voice),
        Command::Leavings => leavings::run(voice),
        Command::Certificates(arguments) => certificates::run(&arguments, environment, config, voice),
        Command::Redact(arguments) => redact::run(&arguments, voice),
        Command::Config(command) => config_show::run(&command, config),
    }
}

/// The name the program was called by chooses the dialect.
fn translate(argv: Vec<OsString>) -> Vec<OsString> {
    let name = argv.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_owned()).unwrap_or_default();
    let words: &[&str] = match name.to_str() {
        Some("dockerd-entrypoint.sh") => &["dindctl", "entrypoint"],
        Some("docker-entrypoint.sh") => &["dindctl", "docker-entrypoint"],
        Some("dind") => &["dindctl", "prepare"],
        Some("modprobe") => &["dindctl", "modprobe"],
        _ => return argv,
    };
    words.iter().map(OsString::from).chain(argv.into_iter().skip(1)).collect()
}

/// Keeps our own flags from being found among the words of another program.
fn protect(mut argv: Vec<OsString>) -> Vec<OsString> {
    let mut place = 1;
    while let Some(word) = argv.get(place).and_then(|word| word.to_str()) {
        if LEADING.contains(&word) {
            place += 2;
        } else if LEADING.iter().any(|flag| word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))) {
            place += 1;
        } else {
            if FOREIGN.contains(&word) {
                argv.insert(place + 1, "--".into());
            }
            break;
        }
    }
    argv
}

/// Prints help and version as they are, and an error as one line with one hint.
fn usage(error: &clap::Error, argv: &[OsString], failed: u8, voice: Voice) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Help that nobody reads to the end is no failure.
        let _ = error.print();
        return 0;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        if std::io::stderr().is_terminal() {
            let _ = error.print();
        } else {
            voice.fail_with("no command given", Some("`dindctl --help` lists the commands"));
        }
        return failed;
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    // A list of what is missing stands on lines of its own.
    let mut tip = None;
    for line in lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")) {
        if let Some(text) = line.strip_prefix("tip: ") {
            tip = tip.or_else(|| Some(text.to_owned()));
        } else {
            message.push(' ');
            message.push_str(line);
        }
    }
    let known = Cli::command();
    let command = argv.get(1).and_then(|word| word.to_str()).filter(|word| known.find_subcommand(word).is_some());
    let help = command.map_or("dindctl --help".to_owned(), |command| format!("dindctl {command} --help"));
    let hint = tip.map_or_else(|| format!("see `{help}`"), |tip| format!("{tip}; see `{help}`"));
    voice.fail_with(&message, Some(&hint));
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_dockerd_are_not_taken_for_ours() {
        let arguments = |words: &[&str]| {
            let argv = protect(translate(words.iter().map(OsString::from).collect()));
            let cli = Cli::try_parse_from(argv).unwrap();
            let Command::Entrypoint(entrypoint) = cli.command else { panic!("{:?}", cli.command) };
            (cli.log_level, format!("{entrypoint:?}"))
        };
        let (level, rest) = arguments(&["dockerd-entrypoint.sh", "--log-level", "debug"]);
        assert_eq!((level, rest.contains(r#"["--log-level", "debug"]"#)), (None, true), "{rest}");
        let (level, rest) = arguments(&["dindctl", "--log-level=warn", "entrypoint", "--log-level=debug", "--", "x"]);
        assert_eq!(level.as_deref(), Some("warn"));
        assert!(rest.contains(r#"["--log-level=debug", "--", "x"]"#), "{rest}");
    }

    #[test]
    fn the_name_chooses_the_dialect() {
        let translated = |words: &[&str]| translate(words.iter().map(OsString::from).collect());
        assert_eq!(
            translated(&["/usr/local/bin/dockerd-entrypoint.sh", "--debug"]),
            ["dindctl", "entrypoint", "--debug"]
        );
        assert_eq!(translated(&["modprobe", "-va", "ip_vs"]), ["dindctl", "modprobe", "-va", "ip_vs"]);
        assert_eq!(translated(&["dind", "sh"]), ["dindctl", "prepare", "sh"]);
        assert_eq!(translated(&["./dindctl", "health"]), ["./dindctl", "health"]);
    }
}
