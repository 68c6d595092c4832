//! Whether there is room, before anything is written.

use std::os::fd::AsFd;

use nix::sys::statvfs::fstatvfs;

use super::error::ArchiveError;
use super::read::Need;

/// What a file system has free for us; `None` where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: Option<u64>,
    /// Inodes; file systems that make them as needed say 0 of 0.
    pub inodes: Option<u64>,
}

/// Asks the file system that holds the folder.
pub fn free(folder: impl AsFd, name: &str) -> Result<Room, ArchiveError> {
    let stat = fstatvfs(folder).map_err(ArchiveError::call("ask for the free space of", name))?;
    let root = nix::unistd::geteuid().is_root();
    let blocks = if root { stat.blocks_free() } else { stat.blocks_available() };
    let inodes = if root { stat.files_free() } else { stat.files_available() };
    Ok(Room {
        bytes: (stat.blocks() > 0).then(|| blocks.saturating_mul(stat.fragment_size())),
        inodes: (stat.files() > 0).then_some(inodes),
    })
}

/// Refuses what does not fit.
pub fn check(need: Need, room: Room, folder: &str) -> Result<(), ArchiveError> {
    let folder = folder.to_owned();
    match (room.bytes, room.inodes) {
        (Some(free), _) if free < need.bytes => Err(ArchiveError::NoSpace { folder, free, needed: need.bytes }),
        (_, Some(free)) if free < need.inodes => Err(ArchiveError::NoInodes { folder, free, needed: need.inodes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_not_known_is_not() {
        let need = Need { bytes: 10, inodes: 3 };
        let room = |bytes, inodes| Room { bytes, inodes };
        assert!(check(need, room(Some(10), Some(3)), "/x").is_ok());
        assert!(check(need, room(None, None), "/x").is_ok());
        assert!(matches!(
            check(need, room(Some(9), None), "/x"),
            Err(ArchiveError::NoSpace { free: 9, needed: 10, .. })
        ));
        assert!(matches!(
            check(need, room(None, Some(2)), "/x"),
            Err(ArchiveError::NoInodes { free: 2, needed: 3, .. })
        ));
    }
}
