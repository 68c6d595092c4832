/*!
What runs under the name `modprobe` in the image, for dockerd, which asks for modules by that program. A container seldom has the
machine's module files, so the kernel is asked first; the official image has a script that does the same by `ip link`.
*/
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::failure::Failure;
use super::say::Voice;
use super::{Environment, FAILED};
use crate::sys::module;
use crate::sys::spawn::{Spawn, exec, find_program};

/// Where the real one is looked for: not where this one was found.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Asks the kernel for every module, and becomes the real `modprobe` for what does not show then.
pub fn run(arguments: Vec<OsString>, environment: &Environment, voice: Voice) -> u8 {
    let names: Vec<&str> =
        arguments.iter().filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-')).collect();
    for name in names.iter().filter(|name| !shows(Path::new("/sys/module"), name)) {
        // Whether it helped shows below.
        let _ = module::request(name);
    }
    if !names.is_empty() && names.iter().all(|name| shows(Path::new("/sys/module"), name)) {
        return 0;
    }
    let Some(program) = find_program(OsStr::new("modprobe"), Some(OsStr::new(PATH))).filter(|path| !is_ours(path))
    else {
        voice.fail_with(&format!("the kernel loads none of {}, and there is no modprobe", names.join(", ")), None);
        return 1;
    };
    let argv = std::iter::once("modprobe".into()).chain(arguments).collect();
    let spawn = Spawn { program, argv, env: environment.pairs().to_vec(), ..Spawn::default() };
    let code = Failure::from(exec(&spawn)).report(voice);
    if code == 0 { FAILED } else { code }
}

/// Modules have underscores where their names may have hyphens.
fn shows(folder: &Path, name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && folder.join(name.replace('-', "_")).exists()
}

/// A link back here would go round for ever.
fn is_ours(path: &Path) -> bool {
    let real = std::fs::canonicalize(path).ok();
    real.is_some() && real == std::env::current_exe().and_then(std::fs::canonicalize).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_shows_under_its_name_with_underscores() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("br_netfilter")).unwrap();
        assert!(shows(folder.path(), "br-netfilter") && shows(folder.path(), "br_netfilter"));
        assert!(!shows(folder.path(), "ip_vs") && !shows(folder.path(), "") && !shows(folder.path(), "../x"));
    }
}
