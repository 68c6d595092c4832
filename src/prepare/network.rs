/*!
What nested networks have to know of the network around them.

Addresses are left to dockerd: it chooses networks for its bridges that no route leads to already.
*/
use ipnet::Ipv4Net;
use serde_json::{Map, Value};

use super::plan::{Action, Step};
use super::wants::{Told, Wants};
use crate::probe::network::{Link, Network};

/// Largest packet of dockerd's bridges, bytes, unless it is told another.
const USUAL: u32 = 1500;
/// The option for the defaults of all networks. Engines before 24 do not know it and refuse to start with it.
pub const DEFAULTS: &str = "default-network-opt";

/// The steps. `defaults` says whether dockerd knows [`DEFAULTS`], where it matters and could be found out.
pub fn steps(found: &Network, defaults: Option<bool>, wants: &Wants) -> Vec<Step> {
    let asked = wants.network.as_ref().and_then(|wishes| wishes.mtu);
    let mut steps = mtu(found.uplink.as_ref(), asked, defaults, &wants.told);
    steps.extend(bridge(found, &wants.told));
    steps.push(names(found, &wants.told));
    steps
}

/// Whether it matters what the engine knows.
pub fn asks_for_engine(found: &Network, wants: &Wants) -> bool {
    wanted(found.uplink.as_ref(), wants.network.as_ref().and_then(|wishes| wishes.mtu)).is_some()
}

/// The option of a network that sets its packet size.
const OPTION: &str = "com.docker.network.driver.mtu";

/// The packet size for nested networks, where it is not the usual one. Larger packets of the way out are of no use to most
/// that is behind it, so only the smaller ones count.
fn wanted(uplink: Option<&Link>, asked: Option<u32>) -> Option<u32> {
    asked.or_else(|| uplink?.mtu.filter(|mtu| *mtu < USUAL))
}

fn mtu(uplink: Option<&Link>, asked: Option<u32>, defaults: Option<bool>, told: &Told) -> Vec<Step> {
    let found = match (uplink, asked) {
        (_, Some(asked)) => format!("{asked} bytes by setting"),
        (Some(Link { name, mtu: Some(mtu) }), None) => format!("{mtu} bytes on {name}"),
        (Some(Link { name, mtu: None }), None) => format!("unknown on {name}"),
        (None, None) => "no way out".to_owned(),
    };
    let reason =
        "packets of nested containers that are larger than the way out allows get lost where nobody tells their sender";
    let step = Step::nothing("network.mtu", "packet size of the default bridge", found.clone(), reason);
    let Some(mtu) = wanted(uplink, asked) else { return vec![step] };
    let own = Step::nothing("network.mtu.own", "packet size of other nested networks", found, reason);
    let bridge = if told.sets("mtu") { step } else { step.does(option("mtu", Value::from(mtu))) };
    let own = match defaults {
        _ if told.value("default-network-opts").is_some_and(|told| told.to_string().contains(OPTION)) => own,
        _ if told.sets("default-network-opts") => own
            .warns(format!("default-network-opts says nothing of {OPTION}: networks that are made by hand or by compose will not have packets of {mtu} bytes at most"))
            .hint(format!("add \"bridge\": {{\"{OPTION}\": \"{mtu}\"}} to it")),
        Some(true) => {
            let bridge = Map::from_iter([(OPTION.to_owned(), Value::from(mtu.to_string()))]);
            let options = Map::from_iter([("bridge".to_owned(), Value::Object(bridge))]);
            own.does(option("default-network-opts", Value::Object(options)))
        }
        _ => own
            .warns(format!("networks that are made by hand or by compose will not have packets of {mtu} bytes at most"))
            .hint("docker engine 24 and later can be told; before, give each network com.docker.network.driver.mtu"),
    };
    vec![bridge, own]
}

fn option(key: &str, value: Value) -> Action {
    Action::SetDaemonOption { key: key.into(), value }
}

/// A bridge that the operator put where somebody else is reached.
fn bridge(found: &Network, told: &Told) -> Option<Step> {
    let text = told.value("bip")?.as_str()?;
    let net: Ipv4Net = text.parse().ok()?;
    let name = told.value("bridge").and_then(Value::as_str).unwrap_or("docker0");
    let taken = found.routes.iter().find(|route| {
        let overlap = route.network.contains(&net.network()) || net.contains(&route.network.network());
        overlap && route.device != name
    });
    let step = Step::nothing(
        "network.bridge",
        "addresses of the default bridge",
        text,
        "what the bridge has, nobody else is reached by",
    );
    Some(match taken {
        None => step,
        Some(route) => step
            .warns(format!("bip {text} takes addresses that {} is the way to ({})", route.device, route.network))
            .hint("choose a network that is free here, or leave bip out: dockerd finds one"),
    })
}

fn names(found: &Network, told: &Told) -> Step {
    let servers: Vec<String> = found.name_servers.iter().map(ToString::to_string).collect();
    let text = if servers.is_empty() { "no name server".to_owned() } else { servers.join(", ") };
    let local = !found.name_servers.is_empty() && found.name_servers.iter().all(std::net::IpAddr::is_loopback);
    let step = Step::nothing(
        "network.dns",
        "name servers",
        text,
        "nested networks made by hand or by compose ask through dockerd, which asks these",
    );
    if told.sets("dns") || !local {
        return step;
    }
    Step {
        reason: "this one is no use to nested containers on the default bridge, for which dockerd takes public servers instead".into(),
        ..step
    }
    .hint("where those cannot be reached, name servers by DINDCTL_DNS, or give nested containers a network of their own")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::prepare::NetworkWishes;
    use crate::probe::network::Route;

    fn found(mtu: u32) -> Network {
        let network = "172.17.0.0/16".parse().unwrap();
        Network {
            uplink: Some(Link { name: "eth0".into(), mtu: Some(mtu) }),
            routes: vec![Route { device: "eth0".into(), network, metric: 0 }],
            name_servers: vec!["127.0.0.11".parse().unwrap()],
        }
    }

    fn wants(mtu: Option<u32>, told: &[(&str, Value)]) -> Wants {
        let told = Told::new(told.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let network = Some(NetworkWishes { mtu, path: "/usr/bin".into() });
        Wants { network, told, ..Wants::default() }
    }

    fn options(found: &Network, defaults: Option<bool>, wants: &Wants) -> Vec<String> {
        let steps = steps(found, defaults, wants);
        let set = |step: Step| match step.action {
            Action::SetDaemonOption { key, value } => Some(format!("{key}={value}")),
            _ => None,
        };
        steps.into_iter().filter_map(set).collect()
    }

    const BOTH: [&str; 2] = ["mtu=1400", r#"default-network-opts={"bridge":{"com.docker.network.driver.mtu":"1400"}}"#];

    #[rstest]
    #[case::smaller(1400, None, &BOTH)]
    #[case::usual(1500, None, &[])]
    #[case::jumbo(9001, None, &[])]
    #[case::by_setting(9001, Some(1400), &BOTH)]
    fn nested_networks_fit_the_way_out(#[case] mtu: u32, #[case] asked: Option<u32>, #[case] want: &[&str]) {
        let wants = wants(asked, &[]);
        assert_eq!(options(&found(mtu), Some(true), &wants), want);
        assert_eq!(asks_for_engine(&found(mtu), &wants), !want.is_empty());
    }

    #[test]
    fn an_old_engine_is_not_told_what_it_refuses() {
        assert_eq!(options(&found(1400), Some(false), &wants(None, &[])), ["mtu=1400"]);
        assert_eq!(options(&found(1400), None, &wants(None, &[])), ["mtu=1400"]);
        let warned = steps(&found(1400), None, &wants(None, &[]));
        assert!(warned.iter().any(|step| matches!(step.action, Action::Warn { .. })));
    }

    #[test]
    fn what_dockerd_is_told_stays() {
        let told = wants(None, &[("mtu", json!(1300)), ("default-network-opts", json!({}))]);
        assert!(options(&found(1400), Some(true), &told).is_empty());
    }

    #[rstest]
    #[case("172.17.5.1/24", true)]
    #[case("172.16.0.1/12", true)]
    #[case("172.30.0.1/16", false)]
    fn a_bridge_in_the_way_is_told(#[case] bip: &str, #[case] warned: bool) {
        let steps = steps(&found(1500), None, &wants(None, &[("bip", json!(bip))]));
        assert_eq!(steps.iter().any(|step| matches!(step.action, Action::Warn { .. })), warned);
    }

    #[test]
    fn a_restarted_daemons_own_bridge_is_in_nobodys_way() {
        let mut found = found(1500);
        found.routes[0].device = "docker0".into();
        let steps = steps(&found, None, &wants(None, &[("bip", json!("172.17.0.1/16"))]));
        assert!(steps.iter().all(|step| step.action == Action::Nothing), "{steps:?}");
    }

    #[test]
    fn a_resolver_that_is_only_ours_is_told_in_the_plan() {
        let hint = |told: &[(&str, Value)]| names(&found(1500), &wants(None, told).told).hint;
        assert!(hint(&[]).is_some_and(|hint| hint.contains("DINDCTL_DNS")));
        assert_eq!(hint(&[("dns", json!(["10.0.0.2"]))]), None);
    }
}
