/*!
Which addresses the API gets: the operator's, else those of the official image, and always those that stand in
dockerd's own arguments and daemon.json.
*/

use crate::prepare::sockets::Openness;

/// Where the official image puts the socket.
pub const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// Who has a say.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// `DINDCTL_LISTEN`; empty when unset.
    pub setting: &'a str,
    /// `DOCKER_HOST`; only a unix socket counts, as in the official image.
    pub docker_host: Option<&'a str>,
    /// Whether the TCP port of the defaults is that of TLS: where `DOCKER_TLS_CERTDIR` names a folder, as in the official image, whatever
    /// flags say.
    pub tls_port: bool,
    /// `--host` arguments.
    pub flags: &'a [String],
    /// `hosts` of daemon.json.
    pub file: &'a [String],
}

/// What a TCP port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    /// The API without TLS.
    Plain,
    /// The API with TLS that asks no client for a certificate.
    Unverified,
    /// The API with mutual TLS.
    Tls,
}

impl Tcp {
    /// How it is open to strangers, and what to do about it.
    pub const fn openness(self) -> Option<Openness> {
        match self {
            Self::Plain => Some(Openness { how: "without TLS", advice: "set DOCKER_TLS_CERTDIR" }),
            Self::Unverified => Some(Openness {
                how: "with TLS that asks nobody for a certificate",
                advice: "leave tlsverify=false out",
            }),
            Self::Tls => None,
        }
    }
}

/// The addresses in the order in which they are bound, each once.
pub fn addresses(wishes: Wishes<'_>) -> Vec<String> {
    let mut found: Vec<String> = if wishes.setting.trim().is_empty() {
        let socket = wishes.docker_host.filter(|host| host.starts_with("unix://")).unwrap_or(DEFAULT_SOCKET);
        // The ports that IANA and the official image have for the API with and without TLS.
        let tcp = if wishes.tls_port { "tcp://0.0.0.0:2376" } else { "tcp://0.0.0.0:2375" };
        vec![socket.to_owned(), tcp.to_owned()]
    } else {
        let separator = |letter: char| letter == ',' || letter.is_whitespace();
        wishes.setting.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    for more in wishes.flags.iter().chain(wishes.file).map(|host| as_dockerd_reads(host)) {
        if !found.contains(&more) {
            found.push(more);
        }
    }
    found
}

/// An address of dockerd's own arguments or file. What these leave out is not what it is in our setting: a port without an address is one
/// of loopback, and a word without a scheme is one of TCP (`ParseDaemonHost` in moby's daemon/pkg/opts/hosts.go).
pub fn as_dockerd_reads(host: &str) -> String {
    let host = host.trim();
    let tcp = match host.split_once("://") {
        Some(("tcp", address)) => address,
        Some(("unix", "")) => return DEFAULT_SOCKET.to_owned(),
        None if host.contains(':') && !host.starts_with('/') => host,
        _ => return host.to_owned(),
    };
    let missing = if tcp.is_empty() || tcp.starts_with(':') { "127.0.0.1" } else { "" };
    format!("tcp://{missing}{tcp}")
}

/// Whether any of them is a port. What is no unix socket counts as one, as a port without certificates is root for everybody.
pub fn have_ports(wishes: Wishes<'_>) -> bool {
    addresses(wishes).iter().any(|address| !address.starts_with("unix:") && !address.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Wishes<'static> = Wishes { setting: "", docker_host: None, tls_port: false, flags: &[], file: &[] };

    #[test]
    fn the_defaults_are_those_of_the_official_image() {
        assert_eq!(addresses(NOBODY), [DEFAULT_SOCKET, "tcp://0.0.0.0:2375"]);
        assert_eq!(addresses(Wishes { tls_port: true, ..NOBODY }), [DEFAULT_SOCKET, "tcp://0.0.0.0:2376"]);
        let own = Wishes { docker_host: Some("unix:///my.sock"), ..NOBODY };
        assert_eq!(addresses(own), ["unix:///my.sock", "tcp://0.0.0.0:2375"]);
        let tcp = Wishes { docker_host: Some("tcp://elsewhere:1"), ..NOBODY };
        assert_eq!(addresses(tcp), [DEFAULT_SOCKET, "tcp://0.0.0.0:2375"]);
    }

    #[test]
    fn the_operators_list_replaces_them_and_arguments_add_to_it() {
        let flags = ["tcp://127.0.0.1:1".to_owned(), "unix:///a".to_owned()];
        let wishes = Wishes { setting: "unix:///a, unix:///b", flags: &flags, ..NOBODY };
        assert_eq!(addresses(wishes), ["unix:///a", "unix:///b", "tcp://127.0.0.1:1"]);
    }

    /// `-H tcp://:2375` was bound on all addresses, and dockerd means loopback.
    #[test]
    fn arguments_mean_what_they_mean_to_dockerd() {
        for (typed, meant) in [
            ("tcp://:2375", "tcp://127.0.0.1:2375"),
            ("tcp://", "tcp://127.0.0.1"),
            (":2375", "tcp://127.0.0.1:2375"),
            ("0.0.0.0:2375", "tcp://0.0.0.0:2375"),
            ("tcp://0.0.0.0:2375", "tcp://0.0.0.0:2375"),
            ("[::1]:1", "tcp://[::1]:1"),
            ("unix://", DEFAULT_SOCKET),
            ("unix:///a", "unix:///a"),
            ("/a:b", "/a:b"),
        ] {
            let flags = [typed.to_owned()];
            assert_eq!(addresses(Wishes { setting: "/x", flags: &flags, ..NOBODY })[1], meant, "{typed}");
        }
    }

    /// In a list with blanks only the first address counted, so that the port behind a socket was opened without TLS.
    #[test]
    fn a_port_is_one_wherever_it_stands() {
        let ports = |setting| have_ports(Wishes { setting, ..NOBODY });
        for setting in
            ["", "tcp://:1", "unix:///a,tcp://:1", "unix:///a tcp://:1", "/a\n2376", "unix:///a\t,\ttcp://[::1]"]
        {
            assert!(ports(setting), "{setting:?}");
        }
        for setting in ["unix:///a", "/a", " unix:///a, /b\n"] {
            assert!(!ports(setting), "{setting:?}");
        }
        let flags = ["tcp://127.0.0.1:1".to_owned()];
        assert!(have_ports(Wishes { setting: "unix:///a", flags: &flags, ..NOBODY }));
        assert!(have_ports(Wishes { setting: "unix:///a", file: &flags, ..NOBODY }));
    }
}
