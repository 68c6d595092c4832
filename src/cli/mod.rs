/*!
One file for each command: arguments as typed become a validated request; the result is printed. Nothing else.
*/
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with the given `argv` and returns its exit code.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    drop(argv);
    ExitCode::SUCCESS
}
