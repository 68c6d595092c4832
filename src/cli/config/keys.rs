/*!
Every setting there is: its key in the file, its variable, its default and what it means. The loader, the command
line and `config show` read this one table.
*/
use std::time::Duration;

use crate::engine::settings;
use crate::exec::egress;
use crate::init::policy::Restart;
use crate::prepare::ApparmorWish;
use crate::prepare::tls::KeyKind;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// `section.name` in the file.
    pub name: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Value when nobody says anything; empty means unset.
    pub default: &'static str,
    /// What it means, one line.
    pub doc: &'static str,
    /// Says what is wrong with a value, and what would be right.
    pub check: fn(&str) -> Result<(), String>,
}

const fn key(
    name: &'static str,
    env: &'static str,
    default: &'static str,
    doc: &'static str,
    check: fn(&str) -> Result<(), String>,
) -> Key {
    Key { name, env, default, doc, check }
}

/// The table.
pub const KEYS: &[Key] = &[
    key("log.format", "DINDCTL_LOG_FORMAT", "text", "form of dindctl's own lines: text or json", |value| {
        one_of(value, &["text", "json"])
    }),
    key("log.level", "DINDCTL_LOG_LEVEL", "info", "least important lines shown: error, warn, info or debug", |value| {
        one_of(value, &["error", "warn", "info", "debug"])
    }),
    key(
        "log.daemon_file",
        "DINDCTL_DAEMON_LOG",
        "",
        "file that also gets the daemon's lines, rotated; empty for none",
        absolute_or_empty,
    ),
    key("log.daemon_file_size", "DINDCTL_DAEMON_LOG_SIZE", "10MiB", "size at which that file is rotated", size),
    key("log.daemon_file_count", "DINDCTL_DAEMON_LOG_COUNT", "3", "rotated files that are kept", |value| {
        value.parse::<u8>().map(drop).map_err(|_| "it must be a number from 0 to 255".into())
    }),
    key(
        "daemon.listen",
        "DINDCTL_LISTEN",
        "",
        "addresses of the API, separated by commas (unix:///path, tcp://host:port); empty for those of the official image",
        any,
    ),
    key(
        "daemon.socket_group",
        "DINDCTL_SOCKET_GROUP",
        "docker",
        "group that owns the unix socket, by name or number",
        any,
    ),
    key("daemon.socket_mode", "DINDCTL_SOCKET_MODE", "0660", "permission bits of the unix socket, octal", |value| {
        match u32::from_str_radix(value, 8) {
            Ok(mode) if mode <= 0o777 => Ok(()),
            _ => Err("it must be an octal mode such as 0660".into()),
        }
    }),
    key(
        "daemon.stop_timeout",
        "DINDCTL_STOP_TIMEOUT",
        "35s",
        "time for an orderly stop of everything before SIGKILL",
        duration,
    ),
    key(
        "daemon.stop_delay",
        "DINDCTL_STOP_DELAY",
        "0s",
        "time that everything goes on after the request to stop, for what is to be stopped before the daemon (sidecars)",
        duration,
    ),
    key(
        "daemon.stop_code",
        "DINDCTL_STOP_CODE",
        "0",
        "exit code after a request to stop: 0, or signal for 128 plus its number (143 for SIGTERM)",
        |value| one_of(value, &["0", "signal"]),
    ),
    key(
        "daemon.outer_stop_timeout",
        "DINDCTL_OUTER_STOP_TIMEOUT",
        "",
        "what the container's own stop timeout is, where known (compose: stop_grace_period); warned about when too short",
        |value| if value.is_empty() { Ok(()) } else { duration(value) },
    ),
    key(
        "daemon.restart",
        "DINDCTL_RESTART",
        "always",
        "when containerd and dockerd are started again: always, on-failure (not after exit code 0) or never",
        |value| one_of(value, &Restart::NAMES),
    ),
    key(
        "daemon.live_restore",
        "DINDCTL_LIVE_RESTORE",
        "auto",
        "nested containers outlive the daemon: auto (off in swarm mode), on or off, which docker swarm init and join need",
        |value| one_of(value, &["auto", "on", "off"]),
    ),
    key(
        "daemon.registry_mirrors",
        "DINDCTL_REGISTRY_MIRRORS",
        "",
        "mirrors of Docker Hub, https://HOST[:PORT], separated by commas",
        |value| list(value).try_for_each(|text| settings::mirror(text).map(drop)),
    ),
    key(
        "daemon.insecure_registries",
        "DINDCTL_INSECURE_REGISTRIES",
        "",
        "registries without TLS, HOST[:PORT] or CIDR, separated by commas",
        |value| list(value).try_for_each(|text| settings::insecure_registry(text).map(drop)),
    ),
    key(
        "daemon.dns",
        "DINDCTL_DNS",
        "",
        "name servers of nested containers, separated by commas; empty for those of this container",
        |value| list(value).try_for_each(|text| settings::name_server(text).map(drop)),
    ),
    key(
        "daemon.dns_search",
        "DINDCTL_DNS_SEARCH",
        "",
        "domains that nested containers look for short names in, separated by commas",
        any,
    ),
    key(
        "daemon.mtu",
        "DINDCTL_MTU",
        "",
        "largest packet of nested networks, bytes; empty for what the way out allows",
        |value| if value.is_empty() { Ok(()) } else { settings::mtu(value).map(drop) },
    ),
    key(
        "daemon.bip",
        "DINDCTL_BIP",
        "",
        "address and prefix of the default bridge (172.30.0.1/16); empty for a network that is free",
        |value| if value.is_empty() { Ok(()) } else { settings::bridge(value).map(drop) },
    ),
    key(
        "daemon.address_pools",
        "DINDCTL_ADDRESS_POOLS",
        "",
        "networks that nested ones are cut from: base=172.30.0.0/16,size=24, separated by semicolons",
        |value| pools(value).try_for_each(|text| settings::pool(text).map(drop)),
    ),
    key(
        "daemon.storage_driver",
        "DINDCTL_STORAGE_DRIVER",
        "",
        "storage driver of images and containers; empty for the engine's own choice",
        |value| match value.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            None => Ok(()),
            Some(c) => Err(format!("{c:?} cannot be part of a driver's name")),
        },
    ),
    key(
        "trust.ca_file",
        "DINDCTL_CA_FILE",
        "",
        "PEM file of authorities that the daemon and programs of sandboxes trust, besides those of their images",
        absolute_or_empty,
    ),
    key("tls.key", "DINDCTL_TLS_KEY", "ecdsa", "kind of new keys: ecdsa (P-256) or rsa (4096 bits)", |value| {
        one_of(value, &KeyKind::NAMES)
    }),
    key("tls.days", "DINDCTL_TLS_DAYS", "825", "validity of new certificates, days", |value| {
        match value.parse::<u32>() {
            Ok(1..=3650) => Ok(()),
            _ => Err("it must be a number of days from 1 to 3650".into()),
        }
    }),
    key(
        "prepare.tmp",
        "DINDCTL_TMP",
        "auto",
        "tmpfs on /tmp: auto (only where /tmp cannot be written), always or never",
        |value| one_of(value, &["auto", "always", "never"]),
    ),
    key(
        "prepare.cgroup_namespace",
        "DINDCTL_CGROUP_NAMESPACE",
        "own",
        "where the cgroup namespace is the host's: own (make one) or keep (tell dockerd a cgroup-parent)",
        |value| one_of(value, &["own", "keep"]),
    ),
    key(
        "prepare.apparmor",
        "DINDCTL_APPARMOR",
        "off",
        "AppArmor profiles of nested containers: off (as the official image), auto (where one can be loaded for trial) or on",
        |value| one_of(value, &ApparmorWish::NAMES),
    ),
    key(
        "preload.path",
        "DINDCTL_PRELOAD",
        "/preload",
        "folder of image archives that are loaded once the daemon is ready, each once; empty for none",
        absolute_or_empty,
    ),
    key("exec.memory", "DINDCTL_EXEC_MEMORY", "512m", "memory and swap together of a sandbox", any),
    key("exec.cpus", "DINDCTL_EXEC_CPUS", "1", "CPUs of a sandbox", any),
    key("exec.pids_limit", "DINDCTL_EXEC_PIDS_LIMIT", "128", "processes and threads of a sandbox", any),
    key("exec.tmpfs_size", "DINDCTL_EXEC_TMPFS_SIZE", "64m", "size of each writable file system of a sandbox", any),
    key("exec.timeout", "DINDCTL_EXEC_TIMEOUT", "30s", "wall-clock limit of a run", any),
    key("exec.grace", "DINDCTL_EXEC_GRACE", "", "time between SIGTERM and SIGKILL at a limit; empty for none", any),
    key(
        "exec.max_output",
        "DINDCTL_EXEC_MAX_OUTPUT",
        "",
        "cap for each of stdout and stderr; empty for 1MiB where they are collected and none where they are streamed",
        any,
    ),
    key("exec.network", "DINDCTL_EXEC_NETWORK", "none", "network of a sandbox: none, egress or a name", any),
    key(
        "exec.egress_allow",
        "DINDCTL_EXEC_EGRESS_ALLOW",
        "",
        "private networks that --network egress leaves open: CIDRs, separated by commas",
        |value| {
            list(value).try_for_each(|net| {
                egress::allowed(net).map(drop).map_err(|(why, hint)| format!("`{net}` {why}; {hint}"))
            })
        },
    ),
    key("exec.pull", "DINDCTL_EXEC_PULL", "missing", "when images are pulled: missing, always or never", |value| {
        one_of(value, &["missing", "always", "never"])
    }),
    key("exec.runtime", "DINDCTL_EXEC_RUNTIME", "", "OCI runtime of a sandbox; empty for the daemon's default", any),
];

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Some values are checked by the room that uses them, with a better message than could be given here.
// The table wants one signature for all checks.
#[allow(clippy::unnecessary_wraps)]
fn any(_: &str) -> Result<(), String> {
    Ok(())
}

/// The members of a list of pools, each of which has a comma.
pub fn pools(value: &str) -> impl Iterator<Item = &str> {
    value.split(';').map(str::trim).filter(|member| !member.is_empty())
}

/// The members of a list: separated by commas, without the white space around them.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|member| !member.is_empty())
}

fn one_of(value: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&value) {
        return Ok(());
    }
    let nearest =
        nearest(value, words.iter().copied()).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
    Err(format!("it must be one of {}{nearest}", words.join(", ")))
}

fn absolute_or_empty(value: &str) -> Result<(), String> {
    if value.is_empty() || value.starts_with('/') { Ok(()) } else { Err("it must be an absolute path".into()) }
}

fn size(value: &str) -> Result<(), String> {
    value.parse::<bytesize::ByteSize>().map(drop).map_err(|error| format!("it must be a size such as 10MiB ({error})"))
}

fn duration(value: &str) -> Result<(), String> {
    parse_duration(value).map(drop)
}

/// Reads `35s`, `2m 30s` or a bare number of seconds.
pub fn parse_duration(value: &str) -> Result<Duration, String> {
    if let Ok(seconds) = value.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(seconds)));
    }
    humantime::parse_duration(value).map_err(|error| format!("it must be a duration such as 35s or 2m ({error})"))
}

/// The word that was probably meant, if any is near.
pub fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check_and_every_name_is_unique() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        for key in KEYS {
            (key.check)(key.default).unwrap_or_else(|why| panic!("{}: {why}", key.name));
            assert!(key.env.starts_with("DINDCTL_"));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn a_near_miss_is_recognised() {
        assert_eq!(nearest("txt", ["text", "json"].into_iter()), Some("text"));
        assert_eq!(nearest("zzz", ["text", "json"].into_iter()), None);
    }

    #[test]
    fn durations_are_read_with_and_without_units() {
        assert_eq!(parse_duration("35"), Ok(Duration::from_secs(35)));
        assert_eq!(parse_duration("1m 5s"), Ok(Duration::from_secs(65)));
        assert!(parse_duration("soon").is_err());
    }
}
