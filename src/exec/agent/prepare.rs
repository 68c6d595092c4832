/*!
Everything between a job and its first program: it is checked, its user is found, its files are written.

Nothing of the job runs before this is done, so no path can be exchanged meanwhile. Afterwards the agent opens no
path that the program could have touched.
*/
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;

use super::accounts::{self, Account};
use super::environment;
use super::refusal::Refusal;
use super::tree::{Tree, TreeError, write_all};
use crate::exec::protocol::{CodeFile, DirectoryIdentity, Job};
use crate::sys::fsuser::FsUser;
use crate::sys::spawn::Identity;

/// Most bytes read of `/etc/passwd`, `/etc/group` and a bundle of authorities, which an untrusted image brings along.
const READ_MAX: u64 = 4 * 1024 * 1024;

/// Checks what can be told from the job alone.
pub(super) fn check(job: &Job) -> Result<(), Refusal> {
    let bad = |message: String| Err(Refusal::rejected("bad_job", message, None));
    if job.stages.is_empty() {
        return bad("the job has no stage".to_owned());
    }
    for stage in &job.stages {
        if stage.argv.is_empty() {
            return bad(format!("stage {:?} has no program", stage.name));
        }
        if stage.argv.iter().any(|argument| argument.contains('\0')) {
            return bad(format!("stage {:?} has an argument with a NUL byte", stage.name));
        }
    }
    if let Some(name) = environment::invalid(&job.env) {
        return bad(format!("variable {name:?} cannot be passed on: its name or value holds '=' or NUL, or is empty"));
    }
    if job.timeout_ms == 0 {
        return bad("the timeout is 0".to_owned());
    }
    if !job.workdir.starts_with('/') || job.workdir.contains('\0') {
        return bad(format!("the working directory {:?} is not an absolute path", job.workdir));
    }
    Ok(())
}

/// Looks the job's user up below `root` (`/`).
pub(super) fn account(job: &Job, root: &Path) -> Result<Account, Refusal> {
    let passwd = read_bounded(&root.join("etc/passwd"));
    let group = read_bounded(&root.join("etc/group"));
    accounts::resolve(&job.run_as, &passwd, &group)
        .map_err(|error| Refusal::rejected("unknown_user", error.to_string(), Some("give the user as UID or UID:GID")))
}

/// The beginning of a regular file as text; anything else is as good as empty, as it is for docker.
pub(super) fn read_bounded(path: &Path) -> String {
    // A pipe in that place must not hold us.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let mut bytes = Vec::new();
    match file {
        Ok(file) if file.metadata().is_ok_and(|found| found.is_file()) => {
            // What was read before an error counts.
            let _ = file.take(READ_MAX).read_to_end(&mut bytes);
        }
        _ => {}
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs `act` with the file system identity of the job's user.
pub(super) fn as_user<T>(identity: &Identity, act: impl FnOnce() -> T) -> Result<T, Refusal> {
    let failed = |errno: Errno| {
        let ids = format!("{}:{}", identity.uid, identity.gid);
        Refusal::internal("identity", format!("cannot act as user {ids}: {}", errno.desc()))
    };
    let guard = FsUser::assume(identity).map_err(failed)?;
    let result = act();
    drop(guard);
    // The kernel resets this with every change of identity, to a value that the host chooses.
    nix::sys::prctl::set_dumpable(false).map_err(failed)?;
    Ok(result)
}

/// Makes sure that a bound workspace is the very directory that the caller meant.
pub(super) fn check_bound(path: &str, expected: &DirectoryIdentity) -> Result<(), Refusal> {
    let mismatch = |message: String| {
        let hint = "the daemon sees another file system than the caller: let the workspace be copied instead";
        Refusal::rejected("workspace_mismatch", message, Some(hint))
    };
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) => return Err(mismatch(format!("the workspace is not at {path:?}: {error}"))),
    };
    let seen = DirectoryIdentity { ino: found.ino(), ctime: found.ctime(), ctime_nsec: found.ctime_nsec() };
    if seen == *expected && found.is_dir() {
        return Ok(());
    }
    Err(mismatch(format!("{path:?} is not the caller's workspace: {seen:?} here, {expected:?} there")))
}

/// Writes the job's files. Runs as the job's user; a name that is taken is an error, a link on the way too.
pub(super) fn write_files(files: &[CodeFile]) -> Result<(), Refusal> {
    if files.is_empty() {
        return Ok(());
    }
    let refuse = |path: &str, error: TreeError| match error {
        TreeError::Unsafe => {
            Refusal::rejected("bad_job", format!("{path:?} is not an absolute path of a file without '..'"), None)
        }
        TreeError::Call(errno) => Refusal::file("file_unwritable", "write", path, errno),
    };
    let tree = Tree::open(Path::new("/")).map_err(|errno| refuse("/", errno.into()))?;
    for file in files {
        let decoded;
        let content = if file.base64 {
            decoded = STANDARD.decode(&file.content).map_err(|error| {
                Refusal::rejected("bad_job", format!("the content of {:?} is not base64: {error}", file.path), None)
            })?;
            decoded.as_slice()
        } else {
            file.content.as_bytes()
        };
        let relative = Path::new(&file.path).strip_prefix("/").map_err(|_| refuse(&file.path, TreeError::Unsafe))?;
        let target = tree.create_file(relative).map_err(|error| refuse(&file.path, error))?;
        write_all(&target, content).map_err(|errno| refuse(&file.path, errno.into()))?;
    }
    Ok(())
}

/// Makes sure that the working directory is a plain place of the sandbox: there, enterable for the job's user (who
/// runs this), and nowhere below `/proc`, where descriptors of other processes look like directories (CVE-2024-21626).
pub(super) fn check_workdir(path: &str) -> Result<(), Refusal> {
    let hint = "name an existing directory, or one on a writable tmpfs";
    let refuse = |errno: Errno| {
        let message = format!("the working directory {path:?} cannot be used: {}", errno.desc());
        Refusal::rejected("workdir_unusable", message, Some(hint))
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let folder = match openat2(AT_FDCWD, path, how) {
        // Not every sandbox knows this call; what follows catches the plain cases.
        Err(Errno::ENOSYS | Errno::EPERM) => open(path, flags, Mode::empty()),
        other => other,
    };
    let folder = folder.map_err(refuse)?;
    if is_below_proc(Path::new(path)) || fstatfs(&folder).map_err(refuse)?.filesystem_type() == PROC_SUPER_MAGIC {
        let message = format!("the working directory {path:?} lies below /proc");
        return Err(Refusal::rejected("workdir_unusable", message, Some(hint)));
    }
    // Entering needs search permission, which opening alone does not.
    open(&*format!("{path}/."), flags, Mode::empty()).map_err(refuse).map(drop)
}

/// Whether a path, read without looking at links, leads through `/proc`.
fn is_below_proc(path: &Path) -> bool {
    let mut names = Vec::new();
    path.components().any(|component| {
        match component {
            Component::ParentDir => drop(names.pop()),
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        names.as_slice() == ["proc"]
    })
}

/// Opens the places whose being full explains a failure. One that is not there cannot be full.
pub(super) fn watch(paths: &[String]) -> Vec<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    paths.iter().filter_map(|path| open(path.as_str(), flags, Mode::empty()).ok()).collect()
}

/// Whether one of the places has no free block or no free inode.
pub(super) fn any_full(places: &[OwnedFd]) -> bool {
    places.iter().any(|place| {
        fstatvfs(place).is_ok_and(|fs| {
            (fs.blocks() > 0 && fs.blocks_available() == 0) || (fs.files() > 0 && fs.files_available() == 0)
        })
    })
}

/// The environment in the form of a program start.
pub(super) fn environment(job: &Job, account: &Account) -> BTreeMap<OsString, OsString> {
    environment::merge(std::env::vars_os(), &job.env, account, job.tty.is_some())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::exec::outcome::Status;

    fn job() -> Job {
        serde_json::from_str(
            r#"{"id":"x","stages":[{"name":"run","argv":["true"]}],"workdir":"/","run_as":{"spec":"app"},"timeout_ms":1}"#,
        )
        .unwrap()
    }

    #[rstest]
    #[case(|job: &mut Job| job.stages.clear(), "no stage")]
    #[case(|job: &mut Job| job.stages[0].argv.clear(), "no program")]
    #[case(|job: &mut Job| job.stages[0].argv.push("a\0b".into()), "NUL")]
    #[case(|job: &mut Job| job.timeout_ms = 0, "timeout")]
    #[case(|job: &mut Job| job.workdir = "work".into(), "absolute")]
    #[case(|job: &mut Job| drop(job.env.insert("A=B".into(), String::new())), "A=B")]
    fn a_senseless_job_is_rejected_by_name(#[case] spoil: fn(&mut Job), #[case] word: &str) {
        let mut job = job();
        assert_eq!(check(&job), Ok(()));
        spoil(&mut job);
        let refusal = check(&job).unwrap_err();
        assert_eq!((refusal.status, refusal.problem.code.as_str()), (Status::Rejected, "bad_job"));
        assert!(refusal.problem.message.contains(word), "{refusal}");
    }

    #[test]
    fn accounts_come_from_the_sandboxs_files_and_a_pipe_there_does_not_hold_us() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        assert_eq!(account(&job(), root.path()).unwrap_err().problem.code, "unknown_user");
        std::fs::write(root.path().join("etc/passwd"), b"\xff\xfe\napp:x:12:34::/app:/bin/sh\n").unwrap();
        nix::unistd::mkfifo(&root.path().join("etc/group"), Mode::from_bits_truncate(0o600)).unwrap();
        let found = account(&job(), root.path()).unwrap();
        assert_eq!(found.identity, Identity { uid: 12, gid: 34, groups: vec![] });
    }

    #[test]
    fn a_bound_workspace_must_be_the_callers_own() {
        let root = tempfile::tempdir().unwrap();
        let found = root.path().metadata().unwrap();
        let identity = DirectoryIdentity { ino: found.ino(), ctime: found.ctime(), ctime_nsec: found.ctime_nsec() };
        let path = root.path().to_str().unwrap();
        assert_eq!(check_bound(path, &identity), Ok(()));
        let other = DirectoryIdentity { ino: found.ino() + 1, ..identity };
        assert_eq!(check_bound(path, &other).unwrap_err().problem.code, "workspace_mismatch");
        assert_eq!(check_bound("/nonexistent", &identity).unwrap_err().problem.code, "workspace_mismatch");
    }

    #[test]
    fn files_are_written_once_and_never_through_links() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str, base64: bool| {
            let path = root.path().join(name).to_str().unwrap().to_owned();
            [CodeFile { path, content: content.to_owned(), base64 }]
        };
        write_files(&file("new/main.py", "print(1)", false)).unwrap();
        write_files(&file("raw", "/w==", true)).unwrap();
        assert_eq!(std::fs::read(root.path().join("new/main.py")).unwrap(), b"print(1)");
        assert_eq!(std::fs::read(root.path().join("raw")).unwrap(), [0xff]);
        std::os::unix::fs::symlink("/tmp/nonexistent-target", root.path().join("link")).unwrap();
        std::os::unix::fs::symlink("new", root.path().join("folder")).unwrap();
        for (name, content, base64, code) in [
            ("raw", "x", false, "file_unwritable"),
            ("link", "x", false, "file_unwritable"),
            ("folder/x", "x", false, "file_unwritable"),
            ("a/../b", "x", false, "bad_job"),
            ("other", "%%", true, "bad_job"),
        ] {
            assert_eq!(write_files(&file(name, content, base64)).unwrap_err().problem.code, code, "{name}");
        }
        let relative = [CodeFile { path: "relative".into(), content: String::new(), base64: false }];
        assert_eq!(write_files(&relative).unwrap_err().problem.code, "bad_job");
    }

    #[rstest]
    #[case("/", true)]
    #[case("/usr/bin/..", true)]
    #[case("/nonexistent", false)]
    #[case("/etc/passwd", false)]
    #[case("/proc", false)]
    #[case("/proc/self/cwd", false)]
    #[case("/proc/self/fd", false)]
    #[case("//proc/self/cwd", false)]
    #[case("/usr/../proc/self/cwd", false)]
    fn the_working_directory_is_a_plain_place(#[case] path: &str, #[case] good: bool) {
        assert_eq!(check_workdir(path).is_ok(), good, "{:?}", check_workdir(path));
    }

    #[test]
    fn a_link_into_proc_is_no_working_directory() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink("/proc/self/task", &link).unwrap();
        assert!(check_workdir(link.to_str().unwrap()).is_err());
        let magic = root.path().join("magic");
        std::os::unix::fs::symlink("/proc/self/cwd", &magic).unwrap();
        assert!(check_workdir(magic.to_str().unwrap()).is_err());
    }

    #[test]
    fn places_with_room_are_not_full() {
        let root = tempfile::tempdir().unwrap();
        let places = watch(&[root.path().to_str().unwrap().to_owned(), "/nonexistent".to_owned()]);
        assert_eq!(places.len(), 1);
        assert!(!any_full(&places));
    }
}
