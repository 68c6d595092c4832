//! `dindctl exec` and `gc` from outside against the engine at hand, and inside the image next to its daemon.

// All cases have one type.
#![allow(clippy::unnecessary_wraps)]

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use super::docker::{Said, docker, fresh_name};

type Case = fn() -> Result<(), Failed>;

/// The cases of this file.
pub const CASES: &[(&str, Case)] = &[
    ("exec::every_language_says_hello", every_language_says_hello),
    ("exec::code_comes_from_text_file_and_stdin", code_comes_from_text_file_and_stdin),
    ("exec::environment_workdir_and_user", environment_workdir_and_user),
    ("exec::images_keep_their_entrypoint_and_user", images_keep_their_entrypoint_and_user),
    ("exec::an_image_needs_no_shell", an_image_needs_no_shell),
    ("exec::the_sandbox_is_tight", the_sandbox_is_tight),
    ("exec::time_ends_a_run_with_all_its_children", time_ends_a_run_with_all_its_children),
    ("exec::memory_ends_a_run", memory_ends_a_run),
    ("exec::processes_are_bounded", processes_are_bounded),
    ("exec::a_full_tmpfs_is_named", a_full_tmpfs_is_named),
    ("exec::what_cannot_start_is_named", what_cannot_start_is_named),
    ("exec::signals_become_exit_codes", signals_become_exit_codes),
    ("exec::the_json_result_has_its_keys", the_json_result_has_its_keys),
    ("exec::events_come_while_it_runs", events_come_while_it_runs),
    ("exec::output_is_capped_in_the_middle", output_is_capped_in_the_middle),
    ("exec::much_output_arrives_whole", much_output_arrives_whole),
    ("exec::much_input_arrives_whole", much_input_arrives_whole),
    ("exec::a_reader_that_goes_ends_the_run", a_reader_that_goes_ends_the_run),
    ("exec::a_reader_that_stalls_does_not_stop_the_clock", a_reader_that_stalls_does_not_stop_the_clock),
    ("exec::an_interrupt_cancels_and_cleans_up", an_interrupt_cancels_and_cleans_up),
    ("exec::bad_requests_are_one_line_and_125", bad_requests_are_one_line_and_125),
    ("exec::a_workspace_that_is_not_shared_is_copied", a_workspace_that_is_not_shared_is_copied),
    ("exec::the_shell_image_has_its_tools", the_shell_image_has_its_tools),
    ("exec::killed_callers_leave_nothing", killed_callers_leave_nothing),
];

pub fn program() -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/dist/dindctl");
    std::env::var_os("DINDCTL_BIN").map_or_else(built, PathBuf::from)
}

pub fn exec_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    // Of the tests, not of dindctl, which would warn about it.
    command.env_remove("DINDCTL_BIN").arg("exec").args(arguments).stdin(Stdio::null());
    command
}

fn exec(arguments: &[&str]) -> Said {
    exec_command(arguments).output().expect("dindctl").into()
}

fn exec_with_input(arguments: &[&str], input: &[u8]) -> Said {
    let mut command = exec_command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("dindctl");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A program that does not read its input to the end is no failure of ours.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let said = child.wait_with_output().expect("dindctl").into();
    feeder.join().expect("feeder");
    said
}

fn json(arguments: &[&str]) -> Value {
    let said = exec(&[&["-o", "json"], arguments].concat());
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err))
}

pub fn same(said: &Said, code: i32, out: &str) {
    assert_eq!((said.code, said.out.as_str()), (code, out), "{}", said.err);
}

fn every_language_says_hello() -> Result<(), Failed> {
    same(&exec(&["python", "-c", "print('hello')"]), 0, "hello\n");
    same(&exec(&["node", "-c", "console.log('hello')"]), 0, "hello\n");
    same(&exec(&["sh", "-c", "echo hello"]), 0, "hello\n");
    same(&exec(&["bash", "-c", "[[ a == a ]] && echo hello"]), 0, "hello\n");
    Ok(())
}

fn code_comes_from_text_file_and_stdin() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.py");
    std::fs::write(&file, "import sys; print(sys.argv[1:], __file__.rsplit('/')[-1]); sys.exit(5)")?;
    let path = file.to_str().ok_or("path")?;
    same(&exec(&["python", path, "--", "a", "b c"]), 5, "['a', 'b c'] app.py\n");
    same(&exec_with_input(&["python", "-"], b"print(6*7)"), 0, "42\n");
    same(&exec_with_input(&["python", "-i", "-c", "print(input()[::-1])"], b"abc\n"), 0, "cba\n");
    // Without -i the program reads the end of its input at once.
    same(&exec_with_input(&["python", "-c", "import sys; print(len(sys.stdin.read()))"], b"abc\n"), 0, "0\n");
    Ok(())
}

fn environment_workdir_and_user() -> Result<(), Failed> {
    let script = "echo $A $B; pwd; id -u; id -g";
    let said = exec(&["sh", "-e", "A=1 2", "-e", "B=3", "-w", "/usr", "-u", "1000:1001", "-c", script]);
    same(&said, 0, "1 2 3\n/usr\n1000\n1001\n");
    same(&exec(&["sh", "-c", "pwd; id -u; echo $HOME"]), 0, "/tmp\n65534\n/tmp\n");
    Ok(())
}

/// Builds an image on the engine at hand, removed with the returned guard.
struct Image(String);

impl Image {
    fn build(dockerfile: &str, files: &[&Path]) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        for file in files {
            std::fs::copy(file, folder.path().join(file.file_name().ok_or("name")?))?;
        }
        std::fs::write(folder.path().join("Dockerfile"), dockerfile)?;
        let image = Self(fresh_name("image"));
        docker(&["build", "--quiet", "--tag", &image.0, folder.path().to_str().ok_or("path")?]).ok();
        Ok(image)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = docker(&["rmi", "--force", &self.0]);
    }
}

fn the_shell_image_has_its_tools() -> Result<(), Failed> {
    let script = "for tool in bash bc curl file git jq less ps ssh unzip xz zip zstd; do type -P $tool >/dev/null || echo $tool; done; \
        cd /tmp && git init -q r && echo '{\"a\":1}' | jq -c .a && id -u";
    let said = exec(&["--image=dindctl/shell:trixie", "--", "bash", "-c", script]).ok();
    assert_eq!(said, "1\n65534", "a name stands for a tool that is missing");
    Ok(())
}

fn images_keep_their_entrypoint_and_user() -> Result<(), Failed> {
    let text = "FROM debian:trixie-slim\nRUN useradd -u 1234 app && mkdir /data\nUSER app\nWORKDIR /srv\nVOLUME /data\n\
        ENV A=image\nENTRYPOINT [\"sh\", \"-c\", \"echo $A $0 $*; pwd; id -un; touch /data/x && echo wrote\"]\n\
        CMD [\"from-cmd\"]\nHEALTHCHECK CMD false\n";
    let image = Image::build(text, &[])?;
    same(&exec(&["--image", &image.0]), 0, "image from-cmd\n/srv\napp\nwrote\n");
    same(&exec(&["--image", &image.0, "-e", "A=ours", "--", "x", "y"]), 0, "ours x y\n/srv\napp\nwrote\n");
    // The image's VOLUME must not have become an anonymous volume without a limit.
    let full = exec(&["--image", &image.0, "--tmpfs-size", "1m", "-u", "app", "-c", "x"]);
    assert_eq!(full.code, 125, "{}", full.err);
    Ok(())
}

fn an_image_needs_no_shell() -> Result<(), Failed> {
    let program = program();
    let name = program.file_name().and_then(|name| name.to_str()).ok_or("name")?;
    let image = Image::build(&format!("FROM scratch\nCOPY {name} /only\nENTRYPOINT [\"/only\"]\n"), &[&program])?;
    let said = exec(&["--image", &image.0, "--", "--version"]);
    assert!(said.code == 0 && said.out.starts_with("dindctl "), "{}{}", said.out, said.err);
    Ok(())
}

fn the_sandbox_is_tight() -> Result<(), Failed> {
    let script = "grep -E '^(CapEff|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -c; ls /sys/class/net; \
        touch /etc/x 2>&1; ls /var/run/docker.sock 2>&1; cat /proc/1/environ 2>&1 >/dev/null; kill -9 1 2>&1; true";
    let said = exec(&["bash", "-c", script]);
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "\n0\nlo\n", "Read-only file system"] {
        assert!(said.out.contains(line), "{line:?} is missing in {}{}", said.out, said.err);
    }
    let told = ["docker.sock': No such file", "environ: Permission denied", "Operation not permitted"];
    assert!(told.iter().all(|words| said.out.contains(words)), "{}{}", said.out, said.err);
    let net = exec(&["python", "-c", "import socket; socket.create_connection(('192.0.2.1', 53), 2)"]);
    assert!(net.code == 1 && net.err.contains("Network is unreachable"), "{}", net.err);
    Ok(())
}

fn time_ends_a_run_with_all_its_children() -> Result<(), Failed> {
    let started = Instant::now();
    let said = exec(&["bash", "--timeout", "1s", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000"]);
    assert_eq!(said.code, 124, "{}", said.err);
    assert!(said.err.contains("did not end within 1s"), "{}", said.err);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let stopped = json(&["sh", "--timeout", "1s", "-c", "kill -STOP $$"]);
    assert_eq!((stopped["status"].as_str(), stopped["timed_out"].as_bool()), (Some("timeout"), Some(true)));
    let busy = json(&["python", "--cpu-time", "500ms", "-c", "while True: pass"]);
    assert_eq!((busy["status"].as_str(), busy["returncode"].as_i64()), (Some("cpu_timeout"), Some(124)));
    Ok(())
}

fn memory_ends_a_run() -> Result<(), Failed> {
    let result = json(&["python", "-m", "32m", "-c", "x = bytearray(256 << 20)"]);
    assert_eq!(result["status"], "oom", "{result}");
    assert_eq!((result["returncode"].as_i64(), result["oom_killed"].as_bool()), (Some(137), Some(true)), "{result}");
    Ok(())
}

fn processes_are_bounded() -> Result<(), Failed> {
    let bomb = json(&["bash", "--pids-limit", "32", "--timeout", "2s", "-c", "f() { f | f & }; f; sleep 100"]);
    assert!(bomb["usage"]["pids_peak"].as_u64().is_some_and(|peak| peak <= 32), "{bomb}");
    assert!(matches!(bomb["status"].as_str(), Some("timeout" | "ok" | "nonzero")), "{bomb}");
    Ok(())
}

fn a_full_tmpfs_is_named() -> Result<(), Failed> {
    let result = json(&["sh", "--tmpfs-size", "1m", "-c", "head -c 4m /dev/zero >/tmp/x"]);
    assert_eq!(result["status"], "disk_limit", "{result}");
    let files = json(&[
        "sh",
        "--tmpfs-size",
        "1m",
        "-c",
        "cd /tmp; i=0; while true >f$i; do i=$((i+1)); done 2>/dev/null; echo $i",
    ]);
    let count: u64 = files["stdout"].as_str().unwrap_or_default().trim().parse()?;
    assert!(count < 300, "{count} empty files fit into 1 MiB");
    Ok(())
}

fn what_cannot_start_is_named() -> Result<(), Failed> {
    let cases: [(&[&str], i32); 3] = [
        (&["--image", "debian:trixie-slim", "--", "no-such-program"], 127),
        (&["--image", "debian:trixie-slim", "--", "/etc/passwd"], 126),
        (&["sh", "-w", "/no/such/place", "-c", "true"], 125),
    ];
    for (arguments, code) in cases {
        let said = exec(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}", said.err);
        assert!(said.err.starts_with("dindctl: error: ") && said.err.lines().count() == 2, "{}", said.err);
    }
    Ok(())
}

fn signals_become_exit_codes() -> Result<(), Failed> {
    assert_eq!(exec(&["sh", "-c", "kill -SEGV $$"]).code, 139);
    let result = json(&["sh", "-c", "kill -KILL $$"]);
    assert_eq!(result["status"], "signaled", "{result}");
    assert_eq!((result["signal"].as_i64(), result["returncode"].as_i64()), (Some(9), Some(137)), "{result}");
    assert_eq!(result["oom_killed"], false);
    Ok(())
}

const KEYS: [&str; 18] = [
    "returncode",
    "stdout",
    "stderr",
    "schema",
    "id",
    "status",
    "signal",
    "oom_killed",
    "timed_out",
    "truncated",
    "encoding",
    "usage",
    "timing",
    "stages",
    "artifacts",
    "image",
    "limits",
    "error",
];

fn keys_in_order(text: &str) {
    let mut from = 0;
    for key in KEYS {
        let found = text[from..].find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} after {from} in {text}"));
        from += found;
    }
    let value: serde_json::Map<String, Value> = serde_json::from_str(text).expect("one object");
    assert_eq!(value.len(), KEYS.len(), "{text}");
}

fn the_json_result_has_its_keys() -> Result<(), Failed> {
    let said = exec(&["-o", "json", "python", "-c", "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"]);
    assert_eq!(said.code, 3, "{}", said.err);
    keys_in_order(&said.out);
    assert!(said.out.starts_with("{\"returncode\":3,\"stdout\":\"1\\n\",\"stderr\":\"2\\n\","), "{}", said.out);
    let refused = exec(&["-o", "json", "pyton", "-c", "1"]);
    assert_eq!(refused.code, 125);
    keys_in_order(&refused.out);
    let value: Value = serde_json::from_str(&refused.out)?;
    assert_eq!((value["status"].as_str(), &value["returncode"]), (Some("rejected"), &Value::Null), "{value}");
    assert!(value["error"]["hint"].as_str().is_some_and(|hint| hint.contains("python")), "{value}");
    let bytes = json(&["python", "-c", "import sys; sys.stdout.buffer.write(b'\\xff\\x00')"]);
    assert_eq!((bytes["stdout"].as_str(), bytes["encoding"].as_str()), (Some("/wA="), Some("base64")));
    Ok(())
}

fn events_come_while_it_runs() -> Result<(), Failed> {
    let script = "echo one; sleep 0.2; echo two >&2";
    let said = exec(&["-o", "json", "--stream", "sh", "-c", script]);
    let events: Vec<Value> = said.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["started", "stdout", "stderr", "result"], "{}", said.out);
    assert_eq!((events[1]["data"].as_str(), events[3]["stdout"].as_str()), (Some("one\n"), Some("one\n")));
    Ok(())
}

fn output_is_capped_in_the_middle() -> Result<(), Failed> {
    let script = "print('head'); print('x' * 100000); print('tail')";
    let result = json(&["python", "--max-output", "1k", "-c", script]);
    let stdout = result["stdout"].as_str().unwrap_or_default();
    assert!(stdout.starts_with("head\n") && stdout.ends_with("tail\n") && stdout.len() <= 1024, "{}", stdout.len());
    assert_eq!(result["truncated"]["stdout"].as_u64(), Some(100_011 - stdout.len() as u64), "{}", result["truncated"]);
    let killed = json(&["sh", "--max-output", "1k", "--on-output-limit", "kill", "-c", "yes"]);
    assert_eq!((killed["status"].as_str(), killed["returncode"].as_i64()), (Some("output_limit"), Some(137)));
    Ok(())
}

fn much_output_arrives_whole() -> Result<(), Failed> {
    let said = exec(&["sh", "--timeout", "60s", "-c", "head -c 50000000 /dev/zero; echo done >&2"]);
    assert_eq!((said.code, said.out.len()), (0, 50_000_000), "{}", said.err);
    assert_eq!(said.err, "done\n");
    Ok(())
}

fn much_input_arrives_whole() -> Result<(), Failed> {
    let input: Vec<u8> = (0..10_000_000_u32).flat_map(|number| [(number % 251) as u8]).collect();
    let script = "import sys, hashlib; d = sys.stdin.buffer.read(); print(len(d), sum(d))";
    let sum: u64 = input.iter().map(|byte| u64::from(*byte)).sum();
    same(&exec_with_input(&["python", "-i", "-c", script], &input), 0, &format!("10000000 {sum}\n"));
    // A program that never reads ends as if there were no input.
    same(&exec_with_input(&["sh", "-i", "-c", "echo fine"], &input), 0, "fine\n");
    Ok(())
}

/// Containers of a run that was given this label.
fn left(label: &str) -> String {
    docker(&["ps", "--all", "--filter", &format!("label={label}"), "--format", "{{.Names}} {{.State}}"]).ok()
}

fn wait_until_gone(label: &str) {
    let started = Instant::now();
    while !left(label).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "still there: {}", left(label));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn a_reader_that_goes_ends_the_run() -> Result<(), Failed> {
    let label = fresh_name("reader");
    let mut command = exec_command(&["sh", "--label", &label, "-c", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut some = [0; 100];
    child.stdout.take().ok_or("piped")?.read_exact(&mut some)?;
    let said: Said = child.wait_with_output()?.into();
    assert_eq!((said.code, said.err.as_str()), (141, ""));
    wait_until_gone(&label);
    Ok(())
}

fn a_reader_that_stalls_does_not_stop_the_clock() -> Result<(), Failed> {
    let label = fresh_name("stalled");
    let mut command = exec_command(&["sh", "--label", &label, "--timeout", "1s", "-c", "yes"]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdout.take().ok_or("piped")?;
    let started = Instant::now();
    let running = || docker(&["ps", "--quiet", "--filter", &format!("label={label}")]).ok();
    std::thread::sleep(Duration::from_millis(1500));
    while !running().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30), "the sandbox outlives its limits");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(pipe);
    child.wait()?;
    wait_until_gone(&label);
    Ok(())
}

fn signal(child: &std::process::Child, name: &str) {
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().expect("signal");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).expect("kill");
}

fn an_interrupt_cancels_and_cleans_up() -> Result<(), Failed> {
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let label = fresh_name("interrupt");
        let script = "echo ready; sleep 1000";
        let mut child = exec_command(&["sh", "--label", &label, "-c", script]).stdout(Stdio::piped()).spawn()?;
        let mut ready = [0; 6];
        child.stdout.as_mut().ok_or("piped")?.read_exact(&mut ready)?;
        let started = Instant::now();
        signal(&child, name);
        assert_eq!(child.wait()?.code(), Some(code), "{name}");
        assert!(started.elapsed() < Duration::from_secs(5), "{name} took {:?}", started.elapsed());
        wait_until_gone(&label);
    }
    Ok(())
}

fn bad_requests_are_one_line_and_125() -> Result<(), Failed> {
    let cases: &[(&[&str], &str)] = &[
        (&["pyton", "-c", "1"], "did you mean python?"),
        (&["python", "-m", "12q", "-c", "1"], "--memory \"12q\""),
        (&["python", "-m", "1m", "-c", "1"], "minimum"),
        (&["python", "/no/such/file.py"], "No such file"),
        (&["python"], "no program to run"),
        (&["--image", "no-such-image-anywhere:1", "--pull", "never", "--", "x"], "no-such-image-anywhere:1"),
        (&["python", "--network", "no-such-network", "-c", "1"], "no-such-network"),
        (&["python", "--workspace", "/etc", "-c", "1"], "system directory"),
        (&["python", "--workspace", "/no/such", "-c", "1"], "No such file"),
        (&["python", "--runtime", "no-such-runtime", "-c", "1"], "no-such-runtime"),
        (&["python", "-w", "/proc/self/fd/8", "-c", "1"], "under /proc"),
        (&["python", "-t", "-c", "1"], "not a terminal"),
        (&["python", "-o", "yaml", "-c", "1"], "choose text or json"),
    ];
    for (arguments, words) in cases {
        let said = exec(arguments);
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
        let lines: Vec<&str> = said.err.lines().collect();
        assert!(lines.len() <= 2 && lines[0].starts_with("dindctl: error: "), "{arguments:?}: {}", said.err);
        assert!(lines.get(1).is_none_or(|line| line.starts_with("dindctl: hint: ")), "{arguments:?}: {}", said.err);
    }
    for host in ["unix:///no/such.sock", "tcp://127.0.0.1:1", "tcp://no-such-host.invalid:1", "ssh://x"] {
        let said: Said = exec_command(&["python", "-c", "1"]).env("DOCKER_HOST", host).output()?.into();
        assert_eq!(said.code, 125, "{host}: {}", said.err);
        let lines: Vec<&str> = said.err.lines().collect();
        assert!(lines.len() == 2 && lines[1].starts_with("dindctl: hint: "), "{host}: {}", said.err);
    }
    Ok(())
}

fn a_workspace_that_is_not_shared_is_copied() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("helper.py"), "value = 'from the workspace'")?;
    std::fs::write(folder.path().join("main.py"), "import helper; print(helper.value)")?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = folder.path().to_str().ok_or("path")?;
    let main = format!("{path}/main.py");
    same(&exec(&["python", "--workspace", &format!("{path}:copy"), &main]), 0, "from the workspace\n");
    // Wherever the daemon is, what was asked for comes about, and a foreign directory is never shown instead.
    let read_only = exec(&["python", "--workspace", path, &main]);
    same(&read_only, 0, "from the workspace\n");
    let kept = exec(&["sh", "--workspace", &format!("{path}:copy"), "-c", "echo changed >helper.py; cat helper.py"]);
    same(&kept, 0, "changed\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("helper.py"))?, "value = 'from the workspace'");
    let writable = exec(&["sh", "--workspace", &format!("{path}:rw"), "-u", "0", "-c", "echo new >made; cat made"]);
    let made = std::fs::read_to_string(folder.path().join("made"));
    match writable.code {
        0 => assert_eq!(made?, "new\n"),
        125 => assert!(writable.err.contains("another file system") && made.is_err(), "{}", writable.err),
        _ => return Err(format!("{}{}", writable.out, writable.err).into()),
    }
    Ok(())
}

fn killed_callers_leave_nothing() -> Result<(), Failed> {
    let label = fresh_name("killed");
    for number in 0..100_u64 {
        let mut child = exec_command(&["python", "--label", &label, "-c", "import time; time.sleep(20)"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Spread over all phases: before the creation, during the start, while it runs.
        std::thread::sleep(Duration::from_millis(number * 37 % 450));
        child.kill()?;
        assert_eq!(child.wait()?.signal(), Some(9));
    }
    // A creation that was under way may still come to its end.
    std::thread::sleep(Duration::from_secs(2));
    let said: Said = Command::new(program()).env_remove("DINDCTL_BIN").args(["gc", "-o", "json"]).output()?.into();
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    wait_until_gone(&label);
    let collected: Value = serde_json::from_str(&said.out)?;
    let removed = collected["removed"].as_array().map_or(0, Vec::len);
    assert!(removed > 10, "only {removed} of 100 were left to collect: the test does not hit what it is for");
    Ok(())
}
