//! The processes under test: the real supervisor over services that are shell scripts, and a small daemon that
//! speaks the notification protocol.

use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dindctl::init::policy::{Restart, RestartPolicy};
use dindctl::init::say::{Level, Say};
use dindctl::init::signals::catch_supervised;
use dindctl::init::spec::{
    Diagnosis, LogFile, Milestone, Occasion, Output, Readiness, RunMode, ServiceSpec, Sink, StopCode, StopPlan,
    SupervisorConfig, Upkeep, Verdict,
};
use dindctl::init::supervisor::Supervisor;
use dindctl::sys::signal_set::{SignalSet, block, take};
use dindctl::sys::spawn::{Session, Spawn, Stdio};
use dindctl::sys::wait::Exit;
use nix::libc;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// First argument that makes the test program one of the processes under test.
pub const SUPERVISE: &str = "--as-supervisor";
/// First argument that makes it print the number of every signal that it gets.
pub const READER: &str = "--as-signal-reader";
/// The same for the small daemon.
pub const DAEMON: &str = "--as-daemon";

#[derive(Serialize, Deserialize, Clone)]
pub struct Service {
    pub name: String,
    /// Run by `sh -c`, unless it begins with `/`: then it is a program without arguments.
    pub script: String,
    pub restart: String,
    pub notify: bool,
    pub after: Vec<(String, bool)>,
    pub inherit: bool,
    pub log_file: Option<PathBuf>,
    pub limit_ms: Option<u64>,
    pub reload: bool,
}

impl Service {
    pub fn daemon(name: &str, script: &str) -> Self {
        Self {
            name: name.into(),
            script: script.into(),
            restart: "always".into(),
            notify: false,
            after: vec![],
            inherit: false,
            log_file: None,
            limit_ms: None,
            reload: false,
        }
    }

    pub fn command(script: &str) -> Self {
        Self { restart: "never".into(), inherit: true, ..Self::daemon("command", script) }
    }

    pub fn notify(self) -> Self {
        Self { notify: true, ..self }
    }

    pub fn after_ready(mut self, other: &str) -> Self {
        self.after.push((other.into(), true));
        self
    }

    pub fn after_start(mut self, other: &str) -> Self {
        self.after.push((other.into(), false));
        self
    }

    fn spec(&self, folder: &Path) -> ServiceSpec {
        let program = self.script.starts_with('/');
        let spawn = Spawn {
            program: if program { self.script.clone().into() } else { "/bin/sh".into() },
            argv: if program {
                vec![self.script.clone().into()]
            } else {
                vec!["sh".into(), "-c".into(), self.script.clone().into()]
            },
            env: vec![
                ("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()),
                ("DIR".into(), folder.into()),
                ("SELF".into(), std::env::current_exe().unwrap().into()),
                ("NOTIFY_SOCKET".into(), "/leaked".into()),
            ],
            session: if self.inherit { Session::Foreground } else { Session::New },
            stdio: [if self.inherit { Stdio::Inherit } else { Stdio::Null }, Stdio::Inherit, Stdio::Inherit],
            ..Spawn::default()
        };
        let restart = match self.restart.as_str() {
            "always" => Restart::Always,
            "on-failure" => Restart::OnFailure,
            _ => Restart::Never,
        };
        ServiceSpec {
            name: self.name.clone(),
            spawn,
            restart: RestartPolicy { first_delay: Duration::from_millis(20), ..RestartPolicy::new(restart) },
            readiness: if self.notify { Readiness::Notify } else { Readiness::Started },
            notices_from_below: false,
            after: self
                .after
                .iter()
                .map(|(service, ready)| dindctl::init::spec::After {
                    service: service.clone(),
                    milestone: if *ready { Milestone::Ready } else { Milestone::Started },
                })
                .collect(),
            output: if self.inherit {
                Output::Inherit
            } else {
                let file = self.log_file.clone().map(|path| LogFile { path, max_size: 1000, keep: 2 });
                Output::Pump { sink: Sink::Stderr, file }
            },
            stop: StopPlan {
                limit: self.limit_ms.map(Duration::from_millis),
                reload_signal: self.reload.then_some(Signal::SIGHUP),
                reload_line: self.reload.then(|| "Reloaded configuration".to_owned()),
                prepare: self.reload.then(|| {
                    let log = folder.join("events");
                    Box::new(move || append(&log, "prepare")) as Box<dyn FnMut() -> Result<(), String>>
                }),
                ..StopPlan::default()
            },
        }
    }
}

#[derive(Serialize, Deserialize, Clone)]
pub struct Config {
    pub folder: PathBuf,
    pub command: bool,
    pub ends_with_daemon: bool,
    pub daemon: Option<String>,
    pub stop_timeout_ms: u64,
    #[serde(default)]
    pub stop_delay_ms: u64,
    /// Whether the end tells the signal that asked for it.
    #[serde(default)]
    pub tell_signal: bool,
    /// Work for when a service has come back: its name, a script, and who is started anew where that ends with 3.
    #[serde(default)]
    pub on_return: Option<[String; 3]>,
    pub services: Vec<Service>,
}

/// What the supervisor answered, for the test to read.
#[derive(Serialize, Deserialize, Debug)]
pub struct Report {
    pub code: u8,
    pub reason: String,
    pub killed: Vec<String>,
    pub orphans: u64,
}

/// Plays the part that the arguments ask for.
pub fn run_if_asked() -> Option<i32> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(SUPERVISE) => Some(supervise(Path::new(&arguments[2]))),
        Some(READER) => Some(reader()),
        Some(DAEMON) => Some(daemon(&arguments[2])),
        _ => None,
    }
}

fn supervise(path: &Path) -> i32 {
    let signals = catch_supervised().unwrap();
    let config: Config = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let folder = config.folder.clone();
    let services = config.services.iter().map(|service| service.spec(&folder)).collect();
    let mode = if config.command { RunMode::Command("command".into()) } else { RunMode::Daemon };
    let mut told = SupervisorConfig::new(mode, services);
    told.runtime_dir = folder.join("run");
    told.state_path = Some(folder.join("state.json"));
    told.control_path = Some(folder.join("control.sock"));
    told.daemon = config.daemon;
    told.command_outlives_daemon = !config.ends_with_daemon;
    told.stop_timeout = Duration::from_millis(config.stop_timeout_ms);
    told.stop_delay = Duration::from_millis(config.stop_delay_ms);
    told.stop_code = if config.tell_signal { StopCode::Signal } else { StopCode::Zero };
    told.upkeep
        .extend(config.on_return.map(|[service, script, renewed]| on_return(&folder, service, &script, renewed)));
    let log = folder.join("events");
    told.reload_hook = Some(Box::new(move || append(&log, "reload-hook")));
    told.diagnose = Some(Box::new(|_, lines| {
        let permanent = lines.iter().any(|line| line.contains("no privilege"));
        let known = permanent || lines.iter().any(|line| line.contains("no space left"));
        known.then(|| Diagnosis { cause: "known cause".into(), hint: "known hint".into(), permanent })
    }));
    let say = Say { level: Level::Debug, ..Say::default() };
    let report = Supervisor::new(told, signals, say).unwrap().run();
    let report = Report {
        code: report.code,
        reason: format!("{:?}", report.reason),
        killed: report.killed,
        orphans: report.orphans,
    };
    std::fs::write(folder.join("report.json"), serde_json::to_vec(&report).unwrap()).unwrap();
    i32::from(report.code)
}

fn on_return(folder: &Path, service: String, script: &str, renewed: String) -> Upkeep {
    let spawn = Spawn {
        program: "/bin/sh".into(),
        argv: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()), ("DIR".into(), folder.into())],
        ..Spawn::default()
    };
    let judge = move |exit| match exit {
        Exit::Code(0) => Verdict::Done,
        Exit::Code(3) => Verdict::StartAnew(renewed.clone()),
        _ => Verdict::Failed,
    };
    Upkeep { name: "test of the work", occasion: Occasion::Return(vec![service]), spawn, judge: Box::new(judge) }
}

/// Says `ready`, then the number of each signal as it is taken from the queue; `SIGUSR2` is the last, with code 12.
fn reader() -> i32 {
    block(SignalSet::ALL).unwrap();
    println!("ready");
    loop {
        let taken = take(SignalSet::ALL).unwrap();
        println!("{}", taken.number);
        if taken.number == libc::SIGUSR2 {
            return libc::SIGUSR2;
        }
    }
}

/// A daemon that is ready at once and appends each signal it gets to `events`, under its name.
fn daemon(name: &str) -> i32 {
    let mut signals = catch_supervised().unwrap();
    let log = PathBuf::from(std::env::var_os("DIR").unwrap()).join("events");
    notify("READY=1");
    loop {
        let fds = [std::os::fd::AsFd::as_fd(&signals)];
        dindctl::init::event_loop::wait(&fds, &[], None).unwrap();
        for number in signals.drain() {
            append(&log, &format!("{name} {}", dindctl::sys::wait::signal_name(number))).unwrap();
            match number {
                libc::SIGHUP => {
                    notify("RELOADING=1\nMONOTONIC_USEC=1");
                    std::thread::sleep(Duration::from_millis(100));
                    append(&log, &format!("{name} reloaded")).unwrap();
                    notify("READY=1");
                }
                libc::SIGTERM => {
                    notify("STOPPING=1");
                    return 0;
                }
                _ => {}
            }
        }
    }
}

fn notify(text: &str) {
    let address = std::env::var("NOTIFY_SOCKET").unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    match address.strip_prefix('@') {
        Some(name) => socket.send_to_addr(text.as_bytes(), &SocketAddr::from_abstract_name(name).unwrap()).unwrap(),
        None => socket.send_to(text.as_bytes(), address).unwrap(),
    };
}

fn append(path: &Path, line: &str) -> Result<(), String> {
    let mut file =
        std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(|error| error.to_string())?;
    writeln!(file, "{line}").map_err(|error| error.to_string())
}
