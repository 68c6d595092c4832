/*!
One check on the daemon: a container is created with its limit, started, watched and removed.
*/
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};

use super::amount::{Amount, number};
use super::catalog::{Check, Subject};
use super::counters::{Counters, Device};
use super::judge::{Observed, Verdict, judge};
use super::load::Load;
use super::meter::{Meter, Source};
use super::place::Idle;
use super::report::Row;
use crate::exec::container::AGENT_PROGRAM;
use crate::exec::delivery;
use crate::exec::error::{ExecError, status_code};
use crate::exec::gc;
use crate::probe::Roots;

/// How long the load may take to begin, and to get as far as it comes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long rates are measured.
const WINDOW: Duration = Duration::from_millis(1500);
/// How long a number must not change to be final, where it is one that a limit explains.
const CALM: Duration = Duration::from_millis(200);
/// The same for any other number: a load may be slow on a slow or busy machine.
const STALL: Duration = Duration::from_secs(3);
/// How long a load may take as long as it comes further.
const LONGEST: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What all checks share.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The daemon.
    pub docker: &'a Docker,
    /// Labels by which what is left over is found.
    pub labels: HashMap<String, String>,
    /// Where the control groups may be seen.
    pub roots: &'a Roots,
    /// Whether the daemon runs on the kernel we see.
    pub same_kernel: bool,
}

/// What came of watching.
struct Watched {
    observed: Observed,
    source: Source,
}

impl Bench<'_> {
    /// Does one check. An error is one of the connection; what the daemon refuses is a row that fails.
    pub async fn run(&self, check: &Check) -> Result<Row, ExecError> {
        let begun = Instant::now();
        let mut warnings = Vec::new();
        let outcome = self.watch(check, &mut warnings).await;
        let row = Row::new(check);
        let mut row = match outcome {
            Ok(watched) => {
                let (verdict, reason) = judge(check, &watched.observed);
                let measured = Amount { value: watched.observed.measured, unit: check.limit.unit };
                Row { measured: Some(measured), source: Some(watched.source), verdict, reason, ..row }
            }
            Err(ExecError::Api { source, .. }) if status_code(&source).is_some() => {
                let said = source.to_string();
                Row { verdict: Verdict::Fail, reason: Some(format!("the daemon refuses the limit: {said}")), ..row }
            }
            Err(ExecError::Agent { why }) => Row { verdict: Verdict::Fail, reason: Some(why), ..row },
            Err(error) => return Err(error),
        };
        if row.verdict == Verdict::Fail && !warnings.is_empty() {
            let before = row.reason.map(|reason| format!("{reason}; ")).unwrap_or_default();
            row.reason = Some(format!("{before}the daemon warned: {}", warnings.join(" ")));
        }
        row.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(row)
    }

    async fn watch(&self, check: &Check, warnings: &mut Vec<String>) -> Result<Watched, ExecError> {
        let id = self.create(check, warnings).await?;
        let watched = self.watch_container(check, &id).await;
        let removed = gc::remove(self.docker, &id).await;
        let watched = watched?;
        removed.map(|()| watched)
    }

    async fn create(&self, check: &Check, warnings: &mut Vec<String>) -> Result<String, ExecError> {
        let host = HostConfig {
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..check.host.clone()
        };
        let body = |image: String| ContainerCreateBody {
            image: Some(image),
            entrypoint: Some(vec![AGENT_PROGRAM.to_owned()]),
            cmd: Some(check.load.words()),
            labels: Some(self.labels.clone()),
            host_config: Some(host.clone()),
            ..ContainerCreateBody::default()
        };
        // Somebody may remove the image between our look and the creation.
        let mut tries = 3;
        loop {
            let image = delivery::image(self.docker).await?;
            match self.docker.create_container(None, body(image.name)).await {
                Ok(created) => {
                    warnings.extend(created.warnings);
                    return Ok(created.id);
                }
                Err(error) if status_code(&error) == Some(404) && tries > 0 => tries -= 1,
                Err(error) => return Err(ExecError::api("create a container")(error)),
            }
        }
    }

    async fn watch_container(&self, check: &Check, id: &str) -> Result<Watched, ExecError> {
        self.docker.start_container(id, None).await.map_err(ExecError::api("start a container"))?;
        let state = self.docker.inspect_container(id, None).await.map_err(ExecError::api("inspect a container"))?.state;
        let pid = state.and_then(|state| state.pid).unwrap_or(0);
        let throttled = check.host.blkio_device_write_bps.iter().flatten().find_map(|device| device.path.as_ref());
        let device = throttled.and_then(|path| Device::at(&self.roots.resolve(Path::new(path))));
        let meter = Meter::of(self.roots, self.docker, id, pid, device);
        let observed = match check.subject {
            Subject::Cpu => self.cpu(&meter).await,
            Subject::Memory | Subject::Swap => memory(&meter, &check.load).await,
            Subject::Pids => tasks(&meter, check.limit.value).await,
            Subject::Io => writes(&meter).await,
        }?;
        Ok(Watched { observed, source: meter.source() })
    }

    async fn cpu(&self, meter: &Meter<'_>) -> Result<Observed, ExecError> {
        let used = |counters: &Counters| counters.cpu.unwrap_or_default();
        // The load has begun, and the start of the container is over.
        let begun = |time: Duration| time > Duration::from_millis(50);
        let first = until(meter, "CPU time", |counters| counters.cpu.map(begun)).await?;
        let idle = self.same_kernel.then(|| Idle::read(self.roots)).flatten();
        let begun = Instant::now();
        tokio::time::sleep(WINDOW).await;
        let last = meter.read().await?;
        let wall = begun.elapsed();
        let share = idle.and_then(|idle| idle.share_since(self.roots));
        let throttled = last.throttled.zip(first.throttled).map(|(last, first)| last > first);
        let measured = used(&last).saturating_sub(used(&first)).as_secs_f64() / wall.as_secs_f64();
        Ok(Observed { measured, hit: throttled, idle: share, ..Observed::default() })
    }
}

/// Looks until something holds of a counter.
async fn until(
    meter: &Meter<'_>,
    what: &str,
    holds: impl Fn(&Counters) -> Option<bool>,
) -> Result<Counters, ExecError> {
    let begun = Instant::now();
    loop {
        let counters = meter.read().await?;
        match holds(&counters) {
            Some(true) => return Ok(counters),
            // The daemon has no statistics of a container that has just begun.
            None if begun.elapsed() > PATIENCE / 5 => return Err(uncounted(what)),
            _ if begun.elapsed() > PATIENCE => {
                let patience = humantime::format_duration(PATIENCE);
                return Err(ExecError::Agent { why: format!("the load got no {what} within {patience}") });
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn uncounted(what: &str) -> ExecError {
    ExecError::Agent { why: format!("nobody counts the container's {what}: its control group lacks the controller") }
}

async fn memory(meter: &Meter<'_>, load: &Load) -> Result<Observed, ExecError> {
    let Load::Memory { bytes } = load else { return Ok(Observed::default()) };
    until(meter, "memory", |counters| counters.memory.map(|_| true)).await?;
    let begun = Instant::now();
    let (mut most, mut grown) = (0, Instant::now());
    loop {
        let counters = meter.read().await?;
        let memory = counters.memory.unwrap_or(0);
        if memory > most {
            (most, grown) = (memory, Instant::now());
        }
        let killed = counters.oom_kills.is_some_and(|kills| kills > 0);
        if killed || most >= *bytes || grown.elapsed() > PATIENCE || begun.elapsed() > LONGEST {
            // What is counted for the last pages may come after the word of the kill.
            most = most.max(meter.read().await?.memory.unwrap_or(0));
            let hit = counters.oom_kills.map(|kills| kills > 0);
            return Ok(Observed {
                measured: number(most),
                hit,
                seen_now_and_then: !counters.memory_is_peak,
                idle: None,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tasks(meter: &Meter<'_>, limit: f64) -> Result<Observed, ExecError> {
    until(meter, "tasks", |counters| Some(counters.tasks? > 1)).await?;
    let (mut most, mut grown) = (0, Instant::now());
    let begun = Instant::now();
    // A kernel counts refusals of the group that is full, which may be one around this (v1 and older v2).
    let mut refused = None;
    while !settled(number(most), limit, refused.is_some(), grown.elapsed()) && begun.elapsed() < LONGEST {
        let counters = meter.read().await?;
        let tasks = counters.tasks.unwrap_or(0);
        if tasks > most {
            (most, grown) = (tasks, Instant::now());
        }
        refused = counters.refused.filter(|refused| *refused > 0).or(refused);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Observed { measured: number(most), hit: refused.map(|_| true), ..Observed::default() })
}

/// Whether there will be no more tasks, `calm` after the last new one.
fn settled(most: f64, limit: f64, refused: bool, calm: Duration) -> bool {
    calm >= if refused || most >= limit { CALM } else { STALL }
}

async fn writes(meter: &Meter<'_>) -> Result<Observed, ExecError> {
    let first = until(meter, "writes", |counters| Some(counters.written? > 0)).await?;
    let begun = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let last = meter.read().await?;
    let bytes = last.written.unwrap_or(0).saturating_sub(first.written.unwrap_or(0));
    Ok(Observed { measured: number(bytes) / begun.elapsed().as_secs_f64(), ..Observed::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_load_is_not_taken_for_one_that_was_stopped() {
        let after = Duration::from_millis;
        assert!(!settled(24.0, 32.0, false, after(1000)), "the next task may still come");
        assert!(settled(24.0, 32.0, false, after(3000)));
        assert!(settled(24.0, 32.0, true, after(200)), "the kernel says that it refused one");
        assert!(settled(32.0, 32.0, false, after(200)));
        assert!(!settled(32.0, 32.0, false, after(100)), "one more would be one too many");
    }
}
