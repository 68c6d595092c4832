/*!
Signals to processes of other users, for root without `CAP_KILL`: a container that keeps only the rights to change owners and users.

`kill(2)` asks whether sender and receiver are the same user, so the sender becomes that user for the length of one call
(`setresuid(2)`, which needs `CAP_SETUID`). Only the effective id changes, and only in this thread: the real one, by which others are
allowed to signal or trace us, stays.
*/
#![allow(unsafe_code)]

use std::path::Path;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::unistd::{Pid, geteuid};

/// Sends a signal to one process as its own user. `EPERM` unless we are root.
pub(super) fn send(pid: i32, number: i32) -> Result<(), Errno> {
    if !geteuid().is_root() {
        return Err(Errno::EPERM);
    }
    let status = read(pid, "status").ok_or(Errno::ESRCH)?;
    let user = user_in(&status).ok_or(Errno::EPERM)?;
    become_user(user)?;
    // SAFETY: no memory is passed.
    let sent = Errno::result(unsafe { libc::kill(pid, number) }).map(drop);
    become_user(0)?;
    sent
}

/// The same for each process of a group; one that got it is enough, as for `kill(2)`.
pub(super) fn send_to_group(group: i32, number: i32) -> Result<(), Errno> {
    let mut answer = Err(Errno::ESRCH);
    for pid in processes().filter(|pid| read(*pid, "stat").is_some_and(|stat| group_in(&stat) == Some(group))) {
        let sent = send(pid, number);
        if answer.is_err() {
            answer = sent;
        }
    }
    answer
}

/// Sends a signal to those whom root itself does not reach: `kill(-1)` passes over them and says nothing.
pub(super) fn send_to_the_rest(number: i32) {
    if !geteuid().is_root() || caps::has_cap(None, CapSet::Effective, Capability::CAP_KILL).unwrap_or(true) {
        return;
    }
    let own = Pid::this().as_raw();
    for pid in processes().filter(|pid| *pid != own) {
        let others = read(pid, "status").and_then(|status| user_in(&status)).is_some_and(|user| user != 0);
        if others {
            // One that is gone meanwhile needs none.
            let _ = send(pid, number);
        }
    }
}

/// The effective user id of this thread alone: glibc's own call would go round all of them.
fn become_user(uid: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed; all ones leave an id as it is.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, uid, u32::MAX) }).map(drop)
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn read(pid: i32, file: &str) -> Option<String> {
    let bytes = std::fs::read(Path::new("/proc").join(pid.to_string()).join(file)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The real user id: the line has real, effective, saved and file system id (`proc_pid_status(5)`).
fn user_in(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// The process group: the third field behind the command in brackets (`proc_pid_stat(5)`).
fn group_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_the_kernels_files() {
        let own = Pid::this().as_raw();
        assert_eq!(user_in(&read(own, "status").unwrap()), Some(nix::unistd::getuid().as_raw()));
        assert_eq!(group_in(&read(own, "stat").unwrap()), Some(nix::unistd::getpgrp().as_raw()));
        assert_eq!(group_in("12 (a) S 99 (b) S 7 12 13"), Some(12));
        assert_eq!(user_in("Name:\tx\nUid:\t7\t8\t9\t10\n"), Some(7));
        assert_eq!((group_in("nonsense"), user_in("Uid:\tx")), (None, None));
        assert!(processes().any(|pid| pid == own));
    }

    #[test]
    fn nobody_is_signalled_by_a_number_that_nobody_has() {
        let answer = send(i32::MAX, 0);
        assert!(matches!(answer, Err(Errno::ESRCH | Errno::EPERM)), "{answer:?}");
        let answer = send_to_group(i32::MAX, 0);
        assert_eq!(answer, Err(Errno::ESRCH));
    }
}
