//! dumb-init.

use libtest_mimic::Trial;
use nix::libc;

use super::Step::{Quiet, Stops, Told, ToldAndStops};
use super::{Case, GONE, STANDING, compared};

pub fn trials() -> Vec<Trial> {
    compared("dumb-init", [words(), ends(), surroundings(), signals(), job_control()].concat())
}

/// Numbers that are passed on and change nothing else.
fn passed_on() -> Vec<i32> {
    let kept =
        [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGUSR2];
    (1..32).filter(|number| !kept.contains(number)).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).collect()
}

fn words() -> Vec<Case> {
    let refused = |name, words: &[&str]| Case::new(name, words);
    vec![
        refused("has_help", &["--help"]).first_lines(),
        refused("has_short_help", &["-vh"]).first_lines(),
        refused("says_its_version", &["--version"]),
        refused("says_its_version_shortly", &["-V", "--nonsense"]),
        refused("wants_a_program", &[]),
        refused("wants_a_program_behind_options", &["-c", "--"]),
        refused("refuses_unknown_options", &["--yolo", "true"]),
        refused("refuses_unknown_letters", &["-x", "true"]),
        refused("refuses_ambiguous_names", &["--ver", "true"]),
        refused("refuses_values_where_none_belong", &["--verbose=1", "true"]),
        refused("refuses_a_missing_rule", &["-r"]),
        refused("refuses_a_missing_long_rule", &["--rewrite"]),
        refused("refuses_half_rules", &["-r", "15", "true"]),
        refused("refuses_words_as_rules", &["-r", "TERM:INT", "true"]),
        refused("refuses_large_rules", &["-r", "1:32", "true"]),
        refused("refuses_rules_for_nothing", &["-r", "0:1", "true"]),
        Case::new("takes_short_forms_of_long_names", &["--sing", "--rew", "15:2", "echo", "x"]),
        Case::new("takes_rules_with_blanks", &["-r", " 15: 2x", "echo", "x"]),
        Case::new("leaves_options_behind_the_program", &["echo", "-v", "--help", "--", "-c"]),
    ]
}

const AWAITED: &str =
    "set -- sh -c '\"$@\"; code=$?; until [ -s $DIR/got ]; do sleep 0.02; done; cat $DIR/got; exit $code' sh \"$@\"";
const NOT_AWAITED: &str = "set -- sh -c '\"$@\"; code=$?; sleep 0.3; cat $DIR/got 2>/dev/null; exit $code' sh \"$@\"";

fn ends() -> Vec<Case> {
    let mut cases = Vec::new();
    // With a session the rest is awaited; without one nothing comes, however long one waits.
    for (session, name) in [
        ("1", ["gives_the_code", "gives_the_signal", "misses_a_program", "tells_all", "says_farewell"]),
        (
            "0",
            [
                "gives_the_code_without_session",
                "gives_the_signal_without_session",
                "misses_a_program_without_session",
                "tells_all_without_session",
                "says_no_farewell_without_session",
            ],
        ),
    ] {
        let [code, signal, missing, all, farewell] = name;
        cases.extend(
            [
                Case::script(code, &[], "exit 42"),
                Case::script(signal, &[], "kill -KILL $$"),
                Case::new(missing, &["--", "/doesnotexist"]),
                Case::script(all, &["-v"], "sleep 0.1; exit 3"),
                Case::script(
                    farewell,
                    &[],
                    "sh -c 'trap \"echo term > $DIR/got; exit\" TERM; echo up > $DIR/up; while :; do sleep 0.02; done' 2>/dev/null & \
                     until [ -e $DIR/up ]; do sleep 0.02; done; exit 4",
                )
                .before(if session == "1" { AWAITED } else { NOT_AWAITED }),
            ]
            .map(|case| case.with("DUMB_INIT_SETSID", session)),
        );
    }
    cases.extend([
        Case::script("tells_all_by_variable", &[], "sleep 0.1; exit 3").with("DUMB_INIT_DEBUG", "1"),
        Case::script("tells_all_in_single_child_mode", &["-v", "-c"], "sleep 0.1; exit 3"),
        Case::script("takes_other_values_for_nothing", &[], "exit 3")
            .with("DUMB_INIT_DEBUG", "true")
            .with("DUMB_INIT_SETSID", "no"),
        Case::new("cannot_execute_a_folder", &["/etc"]),
        Case::new("misses_a_program_in_the_path", &["no-such-program"]),
        Case::new("runs_scripts_without_an_interpreter", &["./script", "x"])
            .before("printf 'echo $0 $1; exit 9' > script; chmod +x script"),
        Case::script("gives_the_code_as_pid_one", &[], "exit 42").being_one(),
        Case::script("collects_orphans_as_pid_one", &["-v"], GONE).being_one(),
    ]);
    cases
}

fn surroundings() -> Vec<Case> {
    vec![
        Case::script(
            "leaves_the_folder_itself",
            &[],
            "until [ $(readlink /proc/$PPID/cwd) = / ]; do sleep 0.02; done; readlink /proc/$PPID/cwd; readlink /proc/self/cwd | sed s,$DIR,DIR,",
        ),
        Case::script("makes_a_session", &[], STANDING),
        Case::script("makes_none_in_single_child_mode", &["-c"], STANDING),
        Case::script("makes_a_session_as_pid_one", &[], STANDING).being_one(),
        Case::script("keeps_the_environment", &[], "tr '\\0' '\\n' < /proc/self/environ | sed s,$DIR,DIR,")
            .before("export A=1 EMPTY= LISTEN_PID=99 LISTEN_FDS=2"),
        Case::script("resets_signals", &[], "grep -E 'Sig(Blk|Ign)' /proc/self/status")
            .before("set -- env --ignore-signal=INT,TTOU,PIPE,RTMIN+2 --block-signal=TERM,TTIN,USR1,RTMIN+5 \"$@\""),
        Case::new("hands_open_files_on", &["--", "ls", "/proc/self/fd"]).before("exec 5</dev/null 9</dev/null"),
    ]
}

fn signals() -> Vec<Case> {
    let all: Vec<_> = passed_on().into_iter().map(Told).chain([Told(libc::SIGUSR2)]).collect();
    let end = Told(libc::SIGUSR2);
    vec![
        Case::signals("passes_every_signal_on", &[], &all),
        Case::signals("passes_every_signal_on_without_session", &["-c"], &all),
        Case::signals("passes_every_signal_on_as_pid_one", &[], &all).being_one(),
        Case::signals("rewrites", &["-r", "15:2", "-r", "2:15", "-r3:1"], &[Told(15), Told(2), Told(3), Told(1), end]),
        Case::signals("takes_the_last_rule", &["-r", "15:2", "-r", "15:3"], &[Told(15), end]),
        Case::signals(
            "drops_what_is_rewritten_to_nothing",
            &["-r", "2:0", "-r", "28:0"],
            &[Quiet(2), Quiet(28), Told(1), end],
        ),
        Case::signals(
            "tells_of_every_signal",
            &["-v", "-r", "15:2", "-r", "1:0"],
            &[Told(15), Quiet(1), Told(3), Told(40), end],
        ),
        Case::script("rewrites_its_farewell", &["-v", "-r", "15:10"], "exit 3"),
    ]
}

fn job_control() -> Vec<Case> {
    let end = Told(libc::SIGUSR2);
    let all = [
        Stops(libc::SIGTSTP),
        Told(libc::SIGCONT),
        Stops(libc::SIGTTIN),
        Told(libc::SIGCONT),
        Stops(libc::SIGTTOU),
        Told(libc::SIGCONT),
        end,
    ];
    let told = all.map(|step| if let Stops(number) = step { ToldAndStops(number) } else { step });
    vec![
        // Stopping and continuing a child may each be told by SIGCHLD.
        Case { aside: Some("signal 17."), ..Case::signals("stops_with_its_session", &["-v"], &all) },
        Case::signals("stops_behind_its_child_without_session", &["-c"], &told),
        Case::signals("stops_by_other_rules_too", &["-r", "20:1", "-r", "21:15", "-r", "22:2"], &told),
        Case::signals("cannot_stop_as_pid_one", &["-c"], &[Told(libc::SIGTSTP), Told(libc::SIGTTIN), end]).being_one(),
    ]
}
