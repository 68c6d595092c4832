/*!
Empty control groups of containers that the daemon no longer knows: what killed daemons leave behind.

Only a group goes that the daemon of this very container has made and nobody can want: it lies where the daemon puts those of its
containers, directly below the own group of this container; it is named like a container of Docker that the daemon, asked after the
group was seen, does not have; and no process is in it or below, nor after [`PAUSE`], which is far longer than the moment in which a
container that starts has an empty one. The kernel refuses to remove a group that a process has got into meanwhile. Nothing is looked
for where the own group is the machine's root, and never inside of a group of a container that exists: what is there belongs to a
daemon of its own.
*/
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::prepare::tidy;
use crate::probe::cgroup::{self, is_machines};
use crate::probe::mountinfo;
use crate::probe::{ProbeError, Roots};
use crate::sys::file::errno;

/// A start puts a process into its group within milliseconds, whichever daemon it is of. The kernel keeps no date of a group that would tell
/// when it was made, so it is looked at twice.
pub const PAUSE: Duration = Duration::from_secs(5);

/// The groups of all containers by default; the daemon's `cgroup-parent` may be the own group itself.
const PARENT: &str = "docker";

/// Where systemd has those of its containers.
const SLICE: &str = "system.slice";

/// A group that has the name of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Identifier of the container.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// The kernel's number of it, which no later group of that name has.
    pub number: u64,
}

/// Empty groups with the names of containers, below the own group in each hierarchy. Which of the containers are there is to be asked
/// afterwards: the daemon knows a container before it makes its group.
pub fn empty(roots: &Roots) -> Result<Vec<Group>, ProbeError> {
    let setup = cgroup::look(roots, &mountinfo::own(roots)?)?;
    let own = tidy::own_groups(&setup);
    let own = own.iter().map(|group| roots.resolve(group)).filter(|group| !is_machines(group));
    Ok(own.flat_map(|group| below(&group)).collect())
}

fn below(own: &Path) -> Vec<Group> {
    let places = [own.to_path_buf(), own.join(PARENT), own.join(SLICE)];
    let groups = places.iter().flat_map(|place| folders(place)).filter_map(|path| {
        let id = container_id(path.file_name()?.to_str()?)?.to_owned();
        let number = fs::metadata(&path).ok()?.ino();
        Some(Group { id, path, number })
    });
    groups.filter(|group| is_empty(&group.path)).collect()
}

/// Those of containers that do not exist.
pub fn nobodys(groups: Vec<Group>, known: &BTreeSet<String>) -> Vec<Group> {
    groups.into_iter().filter(|group| !known.contains(&group.id)).collect()
}

/// The container that a group is named for: 64 hexadecimal digits, or `docker-….scope` around them.
pub(super) fn container_id(name: &str) -> Option<&str> {
    let id = name.strip_prefix("docker-").and_then(|rest| rest.strip_suffix(".scope")).unwrap_or(name);
    let digits = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (id.len() == 64 && digits).then_some(id)
}

fn folders(path: &Path) -> Vec<PathBuf> {
    // One that has gone, or was never there, holds nothing.
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(folder).map(|entry| entry.path()).collect()
}

/// What cannot be read (a threaded group) is not empty.
fn is_empty(group: &Path) -> bool {
    let processes = fs::read(group.join("cgroup.procs"));
    processes.is_ok_and(|list| list.iter().all(u8::is_ascii_whitespace))
        && folders(group).iter().all(|below| is_empty(below))
}

/// Removes a group and those below it. Whether it went; `false` where somebody has come to life in it, or took it away already.
pub fn remove(group: &Path) -> std::io::Result<bool> {
    for below in folders(group) {
        remove(&below)?;
    }
    match fs::remove_dir(group) {
        Ok(()) => Ok(true),
        Err(error) if matches!(errno(&error), Errno::EBUSY | Errno::ENOENT | Errno::ENOTEMPTY) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn group(own: &Path, name: &str, processes: &str) {
        fs::create_dir_all(own.join(name)).unwrap();
        fs::write(own.join(name).join("cgroup.procs"), processes).unwrap();
    }

    fn found(own: &Path) -> Vec<String> {
        let mut found: Vec<String> =
            below(own).iter().map(|group| group.path.strip_prefix(own).unwrap().display().to_string()).collect();
        found.sort();
        found
    }

    #[test]
    fn only_empty_groups_with_a_containers_name_are_found() {
        let own = tempfile::tempdir().unwrap();
        let other = |digit: &str| ID.replace("0123", &digit.repeat(4));
        group(own.path(), &format!("docker/{ID}"), "");
        group(own.path(), &format!("docker/{ID}/init"), "");
        group(own.path(), &format!("docker/{}", other("a")), "17\n");
        group(own.path(), &format!("docker/{}", other("b")), "");
        group(own.path(), &format!("docker/{}/below", other("b")), "0\n");
        group(own.path(), &format!("docker/{}", ID.to_uppercase()), "");
        group(own.path(), &format!("docker/{}", &ID[1..]), "");
        group(own.path(), &format!("docker/buildkit/{}", other("c")), "");
        group(own.path(), &format!("libpod-{ID}.scope"), "");
        group(own.path(), &format!("docker-{}.scope", other("d")), "");
        group(own.path(), &format!("system.slice/docker-{}.scope", other("e")), "");
        // Of a daemon of its own in a container that may well be there.
        group(own.path(), &format!("docker/{}/docker/{}", other("f"), other("9")), "");
        let unreadable = format!("docker/{}", other("8"));
        fs::create_dir_all(own.path().join(&unreadable)).unwrap();
        let want = [
            format!("docker-{}.scope", other("d")),
            format!("docker/{ID}"),
            format!("system.slice/docker-{}.scope", other("e")),
        ];
        assert_eq!(found(own.path()), want);
        assert!(below(own.path()).iter().all(|group| group.id.len() == 64));
    }

    #[test]
    fn a_container_that_exists_keeps_its_group() {
        let groups = vec![Group { id: ID.into(), path: "/x".into(), number: 1 }];
        assert!(nobodys(groups.clone(), &[ID.to_owned()].into()).is_empty());
        assert_eq!(nobodys(groups.clone(), &BTreeSet::new()), groups);
    }

    #[test]
    fn a_group_goes_with_those_below_and_one_in_use_stays() {
        let own = tempfile::tempdir().unwrap();
        let path = own.path().join(ID);
        fs::create_dir_all(path.join("init/deeper")).unwrap();
        assert!(remove(&path).unwrap());
        assert!(!path.exists());
        assert!(!remove(&path).unwrap(), "it went already");
        fs::create_dir_all(path.join("busy")).unwrap();
        // A folder with a file stands for a group with a process.
        fs::write(path.join("busy/cgroup.procs"), "1").unwrap();
        assert!(!remove(&path).unwrap());
        assert!(path.exists());
    }
}
