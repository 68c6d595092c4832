/*!
What `--network egress` leaves open: the internet, and neither the daemon's machine nor any network around it.

The caller knows what must stay closed in any case (the daemon's own addresses, the network that the sandboxes share)
and what the operator has opened; the agent adds [`RANGES`] and puts the whole into the kernel before the program runs.
*/
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Addresses that are not the internet: the entries of IANA's special-purpose registries that are not globally
/// reachable, multicast, and the forms of IPv6 that carry an IPv4 address, through which those could be reached under
/// another name. The ranges for documentation are left out: nobody is there.
pub const RANGES: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // ::, ::1, IPv4-compatible and IPv4-mapped addresses.
    "::/8",
    // NAT64 (64:ff9b::/96 and 64:ff9b:1::/48) among others that nobody has been given.
    "64::/16",
    "100::/64",
    // Teredo, and what else 2001::/23 is for.
    "2001::/23",
    "2002::/16",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// What a sandbox may reach beside the internet, and what it may not reach whatever else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Closed in any case.
    pub never: Vec<IpNet>,
    /// Open although [`RANGES`] closes it.
    pub allow: Vec<IpNet>,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Open,
    /// It is refused.
    Closed,
}

impl Policy {
    /// The decision for each network, the first that holds an address counts; what none holds is open.
    pub fn decisions(&self) -> Vec<(IpNet, Verdict)> {
        let never = self.never.iter().map(|net| (*net, Verdict::Closed));
        let allow = self.allow.iter().map(|net| (*net, Verdict::Open));
        let ranges = RANGES.iter().filter_map(|text| text.parse().ok()).map(|net| (net, Verdict::Closed));
        never.chain(allow).chain(ranges).collect()
    }
}

/// Reads what is to be open: `CIDR` or a single address. An error is what is wrong, and what to do.
pub fn allowed(text: &str) -> Result<IpNet, (&'static str, String)> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let Some(net) = text.parse::<IpNet>().ok().or_else(single) else {
        return Err(("is not a network", "write an address or CIDR, such as 10.1.2.3 or 10.1.0.0/16".to_owned()));
    };
    if net.trunc() != net {
        let hint = format!("write {} for the network, or {} for the one address", net.trunc(), net.addr());
        return Err(("has bits behind its prefix", hint));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn verdict(policy: &Policy, address: &str) -> Verdict {
        let address: IpAddr = address.parse().unwrap();
        let decisions = policy.decisions();
        let first = decisions.iter().find(|(net, _)| net.contains(&address));
        first.map_or(Verdict::Open, |(_, verdict)| *verdict)
    }

    #[test]
    fn every_range_is_written_right() {
        assert_eq!(Policy::default().decisions().len(), RANGES.len());
        for text in RANGES {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(net.trunc(), net, "{text}");
        }
    }

    #[rstest]
    #[case("10.0.0.1")]
    #[case("172.17.0.1")]
    #[case("172.31.255.254")]
    #[case("192.168.1.1")]
    #[case("100.100.100.200")] // Metadata of a cloud.
    #[case("169.254.169.254")]
    #[case("127.0.0.1")]
    #[case("0.0.0.0")]
    #[case("255.255.255.255")]
    #[case("224.0.0.251")]
    #[case("::1")]
    #[case("::ffff:10.0.0.1")]
    #[case("::10.0.0.1")]
    #[case("64:ff9b::10.0.0.1")]
    #[case("64:ff9b:1::1")]
    #[case("2002:a00:1::1")]
    #[case("2001::1")]
    #[case("fd00:ec2::254")]
    #[case("fe80::1")]
    #[case("ff02::1")]
    fn what_is_not_the_internet_is_closed(#[case] address: &str) {
        assert_eq!(verdict(&Policy::default(), address), Verdict::Closed);
    }

    #[rstest]
    #[case("1.1.1.1")]
    #[case("172.32.0.1")]
    #[case("203.0.113.10")]
    #[case("2606:4700:4700::1111")]
    #[case("2a00:1450::1")]
    fn the_internet_is_open(#[case] address: &str) {
        assert_eq!(verdict(&Policy::default(), address), Verdict::Open);
    }

    #[test]
    fn never_beats_allow_beats_the_ranges() {
        let policy = Policy {
            never: vec!["10.1.0.0/16".parse().unwrap(), "203.0.113.5/32".parse().unwrap()],
            allow: vec!["10.0.0.0/8".parse().unwrap()],
        };
        assert_eq!(verdict(&policy, "10.2.0.1"), Verdict::Open);
        assert_eq!(verdict(&policy, "10.1.0.1"), Verdict::Closed);
        assert_eq!(verdict(&policy, "203.0.113.5"), Verdict::Closed);
        assert_eq!(verdict(&policy, "192.168.0.1"), Verdict::Closed);
    }

    #[rstest]
    #[case("10.1.2.3", Ok("10.1.2.3/32"))]
    #[case("10.1.0.0/16", Ok("10.1.0.0/16"))]
    #[case("fd00::/8", Ok("fd00::/8"))]
    #[case("10.1.2.3/16", Err("write 10.1.0.0/16 for the network"))]
    #[case("example.com", Err("write an address or CIDR"))]
    #[case("", Err("write an address or CIDR"))]
    #[case("10.0.0.0/33", Err("write an address or CIDR"))]
    fn networks_are_read_strictly(#[case] text: &str, #[case] want: Result<&str, &str>) {
        match (allowed(text), want) {
            (Ok(net), Ok(want)) => assert_eq!(net.to_string(), want),
            (Err((_, hint)), Err(want)) => assert!(hint.starts_with(want), "{hint}"),
            (got, _) => panic!("{got:?}"),
        }
    }

    proptest! {
        #[test]
        fn no_private_address_is_open(a in prop_oneof![Just([10, 0]), Just([192, 168]), Just([169, 254]), (16_u8..32).prop_map(|b| [172, b])], b: [u8; 2]) {
            let address = format!("{}.{}.{}.{}", a[0], a[1], b[0], b[1]);
            prop_assert_eq!(verdict(&Policy::default(), &address), Verdict::Closed);
        }

        #[test]
        fn reading_never_panics(text: String) {
            let _ = allowed(&text);
        }
    }
}
