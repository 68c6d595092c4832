//! The state as the rest of the container reads it, written when it has changed.

use std::path::PathBuf;
use std::time::Instant;

use crate::init::state::SupervisorState;

/// The file and what is in it.
pub struct StateFile {
    /// Where; `None` writes nothing.
    pub path: Option<PathBuf>,
    /// What it is to hold.
    pub current: SupervisorState,
    /// What it holds.
    pub written: Option<SupervisorState>,
    /// Whether the last attempt failed, and has been told.
    pub failed: bool,
    /// Start of PID 1.
    pub started: Instant,
}

impl StateFile {
    /// Writes the state if it changed. Gives the first failure after a success.
    pub fn write(&mut self) -> Option<String> {
        let path = self.path.as_ref()?;
        if self.written.as_ref() == Some(&self.current) {
            return None;
        }
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let outcome = folder.and_then(|()| self.current.write(path));
        // What could not be written is not tried again before the next change.
        self.written = Some(self.current.clone());
        let failed = std::mem::replace(&mut self.failed, outcome.is_err());
        let error = outcome.err().filter(|_| !failed)?;
        Some(format!("cannot write {}: {error}; `dindctl health` will not see the truth", path.display()))
    }
}
