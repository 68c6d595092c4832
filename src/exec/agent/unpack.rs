/*!
The workspace that travels: a tar archive in `Archive` frames becomes files of the job's user.

The archive may come from anywhere, so the `tar` crate only reads it; what is created, and how, is decided here:
regular files, directories, links. Anything else, and any name that leads out, ends the job.
*/
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use tar::EntryType;

use super::refusal::Refusal;
use super::tree::{Tree, TreeError, write_all};

/// Unpacks `archive` below `place`. The caller has taken on the job's user (see [`crate::sys::fsuser`]).
pub(super) fn unpack(archive: impl Read, place: &str) -> Result<(), Refusal> {
    let tree =
        Tree::open(Path::new(place)).map_err(|errno| Refusal::file("workspace_unusable", "open", place, errno))?;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let name = entry.path_bytes().into_owned();
        let name = Path::new(std::ffi::OsStr::from_bytes(&name)).to_owned();
        add(&tree, &name, &mut entry)?;
    }
    Ok(())
}

fn add(tree: &Tree, name: &Path, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), Refusal> {
    let kind = entry.header().entry_type();
    // `tar -c .` names the directory itself.
    if kind == EntryType::Directory && name.components().all(|part| part == std::path::Component::CurDir) {
        return Ok(());
    }
    let refuse = |error: TreeError| refuse(name, error);
    match kind {
        EntryType::Directory => tree.create_folder(name).map_err(refuse),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            // A later entry of the same name replaces the earlier one, as tar does it.
            let file = match tree.create_file(name) {
                Err(TreeError::Call(Errno::EEXIST)) => {
                    tree.remove(name).and_then(|()| tree.create_file(name)).map_err(refuse)?
                }
                other => other.map_err(refuse)?,
            };
            copy(entry, &file, name)?;
            let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
            fchmod(&file, Mode::from_bits_truncate(mode)).map_err(|errno| refuse(errno.into()))?;
            keep_time(&file, entry.header().mtime().unwrap_or(0)).map_err(|errno| refuse(errno.into()))
        }
        EntryType::Symlink | EntryType::Link => {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            let target = std::ffi::OsStr::from_bytes(&target);
            tree.remove(name).map_err(refuse)?;
            let linked = if kind == EntryType::Symlink {
                tree.create_symlink(name, target)
            } else {
                tree.create_hard_link(name, Path::new(target))
            };
            linked.map_err(refuse)
        }
        // A header about the archive as a whole.
        EntryType::XGlobalHeader => Ok(()),
        _ => Err(Refusal::rejected(
            "archive_unsupported",
            format!("the workspace holds {}, which is neither file, directory nor link", name.display()),
            Some("leave devices, sockets and pipes out of the workspace"),
        )),
    }
}

fn copy(entry: &mut impl Read, file: &OwnedFd, name: &Path) -> Result<(), Refusal> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = match entry.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(&error)),
        };
        write_all(file, buffer.get(..count).unwrap_or_default()).map_err(|errno| refuse(name, errno.into()))?;
    }
}

/// Build tools decide by modification times, so they survive the journey.
fn keep_time(file: &OwnedFd, seconds: u64) -> Result<(), Errno> {
    let time = TimeSpec::new(i64::try_from(seconds).unwrap_or(0), 0);
    futimens(file, &time, &time)
}

fn refuse(name: &Path, error: TreeError) -> Refusal {
    match error {
        TreeError::Unsafe | TreeError::Call(Errno::ELOOP | Errno::ENOTDIR) => Refusal::rejected(
            "archive_unsafe",
            format!("the workspace archive names {:?}, which leads out of it", name.display().to_string()),
            None,
        ),
        TreeError::Call(errno) => Refusal::file("workspace_unusable", "unpack", &name.display().to_string(), errno),
    }
}

fn broken(error: &io::Error) -> Refusal {
    Refusal::rejected("archive_broken", format!("the workspace archive cannot be read: {error}"), None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use rstest::rstest;

    use super::*;

    /// One entry with a name that no well-meaning writer would produce.
    fn append(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_mtime(1_000_000_000);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }

    fn archive(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, link, data) in entries {
            append(&mut builder, *kind, name, link, data);
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_folders_and_links_arrive_without_set_user_bits() {
        let root = tempfile::tempdir().unwrap();
        let bytes = archive(&[
            (EntryType::Directory, "./", "", b""),
            (EntryType::Directory, "src/", "", b""),
            (EntryType::Regular, "src/main.c", "", b"old"),
            (EntryType::Regular, "src/main.c", "", b"int main;"),
            (EntryType::Symlink, "link", "/etc/passwd", b""),
            (EntryType::Link, "hard", "src/main.c", b""),
            (EntryType::Regular, "deep/er/file", "", b""),
        ]);
        unpack(bytes.as_slice(), root.path().to_str().unwrap()).unwrap();
        let found = root.path().join("src/main.c").metadata().unwrap();
        assert_eq!((found.permissions().mode() & 0o7777, found.mtime(), found.nlink()), (0o755, 1_000_000_000, 2));
        assert_eq!(fs::read(root.path().join("hard")).unwrap(), b"int main;");
        assert_eq!(fs::read_link(root.path().join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(root.path().join("deep/er/file").is_file());
    }

    #[rstest]
    #[case::absolute(&[(EntryType::Regular, "/escaped", "", b"x".as_slice())], "archive_unsafe")]
    #[case::climbing(&[(EntryType::Regular, "../escaped", "", b"x".as_slice())], "archive_unsafe")]
    #[case::climbing_folder(&[(EntryType::Directory, "a/../../escaped/", "", b"".as_slice())], "archive_unsafe")]
    #[case::through_a_link(
        &[(EntryType::Symlink, "out", "..", b"".as_slice()), (EntryType::Regular, "out/escaped", "", b"x")],
        "archive_unsafe"
    )]
    #[case::hard_link_out(&[(EntryType::Link, "in", "../canary", b"".as_slice())], "archive_unsafe")]
    #[case::link_link(&[(EntryType::Symlink, "../escaped", "x", b"".as_slice())], "archive_unsafe")]
    #[case::fifo(&[(EntryType::Fifo, "fifo", "", b"".as_slice())], "archive_unsupported")]
    #[case::device(&[(EntryType::Char, "null", "", b"".as_slice())], "archive_unsupported")]
    fn what_leads_out_is_refused_and_leaves_no_trace(
        #[case] entries: &[(EntryType, &str, &str, &[u8])],
        #[case] code: &str,
    ) {
        let around = tempfile::tempdir().unwrap();
        fs::write(around.path().join("canary"), "alive").unwrap();
        let place = around.path().join("work");
        fs::create_dir(&place).unwrap();
        let refusal = unpack(archive(entries).as_slice(), place.to_str().unwrap()).unwrap_err();
        assert_eq!(refusal.problem.code, code, "{refusal}");
        let mut names: Vec<_> = fs::read_dir(around.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["canary", "work"]);
        assert_eq!(fs::metadata(around.path().join("canary")).unwrap().nlink(), 1);
    }

    #[test]
    fn a_file_replaces_a_link_instead_of_writing_through_it() {
        let around = tempfile::tempdir().unwrap();
        fs::write(around.path().join("canary"), "alive").unwrap();
        let place = around.path().join("work");
        fs::create_dir(&place).unwrap();
        let bytes = archive(&[(EntryType::Symlink, "x", "../canary", b""), (EntryType::Regular, "x", "", b"dead")]);
        unpack(bytes.as_slice(), place.to_str().unwrap()).unwrap();
        assert_eq!(fs::read(around.path().join("canary")).unwrap(), b"alive");
        assert_eq!(fs::read(place.join("x")).unwrap(), b"dead");
    }

    #[test]
    fn half_an_archive_and_no_archive_are_told_apart_from_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().to_str().unwrap();
        let whole = archive(&[(EntryType::Regular, "f", "", &[7; 2000])]);
        assert_eq!(unpack(&whole[..1500], place).unwrap_err().problem.code, "archive_broken");
        assert_eq!(unpack([0x55; 1024].as_slice(), place).unwrap_err().problem.code, "archive_broken");
        unpack(archive(&[]).as_slice(), place).unwrap();
        unpack(io::empty(), place).unwrap();
    }
}
