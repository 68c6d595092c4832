/*!
The processes of the sandbox: told to end together, and reaped.

As PID 1 of a PID namespace the agent reaches all of them with `kill(-1)`, which the kernel does in one sweep that a
fork cannot slip through, whatever sessions and groups they moved to. Anywhere else (tests, `docker run --init`) it
must never do that; it is then the subreaper of its descendants and finds them in `/proc`.
*/
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, SysconfVar, getpid, sysconf};

use super::classify::Death;
use super::ending::Blow;
use super::usage::children_cpu;
use crate::sys::family;

/// Longest wait for killed processes to be gone; what hangs in the kernel is left to the end of the namespace.
const CLEAR_WITHIN: Duration = Duration::from_secs(2);

/// All processes below the agent.
#[derive(Debug)]
pub(super) struct Household {
    is_init: bool,
    proc_root: PathBuf,
}

/// What reaping brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reaped {
    /// How the main program ended, if it was among them.
    pub(super) main: Option<Death>,
    /// Whether no child is left at all.
    pub(super) none_left: bool,
}

impl Household {
    /// Takes charge. `proc_root` is `/proc`.
    pub(super) fn new(proc_root: &Path) -> Result<Self, Errno> {
        let is_init = getpid() == Pid::from_raw(1);
        if !is_init {
            nix::sys::prctl::set_child_subreaper(true)?;
        }
        Ok(Self { is_init, proc_root: proc_root.to_owned() })
    }

    /// Sends the signal of `blow` to every process.
    pub(super) fn strike(&self, blow: Blow) {
        let signals: &[Signal] = match blow {
            // Stopped processes act on SIGTERM only when they are continued.
            Blow::Ask => &[Signal::SIGTERM, Signal::SIGCONT],
            Blow::Kill => &[Signal::SIGKILL],
        };
        let targets = if self.is_init { vec![Pid::from_raw(-1)] } else { self.descendants() };
        for signal in signals {
            for target in &targets {
                // ESRCH: already gone, which is the aim.
                let _ = kill(*target, *signal);
            }
        }
    }

    /// Kills everything and waits, within a bound, until nothing is left.
    pub(super) fn clear(&self) {
        let start = Instant::now();
        loop {
            self.strike(Blow::Kill);
            if reap(None).none_left || start.elapsed() > CLEAR_WITHIN {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// CPU time of all processes, living and dead, where no control group counts it.
    pub(super) fn cpu(&self) -> Duration {
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
        let ticks: u64 = self.stats().filter(|stat| Pid::from_raw(stat.pid) != getpid()).map(|stat| stat.ticks).sum();
        children_cpu() + Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second.unwrap_or(100).max(1))
    }

    fn descendants(&self) -> Vec<Pid> {
        let all = family::processes(&self.proc_root);
        family::descendants(&all, getpid().as_raw()).into_iter().map(Pid::from_raw).collect()
    }

    fn stats(&self) -> impl Iterator<Item = Stat> {
        let folders = fs::read_dir(&self.proc_root).into_iter().flatten().flatten();
        folders.filter_map(|folder| {
            let pid = folder.file_name().to_str()?.parse().ok()?;
            parse_stat(pid, &fs::read_to_string(folder.path().join("stat")).ok()?)
        })
    }
}

/// Collects every dead child without waiting. `main` is the program whose end matters.
pub(super) fn reap(main: Option<Pid>) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if Some(pid) == main => reaped.main = Some(Death::Exited(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == main => {
                reaped.main = Some(Death::Signaled(signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return reaped,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => {
                reaped.none_left = true;
                return reaped;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    /// User and system time of the process and of the children it waited for, clock ticks.
    ticks: u64,
}

/// Reads `/proc/PID/stat` (`proc_pid_stat(5)`). The name in it may hold spaces and parentheses.
fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    let (_, after_name) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // Counted from the state, which is field 3: ppid is field 4, utime, stime, cutime and cstime are 14 to 17.
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Some(Stat { pid, parent, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_a_hostile_name() {
        let line = "42 (a) S 1 (b) R 7 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(parse_stat(42, line), Some(Stat { pid: 42, parent: 7, ticks: 100 }));
        assert_eq!(parse_stat(42, "42 (short) S 1"), None);
        assert_eq!(parse_stat(42, ""), None);
    }

    #[test]
    fn descendants_are_found_below_us_and_only_there() {
        let household = Household { is_init: false, proc_root: "/proc".into() };
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let child_pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let start = Instant::now();
        let grandchild = loop {
            let parent_of = |pid: &Pid| household.stats().find(|stat| stat.pid == pid.as_raw()).map(|stat| stat.parent);
            let found = household.descendants();
            assert!(!found.contains(&getpid()) && !found.contains(&Pid::from_raw(1)));
            if let Some(pid) = found.iter().find(|pid| parent_of(pid) == Some(child_pid.as_raw())) {
                assert!(found.contains(&child_pid));
                break *pid;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{found:?}");
        };
        kill(grandchild, Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
}
