/*!
Loading a module of the kernel without a module file at hand.
*/
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Asks the kernel about a network interface with the module's name. It looks for a driver of an interface that it does
/// not know and, for a caller with `CAP_SYS_MODULE`, has the machine's own modprobe load a module of that very name (`dev_load` in the kernel's
/// `net/core/dev_ioctl.c`). Whether there was one shows only in what works afterwards.
pub fn request(name: &str) -> Result<(), Errno> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    if name.len() > last {
        return Err(Errno::ENAMETOOLONG);
    }
    request
        .ifr_name
        .iter_mut()
        .zip(name.bytes())
        .for_each(|(place, byte)| *place = libc::c_char::from_ne_bytes([byte]));
    // SAFETY: the request is an `ifreq` that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    match Errno::result(result) {
        // The usual answer: there is no such interface.
        Ok(_) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_nobody_has_is_no_error() {
        assert_eq!(request("dindctl_none"), Ok(()));
        assert_eq!(request("a_name_that_is_too_long"), Err(Errno::ENAMETOOLONG));
    }
}
