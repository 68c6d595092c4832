//! Both dialects on a terminal: who has it, who is in its foreground, and whom keys and hang-ups reach.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use dindctl::sys::signal::send;
use dindctl::sys::terminal::open_terminal;
use libtest_mimic::{Failed, Trial};
use nix::libc;

use super::{STANDING, original, ours, settled};
use crate::driver::READER;
use crate::lab::Outcome;
use crate::support::{ensure, eventually, program, trial};

/// What is put on a terminal.
#[derive(Clone, Copy)]
struct Case {
    program: &'static str,
    name: &'static str,
    options: &'static [&'static str],
    /// The command, unless it is the reader of signals.
    command: Option<&'static [&'static str]>,
    /// Whether the init leads the session of the terminal.
    leader: bool,
    /// Keys, each typed when the text before has appeared.
    keys: &'static [(&'static str, &'static str)],
    /// A signal for the init, once the text has appeared.
    signal: Option<(&'static str, i32)>,
}

const TINI: Case =
    Case { program: "tini", name: "", options: &["--"], command: None, leader: true, keys: &[], signal: None };
const DUMB: Case = Case { program: "dumb-init", options: &[], ..TINI };

const CASES: [Case; 15] = [
    Case { name: "tini_puts_its_child_into_the_foreground", command: Some(&["sh", "-c", STANDING]), ..TINI },
    Case { name: "tini_does_so_below_a_leader", command: Some(&["sh", "-c", STANDING]), leader: false, ..TINI },
    Case {
        name: "tini_tells_all",
        options: &["-vvv", "--"],
        command: Some(&["sh", "-c", "sleep 0.1; exit 3"]),
        ..TINI
    },
    Case { name: "tini_tells_of_signals", options: &["-vvv", "--"], signal: Some(("ready", libc::SIGUSR2)), ..TINI },
    Case {
        name: "tini_leaves_keys_to_its_child",
        keys: &[("ready", "\x03"), ("2", "\x1a"), ("20", "\x1c")],
        signal: Some(("3\n", libc::SIGUSR2)),
        ..TINI
    },
    Case {
        name: "tini_has_job_control",
        command: Some(&["bash", "-mc", "echo [$-]; sleep 0.1 & wait; exit 4"]),
        ..TINI
    },
    Case { name: "dumb_init_gives_its_child_the_terminal", command: Some(&["sh", "-c", STANDING]), ..DUMB },
    Case { name: "dumb_init_cannot_below_a_leader", command: Some(&["sh", "-c", STANDING]), leader: false, ..DUMB },
    Case {
        name: "dumb_init_keeps_it_in_single_child_mode",
        options: &["-c"],
        command: Some(&["sh", "-c", STANDING]),
        ..DUMB
    },
    Case {
        name: "dumb_init_tells_of_the_hand_off",
        options: &["-v"],
        command: Some(&["sh", "-c", "sleep 0.2; exit 3"]),
        ..DUMB
    },
    Case {
        name: "dumb_init_tells_that_it_was_no_leader",
        options: &["-v"],
        command: Some(&["sh", "-c", "sleep 0.2; exit 3"]),
        leader: false,
        ..DUMB
    },
    Case {
        name: "dumb_init_drops_the_first_hang_up_only",
        options: &["-v"],
        command: Some(&["sh", "-c", "echo up; exec sleep 20"]),
        signal: Some(("\nup", libc::SIGHUP)),
        ..DUMB
    },
    Case {
        name: "dumb_init_leaves_keys_to_its_child",
        keys: &[("ready", "\x03"), ("2", "\x1c")],
        signal: Some(("3\n", libc::SIGUSR2)),
        ..DUMB
    },
    Case {
        name: "dumb_init_passes_keys_on_in_single_child_mode",
        options: &["-c"],
        keys: &[("ready", "\x03")],
        signal: Some(("2", libc::SIGUSR2)),
        ..DUMB
    },
    Case {
        name: "dumb_init_has_job_control",
        command: Some(&["bash", "-mc", "echo [$-]; sleep 0.1 & wait; exit 4"]),
        ..DUMB
    },
];

pub fn trials() -> Vec<Trial> {
    CASES
        .into_iter()
        .map(|case| {
            let need = original(case.program).map(drop).and_then(|()| program("setsid"));
            trial(case.name, &need, move || compare(case))
        })
        .collect()
}

fn compare(case: Case) -> Outcome {
    let theirs = seen(&original(case.program)?, case)?;
    let ours = seen(&ours(), case)?;
    ensure(theirs == ours, || format!("{}\ntheirs {theirs:#?}\nours   {ours:#?}", case.name))
}

/// Exit code, and the lines on the terminal. Those of parent and child come in any order.
fn seen(binary: &std::path::Path, case: Case) -> Result<(Option<i32>, Vec<String>), Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(case.program);
    std::os::unix::fs::symlink(binary, &path)?;
    let terminal = open_terminal(24, 80)?;
    let stream = || -> Result<Stdio, Failed> { Ok(terminal.slave.try_clone()?.into()) };
    let own = std::env::current_exe()?;
    let mut command = Command::new("setsid");
    command.arg("--ctty");
    if !case.leader {
        command.args(["sh", "-c", "trap '' HUP; \"$@\"; exit $?", "sh"]);
    }
    command.arg(&path).args(case.options);
    match case.command {
        Some(words) => command.args(words),
        None => command.arg(own).arg(READER),
    };
    command.stdin(stream()?).stdout(stream()?).stderr(stream()?);
    let mut child = Killed(command.spawn()?);
    drop(command);
    let text = Arc::new(Mutex::new(String::new()));
    let reader = read(terminal.master.try_clone()?, Arc::clone(&text));
    drop(terminal.slave);
    let until = |wanted: &str| {
        eventually(wanted, || settled(&text.lock().unwrap(), folder.path()).contains(wanted).then_some(()))
            .map_err(|failed| Failed::from(format!("{failed:?}\n{}", text.lock().unwrap())))
    };
    for (wanted, keys) in case.keys {
        until(wanted)?;
        nix::unistd::write(&terminal.master, keys.as_bytes())?;
    }
    if let Some((wanted, number)) = case.signal {
        until(wanted)?;
        send(i32::try_from(child.0.id())?, number)?;
    }
    let status = eventually("the end", || child.0.try_wait().ok().flatten())
        .map_err(|failed| Failed::from(format!("{failed:?}\n{}", text.lock().unwrap())))?;
    reader.join().map_err(|_| "the reader of the terminal failed")?;
    let text = settled(&text.lock().unwrap(), folder.path());
    // The echo of a key has no line of its own; what follows it would look like no second of its kind.
    let text = ["^C", "^Z", "^\\"].iter().fold(text, |text, echo| text.replace(echo, &format!("{echo}\n")));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    // How often tini looks for the dead, and whether two of the same signal fall together, is a matter of time.
    lines.dedup();
    Ok((status.code(), lines))
}

/// Everything that appears on the terminal, until nobody has it open any more.
fn read(master: OwnedFd, text: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = nix::unistd::read(&master, &mut bytes) {
            text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
