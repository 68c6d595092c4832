//! Becoming somebody else: what only root can try.

use std::io::Read;
use std::os::unix::fs::MetadataExt;

use dindctl::sys::fsuser::FsUser;
use dindctl::sys::spawn::{Identity, Spawn, Stdio, spawn};
use libtest_mimic::Trial;
use nix::fcntl::OFlag;

use crate::lab::Outcome;
use crate::support::{ensure, trial};

pub fn trials() -> Vec<Trial> {
    let root = if nix::unistd::geteuid().is_root() { Ok(()) } else { Err("needs root".to_owned()) };
    vec![
        trial("dropping_the_user_leaves_no_capability_behind", &root, dropping_the_user),
        trial("files_belong_to_the_assumed_user_and_the_own_identity_comes_back", &root, assuming_a_user),
    ]
}

fn dropping_the_user() -> Outcome {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let script = "id -u; id -G; grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status";
    let child = Spawn {
        program: "/bin/sh".into(),
        argv: ["sh", "-c", script].map(Into::into).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        stdio: [Stdio::Null, Stdio::Fd(write), Stdio::Inherit],
        identity: Some(Identity { uid: 65534, gid: 65534, groups: vec![] }),
        drop_capabilities: true,
        no_new_privileges: true,
        ..Spawn::default()
    };
    let pid = spawn(&child)?;
    drop(child);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text)?;
    nix::sys::wait::waitpid(pid, None)?;
    ensure(text.starts_with("65534\n65534\n"), || text.clone())?;
    ensure(text.matches("0000000000000000").count() == 5, || text.clone())?;
    ensure(text.contains("NoNewPrivs:\t1"), || text.clone())
}

fn assuming_a_user() -> Outcome {
    let root = tempfile::tempdir()?;
    std::os::unix::fs::chown(root.path(), Some(4321), Some(4322))?;
    let identity = Identity { uid: 4321, gid: 4322, groups: vec![] };
    // A thread of its own: the identity belongs to the thread.
    let path = root.path().to_owned();
    let work = std::thread::spawn(move || -> Result<bool, std::io::Error> {
        let guard = FsUser::assume(&identity).map_err(std::io::Error::other)?;
        std::fs::write(path.join("theirs"), "x")?;
        let refused = std::fs::read("/proc/1/environ").is_err();
        drop(guard);
        std::fs::write(path.join("ours"), "x")?;
        Ok(refused)
    });
    let refused = work.join().map_err(|_| "the thread failed")??;
    ensure(refused, || "the assumed user could read the environment of PID 1".into())?;
    let owner = |name: &str| root.path().join(name).metadata().map(|found| (found.uid(), found.gid()));
    let owners = (owner("theirs")?, owner("ours")?);
    ensure(owners == ((4321, 4322), (0, 0)), || format!("{owners:?}"))
}
