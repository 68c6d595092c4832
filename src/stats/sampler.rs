/*!
Sample after sample: the whole container from its files, the nested ones from the daemon, whatever becomes of either meanwhile.
*/
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::task::JoinHandle;

use super::nested::{self, Found, Timed};
use super::outer;
use super::reading::Reading;
use super::row::Row;
use crate::exec::chain::chain;
use crate::exec::daemon::{self, Daemon, DaemonError};
use crate::exec::endpoint::Endpoint;
use crate::exec::locality;
use crate::probe::Roots;

/// The format of a sample.
pub const SCHEMA: &str = "dindctl.stats/v1";

/// So long a sample waits for a daemon, and for one container's figures. A daemon that starts holds its clients for longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The daemon, as far as this sample has to do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DaemonState {
    /// Where it is.
    pub address: String,
    /// Whether it answered.
    pub reachable: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// What is used at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Seconds since 1970.
    pub time: f64,
    /// Seconds that the rates are of.
    pub interval_seconds: Option<f64>,
    /// The daemon.
    pub daemon: DaemonState,
    /// The whole container.
    pub outer: Option<Row>,
    /// Why there is nothing about it.
    pub outer_absent: Option<String>,
    /// Nested containers.
    pub containers: Vec<Row>,
    /// Names that were asked for and that no container has.
    pub missing: Vec<String>,
}

/// How far we are with the daemon.
#[derive(Debug)]
enum Link {
    Down,
    Dialling(JoinHandle<Result<Daemon, DaemonError>>),
    Up(Daemon),
}

/// Takes the samples and remembers the last one of each container.
#[derive(Debug)]
pub struct Sampler {
    env: BTreeMap<String, String>,
    endpoint: Endpoint,
    roots: Roots,
    names: Vec<String>,
    link: Link,
    /// Why the whole container is not that of the daemon.
    foreign: Option<String>,
    last: Option<Instant>,
    outer: Option<(Instant, Reading)>,
    nested: HashMap<String, Timed>,
}

impl Sampler {
    /// One for the containers of those names, or for all that run.
    pub fn new(env: BTreeMap<String, String>, endpoint: Endpoint, roots: Roots, names: Vec<String>) -> Self {
        let foreign = match &endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Tcp(_) | Endpoint::Tls { .. } => {
                Some(format!("the daemon is reached over the network ({endpoint}): its containers are not in this one"))
            }
        };
        let (last, outer, nested) = (None, None, HashMap::new());
        Self { env, endpoint, roots, names, link: Link::Down, foreign, last, outer, nested }
    }

    /// The next one. Rates are those since the one before.
    pub async fn sample(&mut self) -> Sample {
        let (found, missing, problem) = match self.nested().await {
            Ok((found, missing)) => (found, missing, None),
            Err(problem) => (Vec::new(), Vec::new(), Some(problem)),
        };
        let now = Instant::now();
        let mut sample = Sample {
            schema: SCHEMA,
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            interval_seconds: self.last.map(|last| now.saturating_duration_since(last).as_secs_f64()),
            daemon: DaemonState { address: self.endpoint.to_string(), reachable: problem.is_none(), problem },
            missing,
            ..Sample::default()
        };
        self.last = Some(now);
        match self.whole() {
            Ok(row) => sample.outer = Some(row),
            Err(why) => sample.outer_absent = Some(why),
        }
        sample.containers = self.rows(found);
        sample
    }

    fn whole(&mut self) -> Result<Row, String> {
        if let Some(why) = &self.foreign {
            return Err(why.clone());
        }
        let at = Instant::now();
        let (subject, reading) = outer::read(&self.roots).map_err(|error| chain(&error))?;
        let before = self.outer.replace((at, reading));
        let before = before.as_ref().map(|(then, before)| (before, at.saturating_duration_since(*then)));
        Ok(Row::new(subject, &reading, before))
    }

    fn rows(&mut self, found: Vec<Found>) -> Vec<Row> {
        let mut before = std::mem::take(&mut self.nested);
        let mut row = |Found { subject, timed }: Found| {
            let id = subject.id.clone().unwrap_or_default();
            let Some(timed) = timed else { return Row::new(subject, &Reading::default(), None) };
            let then = before.remove(&id);
            let row = Row::new(subject, &timed.reading, then.as_ref().map(|then| (&then.reading, timed.since(then))));
            self.nested.insert(id, timed);
            row
        };
        found.into_iter().map(&mut row).collect()
    }

    async fn nested(&mut self) -> Result<(Vec<Found>, Vec<String>), String> {
        let docker = self.daemon().await?.docker;
        let listed = tokio::time::timeout(PATIENCE, nested::list(&docker, &self.names)).await;
        let listed = listed.map_err(|_| self.silent()).and_then(|listed| listed.map_err(|error| chain(&error)));
        match listed {
            Ok((subjects, missing)) => Ok((nested::ask(&docker, subjects, PATIENCE).await, missing)),
            Err(problem) => {
                self.link = Link::Down;
                Err(problem)
            }
        }
    }

    /// The daemon; a call that takes too long goes on, and the next sample comes back to it.
    async fn daemon(&mut self) -> Result<Daemon, String> {
        if let Link::Up(daemon) = &self.link {
            return Ok(daemon.clone());
        }
        let mut dialling = match std::mem::replace(&mut self.link, Link::Down) {
            Link::Dialling(dialling) => dialling,
            Link::Up(_) | Link::Down => self.dial(),
        };
        match tokio::time::timeout(PATIENCE, &mut dialling).await {
            Err(_) => {
                self.link = Link::Dialling(dialling);
                Err(self.silent())
            }
            Ok(Ok(Ok(daemon))) => {
                self.foreign = self.judge(&daemon);
                self.link = Link::Up(daemon.clone());
                Ok(daemon)
            }
            Ok(Ok(Err(error))) => Err(chain(&error)),
            Ok(Err(error)) => Err(format!("cannot ask the daemon: {error}")),
        }
    }

    /// On a thread of its own: the first question to a daemon waits for the answer without letting others work.
    fn dial(&self) -> JoinHandle<Result<Daemon, DaemonError>> {
        let (endpoint, env) = (self.endpoint.clone(), self.env.clone());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(daemon::connect(endpoint, &env, &|_| ())))
    }

    fn judge(&self, daemon: &Daemon) -> Option<String> {
        match &self.endpoint {
            Endpoint::Unix(_) if locality::shares_processes(daemon.peer, &self.roots.proc) => None,
            Endpoint::Unix(path) => {
                let path = path.display();
                Some(format!(
                    "the daemon behind {path} is of another pid namespace: its containers are not in this one"
                ))
            }
            Endpoint::Tcp(_) | Endpoint::Tls { .. } => self.foreign.clone(),
        }
    }

    fn silent(&self) -> String {
        format!(
            "the Docker daemon at {} does not answer within {}",
            self.endpoint,
            humantime::format_duration(PATIENCE)
        )
    }
}
