//! The last resort: the program as the container's own first process, with nothing but the daemon to ask.
//!
//! The deadline holds only as long as we live, output is cut at its head instead of its middle, and the cause of the
//! end is what the daemon saw.

use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::models::ContainerState;
use bollard::query_parameters::{AttachContainerOptionsBuilder, KillContainerOptionsBuilder};
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::error::ExecError;
use super::network::Network;
use super::outcome::{Report, Status, Truncated};
use super::program::Loaded;
use super::protocol::{CodeFile, OnOutputLimit};
use super::rejection::Rejection;
use super::request::{Limits, Request, WorkspaceMode};
use super::run::empty_report;
use super::sink::{Closed, Event, Sink};
use super::terminal::{Notice, Signals};
use super::workspace::Workspace;

/// What goes into the program.
#[derive(Debug)]
pub struct Feed {
    /// Program text, which takes the place of standard input.
    pub text: Option<Vec<u8>>,
    /// Standard input.
    pub stdin: Option<mpsc::Receiver<Vec<u8>>>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// As far as it can be told from outside.
    pub report: Report,
    /// The signal that interrupted us.
    pub interrupted: Option<i32>,
    /// Whether nobody reads our output any more.
    pub closed: bool,
}

/// What cannot be done without an agent.
pub fn check(request: &Request, loaded: Option<&Loaded>, workspace: Option<&Workspace>) -> Result<(), Rejection> {
    let refuse = |option: &str, hint: &str| {
        Err(Rejection::new(option, "", "needs the agent, which this daemon cannot run").with_hint(hint))
    };
    if matches!(request.network, Network::Egress(_)) {
        return refuse("--network egress", "choose none, or a network of your own that is filtered outside");
    }
    if request.tty {
        return refuse("--tty", "leave -t out");
    }
    if workspace.is_some_and(|workspace| workspace.mode == WorkspaceMode::Copy) {
        return refuse("--workspace", "use a directory that the daemon shares");
    }
    if request.stdin && loaded.is_some_and(|loaded| loaded.file.is_some()) {
        return refuse("--stdin", "put the program into a --workspace, or leave -i out");
    }
    if request.limits.cpu_time.is_some() {
        return refuse("--cpu-time", "use --timeout or --ulimit cpu=SECONDS");
    }
    Ok(())
}

/// Content of a program text.
pub fn bytes(file: Option<&CodeFile>) -> Result<Option<Vec<u8>>, ExecError> {
    let decode = |file: &CodeFile| {
        if file.base64 { STANDARD.decode(&file.content) } else { Ok(file.content.clone().into_bytes()) }
    };
    file.map(decode).transpose().map_err(std::io::Error::other).map_err(ExecError::local("decode the program"))
}

/// Starts the created container and stays with it to its end.
pub async fn run(
    docker: &Docker,
    id: &str,
    limits: &Limits,
    feed: Feed,
    sink: &mut Sink,
    signals: &mut Signals,
) -> Result<Ended, ExecError> {
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
    let mut attached =
        docker.attach_container(id, Some(options)).await.map_err(ExecError::api("attach to the container"))?;
    if let Err(error) = docker.start_container(id, None).await {
        return Err(start_error(error));
    }
    let feeder = tokio::spawn(feed_all(attached.input, feed));
    let mut cap = Cap { left: [limits.max_output; 2], dropped: [0; 2] };
    let mut end = None;
    let mut until = Instant::now() + limits.timeout;
    let mut interrupted = None;
    loop {
        tokio::select! {
            notice = signals.next() => if let Notice::Stop(number) = notice {
                if interrupted.is_some() {
                    break;
                }
                interrupted = Some(number);
                kill(docker, id, "SIGKILL").await;
            },
            piece = attached.output.next() => {
                let Some(Ok(piece)) = piece else { break };
                // A reader that stalls must not stop the clock.
                match tokio::time::timeout_at(until, sink_piece(piece, &mut cap, sink)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(Closed)) => {
                        kill(docker, id, "SIGKILL").await;
                        let report = empty_report(Status::Killed, Some(libc::SIGPIPE));
                        return Ok(Ended { report, interrupted, closed: true });
                    }
                    Err(_) => {
                        kill(docker, id, "SIGKILL").await;
                        let report = empty_report(Status::Timeout, Some(libc::SIGKILL));
                        return Ok(Ended { report, interrupted, closed: false });
                    }
                }
                if end.is_none() && cap.dropped != [0; 2] && limits.on_output_limit == OnOutputLimit::Kill {
                    end = Some(Status::OutputLimit);
                    kill(docker, id, "SIGKILL").await;
                }
            },
            () = tokio::time::sleep_until(until) => {
                if end.is_some() {
                    kill(docker, id, "SIGKILL").await;
                    break;
                }
                end = Some(Status::Timeout);
                let polite = !limits.grace.is_zero();
                kill(docker, id, if polite { "SIGTERM" } else { "SIGKILL" }).await;
                until = Instant::now() + if polite { limits.grace } else { Duration::from_secs(10) };
            },
        }
    }
    feeder.abort();
    drop(attached.output);
    let state = final_state(docker, id, Duration::from_secs(5)).await?;
    let mut report = verdict(&state, end.or(interrupted.map(|_| Status::Killed)));
    report.truncated = Truncated { stdout: cap.dropped[0], stderr: cap.dropped[1] };
    Ok(Ended { report, interrupted, closed: false })
}

fn start_error(error: bollard::errors::Error) -> ExecError {
    let why = error.to_string();
    if why.contains("executable file not found") || why.contains("no such file or directory") {
        return ExecError::Start { why, exit: 127 };
    }
    if why.contains("permission denied") || why.contains("exec format error") {
        return ExecError::Start { why, exit: 126 };
    }
    ExecError::api("start the container")(error)
}

fn verdict(state: &ContainerState, ended_by_us: Option<Status>) -> Report {
    let oom = state.oom_killed == Some(true);
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    let status = match (ended_by_us, oom, code) {
        (Some(status), ..) => status,
        (None, true, _) => Status::Oom,
        (None, false, Some(0)) => Status::Ok,
        // Docker's init passes a signal on as 128+n; a program that returns such a code itself looks the same.
        (None, false, Some(129..=192)) => Status::Signaled,
        (None, false, _) => Status::Nonzero,
    };
    let mut report = empty_report(status, None);
    report.oom_killed = oom;
    match code {
        Some(code @ 129..=192) => report.signal = Some(code - 128),
        other => report.returncode = other,
    }
    report
}

async fn kill(docker: &Docker, id: &str, signal: &str) {
    let options = KillContainerOptionsBuilder::new().signal(signal).build();
    // A container that has ended meanwhile cannot be killed, and one that survives is removed by force.
    let _ = tokio::time::timeout(Duration::from_secs(10), docker.kill_container(id, Some(options))).await;
}

/// State of a container that ends now; waits for it up to `patience`.
pub async fn final_state(docker: &Docker, id: &str, patience: Duration) -> Result<ContainerState, ExecError> {
    let until = Instant::now() + patience;
    loop {
        let inspect = docker.inspect_container(id, None).await.map_err(ExecError::api("inspect the container"))?;
        let state = inspect.state.unwrap_or_default();
        if state.running != Some(true) || Instant::now() > until {
            return Ok(state);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Cap {
    left: [Option<u64>; 2],
    dropped: [u64; 2],
}

impl Cap {
    fn cut(&mut self, stream: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        let (Some(Some(left)), Some(dropped)) = (self.left.get_mut(stream), self.dropped.get_mut(stream)) else {
            return bytes;
        };
        let kept = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        *left -= kept as u64;
        *dropped += (bytes.len() - kept) as u64;
        bytes.truncate(kept);
        bytes
    }
}

async fn sink_piece(piece: LogOutput, cap: &mut Cap, sink: &mut Sink) -> Result<(), Closed> {
    let event = match piece {
        LogOutput::StdErr { message } => Event::Stderr(cap.cut(1, message.to_vec())),
        LogOutput::StdOut { message } | LogOutput::Console { message } => Event::Stdout(cap.cut(0, message.to_vec())),
        LogOutput::StdIn { .. } => return Ok(()),
    };
    match &event {
        Event::Stdout(bytes) | Event::Stderr(bytes) if bytes.is_empty() => Ok(()),
        _ => sink.put(event).await,
    }
}

async fn feed_all(mut input: Pin<Box<dyn AsyncWrite + Send>>, feed: Feed) {
    // A program that closes its input ends this, which is its right.
    if let Some(text) = feed.text
        && input.write_all(&text).await.is_err()
    {
        return;
    }
    if let Some(mut stdin) = feed.stdin {
        while let Some(piece) = stdin.recv().await {
            if input.write_all(&piece).await.is_err() {
                return;
            }
        }
    }
    let _ = input.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, false, None, Status::Ok, Some(0), None)]
    #[case(3, false, None, Status::Nonzero, Some(3), None)]
    #[case(137, true, None, Status::Oom, None, Some(9))]
    #[case(1, true, None, Status::Oom, Some(1), None)]
    #[case(139, false, None, Status::Signaled, None, Some(11))]
    #[case(137, false, Some(Status::Timeout), Status::Timeout, None, Some(9))]
    fn verdicts(
        #[case] code: i64,
        #[case] oom: bool,
        #[case] by_us: Option<Status>,
        #[case] status: Status,
        #[case] returncode: Option<i32>,
        #[case] signal: Option<i32>,
    ) {
        let state = ContainerState { exit_code: Some(code), oom_killed: Some(oom), ..ContainerState::default() };
        let report = verdict(&state, by_us);
        assert_eq!((report.status, report.returncode, report.signal), (status, returncode, signal));
    }

    #[test]
    fn the_cap_counts_what_it_drops() {
        let mut cap = Cap { left: [Some(3), None], dropped: [0; 2] };
        assert_eq!(cap.cut(0, b"ab".to_vec()), b"ab");
        assert_eq!(cap.cut(0, b"cde".to_vec()), b"c");
        assert_eq!(cap.cut(1, b"xyz".to_vec()), b"xyz");
        assert_eq!(cap.dropped, [2, 0]);
    }
}
