/*!
The cells, as data.
*/

/// A kernel of Debian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// trixie's; version 2 only.
    Linux612,
    /// bookworm's, which has every controller on version 1.
    Linux61,
}

impl Kernel {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux612 => "6.12",
            Self::Linux61 => "6.1",
        }
    }
}

/// A release of Debian, for its engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    Bookworm,
    Trixie,
    Sid,
}

impl Suite {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// Where it does not tell itself.
    pub const fn engine(self) -> &'static str {
        match self {
            Self::Bookworm => "Docker 20.10",
            Self::Trixie => "Docker 26.1",
            Self::Sid => "sid's Docker",
        }
    }
}

/// What the machine mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    V2,
    V1,
    /// Version 1, and version 2 beside it.
    Hybrid,
}

impl Groups {
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
        }
    }
}

/// What becomes of the daemon.
#[derive(Clone, Copy)]
pub enum End {
    /// It works, with this storage driver; these checks of `selftest` pass, these fail.
    Healthy { driver: &'static str, passed: &'static [&'static str], failed: &'static [&'static str] },
    /// `entrypoint` ends by itself with this code.
    Refused { code: &'static str },
}

pub struct Cell {
    pub name: &'static str,
    pub kernel: Kernel,
    pub suite: Suite,
    pub groups: Groups,
    /// Functions of the guest's script.
    pub twists: &'static [&'static str],
    /// For the kernel.
    pub arguments: &'static str,
    /// What `selftest` tries; nothing is all.
    pub tests: &'static [&'static str],
    /// Whether it runs without `--all`.
    pub quick: bool,
    /// Steps of the plan, and words of each.
    pub plan: &'static [(&'static str, &'static str)],
    /// Checks of `doctor`, and their verdicts.
    pub doctor: &'static [(&'static str, &'static str)],
    /// Words of the log.
    pub log: &'static [&'static str],
    /// Other files that the guest delivers, and words of each.
    pub files: &'static [(&'static str, &'static str)],
    pub end: End,
    /// What dindctl found and did, for people: what `plan`, `doctor` and `log` hold it to.
    pub told: &'static str,
}

/// All that every machine of this kind must keep.
const FINE: End = End::Healthy { driver: "overlay2", passed: &["memory", "swap", "pids"], failed: &[] };
/// Docker makes containers with these limits quickly, even emulated.
const SHORT: &[&str] = &["memory", "pids"];
const FINE_SHORT: End = End::Healthy { driver: "overlay2", passed: SHORT, failed: &[] };

const NORMAL: Cell = Cell {
    name: "",
    kernel: Kernel::Linux612,
    suite: Suite::Trixie,
    groups: Groups::V2,
    twists: &[],
    arguments: "apparmor=0",
    tests: SHORT,
    quick: false,
    plan: &[],
    doctor: &[],
    log: &[],
    files: &[],
    end: FINE_SHORT,
    told: "",
};

pub const CELLS: &[Cell] = &[
    Cell {
        name: "v2_private",
        tests: &[],
        quick: true,
        plan: &[("cgroup.v2.delegate", "delegate"), ("firewall", "nf_tables works for IPv4 and IPv6")],
        doctor: &[("cgroup.v2.delegate", "ok"), ("daemon", "ok")],
        twists: &["later_clock_jumps"],
        log: &["dockerd is ready"],
        files: &[
            ("daemons", "containerd -500"),
            ("daemons", "dockerd -500"),
            ("daemons", "dindctl 0"),
            ("nested", "oom_score_adj 0,"),
            ("clock", "86400: health 0"),
            ("clock", "-172800: health 0"),
        ],
        end: FINE,
        told: "processes moved to a leaf, all controllers handed on",
        ..NORMAL
    },
    Cell {
        name: "v2_host_namespace",
        twists: &["start_host_namespace"],
        plan: &[("cgroup.namespace", "new_cgroup_namespace")],
        told: "a cgroup namespace of its own, so that nested containers stay inside",
        ..NORMAL
    },
    Cell {
        name: "v2_without_nsdelegate",
        twists: &["machine_without_nsdelegate"],
        plan: &[("cgroup.v2.delegate", "delegate")],
        told: "the same as with nsdelegate",
        ..NORMAL
    },
    Cell {
        name: "v2_read_only_groups",
        twists: &["inside_read_only_groups"],
        plan: &[("cgroup.v2.writable", "remount_read_write")],
        told: "mounted anew for writing",
        ..NORMAL
    },
    Cell {
        name: "v2_without_memory",
        twists: &["group_without_memory"],
        plan: &[("cgroup.v2.absent", "memory")],
        doctor: &[("cgroup.v2.absent", "warn")],
        log: &["limits on memory will not hold in nested containers"],
        end: End::Healthy { driver: "overlay2", passed: &["pids"], failed: &["memory"] },
        told: "memory missing in the group above: named, the others handed on",
        ..NORMAL
    },
    Cell {
        name: "v2_without_controllers",
        twists: &["group_without_controllers"],
        plan: &[("cgroup.v2.absent", "memory")],
        doctor: &[("cgroup.v2.absent", "warn")],
        log: &["limits on cpu, cpuset, io, memory, pids will not hold in nested containers"],
        end: End::Healthy { driver: "overlay2", passed: &[], failed: &["memory", "pids"] },
        told: "all controllers missing in the group above: named",
        ..NORMAL
    },
    Cell {
        name: "v2_threaded",
        twists: &["group_threaded"],
        plan: &[("cgroup.v2.threaded", "warn")],
        doctor: &[("cgroup.v2.threaded", "warn")],
        end: End::Healthy { driver: "overlay2", passed: &["pids"], failed: &["memory"] },
        told: "a threaded group: named",
        ..NORMAL
    },
    Cell {
        name: "v2_foreign",
        twists: &["start_foreign"],
        plan: &[("cgroup.v2.evacuate", "of another pid namespace, which cannot be moved from here")],
        doctor: &[("cgroup.v2.delegate", "warn")],
        log: &["EBUSY", "1 process of another pid namespace in the group", "hint: end the processes that entered"],
        end: End::Healthy { driver: "overlay2", passed: &[], failed: SHORT },
        told: "a process of another pid namespace in the group: named with EBUSY",
        ..NORMAL
    },
    Cell {
        name: "v2_no_descendants",
        twists: &["group_no_descendants"],
        doctor: &[("cgroup.v2.evacuate", "warn"), ("cgroup.v2.delegate", "warn")],
        log: &["EAGAIN", "hint: raise cgroup.max.descendants"],
        end: End::Healthy { driver: "overlay2", passed: &[], failed: SHORT },
        told: "no group may be made: named with EAGAIN",
        ..NORMAL
    },
    Cell {
        name: "v1",
        kernel: Kernel::Linux61,
        groups: Groups::V1,
        tests: &[],
        end: FINE,
        told: "nothing to do",
        ..NORMAL
    },
    Cell {
        name: "v1_host_namespace",
        kernel: Kernel::Linux61,
        groups: Groups::V1,
        twists: &["start_host_namespace"],
        plan: &[("cgroup.namespace", "new_cgroup_namespace")],
        told: "a cgroup namespace of its own, and the own groups mounted",
        ..NORMAL
    },
    Cell {
        name: "v1_read_only_groups",
        kernel: Kernel::Linux61,
        groups: Groups::V1,
        twists: &["inside_read_only_groups"],
        plan: &[("cgroup.v1.memory", "remount_read_write")],
        told: "mounted anew for writing",
        ..NORMAL
    },
    Cell {
        name: "v1_missing_hierarchies",
        kernel: Kernel::Linux61,
        groups: Groups::V1,
        twists: &["inside_missing_hierarchies"],
        plan: &[("cgroup.v1.devices", "mount"), ("cgroup.v1.name=systemd", "mount")],
        told: "name=systemd and devices mounted",
        ..NORMAL
    },
    Cell {
        name: "hybrid",
        kernel: Kernel::Linux61,
        groups: Groups::Hybrid,
        quick: true,
        plan: &[("cgroup.v2", "beside version 1")],
        told: "version 1 used, version 2 reported",
        ..NORMAL
    },
    Cell { name: "docker_20_10", suite: Suite::Bookworm, told: "nothing odd", ..NORMAL },
    Cell {
        name: "docker_20_10_v1",
        kernel: Kernel::Linux61,
        groups: Groups::V1,
        suite: Suite::Bookworm,
        told: "nothing odd",
        ..NORMAL
    },
    Cell { name: "docker_28_5", suite: Suite::Sid, told: "nothing odd", ..NORMAL },
    Cell {
        name: "docker_28_5_hybrid",
        kernel: Kernel::Linux61,
        groups: Groups::Hybrid,
        suite: Suite::Sid,
        told: "nothing odd",
        ..NORMAL
    },
    Cell {
        name: "no_nf_tables",
        arguments: "apparmor=0 module_blacklist=nf_tables",
        plan: &[("firewall", "legacy")],
        log: &["(legacy)"],
        told: "iptables-legacy taken",
        ..NORMAL
    },
    Cell {
        name: "no_legacy_tables",
        arguments: "apparmor=0 module_blacklist=ip_tables,ip6_tables",
        plan: &[("firewall", "nf_tables works for IPv4 and IPv6")],
        log: &["(nf_tables)"],
        told: "nf_tables taken",
        ..NORMAL
    },
    Cell {
        name: "no_tables",
        arguments: "apparmor=0 module_blacklist=nf_tables,ip_tables,ip6_tables",
        plan: &[("firewall", "dockerd will hardly start")],
        doctor: &[("firewall", "fail")],
        log: &["hint: load the modules on the machine (modprobe", "cause: iptables does not work with this kernel"],
        end: End::Refused { code: "120" },
        told: "no packet filter at all: named, with what to load, before and after the daemon gave up",
        ..NORMAL
    },
    Cell {
        name: "no_overlay",
        arguments: "apparmor=0 module_blacklist=overlay",
        plan: &[("data-root.overlay", "overlay cannot be")],
        end: End::Healthy { driver: "vfs", passed: SHORT, failed: &[] },
        told: "no overlay: named, with the slower driver that the engine takes",
        ..NORMAL
    },
    Cell {
        name: "apparmor",
        arguments: "apparmor=1 security=apparmor",
        plan: &[("securityfs", "mount")],
        doctor: &[("apparmor", "ok")],
        files: &[("nested", "profile unconfined")],
        told: "securityfs mounted; the engine loads no profile for nested containers",
        ..NORMAL
    },
    Cell {
        name: "apparmor_auto",
        arguments: "apparmor=1 security=apparmor",
        twists: &["inside_apparmor_auto"],
        plan: &[("env.container", "AppArmor took a profile for trial")],
        files: &[("profiles", "docker-default"), ("nested", "profile docker-default (enforce)")],
        told: "a profile loaded for trial; nested containers have the engine's",
        ..NORMAL
    },
    Cell {
        name: "apparmor_without_parser",
        arguments: "apparmor=1 security=apparmor",
        twists: &["inside_apparmor_auto", "inside_without_parser"],
        plan: &[("env.container", "no AppArmor for nested containers")],
        files: &[("nested", "profile unconfined")],
        told: "no profile can be loaded: nested containers have none, as by default",
        ..NORMAL
    },
    Cell {
        name: "apparmor_insisted",
        arguments: "apparmor=1 security=apparmor",
        twists: &["inside_apparmor_on", "inside_without_parser"],
        doctor: &[("env.container", "fail")],
        log: &["AppArmor was asked for"],
        end: End::Refused { code: "125" },
        told: "insisted on AppArmor where no profile can be loaded: refused, with what is missing",
        ..NORMAL
    },
    Cell {
        name: "least_rights",
        twists: &["inside_least_rights"],
        told: "without --privileged, with SYS_ADMIN and NET_ADMIN: what is mounted read-only mounted anew",
        ..NORMAL
    },
    Cell {
        name: "no_user_namespaces",
        twists: &["machine_without_user_namespaces"],
        doctor: &[("sysctl.namespaces", "warn")],
        told: "named; a daemon with root needs none",
        ..NORMAL
    },
    Cell {
        name: "no_sys_resource",
        twists: &["inside_without_sys_resource"],
        plan: &[("limit.open_files.hard", "CAP_SYS_RESOURCE, which could raise it to 1048576, is missing")],
        told: "limits of open files stay as they are",
        ..NORMAL
    },
    Cell { name: "read_only_sys", twists: &["inside_read_only_sys"], told: "nothing; it works all the same", ..NORMAL },
];
