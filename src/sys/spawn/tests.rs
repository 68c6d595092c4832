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
fn the_environment_is_exactly_what_was_given() {
    let mut spawn = shell("");
    spawn.program = "/usr/bin/env".into();
    spawn.argv = vec!["env".into()];
    let (_, text) = run(spawn);
    assert_eq!(text, "PATH=/usr/bin:/bin\n");
}

#[test]
fn signals_may_be_as_they_were_found() {
    let found = Inheritance {
        ignored: SignalSet::EMPTY.with(libc::SIGHUP).with(40),
        blocked: SignalSet::EMPTY.with(libc::SIGUSR1),
        closed: [false; 3],
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status");
    let script = format!("exec grep -E '^Sig(Blk|Ign)' /proc/self/status >{}", file.display());
    let pid = spawn(&shell(&script).with_signals_of(&found)).unwrap();
    nix::sys::wait::waitpid(pid, None).unwrap();
    let seen = std::fs::read_to_string(file).unwrap();
    assert_eq!(seen, "SigBlk:\t0000000000000200\nSigIgn:\t0000008000000001\n");
}
