/*!
Settings that become options of dockerd.
*/
use serde_json::Value;

use super::super::config::Config;
use super::super::config::keys::{list, pools};
use crate::engine::settings::{Setting, bridge, insecure_registry, mirror, name_server, pool};

/// Reads one value.
type Read = fn(&str) -> Result<Value, String>;

/// What the configuration says that dockerd has to know. Every value was checked when it was read.
pub fn of(config: &Config) -> Vec<Setting> {
    let lists: [(&str, &str, Read); 4] = [
        ("daemon.registry_mirrors", "registry-mirrors", mirror),
        ("daemon.insecure_registries", "insecure-registries", insecure_registry),
        ("daemon.dns", "dns", name_server),
        ("daemon.dns_search", "dns-search", |text| Ok(text.into())),
    ];
    let mut settings = Vec::new();
    let mut set = |name: &str, key: &'static str, value: Value| {
        settings.push(Setting { key, value, place: config.source(name).to_string() });
    };
    for (name, key, read) in lists {
        let values: Vec<Value> = list(config.get(name)).filter_map(|text| read(text).ok()).collect();
        if !values.is_empty() {
            set(name, key, values.into());
        }
    }
    let values: Vec<Value> = pools(config.get("daemon.address_pools")).filter_map(|text| pool(text).ok()).collect();
    if !values.is_empty() {
        set("daemon.address_pools", "default-address-pools", values.into());
    }
    if let Ok(mtu) = config.get("daemon.mtu").parse::<u32>() {
        set("daemon.mtu", "mtu", mtu.into());
    }
    if let Ok(value) = bridge(config.get("daemon.bip")) {
        set("daemon.bip", "bip", value);
    }
    let driver = config.get("daemon.storage_driver");
    if !driver.is_empty() {
        set("daemon.storage_driver", "storage-driver", driver.into());
    }
    settings
}
