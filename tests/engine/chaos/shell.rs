//! A shell inside a container that stays, for looks and blows that a new `docker exec` each would make late.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::docker::Container;

/// Ends the answer to one script; the exit code follows.
const MARK: &str = "----end-of-answer";

/// The shell.
pub struct Shell {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Shell {
    pub fn inside(container: &Container) -> Self {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", &container.name, "sh"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker CLI");
        let pipes = (child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped")));
        Self { child, pipes: RefCell::new(pipes) }
    }

    /// Runs a script, which must not read standard input, and gives exit code and standard output.
    #[track_caller]
    pub fn run(&self, script: &str) -> (i32, String) {
        let (input, output) = &mut *self.pipes.borrow_mut();
        writeln!(input, "( {script}\n) </dev/null 2>/dev/null\nset -- $?; echo; echo {MARK} $1")
            .expect("the shell inside has ended");
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            let length = output.read_line(&mut line).expect("the shell's answer");
            assert!(length > 0, "the shell inside ended in the middle of {script}: {answer}");
            if let Some(code) = line.strip_prefix(MARK) {
                return (code.trim().parse().expect("exit code"), answer.trim_end().to_owned());
            }
            answer += &line;
        }
    }
}
