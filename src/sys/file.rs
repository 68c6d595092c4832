/*!
Small files that the kernel makes up: read, and written where their content is a command to it (`cgroup.procs`,
`cgroup.subtree_control`, sysctls).
*/
use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// As much as most of them hold, bytes.
const USUAL: usize = 4096;

/// Reads a whole file. The kernel tells no size of those that it makes up; [`std::fs::read`] begins with 32 bytes there, and asks
/// for more eight times until it has an ordinary `/proc/self/mountinfo`.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL);
    // A file by itself would be asked for its size first.
    File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes `value` to an existing file in one `write(2)`: the kernel takes each write as one command.
pub fn write_once(path: &Path, value: &str) -> Result<(), Errno> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let written = nix::unistd::write(&file, value.as_bytes())?;
    if written == value.len() { Ok(()) } else { Err(Errno::EIO) }
}

/// The errno of an I/O error; `UnknownErrno` when it did not come from the kernel.
pub fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_size_are_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for size in [0, 1, USUAL - 1, USUAL, USUAL + 1, 5 * USUAL] {
            std::fs::write(file.path(), vec![b'x'; size]).unwrap();
            assert_eq!(read(file.path()).unwrap(), vec![b'x'; size]);
        }
        let own = read(Path::new("/proc/self/cmdline")).unwrap();
        assert_eq!(own, std::fs::read("/proc/self/cmdline").unwrap(), "one whose size the kernel tells as 0");
        assert_eq!(read(Path::new("/nonexistent")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_missing_file_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(write_once(&path, "1"), Err(Errno::ENOENT));
        std::fs::write(&path, "").unwrap();
        write_once(&path, "+cpu").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "+cpu");
    }

    #[test]
    fn the_kernels_refusal_is_reported() {
        // Read-only by nature, even for root.
        assert!(write_once(Path::new("/proc/version"), "x").is_err());
    }
}
