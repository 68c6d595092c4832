/*!
Applying plans: order, bounds, races, and what is said when a call is refused.
*/
use std::time::Duration;

use dindctl::prepare::plan::{FreshMount, PLAN_SCHEMA};
use dindctl::prepare::{Action, Applied, Plan, Status, Step, apply};
use nix::errno::Errno;
use proptest::prelude::*;

use crate::fake_kernel::{FakeKernel, GROUP, LEAF};
use crate::fake_root::private_v2;

const ALL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

fn step(id: &str, required: bool, action: Action) -> Step {
    Step {
        id: id.into(),
        title: id.into(),
        found: "f".into(),
        action,
        reason: "r".into(),
        required,
        hint: Some(format!("hint of {id}")),
    }
}

fn of(steps: Vec<Step>) -> Plan {
    Plan { schema: PLAN_SCHEMA, steps }
}

fn cgroup_plan(controllers: &[&str]) -> Plan {
    of(vec![
        step("evacuate", false, Action::Evacuate { from: GROUP.into(), to: LEAF.into() }),
        step(
            "delegate",
            false,
            Action::Delegate {
                group: GROUP.into(),
                leaf: Some(LEAF.into()),
                controllers: controllers.iter().map(ToString::to_string).collect(),
            },
        ),
    ])
}

fn messages(applied: &Applied) -> Vec<&str> {
    applied.warnings.iter().map(|warning| warning.message.as_str()).collect()
}

#[test]
fn a_quiet_group_is_emptied_and_hands_on_one_by_one() {
    let mut kernel = FakeKernel::new(&[1, 7, 9], &ALL);
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    assert_eq!(messages(&applied), Vec::<&str>::new());
    assert_eq!(kernel.group.leaf, [1, 7, 9]);
    let order: Vec<&str> =
        kernel.calls.iter().filter_map(|call| call.strip_prefix("write +")?.split(' ').next()).collect();
    assert_eq!(order, ALL);
    assert_eq!(kernel.slept, Duration::ZERO, "nothing waits when nothing is in the way");
    assert_eq!(applied.steps[0].notes, ["moved 3 processes in 1 rounds"]);
}

#[test]
fn a_process_that_ends_meanwhile_is_no_error() {
    let mut kernel = FakeKernel::new(&[1, 5], &["memory"]);
    kernel.group.dying.insert(5);
    let applied = apply(&cgroup_plan(&["memory"]), &mut kernel).unwrap();
    assert_eq!(messages(&applied), Vec::<&str>::new());
    assert!(kernel.group.enabled.contains("memory"));
}

#[test]
fn a_round_in_which_all_have_ended_is_progress() {
    let mut kernel = FakeKernel::new(&[5, 6], &["memory"]);
    kernel.group.leaf = vec![1];
    kernel.group.dying.extend([5, 6]);
    let applied = apply(&cgroup_plan(&["memory"]), &mut kernel).unwrap();
    assert_eq!(messages(&applied), Vec::<&str>::new());
    assert_eq!(kernel.slept, Duration::ZERO);
}

/// Its number was taken for a move each time, and 50 rounds were over before it could leave.
#[test]
fn a_process_that_is_ending_is_waited_for() {
    let mut kernel = FakeKernel::new(&[1, 5], &["memory"]);
    kernel.group.ending.insert(5, 20);
    let applied = apply(&cgroup_plan(&["memory"]), &mut kernel).unwrap();
    assert_eq!(messages(&applied), Vec::<&str>::new());
    assert_eq!(applied.steps[0].notes, ["moved 2 processes in 20 rounds"]);
    assert!(kernel.group.enabled.contains("memory") && kernel.slept > Duration::from_millis(400), "{:?}", kernel.slept);
    let mut kernel = FakeKernel::new(&[1, 5], &["memory"]);
    kernel.group.ending.insert(5, 1000);
    let applied = apply(&cgroup_plan(&["memory"]), &mut kernel).unwrap();
    assert!(messages(&applied)[0].contains("(process 5 is ending, and has not left the group yet)"), "{applied:?}");
    assert!((1_900_000..2_100_000).contains(&applied.micros), "{} µs", applied.micros);
}

#[test]
fn visitors_between_emptying_and_handing_on_are_moved_as_well() {
    let mut kernel = FakeKernel::new(&[1], &ALL);
    let mut next = 100;
    kernel.visitors = Box::new(move |group, call| {
        if call % 3 == 0 && call < 30 {
            next += 1;
            group.enter(next);
        }
    });
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    assert_eq!(messages(&applied), Vec::<&str>::new(), "{:#?}", kernel.calls);
    assert_eq!(kernel.group.enabled.len(), ALL.len());
    assert!(kernel.group.procs.is_empty());
}

#[test]
fn visitors_without_end_are_bounded() {
    for controllers in [&ALL[..], &["cpu", "pids"]] {
        let mut kernel = FakeKernel::new(&[1], controllers);
        let mut next = 100;
        kernel.visitors = Box::new(move |group, _| {
            if group.procs.is_empty() {
                next += 1;
                group.enter(next);
            }
        });
        let applied = apply(&cgroup_plan(controllers), &mut kernel).unwrap();
        assert!(!applied.warnings.is_empty());
        assert!(messages(&applied)[0].contains("EBUSY"), "{:?}", messages(&applied));
        assert!(applied.micros < 5_000_000 && kernel.calls.len() < 1000, "{} calls", kernel.calls.len());
    }
}

#[test]
fn a_crowd_that_takes_too_long_to_move_is_bounded_in_time() {
    let crowd: Vec<u32> = (1..=5000).collect();
    let mut kernel = FakeKernel::new(&crowd, &ALL);
    kernel.call_takes = Duration::from_millis(1);
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    assert!(messages(&applied)[0].contains("(not all processes could be moved within 2s)"), "{applied:?}");
    assert!(applied.micros < 2_010_000, "{} µs", applied.micros);
    assert!(kernel.group.leaf.len() > 1900 && kernel.group.enabled.is_empty());
}

#[test]
fn a_process_of_another_pid_namespace_is_named_soon() {
    let mut kernel = FakeKernel::new(&[0, 1], &ALL);
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    let messages = messages(&applied);
    assert!(messages[0].contains("1 process of another pid namespace"), "{messages:?}");
    assert_eq!(messages[1], "cpuset, io, memory, pids not handed on for the same reason");
    assert!(kernel.group.enabled.is_empty());
    assert_eq!(kernel.group.leaf, [1]);
    assert!(applied.micros < 500_000, "{}", applied.micros);
    assert_eq!(applied.warnings[0].hint.as_deref(), Some("hint of delegate"));
}

#[test]
fn a_controller_that_is_not_offered_does_not_keep_the_others_back() {
    let mut kernel = FakeKernel::new(&[1], &["memory", "cpu"]);
    let applied = apply(&cgroup_plan(&["io", "memory", "cpu", "pids"]), &mut kernel).unwrap();
    let messages = messages(&applied);
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("cannot write \"+io\" to /sys/fs/cgroup/cgroup.subtree_control: ENOENT"));
    assert!(messages[0].ends_with("(the group above does not offer it)"), "{messages:?}");
    assert_eq!(kernel.group.enabled.iter().collect::<Vec<_>>(), ["cpu", "memory"]);
}

#[test]
fn a_group_that_cannot_be_created_is_not_handed_on_from() {
    let mut kernel = FakeKernel::new(&[1], &ALL);
    kernel.refuse("mkdir", Errno::EAGAIN);
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    assert_eq!(
        messages(&applied),
        [
            "cannot create the group /sys/fs/cgroup/init: EAGAIN: Try again (cgroup.max.descendants or cgroup.max.depth of a group above is reached)",
            "cpu, cpuset, io, memory, pids not handed on: the processes are still in the group",
        ]
    );
    assert!(kernel.group.enabled.is_empty());
}

/// `--privileged --cgroupns=private`, the usual hint, had been given already.
#[test]
fn where_the_kernel_makes_no_more_groups_the_hint_is_to_raise_the_limit() {
    let mut kernel = FakeKernel::new(&[1], &ALL);
    kernel.refuse("mkdir", Errno::EAGAIN);
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    let hints: Vec<&str> = applied.warnings.iter().filter_map(|it| it.hint.as_deref()).collect();
    assert!(hints[0].starts_with("raise cgroup.max.descendants"), "{hints:?}");
    assert!(hints[1].contains("the warning before this one"), "{hints:?}");
}

#[test]
fn a_permanent_refusal_ends_the_rounds_at_once() {
    let mut kernel = FakeKernel::new(&[1], &ALL);
    kernel.refuse("write 1 /sys/fs/cgroup/init", Errno::EACCES);
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    assert!(messages(&applied)[0].contains("cannot write \"1\" to /sys/fs/cgroup/init/cgroup.procs: EACCES"));
    assert_eq!(kernel.calls.len(), 3, "{:?}", kernel.calls);
}

#[test]
fn a_busy_process_is_tried_again_with_pauses_within_the_bound() {
    let mut kernel = FakeKernel::new(&[1], &ALL);
    kernel.refuse("write 1 /sys/fs/cgroup/init", Errno::EBUSY);
    let applied = apply(&cgroup_plan(&ALL), &mut kernel).unwrap();
    assert!(messages(&applied)[0].contains("EBUSY"));
    let tries = kernel.calls.iter().filter(|call| call.starts_with("write 1 ")).count();
    assert!((20..=50).contains(&tries), "{tries}");
    assert!(kernel.slept > Duration::from_millis(500) && kernel.slept < Duration::from_secs(3), "{:?}", kernel.slept);
}

#[test]
fn a_refusing_plan_changes_nothing() {
    let plan = of(vec![
        step("first", true, Action::CreateDir { path: "/run/x".into(), mode: 0o755 }),
        step("no", true, Action::Fail { cause: "the data root is full".into() }),
    ]);
    let mut kernel = FakeKernel::new(&[], &[]);
    let error = apply(&plan, &mut kernel).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.step()), ("the data root is full", "no"));
    assert_eq!(error.hint().as_deref(), Some("hint of no"));
    assert!(kernel.calls.is_empty());
}

#[test]
fn a_required_step_that_fails_names_path_value_and_errno() {
    let mut kernel = FakeKernel::new(&[], &[]);
    kernel.refuse("mkdir", Errno::EROFS);
    let plan = of(vec![
        step("dir", true, Action::CreateDir { path: "/run/dindctl".into(), mode: 0o755 }),
        step("later", false, Action::MakeShared { target: "/".into() }),
    ]);
    let error = apply(&plan, &mut kernel).unwrap_err();
    assert_eq!(error.to_string(), "cannot create the folder /run/dindctl: EROFS: Read-only file system");
    assert_eq!((error.step(), error.hint().as_deref()), ("dir", Some("hint of dir")));
    assert_eq!(kernel.calls.len(), 1, "nothing after it is tried");
}

#[test]
fn an_optional_step_that_fails_is_said_and_the_rest_goes_on() {
    let mut kernel = FakeKernel::new(&[], &[]);
    kernel.files.insert("/proc/sys/x".into(), "0".into());
    kernel.refuse("share", Errno::EPERM);
    let plan = of(vec![
        step("share", false, Action::MakeShared { target: "/".into() }),
        step("write", false, Action::Write { path: "/proc/sys/x".into(), value: "1".into() }),
        step("gone", false, Action::RemoveFile { path: "/run/docker.pid".into() }),
        step("env", false, Action::SetEnv { name: "container".into(), value: "docker".into() }),
        step("parent", false, Action::SetDaemonOption { key: "cgroup-parent".into(), value: "/docker/0".into() }),
        step("nothing", false, Action::Nothing),
    ]);
    let applied = apply(&plan, &mut kernel).unwrap();
    assert_eq!(messages(&applied), ["cannot share, recursively, the mount /: EPERM: Operation not permitted"]);
    assert_eq!(kernel.files[std::path::Path::new("/proc/sys/x")], "1");
    assert_eq!(applied.environment, [("container".to_string(), "docker".to_string())]);
    assert_eq!(applied.daemon_options["cgroup-parent"], "/docker/0");
    let status: Vec<Status> = applied.steps.iter().map(|it| it.status).collect();
    let (done, unchanged) = (Status::Done, Status::Unchanged);
    assert_eq!(status, [Status::Warned, done, done, done, done, unchanged], "a file that is gone already is fine");
    assert_eq!(applied.steps[0].micros, 10);
}

#[test]
fn a_locked_read_only_flag_is_covered_by_a_new_mount_where_that_shows_the_same() {
    let remount = |fresh: Option<FreshMount>| {
        let options = ["ro", "nosuid"].map(String::from).into();
        of(vec![step("rw", false, Action::RemountReadWrite { target: GROUP.into(), options, fresh })])
    };
    let fresh = FreshMount { source: "cgroup".into(), fstype: "cgroup".into(), data: "memory".into() };
    let mut kernel = FakeKernel::new(&[], &[]);
    kernel.refuse("remount", Errno::EPERM);
    let applied = apply(&remount(Some(fresh.clone())), &mut kernel).unwrap();
    assert_eq!(messages(&applied), Vec::<&str>::new());
    assert_eq!(kernel.calls[1], "cover cgroup /sys/fs/cgroup cgroup nosuid memory");
    let applied = apply(&remount(None), &mut kernel).unwrap();
    assert_eq!(messages(&applied), ["cannot remount read-write /sys/fs/cgroup: EPERM: Operation not permitted"]);
    kernel.refuse("cover", Errno::EPERM);
    let applied = apply(&remount(Some(fresh)), &mut kernel).unwrap();
    assert!(messages(&applied)[0].contains("and mounting cgroup anew over it: EPERM"), "{:?}", messages(&applied));
}

#[test]
fn a_whole_plan_is_applied_in_its_order() {
    let mut kernel = FakeKernel::new(&[1, 7], &["cpuset", "cpu", "io", "memory", "hugetlb", "pids"]);
    let applied = apply(&private_v2().plan(), &mut kernel).unwrap();
    assert_eq!(messages(&applied), Vec::<&str>::new());
    insta::assert_snapshot!(kernel.calls.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever comes and goes, and whatever is offered: it ends within the bound, the group never becomes threaded,
    /// and unless something is said everything is handed on.
    #[test]
    fn no_schedule_of_visitors_spoils_the_group(
        offered in prop::sample::subsequence(ALL.to_vec(), 0..=ALL.len()),
        arrivals in prop::collection::vec(1_usize..120, 0..40),
        deaths in prop::collection::btree_set(1_u32..40, 0..10),
    ) {
        let mut kernel = FakeKernel::new(&[1], &offered);
        kernel.group.dying = deaths.into_iter().map(|number| number + 1000).collect();
        let mut next = 1000;
        kernel.visitors = Box::new(move |group, call| {
            for _ in arrivals.iter().filter(|moment| **moment == call) {
                next += 1;
                group.enter(next);
            }
        });
        let applied = apply(&cgroup_plan(&offered), &mut kernel).unwrap();
        prop_assert!(applied.micros < 5_000_000);
        prop_assert!(!kernel.group.threaded());
        prop_assert!(messages(&applied).iter().all(|text| !text.contains("EOPNOTSUPP")), "{:?}", messages(&applied));
        if applied.warnings.is_empty() {
            prop_assert_eq!(kernel.group.enabled.len(), offered.len());
        }
    }
}
