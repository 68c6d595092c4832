//! The network of a sandbox, and the one that all sandboxes with `--network egress` share.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};

use bollard::Docker;
use bollard::models::{Network as Found, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use ipnet::IpNet;

use super::egress::{self, Policy};
use super::endpoint::Endpoint;
use super::error::{ExecError, status_code};
use super::rejection::Rejection;

/// Name of the network for `--network egress`.
pub const EGRESS: &str = "dindctl-egress";
/// Its label, by which it is told from one that somebody else gave that name.
pub const LABEL: &str = "io.dindctl.network";

/// What a sandbox is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A network of the daemon, as it is; or `none`.
    Named(String),
    /// The internet only, and what is allowed beside it.
    Egress(Vec<IpNet>),
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Named(name) => name,
            Self::Egress(_) => "egress",
        })
    }
}

impl Network {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Named(name) if name == "none")
    }

    /// Reads `--network` with the networks of `--egress-allow`.
    pub fn read(name: &str, allow: &[String]) -> Result<Self, Rejection> {
        let refuse = |why: &str| {
            Rejection::new("--network", name, why).with_hint("choose none, egress, bridge, or a network of your own")
        };
        if name == "egress" {
            let read = |text: &String| {
                egress::allowed(text).map_err(|(why, hint)| Rejection::new("--egress-allow", text, why).with_hint(hint))
            };
            return Ok(Self::Egress(allow.iter().map(read).collect::<Result<_, _>>()?));
        }
        if name == "host" || name.starts_with("container:") {
            return Err(refuse("would share somebody else's network with untrusted code"));
        }
        if name == EGRESS {
            return Err(refuse("is filtered only as --network egress"));
        }
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        {
            return Err(refuse("is not the name of a network"));
        }
        Ok(Self::Named(name.to_owned()))
    }
}

/// The shared network, ready for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Its identifier: two callers of an old daemon may have made it twice under one name.
    pub network: String,
    /// What is open.
    pub policy: Policy,
}

/// Finds the shared network, or makes it.
pub async fn provide(docker: &Docker, endpoint: &Endpoint, allow: &[IpNet]) -> Result<Egress, ExecError> {
    let found = match find(docker).await? {
        Some(found) => found,
        None => create(docker).await?,
    };
    let mut never = subnets(&found);
    let addresses = addresses(endpoint).map_err(ExecError::local("read the addresses of this machine"))?;
    never.extend(addresses.into_iter().map(IpNet::from));
    never.sort_unstable();
    never.dedup();
    let network = found.id.unwrap_or_default();
    Ok(Egress { network, policy: Policy { never, allow: allow.to_vec() } })
}

/// Networks of ours, the oldest first.
pub(super) async fn list(docker: &Docker) -> Result<Vec<Found>, ExecError> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL}=egress")])]);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let mut found = docker.list_networks(Some(options)).await.map_err(ExecError::api("list networks"))?;
    found.retain(|network| network.name.as_deref() == Some(EGRESS));
    found.sort_by_key(|network| (network.created.clone(), network.id.clone()));
    Ok(found)
}

async fn find(docker: &Docker) -> Result<Option<Found>, ExecError> {
    Ok(list(docker).await?.into_iter().next())
}

async fn create(docker: &Docker) -> Result<Found, ExecError> {
    let request = NetworkCreateRequest {
        name: EGRESS.to_owned(),
        driver: Some("bridge".to_owned()),
        // The sandboxes' own filters keep them apart as well; this one also drops what others send to them.
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
        labels: Some(HashMap::from([(LABEL.to_owned(), "egress".to_owned())])),
        ..NetworkCreateRequest::default()
    };
    let created = docker.create_network(request).await;
    match (created, find(docker).await?) {
        // Made by us, or by somebody who was faster.
        (_, Some(found)) => Ok(found),
        (Err(error), None) if status_code(&error) == Some(409) => {
            let why = format!("the daemon has a network {EGRESS:?} that is not dindctl's");
            Err(Rejection::new("--network", "egress", why)
                .with_hint(format!("remove or rename it: docker network rm {EGRESS}"))
                .into())
        }
        (Err(error), None) => Err(ExecError::api(format!("create the network {EGRESS}"))(error)),
        (Ok(_), None) => {
            Err(ExecError::local("find the network that was just made")(std::io::ErrorKind::NotFound.into()))
        }
    }
}

/// Where a network's containers and its gateway are.
fn subnets(network: &Found) -> Vec<IpNet> {
    let pools = network.ipam.as_ref().and_then(|ipam| ipam.config.clone()).unwrap_or_default();
    let gateways = pools.iter().filter_map(|pool| pool.gateway.as_deref()?.parse::<IpAddr>().ok()).map(IpNet::from);
    let subnets = pools.iter().filter_map(|pool| pool.subnet.as_deref()?.parse::<IpNet>().ok());
    subnets.map(|net| net.trunc()).chain(gateways).collect()
}

/// Addresses of the daemon's machine, as far as they can be known from here: our own where it is reached without a
/// network, those of its host name otherwise.
fn addresses(endpoint: &Endpoint) -> std::io::Result<Vec<IpAddr>> {
    let remote: Vec<IpAddr> = match endpoint {
        Endpoint::Unix(_) => Vec::new(),
        Endpoint::Tcp(address) | Endpoint::Tls { address, .. } => {
            address.to_socket_addrs()?.map(|found| found.ip()).collect()
        }
    };
    if remote.iter().any(|address| !address.is_loopback()) {
        return Ok(remote);
    }
    let interfaces = nix::ifaddrs::getifaddrs().map_err(std::io::Error::from)?;
    let own = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|found| IpAddr::from(found.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|found| IpAddr::from(found.ip())))
    });
    Ok(own.filter(|address| !address.is_loopback()).collect())
}

#[cfg(test)]
mod tests {
    use bollard::models::{Ipam, IpamConfig};

    use super::*;

    #[test]
    fn the_gateway_and_the_neighbours_of_a_network_are_known() {
        let pool = |subnet: &str, gateway: &str| IpamConfig {
            subnet: Some(subnet.into()),
            gateway: Some(gateway.into()),
            ..IpamConfig::default()
        };
        let config = vec![pool("172.18.0.0/16", "172.18.0.1"), pool("fd00:1::/64", "")];
        let network = Found { ipam: Some(Ipam { config: Some(config), ..Ipam::default() }), ..Found::default() };
        let texts: Vec<String> = subnets(&network).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["172.18.0.0/16", "fd00:1::/64", "172.18.0.1/32"]);
    }

    #[test]
    fn a_remote_daemon_is_known_by_its_address_and_a_near_one_by_ours() {
        let remote = addresses(&Endpoint::Tcp("203.0.113.7:2375".into())).unwrap();
        assert_eq!(remote, ["203.0.113.7".parse::<IpAddr>().unwrap()]);
        let near = addresses(&Endpoint::Unix("/run/docker.sock".into())).unwrap();
        assert!(near.iter().all(|address| !address.is_loopback()), "{near:?}");
        assert_eq!(addresses(&Endpoint::Tcp("127.0.0.1:2375".into())).unwrap(), near);
    }

    #[test]
    fn what_is_open_is_read_with_the_network() {
        let allow = ["10.0.0.0/8".to_owned()];
        assert_eq!(Network::read("egress", &allow), Ok(Network::Egress(vec!["10.0.0.0/8".parse().unwrap()])));
        assert!(Network::read("egress", &["x".to_owned()]).is_err());
        assert!(Network::read(EGRESS, &[]).is_err());
        assert_eq!(
            Network::read("mine", &allow),
            Ok(Network::Named("mine".into())),
            "the configuration may always say it"
        );
    }
}
