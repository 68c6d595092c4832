/*!
The command line of `rootlesskit`, which starts the daemon's side of a rootless container in namespaces of its own.
*/
use std::ffi::OsString;
use std::net::SocketAddr;
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
    // pasta connects ports itself.
    line.push(format!("--port-driver={}", if kit.driver == "pasta" { "implicit" } else { "builtin" }).into());
    // /etc for resolv.conf of the new network, /run for sockets and locks that root owns.
    line.extend(["--copy-up=/etc".into(), "--copy-up=/run".into()]);
    if kit.pid_namespace {
        line.extend(["--pidns".into(), "--reaper=false".into()]);
    }
    for port in &kit.ports {
        line.push("-p".into());
        // `address:port` of a socket address has the brackets that an IPv6 address needs.
        line.push(format!("{port}:{}/tcp", port.port()).into());
    }
    line.extend(kit.flags.iter().map(OsString::from));
    line.extend(command);
    line
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
             --pidns --reaper=false -p 0.0.0.0:2376:2376/tcp --debug dindctl entrypoint"
        );
    }

    #[test]
    fn pasta_connects_ports_itself_and_the_mtu_is_the_operators() {
        let line = text(&RootlessKit { mtu: Some(1400), pid_namespace: false, ..kit("pasta") });
        assert!(line.contains(" --mtu=1400 ") && line.contains(" --port-driver=implicit "), "{line}");
        assert!(!line.contains("pidns") && !line.contains("slirp4netns"), "{line}");
    }
}
