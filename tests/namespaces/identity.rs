//! Becoming somebody else: what only root can try.

use std::io::Read;
use std::os::unix::fs::MetadataExt;

use caps::{CapSet, Capability};
use dindctl::home::folder::{Folder, Owner};
use dindctl::sys::fsuser::FsUser;
use dindctl::sys::signal::{send, send_to_group};
use dindctl::sys::spawn::{Identity, Spawn, Stdio, spawn};
use libtest_mimic::Trial;
use nix::fcntl::OFlag;

use crate::lab::Outcome;
use crate::support::{ensure, trial};

pub fn trials() -> Vec<Trial> {
    let root = if nix::unistd::geteuid().is_root() { Ok(()) } else { Err("needs root".to_owned()) };
    vec![
        trial("dropping_the_user_leaves_no_capability_behind", &root, dropping_the_user),
        trial("a_home_that_root_may_not_enter_is_made_ready", &root, entering_a_home),
        trial("signals_reach_other_users_without_cap_kill", &root, signalling_a_user),
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

/// Runs it in a thread that has these rights no more: they belong to the thread.
fn without(rights: &'static [Capability], act: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let work = std::thread::spawn(move || {
        for set in [CapSet::Effective, CapSet::Permitted] {
            for right in rights {
                caps::drop(None, set, *right)?;
            }
        }
        act()
    });
    work.join().map_err(|_| "the thread failed")?
}

fn entering_a_home() -> Outcome {
    let root = tempfile::tempdir()?;
    let (home, owner) = (root.path().join("home"), Owner { uid: 4321, gid: 4322 });
    std::fs::create_dir(&home)?;
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    std::os::unix::fs::chown(&home, Some(owner.uid), Some(owner.gid))?;
    std::fs::write(root.path().join("source"), "ours")?;
    let place = root.path().to_owned();
    without(&[Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH], move || {
        let home = place.join("home");
        ensure(std::fs::create_dir(home.join("x")).is_err(), || "root has every right here".into())?;
        let top = Folder::top(&home, owner, 0o755)?;
        let deep = top.make_all(".local/state".as_ref(), owner)?;
        deep.copy_new("file".as_ref(), &place.join("source"), owner)?;
        ensure(std::fs::create_dir(home.join("x")).is_err(), || "the owner's rights stayed".into())
    })?;
    for name in [".local", ".local/state", ".local/state/file"] {
        let found = home.join(name).metadata()?;
        ensure((found.uid(), found.gid()) == (owner.uid, owner.gid), || format!("{name}: {found:?}"))?;
    }
    Ok(())
}

fn signalling_a_user() -> Outcome {
    let sleeper = || Spawn {
        program: "/bin/sleep".into(),
        argv: ["sleep", "100"].map(Into::into).to_vec(),
        session: dindctl::sys::spawn::Session::New,
        identity: Some(Identity { uid: 65534, gid: 65534, groups: vec![] }),
        ..Spawn::default()
    };
    let (one, group) = (spawn(&sleeper())?, spawn(&sleeper())?);
    let sent = without(&[Capability::CAP_KILL], move || {
        let plain = nix::sys::signal::kill(one, nix::sys::signal::Signal::SIGTERM);
        ensure(plain == Err(nix::errno::Errno::EPERM), || format!("without CAP_KILL: {plain:?}"))?;
        send(one.as_raw(), libc::SIGTERM)?;
        send_to_group(group.as_raw(), libc::SIGTERM)?;
        ensure(nix::unistd::geteuid().is_root(), || "still somebody else".into())
    });
    for pid in [one, group] {
        if sent.is_err() {
            send(pid.as_raw(), libc::SIGKILL)?;
        }
        let status = nix::sys::wait::waitpid(pid, None)?;
        let killed = matches!(status, nix::sys::wait::WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGTERM, _));
        ensure(sent.is_err() || killed, || format!("{status:?}"))?;
    }
    sent
}
