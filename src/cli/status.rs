/*!
`dindctl status`: what PID 1 tells about itself and its services, asked over its control socket.

Exit codes: 0 answered, 1 no dindctl supervises here, 125 it could not be asked.
*/
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::say::{Voice, result};
use super::{Environment, FAILED, OutputFormat, places};
use crate::init::state::{LifeState, Phase, ServiceState, Status};

/// PID 1 answers within a turn of its loop.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, bytes.
const LONGEST: u64 = 1 << 20;
/// The service that is no daemon.
const COMMAND: &str = "command";
/// Exit code when there is nobody to ask.
const NOBODY: u8 = 1;

/// What was typed.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

/// Runs the command.
pub fn run(arguments: &StatusArgs, environment: &Environment, voice: Voice) -> u8 {
    let path = places::control_path(environment);
    let answer = match ask(&path) {
        Ok(answer) => answer,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let message = format!("no dindctl supervises here: {}: {error}", path.display());
            voice.fail_with(&message, Some("ask in the container: docker exec NAME dindctl status"));
            return NOBODY;
        }
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::PermissionDenied => "ask as root of the container: docker exec --user 0 NAME dindctl status",
                _ => "dindctl health tells from the state file",
            };
            voice.fail_with(&format!("cannot ask {}: {error}", path.display()), Some(hint));
            return FAILED;
        }
    };
    let status: Status = match serde_json::from_str(&answer) {
        Ok(status) => status,
        Err(error) => {
            let message = format!("the answer of {} cannot be read: {error}: {}", path.display(), answer.trim_end());
            voice.fail_with(&message, Some("PID 1 is another version of dindctl: use its own binary"));
            return FAILED;
        }
    };
    match arguments.output {
        OutputFormat::Json => result(answer.trim_end()),
        OutputFormat::Text => result(&text(&status)),
    }
    0
}

fn ask(path: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"status\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    Ok(answer)
}

/// For people.
fn text(status: &Status) -> String {
    let Status { uptime_ms, orphans, supervisor, .. } = status;
    let going = if supervisor.stopping { "stopping after" } else { "running for" };
    let daemon = supervisor.services.iter().any(|service| service.name != COMMAND);
    let ready = match supervisor.ready_ms {
        Some(ready) => format!("first ready after {ready:.0} ms"),
        None if daemon => "not ready yet".to_owned(),
        None => "without a daemon of its own".to_owned(),
    };
    let mut lines = vec![
        format!("dindctl {}, process {}, {going} {}; {ready}", supervisor.version, supervisor.pid, span(*uptime_ms)),
        format!(
            "listens on {}",
            if supervisor.listen.is_empty() { "nothing".into() } else { supervisor.listen.join(", ") }
        ),
    ];
    if let Some(problem) = &supervisor.problem {
        lines.push(format!("no daemon: {problem}"));
    }
    if *orphans > 0 {
        lines.push(format!("{orphans} orphans were reaped"));
    }
    let rows: Vec<[String; 5]> = supervisor.services.iter().map(|service| row(service, *uptime_ms)).collect();
    lines.push(String::new());
    lines.extend(table(&[["service", "phase", "for", "process", "restarts"].map(str::to_owned)], &rows));
    for service in
        supervisor.services.iter().filter(|service| service.lives.len() > 1 || service.phase == Phase::Failed)
    {
        lines.push(String::new());
        lines.push(format!("last lives of {}:", service.name));
        lines.extend(service.lives.iter().map(|life| format!("  {}", tale(life, *uptime_ms))));
    }
    lines.join("\n")
}

fn row(service: &ServiceState, now: u64) -> [String; 5] {
    let phase = serde_json::to_value(service.phase).ok().and_then(|value| value.as_str().map(str::to_owned));
    [
        service.name.clone(),
        phase.unwrap_or_default(),
        span(now.saturating_sub(service.since_ms)),
        service.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        service.restarts.to_string(),
    ]
}

/// `process 17, 3m ago: ready after 312 ms, ended after 2m 4s: signal 9 (SIGKILL)`.
fn tale(life: &LifeState, now: u64) -> String {
    let ago = span(now.saturating_sub(life.started_ms));
    let after = |moment: u64| span(moment.saturating_sub(life.started_ms));
    let Some(pid) = life.pid else { return format!("{ago} ago: could not be started") };
    let ready =
        life.ready_ms.map_or_else(|| "never ready".to_owned(), |moment| format!("ready after {}", after(moment)));
    let end = match (life.ended_ms, &life.exit) {
        (None, _) => "runs".to_owned(),
        (Some(moment), exit) => format!("ended after {}: {}", after(moment), exit.as_deref().unwrap_or("unknown")),
    };
    format!("process {pid}, {ago} ago: {ready}, {end}")
}

/// Milliseconds as people say them: the two largest units.
fn span(millis: u64) -> String {
    if millis < 1000 {
        return format!("{millis} ms");
    }
    let text = humantime::format_duration(Duration::from_secs(millis / 1000)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn table(head: &[[String; 5]], rows: &[[String; 5]]) -> Vec<String> {
    let all: Vec<&[String; 5]> = head.iter().chain(rows).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &&[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::state::{STATE_SCHEMA, STATUS_SCHEMA, SupervisorState};

    fn life(pid: Option<i32>, times: (u64, Option<u64>, Option<u64>), exit: Option<&str>) -> LifeState {
        LifeState { pid, started_ms: times.0, ready_ms: times.1, ended_ms: times.2, exit: exit.map(str::to_owned) }
    }

    fn status() -> Status {
        let dockerd = ServiceState {
            name: "dockerd".into(),
            phase: Phase::Ready,
            pid: Some(42),
            restarts: 1,
            last_exit: Some("signal 9 (SIGKILL)".into()),
            since_ms: 120_500,
            lives: vec![
                life(Some(17), (4, Some(312), Some(120_000)), Some("signal 9 (SIGKILL)")),
                life(Some(42), (120_000, Some(120_500), None), None),
            ],
        };
        let containerd = ServiceState {
            name: "containerd".into(),
            phase: Phase::Ready,
            pid: Some(9),
            restarts: 0,
            last_exit: None,
            since_ms: 40,
            lives: vec![life(Some(9), (2, Some(40), None), None)],
        };
        let supervisor = SupervisorState {
            schema: STATE_SCHEMA.into(),
            pid: 1,
            version: "0.1.0".into(),
            stopping: false,
            started: 1.0,
            prepare_ms: 1.0,
            ready_ms: Some(312.4),
            listen: vec!["unix:///var/run/docker.sock".into()],
            problem: None,
            services: vec![containerd, dockerd],
        };
        Status { schema: STATUS_SCHEMA.into(), uptime_ms: 11_520_700, orphans: 3, lost_log_bytes: 0, supervisor }
    }

    #[test]
    fn people_read_a_table_and_the_past_of_what_died() {
        let want = "\
dindctl 0.1.0, process 1, running for 3h 12m; first ready after 312 ms
listens on unix:///var/run/docker.sock
3 orphans were reaped

service     phase  for     process  restarts
containerd  ready  3h 12m  9        0
dockerd     ready  3h 10m  42       1

last lives of dockerd:
  process 17, 3h 12m ago: ready after 308 ms, ended after 1m 59s: signal 9 (SIGKILL)
  process 42, 3h 10m ago: ready after 500 ms, runs";
        assert_eq!(text(&status()), want);
    }

    #[test]
    fn where_there_is_no_daemon_nobody_waits_for_one() {
        let mut status = status();
        status.supervisor.ready_ms = None;
        assert!(text(&status).contains("running for 3h 12m; not ready yet\n"));
        status.supervisor.services.truncate(1);
        status.supervisor.services[0].name = COMMAND.into();
        assert!(text(&status).contains("running for 3h 12m; without a daemon of its own\n"));
    }

    #[test]
    fn what_could_not_be_started_is_told() {
        assert_eq!(tale(&life(None, (1000, None, Some(1000)), None), 4000), "3s ago: could not be started");
        assert_eq!(
            tale(&life(Some(5), (0, None, Some(20)), Some("exit code 1")), 1500),
            "process 5, 1s ago: never ready, ended after 20 ms: exit code 1"
        );
    }

    #[test]
    fn without_a_supervisor_there_is_nobody_to_ask() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ask(&folder.path().join("control.sock")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
