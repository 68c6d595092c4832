/*!
Starting a child process with everything that PID 1 and the sandbox agent must settle before `execve`.

`std::process::Command` cannot be used by them: it hands a blocked signal mask on, it cannot write the child's own
pid into `LISTEN_PID`, and it reaps by itself, which a process that reaps everything must not allow. Here the child
runs only async-signal-safe calls on memory prepared before `fork`, so it is sound in a threaded test runner too.
*/
#![allow(unsafe_code)]

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

/// Where one of the three standard streams of a child leads.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The same as ours.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// This descriptor.
    Fd(OwnedFd),
}

/// Which session and process group the child lives in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The caller's.
    #[default]
    Keep,
    /// A process group of its own.
    Group,
    /// A process group of its own that is put in the foreground of the terminal on standard input, if there is one.
    Foreground,
    /// A session of its own.
    New,
    /// A session of its own whose controlling terminal is the child's standard input.
    NewWithTerminal,
}

/// User and groups of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// A resource limit of a child (`setrlimit(2)`): resource, soft and hard value.
pub type ResourceLimit = (nix::sys::resource::Resource, u64, u64);

/// A program to start. `Default` plus `program` and `argv` starts it as a plain child.
#[derive(Debug, Default)]
pub struct Spawn {
    /// Path of the executable; not searched in `PATH` (see [`find_program`]).
    pub program: PathBuf,
    /// All arguments, the name the program is called by first.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; `None` keeps the caller's.
    pub cwd: Option<PathBuf>,
    /// Standard input, output and error.
    pub stdio: [Stdio; 3],
    /// Sockets handed over by the activation protocol of `sd_listen_fds(3)`: they become descriptors 3, 4, … and
    /// `LISTEN_FDS` and `LISTEN_PID` are added to the environment. Borrowed: the caller keeps them for a restart.
    pub listen_fds: Vec<RawFd>,
    /// Session and process group.
    pub session: Session,
    /// Signal the kernel sends to the child when the caller's thread dies.
    pub parent_death: Option<nix::sys::signal::Signal>,
    /// Drop to this user before the start.
    pub identity: Option<Identity>,
    /// Empty all capability sets, the bounding set included.
    pub drop_capabilities: bool,
    /// Set `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// Value for `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
}

/// Which of the preparations in the child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the calls.
pub enum Step {
    Fork = 0,
    Pipe,
    Stdio,
    ListenFds,
    Session,
    ParentDeath,
    Limits,
    OomScore,
    Chdir,
    Capabilities,
    Identity,
    NoNewPrivileges,
    Exec,
}

impl Step {
    const ALL: [Self; 13] = [
        Self::Fork,
        Self::Pipe,
        Self::Stdio,
        Self::ListenFds,
        Self::Session,
        Self::ParentDeath,
        Self::Limits,
        Self::OomScore,
        Self::Chdir,
        Self::Capabilities,
        Self::Identity,
        Self::NoNewPrivileges,
        Self::Exec,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Pipe => "create a pipe",
            Self::Stdio => "set up the standard streams",
            Self::ListenFds => "hand over the listening sockets",
            Self::Session => "create the session",
            Self::ParentDeath => "set the parent death signal",
            Self::Limits => "set the resource limits",
            Self::OomScore => "set oom_score_adj",
            Self::Chdir => "enter the working directory",
            Self::Capabilities => "drop the capabilities",
            Self::Identity => "change the user",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::Exec => "execute the program",
        }
    }
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A string holds a NUL byte and cannot be passed on.
    #[error("cannot start {program}: {what} holds a NUL byte")]
    Nul {
        /// The program.
        program: String,
        /// `an argument`, `the environment`, `the path`.
        what: &'static str,
    },
    /// A call failed, in the child or before it.
    #[error("cannot start {program}: failed to {}: {errno}", .step.words())]
    Call {
        /// The program.
        program: String,
        /// What was being done.
        step: Step,
        /// Why it failed.
        errno: Errno,
    },
}

impl SpawnError {
    /// The exit code that shells and docker use for it: 127 not found, 126 not executable, 125 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Call { step: Step::Exec, errno: Errno::ENOENT | Errno::ENOTDIR, .. } => 127,
            Self::Call { step: Step::Exec, .. } => 126,
            Self::Call { .. } | Self::Nul { .. } => 125,
        }
    }
}

/// Looks `name` up the way `execvp(3)` does: as it is when it holds a slash, else in the folders of `path`.
pub fn find_program(name: &std::ffi::OsStr, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path =
        path.unwrap_or_else(|| std::ffi::OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    let candidates: Vec<PathBuf> =
        std::env::split_paths(path).map(|folder| folder.join(name)).filter(|file| file.is_file()).collect();
    candidates
        .iter()
        .find(|file| nix::unistd::access(file.as_path(), nix::unistd::AccessFlags::X_OK).is_ok())
        .or(candidates.first())
        .cloned()
}

/// Room for `LISTEN_PID=` and a pid, written by the child.
const LISTEN_PID: &[u8] = b"LISTEN_PID=";
const LISTEN_PID_ROOM: usize = LISTEN_PID.len() + 12;

/// Everything the child touches, allocated before the fork.
struct Prepared {
    program: CString,
    _argv: Vec<CString>,
    argv_ptrs: Vec<*const libc::c_char>,
    _env: Vec<CString>,
    env_ptrs: Vec<*const libc::c_char>,
    listen_pid: Box<[u8; LISTEN_PID_ROOM]>,
    cwd: Option<CString>,
    groups: Vec<libc::gid_t>,
    oom_score: Option<Vec<u8>>,
    limits: Vec<(libc::c_int, libc::rlimit)>,
    stdio: [Option<RawFd>; 3],
}

/// Starts the program and returns once `execve` succeeded or failed.
///
/// All signal dispositions of the child are the default and nothing is blocked. Every descriptor that is not named
/// in `spawn` is closed. The child must be reaped by the caller.
pub fn spawn(spawn: &Spawn) -> Result<Pid, SpawnError> {
    let program = spawn.program.display().to_string();
    let fail = |step, errno| SpawnError::Call { program: program.clone(), step, errno };
    let null = if spawn.stdio.iter().any(|stream| matches!(stream, Stdio::Null)) {
        Some(open_null().map_err(|errno| fail(Step::Stdio, errno))?)
    } else {
        None
    };
    let mut prepared = prepare(spawn, null.as_ref())?;
    let (report_read, report_write) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| fail(Step::Pipe, errno))?;

    // Signals stay blocked over the fork so that no handler of ours runs in the child before it is reset.
    let mut all = nix::sys::signal::SigSet::all();
    let mut before = nix::sys::signal::SigSet::empty();
    nix::sys::signal::pthread_sigmask(nix::sys::signal::SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before))
        .map_err(|errno| fail(Step::Fork, errno))?;
    // SAFETY: the child calls only async-signal-safe functions (see `child`) and never returns.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        child(spawn, &mut prepared, report_write.as_raw_fd());
    }
    let fork_errno = Errno::last();
    all = before;
    let restored = nix::sys::signal::pthread_sigmask(nix::sys::signal::SigmaskHow::SIG_SETMASK, Some(&all), None);
    if forked < 0 {
        return Err(fail(Step::Fork, fork_errno));
    }
    drop(report_write);
    let mut report = [0_u8; 5];
    let got = read_all(report_read.as_raw_fd(), &mut report);
    if let (true, Some((step, errno))) = (got == report.len(), report.split_first()) {
        let errno = errno.try_into().map_or(Errno::UnknownErrno, |raw| Errno::from_raw(i32::from_ne_bytes(raw)));
        let step = Step::ALL.get(usize::from(*step)).copied().unwrap_or(Step::Exec);
        // The child has already called _exit; nobody else knows its pid.
        let _ = nix::sys::wait::waitpid(Pid::from_raw(forked), None);
        return Err(fail(step, errno));
    }
    restored.map_err(|errno| fail(Step::Fork, errno))?;
    Ok(Pid::from_raw(forked))
}

/// Replaces this process by the program; returns only when that failed.
pub fn exec(spawn: &Spawn) -> SpawnError {
    let program = spawn.program.display().to_string();
    let null = if spawn.stdio.iter().any(|stream| matches!(stream, Stdio::Null)) { open_null().ok() } else { None };
    match prepare(spawn, null.as_ref()) {
        Err(error) => error,
        Ok(mut prepared) => {
            let (step, errno) = run_steps(spawn, &mut prepared, -1);
            SpawnError::Call { program, step, errno }
        }
    }
}

fn open_null() -> Result<OwnedFd, Errno> {
    nix::fcntl::open(
        "/dev/null",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
}

fn prepare(spawn: &Spawn, null: Option<&OwnedFd>) -> Result<Prepared, SpawnError> {
    let nul = |what| SpawnError::Nul { program: spawn.program.display().to_string(), what };
    let program = CString::new(spawn.program.as_os_str().as_bytes()).map_err(|_| nul("the path"))?;
    let argv: Vec<CString> = spawn
        .argv
        .iter()
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| nul("an argument"))?;
    let mut env: Vec<CString> = Vec::with_capacity(spawn.env.len() + 1);
    for (name, value) in &spawn.env {
        if !spawn.listen_fds.is_empty() && (name == "LISTEN_FDS" || name == "LISTEN_PID" || name == "LISTEN_FDNAMES") {
            continue;
        }
        let mut entry = name.as_bytes().to_vec();
        entry.push(b'=');
        entry.extend_from_slice(value.as_bytes());
        env.push(CString::new(entry).map_err(|_| nul("the environment"))?);
    }
    if !spawn.listen_fds.is_empty() {
        let count = format!("LISTEN_FDS={}", spawn.listen_fds.len());
        env.push(CString::new(count).map_err(|_| nul("the environment"))?);
    }
    let mut listen_pid = Box::new([0_u8; LISTEN_PID_ROOM]);
    for (room, byte) in listen_pid.iter_mut().zip(LISTEN_PID) {
        *room = *byte;
    }
    let mut argv_ptrs: Vec<*const libc::c_char> = argv.iter().map(|entry| entry.as_ptr()).collect();
    argv_ptrs.push(ptr::null());
    let mut env_ptrs: Vec<*const libc::c_char> = env.iter().map(|entry| entry.as_ptr()).collect();
    if !spawn.listen_fds.is_empty() {
        env_ptrs.push(listen_pid.as_ptr().cast());
    }
    env_ptrs.push(ptr::null());
    let cwd = match &spawn.cwd {
        Some(path) => Some(CString::new(path.as_os_str().as_bytes()).map_err(|_| nul("the working directory"))?),
        None => None,
    };
    let limits = spawn
        .limits
        .iter()
        .map(|(resource, soft, hard)| {
            (
                *resource as libc::c_int,
                libc::rlimit { rlim_cur: *soft as libc::rlim_t, rlim_max: *hard as libc::rlim_t },
            )
        })
        .collect();
    let stdio = spawn.stdio.each_ref().map(|stream| match stream {
        Stdio::Inherit => None,
        Stdio::Null => null.map(AsRawFd::as_raw_fd),
        Stdio::Fd(fd) => Some(fd.as_raw_fd()),
    });
    Ok(Prepared {
        program,
        _argv: argv,
        argv_ptrs,
        _env: env,
        env_ptrs,
        listen_pid,
        cwd,
        groups: spawn.identity.as_ref().map(|identity| identity.groups.clone()).unwrap_or_default(),
        oom_score: spawn.oom_score_adj.map(|score| score.to_string().into_bytes()),
        limits,
        stdio,
    })
}

/// The child's side: does every step, then reports the failed one and ends. Never returns.
fn child(spawn: &Spawn, prepared: &mut Prepared, report: RawFd) -> ! {
    let (step, errno) = run_steps(spawn, prepared, report);
    let mut message = [0_u8; 5];
    if let Some((first, rest)) = message.split_first_mut() {
        *first = step as u8;
        rest.copy_from_slice(&(errno as i32).to_ne_bytes());
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
fn run_steps(spawn: &Spawn, prepared: &mut Prepared, report: RawFd) -> (Step, Errno) {
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
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), 8_usize);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(prepared.program.as_ptr(), prepared.argv_ptrs.as_ptr(), prepared.env_ptrs.as_ptr());
    }
    (Step::Exec, Errno::last())
}

fn prepared_len(spawn: &Spawn) -> RawFd {
    RawFd::try_from(spawn.listen_fds.len()).unwrap_or(RawFd::MAX - 8)
}

/// Writes `pid` in decimal behind `LISTEN_PID=`, without allocating.
fn write_pid(room: &mut [u8; LISTEN_PID_ROOM], pid: libc::pid_t) {
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

fn read_all(fd: RawFd, buffer: &mut [u8]) -> usize {
    let mut got = 0;
    while let Some(room) = buffer.get_mut(got..).filter(|room| !room.is_empty()) {
        // SAFETY: `room` is a live slice of exactly that length.
        let count = unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) };
        match usize::try_from(count) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    got
}

/// Duplicates a descriptor to a number of at least `floor`, close-on-exec, so that it stays clear of the places that
/// [`Spawn::listen_fds`] fills.
pub fn duplicate_above(fd: RawFd, floor: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC returns a new descriptor that nobody else owns, or -1.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, floor) };
    Errno::result(copy)?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn run(mut spawn: Spawn) -> (i32, String) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        spawn.stdio[1] = Stdio::Fd(write);
        let pid = super::spawn(&spawn).unwrap();
        drop(spawn);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        let nix::sys::wait::WaitStatus::Exited(_, code) = status else { panic!("{status:?}") };
        (code, text)
    }

    fn shell(script: &str) -> Spawn {
        Spawn {
            program: "/bin/sh".into(),
            argv: vec!["sh".into(), "-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            ..Spawn::default()
        }
    }

    #[test]
    fn a_child_starts_with_default_signals_and_an_empty_mask() {
        let (code, text) = run(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
        assert_eq!(code, 0);
        for line in text.lines() {
            assert!(line.ends_with("0000000000000000"), "{line}");
        }
    }

    #[test]
    fn listening_sockets_arrive_as_descriptor_three_with_the_childs_own_pid() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let high = duplicate_above(socket.as_raw_fd(), 64).unwrap();
        let mut spawn = shell("echo $LISTEN_FDS $((LISTEN_PID == $$)); readlink /proc/self/fd/3");
        spawn.listen_fds = vec![high.as_raw_fd()];
        let (_, text) = run(spawn);
        assert!(text.starts_with("1 1\nsocket:["), "{text}");
    }

    #[test]
    fn nothing_else_is_left_open_in_the_child() {
        let leaked = std::fs::File::open("/dev/null").unwrap();
        nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let (_, text) = run(shell("cd /proc/self/fd && echo *"));
        let open: Vec<&str> = text.split_whitespace().collect();
        assert!(open.iter().all(|fd| fd.parse::<i32>().unwrap() <= 3), "{text}");
    }

    #[test]
    fn a_missing_program_is_127_and_a_folder_is_126() {
        let mut missing = shell("");
        missing.program = "/nonexistent/program".into();
        assert_eq!(spawn(&missing).unwrap_err().exit_code(), 127);
        let mut folder = shell("");
        folder.program = "/etc".into();
        assert_eq!(spawn(&folder).unwrap_err().exit_code(), 126);
    }

    #[test]
    fn a_failing_step_is_named_with_its_errno() {
        let mut spawn = shell("");
        spawn.cwd = Some("/nonexistent".into());
        let message = super::spawn(&spawn).unwrap_err().to_string();
        assert!(message.contains("enter the working directory") && message.contains("ENOENT"), "{message}");
    }

    #[test]
    fn dropping_the_user_leaves_no_capability_behind() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let mut spawn = shell("id -u; id -G; grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status");
        spawn.identity = Some(Identity { uid: 65534, gid: 65534, groups: vec![] });
        spawn.drop_capabilities = true;
        spawn.no_new_privileges = true;
        let (_, text) = run(spawn);
        assert!(text.starts_with("65534\n65534\n"), "{text}");
        assert_eq!(text.matches("0000000000000000").count(), 5, "{text}");
        assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    }

    #[test]
    fn the_environment_is_exactly_what_was_given() {
        let mut spawn = shell("");
        spawn.program = "/usr/bin/env".into();
        spawn.argv = vec!["env".into()];
        let (_, text) = run(spawn);
        assert_eq!(text, "PATH=/usr/bin:/bin\n");
    }
}
