/*!
What the whole container uses, read from trees of version 1, version 2 and both.
*/
use std::time::Duration;

use dindctl::stats::outer;
use dindctl::stats::reading::{Flow, Pressure, Reading};

use crate::fake_root::FakeRoot;

const MIB: u64 = 1 << 20;

/// A machine of 1 GiB with the interfaces of a container that has a daemon.
fn surroundings(root: &FakeRoot) {
    root.file("proc/meminfo", "MemTotal:  1048576 kB\nMemFree:  100 kB\nMemAvailable:   786432 kB\n");
    root.file("proc/sys/kernel/hostname", "outer\n");
    let line =
        |name: &str, received: u64, sent: u64| format!("{name}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n");
    let all = [("lo", 7, 7), ("eth0", 100, 200), ("docker0", 30, 40), ("veth1", 30, 40), ("eth1", 1, 2)];
    let table: String = all.iter().map(|(name, received, sent)| line(name, *received, *sent)).collect();
    root.file("proc/self/net/dev", &format!("Inter-| Receive | Transmit\n face |bytes |bytes\n{table}"));
    root.file("sys/class/net/docker0/bridge/bridge_id", "8000.0\n");
    root.file("sys/class/net/veth1/brport/state", "3\n");
    // A device of its own that a bridge of the container has taken.
    root.file("sys/class/net/eth1/device/vendor", "0x1af4\n");
    root.file("sys/class/net/eth1/brport/state", "3\n");
}

const NET: Flow = Flow { incoming: 101, outgoing: 202 };

fn v2_group(root: &FakeRoot, folder: &str) {
    root.group(folder, Some("domain"), "cpu io memory pids", "");
    for (name, text) in [
        ("cgroup.events", "populated 1\nfrozen 0\n"),
        ("cpu.stat", "usage_usec 1500000\nuser_usec 1\nnr_throttled 0\n"),
        ("cpu.max", "150000 100000\n"),
        ("memory.current", "104857600\n"),
        ("memory.stat", "anon 1\nfile 30000000\ninactive_file 20971520\nactive_file 5\n"),
        ("memory.max", "268435456\n"),
        ("memory.pressure", "some avg10=2.00 avg60=0 avg300=0 total=1\nfull avg10=1.00 avg60=0 avg300=0 total=1\n"),
        ("pids.current", "12\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n"),
    ] {
        root.file(&format!("{folder}/{name}"), text);
    }
}

fn whole() -> Reading {
    Reading {
        cpu: Some(Duration::from_millis(1500)),
        cpu_limit: Some(1.5),
        memory: Some(80 * MIB),
        memory_limit: Some(256 * MIB),
        pressure: Some(Pressure { some: 0.02, full: Some(0.01) }),
        pids: Some(12),
        pids_limit: None,
        net: Some(NET),
        block: Some(Flow { incoming: 10, outgoing: 20 }),
    }
}

#[test]
fn version_2_with_a_namespace_of_its_own() {
    let mut root = FakeRoot::new();
    surroundings(&root);
    // This process was put into the leaf; the whole container is what is mounted.
    root.v2("/sys/fs/cgroup", "rw", "/init");
    v2_group(&root, "sys/fs/cgroup");
    root.group("sys/fs/cgroup/init", Some("domain"), "", "1\n7\n");
    root.file("sys/fs/cgroup/init/cgroup.events", "populated 1\n");
    let (subject, reading) = outer::read(&root.roots()).unwrap();
    assert_eq!((subject.name.as_str(), subject.state.as_str(), subject.id), ("outer", "running", None));
    assert_eq!(reading, whole());
}

#[test]
fn version_2_with_the_machines_namespace() {
    let mut root = FakeRoot::new();
    surroundings(&root);
    root.v2("/sys/fs/cgroup", "rw", "/docker/0123/init");
    root.beside_init();
    root.group("sys/fs/cgroup", None, "cpu memory", "2\n0\n");
    root.file("sys/fs/cgroup/cpu.stat", "usage_usec 99000000\n");
    root.group("sys/fs/cgroup/docker", Some("domain"), "cpu memory", "");
    root.file("sys/fs/cgroup/docker/cgroup.events", "populated 1\n");
    // A limit around the container is narrower than its own.
    root.file("sys/fs/cgroup/docker/memory.max", "134217728\n");
    v2_group(&root, "sys/fs/cgroup/docker/0123");
    root.group("sys/fs/cgroup/docker/0123/init", Some("domain"), "", "1\n");
    root.file("sys/fs/cgroup/docker/0123/init/cgroup.events", "populated 1\n");
    let (subject, reading) = outer::read(&root.roots()).unwrap();
    assert_eq!(subject.state, "running");
    assert_eq!(reading, Reading { memory_limit: Some(128 * MIB), ..whole() });
}

fn v1_files(root: &FakeRoot, folders: [&str; 5]) {
    let [cpu, cpuacct, memory, pids, blkio] = folders;
    for (folder, name, text) in [
        (cpu, "cpu.cfs_quota_us", "150000\n"),
        (cpu, "cpu.cfs_period_us", "100000\n"),
        (cpuacct, "cpuacct.usage", "1500000000\n"),
        (memory, "memory.usage_in_bytes", "104857600\n"),
        (memory, "memory.limit_in_bytes", "9223372036854771712\n"),
        (memory, "memory.stat", "inactive_file 1\nhierarchical_memory_limit 268435456\ntotal_inactive_file 20971520\n"),
        (pids, "pids.current", "12\n"),
        (pids, "pids.max", "max\n"),
        (blkio, "blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n"),
    ] {
        root.file(&format!("{folder}/{name}"), text);
        root.file(&format!("{folder}/notify_on_release"), "0\n");
        root.file(&format!("{folder}/cgroup.procs"), "1\n");
    }
}

#[test]
fn version_1_as_docker_mounts_it() {
    let mut root = FakeRoot::new();
    surroundings(&root);
    root.mount("/sys/fs/cgroup", "tmpfs", "rw", "rw,mode=755");
    // The namespace is the machine's, and each mount shows the part of this container.
    for (number, name) in ["cpu,cpuacct", "memory", "pids", "blkio"].iter().enumerate() {
        root.mount_part("/docker/0123", &format!("/sys/fs/cgroup/{name}"), "cgroup", "rw", &format!("rw,{name}"));
        root.membership(&format!("{}:{name}:/docker/0123", number + 1));
    }
    let folders = ["cpu,cpuacct", "cpu,cpuacct", "memory", "pids", "blkio"].map(|name| format!("sys/fs/cgroup/{name}"));
    v1_files(&root, folders.each_ref().map(String::as_str));
    let (subject, reading) = outer::read(&root.roots()).unwrap();
    assert_eq!((subject.name.as_str(), subject.state.as_str()), ("outer", "running"));
    assert_eq!(reading, Reading { pressure: None, ..whole() });
}

#[test]
fn version_1_with_everything_of_the_machine_mounted() {
    let mut root = FakeRoot::new();
    surroundings(&root);
    root.mount("/sys/fs/cgroup", "tmpfs", "rw", "rw,mode=755");
    let names = ["cpu", "cpuacct", "memory", "pids", "blkio"];
    for (number, name) in names.iter().enumerate() {
        root.mount(&format!("/sys/fs/cgroup/{name}"), "cgroup", "rw", &format!("rw,{name}"));
        root.membership(&format!("{}:{name}:/docker/0123", number + 1));
        root.file(&format!("sys/fs/cgroup/{name}/release_agent"), "");
    }
    root.beside_init();
    let folders = names.map(|name| format!("sys/fs/cgroup/{name}/docker/0123"));
    v1_files(&root, folders.each_ref().map(String::as_str));
    let (_, reading) = outer::read(&root.roots()).unwrap();
    assert_eq!(reading, Reading { pressure: None, ..whole() });
}

#[test]
fn hybrid_takes_each_figure_from_where_its_controller_is() {
    let mut root = FakeRoot::new();
    surroundings(&root);
    root.mount("/sys/fs/cgroup", "tmpfs", "rw", "rw,mode=755");
    root.mount("/sys/fs/cgroup/memory", "cgroup", "rw", "rw,memory");
    root.membership("4:memory:/");
    root.v2("/sys/fs/cgroup/unified", "rw", "/");
    v2_group(&root, "sys/fs/cgroup/unified");
    root.file("sys/fs/cgroup/memory/notify_on_release", "0\n");
    root.file("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
    root.file("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 8192\n");
    let (_, reading) = outer::read(&root.roots()).unwrap();
    let want = Reading { memory: Some(4096), memory_limit: Some(1024 * MIB), pressure: None, ..whole() };
    assert_eq!(reading, want);
}

#[test]
fn a_machine_is_no_container() {
    let mut root = FakeRoot::new();
    surroundings(&root);
    root.v2("/sys/fs/cgroup", "rw", "/user.slice/session-1.scope");
    root.file("proc/1/cgroup", "0::/init.scope\n");
    root.group("sys/fs/cgroup", None, "cpu io memory pids", "");
    root.file("sys/fs/cgroup/cpu.stat", "usage_usec 3000000\n");
    root.file("proc/pressure/memory", "some avg10=4.00 avg60=0 avg300=0 total=1\n");
    v2_group(&root, "sys/fs/cgroup/user.slice/session-1.scope");
    let (subject, reading) = outer::read(&root.roots()).unwrap();
    let want = Reading {
        cpu: Some(Duration::from_secs(3)),
        memory: Some(256 * MIB),
        memory_limit: Some(1024 * MIB),
        pressure: Some(Pressure { some: 0.04, full: None }),
        net: Some(NET),
        ..Reading::default()
    };
    assert_eq!((subject.state.as_str(), reading), ("machine", want));
}

#[test]
fn where_there_are_no_control_groups_the_rest_is_told() {
    let root = FakeRoot::new();
    surroundings(&root);
    root.file("proc/self/cgroup", "");
    let (_, reading) = outer::read(&root.roots()).unwrap();
    assert_eq!(reading, Reading { memory_limit: Some(1024 * MIB), net: Some(NET), ..Reading::default() });
}
