/*!
Whole plans for the set-ups that containers meet.
*/
use std::os::unix::fs::PermissionsExt;

use dindctl::prepare::{Action, ApparmorWish, LayerWishes, Plan, TmpWish, Told, Wants, plan};
use dindctl::probe::apparmor::Obstacle;
use dindctl::probe::storage::Free;

use TmpWish::{Always, Auto, Never};

use crate::fake_root::{DEFAULT, FakeRoot, private_v2};

fn json(plan: &Plan) -> String {
    serde_json::to_string_pretty(plan).unwrap()
}

fn action<'a>(plan: &'a Plan, id: &str) -> &'a Action {
    &plan.step(id).unwrap_or_else(|| panic!("no step {id} in {plan:#?}")).action
}

fn failure(plan: &Plan) -> (&str, &str) {
    let step = plan.failures().next().unwrap_or_else(|| panic!("{plan:#?}"));
    let Action::Fail { cause } = &step.action else { unreachable!() };
    (cause, step.hint.as_deref().unwrap())
}

#[test]
fn v1() {
    let mut root = FakeRoot::new();
    root.v1("rw,nosuid,nodev,noexec,relatime");
    insta::assert_snapshot!(json(&root.plan()));
}

#[test]
fn v1_read_only() {
    let mut root = FakeRoot::new();
    root.v1("ro,nosuid,nodev,noexec,relatime");
    insta::assert_snapshot!(json(&root.plan()));
}

#[test]
fn hybrid() {
    let mut root = FakeRoot::new();
    root.v1("rw");
    root.v2("/sys/fs/cgroup/unified", "rw", "/");
    root.group("sys/fs/cgroup/unified", Some("domain"), "hugetlb", "1\n");
    insta::assert_snapshot!(json(&root.plan()));
}

#[test]
fn v2_private_namespace() {
    insta::assert_snapshot!(json(&private_v2().plan()));
}

#[test]
fn v2_after_an_earlier_preparation() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/init");
    root.group("sys/fs/cgroup", Some("domain"), "cpuset cpu io memory pids", "");
    root.file("sys/fs/cgroup/cgroup.subtree_control", "cpuset cpu io memory pids\n");
    root.group("sys/fs/cgroup/init", Some("domain"), "cpuset cpu io memory pids", "1\n");
    let plan = root.plan();
    for id in ["cgroup.v2.evacuate", "cgroup.v2.delegate"] {
        assert_eq!(action(&plan, id), &Action::Nothing);
    }
    assert!(plan.step("cgroup.v2.parent").is_none());
}

#[test]
fn v2_host_namespace() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/docker/0123");
    root.group("sys/fs/cgroup", None, "cpuset cpu io memory pids", "1\n2\n0\n");
    root.group("sys/fs/cgroup/docker/0123", Some("domain"), "cpu memory pids", "1\n0\n");
    let plan = root.plan();
    insta::assert_snapshot!(json(&plan));
    assert!(!json(&plan).contains("\"/sys/fs/cgroup/init\""), "nothing is created in the host's root group");
}

#[test]
fn v2_leaf_of_the_machines_root_is_somebody_elses() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/init");
    root.group("sys/fs/cgroup", None, "memory", "1\n");
    root.group("sys/fs/cgroup/init", Some("domain"), "memory", "1\n");
    let Action::Evacuate { from, .. } = action(&root.plan(), "cgroup.v2.evacuate").clone() else { panic!() };
    assert_eq!(from, std::path::Path::new("/sys/fs/cgroup/init"));
}

#[test]
fn v2_machine_root() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/");
    root.group("sys/fs/cgroup", None, "cpuset cpu io memory pids", "1\n2\n");
    let plan = root.plan();
    assert!(plan.step("cgroup.v2.evacuate").is_none());
    assert!(matches!(action(&plan, "cgroup.v2.delegate"), Action::Delegate { leaf: None, .. }));
}

#[test]
fn v2_outside_of_the_namespace() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/../other");
    root.group("sys/fs/cgroup", Some("domain"), "memory", "");
    let plan = root.plan();
    assert!(matches!(action(&plan, "cgroup.v2.group"), Action::Warn { .. }));
    assert!(plan.step("cgroup.v2.delegate").is_none());
}

#[test]
fn v2_mount_of_the_host_in_a_private_namespace_has_its_own_hint() {
    let mut root = FakeRoot::new();
    root.mount_part("/../..", "/sys/fs/cgroup", "cgroup2", "rw", "rw");
    root.v2("/elsewhere", "rw", "/");
    root.group("sys/fs/cgroup", None, "memory", "1\n");
    let plan = root.plan();
    assert!(matches!(action(&plan, "cgroup.v2.group"), Action::Warn { .. }), "{plan:#?}");
    assert!(plan.step("cgroup.v2.group").unwrap().hint.as_ref().unwrap().contains("do not mount the host's"));
}

#[test]
fn actions_read_as_words() {
    let plan = private_v2().plan();
    let words: Vec<String> = plan.changes().map(|step| step.action.describe()).collect();
    insta::assert_snapshot!(words.join("\n"));
}

#[test]
fn v2_part_of_the_tree_is_mounted() {
    let mut root = FakeRoot::new();
    root.mount_part("/docker/0123", "/sys/fs/cgroup", "cgroup2", "ro", "rw");
    root.v2("/elsewhere", "rw", "/docker/0123");
    root.group("sys/fs/cgroup", Some("domain"), "memory", "1\n");
    let plan = root.plan();
    let Action::RemountReadWrite { fresh, .. } = action(&plan, "cgroup.v2.writable") else { panic!("{plan:#?}") };
    assert_eq!(fresh, &None, "a new mount would show the whole tree");
    assert!(matches!(action(&plan, "cgroup.v2.evacuate"), Action::Evacuate { .. }));
}

#[test]
fn v2_read_only() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "ro,nosuid", "/");
    root.group("sys/fs/cgroup", Some("domain"), "cpuset cpu io memory pids", "1\n");
    insta::assert_snapshot!(json(&root.plan()));
}

#[test]
fn v2_read_only_on_the_whole_machine_is_left_alone() {
    let mut root = FakeRoot::new();
    root.mount("/sys/fs/cgroup", "cgroup2", "ro", "ro");
    root.v2("/elsewhere", "rw", "/");
    root.group("sys/fs/cgroup", Some("domain"), "memory", "1\n");
    let plan = root.plan();
    let Action::Warn { message } = action(&plan, "cgroup.v2.writable") else { panic!("{plan:#?}") };
    assert!(message.contains("on the whole machine"), "{message}");
}

#[test]
fn v2_threaded() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/");
    root.group("sys/fs/cgroup", Some("domain threaded"), "cpuset cpu io memory pids", "1\n");
    insta::assert_snapshot!(json(&root.plan()));
}

#[test]
fn v2_foreign_processes() {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/");
    root.group("sys/fs/cgroup", Some("domain"), "cpu memory", "0\n1\n0\n");
    insta::assert_snapshot!(json(&root.plan()));
}

#[test]
fn a_hidden_mount_does_not_count() {
    let mut root = private_v2();
    root.mount("/sys", "sysfs", "rw", "rw");
    let plan = root.plan();
    assert!(matches!(action(&plan, "cgroup"), Action::Warn { .. }), "the new /sys covers /sys/fs/cgroup: {plan:#?}");
}

#[test]
fn without_privileges_the_cause_is_one_sentence() {
    let mut root = private_v2();
    root.capabilities(DEFAULT);
    let plan = root.plan();
    assert_eq!(
        failure(&plan),
        (
            "this container lacks CAP_SYS_ADMIN and CAP_NET_ADMIN, which the engine needs to start containers",
            "start this container with --privileged (compose: privileged: true), or with the least that will do: \
             --cap-add SYS_ADMIN --cap-add NET_ADMIN"
        )
    );
    let wants = Wants { daemon: false, ..Wants::default() };
    let only_prepare = dindctl::prepare::plan(&root.facts(&wants), &wants);
    assert_eq!(only_prepare.failures().count(), 0, "a preparation without a daemon only warns");
    assert!(matches!(action(&only_prepare, "privilege"), Action::Warn { .. }));
    assert!(only_prepare.step("run-dir").is_none(), "nor does it need folders");
}

/// As `docker run` without any option has it on a machine with `AppArmor`.
#[test]
fn without_privileges_everything_that_is_in_the_way_is_in_that_sentence() {
    let mut root = FakeRoot::new();
    root.mount("/proc/sys", "proc", "ro,nosuid,nodev,noexec,relatime", "rw");
    root.v2("/sys/fs/cgroup", "ro,nosuid", "/");
    root.group("sys/fs/cgroup", Some("domain"), "cpu memory pids", "1\n");
    root.file("proc/self/attr/current", "docker-default (enforce)\n");
    root.capabilities(DEFAULT);
    let wants = Wants::default();
    let mut facts = root.facts(&wants);
    facts.confinement.keyctl = Some(nix::errno::Errno::EPERM);
    let refused = plan(&facts, &wants);
    assert_eq!(
        failure(&refused),
        (
            "this container lacks CAP_SYS_ADMIN and CAP_NET_ADMIN, which the engine needs to start containers; besides, \
             seccomp forbids keyctl (EPERM), which runc needs; the AppArmor profile docker-default forbids mounts; \
             /proc/sys and /sys/fs/cgroup are read-only, which CAP_SYS_ADMIN would mend",
            "start this container with --privileged (compose: privileged: true), or with the least that will do: \
             --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
        )
    );
    assert_eq!(action(&refused, "proc.sys"), &Action::Nothing);
    // Nothing that would have to be tried is judged.
    let layers = Some(LayerWishes { driver: None, path: "/none".into() });
    let wants = Wants { layers, data_root: "/data".into(), ..Wants::default() };
    let refused = plan(&root.facts(&wants), &wants);
    assert_eq!(action(&refused, "data-root.overlay"), &Action::Nothing);
    assert!(refused.step("data-root.overlay").unwrap().found.contains("without CAP_SYS_ADMIN"));
    let wants = Wants::default();
    // With those options the rest is made to work.
    root.capabilities("00000000a82435fb");
    root.file("proc/self/attr/current", "unconfined\n");
    let able = plan(&root.facts(&wants), &wants);
    assert_eq!((able.failures().count(), action(&able, "privilege")), (0, &Action::Nothing));
    assert!(
        matches!(action(&able, "proc.sys"), Action::RemountReadWrite { target, .. } if target.ends_with("proc/sys"))
    );
    assert!(matches!(action(&able, "cgroup.v2.writable"), Action::RemountReadWrite { .. }));
    // And what is still in the way is warned of.
    let mut facts = root.facts(&wants);
    facts.confinement.keyctl = Some(nix::errno::Errno::EPERM);
    let Action::Warn { message } = action(&plan(&facts, &wants), "privilege").clone() else { panic!("{facts:?}") };
    assert_eq!(message, "seccomp forbids keyctl (EPERM), which runc needs: no nested container will start");
}

#[test]
fn few_keys_are_raised_by_the_machines_root_only() {
    let root = private_v2();
    root.file("proc/sys/kernel/keys/root_maxkeys", "200\n");
    root.file("proc/sys/kernel/keys/root_maxbytes", "25000000\n");
    let write = Action::Write { path: "/proc/sys/kernel/keys/root_maxkeys".into(), value: "1000000".into() };
    assert_eq!(action(&root.plan(), "limit.keys"), &write);
    assert!(root.plan().step("limit.keys.bytes").is_none(), "there is room for them");
    root.file("proc/sys/kernel/keys/root_maxbytes", "20000\n");
    assert!(matches!(action(&root.plan(), "limit.keys.bytes"), Action::Write { value, .. } if value == "25000000"));
    root.file("proc/self/uid_map", "         0     100000      65536\n");
    assert!(root.plan().step("limit.keys").is_none(), "a user namespace may not");
    root.file("proc/self/uid_map", "         0          0 4294967295\n");
    root.file("proc/sys/kernel/keys/root_maxkeys", "1000000\n");
    assert!(root.plan().step("limit.keys").is_none(), "there are enough");
}

#[test]
fn apparmor_is_given_to_nested_containers_by_choice_and_where_it_works() {
    let root = private_v2();
    let container = |wish: ApparmorWish, tried: Option<Result<(), Obstacle>>| {
        let wants = Wants { apparmor: wish, ..Wants::default() };
        let facts = dindctl::prepare::Facts { apparmor: tried, ..root.facts(&wants) };
        action(&plan(&facts, &wants), "env.container").clone()
    };
    let set = |value: &str| Action::SetEnv { name: "container".into(), value: value.into() };
    assert_eq!(container(ApparmorWish::Off, None), set("docker"));
    assert_eq!(container(ApparmorWish::Auto, Some(Ok(()))), set(""));
    assert_eq!(container(ApparmorWish::On, Some(Ok(()))), set(""));
    assert_eq!(container(ApparmorWish::Auto, Some(Err(Obstacle::Parser))), set("docker"));
    let Action::Fail { cause } = container(ApparmorWish::On, Some(Err(Obstacle::Parser))) else { panic!() };
    assert_eq!(cause, "AppArmor was asked for (prepare.apparmor=on), and /sbin/apparmor_parser is not installed");
    // Here no kernel is that of the fake root, and why not stands in the plan.
    let wants = Wants { apparmor: ApparmorWish::Auto, ..Wants::default() };
    let found = plan(&root.facts(&wants), &wants).step("env.container").unwrap().found.clone();
    assert!(found.ends_with("no AppArmor for nested containers: the kernel has no AppArmor, or it is off"), "{found}");
}

#[test]
fn an_emulated_container_is_refused_before_anything_is_changed() {
    let root = private_v2();
    let other = if std::env::consts::ARCH == "x86_64" { "aarch64" } else { "x86_64" };
    root.file("proc/sys/kernel/arch", &format!("{other}\n"));
    let refused = root.plan();
    let (cause, hint) = failure(&refused);
    assert!(
        cause.ends_with(&format!("and the machine is {other}: Docker cannot run in an emulated container")),
        "{cause}"
    );
    assert!(hint.contains("--platform"), "{hint}");
    root.file("proc/cpuinfo", "vendor_id\t: VirtualApple\n");
    assert!(matches!(action(&root.plan(), "host.machine"), Action::Warn { message } if message.contains("Rosetta")));
    root.file("proc/sys/kernel/arch", &format!("{}\n", std::env::consts::ARCH));
    assert!(root.plan().step("host.machine").is_none());
    let wants = Wants { daemon: false, ..Wants::default() };
    root.file("proc/sys/kernel/arch", &format!("{other}\n"));
    assert_eq!(plan(&root.facts(&wants), &wants).failures().count(), 0, "other programs may run well");
}

#[test]
fn a_missing_cap_sys_resource_is_a_note_and_hard_limits_stay() {
    let mut root = private_v2();
    root.capabilities("000001fffeffffff");
    let plan = root.plan();
    assert_eq!(action(&plan, "privilege"), &Action::Nothing);
    assert!(plan.step("privilege").unwrap().found.contains("CAP_SYS_RESOURCE"));
    assert_eq!(action(&plan, "limit.open_files"), &Action::SetOpenFiles { soft: 524_288, hard: 524_288 });
    assert_eq!(action(&plan, "limit.open_files.hard"), &Action::Nothing);
}

#[test]
fn limits_are_raised_and_never_lowered() {
    let root = private_v2();
    let open = |soft: u64, hard: u64| {
        let mut facts = root.facts(&Wants::default());
        facts.open_files = dindctl::probe::limits::Limit { soft, hard };
        let plan = plan(&facts, &Wants::default());
        (action(&plan, "limit.open_files").clone(), plan.step("limit.open_files.hard").map(|it| it.action.clone()))
    };
    let all = Action::SetOpenFiles { soft: 1_048_576, hard: 1_048_576 };
    assert_eq!(open(1024, 4096), (Action::SetOpenFiles { soft: 4096, hard: 4096 }, Some(all)));
    let unlimited = u64::MAX;
    assert_eq!(open(1024, unlimited), (Action::SetOpenFiles { soft: 1_048_576, hard: unlimited }, None));
    assert_eq!(open(unlimited, unlimited), (Action::Nothing, None));
    assert_eq!(open(1_048_576, 1_048_576), (Action::Nothing, None));
}

/// The capability counts in the first user namespace only: each start elsewhere was one with a warning.
#[test]
fn a_user_namespace_raises_no_hard_limit() {
    let root = private_v2();
    root.file("proc/self/uid_map", "0 100000 65536\n");
    let mut facts = root.facts(&Wants::default());
    facts.open_files = dindctl::probe::limits::Limit { soft: 1024, hard: 4096 };
    let plan = plan(&facts, &Wants::default());
    assert_eq!(action(&plan, "limit.open_files.hard"), &Action::Nothing);
    assert!(plan.step("limit.open_files.hard").unwrap().found.contains("a user namespace cannot raise"));
}

#[test]
fn the_hard_limit_stays_below_the_kernels_ceiling() {
    let root = private_v2();
    root.file("proc/sys/fs/nr_open", "600000\n");
    assert_eq!(action(&root.plan(), "limit.open_files.hard"), &Action::SetOpenFiles { soft: 600_000, hard: 600_000 });
}

#[test]
fn tmp_is_covered_only_where_it_must_or_shall_be() {
    let root = private_v2();
    let covered = |wish: TmpWish, unwritable: bool, mounted: bool| {
        let wants = Wants { tmp: wish, ..Wants::default() };
        let mut facts = root.facts(&wants);
        facts.tmp.unwritable = unwritable.then_some(nix::errno::Errno::EROFS);
        facts.tmp.mount_point = mounted;
        let plan = plan(&facts, &wants);
        assert!(!plan.step("tmp").unwrap().required, "never fatal");
        matches!(action(&plan, "tmp"), Action::Mount { .. })
    };
    for (wish, unwritable, mounted, expected) in [
        (Auto, false, false, false),
        (Auto, true, false, true),
        (Auto, true, true, true),
        (Always, false, false, true),
        (Always, false, true, false),
        (Always, true, true, true),
        (Never, true, false, false),
    ] {
        assert_eq!(covered(wish, unwritable, mounted), expected, "{wish:?} {unwritable} {mounted}");
    }
}

#[test]
fn a_missing_tmp_is_created() {
    let root = private_v2();
    std::fs::remove_dir(root.path("tmp")).unwrap();
    assert_eq!(action(&root.plan(), "tmp"), &Action::CreateDir { path: "/tmp".into(), mode: 0o1777 });
}

#[test]
fn pid_files_are_judged_by_who_runs() {
    let root = private_v2();
    root.process(40, "sleep");
    root.process(41, "containerd");
    root.file("run/docker.pid", "40\n");
    root.file("run/docker/containerd/containerd.pid", "41\n");
    root.file("run/a/docker-old.pid", "4242\n");
    root.file("run/b/docker-empty.pid", "");
    let plan = root.plan();
    let removed = |path: &str| Action::RemoveFile { path: path.into() };
    assert_eq!(action(&plan, "pidfile:/run/docker.pid"), &removed("/run/docker.pid"), "a reused number");
    assert_eq!(action(&plan, "pidfile:/run/a/docker-old.pid"), &removed("/run/a/docker-old.pid"), "a dead process");
    assert_eq!(action(&plan, "pidfile:/run/b/docker-empty.pid"), &removed("/run/b/docker-empty.pid"));
    assert!(matches!(action(&plan, "pidfile:/run/docker/containerd/containerd.pid"), Action::Warn { .. }));
    assert_eq!(plan.steps.iter().filter(|step| step.id.starts_with("pidfile:")).count(), 4, "/var/run is /run");
}

#[test]
fn a_living_dockerd_is_named() {
    let root = private_v2();
    root.process(77, "dockerd");
    root.file("run/docker.pid", "77");
    assert!(failure(&root.plan()).0.starts_with("another dockerd (pid 77) already runs"));
}

#[test]
fn the_daemon_that_is_supervised_here_is_not_another_one() {
    let root = private_v2();
    root.process(77, "dockerd");
    root.file("run/docker.pid", "77");
    root.file("var/lib/docker/volumes/metadata.db", "bolt");
    let file = std::fs::File::open(root.path("var/lib/docker/volumes/metadata.db")).unwrap();
    let _held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    let wants = Wants { supervised: vec![77], ..Wants::default() };
    let ours = plan(&root.facts(&wants), &wants);
    assert_eq!(action(&ours, "pidfile:/run/docker.pid"), &Action::Nothing);
    assert_eq!(ours.failures().count(), 0);
    let wants = Wants { supervised: vec![78], ..Wants::default() };
    assert!(failure(&plan(&root.facts(&wants), &wants)).0.starts_with("another dockerd (pid 77)"));
}

#[test]
fn pid_files_on_other_mounts_and_behind_links_are_not_ours() {
    let mut root = private_v2();
    root.mount("/run/netns", "tmpfs", "rw", "rw");
    root.file("run/netns/docker.pid", "1");
    root.file("elsewhere/docker.pid", "1");
    std::os::unix::fs::symlink("../elsewhere", root.path("run/link")).unwrap();
    std::os::unix::fs::symlink("../elsewhere/docker.pid", root.path("run/docker.pid")).unwrap();
    root.file("run/1/2/3/4/docker.pid", "1");
    assert_eq!(action(&root.plan(), "pidfiles"), &Action::Nothing);
}

#[test]
fn a_full_data_root_is_named_with_its_numbers() {
    let root = private_v2();
    let fail = |free: Free| {
        let mut facts = root.facts(&Wants::default());
        facts.data_root.free = Some(free);
        let plan = plan(&facts, &Wants::default());
        failure(&plan).0.to_string()
    };
    assert_eq!(
        fail(Free { bytes: 1 << 20, inodes: Some(9) }),
        "the data root /var/lib/docker is full: 1024 KiB are free, at least 65536 are needed"
    );
    assert_eq!(
        fail(Free { bytes: 1 << 40, inodes: Some(0) }),
        "the data root /var/lib/docker is full: no inode is free"
    );
}

#[test]
fn a_data_root_that_cannot_be_written_is_named() {
    let root = private_v2();
    let mut facts = root.facts(&Wants::default());
    facts.data_root.unwritable = Some(nix::errno::Errno::EROFS);
    let plan = plan(&facts, &Wants::default());
    assert!(failure(&plan).0.contains("cannot be written: EROFS"));
    assert!(failure(&plan).1.contains("-v NAME:/var/lib/docker"));
}

#[test]
fn a_second_daemon_on_the_same_data_is_found_by_its_lock() {
    let root = private_v2();
    root.file("var/lib/docker/volumes/metadata.db", "bolt");
    assert_eq!(root.plan().failures().count(), 0);
    let file = std::fs::File::open(root.path("var/lib/docker/volumes/metadata.db")).unwrap();
    let _held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    let plan = root.plan();
    assert_eq!(
        failure(&plan).0,
        "another daemon uses /var/lib/docker: it holds the lock on /var/lib/docker/volumes/metadata.db"
    );
}

#[test]
fn overlay_below_the_data_root_is_warned_of_even_when_it_is_not_there_yet() {
    let mut root = FakeRoot::new();
    root.v1("rw");
    let layers = Some(LayerWishes { driver: None, path: "/usr/bin".into() });
    let wants = Wants { data_root: "/data/docker".into(), layers, ..Wants::default() };
    let plan = plan(&root.facts(&wants), &wants);
    assert!(matches!(action(&plan, "data-root"), Action::CreateDir { mode: 0o711, .. }));
    assert!(matches!(action(&plan, "data-root.overlay"), Action::Warn { .. }));
    assert!(plan.step("containerd-root.overlay").is_none());
}

#[test]
fn earlier_drivers_and_contradictions_are_found_in_the_data_root_and_in_what_dockerd_is_told() {
    let root = private_v2();
    root.file("var/lib/docker/vfs/dir/x", "");
    let layers = |driver: Option<&str>| Some(LayerWishes { driver: driver.map(str::to_owned), path: "/none".into() });
    let wants = Wants { layers: layers(None), ..Wants::default() };
    let found = plan(&root.facts(&wants), &wants);
    assert_eq!(action(&found, "data-root.overlay"), &Action::Nothing);
    let Action::Warn { message } = action(&found, "data-root.driver") else { panic!("{found:#?}") };
    assert!(message.contains("images of vfs"), "{message}");
    let told = Told::new([("features".to_owned(), serde_json::json!({"containerd-snapshotter": true}))]);
    let wants = Wants { layers: layers(Some("overlay2")), told, ..Wants::default() };
    let found = plan(&root.facts(&wants), &wants);
    assert!(failure(&found).0.starts_with("DOCKER_DRIVER asks for the storage driver overlay2"), "{found:#?}");
}

#[test]
fn what_is_shared_already_is_left_alone() {
    let root = private_v2();
    let mut facts = root.facts(&Wants::default());
    let propagation = |facts: &_| action(&plan(facts, &Wants::default()), "propagation").clone();
    assert_eq!(propagation(&facts), Action::MakeShared { target: "/".into() });
    for mount in &mut facts.mounts {
        mount.shared = Some(1);
    }
    assert_eq!(propagation(&facts), Action::Nothing);
    facts.mounts.retain(|mount| mount.point != std::path::Path::new("/"));
    assert!(matches!(propagation(&facts), Action::Warn { .. }), "a chroot");
}

#[test]
fn securityfs_is_mounted_only_where_its_folder_is_empty() {
    let mut root = private_v2();
    assert!(matches!(action(&root.plan(), "securityfs"), Action::Mount { .. }));
    root.mount("/sys/kernel/security", "securityfs", "rw", "rw");
    assert_eq!(action(&root.plan(), "securityfs"), &Action::Nothing);
    let bare = private_v2();
    std::fs::remove_dir(bare.path("sys/kernel/security")).unwrap();
    assert_eq!(action(&bare.plan(), "securityfs"), &Action::Nothing);
}

#[test]
fn a_state_folder_that_cannot_be_written_refuses_the_start() {
    if nix::unistd::geteuid().is_root() {
        // Root may write anywhere but on a read-only file system, which the facts stand for.
        let root = private_v2();
        let mut facts = root.facts(&Wants::default());
        facts.run_dir.unwritable = Some(nix::errno::Errno::EROFS);
        assert!(failure(&plan(&facts, &Wants::default())).0.contains("state folder /run/dindctl"));
    } else {
        let root = private_v2();
        std::fs::set_permissions(root.path("run"), std::fs::Permissions::from_mode(0o500)).unwrap();
        assert!(failure(&root.plan()).0.contains("state folder /run/dindctl"));
    }
}
