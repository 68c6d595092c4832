/*!
The side of the test runner: builds the disk, boots the machine once, and makes a test of each line it reports.
*/
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use crate::cells::{self, Cell, Machine};
use crate::qemu;

/// Emulation on a loaded machine is slow; a machine that hangs must still end.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// What a boot gave: the outcome of each cell, and the end of the console for those that are missing.
struct Boot {
    outcomes: BTreeMap<String, Result<(), String>>,
    console: String,
}

pub fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing: BTreeMap<Machine, Option<String>> =
        Machine::ALL.into_iter().map(|machine| (machine, missing(machine))).collect();
    let trials = cells::all()
        .map(|cell| {
            let name = format!("vm::{}", cell.name);
            let missing = &missing[&cell.machine];
            if let Some(reason) = missing {
                println!("SKIP {name}: {reason}");
            }
            Trial::test(name, move || outcome(cell).map_err(Into::into)).with_ignored_flag(missing.is_some())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The variable that names the kernel of a machine.
const fn kernel_variable(machine: Machine) -> &'static str {
    match machine {
        Machine::V2 => "VM_KERNEL",
        Machine::V1 => "VM_KERNEL_61",
    }
}

/// Why such a machine cannot be booted here.
fn missing(machine: Machine) -> Option<String> {
    let ldd = || Command::new("ldd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    qemu::missing(kernel_variable(machine)).or_else(|| ldd().is_err().then(|| "ldd is not installed".into()))
}

fn outcome(cell: &Cell) -> Result<(), String> {
    static V2: OnceLock<Result<Boot, String>> = OnceLock::new();
    static V1: OnceLock<Result<Boot, String>> = OnceLock::new();
    let once = match cell.machine {
        Machine::V2 => &V2,
        Machine::V1 => &V1,
    };
    let boot = once.get_or_init(|| boot(cell.machine)).as_ref().map_err(Clone::clone)?;
    match boot.outcomes.get(cell.name) {
        Some(outcome) => outcome.clone(),
        None => Err(format!("the machine did not report this cell; its console ended with:\n{}", boot.console)),
    }
}

fn boot(machine: Machine) -> Result<Boot, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let disk = disk(folder.path())?;
    let kernel = std::env::var_os(kernel_variable(machine)).ok_or("no kernel")?;
    let ended = qemu::Machine {
        kernel: kernel.into(),
        disk: &disk,
        second: None,
        memory: 512,
        arguments: format!("init=/init report={} machine={}", qemu::report_port(), machine.name()),
        limit: BOOT_LIMIT,
    }
    .run(folder.path())?;
    println!("# the machine of {} ran for {:.1} s", machine.name(), ended.took.as_secs_f32());
    Ok(Boot { outcomes: ended.report.lines().filter_map(parse).collect(), console: qemu::tail(&ended.console) })
}

/// `NAME pass` or `NAME fail TEXT`, the text with `\n` for newlines.
fn parse(line: &str) -> Option<(String, Result<(), String>)> {
    let mut words = line.trim_end().splitn(3, ' ');
    let (name, verdict) = (words.next()?, words.next()?);
    match verdict {
        "pass" => Some((name.into(), Ok(()))),
        "fail" => Some((name.into(), Err(words.next().unwrap_or_default().replace("\\n", "\n")))),
        _ => None,
    }
}

/// A file system with this program as `/init`, the libraries it is linked with, and mount points.
fn disk(folder: &Path) -> Result<PathBuf, String> {
    let io = |what: &str| {
        let what = what.to_string();
        move |error: std::io::Error| format!("{what}: {error}")
    };
    let tree = folder.join("tree");
    for name in ["proc", "sys", "dev", "run", "tmp", "var/lib/docker", "var/lib/containerd", "etc"] {
        std::fs::create_dir_all(tree.join(name)).map_err(io(name))?;
    }
    let program = std::env::current_exe().map_err(io("own path"))?;
    std::fs::copy(&program, tree.join("init")).map_err(io("copy the program"))?;
    // The binary that ships where scripts/test built it, else the one that cargo built for this test.
    let dindctl = std::env::var_os("DINDCTL_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_dindctl").into());
    std::fs::copy(&dindctl, tree.join("dindctl")).map_err(io(&dindctl.to_string_lossy()))?;
    // Of a static program ldd lists nothing, and says so by its exit code.
    let listed = Command::new("ldd").arg(&program).arg(&dindctl).output().map_err(io("ldd"))?;
    for word in String::from_utf8_lossy(&listed.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
    {
        let target = tree.join(word.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap_or(&tree)).map_err(io(word))?;
        std::fs::copy(word, target).map_err(io(word))?;
    }
    let disk = folder.join("disk");
    qemu::image(&tree, &disk, "512M")?;
    Ok(disk)
}
