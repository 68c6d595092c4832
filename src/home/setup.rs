/*!
Making a user ready: first the account, then the home. What cannot be done in the home is told and ends nothing: a volume may be
read-only, and an editor opens all the same.
*/
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::account::{Change, Wish, decide};
use super::accounts_file::FILES;
use super::error::HomeError;
use super::folder::{Folder, Owner};
use super::refusal::{Refusal, lines};
use crate::probe::users::{self, User};
use crate::probe::{Roots, mountinfo};
use crate::sys::file::errno;

/// Folders that programs expect to write (basedir specification), and those of the shells' histories.
pub const FOLDERS: [&str; 7] =
    [".cache", ".config", ".local/bin", ".local/share", ".local/state", ".local/state/bash", ".local/state/zsh"];

/// Most files that a new home begins with.
const SKELETON_LIMIT: usize = 1000;

/// A user who is ready.
#[derive(Debug)]
pub struct Ready {
    /// The account.
    pub user: User,
    /// What was done.
    pub done: Vec<String>,
    /// What could not be done, and ends nothing.
    pub problems: Vec<String>,
}

/// Makes the account as it is wished for, and its home with what lies below `skeleton`.
pub fn set_up(roots: &Roots, wish: &Wish, skeleton: &Path) -> Result<Ready, HomeError> {
    let change = decide(wish, &users::users(roots)?, &users::groups(roots)?)?;
    let mut done = Vec::new();
    if change.is_needed() {
        rewrite(roots, &change)?;
        let (from, to) = (&change.from, &change.to);
        done.push(format!(
            "the account {} ({}:{}) is {} ({}:{}) now",
            from.name, from.uid, from.gid, to.name, to.uid, to.gid
        ));
    }
    let Change { from, to: user, .. } = change;
    let mut problems = Vec::new();
    home(roots, &from, &user, &roots.resolve(skeleton), &mut problems);
    let owner = Owner { uid: user.uid, gid: user.gid };
    let runtime = roots.resolve(Path::new("/run/user"));
    let made = std::fs::create_dir_all(&runtime).map_err(|error| errno(&error));
    let own = runtime.join(user.uid.to_string());
    if let Err(errno) = made.and_then(|()| Folder::top(&own, owner, 0o700)).and_then(|folder| folder.give(owner)) {
        problems.push(format!("{} cannot be made: {errno}", own.display()));
    }
    Ok(Ready { user, done, problems })
}

/// Changes the files of the accounts, each in one step, under the lock that `useradd` and its like take (lckpwdf(3)).
fn rewrite(roots: &Roots, change: &Change) -> Result<(), HomeError> {
    let lock_path = roots.resolve(Path::new("/etc/.pwd.lock"));
    let _lock = lock(&lock_path)?;
    for (name, edit) in FILES {
        let path = roots.resolve(Path::new(name));
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.map_err(fail("read", &path))?,
        };
        let fresh = edit(&text, change);
        if fresh != text {
            replace(&path, &fresh).map_err(fail("change", &path))?;
        }
    }
    Ok(())
}

fn fail(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HomeError {
    let path = path.to_path_buf();
    move |error| HomeError::File { doing, path, errno: errno(&error) }
}

fn lock(path: &Path) -> Result<Flock<File>, HomeError> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = open.map_err(fail("open", path))?;
    for _ in 0..1000 {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EWOULDBLOCK)) => file = again,
            Err((_, errno)) => return Err(HomeError::File { doing: "lock", path: path.into(), errno }),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(HomeError::File { doing: "lock (somebody has held it for 5 s)", path: path.into(), errno: Errno::EWOULDBLOCK })
}

/// A file with the mode and owner of the one that it replaces.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let before = std::fs::metadata(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".dindctl-new");
    let fresh = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
    file.set_permissions(std::fs::Permissions::from_mode(before.mode() & 0o7777))?;
    file.sync_all()?;
    std::fs::rename(&fresh, path).inspect_err(|_| {
        // The error that is told is the first one.
        let _ = std::fs::remove_file(&fresh);
    })
}

/// The home itself, the folders that programs expect, and what a new home begins with.
fn home(roots: &Roots, from: &User, user: &User, skeleton: &Path, problems: &mut Vec<String>) {
    let owner = Owner { uid: user.uid, gid: user.gid };
    let place = roots.resolve(Path::new(&user.home));
    let top = match Folder::top(&place, owner, 0o755) {
        Ok(top) => top,
        Err(errno) => {
            problems.push(format!("the home {} cannot be used: {errno}", place.display()));
            return;
        }
    };
    let mut refusals = Vec::new();
    let mut told = |what: &Path, outcome: Result<(), Errno>| {
        if let Err(errno) = outcome {
            refusals.push(Refusal { path: what.into(), errno });
        }
    };
    told(&place, top.give(owner));
    // What `useradd` has put there belongs to the id that the account had in the image.
    for name in names(&roots.resolve(Path::new("/etc/skel"))) {
        told(&place.join(&name), top.give_file(&name, from.uid, owner));
    }
    for folder in FOLDERS {
        told(&place.join(folder), top.make_all(Path::new(folder), owner).map(drop));
    }
    for file in skeleton_files(skeleton) {
        let (folder, name) = (file.parent().unwrap_or(Path::new("")), file.file_name().unwrap_or_default());
        let made = top.make_all(folder, owner).and_then(|at| at.copy_new(name, &skeleton.join(&file), owner));
        told(&place.join(&file), made.map(drop));
    }
    if refusals.is_empty() {
        return;
    }
    // Without the list each refusal is a line of its own.
    let mounts = mountinfo::own(roots).unwrap_or_default();
    problems.extend(lines(&refusals, &mounts, &user.name));
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// Files below a folder of the image, relative to it.
fn skeleton_files(skeleton: &Path) -> Vec<PathBuf> {
    let (mut files, mut waiting) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = waiting.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(skeleton.join(&folder)).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries.into_iter().take(SKELETON_LIMIT.saturating_sub(files.len())) {
            let path = folder.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(path),
                Ok(kind) if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "tester";

    /// A root in which the account has the ids of whoever tests, so that nothing has to be given away.
    fn root(uid: u32, gid: u32) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        for path in ["etc/skel", "etc/sudoers.d", "home", "usr/share/dindctl/home/.config/x"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let write = |path: &str, text: &str| std::fs::write(folder.path().join(path), text).unwrap();
        write("etc/passwd", &format!("coder:x:{uid}:{gid}::/home/coder:/bin/bash\n"));
        write("etc/group", &format!("docker:x:2375:coder\ncoder:x:{gid}:\n"));
        write("etc/sudoers.d/nopasswd", "coder ALL=(ALL) NOPASSWD:ALL\n");
        write("usr/share/dindctl/home/.config/x/settings", "ours");
        (folder, roots)
    }

    fn ids() -> (u32, u32) {
        (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
    }

    #[test]
    fn a_renamed_account_is_found_again() {
        let (uid, gid) = ids();
        let (folder, roots) = root(uid, gid);
        let wish = Wish { base: "coder".into(), name: Some(ME.into()), uid: None, gid: None };
        let skeleton = Path::new("/usr/share/dindctl/home");
        let first = set_up(&roots, &wish, skeleton).unwrap();
        assert_eq!((first.user.name.as_str(), first.done.len(), first.problems.len()), (ME, 1, 0), "{first:?}");
        let text = |path: &str| std::fs::read_to_string(folder.path().join(path)).unwrap();
        assert_eq!(text("etc/group"), format!("docker:x:2375:{ME}\n{ME}:x:{gid}:\n"));
        assert_eq!(text("etc/sudoers.d/nopasswd"), format!("{ME} ALL=(ALL) NOPASSWD:ALL\n"));
        let second = set_up(&roots, &wish, skeleton).unwrap();
        assert_eq!((second.user.name.as_str(), second.done.len()), (ME, 0), "{second:?}");
        assert!(folder.path().join("home/coder/.local/state/zsh").is_dir());
        assert_eq!(text("home/coder/.config/x/settings"), "ours");
    }

    #[test]
    fn settings_of_the_user_stay() {
        let (uid, gid) = ids();
        let (folder, roots) = root(uid, gid);
        let settings = folder.path().join("home/coder/.config/x/settings");
        std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
        std::fs::write(&settings, "theirs").unwrap();
        let wish = Wish { base: "coder".into(), ..Wish::default() };
        set_up(&roots, &wish, Path::new("/usr/share/dindctl/home")).unwrap();
        assert_eq!(std::fs::read_to_string(settings).unwrap(), "theirs");
    }

    #[test]
    fn a_home_that_is_none_ends_nothing() {
        let (uid, gid) = ids();
        let (folder, roots) = root(uid, gid);
        std::fs::write(folder.path().join("home/coder"), "a file").unwrap();
        let wish = Wish { base: "coder".into(), ..Wish::default() };
        let ready = set_up(&roots, &wish, Path::new("/none")).unwrap();
        assert!(ready.problems.iter().any(|text| text.contains("home/coder cannot be used: ENOTDIR")), "{ready:?}");
    }

    #[test]
    fn nothing_is_changed_where_a_wish_cannot_be_had() {
        let (uid, gid) = ids();
        let (folder, roots) = root(uid, gid);
        let wish = Wish { base: "coder".into(), name: Some("a:b".into()), uid: None, gid: None };
        assert!(set_up(&roots, &wish, Path::new("/none")).is_err());
        assert!(!folder.path().join("home/coder").exists());
    }
}
