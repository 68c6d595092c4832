/*!
Under which names and addresses clients may reach this container.
*/
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::Roots;

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for Name {
    /// As OpenSSL writes it: `DNS:docker`, `IP:127.0.0.1`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(out, "DNS:{name}"),
            Self::Ip(address) => write!(out, "IP:{address}"),
        }
    }
}

impl Name {
    /// A DNS name that a certificate can carry: letters, digits, hyphens and underscores between dots, `*` as first
    /// label, no trailing dot (which Go refuses, moby issue 51367), at most 253 bytes (RFC 1035).
    pub fn dns(text: &str) -> Result<Self, &'static str> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > 253 {
            return Err("a name has 1 to 253 letters");
        }
        let labels = text.strip_prefix("*.").unwrap_or(text);
        for label in labels.split('.') {
            let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !letters || label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
                return Err("a DNS name or an address is expected");
            }
        }
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }
}

/// All of them: `docker` and `localhost` as in the official image, the host's name in full and short, what
/// `/etc/hosts` calls the own addresses, and the addresses of every interface.
pub fn own(roots: &Roots) -> BTreeSet<Name> {
    let addresses = addresses();
    let text = |path: &str| std::fs::read_to_string(roots.resolve(path.as_ref())).unwrap_or_default();
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let file = text("/etc/hostname");
    let mut names: BTreeSet<Name> =
        ["docker", "localhost"].into_iter().filter_map(|name| Name::dns(name).ok()).collect();
    for name in file.split_whitespace().chain([host.as_str()]).chain(host.split('.').take(1)) {
        names.extend(Name::dns(name).ok());
    }
    let hosts = text("/etc/hosts");
    names.extend(in_hosts(&hosts, &addresses).filter_map(|name| Name::dns(name).ok()));
    names.extend(addresses.into_iter().map(Name::Ip));
    names
}

/// Names of the lines of a hosts(5) file that begin with one of `addresses`, loopback left out.
pub fn in_hosts<'a>(text: &'a str, addresses: &'a BTreeSet<IpAddr>) -> impl Iterator<Item = &'a str> {
    text.lines().flat_map(move |line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        let own = address.is_some_and(|address| !address.is_loopback() && addresses.contains(&address));
        words.filter(move |_| own)
    })
}

fn addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return BTreeSet::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_made_fit_for_a_certificate() {
        let text = |name| Name::dns(name).map(|name| name.to_string());
        assert_eq!(text("Host.Example.").as_deref(), Ok("DNS:host.example"));
        assert_eq!(text("*.example").as_deref(), Ok("DNS:*.example"));
        assert_eq!(text("my_service-1").as_deref(), Ok("DNS:my_service-1"));
        for bad in ["", ".", "a..b", "-a", "a b", "a/b", "*", "é", "a:b"] {
            assert!(Name::dns(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_lines_of_own_addresses_count() {
        let own = BTreeSet::from(["172.17.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
        let text = "127.0.0.1 localhost\n172.17.0.2\tweb.example web # comment\n172.17.0.3 other\nnonsense\n";
        assert_eq!(in_hosts(text, &own).collect::<Vec<_>>(), ["web.example", "web"]);
    }

    #[test]
    fn the_usual_names_are_there() {
        let names = own(&Roots::system());
        for name in [Name::dns("docker"), Name::dns("localhost")] {
            assert!(names.contains(&name.unwrap()), "{names:?}");
        }
        assert!(names.contains(&Name::Ip(IpAddr::from([127, 0, 0, 1]))), "{names:?}");
    }

    proptest! {
        #[test]
        fn a_name_that_is_taken_stays_itself(text in ".{0,40}") {
            if let Ok(Name::Dns(name)) = Name::dns(&text) {
                prop_assert_eq!(Name::dns(&name), Ok(Name::Dns(name.clone())));
            }
        }

        #[test]
        fn any_hosts_file_is_read(text in ".*") {
            prop_assert_eq!(in_hosts(&text, &BTreeSet::new()).count(), 0);
        }
    }
}
