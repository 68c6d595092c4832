/*!
Devices that containers are often given.
*/
use super::check::{Check, Verdict};

/// Path, and what it is for.
pub const DEVICES: [(&str, &str); 3] = [
    ("/dev/fuse", "fuse-overlayfs, and file systems in containers"),
    ("/dev/net/tun", "the network of rootless daemons (slirp4netns), and VPNs"),
    ("/dev/kvm", "virtual machines in containers"),
];

/// A device as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its path.
    pub path: String,
    /// Whether this process may read and write it; `None` when it is not there.
    pub usable: Option<bool>,
}

/// One check for each.
pub fn checks(devices: &[Device], rootless: bool) -> Vec<Check> {
    let check = |device: &Device| {
        let purpose = DEVICES.iter().find(|(path, _)| *path == device.path).map_or("", |(_, purpose)| purpose);
        let id = format!("devices:{}", device.path);
        let path = &device.path;
        match device.usable {
            Some(true) => Check::ok(id, format!("{path} can be used"), purpose),
            // Docker Desktop and some hosts leave it to root (issue 3838 of docker/for-mac).
            Some(false) => Check::ok(id, format!("{path} is there, and this user may not use it"), purpose)
                .is(if rootless && path == "/dev/net/tun" { Verdict::Warn } else { Verdict::Ok })
                .hint(format!("chmod 0666 {path} in the container, as root")),
            None => Check::ok(id, format!("{path} is not there"), purpose).is(Verdict::Skipped),
        }
    };
    devices.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_needs_the_tunnel() {
        let tun = |usable| [Device { path: "/dev/net/tun".into(), usable }];
        assert_eq!(checks(&tun(Some(false)), true)[0].verdict, Verdict::Warn);
        assert_eq!(checks(&tun(Some(false)), false)[0].verdict, Verdict::Ok);
        assert_eq!(checks(&tun(Some(true)), true)[0].verdict, Verdict::Ok);
        assert_eq!(checks(&tun(None), true)[0].verdict, Verdict::Skipped);
    }
}
