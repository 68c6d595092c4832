/*!
A model of the kernel for applying plans: one cgroup v2 group and its leaf with the kernel's own rules, everything
else recorded. Time passes only by sleeping and by calls, so a bound is reached without waiting.
*/
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dindctl::prepare::System;
use nix::errno::Errno;

pub const GROUP: &str = "/sys/fs/cgroup";
pub const LEAF: &str = "/sys/fs/cgroup/init";

/// What happens to the group while it is worked on.
type Visitors = Box<dyn FnMut(&mut Group, usize)>;

#[derive(Default)]
pub struct Group {
    /// In the group itself; 0 stands for a process of another pid namespace.
    pub procs: Vec<u32>,
    pub leaf: Vec<u32>,
    pub enabled: BTreeSet<String>,
    pub available: BTreeSet<String>,
    /// Processes that are listed and have ended before they are moved.
    pub dying: BTreeSet<u32>,
    /// Processes that are ending: so many writes of their numbers are taken and move nothing.
    pub ending: BTreeMap<u32, u32>,
}

impl Group {
    /// `cgroup_can_be_thread_root`: not with a process in a child group, nor with a domain controller handed on.
    fn can_be_thread_root(&self) -> bool {
        self.leaf.is_empty() && self.enabled.iter().all(|name| is_threaded(name))
    }

    /// `cgroup_is_thread_root` of kernel/cgroup/cgroup.c.
    pub fn threaded(&self) -> bool {
        !self.procs.is_empty() && self.enabled.iter().any(|name| is_threaded(name))
    }

    /// A process enters, as `docker exec` makes it (`cgroup_migrate_vet_dst`).
    pub fn enter(&mut self, pid: u32) {
        if self.can_be_thread_root() || self.enabled.is_empty() {
            self.procs.push(pid);
        }
    }

    fn control(&mut self, command: &str) -> Result<(), Errno> {
        let name = command.strip_prefix('+').unwrap();
        if !self.available.contains(name) {
            return Err(Errno::ENOENT);
        }
        // `cgroup_vet_subtree_control_enable`.
        if !is_threaded(name) && self.threaded() {
            return Err(Errno::EOPNOTSUPP);
        }
        let beside_processes = is_threaded(name) && self.can_be_thread_root();
        if !beside_processes && !self.procs.is_empty() {
            return Err(Errno::EBUSY);
        }
        self.enabled.insert(name.into());
        Ok(())
    }

    fn take(&mut self, pid: u32) -> Result<(), Errno> {
        if self.threaded() {
            return Err(Errno::EOPNOTSUPP); // the leaf is "domain invalid"
        }
        if self.dying.remove(&pid) {
            self.procs.retain(|other| *other != pid);
            return Err(Errno::ESRCH);
        }
        if let Some(left) = self.ending.get_mut(&pid) {
            *left -= 1;
            if *left == 0 {
                self.ending.remove(&pid);
                self.procs.retain(|other| *other != pid);
            }
            return Ok(());
        }
        assert_ne!(pid, 0, "writing 0 moves the writer");
        self.procs.retain(|other| *other != pid);
        self.leaf.push(pid);
        Ok(())
    }
}

fn is_threaded(name: &str) -> bool {
    ["cpu", "cpuset", "pids", "perf_event"].contains(&name)
}

pub struct FakeKernel {
    pub group: Group,
    pub calls: Vec<String>,
    pub files: BTreeMap<PathBuf, String>,
    /// Answers for calls whose text begins so.
    pub refusals: Vec<(String, Errno)>,
    pub visitors: Visitors,
    pub slept: Duration,
    /// How long each call takes.
    pub call_takes: Duration,
    now: Duration,
}

impl FakeKernel {
    pub fn new(procs: &[u32], controllers: &[&str]) -> Self {
        let group = Group {
            procs: procs.to_vec(),
            available: controllers.iter().map(ToString::to_string).collect(),
            ..Group::default()
        };
        Self {
            group,
            calls: Vec::new(),
            files: BTreeMap::new(),
            refusals: Vec::new(),
            visitors: Box::new(|_, _| {}),
            slept: Duration::ZERO,
            call_takes: Duration::from_micros(10),
            now: Duration::ZERO,
        }
    }

    pub fn refuse(&mut self, call: &str, errno: Errno) {
        self.refusals.push((call.into(), errno));
    }

    fn record(&mut self, call: String) -> Result<(), Errno> {
        self.now += self.call_takes;
        let refusal = self.refusals.iter().find(|(start, _)| call.starts_with(start)).map(|(_, errno)| *errno);
        self.calls.push(call);
        (self.visitors)(&mut self.group, self.calls.len());
        refusal.map_or(Ok(()), Err)
    }
}

impl System for FakeKernel {
    fn mount(
        &mut self,
        source: &str,
        target: &Path,
        fstype: &str,
        options: &[String],
        data: &str,
    ) -> Result<(), Errno> {
        let (target, options) = (target.display(), options.join(","));
        self.record(format!("mount {source} {target} {fstype} {options} {data}"))
    }

    fn mount_over(
        &mut self,
        source: &str,
        target: &Path,
        fstype: &str,
        options: &[String],
        data: &str,
    ) -> Result<(), Errno> {
        let (target, options) = (target.display(), options.join(","));
        self.record(format!("cover {source} {target} {fstype} {options} {data}"))
    }

    fn unmount(&mut self, target: &Path) -> Result<(), Errno> {
        self.record(format!("unmount {}", target.display()))
    }

    fn new_cgroup_namespace(&mut self) -> Result<(), Errno> {
        self.record("unshare cgroup".into())
    }

    fn remount_read_write(&mut self, target: &Path, options: &[String]) -> Result<(), Errno> {
        self.record(format!("remount {} {}", target.display(), options.join(",")))
    }

    fn make_shared(&mut self, target: &Path) -> Result<(), Errno> {
        self.record(format!("share {}", target.display()))
    }

    fn read(&mut self, path: &Path) -> Result<String, Errno> {
        self.record(format!("read {}", path.display()))?;
        if path == Path::new(GROUP).join("cgroup.procs") {
            return Ok(self.group.procs.iter().map(u32::to_string).collect::<Vec<_>>().join("\n"));
        }
        self.files.get(path).cloned().ok_or(Errno::ENOENT)
    }

    fn write(&mut self, path: &Path, value: &str) -> Result<(), Errno> {
        self.record(format!("write {value} {}", path.display()))?;
        if path == Path::new(GROUP).join("cgroup.subtree_control") {
            return self.group.control(value);
        }
        if path == Path::new(LEAF).join("cgroup.procs") {
            return self.group.take(value.parse().unwrap());
        }
        match self.files.get_mut(path) {
            Some(content) => *content = value.into(),
            None => return Err(Errno::ENOENT),
        }
        Ok(())
    }

    fn create_dir(&mut self, path: &Path, mode: Option<u32>) -> Result<(), Errno> {
        self.record(format!("mkdir {} {mode:?}", path.display()))
    }

    fn remove_file(&mut self, path: &Path) -> Result<(), Errno> {
        self.record(format!("remove {}", path.display()))?;
        self.files.remove(path).map(|_| ()).ok_or(Errno::ENOENT)
    }

    fn link(&mut self, target: &Path, link: &Path) -> Result<(), Errno> {
        self.record(format!("link {} {}", target.display(), link.display()))
    }

    fn issue_certificates(&mut self) -> Result<u8, Errno> {
        self.record("certificates".into()).map(|()| 0)
    }

    fn set_open_files(&mut self, soft: u64, hard: u64) -> Result<(), Errno> {
        self.record(format!("nofile {soft} {hard}"))
    }

    fn now(&mut self) -> Duration {
        self.now
    }

    fn sleep(&mut self, duration: Duration) {
        self.now += duration;
        self.slept += duration;
    }
}
