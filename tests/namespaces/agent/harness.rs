//! A real agent as PID 1 of a PID namespace, and this process as its caller.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dindctl::exec::outcome::{Report, Status};
use dindctl::exec::protocol::{Decoder, Job, Kind, STDIN_WINDOW, count_payload, encode};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

/// What a container gives the agent: three capabilities and no way to more.
const LIKE_A_CONTAINER: [&str; 4] =
    ["setpriv", "--bounding-set=-all,+setuid,+setgid,+kill", "--inh-caps=-all", "--no-new-privs"];

/// Nobody's ids, as every sandbox uses them.
pub const NOBODY: u32 = 65534;

/// The program under test, which cargo has built for these tests.
const AGENT: [&str; 2] = [env!("CARGO_BIN_EXE_dindctl"), "agent"];

/// Why these tests cannot run here, if so.
pub fn hindrance() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let mut probe = Command::new("unshare");
        probe.args(["--pid", "--fork", "--mount-proc"]).args(LIKE_A_CONTAINER).arg("true");
        match probe.output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(format!("unshare: {error}")),
        }
    };
    REASON.get_or_init(find).clone()
}

/// A job that runs a shell script as nobody; the fields of `more` replace its own.
pub fn shell(script: &str, more: Value) -> Job {
    command(&["/bin/sh", "-c", script], more)
}

/// A job that runs a program as nobody; the fields of `more` replace its own.
pub fn command(argv: &[&str], more: Value) -> Job {
    let mut job = json!({
        "id": "test",
        "stages": [{"name": "run", "argv": argv}],
        "workdir": "/tmp",
        "run_as": {"ids": {"uid": NOBODY, "gid": NOBODY}},
        "timeout_ms": 20_000,
    });
    let Value::Object(more) = more else { panic!("{more}") };
    job.as_object_mut().unwrap().extend(more);
    serde_json::from_value(job).unwrap()
}

/// Everything the agent said.
#[derive(Debug, Default)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub gaps: Vec<(Kind, u64, usize)>,
    pub started: bool,
    pub report: Option<Report>,
    /// From the start of reading to the report.
    pub took: Duration,
}

impl Outcome {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn status(&self) -> Status {
        self.report().status
    }

    pub fn report(&self) -> &Report {
        self.report.as_ref().expect("a report")
    }

    pub fn problem(&self) -> &str {
        self.report().problem.as_ref().map_or("", |problem| &problem.code)
    }
}

/// The caller's side.
pub struct Agent {
    child: Child,
    pub input: Arc<Mutex<Option<ChildStdin>>>,
    output: ChildStdout,
    decoder: Decoder,
    /// What `StdinTaken` said last.
    pub taken: Arc<AtomicU64>,
    buffer: Vec<u8>,
}

impl Agent {
    /// Starts an agent and waits for its first words.
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// The same with a command in front (which must end in `exec`ing its arguments) and options behind.
    pub fn start_with(front: &[&str], options: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(front);
        command.args(LIKE_A_CONTAINER).args(AGENT).args(options);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/root").env("FROM_IMAGE", "yes");
        Self::from_command(command)
    }

    /// An agent that is no PID 1: in the test's own namespaces.
    pub fn start_plain() -> Self {
        let [program, word] = AGENT;
        let mut command = Command::new(program);
        command.arg(word);
        Self::from_command(command)
    }

    fn from_command(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = Arc::new(Mutex::new(child.stdin.take()));
        let output = child.stdout.take().unwrap();
        let mut agent = Self {
            child,
            input,
            output,
            decoder: Decoder::default(),
            taken: Arc::default(),
            buffer: vec![0; 256 * 1024],
        };
        let frame = agent.next_frame(Instant::now() + Duration::from_secs(10)).expect("the agent's first words");
        assert_eq!(frame.0, Kind::Ready);
        agent
    }

    /// Sends a frame.
    pub fn send(&self, kind: Kind, payload: &[u8]) {
        send(self.input.lock().unwrap().as_mut().unwrap(), kind, payload).unwrap();
    }

    /// Sends a job.
    pub fn job(&self, job: &Job) {
        self.send(Kind::Job, &serde_json::to_vec(job).unwrap());
    }

    /// Sends standard input from a thread of its own, then its end. `window` says whether to keep to the protocol's.
    pub fn feed(&self, bytes: Vec<u8>, window: bool) {
        let (input, taken) = (Arc::clone(&self.input), Arc::clone(&self.taken));
        std::thread::spawn(move || {
            let mut sent = 0;
            for piece in bytes.chunks(32 * 1024) {
                while window && sent + piece.len() as u64 > taken.load(Ordering::Relaxed) + STDIN_WINDOW as u64 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                sent += piece.len() as u64;
                let mut input = input.lock().unwrap();
                // The agent may end before it has read all of it.
                if input.as_mut().is_none_or(|input| send(input, Kind::Stdin, piece).is_err()) {
                    return;
                }
            }
            if let Some(input) = input.lock().unwrap().as_mut() {
                let _ = send(input, Kind::StdinEof, &[]);
            }
        });
    }

    /// Closes the stream to the agent, as a caller does that dies.
    pub fn hang_up(&self) {
        self.input.lock().unwrap().take();
    }

    /// The next frame, or `None` at the end of the stream.
    pub fn next_frame(&mut self, deadline: Instant) -> Option<(Kind, Vec<u8>)> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some((frame.kind, frame.payload));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing came in time");
            let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            // A signal may come while we wait: other cases of this process stop and go on with theirs.
            match poll(&mut fds, PollTimeout::try_from(left).unwrap()) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => panic!("cannot wait for the agent: {errno}"),
            }
            if fds[0].revents().is_some_and(|events| !events.is_empty()) {
                let count = self.output.read(&mut self.buffer).unwrap();
                if count == 0 {
                    assert!(self.decoder.is_empty(), "the stream ends within a frame");
                    return None;
                }
                self.decoder.push(&self.buffer[..count]);
            }
        }
    }

    /// Waits until the program has started.
    pub fn await_start(&mut self) {
        assert_eq!(self.next_frame(Instant::now() + Duration::from_secs(10)).unwrap().0, Kind::Started);
    }

    /// Waits for output that contains `word`; returns all of it.
    pub fn await_output(&mut self, word: &str) -> String {
        let mut text = String::new();
        while !text.contains(word) {
            let (kind, payload) = self.next_frame(Instant::now() + Duration::from_secs(10)).unwrap();
            assert!(matches!(kind, Kind::Started | Kind::Stdout | Kind::Stderr), "{kind:?} after {text:?}");
            text.push_str(&String::from_utf8_lossy(&payload));
        }
        text
    }

    /// Reads everything to the end, for at most 30 s.
    pub fn finish(&mut self) -> Outcome {
        self.finish_with(|_| {})
    }

    /// The same; `look` sees every piece of stdout, which is then not kept.
    pub fn finish_streaming(&mut self, mut look: impl FnMut(&[u8])) -> Outcome {
        self.finish_with(|outcome| {
            look(&outcome.stdout);
            outcome.stdout.clear();
        })
    }

    fn finish_with(&mut self, mut look: impl FnMut(&mut Outcome)) -> Outcome {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(30);
        let mut outcome = Outcome::default();
        while let Some((kind, payload)) = self.next_frame(deadline) {
            assert!(outcome.report.is_none(), "{kind:?} after the report");
            match kind {
                Kind::Started => outcome.started = true,
                Kind::Stdout => {
                    outcome.stdout.extend_from_slice(&payload);
                    look(&mut outcome);
                }
                Kind::Stderr => outcome.stderr.extend_from_slice(&payload),
                Kind::StdoutGap => outcome.gaps.push((kind, count_payload(&payload).unwrap(), outcome.stdout.len())),
                Kind::StderrGap => outcome.gaps.push((kind, count_payload(&payload).unwrap(), outcome.stderr.len())),
                Kind::StdinTaken => self.taken.store(count_payload(&payload).unwrap(), Ordering::Relaxed),
                Kind::Report => {
                    outcome.report = Some(serde_json::from_slice(&payload).unwrap());
                    outcome.took = start.elapsed();
                    // As the real caller does; the agent waits for it.
                    self.hang_up();
                }
                other => panic!("{other:?} from the agent"),
            }
        }
        outcome
    }

    /// The agent's own process, seen from outside its namespace.
    pub fn pid(&self) -> u32 {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        children.split_whitespace().next().map_or(own, |pid| pid.parse().unwrap())
    }

    /// Waits for the end of the agent; returns its exit code.
    pub fn exit_code(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(start.elapsed() < Duration::from_secs(10), "the agent does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.hang_up();
        // Ours, by its own handle; `--kill-child` takes the namespace along.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(input: &mut ChildStdin, kind: Kind, payload: &[u8]) -> std::io::Result<()> {
    let mut wire = Vec::with_capacity(payload.len() + 5);
    encode(kind, payload, &mut wire);
    input.write_all(&wire)
}

/// Runs a job to its end.
pub fn run(job: &Job) -> Outcome {
    let mut agent = Agent::start();
    agent.job(job);
    let outcome = agent.finish();
    assert_eq!(agent.exit_code(), 0);
    outcome
}

/// Memory that a process has for itself, bytes; 0 when it has gone. Pages of the program's file do not count, not even as
/// private and dirty: that is what they are when it has just been built and no other case runs it.
pub fn own_memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    line.map_or(0, |line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024)
}
