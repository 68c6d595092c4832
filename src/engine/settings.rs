/*!
Settings of ours that are options of dockerd: their form, their key in daemon.json, and what they must not contradict.
*/
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use url::Url;

use super::arguments::DaemonArguments;
use super::daemon_json::DaemonJson;

/// One option of dockerd that somebody set outside of daemon.json and flags.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its key in daemon.json.
    pub key: &'static str,
    /// Its value there.
    pub value: Value,
    /// Who set it: a variable, or a key of the configuration file.
    pub place: String,
}

/// Two places that say different things.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{one} and {other} contradict each other about `{key}` of dockerd")]
pub struct Contradiction {
    /// The key in daemon.json.
    pub key: String,
    /// The first place, with its value.
    pub one: String,
    /// The second.
    pub other: String,
}

/// Keys that dockerd takes from flags and file together (`skipDuplicates` and `skipValidateOptions` of its
/// `daemon/config`), and those that dindctl itself puts together.
const BOTH: [&str; 5] = ["builder", "features", "hosts", "live-restore", "runtimes"];

/// Compares what flags, daemon.json and settings say, before anything is done about any of it. What a flag and the file both say,
/// dockerd refuses even where it is the same.
pub fn contradiction(
    file: &DaemonJson,
    arguments: &DaemonArguments,
    settings: &[Setting],
) -> Result<(), Contradiction> {
    let in_file = |key: &str, value: &Value| format!("{} ({key}: {value})", file.path().display());
    let as_flag = |key: &str, value: &Value| format!("dockerd's flag for {key} ({})", show(value));
    for (key, flag) in &arguments.told {
        if let Some(value) = file.value(key).filter(|_| !BOTH.contains(&key.as_str())) {
            return Err(Contradiction { key: key.clone(), one: as_flag(key, flag), other: in_file(key, value) });
        }
    }
    for setting in settings {
        let Setting { key, value, place } = setting;
        let one = || format!("{place} ({})", show(value));
        if let Some(other) = arguments.told.get(*key).filter(|told| !same(value, told)) {
            return Err(Contradiction { key: (*key).to_owned(), one: one(), other: as_flag(key, other) });
        }
        if let Some(other) = file.value(key).filter(|told| !same(value, told)) {
            return Err(Contradiction { key: (*key).to_owned(), one: one(), other: in_file(key, other) });
        }
    }
    Ok(())
}

/// Whether a value means the same as what dockerd was told; flags are text.
fn same(value: &Value, told: &Value) -> bool {
    value == told || (!told.is_array() && show(value) == show(told))
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(show).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Addresses of registries' mirrors, as dockerd takes them.
pub fn mirror(text: &str) -> Result<Value, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain {
        return Ok(json!(text));
    }
    // It may hold a password, so it is not repeated.
    Err("a mirror must be https://HOST[:PORT] or http://HOST[:PORT], without user, password, ? and #".into())
}

/// A registry without TLS: host, with or without port, or a network.
pub fn insecure_registry(text: &str) -> Result<Value, String> {
    let plain = !text.contains("://") && !text.contains(['/', ' ', '@']) || text.parse::<IpNet>().is_ok();
    if plain { Ok(json!(text)) } else { Err(format!("`{text}` must be HOST[:PORT] or a network such as 10.0.0.0/8")) }
}

/// A name server.
pub fn name_server(text: &str) -> Result<Value, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => {
            Err(format!("`{text}` is the nested container itself; name a server that can be reached from there"))
        }
        Ok(address) => Ok(json!(address.to_string())),
        Err(_) => Err(format!("`{text}` is not an IP address")),
    }
}

/// The default bridge's own address with its network's prefix.
pub fn bridge(text: &str) -> Result<Value, String> {
    match text.parse::<IpNet>() {
        Ok(IpNet::V4(net)) if net.addr() != net.network() && net.addr() != net.broadcast() => Ok(json!(text)),
        Ok(IpNet::V4(net)) => Err(format!(
            "`{text}` is no address of a bridge; write {}/{}",
            net.hosts().next().unwrap_or(net.addr()),
            net.prefix_len()
        )),
        _ => Err(format!("`{text}` is not ADDRESS/PREFIX, such as 172.30.0.1/16")),
    }
}

/// Networks for bridges to come: `base=172.30.0.0/16,size=24`.
pub fn pool(text: &str) -> Result<Value, String> {
    let wrong = || format!("`{text}` is not base=NETWORK,size=PREFIX, such as base=172.30.0.0/16,size=24");
    let (base, size) = text.split_once(',').ok_or_else(wrong)?;
    let base = base.trim().strip_prefix("base=").ok_or_else(wrong)?.parse::<IpNet>().map_err(|_| wrong())?;
    let size = size.trim().strip_prefix("size=").ok_or_else(wrong)?.parse::<u8>().map_err(|_| wrong())?;
    if base.trunc() != base {
        return Err(format!("{base} has bits behind its prefix; write {}", base.trunc()));
    }
    if size < base.prefix_len() || size > base.max_prefix_len() {
        return Err(format!("networks with prefix {size} do not fit into {base}"));
    }
    Ok(json!({"base": base.to_string(), "size": size}))
}

/// Bytes of a packet: what IPv4 asks for at least, and the most there is.
pub fn mtu(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(bytes @ 68..=65535) => Ok(bytes),
        _ => Err("it must be a number of bytes from 68 to 65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn check(file: &str, flags: &[&str], settings: &[Setting]) -> Option<String> {
        let file = DaemonJson::parse(PathBuf::from("/etc/docker/daemon.json"), file).unwrap();
        let arguments = DaemonArguments::parse(flags.iter().map(OsString::from));
        contradiction(&file, &arguments, settings).err().map(|error| error.to_string())
    }

    fn setting(key: &'static str, value: Value) -> Setting {
        Setting { key, value, place: "DINDCTL_X".into() }
    }

    #[test]
    fn the_same_may_be_said_twice_and_something_else_not() {
        assert_eq!(check("{\"bip\": \"172.30.0.1/16\"}", &[], &[setting("bip", json!("172.30.0.1/16"))]), None);
        assert_eq!(check("", &["--bip=172.30.0.1/16"], &[setting("bip", json!("172.30.0.1/16"))]), None);
        assert_eq!(check("", &["--mtu", "1400"], &[setting("mtu", json!(1400))]), None);
        let error = check("{\"dns\": [\"10.0.0.1\"]}", &[], &[setting("dns", json!(["10.0.0.2"]))]).unwrap();
        assert!(
            error.contains("DINDCTL_X (10.0.0.2)") && error.contains("daemon.json (dns: [\"10.0.0.1\"])"),
            "{error}"
        );
        let error = check("", &["--dns=10.0.0.1"], &[setting("dns", json!(["10.0.0.2"]))]).unwrap();
        assert!(error.contains("dockerd's flag for dns (10.0.0.1)"), "{error}");
    }

    #[test]
    fn a_flag_and_the_file_are_one_too_many() {
        let error = check("{\"mtu\": 1400}", &["--mtu=1400"], &[]).unwrap();
        assert!(
            error.contains("flag for mtu (1400)") && error.contains("/etc/docker/daemon.json (mtu: 1400)"),
            "{error}"
        );
        assert_eq!(check("{\"features\": {}, \"hosts\": []}", &["--feature=x=true", "-H", "unix:///x"], &[]), None);
    }

    #[rstest]
    #[case(mirror("https://mirror.example:5000"), true)]
    #[case(mirror("http://10.0.0.1/"), true)]
    #[case(mirror("mirror.example"), false)]
    #[case(mirror("https://user:secret@mirror.example"), false)]
    #[case(mirror("ftp://mirror.example"), false)]
    #[case(insecure_registry("registry.local:5000"), true)]
    #[case(insecure_registry("10.0.0.0/8"), true)]
    #[case(insecure_registry("http://registry.local"), false)]
    #[case(insecure_registry("registry/path"), false)]
    #[case(name_server("10.0.0.2"), true)]
    #[case(name_server("fd00::2"), true)]
    #[case(name_server("127.0.0.11"), false)]
    #[case(name_server("dns.example"), false)]
    #[case(bridge("172.30.0.1/16"), true)]
    #[case(bridge("172.30.0.0/16"), false)]
    #[case(bridge("172.30.0.1"), false)]
    #[case(pool("base=172.30.0.0/16,size=24"), true)]
    #[case(pool("base=172.30.0.0/16,size=8"), false)]
    #[case(pool("base=172.30.0.1/16,size=24"), false)]
    #[case(pool("172.30.0.0/16"), false)]
    #[case(mtu("1400").map(Value::from), true)]
    #[case(mtu("0").map(Value::from), false)]
    fn values_are_read_strictly(#[case] read: Result<Value, String>, #[case] good: bool) {
        assert_eq!(read.is_ok(), good, "{read:?}");
    }

    #[test]
    fn a_password_is_never_repeated() {
        assert!(!mirror("https://user:secret@mirror.example").unwrap_err().contains("secret"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text: String) {
            let _ = (mirror(&text), insecure_registry(&text), name_server(&text), bridge(&text), pool(&text));
        }
    }
}
