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

/// Asks the kernel for every module, and becomes the real `modprobe` for what does not show then, and for all but loading.
pub fn run(arguments: Vec<OsString>, environment: &Environment, voice: Voice) -> u8 {
    let wanted = to_load(&arguments);
    let missing = || wanted.iter().flatten().copied().filter(|name| !shows(Path::new("/sys/module"), name));
    for name in missing() {
        // Whether it helped shows below.
        let _ = module::request(name);
    }
    let missing: Vec<&str> = missing().collect();
    if wanted.is_some() && missing.is_empty() {
        return 0;
    }
    let Some(program) = find_program(OsStr::new("modprobe"), Some(OsStr::new(PATH))).filter(|path| !is_ours(path))
    else {
        let (message, hint) = without_modprobe(&missing);
        voice.fail_with(&message, Some(&hint));
        return 1;
    };
    let argv = std::iter::once("modprobe".into()).chain(arguments).collect();
    let spawn = Spawn { program, argv, env: environment.pairs().to_vec(), ..Spawn::default() };
    let code = Failure::from(exec(&spawn)).report(voice);
    if code == 0 { FAILED } else { code }
}

/// The modules to load, where nothing else is asked for: removing one is not, nor is loading one with parameters, as the words behind the
/// first are unless there is `--all` (modprobe(8)).
fn to_load(arguments: &[OsString]) -> Option<Vec<&str>> {
    let (mut names, mut all, mut options) = (Vec::new(), false, true);
    for word in arguments {
        let word = word.to_str()?;
        match word.strip_prefix('-').filter(|_| options) {
            None => names.push(word),
            Some("-") => options = false,
            Some("-all") => all = true,
            Some("-verbose" | "-quiet" | "-syslog" | "-use-blacklist") => {}
            Some(letters) if !letters.is_empty() && letters.chars().all(|letter| "avqsb".contains(letter)) => {
                all |= letters.contains('a');
            }
            Some(_) => return None,
        }
    }
    (names.len() == 1 || all && !names.is_empty()).then_some(names)
}

/// Message and hint for what only the real one can do, or for modules that the kernel does not load.
fn without_modprobe(missing: &[&str]) -> (String, String) {
    if missing.is_empty() {
        return (
            "there is no modprobe here; without it modules are loaded, by name and with no parameters, and that is all"
                .into(),
            "modprobe NAME, modprobe --all NAME…, or the same command on the machine itself".into(),
        );
    }
    (
        format!("the kernel does not load {}, and there is no modprobe", missing.join(", ")),
        format!("load on the machine what its kernel does not have built in: modprobe --all {}", missing.join(" ")),
    )
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

    fn loaded(words: &str) -> Option<Vec<String>> {
        let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        to_load(&words).map(|names| names.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn what_dockerd_asks_for_is_loading() {
        for (words, names) in [
            ("-va bridge br_netfilter", &["bridge", "br_netfilter"][..]),
            ("--all --quiet ip_vs", &["ip_vs"]),
            ("ip_vs -q", &["ip_vs"]),
            ("-a -- -odd", &["-odd"]),
        ] {
            assert_eq!(loaded(words).unwrap(), names, "{words}");
        }
    }

    /// A module to be removed was loaded, and that called success.
    #[test]
    fn removing_a_module_is_not_loading_it() {
        for words in
            ["-r overlay", "-va -r overlay", "--remove overlay", "-n overlay", "overlay redirect_dir=on", "", "-a", "-"]
        {
            assert_eq!(loaded(words), None, "{words}");
        }
    }

    #[test]
    fn a_module_shows_under_its_name_with_underscores() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("br_netfilter")).unwrap();
        assert!(shows(folder.path(), "br-netfilter") && shows(folder.path(), "br_netfilter"));
        assert!(!shows(folder.path(), "ip_vs") && !shows(folder.path(), "") && !shows(folder.path(), "../x"));
    }
}
