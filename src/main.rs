//! The `dindctl` program: picks the dialect from the name it was called by and hands over to [`dindctl::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    dindctl::cli::main(std::env::args_os().collect())
}
