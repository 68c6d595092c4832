//! The plain PID 1, as PID 1 of a pid namespace of its own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dindctl::init::sweep::{descendants, processes};
use dindctl::sys::signal::send;
use libtest_mimic::{Failed, Trial};
use nix::libc;

use crate::driver::PLAIN;
use crate::lab::{Outcome, first_child};
use crate::support::{ensure, eventually, pid_namespaces, trial};

pub fn trials() -> Vec<Trial> {
    let namespaces = pid_namespaces();
    vec![
        trial("plain_init_passes_codes_and_signals_and_reaps", namespaces, plain_init),
        trial("plain_init_signals_the_group", namespaces, plain_init_signals_the_group),
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
        let own = std::env::current_exe()?;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(own).arg(PLAIN).args(options);
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
    send(plain.init, libc::SIGTERM)?;
    let code = plain.code()?;
    ensure(code == Some(9), || format!("{code:?}"))?;
    let reaped = plain.text("stderr").matches("reaped zombie process").count();
    ensure(reaped >= 300, || format!("{reaped} reaped"))
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
