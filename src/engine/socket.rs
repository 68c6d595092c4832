/*!
Where the daemon's socket is when nobody says: root's place, or that of an ordinary user whose daemon is rootless.
*/
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The socket of root's daemon.
pub const OF_ROOT: &str = "/var/run/docker.sock";

/// A user's folder for sockets and state: the value of `XDG_RUNTIME_DIR`, else `/run/user/UID`.
pub fn runtime_dir(xdg_runtime_dir: Option<&OsStr>, uid: u32) -> PathBuf {
    let set = xdg_runtime_dir.filter(|folder| !folder.is_empty());
    set.map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from)
}

/// The socket of a user's own daemon.
pub fn of_user(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("docker.sock")
}

/// Root's socket, or the user's where only that one is there.
pub fn usual(xdg_runtime_dir: Option<&OsStr>, uid: u32) -> PathBuf {
    let (root, own) = (PathBuf::from(OF_ROOT), of_user(&runtime_dir(xdg_runtime_dir, uid)));
    if !root.exists() && own.exists() { own } else { root }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_folder_is_the_variable_or_the_usual_one() {
        assert_eq!(runtime_dir(Some(OsStr::new("/x")), 7), Path::new("/x"));
        assert_eq!(runtime_dir(Some(OsStr::new("")), 7), Path::new("/run/user/7"));
        assert_eq!(of_user(&runtime_dir(None, 7)), Path::new("/run/user/7/docker.sock"));
    }
}
