/*!
Exit codes of `dindctl exec`, all of them here.

| code | meaning |
|---|---|
| the program's own | it ended by itself |
| 124 | wall-clock or CPU time limit |
| 125 | dindctl, usage or daemon error |
| 126 | the program cannot be executed |
| 127 | the program was not found |
| 137 | out of memory, or ended by SIGKILL (an output limit with `--on-output-limit kill` as well) |
| 128+n | ended by signal n; also when the caller was interrupted by it |

They follow docker and coreutils and cannot carry every cause; `status` in the JSON result does.
*/

use super::outcome::{Report, Status};

/// A limit on time was hit.
pub const TIMEOUT: u8 = 124;
/// dindctl, the usage or the daemon is to blame.
pub const OWN: u8 = 125;
/// The program cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const NOT_FOUND: u8 = 127;
/// Out of memory or SIGKILL.
pub const KILLED: u8 = 137;

/// Exit code for a run that the agent reported about.
pub fn of_report(report: &Report) -> u8 {
    match report.status {
        Status::Timeout | Status::CpuTimeout => TIMEOUT,
        Status::Oom | Status::OutputLimit => KILLED,
        Status::PullFailed | Status::Rejected | Status::Internal | Status::BuildFailed | Status::InstallFailed => {
            of_problem(report).unwrap_or(OWN)
        }
        Status::Ok | Status::Nonzero | Status::Signaled | Status::DiskLimit | Status::Killed => {
            let own = report.returncode.and_then(|code| u8::try_from(code & 0xff).ok());
            own.or_else(|| report.signal.map(of_signal)).or_else(|| of_problem(report)).unwrap_or(OWN)
        }
    }
}

fn of_problem(report: &Report) -> Option<u8> {
    match report.problem.as_ref()?.code.as_str() {
        "not_found" => Some(NOT_FOUND),
        "not_executable" => Some(NOT_EXECUTABLE),
        _ => None,
    }
}

/// Exit code of somebody ended by a signal.
pub fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(OWN)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::{Problem, Truncated, Usage};
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Status::Ok, Some(0), None, None, 0)]
    #[case(Status::Nonzero, Some(3), None, None, 3)]
    #[case(Status::Nonzero, Some(137), None, None, 137)]
    #[case(Status::Nonzero, Some(-1), None, None, 255)]
    #[case(Status::Signaled, None, Some(11), None, 139)]
    #[case(Status::Signaled, None, Some(9), None, KILLED)]
    #[case(Status::Timeout, None, Some(9), None, TIMEOUT)]
    #[case(Status::Timeout, Some(0), None, None, TIMEOUT)]
    #[case(Status::CpuTimeout, None, Some(9), None, TIMEOUT)]
    #[case(Status::Oom, None, Some(9), None, KILLED)]
    #[case(Status::Oom, Some(1), None, None, KILLED)]
    #[case(Status::OutputLimit, None, Some(9), None, KILLED)]
    #[case(Status::DiskLimit, Some(1), None, None, 1)]
    #[case(Status::Killed, None, Some(15), None, 143)]
    #[case(Status::Internal, None, None, None, OWN)]
    #[case(Status::Rejected, None, None, Some("not_found"), NOT_FOUND)]
    #[case(Status::Internal, None, None, Some("not_executable"), NOT_EXECUTABLE)]
    #[case(Status::Rejected, None, None, Some("workdir_missing"), OWN)]
    fn codes(
        #[case] status: Status,
        #[case] returncode: Option<i32>,
        #[case] signal: Option<i32>,
        #[case] problem: Option<&str>,
        #[case] want: u8,
    ) {
        let problem =
            problem.map(|code| Problem { code: code.to_owned(), message: String::new(), hint: None, retryable: false });
        let (truncated, usage) = (Truncated::default(), Usage::default());
        let report = Report { status, returncode, signal, oom_killed: false, truncated, usage, problem };
        assert_eq!(of_report(&report), want);
    }
}
