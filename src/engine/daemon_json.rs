/*!
The user's daemon.json and what dindctl makes of it.

dockerd is started on a merged copy: `hosts` become sockets that dindctl binds, and live-restore is switched on so
that nested containers outlive a crash of the daemon. It is set in the file and not by flag because only what stands
in the file can be changed by a reload, which is how it is switched off again for an orderly stop.
*/
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::arguments::DaemonArguments;

/// Where dockerd looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/docker/daemon.json";

/// A daemon.json that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DaemonJsonError {
    /// It was named by `--config-file` and cannot be read.
    #[error("cannot read the daemon configuration {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("the daemon configuration {} is not valid JSON: {source}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is JSON, but no object.
    #[error("the daemon configuration {} must be a JSON object, for example {{\"debug\": true}}", .path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
    },
    /// `hosts` is not a list of strings.
    #[error("`hosts` in {} must be a list of strings, for example [\"unix:///var/run/docker.sock\"]", .path.display())]
    Hosts {
        /// The file.
        path: PathBuf,
    },
}

impl DaemonJsonError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "mount the file into the container or drop --config-file".into(),
            _ => "correct the file; `dockerd --validate --config-file FILE` checks the rest of it".into(),
        }
    }
}

/// A daemon.json as the user wrote it; empty when there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DaemonJson {
    path: PathBuf,
    map: Map<String, Value>,
}

/// What dindctl wants in the daemon's configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    /// live-restore as the operator asked for it; `None` decides by `swarm`.
    pub live_restore: Option<bool>,
    /// Whether the daemon takes part in a swarm, which refuses to work with live-restore.
    pub swarm: bool,
    /// Options that the preparation chose; they give way to the user's file and flags.
    pub options: BTreeMap<String, Value>,
}

/// The daemon's configuration as dockerd gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    map: Map<String, Value>,
    /// `hosts` of the file.
    pub hosts: Vec<String>,
    /// Whether dindctl can switch live-restore by a reload of the merged file.
    pub live_restore_in_file: bool,
    /// Whether live-restore is on, wherever it was set.
    pub live_restore: bool,
}

impl DaemonJson {
    /// Reads the file named by `--config-file`, which must exist, or the default one below `root`, which may not.
    pub fn read(root: &Path, arguments: &DaemonArguments) -> Result<Self, DaemonJsonError> {
        let default = root.join(DEFAULT_PATH.trim_start_matches('/'));
        let (path, required) = match &arguments.config_file {
            Some(path) => (path.clone(), true),
            None => (default, false),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(Self { path, map: Map::new() }),
            Err(source) => Err(DaemonJsonError::Read { path, source }),
        }
    }

    /// Parses the text of a file; an empty file is an empty configuration, as dockerd has it.
    pub fn parse(path: PathBuf, text: &str) -> Result<Self, DaemonJsonError> {
        // As dockerd does: editors of Windows begin with one (`getConflictFreeConfiguration` in moby's daemon/config).
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Ok(Self { path, map: Map::new() });
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(Self { path, map }),
            Ok(_) => Err(DaemonJsonError::NotAnObject { path }),
            Err(source) => Err(DaemonJsonError::Syntax { path, source }),
        }
    }

    /// A text value of the file.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.map.get(key).and_then(Value::as_str)
    }

    /// The file, whether it is there or not.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file sets `key` to.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// Whether the file sets `key`.
    pub fn sets(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Addresses of the API that the file names.
    pub fn hosts(&self) -> Result<Vec<String>, DaemonJsonError> {
        self.map.get("hosts").map_or_else(
            || Ok(Vec::new()),
            |value| {
                serde_json::from_value(value.clone()).map_err(|_| DaemonJsonError::Hosts { path: self.path.clone() })
            },
        )
    }

    /// Everything that dockerd is told by this file and by flags, by the keys of the file.
    pub fn told<'a>(&'a self, arguments: &'a DaemonArguments) -> impl Iterator<Item = (String, Value)> + 'a {
        self.map.iter().chain(&arguments.told).map(|(key, value)| (key.clone(), value.clone()))
    }

    /// Decides what dockerd gets.
    pub fn merge(&self, arguments: &DaemonArguments, decided: &Decided) -> Result<Merged, DaemonJsonError> {
        let mut map = self.map.clone();
        for (key, value) in &decided.options {
            if !arguments.told.contains_key(key) {
                map.entry(key).or_insert_with(|| value.clone());
            }
        }
        let hosts = self.hosts()?;
        map.remove("hosts");
        let by_flag = arguments.flags.contains("live-restore");
        let live_restore = match map.get("live-restore").and_then(Value::as_bool) {
            Some(set) => set,
            None if by_flag => {
                !arguments.rest.iter().any(|word| word.to_str().is_some_and(|word| word == "--live-restore=false"))
            }
            None => {
                let on = decided.live_restore.unwrap_or(!decided.swarm);
                map.insert("live-restore".into(), Value::Bool(on));
                on
            }
        };
        let live_restore_in_file = map.contains_key("live-restore");
        Ok(Merged { map, hosts, live_restore_in_file, live_restore })
    }
}

impl Merged {
    /// The text of the merged file.
    pub fn text(&self) -> String {
        Value::Object(self.map.clone()).to_string()
    }

    /// The text for an orderly stop: the daemon takes its containers down with it.
    pub fn text_for_stop(&self) -> String {
        let mut map = self.map.clone();
        map.insert("live-restore".into(), Value::Bool(false));
        Value::Object(map).to_string()
    }
}

/// Whether the daemon that owns `data_root` takes part in a swarm.
pub fn is_swarm_member(data_root: &Path) -> bool {
    data_root.join("swarm/docker-state.json").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(text: &str, words: &[&str], swarm: bool) -> Merged {
        let arguments = DaemonArguments::parse(words.iter().map(Into::into));
        DaemonJson::parse("daemon.json".into(), text)
            .unwrap()
            .merge(&arguments, &Decided { swarm, ..Decided::default() })
            .unwrap()
    }

    #[test]
    fn live_restore_is_on_unless_somebody_said_otherwise() {
        assert_eq!(merge("", &[], false).text(), r#"{"live-restore":true}"#);
        assert_eq!(merge("", &[], true).text(), r#"{"live-restore":false}"#);
        assert_eq!(merge(r#"{"live-restore":false}"#, &[], false).text(), r#"{"live-restore":false}"#);
    }

    #[test]
    fn a_flag_is_never_repeated_in_the_file() {
        let merged = merge("", &["--live-restore"], false);
        assert_eq!(merged.text(), "{}");
        assert!(merged.live_restore && !merged.live_restore_in_file);
        assert!(!merge("", &["--live-restore=false"], false).live_restore);
    }

    #[test]
    fn a_decision_gives_way_to_file_and_flags() {
        let options = [("mtu".to_owned(), 1400.into()), ("ip6tables".into(), false.into()), ("bip".into(), "x".into())];
        let decided = Decided { options: options.into(), ..Decided::default() };
        let arguments = DaemonArguments::parse(["--ip6tables"].map(Into::into));
        let file = DaemonJson::parse("x".into(), r#"{"bip":"10.0.0.1/24"}"#).unwrap();
        let merged = file.merge(&arguments, &decided).unwrap();
        assert_eq!(merged.text(), r#"{"bip":"10.0.0.1/24","live-restore":true,"mtu":1400}"#);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_it() {
        assert_eq!(merge("\u{feff}{\"mtu\":1400}", &[], false).text(), r#"{"live-restore":true,"mtu":1400}"#);
        assert_eq!(merge("\u{feff}", &[], false).text(), r#"{"live-restore":true}"#);
    }

    #[test]
    fn hosts_move_out_of_the_file_and_all_else_stays() {
        let merged = merge(r#"{"hosts":["unix:///a"],"mtu":1400}"#, &[], false);
        assert_eq!(merged.hosts, ["unix:///a"]);
        assert_eq!(merged.text(), r#"{"live-restore":true,"mtu":1400}"#);
        assert_eq!(merged.text_for_stop(), r#"{"live-restore":false,"mtu":1400}"#);
    }

    #[test]
    fn broken_files_are_named_with_the_place() {
        let error = DaemonJson::parse("/etc/docker/daemon.json".into(), "{\n  \"debug\": yes\n}").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/etc/docker/daemon.json") && text.contains("line 2"), "{text}");
        assert!(DaemonJson::parse("x".into(), "[]").is_err());
        let hosts = DaemonJson::parse("x".into(), r#"{"hosts":"a"}"#).unwrap();
        assert!(hosts.merge(&DaemonArguments::default(), &Decided::default()).is_err());
    }
}
