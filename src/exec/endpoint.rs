//! Where the daemon is, as the docker CLI reads its environment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::daemon::DaemonError;
use crate::engine::socket;

/// Address of the daemon's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, plain.
    Tcp(String),
    /// `host:port` with TLS; the folder holds `ca.pem`, `cert.pem` and `key.pem`.
    Tls {
        /// Host and port.
        address: String,
        /// Folder of the certificates.
        certificates: PathBuf,
    },
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Tls { address, .. } => write!(f, "tcp://{address} (TLS)"),
        }
    }
}

/// Reads `DOCKER_HOST`, `DOCKER_TLS_VERIFY`, `DOCKER_TLS` and `DOCKER_CERT_PATH`.
pub fn from_env(env: &BTreeMap<String, String>) -> Result<Endpoint, DaemonError> {
    let get = |name: &str| env.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let Some(host) = get("DOCKER_HOST") else {
        let runtime_dir = env.get("XDG_RUNTIME_DIR").map(OsStr::new);
        return Ok(Endpoint::Unix(socket::usual(runtime_dir, nix::unistd::geteuid().as_raw())));
    };
    let refuse = |why: &str| DaemonError::BadHost { value: host.to_owned(), why: why.to_owned() };
    let (scheme, rest) = host.split_once("://").ok_or_else(|| refuse("has no scheme"))?;
    let tls = scheme == "https" || get("DOCKER_TLS_VERIFY").is_some() || get("DOCKER_TLS").is_some();
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Endpoint::Unix(PathBuf::from(rest))),
        "unix" => Err(refuse("is not an absolute path")),
        "tcp" | "http" | "https" => {
            let address = address(rest, tls).ok_or_else(|| refuse("is not host:port"))?;
            if !tls {
                return Ok(Endpoint::Tcp(address));
            }
            let home = Path::new(get("HOME").unwrap_or("/")).join(".docker");
            let certificates = get("DOCKER_CERT_PATH").map_or(home, PathBuf::from);
            Ok(Endpoint::Tls { address, certificates })
        }
        _ => Err(refuse("has a scheme that dindctl does not speak")),
    }
}

fn address(rest: &str, tls: bool) -> Option<String> {
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains('/') {
        return None;
    }
    let port = if tls { 2376 } else { 2375 };
    // The colons inside [::1] are no port.
    let after_host = rest.rsplit_once(']').map_or(rest, |(_, after)| after);
    match after_host.rsplit_once(':') {
        None => Some(format!("{rest}:{port}")),
        Some((_, number)) => number.parse::<u16>().ok().map(|_| rest.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(pairs: &[(&str, &str)]) -> Option<String> {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        from_env(&env).ok().map(|endpoint| endpoint.to_string())
    }

    #[rstest]
    #[case("", "unix:///var/run/docker.sock")]
    #[case("unix:///run/x.sock", "unix:///run/x.sock")]
    #[case("tcp://dind:2375", "tcp://dind:2375")]
    #[case("tcp://dind", "tcp://dind:2375")]
    #[case("http://[::1]:99/", "tcp://[::1]:99")]
    #[case("tcp://[::1]", "tcp://[::1]:2375")]
    #[case("https://dind", "tcp://dind:2376 (TLS)")]
    fn hosts(#[case] host: &str, #[case] want: &str) {
        assert_eq!(read(&[("DOCKER_HOST", host)]).as_deref(), Some(want));
    }

    #[rstest]
    #[case("dind:2375")]
    #[case("ssh://me@there")]
    #[case("unix://relative")]
    #[case("tcp://")]
    #[case("tcp://dind:port")]
    #[case("tcp://dind:1/path")]
    fn no_hosts(#[case] host: &str) {
        assert_eq!(read(&[("DOCKER_HOST", host)]), None);
    }

    #[test]
    fn tls_as_the_docker_cli_has_it() {
        let env = |extra: &[(&str, &str)]| -> Endpoint {
            let base = [("DOCKER_HOST", "tcp://dind"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/me")];
            let all = base.iter().chain(extra);
            from_env(&all.map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()).unwrap()
        };
        let tls = |folder: &str| Endpoint::Tls { address: "dind:2376".into(), certificates: folder.into() };
        assert_eq!(env(&[]), tls("/me/.docker"));
        assert_eq!(env(&[("DOCKER_CERT_PATH", "/certs/client")]), tls("/certs/client"));
        assert_eq!(env(&[("DOCKER_TLS_VERIFY", "")]), Endpoint::Tcp("dind:2375".into()));
    }
}
