/*!
Cells in the machine's cgroup namespace on version 2: where the own group is not the root of what is seen.
*/
use std::fs;
use std::process::Command;

use dindctl::probe::cgroup::Place;
use nix::mount::MsFlags;

use crate::cells::{
    Cell, Namespace, assert_delegated, assert_idempotent, cell, cgroup_warnings, identity, make_plan, prepare,
    prepare_keeping, root, run_program, words, write,
};
use crate::guest::{CGROUP, INIT};

const fn host(name: &'static str, body: fn()) -> Cell {
    Cell { namespace: Namespace::Host, ..cell(name, body) }
}

pub const CELLS: &[Cell] = &[
    host("host_namespace", host_namespace),
    host("host_namespace_read_only", host_read_only),
    host("host_namespace_kept", host_namespace_kept),
    host("host_namespace_below_a_service_manager", service_manager),
    host("host_namespace_by_the_program", host_namespace_by_the_program),
    host("host_namespace_refused", host_namespace_refused),
    cell("nested_twice", nested_twice),
];

fn host_namespace() {
    let own = identity(root().join("host_namespace"));
    let (facts, _, applied) = prepare();
    assert_eq!(facts.cgroup.unified.map(|it| it.place), Some(Place::Below));
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_eq!(applied.daemon_options.get("cgroup-parent"), None, "dockerd need not be told");
    assert_eq!(identity(root()), own, "only the own group can be seen");
    assert_eq!(words("/proc/self/cgroup"), ["0::/init"]);
    assert_delegated(root());
    assert_idempotent();
}

/// As an engine mounts it without `--privileged`.
fn host_read_only() {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
    nix::mount::mount(None::<&str>, CGROUP, None::<&str>, flags, None::<&str>).expect("remount,bind,ro");
    let own = identity(root().join("host_namespace_read_only"));
    let (_, _, applied) = prepare();
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_eq!(identity(root()), own);
    assert_delegated(root());
    let (facts, _) = make_plan();
    let options = facts.cgroup.unified.expect("cgroup v2").mount.options;
    assert!(["rw", "nosuid"].iter().all(|flag| options.iter().any(|it| it == flag)), "{options:?}");
}

fn host_namespace_kept() {
    let own = root().join("host_namespace_kept");
    let before = words(root().join("cgroup.procs")).len();
    let (_, _, applied) = prepare_keeping();
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_eq!(applied.daemon_options["cgroup-parent"], "/host_namespace_kept");
    assert!(!root().join("init").exists(), "nothing is created in the host's root group");
    assert_eq!(words(root().join("cgroup.procs")).len(), before);
    assert_delegated(&own);
    // In the leaf it is too late for a namespace: its root would be the leaf.
    let (_, plan) = make_plan();
    assert!(plan.step("cgroup.namespace").is_none(), "{plan:#?}");
    assert_idempotent();
}

/// systemd as process 1, and the preparation as one of its services: the mounts are systemd's as well.
fn service_manager() {
    let own = root().join("host_namespace_below_a_service_manager");
    for name in ["init.scope", "dind.service"] {
        fs::create_dir(own.join(name)).expect("a group of the service manager");
    }
    write(own.join("init.scope/cgroup.procs"), "0");
    let service = own.join("dind.service").display().to_string();
    let output = Command::new(INIT).args(["guest-join", &service, "/dindctl", "plan", "-o", "json"]).output();
    let output = output.expect("the service");
    let text = String::from_utf8_lossy(&output.stdout);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let steps = told["steps"].as_array().expect("steps");
    let step = |id: &str| steps.iter().find(|it| it["id"] == id);
    assert!(step("cgroup.namespace").is_none(), "{text}");
    assert_eq!(
        step("cgroup.v2.parent").expect("the step")["action"]["value"],
        "/host_namespace_below_a_service_manager/dind.service"
    );
}

/// The same by the command line: what it starts is in the new namespace.
fn host_namespace_by_the_program() {
    let shown = run_program(&["prepare", "--", INIT, "guest-show"]);
    assert_eq!(shown, "container=docker\n0::/init\n");
    assert_delegated(root());
}

/// Without a namespace to be had, the preparation falls back on what it can do, and says so.
fn host_namespace_refused() {
    let limit = "/proc/sys/user/max_cgroup_namespaces";
    let before = fs::read_to_string(limit).expect(limit);
    write(limit, "0");
    let output = Command::new("/dindctl").args(["prepare", "--", INIT, "guest-show"]).output().expect("/dindctl runs");
    write(limit, before.trim());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ENOSPC") && said.contains("user.max_cgroup_namespaces is reached"), "{said}");
    assert!(said.contains("cgroup-parent"), "{said}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "container=docker\n0::/host_namespace_refused/init\n",
        "{said}"
    );
    assert!(!root().join("init").exists(), "nothing is created in the host's root group");
    assert_delegated(&root().join("host_namespace_refused"));
}

/// A container in a container: its group is one that the outer preparation handed controllers to.
fn nested_twice() {
    prepare();
    let inner = root().join("docker/inner");
    fs::create_dir_all(&inner).expect("the inner group");
    for name in words(root().join("cgroup.controllers")) {
        write(root().join("docker/cgroup.subtree_control"), &format!("+{name}"));
    }
    write(inner.join("cgroup.procs"), "0");
    // Not a namespace of its own: as a container with --cgroupns=host inside the outer one.
    let own = identity(&inner);
    let (facts, _, applied) = prepare();
    assert_eq!(facts.cgroup.unified.map(|it| it.place), Some(Place::Below));
    assert_eq!(cgroup_warnings(&applied), Vec::<&str>::new());
    assert_eq!(identity(root()), own);
    assert_delegated(root());
}
