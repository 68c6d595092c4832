//! Machines under QEMU, without hardware support: a kernel, disks, and two serial ports that end up in files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What to boot.
pub struct Machine<'a> {
    /// A kernel with ext4 and `NVMe` built in.
    pub kernel: PathBuf,
    /// Image of the root file system; the machine changes a snapshot of it.
    pub disk: &'a Path,
    /// Image of a second disk (`/dev/vda`), which is read only.
    pub second: Option<&'a Path>,
    /// In MiB.
    pub memory: u32,
    /// For the kernel's command line, with [`report_port`] wherever the guest has to know it.
    pub arguments: String,
    /// A machine that hangs must still end.
    pub limit: Duration,
}

/// What a machine left.
pub struct Ended {
    /// What it wrote to the second serial port.
    pub report: String,
    /// What it wrote to the first, with the end of QEMU as its last line.
    pub console: String,
    /// How long it ran.
    pub took: Duration,
}

/// What a guest's kernel says when it has come upon a breakpoint of its own that is no longer there: it puts one where it rewrites its
/// code, and the emulator lets the other CPU run into it too late. With one thread for both CPUs (`VM_ACCEL=tcg,thread=single`) this
/// cannot be, but a cell takes up to four times as long.
const EMULATORS_FAULT: &str = "Oops: int3";
/// How often a machine is booted at most.
const BOOTS: u32 = 3;

const ARM: bool = cfg!(target_arch = "aarch64");

/// The device of the second serial port in the guest.
pub const fn report_port() -> &'static str {
    if ARM { "/dev/ttyAMA1" } else { "/dev/ttyS1" }
}

fn qemu() -> String {
    std::env::var("VM_QEMU").unwrap_or_else(|_| format!("qemu-system-{}", std::env::consts::ARCH))
}

/// Why a machine with the kernel that this variable names cannot be booted here.
pub fn missing(variable: &str) -> Option<String> {
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
    found("mke2fs").is_err().then(|| "mke2fs is not installed".into())
}

/// An image of a folder.
pub fn image(tree: &Path, image: &Path, size: &str) -> Result<(), String> {
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
        .args([tree, image])
        .arg(size)
        .output()
        .map_err(|error| format!("mke2fs: {error}"))?;
    if made.status.success() { Ok(()) } else { Err(format!("mke2fs: {}", String::from_utf8_lossy(&made.stderr))) }
}

impl Machine<'_> {
    /// Boots it and waits for its end. `folder` gets its console and its report.
    ///
    /// A guest whose kernel died of [`EMULATORS_FAULT`] has shown nothing, and is booted again.
    pub fn run(&self, folder: &Path) -> Result<Ended, String> {
        for _ in 1..BOOTS {
            let ended = self.boot(folder)?;
            if !ended.console.contains(EMULATORS_FAULT) {
                return Ok(ended);
            }
            println!("the emulated kernel died of \"{EMULATORS_FAULT}\" after {:.0?}, once more", ended.took);
        }
        self.boot(folder)
    }

    fn boot(&self, folder: &Path) -> Result<Ended, String> {
        let (console, report) = (folder.join("console"), folder.join("report"));
        let mut guest = self
            .command(&[&console, &report])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start qemu: {error}"))?;
        let start = Instant::now();
        let status = loop {
            match guest.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status.to_string(),
                None if start.elapsed() > self.limit => {
                    guest.kill().and_then(|()| guest.wait()).map_err(|error| error.to_string())?;
                    break format!("killed after {:?}", self.limit);
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let text = |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let report = text(&report).map_err(|error| format!("no report ({error}); qemu: {status}"))?;
        let console = format!("{}\nqemu: {status}", text(&console).unwrap_or_default());
        Ok(Ended { report, console, took: start.elapsed() })
    }

    fn command(&self, serial: &[&Path]) -> Command {
        let mut qemu = Command::new(qemu());
        // 5-level paging and cmpxchg16b are where emulated guests were seen to crash.
        qemu.args(if ARM { ["-M", "virt", "-cpu", "max"] } else { ["-M", "pc", "-cpu", "max,la57=off,cx16=off"] });
        qemu.args(["-accel", &std::env::var("VM_ACCEL").unwrap_or_else(|_| "tcg".into())]);
        qemu.args(["-m", &self.memory.to_string(), "-smp", "2", "-display", "none", "-monitor", "none"]);
        qemu.args(["-nic", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(&self.kernel);
        // On a busy machine the ticks of an emulated timer come too late for the kernel's check of it, which panics.
        let console = if ARM { "ttyAMA0" } else { "ttyS0 no_timer_check" };
        qemu.arg("-append").arg(format!(
            "root=/dev/nvme0n1 rw console={console} quiet loglevel=4 mitigations=off panic=-1 {}",
            self.arguments
        ));
        qemu.arg("-drive").arg(format!("file={},format=raw,if=none,id=disk,snapshot=on", self.disk.display()));
        qemu.args(["-device", "nvme,drive=disk,serial=1"]);
        if let Some(second) = self.second {
            qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,readonly=on", second.display()));
        }
        for file in serial {
            qemu.arg("-serial").arg(format!("file:{}", file.display()));
        }
        qemu
    }
}

/// The end of a console, for an error.
pub fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
