/*!
A folder that looks like the root of a container: procfs, cgroup trees, mount table.
*/
use std::fs;
use std::path::{Path, PathBuf};

use dindctl::prepare::{Facts, Plan, Wants, plan};
use dindctl::probe::Roots;
use dindctl::probe::layers::Fuse;
use dindctl::probe::overlay::Problem;
use dindctl::probe::storage::Free;

/// `CapEff` of a privileged container, and of one that was started without.
pub const PRIVILEGED: &str = "000001ffffffffff";
pub const DEFAULT: &str = "00000000a80425fb";

pub struct FakeRoot {
    folder: tempfile::TempDir,
    mounts: Vec<String>,
    cgroup: String,
}

impl FakeRoot {
    /// A privileged container on overlay, with volumes for the data folders, /tmp and /run, and no cgroups yet.
    pub fn new() -> Self {
        let mut root = Self { folder: tempfile::tempdir().unwrap(), mounts: Vec::new(), cgroup: String::new() };
        for name in
            ["tmp", "run", "var/lib/docker", "var/lib/containerd", "sys/kernel/security", "sys/fs/cgroup", "etc"]
        {
            fs::create_dir_all(root.path(name)).unwrap();
        }
        std::os::unix::fs::symlink("../run", root.path("var/run")).unwrap();
        root.capabilities(PRIVILEGED);
        root.file(
            "proc/self/limits",
            "Max open files            1024                 524288               files     \n",
        );
        root.file("proc/sys/fs/nr_open", "1073741816\n");
        root.mount("/", "overlay", "rw,relatime", "rw,lowerdir=a,upperdir=b");
        root.mount("/proc", "proc", "rw", "rw");
        root.mount("/sys", "sysfs", "rw", "rw");
        root.mount("/run", "tmpfs", "rw", "rw");
        root.mount("/var/lib/docker", "ext4", "rw", "rw");
        root.mount("/var/lib/containerd", "ext4", "rw", "rw");
        root
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn roots(&self) -> Roots {
        Roots::below(self.folder.path())
    }

    pub fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn capabilities(&mut self, effective: &str) {
        self.file("proc/self/status", &format!("Name:\tdindctl\nCapEff:\t{effective}\nCapBnd:\t{effective}\n"));
    }

    /// Adds a line to the mount table; the parent is the mount that holds the place, as the kernel would have it.
    pub fn mount(&mut self, point: &str, fstype: &str, options: &str, super_options: &str) {
        self.mount_part("/", point, fstype, options, super_options);
    }

    pub fn mount_part(&mut self, part: &str, point: &str, fstype: &str, options: &str, super_options: &str) {
        let id = self.mounts.len() + 1;
        let holds = |line: &&String| {
            let there = line.split(' ').nth(4).unwrap();
            Path::new(point).starts_with(there)
        };
        let parent = self.mounts.iter().filter(holds).max_by_key(|line| line.split(' ').nth(4).unwrap().len());
        let parent = parent.map_or("0", |line| line.split(' ').next().unwrap());
        self.mounts.push(format!("{id} {parent} 0:{id} {part} {point} {options} - {fstype} {fstype} {super_options}"));
        self.file("proc/self/mountinfo", &(self.mounts.join("\n") + "\n"));
    }

    /// Version 1 hierarchies as Docker mounts them.
    pub fn v1(&mut self, options: &str) {
        self.mount("/sys/fs/cgroup", "tmpfs", "rw", "rw,mode=755");
        for (number, name) in ["cpu,cpuacct", "memory", "pids", "name=systemd"].iter().enumerate() {
            let folder = name.trim_start_matches("name=");
            self.file(&format!("sys/fs/cgroup/{folder}/cgroup.procs"), "1\n");
            self.mount(&format!("/sys/fs/cgroup/{folder}"), "cgroup", options, &format!("rw,{name}"));
            self.membership(&format!("{}:{name}:/", number + 1));
        }
    }

    /// A version 2 mount and the line of the own group.
    pub fn v2(&mut self, point: &str, options: &str, own: &str) {
        self.mount(point, "cgroup2", options, "rw,nsdelegate");
        self.membership(&format!("0::{own}"));
    }

    /// A version 2 group; `kind` is left out for the machine's root.
    pub fn group(&self, folder: &str, kind: Option<&str>, controllers: &str, procs: &str) {
        self.file(&format!("{folder}/cgroup.procs"), procs);
        self.file(&format!("{folder}/cgroup.controllers"), &format!("{controllers}\n"));
        self.file(&format!("{folder}/cgroup.subtree_control"), "\n");
        if let Some(kind) = kind {
            self.file(&format!("{folder}/cgroup.type"), &format!("{kind}\n"));
        }
    }

    /// A line of `/proc/self/cgroup`.
    pub fn membership(&mut self, line: &str) {
        self.cgroup.push_str(line);
        self.cgroup.push('\n');
        self.file("proc/self/cgroup", &self.cgroup);
    }

    /// Process 1 is in the groups of this process.
    pub fn beside_init(&self) {
        self.file("proc/1/cgroup", &self.cgroup);
    }

    /// A process with that executable.
    pub fn process(&self, pid: i32, exe: &str) {
        self.file(&format!("proc/{pid}/stat"), &format!("{pid} ({exe}) S 1 1\n"));
        self.file(&format!("proc/{pid}/comm"), &format!("{exe}\n"));
        self.file(&format!("proc/{pid}/cmdline"), &format!("{exe}\0--flag\0"));
        std::os::unix::fs::symlink(format!("/usr/bin/{exe}"), self.path(&format!("proc/{pid}/exe"))).unwrap();
    }

    /// The facts, with free space and trials of overlay that do not depend on the machine the test runs on.
    pub fn facts(&self, wants: &Wants) -> Facts {
        let mut facts = Facts::gather(&self.roots(), wants, None).unwrap();
        for storage in [&mut facts.data_root, &mut facts.containerd_root] {
            storage.free = Some(Free { bytes: 10 << 30, inodes: Some(65536) });
        }
        facts.confinement.keyctl = None;
        if let Some(layers) = &mut facts.layers {
            let tried = |fstype: &str| match fstype {
                "overlay" => Err(Problem::Mount(nix::errno::Errno::EINVAL)),
                _ => Ok(()),
            };
            layers.data_root = tried(&facts.data_root.fstype);
            layers.containerd_root = tried(&facts.containerd_root.fstype);
            layers.fuse = layers.data_root.is_err().then_some(Fuse::Missing);
        }
        facts
    }

    pub fn plan(&self) -> Plan {
        let wants = Wants::default();
        plan(&self.facts(&wants), &wants)
    }
}

/// A privileged container on cgroup v2 with a private namespace.
pub fn private_v2() -> FakeRoot {
    let mut root = FakeRoot::new();
    root.v2("/sys/fs/cgroup", "rw,nosuid,nodev,noexec,relatime", "/");
    root.group("sys/fs/cgroup", Some("domain"), "cpuset cpu io memory hugetlb pids", "1\n7\n");
    root
}
