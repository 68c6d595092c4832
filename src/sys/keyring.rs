/*!
The kernel's keyrings (keyctl(2)). runc makes one for each container.
*/
#![allow(unsafe_code)]

use nix::errno::Errno;

/// Asks for the number of this process's own keyring, which nobody has made, and makes none. An error is one of the call
/// itself: `EPERM` of a filter of system calls, `ENOSYS` of a kernel without keyrings.
pub fn usable() -> Result<(), Errno> {
    /// `KEYCTL_GET_KEYRING_ID`.
    const GET_KEYRING_ID: libc::c_int = 0;
    /// `KEY_SPEC_PROCESS_KEYRING`.
    const PROCESS: libc::c_int = -2;
    // SAFETY: plain numbers; the last one says that nothing is to be made.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, PROCESS, 0) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENOKEY) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_one_of_the_kernel_or_of_a_filter() {
        assert!(matches!(usable(), Ok(()) | Err(Errno::EPERM | Errno::ENOSYS)), "{:?}", usable());
    }
}
