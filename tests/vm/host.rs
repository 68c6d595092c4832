/*!
The side of the test runner: builds the disk, boots the machine once, and makes a test of each line it reports.
*/
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};

use crate::cells::{self, Cell, Machine};

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
    let variable = kernel_variable(machine);
    let Some(kernel) = std::env::var_os(variable) else {
        return Some(format!("{variable} is not set (scripts/lab vm-kernel prints it)"));
    };
    if !Path::new(&kernel).is_file() {
        return Some(format!("{variable}={} is not a file", kernel.display()));
    }
    let found =
        |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let qemu = qemu();
    if found(&qemu).is_err() {
        return Some(format!("{qemu} cannot be run (VM_QEMU names another)"));
    }
    for tool in ["mke2fs", "ldd"] {
        if found(tool).is_err() {
            return Some(format!("{tool} is not installed"));
        }
    }
    None
}

fn qemu() -> String {
    std::env::var("VM_QEMU").unwrap_or_else(|_| format!("qemu-system-{}", std::env::consts::ARCH))
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
    let (console, report) = (folder.path().join("console"), folder.path().join("report"));
    let kernel = std::env::var(kernel_variable(machine)).map_err(|error| error.to_string())?;
    let arm = std::env::consts::ARCH == "aarch64";
    let mut qemu = Command::new(qemu());
    // 5-level paging and cmpxchg16b are where emulated guests were seen to crash.
    qemu.args(if arm { ["-M", "virt", "-cpu", "max"] } else { ["-M", "pc", "-cpu", "max,la57=off,cx16=off"] });
    qemu.args(["-accel", &std::env::var("VM_ACCEL").unwrap_or_else(|_| "tcg".into())]);
    qemu.args(["-m", "512", "-smp", "2", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"]);
    qemu.arg("-kernel").arg(kernel);
    let (port, report_port) = if arm { ("ttyAMA0", "ttyAMA1") } else { ("ttyS0", "ttyS1") };
    qemu.arg("-append").arg(format!(
        "root=/dev/nvme0n1 rw init=/init console={port} quiet loglevel=4 mitigations=off panic=-1 report=/dev/{report_port} machine={}",
        machine.name()
    ));
    qemu.arg("-drive").arg(format!("file={},format=raw,if=none,id=disk,snapshot=on", disk.display()));
    qemu.args(["-device", "nvme,drive=disk,serial=1"]);
    for file in [&console, &report] {
        qemu.arg("-serial").arg(format!("file:{}", file.display()));
    }
    let mut guest = qemu.stdin(Stdio::null()).spawn().map_err(|error| format!("cannot start qemu: {error}"))?;
    let start = Instant::now();
    let status = loop {
        match guest.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status.to_string(),
            None if start.elapsed() > BOOT_LIMIT => {
                guest.kill().and_then(|()| guest.wait()).map_err(|error| error.to_string())?;
                break format!("killed after {BOOT_LIMIT:?}");
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let text = |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let report = text(&report).map_err(|error| format!("no report ({error}); qemu: {status}"))?;
    let console = text(&console).unwrap_or_default();
    println!("# the machine of {} ran for {:.1} s", machine.name(), start.elapsed().as_secs_f32());
    let tail: Vec<&str> = console.lines().rev().take(40).collect();
    let console = format!("{}\nqemu: {status}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    Ok(Boot { outcomes: report.lines().filter_map(parse).collect(), console })
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
    let size = "512M";
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
        .args([&tree, &disk])
        .arg(size)
        .output()
        .map_err(io("mke2fs"))?;
    if made.status.success() { Ok(disk) } else { Err(format!("mke2fs: {}", String::from_utf8_lossy(&made.stderr))) }
}
