/*!
The command line of `rootlesskit`, which starts the daemon's side of a rootless container in namespaces of its own.
*/
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// What the command line is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootlessKit {
    /// Folder for its own state.
    pub state_dir: PathBuf,
    /// Network driver.
    pub driver: String,
    /// MTU of that network; `None` for the driver's own.
    pub mtu: Option<u32>,
    /// Whether the daemon gets a pid namespace, so that nothing of it outlives `rootlesskit`.
    pub pid_namespace: bool,
    /// Ports of the container that lead to the same port in the namespace.
    pub ports: Vec<SocketAddr>,
    /// The operator's own flags (`DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS`), which come last and win.
    pub flags: Vec<String>,
}

/// The arguments, the name of the program first, in front of `command`.
pub fn command_line(kit: &RootlessKit, command: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["rootlesskit".into()];
    let mut state_dir = OsString::from("--state-dir=");
    state_dir.push(&kit.state_dir);
    line.push(state_dir);
    line.push(format!("--net={}", kit.driver).into());
    line.extend(kit.mtu.map(|mtu| format!("--mtu={mtu}").into()));
    if kit.driver == "slirp4netns" {
        // It locks itself in where the kernel lets it.
        line.extend(["--slirp4netns-sandbox=auto".into(), "--slirp4netns-seccomp=auto".into()]);
    }
    line.push("--disable-host-loopback".into());
    line.push(format!("--port-driver={}", if connects_ports(&kit.driver) { "implicit" } else { "builtin" }).into());
    // /etc for resolv.conf of the new network, /run for sockets and locks that root owns.
    line.extend(["--copy-up=/etc".into(), "--copy-up=/run".into()]);
    if kit.pid_namespace {
        line.extend(["--pidns".into(), "--reaper=false".into()]);
    }
    for port in kit.ports.iter().filter(|_| !connects_ports(&kit.driver)) {
        line.push("-p".into());
        // Without an address of the namespace some versions take the outer one, which the driver's network leads back out again.
        for inside in inner(&kit.driver, &[*port]) {
            line.push(format!("{port}:{inside}/tcp").into());
        }
    }
    line.extend(kit.flags.iter().map(OsString::from));
    line.extend(command);
    line
}

/// Whether the driver connects every port that is open in the namespace by itself.
fn connects_ports(driver: &str) -> bool {
    driver == "pasta"
}

/// Where the daemon has to listen in the namespace for what is to be reached at `outer`, each once. It comes by loopback, and by pasta as it
/// came to the container: to an address of its own. All addresses of a port are one socket there, of both families.
pub fn inner(driver: &str, outer: &[SocketAddr]) -> Vec<SocketAddr> {
    let open = |port: u16| connects_ports(driver) && outer.iter().any(|it| it.port() == port && !it.ip().is_loopback());
    let mut found = Vec::new();
    for address in outer {
        let ip: IpAddr = if open(address.port()) {
            Ipv4Addr::UNSPECIFIED.into()
        } else if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        let address = SocketAddr::new(ip, address.port());
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Ports that are reached at more addresses of the container than were asked for: what connects ports by itself looks at the port alone.
pub fn opened_wider(driver: &str, outer: &[SocketAddr]) -> Vec<SocketAddr> {
    let wider = |it: &&SocketAddr| connects_ports(driver) && !it.ip().is_loopback() && !it.ip().is_unspecified();
    outer.iter().filter(wider).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(driver: &str) -> RootlessKit {
        RootlessKit {
            state_dir: "/run/user/1/k".into(),
            driver: driver.into(),
            mtu: None,
            pid_namespace: true,
            ports: vec![([0, 0, 0, 0], 2376).into()],
            flags: vec!["--debug".into()],
        }
    }

    fn text(kit: &RootlessKit) -> String {
        let line = command_line(kit, ["dindctl".into(), "entrypoint".into()]);
        line.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn slirp4netns() {
        assert_eq!(
            text(&kit("slirp4netns")),
            "rootlesskit --state-dir=/run/user/1/k --net=slirp4netns --slirp4netns-sandbox=auto \
             --slirp4netns-seccomp=auto --disable-host-loopback --port-driver=builtin --copy-up=/etc --copy-up=/run \
             --pidns --reaper=false -p 0.0.0.0:2376:127.0.0.1:2376/tcp --debug dindctl entrypoint"
        );
    }

    #[test]
    fn pasta_connects_ports_itself_and_the_mtu_is_the_operators() {
        let line = text(&RootlessKit { mtu: Some(1400), pid_namespace: false, ..kit("pasta") });
        assert!(line.contains(" --mtu=1400 ") && line.contains(" --port-driver=implicit "), "{line}");
        assert!(!line.contains("pidns") && !line.contains("slirp4netns") && !line.contains(" -p "), "{line}");
    }

    /// Behind pasta only loopback was listened on, where what comes from elsewhere never arrives.
    #[test]
    fn the_daemon_listens_where_the_driver_leads() {
        for (driver, outer, want) in [
            ("slirp4netns", "0.0.0.0:1", "127.0.0.1:1"),
            ("slirp4netns", "172.20.0.3:1", "127.0.0.1:1"),
            ("slirp4netns", "[::]:1", "[::1]:1"),
            ("pasta", "0.0.0.0:1", "0.0.0.0:1"),
            ("pasta", "172.20.0.3:1", "0.0.0.0:1"),
            ("pasta", "[::]:1", "0.0.0.0:1"),
            ("pasta", "127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(inner(driver, &[outer.parse().unwrap()]), [want.parse().unwrap()], "{driver} {outer}");
        }
        // Two of them, each for all addresses of both families, were bound one after the other.
        let two = ["127.0.0.1:1", "172.20.0.3:1", "[fd00::3]:1", "127.0.0.1:2"].map(|it| it.parse().unwrap());
        assert_eq!(inner("pasta", &two), ["0.0.0.0:1", "127.0.0.1:2"].map(|it| it.parse().unwrap()));
        assert_eq!(inner("vpnkit", &two).len(), 3);
        assert_eq!((opened_wider("pasta", &two).len(), opened_wider("vpnkit", &two).len()), (2, 0));
        let ports = vec!["[::1]:1".parse().unwrap()];
        assert!(text(&RootlessKit { ports, ..kit("vpnkit") }).contains(" -p [::1]:1:[::1]:1/tcp "));
    }
}
