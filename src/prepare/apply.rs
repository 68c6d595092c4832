/*!
Doing what the plan says: every step once, in order, timed. A required step that fails ends it; an optional one is
reported as a warning and nothing is swallowed.
*/
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::Serialize;

use super::delegate;
use super::error::{CallError, PrepareError};
use super::plan::{Action, FreshMount, Plan, Step};
use super::system::System;

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There was nothing to do.
    Unchanged,
    /// Done.
    Done,
    /// Not done, or not wholly; see the warnings.
    Warned,
}

/// What has to be said although the preparation goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Name of the step.
    pub step: String,
    /// What happened.
    pub message: String,
    /// What the operator can do.
    pub hint: Option<String>,
}

/// One applied step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Name of the step.
    pub id: String,
    /// What came of it.
    pub status: Status,
    /// How long it took, microseconds.
    pub micros: u64,
    /// What was done in detail (`moved 7 processes in 2 rounds`).
    pub notes: Vec<String>,
}

/// The result of the preparation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// All steps.
    pub steps: Vec<Outcome>,
    /// What has to be said.
    pub warnings: Vec<Warning>,
    /// Variables for the environment of everything that is started from now on.
    pub environment: Vec<(String, String)>,
    /// What dockerd is configured with, by key of daemon.json.
    pub daemon_options: BTreeMap<String, serde_json::Value>,
    /// All steps together, microseconds.
    pub micros: u64,
}

/// What happens while one step is applied.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) remarks: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// What would mend it, where what happened tells more than the step could know before.
    pub(super) hint: Option<&'static str>,
}

/// Applies the plan. Where the plan itself refuses, nothing is changed at all.
pub fn apply(plan: &Plan, system: &mut dyn System) -> Result<Applied, PrepareError> {
    if let Some(step) = plan.failures().next()
        && let Action::Fail { cause } = &step.action
    {
        return Err(PrepareError::Refused { step: step.id.clone(), cause: cause.clone(), hint: step.hint.clone() });
    }
    let mut applied = Applied::default();
    let mut stuck: Vec<PathBuf> = Vec::new();
    let start = system.now();
    for step in &plan.steps {
        system.at(&step.title);
        let began = system.now();
        let mut notes = Notes::default();
        if let Err(error) = perform(step, system, &mut applied, &mut stuck, &mut notes) {
            if step.required {
                return Err(PrepareError::Step {
                    step: step.id.clone(),
                    error: Box::new(error),
                    hint: step.hint.clone(),
                });
            }
            notes.warnings.push(error.to_string());
        }
        let status = match (&step.action, notes.warnings.is_empty()) {
            (_, false) => Status::Warned,
            (Action::Nothing, true) => Status::Unchanged,
            (_, true) => Status::Done,
        };
        let hint = notes.hint.map(str::to_owned).or_else(|| step.hint.clone());
        let warning = |message| Warning { step: step.id.clone(), message, hint: hint.clone() };
        applied.warnings.extend(notes.warnings.into_iter().map(warning));
        let micros = micros(system.now().saturating_sub(began));
        applied.steps.push(Outcome { id: step.id.clone(), status, micros, notes: notes.remarks });
    }
    applied.micros = micros(system.now().saturating_sub(start));
    Ok(applied)
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn perform(
    step: &Step,
    system: &mut dyn System,
    applied: &mut Applied,
    stuck: &mut Vec<PathBuf>,
    notes: &mut Notes,
) -> Result<(), CallError> {
    match &step.action {
        // Failures were answered before the first step.
        Action::Nothing | Action::Fail { .. } => Ok(()),
        Action::Warn { message } => {
            notes.warnings.push(message.clone());
            Ok(())
        }
        Action::Mount { source, target, fstype, options, data } => system
            .mount(source, target, fstype, options, data)
            .map_err(|errno| call(format!("mount {fstype} on"), target, errno)),
        Action::NewCgroupNamespace => new_namespace(system),
        Action::ReplaceMount { source, target, fstype, options, data } => {
            let Err(errno) = system.unmount(target) else {
                return system
                    .mount(source, target, fstype, options, data)
                    .map_err(|errno| call(format!("mount {fstype} on"), target, errno));
            };
            // In a user namespace inherited mounts are locked (EINVAL); a new one may still hide them.
            notes.remarks.push(format!("{}; mounted over it", call("unmount", target, errno)));
            system
                .mount_over(source, target, fstype, options, data)
                .map_err(|errno| call(format!("mount {fstype} over what is on"), target, errno))
        }
        Action::RemountReadWrite { target, options, fresh } => remount(system, target, options, fresh.as_ref(), notes),
        Action::MakeShared { target } => {
            system.make_shared(target).map_err(|errno| call("share, recursively, the mount", target, errno))
        }
        Action::CreateDir { path, mode } => {
            system.create_dir(path, Some(*mode)).map_err(|errno| call("create the folder", path, errno))
        }
        Action::Write { path, value } => {
            system.write(path, value).map_err(|errno| call(format!("write {value:?} to"), path, errno))
        }
        Action::Evacuate { from, to } => delegate::evacuate_step(system, from, to, notes).inspect_err(|_| {
            stuck.push(from.clone());
        }),
        Action::Delegate { group, leaf, controllers } => {
            if stuck.contains(group) {
                let skipped = format!("{} not handed on: the processes are still in the group", controllers.join(", "));
                notes.warnings.push(skipped);
                notes.hint = Some("the warning before this one says what stands in the way");
                return Ok(());
            }
            delegate::delegate_step(system, group, leaf.as_deref(), controllers, notes);
            Ok(())
        }
        Action::SetDaemonOption { key, value } => {
            applied.daemon_options.insert(key.clone(), value.clone());
            Ok(())
        }
        Action::IssueCertificates { directory, .. } => match system.issue_certificates() {
            Ok(0) => Ok(()),
            Ok(code) => Err(call("make certificates in", directory, Errno::ECANCELED)
                .because(format!("the line above says why, exit code {code}"))),
            Err(errno) => Err(call("start the process that makes certificates in", directory, errno)),
        },
        Action::RemoveFile { path } => match system.remove_file(path) {
            // Gone already is what was wanted.
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(call("remove", path, errno)),
        },
        Action::SetEnv { name, value } => {
            applied.environment.push((name.clone(), value.clone()));
            Ok(())
        }
        Action::LinkPrograms { folder, links, path } => {
            system.create_dir(folder, Some(0o755)).map_err(|errno| call("create the folder", folder, errno))?;
            for (name, program) in links {
                let link = folder.join(name);
                system.link(program, &link).map_err(|errno| call("make the link", &link, errno))?;
            }
            applied.environment.push(("PATH".into(), format!("{}:{path}", folder.display())));
            Ok(())
        }
        Action::SetOpenFiles { soft, hard } => system
            .set_open_files(*soft, *hard)
            .map_err(|errno| call(format!("allow {soft} open files (at most {hard}) for"), "/proc/self/limits", errno)),
    }
}

fn new_namespace(system: &mut dyn System) -> Result<(), CallError> {
    let Err(errno) = system.new_cgroup_namespace() else { return Ok(()) };
    let failed = call("leave the cgroup namespace", "/proc/self/ns/cgroup", errno);
    // What unshare(2) and user_namespaces(7) say of it.
    Err(match errno {
        Errno::EINVAL => failed.because("the kernel has none"),
        Errno::ENOSPC => failed.because("user.max_cgroup_namespaces is reached"),
        _ => failed,
    })
}

fn remount(
    system: &mut dyn System,
    target: &Path,
    options: &[String],
    fresh: Option<&FreshMount>,
    notes: &mut Notes,
) -> Result<(), CallError> {
    let Err(refused) = system.remount_read_write(target, options) else { return Ok(()) };
    let failed = call("remount read-write", target, refused);
    // In a user namespace the flags of inherited mounts are locked (EPERM), and a new mount is allowed.
    let Some(fresh) = fresh else { return Err(failed) };
    let kept: Vec<String> = options.iter().filter(|option| *option != "ro").cloned().collect();
    match system.mount_over(&fresh.source, target, &fresh.fstype, &kept, &fresh.data) {
        Ok(()) => {
            notes.remarks.push(format!("{failed}; mounted {} anew over it", fresh.fstype));
            Ok(())
        }
        Err(errno) => Err(failed.because(format!("and mounting {} anew over it: {errno}", fresh.fstype))),
    }
}

fn call(doing: impl Into<String>, path: impl Into<PathBuf>, errno: Errno) -> CallError {
    CallError::new(doing, path, errno)
}
