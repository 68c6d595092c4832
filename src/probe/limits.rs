/*!
The limits of this process: on resources, from `/proc/PID/limits` (proc(5)), and on the CPUs it may run on.
*/
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::{ProbeError, Roots, read};

/// `RLIM_INFINITY` of Linux.
pub const UNLIMITED: u64 = u64::MAX;

/// A soft and a hard limit; [`UNLIMITED`] for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// How far the process may raise the soft one.
    pub hard: u64,
}

/// `RLIMIT_NOFILE` of the own process: open files.
pub fn open_files(roots: &Roots) -> Result<Limit, ProbeError> {
    let path = roots.own.join("limits");
    parse(&read(&path)?, "Max open files", &path)
}

/// `/proc/sys/fs/nr_open`: no hard limit of open files can be raised above it, whoever asks.
pub fn open_files_ceiling(roots: &Roots) -> Result<u64, ProbeError> {
    let path = roots.proc.join("sys/fs/nr_open");
    let text = read(&path)?;
    text.trim().parse().map_err(|_| ProbeError::Parse { path, what: "a number is expected", line: text })
}

/// A number below `/proc/sys`; `None` where it is not there or cannot be read.
pub fn setting(roots: &Roots, name: &str) -> Option<u64> {
    read(&roots.proc.join("sys").join(name)).ok()?.trim().parse().ok()
}

/// Reads one limit from a `limits` file (proc(5)); `path` is for errors.
pub fn parse(text: &str, name: &str, path: &Path) -> Result<Limit, ProbeError> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let fail = || ProbeError::Parse { path: path.into(), what: "a limit is missing", line: name.into() };
    let mut fields = line.ok_or_else(fail)?.split_whitespace();
    let mut value = || match fields.next() {
        Some("unlimited") => Some(UNLIMITED),
        Some(digits) => digits.parse().ok(),
        None => None,
    };
    match (value(), value()) {
        (Some(soft), Some(hard)) => Ok(Limit { soft, hard }),
        _ => Err(fail()),
    }
}

/// CPUs that this process may run on (`sched_setaffinity(2)`); 1 where the kernel does not say. Quotas are left out: who has half of two CPUs
/// can still be on both at once.
pub fn cpus() -> usize {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let count = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or_default()).count();
    count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max core file size        0                    unlimited            bytes     \n\
                          Max open files            1024                 524288               files     \n";

    #[test]
    fn both_values_are_read() {
        let path = Path::new("limits");
        assert_eq!(parse(LIMITS, "Max open files", path).unwrap(), Limit { soft: 1024, hard: 524_288 });
        assert_eq!(parse(LIMITS, "Max core file size", path).unwrap(), Limit { soft: 0, hard: UNLIMITED });
        assert!(parse(LIMITS, "Max pigs", path).unwrap_err().to_string().contains("Max pigs"));
        assert!(parse("Max open files 12", "Max open files", path).is_err());
    }

    #[test]
    fn the_kernels_answer_is_the_same_as_getrlimits() {
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(open_files(&Roots::system()).unwrap(), Limit { soft, hard });
        assert!(open_files_ceiling(&Roots::system()).unwrap() >= 1024);
    }
}
