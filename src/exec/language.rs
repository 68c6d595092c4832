//! Languages as data: which image runs them, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rejection::{Rejection, nearest};

/// How programs of one language are run. An entry of the configuration (`[exec.languages.NAME]`) or built in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// Image reference; `{version}` stands for the version asked for.
    pub image: String,
    /// Version when none is asked for. Empty where the image has no `{version}`.
    #[serde(default)]
    pub version: String,
    /// Program and arguments; `{file}` stands for the path of the program text.
    pub command: Vec<String>,
    /// Suffix of the program text's file name, with its dot.
    #[serde(default)]
    pub suffix: String,
    /// Variables for every run; `{workdir}` stands for the working directory. The caller's own win.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Command that installs requirements; `{requirements}` stands for their list. Not used yet.
    #[serde(default)]
    pub installer: Vec<String>,
}

impl Language {
    /// Image reference for `version`, or for the default version.
    pub fn image_for(&self, version: Option<&str>) -> String {
        self.image.replace("{version}", version.unwrap_or(&self.version))
    }

    /// Command line that runs the program text at `file`.
    pub fn command_for(&self, file: &str) -> Vec<String> {
        self.command.iter().map(|word| word.replace("{file}", file)).collect()
    }

    /// Variables for a run in `workdir`.
    pub fn env_for(&self, workdir: &str) -> BTreeMap<String, String> {
        let fill = |(name, value): (&String, &String)| (name.clone(), value.replace("{workdir}", workdir));
        self.env.iter().map(fill).collect()
    }
}

/// The languages that are there without any configuration.
pub fn built_in() -> BTreeMap<String, Language> {
    let entry = |image: &str, version: &str, program: &str, suffix: &str| Language {
        image: image.to_owned(),
        version: version.to_owned(),
        command: vec![program.to_owned(), "{file}".to_owned()],
        suffix: suffix.to_owned(),
        env: BTreeMap::new(),
        installer: Vec::new(),
    };
    let mut python = entry("python:{version}-slim", "3.13", "python", ".py");
    for (name, value) in [
        // What was printed before a kill must not be lost in a buffer.
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        // The program text lies elsewhere; modules beside the caller's files are still found.
        ("PYTHONPATH", "{workdir}"),
    ] {
        python.env.insert(name.to_owned(), value.to_owned());
    }
    BTreeMap::from([
        ("python".to_owned(), python),
        ("node".to_owned(), entry("node:{version}-slim", "20", "node", ".js")),
        ("sh".to_owned(), entry("debian:trixie-slim", "", "sh", ".sh")),
        ("bash".to_owned(), entry("debian:trixie-slim", "", "bash", ".sh")),
    ])
}

/// The language called `name`: the configuration's, else the built-in one.
pub fn find(name: &str, configured: &BTreeMap<String, Language>) -> Result<Language, Rejection> {
    let mut all = built_in();
    all.extend(configured.iter().map(|(name, language)| (name.clone(), language.clone())));
    if let Some(language) = all.get(name) {
        return Ok(language.clone());
    }
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near}? Known are {}; --image runs any other", names.join(", ")),
        None => format!("known are {}; --image REF -- CMD runs any other", names.join(", ")),
    };
    Err(Rejection::new("LANGUAGE", name, "is not a known language").with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_file_are_filled_in() {
        let python = find("python", &BTreeMap::new()).unwrap();
        assert_eq!(python.image_for(None), "python:3.13-slim");
        assert_eq!(python.image_for(Some("3.12")), "python:3.12-slim");
        assert_eq!(python.command_for("/tmp/a.py"), ["python", "/tmp/a.py"]);
        assert_eq!(python.env_for("/w").get("PYTHONPATH").map(String::as_str), Some("/w"));
    }

    #[test]
    fn unknown_language_names_the_nearest() {
        let hint = find("pyhton", &BTreeMap::new()).unwrap_err().hint().unwrap();
        assert!(hint.starts_with("did you mean python?"), "{hint}");
    }

    #[test]
    fn configuration_adds_and_overrides() {
        let mut own = built_in();
        own.get_mut("python").unwrap().image = "my/python:{version}".to_owned();
        let ruby: Language = serde_json::from_str(r#"{"image":"ruby:3","command":["ruby","{file}"]}"#).unwrap();
        own.insert("ruby".to_owned(), ruby);
        assert_eq!(find("python", &own).unwrap().image_for(None), "my/python:3.13");
        assert_eq!(find("ruby", &own).unwrap().image_for(None), "ruby:3");
    }

    #[test]
    fn unknown_key_is_an_error() {
        let text = r#"{"image":"ruby:3","command":["ruby"],"comand":[]}"#;
        assert!(serde_json::from_str::<Language>(text).is_err());
    }
}
