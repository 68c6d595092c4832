/*!
The program's environment and where its executable is found.
*/
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::access::{EXECUTE, allows, is_writable_folder};
use super::accounts::Account;
use crate::sys::spawn::Identity;

/// What docker sets where the image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image's variables with the job's over them, and the few that a program may count on.
///
/// `HOME` as the job says; else the image's or the user's own if it can be written to; else `/tmp`. The runtime sets
/// `HOME=/root` for the agent, which is no use to any other user and sends caches and histories into errors.
pub(super) fn merge(
    image: impl Iterator<Item = (OsString, OsString)>,
    job: &BTreeMap<String, String>,
    account: &Account,
    has_terminal: bool,
) -> BTreeMap<OsString, OsString> {
    let mut merged: BTreeMap<OsString, OsString> = image.collect();
    let homes = [merged.remove(OsStr::new("HOME")), account.home.clone().map(OsString::from)];
    let writable = |home: &OsString| is_writable_folder(Path::new(home), &account.identity);
    let home = homes.into_iter().flatten().find(writable).unwrap_or_else(|| OsString::from("/tmp"));
    merged.insert("HOME".into(), home);
    merged.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    if has_terminal {
        merged.entry("TERM".into()).or_insert_with(|| "xterm".into());
    }
    merged.extend(job.iter().map(|(name, value)| (name.into(), value.into())));
    merged
}

/// The name of a variable that cannot be passed on: empty, or with a `=` or NUL byte where none may be.
pub(super) fn invalid(job: &BTreeMap<String, String>) -> Option<&str> {
    job.iter()
        .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        .map(|(name, _)| name.as_str())
}

/// Where a program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// This file; relative to the working directory where the name was.
    At(PathBuf),
    /// Nowhere.
    Nowhere,
    /// This file, but the user may not execute it.
    Forbidden(PathBuf),
}

/// Looks a program up as `execvp(3)` does: a name with a slash as it is, any other in the folders of `path`, where a
/// file that may not be executed is passed over. An empty folder name means the working directory.
pub(super) fn find_program(name: &str, path: Option<&OsStr>, workdir: &Path, identity: &Identity) -> Found {
    if name.contains('/') {
        return judge(Path::new(name), workdir, identity);
    }
    let mut result = Found::Nowhere;
    if name.is_empty() {
        return result;
    }
    for folder in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        match judge(&workdir.join(folder).join(name), workdir, identity) {
            Found::At(file) => return Found::At(file),
            Found::Forbidden(file) if result == Found::Nowhere => result = Found::Forbidden(file),
            Found::Forbidden(_) | Found::Nowhere => {}
        }
    }
    result
}

fn judge(file: &Path, workdir: &Path, identity: &Identity) -> Found {
    // A file behind a folder that only the job's user may enter cannot be seen from here; exec will tell.
    let found = match workdir.join(file).metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Found::Forbidden(file.into()),
        Err(_) => return Found::Nowhere,
    };
    if found.is_file() && allows(found.mode(), found.uid(), found.gid(), identity, EXECUTE) {
        Found::At(file.into())
    } else {
        Found::Forbidden(file.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn account(home: Option<&Path>) -> Account {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let home = home.map(|home| home.to_str().unwrap().to_owned());
        Account { identity: Identity { uid, gid, groups: vec![] }, home }
    }

    fn merged(image: &[(&str, &str)], job: &[(&str, &str)], account: &Account, tty: bool) -> Vec<(String, String)> {
        let image = image.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let job = job.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let text = |word: OsString| word.into_string().unwrap();
        merge(image, &job, account, tty).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_job_wins_over_the_image_and_defaults_fill_the_gaps() {
        let image = [("LANG", "C"), ("PATH", "/opt/bin"), ("HOME", "/nonexistent")];
        let job = [("LANG", "C.UTF-8"), ("EMPTY", "")];
        let expected = [("EMPTY", ""), ("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("PATH", "/opt/bin"), ("TERM", "xterm")];
        assert_eq!(merged(&image, &job, &account(None), true), pairs(&expected));
        assert_eq!(merged(&[], &[], &account(None), false), pairs(&[("HOME", "/tmp"), ("PATH", DEFAULT_PATH)]));
    }

    #[test]
    fn home_is_the_jobs_word_else_a_writable_one() {
        let own = tempfile::tempdir().unwrap();
        let home = |image: &[(&str, &str)], job: &[(&str, &str)], account: &Account| {
            merged(image, job, account, false).into_iter().find(|(name, _)| name == "HOME").unwrap().1
        };
        let own_path = own.path().to_str().unwrap();
        assert_eq!(home(&[("HOME", "/proc")], &[], &account(Some(own.path()))), own_path);
        assert_eq!(home(&[("HOME", own_path)], &[], &account(Some(Path::new("/tmp")))), own_path);
        assert_eq!(home(&[], &[("HOME", "/as/told")], &account(Some(own.path()))), "/as/told");
    }

    #[test]
    fn names_that_the_kernel_would_misread_are_found() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(invalid(&one("A", "b=c")), None);
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            assert_eq!(invalid(&one(name, value)), Some(name));
        }
    }

    #[test]
    fn programs_are_found_as_execvp_finds_them() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        let (plain, good, here) = (put("a/tool", 0o644), put("b/tool", 0o755), put("here", 0o755));
        std::fs::create_dir(root.path().join("a/folder")).unwrap();
        let identity = account(None).identity;
        let path = OsString::from(format!("{0}/none:{0}/a:{0}/b:", root.path().display()));
        let find = |name: &str| find_program(name, Some(&path), root.path(), &identity);
        assert_eq!(find("tool"), Found::At(good));
        assert_eq!(find("here"), Found::At(here));
        assert_eq!(find("./here"), Found::At("./here".into()));
        assert_eq!(find("absent"), Found::Nowhere);
        assert_eq!(find("a/absent"), Found::Nowhere);
        assert_eq!(find(""), Found::Nowhere);
        assert_eq!(find("a/tool"), Found::Forbidden("a/tool".into()));
        assert_eq!(find("folder"), Found::Forbidden(root.path().join("a/folder")));
        assert_eq!(find_program("tool", Some(plain.parent().unwrap().as_os_str()), root.path(), &identity), {
            Found::Forbidden(plain.clone())
        });
    }
}
