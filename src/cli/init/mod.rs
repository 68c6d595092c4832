/*!
PID 1 duty and nothing else, in three dialects: that of tini under the names `tini` and `docker-init`, that of
dumb-init under its name, and our own as `dindctl init`. Each reads its words into the same [`PlainOptions`].

The first two are what `docker run --init` starts in foreign images, so they touch neither the configuration nor the
command line of dindctl, and start as fast as the file is mapped.
*/
// This is PID 1's path, in images of others.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod dumb_init;
pub mod getopt;
mod own;
mod tini;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;

pub use self::own::{InitArgs, run, run_typed};
pub use self::tini::VERSION as TINI_VERSION;

use super::Environment;
use crate::init::plain::{PlainOptions, run_plain};

/// What `tini -l` prints.
const LICENCE: &str =
    concat!("dindctl is licensed under MIT or Apache-2.0, as you like.\n\n", include_str!("../../../LICENSE-MIT"));

/// A program whose place we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// tini, and `docker-init`, which is tini.
    Tini,
    /// dumb-init.
    DumbInit,
}

impl Dialect {
    /// By the name that we were called by, with or without a folder.
    pub fn of_name(name: &OsStr) -> Option<Self> {
        match Path::new(name).file_name()?.to_str()? {
            "tini" | "tini-static" | "docker-init" => Some(Self::Tini),
            "dumb-init" => Some(Self::DumbInit),
            _ => None,
        }
    }

    /// Reads the words and runs the command; the exit code for the container.
    pub fn run(self, name: &OsStr, words: &[OsString], environment: &Environment) -> u8 {
        match self {
            Self::Tini => match tini::parse(name, words, environment) {
                Ok(mut parsed) => run_plain(&parsed.options, &mut parsed.voice),
                Err(refusal) => refusal.say(),
            },
            Self::DumbInit => match dumb_init::parse(name, words, environment) {
                Ok(mut parsed) => {
                    parsed.voice.begin();
                    run_plain(&parsed.options, &mut parsed.voice)
                }
                Err(refusal) => refusal.say(),
            },
        }
    }

    /// Whether these words mean something to it: what parsers of untrusted words are tried with.
    pub fn understands(self, words: &[OsString]) -> bool {
        let (name, environment) = (OsStr::new("init"), Environment::default());
        match self {
            Self::Tini => tini::parse(name, words, &environment).is_ok(),
            Self::DumbInit => dumb_init::parse(name, words, &environment).is_ok(),
        }
    }
}

/// Words that were understood.
#[derive(Debug)]
struct Parsed<V> {
    options: PlainOptions,
    voice: V,
}

/// Nothing is run: help, a version, or an error.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: u8,
    line: Line,
}

impl Refusal {
    /// A text on standard output that was asked for.
    fn said(text: &str) -> Self {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        Self { code: 0, line: Line::Output(format!("{text}{end}")) }
    }

    /// A text on standard error.
    fn usage(code: u8, text: String) -> Self {
        Self { code, line: Line::Error(text) }
    }

    fn say(&self) -> u8 {
        self.line.write();
        self.code
    }
}

/// Whole lines for one of the two streams.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Output(String),
    Error(String),
}

impl Line {
    /// Written at once. Nobody is left to be told when that fails.
    fn write(&self) {
        let _ = match self {
            Self::Output(text) => {
                let mut stream = std::io::stdout().lock();
                stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
            }
            Self::Error(text) => std::io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_chooses_the_dialect() {
        for (name, dialect) in [
            ("/sbin/docker-init", Some(Dialect::Tini)),
            ("tini", Some(Dialect::Tini)),
            ("/usr/bin/tini-static", Some(Dialect::Tini)),
            ("./dumb-init", Some(Dialect::DumbInit)),
            ("dindctl", None),
            ("init", None),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(Dialect::of_name(OsStr::new(name)), dialect, "{name}");
        }
    }

    #[test]
    fn the_same_words_mean_different_things() {
        let words: Vec<OsString> = ["-c", "sh"].map(OsString::from).into();
        assert!(!Dialect::Tini.understands(&words));
        assert!(Dialect::DumbInit.understands(&words));
    }
}
