//! Results of `exec` on their way out: text, one JSON object, or lines of events.

use super::say::{self, Level, Voice};
use crate::exec::chain::{chain, one_line};
use crate::exec::error::ExecError;
use crate::exec::exit;
use crate::exec::outcome::{Report, Status};
use crate::exec::rejection::Rejection;
use crate::exec::request::{Limits, Request};
use crate::exec::result::{RunResult, Timing};
use crate::exec::run::Verdict;
use crate::exec::sink::Delivery;

/// Form of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The program's own output.
    Text,
    /// One object.
    Json,
    /// One line for every event, the result last.
    Events,
}

impl Form {
    /// From `--output` and `--stream`.
    pub fn new(output: &str, stream: bool) -> Result<Self, Rejection> {
        match (output, stream) {
            ("text", false) => Ok(Self::Text),
            ("json", false) => Ok(Self::Json),
            ("json", true) => Ok(Self::Events),
            ("text", true) => {
                Err(Rejection::new("--stream", "", "text is streamed anyway").with_hint("add -o json, or leave it out"))
            }
            _ => Err(Rejection::new("--output", output, "is not a form").with_hint("choose text or json")),
        }
    }

    /// How output travels in this form.
    pub const fn delivery(self) -> Delivery {
        match self {
            Self::Text => Delivery::Text,
            Self::Json => Delivery::Collect,
            Self::Events => Delivery::Events,
        }
    }
}

/// Gives the answer to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its form.
    pub form: Form,
    /// For what is no result.
    pub voice: Voice,
    /// Identifier of the run.
    pub id: String,
}

impl Answer {
    /// Nothing was tried.
    pub fn refused(&self, request: Option<&Request>, error: &ExecError) -> u8 {
        self.failed(request, error, Timing::default())
    }

    /// It was tried, and the program did not run.
    pub fn failed(&self, request: Option<&Request>, error: &ExecError, timing: Timing) -> u8 {
        self.voice.fail(error, error.hint().as_deref());
        self.object(&RunResult::of_problem(&self.id, request, error.status(), error.problem(), timing));
        match error {
            ExecError::Start { exit, .. } => *exit,
            ExecError::Interrupted(number) => exit::of_signal(*number),
            _ => exit::OWN,
        }
    }

    /// The program ran, or the agent says why not.
    pub fn done(&self, request: &Request, verdict: Verdict, output: (Vec<u8>, Vec<u8>), timing: Timing) -> u8 {
        let Verdict { report, image, interrupted, closed } = verdict;
        let code = match (interrupted, closed) {
            (Some(number), _) => exit::of_signal(number),
            (None, true) => exit::of_signal(libc::SIGPIPE),
            (None, false) => exit::of_report(&report),
        };
        if let Some(problem) = &report.problem {
            self.voice.fail_with(&problem.message, problem.hint.as_deref());
        } else if let (Form::Text, Some(words)) = (self.form, cause(&report, &request.limits)) {
            self.voice.say(Level::Warn, &words);
        }
        if !closed {
            self.object(&RunResult::of_report(request, &image, report, output, timing));
        }
        code
    }

    fn object(&self, result: &RunResult) {
        #[derive(serde::Serialize)]
        struct Event<'a> {
            event: &'static str,
            #[serde(flatten)]
            result: &'a RunResult,
        }
        let text = match self.form {
            Form::Text => return,
            Form::Json => serde_json::to_string(result),
            Form::Events => serde_json::to_string(&Event { event: "result", result }),
        };
        match text {
            Ok(text) => say::result(&text),
            Err(error) => self.voice.fail_with(&format!("cannot write the result: {error}"), None),
        }
    }
}

/// Why a run ended, where its exit code leaves it open.
fn cause(report: &Report, limits: &Limits) -> Option<String> {
    let size = bytesize::ByteSize;
    Some(match report.status {
        Status::Timeout => format!("the program did not end within {}", humantime::format_duration(limits.timeout)),
        Status::CpuTimeout => {
            let time = limits.cpu_time.unwrap_or_default();
            format!("the program used up its CPU time of {}", humantime::format_duration(time))
        }
        Status::Oom => format!("the program needed more than its {} of memory", size(limits.memory)),
        Status::OutputLimit => format!("the program wrote more than {}", size(limits.max_output.unwrap_or_default())),
        Status::DiskLimit => format!("a writable file system of the program is full ({} each)", size(limits.tmpfs)),
        Status::Signaled => format!("the program was ended by signal {}", report.signal?),
        _ => return None,
    })
}

/// An error as one line.
pub fn line(error: &ExecError) -> String {
    one_line(&chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(Form::new("text", false).unwrap(), Form::Text);
        assert_eq!(Form::new("json", true).unwrap(), Form::Events);
        assert!(Form::new("text", true).unwrap_err().hint().is_some());
        assert!(Form::new("yaml", false).unwrap_err().to_string().contains("--output"));
    }
}
