//! The caller's directory that a program works in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::protocol::DirectoryIdentity;
use super::rejection::Rejection;
use super::request::{WorkspaceMode, WorkspaceSpec};

/// A workspace that exists and may be shown to untrusted code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Real absolute path; the program finds it at the same place.
    pub path: String,
    /// How it is seen.
    pub mode: WorkspaceMode,
    /// What `stat` says of it here.
    pub identity: DirectoryIdentity,
    /// Owner and group of the directory.
    pub owner: (u32, u32),
}

/// Neither these nor anything below them.
const SYSTEM: [&str; 16] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/run",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/.dindctl",
];

/// Looks at the directory. `sockets` are the control sockets that it must not contain.
pub fn resolve(spec: &WorkspaceSpec, sockets: &[PathBuf]) -> Result<Workspace, Rejection> {
    let typed = spec.path.display().to_string();
    let refuse = |why: &str| {
        Rejection::new("--workspace", &typed, why).with_hint("give a directory of your own, such as a project folder")
    };
    let path = fs::canonicalize(&spec.path).map_err(|error| refuse(&error.to_string()))?;
    let facts = fs::metadata(&path).map_err(|error| refuse(&error.to_string()))?;
    if !facts.is_dir() {
        return Err(refuse("is not a directory"));
    }
    check_place(&path, sockets).map_err(refuse)?;
    let path = path.into_os_string().into_string().map_err(|_| refuse("has a name that is not UTF-8"))?;
    if path.contains(['\n', '\0']) {
        return Err(refuse("has a line break in its name"));
    }
    let identity = DirectoryIdentity { ino: facts.ino(), ctime: facts.ctime(), ctime_nsec: facts.ctime_nsec() };
    Ok(Workspace { path, mode: spec.mode, identity, owner: (facts.uid(), facts.gid()) })
}

/// `path` is real and absolute.
fn check_place(path: &Path, sockets: &[PathBuf]) -> Result<(), &'static str> {
    if path == Path::new("/") {
        return Err("is the whole file system");
    }
    if path == Path::new("/tmp") {
        return Err("is where the sandbox has its own /tmp");
    }
    for system in SYSTEM.iter().map(Path::new) {
        if path.starts_with(system) {
            return Err("is a system directory");
        }
        if system.starts_with(path) {
            return Err("contains system directories");
        }
    }
    if sockets.iter().any(|socket| socket.starts_with(path)) {
        return Err("contains the socket of the Docker daemon, which is root on its machine");
    }
    Ok(())
}

/// The control sockets of this machine: the one in use and the usual ones, with links resolved.
pub fn control_sockets(in_use: Option<&Path>) -> Vec<PathBuf> {
    let usual = ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"].map(Path::new);
    let all = in_use.into_iter().chain(usual);
    all.flat_map(|path| [Some(path.to_owned()), fs::canonicalize(path).ok()]).flatten().collect()
}

/// The directory as a tar archive of at most `limit` bytes; links are kept as links.
pub fn pack(workspace: &Workspace, limit: u64) -> Result<Vec<u8>, Rejection> {
    let too_large = || {
        Rejection::new("--workspace", &workspace.path, format!("is larger than --tmpfs-size ({limit} bytes)"))
            .with_hint("raise --tmpfs-size, or mount it with :ro or :rw")
    };
    let mut archive = tar::Builder::new(Bounded { bytes: Vec::new(), limit });
    archive.follow_symlinks(false);
    let packed = archive.append_dir_all(".", &workspace.path).and_then(|()| archive.into_inner());
    packed.map(|bounded| bounded.bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => too_large(),
        _ => Rejection::new("--workspace", &workspace.path, error.to_string())
            .with_hint("every file in it must be readable"),
    })
}

struct Bounded {
    bytes: Vec<u8>,
    limit: u64,
}

impl std::io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        if (self.bytes.len() + piece.len()) as u64 > self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/", false)]
    #[case("/etc", false)]
    #[case("/etc/ssl", false)]
    #[case("/var", false)]
    #[case("/var/lib/docker/x", false)]
    #[case("/run/user/1000", false)]
    #[case("/tmp", false)]
    #[case("/srv/daemon", false)]
    #[case("/srv", false)]
    #[case("/srv/project", true)]
    #[case("/etcetera", true)]
    #[case("/home/me", true)]
    #[case("/tmp/x", true)]
    fn places(#[case] path: &str, #[case] fine: bool) {
        let sockets = [PathBuf::from("/srv/daemon/docker.sock")];
        assert_eq!(check_place(Path::new(path), &sockets).is_ok(), fine);
    }

    #[test]
    fn a_directory_is_known_by_its_stat() {
        let folder = tempfile::tempdir().unwrap();
        let spec = WorkspaceSpec { path: folder.path().to_owned(), mode: WorkspaceMode::ReadOnly };
        let workspace = resolve(&spec, &[]).unwrap();
        assert_eq!(workspace.identity.ino, fs::metadata(folder.path()).unwrap().ino());
        let missing = WorkspaceSpec { path: folder.path().join("no"), mode: WorkspaceMode::ReadOnly };
        assert!(resolve(&missing, &[]).unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn a_copy_is_bounded_and_keeps_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), vec![0; 10_000]).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", folder.path().join("link")).unwrap();
        let spec = WorkspaceSpec { path: folder.path().to_owned(), mode: WorkspaceMode::Copy };
        let workspace = resolve(&spec, &[]).unwrap();
        let packed = pack(&workspace, 1 << 20).unwrap();
        let mut archive = tar::Archive::new(packed.as_slice());
        let links =
            archive.entries().unwrap().filter(|entry| entry.as_ref().unwrap().header().entry_type().is_symlink());
        assert_eq!(links.count(), 1);
        assert!(pack(&workspace, 4096).unwrap_err().to_string().contains("--tmpfs-size"));
    }
}
