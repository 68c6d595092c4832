/*!
Real daemons on real kernels: each cell is a virtual machine in which `dindctl entrypoint` is PID 1 of a container whose
surroundings are as the cell says, with an engine of Debian's. What dindctl plans, what it and the daemon say, what
`doctor` finds and what `selftest` measures is compared with what the cell states.

`scripts/lab vm CELL` runs them; it gives the kernels (`VM_KERNEL`, `VM_KERNEL_61`), QEMU (`VM_QEMU`), a folder of disks
(`VM_DISKS`) and the program (`DINDCTL_BIN`). Without `DINDCTL_TEST_ALL` only the quick cells run, with `DINDCTL_CELLS` those that it names. All that a cell brought is kept below
`target/vm-cells`.
*/

#[path = "cells/judge.rs"]
mod judge;
#[path = "support/qemu.rs"]
mod qemu;
#[path = "cells/run.rs"]
mod run;
#[path = "cells/table.rs"]
mod table;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use table::Cell;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A machine has two processors.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.test_threads = arguments.test_threads.or(Some((processors / 2).clamp(1, 4)));
    let all = std::env::var_os("DINDCTL_TEST_ALL").is_some();
    let chosen = std::env::var("DINDCTL_CELLS").ok();
    let wanted = |cell: &&Cell| chosen.as_ref().is_none_or(|names| names.split(' ').any(|name| name == cell.name));
    let trials = table::CELLS.iter().filter(wanted).map(|cell| trial(cell, all || chosen.is_some())).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(cell: &'static Cell, all: bool) -> Trial {
    let name = format!("cell::{}", cell.name);
    let missing = run::missing(cell)
        .or_else(|| (!all && !cell.quick).then(|| "not one of the quick cells; scripts/test --all runs it".into()));
    if let Some(reason) = &missing {
        println!("SKIP {name}: {reason}");
    }
    Trial::test(name, move || Ok(run::run(cell)?)).with_ignored_flag(missing.is_some())
}
