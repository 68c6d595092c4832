/*!
The older packet filter of the kernel (`ip_tables`, `ip6_tables`), asked what it has. Nothing is changed, but a table
that is asked for comes into being, empty, if its module can be loaded.

Layout and numbers are those of `linux/netfilter_ipv4/ip_tables.h`, its IPv6 sibling and `linux/netfilter/x_tables.h`.
*/
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a rule is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// A condition.
    Match,
    /// What happens.
    Target,
}

/// `struct ipt_getinfo`, the same for IPv6.
#[repr(C)]
#[derive(Clone, Copy)]
struct TableInfo {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// `struct xt_get_revision`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Revision {
    name: [u8; 29],
    revision: u8,
}

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;

/// Number of rules in a table of this network namespace, those that every table has (one for each built-in chain, and the end) included.
/// Needs `CAP_NET_ADMIN`.
pub fn entries(family: Family, table: &str) -> Result<u32, Errno> {
    let mut info = TableInfo {
        name: text(table)?,
        valid_hooks: 0,
        hook_entry: [0; 5],
        underflow: [0; 5],
        num_entries: 0,
        size: 0,
    };
    ask(family, GET_INFO, &mut info)?;
    Ok(info.num_entries)
}

/// Whether rules can be made with an extension of at least that revision; an error says why not.
pub fn extension(family: Family, kind: Extension, name: &str, revision: u8) -> Result<(), Errno> {
    // IPT_SO_GET_REVISION_MATCH and _TARGET; those of IPv6 are two numbers further.
    let option = match (family, kind) {
        (Family::V4, Extension::Match) => 66,
        (Family::V4, Extension::Target) => 67,
        (Family::V6, Extension::Match) => 68,
        (Family::V6, Extension::Target) => 69,
    };
    ask(family, option, &mut Revision { name: text(name)?, revision })
}

fn text<const N: usize>(name: &str) -> Result<[u8; N], Errno> {
    let mut field = [0_u8; N];
    if name.len() >= N {
        return Err(Errno::ENAMETOOLONG);
    }
    field.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    Ok(field)
}

fn ask<T: Copy>(family: Family, option: libc::c_int, value: &mut T) -> Result<(), Errno> {
    let (domain, level) = match family {
        Family::V4 => (AddressFamily::Inet, libc::SOL_IP),
        Family::V6 => (AddressFamily::Inet6, libc::SOL_IPV6),
    };
    let socket: OwnedFd = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `value` is a plain C structure of `length` bytes, which the kernel may read and overwrite.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, std::ptr::from_mut(value).cast(), &raw mut length)
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        assert_eq!((size_of::<TableInfo>(), size_of::<Revision>()), (84, 30));
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        assert_eq!(entries(Family::V4, &"x".repeat(32)), Err(Errno::ENAMETOOLONG));
    }
}
