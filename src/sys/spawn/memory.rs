/*!
Everything that the child touches, allocated before the fork: after it, allocating could wait for a lock that another
thread holds for ever.
*/
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;

use super::{Spawn, SpawnError, Stdio};

/// Room for `LISTEN_PID=` and a pid, written by the child.
pub(super) const LISTEN_PID: &[u8] = b"LISTEN_PID=";
pub(super) const LISTEN_PID_ROOM: usize = LISTEN_PID.len() + 12;
/// Everything the child touches, allocated before the fork.
pub(super) struct Prepared {
    pub(super) program: CString,
    _argv: Vec<CString>,
    pub(super) argv_ptrs: Vec<*const libc::c_char>,
    _env: Vec<CString>,
    pub(super) env_ptrs: Vec<*const libc::c_char>,
    pub(super) listen_pid: Box<[u8; LISTEN_PID_ROOM]>,
    pub(super) cwd: Option<CString>,
    pub(super) groups: Vec<libc::gid_t>,
    pub(super) oom_score: Option<Vec<u8>>,
    pub(super) limits: Vec<(libc::c_int, libc::rlimit)>,
    pub(super) stdio: [Option<RawFd>; 3],
}
pub(super) fn open_null() -> Result<OwnedFd, Errno> {
    nix::fcntl::open(
        "/dev/null",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
}
pub(super) fn prepare(spawn: &Spawn, null: Option<&OwnedFd>) -> Result<Prepared, SpawnError> {
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
