/*!
Whatever else runs in the container at the end of a stop.

For PID 1 that is everything but itself. A supervisor that is not PID 1 must reach only what descends from it, so it
walks the process table: as a subreaper it is an ancestor of every orphan of its own.
*/
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

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

/// Every process below `root` among pairs of process and parent.
pub fn descendants(table: &[(i32, i32)], root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children: Vec<i32> =
            table.iter().filter(|(pid, of)| *of == parent && !found.contains(pid)).map(|(pid, _)| *pid).collect();
        found.extend(children);
    }
    found.into_iter().skip(1).collect()
}

/// Process and parent of every entry below `proc` that can be read.
pub fn processes(proc: &Path) -> Vec<(i32, i32)> {
    let Ok(entries) = std::fs::read_dir(proc) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(proc.join(format!("{pid}/stat"))).ok()?;
            Some((pid, parent_in(&stat)?))
        })
        .collect()
}

/// The parent in a line of `/proc/PID/stat`. The command in it is free text in brackets, so what counts begins after
/// the last one.
fn parent_in(stat: &[u8]) -> Option<i32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_generations_below_and_nobody_else() {
        let table = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1), (9, 7)];
        assert_eq!(descendants(&table, 5), [6, 7, 9]);
        assert_eq!(descendants(&table, 9), [0; 0]);
        assert_eq!(descendants(&[(3, 4), (4, 3)], 3), [4], "a torn table must not loop");
    }

    #[test]
    fn a_command_with_brackets_does_not_hide_the_parent() {
        assert_eq!(parent_in(b"12 (a) S 99 (b) S 7 12"), Some(7));
        assert_eq!(parent_in(b"nonsense"), None);
    }

    #[test]
    fn processes_are_named_and_many_are_counted() {
        let own = Pid::this().as_raw();
        assert_eq!(described(&[]), "");
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(described(&[own]), format!("{} ({own})", comm.trim()));
        assert!(described(&[own; 13]).ends_with(" and 3 more"));
        assert!(state_of(Path::new("/proc"), own).is_some_and(|state| b"RS".contains(&state)));
    }

    #[test]
    fn our_own_entry_is_read() {
        let own = (Pid::this().as_raw(), Pid::parent().as_raw());
        assert!(processes(Path::new("/proc")).contains(&own));
    }
}
