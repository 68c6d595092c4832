/*!
The counters of a control group, as the kernel's files or the daemon's statistics have them.
*/
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::{ContainerBlkioStatEntry, ContainerStatsResponse};

/// Counters at one moment; `None` where nobody counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// CPU time used so far.
    pub cpu: Option<Duration>,
    /// Periods in which the group had to wait for its quota.
    pub throttled: Option<u64>,
    /// Memory and swap in use, bytes: the most there ever was where the kernel keeps it.
    pub memory: Option<u64>,
    /// Whether it is that, and not what is in use now.
    pub memory_is_peak: bool,
    /// Processes that the group's own limit killed.
    pub oom_kills: Option<u64>,
    /// Tasks: the most there ever were where the kernel keeps it.
    pub tasks: Option<u64>,
    /// Tasks that were refused.
    pub refused: Option<u64>,
    /// Bytes written to block devices.
    pub written: Option<u64>,
}

/// A block device. What is written to a volume of the device mapper is counted for the volume, and for the disk below it once more
/// (`blk_cgroup_bio_start` in the kernel's block/blk-cgroup.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its driver.
    pub major: u64,
    /// Its number there.
    pub minor: u64,
}

impl Device {
    /// Of the device node at this path; `None` where it cannot be seen.
    pub fn at(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let device = std::fs::metadata(path).ok()?.rdev();
        Some(Self { major: nix::sys::stat::major(device), minor: nix::sys::stat::minor(device) })
    }

    fn is(self, word: &str) -> bool {
        word.split_once(':')
            .is_some_and(|(major, minor)| major.parse() == Ok(self.major) && minor.parse() == Ok(self.minor))
    }
}

/// Folders of the group in each hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// By v1 controller; the unified hierarchy has the empty name.
    pub by_controller: HashMap<String, std::path::PathBuf>,
}

impl Folders {
    /// Reads them all. Where `device` is named, written counts what went to that one.
    pub fn read(&self, device: Option<Device>) -> Counters {
        self.by_controller.get("").map_or_else(|| self.read_v1(device), |folder| read_v2(folder, device))
    }

    fn read_v1(&self, device: Option<Device>) -> Counters {
        let file =
            |controller: &str, name: &str| std::fs::read_to_string(self.by_controller.get(controller)?.join(name)).ok();
        let number = |controller: &str, name: &str| file(controller, name)?.trim().parse::<u64>().ok();
        // memsw counts memory and swap together, where the kernel accounts for swap.
        let most = || number("memory", "memory.max_usage_in_bytes");
        Counters {
            cpu: number("cpuacct", "cpuacct.usage").map(Duration::from_nanos),
            throttled: file("cpu", "cpu.stat").and_then(|text| key(&text, "nr_throttled")),
            memory: number("memory", "memory.memsw.max_usage_in_bytes").or_else(most),
            memory_is_peak: true,
            oom_kills: file("memory", "memory.oom_control").and_then(|text| key(&text, "oom_kill")),
            tasks: number("pids", "pids.peak").or_else(|| number("pids", "pids.current")),
            refused: file("pids", "pids.events").and_then(|text| key(&text, "max")),
            written: file("blkio", "blkio.throttle.io_service_bytes").map(|text| written_v1(&text, device)),
        }
    }
}

fn read_v2(folder: &Path, device: Option<Device>) -> Counters {
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
    let most = |peak: &str, current: &str| number(peak).or_else(|| number(current));
    // Peaks of memory and swap may lie at different times: together they are an upper bound. memory.swap.* is missing
    // where swap is not accounted for.
    let memory = most("memory.peak", "memory.current");
    let swap = most("memory.swap.peak", "memory.swap.current").unwrap_or(0);
    Counters {
        cpu: file("cpu.stat").and_then(|text| key(&text, "usage_usec")).map(Duration::from_micros),
        throttled: file("cpu.stat").and_then(|text| key(&text, "nr_throttled")),
        memory: memory.map(|memory| memory + swap),
        // That of memory since Linux 5.19, that of swap since 6.5.
        memory_is_peak: ["memory", "memory.swap"]
            .iter()
            .all(|name| number(&format!("{name}.peak")).is_some() || number(&format!("{name}.current")).is_none()),
        oom_kills: file("memory.events").and_then(|text| key(&text, "oom_kill")),
        tasks: most("pids.peak", "pids.current"),
        refused: file("pids.events").and_then(|text| key(&text, "max")),
        written: file("io.stat").map(|text| written_v2(&text, device)),
    }
}

/// `KEY N`, one on each line.
fn key(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `MAJOR:MINOR Write N`, among others.
fn written_v1(text: &str, device: Option<Device>) -> u64 {
    let bytes = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.next().filter(|word| device.is_none_or(|device| device.is(word)))?;
        fields.next().filter(|word| *word == "Write")?;
        fields.next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(bytes).sum()
}

/// `MAJOR:MINOR rbytes=N wbytes=N …`.
fn written_v2(text: &str, device: Option<Device>) -> u64 {
    let bytes = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.next().filter(|word| device.is_none_or(|device| device.is(word)))?;
        fields.find_map(|word| word.strip_prefix("wbytes=")?.parse::<u64>().ok())
    };
    text.lines().filter_map(bytes).sum()
}

/// From the daemon, which reads the same files. It does not tell how many processes were killed, but how often memory was
/// refused.
pub fn of_daemon(stats: &ContainerStatsResponse, device: Option<Device>) -> Counters {
    let cpu = stats.cpu_stats.as_ref();
    let memory = stats.memory_stats.as_ref();
    let writes = |entries: &Vec<ContainerBlkioStatEntry>| {
        let write = |entry: &&ContainerBlkioStatEntry| {
            entry.op.as_deref().is_some_and(|operation| operation.eq_ignore_ascii_case("write"))
                && device.is_none_or(|device| (entry.major, entry.minor) == (Some(device.major), Some(device.minor)))
        };
        entries.iter().filter(write).filter_map(|entry| entry.value).sum()
    };
    Counters {
        cpu: cpu.and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage).map(Duration::from_nanos),
        throttled: cpu.and_then(|cpu| cpu.throttling_data.as_ref()?.throttled_periods),
        memory: memory.and_then(|memory| memory.max_usage.or(memory.usage)),
        // Of cgroup v2 it tells none.
        memory_is_peak: memory.is_some_and(|memory| memory.max_usage.is_some()),
        oom_kills: memory.and_then(|memory| memory.failcnt),
        tasks: stats.pids_stats.as_ref().and_then(|pids| pids.current),
        refused: None,
        written: stats.blkio_stats.as_ref().and_then(|stats| stats.io_service_bytes_recursive.as_ref()).map(writes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_group_of_version_2() {
        let folder = group(&[
            ("cpu.stat", "usage_usec 1500\nuser_usec 1\nnr_periods 9\nnr_throttled 4\n"),
            ("memory.peak", "4096\n"),
            ("memory.swap.peak", "8192\n"),
            ("memory.events", "low 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n"),
            ("pids.peak", "32\n"),
            ("pids.current", "3\n"),
            ("pids.events", "max 5\n"),
            ("io.stat", "254:0 rbytes=1 wbytes=100 rios=1\n8:0 rbytes=2 wbytes=11\n"),
        ]);
        let folders = Folders { by_controller: [(String::new(), folder.path().to_owned())].into() };
        let want = Counters {
            cpu: Some(Duration::from_micros(1500)),
            throttled: Some(4),
            memory: Some(12288),
            memory_is_peak: true,
            oom_kills: Some(2),
            tasks: Some(32),
            refused: Some(5),
            written: Some(111),
        };
        assert_eq!(folders.read(None), want);
        assert_eq!(folders.read(Some(DISK)).written, Some(100));
    }

    const DISK: Device = Device { major: 254, minor: 0 };

    /// A volume of the device mapper was taken for one without a limit: the same writes were counted twice.
    #[test]
    fn what_reaches_the_disk_below_is_not_counted_again() {
        let v1 = "8:16 Read 1\n8:16 Write 50\n254:0 Write 100\n254:01 Write\nTotal 150\n";
        assert_eq!((written_v1(v1, Some(DISK)), written_v1(v1, None)), (100, 150));
        let v2 = "254:0 rbytes=1 wbytes=100 rios=1\n8:0 rbytes=2 wbytes=11\n254:10 wbytes=7\n";
        assert_eq!((written_v2(v2, Some(DISK)), written_v2(v2, None)), (100, 118));
    }

    #[test]
    fn an_older_kernel_keeps_no_peaks() {
        let folder = group(&[("memory.current", "4096\n"), ("memory.swap.current", "1\n"), ("pids.current", "3\n")]);
        let counters = Folders { by_controller: [(String::new(), folder.path().to_owned())].into() }.read(None);
        assert_eq!((counters.memory, counters.tasks, counters.written), (Some(4097), Some(3), None));
        assert!(!counters.memory_is_peak);
    }

    #[test]
    fn a_group_of_version_1() {
        let folder = group(&[
            ("cpuacct.usage", "1500000\n"),
            ("cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 1\n"),
            ("memory.max_usage_in_bytes", "4096\n"),
            ("memory.memsw.max_usage_in_bytes", "5000\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("pids.current", "3\n"),
            ("pids.events", "max 5\n"),
            ("blkio.throttle.io_service_bytes", "254:0 Read 1\n254:0 Write 100\n254:0 Total 101\nTotal 101\n"),
        ]);
        let names = ["cpuacct", "cpu", "memory", "pids", "blkio"];
        let by_controller = names.iter().map(|name| ((*name).to_owned(), folder.path().to_owned())).collect();
        let want = Counters {
            cpu: Some(Duration::from_micros(1500)),
            throttled: Some(4),
            memory: Some(5000),
            memory_is_peak: true,
            oom_kills: Some(2),
            tasks: Some(3),
            refused: Some(5),
            written: Some(100),
        };
        assert_eq!(Folders { by_controller }.read(Some(DISK)), want);
    }

    #[test]
    fn the_daemon_says_the_same() {
        let stats = serde_json::json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 1500}, "throttling_data": {"throttled_periods": 4}},
            "memory_stats": {"usage": 10, "max_usage": 20, "failcnt": 2},
            "pids_stats": {"current": 3},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"major": 254, "minor": 0, "op": "Read", "value": 1},
                {"major": 254, "minor": 0, "op": "write", "value": 100},
                {"major": 8, "minor": 0, "op": "write", "value": 100},
            ]},
        });
        let counters = of_daemon(&serde_json::from_value(stats).unwrap(), Some(DISK));
        assert_eq!((counters.cpu, counters.throttled), (Some(Duration::from_nanos(1500)), Some(4)));
        assert_eq!((counters.memory, counters.oom_kills, counters.tasks), (Some(20), Some(2), Some(3)));
        assert_eq!((counters.written, counters.memory_is_peak), (Some(100), true));
        let stats = serde_json::json!({"memory_stats": {"usage": 10}});
        let counters = of_daemon(&serde_json::from_value(stats).unwrap(), None);
        assert_eq!((counters.memory, counters.memory_is_peak), (Some(10), false));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_too_odd_to_be_read(text: String) {
            key(&text, "oom_kill");
            written_v1(&text, Some(DISK));
            written_v2(&text, None);
        }
    }
}
