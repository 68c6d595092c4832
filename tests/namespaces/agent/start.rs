//! Starting programs: identity, environment, lookup, stages, terminal.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use dindctl::exec::outcome::Status;
use dindctl::exec::protocol::Kind;
use serde_json::json;

use super::harness::{Agent, NOBODY, command, run, shell};

pub fn says_hello_and_reports() {
    let outcome = run(&shell("echo out; echo err >&2", json!({})));
    assert_eq!((outcome.text(), outcome.stderr.as_slice()), ("out\n", b"err\n".as_slice()));
    assert!(outcome.started);
    let report = outcome.report();
    assert_eq!((report.status, report.returncode, report.signal), (Status::Ok, Some(0), None));
    assert!(report.problem.is_none() && report.usage.memory_peak_bytes > 0, "{report:?}");

    let outcome = run(&shell("exit 7", json!({})));
    assert_eq!((outcome.status(), outcome.report().returncode), (Status::Nonzero, Some(7)));
}

pub fn program_sees_a_bare_identity() {
    let script = "id -u; id -g; id -G; grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status; \
                  cat /proc/self/oom_score_adj; umask; ls /proc/self/fd; cut -d' ' -f6 /proc/$$/stat; echo $$";
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

pub fn names_of_users_resolve() {
    for (spec, expected) in [("nobody", "65534:65534\n"), ("1234", "1234:0\n"), ("daemon:games", "1:60\n")] {
        let outcome = run(&shell("echo $(id -u):$(id -g)", json!({"run_as": {"spec": spec}})));
        assert_eq!(outcome.text(), expected, "{spec}");
    }
    let outcome = run(&shell("true", json!({"run_as": {"spec": "no-such-user"}})));
    assert_eq!((outcome.status(), outcome.problem()), (Status::Rejected, "unknown_user"));
    assert!(!outcome.started && outcome.report().returncode.is_none());
}

pub fn environment_and_files() {
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

pub fn program_not_found() {
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

pub fn program_not_executable() {
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

pub fn stages() {
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

pub fn workdir_refused() {
    for workdir in ["/no/such/folder", "/proc/self/fd/8", "/proc/1/cwd", "/proc", "/root"] {
        let outcome = run(&shell("echo ran", json!({"workdir": workdir})));
        assert_eq!((outcome.status(), outcome.problem()), (Status::Rejected, "workdir_unusable"), "{workdir}");
    }
}

pub fn terminal() {
    let mut agent = Agent::start();
    let script = "trap 'stty size; echo resized' WINCH; test -t 0 && test -t 1 && test -t 2 && echo tty; \
                  stty size; stty -echo; tty >/dev/tty; until read line; do :; done; echo \"<$line>\"; cat; exit 4";
    agent.job(&shell(script, json!({"tty": [33, 111], "stdin": true})));
    let text = agent.await_output("/dev/pts/");
    assert!(text.contains("tty\r\n33 111\r\n"), "{text:?}");
    agent.send(Kind::Resize, &[0, 40, 0, 120]);
    assert!(agent.await_output("resized").contains("40 120"));
    agent.send(Kind::Stdin, b"typed\n");
    agent.send(Kind::StdinEof, &[]);
    let outcome = agent.finish();
    assert!(outcome.text().contains("<typed>"), "{outcome:?}");
    assert_eq!((outcome.status(), outcome.report().returncode), (Status::Nonzero, Some(4)));

    // Without input the terminal is at its end at once.
    assert!(run(&shell("cat; echo over", json!({"tty": [24, 80]}))).text().contains("over"));

    // Ctrl-C at the terminal.
    let mut agent = Agent::start();
    agent.job(&shell("echo ready; exec sleep 60", json!({"tty": [24, 80], "stdin": true})));
    agent.await_output("ready");
    agent.send(Kind::Stdin, &[3]);
    let outcome = agent.finish();
    assert_eq!((outcome.status(), outcome.report().signal), (Status::Signaled, Some(libc::SIGINT)));
}

pub fn idle() {
    let start = Instant::now();
    let mut agent = Agent::start_with(&[], &["--idle", "1"]);
    assert_eq!(agent.exit_code(), 4);
    assert!(start.elapsed() >= Duration::from_millis(900) && start.elapsed() < Duration::from_secs(4));
}

pub fn nonsense_from_the_caller() {
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
pub fn without_a_namespace() {
    let mut agent = Agent::start_plain();
    agent.job(&shell("setsid sh -c '(sleep 61 &) &'; sleep 0.2; echo over", json!({"timeout_ms": 5000})));
    let outcome = agent.finish();
    assert_eq!((outcome.text(), outcome.status()), ("over\n", Status::Ok));
    assert_eq!(agent.exit_code(), 0);
    let mut agent = Agent::start_plain();
    agent.job(&shell("setsid sleep 62 & trap '' TERM; sleep 62", json!({"timeout_ms": 300})));
    assert_eq!(agent.finish().status(), Status::Timeout);
    let left = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let command = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        [&b"sleep\x0061\0"[..], b"sleep\x0062\0"].contains(&command.as_slice()).then_some(command)
    });
    assert_eq!(left.count(), 0, "programs of the agent are left");
}
