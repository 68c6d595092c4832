/*!
The plan: steps as data. Pure, so that `dindctl plan` prints exactly what `entrypoint` applies.
*/
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::Facts;
use super::wants::Wants;
use super::{
    cgroups, dirs, env, firewall, keys, layers, machine, network, pidfiles, privilege, procsys, propagation, rlimits,
    securityfs, tls, tmp, v2,
};

/// Schema name of a serialised [`Plan`]; changes when a field changes its meaning.
pub const PLAN_SCHEMA: &str = "dindctl.plan/v1";

/// The steps in the order in which they are applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: &'static str,
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step: what was found, what is to be done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Stable name, such as `cgroup.v2.delegate`.
    pub id: String,
    /// What the step is about, for people.
    pub title: String,
    /// What was found.
    pub found: String,
    /// What is to be done.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// Whether the preparation fails when the action does; otherwise a failure is a warning. Of a warning: whether the daemon will
    /// hardly work, so that `doctor` calls it a failure.
    pub required: bool,
    /// What the operator can do when it fails.
    pub hint: Option<String>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// All is well already.
    Nothing,
    /// Mount a new file system.
    Mount {
        /// Device or name.
        source: String,
        /// Where; must exist.
        target: PathBuf,
        /// Type.
        fstype: String,
        /// Options of the mount (`nosuid`, …).
        options: Vec<String>,
        /// Options of the file system.
        data: String,
    },
    /// Leave the cgroup namespace for a new one, whose root are the own groups.
    NewCgroupNamespace,
    /// Mount a file system in the place of the one that is there.
    ReplaceMount {
        /// Device or name.
        source: String,
        /// The mount to be replaced.
        target: PathBuf,
        /// Type.
        fstype: String,
        /// Options of the mount.
        options: Vec<String>,
        /// Options of the file system.
        data: String,
    },
    /// Take the read-only flag off one mount.
    RemountReadWrite {
        /// The mount.
        target: PathBuf,
        /// Its options now; all but `ro` are kept.
        options: Vec<String>,
        /// What to mount over it when the flag cannot be taken off; `None` when a new mount would show other content.
        fresh: Option<FreshMount>,
    },
    /// Make the mount and all below it shared.
    MakeShared {
        /// The mount.
        target: PathBuf,
    },
    /// Create a folder and those above it.
    CreateDir {
        /// The folder.
        path: PathBuf,
        /// Permission bits of the last folder, whether it was there or not; written in octal.
        #[serde(serialize_with = "octal")]
        mode: u32,
    },
    /// Write a value into an existing file of the kernel.
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
    },
    /// Create the group `to` and move all processes of `from` into it.
    Evacuate {
        /// A cgroup v2 folder.
        from: PathBuf,
        /// A folder below it.
        to: PathBuf,
    },
    /// Let the children of a cgroup v2 group use these controllers.
    Delegate {
        /// The group.
        group: PathBuf,
        /// Where processes go that enter the group meanwhile; `None` for the machine's root, which may keep them.
        leaf: Option<PathBuf>,
        /// The controllers.
        controllers: Vec<String>,
    },
    /// dockerd's configuration gets this value. Planned only where the operator has not told dockerd something else
    /// ([`super::Told`]).
    SetDaemonOption {
        /// Key of daemon.json.
        key: String,
        /// Its value.
        value: serde_json::Value,
    },
    /// Make certificates, in a process of its own.
    IssueCertificates {
        /// The folder.
        directory: PathBuf,
        /// What is made and why: `server (names or addresses are new)`.
        parts: String,
    },
    /// Remove a file.
    RemoveFile {
        /// The file.
        path: PathBuf,
    },
    /// Set a variable in the environment of everything that is started.
    SetEnv {
        /// Name.
        name: String,
        /// Value.
        value: String,
    },
    /// Link programs in a folder of their own, in the place of what is there, and look in it first.
    LinkPrograms {
        /// The folder.
        folder: PathBuf,
        /// Name and program.
        links: Vec<(String, PathBuf)>,
        /// `PATH` as it is.
        path: String,
    },
    /// Set the limit of open files (`RLIMIT_NOFILE`) of this process and all it starts.
    SetOpenFiles {
        /// The limit in force.
        soft: u64,
        /// How far a process may raise its own.
        hard: u64,
    },
    /// Nothing can be done about it from here, and it does not stop the daemon.
    Warn {
        /// What is wrong.
        message: String,
    },
    /// The daemon could not work: nothing is applied at all.
    Fail {
        /// What is wrong.
        cause: String,
    },
}

/// A mount of the same hierarchy made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FreshMount {
    /// Device or name.
    pub source: String,
    /// Type.
    pub fstype: String,
    /// Options of the file system.
    pub data: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference.
fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// `1 process`, `2 processes`.
pub(crate) fn processes(count: usize) -> String {
    if count == 1 { "1 process".into() } else { format!("{count} processes") }
}

impl Step {
    /// An optional step that has nothing to do.
    pub(crate) fn nothing(id: impl Into<String>, title: &str, found: impl Into<String>, reason: &str) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            found: found.into(),
            action: Action::Nothing,
            reason: reason.into(),
            required: false,
            hint: None,
        }
    }

    pub(crate) fn does(self, action: Action) -> Self {
        Self { action, ..self }
    }

    pub(crate) fn warns(self, message: impl Into<String>) -> Self {
        self.does(Action::Warn { message: message.into() })
    }

    /// The step refuses the whole preparation.
    pub(crate) fn fails(self, cause: impl Into<String>) -> Self {
        self.does(Action::Fail { cause: cause.into() }).required()
    }

    pub(crate) fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Plan {
    /// The steps that refuse the preparation.
    pub fn failures(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| matches!(step.action, Action::Fail { .. }))
    }

    /// The steps that would change something.
    pub fn changes(&self) -> impl Iterator<Item = &Step> {
        self.steps
            .iter()
            .filter(|step| !matches!(step.action, Action::Nothing | Action::Warn { .. } | Action::Fail { .. }))
    }

    /// Whether another plan has to follow once this one is applied.
    pub fn continues(&self) -> bool {
        self.step(v2::DECIDED_LATER).is_some()
    }

    /// The step of that name.
    pub fn step(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == id)
    }
}

/// Decides what is to be done.
pub fn plan(facts: &Facts, wants: &Wants) -> Plan {
    let steps = [
        machine::steps(facts, wants),
        privilege::steps(facts, wants),
        env::steps(facts, wants),
        procsys::steps(facts, wants),
        facts.tls.iter().zip(&wants.tls).map(|(facts, wishes)| tls::step::step(facts, wishes)).collect(),
        rlimits::steps(facts, wants),
        keys::steps(facts, wants),
        facts.firewall.iter().flat_map(|found| firewall::steps(found, wants)).collect(),
        facts.network.iter().flat_map(|found| network::steps(found, facts.network_defaults, wants)).collect(),
        dirs::steps(facts, wants),
        layers::steps(facts, wants),
        pidfiles::steps(facts, wants),
        cgroups::steps(facts, wants),
        if wants.rootless { Vec::new() } else { securityfs::steps(facts) },
        tmp::steps(facts, wants),
        // Last, so that the mounts made above are shared as well.
        propagation::steps(facts),
    ];
    Plan { schema: PLAN_SCHEMA, steps: steps.into_iter().flatten().collect() }
}

impl Action {
    /// The action in a few words, for tables.
    pub fn describe(&self) -> String {
        let show = |path: &Path| path.display().to_string();
        match self {
            Self::Nothing => "nothing".into(),
            Self::Mount { target, fstype, .. } => format!("mount {fstype} on {}", show(target)),
            Self::NewCgroupNamespace => "make a cgroup namespace".into(),
            Self::ReplaceMount { target, fstype, .. } => format!("mount {fstype} in the place of {}", show(target)),
            Self::RemountReadWrite { target, .. } => format!("remount {} read-write", show(target)),
            Self::MakeShared { target } => format!("make {} shared, recursively", show(target)),
            Self::CreateDir { path, mode } => format!("create {} with mode {mode:04o}", show(path)),
            Self::Write { path, value } => format!("write {value:?} to {}", show(path)),
            Self::Evacuate { from, to } => format!("move the processes of {} to {}", show(from), show(to)),
            Self::Delegate { group, controllers, .. } => {
                format!("hand {} on from {}", controllers.join(", "), show(group))
            }
            Self::SetDaemonOption { key, value } => format!("configure dockerd with {key}={value}"),
            Self::IssueCertificates { directory, parts } => {
                format!("make certificates in {}: {parts}", show(directory))
            }
            Self::RemoveFile { path } => format!("remove {}", show(path)),
            Self::SetEnv { name, value } => format!("export {name}={value}"),
            Self::LinkPrograms { folder, .. } => format!("look for programs in {} first", show(folder)),
            Self::SetOpenFiles { soft, hard } => format!("allow {soft} open files (at most {hard})"),
            Self::Warn { message } => format!("warn: {message}"),
            Self::Fail { cause } => format!("refuse: {cause}"),
        }
    }
}
