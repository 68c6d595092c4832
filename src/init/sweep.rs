/*!
Whatever else runs in the container at the end of a stop.

For PID 1 that is everything but itself. A supervisor that is not PID 1 must reach only what descends from it, so it
walks the process table: as a subreaper it is an ancestor of every orphan of its own.
*/
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use crate::sys::family::{descendants, processes};
use crate::sys::signal;

/// Whether any process is left for the sweep.
pub fn others() -> bool {
    if Pid::this().as_raw() == 1 {
        signal::send_to_everyone(0) != Err(Errno::ESRCH)
    } else {
        !own_descendants().is_empty()
    }
}

/// Sends a signal to all of them, and lets stopped ones run to see it. One that is gone meanwhile needs none.
pub fn send(number: i32) {
    for number in [number, libc::SIGCONT] {
        if Pid::this().as_raw() == 1 {
            // ESRCH: nobody is left, which is what we want.
            let _ = signal::send_to_everyone(number);
        } else {
            for pid in own_descendants() {
                let _ = signal::send(pid, number);
            }
        }
    }
}

/// Everybody that the sweep reaches, zombies not counted; empty where `/proc` cannot be read.
pub fn everyone() -> Vec<i32> {
    let own = Pid::this().as_raw();
    let reached = if own == 1 {
        processes(Path::new("/proc")).into_iter().map(|(pid, _)| pid).filter(|pid| *pid != own).collect()
    } else {
        own_descendants()
    };
    reached.into_iter().filter(|pid| state_of(Path::new("/proc"), *pid).is_some_and(|state| state != b'Z')).collect()
}

/// Most processes that are named in one message.
const NAMED: usize = 10;

/// `sleep (12), sh (13) and 3 more`; empty for nobody.
pub fn described(pids: &[i32]) -> String {
    let name = |pid: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} ({pid})", text.trim())
    };
    let text = pids.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    match pids.len().saturating_sub(NAMED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// The letter for the state of a process.
fn state_of(proc: &Path, pid: i32) -> Option<u8> {
    let stat = std::fs::read(proc.join(format!("{pid}/stat"))).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

fn own_descendants() -> Vec<i32> {
    descendants(&processes(Path::new("/proc")), Pid::this().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named_and_many_are_counted() {
        let own = Pid::this().as_raw();
        assert_eq!(described(&[]), "");
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(described(&[own]), format!("{} ({own})", comm.trim()));
        assert!(described(&[own; 13]).ends_with(" and 3 more"));
        assert!(state_of(Path::new("/proc"), own).is_some_and(|state| b"RS".contains(&state)));
    }
}
