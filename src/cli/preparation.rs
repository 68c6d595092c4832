/*!
`dindctl prepare` and `dindctl plan`: the preparation by itself, done or only told.
*/
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;

use super::config::Config;
use super::daemon::{self, Launch};
use super::failure::Failure;
use super::say::{Level, Voice, result};
use super::{Environment, OutputFormat, entrypoint};
use crate::engine::{containerd, dockerd};
use crate::prepare::namespace::NEW_CGROUP_NAMESPACE;
use crate::prepare::patience::LIMIT;
use crate::prepare::{
    self, Applied, CgroupNamespace, Facts, FirewallWishes, LayerWishes, Linux, NetworkWishes, Patience, Plan, TmpWish,
    Wants,
};
use crate::probe::Roots;
use crate::probe::firewall::Choice;
use crate::sys::inheritance::Inheritance;
use crate::sys::memory::one_heap;
use crate::sys::spawn::{DEFAULT_PATH, Spawn, exec, look_up};

/// What was typed after `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
    /// What would be given to `entrypoint`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<OsString>,
}

/// What was typed after `prepare`.
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// The command that replaces this process when the preparation is done
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What the settings ask of the preparation.
pub fn wants(config: &Config, daemon: bool, data_root: PathBuf, containerd_root: PathBuf) -> Result<Wants, Failure> {
    let tmp: TmpWish = config.get("prepare.tmp").parse().map_err(|why: String| Failure::new(why, "set DINDCTL_TMP"))?;
    let cgroup_namespace = config
        .get("prepare.cgroup_namespace")
        .parse()
        .map_err(|why: String| Failure::new(why, "set DINDCTL_CGROUP_NAMESPACE"))?;
    let apparmor =
        config.get("prepare.apparmor").parse().map_err(|why: String| Failure::new(why, "set DINDCTL_APPARMOR"))?;
    Ok(Wants { daemon, tmp, cgroup_namespace, apparmor, data_root, containerd_root, ..Wants::default() })
}

/// What the packet filter is chosen by: `DOCKER_IPTABLES_LEGACY`, set and empty or not, as the official image has it.
pub fn firewall_wishes(environment: &Environment) -> FirewallWishes {
    let choice = match environment.get("DOCKER_IPTABLES_LEGACY") {
        None => Choice::Any,
        Some(value) if value.is_empty() => Choice::Nft,
        Some(_) => Choice::Legacy,
    };
    let path = environment.get("PATH").map_or_else(|| DEFAULT_PATH.into(), OsStr::to_owned);
    FirewallWishes { choice, path }
}

/// What the layers of images may be kept with.
pub fn layer_wishes(environment: &Environment) -> LayerWishes {
    let driver = environment.text("DOCKER_DRIVER").map(str::to_owned);
    LayerWishes { driver, path: firewall_wishes(environment).path }
}

/// What nested networks are to be like.
pub fn network_wishes(config: &Config, environment: &Environment) -> NetworkWishes {
    NetworkWishes { mtu: config.get("daemon.mtu").parse().ok(), path: firewall_wishes(environment).path }
}

/// Looks and plans.
pub fn decide(wants: &Wants, environment: &Environment) -> Result<Plan, Failure> {
    let container = environment.text("container").map(str::to_owned);
    let facts = Facts::gather(&Roots::system(), wants, container)?;
    Ok(prepare::plan(&facts, wants))
}

/// Looks, plans and applies.
pub fn apply(wants: &Wants, environment: &mut Environment, voice: Voice) -> Result<Applied, Failure> {
    one_heap();
    let patience = patience(voice);
    let plan = decide(wants, environment)?;
    match prepare::apply(&plan, &mut Linux::watched(&patience)) {
        // The steps before it may be done twice, and none of those after it was reached.
        Err(error) if error.step() == NEW_CGROUP_NAMESPACE => {
            voice.say(Level::Warn, &format!("{error}; only dockerd's cgroup-parent keeps nested containers inside"));
            let wants = Wants { cgroup_namespace: CgroupNamespace::Keep, ..wants.clone() };
            carry_out_watched(&decide(&wants, environment)?, environment, voice, &patience)
        }
        applied => {
            let applied = tell(applied?, environment, voice);
            // The second plan finds the rest of the first one done.
            if plan.continues() {
                carry_out_watched(&decide(wants, environment)?, environment, voice, &patience)
            } else {
                Ok(applied)
            }
        }
    }
}

/// A watch over what takes long, beginning with a look around.
fn patience(voice: Voice) -> Patience {
    let patience = Patience::new(LIMIT, move |text| voice.say(Level::Info, text));
    patience.at("the look at mounts, control groups, packet filter, data root and certificates");
    patience
}

/// Applies a plan; what has to be said is said, and `environment` gets what the plan exports.
pub fn carry_out(plan: &Plan, environment: &mut Environment, voice: Voice) -> Result<Applied, Failure> {
    carry_out_watched(plan, environment, voice, &patience(voice))
}

fn carry_out_watched(
    plan: &Plan,
    environment: &mut Environment,
    voice: Voice,
    patience: &Patience,
) -> Result<Applied, Failure> {
    Ok(tell(prepare::apply(plan, &mut Linux::watched(patience))?, environment, voice))
}

fn tell(applied: Applied, environment: &mut Environment, voice: Voice) -> Applied {
    for warning in &applied.warnings {
        voice.say(Level::Warn, &warning.message);
        if let Some(hint) = &warning.hint {
            voice.say(Level::Hint, hint);
        }
    }
    for step in &applied.steps {
        voice.say(Level::Debug, &format!("{}: {:?} in {} µs", step.id, step.status, step.micros));
        for note in &step.notes {
            voice.say(Level::Debug, &format!("{}: {note}", step.id));
        }
    }
    for (name, value) in &applied.environment {
        environment.set(name, value.as_str());
    }
    applied
}

/// `dindctl prepare [--] CMD…`.
pub fn run_prepare(arguments: PrepareArgs, environment: &Environment, config: &Config, voice: Voice) -> u8 {
    let Some(name) = arguments.command.first() else {
        // The script that this replaces answers the same way, with exit code 0; nothing was prepared for nobody.
        voice.fail_with("no command given", Some("dindctl prepare -- CMD [ARG…]"));
        return super::FAILED;
    };
    // What is wrong with it is told before anything is prepared for it.
    let program = match look_up(name, environment.get("PATH")) {
        Ok(program) => program,
        Err(error) => return Failure::from(error).report(voice),
    };
    let mut environment = environment.clone();
    let prepared = wants(config, false, dockerd::DEFAULT_DATA_ROOT.into(), containerd::DEFAULT_ROOT.into())
        .and_then(|wants| apply(&wants, &mut environment, voice));
    if let Err(failure) = prepared {
        return failure.report(voice);
    }
    let spawn = Spawn { program, argv: arguments.command, env: environment.into_pairs(), ..Spawn::default() }
        .with_signals_of(&Inheritance::of_process());
    Failure::from(exec(&spawn)).report(voice)
}

/// `dindctl plan`.
pub fn run_plan(arguments: PlanArgs, launch: &Launch<'_>) -> u8 {
    let plan = match foresee(launch, arguments.arguments) {
        Ok(plan) => plan,
        Err(failure) => return failure.report(launch.voice),
    };
    match arguments.output {
        OutputFormat::Json => result(&serde_json::json!(plan).to_string()),
        OutputFormat::Text => result(&table(&plan)),
    }
    0
}

/// The plan of `entrypoint` with these arguments.
pub fn foresee(launch: &Launch<'_>, arguments: Vec<OsString>) -> Result<Plan, Failure> {
    let daemon = entrypoint::daemon(arguments).map_err(|word| {
        let message = format!("entrypoint would only run {}, and prepare nothing", word.to_string_lossy());
        Failure::new(message, "give flags of dockerd, or nothing")
    })?;
    daemon::foresee(launch, daemon)
}

/// One block a step: what, found, what would be done, why.
fn table(plan: &Plan) -> String {
    let blocks: Vec<String> = plan
        .steps
        .iter()
        .map(|step| {
            let required = if step.required { "" } else { " (optional)" };
            let mut lines = vec![
                format!("{}: {}{required}", step.id, step.title),
                format!("  found:  {}", step.found),
                format!("  action: {}", step.action.describe()),
                format!("  reason: {}", step.reason),
            ];
            lines.extend(step.hint.iter().map(|hint| format!("  hint:   {hint}")));
            lines.join("\n")
        })
        .collect();
    blocks.join("\n")
}
