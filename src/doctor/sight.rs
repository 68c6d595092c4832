/*!
All that the checks look at, read at once.
*/
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use super::apparmor::Apparmor;
use super::devices::{DEVICES, Device};
use super::kernel::{Kernel, parse};
use super::programs::{self, Answer, Program};
use super::sysctl;
use crate::init::state::SupervisorState;
use crate::prepare::Plan;
use crate::probe::host::Host;
use crate::probe::{Roots, apparmor, engine};
use crate::sys::spawn::find_program;

/// How long a program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(2);

/// What was seen.
#[derive(Debug)]
pub struct Sight {
    /// The place.
    pub host: Host,
    /// What `entrypoint` would do.
    pub plan: Plan,
    /// The daemon.
    pub running: Running,
    /// The kernel.
    pub kernel: Kernel,
    /// Its settings, by name below `/proc/sys`.
    pub sysctl: BTreeMap<String, u64>,
    /// `AppArmor`.
    pub apparmor: Apparmor,
    /// The devices.
    pub devices: Vec<Device>,
    /// The programs.
    pub programs: Vec<Program>,
    /// Whether the daemon is that of an ordinary user.
    pub rootless: bool,
}

/// The daemon of this container.
#[derive(Debug)]
pub enum Running {
    /// None was started by dindctl.
    Nothing,
    /// Its state cannot be read.
    Unreadable(String),
    /// It is supervised.
    Supervised {
        /// What the supervisor tells.
        state: SupervisorState,
        /// How long its answer took, milliseconds, or why there is none.
        answer: Result<f64, String>,
    },
}

/// Reads the kernel's configuration where it keeps it, or where distributions put it.
pub fn kernel(roots: &Roots, release: &str) -> Kernel {
    let places =
        ["/proc/config.gz".to_owned(), format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let found = places.iter().find_map(|place| Some((parse(&text(&roots.resolve(Path::new(place)))?), place.clone())));
    let traces = Kernel::traces().filter(|trace| roots.resolve(Path::new(trace)).exists()).map(str::to_owned).collect();
    let (config, source) = found.map_or((None, String::new()), |(config, place)| (Some(config), place));
    Kernel { config, source, traces }
}

/// The text of a file, unpacked.
fn text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    if path.extension() != Some(OsStr::new("gz")) {
        return String::from_utf8(bytes).ok();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Reads the settings that matter.
pub fn sysctls(roots: &Roots) -> BTreeMap<String, u64> {
    let value = |name: &str| {
        let text = std::fs::read_to_string(roots.proc.join("sys").join(name)).ok()?;
        Some((name.to_owned(), text.trim().parse().ok()?))
    };
    sysctl::NAMES.iter().filter_map(|name| value(name)).collect()
}

/// Looks at `AppArmor` (its files are described in apparmor.d(5) and `security/apparmor/apparmorfs.c`).
pub fn apparmor(roots: &Roots, path: &OsStr) -> Apparmor {
    let (loadable, parser) = apparmor::seen(roots, path);
    Apparmor { enabled: apparmor::enabled(roots), loadable, parser }
}

/// Looks at the devices.
pub fn devices(roots: &Roots) -> Vec<Device> {
    let look = |(path, _): &(&str, &str)| {
        let real = roots.resolve(Path::new(path));
        let usable = real.exists().then(|| access(&real, AccessFlags::R_OK | AccessFlags::W_OK).is_ok());
        Device { path: (*path).to_owned(), usable }
    };
    DEVICES.iter().map(look).collect()
}

/// Asks the programs for their versions, all at once.
pub fn programs(path: &OsStr) -> Vec<Program> {
    std::thread::scope(|scope| {
        let asked = programs::NAMES.map(|name| (name, scope.spawn(move || version(name, path))));
        let silent = |_| Answer::Silent;
        asked.into_iter().map(|(name, answer)| Program { name, answer: answer.join().unwrap_or_else(silent) }).collect()
    })
}

fn version(name: &str, path: &OsStr) -> Answer {
    if find_program(OsStr::new(name), Some(path)).is_none() {
        return Answer::Missing;
    }
    engine::ask(name, "--version", path, LIMIT).map_or(Answer::Silent, Answer::Said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_configuration_is_read() {
        use std::io::Write;
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self/ns")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"CONFIG_VETH=m\n").unwrap();
        std::fs::write(root.path().join("proc/config.gz"), packed.finish().unwrap()).unwrap();
        let kernel = kernel(&Roots::below(root.path()), "6.1");
        assert_eq!(kernel.config.unwrap()["CONFIG_VETH"], "m");
        assert_eq!((kernel.source.as_str(), kernel.traces), ("/proc/config.gz", vec!["/proc/self/ns".to_owned()]));
    }

    #[test]
    fn a_plain_one_is_read_where_distributions_put_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("boot")).unwrap();
        std::fs::write(root.path().join("boot/config-6.1"), "CONFIG_MEMCG=y\n").unwrap();
        assert_eq!(kernel(&Roots::below(root.path()), "6.1").config.unwrap()["CONFIG_MEMCG"], "y");
        assert_eq!(kernel(&Roots::below(root.path()), "6.2").config, None);
    }

    #[test]
    fn a_program_is_missing_or_silent_or_talks() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(version("runc", folder.path().as_os_str()), Answer::Missing);
        for (script, expected) in
            [("echo runc 1.3.4", Answer::Said("runc 1.3.4\n".into())), ("exec sleep 60", Answer::Silent)]
        {
            let program = folder.path().join("runc");
            std::fs::write(folder.path().join("new"), format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(folder.path().join("new"), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(folder.path().join("new"), program).unwrap();
            let path = std::env::join_paths([folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
            assert_eq!(version("runc", &path), expected);
        }
    }

    #[test]
    fn settings_are_numbers() {
        let found = sysctls(&Roots::system());
        assert!(found.contains_key("kernel/keys/root_maxkeys"), "{found:?}");
    }
}
