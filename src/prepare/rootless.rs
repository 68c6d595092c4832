/*!
The checks before a daemon is started in a user namespace of its own, as the official rootless image makes them, and
the choice of its network driver, as moby's `dockerd-rootless.sh` makes it.

In the namespace itself the ordinary plan applies, without cgroups, which belong to root.
*/
use super::plan::{Action, PLAN_SCHEMA, Plan, Step};
use crate::probe::rootless::{Driver, Rootless};
use crate::probe::storage::Storage;

/// Ids that images expect to be there (subuid(5) and the engine's own documentation).
const IDS: u64 = 65_536;

/// What the operator asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootlessWishes {
    /// `DOCKERD_ROOTLESS_ROOTLESSKIT_NET`.
    pub driver: Option<String>,
}

/// The plan of the part outside of the namespace.
pub fn plan(facts: &Rootless, wishes: &RootlessWishes) -> Plan {
    let steps = vec![
        kit(facts),
        namespaces(facts),
        ids(facts),
        runtime_dir(facts),
        data(&facts.data_root),
        network(facts, wishes),
        limits(),
    ];
    Plan { schema: PLAN_SCHEMA, steps }
}

fn kit(facts: &Rootless) -> Step {
    let found = match &facts.programs.rootlesskit {
        Some(path) => path.display().to_string(),
        None => "rootlesskit is not in PATH".into(),
    };
    let step =
        Step::nothing("rootless.kit", "rootlesskit", found, "it makes the namespaces and connects their network");
    if facts.programs.rootlesskit.is_some() {
        return step;
    }
    step.fails(format!("this container runs as user {}, and rootlesskit is not installed", facts.owner.uid))
        .hint("use images/dind-rootless, install rootlesskit, or start the container as root")
}

fn namespaces(facts: &Rootless) -> Step {
    let found = format!(
        "kernel.unprivileged_userns_clone: {}; user.max_user_namespaces: {}; no_new_privs: {}",
        setting(facts.userns_clone),
        setting(facts.max_user_namespaces),
        u8::from(facts.no_new_privileges),
    );
    let step = Step::nothing("rootless.namespaces", "user namespaces", found, "the daemon is root in one of its own");
    if facts.userns_clone == Some(0) {
        return step
            .fails("this kernel does not let users make user namespaces")
            .hint("on the host: sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if facts.max_user_namespaces == Some(0) {
        return step
            .fails("no user namespace may be made here")
            .hint("on the host: sysctl -w user.max_user_namespaces=28633");
    }
    if facts.no_new_privileges {
        return step
            .fails("no-new-privileges is set, so newuidmap and newgidmap may not write the id maps")
            .hint("start the container without --security-opt no-new-privileges");
    }
    step
}

fn setting(value: Option<u64>) -> String {
    value.map_or("not there".into(), |value| value.to_string())
}

fn ids(facts: &Rootless) -> Step {
    let who = facts.name.clone().unwrap_or_else(|| facts.owner.uid.to_string());
    let found = format!("{who} has {} subordinate user ids and {} group ids", facts.subuids, facts.subgids);
    let step = Step::nothing("rootless.ids", "subordinate ids", found, "images have files of many users");
    let line = format!("{who}:100000:{IDS}");
    let hint = format!("write the line `{line}` to /etc/subuid and /etc/subgid in the image");
    if facts.subuids == 0 || facts.subgids == 0 {
        let missing = if facts.subuids == 0 { "/etc/subuid" } else { "/etc/subgid" };
        return step.fails(format!("user {who} has no entry in {missing}")).hint(hint);
    }
    if !facts.programs.id_mappers {
        return step
            .fails("newuidmap and newgidmap are not in PATH")
            .hint("install them in the image (Debian: uidmap, Alpine: shadow-subids)");
    }
    if facts.subuids < IDS || facts.subgids < IDS {
        return step
            .warns(format!("fewer than {IDS} ids: images with files of higher ids cannot be unpacked"))
            .hint(hint);
    }
    step
}

fn runtime_dir(facts: &Rootless) -> Step {
    let path = facts.runtime_dir.path.display();
    let step =
        folder("rootless.runtime-dir", "runtime folder", &facts.runtime_dir, "sockets and state of the user's daemon");
    if facts.runtime_dir.unwritable.is_some() {
        return step.hint(format!(
            "make /run/user a folder with mode 1777 in the image, or point XDG_RUNTIME_DIR to a writable folder ({path} is not)"
        ));
    }
    if facts.runtime_dir.exists { step } else { step.does(create(&facts.runtime_dir)).required() }
}

fn data(storage: &Storage) -> Step {
    let step = folder("rootless.data", "data root", storage, "images and containers of the user's daemon");
    if storage.unwritable.is_some() {
        return step.hint("mount a volume there that belongs to the user of the container");
    }
    if storage.exists { step } else { step.does(create(storage)).required() }
}

fn create(storage: &Storage) -> Action {
    Action::CreateDir { path: storage.path.clone(), mode: 0o700 }
}

fn folder(id: &str, title: &str, storage: &Storage, reason: &str) -> Step {
    let path = storage.path.display();
    let there = if storage.exists { "exists" } else { "does not exist" };
    let step = Step::nothing(id, title, format!("{path} {there}"), reason);
    match storage.unwritable {
        Some(errno) => step.fails(format!("the {title} {path} cannot be written: {errno}")),
        None => step,
    }
}

/// The network driver: the operator's, else the first that is installed.
pub fn driver(facts: &Rootless, wishes: &RootlessWishes) -> Option<String> {
    wishes.driver.clone().or_else(|| facts.programs.drivers.first().map(|driver| driver.name().to_owned()))
}

fn network(facts: &Rootless, wishes: &RootlessWishes) -> Step {
    let installed: Vec<&str> = facts.programs.drivers.iter().map(|driver| driver.name()).collect();
    let installed = if installed.is_empty() { "none".to_owned() } else { installed.join(", ") };
    let tun = facts.tun.map_or("can be opened".to_owned(), |errno| format!("cannot be opened ({errno})"));
    let found = format!("drivers installed: {installed}; /dev/net/tun {tun}");
    let step = Step::nothing("rootless.network", "network driver", found, "a user namespace has a network of its own");
    let Some(chosen) = driver(facts, wishes) else {
        return step
            .fails("no network driver for rootlesskit is installed")
            .hint("install slirp4netns (or passt) in the image");
    };
    // host and lxc-user-nic need no program of ours; rootlesskit judges names that are new.
    if let Some(known) = Driver::named(&chosen)
        && !facts.programs.drivers.contains(&known)
    {
        let (lacks, hint) = if known == Driver::GvisorTapVsock {
            ("is not in this rootlesskit", "install rootlesskit 3 or newer, or leave the variable out")
        } else {
            ("is not in PATH", "install it in the image, or leave the variable out")
        };
        return step.fails(format!("DOCKERD_ROOTLESS_ROOTLESSKIT_NET={chosen}, but {chosen} {lacks}")).hint(hint);
    }
    if chosen == "host" {
        return step
            .fails("DOCKERD_ROOTLESS_ROOTLESSKIT_NET=host: dockerd cannot set networks up in a namespace that is not its own")
            .hint("leave the variable out");
    }
    match facts.tun {
        Some(errno) if chosen != "lxc-user-nic" => step
            .fails(format!("/dev/net/tun cannot be opened by this user: {errno}; {chosen} needs it"))
            .hint("chmod 0666 /dev/net/tun on the host (docker/for-mac issue 3838), and start the container with --device /dev/net/tun or --privileged"),
        _ => Step { found: format!("{}; {chosen} is used", step.found), ..step },
    }
}

/// Without systemd the engine has the cgroup driver "none" in a user namespace, whatever is writable
/// (`cgroupDriver` in moby's `daemon/daemon_unix.go`).
fn limits() -> Step {
    let step = Step::nothing(
        "rootless.cgroup",
        "limits of nested containers",
        "the engine uses no cgroups in rootless mode without systemd",
        "limits would need groups of the user's own",
    );
    step.warns("rootless: --memory, --cpus and --pids-limit of nested containers have no effect")
        .hint("limit the outer container: nested containers share its limits")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::errno::Errno;

    use super::*;
    use crate::probe::rootless::{Owner, Programs};
    use crate::probe::storage::Storage;

    fn storage(path: &str) -> Storage {
        Storage {
            path: path.into(),
            exists: true,
            unwritable: None,
            mount_point: false,
            fstype: "ext4".into(),
            free: None,
        }
    }

    fn good() -> Rootless {
        Rootless {
            owner: Owner { uid: 1000, runtime_dir: "/run/user/1000".into(), data_root: "/home/u/docker".into() },
            name: Some("u".into()),
            subuids: IDS,
            subgids: IDS,
            userns_clone: Some(1),
            max_user_namespaces: Some(100),
            no_new_privileges: false,
            runtime_dir: storage("/run/user/1000"),
            data_root: storage("/home/u/docker"),
            tun: None,
            proc_masked: false,
            programs: Programs {
                rootlesskit: Some(PathBuf::from("/usr/bin/rootlesskit")),
                id_mappers: true,
                drivers: vec![Driver::Pasta, Driver::Vpnkit],
            },
        }
    }

    fn failure(facts: &Rootless, wishes: &RootlessWishes) -> Option<(String, String)> {
        let plan = plan(facts, wishes);
        let step = plan.failures().next()?;
        assert!(step.hint.is_some(), "{step:?}");
        let Action::Fail { cause } = &step.action else { unreachable!() };
        Some((step.id.clone(), cause.clone()))
    }

    fn fails(change: impl FnOnce(&mut Rootless)) -> String {
        let mut facts = good();
        change(&mut facts);
        failure(&facts, &RootlessWishes::default()).map(|(id, _)| id).unwrap_or_default()
    }

    #[test]
    fn a_good_place_has_no_failure_and_says_what_does_not_work() {
        assert_eq!(failure(&good(), &RootlessWishes::default()), None);
        let plan = plan(&good(), &RootlessWishes::default());
        assert!(matches!(plan.step("rootless.cgroup").unwrap().action, Action::Warn { .. }));
    }

    #[test]
    fn each_check_of_the_official_script_is_made() {
        assert_eq!(fails(|facts| facts.programs.rootlesskit = None), "rootless.kit");
        assert_eq!(fails(|facts| facts.userns_clone = Some(0)), "rootless.namespaces");
        assert_eq!(fails(|facts| facts.max_user_namespaces = Some(0)), "rootless.namespaces");
        assert_eq!(fails(|facts| facts.subuids = 0), "rootless.ids");
        assert_eq!(fails(|facts| facts.subgids = 0), "rootless.ids");
        assert_eq!(fails(|facts| facts.runtime_dir.unwritable = Some(Errno::EACCES)), "rootless.runtime-dir");
        assert_eq!(fails(|facts| facts.data_root.unwritable = Some(Errno::EACCES)), "rootless.data");
    }

    #[test]
    fn and_those_that_it_does_not_make() {
        assert_eq!(fails(|facts| facts.no_new_privileges = true), "rootless.namespaces");
        assert_eq!(fails(|facts| facts.programs.id_mappers = false), "rootless.ids");
        assert_eq!(fails(|facts| facts.programs.drivers.clear()), "rootless.network");
        assert_eq!(fails(|facts| facts.tun = Some(Errno::EACCES)), "rootless.network");
    }

    #[test]
    fn folders_that_are_missing_are_made() {
        let mut facts = good();
        facts.runtime_dir.exists = false;
        let plan = plan(&facts, &RootlessWishes::default());
        let step = plan.step("rootless.runtime-dir").unwrap();
        assert_eq!(step.action, Action::CreateDir { path: "/run/user/1000".into(), mode: 0o700 });
        assert!(step.required);
    }

    #[test]
    fn the_driver_is_the_operators_else_the_first_installed() {
        let wish = |name: &str| RootlessWishes { driver: Some(name.into()) };
        assert_eq!(driver(&good(), &RootlessWishes::default()).as_deref(), Some("pasta"));
        assert_eq!(driver(&good(), &wish("lxc-user-nic")).as_deref(), Some("lxc-user-nic"));
        assert_eq!(failure(&good(), &wish("vpnkit")), None);
        assert_eq!(failure(&good(), &wish("slirp4netns")).unwrap().0, "rootless.network");
        assert_eq!(failure(&good(), &wish("host")).unwrap().0, "rootless.network");
    }
}
