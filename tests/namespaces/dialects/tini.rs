//! tini and `docker-init`.

use libtest_mimic::Trial;
use nix::libc;

use super::Step::{Quiet, Told};
use super::{Case, GONE, STANDING, compared};

pub fn trials() -> Vec<Trial> {
    compared("tini", [words(), ends(), failures(), surroundings(), signals()].concat())
}

/// Numbers that tini passes on, each as one that the reader prints.
fn passed_on() -> Vec<i32> {
    let kept = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGABRT,
        libc::SIGTRAP,
        libc::SIGSYS,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGCHLD,
        libc::SIGUSR2,
    ];
    (1..32).filter(|number| !kept.contains(number)).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).collect()
}

fn words() -> Vec<Case> {
    vec![
        Case::new("says_its_version", &["--version"]).first_lines(),
        Case::new("has_no_version_beside_other_words", &["--version", "x"]).first_lines(),
        Case::new("has_help", &["-h"]).first_lines(),
        Case::new("wants_a_program", &[]).first_lines(),
        Case::new("wants_a_program_behind_options", &["-g", "--"]).first_lines(),
        Case::new("refuses_unknown_options", &["-x", "true"]).first_lines(),
        Case::new("refuses_long_options", &["--foo", "true"]).first_lines(),
        Case::new("refuses_options_without_value", &["-e"]).first_lines(),
        Case::new("refuses_numbers_of_signals", &["-p", "15", "true"]),
        Case::new("refuses_short_names_of_signals", &["-p", "TERM", "true"]),
        Case::new("refuses_large_codes", &["-e", "256", "true"]),
        Case::new("refuses_codes_that_are_no_numbers", &["-e", "1x", "true"]),
        Case::new("takes_letters_in_one_word", &["-gwe3", "--", "sh", "-c", "exit 3"]),
        Case::new("takes_a_program_without_dashes", &["echo", "a", "b"]),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        Case::script("gives_zero", &[], "exit 0"),
        Case::script("gives_the_code", &[], "exit 42"),
        Case::script("gives_the_largest_code", &[], "exit 255"),
        Case::script("gives_128_and_the_signal", &[], "kill -TERM $$"),
        Case::script("gives_128_and_the_signal_that_kills", &[], "kill -KILL $$"),
        Case::new("gives_128_and_the_real_time_signal", &["--", "bash", "-c", "kill -RTMIN+3 $$"]),
        Case::script("remaps_codes", &["-e", "3", "-e", "7"], "exit 7"),
        Case::script("remaps_no_others", &["-e", "3", "-e", "7"], "exit 8"),
        Case::script("remaps_signals", &["-e", "143"], "kill -TERM $$"),
        Case::script("warns_of_orphans_it_collects", &["-s", "-w"], GONE),
        Case::script("collects_orphans_by_variable", &[], ORPHAN).with("TINI_SUBREAPER", ""),
        Case::script("collects_orphans_by_option", &["-s"], ORPHAN),
        Case::script("leaves_orphans_to_others", &[], ORPHAN),
        Case::script("says_nothing_of_orphans_when_quiet", &[], "exit 1").with("TINI_VERBOSITY", "0"),
        Case::script("collects_orphans_as_pid_one", &["-w"], ORPHAN).being_one(),
        Case::script("gives_the_code_as_pid_one", &[], "exit 42").being_one(),
        Case::script("leaves_the_rest_behind", &[], "sleep 1000 & exit 5").being_one(),
    ]
}

/// Whose child an orphan becomes: that of its grandparent's parent (1) or not (0).
const ORPHAN: &str = "sh -c '(sleep 0.2; read -r a b c ppid rest < /proc/self/stat; echo $ppid > $DIR/parent) & exit 0'; \
                      until [ -s $DIR/parent ]; do sleep 0.02; done; echo $(($(cat $DIR/parent) == $PPID))";

fn failures() -> Vec<Case> {
    vec![
        Case::new("misses_a_program", &["--", "no-such-program"]),
        Case::new("misses_a_path", &["--", "/no/such/program", "x"]),
        Case::new("cannot_execute_a_folder", &["--", "/etc"]),
        Case::new("cannot_execute_a_text", &["--", "/etc/passwd"]),
        Case::new("cannot_look_below_a_file", &["--", "/etc/passwd/x"]),
        Case::new("cannot_execute_nothing", &["--", ""]),
        Case::new("remaps_a_missing_program", &["-e", "127", "--", "no-such-program"]),
        Case::new("misses_a_program_as_pid_one", &["--", "no-such-program"]).being_one(),
        Case::new("runs_scripts_without_an_interpreter", &["--", "./script", "x"])
            .before("printf 'echo $0 $1; exit 9' > script; chmod +x script"),
        Case::new("searches_where_path_says", &["--", "script"]).before(
            "mkdir a b; printf x > a/script; printf '#!/bin/sh\\necho b' > b/script; chmod +x b/script; PATH=a:b:$PATH",
        ),
        Case::new("searches_a_default_without_path", &["--", "sh", "-c", "echo here"]).before("unset PATH"),
    ]
}

fn surroundings() -> Vec<Case> {
    vec![
        Case::script(
            "keeps_the_folder",
            &[],
            "readlink /proc/self/cwd | sed s,$DIR,DIR,; readlink /proc/$PPID/cwd | sed s,$DIR,DIR,",
        ),
        Case::script("puts_the_program_into_a_group", &[], STANDING),
        Case::script("puts_the_program_into_a_group_as_pid_one", &[], STANDING).being_one(),
        Case::script("keeps_the_environment", &[], "tr '\\0' '\\n' < /proc/self/environ | sed s,$DIR,DIR,")
            .before("export A=1 B='x=y' EMPTY= NOTIFY_SOCKET=/x LISTEN_PID=99 LISTEN_FDS=2"),
        Case::script("keeps_signals_as_they_are", &[], "grep -E 'Sig(Blk|Ign)' /proc/self/status")
            .before("set -- env --ignore-signal=INT,TTOU,PIPE,RTMIN+2 --block-signal=TERM,TTIN,USR1,RTMIN+5 \"$@\""),
        Case::script("keeps_signals_as_they_are_as_pid_one", &[], "grep -E 'Sig(Blk|Ign)' /proc/self/status")
            .before("set -- env --ignore-signal=HUP --block-signal=TERM \"$@\"")
            .being_one(),
        Case::new("starts_with_a_clean_state", &["--", "grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]),
        Case::new("hands_open_files_on", &["--", "ls", "/proc/self/fd"]).before("exec 5</dev/null 9</dev/null"),
        Case::script("hands_closed_streams_on", &[], "ls /proc/$$/fd > $DIR/fds; cat $DIR/fds >&2").before("exec >&-"),
        Case::script("keeps_limits", &[], "ulimit -n; ulimit -c; umask").before("ulimit -n 123; umask 027"),
    ]
}

fn signals() -> Vec<Case> {
    let all: Vec<_> = passed_on().into_iter().map(Told).chain([Told(libc::SIGUSR2)]).collect();
    let group = "trap 'wait; echo shell; exit 4' USR1; \
                 sh -c 'trap \"echo inner; exit 0\" USR1; echo up; while :; do sleep 0.02; done' 2>/dev/null & \
                 while :; do wait; done";
    let burst = [
        Quiet(libc::SIGSTOP),
        Quiet(libc::SIGRTMIN() + 1),
        Quiet(libc::SIGRTMIN() + 1),
        Quiet(libc::SIGRTMIN() + 1),
        Told(libc::SIGCONT),
    ];
    vec![
        Case::signals("passes_every_signal_on", &[], &all),
        Case::signals("passes_every_signal_on_as_pid_one", &[], &all).being_one(),
        Case::signals("ignores_job_control_of_its_own", &[], &[Quiet(libc::SIGTTIN), Quiet(libc::SIGTTOU), Told(libc::SIGTSTP), Told(libc::SIGUSR2)]),
        Case::signals("dies_of_faults", &[], &[Quiet(libc::SIGSEGV)]),
        Case::signals("dies_of_aborts", &[], &[Quiet(libc::SIGABRT)]),
        Case::signals("lives_on_with_faults_as_pid_one", &[], &[Quiet(libc::SIGABRT), Told(libc::SIGUSR2)]).being_one(),
        Case::signals("keeps_real_time_signals_while_stopped", &[], &[&burst[..], &[Quiet(libc::SIGURG), Told(libc::SIGUSR2)]].concat()),
        Case { steps: vec![Told(libc::SIGUSR1)], ..Case::script("signals_the_group_by_option", &["-g"], group) },
        Case { steps: vec![Told(libc::SIGUSR1)], ..Case::script("signals_the_group_by_variable", &[], group) }.with("TINI_KILL_PROCESS_GROUP", ""),
        Case::signals("gets_a_signal_when_its_parent_dies", &["-p", "SIGUSR1"], &[]).before(
            "(\"$@\" & until grep -q ready stdout; do sleep 0.02; done); until grep -q '^10$' stdout; do sleep 0.02; done; set -- true",
        ),
    ]
}
