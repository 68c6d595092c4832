/*!
The C library's words for signals and errors, which other programs print and their users look for.
*/
#![allow(unsafe_code)]

use std::ffi::CStr;

use nix::errno::Errno;

/// `Terminated`, `Real-time signal 3`: what `strsignal(3)` says.
pub fn signal_text(number: i32) -> String {
    // SAFETY: the text lives until the next call of this thread, and is copied before that.
    unsafe {
        let text = libc::strsignal(number);
        if text.is_null() { format!("Unknown signal {number}") } else { copied(text) }
    }
}

/// `No such file or directory`: what `strerror(3)` says.
pub fn error_text(errno: Errno) -> String {
    let mut room = [0 as libc::c_char; 128];
    // SAFETY: the room is live and has the length that is given; the call ends its text with a NUL.
    unsafe {
        if libc::strerror_r(errno as i32, room.as_mut_ptr(), room.len()) != 0 {
            return format!("Unknown error {}", errno as i32);
        }
        copied(room.as_ptr())
    }
}

/// # Safety
///
/// `text` points to bytes that end with a NUL.
unsafe fn copied(text: *const libc::c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_c_library() {
        assert_eq!(signal_text(libc::SIGTERM), "Terminated");
        assert_eq!(error_text(Errno::ENOENT), "No such file or directory");
        assert_eq!(error_text(Errno::ENOTTY), "Inappropriate ioctl for device");
        assert!(signal_text(libc::SIGRTMIN() + 1).contains('1'));
    }
}
