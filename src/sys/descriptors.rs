/*!
The table of open descriptors: room in it, and letting go of them by number.
*/
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;

use super::spawn::duplicate_above;

/// Descriptors that the table has room for after [`make_room`].
pub const ROOM: RawFd = 256;

/// Grows the table to [`ROOM`] entries, 8 bytes each, with a copy of `any` that is closed again. It never shrinks.
///
/// A process that grows it while it has several threads waits until every CPU has stopped using the old one, ten milliseconds on a
/// busy machine (`expand_fdtable` and its `synchronize_rcu` in the kernel's fs/file.c). To be called before there are any.
pub fn make_room(any: impl AsFd) -> Result<(), Errno> {
    duplicate_above(any.as_fd().as_raw_fd(), ROOM - 1).map(drop)
}

/// Closes every descriptor from `first` on. Call it only where nothing of this process owns one of them.
///
/// Kernels before 5.9 have no call for it; there the numbers below 1024 are closed.
pub fn close_from(first: RawFd) {
    let Ok(low) = libc::c_uint::try_from(first) else { return };
    // SAFETY: closes by number; that nobody owns them is the caller's promise.
    unsafe {
        if libc::syscall(libc::SYS_close_range, low, libc::c_uint::MAX, 0) < 0 {
            for fd in first..1024 {
                libc::close(fd);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the table is told nowhere but in `FDSize` of `/proc/self/status`.
    #[test]
    fn there_is_room_and_nothing_stays_open() {
        make_room(std::io::stderr()).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<RawFd>().unwrap() >= ROOM, "{size}");
        assert!(!std::path::Path::new("/proc/self/fd").join((ROOM - 1).to_string()).exists());
    }
}
