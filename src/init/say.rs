/*!
dindctl's own lines: `dindctl: …` for people, one JSON object a line for log collectors.
*/
use std::io::Write;

use serde::Serialize;

/// How much a line matters; a less important one than the threshold is not printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed that was asked for.
    Error,
    /// What to do about the failure that was said before it. As important as that.
    Hint,
    /// Something is wrong and was worked around.
    Warn,
    /// What a user wants to know of a normal run.
    Info,
    /// For finding faults.
    Debug,
}

/// Shape of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `dindctl: message`.
    #[default]
    Text,
    /// `{"time":…,"level":…,"message":…}`; time in seconds since 1970.
    Json,
}

/// Format and threshold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Say {
    /// Shape of the lines.
    pub format: Format,
    /// The least important level that is printed.
    pub level: Level,
}

impl Default for Say {
    fn default() -> Self {
        Self { format: Format::Text, level: Level::Info }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: f64,
    level: Level,
    message: &'a str,
}

impl Say {
    /// The line for `message`, newline included; `None` below the threshold. A message of several lines stays one
    /// line: control characters are escaped, because the words of other programs and paths end up in here.
    /// `time` is in seconds since 1970.
    pub fn render(&self, level: Level, message: &str, time: f64) -> Option<String> {
        if level > self.level.max(Level::Hint) {
            return None;
        }
        Some(match self.format {
            Format::Text => {
                let label = match level {
                    Level::Error => "error: ",
                    Level::Hint => "hint: ",
                    Level::Warn => "warning: ",
                    Level::Info | Level::Debug => "",
                };
                format!("dindctl: {label}{}\n", printable(message))
            }
            Format::Json => {
                let line = JsonLine { time, level, message };
                // A struct of a number, a word and a string always has a JSON form.
                serde_json::to_string(&line).unwrap_or_else(|_| format!("{message:?}")) + "\n"
            }
        })
    }
}

#[derive(Serialize)]
struct ServiceLine<'a> {
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
    service: &'a str,
    message: &'a str,
}

/// The line of a service as one JSON object, without newline; what is not UTF-8 in it is replaced. `level` is there where the
/// line itself names it, as those of dockerd and containerd do (`level=info`).
pub fn service_line(service: &str, line: &[u8], time: f64) -> String {
    let message = String::from_utf8_lossy(line);
    let line = ServiceLine { time, level: level_of(&message), service, message: &message };
    serde_json::to_string(&line).unwrap_or_else(|_| format!("{message:?}"))
}

fn level_of(line: &str) -> Option<Level> {
    match line.split(' ').find_map(|word| word.strip_prefix("level="))? {
        "panic" | "fatal" | "error" => Some(Level::Error),
        "warning" | "warn" => Some(Level::Warn),
        "info" => Some(Level::Info),
        "debug" | "trace" => Some(Level::Debug),
        _ => None,
    }
}

/// Replaces control characters by their escapes, so that foreign text cannot steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// Something that takes dindctl's own lines.
pub trait Logger {
    /// Hands one message over.
    fn log(&mut self, level: Level, message: &str);

    /// A failure.
    fn error(&mut self, message: &str) {
        self.log(Level::Error, message);
    }

    /// Something odd.
    fn warn(&mut self, message: &str) {
        self.log(Level::Warn, message);
    }

    /// A note.
    fn info(&mut self, message: &str) {
        self.log(Level::Info, message);
    }

    /// A detail.
    fn debug(&mut self, message: &str) {
        self.log(Level::Debug, message);
    }
}

/// Writes lines to standard error at once. It may block there, so the supervisor has its own way
/// ([`super::outlet`]); this one serves what runs before it.
#[derive(Debug, Default)]
pub struct StderrLogger(pub Say);

impl Logger for StderrLogger {
    fn log(&mut self, level: Level, message: &str) {
        if let Some(line) = self.0.render(level, message, unix_time()) {
            // Nobody is left to be told when standard error itself fails.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

/// Seconds since 1970.
pub fn unix_time() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_lines_name_the_program_and_the_severity() {
        let say = Say::default();
        assert_eq!(say.render(Level::Info, "ready", 0.0).unwrap(), "dindctl: ready\n");
        assert_eq!(say.render(Level::Error, "no", 0.0).unwrap(), "dindctl: error: no\n");
        assert_eq!(say.render(Level::Debug, "detail", 0.0), None);
    }

    #[test]
    fn json_lines_are_one_object_each() {
        let say = Say { format: Format::Json, level: Level::Debug };
        let line = say.render(Level::Warn, "a\n\"b\"", 1.5).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value, serde_json::json!({"time": 1.5, "level": "warn", "message": "a\n\"b\""}));
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(printable("\u{1b}[2Jx\ty\n"), "\\u{1b}[2Jx\ty\\n");
    }
}
