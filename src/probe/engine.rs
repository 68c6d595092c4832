/*!
The version of the engine that is installed, by its own word.
*/
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Limit on the answer, which takes 20 ms.
const LIMIT: Duration = Duration::from_secs(2);

/// Major version of dockerd; `None` when it does not say within 2 s. Starts a program, so it is asked only where something
/// depends on it.
pub fn major(path: &OsStr) -> Option<u32> {
    let program = crate::sys::spawn::find_program(OsStr::new("dockerd"), Some(path))?;
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let begun = Instant::now();
    // The answer fits into the pipe, so the program can end before anybody reads.
    while let Ok(None) = child.try_wait() {
        if begun.elapsed() > LIMIT {
            // It ends, or has ended.
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut text = String::new();
    child.stdout.take()?.read_to_string(&mut text).ok()?;
    parse(&text)
}

/// `Docker version 26.1.5+dfsg1, build …`.
fn parse(text: &str) -> Option<u32> {
    text.strip_prefix("Docker version ")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_counts() {
        assert_eq!(parse("Docker version 26.1.5+dfsg1, build 411e817\n"), Some(26));
        assert_eq!(parse("Docker version 20.10.24+dfsg1, build 297e128\n"), Some(20));
        assert_eq!(parse("podman version 5"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_program_that_is_not_there_has_none() {
        assert_eq!(major(OsStr::new("/nonexistent")), None);
    }
}
