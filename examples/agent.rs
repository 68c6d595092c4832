//! The sandbox agent by itself, for tests that run it in a PID namespace of their own. `agent [--idle SECONDS]`.

use std::process::ExitCode;
use std::time::Duration;

use dindctl::exec::agent::{Options, run};

fn main() -> ExitCode {
    let mut options = Options::default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["--idle", seconds] if seconds.parse::<u64>().is_ok() => {
            options.idle = Duration::from_secs(seconds.parse().unwrap_or_default());
        }
        _ => {
            eprintln!("usage: agent [--idle SECONDS]");
            return ExitCode::from(125);
        }
    }
    ExitCode::from(run(&options))
}
