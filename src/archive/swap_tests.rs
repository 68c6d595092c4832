//! The exchange of two trees, with errors and kills at every step.

use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::open;

use crate::archive::entry::{Kind, Time};

const RIGHTS: Rights = Rights { lenient: true };

/// Path, mode, time and content of everything, the folder itself among it.
fn look(folder: &Path) -> BTreeMap<String, (u32, i64, String)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let content = if stat.is_file() { std::fs::read_to_string(&path).unwrap() } else { String::new() };
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        found.insert(name, (stat.mode(), stat.mtime(), content));
        if stat.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn target(folder: &Path) -> OwnedFd {
    open(folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

/// An old tree, and a new one beside it that shares a name with it.
fn prepared(folder: &Path) -> Staging {
    std::fs::create_dir_all(folder.join("both/old")).unwrap();
    std::fs::create_dir_all(folder.join("lost+found")).unwrap();
    std::fs::write(folder.join("only-old"), "old").unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o750)).unwrap();
    let held = target(folder);
    touch(held.as_fd(), Time { sec: 1_000_000, nsec: 5 }).unwrap();
    let staging = Staging::create(&held, "target", RIGHTS).unwrap();
    let new = folder.join(&staging.name).join("new");
    std::fs::create_dir_all(new.join("both/new")).unwrap();
    std::fs::write(new.join("only-new"), "new").unwrap();
    let mut root = Entry::plain(Vec::new(), Kind::Folder, 0o711);
    (root.uid, root.gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    root.mtime.sec = 2_000_000;
    staging.set_root(&root, &mut Losses::default()).unwrap();
    staging
}

fn names(folder: &Path) -> Vec<String> {
    look(folder).into_keys().collect()
}

#[test]
fn the_new_tree_takes_the_old_ones_place() {
    let folder = tempfile::tempdir().unwrap();
    let staging = prepared(folder.path());
    staging.swap(&mut |_| Ok(())).unwrap();
    staging.end().unwrap();
    assert_eq!(names(folder.path()), ["", "both", "both/new", "lost+found", "only-new"]);
    let root = std::fs::metadata(folder.path()).unwrap();
    assert_eq!((root.mode() & 0o7777, root.mtime()), (0o711, 2_000_000));
}

/// Fails at the step of that number, each time in another way: an error, or a kill.
fn fails_at(number: usize) -> impl FnMut(&'static str) -> Result<(), ArchiveError> {
    let mut count = 0;
    move |_| {
        count += 1;
        if count == number { Err(ArchiveError::Interrupted(9)) } else { Ok(()) }
    }
}

#[test]
fn an_error_at_any_step_leaves_the_old_tree_as_it_was() {
    for number in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let before = {
            let other = tempfile::tempdir().unwrap();
            let staging = prepared(other.path());
            staging.undo().unwrap();
            look(other.path())
        };
        let staging = prepared(folder.path());
        match staging.swap(&mut fails_at(number)) {
            Err(ArchiveError::Interrupted(9)) => {}
            Ok(()) => {
                assert!(number > 8, "only {number} steps");
                return;
            }
            Err(other) => panic!("{other}"),
        }
        let kept = |tree: BTreeMap<String, (u32, i64, String)>| -> Vec<_> {
            // Times of the folders inside are those of this moment in both.
            tree.into_iter()
                .map(|(name, (mode, time, text))| (name.clone(), mode, name.is_empty().then_some(time), text))
                .collect()
        };
        assert_eq!(kept(look(folder.path())), kept(before), "step {number}");
        assert_eq!(std::fs::metadata(folder.path()).unwrap().mtime(), 1_000_000);
    }
}

#[test]
fn a_kill_at_any_step_is_ended_by_the_next_restore() {
    for number in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let staging = prepared(folder.path());
        let killed = staging.forward(&mut fails_at(number)).is_err();
        let held = target(folder.path());
        let recovered = recover(&held, "target", RIGHTS).unwrap();
        let old = ["", "both", "both/old", "lost+found", "only-old"];
        let new = ["", "both", "both/new", "lost+found", "only-new"];
        if killed {
            assert_eq!(
                (recovered.as_slice(), names(folder.path())),
                (&[Recovered::RolledBack][..], old.map(String::from).to_vec()),
                "step {number}"
            );
            assert_eq!(std::fs::metadata(folder.path()).unwrap().mtime(), 1_000_000);
        } else {
            assert_eq!(
                (recovered.as_slice(), names(folder.path())),
                (&[Recovered::Finished][..], new.map(String::from).to_vec())
            );
            assert_eq!(std::fs::metadata(folder.path()).unwrap().mtime(), 2_000_000);
            return;
        }
    }
}

/// Somebody else may put names into the folder meanwhile: none of theirs is overwritten or lost.
#[test]
fn what_appears_meanwhile_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let staging = prepared(folder.path());
    let path = folder.path().to_owned();
    let error = staging
        .swap(&mut |step| {
            if step == "mark the turn" {
                std::fs::write(path.join("only-new"), "theirs").unwrap();
            }
            Ok(())
        })
        .unwrap_err();
    assert!(error.to_string().contains("only-new: EEXIST"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.path().join("only-new")).unwrap(), "theirs");
    assert!(folder.path().join("both/old").exists() && folder.path().join("only-old").exists());
}

#[test]
fn a_folder_of_somebody_else_with_such_a_name_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join(format!("{PREFIX}x"));
    std::fs::create_dir_all(foreign.join("old/file")).unwrap();
    // Open to others: not made by a restore.
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/etc", folder.path().join(format!("{PREFIX}y"))).unwrap();
    assert_eq!(recover(&target(folder.path()), "target", RIGHTS).unwrap(), []);
    assert!(foreign.join("old/file").exists());
}
