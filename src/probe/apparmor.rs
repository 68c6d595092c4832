/*!
Whether `AppArmor` profiles can be loaded from here, found out by loading a small one and removing it again.

containerd's own test (`hostSupports` in its `pkg/apparmor`) is that the kernel has it on, that its files and its parser are
there, and that `container` is not set; whether a load succeeds it learns with the first container, which then does not start.
*/
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use super::{Roots, engine, read};
use crate::sys::mount;

/// Where containerd looks for the parser.
pub const PARSER: &str = "/sbin/apparmor_parser";
const FOLDER: &str = "/sys/kernel/security/apparmor";
/// Limit on one run of the parser, which takes some ten milliseconds.
const LIMIT: Duration = Duration::from_secs(2);

/// What keeps profiles from being loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The kernel has none, or it is off.
    Off,
    /// Its files are not there, or cannot be written.
    Files(String),
    /// There is no parser.
    Parser,
    /// It was tried, and refused.
    Refused(String),
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("the kernel has no AppArmor, or it is off"),
            Self::Files(why) => write!(f, "profiles cannot be handed to the kernel: {why}"),
            Self::Parser => write!(f, "{PARSER} is not installed"),
            Self::Refused(why) => write!(f, "a profile for trial was not taken: {why}"),
        }
    }
}

/// How a profile is loaded and removed: the argument for the parser and the profile's text.
pub type Run<'a> = &'a (dyn Fn(&str, &str) -> Result<(), String> + Sync);

/// Looks and tries, in a mount namespace of its own where securityfs is mounted, as it may not be here yet.
pub fn look(roots: &Roots) -> Result<(), Obstacle> {
    if !enabled(roots) {
        return Err(Obstacle::Off);
    }
    if !roots.resolve(Path::new(PARSER)).exists() {
        return Err(Obstacle::Parser);
    }
    let run = |argument: &str, text: &str| engine::feed(Path::new(PARSER), &[argument, "--quiet"], text, LIMIT);
    mount::privately(|| {
        if !roots.resolve(Path::new(FOLDER)).exists() {
            let options = ["nosuid", "nodev", "noexec"].map(String::from);
            mount::mount("securityfs", Path::new("/sys/kernel/security"), "securityfs", &options, "")
                .map_err(|errno| Obstacle::Files(format!("securityfs cannot be mounted: {errno}")))?;
        }
        trial(roots, &run)
    })
    .unwrap_or_else(|errno| Err(Obstacle::Files(format!("no mount namespace for a trial: {errno}"))))
}

/// The part that needs its files.
pub fn trial(roots: &Roots, run: Run<'_>) -> Result<(), Obstacle> {
    let folder = roots.resolve(Path::new(FOLDER));
    for name in [".replace", ".load"] {
        access(&folder.join(name), AccessFlags::W_OK)
            .map_err(|errno| Obstacle::Files(format!("{FOLDER}/{name}: {errno}")))?;
    }
    let name = format!("dindctl-trial-{}", std::process::id());
    let text = format!("profile {name} {{\n}}\n");
    run("--add", &text).map_err(Obstacle::Refused)?;
    // A parser that does nothing says that all went well, too.
    let there = || read(&folder.join("profiles")).is_ok_and(|list| list.lines().any(|line| line.starts_with(&name)));
    let loaded = there();
    let removed = run("--remove", &text);
    if !loaded {
        return Err(Obstacle::Refused("the kernel does not list it".into()));
    }
    removed.map_err(|why| Obstacle::Refused(format!("it cannot be removed: {why}")))?;
    if there() { Err(Obstacle::Refused("it stays when it is removed".into())) } else { Ok(()) }
}

/// Whether the kernel enforces it.
pub fn enabled(roots: &Roots) -> bool {
    let text = read(&roots.resolve(Path::new("/sys/module/apparmor/parameters/enabled")));
    text.is_ok_and(|text| text.trim() == "Y")
}

/// Whether profiles could be handed to the kernel as things are mounted now, and the parser is there: what can be seen
/// without a trial.
pub fn seen(roots: &Roots, path: &OsStr) -> (bool, bool) {
    let loadable = access(&roots.resolve(Path::new(FOLDER)).join(".replace"), AccessFlags::W_OK).is_ok();
    (loadable, crate::sys::spawn::find_program(OsStr::new("apparmor_parser"), Some(path)).is_some())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A kernel that takes profiles, or does not.
    struct Kernel {
        folder: tempfile::TempDir,
        calls: Mutex<Vec<String>>,
    }

    impl Kernel {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let files = folder.path().join("sys/kernel/security/apparmor");
            std::fs::create_dir_all(&files).unwrap();
            for name in [".replace", ".load", "profiles"] {
                std::fs::write(files.join(name), "").unwrap();
            }
            Self { folder, calls: Mutex::new(Vec::new()) }
        }

        fn profiles(&self, text: &str) {
            std::fs::write(self.folder.path().join("sys/kernel/security/apparmor/profiles"), text).unwrap();
        }

        fn trial(&self, answer: impl Fn(&str) -> Result<(), String> + Sync) -> Result<(), Obstacle> {
            trial(&Roots::below(self.folder.path()), &|argument: &str, text: &str| {
                self.calls.lock().unwrap().push(format!("{argument} {}", text.lines().next().unwrap_or_default()));
                let name = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
                answer(argument)?;
                self.profiles(&if argument == "--add" {
                    format!("x (enforce)\n{name} (enforce)\n")
                } else {
                    "x (enforce)\n".into()
                });
                Ok(())
            })
        }
    }

    #[test]
    fn a_profile_is_loaded_and_removed() {
        let kernel = Kernel::new();
        assert_eq!(kernel.trial(|_| Ok(())), Ok(()));
        let name = format!("profile dindctl-trial-{} {{", std::process::id());
        assert_eq!(*kernel.calls.lock().unwrap(), [format!("--add {name}"), format!("--remove {name}")]);
    }

    #[test]
    fn what_is_refused_is_told() {
        let kernel = Kernel::new();
        let refused = kernel.trial(|_| Err("Permission denied".into())).unwrap_err();
        assert_eq!(refused.to_string(), "a profile for trial was not taken: Permission denied");
        assert_eq!(kernel.calls.lock().unwrap().len(), 1, "nothing to be removed");
        let stays = kernel.trial(|argument| if argument == "--remove" { Err("no".into()) } else { Ok(()) });
        assert_eq!(stays, Err(Obstacle::Refused("it cannot be removed: no".into())));
        let idle = trial(&Roots::below(kernel.folder.path()), &|_, _| Ok(()));
        kernel.profiles("");
        assert!(matches!(idle, Err(Obstacle::Refused(_)) | Ok(())));
        let idle = trial(&Roots::below(kernel.folder.path()), &|_, _| Ok(()));
        assert_eq!(idle, Err(Obstacle::Refused("the kernel does not list it".into())));
        std::fs::remove_file(kernel.folder.path().join("sys/kernel/security/apparmor/.load")).unwrap();
        assert!(matches!(kernel.trial(|_| Ok(())), Err(Obstacle::Files(why)) if why.contains(".load: ENOENT")));
    }

    #[test]
    fn without_the_module_or_the_parser_nothing_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::below(folder.path());
        assert_eq!(look(&roots), Err(Obstacle::Off));
        let parameters = folder.path().join("sys/module/apparmor/parameters");
        std::fs::create_dir_all(&parameters).unwrap();
        std::fs::write(parameters.join("enabled"), "Y\n").unwrap();
        assert_eq!(look(&roots), Err(Obstacle::Parser));
        std::fs::write(parameters.join("enabled"), "N\n").unwrap();
        assert_eq!(look(&roots), Err(Obstacle::Off));
    }
}
