//! The plain PID 1, as PID 1 of a pid namespace of its own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dindctl::sys::family::{descendants, processes};
use dindctl::sys::signal::send;
use libtest_mimic::{Failed, Trial};
use nix::libc;

use crate::dialects::ours;
use crate::lab::{Outcome, first_child};
use crate::support::{ensure, eventually, pid_namespaces, trial};

pub fn trials() -> Vec<Trial> {
    let namespaces = pid_namespaces();
    vec![
        trial("plain_init_passes_codes_and_signals_and_reaps", namespaces, plain_init),
        trial("plain_init_signals_the_group", namespaces, plain_init_signals_the_group),
        trial("plain_init_rewrites_signals", namespaces, plain_init_rewrites_signals),
        trial("plain_init_is_a_subreaper_elsewhere_and_holds_on_to_nothing", namespaces, elsewhere),
        trial("plain_init_hands_sockets_on", namespaces, sockets),
        trial("plain_init_explains_a_missing_program", namespaces, missing_program),
        trial("plain_init_is_never_woken_once_all_is_quiet", namespaces, idle),
        trial("tini_needs_no_dashes_before_a_program_with_options", namespaces, no_dashes),
        trial("tini_ends_though_its_caller_ignores_sigchld", namespaces, ignored_sigchld),
        trial("tini_does_not_pass_its_own_broken_pipe_on", namespaces, broken_pipe),
        trial("a_signal_between_fork_and_session_is_not_lost", namespaces, early_signal),
    ]
}

/// The plain PID 1 over a shell script, in a namespace.
struct Plain {
    child: Child,
    init: i32,
    folder: tempfile::TempDir,
}

impl Plain {
    fn start(options: &[&str], script: &str) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(ours()).arg("init").args(options);
        command.args(["--", "/bin/sh", "-c", script]).env("DIR", folder.path());
        command.stdin(Stdio::null()).stderr(std::fs::File::create(folder.path().join("stderr"))?);
        // Not the group of the test runner, whose terminal would be taken otherwise.
        command.process_group(0);
        let child = command.spawn()?;
        let mut plain = Self { child, init: 0, folder };
        plain.init = first_child(&mut plain.child)?;
        Ok(plain)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn until(&self, name: &str, word: &str) -> Outcome {
        eventually(word, || self.text(name).contains(word).then_some(()))
    }

    fn code(&mut self) -> Result<Option<i32>, Failed> {
        let child = &mut self.child;
        Ok(eventually("the end", || child.try_wait().ok().flatten())?.code())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn plain_init() -> Outcome {
    for (options, script, code) in [
        (&[][..], "sleep 0.1; exit 7", 7),
        (&[][..], "sleep 0.1; kill -KILL $$", 137),
        (&["-e", "143"][..], "sleep 0.1; kill -TERM $$", 0),
    ] {
        let got = Plain::start(options, script)?.code()?;
        ensure(got == Some(code), || format!("{script}: {got:?}, not {code}"))?;
    }
    let script = "for s in HUP USR1 WINCH ALRM RTMIN+3; do trap \"echo $s >> $DIR/got\" $s; done; trap 'exit 9' TERM; \
                  i=0; while [ $i -lt 300 ]; do (sleep 0.05 & ); i=$((i+1)); done; echo up > $DIR/up; \
                  while :; do sleep 0.02; done";
    let script = format!("exec bash -c '{}'", script.replace('\'', "'\\''"));
    let mut plain = Plain::start(&["-w"], &script)?;
    plain.until("up", "up")?;
    let numbers = [("HUP", 1), ("USR1", 10), ("WINCH", 28), ("ALRM", 14), ("RTMIN+3", libc::SIGRTMIN() + 3)];
    for (name, number) in numbers {
        send(plain.init, number)?;
        plain.until("got", name)?;
    }
    let left = descendants(&processes(Path::new("/proc")), plain.init);
    let zombies = left
        .iter()
        .filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")));
    ensure(zombies.count() <= 1, || "orphans were left as zombies".into())?;
    let reaped = || plain.text("stderr").matches("reaped zombie process").count();
    eventually("all orphans to be reaped", || (reaped() >= 300).then_some(()))?;
    send(plain.init, libc::SIGTERM)?;
    let code = plain.code()?;
    ensure(code == Some(9), || format!("{code:?}"))
}

fn plain_init_signals_the_group() -> Outcome {
    let script = "trap 'echo shell >> $DIR/got; wait; exit 4' USR1; \
                  sh -c 'trap \"echo inner >> $DIR/got; exit 0\" USR1; echo up > $DIR/up; while :; do sleep 0.02; done' & \
                  while :; do wait; done";
    let mut plain = Plain::start(&["-g"], script)?;
    plain.until("up", "up")?;
    send(plain.init, libc::SIGUSR1)?;
    let code = plain.code()?;
    ensure(code == Some(4), || format!("{code:?}"))?;
    let got = plain.text("got");
    ensure(got.contains("shell") && got.contains("inner"), || got.clone())
}

fn plain_init_rewrites_signals() -> Outcome {
    let script = "trap 'exit 3' INT; trap 'exit 4' TERM; echo up > $DIR/up; while :; do sleep 0.02; done";
    let mut plain = Plain::start(&["-r", "TERM:INT", "-r", "HUP:0"], script)?;
    plain.until("up", "up")?;
    send(plain.init, libc::SIGHUP)?;
    send(plain.init, libc::SIGTERM)?;
    let code = plain.code()?;
    ensure(code == Some(3), || format!("{code:?}"))
}

/// A shell script that is PID 1 of a namespace, with the binary below it under these names; what it wrote, and its code.
fn below(script: &str) -> Result<(String, Option<i32>), Failed> {
    let folder = tempfile::tempdir()?;
    for name in ["dindctl", "tini", "dumb-init"] {
        std::os::unix::fs::symlink(ours(), folder.path().join(name))?;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "timeout", "8", "sh", "-c", script]);
    command.current_dir(folder.path()).stdin(Stdio::null()).process_group(0);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((text, output.status.code()))
}

fn elsewhere() -> Outcome {
    let script = "exec 5</dev/null; ./dindctl init sh -c 'sh -c \"(sleep 0.2; read a b c ppid rest < /proc/self/stat; \
                  echo parent \\$ppid; touch told) & exit 0\"; sleep 0.1; echo init $PPID; readlink /proc/$PPID/cwd; \
                  echo own $(ls /proc/$PPID/fd); echo child $(ls /proc/$$/fd); until [ -e told ]; do sleep 0.02; done'";
    let (text, code) = below(script)?;
    let word = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    ensure(code == Some(0) && word("init ") == word("parent "), || format!("the orphan went elsewhere:\n{text}"))?;
    ensure(text.contains("\n/\n"), || format!("the working directory is kept:\n{text}"))?;
    ensure(word("own ") == "0 1 2", || format!("descriptors are kept:\n{text}"))?;
    ensure(word("child ").contains('5'), || format!("the command lacks what it was handed:\n{text}"))
}

fn sockets() -> Outcome {
    // The subshell's own number is what the program of the same number would find.
    let script = "sh -c 'export LISTEN_FDS=1 LISTEN_PID=$$; exec ./dindctl init sh -c \"echo \\$((LISTEN_PID == \\$\\$))\"'; \
                  LISTEN_PID=99 ./dindctl init sh -c 'echo $LISTEN_PID'";
    let (text, _) = below(script)?;
    ensure(text == "1\n99\n", || text)
}

fn idle() -> Outcome {
    let mut plain = Plain::start(&[], "echo up > $DIR/up; exec sleep 1000")?;
    plain.until("up", "up")?;
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", plain.init)).unwrap_or_default();
        status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect::<Vec<_>>()
    };
    // The last thing it does is to give memory back, a second after the start.
    std::thread::sleep(Duration::from_millis(1500));
    let before = switches();
    std::thread::sleep(Duration::from_secs(3));
    ensure(before.len() == 2 && before == switches(), || format!("{before:?}, then {:?}", switches()))?;
    send(plain.init, libc::SIGTERM)?;
    let code = plain.code()?;
    ensure(code == Some(143), || format!("{code:?}"))
}

fn missing_program() -> Outcome {
    let (text, code) = below("./dindctl init no-such-program")?;
    let expected =
        "dindctl: error: cannot run no-such-program: No such file or directory\ndindctl: hint: is it installed";
    ensure(code == Some(127) && text.starts_with(expected), || format!("{code:?} {text}"))?;
    let (text, code) = below("./dindctl init /etc")?;
    ensure(code == Some(126) && text.contains("cannot run /etc: Permission denied"), || format!("{code:?} {text}"))
}

fn no_dashes() -> Outcome {
    let (text, code) = below("TINI_SUBREAPER= ./tini sh -c 'echo $0 $1; exit 6' -g -- ")?;
    ensure(text == "-g --\n" && code == Some(6), || format!("{code:?} {text}"))
}

/// The original waits for ever then: the kernel forgets the exit codes of such children at once.
fn ignored_sigchld() -> Outcome {
    let (text, code) = below("env --ignore-signal=CHLD ./tini -s -- grep SigIgn /proc/self/status")?;
    let ignored = u64::from_str_radix(text.split_whitespace().next_back().unwrap_or_default(), 16)?;
    ensure(ignored & 1 << 16 != 0 && code == Some(0), || format!("{code:?} {text}"))
}

/// The original kills its command with the signal that its own line brought on.
fn broken_pipe() -> Outcome {
    let script = "mkfifo pipe; (exec 3<pipe; sleep 0.1) & \
                  ./tini -s -w -- sh -c 'sleep 0.3; sh -c \"true & exit 0\"; sleep 0.3; exit 6' 2>pipe";
    let (text, code) = below(script)?;
    ensure(code == Some(6), || format!("{code:?} {text}"))
}

/// dumb-init and `tini -g` address a group that the child makes only after its birth.
fn early_signal() -> Outcome {
    let script = "i=0; while [ $i -lt 50 ]; do ./dumb-init sleep 1000 & pid=$!; \
                  child=; until read -r child rest < /proc/$pid/task/$pid/children || [ \"$child\" ]; do :; done 2>/dev/null; \
                  kill -TERM $pid; wait $pid; code=$?; [ $code = 143 ] || exit 3; i=$((i+1)); done; echo all";
    let (text, code) = below(script)?;
    ensure(text.ends_with("all\n") && code == Some(0), || format!("{code:?} {text}"))
}
