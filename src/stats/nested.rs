//! What nested containers use, asked of the daemon: all of them at once, one answer each, without its own second of waiting.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerStatsResponse, ContainerSummary};
use bollard::query_parameters::{ListContainersOptionsBuilder, StatsOptionsBuilder};
use futures_util::StreamExt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::reading::{Flow, Reading, without_cache};
use super::row::Subject;
use crate::exec::error::{ExecError, status_code};

/// So many questions are under way at a time: each takes a connection.
const ABREAST: usize = 64;

/// A reading and its moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// The counters.
    pub reading: Reading,
    /// When the answer came.
    pub at: Instant,
    /// When the daemon looked, by its own clock; nanoseconds since 1970.
    pub read: Option<i128>,
}

impl Timed {
    /// Time since an earlier one: by the clock of the daemon, which has looked before it answered, unless that was set meanwhile.
    pub fn since(&self, before: &Self) -> Duration {
        let ours = self.at.saturating_duration_since(before.at);
        let theirs = self.read.zip(before.read).and_then(|(now, then)| u64::try_from(now - then).ok());
        match theirs.map(Duration::from_nanos) {
            Some(theirs) if theirs > ours / 2 && theirs < ours * 2 => theirs,
            _ => ours,
        }
    }
}

/// A container and what it uses, where it runs and the daemon knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Who.
    pub subject: Subject,
    /// What.
    pub timed: Option<Timed>,
}

/// Those that run, or, where there are names, those of that name or identifier. Second: names that nobody has.
pub async fn list(docker: &Docker, names: &[String]) -> Result<(Vec<Subject>, Vec<String>), ExecError> {
    let options = ListContainersOptionsBuilder::new().all(!names.is_empty()).build();
    let listed = docker.list_containers(Some(options)).await.map_err(ExecError::api("list containers"))?;
    let subjects: Vec<Subject> = listed.into_iter().map(subject).collect();
    Ok(choose(subjects, names))
}

fn subject(container: ContainerSummary) -> Subject {
    let names = container.names.unwrap_or_default();
    let name = names.first().map(|name| name.trim_start_matches('/').to_owned());
    Subject {
        name: name.or_else(|| container.id.clone()).unwrap_or_default(),
        id: container.id,
        state: container.state.map(|state| state.to_string()).unwrap_or_default(),
    }
}

fn choose(subjects: Vec<Subject>, names: &[String]) -> (Vec<Subject>, Vec<String>) {
    if names.is_empty() {
        return (subjects, Vec::new());
    }
    let is_meant = |subject: &Subject, name: &str| {
        subject.name == name || subject.id.as_ref().is_some_and(|id| !name.is_empty() && id.starts_with(name))
    };
    let missing =
        names.iter().filter(|name| !subjects.iter().any(|subject| is_meant(subject, name))).cloned().collect();
    let chosen = subjects.into_iter().filter(|subject| names.iter().any(|name| is_meant(subject, name))).collect();
    (chosen, missing)
}

/// Asks for all of them. Who takes longer than `patience`, or has gone meanwhile, has no figures.
pub async fn ask(docker: &Docker, subjects: Vec<Subject>, patience: Duration) -> Vec<Found> {
    let questions = subjects.into_iter().map(|subject| async move {
        let runs = matches!(subject.state.as_str(), "running" | "paused");
        let timed = match subject.id.as_deref().filter(|_| runs) {
            Some(id) => tokio::time::timeout(patience, one(docker, id)).await.ok().flatten(),
            None => None,
        };
        Found { subject, timed }
    });
    futures_util::stream::iter(questions).buffered(ABREAST).collect().await
}

async fn one(docker: &Docker, id: &str) -> Option<Timed> {
    let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let answer = docker.stats(id, Some(options)).next().await?;
    match answer {
        Ok(stats) => {
            Some(Timed { reading: reading(&stats), at: Instant::now(), read: stats.read.as_deref().and_then(moment) })
        }
        // It went between list and question; any other failure leaves its figures out as well, and the row says so.
        Err(error) if status_code(&error) == Some(404) => None,
        Err(_) => None,
    }
}

fn moment(text: &str) -> Option<i128> {
    let read = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    // Year 1 stands for never.
    (read > 0).then_some(read)
}

/// The counters of the daemon's answer, which are those of the container's control group.
pub fn reading(stats: &ContainerStatsResponse) -> Reading {
    let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
    let memory = stats.memory_stats.as_ref();
    let details = memory.and_then(|memory| memory.stats.as_ref());
    // Version 1 has both words, and the one without `total_` leaves the groups below out.
    let inactive = details.and_then(|of| of.get("total_inactive_file").or_else(|| of.get("inactive_file"))).copied();
    let known = |limit: Option<u64>| limit.filter(|limit| (1..i64::MAX.unsigned_abs()).contains(limit));
    let pids = stats.pids_stats.as_ref();
    let blocks = stats.blkio_stats.as_ref().and_then(|blocks| blocks.io_service_bytes_recursive.as_ref());
    let sum = |kind: &str| {
        let entries = blocks
            .into_iter()
            .flatten()
            .filter(|entry| entry.op.as_ref().is_some_and(|operation| operation.eq_ignore_ascii_case(kind)));
        entries.filter_map(|entry| entry.value).fold(0_u64, u64::saturating_add)
    };
    let networks = stats.networks.as_ref().map(|networks| networks.values());
    Reading {
        cpu: cpu.map(Duration::from_nanos),
        cpu_limit: None,
        memory: memory.and_then(|memory| memory.usage).map(|usage| without_cache(usage, inactive)),
        memory_limit: known(memory.and_then(|memory| memory.limit)),
        pressure: None,
        pids: pids.and_then(|pids| pids.current),
        pids_limit: known(pids.and_then(|pids| pids.limit)),
        net: networks.map(|networks| {
            let flows = networks.map(|network| Flow {
                incoming: network.rx_bytes.unwrap_or(0),
                outgoing: network.tx_bytes.unwrap_or(0),
            });
            flows.fold(Flow::default(), Flow::plus)
        }),
        block: blocks.map(|_| Flow { incoming: sum("read"), outgoing: sum("write") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stats: &serde_json::Value) -> Reading {
        reading(&serde_json::from_value(stats.clone()).unwrap())
    }

    #[test]
    fn an_answer_from_version_1() {
        let found = answer(&serde_json::json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000_u64}},
            "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 1, "total_inactive_file": 300}},
            "pids_stats": {"current": 3, "limit": 32},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"major": 254, "minor": 0, "op": "Read", "value": 1},
                {"major": 254, "minor": 0, "op": "Write", "value": 100},
                {"major": 254, "minor": 0, "op": "Total", "value": 101},
                {"major": 8, "minor": 0, "op": "Read", "value": 5},
            ]},
            "networks": {"eth0": {"rx_bytes": 10, "tx_bytes": 20}, "eth1": {"rx_bytes": 1, "tx_bytes": 2}},
        }));
        let want = Reading {
            cpu: Some(Duration::from_millis(1500)),
            memory: Some(700),
            memory_limit: Some(4000),
            pids: Some(3),
            pids_limit: Some(32),
            net: Some(Flow { incoming: 11, outgoing: 22 }),
            block: Some(Flow { incoming: 6, outgoing: 100 }),
            ..Reading::default()
        };
        assert_eq!(found, want);
    }

    #[test]
    fn an_answer_from_version_2_without_limits_and_network() {
        let found = answer(&serde_json::json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 5}},
            "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 300}},
            "pids_stats": {"current": 3, "limit": u64::MAX},
            "blkio_stats": {"io_service_bytes_recursive": [{"major": 254, "minor": 0, "op": "read", "value": 7}]},
        }));
        assert_eq!((found.memory, found.pids_limit, found.net), (Some(700), None, None));
        assert_eq!(found.block, Some(Flow { incoming: 7, outgoing: 0 }));
    }

    #[test]
    fn a_daemon_without_control_groups_says_nothing() {
        let found = answer(&serde_json::json!({
            "cpu_stats": {}, "memory_stats": {}, "pids_stats": {}, "blkio_stats": {"io_service_bytes_recursive": null},
        }));
        assert_eq!(found, Reading::default());
    }

    #[test]
    fn names_and_the_beginnings_of_identifiers_choose() {
        let subject = |id: &str, name: &str| Subject { id: Some(id.into()), name: name.into(), state: String::new() };
        let all = || vec![subject("abc1", "web"), subject("abd2", "db")];
        let names = |typed: &[&str]| {
            let typed: Vec<String> = typed.iter().map(|name| (*name).to_owned()).collect();
            let (chosen, missing) = choose(all(), &typed);
            (chosen.into_iter().map(|subject| subject.name).collect::<Vec<_>>(), missing)
        };
        assert_eq!(names(&[]), (vec!["web".to_owned(), "db".to_owned()], vec![]));
        assert_eq!(names(&["abd", "nosuch"]), (vec!["db".to_owned()], vec!["nosuch".to_owned()]));
        assert_eq!(names(&["web", ""]), (vec!["web".to_owned()], vec![String::new()]));
    }

    #[test]
    fn the_daemons_clock_counts_unless_it_was_set() {
        let start = Instant::now();
        let timed = |ours: u64, theirs: Option<i128>| Timed {
            reading: Reading::default(),
            at: start + Duration::from_millis(ours),
            read: theirs.map(|millis| millis * 1_000_000),
        };
        let span = |theirs: Option<i128>| timed(1000, theirs).since(&timed(0, Some(10_000))).as_millis();
        assert_eq!(span(Some(10_900)), 900);
        assert_eq!((span(Some(99_000)), span(Some(9_000)), span(None)), (1000, 1000, 1000));
        assert_eq!(moment("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!((moment("0001-01-01T00:00:00Z"), moment("now")), (None, None));
    }
}
