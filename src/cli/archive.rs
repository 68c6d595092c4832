//! What `backup` and `restore` share at the command line.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::FAILED;
use super::say::Voice;
use crate::archive::entry::shown;
use crate::archive::error::ArchiveError;
use crate::archive::manifest::PathText;
use crate::exec::exit;

/// Variable and path of the folder that is meant when none is named.
pub const DEFAULT_FOLDER: (&str, &str) = ("DIND_WORKSPACE_PATH", "/workspaces");
/// Signals that ask for an orderly end.
pub const SIGNALS: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// The answer of the archive's judge is no.
const NO: u8 = 1;
/// Paths that one message names.
const SOME: usize = 10;

/// Says why nothing came of it, and gives the exit code.
pub fn failed(error: &ArchiveError, voice: Voice) -> u8 {
    if let ArchiveError::Interrupted(signal) = error {
        voice.fail_with(&format!("{error}; nothing was changed"), None);
        return exit::of_signal(*signal);
    }
    voice.fail(error, error.hint().as_deref());
    if error.is_verdict() { NO } else { FAILED }
}

/// A few paths and how many more there are.
pub fn some(paths: &[PathText]) -> String {
    let named: Vec<String> = paths.iter().take(SOME).map(PathText::shown).collect();
    let more = paths.len().saturating_sub(SOME);
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

/// The result of a command whose standard output carries something else.
pub fn aside(line: &str) {
    // Nobody is left to be told when stderr itself is gone.
    let _ = writeln!(stderr().lock(), "{line}");
}

/// Progress on a terminal, nothing elsewhere.
#[derive(Debug)]
pub struct Meter(Option<ProgressBar>);

impl Meter {
    /// Begins; `doing` says what takes long.
    pub fn new(doing: &'static str) -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_prefix(doing);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {pos} names, {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }

    /// Tells how far it is: path, names, bytes.
    pub fn tell(&mut self, path: &[u8], (names, bytes): (u64, u64)) {
        if let Some(bar) = &self.0 {
            bar.set_position(names);
            // Often the same as a moment ago, but cheap beside reading a file.
            bar.set_message(format!("{}  {}", bytesize::ByteSize(bytes), shown(path)));
        }
    }

    /// Takes it away.
    pub fn end(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
