//! What the caller gets: the one object of `-o json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::exit;
use super::image::ImageFacts;
use super::outcome::{Problem, RESULT_SCHEMA, Report, Status, Truncated, Usage};
use super::request::{Limits, Request};

/// The result of a run. The order of the fields is part of the contract; the first three are those that callers of
/// a process know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// The exit code of `dindctl exec` for it; null when nothing ran.
    pub returncode: Option<i32>,
    /// Standard output, see `encoding`.
    pub stdout: String,
    /// Standard error, see `encoding`.
    pub stderr: String,
    /// [`RESULT_SCHEMA`].
    pub schema: &'static str,
    /// Identifier of the run.
    pub id: String,
    /// Cause of the end.
    pub status: Status,
    /// Signal that ended the program.
    pub signal: Option<i32>,
    /// Whether the kernel ran out of memory anywhere in the sandbox.
    pub oom_killed: bool,
    /// Whether a limit on time ended it.
    pub timed_out: bool,
    /// Bytes missing from the output.
    pub truncated: Truncated,
    /// `utf-8`, or `base64` for both streams when one of them is not UTF-8.
    pub encoding: &'static str,
    /// Resources used.
    pub usage: Usage,
    /// Where the time went.
    pub timing: Timing,
    /// The stages that ran.
    pub stages: Vec<StageResult>,
    /// Files brought back.
    pub artifacts: Vec<String>,
    /// The image.
    pub image: ImageResult,
    /// The limits that held.
    pub limits: LimitsResult,
    /// Why nothing ran, or null.
    pub error: Option<Problem>,
}

/// Milliseconds of each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// Waiting for a free place.
    pub queue_ms: u64,
    /// From the request to the start of the program.
    pub prepare_ms: u64,
    /// From the start of the program to the report.
    pub run_ms: u64,
    /// Whether a waiting container was used.
    pub warm: bool,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageResult {
    /// Its name.
    pub name: String,
    /// Its exit code.
    pub returncode: Option<i32>,
}

/// The image that ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImageResult {
    /// Reference.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest, empty when it is not known.
    pub digest: String,
}

/// The limits in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // The names carry the units.
pub struct LimitsResult {
    pub memory_bytes: u64,
    pub cpus: f64,
    pub pids: i64,
    pub tmpfs_bytes: u64,
    pub timeout_ms: u64,
    pub cpu_time_ms: Option<u64>,
    pub grace_ms: u64,
    pub max_output_bytes: Option<u64>,
    pub network: String,
}

impl LimitsResult {
    /// Of a request.
    pub fn new(request: &Request) -> Self {
        let Limits { memory, nano_cpus, pids, tmpfs, timeout, cpu_time, grace, max_output, .. } = &request.limits;
        let millis = |duration: &std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        #[allow(clippy::cast_precision_loss)] // At most 4096 × 10⁹.
        let cpus = *nano_cpus as f64 / 1e9;
        Self {
            memory_bytes: *memory,
            cpus,
            pids: *pids,
            tmpfs_bytes: *tmpfs,
            timeout_ms: millis(timeout),
            cpu_time_ms: cpu_time.as_ref().map(millis),
            grace_ms: millis(grace),
            max_output_bytes: *max_output,
            network: request.network.to_string(),
        }
    }
}

impl RunResult {
    /// A run that the agent reported about.
    pub fn of_report(
        request: &Request,
        image: &ImageFacts,
        report: Report,
        output: (Vec<u8>, Vec<u8>),
        timing: Timing,
    ) -> Self {
        let (stdout, stderr, encoding) = encode(output.0, output.1);
        // A program that could not be started has a code too (126, 127), and so far nothing else ran.
        let code = i32::from(exit::of_report(&report));
        let ran = report.returncode.is_some() || report.signal.is_some() || (code != i32::from(exit::OWN));
        let returncode = ran.then_some(code);
        Self {
            returncode,
            stdout,
            stderr,
            schema: RESULT_SCHEMA,
            id: request.id.clone(),
            status: report.status,
            signal: report.signal,
            oom_killed: report.oom_killed,
            timed_out: matches!(report.status, Status::Timeout | Status::CpuTimeout),
            truncated: report.truncated,
            encoding,
            usage: report.usage,
            timing,
            stages: vec![StageResult { name: "run".to_owned(), returncode }],
            artifacts: Vec::new(),
            image: ImageResult { reference: request.image.clone(), digest: image.digest.clone() },
            limits: LimitsResult::new(request),
            error: report.problem,
        }
    }

    /// A run that did not come about. `request` is not there when it was not understood.
    pub fn of_problem(id: &str, request: Option<&Request>, status: Status, problem: Problem, timing: Timing) -> Self {
        Self {
            returncode: None,
            stdout: String::new(),
            stderr: String::new(),
            schema: RESULT_SCHEMA,
            id: id.to_owned(),
            status,
            signal: None,
            oom_killed: false,
            timed_out: false,
            truncated: Truncated::default(),
            encoding: "utf-8",
            usage: Usage::default(),
            timing,
            stages: Vec::new(),
            artifacts: Vec::new(),
            image: ImageResult {
                reference: request.map(|request| request.image.clone()).unwrap_or_default(),
                digest: String::new(),
            },
            limits: request.map(LimitsResult::new).unwrap_or_default(),
            error: Some(problem),
        }
    }
}

fn encode(stdout: Vec<u8>, stderr: Vec<u8>) -> (String, String, &'static str) {
    match (String::from_utf8(stdout), String::from_utf8(stderr)) {
        (Ok(stdout), Ok(stderr)) => (stdout, stderr, "utf-8"),
        (stdout, stderr) => {
            let bytes = |text: Result<String, std::string::FromUtf8Error>| {
                text.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes)
            };
            (STANDARD.encode(bytes(stdout)), STANDARD.encode(bytes(stderr)), "base64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::request;
    use super::*;

    fn report(status: Status, returncode: Option<i32>, signal: Option<i32>) -> Report {
        let (truncated, usage) = (Truncated::default(), Usage::default());
        Report { status, returncode, signal, oom_killed: false, truncated, usage, problem: None }
    }

    #[test]
    fn keys_and_their_order_are_the_contract() {
        let output = (b"1\n".to_vec(), Vec::new());
        let image = ImageFacts { digest: "sha256:2".into(), ..ImageFacts::default() };
        let done = RunResult::of_report(
            &request(|_| ()),
            &image,
            report(Status::Ok, Some(0), None),
            output,
            Timing::default(),
        );
        insta::assert_json_snapshot!(done);
        let problem = Problem { code: "x".into(), message: "m".into(), hint: None, retryable: false };
        let refused = RunResult::of_problem("i", None, Status::Rejected, problem, Timing::default());
        assert_eq!(keys(&done), keys(&refused));
    }

    fn keys(result: &RunResult) -> Vec<String> {
        let text = serde_json::to_string(result).unwrap();
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        value.keys().cloned().collect()
    }

    #[test]
    fn a_signal_has_a_returncode_too() {
        let of = |report| {
            RunResult::of_report(&request(|_| ()), &ImageFacts::default(), report, <_>::default(), Timing::default())
        };
        assert_eq!(of(report(Status::Signaled, None, Some(11))).returncode, Some(139));
        let timeout = of(report(Status::Timeout, None, Some(9)));
        assert_eq!((timeout.returncode, timeout.timed_out), (Some(124), true));
        assert_eq!(of(report(Status::Internal, None, None)).returncode, None);
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64() {
        assert_eq!(encode(b"a".to_vec(), vec![0xff]), ("YQ==".into(), "/w==".into(), "base64"));
        assert_eq!(encode("ä".into(), Vec::new()), ("ä".into(), String::new(), "utf-8"));
    }
}
