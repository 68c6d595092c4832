//! What the configuration says about running code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::language::Language;

/// The `[exec]` table. Values are written as their options are and checked in the same place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ExecSettings {
    /// Languages added to the built-in ones, or replacing them.
    pub languages: BTreeMap<String, Language>,
    /// Default for `--memory`.
    pub memory: Option<String>,
    /// Default for `--cpus`.
    pub cpus: Option<String>,
    /// Default for `--pids-limit`.
    pub pids_limit: Option<String>,
    /// Default for `--tmpfs-size`.
    pub tmpfs_size: Option<String>,
    /// Default for `--timeout`.
    pub timeout: Option<String>,
    /// Default for `--grace`.
    pub grace: Option<String>,
    /// Default for `--max-output`.
    pub max_output: Option<String>,
    /// Default for `--network`.
    pub network: Option<String>,
    /// Default for `--egress-allow`.
    pub egress_allow: Vec<String>,
    /// Default for `--runtime`.
    pub runtime: Option<String>,
    /// Default for `--pull`.
    pub pull: Option<String>,
    /// File of [authorities](super::authorities) for programs that have a network.
    pub ca_file: Option<String>,
}
