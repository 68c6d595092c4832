/*!
The machine of cgroup version 1, its cells, and what a runtime does for a container on it.
*/
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dindctl::prepare::{Action, Applied, Facts, Linux, Plan, PrepareError, Wants, apply, plan};
use dindctl::probe::Roots;
use dindctl::probe::cgroup::Layout;
use dindctl::probe::{controllers, mountinfo};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::cells::{Cell, Machine, Namespace, cell, cgroup_warnings, identity, prepare, prepare_keeping, words, write};
use crate::guest::{CGROUP, start};

/// What the machine mounts when it boots: as systemd does, but for `devices`, which it does not know at first.
const HIERARCHIES: [(&str, &str); 7] = [
    ("cpu,cpuacct", "cpu,cpuacct"),
    ("cpuset", "cpuset"),
    ("memory", "memory"),
    ("freezer", "freezer"),
    ("blkio", "blkio"),
    ("pids", "pids"),
    ("systemd", "none,name=systemd"),
];

const fn v1(name: &'static str, body: fn()) -> Cell {
    Cell { machine: Machine::V1, ..cell(name, body) }
}

/// The first two are about a machine that has no `devices`; the second one makes it.
pub const CELLS: &[Cell] = &[
    v1("v1_devices_cannot_be_made", devices_cannot_be_made),
    Cell { namespace: Namespace::Machine, ..v1("v1_machine_root", machine_root) },
    v1("v1_private", private),
    Cell { without: &["systemd"], ..v1("v1_missing_systemd", missing_systemd) },
    Cell { without: &["devices"], ..v1("v1_missing_devices", missing_devices) },
    Cell { without: &["cpu,cpuacct"], ..v1("v1_missing_cpu", missing_cpu) },
    Cell { mount_flags: MsFlags::MS_RDONLY, ..v1("v1_read_only", read_only) },
    Cell {
        mount_flags: MsFlags::MS_RDONLY,
        without: &["systemd"],
        ..v1("v1_read_only_and_missing", read_only_missing)
    },
    v1("v1_nothing_mounted", nothing_mounted),
    v1("hybrid", hybrid),
    Cell { namespace: Namespace::Host, ..v1("v1_host_namespace", host_namespace) },
    Cell { namespace: Namespace::Host, without: &["memory"], ..v1("v1_host_namespace_missing_memory", host_missing) },
    Cell { namespace: Namespace::Host, mounts: false, ..v1("v1_host_namespace_whole_machine", host_whole) },
    Cell { namespace: Namespace::Host, mounts: false, ..v1("v1_host_namespace_kept", host_kept) },
    Cell { mounts: false, ..v1("v1_machines_mounts_in_a_private_namespace", private_machine) },
];

fn root() -> &'static Path {
    Path::new(CGROUP)
}

fn mount_new(kind: &str, target: &Path, data: Option<&str>) {
    fs::create_dir_all(target).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
    mount(Some(kind), target, Some(kind), MsFlags::empty(), data)
        .unwrap_or_else(|errno| panic!("mount {kind} ({data:?}) on {}: {errno}", target.display()));
}

/// Mounts version 1, and version 2 beside it.
pub fn mount_machine() {
    mount_new("tmpfs", root(), Some("mode=755"));
    for (folder, data) in HIERARCHIES {
        mount_new("cgroup", &root().join(folder), Some(data));
    }
    mount_new("cgroup2", &root().join("unified"), None);
}

/// Where the hierarchies are mounted, version 2 included.
fn mounted() -> Vec<mountinfo::Mount> {
    let mut mounts = mountinfo::own(&Roots::system()).expect("mountinfo");
    mounts.retain(|mount| mount.fstype.starts_with("cgroup"));
    mounts
}

fn note(cell: &Cell) -> PathBuf {
    Path::new("/run").join(format!("{}.groups", cell.name))
}

/// A group with the processors and the memory nodes of the one above, without which none can enter it.
fn make_group(group: &Path) {
    fs::create_dir_all(group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let above = group.parent().expect("a group above").join(name);
        if group.join(name).exists() {
            write(group.join(name), fs::read_to_string(above).expect("the group above").trim());
        }
    }
}

/// Joins the cell's group in every hierarchy, and notes which groups these are.
pub fn enter(cell: &Cell) {
    let mut groups = BTreeMap::new();
    for mount in mounted() {
        let group = mount.point.join(cell.name);
        make_group(&group);
        write(group.join("cgroup.procs"), "0");
        groups.insert(mount.point.file_name().expect("a name").to_string_lossy().into_owned(), identity(&group));
    }
    fs::write(note(cell), serde_json::json!(groups).to_string()).expect("the note");
}

/// Mounts as runc does: the own group of each hierarchy on a tmpfs, by its root in a namespace and as a bind without.
pub fn mount_container(cell: &Cell) {
    if cell.namespace == Namespace::Machine || !cell.mounts {
        return;
    }
    let place = Path::new("/run/cgroup");
    mount_new("tmpfs", place, Some("mode=755"));
    let none = None::<&str>;
    for known in mounted() {
        let folder = known.point.file_name().expect("a name").to_string_lossy().into_owned();
        if cell.without.contains(&folder.as_str()) || (known.fstype == "cgroup2" && cell.name != "hybrid") {
            continue;
        }
        let target = place.join(&folder);
        if cell.namespace == Namespace::Host {
            fs::create_dir(&target).expect("a folder");
            let group = known.point.join(cell.name);
            mount(Some(&group), &target, none, MsFlags::MS_BIND, none).expect("bind the own group");
        } else {
            let names: Vec<&str> = HIERARCHIES.iter().filter(|it| it.0 == folder).map(|it| it.1).collect();
            let data = if known.fstype == "cgroup2" { None } else { Some(*names.first().unwrap_or(&folder.as_str())) };
            mount_new(&known.fstype, &target, data);
        }
        if !cell.mount_flags.is_empty() {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | cell.mount_flags;
            mount(none, &target, none, flags, none).expect("remount,bind");
        }
    }
    umount2(root(), MntFlags::MNT_DETACH).expect("the machine's mounts");
    mount(Some(place), root(), none, MsFlags::MS_MOVE, none).expect("move");
    if !cell.mount_flags.is_empty() {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | cell.mount_flags;
        mount(none, root(), none, flags, none).expect("remount,bind");
    }
}

/// Each hierarchy's mount shows the group that the cell was put in, and nothing above it.
fn assert_own_groups_only(name: &str) {
    let text = fs::read_to_string(Path::new("/run").join(format!("{name}.groups"))).expect("the note");
    let groups: BTreeMap<String, u64> = serde_json::from_str(&text).expect("the note");
    let mounts = mounted();
    for mount in &mounts {
        let folder = mount.point.file_name().expect("a name").to_string_lossy().into_owned();
        // A hierarchy of two controllers is mounted under both names when it was missing.
        let known = groups.iter().find(|(known, _)| known.split(',').any(|part| part == folder) || **known == folder);
        let (_, expected) = known.unwrap_or_else(|| panic!("{folder} is not among {groups:?}"));
        assert_eq!(identity(&mount.point), *expected, "{} shows another group", mount.point.display());
    }
    for expected in ["memory", "devices", "pids", "cpuset", "freezer", "blkio", "systemd"] {
        assert!(mounts.iter().any(|mount| mount.point.ends_with(expected)), "{expected} is not mounted");
    }
}

/// A nested container gets a group below the own one in every hierarchy, with limits in it.
fn assert_nested(parent: &str) {
    let mut child = start(&["guest-sleep"]);
    let pid = child.id().to_string();
    let mut groups = Vec::new();
    for mount in mounted().into_iter().filter(|mount| mount.fstype == "cgroup") {
        let above = mount.point.join(parent.trim_start_matches('/')).join("docker");
        make_group(&above);
        let nested = above.join("container");
        make_group(&nested);
        for (file, value) in [("memory.limit_in_bytes", "67108864"), ("pids.max", "32"), ("cpu.cfs_quota_us", "50000")]
        {
            if nested.join(file).exists() {
                write(nested.join(file), value);
                assert_eq!(words(nested.join(file)), [value]);
            }
        }
        write(nested.join("cgroup.procs"), &pid);
        assert!(words(nested.join("cgroup.procs")).contains(&pid));
        groups.push(nested);
    }
    assert!(groups.len() >= 8, "{groups:?}");
    child.kill().and_then(|()| child.wait()).expect("the end of the nested process");
}

fn cgroup_changes(plan: &Plan) -> Vec<&str> {
    let changes = plan.changes().map(|step| step.id.as_str());
    changes.filter(|id| id.starts_with("cgroup")).collect()
}

fn good(expected: &[&str]) -> (Facts, Applied) {
    let (facts, plan, applied) = prepare();
    assert_eq!(cgroup_changes(&plan), expected);
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    let (_, again, applied) = prepare();
    assert_eq!(cgroup_changes(&again), Vec::<&str>::new(), "a second preparation finds nothing to do");
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert!(!root().join("init").exists() && !root().join("memory/init").exists(), "version 1 needs no leaf");
    (facts, applied)
}

fn devices_cannot_be_made() {
    let wants = Wants::default();
    let facts = Facts::gather(&Roots::system(), &wants, None).expect("facts");
    let plan = plan(&facts, &wants);
    let error = apply(&plan, &mut Linux::new()).expect_err("only the machine may make a hierarchy");
    let PrepareError::Step { step, error, hint } = error else { panic!("{error:?}") };
    assert_eq!((step.as_str(), error.errno), ("cgroup.v1.devices", Errno::EPERM));
    assert!(hint.is_some_and(|hint| hint.contains("on the host")));
}

fn machine_root() {
    let number = |name: &str| {
        let all = controllers::kernel(&Roots::system()).expect("/proc/cgroups");
        all.into_iter().find(|it| it.name == name).map(|it| it.hierarchy)
    };
    assert_eq!(number("devices"), Some(0));
    let (facts, _) = good(&["cgroup.v1.devices.folder", "cgroup.v1.devices"]);
    assert_eq!(facts.cgroup.layout, Layout::Hybrid);
    assert!(number("devices") > Some(0));
    assert_eq!(number("hugetlb"), Some(0), "what nobody needs is left to version 2");
}

fn private() {
    let (facts, applied) = good(&[]);
    assert_eq!(facts.cgroup.layout, Layout::V1);
    assert_eq!(applied.daemon_options.get("cgroup-parent"), None);
    assert_own_groups_only("v1_private");
    assert_nested("/");
}

fn missing_systemd() {
    good(&["cgroup.v1.name=systemd.folder", "cgroup.v1.name=systemd"]);
    assert_own_groups_only("v1_missing_systemd");
    assert_nested("/");
}

fn missing_devices() {
    let (_, plan) = crate::cells::make_plan();
    assert!(plan.step("cgroup.v1.devices").is_some_and(|step| step.required), "{plan:#?}");
    good(&["cgroup.v1.devices.folder", "cgroup.v1.devices"]);
    assert_own_groups_only("v1_missing_devices");
    assert_nested("/");
}

fn missing_cpu() {
    good(&["cgroup.v1.cpu.folder", "cgroup.v1.cpu", "cgroup.v1.cpuacct.folder", "cgroup.v1.cpuacct"]);
    assert_own_groups_only("v1_missing_cpu");
    assert!(root().join("cpu/cpu.cfs_quota_us").exists() && root().join("cpuacct/cpuacct.usage").exists());
}

fn read_only() {
    let refused = fs::create_dir(root().join("memory/x")).expect_err("read-only");
    assert_eq!(refused.raw_os_error(), Some(Errno::EROFS as i32));
    let (_, plan) = crate::cells::make_plan();
    let count = plan.steps.iter().filter(|step| matches!(step.action, Action::RemountReadWrite { .. })).count();
    assert_eq!(count, 8, "{plan:#?}");
    let (_, _, applied) = prepare();
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    good(&[]);
    assert_own_groups_only("v1_read_only");
    assert_nested("/");
}

fn read_only_missing() {
    let (_, plan, applied) = prepare();
    assert_eq!(
        cgroup_changes(&plan)[..3],
        ["cgroup.v1.root", "cgroup.v1.name=systemd.folder", "cgroup.v1.name=systemd"]
    );
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    good(&[]);
    assert_own_groups_only("v1_read_only_and_missing");
}

fn nothing_mounted() {
    umount2(root(), MntFlags::MNT_DETACH).expect("no cgroups at all");
    let (facts, plan, applied) = prepare();
    assert_eq!(facts.cgroup.layout, Layout::None);
    assert_eq!(cgroup_changes(&plan)[0], "cgroup.v1.root");
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    let (facts, _) = good(&[]);
    assert_eq!(facts.cgroup.layout, Layout::V1);
    assert_own_groups_only("v1_nothing_mounted");
    assert_nested("/");
}

fn hybrid() {
    let (facts, plan, _) = prepare();
    assert_eq!(facts.cgroup.layout, Layout::Hybrid);
    let step = plan.step("cgroup.v2").expect("version 2 is reported");
    assert_eq!(step.found, "mounted on /sys/fs/cgroup/unified beside version 1");
    good(&[]);
    assert_own_groups_only("hybrid");
    assert!(!root().join("unified/init").exists(), "version 2 is not used and not touched");
    assert_nested("/");
}

/// The mounts are binds of the own groups: what a daemon calls `/docker/ID` lies in them.
fn host_namespace() {
    let (facts, applied) = good(&[]);
    let memory = facts.cgroup.hierarchies.iter().find(|it| it.controllers == ["memory"]).expect("memory");
    assert_eq!(memory.own.as_deref(), Some(Path::new("/v1_host_namespace")));
    assert_eq!(applied.daemon_options.get("cgroup-parent"), None);
    assert_own_groups_only("v1_host_namespace");
    assert_nested("/");
}

/// A new mount would show the whole machine there.
fn host_missing() {
    good(&["cgroup.namespace", "cgroup.v1.memory.folder", "cgroup.v1.memory"]);
    assert_own_groups_only("v1_host_namespace_missing_memory");
    assert_nested("/");
}

/// `-v /sys/fs/cgroup:/sys/fs/cgroup`.
fn host_whole() {
    let (_, plan, applied) = prepare();
    assert_eq!(cgroup_changes(&plan).len(), 1 + HIERARCHIES.len() + 2, "devices and version 2 as well: {plan:#?}");
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_eq!(applied.daemon_options.get("cgroup-parent"), None);
    good(&[]);
    assert_own_groups_only("v1_host_namespace_whole_machine");
    assert_nested("/");
}

fn host_kept() {
    let (_, _, applied) = prepare_keeping();
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_eq!(applied.daemon_options["cgroup-parent"], "/v1_host_namespace_kept");
    assert_nested("/v1_host_namespace_kept");
}

fn private_machine() {
    let (facts, plan, applied) = prepare();
    assert_eq!(facts.cgroup.hierarchies[0].own.as_deref(), Some(Path::new("/")));
    assert!(plan.step("cgroup.namespace").is_none(), "there is one: {plan:#?}");
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    good(&[]);
    assert_own_groups_only("v1_machines_mounts_in_a_private_namespace");
    assert_nested("/");
}
