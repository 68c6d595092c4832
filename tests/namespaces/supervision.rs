//! The real supervisor as PID 1 of a pid namespace of its own, over services that are shell scripts.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dindctl::init::report::GIVEN_UP;
use dindctl::init::state::{Phase, SupervisorState};
use dindctl::sys::signal::send;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::driver::{Config, DAEMON, Service};
use crate::lab::{Lab, Outcome};
use crate::support::{ensure, eventually, pid_namespaces, program, trial};

pub fn trials() -> Vec<Trial> {
    let namespaces = pid_namespaces();
    let anywhere = Ok(());
    let terminals = namespaces.clone().and(program("script"));
    vec![
        trial("a_thousand_orphans_leave_no_zombie", namespaces, a_thousand_orphans_leave_no_zombie),
        trial("a_killed_service_is_started_again", namespaces, a_killed_service_is_started_again),
        trial("a_crash_loop_ends_with_the_last_lines_and_a_code_of_its_own", namespaces, a_crash_loop_ends),
        trial("a_permanent_cause_ends_at_the_first_death", namespaces, a_permanent_cause_ends_at_the_first_death),
        trial("what_was_killed_is_not_judged_by_its_last_words", namespaces, what_was_killed_is_not_judged),
        trial("a_program_that_is_missing_ends_at_once", namespaces, a_program_that_is_missing_ends_at_once),
        trial("term_stops_in_reverse_order", namespaces, term_stops_in_reverse_order),
        trial("a_service_that_ignores_term_is_killed_at_the_deadline", namespaces, killed_at_the_deadline),
        trial("a_command_over_its_limit_leaves_time_for_the_daemon", namespaces, a_command_over_its_limit),
        trial("a_third_term_kills_at_once", namespaces, a_third_term_kills_at_once),
        trial("a_second_term_shortens_the_stop", namespaces, a_second_term_shortens),
        trial("the_first_term_after_the_command_has_ended_is_the_first", namespaces, a_first_term_is_the_first),
        trial("a_delayed_stop_keeps_the_services_alive", namespaces, a_delayed_stop),
        trial("a_second_term_ends_the_delay", namespaces, a_second_term_ends_the_delay),
        trial("a_requested_stop_may_tell_its_signal", namespaces, a_stop_tells_its_signal),
        trial("hup_begins_new_log_files", namespaces, hup_begins_new_log_files),
        trial("a_running_command_outlives_a_daemon_that_is_given_up", namespaces, a_command_outlives_its_daemon),
        trial("a_command_ends_with_its_daemon_where_that_is_wanted", namespaces, a_command_ends_with_its_daemon),
        trial("a_command_that_is_restarted_keeps_its_code", namespaces, a_restarted_command_keeps_its_code),
        trial("a_reload_precedes_the_stop", namespaces, a_reload_precedes_the_stop),
        trial("a_reload_may_be_told_by_a_line_alone", namespaces, a_reload_may_be_told_by_a_line_alone),
        trial("a_stopped_process_is_woken_to_end", namespaces, a_stopped_process_is_woken_to_end),
        trial("a_stop_wakes_what_others_need_to_end", namespaces, a_stop_wakes_what_others_need_to_end),
        trial("a_stop_before_anything_is_ready_is_heard", namespaces, a_stop_while_starting),
        trial("the_command_waits_for_readiness", namespaces, the_command_waits_for_readiness),
        trial("a_notice_of_a_stranger_does_not_count", namespaces, a_notice_of_a_stranger_does_not_count),
        trial("exit_code_and_signal_of_the_command_pass_through", namespaces, exit_codes_pass_through),
        trial("hup_reloads_and_usr1_goes_to_the_main_service", namespaces, hup_and_usr1),
        trial("a_stalled_reader_stops_neither_reaping_nor_the_end", namespaces, a_stalled_reader),
        trial("idle_means_no_wake_up", namespaces, idle_means_no_wake_up),
        trial("children_start_clean", namespaces, children_start_clean),
        trial("logs_are_rotated_and_complete", namespaces, logs_are_rotated_and_complete),
        trial("ctrl_c_reaches_the_command_and_nobody_else", &terminals, ctrl_c_reaches_the_command),
        trial("nothing_is_started_on_the_way_down", namespaces, nothing_is_started_on_the_way_down),
        trial("strays_are_swept_at_the_end", namespaces, strays_are_swept_at_the_end),
        trial("a_subreaper_sweeps_its_own_and_nobody_else", &anywhere, a_subreaper_sweeps_its_own),
    ]
}

/// A script that runs the small daemon of the driver in place of the shell, so that the notices are its own.
pub fn daemon_script(name: &str) -> String {
    format!("exec \"$SELF\" {DAEMON} {name}")
}

/// A script that notes its end by TERM in `events`, after `before_end`.
fn polite(name: &str, before_end: &str) -> String {
    format!("trap 'echo {name} TERM >> $DIR/events; {before_end} exit 0' TERM; while :; do sleep 0.02; done")
}

fn a_thousand_orphans_leave_no_zombie() -> Outcome {
    let script =
        "i=0; while [ $i -lt 1000 ]; do (sleep 0.05 & ); i=$((i+1)); done; echo made >> $DIR/events; exec sleep 1000";
    let mut lab = Lab::services(vec![Service::daemon("a", script)])?;
    lab.until_event("made")?;
    eventually("no zombie", || (lab.zombies() == 0).then_some(()))?;
    let (report, _) = lab.stop()?;
    ensure(report.orphans >= 1000 && report.code == 0, || format!("{report:?}"))
}

fn a_killed_service_is_started_again() -> Outcome {
    let mut lab = Lab::services(vec![Service::daemon("a", "exec sleep 1000")])?;
    let first = lab.until_ready("a")?;
    std::thread::sleep(Duration::from_millis(1100));
    let killed = Instant::now();
    lab.signal_inner(first.pid.ok_or("no pid")?, Signal::SIGKILL)?;
    let second = lab.until("a", |service| service.restarts == 1 && service.phase == Phase::Ready)?;
    let took = killed.elapsed();
    ensure(took < Duration::from_millis(500), || format!("it took {took:?}"))?;
    ensure(second.pid != first.pid, || "the same process".into())?;
    ensure(second.last_exit.as_deref() == Some("signal 9 (SIGKILL)"), || format!("{second:?}"))?;
    ensure(lab.text("stderr").contains("starting it again at once"), || lab.text("stderr"))?;
    let (report, _) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))
}

fn a_crash_loop_ends() -> Outcome {
    let script = "echo start >> $DIR/events; echo this is fatal: no space left on device; exit 3";
    let mut lab = Lab::services(vec![Service::daemon("a", script).notify()])?;
    lab.expect_code(GIVEN_UP)?;
    ensure(lab.events().len() == 5, || format!("{:?}", lab.events()))?;
    let stderr = lab.text("stderr");
    for expected in [
        "dindctl: error: a died 5 times in a row without getting to work (last: exit code 3); giving up",
        "dindctl: error:   | this is fatal: no space left on device",
        "dindctl: error: cause: known cause",
        "dindctl: hint: known hint",
    ] {
        ensure(stderr.lines().any(|line| line == expected), || format!("no {expected:?} in\n{stderr}"))?;
    }
    let state = lab.service("a").ok_or("no state")?;
    ensure(state.phase == Phase::Failed, || format!("{state:?}"))
}

fn a_permanent_cause_ends_at_the_first_death() -> Outcome {
    let script = "echo start >> $DIR/events; echo no privilege >&2; exit 1";
    let mut lab = Lab::services(vec![Service::daemon("a", script).notify()])?;
    let report = lab.expect_code(GIVEN_UP)?;
    ensure(report.reason.contains("Permanent"), || format!("{report:?}"))?;
    ensure(lab.events() == ["start"], || format!("{:?}", lab.events()))
}

/// A daemon that logged a refusal, went on and was killed while starting: it was given up at once for the words.
fn what_was_killed_is_not_judged() -> Outcome {
    let script = "echo no privilege >&2; [ -e $DIR/again ] && exec sleep 1000; touch $DIR/again; kill -9 $$";
    let mut lab = Lab::services(vec![Service::daemon("a", script).notify()])?;
    lab.until("a", |service| service.restarts == 1 && service.phase == Phase::Starting)?;
    ensure(!lab.text("stderr").contains("known cause"), || lab.text("stderr"))?;
    let (report, _) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))
}

fn a_program_that_is_missing_ends_at_once() -> Outcome {
    let begin = Instant::now();
    let mut lab = Lab::services(vec![Service::daemon("a", "/no/such/program")])?;
    lab.expect_code(GIVEN_UP)?;
    ensure(lab.text("stderr").contains("/no/such/program"), || lab.text("stderr"))?;
    let mut lab = Lab::services(vec![Service::command("/no/such/program")])?;
    lab.expect_code(127)?;
    let mut lab = Lab::services(vec![Service::command("/etc/passwd")])?;
    lab.expect_code(126)?;
    // One that is restarted ended with the code of daemons that are given up.
    for (program, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        let mut lab = Lab::services(vec![Service { restart: "always".into(), ..Service::command(program) }])?;
        lab.expect_code(code)?;
    }
    ensure(begin.elapsed() < Duration::from_secs(5), || "it was tried again".into())
}

fn term_stops_in_reverse_order() -> Outcome {
    let mut lab = Lab::services(vec![
        Service::daemon("containerd", &polite("containerd", "")),
        Service::daemon("dockerd", &polite("dockerd", "sleep 0.2; echo dockerd done >> $DIR/events;"))
            .after_start("containerd"),
        Service::command(&polite("command", "sleep 0.2; echo command done >> $DIR/events;")).after_ready("dockerd"),
    ])?;
    lab.until_ready("command")?;
    // The trap of each shell has to be set.
    std::thread::sleep(Duration::from_millis(300));
    let (report, took) = lab.stop()?;
    ensure(report.code == 0 && report.killed.is_empty(), || format!("{report:?}"))?;
    ensure(took < Duration::from_secs(3), || format!("{took:?}"))?;
    let expected = ["command TERM", "command done", "dockerd TERM", "dockerd done", "containerd TERM"];
    ensure(lab.events() == expected, || format!("{:?}", lab.events()))
}

fn killed_at_the_deadline() -> Outcome {
    let stubborn = "trap '' TERM; echo up >> $DIR/events; while :; do sleep 0.1; done";
    let mut config = Lab::config(vec![Service::daemon("a", stubborn)]);
    config.stop_timeout_ms = 1000;
    let mut lab = Lab::start(config, |_| {})?;
    lab.until_event("up")?;
    let (report, took) = lab.stop()?;
    ensure(report.code == 137 && report.killed == ["a"], || format!("{report:?}"))?;
    let (least, most) = (Duration::from_secs(1), Duration::from_millis(1800));
    ensure(took >= least && took < most, || format!("{took:?}"))
}

fn a_command_over_its_limit() -> Outcome {
    let stubborn = "trap '' TERM; echo up >> $DIR/events; while :; do sleep 0.1; done";
    let command = Service { limit_ms: Some(300), ..Service::command(stubborn) };
    let mut lab = Lab::services(vec![Service::daemon("a", &polite("a", "")), command])?;
    lab.until_event("up")?;
    let (report, took) = lab.stop()?;
    ensure(report.killed == ["command"] && report.code == 137, || format!("{report:?}"))?;
    ensure(lab.events().contains(&"a TERM".to_owned()), || "the daemon was not asked".into())?;
    ensure(took < Duration::from_secs(3), || format!("{took:?}"))
}

fn a_third_term_kills_at_once() -> Outcome {
    let stubborn = "trap '' TERM; echo up >> $DIR/events; while :; do sleep 0.1; done";
    let mut lab = Lab::services(vec![Service::daemon("a", stubborn)])?;
    lab.until_event("up")?;
    for said in ["SIGTERM: stopping", "at most 5 s more"] {
        lab.signal(Signal::SIGTERM)?;
        eventually(said, || lab.text("stderr").contains(said).then_some(()))?;
    }
    let (report, took) = lab.stop()?;
    ensure(report.code == 137 && took < Duration::from_secs(2), || format!("{report:?} after {took:?}"))
}

fn a_command_ends_with_its_daemon() -> Outcome {
    let services = vec![
        Service::daemon("broken", "exit 3").notify(),
        Service::command("trap 'echo asked >> $DIR/events; exit 0' TERM; while :; do sleep 0.02; done"),
    ];
    let config = Config { ends_with_daemon: true, ..Lab::config(services) };
    let mut lab = Lab::start(config, |_| {})?;
    lab.expect_code(GIVEN_UP)?;
    ensure(lab.events() == ["asked"], || format!("{:?}", lab.events()))
}

fn a_restarted_command_keeps_its_code() -> Outcome {
    let script = "echo run >> $DIR/events; exit 7";
    let mut lab = Lab::services(vec![Service { restart: "on-failure".into(), ..Service::command(script) }])?;
    lab.expect_code(7)?;
    ensure(lab.events() == ["run"; 5], || format!("{:?}", lab.events()))?;
    let script = "echo run >> $DIR/events; test $(wc -l < $DIR/events) = 3";
    let mut lab = Lab::services(vec![Service { restart: "on-failure".into(), ..Service::command(script) }])?;
    lab.expect_code(0)?;
    ensure(lab.events() == ["run"; 3], || format!("{:?}", lab.events()))
}

fn a_second_term_shortens() -> Outcome {
    let stubborn = "trap '' TERM; echo up >> $DIR/events; while :; do sleep 0.1; done";
    let mut config = Lab::config(vec![Service::daemon("a", stubborn)]);
    config.stop_timeout_ms = 60_000;
    let mut lab = Lab::start(config, |_| {})?;
    lab.until_event("up")?;
    lab.signal(Signal::SIGTERM)?;
    eventually("the stop", || lab.text("stderr").contains("SIGTERM: stopping").then_some(()))?;
    let (report, took) = lab.stop()?;
    let (least, most) = (Duration::from_millis(4900), Duration::from_secs(7));
    ensure(report.code == 137 && took >= least && took < most, || format!("{report:?} after {took:?}"))
}

/// It was counted as the second, and left the daemon 5 s.
fn a_first_term_is_the_first() -> Outcome {
    let slow =
        "trap 'sleep 6.5; echo done >> $DIR/events; exit 0' TERM; echo up >> $DIR/events; while :; do sleep 0.05; done";
    let services = vec![
        Service::daemon("a", slow),
        Service::command("until grep -q up $DIR/events; do sleep 0.05; done; exit 3").after_start("a"),
    ];
    let mut lab = Lab::start(Config { stop_timeout_ms: 60_000, ..Lab::config(services) }, |_| {})?;
    eventually("the stop", || lab.text("stderr").contains("command ended").then_some(())).ok();
    std::thread::sleep(Duration::from_millis(500));
    let (report, _) = lab.stop()?;
    ensure(report.code == 3 && report.killed.is_empty(), || format!("{report:?}"))?;
    ensure(lab.events() == ["up", "done"], || format!("{:?}", lab.events()))?;
    ensure(lab.text("stderr").contains("SIGTERM: stopping already"), || lab.text("stderr"))
}

fn a_delayed_stop() -> Outcome {
    let mut config = Lab::config(vec![Service::daemon("a", &daemon_script("a")).notify()]);
    config.stop_delay_ms = 1500;
    config.daemon = Some("a".into());
    let mut lab = Lab::start(config, |_| {})?;
    let before = lab.until_ready("a")?.pid.ok_or("no process")?;
    let begin = Instant::now();
    lab.signal(Signal::SIGTERM)?;
    eventually("the delay", || lab.text("stderr").contains("stopping in 1s 500ms").then_some(()))?;
    // A death meanwhile is one like any other.
    lab.signal_inner(before, Signal::SIGKILL)?;
    lab.until("a", |service| service.phase == Phase::Ready && service.pid.is_some_and(|pid| pid != before))?;
    lab.signal(Signal::SIGHUP)?;
    lab.until_event("a reloaded")?;
    let report = lab.expect_code(0)?;
    let took = begin.elapsed();
    ensure(took >= Duration::from_millis(1500) && took < Duration::from_secs(4), || format!("{took:?} {report:?}"))?;
    ensure(lab.events().last().is_some_and(|event| event == "a SIGTERM"), || format!("{:?}", lab.events()))
}

fn a_second_term_ends_the_delay() -> Outcome {
    let mut config = Lab::config(vec![Service::daemon("a", &daemon_script("a")).notify()]);
    config.stop_delay_ms = 600_000;
    let mut lab = Lab::start(config, |_| {})?;
    lab.until_ready("a")?;
    lab.signal(Signal::SIGTERM)?;
    eventually("the delay", || lab.text("stderr").contains("stopping in 10m").then_some(()))?;
    let (report, took) = lab.stop()?;
    ensure(report.code == 0 && took < Duration::from_secs(2), || format!("{report:?} after {took:?}"))
}

fn a_stop_tells_its_signal() -> Outcome {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut config = Lab::config(vec![Service::daemon("a", &daemon_script("a")).notify()]);
        config.tell_signal = true;
        let mut lab = Lab::start(config, |_| {})?;
        lab.until_ready("a")?;
        lab.signal(signal)?;
        lab.expect_code(code)?;
    }
    Ok(())
}

fn hup_begins_new_log_files() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.log");
    let script = "trap 'echo after' HUP; echo before; echo up >> $DIR/events; while :; do sleep 0.02; done";
    // Two services that share a file: it is rotated once.
    let service = |name: &str, script: &str| Service { log_file: Some(path.clone()), ..Service::daemon(name, script) };
    let mut config = Lab::config(vec![service("b", "exec sleep 1000"), service("a", script)]);
    config.daemon = Some("a".into());
    let mut lab = Lab::start(config, |_| {})?;
    lab.until_event("up")?;
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    eventually("the first line", || (text("a.log") == "before\n").then_some(()))?;
    lab.signal(Signal::SIGHUP)?;
    eventually("the second line", || (text("a.log") == "after\n").then_some(()))?;
    ensure(text("a.log.1") == "before\n" && text("a.log.2").is_empty(), || text("a.log.1"))?;
    lab.stop().map(drop)
}

fn a_reload_precedes_the_stop() -> Outcome {
    let service = Service { reload: true, ..Service::daemon("a", &daemon_script("a")).notify() };
    let mut lab = Lab::services(vec![service])?;
    lab.until_ready("a")?;
    let (report, took) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}\n{}", lab.text("stderr")))?;
    ensure(took < Duration::from_secs(2), || format!("waited for the whole reload timeout: {took:?}"))?;
    let expected = ["prepare", "a SIGHUP", "a reloaded", "a SIGTERM"];
    ensure(lab.events() == expected, || format!("{:?}", lab.events()))
}

fn a_command_outlives_its_daemon() -> Outcome {
    let daemon = Service::daemon("a", "exit 1");
    // Five bad lives with their delays take one and a half seconds.
    let mut lab = Lab::services(vec![daemon, Service::command("sleep 4; exit 4")])?;
    let report = lab.expect_code(4)?;
    let said = lab.text("stderr");
    ensure(report.code == 4 && report.reason.starts_with("Ended"), || format!("{report:?}\n{said}"))?;
    ensure(said.contains("a died 5 times") && said.contains("goes on with its command, without a"), || said.clone())
}

/// dockerd 26.1 sends no notice of a reload; waiting for one cost two seconds of every stop.
fn a_reload_may_be_told_by_a_line_alone() -> Outcome {
    let script = "trap 'echo level=info msg=\"Reloaded configuration: x\"' HUP; trap 'exit 0' TERM; \
                  while :; do sleep 0.05; done";
    let mut lab = Lab::services(vec![Service { reload: true, ..Service::daemon("a", script) }])?;
    lab.until_ready("a")?;
    std::thread::sleep(Duration::from_millis(200));
    let (report, took) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}\n{}", lab.text("stderr")))?;
    ensure(took < Duration::from_millis(1500), || format!("waited for the whole reload timeout: {took:?}"))
}

fn a_stopped_process_is_woken_to_end() -> Outcome {
    let mut lab = Lab::services(vec![Service::daemon("a", "exec sleep 1000")])?;
    let pid = lab.until_ready("a")?.pid.ok_or("no pid")?;
    lab.signal_inner(pid, Signal::SIGSTOP)?;
    std::thread::sleep(Duration::from_millis(200));
    let still = lab.service("a").ok_or("no state")?;
    ensure(still.pid == Some(pid) && still.phase == Phase::Ready, || format!("stopped is not dead: {still:?}"))?;
    let (report, took) = lab.stop()?;
    ensure(report.code == 0 && took < Duration::from_secs(2), || format!("{report:?} after {took:?}"))
}

/// dockerd cannot stop without a containerd that answers, and containerd is asked to end only after it.
fn a_stop_wakes_what_others_need_to_end() -> Outcome {
    let needed = "while :; do touch $DIR/beat; sleep 0.02; done";
    let needing = "trap 'rm -f $DIR/beat; while [ ! -e $DIR/beat ]; do sleep 0.02; done; exit 0' TERM; \
                   while :; do sleep 0.02; done";
    let mut lab = Lab::services(vec![Service::daemon("a", needed), Service::daemon("b", needing)])?;
    let pid = lab.until_ready("a")?.pid.ok_or("no pid")?;
    lab.until_ready("b")?;
    // Long enough for the second to set its trap.
    std::thread::sleep(Duration::from_millis(300));
    lab.signal_inner(pid, Signal::SIGSTOP)?;
    let (report, took) = lab.stop()?;
    ensure(report.killed.is_empty() && took < Duration::from_secs(2), || format!("{report:?} after {took:?}"))
}

fn a_stop_while_starting() -> Outcome {
    let mut lab = Lab::services(vec![
        Service::daemon("a", "exec sleep 1000").notify(),
        Service::command("echo ran >> $DIR/events").after_ready("a"),
    ])?;
    lab.until("a", |service| service.phase == Phase::Starting)?;
    let (report, _) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))?;
    ensure(lab.events().is_empty(), || "the command was started on the way down".into())
}

fn the_command_waits_for_readiness() -> Outcome {
    let daemon = format!("sleep 0.3; echo daemon up >> $DIR/events; {}", daemon_script("a"));
    let mut config = Lab::config(vec![
        Service::daemon("a", &daemon).notify(),
        Service::command("echo command up >> $DIR/events; exec sleep 1000").after_ready("a"),
    ]);
    config.daemon = Some("a".into());
    let mut lab = Lab::start(config, |_| {})?;
    lab.until("a", |service| service.phase == Phase::Starting && service.pid.is_some())?;
    ensure(lab.service("command").is_some_and(|service| service.phase == Phase::Waiting), || "too early".into())?;
    lab.until_ready("command")?;
    lab.until_event("command up")?;
    ensure(lab.events() == ["daemon up", "command up"], || format!("{:?}", lab.events()))?;
    let state = SupervisorState::read(&lab.path("state.json"))?;
    ensure(state.ready_ms.is_some_and(|millis| millis >= 300.0), || format!("{state:?}"))?;
    let (report, _) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))
}

fn a_notice_of_a_stranger_does_not_count() -> Outcome {
    // Without exec the notice comes from a child of the service.
    let script = format!("\"$SELF\" {DAEMON} a & echo started >> $DIR/events; wait");
    let lab = Lab::services(vec![Service::daemon("a", &script).notify()])?;
    eventually("the refusal", || lab.text("stderr").contains("which is no service, was ignored").then_some(()))?;
    let state = lab.service("a").ok_or("no state")?;
    ensure(state.phase == Phase::Starting, || format!("{state:?}"))
}

fn exit_codes_pass_through() -> Outcome {
    let daemon = || Service::daemon("a", &polite("a", ""));
    for (script, code) in [("exit 42", 42), ("exit 0", 0), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let mut lab = Lab::services(vec![daemon(), Service::command(script)])?;
        lab.expect_code(code)?;
    }
    // A code of its own survives a requested stop, an end by that request is success.
    for (script, code) in [
        ("trap 'exit 3' TERM; echo up >> $DIR/events; while :; do sleep 0.02; done", 3),
        ("echo up >> $DIR/events; exec sleep 1000", 0),
    ] {
        let mut lab = Lab::services(vec![Service::command(script)])?;
        lab.until_event("up")?;
        std::thread::sleep(Duration::from_millis(50));
        lab.signal(Signal::SIGTERM)?;
        lab.expect_code(code)?;
    }
    Ok(())
}

fn hup_and_usr1() -> Outcome {
    let mut config = Lab::config(vec![
        Service::daemon("a", &daemon_script("a")).notify(),
        Service::command(&daemon_script("command")).notify().after_ready("a"),
    ]);
    config.daemon = Some("a".into());
    let mut lab = Lab::start(config, |_| {})?;
    lab.until_ready("command")?;
    lab.signal(Signal::SIGHUP)?;
    lab.until_event("a reloaded")?;
    lab.signal(Signal::SIGUSR1)?;
    lab.until_event("command SIGUSR1")?;
    lab.until_ready("a")?;
    let (report, _) = lab.stop()?;
    let expected = ["reload-hook", "a SIGHUP", "a reloaded", "command SIGUSR1", "command SIGTERM", "a SIGTERM"];
    ensure(lab.events() == expected && report.code == 0, || format!("{:?} {report:?}", lab.events()))
}

fn a_stalled_reader() -> Outcome {
    let (read, write) = nix::unistd::pipe()?;
    let flood = "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
    let orphans =
        "i=0; while [ $i -lt 200 ]; do (sleep 0.05 & ); i=$((i+1)); done; echo made >> $DIR/events; exec sleep 1000";
    let services = vec![Service::daemon("flood", flood), Service::daemon("orphans", orphans)];
    let mut lab = Lab::start(Lab::config(services), |command| {
        command.stderr(write);
    })?;
    lab.until_event("made")?;
    // The flood fills pipe and buffer, and then waits in write(2): no CPU is burnt on either side.
    eventually("the flood to wait", || {
        let all_wait = lab
            .below()
            .iter()
            .all(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S ")));
        all_wait.then_some(())
    })?;
    eventually("no zombie", || (lab.zombies() == 0).then_some(()))?;
    let memory = resident_kib(lab.init)?;
    ensure(memory < 16 * 1024, || format!("{memory} KiB resident"))?;
    let (report, took) = lab.stop()?;
    drop(read);
    ensure(report.code == 0 && report.orphans >= 200, || format!("{report:?}"))?;
    ensure(took < Duration::from_secs(3), || format!("{took:?}"))
}

fn resident_kib(pid: i32) -> Result<u64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn idle_means_no_wake_up() -> Outcome {
    let mut lab = Lab::services(vec![
        Service::daemon("a", &daemon_script("a")).notify(),
        Service::daemon("b", "exec sleep 1000"),
    ])?;
    lab.until_ready("a")?;
    lab.until_ready("b")?;
    std::thread::sleep(Duration::from_millis(300));
    let switches = |lab: &Lab| -> Result<String, Failed> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", lab.init))?;
        Ok(status.lines().filter(|line| line.contains("ctxt_switches")).collect::<Vec<_>>().join(" "))
    };
    let before = switches(&lab)?;
    std::thread::sleep(Duration::from_secs(3));
    let after = switches(&lab)?;
    ensure(before == after, || format!("{before} became {after}"))?;
    let (report, _) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))
}

fn children_start_clean() -> Outcome {
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status > $DIR/signals; ls /proc/self/fd > $DIR/fds; \
                  echo \"[$NOTIFY_SOCKET]\" > $DIR/notify; exit 0";
    let mut lab = Lab::services(vec![Service::command(script)])?;
    lab.expect_code(0)?;
    let signals = lab.text("signals");
    let clean = signals.lines().all(|line| line.ends_with("0000000000000000"));
    ensure(clean && signals.lines().count() == 2, || signals.clone())?;
    // 3 is the folder that ls reads.
    ensure(lab.text("fds").split_whitespace().eq(["0", "1", "2", "3"]), || lab.text("fds"))?;
    ensure(lab.text("notify") == "[]\n", || lab.text("notify"))?;

    let script = format!("echo \"$NOTIFY_SOCKET\" > $DIR/notify; {}", daemon_script("a"));
    let lab = Lab::services(vec![Service::daemon("a", &script).notify()])?;
    lab.until_ready("a")?;
    let told = lab.text("notify");
    ensure(Path::new(told.trim()) == lab.path("run/notify"), || told.clone())
}

fn logs_are_rotated_and_complete() -> Outcome {
    let script = "i=0; while [ $i -lt 100 ]; do echo line number $i; i=$((i+1)); done; printf 'no newline'; exit 0";
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.log");
    let service =
        Service { log_file: Some(path.clone()), restart: "on-failure".into(), ..Service::daemon("a", script) };
    let mut lab = Lab::services(vec![service])?;
    lab.expect_code(0)?;
    let stderr = lab.text("stderr");
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("line number")).collect();
    let expected: Vec<String> = (0..100).map(|number| format!("line number {number}")).collect();
    ensure(lines == expected, || stderr.clone())?;
    ensure(stderr.lines().any(|line| line == "no newline"), || stderr.clone())?;
    let old = std::fs::read_to_string(folder.path().join("a.log.1"))?;
    let new = std::fs::read_to_string(path)?;
    ensure(old.len() <= 1000 && old.ends_with('\n') && new.ends_with("no newline\n"), || format!("{old}---{new}"))
}

fn ctrl_c_reaches_the_command() -> Outcome {
    let script = "trap 'echo command INT >> $DIR/events; exit 5' INT; \
                  test -t 0 && test -t 1 && test -t 2 && echo terminal >> $DIR/events; while :; do sleep 0.02; done";
    let daemon = "trap 'echo daemon INT >> $DIR/events' INT; trap 'echo daemon TERM >> $DIR/events; exit 0' TERM; \
                  echo daemon up >> $DIR/events; while :; do sleep 0.02; done";
    let services = vec![Service::daemon("daemon", daemon), Service::command(script)];
    let mut lab = Lab::start_on_a_terminal(Lab::config(services))?;
    lab.until_event("daemon up")?;
    lab.until_event("terminal")?;
    lab.type_keys(b"\x03")?;
    lab.expect_code(5)?;
    let events = lab.events();
    let ends = &events[events.len().saturating_sub(2)..];
    ensure(ends == ["command INT", "daemon TERM"], || format!("{events:?}"))?;
    ensure(!events.contains(&"daemon INT".to_owned()), || format!("{events:?}"))
}

fn nothing_is_started_on_the_way_down() -> Outcome {
    let daemon = "echo daemon up >> $DIR/events; while ! test -e $DIR/go; do sleep 0.02; done; exit 1";
    let command = polite("command", "touch $DIR/go; sleep 0.5;");
    let mut lab = Lab::services(vec![Service::daemon("daemon", daemon), Service::command(&command)])?;
    lab.until_event("daemon up")?;
    lab.until_ready("command")?;
    std::thread::sleep(Duration::from_millis(200));
    let (report, _) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))?;
    ensure(lab.events() == ["daemon up", "command TERM"], || format!("{:?}", lab.events()))
}

fn strays_are_swept_at_the_end() -> Outcome {
    let stray =
        "setsid sh -c 'trap \"\" TERM; echo stray >> $DIR/events; while :; do sleep 0.1; done' & exec sleep 1000";
    let mut lab = Lab::services(vec![Service::daemon("a", stray)])?;
    lab.until_event("stray")?;
    let (report, took) = lab.stop()?;
    ensure(report.code == 0, || format!("{report:?}"))?;
    // A second later the supervisor would leave it to the kernel.
    let (least, most) = (Duration::from_secs(2), Duration::from_millis(2900));
    ensure(took >= least && took < most, || format!("{took:?}: the stray gets its grace, and no more"))?;
    let said = lab.text("stderr");
    ensure(said.contains("killing what did not end when it was asked: sh ("), || said.clone())
}

/// Killed when the test is over, however it ends.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_subreaper_sweeps_its_own() -> Outcome {
    let mut bystander = Bystander(Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn()?);
    // It ends by itself, for the case that it is not swept: no namespace takes it along.
    let stray = "setsid sh -c 'trap \"\" TERM; echo $$ > $DIR/stray; echo stray >> $DIR/events; \
                 i=0; while [ $i -lt 200 ]; do sleep 0.1; i=$((i+1)); done' & exec sleep 1000";
    let mut lab = Lab::start_as_subreaper(Lab::config(vec![Service::daemon("a", stray)]))?;
    lab.until_event("stray")?;
    let stray: i32 = lab.text("stray").trim().parse()?;
    let (report, took) = lab.stop()?;
    ensure(report.code == 0 && took < Duration::from_millis(2900), || format!("{report:?} after {took:?}"))?;
    ensure(send(stray, 0) == Err(nix::errno::Errno::ESRCH), || "the stray is still there".into())?;
    ensure(bystander.0.try_wait()?.is_none(), || "somebody else's process was hit".into())
}
