/*!
What the user's own dockerd arguments mean for us.

dockerd takes most options on the command line or in daemon.json but refuses one that stands in both
("specified both as a flag and in the configuration file"), so dindctl has to know which are taken before it adds any.
*/
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use serde_json::Value;

/// dockerd's arguments, sorted by who acts on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonArguments {
    /// Everything that dockerd gets as it was typed.
    pub rest: Vec<OsString>,
    /// `-H`, `--host`: bound by dindctl instead of dockerd.
    pub hosts: Vec<String>,
    /// `--config-file`: merged with our own settings.
    pub config_file: Option<PathBuf>,
    /// `--data-root`.
    pub data_root: Option<PathBuf>,
    /// `--pidfile`.
    pub pid_file: Option<PathBuf>,
    /// `--group`: group of the unix socket.
    pub group: Option<String>,
    /// `--containerd`: a containerd that is not ours.
    pub containerd: Option<String>,
    /// Long names of all flags that were given, without dashes.
    pub flags: BTreeSet<String>,
    /// The same flags by their key in daemon.json, with their values as far as they are known.
    pub told: BTreeMap<String, Value>,
}

/// Short flags of dockerd that matter here, with their long names (`dockerd --help`).
const SHORT: [(&str, &str); 7] = [
    ("-H", "host"),
    ("-g", "graph"),
    ("-p", "pidfile"),
    ("-s", "storage-driver"),
    ("-G", "group"),
    ("-D", "debug"),
    ("-l", "log-level"),
];

/// Flags that may be repeated, with their keys in daemon.json (`man dockerd`).
const REPEATED: [(&str, &str); 16] = [
    ("add-runtime", "runtimes"),
    ("authorization-plugin", "authorization-plugins"),
    ("cluster-store-opt", "cluster-store-opts"),
    ("default-address-pool", "default-address-pools"),
    ("default-network-opt", "default-network-opts"),
    ("default-ulimit", "default-ulimits"),
    ("dns", "dns"),
    ("dns-opt", "dns-opts"),
    ("dns-search", "dns-search"),
    ("exec-opt", "exec-opts"),
    ("feature", "features"),
    ("insecure-registry", "insecure-registries"),
    ("label", "labels"),
    ("log-opt", "log-opts"),
    ("registry-mirror", "registry-mirrors"),
    ("storage-opt", "storage-opts"),
];

/// Flags with one value that other decisions depend on. All other flags are known by name only when they are written
/// without `=`, because whether the next word is their value cannot be told.
const LOOKED_AT: [&str; 14] = [
    "bip",
    "bridge",
    "cgroup-parent",
    "exec-root",
    "firewall-backend",
    "fixed-cidr",
    "http-proxy",
    "https-proxy",
    "mtu",
    "no-proxy",
    "storage-driver",
    "tlscacert",
    "tlscert",
    "tlskey",
];

/// Flags whose value we take.
const VALUED: [&str; 6] = ["host", "config-file", "data-root", "pidfile", "group", "containerd"];

impl DaemonArguments {
    /// Sorts `arguments` (without the program's name).
    pub fn parse<I: IntoIterator<Item = OsString>>(arguments: I) -> Self {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some((name, inline)) = flag(&argument) else {
                parsed.rest.push(argument);
                continue;
            };
            parsed.flags.insert(name.clone());
            if !VALUED.contains(&name.as_str()) {
                parsed.rest.push(argument);
                let known = LOOKED_AT.contains(&name.as_str()) || REPEATED.iter().any(|(flag, _)| *flag == name);
                let separate = if known && inline.is_none() { arguments.next() } else { None };
                let value = inline.or_else(|| separate.as_ref().map(|value| value.to_string_lossy().into_owned()));
                parsed.note(&name, value);
                parsed.rest.extend(separate);
                continue;
            }
            let separate = if inline.is_none() { arguments.next() } else { None };
            let value = inline.or_else(|| separate.as_ref().map(|value| value.to_string_lossy().into_owned()));
            if parsed.take(&name, value) {
                continue;
            }
            parsed.rest.push(argument);
            parsed.rest.extend(separate);
        }
        parsed
    }

    /// Notes what dockerd is told by a flag that it gets as it was typed.
    fn note(&mut self, name: &str, value: Option<String>) {
        let value = value.map_or(Value::Null, Value::String);
        let Some((_, key)) = REPEATED.iter().find(|(flag, _)| *flag == name) else {
            self.told.insert(name.to_owned(), value);
            return;
        };
        match self.told.entry((*key).to_owned()).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(values) => values.push(value),
            other => *other = value,
        }
    }

    /// Notes the value; true when dockerd must not see the flag because dindctl acts on it.
    fn take(&mut self, name: &str, value: Option<String>) -> bool {
        let Some(value) = value else { return false };
        match name {
            // Sockets of other kinds are dockerd's own business.
            "host" if value.starts_with("unix://") || value.starts_with("tcp://") || !value.contains("://") => {
                self.hosts.push(value);
                return true;
            }
            "config-file" => {
                self.config_file = Some(value.into());
                return true;
            }
            "data-root" => self.data_root = Some(value.into()),
            "pidfile" => self.pid_file = Some(value.into()),
            "group" => self.group = Some(value),
            "containerd" => self.containerd = Some(value),
            _ => {}
        }
        false
    }

    /// Whether dockerd will only print something and end (`--version`, `--help`, `--validate`).
    pub fn only_asks(&self) -> bool {
        ["version", "help", "validate"].iter().any(|name| self.flags.contains(*name))
            || self.rest.iter().any(|argument| argument == "-v" || argument == "-h")
    }
}

/// Splits `--name=value`, `--name`, `-Xvalue`, `-X=value`, `-X` into the long name and the value that is in the same word.
fn flag(argument: &OsStr) -> Option<(String, Option<String>)> {
    let text = argument.to_str()?;
    if let Some(long) = text.strip_prefix("--") {
        if long.is_empty() {
            return None;
        }
        return Some(match long.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (long.to_owned(), None),
        });
    }
    let (short, long) = SHORT.iter().find(|(short, _)| text.starts_with(short))?;
    let rest = text.strip_prefix(short)?;
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Some(((*long).to_owned(), (!rest.is_empty()).then(|| rest.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> DaemonArguments {
        DaemonArguments::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn hosts_are_taken_in_every_spelling() {
        let parsed =
            parse(&["-H", "tcp://a:1", "--host=unix:///x", "-Htcp://b:2", "--host", "c:3", "-H=d:4", "-H", "fd://"]);
        assert_eq!(parsed.hosts, ["tcp://a:1", "unix:///x", "tcp://b:2", "c:3", "d:4"]);
        assert_eq!(parsed.rest, ["-H", "fd://"]);
    }

    #[test]
    fn other_arguments_stay_as_they_were_typed() {
        let words = ["--data-root", "/d", "--tls=false", "--label", "x", "-D", "--log-level", "debug"];
        let parsed = parse(&words);
        assert_eq!(parsed.rest, words);
        assert_eq!(parsed.data_root, Some("/d".into()));
        assert!(parsed.flags.contains("tls") && parsed.flags.contains("debug"));
    }

    #[test]
    fn a_flag_without_its_value_is_left_for_dockerd_to_complain_about() {
        assert_eq!(parse(&["--data-root"]).rest, ["--data-root"]);
        assert_eq!(parse(&["--host"]).rest, ["--host"]);
    }

    #[test]
    fn what_dockerd_is_told_is_known_by_the_keys_of_its_file() {
        let parsed =
            parse(&["--dns", "1.1.1.1", "--dns=9.9.9.9", "--mtu", "1400", "--iptables=false", "--debug", "--x"]);
        assert_eq!(
            serde_json::json!(parsed.told),
            serde_json::json!({"dns": ["1.1.1.1", "9.9.9.9"], "mtu": "1400", "iptables": "false", "debug": null, "x": null})
        );
        assert_eq!(parsed.rest.len(), 8);
    }

    #[test]
    fn questions_are_told_from_daemons() {
        assert!(parse(&["--version"]).only_asks());
        assert!(parse(&["--validate", "--config-file", "x"]).only_asks());
        assert!(!parse(&["--debug"]).only_asks());
    }
}
