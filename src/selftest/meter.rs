/*!
Reading the counters of one container.
*/
use bollard::Docker;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt;
use serde::Serialize;

use super::counters::{self, Counters, Device, Folders};
use super::groups;
use crate::exec::error::ExecError;
use crate::probe::Roots;

/// Who reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// This process, from the kernel's files.
    ControlGroup,
    /// The daemon, asked for its statistics.
    Daemon,
}

/// The counters of one container.
#[derive(Debug)]
pub struct Meter<'a> {
    way: Way<'a>,
    /// The one whose writes count.
    device: Option<Device>,
}

#[derive(Debug)]
enum Way<'a> {
    /// The kernel's files.
    Files(Folders),
    /// The daemon.
    Daemon(&'a Docker, &'a str),
}

impl<'a> Meter<'a> {
    /// The kernel's own word where it can be seen. `pid` is a process of the container `id`; of writes those to `device` count, where one
    /// is named.
    pub fn of(roots: &Roots, docker: &'a Docker, id: &'a str, pid: i64, device: Option<Device>) -> Self {
        Self { way: groups::find(roots, pid, id).map_or(Way::Daemon(docker, id), Way::Files), device }
    }

    /// Who reads.
    pub const fn source(&self) -> Source {
        match self.way {
            Way::Files(_) => Source::ControlGroup,
            Way::Daemon(..) => Source::Daemon,
        }
    }

    /// Reads.
    pub async fn read(&self) -> Result<Counters, ExecError> {
        match &self.way {
            Way::Files(folders) => Ok(folders.read(self.device)),
            Way::Daemon(docker, id) => {
                let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
                let answer = docker.stats(id, Some(options)).next().await;
                let stats = answer.transpose().map_err(ExecError::api("tell the statistics of a container"))?;
                Ok(stats.map(|stats| counters::of_daemon(&stats, self.device)).unwrap_or_default())
            }
        }
    }
}
