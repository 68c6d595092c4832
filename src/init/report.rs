/*!
Why the supervisor ended, and the exit code of the container that follows from it.

| what happened | exit code |
|---|---|
| a stop was asked for and everything ended in time | 0, or 128 plus the signal's number ([`StopCode`]) |
| the same, with a command that returned a code of its own | that code |
| a stop was asked for and something had to be killed at the deadline | 137 |
| the command ended by itself | its code, or 128 plus the signal's number |
| the command could not be started | 127 not found, 126 not executable, 125 anything else |
| a service that is not restarted ended by itself (no command) | as for the command |
| a daemon was given up: crash loop, or a cause that stays (a command that runs goes on without it, unless told otherwise) | 120 |
| the command was given up: crash loop of one that is restarted | as if it had not been restarted |

A command that a stop ends by its own signal, or that answers that signal with 128 plus its number as shells do,
counts as ended in time.
*/
use nix::sys::signal::Signal;

use super::policy::Reason;
use super::spec::{Diagnosis, StopCode};
use crate::sys::wait::Exit;

/// Exit code when a daemon was given up. None that programs and shells usually have, so that it names the cause.
pub const GIVEN_UP: u8 = 120;

/// Why the supervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// Signal number of the request to stop.
    Requested(i32),
    /// The command, or a service that is not restarted, ended by itself.
    Ended {
        /// Its name.
        service: String,
        /// How.
        exit: Exit,
    },
    /// The command could not be started.
    NotStarted {
        /// Its name.
        service: String,
        /// 125, 126 or 127.
        code: u8,
        /// What failed, with path and errno.
        message: String,
    },
    /// A service was given up.
    GaveUp {
        /// Its name.
        service: String,
        /// Why it is not started again.
        reason: Reason,
        /// How the last process ended; `None` when it could not be started.
        last: Option<Exit>,
        /// What its last lines tell.
        diagnosis: Option<Diagnosis>,
    },
}

/// How the supervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// Why.
    pub reason: ExitReason,
    /// Exit code for the container.
    pub code: u8,
    /// Services that did not end in time and got `SIGKILL`.
    pub killed: Vec<String>,
    /// Orphans of unknown origin that were reaped over the whole life.
    pub orphans: u64,
}

/// The exit code by the table above. `command` is how the command ended, in a mode that has one, and what its stop plan sends;
/// after a service was given up, only where that was the command.
pub fn exit_code(reason: &ExitReason, killed: bool, command: Option<(Exit, Signal)>, stop: StopCode) -> u8 {
    match reason {
        ExitReason::Requested(_) if killed => Exit::Signal(Signal::SIGKILL as i32).code(),
        ExitReason::Requested(number) => match command {
            Some((exit, signal))
                if ![*number, signal as i32].map(|n| Exit::Signal(n).code()).contains(&exit.code()) =>
            {
                exit.code()
            }
            _ if stop == StopCode::Signal => Exit::Signal(*number).code(),
            _ => 0,
        },
        ExitReason::Ended { exit, .. } => exit.code(),
        ExitReason::NotStarted { code, .. } => *code,
        ExitReason::GaveUp { .. } => command.map_or(GIVEN_UP, |(exit, _)| exit.code()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TERM: i32 = Signal::SIGTERM as i32;

    #[rstest]
    #[case::in_time(false, None, 0)]
    #[case::daemon_killed(true, None, 137)]
    #[case::command_ended_by_the_signal(false, Some(Exit::Signal(TERM)), 0)]
    #[case::command_answers_like_a_shell(false, Some(Exit::Code(143)), 0)]
    #[case::command_is_content(false, Some(Exit::Code(0)), 0)]
    #[case::command_complains(false, Some(Exit::Code(3)), 3)]
    #[case::command_crashed(false, Some(Exit::Signal(11)), 139)]
    fn after_a_requested_stop(#[case] killed: bool, #[case] command: Option<Exit>, #[case] code: u8) {
        let command = command.map(|exit| (exit, Signal::SIGTERM));
        assert_eq!(exit_code(&ExitReason::Requested(TERM), killed, command, StopCode::Zero), code);
        let own = code != 0 || command.is_some_and(|(exit, _)| exit == Exit::Code(0));
        let other = if own { code } else { 143 };
        assert_eq!(exit_code(&ExitReason::Requested(TERM), killed, command, StopCode::Signal), other);
    }

    #[test]
    fn what_was_given_up_decides() {
        let reason = ExitReason::GaveUp {
            service: "x".into(),
            reason: Reason::CrashLoop { deaths: 5 },
            last: None,
            diagnosis: None,
        };
        assert_eq!(exit_code(&reason, false, None, StopCode::Zero), GIVEN_UP);
        assert_eq!(exit_code(&reason, true, Some((Exit::Code(3), Signal::SIGTERM)), StopCode::Signal), 3);
    }

    #[test]
    fn a_command_passes_its_own_end_through() {
        let ended = |exit| ExitReason::Ended { service: "command".into(), exit };
        assert_eq!(exit_code(&ended(Exit::Code(42)), false, None, StopCode::Signal), 42);
        assert_eq!(exit_code(&ended(Exit::Signal(9)), false, None, StopCode::Zero), 137);
        assert_eq!(
            exit_code(&ended(Exit::Code(0)), true, None, StopCode::Signal),
            0,
            "its code stays its own when others are killed"
        );
    }
}
