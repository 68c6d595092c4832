/*!
A tmpfs on `/tmp`. The official image insists on it; its users object that it hides files of the image and takes
memory (issue 471 of devcontainers/features), so here it is mounted where `/tmp` is of no use otherwise.
*/
use super::facts::Facts;
use super::plan::{Action, Step};
use super::wants::{TmpWish, Wants};

/// One step, never required.
pub fn steps(facts: &Facts, wants: &Wants) -> Vec<Step> {
    let tmp = &facts.tmp;
    let found = match (tmp.exists, tmp.mount_point, tmp.unwritable) {
        (false, _, _) => "/tmp does not exist".to_string(),
        (true, _, Some(errno)) => format!("/tmp cannot be written: {errno}"),
        (true, true, None) => format!("/tmp is a mount ({}) and can be written", tmp.fstype),
        (true, false, None) => "/tmp is part of the root file system and can be written".to_string(),
    };
    let reason = match wants.tmp {
        TmpWish::Auto => "a tmpfs is mounted only where /tmp cannot be written (tmp=auto)",
        TmpWish::Always => "a tmpfs was asked for (tmp=always)",
        TmpWish::Never => "no tmpfs was asked for (tmp=never)",
    };
    let step = Step::nothing("tmp", "/tmp", found, reason);
    let wanted = match wants.tmp {
        TmpWish::Never => false,
        TmpWish::Always => !tmp.mount_point || tmp.unwritable.is_some(),
        TmpWish::Auto => tmp.unwritable.is_some() || !tmp.exists,
    };
    if !wanted {
        return vec![step];
    }
    if !tmp.exists {
        if tmp.unwritable.is_some() {
            return vec![step.warns("/tmp does not exist and cannot be created").hint("add /tmp to the image")];
        }
        return vec![step.does(Action::CreateDir { path: "/tmp".into(), mode: 0o1777 })];
    }
    let action = Action::Mount {
        source: "tmpfs".into(),
        target: "/tmp".into(),
        fstype: "tmpfs".into(),
        options: ["nosuid", "nodev"].map(String::from).into(),
        data: "mode=1777".into(),
    };
    vec![step.does(action).hint("start the container with --privileged, or with --tmpfs /tmp")]
}
