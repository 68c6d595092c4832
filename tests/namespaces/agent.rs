//! The sandbox agent as PID 1, against well-meaning and hostile programs.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use dindctl::exec::outcome::Status;
use dindctl::exec::protocol::Kind;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::agent_harness::{Agent, NOBODY, command, hindrance, run, shell};

type Test = fn();

/// All tests of this file, ignored where namespaces cannot be had.
pub fn trials() -> Vec<Trial> {
    let tests: &[(&'static str, Test)] = &[
        ("says_hello_and_reports", says_hello_and_reports),
        ("program_sees_a_bare_identity", program_sees_a_bare_identity),
        ("root_without_power", root_without_power),
        ("names_of_users_resolve", names_of_users_resolve),
        ("environment_and_files", environment_and_files),
        ("stdin_10_mb_echo", stdin_10_mb_echo),
        ("stdin_10_mb_echo_without_window", stdin_10_mb_echo_without_window),
        ("stdin_empty_and_absent", stdin_empty_and_absent),
        ("stdin_never_read_and_cancel", stdin_never_read_and_cancel),
        ("stdin_never_read_and_program_ends", stdin_never_read_and_program_ends),
        ("output_head_and_tail", output_head_and_tail),
        ("output_limit_kills", output_limit_kills),
        ("streaming_needs_no_memory", streaming_needs_no_memory),
        ("both_streams_at_once", both_streams_at_once),
        ("binary_output_survives", binary_output_survives),
        ("caller_that_does_not_read", caller_that_does_not_read),
        ("deadline_against_trap", deadline_against_trap),
        ("deadline_with_grace", deadline_with_grace),
        ("deadline_against_daemons", deadline_against_daemons),
        ("deadline_against_sigstop", deadline_against_sigstop),
        ("cpu_time_limit", cpu_time_limit),
        ("background_child_holds_stdout", background_child_holds_stdout),
        ("caller_leaves", caller_leaves),
        ("cancel", cancel),
        ("stopped_container", stopped_container),
        ("signals_reach_the_program", signals_reach_the_program),
        ("program_not_found", program_not_found),
        ("program_not_executable", program_not_executable),
        ("death_by_signal", death_by_signal),
        ("stages", stages),
        ("workspace_mismatch", workspace_mismatch),
        ("workspace_copy", workspace_copy),
        ("workspace_copy_cancelled", workspace_copy_cancelled),
        ("workspace_copy_hostile", workspace_copy_hostile),
        ("workdir_refused", workdir_refused),
        ("disk_limit", disk_limit),
        ("oom", oom),
        ("terminal", terminal),
        ("agent_cannot_be_reached", agent_cannot_be_reached),
        ("orphans_are_reaped", orphans_are_reaped),
        ("idle", idle),
        ("nonsense_from_the_caller", nonsense_from_the_caller),
        ("without_a_namespace", without_a_namespace),
    ];
    let hindrance = hindrance();
    if let Some(reason) = &hindrance {
        eprintln!("agent tests are ignored: {reason}");
    }
    let trial = |(name, test): &(&'static str, Test)| {
        let test = *test;
        Trial::test(format!("agent::{name}"), move || {
            test();
            Ok::<(), Failed>(())
        })
        .with_ignored_flag(hindrance.is_some())
    };
    tests.iter().map(trial).collect()
}

fn says_hello_and_reports() {
    let outcome = run(&shell("echo out; echo err >&2", json!({})));
    assert_eq!((outcome.text(), outcome.stderr.as_slice()), ("out\n", b"err\n".as_slice()));
    assert!(outcome.started);
    let report = outcome.report();
    assert_eq!((report.status, report.returncode, report.signal), (Status::Ok, Some(0), None));
    assert!(report.problem.is_none() && report.usage.memory_peak_bytes > 0, "{report:?}");

    let outcome = run(&shell("exit 7", json!({})));
    assert_eq!((outcome.status(), outcome.report().returncode), (Status::Nonzero, Some(7)));
}

fn program_sees_a_bare_identity() {
    let script = "id -u; id -g; id -G; grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status; \
                  cat /proc/self/oom_score_adj; umask; ls /proc/self/fd; ps -o sid= -p $$ | tr -d ' '; echo $$";
    let outcome = run(&shell(script, json!({})));
    let lines: Vec<&str> = outcome.text().lines().collect();
    assert_eq!(lines[..3], ["65534", "65534", "65534"]);
    for line in &lines[3..10] {
        let expected = if line.starts_with("NoNewPrivs") { "1" } else { "0000000000000000" };
        assert!(line.ends_with(expected), "{line}");
    }
    // 3 is what `ls` itself opened.
    assert_eq!(lines[10..16], ["1000", "0022", "0", "1", "2", "3"]);
    assert_eq!(lines[16], lines[17], "leader of its own session");
}

fn root_without_power() {
    let script = "id -u; grep -E '^Cap(Prm|Eff)' /proc/self/status; cat /proc/1/fd/64; readlink /proc/1/fd/64; \
                  cat /proc/1/environ; kill -9 1; kill -STOP 1; echo x > /proc/1/mem; chown 5 /tmp && echo owned";
    let outcome = run(&shell(script, json!({"run_as": {"spec": "root"}})));
    let lines: Vec<&str> = outcome.text().lines().collect();
    assert_eq!(lines.len(), 3, "{outcome:?}");
    assert!(lines[1].ends_with("0000000000000000") && lines[2].ends_with("0000000000000000"), "{lines:?}");
    assert!(matches!(outcome.status(), Status::Nonzero), "{outcome:?}");
}

fn names_of_users_resolve() {
    for (spec, expected) in [("nobody", "65534:65534\n"), ("1234", "1234:0\n"), ("daemon:games", "1:60\n")] {
        let outcome = run(&shell("echo $(id -u):$(id -g)", json!({"run_as": {"spec": spec}})));
        assert_eq!(outcome.text(), expected, "{spec}");
    }
    let outcome = run(&shell("true", json!({"run_as": {"spec": "no-such-user"}})));
    assert_eq!((outcome.status(), outcome.problem()), (Status::Rejected, "unknown_user"));
    assert!(!outcome.started && outcome.report().returncode.is_none());
}

fn environment_and_files() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let file = root.path().join("new/code.sh");
    let job = json!({
        "env": {"FROM_JOB": "ja", "PATH": "/bin:/usr/bin"},
        "files": [{"path": file, "content": "echo $FROM_IMAGE $FROM_JOB $HOME $PATH; pwd", "base64": false}],
        "workdir": root.path(),
    });
    let outcome = run(&command(&["sh", file.to_str().unwrap()], job));
    assert_eq!(outcome.text(), format!("yes ja /tmp /bin:/usr/bin\n{}\n", root.path().display()));
    let found = file.metadata().unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (NOBODY, NOBODY, 0o644));

    // The same name again is taken, and a place of root's is not nobody's.
    for path in [file.to_str().unwrap(), "/etc/dindctl-test"] {
        let files = json!({"files": [{"path": path, "content": "x", "base64": false}]});
        let outcome = run(&shell("true", files));
        assert_eq!((outcome.status(), outcome.problem()), (Status::Rejected, "file_unwritable"), "{path}");
    }
}

fn ten_megabytes() -> Vec<u8> {
    (0_u32..2_621_440).flat_map(u32::to_le_bytes).collect()
}

fn stdin_10_mb_echo() {
    let bytes = ten_megabytes();
    let mut agent = Agent::start();
    agent.job(&command(&["cat"], json!({"stdin": true})));
    agent.feed(bytes.clone(), true);
    let outcome = agent.finish();
    assert!(outcome.stdout == bytes, "{} bytes came back", outcome.stdout.len());
    assert_eq!(outcome.status(), Status::Ok);
}

fn stdin_10_mb_echo_without_window() {
    let bytes = ten_megabytes();
    let mut agent = Agent::start();
    agent.job(&command(&["cat"], json!({"stdin": true})));
    agent.feed(bytes.clone(), false);
    let outcome = agent.finish();
    assert!(outcome.stdout == bytes, "{} bytes came back", outcome.stdout.len());
}

fn stdin_empty_and_absent() {
    // moby#37870: an empty input must still end.
    let mut agent = Agent::start();
    agent.job(&shell("cat; echo done", json!({"stdin": true})));
    agent.feed(Vec::new(), true);
    assert_eq!(agent.finish().text(), "done\n");
    assert_eq!(run(&shell("cat; readlink /proc/self/fd/0", json!({}))).text(), "/dev/null\n");
}

fn stdin_never_read_and_cancel() {
    let mut agent = Agent::start();
    agent.job(&command(&["sleep", "60"], json!({"stdin": true})));
    agent.feed(vec![b'x'; 8 << 20], true);
    agent.await_start();
    std::thread::sleep(Duration::from_millis(200));
    agent.send(Kind::Cancel, &[]);
    let outcome = agent.finish();
    assert_eq!(outcome.status(), Status::Killed);
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

fn stdin_never_read_and_program_ends() {
    let mut agent = Agent::start();
    agent.job(&shell("exec <&-; sleep 0.3; echo over", json!({"stdin": true})));
    agent.feed(vec![b'x'; 8 << 20], true);
    let outcome = agent.finish();
    assert_eq!((outcome.text(), outcome.status()), ("over\n", Status::Ok));
}

fn output_head_and_tail() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo err >&2";
    let outcome = run(&shell(script, json!({"max_output": 1000})));
    let whole: String =
        (0..20000).flat_map(|number| ["line ".to_owned(), number.to_string(), "\n".to_owned()]).collect();
    let dropped = whole.len() as u64 - 1000;
    assert_eq!(outcome.gaps, [(Kind::StdoutGap, dropped, 500)]);
    assert_eq!(outcome.stdout, [&whole.as_bytes()[..500], &whole.as_bytes()[whole.len() - 500..]].concat());
    assert_eq!(outcome.stderr, b"err\n");
    let report = outcome.report();
    assert_eq!((report.status, report.truncated.stdout, report.truncated.stderr), (Status::Ok, dropped, 0));

    let outcome = run(&shell("yes | head -c 300000000", json!({"max_output": 65536})));
    assert_eq!((outcome.stdout.len(), outcome.report().truncated.stdout), (65536, 300_000_000 - 65536));
}

fn output_limit_kills() {
    let outcome = run(&command(&["yes"], json!({"max_output": 5000, "on_output_limit": "kill"})));
    assert_eq!((outcome.status(), outcome.stdout.len()), (Status::OutputLimit, 5000));
    assert_eq!(outcome.report().signal, Some(libc::SIGKILL));
    assert!(outcome.report().truncated.stdout > 0);
    // Up to the cap nothing happens.
    let script = "head -c 5000 /dev/zero";
    let outcome = run(&shell(script, json!({"max_output": 5000, "on_output_limit": "kill"})));
    assert_eq!((outcome.status(), outcome.stdout.len()), (Status::Ok, 5000));
}

fn streaming_needs_no_memory() {
    let mut agent = Agent::start();
    let idle = agent.private_memory();
    agent.job(&command(&["head", "-c", "200000000", "/dev/zero"], json!({})));
    let pid = agent.pid();
    let (mut count, mut most) = (0_u64, 0_u64);
    let start = Instant::now();
    let mut next_look = 10_000_000;
    let memory = || -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024).sum()
    };
    let outcome = agent.finish_streaming(|piece| {
        count += piece.len() as u64;
        if count >= next_look {
            next_look += 40_000_000;
            most = most.max(memory());
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("agent: {idle} bytes private idle, {most} streaming, 200 MB in {seconds:.3} s");
    assert_eq!((count, outcome.status()), (200_000_000, Status::Ok));
    assert!(most > 0 && most < idle + 1024 * 1024, "{idle} grew to {most}");
}

fn both_streams_at_once() {
    let script = "head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait";
    let outcome = run(&shell(script, json!({})));
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (3_000_000, 3_000_000));
}

fn binary_output_survives() {
    let outcome = run(&shell(r"printf '\000\377\001\376'; head -c 5 /dev/zero", json!({})));
    assert_eq!(outcome.stdout, [0, 255, 1, 254, 0, 0, 0, 0, 0]);
}

/// A caller that stops reading slows the program down, but not the deadline.
fn caller_that_does_not_read() {
    let mut agent = Agent::start();
    agent.job(&command(&["yes"], json!({"timeout_ms": 500})));
    agent.await_start();
    std::thread::sleep(Duration::from_secs(1));
    let ours = agent.pid();
    let children = std::fs::read_to_string(format!("/proc/{ours}/task/{ours}/children")).unwrap();
    assert_eq!(children, "", "the program is dead although nobody reads");
    let outcome = agent.finish();
    assert_eq!(outcome.status(), Status::Timeout);
    assert!(outcome.stdout.len() > 65536);

    // Nobody ever reads: the agent does not wait for ever.
    let mut agent = Agent::start();
    agent.job(&command(&["yes"], json!({"timeout_ms": 100})));
    assert_eq!(agent.exit_code(), 3);
}

fn expect_timeout(script: &str, more: serde_json::Value, at_least: u64, at_most: u64) {
    let outcome = run(&shell(script, more));
    assert_eq!(outcome.status(), Status::Timeout, "{outcome:?}");
    let took = outcome.took.as_millis();
    assert!(took >= u128::from(at_least) && took < u128::from(at_most), "{took} ms");
}

fn deadline_against_trap() {
    expect_timeout("trap '' TERM INT HUP; while :; do sleep 1; done", json!({"timeout_ms": 300}), 290, 800);
    let grace = json!({"timeout_ms": 200, "grace_ms": 300});
    expect_timeout("trap '' TERM INT HUP; while :; do sleep 1; done", grace, 490, 1000);
}

fn deadline_with_grace() {
    let job = json!({"timeout_ms": 200, "grace_ms": 5000});
    let outcome = run(&shell("trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done", job));
    assert_eq!((outcome.status(), outcome.report().returncode), (Status::Timeout, Some(3)));
    assert_eq!(outcome.text(), "bye\n");
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

fn deadline_against_daemons() {
    // Double fork into another session, with all signals ignored; the marker would be touched by a survivor.
    let root = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let marker = root.path().join("alive");
    let daemon = format!("trap \"\" TERM HUP; sleep 1; echo > {}", marker.display());
    let script = format!("setsid sh -c '(setsid sh -c \"{}\" &) &' ; sleep 60", daemon.replace('"', "\\\""));
    expect_timeout(&script, json!({"timeout_ms": 300}), 290, 800);
    // The same when the program ends by itself.
    let script = format!("setsid sh -c '(setsid sh -c \"{}\" &) &'; sleep 0.2", daemon.replace('"', "\\\""));
    assert_eq!(run(&shell(&script, json!({}))).status(), Status::Ok);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!marker.exists(), "a daemon survived");
}

fn deadline_against_sigstop() {
    expect_timeout("kill -STOP $$", json!({"timeout_ms": 300}), 290, 800);
    // With grace the stopped program is continued to hear SIGTERM.
    expect_timeout("kill -STOP $$; sleep 60", json!({"timeout_ms": 200, "grace_ms": 3000}), 190, 1500);
}

fn cpu_time_limit() {
    let outcome = run(&shell("while :; do :; done", json!({"cpu_time_ms": 300})));
    assert_eq!(outcome.status(), Status::CpuTimeout);
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
    let outcome = run(&shell("sleep 0.5", json!({"cpu_time_ms": 300})));
    assert_eq!(outcome.status(), Status::Ok);
}

fn background_child_holds_stdout() {
    let outcome = run(&shell("sleep 60 & echo started", json!({})));
    assert_eq!((outcome.text(), outcome.status()), ("started\n", Status::Ok));
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

fn caller_leaves() {
    for phase in ["before the job", "while it runs", "with unread input"] {
        let mut agent = Agent::start();
        if phase != "before the job" {
            agent.job(&shell("trap '' TERM; sleep 60", json!({"stdin": true})));
            agent.await_start();
        }
        if phase == "with unread input" {
            agent.send(Kind::Stdin, &vec![0; 600_000]);
        }
        let start = Instant::now();
        agent.hang_up();
        assert_eq!(agent.exit_code(), 3, "{phase}");
        assert!(start.elapsed() < Duration::from_secs(1), "{phase}: {:?}", start.elapsed());
    }
}

fn cancel() {
    let mut agent = Agent::start();
    agent.job(&shell("trap '' TERM; echo ready; sleep 60", json!({"grace_ms": 10_000})));
    agent.await_output("ready");
    agent.send(Kind::Cancel, &[]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.report().signal), (Status::Killed, Some(libc::SIGKILL)));
    assert!(outcome.took < Duration::from_secs(1));

    let mut agent = Agent::start();
    agent.send(Kind::Cancel, &[]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.problem(), outcome.started), (Status::Killed, "cancelled", false));
}

/// `docker stop` sends SIGTERM to PID 1, which has to act on it at once.
fn stopped_container() {
    let mut agent = Agent::start();
    agent.job(&command(&["sleep", "60"], json!({})));
    agent.await_start();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.pid()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(agent.finish().status(), Status::Killed);
    assert_eq!(agent.exit_code(), 0);
}

fn signals_reach_the_program() {
    let mut agent = Agent::start();
    agent.job(&shell("trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.05; done", json!({})));
    agent.await_output("ready");
    agent.send(Kind::Signal, &[u8::try_from(libc::SIGINT).unwrap()]);
    let outcome = agent.finish();
    assert_eq!((outcome.text(), outcome.report().returncode), ("got\n", Some(5)));
}

fn program_not_found() {
    let interpreter = tempfile::tempdir_in("/tmp").unwrap();
    let script = interpreter.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    for path in [interpreter.path(), script.as_path()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    for name in ["no-such-program", "/no/such/program", "./no-such-program", script.to_str().unwrap()] {
        let outcome = run(&command(&[name], json!({})));
        let report = outcome.report();
        assert_eq!((report.status, report.returncode), (Status::Nonzero, Some(127)), "{name}");
        assert_eq!((outcome.problem(), outcome.started), ("program_not_found", false));
    }
}

fn program_not_executable() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let put = |name: &str, content: &str, mode: u32| {
        let path = root.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let roots_own = put("roots", "#!/bin/sh\n", 0o700);
    let plain = put("plain", "#!/bin/sh\n", 0o644);
    let no_format = put("data", "nothing to run\n", 0o755);
    for name in ["/etc", roots_own.as_str(), plain.as_str(), no_format.as_str()] {
        let outcome = run(&command(&[name], json!({})));
        let report = outcome.report();
        assert_eq!((report.status, report.returncode), (Status::Nonzero, Some(126)), "{name}: {report:?}");
        assert_eq!(outcome.problem(), "not_executable");
    }
}

fn death_by_signal() {
    for signal in [libc::SIGSEGV, libc::SIGKILL, libc::SIGTERM] {
        let outcome = run(&shell(&format!("kill -{signal} $$"), json!({})));
        let report = outcome.report();
        assert_eq!((report.status, report.returncode, report.signal), (Status::Signaled, None, Some(signal)));
    }
}

fn stages() {
    let stage = |name: &str, script: &str| json!({"name": name, "argv": ["/bin/sh", "-c", script]});
    // Input belongs to the last stage; what an earlier one leaves behind is gone.
    let job = json!({"stdin": true, "stages": [
        stage("compile", "echo compile; cat; sleep 60 &"),
        stage("run", "cat; ls /proc | grep -c '^[0-9]'"),
    ]});
    let mut agent = Agent::start();
    agent.job(&shell("", job));
    agent.feed(b"input\n".to_vec(), true);
    let outcome = agent.finish();
    // The agent, the shell, ls and grep.
    assert_eq!((outcome.text(), outcome.status()), ("compile\ninput\n4\n", Status::Ok));

    let job = json!({"stages": [stage("compile", "echo broken >&2; exit 2"), stage("run", "echo never")]});
    let outcome = run(&shell("", job));
    assert_eq!((outcome.status(), outcome.report().returncode, outcome.text()), (Status::Nonzero, Some(2), ""));
    assert_eq!(outcome.problem(), "stage_failed");
    assert!(outcome.report().problem.as_ref().unwrap().message.contains("\"compile\""));

    let job = json!({"timeout_ms": 400, "stages": [stage("compile", "sleep 0.3"), stage("run", "sleep 0.3")]});
    let outcome = run(&shell("", job));
    assert_eq!(outcome.status(), Status::Timeout, "the deadline covers all stages");
}

fn workspace_mismatch() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    let found = root.path().metadata().unwrap();
    for (ino, expected) in [(found.ino(), Status::Ok), (found.ino() + 1, Status::Rejected)] {
        let identity = json!({"ino": ino, "ctime": found.ctime(), "ctime_nsec": found.ctime_nsec()});
        let job = json!({"workspace": {"bound": {"path": root.path(), "identity": identity}}});
        let outcome = run(&shell("true", job));
        assert_eq!(outcome.status(), expected);
        assert_eq!(outcome.problem() == "workspace_mismatch", expected == Status::Rejected);
    }
}

fn workspace_copy() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let big = ten_megabytes();
    for (name, content) in [("dir/hello.txt", b"hello".as_slice()), ("big", &big)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        builder.append_data(&mut header, name, content).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    let mut agent = Agent::start();
    agent.job(&shell(
        "cat dir/hello.txt; stat -c ' %u %a %s' dir/hello.txt big; cat",
        json!({"workspace": {"copy": {"path": root.path()}}, "workdir": root.path(), "stdin": true}),
    ));
    for piece in archive.chunks(32 * 1024) {
        agent.send(Kind::Archive, piece);
    }
    agent.send(Kind::ArchiveEof, &[]);
    agent.feed(b"and input".to_vec(), true);
    let outcome = agent.finish();
    assert_eq!(
        outcome.text(),
        "hello 65534 640 5
 65534 640 10485760
and input"
    );
}

fn workspace_copy_cancelled() {
    let mut agent = Agent::start();
    agent.job(&shell("true", json!({"workspace": {"copy": {"path": "/tmp"}}})));
    agent.send(Kind::Archive, &[0; 100]);
    agent.send(Kind::Cancel, &[]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.started), (Status::Killed, false));
}

fn workspace_copy_hostile() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    let name = b"../dindctl-escaped";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, b"x".as_slice()).unwrap();
    let mut agent = Agent::start();
    agent.job(&shell("echo ran", json!({"workspace": {"copy": {"path": root.path()}}})));
    agent.send(Kind::Archive, &builder.into_inner().unwrap());
    agent.send(Kind::ArchiveEof, &[]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.problem(), outcome.text()), (Status::Rejected, "archive_unsafe", ""));
    assert!(!std::path::Path::new("/tmp/dindctl-escaped").exists());
}

fn workdir_refused() {
    for workdir in ["/no/such/folder", "/proc/self/fd/8", "/proc/1/cwd", "/proc", "/root"] {
        let outcome = run(&shell("echo ran", json!({"workdir": workdir})));
        assert_eq!((outcome.status(), outcome.problem()), (Status::Rejected, "workdir_unusable"), "{workdir}");
    }
}

fn disk_limit() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    let place = root.path().to_str().unwrap();
    std::fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mount = format!("mount -t tmpfs -o size=64k,nr_inodes=20,mode=1777 none {place}; exec \"$@\"");
    let front = ["unshare", "-m", "sh", "-c", mount.as_str(), "sh"];
    let watch = json!({"watch_full": [place], "workdir": place});
    for (script, expected) in [
        ("head -c 1000000 /dev/zero > full || exit 9", Status::DiskLimit),
        ("i=0; while : > f$i; do i=$((i+1)); done 2>/dev/null", Status::DiskLimit),
        ("head -c 1000000 /dev/zero > full; rm full; exit 9", Status::Nonzero),
        ("head -c 1000000 /dev/zero > full; exit 0", Status::Ok),
    ] {
        let mut agent = Agent::start_with(&front, &[]);
        agent.job(&shell(script, watch.clone()));
        let outcome = agent.finish();
        assert_eq!(outcome.status(), expected, "{script}: {outcome:?}");
    }
}

fn oom() {
    let Some(group) = MemoryGroup::new(64 << 20) else {
        eprintln!("agent::oom: no writable memory controller here");
        return;
    };
    let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.0);
    let front = ["sh", "-c", join.as_str(), "sh"];
    let eat = "head -c 500000000 /dev/zero | tail -n 1 | cat > /dev/null";
    for (script, status, oom_killed) in [
        ("exec tail -n 1 /dev/zero", Status::Oom, true),
        (&*format!("{eat}; exit 0"), Status::Ok, true),
        (&*format!("{eat}; exit 3"), Status::Nonzero, true),
        ("kill -9 $$", Status::Signaled, false),
    ] {
        let mut agent = Agent::start_with(&front, &[]);
        agent.job(&shell(script, json!({})));
        let outcome = agent.finish();
        assert_eq!((outcome.status(), outcome.report().oom_killed), (status, oom_killed), "{script}: {outcome:?}");
        assert!(outcome.report().usage.memory_peak_bytes <= 64 << 20, "{:?}", outcome.report().usage);
    }
}

/// A memory control group of this test's own, removed at its end.
struct MemoryGroup(String);

impl MemoryGroup {
    fn new(limit: u64) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let (root, path, file) = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            if controllers == "memory" {
                Some(("/sys/fs/cgroup/memory", path.to_owned(), "memory.limit_in_bytes"))
            } else {
                None
            }
        })?;
        let group = format!("{root}{}/dindctl-test-{}", path.trim_end_matches('/'), std::process::id());
        std::fs::create_dir(&group).ok()?;
        let group = Self(group);
        std::fs::write(format!("{}/{file}", group.0), limit.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn terminal() {
    let mut agent = Agent::start();
    let script = "trap 'stty size; echo resized' WINCH; test -t 0 && test -t 1 && test -t 2 && echo tty; \
                  stty size; stty -echo; tty >/dev/tty; read line; echo \"<$line>\"; cat; exit 4";
    agent.job(&shell(script, json!({"tty": [33, 111], "stdin": true})));
    let text = agent.await_output("/dev/pts/");
    assert!(text.contains("tty\r\n33 111\r\n"), "{text:?}");
    agent.send(Kind::Resize, &[0, 40, 0, 120]);
    agent.send(Kind::Stdin, b"typed\n");
    agent.send(Kind::StdinEof, &[]);
    let outcome = agent.finish();
    assert!(outcome.text().contains("<typed>") && outcome.text().contains("40 120"), "{outcome:?}");
    assert_eq!((outcome.status(), outcome.report().returncode), (Status::Nonzero, Some(4)));

    // Ctrl-C at the terminal.
    let mut agent = Agent::start();
    agent.job(&shell("echo ready; exec sleep 60", json!({"tty": [24, 80], "stdin": true})));
    agent.await_output("ready");
    agent.send(Kind::Stdin, &[3]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.report().signal), (Status::Signaled, Some(libc::SIGINT)));
}

fn agent_cannot_be_reached() {
    let script = r"
        for fd in 0 1 2 64 65 66 67 68 69 70; do echo x > /proc/1/fd/$fd && echo opened $fd; done
        ls /proc/1/fd/ && echo listed
        cat /proc/1/environ && echo environ
        head -c 1 /proc/1/mem && echo mem
        cat /proc/1/maps | grep . && echo maps
        kill -9 1 && echo killed; kill -STOP 1 && echo stopped; kill -TERM 1 && echo asked
        echo -1000 > /proc/self/oom_score_adj && echo immortal
        printf 'D\0\0\0\002{}'
    ";
    let outcome = run(&shell(script, json!({})));
    // A frame that the program prints is output like any other.
    assert_eq!(outcome.stdout, b"D\0\0\0\x02{}", "{outcome:?}");
    assert_eq!(outcome.status(), Status::Ok);
}

fn orphans_are_reaped() {
    let script = "i=0; while [ $i -lt 200 ]; do (sleep 0.01 &) ; i=$((i+1)); done; sleep 0.5; \
                  grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(run(&shell(script, json!({}))).text(), "0\n");
}

fn idle() {
    let start = Instant::now();
    let mut agent = Agent::start_with(&[], &["--idle", "1"]);
    assert_eq!(agent.exit_code(), 4);
    assert!(start.elapsed() >= Duration::from_millis(900) && start.elapsed() < Duration::from_secs(4));
}

fn nonsense_from_the_caller() {
    let mut agent = Agent::start();
    agent.send(Kind::Job, b"{\"id\": 5}");
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.problem()), (Status::Internal, "protocol"));

    let mut agent = Agent::start();
    agent.job(&command(&["sleep", "60"], json!({})));
    agent.await_start();
    agent.send(Kind::Report, b"");
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.problem()), (Status::Internal, "protocol"));
    assert!(outcome.took < Duration::from_secs(1));
}

/// Not PID 1: only its own descendants are ended, and all of them.
fn without_a_namespace() {
    let mut agent = Agent::start_plain();
    agent.job(&shell("setsid sh -c '(sleep 61 &) &'; sleep 0.2; echo over", json!({"timeout_ms": 5000})));
    let outcome = agent.finish();
    assert_eq!((outcome.text(), outcome.status()), ("over\n", Status::Ok));
    assert_eq!(agent.exit_code(), 0);
    let mut agent = Agent::start_plain();
    agent.job(&shell("setsid sleep 62 & trap '' TERM; sleep 62", json!({"timeout_ms": 300})));
    assert_eq!(agent.finish().status(), Status::Timeout);
    let left = std::process::Command::new("pgrep").args(["-fx", "sleep 6[12]"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}
