/*!
A pseudo terminal of the sandbox's own, and leaving one.

The slave side is opened through the master (`TIOCGPTPEER`, Linux 4.13), so no path below `/dev/pts` is trusted, and
belongs to the caller's file system identity.
*/
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// Both ends.
#[derive(Debug)]
pub struct Terminal {
    /// Our end.
    pub master: OwnedFd,
    /// The program's end.
    pub slave: OwnedFd,
}

/// Opens a terminal with this many rows and columns.
pub fn open_terminal(rows: u16, columns: u16) -> Result<Terminal, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open("/dev/ptmx", flags, Mode::empty())?;
    let unlock: libc::c_int = 0;
    // SAFETY: the ioctl reads one int from a live reference.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    // SAFETY: the ioctl takes open flags by value and returns a new descriptor that nobody else owns, or -1.
    let slave = Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) })?;
    // SAFETY: see above.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    let terminal = Terminal { master, slave };
    resize(std::os::fd::AsFd::as_fd(&terminal.master), rows, columns)?;
    Ok(terminal)
}

/// Tells the terminal its size; the kernel sends SIGWINCH to the program.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the ioctl reads one winsize from a live reference.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// Gives up the controlling terminal, which is the one on standard input. The kernel sends `SIGHUP` and `SIGCONT` to
/// the group in its foreground when the leader of the session does so.
pub fn leave_terminal() -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::ioctl(0, libc::TIOCNOTTY) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_one_end_is_read_at_the_other() {
        let terminal = open_terminal(12, 34).unwrap();
        assert!(nix::unistd::isatty(&terminal.slave).unwrap());
        nix::unistd::write(&terminal.slave, b"hello").unwrap();
        let mut buffer = [0; 16];
        let count = nix::unistd::read(&terminal.master, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"hello");
    }
}
