/*!
cgroup plans where the namespace is the machine's, and where version 1 hierarchies are missing.
*/
use dindctl::prepare::{Action, CgroupNamespace, Plan, PrepareError, Told, Wants, apply, plan};
use nix::errno::Errno;

use crate::fake_kernel::FakeKernel;
use crate::fake_root::{FakeRoot, private_v2};

const OWN: &str = "/docker/0123";

fn changes(plan: &Plan) -> Vec<String> {
    let steps = plan.changes().filter(|step| step.id.starts_with("cgroup"));
    steps.map(|step| format!("{}: {}", step.id, step.action.describe())).collect()
}

fn plan_with(root: &FakeRoot, wants: &Wants) -> Plan {
    plan(&root.facts(wants), wants)
}

fn keep() -> Wants {
    Wants { cgroup_namespace: CgroupNamespace::Keep, ..Wants::default() }
}

/// Version 2 with the namespace of the machine.
fn host_v2() -> FakeRoot {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "ro,nosuid", OWN);
    root.group("sys/fs/cgroup", None, "cpu memory pids", "1\n2\n0\n");
    root.group("sys/fs/cgroup/docker/0123", Some("domain"), "cpu memory pids", "1\n");
    root
}

/// Version 1 hierarchies, each `CONTROLLERS PART OWN`: which part of it is mounted, and the own group.
fn v1(hierarchies: &[(&str, &str, &str)]) -> FakeRoot {
    let mut root = FakeRoot::new();
    root.mount("/sys/fs/cgroup", "tmpfs", "rw", "rw,mode=755");
    for (number, (controllers, part, own)) in hierarchies.iter().enumerate() {
        let folder = controllers.trim_start_matches("name=");
        if !part.is_empty() {
            root.mount_part(part, &format!("/sys/fs/cgroup/{folder}"), "cgroup", "rw", &format!("rw,{controllers}"));
        }
        root.membership(&format!("{}:{controllers}:{own}", number + 1));
    }
    root.beside_init();
    root
}

#[test]
fn in_the_machines_namespace_a_new_one_comes_first_and_paths_are_those_in_it() {
    let root = host_v2();
    root.beside_init();
    let plan = root.plan();
    assert_eq!(
        changes(&plan),
        [
            "cgroup.namespace: make a cgroup namespace",
            "cgroup.namespace:/sys/fs/cgroup: mount cgroup2 in the place of /sys/fs/cgroup",
            "cgroup.v2.evacuate: move the processes of /sys/fs/cgroup to /sys/fs/cgroup/init",
            "cgroup.v2.delegate: hand cpu, memory, pids on from /sys/fs/cgroup",
        ]
    );
    let Action::ReplaceMount { options, .. } = &plan.step("cgroup.namespace:/sys/fs/cgroup").unwrap().action else {
        panic!("{plan:#?}")
    };
    assert_eq!(options, &["nosuid"], "nested containers get groups of their own");
    // Were the namespace not made, these paths would be the machine's.
    for id in ["cgroup.namespace", "cgroup.namespace:/sys/fs/cgroup"] {
        assert!(plan.step(id).unwrap().required);
    }
}

#[test]
fn a_refused_namespace_ends_the_plan_before_the_machines_groups_are_touched() {
    let root = host_v2();
    root.beside_init();
    let mut kernel = FakeKernel::new(&[1], &["memory"]);
    kernel.refuse("unshare cgroup", Errno::EPERM);
    let error = apply(&root.plan(), &mut kernel).unwrap_err();
    assert!(matches!(&error, PrepareError::Step { step, .. } if step == "cgroup.namespace"), "{error:?}");
    assert!(error.to_string().contains("cannot leave the cgroup namespace /proc/self/ns/cgroup: EPERM"), "{error}");
    assert!(!kernel.calls.iter().any(|call| call.contains("/sys/fs/cgroup")), "{:?}", kernel.calls);
}

#[test]
fn an_inherited_mount_that_is_locked_is_hidden_by_the_new_one() {
    let root = host_v2();
    root.beside_init();
    let mut kernel = FakeKernel::new(&[1], &["cpu", "memory", "pids"]);
    kernel.refuse("unmount", Errno::EINVAL);
    let applied = apply(&root.plan(), &mut kernel).unwrap();
    let step = applied.steps.iter().find(|it| it.id == "cgroup.namespace:/sys/fs/cgroup").unwrap();
    assert!(step.notes[0].contains("EINVAL") && step.notes[0].ends_with("mounted over it"), "{step:?}");
    let mount = kernel.calls.iter().position(|call| call == "cover cgroup2 /sys/fs/cgroup cgroup2 nosuid ");
    assert!(mount > kernel.calls.iter().position(|call| call == "unshare cgroup"), "{:?}", kernel.calls);
}

/// A mount that lies on another one was taken for none, and another was to be mounted over it.
#[test]
fn a_mount_that_hides_another_is_the_one_that_counts() {
    for below in ["tmpfs", "cgroup2"] {
        let mut root = FakeRoot::new();
        root.mount("/sys/fs/cgroup", "tmpfs", "ro", "ro");
        root.mount("/sys/fs/cgroup", below, "ro", "ro");
        root.v2("/sys/fs/cgroup", "rw", "/");
        root.group("sys/fs/cgroup", Some("domain"), "memory", "1\n");
        assert_eq!(
            changes(&root.plan()),
            [
                "cgroup.v2.evacuate: move the processes of /sys/fs/cgroup to /sys/fs/cgroup/init",
                "cgroup.v2.delegate: hand memory on from /sys/fs/cgroup",
            ],
            "{below}"
        );
        // Hidden together with its place.
        root.mount("/sys", "tmpfs", "rw", "rw");
        assert!(root.plan().step("cgroup.v2.delegate").is_none());
    }
}

/// dockerd does not start with a parent that is no slice where systemd makes its groups.
#[test]
fn systemd_is_told_no_parent_that_it_would_not_take() {
    let parent = |systemd: bool, driver: Option<&str>| {
        let root = host_v2();
        if systemd {
            root.file("run/systemd/system/x", "");
        }
        let told = driver.map(|name| ("exec-opts".to_owned(), vec![format!("native.cgroupdriver={name}")].into()));
        let plan = plan_with(&root, &Wants { told: Told::new(told), ..keep() });
        matches!(plan.step("cgroup.v2.parent").unwrap().action, Action::SetDaemonOption { .. })
    };
    for (systemd, driver, want) in [
        (false, None, true),
        (false, Some("systemd"), false),
        (true, None, false),
        (true, Some("systemd"), false),
        (true, Some("cgroupfs"), true),
    ] {
        assert_eq!(parent(systemd, driver), want, "{systemd} {driver:?}");
    }
}

#[test]
fn the_namespace_stays_where_it_is_wanted_or_somebody_elses() {
    let beside_a_service_manager = host_v2().plan();
    let root = host_v2();
    root.beside_init();
    for plan in [beside_a_service_manager, plan_with(&root, &keep())] {
        assert!(plan.step("cgroup.namespace").is_none());
        let parent = &plan.step("cgroup.v2.parent").unwrap().action;
        assert_eq!(parent, &Action::SetDaemonOption { key: "cgroup-parent".into(), value: OWN.into() });
    }
}

#[test]
fn what_dockerd_is_told_about_its_parent_stays() {
    let told = Told::new([("cgroup-parent".to_owned(), "/mine".into())]);
    let wants = Wants { told, ..keep() };
    for (root, id) in
        [(host_v2(), "cgroup.v2.parent"), (v1(&[("memory", "/", OWN), ("devices", "/", OWN)]), "cgroup.v1.parent")]
    {
        let plan = plan_with(&root, &wants);
        let step = plan.step(id).unwrap_or_else(|| panic!("{plan:#?}"));
        assert_eq!(step.action, Action::Nothing);
        assert!(step.found.ends_with("dockerd is told cgroup-parent=\"/mine\""), "{}", step.found);
    }
}

#[test]
fn a_private_namespace_is_left_alone_before_and_after_its_preparation() {
    let root = private_v2();
    root.beside_init();
    assert!(root.plan().step("cgroup.namespace").is_none());
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw", "/init");
    root.group("sys/fs/cgroup", Some("domain"), "memory", "");
    root.group("sys/fs/cgroup/init", Some("domain"), "memory", "1\n");
    root.beside_init();
    assert!(root.plan().step("cgroup.namespace").is_none());
}

/// As `docker exec` sees it after a preparation: it is in the old namespace, with the new mounts.
#[test]
fn from_outside_of_the_new_namespace_nothing_is_to_be_done() {
    let mut root = FakeRoot::new();
    root.mount_part(OWN, "/sys/fs/cgroup", "cgroup2", "rw", "rw");
    root.membership(&format!("0::{OWN}/init"));
    root.group("sys/fs/cgroup", Some("domain"), "memory", "");
    root.file("sys/fs/cgroup/cgroup.subtree_control", "memory\n");
    root.group("sys/fs/cgroup/init", Some("domain"), "memory", "1\n");
    root.beside_init();
    assert_eq!(changes(&root.plan()), Vec::<String>::new());
}

#[test]
fn v1_mounts_of_the_own_groups_keep_nested_containers_inside() {
    let root = v1(&[("memory", OWN, OWN), ("devices", OWN, OWN)]);
    assert_eq!(changes(&root.plan()), Vec::<String>::new());
    assert_eq!(changes(&plan_with(&root, &keep())), Vec::<String>::new());
}

#[test]
fn v1_mounts_of_the_whole_machine_are_replaced() {
    let root = v1(&[("cpu,cpuacct", "/", OWN), ("devices", "/", "/"), ("name=systemd", "/", OWN)]);
    let plan = root.plan();
    assert_eq!(
        changes(&plan),
        [
            "cgroup.namespace: make a cgroup namespace",
            "cgroup.namespace:/sys/fs/cgroup/cpu,cpuacct: mount cgroup in the place of /sys/fs/cgroup/cpu,cpuacct",
            "cgroup.namespace:/sys/fs/cgroup/systemd: mount cgroup in the place of /sys/fs/cgroup/systemd",
        ],
        "and where the own group is the root there is nothing to leave"
    );
    let data = |id: &str| match &plan.step(id).unwrap().action {
        Action::ReplaceMount { data, .. } => data.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(data("cgroup.namespace:/sys/fs/cgroup/cpu,cpuacct"), "cpu,cpuacct");
    assert_eq!(data("cgroup.namespace:/sys/fs/cgroup/systemd"), "none,name=systemd");
}

#[test]
fn v1_takes_one_parent_for_all_hierarchies_or_none() {
    let same = v1(&[("memory", "/", OWN), ("devices", "/", OWN)]);
    assert_eq!(
        changes(&plan_with(&same, &keep())),
        [format!("cgroup.v1.parent: configure dockerd with cgroup-parent={OWN:?}")]
    );
    let different = v1(&[("memory", "/", OWN), ("devices", "/", "/elsewhere")]);
    let plan = plan_with(&different, &keep());
    assert!(matches!(plan.step("cgroup.v1.parent").unwrap().action, Action::Warn { .. }), "{plan:#?}");
}

#[test]
fn a_missing_hierarchy_is_mounted_under_each_of_its_names_with_all_its_controllers() {
    let root = v1(&[("cpu,cpuacct", "", "/"), ("devices", "/", "/"), ("name=systemd", "", "/")]);
    let plan = root.plan();
    assert_eq!(
        changes(&plan),
        [
            "cgroup.v1.cpu.folder: create /sys/fs/cgroup/cpu with mode 0755",
            "cgroup.v1.cpu: mount cgroup on /sys/fs/cgroup/cpu",
            "cgroup.v1.cpuacct.folder: create /sys/fs/cgroup/cpuacct with mode 0755",
            "cgroup.v1.cpuacct: mount cgroup on /sys/fs/cgroup/cpuacct",
            "cgroup.v1.name=systemd.folder: create /sys/fs/cgroup/systemd with mode 0755",
            "cgroup.v1.name=systemd: mount cgroup on /sys/fs/cgroup/systemd",
        ]
    );
    for (id, expected) in [("cgroup.v1.cpuacct", "cpu,cpuacct"), ("cgroup.v1.name=systemd", "none,name=systemd")] {
        let step = plan.step(id).unwrap();
        assert!(matches!(&step.action, Action::Mount { data, .. } if data == expected), "{step:?}");
        assert!(!step.required, "the engine does without it");
    }
}

#[test]
fn devices_are_required_and_made_before_the_namespace_changes() {
    let root = v1(&[("memory", "/", OWN)]);
    root.file(
        "proc/cgroups",
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t1\t9\t1\ndevices\t0\t1\t1\nnet_cls\t0\t1\t1\n",
    );
    let plan = root.plan();
    assert_eq!(
        changes(&plan),
        [
            "cgroup.v1.devices.folder: create /sys/fs/cgroup/devices with mode 0755",
            "cgroup.v1.devices: mount cgroup on /sys/fs/cgroup/devices",
            "cgroup.namespace: make a cgroup namespace",
            "cgroup.namespace:/sys/fs/cgroup/memory: mount cgroup in the place of /sys/fs/cgroup/memory",
        ],
        "and net_cls is left to the machine"
    );
    assert!(plan.step("cgroup.v1.devices").unwrap().required);
    root.file("proc/cgroups", "devices\t0\t1\t0\n");
    assert!(root.plan().step("cgroup.v1.devices").is_none(), "turned off when the machine booted");
}

#[test]
fn folders_for_mounts_need_a_writable_file_system() {
    let mut root = FakeRoot::new();
    root.mount("/sys/fs/cgroup", "tmpfs", "ro,nosuid", "rw,mode=755");
    root.mount("/sys/fs/cgroup/devices", "cgroup", "rw", "rw,devices");
    root.membership("1:devices:/");
    root.membership("2:name=systemd:/");
    assert_eq!(changes(&root.plan())[0], "cgroup.v1.root: remount /sys/fs/cgroup read-write");
}

#[test]
fn where_nothing_is_mounted_version_1_is() {
    let mut root = FakeRoot::new();
    root.membership("1:devices:/");
    root.membership("0::/");
    assert_eq!(
        changes(&root.plan()),
        [
            "cgroup.v1.root: mount tmpfs on /sys/fs/cgroup",
            "cgroup.v1.devices.folder: create /sys/fs/cgroup/devices with mode 0755",
            "cgroup.v1.devices: mount cgroup on /sys/fs/cgroup/devices",
        ]
    );
}

#[test]
fn version_2_never_gets_version_1_hierarchies() {
    let mut root = private_v2();
    root.membership("1:name=systemd:/");
    root.file("proc/cgroups", "devices\t0\t1\t1\n");
    assert!(changes(&root.plan()).iter().all(|line| line.starts_with("cgroup.v2")), "{:?}", changes(&root.plan()));
}

#[test]
fn what_cannot_be_read_before_it_is_mounted_is_planned_afterwards() {
    let mut root = FakeRoot::new();
    root.mount_part("/../..", "/sys/fs/cgroup", "cgroup2", "rw", "rw");
    root.membership("0::/");
    root.group("sys/fs/cgroup", None, "memory", "1\n");
    root.beside_init();
    let plan = root.plan();
    assert!(plan.continues());
    assert_eq!(
        changes(&plan),
        ["cgroup.namespace:/sys/fs/cgroup: mount cgroup2 in the place of /sys/fs/cgroup"],
        "the namespace is private already"
    );
    let kept = plan_with(&root, &keep());
    assert!(!kept.continues());
    let Action::Warn { message } = &kept.step("cgroup.v2.group").unwrap().action else { panic!("{kept:#?}") };
    assert!(message.contains("not visible"), "{message}");
}

#[test]
fn v1_mounts_that_do_not_hold_the_own_group_are_replaced_or_warned_of() {
    let root = v1(&[("memory", "/../..", "/"), ("devices", "/../..", "/")]);
    let replaced = changes(&root.plan());
    assert_eq!(replaced.len(), 2);
    assert!(replaced.iter().all(|line| line.starts_with("cgroup.namespace:/sys/fs/cgroup/")), "{replaced:?}");
    let kept = plan_with(&root, &keep());
    let Action::Warn { message } = &kept.step("cgroup.v1.parent").unwrap().action else { panic!("{kept:#?}") };
    assert_eq!(message, "nested containers will leave the limits of this one");
}
