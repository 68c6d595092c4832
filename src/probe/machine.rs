/*!
Whether this program runs on the processor it was made for. An emulator answers uname(2) as the program expects it, but knows nothing
of what the kernel tells elsewhere.
*/
use std::path::Path;

use super::{Roots, read};

/// What makes programs of another architecture run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// Apple's translator of x86 programs.
    Rosetta,
    /// QEMU's user mode, or another.
    Other,
}

/// A program on a kernel of another architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The program's.
    pub own: &'static str,
    /// The kernel's, as `uname -m` names it.
    pub kernel: String,
    /// What lies between.
    pub emulator: Emulator,
}

/// Looks; `None` where nothing lies between, or it cannot be told.
pub fn look(roots: &Roots) -> Option<Foreign> {
    of(roots, std::env::consts::ARCH)
}

fn of(roots: &Roots, own: &'static str) -> Option<Foreign> {
    let kernel = kernel(roots)?;
    if serves(&kernel, own) {
        return None;
    }
    let processor = read(&roots.proc.join("cpuinfo")).unwrap_or_default();
    let emulator = if processor.contains("VirtualApple") { Emulator::Rosetta } else { Emulator::Other };
    Some(Foreign { own, kernel, emulator })
}

/// From Linux 6.1 on it says so itself; before, only what belongs to one architecture tells.
fn kernel(roots: &Roots) -> Option<String> {
    if let Ok(name) = read(&roots.proc.join("sys/kernel/arch")) {
        return Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    }
    let traces = [
        (roots.resolve(Path::new("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1")), "aarch64"),
        (roots.proc.join("sys/kernel/bootloader_type"), "x86_64"),
    ];
    traces.into_iter().find(|(path, _)| path.exists()).map(|(_, name)| name.to_owned())
}

/// Whether the kernel runs such programs itself; those of 64 bits run their 32-bit siblings.
fn serves(kernel: &str, own: &str) -> bool {
    let family = |name: &str| match name {
        "x86_64" | "amd64" | "x86" | "i386" | "i586" | "i686" => "x86".to_owned(),
        "aarch64" | "arm64" | "arm" | "armv6l" | "armv7l" | "armv8l" => "arm".to_owned(),
        "ppc64le" | "ppc64" | "powerpc64" => "powerpc64".to_owned(),
        other => other.to_owned(),
    };
    family(kernel) == family(own)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn found(files: &[(&str, &str)], own: &'static str) -> Option<Foreign> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        of(&Roots::below(folder.path()), own)
    }

    const MIDR: &str = "sys/devices/system/cpu/cpu0/regs/identification/midr_el1";

    #[rstest]
    #[case::same(&[("proc/sys/kernel/arch", "x86_64\n")], "x86_64", None)]
    #[case::smaller_sibling(&[("proc/sys/kernel/arch", "aarch64\n")], "arm", None)]
    #[case::other(&[("proc/sys/kernel/arch", "aarch64\n")], "x86_64", Some(Emulator::Other))]
    #[case::other_way_round(&[("proc/sys/kernel/arch", "x86_64\n")], "aarch64", Some(Emulator::Other))]
    #[case::rosetta(
        &[("proc/sys/kernel/arch", "aarch64\n"), ("proc/cpuinfo", "vendor_id : VirtualApple\n")],
        "x86_64",
        Some(Emulator::Rosetta)
    )]
    #[case::older_kernel(&[(MIDR, "0x1\n")], "x86_64", Some(Emulator::Other))]
    #[case::older_kernel_of_a_pc(&[("proc/sys/kernel/bootloader_type", "114\n")], "aarch64", Some(Emulator::Other))]
    #[case::nothing_to_go_by(&[], "x86_64", None)]
    fn a_foreign_kernel_is_known(
        #[case] files: &[(&str, &str)],
        #[case] own: &'static str,
        #[case] want: Option<Emulator>,
    ) {
        assert_eq!(found(files, own).map(|foreign| foreign.emulator), want);
    }

    #[test]
    fn this_program_runs_on_its_own_machine() {
        assert_eq!(look(&Roots::system()), None);
    }
}
