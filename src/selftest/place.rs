/*!
What the report says of the place, and what the checks have to know of it.
*/
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use bollard::Docker;
use bollard::models::SystemInfo;
use serde::Serialize;

use super::amount::number;
use crate::exec::error::ExecError;
use crate::probe::Roots;

/// The engine, by its own word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// Version of dockerd.
    pub version: String,
    /// Versions of the parts that it starts, by name.
    pub parts: BTreeMap<String, String>,
    /// Runtime of its containers.
    pub runtime: String,
    /// Where it keeps them.
    pub storage_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `cgroupfs`, `systemd` or `none`.
    pub cgroup_driver: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Its machine.
    pub architecture: String,
    /// Release of its kernel.
    pub kernel: String,
    /// CPUs of its machine.
    pub cpus: u64,
    /// Memory of its machine, bytes.
    pub memory_bytes: u64,
    /// Its data root.
    #[serde(skip)]
    pub data_root: String,
}

impl Engine {
    /// Asks.
    pub async fn ask(docker: &Docker) -> Result<Self, ExecError> {
        let info = docker.info().await.map_err(ExecError::api("tell what it is"))?;
        let version = docker.version().await.map_err(ExecError::api("tell its version"))?;
        let part = |component: bollard::models::SystemVersionComponents| (component.name, component.version);
        let parts = version.components.unwrap_or_default().into_iter().map(part);
        Ok(Self { parts: parts.filter(|(name, _)| name != "Engine").collect(), ..Self::of(info) })
    }

    fn of(info: SystemInfo) -> Self {
        let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let options = info.security_options.unwrap_or_default();
        Self {
            version: info.server_version.unwrap_or_default(),
            parts: BTreeMap::new(),
            runtime: info.default_runtime.unwrap_or_default(),
            storage_driver: info.driver.unwrap_or_default(),
            cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
            cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
            rootless: options.iter().any(|option| option.contains("name=rootless")),
            architecture: info.architecture.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            cpus: count(info.ncpu),
            memory_bytes: count(info.mem_total),
            data_root: info.docker_root_dir.unwrap_or_default(),
        }
    }
}

/// The whole disk that holds a folder, or why its writes cannot be limited.
pub fn disk(roots: &Roots, folder: &str) -> Result<String, String> {
    let lies = |error: std::io::Error| format!("cannot look at the data root {folder}: {error}");
    let device = std::fs::metadata(roots.resolve(Path::new(folder))).map_err(lies)?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let nothing = || format!("the data root {folder} lies on no disk of its own ({major}:{minor})");
    let entry = roots.resolve(Path::new(&format!("/sys/dev/block/{major}:{minor}")));
    let entry = std::fs::canonicalize(entry).map_err(|_| nothing())?;
    // Only whole disks have a queue that can be throttled.
    let whole = if entry.join("partition").exists() { entry.parent().unwrap_or(&entry) } else { &entry };
    let said = std::fs::read_to_string(whole.join("uevent")).map_err(|_| nothing())?;
    let name = said.lines().find_map(|line| line.strip_prefix("DEVNAME=")).ok_or_else(nothing)?;
    let path = format!("/dev/{name}");
    match std::fs::metadata(roots.resolve(Path::new(&path))) {
        Ok(node) if node.file_type().is_block_device() => Ok(path),
        _ => Err(format!("the disk of the data root has no device node {path} here")),
    }
}

/// Bytes of swap that the machine has.
pub fn swap(roots: &Roots) -> Option<u64> {
    let text = std::fs::read_to_string(roots.proc.join("meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("SwapTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// CPU time of the machine since its start (`/proc/stat`), in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    idle: u64,
    all: u64,
}

impl Idle {
    /// Reads it.
    pub fn read(roots: &Roots) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(roots.proc.join("stat")).ok()?)
    }

    /// `cpu  user nice system idle iowait irq softirq steal …`. What is stolen by other machines is no idle time.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let [_, _, _, idle, waiting, ..] = ticks.as_slice() else { return None };
        Some(Self { idle: idle + waiting, all: ticks.iter().sum() })
    }

    /// Share that was idle since then.
    pub fn share_since(self, roots: &Roots) -> Option<f64> {
        self.share(Self::read(roots)?)
    }

    fn share(self, now: Self) -> Option<f64> {
        let all = now.all.checked_sub(self.all).filter(|all| *all > 0)?;
        Some(number(now.idle.saturating_sub(self.idle)) / number(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_a_share_of_all() {
        let before = Idle::parse("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 2 3\n").unwrap();
        let after = Idle::parse("cpu  150 0 50 840 60 0 0 0 9 9\n").unwrap();
        assert_eq!(before.share(after), Some(0.5));
        assert_eq!(before.share(before), None);
        assert_eq!(Idle::parse("cpu0 1 2 3 4 5"), None);
    }

    #[test]
    fn swap_is_what_the_kernel_says() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        assert_eq!(swap(&Roots::below(root.path())), None);
        std::fs::write(root.path().join("proc/meminfo"), "MemTotal: 1 kB\nSwapTotal:       2048 kB\n").unwrap();
        assert_eq!(swap(&Roots::below(root.path())), Some(2 << 20));
    }

    #[test]
    fn a_folder_on_no_disk_is_told() {
        let why = disk(&Roots::system(), "/proc").unwrap_err();
        assert!(why.contains("no disk of its own"), "{why}");
        let why = disk(&Roots::system(), "/nowhere").unwrap_err();
        assert!(why.contains("/nowhere"), "{why}");
    }

    #[test]
    fn the_engine_is_taken_by_its_word() {
        let info = serde_json::json!({
            "ServerVersion": "26.1.5", "Driver": "overlay2", "CgroupVersion": "2", "CgroupDriver": "systemd",
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"], "NCPU": 2, "MemTotal": 1024,
            "DefaultRuntime": "runc", "Architecture": "x86_64", "KernelVersion": "6.12",
        });
        let engine = Engine::of(serde_json::from_value(info).unwrap());
        assert_eq!((engine.version.as_str(), engine.cgroup_version.as_str()), ("26.1.5", "2"));
        assert_eq!((engine.cgroup_driver.as_str(), engine.rootless, engine.cpus), ("systemd", true, 2));
    }
}
