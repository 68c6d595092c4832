//! How runs end: by limits, by the caller, by the kernel, by themselves.

use std::time::{Duration, Instant};

use dindctl::exec::outcome::Status;
use dindctl::exec::protocol::Kind;
use nix::sys::signal::Signal;
use serde_json::json;

use super::harness::{Agent, NOBODY, command, run, shell};

fn expect_timeout(script: &str, more: serde_json::Value, at_least: u64, at_most: u64) {
    let outcome = run(&shell(script, more));
    assert_eq!(outcome.status(), Status::Timeout, "{outcome:?}");
    let took = outcome.took.as_millis();
    assert!(took >= u128::from(at_least) && took < u128::from(at_most), "{took} ms");
}

pub fn deadline_against_trap() {
    expect_timeout("trap '' TERM INT HUP; while :; do sleep 1; done", json!({"timeout_ms": 300}), 290, 800);
    let grace = json!({"timeout_ms": 200, "grace_ms": 300});
    expect_timeout("trap '' TERM INT HUP; while :; do sleep 1; done", grace, 490, 1000);
}

pub fn deadline_with_grace() {
    let job = json!({"timeout_ms": 200, "grace_ms": 5000});
    let outcome = run(&shell("trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done", job));
    assert_eq!((outcome.status(), outcome.report().returncode), (Status::Timeout, Some(3)));
    assert_eq!(outcome.text(), "bye\n");
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

pub fn deadline_against_daemons() {
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

pub fn deadline_against_sigstop() {
    expect_timeout("kill -STOP $$", json!({"timeout_ms": 300}), 290, 800);
    // With grace the stopped program is continued to hear SIGTERM.
    expect_timeout("kill -STOP $$; sleep 60", json!({"timeout_ms": 200, "grace_ms": 3000}), 190, 1500);
}

pub fn cpu_time_limit() {
    let outcome = run(&shell("while :; do :; done", json!({"cpu_time_ms": 300})));
    assert_eq!(outcome.status(), Status::CpuTimeout);
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
    let outcome = run(&shell("sleep 0.5", json!({"cpu_time_ms": 300})));
    assert_eq!(outcome.status(), Status::Ok);
}

pub fn background_child_holds_stdout() {
    let outcome = run(&shell("sleep 60 & echo started", json!({})));
    assert_eq!((outcome.text(), outcome.status()), ("started\n", Status::Ok));
    assert!(outcome.took < Duration::from_secs(2), "{:?}", outcome.took);
}

pub fn caller_leaves() {
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

pub fn cancel() {
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
pub fn stopped_container() {
    let mut agent = Agent::start();
    agent.job(&command(&["sleep", "60"], json!({})));
    agent.await_start();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.pid()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(agent.finish().status(), Status::Killed);
    assert_eq!(agent.exit_code(), 0);
}

pub fn signals_reach_the_program() {
    let mut agent = Agent::start();
    agent.job(&shell("trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.05; done", json!({})));
    agent.await_output("ready");
    agent.send(Kind::Signal, &[u8::try_from(libc::SIGINT).unwrap()]);
    let outcome = agent.finish();
    assert_eq!((outcome.text(), outcome.report().returncode), ("got\n", Some(5)));
}

pub fn death_by_signal() {
    for signal in [libc::SIGSEGV, libc::SIGKILL, libc::SIGTERM] {
        let outcome = run(&shell(&format!("kill -{signal} $$"), json!({})));
        let report = outcome.report();
        assert_eq!((report.status, report.returncode, report.signal), (Status::Signaled, None, Some(signal)));
    }
}

pub fn disk_limit() {
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

pub fn oom() {
    let group = MemoryGroup::new(64 << 20).expect("a control group, which was there a moment ago");
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
pub struct MemoryGroup(String);

impl MemoryGroup {
    pub fn new(limit: u64) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let group_of = |wanted: &str| {
            let mut fields = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            fields.find(|(controllers, _)| *controllers == wanted).map(|(_, path)| path.to_owned())
        };
        let (root, path, file) = match group_of("memory") {
            Some(path) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            None => ("/sys/fs/cgroup", group_of("")?, "memory.max"),
        };
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

pub fn orphans_are_reaped() {
    let script = "i=0; while [ $i -lt 200 ]; do (sleep 0.01 &) ; i=$((i+1)); done; sleep 0.5; \
                  grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(run(&shell(script, json!({}))).text(), "0\n");
}
