//! `dindctl doctor`: exit code 0 when the daemon could work, 1 when it could not, 125 for usage and configuration errors.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::daemon::Launch;
use super::say::result;
use super::{OutputFormat, places, preparation};
use crate::doctor::check::{Check, Verdict, worst};
use crate::doctor::sight::{self, Running, Sight};
use crate::doctor::{docs, examine};
use crate::engine::ping::ping;
use crate::init::state::SupervisorState;
use crate::probe::host::{self, Host};
use crate::probe::{Roots, cgroup_path, mountinfo};

/// Name and version of the JSON form.
const SCHEMA: &str = "dindctl.doctor/v1";
/// Exit code when the daemon could not work.
const SICK: u8 = 1;
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells what is wrong here, and how to mend it.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
    /// Show what is well too
    #[arg(short, long)]
    all: bool,
    /// What would be given to `entrypoint`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<OsString>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    dindctl: &'static str,
    verdict: Verdict,
    host: &'a Host,
    checks: &'a [Check],
}

/// Runs it.
pub fn run(arguments: DoctorArgs, launch: &Launch<'_>) -> u8 {
    let sight = match look(launch, arguments.arguments) {
        Ok(sight) => sight,
        Err(failure) => return failure.report(launch.voice),
    };
    let checks = examine(&sight);
    let verdict = worst(&checks);
    match arguments.output {
        OutputFormat::Json => {
            let report =
                Report { schema: SCHEMA, dindctl: super::VERSION, verdict, host: &sight.host, checks: &checks };
            result(&serde_json::json!(report).to_string());
        }
        OutputFormat::Text => result(&text(&checks, arguments.all)),
    }
    if verdict == Verdict::Fail { SICK } else { 0 }
}

fn look(launch: &Launch<'_>, arguments: Vec<OsString>) -> Result<Sight, super::failure::Failure> {
    let roots = Roots::system();
    let host = here(launch, &roots);
    let plan = preparation::foresee(launch, arguments)?;
    let path = preparation::firewall_wishes(&launch.environment).path;
    Ok(Sight {
        running: running(launch),
        kernel: sight::kernel(&roots, &host.kernel),
        sysctl: sight::sysctls(&roots),
        apparmor: sight::apparmor(&roots, &path),
        devices: sight::devices(&roots),
        programs: sight::programs(&path),
        rootless: !nix::unistd::geteuid().is_root(),
        host,
        plan,
    })
}

fn here(launch: &Launch<'_>, roots: &Roots) -> Host {
    let text = |(name, value): &(OsString, OsString)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()));
    let environment: BTreeMap<String, String> = launch.environment.pairs().iter().filter_map(text).collect();
    let mounts = mountinfo::own(roots).unwrap_or_default();
    let groups = cgroup_path::own(roots).unwrap_or_default();
    host::look(roots, &mounts, &groups, &environment)
}

fn running(launch: &Launch<'_>) -> Running {
    let path = places::state_path(&launch.environment);
    let state = match SupervisorState::read(&path) {
        Ok(state) if Path::new("/proc").join(state.pid.to_string()).exists() => state,
        Ok(_) => return Running::Nothing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Running::Nothing,
        Err(error) => return Running::Unreadable(format!("cannot read {}: {error}", path.display())),
    };
    let usual = super::health::default_address(&launch.environment);
    let address = super::health::address(&state.listen).unwrap_or(usual);
    let answer = ping(&address, PATIENCE).map(|taken| taken.as_secs_f64() * 1e3).map_err(|error| error.to_string());
    Running::Supervised { state, answer }
}

fn text(checks: &[Check], all: bool) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let word = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
            Verdict::Skipped => "-",
        };
        if check.verdict <= Verdict::Ok && !all {
            continue;
        }
        lines.push(format!("{word:4}  {}: {}", check.id, check.finding));
        if check.verdict > Verdict::Ok {
            lines.push(format!("      why:  {}", check.reason));
            lines.extend(check.hint.iter().map(|hint| format!("      do:   {hint}")));
            lines.extend(docs::section(&check.id).map(|_| format!("      more: {}", check.docs)));
        }
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    let able = if failed == 0 { "the daemon can work" } else { "the daemon could not work" };
    let more = if all { "" } else { "; --all shows every check" };
    let (fine, unknown) = (count(Verdict::Ok), count(Verdict::Skipped));
    let warnings = if warned == 1 { "warning" } else { "warnings" };
    lines.push(format!("{able}: {failed} failed, {warned} {warnings}, {fine} ok, {unknown} not known{more}"));
    lines.join("\n")
}
