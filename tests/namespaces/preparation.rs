/*!
The preparation applied for real, in mount, cgroup and pid namespaces of its own. Nothing reaches the machine: its
mounts are private copies, and the cgroup tests work in a group of their own that is removed afterwards.

Each test starts this program again under `unshare`, for itself alone.
*/
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dindctl::prepare::sockets::{SocketWishes, bind, parse};
use dindctl::prepare::{Action, Applied, Facts, Linux, Plan, TmpWish, Wants, apply, plan};
use dindctl::probe::Roots;
use dindctl::probe::layers::Fuse;
use dindctl::probe::overlay::{self, Problem};
use dindctl::sys::beside;
use dindctl::sys::overlay::Way;
use libtest_mimic::{Failed, Trial};
use nix::mount::MsFlags;

/// Set where a test runs inside its namespaces.
const INSIDE: &str = "DINDCTL_TEST_INSIDE";

const CGROUP: &str = "/sys/fs/cgroup";

struct Case {
    name: &'static str,
    namespaces: &'static [&'static str],
    /// What this machine lacks for it.
    lacks: fn() -> Option<String>,
    body: fn(),
}

const MOUNTS: &[&str] = &["--mount"];
const CONTAINER: &[&str] = &["--mount", "--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Mounts that are inherited are locked there.
const USERS: &[&str] = &["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

const CASES: &[Case] = &[
    Case {
        name: "locked_v1_mounts_are_covered",
        namespaces: USERS,
        lacks: users_v1,
        body: locked_v1_mounts_are_covered,
    },
    Case { name: "root_becomes_shared", namespaces: MOUNTS, lacks: nothing, body: root_becomes_shared },
    Case { name: "tmpfs_is_mounted_on_tmp", namespaces: MOUNTS, lacks: nothing, body: tmpfs_is_mounted_on_tmp },
    Case { name: "read_only_tmp_is_covered", namespaces: MOUNTS, lacks: nothing, body: read_only_tmp_is_covered },
    Case { name: "securityfs_is_mounted", namespaces: MOUNTS, lacks: securityfs, body: securityfs_is_mounted },
    Case { name: "read_only_v1_is_remounted", namespaces: MOUNTS, lacks: v1, body: read_only_v1_is_remounted },
    Case {
        name: "overlay_is_tried_and_leaves_nothing",
        namespaces: MOUNTS,
        lacks: overlay,
        body: overlay_is_tried_and_leaves_nothing,
    },
    Case { name: "overlay_on_overlay_is_told", namespaces: MOUNTS, lacks: overlay, body: overlay_on_overlay_is_told },
    Case {
        name: "overlay_in_a_user_namespace",
        namespaces: &["--user", "--map-root-user", "--mount"],
        lacks: users_overlay,
        body: overlay_in_a_user_namespace,
    },
    Case { name: "open_files_are_raised", namespaces: MOUNTS, lacks: nothing, body: open_files_are_raised },
    Case { name: "processes_are_evacuated", namespaces: CONTAINER, lacks: v2, body: processes_are_evacuated },
    Case { name: "threaded_group_is_left", namespaces: CONTAINER, lacks: v2, body: threaded_group_is_left },
    Case {
        name: "socket_is_closed_until_settled",
        namespaces: MOUNTS,
        lacks: nothing,
        body: socket_is_closed_until_settled,
    },
    Case { name: "whole_plan_twice", namespaces: CONTAINER, lacks: v2, body: whole_plan_twice },
];

/// The tests of this module.
pub fn trials() -> Vec<Trial> {
    let inside = std::env::var_os(INSIDE).is_some();
    let impossible = if inside { None } else { no_namespaces() };
    CASES
        .iter()
        .map(|case| {
            let name = format!("preparation::{}", case.name);
            let lack = impossible.clone().or_else(|| if inside { None } else { (case.lacks)() });
            if let Some(reason) = &lack {
                println!("SKIP {name}: {reason}");
            }
            let run = move || {
                if inside {
                    (case.body)();
                    return Ok(());
                }
                outside(case)
            };
            Trial::test(name, run).with_ignored_flag(lack.is_some())
        })
        .collect()
}

fn nothing() -> Option<String> {
    None
}

fn no_namespaces() -> Option<String> {
    match Command::new("unshare").args(CONTAINER).arg("true").stdout(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("cannot run unshare: {error}")),
    }
}

fn securityfs() -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = known.lines().any(|line| line.ends_with("\tsecurityfs"));
    (!known || !Path::new("/sys/kernel/security").is_dir()).then(|| "the kernel has no securityfs".into())
}

fn overlay() -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    (!known.lines().any(|line| line.ends_with("\toverlay"))).then(|| "the kernel has no overlay".into())
}

fn users_overlay() -> Option<String> {
    let tried = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return Some("no user namespaces here".into());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?);
    overlay().or_else(|| (version < (5, 11)).then(|| format!("kernel {} is before 5.11", release.trim())))
}

fn v1() -> Option<String> {
    v1_mount().is_none().then(|| "no cgroup v1 hierarchy is mounted".into())
}

fn users_v1() -> Option<String> {
    let tried = Command::new("unshare").args(USERS).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return Some("no user namespaces here".into());
    }
    v1()
}

fn v1_mount() -> Option<PathBuf> {
    let mounts = dindctl::probe::mountinfo::own(&Roots::system()).ok()?;
    mounts.into_iter().find(|mount| mount.fstype == "cgroup" && !mount.read_only()).map(|mount| mount.point)
}

fn v2() -> Option<String> {
    let Some(mount) = v2_mount() else { return Some("no cgroup v2 hierarchy is mounted".into()) };
    let writable = nix::unistd::access(&mount, nix::unistd::AccessFlags::W_OK);
    writable.err().map(|errno| format!("{}: {errno}", mount.display()))
}

/// The machine's cgroup v2 mount.
fn v2_mount() -> Option<PathBuf> {
    let mounts = dindctl::probe::mountinfo::own(&Roots::system()).ok()?;
    mounts.into_iter().find(|mount| mount.fstype == "cgroup2" && !mount.read_only()).map(|mount| mount.point)
}

/// A group of the machine that is removed, with all below it, when the test is over.
struct OwnGroup(PathBuf);

impl OwnGroup {
    fn new(mount: Option<PathBuf>, name: &str) -> Self {
        let mount = mount.expect("the test is skipped without a mount");
        let path = mount.join(format!("dindctl-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a group for the test");
        Self(path)
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        // The processes of the container end with it, but not before the call that waited for the first of them.
        let end = Instant::now() + Duration::from_secs(5);
        while !remove_groups(&self.0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove_groups(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok()
}

/// Runs the case again inside its namespaces, in a group of its own where it needs one.
fn outside(case: &Case) -> Result<(), Failed> {
    let group = if case.namespaces.contains(&"--cgroup") {
        Some(OwnGroup::new(v2_mount(), case.name))
    } else if case.namespaces == USERS {
        Some(OwnGroup::new(v1_mount(), case.name))
    } else {
        None
    };
    // The shell enters the group first, so that the new cgroup namespace has it as its root.
    let enter = "if [ -n \"$GROUP\" ]; then echo $$ > \"$GROUP/cgroup.procs\"; fi; exec unshare \"$@\"";
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("sh")
        .args(["-c", enter, "sh"])
        .args(case.namespaces)
        .args(["--propagation", "private", "--"])
        .arg(program)
        .args(["--exact", &format!("preparation::{}", case.name), "--test-threads=1"])
        .env(INSIDE, "1")
        .env("GROUP", group.as_ref().map_or(OsStr::new(""), |group| group.0.as_os_str()))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // A test that was filtered out by mistake must not count as passed.
    if output.status.success() && text.contains("1 passed") { Ok(()) } else { Err(text.into()) }
}

fn mount(source: &str, target: &str, fstype: &str, flags: MsFlags) {
    let kind = (!fstype.is_empty()).then_some(fstype);
    nix::mount::mount(Some(source), target, kind, flags, None::<&str>)
        .unwrap_or_else(|errno| panic!("mount {source} on {target}: {errno}"));
}

fn facts(wants: &Wants) -> Facts {
    Facts::gather(&Roots::system(), wants, None).expect("facts")
}

/// Wishes that touch nothing of the machine's own folders.
fn wants() -> Wants {
    Wants { daemon: false, ..Wants::default() }
}

/// Applies only the steps of that name.
fn only(id: &str, wants: &Wants) -> (Plan, Applied) {
    let mut plan = plan(&facts(wants), wants);
    plan.steps.retain(|step| step.id.starts_with(id));
    let applied = apply(&plan, &mut Linux::new()).unwrap_or_else(|error| panic!("{error}: {plan:#?}"));
    (plan, applied)
}

fn assert_quiet(applied: &Applied) {
    assert!(applied.warnings.is_empty(), "{:#?}", applied.warnings);
}

fn changes(plan: &Plan) -> usize {
    plan.changes().count()
}

fn root_becomes_shared() {
    let (plan, applied) = only("propagation", &wants());
    assert_eq!(changes(&plan), 1);
    assert_quiet(&applied);
    assert!(facts(&wants()).mounts.iter().all(|mount| mount.shared.is_some()));
    let (again, _) = only("propagation", &wants());
    assert_eq!(changes(&again), 0, "{again:#?}");
}

fn tmpfs_is_mounted_on_tmp() {
    let auto = Wants { tmp: TmpWish::Auto, ..wants() };
    assert_eq!(changes(&only("tmp", &auto).0), 0, "a /tmp that can be written is left alone");
    let always = Wants { tmp: TmpWish::Always, ..wants() };
    assert_quiet(&only("tmp", &always).1);
    let tmp = facts(&always).tmp;
    assert_eq!((tmp.fstype.as_str(), tmp.mount_point), ("tmpfs", true));
    assert_eq!(fs::metadata("/tmp").expect("/tmp").mode() & 0o7777, 0o1777);
    assert_eq!(changes(&only("tmp", &always).0), 0);
}

fn read_only_tmp_is_covered() {
    mount("/tmp", "/tmp", "", MsFlags::MS_BIND);
    mount("", "/tmp", "", MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY);
    let never = Wants { tmp: TmpWish::Never, ..wants() };
    assert_eq!(changes(&only("tmp", &never).0), 0);
    let (_, applied) = only("tmp", &wants());
    assert_quiet(&applied);
    fs::write("/tmp/file", "x").expect("/tmp can be written");
}

fn securityfs_is_mounted() {
    // The machine may have it already; in this mount namespace it goes away.
    while nix::mount::umount("/sys/kernel/security").is_ok() {}
    let (plan, applied) = only("securityfs", &wants());
    assert_eq!(changes(&plan), 1);
    assert_quiet(&applied);
    assert_eq!(changes(&only("securityfs", &wants()).0), 0);
}

fn read_only_v1_is_remounted() {
    let point = v1_mount().expect("a hierarchy");
    let target = point.to_str().expect("a path");
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount("", target, "", flags | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC);
    let group = point.join(format!("dindctl-test-v1-{}", std::process::id()));
    assert_eq!(fs::create_dir(&group).map_err(|error| error.raw_os_error()), Err(Some(30)), "read-only at first");
    let (plan, applied) = only("cgroup.v1", &wants());
    // dockerd may be told a parent as well, where the test itself runs in a group.
    let remounts = plan.steps.iter().filter(|step| matches!(step.action, Action::RemountReadWrite { .. })).count();
    assert_eq!(remounts, 1, "{plan:#?}");
    assert_quiet(&applied);
    fs::create_dir(&group).expect("a nested container's group");
    fs::remove_dir(&group).expect("and its end");
    let options = facts(&wants()).mounts.into_iter().rev().find(|it| it.point == point).expect("the mount").options;
    assert!(["rw", "nosuid", "noexec"].iter().all(|flag| options.iter().any(|it| it == flag)), "{options:?}");
}

/// The kernel refuses a mount of the same file system on the same place, and every start in a user namespace ended with that.
fn locked_v1_mounts_are_covered() {
    let (_, applied) = only("cgroup.namespace", &wants());
    let covered = |notes: &[String]| notes.iter().any(|note| note.ends_with("mounted over it"));
    let replaced: Vec<_> = applied.steps.iter().filter(|step| step.id.starts_with("cgroup.namespace:")).collect();
    assert!(!replaced.is_empty() && replaced.iter().all(|step| covered(&step.notes)), "{applied:#?}");
    let setup = facts(&wants()).cgroup;
    let elsewhere = setup.hierarchies.iter().filter(|it| it.inside() != Some(PathBuf::new())).count();
    assert_eq!(elsewhere, 0, "what is mounted now is the own group: {setup:#?}");
    assert_eq!(changes(&only("cgroup.namespace", &wants()).0), 0);
}

fn mount_table() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("mountinfo")
}

/// A file system that carries an overlay, whatever the test itself runs on.
fn carrier() -> &'static Path {
    mount("tmpfs", "/tmp", "tmpfs", MsFlags::empty());
    let carrier = Path::new("/tmp/carrier: of, a\\path");
    fs::create_dir(carrier).expect("a folder");
    carrier
}

fn overlay_is_tried_and_leaves_nothing() {
    let carrier = carrier();
    let before = mount_table();
    assert_eq!(overlay::look(carrier, false), Ok(()));
    assert_eq!(beside::settle(), Vec::<String>::new());
    assert_eq!(fs::read_dir(carrier).expect("the folder").count(), 0, "the trial has left something");
    for (name, way) in [("a", Way::Detached), ("b", Way::Namespace { at: "at" })] {
        let place = carrier.join(name);
        fs::create_dir(&place).expect("a folder");
        assert_eq!(overlay::attempt(&place, false, way), Ok(()), "{way:?}");
        // It was really there: the kernel has made its own folder, and one for an overlay that writes nothing down.
        assert!(place.join("w0/work").is_dir() && place.join("w0/work/incompat/volatile").is_dir(), "{way:?}");
        assert_eq!(fs::read_dir(place.join("u")).expect("the upper folder").count(), 0, "{way:?}");
    }
    assert_eq!(mount_table(), before);
}

fn overlay_on_overlay_is_told() {
    let carrier = carrier();
    for name in ["l", "u", "w", "m"] {
        fs::create_dir(Path::new("/tmp").join(name)).expect("a folder");
    }
    let data = Some("lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w");
    nix::mount::mount(Some("overlay"), "/tmp/m", Some("overlay"), MsFlags::empty(), data).expect("an overlay");
    let stacked = Err(Problem::Mount(nix::errno::Errno::EINVAL));
    assert_eq!(overlay::look(Path::new("/tmp/m"), false), stacked);
    assert_eq!(beside::settle(), Vec::<String>::new());
    assert_eq!(fs::read_dir("/tmp/m").expect("the folder").count(), 0);
    let place = Path::new("/tmp/m/place");
    fs::create_dir(place).expect("a folder");
    assert_eq!(overlay::attempt(place, false, Way::Namespace { at: "at" }), stacked);
    // Each root on its own: this one is no overlay.
    let layers = |data: &Path, containerd: &Path| {
        dindctl::probe::layers::look(&Roots::system(), data, containerd, OsStr::new("/none"), |_| false)
    };
    let found = layers(Path::new("/tmp/m/docker"), carrier);
    assert_eq!((found.data_root, found.containerd_root), (stacked, Ok(())));
    assert_eq!(found.fuse, Some(Fuse::Missing));
    assert!(dindctl::probe::storage::on_overlay(Path::new("/tmp/m/docker/x")));
    assert!(!dindctl::probe::storage::on_overlay(carrier));
}

fn overlay_in_a_user_namespace() {
    let carrier = carrier();
    assert!(overlay::in_user_namespace(&Roots::system()));
    assert_eq!(overlay::look(carrier, true), Ok(()));
    assert_eq!(beside::settle(), Vec::<String>::new());
    assert_eq!(fs::read_dir(carrier).expect("the folder").count(), 0);
}

fn open_files_are_raised() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, 256, hard).expect("setrlimit");
    let want = hard.min(Wants::default().open_files);
    let mut plan = plan(&facts(&wants()), &wants());
    plan.steps.retain(|step| step.id == "limit.open_files");
    assert_quiet(&apply(&plan, &mut Linux::new()).expect("applied"));
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((want, hard)));
    // Beyond what anybody may: a warning, and the limit stays.
    plan.steps[0].action = Action::SetOpenFiles { soft: u64::MAX - 1, hard: u64::MAX - 1 };
    let applied = apply(&plan, &mut Linux::new()).expect("never fatal");
    assert!(applied.warnings[0].message.contains("EPERM"), "{:?}", applied.warnings);
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((want, hard)));
}

/// What a runtime mounts: this namespace's cgroup v2 alone.
fn mount_v2() {
    mount("tmpfs", "/sys/fs", "tmpfs", MsFlags::empty());
    fs::create_dir(CGROUP).expect("the mount point");
    mount("cgroup", CGROUP, "cgroup2", MsFlags::empty());
}

fn sleeper() -> Child {
    Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().expect("sleep")
}

fn procs(group: &str) -> Vec<u32> {
    let text = fs::read_to_string(Path::new(group).join("cgroup.procs")).expect("cgroup.procs");
    text.lines().map(|line| line.parse().expect("a pid")).collect()
}

fn processes_are_evacuated() {
    mount_v2();
    let children: Vec<Child> = (0..8).map(|_| sleeper()).collect();
    let (plan, applied) = only("cgroup.v2.evacuate", &wants());
    assert_eq!(changes(&plan), 1, "{plan:#?}");
    assert_quiet(&applied);
    let inside = procs(&format!("{CGROUP}/init"));
    assert!(children.iter().all(|child| inside.contains(&child.id())) && inside.contains(&std::process::id()));
    // `unshare` itself waits outside of this pid namespace: it reads as 0 and stays.
    assert!(procs(CGROUP).iter().all(|pid| *pid == 0), "{:?}", procs(CGROUP));
    let own = fs::read_to_string("/proc/self/cgroup").expect("/proc/self/cgroup");
    assert!(own.lines().any(|line| line == "0::/init"), "{own}");
    let (again, _) = only("cgroup.v2.evacuate", &wants());
    assert_eq!(changes(&again), 0, "{again:#?}");
    for mut child in children {
        child.kill().and_then(|()| child.wait()).expect("the end of the child");
    }
}

fn threaded_group_is_left() {
    mount_v2();
    fs::create_dir(format!("{CGROUP}/thread")).expect("a child group");
    fs::write(format!("{CGROUP}/thread/cgroup.type"), "threaded").expect("make it threaded");
    let (plan, applied) = only("cgroup.v2", &wants());
    assert_eq!(changes(&plan), 0, "{plan:#?}");
    assert!(applied.warnings.iter().any(|it| it.message.contains("domain threaded")), "{:?}", applied.warnings);
}

fn whole_plan_twice() {
    mount_v2();
    mount("tmpfs", "/tmp", "tmpfs", MsFlags::empty());
    let wants = Wants {
        run_dir: "/tmp/run".into(),
        data_root: "/tmp/docker".into(),
        containerd_root: "/tmp/containerd".into(),
        pid_dirs: Vec::new(),
        ..Wants::default()
    };
    let run = || {
        let plan = plan(&facts(&wants), &wants);
        (apply(&plan, &mut Linux::new()).unwrap_or_else(|error| panic!("{error}")), plan)
    };
    run();
    let (_, second) = run();
    let left: Vec<&str> = second.changes().map(|step| step.id.as_str()).collect();
    // The environment is a result rather than a change; controllers are a matter of the machine.
    let repeated = |id: &&&str| !["env.container", "cgroup.v2.delegate", "limit.open_files.hard"].contains(*id);
    assert_eq!(left.iter().filter(repeated).collect::<Vec<_>>(), Vec::<&&str>::new(), "{second:#?}");
    let mode = |path: &str| fs::metadata(path).expect("the folder").mode() & 0o7777;
    assert_eq!((mode("/tmp/run"), mode("/tmp/docker"), mode("/tmp/containerd")), (0o755, 0o711, 0o711));
}

/// From its creation on the file has no permission for anybody, or exactly what was asked for, and the group first.
fn socket_is_closed_until_settled() {
    mount("tmpfs", "/tmp", "tmpfs", MsFlags::empty());
    let path = Path::new("/tmp/docker.sock");
    let stop = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                if let Ok(found) = fs::symlink_metadata(path) {
                    looks += 1;
                    let (mode, gid) = (found.mode() & 0o7777, found.gid());
                    assert!(mode == 0 || (mode == 0o660 && gid == 4242), "mode {mode:o}, group {gid}");
                }
            }
            looks
        });
        let wishes = SocketWishes { group: "4242".into(), mode: 0o660 };
        for _ in 0..300 {
            let bound =
                bind(&parse("/tmp/docker.sock").expect("an address"), &wishes, &Roots::system()).expect("bound");
            drop(bound);
        }
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("no other mode was ever seen")
    });
    assert!(looks > 100, "the watcher saw the file {looks} times only");
}
