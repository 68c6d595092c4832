//! The dialects beside the programs whose names they bear: the same words, variables, signals and surroundings are
//! given to both, and what can be seen of them from outside must be the same.

#[path = "dialects/dumb_init.rs"]
mod dumb_init;
#[path = "dialects/terminal.rs"]
mod terminal;
#[path = "dialects/tini.rs"]
mod tini;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dindctl::sys::family::processes;
use dindctl::sys::signal::send;
use libtest_mimic::{Failed, Trial};

use crate::driver::READER;
use crate::lab::{Outcome, first_child};
use crate::support::{ensure, eventually, pid_namespaces, trial};

/// Prints whether the shell leads its group and its session, is in the foreground, and has a terminal.
pub const STANDING: &str = "read -r pid comm state ppid pgrp session tty tpgid rest < /proc/$$/stat; \
                            echo $((pgrp == pid)) $((session == pid)) $((tpgid == pid)) $((tty != 0))";

/// Waits until an orphan has been collected.
pub const GONE: &str = "sh -c 'sleep 0.05 & echo $! > $DIR/orphan'; \
                    while kill -0 $(cat $DIR/orphan) 2>/dev/null; do sleep 0.02; done";

pub fn trials() -> Vec<Trial> {
    [tini::trials(), dumb_init::trials(), terminal::trials()].into_iter().flatten().collect()
}

/// One thing that is done to the running init.
#[derive(Clone, Copy)]
pub enum Step {
    /// Send it this signal, and wait until the command has written another line.
    Told(i32),
    /// Send it this signal, and wait until it is stopped.
    Stops(i32),
    /// Both.
    ToldAndStops(i32),
    /// Send it this signal, of which nothing is to be seen.
    Quiet(i32),
}

/// What both programs are put through.
#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub words: Vec<String>,
    pub variables: Vec<(&'static str, &'static str)>,
    /// What the shell that becomes the init does before.
    pub before: &'static str,
    /// PID 1 of the namespace, or a process like any other in it.
    pub one: bool,
    /// Done once the command has written its first line.
    pub steps: Vec<Step>,
    /// Whether the texts are compared up to the end of their first line only: ours are worded differently.
    pub first_lines: bool,
    /// Lines with this in them come as the kernel likes, and are not compared.
    pub aside: Option<&'static str>,
}

impl Case {
    pub fn new(name: &'static str, words: &[&str]) -> Self {
        Self {
            name,
            words: words.iter().map(ToString::to_string).collect(),
            variables: vec![],
            before: "",
            one: false,
            steps: vec![],
            first_lines: false,
            aside: None,
        }
    }

    /// The command is a shell script.
    pub fn script(name: &'static str, options: &[&str], script: &str) -> Self {
        Self::new(name, &[options, &["--", "/bin/sh", "-c", script]].concat())
    }

    /// The command prints the numbers of all signals that it gets, and ends at `SIGUSR2` with code 12.
    pub fn signals(name: &'static str, options: &[&str], steps: &[Step]) -> Self {
        let own = std::env::current_exe().unwrap();
        let words = [options, &["--", own.to_str().unwrap(), READER]].concat();
        Self { steps: steps.to_vec(), ..Self::new(name, &words) }
    }

    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    pub fn before(self, before: &'static str) -> Self {
        Self { before, ..self }
    }

    pub fn being_one(self) -> Self {
        Self { one: true, ..self }
    }

    pub fn first_lines(self) -> Self {
        Self { first_lines: true, ..self }
    }
}

/// What was to be seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    /// As a shell has it.
    pub code: Option<i32>,
    pub output: String,
    pub error: String,
}

/// The binary under test: the one that ships, else the one that cargo built for these tests.
pub fn ours() -> PathBuf {
    std::env::var_os("DINDCTL_BIN").map_or_else(|| env!("CARGO_BIN_EXE_dindctl").into(), PathBuf::from)
}

/// Where the original is, or why it cannot be compared with.
pub fn original(name: &str) -> Result<PathBuf, String> {
    let program = ["/usr/bin", "/usr/local/bin", "/bin"].map(|folder| Path::new(folder).join(name));
    let found = program.into_iter().find(|path| path.exists());
    found.ok_or_else(|| format!("the original {name} is not installed (Debian package `{name}`)"))
}

/// A trial for each case.
pub fn compared(program: &'static str, cases: Vec<Case>) -> Vec<Trial> {
    let need = pid_namespaces().clone().and_then(|()| original(program).map(drop));
    cases
        .into_iter()
        .map(|case| {
            let name = format!("{}_{}", program.replace('-', "_"), case.name);
            trial(&name, &need, move || compare(program, &case))
        })
        .collect()
}

fn compare(program: &str, case: &Case) -> Outcome {
    let theirs = Run::start(program, &original(program)?, case)?.seen(case)?;
    let ours = Run::start(program, &ours(), case)?.seen(case)?;
    ensure(theirs == ours, || format!("{program} {:?}\ntheirs {theirs:#?}\nours   {ours:#?}", case.words))
}

/// One of the two programs, running, under the same name and path.
struct Run {
    child: Child,
    init: i32,
    folder: tempfile::TempDir,
}

impl Run {
    fn start(program: &str, binary: &Path, case: &Case) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(program);
        std::os::unix::fs::symlink(binary, &path)?;
        let script = if case.one {
            format!("ulimit -c 0\n{}\nexec \"$@\"", case.before)
        } else {
            // PID 1 is a shell that stays, so the program is a process like any other and its end is told.
            format!("ulimit -c 0\n({}\nexec \"$@\")\necho $? > {}", case.before, folder.path().join("code").display())
        };
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c", &script, "sh"]);
        command.arg(&path).args(&case.words).envs(case.variables.iter().copied());
        command.env("DIR", folder.path()).current_dir(folder.path());
        command.stdin(Stdio::null());
        command.stdout(std::fs::File::create(folder.path().join("stdout"))?);
        command.stderr(std::fs::File::create(folder.path().join("stderr"))?);
        // Not the group of the test runner, whose terminal would be taken otherwise.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut run = Self { child: command.spawn()?, init: 0, folder };
        if !case.steps.is_empty() {
            run.init = first_child(&mut run.child)?;
            if !case.one {
                let first = run.init;
                let below =
                    || processes(Path::new("/proc")).iter().find(|(_, parent)| *parent == first).map(|(pid, _)| *pid);
                run.init = eventually("the init", below)?;
            }
        }
        Ok(run)
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join(name)).unwrap_or_default()).into_owned()
    }

    fn lines(&self) -> usize {
        self.text("stdout").matches('\n').count()
    }

    fn seen(mut self, case: &Case) -> Result<Seen, Failed> {
        if !case.steps.is_empty() {
            eventually("the command's first line", || (self.lines() > 0).then_some(()))?;
        }
        for step in &case.steps {
            let before = self.lines();
            let (Step::Told(number) | Step::Stops(number) | Step::ToldAndStops(number) | Step::Quiet(number)) = *step;
            send(self.init, number)?;
            if matches!(step, Step::Told(_) | Step::ToldAndStops(_)) {
                let told = || (self.lines() > before).then_some(());
                eventually(&format!("a line for signal {number}"), told).map_err(|failed| {
                    Failed::from(format!("{failed:?}\n{}\n{}", self.text("stdout"), self.text("stderr")))
                })?;
            }
            if matches!(step, Step::Stops(_) | Step::ToldAndStops(_)) {
                eventually("the init to stop", || (state(self.init) == Some('T')).then_some(()))?;
            }
            if matches!(step, Step::Quiet(_)) {
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
        }
        let child = &mut self.child;
        let status = eventually("the end", || child.try_wait().ok().flatten())?;
        let code = if case.one {
            status.code().or(status.signal().map(|number| 128 + number))
        } else {
            self.text("code").trim().parse().ok()
        };
        let cut = |text: String| {
            let mut text = settled(&text, self.folder.path());
            if let Some(aside) = case.aside {
                text = text.split_inclusive('\n').filter(|line| !line.contains(aside)).collect();
            }
            if case.first_lines { text.lines().next().unwrap_or_default().to_owned() } else { text }
        };
        Ok(Seen { code, output: cut(self.text("stdout")), error: cut(self.text("stderr")) })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process's state as one letter.
pub fn state(pid: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// The text without what differs from run to run: process ids, the folder, our own version behind tini's, and whether
/// a line of the child comes before one of its parent.
pub fn settled(text: &str, folder: &Path) -> String {
    let mut text = text.replace('\r', "").replace(&format!("{}/", folder.display()), "");
    if let Some(place) = text.find(" - dindctl ") {
        let end = text[place + 3..].find([')', '\n']).map_or(text.len(), |end| place + 3 + end);
        text.replace_range(place..end, "");
    }
    for before in [" tini (", "pid=", "pid '", "pid: '", "PID "] {
        let mut parts = text.split(before);
        let mut settled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            settled += before;
            let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit());
            settled += if rest.len() < part.len() { "N" } else { "" };
            settled += rest;
        }
        text = settled;
    }
    let of_the_child = |line: &&str| line.contains("] setsid complete") || line.contains("] Unable to attach");
    let (child, parent): (Vec<&str>, Vec<&str>) = text.split_inclusive('\n').partition(of_the_child);
    [child, parent].concat().concat()
}
