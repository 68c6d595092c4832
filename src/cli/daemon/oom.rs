/*!
Who is killed when memory runs out: a nested container or a build rather than the daemons that keep all of them, as with the engine's own
unit for systemd (`OOMScoreAdjust=-500`). containerd's shims stay one above it, and what runs in nested containers has the
score that the engine gives it, 0 by default.
*/
use std::fs;
use std::path::Path;

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

    #[test]
    fn what_may_not_be_lowered_is_not() {
        let own = Path::new("/proc/self");
        let before = fs::read_to_string(own.join("oom_score_adj")).unwrap();
        let may = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap();
        assert!(may || score(own).is_none());
        assert_eq!(fs::read_to_string(own.join("oom_score_adj")).unwrap(), before);
    }
}
