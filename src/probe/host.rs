/*!
What kind of place this is: the machine, the product that made it, the containers around us, and who runs them.

Only what names itself counts. Several layers may hold at once: a Docker container in a Kubernetes pod on gVisor.
*/
use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::cgroup_path::Membership;
use super::mountinfo::Mount;
use super::{Roots, read};

/// A kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A virtual machine of a hypervisor that is none of those below.
    VirtualMachine,
    /// OrbStack on macOS.
    Orbstack,
    /// Docker Desktop on macOS, Linux or Windows without WSL.
    DockerDesktop,
    /// Windows Subsystem for Linux, version 2.
    Wsl2,
    /// Windows Subsystem for Linux, version 1, which has no Linux kernel.
    Wsl1,
    /// Colima, on macOS or Linux.
    Colima,
    /// A machine of Lima.
    Lima,
    /// A machine of Podman.
    PodmanMachine,
    /// gVisor, whose kernel is a program.
    Gvisor,
    /// A pod of Kubernetes.
    Kubernetes,
    /// A container of sysbox.
    Sysbox,
    /// A container of LXC, LXD or Incus.
    Lxc,
    /// A container of systemd-nspawn.
    Nspawn,
    /// A container of Podman.
    Podman,
    /// A container of Docker.
    Docker,
    /// GitHub Codespaces.
    Codespaces,
    /// A job of GitHub Actions.
    GithubActions,
    /// A job of GitLab CI.
    GitlabCi,
}

impl Kind {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VirtualMachine => "virtual machine",
            Self::Orbstack => "OrbStack",
            Self::DockerDesktop => "Docker Desktop",
            Self::Wsl2 => "WSL2",
            Self::Wsl1 => "WSL1",
            Self::Colima => "Colima",
            Self::Lima => "Lima",
            Self::PodmanMachine => "Podman machine",
            Self::Gvisor => "gVisor",
            Self::Kubernetes => "Kubernetes",
            Self::Sysbox => "sysbox",
            Self::Lxc => "LXC",
            Self::Nspawn => "systemd-nspawn",
            Self::Podman => "Podman container",
            Self::Docker => "Docker container",
            Self::Codespaces => "GitHub Codespaces",
            Self::GithubActions => "GitHub Actions",
            Self::GitlabCi => "GitLab CI",
        }
    }
}

/// One layer, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// What it is.
    pub kind: Kind,
    /// What names it.
    pub evidence: String,
}

/// The place: layers from the outermost to the innermost. A bare machine has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Host {
    /// The layers.
    pub layers: Vec<Layer>,
    /// Release of the kernel, as `uname -r` has it.
    pub kernel: String,
}

impl Host {
    /// Whether it is such a place.
    pub fn is(&self, kind: Kind) -> bool {
        self.layers.iter().any(|layer| layer.kind == kind)
    }

    /// `Docker container on OrbStack`, innermost first.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.layers.iter().rev().map(|layer| layer.kind.name()).collect();
        if names.is_empty() { "bare machine".to_owned() } else { names.join(" on ") }
    }
}

/// Looks. `environment` is that of the process.
pub fn look(roots: &Roots, mounts: &[Mount], groups: &[Membership], environment: &BTreeMap<String, String>) -> Host {
    let file = |path: &str| read(&roots.resolve(Path::new(path))).ok();
    let kernel = read(&roots.proc.join("sys/kernel/osrelease")).unwrap_or_default().trim().to_owned();
    let version = read(&roots.proc.join("version")).unwrap_or_default();
    let mut layers = Vec::new();
    let mut found = |kind, evidence: Option<String>| layers.extend(evidence.map(|evidence| Layer { kind, evidence }));
    for (kind, evidence) in [machine(roots), product(&kernel, &version, &file)].into_iter().flatten() {
        found(kind, Some(evidence));
    }
    let variable =
        |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(|_| format!("${name} is set"));
    found(Kind::Kubernetes, variable("KUBERNETES_SERVICE_HOST").or_else(|| group(groups, "kubepods")));
    found(Kind::Sysbox, mounted(mounts, |mount| mount.source == "sysboxfs"));
    found(Kind::Lxc, mounted(mounts, |mount| mount.fstype == "fuse.lxcfs" || mount.source == "lxcfs"));
    let manager = file("/run/host/container-manager").filter(|text| text.trim() == "systemd-nspawn");
    found(Kind::Nspawn, manager.map(|_| "/run/host/container-manager".to_owned()));
    found(Kind::Podman, file("/run/.containerenv").map(|_| "/run/.containerenv is there".to_owned()));
    let marked = roots.resolve(Path::new("/.dockerenv")).exists().then(|| "/.dockerenv is there".to_owned());
    found(
        Kind::Docker,
        marked.or_else(|| mounted(mounts, |mount| mount.root.to_string_lossy().contains("/docker/containers/"))),
    );
    found(Kind::Codespaces, variable("CODESPACES"));
    found(Kind::GithubActions, variable("GITHUB_ACTIONS"));
    found(Kind::GitlabCi, variable("GITLAB_CI"));
    Host { layers, kernel }
}

/// What the firmware says (`/sys/class/dmi/id`), or the processor.
fn machine(roots: &Roots) -> Option<(Kind, String)> {
    const VENDORS: [&str; 10] = [
        "QEMU",
        "Amazon EC2",
        "Google",
        "Microsoft Corporation",
        "VMware",
        "innotek GmbH",
        "Xen",
        "Apple",
        "DigitalOcean",
        "Hetzner",
    ];
    let identity = |name: &str| {
        let text = read(&roots.resolve(&Path::new("/sys/class/dmi/id").join(name))).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let hypervisor = || {
        let text = read(&roots.proc.join("cpuinfo")).ok()?;
        let flags = text.lines().find(|line| line.starts_with("flags"))?;
        flags.split_whitespace().any(|flag| flag == "hypervisor").then(|| "the processor has a hypervisor".to_owned())
    };
    let vendor = identity("sys_vendor").filter(|vendor| VENDORS.iter().any(|known| vendor.starts_with(known)));
    // Microsoft and Apple make real machines too.
    let virtual_one = |vendor: &String| match vendor.as_str() {
        text if text.starts_with("Microsoft") || text.starts_with("Apple") => {
            identity("product_name").is_some_and(|name| name.contains("Virtual"))
        }
        _ => true,
    };
    let evidence =
        vendor.filter(virtual_one).map(|vendor| format!("the firmware is of {vendor}")).or_else(hypervisor)?;
    Some((Kind::VirtualMachine, evidence))
}

/// Whether the kernel of this release (`uname -r`) is gVisor's.
pub fn is_gvisor(roots: &Roots, release: &str) -> bool {
    says_gvisor(release, &read(&roots.proc.join("version")).unwrap_or_default())
}

/// gVisor shows every program this build date (pkg/sentry/kernel/version.go).
fn says_gvisor(kernel: &str, version: &str) -> bool {
    kernel.contains("gvisor") || version.contains("#1 SMP Sun Jan 10 15:06:54 PST 2016")
}

/// What made the machine, by the name of its kernel or the files it leaves there.
fn product(kernel: &str, version: &str, file: &impl Fn(&str) -> Option<String>) -> Option<(Kind, String)> {
    let release = |kind| Some((kind, format!("the kernel is {kernel}")));
    if says_gvisor(kernel, version) {
        return Some((Kind::Gvisor, format!("the kernel says {:?}", version.trim())));
    }
    if kernel.contains("orbstack") {
        return release(Kind::Orbstack);
    }
    if kernel.contains("linuxkit") {
        return release(Kind::DockerDesktop);
    }
    if kernel.contains("microsoft-standard") || kernel.contains("WSL2") {
        return release(Kind::Wsl2);
    }
    if kernel.ends_with("-Microsoft") {
        return release(Kind::Wsl1);
    }
    if file("/etc/containers/podman-machine").is_some() {
        return Some((Kind::PodmanMachine, "/etc/containers/podman-machine is there".to_owned()));
    }
    let name = file("/mnt/lima-cidata/meta-data")?;
    let colima = name.lines().any(|line| line.starts_with("local-hostname:") && line.contains("colima"));
    Some((if colima { Kind::Colima } else { Kind::Lima }, "/mnt/lima-cidata is there".to_owned()))
}

fn mounted(mounts: &[Mount], is: impl Fn(&Mount) -> bool) -> Option<String> {
    let mount = mounts.iter().find(|mount| is(mount))?;
    Some(format!("{} comes from {} {}", mount.point.display(), mount.source, mount.root.display()))
}

fn group(groups: &[Membership], word: &str) -> Option<String> {
    let group = groups.iter().find(|group| group.path.to_string_lossy().contains(word))?;
    Some(format!("the control group is {}", group.path.display()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::probe::{cgroup_path, mountinfo};

    /// A place made of files, of an environment and of mounts.
    fn place(files: &[(&str, &str)], environment: &[(&str, &str)], mounts: &str, groups: &str) -> Host {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mounts = mountinfo::parse(mounts.as_bytes(), Path::new("mountinfo")).unwrap();
        let groups = cgroup_path::parse(groups, Path::new("cgroup")).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        look(&Roots::below(folder.path()), &mounts, &groups, &environment)
    }

    #[rstest]
    #[case::orbstack("6.15.11-orbstack-00539-g9885ebd8e3f4", Kind::Orbstack)]
    #[case::docker_desktop("6.10.14-linuxkit", Kind::DockerDesktop)]
    #[case::wsl2("5.15.167.4-microsoft-standard-WSL2", Kind::Wsl2)]
    #[case::wsl1("4.4.0-19041-Microsoft", Kind::Wsl1)]
    #[case::gvisor("4.19.0-gvisor", Kind::Gvisor)]
    fn a_kernel_names_who_built_it(#[case] release: &str, #[case] kind: Kind) {
        let host = place(&[("proc/sys/kernel/osrelease", release)], &[], "", "");
        assert!(host.is(kind), "{host:?}");
        assert_eq!((host.layers.len(), host.name().as_str()), (1, kind.name()));
        assert_eq!(host.kernel, release);
    }

    #[rstest]
    #[case("Linux version 6.12.48+deb13-amd64 (debian-kernel@lists.debian.org)", false)]
    #[case("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016", true)]
    fn an_older_gvisor_is_known_by_its_date(#[case] version: &str, #[case] gvisor: bool) {
        let host = place(&[("proc/version", version), ("proc/sys/kernel/osrelease", "4.4.0")], &[], "", "");
        assert_eq!(host.is(Kind::Gvisor), gvisor);
    }

    #[rstest]
    #[case::qemu("QEMU", "Standard PC", true)]
    #[case::hyper_v("Microsoft Corporation", "Virtual Machine", true)]
    #[case::surface("Microsoft Corporation", "Surface Laptop 5", false)]
    #[case::apple("Apple Inc.", "Apple Virtualization Generic Platform", true)]
    #[case::mac("Apple Inc.", "MacBookPro16,1", false)]
    #[case::real("LENOVO", "21HD", false)]
    fn firmware_tells_virtual_machines(#[case] vendor: &str, #[case] product: &str, #[case] is: bool) {
        let files = [("sys/class/dmi/id/sys_vendor", vendor), ("sys/class/dmi/id/product_name", product)];
        assert_eq!(place(&files, &[], "", "").is(Kind::VirtualMachine), is);
    }

    #[test]
    fn without_firmware_the_processor_tells() {
        let files = [("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\n")];
        assert!(place(&files, &[], "", "").is(Kind::VirtualMachine));
        let files = [("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme\nmodel name: hypervisor\n")];
        assert_eq!(place(&files, &[], "", "").name(), "bare machine");
    }

    #[test]
    fn layers_are_told_from_the_inside_out() {
        let files = [("proc/sys/kernel/osrelease", "6.6.1-orbstack-1"), (".dockerenv", "")];
        let host = place(&files, &[("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("CODESPACES", "")], "", "");
        assert_eq!(host.name(), "Docker container on Kubernetes on OrbStack");
    }

    #[rstest]
    #[case::sysbox("50 40 0:60 / /proc/uptime rw - fuse sysboxfs rw\n", Kind::Sysbox)]
    #[case::lxc("50 40 0:60 /proc/cpuinfo /proc/cpuinfo rw - fuse.lxcfs lxcfs rw\n", Kind::Lxc)]
    #[case::docker("50 40 8:1 /var/lib/docker/containers/4ed5/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n", Kind::Docker)]
    fn mounts_tell_of_containers(#[case] mounts: &str, #[case] kind: Kind) {
        assert!(place(&[], &[], mounts, "").is(kind));
    }

    #[test]
    fn a_pod_is_known_by_its_control_group() {
        assert!(place(&[], &[], "", "0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n").is(Kind::Kubernetes));
    }

    #[rstest]
    #[case("etc/containers/podman-machine", "qemu", Kind::PodmanMachine)]
    #[case("mnt/lima-cidata/meta-data", "instance-id: x\nlocal-hostname: lima-default\n", Kind::Lima)]
    #[case("mnt/lima-cidata/meta-data", "instance-id: x\nlocal-hostname: colima\n", Kind::Colima)]
    #[case("run/.containerenv", "engine=\"podman-5.4.2\"\n", Kind::Podman)]
    #[case("run/host/container-manager", "systemd-nspawn\n", Kind::Nspawn)]
    fn files_tell_of_their_makers(#[case] path: &str, #[case] text: &str, #[case] kind: Kind) {
        assert!(place(&[(path, text)], &[], "", "").is(kind));
    }
}
