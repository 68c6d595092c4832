/*!
Listen addresses as typed: what dockerd's `-H` takes, and a bare port.
*/
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::bind::SocketError;

/// Port of the API without TLS.
const PLAIN_PORT: u16 = 2375;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A unix socket at this absolute path.
    Unix(PathBuf),
    /// A TCP port on this address. `0.0.0.0` means all addresses of both families, as Go's `tcp` network does and so
    /// the official image; `[::]` means the same.
    Tcp(SocketAddr),
}

impl ListenAddress {
    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) => address.ip().is_loopback(),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp(address) => write!(out, "tcp://{address}"),
        }
    }
}

/// Parses a list separated by commas or blanks, such as `unix:///run/docker.sock,tcp://127.0.0.1:2375`.
///
/// An entry is `unix://PATH`, `tcp://ADDRESS:PORT`, `tcp://:PORT`, `tcp://ADDRESS` (port 2375), an absolute path, or a
/// bare port. Names are not resolved: PID 1 starts before there is a network. An entry named twice counts once.
pub fn parse(list: &str) -> Result<Vec<ListenAddress>, SocketError> {
    let mut found = Vec::new();
    for entry in list.split([',', ' ', '\t', '\n']).filter(|entry| !entry.is_empty()) {
        let address = parse_one(entry).map_err(|what| SocketError::Address { value: entry.to_string(), what })?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() {
        return Err(SocketError::Address { value: list.to_string(), what: "no address is named" });
    }
    Ok(found)
}

fn parse_one(entry: &str) -> Result<ListenAddress, &'static str> {
    if let Some(path) = entry.strip_prefix("unix://") {
        return unix(path);
    }
    if let Some(address) = entry.strip_prefix("tcp://") {
        return tcp(address.strip_suffix('/').unwrap_or(address));
    }
    if entry.starts_with('/') {
        return unix(entry);
    }
    if entry.bytes().all(|byte| byte.is_ascii_digit()) {
        return tcp(&format!(":{entry}"));
    }
    Err("unix:///PATH, tcp://ADDRESS:PORT or a port number is expected")
}

fn unix(path: &str) -> Result<ListenAddress, &'static str> {
    if !path.starts_with('/') {
        return Err("the path of a unix socket must be absolute (unix:///run/docker.sock)");
    }
    if path.ends_with('/') {
        return Err("the path of a unix socket must name a file");
    }
    // sun_path of unix(7) holds 108 bytes with the closing NUL; a private name of the same folder must fit as well.
    if path.len() > 107 {
        return Err("the path of a unix socket may have at most 107 bytes");
    }
    Ok(ListenAddress::Unix(path.into()))
}

fn tcp(text: &str) -> Result<ListenAddress, &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("the bracket is not closed")?;
        if !port.is_empty() && !port.starts_with(':') {
            return Err("a colon and a port are expected after the bracket");
        }
        let host: Ipv6Addr = host.parse().map_err(|_| "an IPv6 address is expected in the brackets")?;
        (IpAddr::V6(host), port.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err("an IPv6 address needs brackets ([::1]:2375)"),
            Some((host, port)) => (v4(host)?, Some(port)),
            None => (v4(text)?, None),
        }
    };
    let port = match port {
        None => PLAIN_PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("a port from 1 to 65535 is expected")?,
    };
    Ok(ListenAddress::Tcp(SocketAddr::new(host, port)))
}

fn v4(host: &str) -> Result<IpAddr, &'static str> {
    match host {
        "" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        // The one name that needs no resolver, and that users write.
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => host.parse().map(IpAddr::V4).map_err(|_| "a numeric address is expected (0.0.0.0 for all)"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("unix:///var/run/docker.sock", "unix:///var/run/docker.sock")]
    #[case("/run/docker.sock", "unix:///run/docker.sock")]
    #[case("tcp://0.0.0.0:2375", "tcp://0.0.0.0:2375")]
    #[case("tcp://:2376", "tcp://0.0.0.0:2376")]
    #[case("tcp://127.0.0.1", "tcp://127.0.0.1:2375")]
    #[case("tcp://[::]:2375/", "tcp://[::]:2375")]
    #[case("tcp://[::1]", "tcp://[::1]:2375")]
    #[case("tcp://localhost:99", "tcp://127.0.0.1:99")]
    #[case("2375", "tcp://0.0.0.0:2375")]
    fn one_address(#[case] typed: &str, #[case] meant: &str) {
        let found = parse(typed).unwrap();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [meant]);
    }

    #[rstest]
    #[case("", "no address is named")]
    #[case(" , ", "no address is named")]
    #[case("unix://run/docker.sock", "absolute")]
    #[case("unix:///run/", "name a file")]
    #[case("tcp://::1:2375", "needs brackets")]
    #[case("tcp://[::1", "not closed")]
    #[case("tcp://[::1]2375", "colon")]
    #[case("tcp://docker:2375", "numeric")]
    #[case("tcp://0.0.0.0:0", "from 1 to 65535")]
    #[case("65536", "from 1 to 65535")]
    #[case("fd://", "is expected")]
    #[case("http://0.0.0.0:1", "is expected")]
    fn a_bad_address_is_named(#[case] typed: &str, #[case] what: &str) {
        let message = parse(typed).unwrap_err().to_string();
        assert!(message.contains(what) && message.contains(&format!("{typed:?}")), "{message}");
    }

    #[test]
    fn a_list_keeps_its_order_and_loses_its_doubles() {
        let found = parse("unix:///a, tcp://0.0.0.0:1  2375,/a").unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["unix:///a", "tcp://0.0.0.0:1", "tcp://0.0.0.0:2375"]);
    }

    #[test]
    fn a_path_longer_than_the_kernels_room_is_refused() {
        assert!(parse(&format!("/{}", "a".repeat(106))).is_ok());
        assert!(parse(&format!("/{}", "a".repeat(107))).unwrap_err().to_string().contains("107 bytes"));
    }

    #[test]
    fn only_loopback_and_unix_are_local() {
        let local = |text: &str| parse(text).unwrap()[0].is_local();
        assert!(local("/a") && local("tcp://127.1.2.3:1") && local("tcp://[::1]:1"));
        assert!(!local("2375") && !local("tcp://[::]:1") && !local("tcp://10.0.0.1:1"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_back(ip in any::<IpAddr>(), port in 1_u16..) {
            let address = ListenAddress::Tcp(SocketAddr::new(ip, port));
            prop_assert_eq!(parse(&address.to_string()).unwrap(), [address]);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
