/*!
Who is killed when memory runs out: a nested container or a build rather than the daemons that keep all of them, as with the engine's own
unit for systemd (`OOMScoreAdjust=-500`). containerd's shims stay one above it, and what runs in nested containers has the
score that the engine gives it, 0 by default.

BuildKit gives its steps none (`executor_linux.go` of moby's builder-next), so that they would have the daemon's; it is told to run them by
a link to this very program, which sets the score that they would have without us and becomes runc.
*/
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use super::super::Environment;
use super::super::failure::Failure;
use super::super::say::{Level, Voice};
use crate::sys::spawn::{Spawn, exec, look_up};

/// Name of the link.
pub const RUNC: &str = "buildkit-runc";
/// Variable by which BuildKit is told.
const COMMAND: &str = "DOCKER_BUILDKIT_RUNC_COMMAND";
/// Variable with the score of steps, for ourselves.
const STEPS: &str = "_DINDCTL_STEPS_OOM_SCORE_ADJ";

/// The daemons' `oom_score_adj` (proc(5)): half of the memory there is, taken off.
const SCORE: i32 = -500;

/// The score for the daemons; `None` where they keep ours: it is lower already, or may not be lowered, which takes
/// `CAP_SYS_RESOURCE` in the first user namespace and is found out by doing it. `own` is the folder of this process in procfs.
pub fn score(own: &Path) -> Option<i32> {
    let file = own.join("oom_score_adj");
    let before = fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok().filter(|before| *before > SCORE)?;
    fs::write(&file, SCORE.to_string()).ok()?;
    // Upwards again is allowed to everyone; should it fail all the same, the daemons inherit what they were to get.
    fs::write(&file, before.to_string()).ok().map(|()| SCORE)
}

/// Has the steps of builds run by the link in `folder`, unless somebody has chosen a runc for them.
pub fn spare_no_build(environment: &mut Vec<(OsString, OsString)>, own: &Path, folder: &Path) -> std::io::Result<()> {
    if environment.iter().any(|(name, value)| name == COMMAND && !value.is_empty()) {
        return Ok(());
    }
    let link = folder.join(RUNC);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // As long as this process lives: without it dockerd would not start again, whatever becomes of the file.
    std::os::unix::fs::symlink(format!("/proc/{}/exe", std::process::id()), &link)?;
    let before = fs::read_to_string(own.join("oom_score_adj"))?;
    environment.retain(|(name, _)| name != COMMAND && name != STEPS);
    environment.push((COMMAND.into(), link.into()));
    environment.push((STEPS.into(), before.trim().into()));
    Ok(())
}

/// What runs under the name of the link.
pub fn run_step(words: &[OsString], environment: &Environment) -> u8 {
    let voice = Voice::default();
    let score = environment.text(STEPS).unwrap_or("0");
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score) {
        voice.say(Level::Warn, &format!("cannot set the oom_score_adj of a build to {score}: {error}"));
    }
    let name = OsStr::new("runc");
    let program = match look_up(name, environment.get("PATH")) {
        Ok(program) => program,
        Err(error) => return Failure::from(error).report(voice),
    };
    let argv = std::iter::once(name.to_owned()).chain(words.iter().cloned()).collect();
    Failure::from(exec(&Spawn { program, argv, env: environment.pairs().to_vec(), ..Spawn::default() })).report(voice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_higher_is_lowered_and_ours_stays() {
        let own = tempfile::tempdir().unwrap();
        let file = own.path().join("oom_score_adj");
        assert_eq!(score(own.path()), None, "there is none");
        for (before, want) in [("0\n", Some(SCORE)), ("300\n", Some(SCORE)), ("-500\n", None), ("-1000\n", None)] {
            fs::write(&file, before).unwrap();
            assert_eq!(score(own.path()), want, "{before}");
            assert_eq!(fs::read_to_string(&file).unwrap().trim(), before.trim());
        }
    }

    /// A build that takes all memory was spared like the daemon.
    #[test]
    fn builds_have_the_score_of_before_and_the_runc_that_somebody_chose() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("oom_score_adj"), "300\n").unwrap();
        for _ in 0..2 {
            let mut environment = vec![("A".into(), "b".into()), (COMMAND.into(), "".into())];
            spare_no_build(&mut environment, folder.path(), folder.path()).unwrap();
            let link = folder.path().join(RUNC);
            let want = [("A".into(), "b".into()), (COMMAND.into(), link.clone().into()), (STEPS.into(), "300".into())];
            assert_eq!(environment, want);
            assert_eq!(fs::canonicalize(link).unwrap(), std::env::current_exe().unwrap().canonicalize().unwrap());
        }
        let mut own = vec![(COMMAND.into(), "crun".into())];
        spare_no_build(&mut own, Path::new("/nonexistent"), Path::new("/nonexistent")).unwrap();
        assert_eq!(own, [(COMMAND.into(), "crun".into())]);
    }

    #[test]
    fn what_may_not_be_lowered_is_not() {
        let own = Path::new("/proc/self");
        let before = fs::read_to_string(own.join("oom_score_adj")).unwrap();
        let may = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap();
        assert!(may || score(own).is_none());
        assert_eq!(fs::read_to_string(own.join("oom_score_adj")).unwrap(), before);
    }
}
