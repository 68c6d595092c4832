/*!
A TCP port.
*/
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen as nix_listen, setsockopt,
    socket, sockopt,
};

use super::bind::SocketError;
use super::{ListenAddress, holder};
use crate::probe::Roots;

/// Which call failed, and how.
#[derive(Debug)]
pub(super) struct Problem(&'static str, Errno);

impl Problem {
    pub(super) fn at(self, socket: SocketAddr, address: &ListenAddress, roots: &Roots) -> SocketError {
        match self {
            Self(_, Errno::EADDRINUSE) => {
                SocketError::Port { address: socket, holder: holder::of_port(roots, socket.port()) }
            }
            Self(doing, errno) => SocketError::Call { doing, address: address.clone(), errno },
        }
    }
}

/// Listens on the address; on both families when it is unspecified, as Go does for `0.0.0.0` and `::`.
pub(super) fn listen(address: SocketAddr, backlog: i32) -> Result<OwnedFd, Problem> {
    if address.ip().is_unspecified() {
        let all = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, address.port(), 0, 0));
        match one(all, backlog, false) {
            // A kernel without IPv6 (ipv6.disable=1), or with it off in this network namespace.
            Err(Problem(_, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) if address.is_ipv4() => {}
            other => return other,
        }
    }
    one(address, backlog, true)
}

fn one(address: SocketAddr, backlog: i32, only_v6: bool) -> Result<OwnedFd, Problem> {
    let call = |doing| move |errno| Problem(doing, errno);
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(call("create the socket of"))?;
    // A restarted container must not wait for the old connections' TIME_WAIT.
    setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(call("set SO_REUSEADDR on"))?;
    let bound = match address {
        SocketAddr::V4(address) => bind(fd.as_raw_fd(), &SockaddrIn::from(address)),
        SocketAddr::V6(address) => {
            setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6).map_err(call("set IPV6_V6ONLY on"))?;
            bind(fd.as_raw_fd(), &SockaddrIn6::from(address))
        }
    };
    bound.map_err(call("bind"))?;
    nix_listen(&fd, Backlog::new(backlog).unwrap_or(Backlog::MAXCONN)).map_err(call("listen on"))?;
    Ok(fd)
}
