//! The docker CLI for tests: containers that go away with the test, whatever becomes of it.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Image with dindctl as PID 1.
pub fn image() -> String {
    std::env::var("DINDCTL_TEST_IMAGE").unwrap_or_else(|_| "dindctl/dind:dev".into())
}

/// Image of an ordinary user with a daemon of its own.
pub fn rootless_image() -> String {
    std::env::var("DINDCTL_TEST_ROOTLESS_IMAGE").unwrap_or_else(|_| "dindctl/dind-rootless:dev".into())
}

/// What a command of the docker CLI said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The result of a command that must have gone well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out.trim().to_owned()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs `docker ARGUMENTS`.
pub fn docker(arguments: &[&str]) -> Said {
    Command::new("docker").args(arguments).stdin(Stdio::null()).output().expect("docker CLI").into()
}

/// The same, for as long as `limit`; `None`: it hung, and its client was killed.
pub fn docker_within(limit: Duration, arguments: &[&str]) -> Option<Said> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("docker CLI");
    let pid = i32::try_from(child.id()).expect("process id");
    let (sender, answer) = std::sync::mpsc::channel();
    // Reads both streams, so that a client that has much to say does not stall.
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    if let Ok(output) = answer.recv_timeout(limit) {
        return Some(output.expect("docker CLI").into());
    }
    // Not reaped yet, or the answer would be there: the number is still its own.
    let _ = dindctl::sys::signal::send(pid, libc::SIGKILL);
    None
}

/// A name that no other test of any run has.
pub fn fresh_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("dindctl-test-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A volume that goes with the test, named before the containers that use it, so that it goes after them.
pub struct Volume(pub String);

impl Volume {
    pub fn new(what: &str) -> Self {
        let name = fresh_name(what);
        docker(&["volume", "create", "--label", "dindctl.test=1", &name]).ok();
        Self(name)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = docker(&["volume", "rm", "--force", &self.0]);
    }
}

/// A network that goes with the test, named before the containers in it.
pub struct Network(pub String);

impl Network {
    pub fn new(what: &str, options: &[&str]) -> Self {
        let name = fresh_name(what);
        docker(&[&["network", "create", "--label", "dindctl.test=1"], options, &[&name]].concat()).ok();
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = docker(&["network", "rm", &self.0]);
    }
}

/// A container that is removed with its volumes when the test ends.
pub struct Container {
    pub name: String,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "--force", "--volumes", &self.name]);
    }
}

impl Container {
    /// `docker run --detach OPTIONS IMAGE ARGUMENTS`.
    #[track_caller]
    pub fn start(what: &str, options: &[&str], arguments: &[&str]) -> Self {
        Self::of(&image(), what, options, arguments)
    }

    /// The same with another image.
    #[track_caller]
    pub fn of(image: &str, what: &str, options: &[&str], arguments: &[&str]) -> Self {
        let container = Self { name: fresh_name(what) };
        let run = ["run", "--detach", "--label", "dindctl.test=1", "--name", &container.name];
        docker(&[&run, options, &[image], arguments].concat()).ok();
        container
    }

    /// A privileged one with plain TCP, healthy.
    #[track_caller]
    pub fn dind(what: &str, options: &[&str]) -> Self {
        let container = Self::start(what, &[&["--privileged", "--env", "DOCKER_TLS_CERTDIR="], options].concat(), &[]);
        container.wait_healthy(Duration::from_secs(60));
        container
    }

    /// `docker exec NAME ARGUMENTS`.
    pub fn exec(&self, arguments: &[&str]) -> Said {
        docker(&[&["exec", &self.name], arguments].concat())
    }

    /// A shell line in it.
    pub fn sh(&self, script: &str) -> Said {
        self.exec(&["sh", "-c", script])
    }

    /// Everything it printed.
    pub fn logs(&self) -> String {
        let said = docker(&["logs", &self.name]);
        said.out + &said.err
    }

    /// Address on the engine's bridge.
    pub fn address(&self) -> String {
        docker(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &self.name]).ok()
    }

    #[track_caller]
    pub fn wait_healthy(&self, limit: Duration) {
        let wait = format!("{}s", limit.as_secs());
        let said = self.exec(&["dindctl", "health", "--wait", &wait]);
        assert_eq!(said.code, 0, "{}{}\n{}", said.out, said.err, self.logs());
    }

    /// Waits for its end and gives the exit code.
    #[track_caller]
    pub fn wait(&self, limit: Duration) -> i32 {
        let started = Instant::now();
        loop {
            let state = docker(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &self.name]).ok();
            if let Some(code) = state.strip_prefix("exited ") {
                return code.parse().expect("exit code");
            }
            assert!(started.elapsed() < limit, "still {state} after {limit:?}:\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Gives an image of the outer engine to the daemon inside.
    pub fn load(&self, image: &str) {
        self.load_as(&[], image);
    }

    /// The same with options of `docker exec`.
    pub fn load_as(&self, options: &[&str], image: &str) {
        let mut save =
            Command::new("docker").args(["save", image]).stdout(Stdio::piped()).spawn().expect("docker save");
        let archive = save.stdout.take().expect("piped");
        let line = [&["exec", "-i"], options, &[self.name.as_str(), "docker", "load"]].concat();
        let load = Command::new("docker").args(line).stdin(archive).output();
        assert!(save.wait().expect("docker save").success());
        Said::from(load.expect("docker load")).ok();
    }
}
