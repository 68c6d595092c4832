/*!
The child's side, between `fork` and `execve`: async-signal-safe calls on prepared memory, and nothing else.
*/
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;

use super::memory::{LISTEN_PID, LISTEN_PID_ROOM, Prepared};
use super::{Session, Spawn, Step};

/// The child's side: does every step, then reports the failed one and ends. Never returns.
pub(super) fn child(spawn: &Spawn, prepared: &mut Prepared, report: RawFd) -> ! {
    let (step, errno) = run_steps(spawn, prepared, report);
    let mut message = [0_u8; 5];
    if let Some((first, rest)) = message.split_first_mut() {
        *first = step as u8;
        for (place, byte) in rest.iter_mut().zip((errno as i32).to_ne_bytes()) {
            *place = byte;
        }
    }
    // SAFETY: plain system calls on a local buffer. If the parent is gone there is nobody left to tell.
    unsafe {
        let report = REPORT_FD.with_moved(report);
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

/// The report pipe is moved out of the way of the descriptors that are handed over; this remembers where to.
struct Moved(std::sync::atomic::AtomicI32);

impl Moved {
    fn with_moved(&self, original: RawFd) -> RawFd {
        match self.0.load(std::sync::atomic::Ordering::Relaxed) {
            -1 => original,
            moved => moved,
        }
    }
}

/// Written only in a child between fork and exec, which has one thread.
static REPORT_FD: Moved = Moved(std::sync::atomic::AtomicI32::new(-1));

/// Everything between fork and exec. Only async-signal-safe calls, no allocation. Returns what failed.
#[allow(clippy::too_many_lines)] // One straight sequence whose order is its meaning.
pub(super) fn run_steps(spawn: &Spawn, prepared: &mut Prepared, report: RawFd) -> (Step, Errno) {
    macro_rules! check {
        ($step:expr, $call:expr) => {
            if $call < 0 {
                return ($step, Errno::last());
            }
        };
    }
    let passed = prepared_len(spawn);
    // SAFETY: every call below is an async-signal-safe system call on memory that `prepare` allocated and that
    // lives until exec; pointers are NUL-terminated or carry their length.
    unsafe {
        // Descriptors first go above everything that is about to be placed, so that no dup2 overwrites a source.
        let floor = 3 + passed;
        let mut report = report;
        if report >= 0 {
            report = libc::fcntl(report, libc::F_DUPFD_CLOEXEC, floor);
            check!(Step::Pipe, report);
            REPORT_FD.0.store(report, std::sync::atomic::Ordering::Relaxed);
        }
        let mut streams = prepared.stdio;
        for stream in &mut streams {
            if let Some(fd) = stream {
                let high = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, floor);
                check!(Step::Stdio, high);
                *stream = Some(high);
            }
        }
        let mut target = 3;
        for index in 0..spawn.listen_fds.len() {
            let Some(fd) = spawn.listen_fds.get(index) else { break };
            // A source inside the target range would be overwritten by an earlier dup2; callers keep theirs above.
            if *fd < floor && *fd != target {
                return (Step::ListenFds, Errno::EBADF);
            }
            if *fd == target {
                check!(Step::ListenFds, libc::fcntl(*fd, libc::F_SETFD, 0));
            } else {
                check!(Step::ListenFds, libc::dup2(*fd, target));
            }
            target += 1;
        }
        for (number, stream) in (0..).zip(streams) {
            if let Some(fd) = stream {
                check!(Step::Stdio, libc::dup2(fd, number));
            }
        }
        // Whatever else is open must not leak; the report pipe is close-on-exec already.
        // The descriptors stay open until exec, so failing steps can still be reported.
        let first_unused = libc::c_uint::try_from(target).unwrap_or(3);
        if libc::syscall(libc::SYS_close_range, first_unused, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0 {
            for fd in target..1024 {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }

        match spawn.session {
            Session::Keep => {}
            Session::Group => check!(Step::Session, libc::setpgid(0, 0)),
            Session::Foreground => {
                check!(Step::Session, libc::setpgid(0, 0));
                // Without a terminal there is no foreground to take (ENOTTY, ENXIO). SIGTTOU is blocked here.
                if libc::tcsetpgrp(0, libc::getpgrp()) < 0
                    && !matches!(Errno::last(), Errno::ENOTTY | Errno::ENXIO | Errno::EBADF)
                {
                    return (Step::Session, Errno::last());
                }
            }
            Session::New => check!(Step::Session, libc::setsid()),
            Session::NewWithTerminal => {
                check!(Step::Session, libc::setsid());
                check!(Step::Session, libc::ioctl(0, libc::TIOCSCTTY, 0));
            }
        }
        for index in 0..prepared.limits.len() {
            let Some((resource, limit)) = prepared.limits.get(index) else { break };
            check!(
                Step::Limits,
                libc::syscall(libc::SYS_prlimit64, 0, *resource, ptr::from_ref(limit), ptr::null::<libc::rlimit>())
            );
        }
        if let Some(score) = &prepared.oom_score {
            let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check!(Step::OomScore, fd);
            check!(Step::OomScore, libc::write(fd, score.as_ptr().cast(), score.len()));
            libc::close(fd);
        }
        if spawn.drop_capabilities {
            // The bounding set needs CAP_SETPCAP; without it (EPERM) no_new_privs and empty sets still hold.
            for capability in 0..64 {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && Errno::last() == Errno::EINVAL {
                    break;
                }
            }
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        }
        if let Some(identity) = &spawn.identity {
            check!(Step::Identity, libc::setgroups(prepared.groups.len(), prepared.groups.as_ptr()));
            check!(Step::Identity, libc::setresgid(identity.gid, identity.gid, identity.gid));
            check!(Step::Identity, libc::setresuid(identity.uid, identity.uid, identity.uid));
        }
        if let Some(cwd) = &prepared.cwd {
            check!(Step::Chdir, libc::chdir(cwd.as_ptr()));
        }
        if spawn.drop_capabilities {
            // _LINUX_CAPABILITY_VERSION_3, this process, three empty 64-bit sets as two 32-bit halves.
            let header: [u32; 2] = [0x2008_0522, 0];
            let empty = [0_u32; 6];
            check!(Step::Capabilities, libc::syscall(libc::SYS_capset, header.as_ptr(), empty.as_ptr()));
        }
        if spawn.no_new_privileges {
            check!(Step::NoNewPrivileges, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        }
        // Changing the user clears the parent death signal, so it comes after.
        if let Some(signal) = spawn.parent_death {
            check!(Step::ParentDeath, libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_int, 0, 0, 0));
        }
        if !spawn.listen_fds.is_empty() {
            write_pid(&mut prepared.listen_pid, libc::getpid());
        }
        // The kernel's own sigaction, all zero: SIG_DFL. libc's wrapper would refuse the two numbers it keeps for
        // itself, and a caller may have left those ignored. SIGKILL and SIGSTOP refuse and need no reset.
        let default = [0_u64; 4];
        // Its first word is the handler: SIG_IGN.
        let ignore = [1_u64, 0, 0, 0];
        for signal in 1..=64 {
            let action = if spawn.ignored.contains(signal) { &ignore } else { &default };
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null::<u64>(), 8_usize);
        }
        let blocked = spawn.blocked.bits();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const blocked, ptr::null::<u64>(), 8_usize);
        libc::execve(prepared.program.as_ptr(), prepared.argv_ptrs.as_ptr(), prepared.env_ptrs.as_ptr());
    }
    (Step::Exec, Errno::last())
}

fn prepared_len(spawn: &Spawn) -> RawFd {
    RawFd::try_from(spawn.listen_fds.len()).unwrap_or(RawFd::MAX - 8)
}

/// Writes `pid` in decimal behind `LISTEN_PID=`, without allocating.
pub(super) fn write_pid(room: &mut [u8; LISTEN_PID_ROOM], pid: libc::pid_t) {
    let mut digits = [0_u8; 12];
    let mut rest = pid.unsigned_abs();
    let mut count = 0;
    for digit in &mut digits {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    let written = digits.iter().take(count).rev();
    for (place, digit) in room.iter_mut().skip(LISTEN_PID.len()).zip(written) {
        *place = *digit;
    }
}
