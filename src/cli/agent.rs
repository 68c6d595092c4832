/*!
The hidden `dindctl agent [--idle SECONDS]`: PID 1 of a sandbox.

It is read here without the parser of the other commands, and no configuration is looked at: every file and variable
around it belongs to an image that nobody vouches for, and its start is on the hot path of every run.
*/
use std::ffi::OsString;
use std::time::Duration;

use crate::exec::agent::{EXIT_SETUP, Options, run};

/// Runs it with the words behind `agent`.
pub fn main(words: &[OsString]) -> u8 {
    let seconds = match words {
        [] => None,
        [flag, seconds] if flag == "--idle" => seconds.to_str().and_then(|seconds| seconds.parse().ok()),
        _ => return EXIT_SETUP,
    };
    let mut options = Options::default();
    if let Some(seconds) = seconds {
        options.idle = Duration::from_secs(seconds);
    }
    run(&options)
}
