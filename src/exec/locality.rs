//! Whether the daemon sees the same files and processes as we do.
//!
//! The kernel remembers who called `listen` on a unix socket. When that process shares our mount namespace and our
//! root, a path means the same file to both of us, and our own executable can be mounted into a sandbox as it is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the daemon is, seen from our files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locality {
    /// It shares them. Our own executable is this file.
    Local(PathBuf),
    /// It does not, or cannot be shown to.
    Remote,
}

/// Looks at the process that listens on the daemon's socket. `proc` is `/proc`.
pub fn locate(peer: Option<i32>, proc: &Path) -> Locality {
    let shared = peer.is_some_and(|pid| shares_files(pid, proc).unwrap_or(false));
    match (shared, own_executable(proc)) {
        (true, Ok(executable)) => Locality::Local(executable),
        // Not being allowed to look, and an executable without a path, only cost the shortcut.
        _ => Locality::Remote,
    }
}

/// Whether the process numbers of the daemon's containers mean the same processes here: whoever listens on its socket is of
/// our pid namespace. A listener that cannot be seen from here is not.
pub fn shares_processes(peer: Option<i32>, proc: &Path) -> bool {
    peer.is_some_and(|pid| same_namespace(pid, "pid", proc).unwrap_or(false))
}

/// Whether the daemon is in this very container: it has our processes and our files, so that it makes the control groups of its
/// containers where we see ours.
pub fn shares_container(peer: Option<i32>, proc: &Path) -> bool {
    shares_processes(peer, proc) && peer.is_some_and(|pid| shares_files(pid, proc).unwrap_or(false))
}

fn same_namespace(pid: i32, kind: &str, proc: &Path) -> io::Result<bool> {
    let theirs = fs::read_link(proc.join(pid.to_string()).join("ns").join(kind))?;
    Ok(theirs == fs::read_link(proc.join("self/ns").join(kind))?)
}

fn shares_files(pid: i32, proc: &Path) -> io::Result<bool> {
    let theirs = proc.join(pid.to_string());
    if !same_namespace(pid, "mnt", proc)? {
        return Ok(false);
    }
    let (their_root, our_root) = (fs::metadata(theirs.join("root/."))?, fs::metadata(proc.join("self/root/."))?);
    Ok(same_file(&their_root, &our_root))
}

fn own_executable(proc: &Path) -> io::Result<PathBuf> {
    let link = proc.join("self/exe");
    let path = fs::read_link(&link)?;
    // A replaced or deleted file leaves a path that leads nowhere, or to somebody else.
    if same_file(&fs::metadata(&path)?, &fs::metadata(&link)?) { Ok(path) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fake_proc(their_namespace: &str, their_root: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (who, namespace, root) in [("self", "mnt:[1]", "/"), ("7", their_namespace, their_root)] {
            fs::create_dir_all(folder.path().join(who).join("ns")).unwrap();
            symlink(namespace, folder.path().join(who).join("ns/mnt")).unwrap();
            symlink(root, folder.path().join(who).join("root")).unwrap();
        }
        symlink(std::env::current_exe().unwrap(), folder.path().join("self/exe")).unwrap();
        folder
    }

    #[test]
    fn same_namespace_and_root_are_local() {
        let proc = fake_proc("mnt:[1]", "/");
        assert_eq!(locate(Some(7), proc.path()), Locality::Local(std::env::current_exe().unwrap()));
    }

    #[test]
    fn anything_else_is_remote() {
        let other_namespace = fake_proc("mnt:[2]", "/");
        assert_eq!(locate(Some(7), other_namespace.path()), Locality::Remote);
        let other_root = fake_proc("mnt:[1]", "/tmp");
        assert_eq!(locate(Some(7), other_root.path()), Locality::Remote);
        let gone = fake_proc("mnt:[1]", "/");
        assert_eq!(locate(Some(8), gone.path()), Locality::Remote);
        assert_eq!(locate(None, gone.path()), Locality::Remote);
    }

    #[test]
    fn a_listener_of_another_namespace_shares_no_processes() {
        let folder = tempfile::tempdir().unwrap();
        for (who, pid, mount, root) in
            [("self", 1, 5, "/"), ("7", 1, 5, "/"), ("8", 2, 5, "/"), ("9", 1, 6, "/"), ("10", 1, 5, "/tmp")]
        {
            fs::create_dir_all(folder.path().join(who).join("ns")).unwrap();
            symlink(root, folder.path().join(who).join("root")).unwrap();
            for (kind, number) in [("pid", pid), ("mnt", mount)] {
                symlink(format!("{kind}:[{number}]"), folder.path().join(who).join("ns").join(kind)).unwrap();
            }
        }
        let judged = |peer| (shares_processes(peer, folder.path()), shares_container(peer, folder.path()));
        assert_eq!(judged(Some(7)), (true, true));
        assert_eq!(judged(Some(8)), (false, false));
        assert_eq!((judged(Some(9)), judged(Some(10))), ((true, false), (true, false)));
        assert_eq!(judged(Some(11)), (false, false), "nobody to look at");
        assert_eq!(judged(None), (false, false));
    }

    #[test]
    fn ourselves_we_share_with() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(shares_processes(Some(pid), Path::new("/proc")) && shares_container(Some(pid), Path::new("/proc")));
        assert!(matches!(locate(Some(pid), Path::new("/proc")), Locality::Local(_)));
    }
}
