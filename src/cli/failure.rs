/*!
The one shape in which every command fails: a line, a hint, an exit code.
*/
use std::error::Error;

use super::FAILED;
use super::config::ConfigError;
use super::say::{Voice, chain};
use crate::engine::daemon_json::DaemonJsonError;
use crate::engine::settings::Contradiction;
use crate::engine::tls::MissingCertificate;
use crate::exec::daemon::DaemonError;
use crate::exec::error::ExecError;
use crate::home::HomeError;
use crate::prepare::PrepareError;
use crate::prepare::sockets::SocketError;
use crate::probe::ProbeError;
use crate::sys::spawn::{LookUpError, SpawnError};

/// Why a command ends, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What, where and why, one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Exit code.
    pub code: u8,
}

impl Failure {
    /// One made of words.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), code: FAILED }
    }

    fn of(error: &(dyn Error + 'static), hint: Option<String>) -> Self {
        Self { message: chain(error), hint, code: FAILED }
    }

    /// Puts words before the message that say what was being done.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Prints it and gives the exit code.
    pub fn report(&self, voice: Voice) -> u8 {
        voice.fail_with(&self.message, self.hint.as_deref());
        self.code
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<DaemonJsonError> for Failure {
    fn from(error: DaemonJsonError) -> Self {
        Self::of(&error, Some(error.hint()))
    }
}

impl From<Contradiction> for Failure {
    fn from(error: Contradiction) -> Self {
        Self::of(&error, Some("say it in one place only".into()))
    }
}

impl From<MissingCertificate> for Failure {
    fn from(error: MissingCertificate) -> Self {
        Self::of(&error, Some(error.hint()))
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        Self::new(error.to_string(), error.hint())
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        Self { code: error.exit_code(), ..Self::of(&error, None) }
    }
}

impl From<LookUpError> for Failure {
    fn from(error: LookUpError) -> Self {
        Self { code: error.exit_code(), ..Self::of(&error, Some(error.hint().into())) }
    }
}
