/*!
Booting a cell's machine, and keeping what it brought.
*/
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::judge;
use crate::qemu::{self, Machine};
use crate::table::{Cell, Kernel};

/// How long the daemon may take until it is healthy, seconds; emulated, on a loaded machine, it takes one minute.
const PATIENCE: u32 = 600;
/// How long a machine may run.
const LIMIT: Duration = Duration::from_secs(1800);

/// What the guest delivered, by name.
pub struct Results(BTreeMap<String, String>);

impl Results {
    /// `NAME BASE64`, line by line; an empty file has none.
    fn parse(report: &str) -> Result<Self, String> {
        let file = |line: &str| {
            let (name, text) = line.split_once(' ').unwrap_or((line, ""));
            let bytes = BASE64_STANDARD.decode(text).map_err(|error| format!("{name}: {error}"))?;
            Ok((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()))
        };
        report.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(file).collect::<Result<_, _>>().map(Self)
    }

    /// A file; empty where the guest had none.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |text| text.trim())
    }

    /// A file of JSON.
    pub fn json(&self, name: &str) -> Result<serde_json::Value, String> {
        serde_json::from_str(self.text(name))
            .map_err(|error| format!("{name}: {error}: {:?}, {}", self.text(name), self.text(&format!("{name}.err"))))
    }
}

const fn kernel_variable(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Linux612 => "VM_KERNEL",
        Kernel::Linux61 => "VM_KERNEL_61",
    }
}

/// The disk with the cell's engine.
fn disk(cell: &Cell) -> Result<PathBuf, String> {
    let folder = std::env::var_os("VM_DISKS").ok_or("VM_DISKS is not set (scripts/lab vm sets it)")?;
    let disk = Path::new(&folder).join(cell.suite.name());
    if disk.is_file() { Ok(disk) } else { Err(format!("there is no {}", disk.display())) }
}

fn program() -> PathBuf {
    std::env::var_os("DINDCTL_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_dindctl").into()).into()
}

/// Why the cell cannot run here.
pub fn missing(cell: &Cell) -> Option<String> {
    qemu::missing(kernel_variable(cell.kernel)).or_else(|| disk(cell).err())
}

/// Runs it; the error says all that is not as the cell states.
pub fn run(cell: &Cell) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm-cells").join(cell.name);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", folder.display()));
        }
        _ => fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?,
    }
    let second = second_disk()?;
    let kernel = std::env::var_os(kernel_variable(cell.kernel)).ok_or("no kernel")?;
    let ended = Machine {
        kernel: kernel.into(),
        disk: &disk(cell)?,
        second: Some(&second.path().join("image")),
        memory: 1536,
        arguments: arguments(cell),
        limit: LIMIT,
    }
    .run(&folder)?;
    let results = Results::parse(&ended.report)?;
    for (name, text) in &results.0 {
        fs::write(folder.join(name), text).map_err(|error| format!("keep {name}: {error}"))?;
    }
    let judged = judge::judge(cell, &results);
    println!("cell {}: {}; the machine ran for {:.0} s", cell.name, judged.line, ended.took.as_secs_f32());
    if judged.faults.is_empty() {
        return fs::write(folder.join("row"), judged.row + "\n").map_err(|error| format!("keep the row: {error}"));
    }
    Err(format!(
        "{}\nkept in {}; the console ended with:\n{}",
        judged.faults.join("\n"),
        folder.display(),
        qemu::tail(&ended.console)
    ))
}

/// The guest's script and the program, on a disk of their own: the one with the engine stays as it is.
fn second_disk() -> Result<tempfile::TempDir, String> {
    let fault = |error: std::io::Error| format!("the second disk: {error}");
    let folder = tempfile::tempdir().map_err(fault)?;
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).map_err(fault)?;
    fs::copy(program(), tree.join("dindctl")).map_err(fault)?;
    fs::write(tree.join("guest.sh"), include_str!("../../scripts/lib/vm-guest.sh")).map_err(fault)?;
    let bytes = fs::metadata(tree.join("dindctl")).map_err(fault)?.len();
    qemu::image(&tree, &folder.path().join("image"), &format!("{}M", 8 + bytes.div_ceil(1 << 20)))?;
    Ok(folder)
}

/// The kernel hands what it does not know to init as variables.
fn arguments(cell: &Cell) -> String {
    format!(
        "init=/sbin/vm-init cell_groups={} cell_twists={} cell_tests={} cell_port={} cell_patience={PATIENCE} {}",
        cell.groups.name(),
        cell.twists.join(","),
        cell.tests.join(","),
        qemu::report_port(),
        cell.arguments,
    )
}
