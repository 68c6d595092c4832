/*!
Letting go of open descriptors by number.
*/
#![allow(unsafe_code)]

use std::os::fd::RawFd;

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
