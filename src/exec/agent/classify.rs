/*!
Cause of death, from what was seen. Pure, so that every row of the table can be tested.
*/
use crate::exec::outcome::Status;

/// Why the agent itself ended the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The wall-clock deadline passed.
    Deadline,
    /// All processes together used more CPU time than allowed.
    CpuTime,
    /// A stream passed its cap and the job wants that to be fatal.
    OutputLimit,
    /// The caller cancelled, or someone stops the container.
    Cancelled,
    /// The caller sent something that is not part of the protocol.
    Protocol,
}

/// How the main program ended, as `wait` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// It returned this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// All that matters for the verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// How the program ended; `None` when it would not even die of SIGKILL in the time given.
    pub(super) death: Option<Death>,
    /// Whether we ended it, and why.
    pub(super) ended_by: Option<Cause>,
    /// Whether the kernel's OOM killer struck in the sandbox during the run.
    pub(super) oom_killed: bool,
    /// Whether a writable file system was full when the program ended.
    pub(super) disk_full: bool,
}

/// The verdict. What we did ourselves comes first: a program that dies of our SIGKILL is not a victim of the OOM
/// killer. A program that outlived the OOM kill of a child keeps its own ending.
pub(super) fn classify(evidence: &Evidence) -> Status {
    match (evidence.ended_by, evidence.death) {
        (Some(Cause::Deadline), _) => Status::Timeout,
        (Some(Cause::CpuTime), _) => Status::CpuTimeout,
        (Some(Cause::OutputLimit), _) => Status::OutputLimit,
        (Some(Cause::Cancelled), _) => Status::Killed,
        (Some(Cause::Protocol), _) | (None, None) => Status::Internal,
        (None, Some(Death::Exited(0))) => Status::Ok,
        (None, Some(Death::Signaled(libc::SIGKILL))) if evidence.oom_killed => Status::Oom,
        (None, Some(_)) if evidence.disk_full => Status::DiskLimit,
        (None, Some(Death::Signaled(_))) => Status::Signaled,
        (None, Some(Death::Exited(_))) => Status::Nonzero,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KILL: Option<Death> = Some(Death::Signaled(libc::SIGKILL));
    const fn exit(code: i32) -> Death {
        Death::Exited(code)
    }

    #[rstest]
    #[case::success(Some(exit(0)), None, false, false, Status::Ok)]
    #[case::failure(Some(exit(3)), None, false, false, Status::Nonzero)]
    #[case::a_code_above_128_is_no_signal(Some(exit(137)), None, false, false, Status::Nonzero)]
    #[case::own_crash(Some(Death::Signaled(libc::SIGSEGV)), None, false, false, Status::Signaled)]
    #[case::sigkill_by_itself(KILL, None, false, false, Status::Signaled)]
    #[case::oom(KILL, None, true, false, Status::Oom)]
    #[case::oom_with_full_disk(KILL, None, true, true, Status::Oom)]
    #[case::survived_a_childs_oom(Some(exit(0)), None, true, false, Status::Ok)]
    #[case::failed_after_a_childs_oom(Some(exit(137)), None, true, false, Status::Nonzero)]
    #[case::crashed_after_a_childs_oom(Some(Death::Signaled(libc::SIGABRT)), None, true, false, Status::Signaled)]
    #[case::disk(Some(exit(1)), None, false, true, Status::DiskLimit)]
    #[case::disk_by_signal(Some(Death::Signaled(libc::SIGBUS)), None, false, true, Status::DiskLimit)]
    #[case::full_but_content(Some(exit(0)), None, false, true, Status::Ok)]
    #[case::timeout(KILL, Some(Cause::Deadline), false, false, Status::Timeout)]
    #[case::timeout_beats_oom_and_disk(KILL, Some(Cause::Deadline), true, true, Status::Timeout)]
    #[case::timeout_with_graceful_exit(Some(exit(0)), Some(Cause::Deadline), false, false, Status::Timeout)]
    #[case::timeout_unkillable(None, Some(Cause::Deadline), false, false, Status::Timeout)]
    #[case::cpu(KILL, Some(Cause::CpuTime), false, false, Status::CpuTimeout)]
    #[case::output(KILL, Some(Cause::OutputLimit), false, false, Status::OutputLimit)]
    #[case::output_though_it_ended(Some(exit(0)), Some(Cause::OutputLimit), false, false, Status::OutputLimit)]
    #[case::cancel(KILL, Some(Cause::Cancelled), false, false, Status::Killed)]
    #[case::nonsense_from_the_caller(KILL, Some(Cause::Protocol), false, false, Status::Internal)]
    #[case::no_death_seen(None, None, false, false, Status::Internal)]
    fn the_table(
        #[case] death: Option<Death>,
        #[case] ended_by: Option<Cause>,
        #[case] oom_killed: bool,
        #[case] disk_full: bool,
        #[case] expected: Status,
    ) {
        assert_eq!(classify(&Evidence { death, ended_by, oom_killed, disk_full }), expected);
    }
}
