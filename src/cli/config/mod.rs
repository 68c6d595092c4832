/*!
Settings from flag, environment, file and default, in this order, each with its source kept.
*/
pub mod keys;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keys::{KEYS, Key, nearest};

use crate::exec::settings::ExecSettings;
use crate::redact::text::Redactor;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/dindctl/config.toml";

/// Names another file.
pub const FILE_VARIABLE: &str = "DINDCTL_CONFIG";

/// Variables of ours begin so.
const PREFIX: &str = "DINDCTL_";

/// Variables with our prefix that are no settings.
const OTHER_VARIABLES: [&str; 2] = [FILE_VARIABLE, "DINDCTL_COMMIT"];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// This file.
    File(PathBuf),
    /// This variable.
    Env(&'static str),
    /// This flag.
    Flag(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Source {
    /// How a value from here goes away again.
    fn removal(&self, key: &str) -> String {
        match self {
            Self::Default => format!("leave out {key}"),
            Self::File(path) => format!("remove {key} from {}", path.display()),
            Self::Env(name) => format!("unset {name}"),
            Self::Flag(name) => format!("leave out {name}"),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was named and cannot be read.
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not valid TOML: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why, one line.
        message: String,
    },
    /// There is no such key.
    #[error("unknown key `{key}` in {}", .path.display())]
    UnknownKey {
        /// The key as it stands in the file.
        key: String,
        /// The file.
        path: PathBuf,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A language of the file is not described as one.
    #[error("bad language `{name}` in the configuration file: {message}")]
    Language {
        /// Its name.
        name: String,
        /// What is wrong, one line.
        message: String,
    },
    /// The value is not of the right form.
    #[error("bad value `{value}` for {key} (from {from}): {why}")]
    BadValue {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        /// Where it comes from.
        from: Source,
        /// What is wrong with it.
        why: String,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::UnknownKey { .. } => Some("`dindctl config show` lists every key".into()),
            Self::BadValue { key, from, .. } => {
                let default = KEYS.iter().find(|known| known.name == key)?.default;
                let instead = if default.is_empty() { "nothing".into() } else { format!("`{default}`") };
                Some(format!("{} for the default, {instead}", from.removal(key)))
            }
            _ => None,
        }
    }
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    values: BTreeMap<&'static str, (String, Source)>,
    /// `[languages.NAME]` tables, read by the room that runs code.
    pub languages: toml::Table,
    /// Things that are odd but no error.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the file (`DINDCTL_CONFIG`, which must exist, or [`DEFAULT_FILE`], which may not) and the variables.
    pub fn load(environment: &[(OsString, OsString)]) -> Result<Self, ConfigError> {
        let named = environment.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, value)| PathBuf::from(value));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => None,
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Self::from_parts(text.as_deref().map(|text| (path.as_path(), text)), environment)
    }

    /// The same from text, for `load` and tests.
    pub fn from_parts(file: Option<(&Path, &str)>, environment: &[(OsString, OsString)]) -> Result<Self, ConfigError> {
        let mut config = Self {
            values: KEYS.iter().map(|key| (key.name, (key.default.to_owned(), Source::Default))).collect(),
            languages: toml::Table::new(),
            warnings: Vec::new(),
        };
        if let Some((path, text)) = file {
            config.take_file(path, text)?;
        }
        config.take_environment(environment)?;
        Ok(config)
    }

    fn take_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            message: error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
        })?;
        if let Some(toml::Value::Table(languages)) = table.remove("languages") {
            self.languages = languages;
        }
        for (section, content) in table {
            let toml::Value::Table(content) = content else {
                return Err(unknown(&section, path));
            };
            for (name, value) in content {
                let name = format!("{section}.{name}");
                let key = keys::find(&name).ok_or_else(|| unknown(&name, path))?;
                let value = match value {
                    toml::Value::String(text) => text,
                    other => other.to_string(),
                };
                self.set(key, value, Source::File(path.to_owned()))?;
            }
        }
        Ok(())
    }

    fn take_environment(&mut self, environment: &[(OsString, OsString)]) -> Result<(), ConfigError> {
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            if let Some(key) = KEYS.iter().find(|key| key.env == name) {
                self.set(key, value.to_string_lossy().into_owned(), Source::Env(key.env))?;
            } else if !OTHER_VARIABLES.contains(&name) {
                // No error: orchestrators add variables by the name of a service (DINDCTL_PORT, DINDCTL_SERVICE_HOST).
                // By what follows the prefix, which would make every short name look like every other.
                let tail = |name: &'static str| name.trim_start_matches(PREFIX);
                let meant = nearest(name.trim_start_matches(PREFIX), KEYS.iter().map(|key| tail(key.env)));
                if let Some(meant) = meant {
                    self.warnings.push(format!("unknown variable {name} is ignored; did you mean {PREFIX}{meant}?"));
                }
            }
        }
        Ok(())
    }

    /// Overrides a setting by a flag, if it was given.
    pub fn flag(&mut self, name: &'static str, flag: &'static str, value: Option<&str>) -> Result<(), ConfigError> {
        match (keys::find(name), value) {
            (Some(key), Some(value)) => self.set(key, value.to_owned(), Source::Flag(flag)),
            _ => Ok(()),
        }
    }

    fn set(&mut self, key: &'static Key, value: String, from: Source) -> Result<(), ConfigError> {
        if let Err(why) = (key.check)(&value) {
            let [value, why] = [value, why].map(without_password);
            return Err(ConfigError::BadValue { key: key.name.into(), value, from, why });
        }
        self.values.insert(key.name, (value, from));
        Ok(())
    }

    /// The value of a setting; empty when unset.
    pub fn get(&self, name: &str) -> &str {
        debug_assert!(keys::find(name).is_some(), "no setting {name}");
        self.values.get(name).map_or("", |(value, _)| value)
    }

    /// Where the value comes from.
    pub fn source(&self, name: &str) -> &Source {
        self.values.get(name).map_or(&Source::Default, |(_, source)| source)
    }

    /// A duration whose form was checked on the way in; `None` when unset.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        keys::parse_duration(self.get(name)).ok()
    }

    /// What the settings say about running code.
    pub fn exec_settings(&self) -> Result<ExecSettings, ConfigError> {
        let mut languages = BTreeMap::new();
        for (name, value) in &self.languages {
            let language = value.clone().try_into().map_err(|error: toml::de::Error| ConfigError::Language {
                name: name.clone(),
                message: error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
            })?;
            languages.insert(name.clone(), language);
        }
        let value = |name| Some(self.get(name).to_owned()).filter(|value| !value.is_empty());
        Ok(ExecSettings {
            languages,
            memory: value("exec.memory"),
            cpus: value("exec.cpus"),
            pids_limit: value("exec.pids_limit"),
            tmpfs_size: value("exec.tmpfs_size"),
            timeout: value("exec.timeout"),
            grace: value("exec.grace"),
            max_output: value("exec.max_output"),
            network: value("exec.network"),
            egress_allow: keys::list(self.get("exec.egress_allow")).map(str::to_owned).collect(),
            runtime: value("exec.runtime"),
            pull: value("exec.pull"),
            ca_file: value("trust.ca_file"),
        })
    }

    /// Every setting with its value and source, in the order of the table.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Key, &str, &Source)> {
        KEYS.iter().map(|key| (key, self.get(key.name), self.source(key.name)))
    }
}

/// What goes to the log must not have the credentials of an address in it.
fn without_password(text: String) -> String {
    if text.contains('@') { Redactor::default().text(&text) } else { text }
}

fn unknown(key: &str, path: &Path) -> ConfigError {
    let nearest = nearest(key, KEYS.iter().map(|key| key.name)).map(str::to_owned);
    ConfigError::UnknownKey { key: key.to_owned(), path: path.to_owned(), nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// A mirror with a password was refused, and the password was in the log.
    #[test]
    fn a_bad_address_is_told_without_its_password() {
        for bad in [
            "https://u:secret@m",
            "https://secret@m",
            "https://:secret@m:x",
            "u:secret@m",
            "https://a,https://u:secret@m",
        ] {
            let error = Config::from_parts(None, &env(&[("DINDCTL_REGISTRY_MIRRORS", bad)])).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("(left out)@m"), "{error}");
        }
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let file = (Path::new("/c.toml"), "[daemon]\nstop_timeout = \"10s\"\nsocket_group = \"wheel\"\n");
        let mut config = Config::from_parts(Some(file), &env(&[("DINDCTL_STOP_TIMEOUT", "20s")])).unwrap();
        assert_eq!(config.get("daemon.socket_group"), "wheel");
        assert_eq!(config.duration("daemon.stop_timeout"), Some(Duration::from_secs(20)));
        config.flag("daemon.stop_timeout", "--stop-timeout", Some("30s")).unwrap();
        assert_eq!(config.get("daemon.stop_timeout"), "30s");
        assert_eq!(config.source("daemon.stop_timeout").to_string(), "flag --stop-timeout");
        assert_eq!(config.source("log.level"), &Source::Default);
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_one() {
        let error = Config::from_parts(Some((Path::new("/c.toml"), "[daemon]\nlisten_ = \"x\"")), &[]).unwrap_err();
        assert_eq!(error.to_string(), "unknown key `daemon.listen_` in /c.toml");
        assert_eq!(error.hint().unwrap(), "did you mean `daemon.listen`?");
    }

    #[test]
    fn a_bad_value_names_key_value_source_and_what_would_be_right() {
        let error = Config::from_parts(None, &env(&[("DINDCTL_LOG_FORMAT", "jsn")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bad value `jsn` for log.format (from environment DINDCTL_LOG_FORMAT): it must be one of text, json; did you mean `json`?"
        );
    }

    #[test]
    fn variables_of_orchestrators_are_no_error_and_near_misses_are_said() {
        let config = Config::from_parts(
            None,
            &env(&[("DINDCTL_PORT", "tcp://1"), ("DINDCTL_SERVICE_HOST", "/x"), ("DINDCTL_LISTN", "x")]),
        )
        .unwrap();
        assert_eq!(config.warnings, ["unknown variable DINDCTL_LISTN is ignored; did you mean DINDCTL_LISTEN?"]);
    }

    #[test]
    fn numbers_and_words_are_both_read_from_the_file() {
        let text = "[exec]\ncpus = 2\npids_limit = 64\n[languages.ruby]\nimage = \"ruby:{version}\"";
        let config = Config::from_parts(Some((Path::new("/c.toml"), text)), &[]).unwrap();
        assert_eq!((config.get("exec.cpus"), config.get("exec.pids_limit")), ("2", "64"));
        assert!(config.languages.contains_key("ruby"));
    }

    #[test]
    fn broken_toml_is_one_line() {
        let error = Config::from_parts(Some((Path::new("/c.toml"), "[daemon\nx")), &[]).unwrap_err();
        assert!(error.to_string().contains("/c.toml") && !error.to_string().contains('\n'), "{error}");
    }
}
