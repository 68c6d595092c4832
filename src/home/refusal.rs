/*!
What could not be written in a home, as lines for people: what a whole volume refuses is one line, however many folders lie on it.
*/
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::probe::mountinfo::{Mount, holding};

/// A file or folder that could not be made or given to its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
}

/// One line for each refusal, but one for all of those that are the same answer of the same volume.
pub fn lines(refusals: &[Refusal], mounts: &[Mount], user: &str) -> Vec<String> {
    let mut groups: Vec<(Option<&Path>, Vec<&Refusal>)> = Vec::new();
    for refusal in refusals {
        let volume = is_the_volumes(refusal.errno).then(|| holding(mounts, &refusal.path)).flatten();
        let volume = volume.map(|mount| mount.point.as_path());
        let same = |(of, members): &&mut (Option<&Path>, Vec<&Refusal>)| {
            volume.is_some() && *of == volume && members.iter().all(|member| member.errno == refusal.errno)
        };
        match groups.iter_mut().find(same) {
            Some((_, members)) => members.push(refusal),
            None => groups.push((volume, vec![refusal])),
        }
    }
    groups.into_iter().filter_map(|(volume, members)| line(volume, &members, user)).collect()
}

fn line(volume: Option<&Path>, members: &[&Refusal], user: &str) -> Option<String> {
    let errno = members.first()?.errno;
    let (Some(volume), [_, _, ..]) = (volume, members) else {
        return members.first().map(|one| format!("{} is not writable for {user}: {errno}", one.path.display()));
    };
    let name = |refusal: &&Refusal| match refusal.path.strip_prefix(volume) {
        Ok(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
        Ok(rest) if volume != Path::new("/") => rest.display().to_string(),
        _ => refusal.path.display().to_string(),
    };
    let names: Vec<String> = members.iter().map(name).collect();
    Some(format!("the volume at {} is not writable for {user}: {errno}: {}", volume.display(), names.join(", ")))
}

/// Whether an answer says something of the file system, not of the one file.
fn is_the_volumes(errno: Errno) -> bool {
    matches!(errno, Errno::EROFS | Errno::ENOSPC | Errno::EDQUOT | Errno::EIO | Errno::ESTALE)
}

#[cfg(test)]
mod tests {
    use super::super::setup::FOLDERS;
    use super::*;
    use crate::probe::mountinfo::parse;

    const MOUNTS: &[u8] = b"1 0 0:1 / / rw - overlay overlay rw
2 1 8:1 /v /home/coder/.local ro - ext4 /dev/vda rw
3 1 8:1 /w /home/coder/.config/gh rw - ext4 /dev/vda rw
";

    fn told(refusals: &[(&str, Errno)]) -> Vec<String> {
        let mounts = parse(MOUNTS, Path::new("mountinfo")).unwrap();
        let refusals: Vec<_> =
            refusals.iter().map(|(path, errno)| Refusal { path: path.into(), errno: *errno }).collect();
        lines(&refusals, &mounts, "coder")
    }

    #[test]
    fn a_read_only_volume_is_one_line() {
        let on_volume: Vec<_> = FOLDERS.iter().filter(|name| name.starts_with(".local")).collect();
        let paths: Vec<_> = on_volume.iter().map(|name| format!("/home/coder/{name}")).collect();
        let refusals: Vec<_> = paths.iter().map(|path| (path.as_str(), Errno::EROFS)).collect();
        assert_eq!(
            told(&refusals),
            ["the volume at /home/coder/.local is not writable for coder: EROFS: Read-only file system: \
                bin, share, state, state/bash, state/zsh"]
        );
    }

    #[test]
    fn what_is_one_is_told_by_its_path() {
        assert_eq!(
            told(&[("/home/coder/.local/bin", Errno::EROFS)]),
            ["/home/coder/.local/bin is not writable for coder: EROFS: Read-only file system"]
        );
        assert_eq!(told(&[]), [""; 0]);
    }

    #[test]
    fn volumes_and_answers_are_told_apart() {
        let refusals = [
            ("/home/coder/.local/bin", Errno::ENOSPC),
            ("/home/coder/.config/gh", Errno::ENOSPC),
            ("/home/coder", Errno::EROFS),
            ("/home/coder/.local", Errno::ENOSPC),
            ("/home/coder/.cache", Errno::EROFS),
            ("/home/coder/.bashrc", Errno::ENOTDIR),
            ("/home/coder/.profile", Errno::ENOTDIR),
        ];
        assert_eq!(
            told(&refusals),
            [
                "the volume at /home/coder/.local is not writable for coder: ENOSPC: No space left on device: bin, .",
                "/home/coder/.config/gh is not writable for coder: ENOSPC: No space left on device",
                "the volume at / is not writable for coder: EROFS: Read-only file system: /home/coder, /home/coder/.cache",
                "/home/coder/.bashrc is not writable for coder: ENOTDIR: Not a directory",
                "/home/coder/.profile is not writable for coder: ENOTDIR: Not a directory",
            ]
        );
    }

    #[test]
    fn without_a_list_of_mounts_each_is_told() {
        let refusals = ["/a", "/b"].map(|path| Refusal { path: path.into(), errno: Errno::EROFS });
        assert_eq!(lines(&refusals, &[], "coder").len(), 2);
    }
}
