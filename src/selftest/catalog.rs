/*!
The checks: which limit a container gets, and what it does against it.
*/
use bollard::models::{HostConfig, Mount, MountType, ThrottleDevice};

use super::amount::{Amount, Unit, number};
use super::load::Load;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// CPU time.
    Cpu,
    /// Memory, and swap with it.
    Memory,
    /// Swap beyond memory.
    Swap,
    /// Processes and threads.
    Pids,
    /// Writing to a block device.
    Io,
}

impl Subject {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Memory, Self::Swap, Self::Pids, Self::Io];

    /// Its name, as it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Swap => "swap",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }

    /// By name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.name() == name)
    }
}

/// One container with one limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What is limited.
    pub subject: Subject,
    /// To how much.
    pub limit: Amount,
    /// How far what is measured may be off, as a share of the limit.
    pub tolerance: f64,
    /// The limits of the container.
    pub host: HostConfig,
    /// What it does.
    pub load: Load,
}

/// What the machine has that the checks depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// CPUs of the daemon.
    pub cpus: u64,
    /// The disk below the daemon's volumes, or why none can be limited.
    pub disk: Option<String>,
}

const MEMORY: u64 = 64 << 20;
const TASKS: u32 = 32;
const WRITES: u64 = 4 << 20;
/// Folder of the volume that is written to.
const FOLDER: &str = "/load";

/// The quota is refilled every 100 ms (Docker's period), and a window of 1.5 s may hold one refill more or less.
const CPU_TOLERANCE: f64 = 0.1;
/// The kernel keeps some pages of each CPU charged in advance (`MEMCG_CHARGE_BATCH`, 64 pages).
const MEMORY_TOLERANCE: f64 = 0.05;
/// The kernel gives out the allowance of 100 ms at once, and what is under way when the window closes counts.
const WRITE_TOLERANCE: f64 = 0.25;

/// The checks of some subjects.
pub fn checks(subjects: &[Subject], machine: &Machine) -> Vec<Check> {
    subjects.iter().flat_map(|subject| of(*subject, machine)).collect()
}

fn of(subject: Subject, machine: &Machine) -> Vec<Check> {
    match subject {
        // One and a half shows that threads on several CPUs are counted together.
        Subject::Cpu if machine.cpus >= 2 => vec![cpu(500, machine), cpu(1500, machine)],
        Subject::Cpu => vec![cpu(500, machine)],
        Subject::Memory => vec![memory(subject, MEMORY)],
        Subject::Swap => vec![memory(subject, MEMORY / 2)],
        Subject::Pids => vec![pids()],
        Subject::Io => vec![io(machine)],
    }
}

fn cpu(thousandths: u32, machine: &Machine) -> Check {
    Check {
        subject: Subject::Cpu,
        limit: Amount { value: f64::from(thousandths) / 1000.0, unit: Unit::Cpus },
        tolerance: CPU_TOLERANCE,
        host: HostConfig { nano_cpus: Some(i64::from(thousandths) * 1_000_000), ..HostConfig::default() },
        load: Load::Cpu { threads: u32::try_from(machine.cpus).unwrap_or(u32::MAX).clamp(1, 16) },
    }
}

/// Memory of so much, and swap up to the whole.
fn memory(subject: Subject, memory: u64) -> Check {
    let signed = |bytes: u64| i64::try_from(bytes).ok();
    Check {
        subject,
        limit: Amount { value: number(MEMORY), unit: Unit::Bytes },
        tolerance: MEMORY_TOLERANCE,
        host: HostConfig { memory: signed(memory), memory_swap: signed(MEMORY), ..HostConfig::default() },
        load: Load::Memory { bytes: 2 * MEMORY },
    }
}

fn pids() -> Check {
    Check {
        subject: Subject::Pids,
        limit: Amount { value: f64::from(TASKS), unit: Unit::Tasks },
        tolerance: 0.0,
        host: HostConfig { pids_limit: Some(i64::from(TASKS)), ..HostConfig::default() },
        load: Load::Tasks { count: 2 * TASKS },
    }
}

fn io(machine: &Machine) -> Check {
    let throttle =
        machine.disk.clone().map(|path| ThrottleDevice { path: Some(path), rate: i64::try_from(WRITES).ok() });
    let volume = Mount { typ: Some(MountType::VOLUME), target: Some(FOLDER.to_owned()), ..Mount::default() };
    Check {
        subject: Subject::Io,
        limit: Amount { value: number(WRITES), unit: Unit::BytesPerSecond },
        tolerance: WRITE_TOLERANCE,
        host: HostConfig {
            blkio_device_write_bps: throttle.map(|throttle| vec![throttle]),
            mounts: Some(vec![volume]),
            ..HostConfig::default()
        },
        load: Load::Write { path: format!("{FOLDER}/file"), bytes: 4 * WRITES },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for subject in Subject::ALL {
            assert_eq!(Subject::named(subject.name()), Some(subject));
        }
        assert_eq!(Subject::named("cpus"), None);
    }

    #[test]
    fn every_load_asks_for_more_than_its_limit() {
        for check in checks(&Subject::ALL, &Machine { cpus: 2, disk: Some("/dev/vda".into()) }) {
            let asked = match check.load {
                Load::Cpu { threads } => f64::from(threads),
                Load::Memory { bytes } | Load::Write { bytes, .. } => number(bytes),
                Load::Tasks { count } => f64::from(count),
            };
            assert!(asked > check.limit.value * (1.0 + check.tolerance), "{check:?}");
        }
    }

    #[test]
    fn one_cpu_cannot_show_more_than_one() {
        let limits = |cpus| -> Vec<f64> {
            let machine = Machine { cpus, disk: None };
            checks(&[Subject::Cpu], &machine).iter().map(|check| check.limit.value).collect()
        };
        assert_eq!(limits(1), [0.5]);
        assert_eq!(limits(8), [0.5, 1.5]);
    }
}
