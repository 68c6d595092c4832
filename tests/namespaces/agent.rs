//! The sandbox agent as PID 1, against well-meaning and hostile programs.

use libtest_mimic::{Failed, Trial};

#[path = "agent/endings.rs"]
mod endings;
#[path = "agent/harness.rs"]
mod harness;
#[path = "agent/isolation.rs"]
mod isolation;
#[path = "agent/start.rs"]
mod start;
#[path = "agent/streams.rs"]
mod streams;

type Test = fn();

/// All tests of the agent, ignored where what they need cannot be had.
pub fn trials() -> Vec<Trial> {
    let tests: &[(&'static str, Test)] = &[
        ("says_hello_and_reports", start::says_hello_and_reports),
        ("program_sees_a_bare_identity", start::program_sees_a_bare_identity),
        ("root_without_power", isolation::root_without_power),
        ("names_of_users_resolve", start::names_of_users_resolve),
        ("environment_and_files", start::environment_and_files),
        ("stdin_10_mb_echo", streams::stdin_10_mb_echo),
        ("stdin_10_mb_echo_without_window", streams::stdin_10_mb_echo_without_window),
        ("stdin_empty_and_absent", streams::stdin_empty_and_absent),
        ("stdin_never_read_and_cancel", streams::stdin_never_read_and_cancel),
        ("stdin_not_wanted", streams::stdin_not_wanted),
        ("stdin_never_read_and_program_ends", streams::stdin_never_read_and_program_ends),
        ("output_head_and_tail", streams::output_head_and_tail),
        ("output_limit_kills", streams::output_limit_kills),
        ("streaming_needs_no_memory", streams::streaming_needs_no_memory),
        ("both_streams_at_once", streams::both_streams_at_once),
        ("binary_output_survives", streams::binary_output_survives),
        ("caller_that_does_not_read", streams::caller_that_does_not_read),
        ("deadline_against_trap", endings::deadline_against_trap),
        ("deadline_with_grace", endings::deadline_with_grace),
        ("deadline_against_daemons", endings::deadline_against_daemons),
        ("deadline_against_sigstop", endings::deadline_against_sigstop),
        ("cpu_time_limit", endings::cpu_time_limit),
        ("background_child_holds_stdout", endings::background_child_holds_stdout),
        ("caller_leaves", endings::caller_leaves),
        ("cancel", endings::cancel),
        ("stopped_container", endings::stopped_container),
        ("signals_reach_the_program", endings::signals_reach_the_program),
        ("program_not_found", start::program_not_found),
        ("program_not_executable", start::program_not_executable),
        ("death_by_signal", endings::death_by_signal),
        ("stages", start::stages),
        ("workspace_mismatch", isolation::workspace_mismatch),
        ("workspace_copy", isolation::workspace_copy),
        ("workspace_copy_cancelled", isolation::workspace_copy_cancelled),
        ("workspace_copy_hostile", isolation::workspace_copy_hostile),
        ("workdir_refused", start::workdir_refused),
        ("disk_limit", endings::disk_limit),
        ("oom", endings::oom),
        ("terminal", start::terminal),
        ("agent_cannot_be_reached", isolation::agent_cannot_be_reached),
        ("orphans_are_reaped", endings::orphans_are_reaped),
        ("idle", start::idle),
        ("nonsense_from_the_caller", start::nonsense_from_the_caller),
        ("without_a_namespace", start::without_a_namespace),
    ];
    let hindrance = harness::hindrance();
    if let Some(reason) = &hindrance {
        eprintln!("agent tests are ignored: {reason}");
    }
    let trial = |(name, test): &(&'static str, Test)| {
        let test = *test;
        let no_memory_group = *name == "oom" && endings::MemoryGroup::new(64 << 20).is_none();
        if no_memory_group {
            eprintln!("agent::oom is ignored: no memory control group can be created here");
        }
        Trial::test(format!("agent::{name}"), move || {
            test();
            Ok::<(), Failed>(())
        })
        .with_ignored_flag(hindrance.is_some() || no_memory_group)
    };
    tests.iter().map(trial).collect()
}
