/*!
Finding a program as `execvp(3)` does.
*/
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where programs are looked for without `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks `name` up the way `execvp(3)` does: as it is when it holds a slash, else in the folders of `path`.
pub fn find_program(name: &std::ffi::OsStr, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = path.unwrap_or_else(|| std::ffi::OsStr::new(DEFAULT_PATH));
    let mut first = None;
    for file in std::env::split_paths(path).map(|folder| folder.join(name)).filter(|file| file.is_file()) {
        if nix::unistd::access(&file, nix::unistd::AccessFlags::X_OK).is_ok() {
            return Some(file);
        }
        first.get_or_insert(file);
    }
    first
}
