/*!
Finding a program as `execvp(3)` does.
*/
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

/// Where programs are looked for without `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks `name` up the way `execvp(3)` does: as it is when it holds a slash, else in the folders of `path`.
pub fn find_program(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = path.unwrap_or_else(|| OsStr::new(DEFAULT_PATH));
    let mut first = None;
    for file in std::env::split_paths(path).map(|folder| folder.join(name)).filter(|file| file.is_file()) {
        if access(&file, AccessFlags::X_OK).is_ok() {
            return Some(file);
        }
        first.get_or_insert(file);
    }
    first
}

/// Why a program cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// It is in none of the folders.
    #[error("cannot start {program}: not found in PATH")]
    NotFound {
        /// As it was typed.
        program: String,
    },
    /// It is not there, or may not be executed.
    #[error("cannot start {program}: {errno}")]
    Unusable {
        /// Its path.
        program: String,
        /// Why.
        errno: Errno,
    },
}

impl LookUpError {
    /// The exit code that shells and docker use for it: 127 not found, 126 not executable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } | Self::Unusable { errno: Errno::ENOENT | Errno::ENOTDIR, .. } => 127,
            Self::Unusable { .. } => 126,
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "install it in the image, or give its path",
            Self::Unusable { errno: Errno::EACCES, .. } => {
                "make it executable (chmod +x), or start it with its interpreter"
            }
            Self::Unusable { .. } => "give the path of a program that is in the image or on a volume",
        }
    }
}

/// Like [`find_program`], for whoever wants to know ahead of the start, before anything is done for it. What the kernel may refuse
/// besides, such as a script without its interpreter, shows only then.
pub fn look_up(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, LookUpError> {
    let not_found = || LookUpError::NotFound { program: name.to_string_lossy().into_owned() };
    let program = find_program(name, path).ok_or_else(not_found)?;
    match access(&program, AccessFlags::X_OK) {
        Ok(()) => Ok(program),
        Err(errno) => Err(LookUpError::Unusable { program: program.display().to_string(), errno }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_cannot_be_started_is_known_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
            create_dir(folder).unwrap();
            write(folder.join("a"), "").unwrap();
            set_permissions(folder.join("a"), Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([&first, &second]).unwrap();
        let said =
            |name: &str| look_up(OsStr::new(name), Some(&path)).map_err(|error| (error.to_string(), error.exit_code()));
        assert_eq!(said("a"), Ok(second.join("a")));
        assert_eq!(said("b"), Err(("cannot start b: not found in PATH".into(), 127)));
        let typed = first.join("a").display().to_string();
        assert_eq!(said(&typed), Err((format!("cannot start {typed}: EACCES: Permission denied"), 126)));
        let typed = format!("{typed}/b");
        assert_eq!(said(&typed), Err((format!("cannot start {typed}: ENOTDIR: Not a directory"), 127)));
        let missing = "/nonexistent/a";
        assert_eq!(said(missing), Err((format!("cannot start {missing}: ENOENT: No such file or directory"), 127)));
    }
}
