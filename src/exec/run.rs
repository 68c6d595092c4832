//! One run from request to answer: image and agent, container, conversation, verdict.

use std::path::Path;
use std::time::{Duration, Instant};

use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
};
use tokio::sync::mpsc;

use super::container::{self, AGENT_PROGRAM, AgentSource};
use super::daemon::Daemon;
use super::delivery;
use super::error::{ExecError, status_code};
use super::gc;
use super::image::{self, ImageFacts, Progress};
use super::job::{self, Scene};
use super::lease::{self, Owner};
use super::locality::{self, Locality};
use super::network::{self, Egress, Network};
use super::outcome::{Problem, Report, Status, Truncated, Usage};
use super::plain;
use super::program::Loaded;
use super::request::{Request, WorkspaceMode};
use super::result::Timing;
use super::sink::Sink;
use super::stream::{self, Ending, Opening};
use super::teardown::Remains;
use super::terminal::{self, Signals};
use super::workspace::{self, Workspace};

/// Everything that one run needs, read and checked.
#[derive(Debug)]
pub struct Order {
    /// What was asked for.
    pub request: Request,
    /// The directory it works in.
    pub workspace: Option<Workspace>,
    /// The program text.
    pub loaded: Option<Loaded>,
    /// Authorities that the program trusts besides those of its image, PEM.
    pub authorities: Option<String>,
    /// How a pull is shown.
    pub progress: Progress,
    /// When the request came.
    pub begun: Instant,
}

/// What came of a run.
#[derive(Debug)]
pub struct Done {
    /// What is known of the program, or why there is nothing.
    pub verdict: Result<Verdict, ExecError>,
    /// Where the time went.
    pub timing: Timing,
    /// What has to be cleaned up.
    pub remains: Option<Remains>,
    /// What the caller should know beside the result, one line each.
    pub notes: Vec<String>,
}

/// A program that ran, or could have.
#[derive(Debug)]
pub struct Verdict {
    /// What is known of it.
    pub report: Report,
    /// Its image.
    pub image: ImageFacts,
    /// The signal that interrupted us.
    pub interrupted: Option<i32>,
    /// Whether nobody reads our output any more.
    pub closed: bool,
}

/// Runs one order on the daemon.
pub async fn run(daemon: &Daemon, order: Order, sink: &mut Sink, signals: &mut Signals) -> Done {
    let mut run = Run {
        daemon,
        locality: locality::locate(daemon.peer, Path::new("/proc")),
        remains: None,
        notes: Vec::new(),
        timing: Timing::default(),
        egress: None,
        stdin: None,
        order,
    };
    let verdict = run.all(sink, signals).await;
    Done { verdict, timing: run.timing, remains: run.remains, notes: run.notes }
}

struct Run<'a> {
    daemon: &'a Daemon,
    order: Order,
    locality: Locality,
    remains: Option<Remains>,
    notes: Vec<String>,
    timing: Timing,
    /// The shared network, where it is wanted.
    egress: Option<Egress>,
    stdin: Option<mpsc::Receiver<Vec<u8>>>,
}

/// What one try came to.
enum Try {
    Done(Report, Option<i32>, bool),
    /// The daemon has another directory, or none, in the workspace's place.
    ForeignWorkspace,
    /// The daemon does not find the agent.
    NoAgent,
    /// Somebody has removed the shared network meanwhile.
    NoNetwork,
}

impl Run<'_> {
    async fn all(&mut self, sink: &mut Sink, signals: &mut Signals) -> Result<Verdict, ExecError> {
        let (image, mut agent) = tokio::select! {
            biased;
            number = signals.stop() => return Err(ExecError::Interrupted(number)),
            prepared = self.prepare() => prepared?,
        };
        // Each retry removes one cause: a foreign workspace, an agent that is not where it should be (twice: a local
        // one is not visible, a delivered one was removed by somebody).
        for _ in 0..4 {
            let outcome = if agent == AgentSource::Absent {
                self.plain(&image, sink, signals).await?
            } else {
                self.with_agent(&image, &agent, sink, signals).await?
            };
            match outcome {
                Try::Done(report, interrupted, closed) => return Ok(Verdict { report, image, interrupted, closed }),
                Try::ForeignWorkspace => self.copy_workspace()?,
                Try::NoNetwork => self.connect().await?,
                Try::NoAgent => {
                    if let AgentSource::Volume(volume) = &agent {
                        delivery::forget(&self.daemon.docker, volume).await?;
                    }
                    agent = self.deliver(Locality::Remote).await;
                }
            }
            if let Some(remains) = &self.remains {
                gc::remove(&self.daemon.docker, remains.container.as_deref().unwrap_or(&self.order.request.name))
                    .await?;
            }
        }
        Err(ExecError::Agent { why: "the daemon does not find it, however it is delivered".to_owned() })
    }

    async fn prepare(&mut self) -> Result<(ImageFacts, AgentSource), ExecError> {
        let docker = &self.daemon.docker;
        let request = &self.order.request;
        let (image, delivered, egress) = tokio::join!(
            image::provide(docker, &request.image, request.pull, self.order.progress),
            delivery::deliver(docker, &self.locality),
            egress(self.daemon, request),
        );
        let image = image?;
        self.egress = egress?;
        if let (Some(Workspace { mode: WorkspaceMode::ReadWrite, owner: (0, _), path, .. }), None) =
            (&self.order.workspace, &request.user)
        {
            self.notes.push(format!("{path} belongs to root, as which nothing runs; give it away or choose --user"));
        }
        let source = self.noted(delivered);
        Ok((image, source))
    }

    async fn connect(&mut self) -> Result<(), ExecError> {
        self.egress = egress(self.daemon, &self.order.request).await?;
        Ok(())
    }

    async fn deliver(&mut self, locality: Locality) -> AgentSource {
        self.locality = locality;
        let delivered = delivery::deliver(&self.daemon.docker, &self.locality).await;
        self.noted(delivered)
    }

    fn noted(&mut self, delivered: delivery::Delivered) -> AgentSource {
        if let Some(why) = delivered.note {
            self.notes.push(format!("the agent cannot be used ({why}); the program runs under a plain attach"));
        }
        delivered.source
    }

    /// A read-only workspace that the daemon does not have is sent to it; a writable one cannot be.
    fn copy_workspace(&mut self) -> Result<(), ExecError> {
        let Some(workspace) = self.order.workspace.as_mut() else {
            return Err(ExecError::Agent { why: "it misses a workspace that was never asked for".to_owned() });
        };
        if workspace.mode != WorkspaceMode::ReadOnly {
            return Err(ExecError::ForeignWorkspace { path: workspace.path.clone() });
        }
        workspace.mode = WorkspaceMode::Copy;
        self.notes.push(format!("the daemon does not share {}; the program gets a copy", workspace.path));
        Ok(())
    }

    fn scene<'a>(&'a self, image: &'a ImageFacts) -> Scene<'a> {
        let Order { request, workspace, loaded, authorities, .. } = &self.order;
        let terminal = if request.tty { terminal::size() } else { None };
        let (workspace, loaded, egress) = (workspace.as_ref(), loaded.as_ref(), self.egress.as_ref());
        Scene { request, image, workspace, loaded, terminal, egress, authorities: authorities.as_deref() }
    }

    /// Creates the container; `None` when the daemon does not have a directory or a file that it should mount.
    async fn create(&mut self, image: &ImageFacts, agent: &AgentSource) -> Result<Result<String, Try>, ExecError> {
        let request = &self.order.request;
        let owner = Owner::ourselves(Path::new("/proc")).ok();
        let life = request.limits.timeout + request.limits.grace + stream::START + lease::MARGIN;
        let labels = lease::labels(&request.id, owner.as_ref(), gc::now() + life.as_secs());
        let body = container::body(&self.scene(image), agent, labels)?;
        let options = CreateContainerOptionsBuilder::new().name(&request.name).build();
        // From here on the container may exist, whatever we hear.
        self.remains = Some(Remains { run: request.id.clone(), container: None });
        let created = self.daemon.docker.create_container(Some(options), body).await;
        match created {
            Ok(created) => {
                self.remains =
                    Some(Remains { run: self.order.request.id.clone(), container: Some(created.id.clone()) });
                Ok(Ok(created.id))
            }
            Err(error) => {
                if status_code(&error).is_some() {
                    // Answered and refused: there is nothing to clean up.
                    self.remains = None;
                }
                let said = error.to_string();
                let missing = said.contains("bind source path does not exist");
                let workspace = self.order.workspace.as_ref().map(|workspace| workspace.path.as_str());
                if missing && workspace.is_some_and(|path| said.trim_end().ends_with(path)) {
                    return Ok(Err(Try::ForeignWorkspace));
                }
                if missing && matches!(agent, AgentSource::Bind(_)) {
                    return Ok(Err(Try::NoAgent));
                }
                if self.is_network_gone(&said) {
                    return Ok(Err(Try::NoNetwork));
                }
                Err(ExecError::api("create the container")(error))
            }
        }
    }

    async fn with_agent(
        &mut self,
        image: &ImageFacts,
        agent: &AgentSource,
        sink: &mut Sink,
        signals: &mut Signals,
    ) -> Result<Try, ExecError> {
        let job = job::job(&self.scene(image))?;
        let job = serde_json::to_vec(&job).map_err(std::io::Error::other).map_err(ExecError::local("write the job"))?;
        let limits = &self.order.request.limits;
        let (limit, grace) = (limits.timeout + limits.grace, limits.grace);
        let archive = match &self.order.workspace {
            Some(workspace) if workspace.mode == WorkspaceMode::Copy => Some(workspace::pack(workspace, limits.tmpfs)?),
            _ => None,
        };
        let id = tokio::select! {
            biased;
            number = signals.stop() => return Err(ExecError::Interrupted(number)),
            created = self.create(image, agent) => match created? {
                Ok(id) => id,
                Err(outcome) => return Ok(outcome),
            },
        };
        let docker = &self.daemon.docker;
        let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
        let attached =
            docker.attach_container(&id, Some(options)).await.map_err(ExecError::api("attach to the container"))?;
        if self.order.request.stdin && self.stdin.is_none() {
            self.stdin = Some(terminal::read_stdin());
        }
        let raw = if self.order.request.tty {
            Some(terminal::RawMode::enter().map_err(ExecError::local("switch the terminal to raw mode"))?)
        } else {
            None
        };
        let start = docker.start_container(&id, None);
        let opening = Opening { job, archive, stdin: self.stdin.take(), limit, grace };
        let conversation = stream::converse(attached, start, opening, sink, signals).await;
        drop(raw);
        let began = conversation.started.map_or_else(Instant::now, tokio::time::Instant::into_std);
        self.timing.prepare_ms = millis(began.saturating_duration_since(self.order.begun));
        self.timing.run_ms = conversation.started.map_or(0, |started| millis(started.elapsed()));
        self.judge(&id, conversation.ending).await
    }

    async fn judge(&self, id: &str, ending: Ending) -> Result<Try, ExecError> {
        match ending {
            Ending::Report(report) if problem_code(&report) == Some("workspace_mismatch") => Ok(Try::ForeignWorkspace),
            Ending::Report(report) => Ok(Try::Done(report, None, false)),
            Ending::Interrupted(number, Some(report)) => Ok(Try::Done(report, Some(number), false)),
            Ending::Interrupted(number, None) => {
                Ok(Try::Done(empty_report(Status::Killed, Some(libc::SIGKILL)), Some(number), false))
            }
            Ending::Closed => Ok(Try::Done(empty_report(Status::Killed, Some(libc::SIGPIPE)), None, true)),
            Ending::StartFailed(error) => {
                let said = error.to_string();
                if said.contains(AGENT_PROGRAM) && said.contains("no such file") {
                    return Ok(Try::NoAgent);
                }
                if self.is_network_gone(&said) {
                    return Ok(Try::NoNetwork);
                }
                Err(ExecError::api("start the container")(error))
            }
            Ending::Lost(said) => self.explain_loss(id, &said).await,
            Ending::Overdue => Ok(self
                .end_by_force(id, "agent_silent", "the agent did not end the run in time; the container was killed")
                .await),
            Ending::Stalled => Ok(self
                .end_by_force(
                    id,
                    "output_not_read",
                    "nobody read the output until the time was over; the container was killed",
                )
                .await),
        }
    }

    /// Whether the daemon means that the shared network is not there any more.
    fn is_network_gone(&self, said: &str) -> bool {
        let network = self.egress.as_ref().map(|egress| egress.network.as_str());
        network.is_some_and(|network| said.contains(network) && said.contains("not found"))
    }

    async fn end_by_force(&self, id: &str, code: &str, message: &str) -> Try {
        self.kill(id).await;
        let mut report = empty_report(Status::Timeout, Some(libc::SIGKILL));
        let (code, message) = (code.to_owned(), message.to_owned());
        report.problem = Some(Problem { code, message, hint: None, retryable: true });
        Try::Done(report, None, false)
    }

    /// The attach stream is closed by now, so a stalled reader cannot keep the daemon from finishing.
    async fn kill(&self, id: &str) {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        // What survives this is removed by force, and by a later collection at the latest.
        let _ =
            tokio::time::timeout(Duration::from_secs(10), self.daemon.docker.kill_container(id, Some(options))).await;
    }

    async fn explain_loss(&self, id: &str, said: &str) -> Result<Try, ExecError> {
        let state = plain::final_state(&self.daemon.docker, id, Duration::from_secs(5)).await?;
        if state.oom_killed == Some(true) {
            let mut report = empty_report(Status::Oom, Some(libc::SIGKILL));
            report.oom_killed = true;
            return Ok(Try::Done(report, None, false));
        }
        let code = state.exit_code.unwrap_or_default();
        let state = state.status.map(|status| status.to_string()).unwrap_or_default();
        let said = if said.is_empty() { "it left no message" } else { said };
        Err(ExecError::Agent {
            why: format!("its container is {state} with code {code}, and there is no report: {said}"),
        })
    }

    async fn plain(&mut self, image: &ImageFacts, sink: &mut Sink, signals: &mut Signals) -> Result<Try, ExecError> {
        plain::check(&self.order.request, self.order.loaded.as_ref(), self.order.workspace.as_ref())?;
        if let (Some(_), Some(file)) = (&self.order.authorities, &self.order.request.ca_file) {
            self.notes
                .push(format!("the program does not get the authorities in {}: the agent writes them", file.display()));
        }
        let id = tokio::select! {
            biased;
            number = signals.stop() => return Err(ExecError::Interrupted(number)),
            created = self.create(image, &AgentSource::Absent) => match created? {
                Ok(id) => id,
                Err(outcome) => return Ok(outcome),
            },
        };
        if self.order.request.stdin && self.stdin.is_none() {
            self.stdin = Some(terminal::read_stdin());
        }
        self.timing.prepare_ms = millis(self.order.begun.elapsed());
        let started = Instant::now();
        let text = self.order.loaded.as_ref().and_then(|loaded| loaded.file.as_ref());
        let feed = plain::Feed { text: plain::bytes(text)?, stdin: self.stdin.take() };
        let ended = plain::run(&self.daemon.docker, &id, &self.order.request.limits, feed, sink, signals).await?;
        self.timing.run_ms = millis(started.elapsed());
        Ok(Try::Done(ended.report, ended.interrupted, ended.closed))
    }
}

/// The shared network, where the request wants it.
async fn egress(daemon: &Daemon, request: &Request) -> Result<Option<Egress>, ExecError> {
    match &request.network {
        Network::Named(_) => Ok(None),
        Network::Egress(allow) => network::provide(&daemon.docker, &daemon.endpoint, allow).await.map(Some),
    }
}

fn problem_code(report: &Report) -> Option<&str> {
    report.problem.as_ref().map(|problem| problem.code.as_str())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A report about what only the outside saw.
pub fn empty_report(status: Status, signal: Option<i32>) -> Report {
    Report {
        status,
        returncode: None,
        signal,
        oom_killed: false,
        truncated: Truncated::default(),
        usage: Usage::default(),
        problem: None,
    }
}
