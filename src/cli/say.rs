/*!
How commands speak: the result on stdout, everything else on stderr as `dindctl: …` or as one JSON object a line.
*/
use std::error::Error;
use std::io::Write;

use super::config::Config;

/// Form and threshold of dindctl's own lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Least important level shown.
    pub level: Level,
}

/// Importance of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The command fails because of it.
    Error,
    /// Something is worse than it should be.
    Warn,
    /// Worth knowing.
    Info,
    /// For finding out why.
    Debug,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Default for Voice {
    fn default() -> Self {
        Self { json: false, level: Level::Info }
    }
}

impl Voice {
    /// As the settings say.
    pub fn new(config: &Config) -> Self {
        let level = match config.get("log.level") {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "debug" => Level::Debug,
            _ => Level::Info,
        };
        Self { json: config.get("log.format") == "json", level }
    }

    /// Says one line.
    pub fn say(self, level: Level, message: &str) {
        if level > self.level {
            return;
        }
        let line = if self.json {
            serde_json::json!({ "level": level.word(), "message": message }).to_string()
        } else if matches!(level, Level::Error | Level::Warn) {
            format!("dindctl: {}: {message}", level.word())
        } else {
            format!("dindctl: {message}")
        };
        put(&line);
    }

    /// Says why the command failed and what to do.
    pub fn fail(self, error: &(dyn Error + 'static), hint: Option<&str>) {
        self.fail_with(&chain(error), hint);
    }

    /// The same for a message that is ready.
    pub fn fail_with(self, message: &str, hint: Option<&str>) {
        if self.json {
            put(&serde_json::json!({ "level": "error", "message": message, "hint": hint }).to_string());
            return;
        }
        self.say(Level::Error, message);
        if let Some(hint) = hint {
            put(&format!("dindctl: hint: {hint}"));
        }
    }
}

/// An error and what caused it, as one line. A cause that the message already ends with is not repeated.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// Prints a result on stdout. A reader that went away (`dindctl … | head`) is no failure.
pub fn result(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn put(line: &str) {
    // Nobody is left to be told when stderr itself is gone.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
