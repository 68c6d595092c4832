/*!
What the run used, read from the sandbox's control groups.

Works for both generations: in a container, cgroup v2 shows the container's own group at `/sys/fs/cgroup`, and docker
binds each v1 controller's own group to `/sys/fs/cgroup/<controller>`. Where the whole hierarchy is visible instead,
`/proc/self/cgroup` says which group is ours. The root group of a machine is never taken for ours: its numbers are
those of everybody.
*/
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::exec::outcome::Usage;

/// The files that are there; every kernel and setup lacks some.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Meters {
    cpu: Option<CpuMeter>,
    memory_peak: Option<PathBuf>,
    oom: Option<PathBuf>,
    pids_peak: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CpuMeter {
    /// `cpuacct.usage`: nanoseconds.
    V1(PathBuf),
    /// `cpu.stat`: `usage_usec` among others.
    V2(PathBuf),
}

/// Readings at one moment. Taken at the start of a job too, because a warm sandbox has a past.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    cpu: Option<Duration>,
    oom_kills: u64,
}

impl Meters {
    /// Finds the files below `cgroup_root` (`/sys/fs/cgroup`), with `proc_self_cgroup` as the text of
    /// `/proc/self/cgroup`.
    pub(super) fn find(cgroup_root: &Path, proc_self_cgroup: &str) -> Self {
        let mut meters = Self::default();
        for line in proc_self_cgroup.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                meters.add_v2(cgroup_root, path);
                continue;
            }
            for controller in controllers.split(',') {
                meters.add_v1(controller, &[controllers, controller], cgroup_root, path);
            }
        }
        meters
    }

    fn add_v2(&mut self, root: &Path, path: &str) {
        let is_ours = |group: &PathBuf| group.join("cgroup.events").exists();
        let Some(group) = [root.join(path), root.to_path_buf()].into_iter().find(is_ours) else { return };
        let file = |name: &str| Some(group.join(name)).filter(|file| file.exists());
        self.cpu = file("cpu.stat").map(CpuMeter::V2).or(self.cpu.take());
        self.memory_peak = file("memory.peak").or(self.memory_peak.take());
        self.oom = file("memory.events").or(self.oom.take());
        self.pids_peak = file("pids.peak").or(self.pids_peak.take());
    }

    fn add_v1(&mut self, controller: &str, folders: &[&str], root: &Path, path: &str) {
        let is_ours = |group: &PathBuf| group.join("tasks").exists() && !group.join("release_agent").exists();
        let candidates = folders.iter().flat_map(|folder| [root.join(folder).join(path), root.join(folder)]);
        let Some(group) = candidates.into_iter().find(is_ours) else { return };
        let file = |name: &str| Some(group.join(name)).filter(|file| file.exists());
        match controller {
            "cpuacct" => self.cpu = file("cpuacct.usage").map(CpuMeter::V1),
            "memory" => {
                self.memory_peak = file("memory.max_usage_in_bytes");
                self.oom = file("memory.oom_control");
            }
            "pids" => self.pids_peak = file("pids.peak"),
            _ => {}
        }
    }

    /// Reads what only ever rises.
    pub(super) fn read(&self) -> Reading {
        Reading { cpu: self.read_cpu(), oom_kills: self.oom.as_deref().and_then(read_oom_kills).unwrap_or(0) }
    }

    /// CPU time used by the group since `start`; `None` where no control group tells.
    pub(super) fn cpu_since(&self, start: &Reading) -> Option<Duration> {
        Some(self.read_cpu()?.saturating_sub(start.cpu?))
    }

    fn read_cpu(&self) -> Option<Duration> {
        match self.cpu.as_ref()? {
            CpuMeter::V1(file) => Some(Duration::from_nanos(read_number(file)?)),
            CpuMeter::V2(file) => Some(Duration::from_micros(read_key(file, "usage_usec")?)),
        }
    }

    /// What was used since `start`, and whether the OOM killer struck.
    pub(super) fn since(&self, start: &Reading, wall: Duration) -> (Usage, bool) {
        let now = self.read();
        let cpu = self.cpu_since(start).unwrap_or_else(children_cpu);
        let usage = Usage {
            wall_ms: millis(wall),
            cpu_ms: millis(cpu),
            memory_peak_bytes: self.memory_peak.as_deref().and_then(read_number).unwrap_or_else(children_memory_peak),
            pids_peak: self.pids_peak.as_deref().and_then(read_number).unwrap_or(0),
        };
        (usage, now.oom_kills > start.oom_kills)
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// CPU time of all children that were reaped, and of those that they reaped.
pub(super) fn children_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| {
            let seconds = Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0));
            seconds + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
        })
        .sum()
}

/// Largest resident size of any child that was reaped, bytes.
fn children_memory_peak() -> u64 {
    // ru_maxrss counts kibibytes (getrusage(2)).
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| u64::try_from(usage.max_rss()).unwrap_or(0) * 1024)
}

fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn read_key(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// `oom_kill N`, in v2's `memory.events` and, since Linux 4.13, in v1's `memory.oom_control`.
fn read_oom_kills(file: &Path) -> Option<u64> {
    read_key(file, "oom_kill")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn set(root: &tempfile::TempDir, file: &str, content: &str) {
        fs::write(root.path().join(file), content).unwrap();
    }

    #[test]
    fn version_two_with_a_namespace_of_its_own() {
        let root = tree(&[
            ("cgroup.events", "populated 1\n"),
            ("cpu.stat", "usage_usec 1500000\nuser_usec 1\n"),
            ("memory.peak", "123456\n"),
            ("memory.events", "low 0\noom 9\noom_kill 2\noom_group_kill 5\n"),
            ("pids.peak", "7\n"),
        ]);
        let meters = Meters::find(root.path(), "0::/\n");
        let start = meters.read();
        assert_eq!(start, Reading { cpu: Some(Duration::from_millis(1500)), oom_kills: 2 });
        set(&root, "cpu.stat", "usage_usec 1750000\n");
        let (usage, oom) = meters.since(&start, Duration::from_millis(40));
        assert_eq!(usage, Usage { wall_ms: 40, cpu_ms: 250, memory_peak_bytes: 123_456, pids_peak: 7 });
        assert!(!oom);
        set(&root, "memory.events", "oom_kill 3\n");
        assert!(meters.since(&start, Duration::ZERO).1);
    }

    #[test]
    fn version_one_as_docker_binds_it_although_proc_names_the_hosts_path() {
        let root = tree(&[
            ("memory/tasks", ""),
            ("memory/memory.max_usage_in_bytes", "4096\n"),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("cpu,cpuacct/tasks", ""),
            ("cpu,cpuacct/cpuacct.usage", "2000000000\n"),
            ("pids/tasks", ""),
        ]);
        let text =
            "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n3:pids:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n";
        let meters = Meters::find(root.path(), text);
        let start = meters.read();
        assert_eq!(start, Reading { cpu: Some(Duration::from_secs(2)), oom_kills: 1 });
        let (usage, _) = meters.since(&start, Duration::ZERO);
        assert_eq!((usage.cpu_ms, usage.memory_peak_bytes, usage.pids_peak), (0, 4096, 0));
    }

    #[test]
    fn the_own_group_is_taken_where_the_whole_hierarchy_is_visible() {
        let root = tree(&[
            ("cpu.stat", "usage_usec 999000000\n"),
            ("docker/abc/cgroup.events", ""),
            ("docker/abc/cpu.stat", "usage_usec 1000\n"),
            ("memory/release_agent", ""),
            ("memory/tasks", ""),
            ("memory/docker/abc/tasks", ""),
            ("memory/docker/abc/memory.oom_control", "oom_kill 4\n"),
        ]);
        let meters = Meters::find(root.path(), "4:memory:/docker/abc\n0::/docker/abc\n");
        assert_eq!(meters.read(), Reading { cpu: Some(Duration::from_millis(1)), oom_kills: 4 });
    }

    #[test]
    fn the_numbers_of_the_whole_machine_are_not_ours() {
        let root = tree(&[
            ("cpu.stat", "usage_usec 999\n"),
            ("memory/release_agent", ""),
            ("memory/tasks", ""),
            ("memory/memory.oom_control", "oom_kill 4\n"),
            ("cpuacct/release_agent", ""),
            ("cpuacct/tasks", ""),
            ("cpuacct/cpuacct.usage", "1\n"),
        ]);
        assert_eq!(Meters::find(root.path(), "4:memory:/\n2:cpuacct:/\n0::/\n"), Meters::default());
    }

    #[test]
    fn without_any_group_the_children_are_asked() {
        std::process::Command::new("true").status().unwrap();
        let (usage, oom) = Meters::default().since(&Reading::default(), Duration::ZERO);
        assert!(usage.memory_peak_bytes > 0 && !oom);
    }
}
