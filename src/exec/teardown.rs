//! Cleaning up after the answer was given: by a copy of ourselves that outlives us, or here and now.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use bollard::Docker;

use super::error::ExecError;
use super::gc;
use crate::sys::spawn::{Session, Spawn, Stdio, spawn};

/// What is left of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Identifier of the run.
    pub run: String,
    /// Name or identifier of its container, once the daemon has confirmed it.
    pub container: Option<String>,
}

/// Removes the container of a run without keeping the caller waiting where that can be done.
pub async fn clean_up(docker: &Docker, remains: &Remains) -> Result<(), ExecError> {
    if may_leave_children(Path::new("/proc")) && detach(&remains.run).is_ok() {
        return Ok(());
    }
    match &remains.container {
        Some(container) => gc::remove(docker, container).await,
        None => gc::remove_run(docker, &remains.run, false).await,
    }
}

fn detach(run: &str) -> Result<(), crate::sys::spawn::SpawnError> {
    let argv = ["dindctl", "gc", "--quiet", "--run", run].map(OsString::from).to_vec();
    let copy = Spawn {
        program: "/proc/self/exe".into(),
        argv,
        env: std::env::vars_os().collect(),
        cwd: Some("/".into()),
        stdio: [Stdio::Null, Stdio::Null, Stdio::Null],
        session: Session::New,
        ..Spawn::default()
    };
    spawn(&copy).map(drop)
}

const SIGCHLD: u64 = 1 << (libc::SIGCHLD - 1);

/// Whether somebody will reap a child that we leave behind. We do not live on as PID 1, and a PID 1 that neither
/// handles, blocks nor ignores SIGCHLD would collect one zombie for every run.
fn may_leave_children(proc: &Path) -> bool {
    if std::process::id() == 1 {
        return false;
    }
    let Ok(status) = fs::read_to_string(proc.join("1/status")) else {
        return false;
    };
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    ["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().filter_map(mask).any(|bits| bits & SIGCHLD != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::tini_blocks("SigBlk:\tfffffffe7ffbfeff\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n", true)]
    #[case::shell_catches("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000010002\n", true)]
    #[case::python("SigBlk:\t0000000000000000\nSigIgn:\t0000000001001000\nSigCgt:\t0000000000000002\n", false)]
    #[case::unreadable("", false)]
    fn who_reaps(#[case] status: &str, #[case] want: bool) {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("1")).unwrap();
        fs::write(proc.path().join("1/status"), status).unwrap();
        assert_eq!(may_leave_children(proc.path()), want);
    }
}
