/*!
A job from its arrival to its report.
*/
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::caller::Gone;
use super::channel::Channel;
use super::classify::{Cause, Death, Evidence, classify};
use super::cpu::CpuWatch;
use super::ending::{Blow, Ending};
use super::household::reap;
use super::prepare;
use super::program::{Program, Setting, Streams};
use super::refusal::{Refusal, problem};
use super::session::{Session, Stop};
use super::unpack::unpack;
use super::usage::{Meters, Reading};
use crate::exec::outcome::{Problem, Report, Status, Truncated, Usage};
use crate::exec::protocol::{Job, Kind, OnOutputLimit, Workspace, report_payload};

/// How long a caller may take nothing, once the deadline has passed, before it loses what it has not read.
const STALL: Duration = Duration::from_secs(5);

/// How one stage ended.
struct StageEnd {
    death: Option<Death>,
    disk_full: bool,
}

/// The run so far.
struct Run<'j> {
    job: &'j Job,
    ending: Ending,
    cpu: CpuWatch,
    watched: Vec<OwnedFd>,
    channels: Option<[Channel; 2]>,
    /// When the first program was started.
    started: Option<Duration>,
    /// When the last program ended.
    ended: Duration,
    /// Whether the caller has stopped reading for good.
    stalled: bool,
}

/// Takes a job and brings it to its report. `Ok` means that the caller has it.
pub(super) fn work(session: &mut Session<'_>) -> Result<(), Stop> {
    let meters = Meters::find(
        &session.options.cgroup_root,
        &std::fs::read_to_string(session.options.proc_root.join("self/cgroup")).unwrap_or_default(),
    );
    let job = match session.await_job() {
        Err(Stop::Refused(refusal)) => return Ok(deliver(session, &refused(refusal), None, Some(Duration::ZERO))?),
        other => other?,
    };
    let baseline = meters.read();
    let channels =
        [Channel::stdout(job.max_output, job.on_output_limit), Channel::stderr(job.max_output, job.on_output_limit)];
    let mut run = Run {
        job: &job,
        ending: ending(&job, session.now()),
        cpu: CpuWatch::new(job.cpu_time_ms.map(Duration::from_millis)),
        watched: Vec::new(),
        channels: Some(channels),
        started: None,
        ended: Duration::ZERO,
        stalled: false,
    };
    let result = run_job(session, &mut run, &meters, &baseline);
    session.household.clear();
    let wall = run.started.map_or(Duration::ZERO, |started| run.ended.saturating_sub(started));
    let (usage, oom_killed) = meters.since(&baseline, wall);
    let mut report = match result {
        Ok(end) => judge(&run, &end, usage, oom_killed),
        Err(Stop::Refused(refusal)) => Report { oom_killed, usage, ..refused(refusal) },
        Err(stop) => return Err(stop),
    };
    if let Some([out, err]) = &run.channels {
        report.truncated = Truncated { stdout: out.dropped(), stderr: err.dropped() };
    }
    let deadline = (!run.stalled).then(|| run.ending.next());
    Ok(deliver(session, &report, run.channels.take(), deadline)?)
}

/// The time limits of a job, counted from now.
fn ending(job: &Job, now: Duration) -> Ending {
    Ending::new(now.saturating_add(Duration::from_millis(job.timeout_ms)), Duration::from_millis(job.grace_ms))
}

fn run_job(
    session: &mut Session<'_>,
    run: &mut Run<'_>,
    meters: &Meters,
    baseline: &Reading,
) -> Result<(usize, StageEnd), Stop> {
    let job = run.job;
    prepare::check(job)?;
    let account = prepare::account(job, Path::new("/"))?;
    let identity = &account.identity;
    if let Some(policy) = &job.egress {
        super::egress::close(policy, identity)?;
    }
    if let Some(extra) = &job.authorities {
        super::authorities::install(extra, identity, Path::new("/"))?;
    }
    place_workspace(session, job, identity)?;
    prepare::as_user(identity, || {
        prepare::write_files(&job.files)?;
        prepare::check_workdir(&job.workdir)
    })??;
    run.watched = prepare::watch(&job.watch_full);
    let env = prepare::as_user(identity, || prepare::environment(job, &account))?;
    if !job.stdin {
        // What comes nevertheless must not fill the queue.
        session.desk.feeder.refuse();
    }
    let setting = Setting { identity, env: &env, workdir: Path::new(&job.workdir) };
    let last = job.stages.len().saturating_sub(1);
    run.ending = ending(job, session.now());
    for (index, stage) in job.stages.iter().enumerate() {
        let streams = match job.tty {
            Some((rows, columns)) => Streams::Terminal(rows, columns),
            None => Streams::Pipes { stdin: job.stdin && index == last },
        };
        let mut program = Program::start(stage, &setting, streams, &mut run.channels)?;
        if run.started.is_none() {
            run.started = Some(session.now());
            session.caller.send(Kind::Started, &[]);
        }
        let end = watch_over(session, run, &mut program, meters, baseline)?;
        run.channels = Some(program.into_channels());
        if index == last || run.ending.cause().is_some() || end.death != Some(Death::Exited(0)) {
            return Ok((index, end));
        }
    }
    Err(Refusal::internal("stages", "the job has no stage".to_owned()).into())
}

fn place_workspace(session: &mut Session<'_>, job: &Job, identity: &crate::sys::spawn::Identity) -> Result<(), Stop> {
    match &job.workspace {
        None => Ok(()),
        Some(Workspace::Bound { path, identity }) => Ok(prepare::check_bound(path, identity)?),
        Some(Workspace::Copy { path }) => {
            let mut archive = session.archive();
            let mut unpacked = prepare::as_user(identity, || {
                let result = unpack(&mut archive, path);
                // Padding behind the archive's own end, up to the frame that says so.
                let rest = std::io::copy(&mut archive, &mut std::io::sink());
                result.and(rest.map(drop).map_err(|error| Refusal::internal("archive", error.to_string())))
            })?;
            if let Some(stop) = archive.stop.take() {
                unpacked = match stop {
                    Stop::Idle(_) => {
                        let message = "the workspace archive stopped coming".to_owned();
                        Err(Refusal::rejected("archive_broken", message, None))
                    }
                    other => return Err(other),
                };
            }
            Ok(unpacked?)
        }
    }
}

/// Stays with a program until it has ended, whoever ends it, and until no relative of it is left.
fn watch_over(
    session: &mut Session<'_>,
    run: &mut Run<'_>,
    program: &mut Program,
    meters: &Meters,
    baseline: &Reading,
) -> Result<StageEnd, Gone> {
    let mut death = None;
    loop {
        let now = session.now();
        let household = &session.household;
        let cpu_used = || meters.cpu_since(baseline).unwrap_or_else(|| household.cpu());
        let causes = [
            (session.is_cancelled(), Cause::Cancelled),
            (session.desk.fault.is_some(), Cause::Protocol),
            (run.cpu.is_exceeded(now, cpu_used), Cause::CpuTime),
            (run.job.on_output_limit == OnOutputLimit::Kill && program.is_over_cap(), Cause::OutputLimit),
        ];
        let due = run.ending.tick(now);
        let ended = causes.into_iter().filter_map(|(holds, cause)| holds.then(|| run.ending.end(cause, now)).flatten());
        for blow in due.into_iter().chain(ended) {
            household.strike(blow);
        }
        if run.ending.hopeless(now) {
            break;
        }
        let until = run.ending.next().min(run.cpu.next());
        if session.turn(Some(program), until)?.child {
            death = reap(Some(program.pid)).main;
            if death.is_some() {
                break;
            }
        }
    }
    run.ended = session.now();
    // Before the clean-up: what the dead held open counts as used.
    let disk_full = prepare::any_full(&run.watched);
    session.household.clear();
    let mut patience = Patience::new(session, run.ending.next());
    while !run.stalled && !session.drain(program)? {
        run.stalled = !patience.wait(session)?;
    }
    Ok(StageEnd { death, disk_full })
}

fn judge(run: &Run<'_>, (index, end): &(usize, StageEnd), usage: Usage, oom_killed: bool) -> Report {
    let evidence = Evidence { death: end.death, ended_by: run.ending.cause(), oom_killed, disk_full: end.disk_full };
    let status = classify(&evidence);
    let (returncode, signal) = match end.death {
        Some(Death::Exited(code)) => (Some(code), None),
        Some(Death::Signaled(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    Report {
        status,
        returncode,
        signal,
        oom_killed,
        truncated: Truncated::default(),
        usage,
        problem: explain(run, *index, end, status),
    }
}

/// In words what the status alone does not tell.
fn explain(run: &Run<'_>, index: usize, end: &StageEnd, status: Status) -> Option<Problem> {
    let stage = run.job.stages.get(index)?;
    if end.death.is_none() {
        let message = format!("stage {:?} does not end, not even after SIGKILL", stage.name);
        return Some(problem("unkillable", message, None));
    }
    if run.ending.cause() == Some(Cause::Protocol) {
        return Some(problem("protocol", "the caller sent something that is not understood".to_owned(), None));
    }
    if status == Status::Ok || run.job.stages.len() < 2 {
        return None;
    }
    let ending = match end.death {
        Some(Death::Exited(code)) => format!("code {code}"),
        Some(Death::Signaled(signal)) => format!("signal {signal}"),
        None => String::new(),
    };
    Some(problem("stage_failed", format!("stage {:?} ended with {ending}", stage.name), None))
}

/// The report of a job that did not run.
fn refused(refusal: Refusal) -> Report {
    Report {
        status: refusal.status,
        returncode: refusal.returncode,
        signal: None,
        oom_killed: false,
        truncated: Truncated::default(),
        usage: Usage::default(),
        problem: Some(refusal.problem),
    }
}

/// Sends what is left of the output and the report. A caller who stops reading is waited for until the deadline, and
/// a little longer; without a deadline not at all.
fn deliver(
    session: &mut Session<'_>,
    report: &Report,
    channels: Option<[Channel; 2]>,
    deadline: Option<Duration>,
) -> Result<(), Gone> {
    session.desk.feeder.refuse();
    let mut reads = deadline.is_some();
    let mut patience = Patience::new(session, deadline.unwrap_or_default());
    for mut remainder in channels.into_iter().flatten().map(|mut channel| channel.finish()) {
        while reads && !remainder.send(&mut session.caller.outbox) {
            reads = patience.wait(session)?;
        }
    }
    let payload = report_payload(report)?;
    session.caller.send(Kind::Report, &payload);
    session.caller.flush()?;
    while reads && session.caller.outbox.pending() > 0 {
        reads = patience.wait(session)?;
    }
    if reads { Ok(()) } else { Err(Gone::Stalled) }
}

/// For a caller who does not read while there is something for it.
struct Patience {
    /// Until then it may take its time: the job's own deadline.
    deadline: Duration,
    given_up: Duration,
}

impl Patience {
    fn new(session: &Session<'_>, deadline: Duration) -> Self {
        Self { deadline, given_up: session.now().saturating_add(STALL).max(deadline) }
    }

    /// Waits until something happens; `false` when there is no hope left.
    fn wait(&mut self, session: &mut Session<'_>) -> Result<bool, Gone> {
        let waiting = session.caller.outbox.pending();
        session.turn(None, self.given_up)?;
        let now = session.now();
        if session.is_cancelled() && now < self.deadline {
            self.deadline = now;
            self.given_up = now.saturating_add(STALL);
        }
        if session.caller.outbox.pending() < waiting {
            self.given_up = now.saturating_add(STALL).max(self.deadline);
        }
        Ok(now < self.given_up)
    }
}

/// Ends everything, for a caller who is gone.
pub(super) fn abandon(session: &Session<'_>) {
    session.household.strike(Blow::Kill);
}
