/*!
The cells: one set-up each, and what the preparation has to make of it.
*/
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dindctl::prepare::{Action, Applied, CgroupNamespace, Facts, Linux, Plan, Status, Wants, apply, plan};
use dindctl::probe::Roots;
use dindctl::probe::cgroup::Place;
use nix::mount::MsFlags;

use crate::guest::{CGROUP, INIT, start};
use crate::{host_namespace, v1};

/// Which cgroup namespace the cell runs in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// None: in the root group of the machine, without any namespace.
    Machine,
    /// Its own.
    Private,
    /// The machine's, but a pid and a mount namespace of its own.
    Host,
}

/// Which machine the cell runs on: a kernel and what it mounts when it boots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// Version 2 on `/sys/fs/cgroup`, the newer kernel.
    V2,
    /// Version 1, and version 2 beside it on `/sys/fs/cgroup/unified`. Kernels after 6.11 can be built, and in Debian
    /// are, without memory and cpuset for version 1, so this is an older one.
    V1,
}

impl Machine {
    pub const ALL: [Self; 2] = [Self::V2, Self::V1];

    /// What the kernel's command line calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
        }
    }
}

pub struct Cell {
    pub name: &'static str,
    pub machine: Machine,
    pub namespace: Namespace,
    /// A group above the cell's own one.
    pub above: &'static str,
    /// Set-up of the cell's group, from outside.
    pub outside: fn(&Path),
    /// Whether the container is moved to another group, outside of its cgroup namespace.
    pub elsewhere: bool,
    /// Flags of the container's cgroup mounts.
    pub mount_flags: MsFlags,
    /// Whether a runtime mounts the own groups, as it does in a private namespace, and on version 1 without one;
    /// otherwise the machine's mounts are seen.
    pub mounts: bool,
    /// Version 1 hierarchies that the container does not get.
    pub without: &'static [&'static str],
    /// Whether a process of another pid namespace stays in the group.
    pub foreign: bool,
    pub body: fn(),
}

impl Cell {
    pub fn group(&self) -> PathBuf {
        Path::new(self.above).join(self.name)
    }
}

pub const fn cell(name: &'static str, body: fn()) -> Cell {
    Cell {
        name,
        machine: Machine::V2,
        namespace: Namespace::Private,
        above: "",
        outside: |_| {},
        elsewhere: false,
        mount_flags: MsFlags::empty(),
        mounts: true,
        without: &[],
        foreign: false,
        body,
    }
}

/// All cells, those of each machine in the order in which it runs them.
pub fn all() -> impl Iterator<Item = &'static Cell> {
    V2.iter().chain(host_namespace::CELLS).chain(v1::CELLS)
}

/// The root of the machine comes first: it hands on what all the others need.
const V2: &[Cell] = &[
    Cell { namespace: Namespace::Machine, ..cell("machine_root", machine_root) },
    cell("normal", normal),
    cell("storm", storm),
    cell("ending_process", ending_process),
    Cell { mount_flags: MsFlags::MS_RDONLY, ..cell("read_only_by_runtime", read_only) },
    cell("read_only_mount", read_only_mount),
    Cell { above: "few", outside: few, ..cell("missing_in_parent", missing_in_parent) },
    Cell { above: "few", outside: few, ..cell("storm_with_threaded_controllers_only", threaded_storm) },
    Cell { above: "bare", ..cell("nothing_in_parent", nothing_in_parent) },
    Cell { outside: make_threaded, ..cell("threaded_root", threaded_root) },
    Cell { foreign: true, ..cell("foreign_process", foreign_process) },
    Cell { foreign: true, above: "few", outside: few, ..cell("foreign_with_threaded_controllers_only", foreign_few) },
    Cell { outside: no_descendants, ..cell("max_descendants", max_descendants) },
    Cell { outside: no_depth, ..cell("max_depth", max_depth) },
    Cell { elsewhere: true, ..cell("outside_of_the_namespace", hidden) },
    Cell { mounts: false, ..cell("machines_mount_in_a_private_namespace", machines_mount) },
    cell("the_program_itself", the_program_itself),
];

pub fn find(name: &str) -> &'static Cell {
    all().find(|cell| cell.name == name).expect("a cell of that name")
}

pub fn write(path: impl AsRef<Path>, value: &str) {
    let path = path.as_ref();
    fs::write(path, value).unwrap_or_else(|error| panic!("write {value:?} to {}: {error}", path.display()));
}

pub fn words(path: impl AsRef<Path>) -> Vec<String> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let mut words: Vec<String> = text.split_whitespace().map(String::from).collect();
    words.sort();
    words
}

pub fn make_plan() -> (Facts, Plan) {
    make_plan_for(&Wants::default())
}

fn make_plan_for(wants: &Wants) -> (Facts, Plan) {
    let facts = Facts::gather(&Roots::system(), wants, None).expect("facts");
    let plan = plan(&facts, wants);
    (facts, plan)
}

pub fn prepare() -> (Facts, Plan, Applied) {
    prepare_for(&Wants::default())
}

/// What an operator gets who does not want a namespace.
pub fn prepare_keeping() -> (Facts, Plan, Applied) {
    prepare_for(&Wants { cgroup_namespace: CgroupNamespace::Keep, ..Wants::default() })
}

fn prepare_for(wants: &Wants) -> (Facts, Plan, Applied) {
    let (facts, plan) = make_plan_for(wants);
    let applied = apply(&plan, &mut Linux::new()).unwrap_or_else(|error| panic!("{error}; plan: {plan:#?}"));
    (facts, plan, applied)
}

pub fn cgroup_warnings(applied: &Applied) -> Vec<&str> {
    applied.warnings.iter().filter(|it| it.step.starts_with("cgroup")).map(|it| it.message.as_str()).collect()
}

/// The group hands everything on that it has, and a nested container with limits works in it.
pub fn assert_delegated(group: &Path) {
    assert_eq!(words(group.join("cgroup.subtree_control")), words(group.join("cgroup.controllers")));
    assert_eq!(words(group.join("cgroup.procs")), Vec::<String>::new());
    assert_eq!(words(group.join("cgroup.type")), ["domain"]);
    assert_eq!(words(group.join("init/cgroup.type")), ["domain"]);
    let nested = group.join("docker/container");
    fs::create_dir_all(&nested).expect("a nested group");
    let controllers = words(group.join("cgroup.controllers"));
    for name in &controllers {
        write(group.join("docker/cgroup.subtree_control"), &format!("+{name}"));
    }
    for (name, file, value) in
        [("memory", "memory.max", "67108864"), ("pids", "pids.max", "32"), ("cpu", "cpu.max", "50000 100000")]
    {
        if controllers.iter().any(|controller| controller == name) {
            write(nested.join(file), value);
        }
    }
    let mut child = start(&["guest-sleep"]);
    write(nested.join("cgroup.procs"), &child.id().to_string());
    assert_eq!(words(nested.join("cgroup.procs")), [child.id().to_string()]);
    child.kill().and_then(|()| child.wait()).expect("the end of the nested process");
}

/// A second preparation finds nothing to do in the cgroups, and does nothing.
pub fn assert_idempotent() {
    let (_, plan, applied) = prepare();
    for step in plan.steps.iter().filter(|step| step.id.starts_with("cgroup.v2")) {
        assert!(matches!(step.action, Action::Nothing | Action::SetDaemonOption { .. }), "{step:?}");
    }
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
}

pub fn root() -> &'static Path {
    Path::new(CGROUP)
}

fn machine_root() {
    let (facts, plan, applied) = prepare();
    assert_eq!(facts.cgroup.unified.as_ref().map(|it| it.place), Some(Place::MachineRoot));
    assert!(plan.step("cgroup.v2.evacuate").is_none(), "the machine's root keeps its processes");
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert!(!root().join("init").exists());
    assert_eq!(words(root().join("cgroup.subtree_control")), words(root().join("cgroup.controllers")));
    for expected in ["cpu", "cpuset", "io", "memory", "pids"] {
        assert!(
            words(root().join("cgroup.controllers")).iter().any(|it| it == expected),
            "the kernel lacks {expected}"
        );
    }
}

fn normal() {
    let others: Vec<String> = (0..5).map(|_| start(&["guest-sleep"]).id().to_string()).collect();
    let (facts, _, applied) = prepare();
    assert_eq!(facts.cgroup.unified.as_ref().map(|it| it.place), Some(Place::NamespaceRoot));
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    let inside = words(root().join("init/cgroup.procs"));
    assert!(inside.contains(&"1".to_string()) && others.iter().all(|pid| inside.contains(pid)), "{inside:?}");
    assert_delegated(root());
    assert_idempotent();
    // The kernel refuses newcomers from now on, which is why there is no race left.
    let refused = fs::write(root().join("cgroup.procs"), "0").expect_err("the group takes no process any more");
    assert_eq!(refused.raw_os_error(), Some(16), "{refused}");
}

fn with_storm(group: &Path, check: impl FnOnce(&Applied)) {
    let group_text = group.display().to_string();
    let mut storms: Vec<_> = (0..3).map(|_| start(&["guest-storm", &group_text])).collect();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let (_, _, applied) = prepare();
    for storm in &mut storms {
        storm.kill().and_then(|()| storm.wait()).expect("the end of the storm");
    }
    check(&applied);
}

fn storm() {
    with_storm(root(), |applied| {
        assert_eq!(cgroup_warnings(applied), Vec::<&str>::new(), "{applied:#?}");
        assert_delegated(root());
    });
}

/// A process with much memory is listed for a while after its end began, and moving it is answered with success and does nothing.
fn ending_process() {
    let mut large = start(&["guest-hold", "192"]);
    let resident = || fs::read_to_string(format!("/proc/{}/statm", large.id())).unwrap_or_default();
    let pages = |text: &str| text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0_u64);
    while pages(&resident()) < 192 * 256 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (_, plan) = make_plan();
    large.kill().expect("the end of it");
    let applied = apply(&plan, &mut Linux::new()).unwrap_or_else(|error| panic!("{error}; plan: {plan:#?}"));
    large.wait().expect("its end");
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new(), "{applied:#?}");
    assert_delegated(root());
}

fn threaded_storm() {
    with_storm(root(), |applied| {
        assert_eq!(cgroup_warnings(applied), ["limits on cpuset, io, memory will not hold in nested containers"]);
        assert_delegated(root());
    });
}

fn read_only() {
    let (_, plan) = make_plan();
    let step = plan.step("cgroup.v2.writable").expect("the mount is read-only");
    assert!(matches!(&step.action, Action::RemountReadWrite { .. }), "{step:?}");
    let (_, _, applied) = prepare();
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_delegated(root());
    assert_idempotent();
}

fn read_only_mount() {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    nix::mount::mount(None::<&str>, CGROUP, None::<&str>, flags, None::<&str>).expect("remount,bind,ro");
    let (_, _, applied) = prepare();
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_delegated(root());
    let (facts, _) = make_plan();
    let options = facts.cgroup.unified.expect("cgroup v2").mount.options;
    assert!(["rw", "nosuid", "noexec"].iter().all(|flag| options.iter().any(|it| it == flag)), "{options:?}");
}

fn few(group: &Path) {
    let above = group.parent().expect("the group above");
    for name in ["+cpu", "+pids"] {
        write(above.join("cgroup.subtree_control"), name);
    }
}

fn missing_in_parent() {
    let (_, _, applied) = prepare();
    let warnings = cgroup_warnings(&applied);
    assert_eq!(warnings, ["limits on cpuset, io, memory will not hold in nested containers"]);
    assert_eq!(words(root().join("cgroup.subtree_control")), ["cpu", "pids"]);
    assert_delegated(root());
}

fn nothing_in_parent() {
    let (_, _, applied) = prepare();
    let warnings = cgroup_warnings(&applied);
    assert_eq!(warnings, ["limits on cpu, cpuset, io, memory, pids will not hold in nested containers"]);
}

fn make_threaded(group: &Path) {
    fs::create_dir(group.join("thread")).expect("a child group");
    write(group.join("thread/cgroup.type"), "threaded");
}

fn threaded_root() {
    let (_, plan, applied) = prepare();
    assert!(plan.step("cgroup.v2.evacuate").is_none(), "{plan:?}");
    let warnings = cgroup_warnings(&applied);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("\"domain threaded\""), "{warnings:?}");
    assert!(!root().join("init").exists());
}

fn foreign_process() {
    let (facts, _, applied) = prepare();
    let group = facts.cgroup.unified.and_then(|it| it.group).expect("the own group");
    assert_eq!(group.foreign, 1);
    let warnings = cgroup_warnings(&applied);
    assert!(warnings[0].contains("EBUSY"), "{warnings:?}");
    assert!(warnings[0].contains("1 process of another pid namespace"), "{warnings:?}");
    assert!(warnings[1].contains("same reason"), "{warnings:?}");
    assert!(applied.micros < 2_500_000, "bounded: {} µs", applied.micros);
    assert_eq!(words(root().join("cgroup.type")), ["domain"]);
    assert_eq!(words(root().join("init/cgroup.procs")), ["1"], "what can be moved is moved, and nothing else");
}

/// Even with threaded controllers alone, which the kernel would hand on beside a process if the leaf were empty.
fn foreign_few() {
    let (_, _, applied) = prepare();
    let warnings = cgroup_warnings(&applied);
    assert!(warnings[0].contains("\"+cpu\"") && warnings[0].contains("another pid namespace"), "{warnings:?}");
    assert_eq!(words(root().join("cgroup.type")), ["domain"]);
    assert_eq!(words(root().join("cgroup.subtree_control")), Vec::<String>::new());
}

fn no_descendants(group: &Path) {
    write(group.join("cgroup.max.descendants"), "0");
}

fn max_descendants() {
    let (_, _, applied) = prepare();
    let warnings = cgroup_warnings(&applied);
    assert!(warnings[0].contains("EAGAIN") && warnings[0].contains("cgroup.max.descendants"), "{warnings:?}");
    assert!(warnings[1].contains("not handed on"), "{warnings:?}");
    let outcome = applied.steps.iter().find(|it| it.id == "cgroup.v2.evacuate").expect("the step");
    assert_eq!(outcome.status, Status::Warned);
}

fn no_depth(group: &Path) {
    write(group.join("cgroup.max.depth"), "0");
}

fn max_depth() {
    let (_, _, applied) = prepare();
    let warnings = cgroup_warnings(&applied);
    assert!(warnings[0].contains("EAGAIN") && warnings[0].contains("cgroup.max.depth"), "{warnings:?}");
    assert!(applied.micros < 2_500_000, "bounded: {} µs", applied.micros);
}

/// Number of a group, the same through every mount and under every name.
pub fn identity(folder: impl AsRef<Path>) -> u64 {
    fs::metadata(folder.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", folder.as_ref().display())).ino()
}

/// Somebody moved the container to another group: the limits are those of that one now.
fn hidden() {
    let (facts, plan) = make_plan();
    let unified = facts.cgroup.unified.expect("cgroup v2");
    assert_eq!(unified.place, Place::Hidden, "{unified:?}");
    assert!(plan.continues(), "{plan:#?}");
    prepare();
    let (_, plan, applied) = prepare();
    assert!(!plan.continues(), "{plan:#?}");
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_eq!(words("/proc/self/cgroup"), ["0::/init"]);
    assert_delegated(root());
}

/// `-v /sys/fs/cgroup:/sys/fs/cgroup` in a namespace of its own.
fn machines_mount() {
    let (facts, plan) = make_plan();
    let unified = facts.cgroup.unified.expect("cgroup v2");
    assert_eq!((unified.place, unified.own.as_deref()), (Place::Hidden, Some(Path::new("/"))));
    assert!(plan.step("cgroup.namespace").is_none() && plan.continues(), "{plan:#?}");
    let own = identity(root().join("machines_mount_in_a_private_namespace"));
    assert_eq!(run_program(&["prepare", "--", INIT, "guest-show"]), "container=docker\n0::/init\n");
    assert_eq!(identity(root()), own);
    assert_delegated(root());
}

pub fn run_program(arguments: &[&str]) -> String {
    let output = Command::new("/dindctl").args(arguments).output().expect("/dindctl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The same by the command line: the plan as JSON changes nothing, and `prepare` hands over to its command.
fn the_program_itself() {
    let told: serde_json::Value = serde_json::from_str(&run_program(&["plan", "-o", "json"])).expect("JSON");
    assert_eq!(told["schema"], "dindctl.plan/v1");
    let kinds: Vec<&str> =
        told["steps"].as_array().expect("steps").iter().filter_map(|it| it["action"]["kind"].as_str()).collect();
    assert!(kinds.contains(&"evacuate") && kinds.contains(&"delegate"), "{kinds:?}");
    assert!(!root().join("init").exists(), "a plan changes nothing");
    let shown = run_program(&["prepare", "--", INIT, "guest-show"]);
    assert_eq!(shown, "container=docker\n0::/init\n");
    assert_delegated(root());
}
