//! One supervisor under test: started in a namespace of its own, asked, signalled, and cleaned up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dindctl::init::state::{Phase, ServiceState, SupervisorState};
use dindctl::sys::family::{descendants, processes};
use dindctl::sys::signal::send;
use libtest_mimic::Failed;
use nix::sys::signal::Signal;

use crate::driver::{Config, Report, SUPERVISE, Service};
use crate::support::{ensure, eventually};

pub type Outcome = Result<(), Failed>;

/// A supervisor under test.
pub struct Lab {
    folder: tempfile::TempDir,
    child: Child,
    /// The supervisor's process id as we see it.
    pub init: i32,
}

impl Lab {
    pub fn config(services: Vec<Service>) -> Config {
        let command = services.iter().any(|service| service.name == "command");
        Config {
            folder: PathBuf::new(),
            command,
            ends_with_daemon: false,
            daemon: None,
            stop_timeout_ms: 10_000,
            stop_delay_ms: 0,
            tell_signal: false,
            on_return: None,
            services,
        }
    }

    pub fn services(services: Vec<Service>) -> Result<Self, Failed> {
        Self::start(Self::config(services), |_| {})
    }

    pub fn start(config: Config, adapt: impl FnOnce(&mut Command)) -> Result<Self, Failed> {
        let (folder, path) = Self::written(config)?;
        let own = std::env::current_exe()?;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(own).arg(SUPERVISE).arg(path);
        Self::spawned(folder, command, adapt, true)
    }

    /// The same without a namespace: the supervisor is a subreaper.
    pub fn start_as_subreaper(config: Config) -> Result<Self, Failed> {
        let (folder, path) = Self::written(config)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SUPERVISE).arg(path);
        Self::spawned(folder, command, |_| {}, false)
    }

    /// The same on a terminal of its own; what is written to the child's standard input is typed there.
    pub fn start_on_a_terminal(config: Config) -> Result<Self, Failed> {
        let (folder, path) = Self::written(config)?;
        let own = std::env::current_exe()?;
        let line = format!(
            "exec unshare --pid --fork --kill-child --mount-proc '{}' {SUPERVISE} '{}'",
            own.display(),
            path.display()
        );
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]);
        Self::spawned(
            folder,
            command,
            |command| {
                command.stdin(Stdio::piped());
            },
            false,
        )
    }

    /// Types on the terminal of [`Lab::start_on_a_terminal`].
    pub fn type_keys(&mut self, keys: &[u8]) -> Outcome {
        let terminal = self.child.stdin.as_mut().ok_or("no terminal")?;
        terminal.write_all(keys)?;
        Ok(terminal.flush()?)
    }

    fn written(mut config: Config) -> Result<(tempfile::TempDir, PathBuf), Failed> {
        let folder = tempfile::tempdir()?;
        folder.path().clone_into(&mut config.folder);
        let path = folder.path().join("config.json");
        std::fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok((folder, path))
    }

    fn spawned(
        folder: tempfile::TempDir,
        mut command: Command,
        adapt: impl FnOnce(&mut Command),
        below: bool,
    ) -> Result<Self, Failed> {
        command.stdin(Stdio::null());
        command.stdout(std::fs::File::create(folder.path().join("stdout"))?);
        command.stderr(std::fs::File::create(folder.path().join("stderr"))?);
        adapt(&mut command);
        let child = command.spawn()?;
        let own = i32::try_from(child.id())?;
        let mut lab = Self { folder, child, init: own };
        if below {
            lab.init = first_child(&mut lab.child)?;
        }
        Ok(lab)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    pub fn events(&self) -> Vec<String> {
        self.text("events").lines().map(str::to_owned).collect()
    }

    pub fn service(&self, name: &str) -> Option<ServiceState> {
        let state = SupervisorState::read(&self.path("state.json")).ok()?;
        state.services.into_iter().find(|service| service.name == name)
    }

    pub fn until(&self, name: &str, what: impl Fn(&ServiceState) -> bool) -> Result<ServiceState, Failed> {
        eventually(&format!("a state of {name}"), || self.service(name).filter(&what))
            .map_err(|failed| format!("{:?}\n{}", failed, self.text("stderr")).into())
    }

    pub fn until_ready(&self, name: &str) -> Result<ServiceState, Failed> {
        self.until(name, |service| service.phase == Phase::Ready)
    }

    pub fn until_event(&self, event: &str) -> Outcome {
        eventually(event, || self.events().iter().any(|line| line == event).then_some(()))
            .map_err(|failed| format!("{:?}\n{}", failed, self.text("stderr")).into())
    }

    pub fn signal(&self, signal: Signal) -> Outcome {
        Ok(send(self.init, signal as i32)?)
    }

    /// All processes below the supervisor, as we see them.
    pub fn below(&self) -> Vec<i32> {
        descendants(&processes(Path::new("/proc")), self.init)
    }

    /// Signals a process that the supervisor knows by `inner`.
    pub fn signal_inner(&self, inner: i32, signal: Signal) -> Outcome {
        let outer = self.below().into_iter().find(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("NSpid:")).unwrap_or_default();
            line.split_whitespace().next_back() == Some(&inner.to_string())
        });
        Ok(send(outer.ok_or("no such process in the namespace")?, signal as i32)?)
    }

    pub fn zombies(&self) -> usize {
        let state = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        self.below().iter().filter(|pid| state(pid).contains(") Z ")).count()
    }

    /// Waits for the end; exit code, and what the supervisor reported.
    pub fn end(&mut self) -> Result<Report, Failed> {
        let child = &mut self.child;
        let status = eventually("the end of the supervisor", || child.try_wait().ok().flatten())
            .map_err(|failed| Failed::from(format!("{failed:?}\n{}", self.text("stderr"))))?;
        let text = std::fs::read(self.path("report.json"))
            .map_err(|error| format!("{status:?}, no report: {error}\n{}", self.text("stderr")))?;
        let report: Report = serde_json::from_slice(&text)?;
        ensure(status.code() == Some(i32::from(report.code)), || format!("{status:?} is not {report:?}"))?;
        Ok(report)
    }

    pub fn stop(&mut self) -> Result<(Report, Duration), Failed> {
        let begin = Instant::now();
        self.signal(Signal::SIGTERM)?;
        Ok((self.end()?, begin.elapsed()))
    }

    pub fn expect_code(&mut self, code: u8) -> Result<Report, Failed> {
        let report = self.end()?;
        ensure(report.code == code, || format!("{report:?}, not {code}\n{}", self.text("stderr")))?;
        Ok(report)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The namespace goes with its PID 1 (`unshare --kill-child`).
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// PID 1 of the namespace that `unshare` made, as we see it; 0 when it has ended already.
pub fn first_child(unshare: &mut Child) -> Result<i32, Failed> {
    let own = i32::try_from(unshare.id())?;
    eventually("the first process of the namespace", || {
        let ended = || unshare.try_wait().ok().flatten().map(|_| 0);
        let found = processes(Path::new("/proc")).iter().find(|(_, parent)| *parent == own).map(|(pid, _)| *pid);
        found.or_else(ended)
    })
}
