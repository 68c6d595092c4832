/*!
The environment as data: read once, changed by argument, handed to children whole.
*/
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Variables in the order in which they were found; a name stands once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// What of it is text, for requests to a daemon.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text = |(name, value): &(OsString, OsString)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()));
        self.0.iter().filter_map(text).collect()
    }

    /// One made of pairs.
    pub fn from_pairs(pairs: Vec<(OsString, OsString)>) -> Self {
        Self(pairs)
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// The value as text, when it is set, not empty and text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str).filter(|value| !value.is_empty())
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// All variables.
    pub fn pairs(&self) -> &[(OsString, OsString)] {
        &self.0
    }

    /// All variables, for a child.
    pub fn into_pairs(self) -> Vec<(OsString, OsString)> {
        self.0
    }
}
