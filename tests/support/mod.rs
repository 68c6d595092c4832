//! What several test rings share.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

/// A test, or an ignored one with a line that says why when the machine lacks what it needs.
pub fn trial(
    name: &str,
    need: &Result<(), String>,
    run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let trial = Trial::test(name, run);
    match need {
        Ok(()) => trial,
        Err(reason) => {
            eprintln!("SKIP {name}: {reason}");
            trial.with_ignored_flag(true)
        }
    }
}

/// Whether this machine lets us make pid and mount namespaces.
pub fn pid_namespaces() -> &'static Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(|| {
        let tried = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "true"])
            .stdout(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run unshare: {error}"))?;
        if tried.status.success() {
            Ok(())
        } else {
            Err(format!("no pid namespaces: {}", String::from_utf8_lossy(&tried.stderr).trim()))
        }
    })
}

/// Whether a program can be run at all.
pub fn program(name: &str) -> Result<(), String> {
    let tried = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.map(drop).map_err(|error| format!("cannot run {name}: {error}"))
}

/// Asks again until there is an answer, for at most ten seconds.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, Failed> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > end {
            return Err(format!("waited ten seconds for: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fails with the message unless the condition holds.
pub fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(message().into()) }
}
