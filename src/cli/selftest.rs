//! `dindctl selftest`: exit code 0 when no limit was missed, 1 when one was, 125 for usage and daemon errors.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use clap::Args;

use super::Environment;
use super::say::{self, Level, Voice};
use crate::exec::daemon::{self, Daemon};
use crate::exec::endpoint::{self, Endpoint};
use crate::exec::error::ExecError;
use crate::exec::lease::{self, Owner};
use crate::exec::locality::{self, Locality};
use crate::exec::rejection::{Rejection, nearest};
use crate::exec::terminal::Signals;
use crate::exec::{delivery, exit, gc};
use crate::probe::host::{self, Host};
use crate::probe::{Roots, cgroup_path, controllers, mountinfo};
use crate::selftest::catalog::{Check, Machine, Subject, checks};
use crate::selftest::judge::Verdict;
use crate::selftest::junit;
use crate::selftest::place::{self, Engine};
use crate::selftest::report::{Report, Row, SCHEMA, verdict};
use crate::selftest::trial::Bench;

/// Exit code when a limit was missed.
const MISSED: u8 = 1;
/// After so many seconds nobody needs a container of ours.
const LEASE: u64 = 600;

/// Starts containers with limits and measures what they really get.
#[derive(Debug, Clone, Default, Args)]
pub struct SelftestArgs {
    /// What to try: cpu, memory, swap, pids, io [default: all]
    #[arg(value_name = "CHECK")]
    pub checks: Vec<String>,
    /// text, json or junit
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Junit,
}

/// Runs it.
pub fn run(args: &SelftestArgs, voice: Voice) -> u8 {
    let begun = Instant::now();
    let outcome = form(&args.output).and_then(|form| Ok((form, subjects(&args.checks)?))).map_err(ExecError::from);
    let outcome = outcome.and_then(|(form, subjects)| {
        let (env, endpoint) = surroundings()?;
        let runtime = daemon::runtime()?;
        let report = runtime.block_on(async {
            let daemon = daemon::connect(endpoint, &env, &voice.waits()).await?;
            let mut signals = Signals::listen().map_err(ExecError::local("listen to signals"))?;
            on_daemon(&daemon, &env, &subjects, &mut signals, voice, begun).await
        })?;
        Ok((form, report))
    });
    match outcome {
        Ok((form, report)) => print(&report, form, voice),
        Err(ExecError::Interrupted(signal)) => {
            voice.fail_with("interrupted; what was started is removed", None);
            exit::of_signal(signal)
        }
        Err(error) => {
            voice.fail(&error, error.hint().as_deref());
            exit::OWN
        }
    }
}

fn form(typed: &str) -> Result<Form, Rejection> {
    match typed {
        "text" => Ok(Form::Text),
        "json" => Ok(Form::Json),
        "junit" => Ok(Form::Junit),
        _ => Err(Rejection::new("--output", typed, "is not a form").with_hint("choose text, json or junit")),
    }
}

fn subjects(typed: &[String]) -> Result<Vec<Subject>, Rejection> {
    let mut subjects = Vec::new();
    for name in typed {
        let subject = Subject::named(name).ok_or_else(|| {
            let known = Subject::ALL.map(Subject::name);
            let meant = nearest(name, known).map(|name| format!("did you mean {name}? "));
            let hint = format!("{}there are {}", meant.unwrap_or_default(), known.join(", "));
            Rejection::new("selftest", name.clone(), "is no check").with_hint(hint)
        })?;
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    Ok(if subjects.is_empty() { Subject::ALL.to_vec() } else { subjects })
}

fn surroundings() -> Result<(BTreeMap<String, String>, Endpoint), ExecError> {
    let env = Environment::of_process().texts();
    let endpoint = endpoint::from_env(&env)?;
    Ok((env, endpoint))
}

async fn on_daemon(
    daemon: &Daemon,
    env: &BTreeMap<String, String>,
    subjects: &[Subject],
    signals: &mut Signals,
    voice: Voice,
    begun: Instant,
) -> Result<Report, ExecError> {
    let run = super::exec::new_id()?;
    let image = delivery::image(&daemon.docker).await?;
    let outcome = tokio::select! {
        biased;
        number = signals.stop() => Err(ExecError::Interrupted(number)),
        rows = all(daemon, subjects, &run) => rows,
    };
    // An interrupted creation may still come to its end.
    let cleaned = gc::remove_run(&daemon.docker, &run, outcome.is_ok()).await;
    if image.brought {
        delivery::forget_image(&daemon.docker, &image.name).await?;
    }
    let (engine, rows) = outcome?;
    if let Err(error) = cleaned {
        voice.say(Level::Warn, &format!("{}; dindctl gc removes what is left", error.problem().message));
    }
    Ok(Report {
        schema: SCHEMA,
        dindctl: super::VERSION,
        verdict: verdict(&rows),
        host: here(env).into(),
        engine,
        checks: rows,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

async fn all(daemon: &Daemon, subjects: &[Subject], run: &str) -> Result<(Engine, Vec<Row>), ExecError> {
    let roots = Roots::system();
    let engine = Engine::ask(&daemon.docker).await?;
    let beside = matches!(locality::locate(daemon.peer, &roots.proc), Locality::Local(_));
    let disk = if beside {
        place::disk(&roots, &engine.data_root)
    } else {
        Err("the daemon's disks cannot be seen from here".to_owned())
    };
    let machine = Machine { cpus: engine.cpus, disk: disk.clone().ok() };
    let bench = Bench {
        docker: &daemon.docker,
        labels: lease::labels(run, Owner::ourselves(Path::new("/proc")).ok().as_ref(), gc::now() + LEASE),
        roots: &roots,
        same_kernel: daemon.peer.is_some(),
    };
    let mut rows = Vec::new();
    for check in checks(subjects, &machine) {
        if engine.cgroup_driver == "none" {
            rows.push(Row::failed(
                &check,
                "the daemon has no control groups (cgroup driver none), so it keeps no limit",
            ));
            continue;
        }
        rows.push(match without_sense(&check, &bench, disk.as_ref().err()) {
            Some(why) => Row::skipped(&check, why),
            None => bench.run(&check).await?,
        });
    }
    Ok((engine, rows))
}

/// Why a check shows nothing on this machine.
fn without_sense(check: &Check, bench: &Bench<'_>, no_disk: Option<&String>) -> Option<String> {
    match check.subject {
        Subject::Swap if !bench.same_kernel => {
            Some("whether the daemon's machine has swap cannot be seen from here".into())
        }
        Subject::Swap => match place::swap(bench.roots) {
            Some(0) => Some("the machine has no swap".into()),
            Some(_) => None,
            None => Some("whether the machine has swap cannot be seen".into()),
        },
        Subject::Io if no_disk.is_some() => no_disk.cloned(),
        Subject::Io => {
            let known = controllers::kernel(bench.roots).ok()?;
            let there = known.iter().any(|controller| ["blkio", "io"].contains(&controller.name.as_str()));
            (!there).then(|| "this kernel cannot limit input and output".into())
        }
        _ => None,
    }
}

fn here(env: &BTreeMap<String, String>) -> Host {
    let roots = Roots::system();
    let mounts = mountinfo::own(&roots).unwrap_or_default();
    let groups = cgroup_path::own(&roots).unwrap_or_default();
    host::look(&roots, &mounts, &groups, env)
}

fn print(report: &Report, form: Form, voice: Voice) -> u8 {
    let text = match form {
        Form::Text => Ok(report.text()),
        Form::Json => serde_json::to_string(report).map_err(|error| error.to_string()),
        Form::Junit => junit::write(report).map_err(|error| error.to_string()),
    };
    match text {
        Ok(text) => say::result(text.trim_end()),
        Err(why) => {
            voice.fail_with(&format!("cannot write the report: {why}"), None);
            return exit::OWN;
        }
    }
    if report.verdict == Verdict::Fail { MISSED } else { 0 }
}
