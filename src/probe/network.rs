/*!
The way out of this network namespace, the networks that are known to it, and the name servers.
*/
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Roots, read};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Interface of the default route.
    pub uplink: Option<Link>,
    /// Networks with a route of their own, and the interface each is reached by.
    pub routes: Vec<Route>,
    /// `nameserver` lines of /etc/resolv.conf.
    pub name_servers: Vec<IpAddr>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Largest packet, bytes; `None` when it cannot be read.
    pub mtu: Option<u32>,
}

/// A line of the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Interface.
    pub device: String,
    /// Where it leads.
    pub network: Ipv4Net,
    /// Its rank among routes to the same network; the lowest is used.
    pub metric: u32,
}

/// Reads it. What is missing is empty: a container may have no network at all.
pub fn look(roots: &Roots) -> Network {
    let routes = routes(&read(&roots.own.join("net/route")).unwrap_or_default());
    let default = routes.iter().filter(|route| route.network.prefix_len() == 0).min_by_key(|route| route.metric);
    let uplink = default.map(|route| {
        let mtu = roots.resolve(format!("/sys/class/net/{}/mtu", route.device).as_ref());
        Link { name: route.device.clone(), mtu: read(&mtu).ok().and_then(|text| text.trim().parse().ok()) }
    });
    let name_servers = name_servers(&read(&roots.resolve("/etc/resolv.conf".as_ref())).unwrap_or_default());
    Network {
        uplink,
        routes: routes.into_iter().filter(|route| route.network.prefix_len() > 0).collect(),
        name_servers,
    }
}

/// `/proc/net/route`: addresses are hexadecimal, in the order of the network on a machine of the other order.
pub fn routes(text: &str) -> Vec<Route> {
    let address = |field: &str| Some(Ipv4Addr::from(u32::from_str_radix(field, 16).ok()?.to_ne_bytes()));
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, destination, _gateway, flags, _references, _uses, metric, mask, ..] = fields.as_slice() else {
            return None;
        };
        // RTF_UP without RTF_REJECT.
        let flags = u32::from_str_radix(flags, 16).ok()?;
        if flags & 0x0201 != 0x0001 {
            return None;
        }
        let network = Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?.trunc();
        Some(Route { device: (*device).to_owned(), network, metric: metric.parse().ok()? })
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// The `nameserver` lines of resolv.conf(5), without the zones of link-local addresses.
pub fn name_servers(text: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let word = words.next()?;
        word.split_once('%').map_or(word, |(address, _)| address).parse().ok()
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t0100000A\t0003\t0\t0\t50\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
lo\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_table_is_read() {
        let networks: Vec<String> =
            routes(TABLE).iter().map(|route| format!("{} {}", route.device, route.network)).collect();
        assert_eq!(networks, ["eth0 0.0.0.0/0", "tun0 0.0.0.0/0", "eth0 172.17.0.0/16"]);
    }

    /// Found by fuzzing: a destination with bits behind its mask.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_destination_is_a_network() {
        let found = routes("head\neth0\t020C0000\t0\t0001\t0\t0\t0\t00FFFFFF\n");
        assert!(found.iter().all(|route| route.network.trunc() == route.network), "{found:?}");
        assert_eq!(found.len(), 1);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_way_out_is_the_default_route_of_the_lowest_metric() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, text) in [
            ("proc/self/net/route", TABLE),
            ("sys/class/net/tun0/mtu", "1380\n"),
            ("etc/resolv.conf", "# x\nnameserver 127.0.0.11\nsearch a\nnameserver fe80::1%eth0\n"),
        ] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), text).unwrap();
        }
        let roots = Roots { root: root.into(), proc: root.join("proc"), own: root.join("proc/self") };
        let found = look(&roots);
        assert_eq!(found.uplink, Some(Link { name: "tun0".into(), mtu: Some(1380) }));
        assert_eq!(found.routes.len(), 1);
        assert_eq!(found.name_servers.len(), 2);
        let empty = tempfile::tempdir().unwrap();
        let roots = Roots { root: empty.path().into(), proc: empty.path().into(), own: empty.path().into() };
        assert_eq!(look(&roots), Network::default());
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd_to_be_read(text: String) {
            let _ = (routes(&text), name_servers(&text));
        }
    }
}
