//! What the supervisor tells those who ask.

use std::time::Duration;

use super::Supervisor;
use crate::init::banner;
use crate::init::control::{Request, refusal};
use crate::init::logpump::Pump;
use crate::init::say::Logger;
use crate::init::spec::Notice;
use crate::init::state::{STATUS_SCHEMA, Status};

impl Supervisor {
    pub(super) fn serve_control(&mut self) {
        // Taken out for the time, because an answer needs the rest.
        let Some(mut control) = self.control.take() else { return };
        control.turn(self.now(), |request| match request {
            Request::Status => self.status(),
        });
        self.control = Some(control);
    }

    /// Tells, or no longer tells, why there is no daemon.
    pub(super) fn set_banner(&mut self, notice: Option<&Notice>) {
        self.state.current.problem = notice.map(|notice| notice.message.clone());
        let Some(path) = &self.banner_path else { return };
        let done = match notice {
            Some(notice) => banner::write(path, notice),
            None => banner::remove(path),
        };
        if let Err(error) = done {
            let said = format!("the note for terminals at {} is not as it should be: {error}", path.display());
            self.streams.warn(&said);
        }
    }

    /// From the start of PID 1 to the moment that the supervisor's own times count from.
    fn offset(&self) -> Duration {
        self.epoch.saturating_duration_since(self.state.started)
    }

    pub(super) fn refresh_state(&mut self) {
        let offset = self.offset();
        self.state.current.services = self.units.iter().map(|unit| unit.state(offset)).collect();
    }

    fn status(&mut self) -> String {
        self.refresh_state();
        let lost = self.units.iter().filter_map(|unit| unit.pump.as_ref()).map(Pump::lost).sum();
        let status = Status {
            schema: STATUS_SCHEMA.to_owned(),
            uptime_ms: u64::try_from(self.state.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            orphans: self.orphans,
            lost_log_bytes: lost,
            supervisor: self.state.current.clone(),
        };
        serde_json::to_string(&status).unwrap_or_else(|error| refusal(&error.to_string()))
    }
}
