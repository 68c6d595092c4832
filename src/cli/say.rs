/*!
How commands speak: the result on stdout, everything else on stderr as `dindctl: …` or as one JSON object a line.
*/
use std::error::Error;
use std::io::Write;

use super::config::Config;
use crate::init::say::{Format, Say, unix_time};

pub use crate::exec::chain::chain;
pub use crate::init::say::Level;

/// Form and threshold of dindctl's own lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Voice(pub Say);

impl Voice {
    /// As the settings say.
    pub fn new(config: &Config) -> Self {
        let level = match config.get("log.level") {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "debug" => Level::Debug,
            _ => Level::Info,
        };
        let format = if config.get("log.format") == "json" { Format::Json } else { Format::Text };
        Self(Say { format, level })
    }

    /// Says one line.
    pub fn say(self, level: Level, message: &str) {
        if let Some(line) = self.0.render(level, message, unix_time()) {
            // Nobody is left to be told when stderr itself is gone.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    /// What tells of a wait for the daemon.
    pub fn waits(self) -> impl Fn(&str) {
        move |text| self.say(Level::Info, text)
    }

    /// Says why the command failed and what to do. A failure is said whatever the threshold.
    pub fn fail(self, error: &(dyn Error + 'static), hint: Option<&str>) {
        self.fail_with(&chain(error), hint);
    }

    /// The same for a message that is ready.
    pub fn fail_with(self, message: &str, hint: Option<&str>) {
        self.say(Level::Error, message);
        if let Some(hint) = hint {
            self.say(Level::Hint, hint);
        }
    }
}

/// Prints a result on stdout. A reader that went away (`dindctl … | head`) is no failure.
pub fn result(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
